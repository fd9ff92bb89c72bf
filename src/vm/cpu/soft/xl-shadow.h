/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Shadow mappings: the memory of one guest address space, as CPL 3 sees it, mapped in the monitor
 * itself, so that the host's MMU translates.
 *
 * Two ranges of virtual addresses have a place, each at a fixed distance:
 *
 *	low    [64 KiB, 4 GiB)     at the address itself
 *	high   [2^46, 2^47)        at the address + SHADOW_DISTANCE
 *
 * Where programs are linked to a fixed address they and their heap are in the low one; all else
 * that Linux gives a program is in the high one. Both are reserved, with some GiB around them, as
 * memory that nobody may access; nothing of the monitor is ever there. Translated code of the
 * direct kind (xl.h) reads and writes there without a look at the TLB; what is not mapped, or not
 * so, is a SIGSEGV, which leads to the way that a TLB miss takes.
 *
 * The address space is that of a CR3, and all vCPUs share the mappings: they are a TLB that each
 * of them fills and any of them flushes. A page is mapped for writing only if its entry is
 * writable and dirty and it holds no code that is known to the engine.
 *
 * There are none (-ENOTSUP) where guest memory cannot be mapped twice, the addresses are taken
 * (as by ASan), or the kernel refuses; then all code is of the other kinds.
 */
#ifndef VM_CPU_SOFT_XL_SHADOW_H
#define VM_CPU_SOFT_XL_SHADOW_H

#include "vm/cpu/soft/priv.h"

/* What is low has no bit above these; a bit says what is high. */
enum { SHADOW_LOW_BITS = 32, SHADOW_HIGH_BIT = 46 };

#define SHADOW_LOW_FIRST  (UINT64_C(64) << 10)
#define SHADOW_LOW_END    (UINT64_C(1) << SHADOW_LOW_BITS)
#define SHADOW_HIGH_FIRST (UINT64_C(1) << SHADOW_HIGH_BIT)
#define SHADOW_HIGH_END   (UINT64_C(1) << 47)
#define SHADOW_DISTANCE   ((UINT64_C(16) << 30) - SHADOW_HIGH_FIRST)   /* the base of FS */
/* Accesses that begin at most so far from an address that was checked are in what is reserved. */
#define SHADOW_GUARD      (UINT64_C(4) << 30)

/* In one of the two ranges. */
static inline bool shadow_in_range(uint64_t va)
{
	return va < SHADOW_LOW_END ? va >= SHADOW_LOW_FIRST :
				     va >= SHADOW_HIGH_FIRST && va < SHADOW_HIGH_END;
}

/* For a whole VM; before the right to map memory is given up. -ENOTSUP: not on this host. */
int  shadow_new(struct soft_engine *eng) must_check;
void shadow_free(struct soft_engine *eng);

/* c->xl_direct follows: is it the vCPU's address space at CPL 3 that is mapped, and may its code be
 * of the direct kind? After a change of CR3, mode, or what is watched. */
void shadow_update(struct soft_cpu *c);

/* A direct access to va has failed, and the interpreter has run the instruction since: map the
 * page as the vCPU's TLB has it now, if it has, and some around it. false: the same access would
 * fail again, as a write to a page with code. */
bool shadow_fill(struct soft_cpu *c, uint64_t va) must_check;

/* An interrupt came at CPL 3: the address space with most of them is the one to be mapped. */
void shadow_sample(struct soft_cpu *c);

/* For tests: that of the vCPU, if it is not yet. true: it is now, and the guest was let go of. */
bool shadow_take_now(struct soft_cpu *c);

/* The TLB's flushes: all of an address space (by its CR3; UINT64_MAX: of any), or an address of it;
 * the pages that map a guest physical page may not be written any more, or none may. */
void shadow_flush(struct soft_cpu *c, uint64_t cr3);
void shadow_flush_address(struct soft_cpu *c, uint64_t cr3, uint64_t va);
void shadow_drop_writes(struct soft_engine *eng, uint64_t gpa);
void shadow_drop_all_writes(struct soft_engine *eng);

#endif
