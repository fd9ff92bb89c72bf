/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The network interface behind a tap, with a packet socket on its other side, in a network
 * namespace of the test's own. Skipped where none can be made.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/if_ether.h>
#include <linux/if_packet.h>
#include <linux/if_tun.h>
#include <linux/virtio_net.h>
#include <net/if.h>
#include <netinet/ip.h>
#include <netinet/tcp.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>

#include "base/test.h"
#include "sys/file.h"
#include "sys/proc.h"
#include "sys/socket.h"
#include "vm/dev/net.h"
#include "vm/dev/test-rig.h"

enum { HDR = 12, ETHERTYPE = 0x88b5 };   /* a type for experiments: nobody else sends it */

struct tap {
	struct rig r;
	int        packet;    /* on the other side */
};

static int open_tap(void)
{
	struct ifreq ifr = { .ifr_flags = IFF_TAP | IFF_NO_PI | IFF_VNET_HDR };
	int fd = sys_openat(AT_FDCWD, "/dev/net/tun", O_RDWR, 0);

	(void)snprintf(ifr.ifr_name, sizeof(ifr.ifr_name), "tap0");
	if (fd >= 0 && sys_ioctl(fd, TUNSETIFF, &ifr) < 0) {
		fd_close(&fd);
	}
	return fd;
}

static void up(int packet)
{
	struct ifreq ifr = { .ifr_flags = IFF_UP | IFF_NOARP };

	(void)snprintf(ifr.ifr_name, sizeof(ifr.ifr_name), "tap0");
	assert_int_equal(sys_ioctl(packet, SIOCSIFFLAGS, &ifr), 0);
	assert_int_equal(sys_ioctl(packet, SIOCGIFINDEX, &ifr), 0);
	struct sockaddr_ll a = { .sll_family = AF_PACKET, .sll_protocol = htons(ETH_P_ALL),
				 .sll_ifindex = ifr.ifr_ifindex };

	assert_int_equal(sys_bind(packet, (struct sockaddr *)&a, sizeof(a)), 0);
}

static void start(struct tap *t)
{
	struct net_conf conf = { .fd = open_tap(), .mac = { 2, 0, 0, 0, 0, 1 } };

	assert_true(conf.fd >= 0);
	t->packet = sys_socket(AF_PACKET, SOCK_RAW | SOCK_NONBLOCK, htons(ETH_P_ALL));
	assert_true(t->packet >= 0);
	rig_init(&t->r, &vdev_net, &conf);
	rig_start(&t->r, 0);
	up(t->packet);
}

static void end(struct tap *t)
{
	fd_close(&t->packet);
	rig_fini(&t->r);
}

static size_t frame(uint8_t *out, uint16_t type, size_t payload)
{
	memset(out, 0xff, 6);
	memcpy(out + 6, "\x02\0\0\0\0\x01", 6);
	out[12] = (uint8_t)(type >> 8);
	out[13] = (uint8_t)type;
	for (size_t i = 0; i < payload; i++) {
		out[14 + i] = (uint8_t)i;
	}
	return 14 + payload;
}

struct want {
	int      fd;
	uint8_t *buf;
	size_t   n;
	uint16_t type;
};

/* A frame of that type came; others are the kernel's own. */
static bool came(struct rig *r unused_arg, void *ud)
{
	struct want *w = ud;
	ssize_t n = sys_read(w->fd, w->buf, 65536 + 14);

	w->n = n > 0 ? (size_t)n : 0;
	return n >= 14 && (w->buf[12] << 8 | w->buf[13]) == w->type;
}

static void test_both_ways(void **state unused_arg)
{
	struct tap t;
	static uint8_t sent[2048], got[65536 + 64];

	start(&t);
	uint64_t p = rig_alloc(&t.r, 4096);
	size_t n = frame(sent, ETHERTYPE, 100);
	struct want w = { .fd = t.packet, .buf = got, .type = ETHERTYPE };

	rig_put(&t.r, p + HDR, sent, n);
	rig_add(&t.r, NET_TX, &(struct rig_buf){ p, (uint32_t)(HDR + n), false }, 1);
	rig_kick(&t.r, NET_TX);
	assert_int_equal(rig_take(&t.r, NET_TX), 0);
	rig_until(&t.r, came, &w);
	assert_int_equal(w.n, n);
	assert_memory_equal(got, sent, n);

	/* The kernel's own packets come, too: take until ours is there. */
	assert_int_equal(sys_write(t.packet, sent, n), (ssize_t)n);
	for (unsigned i = 0; i < 50; i++) {
		struct virtio_net_hdr_v1 h;

		rig_add(&t.r, NET_RX, &(struct rig_buf){ p, 2048, true }, 1);
		rig_kick(&t.r, NET_RX);
		uint32_t len = rig_take(&t.r, NET_RX);

		rig_get(&t.r, p, got, len);
		memcpy(&h, got, HDR);
		assert_int_equal(h.num_buffers, 1);
		if (got[HDR + 12] == ETHERTYPE >> 8 && got[HDR + 13] == (ETHERTYPE & 0xff)) {
			assert_int_equal(len, HDR + n);
			assert_memory_equal(got + HDR, sent, n);
			end(&t);
			return;
		}
	}
	fail();
}

/* One large segment of TCP with its checksum left to the host. Spec: 5.1.6.2. */
static void test_segmentation(void **state unused_arg)
{
	enum { PAYLOAD = 30000, HEADERS = 14 + 20 + 20 };
	struct tap t;
	static uint8_t sent[HDR + HEADERS + PAYLOAD], got[65536 + 64];
	struct virtio_net_hdr_v1 h = {
		.flags = VIRTIO_NET_HDR_F_NEEDS_CSUM, .gso_type = VIRTIO_NET_HDR_GSO_TCPV4,
		.hdr_len = HEADERS, .gso_size = 1448, .csum_start = 34, .csum_offset = 16,
	};
	struct want w = { .buf = got, .type = ETH_P_IP };

	start(&t);
	uint64_t p = rig_alloc(&t.r, sizeof(sent));

	assert_true(t.r.dev->features & BIT(VIRTIO_NET_F_HOST_TSO4));
	memcpy(sent, &h, HDR);
	(void)frame(sent + HDR, ETH_P_IP, 40 + PAYLOAD); /* its length is known */
	struct iphdr ip = { .version = 4, .ihl = 5, .tot_len = htons(40 + PAYLOAD), .ttl = 64,
			    .protocol = IPPROTO_TCP, .saddr = htonl(0x0a000001),
			    .daddr = htonl(0x0a000002) };
	struct tcphdr tcp = { .source = htons(1), .dest = htons(2), .doff = 5, .ack = 1 };

	memcpy(sent + HDR + 14, &ip, 20);
	memcpy(sent + HDR + 34, &tcp, 20);
	rig_put(&t.r, p, sent, sizeof(sent));
	w.fd = t.packet;
	rig_add(&t.r, NET_TX, (struct rig_buf[]){ { p, HDR + 20, false },
						  { p + HDR + 20, sizeof(sent) - HDR - 20, false } },
		2);
	rig_kick(&t.r, NET_TX);
	assert_int_equal(rig_take(&t.r, NET_TX), 0);
	rig_until(&t.r, came, &w);
	/* Nobody had to cut it: whoever sends it on will. */
	assert_int_equal(w.n, HEADERS + PAYLOAD);
	assert_int_equal(net_counts(t.r.dev).tx_packets, 1);
	end(&t);
}

/* Headers that say what cannot be: the host refuses the packet, and nothing else happens. */
static void test_bad_headers(void **state unused_arg)
{
	static const struct virtio_net_hdr_v1 bad[] = {
		{ .flags = VIRTIO_NET_HDR_F_NEEDS_CSUM, .csum_start = 0xffff, .csum_offset = 0xffff },
		{ .gso_type = VIRTIO_NET_HDR_GSO_TCPV4, .gso_size = 0 },
		{ .gso_type = 0x7f, .gso_size = 100 },
		{ .gso_type = 5, .gso_size = 0xffff, .hdr_len = 0xffff },
		{ .hdr_len = 0xffff },
	};
	struct tap t;
	static uint8_t sent[HDR + 128], got[65536 + 64];
	struct want w = { .buf = got, .type = ETHERTYPE };

	start(&t);
	uint64_t p = rig_alloc(&t.r, sizeof(sent));

	w.fd = t.packet;
	for (size_t i = 0; i <= ARRAY_LEN(bad); i++) {
		static const struct virtio_net_hdr_v1 none;

		memcpy(sent, i < ARRAY_LEN(bad) ? &bad[i] : &none, HDR);
		(void)frame(sent + HDR, ETHERTYPE, 114); /* as above */
		rig_put(&t.r, p, sent, sizeof(sent));
		rig_add(&t.r, NET_TX, &(struct rig_buf){ p, sizeof(sent), false }, 1);
		rig_kick(&t.r, NET_TX);
		assert_int_equal(rig_take(&t.r, NET_TX), 0);
	}
	assert_int_equal(rig_status(&t.r), 15);
	rig_until(&t.r, came, &w);
	end(&t);
}

int main(void)
{
	int fd = sys_unshare(CLONE_NEWNET) == 0 ||
		 sys_unshare(CLONE_NEWUSER | CLONE_NEWNET) == 0 ? open_tap() : -1;

	if (fd < 0) {
		printf("no tap device can be made here\n");
		return 77;   /* what meson takes for skipped */
	}
	fd_close(&fd);
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_both_ways),
		cmocka_unit_test(test_segmentation),
		cmocka_unit_test(test_bad_headers),
	};

	return TEST_RUN(tests);
}
