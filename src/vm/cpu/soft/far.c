/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Transfers to another code segment: far jumps, calls and returns, call gates, IRET.
 *
 * Spec: SDM 3, 5.8 (Privilege Level Checking When Transferring Program Control), 6.8;
 * SDM 2, IRET.
 */
#include <errno.h>

#include "vm/cpu/soft/handlers.h"
#include "vm/cpu/soft/priv.h"

static bool real_rules(const struct soft_cpu *c)
{
	return !soft_protected(c);
}

static void check_offset(struct soft_cpu *c, const struct soft_desc *d, uint64_t rip)
{
	if (soft_long(c) && (d->ar & CPU_AR_L)) {
		if (!soft_canonical(rip)) {
			soft_fault(c, CPU_GP, 0);
		}
	} else if (rip > d->limit) {
		soft_fault(c, CPU_GP, 0);
	}
}

static void set_code(struct soft_cpu *c, uint16_t selector, unsigned cpl, struct soft_desc *d,
		     uint64_t rip)
{
	soft_desc_accessed(c, d);
	soft_seg_set(&c->s.seg[CPU_CS], (uint16_t)((selector & 0xfffc) | cpl), d);
	c->next_rip = rip;
}

/* A descriptor that a jump or call may name directly: checks of its type and privilege. */
static void check_code(struct soft_cpu *c, uint16_t selector, const struct soft_desc *d)
{
	uint32_t error = selector & 0xfffc;
	unsigned dpl = soft_dpl(d->ar), rpl = selector & SOFT_SEL_RPL;

	if (soft_long(c) && (d->ar & (CPU_AR_L | CPU_AR_DB)) == (CPU_AR_L | CPU_AR_DB)) {
		soft_fault(c, CPU_GP, error);
	}
	if (d->ar & CPU_AR_DC ? dpl > c->cpl : rpl > c->cpl || dpl != c->cpl) {
		soft_fault(c, CPU_GP, error);
	}
	if (!(d->ar & CPU_AR_P)) {
		soft_fault(c, CPU_NP, error);
	}
}

struct call_gate {
	uint16_t selector;
	uint64_t offset;
	unsigned bytes, params;
};

/* Read and check a call gate, and the code segment behind it. Returns the new privilege. */
static unsigned gate_target(struct soft_cpu *c, uint16_t selector, struct soft_desc *d, bool call,
			    struct call_gate *g, struct soft_desc *code)
{
	uint32_t error = selector & 0xfffc;
	unsigned type = d->ar & CPU_AR_TYPE;
	unsigned dpl = soft_dpl(d->ar);

	if (dpl < c->cpl || dpl < (selector & SOFT_SEL_RPL)) {
		soft_fault(c, CPU_GP, error);
	}
	if (!(d->ar & CPU_AR_P)) {
		soft_fault(c, CPU_NP, error);
	}
	*g = (struct call_gate){
		.selector = (uint16_t)(d->raw >> 16),
		.offset = (d->raw & 0xffff) | (d->raw >> 32 & 0xffff0000),
		.bytes = type == 4 ? 2 : soft_long(c) ? 8 : 4, .params = d->raw >> 32 & 31,
	};
	if (soft_long(c)) {
		uint64_t high = soft_load_system(c, d->linear + 8, 8);

		if (high >> 40 & 0x1f) {
			soft_fault(c, CPU_GP, error);
		}
		g->offset |= high << 32;
	} else if (type == 4) {
		g->offset &= 0xffff;
	}
	error = g->selector & 0xfffc;
	if (error == 0) {
		soft_fault(c, CPU_GP, 0);
	}
	if (soft_desc_read(c, g->selector, code) < 0 ||
	    (code->ar & (CPU_AR_S | CPU_AR_CODE)) != (CPU_AR_S | CPU_AR_CODE) ||
	    soft_dpl(code->ar) > c->cpl ||
	    (!call && !(code->ar & CPU_AR_DC) && soft_dpl(code->ar) != c->cpl) ||
	    (soft_long(c) && (code->ar & (CPU_AR_L | CPU_AR_DB)) != CPU_AR_L)) {
		soft_fault(c, CPU_GP, error);
	}
	if (!(code->ar & CPU_AR_P)) {
		soft_fault(c, CPU_NP, error);
	}
	return code->ar & CPU_AR_DC ? c->cpl : soft_dpl(code->ar);
}

/* The same stack, at the same privilege. */
static void push_return(struct soft_cpu *c, unsigned bytes)
{
	uint64_t low = c->s.gpr[CPU_RSP] - 2 * bytes;

	/* Neither may fault after the stack pointer has moved. */
	if (c->mode != INSN_MODE_64) {
		low &= soft_stack_mask(c);
	}
	soft_probe_write(c, soft_linear(c, CPU_SS, low, bytes, SOFT_WRITE), 2 * bytes);
	soft_push(c, bytes, c->s.seg[CPU_CS].selector);
	soft_push(c, bytes, c->next_rip);
}

/* A call gate to an inner level: a new stack with the old one's pointer and parameters. */
static void call_inner(struct soft_cpu *c, const struct call_gate *g, struct soft_desc *code,
		       unsigned cpl)
{
	struct cpu_seg old_ss = c->s.seg[CPU_SS], new_ss = { 0 };
	uint64_t old_sp = c->s.gpr[CPU_RSP], sp = 0, params[31] = { 0 };
	uint64_t return_rip = c->next_rip, cs = c->s.seg[CPU_CS].selector;

	if (soft_long(c)) {
		uint32_t at = 4 + 8 * cpl;

		if (at + 7 > c->s.tr.limit) {
			soft_fault(c, CPU_TS, c->s.tr.selector & 0xfffc);
		}
		sp = soft_load_system(c, c->s.tr.base + at, 8);
		uint64_t frame[4] = { return_rip, cs, old_sp, old_ss.selector };

		for (unsigned i = 4; i-- > 0; ) {
			sp -= 8;
			if (!soft_canonical(sp)) {
				soft_fault(c, CPU_SS_FAULT, 0);
			}
			soft_store_system(c, sp, 8, frame[i]);
		}
		new_ss = (struct cpu_seg){ .selector = (uint16_t)cpl,
					   .ar = CPU_AR_UNUSABLE | cpl << CPU_AR_DPL_SHIFT };
		set_code(c, g->selector, cpl, code, g->offset);
		c->s.seg[CPU_SS] = new_ss;
		c->s.gpr[CPU_RSP] = sp;
		return;
	}
	uint16_t ss = 0;
	struct soft_desc d = { 0 };

	soft_tss_stack(c, cpl, &ss, &sp);
	soft_stack_desc(c, ss, cpl, CPU_TS, &d);
	for (unsigned i = 0; i < g->params; i++) {
		params[i] = soft_peek(c, i * g->bytes, g->bytes);
	}
	soft_desc_accessed(c, &d);
	soft_seg_set(&new_ss, ss, &d);
	/* Pushes go to the new stack with its limits; on a fault all is as before. */
	uint64_t values[4 + 31];
	unsigned n = 0;

	values[n++] = old_ss.selector;
	values[n++] = old_sp;
	for (unsigned i = g->params; i-- > 0; ) {
		values[n++] = params[i];
	}
	values[n++] = cs;
	values[n++] = return_rip;
	uint64_t mask = new_ss.ar & CPU_AR_DB ? UINT32_MAX : 0xffff;

	for (unsigned i = 0; i < n; i++) {
		sp = (sp & ~mask) | ((sp - g->bytes) & mask);
		if ((sp & mask) + g->bytes - 1 > new_ss.limit && !(new_ss.ar & CPU_AR_DC)) {
			soft_fault(c, CPU_SS_FAULT, ss & 0xfffc);
		}
		soft_store_system(c, (new_ss.base + (sp & mask)) & UINT32_MAX, g->bytes, values[i]);
	}
	set_code(c, g->selector, cpl, code, g->offset);
	c->s.seg[CPU_SS] = new_ss;
	c->s.gpr[CPU_RSP] = sp;
}

static void system_target(struct soft_cpu *c, uint16_t selector, struct soft_desc *d, bool call)
{
	struct call_gate g = { 0 };
	struct soft_desc code = { 0 };
	unsigned type = d->ar & CPU_AR_TYPE, cpl = 0;
	uint32_t error = selector & 0xfffc;

	if (type == 12 || (type == 4 && !soft_long(c))) {
		cpl = gate_target(c, selector, d, call, &g, &code);
		check_offset(c, &code, g.offset);
		if (call && cpl < c->cpl) {
			call_inner(c, &g, &code, cpl);
			soft_mode_update(c);
			return;
		}
		if (call) {
			push_return(c, g.bytes);
		}
		set_code(c, g.selector, cpl, &code, g.offset);
		soft_mode_update(c);
		return;
	}
	if (soft_long(c) || (type != 1 && type != 9 && type != 5)) {
		soft_fault(c, CPU_GP, error);
	}
	if (soft_dpl(d->ar) < c->cpl || soft_dpl(d->ar) < (selector & SOFT_SEL_RPL)) {
		soft_fault(c, CPU_GP, error);
	}
	if (!(d->ar & CPU_AR_P)) {
		soft_fault(c, CPU_NP, error);
	}
	if (type == 5) {
		selector = (uint16_t)(d->raw >> 16);
	}
	soft_task_switch(c, selector, call ? SOFT_TASK_CALL : SOFT_TASK_JUMP, false, 0);
}

static void far_to(struct soft_cpu *c, uint16_t selector, uint64_t rip, unsigned bytes, bool call)
{
	struct soft_desc d = { 0 };
	uint32_t error = selector & 0xfffc;

	rip = soft_cut(rip, bytes);
	if (real_rules(c)) {
		if (rip > c->s.seg[CPU_CS].limit) {
			soft_fault(c, CPU_GP, 0);
		}
		if (call) {
			push_return(c, bytes);
		}
		soft_seg_load_real(c, CPU_CS, selector);
		c->next_rip = rip;
		return;
	}
	if (error == 0) {
		soft_fault(c, CPU_GP, 0);
	}
	if (soft_desc_read(c, selector, &d) < 0) {
		soft_fault(c, CPU_GP, error);
	}
	if (!(d.ar & CPU_AR_S)) {
		system_target(c, selector, &d, call);
		return;
	}
	if (!(d.ar & CPU_AR_CODE)) {
		soft_fault(c, CPU_GP, error);
	}
	check_code(c, selector, &d);
	check_offset(c, &d, rip);
	if (call) {
		push_return(c, bytes);
	}
	set_code(c, selector, c->cpl, &d, rip);
	soft_mode_update(c);
}

void op_jmp_far_ptr(struct soft_cpu *c, const struct insn *i)
{
	far_to(c, i->imm2, i->imm, i->op_bytes, false);
}

void op_call_far_ptr(struct soft_cpu *c, const struct insn *i)
{
	far_to(c, i->imm2, i->imm, i->op_bytes, true);
}

static void far_m(struct soft_cpu *c, const struct insn *i, bool call)
{
	uint64_t ea = soft_ea(c, i);
	uint64_t rip = soft_load(c, soft_linear(c, i->seg, ea, i->op_bytes, SOFT_READ),
				 i->op_bytes);
	uint64_t at = soft_cut(ea + i->op_bytes, i->ad_bytes);
	uint16_t sel = (uint16_t)soft_load(c, soft_linear(c, i->seg, at, 2, SOFT_READ), 2);

	far_to(c, sel, rip, i->op_bytes, call);
}

void op_jmp_far_m(struct soft_cpu *c, const struct insn *i)
{
	far_m(c, i, false);
}

void op_call_far_m(struct soft_cpu *c, const struct insn *i)
{
	far_m(c, i, true);
}

/* --- Returns --- */

/* The code segment of a return. */
static void return_code(struct soft_cpu *c, uint16_t selector, struct soft_desc *d)
{
	uint32_t error = selector & 0xfffc;
	unsigned rpl = selector & SOFT_SEL_RPL;

	if (error == 0) {
		soft_fault(c, CPU_GP, 0);
	}
	if (soft_desc_read(c, selector, d) < 0 || rpl < c->cpl ||
	    (d->ar & (CPU_AR_S | CPU_AR_CODE)) != (CPU_AR_S | CPU_AR_CODE) ||
	    (d->ar & CPU_AR_DC ? soft_dpl(d->ar) > rpl : soft_dpl(d->ar) != rpl) ||
	    (soft_long(c) && (d->ar & (CPU_AR_L | CPU_AR_DB)) == (CPU_AR_L | CPU_AR_DB))) {
		soft_fault(c, CPU_GP, error);
	}
	if (!(d->ar & CPU_AR_P)) {
		soft_fault(c, CPU_NP, error);
	}
}

/* The stack segment of a return to privilege rpl; null is fine for 64-bit code inside. */
static void return_stack(struct soft_cpu *c, uint16_t ss, unsigned rpl, bool to_64,
			 struct cpu_seg *ret)
{
	struct soft_desc d = { 0 };

	if ((ss & 0xfffc) == 0) {
		if (!to_64 || rpl == 3 || (ss & 3) != rpl) {
			soft_fault(c, CPU_GP, 0);
		}
		*ret = (struct cpu_seg){ .selector = ss,
					 .ar = CPU_AR_UNUSABLE | rpl << CPU_AR_DPL_SHIFT };
		return;
	}
	soft_stack_desc(c, ss, rpl, CPU_GP, &d);
	soft_desc_accessed(c, &d);
	soft_seg_set(ret, ss, &d);
}

static void set_sp(struct soft_cpu *c, const struct cpu_seg *ss, bool to_64, uint64_t sp)
{
	uint64_t mask = to_64 ? UINT64_MAX : ss->ar & CPU_AR_DB ? UINT32_MAX : 0xffff;

	if (mask == UINT32_MAX) {
		c->s.gpr[CPU_RSP] = (uint32_t)sp;
	} else {
		c->s.gpr[CPU_RSP] = (c->s.gpr[CPU_RSP] & ~mask) | (sp & mask);
	}
}

static void ret_far(struct soft_cpu *c, unsigned bytes, uint16_t extra)
{
	uint64_t rip = soft_peek(c, 0, bytes);
	uint16_t cs = (uint16_t)soft_peek(c, bytes, bytes);
	struct soft_desc d = { 0 };
	struct cpu_seg ss = { 0 };

	if (real_rules(c)) {
		if (rip > c->s.seg[CPU_CS].limit) {
			soft_fault(c, CPU_GP, 0);
		}
		soft_sp_add(c, 2 * bytes + extra);
		soft_seg_load_real(c, CPU_CS, cs);
		c->next_rip = rip;
		return;
	}
	return_code(c, cs, &d);
	unsigned rpl = cs & SOFT_SEL_RPL;
	bool to_64 = soft_long(c) && (d.ar & CPU_AR_L);

	if (rpl == c->cpl) {
		check_offset(c, &d, rip);
		soft_sp_add(c, 2 * bytes + extra);
		set_code(c, cs, rpl, &d, rip);
		soft_mode_update(c);
		return;
	}
	uint64_t sp = soft_peek(c, 2 * bytes + extra, bytes);

	return_stack(c, (uint16_t)soft_peek(c, 3 * bytes + extra, bytes), rpl, to_64, &ss);
	check_offset(c, &d, rip);
	set_code(c, cs, rpl, &d, rip);
	c->s.seg[CPU_SS] = ss;
	set_sp(c, &ss, to_64, sp);
	soft_mode_update(c);
	soft_sp_add(c, extra);
	soft_seg_drop_inner(c);
}

void op_ret_far(struct soft_cpu *c, const struct insn *i)
{
	ret_far(c, i->op_bytes, 0);
}

void op_ret_far_imm(struct soft_cpu *c, const struct insn *i)
{
	ret_far(c, i->op_bytes, (uint16_t)i->imm);
}

/* --- IRET --- */

/* Which flags a return may change. */
static void return_flags(struct soft_cpu *c, uint64_t v, unsigned bytes, unsigned cpl)
{
	uint64_t mask = SOFT_ARITH | CPU_FLAG_OF | CPU_FLAG_TF | CPU_FLAG_DF | CPU_FLAG_NT;
	uint64_t old = soft_flags_get(c);
	uint64_t iopl = old >> 12 & 3;

	if (bytes > 2) {
		mask |= CPU_FLAG_RF | CPU_FLAG_AC | CPU_FLAG_ID;
	}
	/* RF lasts for one instruction, and only breakpoints look at it: without any it would do no
	 * more than have one instruction run alone. */
	if (!(c->slow & (SOFT_SLOW_TRAP | SOFT_SLOW_DR | SOFT_SLOW_DEBUG)) && !(v & CPU_FLAG_TF)) {
		v &= ~(uint64_t)CPU_FLAG_RF;
	}
	if (cpl <= iopl) {
		mask |= CPU_FLAG_IF;
	}
	if (cpl == 0) {
		mask |= CPU_FLAG_IOPL;
		if (bytes > 2) {
			mask |= CPU_FLAG_VIF | CPU_FLAG_VIP;
		}
	}
	soft_flags_set(c, (old & ~mask) | (v & mask));
	if (!(old & CPU_FLAG_IF) && (c->s.rflags & CPU_FLAG_IF)) {
		soft_if_on(c);
	}
}

static void iret_done(struct soft_cpu *c)
{
	c->s.events.nmi_masked = false;
	if (c->s.events.nmi_pending) {
		c->slow |= SOFT_SLOW_EVENT;
	}
	soft_mode_update(c);
}

static void iret_real(struct soft_cpu *c, unsigned bytes)
{
	uint64_t rip = soft_peek(c, 0, bytes);
	uint16_t cs = (uint16_t)soft_peek(c, bytes, bytes);
	uint64_t flags = soft_peek(c, 2 * bytes, bytes);
	bool vm = (c->s.rflags & CPU_FLAG_VM) != 0;

	if (rip > c->s.seg[CPU_CS].limit) {
		soft_fault(c, CPU_GP, 0);
	}
	soft_sp_add(c, 3 * bytes);
	soft_seg_load_real(c, CPU_CS, cs);
	c->next_rip = rip;
	if (vm) {
		uint64_t keep = CPU_FLAG_IOPL | CPU_FLAG_VM | CPU_FLAG_VIF | CPU_FLAG_VIP;
		uint64_t old = soft_flags_get(c);

		if (bytes == 2) {
			keep |= ~UINT64_C(0xffff);
		}
		soft_flags_set(c, (old & keep) | (flags & ~keep & UINT64_C(0x257fd7)));
		c->slow |= SOFT_SLOW_EVENT;
	} else {
		return_flags(c, flags, bytes, 0);
	}
	iret_done(c);
}

static void iret_to_vm86(struct soft_cpu *c, uint64_t rip, uint16_t cs, uint64_t flags)
{
	static const uint8_t order[] = { CPU_SS, CPU_ES, CPU_DS, CPU_FS, CPU_GS };
	uint64_t v[6] = { 0 };

	for (unsigned k = 0; k < 6; k++) {
		v[k] = soft_peek(c, 12 + 4 * k, 4);
	}
	soft_flags_set(c, (flags & UINT64_C(0x3f7fd7)) | CPU_FLAG_VM);
	soft_seg_load_real(c, CPU_CS, cs);
	for (unsigned k = 0; k < 5; k++) {
		soft_seg_load_real(c, order[k], (uint16_t)v[k + 1]);
	}
	c->s.gpr[CPU_RSP] = v[0];
	c->next_rip = rip & 0xffff;
	c->slow |= SOFT_SLOW_EVENT;
	iret_done(c);
}

static void iret_protected(struct soft_cpu *c, unsigned bytes)
{
	uint64_t rip = soft_peek(c, 0, bytes);
	uint16_t cs = (uint16_t)soft_peek(c, bytes, bytes);
	uint64_t flags = soft_peek(c, 2 * bytes, bytes);
	bool from_64 = c->mode == INSN_MODE_64;
	unsigned cpl = c->cpl, rpl = cs & SOFT_SEL_RPL;
	struct soft_desc d = { 0 };
	struct cpu_seg ss = { 0 };

	if ((flags & CPU_FLAG_VM) && cpl == 0 && bytes == 4 && !soft_long(c)) {
		iret_to_vm86(c, rip, cs, flags);
		return;
	}
	return_code(c, cs, &d);
	bool to_64 = soft_long(c) && (d.ar & CPU_AR_L);

	if (rpl == cpl && !from_64) {
		check_offset(c, &d, rip);
		soft_sp_add(c, 3 * bytes);
		set_code(c, cs, rpl, &d, rip);
		return_flags(c, flags, bytes, cpl);
		iret_done(c);
		return;
	}
	uint64_t sp = soft_peek(c, 3 * bytes, bytes);

	return_stack(c, (uint16_t)soft_peek(c, 4 * bytes, bytes), rpl, to_64, &ss);
	check_offset(c, &d, rip);
	set_code(c, cs, rpl, &d, rip);
	return_flags(c, flags, bytes, cpl);
	c->s.seg[CPU_SS] = ss;
	set_sp(c, &ss, to_64, sp);
	iret_done(c);
	if (rpl > cpl) {
		soft_seg_drop_inner(c);
	}
}

void soft_iret(struct soft_cpu *c, unsigned bytes)
{
	if (!(c->s.cr0 & CPU_CR0_PE)) {
		iret_real(c, bytes);
		return;
	}
	if (c->s.rflags & CPU_FLAG_VM) {
		if ((c->s.rflags & CPU_FLAG_IOPL) != CPU_FLAG_IOPL) {
			soft_fault(c, CPU_GP, 0);
		}
		iret_real(c, bytes);
		return;
	}
	if (c->s.rflags & CPU_FLAG_NT) {
		if (soft_long(c)) {
			soft_fault(c, CPU_GP, 0);
		}
		uint16_t link = (uint16_t)soft_load_system(c, c->s.tr.base, 2);

		soft_task_switch(c, link, SOFT_TASK_IRET, false, 0);
		c->s.events.nmi_masked = false;
		return;
	}
	iret_protected(c, bytes);
}

void op_iret(struct soft_cpu *c, const struct insn *i)
{
	soft_iret(c, i->op_bytes);
}
