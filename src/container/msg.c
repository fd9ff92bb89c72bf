/* SPDX-License-Identifier: Apache-2.0 */
/* Messages between the runtime and the container's first process: one program, one memory
 * layout, so structs go over as they are. */
#include <errno.h>
#include <string.h>

#include "container/spawn.h"
#include "sys/socket.h"

static int send_msg(int fd, const struct msg *m)
{
	return sock_send_fds(fd, m, sizeof(*m), NULL, 0);
}

int msg_send(int fd, enum msg_kind kind)
{
	struct msg m = { .kind = kind };

	return send_msg(fd, &m);
}

int msg_send_pid(int fd, pid_t pid)
{
	struct msg m = { .kind = MSG_PID, .pid = pid };

	return send_msg(fd, &m);
}

void msg_send_err(int fd, const struct err *e)
{
	struct msg m = { .kind = MSG_FAILED, .err = *e };

	ignore_result(send_msg(fd, &m)); /* the other end is gone, or sees the end of this one */
}

int msg_take_err(const struct err *theirs, struct err *e)
{
	*e = *theirs;
	e->msg[sizeof(e->msg) - 1] = '\0';
	e->field[sizeof(e->field) - 1] = '\0';
	if (e->errnum <= 0 || e->errnum > 4095) {
		e->errnum = EPROTO;
	}
	if ((unsigned)e->code <= ERR_NONE || (unsigned)e->code >= ERR__COUNT) {
		e->code = ERR_HOST;
	}
	return -e->errnum;
}

int msg_wait(int fd, enum msg_kind kind, bool eof_ok, struct msg *ret, struct err *e)
{
	struct msg m = { .kind = MSG__COUNT };
	size_t n_fds = 0;
	ssize_t n = sock_recv_fds(fd, &m, sizeof(m), NULL, 0, &n_fds);

	if (n == 0 || n == -ECONNRESET) {
		if (eof_ok) {
			return 0;
		}
		return err_set(e, EPIPE, ERR_HOST, "the container's process ended unexpectedly");
	}
	if (n < 0) {
		return err_set(e, (int)-n, ERR_HOST, "cannot read from the container's process");
	}
	if ((size_t)n == sizeof(m) && m.kind == MSG_FAILED) {
		return msg_take_err(&m.err, e);
	}
	if ((size_t)n != sizeof(m) || m.kind != kind) {
		return err_set(e, EPROTO, ERR_HOST, "unexpected message %d from the container's process",
			       (int)m.kind);
	}
	if (ret) {
		*ret = m;
	}
	return 1;
}
