/* SPDX-License-Identifier: Apache-2.0 */
/*
 * For tests: what the instructions need of the rest of the engine, over a flat memory of a few
 * pages, which lies at the same addresses in this process. Addresses outside of it fault.
 */
#ifndef VM_CPU_SOFT_FLAT_H
#define VM_CPU_SOFT_FLAT_H

#include "vm/cpu/soft/soft.h"

struct flat_fault {
	unsigned vector;
	uint32_t error;
};

extern uint64_t flat_base, flat_bytes;
extern struct flat_fault flat_last;

/* A vCPU in 64-bit mode at CPL 3 whose every access comes here; with its `tlb` set to tlb_kernel
 * instead of tlb_none those that stay inside a page hit the TLB. */
void flat_init(struct soft_cpu *c);

/* Runs fn(c, i); false if it faulted, flat_last tells how. */
bool flat_run(struct soft_cpu *c, const struct insn *i);

#endif
