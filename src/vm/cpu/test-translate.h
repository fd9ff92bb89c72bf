/* SPDX-License-Identifier: Apache-2.0 */
/*
 * For tests of engines: HOLM_TEST_TRANSLATE=N has the software engine translate a block the Nth
 * time that it runs; 1: all it runs is translated, as far as it can be. With HOLM_TEST_DIRECT, what
 * runs at CPL 3 is so with the guest's memory mapped in its place, at once.
 */
#ifndef VM_CPU_TEST_TRANSLATE_H
#define VM_CPU_TEST_TRANSLATE_H

#include <stdlib.h>

#include "vm/cpu/engine.h"

static inline struct engine_xl_conf test_translate(void)
{
	const char *after = getenv("HOLM_TEST_TRANSLATE");

	return (struct engine_xl_conf){ .after = after ? (unsigned)strtoul(after, NULL, 10) : 0,
					.direct_now = getenv("HOLM_TEST_DIRECT") != NULL };
}

#endif
