/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The code cache of a VM: one memory that is mapped twice, once to write and once to run. All
 * vCPUs share it; whoever changes something holds its lock. Code that has gone stale stays where
 * it is, with nothing that leads there, until the cache is full: then a vCPU that runs alone
 * empties it.
 */
#include <errno.h>
#include <sys/auxv.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/fd.h"
#include "base/mem.h"
#include "sys/file.h"
#include "sys/map.h"
#include "vm/cpu/soft/xl.h"

enum {
	HASH_BITS = 16, PAGE_HASH_BITS = 14,
	HWCAP2_FSGSBASE_BIT = 1 << 1,
	/* Bytes of code for each record, at least: there is room for all that can be needed. */
	BYTES_BLOCK = 256, BYTES_OUT = 48, BYTES_LINK = 128,
};

struct xl_cache {
	pthread_mutex_t lock;
	uint8_t *rw, *rx;
	size_t   bytes;
	uint8_t *at, *first;       /* free from here on; behind the routines */
	struct xl_routines routines;
	struct xl_block *blocks;
	struct xl_out   *outs;
	struct xl_link  *links;
	uint32_t n_blocks, n_outs, n_links;   /* in use */
	uint32_t epoch;            /* how often it was emptied */
	struct xl_block *hash[1 << HASH_BITS];
	struct xl_block *pages[1 << PAGE_HASH_BITS];   /* that are not stale */
};

static size_t max_blocks(const struct xl_cache *x)
{
	return x->bytes / BYTES_BLOCK;
}

static size_t max_outs(const struct xl_cache *x)
{
	return x->bytes / BYTES_OUT;
}

static size_t max_links(const struct xl_cache *x)
{
	return x->bytes / BYTES_LINK;
}

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

struct xl_out *xl_out_at(struct soft_engine *eng, uint32_t index)
{
	return &eng->xl->outs[index];
}

static void out_end(struct soft_cpu *c, const struct insn *i)
{
	c->next_rip = soft_rip_after(c, i - 1);
}

struct xl_out *xl_out_new(struct xl_tr *t, uint32_t *ret_index)
{
	struct xl_cache *x = t->x;
	struct xl_out *o = &x->outs[x->n_outs];

	if (x->n_outs == max_outs(x)) {
		t->full = true;
		return NULL;
	}
	*ret_index = x->n_outs++;
	*o = (struct xl_out){ .insn = *xl_decoded(t), .end = out_end, .block = t->to,
			      .off = (uint16_t)t->first_off,
			      .rest = (uint8_t)(t->n - 1 - t->k) };
	return o;
}

struct xl_link *xl_link_new(struct xl_tr *t, uint32_t *ret_index)
{
	struct xl_cache *x = t->x;

	if (x->n_links == max_links(x)) {
		t->full = true;
		return NULL;
	}
	*ret_index = x->n_links++;
	x->links[*ret_index] = (struct xl_link){ .next = NULL };
	return &x->links[*ret_index];
}

/* --- Making and ending --- */

static int map_code(struct xl_cache *x)
{
	auto_close int fd = sys_memfd_create("holm-code", 0);
	void *rw = NULL, *rx = NULL;
	int r = fd < 0 ? fd : sys_ftruncate(fd, (int64_t)x->bytes);

	r = r < 0 ? r : sys_mmap(x->bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_NORESERVE, fd, 0, &rw);
	x->rw = rw;
	r = r < 0 ? r : sys_mmap(x->bytes, PROT_READ | PROT_EXEC, MAP_SHARED | MAP_NORESERVE, fd, 0, &rx);
	x->rx = rx;
	return r;
}

static void *records(size_t bytes)
{
	void *p = NULL;

	return sys_mmap(bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0,
			&p) < 0 ? NULL : p;
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
	unmap(x->rw, x->bytes);
	unmap(x->rx, x->bytes);
	unmap(x->blocks, max_blocks(x) * sizeof(*x->blocks));
	unmap(x->outs, max_outs(x) * sizeof(*x->outs));
	unmap(x->links, max_links(x) * sizeof(*x->links));
	pthread_mutex_destroy(&x->lock);
	free(x);
	eng->xl = NULL;
}

static bool host_can(void)
{
	return (getauxval(AT_HWCAP2) & HWCAP2_FSGSBASE_BIT) && __builtin_cpu_supports("bmi2");
}

int xl_new(struct soft_engine *eng, size_t bytes)
{
	struct xl_cache *x = NULL;
	int r = 0;

	if (!host_can()) {
		return -ENOTSUP;
	}
	x = mem_new(struct xl_cache);
	if (!x) {
		return -ENOMEM;
	}
	pthread_mutex_init(&x->lock, NULL);
	eng->xl = x;
	x->bytes = bytes;
	r = map_code(x);
	x->blocks = records(max_blocks(x) * sizeof(*x->blocks));
	x->outs = records(max_outs(x) * sizeof(*x->outs));
	x->links = records(max_links(x) * sizeof(*x->links));
	if (r < 0 || !x->blocks || !x->outs || !x->links) {
		xl_free(eng);
		return r < 0 ? r : -ENOMEM;
	}
	struct xl_code e = { .at = x->rw, .end = x->rw + x->bytes };

	xl_write_routines(&e, x->rw, &x->routines);
	x->at = x->first = e.at;
	x->n_links = 1;            /* 0 says that there is none */
	return 0;
}

/* --- Blocks by address --- */

static struct xl_block **hash_slot(struct xl_cache *x, uint64_t gpa, bool user)
{
	uint64_t h = (gpa << 1 | user) * UINT64_C(0x9e3779b97f4a7c15);

	return &x->hash[h >> (64 - HASH_BITS)];
}

static struct xl_block **page_slot(struct xl_cache *x, uint64_t gpa)
{
	uint64_t h = (gpa >> GMEM_PAGE_SHIFT) * UINT64_C(0x9e3779b97f4a7c15);

	return &x->pages[h >> (64 - PAGE_HASH_BITS)];
}

static struct xl_block *find(struct xl_cache *x, uint64_t gpa, bool user)
{
	struct xl_block *b = *hash_slot(x, gpa, user);

	while (b && (b->gpa != gpa || b->user != user)) {
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
	if (!to->dead && c->xl_site < x->n_links && c->xl_epoch == x->epoch) {
		struct xl_link *l = &x->links[c->xl_site];

		if (!l->next && l->gpa == to->gpa) {
			l->next = to->in ? to->in : l;      /* the last is its own */
			to->in = l;
			set_distance(x, l->place, to->code);
		}
	}
	pthread_mutex_unlock(&x->lock);
}

static void unlink_all(struct xl_cache *x, struct xl_block *b)
{
	struct xl_link *l = b->in;

	b->in = NULL;
	while (l) {
		struct xl_link *next = l->next == l ? NULL : l->next;

		set_distance(x, l->place, l->stub);
		l->next = NULL;
		l = next;
	}
}

static void hash_remove(struct xl_cache *x, struct xl_block *b)
{
	struct xl_block **p = hash_slot(x, b->gpa, b->user);

	while (*p != b) {
		p = &(*p)->hash_next;
	}
	*p = b->hash_next;
}

static bool same_page(uint64_t a, uint64_t b)
{
	return (a ^ b) >> GMEM_PAGE_SHIFT == 0;
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
		*p = b->page_next;
		b->dead = true;
		hash_remove(x, b);
		unlink_all(x, b);
		atomic_fetch_sub(&page->translated, 1);
	}
	pthread_mutex_unlock(&x->lock);
}

/* Nothing is translated any more. The vCPU runs alone, and outside of the code. */
static void empty(struct soft_cpu *c)
{
	struct xl_cache *x = c->eng->xl;

	for (uint32_t i = 0; i < x->n_blocks; i++) {
		struct soft_page *page = NULL;

		if (!x->blocks[i].dead && soft_ram(c->eng, x->blocks[i].gpa, &page)) {
			atomic_store(&page->translated, 0);
		}
	}
	memset(x->hash, 0, sizeof(x->hash));
	memset(x->pages, 0, sizeof(x->pages));
	x->n_blocks = x->n_outs = 0;
	x->n_links = 1;
	x->at = x->first;
	x->epoch++;
}

static void empty_alone(struct soft_cpu *c)
{
	soft_exclusive_begin(c);
	pthread_mutex_lock(&c->eng->xl->lock);
	empty(c);
	pthread_mutex_unlock(&c->eng->xl->lock);
	soft_exclusive_end(c);
}

static void insert(struct soft_cpu *c, struct xl_block *b, struct soft_page *page)
{
	struct xl_cache *x = c->eng->xl;
	struct xl_block **slot = hash_slot(x, b->gpa, b->user);

	b->hash_next = *slot;
	*slot = b;
	slot = page_slot(x, b->gpa);
	b->page_next = *slot;
	*slot = b;
	atomic_fetch_add(&page->translated, 1);
}

/* With the lock held. *ret_full: there is no room for it. */
static struct xl_block *make(struct soft_cpu *c, const struct soft_block *b, bool *ret_full)
{
	struct xl_cache *x = c->eng->xl;
	static _Thread_local struct xl_tr t;
	struct soft_page *page = NULL;

	if (x->n_blocks == max_blocks(x)) {
		*ret_full = true;
		return NULL;
	}
	uint32_t n_outs = x->n_outs, n_links = x->n_links;
	struct xl_block *to = &x->blocks[x->n_blocks];

	(void)soft_ram(c->eng, b->gpa, &page);
	*to = (struct xl_block){ .gpa = b->gpa, .bytes = b->bytes, .user = c->cpl == 3 };
	t.c = c;
	t.x = x;
	t.b = b;
	t.to = to;
	t.e = (struct xl_code){ .at = x->at, .end = x->rw + x->bytes };
	t.f = (struct xl_flags){ .at = XF_HOST };
	t.n_slow = t.n_links = t.n_stacks = 0;
	t.full = false;
	if (!xl_translate(&t)) {
		*ret_full = t.e.at > t.e.end || x->n_outs == max_outs(x) || x->n_links == max_links(x);
		x->n_outs = n_outs;
		x->n_links = n_links;
		return NULL;
	}
	x->at = t.e.at;
	x->n_blocks++;
	insert(c, to, page);
	return to;
}

struct xl_block *xl_get(struct soft_cpu *c, const struct soft_block *b)
{
	struct xl_cache *x = c->eng->xl;
	struct xl_block *ret = NULL;
	bool full = false;

	for (unsigned tries = 0; tries < 2; tries++) {
		full = false;
		pthread_mutex_lock(&x->lock);
		ret = find(x, b->gpa, c->cpl == 3);
		ret = ret ? ret : make(c, b, &full);
		pthread_mutex_unlock(&x->lock);
		if (!full) {
			break;
		}
		empty_alone(c);
	}
	return ret;
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
