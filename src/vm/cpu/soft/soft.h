/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The software engine's insides: what its files share.
 *
 *	insn.h, decode.c, table.c   bytes to struct insn
 *	native.c     instructions that run on the host's own unit, registers and flags swapped in
 *	int.c        integer instructions by hand, for speed
 *	flow.c       jumps, calls, stack, strings, far transfers
 *	system.c     control registers, MSRs, CPUID, descriptor tables, port I/O
 *	mmu.c        paging, the software TLB, checked accesses
 *	fault.c      exceptions and interrupts: delivery in every mode
 *	block.c      decoded blocks, and what makes them stale
 *	run.c        the loop of one vCPU
 *	soft.c       the engine interface
 *
 * A vCPU runs on one thread. Others reach it only by `wants` (an atomic word that the loop looks
 * at between blocks) and by requests that it answers itself.
 */
#ifndef VM_CPU_SOFT_SOFT_H
#define VM_CPU_SOFT_SOFT_H

#include <setjmp.h>
#include <stdatomic.h>

#include "vm/cpu/engine.h"
#include "vm/cpu/soft/insn.h"

enum soft_access { SOFT_READ, SOFT_WRITE, SOFT_FETCH };

/* A cached translation of one 4 KiB page. A tag is the page's virtual address, or one that
 * belongs in another slot, so that it never matches. */
struct soft_tlb_entry {
	uint64_t tag_read, tag_write;
	uint64_t addend;          /* host address = virtual address + addend; RAM only */
	uint64_t gpa;             /* page, and flags in the low bits */
};

enum { SOFT_TLB_ENTRIES = 1024 };

struct soft_cpu {
	struct vcpu      vcpu;
	struct cpu_state s;               /* the flags of arithmetic: see `flags` */
	uint64_t         next_rip;
	/* CF PF AF ZF SF as LAHF gives them in the high byte, OF as SETO in the low one; those
	 * bits of s.rflags are stale while the vCPU runs: soft_flags_get(). */
	uint16_t         flags;
	uint8_t          cpl;
	uint8_t          mode;            /* enum insn_mode */
	atomic_uint      wants;           /* SOFT_WANT_*: what others ask of its loop */
	sigjmp_buf       fault_jump;      /* soft_fault() goes there */
	struct soft_tlb_entry tlb_user[SOFT_TLB_ENTRIES], tlb_kernel[SOFT_TLB_ENTRIES];
};

/* Raise an exception; state is as before the instruction. Does not return. */
_Noreturn void soft_fault(struct soft_cpu *c, unsigned vector, uint32_t error);
_Noreturn void soft_fault_no_error(struct soft_cpu *c, unsigned vector);

/* Effective address inside its segment, and the linear address with the segment's checks. */
uint64_t soft_ea(const struct soft_cpu *c, const struct insn *i);
uint64_t soft_linear(struct soft_cpu *c, unsigned seg, uint64_t ea, unsigned bytes,
		     enum soft_access access);

/* Checked accesses at linear addresses with the current privilege; 1, 2, 4 or 8 bytes. */
uint64_t soft_load(struct soft_cpu *c, uint64_t linear, unsigned bytes);
void     soft_store(struct soft_cpu *c, uint64_t linear, unsigned bytes, uint64_t v);

/* Larger ones: both pages are checked before anything is written. */
void soft_load_bytes(struct soft_cpu *c, uint64_t linear, void *ret, size_t n);
void soft_store_bytes(struct soft_cpu *c, uint64_t linear, const void *data, size_t n);

/*
 * Host address for an atomic read-modify-write of at most 16 bytes inside one page of RAM that
 * is writable; NULL where that cannot be had (registers of a device, two pages): the caller
 * then takes soft_exclusive_begin(), reads, writes and ends it. Faults as a write.
 */
void *soft_atomic(struct soft_cpu *c, uint64_t linear, unsigned bytes);
void  soft_exclusive_begin(struct soft_cpu *c);
void  soft_exclusive_end(struct soft_cpu *c);

#endif
