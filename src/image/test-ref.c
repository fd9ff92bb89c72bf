/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <string.h>

#include "base/str.h"
#include "image/ref.h"

#define HEX64 "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"
#define SHA "sha256:" HEX64
#define A64 "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"

static const struct {
	const char *in, *full, *brief;
} good[] = {
	{ "debian", "docker.io/library/debian:latest", "debian:latest" },
	{ "debian:12", "docker.io/library/debian:12", "debian:12" },
	{ "me/app", "docker.io/me/app:latest", "me/app:latest" },
	{ "a/b/c:t", "docker.io/a/b/c:t", "a/b/c:t" },
	{ "docker.io/debian", "docker.io/library/debian:latest", "debian:latest" },
	{ "index.docker.io/debian", "docker.io/library/debian:latest", "debian:latest" },
	{ "docker.io/library/debian", "docker.io/library/debian:latest", "debian:latest" },
	{ "library/debian", "docker.io/library/debian:latest", "debian:latest" },
	{ "localhost/x", "localhost/x:latest", "localhost/x:latest" },
	{ "localhost:5000/x", "localhost:5000/x:latest", "localhost:5000/x:latest" },
	{ "127.0.0.1:5000/a/b:1", "127.0.0.1:5000/a/b:1", "127.0.0.1:5000/a/b:1" },
	{ "[::1]:5000/a", "[::1]:5000/a:latest", "[::1]:5000/a:latest" },
	{ "UPPER/x", "UPPER/x:latest", "UPPER/x:latest" },
	{ "quay.io/a/b@" SHA, "quay.io/a/b@" SHA, "quay.io/a/b@" SHA },
	{ "quay.io/a/b:t@" SHA, "quay.io/a/b:t@" SHA, "quay.io/a/b:t@" SHA },
	{ "debian@" SHA, "docker.io/library/debian@" SHA, "debian@" SHA },
	{ "a__b", "docker.io/library/a__b:latest", "a__b:latest" },
	{ "a---b.c_d", "docker.io/library/a---b.c_d:latest", "a---b.c_d:latest" },
	{ "x:_T.-", "docker.io/library/x:_T.-", "x:_T.-" },
	{ "docker.io/library/a/b", "docker.io/library/a/b:latest", "library/a/b:latest" },
	{ A64 "a", "docker.io/library/" A64 "a:latest", A64 "a:latest" },
};

static const char *const refused[] = {
	"", ":", "@", "/", "a/", "/a", "a//b", "Debian", "a:", "a@", "a@sha256:00", "a@md5:00",
	"a b", "a\n", "-a", "a-", "a_", "a___b", "a..b", "a:.t", "a:-t", "a:t:u", "host:/x",
	"host:0/x", "host:65536/x", "host:5x/x", ".host/x", "host./x", "ho..st/x", "-h.x/y",
	"h-.x/y", "[::1/x", "[]/x", "[g::1]/x", HEX64, "a@" SHA "0", "a@" SHA "@" SHA, "a/../b",
	"http://a/b", "a.b/", "a.b/C", "host.x/a@sha256:ABCDEF",
};

static void accepts(unused_arg void **state)
{
	for (size_t i = 0; i < ARRAY_LEN(good); i++) {
		struct err e = ERR_INIT;
		struct ref r, again;

		if (ref_parse(good[i].in, &r, &e) < 0) {
			fail_msg("%s: %s", good[i].in, e.msg);
		}
		assert_string_equal(ref_format(&r).text, good[i].full);
		assert_string_equal(ref_familiar(&r).text, good[i].brief);
		assert_int_equal(ref_parse(good[i].full, &again, &e), 0);
		assert_memory_equal(&again, &r, sizeof(r));
		assert_int_equal(ref_parse(good[i].brief, &again, &e), 0);
		assert_memory_equal(&again, &r, sizeof(r));
	}
}

static void refuses(unused_arg void **state)
{
	for (size_t i = 0; i < ARRAY_LEN(refused); i++) {
		struct err e = ERR_INIT;
		struct ref r;

		if (ref_parse(refused[i], &r, &e) == 0) {
			fail_msg("\"%s\" was taken as %s", refused[i], ref_format(&r).text);
		}
		assert_int_equal(e.code, ERR_INVALID);
	}
}

static void bounds_lengths(unused_arg void **state)
{
	char tag[200], path[400];
	struct err e = ERR_INIT;
	struct ref r;

	memset(tag, 'a', sizeof(tag));
	tag[0] = 'x';
	tag[1] = ':';
	tag[2 + REF_TAG_MAX] = '\0';
	assert_int_equal(ref_parse(tag, &r, &e), 0);
	tag[2 + REF_TAG_MAX] = 'a';
	tag[3 + REF_TAG_MAX] = '\0';
	assert_true(ref_parse(tag, &r, &e) < 0);

	memset(path, 'a', sizeof(path));
	memcpy(path, "h.x/", 4);
	path[4 + REF_PATH_MAX] = '\0';
	assert_int_equal(ref_parse(path, &r, &e), 0);
	path[4 + REF_PATH_MAX] = 'a';
	path[5 + REF_PATH_MAX] = '\0';
	assert_true(ref_parse(path, &r, &e) < 0);
}

static void hosts(unused_arg void **state)
{
	char host[REF_HOST_MAX + 1];
	struct err e = ERR_INIT;

	assert_int_equal(ref_parse_host("", host, &e), 0);
	assert_string_equal(host, "docker.io");
	assert_int_equal(ref_parse_host("r.example:5000", host, &e), 0);
	assert_string_equal(host, "r.example:5000");
	assert_true(ref_parse_host("http://x", host, &e) < 0);
	assert_true(ref_parse_host("x/y", host, &e) < 0);
}

static void versions(unused_arg void **state)
{
	struct err e = ERR_INIT;
	struct ref r;

	assert_int_equal(ref_parse("a:t@" SHA, &r, &e), 0);
	assert_string_equal(ref_version(&r), SHA);
	assert_string_equal(ref_repository(&r).text, "docker.io/library/a");
	assert_int_equal(ref_parse("a:t", &r, &e), 0);
	assert_string_equal(ref_version(&r), "t");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(accepts), cmocka_unit_test(refuses),
		cmocka_unit_test(bounds_lengths), cmocka_unit_test(hosts),
		cmocka_unit_test(versions),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
