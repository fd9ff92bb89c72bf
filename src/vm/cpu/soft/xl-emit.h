/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Writing x86-64 instructions into the code cache.
 *
 * The bytes go to a window of memory; what would go beyond its end is counted and not written, so
 * that the writer looks once, at the end, whether all of it fitted.
 *
 * Spec: SDM 2, 2.1 to 2.3 (instruction format, REX, VEX).
 */
#ifndef VM_CPU_SOFT_XL_EMIT_H
#define VM_CPU_SOFT_XL_EMIT_H

#include "base/def.h"

struct xl_code {
	uint8_t *at, *end;    /* where the next byte goes; at > end: it did not fit */
};

/* The host's registers by their number. */
enum {
	XR_AX, XR_CX, XR_DX, XR_BX, XR_SP, XR_BP, XR_SI, XR_DI,
	XR_8, XR_9, XR_10, XR_11, XR_12, XR_13, XR_14, XR_15, XR_NONE = 0xff,
};

/* An r/m operand: a register, or memory. */
struct xl_rm {
	uint8_t reg;              /* XR_NONE: memory */
	uint8_t base, index;      /* XR_NONE: none */
	uint8_t scale;            /* 0..3 */
	bool    gs;
	int32_t disp;
};

static inline struct xl_rm xl_reg(unsigned reg)
{
	return (struct xl_rm){ .reg = (uint8_t)reg, .base = XR_NONE, .index = XR_NONE };
}

static inline struct xl_rm xl_mem(unsigned base, int32_t disp)
{
	return (struct xl_rm){ .reg = XR_NONE, .base = (uint8_t)base, .index = XR_NONE,
			       .disp = disp };
}

static inline struct xl_rm xl_mem_index(unsigned base, unsigned index, unsigned scale, int32_t disp)
{
	return (struct xl_rm){ .reg = XR_NONE, .base = (uint8_t)base, .index = (uint8_t)index,
			       .scale = (uint8_t)scale, .disp = disp };
}

/* At an offset from GS: the vCPU's state. */
static inline struct xl_rm xl_gs(size_t off)
{
	return (struct xl_rm){ .reg = XR_NONE, .base = XR_NONE, .index = XR_NONE, .gs = true,
			       .disp = (int32_t)off };
}

static inline void xe_8(struct xl_code *e, unsigned v)
{
	if (e->at < e->end) {
		*e->at = (uint8_t)v;
	}
	e->at++;
}

static inline void xe_n(struct xl_code *e, uint64_t v, unsigned n)
{
	for (unsigned i = 0; i < n; i++) {
		xe_8(e, (unsigned)(v >> (8 * i)) & 0xff);
	}
}

static inline void xe__disp(struct xl_code *e, unsigned mod, int32_t disp)
{
	if (mod) {
		xe_n(e, (uint32_t)disp, mod == 1 ? 1 : 4);
	}
}

/* ModRM, SIB and displacement. */
static inline void xe_modrm(struct xl_code *e, unsigned reg, struct xl_rm rm)
{
	unsigned r = (reg & 7) << 3, mod = 0;

	if (rm.reg != XR_NONE) {
		xe_8(e, 0xc0 | r | (rm.reg & 7));
		return;
	}
	if (rm.base == XR_NONE) {
		xe_8(e, r | 4);
		xe_8(e, (unsigned)rm.scale << 6 |
				(rm.index == XR_NONE ? 4u : rm.index & 7u) << 3 | 5);
		xe_n(e, (uint32_t)rm.disp, 4);
		return;
	}
	mod = rm.disp == 0 && (rm.base & 7) != 5 ? 0 : rm.disp == (int8_t)rm.disp ? 1 : 2;
	if (rm.index == XR_NONE && (rm.base & 7) != 4) {
		xe_8(e, mod << 6 | r | (rm.base & 7));
	} else {
		xe_8(e, mod << 6 | r | 4);
		xe_8(e, (unsigned)rm.scale << 6 | (rm.index == XR_NONE ? 4u : rm.index & 7u) << 3 |
				(rm.base & 7u));
	}
	xe__disp(e, mod, rm.disp);
}

static inline unsigned xl__high(unsigned reg)
{
	return reg != XR_NONE ? reg >> 3 & 1 : 0;
}

/* What comes before an opcode. */
enum {
	XE_W   = 1 << 0,    /* REX.W, VEX.W */
	XE_REX = 1 << 1,    /* REX in any case: SPL to DIL */
	XE_66  = 1 << 2,
	XE_F2  = 1 << 3,
	XE_F3  = 1 << 4,
	XE_LOCK = 1 << 5,
	XE_L   = 1 << 6,    /* VEX.L */
};

static inline void xe__prefixes(struct xl_code *e, unsigned how, struct xl_rm rm)
{
	if (rm.gs) {
		xe_8(e, 0x65);
	}
	if (how & XE_LOCK) {
		xe_8(e, 0xf0);
	}
	if (how & XE_66) {
		xe_8(e, 0x66);
	}
	if (how & XE_F2) {
		xe_8(e, 0xf2);
	}
	if (how & XE_F3) {
		xe_8(e, 0xf3);
	}
}

/* map: 0: one byte, 1: 0F, 2: 0F 38, 3: 0F 3A */
static inline void xe_op(struct xl_code *e, unsigned how, unsigned map, unsigned opcode,
			 unsigned reg, struct xl_rm rm)
{
	unsigned rex = (how & XE_W ? 8u : 0) | xl__high(reg) << 2 | xl__high(rm.index) << 1 |
		       xl__high(rm.reg != XR_NONE ? rm.reg : rm.base);

	xe__prefixes(e, how, rm);
	if (rex || how & XE_REX) {
		xe_8(e, 0x40 | rex);
	}
	if (map) {
		xe_8(e, 0x0f);
	}
	if (map > 1) {
		xe_8(e, map == 2 ? 0x38 : 0x3a);
	}
	xe_8(e, opcode);
	xe_modrm(e, reg, rm);
}

/* pp: 0: none, 1: 66, 2: F3, 3: F2 */
static inline void xe_vex(struct xl_code *e, unsigned how, unsigned pp, unsigned map,
			  unsigned opcode, unsigned reg, unsigned vvvv, struct xl_rm rm)
{
	unsigned b = xl__high(rm.reg != XR_NONE ? rm.reg : rm.base);

	if (rm.gs) {
		xe_8(e, 0x65);
	}
	xe_8(e, 0xc4);
	xe_8(e, (xl__high(reg) ? 0u : 0x80) | (xl__high(rm.index) ? 0u : 0x40) |
			(b ? 0u : 0x20) | map);
	xe_8(e, (how & XE_W ? 0x80u : 0) | (~vvvv & 15) << 3 | (how & XE_L ? 4u : 0) | pp);
	xe_8(e, opcode);
	xe_modrm(e, reg, rm);
}

static inline void xe_load(struct xl_code *e, unsigned reg, struct xl_rm rm)
{
	xe_op(e, XE_W, 0, 0x8b, reg, rm);
}

static inline void xe_load32(struct xl_code *e, unsigned reg, struct xl_rm rm)
{
	xe_op(e, 0, 0, 0x8b, reg, rm);
}

static inline void xe_store(struct xl_code *e, unsigned reg, struct xl_rm rm)
{
	xe_op(e, XE_W, 0, 0x89, reg, rm);
}

static inline void xe_mov(struct xl_code *e, unsigned to, unsigned from)
{
	xe_op(e, XE_W, 0, 0x8b, to, xl_reg(from));
}

static inline void xe_mov_imm32(struct xl_code *e, unsigned reg, uint32_t v)
{
	if (reg >= 8) {
		xe_8(e, 0x41);
	}
	xe_8(e, 0xb8 | (reg & 7));
	xe_n(e, v, 4);
}

static inline void xe_mov_imm64(struct xl_code *e, unsigned reg, uint64_t v)
{
	xe_8(e, 0x48 | (reg >= 8));
	xe_8(e, 0xb8 | (reg & 7));
	xe_n(e, v, 8);
}

/* By the shortest of them. */
static inline void xe_mov_imm(struct xl_code *e, unsigned reg, uint64_t v)
{
	if (v <= UINT32_MAX) {
		xe_mov_imm32(e, reg, (uint32_t)v);
	} else if (v == (uint64_t)(int64_t)(int32_t)v) {
		xe_op(e, XE_W, 0, 0xc7, 0, xl_reg(reg));
		xe_n(e, (uint32_t)v, 4);
	} else {
		xe_mov_imm64(e, reg, v);
	}
}

/* PEXT: the bits of a register that the mask has, side by side. No flag changes. */
static inline void xe_pext(struct xl_code *e, unsigned how, unsigned to, unsigned from,
			   struct xl_rm mask)
{
	xe_vex(e, how, 2, 2, 0xf5, to, from, mask);
}

/* RORX: turned to the right by so many bits. No flag changes. */
static inline void xe_rorx(struct xl_code *e, unsigned how, unsigned to, struct xl_rm from,
			   unsigned bits)
{
	xe_vex(e, how, 3, 3, 0xf0, to, 0, from);
	xe_8(e, bits);
}

static inline void xe_lea(struct xl_code *e, unsigned reg, struct xl_rm rm)
{
	xe_op(e, XE_W, 0, 0x8d, reg, rm);
}

/* op: the number of ADD, OR, ADC, SBB, AND, SUB, XOR, CMP */
static inline void xe_alu(struct xl_code *e, unsigned how, unsigned op, unsigned reg,
			  struct xl_rm rm)
{
	xe_op(e, how, 0, op << 3 | 3, reg, rm);
}

static inline void xe_alu_imm(struct xl_code *e, unsigned how, unsigned op, struct xl_rm rm,
			      int32_t v)
{
	if (v == (int8_t)v) {
		xe_op(e, how, 0, 0x83, op, rm);
		xe_n(e, (uint32_t)v, 1);
	} else {
		xe_op(e, how, 0, 0x81, op, rm);
		xe_n(e, (uint32_t)v, 4);
	}
}

/* Jumps of 32 bits; the place of the distance is the answer, for xe_here(). */
static inline uint8_t *xe_jcc(struct xl_code *e, unsigned cond)
{
	xe_8(e, 0x0f);
	xe_8(e, 0x80 | cond);
	xe_n(e, 0, 4);
	return e->at - 4;
}

static inline uint8_t *xe_jmp(struct xl_code *e)
{
	xe_8(e, 0xe9);
	xe_n(e, 0, 4);
	return e->at - 4;
}

static inline uint8_t *xe_call(struct xl_code *e)
{
	xe_8(e, 0xe8);
	xe_n(e, 0, 4);
	return e->at - 4;
}

/* Let a jump go to an address. */
static inline void xe_patch(const struct xl_code *e, uint8_t *place, const uint8_t *to)
{
	int32_t distance = (int32_t)(to - (place + 4));

	if (place + 4 <= e->end) {
		memcpy(place, &distance, 4);
	}
}

/* Let a jump go to where the next byte goes. */
static inline void xe_here(const struct xl_code *e, uint8_t *place)
{
	xe_patch(e, place, e->at);
}

/* JRCXZ forward; for xe_here_8(). */
static inline uint8_t *xe_jrcxz(struct xl_code *e)
{
	xe_8(e, 0xe3);
	xe_8(e, 0);
	return e->at - 1;
}

/* The same with LOOP: where RCX - 1, which it becomes, is not 0. */
static inline uint8_t *xe_loop(struct xl_code *e)
{
	xe_8(e, 0xe2);
	xe_8(e, 0);
	return e->at - 1;
}

static inline uint8_t *xe_jmp_8(struct xl_code *e)
{
	xe_8(e, 0xeb);
	xe_8(e, 0);
	return e->at - 1;
}

static inline void xe_here_8(const struct xl_code *e, uint8_t *place)
{
	assert(e->at - (place + 1) <= INT8_MAX);
	if (place < e->end) {
		*place = (uint8_t)(e->at - (place + 1));
	}
}

/* So that the four bytes behind `before` more lie in one aligned word: they change while the code
 * runs. */
static inline void xe_align_patch(struct xl_code *e, unsigned before)
{
	switch (-((uintptr_t)e->at + before) & 3) {
	case 3: {
		xe_n(e, 0x001f0f, 3);   /* nop of three bytes */
		break;
	}
	case 2: {
		xe_n(e, 0x9066, 2);
		break;
	}
	case 1: {
		xe_8(e, 0x90);
		break;
	}
	default: {
		break;
	}
	}
}

/* So that the next byte lies at a multiple of so many. */
static inline void xe_align(struct xl_code *e, unsigned bytes)
{
	static const uint64_t nops[] = {
		0x90, 0x9066, 0x001f0f, 0x00401f0f, 0x0000441f0f, 0x0000441f0f66, 0x00000000801f0f,
		0x0000000000841f0f,
	};

	while ((uintptr_t)e->at % bytes != 0) {
		unsigned n = MIN(bytes - (unsigned)((uintptr_t)e->at % bytes), 9u);

		/* Prefixes, or the long form with a displacement. */
		for (; n > 8; n--) {
			xe_8(e, 0x66);
		}
		xe_n(e, nops[n - 1], n);
	}
}

#endif
