/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Random programs on the interpreter and on the translator: the same in every fault, every
 * register and flag, and all of memory.
 *
 * A program is a row of pieces of 64 bytes that run in user mode: random instructions of the
 * table, most with operands in pages of all kinds or over their ends, then a jump, a call, a
 * return, or a store to the spare bytes of a piece; or a loop of its own, in which a pointer moves
 * on, at last to where nothing is. What faults is written down by the
 * machine's kernel (test-programs.S), and the next piece goes on. So that every program ends,
 * what may go backwards counts down first.
 *
 *	test-soft-programs [COUNT [SEED [AFTER [shaken] [direct] [compat]]]]
 *
 * compat: in 32-bit mode.
 */
#include <signal.h>
#include <stdio.h>
#include <sys/time.h>

#include "base/mem.h"
#include "base/test.h"
#include "vm/cpu/soft/handlers.h"
#include "vm/cpu/soft/int.h"
#include "vm/cpu/soft/native.h"
#include "vm/cpu/soft/oracle-compare.h"
#include "vm/cpu/soft/oracle-random.h"
#include "vm/cpu/soft/priv.h"
#include "vm/cpu/soft/test-vm.h"
#include "vm/cpu/soft/xl.h"

extern const uint8_t guest_programs[], guest_programs_end[];

enum {
	PIECES = 32, PIECE = 64, CODE_BYTES = PIECES * PIECE,
	CODE = 0x400000, CODE_PAGES = 3, CODE_ALIAS = 0x40000000,
	DATA_PAGES = 32, COUNTER = DATA + 24 * 4096, STACKS = DATA + 25 * 4096,
	/* The kernel's words and its log; test-programs.S. */
	WORDS = 0xf00, LOG = 0x300000, LOG_ENTRY = 256, LOG_ENTRIES = 48,
	END_VECTOR = 0x40, HIGH_BIT = 46,
	PDPT_HIGH = 0xa0000, PD_HIGH = 0xa1000, PT_HIGH = 0xa2000,
	CS_64 = 0x23, CS_32 = 0x4b,
	STRINGS = 24,              /* one in so many instructions */
};

static uint64_t count = 2000;
static enum insn_mode mode = INSN_MODE_64;
static struct vm *machines[2];               /* interpreter, translator */
static struct soft_cpu *cpu;                 /* only for the random registers */
static uint64_t first;                       /* where the pieces begin */
static uint8_t code[CODE_PAGES * 4096], data[DATA_PAGES * 4096];
static uint8_t all[MEM_BYTES];               /* of a machine that has run nothing */
static struct cpu_state start, ends[2];
static volatile sig_atomic_t stuck, running;
static uint64_t endless;

static bool named(const struct insn_row *row, const char *names)
{
	char word[24];

	(void)snprintf(word, sizeof(word), " %s ", row->name);
	return strstr(names, word) != NULL;
}

/* --- Pieces --- */

static uint64_t stack;                       /* where it begins */
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
	return CODE + (uint64_t)(p - code);
}

static uint32_t piece_address(unsigned k)
{
	return (uint32_t)(first + (uint64_t)k * PIECE);
}

/* MOV of a number to a register. */
static bool put_number(unsigned reg, uint32_t v)
{
	uint8_t b[7] = { (uint8_t)(0x48 | (reg >= 8)), 0xc7, (uint8_t)(0xc0 | (reg & 7)) };

	if (mode == INSN_MODE_32) {
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

	return put_number(reg, v) && (mode == INSN_MODE_32 || rnd(3) || put(bts, sizeof(bts)));
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
	    (row->attr & (mode == INSN_MODE_64 ? INSN_A_I64 : INSN_A_O64) && rnd(32))) {
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
	if (mode == INSN_MODE_64 && rnd(3) == 0) {
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
	random_insn(row, mode, b);
	if (insn_decode(b, 15, mode, &i) <= 0 || (soft_block_ends(&i) && rnd(8))) {
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
	unsigned reg = regs[rnd(mode == INSN_MODE_64 ? sizeof(regs) : 6)];
	uint8_t b[3] = { (uint8_t)(0x40 | (reg >= 8)), 0xff,
			 (uint8_t)((call ? 0xd0 : 0xe0) | (reg & 7)) };

	(void)put_number(reg, to);
	(void)put(b + (mode == INSN_MODE_32), mode == INSN_MODE_64 ? 3 : 2);
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
	uint8_t *begin = code + (first - CODE) + (size_t)k * PIECE;

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
		reg = rnd(mode == INSN_MODE_64 ? 16 : 8);
	}
	return reg;
}

/* An instruction with ModRM: of two registers, or of one and a place near the pointer. */
static bool put_op(const char *opcode, unsigned n, unsigned reg, unsigned rm, bool memory)
{
	uint8_t b[8] = { 0 };
	unsigned at_b = 0;

	if (mode == INSN_MODE_64) {
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

	return put(b + (mode == INSN_MODE_32), mode == INSN_MODE_32 ? 4 : 5);
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
	uint8_t *begin = code + (first - CODE) + (size_t)k * PIECE;
	uint32_t head = 0;

	memset(begin, 0x90, PIECE);
	at = begin;
	piece_end = begin + PIECE - 12;
	pointer = pointers[rnd(mode == INSN_MODE_64 ? sizeof(pointers) : 3)];
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

static void make_program(void)
{
	static const uint8_t end[] = { 0xcd, END_VECTOR };

	first = CODE + 4096 - 64 * (rnd(PIECES) + 1) + (rnd(2) ? rnd(64) : 0);
	memset(code, 0xcc, sizeof(code));
	for (unsigned k = 0; k < PIECES; k++) {
		if (rnd(8)) {
			make_piece(k);
		} else {
			make_loop(k);
		}
	}
	memcpy(code + (first - CODE) + CODE_BYTES, end, sizeof(end));
	random_bytes(data, sizeof(data));
	uint32_t often = 60;

	memcpy(data + (COUNTER - DATA), &often, 4);
	random_registers(cpu);
	stack = STACKS + 2048 + (mode == INSN_MODE_64 && rnd(4) ? BIT(HIGH_BIT) : 0);
}

/* --- Machines --- */

static void vm_words(struct vm *vm)
{
	vm_put64(vm, WORDS, LOG);
	vm_put64(vm, WORDS + 8, first);
	vm_put64(vm, WORDS + 16, CODE_BYTES);
	vm_put64(vm, WORDS + 24, LOG + LOG_ENTRIES * LOG_ENTRY);
	vm_put64(vm, WORDS + 32, mode == INSN_MODE_64 ? CS_64 : CS_32);
}

/* The code, and the data with neighbours changed, so that a wrong half shows. */
static void high_pages(struct vm *vm)
{
	vm_put64(vm, PML4 + 8 * (1 << (HIGH_BIT - 39)), PDPT_HIGH | 7);
	vm_put64(vm, PDPT_HIGH, PD_HIGH | 7);
	vm_put64(vm, PD_HIGH + 16, vm_get64(vm, PD + 16));
	vm_put64(vm, PD_HIGH + 24, PT_HIGH | 7);
	for (unsigned i = 0; i < 512; i++) {
		unsigned of = i >= 4 && i < 24 ? i ^ 1 : i;

		vm_put64(vm, PT_HIGH + 8 * i, vm_get64(vm, PT + 8 * of));
	}
}

static struct vm *machine(const struct engine_ops *ops, const struct engine_conf *conf)
{
	struct vm *vm = vm_new_on(ops, conf);

	vm_long_mode(vm);
	vm_put(vm, STUBS, guest_programs, (size_t)(guest_programs_end - guest_programs));
	vm_put64(vm, IDT + 16 * END_VECTOR,
		 vm_get64(vm, IDT + 16 * END_VECTOR) | UINT64_C(3) << 45);
	vm_put64(vm, GDT + (CS_32 & ~7), UINT64_C(0x00cffb000000ffff));
	vm_put64(vm, PD, 0x83);                      /* the kernel's */
	vm_put64(vm, PT + 8 * 18, (DATA + 4096 * 16) | 7);    /* another address of a page */
	vm_put64(vm, PT + 8 * 19, UINT64_C(0x10000007));      /* a device */
	high_pages(vm);
	return vm;
}

static void begin(struct vm *vm)
{
	static uint8_t none[LOG_ENTRIES * LOG_ENTRY];
	struct err e = ERR_INIT;
	struct cpu_state *s = &start;

	vm_put(vm, CODE, code, sizeof(code));
	vm_put(vm, DATA, data, sizeof(data));
	vm_put(vm, LOG, none, sizeof(none));
	vm_words(vm);
	vm->log.stopped = false;
	assert_int_equal(engine_soft.vcpu_get(vm->cpu[0], s, &e), 0);
	memcpy(s->gpr, cpu->s.gpr, sizeof(s->gpr));
	memcpy(s->xsave, cpu->s.xsave, sizeof(s->xsave));
	s->gpr[CPU_RSP] = stack;
	s->rflags = soft_flags_get(cpu);
	s->cr0 |= CPU_CR0_MP | CPU_CR0_AM;
	s->cr4 |= CPU_CR4_OSFXSR | CPU_CR4_OSXMMEXCPT | CPU_CR4_OSXSAVE | CPU_CR4_FSGSBASE;
	s->xcr0 = 7;
	s->cr2 = 0;
	for (unsigned k = 0; k < CPU_SEG__COUNT; k++) {
		s->seg[k] = (struct cpu_seg){ .limit = UINT32_MAX, .ar = 0xc0f3, .selector = 0x1b };
	}
	s->seg[CPU_CS] = (struct cpu_seg){ .limit = UINT32_MAX, .ar = 0xa0fb, .selector = CS_64 };
	if (mode == INSN_MODE_32) {
		s->seg[CPU_CS] = (struct cpu_seg){ .limit = UINT32_MAX, .ar = 0xc0fb,
						   .selector = CS_32 };
	}
	s->seg[CPU_FS].base = DATA + 16 * 4096;
	s->events = (struct cpu_events){ 0 };
	s->mp_state = CPU_MP_RUNNABLE;
	s->gdt.limit = (CS_32 & ~7) + 7;
	s->rip = first;
	assert_int_equal(engine_soft.vcpu_set(vm->cpu[0], s, &e), 0);
}

/* --- Comparing --- */

/* A word of a machine's log. */
static unsigned long long logged(unsigned m, uint64_t k, uint64_t off)
{
	return vm_get64(machines[m], LOG + LOG_ENTRY * k + off);
}

static void tell_fault(struct difference *d, uint64_t k, uint64_t off, const uint64_t v[2])
{
	(void)snprintf(d->text, sizeof(d->text),
		       "fault %u (vector %llu and %llu at %llx and %llx): word %llx is %llx and"
		       " %llx", (unsigned)k, logged(0, k, 16), logged(1, k, 16),
		       logged(0, k, 32), logged(1, k, 32), (unsigned long long)off,
		       (unsigned long long)v[0], (unsigned long long)v[1]);
}

static bool differ_log(struct difference *d)
{
	for (uint64_t k = 0; k < LOG_ENTRIES; k++) {
		for (uint64_t off = 0; off < LOG_ENTRY; off += 8) {
			uint64_t v[2];

			for (unsigned m = 0; m < 2; m++) {
				v[m] = vm_get64(machines[m], LOG + LOG_ENTRY * k + off);
			}
			if (v[0] != v[1]) {
				tell_fault(d, k, off, v);
				return true;
			}
		}
	}
	return false;
}

static bool differ_memory(struct difference *d, uint64_t from, size_t n)
{
	const uint8_t *a = machines[0]->mem.slots[0].host, *b = machines[1]->mem.slots[0].host;

	for (uint64_t k = from; k < from + n; k++) {
		if (a[k] != b[k]) {
			(void)snprintf(d->text, sizeof(d->text), "memory at %llx is %02x and %02x",
				       (unsigned long long)k, a[k], b[k]);
			return true;
		}
	}
	return false;
}

static bool differ_state(struct difference *d)
{
	static const char *const gprs[] = { "rax", "rcx", "rdx", "rbx", "rsp", "rbp", "rsi", "rdi",
		"r8", "r9", "r10", "r11", "r12", "r13", "r14", "r15" };

	for (unsigned k = 0; k < CPU_REG__COUNT; k++) {
		if (differ64(d, gprs[k], ends[0].gpr[k], ends[1].gpr[k])) {
			return true;
		}
	}
	/* AMD's processors forget x87's last opcode and addresses when the host changes threads. */
	for (unsigned m = 0; m < 2; m++) {
		memset(ends[m].xsave + 6, 0, 18);
	}
	return differ64(d, "rip", ends[0].rip, ends[1].rip) ||
	       differ64(d, "rflags", ends[0].rflags, ends[1].rflags) ||
	       differ64(d, "fs", ends[0].seg[CPU_FS].base, ends[1].seg[CPU_FS].base) ||
	       differ_xsave(d, ends[0].xsave, ends[1].xsave);
}

/* Each was stopped at a place of its own, and may have written beyond what every program begins
 * with. */
static void both_as_new(void)
{
	for (unsigned m = 0; m < 2; m++) {
		vm_put(machines[m], 0, all, sizeof(all));
	}
}

static bool run_program(struct difference *d)
{
	for (unsigned m = 0; m < 2; m++) {
		struct err e = ERR_INIT;

		begin(machines[m]);
		/* Of processor time: a program takes some microseconds. One may write over its
		 * counter and not end at all; but then the interpreter finds that out. */
		running = (sig_atomic_t)m;
		setitimer(ITIMER_VIRTUAL, &(struct itimerval){ .it_value.tv_sec = m ? 10 : 1 },
			  NULL);
		vm_run(machines[m]);
		setitimer(ITIMER_VIRTUAL, &(struct itimerval){ 0 }, NULL);
		if (stuck) {
			stuck = false;
			(void)snprintf(d->text, sizeof(d->text), "it does not end when translated");
			endless++;
			both_as_new();
			return m == 1;
		}
		assert_int_equal(engine_soft.vcpu_get(machines[m]->cpu[0], &ends[m], &e), 0);
	}
	return differ_log(d) || differ_state(d) || differ_memory(d, CODE, sizeof(code)) ||
	       differ_memory(d, DATA, sizeof(data));
}

static void on_fpe(int sig, siginfo_t *info, void *ucontext)
{
	(void)info;
	if (!native_signal(sig, ucontext)) {
		signal(sig, SIG_DFL);
	}
}

/* cmocka took it from native_init(). */
static void on_stuck(int sig)
{
	(void)sig;
	stuck = true;
	engine_soft.vcpu_kick(machines[running]->cpu[0]);
}

static void take_signals(void)
{
	struct sigaction alarm_sa = { .sa_handler = on_stuck };

	sigaction(SIGVTALRM, &alarm_sa, NULL);
	struct sigaction sa = { .sa_sigaction = on_fpe, .sa_flags = SA_SIGINFO | SA_NODEFER };

	sigaction(SIGFPE, &sa, NULL);
	assert_int_equal(xl_catch_faults(), 0);
}

static void test_programs(unused_arg void **state)
{
	uint64_t seen[256] = { 0 }, differences = 0;

	take_signals();
	memcpy(all, machines[0]->mem.slots[0].host, sizeof(all));
	for (uint64_t done = 0; done < count; done++) {
		uint64_t seed = random_state;
		struct difference d = { "" };

		make_program();
		if (run_program(&d) && ++differences < 20) {
			printf("%s (1 0x%llx)\n", d.text, (unsigned long long)seed);
		}
		for (uint64_t at_log = LOG; vm_get64(machines[0], at_log + 32);
		     at_log += LOG_ENTRY) {
			seen[vm_get64(machines[0], at_log + 16) & 255]++;
		}
	}
	for (unsigned v = 0; v < ARRAY_LEN(seen); v++) {
		if (seen[v]) {
			printf("vector %u: %llu\n", v, (unsigned long long)seen[v]);
		}
	}
	printf("%llu without an end\n", (unsigned long long)endless);
	assert_int_equal(differences, 0);
}

int main(int argc, char **argv)
{
	static const struct CMUnitTest tests[] = { cmocka_unit_test(test_programs) };
	const struct engine_conf plain = { .n_vcpus = 1 };
	struct engine_conf translated = { .n_vcpus = 1, .xl = { .after = 1 } };

	if (argc > 1) {
		count = strtoull(argv[1], NULL, 0);
	}
	random_state = argc > 2 ? strtoull(argv[2], NULL, 0) : 1;
	translated.xl.after = argc > 3 ? (unsigned)strtoul(argv[3], NULL, 0) : 1;
	for (int a = 4; a < argc; a++) {
		translated.xl.shaken |= strcmp(argv[a], "shaken") == 0;
		translated.xl.direct_now |= strcmp(argv[a], "direct") == 0;
		mode = strcmp(argv[a], "compat") == 0 ? INSN_MODE_32 : mode;
	}
	printf("seed 0x%llx\n", (unsigned long long)random_state);
	machines[0] = machine(&engine_interp, &plain);
	machines[1] = machine(&engine_soft, &translated);
	cpu = mem_new(struct soft_cpu);
	assert_non_null(cpu);
	int failed = cmocka_run_group_tests(tests, NULL, NULL);

	free(cpu);
	vm_free(machines[0]);
	vm_free(machines[1]);
	return failed;
}
