/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <errno.h>
#include <string.h>

#include "image/challenge.h"

static const struct {
	const char         *in;
	enum challenge_kind kind;
	const char         *realm, *service, *scope;
} good[] = {
	{ "Bearer realm=\"https://a/t\",service=\"s\",scope=\"repository:x:pull,push\"",
	  CHALLENGE_BEARER, "https://a/t", "s", "repository:x:pull,push" },
	{ "bearer REALM=\"r\" , service = s", CHALLENGE_BEARER, "r", "s", "" },
	{ "Basic realm=\"Registry \\\"x\\\"\"", CHALLENGE_BASIC, "Registry \"x\"", "", "" },
	{ "Basic realm=b, Bearer realm=\"t\",service=s", CHALLENGE_BEARER, "t", "s", "" },
	{ "Bearer realm=t, Basic realm=b", CHALLENGE_BEARER, "t", "", "" },
	{ "Negotiate, Basic realm=x", CHALLENGE_BASIC, "x", "", "" },
	{ "Digest realm=x, nonce=\"y\"", CHALLENGE_NONE, "", "", "" },
	{ "Basic", CHALLENGE_BASIC, "", "", "" },
	{ "", CHALLENGE_NONE, "", "", "" },
	{ "Bearer realm=a,unknown=\"z\",scope=\"\"", CHALLENGE_BEARER, "a", "", "" },
};

static const char *const refused[] = {
	"Bearer realm=\"x", "Bearer realm=", "Bearer realm=\"a\nb\"", "=", "Bearer =x",
	"Bearer realm=\"a\\", "\"", "Bearer realm=a;b",
};

static void accepts(unused_arg void **state)
{
	for (size_t i = 0; i < ARRAY_LEN(good); i++) {
		struct challenge c = { .kind = CHALLENGE_NONE };

		if (challenge_parse(good[i].in, strlen(good[i].in), &c) < 0) {
			fail_msg("refused: %s", good[i].in);
		}
		assert_int_equal(c.kind, good[i].kind);
		assert_string_equal(c.realm, good[i].realm);
		assert_string_equal(c.service, good[i].service);
		assert_string_equal(c.scope, good[i].scope);
	}
}

static void refuses(unused_arg void **state)
{
	for (size_t i = 0; i < ARRAY_LEN(refused); i++) {
		struct challenge c = { .kind = CHALLENGE_NONE };

		if (challenge_parse(refused[i], strlen(refused[i]), &c) != -EBADMSG) {
			fail_msg("taken: %s", refused[i]);
		}
	}

	char text[2000];
	struct challenge c = { .kind = CHALLENGE_NONE };

	memset(text, 'a', sizeof(text));
	memcpy(text, "Bearer realm=", 13);
	assert_int_equal(challenge_parse(text, sizeof(text), &c), -EBADMSG);
}

/* Two headers: the better of both is kept. */
static void merges(unused_arg void **state)
{
	struct challenge c = { .kind = CHALLENGE_NONE };

	assert_int_equal(challenge_parse("Bearer realm=t", 14, &c), 0);
	assert_int_equal(challenge_parse("Basic realm=b", 13, &c), 0);
	assert_int_equal(c.kind, CHALLENGE_BEARER);
	assert_string_equal(c.realm, "t");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(accepts), cmocka_unit_test(refuses), cmocka_unit_test(merges),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
