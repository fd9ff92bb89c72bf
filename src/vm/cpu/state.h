/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The architectural state of one x86-64 vCPU: what any engine can take over from another, and
 * what a snapshot holds. Nothing here is an engine's own. Layouts are those of the Intel 64
 * and IA-32 Architectures Software Developer's Manual (SDM).
 */
#ifndef VM_CPU_STATE_H
#define VM_CPU_STATE_H

#include "base/def.h"

/* In the order of the instruction encoding. */
enum cpu_reg {
	CPU_RAX, CPU_RCX, CPU_RDX, CPU_RBX, CPU_RSP, CPU_RBP, CPU_RSI, CPU_RDI,
	CPU_R8, CPU_R9, CPU_R10, CPU_R11, CPU_R12, CPU_R13, CPU_R14, CPU_R15,
	CPU_REG__COUNT,
};

enum cpu_seg_reg { CPU_ES, CPU_CS, CPU_SS, CPU_DS, CPU_FS, CPU_GS, CPU_SEG__COUNT };

/* Access rights: bits 8..23 of a descriptor's second word, moved down by 8; as VMX has them. */
enum {
	CPU_AR_TYPE     = 0x000f,
	CPU_AR_ACCESSED = 0x0001,
	CPU_AR_RW       = 0x0002,   /* code: readable, data: writable */
	CPU_AR_DC       = 0x0004,   /* code: conforming, data: expands down */
	CPU_AR_CODE     = 0x0008,
	CPU_AR_S        = 0x0010,   /* code or data, not a system segment */
	CPU_AR_DPL_SHIFT = 5,
	CPU_AR_DPL      = 0x0060,
	CPU_AR_P        = 0x0080,
	CPU_AR_AVL      = 0x1000,
	CPU_AR_L        = 0x2000,   /* 64-bit code */
	CPU_AR_DB       = 0x4000,   /* 32-bit */
	CPU_AR_G        = 0x8000,
	CPU_AR_UNUSABLE = 0x10000,  /* loaded with a null selector */
};

struct cpu_seg {
	uint64_t base;
	uint32_t limit;      /* in bytes, granularity applied */
	uint32_t ar;         /* CPU_AR_* */
	uint16_t selector;
};

struct cpu_table {           /* GDTR, IDTR */
	uint64_t base;
	uint16_t limit;
};

enum {
	CPU_FLAG_CF = 1u << 0,  CPU_FLAG_1  = 1u << 1,  CPU_FLAG_PF = 1u << 2,
	CPU_FLAG_AF = 1u << 4,  CPU_FLAG_ZF = 1u << 6,  CPU_FLAG_SF = 1u << 7,
	CPU_FLAG_TF = 1u << 8,  CPU_FLAG_IF = 1u << 9,  CPU_FLAG_DF = 1u << 10,
	CPU_FLAG_OF = 1u << 11, CPU_FLAG_IOPL = 3u << 12, CPU_FLAG_NT = 1u << 14,
	CPU_FLAG_RF = 1u << 16, CPU_FLAG_VM = 1u << 17, CPU_FLAG_AC = 1u << 18,
	CPU_FLAG_VIF = 1u << 19, CPU_FLAG_VIP = 1u << 20, CPU_FLAG_ID = 1u << 21,
};

enum {
	CPU_CR0_PE = 1u << 0,  CPU_CR0_MP = 1u << 1,  CPU_CR0_EM = 1u << 2,  CPU_CR0_TS = 1u << 3,
	CPU_CR0_ET = 1u << 4,  CPU_CR0_NE = 1u << 5,  CPU_CR0_WP = 1u << 16, CPU_CR0_AM = 1u << 18,
	CPU_CR0_NW = 1u << 29, CPU_CR0_CD = 1u << 30,
	CPU_CR4_VME = 1u << 0, CPU_CR4_PVI = 1u << 1, CPU_CR4_TSD = 1u << 2, CPU_CR4_DE = 1u << 3,
	CPU_CR4_PSE = 1u << 4, CPU_CR4_PAE = 1u << 5, CPU_CR4_MCE = 1u << 6, CPU_CR4_PGE = 1u << 7,
	CPU_CR4_PCE = 1u << 8, CPU_CR4_OSFXSR = 1u << 9, CPU_CR4_OSXMMEXCPT = 1u << 10,
	CPU_CR4_UMIP = 1u << 11, CPU_CR4_LA57 = 1u << 12, CPU_CR4_FSGSBASE = 1u << 16,
	CPU_CR4_PCIDE = 1u << 17, CPU_CR4_OSXSAVE = 1u << 18, CPU_CR4_SMEP = 1u << 20,
	CPU_CR4_SMAP = 1u << 21, CPU_CR4_PKE = 1u << 22,
	CPU_EFER_SCE = 1u << 0, CPU_EFER_LME = 1u << 8, CPU_EFER_LMA = 1u << 10,
	CPU_EFER_NXE = 1u << 11,
};

#define CPU_CR0_PG UINT64_C(0x80000000)

/* Exceptions, by vector. */
enum {
	CPU_DE = 0, CPU_DB = 1, CPU_NMI = 2, CPU_BP = 3, CPU_OF = 4, CPU_BR = 5, CPU_UD = 6,
	CPU_NM = 7, CPU_DF = 8, CPU_TS = 10, CPU_NP = 11, CPU_SS_FAULT = 12, CPU_GP = 13,
	CPU_PF = 14, CPU_MF = 16, CPU_AC = 17, CPU_MC = 18, CPU_XM = 19,
};

/* An event whose delivery was begun and has to be done again when the vCPU goes on. */
enum cpu_event_kind {
	CPU_EVENT_NONE,
	CPU_EVENT_EXCEPTION,
	CPU_EVENT_INTERRUPT,       /* external */
	CPU_EVENT_SOFT_INTERRUPT,  /* INT n */
	CPU_EVENT_NMI,
	CPU_EVENT__COUNT,
};

struct cpu_events {
	enum cpu_event_kind injected;
	uint8_t  vector;           /* of an exception or interrupt */
	bool     has_error;
	uint32_t error;
	bool     exception_pending;   /* raised, its delivery not begun; vector and error hold it */
	bool     nmi_pending;
	bool     nmi_masked;          /* until IRET */
	bool     shadow_sti;          /* the instruction after STI has not run yet */
	bool     shadow_mov_ss;
	uint8_t  debug_held;          /* data breakpoints, bits of DR6, that MOV SS holds back */
};

enum cpu_mp_state {
	CPU_MP_RUNNABLE,
	CPU_MP_HALTED,
	CPU_MP_WAIT_INIT,     /* an application processor after reset */
	CPU_MP_WAIT_SIPI,     /* INIT came */
	CPU_MP__COUNT,
};

/* Model specific registers; cpu_msr_table[] gives each one's index. */
struct cpu_msrs {
	uint64_t star, lstar, cstar, sfmask, kernel_gs_base;
	uint64_t sysenter_cs, sysenter_esp, sysenter_eip;
	uint64_t pat, misc_enable, spec_ctrl;
	uint64_t tsc_aux, tsc_adjust;
	uint64_t mtrr_def_type, mtrr_fixed[11], mtrr_var[16];
	uint64_t mcg_status, mcg_ctl;
	/* Of the paravirtual interface: Linux, Documentation/virt/kvm/x86/msr.rst */
	uint64_t pv_wall_clock, pv_system_time, pv_eoi, pv_steal_time, pv_async_pf, pv_poll_control;
};

enum {
	CPU_XSAVE_BYTES = 832,   /* x87, SSE and AVX in the standard format; SDM 1, 13.4 */
	CPU_XCR0_X87 = 1, CPU_XCR0_SSE = 2, CPU_XCR0_AVX = 4,
};

struct cpu_state {
	uint64_t gpr[CPU_REG__COUNT];
	uint64_t rip;
	uint64_t rflags;
	struct cpu_seg   seg[CPU_SEG__COUNT], ldt, tr;
	struct cpu_table gdt, idt;
	uint64_t cr0, cr2, cr3, cr4, cr8;
	uint64_t pdptr[4];               /* with 32-bit PAE paging: loaded by MOV to CR3 */
	uint64_t efer, xcr0;
	uint64_t dr[4], dr6, dr7;
	struct cpu_msrs   msr;
	struct cpu_events events;
	enum cpu_mp_state mp_state;
	uint64_t tsc;                    /* what RDTSC would give at the moment of the save */
	_Alignas(64) uint8_t xsave[CPU_XSAVE_BYTES];
};

struct cpu_msr_desc {
	uint32_t    index;
	uint32_t    off;      /* of its uint64_t in struct cpu_msrs */
	const char *name;     /* of the SDM or of the paravirtual interface */
};

extern const struct cpu_msr_desc cpu_msr_table[];
extern const size_t cpu_msr_table_len;

/* State after reset: real mode at f000:fff0; SDM 3, 10.1.1. bsp: the boot processor. */
void cpu_state_reset(struct cpu_state *s, bool bsp);

/*
 * What XSTATE_BV of an XSAVE area leaves out is as after reset: it is written out as that and said
 * to be there. Who changes a component afterwards need not look at that word.
 *
 * @parts  CPU_XCR0_*: components that the processor has
 */
void cpu_xsave_fill(uint8_t *xsave, uint64_t parts);

/* State after INIT of a running one: as reset, but x87, SSE and most MSRs are kept. */
void cpu_state_init(struct cpu_state *s);

#endif
