/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>

#include "image/ref.h"

#define HEX "1111111111111111111111111111111111111111111111111111111111111111"

static void test_names(void **state)
{
	(void)state;
	static const struct {
		const char *in, *full, *familiar;
	} rows[] = {
		{ "debian", "docker.io/library/debian:latest", "debian:latest" },
		{ "debian:12", "docker.io/library/debian:12", "debian:12" },
		{ "user/app", "docker.io/user/app:latest", "user/app:latest" },
		{ "docker.io/debian", "docker.io/library/debian:latest", "debian:latest" },
		{ "index.docker.io/library/debian", "docker.io/library/debian:latest",
		  "debian:latest" },
		{ "localhost/x", "localhost/x:latest", "localhost/x:latest" },
		{ "localhost:5000/a/b_c:T.1-x", "localhost:5000/a/b_c:T.1-x",
		  "localhost:5000/a/b_c:T.1-x" },
		{ "reg.example/a--b/c__d.e", "reg.example/a--b/c__d.e:latest",
		  "reg.example/a--b/c__d.e:latest" },
		{ "[::1]:5000/a", "[::1]:5000/a:latest", "[::1]:5000/a:latest" },
		{ "debian@sha256:" HEX, "docker.io/library/debian@sha256:" HEX,
		  "debian@sha256:" HEX },
		{ "debian:12@sha256:" HEX, "docker.io/library/debian:12@sha256:" HEX,
		  "debian:12@sha256:" HEX },
	};

	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		struct err e = ERR_INIT;
		struct ref ref;

		assert_int_equal(ref_parse(rows[i].in, &ref, &e), 0);
		assert_string_equal(ref_format(&ref).text, rows[i].full);
		assert_string_equal(ref_familiar(&ref).text, rows[i].familiar);
		struct ref again;

		assert_int_equal(ref_parse(ref_format(&ref).text, &again, &e), 0);
		assert_memory_equal(&again, &ref, sizeof(ref));
	}
}

/* Rule 19: a name from outside has one shape. */
static void test_bad_names(void **state)
{
	(void)state;
	static const char *const rows[] = {
		"", "/", "a/", "/a", "a//b", "A", "a/B", "a:", "a:b/c", "a:-x", "a@x", "a@sha256:1",
		"a b", "a\nb", "../a", "a/../b", "a..b", "a_-b", "a___b", "-a", "a-", "x..y/a",
		"host.example:0/a", "host.example:99999/a", "host.example:x/a", ".host/a", "ho_st.x/a",
		"[::1/a", "a:tag\n", "reg.example/", "a@sha256:" HEX "@sha256:" HEX,
	};

	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		struct err e = ERR_INIT;
		struct ref ref;

		if (ref_parse(rows[i], &ref, &e) != -EINVAL) {
			fail_msg("\"%s\" was taken", rows[i]);
		}
	}
	char longest[600];

	memset(longest, 'a', sizeof(longest) - 1);
	longest[sizeof(longest) - 1] = '\0';
	struct err e = ERR_INIT;
	struct ref ref;

	assert_int_equal(ref_parse(longest, &ref, &e), -EINVAL);
	longest[250] = '\0';
	assert_int_equal(ref_parse(longest, &ref, &e), -EINVAL);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_names), cmocka_unit_test(test_bad_names),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
