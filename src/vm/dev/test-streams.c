/* SPDX-License-Identifier: Apache-2.0 */
/* Console and entropy. Spec: virtio 1.2, 5.3, 5.4. */
#include <errno.h>
#include <fcntl.h>
#include <linux/virtio_console.h>
#include <string.h>

#include "base/test.h"
#include "sys/file.h"
#include "vm/dev/console.h"
#include "vm/dev/rng.h"
#include "vm/dev/test-rig.h"

struct console_test {
	struct rig r;
	int        in, out;   /* our ends */
};

static void start(struct console_test *t)
{
	int in[2], out[2];

	assert_int_equal(sys_pipe2(in, 0), 0);
	assert_int_equal(sys_pipe2(out, 0), 0);
	struct console_conf conf = { .in_fd = in[0], .out_fd = out[1], .cols = 80, .rows = 25 };

	t->in = in[1];
	t->out = out[0];
	rig_init(&t->r, &vdev_console, &conf);
	rig_start(&t->r, 0);
}

static void end(struct console_test *t)
{
	rig_fini(&t->r);
	fd_close(&t->in);
	fd_close(&t->out);
}

static void test_console(void **state unused_arg)
{
	struct console_test t;
	char got[16] = "";

	start(&t);
	uint64_t p = rig_alloc(&t.r, 4096);

	rig_put(&t.r, p, "login: ", 7);
	rig_add(&t.r, CONSOLE_TX, (struct rig_buf[]){ { p, 3, false }, { p + 3, 4, false } }, 2);
	rig_kick(&t.r, CONSOLE_TX);
	assert_int_equal(rig_take(&t.r, CONSOLE_TX), 0);
	assert_int_equal(sys_read(t.out, got, 16), 7);
	assert_string_equal(got, "login: ");

	/* Input that came before there was room for it. */
	assert_int_equal(sys_write_full(t.in, "root\n", 5), 0);
	rig_run(&t.r);
	rig_add(&t.r, CONSOLE_RX, &(struct rig_buf){ p, 3, true }, 1);
	rig_add(&t.r, CONSOLE_RX, &(struct rig_buf){ p + 3, 10, true }, 1);
	rig_kick(&t.r, CONSOLE_RX);
	assert_int_equal(rig_take(&t.r, CONSOLE_RX), 3);
	assert_int_equal(rig_take(&t.r, CONSOLE_RX), 2);
	rig_get(&t.r, p, got, 5);
	assert_memory_equal(got, "root\n", 5);
	end(&t);
}

static unsigned n_escapes;

static size_t without_q(void *ctx, uint8_t *data, size_t n)
{
	size_t kept = 0;

	assert_ptr_equal(ctx, &n_escapes);
	for (size_t i = 0; i < n; i++) {
		n_escapes += data[i] == 'q';
		data[kept] = data[i];
		kept += data[i] != 'q';
	}
	return kept;
}

/* What is typed is seen also while the guest takes none of it, and what is left comes in order. */
static void test_filter(void **state unused_arg)
{
	int in[2];
	struct rig r;
	char got[8] = "";

	assert_int_equal(sys_pipe2(in, 0), 0);
	struct console_conf conf = { .in_fd = in[0], .out_fd = -1, .filter = without_q,
				     .filter_ctx = &n_escapes };

	rig_init(&r, &vdev_console, &conf);
	assert_int_equal(sys_write_full(in[1], "aqb", 3), 0);
	rig_run(&r);
	assert_int_equal(n_escapes, 1);
	rig_start(&r, 0);
	assert_int_equal(sys_write_full(in[1], "qqc", 3), 0);
	rig_run(&r);
	assert_int_equal(n_escapes, 3);
	uint64_t p = rig_alloc(&r, 16);

	rig_add(&r, CONSOLE_RX, &(struct rig_buf){ p, 2, true }, 1);
	rig_add(&r, CONSOLE_RX, &(struct rig_buf){ p + 2, 6, true }, 1);
	rig_kick(&r, CONSOLE_RX);
	assert_int_equal(rig_take(&r, CONSOLE_RX), 2);
	assert_int_equal(rig_take(&r, CONSOLE_RX), 1);
	assert_int_equal(sys_write_full(in[1], "dq", 2), 0);
	rig_add(&r, CONSOLE_RX, &(struct rig_buf){ p + 3, 5, true }, 1);
	rig_kick(&r, CONSOLE_RX);
	assert_int_equal(rig_take(&r, CONSOLE_RX), 1);
	rig_get(&r, p, got, 4);
	assert_memory_equal(got, "abcd", 4);
	/* More than we keep is left to whoever holds it: nothing is lost, nothing grows. */
	for (unsigned i = 0; i < 100; i++) {
		assert_int_equal(sys_write_full(in[1], "0123456789abcdef0123456789abcdef", 32), 0);
		rig_run(&r);
	}
	rig_fini(&r);
	fd_close(&in[1]);
}

/* Nobody reads: the output waits, also over a pause, and comes whole and once. */
static void test_slow_reader(void **state unused_arg)
{
	enum { BYTES = 256 << 10 };
	struct console_test t;
	static uint8_t all[BYTES], got[BYTES];
	size_t have = 0;

	start(&t);
	for (size_t i = 0; i < BYTES; i++) {
		all[i] = (uint8_t)(i * 7 + i / 251);
	}
	uint64_t p = rig_alloc(&t.r, BYTES);

	rig_put(&t.r, p, all, BYTES);
	rig_add(&t.r, CONSOLE_TX, &(struct rig_buf){ p, BYTES, false }, 1);
	rig_kick(&t.r, CONSOLE_TX);
	rig_run(&t.r);
	assert_false(rig_used(&t.r, CONSOLE_TX));
	assert_int_equal(vdev_pause(t.r.dev), 0);
	assert_int_equal(t.r.dev->queues[CONSOLE_TX].in_flight, 0);
	vdev_resume(t.r.dev);
	while (have < BYTES) {
		ssize_t n = sys_read(t.out, got + have, BYTES - have);

		assert_true(n > 0);
		have += (size_t)n;
		rig_run(&t.r);
	}
	assert_memory_equal(all, got, BYTES);
	assert_int_equal(rig_take(&t.r, CONSOLE_TX), 0);
	end(&t);
}

/* The reader is gone: output goes nowhere, the guest goes on. A reset with output held. */
static void test_no_reader(void **state unused_arg)
{
	struct console_test t;

	start(&t);
	uint64_t p = rig_alloc(&t.r, 256 << 10);

	rig_add(&t.r, CONSOLE_TX, &(struct rig_buf){ p, 256 << 10, false }, 1);
	rig_kick(&t.r, CONSOLE_TX);
	rig_run(&t.r);
	rig_start(&t.r, 0);
	assert_int_equal(t.r.dev->queues[CONSOLE_TX].in_flight, 0);
	rig_add(&t.r, CONSOLE_TX, &(struct rig_buf){ p, 256 << 10, false }, 1);
	rig_kick(&t.r, CONSOLE_TX);
	rig_run(&t.r);
	fd_close(&t.out);
	assert_int_equal(rig_take(&t.r, CONSOLE_TX), 0);
	/* The end of input is no work for the loop. */
	fd_close(&t.in);
	rig_add(&t.r, CONSOLE_RX, &(struct rig_buf){ p, 16, true }, 1);
	rig_kick(&t.r, CONSOLE_RX);
	rig_run(&t.r);
	assert_false(rig_used(&t.r, CONSOLE_RX));
	end(&t);
}

static void test_resize(void **state unused_arg)
{
	struct console_test t;
	char got[2] = "";

	start(&t);
	assert_int_equal(rig_read(&t.r, VPCI_CONFIG, 4), 80 | 25 << 16);
	uint64_t generation = rig_read(&t.r, VPCI_COMMON + VIRTIO_PCI_COMMON_CFGGENERATION, 1);

	console_resize(t.r.dev, 132, 43);
	assert_int_equal(rig_read(&t.r, VPCI_CONFIG, 2), 132);
	assert_int_equal(t.r.msi[0], 1);
	assert_int_not_equal(rig_read(&t.r, VPCI_COMMON + VIRTIO_PCI_COMMON_CFGGENERATION, 1),
			     generation);
	console_resize(t.r.dev, 132, 43);
	assert_int_equal(t.r.msi[0], 1);
	/* Spec: 5.3.4: a word in need. */
	rig_write(&t.r, VPCI_CONFIG + offsetof(struct virtio_console_config, emerg_wr), 4, '!');
	assert_int_equal(sys_read(t.out, got, 2), 1);
	assert_int_equal(got[0], '!');
	end(&t);
}

static void test_bad_console(void **state unused_arg)
{
	struct console_test t;

	start(&t);
	uint64_t p = rig_alloc(&t.r, 16);

	rig_add(&t.r, CONSOLE_RX, &(struct rig_buf){ p, 16, false }, 1);
	rig_kick(&t.r, CONSOLE_RX);
	rig_run(&t.r);
	assert_int_equal(rig_status(&t.r), 15 | VIRTIO_CONFIG_S_NEEDS_RESET);
	/* Output that is only for us to write is empty output. */
	rig_start(&t.r, 0);
	rig_add(&t.r, CONSOLE_TX, &(struct rig_buf){ p, 16, true }, 1);
	rig_kick(&t.r, CONSOLE_TX);
	assert_int_equal(rig_take(&t.r, CONSOLE_TX), 0);
	end(&t);
}

/* --- Entropy --- */

static int source(void)
{
	return sys_openat(AT_FDCWD, "/dev/urandom", O_RDONLY, 0);
}

static void test_rng(void **state unused_arg)
{
	struct rig r;
	struct rng_conf conf = { .fd = source() };
	uint8_t got[64], zero[64] = { 0 };

	rig_init(&r, &vdev_rng, &conf);
	rig_start(&r, 0);
	uint64_t p = rig_alloc(&r, 64);

	rig_add(&r, 0, (struct rig_buf[]){ { p, 30, true }, { p + 30, 34, true } }, 2);
	rig_kick(&r, 0);
	assert_int_equal(rig_take(&r, 0), 64);
	rig_get(&r, p, got, 64);
	assert_memory_not_equal(got, zero, 30);
	assert_memory_not_equal(got + 30, zero, 34);
	/* Nowhere to put it. */
	rig_add(&r, 0, &(struct rig_buf){ p, 64, false }, 1);
	rig_kick(&r, 0);
	rig_run(&r);
	assert_int_equal(rig_status(&r), 15 | VIRTIO_CONFIG_S_NEEDS_RESET);
	rig_fini(&r);
}

/* A guest gets so much a second, and the rest then. */
static void test_quota(void **state unused_arg)
{
	struct rig r;
	struct rng_conf conf = { .fd = source(), .bytes_a_second = 100 };
	uint32_t n = 0;

	rig_init(&r, &vdev_rng, &conf);
	rig_start(&r, 0);
	uint64_t p = rig_alloc(&r, 64);

	for (unsigned i = 0; i < 3; i++) {
		rig_add(&r, 0, &(struct rig_buf){ p, 64, true }, 1);
	}
	rig_kick(&r, 0);
	n += rig_take(&r, 0);
	n += rig_take(&r, 0);
	assert_int_equal(n, 100);
	rig_run(&r);
	assert_false(rig_used(&r, 0));
	assert_int_equal(rig_take(&r, 0), 64);
	rig_fini(&r);
}

/* The source fails: the request waits, the device lives. */
static void test_rng_source_fails(void **state unused_arg)
{
	struct rig r;
	int fds[2];

	assert_int_equal(sys_pipe2(fds, O_NONBLOCK), 0);
	struct rng_conf conf = { .fd = fds[0] };

	rig_init(&r, &vdev_rng, &conf);
	rig_start(&r, 0);
	uint64_t p = rig_alloc(&r, 64);

	rig_add(&r, 0, &(struct rig_buf){ p, 64, true }, 1);
	rig_kick(&r, 0);
	rig_run(&r);
	assert_false(rig_used(&r, 0));
	assert_int_equal(rig_status(&r), 15);
	assert_int_equal(sys_write_full(fds[1], "0123456789", 10), 0);
	assert_int_equal(rig_take(&r, 0), 10);
	fd_close(&fds[1]);
	rig_fini(&r);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_console), cmocka_unit_test(test_filter),   cmocka_unit_test(test_slow_reader),
		cmocka_unit_test(test_no_reader), cmocka_unit_test(test_resize),
		cmocka_unit_test(test_bad_console), cmocka_unit_test(test_rng),
		cmocka_unit_test(test_quota),     cmocka_unit_test(test_rng_source_fails),
	};

	return TEST_RUN(tests);
}
