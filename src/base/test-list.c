/* SPDX-License-Identifier: Apache-2.0 */
#include "base/test.h"

#include "base/list.h"

struct item {
	int         n;
	struct list link;
};

static int sum_in_order(struct list *l)
{
	int v = 0;

	list_for_each (struct item, i, l, link) {
		v = v * 10 + i->n;
	}
	return v;
}

static void test_order_and_removal(void **state)
{
	(void)state;
	struct list l = LIST_INIT(l);
	struct item a = { .n = 1 }, b = { .n = 2 }, c = { .n = 3 };

	assert_true(list_empty(&l));
	list_add_tail(&l, &b.link);
	list_add_tail(&l, &c.link);
	list_add_head(&l, &a.link);
	assert_int_equal(sum_in_order(&l), 123);
	list_del(&b.link);
	list_del(&b.link);
	assert_int_equal(sum_in_order(&l), 13);
}

static void test_removal_while_walking(void **state)
{
	(void)state;
	struct list l = LIST_INIT(l);
	struct item items[5];

	for (int i = 0; i < 5; i++) {
		items[i].n = i;
		list_add_tail(&l, &items[i].link);
	}
	list_for_each_safe (struct item, i, &l, link) {
		if (i->n % 2) {
			list_del(&i->link);
		}
	}
	assert_int_equal(sum_in_order(&l), 24);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_order_and_removal),
		cmocka_unit_test(test_removal_while_walking),
	};

	return TEST_RUN(tests);
}
