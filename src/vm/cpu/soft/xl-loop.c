/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Loops in a block. Their first round is written as what comes before it is; the others, behind it,
 * know what is known where a round ends, if that holds again where the next one does. What follows
 * them in the block comes behind the last one; who leaves the loop in the first round goes to
 * another block. In rounds of a loop there may be another loop, which has rounds there, too.
 *
 * In those rounds registers of the guest that stay in the state elsewhere borrow registers of the
 * host from some that the loop does not use, whose values wait in the state. Whoever leaves the
 * rounds, if only for an instruction of the interpreter, gives them back before.
 */
#include "vm/cpu/soft/xl-parts.h"

enum { DEPTH = 2, ALIGN = 32, ALIGN_INSIDE = 16 };

unsigned xl_uses(const struct insn *i, bool base)
{
	static const uint8_t implied[] = { CPU_RAX, CPU_RDX, CPU_RCX };
	const struct insn_row *row = &insn_table[i->row];
	unsigned ret = 0;

	for (unsigned o = 0; o < ARRAY_LEN(row->ops) && row->ops[o]; o++) {
		const struct insn_operand_desc *d = &insn_operands[row->ops[o]];
		unsigned guest = xl_operand_number(i, d, row->ops[o]);

		if (d->file == INSN_FILE_GPR && guest < CPU_REG__COUNT) {
			ret |= (unsigned)BIT(guest);
			/* AH to BH */
			ret |= guest >= 4 && guest < 8 ? (unsigned)BIT(guest - 4) : 0;
		}
	}
	for (unsigned k = 0; k < ARRAY_LEN(implied); k++) {
		ret |= row->imp & 1 << k ? (unsigned)BIT(implied[k]) : 0;
	}
	ret |= base ? xl_bit(i->base) : 0;
	return ret | xl_bit(i->index);
}

static int instruction_at(const struct xl_tr *t, unsigned last, int64_t off)
{
	for (unsigned k = 0; k <= last; k++) {
		if (t->insns[k].off == off) {
			return (int)k;
		}
	}
	return -1;
}

/* How many loops deep the one is that instruction k jumps back for; 0: it does not. */
static unsigned depth(const struct xl_tr *t, unsigned k)
{
	const struct insn *i = &t->insns[k].i;
	int first = xl_jumps(i) && i->op_bytes == 8 ? instruction_at(t, k, xl_jumps_to(t, k)) : -1;
	unsigned inside = 0;

	for (unsigned j = first < 0 ? k : (unsigned)first; j < k; j++) {
		inside = MAX(inside, depth(t, j));
	}
	return first < 0 ? 0 : inside + 1;
}

int xl_loop_of(const struct xl_tr *t, unsigned k)
{
	unsigned deep = t->alone || t->b->cross || t->compat ? 0 : depth(t, k);

	if (deep == 0 || deep > DEPTH) {
		return -1;
	}
	return instruction_at(t, k, xl_jumps_to(t, k));
}

bool xl_loop_ends(const struct xl_tr *t)
{
	int first = xl_loop_of(t, t->k);

	return first >= (t->rounds ? (int)t->rounds->first : 0) && !xl_round_ends(t);
}

bool xl_round_ends(const struct xl_tr *t)
{
	return t->rounds && t->rounds->last == t->k;
}

void xl_borrow(struct xl_tr *t, unsigned set)
{
	const struct xl_loans *all = &t->sets[set];

	for (unsigned n = 0; n < all->n; n++) {
		xe_store(&t->e, xl_host(all->of[n].from), xl_gpr_slot(all->of[n].from));
		xe_load(&t->e, xl_host(all->of[n].from), xl_gpr_slot(all->of[n].to));
	}
}

void xl_give_back(struct xl_tr *t, unsigned set)
{
	const struct xl_loans *all = &t->sets[set];

	for (unsigned n = 0; n < all->n; n++) {
		if (all->of[n].written) {
			xe_store(&t->e, xl_host(all->of[n].from), xl_gpr_slot(all->of[n].to));
		}
		xe_load(&t->e, xl_host(all->of[n].from), xl_gpr_slot(all->of[n].from));
	}
}

/* Who borrows from whom. RAX lends nothing: routines use it. */
static void loans(const struct xl_tr *t, unsigned first, unsigned last, struct xl_loans *ret)
{
	unsigned used = 0, written = 0, from = CPU_RAX;

	*ret = (struct xl_loans){ 0 };
	for (unsigned k = first; k <= last; k++) {
		if (t->insns[k].rigid) {
			return;
		}
		used |= xl_uses(&t->insns[k].i, true);
		written |= t->insns[k].wrote;
	}
	for (unsigned g = CPU_R8; g < CPU_R12; g++) {
		if (!(used & BIT(g)) || xl_host(g) != XR_NONE) {
			continue;
		}
		do {
			from++;
		} while (from < CPU_REG__COUNT && (used & BIT(from) || xl_host(from) == XR_NONE));
		if (from == CPU_REG__COUNT) {
			return;
		}
		ret->of[ret->n++] = (struct xl_loan){ .to = (uint8_t)g, .from = (uint8_t)from,
						      .written = written & BIT(g) };
	}
}

/* What is known of where a register was does not hold any more. */
static void moved(struct xl_tr *t, unsigned guest)
{
	if (t->f.recipe.uses & BIT(guest)) {
		t->f.recipe = (struct xl_recipe){ .kind = XRC_NONE };   /* they are in the host's */
	}
	if (t->r11.holds == XH_SUM && t->r11.guest == guest) {
		t->r11.holds = XH_UNKNOWN;
	}
}

static void lend(struct xl_tr *t, struct xl_rounds *r)
{
	struct xl_loans *l = &t->sets[t->n_sets];

	if (t->set || t->n_sets == XL_SETS) {
		return;
	}
	loans(t, r->first, r->last, l);
	if (l->n == 0) {
		return;
	}
	r->lends = true;
	t->set = (uint8_t)t->n_sets++;
	xl_borrow(t, t->set);
	for (unsigned n = 0; n < l->n; n++) {
		moved(t, l->of[n].from);
		moved(t, l->of[n].to);
	}
}

void xl_rounds_begin(struct xl_tr *t, struct xl_rounds *r, unsigned first, unsigned last)
{
	r->outer = t->rounds;
	r->first = first;
	r->last = last;
	r->lends = false;
	t->rounds = r;
	t->small = 0;
	xl_leas_forget(t);
	lend(t, r);
	xl_known_rounds(t, first, last);
	r->state.f = t->f;
	memcpy(r->state.known, t->known, sizeof(t->known));
	memcpy(r->state.sums, t->sums, sizeof(t->sums));
	r->state.r11 = t->r11;
	r->state.vec = t->vec;
	r->state.x87 = t->x87;
	r->state.stack_seen = t->stack_seen;
	xe_align(&t->e, r->outer ? ALIGN_INSIDE : ALIGN);
	r->head = t->e.at;
}

/* Flags are the host's. */
void xl_rounds_end(struct xl_tr *t)
{
	const struct xl_loans *l = &t->sets[t->set];

	if (t->rounds->lends) {
		xl_give_back(t, t->set);
		for (unsigned n = 0; n < l->n; n++) {
			moved(t, l->of[n].from);
			moved(t, l->of[n].to);
		}
		t->set = 0;
	}
	t->rounds = t->rounds->outer;
}

void xl_rounds_r11(struct xl_tr *t)
{
	const struct xl_r11 *r = &t->rounds->state.r11;

	if (r->holds != t->r11.holds || (r->holds == XH_SUM && r->guest != t->r11.guest)) {
		xl_r11_to(t, r);
		t->r11 = *r;
	}
}

bool xl_rounds_go_on(const struct xl_tr *t)
{
	const struct xl_state *h = &t->rounds->state;

	return xl_known_still(t, h) && h->vec == t->vec && h->x87 == t->x87 &&
	       (!h->stack_seen || t->stack_seen) &&
	       (h->f.recipe.kind == XRC_NONE || xf_same(&h->f.recipe, &t->f.recipe));
}
