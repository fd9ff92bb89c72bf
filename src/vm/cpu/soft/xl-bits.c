/* SPDX-License-Identifier: Apache-2.0 */
/*
 * BT, BTS, BTR and BTC of memory with a register: a bit string. The element that holds the bit is
 * addressed here, and the host gets what is left of the bit's number.
 */
#include "vm/cpu/soft/xl-parts.h"

static bool known(const struct insn *i)
{
	return i->map == INSN_MAP_0F && (i->opcode & 0xe7) == 0xa3 && i->rm == INSN_NONE &&
	       i->ad_bytes == 8 && i->op_bytes >= 4 && !(i->prefix & INSN_VEX);
}

/* R11 += the element's distance; c->xl_tmp: the bit in it. */
static void element(struct xl_tr *t, const struct insn *i)
{
	unsigned host = xl_host(i->reg);
	struct xl_rm from = host == XR_NONE ? xl_gpr_slot(i->reg) : xl_reg(host);
	struct xl_rm cx = xl_reg(XR_CX);
	bool wide = i->op_bytes == 8;
	struct xl_code *e = &t->e;

	xe_load32(e, XR_CX, from);
	xe_alu_imm(e, 0, 4, cx, wide ? 63 : 31);
	xe_store(e, XR_CX, XG(xl_tmp));
	xe_op(e, XE_W, 0, wide ? 0x8b : 0x63, XR_CX, from);   /* mov, movsxd */
	xe_op(e, XE_W, 0, 0xc1, 7, cx);                       /* sar */
	xe_8(e, wide ? 6 : 5);
	xe_lea(e, XR_11, xl_mem_index(XR_11, XR_CX, wide ? 3 : 2, 0));
}

bool xl_bits(struct xl_tr *t)
{
	const struct insn *i = &t->insns[t->k].i;
	unsigned how = i->op_bytes == 8 ? XE_W : 0;
	const struct xl_recipe none = { .kind = XRC_NONE };
	bool test = i->opcode == 0xa3;

	if (!known(i)) {
		return false;
	}
	xl_address(t);
	xf_clobber(t);
	element(t, i);
	xl_check_to_r11(t, i->op_bytes, !test);
	xf_need_host(t);           /* all but CF stay */
	if (test) {
		xe_op(&t->e, how, 0, 0x8b, XR_11, xl_mem(XR_11, 0));
		xe_load(&t->e, XR_CX, XG(xl_tmp));
		xe_op(&t->e, how, 1, 0xa3, XR_CX, xl_reg(XR_11));
	} else {
		xe_load(&t->e, XR_CX, XG(xl_tmp));
		how |= i->prefix & INSN_LOCK ? (unsigned)XE_LOCK : 0;
		xe_op(&t->e, how, 1, i->opcode, XR_CX, xl_mem(XR_11, 0));
	}
	xf_set(t, &none);
	return true;
}
