/* SPDX-License-Identifier: Apache-2.0 */
#include "vm/dev/console.h"

#include <errno.h>
#include <linux/virtio_console.h>
#include <linux/virtio_ids.h>
#include <string.h>
#include <sys/syscall.h>

#include "sys/file.h"
#include "vm/dev/iov.h"

enum { CONSOLE_QUEUE_MAX = 64, READ_MAX = 4096, CONSOLE_PCI_CLASS = 0x078000 };

struct console {
	struct vdev      base;
	int              in_fd, out_fd;
	struct loop_fd  *in, *out;       /* NULL: the descriptor is a file, always ready */
	bool             in_end, out_end;
	bool             tx_held;        /* `tx` is out: the descriptor took only a part of it */
	size_t           tx_done;        /* bytes of `tx` that were written */
	uint64_t         tx_skip;        /* bytes of the next request that were written already */
	struct vq_chain  tx;
	struct vq_chain  rx;
	struct virtio_console_config config;
	size_t         (*filter)(void *ctx, uint8_t *data, size_t n);
	void            *filter_ctx;
	size_t           n_typed;        /* with a filter: input that the driver had no room for */
	uint8_t          typed[1024];
};

static struct console *console_of(struct vdev *d)
{
	return container_of(d, struct console, base);
}

static bool would_block(ssize_t r)
{
	return r == -EAGAIN;
}

/* What each source waits for now. */
static void watch(struct console *s, bool in, bool out)
{
	in = s->filter ? s->n_typed < sizeof(s->typed) : in;
	if (s->in) {
		ignore_result(loop_fd_set(s->in, in && !s->in_end ? LOOP_IN : 0)); /* epoll_ctl */
	}
	if (s->out) {
		ignore_result(loop_fd_set(s->out, out && !s->out_end ? LOOP_OUT : 0)); /* same */
	}
}

static bool wants_input(struct console *s)
{
	return vdev_works(&s->base) && vq_has_work(&s->base.queues[CONSOLE_RX]);
}

/* --- Output --- */

/* Write what is left of s->tx. False: the descriptor takes no more now. */
static bool write_chain(struct console *s)
{
	struct iovec part[VQ_CHAIN_MAX];

	while (s->tx_done < s->tx.out_bytes && !s->out_end && s->out_fd >= 0) {
		unsigned n = iov_slice(s->tx.iov, s->tx.n_out, s->tx_done, s->tx.out_bytes, part,
				       VQ_CHAIN_MAX);
		ssize_t r = sys_writev(s->out_fd, part, n);

		if (would_block(r)) {
			return false;
		}
		if (r <= 0) {
			s->out_end = true;
			break;
		}
		s->tx_done += (size_t)r;
	}
	return true;
}

static void drain_tx(struct console *s)
{
	while (vdev_works(&s->base)) {
		if (!s->tx_held) {
			if (!vdev_pop(&s->base, CONSOLE_TX, &s->tx)) {
				break;
			}
			s->tx_held = true;
			s->tx_done = MIN(s->tx_skip, s->tx.out_bytes);
			s->tx_skip = 0;
		}
		if (!write_chain(s)) {
			break;
		}
		s->tx_held = false;
		vdev_push(&s->base, CONSOLE_TX, &s->tx, 0);
	}
	watch(s, wants_input(s), s->tx_held);
}

static void on_out(struct loop_fd *src unused_arg, unsigned events, void *ud)
{
	struct console *s = ud;

	vdev_lock(&s->base);
	s->base.budget = CONSOLE_QUEUE_MAX;
	if (!(events & LOOP_OUT)) {
		s->out_end = true;   /* only an error or a hang-up */
	}
	drain_tx(s);
	vdev_flush(&s->base);
	vdev_unlock(&s->base);
}

/* --- Input --- */

/* Read what is typed, also when the guest does not: some of it may not be for the guest. */
static void read_typed(struct console *s)
{
	uint8_t *to = s->typed + s->n_typed;
	ssize_t r = sys_read(s->in_fd, to, sizeof(s->typed) - s->n_typed);

	if (r > 0) {
		s->n_typed += s->filter(s->filter_ctx, to, (size_t)r);
	} else if (!would_block(r)) {
		s->in_end = true;
	}
}

static void pass_typed(struct console *s)
{
	while (s->n_typed > 0 && vdev_pop(&s->base, CONSOLE_RX, &s->rx)) {
		size_t n = iov_write(vq_in(&s->rx), s->rx.n_in, 0, s->typed, s->n_typed);

		if (n == 0) {
			vq_unpop(&s->base.queues[CONSOLE_RX], 1);
			vdev_fault(&s->base, "nowhere to put input");
			return;
		}
		vdev_push(&s->base, CONSOLE_RX, &s->rx, n);
		s->n_typed -= n;
		memmove(s->typed, s->typed + n, s->n_typed);
	}
}

/* Read into the driver's buffers, straight from the descriptor. */
static void fill_rx(struct console *s)
{
	if (s->filter) {
		pass_typed(s);
		return;
	}
	while (!s->in_end && s->in_fd >= 0 && vdev_pop(&s->base, CONSOLE_RX, &s->rx)) {
		struct iovec part[VQ_CHAIN_MAX];
		unsigned n = iov_slice(vq_in(&s->rx), s->rx.n_in, 0, READ_MAX, part, VQ_CHAIN_MAX);

		if (n == 0) {
			vq_unpop(&s->base.queues[CONSOLE_RX], 1);
			vdev_fault(&s->base, "nowhere to put input");
			return;
		}
		ssize_t r = sys_readv(s->in_fd, part, n);

		if (r <= 0) {
			vq_unpop(&s->base.queues[CONSOLE_RX], 1);
			s->in_end = !would_block(r);
			break;
		}
		vdev_push(&s->base, CONSOLE_RX, &s->rx, (size_t)r);
	}
}

static void on_in(struct loop_fd *src unused_arg, unsigned events unused_arg, void *ud)
{
	struct console *s = ud;

	vdev_lock(&s->base);
	s->base.budget = CONSOLE_QUEUE_MAX;
	if (s->filter) {
		read_typed(s);
	}
	fill_rx(s);
	watch(s, wants_input(s), s->tx_held);
	vdev_flush(&s->base);
	vdev_unlock(&s->base);
}

static void console_queue_ready(struct vdev *d, unsigned queue)
{
	struct console *s = console_of(d);

	if (queue == CONSOLE_TX) {
		drain_tx(s);
		return;
	}
	fill_rx(s);
	watch(s, wants_input(s), s->tx_held);
}

static void console_run(struct vdev *d, bool on)
{
	struct console *s = console_of(d);

	watch(s, on, on && s->tx_held);
	if (!on && d->phase != VDEV_LIVE && s->tx_held) {
		/* The driver is gone: its buffer, too. */
		s->tx_held = false;
		vdev_push(d, CONSOLE_TX, &s->tx, 0);
	}
}

/* Nothing may be in flight in a snapshot: the request is taken again, its first part skipped. */
static int console_quiesce(struct vdev *d, uint64_t timeout_ns unused_arg)
{
	struct console *s = console_of(d);

	if (s->tx_held) {
		s->tx_held = false;
		s->tx_skip = s->tx_done;
		vq_unpop(&d->queues[CONSOLE_TX], 1);
	}
	return 0;
}

static void console_reset(struct vdev *d)
{
	console_of(d)->tx_skip = 0;
}

/* Spec: 5.3.4: one character, without a queue, also before the driver is ready. */
static void console_config_write(struct vdev *d, unsigned off, unsigned n, const void *value)
{
	struct console *s = console_of(d);

	if (off == offsetof(struct virtio_console_config, emerg_wr) && n == 4 &&
	    vdev_has(d, VIRTIO_CONSOLE_F_EMERG_WRITE) && s->out_fd >= 0 && !s->out_end) {
		ignore_result(sys_write(s->out_fd, value, 1)); /* a last word, if there is room */
	}
}

void console_resize(struct vdev *d, uint16_t cols, uint16_t rows)
{
	struct console *s = console_of(d);

	vdev_lock(d);
	if (s->config.cols != cols || s->config.rows != rows) {
		s->config.cols = cols;
		s->config.rows = rows;
		if (vdev_has(d, VIRTIO_CONSOLE_F_SIZE)) {
			vdev_config_changed(d);
		}
	}
	vdev_unlock(d);
}

static int source(struct console *s, int fd, loop_fd_fn fn, struct loop_fd **ret)
{
	if (fd < 0) {
		return 0;
	}
	int r = sys_set_nonblock(fd);

	if (r >= 0) {
		r = loop_fd_new(s->base.machine->loop, fd, 0, fn, s, ret);
	}
	return r == -EPERM ? 0 : r;   /* a file */
}

static int console_realize(struct vdev *d, void *conf, struct err *e)
{
	struct console *s = console_of(d);
	struct console_conf *c = conf;

	s->in_fd = take_fd(&c->in_fd);
	s->out_fd = take_fd(&c->out_fd);
	s->config.cols = c->cols;
	s->config.rows = c->rows;
	s->config.max_nr_ports = 1;
	s->filter = c->filter;
	s->filter_ctx = c->filter_ctx;
	d->offered |= BIT(VIRTIO_CONSOLE_F_SIZE) | BIT(VIRTIO_CONSOLE_F_EMERG_WRITE);
	d->config = &s->config;
	d->config_bytes = sizeof(s->config);

	int r = source(s, s->in_fd, on_in, &s->in);

	if (r >= 0) {
		r = source(s, s->out_fd, on_out, &s->out);
	}
	watch(s, false, false);
	return r < 0 ? err_set(e, -r, ERR_HOST, "%s: its descriptors cannot be watched", d->name) :
		       0;
}

static void console_unrealize(struct vdev *d)
{
	struct console *s = console_of(d);

	s->in = loop_fd_free(s->in);
	s->out = loop_fd_free(s->out);
	fd_close(&s->in_fd);
	fd_close(&s->out_fd);
}

static const struct state_field console_fields[] = {
	STATE_HOST_ONLY(struct console, base, "saved by its own table"),
	STATE_HOST_ONLY(struct console, in_fd, "of the configuration"),
	STATE_HOST_ONLY(struct console, out_fd, "of the configuration"),
	STATE_HOST_ONLY(struct console, in, "of this process"),
	STATE_HOST_ONLY(struct console, out, "of this process"),
	STATE_HOST_ONLY(struct console, in_end, "of the descriptor"),
	STATE_HOST_ONLY(struct console, out_end, "of the descriptor"),
	STATE_HOST_ONLY(struct console, tx_held, "false: nothing is out"),
	STATE_HOST_ONLY(struct console, tx_done, "0: nothing is out"),
	STATE_U64(1, struct console, tx_skip, .max = UINT64_C(1) << 40),
	STATE_HOST_ONLY(struct console, tx, "nothing is out"),
	STATE_HOST_ONLY(struct console, rx, "nothing is out"),
	STATE_HOST_ONLY(struct console, filter, "of the configuration"),
	STATE_HOST_ONLY(struct console, filter_ctx, "of the configuration"),
	STATE_HOST_ONLY(struct console, n_typed, "of the terminal"),
	STATE_HOST_ONLY(struct console, typed, "of the terminal"),
	STATE_HOST_ONLY(struct console, config, "the terminal's; a change is told after a load"),
};

static const struct state_desc console_state =
	STATE_DESC("virtio-console", struct console, console_fields, .version = 1, .oldest = 1);

static const int console_calls[] = { SYS_read, SYS_readv, SYS_writev };

static const struct vdev_sandbox console_sandbox = {
	.syscalls = console_calls, .n_syscalls = ARRAY_LEN(console_calls),
	.fds = "its input and its output",
};

static const struct vdev_ops console_ops = {
	.realize = console_realize,
	.unrealize = console_unrealize,
	.run = console_run,
	.queue_ready = console_queue_ready,
	.reset = console_reset,
	.config_write = console_config_write,
	.quiesce = console_quiesce,
};

const struct vdev_desc vdev_console = {
	.name = "virtio-console",
	.virtio_id = VIRTIO_ID_CONSOLE,
	.pci_class = CONSOLE_PCI_CLASS,
	.n_queues = 2,
	.queue_max = CONSOLE_QUEUE_MAX,
	.bytes = sizeof(struct console),
	.ops = &console_ops,
	.state = &console_state,
	.sandbox = &console_sandbox,
};
