/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>

#include "vm/cpu/soft/handlers.h"
#include "vm/cpu/soft/insn.h"
#include "vm/cpu/soft/native.h"
#include "vm/cpu/state.h"

/*
 * The bytes are copied into a buffer with zeros behind them, so that nothing here looks at an
 * end: what ran over it is found out at the end, or where an error is found.
 */
struct decode {
	uint8_t        bytes[40];
	size_t         n;
	unsigned       pos;
	enum insn_mode mode;
	struct insn   *i;
	bool           rex_r, rex_x, rex_b;
	uint8_t        pp;        /* INSN_PP_*: what stands as the mandatory prefix */
	uint8_t        seg;       /* override, or INSN_NONE */
	bool           asize;
};

static uint8_t take8(struct decode *d)
{
	return d->bytes[d->pos++];
}

static uint64_t take(struct decode *d, unsigned bytes)
{
	uint64_t v = 0;

	memcpy(&v, d->bytes + d->pos, bytes);
	d->pos += bytes;
	return v;
}

static int64_t sign_extend(uint64_t v, unsigned bytes)
{
	unsigned shift = 64 - 8 * bytes;

	return (int64_t)(v << shift) >> shift;
}

/* What the decoder says once it cannot go on, or is done with `error` 0. */
static int finish(const struct decode *d, int error)
{
	if (d->pos > d->n) {
		return d->n >= INSN_BYTES_MAX ? -E2BIG : 0;
	}
	return error ? error : (int)d->pos;
}

/* True if it was a prefix. */
static bool prefix_legacy(struct decode *d, uint8_t b)
{
	switch (b) {
	case 0x26: case 0x2e: case 0x36: case 0x3e:
		if (d->mode != INSN_MODE_64) {
			d->seg = (b >> 3) & 3;
		}
		return true;
	case 0x64: case 0x65:
		d->seg = (uint8_t)(CPU_FS + (b & 1));
		return true;
	case 0x66:
		d->i->prefix |= INSN_66;
		return true;
	case 0x67:
		d->asize = true;
		return true;
	case 0xf0:
		d->i->prefix |= INSN_LOCK;
		return true;
	case 0xf2: case 0xf3:
		d->i->prefix &= (uint8_t)~(INSN_REP | INSN_REPNE);
		d->i->prefix |= b == 0xf3 ? INSN_REP : INSN_REPNE;
		return true;
	default:
		return false;
	}
}

static void prefixes(struct decode *d)
{
	uint8_t rex = 0;

	while (d->pos < INSN_BYTES_MAX) {
		uint8_t b = d->bytes[d->pos];

		if (d->mode == INSN_MODE_64 && (b & 0xf0) == 0x40) {
			rex = b;
		} else if (prefix_legacy(d, b)) {
			rex = 0;   /* counts only right before the opcode */
		} else {
			break;
		}
		d->pos++;
	}
	if (rex) {
		d->i->prefix |= INSN_REX | (rex & 8 ? INSN_W : 0);
		d->rex_r = rex & 4;
		d->rex_x = rex & 2;
		d->rex_b = rex & 1;
	}
	d->pp = d->i->prefix & INSN_REP ? INSN_PP_F3 : d->i->prefix & INSN_REPNE ? INSN_PP_F2 :
		d->i->prefix & INSN_66 ? INSN_PP_66 : INSN_PP_NONE;
}

/* The rest of a VEX prefix whose first byte was taken; true if it is a legal one. */
static bool prefix_vex(struct decode *d, bool three)
{
	static const uint8_t pps[] = { INSN_PP_NONE, INSN_PP_66, INSN_PP_F3, INSN_PP_F2 };
	bool    clean = !(d->i->prefix & (INSN_LOCK | INSN_REP | INSN_REPNE | INSN_66 | INSN_REX));
	uint8_t b = take8(d);
	bool    long_mode = d->mode == INSN_MODE_64;
	unsigned map = INSN_MAP_0F;

	d->rex_r = !(b & 0x80);
	if (three) {
		d->rex_x = !(b & 0x40);
		d->rex_b = !(b & 0x20) && long_mode;
		map = b & 0x1f;
		b = take8(d);
		d->i->prefix |= b & 0x80 ? INSN_W : 0;
	}
	d->i->prefix |= INSN_VEX | (b & 4 ? INSN_VEX_L : 0);
	d->i->vvvv = (uint8_t)(~(b >> 3) & (long_mode ? 15 : 7));
	d->pp = pps[b & 3];
	d->i->map = map & 15;
	return clean && map >= INSN_MAP_0F && map <= INSN_MAP_0F3A;
}

/* Opcode and map; false: none of ours. */
static bool opcode(struct decode *d)
{
	struct insn *i = d->i;
	uint8_t b = take8(d);
	bool    vex = (b == 0xc4 || b == 0xc5) &&
		      (d->mode == INSN_MODE_64 || d->bytes[d->pos] >= 0xc0);

	if (b == 0x62 && (d->mode == INSN_MODE_64 || d->bytes[d->pos] >= 0xc0)) {
		d->pos++;
		return false;   /* EVEX */
	}
	if (vex) {
		bool legal = prefix_vex(d, b == 0xc4);

		i->opcode = take8(d);
		return legal;
	}
	i->map = INSN_MAP_1;
	if (b == 0x0f) {
		b = take8(d);
		i->map = INSN_MAP_0F;
		if (b == 0x38 || b == 0x3a) {
			i->map = b == 0x38 ? INSN_MAP_0F38 : INSN_MAP_0F3A;
			b = take8(d);
		}
	}
	i->opcode = b;
	return true;
}

static bool bit_matches(uint8_t want, bool have)
{
	return want == INSN_ANY || (want == INSN_X1) == have;
}

static bool row_matches(const struct decode *d, const struct insn_row *row)
{
	const struct insn *i = d->i;
	bool mem = (i->modrm < 0xc0) && !(row->attr & INSN_A_MOD3);

	return !(row->attr & (d->mode == INSN_MODE_64 ? INSN_A_I64 : INSN_A_O64)) &&
	       (!row->reg || row->reg == ((i->modrm >> 3) & 7) + 1) &&
	       (!row->rm || row->rm == (i->modrm & 7) + 1) &&
	       (row->mod == INSN_MOD_ANY || (row->mod == INSN_MOD_MEM) == mem) &&
	       bit_matches(row->w, i->prefix & INSN_W) &&
	       bit_matches(row->l, i->prefix & INSN_VEX_L);
}

/* The row of an opcode whose ModRM was taken: one that names the prefix goes before one that
 * does not care. NULL: none. */
static const struct insn_row *find_row(const struct decode *d, struct insn_rows list)
{
	const struct insn_row *any = NULL;

	for (unsigned n = 0; n < list.n; n++) {
		const struct insn_row *row = &insn_table[list.rows[n]];

		if (!row_matches(d, row)) {
			continue;
		}
		if (row->pp == d->pp) {
			return row;
		}
		if (row->pp == INSN_PP_ANY && !any) {
			any = row;
		}
	}
	return any;
}

/* IN, OUT, INS and OUTS know no 64 bits. */
static bool of_port(const struct insn_row *row)
{
	return row->map == INSN_MAP_1 && row->enc == INSN_LEGACY &&
	       ((row->opcode & 0xf4) == 0xe4 || (row->opcode & 0xfc) == 0x6c);
}

static uint8_t operand_size(const struct decode *d, const struct insn_row *row)
{
	const struct insn *i = d->i;
	const struct insn_facts *facts = &insn__facts[i->row];

	if (facts->size == INSN_SZ_1) {
		return 1;
	}
	if (facts->size == INSN_SZ_VEC) {
		return i->prefix & INSN_VEX_L ? 32 : 16;
	}
	if (i->prefix & INSN_VEX) {
		return i->prefix & INSN_W && d->mode == INSN_MODE_64 ? 8 : 4;
	}
	if (row->attr & INSN_A_F64 && (d->mode == INSN_MODE_64 || row->attr & INSN_A_MOD3)) {
		return d->mode == INSN_MODE_64 ? 8 : 4;
	}
	if (i->prefix & INSN_W) {
		return of_port(row) ? 4 : 8;
	}
	if (row->attr & INSN_A_D64 && d->mode == INSN_MODE_64) {
		return i->prefix & INSN_66 ? 2 : 8;
	}
	return (d->mode == INSN_MODE_16) != !!(i->prefix & INSN_66) ? 2 : 4;
}

static void memory_16(struct decode *d)
{
	static const uint8_t bases[] = { CPU_RBX, CPU_RBX, CPU_RBP, CPU_RBP, CPU_RSI, CPU_RDI,
					 CPU_RBP, CPU_RBX };
	struct insn *i = d->i;
	unsigned mod = i->modrm >> 6, rm = i->modrm & 7;

	i->base = bases[rm];
	if (rm < 4) {
		i->index = rm & 1 ? CPU_RDI : CPU_RSI;
	}
	if (mod == 0 && rm == 6) {
		i->base = INSN_NONE;
		mod = 2;
	}
	if (mod == 1) {
		i->disp = (int8_t)take8(d);
	} else if (mod == 2) {
		i->disp = (int16_t)take(d, 2);
	}
}

/* False: VSIB without a SIB byte. */
static bool memory_32(struct decode *d, bool vsib)
{
	struct insn *i = d->i;
	unsigned mod = i->modrm >> 6, rm = i->modrm & 7;
	bool     disp32 = mod == 2;

	if (rm == 4) {
		uint8_t sib = take8(d);
		uint8_t index = (uint8_t)(((sib >> 3) & 7) | (d->rex_x ? 8 : 0));

		i->scale = sib >> 6;
		i->index = index == 4 && !vsib ? INSN_NONE : index;
		rm = sib & 7;
		i->base = (uint8_t)(rm | (d->rex_b ? 8 : 0));
		if (mod == 0 && rm == 5) {
			i->base = INSN_NONE;
			disp32 = true;
		}
	} else if (vsib) {
		return false;
	} else {
		i->base = (uint8_t)(rm | (d->rex_b ? 8 : 0));
		if (mod == 0 && rm == 5) {
			i->base = d->mode == INSN_MODE_64 ? INSN_BASE_RIP : INSN_NONE;
			disp32 = true;
		}
	}
	if (mod == 1) {
		i->disp = (int8_t)take8(d);
	} else if (disp32) {
		i->disp = (int32_t)take(d, 4);
	}
	return true;
}

static bool memory(struct decode *d, const struct insn_row *row)
{
	struct insn *i = d->i;
	bool ok = true;

	if (i->ad_bytes == 2) {
		memory_16(d);
		ok = !(row->attr & INSN_A_VSIB);
	} else {
		ok = memory_32(d, row->attr & INSN_A_VSIB);
	}
	if (d->seg == INSN_NONE && (i->base == CPU_RSP || i->base == CPU_RBP)) {
		i->seg = CPU_SS;
	}
	return ok;
}

static void immediate(struct decode *d, enum insn_operand op)
{
	struct insn *i = d->i;
	unsigned z = i->op_bytes == 2 ? 2 : 4;

	switch ((unsigned)op) {
	case INSN_O_Ib:
		if (insn_table[i->row].ops[0] == INSN_O_Iw) {
			i->imm2 = take8(d);   /* ENTER */
		} else {
			i->imm = take8(d);
		}
		break;
	case INSN_O_Ibs: case INSN_O_Jb:
		i->imm = (uint64_t)sign_extend(take8(d), 1);
		break;
	case INSN_O_Iw:
		i->imm = take(d, 2);
		break;
	case INSN_O_Iz: case INSN_O_Jz:
		i->imm = (uint64_t)sign_extend(take(d, z), z);
		break;
	case INSN_O_Iv:
		i->imm = (uint64_t)sign_extend(take(d, i->op_bytes), i->op_bytes);
		break;
	case INSN_O_Ap:
		i->imm = take(d, z);
		i->imm2 = (uint16_t)take(d, 2);
		break;
	case INSN_O_Ob: case INSN_O_Ov:
		i->imm = take(d, i->ad_bytes);
		break;
	case INSN_O_L:
		i->is4 = take8(d) >> 4 & 15;
		if (d->mode != INSN_MODE_64) {
			i->is4 &= 7;
		}
		break;
	default:
		break;
	}
}

/* What an encoding of a known row may still be refused for. */
static bool legal(const struct decode *d, const struct insn_row *row)
{
	const struct insn *i = d->i;
	const struct insn_facts *facts = &insn__facts[i->row];

	if (i->prefix & INSN_LOCK && (!(row->attr & INSN_A_LOCK) || i->rm != INSN_NONE)) {
		return false;
	}
	for (unsigned o = 0; facts->picky && o < ARRAY_LEN(row->ops); o++) {
		const struct insn_operand_desc *desc = &insn_operands[row->ops[o]];

		if ((row->ops[o] == INSN_O_Sw &&
		     (i->reg > CPU_GS || (o == 0 && i->reg == CPU_CS))) ||
		    (desc->file == INSN_FILE_DR && i->reg > 7) ||
		    (desc->file == INSN_FILE_CR && !(BIT(i->reg) & 0x11d))) {
			return false;
		}
	}
	if (i->prefix & INSN_VEX && !facts->vvvv && i->vvvv) {
		return false;
	}
	/* The three registers of a gather must differ. */
	return !(row->attr & INSN_A_VSIB) ||
	       (i->reg != i->vvvv && i->reg != i->index && i->vvvv != i->index);
}

static void registers(struct decode *d, const struct insn_row *row, bool has_modrm)
{
	struct insn *i = d->i;
	unsigned first = insn_operands[row->ops[0]].where;

	i->reg = (uint8_t)((i->modrm >> 3) & 7);
	if (row->ops[0] == INSN_O_SEG) {
		i->reg = (i->opcode >> 3) & 7;
	} else if (row->ops[0] != INSN_O_Sw && row->ops[1] != INSN_O_Sw && d->rex_r) {
		i->reg |= 8;
	}
	if (!has_modrm) {
		if (first == INSN_AT_OPCODE) {
			i->rm = (uint8_t)((i->opcode & 7) | (d->rex_b ? 8 : 0));
		}
	} else if (i->modrm >= 0xc0 || row->attr & INSN_A_MOD3) {
		i->rm = (uint8_t)((i->modrm & 7) | (d->rex_b ? 8 : 0));
	}
	for (unsigned o = 0; insn__facts[i->row].eights && o < ARRAY_LEN(row->ops); o++) {
		unsigned file = insn_operands[row->ops[o]].file;

		/* Files of eight registers have no ninth. */
		if (file == INSN_FILE_MMX || file == INSN_FILE_ST) {
			if (insn_operands[row->ops[o]].where == INSN_AT_REG) {
				i->reg &= 7;
			} else if (i->rm != INSN_NONE) {
				i->rm &= 7;
			}
		}
	}
}

int insn_parse(const uint8_t *bytes, size_t n, enum insn_mode mode, struct insn *ret)
{
	struct decode d = { .mode = mode, .i = ret, .seg = INSN_NONE };
	struct insn_rows list = { 0 };
	const struct insn_row *row = NULL;

	if (n >= INSN_BYTES_MAX) {
		d.n = INSN_BYTES_MAX;
		memcpy(d.bytes, bytes, INSN_BYTES_MAX);
	} else {
		d.n = n;
		memcpy(d.bytes, bytes, n);
	}
	memset(ret, 0, sizeof(*ret));
	ret->rm = ret->base = ret->index = INSN_NONE;
	prefixes(&d);
	if (d.pos >= INSN_BYTES_MAX) {
		d.pos = INSN_BYTES_MAX + 1;
		return finish(&d, 0);
	}
	if (!opcode(&d)) {
		return finish(&d, -EINVAL);
	}
	list = insn__rows(ret->prefix & INSN_VEX ? INSN_IS_VEX : INSN_LEGACY,
			  (enum insn_map)ret->map, ret->opcode);
	if (list.n == 0) {
		return finish(&d, -EINVAL);
	}
	ret->modrm = list.modrm ? take8(&d) : 0;
	row = find_row(&d, list);
	if (!row) {
		return finish(&d, -EINVAL);
	}
	ret->row = (uint16_t)(row - insn_table);
	ret->op_bytes = operand_size(&d, row);
	ret->ad_bytes = mode == INSN_MODE_64 ? (d.asize ? 4 : 8) :
			((mode == INSN_MODE_16) != d.asize ? 2 : 4);
	ret->seg = d.seg != INSN_NONE ? d.seg : CPU_DS;
	registers(&d, row, list.modrm);
	if (list.modrm && ret->rm == INSN_NONE && !memory(&d, row)) {
		return finish(&d, -EINVAL);
	}
	for (const uint8_t *op = insn__facts[ret->row].imms; *op; op++) {
		immediate(&d, (enum insn_operand)*op);
	}
	ret->len = (uint8_t)d.pos;
	if (d.pos > d.n || !legal(&d, row)) {
		return finish(&d, -EINVAL);
	}
	ret->end = ret->len;
	return (int)d.pos;
}

void insn_bind(struct insn *i, enum insn_mode mode)
{
	const struct insn_row *row = &insn_table[i->row];

	if (row->pick) {
		i->fn = row->pick(i, mode);
	} else if (row->fn) {
		i->fn = insn_plain;
	} else {
		native_bind(i, mode);
	}
}

int insn_decode(const uint8_t *bytes, size_t n, enum insn_mode mode, struct insn *ret)
{
	int len = insn_parse(bytes, n, mode, ret);

	if (len > 0) {
		insn_bind(ret, mode);
	}
	return len;
}
