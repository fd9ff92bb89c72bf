/* SPDX-License-Identifier: Apache-2.0 */
#include "vm/cpu/soft/handlers.h"
#include "vm/cpu/soft/insn.h"
#include "vm/cpu/soft/int.h"
#include "vm/cpu/soft/native.h"

#define INSN__DESC(name, where_, file_, reg_, mem_) \
	[INSN_O_##name] = { INSN_AT_##where_, INSN_FILE_##file_, INSN_SZ_##reg_, INSN_SZ_##mem_ },
const struct insn_operand_desc insn_operands[INSN_O__COUNT] = { INSN_OPERANDS(INSN__DESC) };

/* The words of the rows. */
#define O0           .ops = { INSN_O_NONE }
#define O1(a)        .ops = { INSN_O_##a }
#define O2(a, b)     .ops = { INSN_O_##a, INSN_O_##b }
#define O3(a, b, c)  .ops = { INSN_O_##a, INSN_O_##b, INSN_O_##c }
#define O4(a, b, c, d) .ops = { INSN_O_##a, INSN_O_##b, INSN_O_##c, INSN_O_##d }
#define I(map_, opcode_, name_, ...) \
	{ .name = #name_, .map = INSN_MAP_##map_, .opcode = (opcode_), .n_opcodes = 1, __VA_ARGS__ }
#define I8(map_, opcode_, name_, ...) \
	{ .name = #name_, .map = INSN_MAP_##map_, .opcode = (opcode_), .n_opcodes = 8, __VA_ARGS__ }
#define I16(map_, opcode_, name_, ...) \
	{ .name = #name_, .map = INSN_MAP_##map_, .opcode = (opcode_), .n_opcodes = 16, \
	  __VA_ARGS__ }
#define REG(n)       .reg = (n) + 1
#define EXACT(r, m)  .reg = (r) + 1, .rm = (m) + 1, .mod = INSN_MOD_REG
#define MEM          .mod = INSN_MOD_MEM
#define MOD3         .mod = INSN_MOD_REG
#define NP           .pp = INSN_PP_NONE
#define P66          .pp = INSN_PP_66
#define F3           .pp = INSN_PP_F3
#define F2           .pp = INSN_PP_F2
#define A2(a, b)     (INSN_A_##a | INSN_A_##b)
#define A3(a, b, c)  (INSN_A_##a | INSN_A_##b | INSN_A_##c)
#define A(a, b)      A2(a, b)
#define F_C INSN_CF
#define F_P INSN_PF
#define F_A INSN_AF
#define F_Z INSN_ZF
#define F_S INSN_SF
#define F_O INSN_OF
#define F_D INSN_DF
#define F_ALL        (F_C | F_P | F_A | F_Z | F_S | F_O)
#define RAX          INSN_IMP_RAX
#define RDX          INSN_IMP_RDX
#define RCX          INSN_IMP_RCX
#define IXMM0        INSN_IMP_XMM0
#define C3           INSN_IMPLICIT
#define C4           INSN_HELPER
#define C5           INSN_NEVER
#define CF           INSN_FLOW

const struct insn_row insn_table[] = {
#include "vm/cpu/soft/rows-int.tbl"
#include "vm/cpu/soft/rows-x87.tbl"
#include "vm/cpu/soft/rows-sse.tbl"
#include "vm/cpu/soft/rows-avx.tbl"
};
const size_t insn_table_len = ARRAY_LEN(insn_table);

/* Rows by encoding, map and opcode: those of a slot are rows[first] ... in order. */
enum { ROWS_MAX = 4096, SLOTS = 2 * INSN_MAP__COUNT * 256 };

static struct {
	uint16_t first[SLOTS + 1];
	uint16_t rows[ROWS_MAX];
	bool     modrm[SLOTS];
} rows_index;

static unsigned slot_of(const struct insn_row *row, unsigned n)
{
	return (row->enc * INSN_MAP__COUNT + row->map) * 256u + row->opcode + n;
}

static bool needs_modrm(const struct insn_row *row)
{
	bool needed = row->reg || row->rm || row->mod || row->attr & INSN_A_MOD3;

	for (unsigned o = 0; o < ARRAY_LEN(row->ops); o++) {
		unsigned where = insn_operands[row->ops[o]].where;

		needed |= where == INSN_AT_RM || where == INSN_AT_REG;
	}
	return needed;
}

static uint8_t size_by_row(const struct insn_row *row)
{
	unsigned where = insn_operands[row->ops[0]].where;
	unsigned key = row->ops[0];

	if (row->ops[1] && (row->ops[0] == INSN_O_DX || where == INSN_AT_IMM)) {
		key = row->ops[1];   /* OUT and OUTS */
	}
	if (insn_operands[key].reg_bytes == 1 && insn_operands[key].where != INSN_AT_IMM) {
		return INSN_SZ_1;
	}
	if (insn_operands[key].mem_bytes == 1 && insn_operands[key].file == INSN_FILE_NONE &&
	    insn_operands[key].where != INSN_AT_RM) {
		return INSN_SZ_1;    /* strings and moffs */
	}
	for (unsigned o = 0; o < ARRAY_LEN(row->ops); o++) {
		if (insn_operands[row->ops[o]].reg_bytes == INSN_SZ_VEC) {
			return INSN_SZ_VEC;
		}
	}
	return INSN_SZ_V;
}

struct insn_facts insn__facts[ARRAY_LEN(insn_table)];

static void find_facts(const struct insn_row *row, struct insn_facts *ret)
{
	uint8_t *imm = ret->imms;

	ret->size = size_by_row(row);
	for (unsigned o = 0; o < ARRAY_LEN(row->ops); o++) {
		const struct insn_operand_desc *d = &insn_operands[row->ops[o]];

		if (d->where == INSN_AT_IMM || d->where == INSN_AT_MOFFS || d->where == INSN_AT_IS4) {
			assert(imm < ret->imms + ARRAY_LEN(ret->imms) - 1);
			*imm++ = row->ops[o];
		}
		ret->eights |= d->file == INSN_FILE_MMX || d->file == INSN_FILE_ST;
		ret->picky |= row->ops[o] == INSN_O_Sw || d->file == INSN_FILE_DR ||
			      d->file == INSN_FILE_CR;
		ret->vvvv |= d->where == INSN_AT_VVVV;
	}
}

/* Before main(), so that every thread finds it made. */
__attribute__((constructor)) static void index_rows(void)
{
	uint16_t at[SLOTS] = { 0 };

	for (size_t r = 0; r < insn_table_len; r++) {
		find_facts(&insn_table[r], &insn__facts[r]);
		for (unsigned n = 0; n < insn_table[r].n_opcodes; n++) {
			unsigned slot = slot_of(&insn_table[r], n);

			rows_index.first[slot + 1]++;
			rows_index.modrm[slot] |= needs_modrm(&insn_table[r]);
		}
	}
	for (unsigned s = 0; s < SLOTS; s++) {
		rows_index.first[s + 1] = (uint16_t)(rows_index.first[s + 1] + rows_index.first[s]);
		at[s] = rows_index.first[s];
	}
	assert(rows_index.first[SLOTS] <= ROWS_MAX);
	for (size_t r = 0; r < insn_table_len; r++) {
		for (unsigned n = 0; n < insn_table[r].n_opcodes; n++) {
			rows_index.rows[at[slot_of(&insn_table[r], n)]++] = (uint16_t)r;
		}
	}
}

struct insn_rows insn__rows(unsigned enc, enum insn_map map, uint8_t opcode)
{
	unsigned slot = (enc * INSN_MAP__COUNT + map) * 256u + opcode;
	unsigned first = rows_index.first[slot];

	return (struct insn_rows){ .rows = &rows_index.rows[first],
				   .n = rows_index.first[slot + 1] - first,
				   .modrm = rows_index.modrm[slot] };
}

static unsigned size_of(const struct insn *i, enum insn_mode mode, unsigned size)
{
	unsigned vector = i->prefix & INSN_VEX_L ? 32 : 16;

	switch (size) {
	case INSN_SZ_V: return i->op_bytes;
	case INSN_SZ_Z: return i->op_bytes < 4 ? i->op_bytes : 4;
	case INSN_SZ_Y: return i->prefix & INSN_W && mode == INSN_MODE_64 ? 8 : 4;
	case INSN_SZ_P: return i->op_bytes + 2u;
	case INSN_SZ_A: return i->op_bytes * 2u;
	case INSN_SZ_S: return mode == INSN_MODE_64 ? 10 : 6;
	case INSN_SZ_VEC: return vector;
	case INSN_SZ_XH: return vector / 2;
	case INSN_SZ_XQ: return vector / 4;
	case INSN_SZ_XE: return vector / 8;
	default: return size;
	}
}

unsigned insn_reg_bytes(const struct insn *i, enum insn_mode mode, enum insn_operand op)
{
	return size_of(i, mode, insn_operands[op].reg_bytes);
}

unsigned insn_mem_bytes(const struct insn *i, enum insn_mode mode, enum insn_operand op)
{
	return size_of(i, mode, insn_operands[op].mem_bytes);
}

enum insn_feature insn_feature(const struct insn *i)
{
	enum insn_feature feature = (enum insn_feature)insn_table[i->row].feature;

	if (feature == INSN_F_AVX_INT) {
		return i->prefix & INSN_VEX_L ? INSN_F_AVX2 : INSN_F_AVX;
	}
	return feature;
}
