/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What is known of registers while a block is written, and what each instruction leaves of that: in
 * which range of direct accesses they are (xl-direct.c), what they hold, whether that is small.
 */
#include "vm/cpu/soft/xl-parts.h"

void xl_known_begin(struct xl_tr *t)
{
	memset(t->known, 0, sizeof(t->known));
	memset(t->sums, 0, sizeof(t->sums));
	t->next_sum = 0;
	xl_leas_forget(t);
	t->written = 0;
	t->small = 0;
	xl_stack_begin(t);
	t->constant = 0;
	t->r11 = (struct xl_r11){ .holds = XH_UNKNOWN };
}

/* One of its registers has changed. */
static void sum_after(const struct xl_tr *t, struct xl_sum *s)
{
	unsigned changed = t->wrote & (xl_bit(s->base) | xl_bit(s->index) | xl_bit(s->more));
	int64_t by = s->known.by;

	if (!s->known.place || !changed) {
		return;
	}
	if (s->base == t->move_to) {
		by += t->move_by;
	}
	if (s->index == t->move_to) {
		by += (int64_t)t->move_by * (1 << s->scale);
	}
	if (s->more == t->move_to) {
		by += t->move_by;
	}
	if (t->moved && t->move_to == t->move_from && changed == BIT(t->move_to) && xl_little(by)) {
		s->known.by = (int32_t)by;
	} else {
		s->known.place = XP_UNKNOWN;
	}
}

void xl_leas_forget(struct xl_tr *t)
{
	for (unsigned g = 0; g < ARRAY_LEN(t->leas); g++) {
		t->leas[g].base = INSN_NONE;
	}
}

/* May LEA's sum be kept? RSP's register is not always what it holds. */
static bool kept(const struct xl_tr *t, const struct insn *i)
{
	return t->summed && i->base < CPU_REG__COUNT && i->index < CPU_REG__COUNT &&
	       i->base != i->reg && i->index != i->reg && i->base != CPU_RSP && i->reg != CPU_RSP;
}

static void leas_after(struct xl_tr *t)
{
	const struct insn *i = &t->insns[t->k].i;

	for (unsigned g = 0; g < ARRAY_LEN(t->leas); g++) {
		struct xl_lea *l = &t->leas[g];

		if (t->wrote & (BIT(g) | xl_bit(l->base) | xl_bit(l->index))) {
			l->base = INSN_NONE;
		}
	}
	if (kept(t, i)) {
		t->leas[i->reg] = (struct xl_lea){ i->base, i->index, i->scale };
	}
}

static void constants_after(struct xl_tr *t)
{
	bool known = t->moved && t->constant & BIT(t->move_from);
	int64_t v = known ? t->values[t->move_from] + (int64_t)t->move_by : 0;

	t->constant &= ~t->wrote;
	if (t->zeroes || (known && xl_little(v))) {
		t->constant |= (unsigned)BIT(t->move_to);
		t->values[t->move_to] = (int32_t)v;
	}
}

void xl_known_after(struct xl_tr *t)
{
	struct xl_known from = t->moved ? t->known[t->move_from] : (struct xl_known){ 0 };
	int64_t by = from.by + (int64_t)t->move_by;

	if (!xl_is_direct(t->to->kind)) {
		return;   /* nothing of it is asked for */
	}
	for (unsigned s = 0; s < XL_SUMS; s++) {
		sum_after(t, &t->sums[s]);
	}
	for (unsigned g = 0; g < CPU_REG__COUNT; g++) {
		if (t->wrote & BIT(g)) {
			t->known[g].place = XP_UNKNOWN;
		}
	}
	leas_after(t);
	t->written |= t->wrote;
	t->small = (t->small & ~t->wrote) | t->made_small;
	xl_stack_after(t);
	constants_after(t);
	if (!t->r11_kept || (t->r11.holds == XH_SUM && t->wrote & BIT(t->r11.guest))) {
		t->r11.holds = XH_UNKNOWN;
	}
	if (t->moved && from.place && xl_little(by)) {
		t->known[t->move_to] = (struct xl_known){ .place = from.place, .by = (int32_t)by };
	}
}

static bool still(const struct xl_known *known, const struct xl_known *now)
{
	return !known->place || (known->place == now->place && known->by == now->by);
}

bool xl_known_still(const struct xl_tr *t, const struct xl_state *state)
{
	for (unsigned g = 0; g < ARRAY_LEN(t->known); g++) {
		if (!still(&state->known[g], &t->known[g])) {
			return false;
		}
	}
	for (unsigned s = 0; s < XL_SUMS; s++) {
		const struct xl_sum *a = &state->sums[s], *b = &t->sums[s];

		if (!still(&a->known, &b->known) ||
		    (a->known.place &&
		     (a->base != b->base || a->index != b->index || a->scale != b->scale ||
		      a->more != b->more))) {
			return false;
		}
	}
	return true;
}
