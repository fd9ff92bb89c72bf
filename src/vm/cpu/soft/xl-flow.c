/* SPDX-License-Identifier: Apache-2.0 */
/*
 * How a block goes on. Inside its page it jumps, once the other block is known. Elsewhere the
 * vCPU's own table says where a virtual address has been translated to; it knows only what the
 * page tables said since the last flush. Whoever wants something of the vCPU takes away the mask
 * that slots of the table are found by, so what looks there need not poll: slot 0 is nobody's.
 *
 * All of this is done without a change of flags: they are the guest's.
 */
#include "vm/cpu/soft/handlers.h"
#include "vm/cpu/soft/xl-parts.h"

/* A register: the slot of what another one holds, in the table. */
static void slot(struct xl_code *e, unsigned to, unsigned from)
{
	xe_pext(e, XE_W, to, from, XG(xl_mask));
}

static struct xl_rm in_table(size_t at, unsigned index)
{
	struct xl_rm rm = xl_gs(at);

	rm.index = (uint8_t)index;
	rm.scale = 3;
	return rm;
}

/* The slot in one register, the address in another. RCX: 0 and `more`, if it is there. */
static void compare(struct xl_code *e, bool user, unsigned index, unsigned address, unsigned more)
{
	xe_load(e, XR_CX, in_table(offsetof(struct soft_cpu, xl_neg) +
				   user * sizeof(((struct soft_cpu *)NULL)->xl_neg[0]), index));
	xe_lea(e, XR_CX, xl_mem_index(XR_CX, address, 0, (int32_t)more));
}

static struct xl_rm code_at(bool user, unsigned index)
{
	return in_table(offsetof(struct soft_cpu, xl_to) +
			user * sizeof(((struct soft_cpu *)NULL)->xl_to[0]), index);
}

void xl_look(struct xl_code *e, bool user)
{
	slot(e, XR_CX, XR_11);
	compare(e, user, XR_CX, XR_11, 0);
}

struct xl_rm xl_found(struct xl_code *e, bool user)
{
	slot(e, XR_CX, XR_11);
	return code_at(user, XR_CX);
}

/* What slot 0 leads to, where it is found by a mask that was taken away: out, on at R11. Or R11 is
 * the slot, and then it is the only address that fits what is in it. */
void xl_flow_write_routines(struct xl_code *e, const uint8_t *begin, struct xl_routines *ret)
{
	uint8_t *slot_0 = NULL;

	ret->leave_slot_0 = (uint32_t)(e->at - begin);
	xe_mov(e, XR_CX, XR_11);
	slot_0 = xe_jrcxz(e);
	xe_patch(e, xe_jmp(e), begin + ret->leave_unlinked);
	xe_here_8(e, slot_0);
	xe_mov_imm32(e, XR_11, (uint32_t)xl_slot_address(1));
	xe_patch(e, xe_jmp(e), begin + ret->leave_unlinked);
}

/* Somebody wants something of the vCPU, or the stack of calls is full: the jump is taken. */
static uint8_t *poll(struct xl_tr *t)
{
	xe_pext(&t->e, XE_W, XR_CX, XR_SP, XG(xl_poll));
	return xe_jrcxz(&t->e);
}

/* RCX 0: on. The jump is taken where it is not, or from a poll. */
static uint8_t *unless_zero(struct xl_code *e, uint8_t *polled)
{
	uint8_t *hit = xe_jrcxz(e), *ret = NULL;

	if (polled) {
		xe_here_8(e, polled);
	}
	ret = xe_jmp(e);
	xe_here_8(e, hit);
	return ret;
}

/* To an address in a register that the table holds. The jump is taken where it does not, or from a
 * poll. */
static uint8_t *look(struct xl_tr *t, unsigned address, uint8_t *polled)
{
	slot(&t->e, XR_CX, address);
	compare(&t->e, t->to->kind != XK_KERNEL, XR_CX, address, 0);
	return unless_zero(&t->e, polled);
}

/* On to the address in R11; the rel8 jump is taken where the table does not hold it. */
static uint8_t *jump_r11(struct xl_tr *t)
{
	bool user = t->to->kind != XK_KERNEL;
	unsigned by_loop = xl_by_loop(t);
	uint8_t *miss = NULL;

	slot(&t->e, XR_CX, XR_11);
	compare(&t->e, user, XR_CX, XR_11, by_loop);
	miss = xl_unless(t, by_loop);
	xe_op(&t->e, 0, 0, 0xff, 4, xl_found(&t->e, user));
	return miss;
}

static void call_found(struct xl_tr *t)
{
	xe_op(&t->e, 0, 0, 0xff, 2, xl_found(&t->e, t->to->kind != XK_KERNEL));
}

/* Out of the code, on at R11. */
static void leave(struct xl_tr *t)
{
	xl_jump_routine(t, xl_routines(t->x)->leave_unlinked);
}

void xl_rip_to(struct xl_tr *t, unsigned reg, int64_t off)
{
	uint64_t rip = 0;

	if (xl_address_at(t, off, &rip)) {
		xe_mov_imm(&t->e, reg, rip);
		return;
	}
	xe_load(&t->e, reg, XG(xl_page));
	xe_op(&t->e, t->compat ? 0 : XE_W, 0, 0x8d, reg, xl_mem(reg, (int32_t)off));
}

void xl_leave_at(struct xl_tr *t, int64_t off)
{
	xl_rip_to(t, XR_11, off);
	leave(t);
}

static void link_here(struct xl_tr *t, uint8_t *jump, int64_t off, bool indirect)
{
	if (t->n_links == XL_LINKS) {
		t->full = true;
		return;
	}
	t->links[t->n_links].jump = jump;
	t->links[t->n_links].indirect = indirect;
	t->links[t->n_links++].off = (unsigned)off;
}

/* All of an instruction that is there? Links know nothing of a second page. */
static bool in_page(int64_t off)
{
	return off >= 0 && off <= GMEM_PAGE_BYTES - INSN_BYTES_MAX;
}

void xl_go_r11(struct xl_tr *t)
{
	xe_here_8(&t->e, jump_r11(t));
	leave(t);
}

/* To another page, whose address is in R11. */
static void go_across(struct xl_tr *t, int64_t off, bool polls)
{
	struct xl_code *e = &t->e;
	struct xl_rm word = { 0 };
	uint8_t *out = NULL;

	if (!xl_across(t, off, &word)) {
		xl_go_r11(t);
		return;
	}
	out = polls ? poll(t) : NULL;
	xe_op(e, 0, 0, 0xff, 4, word);
	if (out) {
		xe_here_8(e, out);
		leave(t);
	}
}

void xl_go(struct xl_tr *t, int64_t off)
{
	struct xl_code *e = &t->e;
	/* What goes on and on comes back at some time. */
	bool polls = (t->owes || off <= t->insns[t->k].off) && !t->polled;
	uint8_t *out = NULL;

	if (!in_page(off)) {
		xl_rip_to(t, XR_11, off);
		go_across(t, off, polls);
		return;
	}
	out = polls ? poll(t) : NULL;
	xe_align_patch(e, 1);
	link_here(t, xe_jmp(e), off, false);
	if (out) {
		xe_here_8(e, out);
		xl_leave_at(t, off);
	}
}

/* Behind the host's call, where the guest's returns to an offset, RIP in R11. */
static void land(struct xl_tr *t, int64_t off)
{
	struct xl_code *e = &t->e;

	xe_lea(e, XR_SP, xl_mem(XR_SP, 8));
	if (in_page(off)) {
		xe_align_patch(e, 1);
		link_here(t, xe_jmp(e), off, true);
		return;
	}
	go_across(t, off, false);
}

/* The guest's address to return to is pushed. */
static void go_call(struct xl_tr *t, int64_t to)
{
	struct xl_code *e = &t->e;
	uint8_t *out = poll(t), *miss = NULL;
	const uint8_t *landing = NULL;
	struct xl_rm word = { 0 };

	if (in_page(to)) {
		xe_align_patch(e, 1);
		link_here(t, xe_call(e), to, false);
	} else if (xl_across(t, to, &word)) {
		xl_rip_to(t, XR_11, to);
		xe_op(e, 0, 0, 0xff, 2, word);
	} else {
		xl_rip_to(t, XR_11, to);
		miss = look(t, XR_11, NULL);
		call_found(t);
	}
	landing = e->at;
	land(t, xl_next_off(t));
	xe_here_8(e, out);
	xe_lea(e, XR_SP, xl_mem(XR_SP, 8));
	xl_leave_at(t, to);
	if (miss) {
		xe_here(e, miss);
		xl_call_routine(t, xl_routines(t->x)->leave_unlinked);
		xe_patch(e, xe_jmp(e), landing);
	}
}

void xl_side(struct xl_tr *t, uint8_t *jump, int64_t off, bool wanted)
{
	if (t->n_sides == XL_SIDES) {
		t->full = true;
		return;
	}
	t->sides[t->n_sides++] = (struct xl_side){ .jump = jump, .off = off, .k = (uint8_t)t->k,
						   .wanted = wanted, .owes = t->owes, .set = t->set,
						   .x87_last = t->x87_last, .f = t->f };
}

void xl_leave_aside(struct xl_tr *t, uint8_t *jump, unsigned k, int64_t off)
{
	unsigned now = t->k;

	t->k = k;
	xl_side(t, jump, off, true);
	t->k = now;
}

static void write_side(struct xl_tr *t, const struct xl_side *s)
{
	struct xl_code *e = &t->e;

	t->k = s->k;
	t->polled = false;
	t->owes = s->owes;
	xe_here(e, s->jump);
	xf_make(t, &s->f);
	xl_x87_record(t, s->x87_last);
	xl_give_back(t, s->set);
	if (t->c->eng->counted && t->k + 1 < t->n) {
		xe_load(e, XR_CX, XG(xl_left));
		xe_lea(e, XR_CX, xl_mem(XR_CX, (int32_t)(t->n - 1 - t->k)));
		xe_store(e, XR_CX, XG(xl_left));
	}
	if (s->wanted) {
		xl_leave_at(t, s->off);
	} else {
		xl_go(t, s->off);
	}
}

void xl_sides(struct xl_tr *t)
{
	bool polled = t->polled;

	for (unsigned n = 0; n < t->n_sides && !t->full; n++) {
		write_side(t, &t->sides[n]);
	}
	t->polled = polled;   /* of the line */
}

/* In the middle of a block: it is more likely that it goes on. */
static void jcc_aside(struct xl_tr *t, unsigned cond, int64_t to)
{
	if (in_page(to) && to > t->insns[t->k].off && !t->owes && !t->c->eng->counted && !t->set) {
		xe_align_patch(&t->e, 2);
		link_here(t, xe_jcc(&t->e, cond), to, false);
	} else {
		xl_side(t, xe_jcc(&t->e, cond), to, false);
	}
}

/* The end of a round of a loop that is not the first one. What is behind it follows. */
static void round_ends(struct xl_tr *t, bool always, unsigned cond)
{
	struct xl_code *e = &t->e;
	int64_t head = t->insns[t->rounds->first].off;
	bool on = xl_rounds_go_on(t);
	uint8_t *out = NULL, *wanted = NULL;

	xl_rounds_r11(t);
	if (on && t->polled) {
		xe_patch(e, always ? xe_jmp(e) : xe_jcc(e, cond), t->rounds->head);
		return;
	}
	out = always ? NULL : xe_jcc(e, cond ^ 1);
	wanted = on ? poll(t) : NULL;
	if (on) {
		xe_patch(e, xe_jmp(e), t->rounds->head);
		xe_here_8(e, wanted);
	}
	xl_side(t, xe_jmp(e), head, on);
	if (out) {
		xe_here(e, out);
	}
}

static void jcc(struct xl_tr *t, unsigned cond)
{
	int64_t to = (int64_t)xl_next_off(t) + (int64_t)t->insns[t->k].i.imm;
	uint8_t *taken = NULL;

	xl_wrote(t, 0);
	xf_need_host(t);
	if (xl_round_ends(t)) {
		round_ends(t, false, cond);
		return;
	}
	if (xl_loop_ends(t)) {
		xl_side(t, xe_jcc(&t->e, cond ^ 1), xl_next_off(t), false);
		return;
	}
	if (t->k < t->n - 1) {
		jcc_aside(t, cond, to);
		return;
	}
	if (in_page(to) && ((to > t->insns[t->k].off && !t->owes) || t->polled)) {
		xe_align_patch(&t->e, 2);
		link_here(t, xe_jcc(&t->e, cond), to, false);
		xl_go(t, xl_next_off(t));
		return;
	}
	taken = xe_jcc(&t->e, cond ^ 1);
	xl_go(t, to);
	xe_here(&t->e, taken);
	xl_go(t, xl_next_off(t));
}

/* To what is written next. Behind a jump backward wants are looked at where the block is left, if
 * that is not done there in any case. */
static void jmp_on(struct xl_tr *t, int64_t to)
{
	t->owes |= to <= t->insns[t->k].off && !t->polled;
}

static void jmp(struct xl_tr *t)
{
	int64_t to = (int64_t)xl_next_off(t) + (int64_t)t->insns[t->k].i.imm;

	xl_wrote(t, 0);
	if (t->k < t->n - 1) {
		jmp_on(t, to);
		return;
	}
	xf_need_host(t);
	if (xl_round_ends(t)) {
		round_ends(t, true, 0);
	} else if (!xl_loop_ends(t)) {
		xl_go(t, to);
	}
}

static void ret(struct xl_tr *t, int32_t by)
{
	struct xl_rm from = { 0 };

	t->r11_kept = true;
	from = xl_stack_operand(t, CPU_RSP, 0, false);
	xl_access(t);
	xe_load(&t->e, XR_11, from);
	xf_need_host(t);
	xl_return(t, by + t->stack_off);
	t->stack_off = 0;
}

/* The target of an indirect jump or call. */
static void target_to_r11(struct xl_tr *t)
{
	const struct insn *i = &t->insns[t->k].i;

	if (i->rm == INSN_NONE) {
		struct xl_rm from = xl_operand(t, 8, false, false);

		xl_access(t);
		xe_load(&t->e, XR_11, from);
	} else if (xl_host(i->rm) == XR_NONE) {
		xe_load(&t->e, XR_11, xl_gpr_slot(i->rm));
	} else {
		xe_mov(&t->e, XR_11, xl_host(i->rm));
	}
}

/* Where a call returns to, on both stacks. */
static void push_next(struct xl_tr *t, unsigned scratch, struct xl_rm place)
{
	struct xl_code *e = &t->e;
	uint64_t rip = 0;

	if (xl_address_at(t, xl_next_off(t), &rip) && rip == (uint64_t)(int64_t)(int32_t)rip) {
		xl_access(t);
		xe_op(e, XE_W, 0, 0xc7, 0, place);
		xe_n(e, (uint32_t)rip, 4);
		xl_return_push_imm(t, rip);
		return;
	}
	xl_rip_to(t, scratch, xl_next_off(t));
	xl_access(t);
	xe_store(e, scratch, place);
	xl_return_push(t, scratch);
}

static void call(struct xl_tr *t)
{
	int64_t to = (int64_t)xl_next_off(t) + (int64_t)t->insns[t->k].i.imm;

	struct xl_rm place = { 0 };

	t->r11_kept = true;
	place = xl_stack_operand(t, CPU_RSP, -8, true);
	push_next(t, XR_CX, place);
	xl_stack_move(t, -8);
	xl_stack_flush(t);
	xf_need_host(t);
	go_call(t, to);
}

/* The host's register that says where an indirect jump or call goes to, where R11 need not say so
 * as well; XR_NONE: there is none. */
static unsigned target_register(const struct xl_tr *t)
{
	const struct insn *i = &t->insns[t->k].i;

	return t->to->page != XL_ANYWHERE && i->rm != INSN_NONE ? xl_host(i->rm) : XR_NONE;
}

static void call_indirect(struct xl_tr *t)
{
	struct xl_code *e = &t->e;
	unsigned host = target_register(t);

	if (host == XR_NONE) {
		target_to_r11(t);
		xe_store(e, XR_11, XG(xl_tmp));
	}
	xf_need_host(t);
	/* Where the table does not know it the interpreter does all of the instruction. */
	xl_slow_from(t, look(t, host == XR_NONE ? XR_11 : host, poll(t)), XL_WHY_TARGET);
	push_next(t, XR_CX, xl_stack_operand(t, CPU_RSP, -8, true));
	if (host == XR_NONE) {
		xe_load(e, XR_11, XG(xl_tmp));
	} else {
		xe_mov(e, XR_11, host);
	}
	xf_moved(t, CPU_RSP, -8);
	xe_lea(e, XR_9, xl_mem(XR_9, -8));
	xf_need_host(t);
	call_found(t);   /* by the mask as it is now: perhaps R11 is where it goes on */
	land(t, xl_next_off(t));
}

/* Where R11 need not say where it goes to. */
static void jump_to_register(struct xl_tr *t, unsigned host)
{
	struct xl_code *e = &t->e;
	bool user = t->to->kind != XK_KERNEL;
	unsigned by_loop = xl_by_loop(t);
	uint8_t *miss = NULL;

	slot(e, XR_11, host);
	compare(e, user, XR_11, host, by_loop);
	miss = xl_unless(t, by_loop);
	xe_op(e, 0, 0, 0xff, 4, code_at(user, XR_11));
	xe_here_8(e, miss);
	xl_slow_from(t, xe_jmp(e), XL_WHY_TARGET);
}

static void jump_indirect(struct xl_tr *t)
{
	unsigned host = target_register(t);
	uint8_t *miss = NULL;

	if (host != XR_NONE) {
		xf_need_host(t);
		jump_to_register(t, host);
		return;
	}
	target_to_r11(t);
	xf_need_host(t);
	miss = jump_r11(t);
	xe_here_8(&t->e, miss);
	xl_slow_from(t, xe_jmp(&t->e), XL_WHY_TARGET);
}

static bool whole(const struct xl_tr *t, const struct insn *i)
{
	return i->op_bytes == (t->compat ? 4 : 8) && !(i->prefix & INSN_VEX);
}

bool xl_jump(struct xl_tr *t)
{
	const struct insn *i = &t->insns[t->k].i;

	if (!whole(t, i) || !xl_jumps(i)) {
		return false;
	}
	t->r11_kept = true;
	if (xl_jumps_if(i)) {
		jcc(t, i->opcode & 15);
	} else {
		jmp(t);
	}
	return true;
}

/* Blocks behind a call or a return rely on what its access shows of the stack: one that looks at
 * the TLB shows nothing, and is the interpreter's. */
static bool shows_nothing(const struct xl_tr *t)
{
	return t->to->kind == XK_DIRECT && xl_hint(t->x, xl_gpa_of(t)) == XP_TLB;
}

bool xl_flow(struct xl_tr *t)
{
	const struct insn *i = &t->insns[t->k].i;
	unsigned op = i->modrm >> 3 & 7;
	bool jumps = i->opcode == 0xff && op == 4;

	if (!whole(t, i) || t->compat || i->map != INSN_MAP_1 || (!jumps && shows_nothing(t))) {
		return false;
	}
	if (i->opcode == 0xe8) {
		call(t);
	} else if (i->opcode == 0xc3) {
		ret(t, 8);
	} else if (i->opcode == 0xc2) {
		ret(t, 8 + (int32_t)(uint16_t)i->imm);
	} else if (i->opcode == 0xff && (op == 2 || op == 4) &&
		   (i->rm != INSN_NONE || i->ad_bytes == 8)) {
		(op == 2 ? call_indirect : jump_indirect)(t);
	} else {
		return false;
	}
	return true;
}
