/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The translator: blocks of 64-bit code, and of 32-bit code in flat segments, that run often become
 * code of the host.
 *
 *	xl-emit.h       bytes of instructions
 *	xl-flags.c      where the guest's flags are while a block is written
 *	xl-insn.c       one instruction; xl-form.c: those that stay what they are; xl-op.c
 *	xl-vec.c        vector registers, which are the guest's or the host's; xl-x87.c
 *	xl-string.c     string instructions
 *	xl-join.c       accesses to memory that look at the TLB together
 *	xl-direct.c     accesses to memory that the host translates; xl-stack.c
 *	xl-compat.c     what is different in 32-bit code
 *	xl-flow.c       how a block goes on; xl-return.c: and how calls come back; xl-across.c: to
 *	                other pages
 *	xl-translate.c  a block; xl-loop.c: the rounds of a loop
 *	xl-cache.c      the code cache of a VM: memory, blocks by address, links, what makes them stale
 *	xl-run.c        entering it, and what it calls; xl-fault.c
 *
 * While translated code runs, GS is the vCPU's struct soft_cpu, the host's RSP is the stack of
 * calls that the guest is in, RCX and R11 are free for the code, and all others hold the guest's
 * registers: each its own, but RSP in R9 and RCX in R10; the guest's R9, R10 and R11 stay in the
 * state, but in the later rounds of a loop. The guest's arithmetic flags are the host's wherever one
 * block ends and another begins.
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
#include "vm/cpu/soft/xl-emit.h"

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
	XK_DIRECT,     /* CPL 3, in the address space that is mapped: xl-shadow.h; its stack is high */
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

/* An instruction that may fault, and where its way to the interpreter is; from the cache's begin. */
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
	uint64_t va;               /* the only one that any table knows it by; XL_VA_NONE, XL_VA_MANY */
	uint32_t code;             /* from the begin of the cache; RIP's page is known */
	uint32_t indirect;         /* the same with RIP in R11 */
	/* Of one on two pages: what it has in the second, which is only in the list of that page; and
	 * from there back. It has no links, for those know nothing of the second page. */
	struct xl_block *rest, *whole;
	/* More pieces of the page that it was made of, and of each the next one; they are in the list of
	 * the page only. */
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

/* --- xl-cache.c --- */

enum { XL_BYTES_MIN = 256 << 10, XL_BYTES_MAX = 1 << 30 };

/* For a whole VM; before the right to map memory is given up. What it holds, code and records,
 * is never more than `bytes`. -ENOTSUP: not on this host. */
int  xl_new(struct soft_engine *eng, size_t bytes) must_check;
void xl_free(struct soft_engine *eng);

/* The translation of a block for the vCPU's privilege: a known one, or, unless that is all that is
 * asked for, a new one. NULL: it has none; *ret_later: now there is room for it, but the guest was
 * let go of. */
struct xl_block *xl_get(struct soft_cpu *c, const struct soft_block *b, bool known, bool *ret_later);

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

/* --- Between the files that translate --- */

enum xl_flags_at {
	XF_HOST,        /* in the host's flags */
	XF_RECIPE,      /* to be made again by what made them: struct xl_recipe */
	XF_SAVED,       /* in c->flags */
};

/* *_IN: with what c->xl_in holds: the memory operand, or the register as it was. */
enum xl_recipe_kind {
	XRC_NONE, XRC_REPLAY, XRC_REPLAY_IN, XRC_ADD_I, XRC_SUB_I, XRC_ADD_R, XRC_SUB_R, XRC_ADD_IN,
	XRC_SUB_IN, XRC_LOGIC, XRC_NEG,
};

/* How to get flags again from registers that hold what they did. */
struct xl_recipe {
	uint8_t  kind;             /* enum xl_recipe_kind */
	uint8_t  how;              /* XE_W or 0 */
	uint8_t  d, s;             /* registers of the host */
	uint8_t  n, bytes[15];     /* to replay */
	uint16_t uses;             /* registers of the guest */
	int32_t  imm;
	int32_t  bias;             /* was added to d since */
};

struct xl_flags {
	uint8_t at;                /* enum xl_flags_at */
	struct xl_recipe recipe;   /* valid in XF_HOST, too */
};

enum {
	XL_INSNS = 2 * SOFT_BLOCK_INSNS,
	XL_SLOWS = 240, XL_NEAR = 4, XL_LINKS = 40, XL_STACKS = 128, XL_ACCESSES = 192, XL_SIDES = 32,
};

/* What R11 holds behind an instruction: nothing that is known, the distance, or that and a register
 * of the guest. */
enum xl_r11_holds { XH_UNKNOWN, XH_DISTANCE, XH_SUM };

struct xl_r11 {
	uint8_t holds;             /* enum xl_r11_holds */
	uint8_t guest, host;       /* XH_SUM: the register, and where it is */
};

/* A jump out of the straight line to the interpreter. */
struct xl_slow {
	uint8_t *jump;             /* the distance to fill in; NULL: it is reached by a fault only */
	uint32_t way;              /* where it is, from the begin of the cache */
	uint8_t *again;            /* where its TLB is asked for R11; NULL: it was not for that */
	bool     write;
	uint8_t *back;             /* where to go on; NULL: nowhere, it is the last */
	const uint8_t *redo;       /* there instead, with flags saved: it may not be done; or NULL */
	struct xl_flags before;
	int32_t  stack_before, stack_after;   /* xl_tr.stack_off */
	uint8_t  after;            /* enum xl_flags_at */
	bool     leaves;           /* what the flags' recipe needs is not there behind it */
	uint8_t  why;              /* enum xl_why */
	uint8_t  k;                /* the instruction */
	uint8_t  load;             /* enum xl_vec: only these are missing; then on at `back` */
	uint8_t  vec;              /* enum xl_vec: what must be there when it goes on */
	struct xl_r11 r11;         /* the same */
	uint8_t  set;              /* of loans, where it is */
	int      x87_last;         /* before it */
};

/* Which vector instructions may run as they are: what they need is switched on, and the vector
 * registers are the guest's. */
enum xl_vec { XV_NONE, XV_SSE, XV_AVX, XV_X87 };

struct xl_insn {
	struct insn i;             /* imm is an immediate */
	struct insn run;           /* the same for the interpreter */
	uint32_t out;              /* its record; 0: none yet */
	uint16_t off;              /* in its page */
	uint8_t  place;            /* where it reaches memory: enum xl_place */
	uint8_t  bytes[INSN_BYTES_MAX];
	/* Once it was written: it needs all registers where they are elsewhere; it changes these. */
	bool     rigid;
	unsigned wrote;
};

/* A register whose range is known: where it was looked at, and by how much it moved since. */
struct xl_known {
	uint8_t place;             /* enum xl_place */
	int32_t by;
};

/* The same of the sum of two registers, or of a multiple of one. */
struct xl_sum {
	struct xl_known known;
	uint8_t base, index, scale;   /* base: perhaps INSN_NONE */
};

enum { XL_SUMS = 8 };

/* What is known of an instruction before it is written, in blocks of the other kinds. */
struct xl_about {
	bool     known;            /* it is written natively, without a call of C in its line */
	bool     access;           /* it reaches memory, by these registers and so far from there */
	bool     write;
	uint8_t  base, index, scale;
	uint8_t  bytes;
	int64_t  disp;             /* with RIP: from the begin of the page */
	unsigned wrote;            /* registers that it changes; a mask */
	bool     moved;            /* one of them by so much */
	uint8_t  to;
	int32_t  by;
};

enum { XJ_NONE, XJ_FIRST, XJ_MORE };

/* Its part in a group of accesses that look together. */
struct xl_join {
	uint8_t  role;             /* XJ_* */
	uint8_t  word;             /* of soft_cpu.xl_join */
	uint16_t disp;             /* from the lowest byte */
	/* Of the first one: where that is, how many bytes, and is one written to. */
	int32_t  first;
	uint16_t span;
	bool     write;
};

/* What is known at a place of a block. */
struct xl_state {
	struct xl_flags f;
	struct xl_known known[CPU_REG__COUNT];
	struct xl_sum   sums[XL_SUMS];
	struct xl_r11   r11;
	uint8_t vec;               /* enum xl_vec */
	bool    x87;
	bool    stack_seen;
};

/* A jump out of the straight line to another block. */
struct xl_side {
	uint8_t *jump;
	struct xl_flags f;         /* before it */
	int64_t  off;              /* to there, from the begin of the page */
	uint8_t  k;                /* the instruction */
	bool     wanted;           /* it is from a poll: out of the code */
	bool     owes;
	uint8_t  set;              /* of loans */
	int      x87_last;
};

/* A register of the guest in the one of the host that another one has elsewhere. */
struct xl_loan {
	uint8_t to, from;
	bool    written;           /* it may change */
};

/* All of a loop; set 0 is empty. */
struct xl_loans {
	unsigned n;
	struct xl_loan of[3];
};

enum { XL_SETS = 8 };

/* The later rounds of a loop, while they are written. */
struct xl_rounds {
	struct xl_rounds *outer;   /* it is in those of this one */
	unsigned first, last;      /* instructions */
	bool     lends;            /* t->set is its own */
	uint8_t *head;             /* where they begin */
	struct xl_state state;     /* there */
};

/* A block that is being written. */
struct xl_tr {
	struct soft_cpu *c;
	struct xl_cache *x;
	struct xl_code   e;        /* where it is written: the line, then the ways */
	struct xl_code   ways;     /* where the ways are to be */
	const uint8_t   *line_begin, *line_end, *ways_begin;
	struct xl_flags  f;
	uint8_t          vec;      /* enum xl_vec, here */
	bool             x87;      /* those may run, here */
	int              x87_last; /* the instruction that the state does not name yet; -1: none */
	const struct soft_block *b;
	struct xl_block *to;
	uint32_t to_index;         /* its record */
	bool     compat;           /* it is 32-bit code */
	unsigned n, k;             /* instructions; which is written */
	unsigned first_off;
	bool     full;             /* of something: it cannot be finished */
	bool     kept;             /* instruction k has put its memory operand into c->xl_in */
	unsigned n_slow;
	unsigned looked;           /* ways of instruction k before this one did not look at all: xl-direct.c */
	struct xl_slow slow[XL_SLOWS];
	unsigned n_near;           /* in use of the jumps in front of the block that are for rel8 ones */
	uint8_t *near;
	unsigned n_stacks;
	struct {
		uint8_t *jump, *again, *slow;   /* slow: a jump to be, out of line */
		unsigned slow_at;
		bool     write;
	} stacks[XL_STACKS];       /* accesses to the stack, where its page is not the known one */
	int      poll_at;          /* before this instruction wants are looked at; -1: behind all */
	bool     polled;
	bool     owes;             /* a jump backward was followed, and wants not looked at since */
	unsigned n_links;
	struct {
		uint8_t *jump;
		unsigned off;
		bool     indirect;
	} links[XL_LINKS];         /* jumps inside the page */
	struct xl_insn insns[XL_INSNS];
	bool     alone;            /* no more than t->b, and no loop of its own */
	bool     plain;            /* nothing behind a loop */
	struct xl_rounds *rounds;  /* that are written; NULL: the block from its begin */
	uint8_t  set;              /* of loans, here */
	unsigned n_sets;
	struct xl_loans sets[XL_SETS];
	unsigned n_sides;
	struct xl_side sides[XL_SIDES];
	/* Of direct blocks: what is known of registers; masks of those that have changed, and that
	 * instruction k changes; and whether one of these is another one's value and a little more. */
	struct xl_known known[CPU_REG__COUNT];
	struct xl_sum   sums[XL_SUMS];
	unsigned next_sum;         /* goes for another one */
	int32_t  stack_off;        /* RSP is so much more than its register of the host: xl-stack.c */
	bool     stack_seen;       /* known[CPU_RSP] is from an access or a look, not from the begin */
	unsigned small;            /* mask of registers below 2^16; instruction k makes one of them */
	unsigned made_small;
	unsigned written, wrote;
	bool     moved;
	uint8_t  move_to, move_from;
	int32_t  move_by;
	unsigned constant;         /* registers of which the value is known */
	int32_t  values[CPU_REG__COUNT];
	bool     zeroes;           /* instruction k makes t->move_to 0 */
	struct xl_r11 r11;
	bool     r11_kept;         /* instruction k changes R11 only where it asks for an operand */
	bool     direct;           /* the operand that was asked for last is */
	int      access_way;       /* where its access leads to when it faults; -1: not known yet */
	unsigned n_accesses;
	struct {
		uint8_t *at;
		uint16_t slow;
	} accesses[XL_ACCESSES];   /* instructions that may fault */
	struct xl_about about[XL_INSNS];
	struct xl_join joins[XL_INSNS];
	bool     join_needed[XL_INSNS];    /* behind this one a word of theirs is */
	bool     join_head[XL_INSNS];      /* a loop begins here */
	uint8_t  join_until[XL_JOINS];
};

/* In a mask of registers of the guest; 0 for what is none. */
static inline unsigned xl_bit(unsigned guest)
{
	return guest < CPU_REG__COUNT ? (unsigned)BIT(guest) : 0;
}

/* Instruction k changes these registers of the guest and no others; one of them to what another
 * one holds, and a little more. */
static inline void xl_wrote(struct xl_tr *t, unsigned mask)
{
	t->wrote = mask;
}

static inline void xl_moved(struct xl_tr *t, unsigned to, unsigned from, int32_t by)
{
	t->moved = true;
	t->move_to = (uint8_t)to;
	t->move_from = (uint8_t)from;
	t->move_by = by;
}

static inline void xl_zeroed(struct xl_tr *t, unsigned guest)
{
	t->zeroes = true;
	t->move_to = (uint8_t)guest;
}

static inline uint64_t xl_gpa_of(const struct xl_tr *t)
{
	return (t->b->gpa & ~(uint64_t)(GMEM_PAGE_BYTES - 1)) | t->insns[t->k].off;
}

/* Instruction k as the interpreter runs it. */
static inline const struct insn *xl_decoded(const struct xl_tr *t)
{
	return &t->insns[t->k].run;
}

/* The virtual address at an offset from the begin of the page that runs; false: it is not known. */
static inline bool xl_address_at(const struct xl_tr *t, int64_t off, uint64_t *ret)
{
	*ret = t->to->page + (uint64_t)off;
	return t->to->page != XL_ANYWHERE;
}

#define XG(field) xl_gs(offsetof(struct soft_cpu, field))

static inline struct xl_rm xl_gpr_slot(unsigned guest)
{
	return xl_gs(offsetof(struct soft_cpu, s.gpr) + 8u * guest);
}

/* The host's register that holds one of the guest; XR_NONE: it stays in the state. */
static inline unsigned xl_host(unsigned guest)
{
	static const uint8_t host[] = { XR_AX, XR_10, XR_DX, XR_BX, XR_9, XR_BP, XR_SI, XR_DI, XR_8,
					XR_NONE, XR_NONE, XR_NONE, XR_12, XR_13, XR_14, XR_15 };

	return host[guest];
}

/* The same where instruction k is written. */
static inline unsigned xl_now(const struct xl_tr *t, unsigned guest)
{
	const struct xl_loans *l = &t->sets[t->set];

	for (unsigned n = 0; n < l->n; n++) {
		if (l->of[n].to == guest) {
			return xl_host(l->of[n].from);
		}
	}
	return xl_host(guest);
}

/* The host's flags to a word in the form of c->flags: AH as LAHF has it, AL as SETO. RAX goes. */
static inline void xl_flags_to(struct xl_code *e, struct xl_rm word)
{
	xe_op(e, 0, 1, 0x90, 0, xl_reg(XR_AX));          /* seto al */
	xe_8(e, 0x9f);                                   /* lahf */
	xe_op(e, XE_66, 0, 0x89, XR_AX, word);
}

static inline void xl_flags_from(struct xl_code *e, struct xl_rm word)
{
	xe_op(e, 0, 1, 0xb7, XR_AX, word);               /* movzx eax */
	xe_8(e, 0x04);                                   /* add al, 0x7f: OF from bit 0 */
	xe_8(e, 0x7f);
	xe_8(e, 0x9e);                                   /* sahf */
}

/* RCX: the entry of the TLB for a linear address in R11. */
static inline void xl_tlb_entry(struct xl_code *e)
{
	_Static_assert(sizeof(struct soft_tlb_entry) == 32, "an entry is found by a shift");
	xe_vex(e, XE_W, 3, 3, 0xf0, XR_CX, 0, xl_reg(XR_11));    /* rorx rcx, r11, 7 */
	xe_8(e, GMEM_PAGE_SHIFT - 5);
	xe_alu_imm(e, 0, 4, xl_reg(XR_CX), (SOFT_TLB_ENTRIES - 1) * 32);
	xe_alu(e, XE_W, 0, XR_CX, XG(tlb));
}

static inline unsigned xl_next_off(const struct xl_tr *t)
{
	return t->insns[t->k].off + t->insns[t->k].i.len;
}

/* The flags of arithmetic, and whether a form sets all of them. */
enum { XL_FLAGS = INSN_CF | INSN_PF | INSN_AF | INSN_ZF | INSN_SF | INSN_OF };

static inline bool xl_sets_all(const struct insn_row *row)
{
	return (row->fw & XL_FLAGS) == XL_FLAGS;
}

/* --- xl-flags.c --- */

void xf_clobber(struct xl_tr *t);                     /* the host's flags are going to change */
void xf_need_host(struct xl_tr *t);                   /* changes RCX only */
bool xf_same(const struct xl_recipe *a, const struct xl_recipe *b);
void xf_make(struct xl_tr *t, const struct xl_flags *f);   /* the same from a given state */
void xf_restore(struct xl_tr *t);                     /* from c->flags to the host's */
void xf_save(struct xl_tr *t);                        /* they are in c->flags; changes RCX */
void xf_written(struct xl_tr *t, unsigned guest_mask);     /* registers are going to change */
void xf_moved(struct xl_tr *t, unsigned guest, int32_t by);   /* one was added to */
/* Will the flags that instruction k sets be seen, or only replaced? Will they be in the way of an
 * access before that? */
bool xf_seen(const struct xl_tr *t);
bool xf_worth_saving(const struct xl_tr *t);
bool xf_kills(const struct insn *i);
bool xf_in_the_way(const struct xl_tr *t);
void xf_set(struct xl_tr *t, const struct xl_recipe *r);   /* an instruction has set all flags */

/* --- xl-op.c --- */

/* What instructions of these names have in common is asked often. */
enum xl_op {
	XO_OTHER,
	XO_ADD, XO_OR, XO_AND, XO_SUB, XO_XOR, XO_CMP, XO_TEST, XO_NEG, XO_MOV,
	XO_MOVZX, XO_MOVSX, XO_MOVSXD, XO_IMUL, XO_MUL, XO_SHL, XO_SHR, XO_SAR,
};

enum xl_op xl_op(const struct insn *i);

/* --- xl-form.c: instructions that stay what they are --- */

/* false: not one of those; nothing was written. */
bool xl_form(struct xl_tr *t);
/* The number of the register that an operand of a row is. */
unsigned xl_operand_number(const struct insn *i, const struct insn_operand_desc *d, unsigned op);
/* Of instruction t->k: what it writes and reaches; not by which registers. false: not one of those. */
bool xl_form_about(const struct xl_tr *t, struct xl_about *ret);

/* --- xl-insn.c --- */

void xl_instruction(struct xl_tr *t);
/* The address of the memory operand of instruction k in its segment into a scratch register. */
void xl_effective(struct xl_tr *t, unsigned to);
/* The linear address of the memory operand of instruction k into R11. */
void xl_address(struct xl_tr *t);
/* That of these registers, which instruction k uses, into R11. */
void xl_address_from(struct xl_tr *t, unsigned base, unsigned index, unsigned scale, int32_t disp);
/* Does it do nothing? */
bool xl_nothing(const struct insn *i);
/* R11 holds a linear address: check the access; then R11 is the offset in its page and the page's
 * host address lies at RCX + offsetof(struct soft_tlb_entry, host). */
void xl_check(struct xl_tr *t, unsigned bytes, bool write);
/* The same, and R11 is the host's address. */
void xl_check_to_r11(struct xl_tr *t, unsigned bytes, bool write);
/* The same for an address on the stack: base register of the host, and distance. */
void xl_stack_to_r11(struct xl_tr *t, unsigned base, int32_t disp, unsigned bytes, bool write);
/* Is the memory operand one on the stack? */
bool xl_on_stack(const struct insn *i);
/* The memory operand of instruction k, wherever it is. */
void xl_operand_to_r11(struct xl_tr *t, unsigned bytes, bool write);
/* Also that it is aligned to its size, a power of two. */
void xl_aligned_to_r11(struct xl_tr *t, unsigned bytes, bool write);
/* A jump to the interpreter for instruction k in the state of flags that there is now. */
void xl_slow(struct xl_tr *t, unsigned cond);
void xl_slow_from(struct xl_tr *t, uint8_t *jump, unsigned why);   /* a jump that was written already */
/* The way that was asked for last goes on with the instruction itself, which may not be done yet. */
void xl_slow_again(struct xl_tr *t, const uint8_t *at);
/* The same where RCX is not 0. No flag changes. */
void xl_slow_unless_zero(struct xl_tr *t, unsigned why);
/*
 * A jump that is not taken where all is well costs least. LOOP is one that looks whether RCX is 1 and
 * changes no flag: so what has to be 0 is made xl_by_loop(); where that is 0, LOOP is slow, as Intel's.
 */
unsigned xl_by_loop(const struct xl_tr *t);
/* Unless RCX is that: to where xe_here_8() says. */
uint8_t *xl_unless(struct xl_tr *t, unsigned by_loop);
/* For instruction k as xl_slow(), by a jump in front of the block: LOOP where RCX is not 1, JRCXZ where
 * it is 0. If there still is one, and not too far away. */
void xl_near_room(struct xl_tr *t);
bool xl_near(const struct xl_tr *t);
void xl_slow_near(struct xl_tr *t, bool loop);
/* The same for a fault of the instruction that comes next: its number among t->slow. */
unsigned xl_slow_fault(struct xl_tr *t);
void xl_call_interpreter(struct xl_tr *t, bool last);
/* Of those that are shaken: now and then one for an access that could go on. */
void xl_shaken(struct xl_tr *t);

/* --- xl-join.c --- */

/* Which instructions of the block look together. */
void xl_join_plan(struct xl_tr *t);
/* The memory operand of one of those, or its place on the stack, as xl_operand(). false: it looks by
 * itself. */
bool xl_join_operand(struct xl_tr *t, struct xl_rm *ret);

/* --- xl-direct.c --- */

/* The memory operand of instruction k, in any kind of block: checked as far as it has to be.
 * R11 belongs to it; RCX is free. What accesses it is written right behind xl_access(). */
struct xl_rm xl_operand(struct xl_tr *t, unsigned bytes, bool write, bool aligned);
/* The same for eight bytes on the stack. */
struct xl_rm xl_stack_operand(struct xl_tr *t, unsigned guest, int32_t disp, bool write);
void xl_access(struct xl_tr *t);
/* Before xf_written() for what the access is for: should it fault, flags are what they are now. */
void xl_access_first(struct xl_tr *t);
/* A block begins; an instruction of it was written. */
void xl_known_begin(struct xl_tr *t);
void xl_known_after(struct xl_tr *t);
/* A look at where a register is: a jump that is taken where it is elsewhere; all flags are kept. */
uint8_t *xl_look_high(struct xl_tr *t, unsigned host);
/* Rounds from an instruction to another one begin: what they change is no constant, and R11 holds
 * what all their accesses ask for, if that is the same. */
void xl_known_rounds(struct xl_tr *t, unsigned first, unsigned last);
/* R11 is going to hold what it did there. No flag changes. */
void xl_r11_to(struct xl_tr *t, const struct xl_r11 *r11);
/* Does all that was known there hold here, too? */
bool xl_known_still(const struct xl_tr *t, const struct xl_state *s);

/* --- xl-stack.c --- */

/* Where the stack may be behind the last access that has seen it, or the begin of a block. */
enum { XL_STACK_DRIFT = 1 << 20 };

/* May code of the direct kind run, as far as its stack is concerned? */
bool xl_stack_fits(const struct soft_cpu *c);
/* If not, none does until the vCPU's memory is mapped anew. */
void xl_stack_look(struct soft_cpu *c);
/* A block begins; an instruction is going to be written that may lead out of it, or its line ends, on
 * at an offset: there RSP must be what blocks of its kind rely on. */
void xl_stack_begin(struct xl_tr *t);
void xl_stack_settle(struct xl_tr *t, unsigned k, int64_t off);
/* RSP was seen. */
void xl_stack_seen(struct xl_tr *t);
/* A push or pop: RSP moves, its register perhaps not yet; now it does. */
void xl_stack_move(struct xl_tr *t, int32_t by);
void xl_stack_flush(struct xl_tr *t);
/* Before instruction k: unless it can do without. */
void xl_stack_prepare(struct xl_tr *t);
/* Additions to RSP. false: not one of those. */
bool xl_stack_add(struct xl_tr *t);
/* As xl_known_after(). */
void xl_stack_after(struct xl_tr *t);

/* --- xl-compat.c: 32-bit code --- */

/* May the vCPU's be translated now? */
bool xl_compat_flat(const struct soft_cpu *c);
/* false: it is as in 64-bit mode. */
bool xl_compat(struct xl_tr *t);
/* R11: an address in FS or GS to a linear one. RCX changes. */
void xl_compat_segment(struct xl_tr *t, unsigned seg);

/* --- xl-div.c: division --- */

/* false: not one of those. */
bool xl_div(struct xl_tr *t);

/* --- xl-bits.c: bit strings in memory --- */

/* false: not one of those. */
bool xl_bits(struct xl_tr *t);

/* --- xl-wide.c: CMPXCHG8B and CMPXCHG16B --- */

/* false: not one of those. */
bool xl_wide(struct xl_tr *t);

/* --- xl-string.c: string instructions --- */

/* false: not one of those. */
bool xl_string(struct xl_tr *t);

/* --- xl-system.c: the kernel's --- */

/* false: not one of those. */
bool xl_system(struct xl_tr *t);

/* --- xl-vec.c --- */

/* Instruction k needs the vector registers; RCX changes. All else it asks for is checked. */
void xv_need(struct xl_tr *t, unsigned vec);
/* The same for the unit of x87, all of whose exceptions have to be masked. */
enum { XL_X87_MASKS = 0x3f };
void xv_need_x87(struct xl_tr *t);
/* Of a way to the interpreter: load what is missing, and on, if that may be; else fall through. */
void xv_load_or(struct xl_tr *t, const struct xl_slow *s);
/* Load them again after a call. The host's flags are lost. */
void xv_reload(struct xl_tr *t, unsigned vec);
/* LDMXCSR, STMXCSR; false: neither. */
bool xv_mxcsr(struct xl_tr *t);
enum { XL_MXCSR_FIXED = (int)0xffff1f80 };   /* of what is loaded: only the masks are set */
/* In a routine: they are the host's from here on. Its flags are lost. */
void xv_spill(struct xl_code *e);

/* --- xl-x87.c --- */

/* false: not one of those. */
bool xl_x87(struct xl_tr *t);
/* The state names instruction k as the last one; -1: nothing to do. RCX changes. */
void xl_x87_record(struct xl_tr *t, int k);

struct xl_routines;
void xv_write_routines(struct xl_code *e, const uint8_t *begin, struct xl_routines *ret);
void xl_string_write_routines(struct xl_code *e, const uint8_t *begin, struct xl_routines *ret);

/* --- xl-flow.c --- */

/* A register: the address at an offset from the begin of the page. */
void xl_rip_to(struct xl_tr *t, unsigned reg, int64_t off);
/* JMP and Jcc. false: not one of those. */
bool xl_jump(struct xl_tr *t);
/* Calls, returns, and jumps to what a register says. */
bool xl_flow(struct xl_tr *t);
/* A jump out of the straight line that was written: on at an offset. */
void xl_side(struct xl_tr *t, uint8_t *jump, int64_t off, bool wanted);
/* The jumps out of the straight line, once that is written. */
void xl_sides(struct xl_tr *t);
/* On to an offset from the begin of the page: in it or in another one. */
void xl_go(struct xl_tr *t, int64_t off);
/* RCX: 0, if the table of a side knows the address in R11; then R11's code by xl_found(). */
void xl_look(struct xl_code *e, bool user);
void xl_flow_write_routines(struct xl_code *e, const uint8_t *begin, struct xl_routines *ret);
struct xl_rm xl_found(struct xl_code *e, bool user);   /* RCX changes */
/* On to the address in R11. */
void xl_go_r11(struct xl_tr *t);
/* Out of the code, on at an offset. */
void xl_leave_at(struct xl_tr *t, int64_t off);
/* The same from a jump that was written, behind instruction k. */
void xl_leave_aside(struct xl_tr *t, uint8_t *jump, unsigned k, int64_t off);

/* --- xl-loop.c --- */

/* Which registers an instruction uses that its operands name or its row does: the guest's, and in any
 * way but as the base of an address; then that, too. */
unsigned xl_uses(const struct insn *i, bool base);
/* Where the loop begins that instruction k jumps back for, if its later rounds are worth to be
 * written: another instruction; -1: none. */
int  xl_loop_of(const struct xl_tr *t, unsigned k);
/* Is instruction t->k the end of such a loop, of which the rounds are to be written behind it? */
bool xl_loop_ends(const struct xl_tr *t);
/* Is it the end of a round that is being written? */
bool xl_round_ends(const struct xl_tr *t);
/* Rounds from an instruction to another one begin here, and have been written. */
void xl_rounds_begin(struct xl_tr *t, struct xl_rounds *r, unsigned first, unsigned last);
void xl_rounds_end(struct xl_tr *t);
/* Before another one: R11 is going to hold what it does there. */
void xl_rounds_r11(struct xl_tr *t);
/* Another one: does all hold that it relies on? */
bool xl_rounds_go_on(const struct xl_tr *t);
/* To where the registers are in those rounds, and to where they are elsewhere. No flag changes. */
void xl_borrow(struct xl_tr *t, unsigned set);
void xl_give_back(struct xl_tr *t, unsigned set);

/* --- xl-return.c --- */

/* Before the host's call: the register holds where the guest's will return to, and changes. */
void xl_return_push(struct xl_tr *t, unsigned reg);
void xl_return_push_imm(struct xl_tr *t, uint64_t rip);   /* of 32 bits with their sign */
/* To the address in R11, popping so many bytes of the guest's stack. */
void xl_return(struct xl_tr *t, int32_t by);
void xl_return_write_routines(struct xl_code *e, const uint8_t *begin, struct xl_routines *ret);

/* --- xl-across.c --- */

/* A number of an address, known or new; with the cache's lock held. false: all are in use. */
bool xl_across_hold(struct xl_across *all, uint64_t rip, uint32_t epoch, unsigned *ret);
void xl_across_drop(struct xl_across *all, unsigned number, uint32_t epoch);
/* That of an address; false: it has none. */
bool xl_across_find(const struct xl_across *all, uint64_t rip, unsigned *ret);
/* As xl_forget() and the others. */
void xl_across_forget(struct soft_cpu *c, bool user);
void xl_across_forget_block(struct soft_cpu *c, const struct xl_block *b);
void xl_across_remember(struct soft_cpu *c, uint64_t rip, const struct xl_block *b);
/* The vCPU's word for an address in another page; R11 has to hold the address when it is followed.
 * false: it has none. */
bool xl_across(struct xl_tr *t, int64_t off, struct xl_rm *ret);

/* --- xl-cache.c --- */

/* All numbers of a side. */
struct xl_across *xl_across_of(struct xl_cache *x, bool user);
/* A number for a block that is written. */
bool xl_across_new(struct xl_tr *t, uint64_t rip, unsigned *ret);
const uint8_t *xl_rw(const struct xl_cache *x, uint32_t off);
uint32_t xl_off(const struct xl_cache *x, const uint8_t *rw);
/* What the instruction at an address was found to reach; XP_UNKNOWN: nothing was. */
uint8_t xl_hint(const struct xl_cache *x, uint64_t gpa);
/* The block is made of these bytes of its page, too; from now on it goes when they are written. */
void    xl_piece_new(struct xl_tr *t, uint64_t gpa, unsigned bytes);
void    xl_sites_new(struct xl_tr *t);     /* t->accesses, once all slow ways are written */
/* What the parser leaves out of an instruction that the interpreter is to run alone. */
void xl_bind(const struct soft_engine *eng, enum insn_mode mode, struct insn *i);
/* For instruction t->k, which has only one; NULL: there is no room. */
struct xl_packed *xl_out_new(struct xl_tr *t, uint32_t *ret_index);
struct xl_link *xl_link_new(struct xl_tr *t, uint32_t *ret_index);
const struct xl_out *xl_out_at(struct soft_cpu *c, uint32_t index);   /* until it asks for another one */

/* Routines at the begin of the cache. */
struct xl_routines {
	uint32_t enter, leave, leave_unlinked, leave_slot_0, out_host, out_saved;
	uint32_t fill[2], stack[2];           /* to read, to write */
	uint32_t find[2];          /* of CPL 3 or not: xl-return.c */
	uint32_t vec_enter[4], vec_load[3];   /* by enum xl_vec */
	uint32_t rep[2][4], rep_direct[2][4]; /* STOS, MOVS; by log2 of the element's bytes */
	struct xl_site rep_sites[2][4];       /* where those of mapped memory may fault */
};
const struct xl_routines *xl_routines(const struct xl_cache *x);
void xl_write_routines(struct xl_code *e, const uint8_t *begin, struct xl_routines *ret);

/* --- xl-translate.c --- */

/* JMP or Jcc; only Jcc. */
bool xl_jumps(const struct insn *i);
bool xl_jumps_if(const struct insn *i);
/* Where such an instruction k jumps to, from the begin of the page. */
int64_t xl_jumps_to(const struct xl_tr *t, unsigned k);
/* false: it cannot be, or there is no room (t->full). */
bool xl_translate(struct xl_tr *t);

#endif
