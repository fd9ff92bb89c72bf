/* SPDX-License-Identifier: Apache-2.0 */
#include "base/test.h"

#include <errno.h>
#include <pthread.h>

#include "base/mem.h"
#include "vm/helper.h"

static pthread_t confined;

static void confine(void)
{
	confined = pthread_self();
}

struct job {
	pthread_t on;
	unsigned  times;
};

static void work(void *arg)
{
	struct job *j = arg;

	j->on = pthread_self();
	j->times++;
}

/* Beside the caller, after it was confined, as often as it is asked to. */
static void helps(void **state)
{
	struct job j = { .times = 0 };
	struct helper *h = NULL;
	struct err e = ERR_INIT;

	(void)state;
	assert_int_equal(helper_new(confine, &h, &e), 0);
	helper_wait(h); /* for nothing */
	for (unsigned i = 1; i <= 100; i++) {
		helper_run(h, work, &j);
		helper_wait(h);
		assert_int_equal(j.times, i);
		assert_true(pthread_equal(j.on, confined));
		assert_false(pthread_equal(j.on, pthread_self()));
	}
	helper_run(h, work, &j);
	assert_null(helper_free(h)); /* waits */
	assert_int_equal(j.times, 101);
}

static void nobody(void **state)
{
	struct job j = { .times = 0 };
	struct helper *h = NULL;
	struct err e = ERR_INIT;

	(void)state;
	helper_run(NULL, work, &j);
	helper_wait(NULL);
	assert_int_equal(j.times, 1);
	assert_true(pthread_equal(j.on, pthread_self()));
	assert_null(helper_free(NULL));
	mem_fail_at(1, false);
	assert_int_equal(helper_new(NULL, &h, &e), -ENOMEM);
	mem_fail_at(0, false);
	assert_int_equal(helper_new(NULL, &h, &e), 0);
	assert_null(helper_free(h)); /* that had nothing to do */
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(helps), cmocka_unit_test(nobody),
	};

	return TEST_RUN(tests);
}
