/* SPDX-License-Identifier: Apache-2.0 */
/*
 * MOVS, STOS and LODS upwards, of 64-bit addresses. With REP, MOVS and STOS are the host's own, a
 * page at a time: RSI, RDI and RCX are right between two pages, where the interpreter takes over
 * if the next one is no hit in the TLB or somebody wants something.
 */
#include "vm/cpu/soft/handlers.h"
#include "vm/cpu/soft/xl.h"

enum {
	COND_Z = 4, COND_NZ = 5, COND_A = 7,
	BIT_DF = 10,
	PART = 4096,        /* of counted mode: string.c */
};

/* --- Routines --- */

/* RCX: the entry of the TLB for a register; R11: its offset in the page. The jump is taken where
 * not even one element is there. */
static uint8_t *lookup(struct xl_code *e, unsigned reg, unsigned bytes, size_t tag)
{
	xe_mov(e, XR_11, reg);
	xl_tlb_entry(e);
	xe_alu(e, XE_W, 5, XR_11, xl_mem(XR_CX, (int32_t)tag));
	xe_alu_imm(e, XE_W, 7, xl_reg(XR_11), (int32_t)(GMEM_PAGE_BYTES - bytes));
	return xe_jcc(e, COND_A);
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

/* REP and the instruction, RDX times. */
static void host_rep(struct xl_code *e, unsigned opcode, unsigned log2)
{
	xe_mov(e, XR_CX, XR_DX);
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
static void page_of_movs(struct xl_code *e, unsigned log2, uint8_t *ret_no[2])
{
	const int32_t host = offsetof(struct soft_tlb_entry, host);

	ret_no[0] = lookup(e, XR_SI, 1u << log2, offsetof(struct soft_tlb_entry, tag_read));
	left_in_page(e, XR_DX);
	xe_load(e, XR_AX, xl_mem(XR_CX, host));
	xe_alu(e, XE_W, 0, XR_AX, xl_reg(XR_11));
	ret_no[1] = lookup(e, XR_DI, 1u << log2, offsetof(struct soft_tlb_entry, tag_write));
	push(e, XR_SI);
	push(e, XR_DI);
	xe_mov(e, XR_SI, XR_AX);
	xe_load(e, XR_DI, xl_mem(XR_CX, host));
	xe_alu(e, XE_W, 0, XR_DI, xl_reg(XR_11));
	left_in_page(e, XR_AX);
	at_most(e, XR_DX, XR_AX);
	elements(e, log2);
	host_rep(e, 0xa4, log2);
	pop(e, XR_DI);
	pop(e, XR_SI);
	xe_lea(e, XR_SI, xl_mem_index(XR_SI, XR_DX, log2, 0));
}

/* A page of STOS. */
static void page_of_stos(struct xl_code *e, unsigned log2, uint8_t *ret_no[2])
{
	ret_no[0] = lookup(e, XR_DI, 1u << log2, offsetof(struct soft_tlb_entry, tag_write));
	ret_no[1] = NULL;
	left_in_page(e, XR_DX);
	elements(e, log2);
	xe_alu(e, XE_W, 0, XR_11, xl_mem(XR_CX, offsetof(struct soft_tlb_entry, host)));
	push(e, XR_DI);
	xe_mov(e, XR_DI, XR_11);
	host_rep(e, 0xaa, log2);
	pop(e, XR_DI);
}

/* ZF: all of it is done. RCX and R11 are lost. */
static void write_rep(struct xl_code *e, bool movs, unsigned log2)
{
	uint8_t *no[4] = { NULL }, *done[2] = { NULL };

	push(e, XR_AX);
	push(e, XR_DX);
	xe_op(e, 0, 0, 0xf6, 0, xl_gs(offsetof(struct soft_cpu, s.rflags) + BIT_DF / 8));   /* test */
	xe_8(e, 1 << BIT_DF % 8);
	no[2] = xe_jcc(e, COND_NZ);
	xe_op(e, XE_W, 0, 0x85, XR_10, xl_reg(XR_10));
	done[0] = xe_jcc(e, COND_Z);

	const uint8_t *again = e->at;

	(movs ? page_of_movs : page_of_stos)(e, log2, no);
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

void xl_string_write_routines(struct xl_code *e, const uint8_t *begin, struct xl_routines *ret)
{
	for (unsigned log2 = 0; log2 < ARRAY_LEN(ret->movs); log2++) {
		ret->movs[log2] = (uint32_t)(e->at - begin);
		write_rep(e, true, log2);
		ret->stos[log2] = (uint32_t)(e->at - begin);
		write_rep(e, false, log2);
	}
}

/* --- In a block --- */

static unsigned log2_of(unsigned bytes)
{
	return (unsigned)__builtin_ctz(bytes);
}

static void rep(struct xl_tr *t, const struct insn *i, bool movs)
{
	const struct xl_routines *r = xl_routines(t->x);
	struct xl_code *e = &t->e;

	xf_written(t, (unsigned)(BIT(CPU_RSI) | BIT(CPU_RDI) | BIT(CPU_RCX)));
	xf_clobber(t);
	if (t->c->eng->counted) {
		/* More than one part counts as several instructions. */
		xe_alu_imm(e, XE_W, 7, xl_reg(XR_10), PART);
		xl_slow(t, COND_A);
	}
	xe_patch(e, xe_call(e), xl_rw(t->x, (movs ? r->movs : r->stos)[log2_of(i->op_bytes)]));
	xl_slow(t, COND_NZ);
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
