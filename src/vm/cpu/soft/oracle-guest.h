/* SPDX-License-Identifier: Apache-2.0 */
/*
 * For tests: a machine of one vCPU in user mode, in an address space like that which
 * oracle-step.h makes for this process, and a kernel that only stops.
 */
#ifndef VM_CPU_SOFT_ORACLE_GUEST_H
#define VM_CPU_SOFT_ORACLE_GUEST_H

#include "vm/cpu/soft/oracle-step.h"
#include "vm/cpu/soft/soft.h"

enum { GUEST_DATA_BYTES = STEP_DATA_PAGES * 4096 };

/* Made once; the vCPU's state is set in place. */
struct soft_cpu *guest_new(void);
void guest_free(void);

/* The data, of which the address is STEP_DATA in the guest and, another copy, in this process. */
uint8_t *guest_data(uint64_t at);

/* Code, in both. */
void guest_code(uint64_t at, const uint8_t *code, size_t n);

/* Run from the state that is there until it comes to its kernel; vector -1: it did not. */
void guest_run(struct step_end *ret);

#endif
