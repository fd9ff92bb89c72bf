/* SPDX-License-Identifier: Apache-2.0 */
#include "vm/dev/rng.h"

#include <errno.h>
#include <linux/virtio_ids.h>
#include <sys/syscall.h>

#include "base/clock.h"
#include "sys/file.h"
#include "vm/dev/iov.h"

enum { RNG_QUEUE_MAX = 64, ANSWER_MAX = 4096, QUOTA = 1 << 20, RNG_PCI_CLASS = 0x00ff00 };

struct rng {
	struct vdev        base;
	int                fd;
	uint64_t           quota;      /* bytes a period */
	uint64_t           left;       /* of this one */
	uint64_t           period_end_ns;
	struct loop_timer *timer;
	struct vq_chain    chain;
};

enum { PERIOD_NS = 1000000000 };

static struct rng *rng_of(struct vdev *d)
{
	return container_of(d, struct rng, base);
}

/* What may still be given now. 0: the timer calls again. */
static uint64_t allowance(struct rng *s)
{
	uint64_t now = loop_now_ns(s->base.machine->loop);

	if (now >= s->period_end_ns) {
		s->period_end_ns = now + PERIOD_NS;
		s->left = s->quota;
	}
	if (s->left == 0 && !loop_timer_active(s->timer)) {
		loop_timer_start(s->timer, s->period_end_ns - now);
	}
	return s->left;
}

/*
 * Spec: 5.4.6.2: at least one byte, at most the buffer. Short answers are fine: drivers ask
 * again, and nothing here is as large as the guest wants it.
 */
static void rng_queue_ready(struct vdev *d, unsigned queue)
{
	struct rng *s = rng_of(d);
	uint8_t bytes[ANSWER_MAX];

	while (allowance(s) > 0 && vdev_pop(d, queue, &s->chain)) {
		struct vq_chain *c = &s->chain;
		size_t want = MIN(MIN(c->in_bytes, sizeof(bytes)), s->left);
		ssize_t n = 0;

		if (want == 0) {
			vq_unpop(&d->queues[queue], 1);
			vdev_fault(d, "nowhere to put entropy");
			return;
		}
		n = sys_read(s->fd, bytes, want);
		if (n <= 0) {
			/* The host's source fails: the driver waits, and asks again later. */
			vq_unpop(&d->queues[queue], 1);
			s->left = 0;
			(void)allowance(s); /* starts the timer */
			return;
		}
		s->left -= (uint64_t)n;
		vdev_push(d, queue, c, iov_write(vq_in(c), c->n_in, 0, bytes, (size_t)n));
	}
	explicit_bzero(bytes, sizeof(bytes));
}

static void on_timer(struct loop_timer *t unused_arg, void *ud)
{
	struct rng *s = ud;

	vdev_lock(&s->base);
	if (vdev_works(&s->base)) {
		vdev_again(&s->base, 0);
	}
	vdev_unlock(&s->base);
}

static void rng_run(struct vdev *d, bool on)
{
	if (!on) {
		loop_timer_stop(rng_of(d)->timer);
	}
}

static int rng_realize(struct vdev *d, void *conf, struct err *e)
{
	struct rng *s = rng_of(d);
	struct rng_conf *c = conf;

	s->fd = take_fd(&c->fd);
	s->quota = c->bytes_a_second ? c->bytes_a_second : QUOTA;

	int r = loop_timer_new(d->machine->loop, on_timer, s, &s->timer);

	return r < 0 ? err_set(e, -r, ERR_HOST, "%s: no timer", d->name) : 0;
}

static void rng_unrealize(struct vdev *d)
{
	struct rng *s = rng_of(d);

	s->timer = loop_timer_free(s->timer);
	fd_close(&s->fd);
}

static const struct state_field rng_fields[] = {
	STATE_HOST_ONLY(struct rng, base, "saved by its own table"),
	STATE_HOST_ONLY(struct rng, fd, "of the configuration"),
	STATE_HOST_ONLY(struct rng, quota, "of the configuration"),
	STATE_HOST_ONLY(struct rng, left, "a period begins with the first request"),
	STATE_HOST_ONLY(struct rng, period_end_ns, "a period begins with the first request"),
	STATE_HOST_ONLY(struct rng, timer, "of this process"),
	STATE_HOST_ONLY(struct rng, chain, "nothing is out"),
};

static const struct state_desc rng_state =
	STATE_DESC("virtio-rng", struct rng, rng_fields, .version = 1, .oldest = 1);

static const int rng_calls[] = { SYS_read };

static const struct vdev_sandbox rng_sandbox = {
	.syscalls = rng_calls, .n_syscalls = ARRAY_LEN(rng_calls),
	.fds = "the host's source of random bytes",
};

static const struct vdev_ops rng_ops = {
	.realize = rng_realize,
	.unrealize = rng_unrealize,
	.run = rng_run,
	.queue_ready = rng_queue_ready,
};

const struct vdev_desc vdev_rng = {
	.name = "virtio-rng",
	.virtio_id = VIRTIO_ID_RNG,
	.pci_class = RNG_PCI_CLASS,
	.n_queues = 1,
	.queue_max = RNG_QUEUE_MAX,
	.bytes = sizeof(struct rng),
	.ops = &rng_ops,
	.state = &rng_state,
	.sandbox = &rng_sandbox,
};
