/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A block, and what often follows it: the straight line first, then what is rarely reached, the
 * ways to the interpreter and back, and the jumps to blocks that are not known yet.
 */
#include <limits.h>

#include "base/clock.h"
#include "vm/cpu/soft/handlers.h"
#include "vm/cpu/soft/xl-parts.h"
#include "vm/cpu/soft/xl-stats.h"

/*
 * One of two registers, whose other form has what stays in the state in ModRM.rm, where it can be
 * reached without a scratch register: that form.
 */
static void turn_round(struct insn *i, const uint8_t *bytes, enum insn_mode mode)
{
	uint8_t turned[INSN_BYTES_MAX];
	struct insn other = { 0 };
	unsigned n = i->len;
	bool sums = i->opcode < 0x40 && (i->opcode & 7) < 2, moves = (i->opcode & 0xfe) == 0x88;
	bool tests = (i->opcode & 0xfe) == 0x84;

	if (mode != INSN_MODE_64 || i->map != INSN_MAP_1 || i->prefix & INSN_LOCK ||
	    i->modrm < 0xc0 || !(sums || moves || tests) ||
	    xl_host(i->reg) != XR_NONE || xl_host(i->rm) == XR_NONE) {
		return;
	}
	/* There is a REX in front of the opcode, whose R is set. */
	memcpy(turned, bytes, n);
	turned[n - 3] = (uint8_t)((bytes[n - 3] & ~5u) | (bytes[n - 3] & 1u) << 2 | 1u);
	turned[n - 2] ^= tests ? 0 : 2;
	turned[n - 1] = (uint8_t)(0xc0 | (i->modrm & 7) << 3 | (i->modrm >> 3 & 7));
	if (insn_parse(turned, n, mode, &other) == (int)n) {
		*i = other;
	}
}

/* Instructions of a block behind those that are there. Their bytes may be others by now than those
 * that it was made from, and then this is of no use. */
static bool decode(struct xl_tr *t, const struct soft_block *b, const uint8_t *bytes)
{
	unsigned at = 0;

	for (unsigned k = 0; k < b->n; k++) {
		struct xl_insn *x = &t->insns[t->n + k];
		const struct insn *known = &b->insns[k];
		int n = 0;

		x->off = (uint16_t)((b->gpa & (GMEM_PAGE_BYTES - 1)) + at);
		x->out = 0;
		x->place = XP_UNKNOWN;
		n = insn_parse(bytes + at, b->bytes - at, (enum insn_mode)b->mode, &x->i);
		if (n != known->len || x->i.row != known->row) {
			return false;
		}
		memcpy(x->bytes, bytes + at, x->i.len);
		x->run = x->i;
		xl_bind(t->c->eng, (enum insn_mode)b->mode, &x->run);
		turn_round(&x->i, bytes + at, (enum insn_mode)b->mode);
		at += x->i.len;
	}
	if (at != b->bytes) {
		return false;
	}
	t->n += b->n;
	return true;
}

/* Bytes of the first block's page. */
static const uint8_t *host_at(const struct xl_tr *t, unsigned off)
{
	struct soft_page *page = NULL;

	return soft_ram(t->c->eng, (t->b->gpa & ~(uint64_t)(GMEM_PAGE_BYTES - 1)) | off, &page);
}

/* The block itself. */
static bool decode_first(struct xl_tr *t)
{
	uint8_t bytes[SOFT_BLOCK_INSNS * INSN_BYTES_MAX];
	struct soft_page *page = NULL;
	size_t first = MIN(t->b->bytes, GMEM_PAGE_BYTES - (size_t)t->first_off);

	t->n = 0;
	t->to->bytes = t->b->bytes;
	soft_copy_whole(bytes, host_at(t, t->first_off), first);
	if (t->b->cross) {
		soft_copy_whole(bytes + first, soft_ram(t->c->eng, t->b->gpa2, &page),
				t->b->bytes - first);
	}
	return decode(t, t->b, bytes);
}

/* One that control comes to from there. */
static bool decode_more(struct xl_tr *t, const struct soft_block *b)
{
	uint8_t bytes[SOFT_BLOCK_INSNS * INSN_BYTES_MAX];

	soft_copy_whole(bytes, host_at(t, (unsigned)(b->gpa & (GMEM_PAGE_BYTES - 1))), b->bytes);
	if (!decode(t, b, bytes)) {
		return false;
	}
	xl_piece_new(t, b->gpa, b->bytes);
	return true;
}

/* Does a block end with this one whatever is behind it? */
static bool ends(const struct xl_tr *t)
{
	const struct insn *i = &t->insns[t->n - 1].i;

	return soft_block_ends(i);
}

bool xl_jumps_if(const struct insn *i)
{
	return !(i->prefix & INSN_VEX) && i->op_bytes != 2 &&
	       ((i->map == INSN_MAP_1 && (i->opcode & 0xf0) == 0x70) ||
		(i->map == INSN_MAP_0F && (i->opcode & 0xf0) == 0x80));
}

int64_t xl_jumps_to(const struct xl_tr *t, unsigned k)
{
	return (int64_t)(t->insns[k].off + t->insns[k].i.len) + (int64_t)t->insns[k].i.imm;
}

bool xl_jumps(const struct insn *i)
{
	return xl_jumps_if(i) || (i->map == INSN_MAP_1 && (i->opcode == 0xe9 || i->opcode == 0xeb));
}

static bool is_there(const struct xl_tr *t, int64_t off)
{
	for (unsigned k = 0; k < t->n; k++) {
		if (t->insns[k].off == off) {
			return true;
		}
	}
	return false;
}

/* Where control goes on behind what is there, mostly; -1: that is not known, or it is elsewhere. */
static int64_t goes_on(const struct xl_tr *t)
{
	const struct xl_insn *last = &t->insns[t->n - 1];
	int64_t next = last->off + last->i.len;

	if (!ends(t)) {
		return next;
	}
	if (!xl_jumps(&last->i)) {
		return -1;
	}
	if (xl_jumps_if(&last->i)) {
		/* Where a loop ends only if its rounds are written, too. */
		bool on = xl_jumps_to(t, t->n - 1) > last->off ||
			  (xl_is_direct(t->to->kind) && !t->plain && xl_loop_of(t, t->n - 1) >= 0);

		return on ? next : -1;
	}
	next = xl_jumps_to(t, t->n - 1);
	return last->i.op_bytes == 8 && !is_there(t, next) ? next : -1;
}

/* The block there, if control comes to it about as often as to the first: it has been interpreted
 * half as often at least. */
static const struct soft_block *behind(const struct xl_tr *t)
{
	int64_t off = goes_on(t);
	const struct soft_block *b = NULL;

	if (t->alone || t->b->cross || t->compat || off < 0 || off >= GMEM_PAGE_BYTES) {
		return NULL;
	}
	b = soft_block_at(t->c, (t->b->gpa & ~(uint64_t)(GMEM_PAGE_BYTES - 1)) | (uint64_t)off);
	return b && !b->cross && b->heat <= soft_heat(t->c) / 2 &&
	       t->n + b->n <= XL_INSNS ? b : NULL;
}

static void extend(struct xl_tr *t)
{
	const struct soft_block *b = behind(t);

	while (b && decode_more(t, b)) {
		b = behind(t);
	}
}

/* What stands behind STI runs before anything else does: it belongs to the same block. */
static void shadow(struct xl_tr *t)
{
	const struct xl_insn *last = &t->insns[t->n - 1];
	unsigned off = last->off + last->i.len;
	struct xl_insn *x = &t->insns[t->n];
	size_t room = GMEM_PAGE_BYTES - MIN(off, (unsigned)GMEM_PAGE_BYTES);
	uint8_t bytes[INSN_BYTES_MAX];

	if (last->i.map != INSN_MAP_1 || last->i.opcode != 0xfb || t->n == XL_INSNS || room == 0 ||
	    t->c->eng->counted) {
		return;
	}
	room = MIN(room, sizeof(bytes));
	soft_copy_whole(bytes, host_at(t, off), room);
	if (insn_parse(bytes, room, (enum insn_mode)t->b->mode, &x->i) <= 0) {
		return;
	}
	memcpy(x->bytes, bytes, x->i.len);
	x->run = x->i;
	xl_bind(t->c->eng, (enum insn_mode)t->b->mode, &x->run);
	x->off = (uint16_t)off;
	x->out = 0;
	xl_piece_new(t, (t->b->gpa & ~(uint64_t)(GMEM_PAGE_BYTES - 1)) | off, x->i.len);
	t->n++;
}

/* Counted mode: on only if all from an instruction to another one may still run. No flag changes.
 * What is behind these was asked for before. */
static void countdown(struct xl_tr *t, unsigned first, unsigned last)
{
	struct xl_code *e = &t->e;
	int32_t n = (int32_t)(last - first + 1);
	uint8_t *on = NULL;

	xe_load(e, XR_CX, XG(xl_left));
	xe_lea(e, XR_CX, xl_mem(XR_CX, -n));
	xe_store(e, XR_CX, XG(xl_left));
	xe_pext(e, XE_W, XR_CX, XR_CX, XG(xl_sign));
	on = xe_jrcxz(e);
	xe_load(e, XR_CX, XG(xl_left));
	xe_lea(e, XR_CX, xl_mem(XR_CX, (int32_t)(t->n - first)));
	xe_store(e, XR_CX, XG(xl_left));
	xl_give_back(t, t->set);
	xl_rip_to(t, XR_11, t->insns[first].off);
	xe_mov_imm32(e, XR_CX, 0);
	xl_jump_routine(t, xl_routines(t->x)->leave);
	xe_here_8(e, on);
}

/* Where the block may be entered with RIP in R11. */
static void entry(struct xl_tr *t)
{
	t->n_near = XL_NEAR;
	if (xl_is_direct(t->to->kind)) {
		xl_near_room(t);
	}
	t->to->indirect = xl_off(t->x, t->e.at);
	if (t->to->page == XL_ANYWHERE) {
		xe_lea(&t->e, XR_11, xl_mem(XR_11, -(int32_t)t->first_off));
		xe_store(&t->e, XR_11, XG(xl_page));
	}
	t->to->code = xl_off(t->x, t->e.at);
	if (t->c->eng->counted) {
		countdown(t, 0, t->n - 1);
	}
}

/*
 * A loop has to look whether somebody wants something. A comparison for it costs least where the
 * guest's flags are about to be replaced and can be made again.
 */
static int best_poll(const struct xl_tr *t, unsigned first, unsigned last)
{
	const struct xl_insn *x = &t->insns[last];
	int64_t to = xl_jumps_to(t, last);

	/* A counted block is left at its end only. */
	if (t->c->eng->counted || !xl_jumps_if(&x->i) ||
	    x->i.op_bytes != (t->compat ? 4 : 8) || to < 0 || to > x->off) {
		return -1;
	}
	for (unsigned k = last; k-- > first + 1; ) {
		if (xf_kills(&t->insns[k].i)) {
			return (int)k;
		}
		if (xl_jumps_if(&t->insns[k].i)) {
			break;
		}
	}
	return -1;
}

static void poll(struct xl_tr *t)
{
	if ((int)t->k != t->poll_at || (t->f.at == XF_HOST && t->f.recipe.kind == XRC_NONE)) {
		return;
	}
	xf_clobber(t);
	xe_alu_imm(&t->e, 0, 7, XG(wants), 0);
	xl_side(t, xe_jcc(&t->e, 5), t->insns[t->k].off, true);
	t->polled = true;
	t->owes = false;
}

/* May it lead out of the block? Calls and returns show where the stack is by their access. */
static bool leads_out(const struct xl_tr *t)
{
	const struct insn *i = &t->insns[t->k].i;
	bool shows = i->map == INSN_MAP_1 && (i->opcode == 0xe8 || (i->opcode & 0xfe) == 0xc2 ||
					      (i->opcode == 0xff && (i->modrm >> 3 & 7) == 2));

	return xl_jumps_if(i) || (t->k == t->n - 1 && soft_block_ends(i) && !shows);
}

static void instruction(struct xl_tr *t)
{
	struct xl_insn *x = &t->insns[t->k];
	unsigned first = t->n_slow;

	t->kept = t->direct = t->moved = t->zeroes = t->summed = t->r11_kept = false;
	t->access_way = -1;
	t->looked = 0;
	t->wrote = UINT_MAX;
	t->made_small = 0;
	if (soft_block_ends(&x->i)) {
		xl_x87_record(t, t->x87_last);
		t->x87_last = -1;
	}
	xl_stack_prepare(t);
	if (t->k > 0 && leads_out(t)) {
		xl_stack_settle(t, t->k - 1, x->off);
	}
	poll(t);
	xl_instruction(t);
	xl_known_after(t);
	x->wrote = t->wrote;
	for (unsigned s = first; s < t->n_slow; s++) {
		t->slow[s].back = t->slow[s].load ? t->slow[s].back : t->e.at;
		t->slow[s].after = t->f.at;
		t->slow[s].stack_after = t->stack_off;
		t->slow[s].leaves = t->kept || s < t->looked || t->join_needed[t->k];
		t->slow[s].vec = t->vec;
		t->slow[s].r11 = t->r11;
	}
}

static void straight(struct xl_tr *t, unsigned first, unsigned last);

/*
 * A loop is written twice: its first round knows nothing, and the others what is known where one
 * ends. Where a later one ends that has to hold again.
 */
static void rounds(struct xl_tr *t, unsigned first, unsigned last)
{
	int poll_at = t->poll_at;
	bool polled = t->polled;
	struct xl_rounds r = { 0 };

	xl_rounds_begin(t, &r, first, last);
	t->poll_at = best_poll(t, first, last);
	t->polled = false;
	if (t->c->eng->counted) {
		countdown(t, first, last);
	}
	straight(t, first, last);
	xl_rounds_end(t);
	t->poll_at = poll_at;
	t->polled = polled;
}

/* From an instruction to another one. */
static void straight(struct xl_tr *t, unsigned first, unsigned last)
{
	for (unsigned k = first; k <= last && !t->full; k++) {
		t->k = k;
		instruction(t);
		if (xl_loop_ends(t) && !t->full) {
			rounds(t, (unsigned)xl_loop_of(t, k), k);
		}
	}
}

static void line(struct xl_tr *t)
{
	unsigned last = t->n - 1;

	xl_known_begin(t);
	xl_join_plan(t);
	t->polled = t->owes = false;
	t->poll_at = xl_loop_of(t, last) < 0 ? best_poll(t, 0, last) : -1;
	straight(t, 0, last);
	t->k = last;
	xl_stack_flush(t);
	if (!ends(t)) {
		xl_x87_record(t, t->x87_last);
		xl_stack_settle(t, t->k, xl_next_off(t));
		xf_need_host(t);
		xl_go(t, xl_next_off(t));
	} else if (xl_loop_of(t, last) >= 0 && xl_jumps_if(&t->insns[last].i)) {
		xl_go(t, xl_next_off(t));
	}
}

/* Where the page of the stack is another one: look for it, and try again. */
static void stack_way(struct xl_tr *t, unsigned n)
{
	struct xl_code *e = &t->e;

	xe_here(e, t->stacks[n].jump);
	xl_call_routine(t, xl_routines(t->x)->stack[t->stacks[n].write]);
	xe_op(e, 0, 0, 0x85, XR_CX, xl_reg(XR_CX));
	xe_patch(e, xe_jcc(e, 4), t->stacks[n].again);
	t->slow[t->stacks[n].slow_at].jump = xe_jmp(e);
}

/* A miss of the TLB: fill it, and try again. Flags are not the host's here. */
static void fill_way(struct xl_tr *t, const struct xl_slow *s)
{
	struct xl_code *e = &t->e;

	xl_call_routine(t, xl_routines(t->x)->fill[s->write]);
	xe_op(e, 0, 0, 0x85, XR_CX, xl_reg(XR_CX));
	xe_patch(e, xe_jcc(e, 4), s->again);
}

static void stack_by(struct xl_tr *t, int32_t by)
{
	if (by) {
		xe_lea(&t->e, XR_9, xl_mem(XR_9, by));
	}
}

static void slow_way(struct xl_tr *t, struct xl_slow *s)
{
	const struct xl_routines *r = xl_routines(t->x);
	struct xl_code *e = &t->e;
	uint32_t index = 0;
	bool last = s->leaves || s->load || (!s->redo && s->k == t->n - 1 && ends(t));
	struct xl_packed *o = NULL;

	t->k = s->k;
	o = xl_out_new(t, &index);
	if (!o) {
		return;
	}
	o->last |= last;           /* of all the ways of the instruction */
	s->way = xl_off(t->x, e->at);
	if (s->jump) {
		xe_here(e, s->jump);
	}
	if (s->again) {
		fill_way(t, s);
	}
	if (s->load) {
		xv_load_or(t, s);
	}
	if (s->before.at == XF_RECIPE) {
		xf_make(t, &s->before);
	}
	xl_x87_record(t, s->x87_last);
	stack_by(t, s->stack_before);
	xl_give_back(t, s->set);
	xe_mov_imm32(e, XR_11, index | (uint32_t)s->why << XL_WHY_SHIFT);
	xl_call_routine(t, s->before.at == XF_SAVED ? r->out_saved : r->out_host);
	if (!last) {
		stack_by(t, -s->stack_after);
		xl_borrow(t, s->set);
		if (s->vec) {
			xv_reload(t, s->vec);
		}
		xl_r11_to(t, &s->r11);
		if (s->after == XF_HOST && !s->redo) {
			xf_restore(t);
		}
		xe_patch(e, xe_jmp(e), s->redo ? s->redo : s->back);
	}
}

/* Until the other block is known: out, and say which jump it was. */
static void unknown(struct xl_tr *t, unsigned l)
{
	struct xl_code *e = &t->e;
	uint32_t index = 0;
	struct xl_link *link = xl_link_new(t, &index);

	if (!link) {
		return;
	}
	link->place = xl_off(t->x, t->links[l].jump);
	link->stub = xl_off(t->x, e->at);
	link->gpa = (t->b->gpa & ~(uint64_t)(GMEM_PAGE_BYTES - 1)) | t->links[l].off;
	link->indirect = t->links[l].indirect;
	xe_here(e, t->links[l].jump);
	if (!link->indirect) {
		xl_rip_to(t, XR_11, t->links[l].off);
	}
	xe_mov_imm32(e, XR_CX, index);
	xl_jump_routine(t, xl_routines(t->x)->leave);
}

/* What is rarely reached: elsewhere, so that what runs lies close together. */
static void ways(struct xl_tr *t)
{
	t->line_end = t->e.at;
	t->e = t->ways;
	for (unsigned n = 0; n < t->n_stacks && !t->full; n++) {
		stack_way(t, n);
	}
	for (unsigned s = 0; s < t->n_slow && !t->full; s++) {
		slow_way(t, &t->slow[s]);
	}
	xl_sites_new(t);
	for (unsigned l = 0; l < t->n_links && !t->full; l++) {
		unknown(t, l);
	}
}

static bool translate(struct xl_tr *t)
{
	t->first_off = (unsigned)(t->b->gpa & (GMEM_PAGE_BYTES - 1));
	if (!decode_first(t)) {
		return false;
	}
	if (!t->b->cross) {
		extend(t);
		shadow(t);
	}
	t->to->n = (uint8_t)t->n;
	for (unsigned k = 0; k < t->n; k++) {
		t->insns[k].rigid = false;
		t->insns[k].place = XP_UNKNOWN;
	}
	t->rounds = NULL;
	t->set = 0;
	t->n_sets = 1;
	t->sets[0].n = 0;
	entry(t);
	line(t);
	xl_sides(t);
	if (t->full || t->e.at > t->e.end) {
		return false;
	}
	ways(t);
	return !t->full && t->e.at <= t->e.end;
}

bool xl_translate(struct xl_tr *t)
{
	uint64_t since_ns = clock_now_ns();
	bool done = false;

	t->line_begin = t->e.at;
	t->ways_begin = t->ways.at;
	done = translate(t);
	xl_stats_translated(t, since_ns, done);
	return done;
}
