/* SPDX-License-Identifier: Apache-2.0 */
#include "base/test.h"

#include "cli/cli.h"

static void table_is_sound(void **state)
{
	(void)state;
	const char *fault = cmd_table_fault(&cli_root);

	if (fault) {
		fail_msg("%s", fault);
	}
}

static void words_for_people(void **state)
{
	(void)state;
	assert_string_equal(cli_size(0).text, "0B");
	assert_string_equal(cli_size(999).text, "999B");
	assert_string_equal(cli_size(1000).text, "1.00kB");
	assert_string_equal(cli_size(12345678).text, "12.3MB");
	assert_string_equal(cli_size(999.9e6).text, "1.00GB");
	assert_string_equal(cli_short_id("sha256:0123456789abcdef").text, "0123456789ab");
	assert_string_equal(cli_ago("").text, "");
	assert_string_equal(cli_ago("2999-01-01T00:00:00Z").text, "a moment");
}

static void times(void **state)
{
	(void)state;
	struct cli_text t;
	struct err e = ERR_INIT;

	assert_int_equal(cli_time("1700000000", "since", &t, &e), 0);
	assert_string_equal(t.text, "2023-11-14T22:13:20.000000000Z");
	assert_int_equal(cli_time("10m", "since", &t, &e), 0);
	assert_int_equal(cli_time(NULL, "since", &t, &e), 0);
	assert_string_equal(t.text, "");
	assert_true(cli_time("yesterday", "since", &t, &e) < 0);
}

static void paths(void **state)
{
	(void)state;
	auto_free char *p = cli_instance_path("a/b ?", "start");

	assert_string_equal(p, "/v1/instances/a%2Fb%20%3F/start");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(table_is_sound),
		cmocka_unit_test(words_for_people),
		cmocka_unit_test(times),
		cmocka_unit_test(paths),
	};

	return TEST_RUN(tests);
}
