/* SPDX-License-Identifier: Apache-2.0 */
#include "json/json.h"

#include <errno.h>

const struct json_limits json_limits_document = { .bytes = 4u << 20, .depth = 64 };
const struct json_limits json_limits_request = { .bytes = 1u << 20, .depth = 32 };

/*
 * The deepest nesting of a text, without parsing it: jansson's own bound is far above what
 * a document here may have, and its parser recurses.
 */
static size_t text_depth(const char *text, size_t len)
{
	size_t depth = 0, deepest = 0;
	bool in_string = false;

	for (size_t i = 0; i < len; i++) {
		char c = text[i];

		if (in_string) {
			if (c == '\\') {
				i++;
			} else if (c == '"') {
				in_string = false;
			}
		} else if (c == '"') {
			in_string = true;
		} else if (c == '{' || c == '[') {
			deepest = MAX(deepest, ++depth);
		} else if ((c == '}' || c == ']') && depth > 0) {
			depth--;
		}
	}
	return deepest;
}

int json_parse(const char *text, size_t len, const struct json_limits *limits, const char *what,
	       json_t **ret, struct err *e)
{
	json_error_t je;

	if (len > limits->bytes) {
		return err_set(e, EFBIG, ERR_LIMIT, "%s is larger than %zu bytes", what,
			       limits->bytes);
	}
	if (text_depth(text, len) > limits->depth) {
		return err_set(e, E2BIG, ERR_LIMIT, "%s is nested deeper than %zu levels", what,
			       limits->depth);
	}
	json_t *j = json_loadb(text, len, JSON_REJECT_DUPLICATES, &je);

	if (!j && json_error_code(&je) == json_error_out_of_memory) {
		return err_nomem(e);
	}
	if (!j) {
		return err_set(e, EINVAL, ERR_INVALID, "%s is not valid JSON: line %d column %d: %s",
			       what, je.line, je.column, je.text);
	}
	*ret = j;
	return 0;
}

char *json_text(const json_t *j)
{
	return json_dumps(j, JSON_COMPACT | JSON_ENCODE_ANY);
}

char *json_text_pretty(const json_t *j)
{
	return json_dumps(j, JSON_INDENT(2) | JSON_ENCODE_ANY);
}

int json_put(json_t *obj, const char *key, json_t *own_value)
{
	return json_object_set_new(obj, key, own_value) < 0 ? -ENOMEM : 0;
}
