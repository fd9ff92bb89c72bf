/* SPDX-License-Identifier: Apache-2.0 */
#include "base/test.h"

#include <errno.h>

#include "base/mem.h"
#include "cli/table.h"

static void test_columns_line_up(void **state)
{
	(void)state;
	auto_columns struct columns c = COLUMNS_INIT(3);
	auto_free char *text = NULL;
	size_t len = 0;
	FILE *f = open_memstream(&text, &len);

	columns_add(&c, "NAME", "IMAGE", "STATUS");
	columns_add(&c, "caf\xc3\xa9", "debian", NULL);
	columns_add(&c, "evil\x1b[2J", "x", "y");
	assert_int_equal(columns_print(&c, f), 0);
	assert_int_equal(fclose(f), 0);
	assert_string_equal(text, "NAME       IMAGE    STATUS\n"
				  "caf\xc3\xa9       debian   \n"
				  "evil?[2J   x        y\n");
}

static void test_lost_cells_are_told(void **state)
{
	(void)state;
	auto_columns struct columns c = COLUMNS_INIT(1);

	mem_fail_at(1, false);
	columns_add(&c, "x");
	mem_fail_at(0, false);
	assert_int_equal(columns_print(&c, stdout), -ENOMEM);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_columns_line_up),
		cmocka_unit_test(test_lost_cells_are_told),
	};

	return TEST_RUN(tests);
}
