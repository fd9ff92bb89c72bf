/* SPDX-License-Identifier: Apache-2.0 */
/* The network interface behind a stream socket. Spec: virtio 1.2, 5.1. */
#include <arpa/inet.h>
#include <errno.h>
#include <linux/virtio_net.h>
#include <string.h>
#include <sys/socket.h>

#include "base/test.h"
#include "sys/file.h"
#include "sys/socket.h"
#include "vm/dev/net.h"
#include "vm/dev/test-rig.h"

enum { HDR = 12, FRAME = 60 };

struct wire {
	struct rig r;
	int        host;     /* the other end */
};

static void start(struct wire *t, uint64_t without)
{
	int fds[2];

	assert_int_equal(sys_socketpair(SOCK_STREAM, fds), 0);
	struct net_conf conf = { .fd = fds[0], .stream = true, .mac = { 2, 0, 0, 0, 0, 9 },
				 .mtu = 1400 };

	t->host = fds[1];
	rig_init(&t->r, &vdev_net, &conf);
	rig_start(&t->r, without);
}

static void end(struct wire *t)
{
	rig_fini(&t->r);
	fd_close(&t->host);
}

static void host_sends(struct wire *t, uint32_t len, uint8_t fill)
{
	static uint8_t frame[4 + 70000];
	uint32_t be = htonl(len);

	memcpy(frame, &be, 4);
	memset(frame + 4, fill, len);
	assert_int_equal(sys_write_full(t->host, frame, 4 + len), 0);
}

static void test_config(void **state unused_arg)
{
	struct wire t;

	start(&t, 0);
	assert_int_equal(rig_read(&t.r, VPCI_CONFIG + 0, 4), 2);
	assert_int_equal(rig_read(&t.r, VPCI_CONFIG + 5, 1), 9);
	assert_int_equal(rig_read(&t.r, VPCI_CONFIG + 6, 2), VIRTIO_NET_S_LINK_UP);
	assert_int_equal(rig_read(&t.r, VPCI_CONFIG + 10, 2), 1400);
	/* A socket has nobody who would finish checksums. */
	assert_false(rig_offered(&t.r) & (BIT(VIRTIO_NET_F_CSUM) | BIT(VIRTIO_NET_F_GUEST_CSUM)));
	end(&t);
}

static void test_send(void **state unused_arg)
{
	struct wire t;
	uint8_t got[4 + FRAME];

	start(&t, 0);
	uint64_t p = rig_alloc(&t.r, 4096);

	rig_put(&t.r, p + HDR, "frame of the guest", 18);
	/* The header and the frame, cut elsewhere. */
	rig_add(&t.r, NET_TX, (struct rig_buf[]){ { p, 5, false }, { p + 5, HDR + FRAME - 5, false } },
		2);
	rig_kick(&t.r, NET_TX);
	assert_int_equal(rig_take(&t.r, NET_TX), 0);
	assert_int_equal(sys_read_full(t.host, got, sizeof(got)), (int)sizeof(got));
	assert_int_equal(ntohl(*(uint32_t *)(void *)got), FRAME);
	assert_memory_equal(got + 4, "frame of the guest", 18);
	end(&t);
}

/* Rule 22: no frame to a metadata service leaves, whatever it is wrapped in. */
static void test_denied(void **state unused_arg)
{
	static const struct {
		uint8_t type[2];
		size_t  at;
		uint8_t to[16];
		size_t  n;
		bool    passes;
	} cases[] = {
		{ { 0x08, 0x00 }, 30, { 169, 254, 169, 254 }, 4, false },
		{ { 0x08, 0x00 }, 30, { 169, 254, 169, 253 }, 4, true },
		{ { 0x08, 0x06 }, 38, { 169, 254, 169, 254 }, 4, true },
		{ { 0x86, 0xdd }, 38, { 0xfd, 0x00, 0x0e, 0xc2, [14] = 2, [15] = 0x54 }, 16, false },
		{ { 0x86, 0xdd }, 38, { 0xfd, 0x00, 0x0e, 0xc2, [15] = 1 }, 16, true },
		{ { 0x81, 0x00 }, 34, { 169, 254, 169, 254 }, 4, false },
		{ { 0x88, 0xa8 }, 38, { 169, 254, 169, 254 }, 4, false },
	};
	struct wire t;

	start(&t, 0);
	uint64_t p = rig_alloc(&t.r, 4096);

	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		uint8_t frame[FRAME] = { 0 }, got[4 + FRAME];
		uint64_t dropped = net_counts(t.r.dev).tx_dropped;

		memcpy(frame + 12, cases[i].type, 2);
		memcpy(frame + cases[i].at, cases[i].to, cases[i].n);
		rig_put(&t.r, p + HDR, frame, FRAME);
		/* Cut in the middle of the address. */
		rig_add(&t.r, NET_TX, (struct rig_buf[]){ { p, HDR + 32, false },
							  { p + HDR + 32, FRAME - 32, false } }, 2);
		rig_kick(&t.r, NET_TX);
		assert_int_equal(rig_take(&t.r, NET_TX), 0);
		assert_int_equal(net_counts(t.r.dev).tx_dropped - dropped, !cases[i].passes);
		if (cases[i].passes) {
			assert_int_equal(sys_read_full(t.host, got, sizeof(got)), (int)sizeof(got));
			assert_memory_equal(got + 4, frame, FRAME);
		} else {
			assert_int_equal(recv(t.host, got, 1, MSG_DONTWAIT), -1);
		}
	}
	end(&t);
}

/* A peer that does not read: frames wait, none is cut, none is lost but those not taken. */
static void test_slow_peer(void **state unused_arg)
{
	enum { PACKETS = 300, BYTES = 8000 };
	struct wire t;
	static uint8_t got[BYTES];
	unsigned sent = 0;

	start(&t, 0);
	uint64_t p = rig_alloc(&t.r, HDR + BYTES);

	for (unsigned i = 0; i < 200; i++) {
		rig_add(&t.r, NET_TX, &(struct rig_buf){ p, HDR + BYTES, false }, 1);
	}
	rig_kick(&t.r, NET_TX);
	rig_run(&t.r);
	assert_true(rig_get16(&t.r, t.r.queues[NET_TX].used + 2) < 200);
	while (sent < 200) {
		uint32_t len;

		assert_int_equal(sys_read_full(t.host, &len, 4), 4);
		assert_int_equal(ntohl(len), BYTES);
		for (size_t have = 0; have < BYTES;) {
			ssize_t n = sys_read(t.host, got + have, BYTES - have);

			assert_true(n > 0);
			have += (size_t)n;
			rig_run(&t.r);
		}
		rig_run(&t.r);
		sent++;
	}
	assert_int_equal(rig_get16(&t.r, t.r.queues[NET_TX].used + 2), 200);
	end(&t);
}

static void test_receive(void **state unused_arg)
{
	struct wire t;
	uint8_t got[HDR + FRAME];

	start(&t, 0);
	uint64_t p = rig_alloc(&t.r, 4096);

	rig_add(&t.r, NET_RX, &(struct rig_buf){ p, 2048, true }, 1);
	rig_kick(&t.r, NET_RX);
	host_sends(&t, FRAME, 'h');
	assert_int_equal(rig_take(&t.r, NET_RX), HDR + FRAME);
	rig_get(&t.r, p, got, sizeof(got));
	struct virtio_net_hdr_v1 h;

	memcpy(&h, got, HDR);
	assert_int_equal(h.num_buffers, 1);
	assert_int_equal(h.flags, 0);
	assert_int_equal(got[HDR + FRAME - 1], 'h');
	assert_true(t.r.msi[1 + NET_RX] > 0);
	end(&t);
}

/* Spec: 5.1.6.4: a packet over several buffers appears at once; the first says how many. */
static void test_mergeable(void **state unused_arg)
{
	struct wire t;
	struct virtio_net_hdr_v1 h;
	uint8_t last;

	start(&t, 0);
	uint64_t p = rig_alloc(&t.r, 16 * 4096);

	host_sends(&t, 10000, 'm');
	for (unsigned i = 0; i < 3; i++) {
		rig_add(&t.r, NET_RX, &(struct rig_buf){ p + i * 4096, 2600, true }, 1);
		rig_kick(&t.r, NET_RX);
		rig_run(&t.r);
		/* Not enough: nothing is given. */
		assert_false(rig_used(&t.r, NET_RX));
		assert_int_equal(t.r.dev->queues[NET_RX].in_flight, 0);
	}
	rig_add(&t.r, NET_RX, &(struct rig_buf){ p + 3 * 4096, 2600, true }, 1);
	rig_kick(&t.r, NET_RX);
	rig_run(&t.r);
	assert_int_equal(rig_get16(&t.r, t.r.queues[NET_RX].used + 2), 4);
	for (unsigned i = 0; i < 3; i++) {
		assert_int_equal(rig_take(&t.r, NET_RX), 2600);
	}
	assert_int_equal(rig_take(&t.r, NET_RX), HDR + 10000 - 3 * 2600);
	rig_get(&t.r, p, &h, HDR);
	assert_int_equal(h.num_buffers, 4);
	rig_get(&t.r, p + 3 * 4096 + HDR + 10000 - 3 * 2600 - 1, &last, 1);
	assert_int_equal(last, 'm');
	end(&t);
}

/* Without mergeable buffers, what does not fit one is dropped; the next one comes. */
static void test_too_large(void **state unused_arg)
{
	struct wire t;

	start(&t, BIT(VIRTIO_NET_F_MRG_RXBUF));
	uint64_t p = rig_alloc(&t.r, 4096);

	rig_add(&t.r, NET_RX, &(struct rig_buf){ p, 500, true }, 1);
	rig_kick(&t.r, NET_RX);
	host_sends(&t, 489, 'a');
	host_sends(&t, 488, 'b');
	assert_int_equal(rig_take(&t.r, NET_RX), 500);
	assert_int_equal(net_counts(t.r.dev).rx_dropped, 1);
	assert_int_equal(net_counts(t.r.dev).rx_packets, 1);
	end(&t);
}

/* A stream comes in parts. */
static void test_parts(void **state unused_arg)
{
	struct wire t;
	uint8_t frame[4 + FRAME] = { 0, 0, 0, FRAME };

	start(&t, 0);
	uint64_t p = rig_alloc(&t.r, 4096);

	rig_add(&t.r, NET_RX, &(struct rig_buf){ p, 2048, true }, 1);
	rig_kick(&t.r, NET_RX);
	for (unsigned i = 0; i < sizeof(frame); i++) {
		rig_run(&t.r);
		assert_false(rig_used(&t.r, NET_RX));
		assert_int_equal(sys_write_full(t.host, &frame[i], 1), 0);
	}
	assert_int_equal(rig_take(&t.r, NET_RX), HDR + FRAME);
	end(&t);
}

/* A peer that is gone, or that speaks something else: the link goes down, the device lives. */
static void test_link_down(void **state unused_arg)
{
	for (unsigned i = 0; i < 3; i++) {
		struct wire t;

		start(&t, 0);
		uint64_t p = rig_alloc(&t.r, 4096);

		if (i == 0) {
			fd_close(&t.host);
		} else {
			uint32_t len = htonl(i == 1 ? 0 : 70000);

			assert_int_equal(sys_write_full(t.host, &len, 4), 0);
		}
		rig_run(&t.r);
		assert_int_equal(rig_read(&t.r, VPCI_CONFIG + 6, 2), 0);
		assert_int_equal(t.r.msi[0], 1);
		assert_int_equal(rig_status(&t.r), 15);
		rig_add(&t.r, NET_TX, &(struct rig_buf){ p, HDR + FRAME, false }, 1);
		rig_kick(&t.r, NET_TX);
		assert_int_equal(rig_take(&t.r, NET_TX), 0);
		assert_int_equal(net_counts(t.r.dev).tx_dropped, 1);
		end(&t);
	}
}

static void test_bad_packets(void **state unused_arg)
{
	static const struct {
		unsigned queue;
		uint32_t len;
		bool     in;
	} rows[] = {
		{ NET_TX, HDR - 1, false },
		{ NET_TX, 1, false },
		{ NET_TX, 2048, true },
		{ NET_RX, 2048, false },
	};

	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		struct wire t;

		start(&t, 0);
		uint64_t p = rig_alloc(&t.r, 4096);

		host_sends(&t, FRAME, 'x');
		rig_add(&t.r, rows[i].queue, &(struct rig_buf){ p, rows[i].len, rows[i].in }, 1);
		rig_kick(&t.r, rows[i].queue);
		rig_run(&t.r);
		/* One that we may not write to has no room: the packet waits. The rest is wrong. */
		assert_int_equal(rig_status(&t.r),
				 rows[i].queue == NET_RX ? 15 : 15 | VIRTIO_CONFIG_S_NEEDS_RESET);
		rig_start(&t.r, 0);
		rig_add(&t.r, NET_RX, &(struct rig_buf){ p, 2048, true }, 1);
		rig_kick(&t.r, NET_RX);
		assert_int_equal(rig_take(&t.r, NET_RX), HDR + FRAME);
		end(&t);
	}
}

/* Pause: nothing moves; resume: all of it does. */
static void test_pause(void **state unused_arg)
{
	struct wire t;

	start(&t, 0);
	uint64_t p = rig_alloc(&t.r, 4096);

	assert_int_equal(vdev_pause(t.r.dev), 0);
	rig_add(&t.r, NET_RX, &(struct rig_buf){ p, 2048, true }, 1);
	rig_kick(&t.r, NET_RX);
	host_sends(&t, FRAME, 'x');
	rig_run(&t.r);
	assert_false(rig_used(&t.r, NET_RX));
	vdev_resume(t.r.dev);
	assert_int_equal(rig_take(&t.r, NET_RX), HDR + FRAME);
	end(&t);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_config),    cmocka_unit_test(test_send),
		cmocka_unit_test(test_denied),
		cmocka_unit_test(test_slow_peer), cmocka_unit_test(test_receive),
		cmocka_unit_test(test_mergeable), cmocka_unit_test(test_too_large),
		cmocka_unit_test(test_parts),     cmocka_unit_test(test_link_down),
		cmocka_unit_test(test_bad_packets), cmocka_unit_test(test_pause),
	};

	return TEST_RUN(tests);
}
