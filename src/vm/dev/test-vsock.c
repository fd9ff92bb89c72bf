/* SPDX-License-Identifier: Apache-2.0 */
/* Connections between guest and host. Spec: virtio 1.2, 5.10. */
#include <errno.h>
#include <fcntl.h>
#include <linux/virtio_vsock.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>

#include "base/test.h"
#include "sys/file.h"
#include "sys/socket.h"
#include "vm/dev/test-rig.h"
#include "vm/dev/vsock.h"

enum { HDR = 44, CID = 3, BOTH = VIRTIO_VSOCK_SHUTDOWN_RCV | VIRTIO_VSOCK_SHUTDOWN_SEND };

struct pair {
	struct rig r;
	int        listener;       /* ours of the same socket, to connect to */
	struct sockaddr_un addr;
	socklen_t  addr_len;
	uint64_t   rx, tx;
	unsigned   rx_next;
	uint64_t   ticket;         /* of the last question */
	uint32_t   asked_port;
	unsigned   questions;
	struct virtio_vsock_hdr h; /* the last packet from the device */
	uint8_t    data[8192];
	uint32_t   guest_fwd;
};

static void on_ask(void *ctx, uint32_t port, uint64_t ticket)
{
	struct pair *t = ctx;

	t->asked_port = port;
	t->ticket = ticket;
	t->questions++;
}

enum { RX_BYTES = 4096, RX_BUFS = 64 };

static void give_rx(struct pair *t, unsigned n)
{
	for (unsigned i = 0; i < n; i++) {
		rig_add(&t->r, VSOCK_RX, &(struct rig_buf){ t->rx + (t->rx_next++ % RX_BUFS) *
									    RX_BYTES, RX_BYTES,
							    true }, 1);
	}
	rig_kick(&t->r, VSOCK_RX);
}

static void start_with(struct pair *t, unsigned bufs)
{
	memset(t, 0, sizeof(*t));
	t->listener = sys_socket(AF_UNIX, SOCK_STREAM, 0);
	assert_true(t->listener >= 0);
	/* An address that the kernel picks, and that no file stands for. */
	t->addr.sun_family = AF_UNIX;
	assert_int_equal(sys_bind(t->listener, (struct sockaddr *)&t->addr, sizeof(sa_family_t)), 0);
	t->addr_len = sizeof(t->addr);
	assert_int_equal(getsockname(t->listener, (struct sockaddr *)&t->addr, &t->addr_len), 0);
	assert_int_equal(sys_listen(t->listener, 600), 0);
	struct vsock_conf conf = { .guest_cid = CID, .listen_fd = sys_dup(t->listener),
				   .ask = on_ask, .ctx = t };

	rig_init(&t->r, &vdev_vsock, &conf);
	rig_start(&t->r, 0);
	t->rx = rig_alloc(&t->r, RX_BYTES * RX_BUFS);
	t->tx = rig_alloc(&t->r, 128 << 10);
	give_rx(t, bufs);
}

static void start(struct pair *t)
{
	start_with(t, 32);
}

static void end(struct pair *t)
{
	rig_fini(&t->r);
	fd_close(&t->listener);
}

static void send_raw(struct pair *t, const struct virtio_vsock_hdr *h, const void *data)
{
	rig_put(&t->r, t->tx, h, HDR);
	if (h->len > 0 && data) {
		rig_put(&t->r, t->tx + HDR, data, h->len);
	}
	rig_add(&t->r, VSOCK_TX, &(struct rig_buf){ t->tx, HDR + h->len, false }, 1);
	rig_kick(&t->r, VSOCK_TX);
	(void)rig_take(&t->r, VSOCK_TX); /* 0 */
}

static struct virtio_vsock_hdr packet(struct pair *t, uint32_t guest_port, uint32_t host_port,
				      uint16_t op)
{
	return (struct virtio_vsock_hdr){
		.src_cid = CID, .dst_cid = VSOCK_HOST_CID, .src_port = guest_port,
		.dst_port = host_port, .type = VIRTIO_VSOCK_TYPE_STREAM, .op = op,
		.buf_alloc = 64 << 10, .fwd_cnt = t->guest_fwd,
	};
}

static void send_op(struct pair *t, uint32_t guest_port, uint32_t host_port, uint16_t op)
{
	struct virtio_vsock_hdr h = packet(t, guest_port, host_port, op);

	send_raw(t, &h, NULL);
}

/* The next packet for the guest: op, into t->h and t->data. The buffer goes back. */
static uint16_t take(struct pair *t)
{
	uint32_t n = rig_take(&t->r, VSOCK_RX);
	uint64_t at = 0;
	struct vring_desc d;

	rig_get(&t->r, t->r.queues[VSOCK_RX].desc + t->r.last_head * 16, &d, sizeof(d));
	at = d.addr;
	assert_true(n >= HDR);
	rig_get(&t->r, at, &t->h, HDR);
	assert_int_equal(t->h.len, n - HDR);
	assert_int_equal(t->h.dst_cid, CID);
	rig_get(&t->r, at + HDR, t->data, t->h.len);
	give_rx(t, 1);
	return t->h.op;
}

static int host_connects(struct pair *t, const char *line)
{
	int fd = sys_socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0);

	assert_true(fd >= 0);
	assert_int_equal(sys_connect(fd, (struct sockaddr *)&t->addr, t->addr_len), 0);
	assert_int_equal(sys_write_full(fd, line, strlen(line)), 0);
	return fd;
}

struct text_wait {
	int    fd;
	size_t have, want;
	char  *text;
	bool   eof;
};

static bool more_text(struct rig *r unused_arg, void *ud)
{
	struct text_wait *w = ud;
	ssize_t n = sys_read(w->fd, w->text + w->have, w->want - w->have);

	w->eof = n == 0 || (n < 0 && n != -EAGAIN);
	w->have += n > 0 ? (size_t)n : 0;
	return w->have == w->want || w->eof;
}

static void host_reads(struct pair *t, int fd, const char *want)
{
	char text[256] = "";
	struct text_wait w = { .fd = fd, .want = strlen(want), .text = text };

	rig_until(&t->r, more_text, &w);
	assert_string_equal(text, want);
}

static void host_end(struct pair *t, int fd)
{
	char c;
	struct text_wait w = { .fd = fd, .want = 1, .text = &c };

	rig_until(&t->r, more_text, &w);
	assert_true(w.eof);
}

/* An open connection that the host began, with its first bytes behind the line. */
static int open_from_host(struct pair *t, uint32_t port)
{
	char line[64];

	(void)snprintf(line, sizeof(line), "CONNECT %u\n", port);
	int fd = host_connects(t, line);

	assert_int_equal(take(t), VIRTIO_VSOCK_OP_REQUEST);
	assert_int_equal(t->h.dst_port, port);
	assert_int_equal(t->h.src_cid, VSOCK_HOST_CID);
	assert_int_equal(t->h.buf_alloc, VSOCK_BUF);
	uint32_t host_port = t->h.src_port;

	send_op(t, port, host_port, VIRTIO_VSOCK_OP_RESPONSE);
	(void)snprintf(line, sizeof(line), "OK %u\n", host_port);
	host_reads(t, fd, line);
	t->h.src_port = host_port;
	return fd;
}

static int open_from_guest(struct pair *t, uint32_t guest_port, uint32_t port)
{
	int fds[2];

	send_op(t, guest_port, port, VIRTIO_VSOCK_OP_REQUEST);
	assert_int_equal(t->asked_port, port);
	assert_int_equal(sys_socketpair(SOCK_STREAM | SOCK_NONBLOCK, fds), 0);
	vsock_answer(t->r.dev, t->ticket, fds[0]);
	assert_int_equal(take(t), VIRTIO_VSOCK_OP_RESPONSE);
	assert_int_equal(t->h.dst_port, guest_port);
	return fds[1];
}

static void guest_writes(struct pair *t, uint32_t guest_port, uint32_t host_port,
			 const void *data, uint32_t n)
{
	struct virtio_vsock_hdr h = packet(t, guest_port, host_port, VIRTIO_VSOCK_OP_RW);

	h.len = n;
	send_raw(t, &h, data);
}

static void test_host_to_guest(void **state unused_arg)
{
	struct pair t;

	start(&t);
	int fd = open_from_host(&t, 1024);
	uint32_t port = t.h.src_port;

	assert_int_equal(sys_write_full(fd, "ping", 4), 0);
	assert_int_equal(take(&t), VIRTIO_VSOCK_OP_RW);
	assert_memory_equal(t.data, "ping", 4);
	guest_writes(&t, 1024, port, "pong", 4);
	host_reads(&t, fd, "pong");
	/* The guest ends both: a reset says that it is over. */
	struct virtio_vsock_hdr h = packet(&t, 1024, port, VIRTIO_VSOCK_OP_SHUTDOWN);

	h.flags = BOTH;
	send_raw(&t, &h, NULL);
	assert_int_equal(take(&t), VIRTIO_VSOCK_OP_RST);
	host_end(&t, fd);
	assert_int_equal(vsock_connections(t.r.dev), 0);
	fd_close(&fd);
	end(&t);
}

static void test_guest_to_host(void **state unused_arg)
{
	struct pair t;

	start(&t);
	int fd = open_from_guest(&t, 5000, 80);

	guest_writes(&t, 5000, 80, "GET", 3);
	host_reads(&t, fd, "GET");
	assert_int_equal(sys_write_full(fd, "200", 3), 0);
	assert_int_equal(take(&t), VIRTIO_VSOCK_OP_RW);
	assert_memory_equal(t.data, "200", 3);
	fd_close(&fd);
	assert_int_equal(take(&t), VIRTIO_VSOCK_OP_SHUTDOWN);
	assert_int_equal(t.h.flags, BOTH);
	send_op(&t, 5000, 80, VIRTIO_VSOCK_OP_RST);
	assert_int_equal(vsock_connections(t.r.dev), 0);

	/* Refused by the owner. */
	send_op(&t, 5001, 81, VIRTIO_VSOCK_OP_REQUEST);
	vsock_answer(t.r.dev, t.ticket, -1);
	assert_int_equal(take(&t), VIRTIO_VSOCK_OP_RST);
	/* The guest gives up before the answer comes. */
	send_op(&t, 5002, 82, VIRTIO_VSOCK_OP_REQUEST);
	send_op(&t, 5002, 82, VIRTIO_VSOCK_OP_RST);
	int fds[2];

	assert_int_equal(sys_socketpair(SOCK_STREAM | SOCK_NONBLOCK, fds), 0);
	vsock_answer(t.r.dev, t.ticket, fds[0]);
	host_end(&t, fds[1]);
	fd_close(&fds[1]);
	end(&t);
}

/* Each side may end alone. */
static void test_half_close(void **state unused_arg)
{
	struct pair t;

	start(&t);
	int fd = open_from_guest(&t, 5000, 80);
	struct virtio_vsock_hdr h = packet(&t, 5000, 80, VIRTIO_VSOCK_OP_SHUTDOWN);

	h.flags = VIRTIO_VSOCK_SHUTDOWN_SEND;
	send_raw(&t, &h, NULL);
	host_end(&t, fd);
	assert_int_equal(sys_write_full(fd, "still", 5), 0);
	assert_int_equal(take(&t), VIRTIO_VSOCK_OP_RW);
	fd_close(&fd);
	assert_int_equal(take(&t), VIRTIO_VSOCK_OP_SHUTDOWN);
	send_op(&t, 5000, 80, VIRTIO_VSOCK_OP_RST);

	fd = open_from_guest(&t, 5001, 80);
	assert_int_equal(sys_shutdown(fd, SHUT_WR), 0);
	assert_int_equal(take(&t), VIRTIO_VSOCK_OP_SHUTDOWN);
	assert_int_equal(t.h.flags, VIRTIO_VSOCK_SHUTDOWN_SEND);
	guest_writes(&t, 5001, 80, "heard", 5);
	host_reads(&t, fd, "heard");
	h = packet(&t, 5001, 80, VIRTIO_VSOCK_OP_SHUTDOWN);
	h.flags = BOTH;
	send_raw(&t, &h, NULL);
	assert_int_equal(take(&t), VIRTIO_VSOCK_OP_RST);
	host_end(&t, fd);
	assert_int_equal(vsock_connections(t.r.dev), 0);
	fd_close(&fd);
	end(&t);
}

/* Spec: 5.10.6.3: nothing beyond what the guest has room for. */
static void test_credit_to_guest(void **state unused_arg)
{
	struct pair t;
	static char block[32768];
	uint32_t got = 0;

	start(&t);
	int fd = open_from_guest(&t, 5000, 80);
	struct virtio_vsock_hdr h = packet(&t, 5000, 80, VIRTIO_VSOCK_OP_CREDIT_UPDATE);

	h.buf_alloc = 10000;
	send_raw(&t, &h, NULL);
	assert_int_equal(sys_write_full(fd, block, sizeof(block)), 0);
	while (got < 10000) {
		assert_int_equal(take(&t), VIRTIO_VSOCK_OP_RW);
		got += t.h.len;
	}
	rig_run(&t.r);
	assert_int_equal(got, 10000);
	assert_false(rig_used(&t.r, VSOCK_RX));
	/* A nonsense count gives no credit. */
	h.fwd_cnt = 20000;
	send_raw(&t, &h, NULL);
	assert_false(rig_used(&t.r, VSOCK_RX));
	h.fwd_cnt = 5000;
	send_raw(&t, &h, NULL);
	while (got < 15000) {
		assert_int_equal(take(&t), VIRTIO_VSOCK_OP_RW);
		got += t.h.len;
	}
	rig_run(&t.r);
	assert_int_equal(got, 15000);
	assert_false(rig_used(&t.r, VSOCK_RX));
	fd_close(&fd);
	end(&t);
}

/* The guest may send VSOCK_BUF that nobody reads, and not a byte more. */
static void test_credit_from_guest(void **state unused_arg)
{
	for (unsigned over = 0; over < 2; over++) {
		struct pair t;
		static uint8_t block[16384];
		uint32_t sent = 0, told = 0;

		start(&t);
		int fd = open_from_guest(&t, 5000, 80);

		while (sent - told + sizeof(block) <= VSOCK_BUF) {
			memset(block, (int)(sent / sizeof(block)), sizeof(block));
			guest_writes(&t, 5000, 80, block, sizeof(block));
			sent += sizeof(block);
			while (rig_used(&t.r, VSOCK_RX)) {
				assert_int_equal(take(&t), VIRTIO_VSOCK_OP_CREDIT_UPDATE);
				told = t.h.fwd_cnt;
			}
		}
		/* The socket has taken some, our buffer the rest. */
		uint32_t left = VSOCK_BUF - (sent - told);

		if (over) {
			guest_writes(&t, 5000, 80, block, sizeof(block));
			guest_writes(&t, 5000, 80, block, sizeof(block));
			guest_writes(&t, 5000, 80, block, sizeof(block));
			assert_int_equal(take(&t), VIRTIO_VSOCK_OP_RST);
			assert_int_equal(vsock_connections(t.r.dev), 0);
		} else {
			for (uint32_t got = 0; got < sent;) {
				uint8_t part[4096];
				ssize_t n = sys_read(fd, part, sizeof(part));

				assert_true(n > 0 || n == -EAGAIN);
				for (ssize_t i = 0; i < n; i++, got++) {
					assert_int_equal(part[i], (uint8_t)(got / sizeof(block)));
				}
				rig_run(&t.r);
			}
			while (rig_used(&t.r, VSOCK_RX)) {
				assert_int_equal(take(&t), VIRTIO_VSOCK_OP_CREDIT_UPDATE);
			}
			assert_true(t.h.fwd_cnt > told || left > 0);
		}
		fd_close(&fd);
		end(&t);
	}
}

/* A client that does not keep to the line, and one whose port nobody listens on. */
static void test_lines(void **state unused_arg)
{
	static const char *const bad[] = {
		"\n", "CONNECT\n", "CONNECT \n", "CONNECT x\n", "CONNECT -1\n",
		"CONNECT 4294967295\n", "CONNECT 99999999999\n", "connect 1024\n", "CONNECT 1 2\n",
		"CONNECT 1024                       ", "GET / HTTP/1.1\r\n",
	};
	struct pair t;

	start(&t);
	for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
		int fd = host_connects(&t, bad[i]);

		host_end(&t, fd);
		assert_int_equal(vsock_connections(t.r.dev), 0);
		fd_close(&fd);
	}
	int fd = host_connects(&t, "CONNECT 7\n");

	assert_int_equal(take(&t), VIRTIO_VSOCK_OP_REQUEST);
	send_op(&t, 7, t.h.src_port, VIRTIO_VSOCK_OP_RST);
	host_end(&t, fd);
	fd_close(&fd);
	end(&t);
}

/* What stands behind the line already belongs to the connection. */
static void test_early_data(void **state unused_arg)
{
	struct pair t;

	start(&t);
	int fd = host_connects(&t, "CONNECT 1024\nearly");

	assert_int_equal(take(&t), VIRTIO_VSOCK_OP_REQUEST);
	send_op(&t, 1024, t.h.src_port, VIRTIO_VSOCK_OP_RESPONSE);
	assert_int_equal(take(&t), VIRTIO_VSOCK_OP_RW);
	assert_int_equal(t.h.len, 5);
	assert_memory_equal(t.data, "early", 5);
	fd_close(&fd);
	end(&t);
}

/* Many at once, of both directions; the bound holds, and beyond it the guest gets resets. */
static void test_many(void **state unused_arg)
{
	struct pair t;
	int fds[64];
	char text[16];

	start(&t);
	for (unsigned i = 0; i < ARRAY_LEN(fds); i++) {
		fds[i] = i % 2 ? open_from_host(&t, 1024) : open_from_guest(&t, 6000 + i, 80);
		t.data[0] = 0;
		if (i % 2) {
			(void)snprintf(text, sizeof(text), "%u", t.h.src_port);
			assert_int_equal(sys_write_full(fds[i], text, strlen(text)), 0);
			uint32_t port = t.h.src_port;

			assert_int_equal(take(&t), VIRTIO_VSOCK_OP_RW);
			assert_int_equal(t.h.src_port, port);
			assert_memory_equal(t.data, text, strlen(text));
		}
	}
	assert_int_equal(vsock_connections(t.r.dev), ARRAY_LEN(fds));
	for (unsigned i = 0; i < VSOCK_CONNS_MAX + 10; i++) {
		send_op(&t, 10000 + i, 99, VIRTIO_VSOCK_OP_REQUEST);
		while (rig_used(&t.r, VSOCK_RX)) {
			assert_int_equal(take(&t), VIRTIO_VSOCK_OP_RST);
		}
	}
	assert_int_equal(vsock_connections(t.r.dev), VSOCK_CONNS_MAX);
	rig_reset(&t.r);
	assert_int_equal(vsock_connections(t.r.dev), 0);
	for (unsigned i = 0; i < ARRAY_LEN(fds); i++) {
		host_end(&t, fds[i]);
		fd_close(&fds[i]);
	}
	end(&t);
}

/* No buffers for answers: packets wait in the ring, and nothing grows. */
static void test_no_rx(void **state unused_arg)
{
	struct pair t;
	struct virtio_vsock_hdr h;

	start_with(&t, 0);
	h = packet(&t, 1, 2, VIRTIO_VSOCK_OP_RW);
	rig_put(&t.r, t.tx, &h, HDR);
	for (unsigned i = 0; i < 100; i++) {
		rig_add(&t.r, VSOCK_TX, &(struct rig_buf){ t.tx, HDR, false }, 1);
	}
	rig_kick(&t.r, VSOCK_TX);
	rig_run(&t.r);
	assert_in_range(rig_get16(&t.r, t.r.queues[VSOCK_TX].used + 2), 60, 64);
	give_rx(&t, 32);
	for (unsigned i = 0; i < 100; i++) {
		assert_int_equal(take(&t), VIRTIO_VSOCK_OP_RST);
	}
	rig_run(&t.r);
	assert_int_equal(rig_get16(&t.r, t.r.queues[VSOCK_TX].used + 2), 100);
	end(&t);
}

/* Every operation for a connection that is not there, from wrong addresses, of unknown kinds. */
static void test_strange(void **state unused_arg)
{
	struct pair t;
	struct virtio_vsock_hdr h;

	start(&t);
	for (unsigned op = 0; op < 12; op++) {
		send_op(&t, 1, 2, (uint16_t)op);
		if (op == VIRTIO_VSOCK_OP_REQUEST) {
			assert_int_equal(t.questions, 1);
			vsock_answer(t.r.dev, t.ticket, -1);
		}
		if (op != VIRTIO_VSOCK_OP_RST) {
			assert_int_equal(take(&t), VIRTIO_VSOCK_OP_RST);
			assert_int_equal(t.h.dst_port, 1);
			assert_int_equal(t.h.src_port, 2);
		}
	}
	for (unsigned i = 0; i < 3; i++) {
		h = packet(&t, 1, 2, VIRTIO_VSOCK_OP_REQUEST);
		h.dst_cid = i == 0 ? 77 : h.dst_cid;
		h.type = i == 1 ? 2 : h.type;
		h.src_cid = i == 2 ? CID : h.src_cid;
		if (i < 2) {
			send_raw(&t, &h, NULL);
			assert_int_equal(take(&t), VIRTIO_VSOCK_OP_RST);
		}
	}
	assert_int_equal(t.questions, 1);
	/* On an open one: what does not belong there ends it, alone. */
	for (unsigned op = 0; op < 12; op++) {
		int fd = open_from_guest(&t, 100 + op, 80), other = open_from_guest(&t, 99, 80);

		send_op(&t, 100 + op, 80, (uint16_t)op);
		rig_run(&t.r);
		if (op == VIRTIO_VSOCK_OP_CREDIT_REQUEST) {
			assert_int_equal(take(&t), VIRTIO_VSOCK_OP_CREDIT_UPDATE);
		} else if (op < VIRTIO_VSOCK_OP_RST || op == VIRTIO_VSOCK_OP_REQUEST ||
			   op == VIRTIO_VSOCK_OP_RESPONSE || op > VIRTIO_VSOCK_OP_CREDIT_REQUEST) {
			assert_int_equal(take(&t), VIRTIO_VSOCK_OP_RST);
			assert_int_equal(vsock_connections(t.r.dev), 1);
		}
		rig_reset(&t.r);
		rig_start(&t.r, 0);
		give_rx(&t, 32);
		fd_close(&fd);
		fd_close(&other);
	}
	assert_int_equal(t.r.dev->faults, 0);
	end(&t);
}

static void test_faults(void **state unused_arg)
{
	for (unsigned i = 0; i < 5; i++) {
		struct pair t;
		struct virtio_vsock_hdr h;

		start_with(&t, 0);
		h = packet(&t, 1, 2, VIRTIO_VSOCK_OP_RW);
		h.len = i == 1 ? 1 : i == 2 ? UINT32_MAX : 0;
		rig_put(&t.r, t.tx, &h, HDR);
		rig_add(&t.r, VSOCK_TX, &(struct rig_buf){ t.tx, i == 0 ? HDR - 1 : HDR,
							   i == 3 }, 1);
		rig_kick(&t.r, VSOCK_TX);
		if (i == 4) {
			rig_add(&t.r, VSOCK_RX, &(struct rig_buf){ t.rx, HDR - 1, true }, 1);
			rig_kick(&t.r, VSOCK_RX);
		}
		rig_run(&t.r);
		assert_int_equal(rig_status(&t.r), 15 | VIRTIO_CONFIG_S_NEEDS_RESET);
		rig_start(&t.r, 0);
		give_rx(&t, 4);
		int fd = open_from_guest(&t, 1, 2);

		fd_close(&fd);
		end(&t);
	}
}

/* Pausing keeps connections and what is in them. */
static void test_pause(void **state unused_arg)
{
	struct pair t;

	start(&t);
	int fd = open_from_host(&t, 1024);

	assert_int_equal(vdev_pause(t.r.dev), 0);
	assert_int_equal(sys_write_full(fd, "later", 5), 0);
	rig_run(&t.r);
	assert_false(rig_used(&t.r, VSOCK_RX));
	vdev_resume(t.r.dev);
	assert_int_equal(take(&t), VIRTIO_VSOCK_OP_RW);
	assert_memory_equal(t.data, "later", 5);
	fd_close(&fd);
	end(&t);
}

static void on_told(void *ctx, int r)
{
	*(int *)ctx = r;
}

/* A connection that is asked for by a call: told once, with the socket untouched. */
static void connects_by_call(void **state)
{
	struct pair t;
	int fds[2] = { -1, -1 }, told = 1;
	char text[8] = "";

	(void)state;
	start(&t);
	assert_int_equal(sys_socketpair(SOCK_STREAM, fds), 0);
	assert_int_equal(vsock_connect(t.r.dev, 80, fds[0], on_told, &told), 0);
	assert_int_equal(take(&t), VIRTIO_VSOCK_OP_REQUEST);
	assert_int_equal(t.h.dst_port, 80);
	assert_int_equal(told, 1);
	uint32_t port = t.h.src_port;

	send_op(&t, 80, port, VIRTIO_VSOCK_OP_RESPONSE);
	assert_int_equal(told, 0);
	struct virtio_vsock_hdr h = packet(&t, 80, port, VIRTIO_VSOCK_OP_RW);

	h.len = 4;
	send_raw(&t, &h, "data");
	assert_int_equal(sys_read(fds[1], text, sizeof(text)), 4);
	assert_memory_equal(text, "data", 4);
	fd_close(&fds[1]);

	/* Refused, and ended together with the device. */
	for (unsigned i = 0; i < 2; i++) {
		told = 1;
		assert_int_equal(sys_socketpair(SOCK_STREAM, fds), 0);
		assert_int_equal(vsock_connect(t.r.dev, 81, fds[0], on_told, &told), 0);
		while (take(&t) != VIRTIO_VSOCK_OP_REQUEST) {
		}
		if (i == 0) {
			send_op(&t, 81, t.h.src_port, VIRTIO_VSOCK_OP_RST);
			assert_int_equal(told, -ECONNREFUSED);
		}
		fd_close(&fds[1]);
	}
	end(&t);
	assert_int_equal(told, -ECONNREFUSED);
}

/* Who would have answered is gone. */
static void nobody_answers(void **state)
{
	struct pair t;

	(void)state;
	start(&t);
	for (uint32_t port = 1; port <= 3; port++) {
		send_op(&t, 1000 + port, port, VIRTIO_VSOCK_OP_REQUEST);
	}
	assert_int_equal(t.questions, 3);
	assert_int_equal(vsock_connections(t.r.dev), 3);
	vsock_refuse_asked(t.r.dev);
	for (uint32_t port = 1; port <= 3; port++) {
		assert_int_equal(take(&t), VIRTIO_VSOCK_OP_RST);
	}
	assert_int_equal(vsock_connections(t.r.dev), 0);
	end(&t);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(connects_by_call),
		cmocka_unit_test(nobody_answers),
		cmocka_unit_test(test_host_to_guest),
		cmocka_unit_test(test_guest_to_host),
		cmocka_unit_test(test_half_close),
		cmocka_unit_test(test_credit_to_guest),
		cmocka_unit_test(test_credit_from_guest),
		cmocka_unit_test(test_lines),
		cmocka_unit_test(test_early_data),
		cmocka_unit_test(test_many),
		cmocka_unit_test(test_no_rx),
		cmocka_unit_test(test_strange),
		cmocka_unit_test(test_faults),
		cmocka_unit_test(test_pause),
	};

	return TEST_RUN(tests);
}
