/* SPDX-License-Identifier: Apache-2.0 */
/* Shadow mappings, for the files that keep them: xl-shadow.c says how they hang together. */
#ifndef VM_CPU_SOFT_XL_SHADOW_PRIV_H
#define VM_CPU_SOFT_XL_SHADOW_PRIV_H

#include <pthread.h>
#include <stdatomic.h>

#include "vm/cpu/soft/xl-shadow.h"

enum {
	SHADOW_CHUNK_SHIFT = 21, SHADOW_CHUNK_PAGES = 512,
	SHADOW_CHUNK_WORDS = SHADOW_CHUNK_PAGES / 64,
	SHADOW_CHUNKS = 8192, SHADOW_HASH_BITS = 13, SHADOW_BANNED = 16,
};

#define SHADOW_PTE_ADDR UINT64_C(0x000ffffffffff000)
#define SHADOW_NOBODY   UINT64_C(1)

/* 2 MiB of the guest's addresses. */
struct shadow_chunk {
	struct shadow_chunk *next;
	uint64_t first;
	uint64_t mapped[SHADOW_CHUNK_WORDS], writable[SHADOW_CHUNK_WORDS];
	unsigned fills;            /* that wanted a page of it */
	bool     large;            /* by one entry of the tables: it goes as a whole */
};

struct shadow_ban {
	uint64_t root, until_ns;
	unsigned times;
};

struct shadow {
	pthread_mutex_t lock;
	atomic_bool any;           /* something is mapped, or about to be */
	uint64_t epoch;            /* how often all was dropped; from 1 */
	unsigned calls;            /* since then */
	bool     huge;             /* a piece of 1 GiB is mapped */
	uint64_t flushed;          /* the group that a page was flushed of last */
	unsigned n_chunks;
	struct shadow_chunk *hash[1 << SHADOW_HASH_BITS];
	struct shadow_chunk *chunks;   /* SHADOW_CHUNKS of them */

	uint64_t last;             /* the owner that the credit is of */
	uint64_t candidate;        /* of the samples */
	unsigned samples, score;
	int64_t  credit_ns;
	uint64_t sampled_ns;
	struct shadow_ban bans[SHADOW_BANNED];
	unsigned next_ban;
};

/* Where the guest's address is mapped; 0: nowhere. */
static inline uint64_t shadow_place(uint64_t va)
{
	if (va >= SHADOW_LOW_FIRST && va < SHADOW_LOW_END) {
		return va;
	}
	return va >= SHADOW_HIGH_FIRST && va < SHADOW_HIGH_END ? va + SHADOW_DISTANCE : 0;
}

static inline void *shadow_pointer(uint64_t at)
{
	return (void *)(uintptr_t)at;
}

/* --- Chunks --- */

static inline uint64_t shadow_chunk_first(uint64_t va)
{
	return va >> SHADOW_CHUNK_SHIFT << SHADOW_CHUNK_SHIFT;
}

static inline struct shadow_chunk **shadow_slot(struct shadow *s, uint64_t va)
{
	uint64_t h = (va >> SHADOW_CHUNK_SHIFT) * UINT64_C(0x9e3779b97f4a7c15);

	return &s->hash[h >> (64 - SHADOW_HASH_BITS)];
}

static inline struct shadow_chunk *shadow_chunk_of(struct shadow *s, uint64_t va)
{
	struct shadow_chunk *k = *shadow_slot(s, va);

	while (k && k->first != shadow_chunk_first(va)) {
		k = k->next;
	}
	return k;
}

static inline unsigned shadow_index(uint64_t va)
{
	return (unsigned)(va >> GMEM_PAGE_SHIFT) & (SHADOW_CHUNK_PAGES - 1);
}

/* The address of a page of a chunk. */
static inline uint64_t shadow_page_va(const struct shadow_chunk *k, unsigned i)
{
	return k->first + ((uint64_t)i << GMEM_PAGE_SHIFT);
}

static inline bool shadow_bit(const uint64_t *set, unsigned i)
{
	return set[i / 64] >> i % 64 & 1;
}

static inline void shadow_change(uint64_t *set, unsigned i, bool on)
{
	set[i / 64] = (set[i / 64] & ~BIT(i % 64)) | (uint64_t)on << i % 64;
}

/* --- Where a page may be written: soft_page.shadow --- */

/* The epoch, the page of an address, and are there more of these? */
enum { SHADOW_MARK_MORE = 1, SHADOW_MARK_EPOCH = 36 };

static inline uint64_t shadow_mark_va(uint64_t mark)
{
	return (mark & (BIT(SHADOW_MARK_EPOCH) - 2)) << (GMEM_PAGE_SHIFT - 1);
}

static inline bool shadow_mark_holds(const struct shadow *s, uint64_t mark)
{
	uint64_t epoch = s->epoch & (BIT(64 - SHADOW_MARK_EPOCH) - 1);

	return mark != 0 && mark >> SHADOW_MARK_EPOCH == epoch;
}

static inline bool shadow_is_writable(struct shadow *s, uint64_t va)
{
	const struct shadow_chunk *k = shadow_chunk_of(s, va);

	return k && shadow_bit(k->writable, shadow_index(va));
}

/* The vCPU's address space. */
static inline uint64_t shadow_root_of(const struct soft_cpu *c)
{
	return c->s.cr3 & SHADOW_PTE_ADDR;
}

/* --- xl-shadow.c --- */

/* Nothing is mapped any more. As all here: with the lock held. */
void shadow_clear(struct shadow *s);

/* --- xl-shadow-owner.c --- */

/* The owner has flushed all, as it does at a fork, and at its end: it is the owner again if it is
 * still there at the next sample. */
void shadow_release(struct soft_cpu *c, struct shadow *s);
/* The owner pays for the time since then, and for so much more; it may have too little. */
void shadow_charge(struct soft_cpu *c, struct shadow *s, uint64_t since_ns, unsigned more_ns);

#endif
