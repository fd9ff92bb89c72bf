/* SPDX-License-Identifier: Apache-2.0 */
#include "base/arena.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "base/mem.h"

enum { BLOCK_BYTES = 4096, ALIGN = 16 };

struct arena_block {
	struct arena_block *next;
	size_t              used;   /* bytes of data handed out */
	size_t              size;   /* bytes of data in all */
	_Alignas(ALIGN) unsigned char data[];
};

void arena_fini(struct arena *a)
{
	struct arena_block *b = a->head;

	while (b) {
		struct arena_block *next = b->next;

		free(b);
		b = next;
	}
	a->head = NULL;
}

void *arena_alloc(struct arena *a, size_t n, size_t size)
{
	size_t bytes;

	if (__builtin_mul_overflow(n, size, &bytes) || bytes > SIZE_MAX / 2) {
		return NULL;
	}
	bytes = (bytes + ALIGN - 1) & ~(size_t)(ALIGN - 1);

	if (!a->head || a->head->size - a->head->used < bytes) {
		size_t data = MAX(bytes, (size_t)BLOCK_BYTES - sizeof(struct arena_block));
		struct arena_block *b = mem_calloc(1, sizeof(*b) + data);

		if (!b) {
			return NULL;
		}
		b->size = data;
		b->next = a->head;
		a->head = b;
	}
	void *p = a->head->data + a->head->used;

	a->head->used += bytes;
	return p;
}

char *arena_strndup(struct arena *a, const char *s, size_t n)
{
	char *p = arena_alloc(a, n + 1, 1);

	if (p) {
		memcpy(p, s, n);
	}
	return p;
}

char *arena_strdup(struct arena *a, const char *s)
{
	return arena_strndup(a, s, strlen(s));
}

char *arena_printf(struct arena *a, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	int n = vsnprintf(NULL, 0, fmt, ap);
	va_end(ap);
	if (n < 0) {
		return NULL;
	}

	char *p = arena_alloc(a, (size_t)n + 1, 1);

	if (p) {
		va_start(ap, fmt);
		(void)vsnprintf(p, (size_t)n + 1, fmt, ap);
		va_end(ap);
	}
	return p;
}
