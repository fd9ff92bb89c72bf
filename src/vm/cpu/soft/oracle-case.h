/* SPDX-License-Identifier: Apache-2.0 */
/*
 * For tests: an instruction of user mode with state and operands that are worth to be tried, in the
 * memory of oracle-guest.h and, the same, in that of this process.
 */
#ifndef VM_CPU_SOFT_ORACLE_CASE_H
#define VM_CPU_SOFT_ORACLE_CASE_H

#include "vm/cpu/soft/soft.h"

/* The vCPU whose state they are of; translated: 64-bit code only, with a breakpoint behind it. */
void case_begin(struct soft_cpu *cpu, bool translated);

/* Is the row's name one of these, with a space around each? */
bool case_named(const struct insn_row *row, const char *names);
/* false: it is not the same here and there by its nature, or goes elsewhere than to the kernel. */
bool case_runnable(const struct insn_row *row, enum insn_mode mode);
bool case_allowed(const struct insn *i);
/* How much it reaches by its ModRM. */
unsigned case_operand_bytes(const struct insn_row *row, const struct insn *i);

/* Mode, registers and flags. */
void case_state(void);
/* Where an instruction stands: mostly in the middle, else over a page's end. */
uint64_t case_place(unsigned len);
/* Operands for one that will stand at `at`; false: there are none. */
bool case_prepare(uint8_t *b, struct insn *i, uint64_t at, uint64_t *ret_target);
void case_put_code(uint64_t at, const uint8_t *b, unsigned len);

/* The same memory for both again. */
void case_resync(void);

#endif
