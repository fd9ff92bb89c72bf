/* SPDX-License-Identifier: Apache-2.0 */
#include "vm/cpu/soft/random-program.h"

#include <stdio.h>

#include "vm/cpu/soft/handlers.h"
#include "vm/cpu/soft/int.h"
#include "vm/cpu/soft/oracle-random.h"
#include "vm/cpu/soft/priv.h"

enum { STRINGS = 24 };   /* one in so many instructions */

static struct random_program *program;       /* which is written */

static bool named(const struct insn_row *row, const char *names)
{
	char word[24];

	(void)snprintf(word, sizeof(word), " %s ", row->name);
	return strstr(names, word) != NULL;
}

/* --- Pieces --- */

static uint8_t *at, *piece_end;              /* while one is written: the next byte */

static bool put(const void *bytes, size_t n)
{
	if (at + n > piece_end) {
		return false;
	}
	memcpy(at, bytes, n);
	at += n;
	return true;
}

static uint64_t address_of(const uint8_t *p)
{
	return CODE + (uint64_t)(p - program->code);
}

static uint32_t piece_address(unsigned k)
{
	return (uint32_t)(program->first + (uint64_t)k * PIECE);
}

/* MOV of a number to a register. */
static bool put_number(unsigned reg, uint32_t v)
{
	uint8_t b[7] = { (uint8_t)(0x48 | (reg >= 8)), 0xc7, (uint8_t)(0xc0 | (reg & 7)) };

	if (program->mode == INSN_MODE_32) {
		b[0] = (uint8_t)(0xb8 | reg);
		memcpy(b + 1, &v, 4);
		return put(b, 5);
	}
	memcpy(b + 3, &v, 4);
	return put(b, sizeof(b));
}

/* The same for an address. In 64-bit mode there are pages for it in the upper half, too. */
static bool put_pointer(unsigned reg, uint32_t v)
{
	uint8_t bts[5] = { (uint8_t)(0x48 | (reg >= 8)), 0x0f, 0xba, (uint8_t)(0xe8 | (reg & 7)),
			   HIGH_BIT };

	return put_number(reg, v) &&
	       (program->mode == INSN_MODE_32 || rnd(3) || put(bts, sizeof(bts)));
}

static uint32_t target(unsigned bytes)
{
	static const uint8_t pages[] = { 0, 1, 2, 3, 4, 6, 6, 16, 16, 16, 17, 17, 18, 18, 19, 19 };
	uint32_t page = DATA + 4096u * pages[rnd(sizeof(pages))];

	switch (rnd(8)) {
	case 0:
		return page - rnd(bytes + 9);
	case 1:
		return page + 4096 - rnd(bytes + 9);
	case 2:
		return page + 2048 + rnd(64);
	default:
		return page + 1024 + (rnd(256) & ~15u);
	}
}

static bool runnable(const struct insn_row *row)
{
	if (named(row, " rdtsc rdtscp rdpmc cpuid rdpid rdrand rdseed xgetbv xsaveopt"
		       " wrfsbase wrgsbase ") ||
	    (row->attr & (program->mode == INSN_MODE_64 ? INSN_A_I64 : INSN_A_O64) && rnd(32))) {
		return false;
	}
	/* Those that go elsewhere are written by intention; privileged ones are one fault each. */
	if (named(row, " jmp call ret jmpf callf retf iret ") ||
	    row->fn == op_int || (row->cls == INSN_FLOW && (row->map == INSN_MAP_1 || rnd(16))) ||
	    (row->cls == INSN_HELPER && rnd(16))) {
		return false;
	}
	return true;
}

/* FLDCW of a word that masks all exceptions, mostly. */
static bool put_control(void)
{
	uint8_t b[17] = { 0x66, 0xc7, 0x04, 0x25, [10] = 0xd9, 0x2c, 0x25 };
	uint32_t word = COUNTER + 16;
	uint16_t control = (uint16_t)((rnd(16) << 8 | 0x7f) & ~(rnd(4) ? 0 : rnd(64)));

	memcpy(b + 4, &word, 4);
	memcpy(b + 8, &control, 2);
	memcpy(b + 13, &word, 4);
	return put(b, sizeof(b));
}

/* The same for LDMXCSR, and STMXCSR. */
static bool put_mxcsr(void)
{
	uint8_t b[19] = { 0xc7, 0x04, 0x25, [11] = 0x0f, 0xae, 0x14, 0x25 };
	uint32_t word = COUNTER + 16, v = 0x1f80;

	v |= rnd(4) << 13 | rnd(2) << 15 | rnd(8);
	v = rnd(4) ? v : rnd(2) ? v & ~rnd(0x2000) : v | 1u << rnd(32);
	b[13] = rnd(3) ? 0x14 : 0x1c;
	memcpy(b + 3, &word, 4);
	memcpy(b + 7, &v, 4);
	memcpy(b + 15, &word, 4);
	return put(b, sizeof(b));
}

/* REP MOVS or STOS over the ends of pages, some of which are not there. */
static bool put_rep(void)
{
	static const uint8_t opcodes[] = { 0xa4, 0xa5, 0xaa, 0xab };
	uint8_t b[4], *before = at;
	size_t n = 0;
	uint32_t to = rnd(4) ? target(64) & ~4095u : target(64), page = rnd(4) * 4096;

	if (rnd(4) == 0) {
		b[n++] = 0x66;
	}
	b[n++] = 0xf3;
	if (program->mode == INSN_MODE_64 && rnd(3) == 0) {
		b[n++] = 0x48;
	}
	b[n++] = opcodes[rnd(sizeof(opcodes))];
	if (put_pointer(CPU_RSI, target(64) - page) && put_pointer(CPU_RDI, to) &&
	    put_number(CPU_RCX, rnd(4) ? rnd(600) : rnd(9000)) && put(b, n)) {
		return true;
	}
	at = before;
	return false;
}

static bool put_random(void)
{
	const struct insn_row *row = &insn_table[rnd((uint32_t)insn_table_len)];
	uint8_t b[16] = { 0 };
	struct insn i;

	/* Integer code is what there is most of. */
	if (!runnable(row) || (row->attr & (INSN_A_SSE | INSN_A_MMX | INSN_A_X87) && rnd(3)) ||
	    (row->enc == INSN_IS_VEX && rnd(3))) {
		return true;
	}
	if (rnd(STRINGS) == 0) {
		return put_rep();
	}
	if (row->attr & INSN_A_X87CTL && rnd(4)) {
		return put_control();
	}
	if ((row->fn == op_ldmxcsr || row->fn == op_stmxcsr) && rnd(4)) {
		return put_mxcsr();
	}
	random_insn(row, program->mode, b);
	if (insn_decode(b, 15, program->mode, &i) <= 0 || (soft_block_ends(&i) && rnd(8))) {
		return true;
	}
	const uint8_t *before = at;
	bool fits = true;

	if (i.rm == INSN_NONE && rnd(8)) {
		if (i.base < CPU_REG__COUNT) {
			fits = put_pointer(i.base, target(8) - (uint32_t)i.disp);
		} else if (i.base == INSN_BASE_RIP) {
			int32_t disp = (int32_t)(target(8) - (uint32_t)(address_of(at) + i.len));

			memcpy(b + i.len - 4, &disp, 4);   /* right where no immediate follows */
		}
		if (i.index != INSN_NONE && i.index != i.base) {
			fits = fits && put_number(i.index, rnd(8));
		}
	}
	if (insn_operands[row->ops[0]].where == INSN_AT_MOFFS ||
	    insn_operands[row->ops[1]].where == INSN_AT_MOFFS) {
		uint32_t to = target(8);

		memcpy(b + i.len - i.ad_bytes, &to, MIN(i.ad_bytes, 4u));
	}
	if (row->attr & INSN_A_STRING || named(row, " movs stos lods cmps scas ")) {
		fits = put_pointer(CPU_RSI, target(8)) && put_pointer(CPU_RDI, target(8)) &&
		       put_number(CPU_RCX, rnd(8) ? rnd(40) : rnd(6000));
	}
	if (row->attr & INSN_A_STACK && rnd(4) == 0) {
		fits = put_pointer(CPU_RSP, rnd(4) ? STACKS + 2048 + 8 * rnd(8) : target(8));
	}
	if (!fits || !put(b, i.len)) {
		at = (uint8_t *)before;
		return false;
	}
	return true;
}

/* Away at once if there was too much already. */
static void put_count(void)
{
	uint8_t b[16] = { 0x83, 0x2c, 0x25, 0, 0, 0, 0, 1, 0x79, 2, 0xcd, END_VECTOR };
	uint32_t counter = COUNTER;

	memcpy(b + 3, &counter, 4);
	(void)put(b, 12);                            /* sub $1, counter; jns on; int */
}

static void put_jump(uint8_t opcode, uint32_t to)
{
	uint8_t b[5] = { opcode };
	int32_t distance = (int32_t)(to - (uint32_t)(address_of(at) + 5));

	memcpy(b + 1, &distance, 4);
	(void)put(b, sizeof(b));
}

static void put_jcc(unsigned cond, uint32_t to)
{
	uint8_t b[6] = { 0x0f, (uint8_t)(0x80 | cond) };
	int32_t distance = (int32_t)(to - (uint32_t)(address_of(at) + 6));

	memcpy(b + 2, &distance, 4);
	(void)put(b, sizeof(b));
}

static void put_indirect(bool call, uint32_t to)
{
	static const uint8_t regs[] = { 0, 1, 2, 3, 6, 7, 8, 9, 10, 11, 15 };
	unsigned reg = regs[rnd(program->mode == INSN_MODE_64 ? sizeof(regs) : 6)];
	uint8_t b[3] = { (uint8_t)(0x40 | (reg >= 8)), 0xff,
			 (uint8_t)((call ? 0xd0 : 0xe0) | (reg & 7)) };

	(void)put_number(reg, to);
	(void)put(b + (program->mode == INSN_MODE_32), program->mode == INSN_MODE_64 ? 3 : 2);
}

/* A store over the spare bytes that a piece begins with, perhaps through the other address of
 * that page, perhaps of this very piece. */
static void put_patch(unsigned self)
{
	static const uint8_t patches[][4] = {
		{ 0x90, 0x90, 0x90, 0x90 }, { 0x83, 0xc0, 0x05, 0x90 }, { 0x31, 0xd1, 0x66, 0x90 },
		{ 0x0f, 0x0b, 0x90, 0x90 }, { 0xeb, 0x00, 0x90, 0x90 }, { 0x0f, 0x1f, 0x40, 0x00 },
		{ 0x48, 0xff, 0xc7, 0xf8 }, { 0xeb, 0x02, 0x0f, 0x0b },
	};
	unsigned k = rnd(4) ? rnd(PIECES) : self;
	uint32_t to = piece_address(k) + (rnd(2) ? CODE_ALIAS : 0);
	uint8_t b[12] = { 0xc7, 0x04, 0x25 };

	memcpy(b + 3, &to, 4);
	memcpy(b + 7, patches[rnd(ARRAY_LEN(patches))], 4);
	(void)put(b, 11);
}

static void put_end(unsigned k)
{
	unsigned to = rnd(PIECES), forward = k + 1 + rnd(PIECES - k);
	unsigned what = rnd(16);

	piece_end += 30;                             /* that were kept for this */
	if (what < 4) {
		put_jcc(rnd(16), piece_address(forward));
	} else if (what < 7) {
		put_count();
		put_jcc(rnd(16), piece_address(to));
	} else if (what == 7) {
		put_count();
		put_jump(0xe9, piece_address(to));
	} else if (what < 10) {
		put_count();
		put_jump(0xe8, piece_address(rnd(2) ? to : forward));
	} else if (what < 12) {
		bool plain = rnd(4) != 0;

		put_count();
		(void)put(plain ? "\xc3" : "\xc2\x10\x00", plain ? 1 : 3);
	} else if (what == 12) {
		put_count();
		put_indirect(rnd(2), piece_address(to));
	} else if (what < 15) {
		put_patch(k);
	}
}

static void make_piece(unsigned k)
{
	uint8_t *begin = program->code + (program->first - CODE) + (size_t)k * PIECE;

	memset(begin, 0x90, PIECE);
	at = begin;
	piece_end = begin + PIECE - 30;
	(void)put("\x0f\x1f\x40\x00", 4);            /* to be written over */
	while (rnd(12) && put_random()) {
	}
	put_end(k);
	piece_end = begin + PIECE;
	if (rnd(2) && at + 2 <= piece_end) {
		uint8_t rest[2] = { 0xeb, (uint8_t)(piece_end - at - 2) };

		(void)put(rest, 2);
	}
}

/* --- Loops --- */

static unsigned pointer, rounds;             /* registers of the loop that is written */

static unsigned other_register(void)
{
	unsigned reg = CPU_RSP;

	while (reg == CPU_RSP || reg == pointer || reg == rounds) {
		reg = rnd(program->mode == INSN_MODE_64 ? 16 : 8);
	}
	return reg;
}

/* An instruction with ModRM: of two registers, or of one and a place near the pointer. */
static bool put_op(const char *opcode, unsigned n, unsigned reg, unsigned rm, bool memory)
{
	uint8_t b[8] = { 0 };
	unsigned at_b = 0;

	if (program->mode == INSN_MODE_64) {
		b[at_b++] = (uint8_t)(0x40 | (rnd(2) ? 8u : 0) | (reg >= 8 ? 4u : 0) | (rm >= 8));
	}
	memcpy(b + at_b, opcode, n);
	at_b += n;
	b[at_b++] = (uint8_t)((memory ? 0x40u : 0xc0u) | (reg & 7) << 3 | (rm & 7));
	if (memory) {
		b[at_b++] = (uint8_t)rnd(256);
	}
	return put(b, at_b);
}

/* The same with the pointer and a small index. */
static bool put_indexed(uint8_t opcode, unsigned reg, unsigned index)
{
	unsigned rex = 0x48 | (reg >= 8 ? 4 : 0) | (index >= 8 ? 2 : 0) | (pointer >= 8);
	uint8_t b[5] = { (uint8_t)rex, opcode, (uint8_t)(0x44 | (reg & 7) << 3),
			 (uint8_t)(rnd(4) << 6 | (index & 7) << 3 | (pointer & 7)),
			 (uint8_t)rnd(256) };

	return put(b + (program->mode == INSN_MODE_32), program->mode == INSN_MODE_32 ? 4 : 5);
}

static bool put_step(void)
{
	static const char *const ops[] = {
		"\x8b", "\x8b", "\x03", "\x13", "\x2b", "\x33", "\x3b", "\x39", "\x01", "\x89",
		"\x0f\xaf", "\x0f\xb6", "\x0f\x44", "\x0f\x4c",
	};
	static const int32_t strides[] = {
		1, 8, -8, 24, 64, 512, 4096, -4096, 0x30000000, -0x30000000,
	};
	const char *op = ops[rnd(ARRAY_LEN(ops))];
	int32_t by = strides[rnd(rnd(4) ? 6 : ARRAY_LEN(strides))];

	switch (rnd(9)) {
	case 8:
		return put_indexed(rnd(2) ? 0x8b : 0x01, other_register(), rounds);
	case 0:
		return put_op("\x81", 1, 0, pointer, false) && put(&by, 4);   /* add */
	case 1:
		return put_op("\xc1", 1, rnd(2) ? 5 : 4, other_register(), false) && put("\x03", 1);
	case 2:
		return put_op("\x0f\x92", 2, 0, other_register() & 3, false);   /* setc */
	case 3:
		/* movups, or xorps, which has to be aligned */
		return put_op(rnd(4) ? "\x0f\x10" : "\x0f\x57", 2, rnd(8), pointer, true);
	case 4:
	case 5:
		return put_op(op, (unsigned)strlen(op), other_register(), other_register(), false);
	default:
		return put_op(op, (unsigned)strlen(op), other_register(), pointer, true);
	}
}

static void make_loop(unsigned k)
{
	static const uint8_t pointers[] = { 3, 6, 7, 8, 9, 10, 11, 13, 14, 15 };
	/* True as long as the count is positive. */
	static const uint8_t conds[] = { 5, 5, 5, 7, 9, 15 };
	uint8_t *begin = program->code + (program->first - CODE) + (size_t)k * PIECE;
	uint32_t head = 0;

	memset(begin, 0x90, PIECE);
	at = begin;
	piece_end = begin + PIECE - 12;
	pointer = pointers[rnd(program->mode == INSN_MODE_64 ? sizeof(pointers) : 3)];
	rounds = CPU_RSP;
	rounds = other_register();
	(void)put_number(rounds, 1 + rnd(20));
	(void)put_pointer(pointer, target(8));
	head = (uint32_t)address_of(at);
	while (rnd(8)) {
		uint8_t *before = at;

		if (!put_step()) {
			at = before;
			break;
		}
	}
	piece_end += 12;
	(void)put_op("\x83", 1, 5, rounds, false);
	(void)put("\x01", 1);                        /* sub */
	put_jcc(conds[rnd(sizeof(conds))], head);
}

void random_program(struct random_program *ret, struct soft_cpu *cpu)
{
	static const uint8_t end[] = { 0xcd, END_VECTOR };

	program = ret;
	program->first = CODE + 4096 - 64 * (rnd(PIECES) + 1) + (rnd(2) ? rnd(64) : 0);
	memset(program->code, 0xcc, sizeof(program->code));
	for (unsigned k = 0; k < PIECES; k++) {
		if (rnd(8)) {
			make_piece(k);
		} else {
			make_loop(k);
		}
	}
	memcpy(program->code + (program->first - CODE) + CODE_BYTES, end, sizeof(end));
	random_bytes(program->data, sizeof(program->data));
	uint32_t often = 60;

	memcpy(program->data + (COUNTER - DATA), &often, 4);
	random_registers(cpu);
	program->stack = STACKS + 2048;
	program->stack |= program->mode == INSN_MODE_64 && rnd(4) ? BIT(HIGH_BIT) : 0;
}
