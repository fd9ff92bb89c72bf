/* SPDX-License-Identifier: Apache-2.0 */
/* Code that one vCPU changes and another one runs; the programs are in test-smc.S. */
#include "base/test.h"
#include "vm/cpu/soft/test-vm.h"
#include "vm/cpu/soft/xl.h"
#include "vm/cpu/test-translate.h"

enum {
	FUNCTION = 0x400103, CROSSING = 0x402ffe, UNCHANGED = 0x400203, TIMES = 200,
	OTHER = BASE + 0x1000,
};

#define GUESTS(X) X(smc_told_0) X(smc_told_1) X(smc_hot_0) X(smc_hot_1) X(smc_places_0) \
	X(smc_places_1)
#define DECLARE(name) extern const uint8_t guest_##name[], guest_##name##_end[];
GUESTS(DECLARE)

static void two(const uint8_t *first, const uint8_t *first_end, const uint8_t *second,
		const uint8_t *second_end, size_t cache, const uint32_t *want, size_t n)
{
	static const uint8_t function[] = { 0xb8, 0, 0, 0, 0, 0xc3 };
	struct engine_xl_conf xl = test_translate();

	xl.bytes = cache;
	struct vm *vm = vm_new_xl(2, false, xl);

	vm_long_mode(vm);
	vm_put(vm, FUNCTION, function, sizeof(function));
	vm_put(vm, CROSSING, function, sizeof(function));
	vm_put(vm, UNCHANGED, function, sizeof(function));
	vm_put(vm, BASE, first, (size_t)(first_end - first));
	vm_put(vm, OTHER, second, (size_t)(second_end - second));
	vm_long_cpu(vm, 1, OTHER, STACK - 4096);
	vm_direct_cpu(vm, 0);
	vm_direct_cpu(vm, 1);
	vm_run(vm);
	vm_expect(vm, want, n);
	vm_free(vm);
}

#define TWO(name, cache, ...) \
	do { \
		static const uint32_t want_[] = { __VA_ARGS__ }; \
		two(guest_##name##_0, guest_##name##_0_end, guest_##name##_1, \
		    guest_##name##_1_end, cache, want_, ARRAY_LEN(want_)); \
	} while (0)

static void test_told(void **state)
{
	(void)state;
	TWO(smc_told, 0, TIMES, 0);
}

static void test_told_small(void **state)
{
	(void)state;
	TWO(smc_told, XL_BYTES_MIN, TIMES, 0);
}

static void test_hot(void **state)
{
	(void)state;
	TWO(smc_hot, 0, 0);
}

static void test_hot_small(void **state)
{
	(void)state;
	TWO(smc_hot, XL_BYTES_MIN, 0);
}

static void test_places(void **state)
{
	(void)state;
	TWO(smc_places, 0, 0, 0);
}

static void test_places_small(void **state)
{
	(void)state;
	TWO(smc_places, XL_BYTES_MIN, 0, 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_told), cmocka_unit_test(test_told_small),
		cmocka_unit_test(test_hot), cmocka_unit_test(test_hot_small),
		cmocka_unit_test(test_places), cmocka_unit_test(test_places_small),
	};

	return TEST_RUN(tests);
}
