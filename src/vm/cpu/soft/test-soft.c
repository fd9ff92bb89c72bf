/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The software engine with guests of our own (test-guest.S): each runs on a small machine and
 * leaves a log of 32-bit values, which is compared with what a processor gives.
 */
#include <errno.h>

#include "base/mem.h"
#include "base/test.h"
#include "vm/cpu/model.h"
#include "vm/cpu/soft/priv.h"
#include "vm/cpu/soft/test-vm.h"
#include "vm/cpu/soft/xl-shadow.h"
#include "vm/cpu/soft/xl.h"

#define GUESTS(X) \
	X(stubs) X(hello) X(faults) X(ad_bits) X(invlpg) X(pcid) X(smc) X(sti) X(step) X(strings) \
	X(strings_within) X(returns) \
	X(user) X(smap) X(triple) X(split) X(smp) X(smp_ap) X(real) X(replay) X(debug) X(double) \
	X(ext) X(mov_ss) X(stack) X(compat) X(segments) X(cross) \
	X(cross_ap) X(many) X(remap) X(second) X(features) X(stubs32) X(legacy)
#define DECLARE(name) extern const uint8_t guest_##name[], guest_##name##_end[];
GUESTS(DECLARE)
extern const uint32_t guest_legacy_gate, guest_legacy_task;

/* Run one in long mode; its log must be that. */
#define EXPECT(name, ...) \
	do { \
		static const uint32_t want_[] = { __VA_ARGS__ }; \
		struct vm *vm_ = vm_new(1, false); \
		vm_long_mode(vm_); \
		vm_put(vm_, BASE, guest_##name, (size_t)(guest_##name##_end - guest_##name)); \
		vm_run(vm_); \
		vm_expect(vm_, want_, ARRAY_LEN(want_)); \
		assert_int_equal(vm_->stop, VCPU_STOP_KICKED); \
		vm_free(vm_); \
	} while (0)

static void test_hello(void **state)
{
	(void)state;
	EXPECT(hello, 0x1234);
}

static void test_faults(void **state)
{
	(void)state;
	EXPECT(faults,
	       0x1000, 0,                       /* #DE */
	       0x1006, 0,                       /* #UD */
	       0x100d, 0,                       /* #GP: not canonical */
	       0x100c, 0,                       /* #SS: by RBP */
	       0x100e, 0, 0x600000, 0x100e, 2, 0x600000,
	       0x100e, 3, 0x601000, 0x100e, 3, 0x601000, 0x100e, 3, 0x601000,
	       0x100e, 0x11, 0x602000,
	       0x100e, 9, 0x603000,
	       0x100e, 0, 0x600ffc,
	       0x100e, 0, 0x600000, 0x100e, 2, 0x600000,
	       0x100d, 0,                       /* no such MSR */
	       0x100d, 0x1b8,
	       0x100b, 0x81 * 8 + 2,            /* #NP of a gate */
	       0x1003, 0);
}

static void test_ad_bits(void **state)
{
	(void)state;
	EXPECT(ad_bits, 0, 0x20, 0x60, 0x60);
}

static void test_invlpg(void **state)
{
	(void)state;
	EXPECT(invlpg, 0x22, 0x11);
}

static void test_pcid(void **state)
{
	(void)state;
	EXPECT(pcid, 0x11, 0x22, 0x11);
}

static void test_smc(void **state)
{
	(void)state;
	EXPECT(smc, 3, 2, 1, 0x66, 0x77);
}

/* The usual cache, and one that is emptied again and again. */
static void many(struct engine_xl_conf xl)
{
	enum { FIRST = 0x400000, PAIRS = 0x60000 };
	static const uint8_t inc_and_jump[] = { 0xff, 0xc6, 0xeb, 0x00 }, back[] = { 0xff, 0xe5 };
	static const uint32_t want[] = { 2 * PAIRS, 0x33, 0x33, 0x33, 0x44 };
	struct vm *vm = vm_new_xl(1, false, xl);

	vm_long_mode(vm);
	for (unsigned i = 0; i < PAIRS; i++) {
		vm_put(vm, FIRST + 4 * i, inc_and_jump, sizeof(inc_and_jump));
	}
	vm_put(vm, FIRST + 4 * PAIRS, back, sizeof(back));
	vm_put(vm, BASE, guest_many, (size_t)(guest_many_end - guest_many));
	vm_run(vm);
	vm_expect(vm, want, ARRAY_LEN(want));
	if (xl.bytes && soft_engine(vm->eng)->xl) {
		struct xl_usage u = { 0 };

		xl_usage(soft_engine(vm->eng), &u);
		assert_true(u.emptied > 16);
		assert_true(u.used <= u.bytes && u.bytes <= xl.bytes);
		assert_true(u.blocks > 0 && u.blocks < PAIRS / 2);
	}
	vm_free(vm);
}

static void test_many(void **state)
{
	(void)state;
	many((struct engine_xl_conf){ .after = 0 });
}

static void test_small_cache(void **state)
{
	(void)state;
	many((struct engine_xl_conf){ .after = 1, .bytes = XL_BYTES_MIN });
}

static void test_remap(void **state)
{
	/* mov, jump, out, jump, back to RBP; and another value in the other page */
	static const uint8_t one[] = { 0xb0, 0x11, 0xeb, 0x00, 0x0f, 0xb6, 0xc0, 0xe7, 0xe9,
				       0xeb, 0x00, 0xff, 0xe5 };
	static const uint8_t two[] = { 0xb0, 0x22, 0xeb, 0x03, 0x90, 0x90, 0x90, 0x0f, 0xb6, 0xc0,
				       0xe7, 0xe9, 0xff, 0xe5 };
	static const uint32_t want[] = { 0x11, 0x22, 0x22, 0x11, 0x11, 0x22 };
	struct vm *vm = vm_new(1, false);

	(void)state;
	vm_long_mode(vm);
	vm_put(vm, 0x608000, one, sizeof(one));
	vm_put(vm, 0x609000, two, sizeof(two));
	vm_put(vm, BASE, guest_remap, (size_t)(guest_remap_end - guest_remap));
	vm_run(vm);
	vm_expect(vm, want, ARRAY_LEN(want));
	vm_free(vm);
}

static void test_second(void **state)
{
	/* mov of a number, whose lower half is in the first page, out, back to RBP */
	static const uint8_t first[] = { 0xb8, 0x11, 0x00 };
	uint8_t rest[2][6] = { { 1, 0, 0xe7, 0xe9, 0xff, 0xe5 }, { 2, 0, 0xe7, 0xe9, 0xff, 0xe5 } };
	uint32_t want[128];
	struct vm *vm = vm_new(1, false);

	(void)state;
	vm_long_mode(vm);
	vm_put(vm, 0x60affd, first, sizeof(first));
	vm_put(vm, 0x60b000, rest[0], sizeof(rest[0]));
	vm_put(vm, 0x60c000, rest[1], sizeof(rest[1]));
	for (unsigned k = 0, left = ARRAY_LEN(want), page = 0; left > 0; k++, left--) {
		want[k] = 0x11 | (uint32_t)rest[page][0] << 16 | (uint32_t)rest[page][1] << 24;
		page ^= left % 16 == 0;
		rest[page][1] = (uint8_t)(rest[page][1] + (left <= 40));
	}
	vm_put(vm, BASE, guest_second, (size_t)(guest_second_end - guest_second));
	vm_run(vm);
	vm_expect(vm, want, ARRAY_LEN(want));
	vm_free(vm);
}

static bool logged(const struct vm *vm, uint32_t v)
{
	for (unsigned i = 0; i < vm->log.n; i++) {
		if (vm->log.v[i] == v) {
			return true;
		}
	}
	return false;
}

/* Whatever CPUID shows is there: an instruction of it runs, or it is named here as none. */
static void test_features(void **state)
{
	static const struct {
		uint32_t leaf, subleaf, reg, no_instruction;
	} regs[] = {
		/* PCID, x2APIC, TSC deadline, OSXSAVE, hypervisor */
		{ 1, 0, 2, 1u << 17 | 1u << 21 | 1u << 24 | 1u << 27 | 1u << 31 },
		/* DE, PSE, PAE, MCE, APIC, SEP, MTRR, PGE, MCA, PAT, PSE-36, self snoop, HTT */
		{ 1, 0, 3, 1u << 2 | 1u << 3 | 1u << 6 | 1u << 7 | 1u << 9 | 1u << 11 | 1u << 12 |
			   1u << 13 | 1u << 14 | 1u << 16 | 1u << 17 | 1u << 27 | 1u << 28 },
		/* FDP, SMEP, fast REP MOVSB, FCS */
		{ 7, 0, 1, 1u << 6 | 1u << 7 | 1u << 9 | 1u << 13 },
		{ 7, 0, 2, 1u << 2 },                             /* UMIP */
		{ 7, 0, 3, 1u << 4 | 1u << 31 },                  /* quick REP MOVSB, SSBD */
		{ 0xd, 1, 0, 0 },
		{ 0x80000001, 0, 2, 0 },
		/* SYSCALL, NX, 1 GiB, LM */
		{ 0x80000001, 0, 3, 1u << 11 | 1u << 20 | 1u << 26 | 1u << 29 },
	};
	struct cpu_model_conf conf = { .n_vcpus = 1, .tsc_hz = 1000000000 };
	struct cpu_cpuid model[CPU_MODEL_ENTRIES_MAX];
	size_t n = cpu_model(&conf, model);
	struct err e = ERR_INIT;
	struct cpu_state *s = mem_new(struct cpu_state);
	struct vm *vm = vm_new(1, false);

	(void)state;
	assert_non_null(s);
	vm_long_mode(vm);
	assert_int_equal(engine_soft.vcpu_get(vm->cpu[0], s, &e), 0);
	s->cr4 |= CPU_CR4_OSFXSR | CPU_CR4_OSXMMEXCPT | CPU_CR4_OSXSAVE | CPU_CR4_FSGSBASE;
	s->xcr0 = cpu_model_find(model, n, 0xd, 0)->eax;
	assert_int_equal(engine_soft.vcpu_set(vm->cpu[0], s, &e), 0);
	free(s);
	vm_put(vm, BASE, guest_features, (size_t)(guest_features_end - guest_features));
	vm_run(vm);
	for (unsigned r = 0; r < ARRAY_LEN(regs); r++) {
		const struct cpu_cpuid *leaf = cpu_model_find(model, n, regs[r].leaf,
							      regs[r].subleaf);

		assert_non_null(leaf);
		uint32_t words[] = { leaf->eax, leaf->ebx, leaf->ecx, leaf->edx };

		for (unsigned bit = 0; bit < 32; bit++) {
			if ((words[regs[r].reg] & ~regs[r].no_instruction & BIT(bit)) &&
			    !logged(vm, 0x2000 | r << 5 | bit)) {
				fail_msg("leaf 0x%x, register %u, bit %u: nothing of it runs",
					 regs[r].leaf, regs[r].reg, bit);
			}
		}
	}
	vm_free(vm);
}

static void test_sti(void **state)
{
	(void)state;
	EXPECT(sti, 1, 0x1040, 2, 3, 0x1041, 4);
}

static void test_step(void **state)
{
	(void)state;
	EXPECT(step, 0x1001, 0, 0x4000);
}

static void test_strings(void **state)
{
	(void)state;
	EXPECT(strings, 0x605ffe, 0x5a, 0x604102, 0x100e, 2, 0x600000, 0x10, 0x600000, 0);
}

static void test_strings_within(unused_arg void **state)
{
	static const uint32_t want[] = { 0 };
	struct vm *vm = vm_new(1, false);

	vm_long_mode(vm);
	vm_put64(vm, PML4 + 8 * (SHADOW_HIGH_FIRST >> 39), PDPT | 7);
	vm_direct_cpu(vm, 0);
	vm_put(vm, BASE, guest_strings_within,
	       (size_t)(guest_strings_within_end - guest_strings_within));
	vm_run(vm);
	vm_expect(vm, want, ARRAY_LEN(want));
	vm_free(vm);
}

static void test_returns(void **state)
{
	(void)state;
#define ROUND 10000, 1, 0x11, 0x22, 0x100d, 0, 0, 5
	EXPECT(returns, ROUND, ROUND, ROUND, 0x180000);
#undef ROUND
}

static void test_user(void **state)
{
	(void)state;
	EXPECT(user, 0x23, 8, 0x33, 0x100e, 5, 0x604000, 0x100e, 7, 0x604000, 0x100d, 0, 0x100d, 0);
}

static void test_smap(void **state)
{
	static const uint32_t want[] = { 0x100e, 1, 0x606000, 0x100e, 1, 0x606000,
					 0x100e, 0x11, 0x606000 };
	struct vm *vm = vm_new(1, false);

	(void)state;
	vm_long_mode(vm);
	vm_put64(vm, PD, 0x83);   /* the code itself is the kernel's here */
	vm_put(vm, BASE, guest_smap, (size_t)(guest_smap_end - guest_smap));
	vm_run(vm);
	vm_expect(vm, want, ARRAY_LEN(want));
	vm_free(vm);
}

static void test_split(void **state)
{
	(void)state;
	EXPECT(split, 5);
}

static void test_debug(void **state)
{
	(void)state;
	EXPECT(debug, 0x1001, 0, 0xffff0ff1, 0x1001, 0, 0xffff0ff2, 1, 0x1001, 0, 0x2000);
}

static void test_double(void **state)
{
	(void)state;
	EXPECT(double, 0x1008, 0);
}

static void test_ext(void **state)
{
	(void)state;
	EXPECT(ext, 0x100b, 0x81 * 8 + 3, 0x100b, 0x81 * 8 + 2);
}

static void test_mov_ss(void **state)
{
	(void)state;
	EXPECT(mov_ss, 0x1001, 0, 0x77);
}

static void test_stack(void **state)
{
	(void)state;
	EXPECT(stack, 0x1234, 0, 0x100e, 2, 0x600000 + 8, 0, (uint32_t)-8, (uint32_t)-40, 0);
}

static void test_compat(void **state)
{
	(void)state;
	EXPECT(compat, 0, 0x99, 8);
}

static void test_segments(void **state)
{
	(void)state;
	EXPECT(segments, 0x100d, 0x28, 0x100d, 8, 0x100d, 0x18, 0x100b, 0x40, 0x100c, 0x40,
	       0xcf9300, UINT32_MAX, 0x55, 0x100);
}

/* Two processors; the second starts at AP. */
static void two(const uint8_t *boot, size_t boot_bytes, const uint8_t *ap, size_t ap_bytes,
		uint32_t want)
{
	struct vm *vm = vm_new(2, false);

	vm_long_mode(vm);
	vm_put(vm, BASE, boot, boot_bytes);
	vm_put(vm, AP, ap, ap_bytes);
	vm_run(vm);
	vm_expect(vm, &want, 1);
	vm_free(vm);
}

#define TWO(name, want) \
	two(guest_##name, (size_t)(guest_##name##_end - guest_##name), guest_##name##_ap, \
	    (size_t)(guest_##name##_ap_end - guest_##name##_ap), want)

static void test_cross(void **state)
{
	(void)state;
	TWO(cross, 0);
}

/* --- 32-bit protected mode --- */

static void legacy_tables(struct vm *vm)
{
	static const uint64_t gdt[] = {
		0, UINT64_C(0x00cf9b000000ffff), UINT64_C(0x00cf93000000ffff),
		UINT64_C(0x00cff3000000ffff), UINT64_C(0x00cffb000000ffff), 0, 0, 0,
		UINT64_C(0x00cf13000000ffff),
	};
	uint32_t task[26] = { 0 };
	uint32_t e = 0, gate = guest_legacy_gate;

	vm_put(vm, GDT, gdt, sizeof(gdt));
	vm_put64(vm, GDT + 0x28, 0x67 | (uint64_t)TSS << 16 | UINT64_C(0x8b) << 40);
	vm_put64(vm, GDT + 0x30, (gate & 0xffff) | 8 << 16 | UINT64_C(0xec01) << 32 |
			      (uint64_t)(gate >> 16) << 48);
	vm_put64(vm, GDT + 0x38, 0x67 | (uint64_t)(TSS + 0x100) << 16 | UINT64_C(0x89) << 40);
	for (unsigned i = 0; i < 256; i++) {
		uint64_t at = STUBS + 16 * (uint64_t)i, kind = i == 0x80 ? 0xee : 0x8e;

		vm_put64(vm, IDT + 8 * i, (at & 0xffff) | 8 << 16 | kind << 40 | (at >> 16) << 48);
	}
	/* The main task's stack of ring 0, and the other task. */
	vm_put64(vm, TSS + 4, STACK0 | UINT64_C(0x10) << 32);
	vm_put64(vm, TSS + 28, PML4);
	task[28 / 4] = PML4;
	task[32 / 4] = guest_legacy_task;
	task[36 / 4] = 2;
	task[56 / 4] = 0x98000;
	for (unsigned i = 0; i < 6; i++) {
		task[72 / 4 + i] = i == CPU_CS ? 8 : 0x10;
	}
	vm_put(vm, TSS + 0x100, task, sizeof(task));
	/* 4 MiB by a large page, then small ones. */
	e = 0x87;
	vm_put(vm, PML4, &e, 4);
	e = PT | 7;
	vm_put(vm, PML4 + 4, &e, 4);
	for (unsigned i = 0; i < 1024; i++) {
		uint32_t page = 0x400000 + 4096 * i;

		e = page == 0x600000 ? 0 : page == 0x601000 ? page | 5 :
		    page == 0x604000 ? page | 3 : page | 7;
		vm_put(vm, PT + 4 * i, &e, 4);
	}
}

static void test_legacy(void **state)
{
	static const uint32_t want[] = {
		0x100e, 0, 0x600000, 0x100e, 3, 0x601000, 0x100b, 0x40,
		0x23, 8, 0x77, 0,
		0x100e, 5, 0x604000, 0x1080, 0, 0x100d, 0x81 * 8 + 2, 0x100d, 0,
		8, 0x99, 0x4000, 8, 0x71,
		0x100d, 0, 0x100d, 0, 0x20000, 0x86,
	};
	struct vm *vm = vm_new(1, false);
	struct err e = ERR_INIT;
	struct cpu_state *s = mem_new(struct cpu_state);

	(void)state;
	assert_non_null(s);
	legacy_tables(vm);
	vm_put(vm, STUBS, guest_stubs32, (size_t)(guest_stubs32_end - guest_stubs32));
	vm_put(vm, BASE, guest_legacy, (size_t)(guest_legacy_end - guest_legacy));
	assert_int_equal(engine_soft.vcpu_get(vm->cpu[0], s, &e), 0);
	s->cr0 = CPU_CR0_PG | CPU_CR0_PE | CPU_CR0_WP | CPU_CR0_ET | CPU_CR0_NE;
	s->cr3 = PML4;
	s->cr4 = CPU_CR4_PSE;
	s->gdt = (struct cpu_table){ GDT, 71 };
	s->idt = (struct cpu_table){ IDT, 2047 };
	s->tr = (struct cpu_seg){ .base = TSS, .limit = 0x67, .ar = CPU_AR_P | 11,
				  .selector = 0x28 };
	s->ldt.ar = CPU_AR_UNUSABLE;
	for (unsigned i = 0; i < CPU_SEG__COUNT; i++) {
		s->seg[i] = (struct cpu_seg){ .limit = UINT32_MAX, .ar = 0xc093, .selector = 0x10 };
	}
	s->seg[CPU_CS] = (struct cpu_seg){ .limit = UINT32_MAX, .ar = 0xc09b, .selector = 8 };
	s->rip = BASE;
	s->rflags = CPU_FLAG_1;
	s->gpr[CPU_RSP] = STACK;
	assert_int_equal(engine_soft.vcpu_set(vm->cpu[0], s, &e), 0);
	free(s);
	vm_run(vm);
	vm_expect(vm, want, ARRAY_LEN(want));
	vm_free(vm);
}

static void test_shutdown(void **state)
{
	struct vm *vm = vm_new(1, false);

	(void)state;
	vm_long_mode(vm);
	vm_put(vm, BASE, guest_triple, (size_t)(guest_triple_end - guest_triple));
	vm_run(vm);
	assert_int_equal(vm->stop, VCPU_STOP_SHUTDOWN);
	vm_free(vm);
}

static void test_real(void **state)
{
	static const uint32_t want[] = { 0x22, 0x11, 0x33, 0x7000, 0xdd, 0x44, 5 };
	struct vm *vm = vm_new(1, false);

	(void)state;
	vm_real_mode(vm);
	vm_put(vm, BASE, guest_real, (size_t)(guest_real_end - guest_real));
	vm_run(vm);
	vm_expect(vm, want, ARRAY_LEN(want));
	vm_free(vm);
}

static void test_smp(void **state)
{
	static const uint32_t want[] = { 0x51, 400000 };
	struct vm *vm = vm_new(2, false);

	(void)state;
	vm_long_mode(vm);
	vm_put(vm, BASE, guest_smp, (size_t)(guest_smp_end - guest_smp));
	vm_put(vm, AP, guest_smp_ap, (size_t)(guest_smp_ap_end - guest_smp_ap));
	vm_run(vm);
	vm_expect(vm, want, ARRAY_LEN(want));
	vm_free(vm);
}

/* Counted time: two runs are equal in everything that the guest can see. */
static void test_replay(void **state)
{
	uint32_t log[2][LOG_MAX];
	unsigned n[2] = { 0 };

	(void)state;
	for (unsigned k = 0; k < 2; k++) {
		struct vm *vm = vm_new(1, true);

		vm_long_mode(vm);
		vm_put(vm, BASE, guest_replay, (size_t)(guest_replay_end - guest_replay));
		vm_run(vm);
		n[k] = vm->log.n;
		memcpy(log[k], vm->log.v, sizeof(log[k]));
		vm_free(vm);
	}
	assert_true(n[0] > 10);
	assert_int_equal(n[0], n[1]);
	assert_memory_equal(log[0], log[1], n[0] * sizeof(log[0][0]));
}

/* The dirty log: pages written by the guest, its page tables, and nothing else. */
static void test_dirty_log(void **state)
{
	struct vm *vm = vm_new(1, false);
	struct err e = ERR_INIT;
	uint64_t bits[MEM_BYTES / 4096 / 64] = { 0 };

	(void)state;
	vm_long_mode(vm);
	vm_put(vm, BASE, guest_ad_bits, (size_t)(guest_ad_bits_end - guest_ad_bits));
	assert_int_equal(gmem_log_start(&vm->mem, &e), 0);
	assert_int_equal(engine_soft.log(vm->eng, true, &e), 0);
	vm_run(vm);
	assert_int_equal(engine_soft.log_sync(vm->eng, &e), 0);
	gmem_log_take(&vm->mem, 0, bits);
	assert_true(bits[0x604 / 64] >> (0x604 % 64) & 1);
	assert_true(bits[PT / 4096 / 64] >> (PT / 4096) & 1);
	assert_false(bits[0x605 / 64] >> (0x605 % 64) & 1);
	assert_false(bits[0] >> (BASE / 4096) & 1);
	gmem_log_stop(&vm->mem);
	assert_int_equal(vm_get64(vm, 0x604000), 2);
	vm_free(vm);
}

/* The debugger's breakpoint and step. */
static void test_debugger(void **state)
{
	struct vm *vm = vm_new(1, false);
	struct err e = ERR_INIT;
	struct vcpu_debug d = { .n_breakpoints = 1, .breakpoints = { BASE + 5 } };
	struct cpu_state *s = mem_new(struct cpu_state);
	gpa_t at = GPA(0);

	(void)state;
	assert_non_null(s);
	vm_long_mode(vm);
	vm_put(vm, BASE, guest_hello, (size_t)(guest_hello_end - guest_hello));
	assert_int_equal(engine_soft.vcpu_debug(vm->cpu[0], &d, &e), 0);
	vm_run(vm);
	assert_int_equal(vm->stop, VCPU_STOP_BREAKPOINT);
	assert_int_equal(engine_soft.vcpu_get(vm->cpu[0], s, &e), 0);
	assert_int_equal(s->rip, BASE + 5);
	assert_int_equal(s->gpr[CPU_RAX], 0x1234);
	d = (struct vcpu_debug){ .step = true };
	assert_int_equal(engine_soft.vcpu_debug(vm->cpu[0], &d, &e), 0);
	vm_run(vm);
	assert_int_equal(vm->stop, VCPU_STOP_STEPPED);
	assert_int_equal(engine_soft.vcpu_get(vm->cpu[0], s, &e), 0);
	assert_int_equal(s->rip, BASE + 7);
	assert_int_equal(engine_soft.vcpu_translate(vm->cpu[0], 0x40601000, &at), 0);
	assert_int_equal(at.raw, 0x601000);
	assert_int_equal(engine_soft.vcpu_translate(vm->cpu[0], 0x600000, &at), -EFAULT);
	d = (struct vcpu_debug){ .step = false };
	assert_int_equal(engine_soft.vcpu_debug(vm->cpu[0], &d, &e), 0);
	vm_run(vm);
	assert_int_equal(vm->stop, VCPU_STOP_KICKED);
	free(s);
	vm_free(vm);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_hello), cmocka_unit_test(test_faults),
		cmocka_unit_test(test_ad_bits), cmocka_unit_test(test_invlpg),
		cmocka_unit_test(test_pcid), cmocka_unit_test(test_smc),
		cmocka_unit_test(test_many), cmocka_unit_test(test_small_cache),
		cmocka_unit_test(test_remap), cmocka_unit_test(test_second),
		cmocka_unit_test(test_features), cmocka_unit_test(test_sti),
		cmocka_unit_test(test_step), cmocka_unit_test(test_strings),
		cmocka_unit_test(test_strings_within),
		cmocka_unit_test(test_returns),
		cmocka_unit_test(test_user), cmocka_unit_test(test_smap),
		cmocka_unit_test(test_split), cmocka_unit_test(test_shutdown),
		cmocka_unit_test(test_real), cmocka_unit_test(test_smp),
		cmocka_unit_test(test_replay), cmocka_unit_test(test_dirty_log),
		cmocka_unit_test(test_debugger), cmocka_unit_test(test_debug),
		cmocka_unit_test(test_double), cmocka_unit_test(test_ext),
		cmocka_unit_test(test_mov_ss), cmocka_unit_test(test_stack),
		cmocka_unit_test(test_compat), cmocka_unit_test(test_segments),
		cmocka_unit_test(test_cross),
		cmocka_unit_test(test_legacy),
	};

	return TEST_RUN(tests);
}
