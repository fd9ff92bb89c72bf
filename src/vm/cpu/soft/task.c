/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Task switches by TSS: jumps, calls, IRET and events through task gates. Legacy modes only.
 *
 * Spec: SDM 3, 7.3 (Task Switching).
 */
#include "vm/cpu/soft/priv.h"

/* Offsets in a 32-bit TSS; those of a 16-bit one follow from the same order. */
enum {
	TSS32_BYTES = 104, TSS16_BYTES = 44,
	T_CR3 = 28, T_EIP = 32, T_EFLAGS = 36, T_EAX = 40, T_ES = 72, T_LDT = 96, T_TRAP = 100,
	S_IP = 14, S_FLAGS = 16, S_AX = 18, S_ES = 34, S_LDT = 42,
	TYPE_BUSY = 2,
};

static void busy(struct soft_cpu *c, uint16_t selector, bool on)
{
	struct soft_desc d = { 0 };

	if (soft_desc_read(c, selector, &d) == 0) {
		uint64_t b = d.raw >> 40 & 0xff;

		soft_store_system(c, d.linear + 5, 1,
				  on ? b | TYPE_BUSY : b & ~(uint64_t)TYPE_BUSY);
	}
}

static void save_old(struct soft_cpu *c, uint64_t rip, uint64_t flags)
{
	uint64_t base = c->s.tr.base;
	bool wide = (c->s.tr.ar & CPU_AR_TYPE) >= 9;
	unsigned n = wide ? 4 : 2;

	soft_store_system(c, base + (wide ? T_EIP : S_IP), n, rip);
	soft_store_system(c, base + (wide ? T_EFLAGS : S_FLAGS), n, flags);
	for (unsigned k = 0; k < 8; k++) {
		soft_store_system(c, base + (wide ? T_EAX : S_AX) + n * k, n, c->s.gpr[k]);
	}
	for (unsigned k = 0; k < (wide ? 6u : 4u); k++) {
		soft_store_system(c, base + (wide ? T_ES : S_ES) + n * k, 2, c->s.seg[k].selector);
	}
}

static void load_segment(struct soft_cpu *c, unsigned seg, uint16_t sel, unsigned cpl)
{
	struct soft_desc d = { 0 };
	uint32_t error = sel & 0xfffc;

	if (error == 0 && seg != CPU_CS && seg != CPU_SS) {
		c->s.seg[seg] = (struct cpu_seg){ .selector = sel, .ar = CPU_AR_UNUSABLE };
		return;
	}
	if (error == 0 || soft_desc_read(c, sel, &d) < 0 || !(d.ar & CPU_AR_S)) {
		soft_fault(c, CPU_TS, error);
	}
	bool code = (d.ar & CPU_AR_CODE) != 0;

	if (seg == CPU_CS) {
		bool fits = d.ar & CPU_AR_DC ? soft_dpl(d.ar) <= cpl : soft_dpl(d.ar) == cpl;

		if (!code || !fits) {
			soft_fault(c, CPU_TS, error);
		}
	} else if (seg == CPU_SS) {
		if (code || !(d.ar & CPU_AR_RW) || soft_dpl(d.ar) != cpl || (sel & 3) != cpl) {
			soft_fault(c, CPU_TS, error);
		}
	} else if (code && !(d.ar & CPU_AR_RW)) {
		soft_fault(c, CPU_TS, error);
	}
	if (!(d.ar & CPU_AR_P)) {
		soft_fault(c, seg == CPU_SS ? CPU_SS_FAULT : CPU_NP, error);
	}
	soft_desc_accessed(c, &d);
	soft_seg_set(&c->s.seg[seg], sel, &d);
}

static void load_new(struct soft_cpu *c, uint64_t base, bool wide, bool nested)
{
	unsigned n = wide ? 4 : 2;
	uint16_t sel[6] = { 0 };
	uint64_t flags = 0;

	if (wide && (c->s.cr0 & CPU_CR0_PG)) {
		c->s.cr3 = soft_load_system(c, base + T_CR3, 4);
		if ((c->s.cr4 & CPU_CR4_PAE) && soft_load_pdptr(c, c->s.cr3) < 0) {
			soft_fault(c, CPU_TS, c->s.tr.selector & 0xfffc);
		}
		soft_tlb_switch(c, false);
	}
	c->s.rip = c->next_rip = soft_load_system(c, base + (wide ? T_EIP : S_IP), n);
	flags = soft_load_system(c, base + (wide ? T_EFLAGS : S_FLAGS), n);
	for (unsigned k = 0; k < 8; k++) {
		c->s.gpr[k] = soft_load_system(c, base + (wide ? T_EAX : S_AX) + n * k, n);
	}
	for (unsigned k = 0; k < (wide ? 6u : 4u); k++) {
		sel[k] = (uint16_t)soft_load_system(c, base + (wide ? T_ES : S_ES) + n * k, 2);
	}
	uint16_t ldt = (uint16_t)soft_load_system(c, base + (wide ? T_LDT : S_LDT), 2);

	soft_flags_set(c, (flags & UINT64_C(0x3f7fd7)) | (nested ? CPU_FLAG_NT : 0));
	c->s.cr0 |= CPU_CR0_TS;
	/* From here on faults are those of the new task. */
	c->s.ldt = (struct cpu_seg){ .selector = ldt, .ar = CPU_AR_UNUSABLE };
	if (ldt & 0xfffc) {
		struct soft_desc d = { 0 };

		if ((ldt & SOFT_SEL_TI) || soft_desc_read(c, ldt, &d) < 0 ||
		    (d.ar & (CPU_AR_S | CPU_AR_TYPE)) != 2 || !(d.ar & CPU_AR_P)) {
			soft_fault(c, CPU_TS, ldt & 0xfffc);
		}
		soft_seg_set(&c->s.ldt, ldt, &d);
	}
	if (c->s.rflags & CPU_FLAG_VM) {
		for (unsigned k = 0; k < 6; k++) {
			soft_seg_load_real(c, k, sel[k]);
		}
		soft_mode_update(c);
		return;
	}
	static const uint8_t order[] = { CPU_CS, CPU_SS, CPU_ES, CPU_DS, CPU_FS, CPU_GS };
	unsigned cpl = sel[CPU_CS] & 3;

	for (unsigned k = 0; k < 6; k++) {
		load_segment(c, order[k], sel[order[k]], cpl);
	}
	soft_mode_update(c);
}

void soft_task_switch(struct soft_cpu *c, uint16_t selector, enum soft_task_cause why,
		      bool has_error, uint32_t error)
{
	struct soft_desc d = { 0 };
	uint32_t sel = selector & 0xfffc;
	unsigned bad = why == SOFT_TASK_IRET ? CPU_TS : CPU_GP;
	bool nested = why == SOFT_TASK_CALL || why == SOFT_TASK_EVENT;
	uint64_t flags = soft_flags_get(c);

	if (sel == 0 || (selector & SOFT_SEL_TI) || soft_desc_read(c, selector, &d) < 0 ||
	    (d.ar & CPU_AR_S)) {
		soft_fault(c, bad, sel);
	}
	unsigned type = d.ar & CPU_AR_TYPE;
	bool wide = type >= 9, is_busy = (type & TYPE_BUSY) != 0;

	if ((type & ~(unsigned)TYPE_BUSY) != 1 && (type & ~(unsigned)TYPE_BUSY) != 9) {
		soft_fault(c, bad, sel);
	}
	if (is_busy != (why == SOFT_TASK_IRET)) {
		soft_fault(c, bad, sel);
	}
	if (!(d.ar & CPU_AR_P)) {
		soft_fault(c, CPU_NP, sel);
	}
	if (d.limit < (wide ? TSS32_BYTES : TSS16_BYTES) - 1) {
		soft_fault(c, CPU_TS, sel);
	}
	if (!nested) {
		busy(c, c->s.tr.selector, false);
		if (why == SOFT_TASK_IRET) {
			flags &= ~(uint64_t)CPU_FLAG_NT;
		}
	}
	save_old(c, why == SOFT_TASK_EVENT ? c->s.rip : c->next_rip, flags);
	if (nested) {
		soft_store_system(c, d.base, 2, c->s.tr.selector);
	}
	if (why != SOFT_TASK_IRET) {
		busy(c, selector, true);
	}
	d.ar |= TYPE_BUSY;
	soft_seg_set(&c->s.tr, selector, &d);
	c->s.dr7 &= ~UINT64_C(0x55);
	load_new(c, d.base, wide, nested);
	if (has_error) {
		soft_push(c, wide ? 4 : 2, error);
	}
	if (c->next_rip > c->s.seg[CPU_CS].limit) {
		soft_fault(c, CPU_GP, 0);
	}
}
