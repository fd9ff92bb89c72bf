/* SPDX-License-Identifier: Apache-2.0 */
/* The code cache of a VM from inside: for xl-cache.c, xl-memory.c, xl-records.c and xl-hints.c. */
#ifndef VM_CPU_SOFT_XL_CACHE_H
#define VM_CPU_SOFT_XL_CACHE_H

#include "vm/cpu/soft/xl-parts.h"

enum {
	XL_HINT_BITS = 13,
	XL_CHUNK_SHIFT = 10,       /* of code: one of which the blocks are known that begin there */
	XL_HASH_BITS = 16, XL_PAGE_HASH_BITS = 14,
	XL_SEGMENTS = 16,
	XL_RECORD = 8,             /* bytes that a record begins at a multiple of */
};

struct xl_segment {
	uint32_t first, first_way; /* of code: where it begins */
	uint32_t code, ways, records;   /* bytes that are filled, from there on */
	struct xl_block *blocks;   /* all of it, dead ones too */
};

/* Where an instruction reaches memory, by its address. */
struct xl_hint {
	uint32_t tag;
	uint8_t  place;            /* enum xl_place */
	bool     turned;           /* it was wrong once */
	uint8_t  older;            /* blocks that were wrong and may have been made before */
};

struct xl_cache {
	pthread_mutex_t lock;
	uint8_t *rw, *rx, *records;
	size_t   code_bytes, record_bytes;           /* mapped */
	uint32_t segment_code, segment_ways, segment_records;   /* of one segment, at most */
	uint32_t segment_bytes;    /* all of them */
	uint32_t ways;             /* where those begin: behind all lines */
	unsigned now;              /* the segment that is filled */
	struct xl_segment segments[XL_SEGMENTS];
	struct xl_routines routines;
	uint32_t epoch;            /* how often a segment was emptied */
	struct xl_usage usage;
	struct xl_block *hash[1 << XL_HASH_BITS];
	struct xl_block *pages[1 << XL_PAGE_HASH_BITS];   /* that are not stale */
	struct xl_hint hints[1 << XL_HINT_BITS];
	struct xl_across across[2][XL_ACROSS];
	/* The last block that begins in each piece of code; those before it: segment_next. */
	struct xl_block **chunks;
};

static inline struct xl_segment *xl_cache_now(struct xl_cache *x)
{
	return &x->segments[x->now];
}

static inline void *xl_record_at(const struct xl_cache *x, uint32_t index)
{
	return x->records + (size_t)index * XL_RECORD;
}

/* How often a segment was emptied; without the lock. */
static inline uint32_t xl_cache_epoch(const struct xl_cache *x)
{
	return __atomic_load_n(&x->epoch, __ATOMIC_ACQUIRE);
}

/* --- xl-cache.c --- */

/* With the lock held: nothing leads to a block any more, nor is it found. */
void xl_cache_kill(struct soft_engine *eng, struct xl_block *b);

/* --- xl-records.c --- */

/* A record of the segment that is filled. NULL: there is no room. */
void *xl_record_new(struct xl_cache *x, size_t bytes, uint32_t *ret_index);

#endif
