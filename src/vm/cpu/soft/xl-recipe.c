/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The flags of instructions that stay what they are: whether one has to find those that were there,
 * and the recipe by which its own are made again once the host's have changed (xl-flags.c).
 */
#include "vm/cpu/soft/xl-form.h"

bool xl_form_reads_flags(const struct xl_form *f)
{
	const struct insn_row *row = f->row;
	unsigned count = f->i->imm & (f->i->op_bytes == 8 ? 63 : 31);
	bool shift = f->i->map == INSN_MAP_1 && (f->i->opcode & 0xf6) == 0xc0;
	bool shift_double = f->i->map == INSN_MAP_0F &&
			    (f->i->opcode == 0xa4 || f->i->opcode == 0xac);
	bool scan = f->i->map == INSN_MAP_0F && (f->i->opcode == 0xbc || f->i->opcode == 0xbd);
	bool bits = f->i->map == INSN_MAP_0F &&
		    ((f->i->opcode & 0xe7) == 0xa3 || f->i->opcode == 0xba);

	bool mul = (f->i->map == INSN_MAP_0F && f->i->opcode == 0xaf) ||
		   (f->i->map == INSN_MAP_1 && (f->i->opcode == 0x69 || f->i->opcode == 0x6b ||
						(f->i->opcode & 0xfe) == 0xf6) &&
		    (xl_is(f, XO_MUL) || xl_is(f, XO_IMUL)));

	/* Those that leave some as they were, always or for some operands, or, as AMD's
	 * multiplications do with what is undefined, on some processors. */
	return row->fr || (row->fw && !xl_sets_all(row)) || f->uses_cl || scan || bits || mul ||
	       ((shift || shift_double) && count == 0);
}

/* Its register operands are in registers of the host, and whole. */
static bool in_registers(const struct xl_form *f)
{
	for (unsigned k = 0; k < f->n; k++) {
		if (f->f[k].file == INSN_FILE_GPR && (f->f[k].slot || f->f[k].high)) {
			return false;
		}
	}
	return f->n >= 1 && f->n <= 2 && !(f->i->prefix & INSN_VEX);
}

/* They are there, or where the instruction reaches them itself. */
static bool in_slots(const struct xl_form *f)
{
	for (unsigned k = 0; k < f->n; k++) {
		if (f->f[k].file == INSN_FILE_GPR && xl_field_is_scratch(&f->f[k])) {
			return false;
		}
	}
	return f->n >= 1 && f->n <= 2 && !f->mem && !(f->i->prefix & INSN_VEX);
}

bool xl_form_needs_input(const struct xl_form *f)
{
	bool shift = xl_is(f, XO_SHL) || xl_is(f, XO_SHR) || xl_is(f, XO_SAR);
	bool imul = xl_is(f, XO_IMUL) && f->i->map == INSN_MAP_0F && f->f[0].host != f->f[1].host;

	return xl_is_wide(f->i) && !f->mem && !f->uses_cl && in_registers(f) && (shift || imul);
}

bool xl_form_memory_in_cx(const struct xl_form *f)
{
	bool compares = xl_is(f, XO_CMP) || xl_is(f, XO_TEST);
	bool adds = (xl_is(f, XO_ADD) || xl_is(f, XO_SUB)) && !f->mem_written && xl_is_wide(f->i);

	return f->mem && in_registers(f) && !(f->i->prefix & INSN_LOCK) && (compares || adds);
}

static void replay_of(const struct xl_form *f, const uint8_t *bytes, size_t n,
		      struct xl_recipe *ret)
{
	if (n <= sizeof(ret->bytes)) {
		ret->kind = f->kept ? XRC_REPLAY_IN : XRC_REPLAY;
		ret->n = (uint8_t)n;
		memcpy(ret->bytes, bytes, n);
	}
}

/* An addition or subtraction, of which the result is there and one operand. */
static void sum_of(const struct xl_form *f, struct xl_recipe *ret)
{
	bool add = xl_is(f, XO_ADD);
	int64_t v = (int64_t)f->i->imm;

	if (f->kept) {
		ret->kind = add ? XRC_ADD_IN : XRC_SUB_IN;
	} else if (xl_has_imm(f) && v > -(1 << 30) && v < 1 << 30) {
		ret->kind = add ? XRC_ADD_I : XRC_SUB_I;
	} else if (f->n == 2 && !xl_has_imm(f) && f->f[0].host != f->f[1].host) {
		ret->kind = add ? XRC_ADD_R : XRC_SUB_R;
	}
}

/* How to get its flags again: all but those of memory are registers that stay for a while. */
static void recipe_of(const struct xl_form *f, const uint8_t *bytes, size_t n,
		      struct xl_recipe *ret)
{
	const struct xl_field *d = &f->f[0], *s = &f->f[1];
	bool logic = xl_is(f, XO_AND) || xl_is(f, XO_OR) || xl_is(f, XO_XOR);

	*ret = (struct xl_recipe){ .how = f->i->op_bytes == 8 ? XE_W : 0, .d = d->host,
				   .s = s->host, .imm = (int32_t)f->i->imm };
	bool compares = xl_is(f, XO_CMP) || xl_is(f, XO_TEST);

	if (!(in_registers(f) || (compares && in_slots(f))) ||
	    (f->mem && !f->kept && !(logic && !f->mem_written))) {
		return;
	}
	for (unsigned k = 0; k < f->n; k++) {
		bool memory = f->mem && f->f[k].where == INSN_AT_RM;

		ret->uses |= f->f[k].file == INSN_FILE_GPR && !memory ?
			     (uint16_t)BIT(f->f[k].guest) : 0;
	}
	if (compares) {
		replay_of(f, bytes, n, ret);
	} else if (f->kept && !f->mem) {
		ret->uses &= (uint16_t)~BIT(d->guest);
		replay_of(f, bytes, n, ret);
	} else if (!xl_is_wide(f->i)) {
		return;
	} else if (logic) {
		ret->kind = XRC_LOGIC;
		ret->uses = (uint16_t)BIT(d->guest);
	} else if (xl_is(f, XO_NEG) && !f->mem) {
		ret->kind = XRC_NEG;
	} else if (xl_is(f, XO_ADD) || xl_is(f, XO_SUB)) {
		sum_of(f, ret);
	}
}

void xl_form_flags_after(struct xl_tr *t, const struct xl_form *f, bool reads,
			 const uint8_t *bytes, size_t n)
{
	struct xl_recipe r = { .kind = XRC_NONE };

	if (!(f->row->fw & XL_FLAGS)) {
		return;
	}
	if (!reads && n <= INSN_BYTES_MAX) {
		recipe_of(f, bytes, n, &r);
	}
	xf_set(t, &r);
}
