/* SPDX-License-Identifier: Apache-2.0 */
/* Multiplication, division, decimal adjustment, and the instructions on flags alone. */
#include "vm/cpu/soft/int-ops.h"

/* Flags that these leave undefined come from the host, so all of them go in. */
#define RAX_2 "%%ax"
#define RAX_4 "%%eax"
#define RAX_8 "%%rax"
#define OP_MUL(N, op) \
	static inline u_##N do_##op##_##N(u_##N a, u_##N b, u_##N *high, uint16_t *f) \
	{ \
		uint64_t ax = *f; \
		u_##N lo, hi; \
		__asm__(FLAGS_IN "mov %[a], " RAX_##N "\n\t" #op SUF_##N " %[b]\n\t" \
			"mov " RAX_##N ", %[lo]\n\t" FLAGS_OUT \
			: "+&a"(ax), [lo] "=&r"(lo), "=&d"(hi) \
			: [a] "r"(a), [b] "r"(b) : "cc"); \
		*f = (uint16_t)ax; \
		*high = hi; \
		return lo; \
	}
INT_WORDS(OP_MUL, mul)
INT_WORDS(OP_MUL, imul)

/* Bytes: the whole product is in AX. */
#define OP_MUL_1(op) \
	static inline uint16_t do_##op##_1(u_1 a, u_1 b, uint16_t *f) \
	{ \
		uint64_t ax = *f; \
		uint16_t product; \
		__asm__(FLAGS_IN "movb %[a], %%al\n\t" #op "b %[b]\n\t" \
			"movw %%ax, %[product]\n\t" FLAGS_OUT \
			: "+&a"(ax), [product] "=&r"(product) : [a] "q"(a), [b] "q"(b) : "cc"); \
		*f = (uint16_t)ax; \
		return product; \
	}
OP_MUL_1(mul)
OP_MUL_1(imul)

#define MUL_BODY(N, op, source) \
	u_##N b = source, high; \
	u_##N low = do_##op##_##N(GET_##N(c, i, CPU_RAX), b, &high, &c->flags); \
	SET_##N(c, i, CPU_RAX, low); \
	SET_##N(c, i, CPU_RDX, high);
#define MUL_FORMS(N, op) \
	SOFT_FN(op##_rm_##N) \
	{ \
		MUL_BODY(N, op, GET_##N(c, i, i->rm)) \
	} \
	SOFT_FN(op##_m_##N) \
	{ \
		MUL_BODY(N, op, LOAD(N, c, i)) \
	}
#define MUL(op) \
	INT_WORDS(MUL_FORMS, op) \
	SOFT_PURE_FN(op##_rm_1) \
	{ \
		uint16_t product = do_##op##_1((u_1)c->s.gpr[CPU_RAX], GET_1(c, i, i->rm), \
					       &c->flags); \
		SET_2(c, i, CPU_RAX, product); \
	} \
	SOFT_FN(op##_m_1) \
	{ \
		u_1 b = LOAD(1, c, i); \
		uint16_t product = do_##op##_1((u_1)c->s.gpr[CPU_RAX], b, &c->flags); \
		SET_2(c, i, CPU_RAX, product); \
	} \
	INT_PICKER(pick_##op) \
	{ \
		static insn_fn *const fns[][4] = { BY_SIZE(op##_rm), BY_SIZE(op##_m) }; \
		return fns[int_form(i)][int_size(i)]; \
	}
MUL(mul)
MUL(imul)

#define OP_IMUL2(N, unused) \
	static inline u_##N do_imul2_##N(u_##N a, u_##N b, uint16_t *f) \
	{ \
		unsigned fl = *f; \
		__asm__(FLAGS_IN "imul" SUF_##N " %2, %0\n\t" FLAGS_OUT \
			: "+r"(a), "+&a"(fl) : "r"(b) : "cc"); \
		*f = (uint16_t)fl; \
		return a; \
	}
INT_WORDS(OP_IMUL2, 0)

#define IMUL2_FORMS(N, unused) \
	SOFT_PURE_FN(imul2_rm_##N) \
	{ \
		SET_##N(c, i, i->reg, \
			do_imul2_##N(GET_##N(c, i, i->reg), GET_##N(c, i, i->rm), &c->flags)); \
	} \
	SOFT_FN(imul2_m_##N) \
	{ \
		u_##N b = LOAD(N, c, i); \
		SET_##N(c, i, i->reg, do_imul2_##N(GET_##N(c, i, i->reg), b, &c->flags)); \
	} \
	SOFT_PURE_FN(imul3_rm_##N) \
	{ \
		SET_##N(c, i, i->reg, \
			do_imul2_##N(GET_##N(c, i, i->rm), (u_##N)i->imm, &c->flags)); \
	} \
	SOFT_FN(imul3_m_##N) \
	{ \
		u_##N a = LOAD(N, c, i); \
		SET_##N(c, i, i->reg, do_imul2_##N(a, (u_##N)i->imm, &c->flags)); \
	}
INT_WORDS(IMUL2_FORMS, 0)

#define IMUL2_QUICK(N, unused) \
	INT_QUICK(imul2_m, N, tag_read, \
		  SET_##N(c, i, i->reg, do_imul2_##N(GET_##N(c, i, i->reg), *m, &c->flags)))
INT_WORDS(IMUL2_QUICK, 0)

INT_PICKER(pick_imul_2)
{
	INT_PICK_QUICK(BY_WORD, imul2_m);
	static insn_fn *const fns[][4] = { BY_WORD(imul2_rm), BY_WORD(imul2_m) };

	return fns[int_form(i)][int_size(i)];
}

INT_PICKER(pick_imul_3)
{
	static insn_fn *const fns[][4] = { BY_WORD(imul3_rm), BY_WORD(imul3_m) };

	return fns[int_form(i)][int_size(i)];
}

/* --- Division: what would raise #DE is found out before it runs here --- */

/* |high:low| / |d| does not fit the quotient, or d is 0. The dividend is N bits twice. */
#define OP_DIV(N, WIDE) \
	static inline bool div_overflows_##N(u_##N high, unused_arg u_##N low, u_##N d) \
	{ \
		return high >= d; \
	} \
	static inline bool idiv_overflows_##N(u_##N high, u_##N low, u_##N d) \
	{ \
		const u_##N min = (u_##N)((u_##N)1 << (8 * N - 1)); \
		bool negative = (s_##N)high < 0, d_negative = (s_##N)d < 0; \
		if (high == (u_##N)((s_##N)low >> (8 * N - 1))) { \
			return d == 0 || (d == (u_##N)-1 && low == min); \
		} \
		if (negative) { \
			low = (u_##N)-low; \
			high = (u_##N)(~high + (low == 0)); \
		} \
		if (d_negative) { \
			d = (u_##N)-d; \
		} \
		if (high >= d) { \
			return true; \
		} \
		u_##N q = (u_##N)((((unsigned __int128)high << (8 * N)) | low) / d); \
		return q > (negative == d_negative ? (u_##N)(min - 1) : min); \
	}
INT_SIZES(OP_DIV, 0)

#define OP_DIV_RUN(N, op) \
	static inline u_##N do_##op##_##N(u_##N high, u_##N low, u_##N d, u_##N *rest, \
					  uint16_t *f) \
	{ \
		uint64_t ax = *f; \
		u_##N q, r = high; \
		__asm__(FLAGS_IN "mov %[low], " RAX_##N "\n\t" #op SUF_##N " %[d]\n\t" \
			"mov " RAX_##N ", %[q]\n\t" FLAGS_OUT \
			: "+&a"(ax), [q] "=&r"(q), "+&d"(r) : [low] "r"(low), [d] "r"(d) : "cc"); \
		*f = (uint16_t)ax; \
		*rest = r; \
		return q; \
	}
INT_WORDS(OP_DIV_RUN, div)
INT_WORDS(OP_DIV_RUN, idiv)
#define OP_DIV_RUN_1(op) \
	static inline uint16_t do_##op##_1(uint16_t dividend, u_1 d, uint16_t *f) \
	{ \
		uint64_t ax = *f; \
		uint16_t q; \
		__asm__(FLAGS_IN "movw %[dividend], %%ax\n\t" #op "b %[d]\n\t" \
			"movw %%ax, %[q]\n\t" FLAGS_OUT \
			: "+&a"(ax), [q] "=&r"(q) : [dividend] "r"(dividend), [d] "q"(d) : "cc"); \
		*f = (uint16_t)ax; \
		return q; \
	}
OP_DIV_RUN_1(div)
OP_DIV_RUN_1(idiv)

#define DIV_BODY(N, op, source) \
	u_##N d = source, rest; \
	u_##N low = GET_##N(c, i, CPU_RAX), high = GET_##N(c, i, CPU_RDX); \
	if (op##_overflows_##N(high, low, d)) { \
		soft_fault_no_error(c, CPU_DE); \
	} \
	low = do_##op##_##N(high, low, d, &rest, &c->flags); \
	SET_##N(c, i, CPU_RAX, low); \
	SET_##N(c, i, CPU_RDX, rest);
#define DIV_BODY_1(op, source) \
	u_1 d = source; \
	uint16_t dividend = GET_2(c, i, CPU_RAX); \
	if (op##_overflows_1((u_1)(dividend >> 8), (u_1)dividend, d)) { \
		soft_fault_no_error(c, CPU_DE); \
	} \
	dividend = do_##op##_1(dividend, d, &c->flags); \
	SET_2(c, i, CPU_RAX, dividend);
#define DIV_FORMS(N, op) \
	SOFT_FN(op##_rm_##N) \
	{ \
		DIV_BODY(N, op, GET_##N(c, i, i->rm)) \
	} \
	SOFT_FN(op##_m_##N) \
	{ \
		DIV_BODY(N, op, LOAD(N, c, i)) \
	}
#define DIV(op) \
	INT_WORDS(DIV_FORMS, op) \
	SOFT_FN(op##_rm_1) \
	{ \
		DIV_BODY_1(op, GET_1(c, i, i->rm)) \
	} \
	SOFT_FN(op##_m_1) \
	{ \
		DIV_BODY_1(op, LOAD(1, c, i)) \
	} \
	INT_PICKER(pick_##op) \
	{ \
		static insn_fn *const fns[][4] = { BY_SIZE(op##_rm), BY_SIZE(op##_m) }; \
		return fns[int_form(i)][int_size(i)]; \
	}
DIV(div)
DIV(idiv)

/* --- Flags --- */

void op_clc(struct soft_cpu *c, unused_arg const struct insn *i)
{
	c->flags &= (uint16_t)~INT_F_CF;
}

void op_stc(struct soft_cpu *c, unused_arg const struct insn *i)
{
	c->flags |= INT_F_CF;
}

void op_cmc(struct soft_cpu *c, unused_arg const struct insn *i)
{
	c->flags ^= INT_F_CF;
}

void op_cld(struct soft_cpu *c, unused_arg const struct insn *i)
{
	c->s.rflags &= ~(uint64_t)CPU_FLAG_DF;
}

void op_std(struct soft_cpu *c, unused_arg const struct insn *i)
{
	c->s.rflags |= CPU_FLAG_DF;
}

/* SF ZF AF PF CF of AH */
enum { LAHF_FLAGS = 0xd5, LAHF_ONE = 2 };

void op_sahf(struct soft_cpu *c, unused_arg const struct insn *i)
{
	unsigned ah = c->s.gpr[CPU_RAX] >> 8 & LAHF_FLAGS;

	c->flags = (uint16_t)(ah << 8 | (c->flags & INT_F_OF));
}

void op_lahf(struct soft_cpu *c, unused_arg const struct insn *i)
{
	uint64_t ah = (c->flags >> 8 & LAHF_FLAGS) | LAHF_ONE;

	c->s.gpr[CPU_RAX] = (c->s.gpr[CPU_RAX] & ~UINT64_C(0xff00)) | ah << 8;
}

void op_salc(struct soft_cpu *c, const struct insn *i)
{
	SET_1(c, i, CPU_RAX, c->flags & INT_F_CF ? 0xff : 0);
}

/* --- Decimal arithmetic, which 64-bit mode lacks; SDM 2, of each instruction --- */

/* SF, ZF and PF of a byte, by the host. */
static uint16_t flags_of_byte(uint8_t v)
{
	unsigned fl = 0;

	__asm__("testb %1, %1\n\t" FLAGS_OUT : "=&a"(fl) : "q"(v) : "cc");
	return (uint16_t)(fl & (INT_F_SF | INT_F_ZF | INT_F_PF));
}

static void decimal_adjust(struct soft_cpu *c, int sign)
{
	uint8_t al = (uint8_t)c->s.gpr[CPU_RAX], old = al;
	bool carry = c->flags & INT_F_CF;
	unsigned f = 0;

	if ((al & 15) > 9 || c->flags & INT_F_AF) {
		f |= INT_F_AF | (sign < 0 && (old < 6 || carry) ? INT_F_CF : 0);
		al = (uint8_t)(al + 6 * sign);
	}
	if (old > 0x99 || carry) {
		f |= INT_F_CF;
		al = (uint8_t)(al + 0x60 * sign);
	}
	c->flags = (uint16_t)(f | flags_of_byte(al));
	*(uint8_t *)&c->s.gpr[CPU_RAX] = al;
}

void op_daa(struct soft_cpu *c, unused_arg const struct insn *i)
{
	decimal_adjust(c, 1);
}

void op_das(struct soft_cpu *c, unused_arg const struct insn *i)
{
	decimal_adjust(c, -1);
}

static void ascii_adjust(struct soft_cpu *c, unused_arg const struct insn *i, int sign)
{
	uint16_t ax = (uint16_t)c->s.gpr[CPU_RAX];
	unsigned f = 0;

	if ((ax & 15) > 9 || c->flags & INT_F_AF) {
		ax = (uint16_t)(ax + 0x106 * sign);
		f = INT_F_AF | INT_F_CF;
	}
	ax &= 0xff0f;
	c->flags = (uint16_t)(f | flags_of_byte((uint8_t)ax));
	SET_2(c, i, CPU_RAX, ax);
}

void op_aaa(struct soft_cpu *c, const struct insn *i)
{
	ascii_adjust(c, i, 1);
}

void op_aas(struct soft_cpu *c, const struct insn *i)
{
	ascii_adjust(c, i, -1);
}

void op_aam(struct soft_cpu *c, const struct insn *i)
{
	uint8_t al = (uint8_t)c->s.gpr[CPU_RAX], base = (uint8_t)i->imm;

	if (base == 0) {
		soft_fault_no_error(c, CPU_DE);
	}
	c->flags = flags_of_byte((uint8_t)(al % base));
	SET_2(c, i, CPU_RAX, (unsigned)(al / base) << 8 | al % base);
}

/* The flags are those of the addition, also the ones that the manuals leave open. */
void op_aad(struct soft_cpu *c, const struct insn *i)
{
	uint16_t ax = (uint16_t)c->s.gpr[CPU_RAX];
	uint8_t  al = (uint8_t)ax, product = (uint8_t)((ax >> 8) * (uint8_t)i->imm);
	unsigned fl = 0;

	__asm__("addb %2, %0\n\t" FLAGS_OUT : "+q"(al), "=&a"(fl) : "q"(product) : "cc");
	c->flags = (uint16_t)fl;
	SET_2(c, i, CPU_RAX, al);
}
