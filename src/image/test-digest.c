/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>

#include "image/digest.h"

#define ABC256 "sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"

static void test_known_values(void **state)
{
	(void)state;
	assert_string_equal(digest_of("abc", 3).text, ABC256);

	auto_digest struct digest *d = digest_new("sha256");

	digest_add(d, "a", 1);
	digest_add(d, "b", 1);
	assert_string_equal(digest_end(d).text, digest_of("ab", 2).text);
	digest_add(d, "c", 1); /* looking did not end it */
	assert_string_equal(digest_end(d).text, ABC256);
	assert_string_equal(digest_hex(ABC256), &ABC256[7]);

	auto_digest struct digest *big = digest_new("sha512:whatever");

	digest_add(big, "abc", 3);
	assert_true(oci_digest_valid(digest_end(big).text));
	assert_memory_equal(digest_end(big).text, "sha512:ddaf35a193617aba", 23);
	assert_null(digest_new("md5"));
	assert_null(digest_new("sha2567"));
}

static void test_chain(void **state)
{
	(void)state;
	/* Chain of one is the diff id; of two the digest of "CHAIN DIFF". */
	assert_string_equal(digest_chain(NULL, ABC256).text, ABC256);
	assert_string_equal(digest_chain(ABC256, ABC256).text,
			    digest_of(ABC256 " " ABC256, 2 * 71 + 1).text);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_known_values), cmocka_unit_test(test_chain),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
