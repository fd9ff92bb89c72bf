/* SPDX-License-Identifier: Apache-2.0 */
/* Architectural state: what reset and INIT leave, and the table of MSRs. */
#include <string.h>

#include "vm/cpu/state.h"

#define MSR(num, member) { num, offsetof(struct cpu_msrs, member), #member }

const struct cpu_msr_desc cpu_msr_table[] = {
	MSR(0x3b, tsc_adjust),
	MSR(0x48, spec_ctrl),
	MSR(0x174, sysenter_cs),
	MSR(0x175, sysenter_esp),
	MSR(0x176, sysenter_eip),
	MSR(0x17a, mcg_status),
	MSR(0x17b, mcg_ctl),
	MSR(0x1a0, misc_enable),
	MSR(0x200, mtrr_var[0]), MSR(0x201, mtrr_var[1]), MSR(0x202, mtrr_var[2]),
	MSR(0x203, mtrr_var[3]), MSR(0x204, mtrr_var[4]), MSR(0x205, mtrr_var[5]),
	MSR(0x206, mtrr_var[6]), MSR(0x207, mtrr_var[7]), MSR(0x208, mtrr_var[8]),
	MSR(0x209, mtrr_var[9]), MSR(0x20a, mtrr_var[10]), MSR(0x20b, mtrr_var[11]),
	MSR(0x20c, mtrr_var[12]), MSR(0x20d, mtrr_var[13]), MSR(0x20e, mtrr_var[14]),
	MSR(0x20f, mtrr_var[15]),
	MSR(0x250, mtrr_fixed[0]), MSR(0x258, mtrr_fixed[1]), MSR(0x259, mtrr_fixed[2]),
	MSR(0x268, mtrr_fixed[3]), MSR(0x269, mtrr_fixed[4]), MSR(0x26a, mtrr_fixed[5]),
	MSR(0x26b, mtrr_fixed[6]), MSR(0x26c, mtrr_fixed[7]), MSR(0x26d, mtrr_fixed[8]),
	MSR(0x26e, mtrr_fixed[9]), MSR(0x26f, mtrr_fixed[10]),
	MSR(0x277, pat),
	MSR(0x2ff, mtrr_def_type),
	MSR(0xc0000081, star),
	MSR(0xc0000082, lstar),
	MSR(0xc0000083, cstar),
	MSR(0xc0000084, sfmask),
	MSR(0xc0000102, kernel_gs_base),
	MSR(0xc0000103, tsc_aux),
	MSR(0x4b564d00, pv_wall_clock),
	MSR(0x4b564d01, pv_system_time),
	MSR(0x4b564d02, pv_async_pf),
	MSR(0x4b564d03, pv_steal_time),
	MSR(0x4b564d04, pv_eoi),
	MSR(0x4b564d05, pv_poll_control),
};

const size_t cpu_msr_table_len = ARRAY_LEN(cpu_msr_table);

enum {
	XSAVE_FCW = 0, XSAVE_MXCSR = 24, XSAVE_MXCSR_MASK = 28, XSAVE_BV = 512,
	FCW_RESET = 0x40, MXCSR_RESET = 0x1f80,
	/* Of the components; MXCSR belongs to none of them in the standard format. */
	X87_HEAD = 24, XSAVE_ST = 32, XSAVE_XMM = 160, XSAVE_XMM_END = 416, XSAVE_YMM = 576,
	FCW_INIT = 0x37f,
};

void cpu_xsave_fill(uint8_t *xsave, uint64_t parts)
{
	uint16_t fcw = FCW_INIT;
	uint64_t bv = 0;

	memcpy(&bv, xsave + XSAVE_BV, sizeof(bv));
	uint64_t missing = parts & ~bv;

	if (missing & CPU_XCR0_X87) {
		memset(xsave, 0, X87_HEAD);
		memcpy(xsave + XSAVE_FCW, &fcw, sizeof(fcw));
		memset(xsave + XSAVE_ST, 0, XSAVE_XMM - XSAVE_ST);
	}
	if (missing & CPU_XCR0_SSE) {
		memset(xsave + XSAVE_XMM, 0, XSAVE_XMM_END - XSAVE_XMM);
	}
	if (missing & CPU_XCR0_AVX) {
		memset(xsave + XSAVE_YMM, 0, CPU_XSAVE_BYTES - XSAVE_YMM);
	}
	bv |= parts;
	memcpy(xsave + XSAVE_BV, &bv, sizeof(bv));
}

static void reset_segments(struct cpu_state *s)
{
	const uint32_t data = CPU_AR_P | CPU_AR_S | CPU_AR_RW | CPU_AR_ACCESSED;

	for (unsigned i = 0; i < CPU_SEG__COUNT; i++) {
		s->seg[i] = (struct cpu_seg){ .limit = 0xffff, .ar = data };
	}
	s->seg[CPU_CS].selector = 0xf000;
	s->seg[CPU_CS].base = 0xffff0000;
	s->seg[CPU_CS].ar = data | CPU_AR_CODE;
	s->ldt = (struct cpu_seg){ .limit = 0xffff, .ar = CPU_AR_P | 2 };
	s->tr = (struct cpu_seg){ .limit = 0xffff, .ar = CPU_AR_P | 11 };
	s->gdt.limit = s->idt.limit = 0xffff;
}

static void reset_fpu(struct cpu_state *s)
{
	uint16_t fcw = FCW_RESET;
	uint32_t mxcsr = MXCSR_RESET, mask = 0xffff;
	uint64_t bv = CPU_XCR0_X87 | CPU_XCR0_SSE;

	memset(s->xsave, 0, sizeof(s->xsave));
	memcpy(s->xsave + XSAVE_FCW, &fcw, sizeof(fcw));
	memcpy(s->xsave + XSAVE_MXCSR, &mxcsr, sizeof(mxcsr));
	memcpy(s->xsave + XSAVE_MXCSR_MASK, &mask, sizeof(mask));
	memcpy(s->xsave + XSAVE_BV, &bv, sizeof(bv));
}

void cpu_state_reset(struct cpu_state *s, bool bsp)
{
	memset(s, 0, sizeof(*s));
	s->rip = 0xfff0;
	s->rflags = CPU_FLAG_1;
	s->cr0 = CPU_CR0_CD | CPU_CR0_NW | CPU_CR0_ET;
	s->xcr0 = CPU_XCR0_X87;
	s->dr6 = UINT64_C(0xffff0ff0);
	s->dr7 = 0x400;
	s->msr.pat = UINT64_C(0x0007040600070406);
	s->msr.misc_enable = 1;   /* fast strings */
	reset_segments(s);
	reset_fpu(s);
	s->mp_state = bsp ? CPU_MP_RUNNABLE : CPU_MP_WAIT_INIT;
}

void cpu_state_init(struct cpu_state *s)
{
	struct cpu_state old = *s;

	cpu_state_reset(s, true);
	s->msr = old.msr;
	s->xcr0 = old.xcr0;
	s->tsc = old.tsc;
	s->cr0 = (old.cr0 & (CPU_CR0_CD | CPU_CR0_NW)) | CPU_CR0_ET;
	memcpy(s->xsave, old.xsave, sizeof(s->xsave));
	s->mp_state = CPU_MP_WAIT_SIPI;
}
