/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Memory from the heap. Every allocation of the project comes through here, so that a test
 * can make the N-th one fail (mem_fail_at()). All functions return NULL when memory is out;
 * what they return is freed with free().
 */
#ifndef BASE_MEM_H
#define BASE_MEM_H

#include "base/def.h"

/* `n * size` zeroed bytes; NULL on overflow too. */
void *mem_calloc(size_t n, size_t size) must_check;

/* Grow or shrink `p` (may be NULL) to `n * size` bytes. `p` stays valid on failure. */
void *mem_realloc(void *p, size_t n, size_t size) must_check;

/* A copy of `n` bytes. */
void *mem_dup(const void *src, size_t n) must_check;

/* One zeroed object of a type: `struct shim *s = mem_new(struct shim);` */
#define mem_new(type) ((type *)mem_calloc(1, sizeof(type)))

/*
 * Let the N-th allocation from now (1 is the next) fail, and with `forever` all that
 * follow; 0 ends it. For tests.
 */
void mem_fail_at(unsigned long nth, bool forever);

/* True once the allocation chosen by mem_fail_at() has failed. */
bool mem_failed(void);

#endif
