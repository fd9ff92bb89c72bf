/* SPDX-License-Identifier: Apache-2.0 */
/*
 * System calls, and the bases of FS and GS.
 *
 * Spec: SDM 3, 5.8.7 and 5.8.8 (Performing Fast Calls to System Procedures).
 */
#include "vm/cpu/soft/handlers.h"
#include "vm/cpu/soft/priv.h"

static void need_cpl0(struct soft_cpu *c)
{
	if (c->cpl != 0) {
		soft_fault(c, CPU_GP, 0);
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
	c->no_step = !(c->s.rflags & CPU_FLAG_TF);
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
		soft_if_on(c);
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
	soft_reg_set(c, i->rm, i->prefix & INSN_W ? 8 : 4, c->s.seg[CPU_FS].base);
}

void op_rdgsbase(struct soft_cpu *c, const struct insn *i)
{
	need_fsgsbase(c);
	soft_reg_set(c, i->rm, i->prefix & INSN_W ? 8 : 4, c->s.seg[CPU_GS].base);
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
