/* SPDX-License-Identifier: Apache-2.0 */
#include "vm/dev/vsock.h"

#include <errno.h>
#include <linux/virtio_ids.h>
#include <sys/syscall.h>
#include <string.h>

#include "base/fd.h"
#include "vm/dev/iov.h"
#include "vm/dev/vsock-priv.h"

enum { VSOCK_QUEUE_MAX = 128, VSOCK_PCI_CLASS = 0x078000, SWEEP_NS = 1000000000 };

static struct vsock *vsock_of(struct vdev *d)
{
	return vsock__of(d);
}

unsigned vsock_connections(struct vdev *d)
{
	vdev_lock(d);
	unsigned n = vsock_of(d)->n_conns;

	vdev_unlock(d);
	return n;
}

/* --- Answers --- */

void vsock__rst(struct vsock *s, uint64_t guest_cid, uint32_t guest_port, uint64_t host_cid,
		uint32_t host_port)
{
	if (s->n_rsts == RSTS_MAX) {
		return;   /* only for ends of connections: packets stop before (see take_tx()) */
	}
	s->rsts[(s->rst_at + s->n_rsts++) % RSTS_MAX] =
		(struct rst){ guest_port, host_port, guest_cid, host_cid };
}

static size_t rst_packet(struct vsock *s, const struct vq_chain *chain)
{
	const struct rst *r = &s->rsts[s->rst_at];
	struct virtio_vsock_hdr h = {
		.src_cid = r->host_cid, .dst_cid = r->guest_cid,
		.src_port = r->host_port, .dst_port = r->guest_port,
		.type = VIRTIO_VSOCK_TYPE_STREAM, .op = VIRTIO_VSOCK_OP_RST,
	};

	s->rst_at = (s->rst_at + 1) % RSTS_MAX;
	s->n_rsts--;
	return iov_write(vq_in(chain), chain->n_in, 0, &h, HDR_BYTES);
}

/* The next packet that there is, from whomever. 0: nobody has one. */
static size_t next_packet(struct vsock *s, const struct vq_chain *chain)
{
	if (s->n_rsts > 0) {
		return rst_packet(s, chain);
	}
	while (!list_empty(&s->ready)) {
		struct conn *c = list_entry(s->ready.next, struct conn, ready);
		size_t n;

		/* To the end of the line, if it had something: the others are next. */
		list_del(&c->ready);
		n = conn__packet(c, chain);
		if (n > 0) {
			conn__ready(c);
			return n;
		}
		conn__watch(c);
	}
	return 0;
}

void vsock__fill(struct vsock *s)
{
	while (vdev_works(&s->base) && (s->n_rsts > 0 || !list_empty(&s->ready)) &&
	       vdev_pop(&s->base, VSOCK_RX, &s->rx)) {
		size_t n = 0;

		if (s->rx.in_bytes < HDR_BYTES) {
			vq_unpop(&s->base.queues[VSOCK_RX], 1);
			vdev_fault(&s->base, "a buffer too small for a header");
			return;
		}
		n = next_packet(s, &s->rx);
		if (n == 0) {
			vq_unpop(&s->base.queues[VSOCK_RX], 1);
			break;
		}
		vdev_push(&s->base, VSOCK_RX, &s->rx, n);
	}
	if (s->tx_stopped && s->n_rsts < RSTS_ANSWERS / 2) {
		s->tx_stopped = false;
		vdev_again(&s->base, VSOCK_TX);
	}
}

/* --- From the guest --- */

static void on_request(struct vsock *s, const struct virtio_vsock_hdr *h)
{
	struct conn *c = s->ask ? conn__new(s, CONN_ASKED) : NULL;

	if (!c) {
		vsock__rst(s, h->src_cid, h->src_port, h->dst_cid, h->dst_port);
		return;
	}
	c->guest_port = h->src_port;
	c->host_port = h->dst_port;
	c->ticket = ++s->next_ticket;
	conn__credit(c, h);
	s->ask(s->ask_ctx, c->host_port, c->ticket);
}

bool vsock__answered(struct conn *c, int own_fd)
{
	c->state = CONN_OPEN;
	c->deadline_ns = 0;
	c->readable = true;
	c->send |= SEND_RESPONSE;
	conn__ready(c);
	return host__adopt(c, own_fd);
}

void vsock_answer_locked(struct vdev *d, uint64_t ticket, int own_fd)
{
	struct vsock *s = vsock_of(d);

	list_for_each(struct conn, c, &s->conns, link) {
		if (c->state != CONN_ASKED || c->ticket != ticket) {
			continue;
		}
		if (own_fd < 0) {
			conn__reset(c);
			return;
		}
		ignore_result(vsock__answered(c, own_fd)); /* reset, if it failed */
		return;
	}
	fd_close(&own_fd);
}

void vsock_answer(struct vdev *d, uint64_t ticket, int own_fd)
{
	vdev_lock(d);
	vsock_answer_locked(d, ticket, own_fd);
	d->budget = VSOCK_CONNS_MAX;
	vsock__fill(vsock_of(d));
	vdev_flush(d);
	vdev_unlock(d);
}

void vsock_refuse_asked(struct vdev *d)
{
	vdev_lock(d);
	list_for_each_safe(struct conn, c, &vsock_of(d)->conns, link) {
		if (c->state == CONN_ASKED) {
			conn__reset(c);
		}
	}
	d->budget = VSOCK_CONNS_MAX;
	vsock__fill(vsock_of(d));
	vdev_flush(d);
	vdev_unlock(d);
}

int vsock_connect(struct vdev *d, uint32_t port, int own_fd, vsock_told_fn *told, void *ctx)
{
	auto_close int fd = own_fd;
	struct vsock *s = vsock_of(d);
	int r = 0;

	vdev_lock(d);
	struct conn *c = d->phase == VDEV_LIVE ? conn__new(s, CONN_REQUESTED) : NULL;

	if (!c) {
		r = d->phase == VDEV_LIVE ? -EMFILE : -ENOTCONN;
	} else {
		c->guest_port = port;
		c->host_port = host__new_port(s, port);
		c->send = SEND_REQUEST;
		conn__ready(c);
		r = host__adopt(c, take_fd(&fd)) ? 0 : -EIO;
	}
	if (r == 0) {
		c->told = told;
		c->told_ctx = ctx;
		d->budget = VSOCK_CONNS_MAX;
		vsock__fill(s);
		vdev_flush(d);
	}
	vdev_unlock(d);
	return r;
}

/* A packet of a connection that is there. Spec: 5.10.6.6 ff. */
static void on_packet(struct conn *c, const struct virtio_vsock_hdr *h,
		      const struct vq_chain *chain)
{
	bool open = c->state == CONN_OPEN || c->state == CONN_CLOSING;

	conn__credit(c, h);
	switch (h->op) {
	case VIRTIO_VSOCK_OP_RST:
		conn__free(c);
		return;
	case VIRTIO_VSOCK_OP_RESPONSE:
		if (c->state == CONN_REQUESTED && !(c->send & SEND_REQUEST)) {
			host__accepted(c);
			return;
		}
		break;
	case VIRTIO_VSOCK_OP_RW:
		if (open) {
			conn__data(c, h, chain);
			return;
		}
		break;
	case VIRTIO_VSOCK_OP_SHUTDOWN:
		if (open) {
			conn__shutdown(c, h->flags);
			return;
		}
		break;
	case VIRTIO_VSOCK_OP_CREDIT_UPDATE:
		return;
	case VIRTIO_VSOCK_OP_CREDIT_REQUEST:
		c->send |= SEND_CREDIT;
		conn__ready(c);
		return;
	}
	conn__reset(c);   /* out of order, or nothing that there is */
}

static void on_tx(struct vsock *s, const struct vq_chain *chain)
{
	struct virtio_vsock_hdr h;

	(void)iov_read(chain->iov, chain->n_out, 0, &h, HDR_BYTES); /* take_tx() looked */
	if (h.len > chain->out_bytes - HDR_BYTES) {
		vdev_fault(&s->base, "a packet shorter than it says");
		return;
	}
	/* Spec: 5.10.6.2: not from there, not to here, not of a kind that we know: a reset, but
	 * never for a reset. */
	bool known = h.src_cid == s->config.guest_cid && h.dst_cid == VSOCK_HOST_CID &&
		     h.type == VIRTIO_VSOCK_TYPE_STREAM;
	struct conn *c = known ? conn__find(s, h.src_port, h.dst_port) : NULL;

	if (c) {
		on_packet(c, &h, chain);
	} else if (known && h.op == VIRTIO_VSOCK_OP_REQUEST) {
		on_request(s, &h);
	} else if (h.op != VIRTIO_VSOCK_OP_RST) {
		vsock__rst(s, h.src_cid, h.src_port, h.dst_cid, h.dst_port);
	}
}

static void take_tx(struct vsock *s)
{
	for (;;) {
		/* One packet makes at most one answer. */
		if (s->n_rsts >= RSTS_ANSWERS - 1) {
			s->tx_stopped = true;
			return;
		}
		if (!vdev_pop(&s->base, VSOCK_TX, &s->tx)) {
			return;
		}
		if (s->tx.out_bytes < HDR_BYTES) {
			vq_unpop(&s->base.queues[VSOCK_TX], 1);
			vdev_fault(&s->base, "a packet without a header");
			return;
		}
		on_tx(s, &s->tx);
		vdev_push(&s->base, VSOCK_TX, &s->tx, 0);
	}
}

/* Spec: 5.10.6.7 Device Events. */
static void send_event(struct vsock *s)
{
	struct virtio_vsock_event ev = { .id = VIRTIO_VSOCK_EVENT_TRANSPORT_RESET };

	if (!s->tell_reset || !vdev_pop(&s->base, VSOCK_EVENT, &s->rx)) {
		return;
	}
	s->tell_reset = false;
	vdev_push(&s->base, VSOCK_EVENT, &s->rx,
		  iov_write(vq_in(&s->rx), s->rx.n_in, 0, &ev, sizeof(ev)));
}

static void vsock_queue_ready(struct vdev *d, unsigned queue)
{
	struct vsock *s = vsock_of(d);

	if (queue == VSOCK_EVENT) {
		send_event(s);
		return;
	}
	if (queue == VSOCK_TX) {
		take_tx(s);
	}
	vsock__fill(s);
	host__watch(s);
}

/* --- Time --- */

static void on_sweep(struct loop_timer *t, void *ud)
{
	struct vsock *s = ud;
	uint64_t now = loop_now_ns(s->base.machine->loop);

	vdev_lock(&s->base);
	list_for_each_safe(struct conn, c, &s->conns, link) {
		if (c->deadline_ns == 0 || now < c->deadline_ns || s->n_rsts >= RSTS_MAX - 1) {
			continue;
		}
		if (c->state == CONN_LINE) {
			conn__free(c);
		} else {
			conn__reset(c);
		}
	}
	s->base.budget = VSOCK_CONNS_MAX;
	vsock__fill(s);
	host__watch(s);
	vdev_flush(&s->base);
	if (vdev_works(&s->base)) {
		loop_timer_start(t, SWEEP_NS);
	}
	vdev_unlock(&s->base);
}

/* --- Life --- */

static void drop_all(struct vsock *s)
{
	vsock__drop_conns(s);
	s->n_rsts = 0;
	s->tx_stopped = false;
}

static void vsock_run(struct vdev *d, bool on)
{
	struct vsock *s = vsock_of(d);

	if (on) {
		loop_timer_start(s->sweep, SWEEP_NS);
		vsock__settle_loaded(s);
	} else {
		loop_timer_stop(s->sweep);
	}
	list_for_each(struct conn, c, &s->conns, link) {
		conn__watch(c);
	}
	host__watch(s);
}

static void vsock_reset(struct vdev *d)
{
	drop_all(vsock_of(d));
	vsock_of(d)->tell_reset = false;
}

static int vsock_realize(struct vdev *d, void *conf, struct err *e)
{
	struct vsock *s = vsock_of(d);
	struct vsock_conf *c = conf;

	list_init(&s->conns);
	list_init(&s->ready);
	s->listen_fd = -1;
	s->config.guest_cid = c->guest_cid;
	s->ask = c->ask;
	s->ask_ctx = c->ctx;
	d->config = &s->config;
	d->config_bytes = sizeof(s->config);
	if (c->guest_cid <= VSOCK_HOST_CID || c->guest_cid == UINT32_MAX) {
		return err_set(e, EINVAL, ERR_INVALID, "%s: %u is no guest's address", d->name,
			       c->guest_cid);
	}

	int r = loop_timer_new(d->machine->loop, on_sweep, s, &s->sweep);

	if (r == 0) {
		r = host__listen(s, take_fd(&c->listen_fd));
	}
	return r < 0 ? err_set(e, -r, ERR_HOST, "%s: cannot listen", d->name) : 0;
}

static void vsock_unrealize(struct vdev *d)
{
	struct vsock *s = vsock_of(d);

	drop_all(s);
	free(s->loaded_bytes);
	s->loaded_bytes = NULL;
	s->sweep = loop_timer_free(s->sweep);
	s->listener = loop_fd_free(s->listener);
	fd_close(&s->listen_fd);
}

static const int vsock_calls[] = {
	SYS_accept4, SYS_fcntl, SYS_read, SYS_readv, SYS_sendmsg, SYS_shutdown, SYS_close,
};

static const struct vdev_sandbox vsock_sandbox = {
	.syscalls = vsock_calls, .n_syscalls = ARRAY_LEN(vsock_calls),
	.fds = "a listening unix socket, and a connected one for each connection",
};

static const struct vdev_ops vsock_ops = {
	.realize = vsock_realize,
	.unrealize = vsock_unrealize,
	.run = vsock_run,
	.queue_ready = vsock_queue_ready,
	.reset = vsock_reset,
	.state = vsock__state_op,
	.save_bytes = vsock__save_bytes,
	.load_bytes = vsock__load_bytes,
};

const struct vdev_desc vdev_vsock = {
	.name = "virtio-vsock",
	.virtio_id = VIRTIO_ID_VSOCK,
	.pci_class = VSOCK_PCI_CLASS,
	.n_queues = 3,
	.queue_max = VSOCK_QUEUE_MAX,
	.bytes = sizeof(struct vsock),
	.ops = &vsock_ops,
	.state = &vsock__state,
	.sandbox = &vsock_sandbox,
};
