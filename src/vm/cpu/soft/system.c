/* SPDX-License-Identifier: Apache-2.0 */
/*
 * System instructions: descriptor tables, interrupt flag, TLB, counters, and what else only a
 * kernel uses. control.c has control and debug registers, syscall.c system calls.
 *
 * Spec: SDM 3, 2 (System Architecture Overview); SDM 2 for each instruction.
 */
#include "vm/cpu/soft/handlers.h"
#include "vm/cpu/soft/priv.h"

static void need_cpl0(struct soft_cpu *c)
{
	if (c->cpl != 0) {
		soft_fault(c, CPU_GP, 0);
	}
}

static void need_protected(struct soft_cpu *c)
{
	if (!soft_protected(c)) {
		soft_fault_no_error(c, CPU_UD);
	}
}

static void no_umip(struct soft_cpu *c)
{
	if (c->cpl > 0 && (c->s.cr4 & CPU_CR4_UMIP)) {
		soft_fault(c, CPU_GP, 0);
	}
}

/* --- Interrupt flag, AC, halt --- */

void op_cli(struct soft_cpu *c, const struct insn *i)
{
	(void)i;
	if ((c->s.cr0 & CPU_CR0_PE) && c->cpl > (c->s.rflags >> 12 & 3)) {
		soft_fault(c, CPU_GP, 0);
	}
	c->s.rflags &= ~(uint64_t)CPU_FLAG_IF;
}

void op_sti(struct soft_cpu *c, const struct insn *i)
{
	(void)i;
	if ((c->s.cr0 & CPU_CR0_PE) && c->cpl > (c->s.rflags >> 12 & 3)) {
		soft_fault(c, CPU_GP, 0);
	}
	if (!(c->s.rflags & CPU_FLAG_IF)) {
		c->s.rflags |= CPU_FLAG_IF;
		c->s.events.shadow_sti = true;
		c->slow |= SOFT_SLOW_SHADOW | SOFT_SLOW_EVENT;
	}
}

static void set_ac(struct soft_cpu *c, bool on)
{
	if (c->cpl != 0 || !(c->s.cr0 & CPU_CR0_PE)) {
		soft_fault_no_error(c, CPU_UD);
	}
	c->s.rflags = on ? c->s.rflags | CPU_FLAG_AC : c->s.rflags & ~(uint64_t)CPU_FLAG_AC;
	c->tlb = c->xl_tlb[on];
	soft_stack_forget(c);
}

void op_clac(struct soft_cpu *c, const struct insn *i)
{
	(void)i;
	set_ac(c, false);
}

void op_stac(struct soft_cpu *c, const struct insn *i)
{
	(void)i;
	set_ac(c, true);
}

void op_hlt(struct soft_cpu *c, const struct insn *i)
{
	(void)i;
	need_cpl0(c);
	c->s.mp_state = CPU_MP_HALTED;
	c->slow |= SOFT_SLOW_HALT | SOFT_SLOW_EVENT;
}

/* --- Descriptor tables --- */

static void store_table(struct soft_cpu *c, const struct insn *i, const struct cpu_table *t)
{
	unsigned n = c->mode == INSN_MODE_64 ? 10 : 6;
	uint8_t bytes[10] = { 0 };
	uint64_t linear = 0;

	no_umip(c);
	memcpy(bytes, &t->limit, 2);
	memcpy(bytes + 2, &t->base, 8);
	linear = soft_linear(c, i->seg, soft_ea(c, i), n, SOFT_WRITE);
	soft_store_bytes(c, linear, bytes, n);
}

void op_sgdt(struct soft_cpu *c, const struct insn *i)
{
	store_table(c, i, &c->s.gdt);
}

void op_sidt(struct soft_cpu *c, const struct insn *i)
{
	store_table(c, i, &c->s.idt);
}

static void load_table(struct soft_cpu *c, const struct insn *i, struct cpu_table *t)
{
	unsigned n = c->mode == INSN_MODE_64 ? 10 : 6;
	uint8_t bytes[10] = { 0 };
	uint64_t base = 0;

	need_cpl0(c);
	soft_load_bytes(c, soft_linear(c, i->seg, soft_ea(c, i), n, SOFT_READ), bytes, n);
	memcpy(&base, bytes + 2, 8);
	if (n == 10 && !soft_canonical(base)) {
		soft_fault(c, CPU_GP, 0);
	}
	if (n == 6) {
		base &= i->op_bytes == 2 ? 0xffffff : UINT32_MAX;
	}
	t->base = base;
	memcpy(&t->limit, bytes, 2);
}

void op_lgdt(struct soft_cpu *c, const struct insn *i)
{
	load_table(c, i, &c->s.gdt);
}

void op_lidt(struct soft_cpu *c, const struct insn *i)
{
	load_table(c, i, &c->s.idt);
}

static void store_selector(struct soft_cpu *c, const struct insn *i, uint16_t v)
{
	need_protected(c);
	no_umip(c);
	if (i->rm != INSN_NONE) {
		soft_reg_set(c, i->rm, i->op_bytes, v);
	} else {
		soft_rm_set(c, i, 2, v);
	}
}

void op_sldt(struct soft_cpu *c, const struct insn *i)
{
	store_selector(c, i, c->s.ldt.selector);
}

void op_str(struct soft_cpu *c, const struct insn *i)
{
	store_selector(c, i, c->s.tr.selector);
}

/* A system descriptor of the GDT, for LLDT and LTR. */
static void system_desc(struct soft_cpu *c, uint16_t sel, struct soft_desc *d, unsigned types)
{
	uint32_t error = sel & 0xfffc;

	if ((sel & SOFT_SEL_TI) || soft_desc_read(c, sel, d) < 0 || (d->ar & CPU_AR_S) ||
	    !(types >> (d->ar & CPU_AR_TYPE) & 1)) {
		soft_fault(c, CPU_GP, error);
	}
	if (!(d->ar & CPU_AR_P)) {
		soft_fault(c, CPU_NP, error);
	}
	if (soft_long(c)) {
		if ((sel | 15u) > c->s.gdt.limit) {
			soft_fault(c, CPU_GP, error);
		}
		soft_desc_read_high(c, d);
		if (!soft_canonical(d->base)) {
			soft_fault(c, CPU_GP, error);
		}
	}
}

void op_lldt(struct soft_cpu *c, const struct insn *i)
{
	struct soft_desc d = { 0 };
	uint16_t sel = 0;

	need_protected(c);
	need_cpl0(c);
	sel = (uint16_t)soft_rm_get(c, i, 2);
	if ((sel & 0xfffc) == 0) {
		c->s.ldt = (struct cpu_seg){ .selector = sel, .ar = CPU_AR_UNUSABLE };
		return;
	}
	system_desc(c, sel, &d, 1u << 2);
	soft_seg_set(&c->s.ldt, sel, &d);
}

void op_ltr(struct soft_cpu *c, const struct insn *i)
{
	struct soft_desc d = { 0 };
	uint16_t sel = 0;

	need_protected(c);
	need_cpl0(c);
	sel = (uint16_t)soft_rm_get(c, i, 2);
	if ((sel & 0xfffc) == 0) {
		soft_fault(c, CPU_GP, 0);
	}
	system_desc(c, sel, &d, soft_long(c) ? 1u << 9 : 1u << 1 | 1u << 9);
	d.ar |= 2;   /* busy */
	soft_store_system(c, d.linear + 5, 1, (d.raw >> 40 | 2) & 0xff);
	soft_seg_set(&c->s.tr, sel, &d);
}

/* --- LAR, LSL, VERR, VERW, ARPL --- */

static void set_zf(struct soft_cpu *c, bool on)
{
	c->flags = (uint16_t)(on ? c->flags | 0x4000 : c->flags & ~0x4000);
}

static bool visible(struct soft_cpu *c, uint16_t sel, struct soft_desc *d)
{
	if ((sel & 0xfffc) == 0 || soft_desc_read(c, sel, d) < 0) {
		return false;
	}
	bool conforming = (d->ar & (CPU_AR_S | CPU_AR_CODE | CPU_AR_DC)) ==
			  (CPU_AR_S | CPU_AR_CODE | CPU_AR_DC);
	unsigned dpl = soft_dpl(d->ar);

	return conforming || (c->cpl <= dpl && (sel & SOFT_SEL_RPL) <= dpl);
}

void op_lar(struct soft_cpu *c, const struct insn *i)
{
	/* 16-bit TSS, LDT, call gates, task gate, 32-bit TSS; in long mode fewer. */
	static const unsigned types = 0x1a3e, types_long = 0x1a04;
	struct soft_desc d = { 0 };
	uint16_t sel = 0;
	bool ok = false;

	need_protected(c);
	sel = (uint16_t)soft_rm_get(c, i, 2);
	ok = visible(c, sel, &d) &&
	     ((d.ar & CPU_AR_S) ||
	      ((soft_long(c) ? types_long : types) >> (d.ar & CPU_AR_TYPE) & 1));
	     set_zf(c, ok);
	if (ok) {
		soft_reg_set(c, i->reg, i->op_bytes, d.raw >> 32 & 0xffff00);
	}
}

void op_lsl(struct soft_cpu *c, const struct insn *i)
{
	static const unsigned types = 0x0a0e, types_long = 0x0a04;
	struct soft_desc d = { 0 };
	uint16_t sel = 0;
	bool ok = false;

	need_protected(c);
	sel = (uint16_t)soft_rm_get(c, i, 2);
	ok = visible(c, sel, &d) &&
	     ((d.ar & CPU_AR_S) ||
	      ((soft_long(c) ? types_long : types) >> (d.ar & CPU_AR_TYPE) & 1));
	     set_zf(c, ok);
	if (ok) {
		soft_reg_set(c, i->reg, i->op_bytes, d.limit);
	}
}

void op_verr(struct soft_cpu *c, const struct insn *i)
{
	struct soft_desc d = { 0 };

	need_protected(c);
	uint16_t sel = (uint16_t)soft_rm_get(c, i, 2);

	set_zf(c, visible(c, sel, &d) && (d.ar & CPU_AR_S) &&
		  (!(d.ar & CPU_AR_CODE) || (d.ar & CPU_AR_RW)));
}

void op_verw(struct soft_cpu *c, const struct insn *i)
{
	struct soft_desc d = { 0 };

	need_protected(c);
	uint16_t sel = (uint16_t)soft_rm_get(c, i, 2);

	set_zf(c, visible(c, sel, &d) && (d.ar & CPU_AR_S) && !(d.ar & CPU_AR_CODE) &&
		  (d.ar & CPU_AR_RW));
}

void op_arpl(struct soft_cpu *c, const struct insn *i)
{
	need_protected(c);
	uint16_t dst = (uint16_t)soft_rm_get(c, i, 2);
	uint16_t rpl = c->s.gpr[i->reg] & 3;

	if ((dst & 3) < rpl) {
		soft_rm_set(c, i, 2, (uint64_t)((dst & ~3u) | rpl));
		set_zf(c, true);
	} else {
		set_zf(c, false);
	}
}

/* --- TLB and caches --- */

void op_invlpg(struct soft_cpu *c, const struct insn *i)
{
	uint64_t va = soft_ea(c, i);

	need_cpl0(c);
	if (c->mode != INSN_MODE_64) {
		va = (va + c->s.seg[i->seg].base) & UINT32_MAX;
	} else {
		va += i->seg >= CPU_FS ? c->s.seg[i->seg].base : 0;
	}
	if (soft_canonical(va)) {
		soft_tlb_flush_address(c, va);
	}
}

void op_invpcid(struct soft_cpu *c, const struct insn *i)
{
	uint64_t type = soft_cut(c->s.gpr[i->reg], c->mode == INSN_MODE_64 ? 8 : 4);
	uint64_t d[2] = { 0 };

	if (!soft_protected(c) && (c->s.cr0 & CPU_CR0_PE)) {
		soft_fault(c, CPU_GP, 0);
	}
	need_cpl0(c);
	soft_load_bytes(c, soft_linear(c, i->seg, soft_ea(c, i), 16, SOFT_READ), d, 16);
	if (type > 3 || d[0] >> 12 || (!(c->s.cr4 & CPU_CR4_PCIDE) && type < 2 && d[0] != 0) ||
	    (type == 0 && !soft_canonical(d[1]))) {
		soft_fault(c, CPU_GP, 0);
	}
	switch (type) {
	case 0: {
		soft_tlb_flush_pcid_address(c, (uint16_t)d[0], d[1]);
		return;
	}
	case 1: {
		soft_tlb_flush_pcid(c, (uint16_t)d[0]);
		return;
	}
	case 2: {
		soft_tlb_flush_all(c);
		return;
	}
	default: {
		soft_tlb_flush_local(c);
		return;
	}
	}
}

void op_invd(struct soft_cpu *c, const struct insn *i)
{
	(void)i;
	need_cpl0(c);
}

void op_wbinvd(struct soft_cpu *c, const struct insn *i)
{
	(void)i;
	need_cpl0(c);
}

/* Between blocks everything is serialised: nothing is left to do. */
void op_serialize(struct soft_cpu *c, const struct insn *i)
{
	(void)c;
	(void)i;
	atomic_thread_fence(memory_order_seq_cst);
}

/* --- MSRs, counters, CPUID --- */

void op_rdmsr(struct soft_cpu *c, const struct insn *i)
{
	uint64_t v = 0;

	(void)i;
	need_cpl0(c);
	if (soft_msr_read(c, (uint32_t)c->s.gpr[CPU_RCX], &v) < 0) {
		soft_fault(c, CPU_GP, 0);
	}
	c->s.gpr[CPU_RAX] = (uint32_t)v;
	c->s.gpr[CPU_RDX] = v >> 32;
}

void op_wrmsr(struct soft_cpu *c, const struct insn *i)
{
	uint64_t v = (uint32_t)c->s.gpr[CPU_RAX] | c->s.gpr[CPU_RDX] << 32;

	(void)i;
	need_cpl0(c);
	if (soft_msr_write(c, (uint32_t)c->s.gpr[CPU_RCX], v) < 0) {
		soft_fault(c, CPU_GP, 0);
	}
}

static void tsc_allowed(struct soft_cpu *c)
{
	if ((c->s.cr4 & CPU_CR4_TSD) && c->cpl > 0) {
		soft_fault(c, CPU_GP, 0);
	}
}

void op_rdtsc(struct soft_cpu *c, const struct insn *i)
{
	uint64_t v = 0;

	(void)i;
	tsc_allowed(c);
	v = soft_tsc(c);
	c->s.gpr[CPU_RAX] = (uint32_t)v;
	c->s.gpr[CPU_RDX] = v >> 32;
}

void op_rdtscp(struct soft_cpu *c, const struct insn *i)
{
	op_rdtsc(c, i);
	c->s.gpr[CPU_RCX] = (uint32_t)c->s.msr.tsc_aux;
}

void op_rdpid(struct soft_cpu *c, const struct insn *i)
{
	soft_reg_set(c, i->rm, c->mode == INSN_MODE_64 ? 8 : 4, c->s.msr.tsc_aux);
}

void op_rdpmc(struct soft_cpu *c, const struct insn *i)
{
	(void)i;
	soft_fault(c, CPU_GP, 0);
}

void op_cpuid(struct soft_cpu *c, const struct insn *i)
{
	uint32_t r[4] = { 0 };

	(void)i;
	soft_cpuid(c, (uint32_t)c->s.gpr[CPU_RAX], (uint32_t)c->s.gpr[CPU_RCX], r);
	c->s.gpr[CPU_RAX] = r[0];
	c->s.gpr[CPU_RBX] = r[1];
	c->s.gpr[CPU_RCX] = r[2];
	c->s.gpr[CPU_RDX] = r[3];
}

void op_xgetbv(struct soft_cpu *c, const struct insn *i)
{
	uint32_t n = (uint32_t)c->s.gpr[CPU_RCX];

	(void)i;
	if (!(c->s.cr4 & CPU_CR4_OSXSAVE)) {
		soft_fault_no_error(c, CPU_UD);
	}
	if (n > 1) {
		soft_fault(c, CPU_GP, 0);
	}
	c->s.gpr[CPU_RAX] = (uint32_t)c->s.xcr0;
	c->s.gpr[CPU_RDX] = 0;
}

void op_xsetbv(struct soft_cpu *c, const struct insn *i)
{
	uint64_t v = (uint32_t)c->s.gpr[CPU_RAX] | c->s.gpr[CPU_RDX] << 32;

	(void)i;
	if (!(c->s.cr4 & CPU_CR4_OSXSAVE)) {
		soft_fault_no_error(c, CPU_UD);
	}
	need_cpl0(c);
	if ((uint32_t)c->s.gpr[CPU_RCX] != 0 || !(v & CPU_XCR0_X87) || (v & ~c->xcr0_supported) ||
	    ((v & CPU_XCR0_AVX) && !(v & CPU_XCR0_SSE))) {
		soft_fault(c, CPU_GP, 0);
	}
	c->s.xcr0 = v;
}
