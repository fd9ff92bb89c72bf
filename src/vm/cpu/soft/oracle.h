/* SPDX-License-Identifier: Apache-2.0 */
/* For tests: runs one instruction natively, from a given state, in this process. */
#ifndef VM_CPU_SOFT_ORACLE_H
#define VM_CPU_SOFT_ORACLE_H

#include "vm/cpu/soft/soft.h"

/*
 * Fixed places below 2 GiB, so that all are reached without a register: the block that native
 * runs exchange their state through, the code, and the data between two pages that are not there.
 */
enum {
	BLOCK = 0x10000000, BLOCK_BYTES = 0x10000,
	CODE  = 0x10100000, CODE_BYTES = 0x2000,
	DATA  = 0x10200000, DATA_BYTES = 0x2000,
	/* In the block */
	IN_GPR = 0, IN_FLAGS = 128, IN_RIP = 136, EXIT_RIP = 144, HOST_RSP = 152,
	ENTER_FAR = 160, EXIT_FAR = 168,   /* far pointers */
	OUT_GPR = 256, OUT_FLAGS = 384,
	IN_XSAVE = 0x1000, OUT_XSAVE = 0x2000, STACK = 0x8000,
};


/* The exception of the last run; -1: none. */
extern volatile int oracle_vector;

/* Map the places; once. */
void oracle_setup(void);

/* Take the signals of exceptions; in the test itself, as cmocka has handlers around it. */
void oracle_signals(void);

/*
 * Run `len` bytes at CODE from a state, of which general, x87 and vector registers count. What
 * comes out stands at OUT_GPR, OUT_FLAGS and OUT_XSAVE of the block. It must not jump.
 */
void oracle_run(const uint8_t *b, unsigned len, const struct cpu_state *s, uint64_t flags,
		enum insn_mode mode);

#endif
