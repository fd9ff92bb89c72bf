/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Guest memory as a number: the hash of each page that holds something, and of all together. By
 * the dirty log it is brought up to date at the price of the pages that were written meanwhile.
 *
 *	r = mem_hash_init(&m, mem, e);                 // the dirty log is its own from here on
 *	mem_hash_update(&m, false);                    // m.sum, and m.changed since the last time
 *	len = mem_hash_put(&m, data, sizeof(data));    // what changed, for a recording
 *	r = mem_hash_differ(&m, data, len, &names);    // which of it another machine has otherwise
 *
 * The engine's part of the log (log_sync()) is the caller's. A page of zeros has the hash 0.
 *
 * Context: no vCPU is in the guest.
 */
#ifndef VM_REPLAY_MEM_H
#define VM_REPLAY_MEM_H

#include "vm/mem/gmem.h"

struct mem_hash {
	struct gmem *mem;
	uint64_t    *pages;       /* their hashes, slot after slot */
	uint64_t    *bits;        /* of one slot's log */
	uint64_t     sum;
	uint64_t    *changed;     /* indices of pages, growing, whose hash changed in the last update */
	size_t       n_changed;
};

int  mem_hash_init(struct mem_hash *m, struct gmem *mem, struct err *e) must_check;
void mem_hash_fini(struct mem_hash *m);

/* @all  look at every page, not only at those in the log */
void mem_hash_update(struct mem_hash *m, bool all);

/* The changed pages with their hashes, as many as there is room for; returns the length. */
size_t mem_hash_put(const struct mem_hash *m, uint8_t *ret, size_t room);

struct mem_names {
	char     text[280];
	uint64_t pages;           /* how many are not the same, of those that were put */
};

/* Compare with what mem_hash_put() of another machine gave. -EBADMSG: that is none of its. */
int mem_hash_differ(const struct mem_hash *m, const uint8_t *data, size_t len,
		    struct mem_names *ret) must_check;

#endif
