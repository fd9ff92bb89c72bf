/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Instructions that stay what they are: the same opcode, with the registers that hold the guest's
 * and, in place of its memory operand, the host's address. What operands an opcode has is said by
 * its row in the table.
 */
#include "vm/cpu/soft/handlers.h"
#include "vm/cpu/soft/int.h"
#include "vm/cpu/soft/xl-form.h"

unsigned xl_operand_number(const struct insn *i, const struct insn_operand_desc *d, unsigned op)
{
	switch (d->where) {
	case INSN_AT_REG: return i->reg;
	case INSN_AT_VVVV: return i->vvvv;
	case INSN_AT_IS4: return i->is4;
	case INSN_AT_FIXED: return op == INSN_O_CL ? CPU_RCX : op == INSN_O_DX ? CPU_RDX : CPU_RAX;
	default: return i->rm;
	}
}

/* Is operand o of the row written? */
static bool is_written(const struct insn_row *row, unsigned o)
{
	return (o == 0 && !(row->attr & INSN_A_NODST)) || (o == 1 && row->attr & INSN_A_DST2);
}

/* May its register operand in ModRM.rm be memory of the same size, for little more? */
static bool takes_memory(const struct insn *i)
{
	const uint32_t never = INSN_A_BITS | INSN_A_DST2 | INSN_A_MOD3;
	unsigned op = i->opcode;

	if (insn_table[i->row].attr & never || i->prefix & INSN_VEX) {
		return false;
	}
	if (i->map == INSN_MAP_0F) {
		/* CMOV, IMUL, MOVZX, MOVSX */
		return (op & 0xf0) == 0x40 || op == 0xaf || (op & 0xf6) == 0xb6;
	}
	return i->map == INSN_MAP_1 &&
	       (op < 0x40 || op == 0x63 || op == 0x69 || op == 0x6b || (op & 0xfc) == 0x80 ||
		op == 0x84 || op == 0x85 || (op & 0xfc) == 0x88 || (op & 0xfe) == 0xc0 ||
		(op & 0xfc) == 0xd0 || op == 0xc7 || (op & 0xfe) == 0xf6 || op == 0xff);
}

/* What is written there is all of it: what is less has to be made wide, or would be waited for when
 * more than that is read. */
static bool in_place(const struct insn *i, const struct xl_field *d)
{
	return d->slot && d->where == INSN_AT_RM && i->reg != i->rm &&
	       (!d->written || d->bytes == 8) && takes_memory(i);
}

/* The scratch register that an operand before this one has for the same; XR_NONE: there is none. */
static uint8_t shared(const struct xl_form *f, const struct xl_field *d)
{
	for (const struct xl_field *o = f->f; o != d; o++) {
		if (xl_field_is_scratch(o) && o->guest == d->guest && o->high == d->high) {
			return o->host;
		}
	}
	return XR_NONE;
}

/* A register operand of general purpose. false: this form is not for us. */
static bool gpr(struct xl_form *f, struct xl_field *d, unsigned *scratches)
{
	const struct insn *i = f->i;

	d->guest = (uint8_t)xl_operand_number(i, &insn_operands[d->op], d->op);
	if (d->bytes == 1 && d->op != INSN_O_CL && d->op != INSN_O_AL &&
	    !(i->prefix & (INSN_REX | INSN_VEX)) && d->guest >= 4) {
		d->guest -= 4;
		d->high = true;
	}
	d->host = (uint8_t)xl_now(f->t, d->guest);
	if (d->op == INSN_O_CL) {
		f->uses_cl = true;
		d->host = XR_CX;
		return true;
	}
	if (d->host == XR_NONE || d->high) {
		static const uint8_t order[] = { XR_CX, XR_11 };

		d->slot = !d->high;
		d->in_place = in_place(i, d);
		d->host = d->in_place ? XR_NONE : shared(f, d);
		if (d->host == XR_NONE && !d->in_place) {
			if (*scratches == 2) {
				return false;
			}
			d->host = order[(*scratches)++];
		}
	}
	if (d->written) {
		f->guest_written |= (unsigned)BIT(d->guest);
	}
	f->rex |= d->bytes == 1 && !d->in_place && d->host >= 4 && d->host < 8;
	return true;
}

/* A row that has a handler of its own stays with it, but for these. */
static bool by_hand(const struct insn_row *row)
{
	return row->fn && row->fn != op_cmc && row->fn != op_clc && row->fn != op_stc &&
	       row->fn != op_sahf && row->fn != op_lahf && row->fn != op_mfence;
}

static bool known(const struct xl_tr *t, const struct insn *i, const struct insn_row *row)
{
	const uint32_t never = INSN_A_SSE | INSN_A_MMX | INSN_A_X87 | INSN_A_VSIB | INSN_A_STRING |
			       INSN_A_STACK | INSN_A_I64;
	bool bits = row->attr & INSN_A_BITS && i->rm == INSN_NONE;

	if (i->map == INSN_MAP_1 && (i->opcode & 0xfe) == 0xf6 && (i->modrm >> 3 & 7) >= 6) {
		return false;   /* a division may fault */
	}
	return xl_decoded(t)->fn != insn_ud && row->cls == INSN_COPY && !(row->attr & never) &&
	       !by_hand(row) && !bits && t->c->features & BIT(insn_feature(i)) &&
	       insn_feature(i) != INSN_F_RDRAND && insn_feature(i) != INSN_F_RDSEED;
}

/* A vector register is what it is. */
static bool vector(struct xl_form *f, struct xl_field *d)
{
	d->guest = d->host = d->where == INSN_AT_FIXED ? 0 :
			     (uint8_t)xl_operand_number(f->i, &insn_operands[d->op], d->op);
	f->vec = f->i->prefix & INSN_VEX ? XV_AVX : XV_SSE;
	return true;
}

/* What faults if its memory operand is not aligned. */
static bool must_align(const struct xl_form *f)
{
	const struct insn_row *row = f->row;
	bool whole = false;

	for (unsigned o = 0; o < ARRAY_LEN(row->ops); o++) {
		whole |= row->ops[o] == INSN_O_W || row->ops[o] == INSN_O_Wo;
	}
	return row->attr & INSN_A_ALIGN ||
	       (whole && row->enc == INSN_LEGACY && !(row->attr & INSN_A_UNAL));
}

static bool operand(struct xl_form *f, unsigned o, unsigned *scratches)
{
	struct xl_field *d = &f->f[f->n];
	const struct insn_operand_desc *desc = &insn_operands[f->row->ops[o]];

	*d = (struct xl_field){ .op = f->row->ops[o], .where = desc->where, .file = desc->file,
			     .written = is_written(f->row, o) };
	d->bytes = (uint8_t)insn_reg_bytes(f->i, f->mode, (enum insn_operand)d->op);
	f->modrm |= desc->where == INSN_AT_RM || desc->where == INSN_AT_REG;
	if (desc->where == INSN_AT_RM && f->i->rm == INSN_NONE) {
		f->mem = true;
		f->mem_bytes = insn_mem_bytes(f->i, f->mode, (enum insn_operand)d->op);
		f->mem_written = d->written;
		f->n++;
		if (desc->file == INSN_FILE_XMM) {
			f->vec = f->i->prefix & INSN_VEX ? XV_AVX : XV_SSE;
			f->aligned = must_align(f);
		} else if (desc->file != INSN_FILE_GPR && desc->file != INSN_FILE_NONE) {
			return false;
		}
		return f->mem_bytes != 0;
	}
	f->n++;
	if (desc->where == INSN_AT_IMM || desc->file == INSN_FILE_NONE) {
		return desc->where != INSN_AT_MOFFS;
	}
	if (desc->file == INSN_FILE_XMM) {
		return vector(f, d);
	}
	return desc->file == INSN_FILE_GPR && gpr(f, d, scratches);
}

/* With memory R11 is its address, and RCX the only one left. */
static bool enough(const struct xl_form *f, unsigned scratches)
{
	unsigned all = scratches + f->uses_cl + f->mem;

	return all <= 2 && !(f->mem && scratches + f->uses_cl > 1);
}

static bool parse(const struct xl_tr *t, struct xl_form *f)
{
	unsigned scratches = 0;

	if (!known(t, f->i, f->row)) {
		return false;
	}
	/* CL is in the way of the first scratch register. */
	for (unsigned o = 0; o < ARRAY_LEN(f->row->ops); o++) {
		scratches |= f->row->ops[o] == INSN_O_CL;
	}
	unsigned taken = scratches;

	for (unsigned o = 0; o < ARRAY_LEN(f->row->ops) && f->row->ops[o]; o++) {
		if (!operand(f, o, &scratches)) {
			return false;
		}
	}
	f->modrm |= f->row->reg || f->row->rm;
	if (f->row->imp & INSN_IMP_RAX) {
		f->guest_written |= (unsigned)BIT(CPU_RAX);
	}
	if (f->row->imp & INSN_IMP_RDX) {
		f->guest_written |= (unsigned)BIT(CPU_RDX);
	}
	return (!(f->row->imp & INSN_IMP_RCX) || f->vec) && enough(f, scratches - taken);
}

/* --- Writing it --- */

static unsigned how_of(const struct xl_form *f)
{
	const struct insn *i = f->i;

	return (i->prefix & INSN_W ? (unsigned)XE_W : 0) |
	       (i->prefix & INSN_66 ? (unsigned)XE_66 : 0) |
	       (f->row->pp == INSN_PP_F3 ? (unsigned)XE_F3 : 0) |
	       (f->row->pp == INSN_PP_F2 ? (unsigned)XE_F2 : 0) |
	       (i->prefix & INSN_LOCK ? (unsigned)XE_LOCK : 0) | (f->rex ? (unsigned)XE_REX : 0) |
	       (i->prefix & INSN_VEX_L ? (unsigned)XE_L : 0);
}

/* Is what an operand was of no matter? */
static bool only_written(const struct xl_form *f, const struct xl_field *d)
{
	bool replaces = xl_is(f, XO_MOV) || xl_is(f, XO_MOVZX) || xl_is(f, XO_MOVSX) ||
			xl_is(f, XO_MOVSXD) || (xl_is(f, XO_IMUL) && f->n == 3);
	bool zero = xl_is(f, XO_XOR) && f->n == 2 && !f->mem && f->f[1].file == INSN_FILE_GPR &&
		    f->f[0].guest == f->f[1].guest;

	return d->bytes >= 4 && (zero || (d->written && replaces));
}

static void slots(struct xl_tr *t, const struct xl_form *f, bool load)
{
	for (unsigned k = 0; k < f->n; k++) {
		const struct xl_field *d = &f->f[k];

		if (d->in_place || (load && d->slot && only_written(f, d))) {
			continue;
		}
		if (d->high && load) {
			xe_rorx(&t->e, XE_W, d->host, xl_reg(xl_now(t, d->guest)), 8);
		} else if (d->high && d->written) {
			const struct xl_rm whole = xl_reg(xl_now(t, d->guest));

			xe_rorx(&t->e, XE_W, whole.reg, whole, 8);
			xe_op(&t->e, XE_REX, 0, 0x88, d->host, whole);
			xe_rorx(&t->e, XE_W, whole.reg, whole, 56);
		} else if (d->slot && load) {
			xe_load(&t->e, d->host, xl_gpr_slot(d->guest));
		} else if (d->slot && d->written) {
			xe_store(&t->e, d->host, xl_gpr_slot(d->guest));
		}
	}
	if (f->uses_cl && load) {
		xe_mov(&t->e, XR_CX, XR_10);
	}
}

static void opcode_only(struct xl_tr *t, const struct xl_form *f, unsigned how)
{
	const struct insn *i = f->i;
	unsigned opcode = i->opcode, rex = how & XE_W ? 8 : 0;

	for (unsigned k = 0; k < f->n; k++) {
		if (f->f[k].where == INSN_AT_OPCODE) {
			unsigned host = f->f[k].host;

			opcode = (opcode & ~7u) | (host & 7);
			rex |= host >> 3 & 1;
		}
	}
	xe__prefixes(&t->e, how, xl_reg(0));
	if (rex || how & XE_REX) {
		xe_8(&t->e, 0x40 | rex);
	}
	if (i->map) {
		xe_8(&t->e, 0x0f);
	}
	xe_8(&t->e, opcode);
}

static void with_modrm(struct xl_tr *t, const struct xl_form *f, unsigned how)
{
	const struct insn *i = f->i;
	static const uint8_t pps[] = { 0, 0, 1, 2, 3 };
	unsigned reg = f->row->reg ? f->row->reg - 1u : i->modrm >> 3 & 7u, vvvv = 0;
	struct xl_rm rm = xl_reg(f->row->rm ? f->row->rm - 1u : i->modrm & 7u);

	for (unsigned k = 0; k < f->n; k++) {
		const struct xl_field *d = &f->f[k];
		unsigned host = d->host;

		if (d->where == INSN_AT_REG) {
			reg = host;
		} else if (d->where == INSN_AT_VVVV) {
			vvvv = host;
		} else if (d->where == INSN_AT_RM && f->mem) {
			rm = f->kept ? xl_reg(XR_CX) : f->at;
		} else if (d->where == INSN_AT_RM) {
			rm = d->in_place ? xl_gpr_slot(d->guest) : xl_reg(host);
		}
	}
	if (i->prefix & INSN_VEX) {
		unsigned pp = i->prefix & INSN_66 ? 1 : i->prefix & INSN_REP ? 2 :
			      i->prefix & INSN_REPNE ? 3 : pps[f->row->pp];

		xe_vex(&t->e, how, pp, i->map, i->opcode, reg, vvvv, rm);
	} else {
		xe_op(&t->e, how, i->map, i->opcode, reg, rm);
	}
}

static void immediates(struct xl_tr *t, const struct xl_form *f)
{
	for (unsigned k = 0; k < f->n; k++) {
		if (f->f[k].where == INSN_AT_IMM) {
			xe_n(&t->e, f->i->imm, f->f[k].bytes);
		} else if (f->f[k].where == INSN_AT_IS4) {
			xe_8(&t->e, f->f[k].host << 4);
		}
	}
}

/* A load that changes no flag, as most are: the address in two registers is quicker. */
static bool plain_load(struct xl_tr *t, const struct xl_form *f)
{
	const struct insn *i = f->i;
	bool mov = i->map == INSN_MAP_1 && i->opcode == 0x8b && i->op_bytes >= 4;

	if (xl_is_direct(t->to->kind) || t->joins[t->k].role || !f->mem || !mov || f->f[0].slot ||
	    t->f.recipe.uses & f->guest_written || xl_on_stack(i)) {
		return false;
	}
	t->r11_kept = false;
	xl_address(t);
	xl_check(t, f->mem_bytes, false);
	xe_load(&t->e, XR_CX, xl_mem(XR_CX, offsetof(struct soft_tlb_entry, host)));
	xe_op(&t->e, how_of(f), 0, 0x8b, f->f[0].host, xl_mem_index(XR_11, XR_CX, 0, 0));
	t->direct = false;
	return true;
}

/* The operand that the recipe will need goes to c->xl_in, if it may be needed. */
static void keep(struct xl_tr *t, struct xl_form *f)
{
	static const uint8_t loads[] = { [1] = 0xb6, [2] = 0xb7 };
	unsigned n = f->mem_bytes;

	if (!xl_sets_all(f->row) || !xf_in_the_way(t)) {
		return;
	}
	if (xl_form_needs_input(f)) {
		xe_store(&t->e, f->f[0].host, XG(xl_in));
		f->kept = true;
	} else if (xl_form_memory_in_cx(f)) {
		xl_access(t);
		xe_op(&t->e, n == 8 ? XE_W : 0, n < 4, n < 4 ? loads[n] : 0x8b, XR_CX, f->at);
		xe_store(&t->e, XR_CX, XG(xl_in));
		f->kept = t->kept = true;
	}
}

/* The same instruction with RCX in place of the register that it changes. */
static size_t with_cx(struct xl_tr *t, const struct xl_form *f, uint8_t *ret)
{
	struct xl_code saved = t->e;
	struct xl_form g = *f;

	t->e = (struct xl_code){ .at = ret, .end = ret + INSN_BYTES_MAX };
	g.f[0].host = XR_CX;
	with_modrm(t, &g, how_of(&g));
	immediates(t, &g);
	size_t n = (size_t)(t->e.at - ret);

	t->e = saved;
	return n;
}

static void write(struct xl_tr *t, const struct xl_form *f, bool reads)
{
	uint8_t again[INSN_BYTES_MAX];
	const uint8_t *begin = t->e.at, *bytes = begin;

	if (f->mem && !f->kept) {
		xl_access(t);
	}
	if (f->modrm) {
		with_modrm(t, f, how_of(f));
	} else {
		opcode_only(t, f, how_of(f));
	}
	immediates(t, f);
	size_t n = t->e.at <= t->e.end ? (size_t)(t->e.at - begin) : SIZE_MAX;

	if (f->kept && !f->mem) {
		n = with_cx(t, f, again);
		bytes = again;
	}
	xl_form_flags_after(t, f, reads, bytes, n);
}

/* VZEROUPPER, VZEROALL */
static bool vzero(struct xl_tr *t, const struct insn *i)
{
	insn_fn *fn = insn_table[i->row].fn;

	/* In 32-bit mode these leave the upper eight as they are. */
	if ((fn != op_vzeroupper && fn != op_vzeroall) || t->compat ||
	    !(t->c->features & BIT(insn_feature(i)))) {
		return false;
	}
	xv_need(t, XV_AVX);
	xe_8(&t->e, 0xc5);
	xe_8(&t->e, fn == op_vzeroall ? 0xfc : 0xf8);
	xe_8(&t->e, 0x77);
	return true;
}

/* Which of the guest's registers it changes; and if it only moves one a little. */
static void registers_after(struct xl_tr *t, const struct xl_form *f)
{
	int64_t v = (int64_t)f->i->imm;
	bool sums = xl_is(f, XO_ADD) || xl_is(f, XO_SUB);

	xl_wrote(t, f->guest_written | (f->row->imp & INSN_IMP_RCX ? (unsigned)BIT(CPU_RCX) : 0));
	if (xl_is(f, XO_MOVZX) && f->i->op_bytes >= 4) {
		t->made_small = f->guest_written;
	} else if (f->n == 2 && xl_has_imm(f) && f->i->op_bytes >= 4 && !f->mem && v >= 0 &&
		   v <= UINT16_MAX && (xl_is(f, XO_MOV) || xl_is(f, XO_AND))) {
		t->made_small = f->guest_written;
	}
	if (f->mem || f->n != 2 || !xl_is_wide(f->i) || f->i->prefix & INSN_VEX ||
	    f->f[0].file != INSN_FILE_GPR || f->row->imp) {
		return;
	}
	if ((xl_is(f, XO_XOR) || xl_is(f, XO_SUB)) && f->f[1].file == INSN_FILE_GPR &&
	    f->f[0].guest == f->f[1].guest) {
		xl_zeroed(t, f->f[0].guest);
	} else if (f->i->op_bytes == 4) {
		return;
	}
	if (sums && xl_has_imm(f) && v > -(1 << 30) && v < 1 << 30) {
		xl_moved(t, f->f[0].guest, f->f[0].guest,
			 xl_is(f, XO_ADD) ? (int32_t)v : -(int32_t)v);
	} else if (xl_is(f, XO_MOV) && f->f[1].file == INSN_FILE_GPR) {
		xl_moved(t, f->f[0].guest, f->f[1].guest, 0);
	}
}

static struct xl_form form_of(const struct xl_tr *t)
{
	const struct insn *i = &t->insns[t->k].i;

	return (struct xl_form){ .t = t, .i = i, .row = &insn_table[i->row],
				 .op = (uint8_t)xl_op(i), .mode = (enum insn_mode)t->b->mode };
}

bool xl_form_about(const struct xl_tr *t, struct xl_about *ret)
{
	const struct insn *i = &t->insns[t->k].i;
	struct xl_form f = form_of(t);
	int64_t v = (int64_t)i->imm;

	if (!parse(t, &f)) {
		return false;
	}
	ret->wrote = f.guest_written | (f.row->imp & INSN_IMP_RCX ? (unsigned)BIT(CPU_RCX) : 0);
	ret->access = f.mem && !f.aligned;
	ret->write = f.mem_written;
	ret->bytes = (uint8_t)f.mem_bytes;
	bool moves = !f.mem && f.n == 2 && i->op_bytes == 8 && f.f[0].file == INSN_FILE_GPR &&
		     !f.row->imp && xl_has_imm(&f) && v > -(1 << 30) && v < 1 << 30;

	if (moves && (xl_is(&f, XO_ADD) || xl_is(&f, XO_SUB))) {
		ret->moved = true;
		ret->to = f.f[0].guest;
		ret->by = xl_is(&f, XO_ADD) ? (int32_t)v : -(int32_t)v;
	}
	return true;
}

bool xl_form(struct xl_tr *t)
{
	const struct insn *i = &t->insns[t->k].i;
	struct xl_form f = form_of(t);

	if (vzero(t, i)) {
		xl_wrote(t, 0);
		return true;
	}
	if (xv_mxcsr(t)) {
		return true;
	}

	if (!parse(t, &f)) {
		return false;
	}
	registers_after(t, &f);
	t->r11_kept = true;
	for (unsigned k = 0; k < f.n; k++) {
		t->r11_kept &= !xl_field_is_scratch(&f.f[k]) || f.f[k].host != XR_11;
	}
	if (plain_load(t, &f)) {
		return true;
	}
	bool reads = xl_form_reads_flags(&f);
	bool seen = !reads || f.row->fr || xf_seen(t);

	if (f.mem) {
		f.at = xl_operand(t, f.mem_bytes, f.mem_written, f.aligned);
	}
	if (f.vec) {
		xv_need(t, f.vec);
	}
	if (reads && seen) {
		xf_need_host(t);
	}
	if (f.mem) {
		xl_access_first(t);
	}
	if (seen && (!xl_sets_all(f.row) || reads)) {
		xf_written(t, f.guest_written);   /* else nobody sees the old flags any more */
	}
	slots(t, &f, true);
	keep(t, &f);
	write(t, &f, reads);
	slots(t, &f, false);
	if (f.vec && f.row->imp & INSN_IMP_RCX) {
		xe_mov(&t->e, XR_10, XR_CX);
	}
	return true;
}
