/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Accesses to memory in blocks of the direct kind: no look at the TLB, for the guest's pages are
 * mapped at a fixed distance from their addresses (xl-shadow.h).
 *
 * What has to be known of an address is only in which of the two ranges it begins. That is looked
 * at once in a block for each register that addresses go out from, and each sum with an index, and
 * holds as long as its registers are only moved a little. Which range it will be is guessed when
 * the block is translated, from what the registers hold; the cache remembers where that was
 * wrong. Where it is now one and now the other, both are looked for, and what reaches neither, or
 * code, looks at the TLB as in other blocks.
 *
 * What is known of a register behind an instruction holds only if the instruction has looked: a way
 * to the interpreter that begins before it has does not come back. Behind an access more is known:
 * around the ranges nothing is ever mapped, so that it has begun inside, or went to the
 * interpreter, which comes back only if it did (xl-run.c). So a register that is moved again and
 * again, and used in between, need not be looked at again.
 *
 * The distance of the high range stays in R11, perhaps with a register added to it, as long as the
 * instructions that follow let it be.
 *
 * An access that faults is found by its address in the code, and goes on in the way to the
 * interpreter that the same instruction has for a range that was not the right one.
 */
#include "vm/cpu/soft/xl-parts.h"
#include "vm/cpu/soft/xl-shadow.h"

enum {
	COND_NC = 3, COND_NZ = 5,
	SMALL_MAX = 8 << 16,       /* what an index that is small can add */
};

/* A displacement, what the register was moved by, and the operand itself. */
_Static_assert(XL_MOVED_MAX + (UINT64_C(1) << 31) + GMEM_PAGE_BYTES + XL_STACK_DRIFT +
	       SMALL_MAX <= SHADOW_GUARD, "it stays inside");

/* --- Where an address will be --- */

/* What a register is the sum of; NULL: that is not known. */
static const struct xl_lea *lea_of(const struct xl_tr *t, unsigned guest)
{
	return guest < CPU_REG__COUNT && t->leas[guest].base != INSN_NONE ? &t->leas[guest] : NULL;
}

/* The sum that an address goes out from. A register that is a sum itself counts as that: in loops it
 * is made anew in each round, and what it is made of only moves. */
static struct xl_sum key_of(const struct xl_tr *t, const struct insn *i)
{
	const struct xl_lea *base = i->scale == 0 ? lea_of(t, i->base) : NULL;
	const struct xl_lea *index = i->scale == 0 ? lea_of(t, i->index) : NULL;
	const struct xl_lea *l = base ? base : index;

	if (!l) {
		return (struct xl_sum){ .base = i->base, .index = i->index, .scale = i->scale,
					.more = INSN_NONE };
	}
	return (struct xl_sum){ .base = l->base, .index = l->index, .scale = l->scale,
				.more = base ? i->index : i->base };
}

/* What is known of the sum that an address goes out from; perhaps that is nothing. */
static struct xl_sum *sum_of(struct xl_tr *t, const struct insn *i)
{
	const struct xl_sum key = key_of(t, i);

	for (unsigned n = 0; n < XL_SUMS; n++) {
		struct xl_sum *s = &t->sums[n];

		if (s->base == key.base && s->index == key.index && s->scale == key.scale &&
		    s->more == key.more) {
			return s;
		}
	}
	t->sums[t->next_sum % XL_SUMS] = key;
	return &t->sums[t->next_sum++ % XL_SUMS];
}

/* A register that is a sum is where that is. */
static void recall(struct xl_tr *t, const struct insn *i)
{
	if (lea_of(t, i->base) && !t->known[i->base].place) {
		t->known[i->base] = sum_of(t, &(struct insn){ .base = i->base, .index = INSN_NONE })->known;
	}
}

static void recall_later(struct xl_tr *t, const struct insn *i)
{
	if (lea_of(t, i->base)) {
		sum_of(t, &(struct insn){ .base = i->base, .index = INSN_NONE })->known = t->known[i->base];
	}
}

static uint8_t place_of(uint64_t va)
{
	return va >> SHADOW_HIGH_BIT == 1 ? XP_HIGH :
	       va >> SHADOW_LOW_BITS == 0 ? XP_LOW : XP_UNKNOWN;
}

static bool value_of(const struct xl_tr *t, unsigned guest, uint64_t *ret)
{
	*ret = t->c->s.gpr[guest];
	return !(t->written & BIT(guest));
}

/* From what the registers hold where the block begins; else it is where the code is. */
static uint8_t guess(const struct xl_tr *t, const struct insn *i)
{
	uint64_t va = (uint64_t)(int64_t)i->disp, v = 0;
	uint8_t code = place_of(t->c->s.rip) == XP_LOW ? XP_LOW : XP_HIGH, place = XP_UNKNOWN;
	bool known = i->base != INSN_BASE_RIP;

	if (i->base == CPU_RSP) {
		return XP_HIGH;
	}
	if (known && i->base != INSN_NONE) {
		known = value_of(t, i->base, &v);
		va += v;
	}
	if (known && i->index != INSN_NONE) {
		known = value_of(t, i->index, &v);
		va += v << i->scale;
	}
	if (i->seg >= CPU_FS) {
		va += t->c->s.seg[i->seg].base;
	}
	if (!known && i->base < CPU_REG__COUNT && value_of(t, i->base, &v)) {
		/* It is near that. */
		return place_of(v) && v >= SHADOW_LOW_FIRST ? place_of(v) : code;
	}
	place = known ? place_of(va) : XP_UNKNOWN;
	return place ? place : code;
}

static uint8_t place_for(const struct xl_tr *t, uint8_t guessed)
{
	uint8_t hint = xl_hint(t->x, xl_gpa_of(t));

	return hint && hint != XP_ALONE ? hint : guessed;
}

/* --- Looking where an address is --- */

static void look(struct xl_tr *t, unsigned host, uint8_t place)
{
	struct xl_code *e = &t->e;
	bool near = xl_near(t) && (place == XP_HIGH || xl_by_loop(t));
	bool saves = t->f.at != XF_HOST || t->f.recipe.kind != XRC_NONE ||
		     (!near && xf_worth_saving(t));

	if (!saves) {
		xe_pext(e, XE_W, XR_CX, host,
			place == XP_HIGH ? XG(xl_high_bit) : XG(xl_not_low));
		if (near) {
			if (place != XP_HIGH) {
				xe_lea(e, XR_CX, xl_mem(XR_CX, 1));
			}
			xl_slow_near(t, place != XP_HIGH);
			return;
		}
		if (place == XP_HIGH) {
			xe_lea(e, XR_CX, xl_mem(XR_CX, -1));
		}
		xl_slow_unless_zero(t, XL_WHY_MEMORY);
		return;
	}
	xf_clobber(t);
	if (place == XP_HIGH) {
		xe_op(e, XE_W, 1, 0xba, 4, xl_reg(host));             /* bt */
		xe_8(e, SHADOW_HIGH_BIT);
		xl_slow(t, COND_NC);
	} else {
		xe_rorx(e, XE_W, XR_CX, xl_reg(host), SHADOW_LOW_BITS);
		xe_op(e, 0, 0, 0x85, XR_CX, xl_reg(XR_CX));           /* test */
		xl_slow(t, COND_NZ);
	}
}

uint8_t *xl_look_high(struct xl_tr *t, unsigned host)
{
	struct xl_code *e = &t->e;
	uint8_t *on = NULL, *jump = NULL;

	if (t->f.at != XF_HOST || t->f.recipe.kind != XRC_NONE) {
		xf_clobber(t);
		xe_op(e, XE_W, 1, 0xba, 4, xl_reg(host));             /* bt */
		xe_8(e, SHADOW_HIGH_BIT);
		return xe_jcc(e, COND_NC);
	}
	xe_pext(e, XE_W, XR_CX, host, XG(xl_high_bit));
	xe_lea(e, XR_CX, xl_mem(XR_CX, -1));
	on = xe_jrcxz(e);
	jump = xe_jmp(e);
	xe_here_8(e, on);
	return jump;
}

static void seen(struct xl_tr *t, unsigned guest)
{
	if (guest == CPU_RSP) {
		xl_stack_seen(t);
	}
}

static void look_once(struct xl_tr *t, unsigned guest, unsigned host, uint8_t place)
{
	if (t->known[guest].place != place) {
		look(t, host, place);
		t->known[guest] = (struct xl_known){ .place = place };
		t->looked = t->n_slow;
		seen(t, guest);
	}
}

/* Behind an access so far from a register that is known. */
static void reached(struct xl_tr *t, unsigned guest, int32_t disp)
{
	if (xl_little(disp)) {
		t->known[guest].by = -disp;
		seen(t, guest);
	}
}

/* --- R11 --- */

static void lost(struct xl_tr *t)
{
	t->r11.holds = XH_UNKNOWN;
}

static bool holds(const struct xl_tr *t, unsigned what)
{
	return t->r11_kept && t->r11.holds == what;
}

static void distance(struct xl_tr *t)
{
	if (!holds(t, XH_DISTANCE)) {
		xe_load(&t->e, XR_11, XG(xl_distance));
		t->r11.holds = XH_DISTANCE;
	}
}

/* The distance and a register. */
static void distance_from(struct xl_tr *t, unsigned guest, unsigned host)
{
	if (holds(t, XH_SUM) && t->r11.guest == guest) {
		return;
	}
	distance(t);
	xe_lea(&t->e, XR_11, xl_mem_index(XR_11, host, 0, 0));
	t->r11 = (struct xl_r11){ .holds = XH_SUM, .guest = (uint8_t)guest, .host = (uint8_t)host };
}

void xl_r11_to(struct xl_tr *t, const struct xl_r11 *r11)
{
	if (r11->holds != XH_UNKNOWN) {
		xe_load(&t->e, XR_11, XG(xl_distance));
	}
	if (r11->holds == XH_SUM) {
		xe_lea(&t->e, XR_11, xl_mem_index(XR_11, r11->host, 0, 0));
	}
}

/* What R11 has to hold for an instruction's access, if that is in the high range. */
static struct xl_r11 asks_for(const struct xl_tr *t, const struct insn *i)
{
	unsigned host = i->index != INSN_NONE && i->base < CPU_REG__COUNT ?
			xl_now(t, i->base) : XR_NONE;

	if (i->index == INSN_NONE) {
		return (struct xl_r11){ .holds = XH_DISTANCE };
	}
	return (struct xl_r11){ .holds = host == XR_NONE ? XH_UNKNOWN : XH_SUM, .guest = i->base,
				.host = (uint8_t)host };
}

void xl_known_rounds(struct xl_tr *t, unsigned first, unsigned last)
{
	struct xl_r11 all = { 0 }, one = { 0 };
	unsigned wrote = 0;
	bool same = true;

	for (unsigned k = first; k <= last; k++) {
		wrote |= t->insns[k].wrote;
		if (t->insns[k].place != XP_HIGH) {
			continue;
		}
		one = asks_for(t, &t->insns[k].i);
		same &= all.holds == XH_UNKNOWN ||
			(one.holds == all.holds && one.guest == all.guest);
		all = one;
	}
	t->constant &= ~wrote;
	same &= all.holds != XH_UNKNOWN && !(all.holds == XH_SUM && wrote & BIT(all.guest));
	if (same && (t->r11.holds != all.holds || t->r11.guest != all.guest)) {
		xl_r11_to(t, &all);
		t->r11 = all;
	}
}

static void add_distance(struct xl_tr *t)
{
	if (t->f.at != XF_HOST) {
		xe_alu(&t->e, XE_W, 0, XR_11, XG(xl_distance));
		return;
	}
	xe_load(&t->e, XR_CX, XG(xl_distance));
	xe_lea(&t->e, XR_11, xl_mem_index(XR_11, XR_CX, 0, 0));
}

/* An address in R11 that may be in both: it becomes the host's. */
static void look_both(struct xl_tr *t)
{
	struct xl_code *e = &t->e;
	uint8_t *low = NULL, *is_low = NULL, *high = NULL;

	xe_pext(e, XE_W, XR_CX, XR_11, XG(xl_high_bit));
	low = xe_jrcxz(e);
	xe_load(e, XR_CX, XG(xl_distance));
	xe_lea(e, XR_11, xl_mem_index(XR_11, XR_CX, 0, 0));
	high = xe_jmp(e);
	xe_here_8(e, low);
	xe_pext(e, XE_W, XR_CX, XR_11, XG(xl_not_low));
	is_low = xe_jrcxz(e);
	xl_slow_from(t, xe_jmp(e), XL_WHY_MEMORY);
	xe_here_8(e, is_low);
	xe_here(e, high);
}

/* --- Operands --- */

static struct xl_rm from_register(struct xl_tr *t, unsigned guest, int32_t disp, uint8_t place)
{
	unsigned host = xl_now(t, guest);
	int32_t at = disp + (guest == CPU_RSP ? t->stack_off : 0);

	if (host == XR_NONE || place == XP_EITHER) {
		lost(t);
	}
	if (host == XR_NONE) {
		xe_load(&t->e, XR_11, xl_gpr_slot(guest));
	}
	if (place == XP_EITHER) {
		xe_lea(&t->e, XR_11, xl_mem(host == XR_NONE ? XR_11 : host, at));
		look_both(t);
		return xl_mem(XR_11, 0);
	}
	if (host == XR_NONE) {
		look_once(t, guest, XR_11, place);
		reached(t, guest, disp);
		if (place == XP_HIGH) {
			add_distance(t);
		}
		return xl_mem(XR_11, disp);
	}
	look_once(t, guest, host, place);
	reached(t, guest, disp);
	if (place == XP_LOW) {
		return xl_mem(host, at);
	}
	distance(t);
	return xl_mem_index(host, XR_11, 0, at);
}

/* One that is a sum, of which it is known where it is. */
static struct xl_rm from_sum(struct xl_tr *t, const struct insn *i, uint8_t place)
{
	unsigned base = i->base == INSN_NONE ? XR_NONE : xl_now(t, i->base);
	unsigned index = xl_now(t, i->index);

	if (index == XR_NONE || (base == XR_NONE && i->base != INSN_NONE)) {
		lost(t);
		xl_effective(t, XR_11);
		if (place == XP_HIGH) {
			add_distance(t);
		}
		return xl_mem(XR_11, 0);
	}
	if (place == XP_HIGH && base == XR_NONE) {
		distance(t);
	} else if (place == XP_HIGH) {
		distance_from(t, i->base, base);
	}
	base = place == XP_HIGH ? XR_11 : base;
	return xl_mem_index(base, index, i->scale, i->disp);
}

static bool is_small(const struct xl_tr *t, unsigned guest)
{
	return guest < CPU_REG__COUNT && t->small & BIT(guest);
}

/* A sum is where one register is, if the other one is small; that is the index then. */
static bool small_index(const struct xl_tr *t, struct insn *i)
{
	uint8_t base = i->base;

	if (!is_small(t, i->index) && is_small(t, base) && i->scale == 0) {
		i->base = i->index;
		i->index = base;
	}
	return i->base < CPU_REG__COUNT && is_small(t, i->index) && !is_small(t, i->base) &&
	       xl_now(t, i->base) != XR_NONE;
}

static struct xl_rm with_index(struct xl_tr *t, const struct insn *i, uint8_t place)
{
	struct insn turned = *i;
	struct xl_sum *s = NULL;
	struct xl_rm ret = { 0 };
	int64_t disp = i->disp;

	if (i->base < CPU_REG__COUNT && t->constant & BIT(i->index)) {
		disp += (int64_t)t->values[i->index] * (1 << i->scale);
	}
	if (i->base < CPU_REG__COUNT && t->constant & BIT(i->index) && xl_little(disp)) {
		place = t->known[i->base].place ? t->known[i->base].place : place;
		s = sum_of(t, i);
		s->known.place = xl_little(i->disp) ? place : (uint8_t)XP_UNKNOWN;
		s->known.by = -i->disp;
		return from_register(t, i->base, (int32_t)disp, place);
	}
	if (small_index(t, &turned)) {
		uint8_t known = t->known[turned.base].place;

		look_once(t, turned.base, xl_now(t, turned.base), known ? known : place);
		return from_sum(t, &turned, known ? known : place);
	}
	s = sum_of(t, i);
	if (s->known.place) {
		ret = from_sum(t, i, s->known.place);
		if (xl_little(i->disp)) {
			s->known.by = -i->disp;
		}
		return ret;
	}
	lost(t);
	xl_effective(t, XR_11);
	look(t, XR_11, place);
	if (xl_little(i->disp)) {
		s->known = (struct xl_known){ .place = place, .by = -i->disp };
		t->looked = t->n_slow;
	}
	if (place == XP_HIGH) {
		add_distance(t);
	}
	return xl_mem(XR_11, 0);
}

/* Any address, in R11. */
static struct xl_rm from_r11(struct xl_tr *t, const struct insn *i, uint8_t place)
{
	lost(t);
	xl_effective(t, XR_11);
	if (i->seg >= CPU_FS) {
		xe_load(&t->e, XR_CX, xl_gs(offsetof(struct soft_cpu, s.seg) +
					    i->seg * sizeof(struct cpu_seg) +
					    offsetof(struct cpu_seg, base)));
		xe_lea(&t->e, XR_11, xl_mem_index(XR_11, XR_CX, 0, 0));
	}
	if (place == XP_EITHER) {
		look_both(t);
		return xl_mem(XR_11, 0);
	}
	look(t, XR_11, place);
	if (place == XP_HIGH) {
		add_distance(t);
	}
	return xl_mem(XR_11, 0);
}

/* The one register that an address goes out from, and how far from there. false: it has more. */
static bool only_base(const struct insn *i, unsigned *ret, int32_t *ret_disp)
{
	if (i->index != INSN_NONE || i->seg >= CPU_FS || i->base >= CPU_REG__COUNT ||
	    i->ad_bytes != 8) {
		return false;
	}
	*ret = i->base;
	*ret_disp = i->disp;
	return true;
}

/* An address that is known, as the code's own is: so is where it is, and nothing is looked at. */
static bool constant(const struct xl_tr *t, const struct insn *i, uint64_t *ret)
{
	*ret = t->to->page + xl_next_off(t) + (uint64_t)(int64_t)i->disp;
	return i->base == INSN_BASE_RIP && i->seg < CPU_FS && i->ad_bytes == 8;
}

static struct xl_rm at_constant(struct xl_tr *t, uint64_t va)
{
	uint64_t host = place_of(va) == XP_HIGH ? va + SHADOW_DISTANCE : va;

	if (host <= INT32_MAX) {
		return xl_mem(XR_NONE, (int32_t)host);
	}
	lost(t);
	xe_mov_imm(&t->e, XR_11, host);
	return xl_mem(XR_11, 0);
}

/* To the interpreter all the same, which has not looked and does not come back. */
static void shaken(struct xl_tr *t)
{
	unsigned before = t->n_slow;

	xl_shaken(t);
	if (t->n_slow != before) {
		t->looked = t->n_slow;
	}
}

struct xl_rm xl_operand(struct xl_tr *t, unsigned bytes, bool write, bool aligned)
{
	const struct insn *i = &t->insns[t->k].i;
	uint8_t place = XP_TLB;
	unsigned base = 0;
	int32_t disp = 0;
	uint64_t va = 0;
	bool known = false;
	struct xl_rm ret = { 0 };

	if (xl_join_operand(t, &ret)) {
		return ret;
	}
	if (xl_is_direct(t->to->kind)) {
		known = constant(t, i, &va) && place_of(va) != XP_UNKNOWN;
		place = place_for(t, known ? place_of(va) : guess(t, i));
	}
	if (known && place != XP_TLB) {
		place = place_of(va);
	}
	t->insns[t->k].place = place;
	t->direct = place != XP_TLB;
	if (!t->direct) {
		lost(t);
		(aligned ? xl_aligned_to_r11 : xl_operand_to_r11)(t, bytes, write);
		return xl_mem(XR_11, 0);
	}
	shaken(t);
	if (known) {
		return at_constant(t, va);
	}
	recall(t, i);
	if (i->index != INSN_NONE && i->seg < CPU_FS && i->ad_bytes == 8 && place != XP_EITHER) {
		return with_index(t, i, place);
	}
	if (!only_base(i, &base, &disp)) {
		return from_r11(t, i, place);
	}
	if (t->known[base].place) {
		place = t->known[base].place;
	}
	ret = from_register(t, base, disp, place);
	recall_later(t, i);
	return ret;
}

struct xl_rm xl_stack_operand(struct xl_tr *t, unsigned guest, int32_t disp, bool write)
{
	uint8_t place = XP_TLB;
	struct xl_rm joined = { 0 };

	if (xl_join_operand(t, &joined)) {
		return joined;
	}
	if (xl_is_direct(t->to->kind)) {
		place = place_for(t, XP_HIGH);
	}
	if (place != XP_TLB && t->known[guest].place) {
		place = t->known[guest].place;
	}
	if (place != XP_HIGH && t->k > 0) {
		xl_stack_settle(t, t->k - 1, t->insns[t->k].off);
	}
	t->insns[t->k].place = place;
	t->direct = place != XP_TLB;
	if (!t->direct) {
		lost(t);
		xl_stack_to_r11(t, xl_now(t, guest), disp, 8, write);
		return xl_mem(XR_11, 0);
	}
	shaken(t);
	return from_register(t, guest, disp, place);
}

void xl_access_first(struct xl_tr *t)
{
	if (t->direct) {
		t->access_way = (int)xl_slow_fault(t);
	}
}

void xl_access(struct xl_tr *t)
{
	unsigned way = 0;

	if (!t->direct) {
		return;
	}
	way = t->access_way < 0 ? xl_slow_fault(t) : (unsigned)t->access_way;
	t->access_way = -1;
	if (t->n_accesses == XL_ACCESSES) {
		t->full = true;
		return;
	}
	t->accesses[t->n_accesses].at = t->e.at;
	t->accesses[t->n_accesses++].slow = (uint16_t)way;
}
