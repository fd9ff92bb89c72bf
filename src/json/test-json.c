/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>

#include "json/json.h"

static int parse(const char *text, json_t **ret, struct err *e)
{
	return json_parse(text, strlen(text), &json_limits_request, "the body", ret, e);
}

static void test_refusals(void **state)
{
	(void)state;
	static const char *const bad[] = {
		"", "{", "{\"a\":1}x", "{\"a\":1,\"a\":2}", "{\"a\":\"\xff\"}", "{\"a\":\"\\u0000\"}",
		"{'a':1}", "[1,]", "{\"a\":18446744073709551616}", "nul",
	};

	for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
		auto_json json_t *j = NULL;
		struct err e = ERR_INIT;

		assert_true(parse(bad[i], &j, &e) < 0);
		assert_int_equal(e.code, ERR_INVALID);
		assert_non_null(strstr(e.msg, "the body"));
	}
}

static void test_limits(void **state)
{
	(void)state;
	auto_buf struct buf deep = BUF_INIT;
	auto_json json_t *j = NULL;
	struct err e = ERR_INIT;

	for (size_t i = 0; i <= json_limits_request.depth; i++) {
		buf_add_char(&deep, '[');
	}
	assert_true(parse(buf_str(&deep), &j, &e) < 0);
	assert_int_equal(e.code, ERR_LIMIT);

	auto_buf struct buf large = BUF_INIT;

	assert_true(buf_reserve(&large, json_limits_request.bytes + 1));
	memset(large.data, ' ', json_limits_request.bytes + 1);
	large.len = json_limits_request.bytes + 1;
	assert_true(json_parse(large.data, large.len, &json_limits_request, "x", &j, &e) < 0);
	assert_int_equal(e.code, ERR_LIMIT);
}

static void test_big_numbers_survive(void **state)
{
	(void)state;
	const char *text = "{\"a\":18446744073709551615,\"b\":[9223372036854775808,7],"
			   "\"c\":\"9999999999999999999\",\"d\":-1}";
	auto_json json_t *j = NULL;
	struct err e = ERR_INIT;
	uint64_t v = 0;

	assert_int_equal(parse(text, &j, &e), 0);
	assert_true(json_big_value(json_object_get(j, "a"), &v));
	assert_true(v == UINT64_MAX);
	assert_string_equal(json_string_value(json_object_get(j, "c")), "9999999999999999999");

	auto_free char *out = json_text(j);

	assert_string_equal(out, text);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_refusals),
		cmocka_unit_test(test_limits),
		cmocka_unit_test(test_big_numbers_survive),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
