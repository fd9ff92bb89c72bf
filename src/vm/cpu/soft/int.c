/* SPDX-License-Identifier: Apache-2.0 */
/* Integer instructions of one kind each; int-alu.c has those that share their forms. */
#include "vm/cpu/soft/int-ops.h"

static inline void plain(struct soft_cpu *c, const struct insn *i)
{
	c->s.rip = soft_rip_of(c, i);
	c->next_rip = soft_rip_after(c, i);
	c->at = NULL;
	insn_table[i->row].fn(c, i);
}

void insn_plain(struct soft_cpu *c, const struct insn *i)
{
	plain(c, i);
	soft_next(c, i);
}

void insn_plain_last(struct soft_cpu *c, const struct insn *i)
{
	plain(c, i);
}

void op_ud(struct soft_cpu *c, unused_arg const struct insn *i)
{
	soft_fault_no_error(c, CPU_UD);
}

void insn_ud(struct soft_cpu *c, const struct insn *i)
{
	c->at = i;
	soft_fault_no_error(c, CPU_UD);
}

SOFT_PURE_FN(nop)
{
}

SOFT_PURE_FN(pause_host)
{
	__builtin_ia32_pause();
}

INT_PICKER(pick_nop)
{
	(void)i;
	return nop;
}

void op_mfence(unused_arg struct soft_cpu *c, unused_arg const struct insn *i)
{
	atomic_thread_fence(memory_order_seq_cst);
}

static void need_feature(struct soft_cpu *c, enum insn_feature feature)
{
	if (!(c->features & BIT(feature))) {
		soft_fault_no_error(c, CPU_UD);
	}
}

/* It may fault like a load of one byte; caches are the host's business. */
void op_clflush(struct soft_cpu *c, const struct insn *i)
{
	enum insn_feature feature = insn_feature(i);

	if (feature != INSN_F_NONE) {
		need_feature(c, feature);
	}
	(void)LOAD(1, c, i);
}

/* --- Moves --- */

#define MOV_FORMS(N, unused) \
	SOFT_PURE_FN(mov_rm_r_##N) \
	{ \
		SET_##N(c, i, i->rm, GET_##N(c, i, i->reg)); \
	} \
	SOFT_FN(mov_m_r_##N) \
	{ \
		STORE(N, c, i, GET_##N(c, i, i->reg)); \
	} \
	SOFT_PURE_FN(mov_r_rm_##N) \
	{ \
		SET_##N(c, i, i->reg, GET_##N(c, i, i->rm)); \
	} \
	SOFT_FN(mov_r_m_##N) \
	{ \
		u_##N v = LOAD(N, c, i); \
		SET_##N(c, i, i->reg, v); \
	} \
	SOFT_PURE_FN(mov_rm_imm_##N) \
	{ \
		SET_##N(c, i, i->rm, (u_##N)i->imm); \
	} \
	SOFT_FN(mov_m_imm_##N) \
	{ \
		STORE(N, c, i, (u_##N)i->imm); \
	} \
	SOFT_FN(mov_a_moffs_##N) \
	{ \
		u_##N v = (u_##N)soft_load(c, soft_linear(c, i->seg, i->imm, N, SOFT_READ), N); \
		SET_##N(c, i, CPU_RAX, v); \
	} \
	SOFT_FN(mov_moffs_a_##N) \
	{ \
		soft_store(c, soft_linear(c, i->seg, i->imm, N, SOFT_WRITE), N, \
			   GET_##N(c, i, CPU_RAX)); \
	}
INT_SIZES(MOV_FORMS, 0)

#define MOV_QUICK(N, unused) \
	INT_QUICK(mov_r_m, N, tag_read, SET_##N(c, i, i->reg, *m)) \
	INT_QUICK(mov_m_r, N, tag_write, *m = GET_##N(c, i, i->reg)) \
	INT_QUICK(mov_m_imm, N, tag_write, *m = (u_##N)i->imm)
INT_SIZES(MOV_QUICK, 0)

INT_PICKER(pick_mov_rm_r)
{
	INT_PICK_QUICK(BY_SIZE, mov_m_r);
	static insn_fn *const fns[][4] = { BY_SIZE(mov_rm_r), BY_SIZE(mov_m_r) };

	return fns[int_form(i)][int_size(i)];
}

INT_PICKER(pick_mov_r_rm)
{
	INT_PICK_QUICK(BY_SIZE, mov_r_m);
	static insn_fn *const fns[][4] = { BY_SIZE(mov_r_rm), BY_SIZE(mov_r_m) };

	return fns[int_form(i)][int_size(i)];
}

INT_PICKER(pick_mov_rm_imm)
{
	INT_PICK_QUICK(BY_SIZE, mov_m_imm);
	static insn_fn *const fns[][4] = { BY_SIZE(mov_rm_imm), BY_SIZE(mov_m_imm) };

	return fns[int_form(i)][int_size(i)];
}

INT_PICKER(pick_mov_z_imm)
{
	static insn_fn *const fns[] = BY_SIZE(mov_rm_imm);

	return fns[int_size(i)];
}

INT_PICKER(pick_mov_a_moffs)
{
	static insn_fn *const fns[] = BY_SIZE(mov_a_moffs);

	return fns[int_size(i)];
}

INT_PICKER(pick_mov_moffs_a)
{
	static insn_fn *const fns[] = BY_SIZE(mov_moffs_a);

	return fns[int_size(i)];
}

INT_PICKER(pick_movnti)
{
	return i->op_bytes == 8 ? mov_m_r_8 : mov_m_r_4;
}

#define LEA_FORM(N, unused) \
	SOFT_PURE_FN(lea_##N) \
	{ \
		SET_##N(c, i, i->reg, (u_##N)int_ea(c, i)); \
	} \
	SOFT_PURE_FN(lea_s_##N) \
	{ \
		SET_##N(c, i, i->reg, (u_##N)INT_AT_s(c, i)); \
	} \
	SOFT_PURE_FN(lea_x_##N) \
	{ \
		SET_##N(c, i, i->reg, (u_##N)INT_AT_x(c, i)); \
	} \
	SOFT_PURE_FN(lea_r_##N) \
	{ \
		SET_##N(c, i, i->reg, (u_##N)INT_AT_r(c, i)); \
	}
INT_WORDS(LEA_FORM, 0)

INT_PICKER(pick_lea)
{
	INT_PICK_QUICK(BY_WORD, lea);
	static insn_fn *const fns[] = BY_WORD(lea);

	return fns[int_size(i)];
}

/* Widening: N is the destination, S the source, as signed or unsigned type `as`. */
#define WIDEN(N, op, S, as) \
	SOFT_PURE_FN(op##_rm_##N) \
	{ \
		SET_##N(c, i, i->reg, (u_##N)(as##_##N)(as##_##S)GET_##S(c, i, i->rm)); \
	} \
	SOFT_FN(op##_m_##N) \
	{ \
		as##_##S v = (as##_##S)LOAD(S, c, i); \
		SET_##N(c, i, i->reg, (u_##N)(as##_##N)v); \
	}
/* Named by the destination's size. */
#define WIDEN_QUICK(N, op, S, as) \
	WIDEN_QUICK_FORM(s, N, op, S, as) \
	WIDEN_QUICK_FORM(x, N, op, S, as) \
	WIDEN_QUICK_FORM(r, N, op, S, as)
#define WIDEN_QUICK_FORM(form, N, op, S, as) \
	static void op##_m_##form##_##N(struct soft_cpu *c, const struct insn *i) \
	{ \
		uint64_t at = INT_AT_##form(c, i); \
		const struct soft_tlb_entry *e = soft__tlb(c, at); \
		if (__builtin_expect(at - e->tag_read > GMEM_PAGE_BYTES - S, 0)) { \
			op##_m_##N(c, i); \
			return; \
		} \
		as##_##S v = (as##_##S)*(const m_##S *)soft_tlb_host(e, at); \
		SET_##N(c, i, i->reg, (u_##N)(as##_##N)v); \
		soft_next(c, i); \
	}
#define WIDEN_PICKER(op) \
	INT_PICKER(pick_##op) \
	{ \
		INT_PICK_QUICK(BY_WORD, op##_m); \
		static insn_fn *const fns[][4] = { BY_WORD(op##_rm), BY_WORD(op##_m) }; \
		return fns[int_form(i)][int_size(i)]; \
	}
INT_WORDS(WIDEN, movzx_b, 1, u)
INT_WORDS(WIDEN, movsx_b, 1, s)
INT_WORDS(WIDEN, movzx_w, 2, u)
INT_WORDS(WIDEN, movsx_w, 2, s)
INT_WORDS(WIDEN_QUICK, movzx_b, 1, u)
INT_WORDS(WIDEN_QUICK, movsx_b, 1, s)
INT_WORDS(WIDEN_QUICK, movzx_w, 2, u)
INT_WORDS(WIDEN_QUICK, movsx_w, 2, s)
WIDEN_PICKER(movzx_b)
WIDEN_PICKER(movsx_b)
WIDEN_PICKER(movzx_w)
WIDEN_PICKER(movsx_w)

WIDEN(8, movsxd, 4, s)
WIDEN_QUICK(8, movsxd, 4, s)

/* With 66 AMD's CPUs still read 32 bits. */
SOFT_FN(movsxd_wide_2)
{
	u_4 v = LOAD(4, c, i);

	SET_2(c, i, i->reg, v);
}

/* Without REX.W it is a MOV. */
INT_PICKER(pick_movsxd)
{
	if (i->op_bytes == 2 && i->rm == INSN_NONE && __builtin_cpu_is("amd")) {
		return movsxd_wide_2;
	}
	static insn_fn *const quick[] = { movsxd_m_s_8, movsxd_m_x_8, movsxd_m_r_8 };
	static insn_fn *const fns[][4] = {
		{ NULL, mov_r_rm_2, mov_r_rm_4, movsxd_rm_8 },
		{ NULL, mov_r_m_2, mov_r_m_4, movsxd_m_8 },
	};
	unsigned form = int_quick(i, mode);

	if (i->op_bytes == 8 && form < INT_QUICK__COUNT) {
		return quick[form];
	}

	return fns[int_form(i)][int_size(i)];
}

#define CMOV_FORM(N, cc) \
	SOFT_PURE_FN(cmov_##cc##_rm_##N) \
	{ \
		u_##N v = GET_##N(c, i, i->rm); \
		SET_##N(c, i, i->reg, int_condition(c->flags, cc) ? v : GET_##N(c, i, i->reg)); \
	} \
	SOFT_FN(cmov_##cc##_m_##N) \
	{ \
		u_##N v = LOAD(N, c, i); \
		SET_##N(c, i, i->reg, int_condition(c->flags, cc) ? v : GET_##N(c, i, i->reg)); \
	}
#define CMOV_FORMS(cc, unused) CMOV_FORM(2, cc) CMOV_FORM(4, cc) CMOV_FORM(8, cc)
INT_CONDITIONS(CMOV_FORMS, 0)

INT_PICKER(pick_cmov)
{
#define CMOV_ROW(cc, unused) { BY_WORD(cmov_##cc##_rm), BY_WORD(cmov_##cc##_m) },
	static insn_fn *const fns[16][2][4] = { INT_CONDITIONS(CMOV_ROW, 0) };

	return fns[i->opcode & 15][int_form(i)][int_size(i)];
}

#define SET_FORMS(cc, unused) \
	SOFT_PURE_FN(set_##cc##_rm) \
	{ \
		SET_1(c, i, i->rm, int_condition(c->flags, cc)); \
	} \
	SOFT_FN(set_##cc##_m) \
	{ \
		STORE(1, c, i, int_condition(c->flags, cc)); \
	}
INT_CONDITIONS(SET_FORMS, 0)

INT_PICKER(pick_set)
{
#define SET_ROW(cc, unused) { set_##cc##_rm, set_##cc##_m },
	static insn_fn *const fns[16][2] = { INT_CONDITIONS(SET_ROW, 0) };

	return fns[i->opcode & 15][int_form(i)];
}

/* --- Exchanges --- */

#define XCHG_FORMS(N, unused) \
	SOFT_PURE_FN(xchg_rm_r_##N) \
	{ \
		u_##N a = GET_##N(c, i, i->rm), b = GET_##N(c, i, i->reg); \
		SET_##N(c, i, i->rm, b); \
		SET_##N(c, i, i->reg, a); \
	} \
	SOFT_FN(xchg_m_r_##N) \
	{ \
		uint64_t at = int_linear(c, i, N, SOFT_WRITE); \
		u_##N b = GET_##N(c, i, i->reg), a = b; \
		INT_RMW(N, c, at, true, \
			__asm__ volatile("xchg %0, %1" : "+q"(a), "+m"(*m) : : "memory"), \
			a = v; v = b); \
		SET_##N(c, i, i->reg, a); \
	} \
	SOFT_PURE_FN(xchg_z_a_##N) \
	{ \
		u_##N a = GET_##N(c, i, CPU_RAX); \
		SET_##N(c, i, CPU_RAX, GET_##N(c, i, i->rm)); \
		SET_##N(c, i, i->rm, a); \
	}
INT_SIZES(XCHG_FORMS, 0)

INT_PICKER(pick_xchg_rm_r)
{
	static insn_fn *const fns[][4] = {
		BY_SIZE(xchg_rm_r), BY_SIZE(xchg_m_r), BY_SIZE(xchg_m_r),
	};

	return fns[int_form(i)][int_size(i)];
}

INT_PICKER(pick_xchg_z_a)
{
	static insn_fn *const fns[] = BY_SIZE(xchg_z_a);

	/* 90 is NOP, with F3 PAUSE; but with REX.B it exchanges. */
	if (i->rm == CPU_RAX) {
		return i->prefix & INSN_REP ? pause_host : nop;
	}
	return fns[int_size(i)];
}

INT_PICKER(pick_prefetchw)
{
	/* AMD has no register form of it; elsewhere that is a NOP. */
	return i->rm != INSN_NONE && __builtin_cpu_is("amd") ? insn_ud : nop;
}

INT_SIZES(OP_BINARY, add)
INT_SIZES(OP_BINARY, sub)
#define OP_XADD(N, unused) \
	static inline u_##N lock_xadd_##N(m_##N *m, u_##N b, uint16_t *f) \
	{ \
		unsigned fl; \
		__asm__ volatile("lock xadd" SUF_##N " %2, %0\n\t" FLAGS_OUT \
				 : "+m"(*m), "=&a"(fl), "+q"(b) : : "cc", "memory"); \
		*f = (uint16_t)fl; \
		return b; \
	} \
	static inline u_##N plain_xadd_##N(m_##N *m, u_##N b, uint16_t *f) \
	{ \
		u_##N a = *m; \
		*m = do_add_##N(a, b, f); \
		return a; \
	}
INT_SIZES(OP_XADD, 0)

#define XADD_MEMORY(N, form, locked, exchange) \
	SOFT_FN(xadd_##form##_##N) \
	{ \
		uint64_t at = int_linear(c, i, N, SOFT_WRITE); \
		uint16_t f = c->flags; \
		u_##N b = GET_##N(c, i, i->reg), a = b; \
		INT_RMW(N, c, at, locked, a = exchange(m, b, &f), \
			a = v; v = do_add_##N(v, b, &f)); \
		c->flags = f; \
		SET_##N(c, i, i->reg, a); \
	}
#define XADD_FORMS(N, unused) \
	SOFT_PURE_FN(xadd_rm_##N) \
	{ \
		u_##N a = GET_##N(c, i, i->rm); \
		u_##N sum = do_add_##N(a, GET_##N(c, i, i->reg), &c->flags); \
		SET_##N(c, i, i->reg, a); \
		SET_##N(c, i, i->rm, sum); \
	} \
	XADD_MEMORY(N, m, false, plain_xadd_##N) \
	XADD_MEMORY(N, l, true, lock_xadd_##N)
INT_SIZES(XADD_FORMS, 0)

INT_PICKER(pick_xadd)
{
	static insn_fn *const fns[][4] = { BY_SIZE(xadd_rm), BY_SIZE(xadd_m), BY_SIZE(xadd_l) };

	return fns[int_form(i)][int_size(i)];
}

/* CMPXCHG: flags are those of the comparison. Memory is always written; a register is not when
 * the comparison fails, which shows in the upper half of a 32-bit one. */
#define OP_CMPXCHG(N, unused) \
	static inline u_##N lock_cmpxchg_##N(m_##N *m, u_##N old, u_##N new) \
	{ \
		__asm__ volatile("lock cmpxchg" SUF_##N " %2, %0" \
				 : "+m"(*m), "+a"(old) : "q"(new) : "cc", "memory"); \
		return old; \
	} \
	static inline u_##N plain_cmpxchg_##N(m_##N *m, u_##N old, u_##N new) \
	{ \
		u_##N v = *m; \
		*m = v == old ? new : v; \
		return v; \
	}
INT_SIZES(OP_CMPXCHG, 0)

#define CMPXCHG_MEMORY(N, form, locked, exchange) \
	SOFT_FN(cmpxchg_##form##_##N) \
	{ \
		uint64_t at = int_linear(c, i, N, SOFT_WRITE); \
		u_##N old = GET_##N(c, i, CPU_RAX), b = GET_##N(c, i, i->reg), seen = old; \
		INT_RMW(N, c, at, locked, seen = exchange(m, old, b), \
			seen = v; v = v == old ? b : v); \
		(void)do_sub_##N(old, seen, &c->flags); \
		if (seen != old) { \
			SET_##N(c, i, CPU_RAX, seen); \
		} \
	}
#define CMPXCHG_FORMS(N, unused) \
	SOFT_PURE_FN(cmpxchg_rm_##N) \
	{ \
		u_##N old = GET_##N(c, i, CPU_RAX), seen = GET_##N(c, i, i->rm); \
		(void)do_sub_##N(old, seen, &c->flags); \
		if (seen == old) { \
			SET_##N(c, i, i->rm, GET_##N(c, i, i->reg)); \
		} else { \
			SET_##N(c, i, CPU_RAX, seen); \
		} \
	} \
	CMPXCHG_MEMORY(N, m, false, plain_cmpxchg_##N) \
	CMPXCHG_MEMORY(N, l, true, lock_cmpxchg_##N)
INT_SIZES(CMPXCHG_FORMS, 0)

INT_PICKER(pick_cmpxchg)
{
	static insn_fn *const fns[][4] = {
		BY_SIZE(cmpxchg_rm), BY_SIZE(cmpxchg_m), BY_SIZE(cmpxchg_l),
	};

	return fns[int_form(i)][int_size(i)];
}

/* --- Bytes and bits --- */

SOFT_PURE_FN(bswap_2)
{
	uint64_t v = c->s.gpr[i->rm];

	/* Undefined: as the host has it. */
	__asm__(".byte 0x66, 0x0f, 0xc8" : "+a"(v));
	c->s.gpr[i->rm] = v;
}

SOFT_PURE_FN(bswap_4)
{
	SET_4(c, i, i->rm, __builtin_bswap32(GET_4(c, i, i->rm)));
}

SOFT_PURE_FN(bswap_8)
{
	SET_8(c, i, i->rm, __builtin_bswap64(GET_8(c, i, i->rm)));
}

INT_PICKER(pick_bswap)
{
	static insn_fn *const fns[] = BY_WORD(bswap);

	return fns[int_size(i)];
}

#define SWAP_2 __builtin_bswap16
#define SWAP_4 __builtin_bswap32
#define SWAP_8 __builtin_bswap64
#define MOVBE_FORMS(N, unused) \
	SOFT_FN(movbe_load_##N) \
	{ \
		need_feature(c, INSN_F_MOVBE); \
		u_##N v = LOAD(N, c, i); \
		SET_##N(c, i, i->reg, SWAP_##N(v)); \
	} \
	SOFT_FN(movbe_store_##N) \
	{ \
		need_feature(c, INSN_F_MOVBE); \
		STORE(N, c, i, SWAP_##N(GET_##N(c, i, i->reg))); \
	}
INT_WORDS(MOVBE_FORMS, 0)

INT_PICKER(pick_movbe_load)
{
	static insn_fn *const fns[] = BY_WORD(movbe_load);

	return fns[int_size(i)];
}

INT_PICKER(pick_movbe_store)
{
	static insn_fn *const fns[] = BY_WORD(movbe_store);

	return fns[int_size(i)];
}

/* Where the guest's CPU has no LZCNT or TZCNT, F3 means nothing and it is BSR or BSF. */
INT_WORDS(OP_SCAN, bsf)
INT_WORDS(OP_SCAN, bsr)
#define OP_COUNT(N, op) \
	__attribute__((target("bmi,lzcnt"))) OP_SCAN(N, op)
INT_WORDS(OP_COUNT, tzcnt)
INT_WORDS(OP_COUNT, lzcnt)

#define SCAN_FORMS(N, op) \
	SOFT_PURE_FN(op##_rm_##N) \
	{ \
		c->s.gpr[i->reg] = do_##op##_##N(c->s.gpr[i->reg], GET_##N(c, i, i->rm), \
						 &c->flags); \
	} \
	SOFT_FN(op##_m_##N) \
	{ \
		u_##N v = LOAD(N, c, i); \
		c->s.gpr[i->reg] = do_##op##_##N(c->s.gpr[i->reg], v, &c->flags); \
	}
#define SCAN_PICKER(op) \
	INT_PICKER(pick_##op) \
	{ \
		static insn_fn *const fns[][4] = { BY_WORD(op##_rm), BY_WORD(op##_m) }; \
		return fns[int_form(i)][int_size(i)]; \
	}
INT_WORDS(SCAN_FORMS, bsf)
INT_WORDS(SCAN_FORMS, bsr)
SCAN_PICKER(bsf)
SCAN_PICKER(bsr)

#define COUNT_FORM(N, op, feature, as, form, source) \
	SOFT_FN(op##_##form##_##N) \
	{ \
		u_##N v = source; \
		c->s.gpr[i->reg] = c->features & BIT(feature) ? \
			do_##op##_##N(c->s.gpr[i->reg], v, &c->flags) : \
			do_##as##_##N(c->s.gpr[i->reg], v, &c->flags); \
	}
#define COUNT_FORMS(N, op, feature, as) \
	COUNT_FORM(N, op, feature, as, rm, GET_##N(c, i, i->rm)) \
	COUNT_FORM(N, op, feature, as, m, LOAD(N, c, i))
INT_WORDS(COUNT_FORMS, tzcnt, INSN_F_BMI1, bsf)
INT_WORDS(COUNT_FORMS, lzcnt, INSN_F_LZCNT, bsr)
SCAN_PICKER(tzcnt)
SCAN_PICKER(lzcnt)

/* --- Sign extension of the accumulator --- */

SOFT_PURE_FN(cwde_2)
{
	SET_2(c, i, CPU_RAX, (uint16_t)(int8_t)c->s.gpr[CPU_RAX]);
}

SOFT_PURE_FN(cwde_4)
{
	SET_4(c, i, CPU_RAX, (uint32_t)(int16_t)c->s.gpr[CPU_RAX]);
}

SOFT_PURE_FN(cwde_8)
{
	SET_8(c, i, CPU_RAX, (uint64_t)(int32_t)c->s.gpr[CPU_RAX]);
}

INT_PICKER(pick_cwde)
{
	static insn_fn *const fns[] = BY_WORD(cwde);

	return fns[int_size(i)];
}

#define CDQ_FORM(N, unused) \
	SOFT_PURE_FN(cdq_##N) \
	{ \
		SET_##N(c, i, CPU_RDX, (s_##N)GET_##N(c, i, CPU_RAX) < 0 ? (u_##N)-1 : 0); \
	}
INT_WORDS(CDQ_FORM, 0)

INT_PICKER(pick_cdq)
{
	static insn_fn *const fns[] = BY_WORD(cdq);

	return fns[int_size(i)];
}
