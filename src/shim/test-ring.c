/* SPDX-License-Identifier: Apache-2.0 */
#include "base/test.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <string.h>

#include "base/fd.h"
#include "base/mem.h"
#include "shim/ring.h"
#include "sys/file.h"

static void bound_and_order(void **state)
{
	(void)state;
	struct ring r = RING_INIT(10);
	int p[2];
	char out[64];
	unsigned written = 0, seen = 0;

	assert_int_equal(sys_pipe2(p, O_NONBLOCK), 0);
	for (int round = 0; round < 50; round++) {
		char in[7];

		for (size_t i = 0; i < sizeof(in); i++) {
			in[i] = (char)(written + i);
		}
		assert_int_equal(ring_put(&r, in, sizeof(in)), 0);
		written += sizeof(in);
		assert_int_equal(ring_put(&r, in, 4), -ENOBUFS);
		assert_int_equal(r.len, 7);
		assert_int_equal(ring_drain(&r, p[1]), 0);
		assert_int_equal(r.len, 0);
		assert_null(r.data);
		ssize_t n = sys_read(p[0], out, sizeof(out));

		assert_int_equal(n, 7);
		for (ssize_t i = 0; i < n; i++) {
			assert_int_equal(out[i], (char)seen++);
		}
	}
	fd_close(&p[0]);
	assert_int_equal(ring_put(&r, "x", 1), 0);
	assert_int_equal(ring_drain(&r, p[1]), -EPIPE);
	ring_reset(&r);
	fd_close(&p[1]);
}

/* A reader slower than the writer: what is left stays, wrapped or not, in order. */
static void part_drains(void **state)
{
	(void)state;
	struct ring r = RING_INIT(8192);
	int p[2];
	static char in[5000], out[4096];
	uint32_t next_in = 0, next_out = 0;

	assert_int_equal(sys_pipe2(p, O_NONBLOCK), 0);
	assert_int_equal(sys_fcntl(p[1], F_SETPIPE_SZ, 4096), 4096);
	for (int round = 0; round < 300; round++) {
		size_t n = MIN(ring_room(&r), sizeof(in));

		for (size_t i = 0; i < n; i++) {
			in[i] = (char)(next_in++ % 251);
		}
		assert_int_equal(ring_put(&r, in, n), 0);
		assert_int_equal(ring_drain(&r, p[1]), 0);
		ssize_t got = sys_read(p[0], out, 1000 + (size_t)round);

		assert_true(got > 0);
		for (ssize_t i = 0; i < got; i++) {
			assert_int_equal(out[i], (char)(next_out++ % 251));
		}
	}
	assert_true(next_out > 100000);
	ring_reset(&r);
	fd_close(&p[0]);
	fd_close(&p[1]);
}

static void no_memory(void **state)
{
	(void)state;
	struct ring r = RING_INIT(10);

	mem_fail_at(1, false);
	assert_int_equal(ring_put(&r, "x", 1), -ENOMEM);
	assert_int_equal(ring_put(&r, "x", 1), 0);
	ring_reset(&r);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(bound_and_order),
		cmocka_unit_test(part_drains),
		cmocka_unit_test(no_memory),
	};

	(void)signal(SIGPIPE, SIG_IGN); /* cannot fail for this signal */
	return TEST_RUN(tests);
}
