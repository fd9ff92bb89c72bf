/* SPDX-License-Identifier: Apache-2.0 */
/*
 * System instructions: control and debug registers, descriptor tables, system calls, and what
 * else only a kernel uses.
 *
 * Spec: SDM 3, 2 (System Architecture Overview); SDM 2 for each instruction.
 */
#include <errno.h>

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

/* --- Control registers --- */

static bool paging_reload(struct soft_cpu *c, uint64_t cr3)
{
	bool pae = (c->s.cr0 & CPU_CR0_PG) && (c->s.cr4 & CPU_CR4_PAE) && !soft_long(c);

	return !pae || soft_load_pdptr(c, cr3) == 0;
}

void soft_set_cr0(struct soft_cpu *c, uint64_t v)
{
	const uint64_t known = CPU_CR0_PE | CPU_CR0_MP | CPU_CR0_EM | CPU_CR0_TS | CPU_CR0_ET |
			       CPU_CR0_NE | CPU_CR0_WP | CPU_CR0_AM | CPU_CR0_NW | CPU_CR0_CD |
			       CPU_CR0_PG;
	uint64_t old = c->s.cr0, old_efer = c->s.efer;

	if (v >> 32 || ((v & CPU_CR0_PG) && !(v & CPU_CR0_PE)) ||
	    ((v & CPU_CR0_NW) && !(v & CPU_CR0_CD))) {
		soft_fault(c, CPU_GP, 0);
	}
	v = (v & known) | CPU_CR0_ET;
	if ((v & CPU_CR0_PG) && !(old & CPU_CR0_PG) && (c->s.efer & CPU_EFER_LME)) {
		if (!(c->s.cr4 & CPU_CR4_PAE) || (c->s.seg[CPU_CS].ar & CPU_AR_L)) {
			soft_fault(c, CPU_GP, 0);
		}
		c->s.efer |= CPU_EFER_LMA;
	}
	if (!(v & CPU_CR0_PG) && (old & CPU_CR0_PG)) {
		if (c->mode == INSN_MODE_64 || (c->s.cr4 & CPU_CR4_PCIDE)) {
			soft_fault(c, CPU_GP, 0);
		}
		c->s.efer &= ~(uint64_t)CPU_EFER_LMA;
	}
	c->s.cr0 = v;
	if ((v & CPU_CR0_PG) && !(old & CPU_CR0_PG) && !paging_reload(c, c->s.cr3)) {
		c->s.cr0 = old;
		c->s.efer = old_efer;
		soft_fault(c, CPU_GP, 0);
	}
	if ((v ^ old) & (CPU_CR0_PG | CPU_CR0_WP | CPU_CR0_PE)) {
		soft_tlb_flush_all(c);
	}
	soft_mode_update(c);
}

static void set_cr3(struct soft_cpu *c, uint64_t v)
{
	bool keep = false;

	if (c->s.cr4 & CPU_CR4_PCIDE) {
		keep = v >> 63;
		v &= ~BIT(63);
	}
	if (soft_long(c) ? (v & c->phys_reserved) != 0 || v >> 52 : false) {
		soft_fault(c, CPU_GP, 0);
	}
	if (!soft_long(c)) {
		v &= UINT32_MAX;
	}
	if (!paging_reload(c, v)) {
		soft_fault(c, CPU_GP, 0);
	}
	c->s.cr3 = v;
	soft_tlb_switch(c, keep);
}

static void set_cr4(struct soft_cpu *c, uint64_t v)
{
	const uint64_t known = CPU_CR4_VME | CPU_CR4_PVI | CPU_CR4_TSD | CPU_CR4_DE | CPU_CR4_PSE |
			       CPU_CR4_PAE | CPU_CR4_MCE | CPU_CR4_PGE | CPU_CR4_PCE |
			       CPU_CR4_OSFXSR | CPU_CR4_OSXMMEXCPT | CPU_CR4_UMIP |
			       CPU_CR4_FSGSBASE | CPU_CR4_PCIDE | CPU_CR4_OSXSAVE | CPU_CR4_SMEP |
			       CPU_CR4_SMAP;
	const uint64_t translation = CPU_CR4_PSE | CPU_CR4_PAE | CPU_CR4_PGE | CPU_CR4_PCIDE |
				     CPU_CR4_SMEP | CPU_CR4_SMAP;
	uint64_t old = c->s.cr4;

	if ((v & ~known) || (soft_long(c) && !(v & CPU_CR4_PAE))) {
		soft_fault(c, CPU_GP, 0);
	}
	if ((v & CPU_CR4_PCIDE) && !(old & CPU_CR4_PCIDE) &&
	    (!soft_long(c) || (c->s.cr3 & 0xfff))) {
		soft_fault(c, CPU_GP, 0);
	}
	c->s.cr4 = v;
	if (((v ^ old) & (CPU_CR4_PAE | CPU_CR4_PSE | CPU_CR4_PGE | CPU_CR4_SMEP)) &&
	    !paging_reload(c, c->s.cr3)) {
		c->s.cr4 = old;
		soft_fault(c, CPU_GP, 0);
	}
	if ((v ^ old) & translation) {
		soft_tlb_flush_all(c);
	}
	soft_mode_update(c);
}

void op_mov_r_cr(struct soft_cpu *c, const struct insn *i)
{
	uint64_t v = 0;

	need_cpl0(c);
	switch (i->reg) {
	case 0: {
		v = c->s.cr0;
		break;
	}
	case 2: {
		v = c->s.cr2;
		break;
	}
	case 3: {
		v = c->s.cr3;
		break;
	}
	case 4: {
		v = c->s.cr4;
		break;
	}
	case 8: {
		v = lapic_cr8(c->apic);
		break;
	}
	default: {
		soft_fault_no_error(c, CPU_UD);
	}
	}
	soft_reg_set(c, i->rm, i->op_bytes, v);
}

void op_mov_cr_r(struct soft_cpu *c, const struct insn *i)
{
	uint64_t v = soft_cut(c->s.gpr[i->rm], i->op_bytes);

	need_cpl0(c);
	switch (i->reg) {
	case 0: {
		soft_set_cr0(c, v);
		break;
	}
	case 2: {
		c->s.cr2 = v;
		break;
	}
	case 3: {
		set_cr3(c, v);
		break;
	}
	case 4: {
		set_cr4(c, v);
		break;
	}
	case 8: {
		if (v >> 4) {
			soft_fault(c, CPU_GP, 0);
		}
		lapic_set_cr8(c->apic, v);
		c->slow |= SOFT_SLOW_EVENT;
		break;
	}
	default: {
		soft_fault_no_error(c, CPU_UD);
	}
	}
}

void op_clts(struct soft_cpu *c, const struct insn *i)
{
	(void)i;
	need_cpl0(c);
	c->s.cr0 &= ~(uint64_t)CPU_CR0_TS;
}

void op_smsw(struct soft_cpu *c, const struct insn *i)
{
	no_umip(c);
	if (i->rm != INSN_NONE) {
		soft_reg_set(c, i->rm, i->op_bytes, c->s.cr0);
	} else {
		soft_rm_set(c, i, 2, c->s.cr0);
	}
}

/* PE can be set, not cleared. */
void op_lmsw(struct soft_cpu *c, const struct insn *i)
{
	uint64_t v = 0;

	need_cpl0(c);
	v = soft_rm_get(c, i, 2) & 15;
	soft_set_cr0(c, (c->s.cr0 & ~UINT64_C(14)) | v);
}

/* --- Debug registers --- */

/* DR4 and DR5 are DR6 and DR7, unless CR4.DE. */
static unsigned dr_number(struct soft_cpu *c, unsigned reg)
{
	if (reg > 7 || ((reg == 4 || reg == 5) && (c->s.cr4 & CPU_CR4_DE))) {
		soft_fault_no_error(c, CPU_UD);
	}
	need_cpl0(c);
	if (c->s.dr7 & BIT(13)) {
		soft_fault_debug(c, BIT(13));
	}
	return reg == 4 || reg == 5 ? reg + 2 : reg;
}

void op_mov_r_dr(struct soft_cpu *c, const struct insn *i)
{
	unsigned n = dr_number(c, i->reg);
	uint64_t v = n < 4 ? c->s.dr[n] : n == 6 ? c->s.dr6 : c->s.dr7;

	soft_reg_set(c, i->rm, i->op_bytes, v);
}

void op_mov_dr_r(struct soft_cpu *c, const struct insn *i)
{
	unsigned n = dr_number(c, i->reg);
	uint64_t v = soft_cut(c->s.gpr[i->rm], i->op_bytes);

	if (n < 4) {
		c->s.dr[n] = v;
	} else if (v >> 32) {
		soft_fault(c, CPU_GP, 0);
	} else if (n == 6) {
		c->s.dr6 = (v & 0xe00f) | UINT64_C(0xffff0ff0);
	} else {
		c->s.dr7 = (v & UINT64_C(0xffff2fff)) | 0x400;
	}
	soft_mode_update(c);
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
	if (!c->check_access) {
		c->tlb = on || !(c->s.cr4 & CPU_CR4_SMAP) ? c->window->ac : c->tlb_kernel;
	}
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
	     ((d.ar & CPU_AR_S) || ((soft_long(c) ? types_long : types) >> (d.ar & CPU_AR_TYPE) & 1));
	set_zf(c, ok);
	if (ok) {
		soft_reg_set(c, i->reg, i->op_bytes, d.raw >> 32 & 0xf0ff00);
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
	     ((d.ar & CPU_AR_S) || ((soft_long(c) ? types_long : types) >> (d.ar & CPU_AR_TYPE) & 1));
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

/* --- System calls --- */

static struct cpu_seg flat_code(uint16_t sel, unsigned dpl, bool is_64)
{
	return (struct cpu_seg){
		.selector = sel, .limit = UINT32_MAX,
		.ar = CPU_AR_P | CPU_AR_S | CPU_AR_CODE | CPU_AR_RW | CPU_AR_ACCESSED | CPU_AR_G |
		      dpl << CPU_AR_DPL_SHIFT | (is_64 ? CPU_AR_L : CPU_AR_DB),
	};
}

static struct cpu_seg flat_data(uint16_t sel, unsigned dpl)
{
	return (struct cpu_seg){
		.selector = sel, .limit = UINT32_MAX,
		.ar = CPU_AR_P | CPU_AR_S | CPU_AR_RW | CPU_AR_ACCESSED | CPU_AR_G | CPU_AR_DB |
		      dpl << CPU_AR_DPL_SHIFT,
	};
}

void op_syscall(struct soft_cpu *c, const struct insn *i)
{
	uint64_t flags = soft_flags_get(c);
	uint16_t cs = (uint16_t)(c->s.msr.star >> 32);

	(void)i;
	/* As Intel has it: in 64-bit mode only. */
	if (c->mode != INSN_MODE_64 || !(c->s.efer & CPU_EFER_SCE)) {
		soft_fault_no_error(c, CPU_UD);
	}
	c->s.gpr[CPU_RCX] = c->next_rip;
	c->s.gpr[CPU_R11] = flags & ~(uint64_t)CPU_FLAG_RF;
	c->next_rip = c->s.msr.lstar;
	soft_flags_set(c, flags & ~(c->s.msr.sfmask | CPU_FLAG_RF));
	c->s.seg[CPU_CS] = flat_code(cs & 0xfffc, 0, true);
	c->s.seg[CPU_SS] = flat_data((uint16_t)((cs & 0xfffc) + 8), 0);
	soft_mode_update(c);
}

void op_sysret(struct soft_cpu *c, const struct insn *i)
{
	uint16_t base = (uint16_t)(c->s.msr.star >> 48);
	uint64_t flags = (c->s.gpr[CPU_R11] & UINT64_C(0x3c7fd7)) | CPU_FLAG_1;
	bool to_64 = i->op_bytes == 8;

	if (c->mode != INSN_MODE_64 || !(c->s.efer & CPU_EFER_SCE)) {
		soft_fault_no_error(c, CPU_UD);
	}
	if (c->cpl != 0 || (to_64 && !soft_canonical(c->s.gpr[CPU_RCX]))) {
		soft_fault(c, CPU_GP, 0);
	}
	c->next_rip = to_64 ? c->s.gpr[CPU_RCX] : (uint32_t)c->s.gpr[CPU_RCX];
	c->s.seg[CPU_CS] = flat_code((uint16_t)((base + (to_64 ? 16 : 0)) | 3), 3, to_64);
	c->s.seg[CPU_SS] = flat_data((uint16_t)((base + 8) | 3), 3);
	soft_flags_set(c, flags);
	if (flags & CPU_FLAG_IF) {
		c->slow |= SOFT_SLOW_EVENT;
	}
	soft_mode_update(c);
}

void op_sysenter(struct soft_cpu *c, const struct insn *i)
{
	uint16_t cs = (uint16_t)c->s.msr.sysenter_cs & 0xfffc;
	bool lm = soft_long(c);

	(void)i;
	if (!(c->s.cr0 & CPU_CR0_PE) || cs == 0) {
		soft_fault(c, CPU_GP, 0);
	}
	soft_flags_set(c, soft_flags_get(c) & ~(uint64_t)(CPU_FLAG_IF | CPU_FLAG_VM | CPU_FLAG_RF));
	c->s.seg[CPU_CS] = flat_code(cs, 0, lm);
	c->s.seg[CPU_SS] = flat_data((uint16_t)(cs + 8), 0);
	c->s.gpr[CPU_RSP] = lm ? c->s.msr.sysenter_esp : (uint32_t)c->s.msr.sysenter_esp;
	c->next_rip = lm ? c->s.msr.sysenter_eip : (uint32_t)c->s.msr.sysenter_eip;
	soft_mode_update(c);
}

void op_sysexit(struct soft_cpu *c, const struct insn *i)
{
	uint16_t cs = (uint16_t)c->s.msr.sysenter_cs & 0xfffc;
	bool to_64 = i->op_bytes == 8;
	uint64_t rip = c->s.gpr[CPU_RDX], rsp = c->s.gpr[CPU_RCX];

	if (!(c->s.cr0 & CPU_CR0_PE) || cs == 0 || c->cpl != 0 ||
	    (to_64 && (!soft_canonical(rip) || !soft_canonical(rsp)))) {
		soft_fault(c, CPU_GP, 0);
	}
	c->s.seg[CPU_CS] = flat_code((uint16_t)((cs + (to_64 ? 32 : 16)) | 3), 3, to_64);
	c->s.seg[CPU_SS] = flat_data((uint16_t)((cs + (to_64 ? 40 : 24)) | 3), 3);
	c->s.gpr[CPU_RSP] = to_64 ? rsp : (uint32_t)rsp;
	c->next_rip = to_64 ? rip : (uint32_t)rip;
	soft_mode_update(c);
}

void op_swapgs(struct soft_cpu *c, const struct insn *i)
{
	uint64_t v = c->s.seg[CPU_GS].base;

	(void)i;
	if (c->mode != INSN_MODE_64) {
		soft_fault_no_error(c, CPU_UD);
	}
	need_cpl0(c);
	c->s.seg[CPU_GS].base = c->s.msr.kernel_gs_base;
	c->s.msr.kernel_gs_base = v;
}

static void need_fsgsbase(struct soft_cpu *c)
{
	if (c->mode != INSN_MODE_64 || !(c->s.cr4 & CPU_CR4_FSGSBASE)) {
		soft_fault_no_error(c, CPU_UD);
	}
}

void op_rdfsbase(struct soft_cpu *c, const struct insn *i)
{
	need_fsgsbase(c);
	soft_reg_set(c, i->rm, i->op_bytes, c->s.seg[CPU_FS].base);
}

void op_rdgsbase(struct soft_cpu *c, const struct insn *i)
{
	need_fsgsbase(c);
	soft_reg_set(c, i->rm, i->op_bytes, c->s.seg[CPU_GS].base);
}

static void set_base(struct soft_cpu *c, const struct insn *i, unsigned seg)
{
	uint64_t v = soft_cut(c->s.gpr[i->rm], i->op_bytes);

	need_fsgsbase(c);
	if (!soft_canonical(v)) {
		soft_fault(c, CPU_GP, 0);
	}
	c->s.seg[seg].base = v;
}

void op_wrfsbase(struct soft_cpu *c, const struct insn *i)
{
	set_base(c, i, CPU_FS);
}

void op_wrgsbase(struct soft_cpu *c, const struct insn *i)
{
	set_base(c, i, CPU_GS);
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

/* --- CMPXCHG8B, CMPXCHG16B --- */

static void cmpxchg_result(struct soft_cpu *c, unsigned half, bool same, const uint64_t old[2])
{
	if (!same) {
		soft_reg_set(c, CPU_RAX, half, old[0]);
		soft_reg_set(c, CPU_RDX, half, old[1]);
	}
	set_zf(c, same);
}

static void cmpxchg_apart(struct soft_cpu *c, uint64_t linear, unsigned half,
			  const uint64_t expect[2], const uint64_t want[2])
{
	uint64_t old[2] = { 0 };
	uint8_t bytes[16] = { 0 };

	soft_exclusive_begin(c);
	soft_load_bytes(c, linear, bytes, 2 * half);
	memcpy(&old[0], bytes, half);
	memcpy(&old[1], bytes + half, half);
	bool same = old[0] == expect[0] && old[1] == expect[1];

	/* It is written in any case. */
	memcpy(bytes, same ? &want[0] : &old[0], half);
	memcpy(bytes + half, same ? &want[1] : &old[1], half);
	soft_store_bytes(c, linear, bytes, 2 * half);
	soft_exclusive_end(c);
	cmpxchg_result(c, half, same, old);
}

void op_cmpxchg8b(struct soft_cpu *c, const struct insn *i)
{
	uint64_t linear = soft_linear(c, i->seg, soft_ea(c, i), 8, SOFT_WRITE);
	uint64_t expect = (uint32_t)c->s.gpr[CPU_RAX] | c->s.gpr[CPU_RDX] << 32;
	uint64_t want = (uint32_t)c->s.gpr[CPU_RBX] | c->s.gpr[CPU_RCX] << 32;
	uint64_t *host = soft_atomic(c, linear, 8);
	uint64_t e[2] = { (uint32_t)expect, expect >> 32 }, w[2] = { (uint32_t)want, want >> 32 };

	if (!host) {
		cmpxchg_apart(c, linear, 4, e, w);
		return;
	}
	bool same = false;

	__asm__ volatile("lock cmpxchgq %[want], %[mem]"
			 : [mem] "+m"(*host), "+a"(expect), "=@ccz"(same)
			 : [want] "r"(want)
			 : "memory");
	uint64_t old[2] = { (uint32_t)expect, expect >> 32 };

	cmpxchg_result(c, 4, same, old);
}

void op_cmpxchg16b(struct soft_cpu *c, const struct insn *i)
{
	uint64_t linear = soft_linear(c, i->seg, soft_ea(c, i), 16, SOFT_WRITE);
	uint64_t e[2] = { c->s.gpr[CPU_RAX], c->s.gpr[CPU_RDX] };
	uint64_t w[2] = { c->s.gpr[CPU_RBX], c->s.gpr[CPU_RCX] };

	if (linear & 15) {
		soft_fault(c, CPU_GP, 0);
	}
	uint8_t *host = soft_atomic(c, linear, 16);

	if (!host) {
		cmpxchg_apart(c, linear, 8, e, w);
		return;
	}
	uint64_t old[2] = { e[0], e[1] };
	bool same = false;

	__asm__ volatile("lock cmpxchg16b %[mem]"
			 : [mem] "+m"(*(uint8_t(*)[16])host), "+a"(old[0]), "+d"(old[1]),
			   "=@ccz"(same)
			 : "b"(w[0]), "c"(w[1])
			 : "memory");
	cmpxchg_result(c, 8, same, old);
}
