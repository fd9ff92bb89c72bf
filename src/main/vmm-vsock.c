/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The keeper's side of vsock: the guest connects to port P of the host, and the monitor, which
 * can open nothing, is given a connection to the unix socket PATH_P beside the device's own PATH.
 */
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <sys/socket.h>

#include "base/fd.h"
#include "base/log.h"
#include "main/vmm.h"
#include "sys/file.h"
#include "sys/socket.h"
#include "wire/vmm-proto.h"

int vmm_link_open(struct vmm_link *l, const struct vmm_files *f, int *ret_child_fd, struct err *e)
{
	int fds[2] = { -1, -1 };
	int r = sys_socketpair(SOCK_STREAM | SOCK_NONBLOCK, fds);

	if (r < 0) {
		return err_set(e, -r, ERR_HOST, "socket to the monitor");
	}
	*l = (struct vmm_link){ .files = f, .open = true };
	wire_conn_init(&l->wire, fds[0], VMM_PROTO_VERSION);
	*ret_child_fd = fds[1];
	return 0;
}

void vmm_link_close(struct vmm_link *l)
{
	if (l->open) {
		wire_conn_fini(&l->wire);
		l->open = false;
	}
}

/* Never waits: a listener whose queue is full refuses. */
static int connect_port(const struct vmm_files *f, uint32_t port)
{
	char name[PATH_MAX];
	int n = snprintf(name, sizeof(name), "%s_%u", f->vsock_name, port);

	if (f->vsock_dir_fd < 0 || n >= (int)sizeof(name)) {
		return -ENOENT;
	}
	return sock_connect_at(f->vsock_dir_fd, name, SOCK_NONBLOCK);
}

static int answer(struct vmm_link *l, const struct vmm_vsock_ask *ask)
{
	auto_close int fd = connect_port(l->files, ask->port);
	const struct vmm_vsock_answer m = { .ticket = ask->ticket, .fd = fd < 0 ? -1 : fd };

	if (fd < 0) {
		log_debug("vsock: nobody is there for the guest", "errno", strerror(-fd));
	}
	return wire_conn_send(&l->wire, &vmm_msgs[VMM_VSOCK_ANSWER], 1, &m);
}

/* Its replies and what it says of its state are of no interest here. */
static int on_frame(struct vmm_link *l, struct wire_frame *f)
{
	const struct wire_msg *t = &vmm_msgs[VMM_VSOCK_ASK];
	struct vmm_vsock_ask ask = { 0 };
	struct err e = ERR_INIT;

	if (f->type != VMM_VSOCK_ASK) {
		wire_frame_fini(f);
		return 0;
	}
	int r = wire_decode(t, f, &ask, &e);

	r = r < 0 ? r : answer(l, &ask);
	wire_msg_fini(t, &ask);
	return r;
}

short vmm_link_events(const struct vmm_link *l)
{
	/* One that does not take its answers may not ask for more. */
	return !l->open ? 0 : wire_conn_pending(&l->wire) ? POLLOUT : POLLIN;
}

void vmm_link_ready(struct vmm_link *l)
{
	struct wire_frame f;
	int r = wire_conn_flush(&l->wire);

	if (r == 0 && !wire_conn_pending(&l->wire)) {
		int filled = wire_conn_fill(&l->wire);

		while (r >= 0 && (r = wire_conn_next(&l->wire, &f)) > 0) {
			r = on_frame(l, &f);
		}
		r = filled < 0 ? filled : r;
	}
	if (r < 0) {
		vmm_link_close(l); /* the monitor ended, or is not what it was */
	}
}
