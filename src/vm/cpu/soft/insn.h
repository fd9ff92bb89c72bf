/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Instructions: what the decoder makes of bytes, and the table that says what each opcode form
 * is. Interpreter and translator use the same decoder and the same table.
 *
 * Spec: SDM 2, 2 (instruction format) and appendix A (opcode map).
 */
#ifndef VM_CPU_SOFT_INSN_H
#define VM_CPU_SOFT_INSN_H

#include "base/def.h"

struct soft_cpu;
struct insn;

/* Does what the instruction does. Raises faults by soft_fault(), which does not return, before
 * any state has changed. RIP of the state is that of this instruction; c->next_rip is where
 * execution goes on, and jumps change it. */
typedef void insn_fn(struct soft_cpu *c, const struct insn *i);

enum insn_mode { INSN_MODE_16, INSN_MODE_32, INSN_MODE_64 };

/* Chooses the function of a decoded instruction, once; see handlers.h. */
typedef insn_fn *insn_pick(const struct insn *i, enum insn_mode mode);

enum { INSN_BYTES_MAX = 15, INSN_NONE = 0xff, INSN_BASE_RIP = 0xfe };

enum insn_map { INSN_MAP_1, INSN_MAP_0F, INSN_MAP_0F38, INSN_MAP_0F3A, INSN_MAP__COUNT };

enum insn_prefix {
	INSN_LOCK  = 1 << 0,
	INSN_REPNE = 1 << 1,     /* F2 was the last of F2 and F3 */
	INSN_REP   = 1 << 2,     /* F3 */
	INSN_66    = 1 << 3,
	INSN_REX   = 1 << 4,     /* a valid REX: SPL..DIL instead of AH..BH */
	INSN_W     = 1 << 5,     /* REX.W or VEX.W */
	INSN_VEX   = 1 << 6,
	INSN_VEX_L = 1 << 7,
};

struct insn_row;

/* One decoded instruction. Kept small: blocks of these are what the interpreter runs. */
struct insn {
	insn_fn *fn;
	union {
		uint64_t imm;        /* sign-extended immediate, jump distance, or moffs */
		void    *stub;       /* of an instruction that runs on the host's own unit */
	};
	int32_t  disp;           /* of the memory operand */
	uint16_t row;            /* in insn_table[] */
	uint16_t imm2;           /* second immediate: ENTER's level, far pointer's selector */
	uint8_t  prefix;         /* INSN_LOCK ... */
	uint8_t  len;            /* of all its bytes */
	uint8_t  op_bytes;       /* operand: 1, 2, 4, 8; 16 or 32 for vectors */
	uint8_t  ad_bytes;       /* address: 2, 4, 8 */
	uint8_t  map, opcode, modrm;
	uint8_t  reg;            /* ModRM.reg, extended */
	uint8_t  rm;             /* ModRM.rm as a register, extended; INSN_NONE: memory */
	uint8_t  base, index;    /* of the memory operand; INSN_NONE, INSN_BASE_RIP */
	uint8_t  scale;          /* 0..3 */
	uint8_t  seg;            /* of the memory operand, override applied */
	uint8_t  vvvv;           /* VEX's third register */
};

/*
 * Decode one instruction.
 *
 * @bytes  what was fetched; @n of them, at most INSN_BYTES_MAX
 * @ret    filled on success, its fn included
 *
 * Returns its length; 0 if more bytes are needed (a page ends); -EINVAL: #UD; -E2BIG: longer
 * than 15 bytes, #GP. Pure.
 */
int insn_decode(const uint8_t *bytes, size_t n, enum insn_mode mode, struct insn *ret) must_check;

#endif
