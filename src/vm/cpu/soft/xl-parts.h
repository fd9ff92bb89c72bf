/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the files that translate do for each other. The map of them is in xl.h; what they all work
 * at is struct xl_tr, in xl-tr.h.
 */
#ifndef VM_CPU_SOFT_XL_PARTS_H
#define VM_CPU_SOFT_XL_PARTS_H

#include "vm/cpu/soft/xl-tr.h"

/* --- xl-routines.c --- */

/* Where they are, from the begin of the cache. */
struct xl_routines {
	uint32_t enter, leave, leave_unlinked, leave_slot_0, out_host, out_saved;
	uint32_t fill[2], stack[2];           /* to read, to write */
	uint32_t find[2];          /* of CPL 3 or not: xl-return.c */
	uint32_t vec_enter[4], vec_load[3];   /* by enum xl_vec */
	uint32_t rep[2][4], rep_direct[2][4]; /* STOS, MOVS; by log2 of the element's bytes */
	struct xl_site rep_sites[2][4];       /* where those of mapped memory may fault */
};
void xl_write_routines(struct xl_code *e, const uint8_t *begin, struct xl_routines *ret);

const uint8_t *xl_rw(const struct xl_cache *x, uint32_t off);   /* xl-memory.c */

static inline void xl_call_routine(struct xl_tr *t, uint32_t routine)
{
	xe_patch(&t->e, xe_call(&t->e), xl_rw(t->x, routine));
}

static inline void xl_jump_routine(struct xl_tr *t, uint32_t routine)
{
	xe_patch(&t->e, xe_jmp(&t->e), xl_rw(t->x, routine));
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
/* Of instruction t->k: what it writes and reaches; not by which registers. false: none of those. */
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
/* The same with a jump that was written already. */
void xl_slow_from(struct xl_tr *t, uint8_t *jump, unsigned why);
/* The way that was asked for last goes on with the instruction itself; it may not be done yet. */
void xl_slow_again(struct xl_tr *t, const uint8_t *at);
/* The same where RCX is not 0. No flag changes. */
void xl_slow_unless_zero(struct xl_tr *t, unsigned why);
/*
 * A jump that is not taken where all is well costs least. LOOP is one that looks whether RCX is 1
 * and changes no flag: so what has to be 0 is made xl_by_loop(); where that is 0, LOOP is slow, as
 * Intel's.
 */
unsigned xl_by_loop(const struct xl_tr *t);
/* Unless RCX is that: to where xe_here_8() says. */
uint8_t *xl_unless(struct xl_tr *t, unsigned by_loop);
/* For instruction k as xl_slow(), by a jump in front of the block: LOOP where RCX is not 1, JRCXZ
 * where it is 0. If there still is one, and not too far away. */
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
/* The memory operand of one of those, or its place on the stack, as xl_operand(). false: it looks
 * by itself. */
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
/* A look at where a register is: a jump that is taken where it is elsewhere; all flags are kept. */
uint8_t *xl_look_high(struct xl_tr *t, unsigned host);
/* Rounds from an instruction to another one begin: what they change is no constant, and R11 holds
 * what all their accesses ask for, if that is the same. */
void xl_known_rounds(struct xl_tr *t, unsigned first, unsigned last);
/* R11 is going to hold what it did there. No flag changes. */
void xl_r11_to(struct xl_tr *t, const struct xl_r11 *r11);

/* --- xl-known.c --- */

/* A block begins; an instruction of it was written. */
void xl_known_begin(struct xl_tr *t);
/* Which registers are sums of others is not known any more. */
void xl_leas_forget(struct xl_tr *t);
void xl_known_after(struct xl_tr *t);
/* Does all that was known there hold here, too? */
bool xl_known_still(const struct xl_tr *t, const struct xl_state *s);

/* --- xl-stack.c --- */

/* Where the stack may be behind the last access that has seen it, or the begin of a block. */
enum { XL_STACK_DRIFT = 1 << 20 };

/* May code of the direct kind run, as far as its stack is concerned? */
bool xl_stack_fits(const struct soft_cpu *c);
/* If not, none does until the vCPU's memory is mapped anew. */
void xl_stack_look(struct soft_cpu *c);
/* A block begins; an instruction is going to be written that may lead out of it, or its line ends,
 * on at an offset: there RSP must be what blocks of its kind rely on. */
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
void xl_string_write_routines(struct xl_code *e, const uint8_t *begin, struct xl_routines *ret);

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
void xv_write_routines(struct xl_code *e, const uint8_t *begin, struct xl_routines *ret);

/* --- xl-x87.c --- */

/* false: not one of those. */
bool xl_x87(struct xl_tr *t);
/* The state names instruction k as the last one; -1: nothing to do. RCX changes. */
void xl_x87_record(struct xl_tr *t, int k);

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

/* Which registers an instruction uses that its operands name or its row does: the guest's, and in
 * any way but as the base of an address; then that, too. */
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

/* --- xl-memory.c --- */

const struct xl_routines *xl_routines(const struct xl_cache *x);
/* All numbers of a side. */
struct xl_across *xl_across_of(struct xl_cache *x, bool user);
uint32_t xl_off(const struct xl_cache *x, const uint8_t *rw);

/* --- xl-records.c --- */

/* What the parser leaves out of an instruction that the interpreter is to run alone. */
void xl_bind(const struct soft_engine *eng, enum insn_mode mode, struct insn *i);
/* It is there until the vCPU asks for another one. */
const struct xl_out *xl_out_at(struct soft_cpu *c, uint32_t index);
/* For instruction t->k, which has only one; NULL: there is no room. */
struct xl_packed *xl_out_new(struct xl_tr *t, uint32_t *ret_index);
struct xl_link *xl_link_new(struct xl_tr *t, uint32_t *ret_index);
/* A number for a block that is written. */
bool xl_across_new(struct xl_tr *t, uint64_t rip, unsigned *ret);
/* The block is made of these bytes of its page, too; from now on it goes when they are written. */
void xl_piece_new(struct xl_tr *t, uint64_t gpa, unsigned bytes);
void xl_sites_new(struct xl_tr *t);        /* t->accesses, once all slow ways are written */

/* --- xl-hints.c --- */

/* What the instruction at an address was found to reach; XP_UNKNOWN: nothing was. */
uint8_t xl_hint(const struct xl_cache *x, uint64_t gpa);

/* --- xl-translate.c --- */

/* JMP or Jcc; only Jcc. */
bool xl_jumps(const struct insn *i);
bool xl_jumps_if(const struct insn *i);
/* Where such an instruction k jumps to, from the begin of the page. */
int64_t xl_jumps_to(const struct xl_tr *t, unsigned k);
/* false: it cannot be, or there is no room (t->full). */
bool xl_translate(struct xl_tr *t);

#endif
