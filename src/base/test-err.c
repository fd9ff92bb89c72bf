/* SPDX-License-Identifier: Apache-2.0 */
#include "base/test.h"

#include <errno.h>
#include <string.h>

#include "base/err.h"

static void test_codes_have_a_row(void **state)
{
	(void)state;
	for (int c = ERR_NONE; c < ERR__COUNT; c++) {
		assert_non_null(err_codes[c].name);
		assert_int_equal(err_code_parse(err_codes[c].name), c);
		assert_true(c == ERR_NONE || err_codes[c].http_status >= 400);
		assert_true(c == ERR_NONE || err_codes[c].exit_code > 0);
		for (int d = ERR_NONE; d < c; d++) {
			assert_string_not_equal(err_codes[c].name, err_codes[d].name);
			assert_int_not_equal(err_codes[c].exit_code, err_codes[d].exit_code);
		}
	}
	assert_int_equal(err_code_parse("no such"), ERR__COUNT);
}

static void test_set_and_wrap(void **state)
{
	(void)state;
	struct err e = ERR_INIT;
	char text[256];

	assert_int_equal(err_set(&e, ENOENT, ERR_NOT_FOUND, "layer %s", "a"), -ENOENT);
	assert_int_equal(err_wrap(&e, "image %s", "b"), -ENOENT);
	assert_string_equal(err_text(&e, text, sizeof(text)), "image b: layer a");

	assert_int_equal(err_set(&e, ENOSPC, ERR_HOST, "write"), -ENOSPC);
	assert_string_equal(err_text(&e, text, sizeof(text)), "write: No space left on device");

	assert_int_equal(err_field(&e, "/memory", "is %s", "bad"), -EINVAL);
	err_prefix_field(&e, "/linux");
	assert_string_equal(err_text(&e, text, sizeof(text)), "/linux/memory: is bad");
}

static void test_an_errno_is_never_zero(void **state)
{
	(void)state;
	struct err e = ERR_INIT;

	assert_int_equal(err_set(&e, 0, ERR_NONE, "x"), -EIO);
	assert_int_equal(e.code, ERR_HOST);
	err_clear(&e);
	assert_int_equal(err_wrap(&e, "y"), -EIO);
}

static void test_long_messages_are_cut(void **state)
{
	(void)state;
	struct err e = ERR_INIT;
	char name[2000];

	memset(name, 'x', sizeof(name));
	name[sizeof(name) - 1] = '\0';
	assert_true(err_set(&e, EIO, ERR_HOST, "%s", name) < 0);
	assert_true(err_wrap(&e, "outermost") < 0);
	assert_int_equal(strlen(e.msg), sizeof(e.msg) - 1);
	assert_int_equal(strncmp(e.msg, "outermost: xxx", 14), 0);
	for (int i = 0; i < 10; i++) {
		err_prefix_field(&e, "/a-rather-long-name");
	}
	assert_int_equal(strlen(e.field), sizeof(e.field) - 1);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_codes_have_a_row),
		cmocka_unit_test(test_set_and_wrap),
		cmocka_unit_test(test_an_errno_is_never_zero),
		cmocka_unit_test(test_long_messages_are_cut),
	};

	return TEST_RUN(tests);
}
