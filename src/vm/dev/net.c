/* SPDX-License-Identifier: Apache-2.0 */
#include "vm/dev/net.h"
#include "vm/dev/net-filter.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/if_tun.h>
#include <linux/virtio_ids.h>
#include <linux/virtio_net.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>

#include "base/mem.h"
#include "sys/file.h"
#include "vm/dev/iov.h"

enum {
	NET_QUEUE_MAX = 256,
	HDR_BYTES     = 12,            /* struct virtio_net_hdr_v1 */
	LEN_BYTES     = 4,             /* before a frame in a stream */
	FRAME_MAX     = 65536 + 22,    /* the largest segment, with its Ethernet header and a tag */
	RX_BYTES      = 2 * (LEN_BYTES + FRAME_MAX),
	RX_CHAINS     = 64,            /* buffers that one packet may be spread over */
	RX_ROUNDS     = 64,            /* packets in one turn of the loop */
	NET_PCI_CLASS = 0x020000,
};

static_assert(sizeof(struct virtio_net_hdr_v1) == HDR_BYTES, "virtio 1.2, 5.1.6");

struct net {
	struct vdev       base;
	int               fd;
	struct loop_fd   *source;
	bool              stream, ended;
	struct virtio_net_config config;
	struct net_counts counts;

	/* From the host. A tap's packet is rx[0, rx_end); a stream's bytes are cut into frames. */
	uint8_t          *rx;                /* RX_BYTES */
	size_t            rx_start, rx_end;
	struct vq_chain  *chains;            /* RX_CHAINS */

	/* To the host: the rest of what the descriptor did not take. No more is taken before. */
	uint8_t          *rest;              /* LEN_BYTES + HDR_BYTES + FRAME_MAX */
	size_t            rest_start, rest_end;
	struct vq_chain   tx;
	uint8_t           mac[NET_MAC_BYTES];   /* as the driver knows it; for a snapshot */
};

static struct net *net_of(struct vdev *d)
{
	return container_of(d, struct net, base);
}

struct net_counts net_counts(struct vdev *d)
{
	vdev_lock(d);
	struct net_counts c = net_of(d)->counts;

	vdev_unlock(d);
	return c;
}

/* --- The wire --- */

/* The other side is gone: the link is down from now on. */
static void end_link(struct net *s)
{
	s->ended = true;
	s->config.status = 0;
	s->rest_start = s->rest_end = 0;
	s->rx_start = s->rx_end = 0;
	if (vdev_has(&s->base, VIRTIO_NET_F_STATUS)) {
		vdev_config_changed(&s->base);
	}
}

/* --- To the host --- */

/* False: the descriptor takes no more now. */
static bool write_rest(struct net *s)
{
	while (s->rest_end > s->rest_start) {
		ssize_t n = sys_write(s->fd, s->rest + s->rest_start, s->rest_end - s->rest_start);

		if (n == -EAGAIN) {
			return false;
		}
		if (n <= 0 && s->stream) {
			end_link(s);
			return true;
		}
		/* A tap takes a packet whole, or refuses it. */
		s->rest_start = s->stream ? s->rest_start + (size_t)n : s->rest_end;
	}
	return true;
}

/* Keep what stands in `iov` behind the first `done` bytes, for later. */
static void keep_rest(struct net *s, const struct iovec *iov, unsigned n, size_t done)
{
	s->rest_start = 0;
	s->rest_end = iov_read(iov, n, done, s->rest, LEN_BYTES + HDR_BYTES + FRAME_MAX);
}

static void send_packet(struct net *s)
{
	struct iovec out[VQ_CHAIN_MAX + 2];
	uint32_t len = htonl((uint32_t)(s->tx.out_bytes - HDR_BYTES));
	uint8_t head[NET_FILTER_BYTES];
	unsigned n = 0;

	if (s->ended || s->tx.out_bytes - HDR_BYTES > FRAME_MAX || s->tx.out_bytes == HDR_BYTES) {
		s->counts.tx_dropped++;
		return;
	}
	if (s->stream) {
		/* What was looked at is what is sent, whatever the guest does to its memory. */
		size_t n_head = iov_read(s->tx.iov, s->tx.n_out, HDR_BYTES, head, sizeof(head));

		if (net_filter_denies(head, n_head)) {
			s->counts.tx_dropped++;
			return;
		}
		out[0] = (struct iovec){ &len, LEN_BYTES };
		out[1] = (struct iovec){ head, n_head };
		n = 2 + iov_slice(s->tx.iov, s->tx.n_out, HDR_BYTES + n_head, s->tx.out_bytes,
				  out + 2, VQ_CHAIN_MAX);
	} else {
		n = iov_slice(s->tx.iov, s->tx.n_out, 0, s->tx.out_bytes, out, VQ_CHAIN_MAX);
	}

	/* The kernel reads guest memory once and holds the header against the packet. */
	ssize_t r = sys_writev(s->fd, out, n);
	size_t all = iov_bytes(out, n);

	if (r == -EAGAIN || (s->stream && r >= 0 && (size_t)r < all)) {
		keep_rest(s, out, n, r > 0 ? (size_t)r : 0);
	} else if (r < 0) {
		s->counts.tx_dropped++;
		if (s->stream) {
			end_link(s);
		}
		return;
	}
	s->counts.tx_packets++;
}

static void drain_tx(struct net *s)
{
	while (s->rest_end == s->rest_start && vdev_pop(&s->base, NET_TX, &s->tx)) {
		/* Spec: 5.1.6.2: every packet begins with a header, however it is framed. */
		if (s->tx.out_bytes < HDR_BYTES) {
			vq_unpop(&s->base.queues[NET_TX], 1);
			vdev_fault(&s->base, "a packet without a header");
			return;
		}
		send_packet(s);
		vdev_push(&s->base, NET_TX, &s->tx, 0);
	}
}

/* --- To the guest --- */

enum put { PUT_DONE, PUT_DROPPED, PUT_WAIT };

/* Take as many buffers as the packet needs. 0: there are not enough of them now. */
static unsigned take_chains(struct net *s, size_t need, bool *ret_too_large)
{
	unsigned n = 0, max = vdev_has(&s->base, VIRTIO_NET_F_MRG_RXBUF) ? RX_CHAINS : 1;
	size_t room = 0;

	*ret_too_large = false;
	while (room < need && n < max && vdev_pop(&s->base, NET_RX, &s->chains[n])) {
		room += s->chains[n++].in_bytes;
	}
	if (room >= need) {
		return n;
	}
	*ret_too_large = n == max;
	vq_unpop(&s->base.queues[NET_RX], (uint16_t)n);
	return 0;
}

/* Spec: 5.1.6.4 Processing of Incoming Packets. */
static enum put put_packet(struct net *s, struct virtio_net_hdr_v1 *h, const uint8_t *frame,
			   size_t bytes)
{
	bool too_large;
	size_t need = HDR_BYTES + bytes, done = 0;
	unsigned n = take_chains(s, need, &too_large);

	if (n == 0) {
		return too_large ? PUT_DROPPED : PUT_WAIT;
	}
	if (s->chains[0].in_bytes < HDR_BYTES) {
		vq_unpop(&s->base.queues[NET_RX], (uint16_t)n);
		vdev_fault(&s->base, "a buffer too small for a header");
		return PUT_DROPPED;
	}
	h->num_buffers = (uint16_t)n;
	if (!vdev_has(&s->base, VIRTIO_NET_F_GUEST_CSUM)) {
		h->flags = 0;
	}
	for (unsigned i = 0; i < n; i++) {
		struct vq_chain *c = &s->chains[i];
		size_t head = i == 0 ? iov_write(vq_in(c), c->n_in, 0, h, HDR_BYTES) : 0;
		size_t part = iov_write(vq_in(c), c->n_in, head, frame + done, bytes - done);

		done += part;
		vq_fill(&s->base.queues[NET_RX], c, head + part);
	}
	vdev_publish(&s->base, NET_RX);
	return PUT_DONE;
}

static void count_put(struct net *s, enum put r)
{
	s->counts.rx_packets += r == PUT_DONE;
	s->counts.rx_dropped += r == PUT_DROPPED;
}

/* The packet that waits, if there is one. False: it still does. */
static bool put_tap(struct net *s)
{
	struct virtio_net_hdr_v1 h;

	if (s->rx_end == 0) {
		return true;
	}
	memcpy(&h, s->rx, HDR_BYTES);
	enum put r = put_packet(s, &h, s->rx + HDR_BYTES, s->rx_end - HDR_BYTES);

	if (r == PUT_WAIT) {
		return false;
	}
	count_put(s, r);
	s->rx_end = 0;
	return true;
}

/* Each whole frame that is there. False: one waits for buffers. */
static bool put_stream(struct net *s)
{
	for (;;) {
		struct virtio_net_hdr_v1 h = { .gso_type = VIRTIO_NET_HDR_GSO_NONE };
		size_t have = s->rx_end - s->rx_start;
		uint32_t len;

		if (have < LEN_BYTES) {
			return true;
		}
		memcpy(&len, s->rx + s->rx_start, LEN_BYTES);
		len = ntohl(len);
		if (len == 0 || len > FRAME_MAX) {
			end_link(s);   /* not what we speak: nothing behind it can be trusted */
			return true;
		}
		if (have < LEN_BYTES + len) {
			return true;
		}
		enum put r = put_packet(s, &h, s->rx + s->rx_start + LEN_BYTES, len);

		if (r == PUT_WAIT) {
			return false;
		}
		count_put(s, r);
		s->rx_start += LEN_BYTES + len;
	}
}

/* Read what fits. False: there is nothing (more) now. */
static bool read_more(struct net *s)
{
	if (s->stream && s->rx_start > 0) {
		memmove(s->rx, s->rx + s->rx_start, s->rx_end - s->rx_start);
		s->rx_end -= s->rx_start;
		s->rx_start = 0;
	}
	ssize_t n = sys_read(s->fd, s->rx + s->rx_end, RX_BYTES - s->rx_end);

	if (n > 0) {
		/* A tap gives whole packets, each behind a header. */
		if (s->stream || n > HDR_BYTES) {
			s->rx_end += (size_t)n;
		}
		return true;
	}
	if (s->stream && n != -EAGAIN) {
		end_link(s);
	}
	return false;
}

static void fill_rx(struct net *s)
{
	for (unsigned i = 0; i < RX_ROUNDS && vdev_works(&s->base) && !s->ended; i++) {
		if (!(s->stream ? put_stream(s) : put_tap(s))) {
			break;
		}
		if (s->ended || !read_more(s)) {
			break;
		}
	}
	/* The last read's packets, too, so that only what waits for buffers stays. */
	if (vdev_works(&s->base) && !s->ended) {
		(void)(s->stream ? put_stream(s) : put_tap(s)); /* what waits, waits */
	}
}

/* A stream's first part of a frame does not wait for buffers: more of it must come. */
static bool frame_waits(const struct net *s)
{
	uint32_t len;
	size_t have = s->rx_end - s->rx_start;

	if (!s->stream) {
		return s->rx_end > 0;
	}
	if (have < LEN_BYTES) {
		return false;
	}
	memcpy(&len, s->rx + s->rx_start, LEN_BYTES);
	return have >= LEN_BYTES + (size_t)ntohl(len);
}

static void settle(struct net *s)
{
	bool works = vdev_works(&s->base) && !s->ended;

	ignore_result(loop_fd_set(s->source,
				  (works && !frame_waits(s) ? LOOP_IN : 0u) |
				  (works && s->rest_end > s->rest_start ? LOOP_OUT :
									  0u))); /* epoll_ctl */
}

static void on_wire(struct loop_fd *src unused_arg, unsigned events, void *ud)
{
	struct net *s = ud;

	vdev_lock(&s->base);
	s->base.budget = NET_QUEUE_MAX;
	if (vdev_works(&s->base) && !s->ended) {
		if (events & LOOP_OUT && write_rest(s)) {
			drain_tx(s);
		}
		if (events & (LOOP_IN | LOOP_HUP)) {
			fill_rx(s);
		}
	}
	settle(s);
	vdev_flush(&s->base);
	vdev_unlock(&s->base);
}

static void net_queue_ready(struct vdev *d, unsigned queue)
{
	struct net *s = net_of(d);

	if (queue == NET_TX) {
		drain_tx(s);
	} else {
		fill_rx(s);
	}
	settle(s);
}

/* --- Life --- */

/* What the kernel may leave to the guest. */
static unsigned tap_offloads(const struct vdev *d)
{
	unsigned v = 0;

	if (!vdev_has(d, VIRTIO_NET_F_GUEST_CSUM)) {
		return 0;
	}
	v |= TUN_F_CSUM;
	v |= vdev_has(d, VIRTIO_NET_F_GUEST_TSO4) ? TUN_F_TSO4 : 0;
	v |= vdev_has(d, VIRTIO_NET_F_GUEST_TSO6) ? TUN_F_TSO6 : 0;
	if (v & (TUN_F_TSO4 | TUN_F_TSO6) && vdev_has(d, VIRTIO_NET_F_GUEST_ECN)) {
		v |= TUN_F_TSO_ECN;
	}
	return v;
}

static void net_run(struct vdev *d, bool on)
{
	struct net *s = net_of(d);

	if (on && !s->stream) {
		ignore_result(sys_ioctl(s->fd, TUNSETOFFLOAD,
					(void *)(uintptr_t)tap_offloads(d))); /* asked once before */
	}
	settle(s);
}

/* Spec: 5.1.3.1 Feature bit requirements. */
static int net_negotiated(struct vdev *d)
{
	static const struct {
		unsigned feature, needs;
	} rows[] = {
		{ VIRTIO_NET_F_GUEST_TSO4, VIRTIO_NET_F_GUEST_CSUM },
		{ VIRTIO_NET_F_GUEST_TSO6, VIRTIO_NET_F_GUEST_CSUM },
		{ VIRTIO_NET_F_HOST_TSO4, VIRTIO_NET_F_CSUM },
		{ VIRTIO_NET_F_HOST_TSO6, VIRTIO_NET_F_CSUM },
	};

	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		if (vdev_has(d, rows[i].feature) && !vdev_has(d, rows[i].needs)) {
			return -EINVAL;
		}
	}
	return 0;
}

static void net_reset(struct vdev *d)
{
	struct net *s = net_of(d);

	/* What waited was for the driver that is gone; half a frame of a stream is not. */
	if (!s->stream) {
		s->rx_end = 0;
	}
}

static int open_tap(struct net *s)
{
	int hdr = HDR_BYTES;
	int r = sys_ioctl(s->fd, TUNSETVNETHDRSZ, &hdr);

	if (r == 0) {
		r = sys_ioctl(s->fd, TUNSETOFFLOAD, (void *)(uintptr_t)0);
	}
	if (r < 0) {
		return r;
	}
	if (sys_ioctl(s->fd, TUNSETOFFLOAD, (void *)(uintptr_t)(TUN_F_CSUM | TUN_F_TSO4 |
							      TUN_F_TSO6 | TUN_F_TSO_ECN)) == 0) {
		s->base.offered |= BIT(VIRTIO_NET_F_CSUM) | BIT(VIRTIO_NET_F_GUEST_CSUM) |
				   BIT(VIRTIO_NET_F_HOST_TSO4) | BIT(VIRTIO_NET_F_HOST_TSO6) |
				   BIT(VIRTIO_NET_F_HOST_ECN) | BIT(VIRTIO_NET_F_GUEST_TSO4) |
				   BIT(VIRTIO_NET_F_GUEST_TSO6) | BIT(VIRTIO_NET_F_GUEST_ECN);
	}
	return 0;
}

static int open_wire(struct net *s)
{
	int r = sys_set_nonblock(s->fd);

	if (r >= 0 && !s->stream) {
		r = open_tap(s);
	}
	if (r >= 0) {
		r = loop_fd_new(s->base.machine->loop, s->fd, 0, on_wire, s, &s->source);
	}
	return r;
}

static void fill_config(struct net *s, const struct net_conf *c)
{
	memcpy(s->config.mac, c->mac, NET_MAC_BYTES);
	s->config.status = VIRTIO_NET_S_LINK_UP;
	s->config.max_virtqueue_pairs = 1;
	s->config.mtu = c->mtu;
	s->base.offered |= BIT(VIRTIO_NET_F_MAC) | BIT(VIRTIO_NET_F_STATUS) |
			   BIT(VIRTIO_NET_F_MRG_RXBUF);
	s->base.offered |= c->mtu ? BIT(VIRTIO_NET_F_MTU) : 0;
	s->base.config = &s->config;
	s->base.config_bytes = offsetof(struct virtio_net_config, speed);
}

static int net_realize(struct vdev *d, void *conf, struct err *e)
{
	struct net *s = net_of(d);
	struct net_conf *c = conf;

	s->fd = take_fd(&c->fd);
	s->stream = c->stream;
	s->rx = mem_calloc(1, RX_BYTES);
	s->rest = mem_calloc(1, LEN_BYTES + HDR_BYTES + FRAME_MAX);
	s->chains = mem_calloc(RX_CHAINS, sizeof(*s->chains));
	if (!s->rx || !s->rest || !s->chains) {
		return err_nomem(e);
	}
	fill_config(s, c);

	int r = open_wire(s);

	return r < 0 ? err_set(e, -r, ERR_HOST, "%s: not a %s that can be used", d->name,
			       s->stream ? "socket" : "tap device with IFF_VNET_HDR") : 0;
}

static void net_unrealize(struct vdev *d)
{
	struct net *s = net_of(d);

	s->source = loop_fd_free(s->source);
	fd_close(&s->fd);
	free(s->rx);
	free(s->rest);
	free(s->chains);
}

/* A frame that waited is lost, as one may be. */
static int net_state_op(struct vdev *d, bool save)
{
	struct net *s = net_of(d);

	if (save) {
		memcpy(s->mac, s->config.mac, NET_MAC_BYTES);
	} else {
		memcpy(s->config.mac, s->mac, NET_MAC_BYTES);
	}
	return 0;
}

static const struct state_field net_fields[] = {
	STATE_HOST_ONLY(struct net, base, "saved by its own table"),
	STATE_HOST_ONLY(struct net, fd, "of the configuration"),
	STATE_HOST_ONLY(struct net, source, "of this process"),
	STATE_HOST_ONLY(struct net, stream, "of the configuration"),
	STATE_HOST_ONLY(struct net, ended, "of the descriptor"),
	STATE_HOST_ONLY(struct net, config, "of the configuration, but for what stands below"),
	STATE_HOST_ONLY(struct net, counts, "of this process"),
	STATE_HOST_ONLY(struct net, rx, "packets under way are lost"),
	STATE_HOST_ONLY(struct net, rx_start, "packets under way are lost"),
	STATE_HOST_ONLY(struct net, rx_end, "packets under way are lost"),
	STATE_HOST_ONLY(struct net, chains, "nothing is out"),
	STATE_HOST_ONLY(struct net, rest, "packets under way are lost"),
	STATE_HOST_ONLY(struct net, rest_start, "packets under way are lost"),
	STATE_HOST_ONLY(struct net, rest_end, "packets under way are lost"),
	STATE_HOST_ONLY(struct net, tx, "nothing is out"),
	STATE_BYTES(1, struct net, mac),
};

static const struct state_desc net_state =
	STATE_DESC("virtio-net", struct net, net_fields, .version = 1, .oldest = 1);

static const int net_calls[] = { SYS_read, SYS_write, SYS_writev, SYS_ioctl };

static const struct vdev_sandbox net_sandbox = {
	.syscalls = net_calls, .n_syscalls = ARRAY_LEN(net_calls),
	.fds = "the tap (TUNSETOFFLOAD is the only ioctl), or a connected socket",
};

static const struct vdev_ops net_ops = {
	.realize = net_realize,
	.unrealize = net_unrealize,
	.run = net_run,
	.queue_ready = net_queue_ready,
	.reset = net_reset,
	.negotiated = net_negotiated,
	.state = net_state_op,
};

const struct vdev_desc vdev_net = {
	.name = "virtio-net",
	.virtio_id = VIRTIO_ID_NET,
	.pci_class = NET_PCI_CLASS,
	.n_queues = 2,
	.queue_max = NET_QUEUE_MAX,
	.bytes = sizeof(struct net),
	.ops = &net_ops,
	.state = &net_state,
	.sandbox = &net_sandbox,
};
