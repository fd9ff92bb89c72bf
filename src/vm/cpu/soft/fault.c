/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Exceptions and interrupts: raising them, and their delivery in every mode.
 *
 * An event that is being delivered stands in s.events.injected. A fault while it does decides
 * by both what comes of it: the second fault, a double fault, or shutdown. Delivery changes
 * registers only when nothing can fault any more.
 *
 * Spec: SDM 3, 6 (Interrupt and Exception Handling).
 */
#include <errno.h>

#include "vm/cpu/soft/priv.h"

noreturn_fn void soft_fault(struct soft_cpu *c, unsigned vector, uint32_t error)
{
	c->fault_vector = (uint8_t)vector;
	c->fault_has_error = true;
	c->fault_error = error;
	siglongjmp(c->fault_jump, 1);
}

noreturn_fn void soft_fault_no_error(struct soft_cpu *c, unsigned vector)
{
	c->fault_vector = (uint8_t)vector;
	c->fault_has_error = false;
	c->fault_error = 0;
	siglongjmp(c->fault_jump, 1);
}

noreturn_fn void soft__not_canonical(struct soft_cpu *c, unsigned seg)
{
	soft_fault(c, seg == CPU_SS ? CPU_SS_FAULT : CPU_GP, 0);
}

/* EXT: the event does not come from the program itself. */
static uint32_t ext(const struct soft_cpu *c)
{
	return c->s.events.injected != CPU_EVENT_SOFT_INTERRUPT;
}

static uint32_t idt_error(const struct soft_cpu *c, uint8_t vector)
{
	return (uint32_t)vector << 3 | 2 | ext(c);
}

static bool is_fault(const struct soft_cpu *c)
{
	uint8_t v = c->s.events.vector;

	return c->s.events.injected == CPU_EVENT_EXCEPTION && v != CPU_DB && v != CPU_BP &&
	       v != CPU_OF && v != CPU_DF && v != CPU_MC;
}

static uint64_t pushed_flags(const struct soft_cpu *c)
{
	return soft_flags_get(c) | (is_fault(c) ? CPU_FLAG_RF : 0);
}

static void delivered(struct soft_cpu *c)
{
	struct cpu_events *ev = &c->s.events;

	if (ev->injected == CPU_EVENT_NMI) {
		ev->nmi_masked = true;
	}
	ev->injected = CPU_EVENT_NONE;
	ev->shadow_sti = ev->shadow_mov_ss = false;
	soft_mode_update(c);
}

/* --- Real mode --- */

static void deliver_real(struct soft_cpu *c, uint8_t vector)
{
	uint32_t entry = 0;
	uint64_t flags = soft_flags_get(c);

	if (vector * 4u + 3 > c->s.idt.limit) {
		soft_fault(c, CPU_GP, 0);
	}
	entry = (uint32_t)soft_load_system(c, c->s.idt.base + vector * 4u, 4);
	/* All three are pushed below the stack pointer as it is; it moves at the end. */
	uint64_t sp = c->s.gpr[CPU_RSP];
	uint16_t values[3] = { (uint16_t)flags, c->s.seg[CPU_CS].selector, (uint16_t)c->s.rip };

	for (unsigned i = 0; i < 3; i++) {
		sp = (sp & ~UINT64_C(0xffff)) | ((sp - 2) & 0xffff);
		soft_store(c, soft_linear(c, CPU_SS, sp & 0xffff, 2, SOFT_WRITE), 2, values[i]);
	}
	c->s.gpr[CPU_RSP] = sp;
	soft_flags_set(c, flags & ~(uint64_t)(CPU_FLAG_IF | CPU_FLAG_TF | CPU_FLAG_AC |
					      CPU_FLAG_RF));
	soft_seg_load_real(c, CPU_CS, (uint16_t)(entry >> 16));
	c->s.rip = entry & 0xffff;
	delivered(c);
}

/* --- Through a gate --- */

struct gate {
	uint16_t selector;
	uint64_t offset;
	uint8_t  type, dpl, ist;
	bool     present;
};

static struct gate gate_read(struct soft_cpu *c, uint8_t vector)
{
	unsigned bytes = soft_long(c) ? 16 : 8;
	uint64_t at = c->s.idt.base + vector * bytes, w = 0, high = 0;

	if (vector * bytes + bytes - 1 > c->s.idt.limit) {
		soft_fault(c, CPU_GP, idt_error(c, vector));
	}
	w = soft_load_system(c, at, 8);
	if (bytes == 16) {
		high = soft_load_system(c, at + 8, 8);
	}
	return (struct gate){
		.selector = (uint16_t)(w >> 16),
		.offset = (w & 0xffff) | (w >> 32 & 0xffff0000) | high << 32,
		.type = w >> 40 & 0x1f, .dpl = w >> 45 & 3, .ist = w >> 32 & 7,
		.present = (w >> 47 & 1) != 0,
	};
}

static void gate_check(struct soft_cpu *c, const struct gate *g, uint8_t vector, bool checked)
{
	bool known = g->type == 0xe || g->type == 0xf ||
		     (!soft_long(c) && (g->type == 5 || g->type == 6 || g->type == 7));

	if (!known || (checked && g->dpl < c->cpl)) {
		soft_fault(c, CPU_GP, idt_error(c, vector));
	}
	if (!g->present) {
		soft_fault(c, CPU_NP, idt_error(c, vector));
	}
}

/* The code segment that the gate names. Returns the privilege that it will run at. */
static unsigned gate_code(struct soft_cpu *c, const struct gate *g, struct soft_desc *ret)
{
	uint32_t sel = g->selector & 0xfffc;
	bool vm = (c->s.rflags & CPU_FLAG_VM) != 0;

	if (sel == 0) {
		soft_fault(c, CPU_GP, ext(c));
	}
	if (soft_desc_read(c, g->selector, ret) < 0 ||
	    (ret->ar & (CPU_AR_S | CPU_AR_CODE)) != (CPU_AR_S | CPU_AR_CODE) ||
	    soft_dpl(ret->ar) > c->cpl) {
		soft_fault(c, CPU_GP, sel | ext(c));
	}
	if (soft_long(c) && (!(ret->ar & CPU_AR_L) || (ret->ar & CPU_AR_DB))) {
		soft_fault(c, CPU_GP, sel | ext(c));
	}
	if (vm && ((ret->ar & CPU_AR_DC) || soft_dpl(ret->ar) != 0)) {
		soft_fault(c, CPU_GP, sel | ext(c));
	}
	if (!(ret->ar & CPU_AR_P)) {
		soft_fault(c, CPU_NP, sel | ext(c));
	}
	return ret->ar & CPU_AR_DC ? c->cpl : soft_dpl(ret->ar);
}

static void enter_gate(struct soft_cpu *c, const struct gate *g, const struct soft_desc *code,
		       unsigned cpl, uint64_t offset)
{
	uint64_t flags = soft_flags_get(c);
	struct soft_desc d = *code;

	soft_desc_accessed(c, &d);
	soft_seg_set(&c->s.seg[CPU_CS], (uint16_t)((g->selector & 0xfffc) | cpl), &d);
	c->s.rip = offset;
	flags &= ~(uint64_t)(CPU_FLAG_TF | CPU_FLAG_NT | CPU_FLAG_RF | CPU_FLAG_VM);
	if (!(g->type & 1)) {
		flags &= ~(uint64_t)CPU_FLAG_IF;
	}
	soft_flags_set(c, flags);
}

static void deliver_long(struct soft_cpu *c, const struct gate *g)
{
	struct cpu_events *ev = &c->s.events;
	struct soft_desc code = { 0 };
	unsigned cpl = gate_code(c, g, &code);
	uint64_t sp = c->s.gpr[CPU_RSP];
	bool inner = cpl < c->cpl;
	uint64_t frame[6] = { ev->error, c->s.rip, c->s.seg[CPU_CS].selector, pushed_flags(c), sp,
			      c->s.seg[CPU_SS].selector };

	if (!soft_canonical(g->offset)) {
		soft_fault(c, CPU_GP, ext(c));
	}
	if (g->ist) {
		uint32_t at = 0x1c + 8u * g->ist;

		if (at + 7 > c->s.tr.limit) {
			soft_fault(c, CPU_TS, (c->s.tr.selector & 0xfffc) | ext(c));
		}
		sp = soft_load_system(c, c->s.tr.base + at, 8);
	} else if (inner) {
		uint32_t at = 4 + 8 * cpl;

		if (at + 7 > c->s.tr.limit) {
			soft_fault(c, CPU_TS, (c->s.tr.selector & 0xfffc) | ext(c));
		}
		sp = soft_load_system(c, c->s.tr.base + at, 8);
	}
	sp &= ~UINT64_C(15);
	unsigned first = ev->has_error ? 0 : 1;

	for (unsigned i = 6; i-- > first; ) {
		sp -= 8;
		if (!soft_canonical(sp)) {
			soft_fault(c, CPU_SS_FAULT, ext(c));
		}
		soft_store_system(c, sp, 8, frame[i]);
	}
	enter_gate(c, g, &code, cpl, g->offset);
	if (inner) {
		c->s.seg[CPU_SS] = (struct cpu_seg){
			.selector = (uint16_t)cpl,
			.ar = CPU_AR_UNUSABLE | cpl << CPU_AR_DPL_SHIFT,
		};
	}
	c->s.gpr[CPU_RSP] = sp;
	delivered(c);
}

/* Where a legacy delivery pushes: a stack that is not loaded yet. */
struct new_stack {
	struct cpu_seg seg;
	uint64_t       sp;
};

static void stack_push(struct soft_cpu *c, struct new_stack *st, unsigned bytes, uint64_t v)
{
	bool big = (st->seg.ar & CPU_AR_DB) != 0;
	uint64_t mask = big ? UINT32_MAX : 0xffff;
	uint64_t sp = (st->sp - bytes) & mask;
	uint32_t limit = st->seg.limit;
	bool down = (st->seg.ar & CPU_AR_DC) && (st->seg.ar & CPU_AR_S);
	uint64_t last = sp + bytes - 1;
	bool bad = down ? sp <= limit || last > mask : last > limit;

	if (bad) {
		soft_fault(c, CPU_SS_FAULT, (st->seg.selector & 0xfffc) | ext(c));
	}
	soft_store_system(c, (st->seg.base + sp) & UINT32_MAX, bytes, v);
	st->sp = (st->sp & ~mask) | sp;
}

static void push_vm86(struct soft_cpu *c, struct new_stack *st, unsigned bytes)
{
	stack_push(c, st, bytes, c->s.seg[CPU_GS].selector);
	stack_push(c, st, bytes, c->s.seg[CPU_FS].selector);
	stack_push(c, st, bytes, c->s.seg[CPU_DS].selector);
	stack_push(c, st, bytes, c->s.seg[CPU_ES].selector);
}

static void deliver_legacy(struct soft_cpu *c, const struct gate *g)
{
	struct cpu_events *ev = &c->s.events;
	struct soft_desc code = { 0 };
	unsigned cpl = gate_code(c, g, &code);
	unsigned bytes = g->type & 8 ? 4 : 2;
	bool vm = (c->s.rflags & CPU_FLAG_VM) != 0, inner = cpl < c->cpl;
	uint64_t offset = bytes == 4 ? (uint32_t)g->offset : g->offset & 0xffff;
	struct new_stack st = { .seg = c->s.seg[CPU_SS], .sp = c->s.gpr[CPU_RSP] };

	if (inner) {
		uint16_t ss = 0;
		struct soft_desc d = { 0 };

		soft_tss_stack(c, cpl, &ss, &st.sp);
		soft_stack_desc(c, ss, cpl, CPU_TS, &d);
		soft_desc_accessed(c, &d);
		soft_seg_set(&st.seg, ss, &d);
	}
	if (offset > code.limit) {
		soft_fault(c, CPU_GP, ext(c));
	}
	if (vm) {
		push_vm86(c, &st, bytes);
	}
	if (inner) {
		stack_push(c, &st, bytes, c->s.seg[CPU_SS].selector);
		stack_push(c, &st, bytes, c->s.gpr[CPU_RSP]);
	}
	stack_push(c, &st, bytes, pushed_flags(c));
	stack_push(c, &st, bytes, c->s.seg[CPU_CS].selector);
	stack_push(c, &st, bytes, c->s.rip);
	if (ev->has_error) {
		stack_push(c, &st, bytes, ev->error);
	}
	enter_gate(c, g, &code, cpl, offset);
	c->s.seg[CPU_SS] = st.seg;
	c->s.gpr[CPU_RSP] = st.sp;
	for (unsigned seg = 0; vm && seg < CPU_SEG__COUNT; seg++) {
		if (seg != CPU_CS && seg != CPU_SS) {
			c->s.seg[seg] = (struct cpu_seg){ .ar = CPU_AR_UNUSABLE };
		}
	}
	delivered(c);
}

static void deliver_gate(struct soft_cpu *c, uint8_t vector, bool checked)
{
	struct gate g = gate_read(c, vector);

	gate_check(c, &g, vector, checked);
	if (g.type == 5) {
		soft_task_switch(c, g.selector, SOFT_TASK_EVENT, c->s.events.has_error,
				 c->s.events.error);
		delivered(c);
	} else if (soft_long(c)) {
		deliver_long(c, &g);
	} else {
		deliver_legacy(c, &g);
	}
}

static void deliver(struct soft_cpu *c, bool checked)
{
	uint8_t vector = c->s.events.injected == CPU_EVENT_NMI ? CPU_NMI : c->s.events.vector;

	if (!(c->s.cr0 & CPU_CR0_PE)) {
		deliver_real(c, vector);
		return;
	}
	if (checked && (c->s.rflags & CPU_FLAG_VM) &&
	    (c->s.rflags & CPU_FLAG_IOPL) != CPU_FLAG_IOPL) {
		soft_fault(c, CPU_GP, 0);
	}
	deliver_gate(c, vector, checked);
}

void soft_deliver_injected(struct soft_cpu *c)
{
	deliver(c, false);
}

void soft_deliver_interrupt(struct soft_cpu *c, uint8_t vector)
{
	struct cpu_events *ev = &c->s.events;

	ev->injected = CPU_EVENT_INTERRUPT;
	ev->vector = vector;
	ev->has_error = false;
	deliver(c, false);
}

void soft_deliver_nmi(struct soft_cpu *c)
{
	struct cpu_events *ev = &c->s.events;

	ev->injected = CPU_EVENT_NMI;
	ev->vector = CPU_NMI;
	ev->has_error = false;
	deliver(c, false);
}

void soft_trap(struct soft_cpu *c, uint8_t vector, bool checked)
{
	struct cpu_events *ev = &c->s.events;
	uint64_t rip = c->s.rip;

	/* A fault of the delivery is one of the instruction: it begins again. */
	c->trap_rip = rip;
	c->trapping = true;
	c->s.rip = c->next_rip;
	ev->injected = CPU_EVENT_SOFT_INTERRUPT;
	ev->vector = vector;
	ev->has_error = false;
	deliver(c, checked);
	c->trapping = false;
	c->no_step = true;
	c->next_rip = c->s.rip;
}

void soft_deliver_debug(struct soft_cpu *c, uint64_t dr6)
{
	struct cpu_events *ev = &c->s.events;

	c->s.dr6 |= dr6;
	c->s.dr7 &= ~BIT(13);
	ev->injected = CPU_EVENT_EXCEPTION;
	ev->vector = CPU_DB;
	ev->has_error = false;
	deliver(c, false);
}

noreturn_fn void soft_fault_debug(struct soft_cpu *c, uint64_t dr6)
{
	c->s.dr6 |= dr6;
	c->s.dr7 &= ~BIT(13);
	soft_fault_no_error(c, CPU_DB);
}

/* --- A fault, perhaps while another event is delivered --- */

enum fault_class { BENIGN, CONTRIBUTORY, PAGE_FAULT };

static enum fault_class class_of(unsigned vector)
{
	switch (vector) {
	case CPU_DE: case CPU_TS: case CPU_NP: case CPU_SS_FAULT: case CPU_GP: {
		return CONTRIBUTORY;
	}
	case CPU_PF: {
		return PAGE_FAULT;
	}
	default: {
		return BENIGN;
	}
	}
}

static bool makes_double(unsigned first, unsigned second)
{
	enum fault_class a = class_of(first), b = class_of(second);

	return (a == CONTRIBUTORY && b == CONTRIBUTORY) || (a == PAGE_FAULT && b != BENIGN);
}

static bool has_error_code(const struct soft_cpu *c, unsigned vector)
{
	return (c->s.cr0 & CPU_CR0_PE) &&
	       (vector == CPU_DF || (vector >= CPU_TS && vector <= CPU_PF) || vector == CPU_AC);
}

int soft_deliver_fault(struct soft_cpu *c)
{
	struct cpu_events *ev = &c->s.events;
	uint8_t vector = c->fault_vector;
	uint32_t error = c->fault_error;

	if (c->trapping) {
		c->trapping = false;
		c->s.rip = c->trap_rip;
	}
	if (ev->injected == CPU_EVENT_EXCEPTION) {
		if (ev->vector == CPU_DF) {
			ev->injected = CPU_EVENT_NONE;
			return -1;
		}
		if (makes_double(ev->vector, vector)) {
			vector = CPU_DF;
			error = 0;
		}
	}
	ev->injected = CPU_EVENT_EXCEPTION;
	ev->vector = vector;
	ev->has_error = has_error_code(c, vector);
	ev->error = error;
	ev->shadow_sti = ev->shadow_mov_ss = false;
	deliver(c, false);
	return 0;
}
