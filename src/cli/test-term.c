/* SPDX-License-Identifier: Apache-2.0 */
#include "base/test.h"

#include <string.h>

#include "cli/term.h"

static void feed(struct detach_keys *d, const char *in, const char *want, bool detached)
{
	unsigned char out[64];
	size_t n = 99;

	assert_int_equal(detach_keys_feed(d, (const unsigned char *)in, strlen(in), out, &n), detached);
	assert_int_equal(n, strlen(want));
	assert_memory_equal(out, want, n);
}

static void test_keys_are_held_back_and_passed_on(void **state)
{
	(void)state;
	struct detach_keys d;
	struct err e = ERR_INIT;

	assert_int_equal(detach_keys_parse("ctrl-p,ctrl-q", &d, &e), 0);
	feed(&d, "abc", "abc", false);
	feed(&d, "x\020", "x", false);
	feed(&d, "y", "\020y", false);
	feed(&d, "\020\020", "\020", false);
	feed(&d, "\021", "", true);
	feed(&d, "a\020\021b", "a", true);
}

static void test_no_keys(void **state)
{
	(void)state;
	struct detach_keys d;
	struct err e = ERR_INIT;

	assert_int_equal(detach_keys_parse("", &d, &e), 0);
	feed(&d, "\020\021", "\020\021", false);
}

static void test_refusals(void **state)
{
	(void)state;
	static const char *const bad[] = { "ctrl-", "ctrl-1", "ab", "a,,b", "meta-x", ",",
					   "a,b,c,d,e,f,g,h,i,j,k,l,m,n,o,p,q" };

	for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
		struct detach_keys d;
		struct err e = ERR_INIT;

		assert_true(detach_keys_parse(bad[i], &d, &e) < 0);
		assert_non_null(strstr(e.msg, "--detach-keys"));
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_keys_are_held_back_and_passed_on),
		cmocka_unit_test(test_no_keys),
		cmocka_unit_test(test_refusals),
	};

	return TEST_RUN(tests);
}
