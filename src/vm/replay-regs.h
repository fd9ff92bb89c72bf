/* SPDX-License-Identifier: Apache-2.0 */
/* A vCPU's registers as a row of numbers with names: what checks of a recording hold. */
#ifndef VM_REPLAY_REGS_H
#define VM_REPLAY_REGS_H

#include "vm/cpu/state.h"

enum { REGS_WORDS = 256, REGS_NAME_MAX = 32 };

struct regs_name {
	char text[REGS_NAME_MAX];
};

/* How many there are, at most REGS_WORDS. */
unsigned regs_count(void);

void regs_get(const struct cpu_state *s, uint64_t ret[REGS_WORDS]);

struct regs_name regs_name(unsigned i);

/* Of all names in their order: two programs with the same one mean the same by a check. */
uint64_t regs_layout(void);

/* Goes on from h with n words. */
uint64_t regs_hash(uint64_t h, const uint64_t *words, size_t n);

#endif
