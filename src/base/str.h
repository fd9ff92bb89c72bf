/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Strings, growable buffers and the parsing of numbers.
 *
 * A buffer never fails half-way: once memory is out it stays in error, additions do
 * nothing, and the one check is at the end:
 *
 *	auto_buf struct buf b = BUF_INIT;
 *	buf_printf(&b, "%s=", key);
 *	buf_add_str(&b, value);
 *	if (buf_failed(&b))
 *		return -ENOMEM;
 */
#ifndef BASE_STR_H
#define BASE_STR_H

#include <stdarg.h>
#include <string.h>

#include "base/def.h"

struct buf {
	char  *data;   /* len bytes and a NUL behind them; NULL while empty */
	size_t len;
	size_t cap;
	bool   failed; /* memory was out: the content is cut */
};

#define BUF_INIT { .data = NULL, .len = 0, .cap = 0, .failed = false }
#define auto_buf auto_(buf_fini)

void buf_fini(struct buf *b);
void buf_reset(struct buf *b);                   /* empty, memory kept */
void buf_add(struct buf *b, const void *p, size_t n);
void buf_add_str(struct buf *b, const char *s);
void buf_add_char(struct buf *b, char c);
void buf_printf(struct buf *b, const char *fmt, ...) printf_like(2, 3);
void buf_vprintf(struct buf *b, const char *fmt, va_list ap) printf_like(2, 0);
void buf_drop(struct buf *b, size_t n);          /* the first n bytes */
bool buf_reserve(struct buf *b, size_t n);       /* room for n more bytes; false: failed */

static inline bool buf_failed(const struct buf *b)
{
	return b->failed;
}

/* The content, "" when empty; valid until the next change. */
const char *buf_str(const struct buf *b);

/* Move the content out; the caller frees it. NULL if the buffer failed. "" is allocated. */
char *buf_take(struct buf *b) must_check;

/* NULL when memory is out. */
char *str_dup(const char *s) must_check;
char *str_ndup(const char *s, size_t n) must_check;
char *str_printf(const char *fmt, ...) printf_like(1, 2) must_check;

static inline bool str_eq(const char *a, const char *b)
{
	return strcmp(a, b) == 0;
}

/* Equal, where NULL equals only NULL. */
static inline bool str_eq0(const char *a, const char *b)
{
	return a && b ? strcmp(a, b) == 0 : a == b;
}

/* What follows `prefix` in `s`, or NULL if it does not begin so. */
static inline const char *str_after(const char *s, const char *prefix)
{
	size_t n = strlen(prefix);

	return strncmp(s, prefix, n) == 0 ? s + n : NULL;
}

static inline bool str_ends(const char *s, const char *suffix)
{
	size_t n = strlen(s), m = strlen(suffix);

	return n >= m && memcmp(s + n - m, suffix, m) == 0;
}

/*
 * The next part of *cursor up to `sep`, as a view; *cursor moves behind the separator, to
 * NULL after the last part. Returns false when *cursor is NULL.
 */
bool str_split(const char **cursor, char sep, const char **ret_part, size_t *ret_len);

/* A NULL-terminated vector of strings that owns them. */
struct strv {
	char **v;     /* n pointers and a NULL; NULL while empty */
	size_t n;
};

#define STRV_INIT { .v = NULL, .n = 0 }
#define auto_strv auto_(strv_fini)

void strv_fini(struct strv *v);
int  strv_add(struct strv *v, const char *s) must_check;     /* 0 or -ENOMEM */
int  strv_addf(struct strv *v, const char *fmt, ...) printf_like(2, 3) must_check;
bool strv_has(const struct strv *v, const char *s);

/* A number in full: no sign (u64), no space, nothing behind it, in range. -EINVAL, -ERANGE. */
int parse_u64(const char *s, uint64_t max, uint64_t *ret) must_check;
int parse_i64(const char *s, int64_t min, int64_t max, int64_t *ret) must_check;
int parse_u64_base(const char *s, unsigned base, uint64_t max, uint64_t *ret) must_check;

/* Bytes: "512", "64k", "1.5g"; k, m, g, t are powers of 1024, an "i", "b" may follow. */
int parse_size(const char *s, uint64_t *ret_bytes) must_check;

/* Nanoseconds: "10s", "1.5h", "250ms", "1h30m"; a bare number is seconds. */
int parse_duration(const char *s, uint64_t *ret_ns) must_check;

/* "1.5GiB", four significant figures at most. `out` is returned. */
struct size_text {
	char text[24];
};
struct size_text format_size(uint64_t bytes);

/*
 * A name that may stand in a path, a command line and a URL: [a-zA-Z0-9][a-zA-Z0-9_.-]{0,127}.
 * Every id or name from outside passes here first.
 */
bool name_valid(const char *s);

/* Lower-case hexadecimal; `out` needs 2 * n + 1 bytes. */
void hex_format(const void *data, size_t n, char *out);
int  hex_parse(const char *s, size_t n, void *ret) must_check; /* exactly 2 * n digits */

#endif
