/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Vsock by the control socket. The monitor opens nothing: a connection to the guest is one end
 * of a socket pair, one from the guest is asked of whoever serves them, else of the parent.
 */
#include <errno.h>
#include <sys/socket.h>

#include "base/fd.h"
#include "base/mem.h"
#include "sys/socket.h"
#include "vm/ctl-priv.h"
#include "vm/dev/vsock.h"

/* A reply that comes when the guest answered. Lives until the device told, whatever ends first. */
struct waiting {
	struct list      link;
	struct ctl_conn *conn;     /* NULL: nobody waits any more */
	uint32_t         serial;
	int              fd;
};

static struct vdev *device(struct vm_ctl *c, struct err *e)
{
	struct vdev *d = vm_device(c->vm, &vdev_vsock, 0);

	if (!d) {
		ignore_result(err_set(e, ENODEV, ERR_NOT_FOUND,
				      "the machine has no vsock device")); /* NULL says it */
	}
	return d;
}

static void told(void *ctx, int r)
{
	struct waiting *w = ctx;
	struct err e = ERR_INIT;

	if (w->conn) {
		if (r < 0) {
			ignore_result(err_set(&e, -r, ERR_NOT_FOUND,
				      "nobody listens there in the guest")); /* r */
		}
		ctl__reply(w->conn, w->serial, r, &(struct vmm_reply){ .fd = w->fd }, &e);
	}
	list_del(&w->link);
	fd_close(&w->fd);
	free(w);
}

int ctl__vsock_connect(struct ctl_conn *c, uint32_t port, struct err *e)
{
	struct vdev *d = device(c->ctl, e);
	struct waiting *w = d ? mem_new(struct waiting) : NULL;
	int fds[2] = { -1, -1 };

	if (!w) {
		return d ? err_nomem(e) : -e->errnum;
	}
	*w = (struct waiting){ .conn = c, .serial = c->serial, .fd = -1 };
	list_add_tail(&c->ctl->waiting, &w->link);
	int r = sys_socketpair(SOCK_STREAM | SOCK_NONBLOCK, fds);

	if (r == 0) {
		w->fd = fds[1];
		r = vsock_connect(d, port, fds[0], told, w);
	}
	if (r < 0) {
		list_del(&w->link);
		fd_close(&w->fd);
		free(w);
		return err_set(e, -r, r == -ENOTCONN ? ERR_UNAVAILABLE : ERR_LIMIT,
			       r == -ENOTCONN ? "the guest has no driver for its vsock device (yet)" :
						"no more connections to the guest");
	}
	return CTL_LATER;
}

int ctl__vsock_serve(struct ctl_conn *c, struct err *e)
{
	if (!device(c->ctl, e)) {
		return -e->errnum;
	}
	c->ctl->server = c;
	return 0;
}

int ctl__vsock_answer(struct ctl_conn *c, struct vmm_vsock_answer *m, struct err *e)
{
	struct vdev *d = device(c->ctl, e);

	if (!d) {
		return -e->errnum;
	}
	vsock_answer(d, m->ticket, take_fd(&m->fd));
	return 0;
}

int ctl__vsock_list(struct ctl_conn *c, struct vmm_reply *ret, struct err *e)
{
	struct vdev *d = device(c->ctl, e);
	auto_buf struct buf b = BUF_INIT;

	if (!d) {
		return -e->errnum;
	}
	vsock_list(d, &b);
	ret->text = buf_take(&b);
	return ret->text ? 0 : err_nomem(e);
}

/* Sockets change hands only while nobody uses them. */
static struct vdev *paused_device(struct ctl_conn *c, struct err *e)
{
	struct vdev *d = device(c->ctl, e);

	if (d && vm_state(c->ctl->vm) != VM_PAUSED) {
		ignore_result(err_set(e, EBUSY, ERR_CONFLICT, "the virtual machine is %s, not paused",
				      vm_state_names[vm_state(c->ctl->vm)])); /* NULL says it */
		return NULL;
	}
	return d;
}

static int no_connection(const struct vmm_vsock_conn *m, int r, struct err *e)
{
	return err_set(e, -r, r == -ENOENT ? ERR_NOT_FOUND : ERR_HOST,
		       "there is no such connection, from port %u of the guest to %u, or it waits for "
		       "no socket", m->guest_port, m->host_port);
}

int ctl__vsock_take(struct ctl_conn *c, const struct vmm_vsock_conn *m, struct vmm_reply *ret,
		    struct err *e)
{
	struct vdev *d = paused_device(c, e);

	if (!d) {
		return -e->errnum;
	}
	int fd = vsock_take(d, m->guest_port, m->host_port);

	if (fd < 0) {
		return no_connection(m, fd, e);
	}
	ret->fd = fd;
	return 0;
}

int ctl__vsock_give(struct ctl_conn *c, struct vmm_vsock_conn *m, struct err *e)
{
	struct vdev *d = paused_device(c, e);
	int r = d ? vsock_give(d, m->guest_port, m->host_port, take_fd(&m->fd)) : 0;

	return !d ? -e->errnum : r < 0 ? no_connection(m, r, e) : 0;
}

void vm_ctl_vsock_ask(struct vm_ctl *c, struct vdev *d, uint32_t port, uint64_t ticket)
{
	struct ctl_conn *whom = c && c->server ? c->server : c ? c->parent : NULL;

	if (whom && !whom->broken) {
		ctl__send(whom, VMM_VSOCK_ASK, 0, &(struct vmm_vsock_ask){ port, ticket });
	}
	if (!whom || whom->broken) {
		vsock_answer_locked(d, ticket, -1);
	}
}

void ctl__vsock_conn_gone(struct ctl_conn *c)
{
	struct vm_ctl *ctl = c->ctl;
	bool served = ctl->server == c || (ctl->parent == c && !ctl->server);
	struct vdev *d = vm_device(ctl->vm, &vdev_vsock, 0);

	ctl->server = ctl->server == c ? NULL : ctl->server;
	ctl->parent = ctl->parent == c ? NULL : ctl->parent;
	list_for_each (struct waiting, w, &ctl->waiting, link) {
		w->conn = w->conn == c ? NULL : w->conn;
	}
	if (served && d) {
		vsock_refuse_asked(d);
	}
}

/* What waits goes on its own: the device tells it when the connection ends. */
void ctl__vsock_fini(struct vm_ctl *c)
{
	list_for_each_safe (struct waiting, w, &c->waiting, link) {
		list_del(&w->link);
	}
}
