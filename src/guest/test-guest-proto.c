/* SPDX-License-Identifier: Apache-2.0 */
#include "base/test.h"
#include "guest/guest-proto.h"

static void test_tables(void **state)
{
	(void)state;
	for (unsigned i = 1; i < GUEST_MSG__COUNT; i++) {
		const char *fault = wire_msg_fault(&guest_msgs[i]);

		if (fault) {
			fail_msg("message %u: %s", i, fault);
		}
		assert_int_equal(guest_msgs[i].type, i);
		assert_true(guest_msgs[i].size <= sizeof(union guest_any));
		assert_ptr_equal(guest_msg((uint16_t)i), &guest_msgs[i]);
	}
	assert_null(guest_msg(GUEST_NONE));
	assert_null(guest_msg(GUEST_MSG__COUNT));
}

int main(void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(test_tables) };

	return cmocka_run_group_tests(tests, NULL, NULL);
}
