/* SPDX-License-Identifier: Apache-2.0 */
/* The default profile, in force: each child tries one thing. Rule 11 of the threat model. */
#include <errno.h>
#include <linux/filter.h>
#include <sched.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include <cmocka.h>

#include "base/clock.h"
#include "container/seccomp.h"
#include "oci/default.h"

static struct seccomp_filter filter;

/* The errno of a call under the filter, 0 if it went through. */
static int call(long nr, long a, long b, long c)
{
	int status = 0;
	pid_t pid = fork();

	if (pid == 0) {
		prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
		if (seccomp_install(&filter, NULL) < 0) {
			_exit(255);
		}
		_exit(syscall(nr, a, b, c, 0, 0, 0) < 0 ? errno : 0);
	}
	assert_true(pid > 0 && waitpid(pid, &status, 0) == pid);
	assert_true(WIFEXITED(status));
	return WEXITSTATUS(status);
}

/* The same by the 32-bit entry; arguments below 4 GiB. */
static int call32(long nr, long a, long b, long c)
{
	int status = 0;
	pid_t pid = fork();

	if (pid == 0) {
		long r = nr;

		prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
		if (seccomp_install(&filter, NULL) < 0) {
			_exit(255);
		}
		__asm__ volatile("int $0x80" : "+a"(r) : "b"(a), "c"(b), "d"(c), "S"(0L), "D"(0L)
				 : "memory", "r8", "r9", "r10", "r11");
		_exit(r < 0 ? (int)-r : 0);
	}
	assert_true(pid > 0 && waitpid(pid, &status, 0) == pid);
	assert_true(WIFEXITED(status));
	return WEXITSTATUS(status);
}

static void load(const char *cap)
{
	auto_arena struct arena a = ARENA_INIT;
	struct oci_seccomp *s = NULL;
	struct jstrv caps = { 0 };
	struct err e = ERR_INIT;

	if (cap) {
		assert_int_equal(oci_strv_add(&caps, &a, cap), 0);
	}
	seccomp_filter_fini(&filter);
	assert_int_equal(oci_default_seccomp(&caps, &a, &s, &e), 0);
	if (seccomp_compile(s, -1, &filter, &e) < 0) {
		fail_msg("%s", e.msg);
	}
}

static void test_refused(void **state)
{
	(void)state;
	load(NULL);
	assert_int_equal(call(SYS_socket, 38, 5, 0), EPERM);
	assert_int_equal(call(SYS_socket, 0x100000026, 5, 0), EPERM);
	assert_int_equal(call(SYS_socket, 40, 1, 0), EPERM);
	assert_int_equal(call(SYS_unshare, CLONE_NEWUSER, 0, 0), EPERM);
	assert_int_equal(call(SYS_clone, CLONE_NEWUSER | SIGCHLD, 0, 0), EPERM);
	assert_int_equal(call(SYS_clone3, 0, 0, 0), ENOSYS);
	assert_int_equal(call(SYS_setns, -1, 0, 0), EPERM);
	assert_int_equal(call(SYS_io_uring_setup, 1, 0, 0), EPERM);
	assert_int_equal(call(SYS_userfaultfd, 0, 0, 0), EPERM);
	assert_int_equal(call(SYS_keyctl, 0, 0, 0), EPERM);
	assert_int_equal(call(SYS_add_key, 0, 0, 0), EPERM);
	assert_int_equal(call(SYS_bpf, 0, 0, 0), EPERM);
	assert_int_equal(call(SYS_perf_event_open, 0, 0, 0), EPERM);
	assert_int_equal(call(SYS_kexec_load, 0, 0, 0), EPERM);
	assert_int_equal(call(SYS_mount, 0, 0, 0), EPERM);
	assert_int_equal(call(SYS_fsopen, 0, 0, 0), EPERM);
	assert_int_equal(call(SYS_open_tree, 0, 0, 0), EPERM);
	assert_int_equal(call(SYS_open_by_handle_at, 0, 0, 0), EPERM);
	assert_int_equal(call(SYS_personality, 0x0040000, 0, 0), EPERM);
	assert_int_equal(call(4000, 0, 0, 0), ENOSYS);
}

/* The same by the other two ABIs. */
static void test_refused_32(void **state)
{
	unsigned *args = mmap(NULL, 4096, PROT_READ | PROT_WRITE,
			      MAP_PRIVATE | MAP_ANONYMOUS | MAP_32BIT, -1, 0);

	(void)state;
	assert_true(args != MAP_FAILED);
	load(NULL);
	args[0] = 38;
	args[1] = 5;
	assert_int_equal(call32(102, 1, (long)args, 0), EPERM);         /* socketcall(SOCKET) */
	args[0] = 1;
	args[1] = 1;
	assert_int_equal(call32(102, 1, (long)args, 0), EPERM);         /* of any family */
	assert_int_equal(call32(359, 38, 5, 0), EPERM);                 /* socket */
	assert_int_equal(call32(359, 40, 1, 0), EPERM);
	assert_int_equal(call32(359, 1, 1, 0), 0);
	assert_int_equal(call32(120, CLONE_NEWUSER | SIGCHLD, 0, 0), EPERM); /* clone */
	assert_int_equal(call32(310, CLONE_NEWUSER, 0, 0), EPERM);      /* unshare */
	assert_int_equal(call32(21, 0, 0, 0), EPERM);                   /* mount */
	assert_int_equal(call32(425, 1, 0, 0), EPERM);                  /* io_uring_setup */
	assert_int_equal(call32(20, 0, 0, 0), 0);                       /* getpid */
	assert_true(call(0x40000000 | SYS_keyctl, 0, 0, 0) != 0);
	assert_true(call(0x40000000 | SYS_socket, 38, 5, 0) != 0);
	munmap(args, 4096);
}

static void test_allowed(void **state)
{
	(void)state;
	load(NULL);
	assert_int_equal(call(SYS_socket, 1, 1, 0), 0);
	assert_int_equal(call(SYS_socket, 2, 1, 0), 0);
	assert_int_equal(call(SYS_getppid, 0, 0, 0), 0);
	assert_int_equal(call(SYS_personality, 0xffffffff, 0, 0), 0);
	assert_int_equal(call(SYS_openat2, -1, 0, 0), EINVAL);
	load("CAP_SYS_ADMIN");
	assert_int_equal(call(SYS_unshare, 0, 0, 0), 0);
	assert_int_equal(call(SYS_setns, -1, 0, 0), EBADF);
	assert_int_equal(call(SYS_clone3, 0, 0, 0), EINVAL);
	assert_int_equal(call(SYS_socket, 38, 5, 0), EPERM);
	assert_int_equal(call(SYS_keyctl, 0, 0, 0), EPERM);
	seccomp_filter_fini(&filter);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_refused),
		cmocka_unit_test(test_refused_32),
		cmocka_unit_test(test_allowed),
	};
	uint64_t start = clock_now_ns();
	int r = 0;

	load(NULL);
	printf("%u instructions, compiled in %llu us\n", filter.n,
	       (unsigned long long)(clock_now_ns() - start) / 1000);
	r = cmocka_run_group_tests(tests, NULL, NULL);
	return r;
}
