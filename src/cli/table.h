/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Columns of text for a person: each as wide as its widest cell, the last one free.
 *
 *	auto_columns struct columns c = COLUMNS_INIT(3);
 *
 *	columns_add(&c, "NAME", "IMAGE", "STATUS");
 *	columns_add(&c, name, image, status);
 *	r = columns_print(&c, stdout);
 */
#ifndef CLI_TABLE_H
#define CLI_TABLE_H

#include <stdio.h>

#include "base/str.h"

struct columns {
	size_t      n;       /* cells a row */
	struct strv cells;
	bool        failed;
};

#define COLUMNS_INIT(n_columns) { .n = (n_columns), .cells = STRV_INIT }
#define auto_columns auto_(columns_fini)

void columns_fini(struct columns *c);

/* One cell; NULL is shown as "". A row is complete when n cells are there. */
void columns_cell(struct columns *c, const char *text);

/* -ENOMEM where a cell was lost. */
int columns_print(const struct columns *c, FILE *out) must_check;

/* A row of literal or string arguments, as many as there are columns. */
#define columns_add(c, ...) \
	columns_add_row((c), (const char *const[]){ __VA_ARGS__ }, \
			sizeof((const char *const[]){ __VA_ARGS__ }) / sizeof(char *))
void columns_add_row(struct columns *c, const char *const *cells, size_t n);

#endif
