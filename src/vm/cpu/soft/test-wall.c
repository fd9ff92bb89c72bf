/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the monitor has at an address of its own is not reached by a guest that uses the same
 * address, or one that a fixed distance would make the same: docs/decisions/116.
 */
#include <sys/mman.h>

#include "base/test.h"
#include "sys/map.h"
#include "vm/cpu/soft/test-vm.h"
#include "vm/cpu/soft/xl-shadow.h"

enum {
	CODE = 0x400000, STACK3 = 0x480000, PAGE_A = 0x500000, PAGE_B = 0x510000,
	SPAN = 0x700000, RUNS = 24, STEPS = 12, STEP = 1 << 29 /* of RSP */, TIMES = 8,
};

/* Between the two reserved ranges: the one place near them that may be the monitor's. */
#define BETWEEN (UINT64_C(10) << 30)
#define OURS    UINT64_C(0x5a5a5a5a5a5a5a5a)

static uint8_t *put(uint8_t *p, const void *bytes, size_t n)
{
	memcpy(p, bytes, n);
	return p + n;
}

static uint8_t *put_mov(uint8_t *p, uint8_t reg, uint64_t v)
{
	const uint8_t op[] = { 0x48, (uint8_t)(0xb8 + reg) };

	return put(put(p, op, sizeof(op)), &v, sizeof(v));
}

/* RBX goes out from `va`, or RSP does, as the bytes have it; then the end. */
static void run(struct vm *vm, uint64_t va, const uint8_t *body, size_t n)
{
	static const uint8_t end[] = { 0xe6, 0xf4 };     /* out 0xf4, al */
	uint8_t code[256], *p = put_mov(code, 3, va);
	struct err e = ERR_INIT;
	struct cpu_state s;

	p = put(p, body, n);
	p = put(p, end, sizeof(end));
	vm_put(vm, CODE, code, (size_t)(p - code));
	assert_int_equal(engine_soft.vcpu_get(vm->cpu[0], &s, &e), 0);
	s.seg[CPU_CS].ar = 0xa0fb;
	s.seg[CPU_SS].ar = 0xc0f3;
	s.rip = CODE;
	s.rflags = CPU_FLAG_1 | 3u << 12;
	s.gpr[CPU_RSP] = va >= SHADOW_HIGH_FIRST ? va : STACK3;
	assert_int_equal(engine_soft.vcpu_set(vm->cpu[0], &s, &e), 0);
	atomic_store(&vm->log.stopped, false);
	vm_run(vm);
}

/* Every guest address from the monitor's own on, by the first and further accesses of a block. */
static void no_way(uint64_t first, uint64_t *ours)
{
	static const uint8_t loads[] = { 0x48, 0x8b, 0x03, 0x48, 0xff, 0x43, 0x08 };
	/* mov rsp, rbx; push [PAGE_A]; push rax; pop rdx; sub rsp, 16; push rdx */
	static const uint8_t pushes[] = { 0x48, 0x89, 0xdc, 0xff, 0x34, 0x25, 0x00, 0x00, 0x50,
					  0x00, 0x50, 0x5a, 0x48, 0x83, 0xec, 0x10, 0x52 };
	/* lea rsi, [rbx + 64]; mov rax, [rsi]; inc qword [rsi + 8]; mov rdi, rsi;
	 * mov [rdi - 8], rax */
	static const uint8_t moves[] = { 0x48, 0x8d, 0x73, 0x40, 0x48, 0x8b, 0x06, 0x48, 0xff, 0x46,
					 0x08, 0x48, 0x89, 0xf7, 0x48, 0x89, 0x47, 0xf8 };
	const struct engine_xl_conf direct = { .after = 1, .direct_now = true };
	struct vm *vm = vm_new_xl(1, false, direct);

	vm_long_mode(vm);
	/* All of the gigabyte there is the one that begins at 0. */
	vm_put64(vm, PML4 + 8 * (first >> 39 & 511), PDPT | 7);
	vm_put64(vm, PDPT + 8 * (first >> 30 & 511), 0xe7);
	for (unsigned k = 0; k < RUNS; k++) {
		uint64_t was = vm_get64(vm, PAGE_B + 8);

		run(vm, first + PAGE_B, loads, sizeof(loads));
		assert_true(vm_get64(vm, PAGE_B + 8) == was + 1);
		vm_put64(vm, PAGE_A, k);
		vm_put64(vm, PAGE_B - 8, 77);
		run(vm, first + PAGE_B, pushes, sizeof(pushes));
		assert_true(vm_get64(vm, PAGE_B - 8) == k);
		was = vm_get64(vm, PAGE_B + 72);
		run(vm, first + PAGE_B, moves, sizeof(moves));
		assert_true(vm_get64(vm, PAGE_B + 72) == was + 1);
	}
	vm_free(vm);
	for (size_t i = 0; i < SPAN / sizeof(*ours); i++) {
		assert_true(ours[i] == OURS);
	}
}

static uint64_t *ours_at(uint64_t at)
{
	void *p = mmap((void *)(uintptr_t)at, SPAN, PROT_READ | PROT_WRITE,
		       MAP_PRIVATE | MAP_ANONYMOUS | (at ? MAP_FIXED_NOREPLACE : 0), -1, 0);
	uint64_t *v = p;

	if (p == MAP_FAILED) {
		skip();   /* a sanitizer's */
	}
	for (size_t i = 0; i < SPAN / sizeof(*v); i++) {
		v[i] = OURS;
	}
	return v;
}

static void test_at_the_same_address(unused_arg void **state)
{
	uint64_t *ours = ours_at(BETWEEN);

	no_way(BETWEEN, ours);
	munmap(ours, SPAN);
}

/* Where the host puts things by itself: the low range's distance, 0, leads there, too. */
static void test_anywhere(unused_arg void **state)
{
	const uint64_t gigabyte = UINT64_C(1) << 30;
	uint64_t at = UINT64_C(0x7e0000000000);
	uint64_t *ours = ours_at(at);

	no_way(at & ~(gigabyte - 1), ours);
	munmap(ours, SPAN);
}

/* That with the high range's distance it would be there. */
static void test_by_the_distance(unused_arg void **state)
{
	uint64_t *ours = ours_at(BETWEEN);

	no_way(BETWEEN - SHADOW_DISTANCE, ours);
	munmap(ours, SPAN);
}

/* Some times round, so that blocks lead to each other; in the last of them RSP leaves the high
 * range in steps, behind each of which a block ends without an access. */
static size_t put_steps(uint8_t *code)
{
	static const uint8_t begin[] = {
		0x41, 0xbc, TIMES, 0, 0, 0,              /* mov r12d */
		0x48, 0x89, 0xdc,                        /* mov rsp, rbx */
		0x31, 0xd2, 0xb8, 0, 0, 0, STEP >> 24,   /* xor edx, edx; mov eax */
		0x41, 0x83, 0xfc, 0x01,                  /* cmp r12d, 1 */
		0x0f, 0x44, 0xd0,                        /* cmove edx, eax */
	};
	/* sub rsp, rdx; xor ecx, ecx; rep stosb */
	static const uint8_t step[] = { 0x48, 0x29, 0xd4, 0x31, 0xc9, 0xf3, 0xaa };
	/* push rax; dec r12d; jne */
	static const uint8_t end[] = { 0x50, 0x41, 0xff, 0xcc, 0x0f, 0x85 };
	uint8_t *p = put(code, begin, sizeof(begin));
	int32_t back = 0;

	for (unsigned i = 0; i < STEPS; i++) {
		p = put(p, step, sizeof(step));
	}
	p = put(p, end, sizeof(end));
	back = (int32_t)(code + 6 - (p + sizeof(back)));
	return (size_t)(put(p, &back, sizeof(back)) - code);
}

static void test_stack_in_steps(unused_arg void **state)
{
	const uint64_t to = BETWEEN - SHADOW_DISTANCE;
	uint64_t *ours = ours_at(BETWEEN);
	const struct engine_xl_conf direct = { .after = 1, .direct_now = true };
	struct vm *vm = vm_new_xl(1, false, direct);
	uint8_t steps[200];
	size_t n = put_steps(steps);

	vm_long_mode(vm);
	vm_put64(vm, PML4 + 8 * (SHADOW_HIGH_FIRST >> 39), PDPT | 7);
	vm_put64(vm, PML4 + 8 * (to >> 39 & 511), PDPT | 7);
	vm_put64(vm, PDPT + 8 * (to >> 30 & 511), 0xe7);
	assert_true(to + STEPS * (uint64_t)STEP == SHADOW_HIGH_FIRST);
	for (unsigned k = 0; k < RUNS; k++) {
		run(vm, SHADOW_HIGH_FIRST + PAGE_B, steps, n);
	}
	vm_free(vm);
	for (size_t i = 0; i < SPAN / sizeof(*ours); i++) {
		assert_true(ours[i] == OURS);
	}
	munmap(ours, SPAN);
}

#define LEA     0x48, 0x8d, 0x0c, 0x17                       /* lea rcx, [rdi + rdx] */
#define USE_R8  0x4a, 0xff, 0x44, 0x01, 0x08                 /* inc qword [rcx + r8 + 8] */
#define USE_SUM 0x48, 0xff, 0x44, 0x17, 0x08                 /* inc qword [rdi + rdx + 8] */
#define USE     0x48, 0xff, 0x41, 0x10                       /* inc qword [rcx + 16] */
#define ADD_RCX 0x48, 0x01, 0xf1                             /* add rcx, rsi */
#define ADD_RDX 0x48, 0x01, 0xf2
#define ADD_RDI 0x48, 0x01, 0xf7
#define ADD_R8  0x49, 0x01, 0xf0
#define SUB_RDX 0x48, 0x29, 0xf2
#define SUB_RDI 0x48, 0x29, 0xf7

/* RCX is the sum of RDI, which is RBX at first, and RDX; RSI is 0, and in the last round far away. */
static const struct {
	uint8_t times, n, code[32];
} sums[] = {
	{ 1, 16, { ADD_RDI, LEA, USE_R8, USE } },
	{ 1, 16, { ADD_RDX, LEA, USE_R8, USE } },
	{ 1, 16, { ADD_R8, LEA, USE_R8, USE } },
	{ 2, 25, { LEA, USE_R8, USE, ADD_R8, USE_R8, USE } },
	{ 2, 25, { LEA, USE_R8, USE, ADD_RCX, USE_R8, USE } },
	{ 2, 25, { LEA, USE_R8, USE, ADD_RDI, USE_R8, USE } },
	{ 1, 19, { ADD_RDI, LEA, SUB_RDI, USE_SUM, USE } },
	{ 1, 19, { ADD_RDX, LEA, SUB_RDX, USE_SUM, USE } },
};

static size_t put_rounds(uint8_t *code, uint64_t away, const uint8_t *body, size_t n)
{
	static const uint8_t begin[] = {
		0x41, 0xbc, TIMES, 0, 0, 0,              /* mov r12d */
		0x48, 0x89, 0xdf, 0x31, 0xd2,            /* mov rdi, rbx; xor edx, edx */
		0x45, 0x31, 0xc0,                        /* xor r8d, r8d */
	};
	static const uint8_t round[] = {
		0x31, 0xf6, 0x41, 0x83, 0xfc, 0x01,      /* xor esi, esi; cmp r12d, 1 */
		0x48, 0x0f, 0x44, 0xf5,                  /* cmove rsi, rbp */
	};
	static const uint8_t end[] = { 0x41, 0xff, 0xcc, 0x75 };     /* dec r12d; jne */
	uint8_t *p = put(put_mov(code, 5, away), begin, sizeof(begin)), *head = p;

	p = put(p, round, sizeof(round));
	p = put(p, body, n);
	p = put(p, end, sizeof(end));
	*p = (uint8_t)(head - (p + 1));
	return (size_t)(p + 1 - code);
}

static void all_sums(struct vm *vm, uint64_t first, uint64_t to)
{
	uint8_t code[200];

	vm_put64(vm, PML4 + 8 * (first >> 39 & 511), PDPT | 7);
	vm_put64(vm, PML4 + 8 * (to >> 39 & 511), PDPT | 7);
	vm_put64(vm, PDPT + 8 * (first >> 30 & 511), 0xe7);
	vm_put64(vm, PDPT + 8 * (to >> 30 & 511), 0xe7);
	for (unsigned s = 0; s < ARRAY_LEN(sums); s++) {
		size_t n = put_rounds(code, to - first, sums[s].code, sums[s].n);
		uint64_t times = (uint64_t)RUNS * TIMES * sums[s].times;

		vm_put64(vm, PAGE_B + 8, 0);
		vm_put64(vm, PAGE_B + 16, 0);
		for (unsigned k = 0; k < RUNS; k++) {
			run(vm, first + PAGE_B, code, n);
		}
		assert_true(vm_get64(vm, PAGE_B + 8) == times);
		assert_true(vm_get64(vm, PAGE_B + 16) == times);
	}
}

static void test_sums(unused_arg void **state)
{
	const struct engine_xl_conf direct = { .after = 1, .direct_now = true };
	uint64_t *ours = ours_at(BETWEEN);
	struct vm *vm = vm_new_xl(1, false, direct);

	vm_long_mode(vm);
	all_sums(vm, 0, BETWEEN);
	all_sums(vm, SHADOW_HIGH_FIRST, BETWEEN - SHADOW_DISTANCE);
	vm_free(vm);
	for (size_t i = 0; i < SPAN / sizeof(*ours); i++) {
		assert_true(ours[i] == OURS);
	}
	munmap(ours, SPAN);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_at_the_same_address), cmocka_unit_test(test_anywhere),
		cmocka_unit_test(test_by_the_distance), cmocka_unit_test(test_stack_in_steps),
		cmocka_unit_test(test_sums),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
