/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The stack of direct code. Blocks of that kind rely on RSP: where one begins it is in the high
 * range (xl-shadow.h), or at most XL_STACK_DRIFT from it. So accesses from it look at nothing. Who
 * writes RSP has a look where the block is left, unless an access has shown by then where it is; C
 * looks where code is entered. What pushes, pops and additions move RSP by is kept in mind, and its
 * register of the host changed once, before anything but them needs it, or the block is left; ways
 * to the interpreter change it and back. A program whose stack is elsewhere has its code made of
 * the loose kind instead, until its memory is mapped anew.
 */
#include "vm/cpu/soft/xl-parts.h"
#include "vm/cpu/soft/xl-shadow.h"

/* --- The vCPU's side --- */

bool xl_stack_fits(const struct soft_cpu *c)
{
	return xl_kind(c) != XK_DIRECT || c->s.gpr[CPU_RSP] >> SHADOW_HIGH_BIT == 1;
}

void xl_stack_look(struct soft_cpu *c)
{
	if (__builtin_expect(!xl_stack_fits(c), 0)) {
		c->xl_loose = true;
		xl_forget(c, true);
	}
}

/* --- Code --- */

void xl_stack_begin(struct xl_tr *t)
{
	t->stack_seen = false;
	t->stack_off = 0;
	if (t->to->kind == XK_DIRECT) {
		t->known[CPU_RSP] = (struct xl_known){ .place = XP_HIGH };
	}
}

void xl_stack_seen(struct xl_tr *t)
{
	t->stack_seen = true;
}

void xl_stack_after(struct xl_tr *t)
{
	bool moved = t->moved && t->move_to == CPU_RSP && t->move_from == CPU_RSP;

	/* What another register is known by may be what RSP was at the begin. */
	if (t->wrote & BIT(CPU_RSP) && !moved) {
		t->stack_seen = false;
	}
}

static bool is_drift(int64_t by)
{
	return by >= -XL_STACK_DRIFT && by <= XL_STACK_DRIFT;
}

static bool settled(const struct xl_tr *t)
{
	const struct xl_known *k = &t->known[CPU_RSP];

	return k->place == XP_HIGH && (k->by == 0 || (t->stack_seen && is_drift(k->by)));
}

/* Does it have operands in registers and memory only, so that it is written as it is, or called
 * for as a whole? */
static bool plain(const struct insn *i)
{
	unsigned op = i->modrm >> 3 & 7, o = i->opcode;

	if (i->prefix & (INSN_VEX | INSN_LOCK)) {
		return false;
	}
	if (i->map == INSN_MAP_0F) {
		return (o & 0xf0) == 0x40 || (o & 0xf0) == 0x90 || (o & 0xf6) == 0xb6 ||
		       o == 0xaf || o == 0x1f;
	}
	return i->map == INSN_MAP_1 &&
	       ((o < 0x40 && (o & 7) < 6) || o == 0x63 || (o >= 0x80 && o <= 0x85) ||
		(o >= 0x88 && o <= 0x8b) || o == 0x8d || o == 0x90 || (o >= 0xb0 && o <= 0xc1) ||
		o == 0xc6 || o == 0xc7 || o == 0xd1 || o == 0xd3 ||
		(o == 0xff && op < 2));
}

/* An instruction that goes by stack_off itself. */
static bool moves(const struct insn *i)
{
	unsigned op = i->modrm >> 3 & 7, o = i->opcode;

	if (i->map != INSN_MAP_1 || i->op_bytes != 8 || i->prefix & (INSN_VEX | INSN_LOCK)) {
		return false;
	}
	return ((o >= 0x50 && o <= 0x5f) && i->rm != CPU_RSP) || o == 0x68 || o == 0x6a ||
	       o == 0xe8 || o == 0xc3 || o == 0xc2 ||
	       ((o == 0x81 || o == 0x83) && i->rm == CPU_RSP && (op == 0 || op == 5));
}

static bool keeps(const struct xl_tr *t)
{
	const struct insn *i = &t->insns[t->k].i;
	bool based = i->base == CPU_RSP;

	if (moves(i) || (xl_jumps(i) && !xl_jumps_if(i) && t->k < t->n - 1)) {
		return true;
	}
	return plain(i) && !(xl_uses(i, false) & BIT(CPU_RSP)) &&
	       !(based && (i->opcode == 0x8d || i->index != INSN_NONE || i->ad_bytes != 8 ||
			   i->seg >= CPU_FS || !is_drift(i->disp)));
}

void xl_stack_prepare(struct xl_tr *t)
{
	if ((int)t->k == t->poll_at || !keeps(t)) {
		xl_stack_flush(t);
	}
}

void xl_stack_flush(struct xl_tr *t)
{
	int32_t by = t->stack_off;

	if (by) {
		xf_moved(t, CPU_RSP, by);
		xe_lea(&t->e, XR_9, xl_mem(XR_9, by));
		t->stack_off = 0;
	}
}

void xl_stack_move(struct xl_tr *t, int32_t by)
{
	xl_moved(t, CPU_RSP, CPU_RSP, by);
	t->stack_off += by;
	if (t->to->kind != XK_DIRECT || !is_drift(t->stack_off)) {
		xl_stack_flush(t);
	}
}

bool xl_stack_add(struct xl_tr *t)
{
	const struct insn *i = &t->insns[t->k].i;
	bool add = (i->modrm >> 3 & 7) == 0;
	int64_t v = (int64_t)i->imm;
	int32_t imm = (int32_t)v;

	if (t->to->kind != XK_DIRECT || i->map != INSN_MAP_1 ||
	    (i->opcode != 0x81 && i->opcode != 0x83) || !moves(i) || !is_drift(v)) {
		return false;
	}
	t->f.at = XF_RECIPE;
	t->f.recipe = (struct xl_recipe){ .kind = add ? XRC_ADD_I : XRC_SUB_I, .how = XE_W,
					  .d = XR_9, .s = XR_9,
					  .uses = (uint16_t)BIT(CPU_RSP), .imm = imm,
					  .bias = (add ? -imm : imm) - t->stack_off };
	xl_wrote(t, (unsigned)BIT(CPU_RSP));
	t->r11_kept = true;
	xl_stack_move(t, add ? imm : -imm);
	return true;
}

void xl_stack_settle(struct xl_tr *t, unsigned k, int64_t off)
{
	if (t->to->kind == XK_DIRECT && !settled(t)) {
		xl_stack_flush(t);
		xl_leave_aside(t, xl_look_high(t, XR_9), k, off);
		t->known[CPU_RSP] = (struct xl_known){ .place = XP_HIGH };
		t->stack_seen = true;
	}
}
