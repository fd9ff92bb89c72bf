/* SPDX-License-Identifier: Apache-2.0 */
/* Arithmetic, logic and shifts: everything whose forms are the same for many operations. */
#include "vm/cpu/soft/int-ops.h"

INT_SIZES(OP_BINARY, add)
INT_SIZES(OP_BINARY_LOCK, add)
INT_SIZES(OP_BINARY, or)
INT_SIZES(OP_BINARY_LOCK, or)
INT_SIZES(OP_BINARY, and)
INT_SIZES(OP_BINARY_LOCK, and)
INT_SIZES(OP_BINARY, sub)
INT_SIZES(OP_BINARY_LOCK, sub)
INT_SIZES(OP_BINARY, xor)
INT_SIZES(OP_BINARY_LOCK, xor)
INT_SIZES(OP_CARRY, adc)
INT_SIZES(OP_CARRY, sbb)

/* The forms of an operation that writes its destination, at one size. */
#define ALU_FORMS(N, op) \
	SOFT_PURE_FN(op##_rm_r_##N) \
	{ \
		SET_##N(c, i, i->rm, \
			do_##op##_##N(GET_##N(c, i, i->rm), GET_##N(c, i, i->reg), &c->flags)); \
	} \
	SOFT_FN(op##_m_r_##N) \
	{ \
		uint64_t at = int_linear(c, i, N, SOFT_WRITE); \
		uint16_t f = c->flags; \
		u_##N b = GET_##N(c, i, i->reg); \
		INT_RMW(N, c, at, false, *m = do_##op##_##N(*m, b, &f), \
			v = do_##op##_##N(v, b, &f)); \
		c->flags = f; \
	} \
	SOFT_FN(op##_l_r_##N) \
	{ \
		uint64_t at = int_linear(c, i, N, SOFT_WRITE); \
		uint16_t f = c->flags; \
		u_##N b = GET_##N(c, i, i->reg); \
		INT_RMW(N, c, at, true, lock_##op##_##N(m, b, &f), v = do_##op##_##N(v, b, &f)); \
		c->flags = f; \
	} \
	SOFT_PURE_FN(op##_r_rm_##N) \
	{ \
		SET_##N(c, i, i->reg, \
			do_##op##_##N(GET_##N(c, i, i->reg), GET_##N(c, i, i->rm), &c->flags)); \
	} \
	SOFT_FN(op##_r_m_##N) \
	{ \
		u_##N b = LOAD(N, c, i); \
		SET_##N(c, i, i->reg, do_##op##_##N(GET_##N(c, i, i->reg), b, &c->flags)); \
	} \
	SOFT_PURE_FN(op##_a_imm_##N) \
	{ \
		SET_##N(c, i, CPU_RAX, \
			do_##op##_##N(GET_##N(c, i, CPU_RAX), (u_##N)i->imm, &c->flags)); \
	} \
	SOFT_PURE_FN(op##_rm_imm_##N) \
	{ \
		SET_##N(c, i, i->rm, \
			do_##op##_##N(GET_##N(c, i, i->rm), (u_##N)i->imm, &c->flags)); \
	} \
	SOFT_FN(op##_m_imm_##N) \
	{ \
		uint64_t at = int_linear(c, i, N, SOFT_WRITE); \
		uint16_t f = c->flags; \
		u_##N b = (u_##N)i->imm; \
		INT_RMW(N, c, at, false, *m = do_##op##_##N(*m, b, &f), \
			v = do_##op##_##N(v, b, &f)); \
		c->flags = f; \
	} \
	SOFT_FN(op##_l_imm_##N) \
	{ \
		uint64_t at = int_linear(c, i, N, SOFT_WRITE); \
		uint16_t f = c->flags; \
		u_##N b = (u_##N)i->imm; \
		INT_RMW(N, c, at, true, lock_##op##_##N(m, b, &f), v = do_##op##_##N(v, b, &f)); \
		c->flags = f; \
	}

#define ALU_QUICK(N, op) \
	INT_QUICK(op##_r_m, N, tag_read, \
		  SET_##N(c, i, i->reg, do_##op##_##N(GET_##N(c, i, i->reg), *m, &c->flags))) \
	INT_QUICK(op##_m_r, N, tag_write, \
		  *m = do_##op##_##N(*m, GET_##N(c, i, i->reg), &c->flags)) \
	INT_QUICK(op##_m_imm, N, tag_write, *m = do_##op##_##N(*m, (u_##N)i->imm, &c->flags))

#define ALU(op) \
	INT_SIZES(ALU_FORMS, op) \
	INT_SIZES(ALU_QUICK, op) \
	INT_PICKER(pick_##op##_rm_r) \
	{ \
		INT_PICK_QUICK(BY_SIZE, op##_m_r); \
		static insn_fn *const fns[][4] = { \
			BY_SIZE(op##_rm_r), BY_SIZE(op##_m_r), BY_SIZE(op##_l_r) \
		}; \
		return fns[int_form(i)][int_size(i)]; \
	} \
	INT_PICKER(pick_##op##_r_rm) \
	{ \
		INT_PICK_QUICK(BY_SIZE, op##_r_m); \
		static insn_fn *const fns[][4] = { BY_SIZE(op##_r_rm), BY_SIZE(op##_r_m) }; \
		return fns[int_form(i)][int_size(i)]; \
	} \
	INT_PICKER(pick_##op##_a_imm) \
	{ \
		static insn_fn *const fns[] = BY_SIZE(op##_a_imm); \
		return fns[int_size(i)]; \
	} \
	INT_PICKER(pick_##op##_rm_imm) \
	{ \
		INT_PICK_QUICK(BY_SIZE, op##_m_imm); \
		static insn_fn *const fns[][4] = { \
			BY_SIZE(op##_rm_imm), BY_SIZE(op##_m_imm), BY_SIZE(op##_l_imm) \
		}; \
		return fns[int_form(i)][int_size(i)]; \
	}

ALU(add)
ALU(or)
ALU(adc)
ALU(sbb)
ALU(and)
ALU(sub)
ALU(xor)

/* Those that only set flags: CMP is SUB, TEST is AND. */
#define COMPARE_FORMS(N, op, as) \
	SOFT_PURE_FN(op##_rm_r_##N) \
	{ \
		(void)do_##as##_##N(GET_##N(c, i, i->rm), GET_##N(c, i, i->reg), &c->flags); \
	} \
	SOFT_FN(op##_m_r_##N) \
	{ \
		u_##N a = LOAD(N, c, i); \
		(void)do_##as##_##N(a, GET_##N(c, i, i->reg), &c->flags); \
	} \
	SOFT_PURE_FN(op##_a_imm_##N) \
	{ \
		(void)do_##as##_##N(GET_##N(c, i, CPU_RAX), (u_##N)i->imm, &c->flags); \
	} \
	SOFT_PURE_FN(op##_rm_imm_##N) \
	{ \
		(void)do_##as##_##N(GET_##N(c, i, i->rm), (u_##N)i->imm, &c->flags); \
	} \
	SOFT_FN(op##_m_imm_##N) \
	{ \
		u_##N a = LOAD(N, c, i); \
		(void)do_##as##_##N(a, (u_##N)i->imm, &c->flags); \
	}
#define COMPARE_QUICK(N, op, as) \
	INT_QUICK(op##_m_r, N, tag_read, \
		  (void)do_##as##_##N(*m, GET_##N(c, i, i->reg), &c->flags)) \
	INT_QUICK(op##_m_imm, N, tag_read, (void)do_##as##_##N(*m, (u_##N)i->imm, &c->flags))
#define COMPARE(op, as) \
	INT_SIZES(COMPARE_FORMS, op, as) \
	INT_SIZES(COMPARE_QUICK, op, as) \
	INT_PICKER(pick_##op##_rm_r) \
	{ \
		INT_PICK_QUICK(BY_SIZE, op##_m_r); \
		static insn_fn *const fns[][4] = { BY_SIZE(op##_rm_r), BY_SIZE(op##_m_r) }; \
		return fns[int_form(i)][int_size(i)]; \
	} \
	INT_PICKER(pick_##op##_a_imm) \
	{ \
		static insn_fn *const fns[] = BY_SIZE(op##_a_imm); \
		return fns[int_size(i)]; \
	} \
	INT_PICKER(pick_##op##_rm_imm) \
	{ \
		INT_PICK_QUICK(BY_SIZE, op##_m_imm); \
		static insn_fn *const fns[][4] = { BY_SIZE(op##_rm_imm), BY_SIZE(op##_m_imm) }; \
		return fns[int_form(i)][int_size(i)]; \
	}
COMPARE(cmp, sub)
COMPARE(test, and)

#define CMP_R_RM(N, unused) \
	SOFT_PURE_FN(cmp_r_rm_##N) \
	{ \
		(void)do_sub_##N(GET_##N(c, i, i->reg), GET_##N(c, i, i->rm), &c->flags); \
	} \
	SOFT_FN(cmp_r_m_##N) \
	{ \
		u_##N b = LOAD(N, c, i); \
		(void)do_sub_##N(GET_##N(c, i, i->reg), b, &c->flags); \
	}
INT_SIZES(CMP_R_RM, 0)
#define CMP_R_QUICK(N, unused) \
	INT_QUICK(cmp_r_m, N, tag_read, (void)do_sub_##N(GET_##N(c, i, i->reg), *m, &c->flags))
INT_SIZES(CMP_R_QUICK, 0)

INT_PICKER(pick_cmp_r_rm)
{
	INT_PICK_QUICK(BY_SIZE, cmp_r_m);
	static insn_fn *const fns[][4] = { BY_SIZE(cmp_r_rm), BY_SIZE(cmp_r_m) };

	return fns[int_form(i)][int_size(i)];
}

/* One operand. NOT leaves the flags, so its asm takes them out and in again. */
INT_SIZES(OP_UNARY, inc)
INT_SIZES(OP_UNARY, dec)
INT_SIZES(OP_UNARY, neg)
#define OP_NOT(N, unused) \
	static inline u_##N do_not_##N(u_##N a, unused_arg uint16_t *f) \
	{ \
		return (u_##N)~a; \
	} \
	static inline void lock_not_##N(m_##N *m, unused_arg uint16_t *f) \
	{ \
		__asm__ volatile("lock not" SUF_##N " %0" : "+m"(*m) : : "memory"); \
	}
INT_SIZES(OP_NOT, 0)

#define UNARY_FORMS(N, op) \
	SOFT_PURE_FN(op##_rm_##N) \
	{ \
		SET_##N(c, i, i->rm, do_##op##_##N(GET_##N(c, i, i->rm), &c->flags)); \
	} \
	SOFT_FN(op##_m_##N) \
	{ \
		uint64_t at = int_linear(c, i, N, SOFT_WRITE); \
		uint16_t f = c->flags; \
		INT_RMW(N, c, at, false, *m = do_##op##_##N(*m, &f), v = do_##op##_##N(v, &f)); \
		c->flags = f; \
	} \
	SOFT_FN(op##_l_##N) \
	{ \
		uint64_t at = int_linear(c, i, N, SOFT_WRITE); \
		uint16_t f = c->flags; \
		INT_RMW(N, c, at, true, lock_##op##_##N(m, &f), v = do_##op##_##N(v, &f)); \
		c->flags = f; \
	}
#define UNARY(op) \
	INT_SIZES(UNARY_FORMS, op) \
	INT_PICKER(pick_##op) \
	{ \
		static insn_fn *const fns[][4] = { \
			BY_SIZE(op##_rm), BY_SIZE(op##_m), BY_SIZE(op##_l) \
		}; \
		return fns[int_form(i)][int_size(i)]; \
	}
UNARY(inc)
UNARY(dec)
UNARY(neg)
UNARY(not)

INT_PICKER(pick_inc_z)
{
	return i->op_bytes == 2 ? inc_rm_2 : inc_rm_4;
}

INT_PICKER(pick_dec_z)
{
	return i->op_bytes == 2 ? dec_rm_2 : dec_rm_4;
}

/* Shifts and rotates */
#define SHIFT_FORM(N, op, form, count) \
	SOFT_PURE_FN(op##_##form##_rm_##N) \
	{ \
		SET_##N(c, i, i->rm, do_##op##_##N(GET_##N(c, i, i->rm), count, &c->flags)); \
	} \
	SOFT_FN(op##_##form##_m_##N) \
	{ \
		uint64_t at = int_linear(c, i, N, SOFT_WRITE); \
		uint16_t f = c->flags; \
		uint8_t by = count; \
		INT_RMW(N, c, at, false, *m = do_##op##_##N(*m, by, &f), \
			v = do_##op##_##N(v, by, &f)); \
		c->flags = f; \
	}
#define SHIFT_FORMS(N, op) \
	OP_SHIFT(N, op) \
	SHIFT_FORM(N, op, imm, (uint8_t)i->imm) \
	SHIFT_FORM(N, op, one, 1) \
	SHIFT_FORM(N, op, cl, (uint8_t)c->s.gpr[CPU_RCX])
#define SHIFT_PICKER(op, form) \
	INT_PICKER(pick_##op##_##form) \
	{ \
		static insn_fn *const fns[][4] = { \
			BY_SIZE(op##_##form##_rm), BY_SIZE(op##_##form##_m) \
		}; \
		return fns[int_form(i)][int_size(i)]; \
	}
#define SHIFT(op) \
	INT_SIZES(SHIFT_FORMS, op) \
	SHIFT_PICKER(op, imm) \
	SHIFT_PICKER(op, one) \
	SHIFT_PICKER(op, cl)
SHIFT(rol)
SHIFT(ror)
SHIFT(rcl)
SHIFT(rcr)
SHIFT(shl)
SHIFT(shr)
SHIFT(sar)

#define SHIFT2_FORM(N, op, form, count) \
	SOFT_PURE_FN(op##_##form##_rm_##N) \
	{ \
		SET_##N(c, i, i->rm, do_##op##_##N(GET_##N(c, i, i->rm), GET_##N(c, i, i->reg), \
						   count, &c->flags)); \
	} \
	SOFT_FN(op##_##form##_m_##N) \
	{ \
		uint64_t at = int_linear(c, i, N, SOFT_WRITE); \
		uint16_t f = c->flags; \
		uint8_t by = count; \
		u_##N b = GET_##N(c, i, i->reg); \
		INT_RMW(N, c, at, false, *m = do_##op##_##N(*m, b, by, &f), \
			v = do_##op##_##N(v, b, by, &f)); \
		c->flags = f; \
	}
#define SHIFT2_FORMS(N, op) \
	OP_SHIFT2(N, op) \
	SHIFT2_FORM(N, op, imm, (uint8_t)i->imm) \
	SHIFT2_FORM(N, op, cl, (uint8_t)c->s.gpr[CPU_RCX])
#define SHIFT2_PICKER(op, form) \
	INT_PICKER(pick_##op##_##form) \
	{ \
		static insn_fn *const fns[][4] = { \
			BY_WORD(op##_##form##_rm), BY_WORD(op##_##form##_m) \
		}; \
		return fns[int_form(i)][int_size(i)]; \
	}
#define SHIFT2(op) \
	INT_WORDS(SHIFT2_FORMS, op) \
	SHIFT2_PICKER(op, imm) \
	SHIFT2_PICKER(op, cl)
SHIFT2(shld)
SHIFT2(shrd)

/* Bits. With a register as the second operand memory is a bit string: the element that holds
 * the bit is addressed, before the segment is added. */
INT_WORDS(OP_BIT, bt)
INT_WORDS(OP_BIT, bts)
INT_WORDS(OP_BIT, btr)
INT_WORDS(OP_BIT, btc)
INT_WORDS(OP_BIT_LOCK, bts)
INT_WORDS(OP_BIT_LOCK, btr)
INT_WORDS(OP_BIT_LOCK, btc)

static uint64_t address_size(const struct insn *i, uint64_t ea)
{
	return i->ad_bytes == 8 ? ea : i->ad_bytes == 4 ? (uint32_t)ea : (uint16_t)ea;
}

#define BIT_AT(N) \
	address_size(i, int_ea(c, i) + \
		     (uint64_t)((s_##N)GET_##N(c, i, i->reg) >> (3 + __builtin_ctz(N))) * N)

#define BIT_FORMS(N, op) \
	SOFT_PURE_FN(op##_r_rm_##N) \
	{ \
		SET_##N(c, i, i->rm, \
			do_##op##_##N(GET_##N(c, i, i->rm), GET_##N(c, i, i->reg), &c->flags)); \
	} \
	SOFT_PURE_FN(op##_imm_rm_##N) \
	{ \
		SET_##N(c, i, i->rm, \
			do_##op##_##N(GET_##N(c, i, i->rm), (u_##N)i->imm, &c->flags)); \
	}
#define BIT_MEMORY(N, op, form, lock, bit, ea) \
	SOFT_FN(op##_##form##_##N) \
	{ \
		uint64_t at = soft_linear(c, i->seg, ea, N, SOFT_WRITE); \
		uint16_t f = c->flags; \
		u_##N b = (bit) & (8 * N - 1); \
		INT_RMW(N, c, at, i->prefix & INSN_LOCK, lock, v = do_##op##_##N(v, b, &f)); \
		c->flags = f; \
	}
#define BIT_MEMORY_FORMS(N, op) \
	BIT_MEMORY(N, op, r_m, *m = do_##op##_##N(*m, b, &f), GET_##N(c, i, i->reg), BIT_AT(N)) \
	BIT_MEMORY(N, op, r_l, lock_##op##_##N(m, b, &f), GET_##N(c, i, i->reg), BIT_AT(N)) \
	BIT_MEMORY(N, op, imm_m, *m = do_##op##_##N(*m, b, &f), (u_##N)i->imm, int_ea(c, i)) \
	BIT_MEMORY(N, op, imm_l, lock_##op##_##N(m, b, &f), (u_##N)i->imm, int_ea(c, i))
#define BT_FORMS(N, unused) \
	SOFT_PURE_FN(bt_r_rm_##N) \
	{ \
		(void)do_bt_##N(GET_##N(c, i, i->rm), GET_##N(c, i, i->reg), &c->flags); \
	} \
	SOFT_PURE_FN(bt_imm_rm_##N) \
	{ \
		(void)do_bt_##N(GET_##N(c, i, i->rm), (u_##N)i->imm, &c->flags); \
	} \
	SOFT_FN(bt_r_m_##N) \
	{ \
		uint64_t at = soft_linear(c, i->seg, BIT_AT(N), N, SOFT_READ); \
		u_##N v = (u_##N)soft_load(c, at, N); \
		(void)do_bt_##N(v, GET_##N(c, i, i->reg), &c->flags); \
	} \
	SOFT_FN(bt_imm_m_##N) \
	{ \
		u_##N v = LOAD(N, c, i); \
		(void)do_bt_##N(v, (u_##N)i->imm, &c->flags); \
	}
INT_WORDS(BT_FORMS, 0)

INT_PICKER(pick_bt_r)
{
	static insn_fn *const fns[][4] = { BY_WORD(bt_r_rm), BY_WORD(bt_r_m) };

	return fns[int_form(i)][int_size(i)];
}

INT_PICKER(pick_bt_imm)
{
	static insn_fn *const fns[][4] = { BY_WORD(bt_imm_rm), BY_WORD(bt_imm_m) };

	return fns[int_form(i)][int_size(i)];
}

#define BITS(op) \
	INT_WORDS(BIT_FORMS, op) \
	INT_WORDS(BIT_MEMORY_FORMS, op) \
	INT_PICKER(pick_##op##_r) \
	{ \
		static insn_fn *const fns[][4] = { \
			BY_WORD(op##_r_rm), BY_WORD(op##_r_m), BY_WORD(op##_r_l) \
		}; \
		return fns[int_form(i)][int_size(i)]; \
	} \
	INT_PICKER(pick_##op##_imm) \
	{ \
		static insn_fn *const fns[][4] = { \
			BY_WORD(op##_imm_rm), BY_WORD(op##_imm_m), BY_WORD(op##_imm_l) \
		}; \
		return fns[int_form(i)][int_size(i)]; \
	}
BITS(bts)
BITS(btr)
BITS(btc)
