/* SPDX-License-Identifier: Apache-2.0 */
#include "image/ref.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#define DEFAULT_HOST "docker.io"
#define LIBRARY      "library/"

static bool lower_or_digit(char c)
{
	return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9');
}

static bool word_char(char c)
{
	return lower_or_digit(c) || (c >= 'A' && c <= 'Z') || c == '_';
}

/* One part between slashes: runs of lower-case letters and digits, joined by . _ __ or dashes. */
static bool component_valid(const char *s, size_t n)
{
	size_t i = 0;

	while (i < n) {
		size_t run = i;

		while (i < n && lower_or_digit(s[i])) {
			i++;
		}
		if (i == run || i == n) {
			return i == n && i > run;
		}
		if (s[i] == '-') {
			while (i < n && s[i] == '-') {
				i++;
			}
		} else if (s[i] == '.') {
			i++;
		} else if (s[i] == '_') {
			i += i + 1 < n && s[i + 1] == '_' ? 2 : 1;
		} else {
			return false;
		}
	}
	return false;
}

static bool path_valid(const char *path)
{
	const char *part;
	size_t len;

	while (str_split(&path, '/', &part, &len)) {
		if (!component_valid(part, len)) {
			return false;
		}
	}
	return true;
}

static bool tag_valid(const char *s)
{
	size_t n = strlen(s);

	if (n == 0 || n > 128 || !word_char(s[0])) {
		return false;
	}
	for (size_t i = 1; i < n; i++) {
		if (!word_char(s[i]) && s[i] != '.' && s[i] != '-') {
			return false;
		}
	}
	return true;
}

static bool port_valid(const char *s)
{
	uint64_t port;

	return parse_u64(s, 65535, &port) == 0 && port > 0;
}

/* "name.example:5000", "localhost", "[::1]:5000". */
static bool host_valid(const char *host)
{
	const char *end;

	if (host[0] == '[') {
		size_t n = strspn(host + 1, "0123456789abcdefABCDEF:.");

		end = host + 1 + n;
		if (n < 2 || *end != ']') {
			return false;
		}
		end++;
	} else {
		size_t n = strcspn(host, ":");
		char before = '.';

		for (size_t i = 0; i < n; i++) {
			bool alnum = word_char(host[i]) && host[i] != '_';

			if (!alnum && (before == '.' || (host[i] != '-' && host[i] != '.'))) {
				return false;
			}
			before = host[i];
		}
		if (before == '.' || before == '-') {
			return false;
		}
		end = host + n;
	}
	return *end == '\0' || (*end == ':' && port_valid(end + 1));
}

static int bad(struct err *e, const char *text, const char *why)
{
	return err_set(e, EINVAL, ERR_INVALID, "\"%.200s\" is not the name of an image: %s", text,
		       why);
}

static bool part_is_host(const char *s, size_t n)
{
	return memchr(s, '.', n) || memchr(s, ':', n) || s[0] == '[' ||
	       (n == 9 && memcmp(s, "localhost", 9) == 0);
}

/* Cut "@digest" and ":tag" off a copy of the text. */
static int cut_ends(char *copy, const char *text, struct ref *ret, struct err *e)
{
	char *at = strchr(copy, '@');

	if (at) {
		*at = '\0';
		if (!oci_digest_valid(at + 1)) {
			return bad(e, text, "what follows @ is no digest");
		}
		(void)snprintf(ret->digest, sizeof(ret->digest), "%s", at + 1);
	}
	char *slash = strrchr(copy, '/');
	char *colon = strrchr(copy, ':');

	if (colon && (!slash || colon > slash)) {
		*colon = '\0';
		if (!tag_valid(colon + 1)) {
			return bad(e, text, "the tag may have letters, digits and _.-");
		}
		(void)snprintf(ret->tag, sizeof(ret->tag), "%s", colon + 1);
	} else if (!at) {
		(void)snprintf(ret->tag, sizeof(ret->tag), "latest");
	}
	return 0;
}

int ref_parse(const char *text, struct ref *ret, struct err *e)
{
	char copy[512];
	size_t n = strlen(text);

	memset(ret, 0, sizeof(*ret));
	if (n == 0 || n >= sizeof(copy)) {
		return bad(e, text, n ? "it is too long" : "it is empty");
	}
	memcpy(copy, text, n + 1);
	int r = cut_ends(copy, text, ret, e);

	if (r < 0) {
		return r;
	}
	const char *path = copy, *host = DEFAULT_HOST;
	char *slash = strchr(copy, '/');

	if (slash && part_is_host(copy, (size_t)(slash - copy))) {
		*slash = '\0';
		host = copy;
		path = slash + 1;
		if (!host_valid(host)) {
			return bad(e, text, "its first part is no host");
		}
		if (str_eq(host, "index.docker.io") || str_eq(host, "registry-1.docker.io")) {
			host = DEFAULT_HOST;
		}
	}
	bool library = str_eq(host, DEFAULT_HOST) && !strchr(path, '/');

	if (!path_valid(path)) {
		return bad(e, text, "it has lower-case letters and digits, joined by . _ - and /");
	}
	if (strlen(path) + sizeof(LIBRARY) > sizeof(ret->path) ||
	    strlen(host) >= sizeof(ret->host)) {
		return bad(e, text, "it is too long");
	}
	(void)snprintf(ret->host, sizeof(ret->host), "%s", host);
	(void)snprintf(ret->path, sizeof(ret->path), "%s%s", library ? LIBRARY : "", path);
	return 0;
}

static struct ref_text join(const char *repo, const char *tag, const char *digest)
{
	struct ref_text t;

	(void)snprintf(t.text, sizeof(t.text), "%s%s%s%s%s", repo, *tag ? ":" : "", tag,
		       *digest ? "@" : "", digest);
	return t;
}

struct ref_text ref_repository(const struct ref *r)
{
	struct ref_text t;

	(void)snprintf(t.text, sizeof(t.text), "%s/%s", r->host, r->path);
	return t;
}

struct ref_text ref_name(const struct ref *r)
{
	return join(ref_repository(r).text, r->tag, "");
}

struct ref_text ref_format(const struct ref *r)
{
	return join(ref_repository(r).text, r->tag, r->digest);
}

struct ref_text ref_familiar(const struct ref *r)
{
	if (!str_eq(r->host, DEFAULT_HOST)) {
		return ref_format(r);
	}
	const char *path = str_after(r->path, LIBRARY);

	if (!path || strchr(path, '/')) {
		path = r->path;
	}
	return join(path, r->tag, r->digest);
}
