/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The page walk. Tables lie in guest memory that other vCPUs change at the same time: entries
 * are read whole, and accessed and dirty bits set by compare and exchange; when that is lost
 * to another, the walk begins again.
 *
 * Spec: SDM 3, 4 (Paging).
 */
#include <errno.h>

#include "vm/cpu/soft/priv.h"

enum {
	PTE_P = 1 << 0, PTE_W = 1 << 1, PTE_U = 1 << 2, PTE_A = 1 << 5, PTE_D = 1 << 6,
	PTE_PS = 1 << 7, PTE_G = 1 << 8,
	WALK_LEVELS_MAX = 4,
};

#define PTE_NX   (UINT64_C(1) << 63)
#define PTE_ADDR UINT64_C(0x000ffffffffff000)

enum { ERROR_P = 1, ERROR_W = 2, ERROR_U = 4, ERROR_RSVD = 8, ERROR_I = 16 };

struct walk_step {
	void    *host;
	uint64_t gpa, entry;
	struct soft_page *page;
};

struct walk {
	struct walk_step step[WALK_LEVELS_MAX];
	unsigned n;
	bool     user, writable, nx;
	unsigned shift;
	uint64_t leaf;
};

static uint64_t entry_read(const struct walk_step *s, unsigned bytes)
{
	return bytes == 8 ? __atomic_load_n((const uint64_t *)s->host, __ATOMIC_ACQUIRE)
			  : __atomic_load_n((const uint32_t *)s->host, __ATOMIC_ACQUIRE);
}

/* Set bits of an entry that was read before. false: it is another one by now. */
static bool entry_set(struct soft_cpu *c, struct walk_step *s, unsigned bytes, uint64_t bits)
{
	uint64_t wide = s->entry;
	uint32_t narrow = (uint32_t)s->entry;
	bool done = false;

	if ((s->entry & bits) == bits) {
		return true;
	}
	done = bytes == 8 ? __atomic_compare_exchange_n((uint64_t *)s->host, &wide, wide | bits,
							false, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST)
			  : __atomic_compare_exchange_n((uint32_t *)s->host, &narrow,
							narrow | (uint32_t)bits, false,
							__ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST);
	if (!done) {
		return false;
	}
	s->entry |= bits;
	gmem_mark_dirty(c->eng->eng.conf.mem, GPA(s->gpa), bytes);
	if (atomic_load_explicit(&s->page->code, memory_order_relaxed)) {
		soft_code_written(c, s->page, s->gpa, bytes);
	}
	return true;
}

/* Reserved bits of an entry: of the address, and what its level forbids. */
static bool reserved(const struct soft_cpu *c, uint64_t e, unsigned level, unsigned bytes,
		     bool leaf)
{
	if (bytes == 4) {
		/* PSE-36: bits 13 to 20 are address bits 32 to 39. */
		return leaf && level == 2 && (e & BIT(21));
	}
	if ((e & c->phys_reserved) || ((e & PTE_NX) && !(c->s.efer & CPU_EFER_NXE))) {
		return true;
	}
	if (!soft_long(c) && (e & UINT64_C(0x7ff0000000000000))) {
		return true;
	}
	if (level == 4 && (e & PTE_PS)) {
		return true;
	}
	return leaf && ((level == 3 && (e & UINT64_C(0x3fffe000))) ||
			(level == 2 && (e & UINT64_C(0x001fe000))));
}

/* From the table at `table` down to the leaf. 0, or the error code's bits P and RSVD, plus
 * -EFAULT. */
static int descend(struct soft_cpu *c, uint64_t va, uint64_t table, unsigned level, unsigned bytes,
		   struct walk *w, uint32_t *ret_error)
{
	unsigned index_bits = bytes == 8 ? 9 : 10;

	for (;; level--) {
		struct walk_step *s = &w->step[w->n++];
		bool leaf = false;

		w->shift = GMEM_PAGE_SHIFT + index_bits * (level - 1);
		s->gpa = table + (va >> w->shift & (BIT(index_bits) - 1)) * bytes;
		s->host = soft_ram(c->eng, s->gpa, &s->page);
		s->entry = s->host ? entry_read(s, bytes) : 0;
		if (!(s->entry & PTE_P)) {
			*ret_error = 0;
			return -EFAULT;
		}
		leaf = level == 1 || ((s->entry & PTE_PS) && level < 4 &&
				      (bytes == 8 || (c->s.cr4 & CPU_CR4_PSE)));
		if (reserved(c, s->entry, level, bytes, leaf)) {
			*ret_error = ERROR_P | ERROR_RSVD;
			return -EFAULT;
		}
		w->user = w->user && (s->entry & PTE_U);
		w->writable = w->writable && (s->entry & PTE_W);
		w->nx = w->nx || (bytes == 8 && (s->entry & PTE_NX));
		if (leaf) {
			w->leaf = s->entry;
			return 0;
		}
		table = s->entry & (bytes == 8 ? PTE_ADDR : UINT64_C(0xfffff000));
	}
}

static bool denied(const struct soft_cpu *c, const struct walk *w, unsigned flags)
{
	if (flags & SOFT_WALK_USER) {
		if (!w->user || ((flags & SOFT_WALK_WRITE) && !w->writable)) {
			return true;
		}
		return (flags & SOFT_WALK_FETCH) && w->nx;
	}
	if (flags & SOFT_WALK_FETCH) {
		return w->nx || (w->user && (c->s.cr4 & CPU_CR4_SMEP));
	}
	if (w->user && !(flags & SOFT_WALK_AC)) {
		return true;
	}
	return (flags & SOFT_WALK_WRITE) && !w->writable && (c->s.cr0 & CPU_CR0_WP);
}

static uint64_t leaf_address(const struct walk *w, uint64_t va, unsigned bytes)
{
	uint64_t mask = BIT(w->shift) - 1;
	uint64_t base = w->leaf & (bytes == 8 ? PTE_ADDR : UINT64_C(0xfffff000));

	if (bytes == 4 && w->shift > GMEM_PAGE_SHIFT) {
		base |= (w->leaf >> 13 & 0xff) << 32;
	}
	return (base & ~mask) | (va & mask);
}

/* Accessed in every entry, dirty in the last. false: an entry changed. */
static bool mark(struct soft_cpu *c, struct walk *w, unsigned bytes, bool write)
{
	for (unsigned i = 0; i < w->n; i++) {
		bool last = i == w->n - 1;

		if (!entry_set(c, &w->step[i], bytes, PTE_A | (last && write ? PTE_D : 0))) {
			return false;
		}
	}
	return true;
}

static uint32_t error_bits(const struct soft_cpu *c, unsigned flags)
{
	uint32_t e = 0;
	bool fetch_told = (c->s.cr4 & CPU_CR4_SMEP) ||
			  ((c->s.cr4 & CPU_CR4_PAE) && (c->s.efer & CPU_EFER_NXE));

	if (flags & SOFT_WALK_WRITE) {
		e |= ERROR_W;
	}
	if (flags & SOFT_WALK_USER) {
		e |= ERROR_U;
	}
	if ((flags & SOFT_WALK_FETCH) && fetch_told) {
		e |= ERROR_I;
	}
	return e;
}

/* Where the walk begins. false: a PAE entry is not present. */
static bool root(const struct soft_cpu *c, uint64_t va, uint64_t *ret_table, unsigned *ret_level,
		 unsigned *ret_bytes)
{
	*ret_bytes = 8;
	if (soft_long(c)) {
		*ret_table = c->s.cr3 & PTE_ADDR;
		*ret_level = 4;
		return true;
	}
	if (c->s.cr4 & CPU_CR4_PAE) {
		uint64_t e = c->s.pdptr[va >> 30 & 3];

		*ret_table = e & PTE_ADDR;
		*ret_level = 2;
		return (e & PTE_P) != 0;
	}
	*ret_table = c->s.cr3 & UINT64_C(0xfffff000);
	*ret_level = 2;
	*ret_bytes = 4;
	return true;
}

int soft_walk(struct soft_cpu *c, uint64_t va, unsigned flags, struct soft_walk *ret)
{
	for (;;) {
		struct walk w = { .user = true, .writable = true };
		uint64_t table = 0;
		unsigned level = 0, bytes = 0;

		if (!(c->s.cr0 & CPU_CR0_PG)) {
			*ret = (struct soft_walk){ .gpa = va & UINT32_MAX, .writable = true,
						   .shift = GMEM_PAGE_SHIFT, .user = true,
						   .dirty = true };
			return 0;
		}
		ret->error = error_bits(c, flags);
		if (!root(c, va, &table, &level, &bytes)) {
			return -EFAULT;
		}
		uint32_t error = 0;
		int r = descend(c, va, table, level, bytes, &w, &error);

		if (r < 0) {
			ret->error |= error;
			return r;
		}
		if (!(flags & SOFT_WALK_PEEK)) {
			if (denied(c, &w, flags)) {
				ret->error |= ERROR_P;
				return -EFAULT;
			}
			if (!mark(c, &w, bytes, flags & SOFT_WALK_WRITE)) {
				continue;
			}
		}
		ret->gpa = leaf_address(&w, va, bytes);
		ret->shift = (uint8_t)w.shift;
		ret->user = w.user;
		ret->writable = w.writable;
		ret->global = (w.leaf & PTE_G) && (c->s.cr4 & CPU_CR4_PGE);
		ret->dirty = (w.step[w.n - 1].entry & PTE_D) != 0;
		return 0;
	}
}

int soft_load_pdptr(struct soft_cpu *c, uint64_t cr3)
{
	uint64_t e[4] = { 0 };

	for (unsigned i = 0; i < 4; i++) {
		struct soft_page *page = NULL;
		uint64_t at = (cr3 & UINT64_C(0xffffffe0)) + 8 * i;
		const uint64_t *host = soft_ram(c->eng, at, &page);

		e[i] = host ? __atomic_load_n(host, __ATOMIC_ACQUIRE) : 0;
		/* Bits 1, 2, 5 to 8, the upper ones, and NX. */
		if ((e[i] & PTE_P) && (e[i] & (UINT64_C(0x1e6) | c->phys_reserved | PTE_NX |
					       UINT64_C(0x7ff0000000000000)))) {
			return -EINVAL;
		}
	}
	for (unsigned i = 0; i < 4; i++) {
		c->s.pdptr[i] = e[i];
	}
	return 0;
}
