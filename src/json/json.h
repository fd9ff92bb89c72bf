/* SPDX-License-Identifier: Apache-2.0 */
/*
 * JSON documents from outside, with bounds. The tree is jansson's; most code never sees it
 * and works through a table (json/table.h).
 */
#ifndef JSON_JSON_H
#define JSON_JSON_H

#include <jansson.h>

#include "base/err.h"
#include "base/str.h"

/* What a document may be; more is refused with ERR_LIMIT. */
struct json_limits {
	size_t bytes;
	size_t depth;
};

/* For an OCI config or manifest; for a request's body. */
extern const struct json_limits json_limits_document;   /* 4 MiB, 64 levels */
extern const struct json_limits json_limits_request;    /* 1 MiB, 32 levels */

/* A reference that goes with its scope (json_decrefp() is jansson's). */
#define auto_json auto_(json_decrefp)

/*
 * Parse a text. Duplicate keys, trailing bytes, NUL in a string and invalid UTF-8 are
 * refused. The error names line and column. The caller owns *ret.
 *
 * @what  names the document in errors: "config.json"
 */
int json_parse(const char *text, size_t len, const struct json_limits *limits, const char *what,
	       json_t **ret, struct err *e) must_check;

/* Compact, keys in their order of insertion. NULL when memory is out; the caller frees. */
char *json_text(const json_t *j) must_check;
char *json_text_pretty(const json_t *j) must_check;

/*
 * Unsigned integers above INT64_MAX, which jansson does not have: json_parse() keeps them,
 * json_text() writes them back as numbers, and these two look inside. Tables do it for
 * themselves.
 */
bool    json_big_value(const json_t *j, uint64_t *ret);
json_t *json_big(uint64_t v) must_check;

/* Add `own_value` (taken on failure too; NULL fails) to an object. 0 or -ENOMEM. */
int json_put(json_t *obj, const char *key, json_t *own_value) must_check;

#endif
