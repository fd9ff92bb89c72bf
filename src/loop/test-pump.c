/* SPDX-License-Identifier: Apache-2.0 */
#include "base/test.h"

#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <unistd.h>

#include "loop/pump.h"
#include "sys/file.h"
#include "sys/socket.h"

static void on_over(struct pump *p, void *ud)
{
	(void)p;
	*(bool *)ud = true;
}

static void turns(struct loop *l, const bool *until)
{
	for (unsigned i = 0; i < 100000 && !*until; i++) {
		assert_true(loop_turn(l, 100 * 1000 * 1000) >= 0);
	}
	assert_true(*until);
}

/* More than the pump, the pipe and the socket hold: it waits for the reader. */
static void test_all_bytes(void **state)
{
	enum { N = 1 << 20 };
	static char in[N], out[N];
	struct loop *l = NULL;
	struct pump *p = NULL;
	bool over = false;
	int pipe_fds[2], sock[2];
	size_t sent = 0, got = 0;

	(void)state;
	for (size_t i = 0; i < N; i++) {
		in[i] = (char)(i * 7 + i / 251);
	}
	assert_int_equal(loop_new(&l), 0);
	assert_int_equal(sys_pipe2(pipe_fds, O_NONBLOCK), 0);
	assert_int_equal(sys_socketpair(SOCK_STREAM | SOCK_NONBLOCK, sock), 0);
	assert_int_equal(pump_new(l, pipe_fds[0], sock[0], on_over, &over, &p), 0);
	while (got < N) {
		ssize_t n = sent < N ? sys_write(pipe_fds[1], in + sent, N - sent) : 0;

		sent += n > 0 ? (size_t)n : 0;
		assert_true(loop_turn(l, 0) >= 0);
		n = sys_read(sock[1], out + got, MIN((size_t)5000, N - got));
		got += n > 0 ? (size_t)n : 0;
	}
	assert_memory_equal(in, out, N);
	assert_false(over);
	close(pipe_fds[1]);
	turns(l, &over);
	assert_int_equal(sys_read(sock[1], out, 1), 0); /* the end came through */
	pump_free(p);
	close(sock[1]);
	loop_free(l);
}

static void test_files(void **state)
{
	struct loop *l = NULL;
	struct pump *p = NULL;
	bool over = false;
	char text[8] = "";
	int from = sys_memfd_create("from", 0), to = sys_memfd_create("to", 0);

	(void)state;
	assert_int_equal(loop_new(&l), 0);
	assert_int_equal(sys_write_full(from, "content", 7), 0);
	assert_int_equal(lseek(from, 0, SEEK_SET), 0);
	assert_int_equal(pump_new(l, from, dup(to), on_over, &over, &p), 0);
	turns(l, &over);
	assert_int_equal(sys_pread(to, text, sizeof(text), 0), 7);
	assert_string_equal(text, "content");
	pump_free(p);
	close(to);
	loop_free(l);
}

static void test_reader_is_gone(void **state)
{
	struct loop *l = NULL;
	struct pump *p = NULL;
	bool over = false;
	int in[2], sock[2];

	(void)state;
	assert_int_equal(loop_new(&l), 0);
	assert_int_equal(sys_pipe2(in, 0), 0);
	assert_int_equal(sys_socketpair(SOCK_STREAM, sock), 0);
	assert_int_equal(pump_new(l, in[0], sock[0], on_over, &over, &p), 0);
	close(sock[1]);
	assert_int_equal(sys_write_full(in[1], "x", 1), 0);
	turns(l, &over);
	pump_free(p);
	close(in[1]);
	loop_free(l);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_all_bytes),
		cmocka_unit_test(test_files),
		cmocka_unit_test(test_reader_is_gone),
	};

	(void)signal(SIGPIPE, SIG_IGN);
	return TEST_RUN(tests);
}
