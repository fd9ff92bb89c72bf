/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/fd.h"
#include "sys/file.h"
#include "sys/proc.h"
#include "sys/userns.h"

static void clone_wait(void **state)
{
	(void)state;
	auto_close int pidfd = -1;
	siginfo_t si;
	pid_t pid = sys_clone3(0, -1, &pidfd);

	if (pid == 0) {
		_exit(7);
	}
	assert_true(pid > 0 && pidfd >= 0);
	assert_int_equal(sys_waitid(P_PIDFD, (id_t)pidfd, &si, WEXITED), 0);
	assert_int_equal(si.si_pid, pid);
	assert_int_equal(proc_exit_status(&si), 7);
	assert_int_equal(sys_pidfd_send_signal(pidfd, 0), -ESRCH);
}

static void clone_signal(void **state)
{
	(void)state;
	siginfo_t si;
	auto_close int pidfd = -1;
	pid_t pid = sys_clone3(0, -1, &pidfd);

	if (pid == 0) {
		for (;;) {
			pause();
		}
	}
	assert_int_equal(sys_pidfd_send_signal(pidfd, SIGKILL), 0);
	assert_int_equal(sys_waitid(P_PID, (id_t)pid, &si, WEXITED), 0);
	assert_int_equal(proc_exit_status(&si), 128 + SIGKILL);
}

static void faults(void **state)
{
	(void)state;
	int pidfd = -1;

	sys_fault_arm(SYS_CALL_clone3, 1, 1, EAGAIN);
	assert_int_equal(sys_clone3(0, -1, &pidfd), -EAGAIN);
	assert_int_equal(pidfd, -1);
	sys_fault_arm(SYS_CALL_setns, 1, 1, EPERM);
	assert_int_equal(sys_setns(-1, 0), -EPERM);
	assert_int_equal(sys_setns(-1, 0), -EBADF);
	sys_fault_clear();
}

static void limits_only_fall(void **state)
{
	(void)state;
	struct rlimit lim;

	assert_int_equal(sys_limit_lower(RLIMIT_CORE, 4096), 0);
	assert_int_equal(sys_limit_lower(RLIMIT_CORE, 8192), 0);
	assert_int_equal(sys_prlimit(0, RLIMIT_CORE, NULL, &lim), 0);
	assert_true(lim.rlim_cur <= 4096 && lim.rlim_max == lim.rlim_cur);
}

static noreturn_fn void make_namespaces(void)
{
	for (;;) {
		int fd = -1;

		ignore_result(sys_userns_mapped("0 0 1\n", "0 0 1\n", &fd)); /* until it is killed */
		fd_close(&fd);
	}
}

/* Whoever makes namespaces and dies at any moment leaves no process that holds what it had. */
static void namespaces_of_the_dead(void **state)
{
	(void)state;
	enum { DEATHS = 150, LONGEST_US = 1500, PATIENCE_MS = 20000 };
	int fd = -1;

	if (sys_userns_mapped("0 0 1\n", "0 0 1\n", &fd) < 0) {
		skip();   /* not allowed here */
	}
	fd_close(&fd);
	for (unsigned i = 0; i < DEATHS; i++) {
		int held[2] = { -1, -1 };

		assert_int_equal(sys_pipe2(held, 0), 0);
		pid_t pid = sys_fork();

		if (pid == 0) {
			make_namespaces();
		}
		assert_true(pid > 0);
		fd_close(&held[1]);
		usleep(i * 7919 % LONGEST_US);
		kill(pid, SIGKILL);
		assert_int_equal(waitpid(pid, NULL, 0), pid);

		struct pollfd gone = { .fd = held[0], .events = POLLIN };

		assert_int_equal(poll(&gone, 1, PATIENCE_MS), 1);
		fd_close(&held[0]);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(clone_wait),
		cmocka_unit_test(clone_signal),
		cmocka_unit_test(faults),
		cmocka_unit_test(limits_only_fall),
		cmocka_unit_test(namespaces_of_the_dead),
	};

	return cmocka_run_group_tests_name("sys/proc", tests, NULL, NULL);
}
