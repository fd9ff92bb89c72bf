/* SPDX-License-Identifier: Apache-2.0 */
/* A table as JSON Schema, as OpenAPI 3.1 embeds it. */
#include "json/table.h"

#include <errno.h>
#include <stdio.h>

static json_t *type_only(const char *type)
{
	return json_pack("{s:s}", "type", type);
}

static json_t *ref_to(const struct jtable *t)
{
	char path[128];

	(void)snprintf(path, sizeof(path), "#/components/schemas/%s", t->name);
	return json_pack("{s:s}", "$ref", path);
}

static json_t *enum_of(const char *const *names)
{
	json_t *values = json_array();

	for (size_t i = 0; values && names[i]; i++) {
		if (json_array_append_new(values, json_string(names[i])) < 0) {
			json_decref(values);
			return NULL;
		}
	}
	return values ? json_pack("{s:s, s:o}", "type", "string", "enum", values) : NULL;
}

static json_t *bounded_int(const struct jfield *f)
{
	json_t *o = type_only("integer");

	if (!o || (f->min == 0 && f->max == 0)) {
		return o;
	}
	json_int_t max = f->max > INT64_MAX ? INT64_MAX : (json_int_t)f->max;

	if (json_put(o, "minimum", json_integer(f->min)) < 0 ||
	    (max > 0 && json_put(o, "maximum", json_integer(max)) < 0)) {
		json_decref(o);
		return NULL;
	}
	return o;
}

static json_t *field_type(const struct jfield *f)
{
	switch (f->kind) {
	case JK_BOOL:
		return type_only("boolean");
	case JK_INT:
	case JK_UINT:
		return bounded_int(f);
	case JK_NUMBER:
		return type_only("number");
	case JK_STR:
	case JK_NAME:
	case JK_PATH:
		return type_only("string");
	case JK_ID:
		return json_pack("{s:s, s:s}", "type", "string", "pattern", "^[0-9a-f]{64}$");
	case JK_SIZE:
		return json_pack("{s:[s,s]}", "type", "integer", "string");
	case JK_ENUM:
		return enum_of(f->names);
	case JK_TIME:
		return json_pack("{s:s, s:s}", "type", "string", "format", "date-time");
	case JK_STRV:
		return json_pack("{s:s, s:{s:s}}", "type", "array", "items", "type", "string");
	case JK_INTV:
	case JK_UINTV:
		return json_pack("{s:s, s:{s:s}}", "type", "array", "items", "type", "integer");
	case JK_MAP:
		return json_pack("{s:s, s:{s:s}}", "type", "object", "additionalProperties", "type",
				 "string");
	case JK_OBJ:
	case JK_INLINE:
		return ref_to(f->sub);
	case JK_OBJV:
		return json_pack("{s:s, s:o}", "type", "array", "items", ref_to(f->sub));
	case JK_OBJMAP:
		return json_pack("{s:s, s:o}", "type", "object", "additionalProperties",
				 ref_to(f->sub));
	case JK_RAW:
		return json_object();
	case JK__COUNT:
		break;
	}
	assert(false);
	return NULL;
}

static int add_field(const struct jfield *f, json_t *properties, json_t *required)
{
	json_t *type = field_type(f);
	int r = type ? json_put(type, "description", json_string(f->doc)) : -ENOMEM;

	if (r == 0 && (f->flags & JF_READONLY)) {
		r = json_put(type, "readOnly", json_true());
	}
	if (r == 0 && (f->flags & JF_REQUIRED) &&
	    json_array_append_new(required, json_string(f->name)) < 0) {
		r = -ENOMEM;
	}
	if (r < 0) {
		json_decref(type);
		return r;
	}
	return json_put(properties, f->name, type);
}

json_t *jtable_schema(const struct jtable *t)
{
	auto_json json_t *properties = json_object();
	auto_json json_t *required = json_array();

	if (!properties || !required) {
		return NULL;
	}
	for (size_t i = 0; i < t->n_fields; i++) {
		if (!(t->fields[i].flags & JF_REFUSED) &&
		    add_field(&t->fields[i], properties, required) < 0) {
			return NULL;
		}
	}
	json_t *schema = json_pack("{s:s, s:O, s:b}", "type", "object", "properties", properties,
				   "additionalProperties", (t->flags & JT_OPEN) != 0);

	if (schema && json_array_size(required) > 0 &&
	    json_object_set(schema, "required", required) < 0) {
		json_decref(schema);
		return NULL;
	}
	return schema;
}
