/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Where the guest's flags are while a block is written.
 *
 * An access to memory needs a comparison, which changes the host's flags. Where those are the
 * guest's, they are not saved for it if they can be made again: by the comparison that made them,
 * or from the result of an addition, as long as its registers are what they were. Only a fault, an
 * instruction that reads flags, or the end of the block has them made.
 */
#include "vm/cpu/soft/handlers.h"
#include "vm/cpu/soft/xl-parts.h"

/* To c->flags. Only RCX changes. */
static void save(struct xl_tr *t)
{
	struct xl_code *e = &t->e;

	xe_mov(e, XR_CX, XR_AX);
	xl_flags_to(e, XG(flags));
	xe_mov(e, XR_AX, XR_CX);
}

void xf_restore(struct xl_tr *t)
{
	struct xl_code *e = &t->e;

	xe_mov(e, XR_CX, XR_AX);
	xl_flags_from(e, XG(flags));
	xe_mov(e, XR_AX, XR_CX);
}

static void replay(struct xl_tr *t, const struct xl_recipe *r)
{
	struct xl_code *e = &t->e;
	struct xl_rm cx = xl_reg(XR_CX);

	switch ((enum xl_recipe_kind)r->kind) {
	case XRC_NONE: {
		break;
	}
	case XRC_REPLAY: {
		for (unsigned i = 0; i < r->n; i++) {
			xe_8(e, r->bytes[i]);
		}
		break;
	}
	case XRC_REPLAY_IN: {
		xe_load(e, XR_CX, XG(xl_in));
		for (unsigned i = 0; i < r->n; i++) {
			xe_8(e, r->bytes[i]);
		}
		break;
	}
	case XRC_ADD_IN: {
		xe_mov(e, XR_CX, r->d);
		xe_alu(e, r->how, 5, XR_CX, XG(xl_in));
		xe_alu(e, r->how, 0, XR_CX, XG(xl_in));
		break;
	}
	case XRC_SUB_IN: {
		xe_mov(e, XR_CX, r->d);
		xe_alu(e, r->how, 0, XR_CX, XG(xl_in));
		xe_alu(e, r->how, 5, XR_CX, XG(xl_in));
		break;
	}
	case XRC_ADD_I: {
		xe_lea(e, XR_CX, xl_mem(r->d, -r->bias - r->imm));
		xe_alu_imm(e, r->how, 0, cx, r->imm);
		break;
	}
	case XRC_SUB_I: {
		xe_lea(e, XR_CX, xl_mem(r->d, -r->bias + r->imm));
		xe_alu_imm(e, r->how, 5, cx, r->imm);
		break;
	}
	case XRC_ADD_R: {
		xe_mov(e, XR_CX, r->d);
		xe_alu(e, r->how, 5, XR_CX, xl_reg(r->s));
		xe_alu(e, r->how, 0, XR_CX, xl_reg(r->s));
		break;
	}
	case XRC_SUB_R: {
		xe_lea(e, XR_CX, xl_mem_index(r->d, r->s, 0, 0));
		xe_alu(e, r->how, 5, XR_CX, xl_reg(r->s));
		break;
	}
	case XRC_LOGIC: {
		xe_op(e, r->how, 0, 0x85, r->d, xl_reg(r->d));   /* test */
		break;
	}
	case XRC_NEG: {
		xe_mov(e, XR_CX, r->d);
		xe_op(e, r->how, 0, 0xf7, 3, cx);
		xe_op(e, r->how, 0, 0xf7, 3, cx);
		break;
	}
	}
}

/* --- What comes after an instruction --- */

enum next { NEXT_NOTHING, NEXT_KILLS, NEXT_ACCESS, NEXT_SEES };

static bool of_vectors(const struct insn_row *row)
{
	for (unsigned o = 0; o < ARRAY_LEN(row->ops); o++) {
		unsigned file = insn_operands[row->ops[o]].file;

		if (file != INSN_FILE_NONE && file != INSN_FILE_GPR) {
			return true;
		}
	}
	return false;
}

static enum next next_of(const struct insn *i)
{
	const struct insn_row *row = &insn_table[i->row];
	bool lea = i->map == INSN_MAP_1 && i->opcode == 0x8d;
	bool zero = i->map == INSN_MAP_1 && (i->opcode & 0xf6) == 0xc0 && (i->imm & 31) == 0;

	if (row->cls == INSN_IMPLICIT) {
		return NEXT_ACCESS;
	}
	bool divides = i->map == INSN_MAP_1 && (i->opcode & 0xfe) == 0xf6 &&
		       (i->modrm >> 3 & 7) >= 6;

	if (row->cls != INSN_COPY || row->fn || row->fr) {
		return NEXT_SEES;
	}
	/* What may fault without an access, if only as #NM, #MF, #XM, #DE or #UD. */
	if (row->attr & (INSN_A_SSE | INSN_A_MMX | INSN_A_X87 | INSN_A_VSIB) || divides ||
	    row->feature || of_vectors(row)) {
		return NEXT_SEES;
	}
	if (i->rm == INSN_NONE && i->modrm < 0xc0 && !lea) {
		return NEXT_ACCESS;   /* or a row without ModRM, which is no worse */
	}
	for (unsigned o = 0; o < ARRAY_LEN(row->ops); o++) {
		zero |= row->ops[o] == INSN_O_CL;
	}
	/* Where even PF is undefined some may stay as they were. */
	return xl_sets_all(row) && !(row->fu & INSN_PF) && !zero ? NEXT_KILLS :
										     NEXT_NOTHING;
}

bool xf_kills(const struct insn *i)
{
	enum next next = next_of(i);

	return next == NEXT_KILLS || (next == NEXT_ACCESS && insn_table[i->row].cls == INSN_COPY &&
				      xl_sets_all(&insn_table[i->row]));
}

/* The same in a block; what is never right sees them as any fault does. */
static enum next next_in(const struct xl_tr *t, unsigned j)
{
	return t->insns[j].run.fn == insn_ud ? NEXT_SEES : next_of(&t->insns[j].i);
}

/* Is it worth to save flags that nothing but an access that faults will see? One that has them in
 * its way costs about half as much. */
bool xf_worth_saving(const struct xl_tr *t)
{
	unsigned accesses = 0;

	for (unsigned j = t->k; j < t->n; j++) {
		const struct insn *i = &t->insns[j].i;
		enum next next = next_in(t, j);

		if (j + 1 < t->n && xl_jumps(i) && !xl_jumps_if(i)) {
			continue;                  /* it is followed */
		}
		accesses += next == NEXT_ACCESS;
		if (next == NEXT_KILLS || xf_kills(i)) {
			return accesses >= 2;
		}
		if (next == NEXT_SEES) {
			return false;
		}
	}
	return false;
}

bool xf_seen(const struct xl_tr *t)
{
	for (unsigned j = t->k + 1; j < t->n; j++) {
		enum next next = next_in(t, j);

		if (next != NEXT_NOTHING) {
			return next != NEXT_KILLS;
		}
	}
	return true;
}

bool xf_in_the_way(const struct xl_tr *t)
{
	for (unsigned j = t->k + 1; j < t->n; j++) {
		enum next next = next_in(t, j);

		if (next == NEXT_ACCESS || next == NEXT_KILLS) {
			return next == NEXT_ACCESS;
		}
	}
	return false;
}

/* --- Where they are --- */

void xf_make(struct xl_tr *t, const struct xl_flags *f)
{
	if (f->at == XF_RECIPE) {
		replay(t, &f->recipe);
	} else if (f->at == XF_SAVED) {
		xf_restore(t);
	}
}

bool xf_same(const struct xl_recipe *a, const struct xl_recipe *b)
{
	return a->kind == b->kind && a->how == b->how && a->d == b->d && a->s == b->s &&
	       a->n == b->n && memcmp(a->bytes, b->bytes, a->n) == 0 && a->uses == b->uses &&
	       a->imm == b->imm && a->bias == b->bias;
}

void xf_clobber(struct xl_tr *t)
{
	if (t->f.at != XF_HOST) {
		return;
	}
	if (t->f.recipe.kind != XRC_NONE) {
		t->f.at = XF_RECIPE;
		return;
	}
	save(t);
	t->f.at = XF_SAVED;
}

void xf_save(struct xl_tr *t)
{
	if (t->f.at == XF_SAVED) {
		return;
	}
	xf_need_host(t);
	save(t);
	t->f.at = XF_SAVED;
}

void xf_need_host(struct xl_tr *t)
{
	xf_make(t, &t->f);
	t->f.at = XF_HOST;
}

void xf_written(struct xl_tr *t, unsigned guest_mask)
{
	if (!(t->f.recipe.uses & guest_mask)) {
		return;
	}
	if (t->f.at == XF_RECIPE && xf_seen(t)) {
		replay(t, &t->f.recipe);
		save(t);
		t->f.at = XF_SAVED;
	} else if (t->f.at == XF_RECIPE) {
		t->f.at = XF_HOST;   /* whatever it is */
	}
	t->f.recipe = (struct xl_recipe){ .kind = XRC_NONE };
}

void xf_moved(struct xl_tr *t, unsigned guest, int32_t by)
{
	struct xl_recipe *r = &t->f.recipe;

	if (!(r->uses & BIT(guest))) {
		return;
	}
	if ((r->kind == XRC_ADD_I || r->kind == XRC_SUB_I) && r->how == XE_W) {
		r->bias += by;
		return;
	}
	xf_written(t, (unsigned)BIT(guest));
}

void xf_set(struct xl_tr *t, const struct xl_recipe *r)
{
	t->f.at = XF_HOST;
	t->f.recipe = *r;
}
