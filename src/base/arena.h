/* SPDX-License-Identifier: Apache-2.0 */
/*
 * An arena: memory for one piece of work (one API call, one OCI config), which dies with
 * it all at once. There is no current arena; it is always a parameter.
 *
 *	auto_arena struct arena a = ARENA_INIT;
 *	char *path = arena_printf(&a, "%s/config.json", bundle);
 */
#ifndef BASE_ARENA_H
#define BASE_ARENA_H

#include "base/def.h"

struct arena_block;

struct arena {
	struct arena_block *head;
};

#define ARENA_INIT { .head = NULL }
#define auto_arena auto_(arena_fini)

/* Free everything that came from the arena; it can be used again. */
void arena_fini(struct arena *a);

/* Zeroed, aligned for any type; NULL when memory is out. Valid until arena_fini(). */
void *arena_alloc(struct arena *a, size_t n, size_t size) must_check;
char *arena_strdup(struct arena *a, const char *s) must_check;
char *arena_strndup(struct arena *a, const char *s, size_t n) must_check;
char *arena_printf(struct arena *a, const char *fmt, ...) printf_like(2, 3) must_check;

#define arena_new(a, type) ((type *)arena_alloc((a), 1, sizeof(type)))

#endif
