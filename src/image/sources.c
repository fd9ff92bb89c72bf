/* SPDX-License-Identifier: Apache-2.0 */
#include "image/sources.h"

#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <strings.h>

#include "base/mem.h"
#include "sys/file.h"

enum { FILE_MAX = 1 << 20, FIELD_MAX = 2048 };

static const char blanks[] = " \t";

static bool suite_fits(const char *s, size_t n, const char *suite)
{
	static const char *const more[] = { "", "-updates", "-security", "-backports" };
	size_t m = strlen(suite);

	if (n < m || memcmp(s, suite, m) != 0) {
		return false;
	}
	for (size_t i = 0; i < ARRAY_LEN(more); i++) {
		if (n - m == strlen(more[i]) && memcmp(s + m, more[i], n - m) == 0) {
			return true;
		}
	}
	return false;
}

/* The next word of *s, which moves on; false at the end. */
static bool word(const char **s, const char **ret, size_t *ret_len)
{
	*s += strspn(*s, " \t\r\n");
	*ret = *s;
	*ret_len = strcspn(*s, " \t\r\n");
	*s += *ret_len;
	return *ret_len > 0;
}

/* deb [options] URI SUITE COMPONENT... */
static int one_line(const char *line, const char *suite, struct strv *ret)
{
	const char *s = line, *w;
	size_t n;

	if (!word(&s, &w, &n) || n != 3 || memcmp(w, "deb", 3) != 0) {
		return 0;
	}
	s += strspn(s, blanks);
	if (*s == '[') {
		s = strchr(s, ']');
		if (!s++) {
			return 0;
		}
	}
	if (!word(&s, &w, &n) || !word(&s, &w, &n) || !suite_fits(w, n, suite)) {
		return 0;
	}
	return strv_add(ret, line);
}

struct stanza {
	char types[FIELD_MAX], uris[FIELD_MAX], suites[FIELD_MAX], components[FIELD_MAX];
	char signed_by[FIELD_MAX], enabled[FIELD_MAX];
};

/* Lines for each URI and suite of a stanza. */
static int end_stanza(const struct stanza *s, const char *suite, struct strv *ret)
{
	const char *uris = s->uris, *types = s->types, *uri, *w;
	size_t uri_len, n;
	bool deb = false, path = s->signed_by[0] == '/' && !strpbrk(s->signed_by, " \t]");

	while (word(&types, &w, &n)) {
		deb = deb || (n == 3 && memcmp(w, "deb", 3) == 0);
	}
	/* A key within the stanza has no place in a line. */
	if (!deb || strcasecmp(s->enabled, "no") == 0 || (s->signed_by[0] && !path)) {
		return 0;
	}
	while (word(&uris, &uri, &uri_len)) {
		const char *suites = s->suites;

		while (word(&suites, &w, &n)) {
			if (suite_fits(w, n, suite) &&
			    strv_addf(ret, "deb %s%s%s%.*s %.*s %s", path ? "[signed-by=" : "",
				      path ? s->signed_by : "", path ? "] " : "", (int)uri_len, uri,
				      (int)n, w, s->components) < 0) {
				return -ENOMEM;
			}
		}
	}
	return 0;
}

static void take_field(struct stanza *s, const char *line, char **current)
{
	const struct {
		const char *name;
		char       *out;
	} fields[] = {
		{ "types:", s->types }, { "uris:", s->uris }, { "suites:", s->suites },
		{ "components:", s->components }, { "signed-by:", s->signed_by },
		{ "enabled:", s->enabled },
	};

	if (*line == ' ' || *line == '\t') {   /* goes on with the field before */
		size_t n = *current ? strlen(*current) : 0;

		if (*current) {
			snprintf(*current + n, FIELD_MAX - n, " %s", line + strspn(line, blanks));
		}
		return;
	}
	*current = NULL;
	for (size_t i = 0; i < ARRAY_LEN(fields); i++) {
		size_t n = strlen(fields[i].name);

		if (strncasecmp(line, fields[i].name, n) == 0) {
			*current = fields[i].out;
			snprintf(*current, FIELD_MAX, "%s", line + n + strspn(line + n, blanks));
		}
	}
}

int sources_parse(const char *text, bool deb822, const char *suite, struct strv *ret)
{
	auto_free struct stanza *s = mem_new(struct stanza);
	char *current = NULL;
	const char *part;
	size_t len;
	int r = s ? 0 : -ENOMEM;

	while (r == 0 && str_split(&text, '\n', &part, &len)) {
		auto_free char *line = str_ndup(part, len);

		if (!line) {
			return -ENOMEM;
		}
		if (!deb822) {
			line[strcspn(line, "#\r")] = '\0';
			r = one_line(line + strspn(line, blanks), suite, ret);
		} else if (line[strspn(line, " \t\r")] == '\0') {
			r = end_stanza(s, suite, ret);
			memset(s, 0, sizeof(*s));
			current = NULL;
		} else if (*line != '#') {
			take_field(s, line, &current);
		}
	}
	return r == 0 && deb822 ? end_stanza(s, suite, ret) : r;
}

static int parse_file(int dir_fd, const char *name, const char *suite, struct strv *ret)
{
	auto_buf struct buf text = BUF_INIT;

	if (sys_read_file(dir_fd, name, FILE_MAX, &text) < 0) {
		return 0;   /* apt could not read it either */
	}
	return sources_parse(buf_str(&text), str_ends(name, ".sources"), suite, ret);
}

/* Whether a line is for the suite itself, not only for its updates. */
static bool has_suite(const struct strv *lines, const char *suite)
{
	auto_free char *inner = str_printf(" %s ", suite);

	for (size_t i = 0; inner && i < lines->n; i++) {
		if (strstr(lines->v[i], inner)) {
			return true;
		}
	}
	return false;
}

int sources_host(const char *suite, struct strv *ret)
{
	auto_close int dir_fd = sys_openat(AT_FDCWD, "/etc/apt/sources.list.d",
					   O_RDONLY | O_DIRECTORY, 0);
	struct dirent **list = NULL;
	int n = dir_fd < 0 ? 0 : scandirat(dir_fd, ".", &list, NULL, alphasort);
	int r = parse_file(AT_FDCWD, "/etc/apt/sources.list", suite, ret);

	for (int i = 0; i < n; i++) {
		const char *name = list[i]->d_name;

		if (r == 0 && (str_ends(name, ".list") || str_ends(name, ".sources"))) {
			r = parse_file(dir_fd, name, suite, ret);
		}
		free(list[i]);
	}
	free(list);
	if (r == 0 && !has_suite(ret, suite)) {
		strv_fini(ret);
		*ret = (struct strv)STRV_INIT;
	}
	return r;
}
