/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What others got wrong, row by row, and the test that has it:
 *
 *	 1 to  8  shifts, rotates, bit strings, BMI, ADCX, small sizes  test-oracle.c, traps[]
 *	 9, 10    flags before a store that faults; CMPXCHG             test-oracle.c; faults
 *	11        CMPXCHG16B on a TLB miss, its alignment               test-oracle-engine.c
 *	12        locked instructions, alone                            test-litmus.c:
 *	                                                                xadd, split, wide
 *	13, 14    ENTER and LEAVE with 66; PUSH and POP of all kinds    test-oracle-engine.c; stack
 *	15        prefixes                                              test-oracle.c; test-decode.c
 *	16        VEX over a page's end, in real mode                   test-oracle-engine.c; vex16
 *	17        an instruction on two pages, one remapped             pages
 *	18        code that changes itself                              smc, returned; cross
 *	19, 20    of translators and of host mappings                   -
 *	21        write rights of a TLB entry; dirty bits               ad_bits
 *	22, 23    error codes of upper levels; reserved bits, PDPTEs    upper, gib, faults;
 *	                                                                engines: paging
 *	24        SMEP, SMAP (no protection keys)                       smap
 *	25, 26    CR3 bit 63, INVLPG, canonical addresses               canonical, pcid
 *	27        IRET: SS, data segments, NMIs                         iret, nmi
 *	28        SYSRET                                                user; engines: sysret
 *	29        EXT                                                   ext
 *	30, 31    shadows of STI and MOV SS, RF                         sti, mov_ss, debug, held;
 *	                                                                test-oracle-engine.c
 *	32        debug registers                                       debug, drs
 *	33        the I/O map; task switches                            iomap, short_tss, legacy
 *	34        segment limits, LAR, LSL                              real, segments;
 *	                                                                test-oracle-engine.c
 *	35, 36    NaNs, denormals, exceptions of x87 and SSE            test-oracle.c
 *	37        MMX and the x87 stack                                 test-oracle.c;
 *	                                                                test-oracle-engine.c
 *	38, 39    FXSAVE, FNSAVE, XSAVE                                 test-oracle-engine.c;
 *	                                                                engines: xsave
 *	40        REP: address size, restart                            strings;
 *	                                                                test-oracle-engine.c
 *	41        alignment of vectors                                  test-oracle.c
 *	42        error codes in saved state                            test-state-desc.c;
 *	                                                                engines: halves
 *	43        the local APIC                                        vm/irq
 *	44        locked access over lines, on a host that minds it     test-litmus.c: split
 *	45        MOV to CR3 maps the running code elsewhere            cr3
 *	46        returns into changed code                             returned
 *	47        one register as source and destination                test-oracle.c
 *
 * Names alone are guests of test-soft.c or of this file; engines: those of test-engines.c.
 */
#include <sched.h>

#include "base/mem.h"
#include "base/test.h"
#include "vm/cpu/soft/test-vm.h"

#define GUESTS(X) \
	X(nmi) X(ac) X(gib) X(upper) X(canonical) X(iret) X(drs) X(iomap) X(short_tss) X(cr3) \
	X(pages) \
	X(returned) X(no_step) X(vex16) X(held)
#define DECLARE(name) extern const uint8_t guest_##name[], guest_##name##_end[];
GUESTS(DECLARE)
extern const uint8_t guest_held_at[];
extern const uint8_t guest_steal[], guest_steal_end[];

enum { DB = 0x1001, BP = 0x1003, UD = 0x1006, TS = 0x100a, SS = 0x100c, GP = 0x100d,
       PF = 0x100e, AC = 0x1011 };

/* A test: run in long mode, the log must be that. */
#define TRAP(name, ...) \
	static void test_##name(void **state) \
	{ \
		static const uint32_t want[] = { __VA_ARGS__ }; \
		struct vm *vm = vm_new(1, false); \
		(void)state; \
		vm_long_mode(vm); \
		vm_put(vm, BASE, guest_##name, (size_t)(guest_##name##_end - guest_##name)); \
		vm_run(vm); \
		vm_expect(vm, want, ARRAY_LEN(want)); \
		assert_int_equal(vm->stop, VCPU_STOP_KICKED); \
		vm_free(vm); \
	}

TRAP(nmi, 1, 2, 1, 2, 1, 2, 3)
TRAP(ac, 1, AC, 0, AC, 0, 2)
TRAP(gib, 0x1234, 0x60, PF, 9, 0x80604000, PF, 0, 0x80604000)
TRAP(upper, PF, 3, 0x606000, PF, 2, 0x606000, PF, 0x11, 0x606000, PF, 9, 0x200000, 1)
TRAP(canonical, 1, GP, 0, GP, 0, GP, 0, GP, 0, GP, 0, GP, 0, GP, 0, 8)
TRAP(iret, SS, 0x40, GP, 0, 0, 0x1b)
TRAP(drs, DB, 0, 2, 0x900408, UD, 0, 2)
TRAP(iomap, 1, GP, 0, GP, 0, GP, 0, GP, 0, 2)
TRAP(short_tss, TS, 0x28, GP, 0x28)
TRAP(cr3, 0x22, 0x11, 0x22, 0x11, 0x22, 0x11)
TRAP(pages, 0x11111111, 0x22221111, 0x22331111)
TRAP(returned, 0x41, 0x42)
TRAP(no_step, BP, 0, DB, 0, 1, 0x100, DB, 0, 2)

static void test_vex16(void **state)
{
	static const uint32_t want[] = { 6 };
	struct vm *vm = vm_new(1, false);

	(void)state;
	vm_real_mode(vm);
	vm_put(vm, BASE, guest_vex16, (size_t)(guest_vex16_end - guest_vex16));
	vm_run(vm);
	vm_expect(vm, want, ARRAY_LEN(want));
	vm_free(vm);
}

/* A data breakpoint that MOV SS holds back, also where the state is saved in between. */
static void test_held(void **state)
{
	static const uint32_t want[] = { DB, 0, 5, 2 };
	struct vcpu_debug d = { .n_breakpoints = 1,
				.breakpoints = { BASE + (uint64_t)(guest_held_at - guest_held) } };

	(void)state;
	for (unsigned saved = 0; saved < 2; saved++) {
		struct vm *vm = vm_new(1, false);
		struct cpu_state *s = mem_new(struct cpu_state);
		struct err e = ERR_INIT;

		assert_non_null(s);
		vm_long_mode(vm);
		vm_put(vm, BASE, guest_held, (size_t)(guest_held_end - guest_held));
		d.n_breakpoints = 1;
		d.step = false;
		assert_int_equal(engine_soft.vcpu_debug(vm->cpu[0], &d, &e), 0);
		vm_run(vm);
		assert_int_equal(vm->stop, VCPU_STOP_BREAKPOINT);
		d.n_breakpoints = 0;
		d.step = true;
		assert_int_equal(engine_soft.vcpu_debug(vm->cpu[0], &d, &e), 0);
		vm_run(vm);
		assert_int_equal(vm->stop, VCPU_STOP_STEPPED);
		if (saved) {
			assert_int_equal(engine_soft.vcpu_get(vm->cpu[0], s, &e), 0);
			assert_true(s->events.shadow_mov_ss);
			assert_int_equal(s->events.debug_held, 2);
			assert_int_equal(engine_soft.vcpu_set(vm->cpu[0], s, &e), 0);
		}
		d.step = false;
		assert_int_equal(engine_soft.vcpu_debug(vm->cpu[0], &d, &e), 0);
		vm_run(vm);
		vm_expect(vm, want, ARRAY_LEN(want));
		free(s);
		vm_free(vm);
	}
}

/* Two vCPUs that never rest, on one CPU of the host: both are told that they had to wait. */
static void test_steal(void **state)
{
	struct vm *vm = vm_new(2, false);
	cpu_set_t all, one;
	unsigned cpu = 0;

	(void)state;
	assert_int_equal(sched_getaffinity(0, sizeof(all), &all), 0);
	while (!CPU_ISSET(cpu, &all)) {
		cpu++;
	}
	CPU_ZERO(&one);
	CPU_SET(cpu, &one);
	vm_long_mode(vm);
	vm_put(vm, BASE, guest_steal, (size_t)(guest_steal_end - guest_steal));
	vm_long_cpu(vm, 0, BASE, 0x300000);
	vm_long_cpu(vm, 1, BASE, 0x301000);
	assert_int_equal(sched_setaffinity(0, sizeof(one), &one), 0);
	vm_run(vm);
	assert_int_equal(sched_setaffinity(0, sizeof(all), &all), 0);
	assert_true(vm->log.stopped);
	assert_int_not_equal(vm_get64(vm, 0x300000), 0);
	assert_int_not_equal(vm_get64(vm, 0x301000), 0);
	vm_free(vm);
}

int main(void)
{
#define TEST(name) cmocka_unit_test(test_##name),
	const struct CMUnitTest tests[] = { GUESTS(TEST) TEST(steal) };

	return TEST_RUN(tests);
}
