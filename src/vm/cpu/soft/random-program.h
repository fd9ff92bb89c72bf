/* SPDX-License-Identifier: Apache-2.0 */
/*
 * For tests: random programs for user mode of a machine of test-vm.h.
 *
 * A program is a row of pieces of 64 bytes: random instructions of the table, most with operands in
 * pages of all kinds or over their ends, then a jump, a call, a return, or a store to the spare
 * bytes of a piece; or a loop of its own, in which a pointer moves on, at last to where nothing is.
 * So that every program ends, what may go backwards counts down first.
 */
#ifndef VM_CPU_SOFT_RANDOM_PROGRAM_H
#define VM_CPU_SOFT_RANDOM_PROGRAM_H

#include "vm/cpu/soft/soft.h"
#include "vm/cpu/soft/test-vm.h"

enum {
	PIECES = 32, PIECE = 64, CODE_BYTES = PIECES * PIECE,
	CODE = 0x400000, CODE_PAGES = 3, CODE_ALIAS = 0x40000000,
	DATA_PAGES = 32, COUNTER = DATA + 24 * 4096, STACKS = DATA + 25 * 4096,
	END_VECTOR = 0x40,         /* of the interrupt that ends it */
	HIGH_BIT = 46,             /* in 64-bit mode its pages are there, too */
};

struct random_program {
	enum insn_mode mode;       /* given */
	uint64_t first, stack;     /* where the pieces and the stack begin */
	uint8_t code[CODE_PAGES * 4096], data[DATA_PAGES * 4096];   /* from CODE, from DATA */
};

/* Another one by the state of the random numbers; and registers for it. */
void random_program(struct random_program *ret, struct soft_cpu *cpu);

#endif
