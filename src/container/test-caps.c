/* SPDX-License-Identifier: Apache-2.0 */
#include "container/caps.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/log.h"
#include "sys/cred.h"

/* Every number that this kernel has is a name, and the name that number. */
static void test_names(void **state)
{
	(void)state;
	assert_true(caps_last() >= 40);
	for (unsigned i = 0; i <= 40; i++) {
		assert_non_null(caps_name(i));
		assert_int_equal(caps_parse(caps_name(i)), i);
		assert_int_equal(caps_parse(caps_name(i) + 4), i);
	}
	assert_null(caps_name(64));
	assert_int_equal(caps_parse("cap_net_raw"), 13);
	assert_int_equal(caps_parse("CAP_"), -EINVAL);
	assert_int_equal(caps_parse(""), -EINVAL);
	assert_int_equal(caps_parse("CAP_CHOWN "), -EINVAL);
	assert_int_equal(caps_parse("ALL"), -EINVAL);
}

static struct jstrv list(const char **v)
{
	size_t n = 0;

	while (v[n]) {
		n++;
	}
	return (struct jstrv){ .v = v, .n = n };
}
#define LIST(...) list((const char *[]){ __VA_ARGS__, NULL })

static void test_resolve(void **state)
{
	struct oci_caps c = {
		.bounding = LIST("CAP_CHOWN", "CAP_KILL", "CAP_OF_TOMORROW"),
		.permitted = LIST("CAP_CHOWN", "CAP_KILL"),
		.effective = LIST("CAP_CHOWN", "CAP_SYS_ADMIN"),
		.inheritable = LIST("CAP_KILL", "CAP_NET_RAW"),
		.ambient = LIST("CAP_KILL", "CAP_CHOWN"),
	};
	struct err e = ERR_INIT;
	struct caps k;

	(void)state;
	assert_int_equal(caps_resolve(&c, UINT64_MAX, &k, &e), 0);
	assert_int_equal(k.bounding, BIT(0) | BIT(5));
	assert_int_equal(k.permitted, BIT(0) | BIT(5));
	assert_int_equal(k.effective, BIT(0));      /* SYS_ADMIN is not permitted */
	assert_int_equal(k.inheritable, BIT(5));    /* NET_RAW is not bounding */
	assert_int_equal(k.ambient, BIT(5));        /* CHOWN is not inheritable */
	assert_int_equal(caps_resolve(&c, BIT(0), &k, &e), 0);
	assert_int_equal(k.bounding | k.permitted | k.effective, BIT(0));
	assert_int_equal(k.inheritable | k.ambient, 0);
	/* Absent: none, whatever is held. */
	memset(&k, 0xff, sizeof(k));
	assert_int_equal(caps_resolve(NULL, UINT64_MAX, &k, &e), 0);
	assert_int_equal(k.bounding | k.permitted | k.effective | k.inheritable | k.ambient, 0);
}

static void test_held(void **state)
{
	struct sys_caps c;
	uint64_t held = 0;

	(void)state;
	assert_int_equal(sys_capget(&c), 0);
	assert_int_equal(caps_held(&held), 0);
	assert_int_equal(held & ~c.permitted, 0);
}

/* A child becomes exactly this, also what execve would look at. */
static void test_apply(void **state)
{
	struct caps k = { .bounding = BIT(0) | BIT(5) | BIT(6), .permitted = BIT(0) | BIT(5),
			  .effective = BIT(0), .inheritable = BIT(5), .ambient = BIT(5) };
	int status = 0;
	pid_t pid = 0;

	(void)state;
	if (geteuid() != 0) {
		print_message("needs root\n");
		skip();
	}
	pid = fork();
	if (pid == 0) {
		struct sys_caps c;
		unsigned n = 0;

		if (caps_drop_bounding(&k) < 0 || caps_apply(&k) < 0 || sys_capget(&c) < 0) {
			_exit(1);
		}
		for (unsigned i = 0; i <= caps_last(); i++) {
			bool bset = prctl(PR_CAPBSET_READ, i, 0, 0, 0) == 1;
			bool amb = prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_IS_SET, i, 0, 0) == 1;

			n += bset != !!(k.bounding & BIT(i)) || amb != !!(k.ambient & BIT(i));
		}
		_exit(n == 0 && c.effective == k.effective && c.permitted == k.permitted &&
		      c.inheritable == k.inheritable ? 0 : 2);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(status, 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_names),
		cmocka_unit_test(test_resolve),
		cmocka_unit_test(test_held),
		cmocka_unit_test(test_apply),
	};

	log_setup("test", 2, LOG_FORMAT_PLAIN, LOG_LEVEL_ERROR);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
