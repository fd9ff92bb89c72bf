/* SPDX-License-Identifier: Apache-2.0 */
#include "base/test.h"

#include <errno.h>

#include "base/mem.h"
#include "base/str.h"

static void test_buffer_grows_and_drops(void **state)
{
	(void)state;
	auto_buf struct buf b = BUF_INIT;

	assert_string_equal(buf_str(&b), "");
	for (int i = 0; i < 1000; i++) {
		buf_printf(&b, "%d,", i % 10);
	}
	assert_false(buf_failed(&b));
	assert_int_equal(b.len, 2000);
	buf_drop(&b, 1996);
	assert_string_equal(buf_str(&b), "8,9,");
	buf_reset(&b);
	buf_add_str(&b, "again");
	buf_add(&b, "", 0);
	assert_string_equal(buf_str(&b), "again");
}

static void test_buffer_without_memory(void **state)
{
	(void)state;
	auto_buf struct buf b = BUF_INIT;

	mem_fail_at(1, false);
	buf_add_str(&b, "lost");
	mem_fail_at(0, false);
	buf_add_str(&b, "also lost");
	assert_true(buf_failed(&b));
	assert_null(buf_take(&b));
}

static void test_take_of_an_empty_buffer(void **state)
{
	(void)state;
	auto_buf struct buf b = BUF_INIT;
	auto_free char *s = buf_take(&b);

	assert_string_equal(s, "");
}

static void test_prefixes_and_suffixes(void **state)
{
	(void)state;
	assert_string_equal(str_after("holm-oci", "holm-"), "oci");
	assert_null(str_after("holm", "holm-"));
	assert_true(str_ends("a.tar.gz", ".gz"));
	assert_false(str_ends("gz", ".gz"));
	assert_true(str_eq0(NULL, NULL));
	assert_false(str_eq0(NULL, ""));
}

static void test_split(void **state)
{
	(void)state;
	const char *cursor = "a,,bc", *part;
	size_t len, n = 0;
	static const char *const want[] = { "a", "", "bc" };

	while (str_split(&cursor, ',', &part, &len)) {
		assert_int_equal(len, strlen(want[n]));
		assert_memory_equal(part, want[n], len);
		n++;
	}
	assert_int_equal(n, 3);
}

static void test_strv(void **state)
{
	(void)state;
	auto_strv struct strv v = STRV_INIT;

	assert_int_equal(strv_add(&v, "a"), 0);
	assert_int_equal(strv_addf(&v, "%d", 5), 0);
	assert_true(strv_has(&v, "5"));
	assert_null(v.v[2]);
	mem_fail_at(1, true);
	assert_int_equal(strv_add(&v, "b"), -ENOMEM);
	mem_fail_at(0, false);
	assert_int_equal(v.n, 2);
}

static void test_unsigned(void **state)
{
	(void)state;
	static const struct {
		const char *text;
		int         r;
		uint64_t    v;
	} rows[] = {
		{ "0", 0, 0 }, { "18446744073709551615", 0, UINT64_MAX }, { "007", 0, 7 },
		{ "18446744073709551616", -ERANGE, 0 }, { "99999999999999999999999", -ERANGE, 0 },
		{ "", -EINVAL, 0 }, { "-1", -EINVAL, 0 }, { "+1", -EINVAL, 0 }, { " 1", -EINVAL, 0 },
		{ "1 ", -EINVAL, 0 }, { "0x1", -EINVAL, 0 },
	};

	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		uint64_t v = 0;

		assert_int_equal(parse_u64(rows[i].text, UINT64_MAX, &v), rows[i].r);
		assert_true(v == rows[i].v);
	}
	uint64_t v = 0;

	assert_int_equal(parse_u64("4294967296", UINT32_MAX, &v), -ERANGE);
	assert_int_equal(parse_u64_base("755", 8, 07777, &v), 0);
	assert_int_equal(v, 0755);
	assert_int_equal(parse_u64_base("8", 8, 07777, &v), -EINVAL);
}

static void test_signed(void **state)
{
	(void)state;
	int64_t v = 0;

	assert_int_equal(parse_i64("-9223372036854775808", INT64_MIN, INT64_MAX, &v), 0);
	assert_true(v == INT64_MIN);
	assert_int_equal(parse_i64("9223372036854775808", INT64_MIN, INT64_MAX, &v), -ERANGE);
	assert_int_equal(parse_i64("--1", INT64_MIN, INT64_MAX, &v), -EINVAL);
	assert_int_equal(parse_i64("-6", -5, 5, &v), -ERANGE);
}

static void test_sizes(void **state)
{
	(void)state;
	static const struct {
		const char *text;
		int         r;
		uint64_t    v;
	} rows[] = {
		{ "0", 0, 0 }, { "512", 0, 512 }, { "64k", 0, 65536 }, { "1.5g", 0, 1610612736 },
		{ "2GiB", 0, UINT64_C(2) << 30 }, { "3MB", 0, 3 << 20 }, { "7b", 0, 7 },
		{ "1t", 0, UINT64_C(1) << 40 }, { "", -EINVAL, 0 }, { "k", -EINVAL, 0 },
		{ "-1", -EINVAL, 0 }, { "1x", -EINVAL, 0 }, { "1kk", -EINVAL, 0 },
		{ "99999999999t", -ERANGE, 0 },
	};

	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		uint64_t v = 0;

		assert_int_equal(parse_size(rows[i].text, &v), rows[i].r);
		assert_true(v == rows[i].v);
	}
	assert_string_equal(format_size(1023).text, "1023B");
	assert_string_equal(format_size(1536).text, "1.5KiB");
	assert_string_equal(format_size(UINT64_MAX).text, "16EiB");
}

static void test_durations(void **state)
{
	(void)state;
	static const struct {
		const char *text;
		int         r;
		uint64_t    v;
	} rows[] = {
		{ "10", 0, UINT64_C(10000000000) }, { "250ms", 0, 250000000 },
		{ "1h30m", 0, UINT64_C(5400000000000) }, { "1.5s", 0, 1500000000 },
		{ "0", 0, 0 }, { "", -EINVAL, 0 }, { "5x", -EINVAL, 0 }, { "1h30", -EINVAL, 0 },
		{ "-1s", -EINVAL, 0 }, { "9999999999999h", -ERANGE, 0 },
	};

	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		uint64_t v = 0;

		assert_int_equal(parse_duration(rows[i].text, &v), rows[i].r);
		assert_true(v == rows[i].v);
	}
}

static void test_names(void **state)
{
	(void)state;
	char text[130];

	memset(text, 'a', sizeof(text));
	text[128] = '\0';
	assert_true(name_valid(text));
	text[128] = 'a';
	text[129] = '\0';
	assert_false(name_valid(text));
	assert_true(name_valid("A-b_c.9"));
	assert_false(name_valid(""));
	assert_false(name_valid(".."));
	assert_false(name_valid("-x"));
	assert_false(name_valid("a/b"));
	assert_false(name_valid("a\n"));
	assert_false(name_valid("\xc3\xa4"));
}

static void test_hex(void **state)
{
	(void)state;
	unsigned char data[2] = { 0, 0 };
	char text[5];

	assert_int_equal(hex_parse("0aF9", 2, data), 0);
	hex_format(data, 2, text);
	assert_string_equal(text, "0af9");
	assert_int_equal(hex_parse("0aF", 2, data), -EINVAL);
	assert_int_equal(hex_parse("0aFg", 2, data), -EINVAL);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_buffer_grows_and_drops),
		cmocka_unit_test(test_buffer_without_memory),
		cmocka_unit_test(test_take_of_an_empty_buffer),
		cmocka_unit_test(test_prefixes_and_suffixes),
		cmocka_unit_test(test_split),
		cmocka_unit_test(test_strv),
		cmocka_unit_test(test_unsigned),
		cmocka_unit_test(test_signed),
		cmocka_unit_test(test_sizes),
		cmocka_unit_test(test_durations),
		cmocka_unit_test(test_names),
		cmocka_unit_test(test_hex),
	};

	return TEST_RUN(tests);
}
