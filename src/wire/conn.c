/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One end of a connection.
 *
 * Descriptors arrive with the first byte of the frame they belong to, so by the time that a
 * frame is whole its descriptors are there, in order, whatever way the bytes were cut.
 */
#include <errno.h>
#include <fcntl.h>
#include <string.h>

#include "base/fd.h"
#include "base/mem.h"
#include "sys/socket.h"
#include "wire/wire.h"

enum { READ_BYTES = 4096 };

static_assert((int)WIRE_FDS_MAX <= (int)SOCK_FDS_MAX, "a frame's descriptors fit one message");

struct out_frame {
	struct list link;
	size_t      len, sent;
	int         fds[WIRE_FDS_MAX];   /* owned copies */
	size_t      n_fds;
	char        data[];
};

void wire_conn_init(struct wire_conn *c, int own_fd, uint16_t version)
{
	*c = (struct wire_conn){ .fd = own_fd, .version = version, .in = BUF_INIT };
	list_init(&c->out);
}

static void out_free(struct wire_conn *c, struct out_frame *o)
{
	for (size_t i = 0; i < o->n_fds; i++) {
		fd_close(&o->fds[i]);
	}
	c->out_bytes -= o->len;
	list_del(&o->link);
	free(o);
}

void wire_conn_fini(struct wire_conn *c)
{
	list_for_each_safe (struct out_frame, o, &c->out, link) {
		out_free(c, o);
	}
	for (size_t i = 0; i < c->n_in_fds; i++) {
		fd_close(&c->in_fds[i]);
	}
	c->n_in_fds = 0;
	buf_fini(&c->in);
	fd_close(&c->fd);
}

/* Forget what was handed out, and the memory when nothing is left. */
static void compact(struct wire_conn *c)
{
	if (c->in_used == 0) {
		return;
	}
	if (c->in_used == c->in.len) {
		buf_fini(&c->in);
	} else {
		buf_drop(&c->in, c->in_used);
	}
	c->in_used = 0;
}

int wire_conn_fill(struct wire_conn *c)
{
	char bytes[READ_BYTES];
	size_t n_fds = 0;

	compact(c);
	if (c->in.len >= WIRE_FRAME_MAX + READ_BYTES) {
		return -EBADMSG; /* the owner did not take its frames */
	}
	ssize_t r = sock_recv_fds(c->fd, bytes, sizeof(bytes), c->in_fds + c->n_in_fds,
				  ARRAY_LEN(c->in_fds) - c->n_in_fds, &n_fds);

	if (r == -EAGAIN) {
		return 0;
	}
	if (r <= 0) {
		return r == 0 || r == -ECONNRESET ? -EPIPE : (int)r;
	}
	c->n_in_fds += n_fds;
	buf_add(&c->in, bytes, (size_t)r);
	return buf_failed(&c->in) ? -ENOMEM : 1;
}

static uint32_t le(const uint8_t *p, size_t n)
{
	uint32_t v = 0;

	for (size_t i = n; i > 0; i--) {
		v = v << 8 | p[i - 1];
	}
	return v;
}

int wire_conn_next(struct wire_conn *c, struct wire_frame *ret)
{
	const uint8_t *p = (const uint8_t *)c->in.data + c->in_used;
	size_t left = c->in.len - c->in_used;

	if (left < WIRE_HEADER_BYTES) {
		return 0;
	}
	size_t len = le(p, 4);
	size_t n_fds = le(p + 12, 2);

	if (len < WIRE_HEADER_BYTES || len > WIRE_FRAME_MAX || n_fds > WIRE_FDS_MAX ||
	    le(p + 14, 2) != 0) {
		return -EBADMSG;
	}
	if (left < len) {
		return 0;
	}
	if (n_fds > c->n_in_fds) {
		return -EBADMSG;
	}
	*ret = (struct wire_frame){ .type = (uint16_t)le(p + 4, 2),
				    .version = (uint16_t)le(p + 6, 2), .serial = le(p + 8, 4),
				    .body = p + WIRE_HEADER_BYTES,
				    .body_len = len - WIRE_HEADER_BYTES, .n_fds = n_fds };
	memcpy(ret->fds, c->in_fds, n_fds * sizeof(int));
	c->n_in_fds -= n_fds;
	memmove(c->in_fds, c->in_fds + n_fds, c->n_in_fds * sizeof(int));
	c->in_used += len;
	return 1;
}

/* Keep the part of a frame that was not sent. Its descriptors went with the first byte. */
static int queue(struct wire_conn *c, const struct buf *b, size_t sent, const int *fds,
		 size_t n_fds)
{
	if (c->out_bytes + b->len > WIRE_OUT_MAX) {
		return -ENOBUFS;
	}
	struct out_frame *o = mem_calloc(1, sizeof(*o) + b->len);

	if (!o) {
		return -ENOMEM;
	}
	o->len = b->len;
	o->sent = sent;
	memcpy(o->data, b->data, b->len);
	list_add_tail(&c->out, &o->link);
	c->out_bytes += o->len;
	for (size_t i = 0; sent == 0 && i < n_fds; i++) {
		int fd = fcntl(fds[i], F_DUPFD_CLOEXEC, 3);

		if (fd < 0) {
			int r = -errno;

			out_free(c, o);
			return r;
		}
		o->fds[o->n_fds++] = fd;
	}
	return 0;
}

int wire_conn_send(struct wire_conn *c, const struct wire_msg *m, uint32_t serial,
		   const void *msg)
{
	auto_buf struct buf b = BUF_INIT;
	int fds[WIRE_FDS_MAX];
	size_t n_fds = 0;
	ssize_t sent = 0;
	int r = wire_encode(m, c->version, serial, msg, &b, fds, &n_fds);

	if (r < 0) {
		return r;
	}
	if (list_empty(&c->out)) {
		sent = sock_send_some(c->fd, b.data, b.len, fds, n_fds);
		if (sent < 0 && sent != -EAGAIN) {
			return (int)sent;
		}
		sent = MAX(sent, (ssize_t)0);
	}
	r = (size_t)sent == b.len ? 0 : queue(c, &b, (size_t)sent, fds, n_fds);
	return r < 0 && sent > 0 ? -EPIPE : r; /* half a frame is out, and its rest is lost */
}

int wire_conn_flush(struct wire_conn *c)
{
	list_for_each_safe (struct out_frame, o, &c->out, link) {
		bool first = o->sent == 0;
		ssize_t r = sock_send_some(c->fd, o->data + o->sent, o->len - o->sent, o->fds,
					   first ? o->n_fds : 0);

		if (r == -EAGAIN) {
			return 0;
		}
		if (r < 0) {
			return (int)r;
		}
		o->sent += (size_t)r;
		if (o->sent < o->len) {
			return 0;
		}
		out_free(c, o);
	}
	return 0;
}

bool wire_peer_is(int fd, unsigned uid)
{
	struct ucred cred;

	return sock_peer(fd, &cred) == 0 && cred.uid == uid;
}
