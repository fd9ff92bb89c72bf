/* SPDX-License-Identifier: Apache-2.0 */
#include "base/test.h"

#include <errno.h>

#include "base/mem.h"
#include "state/table.h"

enum mood { CALM, BUSY, MOOD__COUNT };

struct inner {
	uint16_t a;
	bool     b;
};

struct thing {
	bool      flag;
	uint8_t   small;
	uint16_t  middle;
	uint32_t  large;
	uint64_t  huge;
	enum mood mood;
	uint8_t   raw[5];
	uint64_t  words[3];
	struct inner one, many[2];
	uint32_t  used;
	uint8_t   text[8];
	uint32_t  n_list;
	struct inner list[4];
	void     *host;
	uint32_t  later;
};

static const struct state_field inner_fields[] = {
	STATE_U16(1, struct inner, a, .max = 1000),
	STATE_BOOL(2, struct inner, b),
};
static const struct state_desc inner_desc =
	STATE_DESC("inner", struct inner, inner_fields, .version = 1, .oldest = 1);

static int thing_check(const void *s, struct err *e)
{
	const struct thing *t = s;

	return t->flag && t->small == 0 ?
		       err_set(e, EBADMSG, ERR_INVALID, "a flag without a number") : 0;
}

#define THING_FIELDS \
	STATE_BOOL(1, struct thing, flag), STATE_U8(2, struct thing, small, .max = 9), \
	STATE_U16(3, struct thing, middle), STATE_U32(4, struct thing, large, .min = 5), \
	STATE_U64(5, struct thing, huge), STATE_ENUM(6, struct thing, mood, MOOD__COUNT), \
	STATE_BYTES(7, struct thing, raw), STATE_U64S(8, struct thing, words, .max = 100), \
	STATE_STRUCT(9, struct thing, one, struct inner, &inner_desc), \
	STATE_STRUCTS(10, struct thing, many, struct inner, &inner_desc), \
	STATE_BYTES_N(11, struct thing, text, used), \
	STATE_STRUCTS_N(12, struct thing, list, n_list, struct inner, &inner_desc), \
	STATE_HOST_ONLY(struct thing, host, "a pointer")

static const struct state_field fields[] = {
	THING_FIELDS, STATE_U32(13, struct thing, later, .since = 2, .dflt = 77),
};
static const struct state_desc desc = STATE_DESC("thing", struct thing, fields, .version = 2,
						 .oldest = 1, .check = thing_check);

/* What an older version wrote. */
static const struct state_field old_fields[] = {
	THING_FIELDS, STATE_HOST_ONLY(struct thing, later, "did not exist"),
};
static const struct state_desc old_desc = STATE_DESC("thing", struct thing, old_fields,
						     .version = 1, .oldest = 1);

/* What a newer one may write. */
struct newer {
	struct inner base;
	uint32_t     extra;
};
static const struct state_field newer_fields[] = {
	STATE_U16(1, struct newer, base.a), STATE_BOOL(2, struct newer, base.b),
	STATE_U32(3, struct newer, extra),
};
static const struct state_field newer_optional_fields[] = {
	STATE_U16(1, struct newer, base.a), STATE_BOOL(2, struct newer, base.b),
	STATE_U32(3, struct newer, extra, .optional = true),
};

static const struct thing sample = {
	.flag = true, .small = 3, .middle = 0xabcd, .large = 5, .huge = UINT64_MAX, .mood = BUSY,
	.raw = { 1, 2, 3, 4, 5 }, .words = { 1, 50, 100 }, .one = { 7, true },
	.many = { { 8, false }, { 1000, true } }, .used = 3, .text = { 9, 8, 7 }, .n_list = 1,
	.list = { { 5, true } }, .host = (void *)1, .later = 6,
};

static void finish(struct state_writer *w, uint8_t **ret, size_t *ret_len)
{
	void *data;

	assert_int_equal(state_finish(w, &data, ret_len), 0);
	*ret = data;
}

static void write_one(const struct state_desc *d, const void *s, const char *path, uint8_t **ret,
		      size_t *ret_len)
{
	struct state_writer w = STATE_WRITER_INIT;

	state_write(&w, path, d, s);
	finish(&w, ret, ret_len);
}

/* Open, read one object, commit. */
static int read_one(const uint8_t *data, size_t len, const char *path, const struct state_desc *d,
		    void *s, struct err *e)
{
	auto_(state_closep) struct state_reader *r = NULL;
	int ret = state_open(data, len, &r, e);

	ret = ret < 0 ? ret : state_read(r, path, d, s, e);
	return ret < 0 ? ret : state_commit(r, e);
}

static void test_tables_are_sound(void **state)
{
	(void)state;
	struct err e = ERR_INIT;

	assert_int_equal(state_desc_check(&desc, &e), 0);
	assert_int_equal(state_desc_check(&old_desc, &e), 0);
}

static void test_there_and_back(void **state)
{
	(void)state;
	auto_free uint8_t *data = NULL;
	size_t len;
	struct thing t = { .host = (void *)2, .text = "xxxxxxx", .used = 7, .later = 9 };
	struct err e = ERR_INIT;

	write_one(&desc, &sample, "/a/thing", &data, &len);
	assert_int_equal(read_one(data, len, "/a/thing", &desc, &t, &e), 0);
	assert_true(state_equal(&desc, &sample, &t));
	assert_ptr_equal(t.host, (void *)2);
	assert_int_equal(t.later, 6);
	assert_int_equal(t.used, 3);
	assert_memory_equal(t.text, sample.text, 8);      /* the unused rest is zero */
	t.list[0].a++;
	assert_false(state_equal(&desc, &sample, &t));
}

static void test_older_version(void **state)
{
	(void)state;
	auto_free uint8_t *data = NULL, *new_data = NULL;
	size_t len;
	struct thing t = { .later = 9 };
	struct err e = ERR_INIT;

	write_one(&old_desc, &sample, "/thing", &data, &len);
	assert_int_equal(read_one(data, len, "/thing", &desc, &t, &e), 0);
	assert_int_equal(t.later, 77);
	write_one(&desc, &sample, "/thing", &new_data, &len);
	assert_int_equal(read_one(new_data, len, "/thing", &old_desc, &t, &e), -EBADMSG);
	assert_int_equal(e.code, ERR_UNSUPPORTED);
	assert_non_null(strstr(e.msg, "version 2"));
}

static void test_unknown_fields(void **state)
{
	(void)state;
	const struct state_desc newer = STATE_DESC("inner", struct newer, newer_fields,
						   .version = 1, .oldest = 1);
	const struct state_desc newer_optional = STATE_DESC(
		"inner", struct newer, newer_optional_fields, .version = 1, .oldest = 1);
	struct newer n = { .base = { 5, true }, .extra = 9 }, back = { .extra = 3 };
	struct inner i = { 0 };
	auto_free uint8_t *data = NULL, *optional = NULL, *less = NULL;
	size_t len;
	struct err e = ERR_INIT;

	write_one(&newer, &n, "/inner", &data, &len);
	assert_int_equal(read_one(data, len, "/inner", &inner_desc, &i, &e), -EBADMSG);
	assert_non_null(strstr(e.msg, "field 3"));
	assert_int_equal(i.a, 0);
	write_one(&newer_optional, &n, "/inner", &optional, &len);
	err_clear(&e);
	assert_int_equal(read_one(optional, len, "/inner", &inner_desc, &i, &e), 0);
	assert_int_equal(i.a, 5);
	/* One that is optional and is not there has its default. */
	write_one(&inner_desc, &i, "/inner", &less, &len);
	assert_int_equal(read_one(less, len, "/inner", &newer_optional, &back, &e), 0);
	assert_int_equal(back.extra, 0);
}

static void test_sections(void **state)
{
	(void)state;
	struct state_writer w = STATE_WRITER_INIT;
	auto_free uint8_t *data = NULL;
	size_t len, n;
	auto_(state_closep) struct state_reader *r = NULL;
	struct inner a = { 1, true }, b = { 2, false }, a2 = { 0 }, b2 = { 0 };
	const void *bytes;
	struct err e = ERR_INIT;

	state_write(&w, "/0/inner", &inner_desc, &a);
	state_write(&w, "/1/inner", &inner_desc, &b);
	state_write_bytes(&w, "/config", "text", 4);
	state_write_optional(&w, "/extra/inner", &inner_desc, &a);
	finish(&w, &data, &len);
	assert_int_equal(state_open(data, len, &r, &e), 0);
	assert_true(state_has(r, "/1/inner"));
	assert_false(state_has(r, "/2/inner"));
	assert_int_equal(state_read(r, "/2/inner", &inner_desc, &a2, &e), -ENOENT);
	assert_int_equal(e.code, ERR_NOT_FOUND);
	assert_int_equal(state_read(r, "/0/inner", &inner_desc, &a2, &e), 0);
	assert_int_equal(state_read(r, "/0/inner", &inner_desc, &a2, &e), -EBADMSG);
	assert_int_equal(a2.a, 0);                 /* not before the commit */
	assert_int_equal(state_read(r, "/config", &inner_desc, &a2, &e), -EBADMSG);
	assert_int_equal(state_read_bytes(r, "/1/inner", &bytes, &n, &e), -EBADMSG);
	assert_int_equal(state_read_bytes(r, "/config", &bytes, &n, &e), 0);
	assert_int_equal(n, 4);
	assert_memory_equal(bytes, "text", 4);
	/* A section that nobody read is named, and nothing is changed. */
	assert_int_equal(state_commit(r, &e), -EBADMSG);
	assert_non_null(strstr(e.msg, "/1/inner"));
	assert_int_equal(a2.a, 0);
	assert_int_equal(state_read(r, "/1/inner", &inner_desc, &b2, &e), 0);
	assert_int_equal(state_commit(r, &e), 0);
	assert_int_equal(a2.a, 1);
	assert_int_equal(b2.a, 2);
}

static void test_bounds(void **state)
{
	(void)state;
	struct {
		struct thing t;
		const char  *says;
	} cases[] = {
		{ sample, "thing.small" }, { sample, "thing.large" }, { sample, "thing.words" },
		{ sample, "thing.mood" }, { sample, "inner.a" }, { sample, "a flag without" },
		{ sample, "inner.a" },
	};

	cases[0].t.small = 10;
	cases[1].t.large = 4;
	cases[2].t.words[2] = 101;
	cases[3].t.mood = MOOD__COUNT;
	cases[4].t.many[1].a = 1001;
	cases[5].t.small = 0;
	cases[6].t.list[0].a = 1001;
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		auto_free uint8_t *data = NULL;
		size_t len;
		struct thing t = sample;
		struct err e = ERR_INIT;

		t.middle = 1;
		write_one(&desc, &cases[i].t, "/thing", &data, &len);
		assert_int_equal(read_one(data, len, "/thing", &desc, &t, &e), -EBADMSG);
		assert_non_null(strstr(e.msg, cases[i].says));
		assert_int_equal(t.middle, 1);     /* as it was */
		assert_int_equal(t.small, 3);
	}
}

/* Every byte that changes and every cut is noticed. */
static void test_damage(void **state)
{
	(void)state;
	auto_free uint8_t *data = NULL;
	size_t len;
	struct thing t = { 0 };
	struct err e = ERR_INIT;

	write_one(&desc, &sample, "/thing", &data, &len);
	for (size_t i = 0; i < len; i++) {
		data[i] ^= 0x10;
		assert_int_equal(read_one(data, len, "/thing", &desc, &t, &e), -EBADMSG);
		data[i] ^= 0x10;
		auto_free uint8_t *cut = mem_dup(data, i + 1);

		if (i + 1 < len) {
			assert_int_equal(read_one(cut, i + 1, "/thing", &desc, &t, &e), -EBADMSG);
		}
	}
	assert_int_equal(read_one(data, len, "/thing", &desc, &t, &e), 0);
}

static int load_raw(const void *data, size_t len, struct inner *i)
{
	struct err e = ERR_INIT;

	return state__load(&inner_desc, 1, data, len, i, &e);
}

static void test_malformed_fields(void **state)
{
	(void)state;
	struct inner i;
	static const uint8_t good[] = { 1, 0, STATE_KIND_U16, 0, 2, 0, 0, 0, 5, 0,
					2, 0, STATE_KIND_BOOL, 0, 1, 0, 0, 0, 1 };
	uint8_t bad[32];

	assert_int_equal(load_raw(good, sizeof(good), &i), 0);
	assert_int_equal(i.a, 5);
	assert_int_equal(load_raw(good, 10, &i), -EBADMSG);            /* one is missing */
	assert_int_equal(load_raw(good, sizeof(good) - 1, &i), -EBADMSG);
	memcpy(bad, good, 10);
	memcpy(bad + 10, good, 10);
	assert_int_equal(load_raw(bad, 20, &i), -EBADMSG);             /* twice */
	memcpy(bad, good, sizeof(good));
	bad[2] = STATE_KIND_U32;
	assert_int_equal(load_raw(bad, sizeof(good), &i), -EBADMSG);   /* another type */
	bad[2] = STATE_KIND_U16;
	bad[4] = 1;
	assert_int_equal(load_raw(bad, sizeof(good), &i), -EBADMSG);
	bad[4] = 0xff;
	bad[7] = 0xff;
	assert_int_equal(load_raw(bad, sizeof(good), &i), -EBADMSG);
	memcpy(bad, good, sizeof(good));
	bad[sizeof(good) - 1] = 2;                                     /* no bool */
	assert_int_equal(load_raw(bad, sizeof(good), &i), -EBADMSG);
	bad[0] = 0;
	assert_int_equal(load_raw(bad, sizeof(good), &i), -EBADMSG);
}

static void test_tables_that_are_wrong(void **state)
{
	(void)state;
	static const struct state_field gap[] = { STATE_U16(1, struct inner, a) };
	static const struct state_field twice[] = {
		STATE_U16(1, struct inner, a), STATE_BOOL(1, struct inner, b),
	};
	static const struct state_field no_reason[] = {
		STATE_U16(1, struct inner, a), STATE_HOST_ONLY(struct inner, b, ""),
	};
	static const struct state_field no_id[] = {
		STATE_U16(0, struct inner, a), STATE_BOOL(1, struct inner, b),
	};
	static const struct state_field bounds[] = {
		STATE_U16(1, struct inner, a, .max = 0x10000), STATE_BOOL(2, struct inner, b),
	};
	static const struct state_field since[] = {
		STATE_U16(1, struct inner, a, .since = 2), STATE_BOOL(2, struct inner, b),
	};
	static const struct state_field dflt[] = {
		STATE_U16(1, struct inner, a, .optional = true, .min = 1),
		STATE_BOOL(2, struct inner, b),
	};
	static const struct {
		const struct state_field *fields;
		size_t      n;
		const char *says;
	} cases[] = {
		{ gap, 1, "behind it" }, { gap + 0, 0, "not described" }, { twice, 2, "twice" },
		{ no_reason, 2, "reason" }, { no_id, 2, "bad id" }, { bounds, 2, "cannot hold" },
		{ since, 2, "newer" }, { dflt, 2, "default" }, { inner_fields + 1, 1, "before it" },
	};

	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		struct state_desc d = { .name = "x", .version = 1, .oldest = 1,
					.size = sizeof(struct inner), .fields = cases[i].fields,
					.n_fields = cases[i].n };
		struct err e = ERR_INIT;

		assert_int_equal(state_desc_check(&d, &e), -EINVAL);
		assert_non_null(strstr(e.msg, cases[i].says));
	}
}

static void test_dump(void **state)
{
	(void)state;
	auto_buf struct buf b = BUF_INIT;

	state_dump(&desc, &sample, &b);
	assert_string_equal(buf_str(&b),
		"{\"flag\":true,\"small\":3,\"middle\":43981,\"large\":5,"
		"\"huge\":18446744073709551615,\"mood\":1,\"raw\":\"0102030405\","
		"\"words\":[1,50,100],\"one\":{\"a\":7,\"b\":true},"
		"\"many\":[{\"a\":8,\"b\":false},{\"a\":1000,\"b\":true}],\"text\":\"090807\","
		"\"list\":[{\"a\":5,\"b\":true}],\"later\":6}");
	buf_reset(&b);
	state_doc(&desc, &b);
	assert_non_null(strstr(buf_str(&b), "| 13 | later | u32 |  | 2 |"));
	assert_non_null(strstr(buf_str(&b), "| 12 | list | inner[0..4] |"));
	assert_non_null(strstr(buf_str(&b), "`host` (a pointer)"));
}

static void test_memory_runs_out(void **state)
{
	(void)state;
	auto_free uint8_t *data = NULL;
	size_t len;
	struct thing t = { 0 };

	write_one(&desc, &sample, "/thing", &data, &len);
	for (unsigned long n = 1;; n++) {
		struct err e = ERR_INIT;

		mem_fail_at(n, true);
		int r = read_one(data, len, "/thing", &desc, &t, &e);
		bool failed = mem_failed();

		mem_fail_at(0, false);
		assert_int_equal(r, failed ? -ENOMEM : 0);
		if (!failed) {
			break;
		}
		assert_int_equal(t.small, 0);
	}
	struct state_writer w = STATE_WRITER_INIT;
	void *out;

	mem_fail_at(2, true);
	state_write(&w, "/thing", &desc, &sample);
	assert_int_equal(state_finish(&w, &out, &len), -ENOMEM);
	mem_fail_at(0, false);
	state_writer_fini(&w);
}

static void test_crc(void **state)
{
	(void)state;
	assert_int_equal(state__crc(0, "123456789", 9), 0xe3069283);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_tables_are_sound),
		cmocka_unit_test(test_there_and_back),
		cmocka_unit_test(test_older_version),
		cmocka_unit_test(test_unknown_fields),
		cmocka_unit_test(test_sections),
		cmocka_unit_test(test_bounds),
		cmocka_unit_test(test_damage),
		cmocka_unit_test(test_malformed_fields),
		cmocka_unit_test(test_tables_that_are_wrong),
		cmocka_unit_test(test_dump),
		cmocka_unit_test(test_memory_runs_out),
		cmocka_unit_test(test_crc),
	};

	return TEST_RUN(tests);
}
