/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The few macros that every file may use.
 *
 * Ownership of a local is stated by an attribute and handed over by a take:
 *
 *	auto_free char *name = str_printf("%s.tmp", base);
 *	...
 *	*ret_name = take_ptr(&name);
 */
#ifndef BASE_DEF_H
#define BASE_DEF_H

#include <assert.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

/* Number of elements of an array; refuses a pointer at compile time. */
#define ARRAY_LEN(a) \
	(sizeof(a) / sizeof((a)[0]) + \
	 0 * sizeof(struct { int is_array : 1 - 2 * __builtin_types_compatible_p( \
				     __typeof__(a), __typeof__(&(a)[0])); }))

/* 1 in a build with AddressSanitizer, whose runtime needs calls and memory of its own. */
#if defined(__SANITIZE_ADDRESS__)
#define BUILD_ASAN 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define BUILD_ASAN 1
#endif
#endif
#ifndef BUILD_ASAN
#define BUILD_ASAN 0
#endif

#define BIT(n) (UINT64_C(1) << (n))

#define DEF__JOIN2(a, b) a##b
#define DEF__JOIN(a, b) DEF__JOIN2(a, b)
#define DEF__PICK(op, x, y, a, b) ({ __typeof__(a) x = (a); __typeof__(b) y = (b); \
				     x op y ? x : y; })

/* Each argument is evaluated once; the names are unique so that calls can nest. */
#define MIN(a, b) DEF__PICK(<, DEF__JOIN(a_, __COUNTER__), DEF__JOIN(b_, __COUNTER__), a, b)
#define MAX(a, b) DEF__PICK(>, DEF__JOIN(a_, __COUNTER__), DEF__JOIN(b_, __COUNTER__), a, b)

#define container_of(ptr, type, member) \
	((type *)(void *)((char *)(ptr) - offsetof(type, member)))

#define must_check   __attribute__((warn_unused_result))
#define printf_like(fmt, args) __attribute__((format(printf, fmt, args)))
#define noreturn_fn  __attribute__((noreturn))
#define unused_arg   __attribute__((unused))
#define fallthrough  __attribute__((fallthrough))

/* Drop the result of a must_check function. The reason stands in a comment beside it. */
#define ignore_result(expr) ({ __typeof__(expr) ignored_ = (expr); (void)ignored_; })

/* Local variable that calls `fn(&var)` when it goes out of scope. */
#define auto_(fn) __attribute__((cleanup(fn)))

static inline void auto_free_fn(void *p)
{
	free(*(void **)p);
}

/* Local heap pointer, freed when it goes out of scope. */
#define auto_free auto_(auto_free_fn)

/* Declares `NAMEp(T **)` for use with auto_(), calling `fn(T *)` on a non-NULL value. */
#define AUTO_PTR(type, fn) \
	static inline void fn##p(type **p) \
	{ \
		if (*p) { \
			(void)fn(*p); \
		} \
	}

/* Move a pointer out of a variable, which becomes NULL. */
#define take_ptr(pp) ({ __typeof__(pp) take_pp_ = (pp); __typeof__(*take_pp_) take_v_ = *take_pp_; \
			*take_pp_ = NULL; take_v_; })

#endif
