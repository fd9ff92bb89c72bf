/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Control and debug registers.
 *
 * Spec: SDM 3, 2.5 (Control Registers), 18.2 (Debug Registers).
 */
#include "vm/cpu/soft/handlers.h"
#include "vm/cpu/soft/priv.h"

static void need_cpl0(struct soft_cpu *c)
{
	if (c->cpl != 0) {
		soft_fault(c, CPU_GP, 0);
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
