/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The software TLB: what goes when.
 *
 * Three kinds of array. Those of a window hold what belongs to one PCID: pages as CPL 3 may
 * reach them, pages as the kernel may while SMAP does not stop it, and CPL 3's instructions.
 * tlb_kernel and code_kernel are shared by all windows, because under SMAP they hold
 * supervisor pages only, which are global on the systems that matter; where one came in that is
 * not is noted, and a load of CR3 drops those, or all if they are many or one holds code.
 *
 * Spec: SDM 3, 4.10 (Caching Translation Information).
 */
#include <errno.h>

#include "vm/cpu/soft/priv.h"
#include "vm/cpu/soft/xl-shadow.h"
#include "vm/cpu/soft/xl-stats.h"
#include "vm/cpu/soft/xl.h"

static void clear_entry(struct soft_tlb_entry *t, size_t slot)
{
	t[slot].tag_read = t[slot].tag_write = soft_tlb_never(slot);
}

static void clear_data(struct soft_tlb_entry *t)
{
	for (size_t i = 0; i < SOFT_TLB_ENTRIES; i++) {
		clear_entry(t, i);
	}
}

/* The first slot from `from` on that may hold something; SOFT_TLB_ENTRIES: none. */
static size_t next_used(const struct soft_used *used, size_t from)
{
	size_t word = from / 64;
	uint64_t bits = 0;

	if (from >= SOFT_TLB_ENTRIES) {
		return SOFT_TLB_ENTRIES;
	}
	bits = used->bits[word] & (UINT64_MAX << from % 64);
	while (bits == 0 && ++word < ARRAY_LEN(used->bits)) {
		bits = used->bits[word];
	}
	return bits ? word * 64 + (size_t)__builtin_ctzll(bits) : SOFT_TLB_ENTRIES;
}

static void clear_used(struct soft_tlb_entry *t, struct soft_used *used)
{
	for (size_t i = next_used(used, 0); i < SOFT_TLB_ENTRIES; i = next_used(used, i + 1)) {
		clear_entry(t, i);
	}
	*used = (struct soft_used){ 0 };
}

static void clear_code(struct soft_code_entry *t)
{
	for (size_t i = 0; i < SOFT_CODE_ENTRIES; i++) {
		t[i].tag = 1;   /* no page begins there */
	}
}

static const struct soft_fetched nothing_fetched = {
	.first = UINT64_MAX, .large_first = UINT64_MAX,
};

/* Nothing is known any more of what runs where, at CPL 3 in a window. Linux changes its own code by
 * an address space that only the kernel looks into: in its window there was nothing. */
static void forget_window(struct soft_cpu *c, struct soft_window *w)
{
	if (w->fetched.first <= w->fetched.last) {
		clear_code(w->code);
		w->fetched = nothing_fetched;
	}
	w->generation = ++c->generations;
	if (w == c->window) {
		xl_forget(c, true);
	}
}

static void forget_kernel(struct soft_cpu *c)
{
	clear_code(c->code_kernel);
	c->kernel_generation = ++c->generations;
	c->kernel_fetched[0] = c->kernel_fetched[1] = nothing_fetched;
	xl_forget(c, false);
}

static void clear_window(struct soft_cpu *c, struct soft_window *w)
{
	soft_stack_forget(c);
	xl_add(&c->counts->n[XC_FLUSH_USER], 1);
	if (!w->empty) {
		clear_used(w->user, &w->user_used);
		clear_used(w->ac, &w->ac_used);
		w->empty = true;
	}
	w->large_first = UINT64_MAX;
	w->large_last = 0;
	forget_window(c, w);
}

static void clear_kernel(struct soft_cpu *c)
{
	soft_stack_forget(c);
	xl_add(&c->counts->n[XC_FLUSH_KERNEL], 1);
	clear_used(c->tlb_kernel, &c->kernel_used);
	c->kernel_large_first = UINT64_MAX;
	c->kernel_large_last = 0;
	c->kernel_local = false;
	c->n_kernel_locals = 0;
	forget_kernel(c);
}

static uint16_t current_pcid(const struct soft_cpu *c)
{
	return c->s.cr4 & CPU_CR4_PCIDE ? c->s.cr3 & 0xfff : 0;
}

void soft_tlb_init(struct soft_cpu *c)
{
	clear_data(c->tlb_none);
	clear_data(c->tlb_kernel);
	for (size_t i = 0; i < SOFT_WINDOWS; i++) {
		clear_data(c->windows[i].user);
		clear_data(c->windows[i].ac);
		c->windows[i].empty = true;
	}
	soft_tlb_flush_all(c);
}

void soft_tlb_flush_all(struct soft_cpu *c)
{
	for (size_t i = 0; i < SOFT_WINDOWS; i++) {
		c->windows[i].valid = false;
	}
	c->window = &c->windows[0];
	c->window->valid = true;
	c->window->pcid = current_pcid(c);
	c->window->cr3 = c->s.cr3;
	shadow_flush(c, UINT64_MAX);
	clear_window(c, c->window);
	clear_kernel(c);
	soft_mode_update(c);
}

static struct soft_window *window_of(struct soft_cpu *c, uint16_t pcid)
{
	for (size_t i = 0; i < SOFT_WINDOWS; i++) {
		if (c->windows[i].valid && c->windows[i].pcid == pcid) {
			return &c->windows[i];
		}
	}
	return NULL;
}

/* The window that was not used for longest. */
static struct soft_window *window_take(struct soft_cpu *c, uint16_t pcid)
{
	struct soft_window *w = &c->windows[0];

	for (size_t i = 0; i < SOFT_WINDOWS; i++) {
		if (!c->windows[i].valid) {
			w = &c->windows[i];
			break;
		}
		if (c->windows[i].used < w->used) {
			w = &c->windows[i];
		}
	}
	w->valid = true;
	w->pcid = pcid;
	clear_window(c, w);
	return w;
}

static void kernel_local_go(struct soft_cpu *c)
{
	if (c->kernel_local) {
		clear_kernel(c);
		return;
	}
	if (c->n_kernel_locals > 0) {
		soft_stack_forget(c);
	}
	while (c->n_kernel_locals > 0) {
		unsigned slot = c->kernel_locals[--c->n_kernel_locals];

		clear_entry(c->tlb_kernel, slot);
	}
}

static bool same_tables(uint64_t cr3, uint64_t other)
{
	return (cr3 ^ other) >> GMEM_PAGE_SHIFT == 0;
}

void soft_tlb_switch(struct soft_cpu *c, bool keep)
{
	uint16_t pcid = current_pcid(c);
	struct soft_window *w = window_of(c, pcid);

	if (!keep || !w || !same_tables(w->cr3, c->s.cr3)) {
		/* Of a PCID that was another address space's, or forgotten, nothing is known. */
		shadow_flush(c, c->s.cr3);
	}
	if (!w) {
		w = window_take(c, pcid);
	} else if (!keep) {
		clear_window(c, w);
	}
	w->cr3 = c->s.cr3;
	w->used = ++c->generations;
	c->window = w;
	xl_forget(c, true);
	kernel_local_go(c);
	soft_mode_update(c);
}

void soft_tlb_flush_pcid(struct soft_cpu *c, uint16_t pcid)
{
	struct soft_window *w = window_of(c, pcid);

	if (w) {
		clear_window(c, w);
		shadow_flush(c, w->cr3);
	}
	if (w == c->window) {
		kernel_local_go(c);
	}
}

void soft_tlb_flush_local(struct soft_cpu *c)
{
	for (size_t i = 0; i < SOFT_WINDOWS; i++) {
		if (c->windows[i].valid) {
			clear_window(c, &c->windows[i]);
		}
	}
	shadow_flush(c, UINT64_MAX);
	kernel_local_go(c);
}

/* Drop the page, and all pieces of the large page, that holds va. */
static void drop(struct soft_tlb_entry *t, const struct soft_used *used, uint64_t va, bool large)
{
	size_t slot = va >> GMEM_PAGE_SHIFT & (SOFT_TLB_ENTRIES - 1);
	uint64_t page = va & ~(uint64_t)(GMEM_PAGE_BYTES - 1);

	if (t[slot].tag_read == page || t[slot].tag_write == page) {
		clear_entry(t, slot);
	}
	for (size_t i = next_used(used, 0); large && i < SOFT_TLB_ENTRIES;
	     i = next_used(used, i + 1)) {
		unsigned shift = t[i].gpa >> SOFT_TLB_SIZE_SHIFT & 63;

		if ((t[i].gpa & SOFT_TLB_LARGE) && t[i].tag_read != soft_tlb_never(i) &&
		    t[i].tag_read >> shift == va >> shift) {
			clear_entry(t, i);
		}
	}
}

static size_t fetched_bit(uint64_t va)
{
	return (va >> GMEM_PAGE_SHIFT) * UINT64_C(0x9e3779b97f4a7c15) >> (64 - 12);
}

/* May code have been fetched from the page, large or not, that holds va? */
static bool was_fetched(const struct soft_fetched *f, uint64_t va)
{
	size_t bit = fetched_bit(va);

	return ((f->pages[bit / 64] >> bit % 64 & 1) && va >= f->first && va <= f->last) ||
	       (va >= f->large_first && va <= f->large_last);
}

static void widen(uint64_t *first, uint64_t *last, uint64_t va, unsigned shift)
{
	uint64_t in_page = BIT(shift) - 1;

	*first = MIN(*first, va & ~in_page);
	*last = MAX(*last, va | in_page);
}

static void note_fetched(struct soft_fetched *f, uint64_t va, unsigned shift)
{
	size_t bit = fetched_bit(va);

	_Static_assert(SOFT_FETCHED_BITS == 1 << 12, "the hash has so many bits");
	f->pages[bit / 64] |= BIT(bit % 64);
	widen(&f->first, &f->last, va, GMEM_PAGE_SHIFT);
	if (shift > GMEM_PAGE_SHIFT) {
		widen(&f->large_first, &f->large_last, va, shift);
	}
}

static void drop_in_window(struct soft_cpu *c, struct soft_window *w, uint64_t va)
{
	bool large = va >= w->large_first && va <= w->large_last;

	soft_stack_forget(c);
	drop(w->user, &w->user_used, va, large);
	drop(w->ac, &w->ac_used, va, large);
	if (was_fetched(&w->fetched, va)) {
		forget_window(c, w);
	}
}

static void drop_in_kernel(struct soft_cpu *c, uint64_t va)
{
	soft_stack_forget(c);
	drop(c->tlb_kernel, &c->kernel_used, va,
	     va >= c->kernel_large_first && va <= c->kernel_large_last);
	/* It runs nothing of the half where programs are, whose pages change all the time. */
	if (was_fetched(&c->kernel_fetched[va >> 63], va)) {
		forget_kernel(c);
	}
}

void soft_tlb_flush_address(struct soft_cpu *c, uint64_t va)
{
	xl_add(&c->counts->n[XC_FLUSH_ADDRESS], 1);
	drop_in_window(c, c->window, va);
	shadow_flush_address(c, c->s.cr3, va);
	drop_in_kernel(c, va);
	if (va >> 47 || !(c->s.cr4 & CPU_CR4_SMEP)) {
		/* Global pages of the kernel may be in any window's array. */
		for (size_t i = 0; i < SOFT_WINDOWS; i++) {
			if (c->windows[i].valid && &c->windows[i] != c->window) {
				drop_in_window(c, &c->windows[i], va);
			}
		}
	}
}

void soft_tlb_flush_pcid_address(struct soft_cpu *c, uint16_t pcid, uint64_t va)
{
	struct soft_window *w = window_of(c, pcid);

	xl_add(&c->counts->n[XC_FLUSH_ADDRESS], 1);
	if (w) {
		drop_in_window(c, w, va);
		shadow_flush_address(c, w->cr3, va);
	}
	if (w == c->window) {
		drop_in_kernel(c, va);
	}
}

static void drop_writes(struct soft_tlb_entry *t, const struct soft_used *used,
			uint64_t gpa_page, bool all)
{
	for (size_t i = next_used(used, 0); i < SOFT_TLB_ENTRIES; i = next_used(used, i + 1)) {
		if (all || (t[i].gpa & ~(uint64_t)(GMEM_PAGE_BYTES - 1)) == gpa_page) {
			t[i].tag_write = soft_tlb_never(i);
			t[i].gpa &= ~(uint64_t)SOFT_TLB_PARTLY;
		}
	}
}

static void drop_writes_everywhere(struct soft_cpu *c, uint64_t gpa_page, bool all)
{
	soft_stack_forget(c);
	drop_writes(c->tlb_kernel, &c->kernel_used, gpa_page, all);
	for (size_t i = 0; i < SOFT_WINDOWS; i++) {
		if (c->windows[i].valid && !c->windows[i].empty) {
			drop_writes(c->windows[i].user, &c->windows[i].user_used, gpa_page, all);
			drop_writes(c->windows[i].ac, &c->windows[i].ac_used, gpa_page, all);
		}
	}
}

void soft_tlb_drop_writes(struct soft_cpu *c)
{
	drop_writes_everywhere(c, 0, true);
}

void soft_tlb_drop_writes_page(struct soft_cpu *c, uint64_t gpa)
{
	drop_writes_everywhere(c, gpa & ~(uint64_t)(GMEM_PAGE_BYTES - 1), false);
}

static noreturn_fn void page_fault(struct soft_cpu *c, uint64_t va, uint32_t error)
{
	c->s.cr2 = va;
	soft_fault(c, CPU_PF, error);
}

uint64_t soft_fetch_page(struct soft_cpu *c, uint64_t linear)
{
	uint64_t page = linear & ~(uint64_t)(GMEM_PAGE_BYTES - 1);
	struct soft_code_entry *t = c->cpl == 3 ? c->window->code : c->code_kernel;
	struct soft_code_entry *e = &t[linear >> GMEM_PAGE_SHIFT & (SOFT_CODE_ENTRIES - 1)];
	struct soft_walk w = { 0 };

	if (e->tag == page) {
		return e->gpa;
	}
	if (soft_walk(c, linear, SOFT_WALK_FETCH | (c->cpl == 3 ? SOFT_WALK_USER : 0), &w) < 0) {
		page_fault(c, linear, w.error);
	}
	e->tag = page;
	e->gpa = w.gpa & ~(uint64_t)(GMEM_PAGE_BYTES - 1);
	note_fetched(c->cpl == 3 ? &c->window->fetched : &c->kernel_fetched[linear >> 63],
		     linear, w.shift);
	if (c->cpl < 3 && !w.global) {
		c->kernel_local = true;
	}
	return e->gpa;
}
