/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Each probe runs in a child of its own, which is confined first and then tries what it
 * must not be able to do.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <errno.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>

#include "image/confine.h"
#include "sys/cred.h"
#include "sys/file.h"
#include "sys/proc.h"
#include "sys/socket.h"

static const char *const usr_only[] = { "/usr", NULL };
static const struct confine plain = { .name = "test", .memory_bytes = UINT64_C(1) << 31,
				      .files = 64, .read_paths = usr_only };
static const struct confine net = { .name = "test", .memory_bytes = UINT64_C(1) << 31,
				    .files = 64, .network = true };

static int try_read_etc(void)
{
	return sys_openat(AT_FDCWD, "/etc/hostname", O_RDONLY, 0) == -EACCES ? 0 : 1;
}

static int try_read_usr(void)
{
	return sys_openat(AT_FDCWD, "/usr", O_RDONLY | O_DIRECTORY, 0) >= 0 ? 0 : 1;
}

static int try_write_tmp(void)
{
	int r = sys_openat(AT_FDCWD, "/tmp", O_RDWR | O_TMPFILE, 0600);

	return r == -EACCES || r == -EPERM ? 0 : 1;
}

static int try_no_rights(void)
{
	struct sys_caps c;

	/* capget is not in the list: what cannot be asked is not had. */
	return geteuid() == 0 || (sys_capget(&c) == 0 && c.permitted != 0) ? 1 : 0;
}

#ifndef __SANITIZE_ADDRESS__
static int try_socket(void)
{
	return sys_socket(AF_INET, SOCK_STREAM, 0) == -EPERM ? 0 : 1;
}

static int try_fork(void)
{
	pid_t pid = sys_fork();

	if (pid == 0) {
		_exit(0);
	}
	return pid == -EPERM || pid == -ENOSYS ? 0 : 1;
}

static int try_exec(void)
{
	char *argv[] = { (char *)"true", NULL }, *envp[] = { NULL };

	return sys_execveat(AT_FDCWD, "/usr/bin/true", argv, envp, 0) == -EPERM ? 0 : 1;
}

static int try_unix(void)
{
	return sys_socket(AF_UNIX, SOCK_STREAM, 0) == -EPERM ? 0 : 1;
}

static int try_ptrace(void)
{
	return ptrace(PTRACE_TRACEME, 0, NULL, NULL) < 0 && errno == EPERM ? 0 : 1;
}
#endif

static int try_inet(void)
{
	return sys_socket(AF_INET, SOCK_STREAM, 0) >= 0 ? 0 : 1;
}

static void probe(const struct confine *c, int (*fn)(void), const char *what)
{
	pid_t parent = getpid(), pid = sys_fork();
	siginfo_t si;

	assert_true(pid >= 0);
	if (pid == 0) {
		struct err e = ERR_INIT;
		unsigned missing;

		if (confine_enter(c, parent, &missing, &e) < 0) {
			char text[600];

			print_message("%s\n", err_text(&e, text, sizeof(text)));
			_exit(2);
		}
		_exit(fn());
	}
	assert_int_equal(sys_waitid(P_PID, (id_t)pid, &si, WEXITED), 0);
	if (proc_exit_status(&si) != 0) {
		fail_msg("%s: %d", what, proc_exit_status(&si));
	}
}

#define PROBE(c, fn) probe(c, fn, #fn)

static void takes_files(unused_arg void **state)
{
	PROBE(&plain, try_read_etc);
	PROBE(&plain, try_read_usr);
	PROBE(&plain, try_write_tmp);
}

static void takes_rights(unused_arg void **state)
{
	if (geteuid() != 0) {
		print_message("skipped: not root\n");
		skip();
	}
	PROBE(&plain, try_no_rights);
}

static void takes_calls(unused_arg void **state)
{
#ifdef __SANITIZE_ADDRESS__
	print_message("skipped: no seccomp under a sanitizer\n");
	skip();
#else
	PROBE(&plain, try_socket);
	PROBE(&plain, try_fork);
	PROBE(&plain, try_exec);
	PROBE(&plain, try_ptrace);
	PROBE(&net, try_unix);
	PROBE(&net, try_fork);
	PROBE(&net, try_exec);
#endif
}

static void leaves_network(unused_arg void **state)
{
	PROBE(&net, try_inet);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(takes_files), cmocka_unit_test(takes_rights),
		cmocka_unit_test(takes_calls), cmocka_unit_test(leaves_network),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
