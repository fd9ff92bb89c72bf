/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Objects as tables of fields. One table parses a JSON object into a struct, checks it,
 * writes it back, and describes it as a JSON Schema (for OpenAPI and the documentation).
 *
 *	struct limits { uint64_t memory_bytes; bool has_cpus; uint64_t cpus; const char *name; };
 *
 *	#define IN(m) offsetof(struct limits, m)
 *	static const struct jfield limits_fields[] = {
 *		{ "name",   JK_NAME, IN(name), .flags = JF_REQUIRED, .doc = "of the instance" },
 *		{ "memory", JK_SIZE, IN(memory_bytes), .min = 4096, .max = INT64_MAX,
 *		  .doc = "bytes, or text such as \"512m\"" },
 *		{ "cpus",   JK_UINT, IN(cpus), .has = IN(has_cpus), .max = 256, .doc = "..." },
 *	};
 *	#undef IN
 *	static const struct jtable limits_table = JTABLE("limits", struct limits, limits_fields);
 *
 *	auto_arena struct arena a = ARENA_INIT;
 *	struct limits l;
 *	r = jtable_parse(&limits_table, json, &a, &l, &e);   // e.field: "/memory"
 *
 * What a parsed struct points to lives in the arena (strings, arrays, sub-objects), except
 * JK_RAW, which borrows from the document. An absent optional field leaves its member zero.
 * JSON null counts as absent.
 */
#ifndef JSON_TABLE_H
#define JSON_TABLE_H

#include "base/arena.h"
#include "json/json.h"

enum jkind {
	JK_BOOL,     /* bool */
	JK_INT,      /* int64_t */
	JK_UINT,     /* uint64_t */
	JK_NUMBER,   /* double; min and max do not apply */
	JK_STR,      /* const char *; min..max is its length where max > 0 */
	JK_NAME,     /* const char *, name_valid() */
	JK_ID,       /* const char *, id_valid() */
	JK_PATH,     /* const char *, absolute, no NUL, below PATH_MAX */
	JK_SIZE,     /* uint64_t bytes: a number, or text for parse_size() */
	JK_ENUM,     /* int: index into .names */
	JK_TIME,     /* uint64_t nanoseconds since the epoch; RFC 3339 text */
	JK_STRV,     /* struct jstrv */
	JK_INTV,     /* struct jintv: int64_t */
	JK_UINTV,    /* struct juintv: uint64_t */
	JK_MAP,      /* struct jmap: string to string, order kept */
	JK_OBJ,      /* pointer to a struct of .sub, NULL if absent */
	JK_INLINE,   /* a struct of .sub itself, zero if absent */
	JK_OBJV,     /* struct jvec of structs of .sub */
	JK_OBJMAP,   /* struct jobjmap: string to struct of .sub */
	JK_RAW,      /* json_t *, borrowed; any type */
	JK__COUNT,
};

enum {
	JF_REQUIRED = 1,
	JF_NULLABLE_ITEMS = 2, /* JK_OBJV: null items are skipped instead of refused */
	JF_REFUSED  = 4,  /* known, but not done: refused by name, .doc says why */
	JF_READONLY = 8,  /* written, but refused on parsing (server-set fields) */
	JF_EMPTY    = 16, /* written even when it is zero, empty or absent */
	JF_SECRET   = 32, /* never written */
};

struct jtable;

struct jfield {
	const char          *name;
	enum jkind           kind;
	size_t               off;
	unsigned             flags;
	int64_t              min;      /* numbers; both 0: unbounded */
	uint64_t             max;
	const char *const   *names;    /* JK_ENUM: NULL-terminated */
	const struct jtable *sub;
	size_t               has;      /* offset of a bool that says "present"; 0: none.
					* So that member is never the first of its struct. */
	const char          *doc;      /* one line, for the schema and the documentation */
};

enum {
	JT_OPEN = 1,  /* unknown keys are ignored (told to the hook); else refused */
};

struct jtable {
	const char          *name;     /* of the type: "Limits" */
	size_t               size;
	const struct jfield *fields;
	size_t               n_fields;
	unsigned             flags;
	/* Checks what one field cannot say; NULL: nothing. May fill e with err_field(). */
	int                (*check)(const void *obj, struct err *e);
};

#define JTABLE(type_name, type, field_array) \
	{ .name = (type_name), .size = sizeof(type), .fields = (field_array), \
	  .n_fields = ARRAY_LEN(field_array) }
#define JTABLE_OPEN(type_name, type, field_array) \
	{ .name = (type_name), .size = sizeof(type), .fields = (field_array), \
	  .n_fields = ARRAY_LEN(field_array), .flags = JT_OPEN }

struct jstrv  { const char **v; size_t n; };   /* v[n] is NULL */
struct jintv  { int64_t *v; size_t n; };
struct juintv { uint64_t *v; size_t n; };
struct jpair  { const char *key, *value; };
struct jmap   { struct jpair *v; size_t n; };
struct jvec   { void *v; size_t n; };          /* n structs of the sub-table's size */
struct jobjmap { const char **keys; void *v; size_t n; };

/* The value of a key, or NULL. */
const char *jmap_get(const struct jmap *m, const char *key);

/*
 * Parse `obj` (any type; not an object is an error) into *ret, which is zeroed first.
 * On failure e->field is the JSON pointer of what is wrong, and *ret is not to be used.
 */
int jtable_parse(const struct jtable *t, const json_t *obj, struct arena *a, void *ret,
		 struct err *e) must_check;

/*
 * As a JSON object. Zero numbers, false, NULL and empty lists are left out unless the field
 * is JF_EMPTY or JF_REQUIRED, or has a presence bool that is set. NULL when memory is out.
 */
json_t *jtable_format(const struct jtable *t, const void *obj) must_check;

/* JSON Schema; sub-tables by "$ref": "#/components/schemas/NAME". NULL when memory is out. */
json_t *jtable_schema(const struct jtable *t) must_check;

/* Called for each ignored key of an open table: pointer of the object, key. */
typedef void (*jtable_unknown_fn)(const char *pointer, const char *key);
void jtable_on_unknown(jtable_unknown_fn fn);

/* What is wrong with a table, or NULL: names unique, docs there, offsets inside. For tests. */
const char *jtable_fault(const struct jtable *t);

#endif
