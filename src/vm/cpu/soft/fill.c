/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What comes into the software TLB; and the quick way for what translated code misses there.
 *
 * The vector registers are the guest's while translated code runs, and so are most others. This
 * file is compiled to use general registers only, so that the code may call it with nothing saved
 * but those that every function may change: it calls nothing outside.
 *
 * The quick way knows the common case: 4-level paging, a page of RAM that may be reached so, all
 * accessed and dirty bits set. Whatever else there is it leaves to the slow one, which finds the
 * same again.
 */
#include "vm/cpu/soft/priv.h"
#include "vm/cpu/soft/xl-stats.h"
#include "vm/cpu/soft/xl.h"

static void widen(uint64_t *first, uint64_t *last, uint64_t va, unsigned shift)
{
	uint64_t in_page = BIT(shift) - 1;

	*first = MIN(*first, va & ~in_page);
	*last = MAX(*last, va | in_page);
}

/* A piece of a large page came into the array of this privilege. */
static void note_large(struct soft_cpu *c, uint64_t va, unsigned shift)
{
	if (c->tlb == c->tlb_kernel) {
		widen(&c->kernel_large_first, &c->kernel_large_last, va, shift);
	} else {
		widen(&c->window->large_first, &c->window->large_last, va, shift);
	}
}

/* A page that is not global came into a slot of tlb_kernel. */
static void note_local(struct soft_cpu *c, size_t slot)
{
	unsigned n = c->n_kernel_locals;

	for (unsigned i = 0; i < n; i++) {
		if (c->kernel_locals[i] == slot) {
			return;
		}
	}
	if (n == SOFT_LOCALS) {
		c->kernel_local = true;
		return;
	}
	c->kernel_locals[c->n_kernel_locals++] = (uint16_t)slot;
}

/*
 * The order here (say that there is a writer, then look for code) is the partner of
 * soft_block_find()'s.
 */
static void writable(struct soft_cpu *c, struct soft_tlb_entry *e, struct soft_page *p,
		     uint64_t page)
{
	uint64_t self = BIT(c->vcpu.id);

	if (!(atomic_load_explicit(&p->writers, memory_order_relaxed) & self)) {
		atomic_fetch_or(&p->writers, self);
	}
	atomic_thread_fence(memory_order_seq_cst);
	if (atomic_load_explicit(&p->code, memory_order_relaxed) != 0) {
		e->gpa |= SOFT_TLB_PARTLY;
		return;
	}
	if (!(atomic_load_explicit(&p->tagged, memory_order_relaxed) & self)) {
		atomic_fetch_or(&p->tagged, self);
	}
	e->tag_write = page;
}

static void note_used(struct soft_cpu *c, size_t slot)
{
	struct soft_used *used = c->tlb == c->tlb_kernel ? &c->kernel_used :
				 c->tlb == c->window->user ? &c->window->user_used :
							     &c->window->ac_used;

	used->bits[slot / 64] |= BIT(slot % 64);
}

void soft_tlb_fill(struct soft_cpu *c, uint64_t linear, const struct soft_walk *w, void *host,
		   struct soft_page *p, bool write)
{
	const uint64_t in_page = GMEM_PAGE_BYTES - 1;
	struct soft_tlb_entry *e = soft__tlb(c, linear);
	uint64_t page = linear & ~in_page, self = BIT(c->vcpu.id);
	bool large = w->shift > GMEM_PAGE_SHIFT;

	if (write && !(atomic_load_explicit(&p->writers, memory_order_relaxed) & self)) {
		atomic_fetch_or(&p->writers, self);   /* of this one store, at least */
	}
	if (c->check_access) {
		return;
	}
	if (e->tag_read != page) {
		e->tag_write = soft_tlb_never((size_t)(e - c->tlb));
	}
	note_used(c, (size_t)(e - c->tlb));
	e->tag_read = page;
	e->host = (uint64_t)(uintptr_t)host & ~in_page;
	e->gpa = (w->gpa & ~in_page) | (large ? SOFT_TLB_LARGE : 0) |
		 (w->global ? SOFT_TLB_GLOBAL : 0) | (uint64_t)w->shift << SOFT_TLB_SIZE_SHIFT;
	if (large) {
		note_large(c, linear, w->shift);
	}
	if (c->tlb != c->tlb_kernel) {
		c->window->empty = false;
	} else if (!w->global) {
		note_local(c, (size_t)(e - c->tlb));
	}
	/* What is read may be written to next. Nothing is to be noted for a page that is dirty, and
	 * it must not be one with code, which would be asked for its right to be written to. */
	if (write || (w->writable && w->dirty && e->tag_write != page &&
		      !atomic_load_explicit(&c->eng->eng.conf.mem->log_dirty,
					    memory_order_relaxed) &&
		      atomic_load_explicit(&p->code, memory_order_relaxed) == 0)) {
		writable(c, e, p, page);
	}
}

/* --- The quick way --- */

enum {
	PTE_P = 1 << 0, PTE_W = 1 << 1, PTE_U = 1 << 2, PTE_A = 1 << 5, PTE_D = 1 << 6,
	PTE_PS = 1 << 7, PTE_G = 1 << 8,
	LEVELS = 4, INDEX_BITS = 9,
	PF_P = 1, PF_W = 2, PF_U = 4,
};

#define PTE_NX   (UINT64_C(1) << 63)
#define PTE_ADDR UINT64_C(0x000ffffffffff000)

/* As soft_ram(). */
static uint8_t *ram(const struct soft_cpu *c, uint64_t gpa, struct soft_page **ret_page)
{
	const struct gmem *g = c->eng->eng.conf.mem;

	for (unsigned i = 0; i < g->n_slots; i++) {
		uint64_t off = gpa - g->slots[i].first.raw;

		if (off < g->slots[i].bytes) {
			*ret_page = &c->eng->pages[i][off >> GMEM_PAGE_SHIFT];
			return g->slots[i].host + off;
		}
	}
	return NULL;
}

enum found { FOUND, ABSENT, RARE };   /* RARE: there is something about it that is not common */

static enum found walk(const struct soft_cpu *c, uint64_t va, struct soft_walk *ret)
{
	uint64_t never = c->phys_reserved | (c->s.efer & CPU_EFER_NXE ? 0 : PTE_NX);
	uint64_t entry = c->s.cr3, rights = PTE_U | PTE_W;
	unsigned shift = GMEM_PAGE_SHIFT + LEVELS * INDEX_BITS;

	do {
		struct soft_page *page = NULL;
		const uint8_t *host = NULL;

		shift -= INDEX_BITS;
		host = ram(c, (entry & PTE_ADDR) + (va >> shift & (BIT(INDEX_BITS) - 1)) * 8,
			   &page);
		if (!host) {
			return RARE;
		}
		entry = __atomic_load_n((const uint64_t *)(const void *)host, __ATOMIC_ACQUIRE);
		rights &= entry;
		if (!(entry & PTE_P)) {
			return ABSENT;
		}
		if (!(entry & PTE_A) || (entry & never)) {
			return RARE;
		}
	} while (shift > GMEM_PAGE_SHIFT && !(entry & PTE_PS));
	/* Larger ones than 2 MiB are rare; below its address a large page has reserved bits. */
	if (shift > GMEM_PAGE_SHIFT + INDEX_BITS ||
	    (shift > GMEM_PAGE_SHIFT && (entry & 0x1fe000))) {
		return RARE;
	}
	ret->gpa = (entry & PTE_ADDR & ~(BIT(shift) - 1)) | (va & (BIT(shift) - 1));
	ret->shift = (uint8_t)shift;
	ret->user = (rights & PTE_U) != 0;
	ret->writable = (rights & PTE_W) != 0;
	ret->global = (entry & PTE_G) && (c->s.cr4 & CPU_CR4_PGE);
	ret->dirty = (entry & PTE_D) != 0;
	return FOUND;
}

static bool allowed(const struct soft_cpu *c, const struct soft_walk *w, bool write)
{
	if (write && !(w->writable && w->dirty)) {
		return false;
	}
	if (c->cpl == 3) {
		return w->user;
	}
	return !w->user || c->tlb != c->tlb_kernel || !(c->s.cr4 & CPU_CR4_SMAP);
}

/* The access has none of the rights, or there is no page: the code of its page fault, which is the
 * next thing to happen, is left for whoever is called now. */
static unsigned faults(struct soft_cpu *c, bool write, bool present)
{
	c->xl_pf = XL_PF | (present ? PF_P : 0u) | (write ? PF_W : 0u) | (c->cpl == 3 ? PF_U : 0u);
	return 1;
}

unsigned xl_fill(struct soft_cpu *c, uint64_t linear, unsigned write)
{
	const struct soft_tlb_entry *e = soft__tlb(c, linear);
	uint64_t page = linear & ~(uint64_t)(GMEM_PAGE_BYTES - 1);
	struct soft_walk w;
	struct soft_page *p = NULL;
	uint8_t *host = NULL;
	enum found found = RARE;

	c->xl_pf = 0;
	/* Where there is a tag the access was none that one page settles. */
	if (c->check_access || !soft_canonical(linear) ||
	    (write ? e->tag_write : e->tag_read) == page ||
	    (write && e->tag_read == page && (e->gpa & SOFT_TLB_PARTLY))) {
		return 1;
	}
	found = walk(c, linear, &w);
	if (found == ABSENT ||
	    (found == FOUND && c->cpl == 3 && (!w.user || (write && !w.writable)))) {
		return faults(c, write, found == FOUND);
	}
	if (found != FOUND || !allowed(c, &w, write)) {
		return 1;
	}
	host = ram(c, w.gpa, &p);
	if (!host || (write && (atomic_load_explicit(&p->code, memory_order_relaxed) != 0 ||
				atomic_load_explicit(&c->eng->eng.conf.mem->log_dirty,
						     memory_order_relaxed)))) {
		return 1;
	}
	soft_tlb_fill(c, linear, &w, host, p, write);
	xl_add(&c->counts->n[write ? XC_WRITE_FILLED : XC_READ_FILLED], 1);
	return (write ? e->tag_write : e->tag_read) != page;
}
