/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/template.h"

#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <strings.h>

enum { DEPTH_MAX = 32, WORDS_MAX = 8 };

struct run {
	const char   *text;   /* the whole template, for messages */
	const char   *at;
	const json_t *root;   /* "$" */
	struct err   *e;
	unsigned      depth;
};

/* One word of an action: a field path, a text in quotes, a number, a function. */
struct word {
	const char *s;
	size_t      n;
};

static int print_block(struct run *r, const json_t *dot, bool show, struct buf *out,
		       const char **ret_end);

static int wrong(const struct run *r, const char *what, const char *s, size_t n)
{
	return err_set(r->e, EINVAL, ERR_INVALID, "--format: %s '%.*s' in '%.200s'", what, (int)n, s,
		       r->text);
}

/* Splits an action into words; quotes hold blanks together. */
static int split(const struct run *r, const char *s, const char *end, struct word *w, size_t *ret_n)
{
	*ret_n = 0;
	while (s < end) {
		if (isspace((unsigned char)*s)) {
			s++;
			continue;
		}
		const char *start = s;

		if (*ret_n == WORDS_MAX) {
			return wrong(r, "too many words at", s, (size_t)(end - s));
		}
		if (*s == '"' || *s == '`') {
			char quote = *s++;

			while (s < end && *s != quote) {
				s += (*s == '\\' && quote == '"' && s + 1 < end) ? 2 : 1;
			}
			if (s >= end) {
				return wrong(r, "no closing quote at", start, (size_t)(end - start));
			}
			s++;
		} else if (*s == '|') {
			s++;
		} else {
			while (s < end && !isspace((unsigned char)*s) && *s != '|') {
				s++;
			}
		}
		w[(*ret_n)++] = (struct word){ start, (size_t)(s - start) };
	}
	return 0;
}

static bool is(const struct word *w, const char *text)
{
	return w->n == strlen(text) && memcmp(w->s, text, w->n) == 0;
}

/* Equal but for case and underscores. */
static bool loosely(const char *key, const char *s, size_t n)
{
	size_t i = 0;

	for (; *key; key++) {
		if (*key == '_') {
			continue;
		}
		while (i < n && s[i] == '_') {
			i++;
		}
		if (i >= n || tolower((unsigned char)*key) != tolower((unsigned char)s[i])) {
			return false;
		}
		i++;
	}
	return i == n;
}

static json_t *member(const json_t *obj, const char *s, size_t n)
{
	const char *key;
	json_t *value;

	json_object_foreach((json_t *)obj, key, value) {
		if (strlen(key) == n && memcmp(key, s, n) == 0) {
			return value;
		}
	}
	json_object_foreach((json_t *)obj, key, value) {
		if (loosely(key, s, n)) {
			return value;
		}
	}
	return NULL;
}

/* ".A.B", "." or "$.A". The result is borrowed from the value. */
static int field(const struct run *r, const struct word *w, const json_t *dot, const json_t **ret)
{
	const char *s = w->s, *end = w->s + w->n;
	const json_t *v = dot;

	if (*s == '$') {
		v = r->root;
		s++;
	}
	while (s < end) {
		const char *start = ++s;

		while (s < end && *s != '.') {
			s++;
		}
		if (s == start) {
			break; /* "." alone */
		}
		v = json_is_object(v) ? member(v, start, (size_t)(s - start)) : NULL;
		if (!v) {
			return wrong(r, "there is no field", start, (size_t)(s - start));
		}
	}
	*ret = v;
	return 0;
}

/* Takes back the escapes of a text in quotes. */
static json_t *literal(const struct word *w)
{
	auto_buf struct buf b = BUF_INIT;
	bool raw = w->s[0] == '`';

	for (size_t i = 1; i + 1 < w->n; i++) {
		char c = w->s[i];

		if (c == '\\' && !raw && i + 2 < w->n) {
			c = w->s[++i];
			c = c == 'n' ? '\n' : c == 't' ? '\t' : c;
		}
		buf_add_char(&b, c);
	}
	return json_string(buf_str(&b));
}

static int operand(const struct run *r, const struct word *w, const json_t *dot, json_t **ret)
{
	const json_t *v = NULL;
	int s;

	if (w->s[0] == '"' || w->s[0] == '`') {
		*ret = literal(w);
		return *ret ? 0 : err_nomem(r->e);
	}
	if (isdigit((unsigned char)w->s[0])) {
		*ret = json_integer(strtoll(w->s, NULL, 10));
		return *ret ? 0 : err_nomem(r->e);
	}
	if (w->s[0] != '.' && w->s[0] != '$') {
		return wrong(r, "unknown function", w->s, w->n);
	}
	s = field(r, w, dot, &v);
	if (s == 0) {
		*ret = json_incref((json_t *)v);
	}
	return s;
}

static void print_value(const json_t *v, struct buf *out)
{
	if (json_is_string(v)) {
		buf_add_str(out, json_string_value(v));
	} else if (json_is_null(v)) {
		buf_add_str(out, "<no value>");
	} else {
		auto_free char *text = json_text(v);

		buf_add_str(out, text ? text : "");
	}
}

static json_t *changed_case(const json_t *v, int (*change)(int))
{
	auto_buf struct buf b = BUF_INIT;

	print_value(v, &b);
	for (size_t i = 0; i < b.len; i++) {
		b.data[i] = (char)change((unsigned char)b.data[i]);
	}
	return json_string(buf_str(&b));
}

static json_t *joined(const json_t *list, const char *sep)
{
	auto_buf struct buf b = BUF_INIT;

	for (size_t i = 0; i < json_array_size(list); i++) {
		buf_add_str(&b, i ? sep : "");
		print_value(json_array_get(list, i), &b);
	}
	return json_string(buf_str(&b));
}

static json_t *text_of(const json_t *v)
{
	auto_free char *text = json_text(v);

	return text ? json_string(text) : NULL;
}

static json_t *length(const json_t *v)
{
	size_t n = json_is_string(v) ? json_string_length(v) :
		   json_is_array(v) ? json_array_size(v) : json_object_size(v);

	return json_integer((json_int_t)n);
}

/* `v` indexed by each key in turn. */
static int indexed(const struct run *r, json_t *const *args, size_t n, json_t **ret)
{
	json_t *v = args[0];

	for (size_t i = 1; i < n; i++) {
		if (json_is_array(v) && json_is_integer(args[i])) {
			v = json_array_get(v, (size_t)json_integer_value(args[i]));
		} else {
			v = json_object_get(v, json_string_value(args[i]));
		}
		if (!v) {
			*ret = json_string(""); /* as Go's zero value of a map of strings */
			return *ret ? 0 : err_nomem(r->e);
		}
	}
	*ret = json_incref(v);
	return 0;
}

static int call(const struct run *r, const struct word *name, json_t *const *args, size_t n,
		json_t **ret)
{
	if (n == 0) {
		return wrong(r, "an argument is missing to", name->s, name->n);
	}
	if (is(name, "index")) {
		return indexed(r, args, n, ret);
	}
	if (is(name, "json")) {
		*ret = text_of(args[0]);
	} else if (is(name, "len")) {
		*ret = length(args[0]);
	} else if (is(name, "upper")) {
		*ret = changed_case(args[0], toupper);
	} else if (is(name, "lower")) {
		*ret = changed_case(args[0], tolower);
	} else if (is(name, "join") && n == 2) {
		*ret = joined(args[0], json_string_value(args[1]) ? json_string_value(args[1]) : "");
	} else if (is(name, "print") || is(name, "println")) {
		*ret = json_incref(args[0]);
	} else {
		return wrong(r, "unknown function", name->s, name->n);
	}
	return *ret ? 0 : err_nomem(r->e);
}

/* One command of a pipeline; `piped` (may be NULL) becomes its last argument. */
static int command(const struct run *r, const struct word *w, size_t n, const json_t *dot,
		   json_t *piped, json_t **ret)
{
	json_t *args[WORDS_MAX + 1] = { NULL };
	size_t n_args = 0;
	int s = 0;

	if (n == 0) {
		return wrong(r, "an empty command at", r->text, 0);
	}
	if (!isalpha((unsigned char)w[0].s[0])) {
		return n == 1 && !piped ? operand(r, w, dot, ret) :
					  wrong(r, "cannot call", w[0].s, w[0].n);
	}
	for (size_t i = 1; s == 0 && i < n; i++) {
		s = operand(r, &w[i], dot, &args[n_args]);
		n_args += s == 0;
	}
	if (s == 0 && piped) {
		args[n_args++] = json_incref(piped);
	}
	if (s == 0) {
		s = call(r, &w[0], args, n_args, ret);
	}
	for (size_t i = 0; i < n_args; i++) {
		json_decref(args[i]);
	}
	return s;
}

static int pipeline(const struct run *r, const struct word *w, size_t n, const json_t *dot,
		    json_t **ret)
{
	auto_json json_t *value = NULL;
	size_t start = 0;

	for (size_t i = 0; i <= n; i++) {
		json_t *next = NULL;

		if (i < n && !is(&w[i], "|")) {
			continue;
		}
		int s = command(r, w + start, i - start, dot, value, &next);

		if (s < 0) {
			return s;
		}
		json_decref(value);
		value = next;
		start = i + 1;
	}
	*ret = take_ptr(&value);
	return 0;
}

static bool truth(const json_t *v)
{
	switch (json_typeof(v)) {
	case JSON_OBJECT:
		return json_object_size(v) > 0;
	case JSON_ARRAY:
		return json_array_size(v) > 0;
	case JSON_STRING:
		return json_string_length(v) > 0;
	case JSON_INTEGER:
	case JSON_REAL:
		return json_number_value(v) != 0;
	case JSON_TRUE:
		return true;
	case JSON_FALSE:
	case JSON_NULL:
		return false;
	}
	return false;
}

static int print_if(struct run *r, const struct word *w, size_t n, const json_t *dot, bool show,
		    struct buf *out)
{
	auto_json json_t *v = NULL;
	const char *end = NULL;
	int s = show ? pipeline(r, w, n, dot, &v) : 0;

	if (s < 0) {
		return s;
	}
	bool yes = show && truth(v);

	s = print_block(r, dot, yes, out, &end);
	if (s == 0 && str_after(end, "else")) {
		s = print_block(r, dot, show && !yes, out, &end);
	}
	return s;
}

static int print_range(struct run *r, const struct word *w, size_t n, const json_t *dot, bool show,
		       struct buf *out)
{
	auto_json json_t *v = NULL;
	const char *body = r->at, *end = NULL;
	int s = show ? pipeline(r, w, n, dot, &v) : 0;

	if (s == 0) {
		s = print_block(r, dot, false, out, &end); /* to find its end */
	}
	const char *after = r->at, *key;
	json_t *item;
	size_t i;

	if (json_is_array(v)) {
		json_array_foreach(v, i, item) {
			r->at = body;
			s = s < 0 ? s : print_block(r, item, true, out, &end);
		}
	} else if (json_is_object(v)) {
		json_object_foreach(v, key, item) {
			r->at = body;
			s = s < 0 ? s : print_block(r, item, true, out, &end);
		}
	}
	r->at = after;
	return s;
}

/* Adds text with "\t" and "\n" taken back. */
static void add_text(struct buf *out, const char *s, const char *end)
{
	for (; s < end; s++) {
		if (*s == '\\' && s + 1 < end && (s[1] == 't' || s[1] == 'n')) {
			buf_add_char(out, *++s == 't' ? '\t' : '\n');
		} else {
			buf_add_char(out, *s);
		}
	}
}

/* The text up to the next action, and the action's words. *ret_n is 0 at the end. */
static int next_action(struct run *r, bool show, struct buf *out, struct word *w, size_t *ret_n,
		       bool *ret_more)
{
	const char *open = strstr(r->at, "{{");
	const char *text_end = open ? open : r->at + strlen(r->at);

	*ret_n = 0;
	*ret_more = open != NULL;
	if (open && open[2] == '-') {
		while (text_end > r->at && isspace((unsigned char)text_end[-1])) {
			text_end--;
		}
	}
	if (show) {
		add_text(out, r->at, text_end);
	}
	if (!open) {
		r->at = text_end;
		return 0;
	}
	const char *start = open + (open[2] == '-' ? 3 : 2);
	const char *close = strstr(start, "}}");

	if (!close) {
		return wrong(r, "no closing braces at", open, strlen(open));
	}
	bool trim = close > start && close[-1] == '-';

	r->at = close + 2;
	while (trim && isspace((unsigned char)*r->at)) {
		r->at++;
	}
	return split(r, start, trim ? close - 1 : close, w, ret_n);
}

/*
 * Print up to the "end" or "else" that closes this block, or the end of the template. Where
 * `show` is false nothing is evaluated. *ret_end is the word that closed it, "" at the end.
 */
static int print_block(struct run *r, const json_t *dot, bool show, struct buf *out,
		       const char **ret_end)
{
	struct word w[WORDS_MAX];
	bool more = true;
	size_t n;
	int s = ++r->depth > DEPTH_MAX ? wrong(r, "nested too deeply at", r->at, strlen(r->at)) : 0;

	*ret_end = "";
	while (s == 0) {
		s = next_action(r, show, out, w, &n, &more);
		if (s < 0 || !more) {
			break;
		}
		if (n == 1 && (is(&w[0], "end") || is(&w[0], "else"))) {
			*ret_end = w[0].s;
			break;
		}
		if (n > 0 && is(&w[0], "if")) {
			s = print_if(r, w + 1, n - 1, dot, show, out);
		} else if (n > 0 && is(&w[0], "range")) {
			s = print_range(r, w + 1, n - 1, dot, show, out);
		} else if (show) {
			auto_json json_t *v = NULL;

			s = pipeline(r, w, n, dot, &v);
			if (s == 0) {
				print_value(v, out);
			}
		}
	}
	r->depth--;
	return s;
}

int template_print(const char *text, const json_t *value, struct buf *out, struct err *e)
{
	struct run r = { .text = text, .at = text, .root = value, .e = e };
	const char *end = "";
	int s = print_block(&r, value, true, out, &end);

	if (s == 0 && *end) {
		return wrong(&r, "nothing is open for", end, 3);
	}
	return s == 0 && buf_failed(out) ? err_nomem(e) : s;
}
