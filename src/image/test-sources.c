/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "image/sources.h"

static void deb822(unused_arg void **state)
{
	static const char text[] =
		"Types: deb deb-src\n"
		"# a comment\n"
		"URIs: http://a/debian\n"
		"Suites: bookworm\n"
		" bookworm-updates sid\n"
		"Components: main contrib\n"
		"Signed-By: /usr/share/keyrings/k.gpg\n"
		"\n"
		"Types: deb\nURIs: http://n\nSuites: nodistro\nComponents: main\n"
		"\n"
		"Types: deb\nURIs: http://off\nSuites: bookworm\nComponents: main\nEnabled: no\n"
		"\n"
		"Types: deb-src\nURIs: http://src\nSuites: bookworm\nComponents: main\n"
		"\n"
		"Types: deb\nURIs: http://key\nSuites: bookworm\nComponents: main\n"
		"Signed-By:\n -----BEGIN PGP\n .\n";
	auto_strv struct strv v = STRV_INIT;

	assert_int_equal(sources_parse(text, true, "bookworm", &v), 0);
	assert_int_equal(v.n, 2);
	assert_string_equal(v.v[0], "deb [signed-by=/usr/share/keyrings/k.gpg] http://a/debian "
				    "bookworm main contrib");
	assert_string_equal(v.v[1], "deb [signed-by=/usr/share/keyrings/k.gpg] http://a/debian "
				    "bookworm-updates main contrib");
}

static void lines(unused_arg void **state)
{
	static const char text[] =
		"# deb http://c bookworm main\n"
		"deb http://a bookworm main\n"
		"deb [arch=amd64 signed-by=/k] http://b bookworm-security main # why\n"
		"deb-src http://a bookworm main\n"
		"deb http://x cloud-sdk-bookworm main\n"
		"deb [broken http://a bookworm main\n"
		"deb http://y bookworm-backports-sloppy main\n";
	auto_strv struct strv v = STRV_INIT;

	assert_int_equal(sources_parse(text, false, "bookworm", &v), 0);
	assert_int_equal(v.n, 2);
	assert_string_equal(v.v[0], "deb http://a bookworm main");
	assert_string_equal(v.v[1], "deb [arch=amd64 signed-by=/k] http://b bookworm-security main ");
}

int main(void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(deb822), cmocka_unit_test(lines) };

	return cmocka_run_group_tests(tests, NULL, NULL);
}
