/* SPDX-License-Identifier: Apache-2.0 */
#include "base/test.h"

#include <string.h>

#include "base/id.h"

static void test_new_ids_differ(void **state)
{
	(void)state;
	struct id a, b;

	assert_int_equal(id_new(&a), 0);
	assert_int_equal(id_new(&b), 0);
	assert_true(id_valid(a.text) && id_valid(b.text));
	assert_string_not_equal(a.text, b.text);
}

static void test_validity(void **state)
{
	(void)state;
	char text[ID_LEN + 2];

	memset(text, 'a', sizeof(text));
	text[ID_LEN] = '\0';
	assert_true(id_valid(text));
	text[5] = 'A';
	assert_false(id_valid(text));
	text[5] = '/';
	assert_false(id_valid(text));
	text[5] = 'a';
	text[ID_LEN - 1] = '\0';
	assert_false(id_valid(text));
	assert_false(id_valid(""));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_new_ids_differ),
		cmocka_unit_test(test_validity),
	};

	return TEST_RUN(tests);
}
