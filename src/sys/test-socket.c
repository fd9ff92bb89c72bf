/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <errno.h>
#include <fcntl.h>
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

int main(void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(pass_fds) };

	return cmocka_run_group_tests_name("sys/socket", tests, NULL, NULL);
}
