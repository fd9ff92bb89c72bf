/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Jumps and calls to another page whose address is known when they are written, as in code that
 * is bound to its own. The address has a number, the same for all that go there, and each vCPU has
 * a word for each number: where its code is, or, until that is known and whenever the vCPU's tables
 * are forgotten, the way out. So nothing is looked up or compared.
 *
 * A number is held by the blocks that use it. When the last one is gone it still means what it did
 * until the cache's epoch changes: then all vCPUs forget their tables before they run translated
 * code again.
 */
#include "vm/cpu/soft/xl-parts.h"

enum { TRIES = 8 };

static unsigned first_try(uint64_t rip)
{
	return (unsigned)(rip * UINT64_C(0x9e3779b97f4a7c15) >> 32) % XL_ACROSS;
}

/* Whoever reads it without the lock has forgotten all of before the epoch. */
static uint64_t rip_of(const struct xl_across *a)
{
	return __atomic_load_n(&a->rip, __ATOMIC_RELAXED);
}

bool xl_across_find(const struct xl_across *all, uint64_t rip, unsigned *ret)
{
	for (unsigned i = 0; i < TRIES; i++) {
		*ret = (first_try(rip) + i) % XL_ACROSS;
		if (rip_of(&all[*ret]) == rip) {
			return __atomic_load_n(&all[*ret].holders, __ATOMIC_RELAXED) > 0;
		}
	}
	return false;
}

/* May it get to mean another address? */
static bool is_free(const struct xl_across *a, uint32_t epoch)
{
	return a->holders == 0 && (a->rip == 0 || a->dropped != epoch);
}

bool xl_across_hold(struct xl_across *all, uint64_t rip, uint32_t epoch, unsigned *ret)
{
	for (unsigned i = 0; i < TRIES; i++) {
		*ret = (first_try(rip) + i) % XL_ACROSS;
		if (all[*ret].rip == rip) {
			uint32_t more = all[*ret].holders + 1;

			__atomic_store_n(&all[*ret].holders, more, __ATOMIC_RELAXED);
			return true;
		}
	}
	for (unsigned i = 0; i < TRIES; i++) {
		*ret = (first_try(rip) + i) % XL_ACROSS;
		if (is_free(&all[*ret], epoch)) {
			__atomic_store_n(&all[*ret].rip, rip, __ATOMIC_RELAXED);
			__atomic_store_n(&all[*ret].holders, 1, __ATOMIC_RELAXED);
			return true;
		}
	}
	return false;
}

void xl_across_drop(struct xl_across *all, unsigned number, uint32_t epoch)
{
	struct xl_across *a = &all[number];

	__atomic_store_n(&a->holders, a->holders - 1, __ATOMIC_RELAXED);
	a->dropped = epoch;
}

/* --- The vCPU's side --- */

static const uint8_t *way_out(const struct soft_cpu *c)
{
	return xl_code_at(c->eng, xl_routines(c->eng->xl)->leave_unlinked);
}

void xl_across_forget(struct soft_cpu *c, bool user)
{
	unsigned n = c->xl_n_across_used[user];
	const uint8_t *out = n ? way_out(c) : NULL;

	for (unsigned i = 0; n <= XL_USED && i < n; i++) {
		c->xl_across[user][c->xl_across_used[user][i]] = out;
	}
	for (unsigned i = 0; n > XL_USED && i < XL_ACROSS; i++) {
		c->xl_across[user][i] = out;
	}
	c->xl_n_across_used[user] = 0;
}

void xl_across_forget_block(struct soft_cpu *c, const struct xl_block *b)
{
	bool user = b->kind != XK_KERNEL;
	unsigned number = 0;

	if (b->page != XL_ANYWHERE &&
	    xl_across_find(xl_across_of(c->eng->xl, user), b->page + b->gpa % GMEM_PAGE_BYTES,
			   &number)) {
		c->xl_across[user][number] = way_out(c);
	}
}

void xl_across_remember(struct soft_cpu *c, uint64_t rip, const struct xl_block *b)
{
	bool user = b->kind != XK_KERNEL;
	unsigned number = 0, *n = &c->xl_n_across_used[user];

	if (b->page == XL_ANYWHERE ||
	    !xl_across_find(xl_across_of(c->eng->xl, user), rip, &number)) {
		return;
	}
	if (c->xl_across[user][number] == way_out(c)) {
		if (*n < XL_USED) {
			c->xl_across_used[user][*n] = (uint16_t)number;
		}
		*n += *n <= XL_USED;
	}
	c->xl_across[user][number] = xl_code_at(c->eng, b->indirect);
}

/* --- Code --- */

bool xl_across(struct xl_tr *t, int64_t off, struct xl_rm *ret)
{
	bool user = t->to->kind != XK_KERNEL;
	uint64_t rip = 0;
	unsigned number = 0;

	if (!xl_address_at(t, off, &rip) || !xl_across_new(t, rip, &number)) {
		return false;
	}
	*ret = xl_gs(offsetof(struct soft_cpu, xl_across) +
		     (user * XL_ACROSS + number) * sizeof(uint8_t *));
	return true;
}
