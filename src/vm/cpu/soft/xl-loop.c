/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Loops of one block. Their first round is written as any block is; the others know what is known
 * where a round ends, if that holds again where the next one does.
 *
 * In those rounds registers of the guest that stay in the state elsewhere borrow registers of the
 * host from some that the block does not use, whose values wait in the state. Whoever leaves the
 * rounds, if only for an instruction of the interpreter, gives them back before.
 */
#include "vm/cpu/soft/xl.h"

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
			ret |= guest >= 4 && guest < 8 ? (unsigned)BIT(guest - 4) : 0;   /* AH to BH */
		}
	}
	for (unsigned k = 0; k < ARRAY_LEN(implied); k++) {
		ret |= row->imp & 1 << k ? (unsigned)BIT(implied[k]) : 0;
	}
	ret |= base && i->base < CPU_REG__COUNT ? (unsigned)BIT(i->base) : 0;
	return ret | (i->index < CPU_REG__COUNT ? (unsigned)BIT(i->index) : 0);
}

bool xl_loops(const struct xl_tr *t)
{
	const struct xl_insn *last = &t->insns[t->n - 1];

	return !t->alone && !t->b->cross && !t->compat && xl_jumps(&last->i) && last->i.op_bytes == 8 &&
	       xl_jumps_to(t, t->n - 1) == t->first_off;
}

static void move(struct xl_tr *t, bool back)
{
	struct xl_code *e = &t->e;

	for (unsigned n = 0; n < t->n_loans; n++) {
		const struct xl_loan *l = &t->loans[n];
		unsigned host = xl_host(l->from);

		xe_store(e, host, xl_gpr_slot(back ? l->to : l->from));
		xe_load(e, host, xl_gpr_slot(back ? l->from : l->to));
	}
}

void xl_borrow(struct xl_tr *t)
{
	move(t, false);
}

void xl_give_back(struct xl_tr *t)
{
	move(t, true);
}

/* Who borrows from whom. RAX lends nothing: routines use it. */
static void loans(struct xl_tr *t)
{
	unsigned used = 0, from = CPU_RAX;

	for (unsigned k = 0; k < t->n; k++) {
		used |= xl_uses(&t->insns[k].i, true);
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
		t->loans[t->n_loans++] = (struct xl_loan){ .to = (uint8_t)g, .from = (uint8_t)from };
	}
}

void xl_rounds_begin(struct xl_tr *t)
{
	t->again = true;
	t->small = 0;
	if (!t->rigid) {
		loans(t);
		xl_borrow(t);
	}
	for (unsigned n = 0; n < t->n_loans; n++) {
		if (t->f.recipe.uses & BIT(t->loans[n].to)) {
			t->f.recipe = (struct xl_recipe){ .kind = XRC_NONE };   /* it is of where that was */
		}
	}
	t->head_state.f = t->f;
	memcpy(t->head_state.known, t->known, sizeof(t->known));
	memcpy(t->head_state.sums, t->sums, sizeof(t->sums));
	t->head_state.vec = t->vec;
	t->head_state.x87 = t->x87;
	t->head = t->e.at;
}

bool xl_rounds_go_on(const struct xl_tr *t)
{
	const struct xl_state *h = &t->head_state;

	return xl_known_still(t, h) && h->vec == t->vec && h->x87 == t->x87 &&
	       (h->f.recipe.kind == XRC_NONE || xf_same(&h->f.recipe, &t->f.recipe));
}
