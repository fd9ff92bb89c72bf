/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>

#include <errno.h>

#include "base/mem.h"
#include "json/table.h"

enum colour { RED, GREEN };
static const char *const colour_names[] = { "red", "green", NULL };

struct inner {
	int64_t     n;
	const char *s;
};

struct outer {
	bool            flag, has_count;
	uint64_t        count;
	uint64_t        size;
	const char     *name, *path, *text;
	int             colour;
	uint64_t        when;
	struct jstrv    words;
	struct jintv    ints;
	struct jmap     map;
	struct inner   *obj;
	struct inner    in;
	struct jvec     objs;
	struct jobjmap  by_name;
	json_t         *raw;
	const char     *secret, *id;
};

#define IN(m) offsetof(struct inner, m)
static const struct jfield inner_fields[] = {
	{ "n", JK_INT, IN(n), .min = -5, .max = 5, .doc = "a number" },
	{ "s", JK_STR, IN(s), .min = 1, .max = 3, .doc = "a text" },
};
#undef IN
static const struct jtable inner_table = JTABLE("Inner", struct inner, inner_fields);

#define IN(m) offsetof(struct outer, m)
static const struct jfield outer_fields[] = {
	{ "flag",   JK_BOOL, IN(flag), .doc = "d" },
	{ "count",  JK_UINT, IN(count), .has = IN(has_count), .max = 10, .doc = "d" },
	{ "size",   JK_SIZE, IN(size), .doc = "d" },
	{ "name",   JK_NAME, IN(name), .flags = JF_REQUIRED, .doc = "d" },
	{ "path",   JK_PATH, IN(path), .doc = "d" },
	{ "text",   JK_STR, IN(text), .doc = "d" },
	{ "colour", JK_ENUM, IN(colour), .names = colour_names, .flags = JF_EMPTY, .doc = "d" },
	{ "when",   JK_TIME, IN(when), .doc = "d" },
	{ "words",  JK_STRV, IN(words), .doc = "d" },
	{ "ints",   JK_INTV, IN(ints), .doc = "d" },
	{ "map",    JK_MAP, IN(map), .doc = "d" },
	{ "obj",    JK_OBJ, IN(obj), .sub = &inner_table, .doc = "d" },
	{ "in",     JK_INLINE, IN(in), .sub = &inner_table, .doc = "d" },
	{ "objs",   JK_OBJV, IN(objs), .sub = &inner_table, .doc = "d" },
	{ "byName", JK_OBJMAP, IN(by_name), .sub = &inner_table, .doc = "d" },
	{ "raw",    JK_RAW, IN(raw), .doc = "d" },
	{ "old",    JK_RAW, 0, .flags = JF_REFUSED, .doc = "use text" },
	{ "id",     JK_STR, IN(id), .flags = JF_READONLY, .doc = "d" },
	{ "secret", JK_STR, IN(secret), .flags = JF_SECRET, .doc = "d" },
};
#undef IN
static const struct jtable outer_table = JTABLE("Outer", struct outer, outer_fields);

static int parse(const char *text, struct arena *a, struct outer *ret, struct err *e)
{
	auto_json json_t *j = NULL;
	int r = json_parse(text, strlen(text), &json_limits_request, "t", &j, e);

	return r < 0 ? r : jtable_parse(&outer_table, j, a, ret, e);
}

static void test_tables_are_sound(void **state)
{
	(void)state;
	assert_null(jtable_fault(&outer_table));
}

static const char whole[] =
	"{\"flag\":true,\"count\":0,\"size\":2048,\"name\":\"n\",\"path\":\"/p\",\"text\":\"t\","
	"\"colour\":\"green\",\"when\":\"2026-01-02T03:04:05.000000006Z\",\"words\":[\"a\",\"b\"],"
	"\"ints\":[-1,2],\"map\":{\"k\":\"v\"},\"obj\":{\"n\":5},\"in\":{\"s\":\"x\"},"
	"\"objs\":[{\"n\":1},{\"n\":2}],\"byName\":{\"z\":{\"n\":3}}}";

static void test_round_trip(void **state)
{
	(void)state;
	auto_arena struct arena a = ARENA_INIT;
	struct err e = ERR_INIT;
	struct outer o;

	assert_int_equal(parse(whole, &a, &o, &e), 0);
	assert_true(o.has_count);
	assert_int_equal(o.colour, GREEN);
	assert_string_equal(jmap_get(&o.map, "k"), "v");
	assert_null(jmap_get(&o.map, "x"));
	assert_null(o.words.v[2]);
	assert_int_equal(((struct inner *)o.objs.v)[1].n, 2);

	auto_json json_t *j = jtable_format(&outer_table, &o);
	auto_free char *text = json_text(j);

	assert_string_equal(text, whole);
}

static void test_size_takes_text(void **state)
{
	(void)state;
	auto_arena struct arena a = ARENA_INIT;
	struct err e = ERR_INIT;
	struct outer o;

	assert_int_equal(parse("{\"name\":\"n\",\"size\":\"2k\",\"text\":null}", &a, &o, &e), 0);
	assert_int_equal(o.size, 2048);
	assert_null(o.text);
}

static void test_faults_name_their_field(void **state)
{
	(void)state;
	static const struct {
		const char *text, *field;
	} rows[] = {
		{ "[]", "" },
		{ "{}", "/name" },
		{ "{\"name\":\"../x\"}", "/name" },
		{ "{\"name\":\"n\",\"what/~\":1}", "/what~1~0" },
		{ "{\"name\":\"n\",\"count\":11}", "/count" },
		{ "{\"name\":\"n\",\"count\":-1}", "/count" },
		{ "{\"name\":\"n\",\"count\":1.5}", "/count" },
		{ "{\"name\":\"n\",\"flag\":1}", "/flag" },
		{ "{\"name\":\"n\",\"size\":\"much\"}", "/size" },
		{ "{\"name\":\"n\",\"path\":\"p\"}", "/path" },
		{ "{\"name\":\"n\",\"colour\":\"blue\"}", "/colour" },
		{ "{\"name\":\"n\",\"when\":\"noon\"}", "/when" },
		{ "{\"name\":\"n\",\"words\":[\"a\",1]}", "/words/1" },
		{ "{\"name\":\"n\",\"ints\":[true]}", "/ints/0" },
		{ "{\"name\":\"n\",\"map\":{\"k\":1}}", "/map/k" },
		{ "{\"name\":\"n\",\"obj\":{\"n\":6}}", "/obj/n" },
		{ "{\"name\":\"n\",\"objs\":[{},{\"s\":\"long\"}]}", "/objs/1/s" },
		{ "{\"name\":\"n\",\"byName\":{\"q\":{\"n\":9}}}", "/byName/q/n" },
		{ "{\"name\":\"n\",\"old\":1}", "/old" },
		{ "{\"name\":\"n\",\"id\":\"x\"}", "/id" },
	};

	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		auto_arena struct arena a = ARENA_INIT;
		struct err e = ERR_INIT;
		struct outer o;

		assert_true(parse(rows[i].text, &a, &o, &e) < 0);
		assert_string_equal(e.field, rows[i].field);
	}
}

static void test_secret_is_not_written(void **state)
{
	(void)state;
	struct outer o = { .name = "n", .secret = "hush" };
	auto_json json_t *j = jtable_format(&outer_table, &o);

	assert_null(json_object_get(j, "secret"));
}

static void test_memory_out_at_every_point(void **state)
{
	(void)state;
	for (unsigned long n = 1; n < 100; n++) {
		auto_arena struct arena a = ARENA_INIT;
		struct err e = ERR_INIT;
		struct outer o;

		mem_fail_at(n, false);
		int r = parse(whole, &a, &o, &e);
		bool hit = mem_failed();

		mem_fail_at(0, false);
		if (!hit) {
			assert_int_equal(r, 0);
			return;
		}
		assert_int_equal(r, -ENOMEM);
	}
	fail_msg("never succeeded");
}

static void test_schema(void **state)
{
	(void)state;
	auto_json json_t *j = jtable_schema(&outer_table);
	auto_free char *text = json_text(j);

	assert_non_null(strstr(text, "\"$ref\":\"#/components/schemas/Inner\""));
	assert_non_null(strstr(text, "\"enum\":[\"red\",\"green\"]"));
	assert_non_null(strstr(text, "\"required\":[\"name\"]"));
	assert_null(strstr(text, "\"old\""));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_tables_are_sound),
		cmocka_unit_test(test_round_trip),
		cmocka_unit_test(test_size_takes_text),
		cmocka_unit_test(test_faults_name_their_field),
		cmocka_unit_test(test_secret_is_not_written),
		cmocka_unit_test(test_memory_out_at_every_point),
		cmocka_unit_test(test_schema),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
