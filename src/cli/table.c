/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/table.h"

#include <errno.h>

#include "base/mem.h"

enum { GAP = 3 };

void columns_fini(struct columns *c)
{
	strv_fini(&c->cells);
}

/* Characters on the screen: UTF-8 without its continuation bytes. */
static size_t width(const char *s)
{
	size_t n = 0;

	for (; *s; s++) {
		n += ((unsigned char)*s & 0xc0) != 0x80;
	}
	return n;
}

/* Text from outside must not steer the terminal. */
static char *printable(const char *s)
{
	char *copy = str_dup(s);

	for (char *p = copy; p && *p; p++) {
		if ((unsigned char)*p < 0x20 || *p == 0x7f) {
			*p = '?';
		}
	}
	return copy;
}

void columns_cell(struct columns *c, const char *text)
{
	auto_free char *safe = printable(text ? text : "");

	if (!safe || strv_add(&c->cells, safe) < 0) {
		c->failed = true;
	}
}

void columns_add_row(struct columns *c, const char *const *cells, size_t n)
{
	assert(n == c->n);
	for (size_t i = 0; i < n; i++) {
		columns_cell(c, cells[i]);
	}
}

int columns_print(const struct columns *c, FILE *out)
{
	auto_free size_t *widths = mem_calloc(c->n, sizeof(*widths));

	if (!widths || c->failed) {
		return -ENOMEM;
	}
	for (size_t i = 0; i < c->cells.n; i++) {
		widths[i % c->n] = MAX(widths[i % c->n], width(c->cells.v[i]));
	}
	for (size_t i = 0; i < c->cells.n; i++) {
		size_t column = i % c->n;
		bool last = column + 1 == c->n;
		int pad = last ? 0 : (int)(widths[column] - width(c->cells.v[i])) + GAP;

		fprintf(out, "%s%*s%s", c->cells.v[i], pad, "", last ? "\n" : "");
	}
	return 0;
}
