/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What of a vCPU is saved, and what no vCPU can be in. The check keeps out what an engine could
 * not load: reserved bits, addresses that are not canonical, a malformed XSAVE area.
 */
#include "vm/cpu/state-desc.h"

#include <errno.h>
#include <string.h>

static const struct state_field seg_fields[] = {
	STATE_U64(1, struct cpu_seg, base),
	STATE_U32(2, struct cpu_seg, limit),
	STATE_U32(3, struct cpu_seg, ar, .max = 0x1f0ff),
	STATE_U16(4, struct cpu_seg, selector),
};
static const struct state_desc seg_desc =
	STATE_DESC("segment", struct cpu_seg, seg_fields, .version = 1, .oldest = 1);

static const struct state_field table_fields[] = {
	STATE_U64(1, struct cpu_table, base),
	STATE_U16(2, struct cpu_table, limit),
};
static const struct state_desc table_desc =
	STATE_DESC("table", struct cpu_table, table_fields, .version = 1, .oldest = 1);

static const struct state_field msr_fields[] = {
	STATE_U64(1, struct cpu_msrs, star), STATE_U64(2, struct cpu_msrs, lstar),
	STATE_U64(3, struct cpu_msrs, cstar), STATE_U64(4, struct cpu_msrs, sfmask),
	STATE_U64(5, struct cpu_msrs, kernel_gs_base),
	STATE_U64(6, struct cpu_msrs, sysenter_cs), STATE_U64(7, struct cpu_msrs, sysenter_esp),
	STATE_U64(8, struct cpu_msrs, sysenter_eip),
	STATE_U64(9, struct cpu_msrs, pat), STATE_U64(10, struct cpu_msrs, misc_enable),
	STATE_U64(11, struct cpu_msrs, spec_ctrl),
	STATE_U64(12, struct cpu_msrs, tsc_aux, .max = UINT32_MAX),
	STATE_U64(13, struct cpu_msrs, tsc_adjust),
	STATE_U64(14, struct cpu_msrs, mtrr_def_type, .max = 0xfff),
	STATE_U64S(15, struct cpu_msrs, mtrr_fixed),
	STATE_U64S(16, struct cpu_msrs, mtrr_var),
	STATE_U64(17, struct cpu_msrs, mcg_status), STATE_U64(18, struct cpu_msrs, mcg_ctl),
	STATE_U64(19, struct cpu_msrs, pv_wall_clock),
	STATE_U64(20, struct cpu_msrs, pv_system_time),
	STATE_U64(21, struct cpu_msrs, pv_eoi), STATE_U64(22, struct cpu_msrs, pv_steal_time),
	STATE_U64(23, struct cpu_msrs, pv_async_pf),
	STATE_U64(24, struct cpu_msrs, pv_poll_control),
};
static const struct state_desc msr_desc =
	STATE_DESC("msrs", struct cpu_msrs, msr_fields, .version = 1, .oldest = 1);

static const struct state_field event_fields[] = {
	STATE_ENUM(1, struct cpu_events, injected, CPU_EVENT__COUNT),
	STATE_U8(2, struct cpu_events, vector),
	STATE_BOOL(3, struct cpu_events, has_error),
	STATE_U32(4, struct cpu_events, error),
	STATE_BOOL(5, struct cpu_events, exception_pending),
	STATE_BOOL(6, struct cpu_events, nmi_pending),
	STATE_BOOL(7, struct cpu_events, nmi_masked),
	STATE_BOOL(8, struct cpu_events, shadow_sti),
	STATE_BOOL(9, struct cpu_events, shadow_mov_ss),
	STATE_U8(10, struct cpu_events, debug_held, .since = 2, .max = 15),
};
static const struct state_desc event_desc =
	STATE_DESC("events", struct cpu_events, event_fields, .version = 2, .oldest = 1);

static bool canonical(uint64_t v)
{
	uint64_t top = v >> 47;

	return top == 0 || top == BIT(17) - 1;
}

static int wrong(struct err *e, const char *what)
{
	return err_set(e, EBADMSG, ERR_INVALID, "%s", what);
}

static int check_control(const struct cpu_state *s, struct err *e)
{
	bool paging = (s->cr0 & CPU_CR0_PG) != 0;

	if (s->cr0 >> 32 || (paging && !(s->cr0 & CPU_CR0_PE)) ||
	    ((s->cr0 & CPU_CR0_NW) && !(s->cr0 & CPU_CR0_CD))) {
		return wrong(e, "cr0");
	}
	if (s->cr4 >> 32 || (s->cr4 & CPU_CR4_LA57)) {
		return wrong(e, "cr4");
	}
	if (s->efer & ~(uint64_t)(CPU_EFER_SCE | CPU_EFER_LME | CPU_EFER_LMA | CPU_EFER_NXE)) {
		return wrong(e, "efer");
	}
	if (!!(s->efer & CPU_EFER_LMA) != (paging && (s->efer & CPU_EFER_LME)) ||
	    ((s->efer & CPU_EFER_LMA) && !(s->cr4 & CPU_CR4_PAE))) {
		return wrong(e, "efer against cr0 and cr4");
	}
	if ((s->cr4 & CPU_CR4_PCIDE) && !(s->efer & CPU_EFER_LMA)) {
		return wrong(e, "cr4: PCID without long mode");
	}
	return s->dr6 >> 32 || s->dr7 >> 32 ? wrong(e, "dr6 or dr7") : 0;
}

static int check_addresses(const struct cpu_state *s, struct err *e)
{
	const uint64_t all[] = {
		s->seg[CPU_FS].base, s->seg[CPU_GS].base, s->ldt.base, s->tr.base, s->gdt.base,
		s->idt.base, s->msr.kernel_gs_base, s->msr.lstar, s->msr.cstar,
		s->msr.sysenter_esp, s->msr.sysenter_eip,
	};

	for (size_t i = 0; i < ARRAY_LEN(all); i++) {
		if (!canonical(all[i])) {
			return wrong(e, "an address that is not canonical");
		}
	}
	return 0;
}

/* SDM 1, 13.4 (XSAVE Area), 13.8 (what XRSTOR refuses) */
static int check_xsave(const struct cpu_state *s, struct err *e)
{
	uint64_t bv;
	uint32_t mxcsr;
	static const uint8_t zero[56];

	memcpy(&bv, s->xsave + 512, sizeof(bv));
	memcpy(&mxcsr, s->xsave + 24, sizeof(mxcsr));
	if (bv & ~(uint64_t)(CPU_XCR0_X87 | CPU_XCR0_SSE | CPU_XCR0_AVX)) {
		return wrong(e, "xsave: unknown components");
	}
	if (memcmp(s->xsave + 520, zero, sizeof(zero)) != 0) {
		return wrong(e, "xsave: header");
	}
	return mxcsr & 0xffff0000 ? wrong(e, "xsave: mxcsr") : 0;
}

static int check_events(const struct cpu_state *s, struct err *e)
{
	const struct cpu_events *v = &s->events;

	if ((v->injected == CPU_EVENT_EXCEPTION || v->exception_pending) && v->vector > 31) {
		return wrong(e, "events: no exception has this vector");
	}
	return v->exception_pending && v->injected == CPU_EVENT_EXCEPTION ?
		       wrong(e, "events: two exceptions") : 0;
}

static int cpu_check(const void *p, struct err *e)
{
	const struct cpu_state *s = p;

	if (!(s->xcr0 & CPU_XCR0_X87) || ((s->xcr0 & CPU_XCR0_AVX) && !(s->xcr0 & CPU_XCR0_SSE))) {
		return wrong(e, "xcr0");
	}
	if (s->rflags >> 22 || !(s->rflags & CPU_FLAG_1) || (s->rflags & 0x8028)) {
		return wrong(e, "rflags");
	}
	int r = check_control(s, e);

	r = r < 0 ? r : check_addresses(s, e);
	r = r < 0 ? r : check_xsave(s, e);
	return r < 0 ? r : check_events(s, e);
}

static const struct state_field cpu_fields[] = {
	STATE_U64S(1, struct cpu_state, gpr),
	STATE_U64(2, struct cpu_state, rip),
	STATE_U64(3, struct cpu_state, rflags),
	STATE_STRUCTS(4, struct cpu_state, seg, struct cpu_seg, &seg_desc),
	STATE_STRUCT(5, struct cpu_state, ldt, struct cpu_seg, &seg_desc),
	STATE_STRUCT(6, struct cpu_state, tr, struct cpu_seg, &seg_desc),
	STATE_STRUCT(7, struct cpu_state, gdt, struct cpu_table, &table_desc),
	STATE_STRUCT(8, struct cpu_state, idt, struct cpu_table, &table_desc),
	STATE_U64(9, struct cpu_state, cr0), STATE_U64(10, struct cpu_state, cr2),
	STATE_U64(11, struct cpu_state, cr3), STATE_U64(12, struct cpu_state, cr4),
	STATE_U64(13, struct cpu_state, cr8, .max = 15),
	STATE_U64S(14, struct cpu_state, pdptr),
	STATE_U64(15, struct cpu_state, efer),
	STATE_U64(16, struct cpu_state, xcr0, .max = 7),
	STATE_U64S(17, struct cpu_state, dr),
	STATE_U64(18, struct cpu_state, dr6), STATE_U64(19, struct cpu_state, dr7),
	STATE_STRUCT(20, struct cpu_state, msr, struct cpu_msrs, &msr_desc),
	STATE_STRUCT(21, struct cpu_state, events, struct cpu_events, &event_desc),
	STATE_ENUM(22, struct cpu_state, mp_state, CPU_MP__COUNT),
	STATE_U64(23, struct cpu_state, tsc),
	STATE_BYTES(24, struct cpu_state, xsave),
};

const struct state_desc cpu_state_desc = STATE_DESC("cpu", struct cpu_state, cpu_fields,
						    .version = 1, .oldest = 1,
						    .check = cpu_check);

static const struct state_field clock_fields[] = {
	STATE_U64(1, struct engine_clock, guest_ns, .max = INT64_MAX),
	STATE_U64(2, struct engine_clock, wall_ns),
	STATE_U64(3, struct engine_clock, tsc),
	STATE_U64(4, struct engine_clock, tsc_hz, .min = 1000000, .max = UINT64_C(100000000000)),
};

const struct state_desc clock_state_desc =
	STATE_DESC("clock", struct engine_clock, clock_fields, .version = 1, .oldest = 1);
