/* SPDX-License-Identifier: Apache-2.0 */
/* For tests: what is compared, and a text of the first difference. */
#ifndef VM_CPU_SOFT_ORACLE_COMPARE_H
#define VM_CPU_SOFT_ORACLE_COMPARE_H

#include "base/def.h"

struct difference {
	char text[200];
};

/* True, and d tells, if they are not the same. */
bool differ(struct difference *d, const char *what, const void *ours, const void *theirs, size_t n);
bool differ64(struct difference *d, const char *what, uint64_t ours, uint64_t theirs);

/* Images of XSAVE in the standard format; in the host's the AVX part may be told to be initial. */
bool differ_xsave(struct difference *d, uint8_t *ours, uint8_t *theirs);

#endif
