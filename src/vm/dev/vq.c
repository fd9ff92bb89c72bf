/* SPDX-License-Identifier: Apache-2.0 */
#include "vm/dev/vq.h"

#include <errno.h>
#include <linux/virtio_ring.h>
#include <stdatomic.h>
#include <string.h>

static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "rings are little endian");

/* A descriptor as it lies in memory, and as it is copied: whole, once. */
struct desc {
	uint64_t addr;
	uint32_t len;
	uint16_t flags;
	uint16_t next;
};

static_assert(sizeof(struct desc) == 16, "virtio 1.2, 2.7.5");

/* Bytes of a ring's three parts, and where the words behind the entries are. */
enum { RING_HEADER = 4, AVAIL_ENTRY = 2, USED_ENTRY = 8 };

static uint64_t avail_entry(const struct vq *q, uint16_t index)
{
	return q->avail + RING_HEADER + (uint64_t)(index & (q->size - 1)) * AVAIL_ENTRY;
}

static uint64_t used_entry(const struct vq *q, uint16_t index)
{
	return q->used + RING_HEADER + (uint64_t)(index & (q->size - 1)) * USED_ENTRY;
}

static uint64_t used_event(const struct vq *q)
{
	return q->avail + RING_HEADER + (uint64_t)q->size * AVAIL_ENTRY;
}

static uint64_t avail_event(const struct vq *q)
{
	return q->used + RING_HEADER + (uint64_t)q->size * USED_ENTRY;
}

void vq_init(struct vq *q, struct gmem *mem, uint16_t max)
{
	assert(max > 0 && max <= VQ_SIZE_MAX && (max & (max - 1)) == 0);
	*q = (struct vq){ .mem = mem, .max = max, .size = max };
}

void vq_reset(struct vq *q)
{
	*q = (struct vq){ .mem = q->mem, .max = q->max, .size = q->max,
			  .generation = q->generation + 1 };
}

void vq_set_size(struct vq *q, uint16_t size)
{
	if (size > 0 && size <= q->max && (size & (size - 1)) == 0) {
		q->size = size;
	}
}

/* All parts of the ring, with the event words that EVENT_IDX adds, are RAM and aligned. */
static int check_ring(const struct vq *q)
{
	const struct {
		uint64_t at, align, bytes;
	} parts[] = {
		{ q->desc, 16, (uint64_t)q->size * sizeof(struct desc) },
		{ q->avail, 2, RING_HEADER + 2 + (uint64_t)q->size * AVAIL_ENTRY },
		{ q->used, 4, RING_HEADER + 2 + (uint64_t)q->size * USED_ENTRY },
	};

	for (size_t i = 0; i < ARRAY_LEN(parts); i++) {
		if (parts[i].at & (parts[i].align - 1)) {
			return -EINVAL;
		}
		if (!gmem_is_ram(q->mem, GPA(parts[i].at), parts[i].bytes)) {
			return -EFAULT;
		}
	}
	return 0;
}

int vq_enable(struct vq *q, bool event_idx, bool indirect)
{
	assert(!q->enabled);
	int r = check_ring(q);

	if (r < 0) {
		return r;
	}
	q->event_idx = event_idx;
	q->indirect = indirect;
	q->enabled = true;
	return 0;
}

bool vq_valid(const struct vq *q)
{
	return q->size > 0 && q->size <= q->max && (q->size & (q->size - 1)) == 0 &&
	       q->in_flight == 0 && q->filled == 0 &&
	       (!q->enabled || check_ring(q) == 0);
}

static int fail(struct vq *q, int r)
{
	q->broken = true;
	return r;
}

static int add_buffer(const struct vq *q, const struct desc *d, struct vq_chain *ret)
{
	unsigned n = ret->n_out + ret->n_in;
	bool in = d->flags & VRING_DESC_F_WRITE;

	if (d->len == 0 || (!in && ret->n_in > 0)) {
		return -EBADMSG;
	}
	int r = gmem_iov(q->mem, GPA(d->addr), d->len, ret->iov, &n, VQ_CHAIN_MAX);

	if (r < 0) {
		return r;
	}
	if (in) {
		ret->n_in++;
		ret->in_bytes += d->len;
	} else {
		ret->n_out++;
		ret->out_bytes += d->len;
	}
	return 0;
}

/* A table of descriptors: the queue's own, or an indirect one. */
struct table {
	uint64_t at;
	uint32_t entries;
	bool     nested;
};

static int indirect_table(const struct vq *q, const struct desc *d, struct table *ret)
{
	if (!q->indirect || (d->flags & VRING_DESC_F_NEXT) || d->len == 0 ||
	    d->len % sizeof(struct desc) != 0) {
		return -EBADMSG;
	}
	if (!gmem_is_ram(q->mem, GPA(d->addr), d->len)) {
		return -EFAULT;
	}
	*ret = (struct table){ .at = d->addr, .entries = d->len / (uint32_t)sizeof(struct desc),
			       .nested = true };
	return 0;
}

/*
 * Follow a chain. An indirect descriptor is the last one of its chain, so the walk goes on in
 * its table and never comes back; in there, indirect ones are refused. So there are at most
 * two tables, and each is left after as many steps as it has entries.
 */
static int walk(const struct vq *q, uint16_t head, struct vq_chain *ret)
{
	struct table t = { .at = q->desc, .entries = q->size };
	uint32_t i = head, steps = 0;

	for (;;) {
		struct desc d;

		if (i >= t.entries || steps++ >= t.entries) {
			return -EBADMSG;
		}
		int r = gmem_read(q->mem, GPA(t.at + i * sizeof(d)), &d, sizeof(d));

		if (r < 0) {
			return r;
		}
		if (d.flags & VRING_DESC_F_INDIRECT) {
			if (t.nested) {
				return -EBADMSG;
			}
			r = indirect_table(q, &d, &t);
			if (r < 0) {
				return r;
			}
			i = 0;
			steps = 0;
			continue;
		}
		r = add_buffer(q, &d, ret);
		if (r < 0) {
			return r;
		}
		if (!(d.flags & VRING_DESC_F_NEXT)) {
			return 0;
		}
		i = d.next;
	}
}

/* Learn the driver's index, and hold it against what the ring can hold. */
static int look(struct vq *q)
{
	uint16_t idx;
	int r = gmem_load16(q->mem, GPA(q->avail + 2), &idx);   /* acquire: entries follow */

	if (r < 0) {
		return r;
	}
	if ((uint16_t)(idx - q->next_avail) > q->size - q->in_flight) {
		return -EBADMSG;
	}
	q->seen_avail = idx;
	return 0;
}

int vq_pop(struct vq *q, struct vq_chain *ret)
{
	uint16_t head;
	int r = 0;

	if (!q->enabled || q->broken) {
		return 0;
	}
	if (q->seen_avail == q->next_avail) {
		r = look(q);
		if (r < 0) {
			return fail(q, r);
		}
		if (q->seen_avail == q->next_avail) {
			return 0;
		}
	}
	r = gmem_load16(q->mem, GPA(avail_entry(q, q->next_avail)), &head);
	if (r < 0) {
		return fail(q, r);
	}
	ret->head = head;
	ret->generation = q->generation;
	ret->n_out = ret->n_in = 0;
	ret->out_bytes = ret->in_bytes = 0;
	r = walk(q, head, ret);
	if (r < 0) {
		return fail(q, r);
	}
	q->next_avail++;
	q->in_flight++;
	return 1;
}

void vq_unpop(struct vq *q, uint16_t n)
{
	assert(n <= q->in_flight && q->filled == 0);
	q->next_avail = (uint16_t)(q->next_avail - n);
	q->in_flight = (uint16_t)(q->in_flight - n);
}

bool vq_has_work(struct vq *q)
{
	if (!q->enabled || q->broken) {
		return false;
	}
	/* What look() finds fault with is told by the next vq_pop(). */
	return q->seen_avail != q->next_avail || look(q) < 0 || q->seen_avail != q->next_avail;
}

void vq_fill(struct vq *q, const struct vq_chain *c, size_t written)
{
	struct vring_used_elem e = { .id = c->head };

	if (c->generation != q->generation) {
		return;
	}
	assert(q->in_flight > 0 && written <= c->in_bytes);
	q->in_flight--;
	/* All of it: what stands behind `written` may have been touched, too. */
	if (c->n_in > 0) {
		gmem_wrote(q->mem, vq_in(c), c->n_in);
	}
	if (q->broken) {
		return;
	}
	e.len = (uint32_t)MIN(written, (size_t)UINT32_MAX);

	uint16_t index = (uint16_t)(q->next_used + q->filled);

	if (gmem_write(q->mem, GPA(used_entry(q, index)), &e, sizeof(e)) < 0) {
		q->broken = true;   /* cannot be: checked when it was enabled */
		return;
	}
	q->filled++;
}

void vq_publish(struct vq *q)
{
	if (q->filled == 0 || q->broken) {
		q->filled = 0;
		return;
	}
	q->next_used = (uint16_t)(q->next_used + q->filled);
	q->filled = 0;
	/* Release: the driver that reads the index (acquire) sees the entries and the data. */
	if (gmem_store16(q->mem, GPA(q->used + 2), q->next_used) < 0) {
		q->broken = true;
	}
}

void vq_push(struct vq *q, const struct vq_chain *c, size_t written)
{
	vq_fill(q, c, written);
	vq_publish(q);
}

bool vq_wants_irq(struct vq *q)
{
	uint16_t word = 0, old = q->signalled;

	if (!q->enabled || q->broken || (q->has_signalled && q->next_used == old)) {
		return false;
	}
	/* Full: our index is out before we read what the driver wants; its own side has the
	 * same between writing used_event (or flags) and reading our index. */
	atomic_thread_fence(memory_order_seq_cst);
	if (!q->event_idx) {
		q->signalled = q->next_used;
		q->has_signalled = true;
		return gmem_load16(q->mem, GPA(q->avail), &word) == 0 &&
		       !(word & VRING_AVAIL_F_NO_INTERRUPT);
	}
	if (gmem_load16(q->mem, GPA(used_event(q)), &word) < 0) {
		return false;
	}
	bool first = !q->has_signalled;

	q->signalled = q->next_used;
	q->has_signalled = true;
	return first || vring_need_event(word, q->next_used, old);
}

bool vq_kicks_on(struct vq *q)
{
	int r = 0;

	if (!q->enabled || q->broken) {
		return false;
	}
	q->spared = false;
	if (q->event_idx) {
		r = gmem_store16(q->mem, GPA(avail_event(q)), q->next_avail);
	} else {
		r = gmem_store16(q->mem, GPA(q->used), 0);
	}
	if (r < 0) {
		q->broken = true;
		return false;
	}
	/* Full: the wish is out before we look again; the driver writes its index, has a full
	 * barrier, and then reads the wish. */
	atomic_thread_fence(memory_order_seq_cst);
	return vq_has_work(q);
}

void vq_kicks_off(struct vq *q)
{
	if (!q->enabled || q->broken || q->spared) {
		return;
	}
	q->spared = true;
	/* With EVENT_IDX the old avail_event, which is behind us, does that already. */
	if (!q->event_idx &&
	    gmem_store16(q->mem, GPA(q->used), VRING_USED_F_NO_NOTIFY) < 0) {
		q->broken = true;
	}
}
