/* SPDX-License-Identifier: Apache-2.0 */
/*
 * MOVS, STOS and LODS upwards, of 64-bit addresses. With REP, MOVS and STOS are the host's own, a
 * page at a time: RSI, RDI and RCX are right between two pages, where the interpreter takes over
 * if the next one is no hit in the TLB or somebody wants something.
 *
 * In direct blocks they go by the mapped memory, a large piece at a time. Each address has to begin
 * in one of the two ranges, and then ends in them, or on what is reserved behind them: there, and
 * wherever else nothing is mapped, the host's instruction faults, and says how far it has come.
 * What could be read again where it was just written, by another address, is the interpreter's
 * (docs/decisions/154).
 */
#include "vm/cpu/soft/handlers.h"
#include "vm/cpu/soft/xl-parts.h"
#include "vm/cpu/soft/xl-shadow.h"

enum {
	COND_C = 2, COND_AE = 3, COND_Z = 4, COND_NZ = 5, COND_BE = 6, COND_A = 7,
	BIT_DF = 10,
	PART = 4096,        /* of counted mode: string.c */
	PIECE = 64 << 10,   /* elements between two looks at what is wanted */
	AHEAD = 256,        /* bytes that a host's REP MOVS may read before it writes; 64 were seen */
};

/* --- Routines --- */

/* RCX: the entry of the TLB for a register; R11: its offset in the page. The jump is taken where
 * not even one element is there. */
static uint8_t *lookup(struct xl_code *e, unsigned reg, unsigned bytes, bool write,
		       const uint8_t *fill)
{
	const int32_t tag = write ? offsetof(struct soft_tlb_entry, tag_write) :
				    offsetof(struct soft_tlb_entry, tag_read);
	const uint8_t *again = e->at;
	uint8_t *hit = NULL, *no = NULL;

	xe_mov(e, XR_11, reg);
	xl_tlb_entry(e);
	xe_alu(e, XE_W, 5, XR_11, xl_mem(XR_CX, tag));
	xe_alu_imm(e, XE_W, 7, xl_reg(XR_11), (int32_t)(GMEM_PAGE_BYTES - bytes));
	hit = xe_jcc(e, COND_BE);
	xe_patch(e, xe_call(e), fill);
	xe_op(e, 0, 0, 0x85, XR_CX, xl_reg(XR_CX));
	xe_patch(e, xe_jcc(e, COND_Z), again);
	no = xe_jmp(e);
	xe_here(e, hit);
	return no;
}

/* reg = min(reg, other) */
static void at_most(struct xl_code *e, unsigned reg, unsigned other)
{
	xe_alu(e, XE_W, 7, reg, xl_reg(other));
	xe_op(e, XE_W, 1, 0x47, reg, xl_reg(other));     /* cmova */
}

/* reg = bytes of a page from the offset in R11 on */
static void left_in_page(struct xl_code *e, unsigned reg)
{
	xe_mov_imm32(e, reg, GMEM_PAGE_BYTES);
	xe_alu(e, XE_W, 5, reg, xl_reg(XR_11));
}

static void push(struct xl_code *e, unsigned reg)
{
	xe_8(e, 0x50 | reg);
}

static void pop(struct xl_code *e, unsigned reg)
{
	xe_8(e, 0x58 | reg);
}

/* RDX: a number of bytes to one of elements, no more than are wanted; those are taken from RCX of
 * the guest. */
static void elements(struct xl_code *e, unsigned log2)
{
	if (log2) {
		xe_op(e, XE_W, 0, 0xc1, 5, xl_reg(XR_DX));   /* shr */
		xe_8(e, log2);
	}
	at_most(e, XR_DX, XR_10);
	xe_alu(e, XE_W, 5, XR_10, xl_reg(XR_DX));
}

/* REP and the instruction. */
static void host_rep(struct xl_code *e, unsigned opcode, unsigned log2)
{
	if (log2 == 1) {
		xe_8(e, 0x66);
	}
	xe_8(e, 0xf3);
	if (log2 == 3) {
		xe_8(e, 0x48);
	}
	xe_8(e, opcode | (log2 > 0));
}

/* A page of MOVS; RAX may change. */
static void page_of_movs(struct xl_code *e, unsigned log2, const uint8_t *const fill[2],
			 uint8_t *ret_no[2])
{
	const int32_t host = offsetof(struct soft_tlb_entry, host);

	ret_no[0] = lookup(e, XR_SI, 1u << log2, false, fill[false]);
	left_in_page(e, XR_DX);
	xe_load(e, XR_AX, xl_mem(XR_CX, host));
	xe_alu(e, XE_W, 0, XR_AX, xl_reg(XR_11));
	ret_no[1] = lookup(e, XR_DI, 1u << log2, true, fill[true]);
	push(e, XR_SI);
	push(e, XR_DI);
	xe_mov(e, XR_SI, XR_AX);
	xe_load(e, XR_DI, xl_mem(XR_CX, host));
	xe_alu(e, XE_W, 0, XR_DI, xl_reg(XR_11));
	left_in_page(e, XR_AX);
	at_most(e, XR_DX, XR_AX);
	elements(e, log2);
	xe_mov(e, XR_CX, XR_DX);
	host_rep(e, 0xa4, log2);
	pop(e, XR_DI);
	pop(e, XR_SI);
	xe_lea(e, XR_SI, xl_mem_index(XR_SI, XR_DX, log2, 0));
}

/* A page of STOS. */
static void page_of_stos(struct xl_code *e, unsigned log2, const uint8_t *const fill[2],
			 uint8_t *ret_no[2])
{
	ret_no[0] = lookup(e, XR_DI, 1u << log2, true, fill[true]);
	ret_no[1] = NULL;
	left_in_page(e, XR_DX);
	elements(e, log2);
	xe_alu(e, XE_W, 0, XR_11, xl_mem(XR_CX, offsetof(struct soft_tlb_entry, host)));
	push(e, XR_DI);
	xe_mov(e, XR_DI, XR_11);
	xe_mov(e, XR_CX, XR_DX);
	host_rep(e, 0xaa, log2);
	pop(e, XR_DI);
}

/* The jump is taken where the direction is downwards. */
static uint8_t *downwards(struct xl_code *e)
{
	const struct xl_rm df = xl_gs(offsetof(struct soft_cpu, s.rflags) + BIT_DF / 8);

	xe_op(e, 0, 0, 0xf6, 0, df);                          /* test */
	xe_8(e, 1 << BIT_DF % 8);
	return xe_jcc(e, COND_NZ);
}

/* ZF: all of it is done. RCX and R11 are lost. */
static void write_rep(struct xl_code *e, bool movs, unsigned log2, const uint8_t *const fill[2])
{
	uint8_t *no[4] = { NULL }, *done[2] = { NULL };

	push(e, XR_AX);
	push(e, XR_DX);
	no[2] = downwards(e);
	xe_op(e, XE_W, 0, 0x85, XR_10, xl_reg(XR_10));
	done[0] = xe_jcc(e, COND_Z);

	const uint8_t *again = e->at;

	(movs ? page_of_movs : page_of_stos)(e, log2, fill, no);
	xe_lea(e, XR_DI, xl_mem_index(XR_DI, XR_DX, log2, 0));
	xe_op(e, XE_W, 0, 0x85, XR_10, xl_reg(XR_10));
	done[1] = xe_jcc(e, COND_Z);
	xe_alu_imm(e, 0, 7, XG(wants), 0);
	xe_patch(e, xe_jcc(e, COND_Z), again);
	for (unsigned k = 0; k < ARRAY_LEN(no); k++) {
		if (no[k]) {
			xe_here(e, no[k]);
		}
	}
	xe_op(e, XE_W, 0, 0x85, XR_SP, xl_reg(XR_SP));   /* test: it is not 0 */
	xe_here(e, done[0]);
	xe_here(e, done[1]);
	pop(e, XR_DX);
	pop(e, XR_AX);
	xe_8(e, 0xc3);
}

/* On the stack: how far the address in a register is mapped from itself. The jump is taken where it
 * is in neither range. */
static uint8_t *push_distance(struct xl_code *e, unsigned reg)
{
	uint8_t *high = NULL, *low = NULL, *no = NULL;

	xe_load(e, XR_11, XG(xl_distance));
	xe_op(e, XE_W, 1, 0xba, 4, xl_reg(reg));                      /* bt */
	xe_8(e, SHADOW_HIGH_BIT);
	high = xe_jcc(e, COND_C);
	xe_mov_imm32(e, XR_11, 0);
	xe_pext(e, XE_W, XR_CX, reg, XG(xl_not_low));
	low = xe_jrcxz(e);
	no = xe_jmp(e);
	xe_here_8(e, low);
	xe_here(e, high);
	xe_8(e, 0x41);
	push(e, XR_11 & 7);
	return no;
}

static void stack_by(struct xl_code *e, int32_t by)
{
	xe_lea(e, XR_SP, xl_mem(XR_SP, by));
}

/* R10 and RCX: how many elements are left, and how many of them the host's instruction is to do;
 * RSI and RDI are the host's. */
static void to_host(struct xl_code *e, bool movs, unsigned log2)
{
	if (movs) {
		xe_alu(e, XE_W, 0, XR_SI, xl_mem(XR_SP, 0));
	}
	xe_alu(e, XE_W, 0, XR_DI, xl_mem(XR_SP, movs ? 8 : 0));
	xe_mov_imm32(e, XR_CX, PIECE >> log2);
	at_most(e, XR_CX, XR_10);
	xe_alu(e, XE_W, 5, XR_10, xl_reg(XR_CX));
}

/* The jump is taken where what is written may be read a little later by another address: the host
 * does not see that it is the same. */
static uint8_t *within(struct xl_code *e, unsigned log2)
{
	uint8_t *by_one = NULL, *far = NULL, *ret = NULL;

	xe_mov(e, XR_11, XR_DI);
	xe_alu(e, XE_W, 5, XR_11, xl_reg(XR_SI));
	xe_alu_imm(e, XE_W, 7, xl_reg(XR_11), GMEM_PAGE_BYTES);
	by_one = xe_jcc(e, COND_C);
	xe_alu_imm(e, 0, 5, xl_reg(XR_11), 1);
	xe_alu_imm(e, 0, 4, xl_reg(XR_11), GMEM_PAGE_BYTES - 1);
	xe_alu_imm(e, 0, 7, xl_reg(XR_11), AHEAD - 1);
	far = xe_jcc(e, COND_AE);
	if (log2) {
		xe_op(e, 0, 0, 0xc1, 5, xl_reg(XR_11));      /* shr */
		xe_8(e, log2);
	}
	xe_alu(e, 0, 7, XR_11, xl_reg(XR_CX));
	ret = xe_jcc(e, COND_C);
	xe_here(e, by_one);
	xe_here(e, far);
	return ret;
}

/* The guest's again, whether all of them are done or not. */
static void to_guest(struct xl_code *e, bool movs)
{
	if (movs) {
		xe_alu(e, XE_W, 5, XR_SI, xl_mem(XR_SP, 0));
	}
	xe_alu(e, XE_W, 5, XR_DI, xl_mem(XR_SP, movs ? 8 : 0));
	stack_by(e, movs ? 16 : 8);
	xe_alu(e, XE_W, 0, XR_10, xl_reg(XR_CX));
}

/* The same of mapped memory. CF: there is something else to do before the rest. */
static void write_direct(struct xl_code *e, const uint8_t *begin, bool movs, unsigned log2,
			 struct xl_site *ret)
{
	uint8_t *down = NULL, *near = NULL, *no[3] = { NULL }, *done[2] = { NULL };
	const uint8_t *again = NULL, *leave = NULL;

	/* First of all, for the interpreter leads back to here. */
	xe_op(e, XE_W, 0, 0x85, XR_10, xl_reg(XR_10));
	done[0] = xe_jcc(e, COND_Z);
	down = downwards(e);
	again = e->at;
	no[0] = push_distance(e, XR_DI);
	no[1] = movs ? push_distance(e, XR_SI) : NULL;
	to_host(e, movs, log2);
	near = movs ? within(e, log2) : NULL;
	ret->at = (uint32_t)(e->at - begin);
	host_rep(e, movs ? 0xa4 : 0xaa, log2);
	ret->way = (uint32_t)(e->at - begin);
	to_guest(e, movs);
	xe_op(e, XE_W, 0, 0x85, XR_CX, xl_reg(XR_CX));
	no[2] = xe_jcc(e, COND_NZ);                      /* it has faulted */
	xe_op(e, XE_W, 0, 0x85, XR_10, xl_reg(XR_10));
	done[1] = xe_jcc(e, COND_Z);
	xe_alu_imm(e, 0, 7, XG(wants), 0);
	xe_patch(e, xe_jcc(e, COND_Z), again);
	xe_here(e, down);
	leave = e->at;
	xe_op(e, XE_W, 0, 0x85, XR_SP, xl_reg(XR_SP));   /* test: it is not 0 */
	xe_8(e, 0xf9);                                   /* stc */
	xe_8(e, 0xc3);
	if (movs) {
		xe_here(e, near);
		to_guest(e, movs);
		xe_patch(e, xe_jmp(e), leave);
		xe_here(e, no[1]);
		stack_by(e, 8);
	}
	xe_here(e, no[0]);
	xe_here(e, no[2]);
	xe_op(e, XE_W, 0, 0x85, XR_SP, xl_reg(XR_SP));
	xe_here(e, done[0]);
	xe_here(e, done[1]);
	xe_8(e, 0xc3);
}

void xl_string_write_routines(struct xl_code *e, const uint8_t *begin, struct xl_routines *ret)
{
	const uint8_t *const fill[2] = { begin + ret->fill[false], begin + ret->fill[true] };

	for (unsigned movs = 0; movs < 2; movs++) {
		for (unsigned log2 = 0; log2 < ARRAY_LEN(ret->rep[movs]); log2++) {
			ret->rep[movs][log2] = (uint32_t)(e->at - begin);
			write_rep(e, movs, log2, fill);
			ret->rep_direct[movs][log2] = (uint32_t)(e->at - begin);
			write_direct(e, begin, movs, log2, &ret->rep_sites[movs][log2]);
		}
	}
}

/* --- In a block --- */

static unsigned log2_of(unsigned bytes)
{
	return (unsigned)__builtin_ctz(bytes);
}

/* Of mapped memory. Behind the interpreter it goes on here: what was missing may be mapped. */
static void rep_direct(struct xl_tr *t, const struct insn *i, bool movs)
{
	const uint8_t *again = t->e.at;

	t->insns[t->k].place = XP_EITHER;
	xl_call_routine(t, xl_routines(t->x)->rep_direct[movs][log2_of(i->op_bytes)]);
	xl_slow_from(t, xe_jcc(&t->e, COND_C), XL_WHY_INSN);
	xl_slow_again(t, again);
	xl_slow(t, COND_NZ);
	xl_slow_again(t, again);
}

static void rep(struct xl_tr *t, const struct insn *i, bool movs)
{
	struct xl_code *e = &t->e;

	xf_written(t, (unsigned)(BIT(CPU_RSI) | BIT(CPU_RDI) | BIT(CPU_RCX)));
	xf_clobber(t);
	if (t->c->eng->counted) {
		/* More than one part counts as several instructions. */
		xe_alu_imm(e, XE_W, 7, xl_reg(XR_10), PART);
		xl_slow(t, COND_A);
	}
	if (t->to->kind == XK_DIRECT && xl_hint(t->x, xl_gpa_of(t)) != XP_TLB) {
		rep_direct(t, i, movs);
	} else {
		xl_call_routine(t, xl_routines(t->x)->rep[movs][log2_of(i->op_bytes)]);
		xl_slow(t, COND_NZ);
	}
	xf_need_host(t);
	xl_go(t, xl_next_off(t));
}

/* To or from a register of the host and where R11 points to. */
static void element(struct xl_tr *t, const struct insn *i, bool store, unsigned reg)
{
	unsigned how = i->op_bytes == 8 ? (unsigned)XE_W : i->op_bytes == 2 ? (unsigned)XE_66 : 0;

	xe_op(&t->e, how, 0, (store ? 0x88u : 0x8au) | (i->op_bytes > 1), reg, xl_mem(XR_11, 0));
}

static void place(struct xl_tr *t, const struct insn *i, unsigned reg, bool write)
{
	xe_mov(&t->e, XR_11, reg);
	xl_check_to_r11(t, i->op_bytes, write);
}

static void advance(struct xl_tr *t, const struct insn *i, unsigned guest)
{
	xf_moved(t, guest, i->op_bytes);
	xe_lea(&t->e, xl_host(guest), xl_mem(xl_host(guest), i->op_bytes));
}

static void upwards(struct xl_tr *t)
{
	xf_clobber(t);
	xe_op(&t->e, 0, 0, 0xf6, 0, xl_gs(offsetof(struct soft_cpu, s.rflags) + BIT_DF / 8));
	xe_8(&t->e, 1 << BIT_DF % 8);
	xl_slow(t, COND_NZ);
}

static void movs(struct xl_tr *t, const struct insn *i)
{
	upwards(t);
	place(t, i, XR_SI, false);
	element(t, i, false, XR_CX);
	xe_store(&t->e, XR_CX, XG(xl_tmp));
	place(t, i, XR_DI, true);
	xe_load(&t->e, XR_CX, XG(xl_tmp));
	element(t, i, true, XR_CX);
	advance(t, i, CPU_RSI);
	advance(t, i, CPU_RDI);
}

static void stos(struct xl_tr *t, const struct insn *i)
{
	upwards(t);
	place(t, i, XR_DI, true);
	element(t, i, true, XR_AX);
	advance(t, i, CPU_RDI);
}

static void lods(struct xl_tr *t, const struct insn *i)
{
	upwards(t);
	place(t, i, XR_SI, false);
	xf_written(t, (unsigned)BIT(CPU_RAX));
	element(t, i, false, XR_AX);
	advance(t, i, CPU_RSI);
}

bool xl_string(struct xl_tr *t)
{
	const struct insn *i = &t->insns[t->k].i;
	insn_fn *fn = insn_table[i->row].fn;
	bool repeated = i->prefix & (INSN_REP | INSN_REPNE);

	if ((fn != op_movs && fn != op_stos && fn != op_lods) || i->ad_bytes != 8 ||
	    (i->seg >= CPU_FS && fn != op_stos) || xl_decoded(t)->fn == insn_ud ||
	    (repeated && fn == op_lods)) {
		return false;
	}
	if (repeated) {
		rep(t, i, fn == op_movs);
	} else {
		(fn == op_movs ? movs : fn == op_stos ? stos : lods)(t, i);
	}
	return true;
}
