/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/fd.h"
#include "sys/file.h"
#include "sys/socket.h"

static void pass_fds(void **state)
{
	(void)state;
	int s[2], p[2], got[2] = { -1, -1 };
	char text[8];
	size_t n = 0;

	assert_int_equal(sys_socketpair(SOCK_SEQPACKET, s), 0);
	assert_int_equal(sys_pipe2(p, 0), 0);
	assert_int_equal(sock_send_fds(s[0], "abc", 3, p, 2), 0);
	assert_int_equal(sock_recv_fds(s[1], text, sizeof(text), got, 2, &n), 3);
	assert_int_equal(n, 2);
	assert_memory_equal(text, "abc", 3);
	assert_int_equal(fcntl(got[0], F_GETFD), FD_CLOEXEC);
	assert_int_equal(sys_write_full(got[1], "x", 1), 0);
	assert_int_equal(read(p[0], text, 1), 1);

	/* One descriptor more than asked for: all are closed, and it is an error. */
	int next = dup(0);

	close(next);
	assert_int_equal(sock_send_fds(s[0], "abc", 3, p, 2), 0);
	assert_int_equal(sock_recv_fds(s[1], text, sizeof(text), got, 1, &n), -EMSGSIZE);
	assert_int_equal(n, 0);
	int again = dup(0);

	assert_int_equal(again, next);
	close(again);

	fd_close(&s[0]);
	assert_int_equal(sock_recv_fds(s[1], text, sizeof(text), NULL, 0, &n), 0);
	fd_close(&s[1]);
	close(p[0]);
	close(p[1]);
}

static void listen_connect(void **state)
{
	(void)state;
	char dir[] = "/tmp/holm-test-socket-XXXXXX";
	struct ucred cred;
	struct stat st;

	assert_non_null(mkdtemp(dir));
	auto_close int dfd = sys_openat(AT_FDCWD, dir, O_RDONLY | O_DIRECTORY, 0);
	assert_true(dfd >= 0);
	assert_int_equal(sock_connect_at(dfd, "s", 0), -ENOENT);

	auto_close int lfd = sock_listen_at(dfd, "s", SOCK_NONBLOCK);
	assert_true(lfd >= 0);
	assert_int_equal(sys_fstatat(dfd, "s", &st, 0), 0);
	assert_int_equal(st.st_mode & 0777, 0600);
	assert_int_equal(sys_accept4(lfd, 0), -EAGAIN);

	auto_close int c = sock_connect_at(dfd, "s", 0);
	auto_close int a = sys_accept4(lfd, 0);
	assert_true(c >= 0 && a >= 0);
	assert_int_equal(sock_peer(a, &cred), 0);
	assert_int_equal(cred.pid, getpid());
	assert_int_equal(cred.uid, getuid());

	/* By a path that is longer than an address. */
	char far[400];
	static const char deep[] = "0123456789012345678901234567890123456789/"
				   "0123456789012345678901234567890123456789/"
				   "0123456789012345678901234567890123456789";

	assert_int_equal(sys_mkdir_p(dfd, deep, 0700), 0);
	auto_close int deep_fd = sys_openat(dfd, deep, O_PATH | O_DIRECTORY, 0);
	auto_close int l3 = sock_listen_at(deep_fd, "s", 0);
	(void)snprintf(far, sizeof(far), "%s/%s/s", dir, deep);
	auto_close int c3 = sock_connect_path(far);
	assert_true(l3 >= 0 && c3 >= 0);

	/* A second listener takes the name over; once it is gone nobody answers. */
	int l2 = sock_listen_at(dfd, "s", 0);
	assert_true(l2 >= 0);
	fd_close(&l2);
	assert_int_equal(sock_connect_at(dfd, "s", 0), -ECONNREFUSED);
	assert_int_equal(sys_remove_tree(AT_FDCWD, dir), 0);
}

static void closed_peer_is_no_signal(void **state)
{
	(void)state;
	int s[2];

	assert_int_equal(sys_socketpair(SOCK_STREAM, s), 0);
	assert_int_equal(sock_send_some(s[0], "xyz", 3, NULL, 0), 3);
	fd_close(&s[1]);
	assert_int_equal(sock_send_some(s[0], "x", 1, NULL, 0), -EPIPE);
	fd_close(&s[0]);
}

static void long_names_and_faults(void **state)
{
	(void)state;
	char name[200];
	int s[2];

	memset(name, 'a', sizeof(name));
	name[sizeof(name) - 1] = '\0';
	assert_int_equal(sock_connect_at(AT_FDCWD, name, 0), -ENAMETOOLONG);
	sys_fault_arm(SYS_CALL_socketpair, 1, 1, EMFILE);
	assert_int_equal(sys_socketpair(SOCK_STREAM, s), -EMFILE);
	sys_fault_arm(SYS_CALL_epoll_create1, 1, 1, EMFILE);
	assert_int_equal(sys_epoll_create(), -EMFILE);
	sys_fault_clear();
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(pass_fds),
		cmocka_unit_test(listen_connect),
		cmocka_unit_test(closed_peer_is_no_signal),
		cmocka_unit_test(long_names_and_faults),
	};

	return cmocka_run_group_tests_name("sys/socket", tests, NULL, NULL);
}
