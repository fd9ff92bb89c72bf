/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Attached clients (docs/formats/attach.md). Each has a bounded ring for what its socket did
 * not take yet; a chunk is only read from the process when every ring has room for it, so a
 * frame always fits. A client that takes nothing for its patience is dropped.
 *
 * Functions that may free the client say so; after them it is not touched.
 */
#include <errno.h>
#include <fcntl.h>
#include <string.h>

#include "base/clock.h"
#include "base/fd.h"
#include "base/mem.h"
#include "shim/shim.h"
#include "sys/file.h"
#include "sys/socket.h"
#include "wire/attach.h"

enum { FRAME_IN_MAX = 65536, READ_MAX = 4096 };

static_assert((int)SHIM_CLIENT_RING >= 2 * ((int)SHIM_CHUNK + (int)ATTACH_HEAD), "two frames fit a ring");

static void client_free(struct client *c, int errnum)
{
	struct session *x = c->session;
	struct shim *s = x->shim;
	struct shim_attach_end end = { .attachment = c->id, .errnum = (uint32_t)errnum };

	list_del(&c->link);
	ev_fd_stop(&s->loop, &c->ev);
	ev_timer_stop(&c->stall);
	ring_reset(&c->ring);
	/* The daemon may still hold the socket, too: closing alone would not be seen. */
	ignore_result(sys_shutdown(c->fd, SHUT_WR));
	fd_close(&c->fd);
	free(c);
	s->n_clients--;
	conn_broadcast(s, SHIM_ATTACH_END, &end);
	session_resume_output(x);
	shim_collect(s);
}

static bool framed_out(const struct client *c)
{
	return c->framing != SHIM_RAW;
}

/* What the loop waits for: frees the client if it cannot be watched. False: freed. */
static bool watch(struct client *c)
{
	uint32_t events = c->ring.len > 0 ? EPOLLOUT : 0;

	if (!c->ending && !c->in_blocked) {
		events |= EPOLLIN;
	}
	if (ev_fd_start(&c->session->shim->loop, &c->ev, c->fd, events) < 0) {
		client_free(c, EIO);
		return false;
	}
	return true;
}

/* Timers and events after the ring changed. False: freed. */
static bool settle(struct client *c, bool progress)
{
	if (c->ring.len == 0) {
		ev_timer_stop(&c->stall);
		if (c->ending) {
			client_free(c, 0);
			return false;
		}
	} else if (progress || !c->stall.started) {
		ev_timer_start(&c->session->shim->loop, &c->stall, c->stall_ns);
	}
	return watch(c);
}

/*
 * Nobody reads what is sent to the client any more. What it wrote before it left still lies in
 * its socket, and with stdin_once its leaving ends the input: both come when it is read to its
 * end, so it stays until then. False: freed.
 */
static bool output_over(struct client *c)
{
	ring_reset(&c->ring);
	ev_timer_stop(&c->stall);
	c->streams &= SHIM_STDIN;
	if (!c->streams || c->ending) {
		client_free(c, 0);
		return false;
	}
	return c->in_blocked || watch(c);
}

/* A frame (or bare bytes). False: freed. The ring has room, or the frame is cut. */
static bool send_frame(struct client *c, uint8_t kind, const void *data, size_t n)
{
	uint8_t head[ATTACH_HEAD];
	size_t head_len = framed_out(c) ? sizeof(head) : 0;
	struct iovec iov[2] = { { head, head_len }, { (void *)(uintptr_t)data, n } };
	struct msghdr msg = { .msg_iov = iov, .msg_iovlen = 2 };
	attach_head(head, kind, n);

	ssize_t sent = c->ring.len > 0 ? 0 : sys_sendmsg(c->fd, &msg, MSG_DONTWAIT);

	if (sent == -EAGAIN) {
		sent = 0;
	}
	if (sent == -EPIPE || sent == -ECONNRESET) {
		return output_over(c);
	}
	if (sent < 0) {
		client_free(c, (int)-sent);
		return false;
	}
	size_t done = (size_t)sent, in_head = MIN(done, head_len);
	int r = ring_put(&c->ring, head + in_head, head_len - in_head);

	if (r == 0) {
		r = ring_put(&c->ring, (const char *)data + (done - in_head), n - (done - in_head));
	}
	if (r < 0) { /* no memory: it would be left with half a frame */
		client_free(c, -r);
		return false;
	}
	return settle(c, done > 0);
}

bool client_full(const struct session *x)
{
	list_for_each (struct client, c, &x->clients, link) {
		if (!c->ending && ring_room(&c->ring) < SHIM_CHUNK + ATTACH_HEAD) {
			return true;
		}
	}
	return false;
}

void client_output(struct session *x, unsigned stream, const void *data, size_t n)
{
	uint8_t kind = stream == SHIM_STDERR ? ATTACH_STDERR : ATTACH_STDOUT;

	list_for_each_safe (struct client, c, &x->clients, link) {
		if (!c->ending && (c->streams & stream)) {
			ignore_result(send_frame(c, kind, data, n)); /* may free it */
		}
	}
}

/* A word to the person, where the format has a place for it. */
static bool send_text(struct client *c, const char *text)
{
	if (!framed_out(c) || ring_room(&c->ring) < strlen(text) + 2 * ATTACH_HEAD) {
		return true;
	}
	return send_frame(c, ATTACH_MESSAGE, text, strlen(text));
}

static void send_end(struct client *c, int32_t status)
{
	uint8_t bytes[4];

	attach_put_u32(bytes, (uint32_t)status);
	c->ending = true;
	if (framed_out(c) && ring_room(&c->ring) >= sizeof(bytes) + ATTACH_HEAD) {
		ignore_result(send_frame(c, ATTACH_END, bytes, sizeof(bytes))); /* may free it */
	} else {
		ignore_result(settle(c, false)); /* may free it */
	}
}

void client_message(struct session *x, const char *text)
{
	list_for_each_safe (struct client, c, &x->clients, link) {
		if (!c->ending) {
			ignore_result(send_text(c, text)); /* may free it */
		}
	}
}

void client_end(struct session *x, int32_t status)
{
	list_for_each_safe (struct client, c, &x->clients, link) {
		if (!c->ending) {
			send_end(c, status);
		}
	}
}

void client_drop_all(struct session *x)
{
	list_for_each_safe (struct client, c, &x->clients, link) {
		client_free(c, 0);
	}
}

static void stalled(struct ev_timer *t)
{
	struct client *c = container_of(t, struct client, stall);

	c->session->shim->n_dropped++;
	client_free(c, ETIMEDOUT);
}

/* A frame's header is complete. False: not one of ours. */
static bool head_valid(const struct client *c, size_t len)
{
	if (c->head[1] || c->head[2] || c->head[3]) {
		return false;
	}
	switch (c->head[0]) {
	case ATTACH_DATA:
		return len <= FRAME_IN_MAX;
	case ATTACH_EOF:
	case ATTACH_DETACH:
		return len == 0;
	case ATTACH_RESIZE:
	case ATTACH_SIGNAL:
		return len == sizeof(c->payload);
	default:
		return false;
	}
}

/* A whole control frame. False: freed. */
static bool act(struct client *c)
{
	struct session *x = c->session;
	uint32_t v = attach_get_u32(c->payload);
	struct err e = ERR_INIT;

	c->have = 0;
	switch (c->head[0]) {
	case ATTACH_EOF:
		if (c->streams & SHIM_STDIN) {
			session_close_input(x);
		}
		return true;
	case ATTACH_RESIZE:
		if (v >> 16 && v & 0xffff) {
			ignore_result(session_resize(x, v >> 16, v & 0xffff)); /* as a hint */
		}
		return true;
	case ATTACH_SIGNAL:
		if (order_signal(x, v, false, 0, 0, &e) < 0) {
			return send_text(c, e.msg);
		}
		return true;
	case ATTACH_DETACH:
		send_end(c, -1);
		return false;
	default:
		return true;
	}
}

/* Bytes from a client, which fit the session's ring. False: freed. */
static bool parse(struct client *c, const uint8_t *p, size_t n)
{
	while (n > 0) {
		if (c->have < ATTACH_HEAD) {
			c->head[c->have++] = *p++;
			n--;
			if (c->have < ATTACH_HEAD) {
				continue;
			}
			c->left = attach_get_u32(c->head + 4);
			if (!head_valid(c, c->left)) {
				client_free(c, EPROTO);
				return false;
			}
		} else if (c->head[0] == ATTACH_DATA) {
			size_t part = MIN(n, c->left);

			if (c->streams & SHIM_STDIN) {
				session_input(c->session, p, part);
			}
			p += part;
			n -= part;
			c->left -= part;
		} else {
			c->payload[sizeof(c->payload) - c->left--] = *p++;
			n--;
		}
		if (c->left == 0 && c->head[0] == ATTACH_DATA) {
			c->have = 0;
		} else if (c->left == 0 && !act(c)) {
			return false;
		}
	}
	return true;
}

/* False: freed. */
static bool take_input(struct client *c, const uint8_t *p, size_t n)
{
	if (c->framing == SHIM_FRAMED) {
		return parse(c, p, n);
	}
	if (c->streams & SHIM_STDIN) {
		session_input(c->session, p, n);
	}
	return true;
}

/* The client will send nothing more. */
static void input_over(struct client *c)
{
	if (c->stdin_once && (c->streams & SHIM_STDIN)) {
		session_close_input(c->session);
	}
	if (c->framing == SHIM_FRAMED) {
		client_free(c, 0);
		return;
	}
	/* Half closed: output goes on. A full close is told as a hang-up. */
	c->in_blocked = true;
	c->streams &= ~(uint32_t)SHIM_STDIN;
	ignore_result(watch(c)); /* may free it */
}

static void on_readable(struct client *c)
{
	uint8_t bytes[READ_MAX];
	if ((c->streams & SHIM_STDIN) && ring_room(&c->session->in_ring) < sizeof(bytes)) {
		c->in_blocked = true; /* client_input_room() lets it go on */
		ignore_result(watch(c)); /* may free it */
		return;
	}
	ssize_t n = sys_read(c->fd, bytes, sizeof(bytes));

	if (n == -EAGAIN) {
		return;
	}
	if (n <= 0) {
		input_over(c);
	} else {
		ignore_result(take_input(c, bytes, (size_t)n)); /* may free it */
	}
}

void client_input_room(struct session *x)
{
	if (ring_room(&x->in_ring) < READ_MAX) {
		return;
	}
	list_for_each_safe (struct client, c, &x->clients, link) {
		if (c->in_blocked && (c->streams & SHIM_STDIN)) {
			c->in_blocked = false;
			ignore_result(watch(c)); /* may free it */
		}
	}
}

static void on_client(struct ev_fd *ev, uint32_t events)
{
	struct client *c = container_of(ev, struct client, ev);
	struct session *x = c->session;

	if (events & EPOLLOUT) {
		size_t before = c->ring.len;
		int r = ring_drain(&c->ring, c->fd);

		if (r < 0) {
			ignore_result(output_over(c)); /* may free it */
			session_resume_output(x);
			return;
		}
		if (!settle(c, c->ring.len < before)) {
			return;
		}
		session_resume_output(x);
		return;
	}
	if (events & EPOLLIN) {
		on_readable(c);
		return;
	}
	/* A hang-up, of one whose input is not waited for. */
	if (c->in_blocked && (c->streams & SHIM_STDIN)) {
		ev_fd_stop(&x->shim->loop, &c->ev); /* client_input_room() reads the rest */
		return;
	}
	client_free(c, 0);
}

static int check(const struct session *x, const struct shim_attach *m, struct err *e)
{
	if (x->shim->n_clients >= SHIM_CLIENTS_MAX) {
		return err_set(e, EMFILE, ERR_LIMIT, "%d clients are attached already",
			       SHIM_CLIENTS_MAX);
	}
	if (m->preread.len > ring_room(&x->in_ring)) {
		return err_set(e, ENOBUFS, ERR_LIMIT, "its standard input does not take more now");
	}
	return 0;
}

int client_add(struct session *x, struct shim_attach *m, uint64_t *ret_id, struct err *e)
{
	int r = check(x, m, e);

	if (r < 0) {
		return r;
	}
	struct client *c = mem_new(struct client);

	if (!c) {
		return err_nomem(e);
	}
	*c = (struct client){ .session = x, .id = ++x->shim->next_client,
			      .fd = take_fd(&m->connection),
			      /* Where nobody reads it, what the client types is dropped. */
			      .streams = m->streams & ~(x->open_stdin ? 0U : (uint32_t)SHIM_STDIN),
			      .framing = (enum shim_framing)m->framing,
			      .stdin_once = m->stdin_once, .ring = RING_INIT(SHIM_CLIENT_RING),
			      .stall_ns = (m->stall_ms ? m->stall_ms : SHIM_STALL_MS) * NS_PER_MS };
	c->ev.fn = on_client;
	c->stall.fn = stalled;
	list_add_tail(&x->clients, &c->link);
	x->shim->n_clients++;
	*ret_id = c->id;
	r = sys_fcntl(c->fd, F_SETFL, O_RDWR | O_NONBLOCK);
	if (r < 0) {
		client_free(c, -r);
		return err_set(e, -r, ERR_HOST, "cannot use the client's connection");
	}
	if (!watch(c) || !take_input(c, m->preread.data, m->preread.len)) {
		return 0; /* gone again: told by its ATTACH_END */
	}
	if (x->ended) {
		send_end(c, (int32_t)x->exit.code);
	}
	return 0;
}
