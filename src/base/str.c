/* SPDX-License-Identifier: Apache-2.0 */
#include "base/str.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>

#include "base/mem.h"

void buf_fini(struct buf *b)
{
	free(b->data);
	*b = (struct buf)BUF_INIT;
}

void buf_reset(struct buf *b)
{
	b->len = 0;
	b->failed = false;
	if (b->data) {
		b->data[0] = '\0';
	}
}

bool buf_reserve(struct buf *b, size_t n)
{
	size_t need;

	if (b->failed) {
		return false;
	}
	if (__builtin_add_overflow(b->len + 1, n, &need)) {
		b->failed = true;
		return false;
	}
	if (need <= b->cap) {
		return true;
	}

	size_t cap = MAX(need, MAX(b->cap * 2, (size_t)64));
	char *data = mem_realloc(b->data, cap, 1);

	if (!data) {
		b->failed = true;
		return false;
	}
	b->data = data;
	b->cap = cap;
	b->data[b->len] = '\0';
	return true;
}

void buf_add(struct buf *b, const void *p, size_t n)
{
	if (n == 0 || !buf_reserve(b, n)) {
		return;
	}
	memcpy(b->data + b->len, p, n);
	b->len += n;
	b->data[b->len] = '\0';
}

void buf_add_str(struct buf *b, const char *s)
{
	buf_add(b, s, strlen(s));
}

void buf_add_char(struct buf *b, char c)
{
	buf_add(b, &c, 1);
}

void buf_vprintf(struct buf *b, const char *fmt, va_list ap)
{
	va_list again;

	va_copy(again, ap);
	int n = vsnprintf(NULL, 0, fmt, ap);

	if (n < 0) {
		b->failed = true;
	} else if (buf_reserve(b, (size_t)n)) {
		(void)vsnprintf(b->data + b->len, (size_t)n + 1, fmt, again);
		b->len += (size_t)n;
	}
	va_end(again);
}

void buf_printf(struct buf *b, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	buf_vprintf(b, fmt, ap);
	va_end(ap);
}

void buf_drop(struct buf *b, size_t n)
{
	assert(n <= b->len);
	if (n == 0) {
		return;
	}
	memmove(b->data, b->data + n, b->len - n);
	b->len -= n;
	b->data[b->len] = '\0';
}

const char *buf_str(const struct buf *b)
{
	return b->data ? b->data : "";
}

char *buf_take(struct buf *b)
{
	if (b->failed) {
		return NULL;
	}
	char *s = b->data ? b->data : str_dup("");

	*b = (struct buf)BUF_INIT;
	return s;
}

char *str_ndup(const char *s, size_t n)
{
	char *p = mem_calloc(n + 1, 1);

	if (p) {
		memcpy(p, s, n);
	}
	return p;
}

char *str_dup(const char *s)
{
	return str_ndup(s, strlen(s));
}

static printf_like(1, 0) char *str_vprintf(const char *fmt, va_list ap)
{
	struct buf b = BUF_INIT;

	buf_vprintf(&b, fmt, ap);
	char *s = buf_take(&b);

	buf_fini(&b);
	return s;
}

char *str_printf(const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	char *s = str_vprintf(fmt, ap);
	va_end(ap);
	return s;
}

bool str_split(const char **cursor, char sep, const char **ret_part, size_t *ret_len)
{
	const char *start = *cursor;

	if (!start) {
		return false;
	}
	const char *end = strchr(start, sep);

	*ret_part = start;
	*ret_len = end ? (size_t)(end - start) : strlen(start);
	*cursor = end ? end + 1 : NULL;
	return true;
}

void strv_fini(struct strv *v)
{
	for (size_t i = 0; i < v->n; i++) {
		free(v->v[i]);
	}
	free(v->v);
	*v = (struct strv)STRV_INIT;
}

static int strv_add_own(struct strv *v, char *own_s)
{
	char **grown = own_s ? mem_realloc(v->v, v->n + 2, sizeof(char *)) : NULL;

	if (!grown) {
		free(own_s);
		return -ENOMEM;
	}
	v->v = grown;
	v->v[v->n++] = own_s;
	v->v[v->n] = NULL;
	return 0;
}

int strv_add(struct strv *v, const char *s)
{
	return strv_add_own(v, str_dup(s));
}

int strv_addf(struct strv *v, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	char *s = str_vprintf(fmt, ap);
	va_end(ap);
	return strv_add_own(v, s);
}

bool strv_has(const struct strv *v, const char *s)
{
	for (size_t i = 0; i < v->n; i++) {
		if (str_eq(v->v[i], s)) {
			return true;
		}
	}
	return false;
}

static int digit_value(char c)
{
	if (c >= '0' && c <= '9') {
		return c - '0';
	}
	if (c >= 'a' && c <= 'f') {
		return c - 'a' + 10;
	}
	if (c >= 'A' && c <= 'F') {
		return c - 'A' + 10;
	}
	return 99;
}

int parse_u64_base(const char *s, unsigned base, uint64_t max, uint64_t *ret)
{
	uint64_t v = 0;

	if (!*s) {
		return -EINVAL;
	}
	for (; *s; s++) {
		int d = digit_value(*s);

		if (d >= (int)base) {
			return -EINVAL;
		}
		if (__builtin_mul_overflow(v, (uint64_t)base, &v) ||
		    __builtin_add_overflow(v, (uint64_t)d, &v)) {
			return -ERANGE;
		}
	}
	if (v > max) {
		return -ERANGE;
	}
	*ret = v;
	return 0;
}

int parse_u64(const char *s, uint64_t max, uint64_t *ret)
{
	return parse_u64_base(s, 10, max, ret);
}

int parse_i64(const char *s, int64_t min, int64_t max, int64_t *ret)
{
	bool negative = *s == '-';
	uint64_t bound = negative ? (uint64_t)INT64_MAX + 1 : INT64_MAX;
	uint64_t magnitude;
	int r = parse_u64(negative ? s + 1 : s, bound, &magnitude);

	if (r < 0) {
		return r;
	}
	int64_t v = negative ? (int64_t)(0 - magnitude) : (int64_t)magnitude;

	if (v < min || v > max) {
		return -ERANGE;
	}
	*ret = v;
	return 0;
}

/* Digits, a point, digits. Returns what follows, NULL if there is no number. */
static const char *parse_decimal(const char *s, long double *ret)
{
	long double v = 0, scale = 1;
	const char *start = s;

	for (; *s >= '0' && *s <= '9'; s++) {
		v = v * 10 + (*s - '0');
	}
	if (s == start) {
		return NULL;
	}
	if (*s == '.') {
		for (s++; *s >= '0' && *s <= '9'; s++) {
			scale /= 10;
			v += (*s - '0') * scale;
		}
	}
	*ret = v;
	return s;
}

int parse_size(const char *s, uint64_t *ret_bytes)
{
	static const char units[] = "kmgtp";
	long double v;
	const char *p = parse_decimal(s, &v);

	if (!p) {
		return -EINVAL;
	}
	if (*p) {
		char lower = (char)(*p | 0x20);
		const char *unit = strchr(units, lower);

		if (unit) {
			v *= (long double)BIT(10 * (unit - units + 1));
			p++;
			if (*p == 'i') {
				p++;
			}
		}
		if (*p == 'b' || *p == 'B') {
			p++;
		}
	}
	if (*p) {
		return -EINVAL;
	}
	if (v > (long double)INT64_MAX) {
		return -ERANGE;
	}
	*ret_bytes = (uint64_t)v;
	return 0;
}

int parse_duration(const char *s, uint64_t *ret_ns)
{
	static const struct {
		const char *name;
		uint64_t    ns;
	} units[] = { /* a longer name before its own beginning */
		{ "ns", 1 }, { "us", 1000 }, { "ms", 1000000 }, { "s", 1000000000 },
		{ "m", UINT64_C(60000000000) }, { "h", UINT64_C(3600000000000) },
		{ "d", UINT64_C(86400000000000) },
	};
	long double total = 0;

	if (!*s) {
		return -EINVAL;
	}
	while (*s) {
		long double v;
		const char *p = parse_decimal(s, &v);
		size_t i = 0;

		if (!p) {
			return -EINVAL;
		}
		if (!*p && total == 0) {
			total = v * 1e9L;
			s = p;
			break;
		}
		const char *rest = NULL;

		while (i < ARRAY_LEN(units) && !(rest = str_after(p, units[i].name))) {
			i++;
		}
		if (!rest) {
			return -EINVAL;
		}
		total += v * (long double)units[i].ns;
		s = rest;
	}
	if (total > (long double)INT64_MAX) {
		return -ERANGE;
	}
	*ret_ns = (uint64_t)total;
	return 0;
}

struct size_text format_size(uint64_t bytes)
{
	static const char *const units[] = { "B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB" };
	struct size_text t;
	double v = (double)bytes;
	size_t u = 0;

	while (v >= 1024 && u + 1 < ARRAY_LEN(units)) {
		v /= 1024;
		u++;
	}
	if (u == 0) {
		(void)snprintf(t.text, sizeof(t.text), "%.0f%s", v, units[u]);
	} else {
		(void)snprintf(t.text, sizeof(t.text), "%.4g%s", v, units[u]);
	}
	return t;
}

bool name_valid(const char *s)
{
	size_t n = 0;

	for (; s[n]; n++) {
		char c = s[n];
		bool alnum = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') ||
			     (c >= '0' && c <= '9');
		bool punct = c == '_' || c == '.' || c == '-';

		if (n >= 128 || !(alnum || (punct && n > 0))) {
			return false;
		}
	}
	return n > 0;
}

void hex_format(const void *data, size_t n, char *out)
{
	static const char digits[] = "0123456789abcdef";
	const unsigned char *p = data;

	for (size_t i = 0; i < n; i++) {
		out[2 * i] = digits[p[i] >> 4];
		out[2 * i + 1] = digits[p[i] & 15];
	}
	out[2 * n] = '\0';
}

int hex_parse(const char *s, size_t n, void *ret)
{
	unsigned char *p = ret;

	if (strlen(s) != 2 * n) {
		return -EINVAL;
	}
	for (size_t i = 0; i < n; i++) {
		int hi = digit_value(s[2 * i]), lo = digit_value(s[2 * i + 1]);

		if (hi > 15 || lo > 15) {
			return -EINVAL;
		}
		p[i] = (unsigned char)(hi << 4 | lo);
	}
	return 0;
}
