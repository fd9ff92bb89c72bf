/* SPDX-License-Identifier: Apache-2.0 */
#include "json/table.h"

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>

#include "base/clock.h"
#include "base/id.h"

static jtable_unknown_fn unknown_hook;

void jtable_on_unknown(jtable_unknown_fn fn)
{
	unknown_hook = fn;
}

const char *jmap_get(const struct jmap *m, const char *key)
{
	for (size_t i = 0; i < m->n; i++) {
		if (str_eq(m->v[i].key, key)) {
			return m->v[i].value;
		}
	}
	return NULL;
}

struct parse {
	struct arena *arena;
	struct err   *e;
};

static int parse_object(const struct parse *p, const struct jtable *t, const json_t *obj,
			void *ret);

static const char *type_text(const json_t *j)
{
	switch (json_typeof(j)) {
	case JSON_OBJECT:
		return "an object";
	case JSON_ARRAY:
		return "an array";
	case JSON_STRING:
		return "a string";
	case JSON_INTEGER:
	case JSON_REAL:
		return "a number";
	case JSON_TRUE:
	case JSON_FALSE:
		return "a boolean";
	case JSON_NULL:
		return "null";
	}
	return "unknown";
}

static int wrong_type(const struct parse *p, const json_t *j, const char *want)
{
	return err_field(p->e, "", "must be %s, not %s", want, type_text(j));
}

static int parse_int(const struct parse *p, const struct jfield *f, const json_t *j, int64_t *ret)
{
	bool bounded = f->min != 0 || f->max != 0;

	if (!json_is_integer(j)) {
		return wrong_type(p, j, "a whole number");
	}
	int64_t v = json_integer_value(j);
	int64_t max = f->max > INT64_MAX ? INT64_MAX : (int64_t)f->max;

	if (bounded && (v < f->min || v > max)) {
		return err_field(p->e, "", "%lld is not between %lld and %lld", (long long)v,
				 (long long)f->min, (long long)max);
	}
	*ret = v;
	return 0;
}

static int parse_uint(const struct parse *p, const struct jfield *f, const json_t *j,
		      uint64_t *ret)
{
	uint64_t max = f->max ? f->max : UINT64_MAX;
	uint64_t v;

	if (json_is_integer(j)) {
		if (json_integer_value(j) < 0) {
			return err_field(p->e, "", "%lld is negative",
					 (long long)json_integer_value(j));
		}
		v = (uint64_t)json_integer_value(j);
	} else if (!json_big_value(j, &v)) {
		return wrong_type(p, j, "a whole number");
	}
	if (v > max || (f->min > 0 && v < (uint64_t)f->min)) {
		return err_field(p->e, "", "%llu is not between %lld and %llu", (unsigned long long)v,
				 (long long)f->min, (unsigned long long)max);
	}
	*ret = v;
	return 0;
}

static int copy_str(const struct parse *p, const json_t *j, const char **ret)
{
	if (!json_is_string(j)) {
		return wrong_type(p, j, "a string");
	}
	*ret = arena_strdup(p->arena, json_string_value(j));
	return *ret ? 0 : err_nomem(p->e);
}

static int parse_str(const struct parse *p, const struct jfield *f, const json_t *j,
		     const char **ret)
{
	int r = copy_str(p, j, ret);

	if (r < 0) {
		return r;
	}
	size_t n = strlen(*ret);

	if (f->kind == JK_NAME && !name_valid(*ret)) {
		return err_field(p->e, "", "'%.140s' is not a name: up to 128 letters, digits, "
				 "'_', '.', '-', beginning with a letter or digit", *ret);
	}
	if (f->kind == JK_ID && !id_valid(*ret)) {
		return err_field(p->e, "", "'%.70s' is not an id of 64 hexadecimal digits", *ret);
	}
	if (f->kind == JK_PATH && (**ret != '/' || n >= PATH_MAX)) {
		return err_field(p->e, "", "'%.100s' is not an absolute path", *ret);
	}
	if (f->kind == JK_STR && f->max > 0 && (n < (uint64_t)f->min || n > f->max)) {
		return err_field(p->e, "", "must be %lld to %llu bytes long", (long long)f->min,
				 (unsigned long long)f->max);
	}
	return 0;
}

static int parse_size_field(const struct parse *p, const struct jfield *f, const json_t *j,
			    uint64_t *ret)
{
	uint64_t v;

	if (!json_is_string(j) || json_big_value(j, &v)) {
		return parse_uint(p, f, j, ret);
	}

	if (parse_size(json_string_value(j), &v) < 0) {
		return err_field(p->e, "", "'%.40s' is not a size such as 512m or 2g",
				 json_string_value(j));
	}
	auto_json json_t *number = json_integer((json_int_t)v);

	return number ? parse_uint(p, f, number, ret) : err_nomem(p->e);
}

static int parse_enum(const struct parse *p, const struct jfield *f, const json_t *j, int *ret)
{
	auto_buf struct buf all = BUF_INIT;

	if (!json_is_string(j)) {
		return wrong_type(p, j, "a string");
	}
	for (int i = 0; f->names[i]; i++) {
		if (str_eq(f->names[i], json_string_value(j))) {
			*ret = i;
			return 0;
		}
	}
	for (int i = 0; f->names[i]; i++) {
		buf_printf(&all, "%s%s", i ? ", " : "", f->names[i]);
	}
	return err_field(p->e, "", "'%.60s' is not one of %s", json_string_value(j), buf_str(&all));
}

static int parse_time_field(const struct parse *p, const json_t *j, uint64_t *ret)
{
	if (!json_is_string(j)) {
		return wrong_type(p, j, "a string");
	}
	if (time_parse(json_string_value(j), ret) < 0) {
		return err_field(p->e, "", "'%.60s' is not a time as in RFC 3339",
				 json_string_value(j));
	}
	return 0;
}

static void at_index(struct err *e, size_t i)
{
	char prefix[24];

	(void)snprintf(prefix, sizeof(prefix), "/%zu", i);
	err_prefix_field(e, prefix);
}

/* "/key" with JSON pointer escapes. Spec: RFC 6901, 3 Syntax. */
static void at_key(struct err *e, const char *key)
{
	auto_buf struct buf b = BUF_INIT;

	buf_add_char(&b, '/');
	for (const char *s = key; *s; s++) {
		if (*s == '~') {
			buf_add_str(&b, "~0");
		} else if (*s == '/') {
			buf_add_str(&b, "~1");
		} else {
			buf_add_char(&b, *s);
		}
	}
	err_prefix_field(e, buf_str(&b));
}

static int want_array(const struct parse *p, const json_t *j)
{
	return json_is_array(j) ? 0 : wrong_type(p, j, "an array");
}

static int parse_strv(const struct parse *p, const json_t *j, struct jstrv *ret)
{
	int r = want_array(p, j);

	if (r < 0) {
		return r;
	}
	size_t n = json_array_size(j);

	ret->v = arena_alloc(p->arena, n + 1, sizeof(*ret->v));
	if (!ret->v) {
		return err_nomem(p->e);
	}
	for (; ret->n < n; ret->n++) {
		r = copy_str(p, json_array_get(j, ret->n), &ret->v[ret->n]);
		if (r < 0) {
			at_index(p->e, ret->n);
			return r;
		}
	}
	return 0;
}

static int parse_numv(const struct parse *p, const struct jfield *f, const json_t *j, void *ret)
{
	struct juintv *out = ret; /* both kinds have the same shape */
	int r = want_array(p, j);

	if (r < 0) {
		return r;
	}
	size_t n = json_array_size(j);

	out->v = arena_alloc(p->arena, MAX(n, (size_t)1), sizeof(*out->v));
	if (!out->v) {
		return err_nomem(p->e);
	}
	for (; out->n < n; out->n++) {
		const json_t *item = json_array_get(j, out->n);

		r = f->kind == JK_INTV ? parse_int(p, f, item, (int64_t *)&out->v[out->n]) :
					 parse_uint(p, f, item, &out->v[out->n]);
		if (r < 0) {
			at_index(p->e, out->n);
			return r;
		}
	}
	return 0;
}

static int parse_map(const struct parse *p, const json_t *j, struct jmap *ret)
{
	if (!json_is_object(j)) {
		return wrong_type(p, j, "an object");
	}
	ret->v = arena_alloc(p->arena, MAX(json_object_size(j), (size_t)1), sizeof(*ret->v));
	if (!ret->v) {
		return err_nomem(p->e);
	}

	const char *key;
	json_t *value;

	json_object_foreach((json_t *)j, key, value) {
		struct jpair *pair = &ret->v[ret->n];
		int r = copy_str(p, value, &pair->value);

		if (r < 0) {
			at_key(p->e, key);
			return r;
		}
		pair->key = arena_strdup(p->arena, key);
		if (!pair->key) {
			return err_nomem(p->e);
		}
		ret->n++;
	}
	return 0;
}

static int parse_objv(const struct parse *p, const struct jfield *f, const json_t *j,
		      struct jvec *ret)
{
	int r = want_array(p, j);

	if (r < 0) {
		return r;
	}
	size_t n = json_array_size(j);

	ret->v = arena_alloc(p->arena, MAX(n, (size_t)1), f->sub->size);
	if (!ret->v) {
		return err_nomem(p->e);
	}
	for (size_t i = 0; i < n; i++) {
		const json_t *item = json_array_get(j, i);

		if (json_is_null(item) && (f->flags & JF_NULLABLE_ITEMS)) {
			continue;
		}
		r = parse_object(p, f->sub, item, (char *)ret->v + ret->n * f->sub->size);
		if (r < 0) {
			at_index(p->e, i);
			return r;
		}
		ret->n++;
	}
	return 0;
}

static int parse_objmap(const struct parse *p, const struct jfield *f, const json_t *j,
			struct jobjmap *ret)
{
	if (!json_is_object(j)) {
		return wrong_type(p, j, "an object");
	}
	size_t room = MAX(json_object_size(j), (size_t)1);

	ret->keys = arena_alloc(p->arena, room, sizeof(*ret->keys));
	ret->v = arena_alloc(p->arena, room, f->sub->size);
	if (!ret->keys || !ret->v) {
		return err_nomem(p->e);
	}

	const char *key;
	json_t *value;

	json_object_foreach((json_t *)j, key, value) {
		int r = parse_object(p, f->sub, value, (char *)ret->v + ret->n * f->sub->size);

		if (r < 0) {
			at_key(p->e, key);
			return r;
		}
		ret->keys[ret->n] = arena_strdup(p->arena, key);
		if (!ret->keys[ret->n]) {
			return err_nomem(p->e);
		}
		ret->n++;
	}
	return 0;
}

static int parse_sub(const struct parse *p, const struct jfield *f, const json_t *j, void **ret)
{
	*ret = arena_alloc(p->arena, 1, f->sub->size);
	return *ret ? parse_object(p, f->sub, j, *ret) : err_nomem(p->e);
}

static int parse_value(const struct parse *p, const struct jfield *f, const json_t *j, void *field)
{
	switch (f->kind) {
	case JK_BOOL:
		if (!json_is_boolean(j)) {
			return wrong_type(p, j, "true or false");
		}
		*(bool *)field = json_is_true(j);
		return 0;
	case JK_INT:
		return parse_int(p, f, j, field);
	case JK_UINT:
		return parse_uint(p, f, j, field);
	case JK_NUMBER:
		if (!json_is_number(j)) {
			return wrong_type(p, j, "a number");
		}
		*(double *)field = json_number_value(j);
		return 0;
	case JK_STR:
	case JK_NAME:
	case JK_ID:
	case JK_PATH:
		return parse_str(p, f, j, field);
	case JK_SIZE:
		return parse_size_field(p, f, j, field);
	case JK_ENUM:
		return parse_enum(p, f, j, field);
	case JK_TIME:
		return parse_time_field(p, j, field);
	case JK_STRV:
		return parse_strv(p, j, field);
	case JK_INTV:
	case JK_UINTV:
		return parse_numv(p, f, j, field);
	case JK_MAP:
		return parse_map(p, j, field);
	case JK_OBJ:
		return parse_sub(p, f, j, field);
	case JK_INLINE:
		return parse_object(p, f->sub, j, field);
	case JK_OBJV:
		return parse_objv(p, f, j, field);
	case JK_OBJMAP:
		return parse_objmap(p, f, j, field);
	case JK_RAW:
		*(const json_t **)field = j;
		return 0;
	case JK__COUNT:
		break;
	}
	assert(false);
	return -EINVAL;
}

static const struct jfield *find_field(const struct jtable *t, const char *name)
{
	for (size_t i = 0; i < t->n_fields; i++) {
		if (str_eq(t->fields[i].name, name)) {
			return &t->fields[i];
		}
	}
	return NULL;
}

static int parse_field(const struct parse *p, const struct jfield *f, const json_t *j, void *obj)
{
	if (f->flags & JF_REFUSED) {
		return err_set(p->e, EOPNOTSUPP, ERR_UNSUPPORTED, "'%s' is not supported: %s",
			       f->name, f->doc);
	}
	if (f->flags & JF_READONLY) {
		return err_field(p->e, "", "is set by the server and cannot be given");
	}
	if (f->has) {
		*(bool *)((char *)obj + f->has) = true;
	}
	return parse_value(p, f, j, (char *)obj + f->off);
}

static int parse_unknown(const struct parse *p, const struct jtable *t, const char *key)
{
	if (t->flags & JT_OPEN) {
		if (unknown_hook) {
			unknown_hook(t->name, key);
		}
		return 0;
	}
	return err_field(p->e, "", "is not a field of %s", t->name);
}

static int check_required(const struct parse *p, const struct jtable *t, const json_t *obj)
{
	for (size_t i = 0; i < t->n_fields; i++) {
		const struct jfield *f = &t->fields[i];
		const json_t *j = json_object_get(obj, f->name);

		if ((f->flags & JF_REQUIRED) && (!j || json_is_null(j))) {
			int r = err_field(p->e, "", "is required");

			at_key(p->e, f->name);
			return r;
		}
	}
	return 0;
}

static int parse_object(const struct parse *p, const struct jtable *t, const json_t *obj,
			void *ret)
{
	const char *key;
	json_t *value;

	if (!json_is_object(obj)) {
		return wrong_type(p, obj, "an object");
	}
	memset(ret, 0, t->size);
	json_object_foreach((json_t *)obj, key, value) {
		const struct jfield *f = find_field(t, key);
		int r = 0;

		if (!f) {
			r = parse_unknown(p, t, key);
		} else if (!json_is_null(value)) {
			r = parse_field(p, f, value, ret);
		}
		if (r < 0) {
			at_key(p->e, key);
			return r;
		}
	}
	int r = check_required(p, t, obj);

	return r == 0 && t->check ? t->check(ret, p->e) : r;
}

int jtable_parse(const struct jtable *t, const json_t *obj, struct arena *a, void *ret,
		 struct err *e)
{
	struct parse p = { .arena = a, .e = e };

	return parse_object(&p, t, obj, ret);
}

static json_t *format_strings(const struct jstrv *v)
{
	json_t *a = json_array();

	for (size_t i = 0; a && i < v->n; i++) {
		if (json_array_append_new(a, json_string(v->v[i])) < 0) {
			json_decref(a);
			return NULL;
		}
	}
	return a;
}

static json_t *format_numbers(const struct juintv *v)
{
	json_t *a = json_array();

	for (size_t i = 0; a && i < v->n; i++) {
		if (json_array_append_new(a, json_integer((json_int_t)v->v[i])) < 0) {
			json_decref(a);
			return NULL;
		}
	}
	return a;
}

static json_t *format_map(const struct jmap *m)
{
	json_t *o = json_object();

	for (size_t i = 0; o && i < m->n; i++) {
		if (json_object_set_new(o, m->v[i].key, json_string(m->v[i].value)) < 0) {
			json_decref(o);
			return NULL;
		}
	}
	return o;
}

static json_t *format_objects(const struct jtable *t, const struct jvec *v)
{
	json_t *a = json_array();

	for (size_t i = 0; a && i < v->n; i++) {
		if (json_array_append_new(a, jtable_format(t, (char *)v->v + i * t->size)) < 0) {
			json_decref(a);
			return NULL;
		}
	}
	return a;
}

static json_t *format_objmap(const struct jtable *t, const struct jobjmap *m)
{
	json_t *o = json_object();

	for (size_t i = 0; o && i < m->n; i++) {
		if (json_object_set_new(o, m->keys[i],
					jtable_format(t, (char *)m->v + i * t->size)) < 0) {
			json_decref(o);
			return NULL;
		}
	}
	return o;
}

static json_t *format_str(const char *s)
{
	return s ? json_string(s) : json_null();
}

static json_t *format_value(const struct jfield *f, const void *field)
{
	switch (f->kind) {
	case JK_BOOL:
		return json_boolean(*(const bool *)field);
	case JK_INT:
		return json_integer(*(const int64_t *)field);
	case JK_UINT:
	case JK_SIZE:
		return json_big(*(const uint64_t *)field);
	case JK_NUMBER:
		return json_real(*(const double *)field);
	case JK_STR:
	case JK_NAME:
	case JK_ID:
	case JK_PATH:
		return format_str(*(const char *const *)field);
	case JK_ENUM:
		return json_string(f->names[*(const int *)field]);
	case JK_TIME: {
		uint64_t t = *(const uint64_t *)field;

		return t ? json_string(time_format(t).text) : json_null();
	}
	case JK_STRV:
		return format_strings(field);
	case JK_INTV:
	case JK_UINTV:
		return format_numbers(field);
	case JK_MAP:
		return format_map(field);
	case JK_OBJ: {
		const void *sub = *(const void *const *)field;

		return sub ? jtable_format(f->sub, sub) : json_null();
	}
	case JK_INLINE:
		return jtable_format(f->sub, field);
	case JK_OBJV:
		return format_objects(f->sub, field);
	case JK_OBJMAP:
		return format_objmap(f->sub, field);
	case JK_RAW: {
		json_t *raw = *(json_t *const *)field;

		return raw ? json_incref(raw) : json_null();
	}
	case JK__COUNT:
		break;
	}
	assert(false);
	return NULL;
}

/* Zero, false, null or without elements. */
static bool json_is_empty(const json_t *j)
{
	switch (json_typeof(j)) {
	case JSON_OBJECT:
		return json_object_size(j) == 0;
	case JSON_ARRAY:
		return json_array_size(j) == 0;
	case JSON_INTEGER:
		return json_integer_value(j) == 0;
	case JSON_FALSE:
	case JSON_NULL:
		return true;
	case JSON_REAL:
		return !(json_real_value(j) < 0) && !(json_real_value(j) > 0);
	case JSON_STRING:
	case JSON_TRUE:
		return false;
	}
	return false;
}

static int format_field(const struct jfield *f, const void *obj, json_t *out)
{
	bool present = f->has && *(const bool *)((const char *)obj + f->has);

	if ((f->flags & (JF_REFUSED | JF_SECRET)) || (f->has && !present)) {
		return 0;
	}
	json_t *value = format_value(f, (const char *)obj + f->off);

	if (!value) {
		return -ENOMEM;
	}
	if (json_is_empty(value) && !present && !(f->flags & (JF_EMPTY | JF_REQUIRED))) {
		json_decref(value);
		return 0;
	}
	return json_put(out, f->name, value);
}

json_t *jtable_format(const struct jtable *t, const void *obj)
{
	json_t *out = json_object();

	for (size_t i = 0; out && i < t->n_fields; i++) {
		if (format_field(&t->fields[i], obj, out) < 0) {
			json_decref(out);
			return NULL;
		}
	}
	return out;
}

static bool kind_has_sub(enum jkind k)
{
	return k == JK_OBJ || k == JK_INLINE || k == JK_OBJV || k == JK_OBJMAP;
}

const char *jtable_fault(const struct jtable *t)
{
	for (size_t i = 0; i < t->n_fields; i++) {
		const struct jfield *f = &t->fields[i];

		if (!f->name || !f->doc || !f->doc[0]) {
			return "a field lacks its name or documentation";
		}
		if (!(f->flags & JF_REFUSED) && f->off >= t->size) {
			return "a field lies outside its struct";
		}
		if (!(f->flags & JF_REFUSED) && kind_has_sub(f->kind) != (f->sub != NULL)) {
			return "sub-tables go with objects";
		}
		if ((f->kind == JK_ENUM) != (f->names != NULL)) {
			return "names go with JK_ENUM";
		}
		for (size_t j = 0; j < i; j++) {
			if (str_eq(f->name, t->fields[j].name)) {
				return "two fields share a name";
			}
		}
		if (f->sub && f->sub != t) {
			const char *fault = jtable_fault(f->sub);

			if (fault) {
				return fault;
			}
		}
	}
	return NULL;
}
