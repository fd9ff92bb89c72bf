/* SPDX-License-Identifier: Apache-2.0 */
/* An instruction that stays what it is, taken apart: for xl-form.c and xl-recipe.c. */
#ifndef VM_CPU_SOFT_XL_FORM_H
#define VM_CPU_SOFT_XL_FORM_H

#include "vm/cpu/soft/xl-parts.h"

/* One of its operands. */
struct xl_field {
	uint8_t op;          /* enum insn_operand */
	uint8_t where, file;
	uint8_t guest;       /* number of the register */
	uint8_t host;
	uint8_t bytes;       /* of the register */
	bool    high;        /* AH to BH: in a scratch register meanwhile */
	bool    slot;        /* it stays in the state: host is a scratch register */
	bool    in_place;    /* and the instruction reaches it there */
	bool    written;
};

struct xl_form {
	const struct xl_tr    *t;
	const struct insn     *i;
	const struct insn_row *row;
	enum insn_mode mode;
	uint8_t op;                /* enum xl_op */
	struct xl_field f[4];
	unsigned n;
	bool     mem, mem_written, uses_cl, rex, modrm;
	bool     kept;             /* c->xl_in holds its operand, for the flags */
	bool     aligned;          /* its memory operand has to be */
	uint8_t  vec;              /* enum xl_vec */
	unsigned mem_bytes;
	unsigned guest_written;    /* mask */
	struct xl_rm at;           /* its memory operand */
};

static inline bool xl_field_is_scratch(const struct xl_field *d)
{
	return (d->slot || d->high) && !d->in_place;
}

/* Has it that name? */
static inline bool xl_is(const struct xl_form *f, enum xl_op op)
{
	return f->op == op;
}

/* Of 32 or 64 bits. */
static inline bool xl_is_wide(const struct insn *i)
{
	return i->op_bytes >= 4 && i->op_bytes <= 8;
}

static inline bool xl_has_imm(const struct xl_form *f)
{
	return f->n == 2 && f->f[1].where == INSN_AT_IMM;
}

/* --- xl-recipe.c --- */

/* Does the instruction rely on flags that were there, or leave some of them? */
bool xl_form_reads_flags(const struct xl_form *f);
/* The flags come from what a register was, which is not to be had from the result. */
bool xl_form_needs_input(const struct xl_form *f);
/* It can do with its memory operand in RCX. */
bool xl_form_memory_in_cx(const struct xl_form *f);
/* It was written, as these bytes: the flags are its own. */
void xl_form_flags_after(struct xl_tr *t, const struct xl_form *f, bool reads, const uint8_t *bytes,
			 size_t n);

#endif
