/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Where instructions reach memory, as it was found while their code ran: a block that was made for
 * another place is made again.
 */
#include "vm/cpu/soft/xl-cache.h"

enum {
	MISSES_MAX = 8,            /* of an instruction's place */
	OLDER_MAX = 4,
};

static size_t hint_slot(uint64_t gpa)
{
	return gpa * UINT64_C(0x9e3779b97f4a7c15) >> (64 - XL_HINT_BITS);
}

uint8_t xl_hint(const struct xl_cache *x, uint64_t gpa)
{
	const struct xl_hint *h = &x->hints[hint_slot(gpa)];

	return h->tag == (uint32_t)gpa ? h->place : (uint8_t)XP_UNKNOWN;
}

/* The place of its instruction, from now on. */
static void place_again(struct soft_cpu *c, const struct xl_out *o, uint8_t place)
{
	uint64_t gpa = (o->block->gpa & ~(uint64_t)(GMEM_PAGE_BYTES - 1)) | o->off;

	c->eng->xl->hints[hint_slot(gpa)] = (struct xl_hint){ .tag = (uint32_t)gpa, .turned = true,
							      .place = place };
	xl_cache_kill(c->eng, o->block);
}

/* Has it been wrong often enough? */
static bool misses(const struct xl_out *o)
{
	return __atomic_add_fetch(&o->packed->misses, 1, __ATOMIC_RELAXED) >= MISSES_MAX;
}

void xl_misplaced(struct soft_cpu *c, const struct xl_out *o, bool filled)
{
	struct xl_cache *x = c->eng->xl;
	uint64_t gpa = (o->block->gpa & ~(uint64_t)(GMEM_PAGE_BYTES - 1)) | o->off;
	struct xl_hint *h = &x->hints[hint_slot(gpa)];

	if (!misses(o)) {
		return;
	}
	pthread_mutex_lock(&x->lock);
	if (!o->block->dead && h->tag == (uint32_t)gpa && h->place != o->place &&
	    h->older < OLDER_MAX) {
		h->older++;
		xl_cache_kill(c->eng, o->block);
	} else if (!o->block->dead) {
		bool again = h->tag == (uint32_t)gpa && h->turned && h->place != XP_ALONE;

		place_again(c, o, !filled || o->place == XP_EITHER ? XP_TLB :
				  again ? XP_EITHER : o->place == XP_LOW ? XP_HIGH : XP_LOW);
	}
	pthread_mutex_unlock(&x->lock);
}

void xl_unjoined(struct soft_cpu *c, const struct xl_out *o)
{
	struct xl_cache *x = c->eng->xl;

	if (!misses(o)) {
		return;
	}
	pthread_mutex_lock(&x->lock);
	if (!o->block->dead) {
		place_again(c, o, XP_ALONE);
	}
	pthread_mutex_unlock(&x->lock);
}
