/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Connections of the daemon. Replies name their connection by number, because it may be gone
 * when the work is done.
 */
#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "base/fd.h"
#include "base/mem.h"
#include "shim/shim.h"
#include "sys/socket.h"

static void conn_free(struct conn *c)
{
	struct shim *s = c->shim;

	list_del(&c->link);
	ev_fd_stop(&s->loop, &c->ev);
	wire_conn_fini(&c->wire);
	free(c);
	s->n_conns--;
	shim_await(s);
}

static void watch(struct conn *c)
{
	uint32_t events = (c->closing ? 0 : EPOLLIN) | (wire_conn_pending(&c->wire) ? EPOLLOUT : 0);

	if (c->closing && !wire_conn_pending(&c->wire)) {
		/* On the next turn, as someone up the stack may still use it. */
		events = EPOLLOUT;
	}
	if (ev_fd_start(&c->shim->loop, &c->ev, c->wire.fd, events) < 0) {
		/* Nobody would hear what it says: the daemon sees the end, and comes back. */
		c->closing = true;
		ignore_result(sys_shutdown(c->wire.fd, SHUT_RDWR));
	}
}

struct conn *conn_find(struct shim *s, uint32_t id)
{
	list_for_each (struct conn, c, &s->conns, link) {
		if (c->id == id && !c->closing) {
			return c;
		}
	}
	return NULL;
}

void conn_send(struct conn *c, enum shim_msg_type type, uint32_t serial, const void *msg)
{
	if (c->closing) {
		return;
	}
	union shim_any m;

	memcpy(&m, msg, shim_msgs[type].size);
	shim_msg_for_version(type, c->wire.version, &m);
	if (wire_conn_send(&c->wire, &shim_msgs[type], serial, &m) < 0) {
		c->closing = true; /* gone, or it does not read: it finds us again */
	}
	watch(c);
}

void conn_broadcast(struct shim *s, enum shim_msg_type type, const void *msg)
{
	list_for_each (struct conn, c, &s->conns, link) {
		if (c->hello) {
			conn_send(c, type, 0, msg);
		}
	}
}

void conn_reply_with(struct shim *s, uint32_t conn, uint32_t serial, const struct err *e,
		     const char *text, uint64_t value, enum shim_reason reason)
{
	struct conn *c = conn_find(s, conn);
	struct shim_reply m = { .errnum = (uint32_t)e->errnum, .code = e->code, .value = value,
				.message = e->errnum ? (char *)(uintptr_t)e->msg : NULL,
				.text = (char *)(uintptr_t)text, .reason = reason };

	if (c) {
		conn_send(c, SHIM_REPLY, serial, &m);
	}
}

void conn_reply(struct shim *s, uint32_t conn, uint32_t serial, const struct err *e)
{
	conn_reply_with(s, conn, serial, e, NULL, 0, SHIM_REASON_NONE);
}

void conn_close_older(struct shim *s, uint64_t epoch)
{
	list_for_each (struct conn, c, &s->conns, link) {
		if (c->hello && c->epoch < epoch) {
			c->closing = true;
			watch(c);
		}
	}
}

void conn_drop_all(struct shim *s)
{
	list_for_each_safe (struct conn, c, &s->conns, link) {
		ignore_result(wire_conn_flush(&c->wire)); /* a last try */
		conn_free(c);
	}
}

/* One frame. What cannot be understood is answered; what is no frame ends the connection. */
static void on_frame(struct conn *c, struct wire_frame *f)
{
	const struct wire_msg *t = shim_msg(f->type);
	union shim_any m;
	struct err e = ERR_INIT;
	int r;

	if (!t) {
		r = err_set(&e, ENOSYS, ERR_UNSUPPORTED, "message %u is not known here", f->type);
		wire_frame_fini(f);
	} else {
		r = wire_decode(t, f, &m, &e);
	}
	if (r < 0) {
		conn_reply(c->shim, c->id, f->serial, &e);
	} else {
		order_do(c, f->serial, f->type, &m);
	}
	if (t) {
		wire_msg_fini(t, &m);
	}
}

static void on_conn(struct ev_fd *ev, uint32_t events)
{
	struct conn *c = container_of(ev, struct conn, ev);
	struct wire_frame f;
	int filled = 1, r = 0;

	if (events & EPOLLOUT) {
		r = wire_conn_flush(&c->wire);
		if (r < 0 || (c->closing && !wire_conn_pending(&c->wire))) {
			conn_free(c);
			return;
		}
	}
	if (c->closing && (events & (EPOLLHUP | EPOLLERR))) {
		conn_free(c);
		return;
	}
	if (!c->closing && (events & (EPOLLIN | EPOLLHUP | EPOLLERR))) {
		filled = wire_conn_fill(&c->wire);
		while (!c->closing && (r = wire_conn_next(&c->wire, &f)) > 0) {
			on_frame(c, &f);
		}
		if (filled < 0 || r < 0) {
			conn_free(c);
			return;
		}
	}
	watch(c);
}

static void listen_again(struct ev_timer *t)
{
	struct shim *s = container_of(t, struct shim, listen_timer);

	if (conn_listen(s) < 0) {
		ev_timer_start(&s->loop, t, SHIM_AGAIN_MS * NS_PER_MS);
	}
}

/*
 * No descriptor is free. A shim that nobody ever reached is of no use and says why it ends;
 * another one tries again later instead of being woken without end.
 */
static void accept_failed(struct shim *s, int r)
{
	if (r == -EAGAIN || r == -ECONNABORTED || r == -EINTR) {
		return;
	}
	if (s->state == SHIM_IDLE && s->n_conns == 0) {
		s->fatal = r;
		s->loop.stop = true;
		return;
	}
	ev_fd_stop(&s->loop, &s->listen_ev);
	s->listen_timer.fn = listen_again;
	ev_timer_start(&s->loop, &s->listen_timer, SHIM_AGAIN_MS * NS_PER_MS);
}

static void on_accept(struct ev_fd *ev, uint32_t events)
{
	struct shim *s = container_of(ev, struct shim, listen_ev);
	auto_close int fd = sys_accept4(s->listen_fd, SOCK_NONBLOCK);

	(void)events;
	if (fd < 0) {
		accept_failed(s, fd);
		return;
	}
	if (s->n_conns >= SHIM_CONNS_MAX || !wire_peer_is(fd, geteuid())) {
		return; /* closing says it */
	}
	struct conn *c = mem_new(struct conn);

	if (!c) {
		return;
	}
	c->shim = s;
	c->id = ++s->next_conn;
	c->ev.fn = on_conn;
	wire_conn_init(&c->wire, take_fd(&fd), SHIM_PROTO_OLDEST); /* until the hello */
	list_add_tail(&s->conns, &c->link);
	s->n_conns++;
	ev_timer_stop(&s->idle);
	watch(c);
	if (!c->ev.started) {
		conn_free(c);
	}
}

int conn_listen(struct shim *s)
{
	s->listen_ev.fn = on_accept;
	return ev_fd_start(&s->loop, &s->listen_ev, s->listen_fd, EPOLLIN);
}
