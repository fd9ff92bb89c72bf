/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Instructions that run on the host's own unit: x87, MMX, SSE, AVX, and the rarer integer ones.
 *
 * For each encoding that a guest uses a stub is made, once: the same opcode with its registers
 * replaced by fixed ones and its memory operand by a buffer, between code that loads and stores
 * those. Guest code never chooses a host address: what stays of its bytes is the opcode, the
 * number of an x87 or MMX register and an immediate, and only for rows of the table.
 *
 * The guest's x87 and MMX registers stay in the host's own between instructions ("live"), as
 * nothing else in the monitor uses those; everything else of s.xsave is always up to date.
 *
 * SSE exceptions that the guest has unmasked come as SIGFPE; native_init() installs the handler.
 */
#ifndef VM_CPU_SOFT_NATIVE_H
#define VM_CPU_SOFT_NATIVE_H

#include "vm/cpu/soft/insn.h"

/* Memory for stubs and the handler of SIGFPE. Once in a process, before it gives up the right to
 * map memory; calling it again does nothing. Returns 0 or -errno. */
int native_init(void) must_check;

/* Give a decoded instruction, whose row has no handler of its own, its function and stub. */
void native_bind(struct insn *i, enum insn_mode mode);

/*
 * Bring s.xsave up to date and let go of the host's x87 registers. For everybody who reads or
 * writes x87 state in s.xsave, and at the end of each run of the vCPU, on its thread.
 */
void native_fpu_save(struct soft_cpu *c);

/* Was this signal raised by a stub? Then its context is changed so that the stub ends, and the
 * handler has to return. For who has a handler of SIGFPE of his own. */
bool native_signal(int sig, void *ucontext);

/* What the guest must have switched on to use each unit; raises #UD or #NM. */
void native_need_sse(struct soft_cpu *c);
void native_need_avx(struct soft_cpu *c);

/* --- Between native.c and native-stub.c --- */

enum { NATIVE_MEM_BYTES = 64 };

/* Operands on their way between guest and stub. */
struct native_ctx {
	_Alignas(64) uint8_t mem[NATIVE_MEM_BYTES];
	_Alignas(32) uint8_t x_reg[32], x_vvvv[32], x_rm[32], x_is4[32], x_0[32];
	uint64_t g_reg, g_vvvv, g_rm, rax, rcx, rdx;
	uint64_t flags;
	uint32_t mxcsr, host_mxcsr;
	uint32_t fault;      /* SIGFPE came: the vector */
};

enum native_use {
	NATIVE_X_REG    = 1 << 0, NATIVE_X_VVVV  = 1 << 1, NATIVE_X_RM   = 1 << 2,
	NATIVE_X_IS4    = 1 << 3, NATIVE_X_0     = 1 << 4,
	NATIVE_G_REG    = 1 << 5, NATIVE_G_VVVV  = 1 << 6, NATIVE_G_RM   = 1 << 7,
	NATIVE_RAX      = 1 << 8, NATIVE_RCX     = 1 << 9, NATIVE_RDX    = 1 << 10,
	NATIVE_FLAGS    = 1 << 11,
	NATIVE_MXCSR    = 1 << 12,
	NATIVE_MEM      = 1 << 13,
};

enum native_unit { NATIVE_INT, NATIVE_X87, NATIVE_MMX, NATIVE_SSE, NATIVE_AVX };

/* One encoding. */
struct native_stub {
	void    (*code)(struct native_ctx *ctx);
	struct native_stub *next;        /* in its hash chain */
	uint8_t  bytes[INSN_BYTES_MAX + 1];   /* as it runs; the key, with row and n */
	uint8_t  n;
	uint8_t  unit;                   /* enum native_unit */
	uint8_t  feature;
	uint8_t  mem_bytes, align;
	uint16_t row;
	uint16_t in, out;                /* enum native_use */
	bool     vex, rm8;
	bool     x87;                    /* needs the x87 registers live */
	bool     waits;                  /* #MF if an exception is pending */
	bool     control;                /* x87, but leaves its pointers alone */
};

/* A function by hand for a decoded instruction, where there is one. */
insn_fn *native__fast(const struct insn *i, enum insn_mode mode);

/* Is this an address in a stub? */
bool native__is_stub(uint64_t rip);

/* The stub of a decoded instruction; NULL without memory. */
const struct native_stub *native__stub(const struct insn *i, enum insn_mode mode);

#endif
