/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The instructions against the host's own CPU: random instructions of the table, in 64-bit mode
 * and in 32-bit compatibility mode, with random and edge state, run by our handlers and natively
 * from the same state; every register, flag, x87 and vector word, and the memory around the operand
 * are compared, and the exception, if there was one.
 *
 *	test-soft-oracle [COUNT [SEED [ROW]]]      ROW: a mnemonic, to run nothing else
 *
 * A difference is printed with the seed that makes it the first case.
 */
#include <errno.h>

#include "base/test.h"
#include "vm/cpu/soft/flat.h"
#include "vm/cpu/soft/int.h"
#include "vm/cpu/soft/native.h"
#include "vm/cpu/soft/oracle-compare.h"
#include "vm/cpu/soft/oracle.h"
#include "vm/cpu/soft/oracle-random.h"

static uint8_t *const block = (uint8_t *)BLOCK;
static struct soft_cpu cpu;
static uint64_t count = 100000;
static const char *only;
static enum insn_mode mode = INSN_MODE_64;

/* --- Instructions --- */

static bool runnable(const struct insn_row *row)
{
	static const char *const names[] = { "rdrand", "rdseed", "ud2", "ud1", "ud0" };

	for (unsigned k = 0; k < ARRAY_LEN(names); k++) {
		if (strcmp(row->name, names[k]) == 0) {
			return false;
		}
	}
	/* Not in this mode, or the other half of the engine's. */
	if (row->attr & (mode == INSN_MODE_64 ? INSN_A_I64 : INSN_A_O64)) {
		return false;
	}
	if (row->attr & (INSN_A_STACK | INSN_A_STRING | INSN_A_VSIB) ||
	    row->cls == INSN_FLOW || row->cls == INSN_HELPER || row->cls == INSN_NEVER) {
		return false;
	}
	return row->cls != INSN_IMPLICIT || strstr(row->name, "mxcsr");
}

/* Where the operand shall lie: mostly inside, sometimes over a page's end or in no memory. */
static uint64_t random_target(unsigned bytes)
{
	uint64_t at = DATA + 1024 + rnd(64);

	switch (rnd(8)) {
	case 0: return at;
	case 1: return DATA + 4096 - rnd(40);
	case 2: return rnd(4) ? at & ~(uint64_t)63 : DATA + DATA_BYTES - rnd(64);
	default: return at & ~(uint64_t)(bytes > 16 ? 31 : 15);
	}
}

/* --- Comparing --- */

/*
 * Differences that are explained: flags which the manuals leave undefined and which the host
 * gives its own way, where we cannot take them from it as the instruction is not in 64-bit mode.
 */
static const struct {
	const char *name;
	const char *why;
} explained[] = {
	{ "daa", "AMD: OF follows the addition" },
	{ "das", "AMD: OF follows the subtraction" },
	{ "aaa", "AMD: OF, SF, ZF, PF of an inner step" },
	{ "aas", "AMD: OF, SF, ZF, PF of an inner step" },
};

static uint64_t undefined_flags(const struct insn_row *row)
{
	static const uint32_t bits[] = { CPU_FLAG_CF, CPU_FLAG_PF, CPU_FLAG_AF, CPU_FLAG_ZF,
					 CPU_FLAG_SF, CPU_FLAG_OF };
	uint64_t mask = 0;

	for (unsigned k = 0; k < ARRAY_LEN(explained); k++) {
		for (unsigned f = 0;
		     f < ARRAY_LEN(bits) && strcmp(row->name, explained[k].name) == 0; f++) {
			mask |= row->fu & 1u << f ? bits[f] : 0;
		}
	}
	return mask;
}

static bool compare_state(struct difference *d, const struct insn_row *row)
{
	static const char *const gprs[] = { "rax", "rcx", "rdx", "rbx", "rsp", "rbp", "rsi", "rdi",
		"r8", "r9", "r10", "r11", "r12", "r13", "r14", "r15" };
	const uint64_t seen = (SOFT_ARITH | CPU_FLAG_OF | CPU_FLAG_DF) & ~undefined_flags(row);
	uint8_t *x = block + OUT_XSAVE;
	uint64_t ours = soft_flags_get(&cpu) & seen, theirs = 0;

	memcpy(&theirs, block + OUT_FLAGS, 8);
	theirs &= seen;
	for (unsigned k = 0; k < CPU_REG__COUNT; k++) {
		/* Upper halves do not exist in 32-bit mode; what is there is undefined. */
		if (differ(d, gprs[k], &cpu.s.gpr[k], block + OUT_GPR + 8 * k,
			   mode == INSN_MODE_64 ? 8 : 4)) {
			return true;
		}
	}
	return differ(d, "flags", &ours, &theirs, 8) || differ_xsave(d, cpu.s.xsave, x);
}

/* --- One case --- */

enum outcome { SKIPPED, SAME, DIFFERS };

/* A case with the state that is there; b holds an instruction, of `row` if that is given. */
static enum outcome run_case(const struct insn_row *row, struct difference *d, uint8_t *b,
			     struct insn *i)
{
	static uint8_t before[DATA_BYTES], ours[DATA_BYTES];
	struct cpu_state start __attribute__((uninitialized));
	uint64_t flags = 0, target = 0, lo = 0;
	unsigned bytes = 0;
	enum { WINDOW = 128 };

	if (insn_decode(b, 15, mode, i) <= 0 || (row && &insn_table[i->row] != row)) {
		return SKIPPED;
	}
	row = &insn_table[i->row];
	for (unsigned k = 0; mode == INSN_MODE_32 && k < CPU_REG__COUNT; k++) {
		cpu.s.gpr[k] = (uint32_t)cpu.s.gpr[k];
	}
	for (unsigned o = 0; o < ARRAY_LEN(row->ops); o++) {
		if (insn_operands[row->ops[o]].where == INSN_AT_MOFFS) {
			return SKIPPED;
		}
		if (insn_operands[row->ops[o]].where == INSN_AT_RM && i->rm == INSN_NONE) {
			bytes = insn_mem_bytes(i, mode, (enum insn_operand)row->ops[o]);
		}
	}
	if (i->rm == INSN_NONE &&
	    insn__rows(row->enc, (enum insn_map)row->map, row->opcode).modrm) {
		target = random_target(bytes);
		if (!random_aim(&cpu, CODE, b, i, target, row->attr & INSN_A_BITS)) {
			return SKIPPED;
		}
		lo = MAX(target - WINDOW, (uint64_t)DATA);
		lo = MIN(lo, (uint64_t)DATA + DATA_BYTES - 2 * WINDOW);
		random_bytes((uint8_t *)lo, 2 * WINDOW);
		memcpy(before, (void *)lo, 2 * WINDOW);
	}
	for (unsigned k = 0; mode == INSN_MODE_32 && k < CPU_REG__COUNT; k++) {
		cpu.s.gpr[k] = (uint32_t)cpu.s.gpr[k];   /* what aim() made */
	}
	flags = soft_flags_get(&cpu);
	memcpy(&start, &cpu.s, sizeof(start));
	cpu.tlb = rnd(2) ? cpu.tlb_none : cpu.tlb_kernel;
	cpu.s.rip = CODE;
	cpu.next_rip = CODE + i->len;
	bool ran = flat_run(&cpu, i);

	native_fpu_save(&cpu);
	if (lo) {
		memcpy(ours, (void *)lo, 2 * WINDOW);
		memcpy((void *)lo, before, 2 * WINDOW);
	}
	oracle_run(b, i->len, &start, flags, mode);
	int vector = ran ? -1 : (int)flat_last.vector;

	/* AMD has one more bit in MXCSR. */
	if (vector == CPU_GP && oracle_vector < 0 && strstr(row->name, "ldmxcsr")) {
		return SAME;
	}
	if (vector != oracle_vector) {
		(void)snprintf(d->text, sizeof(d->text), "exception: ours %d, host %d", vector,
			       oracle_vector);
		return DIFFERS;
	}
	return compare_state(d, row) ||
	       (lo && differ(d, "memory", ours, (void *)lo, 2 * WINDOW)) ? DIFFERS : SAME;
}

static enum outcome one_case(const struct insn_row *row, struct difference *d, uint8_t *b,
			     struct insn *i)
{
	random_registers(&cpu);
	random_insn(row, mode, b);
	return run_case(row, d, b, i);
}

static void print_case(uint64_t seed, const struct insn *i, const uint8_t *b,
		       const struct difference *d)
{
	printf("%-10s", insn_table[i->row].name);
	for (unsigned k = 0; k < i->len; k++) {
		printf(" %02x", b[k]);
	}
	printf("  %s  (1 0x%llx)\n", d->text, (unsigned long long)seed);
}

static void random_cases(uint64_t cases)
{
	oracle_signals();
	uint64_t done = 0, faults = 0, differences = 0, per_row[2048] = { 0 };

	cpu.mode = (uint8_t)mode;
	while (done < cases) {
		uint64_t seed = random_state;
		size_t r = rnd((uint32_t)insn_table_len);
		struct difference d = { "" };
		uint8_t b[16] = { 0 };
		struct insn i;

		if (!runnable(&insn_table[r]) || (only && strcmp(only, insn_table[r].name))) {
			continue;
		}
		enum outcome o = one_case(&insn_table[r], &d, b, &i);

		done += o != SKIPPED;
		faults += o == SAME && oracle_vector >= 0;
		if (o == DIFFERS && ++per_row[r] <= 2 && ++differences < 200) {
			print_case(seed, &i, b, &d);
		}
	}
	printf("%llu cases, %llu exceptions, seed of the last 0x%llx\n", (unsigned long long)done,
	       (unsigned long long)faults, (unsigned long long)random_state);
	assert_int_equal(differences, 0);
}

static void test_random(unused_arg void **state)
{
	mode = INSN_MODE_64;
	random_cases(count);
}

static void test_random_32(unused_arg void **state)
{
	mode = INSN_MODE_32;
	random_cases(count / 4);
	mode = INSN_MODE_64;
}

/*
 * The rows of the table of traps (errors that others made) that are about instructions alone:
 * each form with many states, so that its edge is among them.
 */
static const struct {
	uint8_t bytes[12];
	const char *trap;
} traps[] = {
	{ { 0xd2, 0xe0 }, "shift of a byte by CL: 0 keeps all flags" },
	{ { 0x48, 0xd3, 0xf8 }, "shift of 64 bits by CL" },
	{ { 0xc1, 0xe0, 0x00 }, "shift by an immediate of 0; the upper half goes" },
	{ { 0xd3, 0xe8 }, "shift of 32 bits by CL" },
	{ { 0x66, 0xd3, 0xc0 }, "rotate of 16 bits" },
	{ { 0xd2, 0xd0 }, "RCL of a byte: count modulo 9" },
	{ { 0xd2, 0xd8 }, "RCR of a byte" },
	{ { 0x66, 0xd3, 0xd0 }, "RCL of 16 bits: count modulo 17" },
	{ { 0x66, 0xd3, 0xd8 }, "RCR of 16 bits" },
	{ { 0x66, 0x0f, 0xa5, 0xd8 }, "SHLD of 16 bits by more than 16" },
	{ { 0x0f, 0xad, 0xd8 }, "SHRD by CL" },
	{ { 0x0f, 0xa3, 0x1e }, "BT of a bit string" },
	{ { 0x48, 0x0f, 0xab, 0x1e }, "BTS of a bit string" },
	{ { 0x66, 0x0f, 0xb3, 0x1e }, "BTR of a bit string, 16 bits" },
	{ { 0xf0, 0x0f, 0xbb, 0x1e }, "LOCK BTC of a bit string" },
	{ { 0x0f, 0xbc, 0xc3 }, "BSF of 0" },
	{ { 0x48, 0x0f, 0xbd, 0xc3 }, "BSR of 0" },
	{ { 0xf3, 0x0f, 0xbc, 0xc3 }, "TZCNT" },
	{ { 0xf3, 0x66, 0x0f, 0xbd, 0xc3 }, "LZCNT of 16 bits" },
	{ { 0xc4, 0xe2, 0x78, 0xf3, 0xdb }, "BLSI" },
	{ { 0xc4, 0xe2, 0x78, 0xf3, 0xcb }, "BLSR" },
	{ { 0xc4, 0xe2, 0x78, 0xf3, 0xd3 }, "BLSMSK" },
	{ { 0xc4, 0xe2, 0x60, 0xf5, 0xc1 }, "BZHI beyond the end" },
	{ { 0xc4, 0xe2, 0xe0, 0xf7, 0xc1 }, "BEXTR" },
	{ { 0x66, 0x0f, 0x38, 0xf6, 0xc3 }, "ADCX" },
	{ { 0xf3, 0x48, 0x0f, 0x38, 0xf6, 0xc3 }, "ADOX" },
	{ { 0x66, 0x0f, 0xaf, 0xc3 }, "IMUL of 16 bits" },
	{ { 0xf6, 0xd8 }, "NEG of a byte" },
	{ { 0x18, 0xdc }, "SBB of AH" },
	{ { 0x66, 0x11, 0xd8 }, "ADC of 16 bits" },
	{ { 0x01, 0x1e }, "ADD to memory that may fault: flags stay" },
	{ { 0x0f, 0xb1, 0xde }, "CMPXCHG of 32 bits" },
	{ { 0x0f, 0xb1, 0x1e }, "CMPXCHG to memory" },
	{ { 0xf0, 0x48, 0x0f, 0xb1, 0x1e }, "LOCK CMPXCHG" },
	{ { 0xf0, 0xf7, 0x16 }, "LOCK NOT" },
	{ { 0xf0, 0xf6, 0x1e }, "LOCK NEG of a byte" },
	{ { 0xf0, 0x0f, 0xc1, 0x1e }, "LOCK XADD" },
	{ { 0x0f, 0xc0, 0xe4 }, "XADD of one register with itself" },
	{ { 0xf7, 0xf3 }, "DIV" },
	{ { 0x48, 0xf7, 0xfb }, "IDIV" },
	{ { 0xf6, 0xfb }, "IDIV of a byte" },
	{ { 0xf2, 0x0f, 0x5d, 0xca }, "MINSD: the second operand wins" },
	{ { 0x0f, 0x5f, 0xca }, "MAXPS" },
	{ { 0xf2, 0x0f, 0x5a, 0xca }, "CVTSD2SS of a NaN" },
	{ { 0xf3, 0x0f, 0x2c, 0xc2 }, "CVTTSS2SI out of range" },
	{ { 0xc4, 0xe2, 0xf1, 0xa8, 0xc2 }, "VFMADD213PD of NaNs" },
	{ { 0xdb, 0x1e }, "FISTP" },
	{ { 0xdf, 0x36 }, "FBSTP" },
	{ { 0xd9, 0xf4 }, "FXTRACT" },
	{ { 0xd9, 0xf8 }, "FPREM" },
	{ { 0xd9, 0xf5 }, "FPREM1" },
	{ { 0xdb, 0x2e }, "FLD of 80 bits: unnormal numbers" },
	{ { 0x0f, 0x73, 0xf1, 0x00 }, "MMX shift by 0: tags and exponents" },
	{ { 0x0f, 0x7f, 0x0e }, "MMX store that may fault" },
	{ { 0xdd, 0x1e }, "FSTP that may fault: nothing is popped" },
	{ { 0x0f, 0x77 }, "EMMS" },
	{ { 0xc4, 0xe2, 0x7b, 0xf6, 0xdb }, "MULX with one destination" },
	{ { 0xf2, 0x0f, 0xc2, 0xc0, 0x02 }, "CMPSD of a register with itself" },
	{ { 0xc5, 0xf8, 0x77 }, "VZEROUPPER" },
	{ { 0x0f, 0xae, 0x16 }, "LDMXCSR of reserved bits" },
	{ { 0x67, 0x8b, 0x06 }, "32-bit address" },
	{ { 0x2e, 0x36, 0x8b, 0x06 }, "segment prefixes without effect" },
	{ { 0xf2, 0xf3, 0x66, 0x90 }, "prefixes on NOP" },
	{ { 0x48, 0x66, 0x01, 0xd8 }, "REX that is not the last" },
};

static void test_traps(unused_arg void **state)
{
	unsigned differences = 0;

	oracle_signals();
	for (unsigned t = 0; t < ARRAY_LEN(traps); t++) {
		unsigned run = 0;

		for (unsigned k = 0; k < 500; k++) {
			uint64_t seed = random_state;
			struct difference d = { "" };
			uint8_t b[16] = { 0 };
			struct insn i;

			random_registers(&cpu);
			memcpy(b, traps[t].bytes, sizeof(traps[t].bytes));
			enum outcome o = run_case(NULL, &d, b, &i);

			run += o != SKIPPED;
			if (o == DIFFERS) {
				printf("%s: ", traps[t].trap);
				print_case(seed, &i, b, &d);
				differences++;
				break;
			}
		}
		if (run == 0) {
			fail_msg("%s did not run", traps[t].trap);
		}
	}
	assert_int_equal(differences, 0);
}

/*
 * What the decoder refuses the host refuses, too, apart from what it has and we do not offer.
 * Such bytes are run with registers as operands and INT3 behind them, which then is the sign
 * that an instruction went before.
 */
static const struct {
	uint8_t map, first, last;
	bool vex;
	const char *why;
} not_offered[] = {
	{ INSN_MAP_0F, 0x41, 0x4b, true, "AVX-512 on mask registers" },
	{ INSN_MAP_0F, 0x90, 0x99, true, "AVX-512 on mask registers" },
	{ INSN_MAP_0F3A, 0x30, 0x33, true, "AVX-512 on mask registers" },
	{ INSN_MAP_0F38, 0xdc, 0xdf, true, "VAES" },
	{ INSN_MAP_0F3A, 0x44, 0x44, true, "VPCLMULQDQ" },
	{ INSN_MAP_0F3A, 0x00, 0x01, true, "VPERMQ, VPERMPD without W: AMD does not look at it" },
	{ INSN_MAP_0F38, 0xcf, 0xcf, true, "GFNI" },
	{ INSN_MAP_0F3A, 0xce, 0xcf, true, "GFNI" },
	{ INSN_MAP_0F38, 0x50, 0x53, true, "AVX-VNNI" },
	{ INSN_MAP_0F38, 0xb0, 0xb5, true, "AVX-NE-CONVERT, AVX-IFMA" },
	{ INSN_MAP_0F, 0x78, 0x79, false, "SSE4A" },
	{ INSN_MAP_0F, 0x2b, 0x2b, false, "SSE4A" },
	/* Not of this test: system instructions, branches, UD. */
	{ INSN_MAP_0F, 0x00, 0x0f, false, "system" },
	{ INSN_MAP_0F, 0x20, 0x27, false, "system" },
	{ INSN_MAP_0F, 0x30, 0x37, false, "system" },
	{ INSN_MAP_0F, 0x80, 0x8f, false, "branches" },
	{ INSN_MAP_0F, 0xa2, 0xae, false, "system" },
	{ INSN_MAP_0F, 0xb8, 0xb9, false, "UD" },
	{ INSN_MAP_0F, 0xc7, 0xc7, false, "system" },
	{ INSN_MAP_0F, 0xff, 0xff, false, "UD" },
};

static bool left_out(bool vex, unsigned map, uint8_t opcode)
{
	for (unsigned k = 0; k < ARRAY_LEN(not_offered); k++) {
		if (not_offered[k].vex == vex && not_offered[k].map == map &&
		    opcode >= not_offered[k].first && opcode <= not_offered[k].last) {
			return true;
		}
	}
	return false;
}

/* A row's bytes with something about them changed; where ModRM stands, 0 if it cannot be told. */
static unsigned spoilt_insn(const struct insn_row *row, uint8_t b[static 24])
{
	static const uint8_t prefixes[] = { 0xf0, 0xf2, 0xf3, 0x66, 0x48 };
	struct insn_row changed = *row;
	unsigned n = 0, map = INSN_MAP_0F;
	bool vex = false;

	switch (rnd(5)) {
	case 0: changed.pp = (uint8_t)rnd(5); break;
	case 1: changed.w ^= 3; break;
	case 2: changed.l ^= 3; break;
	case 3: changed.enc ^= 1; break;
	default: changed.reg = (uint8_t)(1 + rnd(8)); break;
	}
	if (rnd(4) == 0) {
		b[n++] = prefixes[rnd(ARRAY_LEN(prefixes))];
	}
	random_insn(&changed, mode, b + n);
	for (n = 0; (b[n] & 0xf0) == 0x40 || (b[n] & 0xfe) == 0x66 ||
		    (b[n] >= 0xf0 && b[n] <= 0xf3); n++) {
	}
	vex = b[n] == 0xc4;
	if (vex) {
		map = b[n + 1] & 31;
		n += 3;
	} else if (b[n] != 0x0f) {
		return 0;
	} else if ((b[n + 1] & 0xfd) == 0x38) {
		map = b[n + 1] == 0x38 ? INSN_MAP_0F38 : INSN_MAP_0F3A;
		n += 2;
	} else {
		n++;
	}
	return left_out(vex, map, b[n]) || b[n] == 0x77 ? 0 : n + 1;
}

static void test_refused(unused_arg void **state)
{
	unsigned tried = 0, differences = 0;

	oracle_signals();
	mode = INSN_MODE_64;
	for (uint64_t k = 0; k < count; k++) {
		const struct insn_row *row = &insn_table[rnd((uint32_t)insn_table_len)];
		uint8_t b[24] = { 0 };
		unsigned modrm = 0;
		struct insn i;

		if (!runnable(row) || row->map == INSN_MAP_1) {
			continue;
		}
		random_registers(&cpu);
		modrm = spoilt_insn(row, b);
		if (modrm == 0 || modrm >= 12) {
			continue;
		}
		b[modrm] |= 0xc0;
		memset(b + modrm + 1, 0xcc, sizeof(b) - modrm - 1);
		if (insn_decode(b, 15, INSN_MODE_64, &i) != -EINVAL) {
			continue;
		}
		oracle_run(b, 15, &cpu.s, CPU_FLAG_1, INSN_MODE_64);
		tried++;
		if (oracle_vector != CPU_UD && ++differences < 50) {
			printf("refused, but the host's vector is %d:", oracle_vector);
			for (unsigned x = 0; x < 10; x++) {
				printf(" %02x", b[x]);
			}
			printf("\n");
		}
	}
	assert_true(tried > count / 20);
	assert_int_equal(differences, 0);
}

static void host_features(struct soft_cpu *c)
{
	c->features = ~UINT64_C(0);
}

int main(int argc, char **argv)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_traps), cmocka_unit_test(test_random),
		cmocka_unit_test(test_random_32), cmocka_unit_test(test_refused),
	};

	if (argc > 1) {
		count = strtoull(argv[1], NULL, 0);
	}
	random_state = argc > 2 ? strtoull(argv[2], NULL, 0) : 1;
	only = argc > 3 ? argv[3] : NULL;
	printf("seed 0x%llx\n", (unsigned long long)random_state);
	if (!__builtin_cpu_supports("avx2") || native_init() < 0) {
		printf("skipped: the host lacks AVX2\n");
		return 77;
	}
	oracle_setup();
	flat_base = DATA;
	flat_bytes = DATA_BYTES;
	flat_init(&cpu);
	host_features(&cpu);
	cpu.s.cr0 = CPU_CR0_PE | CPU_CR0_PG | CPU_CR0_NE | CPU_CR0_MP;
	cpu.s.cr4 = CPU_CR4_PAE | CPU_CR4_OSFXSR | CPU_CR4_OSXMMEXCPT | CPU_CR4_OSXSAVE;
	cpu.s.xcr0 = 7;
	return cmocka_run_group_tests(tests, NULL, NULL);
}
