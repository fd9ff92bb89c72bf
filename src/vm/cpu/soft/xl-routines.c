/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Routines at the begin of the cache: how code is entered and left, and how it calls what is
 * written in C. Those that belong to one kind of instruction are written by its own file.
 */
#include "vm/cpu/soft/xl-parts.h"

static const uint8_t saved_by_host[] = { XR_BX, XR_BP, XR_12, XR_13, XR_14, XR_15 };

static void registers(struct xl_code *e, bool load, bool with_rax)
{
	for (unsigned g = 0; g < CPU_REG__COUNT; g++) {
		unsigned host = xl_host(g);

		if (host == XR_NONE || (g == CPU_RAX && !with_rax)) {
			continue;
		}
		if (load) {
			xe_load(e, host, xl_gpr_slot(g));
		} else {
			xe_store(e, host, xl_gpr_slot(g));
		}
	}
}

static void push_pop_one(struct xl_code *e, unsigned reg, bool push)
{
	if (reg >= 8) {
		xe_8(e, 0x41);
	}
	xe_8(e, (push ? 0x50u : 0x58u) | (reg & 7));
}

static void push_pop(struct xl_code *e, bool push)
{
	for (unsigned i = 0; i < ARRAY_LEN(saved_by_host); i++) {
		push_pop_one(e, saved_by_host[push ? i : ARRAY_LEN(saved_by_host) - 1 - i], push);
	}
}

static void stack_by(struct xl_code *e, int32_t by)
{
	xe_lea(e, XR_SP, xl_mem(XR_SP, by));
}

static void leave_host(struct xl_code *e)
{
	stack_by(e, 8);
	push_pop(e, false);
	xe_8(e, 0xc3);
}

/* Call xl_call_out(c, R11); then on in the code, here or elsewhere, or out of it. */
static void call_out(struct xl_code *e)
{
	uint8_t *out = NULL;

	xe_op(e, 0, 0, 0x8f, 0, XG(xl_back));            /* pop */
	xe_store(e, XR_SP, XG(xl_rsp));
	xe_load(e, XR_SP, XG(xl_host_rsp));
	registers(e, false, false);
	xv_spill(e);
	xe_load(e, XR_DI, XG(xl_self));
	xe_op(e, 0, 0, 0x8b, XR_SI, xl_reg(XR_11));
	xe_mov_imm64(e, XR_AX, (uint64_t)(uintptr_t)xl_call_out);
	xe_op(e, 0, 0, 0xff, 2, xl_reg(XR_AX));
	xe_op(e, 0, 0, 0x85, XR_AX, xl_reg(XR_AX));
	out = xe_jcc(e, 5);
	xe_load(e, XR_SP, XG(xl_rsp));
	registers(e, true, true);
	xe_op(e, 0, 0, 0xff, 6, XG(xl_back));            /* push */
	xe_8(e, 0xc3);
	xe_here(e, out);
	xe_alu_imm(e, 0, 7, xl_reg(XR_AX), XL_ELSEWHERE);
	out = xe_jcc(e, 4);
	leave_host(e);
	xe_here(e, out);
	xe_load(e, XR_SP, XG(xl_rsp));
	xl_flags_from(e, XG(flags));
	registers(e, true, true);
	xe_load(e, XR_11, XG(next_rip));
	xe_op(e, 0, 0, 0xff, 4, XG(xl_next));
}

/* RCX: xl_fill() of the address in R11, which stays. Only flags change besides. */
static void call_fill(struct xl_code *e, bool write)
{
	static const uint8_t saved[] = { XR_AX, XR_DX, XR_SI, XR_DI, XR_8, XR_9, XR_10, XR_11 };

	xe_store(e, XR_SP, XG(xl_back));
	xe_load(e, XR_SP, XG(xl_host_rsp));
	for (unsigned i = 0; i < ARRAY_LEN(saved); i++) {
		push_pop_one(e, saved[i], true);
	}
	xe_load(e, XR_DI, XG(xl_self));
	xe_mov(e, XR_SI, XR_11);
	xe_mov_imm32(e, XR_DX, write);
	xe_mov_imm64(e, XR_AX, (uint64_t)(uintptr_t)xl_fill);
	xe_op(e, 0, 0, 0xff, 2, xl_reg(XR_AX));
	xe_op(e, 0, 0, 0x8b, XR_CX, xl_reg(XR_AX));
	for (unsigned i = ARRAY_LEN(saved); i-- > 0; ) {
		push_pop_one(e, saved[i], false);
	}
	xe_load(e, XR_SP, XG(xl_back));
}

/* R11: a linear address less the tag of the entry in RCX. RCX: 0, if the page is there now, and
 * R11 the address. */
static void fill(struct xl_code *e, bool write)
{
	xe_alu(e, XE_W, 0, XR_11, xl_mem(XR_CX, write ? offsetof(struct soft_tlb_entry, tag_write) :
							offsetof(struct soft_tlb_entry, tag_read)));
	xe_store(e, XR_11, XG(xl_miss_va));
	call_fill(e, write);
	xe_8(e, 0xc3);
}

/* R11: a linear address less the tag. RCX: 0, if the stack's page is now the one that it is on. */
static void stack_find(struct xl_code *e, bool write)
{
	const size_t at = offsetof(struct soft_cpu, xl_stack) + write * sizeof(struct soft_stack);
	const struct xl_rm tag = xl_gs(at + offsetof(struct soft_stack, tag));
	const int32_t entry_tag = write ? offsetof(struct soft_tlb_entry, tag_write) :
					  offsetof(struct soft_tlb_entry, tag_read);
	uint8_t *no[2] = { NULL }, *again = NULL;

	xe_alu(e, XE_W, 0, XR_11, tag);
	xe_store(e, XR_11, XG(xl_miss_va));
	xe_alu_imm(e, XE_W, 4, xl_reg(XR_11), -GMEM_PAGE_BYTES);
	again = e->at;
	xl_tlb_entry(e);
	xe_alu(e, XE_W, 7, XR_11, xl_mem(XR_CX, entry_tag));
	no[0] = xe_jcc(e, 5);
	xe_alu(e, XE_W, 7, XR_11, tag);
	no[1] = xe_jcc(e, 4);      /* it is on two pages */
	xe_store(e, XR_11, tag);
	xe_load(e, XR_11, xl_mem(XR_CX, offsetof(struct soft_tlb_entry, host)));
	xe_store(e, XR_11, xl_gs(at + offsetof(struct soft_stack, host)));
	xe_mov_imm32(e, XR_CX, 0);
	xe_8(e, 0xc3);
	xe_here(e, no[0]);
	call_fill(e, write);
	xe_op(e, 0, 0, 0x85, XR_CX, xl_reg(XR_CX));
	xe_patch(e, xe_jcc(e, 4), again);
	xe_here(e, no[1]);
	xe_mov_imm32(e, XR_CX, 1);
	xe_8(e, 0xc3);
}

void xl_write_routines(struct xl_code *e, const uint8_t *begin, struct xl_routines *ret)
{
	uint8_t *tail = NULL;

	ret->enter = (uint32_t)(e->at - begin);
	push_pop(e, true);
	stack_by(e, -8);
	xe_mov(e, XR_11, XR_DI);
	xl_flags_from(e, XG(flags));
	registers(e, true, true);
	xe_store(e, XR_SP, XG(xl_host_rsp));
	xe_load(e, XR_SP, XG(xl_rsp));
	xe_op(e, 0, 0, 0xff, 4, xl_reg(XR_11));
	ret->leave_unlinked = (uint32_t)(e->at - begin);
	xe_mov_imm32(e, XR_CX, 0);
	ret->leave = (uint32_t)(e->at - begin);
	xe_store(e, XR_SP, XG(xl_rsp));
	xe_load(e, XR_SP, XG(xl_host_rsp));
	registers(e, false, true);
	xl_flags_to(e, XG(flags));
	xv_spill(e);
	xe_store(e, XR_11, XG(next_rip));
	xe_op(e, 0, 0, 0x89, XR_CX, XG(xl_site));
	leave_host(e);
	ret->out_host = (uint32_t)(e->at - begin);
	xe_store(e, XR_AX, xl_gpr_slot(CPU_RAX));
	xl_flags_to(e, XG(flags));
	tail = xe_jmp(e);
	ret->out_saved = (uint32_t)(e->at - begin);
	xe_store(e, XR_AX, xl_gpr_slot(CPU_RAX));
	xe_here(e, tail);
	call_out(e);
	for (unsigned write = 0; write < 2; write++) {
		ret->stack[write] = (uint32_t)(e->at - begin);
		stack_find(e, write);
		ret->fill[write] = (uint32_t)(e->at - begin);
		fill(e, write);
	}
	xv_write_routines(e, begin, ret);
	xl_string_write_routines(e, begin, ret);
	xl_return_write_routines(e, begin, ret);
	xl_flow_write_routines(e, begin, ret);
}
