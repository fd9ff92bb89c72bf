/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Connections in a snapshot. To the guest nothing happens: ports, counters, resets that it has not
 * got yet, and bytes that the host has not taken yet are all there. What is not there is the
 * socket: somebody gives it.
 */
#include <errno.h>
#include <string.h>

#include "base/mem.h"
#include "sys/file.h"
#include "sys/socket.h"
#include "vm/dev/vsock-priv.h"

static const char *const state_names[CONN_STATE__COUNT] = {
	[CONN_LINE] = "new", [CONN_ASKED] = "asked", [CONN_REQUESTED] = "requested",
	[CONN_OPEN] = "open", [CONN_CLOSING] = "closing",
};

void vsock__drop_conns(struct vsock *s)
{
	list_for_each_safe(struct conn, c, &s->conns, link) {
		conn__free(c);
	}
}

/* --- Save --- */

static void save_conn(struct vsock *s, const struct conn *c)
{
	s->saved[s->n_saved++] = (struct vsock_saved){
		.state = c->state, .guest_port = c->guest_port, .host_port = c->host_port,
		.send = c->send, .shutdown_out = c->shutdown_out, .shutdown_in = c->shutdown_in,
		.fwd_cnt = c->fwd_cnt, .fwd_told = c->fwd_told, .peer_alloc = c->peer_alloc,
		.peer_fwd = c->peer_fwd, .sent = c->sent, .buf_len = c->buf_len,
		.host_end = c->host_end, .out_shut = c->out_shut,
	};
}

/* The circle of resets begins at its first. */
static void straighten(struct vsock *s)
{
	struct rst all[RSTS_MAX];

	for (unsigned i = 0; i < s->n_rsts; i++) {
		all[i] = s->rsts[(s->rst_at + i) % RSTS_MAX];
	}
	memcpy(s->rsts, all, s->n_rsts * sizeof(all[0]));
	s->rst_at = 0;
}

/* A client whose port is not known yet is nothing to the guest. */
static bool is_saved(const struct conn *c)
{
	return c->state != CONN_LINE;
}

void vsock__save_bytes(struct vdev *d, struct buf *b)
{
	list_for_each(struct conn, c, &vsock__of(d)->conns, link) {
		uint32_t first = MIN(c->buf_len, VSOCK_BUF - c->buf_at);

		if (is_saved(c) && c->buf_len > 0) {
			buf_add(b, c->buf + c->buf_at, first);
			buf_add(b, c->buf, c->buf_len - first);
		}
	}
}

/* --- Load --- */

int vsock__load_bytes(struct vdev *d, const void *data, size_t len)
{
	struct vsock *s = vsock__of(d);

	free(s->loaded_bytes);
	s->loaded_bytes = len > 0 ? mem_dup(data, len) : NULL;
	s->loaded_len = len;
	return len > 0 && !s->loaded_bytes ? -ENOMEM : 0;
}

static int load_conn(struct vsock *s, const struct vsock_saved *v, const uint8_t *bytes)
{
	struct conn *c = conn__new(s, (enum conn_state)v->state);

	if (!c) {
		return -ENOMEM;
	}
	c->orphan = true;
	c->guest_port = v->guest_port;
	c->host_port = v->host_port;
	c->send = v->send;
	c->shutdown_out = v->shutdown_out;
	c->shutdown_in = v->shutdown_in;
	c->fwd_cnt = v->fwd_cnt;
	c->fwd_told = v->fwd_told;
	c->peer_alloc = v->peer_alloc;
	c->peer_fwd = v->peer_fwd;
	c->sent = v->sent;
	c->host_end = v->host_end;
	c->out_shut = v->out_shut;
	c->readable = c->state == CONN_OPEN && !c->host_end;
	c->deadline_ns = c->state == CONN_OPEN ? 0 : c->deadline_ns;
	if (v->buf_len > 0) {
		c->buf = mem_calloc(1, VSOCK_BUF);
		if (!c->buf) {
			return -ENOMEM;
		}
		memcpy(c->buf, bytes, v->buf_len);
		c->buf_len = v->buf_len;
	}
	conn__ready(c);
	return 0;
}

static int load_conns(struct vsock *s)
{
	size_t at = 0;
	int r = 0;

	vsock__drop_conns(s);
	s->rst_at = 0;
	s->tx_stopped = false;
	for (unsigned i = 0; i < s->n_saved && r == 0; i++) {
		const struct vsock_saved *v = &s->saved[i];

		r = v->buf_len > s->loaded_len - at ? -EBADMSG :
						      load_conn(s, v, s->loaded_bytes + at);
		at += v->buf_len;
	}
	r = r == 0 && at != s->loaded_len ? -EBADMSG : r;
	if (r < 0) {
		vsock__drop_conns(s);
	}
	free(s->loaded_bytes);
	s->loaded_bytes = NULL;
	s->loaded_len = 0;
	return r;
}

int vsock__state_op(struct vdev *d, bool save)
{
	struct vsock *s = vsock__of(d);

	if (!save) {
		s->config.guest_cid = s->cid;
		return load_conns(s);
	}
	s->cid = (uint32_t)s->config.guest_cid;
	s->n_saved = 0;
	memset(s->saved, 0, sizeof(s->saved));
	straighten(s);
	list_for_each(struct conn, c, &s->conns, link) {
		if (is_saved(c)) {
			save_conn(s, c);
		}
	}
	return 0;
}

/* Nobody handed a socket over. */
static void end_orphan(struct vsock *s, struct conn *c)
{
	if (c->state == CONN_ASKED && s->ask) {
		c->orphan = false;
		c->ticket = ++s->next_ticket;
		s->ask(s->ask_ctx, c->host_port, c->ticket);   /* it may be gone now */
	} else if (c->state == CONN_REQUESTED && (c->send & SEND_REQUEST)) {
		conn__free(c);   /* the guest has not heard of it */
	} else {
		conn__reset(c);
	}
}

void vsock__settle_loaded(struct vsock *s)
{
	list_for_each_safe(struct conn, c, &s->conns, link) {
		if (c->orphan) {
			end_orphan(s, c);
		}
	}
}

/* --- Handing over --- */

int vsock_take(struct vdev *d, uint32_t guest_port, uint32_t host_port)
{
	vdev_lock(d);
	struct conn *c = conn__find(vsock__of(d), guest_port, host_port);
	/* One of vsock_connect() has no client yet. */
	int r = !c || c->fd < 0 || c->told ? -ENOENT : sys_dup(c->fd);

	vdev_unlock(d);
	return r;
}

int vsock_give(struct vdev *d, uint32_t guest_port, uint32_t host_port, int own_fd)
{
	auto_close int fd = own_fd;
	int r = 0;

	vdev_lock(d);
	struct conn *c = conn__find(vsock__of(d), guest_port, host_port);

	if (!c || !c->orphan) {
		r = -ENOENT;
	} else if (c->state == CONN_ASKED) {
		/* The answer came to the machine that was saved, after it was. */
		c->orphan = false;
		r = vsock__answered(c, take_fd(&fd)) ? 0 : -EIO;
	} else {
		c->orphan = false;
		if (c->out_shut) {
			ignore_result(sys_shutdown(fd, SHUT_WR)); /* again, or it is gone */
		}
		if (c->shutdown_in & VIRTIO_VSOCK_SHUTDOWN_RCV) {
			ignore_result(sys_shutdown(fd, SHUT_RD)); /* as above */
		}
		r = host__adopt(c, take_fd(&fd)) ? 0 : -EIO;
	}
	vdev_unlock(d);
	return r;
}

void vsock_list(struct vdev *d, struct buf *b)
{
	const char *between = "";

	buf_add_char(b, '[');
	vdev_lock(d);
	list_for_each(struct conn, c, &vsock__of(d)->conns, link) {
		if (!is_saved(c)) {
			continue;
		}
		buf_printf(b, "%s{\"guest\":%u,\"host\":%u,\"state\":\"%s\",\"socket\":%s}", between,
			   c->guest_port, c->host_port, state_names[c->state],
			   c->fd < 0 ? "false" : "true");
		between = ",";
	}
	vdev_unlock(d);
	buf_add_char(b, ']');
}

/* --- The tables --- */

static const struct state_field rst_fields[] = {
	STATE_U32(1, struct rst, guest_port),
	STATE_U32(2, struct rst, host_port),
	STATE_U64(3, struct rst, guest_cid),
	STATE_U64(4, struct rst, host_cid),
};

static const struct state_desc rst_state =
	STATE_DESC("vsock-reset", struct rst, rst_fields, .version = 1, .oldest = 1);

static const struct state_field saved_fields[] = {
	STATE_U32(1, struct vsock_saved, state, .min = CONN_ASKED, .max = CONN_CLOSING),
	STATE_U32(2, struct vsock_saved, guest_port),
	STATE_U32(3, struct vsock_saved, host_port),
	STATE_U32(4, struct vsock_saved, send, .max = SEND_SHUTDOWN * 2 - 1),
	STATE_U32(5, struct vsock_saved, shutdown_out, .max = 3),
	STATE_U32(6, struct vsock_saved, shutdown_in, .max = 3),
	STATE_U32(7, struct vsock_saved, fwd_cnt),
	STATE_U32(8, struct vsock_saved, fwd_told),
	STATE_U32(9, struct vsock_saved, peer_alloc),
	STATE_U32(10, struct vsock_saved, peer_fwd),
	STATE_U32(11, struct vsock_saved, sent),
	STATE_U32(12, struct vsock_saved, buf_len, .max = VSOCK_BUF),
	STATE_BOOL(13, struct vsock_saved, host_end),
	STATE_BOOL(14, struct vsock_saved, out_shut),
};

static const struct state_desc saved_state =
	STATE_DESC("vsock-connection", struct vsock_saved, saved_fields, .version = 1, .oldest = 1);

/* No two connections of the same ports. */
static int check(const void *state, struct err *e)
{
	const struct vsock *s = state;

	for (unsigned i = 0; i < s->n_saved; i++) {
		for (unsigned k = 0; k < i; k++) {
			if (s->saved[i].guest_port == s->saved[k].guest_port &&
			    s->saved[i].host_port == s->saved[k].host_port) {
				return err_set(e, EBADMSG, ERR_INVALID, "a vsock connection twice");
			}
		}
	}
	return 0;
}

static const struct state_field vsock_fields[] = {
	STATE_HOST_ONLY(struct vsock, base, "saved by its own table"),
	STATE_HOST_ONLY(struct vsock, config, "see cid"),
	STATE_HOST_ONLY(struct vsock, conns, "see saved"),
	STATE_HOST_ONLY(struct vsock, ready, "every connection is looked at after a load"),
	STATE_HOST_ONLY(struct vsock, n_conns, "see n_saved"),
	STATE_HOST_ONLY(struct vsock, n_lines, "clients without a port end with a load"),
	STATE_STRUCTS_N(4, struct vsock, rsts, n_rsts, struct rst, &rst_state, .since = 2),
	STATE_HOST_ONLY(struct vsock, rst_at, "0: put in order before a save"),
	STATE_HOST_ONLY(struct vsock, tx_stopped, "every queue is looked at after a load"),
	/* Version 1 had no connections: the guest hears that all are gone. */
	STATE_BOOL(3, struct vsock, tell_reset, .since = 2, .dflt = 1),
	STATE_U32(1, struct vsock, next_port),
	STATE_HOST_ONLY(struct vsock, next_ticket, "of this process"),
	STATE_HOST_ONLY(struct vsock, listen_fd, "of the configuration"),
	STATE_HOST_ONLY(struct vsock, listener, "of this process"),
	STATE_HOST_ONLY(struct vsock, sweep, "of this process"),
	STATE_HOST_ONLY(struct vsock, ask, "of this process"),
	STATE_HOST_ONLY(struct vsock, ask_ctx, "of this process"),
	STATE_HOST_ONLY(struct vsock, rx, "nothing is out"),
	STATE_HOST_ONLY(struct vsock, tx, "nothing is out"),
	STATE_U32(2, struct vsock, cid, .min = VSOCK_HOST_CID + 1, .max = UINT32_MAX - 1),
	STATE_STRUCTS_N(5, struct vsock, saved, n_saved, struct vsock_saved, &saved_state,
			.since = 2),
	STATE_HOST_ONLY(struct vsock, loaded_bytes, "a section of its own"),
	STATE_HOST_ONLY(struct vsock, loaded_len, "a section of its own"),
};

const struct state_desc vsock__state =
	STATE_DESC("virtio-vsock", struct vsock, vsock_fields, .version = 2, .oldest = 1,
		   .check = check);
