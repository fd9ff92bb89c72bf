/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Shadow mappings: what is mapped, and what goes when. xl-shadow-fill.c: what comes;
 * xl-shadow-owner.c: whose they are.
 *
 * One lock is over all of it, inside of every other. A fill looks at the guest's page tables with
 * the lock held, and not at a TLB, which may know something that another vCPU has flushed already.
 * Whoever flushes has changed the tables before: either he comes to the lock behind the fill, and
 * undoes it, or the fill sees the change. For him not to take the lock where there is nothing, the
 * fill says that there is something before it looks at the tables.
 *
 * The same between who maps a page for writing and who makes code of it: each says so first, then
 * looks at the other: soft_page.shadow, .code.
 *
 * The host has a limit to mappings of a process, and a call for each. So a call maps as much as
 * lies side by side in both memories, all is dropped by one call, and it is dropped when there
 * have been many.
 */
#include "vm/cpu/soft/xl-shadow-priv.h"

#include <errno.h>
#include <sys/mman.h>

#include "base/clock.h"
#include "base/mem.h"
#include "sys/map.h"
#include "vm/cpu/soft/xl-stats.h"
#include "vm/cpu/soft/xl.h"

enum {
	GROUP = 64,                /* pages that are dropped together */
	EDGE = 64 << 10,           /* an access may be so long */
};

#define RESERVED_FIRST SHADOW_LOW_FIRST
#define RESERVED_LOW_END (SHADOW_LOW_END + SHADOW_GUARD + EDGE)
#define RESERVED_HIGH  (SHADOW_HIGH_FIRST + SHADOW_DISTANCE - SHADOW_GUARD - EDGE)
#define RESERVED_END   (SHADOW_HIGH_END + SHADOW_DISTANCE + SHADOW_GUARD + EDGE)
#define RESERVED_LOW_BYTES  (RESERVED_LOW_END - RESERVED_FIRST)
#define RESERVED_HIGH_BYTES (RESERVED_END - RESERVED_HIGH)
#define CHUNKS_BYTES (SHADOW_CHUNKS * sizeof(struct shadow_chunk))

/* --- What is reserved --- */

enum { NOBODYS = MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE };

static int cover(uint64_t first, uint64_t end)
{
	return sys_mmap_over(shadow_pointer(first), end - first, PROT_NONE, NOBODYS, -1, 0);
}

static void give_back(void *at, size_t bytes)
{
	ignore_result(sys_munmap(at, bytes)); /* only addresses */
}

static int reserve(void)
{
	void *low = shadow_pointer(RESERVED_FIRST), *high = shadow_pointer(RESERVED_HIGH);
	int r = sys_mmap_free(low, RESERVED_LOW_BYTES, PROT_NONE, NOBODYS);

	if (r < 0) {
		return r;
	}
	r = sys_mmap_free(high, RESERVED_HIGH_BYTES, PROT_NONE, NOBODYS);
	if (r < 0) {
		give_back(low, RESERVED_LOW_BYTES);
	}
	return r;
}

int shadow_new(struct soft_engine *eng)
{
	struct shadow *s = NULL;
	void *chunks = NULL;

	atomic_init(&eng->shadow_root, SHADOW_NOBODY);
	if (BUILD_ASAN || eng->eng.conf.xl.no_shadow || !gmem_can_map_again(eng->eng.conf.mem)) {
		return -ENOTSUP;
	}
	if (reserve() < 0) {
		return -ENOTSUP;
	}
	s = mem_new(struct shadow);
	if (s && sys_mmap(CHUNKS_BYTES, PROT_READ | PROT_WRITE, NOBODYS, -1, 0, &chunks) < 0) {
		free(s);
		s = NULL;
	}
	eng->shadow = s;
	if (!s) {
		shadow_free(eng);
		return -ENOMEM;
	}
	s->chunks = chunks;
	s->epoch = 1;
	pthread_mutex_init(&s->lock, NULL);
	return xl_catch_faults();
}

void shadow_free(struct soft_engine *eng)
{
	struct shadow *s = eng->shadow;

	if (!s) {
		return;
	}
	give_back(shadow_pointer(RESERVED_FIRST), RESERVED_LOW_BYTES);
	give_back(shadow_pointer(RESERVED_HIGH), RESERVED_HIGH_BYTES);
	give_back(s->chunks, CHUNKS_BYTES);
	pthread_mutex_destroy(&s->lock);
	free(s);
	eng->shadow = NULL;
}

/* --- What is mapped --- */

void shadow_clear(struct shadow *s)
{
	if (!atomic_load_explicit(&s->any, memory_order_relaxed)) {
		return;
	}
	/* Each is one mapping from end to end afterwards, so that this takes none away. */
	int r = cover(RESERVED_FIRST, RESERVED_LOW_END);

	r = r < 0 ? r : cover(RESERVED_HIGH, RESERVED_END);
	/* What the guest has unmapped must not stay. Nothing can be done but this. */
	assert(r == 0);
	for (unsigned i = 0; i < s->n_chunks; i++) {
		*shadow_slot(s, s->chunks[i].first) = NULL;
	}
	s->n_chunks = 0;
	s->calls = 0;
	s->huge = false;
	s->epoch++;
	atomic_store(&s->any, false);
}

static void unmap(struct shadow *s, struct shadow_chunk *k, unsigned first, unsigned n)
{
	uint64_t at = shadow_place(shadow_page_va(k, first));
	uint64_t end = shadow_place(shadow_page_va(k, first + n - 1)) + GMEM_PAGE_BYTES;

	s->calls++;
	k->fills = 0;
	/* The first pages of all are below what is reserved. */
	if (cover(MAX(at, SHADOW_LOW_FIRST), end) < 0) {
		shadow_clear(s);
		return;
	}
	for (unsigned i = first; i < first + n; i++) {
		shadow_change(k->mapped, i, false);
		shadow_change(k->writable, i, false);
	}
}

void shadow_drop_writes(struct soft_engine *eng, uint64_t gpa)
{
	struct shadow *s = eng->shadow;
	struct soft_page *page = NULL;

	if (!s || !soft_ram(eng, gpa, &page)) {
		return;
	}
	atomic_thread_fence(memory_order_seq_cst);
	if (atomic_load(&page->shadow) == 0) {
		return;
	}
	pthread_mutex_lock(&s->lock);
	uint64_t mark = atomic_load(&page->shadow), va = shadow_mark_va(mark);

	if (shadow_mark_holds(s, mark) && (mark & SHADOW_MARK_MORE)) {
		shadow_clear(s);
	} else if (shadow_mark_holds(s, mark) && shadow_is_writable(s, va)) {
		void *at = shadow_pointer(shadow_place(va));

		s->calls++;
		if (sys_mprotect(at, GMEM_PAGE_BYTES, PROT_READ) < 0) {
			shadow_clear(s);
		} else {
			shadow_change(shadow_chunk_of(s, va)->writable, shadow_index(va), false);
		}
	}
	atomic_store(&page->shadow, 0);
	pthread_mutex_unlock(&s->lock);
}

void shadow_drop_all_writes(struct soft_engine *eng)
{
	struct shadow *s = eng->shadow;

	if (s) {
		pthread_mutex_lock(&s->lock);
		shadow_clear(s);
		pthread_mutex_unlock(&s->lock);
	}
}

/* --- Flushes --- */

/* Of that address space, and is there anything? Changes of the guest's tables come before. */
static bool concerns(struct soft_cpu *c, uint64_t cr3)
{
	uint64_t owner = atomic_load_explicit(&c->eng->shadow_root, memory_order_relaxed);

	if (!c->eng->shadow || (cr3 != UINT64_MAX && (cr3 & SHADOW_PTE_ADDR) != owner)) {
		return false;
	}
	atomic_thread_fence(memory_order_seq_cst);
	return atomic_load_explicit(&c->eng->shadow->any, memory_order_relaxed);
}

void shadow_flush(struct soft_cpu *c, uint64_t cr3)
{
	struct shadow *s = c->eng->shadow;

	if (!concerns(c, cr3)) {
		return;
	}
	uint64_t since = clock_now_ns();

	pthread_mutex_lock(&s->lock);
	shadow_clear(s);
	xl_add(&c->counts->n[XC_SHADOW_FLUSHES], 1);
	shadow_charge(c, s, since, 0);
	if (cr3 != UINT64_MAX) {
		shadow_release(c, s);
	}
	pthread_mutex_unlock(&s->lock);
}

/* A page that is flushed beside another one takes its neighbours along: there will be more. */
static void flush_page(struct shadow *s, struct shadow_chunk *k, uint64_t va)
{
	uint64_t group = va / (GROUP * GMEM_PAGE_BYTES);
	unsigned i = shadow_index(va);

	if (k->large) {
		unmap(s, k, 0, SHADOW_CHUNK_PAGES);
		return;
	}
	if (!shadow_bit(k->mapped, i)) {
		return;
	}
	if (s->flushed == group) {
		unmap(s, k, i / GROUP * GROUP, GROUP);
	} else {
		unmap(s, k, i, 1);
	}
	s->flushed = group;
}

void shadow_flush_address(struct soft_cpu *c, uint64_t cr3, uint64_t va)
{
	struct shadow *s = c->eng->shadow;

	/* The first pages of all have no place, but may be flushed for a larger one. */
	if (!shadow_place(va | SHADOW_LOW_FIRST) || !concerns(c, cr3)) {
		return;
	}
	uint64_t since = clock_now_ns();

	pthread_mutex_lock(&s->lock);
	struct shadow_chunk *k = shadow_chunk_of(s, va);

	if (s->huge) {
		shadow_clear(s);
	} else if (k) {
		flush_page(s, k, va);
	}
	if (s->huge || k) {
		xl_add(&c->counts->n[XC_SHADOW_FLUSHED_PAGES], 1);
		shadow_charge(c, s, since, 0);
	}
	pthread_mutex_unlock(&s->lock);
}
