/* SPDX-License-Identifier: Apache-2.0 */
#include "base/test.h"

#include <errno.h>
#include <string.h>

#include "vm/replay-mem.h"

enum { HIGH = 16 << 20, BYTES = 1 << 20, PAGES = 2 * BYTES / GMEM_PAGE_BYTES };

static void make(struct gmem *g, struct mem_hash *m)
{
	struct err e = ERR_INIT;

	gmem_init(g);
	assert_int_equal(gmem_add(g, GPA(0), BYTES, -1, 0, false, &e), 0);
	assert_int_equal(gmem_add(g, GPA(HIGH), BYTES, -1, 0, false, &e), 0);
	assert_int_equal(mem_hash_init(m, g, &e), 0);
}

static void put(struct gmem *g, uint64_t at, uint8_t v)
{
	assert_int_equal(gmem_write(g, GPA(at), &v, 1), 0);
}

static void test_rolls(void **state unused_arg)
{
	struct gmem g;
	struct mem_hash m;

	make(&g, &m);
	mem_hash_update(&m, true);
	assert_int_equal(m.sum, 0);
	assert_int_equal(m.n_changed, 0);
	put(&g, 0x3456, 1);
	put(&g, HIGH + 0x1000, 2);
	mem_hash_update(&m, false);
	assert_int_equal(m.n_changed, 2);
	assert_int_equal(m.changed[0], 3);
	assert_int_equal(m.changed[1], BYTES / GMEM_PAGE_BYTES + 1);
	uint64_t both = m.sum;

	assert_int_not_equal(both, 0);
	put(&g, 0x3456, 1); /* written, and as before */
	mem_hash_update(&m, false);
	assert_int_equal(m.n_changed, 0);
	put(&g, 0x3456, 3);
	mem_hash_update(&m, false);
	assert_int_not_equal(m.sum, both);
	put(&g, 0x3456, 1);
	mem_hash_update(&m, false);
	assert_int_equal(m.sum, both);
	mem_hash_update(&m, true); /* the log had it all */
	assert_int_equal(m.n_changed, 0);
	put(&g, 0x3456, 0);
	put(&g, HIGH + 0x1000, 0);
	mem_hash_update(&m, false);
	assert_int_equal(m.sum, 0);
	mem_hash_fini(&m);
	gmem_fini(&g);
}

/* The same bytes elsewhere, or two pages changed for one another, are not the same. */
static void test_places_count(void **state unused_arg)
{
	struct gmem g;
	struct mem_hash m;
	uint64_t sums[3];

	make(&g, &m);
	for (unsigned i = 0; i < ARRAY_LEN(sums); i++) {
		put(&g, 0x1000, i == 0 ? 1 : i == 1 ? 2 : 0);
		put(&g, 0x2000, i == 0 ? 2 : i == 1 ? 1 : 0);
		put(&g, 0x5000, i == 2);
		put(&g, 0x6000, i == 2 ? 2 : 0);
		mem_hash_update(&m, false);
		sums[i] = m.sum;
	}
	assert_true(sums[0] != sums[1] && sums[1] != sums[2] && sums[0] != sums[2]);
	mem_hash_fini(&m);
	gmem_fini(&g);
}

static void test_names(void **state unused_arg)
{
	struct gmem a, b;
	struct mem_hash ma, mb;
	struct mem_names names;
	uint8_t data[256];

	make(&a, &ma);
	make(&b, &mb);
	put(&a, 0x1000, 1), put(&b, 0x1000, 1);
	put(&a, 0x2000, 1), put(&b, 0x2000, 2);
	put(&a, 0x3000, 1);
	put(&b, HIGH, 1);
	mem_hash_update(&ma, false);
	mem_hash_update(&mb, false);
	size_t len = mem_hash_put(&ma, data, sizeof(data));

	assert_int_equal(mem_hash_differ(&ma, data, len, &names), 0);
	assert_int_equal(names.pages, 0);
	assert_int_equal(mem_hash_differ(&mb, data, len, &names), 0);
	assert_int_equal(names.pages, 3);
	assert_string_equal(names.text, "0x2000, 0x3000 (changed there alone), 0x1000000 (changed here "
			    "alone)");
	mem_hash_fini(&ma);
	mem_hash_fini(&mb);
	gmem_fini(&a);
	gmem_fini(&b);
}

/* More than there is room for: what is there is right, and of what is not nothing is said. */
static void test_room(void **state unused_arg)
{
	struct gmem a, b;
	struct mem_hash ma, mb;
	struct mem_names names;
	uint8_t data[64];

	make(&a, &ma);
	make(&b, &mb);
	for (uint64_t at = 0; at < BYTES; at += GMEM_PAGE_BYTES) {
		put(&a, at, 1), put(&b, at, 2);
	}
	mem_hash_update(&ma, false);
	mem_hash_update(&mb, false);
	size_t len = mem_hash_put(&ma, data, sizeof(data));

	assert_in_range(len, 40, sizeof(data));
	assert_int_equal(mem_hash_differ(&mb, data, len, &names), 0);
	assert_in_range(names.pages, len / 5, PAGES);
	assert_true(strlen(names.text) < sizeof(names.text) - 1);
	mem_hash_fini(&ma);
	mem_hash_fini(&mb);
	gmem_fini(&a);
	gmem_fini(&b);
}

static void test_damaged(void **state unused_arg)
{
	static const struct {
		const char *data;
		size_t      len;
	} bad[] = {
		{ "\x80", 1 }, { "\x01", 1 }, { "\x01" "abc", 4 }, { "\xff\xff\xff\xff" "abcd", 8 },
		{ "\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01" "abcd", 14 }, { "\x80\x08" "abcd", 6 },
	};
	struct gmem g;
	struct mem_hash m;
	struct mem_names names;

	make(&g, &m);
	for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
		assert_int_equal(mem_hash_differ(&m, (const uint8_t *)bad[i].data, bad[i].len, &names),
				 -EBADMSG);
	}
	mem_hash_fini(&m);
	gmem_fini(&g);
}

/* The dirty log is taken, and free again. */
static void test_the_log(void **state unused_arg)
{
	struct gmem g;
	struct mem_hash m, second;
	struct err e = ERR_INIT;

	make(&g, &m);
	assert_int_equal(mem_hash_init(&second, &g, &e), -EALREADY);
	put(&g, 0x1000, 1);
	mem_hash_update(&m, false);
	assert_int_equal(m.n_changed, 1);
	mem_hash_fini(&m);
	assert_int_equal(mem_hash_init(&m, &g, &(struct err)ERR_INIT), 0);
	mem_hash_fini(&m);
	gmem_fini(&g);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_rolls), cmocka_unit_test(test_places_count),
		cmocka_unit_test(test_names), cmocka_unit_test(test_room),
		cmocka_unit_test(test_damaged), cmocka_unit_test(test_the_log),
	};

	return TEST_RUN(tests);
}
