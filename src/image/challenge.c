/* SPDX-License-Identifier: Apache-2.0 */
#include "image/challenge.h"

#include <errno.h>
#include <string.h>
#include <strings.h>

#include "base/str.h"

/* The text still to read. */
struct cursor {
	const char *p, *end;
};

struct token {
	const char *p;
	size_t      n;
};

static void skip(struct cursor *c, const char *set)
{
	while (c->p < c->end && *c->p != '\0' && strchr(set, *c->p)) {
		c->p++;
	}
}

static bool next_is(const struct cursor *c, char ch)
{
	return c->p < c->end && *c->p == ch;
}

static bool is_token_char(char ch)
{
	return (ch >= 'a' && ch <= 'z') || (ch >= 'A' && ch <= 'Z') || (ch >= '0' && ch <= '9') ||
	       (ch != '\0' && strchr("!#$%&'*+-.^_`|~", ch) != NULL);
}

static struct token take_token(struct cursor *c)
{
	struct token t = { .p = c->p, .n = 0 };

	while (c->p < c->end && is_token_char(*c->p)) {
		c->p++;
		t.n++;
	}
	return t;
}

/* A quoted string or a token, copied without its quotes into `out`. */
static int take_value(struct cursor *c, char *out, size_t out_bytes)
{
	size_t n = 0;

	if (!next_is(c, '"')) {
		struct token t = take_token(c);

		if (t.n == 0 || t.n >= out_bytes) {
			return -EBADMSG;
		}
		memcpy(out, t.p, t.n);
		out[t.n] = '\0';
		return 0;
	}
	c->p++;
	while (c->p < c->end && *c->p != '"') {
		if (*c->p == '\\' && ++c->p == c->end) {
			return -EBADMSG;
		}
		/* Control characters would end up in a URL or a message. */
		if ((unsigned char)*c->p < 0x20 || *c->p == 0x7f || n + 1 >= out_bytes) {
			return -EBADMSG;
		}
		out[n++] = *c->p++;
	}
	if (c->p == c->end) {
		return -EBADMSG;
	}
	c->p++;
	out[n] = '\0';
	return 0;
}

static bool token_is(struct token t, const char *name)
{
	return t.n == strlen(name) && strncasecmp(t.p, name, t.n) == 0;
}

/* Read "name=value" into the challenge's member of that name; others are read over. */
static int take_param(struct cursor *c, struct token name, struct challenge *out)
{
	char ignored[2048];
	const struct {
		const char *name;
		char       *out;
		size_t      bytes;
	} members[] = {
		{ "realm", out->realm, sizeof(out->realm) },
		{ "service", out->service, sizeof(out->service) },
		{ "scope", out->scope, sizeof(out->scope) },
		{ "error", out->error, sizeof(out->error) },
	};

	c->p++;
	skip(c, " \t");
	for (size_t i = 0; i < ARRAY_LEN(members); i++) {
		if (token_is(name, members[i].name)) {
			return take_value(c, members[i].out, members[i].bytes);
		}
	}
	return take_value(c, ignored, sizeof(ignored));
}

/*
 * The parameters of one scheme. `*ret_next` is the name of the next scheme, if one was met:
 * a token without a '=' behind it.
 */
static int take_params(struct cursor *c, struct challenge *out, struct token *ret_next)
{
	ret_next->n = 0;
	for (;;) {
		skip(c, " \t,");
		if (c->p == c->end) {
			return 0;
		}

		struct token t = take_token(c);

		if (t.n == 0) {
			return -EBADMSG;
		}

		const char *behind = c->p;

		skip(c, " \t");
		if (!next_is(c, '=')) {
			c->p = behind;
			*ret_next = t;
			return 0;
		}

		int r = take_param(c, t, out);

		if (r < 0) {
			return r;
		}
	}
}

int challenge_parse(const char *value, size_t len, struct challenge *ret)
{
	struct cursor c = { .p = value, .end = value + len };
	struct token scheme;

	skip(&c, " \t,");
	scheme = take_token(&c);
	if (scheme.n == 0) {
		return c.p == c.end ? 0 : -EBADMSG;
	}
	while (scheme.n > 0) {
		struct challenge one = { .kind = CHALLENGE_NONE };

		if (token_is(scheme, "bearer")) {
			one.kind = CHALLENGE_BEARER;
		} else if (token_is(scheme, "basic")) {
			one.kind = CHALLENGE_BASIC;
		}

		int r = take_params(&c, &one, &scheme);

		if (r < 0) {
			return r;
		}
		if (one.kind > ret->kind) {
			*ret = one;
		}
	}
	return 0;
}
