/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Vector registers while translated code runs. They are the host's at first, and whenever C runs.
 * The first vector instruction of a block looks at c->xl_vec_off; where they are not the guest's a
 * routine loads them, if the guest has switched on what it needs and has masked all exceptions of
 * SIMD arithmetic. Else the interpreter runs the instruction and the block is left behind it.
 *
 * What may run changes only by instructions of the interpreter's; each call of it lets go of the
 * registers. LDMXCSR is native where it changes nothing of that.
 *
 * Where all upper halves are zero they are loaded so that the host knows it: instructions of SSE
 * are slower otherwise on some.
 */
#include "vm/cpu/soft/handlers.h"
#include "vm/cpu/soft/int.h"
#include "vm/cpu/soft/xl-parts.h"

enum {
	X_MXCSR = 24, X_XMM = 160, X_BV = 512, X_YMM = 576, REGS = 16,
	MXCSR_MASKS = 0x1f80,
	COND_Z = 4, COND_NZ = 5,
	PP_66 = 1,
};

static struct xl_rm part(unsigned off)
{
	return xl_gs(offsetof(struct soft_cpu, s.xsave) + off);
}

static struct xl_rm off_flag(unsigned vec)
{
	return vec == XV_X87 ? XG(xl_x87_off) :
	       xl_gs(offsetof(struct soft_cpu, xl_vec_off) + vec - XV_SSE);
}

static void mxcsr(struct xl_code *e, bool load, struct xl_rm at)
{
	xe_op(e, 0, 1, 0xae, load ? 2 : 3, at);
}

static void vzeroupper(struct xl_code *e)
{
	xe_8(e, 0xc5);
	xe_8(e, 0xf8);
	xe_8(e, 0x77);
}

static void clear_flag(struct xl_code *e, unsigned vec)
{
	xe_op(e, 0, 0, 0xc6, 0, off_flag(vec));
	xe_8(e, 0);
}

static void cmp_flag(struct xl_code *e, unsigned vec)
{
	xe_op(e, 0, 0, 0x80, 7, off_flag(vec));
	xe_8(e, 0);
}

/* --- Routines --- */

/* All of them, from the state. */
static void load_all(struct xl_code *e)
{
	uint8_t *clean = NULL, *end = NULL;

	mxcsr(e, true, part(X_MXCSR));
	xe_vex(e, 0, PP_66, 1, 0x6f, 0, 0, part(X_YMM));                    /* vmovdqa */
	for (unsigned i = 1; i < REGS; i++) {
		xe_vex(e, 0, PP_66, 1, 0xeb, 0, 0, part(X_YMM + 16 * i));   /* vpor */
	}
	xe_vex(e, 0, PP_66, 2, 0x17, 0, 0, xl_reg(0));                      /* vptest */
	clean = xe_jcc(e, COND_Z);
	for (unsigned i = 0; i < REGS; i++) {
		xe_vex(e, 0, 0, 1, 0x28, i, 0, part(X_XMM + 16 * i));       /* vmovaps */
		xe_vex(e, XE_L, PP_66, 3, 0x18, i, i, part(X_YMM + 16 * i));   /* vinsertf128 */
		xe_8(e, 1);
	}
	end = xe_jmp(e);
	xe_here(e, clean);
	vzeroupper(e);
	for (unsigned i = 0; i < REGS; i++) {
		xe_vex(e, 0, 0, 1, 0x28, i, 0, part(X_XMM + 16 * i));
	}
	xe_here(e, end);
}

void xv_spill(struct xl_code *e)
{
	uint8_t *done = NULL;

	xe_op(e, 0, 0, 0xc6, 0, XG(xl_x87_off));
	xe_8(e, 1);
	cmp_flag(e, XV_SSE);
	done = xe_jcc(e, COND_NZ);
	mxcsr(e, false, part(X_MXCSR));
	mxcsr(e, true, XG(xl_host_mxcsr));
	for (unsigned i = 0; i < REGS; i++) {
		xe_vex(e, 0, 0, 1, 0x29, i, 0, part(X_XMM + 16 * i));       /* vmovaps */
		xe_vex(e, XE_L, PP_66, 3, 0x19, i, 0, part(X_YMM + 16 * i));   /* vextractf128 */
		xe_8(e, 1);
	}
	vzeroupper(e);
	xe_op(e, XE_66, 0, 0xc7, 0, off_flag(XV_SSE));
	xe_n(e, 0x0101, 2);
	xe_here(e, done);
}

/* Are all these bits set, or none? The jump is taken where not. */
static uint8_t *all_set(struct xl_code *e, struct xl_rm word, uint32_t bits)
{
	xe_load32(e, XR_CX, word);
	xe_op(e, 0, 0, 0xf7, 2, xl_reg(XR_CX));
	xe_alu_imm(e, 0, 4, xl_reg(XR_CX), (int32_t)bits);
	return xe_jcc(e, COND_NZ);
}

static uint8_t *none_set(struct xl_code *e, struct xl_rm word, uint32_t bits)
{
	xe_load32(e, XR_CX, word);
	xe_alu_imm(e, 0, 4, xl_reg(XR_CX), (int32_t)bits);
	return xe_jcc(e, COND_NZ);
}

static void save_flags(struct xl_code *e)
{
	xe_store(e, XR_AX, xl_gpr_slot(CPU_RAX));
	xl_flags_to(e, XG(xl_vec_flags));
}

/* And the answer in RCX. */
static void restore_flags(struct xl_code *e, uint32_t answer)
{
	xl_flags_from(e, XG(xl_vec_flags));
	xe_load(e, XR_AX, xl_gpr_slot(CPU_RAX));
	xe_mov_imm32(e, XR_CX, answer);
	xe_8(e, 0xc3);
}

static void load(struct xl_code *e, unsigned vec)
{
	uint8_t *there = NULL;

	if (vec == XV_AVX) {
		xe_alu_imm(e, 0, 1, part(X_BV), CPU_XCR0_AVX);   /* or */
		clear_flag(e, XV_AVX);
	}
	cmp_flag(e, XV_SSE);
	there = xe_jcc(e, COND_Z);
	load_all(e);
	clear_flag(e, XV_SSE);
	xe_here(e, there);
}

/* Load them if the guest may. RCX 0: it may. Nothing else changes. */
static void enter(struct xl_code *e, unsigned vec)
{
	const uint32_t cr4 = CPU_CR4_OSFXSR | (vec == XV_AVX ? (uint32_t)CPU_CR4_OSXSAVE : 0);
	uint8_t *no[4] = { NULL };
	unsigned n = 0;

	save_flags(e);
	no[n++] = none_set(e, XG(s.cr0), CPU_CR0_EM | CPU_CR0_TS);
	no[n++] = all_set(e, XG(s.cr4), cr4);
	no[n++] = all_set(e, part(X_MXCSR), MXCSR_MASKS);
	if (vec == XV_AVX) {
		no[n++] = all_set(e, XG(s.xcr0), CPU_XCR0_SSE | CPU_XCR0_AVX);
	}
	load(e, vec);
	restore_flags(e, 0);
	while (n > 0) {
		xe_here(e, no[--n]);
	}
	restore_flags(e, 1);
}

/* x87 registers are there or not; if not, the interpreter brings them. */
static void enter_x87(struct xl_code *e)
{
	uint8_t *no[3] = { NULL };

	save_flags(e);
	no[0] = none_set(e, XG(s.cr0), CPU_CR0_EM | CPU_CR0_TS);
	xe_op(e, 0, 0, 0x80, 7, XG(fpu_live));
	xe_8(e, 0);
	no[1] = xe_jcc(e, COND_Z);
	xe_op(e, 0, 0, 0xd9, 7, XG(xl_x87_cw));            /* fnstcw */
	no[2] = all_set(e, XG(xl_x87_cw), XL_X87_MASKS);
	clear_flag(e, XV_X87);
	restore_flags(e, 0);
	for (unsigned i = 0; i < ARRAY_LEN(no); i++) {
		xe_here(e, no[i]);
	}
	restore_flags(e, 1);
}

void xv_write_routines(struct xl_code *e, const uint8_t *begin, struct xl_routines *ret)
{
	for (unsigned vec = XV_SSE; vec <= XV_AVX; vec++) {
		ret->vec_enter[vec] = (uint32_t)(e->at - begin);
		enter(e, vec);
		ret->vec_load[vec] = (uint32_t)(e->at - begin);
		load(e, vec);
		xe_8(e, 0xc3);
	}
	ret->vec_enter[XV_X87] = (uint32_t)(e->at - begin);
	enter_x87(e);
}

/* --- In a block --- */

/* Look, and go on here if it may be. */
static void look(struct xl_tr *t, unsigned vec)
{
	struct xl_code *e = &t->e;

	if (t->f.at == XF_HOST) {
		xe_op(e, 0, 1, 0xb6, XR_CX, off_flag(vec));      /* movzx */
		xl_slow_unless_zero(t, XL_WHY_INSN);
	} else {
		cmp_flag(e, vec);
		xl_slow(t, COND_NZ);
	}
	if (!t->full) {
		t->slow[t->n_slow - 1].load = (uint8_t)vec;
		t->slow[t->n_slow - 1].why = XL_WHY_INSN;
		t->slow[t->n_slow - 1].back = e->at;
	}
}

void xv_need(struct xl_tr *t, unsigned vec)
{
	if (t->vec < vec) {
		look(t, vec);
		t->vec = (uint8_t)vec;
	}
}

void xv_need_x87(struct xl_tr *t)
{
	if (!t->x87) {
		look(t, XV_X87);
		t->x87 = true;
	}
}

void xv_load_or(struct xl_tr *t, const struct xl_slow *s)
{
	struct xl_code *e = &t->e;
	uint8_t *may = NULL, *not = NULL;

	xl_call_routine(t, xl_routines(t->x)->vec_enter[s->load]);
	may = xe_jrcxz(e);
	not = xe_jmp(e);
	xe_here_8(e, may);
	xe_patch(e, xe_jmp(e), s->back);
	xe_here(e, not);
}

void xv_reload(struct xl_tr *t, unsigned vec)
{
	xl_call_routine(t, xl_routines(t->x)->vec_load[vec]);
}

/* To MXCSR, here only if it masks all exceptions and sets no reserved bit: then what is fixed of it
 * is no more than the masks. After another one the block is left. */
static void load_mxcsr(struct xl_tr *t, struct xl_rm at)
{
	struct xl_code *e = &t->e;

	xe_load32(e, XR_CX, at);
	xe_op(e, 0, 0, 0x89, XR_CX, XG(xl_tmp));
	xe_op(e, 0, 0, 0x8d, XR_CX, xl_mem(XR_CX, -MXCSR_MASKS));   /* lea */
	xe_pext(e, 0, XR_CX, XR_CX, XG(xl_mxcsr_fixed));
	xl_slow_unless_zero(t, XL_WHY_INSN);
	mxcsr(e, true, XG(xl_tmp));
	t->looked = t->n_slow;
}

bool xv_mxcsr(struct xl_tr *t)
{
	const struct insn *i = &t->insns[t->k].i;
	insn_fn *fn = insn_table[i->row].fn;
	bool load = fn == op_ldmxcsr;
	struct xl_rm at = { 0 };

	if ((!load && fn != op_stmxcsr) || xl_decoded(t)->fn == insn_ud || i->prefix & INSN_LOCK) {
		return false;
	}
	xl_wrote(t, 0);
	at = xl_operand(t, 4, !load, false);
	xv_need(t, i->prefix & INSN_VEX ? XV_AVX : XV_SSE);
	xl_access(t);
	if (load) {
		load_mxcsr(t, at);
	} else {
		mxcsr(&t->e, false, at);
	}
	return true;
}
