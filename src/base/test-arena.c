/* SPDX-License-Identifier: Apache-2.0 */
#include "base/test.h"

#include <string.h>

#include "base/arena.h"
#include "base/mem.h"

static void test_memory_is_zeroed_and_aligned(void **state)
{
	(void)state;
	auto_arena struct arena a = ARENA_INIT;

	for (size_t n = 1; n < 3000; n += 97) {
		unsigned char *p = arena_alloc(&a, n, 1);

		assert_non_null(p);
		assert_int_equal((uintptr_t)p % 16, 0);
		for (size_t i = 0; i < n; i++) {
			assert_int_equal(p[i], 0);
		}
		memset(p, 0xff, n);
	}
}

static void test_larger_than_a_block(void **state)
{
	(void)state;
	auto_arena struct arena a = ARENA_INIT;
	char *small = arena_strdup(&a, "small");
	char *large = arena_alloc(&a, 1000000, 1);

	assert_non_null(large);
	memset(large, 1, 1000000);
	assert_string_equal(small, "small");
	assert_string_equal(arena_printf(&a, "%s-%d", "x", 7), "x-7");
	assert_string_equal(arena_strndup(&a, "abcdef", 3), "abc");
}

static void test_overflow_and_no_memory(void **state)
{
	(void)state;
	auto_arena struct arena a = ARENA_INIT;

	assert_null(arena_alloc(&a, SIZE_MAX / 2, 3));
	mem_fail_at(1, false);
	assert_null(arena_alloc(&a, 1, 1));
	mem_fail_at(0, false);
	assert_non_null(arena_alloc(&a, 1, 1));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_memory_is_zeroed_and_aligned),
		cmocka_unit_test(test_larger_than_a_block),
		cmocka_unit_test(test_overflow_and_no_memory),
	};

	return TEST_RUN(tests);
}
