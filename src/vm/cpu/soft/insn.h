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
 * any state has changed. */
typedef void insn_fn(struct soft_cpu *c, const struct insn *i);

enum insn_mode { INSN_MODE_16, INSN_MODE_32, INSN_MODE_64 };

/* Chooses the function of a decoded instruction, once; see handlers.h. What it chooses is
 * threaded: it ends with soft_next(), or, when it goes elsewhere, with soft_go(). */
typedef insn_fn *insn_pick(const struct insn *i, enum insn_mode mode);

/*
 * The threaded function of all instructions whose row has `fn`, and of those of them that end a
 * block: RIP of the state is that of this instruction, c->next_rip is where execution goes on,
 * and jumps change it.
 */
insn_fn insn_plain, insn_plain_last;

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

/*
 * Operands, in the notation of SDM 2, appendix A.2, where a number is added to say how many
 * bytes of memory the operand is. The second column is where it stands, the third the register
 * file, then the bytes of the register and of the memory operand: INSN_SZ_* or a number.
 */
#define INSN_OPERANDS(X) \
	X(Eb, RM, GPR, 1, 1) X(Ew, RM, GPR, 2, 2) X(Ed, RM, GPR, 4, 4) X(Ev, RM, GPR, V, V) \
	X(Ey, RM, GPR, Y, Y) X(Ewv, RM, GPR, V, 2) X(Rdb, RM, GPR, 4, 1) X(Rdw, RM, GPR, 4, 2) \
	X(Rm, RM, GPR, V, V) \
	X(M, RM, NONE, 0, 0) X(Mb, RM, NONE, 0, 1) X(Mw, RM, NONE, 0, 2) X(Md, RM, NONE, 0, 4) \
	X(Mq, RM, NONE, 0, 8) X(Mt, RM, NONE, 0, 10) X(Mdq, RM, NONE, 0, 16) X(My, RM, NONE, 0, Y) \
	X(Mp, RM, NONE, 0, P) X(Ma, RM, NONE, 0, A) X(Ms, RM, NONE, 0, S) \
	X(Gb, REG, GPR, 1, 0) X(Gw, REG, GPR, 2, 0) X(Gd, REG, GPR, 4, 0) X(Gv, REG, GPR, V, 0) \
	X(Gy, REG, GPR, Y, 0) X(Sw, REG, SEG, 2, 0) X(Cr, REG, CR, V, 0) X(Dr, REG, DR, V, 0) \
	X(Zb, OPCODE, GPR, 1, 0) X(Zv, OPCODE, GPR, V, 0) X(SEG, OPCODE, SEG, 2, 0) \
	X(AL, FIXED, GPR, 1, 0) X(AX, FIXED, GPR, 2, 0) X(rAX, FIXED, GPR, V, 0) \
	X(eAX, FIXED, GPR, Z, 0) X(CL, FIXED, GPR, 1, 0) X(DX, FIXED, GPR, 2, 0) \
	X(ONE, FIXED, NONE, 0, 0) \
	X(Ib, IMM, NONE, 1, 0) X(Ibs, IMM, NONE, 1, 0) X(Iw, IMM, NONE, 2, 0) \
	X(Iz, IMM, NONE, Z, 0) X(Iv, IMM, NONE, V, 0) X(Jb, IMM, NONE, 1, 0) \
	X(Jz, IMM, NONE, Z, 0) X(Ap, IMM, NONE, P, 0) \
	X(Ob, MOFFS, NONE, 0, 1) X(Ov, MOFFS, NONE, 0, V) \
	X(Xb, SOURCE, NONE, 0, 1) X(Xv, SOURCE, NONE, 0, V) X(Xz, SOURCE, NONE, 0, Z) \
	X(Yb, DEST, NONE, 0, 1) X(Yv, DEST, NONE, 0, V) X(Yz, DEST, NONE, 0, Z) \
	X(V, REG, XMM, VEC, 0) X(H, VVVV, XMM, VEC, 0) X(L, IS4, XMM, VEC, 0) \
	X(W, RM, XMM, VEC, VEC) X(Wo, RM, XMM, 16, 16) X(Wh, RM, XMM, VEC, XH) \
	X(Wq, RM, XMM, VEC, XQ) \
	X(We, RM, XMM, VEC, XE) X(W1, RM, XMM, 16, 1) X(W2, RM, XMM, 16, 2) X(W4, RM, XMM, 16, 4) \
	X(W8, RM, XMM, 16, 8) X(XMM0, FIXED, XMM, 16, 0) \
	X(P, REG, MMX, 8, 0) X(Q, RM, MMX, 8, 8) X(Qd, RM, MMX, 8, 4) \
	X(By, VVVV, GPR, Y, 0) X(STi, RM, ST, 10, 0)

#define INSN__OPERAND(name, where, file, reg_bytes, mem_bytes) INSN_O_##name,
enum insn_operand { INSN_O_NONE, INSN_OPERANDS(INSN__OPERAND) INSN_O__COUNT };

enum insn_where {
	INSN_AT_NONE, INSN_AT_RM, INSN_AT_REG, INSN_AT_OPCODE, INSN_AT_VVVV, INSN_AT_IS4,
	INSN_AT_FIXED, INSN_AT_IMM, INSN_AT_MOFFS, INSN_AT_SOURCE, INSN_AT_DEST,
};

enum insn_file {
	INSN_FILE_NONE, INSN_FILE_GPR, INSN_FILE_XMM, INSN_FILE_MMX, INSN_FILE_ST, INSN_FILE_SEG,
	INSN_FILE_CR, INSN_FILE_DR,
};

/* Sizes that depend on the instruction; others are numbers of bytes. */
enum insn_size {
	INSN_SZ_0 = 0, INSN_SZ_1 = 1, INSN_SZ_2 = 2, INSN_SZ_4 = 4, INSN_SZ_8 = 8,
	INSN_SZ_10 = 10, INSN_SZ_16 = 16,
	INSN_SZ_V = 100,   /* operand size */
	INSN_SZ_Z,         /* the same, at most 4 */
	INSN_SZ_Y,         /* 4, or 8 with W */
	INSN_SZ_P,         /* far pointer: operand size and 2 */
	INSN_SZ_A,         /* twice the operand size */
	INSN_SZ_S,         /* pseudo descriptor: 6, or 10 in 64-bit mode */
	INSN_SZ_VEC,       /* vector */
	INSN_SZ_XH, INSN_SZ_XQ, INSN_SZ_XE,   /* a half, a quarter, an eighth of it */
};

struct insn_operand_desc {
	uint8_t where, file, reg_bytes, mem_bytes;
};

extern const struct insn_operand_desc insn_operands[INSN_O__COUNT];

/* Features of CPUID that rows name; soft_cpu.features has a bit for each that the guest sees. */
enum insn_feature {
	INSN_F_NONE, INSN_F_SSE3, INSN_F_SSSE3, INSN_F_SSE41, INSN_F_SSE42, INSN_F_PCLMUL,
	INSN_F_AES, INSN_F_AVX, INSN_F_AVX2, INSN_F_FMA, INSN_F_F16C, INSN_F_BMI1, INSN_F_BMI2,
	INSN_F_ADX, INSN_F_SHA, INSN_F_POPCNT, INSN_F_LZCNT, INSN_F_MOVBE, INSN_F_RDRAND,
	INSN_F_RDSEED, INSN_F_CX16, INSN_F_XSAVE, INSN_F_XSAVEOPT, INSN_F_XSAVEC, INSN_F_CLFLUSHOPT,
	INSN_F_CLWB, INSN_F_FSGSBASE, INSN_F_RDTSCP, INSN_F_RDPID, INSN_F_INVPCID, INSN_F_SMAP,
	INSN_F_SERIALIZE,
	INSN_F_AVX_INT,    /* AVX, and AVX2 for 256 bits: insn_feature() tells which */
	INSN_F__COUNT,
};

/* What a translator does with it; the interpreter does not look. */
enum insn_class {
	INSN_COPY,         /* same opcode with other registers or another address */
	INSN_IMPLICIT,     /* memory or registers that no operand names */
	INSN_FLOW,         /* goes elsewhere, touches no memory */
	INSN_HELPER,       /* system state, segments, faults by rule */
	INSN_NEVER,        /* #UD */
};

enum insn_attr {
	INSN_A_LOCK    = 1 << 0,    /* LOCK is legal on a memory destination */
	INSN_A_RMW     = 1 << 1,    /* the first operand is read, too */
	INSN_A_NODST   = 1 << 2,    /* the first operand is only read */
	INSN_A_DST2    = 1 << 3,    /* the second one is written, too */
	INSN_A_D64     = 1 << 4,    /* operand size in 64-bit mode is 8, or 2 with 66 */
	INSN_A_F64     = 1 << 5,    /* ... always 8 */
	INSN_A_I64     = 1 << 6,    /* #UD in 64-bit mode */
	INSN_A_O64     = 1 << 7,    /* #UD in the others */
	INSN_A_STACK   = 1 << 8,    /* uses the stack */
	INSN_A_STRING  = 1 << 9,    /* memory at DS:rSI, rBX or rDI without ModRM */
	INSN_A_MOD3    = 1 << 10,   /* ModRM.mod is ignored: always a register */
	INSN_A_BITS    = 1 << 11,   /* bit string: the address depends on the second operand */
	INSN_A_DSTRW   = 1 << 12,   /* the destination register is read, too */
	INSN_A_VSIB    = 1 << 13,
	INSN_A_ALIGN   = 1 << 14,   /* memory aligned to its size, also with VEX; else #GP */
	INSN_A_UNAL    = 1 << 15,   /* memory of any alignment, also in the legacy SSE form */
	INSN_A_MXCSR   = 1 << 16,   /* SIMD floating point: reads and writes MXCSR, raises #XM */
	INSN_A_SSE     = 1 << 17,   /* of SSE, though no operand says so */
	INSN_A_MMX     = 1 << 18,   /* of MMX, though no operand says so */
	INSN_A_X87     = 1 << 19,
	INSN_A_X87CTL  = 1 << 20,   /* leaves the last instruction and operand pointers alone */
	INSN_A_X87NW   = 1 << 21,   /* does not wait: no #MF */
	INSN_A_MMXREG  = 1 << 22,   /* memory operand: enters MMX state on some CPUs only */
};

/* Arithmetic flags in the rows; undefined ones are as the host gives them. */
enum {
	INSN_CF = 1, INSN_PF = 2, INSN_AF = 4, INSN_ZF = 8, INSN_SF = 16, INSN_OF = 32,
	INSN_DF = 64,
};

/* Registers in the rows that no operand names. */
enum { INSN_IMP_RAX = 1, INSN_IMP_RDX = 2, INSN_IMP_RCX = 4, INSN_IMP_XMM0 = 8 };

/* A field of a row that is matched against a bit of the instruction. */
enum { INSN_ANY, INSN_X0, INSN_X1 };
enum { INSN_LEGACY, INSN_IS_VEX };
enum { INSN_MOD_ANY, INSN_MOD_MEM, INSN_MOD_REG };
enum { INSN_PP_ANY, INSN_PP_NONE, INSN_PP_66, INSN_PP_F3, INSN_PP_F2 };

/* One form of an opcode. */
struct insn_row {
	const char *name;
	insn_fn    *fn;           /* called by insn_plain(); with neither fn nor pick the
				   * instruction runs on the host's own unit */
	insn_pick  *pick;
	uint32_t    attr;         /* INSN_A_* */
	uint8_t     map, opcode;
	uint8_t     n_opcodes;    /* so many from `opcode` on: the register or condition is in it */
	uint8_t     enc;          /* INSN_LEGACY, INSN_IS_VEX */
	uint8_t     pp;           /* mandatory prefix: INSN_PP_* */
	uint8_t     reg, rm;      /* ModRM fields that belong to the opcode, plus 1; 0: none */
	uint8_t     mod;          /* INSN_MOD_* */
	uint8_t     w, l;         /* INSN_ANY, INSN_X0, INSN_X1 */
	uint8_t     cls;          /* enum insn_class */
	uint8_t     feature;
	uint8_t     ops[4];       /* enum insn_operand; the destination first */
	uint8_t     fr, fw, fu;   /* flags read; written; of those, undefined */
	uint8_t     imp;          /* INSN_IMP_* */
};

extern const struct insn_row insn_table[];
extern const size_t insn_table_len;

/* One decoded instruction. Kept small: blocks of these are what the interpreter runs. `fn` is
 * threaded: whoever calls it sees to it that the next of the array has a function, too. */
struct insn {
	insn_fn *fn;
	union {
		uint64_t imm;        /* immediate: Ib, Iw zero-extended, the others and jump
				      * distances sign-extended; moffs; far pointer's offset */
		const void *stub;    /* of an instruction that runs on the host's own unit */
	};
	int32_t  disp;           /* of the memory operand */
	uint16_t row;            /* in insn_table[] */
	uint16_t imm2;           /* second immediate: ENTER's level, far pointer's selector */
	uint16_t end;            /* of its bytes, from the beginning of the block */
	uint8_t  prefix;         /* INSN_LOCK ... */
	uint8_t  len;            /* of all its bytes */
	uint8_t  op_bytes;       /* operand: 1, 2, 4, 8; 16 or 32 for vectors */
	uint8_t  ad_bytes;       /* address: 2, 4, 8 */
	uint8_t  opcode, modrm;
	uint8_t  reg;            /* ModRM.reg, extended */
	uint8_t  rm;             /* ModRM.rm or the opcode's, extended; INSN_NONE: memory */
	uint8_t  base, index;    /* of the memory operand; INSN_NONE, INSN_BASE_RIP */
	uint8_t  scale;          /* 0..3 */
	uint8_t  seg;            /* of the memory operand, override applied */
	uint8_t  vvvv;           /* VEX's third register */
	uint8_t  is4 : 4;        /* VEX's fourth */
	uint8_t  map : 4;        /* enum insn_map */
};

/*
 * Decode one instruction.
 *
 * @bytes  what was fetched; @n of them, at most INSN_BYTES_MAX are looked at
 * @ret    filled on success, its fn included
 *
 * ret->end is its length, as if a block began with it.
 *
 * Returns its length; 0 if more bytes are needed (a page ends); -EINVAL: #UD; -E2BIG: longer
 * than 15 bytes, #GP. Any thread.
 */
int insn_decode(const uint8_t *bytes, size_t n, enum insn_mode mode, struct insn *ret) must_check;

/* The same without a function: ret->imm is the immediate of every instruction that has one. */
int insn_parse(const uint8_t *bytes, size_t n, enum insn_mode mode, struct insn *ret) must_check;

/* What it lacks then: i->fn, with the changes to others that it asks for. */
void insn_bind(struct insn *i, enum insn_mode mode);

/* Bytes of operand `op` of a row, as a register or in memory. */
unsigned insn_reg_bytes(const struct insn *i, enum insn_mode mode, enum insn_operand op);
unsigned insn_mem_bytes(const struct insn *i, enum insn_mode mode, enum insn_operand op);

/* The feature that must be shown for this instruction, INSN_F_NONE if none. */
enum insn_feature insn_feature(const struct insn *i);

/* BIT() of each feature that these leaves of CPUID show, and of INSN_F_NONE. */
struct cpu_cpuid;
uint64_t insn_features(const struct cpu_cpuid *entries, size_t n);

/* For decode.c: the rows that an opcode may be, in order. */
struct insn_rows {
	const uint16_t *rows;
	unsigned        n;
	bool            modrm;
};
struct insn_rows insn__rows(unsigned enc, enum insn_map map, uint8_t opcode);

/* What the decoder would have to find in a row's operands each time. */
struct insn_facts {
	uint8_t size;      /* of operands: INSN_SZ_1, INSN_SZ_VEC; INSN_SZ_V: prefixes decide */
	uint8_t imms[3];   /* enum insn_operand: what stands behind all else; then INSN_O_NONE */
	bool    eights;    /* one is in a file of eight registers */
	bool    picky;     /* not all registers may be named */
	bool    vvvv;
};

extern struct insn_facts insn__facts[];   /* of each row; made before main() */

#endif
