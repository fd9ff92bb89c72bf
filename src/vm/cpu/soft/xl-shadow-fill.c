/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Shadow mappings: a page that a direct access did not find is mapped as the guest's tables have
 * it, and with it what is likely to be wanted next.
 */
#include "base/clock.h"
#include "vm/cpu/soft/xl-shadow-priv.h"
#include "vm/cpu/soft/xl-stats.h"

enum {
	/* Of one owner; each leaves two mappings more at most, of the 65530 that Linux allows. */
	CALLS_MAX = 12000,
	WINDOW_BYTES = 64 << 10,   /* that the host maps in one fault */
	AROUND_MAX = 32,           /* calls for what lies behind a page that was wanted */
	SIGNAL_NS = 5000,
	PTE_P = 1 << 0, PTE_W = 1 << 1, PTE_U = 1 << 2, PTE_A = 1 << 5, PTE_D = 1 << 6,
	PTE_PS = 1 << 7, PTE_G = 1 << 8,
};

#define PTE_NX (UINT64_C(1) << 63)

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
	if ((e & PTE_G) || (e & SHADOW_PTE_ADDR & (size - 1) & ~UINT64_C(0x1000))) {
		return false;
	}
	ret->gpa = (e & SHADOW_PTE_ADDR & ~(size - 1)) |
		   (va & (size - 1) & ~(BIT(SHADOW_CHUNK_SHIFT) - 1));
	ret->writable &= (e & PTE_D) != 0;
	ret->huge = level == 3;
	return true;
}

static bool descend(struct soft_cpu *c, uint64_t va, struct leaves *ret)
{
	uint64_t table = c->s.cr3 & SHADOW_PTE_ADDR;
	struct soft_page *page = NULL;

	*ret = (struct leaves){ .writable = true };
	for (unsigned level = 4; level > 1; level--) {
		unsigned shift = GMEM_PAGE_SHIFT + 9 * (level - 1);
		const uint64_t *t = soft_ram(c->eng, table, &page);
		uint64_t e = 0;

		if (!t) {
			return false;
		}
		e = __atomic_load_n(&t[va >> shift & 511], __ATOMIC_ACQUIRE);
		if (!used(c, e)) {
			return false;
		}
		ret->writable &= (e & PTE_W) != 0;
		if (e & PTE_PS) {
			return level < 4 && large_leaf(e, va, level, ret);
		}
		table = e & SHADOW_PTE_ADDR;
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
		ret->gpa = e & SHADOW_PTE_ADDR;
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
	struct shadow_chunk *k;
	struct leaves leaves;
	struct leaf   at;          /* of the page that is wanted */
	const struct gmem_slot *slot;
	unsigned index, first, last;
	bool     logged;           /* writes to each page are to be seen once more */
};

static struct shadow_chunk *chunk_take(struct shadow *s, uint64_t va)
{
	struct shadow_chunk *k = shadow_chunk_of(s, va), **slot = shadow_slot(s, va);

	if (k) {
		return k;
	}
	k = &s->chunks[s->n_chunks++];
	*k = (struct shadow_chunk){ .next = *slot, .first = shadow_chunk_first(va) };
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
	return l.gpa - f->at.gpa == ((uint64_t)i - f->index) << GMEM_PAGE_SHIFT &&
	       l.write == f->at.write && l.gpa - f->slot->first.raw < f->slot->bytes &&
	       shadow_place(shadow_page_va(f->k, i)) &&
	       (!shadow_bit(f->k->mapped, i) || shadow_bit(f->k->writable, i) != l.write);
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
	while (f->last < SHADOW_CHUNK_PAGES - 1 && belongs(f, f->last + 1)) {
		f->last++;
	}
}

static uint64_t run_va(const struct fill *f)
{
	return shadow_page_va(f->k, f->first);
}

static uint64_t run_gpa(const struct fill *f)
{
	return f->at.gpa - ((uint64_t)(f->index - f->first) << GMEM_PAGE_SHIFT);
}

static uint64_t run_bytes(const struct fill *f)
{
	return (uint64_t)(f->last - f->first + 1) << GMEM_PAGE_SHIFT;
}

static void set_mark(struct shadow *s, struct soft_page *page, uint64_t va)
{
	uint64_t old = atomic_load_explicit(&page->shadow, memory_order_relaxed);
	uint64_t now = s->epoch << SHADOW_MARK_EPOCH | va >> GMEM_PAGE_SHIFT << 1;

	if (shadow_mark_holds(s, old)) {
		now |= old & SHADOW_MARK_MORE;
		if (shadow_mark_va(old) != va && shadow_is_writable(s, shadow_mark_va(old))) {
			now |= SHADOW_MARK_MORE;
		}
	}
	atomic_store_explicit(&page->shadow, now, memory_order_relaxed);
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
		(void)*(const volatile uint8_t *)shadow_pointer(at + off);
	}
}

static bool map_run(struct fill *f)
{
	if (f->at.write && !say_written(f)) {
		f->at.write = false;
	}
	f->s->calls++;
	if (gmem_map_again(f->c->eng->eng.conf.mem, GPA(run_gpa(f)), run_bytes(f),
			   shadow_pointer(shadow_place(run_va(f))), f->at.write) < 0) {
		/* Part of it may have gone. */
		shadow_clear(f->s);
		return false;
	}
	touch(shadow_place(run_va(f)), run_bytes(f));
	for (unsigned i = f->first; i <= f->last; i++) {
		shadow_change(f->k->mapped, i, true);
		shadow_change(f->k->writable, i, f->at.write);
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

	for (unsigned i = f->last + 1; i < SHADOW_CHUNK_PAGES && calls > 0; i = f->last + 1) {
		f->index = f->first = f->last = i;
		if (shadow_bit(f->k->mapped, i) || !shadow_place(shadow_page_va(f->k, i)) ||
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
	size_t slot = va >> GMEM_PAGE_SHIFT & (SOFT_TLB_ENTRIES - 1);
	const struct soft_tlb_entry *e = &c->window->user[slot];

	return e->tag_write == (va & ~(uint64_t)(GMEM_PAGE_BYTES - 1));
}

/* With the lock held, by a vCPU of the address space. */
static bool fill(struct soft_cpu *c, struct shadow *s, uint64_t va)
{
	struct fill f = { .c = c, .s = s, .index = shadow_index(va),
			  .logged = atomic_load(&c->eng->eng.conf.mem->log_dirty) };

	if (s->calls >= CALLS_MAX || s->n_chunks == SHADOW_CHUNKS) {
		shadow_clear(s);
	}
	atomic_store(&s->any, true);
	atomic_thread_fence(memory_order_seq_cst);
	if (!descend(c, va, &f.leaves) || !leaf_at(c, &f.leaves, f.index, &f.at)) {
		return false;
	}
	f.at.write &= !f.logged || wrote(c, va);
	f.slot = gmem_slot(c->eng->eng.conf.mem, GPA(f.at.gpa));
	f.k = chunk_take(s, va);
	if (shadow_bit(f.k->mapped, f.index) && shadow_bit(f.k->writable, f.index) >= f.at.write) {
		return shadow_bit(f.k->writable, f.index);   /* by another vCPU, meanwhile */
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

bool shadow_fill(struct soft_cpu *c, uint64_t va)
{
	struct shadow *s = c->eng->shadow;
	uint64_t since = clock_now_ns();
	bool filled = false;

	if (!s || !shadow_place(va)) {
		return false;
	}
	xl_add(&c->counts->n[XC_SHADOW_FILLS], 1);
	pthread_mutex_lock(&s->lock);
	if (c->xl_direct && atomic_load(&c->eng->shadow_root) == shadow_root_of(c)) {
		filled = fill(c, s, va);
		shadow_charge(c, s, since, SIGNAL_NS);
	} else {
		filled = true;   /* it is not the instruction's fault */
	}
	pthread_mutex_unlock(&s->lock);
	shadow_update(c);
	return filled;
}
