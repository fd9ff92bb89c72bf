/* SPDX-License-Identifier: Apache-2.0 */
/* What needs no network; the rest is tests/image. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "image/http.h"

static const struct {
	const char *a, *b;
	bool        same;
} origins[] = {
	{ "https://h/x", "https://h/y", true },
	{ "https://h/x", "https://h:443/y", true },
	{ "https://h", "https://H/", true },
	{ "https://h", "http://h", false },
	{ "http://h:80", "http://h:5000", false },
	{ "https://h", "https://h.evil", false },
	{ "https://h", "https://h@evil/", false },
	{ "https://h", "https://evil/h", false },
	{ "https://h", "nonsense", false },
	{ "https://h", "", false },
};

static void compares_origins(unused_arg void **state)
{
	for (size_t i = 0; i < ARRAY_LEN(origins); i++) {
		if (http_same_origin(origins[i].a, origins[i].b) != origins[i].same) {
			fail_msg("%s and %s", origins[i].a, origins[i].b);
		}
	}
}

static const struct {
	const char *base, *location, *is;
} locations[] = {
	{ "https://h/v2/a", "/x?y=1", "https://h/x?y=1" },
	{ "https://h/v2/a", "b", "https://h/v2/b" },
	{ "https://h/v2/a", "http://g/", "http://g/" },
	{ "https://h:5/v2/a", "//g/x", "https://g/x" },
	{ "https://h/v2/a", "http://[", NULL },
};

static void resolves(unused_arg void **state)
{
	for (size_t i = 0; i < ARRAY_LEN(locations); i++) {
		auto_free char *is = http_resolve(locations[i].base, locations[i].location);

		if (!str_eq0(is, locations[i].is)) {
			fail_msg("%s: %s", locations[i].location, is ? is : "NULL");
		}
	}
	assert_true(http_is_plain("HTTP://x"));
	assert_false(http_is_plain("https://x"));
}

static void escapes(unused_arg void **state)
{
	auto_free char *s = http_escape("a b&c=d/e:f");

	assert_string_equal(s, "a%20b%26c%3Dd%2Fe%3Af");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(compares_origins), cmocka_unit_test(resolves),
		cmocka_unit_test(escapes),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
