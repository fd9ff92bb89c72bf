/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Shadow mappings: what is mapped, what goes when, and whose they are.
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
#include "vm/cpu/soft/xl-shadow.h"

#include <errno.h>
#include <limits.h>
#include <sys/mman.h>

#include "base/clock.h"
#include "base/mem.h"
#include "sys/map.h"
#include "vm/cpu/soft/xl-stats.h"
#include "vm/cpu/soft/xl.h"

enum {
	CHUNK_SHIFT = 21, CHUNK_PAGES = 512, CHUNK_WORDS = CHUNK_PAGES / 64,
	CHUNKS = 8192, HASH_BITS = 13,
	/* Of one call; each leaves two mappings more at most, of the 65530 that Linux allows. */
	CALLS_MAX = 12000,
	GROUP = 64,                /* pages that are dropped together */
	WINDOW_BYTES = 64 << 10,   /* that the host maps in one fault */
	AROUND_MAX = 32,           /* calls for what lies behind a page that was wanted */
	EDGE = 64 << 10,           /* an access may be so long */
	PTE_P = 1 << 0, PTE_W = 1 << 1, PTE_U = 1 << 2, PTE_A = 1 << 5, PTE_D = 1 << 6,
	PTE_PS = 1 << 7, PTE_G = 1 << 8,
};

enum {
	/* To become the one that is mapped: interrupts that no other one had. */
	SAMPLES = 3, SCORE_MAX = 6,
	FAULTS_MAX = 64,           /* of the guest's between two of them: it takes its memory only now */
	BANNED = 16,
};

#define PTE_ADDR UINT64_C(0x000ffffffffff000)
#define PTE_NX   (UINT64_C(1) << 63)
#define NOBODY   UINT64_C(1)

/* What it may cost: at first, in all, and of the time between two samples. */
#define CREDIT_FIRST_NS INT64_C(1500000)
#define CREDIT_MAX_NS   INT64_C(40000000)
#define CREDIT_SHARE    8
#define SAMPLE_MAX_NS   UINT64_C(20000000)
#define SIGNAL_NS       5000
#define SWITCH_NS       5000
#define BAN_NS          UINT64_C(200000000)
#define BAN_DOUBLINGS   7

#define RESERVED_FIRST SHADOW_LOW_FIRST
#define RESERVED_LOW_END (SHADOW_LOW_END + SHADOW_GUARD + EDGE)
#define RESERVED_HIGH  (SHADOW_HIGH_FIRST + SHADOW_DISTANCE - SHADOW_GUARD - EDGE)
#define RESERVED_END   (SHADOW_HIGH_END + SHADOW_DISTANCE + SHADOW_GUARD + EDGE)

/* 2 MiB of the guest's addresses. */
struct chunk {
	struct chunk *next;
	uint64_t first;
	uint64_t mapped[CHUNK_WORDS], writable[CHUNK_WORDS];
	unsigned fills;            /* that wanted a page of it */
	bool     large;            /* by one entry of the tables: it goes as a whole */
};

struct ban {
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
	struct chunk *hash[1 << HASH_BITS];
	struct chunk *chunks;      /* CHUNKS of them */

	uint64_t last;             /* the owner that the credit is of */
	uint64_t candidate;        /* of the samples */
	unsigned samples, score;
	int64_t  credit_ns;
	uint64_t sampled_ns;
	struct ban bans[BANNED];
	unsigned next_ban;
};

/* --- What is reserved --- */

/* Where the guest's address is mapped; 0: nowhere. */
static uint64_t place_of(uint64_t va)
{
	if (va >= SHADOW_LOW_FIRST && va < SHADOW_LOW_END) {
		return va;
	}
	return va >= SHADOW_HIGH_FIRST && va < SHADOW_HIGH_END ? va + SHADOW_DISTANCE : 0;
}

static void *pointer(uint64_t at)
{
	return (void *)(uintptr_t)at;
}

enum { NOBODYS = MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE };

static int cover(uint64_t first, uint64_t end)
{
	return sys_mmap_over(pointer(first), end - first, PROT_NONE, NOBODYS, -1, 0);
}

static int reserve(void)
{
	int r = sys_mmap_free(pointer(RESERVED_FIRST), RESERVED_LOW_END - RESERVED_FIRST, PROT_NONE,
			      NOBODYS);

	if (r < 0) {
		return r;
	}
	r = sys_mmap_free(pointer(RESERVED_HIGH), RESERVED_END - RESERVED_HIGH, PROT_NONE, NOBODYS);
	if (r < 0) {
		ignore_result(sys_munmap(pointer(RESERVED_FIRST),
					 RESERVED_LOW_END - RESERVED_FIRST)); /* only addresses */
	}
	return r;
}

int shadow_new(struct soft_engine *eng)
{
	struct shadow *s = NULL;
	void *chunks = NULL;

	atomic_init(&eng->shadow_root, NOBODY);
	if (BUILD_ASAN || eng->eng.conf.xl.no_shadow || !gmem_can_map_again(eng->eng.conf.mem)) {
		return -ENOTSUP;
	}
	if (reserve() < 0) {
		return -ENOTSUP;
	}
	s = mem_new(struct shadow);
	if (s && sys_mmap(CHUNKS * sizeof(struct chunk), PROT_READ | PROT_WRITE, NOBODYS, -1, 0, &chunks) < 0) {
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
	ignore_result(sys_munmap(pointer(RESERVED_FIRST), RESERVED_LOW_END - RESERVED_FIRST)); /* as above */
	ignore_result(sys_munmap(pointer(RESERVED_HIGH), RESERVED_END - RESERVED_HIGH));       /* as above */
	ignore_result(sys_munmap(s->chunks, CHUNKS * sizeof(struct chunk)));                   /* as above */
	pthread_mutex_destroy(&s->lock);
	free(s);
	eng->shadow = NULL;
}

/* --- What is mapped --- */

static struct chunk **hash_slot(struct shadow *s, uint64_t va)
{
	return &s->hash[(va >> CHUNK_SHIFT) * UINT64_C(0x9e3779b97f4a7c15) >> (64 - HASH_BITS)];
}

static struct chunk *chunk_of(struct shadow *s, uint64_t va)
{
	uint64_t first = va >> CHUNK_SHIFT << CHUNK_SHIFT;
	struct chunk *k = *hash_slot(s, va);

	while (k && k->first != first) {
		k = k->next;
	}
	return k;
}

static unsigned index_of(uint64_t va)
{
	return (unsigned)(va >> GMEM_PAGE_SHIFT) & (CHUNK_PAGES - 1);
}

static bool bit(const uint64_t *set, unsigned i)
{
	return set[i / 64] >> i % 64 & 1;
}

static void change(uint64_t *set, unsigned i, bool on)
{
	set[i / 64] = (set[i / 64] & ~BIT(i % 64)) | (uint64_t)on << i % 64;
}

static void drop_all(struct shadow *s)
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
		*hash_slot(s, s->chunks[i].first) = NULL;
	}
	s->n_chunks = 0;
	s->calls = 0;
	s->huge = false;
	s->epoch++;
	atomic_store(&s->any, false);
}

static void unmap(struct shadow *s, struct chunk *k, unsigned first, unsigned n)
{
	uint64_t at = place_of(k->first + ((uint64_t)first << GMEM_PAGE_SHIFT));
	uint64_t end = place_of(k->first + ((uint64_t)(first + n - 1) << GMEM_PAGE_SHIFT)) + GMEM_PAGE_BYTES;

	s->calls++;
	k->fills = 0;
	/* The first pages of all are below what is reserved. */
	if (cover(MAX(at, SHADOW_LOW_FIRST), end) < 0) {
		drop_all(s);
		return;
	}
	for (unsigned i = first; i < first + n; i++) {
		change(k->mapped, i, false);
		change(k->writable, i, false);
	}
}

/* --- Where a page may be written: epoch, page of its address, and are there more? --- */

enum { MARK_MORE = 1, MARK_EPOCH = 36 };

static uint64_t mark_va(uint64_t mark)
{
	return (mark & (BIT(MARK_EPOCH) - 2)) << (GMEM_PAGE_SHIFT - 1);
}

static bool mark_holds(const struct shadow *s, uint64_t mark)
{
	return mark != 0 && mark >> MARK_EPOCH == (s->epoch & (BIT(64 - MARK_EPOCH) - 1));
}

static bool is_writable(struct shadow *s, uint64_t va)
{
	const struct chunk *k = chunk_of(s, va);

	return k && bit(k->writable, index_of(va));
}

static void set_mark(struct shadow *s, struct soft_page *page, uint64_t va)
{
	uint64_t old = atomic_load_explicit(&page->shadow, memory_order_relaxed);
	uint64_t now = s->epoch << MARK_EPOCH | va >> GMEM_PAGE_SHIFT << 1;

	if (mark_holds(s, old)) {
		now |= old & MARK_MORE;
		if (mark_va(old) != va && is_writable(s, mark_va(old))) {
			now |= MARK_MORE;
		}
	}
	atomic_store_explicit(&page->shadow, now, memory_order_relaxed);
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
	uint64_t mark = atomic_load(&page->shadow), va = mark_va(mark);

	if (mark_holds(s, mark) && (mark & MARK_MORE)) {
		drop_all(s);
	} else if (mark_holds(s, mark) && is_writable(s, va)) {
		s->calls++;
		if (sys_mprotect(pointer(place_of(va)), GMEM_PAGE_BYTES, PROT_READ) < 0) {
			drop_all(s);
		} else {
			change(chunk_of(s, va)->writable, index_of(va), false);
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
		drop_all(s);
		pthread_mutex_unlock(&s->lock);
	}
}

/* --- The guest's tables, as CPL 3 has used them --- */

/* What maps the 2 MiB around an address. */
struct leaves {
	const uint64_t *entries;   /* of small pages; NULL: it is a piece of a larger one, */
	uint64_t gpa;              /* which begins here */
	bool     writable, huge;
};

struct leaf {
	uint64_t gpa;
	bool     write;
};

static bool used(const struct soft_cpu *c, uint64_t e)
{
	const uint64_t all = PTE_P | PTE_U | PTE_A;

	return (e & all) == all && !(e & c->phys_reserved) &&
	       (!(e & PTE_NX) || (c->s.efer & CPU_EFER_NXE));
}

static bool large_leaf(uint64_t e, uint64_t va, unsigned level, struct leaves *ret)
{
	uint64_t size = BIT(GMEM_PAGE_SHIFT + 9 * (level - 1));

	/* A global one may be flushed through any address space. */
	if ((e & PTE_G) || (e & PTE_ADDR & (size - 1) & ~UINT64_C(0x1000))) {
		return false;
	}
	ret->gpa = (e & PTE_ADDR & ~(size - 1)) | (va & (size - 1) & ~(BIT(CHUNK_SHIFT) - 1));
	ret->writable &= (e & PTE_D) != 0;
	ret->huge = level == 3;
	return true;
}

static bool descend(struct soft_cpu *c, uint64_t va, struct leaves *ret)
{
	uint64_t table = c->s.cr3 & PTE_ADDR;
	struct soft_page *page = NULL;

	*ret = (struct leaves){ .writable = true };
	for (unsigned level = 4; level > 1; level--) {
		const uint64_t *t = soft_ram(c->eng, table, &page);
		uint64_t e = 0;

		if (!t) {
			return false;
		}
		e = __atomic_load_n(&t[va >> (GMEM_PAGE_SHIFT + 9 * (level - 1)) & 511], __ATOMIC_ACQUIRE);
		if (!used(c, e)) {
			return false;
		}
		ret->writable &= (e & PTE_W) != 0;
		if (e & PTE_PS) {
			return level < 4 && large_leaf(e, va, level, ret);
		}
		table = e & PTE_ADDR;
	}
	ret->entries = soft_ram(c->eng, table, &page);
	return ret->entries != NULL;
}

/* Nobody makes code of it; only a look, which is repeated when it is said that it is written. */
static bool no_code(const struct soft_page *page)
{
	return atomic_load_explicit(&page->code, memory_order_relaxed) == 0 &&
	       atomic_load_explicit(&page->translated, memory_order_relaxed) == 0;
}

static bool leaf_at(struct soft_cpu *c, const struct leaves *l, unsigned i, struct leaf *ret)
{
	struct soft_page *page = NULL;

	ret->gpa = l->gpa + ((uint64_t)i << GMEM_PAGE_SHIFT);
	ret->write = l->writable;
	if (l->entries) {
		uint64_t e = __atomic_load_n(&l->entries[i], __ATOMIC_ACQUIRE);

		if (!used(c, e) || (e & PTE_G)) {
			return false;
		}
		ret->gpa = e & PTE_ADDR;
		ret->write &= (e & (PTE_W | PTE_D)) == (PTE_W | PTE_D);
	}
	if (!soft_ram(c->eng, ret->gpa, &page)) {
		return false;
	}
	ret->write &= no_code(page);
	return true;
}

/* --- Filling --- */

struct fill {
	struct soft_cpu *c;
	struct shadow *s;
	struct chunk *k;
	struct leaves leaves;
	struct leaf   at;          /* of the page that is wanted */
	const struct gmem_slot *slot;
	unsigned index, first, last;
	bool     logged;           /* writes to each page are to be seen once more */
};

static struct chunk *chunk_take(struct shadow *s, uint64_t va)
{
	struct chunk *k = chunk_of(s, va), **slot = hash_slot(s, va);

	if (k) {
		return k;
	}
	k = &s->chunks[s->n_chunks++];
	*k = (struct chunk){ .next = *slot, .first = va >> CHUNK_SHIFT << CHUNK_SHIFT };
	*slot = k;
	return k;
}

/* Is page i beside the wanted one in both memories, mapped in the same way, and not yet? */
static bool belongs(const struct fill *f, unsigned i)
{
	struct leaf l = { 0 };

	if (!leaf_at(f->c, &f->leaves, i, &l)) {
		return false;
	}
	l.write &= !f->logged;
	return l.gpa - f->at.gpa == ((uint64_t)i - f->index) << GMEM_PAGE_SHIFT && l.write == f->at.write &&
	       l.gpa - f->slot->first.raw < f->slot->bytes && place_of(f->k->first + ((uint64_t)i << GMEM_PAGE_SHIFT)) &&
	       (!bit(f->k->mapped, i) || bit(f->k->writable, i) != l.write);
}

static void find_run(struct fill *f)
{
	f->first = f->last = f->index;
	if (f->logged && f->at.write) {
		return;
	}
	while (f->first > 0 && belongs(f, f->first - 1)) {
		f->first--;
	}
	while (f->last < CHUNK_PAGES - 1 && belongs(f, f->last + 1)) {
		f->last++;
	}
}

static uint64_t run_va(const struct fill *f)
{
	return f->k->first + ((uint64_t)f->first << GMEM_PAGE_SHIFT);
}

static uint64_t run_gpa(const struct fill *f)
{
	return f->at.gpa - ((uint64_t)(f->index - f->first) << GMEM_PAGE_SHIFT);
}

static uint64_t run_bytes(const struct fill *f)
{
	return (uint64_t)(f->last - f->first + 1) << GMEM_PAGE_SHIFT;
}

/* The run is going to be written. false: by now there is code in it. */
static bool say_written(const struct fill *f)
{
	struct soft_page *page = NULL;
	unsigned n = f->last - f->first + 1;
	bool clean = true;

	(void)soft_ram(f->c->eng, run_gpa(f), &page);
	for (unsigned i = 0; i < n; i++) {
		set_mark(f->s, &page[i], run_va(f) + ((uint64_t)i << GMEM_PAGE_SHIFT));
	}
	atomic_thread_fence(memory_order_seq_cst);
	for (unsigned i = 0; i < n; i++) {
		clean &= no_code(&page[i]);
	}
	gmem_mark_dirty(f->c->eng->eng.conf.mem, GPA(run_gpa(f)), clean ? run_bytes(f) : 0);
	return clean;
}

/* The host maps pages at a fault: some at once where one is read, each for itself where they are
 * written. */
static void touch(uint64_t at, uint64_t bytes)
{
	for (uint64_t off = 0; off < bytes; off += WINDOW_BYTES) {
		(void)*(const volatile uint8_t *)pointer(at + off);
	}
}

static bool map_run(struct fill *f)
{
	if (f->at.write && !say_written(f)) {
		f->at.write = false;
	}
	f->s->calls++;
	if (gmem_map_again(f->c->eng->eng.conf.mem, GPA(run_gpa(f)), run_bytes(f),
			   pointer(place_of(run_va(f))), f->at.write) < 0) {
		/* Part of it may have gone. */
		drop_all(f->s);
		return false;
	}
	touch(place_of(run_va(f)), run_bytes(f));
	for (unsigned i = f->first; i <= f->last; i++) {
		change(f->k->mapped, i, true);
		change(f->k->writable, i, f->at.write);
	}
	f->k->large |= !f->leaves.entries;
	f->s->huge |= f->leaves.huge;
	xl_add(&f->c->counts->n[XC_SHADOW_PAGES], f->last - f->first + 1);
	return true;
}

/* Where one page was wanted, those behind it will be: the more, the more there were. */
static void map_around(struct fill *f)
{
	unsigned calls = MIN(f->k->fills++, (unsigned)AROUND_MAX);

	for (unsigned i = f->last + 1; i < CHUNK_PAGES && calls > 0; i = f->last + 1) {
		f->index = f->first = f->last = i;
		if (bit(f->k->mapped, i) || !place_of(f->k->first + ((uint64_t)i << GMEM_PAGE_SHIFT)) ||
		    !leaf_at(f->c, &f->leaves, i, &f->at)) {
			continue;
		}
		f->slot = gmem_slot(f->c->eng->eng.conf.mem, GPA(f->at.gpa));
		find_run(f);
		if (!map_run(f)) {
			return;
		}
		calls--;
	}
}

/* While writes are logged: has this vCPU written to the page since they were asked for last? */
static bool wrote(const struct soft_cpu *c, uint64_t va)
{
	const struct soft_tlb_entry *e = &c->window->user[va >> GMEM_PAGE_SHIFT & (SOFT_TLB_ENTRIES - 1)];

	return e->tag_write == (va & ~(uint64_t)(GMEM_PAGE_BYTES - 1));
}

/* With the lock held, by a vCPU of the address space. */
static bool fill(struct soft_cpu *c, struct shadow *s, uint64_t va)
{
	struct fill f = { .c = c, .s = s, .index = index_of(va),
			  .logged = atomic_load(&c->eng->eng.conf.mem->log_dirty) };

	if (s->calls >= CALLS_MAX || s->n_chunks == CHUNKS) {
		drop_all(s);
	}
	atomic_store(&s->any, true);
	atomic_thread_fence(memory_order_seq_cst);
	if (!descend(c, va, &f.leaves) || !leaf_at(c, &f.leaves, f.index, &f.at)) {
		return false;
	}
	f.at.write &= !f.logged || wrote(c, va);
	f.slot = gmem_slot(c->eng->eng.conf.mem, GPA(f.at.gpa));
	f.k = chunk_take(s, va);
	if (bit(f.k->mapped, f.index) && bit(f.k->writable, f.index) >= f.at.write) {
		return bit(f.k->writable, f.index);   /* by another vCPU, meanwhile */
	}
	find_run(&f);
	if (!map_run(&f)) {
		return false;
	}
	if (!f.logged) {
		map_around(&f);
	}
	return true;
}

/* --- Whose they are --- */

static uint64_t root_of(const struct soft_cpu *c)
{
	return c->s.cr3 & PTE_ADDR;
}

static struct ban *ban_of(struct shadow *s, uint64_t root)
{
	for (unsigned i = 0; i < BANNED; i++) {
		if (s->bans[i].root == root) {
			return &s->bans[i];
		}
	}
	return NULL;
}

/* With the lock held: nobody's any more. vCPUs that still run its code find nothing there. */
static void give_up(struct soft_cpu *c, struct shadow *s)
{
	uint64_t root = atomic_load(&c->eng->shadow_root);
	struct ban *b = ban_of(s, root);

	if (!b) {
		b = &s->bans[s->next_ban++ % BANNED];
		*b = (struct ban){ .root = root };
	}
	b->until_ns = clock_now_ns() + (BAN_NS << MIN(b->times, (unsigned)BAN_DOUBLINGS));
	b->times++;
	atomic_store(&c->eng->shadow_root, NOBODY);
	s->last = NOBODY;
	drop_all(s);
	xl_add(&c->counts->n[XC_SHADOW_GIVEN_UP], 1);
}

/* The owner has flushed all, as it does at a fork, and at its end: it is the owner again if it is
 * still there at the next sample. */
static void release(struct soft_cpu *c, struct shadow *s)
{
	uint64_t root = atomic_load(&c->eng->shadow_root);

	if (root == NOBODY || c->eng->eng.conf.xl.direct_now) {
		return;
	}
	s->candidate = root;
	s->samples = SAMPLES - 1;
	s->score = 0;
	atomic_store(&c->eng->shadow_root, NOBODY);
}

/* With the lock held. */
static void charge(struct soft_cpu *c, struct shadow *s, uint64_t since_ns, unsigned more_ns)
{
	if (c->eng->eng.conf.xl.direct_now) {
		return;
	}
	s->credit_ns -= (int64_t)(clock_now_ns() - since_ns + more_ns);
	if (s->credit_ns < 0 && atomic_load(&c->eng->shadow_root) != NOBODY) {
		give_up(c, s);
	}
}

/* The owner's code is left for another one's, which looks for its blocks anew. */
static void switched(struct soft_cpu *c)
{
	struct shadow *s = c->eng->shadow;

	pthread_mutex_lock(&s->lock);
	charge(c, s, clock_now_ns(), SWITCH_NS);
	pthread_mutex_unlock(&s->lock);
}

void shadow_update(struct soft_cpu *c)
{
	bool direct = c->eng->shadow && soft_long(c) && !c->check_access &&
		      atomic_load_explicit(&c->eng->shadow_root, memory_order_relaxed) == root_of(c);

	if (direct != c->xl_direct) {
		c->xl_direct = direct;
		c->xl_loose = false;
		xl_forget(c, true);
		if (!direct) {
			switched(c);
		}
	}
}

/* All others are out of the code of the old one when anything of the new one is mapped. */
static void take(struct soft_cpu *c)
{
	struct soft_engine *eng = c->eng;
	struct shadow *s = eng->shadow;
	const struct ban *b = NULL;

	soft_exclusive_begin(c);
	pthread_mutex_lock(&s->lock);
	drop_all(s);
	b = ban_of(s, root_of(c));
	if (s->last != root_of(c)) {
		s->credit_ns = CREDIT_FIRST_NS << (b ? MIN(b->times, (unsigned)BAN_DOUBLINGS) : 0);
		s->last = root_of(c);
	}
	s->sampled_ns = clock_now_ns();
	s->score = SCORE_MAX / 2;
	s->samples = 0;
	atomic_store(&eng->shadow_root, root_of(c));
	pthread_mutex_unlock(&s->lock);
	for (unsigned i = 0; i < eng->n_cpus; i++) {
		if (eng->cpus[i]) {
			shadow_update(eng->cpus[i]);
		}
	}
	soft_exclusive_end(c);
	xl_add(&c->counts->n[XC_SHADOW_TAKEN], 1);
}

bool shadow_take_now(struct soft_cpu *c)
{
	if (!c->eng->shadow || !soft_long(c) || c->cpl != 3 || c->check_access ||
	    atomic_load(&c->eng->shadow_root) == root_of(c) || !gmem_can_map_again(c->eng->eng.conf.mem)) {
		return false;
	}
	take(c);
	return true;
}

static void earn(struct shadow *s)
{
	uint64_t now = clock_now_ns();

	if (s->credit_ns < CREDIT_MAX_NS) {
		s->credit_ns += (int64_t)(MIN(now - s->sampled_ns, SAMPLE_MAX_NS) / CREDIT_SHARE);
	}
	s->sampled_ns = now;
}

/* Where the guest maps page after page each would be mapped here by itself, for more than it is
 * worth. */
static bool is_growing(struct soft_cpu *c)
{
	uint64_t faults = atomic_load_explicit(&c->counts->n[XC_READ_FAULT], memory_order_relaxed) +
			  atomic_load_explicit(&c->counts->n[XC_WRITE_FAULT], memory_order_relaxed);
	uint64_t more = faults - c->xl_sample_faults;

	c->xl_sample_faults = faults;
	return more > FAULTS_MAX;
}

/* With the lock held. Is it time for the vCPU's address space? */
static bool sampled(struct soft_cpu *c, struct shadow *s)
{
	uint64_t root = root_of(c);
	const struct ban *b = NULL;
	bool growing = is_growing(c);

	if (root == atomic_load(&c->eng->shadow_root) && growing) {
		earn(s);
		drop_all(s);
		release(c, s);
		return false;
	}
	if (root == atomic_load(&c->eng->shadow_root)) {
		earn(s);
		s->score = MIN(s->score + 1, (unsigned)SCORE_MAX);
		s->samples = 0;
		return false;
	}
	if (s->samples == 0) {
		s->candidate = root;
	}
	s->samples += s->candidate == root ? s->samples < 2 * SAMPLES : UINT_MAX;
	s->score -= s->score > 0;
	if (growing || s->samples < SAMPLES || (s->score > 0 && atomic_load(&c->eng->shadow_root) != NOBODY)) {
		return false;
	}
	b = ban_of(s, root);
	return !b || clock_now_ns() >= b->until_ns;
}

void shadow_sample(struct soft_cpu *c)
{
	struct shadow *s = c->eng->shadow;
	bool now = false;

	if (!s || c->cpl != 3 || !soft_long(c) || c->mode != INSN_MODE_64) {
		return;
	}
	pthread_mutex_lock(&s->lock);
	now = sampled(c, s);
	pthread_mutex_unlock(&s->lock);
	if (now && gmem_can_map_again(c->eng->eng.conf.mem)) {
		take(c);
	} else {
		shadow_update(c);
	}
}

bool shadow_fill(struct soft_cpu *c, uint64_t va)
{
	struct shadow *s = c->eng->shadow;
	uint64_t since = clock_now_ns();
	bool filled = false;

	if (!s || !place_of(va)) {
		return false;
	}
	xl_add(&c->counts->n[XC_SHADOW_FILLS], 1);
	pthread_mutex_lock(&s->lock);
	if (c->xl_direct && atomic_load(&c->eng->shadow_root) == root_of(c)) {
		filled = fill(c, s, va);
		charge(c, s, since, SIGNAL_NS);
	} else {
		filled = true;   /* it is not the instruction's fault */
	}
	pthread_mutex_unlock(&s->lock);
	shadow_update(c);
	return filled;
}

/* --- Flushes --- */

/* Of that address space, and is there anything? Changes of the guest's tables come before. */
static bool concerns(struct soft_cpu *c, uint64_t cr3)
{
	if (!c->eng->shadow || (cr3 != UINT64_MAX &&
				(cr3 & PTE_ADDR) != atomic_load_explicit(&c->eng->shadow_root, memory_order_relaxed))) {
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
	drop_all(s);
	xl_add(&c->counts->n[XC_SHADOW_FLUSHES], 1);
	charge(c, s, since, 0);
	if (cr3 != UINT64_MAX) {
		release(c, s);
	}
	pthread_mutex_unlock(&s->lock);
}

/* A page that is flushed beside another one takes its neighbours along: there will be more. */
static void flush_page(struct shadow *s, struct chunk *k, uint64_t va)
{
	uint64_t group = va / (GROUP * GMEM_PAGE_BYTES);
	unsigned i = index_of(va);

	if (k->large) {
		unmap(s, k, 0, CHUNK_PAGES);
		return;
	}
	if (!bit(k->mapped, i)) {
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
	if (!place_of(va | SHADOW_LOW_FIRST) || !concerns(c, cr3)) {
		return;
	}
	uint64_t since = clock_now_ns();

	pthread_mutex_lock(&s->lock);
	struct chunk *k = chunk_of(s, va);

	if (s->huge) {
		drop_all(s);
	} else if (k) {
		flush_page(s, k, va);
	}
	if (s->huge || k) {
		xl_add(&c->counts->n[XC_SHADOW_FLUSHED_PAGES], 1);
		charge(c, s, since, 0);
	}
	pthread_mutex_unlock(&s->lock);
}
