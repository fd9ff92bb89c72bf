/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Model specific registers, and CPUID. Those that are only kept are in cpu_msr_table; an index
 * that nobody knows is #GP, as on any processor.
 *
 * Spec: SDM 4 (Model-Specific Registers).
 */
#include <errno.h>

#include "vm/cpu/model.h"
#include "vm/cpu/soft/priv.h"

enum {
	MSR_TSC = 0x10, MSR_FEATURE_CONTROL = 0x3a, MSR_TSC_ADJUST = 0x3b, MSR_PRED_CMD = 0x49,
	MSR_UCODE_WRITE = 0x79, MSR_UCODE_REV = 0x8b, MSR_PLATFORM_INFO = 0xce, MSR_MTRR_CAP = 0xfe,
	MSR_ARCH_CAPS = 0x10a, MSR_FLUSH_CMD = 0x10b, MSR_MISC_FEATURES = 0x140,
	MSR_MCG_CAP = 0x179,
	MSR_DEBUGCTL = 0x1d9, MSR_PAT = 0x277, MSR_MTRR_DEF = 0x2ff, MSR_XSS = 0xda0,
	MSR_KVM_WALL_OLD = 0x11, MSR_KVM_TIME_OLD = 0x12,
	MSR_KVM_WALL = 0x4b564d00, MSR_KVM_TIME = 0x4b564d01, MSR_KVM_ASYNC_PF = 0x4b564d02,
	MSR_KVM_STEAL = 0x4b564d03, MSR_KVM_EOI = 0x4b564d04, MSR_KVM_POLL = 0x4b564d05,
};

#define MSR_EFER    UINT32_C(0xc0000080)
#define MSR_LSTAR   UINT32_C(0xc0000082)
#define MSR_CSTAR   UINT32_C(0xc0000083)
#define MSR_SFMASK  UINT32_C(0xc0000084)
#define MSR_FS_BASE UINT32_C(0xc0000100)
#define MSR_GS_BASE UINT32_C(0xc0000101)
#define MSR_KERNEL_GS UINT32_C(0xc0000102)
#define MSR_TSC_AUX UINT32_C(0xc0000103)

static uint64_t *plain(struct soft_cpu *c, uint32_t msr)
{
	for (size_t i = 0; i < cpu_msr_table_len; i++) {
		if (cpu_msr_table[i].index == msr) {
			return (uint64_t *)(void *)((char *)&c->s.msr + cpu_msr_table[i].off);
		}
	}
	return NULL;
}

/* Kept nowhere: reads as told, writes go nowhere. */
static bool constant(uint32_t msr, uint64_t *ret)
{
	*ret = 0;
	switch (msr) {
	case MSR_ARCH_CAPS: {
		*ret = CPU_MODEL_ARCH_CAPS;
		return true;
	}
	case MSR_MTRR_CAP: {
		*ret = 0x508;   /* eight variable ranges, fixed ones, write combining */
		return true;
	}
	case MSR_UCODE_REV: {
		*ret = UINT64_C(0x100000000);
		return true;
	}
	case MSR_FEATURE_CONTROL: {
		*ret = 1;       /* locked, nothing enabled */
		return true;
	}
	case MSR_PRED_CMD: case MSR_FLUSH_CMD: case MSR_UCODE_WRITE: case MSR_PLATFORM_INFO:
	case MSR_MISC_FEATURES: case MSR_MCG_CAP: case MSR_DEBUGCTL: case 0x17: case 0x34:
	case 0x2a: case 0xcd: case 0xe7: case 0xe8: case 0x198: case 0x199: case 0x19a: case 0x1ad:
	case 0x1b0: case 0x1db: case 0x1dc: case 0x1dd: case 0x1de: case 0x1c9:
	case 0xc1: case 0xc2:
	case 0x186: case 0x187: case 0x1a2: case 0x606: case 0x611: case 0x639: case 0x641:
	case 0x619: case 0x9b: case 0x9e: case 0x64e: {
		return true;
	}
	default: {
		return false;
	}
	}
}

int soft_msr_read(struct soft_cpu *c, uint32_t msr, uint64_t *ret)
{
	const uint64_t *p = NULL;
	int r = 0;

	switch (msr) {
	case MSR_TSC: {
		*ret = soft_tsc(c);
		return 0;
	}
	case MSR_EFER: {
		*ret = c->s.efer;
		return 0;
	}
	case MSR_FS_BASE: {
		*ret = c->s.seg[CPU_FS].base;
		return 0;
	}
	case MSR_GS_BASE: {
		*ret = c->s.seg[CPU_GS].base;
		return 0;
	}
	case MSR_KVM_WALL_OLD: case MSR_KVM_TIME_OLD: {
		*ret = msr == MSR_KVM_TIME_OLD ? c->s.msr.pv_system_time : c->s.msr.pv_wall_clock;
		return 0;
	}
	default: {
		break;
	}
	}
	r = lapic_msr_read(c->apic, msr, soft_now(c), ret);
	if (r != -ENOENT) {
		return r;
	}
	p = plain(c, msr);
	if (p) {
		*ret = *p;
		return 0;
	}
	return constant(msr, ret) ? 0 : -EPERM;
}

static int set_efer(struct soft_cpu *c, uint64_t v)
{
	const uint64_t known = CPU_EFER_SCE | CPU_EFER_LME | CPU_EFER_LMA | CPU_EFER_NXE;
	uint64_t old = c->s.efer;

	if ((v & ~known) || ((c->s.cr0 & CPU_CR0_PG) && ((v ^ old) & CPU_EFER_LME))) {
		return -EPERM;
	}
	c->s.efer = (v & ~(uint64_t)CPU_EFER_LMA) | (old & CPU_EFER_LMA);
	if ((v ^ old) & CPU_EFER_NXE) {
		soft_tlb_flush_all(c);
	}
	return 0;
}

static void set_tsc(struct soft_cpu *c, uint64_t v)
{
	int64_t by = (int64_t)(v - soft_tsc(c));

	c->tsc_offset += by;
	c->s.msr.tsc_adjust += (uint64_t)by;
	soft_pv_system_time(c);
	soft_timer_update(c);
}

static int set_paravirtual(struct soft_cpu *c, uint32_t msr, uint64_t v)
{
	switch (msr) {
	case MSR_KVM_WALL: case MSR_KVM_WALL_OLD: {
		c->s.msr.pv_wall_clock = v;
		soft_pv_wall_clock(c, v);
		return 0;
	}
	case MSR_KVM_TIME: case MSR_KVM_TIME_OLD: {
		c->s.msr.pv_system_time = v;
		soft_pv_system_time(c);
		return 0;
	}
	case MSR_KVM_STEAL: {
		if (v & 0x3e) {
			return -EPERM;
		}
		c->s.msr.pv_steal_time = v;
		atomic_store(&c->xl_tick, true);
		soft_pv_steal(c, true);
		return 0;
	}
	case MSR_KVM_EOI: {
		if (lapic_set_pv_eoi(c->apic, v) < 0) {
			return -EPERM;
		}
		c->s.msr.pv_eoi = v;
		return 0;
	}
	case MSR_KVM_POLL: {
		c->s.msr.pv_poll_control = v & 1;
		return v >> 1 ? -EPERM : 0;
	}
	default: {
		return -ENOENT;
	}
	}
}

static bool memory_type(uint8_t t)
{
	return t == 0 || t == 1 || (t >= 4 && t <= 7);
}

static bool pat_ok(uint64_t v)
{
	for (unsigned k = 0; k < 8; k++) {
		if (!memory_type((uint8_t)(v >> (8 * k)))) {
			return false;
		}
	}
	return true;
}

/* Is the value one that the register takes? */
static bool value_ok(uint32_t msr, uint64_t v)
{
	switch (msr) {
	case MSR_LSTAR: case MSR_CSTAR: case MSR_KERNEL_GS: case 0x175: case 0x176: {
		return soft_canonical(v);
	}
	case MSR_SFMASK: case MSR_TSC_AUX: {
		return v >> 32 == 0;
	}
	case MSR_PAT: {
		return pat_ok(v);
	}
	case MSR_MTRR_DEF: {
		return (v & ~UINT64_C(0xcff)) == 0;
	}
	default: {
		return true;
	}
	}
}

int soft_msr_write(struct soft_cpu *c, uint32_t msr, uint64_t v)
{
	uint64_t *p = NULL, old = 0;
	int r = 0;

	switch (msr) {
	case MSR_TSC: {
		set_tsc(c, v);
		return 0;
	}
	case MSR_TSC_ADJUST: {
		c->tsc_offset += (int64_t)(v - c->s.msr.tsc_adjust);
		c->s.msr.tsc_adjust = v;
		soft_pv_system_time(c);
		return 0;
	}
	case MSR_EFER: {
		return set_efer(c, v);
	}
	case MSR_FS_BASE: case MSR_GS_BASE: {
		if (!soft_canonical(v)) {
			return -EPERM;
		}
		c->s.seg[msr == MSR_FS_BASE ? CPU_FS : CPU_GS].base = v;
		return 0;
	}
	default: {
		break;
	}
	}
	r = lapic_msr_write(c->apic, msr, v, soft_now(c));
	if (r != -ENOENT) {
		soft_timer_update(c);
		c->slow |= SOFT_SLOW_EVENT;
		return r;
	}
	r = set_paravirtual(c, msr, v);
	if (r != -ENOENT) {
		return r;
	}
	p = plain(c, msr);
	if (!p) {
		return constant(msr, &old) ? 0 : -EPERM;
	}
	if (!value_ok(msr, v)) {
		return -EPERM;
	}
	*p = v;
	return 0;
}

/* --- CPUID --- */

void soft_cpuid(struct soft_cpu *c, uint32_t leaf, uint32_t sub, uint32_t ret[4])
{
	const struct cpu_cpuid *e = cpu_model_find(c->cpuid, c->n_cpuid, leaf, sub);

	ret[0] = ret[1] = ret[2] = ret[3] = 0;
	if (!e) {
		return;
	}
	ret[0] = e->eax;
	ret[1] = e->ebx;
	ret[2] = e->ecx;
	ret[3] = e->edx;
	/* What depends on the state. */
	if (e->leaf == 1) {
		ret[2] = (ret[2] & ~(1u << 27)) | (c->s.cr4 & CPU_CR4_OSXSAVE ? 1u << 27 : 0);
		if (!lapic_enabled(c->apic)) {
			ret[3] &= ~(1u << 9);
		}
	} else if (e->leaf == 0xd && e->subleaf <= 1 && e->has_subleaf) {
		ret[1] = c->s.xcr0 & CPU_XCR0_AVX ? CPU_XSAVE_BYTES : 576;
	}
}
