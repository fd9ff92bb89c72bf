/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/time.h>
#include <unistd.h>

#include "base/fd.h"
#include "sys/file.h"
#include "sys/socket.h"
#include "vmrun/vmrun.h"

enum { ANSWER_TIMEOUT_S = 60 };

/* The monitor's own handshake: "CONNECT PORT\n", and "OK PORT\n" once the guest accepted. */
static int connect_port(int dir_fd, const char *socket, int *ret_fd)
{
	const struct timeval patience = { .tv_sec = ANSWER_TIMEOUT_S };
	auto_close int fd = sock_connect_at(dir_fd, socket, 0);
	char line[32];
	int n = snprintf(line, sizeof(line), "CONNECT %d\n", GUEST_PORT);
	int r = fd < 0 ? fd : sys_setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience,
					     sizeof(patience));

	r = r < 0 ? r : sys_write_full(fd, line, (size_t)n);
	for (size_t i = 0; r == 0; i++) {
		ssize_t got = sys_read(fd, &line[i], 1);

		if (got <= 0 || i + 1 == sizeof(line)) {
			return got < 0 && got != -ECONNRESET ? (int)got : -ECONNREFUSED;
		}
		if (line[i] == '\n') {
			break;
		}
	}
	if (r == 0 && !str_after(line, "OK ")) {
		r = -EPROTO;
	}
	*ret_fd = r < 0 ? -1 : take_fd(&fd);
	return r == -EPIPE ? -ECONNREFUSED : r;
}

/* One frame and no byte more: after the answer to ATTACH the bytes are the stream's. */
static int fill_frame(struct guest_link *l)
{
	uint8_t head[WIRE_HEADER_BYTES];
	char part[4096];
	ssize_t n = sys_read_full(l->conn.fd, head, sizeof(head));
	size_t left = 0;

	if (n != (ssize_t)sizeof(head)) {
		return n < 0 ? (int)n : -EPIPE;
	}
	size_t length = (size_t)head[0] | (size_t)head[1] << 8 | (size_t)head[2] << 16 |
			(size_t)head[3] << 24;

	if (length < sizeof(head) || length > WIRE_FRAME_MAX) {
		return -EBADMSG;
	}
	buf_add(&l->conn.in, head, sizeof(head));
	for (left = length - sizeof(head); left > 0; left -= (size_t)n) {
		n = sys_read(l->conn.fd, part, MIN(left, sizeof(part)));
		if (n <= 0) {
			return n < 0 ? (int)n : -EPIPE;
		}
		buf_add(&l->conn.in, part, (size_t)n);
	}
	return buf_failed(&l->conn.in) ? -ENOMEM : 0;
}

/* The next frame that is an answer to `serial`; events meanwhile are not for this link. */
static int wait_answer(struct guest_link *l, uint32_t serial, struct wire_frame *ret)
{
	for (;;) {
		int r = wire_conn_next(&l->conn, ret);

		if (r < 0) {
			return r;
		}
		if (r > 0 && ret->serial == serial) {
			return 0;
		}
		if (r > 0) {
			wire_frame_fini(ret);
			continue;
		}
		r = fill_frame(l);
		if (r < 0) {
			return r == -EAGAIN ? -ETIMEDOUT : r;
		}
	}
}

static int ask(struct guest_link *l, enum guest_msg_type type, const void *msg,
	       struct wire_frame *ret, struct err *e)
{
	int r = wire_conn_send(&l->conn, &guest_msgs[type], ++l->serial, msg);

	r = r < 0 ? r : wait_answer(l, l->serial, ret);
	return r < 0 ? err_set(e, -r, ERR_UNAVAILABLE, "the virtual machine does not answer \"%s\": %s",
			       guest_msgs[type].name, strerrordesc_np(-r)) : 0;
}

int link_call(struct guest_link *l, enum guest_msg_type type, const void *msg,
	      struct guest_reply *ret, struct err *e)
{
	struct guest_reply m;
	struct wire_frame f;
	int r = ask(l, type, msg, &f, e);

	if (r < 0) {
		return r;
	}
	if (f.type != GUEST_REPLY) {
		wire_frame_fini(&f);
		return err_set(e, EPROTO, ERR_UNAVAILABLE, "the virtual machine gave a wrong answer");
	}
	r = wire_decode(&guest_msgs[GUEST_REPLY], &f, &m, e);
	if (r == 0 && m.errnum) {
		r = err_set(e, (int)m.errnum, (enum err_code)m.code, "%s",
			    m.message ? m.message : "the guest refused");
		e->command = m.exit_code == 126 || m.exit_code == 127;
	}
	if (ret) {
		*ret = m;
	} else {
		wire_msg_fini(&guest_msgs[GUEST_REPLY], &m);
	}
	return r;
}

int link_open(int dir_fd, const char *socket, struct guest_link *ret, struct err *e)
{
	struct guest_hello hello = { GUEST_PROTO_OLDEST, GUEST_PROTO_VERSION };
	struct guest_welcome welcome;
	struct wire_frame f;
	int fd = -1;
	int r = connect_port(dir_fd, socket, &fd);

	if (r < 0) {
		return err_set(e, -r, ERR_UNAVAILABLE, "the virtual machine's agent cannot be reached");
	}
	wire_conn_init(&ret->conn, fd, GUEST_PROTO_VERSION);
	ret->serial = 0;
	r = ask(ret, GUEST_HELLO, &hello, &f, e);
	if (r == 0 && f.type != GUEST_WELCOME) {
		wire_frame_fini(&f);
		r = err_set(e, EPROTO, ERR_UNAVAILABLE, "the virtual machine's agent speaks another "
			    "protocol");
	}
	if (r == 0) {
		r = wire_decode(&guest_msgs[GUEST_WELCOME], &f, &welcome, e);
		ret->conn.version = (uint16_t)welcome.version;
		wire_msg_fini(&guest_msgs[GUEST_WELCOME], &welcome);
	}
	if (r < 0) {
		link_close(ret);
	}
	return r;
}

void link_close(struct guest_link *l)
{
	if (l->conn.fd >= 0) {
		wire_conn_fini(&l->conn);
		l->conn.fd = -1;
	}
}

int link_attach(int dir_fd, const char *socket, const char *session, enum guest_stream stream,
		int *ret_fd, struct err *e)
{
	struct guest_link l = GUEST_LINK_INIT;
	struct guest_attach m = { .session = (char *)(uintptr_t)session, .stream = stream };
	int r = link_open(dir_fd, socket, &l, e);

	if (r < 0) {
		return r;
	}
	r = link_call(&l, GUEST_ATTACH, &m, NULL, e);
	int fd = r < 0 ? -1 : sys_dup(l.conn.fd);

	if (r == 0 && fd < 0) {
		r = err_set(e, -fd, ERR_HOST, "a stream of the virtual machine");
	}
	*ret_fd = fd;
	link_close(&l);
	return r;
}
