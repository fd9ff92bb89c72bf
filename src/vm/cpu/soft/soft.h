/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The software engine's insides: what its files share.
 *
 *	insn.h, decode.c, table.c   bytes to struct insn
 *	native.c     instructions that run on the host's own unit, registers and flags swapped in
 *	int.c        integer instructions by hand, for speed
 *	flow.c       jumps, calls, stack; far.c: between segments; string.c
 *	system.c     descriptor tables, TLB, counters; control.c, syscall.c, msr.c, io.c, xsave.c,
 *	             pv.c, cmpxchg.c, vector.c
 *	seg.c        segments and their descriptors; task.c: task switches
 *	mmu.c        the page walk; tlb.c, fill.c: the software TLB; access.c: checked accesses
 *	fault.c      exceptions and interrupts: delivery in every mode
 *	block.c      decoded blocks, and what makes them stale
 *	smp.c        what vCPUs ask of each other
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
#include <time.h>

#include "vm/cpu/engine.h"
#include "vm/cpu/soft/insn.h"

enum soft_access { SOFT_READ, SOFT_WRITE, SOFT_FETCH };

/* A cached translation of one 4 KiB page. A tag is the page's virtual address, or one that
 * belongs in another slot, so that it never matches. */
struct soft_tlb_entry {
	uint64_t tag_read, tag_write;
	uint64_t host;            /* of the page: its address here; RAM only */
	uint64_t gpa;             /* page, and SOFT_TLB_* in the low bits */
};

static inline void *soft_tlb_host(const struct soft_tlb_entry *e, uint64_t linear)
{
	return (void *)(uintptr_t)(e->host + (linear & (GMEM_PAGE_BYTES - 1)));
}

/* Page's virtual address to physical, for instructions. */
struct soft_code_entry {
	uint64_t tag, gpa;
};

enum {
	SOFT_TLB_ENTRIES  = 4096,
	SOFT_CODE_ENTRIES = 256,
	SOFT_JUMP_ENTRIES = 32768,
	SOFT_FETCHED_BITS = 4096,
	XL_TABLE          = 131072,
	XL_ACROSS         = 8192,       /* addresses that jumps to other pages lead to */
	XL_USED           = 4096,
	XL_JOINS          = 8,
	XL_RETURNS        = 16 << 10,   /* bytes of the calls that are remembered */
	XL_RETURNS_ROOM   = 6 * XL_RETURNS,
	SOFT_WINDOWS      = 6,      /* PCIDs whose translations are kept */
	SOFT_LOCALS       = 32,
	SOFT_TLB_LARGE    = 1,      /* a piece of a large page; bits 4..9: log2 of its size */
	SOFT_TLB_GLOBAL   = 2,
	SOFT_TLB_PARTLY   = 4,      /* writable, but for its pieces that hold code: no write tag */
	SOFT_TLB_SIZE_SHIFT = 4,
};

/* Slots of an array of entries that something came into since all of it was cleared; a bit each. */
struct soft_used {
	uint64_t bits[SOFT_TLB_ENTRIES / 64];
};

/* Pages that code was fetched from, by a hash; and the range of large ones. */
struct soft_fetched {
	uint64_t pages[SOFT_FETCHED_BITS / 64];
	uint64_t first, last;                 /* of all; first > last: none */
	uint64_t large_first, large_last;
};

/* Translations of one PCID, apart from those of the kernel's own pages. */
struct soft_window {
	struct soft_tlb_entry  user[SOFT_TLB_ENTRIES];    /* at CPL 3 */
	struct soft_tlb_entry  ac[SOFT_TLB_ENTRIES];      /* at CPL 0 to 2, all pages */
	struct soft_used       user_used, ac_used;
	struct soft_code_entry code[SOFT_CODE_ENTRIES];   /* at CPL 3 */
	struct soft_fetched fetched;                      /* since the generation began */
	uint64_t generation;      /* of entries in the jump cache */
	uint64_t used;            /* when; for replacement */
	uint64_t cr3;             /* the one that it was used with last */
	uint16_t pcid;
	bool     valid;
	bool     empty;           /* nothing came into user and ac since they were cleared */
	uint64_t large_first, large_last;     /* of what is in user and ac */
};

/* Where to go on at a linear address: found without a look at the page tables. */
struct soft_jump {
	uint64_t linear;
	uint64_t generation;      /* of the half of the address space that it is in */
	struct soft_block *block;
};

/* Asked by other threads; looked at between blocks. */
enum soft_want {
	SOFT_WANT_KICK      = 1 << 0,   /* vcpu_run() returns */
	SOFT_WANT_EVENT     = 1 << 1,   /* an interrupt may be there, NMI, INIT, SIPI */
	SOFT_WANT_REQUEST   = 1 << 2,   /* the inbox holds something */
	SOFT_WANT_EXCLUSIVE = 1 << 3,   /* somebody wants to run alone */
	SOFT_WANT_LOOK      = 1 << 4,   /* counted: another vCPU, which may sleep, has a wish */
};

/* Why the loop must look before the next block; of its own thread. */
enum soft_slow {
	SOFT_SLOW_EVENT   = 1 << 0,   /* interrupts may have become deliverable */
	SOFT_SLOW_SHADOW  = 1 << 1,   /* STI or MOV SS: one instruction first */
	SOFT_SLOW_TRAP    = 1 << 2,   /* RFLAGS.TF, or RF is set */
	SOFT_SLOW_DR      = 1 << 3,   /* breakpoints in DR0 to DR3 */
	SOFT_SLOW_DEBUG   = 1 << 4,   /* the debugger steps or has breakpoints */
	SOFT_SLOW_HALT    = 1 << 5,   /* not runnable */
	SOFT_SLOW_STOP    = 1 << 6,   /* vcpu_run() returns with c->stop */
};

/* What another thread wants done between blocks: pages whose code or write tags go. */
enum { SOFT_INBOX_PAGES = 64 };

enum soft_request {
	SOFT_REQ_CODE   = 1,    /* drop blocks of a page */
	SOFT_REQ_WRITES = 2,    /* drop write tags of a page */
};

struct soft_inbox {
	pthread_mutex_t lock;
	atomic_ullong   posted, served;
	unsigned n;
	struct {
		uint64_t gpa;
		unsigned what;        /* SOFT_REQ_* */
	} pages[SOFT_INBOX_PAGES];
	bool all_code, all_writes, all_tlb;
};

struct soft_engine;
struct soft_blocks;
struct lapic;

struct soft_cpu {
	struct vcpu      vcpu;
	struct cpu_state s;               /* the flags of arithmetic: see `flags` */
	/* To `link`: what every block needs, side by side. */
	uint64_t         next_rip;
	const struct insn *at;            /* which runs: soft_rip_sync(); NULL: s.rip is right */
	/* CF PF AF ZF SF as LAHF gives them in the high byte, OF as SETO in the low one; those
	 * bits of s.rflags are stale while the vCPU runs: soft_flags_get(). */
	uint16_t         flags;
	uint8_t          cpl;
	bool             held;            /* an interrupt may wait for RFLAGS.IF */
	uint8_t          mode;            /* enum insn_mode */
	uint8_t          stack_bytes;     /* of the stack pointer: 2, 4, 8 */
	bool             check_access;    /* every access takes the slow path: #AC, breakpoints */
	bool             alone;           /* between soft_exclusive_begin() and _end() */
	bool             trapping;        /* INT n delivers; trap_rip: where it stands */
	bool             no_step;         /* INT n or SYSCALL: TF gives no trap after it */
	bool             resume_was;      /* RF was set before the instruction that runs */
	bool             single;          /* it runs one instruction, not a thread of them */
	bool             apart;           /* the next one runs so: soft_counted_apart() */
	bool             shadow_was;      /* it runs in the shadow of STI or MOV SS */
	unsigned         slow;            /* SOFT_SLOW_* */
	atomic_uint      wants;           /* SOFT_WANT_*: what others ask of its loop */
	struct soft_tlb_entry *tlb;       /* of data accesses at this privilege */
	struct soft_block *running;       /* the block of the instruction that runs */
	uint64_t         running_rip;     /* where that block began */
	unsigned         running_n;       /* how many of its instructions were to run */
	int              budget;          /* blocks until the clock is looked at */
	uint64_t         count;           /* instructions, those of the running block included */
	struct soft_window *window;       /* of the current PCID */
	uint64_t         kernel_generation;
	struct soft_block **link;         /* where it keeps the block that it goes on to; or NULL */

	/* Of translated code (xl.h), which runs while GS is this struct. */
	struct soft_cpu *xl_self;
	uint64_t         xl_page;         /* address of the page that runs, if it is not bound */
	uint64_t         xl_tmp;      /* between two instructions of one of the guest */
	uint64_t         xl_in;           /* what the instruction that set the flags worked on */
	uint64_t         xl_join[XL_JOINS];   /* addresses of the host: xl-join.c */
	/* The pages of the stack, to read and to write: tag and host as in the TLB. A tag that says
	 * that there is none is no canonical address, and leads to a page of nobody's. */
	struct soft_stack {
		uint64_t tag, host;
	} xl_stack[2], xl_no_stack;
	uint8_t          xl_vec_off[2];   /* 0: vector registers are the host's: xl-vec.c */
	uint16_t         xl_vec_flags;
	uint32_t         xl_host_mxcsr;
	uint32_t         xl_x87_cw, xl_x87_masks, xl_mxcsr_fixed;
	uint8_t          xl_x87_off;      /* 0: x87 instructions may run: xl-x87.c */
	/* Bits of an address that are its slot in the tables. None: the code is to be left, and
	 * nothing is found in slot 0. */
	atomic_ullong    xl_mask;
	const uint8_t   *xl_next;         /* where it goes on behind a call */
	/* The stack of translated code, which holds where calls return to (xl-return.c): its
	 * pointer while C runs, that of both sides (at CPL 3, and not), and which one it is. */
	uint64_t         xl_rsp, xl_rsps[2];
	bool             xl_side;
	/* Bits of that pointer: where none is set, the code is to be left. */
	atomic_ullong    xl_poll;
	uint64_t         xl_host_rsp, xl_back;   /* the host's own; the way back of a call of C */
	struct soft_tlb_entry *xl_tlb[2]; /* for privilege 0: with AC clear, and set */
	uint32_t         xl_site;         /* a jump that found no block; 0: none */
	uint32_t         xl_pin;          /* the record of the call out that goes on; 0: none */
	uint32_t         xl_epoch;        /* of the cache, as it was last seen */
	uint8_t          xl_mode[2];      /* of the code in the tables: enum insn_mode */
	bool             xl_on;           /* this thread can run it */
	bool             xl_direct;       /* at CPL 3 its code is of the direct kind: xl-shadow.h */
	bool             xl_loose;        /* and relies on nothing of its stack: xl-stack.c */
	uint64_t         xl_high_bit, xl_not_low, xl_distance;   /* to look where an address is */
	uint64_t         xl_miss_va;      /* which access is looked up by xl_fill() */
	uint32_t         xl_pf;           /* of a page fault that is coming: code and XL_PF; or 0 */
	uint64_t         xl_sample_faults;   /* of the guest's, at the last shadow_sample() */
	uint64_t         xl_fault_va;     /* of a direct access that failed; UINT64_MAX: none */
	bool             xl_part;         /* with REP: to do the page that is missing only */
	bool             xl_inside;       /* and does */
	uint8_t          xl_exit;         /* why it was left: enum xl_count */
	uint64_t         xl_host_gs;      /* what GS was on it before */
	pid_t            xl_thread;       /* where the timer's signal goes */
	timer_t          xl_timer;
	uint64_t         xl_deadline_ns;  /* the guest's that it is set for */
	atomic_bool      xl_tick;         /* it has rung */
	/* In counted mode: the count when no more may run, how many may still run (those of the
	 * block that runs left out), and is an instruction run by the interpreter? */
	uint64_t         xl_count_end;
	int64_t          xl_left;
	uint64_t         xl_sign;         /* bit 63 */
	bool             xl_out;
	struct xl_outs  *xl_outs;         /* instructions that translated code has called for */
	uint64_t         xl_shake;        /* a row of random numbers: engine_xl_conf.shaken */

	struct insn      one[2];          /* an instruction that runs alone, and its end */
	bool             fpu_live;        /* x87 registers are in the host's own: native.h */
	uint16_t         fpu_op;          /* of the last x87 instruction, while it is live: */
	uint64_t         fpu_ip, fpu_dp;  /* opcode, its address and that of its operand */
	sigjmp_buf       fault_jump;      /* soft_fault() goes there */

	uint64_t         trap_rip;

	/* The exception that soft_fault() raised. */
	uint8_t          fault_vector;
	bool             fault_has_error;
	uint32_t         fault_error;

	uint64_t         events;          /* exceptions, interrupts, sleeps: struct engine_pos */
	uint64_t         deadline_ns;     /* of the local APIC's timer; UINT64_MAX: none */
	uint64_t         steal_ns;        /* host's clock less the thread's own, when last told */
	unsigned         steal_looks;     /* since then */
	uint64_t         dr6_pending;     /* data breakpoints that this instruction hit */

	struct soft_engine *eng;
	struct lapic       *apic;
	struct soft_blocks *blocks;
	struct xl_counts   *counts;
	uint64_t         generations;     /* given out so far */
	uint64_t         phys_reserved;   /* address bits that are reserved in page tables */
	/* Pages that are not global in tlb_kernel and code_kernel: the slots of tlb_kernel that
	 * such pages came into; or kernel_local: there are more, or code is among them. */
	bool             kernel_local;
	unsigned         n_kernel_locals;
	uint16_t         kernel_locals[SOFT_LOCALS];
	uint64_t         kernel_large_first, kernel_large_last;
	struct soft_fetched kernel_fetched[2];   /* by half of the address space */

	struct cpu_cpuid *cpuid;
	size_t            n_cpuid;
	uint64_t          xcr0_supported;
	uint32_t          reset_signature; /* RDX after INIT: family, model, stepping */
	uint64_t          features;       /* BIT(enum insn_feature): insn_features() of cpuid */

	int64_t          tsc_offset;
	enum vcpu_stop   stop;
	struct err      *err;             /* of the vcpu_run() that goes on */
	struct vcpu_debug debug;
	uint64_t         debug_skip;      /* breakpoint that was reported: pass it once */
	bool             debug_skip_valid;
	bool             debug_hit;       /* this instruction did what the debugger watches */

	atomic_bool      in_guest;        /* false: it holds no translation in its hands */
	atomic_uint      parked;          /* a futex word */
	atomic_bool      unhalt;          /* KVM_HC_KICK_CPU: HLT ends */
	struct soft_inbox inbox;

	struct soft_tlb_entry  tlb_kernel[SOFT_TLB_ENTRIES];   /* CPL 0 to 2; SMAP: no user pages */
	struct soft_tlb_entry  tlb_none[SOFT_TLB_ENTRIES];     /* never hits */
	struct soft_used       kernel_used;
	struct soft_code_entry code_kernel[SOFT_CODE_ENTRIES];
	struct soft_jump       jump[SOFT_JUMP_ENTRIES];
	struct soft_window     windows[SOFT_WINDOWS];
	/* Translated code by virtual address: less the address, and where; at CPL 3, and not. */
	uint64_t               xl_neg[2][XL_TABLE];
	const uint8_t         *xl_to[2][XL_TABLE];
	/* Which slots are in use; more than XL_USED: it is not known. */
	unsigned               xl_n_used[2];
	uint32_t               xl_used[2][XL_USED];
	/* The same by the number of an address: xl-across.c. */
	const uint8_t         *xl_across[2][XL_ACROSS];
	unsigned               xl_n_across_used[2];
	uint16_t               xl_across_used[2][XL_USED];
	_Alignas(64) uint8_t   xl_nobody[GMEM_PAGE_BYTES];
	uint8_t                xl_returns[2][XL_RETURNS_ROOM];
};

/* Translated code is to be left. Any thread, and signals. */
static inline void soft_xl_stop(struct soft_cpu *c)
{
	atomic_store(&c->xl_poll, 0);
	atomic_store(&c->xl_mask, 0);
}

/* Translations have changed, or who looks. */
static inline void soft_stack_forget(struct soft_cpu *c)
{
	c->xl_stack[0] = c->xl_stack[1] = c->xl_no_stack;
}

/* --- Flags --- */

enum { SOFT_ARITH = CPU_FLAG_CF | CPU_FLAG_PF | CPU_FLAG_AF | CPU_FLAG_ZF | CPU_FLAG_SF };

static inline uint64_t soft_flags_get(const struct soft_cpu *c)
{
	return (c->s.rflags & ~(uint64_t)(SOFT_ARITH | CPU_FLAG_OF)) | CPU_FLAG_1 |
	       ((unsigned)c->flags >> 8 & SOFT_ARITH) | ((unsigned)c->flags & 1) << 11;
}

/* All flags; what depends on the others (privilege, traps) follows by soft_mode_update(). */
static inline void soft_flags_set(struct soft_cpu *c, uint64_t v)
{
	c->s.rflags = v | CPU_FLAG_1;
	c->flags = (uint16_t)((v & SOFT_ARITH) << 8 | (v >> 11 & 1));
}

/* --- Threads of instructions --- */

/* RIP of an instruction of the running block, and RIP after it. */
static inline uint64_t soft_rip_of(const struct soft_cpu *c, const struct insn *i)
{
	return c->running_rip + i->end - i->len;
}

static inline uint64_t soft_rip_after(const struct soft_cpu *c, const struct insn *i)
{
	return c->running_rip + i->end;
}

/* s.rip lags behind while threaded functions run; who wants to know it calls this first. */
static inline void soft_rip_sync(struct soft_cpu *c)
{
	if (c->at) {
		c->s.rip = soft_rip_of(c, c->at);
		c->at = NULL;
	}
}

/* On to the next instruction of the block. Where the compiler optimises this is a jump, so that
 * a block's instructions run without a return between them. */
static inline __attribute__((always_inline))
void soft_next(struct soft_cpu *c, const struct insn *i)
{
	i++;
	i->fn(c, i);
}

/* A threaded function, whose body is what the instruction does. */
#define SOFT_FN(name) \
	static inline __attribute__((always_inline)) void \
	name##__body(struct soft_cpu *c, const struct insn *i); \
	static void name(struct soft_cpu *c, const struct insn *i) \
	{ \
		c->at = i; \
		name##__body(c, i); \
		soft_next(c, i); \
	} \
	static inline __attribute__((always_inline)) void \
	name##__body(unused_arg struct soft_cpu *c, unused_arg const struct insn *i)

/* The same for what cannot fault. */
#define SOFT_PURE_FN(name) \
	static inline __attribute__((always_inline)) void \
	name##__body(struct soft_cpu *c, const struct insn *i); \
	static void name(struct soft_cpu *c, const struct insn *i) \
	{ \
		name##__body(c, i); \
		soft_next(c, i); \
	} \
	static inline __attribute__((always_inline)) void \
	name##__body(unused_arg struct soft_cpu *c, unused_arg const struct insn *i)

/* --- Faults --- */

/* Raise an exception; state is as before the instruction. Does not return. */
_Noreturn void soft_fault(struct soft_cpu *c, unsigned vector, uint32_t error);
_Noreturn void soft_fault_no_error(struct soft_cpu *c, unsigned vector);

/* RFLAGS.IF was set, and before it was not: is there something to be looked at? */
static inline void soft_if_on(struct soft_cpu *c)
{
	if (c->held) {
		c->slow |= SOFT_SLOW_EVENT;
	}
}

/* CPL, mode, TLB and what has to be looked at follow from the state; after a change of CS, SS,
 * CR0, CR4, EFER, DR7, RFLAGS. */
void soft_mode_update(struct soft_cpu *c);

/* --- Memory --- */

/* Effective address inside its segment, and the linear address with the segment's checks. */
uint64_t soft_ea(const struct soft_cpu *c, const struct insn *i);
uint64_t soft__linear_legacy(struct soft_cpu *c, unsigned seg, uint64_t ea, unsigned bytes,
			     enum soft_access access);
_Noreturn void soft__not_canonical(struct soft_cpu *c, unsigned seg);

static inline bool soft_canonical(uint64_t va)
{
	return (va + (UINT64_C(1) << 47)) >> 48 == 0;
}

static inline uint64_t soft_linear(struct soft_cpu *c, unsigned seg, uint64_t ea, unsigned bytes,
				   enum soft_access access)
{
	if (__builtin_expect(c->mode != INSN_MODE_64, 0)) {
		return soft__linear_legacy(c, seg, ea, bytes, access);
	}
	if (seg >= CPU_FS) {
		ea += c->s.seg[seg].base;
	}
	if (__builtin_expect(!soft_canonical(ea), 0)) {
		soft__not_canonical(c, seg);
	}
	return ea;
}

uint64_t soft__load_slow(struct soft_cpu *c, uint64_t linear, unsigned bytes);
void     soft__store_slow(struct soft_cpu *c, uint64_t linear, unsigned bytes, uint64_t v);

static inline struct soft_tlb_entry *soft__tlb(struct soft_cpu *c, uint64_t linear)
{
	return &c->tlb[linear >> GMEM_PAGE_SHIFT & (SOFT_TLB_ENTRIES - 1)];
}

/* Guest memory at a host address: whole, so that another vCPU's store is seen whole. Parts of
 * accesses on two pages may have other sizes than 1, 2, 4 and 8. */
static inline uint64_t soft_host_load(const void *host, unsigned bytes)
{
	uint64_t v = 0;

	switch (bytes) {
	case 1: {
		return *(const volatile uint8_t *)host;
	}
	case 2: {
		typedef volatile uint16_t __attribute__((aligned(1), may_alias)) u16;
		return *(const u16 *)host;
	}
	case 4: {
		typedef volatile uint32_t __attribute__((aligned(1), may_alias)) u32;
		return *(const u32 *)host;
	}
	case 8: {
		typedef volatile uint64_t __attribute__((aligned(1), may_alias)) u64;
		return *(const u64 *)host;
	}
	default: {
		memcpy(&v, host, bytes);
		return v;
	}
	}
}

static inline void soft_host_store(void *host, unsigned bytes, uint64_t v)
{
	switch (bytes) {
	case 1: {
		*(volatile uint8_t *)host = (uint8_t)v;
		return;
	}
	case 2: {
		typedef volatile uint16_t __attribute__((aligned(1), may_alias)) u16;
		*(u16 *)host = (uint16_t)v;
		return;
	}
	case 4: {
		typedef volatile uint32_t __attribute__((aligned(1), may_alias)) u32;
		*(u32 *)host = (uint32_t)v;
		return;
	}
	case 8: {
		typedef volatile uint64_t __attribute__((aligned(1), may_alias)) u64;
		*(u64 *)host = v;
		return;
	}
	default: {
		memcpy(host, &v, bytes);
		return;
	}
	}
}

/* Checked accesses at linear addresses with the current privilege; 1, 2, 4 or 8 bytes. */
static inline uint64_t soft_load(struct soft_cpu *c, uint64_t linear, unsigned bytes)
{
	const struct soft_tlb_entry *e = soft__tlb(c, linear);

	if (__builtin_expect(linear - e->tag_read > GMEM_PAGE_BYTES - bytes, 0)) {
		return soft__load_slow(c, linear, bytes);
	}
	return soft_host_load((const void *)soft_tlb_host(e, linear), bytes);
}

static inline void soft_store(struct soft_cpu *c, uint64_t linear, unsigned bytes, uint64_t v)
{
	const struct soft_tlb_entry *e = soft__tlb(c, linear);

	if (__builtin_expect(linear - e->tag_write > GMEM_PAGE_BYTES - bytes, 0)) {
		soft__store_slow(c, linear, bytes, v);
		return;
	}
	soft_host_store((void *)soft_tlb_host(e, linear), bytes, v);
}

/* Larger ones: both pages are checked before anything is written. */
void soft_load_bytes(struct soft_cpu *c, uint64_t linear, void *ret, size_t n);
void soft_store_bytes(struct soft_cpu *c, uint64_t linear, const void *data, size_t n);

/* Would a write of n bytes (at most a page) fault? Raises that; sets A and D. */
void soft_probe_write(struct soft_cpu *c, uint64_t linear, size_t n);

/*
 * Host address for an atomic read-modify-write of at most 16 bytes inside one page of RAM that
 * is writable; NULL where that cannot be had (registers of a device, two pages): the caller
 * then takes soft_exclusive_begin(), reads, writes and ends it. Faults as a write.
 */
void *soft_atomic(struct soft_cpu *c, uint64_t linear, unsigned bytes);
void  soft_exclusive_begin(struct soft_cpu *c);
void  soft_exclusive_end(struct soft_cpu *c);

#endif
