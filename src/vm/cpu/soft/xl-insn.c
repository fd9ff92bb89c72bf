/* SPDX-License-Identifier: Apache-2.0 */
/* One instruction: its accesses to memory, the stack, and the way to the interpreter. */
#include "vm/cpu/soft/handlers.h"
#include "vm/cpu/soft/int.h"
#include "vm/cpu/soft/xl-parts.h"

enum { COND_NZ = 5, COND_A = 7 };

/* --- To the interpreter --- */

static struct xl_slow *slow_new(struct xl_tr *t)
{
	static struct xl_slow none;

	if (t->n_slow == XL_SLOWS) {
		t->full = true;
		return &none;
	}
	struct xl_slow *s = &t->slow[t->n_slow++];

	*s = (struct xl_slow){ .before = t->f, .stack_before = t->stack_off, .k = (uint8_t)t->k,
			       .why = XL_WHY_MEMORY, .set = t->set, .x87_last = t->x87_last };
	return s;
}

void xl_slow(struct xl_tr *t, unsigned cond)
{
	slow_new(t)->jump = xe_jcc(&t->e, cond);
}

void xl_slow_from(struct xl_tr *t, uint8_t *jump, unsigned why)
{
	struct xl_slow *s = slow_new(t);

	s->jump = jump;
	s->why = (uint8_t)why;
}

void xl_slow_again(struct xl_tr *t, const uint8_t *at)
{
	/* Counted parts of an instruction begin in the loop. */
	if (!t->full && !t->c->eng->counted) {
		t->slow[t->n_slow - 1].redo = at;
	}
}

void xl_slow_unless_zero(struct xl_tr *t, unsigned why)
{
	uint8_t *on = xe_jrcxz(&t->e);

	xl_slow_from(t, xe_jmp(&t->e), why);
	xe_here_8(&t->e, on);
}

unsigned xl_by_loop(const struct xl_tr *t)
{
	bool other = __builtin_expect(t->c->eng->eng.conf.xl.shaken, 0) && xl_random(t->c) % 2;

	return !!__builtin_cpu_is("amd") != other;
}

uint8_t *xl_unless(struct xl_tr *t, unsigned by_loop)
{
	uint8_t *on = NULL, *ret = NULL;

	if (by_loop) {
		return xe_loop(&t->e);
	}
	on = xe_jrcxz(&t->e);
	ret = xe_jmp_8(&t->e);
	xe_here_8(&t->e, on);
	return ret;
}

/* Between it and what jumps there: what looks. */
enum { NEAR_BYTES = 5, NEAR_MAX = 100 };

bool xl_near(const struct xl_tr *t)
{
	return t->n_near < XL_NEAR && t->e.at - (t->near + t->n_near * NEAR_BYTES) < NEAR_MAX;
}

void xl_near_room(struct xl_tr *t)
{
	t->near = t->e.at;
	t->n_near = 0;
	for (unsigned n = 0; n < XL_NEAR * NEAR_BYTES; n++) {
		xe_8(&t->e, 0xcc);
	}
}

void xl_slow_near(struct xl_tr *t, bool loop)
{
	struct xl_code e = { .at = t->near + t->n_near++ * NEAR_BYTES, .end = t->e.end };
	uint8_t *jump = (loop ? xe_loop : xe_jrcxz)(&t->e);

	if (jump < t->e.end) {
		*jump = (uint8_t)(e.at - (jump + 1));
	}
	xl_slow_from(t, xe_jmp(&e), XL_WHY_MEMORY);
}

static bool same_flags(const struct xl_flags *a, const struct xl_flags *b)
{
	return a->at == b->at && (a->at != XF_RECIPE || xf_same(&a->recipe, &b->recipe));
}

unsigned xl_slow_fault(struct xl_tr *t)
{
	for (unsigned s = t->n_slow; s > 0 && t->slow[s - 1].k == t->k; s--) {
		const struct xl_slow *known = &t->slow[s - 1];

		if (known->why == XL_WHY_MEMORY && !known->load && !known->again &&
		    known->set == t->set && known->x87_last == t->x87_last &&
		    known->stack_before == t->stack_off && same_flags(&known->before, &t->f)) {
			return s - 1;
		}
	}
	slow_new(t);
	return t->n_slow - !!t->n_slow;
}

void xl_call_interpreter(struct xl_tr *t, bool last)
{
	uint32_t index = 0;
	struct xl_packed *o = xl_out_new(t, &index);
	const struct xl_routines *r = xl_routines(t->x);

	if (!o) {
		return;
	}
	o->last = last;
	xl_stack_flush(t);
	if (t->f.at == XF_RECIPE) {
		xf_need_host(t);
	}
	xl_x87_record(t, t->x87_last);
	xe_mov_imm32(&t->e, XR_11, index);
	xl_call_routine(t, t->f.at == XF_SAVED ? r->out_saved : r->out_host);
	t->f = (struct xl_flags){ .at = XF_SAVED };
	t->vec = XV_NONE;
	t->x87 = false;
	t->x87_last = -1;
}

/* --- Memory --- */

static unsigned address_register(struct xl_tr *t, unsigned guest, unsigned scratch)
{
	unsigned host = xl_now(t, guest);

	if (host != XR_NONE) {
		return host;
	}
	xe_load(&t->e, scratch, xl_gpr_slot(guest));
	return scratch;
}

/* What these registers give, of 64 bits or cut to 32. */
static void sum(struct xl_tr *t, unsigned to, unsigned how, unsigned base, unsigned index,
		unsigned scale, int32_t disp)
{
	struct xl_rm rm = xl_mem(XR_NONE, disp);

	if (base != INSN_NONE) {
		rm.base = (uint8_t)address_register(t, base, XR_CX);
	}
	if (index != INSN_NONE) {
		rm.index = (uint8_t)address_register(t, index, XR_11);
		rm.scale = (uint8_t)scale;
	}
	xe_op(&t->e, how, 0, 0x8d, to, rm);
}

/* The address of the memory operand of instruction k, of 64 bits or cut to 32. */
static void effective(struct xl_tr *t, unsigned to, unsigned how)
{
	const struct insn *i = &t->insns[t->k].i;

	if (i->base == INSN_BASE_RIP) {
		xl_rip_to(t, to, (int64_t)xl_next_off(t) + i->disp);
		if (!how) {
			xe_op(&t->e, 0, 0, 0x8b, to, xl_reg(to));   /* mov r32, r32 */
		}
		return;
	}
	sum(t, to, how, i->base, i->index, i->scale, i->disp);
}

void xl_effective(struct xl_tr *t, unsigned to)
{
	effective(t, to, t->insns[t->k].i.ad_bytes == 8 ? XE_W : 0);
}

void xl_address_from(struct xl_tr *t, unsigned base, unsigned index, unsigned scale, int32_t disp)
{
	if (base == INSN_BASE_RIP) {
		xl_rip_to(t, XR_11, disp);
		return;
	}
	sum(t, XR_11, XE_W, base, index, scale, disp);
}

void xl_address(struct xl_tr *t)
{
	const struct insn *i = &t->insns[t->k].i;

	xl_effective(t, XR_11);
	if (i->seg >= CPU_FS && t->compat) {
		xl_compat_segment(t, i->seg);
	} else if (i->seg >= CPU_FS) {
		xf_clobber(t);
		xe_alu(&t->e, XE_W, 0, XR_11,
		       xl_gs(offsetof(struct soft_cpu, s.seg) + i->seg * sizeof(struct cpu_seg) +
			     offsetof(struct cpu_seg, base)));
	}
}

/* R11: an address less that of a page. The condition of a jump where the operand does not lie in
 * it, or is not aligned if it has to be. */
static unsigned outside(struct xl_tr *t, unsigned bytes, bool aligned)
{
	if (aligned) {
		xe_op(&t->e, XE_W, 0, 0xf7, 0, xl_reg(XR_11));           /* test */
		xe_n(&t->e, ~(uint64_t)(GMEM_PAGE_BYTES - bytes), 4);
		return COND_NZ;
	}
	xe_alu_imm(&t->e, XE_W, 7, xl_reg(XR_11), (int32_t)(GMEM_PAGE_BYTES - bytes));
	return COND_A;
}

/* An access that could be a hit goes to the interpreter all the same. */
void xl_shaken(struct xl_tr *t)
{
	if (__builtin_expect(t->c->eng->eng.conf.xl.shaken, 0) && t->n_slow < XL_SLOWS / 2 &&
	    xl_random(t->c) % 8 == 0) {
		xl_slow_from(t, xe_jmp(&t->e), XL_WHY_INSN);
	}
}

static void check(struct xl_tr *t, unsigned bytes, bool write, bool aligned)
{
	const int32_t tag = write ? offsetof(struct soft_tlb_entry, tag_write) :
				    offsetof(struct soft_tlb_entry, tag_read);
	struct xl_code *e = &t->e;
	uint8_t *again = NULL;

	xf_clobber(t);
	xl_shaken(t);
	again = e->at;
	xl_tlb_entry(e);
	xe_alu(e, XE_W, 5, XR_11, xl_mem(XR_CX, tag));
	xl_slow(t, outside(t, bytes, aligned));
	if (!t->full) {
		t->slow[t->n_slow - 1].again = again;
		t->slow[t->n_slow - 1].write = write;
	}
}

void xl_check(struct xl_tr *t, unsigned bytes, bool write)
{
	check(t, bytes, write, false);
}

static void check_to_r11(struct xl_tr *t, unsigned bytes, bool write, bool aligned)
{
	check(t, bytes, write, aligned);
	xe_alu(&t->e, XE_W, 0, XR_11, xl_mem(XR_CX, offsetof(struct soft_tlb_entry, host)));
}

void xl_check_to_r11(struct xl_tr *t, unsigned bytes, bool write)
{
	check_to_r11(t, bytes, write, false);
}

static void stack_to_r11(struct xl_tr *t, unsigned base, int32_t disp, unsigned bytes, bool write,
			 bool aligned)
{
	const size_t at = offsetof(struct soft_cpu, xl_stack) + write * sizeof(struct soft_stack);
	struct xl_code *e = &t->e;

	if (t->n_stacks == XL_STACKS) {
		t->full = true;
		return;
	}
	xf_clobber(t);
	xl_shaken(t);
	t->stacks[t->n_stacks].again = e->at;
	t->stacks[t->n_stacks].write = write;
	disp += base == XR_9 ? t->stack_off : 0;
	if (disp) {
		xe_lea(e, XR_11, xl_mem(base, disp));
	} else {
		xe_mov(e, XR_11, base);
	}
	xe_alu(e, XE_W, 5, XR_11, xl_gs(at + offsetof(struct soft_stack, tag)));
	t->stacks[t->n_stacks].jump = xe_jcc(e, outside(t, bytes, aligned));
	t->stacks[t->n_stacks].slow_at = t->n_slow;
	t->n_stacks++;
	xl_slow_from(t, NULL, XL_WHY_MEMORY);     /* its jump is written out of line */
	xe_alu(e, XE_W, 0, XR_11, xl_gs(at + offsetof(struct soft_stack, host)));
}

void xl_stack_to_r11(struct xl_tr *t, unsigned base, int32_t disp, unsigned bytes, bool write)
{
	stack_to_r11(t, base, disp, bytes, write, false);
}

/* Locals lie below the frame pointer; above it, it is a register like others. */
bool xl_on_stack(const struct insn *i)
{
	return i->seg < CPU_FS && i->index == INSN_NONE && i->ad_bytes == 8 &&
	       (i->base == CPU_RSP || (i->base == CPU_RBP && i->disp < 0));
}

static void operand_to_r11(struct xl_tr *t, unsigned bytes, bool write, bool aligned)
{
	const struct insn *i = &t->insns[t->k].i;

	if (xl_on_stack(i)) {
		stack_to_r11(t, xl_now(t, i->base), i->disp, bytes, write, aligned);
		return;
	}
	xl_address(t);
	check_to_r11(t, bytes, write, aligned);
}

void xl_operand_to_r11(struct xl_tr *t, unsigned bytes, bool write)
{
	operand_to_r11(t, bytes, write, false);
}

void xl_aligned_to_r11(struct xl_tr *t, unsigned bytes, bool write)
{
	operand_to_r11(t, bytes, write, true);
}

/* --- The stack --- */

static void push_host(struct xl_tr *t, unsigned host, struct xl_rm to)
{
	xl_access(t);
	xe_store(&t->e, host, to);
	xl_stack_move(t, -8);
	xl_wrote(t, (unsigned)BIT(CPU_RSP));
}

static void push_reg(struct xl_tr *t, unsigned guest)
{
	struct xl_rm to = { 0 };

	t->r11_kept = true;
	to = xl_stack_operand(t, CPU_RSP, -8, true);
	push_host(t, address_register(t, guest, XR_CX), to);
}

static void push_imm(struct xl_tr *t)
{
	struct xl_rm to = { 0 };

	t->r11_kept = true;
	to = xl_stack_operand(t, CPU_RSP, -8, true);
	xl_access(t);
	xe_op(&t->e, XE_W, 0, 0xc7, 0, to);
	xe_n(&t->e, t->insns[t->k].i.imm, 4);
	xl_stack_move(t, -8);
	xl_wrote(t, (unsigned)BIT(CPU_RSP));
}

static void push_mem(struct xl_tr *t)
{
	struct xl_rm rm = xl_operand(t, 8, false, false);

	xl_access(t);
	xe_load(&t->e, XR_11, rm);
	xe_store(&t->e, XR_11, XG(xl_tmp));
	rm = xl_stack_operand(t, CPU_RSP, -8, true);
	xe_load(&t->e, XR_CX, XG(xl_tmp));
	push_host(t, XR_CX, rm);
}

static void pop_reg(struct xl_tr *t, unsigned guest)
{
	unsigned host = xl_host(guest);
	struct xl_rm from = { 0 };

	t->r11_kept = true;
	from = xl_stack_operand(t, CPU_RSP, 0, false);
	xl_access_first(t);
	xf_written(t, (unsigned)BIT(guest));
	xl_access(t);
	xe_load(&t->e, host == XR_NONE ? XR_CX : host, from);
	xl_wrote(t, (unsigned)(BIT(guest) | BIT(CPU_RSP)));
	if (host == XR_NONE) {
		xe_store(&t->e, XR_CX, xl_gpr_slot(guest));
	}
	if (guest != CPU_RSP) {
		xl_stack_move(t, 8);
	}
}

static void leave(struct xl_tr *t)
{
	struct xl_rm from = { 0 };

	t->r11_kept = true;
	from = xl_stack_operand(t, CPU_RBP, 0, false);
	xl_access_first(t);
	xf_written(t, (unsigned)(BIT(CPU_RSP) | BIT(CPU_RBP)));
	xl_access(t);
	xe_load(&t->e, XR_CX, from);
	xe_lea(&t->e, XR_9, xl_mem(XR_BP, 8));
	xe_mov(&t->e, XR_BP, XR_CX);
	xl_wrote(t, (unsigned)(BIT(CPU_RSP) | BIT(CPU_RBP)));
	xl_moved(t, CPU_RSP, CPU_RBP, 8);
}

static bool stack(struct xl_tr *t)
{
	const struct insn *i = &t->insns[t->k].i;

	if (i->map != INSN_MAP_1 || i->op_bytes != 8) {
		return false;
	}
	if (i->opcode >= 0x50 && i->opcode <= 0x57) {
		push_reg(t, i->rm);
	} else if (i->opcode >= 0x58 && i->opcode <= 0x5f) {
		pop_reg(t, i->rm);
	} else if (i->opcode == 0x68 || i->opcode == 0x6a) {
		push_imm(t);
	} else if (i->opcode == 0xc9) {
		leave(t);
	} else if (i->opcode == 0xff && (i->modrm >> 3 & 7) == 6) {
		if (i->rm == INSN_NONE) {
			push_mem(t);
		} else {
			push_reg(t, i->rm);
		}
	} else {
		return false;
	}
	return true;
}

/* --- Others --- */

static bool lea(struct xl_tr *t)
{
	const struct insn *i = &t->insns[t->k].i;

	if (i->map != INSN_MAP_1 || i->opcode != 0x8d || i->op_bytes == 2) {
		return false;
	}
	unsigned host = xl_now(t, i->reg);
	unsigned to = host == XR_NONE ? XR_11 : host;

	if (i->base == i->reg && i->index == INSN_NONE && i->op_bytes == 8 && i->ad_bytes == 8 &&
	    host != XR_NONE) {
		xf_moved(t, i->reg, i->disp);
	} else {
		xf_written(t, (unsigned)BIT(i->reg));
	}
	t->r11_kept = host != XR_NONE && (i->index == INSN_NONE || xl_now(t, i->index) != XR_NONE);
	effective(t, to, i->op_bytes == 8 && i->ad_bytes == 8 ? XE_W : 0);
	xl_wrote(t, (unsigned)BIT(i->reg));
	if (i->op_bytes == 8 && i->base < CPU_REG__COUNT && i->index == INSN_NONE &&
	    i->ad_bytes == 8) {
		xl_moved(t, i->reg, i->base, i->disp);
	}
	t->summed = i->op_bytes == 8 && i->ad_bytes == 8 && i->disp == 0;
	if (host == XR_NONE) {
		xe_store(&t->e, to, xl_gpr_slot(i->reg));
	}
	return true;
}

bool xl_nothing(const struct insn *i)
{
	const struct insn_row *row = &insn_table[i->row];

	return row->pick == pick_nop || (row->pick == pick_prefetchw && i->rm == INSN_NONE) ||
	       (i->map == INSN_MAP_1 && i->opcode == 0x90 && i->rm == CPU_RAX &&
		!(i->prefix & (INSN_W | INSN_66)));
}

void xl_instruction(struct xl_tr *t)
{
	const struct insn *i = &t->insns[t->k].i;

	if (t->compat && xl_compat(t)) {
		return;
	}
	if (xl_nothing(i)) {
		xl_wrote(t, 0);
		t->r11_kept = true;
		return;
	}
	if (lea(t) || xl_jump(t) || xl_stack_add(t)) {
		return;
	}
	if (stack(t) || xl_flow(t) || xl_system(t) || xl_div(t) || xl_bits(t) || xl_string(t) ||
	    xl_wide(t)) {
		t->insns[t->k].rigid = true;
		return;
	}
	if (xl_x87(t) || xl_form(t)) {
		return;
	}
	t->insns[t->k].rigid = true;
	xl_call_interpreter(t, soft_block_ends(i));
}
