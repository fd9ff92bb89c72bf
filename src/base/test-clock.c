/* SPDX-License-Identifier: Apache-2.0 */
#include "base/test.h"

#include <errno.h>
#include <time.h>

#include "base/clock.h"

static void test_format_and_parse(void **state)
{
	(void)state;
	static const struct {
		const char *text;
		uint64_t    ns;
	} rows[] = {
		{ "1970-01-01T00:00:00.000000000Z", 0 },
		{ "2026-11-22T10:34:00.123456789Z", UINT64_C(1795343640123456789) },
		{ "2000-02-29T23:59:59.000000001Z", UINT64_C(951868799000000001) },
	};

	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		uint64_t ns = 1;

		assert_string_equal(time_format(rows[i].ns).text, rows[i].text);
		assert_int_equal(time_parse(rows[i].text, &ns), 0);
		assert_true(ns == rows[i].ns);
	}
}

/* As the C library has it, day for day to the end of what 64 bits of nanoseconds hold. */
static void test_every_day(void **state)
{
	(void)state;
	for (time_t sec = 7; sec < 18446744073; sec += 86399) {
		char want[40];
		struct tm tm;

		assert_non_null(gmtime_r(&sec, &tm));
		assert_true(strftime(want, sizeof(want), "%Y-%m-%dT%H:%M:%S.000000000Z", &tm) > 0);
		assert_string_equal(time_format((uint64_t)sec * NS_PER_SEC).text, want);
	}
}

static void test_offsets_and_epoch(void **state)
{
	(void)state;
	uint64_t ns = 0;

	assert_int_equal(time_parse("2026-01-01T02:00:00+02:00", &ns), 0);
	assert_string_equal(time_format(ns).text, "2026-01-01T00:00:00.000000000Z");
	assert_int_equal(time_parse("2026-01-01T00:00:00.25-00:30", &ns), 0);
	assert_string_equal(time_format(ns).text, "2026-01-01T00:30:00.250000000Z");
	assert_int_equal(time_parse("1700000000.5", &ns), 0);
	assert_true(ns == UINT64_C(1700000000500000000));
}

static void test_refusals(void **state)
{
	(void)state;
	static const char *const bad[] = {
		"", "now", "2026-01-01", "2026-01-01T00:00:00", "2026-01-01T00:00:00Zx",
		"2026-01-01T00:00:00+02", "12x", "-5", "99999999999999999999",
	};

	for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
		uint64_t ns = 7;

		assert_true(time_parse(bad[i], &ns) < 0);
		assert_true(ns == 7);
	}
}

static void test_monotonic(void **state)
{
	(void)state;
	uint64_t a = clock_now_ns();

	assert_true(clock_now_ns() >= a);
	assert_true(clock_wall_ns() > UINT64_C(1600000000) * NS_PER_SEC);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_format_and_parse),
		cmocka_unit_test(test_every_day),
		cmocka_unit_test(test_offsets_and_epoch),
		cmocka_unit_test(test_refusals),
		cmocka_unit_test(test_monotonic),
	};

	return TEST_RUN(tests);
}
