/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Division of 32 and 64 bits. The host divides where it is plain that the quotient fits: unsigned,
 * if the upper half of the dividend is less than the divisor; signed, if it is the sign of the
 * lower half and the divisor neither 0 nor -1. All else is the interpreter's, #DE too.
 */
#include "vm/cpu/soft/xl-parts.h"

enum { COND_AE = 3, COND_NE = 5, COND_BE = 6, DIV = 6, IDIV = 7 };

static void divisor_to_r11(struct xl_tr *t, const struct insn *i, unsigned how)
{
	struct xl_rm from = { 0 };

	if (i->rm == INSN_NONE) {
		from = xl_operand(t, i->op_bytes, false, false);
		xl_access(t);
	} else {
		unsigned host = xl_host(i->rm);

		from = host == XR_NONE ? xl_gpr_slot(i->rm) : xl_reg(host);
	}
	xe_op(&t->e, how, 0, 0x8b, XR_11, from);
}

static void unsigned_fits(struct xl_tr *t, unsigned how)
{
	xe_alu(&t->e, how, 7, XR_DX, xl_reg(XR_11));
	xl_slow(t, COND_AE);
}

static void signed_fits(struct xl_tr *t, unsigned how)
{
	struct xl_code *e = &t->e;

	xe_op(e, how, 0, 0x8b, XR_CX, xl_reg(XR_AX));
	xe_op(e, how, 0, 0xc1, 7, xl_reg(XR_CX));          /* sar */
	xe_8(e, how & XE_W ? 63 : 31);
	xe_alu(e, how, 7, XR_CX, xl_reg(XR_DX));
	xl_slow(t, COND_NE);
	xe_op(e, how, 0, 0x8d, XR_CX, xl_mem(XR_11, 1));
	xe_alu_imm(e, how, 7, xl_reg(XR_CX), 1);
	xl_slow(t, COND_BE);
}

bool xl_div(struct xl_tr *t)
{
	const struct insn *i = &t->insns[t->k].i;
	unsigned op = i->modrm >> 3 & 7, how = i->op_bytes == 8 ? XE_W : 0;
	const struct xl_recipe none = { .kind = XRC_NONE };

	if (i->map != INSN_MAP_1 || i->opcode != 0xf7 || op < DIV || i->op_bytes < 4 ||
	    i->prefix & (INSN_VEX | INSN_LOCK)) {
		return false;
	}
	xl_wrote(t, (unsigned)(BIT(CPU_RAX) | BIT(CPU_RDX)));
	divisor_to_r11(t, i, how);
	xf_clobber(t);
	(op == DIV ? unsigned_fits : signed_fits)(t, how);
	xf_written(t, (unsigned)(BIT(CPU_RAX) | BIT(CPU_RDX)));
	xf_need_host(t);           /* some hosts leave them as they are */
	xe_op(&t->e, how, 0, 0xf7, op, xl_reg(XR_11));
	xf_set(t, &none);
	return true;
}
