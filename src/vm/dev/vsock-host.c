/* SPDX-License-Identifier: Apache-2.0 */
/* The host's side: clients of the listening socket, and the sockets of connections. */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/str.h"
#include "sys/file.h"
#include "sys/socket.h"
#include "vm/dev/vsock-priv.h"

enum { FIRST_PORT = 1 << 30 };

static void on_client(struct loop_fd *src, unsigned events unused_arg, void *ud)
{
	struct vsock *s = ud;

	vdev_lock(&s->base);
	int fd = sys_accept4(loop_fd_fd(src), SOCK_NONBLOCK);

	if (fd >= 0) {
		struct conn *c = s->n_lines < ACCEPT_MAX ? conn__new(s, CONN_LINE) : NULL;

		if (c) {
			ignore_result(host__adopt(c, fd)); /* gone, if it failed */
		} else {
			fd_close(&fd);
		}
	}
	host__watch(s);
	vdev_unlock(&s->base);
}

int host__listen(struct vsock *s, int own_fd)
{
	s->listen_fd = own_fd;
	if (own_fd < 0) {
		return 0;
	}
	int r = sys_set_nonblock(own_fd);

	return r < 0 ? r : loop_fd_new(s->base.machine->loop, own_fd, 0, on_client, s,
				       &s->listener);
}

void host__watch(struct vsock *s)
{
	bool on = vdev_works(&s->base) && s->n_lines < ACCEPT_MAX &&
		  s->n_conns < VSOCK_CONNS_MAX;

	if (s->listener) {
		ignore_result(loop_fd_set(s->listener, on ? LOOP_IN : 0)); /* epoll_ctl */
	}
}

bool host__adopt(struct conn *c, int own_fd)
{
	c->fd = own_fd;
	if (sys_set_nonblock(own_fd) < 0 ||
	    loop_fd_new(c->sock->base.machine->loop, own_fd, 0, host__event, c,
			&c->source) < 0) {
		if (c->state == CONN_LINE) {
			conn__free(c);
		} else {
			conn__reset(c);
		}
		return false;
	}
	conn__watch(c);
	return true;
}

uint32_t host__new_port(struct vsock *s, uint32_t guest_port)
{
	do {
		s->next_port = s->next_port < FIRST_PORT || s->next_port == UINT32_MAX ?
				       FIRST_PORT : s->next_port + 1;
	} while (conn__find(s, guest_port, s->next_port));
	return s->next_port;
}

/* "CONNECT <port>\n", byte by byte: what follows is the connection's. */
void host__line(struct conn *c)
{
	struct vsock *s = c->sock;
	const char *text;
	uint64_t port;

	while (c->line_len < LINE_MAX_ - 1) {
		ssize_t r = sys_read(c->fd, &c->line[c->line_len], 1);

		if (r == -EAGAIN) {
			conn__watch(c);
			return;
		}
		if (r <= 0) {
			conn__free(c);
			return;
		}
		if (c->line[c->line_len++] == '\n') {
			break;
		}
	}
	if (c->line[c->line_len - 1] != '\n') {
		conn__free(c);
		return;
	}
	c->line[c->line_len - 1] = '\0';
	text = str_after(c->line, "CONNECT ");
	if (!text || parse_u64(text, UINT32_MAX - 1, &port) < 0) {
		conn__free(c);
		return;
	}
	s->n_lines--;
	c->state = CONN_REQUESTED;
	c->guest_port = (uint32_t)port;
	c->host_port = host__new_port(s, c->guest_port);
	c->deadline_ns = loop_now_ns(s->base.machine->loop) + VSOCK_PATIENCE_NS;
	c->send = SEND_REQUEST;
	conn__ready(c);
	conn__watch(c);
}

void host__accepted(struct conn *c)
{
	char line[LINE_MAX_];
	int n = snprintf(line, sizeof(line), "OK %u\n", c->host_port);
	struct iovec v = { line, (size_t)n };
	struct msghdr m = { .msg_iov = &v, .msg_iovlen = 1 };

	c->state = CONN_OPEN;
	c->deadline_ns = 0;
	c->readable = true;
	if (c->told) {
		vsock_told_fn *told = c->told;

		c->told = NULL;
		told(c->told_ctx, 0);
		conn__ready(c);
		return;
	}
	/* A fresh socket has room for it, if anybody still wants to know. */
	if (sys_sendmsg(c->fd, &m, MSG_DONTWAIT) != n) {
		conn__reset(c);
		return;
	}
	conn__ready(c);
}

void host__event(struct loop_fd *src unused_arg, unsigned events, void *ud)
{
	struct conn *c = ud;
	struct vsock *s = c->sock;
	struct vdev *d = &s->base;

	vdev_lock(d);
	d->budget = VSOCK_CONNS_MAX;
	if (c->state == CONN_LINE) {
		host__line(c);
	} else {
		if (events & (LOOP_IN | LOOP_HUP)) {
			c->readable = !c->host_end;
			conn__ready(c);
		}
		conn__flush(c);   /* the connection may be gone from here on */
	}
	vsock__fill(s);
	host__watch(s);
	vdev_flush(d);
	vdev_unlock(d);
}
