/* SPDX-License-Identifier: Apache-2.0 */
#include "vm/cpu/soft/oracle-random.h"

uint64_t random_state = 1;

uint64_t rnd64(void)
{
	random_state += UINT64_C(0x9e3779b97f4a7c15);
	uint64_t z = random_state;

	z = (z ^ z >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
	z = (z ^ z >> 27) * UINT64_C(0x94d049bb133111eb);
	return z ^ z >> 31;
}

uint32_t rnd(uint32_t below)
{
	return (uint32_t)((rnd64() >> 32) * below >> 32);
}

/* --- State --- */

uint64_t edge64(void)
{
	static const uint64_t edges[] = {
		0, 1, 2, 0x7f, 0x80, 0xff, 0x7fff, 0x8000, 0xffff, 0x7fffffff, 0x80000000,
		0xffffffff,
		UINT64_C(0x7fffffffffffffff), UINT64_C(0x8000000000000000), UINT64_MAX,
		UINT64_C(0x100000000), UINT64_C(0xffffffff00000000), 31, 32, 63, 64,
	};

	switch (rnd(4)) {
	case 0:
		return edges[rnd(ARRAY_LEN(edges))];
	case 1:
		return rnd64() >> rnd(64);
	case 2:
		return edges[rnd(ARRAY_LEN(edges))] - rnd(3);
	default:
		return rnd64();
	}
}

static uint32_t edge_float(void)
{
	static const uint32_t edges[] = {
		0, 0x80000000, 1, 0x007fffff, 0x00800000, 0x3f800000, 0xbf800000, 0x7f7fffff,
		0x7f800000, 0xff800000, 0x7fc00000, 0x7f800001, 0xffc01234, 0x4f000000, 0xcf000000,
		0x5f000000, 0x3effffff, 0x3f000000, 0x80000001,
	};

	return rnd(3) ? edges[rnd(ARRAY_LEN(edges))] : (uint32_t)rnd64();
}

static uint64_t edge_double(void)
{
	static const uint64_t edges[] = {
		0, UINT64_C(0x8000000000000000), 1, UINT64_C(0x000fffffffffffff),
		UINT64_C(0x0010000000000000), UINT64_C(0x3ff0000000000000),
		UINT64_C(0xbff0000000000000), UINT64_C(0x7fefffffffffffff),
		UINT64_C(0x7ff0000000000000), UINT64_C(0xfff0000000000000),
		UINT64_C(0x7ff8000000000000), UINT64_C(0x7ff0000000000001),
		UINT64_C(0x41dfffffffc00000), UINT64_C(0x41e0000000000000),
		UINT64_C(0x43e0000000000000), UINT64_C(0x3fe0000000000000),
		UINT64_C(0x47efffffe0000000), UINT64_C(0x36a0000000000000),
	};

	return rnd(3) ? edges[rnd(ARRAY_LEN(edges))] : rnd64();
}

void random_bytes(uint8_t *to, size_t n)
{
	unsigned kind = rnd(3);

	for (size_t k = 0; k < n; k += 8) {
		uint64_t v = kind == 0 ? rnd64() : kind == 1 ? edge_double() :
			     edge_float() | (uint64_t)edge_float() << 32;

		memcpy(to + k, &v, n - k < 8 ? n - k : 8);
	}
}

static void random_st(uint8_t *to)
{
	static const uint16_t exponents[] = { 0, 0x7fff, 0x3fff, 0xbfff, 0x8000, 0xffff, 0x403e, 1,
					      0x7ffe };
	static const uint64_t fractions[] = {
		0, UINT64_C(0x8000000000000000), 1, UINT64_MAX, UINT64_C(0xc000000000000000),
		UINT64_C(0x7fffffffffffffff), UINT64_C(0xa000000000000000),
	};
	uint64_t fraction = rnd(2) ? fractions[rnd(ARRAY_LEN(fractions))] : rnd64() | BIT(63);
	uint16_t exponent = rnd(2) ? exponents[rnd(ARRAY_LEN(exponents))] :
			    (uint16_t)(0x3fff + rnd(128) - 64 + (rnd(2) << 15));

	memcpy(to, &fraction, 8);
	memcpy(to + 8, &exponent, 2);
}

/* x87, SSE and AVX, in the standard format of XSAVE. */
void random_xsave(uint8_t *x)
{
	uint16_t fcw = (uint16_t)(0x40 | rnd(16) << 8 | (rnd(8) ? 0x3f : rnd(64)));
	uint16_t fsw = (uint16_t)(rnd(8) << 11 | (rnd(4) ? 0 : rnd(128) | rnd(8) << 8));
	uint32_t mxcsr = (rnd(8) ? 0x1f80 : rnd(64) << 7) | (rnd(2) ? rnd(4) << 13 : 0) |
			 (rnd(2) ? rnd(64) : 0) | (rnd(8) ? 0 : 0x8000) | (rnd(8) ? 0 : 0x40);
	uint32_t mask = 0xffff;
	uint64_t bv = 7;

	if (fsw & ~fcw & 0x3f) {
		if (rnd(8)) {
			fsw &= (uint16_t)~0x3f;
		} else {
			fsw |= 0x8080;
		}
	}
	memset(x, 0, CPU_XSAVE_BYTES);
	memcpy(x, &fcw, 2);
	memcpy(x + 2, &fsw, 2);
	x[4] = rnd(2) ? (uint8_t)rnd(256) : 0xff;
	memcpy(x + 24, &mxcsr, 4);
	memcpy(x + 28, &mask, 4);
	for (unsigned k = 0; k < 8; k++) {
		random_st(x + 32 + 16 * k);
	}
	random_bytes(x + 160, 256);
	memcpy(x + 512, &bv, 8);
	random_bytes(x + 576, 256);
}

void random_registers(struct soft_cpu *c)
{
	static const unsigned arith = SOFT_ARITH | CPU_FLAG_OF;

	for (unsigned k = 0; k < CPU_REG__COUNT; k++) {
		c->s.gpr[k] = edge64();
	}
	soft_flags_set(c, (rnd64() & arith) | CPU_FLAG_IF | (rnd(8) ? 0 : CPU_FLAG_DF));
	random_xsave(c->s.xsave);
}

/* Bytes of the form that a row describes, all that it leaves open at random. */
void random_insn(const struct insn_row *row, enum insn_mode mode, uint8_t *b)
{
	static const uint8_t pps[] = { 0, 0, 0x66, 0xf3, 0xf2 };
	static const uint8_t vex_pps[] = { 0, 0, 1, 2, 3 };
	struct insn_rows rows = insn__rows(row->enc, (enum insn_map)row->map, row->opcode);
	uint8_t opcode = (uint8_t)(row->opcode + rnd(row->n_opcodes));
	uint8_t modrm = (uint8_t)rnd(256);
	uint8_t rex = (uint8_t)rnd(16);
	bool w = row->w ? row->w == INSN_X1 : rnd(2), l = row->l ? row->l == INSN_X1 : rnd(2);
	unsigned n = 0;

	for (unsigned k = 0; k < 15; k++) {
		b[k] = (uint8_t)rnd(256);
	}
	if (row->mod) {
		modrm = (uint8_t)((row->mod == INSN_MOD_REG ? 3 : rnd(3)) << 6 | (modrm & 0x3f));
	} else if (rnd(2)) {
		modrm |= 0xc0;
	}
	if (row->reg) {
		modrm = (uint8_t)((modrm & 0xc7) | (row->reg - 1) << 3);
	}
	if (row->rm) {
		modrm = (uint8_t)((modrm & 0xf8) | (row->rm - 1));
	}
	if (row->attr & INSN_A_LOCK && modrm < 0xc0 && rnd(4) == 0) {
		b[n++] = 0xf0;
	}
	if (rnd(16) == 0) {
		b[n++] = 0x67;
	}
	if (row->enc == INSN_IS_VEX) {
		bool vvvv = false;

		for (unsigned o = 0; o < ARRAY_LEN(row->ops); o++) {
			vvvv |= insn_operands[row->ops[o]].where == INSN_AT_VVVV;
		}
		b[n++] = 0xc4;
		b[n++] = (uint8_t)((mode == INSN_MODE_64 ? rnd(8) : 7) << 5 | row->map);
		b[n++] = (uint8_t)((w ? 0x80 : 0) | (vvvv ? rnd(16) : 15) << 3 | (l ? 4 : 0) |
				   vex_pps[row->pp]);
	} else {
		if (row->pp <= INSN_PP_ANY && rnd(4) == 0) {
			b[n++] = 0x66;
		} else if (row->pp > INSN_PP_66 && row->map != INSN_MAP_1 && rnd(8) == 0) {
			b[n++] = 0x66;
		}
		if (pps[row->pp]) {
			b[n++] = pps[row->pp];
		}
		if (mode == INSN_MODE_64 && (rnd(2) || row->w == INSN_X1)) {
			b[n++] = (uint8_t)(0x40 | (rex & 7) | (w ? 8 : 0));
		}
		if (row->map != INSN_MAP_1) {
			b[n++] = 0x0f;
		}
		if (row->map > INSN_MAP_0F) {
			b[n++] = row->map == INSN_MAP_0F38 ? 0x38 : 0x3a;
		}
	}
	b[n++] = opcode;
	if (rows.modrm) {
		b[n++] = modrm;
	}
}

/* Make registers or the displacement so that the operand is at `target`; false: cannot. */
bool random_aim(struct soft_cpu *c, uint64_t code, uint8_t *b, struct insn *i, uint64_t target,
		bool bit_string)
{
	uint64_t sum = (uint64_t)(int64_t)i->disp;
	struct insn again;

	/* The bit offset is an operand, too: near, and not what addresses. */
	if (bit_string) {
		if (i->reg == i->base || i->reg == i->index) {
			return false;
		}
		c->s.gpr[i->reg] = (c->s.gpr[i->reg] & 0xff) - 128;
	}
	if (i->base == INSN_BASE_RIP || (i->base == INSN_NONE && i->index == INSN_NONE)) {
		int32_t disp = (int32_t)(target - (i->base == INSN_BASE_RIP ? code + i->len : 0));
		int bytes = i->ad_bytes == 2 ? 2 : 4;

		disp = bytes == 2 ? (int16_t)disp : disp;
		for (int at = 1; at + bytes <= i->len; at++) {
			uint8_t t[16] = { 0 };

			memcpy(t, b, 15);
			memcpy(t + at, &disp, (size_t)bytes);
			int n = insn_decode(t, 15, (enum insn_mode)c->mode, &again);

			if (n == i->len && again.disp == disp && again.base == i->base &&
			    again.index == i->index && again.row == i->row) {
				memcpy(b, t, 15);
				*i = again;
				return true;
			}
		}
		return false;
	}
	if (i->base == i->index) {
		return false;
	}
	if (i->base == INSN_NONE) {
		c->s.gpr[i->index] = (target - sum) >> i->scale;
	} else {
		if (i->index != INSN_NONE) {
			sum += c->s.gpr[i->index] << i->scale;
		}
		c->s.gpr[i->base] = target - sum;
	}
	return true;
}
