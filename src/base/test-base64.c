/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <errno.h>

#include "base/base64.h"

static const struct {
	const char *plain, *text;
} pairs[] = {
	{ "", "" }, { "f", "Zg==" }, { "fo", "Zm8=" }, { "foo", "Zm9v" }, { "foob", "Zm9vYg==" },
	{ "fooba", "Zm9vYmE=" }, { "foobar", "Zm9vYmFy" }, { "\xff\xfe\xfd", "//79" },
	{ "user:pass", "dXNlcjpwYXNz" },
};

static void round_trips(unused_arg void **state)
{
	for (size_t i = 0; i < ARRAY_LEN(pairs); i++) {
		auto_buf struct buf t = BUF_INIT, p = BUF_INIT;

		base64_encode(pairs[i].plain, strlen(pairs[i].plain), &t);
		assert_string_equal(buf_str(&t), pairs[i].text);
		assert_int_equal(base64_decode(pairs[i].text, strlen(pairs[i].text), &p), 0);
		assert_string_equal(buf_str(&p), pairs[i].plain);
	}
}

static void refuses(unused_arg void **state)
{
	static const char *const bad[] = { "Z", "Zg=", "Zh==", "Zm9=", "Z*==", "Zg===", "====",
					   "Zm 9v", "Zm9v\n", "=" };

	for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
		auto_buf struct buf p = BUF_INIT;

		if (base64_decode(bad[i], strlen(bad[i]), &p) != -EINVAL) {
			fail_msg("\"%s\" was taken", bad[i]);
		}
	}
	auto_buf struct buf p = BUF_INIT;

	assert_int_equal(base64_decode("Zg", 2, &p), 0);
	assert_string_equal(buf_str(&p), "f");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(round_trips), cmocka_unit_test(refuses),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
