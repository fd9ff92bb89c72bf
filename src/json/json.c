/* SPDX-License-Identifier: Apache-2.0 */
#include "json/json.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

/* The mark of an integer above INT64_MAX, and how it looks in a text. */
#define JSON__BIG         "\001u"
#define JSON__BIG_ESCAPED "\\u0001u"

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

/* Length of the run of digits at `s`, within `len` bytes. */
static size_t digits_at(const char *s, size_t len)
{
	size_t n = 0;

	while (n < len && s[n] >= '0' && s[n] <= '9') {
		n++;
	}
	return n;
}

/* True for an integer that fits in 64 bits without a sign, but not with one. */
static bool is_big(const char *digits, size_t n)
{
	char text[24];
	uint64_t v;

	if (n < 19 || n > 20) {
		return false;
	}
	memcpy(text, digits, n);
	text[n] = '\0';
	return parse_u64(text, UINT64_MAX, &v) == 0 && v > INT64_MAX;
}

/*
 * jansson refuses integers above INT64_MAX, which OCI documents hold (RLIM_INFINITY, masks of
 * system call arguments). They go through it as strings with a mark in front (JSON__BIG).
 * Returns true if there was one, with the changed text in *ret.
 */
static bool mark_big(const char *text, size_t len, struct buf *ret)
{
	bool in_string = false, found = false;
	size_t copied = 0;

	for (size_t i = 0; i < len; i++) {
		char c = text[i];

		if (in_string) {
			i += c == '\\';
			in_string = c != '"';
			continue;
		}
		in_string = c == '"';
		size_t n = digits_at(text + i, len - i);

		if (n == 0) {
			continue;
		}
		char before = i > 0 ? text[i - 1] : ' ';
		char after = i + n < len ? text[i + n] : ' ';

		if (is_big(text + i, n) && !strchr("-+.eE", before) && !strchr(".eE", after)) {
			buf_add(ret, text + copied, i - copied);
			buf_printf(ret, "\"" JSON__BIG_ESCAPED "%.*s\"", (int)n, text + i);
			copied = i + n;
			found = true;
		}
		i += n - 1;
	}
	buf_add(ret, text + copied, len - copied);
	return found;
}

/*
 * The reverse, on the way out: a marked number loses its quotes and mark. Text that only looks
 * marked (a key, other digits) stays as it is. Takes `own_text`.
 */
static char *unmark_big(char *own_text)
{
	static const char mark[] = "\"" JSON__BIG_ESCAPED;
	char *in = own_text ? strstr(own_text, mark) : NULL;
	char *out = in;

	while (in) {
		char *digits = in + sizeof(mark) - 1;
		size_t n = digits_at(digits, strlen(digits));
		bool number = digits[n] == '"' && digits[n + 1] != ':' && is_big(digits, n);
		char *from = number ? digits : in;
		char *rest = number ? digits + n + 1 : digits;
		char *next = strstr(rest, mark);
		size_t keep = number ? n : sizeof(mark) - 1;
		size_t tail = next ? (size_t)(next - rest) : strlen(rest) + 1;

		memmove(out, from, keep);
		memmove(out + keep, rest, tail);
		out += keep + tail;
		in = next;
	}
	return own_text;
}

bool json_big_value(const json_t *j, uint64_t *ret)
{
	const char *s = json_is_string(j) ? str_after(json_string_value(j), JSON__BIG) : NULL;

	return s && parse_u64(s, UINT64_MAX, ret) == 0;
}

json_t *json_big(uint64_t v)
{
	char text[32];

	if (v <= INT64_MAX) {
		return json_integer((json_int_t)v);
	}
	(void)snprintf(text, sizeof(text), JSON__BIG "%llu", (unsigned long long)v);
	return json_string(text);
}

static int load_error(const json_error_t *je, const char *what, struct err *e)
{
	if (json_error_code(je) == json_error_out_of_memory) {
		return err_nomem(e);
	}
	return err_set(e, EINVAL, ERR_INVALID, "%s is not valid JSON: line %d column %d: %s", what,
		       je->line, je->column, je->text);
}

int json_parse(const char *text, size_t len, const struct json_limits *limits, const char *what,
	       json_t **ret, struct err *e)
{
	auto_buf struct buf marked = BUF_INIT;
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

	if (!j && json_error_code(&je) == json_error_numeric_overflow &&
	    mark_big(text, len, &marked) && !buf_failed(&marked)) {
		j = json_loadb(marked.data, marked.len, JSON_REJECT_DUPLICATES, &je);
	}
	if (!j) {
		return load_error(&je, what, e);
	}
	*ret = j;
	return 0;
}

char *json_text(const json_t *j)
{
	return unmark_big(json_dumps(j, JSON_COMPACT | JSON_ENCODE_ANY));
}

char *json_text_pretty(const json_t *j)
{
	return unmark_big(json_dumps(j, JSON_INDENT(2) | JSON_ENCODE_ANY));
}

int json_put(json_t *obj, const char *key, json_t *own_value)
{
	return json_object_set_new(obj, key, own_value) < 0 ? -ENOMEM : 0;
}
