/* SPDX-License-Identifier: Apache-2.0 */
#include "vm/dev/vdev.h"

#include <errno.h>
#include <linux/virtio_config.h>
#include <linux/virtio_ring.h>
#include <stdio.h>
#include <string.h>
#include <sys/eventfd.h>

#include "base/mem.h"
#include "base/str.h"
#include "sys/file.h"
#include "sys/socket.h"

/* Requests of one queue that are taken in one turn of the loop: others live beside it. */
enum { BUDGET = 256 };

#define EVERY_DEVICE \
	(BIT(VIRTIO_F_VERSION_1) | BIT(VIRTIO_RING_F_INDIRECT_DESC) | BIT(VIRTIO_RING_F_EVENT_IDX))

const char *const vdev_phase_names[VDEV_PHASE__COUNT] = {
	[VDEV_RESET] = "reset", [VDEV_FOUND] = "found",   [VDEV_READY] = "ready",
	[VDEV_LIVE] = "live",   [VDEV_BROKEN] = "broken", [VDEV_DRAINING] = "draining",
};

static const uint64_t vdev_next[VDEV_PHASE__COUNT] = {
	[VDEV_RESET] = BIT(VDEV_FOUND),
	[VDEV_FOUND] = BIT(VDEV_READY) | BIT(VDEV_BROKEN) | BIT(VDEV_DRAINING),
	[VDEV_READY] = BIT(VDEV_LIVE) | BIT(VDEV_BROKEN) | BIT(VDEV_DRAINING),
	[VDEV_LIVE] = BIT(VDEV_BROKEN) | BIT(VDEV_DRAINING),
	[VDEV_BROKEN] = BIT(VDEV_DRAINING),
	[VDEV_DRAINING] = BIT(VDEV_RESET),
};

static void set_phase(struct vdev *d, enum vdev_phase next)
{
	assert(vdev_next[d->phase] & BIT(next));
	d->phase = next;
}

void vdev_lock(struct vdev *d)
{
	int r = pthread_mutex_lock(&d->lock);

	assert(r == 0);
	(void)r; /* checked above */
}

void vdev_unlock(struct vdev *d)
{
	int r = pthread_mutex_unlock(&d->lock);

	assert(r == 0);
	(void)r; /* checked above */
}

bool vdev_works(const struct vdev *d)
{
	return d->phase == VDEV_LIVE && d->running;
}

static void signal_fd(int fd)
{
	uint64_t one = 1;

	/* -EAGAIN: it counts to 2^64 already, and wakes the loop all the same. */
	ignore_result(sys_write(fd, &one, sizeof(one)));
}

static void clear_fd(int fd)
{
	uint64_t count;

	ignore_result(sys_read(fd, &count, sizeof(count))); /* -EAGAIN: cleared already */
}

static void ask_loop(struct vdev *d)
{
	signal_fd(d->control_fd);
}

/* --- The phases --- */

static unsigned in_flight(const struct vdev *d)
{
	unsigned n = 0;

	for (unsigned i = 0; i < d->desc->n_queues; i++) {
		n += d->queues[i].in_flight;
	}
	return n;
}

static void finish_reset(struct vdev *d)
{
	for (unsigned i = 0; i < d->desc->n_queues; i++) {
		vq_reset(&d->queues[i]);
		d->fill_pending[i] = false;
	}
	d->again_queues = 0;
	d->features = 0;
	d->status = 0;
	if (d->desc->ops->reset) {
		d->desc->ops->reset(d);
	}
	if (d->transport) {
		d->transport->reset(d);
	}
	set_phase(d, VDEV_RESET);
}

static void stop_running(struct vdev *d)
{
	if (d->running) {
		d->running = false;
		d->desc->ops->run(d, false);
	}
}

static void run_queue(struct vdev *d, unsigned queue)
{
	if (!vdev_works(d)) {
		return;
	}
	d->budget = BUDGET;
	d->desc->ops->queue_ready(d, queue);
	vdev_flush(d);
}

/* What the phase asks of the loop. */
static void settle(struct vdev *d)
{
	if (d->phase == VDEV_LIVE && !d->paused && !d->running) {
		d->running = true;
		d->desc->ops->run(d, true);
		for (unsigned i = 0; i < d->desc->n_queues && vdev_works(d); i++) {
			run_queue(d, i);
		}
	}
	if (d->phase != VDEV_LIVE || d->paused) {
		stop_running(d);
	}
	if (d->phase == VDEV_DRAINING && in_flight(d) == 0) {
		finish_reset(d);
	}
}

static void on_control(struct loop_fd *src, unsigned events unused_arg, void *ud)
{
	struct vdev *d = ud;

	vdev_lock(d);
	clear_fd(loop_fd_fd(src));
	settle(d);
	vdev_unlock(d);
}

static void on_kick(struct loop_fd *src, unsigned events unused_arg, void *ud)
{
	struct vdev_kick *k = ud;

	vdev_lock(k->dev);
	clear_fd(loop_fd_fd(src));
	run_queue(k->dev, k->queue);
	vdev_unlock(k->dev);
}

static void on_again(struct loop_post *p unused_arg, void *ud)
{
	struct vdev *d = ud;

	vdev_lock(d);
	uint32_t queues = d->again_queues;

	d->again_queues = 0;
	for (unsigned i = 0; i < d->desc->n_queues; i++) {
		if (queues & BIT(i)) {
			run_queue(d, i);
		}
	}
	vdev_unlock(d);
}

void vdev_again(struct vdev *d, unsigned queue)
{
	d->again_queues |= (uint32_t)BIT(queue);
	loop_post(d->machine->loop, &d->again);
}

void vdev_fault(struct vdev *d, const char *why)
{
	d->faults++;
	d->last_fault = why;
	if (d->phase != VDEV_READY && d->phase != VDEV_LIVE) {
		return;
	}
	d->status |= VIRTIO_CONFIG_S_NEEDS_RESET;
	set_phase(d, VDEV_BROKEN);
	for (unsigned i = 0; i < d->desc->n_queues; i++) {
		d->queues[i].broken = true;
	}
	if (d->transport) {
		d->transport->live(d, false);
		/* Spec: 2.1.2: only a driver that said DRIVER_OK is told. */
		if (d->status & VIRTIO_CONFIG_S_DRIVER_OK) {
			d->transport->config_irq(d);
		}
	}
	ask_loop(d);
}

static void begin_reset(struct vdev *d)
{
	if (d->phase == VDEV_RESET) {
		return;
	}
	bool was_live = d->phase == VDEV_LIVE || d->phase == VDEV_BROKEN || d->running;

	set_phase(d, VDEV_DRAINING);
	if (d->transport) {
		d->transport->live(d, false);
	}
	if (!was_live) {
		finish_reset(d);
		return;
	}
	for (unsigned i = 0; i < d->desc->n_queues; i++) {
		d->queues[i].broken = true;
	}
	ask_loop(d);
}

static void accept_features(struct vdev *d)
{
	/* Spec: 2.2.2: the device may refuse; 6.1: all of ours are of version 1. */
	if ((d->features & ~d->offered) || !vdev_has(d, VIRTIO_F_VERSION_1) ||
	    (d->desc->ops->negotiated && d->desc->ops->negotiated(d) < 0)) {
		return;
	}
	d->status |= VIRTIO_CONFIG_S_FEATURES_OK;
	set_phase(d, VDEV_READY);
}

void vdev_set_status(struct vdev *d, uint8_t v)
{
	if (d->phase == VDEV_DRAINING) {
		return;
	}
	if (v == 0) {
		begin_reset(d);
		return;
	}

	uint8_t added = (uint8_t)(v & ~d->status);

	d->status |= added & (VIRTIO_CONFIG_S_ACKNOWLEDGE | VIRTIO_CONFIG_S_DRIVER);
	if (d->phase == VDEV_RESET && d->status != 0) {
		set_phase(d, VDEV_FOUND);
	}
	if ((added & VIRTIO_CONFIG_S_FEATURES_OK) && d->phase == VDEV_FOUND &&
	    (d->status & VIRTIO_CONFIG_S_DRIVER)) {
		accept_features(d);
	}
	if ((added & VIRTIO_CONFIG_S_DRIVER_OK) && d->phase == VDEV_READY) {
		d->status |= VIRTIO_CONFIG_S_DRIVER_OK;
		set_phase(d, VDEV_LIVE);
		if (d->transport) {
			d->transport->live(d, true);
		}
		ask_loop(d);
	}
	if ((added & VIRTIO_CONFIG_S_FAILED) && d->phase != VDEV_RESET) {
		d->status |= VIRTIO_CONFIG_S_FAILED;
		if (d->phase != VDEV_BROKEN) {
			set_phase(d, VDEV_BROKEN);
			ask_loop(d);
		}
	}
}

uint32_t vdev_offered(const struct vdev *d, uint32_t word)
{
	return word < 2 ? (uint32_t)(d->offered >> (32 * word)) : 0;
}

void vdev_set_features(struct vdev *d, uint32_t word, uint32_t v)
{
	if (d->phase == VDEV_FOUND && word < 2) {
		d->features &= ~((uint64_t)UINT32_MAX << (32 * word));
		d->features |= (uint64_t)v << (32 * word);
	}
}

struct vq *vdev_queue_setup(struct vdev *d, unsigned queue)
{
	if (d->phase != VDEV_READY || queue >= d->desc->n_queues || d->queues[queue].enabled) {
		return NULL;
	}
	return &d->queues[queue];
}

void vdev_queue_enable(struct vdev *d, unsigned queue)
{
	struct vq *q = vdev_queue_setup(d, queue);

	if (q && vq_enable(q, vdev_has(d, VIRTIO_RING_F_EVENT_IDX),
			   vdev_has(d, VIRTIO_RING_F_INDIRECT_DESC)) < 0) {
		vdev_fault(d, "queue outside of memory");
	}
}

void vdev_kick(struct vdev *d, unsigned queue)
{
	bool all = false;

	if (queue >= d->desc->n_queues || d->phase != VDEV_LIVE) {
		return;
	}
	if (d->desc->ops->kicked && vdev_works(d)) {
		d->budget = BUDGET;
		all = d->desc->ops->kicked(d, queue);
		vdev_flush(d);
	}
	if (!all) {
		signal_fd(d->kicks[queue].fd);
	}
}

void vdev_config_read(struct vdev *d, unsigned off, unsigned n, void *ret)
{
	memset(ret, 0, n);
	if (off < d->config_bytes) {
		memcpy(ret, (const uint8_t *)d->config + off, MIN(n, d->config_bytes - off));
	}
}

void vdev_config_write(struct vdev *d, unsigned off, unsigned n, const void *value)
{
	if (d->desc->ops->config_write && d->phase != VDEV_DRAINING && off < d->config_bytes &&
	    n <= d->config_bytes - off) {
		d->desc->ops->config_write(d, off, n, value);
	}
}

void vdev_config_changed(struct vdev *d)
{
	d->config_generation++;
	if (d->transport && d->phase == VDEV_LIVE) {
		d->transport->config_irq(d);
	}
}

/* --- Queues --- */

bool vdev_pop(struct vdev *d, unsigned queue, struct vq_chain *ret)
{
	struct vq *q = &d->queues[queue];

	if (!vdev_works(d)) {
		return false;
	}
	if (d->budget == 0) {
		vdev_again(d, queue);
		return false;
	}
	vq_kicks_off(q);

	int r = vq_pop(q, ret);

	/* Nothing there: ask for a kick, unless something came before the driver saw that. */
	if (r == 0 && vq_kicks_on(q)) {
		r = vq_pop(q, ret);
	}
	if (r < 0) {
		vdev_fault(d, r == -EFAULT ? "a request outside of memory" : "a malformed request");
	}
	if (r <= 0) {
		return false;
	}
	d->budget--;
	return true;
}

void vdev_publish(struct vdev *d, unsigned queue)
{
	vq_publish(&d->queues[queue]);
	d->fill_pending[queue] = true;
}

void vdev_push(struct vdev *d, unsigned queue, const struct vq_chain *c, size_t written)
{
	vq_push(&d->queues[queue], c, written);
	d->fill_pending[queue] = true;
	if (d->phase == VDEV_DRAINING && in_flight(d) == 0) {
		ask_loop(d);
	}
}

void vdev_flush(struct vdev *d)
{
	for (unsigned i = 0; i < d->desc->n_queues; i++) {
		if (!d->fill_pending[i]) {
			continue;
		}
		d->fill_pending[i] = false;
		if (d->transport && d->phase == VDEV_LIVE && vq_wants_irq(&d->queues[i])) {
			d->transport->queue_irq(d, i);
		}
	}
}

/* --- Life --- */

static int open_sources(struct vdev *d)
{
	struct loop *l = d->machine->loop;

	d->control_fd = sys_eventfd(0, EFD_NONBLOCK);
	if (d->control_fd < 0) {
		return d->control_fd;
	}
	int r = loop_fd_new(l, d->control_fd, LOOP_IN, on_control, d, &d->control);

	for (unsigned i = 0; r == 0 && i < d->desc->n_queues; i++) {
		struct vdev_kick *k = &d->kicks[i];

		k->dev = d;
		k->queue = i;
		k->fd = sys_eventfd(0, EFD_NONBLOCK);
		r = k->fd < 0 ? k->fd : loop_fd_new(l, k->fd, LOOP_IN, on_kick, k, &k->source);
	}
	return r;
}

static void close_sources(struct vdev *d)
{
	loop_post_cancel(&d->again);
	d->control = loop_fd_free(d->control);
	fd_close(&d->control_fd);
	for (unsigned i = 0; i < VDEV_QUEUES_MAX; i++) {
		d->kicks[i].source = loop_fd_free(d->kicks[i].source);
		fd_close(&d->kicks[i].fd);
	}
}

int vdev_new(const struct vdev_desc *desc, const char *name, struct machine *m,
	     void *conf, struct vdev **ret, struct err *e)
{
	assert(desc->n_queues <= VDEV_QUEUES_MAX && desc->bytes >= sizeof(struct vdev));
	struct vdev *d = mem_calloc(1, desc->bytes);

	if (!d) {
		return err_nomem(e);
	}
	d->desc = desc;
	d->machine = m;
	d->offered = EVERY_DEVICE;
	d->control_fd = -1;
	ignore_result(snprintf(d->name, sizeof(d->name), "%s", name)); /* cut is fine */
	if (pthread_mutex_init(&d->lock, NULL) != 0) {
		free(d);
		return err_nomem(e);
	}
	loop_post_init(&d->again, on_again, d);
	for (unsigned i = 0; i < VDEV_QUEUES_MAX; i++) {
		d->kicks[i].fd = -1;
		vq_init(&d->queues[i], m->mem, desc->queue_max);
	}

	int r = open_sources(d);

	if (r < 0) {
		r = err_set(e, -r, ERR_HOST, "%s: cannot make its events", name);
	} else {
		d->realized = true;
		r = desc->ops->realize(d, conf, e);
	}
	if (r < 0) {
		ignore_result(vdev_free(d)); /* NULL */
		return r;
	}
	*ret = d;
	return 0;
}

struct vdev *vdev_free(struct vdev *d)
{
	if (!d) {
		return NULL;
	}
	vdev_lock(d);
	stop_running(d);
	if (d->desc->ops->quiesce && in_flight(d) > 0) {
		ignore_result(d->desc->ops->quiesce(d, 0)); /* without an end it cannot be late */
	}
	d->transport = NULL;
	if (d->realized) {
		d->desc->ops->unrealize(d);
	}
	close_sources(d);
	vdev_unlock(d);
	ignore_result(pthread_mutex_destroy(&d->lock)); /* nobody holds it */
	free(d);
	return NULL;
}

int vdev_pause(struct vdev *d)
{
	int r = 0;

	vdev_lock(d);
	d->paused = true;
	stop_running(d);
	if (d->desc->ops->quiesce && in_flight(d) > 0) {
		r = d->desc->ops->quiesce(d, VDEV_PATIENCE_NS);
	}
	if (r < 0) {
		d->paused = false;
	} else {
		assert(in_flight(d) == 0);
	}
	vdev_flush(d);
	settle(d);
	vdev_unlock(d);
	return r;
}

/*
 * What the driver was told, and what it told, may have been lost on the way: it gets an
 * interrupt for each queue and for the configuration, and the loop looks at every queue.
 */
static void after_load(struct vdev *d)
{
	d->loaded = false;
	if (!d->transport || (d->phase != VDEV_LIVE && d->phase != VDEV_BROKEN)) {
		return;
	}
	for (unsigned i = 0; i < d->desc->n_queues; i++) {
		if (d->queues[i].enabled) {
			d->transport->queue_irq(d, i);
		}
	}
	d->config_generation++;
	d->transport->config_irq(d);
	d->transport->live(d, d->phase == VDEV_LIVE);
}

void vdev_resume(struct vdev *d)
{
	vdev_lock(d);
	d->paused = false;
	if (d->loaded) {
		after_load(d);
	}
	settle(d);
	vdev_unlock(d);
}
