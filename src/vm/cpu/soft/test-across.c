/* SPDX-License-Identifier: Apache-2.0 */
/* Numbers of addresses: one for each, and none gets to mean another address in the same epoch. */
#include "base/mem.h"
#include "base/test.h"
#include "vm/cpu/soft/xl-parts.h"

enum { MANY = 20000 };

static void test_one_for_each(unused_arg void **state)
{
	struct xl_across *all = mem_calloc(XL_ACROSS, sizeof(*all));
	unsigned a = 0, b = 0, found = 0;

	assert_non_null(all);
	assert_false(xl_across_find(all, 0x1000, &found));
	assert_true(xl_across_hold(all, 0x1000, 0, &a));
	assert_true(xl_across_hold(all, 0x2000, 0, &b));
	assert_int_not_equal(a, b);
	assert_true(xl_across_hold(all, 0x1000, 0, &found));
	assert_int_equal(found, a);
	xl_across_drop(all, a, 0);
	assert_true(xl_across_find(all, 0x1000, &found));
	assert_int_equal(found, a);
	xl_across_drop(all, a, 0);
	assert_false(xl_across_find(all, 0x1000, &found));
	free(all);
}

static void test_kept_for_an_epoch(unused_arg void **state)
{
	struct xl_across *all = mem_calloc(XL_ACROSS, sizeof(*all));
	unsigned n = 0, got[2] = { 0 };

	assert_non_null(all);
	for (uint32_t epoch = 0; epoch < 2; epoch++) {
		for (uint64_t rip = 1; rip <= MANY; rip++) {
			uint64_t at = (epoch + 1) * UINT64_C(0x40000000) + rip * 16;

			if (xl_across_hold(all, at, epoch, &n)) {
				assert_int_equal(all[n].rip, at);
				xl_across_drop(all, n, epoch);
				got[epoch]++;
			}
		}
		/* All are dropped, and yet each has been given out once at most. */
		assert_in_range(got[epoch], XL_ACROSS / 2, XL_ACROSS);
	}
	free(all);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_one_for_each),
		cmocka_unit_test(test_kept_for_an_epoch),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
