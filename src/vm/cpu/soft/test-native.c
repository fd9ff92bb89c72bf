/* SPDX-License-Identifier: Apache-2.0 */
/* What must be switched on for each unit, and what cannot be compared with the host. */
#include <cpuid.h>
#include <signal.h>

#include "base/test.h"
#include "vm/cpu/soft/flat.h"
#include "vm/cpu/soft/native.h"

static struct soft_cpu cpu;

static const uint64_t cr0 = CPU_CR0_PE | CPU_CR0_PG | CPU_CR0_NE | CPU_CR0_MP;
static const uint64_t cr4 = CPU_CR4_PAE | CPU_CR4_OSFXSR | CPU_CR4_OSXMMEXCPT | CPU_CR4_OSXSAVE;

static void reset(void)
{
	flat_init(&cpu);
	cpu_state_reset(&cpu.s, true);
	cpu.mode = INSN_MODE_64;
	cpu.features = ~UINT64_C(0);
	cpu.s.cr0 = cr0;
	cpu.s.cr4 = cr4;
	cpu.s.xcr0 = 7;
}

/* The exception of an instruction, -1 if there is none. */
static int run(const uint8_t *bytes)
{
	struct insn i;

	assert_true(insn_decode(bytes, 8, INSN_MODE_64, &i) > 0);
	bool ran = flat_run(&cpu, &i);

	native_fpu_save(&cpu);
	return ran ? -1 : (int)flat_last.vector;
}

static void test_switches(unused_arg void **state)
{
	enum { X87, MMX, SSE, AVX, BMI, WAIT, N };
	static const uint8_t code[N][8] = {
		[X87] = { 0xd9, 0xe8 }, [MMX] = { 0x0f, 0xef, 0xc9 }, [SSE] = { 0x0f, 0x58, 0xca },
		[AVX] = { 0xc5, 0xf8, 0x58, 0xc9 }, [BMI] = { 0xc4, 0xe2, 0x78, 0xf3, 0xdb },
		[WAIT] = { 0x9b },
	};
	static const struct {
		uint64_t cr0, cr4, xcr0, features;   /* bits that are the other way round */
		int expect[N];
	} cases[] = {
		{ 0, 0, 0, 0, { -1, -1, -1, -1, -1, -1 } },
		{ CPU_CR0_TS, 0, 0, 0, { CPU_NM, CPU_NM, CPU_NM, CPU_NM, -1, CPU_NM } },
		{ CPU_CR0_TS | CPU_CR0_MP, 0, 0, 0, { CPU_NM, CPU_NM, CPU_NM, CPU_NM, -1, -1 } },
		{ CPU_CR0_EM, 0, 0, 0, { CPU_NM, CPU_UD, CPU_UD, -1, -1, -1 } },
		{ CPU_CR0_PE, 0, 0, 0, { -1, -1, -1, CPU_UD, CPU_UD, -1 } },
		{ 0, CPU_CR4_OSFXSR, 0, 0, { -1, -1, CPU_UD, -1, -1, -1 } },
		{ 0, CPU_CR4_OSXSAVE, 0, 0, { -1, -1, -1, CPU_UD, -1, -1 } },
		{ 0, 0, CPU_XCR0_AVX, 0, { -1, -1, -1, CPU_UD, -1, -1 } },
		{ 0, 0, 0, BIT(INSN_F_AVX), { -1, -1, -1, CPU_UD, -1, -1 } },
		{ 0, 0, 0, BIT(INSN_F_BMI1), { -1, -1, -1, -1, CPU_UD, -1 } },
	};

	for (unsigned k = 0; k < ARRAY_LEN(cases); k++) {
		for (unsigned n = 0; n < N; n++) {
			reset();
			cpu.s.cr0 ^= cases[k].cr0;
			cpu.s.cr4 ^= cases[k].cr4;
			cpu.s.xcr0 ^= cases[k].xcr0;
			cpu.features ^= cases[k].features;
			assert_int_equal(run(code[n]), cases[k].expect[n]);
		}
	}
}

static void on_fpe(int sig, unused_arg siginfo_t *info, void *ucontext)
{
	assert(native_signal(sig, ucontext));
}

/* An unmasked SSE exception: MXCSR shows it, the destination stays; #UD if it is not handled. */
static void test_simd_exception(unused_arg void **state)
{
	static const uint8_t divss[8] = { 0xf3, 0x0f, 0x5e, 0xca };
	const uint32_t one = 0x3f800000, masks = 0x1f80 & ~0x200u;   /* of division by zero */
	struct sigaction sa = { .sa_sigaction = on_fpe, .sa_flags = SA_SIGINFO };
	uint32_t v = 0;

	sigaction(SIGFPE, &sa, NULL);   /* cmocka took it from native_init() */
	for (unsigned handled = 0; handled < 2; handled++) {
		reset();
		if (!handled) {
			cpu.s.cr4 &= ~(uint64_t)CPU_CR4_OSXMMEXCPT;
		}
		memcpy(cpu.s.xsave + 24, &masks, 4);
		memcpy(cpu.s.xsave + 160 + 16, &one, 4);
		assert_int_equal(run(divss), handled ? CPU_XM : CPU_UD);
		memcpy(&v, cpu.s.xsave + 24, 4);
		assert_int_equal(v, masks | 4);
		memcpy(&v, cpu.s.xsave + 160 + 16, 4);
		assert_int_equal(v, one);
	}
}

/* An x87 exception is raised by the next instruction that waits, not by one that does not. */
static void test_x87_exception(unused_arg void **state)
{
	static const uint8_t fdiv[8] = { 0xd8, 0xf1 }, fnop[8] = { 0xd9, 0xd0 };
	static const uint8_t fnclex[8] = { 0xdb, 0xe2 }, fld1[8] = { 0xd9, 0xe8 };
	static const uint8_t fldz[8] = { 0xd9, 0xee }, fxch[8] = { 0xd9, 0xc9 };
	const uint16_t control = 0x037f & ~4u;

	reset();
	memcpy(cpu.s.xsave, &control, 2);
	assert_int_equal(run(fldz), -1);
	assert_int_equal(run(fld1), -1);
	assert_int_equal(run(fxch), -1);
	assert_int_equal(run(fxch), -1);
	assert_int_equal(run(fdiv), -1);
	assert_int_equal(run(fnop), CPU_MF);
	assert_int_equal(run(fnclex), -1);
	assert_int_equal(run(fnop), -1);
}

static void test_random_numbers(unused_arg void **state)
{
	static const uint8_t rdrand[8] = { 0x48, 0x0f, 0xc7, 0xf0 };
	unsigned a = 0, b = 0, c = 0, d = 0;
	uint64_t seen = 0;

	if (!__get_cpuid(1, &a, &b, &c, &d) || !(c & bit_RDRND)) {
		skip();
	}
	reset();
	for (unsigned k = 0; k < 8; k++) {
		assert_int_equal(run(rdrand), -1);
		seen |= cpu.flags & 0x100 ? cpu.s.gpr[CPU_RAX] : 0;
	}
	assert_int_not_equal(seen, 0);
}

static int setup(unused_arg void **state)
{
	return native_init();
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_switches),
		cmocka_unit_test(test_simd_exception),
		cmocka_unit_test(test_x87_exception),
		cmocka_unit_test(test_random_numbers),
	};

	return cmocka_run_group_tests(tests, setup, NULL);
}
