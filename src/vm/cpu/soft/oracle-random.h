/* SPDX-License-Identifier: Apache-2.0 */
/* For tests: random state, with the edges in it, and random instructions of the table. */
#ifndef VM_CPU_SOFT_ORACLE_RANDOM_H
#define VM_CPU_SOFT_ORACLE_RANDOM_H

#include "vm/cpu/soft/soft.h"

/* The seed: it goes on with each number. */
extern uint64_t random_state;

uint64_t rnd64(void);
uint32_t rnd(uint32_t below);
uint64_t edge64(void);

/* Bytes that are integers, or edges of the floating formats. */
void random_bytes(uint8_t *to, size_t n);
/* x87, SSE and AVX, in the standard format of XSAVE. */
void random_xsave(uint8_t *x);
/* General registers, arithmetic flags, DF, and the above. */
void random_registers(struct soft_cpu *c);

/* Bytes of the form that a row describes, all that it leaves open at random; 15 of them. */
void random_insn(const struct insn_row *row, enum insn_mode mode, uint8_t *b);

/*
 * Make registers or the displacement so that the memory operand of the instruction, which will
 * stand at `code`, is at `target`; of a bit string (`bits`) the offset is made small. False: it
 * cannot be.
 */
bool random_aim(struct soft_cpu *c, uint64_t code, uint8_t *b, struct insn *i, uint64_t target,
		bool bits);

#endif
