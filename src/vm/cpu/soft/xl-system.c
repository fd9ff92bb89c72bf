/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Instructions of kernels that are frequent and change little: the interrupt flag, AC, the bases
 * of FS and GS, reading of control registers and segments. Where the guest may not do what it
 * does, the interpreter does it.
 */
#include "vm/cpu/soft/handlers.h"
#include "vm/cpu/soft/xl-parts.h"

enum { BIT_IF = 9, BIT_DF = 10, BIT_AC = 18 };

/* To the interpreter unless the bytes from cpl on are 0: so many of them. No flag changes. */
static void need_zero(struct xl_tr *t, unsigned bytes)
{
	uint8_t *zero = NULL;

	_Static_assert(offsetof(struct soft_cpu, held) == offsetof(struct soft_cpu, cpl) + 1,
		       "both are looked at as one");
	xe_op(&t->e, 0, 1, bytes == 2 ? 0xb7 : 0xb6, XR_CX, XG(cpl));   /* movzx */
	zero = xe_jrcxz(&t->e);
	xl_slow_from(t, xe_jmp(&t->e), XL_WHY_TARGET);
	xe_here_8(&t->e, zero);
}

/* One of RFLAGS: turned to bit 31, shifted out for the new one, and turned back. */
static void flag_bit(struct xl_tr *t, unsigned bit, bool on)
{
	struct xl_code *e = &t->e;
	struct xl_rm twice = xl_mem_index(XR_CX, XR_CX, 0, on);

	xe_rorx(e, 0, XR_CX, XG(s.rflags), bit + 1);
	xe_op(e, 0, 0, 0x8d, XR_CX, twice);
	xe_rorx(e, 0, XR_CX, xl_reg(XR_CX), 32 - bit);
	xe_op(e, 0, 0, 0x89, XR_CX, XG(s.rflags));
}

/* RCX to a register of the guest; xf_written() was called. */
static void result(struct xl_tr *t, unsigned guest, bool wide)
{
	unsigned host = xl_host(guest);

	if (!wide) {
		xe_op(&t->e, 0, 0, 0x8b, XR_CX, xl_reg(XR_CX));
	}
	if (host == XR_NONE) {
		xe_store(&t->e, XR_CX, xl_gpr_slot(guest));
	} else {
		xe_mov(&t->e, host, XR_CX);
	}
}

static void go_on(struct xl_tr *t)
{
	xl_stack_settle(t, t->k, xl_next_off(t));
	xf_need_host(t);
	xl_go(t, xl_next_off(t));
}

/* --- Each --- */

static void sti(struct xl_tr *t)
{
	/* It is interpreted where something waits, and where it is not known what comes behind. */
	if (t->k == t->n - 1) {
		xl_call_interpreter(t, true);
		return;
	}
	need_zero(t, 2);
	flag_bit(t, BIT_IF, true);
}

/* As soft_stack_forget() does. */
static void forget_stack(struct xl_tr *t)
{
	const size_t from = offsetof(struct soft_cpu, xl_no_stack);
	const size_t to = offsetof(struct soft_cpu, xl_stack);

	for (size_t word = 0; word < sizeof(struct soft_stack); word += sizeof(uint64_t)) {
		xe_load(&t->e, XR_CX, xl_gs(from + word));
		xe_store(&t->e, XR_CX, xl_gs(to + word));
		xe_store(&t->e, XR_CX, xl_gs(to + sizeof(struct soft_stack) + word));
	}
}

static void set_ac(struct xl_tr *t, bool on)
{
	need_zero(t, 1);
	flag_bit(t, BIT_AC, on);
	xe_load(&t->e, XR_CX, xl_gs(offsetof(struct soft_cpu, xl_tlb) + (on ? sizeof(void *) : 0)));
	xe_store(&t->e, XR_CX, XG(tlb));
	if (!on) {
		forget_stack(t);   /* it may be a page of the user's */
	}
}

static void swapgs(struct xl_tr *t)
{
	struct xl_rm base = xl_gs(offsetof(struct soft_cpu, s.seg[CPU_GS].base));

	need_zero(t, 1);
	xe_load(&t->e, XR_CX, base);
	xe_load(&t->e, XR_11, XG(s.msr.kernel_gs_base));
	xe_store(&t->e, XR_CX, XG(s.msr.kernel_gs_base));
	xe_store(&t->e, XR_11, base);
}

static void read_control(struct xl_tr *t)
{
	static const size_t at[] = { offsetof(struct soft_cpu, s.cr0), 0,
				     offsetof(struct soft_cpu, s.cr2),
				     offsetof(struct soft_cpu, s.cr3),
				     offsetof(struct soft_cpu, s.cr4) };
	const struct insn *i = &t->insns[t->k].i;

	need_zero(t, 1);
	xf_written(t, (unsigned)BIT(i->rm));
	xe_load(&t->e, XR_CX, xl_gs(at[i->reg]));
	result(t, i->rm, true);
	go_on(t);
}

static bool read_segment(struct xl_tr *t)
{
	const struct insn *i = &t->insns[t->k].i;

	if (i->rm == INSN_NONE || i->op_bytes < 4) {
		return false;
	}
	xf_written(t, (unsigned)BIT(i->rm));
	xe_op(&t->e, 0, 1, 0xb7, XR_CX,
	      xl_gs(offsetof(struct soft_cpu, s.seg) + i->reg * sizeof(struct cpu_seg) +
		    offsetof(struct cpu_seg, selector)));
	result(t, i->rm, true);
	return true;
}

static struct xl_rm base_of(unsigned seg)
{
	return xl_gs(offsetof(struct soft_cpu, s.seg) + seg * sizeof(struct cpu_seg) +
		     offsetof(struct cpu_seg, base));
}

static void need_fsgsbase(struct xl_tr *t)
{
	xf_clobber(t);
	xe_op(&t->e, 0, 0, 0xf6, 0, xl_gs(offsetof(struct soft_cpu, s.cr4) + 2));   /* test */
	xe_8(&t->e, CPU_CR4_FSGSBASE >> 16);
	xl_slow(t, 4);
}

static void read_base(struct xl_tr *t, unsigned seg)
{
	const struct insn *i = &t->insns[t->k].i;

	need_fsgsbase(t);
	xf_written(t, (unsigned)BIT(i->rm));
	xe_load(&t->e, XR_CX, base_of(seg));
	result(t, i->rm, (i->prefix & INSN_W) != 0);
}

static void write_base(struct xl_tr *t, unsigned seg)
{
	const struct insn *i = &t->insns[t->k].i;
	unsigned host = xl_host(i->rm);
	struct xl_rm from = host == XR_NONE ? xl_gpr_slot(i->rm) : xl_reg(host);
	bool wide = (i->prefix & INSN_W) != 0;

	need_fsgsbase(t);
	xe_op(&t->e, wide ? XE_W : 0, 0, 0x8b, XR_CX, from);
	if (wide) {
		/* Canonical: bits 47 to 63 are the same. */
		xe_mov(&t->e, XR_11, XR_CX);
		xe_op(&t->e, XE_W, 0, 0xc1, 4, xl_reg(XR_11));
		xe_8(&t->e, 16);
		xe_op(&t->e, XE_W, 0, 0xc1, 7, xl_reg(XR_11));
		xe_8(&t->e, 16);
		xe_alu(&t->e, XE_W, 7, XR_11, xl_reg(XR_CX));
		xl_slow(t, 5);
	}
	xe_store(&t->e, XR_CX, base_of(seg));
}

static void pushf(struct xl_tr *t)
{
	const int32_t arithmetic = SOFT_ARITH | CPU_FLAG_OF;
	const size_t flags = offsetof(struct soft_cpu, flags);
	struct xl_code *e = &t->e;

	xe_lea(e, XR_11, xl_mem(XR_9, -8));
	xl_check_to_r11(t, 8, true);
	xf_save(t);
	xe_load32(e, XR_CX, XG(s.rflags));
	xe_alu_imm(e, 0, 4, xl_reg(XR_CX), ~arithmetic);
	xe_store(e, XR_CX, XG(xl_tmp));
	xe_op(e, 0, 1, 0xb6, XR_CX, xl_gs(flags));          /* OF */
	xe_op(e, 0, 0, 0xc1, 4, xl_reg(XR_CX));
	xe_8(e, 11);
	xe_op(e, 0, 0, 0x0a, XR_CX, xl_gs(flags + 1));      /* or cl: as LAHF has them */
	xe_alu(e, XE_W, 1, XR_CX, XG(xl_tmp));
	xe_store(e, XR_CX, xl_mem(XR_11, 0));
	xf_moved(t, CPU_RSP, -8);
	xe_lea(e, XR_9, xl_mem(XR_9, -8));
}

/* It ends its block for reasons of others. */
static void interpret_and_go_on(struct xl_tr *t)
{
	xl_call_interpreter(t, false);
	go_on(t);
}

/* What others have written to code is seen behind it: they ask the vCPU to forget what it knows. */
static void serialize(struct xl_tr *t)
{
	struct xl_code *e = &t->e;
	uint8_t *on = NULL;

	xf_need_host(t);
	xe_8(e, 0x0f);
	xe_8(e, 0xae);
	xe_8(e, 0xf0);                             /* mfence */
	xe_load32(e, XR_CX, XG(wants));
	on = xe_jrcxz(e);
	xl_leave_at(t, xl_next_off(t));
	xe_here_8(e, on);
	xl_go(t, xl_next_off(t));
}

/* --- Which --- */

static bool one_byte(struct xl_tr *t, const struct insn *i)
{
	switch (i->opcode) {
	case 0x8c: {
		return read_segment(t);
	}
	case 0x9c: {
		if (i->op_bytes != 8) {
			return false;
		}
		pushf(t);
		return true;
	}
	case 0xfa: {
		need_zero(t, 1);
		flag_bit(t, BIT_IF, false);
		return true;
	}
	case 0xfc: case 0xfd: {
		flag_bit(t, BIT_DF, i->opcode & 1);
		return true;
	}
	case 0xfb: {
		sti(t);
		return true;
	}
	default: {
		return false;
	}
	}
}

static bool fsgsbase(struct xl_tr *t, const struct insn *i)
{
	unsigned op = i->modrm >> 3 & 7;

	if (!(i->prefix & INSN_REP) || i->rm == INSN_NONE || op > 3 ||
	    !(t->c->features & BIT(INSN_F_FSGSBASE)) || i->prefix & INSN_66) {
		return false;
	}
	(op < 2 ? read_base : write_base)(t, op & 1 ? CPU_GS : CPU_FS);
	return true;
}

static bool two_bytes(struct xl_tr *t, const struct insn *i)
{
	switch (i->opcode) {
	case 0x01: {
		if (i->modrm == 0xf8) {
			swapgs(t);
		} else if (i->modrm == 0xca || i->modrm == 0xcb) {
			set_ac(t, i->modrm & 1);
		} else if (i->modrm == 0xe8) {
			serialize(t);
		} else if (i->modrm == 0xf9) {
			interpret_and_go_on(t);    /* rdtscp */
		} else {
			return false;
		}
		return true;
	}
	case 0x20: {
		if (i->reg > 4 || i->reg == 1) {
			return false;
		}
		read_control(t);
		return true;
	}
	case 0x31: case 0x32: case 0xa2: {
		interpret_and_go_on(t);
		return true;
	}
	case 0xae: {
		return fsgsbase(t, i);
	}
	default: {
		return false;
	}
	}
}

bool xl_system(struct xl_tr *t)
{
	const struct insn *i = &t->insns[t->k].i;

	if (i->prefix & (INSN_VEX | INSN_LOCK) || xl_decoded(t)->fn == insn_ud) {
		return false;
	}
	return i->map == INSN_MAP_1 ? one_byte(t, i) : i->map == INSN_MAP_0F && two_bytes(t, i);
}
