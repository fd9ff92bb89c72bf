/* SPDX-License-Identifier: Apache-2.0 */
#include "base/test.h"

#include <string.h>

#include "base/mem.h"

static void test_zeroed(void **state)
{
	(void)state;
	auto_free unsigned char *p = mem_calloc(3, 5);

	for (int i = 0; i < 15; i++) {
		assert_int_equal(p[i], 0);
	}
}

static void test_overflow_is_no_memory(void **state)
{
	(void)state;
	void *p = mem_realloc(NULL, SIZE_MAX / 4, 8);

	assert_null(p);
}

static void test_the_nth_fails(void **state)
{
	(void)state;
	mem_fail_at(2, false);
	auto_free void *a = mem_calloc(1, 1);
	auto_free void *b = mem_calloc(1, 1);
	auto_free void *c = mem_dup("x", 2);

	assert_non_null(a);
	assert_null(b);
	assert_string_equal(c, "x");
	assert_true(mem_failed());

	mem_fail_at(1, true);
	auto_free void *d = mem_calloc(1, 1);
	auto_free void *e = mem_calloc(1, 1);

	assert_true(!d && !e);
	mem_fail_at(0, false);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_zeroed),
		cmocka_unit_test(test_overflow_is_no_memory),
		cmocka_unit_test(test_the_nth_fails),
	};

	return TEST_RUN(tests);
}
