/* SPDX-License-Identifier: Apache-2.0 */
#include "image/ref.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/id.h"
#include "base/str.h"

static const char default_host[] = "docker.io";

static bool is_lower_alnum(char c)
{
	return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9');
}

static bool is_alnum(char c)
{
	return is_lower_alnum(c) || (c >= 'A' && c <= 'Z');
}

bool ref_tag_valid(const char *s)
{
	size_t n = strlen(s);

	if (n == 0 || n > REF_TAG_MAX) {
		return false;
	}
	for (size_t i = 0; i < n; i++) {
		bool inner = i > 0 && (s[i] == '.' || s[i] == '-');

		if (!is_alnum(s[i]) && s[i] != '_' && !inner) {
			return false;
		}
	}
	return true;
}

static bool digest_valid(const char *s)
{
	const char *hex = str_after(s, "sha256:");
	size_t want = 64;

	if (!hex) {
		hex = str_after(s, "sha512:");
		want = 128;
	}
	return hex && strlen(hex) == want && strspn(hex, "0123456789abcdef") == want;
}

/* Bytes of a separator inside a part of a path: ".", "_", "__" or any number of "-". */
static size_t separator(const char *s)
{
	if (*s == '-') {
		return strspn(s, "-");
	}
	if (*s == '.') {
		return 1;
	}
	return *s == '_' ? (s[1] == '_' ? 2 : 1) : 0;
}

bool ref_path_valid(const char *s)
{
	if (strlen(s) > REF_PATH_MAX) {
		return false;
	}
	for (;;) {
		if (!is_lower_alnum(*s)) {
			return false;
		}
		while (is_lower_alnum(*s)) {
			s++;
		}
		if (*s == '\0') {
			return true;
		}
		s += *s == '/' ? 1 : separator(s);
		/* Nothing moved, or it stands at another separator: refused above. */
	}
}

static bool port_valid(const char *s)
{
	uint64_t port;

	return parse_u64(s, 65535, &port) == 0 && port > 0;
}

static bool host_valid(const char *s)
{
	if (*s == '[') {
		size_t n = strspn(s + 1, "0123456789abcdefABCDEF:.");

		return n >= 2 && s[n + 1] == ']' &&
		       (s[n + 2] == '\0' || (s[n + 2] == ':' && port_valid(s + n + 3)));
	}
	for (size_t i = 0; s[i] != '\0'; i++) {
		bool edge = i == 0 || s[i - 1] == '.' || s[i + 1] == '.' || s[i + 1] == '\0' ||
			    s[i + 1] == ':';

		if (s[i] == ':') {
			return i > 0 && s[i - 1] != '.' && port_valid(s + i + 1);
		}
		if (s[i] == '.' ? (i == 0 || s[i + 1] == '\0' || s[i - 1] == '.') :
				  !is_alnum(s[i]) && (s[i] != '-' || edge)) {
			return false;
		}
	}
	return *s != '\0';
}

/* True where the first part of a name is a host. */
static bool looks_like_host(const char *s, size_t n)
{
	if (n == 9 && memcmp(s, "localhost", 9) == 0) {
		return true;
	}
	for (size_t i = 0; i < n; i++) {
		if (s[i] == '.' || s[i] == ':' || s[i] == '[' || (s[i] >= 'A' && s[i] <= 'Z')) {
			return true;
		}
	}
	return false;
}

static int bad(struct err *e, const char *text, const char *why)
{
	return err_set(e, EINVAL, ERR_INVALID, "\"%.200s\" is not an image name: %s", text, why);
}

int ref_parse_host(const char *text, char ret[REF_HOST_MAX + 1], struct err *e)
{
	const char *host = text;

	if (*host == '\0' || str_eq(host, "index.docker.io") ||
	    str_eq(host, "registry-1.docker.io")) {
		host = default_host;
	}
	if (strlen(host) > REF_HOST_MAX || !host_valid(host)) {
		return err_set(e, EINVAL, ERR_INVALID,
			       "\"%.200s\" is not a registry's host: give HOST or HOST:PORT", text);
	}
	snprintf(ret, REF_HOST_MAX + 1, "%s", host);
	return 0;
}

/* Cut "@digest" and ":tag" off the end of `work`. */
static int take_version(const char *text, char *work, struct ref *ret, struct err *e)
{
	char *at = strchr(work, '@');

	if (at) {
		*at = '\0';
		if (!digest_valid(at + 1)) {
			return bad(e, text, "behind the @ there must be sha256: and 64 lower-case "
					    "hexadecimal digits");
		}
		snprintf(ret->digest, sizeof(ret->digest), "%s", at + 1);
	}

	char *slash = strrchr(work, '/');
	char *colon = strrchr(slash ? slash : work, ':');

	if (colon) {
		*colon = '\0';
		if (!ref_tag_valid(colon + 1)) {
			return bad(e, text,
				   "a tag has up to 128 letters, digits, '_', '.' and '-', "
				   "and begins with none of '.' and '-'");
		}
		snprintf(ret->tag, sizeof(ret->tag), "%s", colon + 1);
	} else if (!at) {
		snprintf(ret->tag, sizeof(ret->tag), "latest");
	}
	return 0;
}

static int take_name(const char *text, char *work, struct ref *ret, struct err *e)
{
	char *slash = strchr(work, '/');
	const char *path = work;

	if (slash && looks_like_host(work, (size_t)(slash - work))) {
		*slash = '\0';
		path = slash + 1;
		if (ref_parse_host(work, ret->host, e) < 0 || *work == '\0') {
			return bad(e, text, "the registry's host is malformed");
		}
	} else {
		snprintf(ret->host, sizeof(ret->host), "%s", default_host);
	}

	bool library = str_eq(ret->host, default_host) && !strchr(path, '/');
	int n = snprintf(ret->path, sizeof(ret->path), "%s%s", library ? "library/" : "", path);

	if (n < 0 || (size_t)n >= sizeof(ret->path) || !ref_path_valid(ret->path)) {
		return bad(e, text, "a name has lower-case letters and digits, with '.', '_', "
				    "'__' or '-' between them and '/' between its parts");
	}
	if (library && id_valid(path)) {
		return bad(e, text, "64 hexadecimal digits are an id, not a name");
	}
	return 0;
}

int ref_parse(const char *text, struct ref *ret, struct err *e)
{
	struct ref out = { .host = "", .path = "", .tag = "", .digest = "" };
	char work[sizeof(struct ref_text)];
	size_t n = strlen(text);

	if (n == 0 || n >= sizeof(work)) {
		return bad(e, text, n ? "it is too long" : "it is empty");
	}
	memcpy(work, text, n + 1);

	int r = take_version(text, work, &out, e);

	if (r < 0) {
		return r;
	}
	r = take_name(text, work, &out, e);
	if (r < 0) {
		return r;
	}
	*ret = out;
	return 0;
}

enum { TAG = 1, DIGEST = 2 };

static struct ref_text join(const struct ref *r, const char *host, const char *path, unsigned parts)
{
	struct ref_text t;
	bool tag = (parts & TAG) && r->tag[0] != '\0';
	bool digest = (parts & DIGEST) && r->digest[0] != '\0';

	snprintf(t.text, sizeof(t.text), "%s%s%s%s%s%s%s", host, *host ? "/" : "", path,
		 tag ? ":" : "", tag ? r->tag : "", digest ? "@" : "", digest ? r->digest : "");
	return t;
}

struct ref_text ref_format(const struct ref *r)
{
	return join(r, r->host, r->path, TAG | DIGEST);
}

struct ref_text ref_name(const struct ref *r)
{
	return join(r, r->host, r->path, TAG);
}

struct ref_text ref_repository(const struct ref *r)
{
	return join(r, r->host, r->path, 0);
}

struct ref_text ref_familiar(const struct ref *r)
{
	if (!str_eq(r->host, default_host)) {
		return join(r, r->host, r->path, TAG | DIGEST);
	}

	const char *name = str_after(r->path, "library/");
	const char *slash = strchr(r->path, '/');

	if (name && !strchr(name, '/')) {
		return join(r, "", name, TAG | DIGEST);
	}
	/* A first part that would be taken for a host keeps the host before it. */
	if (!slash || looks_like_host(r->path, (size_t)(slash - r->path))) {
		return join(r, r->host, r->path, TAG | DIGEST);
	}
	return join(r, "", r->path, TAG | DIGEST);
}

const char *ref_version(const struct ref *r)
{
	return r->digest[0] != '\0' ? r->digest : r->tag;
}
