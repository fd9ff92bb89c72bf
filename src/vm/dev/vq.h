/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Split virtqueues: the device's side of a ring in guest memory.
 *
 * The only code that reads or writes rings. Everything that the driver wrote is copied once
 * and checked in the copy; indices, lengths, addresses and the order of a chain are checked
 * before a device sees any of it. What breaks the rules stops the queue.
 *
 *	struct vq_chain c;
 *	int r;
 *
 *	while ((r = vq_pop(q, &c)) > 0) {
 *		size_t n = answer(c.iov, c.n_out, c.iov + c.n_out, c.n_in);
 *
 *		vq_push(q, &c, n);
 *	}
 *	if (r < 0)
 *		vdev_fault(d, "bad chain");
 *
 * Devices use vdev_pop() and vdev_push() (vm/dev/vdev.h), which add budgets and interrupts.
 *
 * Context: the owner's loop with the device's lock held, but for the setters of addresses,
 * which run on a vCPU's thread with the lock held, before the queue is enabled.
 *
 * Spec: virtio 1.2, 2.7 Split Virtqueues.
 */
#ifndef VM_DEV_VQ_H
#define VM_DEV_VQ_H

#include <sys/uio.h>

#include "base/def.h"
#include "vm/mem/gmem.h"

enum {
	VQ_CHAIN_MAX = 256,   /* descriptors of one request */
	VQ_SIZE_MAX  = 256,
};

struct vq {
	struct gmem *mem;
	uint16_t max;           /* entries that the device offers; a power of two */
	/* Set by the driver while the queue is not enabled. */
	uint16_t size;
	uint64_t desc, avail, used;
	bool     enabled;
	/* Since it was enabled; as agreed with the driver. */
	bool     event_idx, indirect;
	bool     broken;        /* the driver broke the rules: nothing is taken or given any more */
	uint16_t next_avail;    /* index of the next entry that we take */
	uint16_t seen_avail;    /* the driver's index as we read it last */
	uint16_t next_used;     /* index of the next entry that we give */
	uint16_t filled;        /* given, but not published yet */
	uint16_t signalled;     /* next_used at the last interrupt; valid if has_signalled */
	bool     has_signalled;
	bool     spared;        /* vq_kicks_off() holds */
	uint16_t in_flight;     /* taken and not given back; at most size */
	uint32_t generation;    /* of the ring: a chain of an older one is never given back */
};

/* A request. Its entries are views of guest memory, checked to be RAM. */
struct vq_chain {
	uint16_t     head;
	uint32_t     generation;
	unsigned     n_out, n_in;             /* those that we read first, then those we write */
	size_t       out_bytes, in_bytes;
	struct iovec iov[VQ_CHAIN_MAX];
};

static inline const struct iovec *vq_in(const struct vq_chain *c)
{
	return c->iov + c->n_out;
}

/* An empty queue of at most `max` entries. */
void vq_init(struct vq *q, struct gmem *mem, uint16_t max);

/* As after vq_init(), and what was taken before is void. */
void vq_reset(struct vq *q);

/* A power of two up to max; others are ignored. */
void vq_set_size(struct vq *q, uint16_t size);

/*
 * Begin, with what the driver set.
 *
 * Returns 0; -EINVAL: an address is not aligned as the ring asks; -EFAULT: a part of the ring
 * is not RAM.
 * Spec: virtio 1.2, 2.7 (alignment), 4.1.4.3 (queue_enable).
 */
int vq_enable(struct vq *q, bool event_idx, bool indirect) must_check;

/* Is this state (loaded from a stream) one that vq_enable() and use could have made? */
bool vq_valid(const struct vq *q);

/*
 * Take the next request.
 *
 * Returns 1 with *ret filled, 0 if there is none (or the queue is not enabled, or broken).
 * -EBADMSG: the driver broke a rule, and the queue is broken now:
 *   the index ran ahead of what the ring holds; more requests than the ring has entries are
 *   out; a head or a next outside the table; a chain longer than the table (a circle); an
 *   indirect table that was not agreed, in another one, followed by a next, empty, or not of
 *   whole descriptors; an empty buffer; something to read behind something to write.
 * -EFAULT: a buffer or table is not RAM as a whole. -ENOBUFS: more than VQ_CHAIN_MAX parts.
 *
 * Spec: virtio 1.2, 2.7.4 Message Framing; 2.7.5 The Virtqueue Descriptor Table; 2.7.5.3
 * Indirect Descriptors; 2.7.6 The Virtqueue Available Ring.
 */
int vq_pop(struct vq *q, struct vq_chain *ret) must_check;

/* Give the last n requests back as if they had not been taken. Nothing came between. */
void vq_unpop(struct vq *q, uint16_t n);

/* There is something to take, or to find fault with. */
bool vq_has_work(struct vq *q);

/*
 * Give a request back with the first `written` bytes of its writable part filled. In two
 * steps for requests that must appear at once: vq_fill() each, then vq_publish().
 */
void vq_fill(struct vq *q, const struct vq_chain *c, size_t written);
void vq_publish(struct vq *q);
void vq_push(struct vq *q, const struct vq_chain *c, size_t written);

/* Must the driver be told of what was published since the last call that said so? */
bool vq_wants_irq(struct vq *q);

/*
 * Ask the driver for kicks. True: there is work already that was put there before it saw that.
 * vq_kicks_off() asks it to spare them.
 */
bool vq_kicks_on(struct vq *q);
void vq_kicks_off(struct vq *q);

#endif
