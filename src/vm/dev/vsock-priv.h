/* SPDX-License-Identifier: Apache-2.0 */
/* Between vsock.c (the device), vsock-conn.c (one connection) and vsock-host.c (the host's
 * side). Everything runs on the loop with the device's lock held. */
#ifndef VM_DEV_VSOCK_PRIV_H
#define VM_DEV_VSOCK_PRIV_H

#include <linux/virtio_vsock.h>

#include "vm/dev/vsock.h"

enum {
	HDR_BYTES  = 44,
	/* Resets that wait for buffers: of every connection, and answers to packets of none. */
	RSTS_ANSWERS = 64,
	RSTS_MAX   = RSTS_ANSWERS + VSOCK_CONNS_MAX,
	LINE_MAX_  = 32,          /* "CONNECT 4294967295\n" */
	ACCEPT_MAX = 16,          /* clients of the listening socket that have not said a port */
};

/* How long a peer may take: to say a port, to accept, to end. */
#define VSOCK_PATIENCE_NS (UINT64_C(10) * 1000000000)

static_assert(sizeof(struct virtio_vsock_hdr) == HDR_BYTES, "virtio 1.2, 5.10.6");

/* The numbers are in snapshots. */
enum conn_state {
	CONN_LINE,       /* a client of the listening socket; its port is not known yet */
	CONN_ASKED,      /* the guest's request is with our owner */
	CONN_REQUESTED,  /* ours is with the guest */
	CONN_OPEN,
	CONN_CLOSING,    /* the host's side is gone; the guest is to end it */
	CONN_STATE__COUNT,
};

/* Packets that a connection has to send when there is room. */
enum {
	SEND_REQUEST = 1, SEND_RESPONSE = 2, SEND_CREDIT = 4, SEND_CREDIT_REQUEST = 8,
	SEND_SHUTDOWN = 16,
};

struct conn {
	struct list      link;          /* of all, by age */
	struct list      ready;         /* in vsock->ready: has something for the guest */
	struct vsock    *sock;
	enum conn_state  state;
	uint32_t         guest_port, host_port;
	uint64_t         ticket;
	int              fd;
	bool             orphan;        /* from a snapshot, and nobody gave it a descriptor yet */
	struct loop_fd  *source;
	vsock_told_fn   *told;          /* of vsock_connect(), until it was called */
	void            *told_ctx;
	uint64_t         deadline_ns;   /* 0: none */
	unsigned         send;          /* SEND_* */
	uint32_t         shutdown_out;  /* VIRTIO_VSOCK_SHUTDOWN_* that we say, or said */
	uint32_t         shutdown_in;   /* that the guest said */
	bool             readable;      /* the descriptor may have something */
	bool             host_end;      /* it has not, for ever */
	bool             out_shut;      /* its writing side is shut down */

	/* From the guest: what the descriptor did not take yet. */
	uint8_t         *buf;           /* VSOCK_BUF, a circle; NULL while it is empty */
	uint32_t         buf_at, buf_len;
	uint32_t         fwd_cnt, fwd_told;

	/* To the guest. */
	uint32_t         peer_alloc, peer_fwd, sent;
	char             line[LINE_MAX_];
	unsigned         line_len;
};

struct rst {
	uint32_t guest_port, host_port;
	uint64_t guest_cid, host_cid;
};

/* A connection in a snapshot. */
struct vsock_saved {
	uint32_t state, guest_port, host_port, send, shutdown_out, shutdown_in;
	uint32_t fwd_cnt, fwd_told, peer_alloc, peer_fwd, sent;
	uint32_t buf_len;             /* bytes of the section behind */
	bool     host_end, out_shut;
};

struct vsock {
	struct vdev        base;
	struct virtio_vsock_config config;
	struct list        conns, ready;
	unsigned           n_conns, n_lines;
	struct rst         rsts[RSTS_MAX];   /* a circle */
	unsigned           rst_at, n_rsts;
	bool               tx_stopped;       /* no place for more answers */
	bool               tell_reset;       /* the event that all connections are gone */
	uint32_t           next_port;
	uint64_t           next_ticket;
	int                listen_fd;
	struct loop_fd    *listener;
	struct loop_timer *sweep;
	void             (*ask)(void *ctx, uint32_t port, uint64_t ticket);
	void              *ask_ctx;
	struct vq_chain    rx, tx;
	/* For a snapshot. */
	uint32_t           cid;              /* as the guest knows it */
	uint32_t           n_saved;
	struct vsock_saved saved[VSOCK_CONNS_MAX];
	uint8_t           *loaded_bytes;
	size_t             loaded_len;
};

/* --- vsock-conn.c --- */

struct conn *conn__new(struct vsock *s, enum conn_state state);
void         conn__free(struct conn *c);
struct conn *conn__find(struct vsock *s, uint32_t guest_port, uint32_t host_port);

/* It may have something for the guest: vsock__fill() looks. */
void conn__ready(struct conn *c);

/* The guest said something: credit, data, an end. */
void conn__credit(struct conn *c, const struct virtio_vsock_hdr *h);
void conn__data(struct conn *c, const struct virtio_vsock_hdr *h, const struct vq_chain *chain);
void conn__shutdown(struct conn *c, uint32_t flags);

/* What the descriptor waits for now. */
void conn__watch(struct conn *c);

/* Write what is buffered, end what is over. The connection may be gone afterwards. */
void conn__flush(struct conn *c);

/* The end with a reset to the guest, and without one. */
void conn__reset(struct conn *c);

/* The next packet for the guest into a chain: bytes written, or 0: it has none now. */
size_t conn__packet(struct conn *c, const struct vq_chain *chain);

size_t conn__header(struct vsock *s, const struct vq_chain *chain, const struct conn *c,
		    uint16_t op, uint32_t len, uint32_t flags);

/* --- vsock-host.c --- */

int  host__listen(struct vsock *s, int own_fd) must_check;
void host__watch(struct vsock *s);
void host__line(struct conn *c);      /* the client's first line may be there */
void host__accepted(struct conn *c);  /* the guest accepted: tell the client */
/* The guest's question has its answer. False: the connection is gone. Of vsock.c. */
bool vsock__answered(struct conn *c, int own_fd) must_check;
bool host__adopt(struct conn *c, int own_fd) must_check;   /* false: the connection is gone */
uint32_t host__new_port(struct vsock *s, uint32_t guest_port);
void host__event(struct loop_fd *src, unsigned events, void *ud);

/* --- vsock-state.c --- */

extern const struct state_desc vsock__state;

int  vsock__state_op(struct vdev *d, bool save) must_check;
void vsock__save_bytes(struct vdev *d, struct buf *b);
int  vsock__load_bytes(struct vdev *d, const void *data, size_t len) must_check;
void vsock__drop_conns(struct vsock *s);

/* The machine goes on: what was loaded and got no descriptor is reset, or asked for again. */
void vsock__settle_loaded(struct vsock *s);

/* --- vsock.c --- */

static inline struct vsock *vsock__of(struct vdev *d)
{
	return container_of(d, struct vsock, base);
}

/* Queue a reset for a pair of ports that no connection stands for. */
void vsock__rst(struct vsock *s, uint64_t guest_cid, uint32_t guest_port, uint64_t host_cid,
		uint32_t host_port);

/* Give the guest what is there for it, as far as its buffers go. */
void vsock__fill(struct vsock *s);

#endif
