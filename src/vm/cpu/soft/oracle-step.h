/* SPDX-License-Identifier: Apache-2.0 */
/*
 * For tests: one instruction natively, stepped by TF, with pages of all kinds around it: what it
 * does in the end, be it an exception or the single step's trap, is told as the processor told
 * Linux. Any instruction of user mode may run so, also those that jump.
 */
#ifndef VM_CPU_SOFT_ORACLE_STEP_H
#define VM_CPU_SOFT_ORACLE_STEP_H

#include "vm/cpu/state.h"

enum {
	STEP_CODE = 0x10100000, STEP_CODE_PAGES = 3,    /* the last is absent */
	STEP_DATA = 0x10200000, STEP_DATA_PAGES = 8,
	/* Linux's selectors of user mode, and ours in the LDT: 16-bit code and data. */
	STEP_CS_32 = 0x23, STEP_DS = 0x2b, STEP_CS_64 = 0x33, STEP_CS_16 = 0x07, STEP_DS_16 = 0x0f,
	STEP_DS_16_LIMIT = 0x6fff,
	STEP_RSP_HIGH = 0x10000000,    /* what a 16-bit stack's pointer has above */
	STEP_STUCK = -1,
};

enum step_page { STEP_ABSENT, STEP_READ, STEP_WRITE };
extern const enum step_page step_data_pages[STEP_DATA_PAGES];

struct step_end {
	uint64_t gpr[CPU_REG__COUNT], rip, rflags, cr2;
	uint32_t error;
	int      vector;    /* STEP_STUCK: it comes to no end */
	uint16_t cs, ss, ds, es;
	uint8_t  xsave[CPU_XSAVE_BYTES];
};

/* Map the places, once. False: this host's kernel refuses LDT entries. */
bool step_setup(void);

/* Take the signals of exceptions; in the test itself, as cmocka has handlers around it. */
void step_signals(void);

/* From the state's registers, RIP, flags (TF is added), selectors of CS, SS, DS, ES. */
void step_native(const struct cpu_state *s, struct step_end *ret);

#endif
