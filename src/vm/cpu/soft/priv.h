/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the run loop, the MMU, faults and system instructions share among themselves, and the
 * instruction handlers do not need.
 */
#ifndef VM_CPU_SOFT_PRIV_H
#define VM_CPU_SOFT_PRIV_H

#include <pthread.h>

#include "vm/cpu/soft/soft.h"

/* What vCPUs hold of a page of RAM; a bit a vCPU. */
struct soft_page {
	_Atomic uint64_t code;      /* it has blocks decoded from the page */
	_Atomic uint64_t writers;   /* it may be about to write to it, without a word */
	_Atomic uint64_t tagged;    /* one of those that may have a write tag for it */
	_Atomic uint64_t granules;  /* pieces of 64 bytes that code has been made of; a bit each */
	atomic_uint      translated;   /* blocks of the translator's in the page */
	_Atomic uint64_t shadow;    /* where it may be written directly: xl-shadow-priv.h */
	atomic_bool      crossed;   /* an instruction on it and another one was translated */
	atomic_uint      quiet;     /* stores since code was made of it, while there is none left */
};

/* Bits of soft_page.granules for n bytes (at least 1) at an address, inside one page. */
static inline uint64_t soft_granules(uint64_t gpa, size_t n)
{
	unsigned first = (unsigned)(gpa >> 6 & 63), last = (unsigned)((gpa + n - 1) >> 6 & 63);

	return (UINT64_MAX << first) & (UINT64_MAX >> (63 - last));
}

struct soft_engine {
	struct engine     eng;
	struct irq_chip  *chip;
	struct soft_page *pages[GMEM_SLOTS_MAX];   /* of each slot of guest memory */
	struct soft_cpu  *cpus[ENGINE_VCPUS_MAX];
	unsigned          n_cpus;
	uint64_t          tsc_hz;
	uint64_t          tsc_per_ns;              /* 0: no whole number */
	_Atomic(struct soft_cpu *) alone;          /* who runs alone; NULL: nobody */
	pthread_mutex_t   alone_lock;
	pthread_mutex_t   code_lock;               /* of soft_page.code with .granules */
	int64_t           clock_offset_ns;         /* guest's boot clock - host monotonic */
	bool              counted;                 /* deterministic: time is counted */
	struct xl_cache  *xl;                      /* NULL: the interpreter does everything */
	struct shadow    *shadow;                  /* NULL: there are none */
	_Atomic uint64_t  shadow_root;             /* the address space that is mapped; 1: none */
	uint64_t          skipped_ns;              /* counted time that passed in HLT */
	const struct engine_tape *tape;            /* of counted mode; NULL: none */
	struct engine_pos next;                    /* where tape->due() is to be called */
	_Atomic(struct soft_cpu *) turn;           /* counted: who runs */
	uint64_t          turn_end;                /* count at which the next one may */
	pthread_mutex_t   turn_lock;
	pthread_cond_t    turn_changed;            /* or somebody was kicked */
};

static inline struct soft_engine *soft_engine(struct engine *e)
{
	return container_of(e, struct soft_engine, eng);
}

/* --- Pages of RAM (access.c) --- */

/* RAM at a guest physical address: the host's address, and its page's record; NULL: no RAM. */
void *soft_ram(struct soft_engine *eng, uint64_t gpa, struct soft_page **ret_page);

/* Bytes of guest memory that others may write to meanwhile: as they were at one moment. */
static inline void soft_copy_whole(uint8_t *to, const uint8_t *from, size_t n)
{
	do {
		memcpy(to, from, n);
		atomic_thread_fence(memory_order_seq_cst);
	} while (memcmp(to, from, n) != 0);
}

/* Stores to a page whose code has gone until it gets write tags again. */
enum { SOFT_QUIET = 64 };

/* Bytes were written to a page that has code: blocks go, here and elsewhere. */
void soft_code_written(struct soft_cpu *c, struct soft_page *page, uint64_t gpa, size_t n);

/* Physical accesses outside of RAM. */
uint64_t soft_mmio_load(struct soft_cpu *c, uint64_t gpa, unsigned bytes);
void     soft_mmio_store(struct soft_cpu *c, uint64_t gpa, unsigned bytes, uint64_t v);

/* Accesses of the CPU itself to its tables, at privilege 0 whatever CPL is. Not to be nested;
 * a fault ends it. */
struct soft_privilege {
	uint8_t cpl;
	struct soft_tlb_entry *tlb;
};
struct soft_privilege soft_system_begin(struct soft_cpu *c);
void soft_system_end(struct soft_cpu *c, struct soft_privilege p);
uint64_t soft_load_system(struct soft_cpu *c, uint64_t linear, unsigned bytes);
void     soft_store_system(struct soft_cpu *c, uint64_t linear, unsigned bytes, uint64_t v);

/* --- mmu.c --- */

struct soft_walk {
	uint64_t gpa;
	uint8_t  shift;       /* log2 of the page's size */
	bool     user, writable, global, dirty;
	uint32_t error;       /* of the page fault */
};

enum soft_walk_flags {
	SOFT_WALK_WRITE = 1, SOFT_WALK_USER = 2, SOFT_WALK_FETCH = 4,
	SOFT_WALK_AC    = 8,     /* SMAP is off or suspended */
	SOFT_WALK_PEEK  = 16,    /* nothing is changed, no right is checked */
};

/* Translate. 0, or -EFAULT with ret->error. */
int soft_walk(struct soft_cpu *c, uint64_t va, unsigned flags, struct soft_walk *ret) must_check;

/* Load the four entries of 32-bit PAE paging. -EINVAL: reserved bits, #GP. */
int soft_load_pdptr(struct soft_cpu *c, uint64_t cr3) must_check;

/* --- tlb.c --- */

void soft_tlb_init(struct soft_cpu *c);
void soft_tlb_flush_all(struct soft_cpu *c);
/* MOV to CR3: to the PCID's window; its translations go unless keep. */
void soft_tlb_switch(struct soft_cpu *c, bool keep);
void soft_tlb_flush_pcid(struct soft_cpu *c, uint16_t pcid);
void soft_tlb_flush_local(struct soft_cpu *c);        /* all but global ones */
void soft_tlb_flush_address(struct soft_cpu *c, uint64_t va);
void soft_tlb_flush_pcid_address(struct soft_cpu *c, uint16_t pcid, uint64_t va);
void soft_tlb_drop_writes(struct soft_cpu *c);
void soft_tlb_drop_writes_page(struct soft_cpu *c, uint64_t gpa);

/* Page of instructions at a linear address; raises page faults. */
uint64_t soft_fetch_page(struct soft_cpu *c, uint64_t linear);

/* --- fill.c --- */

/* Keep a translation to a page of RAM, for accesses at this privilege; for a store if `write`. */
void soft_tlb_fill(struct soft_cpu *c, uint64_t linear, const struct soft_walk *w, void *host,
		   struct soft_page *p, bool write);

static inline uint64_t soft_tlb_never(size_t slot)
{
	return (uint64_t)(slot ^ (SOFT_TLB_ENTRIES / 2)) << GMEM_PAGE_SHIFT;
}

/* --- block.c --- */

enum { SOFT_BLOCK_INSNS = 32, SOFT_BLOCK_INVALID = UINT8_MAX, SOFT_LEFT = UINT8_MAX };

/* How a block may end: it goes on behind its last instruction, or where that one says. */
enum soft_way { SOFT_ON, SOFT_TAKEN, SOFT_WAY__COUNT };

/*
 * Decoded instructions that follow each other, and one more `fn` which ends them. Lives until its
 * segment of the arena is emptied; what is invalid runs block_left() in place of its instructions.
 *
 * A link names a block of the same page, which therefore is right whatever the page tables say by
 * now: as long as this block runs at an address, that one is the same distance away. A linked
 * block may be invalid: who follows looks at its mode.
 */
struct soft_block {
	struct soft_block *hash_next, *page_next;
	struct soft_block *link[SOFT_WAY__COUNT];   /* NULL: not looked up yet, or elsewhere */
	uint64_t gpa;          /* of the first byte */
	uint16_t bytes;
	uint16_t guarded;      /* whose stores are seen; a translation may be longer */
	uint8_t  n;
	uint8_t  mode;         /* enum insn_mode; SOFT_BLOCK_INVALID */
	bool     cross;        /* one instruction on two pages, for this time only: no links */
	bool     xl_others;    /* it had another translation in that epoch, too */
	uint64_t gpa2;         /* of one on two pages, the second of them */
	int32_t  heat;         /* how often it is still interpreted before it is translated */
	uint32_t xl_epoch;
	struct xl_block *xl;   /* its translation, of that epoch; or NULL */
	struct insn insns[];
};

int  soft_blocks_init(struct soft_cpu *c) must_check;
void soft_blocks_fini(struct soft_cpu *c);

/* How often a block is interpreted before it is translated. */
int32_t soft_heat(const struct soft_cpu *c);

/* The block at CS:RIP; decoded if need be. Raises faults of the fetch. */
struct soft_block *soft_block_find(struct soft_cpu *c, uint64_t linear);
/* The one at a guest physical address that the vCPU has in its mode; NULL: none. */
struct soft_block *soft_block_at(struct soft_cpu *c, uint64_t gpa);
void soft_blocks_drop_page(struct soft_cpu *c, uint64_t gpa_page);
void soft_blocks_drop_range(struct soft_cpu *c, uint64_t gpa, size_t n);
void soft_blocks_drop_all(struct soft_cpu *c);

/* For a translation of an instruction on two pages: from now on stores to both of them are seen.
 * false: it is another one by now. */
bool soft_cross_guard(struct soft_cpu *c, const struct soft_block *b);

/* Does an instruction end its block? */
bool soft_block_ends(const struct insn *i);
/* If so, by a function that says itself where to go on. */
void soft_block_last(struct insn *i);

/* The function behind the last instruction: execution goes on after it. */
insn_fn soft_block_end;

/*
 * Going on in another block. A threaded function that ends one enters the next by itself while
 * nothing has to be looked at; else it says by next_rip and link where the loop is to go on. Only
 * where calls in tail position are jumps: elsewhere the stack would grow.
 */
#if defined(__OPTIMIZE__) && !BUILD_ASAN
enum { SOFT_CHAINS = 1 };
#else
enum { SOFT_CHAINS = 0 };
#endif

static inline uint64_t soft_generation(const struct soft_cpu *c)
{
	return c->cpl == 3 ? c->window->generation : c->kernel_generation;
}

static inline struct soft_jump *soft_jump_slot(struct soft_cpu *c, uint64_t linear)
{
	return &c->jump[(linear ^ linear >> 12) & (SOFT_JUMP_ENTRIES - 1)];
}

/* The block at a linear address, if it is known there; else NULL. */
static inline struct soft_block *soft_block_known(struct soft_cpu *c, uint64_t linear)
{
	const struct soft_jump *j = soft_jump_slot(c, linear);

	return j->linear == linear && j->generation == soft_generation(c) &&
	       j->block->mode == c->mode ? j->block : NULL;
}

/* May a block be entered now? Each time the loop's budget gets smaller. */
static inline bool soft_may_chain(struct soft_cpu *c)
{
	return SOFT_CHAINS && !(atomic_load_explicit(&c->wants, memory_order_relaxed) | c->slow) &&
	       --c->budget >= 0;
}

static inline __attribute__((always_inline))
void soft_block_enter(struct soft_cpu *c, struct soft_block *b, uint64_t rip)
{
	c->running = b;
	c->running_rip = rip;
	c->running_n = b->n;
	c->count += b->n;
	b->heat--;
	b->insns->fn(c, b->insns);
}

/* In 64-bit mode, to the block that this one is linked to; the last of a threaded function. */
static inline __attribute__((always_inline))
void soft_go_linked(struct soft_cpu *c, enum soft_way way, uint64_t rip)
{
	struct soft_block *b = c->running->link[way];

	if (__builtin_expect(b && b->mode == INSN_MODE_64 && b->heat > 0, 1) &&
	    __builtin_expect(soft_may_chain(c), 1)) {
		soft_block_enter(c, b, rip);
		return;
	}
	if (way == SOFT_TAKEN && __builtin_expect(!soft_canonical(rip), 0)) {
		soft_fault(c, CPU_GP, 0);
	}
	c->next_rip = rip;
	c->link = &c->running->link[way];
}

/* In 64-bit mode, to a canonical address, where soft_block_known() had that answer. */
static inline __attribute__((always_inline))
void soft_go_known(struct soft_cpu *c, struct soft_block *b, uint64_t rip)
{
	if (__builtin_expect(b && b->heat > 0 && soft_may_chain(c), 1)) {
		soft_block_enter(c, b, rip);
		return;
	}
	c->next_rip = rip;
}

/* Instructions of the running block that were to run, from the one at RIP on. */
unsigned soft_block_rest(const struct soft_cpu *c);

/* --- run.c --- */

/* Run until c->stop says why not to. */
void soft_run(struct soft_cpu *c);
void soft_init_event(struct soft_cpu *c);

/* --- counted.c: counted mode --- */

/* Call the tape for what is due here. false: vcpu_run() returns. */
bool soft_counted_due(struct soft_cpu *c);
/* Wait until it is this vCPU's turn. false: vcpu_run() returns. */
bool soft_counted_turn(struct soft_cpu *c);
/* Its time is over: to the next one that has something to do. false: as above. */
bool soft_counted_pass(struct soft_cpu *c);
/* Whoever waits for a turn looks at what is wanted of it. */
void soft_counted_wake(struct soft_engine *eng);
/* It has nothing to do. false: vcpu_run() returns. */
bool soft_counted_halt(struct soft_cpu *c);
/* How many instructions may run before something has to be looked at; at least 1. */
uint64_t soft_counted_room(const struct soft_cpu *c);
/* An instruction in the middle of a thread is about to reach outside of RAM: leave, as a fault
 * would, and have it run alone, so that the count is its own. */
void soft_counted_apart(struct soft_cpu *c);
/* Instructions that take from outside, changed to some that do not. */
void soft_counted_bind(struct insn *i);
uint64_t soft_counted_wall_ns(const struct soft_engine *eng);   /* at guest's time 0 */
void soft_set_tape(struct engine *e, const struct engine_tape *t, const struct engine_pos *first);
void soft_position(struct engine *e, struct engine_pos *ret);

/* --- smp.c --- */

void soft_guest_enter(struct soft_cpu *c);
void soft_guest_leave(struct soft_cpu *c);
void soft_inbox_serve(struct soft_cpu *c);
void soft_post_page(struct soft_cpu *to, uint64_t gpa, unsigned what);
void soft_post_all(struct soft_cpu *to, bool code, bool writes, bool tlb);
void soft_want(struct soft_cpu *c, unsigned what);
/* Until it has served what was posted so far, or is out of the guest. c: who waits; NULL: a
 * thread that is no vCPU's. */
void soft_wait_served(struct soft_cpu *c, struct soft_cpu *other);
/* No vCPU is in the guest until it is let go; of a thread that is no vCPU's. */
void soft_hold(struct engine *e, bool on);
/* Wait for soft_want() or the deadline. */
void soft_park(struct soft_cpu *c, uint64_t deadline_ns);

/* --- fault.c --- */

/* Deliver what soft_fault() raised; an interrupt; an NMI. Faults of the delivery are dealt with.
 * Returns -1 at a triple fault. */
int  soft_deliver_fault(struct soft_cpu *c) must_check;
void soft_deliver_interrupt(struct soft_cpu *c, uint8_t vector);
void soft_deliver_nmi(struct soft_cpu *c);
/* Do what s.events.injected says; after a restore, too. */
void soft_deliver_injected(struct soft_cpu *c);
/* INT n (checks the gate's DPL), INT3 and INTO (so, too), INT1: of the instruction at RIP, which
 * is complete. */
void soft_trap(struct soft_cpu *c, uint8_t vector, bool checked);
/* #DB: bits of DR6; as a trap after an instruction, or before one. */
void soft_deliver_debug(struct soft_cpu *c, uint64_t dr6);
/* #DB raised by an instruction that has not run: MOV DR with DR7.GD. */
_Noreturn void soft_fault_debug(struct soft_cpu *c, uint64_t dr6);

/* --- seg.c --- */

struct soft_desc {
	uint64_t raw;
	uint64_t base;         /* with the upper half of system descriptors in long mode */
	uint32_t limit, ar;
	uint64_t linear;       /* where it lies; 0: nowhere */
};

enum { SOFT_SEL_RPL = 3, SOFT_SEL_TI = 4 };

static inline unsigned soft_dpl(uint32_t ar)
{
	return ar >> CPU_AR_DPL_SHIFT & 3;
}

static inline bool soft_long(const struct soft_cpu *c)
{
	return (c->s.efer & CPU_EFER_LMA) != 0;
}

static inline bool soft_protected(const struct soft_cpu *c)
{
	return (c->s.cr0 & CPU_CR0_PE) && !(c->s.rflags & CPU_FLAG_VM);
}

/* Read a descriptor. -EINVAL: beyond its table. Faults of memory are raised. */
int  soft_desc_read(struct soft_cpu *c, uint16_t selector, struct soft_desc *ret) must_check;
/* The other eight bytes of a system descriptor in long mode. */
void soft_desc_read_high(struct soft_cpu *c, struct soft_desc *d);
void soft_desc_accessed(struct soft_cpu *c, struct soft_desc *d);
/* MOV and POP to a segment register other than CS: with all checks. */
void soft_seg_load(struct soft_cpu *c, unsigned seg, uint16_t selector);
void soft_seg_set(struct cpu_seg *s, uint16_t selector, const struct soft_desc *d);
void soft_seg_load_real(struct soft_cpu *c, unsigned seg, uint16_t selector);
/* Check what is loaded into SS at privilege cpl; raises `vector`(selector) or #SS. */
void soft_stack_desc(struct soft_cpu *c, uint16_t selector, unsigned cpl, unsigned vector,
		     struct soft_desc *ret);
/* Data segments that the outer level may not have become null. */
void soft_seg_drop_inner(struct soft_cpu *c);
/* The stack of an inner level, from the TSS. */
void soft_tss_stack(struct soft_cpu *c, unsigned level, uint16_t *ret_ss, uint64_t *ret_sp);

/* --- task.c --- */

enum soft_task_cause { SOFT_TASK_JUMP, SOFT_TASK_CALL, SOFT_TASK_IRET, SOFT_TASK_EVENT };
void soft_task_switch(struct soft_cpu *c, uint16_t selector, enum soft_task_cause why,
		      bool has_error, uint32_t error);

/* --- far.c --- */

void soft_iret(struct soft_cpu *c, unsigned op_bytes);

/* --- stack helpers (flow.c) --- */

uint64_t soft_stack_mask(const struct soft_cpu *c);
void     soft_push(struct soft_cpu *c, unsigned bytes, uint64_t v);
uint64_t soft_pop(struct soft_cpu *c, unsigned bytes);
/* The value `off` bytes above the stack pointer. */
uint64_t soft_peek(struct soft_cpu *c, unsigned off, unsigned bytes);
void     soft_sp_add(struct soft_cpu *c, uint64_t n);

/* Operands in registers. */
static inline uint64_t soft_cut(uint64_t v, unsigned bytes)
{
	return bytes == 8 ? v : v & (BIT(8 * bytes) - 1);
}

static inline void soft_reg_set(struct soft_cpu *c, unsigned reg, unsigned bytes, uint64_t v)
{
	if (bytes == 8) {
		c->s.gpr[reg] = v;
	} else if (bytes == 4) {
		c->s.gpr[reg] = (uint32_t)v;
	} else if (bytes == 2) {
		c->s.gpr[reg] = (c->s.gpr[reg] & ~UINT64_C(0xffff)) | (v & 0xffff);
	} else {
		c->s.gpr[reg] = (c->s.gpr[reg] & ~UINT64_C(0xff)) | (v & 0xff);
	}
}

/* r/m operand of 2, 4 or 8 bytes. */
uint64_t soft_rm_get(struct soft_cpu *c, const struct insn *i, unsigned bytes);
void     soft_rm_set(struct soft_cpu *c, const struct insn *i, unsigned bytes, uint64_t v);

/* --- xsave.c: x87 registers in s.xsave --- */

static inline unsigned soft_x87_top(const struct soft_cpu *c)
{
	return c->s.xsave[3] >> 3 & 7;
}

/* The top was old_top and is another now: put the registers in its order. */
void soft_x87_turn(struct soft_cpu *c, unsigned old_top);

/* --- system.c, msr.c, cpuid (cpuid.c), pv.c --- */

void soft_set_cr0(struct soft_cpu *c, uint64_t v);
void soft_cpuid(struct soft_cpu *c, uint32_t leaf, uint32_t sub, uint32_t ret[4]);
int  soft_msr_read(struct soft_cpu *c, uint32_t msr, uint64_t *ret) must_check;
int  soft_msr_write(struct soft_cpu *c, uint32_t msr, uint64_t v) must_check;
uint64_t soft_tsc(struct soft_cpu *c);
uint64_t soft_now_ns(struct soft_engine *eng);        /* guest's boot clock */
uint64_t soft_host_ns(struct soft_engine *eng, uint64_t guest_ns);
struct irq_now soft_irq_now(struct soft_cpu *c);
void soft_pv_system_time(struct soft_cpu *c);
void soft_pv_wall_clock(struct soft_cpu *c, uint64_t gpa);
/* The vCPU is going to wait (false), or runs again. */
void soft_pv_steal(struct soft_cpu *c, bool running);
/* While it runs, now and then: what the host took. */
void soft_pv_steal_more(struct soft_cpu *c);
void soft_timer_update(struct soft_cpu *c);
bool soft_io_allowed(struct soft_cpu *c, uint16_t port, unsigned bytes);

static inline struct irq_now soft_now(struct soft_cpu *c)
{
	return soft_irq_now(c);
}

#endif
