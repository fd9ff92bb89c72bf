/* SPDX-License-Identifier: Apache-2.0 */
#include "base/test.h"

#include <errno.h>

#include "vm/dev/dev.h"

struct seen {
	uint64_t off, v;
	unsigned n, calls;
};

static uint64_t on_read(void *ctx, uint64_t off, unsigned n)
{
	struct seen *s = ctx;

	*s = (struct seen){ .off = off, .n = n, .calls = s->calls + 1 };
	return UINT64_C(0x8877665544332211);
}

static void on_write(void *ctx, uint64_t off, unsigned n, uint64_t v)
{
	struct seen *s = ctx;

	*s = (struct seen){ .off = off, .n = n, .v = v, .calls = s->calls + 1 };
}

static struct region region(uint64_t first, uint64_t bytes, struct seen *s)
{
	return (struct region){ .name = "test", .first = first, .bytes = bytes, .ctx = s,
				.read = on_read, .write = on_write };
}

static void decodes(void **state)
{
	struct bus *b = NULL;
	struct seen s1 = { 0 }, s2 = { 0 };
	struct region r1 = region(0x1000, 0x10, &s1), r2 = region(0x1010, 0x10, &s2);

	(void)state;
	assert_int_equal(bus_new(&b), 0);
	assert_int_equal(bus_add(b, &r2), 0);
	assert_int_equal(bus_add(b, &r1), 0);
	assert_int_equal(bus_read(b, 0x1010, 2), 0x2211);
	assert_int_equal(s2.calls, 1);
	assert_int_equal(s2.off, 0);
	bus_write(b, 0x100f, 1, 0xabcd);
	assert_int_equal(s1.calls, 1);
	assert_int_equal(s1.off, 15);
	assert_int_equal(s1.v, 0xcd);
	/* Across two regions, before the first, behind the last: nobody answers. */
	assert_int_equal(bus_read(b, 0x100e, 4), 0xffffffff);
	assert_int_equal(bus_read(b, 0xfff, 1), 0xff);
	assert_true(bus_read(b, 0x1020, 8) == UINT64_MAX);
	assert_true(bus_read(b, UINT64_MAX, 8) == UINT64_MAX);
	assert_int_equal(s1.calls + s2.calls, 2);
	bus_free(b);
}

static void overlaps(void **state)
{
	struct bus *b = NULL;
	struct seen s = { 0 };
	struct region r1 = region(0x1000, 0x10, &s), r2 = region(0x100f, 2, &s);
	struct region r3 = region(0xff0, 0x11, &s), r4 = region(0xff0, 0x10, &s);
	struct region empty = region(5, 0, &s), wraps = region(UINT64_MAX, 2, &s);

	(void)state;
	assert_int_equal(bus_new(&b), 0);
	assert_int_equal(bus_add(b, &r1), 0);
	assert_int_equal(bus_add(b, &r1), -EEXIST);
	assert_int_equal(bus_add(b, &r2), -EEXIST);
	assert_int_equal(bus_add(b, &r3), -EEXIST);
	assert_int_equal(bus_add(b, &r4), 0);
	assert_int_equal(bus_add(b, &empty), -EINVAL);
	assert_int_equal(bus_add(b, &wraps), -EINVAL);
	/* A region that moves: it is known by its pointer, whatever it says by then. */
	r1.first = 0x2000;
	bus_remove(b, &r1);
	assert_int_equal(bus_add(b, &r1), 0);
	assert_int_equal(bus_read(b, 0x1000, 1), 0xff);
	assert_int_equal(bus_read(b, 0x2000, 1), 0x11);
	bus_free(b);
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(decodes), cmocka_unit_test(overlaps),
	};

	return TEST_RUN(tests);
}
