/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The code cache of a VM: one memory that is mapped twice, once to write and once to run, and
 * records beside it. All vCPUs share them; whoever changes something holds the lock.
 *
 * Code is the lines of blocks, and apart from them, so that what runs lies close together, their
 * ways elsewhere. All of it is cut into segments, which are filled one after another. Code that has
 * gone stale stays where it is, with nothing that leads there. When all segments are full the
 * oldest one is emptied by a vCPU that runs alone, so that no other one is in the code; but one may
 * be in a call out of it that waits for that vCPU, and then its segment is passed over
 * (soft_cpu.xl_pin).
 *
 * Whoever writes to memory and whoever translates it each say so first and look at the other
 * afterwards: make() counts the block as translated and then reads the bytes; a store is visible
 * before xl_written() looks at the count. So a block is never made of bytes that were changed
 * without its being ended.
 */
#include "vm/cpu/soft/xl-cache.h"

/* --- Blocks by address --- */

static struct xl_block **hash_slot(struct xl_cache *x, uint64_t gpa, unsigned kind, uint64_t page)
{
	uint64_t h = ((gpa << 2 | kind) ^ page << 20) * UINT64_C(0x9e3779b97f4a7c15);

	return &x->hash[h >> (64 - XL_HASH_BITS)];
}

static struct xl_block **page_slot(struct xl_cache *x, uint64_t gpa)
{
	uint64_t h = (gpa >> GMEM_PAGE_SHIFT) * UINT64_C(0x9e3779b97f4a7c15);

	return &x->pages[h >> (64 - XL_PAGE_HASH_BITS)];
}

/* Of the same mode, and on the same second page, or on none. */
static bool same_code(const struct xl_block *b, const struct soft_block *of)
{
	return b->compat == (of->mode != INSN_MODE_64) &&
	       (of->cross ? b->rest && b->rest->gpa == of->gpa2 : !b->rest);
}

static struct xl_block *find(struct soft_cpu *c, const struct soft_block *of)
{
	struct xl_block *b = *hash_slot(c->eng->xl, of->gpa, xl_kind(c), xl_page_of(c, c->s.rip));

	while (b && (b->gpa != of->gpa || !xl_fits(c, b, c->s.rip) || !same_code(b, of))) {
		b = b->hash_next;
	}
	return b;
}

/* --- Links --- */

static void set_distance(struct xl_cache *x, uint32_t place, uint32_t to)
{
	int32_t distance = (int32_t)(to - (place + 4));

	__atomic_store_n((int32_t *)(void *)(x->rw + place), distance, __ATOMIC_RELEASE);
}

void xl_link(struct soft_cpu *c, const struct xl_block *known)
{
	struct xl_block *to = (struct xl_block *)known;   /* it is the cache's */
	struct xl_cache *x = c->eng->xl;

	pthread_mutex_lock(&x->lock);
	if (!to->dead && !to->rest && c->xl_epoch == x->epoch) {
		struct xl_link *l = xl_record_at(x, c->xl_site);

		if (!l->to && l->gpa == to->gpa && l->of->kind == to->kind &&
		    l->of->page == to->page) {
			l->to = to;
			l->next = to->in;
			to->in = l;
			set_distance(x, l->place, l->indirect ? to->indirect : to->code);
		}
	}
	pthread_mutex_unlock(&x->lock);
}

/* Nothing leads to a block any more. */
static void unlink_all(struct xl_cache *x, struct xl_block *b)
{
	for (struct xl_link *l = b->in; l; l = l->next) {
		set_distance(x, l->place, l->stub);
		l->to = NULL;
	}
	b->in = NULL;
}

/* A jump of a block that goes for good is not in the list of where it leads to. */
static void link_remove(struct xl_link *l)
{
	struct xl_link **p = l->to ? &l->to->in : NULL;

	while (p && *p != l) {
		p = &(*p)->next;
	}
	if (p) {
		*p = l->next;
		l->to = NULL;
	}
}

/* --- What ends blocks --- */

static void hash_remove(struct xl_cache *x, struct xl_block *b)
{
	struct xl_block **p = hash_slot(x, b->gpa, b->kind, b->page);

	while (*p != b) {
		p = &(*p)->hash_next;
	}
	*p = b->hash_next;
}

static bool same_page(uint64_t a, uint64_t b)
{
	return (a ^ b) >> GMEM_PAGE_SHIFT == 0;
}

static void page_remove(struct xl_cache *x, struct xl_block *b)
{
	struct xl_block **p = page_slot(x, b->gpa);

	while (*p != b) {
		p = &(*p)->page_next;
	}
	*p = b->page_next;
}

static void count(struct soft_engine *eng, uint64_t gpa, bool more)
{
	struct soft_page *page = NULL;

	if (!soft_ram(eng, gpa, &page)) {
		return;
	}
	if (more) {
		atomic_fetch_add(&page->translated, 1);
	} else {
		atomic_fetch_sub(&page->translated, 1);
	}
}

void xl_cache_kill(struct soft_engine *eng, struct xl_block *b)
{
	b->dead = true;
	hash_remove(eng->xl, b);
	page_remove(eng->xl, b);
	unlink_all(eng->xl, b);
	count(eng, b->gpa, false);
	for (struct xl_block *p = b->pieces; p; p = p->pieces) {
		page_remove(eng->xl, p);
	}
	if (b->rest) {
		page_remove(eng->xl, b->rest);
		count(eng, b->rest->gpa, false);
	}
}

void xl_written(struct soft_engine *eng, uint64_t gpa, size_t n)
{
	struct xl_cache *x = eng->xl;
	struct soft_page *page = NULL;

	if (!soft_ram(eng, gpa, &page) || atomic_load(&page->translated) == 0) {
		return;
	}
	pthread_mutex_lock(&x->lock);
	for (struct xl_block **p = page_slot(x, gpa); *p; ) {
		struct xl_block *b = *p;

		if (!same_page(b->gpa, gpa) || gpa >= b->gpa + b->bytes || b->gpa >= gpa + n) {
			p = &b->page_next;
			continue;
		}
		xl_cache_kill(eng, b->whole ? b->whole : b);
		x->usage.stale++;
		p = page_slot(x, gpa);   /* two may be gone from it */
	}
	pthread_mutex_unlock(&x->lock);
}

uint64_t xl_granules(struct soft_engine *eng, uint64_t gpa)
{
	struct xl_cache *x = eng->xl;
	struct soft_page *page = NULL;
	uint64_t ret = 0;

	if (!x || !soft_ram(eng, gpa, &page) || atomic_load(&page->translated) == 0) {
		return 0;
	}
	pthread_mutex_lock(&x->lock);
	for (const struct xl_block *b = *page_slot(x, gpa); b; b = b->page_next) {
		if (same_page(b->gpa, gpa)) {
			ret |= soft_granules(b->gpa, b->bytes);
		}
	}
	pthread_mutex_unlock(&x->lock);
	return ret;
}

/* --- Room --- */

static void holds_drop(struct xl_cache *x, const struct xl_block *b)
{
	for (const struct xl_hold *h = b->holds; h; h = h->next) {
		xl_across_drop(xl_across_of(x, b->kind != XK_KERNEL), h->number, x->epoch);
	}
}

/* Nobody is in its code, nor comes back to it. */
static void empty(struct soft_engine *eng, unsigned segment)
{
	struct xl_cache *x = eng->xl;
	struct xl_segment *g = &x->segments[segment];

	for (struct xl_block *b = g->blocks; b; b = b->segment_next) {
		if (!b->dead) {
			xl_cache_kill(eng, b);
		}
		for (struct xl_link *l = b->out; l; l = l->of_next) {
			link_remove(l);
			x->usage.links--;
		}
		holds_drop(x, b);
		x->usage.blocks--;
	}
	for (uint32_t at = g->first; at < g->first + g->code; at += 1 << XL_CHUNK_SHIFT) {
		x->chunks[at >> XL_CHUNK_SHIFT] = NULL;
	}
	x->chunks[(g->first + g->code) >> XL_CHUNK_SHIFT] = NULL;
	g->blocks = NULL;
	g->code = g->ways = 0;
	g->records = segment == 0 ? XL_RECORD : 0;
	__atomic_store_n(&x->epoch, x->epoch + 1, __ATOMIC_RELEASE);
}

/* Is a vCPU that does not run now in a call out of the segment's code? */
static bool pinned(const struct soft_engine *eng, unsigned segment)
{
	uint64_t per_segment = eng->xl->segment_records / XL_RECORD;

	for (unsigned i = 0; i < eng->n_cpus; i++) {
		uint32_t pin = eng->cpus[i] ? eng->cpus[i]->xl_pin : 0;

		if (pin && pin / per_segment == segment) {
			return true;
		}
	}
	return false;
}

/* Room for more code: in place of the oldest. `full` is the segment that had none. */
static void make_room(struct soft_cpu *c, unsigned full)
{
	struct xl_cache *x = c->eng->xl;

	soft_exclusive_begin(c);
	pthread_mutex_lock(&x->lock);
	/* Another vCPU may have done so meanwhile. */
	for (unsigned k = 1; k < XL_SEGMENTS && x->now == full; k++) {
		unsigned next = (full + k) % XL_SEGMENTS;

		if (!pinned(c->eng, next)) {
			empty(c->eng, next);
			x->now = next;
		}
	}
	pthread_mutex_unlock(&x->lock);
	soft_exclusive_end(c);
}

/* --- New blocks --- */

static void insert(struct soft_cpu *c, struct xl_block *b)
{
	struct xl_cache *x = c->eng->xl;
	struct xl_block **slot = hash_slot(x, b->gpa, b->kind, b->page);

	b->hash_next = *slot;
	*slot = b;
	slot = page_slot(x, b->gpa);
	b->page_next = *slot;
	*slot = b;
	for (struct xl_block *p = b->pieces; p; p = p->pieces) {
		slot = page_slot(x, p->gpa);
		p->page_next = *slot;
		*slot = p;
	}
	if (b->rest) {
		slot = page_slot(x, b->rest->gpa);
		b->rest->page_next = *slot;
		*slot = b->rest;
	}
	b->segment_next = xl_cache_now(x)->blocks;
	xl_cache_now(x)->blocks = b;
	__atomic_store_n(&x->chunks[b->indirect >> XL_CHUNK_SHIFT], b, __ATOMIC_RELEASE);
	x->usage.blocks++;
	for (const struct xl_link *l = b->out; l; l = l->of_next) {
		x->usage.links++;
	}
}

static uint32_t segment_room(const struct xl_cache *x, unsigned segment)
{
	return (segment + 1) * x->segment_code - x->segments[segment].first;
}

enum made { MADE, NEVER, FULL };

/* What a block has in its second page. false: there is no room. */
static bool rest_new(struct xl_cache *x, const struct soft_block *b, struct xl_block *to)
{
	uint32_t index = 0;

	if (!b->cross) {
		return true;
	}
	to->rest = xl_record_new(x, sizeof(*to->rest), &index);
	if (to->rest) {
		size_t first = GMEM_PAGE_BYTES - (b->gpa & (GMEM_PAGE_BYTES - 1));

		*to->rest = (struct xl_block){ .gpa = b->gpa2, .whole = to,
					       .bytes = (uint16_t)(b->bytes - first) };
	}
	return to->rest;
}

/* What a block has besides what it is of: nothing; no loops in the middle; all. */
enum extent { ALONE, PLAIN, LONG };

static enum made attempt(struct soft_cpu *c, const struct soft_block *b, enum extent extent,
			 struct xl_block **ret)
{
	static _Thread_local struct xl_tr t;
	struct xl_cache *x = c->eng->xl;
	struct xl_segment *g = xl_cache_now(x);
	const struct xl_segment before = *g;
	uint32_t index = 0;
	struct xl_block *to = xl_record_new(x, sizeof(*to), &index);

	if (!to) {
		return FULL;
	}
	*to = (struct xl_block){ .gpa = b->gpa, .page = xl_page_of(c, c->s.rip),
				 .kind = xl_kind(c) };
	if (!rest_new(x, b, to)) {
		*g = before;
		return FULL;
	}
	to->compat = t.compat = b->mode != INSN_MODE_64;
	t.c = c;
	t.x = x;
	t.b = b;
	t.to = to;
	t.to_index = index;
	t.e = (struct xl_code){ .at = x->rw + g->first + g->code,
				.end = x->rw + g->first + segment_room(x, x->now) };
	t.ways = (struct xl_code){ .at = x->rw + g->first_way + g->ways,
				   .end = x->rw + g->first_way + x->segment_ways };
	t.f = (struct xl_flags){ .at = XF_HOST };
	t.n_slow = t.n_links = t.n_stacks = t.n_accesses = 0;
	t.vec = XV_NONE;
	t.x87 = false;
	t.x87_last = -1;
	t.full = false;
	t.alone = extent == ALONE;
	t.plain = extent == PLAIN;
	t.n_sides = 0;
	if (!xl_translate(&t)) {
		/* What does not fit into an empty one fits nowhere. */
		bool full = before.blocks && (t.full || t.e.at > t.e.end);

		holds_drop(x, to);
		*g = before;
		return full ? FULL : NEVER;
	}
	g->code = (uint32_t)(t.line_end - x->rw) - g->first;
	g->ways = (uint32_t)(t.e.at - x->rw) - g->first_way;
	if (g->code + g->ways + g->records > x->segment_bytes) {
		holds_drop(x, to);
		*g = before;
		return before.blocks ? FULL : NEVER;
	}
	insert(c, to);
	*ret = to;
	return MADE;
}

/* With the lock held; counted among the page's. What goes on behind a block may be too much. */
static enum made translate(struct soft_cpu *c, const struct soft_block *b, struct xl_block **ret)
{
	enum made made = attempt(c, b, LONG, ret);

	for (unsigned e = LONG; e-- > ALONE && made != MADE; ) {
		made = attempt(c, b, (enum extent)e, ret);
	}
	return made;
}

/* With the lock held. */
static enum made make(struct soft_cpu *c, const struct soft_block *b, struct xl_block **ret)
{
	enum made made = NEVER;

	count(c->eng, b->gpa, true);
	if (b->cross) {
		count(c->eng, b->gpa2, true);
	}
	made = translate(c, b, ret);
	if (made == FULL && xl_cache_now(c->eng->xl)->blocks &&
	    !c->eng->xl->segments[(c->eng->xl->now + 1) % XL_SEGMENTS].blocks) {
		c->eng->xl->now = (c->eng->xl->now + 1) % XL_SEGMENTS;
		made = translate(c, b, ret);
	}
	if (made != MADE) {
		count(c->eng, b->gpa, false);
		if (b->cross) {
			count(c->eng, b->gpa2, false);
		}
	}
	return made;
}

struct xl_block *xl_get(struct soft_cpu *c, const struct soft_block *b, bool known, bool *ret_later)
{
	struct xl_cache *x = c->eng->xl;
	struct xl_block *ret = NULL;
	enum made made = MADE;
	unsigned full = 0;

	pthread_mutex_lock(&x->lock);
	ret = find(c, b);
	if (!ret && !known) {
		made = make(c, b, &ret);
		full = x->now;
	}
	pthread_mutex_unlock(&x->lock);
	*ret_later = made == FULL;
	if (made == FULL) {
		/* Who lets go of the guest for it may find the block's bytes changed. */
		make_room(c, full);
	}
	return ret;
}
