/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Calls and returns. A call of the guest pushes its return address, inverted, on the stack of
 * translated code and is a call of the host; what is behind it leads to the block that the guest
 * returns to. A return compares the address that it found on the guest's stack with the top one
 * here and is a return of the host, which that foresees.
 *
 *	RSP      where the host returns to: behind the call's jump, in its block
 *	RSP + 8  what the guest's return address gives, inverted
 *	...      the same of the call before that
 *
 * What is on this stack is only a guess. One that is wrong stays there, for the next return; if
 * one below it is right, those above have been left by other ways. All of it goes when the tables
 * go, so a right guess leads to code that is still mapped where it was. CPL 3 has one for itself.
 *
 * At its bottom are entries that nothing fits. A call looks at a bit of the stack's pointer, which
 * is clear when the stack is full, then the code is left, and half of it thrown away. Whoever
 * wants something of the vCPU has no bit looked at (xl_poll), so it is left for that as well.
 * Without a call a program cannot return for ever. Below there is room for a signal's frame.
 */
#include <sys/random.h>

#include "base/clock.h"
#include "vm/cpu/soft/xl-parts.h"

enum {
	ENTRY = 16,
	SEEK = 4,                  /* entries that are looked at below the top one */
	PAD = (SEEK + 2) * ENTRY,
};

/* --- The vCPU's side --- */

static uint64_t bottom_of(struct soft_cpu *c, bool user)
{
	uint64_t room = (uint64_t)(uintptr_t)c->xl_returns[user] + 2 * XL_RETURNS;

	/* Up to a multiple of two parts, of which the upper one has the bit set. */
	room = (room + 2 * XL_RETURNS - 1) & ~(uint64_t)(2 * XL_RETURNS - 1);
	return room + 2 * XL_RETURNS - PAD;
}

void xl_returns_begin(struct soft_cpu *c)
{
	const uint8_t *leave = NULL;
	uint64_t v = 0;

	if (getrandom(&v, sizeof(v), 0) != sizeof(v)) {
		v = clock_now_ns() * UINT64_C(0x9e3779b97f4a7c15);
	}
	/* No canonical address, and nobody is to guess it. */
	v = (v >> 2) | BIT(62);
	leave = xl_code_at(c->eng, xl_routines(c->eng->xl)->leave_unlinked);
	for (unsigned user = 0; user < 2; user++) {
		uint64_t *pad = (void *)(uintptr_t)bottom_of(c, user);

		for (unsigned i = 0; i < PAD / ENTRY; i++) {
			pad[2 * i] = (uint64_t)(uintptr_t)leave;
			pad[2 * i + 1] = v;
		}
		xl_returns_forget(c, user);
	}
	soft_xl_stop(c);
}

void xl_returns_forget(struct soft_cpu *c, bool user)
{
	c->xl_rsps[user] = bottom_of(c, user);
	if (c->xl_side == user) {
		c->xl_rsp = c->xl_rsps[user];
	}
}

void xl_returns_ready(struct soft_cpu *c, bool user)
{
	uint64_t kept = 0;

	if (c->xl_side != user) {
		c->xl_rsps[c->xl_side] = c->xl_rsp;
		c->xl_rsp = c->xl_rsps[user];
		c->xl_side = user;
	}
	if (!(c->xl_rsp & XL_POLL)) {
		kept = bottom_of(c, user) - XL_RETURNS / 2;
		memmove((void *)(uintptr_t)kept, (const void *)(uintptr_t)c->xl_rsp,
			XL_RETURNS / 2);
		c->xl_rsp = kept;
	}
	if (atomic_load_explicit(&c->xl_poll, memory_order_relaxed) == 0 ||
	    atomic_load_explicit(&c->xl_mask, memory_order_relaxed) == 0) {
		/* Whoever wants something says so before he clears them: one sees the other. */
		atomic_store(&c->xl_poll, XL_POLL);
		atomic_store(&c->xl_mask, XL_SLOTS);
		if (atomic_load(&c->wants) != 0) {
			soft_xl_stop(c);
		}
	}
}

/* --- Code --- */

void xl_return_push(struct xl_tr *t, unsigned reg)
{
	struct xl_code *e = &t->e;

	xe_op(e, XE_W, 0, 0xf7, 2, xl_reg(reg));         /* not */
	if (reg >= 8) {
		xe_8(e, 0x41);
	}
	xe_8(e, 0x50 | (reg & 7));
}

void xl_return_push_imm(struct xl_tr *t, uint64_t rip)
{
	xe_8(&t->e, 0x68);
	xe_n(&t->e, (uint32_t)~rip, 4);
}

/* RCX: 0, or a little more, if the guest's address in R11 is that of an entry so far from RSP. */
static void compare(struct xl_code *e, int32_t at, unsigned more)
{
	xe_load(e, XR_CX, xl_mem(XR_SP, at + 8));
	xe_lea(e, XR_CX, xl_mem_index(XR_CX, XR_11, 0, 1 + (int32_t)more));
}

void xl_return(struct xl_tr *t, int32_t by)
{
	struct xl_code *e = &t->e;
	uint8_t *miss = NULL, *found = NULL;
	unsigned by_loop = xl_by_loop(t);

	compare(e, 0, by_loop);
	miss = xl_unless(t, by_loop);
	xe_lea(e, XR_9, xl_mem(XR_9, by));
	xe_8(e, 0xc3);
	xe_here_8(e, miss);
	xl_call_routine(t, xl_routines(t->x)->find[t->to->kind != XK_KERNEL]);
	found = xe_jrcxz(e);
	xl_slow_from(t, xe_jmp(e), XL_WHY_TARGET);
	xe_here_8(e, found);
	xe_lea(e, XR_9, xl_mem(XR_9, by));
	xe_op(e, 0, 0, 0xff, 4, XG(xl_next));
}

/* xl_next is known, and the place behind it on the stack: back, with that as the top. */
static void found(struct xl_code *e, int32_t place)
{
	xe_load(e, XR_CX, xl_mem(XR_SP, place));
	xe_store(e, XR_CX, XG(xl_next));
	xe_load(e, XR_CX, xl_mem(XR_SP, 0));
	xe_store(e, XR_CX, xl_mem(XR_SP, place));
	xe_lea(e, XR_SP, xl_mem(XR_SP, place));
	xe_mov_imm32(e, XR_CX, 0);
	xe_8(e, 0xc3);
}

/* R11: an address that the guest returns to, which is not the top one's. RCX 0: xl_next says where
 * that is, and the entries above it are gone. */
static void find(struct xl_code *e, bool user)
{
	uint8_t *calm = NULL, *hit = NULL, *on = NULL;

	xe_load32(e, XR_CX, XG(wants));
	calm = xe_jrcxz(e);
	xe_8(e, 0xc3);
	xe_here_8(e, calm);
	for (unsigned i = 0; i < SEEK; i++) {
		int32_t place = 8 + ENTRY * (int32_t)(i + 1);   /* behind the way back */

		compare(e, place, 0);
		hit = xe_jrcxz(e);
		on = xe_jmp(e);
		xe_here_8(e, hit);
		found(e, place);
		xe_here(e, on);
	}
	xl_look(e, user);
	hit = xe_jrcxz(e);
	xe_8(e, 0xc3);
	xe_here_8(e, hit);
	xe_load(e, XR_CX, xl_found(e, user));
	xe_store(e, XR_CX, XG(xl_next));
	xe_mov_imm32(e, XR_CX, 0);
	xe_8(e, 0xc3);
}

void xl_return_write_routines(struct xl_code *e, const uint8_t *begin, struct xl_routines *ret)
{
	for (unsigned user = 0; user < 2; user++) {
		ret->find[user] = (uint32_t)(e->at - begin);
		find(e, user);
	}
}
