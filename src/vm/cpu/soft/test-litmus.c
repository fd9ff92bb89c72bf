/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Litmus tests: what x86's memory model forbids is never seen among vCPUs of the software engine.
 * The programs are in test-litmus.S. What it allows is counted where it is of interest, and not
 * asserted: that depends on the host.
 *
 *	test-soft-litmus [TIMES]
 *
 * Spec: SDM 3, 9.2 (Memory Ordering); Sewell et al., x86-TSO (CACM 53, 7).
 */
#include <stdio.h>
#include <stdlib.h>

#include "base/test.h"
#include "vm/cpu/soft/test-vm.h"

enum { SETS = 0x100000, ROUNDS = 8192, SET_BYTES = 256, THREADS_AT = 0x780, CODE_BYTES = 0x400 };

/* What is left of one round. */
struct set {
	uint32_t x[16], y[16], z[16];
	struct {
		uint32_t a, b;
	} r[4];
	uint32_t rest[8];
};

_Static_assert(sizeof(struct set) == SET_BYTES, "as in test-litmus.S");

#define TESTS(X) \
	X(sb, 2, s->r[0].a == 0 && s->r[1].a == 0, false) \
	X(sb_mfence, 2, s->r[0].a == 0 && s->r[1].a == 0, true) \
	X(sb_lock, 2, s->r[0].a == 0 && s->r[1].a == 0, true) \
	X(sb_xchg, 2, s->r[0].a == 0 && s->r[1].a == 0, true) \
	X(mp, 2, s->r[1].a == 1 && s->r[1].b == 0, true) \
	X(lb, 2, s->r[0].a == 1 && s->r[1].a == 1, true) \
	X(s, 2, s->r[1].a == 1 && s->x[0] == 2, true) \
	X(r_mfence, 2, s->y[0] == 2 && s->r[1].a == 0, true) \
	X(ww, 2, s->x[0] == 1 && s->y[0] == 1, true) \
	X(wrc, 3, s->r[1].a == 1 && s->r[2].a == 1 && s->r[2].b == 0, true) \
	X(iriw, 4, s->r[2].a == 1 && s->r[2].b == 0 && s->r[3].a == 1 && s->r[3].b == 0, true) \
	X(n6, 2, s->r[0].a == 0, true) \
	X(n5, 2, s->r[0].a == 2 && s->r[1].a == 1, true) \
	X(corr, 2, s->r[1].a == 1 && s->r[1].b == 0, true) \
	X(whole, 2, s->r[1].a != s->r[1].b, true) \
	X(whole_in_line, 2, s->r[1].a != s->r[1].b, true) \
	X(xadd, 3, s->x[0] != 3 || s->r[0].a + s->r[1].a + s->r[2].a != 3, true) \
	X(split, 2, count_at(s, 62) != 2, true) \
	X(split_page, 2, false, true) \
	X(wide, 2, wide_wrong(s), true)

static uint32_t count_at(const struct set *s, size_t at)
{
	uint32_t v = 0;

	memcpy(&v, (const uint8_t *)s + at, sizeof(v));
	return v;
}

static bool wide_wrong(const struct set *s)
{
	return s->x[0] != 2 || s->x[1] != 0 || s->x[2] != 2 || s->x[3] != 0 || s->y[0] != 2 ||
	       s->y[1] != 2;
}

#define DECLARE_THREAD(name, n) \
	extern const uint8_t guest_litmus_##name##_##n[] __attribute__((weak)), \
			     guest_litmus_##name##_##n##_end[] __attribute__((weak));
#define DECLARE(name, threads, bad, forbidden) \
	DECLARE_THREAD(name, 0) DECLARE_THREAD(name, 1) \
	DECLARE_THREAD(name, 2) DECLARE_THREAD(name, 3) \
	static bool bad_##name(const struct set *s) \
	{ \
		(void)s; \
		return bad; \
	}
TESTS(DECLARE)

static const struct litmus {
	const char *name;
	unsigned threads;
	bool (*bad)(const struct set *s);
	bool forbidden;
	struct {
		const uint8_t *code, *end;
	} thread[4];
} litmus[] = {
#define THREAD(name, n) { guest_litmus_##name##_##n, guest_litmus_##name##_##n##_end }
#define TEST(name, threads, bad, forbidden) \
	{ #name, threads, bad_##name, forbidden, \
	  { THREAD(name, 0), THREAD(name, 1), THREAD(name, 2), THREAD(name, 3) } },
	TESTS(TEST)
};

static unsigned times = 2;

/* The counters over two pages: 16 rounds of two threads each. */
static unsigned bad_pages(struct vm *vm)
{
	unsigned bad = 0;

	for (uint64_t at = SETS + 4093; at < SETS + ROUNDS * SET_BYTES; at += 4096) {
		bad += vm_get64(vm, at) != 32;
	}
	return bad;
}

static unsigned run(const struct litmus *l)
{
	static struct set sets[ROUNDS];
	struct vm *vm = vm_new(l->threads, false);
	unsigned bad = 0;

	vm_long_mode(vm);
	for (unsigned k = 0; k < l->threads; k++) {
		uint64_t at = BASE + CODE_BYTES * (uint64_t)k;

		assert_true(l->thread[k].end - l->thread[k].code <= CODE_BYTES);
		vm_put(vm, at, l->thread[k].code, (size_t)(l->thread[k].end - l->thread[k].code));
		vm_long_cpu(vm, k, at, STACK - 4096 * (uint64_t)k);
		vm_direct_cpu(vm, k);
	}
	vm_put64(vm, THREADS_AT, l->threads);
	vm_run(vm);
	assert_true(vm->log.stopped);
	assert_int_equal(gmem_read(&vm->mem, GPA(SETS), sets, sizeof(sets)), 0);
	for (unsigned k = 0; k < ROUNDS; k++) {
		bad += l->bad(&sets[k]);
	}
	if (strcmp(l->name, "split_page") == 0) {
		bad += bad_pages(vm);
	}
	vm_free(vm);
	return bad;
}

static void test_litmus(void **state)
{
	unsigned wrong = 0;

	(void)state;
	for (size_t k = 0; k < ARRAY_LEN(litmus); k++) {
		unsigned bad = 0;

		for (unsigned t = 0; t < times; t++) {
			bad += run(&litmus[k]);
		}
		if (bad) {
			printf("%s: %u times in %u rounds\n", litmus[k].name, bad, times * ROUNDS);
			wrong += litmus[k].forbidden;
		}
	}
	assert_int_equal(wrong, 0);
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(test_litmus) };

	if (argc > 1) {
		times = (unsigned)strtoul(argv[1], NULL, 0);
	}
	return TEST_RUN(tests);
}
