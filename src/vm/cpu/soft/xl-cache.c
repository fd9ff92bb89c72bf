/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The code cache of a VM: one memory that is mapped twice, once to write and once to run, and
 * records beside it. All vCPUs share them; whoever changes something holds the lock.
 *
 * Code is the lines of blocks, and apart from them, so that what runs lies close together, their
 * ways elsewhere. All of it is cut into segments, which are filled one after another. Code that has
 * gone stale stays where it is, with nothing that leads there. When all segments are full the oldest
 * one is emptied by a vCPU that runs alone, so that no other one is in the code; but one may be in a
 * call out of it that waits for that vCPU, and then its segment is passed over (soft_cpu.xl_pin).
 *
 * Whoever writes to memory and whoever translates it each say so first and look at the other
 * afterwards: make() counts the block as translated and then reads the bytes; a store is visible
 * before xl_written() looks at the count. So a block is never made of bytes that were changed
 * without its being ended.
 */
#include <errno.h>
#include <sys/auxv.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/mem.h"
#include "sys/map.h"
#include "vm/cpu/soft/xl-parts.h"
#include "vm/cpu/soft/xl-stats.h"

enum {
	HINT_BITS = 13,
	CHUNK_SHIFT = 10,          /* of code: one of which the blocks are known that begin there */
	MISSES_MAX = 8,            /* of an instruction's place */
	OLDER_MAX = 4,
	HASH_BITS = 16, PAGE_HASH_BITS = 14,
	HWCAP2_FSGSBASE_BIT = 1 << 1,
	SEGMENTS = 16,
	/* Of the bytes of a segment, so many of 8 may be lines of code, their ways, and records: how
	 * many are depends on the program. */
	LINES_OF_8 = 5, WAYS_OF_8 = 5, RECORDS_OF_8 = 6,
	RECORD = 8,                /* bytes that a record begins at a multiple of */
};

struct segment {
	uint32_t first, first_way; /* of code: where it begins */
	uint32_t code, ways, records;   /* bytes that are filled, from there on */
	struct xl_block *blocks;   /* all of it, dead ones too */
};

/* Where an instruction reaches memory, by its address. */
struct hint {
	uint32_t tag;
	uint8_t  place;            /* enum xl_place */
	bool     turned;           /* it was wrong once */
	uint8_t  older;            /* blocks that were wrong and may have been made before */
};

struct xl_cache {
	pthread_mutex_t lock;
	uint8_t *rw, *rx, *records;
	size_t   code_bytes, record_bytes;           /* mapped */
	uint32_t segment_code, segment_ways, segment_records;   /* of one segment, at most */
	uint32_t segment_bytes;    /* all of them */
	uint32_t ways;             /* where those begin: behind all lines */
	unsigned now;              /* the segment that is filled */
	struct segment segments[SEGMENTS];
	struct xl_routines routines;
	uint32_t epoch;            /* how often a segment was emptied */
	struct xl_usage usage;
	struct xl_block *hash[1 << HASH_BITS];
	struct xl_block *pages[1 << PAGE_HASH_BITS];   /* that are not stale */
	struct hint hints[1 << HINT_BITS];
	struct xl_across across[2][XL_ACROSS];
	/* The last block that begins in each piece of code; more than it are found by segment_next. */
	struct xl_block **chunks;
};

const uint8_t *xl_rw(const struct xl_cache *x, uint32_t off)
{
	return x->rw + off;
}

uint32_t xl_off(const struct xl_cache *x, const uint8_t *rw)
{
	return (uint32_t)(rw - x->rw);
}

const struct xl_routines *xl_routines(const struct xl_cache *x)
{
	return &x->routines;
}

static struct segment *now(struct xl_cache *x)
{
	return &x->segments[x->now];
}

/* A record of the segment that is filled. NULL: there is no room. */
static void *record_new(struct xl_cache *x, size_t bytes, uint32_t *ret_index)
{
	struct segment *g = now(x);
	size_t at = (size_t)x->now * x->segment_records + g->records;

	bytes = (bytes + RECORD - 1) & ~(size_t)(RECORD - 1);
	if (bytes > x->segment_records - g->records) {
		return NULL;
	}
	g->records += (uint32_t)bytes;
	*ret_index = (uint32_t)(at / RECORD);
	return x->records + at;
}

static void *record_at(const struct xl_cache *x, uint32_t index)
{
	return x->records + (size_t)index * RECORD;
}

static void out_end(struct soft_cpu *c, const struct insn *i)
{
	c->next_rip = soft_rip_after(c, i - 1);
}

void xl_bind(const struct soft_engine *eng, enum insn_mode mode, struct insn *i)
{
	insn_bind(i, mode);
	if (eng->counted) {
		soft_counted_bind(i);
	}
	soft_block_last(i);
	i->end = i->len;
}

static void unpack(struct soft_cpu *c, struct xl_packed *p, struct xl_out *ret)
{
	struct xl_block *b = record_at(c->eng->xl, p->block);
	enum insn_mode mode = b->compat ? INSN_MODE_32 : INSN_MODE_64;
	int n = 0;

	*ret = (struct xl_out){ .end = out_end, .block = b, .packed = p, .off = p->off, .last = p->last,
				.place = p->place, .rest = p->rest };
	n = insn_parse(p->bytes, p->len, mode, &ret->insn);
	assert(n == p->len);
	xl_bind(c->eng, mode, &ret->insn);
}

const struct xl_out *xl_out_at(struct soft_cpu *c, uint32_t index)
{
	struct xl_out *o = &c->xl_outs->at[index * UINT32_C(0x9e3779b1) >> (32 - XL_OUTS_BITS)];
	uint32_t epoch = xl_epoch(c->eng);

	if (o->index != index || o->epoch != epoch) {
		unpack(c, record_at(c->eng->xl, index), o);
		o->index = index;
		o->epoch = epoch;
	}
	return o;
}

struct xl_packed *xl_out_new(struct xl_tr *t, uint32_t *ret_index)
{
	struct xl_insn *k = &t->insns[t->k];
	struct xl_packed *o = NULL;

	if (k->out) {
		*ret_index = k->out;
		return record_at(t->x, k->out);
	}
	o = record_new(t->x, offsetof(struct xl_packed, bytes) + k->i.len, &k->out);
	if (!o) {
		t->full = true;
		return NULL;
	}
	*ret_index = k->out;
	o->block = t->to_index;
	o->off = k->off & (GMEM_PAGE_BYTES - 1);
	o->len = k->i.len & INSN_BYTES_MAX;
	o->rest = (t->n - 1 - t->k) & (2 * XL_INSNS - 1);
	o->last = 0;
	o->place = k->place;
	o->misses = 0;
	memcpy(o->bytes, k->bytes, k->i.len);
	return o;
}

struct xl_link *xl_link_new(struct xl_tr *t, uint32_t *ret_index)
{
	struct xl_link *l = record_new(t->x, sizeof(*l), ret_index);

	if (!l) {
		t->full = true;
		return NULL;
	}
	*l = (struct xl_link){ .of_next = t->to->out, .of = t->to };
	t->to->out = l;
	return l;
}

struct xl_across *xl_across_of(struct xl_cache *x, bool user)
{
	return x->across[user];
}

bool xl_across_new(struct xl_tr *t, uint64_t rip, unsigned *ret)
{
	uint32_t index = 0;
	struct xl_hold *h = record_new(t->x, sizeof(*h), &index);

	if (!h) {
		t->full = true;
		return false;
	}
	if (!xl_across_hold(xl_across_of(t->x, t->to->kind != XK_KERNEL), rip, t->x->epoch, ret)) {
		return false;
	}
	*h = (struct xl_hold){ .next = t->to->holds, .number = *ret };
	t->to->holds = h;
	return true;
}

static void holds_drop(struct xl_cache *x, const struct xl_block *b)
{
	for (const struct xl_hold *h = b->holds; h; h = h->next) {
		xl_across_drop(xl_across_of(x, b->kind != XK_KERNEL), h->number, x->epoch);
	}
}

void xl_piece_new(struct xl_tr *t, uint64_t gpa, unsigned bytes)
{
	uint32_t index = 0;
	struct xl_block *p = NULL;

	if (gpa == t->to->gpa + t->to->bytes) {
		t->to->bytes = (uint16_t)(t->to->bytes + bytes);
		return;
	}
	p = record_new(t->x, sizeof(*p), &index);
	if (!p) {
		t->full = true;
		return;
	}
	*p = (struct xl_block){ .gpa = gpa, .bytes = (uint16_t)bytes, .whole = t->to, .pieces = t->to->pieces };
	t->to->pieces = p;
}

void xl_sites_new(struct xl_tr *t)
{
	uint32_t index = 0;
	struct xl_site *sites = NULL;

	if (t->n_accesses == 0 || t->full) {
		return;
	}
	sites = record_new(t->x, t->n_accesses * sizeof(*sites), &index);
	if (!sites) {
		t->full = true;
		return;
	}
	for (unsigned i = 0; i < t->n_accesses; i++) {
		sites[i] = (struct xl_site){ .at = xl_off(t->x, t->accesses[i].at),
					     .way = t->slow[t->accesses[i].slow].way };
	}
	t->to->sites = sites;
	t->to->n_sites = (uint16_t)t->n_accesses;
}

/* --- Where code faults --- */

/* The block that an offset is in, or one before it. Blocks come in while this is done, but none
 * goes: the vCPU that looks is in its code. */
static const struct xl_block *block_at(const struct xl_cache *x, uint32_t off)
{
	for (uint32_t chunk = off >> CHUNK_SHIFT; ; chunk--) {
		const struct xl_block *b = __atomic_load_n(&x->chunks[chunk], __ATOMIC_ACQUIRE);

		while (b && b->indirect > off) {
			b = b->segment_next;
		}
		if (b || chunk == 0) {
			return b;
		}
	}
}

/* In a routine; 0: nowhere. */
static uint32_t routine_way(const struct xl_cache *x, uint64_t at)
{
	const struct xl_site *sites = &x->routines.rep_sites[0][0];

	for (unsigned i = 0; i < sizeof(x->routines.rep_sites) / sizeof(*sites); i++) {
		if (sites[i].at == at) {
			return sites[i].way;
		}
	}
	return 0;
}

uint64_t xl_fault_way(const struct soft_engine *eng, uint64_t pc)
{
	const struct xl_cache *x = eng->xl;
	uint64_t rx = x ? (uint64_t)(uintptr_t)x->rx : 0;
	const struct xl_block *b = NULL;
	uint32_t way = 0;

	if (!x || pc - rx >= x->ways) {
		return 0;
	}
	way = routine_way(x, pc - rx);
	if (way) {
		return rx + way;
	}
	b = block_at(x, (uint32_t)(pc - rx));
	for (unsigned i = 0; b && i < b->n_sites; i++) {
		if (b->sites[i].at == pc - rx) {
			return rx + b->sites[i].way;
		}
	}
	return 0;
}

/* --- Making and ending --- */

/* Shared memory without a name, which is what perf takes for code that was made at run time;
 * nowhere can it be written and run. */
static int map_code(struct xl_cache *x)
{
	void *rw = NULL, *rx = NULL;
	int r = sys_mmap(x->code_bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS | MAP_NORESERVE,
			 -1, 0, &rw);

	x->rw = rw;
	r = r < 0 ? r : sys_mremap_again(rw, x->code_bytes, &rx);
	x->rx = rx;
	return r < 0 ? r : sys_mprotect(rx, x->code_bytes, PROT_READ | PROT_EXEC);
}

static void *records(size_t bytes)
{
	void *p = NULL;

	if (sys_mmap(bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0,
		     &p) < 0) {
		return NULL;
	}
	ignore_result(sys_madvise(p, bytes, MADV_HUGEPAGE)); /* or slower */
	return p;
}

static void unmap(void *p, size_t bytes)
{
	if (p) {
		munmap(p, bytes);
	}
}

void xl_free(struct soft_engine *eng)
{
	struct xl_cache *x = eng->xl;

	if (!x) {
		return;
	}
	unmap(x->rw, x->code_bytes);
	unmap(x->rx, x->code_bytes);
	unmap(x->records, x->record_bytes);
	free(x->chunks);
	pthread_mutex_destroy(&x->lock);
	free(x);
	eng->xl = NULL;
}

const char *engine_soft_lacks(void)
{
	return !(getauxval(AT_HWCAP2) & HWCAP2_FSGSBASE_BIT) ? "FSGSBASE" :
	       !__builtin_cpu_supports("bmi2") ? "BMI2" :
	       !__builtin_cpu_supports("avx") ? "AVX" : NULL;
}

static void segments_init(struct xl_cache *x)
{
	struct xl_code e = { .at = x->rw, .end = x->rw + x->segment_code };

	for (unsigned i = 0; i < SEGMENTS; i++) {
		x->segments[i].first = i * x->segment_code;
		x->segments[i].first_way = x->ways + i * x->segment_ways;
	}
	xl_write_routines(&e, x->rw, &x->routines);
	x->segments[0].first += (uint32_t)(e.at - x->rw);
	x->segments[0].records = RECORD;   /* index 0 says that there is none */
}

static uint32_t segment_room(const struct xl_cache *x, unsigned segment)
{
	return (segment + 1) * x->segment_code - x->segments[segment].first;
}

int xl_new(struct soft_engine *eng, size_t bytes)
{
	struct xl_cache *x = NULL;
	size_t eighth = bytes / SEGMENTS / 8 & ~(size_t)63;
	int r = 0;

	if (engine_soft_lacks()) {
		return -ENOTSUP;
	}
	if (bytes < XL_BYTES_MIN || bytes > XL_BYTES_MAX) {
		return -EINVAL;
	}
	x = mem_new(struct xl_cache);
	if (!x) {
		return -ENOMEM;
	}
	pthread_mutex_init(&x->lock, NULL);
	eng->xl = x;
	x->segment_bytes = (uint32_t)(eighth * 8);
	x->segment_code = (uint32_t)(eighth * LINES_OF_8);
	x->segment_ways = (uint32_t)(eighth * WAYS_OF_8);
	x->segment_records = (uint32_t)(eighth * RECORDS_OF_8);
	x->ways = x->segment_code * SEGMENTS;
	x->code_bytes = x->ways + (size_t)x->segment_ways * SEGMENTS;
	x->record_bytes = (size_t)x->segment_records * SEGMENTS;
	x->usage.bytes = (size_t)x->segment_bytes * SEGMENTS;
	r = map_code(x);
	x->records = records(x->record_bytes);
	x->chunks = mem_calloc((x->ways >> CHUNK_SHIFT) + 1, sizeof(struct xl_block *));
	if (r < 0 || !x->records || !x->chunks) {
		xl_free(eng);
		return r < 0 ? r : -ENOMEM;
	}
	segments_init(x);
	xl_perf_begin(eng, x->segments[0].first);
	return 0;
}

/* --- Blocks by address --- */

static struct xl_block **hash_slot(struct xl_cache *x, uint64_t gpa, unsigned kind, uint64_t page)
{
	uint64_t h = ((gpa << 2 | kind) ^ page << 20) * UINT64_C(0x9e3779b97f4a7c15);

	return &x->hash[h >> (64 - HASH_BITS)];
}

static struct xl_block **page_slot(struct xl_cache *x, uint64_t gpa)
{
	uint64_t h = (gpa >> GMEM_PAGE_SHIFT) * UINT64_C(0x9e3779b97f4a7c15);

	return &x->pages[h >> (64 - PAGE_HASH_BITS)];
}

/* Of the same mode, and on the same second page, or on none. */
static bool same_code(const struct xl_block *b, const struct soft_block *of)
{
	return b->compat == (of->mode != INSN_MODE_64) && (of->cross ? b->rest && b->rest->gpa == of->gpa2 : !b->rest);
}

static struct xl_block *find(struct soft_cpu *c, const struct soft_block *of)
{
	struct xl_block *b = *hash_slot(c->eng->xl, of->gpa, xl_kind(c), xl_page_of(c, c->s.rip));

	while (b && (b->gpa != of->gpa || !xl_fits(c, b, c->s.rip) || !same_code(b, of))) {
		b = b->hash_next;
	}
	return b;
}

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
		struct xl_link *l = record_at(x, c->xl_site);

		if (!l->to && l->gpa == to->gpa && l->of->kind == to->kind && l->of->page == to->page) {
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

static void kill(struct soft_engine *eng, struct xl_block *b)
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
		kill(eng, b->whole ? b->whole : b);
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

/* Nobody is in its code, nor comes back to it. */
static void empty(struct soft_engine *eng, unsigned segment)
{
	struct xl_cache *x = eng->xl;
	struct segment *g = &x->segments[segment];

	for (struct xl_block *b = g->blocks; b; b = b->segment_next) {
		if (!b->dead) {
			kill(eng, b);
		}
		for (struct xl_link *l = b->out; l; l = l->of_next) {
			link_remove(l);
			x->usage.links--;
		}
		holds_drop(x, b);
		x->usage.blocks--;
	}
	for (uint32_t at = g->first; at < g->first + g->code; at += 1 << CHUNK_SHIFT) {
		x->chunks[at >> CHUNK_SHIFT] = NULL;
	}
	x->chunks[(g->first + g->code) >> CHUNK_SHIFT] = NULL;
	g->blocks = NULL;
	g->code = g->ways = 0;
	g->records = segment == 0 ? RECORD : 0;
	__atomic_store_n(&x->epoch, x->epoch + 1, __ATOMIC_RELEASE);
}

/* Is a vCPU that does not run now in a call out of the segment's code? */
static bool pinned(const struct soft_engine *eng, unsigned segment)
{
	uint64_t per_segment = eng->xl->segment_records / RECORD;

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
	for (unsigned k = 1; k < SEGMENTS && x->now == full; k++) {
		unsigned next = (full + k) % SEGMENTS;

		if (!pinned(c->eng, next)) {
			empty(c->eng, next);
			x->now = next;
		}
	}
	pthread_mutex_unlock(&x->lock);
	soft_exclusive_end(c);
}

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
	b->segment_next = now(x)->blocks;
	now(x)->blocks = b;
	__atomic_store_n(&x->chunks[b->indirect >> CHUNK_SHIFT], b, __ATOMIC_RELEASE);
	x->usage.blocks++;
	for (const struct xl_link *l = b->out; l; l = l->of_next) {
		x->usage.links++;
	}
}

enum made { MADE, NEVER, FULL };

/* What a block has in its second page. false: there is no room. */
static bool rest_new(struct xl_cache *x, const struct soft_block *b, struct xl_block *to)
{
	uint32_t index = 0;

	if (!b->cross) {
		return true;
	}
	to->rest = record_new(x, sizeof(*to->rest), &index);
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
	struct segment *g = now(x);
	const struct segment before = *g;
	uint32_t index = 0;
	struct xl_block *to = record_new(x, sizeof(*to), &index);

	if (!to) {
		return FULL;
	}
	*to = (struct xl_block){ .gpa = b->gpa, .page = xl_page_of(c, c->s.rip), .kind = xl_kind(c) };
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
	if (made == FULL && now(c->eng->xl)->blocks &&
	    !c->eng->xl->segments[(c->eng->xl->now + 1) % SEGMENTS].blocks) {
		c->eng->xl->now = (c->eng->xl->now + 1) % SEGMENTS;
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

/* --- Hints --- */

static size_t hint_slot(uint64_t gpa)
{
	return gpa * UINT64_C(0x9e3779b97f4a7c15) >> (64 - HINT_BITS);
}

uint8_t xl_hint(const struct xl_cache *x, uint64_t gpa)
{
	const struct hint *h = &x->hints[hint_slot(gpa)];

	return h->tag == (uint32_t)gpa ? h->place : (uint8_t)XP_UNKNOWN;
}

/* The place of its instruction, from now on. */
static void place_again(struct soft_cpu *c, const struct xl_out *o, uint8_t place)
{
	uint64_t gpa = (o->block->gpa & ~(uint64_t)(GMEM_PAGE_BYTES - 1)) | o->off;

	c->eng->xl->hints[hint_slot(gpa)] = (struct hint){ .tag = (uint32_t)gpa, .turned = true, .place = place };
	kill(c->eng, o->block);
}

/* Has it been wrong often enough? */
static bool misses(const struct xl_out *o)
{
	return __atomic_add_fetch(&o->packed->misses, 1, __ATOMIC_RELAXED) >= MISSES_MAX;
}

void xl_misplaced(struct soft_cpu *c, const struct xl_out *o, bool filled)
{
	struct xl_cache *x = c->eng->xl;
	uint64_t gpa = (o->block->gpa & ~(uint64_t)(GMEM_PAGE_BYTES - 1)) | o->off;
	struct hint *h = &x->hints[hint_slot(gpa)];

	if (!misses(o)) {
		return;
	}
	pthread_mutex_lock(&x->lock);
	if (!o->block->dead && h->tag == (uint32_t)gpa && h->place != o->place && h->older < OLDER_MAX) {
		h->older++;
		kill(c->eng, o->block);
	} else if (!o->block->dead) {
		bool again = h->tag == (uint32_t)gpa && h->turned && h->place != XP_ALONE;

		place_again(c, o, !filled || o->place == XP_EITHER ? XP_TLB :
				  again ? XP_EITHER : o->place == XP_LOW ? XP_HIGH : XP_LOW);
	}
	pthread_mutex_unlock(&x->lock);
}

void xl_unjoined(struct soft_cpu *c, const struct xl_out *o)
{
	struct xl_cache *x = c->eng->xl;

	if (!misses(o)) {
		return;
	}
	pthread_mutex_lock(&x->lock);
	if (!o->block->dead) {
		place_again(c, o, XP_ALONE);
	}
	pthread_mutex_unlock(&x->lock);
}

void xl_usage(const struct soft_engine *eng, struct xl_usage *ret)
{
	struct xl_cache *x = eng->xl;

	pthread_mutex_lock(&x->lock);
	*ret = x->usage;
	ret->emptied = x->epoch;
	ret->used = 0;
	for (unsigned i = 0; i < SEGMENTS; i++) {
		ret->used += x->segments[i].code + x->segments[i].ways + x->segments[i].records;
	}
	pthread_mutex_unlock(&x->lock);
}

uint32_t xl_epoch(const struct soft_engine *eng)
{
	return __atomic_load_n(&eng->xl->epoch, __ATOMIC_ACQUIRE);
}

const void *xl_entry(const struct soft_engine *eng)
{
	return eng->xl->rx + eng->xl->routines.enter;
}

const uint8_t *xl_code_at(const struct soft_engine *eng, uint32_t off)
{
	return eng->xl->rx + off;
}
