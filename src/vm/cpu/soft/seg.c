/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Segments: effective and linear addresses, and loading descriptors with their checks.
 *
 * Spec: SDM 3, 3.4 and 5 (Protection).
 */
#include <errno.h>

#include "vm/cpu/soft/priv.h"

uint64_t soft_ea(const struct soft_cpu *c, const struct insn *i)
{
	uint64_t ea = (uint64_t)(int64_t)i->disp;

	if (i->base == INSN_BASE_RIP) {
		ea += soft_rip_after(c, i);
	} else if (i->base != INSN_NONE) {
		ea += c->s.gpr[i->base];
	}
	if (i->index != INSN_NONE) {
		ea += c->s.gpr[i->index] << i->scale;
	}
	return soft_cut(ea, i->ad_bytes);
}

static noreturn_fn void segment_fault(struct soft_cpu *c, unsigned seg)
{
	soft_fault(c, seg == CPU_SS ? CPU_SS_FAULT : CPU_GP, 0);
}

uint64_t soft__linear_legacy(struct soft_cpu *c, unsigned seg, uint64_t ea, unsigned bytes,
			     enum soft_access access)
{
	const struct cpu_seg *s = &c->s.seg[seg];
	uint64_t last = (ea & UINT32_MAX) + bytes - 1;
	bool code = (s->ar & CPU_AR_CODE) != 0;

	ea &= UINT32_MAX;
	if (s->ar & CPU_AR_UNUSABLE) {
		segment_fault(c, seg);
	}
	/* In real and virtual 8086 mode only limits count. */
	if (soft_protected(c)) {
		bool rw = s->ar & CPU_AR_RW;

		if (access == SOFT_WRITE ? code || !rw : code && !rw) {
			segment_fault(c, seg);
		}
	}
	if ((s->ar & (CPU_AR_DC | CPU_AR_CODE)) == CPU_AR_DC) {
		uint64_t top = s->ar & CPU_AR_DB ? UINT32_MAX : 0xffff;

		if (ea <= s->limit || last > top) {
			segment_fault(c, seg);
		}
	} else if (last > s->limit) {
		segment_fault(c, seg);
	}
	return (s->base + ea) & UINT32_MAX;
}

int soft_desc_read(struct soft_cpu *c, uint16_t selector, struct soft_desc *ret)
{
	uint64_t base = selector & SOFT_SEL_TI ? c->s.ldt.base : c->s.gdt.base;
	uint32_t limit = selector & SOFT_SEL_TI ? c->s.ldt.limit : c->s.gdt.limit;
	uint64_t w = 0;

	if ((selector & SOFT_SEL_TI) && (c->s.ldt.ar & CPU_AR_UNUSABLE)) {
		return -EINVAL;
	}
	if ((selector | 7u) > limit) {
		return -EINVAL;
	}
	ret->linear = base + (selector & 0xfff8);
	if (!soft_long(c)) {
		ret->linear &= UINT32_MAX;
	}
	w = soft_load_system(c, ret->linear, 8);
	ret->raw = w;
	ret->base = (w >> 16 & 0xffffff) | (w >> 56) << 24;
	ret->ar = w >> 40 & 0xf0ff;
	ret->limit = (uint32_t)((w & 0xffff) | (w >> 32 & 0xf0000));
	if (ret->ar & CPU_AR_G) {
		ret->limit = ret->limit << 12 | 0xfff;
	}
	return 0;
}

void soft_desc_read_high(struct soft_cpu *c, struct soft_desc *d)
{
	uint64_t high = soft_load_system(c, d->linear + 8, 8);

	d->base = (uint32_t)d->base | high << 32;
}

/* The byte is written only where the bit is clear: tables may lie in read-only pages. */
void soft_desc_accessed(struct soft_cpu *c, struct soft_desc *d)
{
	if (d->ar & CPU_AR_ACCESSED) {
		return;
	}
	d->ar |= CPU_AR_ACCESSED;
	d->raw |= BIT(40);
	soft_store_system(c, d->linear + 5, 1, d->raw >> 40 & 0xff);
}

void soft_seg_set(struct cpu_seg *s, uint16_t selector, const struct soft_desc *d)
{
	*s = (struct cpu_seg){ .base = d->base, .limit = d->limit, .ar = d->ar,
			       .selector = selector };
}

void soft_seg_load_real(struct soft_cpu *c, unsigned seg, uint16_t selector)
{
	struct cpu_seg *s = &c->s.seg[seg];

	s->selector = selector;
	s->base = (uint64_t)selector << 4;
	if (c->s.rflags & CPU_FLAG_VM) {
		s->limit = 0xffff;
		s->ar = CPU_AR_P | CPU_AR_S | CPU_AR_RW | CPU_AR_ACCESSED | CPU_AR_DPL;
	} else if (seg == CPU_CS) {
		s->ar = CPU_AR_P | CPU_AR_S | CPU_AR_RW | CPU_AR_ACCESSED;
	}
}

void soft_stack_desc(struct soft_cpu *c, uint16_t selector, unsigned cpl, unsigned vector,
		     struct soft_desc *ret)
{
	uint32_t error = selector & 0xfffc;
	uint32_t e = c->s.events.injected != CPU_EVENT_NONE &&
		     c->s.events.injected != CPU_EVENT_SOFT_INTERRUPT;

	if (error == 0) {
		soft_fault(c, vector, e);
	}
	if (soft_desc_read(c, selector, ret) < 0 || (selector & SOFT_SEL_RPL) != cpl ||
	    (ret->ar & (CPU_AR_S | CPU_AR_CODE | CPU_AR_RW)) != (CPU_AR_S | CPU_AR_RW) ||
	    soft_dpl(ret->ar) != cpl) {
		soft_fault(c, vector, error | e);
	}
	if (!(ret->ar & CPU_AR_P)) {
		soft_fault(c, CPU_SS_FAULT, error | e);
	}
}

static void load_null(struct soft_cpu *c, unsigned seg, uint16_t selector)
{
	struct cpu_seg *s = &c->s.seg[seg];

	if (seg == CPU_SS) {
		if (c->mode != INSN_MODE_64 || c->cpl == 3 || (selector & 3) != c->cpl) {
			soft_fault(c, CPU_GP, 0);
		}
		*s = (struct cpu_seg){ .selector = selector,
				       .ar = CPU_AR_UNUSABLE |
					     (uint32_t)c->cpl << CPU_AR_DPL_SHIFT };
		return;
	}
	*s = (struct cpu_seg){ .selector = selector, .ar = CPU_AR_UNUSABLE };
}

void soft_seg_load(struct soft_cpu *c, unsigned seg, uint16_t selector)
{
	struct soft_desc d = { 0 };
	uint32_t error = selector & 0xfffc;

	if (!soft_protected(c)) {
		soft_seg_load_real(c, seg, selector);
		return;
	}
	if (error == 0) {
		load_null(c, seg, selector);
		return;
	}
	if (seg == CPU_SS) {
		soft_stack_desc(c, selector, c->cpl, CPU_GP, &d);
	} else {
		unsigned dpl = 0, rpl = selector & SOFT_SEL_RPL;

		if (soft_desc_read(c, selector, &d) < 0 || !(d.ar & CPU_AR_S) ||
		    (d.ar & (CPU_AR_CODE | CPU_AR_RW)) == CPU_AR_CODE) {
			soft_fault(c, CPU_GP, error);
		}
		dpl = soft_dpl(d.ar);
		if ((d.ar & (CPU_AR_CODE | CPU_AR_DC)) != (CPU_AR_CODE | CPU_AR_DC) &&
		    (rpl > dpl || c->cpl > dpl)) {
			soft_fault(c, CPU_GP, error);
		}
		if (!(d.ar & CPU_AR_P)) {
			soft_fault(c, CPU_NP, error);
		}
	}
	soft_desc_accessed(c, &d);
	soft_seg_set(&c->s.seg[seg], selector, &d);
}

void soft_seg_drop_inner(struct soft_cpu *c)
{
	static const uint8_t segs[] = { CPU_ES, CPU_DS, CPU_FS, CPU_GS };

	for (size_t i = 0; i < ARRAY_LEN(segs); i++) {
		struct cpu_seg *s = &c->s.seg[segs[i]];
		bool conforming = (s->ar & (CPU_AR_CODE | CPU_AR_DC)) == (CPU_AR_CODE | CPU_AR_DC);

		if (s->ar & CPU_AR_UNUSABLE) {
			/* A null selector: only its RPL can be seen; AMD and Intel clear it. */
			s->selector = 0;
		} else if (!conforming && soft_dpl(s->ar) < c->cpl) {
			uint64_t base = s->base;

			*s = (struct cpu_seg){ .ar = CPU_AR_UNUSABLE, .base = base };
		}
	}
}

void soft_tss_stack(struct soft_cpu *c, unsigned level, uint16_t *ret_ss, uint64_t *ret_sp)
{
	bool wide = (c->s.tr.ar & CPU_AR_TYPE) >= 9;
	uint32_t at = wide ? 4 + 8 * level : 2 + 4 * level;
	uint32_t e = c->s.events.injected != CPU_EVENT_NONE &&
		     c->s.events.injected != CPU_EVENT_SOFT_INTERRUPT;

	if (at + (wide ? 5 : 3) > c->s.tr.limit) {
		soft_fault(c, CPU_TS, (c->s.tr.selector & 0xfffc) | e);
	}
	*ret_sp = soft_load_system(c, c->s.tr.base + at, wide ? 4 : 2);
	*ret_ss = (uint16_t)soft_load_system(c, c->s.tr.base + at + (wide ? 4 : 2), 2);
}
