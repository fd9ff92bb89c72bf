/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What is counted of translated code, for whoever tunes it (docs/translator.md).
 *
 * Each vCPU counts what its thread does, in C, never in translated code: what stays there costs
 * nothing and is not seen. Any thread may add the counters up.
 */
#ifndef VM_CPU_SOFT_XL_STATS_H
#define VM_CPU_SOFT_XL_STATS_H

#include <stdatomic.h>

#include "vm/cpu/engine.h"
#include "vm/cpu/soft/insn.h"

struct soft_engine;
struct xl_tr;

/* name, its group, its name in the group */
#define XL_COUNTS(X) \
	X(BLOCKS, "translated", "blocks") \
	X(GUEST_BYTES, "translated", "guest bytes") \
	X(HOST_BYTES, "translated", "host bytes") \
	X(REFUSED, "translated", "blocks without a translation") \
	X(NS, "translated", "nanoseconds") \
	X(ENTERED, "entered", "times") \
	X(LEFT_LINK, "left", "jump not linked yet") \
	X(LEFT_MISS, "left", "jump to another page, not in the table") \
	X(LEFT_TARGET, "left", "indirect target not in the table") \
	X(LEFT_WANTED, "left", "something was wanted") \
	X(LEFT_COUNTED, "left", "counted instructions are up") \
	X(LEFT_INSN, "left", "instruction of the interpreter that ends a block") \
	X(LEFT_MEMORY, "left", "access that ends a block") \
	X(LEFT_LOOK, "left", "something to look at") \
	X(LEFT_STALE, "left", "code went stale") \
	X(LEFT_FAULT, "left", "fault") \
	X(CALL_INSN, "calls of the interpreter", "instruction not translated") \
	X(CALL_MEMORY, "calls of the interpreter", "access not in the TLB") \
	X(CALL_JOINED, "calls of the interpreter", "accesses that do not look together") \
	X(CALL_TARGET, "calls of the interpreter", "indirect target not in the table") \
	X(READ_FILLED, "TLB misses", "read, filled") \
	X(READ_FAULT, "TLB misses", "read, fault") \
	X(READ_DEVICE, "TLB misses", "read, device") \
	X(READ_CROSSING, "TLB misses", "read, two pages") \
	X(WRITE_FILLED, "TLB misses", "write, filled") \
	X(WRITE_CODE, "TLB misses", "write, page with code") \
	X(WRITE_FAULT, "TLB misses", "write, fault") \
	X(WRITE_DEVICE, "TLB misses", "write, device") \
	X(WRITE_CROSSING, "TLB misses", "write, two pages") \
	X(FLUSH_USER, "flushes", "TLB of a PCID") \
	X(FLUSH_KERNEL, "flushes", "TLB of the kernel") \
	X(FLUSH_ADDRESS, "flushes", "address") \
	X(SHADOW_TAKEN, "shadow mappings", "address spaces taken") \
	X(SHADOW_GIVEN_UP, "shadow mappings", "given up") \
	X(SHADOW_FILLS, "shadow mappings", "accesses that were not mapped") \
	X(SHADOW_PAGES, "shadow mappings", "pages mapped") \
	X(SHADOW_FLUSHES, "shadow mappings", "flushes of all") \
	X(SHADOW_FLUSHED_PAGES, "shadow mappings", "flushes of an address") \
	X(FORGET_USER, "flushes", "jump table of CPL 3") \
	X(FORGET_KERNEL, "flushes", "jump table of the kernel")

#define XL__COUNT(name, group, text) XC_##name,
enum xl_count { XL_COUNTS(XL__COUNT) XC__COUNT };

/* Of one vCPU. */
struct xl_counts {
	atomic_ullong n[XC__COUNT];
	atomic_ullong by_row[];        /* instructions not translated, by their row of the table */
};

struct xl_counts *xl_counts_new(void);

/* Only the vCPU's own thread adds. */
static inline void xl_add(atomic_ullong *n, uint64_t by)
{
	atomic_store_explicit(n, atomic_load_explicit(n, memory_order_relaxed) + by,
			      memory_order_relaxed);
}

/* Instructions with the most calls of the interpreter are told, so many of them. */
enum { XL_TOP = 20 };

/* engine_ops.stats */
size_t xl_stats(struct engine *e, struct engine_stat *ret, size_t max);

/* A block was translated, or not; since a moment of clock_now_ns(). */
void xl_stats_translated(const struct xl_tr *t, uint64_t since_ns, bool done);

/* Begin the file that names code for perf: with the routines at the begin of the cache. */
void xl_perf_begin(const struct soft_engine *eng, size_t routines_bytes);

#endif
