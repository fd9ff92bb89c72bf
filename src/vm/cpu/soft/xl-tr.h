/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A block that is being written, as all files know it that take part: struct xl_tr, what it is made
 * of, and how these say what they know of an instruction. What each file does for the others is in
 * xl-parts.h.
 */
#ifndef VM_CPU_SOFT_XL_TR_H
#define VM_CPU_SOFT_XL_TR_H

#include "vm/cpu/soft/xl-emit.h"
#include "vm/cpu/soft/xl.h"

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
	XL_SLOWS = 240, XL_NEAR = 4, XL_LINKS = 40, XL_STACKS = 128, XL_ACCESSES = 192,
	XL_SIDES = 32,
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
	uint8_t *jump;             /* the distance to fill in; NULL: only a fault leads there */
	uint32_t way;              /* where it is, from the begin of the cache */
	uint8_t *again;            /* where its TLB is asked for R11; NULL: it was not for that */
	bool     write;
	uint8_t *back;             /* where to go on; NULL: nowhere, it is the last */
	const uint8_t *redo;       /* there instead, flags saved: it may not be done; or NULL */
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
	/* Once it was written: it needs all registers at home; it changes these. */
	bool     rigid;
	unsigned wrote;
};

/* A register whose range is known: where it was looked at, and by how much it moved since. */
struct xl_known {
	uint8_t place;             /* enum xl_place */
	int32_t by;
};

/* The same of the sum of two registers, or of a multiple of one, or of three. */
struct xl_sum {
	struct xl_known known;
	uint8_t base, index, scale;   /* base: perhaps INSN_NONE */
	uint8_t more;                 /* the third one; INSN_NONE */
};

/* A register that holds the sum of two others; base: INSN_NONE if it does not. */
struct xl_lea {
	uint8_t base, index, scale;
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
	/* Ways of instruction k before this one did not look at all: xl-direct.c. */
	unsigned looked;
	struct xl_slow slow[XL_SLOWS];
	unsigned n_near;           /* in use of the jumps in front of the block for rel8 ones */
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
	/* Of direct blocks: what is known of registers; masks of those that have changed, and
	 * that instruction k changes; and whether one of these is another one's value and a little
	 * more. */
	struct xl_known known[CPU_REG__COUNT];
	struct xl_sum   sums[XL_SUMS];
	unsigned next_sum;         /* goes for another one */
	struct xl_lea leas[CPU_REG__COUNT];
	bool     summed;           /* instruction k, which is LEA, makes one of them */
	int32_t  stack_off;        /* RSP is so much more than its register: xl-stack.c */
	bool     stack_seen;       /* known[CPU_RSP] is from an access or a look */
	unsigned small;            /* mask of registers below 2^16; k makes one of them */
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

/* So far a register may move, and it is still known where it is. */
enum { XL_MOVED_MAX = 1 << 30 };

static inline bool xl_little(int64_t by)
{
	return by >= -XL_MOVED_MAX && by <= XL_MOVED_MAX;
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
	xe_rorx(e, XE_W, XR_CX, xl_reg(XR_11), GMEM_PAGE_SHIFT - 5);
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

#endif
