/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The translator: blocks of 64-bit code, and of 32-bit code in flat segments, that run often become
 * code of the host.
 *
 *	xl-tr.h         a block that is being written; xl-parts.h: what the files do for each other
 *	xl-emit.h       bytes of instructions
 *	xl-flags.c      where the guest's flags are while a block is written
 *	xl-insn.c       one instruction; xl-op.c: its name
 *	xl-form.c       those that stay what they are; xl-recipe.c: the flags of these
 *	xl-vec.c        vector registers, which are the guest's or the host's; xl-x87.c
 *	xl-string.c     string instructions
 *	xl-join.c       accesses to memory that look at the TLB together
 *	xl-direct.c     accesses to memory that the host translates; xl-known.c: what is known of
 *	                registers; xl-stack.c: of the stack
 *	xl-shadow.c     the mappings that these go to; xl-shadow-fill.c, xl-shadow-owner.c
 *	xl-compat.c     what is different in 32-bit code
 *	xl-flow.c       how a block goes on; xl-return.c: and how calls come back; xl-across.c: to
 *	                other pages
 *	xl-translate.c  a block; xl-loop.c: the rounds of a loop
 *	xl-cache.c      the code cache of a VM: blocks by address, links, and what ends them
 *	xl-memory.c     where their code is, and room for it
 *	xl-records.c    what is known of each block besides; xl-hints.c: and of where it was wrong
 *	xl-routines.c   what blocks call and are entered by, written once at its begin
 *	xl-run.c        entering it, and what it calls; xl-fault.c
 *
 * While translated code runs, GS is the vCPU's struct soft_cpu, the host's RSP is the stack of
 * calls that the guest is in, RCX and R11 are free for the code, and all others hold the guest's
 * registers: each its own, but RSP in R9 and RCX in R10; the guest's R9, R10 and R11 stay in the
 * state, but in the later rounds of a loop. The guest's arithmetic flags are the host's wherever
 * one block ends and another begins.
 *
 * An instruction that is not translated, and one whose access to memory is not a hit in the
 * software TLB, is run by the interpreter from there, state in memory, and the block goes on
 * behind it: faults, devices, self-modification and all that is rare are the interpreter's.
 *
 * Vector registers and MXCSR are the guest's or the host's: c->xl_vec_off says which. What is
 * written in C may use them, so whoever leaves the code for a while calls xv_spill() first.
 *
 * Code is kept by guest physical address. That of CPL 3 knows no virtual one, for many processes
 * have the same at different ones: c->xl_page is that of the page that runs. The kernel's, and that
 * of the one process whose code is direct, is bound to the virtual address that it was made for.
 * Links lead only inside a page.
 */
#ifndef VM_CPU_SOFT_XL_H
#define VM_CPU_SOFT_XL_H

#include <pthread.h>

#include "vm/cpu/soft/priv.h"

/* A jump of a block to another one of its page. */
struct xl_link {
	struct xl_link *next;      /* of those that lead to the same block */
	struct xl_link *of_next;   /* of those of its own block */
	struct xl_block *to;       /* where it leads now; NULL: to its stub */
	uint32_t place;            /* of its distance, from the begin of the cache */
	uint32_t stub;             /* where it goes while the other one is not known */
	uint64_t gpa;              /* of the other one */
	const struct xl_block *of; /* its own */
	bool     indirect;         /* it goes there with RIP in R11 */
};

/* An address that jumps from other pages lead to: how many blocks hold its number. */
struct xl_across {
	uint64_t rip;
	uint32_t holders, dropped;  /* when the last one was: the cache's epoch then */
};

/* One of these that a block holds. */
struct xl_hold {
	struct xl_hold *next;
	unsigned number;
};

/* What code a block is of, and how it reaches memory. */
enum xl_kind {
	XK_KERNEL,     /* CPL 0 to 2 */
	XK_USER,       /* CPL 3 */
	XK_DIRECT,     /* CPL 3, in the address space that is mapped; its stack is high */
	XK_LOOSE,      /* the same, and where its stack is nobody knows: xl-stack.c */
};

static inline bool xl_is_direct(unsigned kind)
{
	return kind >= XK_DIRECT;
}

/* Where a direct access goes. */
enum xl_place {
	XP_UNKNOWN,
	XP_LOW, XP_HIGH,   /* the two ranges of xl-shadow.h */
	XP_EITHER,         /* one of them, and it is seen which */
	XP_TLB,            /* anywhere: it looks at the TLB */
	XP_ALONE,          /* of hints: it does not look for others, too (xl-join.c) */
};

/* An instruction that may fault, and its way to the interpreter; from the cache's begin. */
struct xl_site {
	uint32_t at, way;
};

struct xl_block {
	struct xl_block *hash_next, *page_next;
	struct xl_block *segment_next;
	struct xl_link  *in;       /* jumps that lead here */
	struct xl_link  *out;      /* its own */
	struct xl_hold  *holds;    /* what it holds: xl-across.c */
	uint64_t gpa;
	uint64_t page;             /* the virtual one that it is bound to; XL_ANYWHERE */
	uint64_t va;               /* the only one that any table knows; XL_VA_NONE, XL_VA_MANY */
	uint32_t code;             /* from the begin of the cache; RIP's page is known */
	uint32_t indirect;         /* the same with RIP in R11 */
	/* Of one on two pages: what it has in the second, which is only in the list of that page;
	 * and from there back. It has no links, for those know nothing of the second page. */
	struct xl_block *rest, *whole;
	/* More pieces of the page that it was made of, and of each the next one; they are in the
	 * list of the page only. */
	struct xl_block *pieces;
	const struct xl_site *sites;   /* by address */
	uint16_t n_sites;
	uint16_t bytes;
	uint8_t  n;                /* instructions, up to the last way out */
	uint8_t  kind;             /* enum xl_kind */
	bool     compat;           /* of 32-bit code */
	bool     dead;
};

/* No page begins there. */
enum { XL_ANYWHERE = 1 };

/* What no code begins at. */
#define XL_VA_NONE UINT64_C(0)
#define XL_VA_MANY UINT64_MAX

/* Of what the vCPU runs now. */
static inline uint8_t xl_kind(const struct soft_cpu *c)
{
	return c->cpl != 3 ? XK_KERNEL : !c->xl_direct || c->mode != INSN_MODE_64 ? XK_USER :
	       c->xl_loose ? XK_LOOSE : XK_DIRECT;
}

/* And what its code at an address is bound to. */
static inline uint64_t xl_page_of(const struct soft_cpu *c, uint64_t rip)
{
	return c->mode != INSN_MODE_64 || xl_kind(c) == XK_USER ? XL_ANYWHERE :
	       rip & ~(uint64_t)(GMEM_PAGE_BYTES - 1);
}

/* May the vCPU run it there? */
static inline bool xl_fits(const struct soft_cpu *c, const struct xl_block *b, uint64_t rip)
{
	return !b->dead && b->kind == xl_kind(c) && b->page == xl_page_of(c, rip);
}

/* Why an instruction goes there: above its index in R11. */
enum xl_why {
	XL_WHY_INSN,       /* it is not translated */
	XL_WHY_MEMORY,     /* an access is not a hit in the TLB */
	XL_WHY_TARGET,     /* the table does not know where it leads to */
	XL_WHY_JOINED,     /* as XL_WHY_MEMORY, but more was asked for than it needs: xl-join.c */
	XL_WHY_SHIFT = 30, XL_WHY_INDEX = (1 << XL_WHY_SHIFT) - 1,
};

/* An instruction for the interpreter, as a vCPU has it while it runs. */
struct xl_out {
	struct insn insn;
	insn_fn    *end;           /* behind it, as in a block */
	struct xl_block *block;
	struct xl_packed *packed;  /* which it was made of */
	uint32_t    index, epoch;  /* that one's, and when */
	uint16_t    off;           /* in its page */
	bool        last;          /* it says where to go on */
	uint8_t     place;         /* where it reaches memory: enum xl_place */
	uint8_t     rest;          /* instructions of the block behind it */
};

/* The same in the cache, where there is one for each instruction that may go there: few ever do. */
struct xl_packed {
	uint32_t block;            /* its record */
	uint16_t off : 12, len : 4;
	uint8_t  rest : 7, last : 1;
	uint8_t  place;
	uint8_t  misses;           /* how often it did not reach memory there */
	uint8_t  bytes[];
};

/* A vCPU keeps those that it has unpacked. */
enum { XL_OUTS_BITS = 8, XL_OUTS = 1 << XL_OUTS_BITS };
struct xl_outs {
	struct xl_out at[XL_OUTS];
};

/*
 * Where an address is in the tables. Interpreters have entries that are a byte apart, and functions
 * begin at multiples of 16: so its lowest bits count, and one above them does not.
 */
enum { XL_SLOT_LOW = 7, XL_SLOTS = (XL_TABLE - 1 - XL_SLOT_LOW) << 1 | XL_SLOT_LOW };

static inline size_t xl_slot(uint64_t va)
{
	return ((va >> 1 & ~(uint64_t)XL_SLOT_LOW) | (va & XL_SLOT_LOW)) & (XL_TABLE - 1);
}

/* An address that belongs there. */
static inline uint64_t xl_slot_address(size_t slot)
{
	return (slot & ~(uint64_t)XL_SLOT_LOW) << 1 | (slot & XL_SLOT_LOW);
}

struct xl_cache;

/* --- The code cache: xl-cache.c, xl-memory.c, xl-records.c, xl-hints.c --- */

enum { XL_BYTES_MIN = 256 << 10, XL_BYTES_MAX = 1 << 30 };

/* For a whole VM; before the right to map memory is given up. What it holds, code and records,
 * is never more than `bytes`. -ENOTSUP: not on this host. */
int  xl_new(struct soft_engine *eng, size_t bytes) must_check;
void xl_free(struct soft_engine *eng);

/* The translation of a block for the vCPU's privilege: a known one, or, unless that is all that is
 * asked for, a new one. NULL: it has none; *ret_later: now there is room for it, but the guest was
 * let go of. */
struct xl_block *xl_get(struct soft_cpu *c, const struct soft_block *b, bool known,
			bool *ret_later);

/* Bytes of guest memory have changed: what was made of them goes. Any thread. */
void xl_written(struct soft_engine *eng, uint64_t gpa, size_t n);

/* Where in a page there are translations: soft_page.granules. */
uint64_t xl_granules(struct soft_engine *eng, uint64_t gpa);

uint32_t xl_epoch(const struct soft_engine *eng);   /* how often some of it went for room */
const void *xl_entry(const struct soft_engine *eng);
const uint8_t *xl_code_at(const struct soft_engine *eng, uint32_t off);

struct xl_usage {
	size_t   bytes, used;            /* code and records */
	uint64_t blocks, links;          /* there are now, stale ones among them */
	uint64_t stale, emptied;         /* blocks that writes ended, segments emptied: so far */
};
void xl_usage(const struct soft_engine *eng, struct xl_usage *ret);

/* Where code of the cache at an address of the host goes on when it faults; 0: it may not. */
uint64_t xl_fault_way(const struct soft_engine *eng, uint64_t pc);

/* The instruction does not reach memory there; but where? Its block is to be made again. */
void xl_misplaced(struct soft_cpu *c, const struct xl_out *o, bool filled);
/* What it and others reach is not to be had by one look; the same. */
void xl_unjoined(struct soft_cpu *c, const struct xl_out *o);

/* Let the jump c->xl_site lead to a block from now on. */
void xl_link(struct soft_cpu *c, const struct xl_block *to);

/* --- xl-run.c --- */

/* Once in a process that has shadow mappings: faults of translated code are its own. */
int  xl_catch_faults(void) must_check;

/* The vCPU begins to run on this thread. */
void xl_begin(struct soft_cpu *c);
/* It leaves it for now; for ever. */
void xl_pause(struct soft_cpu *c);
void xl_end(struct soft_cpu *c);

/* The translation of a block that is run often; NULL: it has none. */
const struct xl_block *xl_of(struct soft_cpu *c, struct soft_block *b);

/* Run translated code from a block on, until it leaves: c->next_rip says where to. */
void xl_run(struct soft_cpu *c, const struct xl_block *b);

/* Called by translated code: run an instruction. */
enum { XL_BACK, XL_LEAVE, XL_ELSEWHERE };   /* where to then; at c->next_rip, by c->xl_next */
unsigned xl_call_out(struct soft_cpu *c, uint32_t out);

/* Called by it, too, while vector registers are the guest's (fill.c): a miss of the TLB. 0: now it
 * knows the page. */
unsigned xl_fill(struct soft_cpu *c, uint64_t linear, unsigned write);

/* The vCPU's own table of blocks by virtual address: all of it goes; what leads to a block goes;
 * one comes in. */
void xl_forget(struct soft_cpu *c, bool user);
void xl_forget_block(struct soft_cpu *c, const struct xl_block *b);
/* Whatever begins at these offsets of any page. */
void xl_forget_offsets(struct soft_cpu *c, unsigned first, unsigned last);
void xl_remember(struct soft_cpu *c, uint64_t rip, const struct xl_block *b);

/* A number at random, to shake with (engine_xl_conf.shaken). */
static inline uint64_t xl_random(struct soft_cpu *c)
{
	c->xl_shake = c->xl_shake * UINT64_C(6364136223846793005) + 1442695040888963407;
	return c->xl_shake >> 32;
}

/* --- xl-compat.c --- */

/* May the vCPU's 32-bit code be translated now? */
bool xl_compat_flat(const struct soft_cpu *c);

/* --- xl-fault.c --- */

#define XL_PF BIT(31)

/* Of an instruction that translated code calls out for: deliver the page fault that xl_fill() has
 * seen coming. false: the interpreter is to find it. */
bool xl_fault(struct soft_cpu *c, const struct xl_out *o);

/* --- xl-return.c --- */

/* Which bit of the stack's pointer says that there is room for more. */
enum { XL_POLL = XL_RETURNS };

void xl_returns_begin(struct soft_cpu *c);
/* No call of one side is remembered any more. */
void xl_returns_forget(struct soft_cpu *c, bool user);
/* Before translated code of a side runs: its stack, with room. */
void xl_returns_ready(struct soft_cpu *c, bool user);

#endif
