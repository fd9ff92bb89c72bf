/* SPDX-License-Identifier: Apache-2.0 */
/*
 * x87 instructions. Their registers are the host's own between instructions in any case
 * (native.h); c->xl_x87_off says whether they are there now, switched on, and all exceptions
 * masked, so that nothing can be pending. Whoever calls C sets it again.
 *
 * FWAIT has nothing to wait for then, and FLDCW may run if that stays so.
 *
 * The pointers to the last instruction and operand are kept in the state: that of the operand by
 * each instruction, the others once behind the last of a block, and on each way out before it.
 */
#include "vm/cpu/soft/handlers.h"
#include "vm/cpu/soft/xl-parts.h"

struct x87 {
	const struct insn_row *row;
	bool     mem, written, control, load_control, wait;
	unsigned bytes;
};

static bool named(const struct insn_row *row, const char *name)
{
	return strcmp(row->name, name) == 0;
}

static bool parse(const struct xl_tr *t, const struct insn *i, struct x87 *x)
{
	const struct insn_row *row = x->row;

	if (!(row->attr & INSN_A_X87) || row->cls != INSN_COPY || row->fn ||
	    i->prefix & INSN_LOCK || xl_decoded(t)->fn == insn_ud) {
		return false;
	}
	x->wait = i->map == INSN_MAP_1 && i->opcode == 0x9b;
	x->load_control = named(row, "fldcw");
	x->control = row->attr & INSN_A_X87CTL;
	if (x->control && !x->load_control && !named(row, "fnstcw") && !named(row, "fnstsw")) {
		return false;
	}
	x->mem = i->rm == INSN_NONE && i->modrm < 0xc0 && !x->wait;
	if (!x->mem) {
		return true;
	}
	x->bytes = insn_mem_bytes(i, (enum insn_mode)t->b->mode, (enum insn_operand)row->ops[0]);
	x->written = !(row->attr & INSN_A_NODST);
	return x->bytes != 0;
}

/* FLDCW, here only if it masks all exceptions. After another one the block is left: what it has
 * behind this would run with it. */
static void load_control(struct xl_tr *t, struct xl_rm at)
{
	struct xl_code *e = &t->e;

	xl_access(t);
	xe_op(e, 0, 1, 0xb7, XR_CX, at);                          /* movzx */
	xe_store(e, XR_CX, XG(xl_tmp));
	xe_op(e, 0, 0, 0xf7, 2, xl_reg(XR_CX));                   /* not */
	xe_pext(e, 0, XR_CX, XR_CX, XG(xl_x87_masks));
	xl_slow_unless_zero(t, XL_WHY_INSN);
	xe_op(e, 0, 0, 0xd9, 5, XG(xl_tmp));
	t->looked = t->n_slow;
}

bool xl_x87(struct xl_tr *t)
{
	const struct insn *i = &t->insns[t->k].i;
	struct x87 x = { .row = &insn_table[i->row] };
	struct xl_rm at = xl_reg(i->modrm & 7u);

	if (!parse(t, i, &x)) {
		return false;
	}
	xl_wrote(t, x.row->imp & INSN_IMP_RAX ? (unsigned)BIT(CPU_RAX) : 0);
	if (x.mem && !x.control) {
		xl_effective(t, XR_11);
		xe_store(&t->e, XR_11, XG(xl_tmp));
	}
	if (x.mem) {
		at = xl_operand(t, x.bytes, x.written, false);
	}
	xv_need_x87(t);
	if (x.wait) {
		return true;
	}
	if (x.load_control) {
		load_control(t, at);
		return true;
	}
	if (x.row->fr) {
		xf_need_host(t);
	}
	if (x.row->imp & INSN_IMP_RAX) {
		xf_written(t, (unsigned)BIT(CPU_RAX));
	}
	if (x.mem) {
		xl_access(t);
	}
	xe_op(&t->e, 0, 0, i->opcode, i->modrm >> 3 & 7, at);
	if (x.row->fw) {
		xf_set(t, &(struct xl_recipe){ .kind = XRC_NONE });
	}
	if (x.control) {
		return true;
	}
	t->x87_last = (int)t->k;
	if (x.mem) {
		xe_load(&t->e, XR_CX, XG(xl_tmp));
		xe_store(&t->e, XR_CX, XG(fpu_dp));
	}
	return true;
}

void xl_x87_record(struct xl_tr *t, int k)
{
	struct xl_code *e = &t->e;

	if (k < 0) {
		return;
	}
	const struct xl_insn *x = &t->insns[k];

	xl_rip_to(t, XR_CX, x->off);
	xe_store(e, XR_CX, XG(fpu_ip));
	xe_op(e, XE_66, 0, 0xc7, 0, XG(fpu_op));
	xe_n(e, (x->i.opcode & 7u) << 8 | x->i.modrm, 2);
}
