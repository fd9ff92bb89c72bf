/* SPDX-License-Identifier: Apache-2.0 */
/*
 * virtio-vsock: stream connections between the guest and unix sockets of the host.
 *
 * Host to guest: whoever connects to the listening socket writes "CONNECT <port>\n" and, once
 * the guest accepted, reads "OK <host port>\n"; from there on the socket is the connection. It
 * is closed without a word if nobody listens in the guest.
 *
 * Guest to host: the device holds no path and makes no socket. It asks its owner, by a port
 * and a ticket, and is given a connected socket, or none, by vsock_answer().
 *
 * The guest is promised VSOCK_BUF bytes of buffer a connection, and what it sends beyond ends
 * the connection; what the host sends waits in its socket until the guest has room. Memory is
 * bounded: VSOCK_CONNS_MAX connections of VSOCK_BUF bytes, taken only while a peer is slow.
 *
 * A snapshot holds every connection with its counters and the bytes that wait for the host; what
 * the host wrote and the guest did not get is in the socket still. Who restores hands the sockets
 * over again (vsock_take(), vsock_give()), or new ones, before the machine goes on; a connection
 * that gets none is reset then.
 *
 * Spec: virtio 1.2, 5.10 Socket Device.
 */
#ifndef VM_DEV_VSOCK_H
#define VM_DEV_VSOCK_H

#include "vm/dev/vdev.h"

enum {
	VSOCK_RX = 0, VSOCK_TX = 1, VSOCK_EVENT = 2,
	VSOCK_HOST_CID = 2,
	VSOCK_CONNS_MAX = 512,
	VSOCK_BUF = 64 << 10,
};

struct vsock_conf {
	uint32_t guest_cid;       /* 3 and up */
	int      listen_fd;       /* taken; a listening unix stream socket; -1: none */
	/*
	 * The guest wants to connect to a port of the host. The answer may come at once, from
	 * in here, or later. On the loop's thread, with the device's lock held. NULL: all are
	 * refused.
	 */
	void   (*ask)(void *ctx, uint32_t port, uint64_t ticket);
	void    *ctx;
};

extern const struct vdev_desc vdev_vsock;

/*
 * The answer to ask(): a connected stream socket, owned from here on, or -1. A ticket that is
 * not known (the guest gave up meanwhile) closes it.
 * Context: the loop's thread; _locked from within ask(), else without the lock.
 */
void vsock_answer(struct vdev *d, uint64_t ticket, int own_fd);
void vsock_answer_locked(struct vdev *d, uint64_t ticket, int own_fd);

/* Nobody is there to answer any more: all that was asked and not answered is refused. */
void vsock_refuse_asked(struct vdev *d);

/*
 * Of a paused machine: a duplicate of a connection's socket, which the caller owns; and, after a
 * load, the socket for a connection of the snapshot, taken also on failure. -ENOENT: there is no
 * such connection, or it waits for none.
 */
int vsock_take(struct vdev *d, uint32_t guest_port, uint32_t host_port) must_check;
int vsock_give(struct vdev *d, uint32_t guest_port, uint32_t host_port, int own_fd) must_check;

/* The connections as a JSON array: the two ports, and state. */
void vsock_list(struct vdev *d, struct buf *b);

/* Connections there are, in whatever state. */
unsigned vsock_connections(struct vdev *d);

/*
 * Connect `own_fd`, a stream socket, to a port of the guest. told() is called once, with the
 * device's lock held, unless this fails: 0 when the guest accepted, else -errno, and then the
 * socket is closed. -ENOTCONN: the guest has no driver for the device (yet); -EMFILE: there are
 * too many connections. The descriptor is taken, also on failure.
 * Context: the loop's thread, without the lock.
 */
typedef void vsock_told_fn(void *ctx, int r);
int vsock_connect(struct vdev *d, uint32_t port, int own_fd, vsock_told_fn *told,
		  void *ctx) must_check;

#endif
