/* SPDX-License-Identifier: Apache-2.0 */
/* One connection: data, credit, and the ways to end. */
#include <errno.h>
#include <string.h>
#include <sys/socket.h>

#include "base/mem.h"
#include "sys/file.h"
#include "sys/socket.h"
#include "vm/dev/iov.h"
#include "vm/dev/vsock-priv.h"

enum {
	BOTH_ENDS = VIRTIO_VSOCK_SHUTDOWN_RCV | VIRTIO_VSOCK_SHUTDOWN_SEND,
	PACKET_MAX = VSOCK_BUF,
};

struct conn *conn__new(struct vsock *s, enum conn_state state)
{
	struct conn *c = s->n_conns < VSOCK_CONNS_MAX ? mem_new(struct conn) : NULL;

	if (!c) {
		return NULL;
	}
	c->sock = s;
	c->state = state;
	c->fd = -1;
	c->deadline_ns = loop_now_ns(s->base.machine->loop) + VSOCK_PATIENCE_NS;
	list_init(&c->ready);
	list_add_tail(&s->conns, &c->link);
	s->n_conns++;
	s->n_lines += state == CONN_LINE;
	return c;
}

void conn__free(struct conn *c)
{
	c->sock->n_conns--;
	c->sock->n_lines -= c->state == CONN_LINE;
	list_del(&c->link);
	list_del(&c->ready);
	c->source = loop_fd_free(c->source);
	fd_close(&c->fd);
	if (c->told) {
		c->told(c->told_ctx, -ECONNREFUSED);
	}
	free(c->buf);
	free(c);
}

struct conn *conn__find(struct vsock *s, uint32_t guest_port, uint32_t host_port)
{
	list_for_each(struct conn, c, &s->conns, link) {
		if (c->state != CONN_LINE && c->guest_port == guest_port &&
		    c->host_port == host_port) {
			return c;
		}
	}
	return NULL;
}

void conn__ready(struct conn *c)
{
	if (list_empty(&c->ready)) {
		list_add_tail(&c->sock->ready, &c->ready);
	}
}

void conn__reset(struct conn *c)
{
	vsock__rst(c->sock, c->sock->config.guest_cid, c->guest_port, VSOCK_HOST_CID,
		   c->host_port);
	conn__free(c);
}

/* --- Credit. Spec: 5.10.6.3 Buffer Space Management --- */

/* Bytes that the guest has room for. The counters run round. */
static uint32_t room(const struct conn *c)
{
	uint32_t out = c->sent - c->peer_fwd;

	return out < c->peer_alloc ? c->peer_alloc - out : 0;
}

void conn__credit(struct conn *c, const struct virtio_vsock_hdr *h)
{
	c->peer_alloc = h->buf_alloc;
	c->peer_fwd = h->fwd_cnt;
	if (c->state == CONN_OPEN && room(c) > 0 && c->readable) {
		conn__ready(c);
	}
}

static void taken(struct conn *c, uint32_t n)
{
	c->fwd_cnt += n;
	/* Told before the guest runs out of what it knows of. */
	if (c->fwd_cnt - c->fwd_told >= VSOCK_BUF / 2) {
		c->send |= SEND_CREDIT;
		conn__ready(c);
	}
}

/* --- From the guest --- */

static bool buffer(struct conn *c, const struct vq_chain *chain, size_t off, uint32_t n)
{
	if (!c->buf) {
		c->buf = mem_calloc(1, VSOCK_BUF);
		c->buf_at = 0;
	}
	if (!c->buf) {
		return false;
	}
	while (n > 0) {
		uint32_t at = (c->buf_at + c->buf_len) % VSOCK_BUF;
		uint32_t part = MIN(n, (uint32_t)VSOCK_BUF - at);

		(void)iov_read(chain->iov, chain->n_out, off, c->buf + at, part); /* it is there */
		c->buf_len += part;
		off += part;
		n -= part;
	}
	return true;
}

/* Write to the socket without a signal. Bytes, -EAGAIN, or the socket's end. */
static ssize_t write_some(struct conn *c, const struct iovec *iov, unsigned n)
{
	struct msghdr m = { .msg_iov = (struct iovec *)iov, .msg_iovlen = n };

	return c->fd < 0 ? -EAGAIN : sys_sendmsg(c->fd, &m, MSG_DONTWAIT);
}

/* What we say of our ends. When both are gone, the guest is to end the connection, in time. */
static void say_shutdown(struct conn *c, uint32_t flags)
{
	c->shutdown_out |= flags;
	c->send |= SEND_SHUTDOWN;
	conn__ready(c);
	if ((c->shutdown_out & BOTH_ENDS) == BOTH_ENDS) {
		c->state = CONN_CLOSING;
		c->deadline_ns = loop_now_ns(c->sock->base.machine->loop) + VSOCK_PATIENCE_NS;
	}
}

/* The host does not want to hear more: what comes is thrown away, and the guest is told. */
static void host_deaf(struct conn *c)
{
	taken(c, c->buf_len);
	c->buf_len = 0;
	free(c->buf);
	c->buf = NULL;
	c->out_shut = true;
	say_shutdown(c, VIRTIO_VSOCK_SHUTDOWN_RCV);
}

void conn__data(struct conn *c, const struct virtio_vsock_hdr *h, const struct vq_chain *chain)
{
	struct iovec part[VQ_CHAIN_MAX];
	uint32_t done = 0;

	if (h->len > VSOCK_BUF - c->buf_len || (c->shutdown_in & VIRTIO_VSOCK_SHUTDOWN_SEND)) {
		conn__reset(c);   /* more than was promised, or after the end */
		return;
	}
	if (c->out_shut) {
		taken(c, h->len);
		return;
	}
	if (c->buf_len == 0) {
		unsigned n = iov_slice(chain->iov, chain->n_out, HDR_BYTES, h->len, part,
				       VQ_CHAIN_MAX);
		ssize_t r = n > 0 ? write_some(c, part, n) : 0;

		if (r < 0 && r != -EAGAIN) {
			taken(c, h->len);
			host_deaf(c);
			return;
		}
		done = r > 0 ? (uint32_t)r : 0;
		taken(c, done);
	}
	if (done < h->len && !buffer(c, chain, HDR_BYTES + done, h->len - done)) {
		conn__reset(c);
		return;
	}
	conn__watch(c);
}

void conn__shutdown(struct conn *c, uint32_t flags)
{
	c->shutdown_in |= flags & BOTH_ENDS;
	if ((flags & VIRTIO_VSOCK_SHUTDOWN_RCV) && c->fd >= 0) {
		ignore_result(sys_shutdown(c->fd, SHUT_RD)); /* whoever writes there is told */
	}
	conn__flush(c);
}

void conn__flush(struct conn *c)
{
	while (c->buf_len > 0 && !c->out_shut) {
		struct iovec v = { c->buf + c->buf_at, MIN(c->buf_len, VSOCK_BUF - c->buf_at) };
		ssize_t r = write_some(c, &v, 1);

		if (r == -EAGAIN) {
			break;
		}
		if (r < 0) {
			host_deaf(c);
			break;
		}
		c->buf_at = (c->buf_at + (uint32_t)r) % VSOCK_BUF;
		c->buf_len -= (uint32_t)r;
		taken(c, (uint32_t)r);
	}
	if (c->buf_len == 0) {
		free(c->buf);
		c->buf = NULL;
		if ((c->shutdown_in & VIRTIO_VSOCK_SHUTDOWN_SEND) && !c->out_shut && c->fd >= 0) {
			c->out_shut = true;
			ignore_result(sys_shutdown(c->fd, SHUT_WR)); /* it may be gone */
		}
		/* Spec: 5.10.6.6: both ends and nothing outstanding: a reset says it is over. */
		if ((c->shutdown_in & BOTH_ENDS) == BOTH_ENDS) {
			conn__reset(c);
			return;
		}
	}
	conn__watch(c);
}

/* --- To the guest --- */

void conn__watch(struct conn *c)
{
	bool works = vdev_works(&c->sock->base);
	bool in = works && !c->readable && !c->host_end &&
		  (c->state == CONN_LINE || c->state == CONN_OPEN);
	bool out = works && c->buf_len > 0 && !c->out_shut;

	if (c->source) {
		ignore_result(loop_fd_set(c->source, (in ? LOOP_IN : 0u) |
						     (out ? LOOP_OUT : 0u))); /* epoll_ctl */
	}
}

size_t conn__header(struct vsock *s, const struct vq_chain *chain, const struct conn *c,
		    uint16_t op, uint32_t len, uint32_t flags)
{
	struct virtio_vsock_hdr h = {
		.src_cid = VSOCK_HOST_CID, .dst_cid = s->config.guest_cid,
		.src_port = c->host_port, .dst_port = c->guest_port,
		.len = len, .type = VIRTIO_VSOCK_TYPE_STREAM, .op = op, .flags = flags,
		.buf_alloc = VSOCK_BUF, .fwd_cnt = c->fwd_cnt,
	};

	return iov_write(vq_in(chain), chain->n_in, 0, &h, HDR_BYTES);
}

/* The host will not send more. If it cannot hear either, the guest is to end it all. */
static void host_ended(struct conn *c, bool all)
{
	c->host_end = true;
	c->readable = false;
	say_shutdown(c, all ? BOTH_ENDS : VIRTIO_VSOCK_SHUTDOWN_SEND);
}

/* Is the socket closed at the other end, and not only for writing? */
static bool hung_up(const struct conn *c)
{
	struct iovec none = { (uint8_t *)"", 0 };
	struct msghdr m = { .msg_iov = &none, .msg_iovlen = 1 };
	ssize_t r = c->fd < 0 ? -EPIPE : sys_sendmsg(c->fd, &m, MSG_DONTWAIT);

	return r < 0 && r != -EAGAIN && !c->out_shut;
}

static size_t data_packet(struct conn *c, const struct vq_chain *chain)
{
	struct iovec part[VQ_CHAIN_MAX];
	size_t max = MIN(MIN((size_t)room(c), chain->in_bytes - HDR_BYTES), (size_t)PACKET_MAX);
	ssize_t r;

	if (!c->readable || c->host_end || c->state != CONN_OPEN || max == 0 ||
	    (c->shutdown_in & VIRTIO_VSOCK_SHUTDOWN_RCV)) {
		return 0;
	}
	r = sys_readv(c->fd, part, iov_slice(vq_in(chain), chain->n_in, HDR_BYTES, max, part,
					     VQ_CHAIN_MAX));
	if (r == -EAGAIN) {
		c->readable = false;
		return 0;
	}
	if (r <= 0) {
		host_ended(c, r < 0 || hung_up(c));
		return 0;
	}
	c->sent += (uint32_t)r;
	c->fwd_told = c->fwd_cnt;
	return conn__header(c->sock, chain, c, VIRTIO_VSOCK_OP_RW, (uint32_t)r, 0) + (size_t)r;
}

static size_t control_packet(struct conn *c, const struct vq_chain *chain)
{
	static const struct {
		unsigned send;
		uint16_t op;
	} rows[] = {
		{ SEND_REQUEST, VIRTIO_VSOCK_OP_REQUEST },
		{ SEND_RESPONSE, VIRTIO_VSOCK_OP_RESPONSE },
		{ SEND_CREDIT, VIRTIO_VSOCK_OP_CREDIT_UPDATE },
		{ SEND_CREDIT_REQUEST, VIRTIO_VSOCK_OP_CREDIT_REQUEST },
		{ SEND_SHUTDOWN, VIRTIO_VSOCK_OP_SHUTDOWN },
	};

	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		if (c->send & rows[i].send) {
			c->send &= ~rows[i].send;
			c->fwd_told = c->fwd_cnt;
			return conn__header(c->sock, chain, c, rows[i].op, 0,
					    rows[i].send == SEND_SHUTDOWN ? c->shutdown_out : 0);
		}
	}
	return 0;
}

size_t conn__packet(struct conn *c, const struct vq_chain *chain)
{
	/* The shutdown says that no data follows: it goes last, which it does, as it is asked
	 * for only once the descriptor was read to its end. */
	size_t n = control_packet(c, chain);

	if (n == 0) {
		n = data_packet(c, chain);
	}
	return n > 0 ? n : control_packet(c, chain);
}
