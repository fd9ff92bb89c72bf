/* SPDX-License-Identifier: Apache-2.0 */
#include "base/mem.h"

#include <string.h>

static unsigned long fail_countdown;
static bool fail_forever;
static bool fail_hit;

static bool fail_now(void)
{
	if (fail_countdown == 0) {
		return fail_hit && fail_forever;
	}
	if (--fail_countdown > 0) {
		return false;
	}
	fail_hit = true;
	return true;
}

void mem_fail_at(unsigned long nth, bool forever)
{
	fail_countdown = nth;
	fail_forever = forever && nth > 0;
	fail_hit = false;
}

bool mem_failed(void)
{
	return fail_hit;
}

void *mem_calloc(size_t n, size_t size)
{
	return fail_now() ? NULL : calloc(n ? n : 1, size ? size : 1);
}

void *mem_realloc(void *p, size_t n, size_t size)
{
	size_t bytes;

	if (__builtin_mul_overflow(n, size, &bytes) || fail_now()) {
		return NULL;
	}
	return realloc(p, bytes ? bytes : 1);
}

void *mem_dup(const void *src, size_t n)
{
	void *p = mem_calloc(n, 1);

	if (p && n > 0) {
		memcpy(p, src, n);
	}
	return p;
}
