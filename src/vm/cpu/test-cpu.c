/* SPDX-License-Identifier: Apache-2.0 */
#include <string.h>

#include "base/mem.h"
#include "base/test.h"
#include "vm/cpu/model.h"

/* Indices and places are unique, and inside the struct. */
static void test_msr_table(void **state)
{
	(void)state;
	for (size_t i = 0; i < cpu_msr_table_len; i++) {
		assert_true(cpu_msr_table[i].off + 8 <= sizeof(struct cpu_msrs));
		assert_non_null(cpu_msr_table[i].name);
		for (size_t k = 0; k < i; k++) {
			assert_int_not_equal(cpu_msr_table[i].index, cpu_msr_table[k].index);
			assert_int_not_equal(cpu_msr_table[i].off, cpu_msr_table[k].off);
		}
	}
}

static void test_reset(void **state)
{
	struct cpu_state *s = mem_new(struct cpu_state);

	(void)state;
	assert_non_null(s);
	cpu_state_reset(s, true);
	assert_int_equal(s->seg[CPU_CS].base + s->rip, 0xfffffff0);
	assert_int_equal(s->mp_state, CPU_MP_RUNNABLE);
	s->msr.lstar = 5;
	s->xsave[160] = 7;
	s->cr3 = 0x1000;
	cpu_state_init(s);
	assert_int_equal(s->mp_state, CPU_MP_WAIT_SIPI);
	assert_int_equal(s->msr.lstar, 5);
	assert_int_equal(s->xsave[160], 7);
	assert_int_equal(s->cr3, 0);
	cpu_state_reset(s, false);
	assert_int_equal(s->mp_state, CPU_MP_WAIT_INIT);
	assert_int_equal(s->xsave[160], 0);
	free(s);
}

static void test_xsave_left_out(void **state)
{
	_Alignas(64) uint8_t x[CPU_XSAVE_BYTES];
	uint64_t bv = CPU_XCR0_SSE;

	(void)state;
	memset(x, 0xaa, sizeof(x));
	memcpy(x + 512, &bv, sizeof(bv));
	cpu_xsave_fill(x, CPU_XCR0_X87 | CPU_XCR0_SSE);
	memcpy(&bv, x + 512, sizeof(bv));
	assert_int_equal(bv, 3);
	assert_int_equal(x[0] | x[1] << 8, 0x37f);
	assert_int_equal(x[4] | x[23] | x[32] | x[159], 0);
	assert_int_equal(x[24], 0xaa);    /* MXCSR */
	assert_int_equal(x[160], 0xaa);
	assert_int_equal(x[576], 0xaa);
	cpu_xsave_fill(x, 7);
	assert_int_equal(x[512], 7);
	assert_int_equal(x[576] | x[831], 0);
	assert_int_equal(x[160] & x[415], 0xaa);
}

static void test_model(void **state)
{
	struct cpu_cpuid e[CPU_MODEL_ENTRIES_MAX];
	struct cpu_model_conf conf = { .id = 2, .n_vcpus = 3, .tsc_hz = 2000000000 };
	size_t n = cpu_model(&conf, e);
	const struct cpu_cpuid *leaf = cpu_model_find(e, n, 1, 0);

	(void)state;
	assert_non_null(leaf);
	assert_int_equal(leaf->ebx >> 24, 2);
	assert_true(leaf->ecx >> 31);                       /* a hypervisor is there */
	/* docs/security.md, virtual machines, rule 13: no nested virtualisation. */
	assert_int_equal(leaf->ecx & UINT32_C(1) << 5, 0);   /* VMX */
	leaf = cpu_model_find(e, n, 0x80000001, 0);
	assert_true(!leaf || (leaf->ecx & 4) == 0);         /* SVM */
	leaf = cpu_model_find(e, n, 0x40000000, 0);
	assert_memory_equal(&leaf->ebx, "KVMK", 4);
	/* Above the highest basic leaf the highest one answers; other ranges answer nothing. */
	assert_ptr_equal(cpu_model_find(e, n, 0x50, 0), cpu_model_find(e, n, 0x16, 0));
	assert_null(cpu_model_find(e, n, 0x40000002, 0));
	assert_null(cpu_model_find(e, n, 7, 1));
	/* Caches: three levels, of which the last is shared by all. */
	static const uint32_t kib[] = { 32, 32, 1024, 3 * 32768 };

	for (uint32_t k = 0; k < ARRAY_LEN(kib); k++) {
		leaf = cpu_model_find(e, n, 4, k);
		assert_int_equal(((leaf->ebx >> 22) + 1) * ((leaf->ebx & 0xfff) + 1) * (leaf->ecx + 1) >> 10,
				 kib[k]);
		assert_int_equal(leaf->eax >> 14 & 0xfff, k == 3 ? 3 : 0);
	}
	assert_null(cpu_model_find(e, n, 4, ARRAY_LEN(kib)));
	/* Nothing that the software engine does not do. */
	leaf = cpu_model_find(e, n, 7, 0);
	assert_int_equal(leaf->ebx >> 16 & 1, 0);           /* AVX-512 */
	assert_int_equal(leaf->ecx >> 16 & 1, 0);           /* five levels */
	leaf = cpu_model_find(e, n, 0xd, 1);
	assert_true(!leaf || (leaf->eax & 8) == 0);         /* XSAVES */
	for (size_t i = 0; i < n; i++) {
		assert_ptr_equal(cpu_model_find(e, n, e[i].leaf, e[i].subleaf), &e[i]);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_msr_table),
		cmocka_unit_test(test_reset),
		cmocka_unit_test(test_xsave_left_out),
		cmocka_unit_test(test_model),
	};

	return TEST_RUN(tests);
}
