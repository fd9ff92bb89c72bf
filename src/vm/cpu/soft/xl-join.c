/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Accesses off the same register in one block look at the TLB together. The first of them looks
 * whether all bytes that they reach, from the lowest to the highest, lie in one page that may be
 * reached so, and keeps the host's address of the lowest one in a word of the vCPU; the others go
 * out from there and neither look nor change flags. Which they are is found before the block is
 * written, by what its instructions do with the register: it may be moved by what is known.
 *
 * The word holds an address of the page that was looked at and nothing else, and a distance from it
 * never leaves that, whatever the guest's registers hold by then.
 *
 * No group goes into a loop from before it: in its later rounds the register has moved by more. One
 * may go out of a loop, with what its last round looked at.
 *
 * It holds for as long as nothing but translated code runs: while it does, nobody takes a page from
 * this vCPU. So a call of the interpreter does not come back where the word is still needed, and
 * what calls it in any case ends the group. Where the look fails again and again (the bytes are on
 * two pages, or may not all be written) the block is made again, without that group.
 */
#include <limits.h>

#include "vm/cpu/soft/handlers.h"
#include "vm/cpu/soft/xl-parts.h"

enum {
	AHEAD = 48,               /* instructions that a group may extend over */
	SPAN_MAX = 256,           /* bytes that it may reach */
	STACK_SPAN_MAX = 128,     /* the same on the stack, where frames lie anywhere */
	MOVED_MAX = 1 << 20,
};

/* --- What instructions do --- */

static void on_stack(struct xl_about *a, unsigned base, int32_t disp, bool write)
{
	a->access = true;
	a->base = (uint8_t)base;
	a->index = INSN_NONE;
	a->disp = disp;
	a->bytes = 8;
	a->write = write;
}

static void moves(struct xl_about *a, unsigned guest, int32_t by)
{
	a->wrote |= (unsigned)BIT(guest);
	a->moved = true;
	a->to = (uint8_t)guest;
	a->by = by;
}

static bool about_stack(const struct insn *i, struct xl_about *a)
{
	unsigned op = i->modrm >> 3 & 7;
	bool pushes_reg = (i->opcode >= 0x50 && i->opcode <= 0x57) ||
			  (i->opcode == 0xff && op == 6 && i->rm != INSN_NONE);

	if (i->map != INSN_MAP_1 || i->op_bytes != 8 || i->prefix & INSN_VEX) {
		return false;
	}
	if (pushes_reg || i->opcode == 0x68 || i->opcode == 0x6a) {
		on_stack(a, CPU_RSP, -8, true);
		moves(a, CPU_RSP, -8);
	} else if (i->opcode >= 0x58 && i->opcode <= 0x5f) {
		on_stack(a, CPU_RSP, 0, false);
		moves(a, CPU_RSP, 8);
		a->wrote |= (unsigned)BIT(i->rm);
		a->moved = i->rm != CPU_RSP;
	} else if (i->opcode == 0xc9) {
		on_stack(a, CPU_RBP, 0, false);
		a->wrote = (unsigned)(BIT(CPU_RSP) | BIT(CPU_RBP));
	} else if (i->opcode == 0xe8 || (i->opcode == 0xff && op == 2 && i->rm != INSN_NONE)) {
		on_stack(a, CPU_RSP, -8, true);
		a->wrote = UINT_MAX;
	} else if (i->opcode == 0xc3 || i->opcode == 0xc2) {
		on_stack(a, CPU_RSP, 0, false);
		a->wrote = UINT_MAX;
	} else {
		return false;
	}
	return true;
}

/* Of instruction t->k. */
static void about(struct xl_tr *t, struct xl_about *a)
{
	const struct insn *i = &t->insns[t->k].i;
	bool lea = i->map == INSN_MAP_1 && i->opcode == 0x8d;

	*a = (struct xl_about){ .known = true };
	if (t->insns[t->k].run.fn == insn_ud || (lea && i->op_bytes == 2)) {
		a->known = false;
	} else if (xl_nothing(i) || (xl_jumps(i) && i->op_bytes == 8)) {
		return;
	} else if (lea && i->base == i->reg && i->index == INSN_NONE && i->op_bytes == 8 &&
		   i->ad_bytes == 8) {
		moves(a, i->reg, i->disp);
	} else if (lea) {
		a->wrote = (unsigned)BIT(i->reg);
	} else if (!about_stack(i, a)) {
		a->known = xl_form_about(t, a);
		a->access &= i->seg < CPU_FS && i->ad_bytes == 8 &&
			     (i->base != INSN_NONE || i->index != INSN_NONE);
		a->disp = i->base == INSN_BASE_RIP ? (int64_t)xl_next_off(t) + i->disp : i->disp;
		a->base = i->base;
		a->index = i->index;
		a->scale = i->scale;
	}
}

/* --- Groups --- */

/* Is the address that an access goes out from still known behind an instruction, and how far has it
 * moved? */
static bool still(const struct xl_about *of, const struct xl_about *a, int64_t *moved)
{
	unsigned changed = a->wrote & (xl_bit(of->base) | xl_bit(of->index));

	if (!changed) {
		return true;
	}
	if (!a->moved || changed != BIT(a->to)) {
		return false;
	}
	*moved += of->base == a->to ? a->by : 0;
	*moved += of->index == a->to ? (int64_t)a->by * (1 << of->scale) : 0;
	return *moved > -MOVED_MAX && *moved < MOVED_MAX;
}

static bool same_base(const struct xl_about *a, const struct xl_about *b)
{
	return a->base == b->base && a->index == b->index &&
	       (a->index == INSN_NONE || a->scale == b->scale);
}

static bool of_stack(const struct xl_about *a)
{
	return a->index == INSN_NONE && (a->base == CPU_RSP || a->base == CPU_RBP);
}

/* A word that is not needed from instruction k on. */
static bool word_for(struct xl_tr *t, unsigned k, unsigned last, uint8_t *ret)
{
	for (unsigned w = 0; w < XL_JOINS; w++) {
		if (t->join_until[w] <= k) {
			t->join_until[w] = (uint8_t)last;
			*ret = (uint8_t)w;
			return true;
		}
	}
	return false;
}

/* The group that instruction k is the first one of, if there is one. */
static void group(struct xl_tr *t, unsigned k)
{
	const struct xl_about *lead = &t->about[k];
	int64_t most = of_stack(lead) ? STACK_SPAN_MAX : SPAN_MAX, moved = 0;
	int64_t first = lead->disp, end = lead->disp + lead->bytes, at[XL_INSNS];
	uint8_t members[XL_INSNS], word = 0;
	unsigned n = 0, last = k;
	bool write = lead->write;

	if (!still(lead, lead, &moved)) {
		return;
	}
	for (unsigned j = k + 1;
	     j < t->n && j <= k + AHEAD && t->about[j].known && !t->join_head[j]; j++) {
		const struct xl_about *a = &t->about[j];
		int64_t disp = a->disp + moved;

		if (a->access && !t->joins[j].role && same_base(lead, a) &&
		    MAX(end, disp + a->bytes) - MIN(first, disp) <= most) {
			first = MIN(first, disp);
			end = MAX(end, disp + a->bytes);
			write |= a->write;
			at[n] = disp;
			members[n++] = (uint8_t)j;
			last = j;
		}
		if (!still(lead, a, &moved)) {
			break;
		}
	}
	bool one_page = first >> GMEM_PAGE_SHIFT == (end - 1) >> GMEM_PAGE_SHIFT;
	bool fits = first >= INT32_MIN && end <= INT32_MAX &&
		    (lead->base != INSN_BASE_RIP || one_page);

	if (n == 0 || !fits || !word_for(t, k, last, &word)) {
		return;
	}
	t->joins[k] = (struct xl_join){ .role = XJ_FIRST, .word = word, .write = write,
					.first = (int32_t)first, .span = (uint16_t)(end - first),
					.disp = (uint16_t)(lead->disp - first) };
	for (unsigned m = 0; m < n; m++) {
		t->joins[members[m]] = (struct xl_join){ .role = XJ_MORE, .word = word,
							 .disp = (uint16_t)(at[m] - first) };
	}
	memset(t->join_needed + k, 1, last - k);
}

void xl_join_plan(struct xl_tr *t)
{
	memset(t->joins, 0, t->n * sizeof(t->joins[0]));
	memset(t->join_head, 0, t->n * sizeof(t->join_head[0]));
	memset(t->join_needed, 0, t->n * sizeof(t->join_needed[0]));
	memset(t->join_until, 0, sizeof(t->join_until));
	if (xl_is_direct(t->to->kind) || t->compat || t->n < 2) {
		return;
	}
	for (t->k = 0; t->k < t->n; t->k++) {
		int head = xl_loop_of(t, t->k);

		about(t, &t->about[t->k]);
		if (head >= 0) {
			t->join_head[head] = true;
		}
	}
	for (t->k = 0; t->k + 1 < t->n; t->k++) {
		if (t->about[t->k].known && t->about[t->k].access && !t->joins[t->k].role &&
		    xl_hint(t->x, xl_gpa_of(t)) != XP_ALONE) {
			group(t, t->k);
		}
	}
}

/* --- Code --- */

static struct xl_rm word_of(const struct xl_join *j)
{
	return xl_gs(offsetof(struct soft_cpu, xl_join) + j->word * sizeof(uint64_t));
}

/* The first one looks for all. */
static void look(struct xl_tr *t, const struct xl_join *j)
{
	const struct xl_about *a = &t->about[t->k];
	bool on_its_page = a->index == INSN_NONE &&
			   (a->base == CPU_RSP || (a->base == CPU_RBP && j->first + j->span <= 0));

	if (on_its_page) {
		xl_stack_to_r11(t, xl_now(t, a->base), j->first, j->span, j->write);
	} else {
		xl_address_from(t, a->base, a->index, a->scale, j->first);
		xl_check_to_r11(t, j->span, j->write);
	}
	if (!t->full) {
		t->slow[t->n_slow - 1].why = XL_WHY_JOINED;
	}
	xe_store(&t->e, XR_11, word_of(j));
}

bool xl_join_operand(struct xl_tr *t, struct xl_rm *ret)
{
	const struct xl_join *j = &t->joins[t->k];

	if (!j->role) {
		return false;
	}
	t->insns[t->k].place = XP_TLB;
	t->direct = false;
	if (j->role == XJ_FIRST) {
		look(t, j);
	} else {
		xe_load(&t->e, XR_11, word_of(j));
	}
	*ret = xl_mem(XR_11, j->disp);
	return true;
}
