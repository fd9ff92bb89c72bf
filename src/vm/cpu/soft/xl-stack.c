/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The stack of direct code. Blocks of that kind rely on RSP: where one begins it is in the high range
 * (xl-shadow.h), or at most XL_STACK_DRIFT from it. So accesses from it look at nothing. Who writes RSP
 * has a look where the block is left, unless an access has shown by then where it is; C looks where
 * code is entered. A program whose stack is elsewhere has its code made of the loose kind instead, until
 * its memory is mapped anew.
 */
#include "vm/cpu/soft/xl.h"

enum { HIGH_BIT = 46 };

/* --- The vCPU's side --- */

bool xl_stack_fits(const struct soft_cpu *c)
{
	return xl_kind(c) != XK_DIRECT || c->s.gpr[CPU_RSP] >> HIGH_BIT == 1;
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
	/* What another register is known by may be what RSP was at the begin. */
	if (t->wrote & BIT(CPU_RSP) && !(t->moved && t->move_to == CPU_RSP && t->move_from == CPU_RSP)) {
		t->stack_seen = false;
	}
}

static bool settled(const struct xl_tr *t)
{
	const struct xl_known *k = &t->known[CPU_RSP];

	return k->place == XP_HIGH &&
	       (k->by == 0 || (t->stack_seen && k->by >= -XL_STACK_DRIFT && k->by <= XL_STACK_DRIFT));
}

void xl_stack_settle(struct xl_tr *t, unsigned k, int64_t off)
{
	if (t->to->kind == XK_DIRECT && !settled(t)) {
		xl_leave_aside(t, xl_look_high(t, XR_9), k, off);
		t->known[CPU_RSP] = (struct xl_known){ .place = XP_HIGH };
		t->stack_seen = true;
	}
}
