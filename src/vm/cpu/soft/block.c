/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Decoded blocks. Each vCPU has its own, so that nothing here is shared: what is shared is one
 * word for each page of RAM that says which vCPUs have decoded from it (struct soft_page). Who
 * writes to such a page drops his own blocks and posts to the others.
 *
 * A store may also go through a write tag that was made before the page had code. So whoever
 * decodes from a page says so, then has the tags dropped, waits, and only then looks whether the
 * bytes are still what he read; and who makes a tag says so first, then looks for code (access.c).
 * The words are sequentially consistent: one of the two sees the other.
 *
 * A page with code has no write tags, but stores to pieces of it of which no code was made are
 * like others (beside_code() in access.c): data beside code, and code that is written beside other
 * code, as those do who make theirs at run time.
 *
 * An instruction on two pages is looked for by its bytes each time it is interpreted, for either
 * page may be mapped anew or written to in between. A translation of it is guarded as others are.
 *
 * Blocks lie one behind another in the segments of an arena. When the last one is full the blocks
 * of the oldest go: what runs often is soon decoded again.
 */
#include <errno.h>
#include <sys/mman.h>

#include "base/mem.h"
#include "sys/map.h"
#include "vm/cpu/soft/priv.h"
#include "vm/cpu/soft/xl-shadow.h"
#include "vm/cpu/soft/xl.h"

enum {
	/* As many as the arena holds blocks: each step of a chain is a miss of the host's cache. */
	HASH_BITS = 17, PAGE_HASH_BITS = 14,
	PAGE_MASK = GMEM_PAGE_BYTES - 1,
	SEGMENTS = 12, SEGMENT_BYTES = 4 << 20, ARENA_BYTES = SEGMENTS * SEGMENT_BYTES,
	CROSS = 64,
	SHORT = 96,                    /* bytes that most blocks are within */
	/* What runs less often is not worth a translation. */
	HEAT = 12,
};

struct soft_blocks {
	struct soft_block *hash[1 << HASH_BITS];
	struct soft_block *pages[1 << PAGE_HASH_BITS];   /* valid blocks by page */
	uint8_t *arena;
	unsigned segment;              /* the one that is filled */
	size_t   used[SEGMENTS];
	uint8_t *cross;                /* blocks of one instruction on two pages */
	uint8_t  cross_bytes[CROSS][INSN_BYTES_MAX];   /* what they were decoded from */
};

static size_t block_bytes(unsigned n)
{
	/* Behind the last there is one more function, and no more of that instruction. */
	return (sizeof(struct soft_block) + n * sizeof(struct insn) + sizeof(insn_fn *) + 15) &
	       ~(size_t)15;
}

int soft_blocks_init(struct soft_cpu *c)
{
	c->blocks = mem_new(struct soft_blocks);
	if (!c->blocks) {
		return -ENOMEM;
	}
	c->blocks->cross = mem_calloc(CROSS, block_bytes(1));
	c->blocks->arena = mmap(NULL, ARENA_BYTES, PROT_READ | PROT_WRITE,
				MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (c->blocks->arena == MAP_FAILED) {
		c->blocks->arena = NULL;
	} else {
		/* Or slower. */
		ignore_result(sys_madvise(c->blocks->arena, ARENA_BYTES, MADV_HUGEPAGE));
	}
	return c->blocks->arena && c->blocks->cross ? 0 : -ENOMEM;
}

void soft_blocks_fini(struct soft_cpu *c)
{
	if (!c->blocks) {
		return;
	}
	if (c->blocks->arena) {
		munmap(c->blocks->arena, ARENA_BYTES);
	}
	free(c->blocks->cross);
	free(c->blocks);
	c->blocks = NULL;
}

static struct soft_block **hash_slot(struct soft_cpu *c, uint64_t gpa, unsigned mode)
{
	uint64_t h = (gpa ^ (uint64_t)mode << 40) * UINT64_C(0x9e3779b97f4a7c15);

	return &c->blocks->hash[h >> (64 - HASH_BITS)];
}

static struct soft_block **page_slot(struct soft_cpu *c, uint64_t gpa)
{
	uint64_t h = (gpa >> GMEM_PAGE_SHIFT) * UINT64_C(0x9e3779b97f4a7c15);

	return &c->blocks->pages[h >> (64 - PAGE_HASH_BITS)];
}

void soft_block_end(struct soft_cpu *c, const struct insn *i)
{
	uint64_t rip = soft_rip_after(c, i - 1);

	if (c->mode == INSN_MODE_64) {
		soft_go_linked(c, SOFT_ON, rip);
		return;
	}
	c->next_rip = rip;
}

/* In place of the instructions of a block that is no longer valid: on with the loop, at RIP. */
static void block_left(struct soft_cpu *c, const struct insn *i)
{
	c->at = i;
	c->fault_vector = SOFT_LEFT;
	siglongjmp(c->fault_jump, 1);
}

static void hash_remove(struct soft_cpu *c, struct soft_block *b)
{
	struct soft_block **p = hash_slot(c, b->gpa, b->mode);

	while (*p && *p != b) {
		p = &(*p)->hash_next;
	}
	if (*p) {
		*p = b->hash_next;
	}
}

static void page_remove(struct soft_cpu *c, struct soft_block *b)
{
	struct soft_block **p = page_slot(c, b->gpa);

	while (*p && *p != b) {
		p = &(*p)->page_next;
	}
	if (*p) {
		*p = b->page_next;
	}
}

static void invalidate(struct soft_cpu *c, struct soft_block *b)
{
	hash_remove(c, b);
	b->mode = SOFT_BLOCK_INVALID;
	for (unsigned i = 0; i < b->n; i++) {
		b->insns[i].fn = block_left;
	}
}

static struct soft_page *page_of(struct soft_cpu *c, uint64_t gpa)
{
	struct soft_page *page = NULL;

	(void)soft_ram(c->eng, gpa, &page);
	return page;
}

static bool same_page(uint64_t a, uint64_t b)
{
	return (a ^ b) >> GMEM_PAGE_SHIFT == 0;
}

/* With code_lock: this vCPU has no code there any more. */
static void page_leave(struct soft_cpu *c, struct soft_page *rec)
{
	/* What was translated by this vCPU may run on others: its bit says that there is code. */
	if (atomic_load(&rec->translated) == 0 &&
	    !(atomic_fetch_and(&rec->code, ~BIT(c->vcpu.id)) & ~BIT(c->vcpu.id))) {
		atomic_store(&rec->granules, 0);
	}
}

/*
 * Blocks of a page have gone. If this vCPU is the only one that has code there, what is left says
 * where the code is. With none left the page stays one with code for some stores more: code is
 * often made where code has been, and to take back its write tags takes long.
 */
static void page_settle(struct soft_cpu *c, uint64_t gpa, bool own_store)
{
	struct soft_page *rec = page_of(c, gpa);
	uint64_t left = 0;

	if (!rec || !(atomic_load(&rec->code) & BIT(c->vcpu.id))) {
		return;
	}
	for (const struct soft_block *b = *page_slot(c, gpa); b; b = b->page_next) {
		if (same_page(b->gpa, gpa)) {
			left |= soft_granules(b->gpa, b->guarded);
		}
	}
	pthread_mutex_lock(&c->eng->code_lock);
	if (atomic_load(&rec->code) == BIT(c->vcpu.id)) {
		atomic_store(&rec->granules, left | xl_granules(c->eng, gpa));
	}
	if (left == 0 && (!own_store || atomic_load(&rec->quiet) >= SOFT_QUIET)) {
		page_leave(c, rec);
	}
	pthread_mutex_unlock(&c->eng->code_lock);
}

/*
 * The jump tables know the block's translation no more, if it is stale or nothing will say so of
 * it. Once it had another one, which of the tables' are its own is not known.
 */
static void forget_translation(struct soft_cpu *c, struct soft_block *b, bool dropped)
{
	if (!c->eng->xl || b->xl_epoch != xl_epoch(c->eng)) {
		return;   /* as none */
	}
	if (b->xl_others) {
		unsigned off = b->gpa & PAGE_MASK;

		b->xl_others = false;
		xl_forget_offsets(c, off, off);
	} else if (b->xl && (dropped || b->xl->dead)) {
		xl_forget_block(c, b->xl);
		b->xl = NULL;
	}
}

/* May an instruction that is on this page and another one have bytes there? */
static bool at_edge(uint64_t gpa, size_t n)
{
	uint64_t off = gpa & PAGE_MASK;

	return off < INSN_BYTES_MAX - 1 || off + n > GMEM_PAGE_BYTES - (INSN_BYTES_MAX - 1);
}

void soft_blocks_drop_range(struct soft_cpu *c, uint64_t gpa, size_t n)
{
	struct soft_block **p = page_slot(c, gpa);
	const struct soft_page *rec = page_of(c, gpa);
	bool dropped = false, left = false;

	while (*p) {
		struct soft_block *b = *p;
		bool here = same_page(b->gpa, gpa);
		bool drop = here && gpa < b->gpa + b->bytes && b->gpa < gpa + n;

		/* A translation may be longer than its block. */
		if (here) {
			forget_translation(c, b, drop);
		}
		dropped |= drop;
		left |= here && !drop;
		if (drop) {
			*p = b->page_next;
			invalidate(c, b);
		} else {
			p = &b->page_next;
		}
	}
	/* What is on two pages is in no list, but it begins where a page ends. */
	if (rec && atomic_load(&rec->crossed) && at_edge(gpa, n)) {
		xl_forget_offsets(c, GMEM_PAGE_BYTES - INSN_BYTES_MAX + 1, GMEM_PAGE_BYTES - 1);
	}
	if (dropped || !left) {
		page_settle(c, gpa, n < GMEM_PAGE_BYTES);
	}
}

void soft_blocks_drop_page(struct soft_cpu *c, uint64_t gpa_page)
{
	soft_blocks_drop_range(c, gpa_page & ~(uint64_t)PAGE_MASK, GMEM_PAGE_BYTES);
}

void soft_blocks_drop_all(struct soft_cpu *c)
{
	struct soft_blocks *bs = c->blocks;

	for (size_t i = 0; i < ARRAY_LEN(bs->pages); i++) {
		for (struct soft_block *b = bs->pages[i]; b; b = b->page_next) {
			struct soft_page *rec = page_of(c, b->gpa);

			if (rec) {
				pthread_mutex_lock(&c->eng->code_lock);
				page_leave(c, rec);
				pthread_mutex_unlock(&c->eng->code_lock);
			}
			b->mode = SOFT_BLOCK_INVALID;
			for (unsigned k = 0; k < b->n; k++) {
				b->insns[k].fn = block_left;
			}
		}
		bs->pages[i] = NULL;
	}
	memset(bs->hash, 0, sizeof(bs->hash));
	memset(c->jump, 0, sizeof(c->jump));
	xl_forget(c, true);
	xl_forget(c, false);
	c->link = NULL;
}

void soft_code_written(struct soft_cpu *c, struct soft_page *page, uint64_t gpa, size_t n)
{
	uint64_t mask = 0;
	uint64_t granules = atomic_load_explicit(&page->granules, memory_order_relaxed);

	if (!(granules & soft_granules(gpa, n)) &&
	    atomic_load_explicit(&page->quiet, memory_order_relaxed) < SOFT_QUIET) {
		return;   /* beside the code */
	}
	/* The bytes are visible before it is looked who has code made of them. */
	atomic_thread_fence(memory_order_seq_cst);
	if (c->eng->xl) {
		xl_written(c->eng, gpa, n);
	}
	/* Only now: who comes later finds no old translation any more. */
	mask = atomic_load(&page->code);
	for (unsigned i = 0; mask; i++, mask >>= 1) {
		if (!(mask & 1)) {
			continue;
		}
		if (c && i == c->vcpu.id) {
			soft_blocks_drop_range(c, gpa, n);
		} else {
			soft_post_page(c->eng->cpus[i], gpa, SOFT_REQ_CODE);
		}
	}
}

/* Nobody has a write tag for the page any more, and others have looked what is code. */
static void stop_writers(struct soft_cpu *c, struct soft_page *page, uint64_t gpa)
{
	uint64_t self = BIT(c->vcpu.id), mask = atomic_load(&page->writers);

	shadow_drop_writes(c->eng, gpa);
	if (atomic_load(&page->tagged) & self) {
		soft_tlb_drop_writes_page(c, gpa);
		atomic_fetch_and(&page->tagged, ~self);
	}
	mask &= ~self;
	for (uint64_t m = mask; m; m &= m - 1) {
		soft_post_page(c->eng->cpus[__builtin_ctzll(m)], gpa, SOFT_REQ_WRITES);
	}
	for (uint64_t m = mask; m; m &= m - 1) {
		soft_wait_served(c, c->eng->cpus[__builtin_ctzll(m)]);
	}
}

/*
 * Say that there is code in n bytes, then see that nobody writes to them without telling. Who
 * waits answers others meanwhile: one that has just written there may take the word back, as there
 * is no block yet.
 */
static void protect(struct soft_cpu *c, struct soft_page *page, uint64_t gpa, size_t n)
{
	uint64_t self = BIT(c->vcpu.id), need = soft_granules(gpa, n);

	while (!(atomic_load(&page->code) & self) ||
	       (atomic_load(&page->granules) & need) != need) {
		pthread_mutex_lock(&c->eng->code_lock);
		atomic_fetch_or(&page->code, self);
		atomic_fetch_or(&page->granules, need);
		atomic_store(&page->quiet, 0);
		pthread_mutex_unlock(&c->eng->code_lock);
		stop_writers(c, page, gpa);
	}
}

/* Control may go elsewhere after it, or what comes after may be another mode's. */
static bool ends_block_1(const struct insn *i)
{
	switch (i->opcode) {
	case 0x17: case 0x8e: case 0x9a: case 0x9d: case 0xc2: case 0xc3: case 0xca: case 0xcb:
	case 0xcc: case 0xcd: case 0xce: case 0xcf: case 0xf1: case 0xf4: case 0xfb:
	case 0x6c: case 0x6d: case 0x6e: case 0x6f: case 0x07: case 0x1f: case 0xc4: case 0xc5: {
		return true;
	}
	case 0xa4: case 0xa5: case 0xa6: case 0xa7: case 0xaa: case 0xab: case 0xac: case 0xad:
	case 0xae: case 0xaf: {
		return (i->prefix & (INSN_REP | INSN_REPNE)) != 0;
	}
	case 0xff: {
		unsigned op = i->modrm >> 3 & 7;

		return op >= 2 && op <= 5;
	}
	default: {
		return (i->opcode >= 0x70 && i->opcode <= 0x7f) ||
		       (i->opcode >= 0xe0 && i->opcode <= 0xef);
	}
	}
}

static bool ends_block_0f(const struct insn *i)
{
	switch (i->opcode) {
	case 0x01: {
		return i->modrm != 0xca && i->modrm != 0xcb && i->modrm != 0xf8;
	}
	case 0x00: case 0x05: case 0x06: case 0x07: case 0x08: case 0x09: case 0x0b: case 0x20:
	case 0x21: case 0x22: case 0x23: case 0x30: case 0x31: case 0x32: case 0x33: case 0x34:
	case 0x35: case 0xa2: case 0xaa: case 0xb2: case 0xb9: case 0xff: {
		return true;
	}
	case 0xc7: {
		/* RDRAND and RDSEED, which in counted mode follow from the count. */
		return i->rm != INSN_NONE;
	}
	default: {
		return i->opcode >= 0x80 && i->opcode <= 0x8f;
	}
	}
}

bool soft_block_ends(const struct insn *i)
{
	if (i->prefix & INSN_VEX) {
		return false;
	}
	return i->map == INSN_MAP_1 ? ends_block_1(i)
	       : i->map == INSN_MAP_0F ? ends_block_0f(i)
	       : i->map == INSN_MAP_0F38 && i->opcode == 0x82;
}

void soft_block_last(struct insn *i)
{
	if (i->fn == insn_plain && soft_block_ends(i)) {
		i->fn = insn_plain_last;
	}
}

/* The block is complete: its last instruction, and what comes after it. */
static void finish(struct soft_block *b)
{
	soft_block_last(&b->insns[b->n - 1]);
	b->insns[b->n].fn = soft_block_end;
}

static void raise_ud(struct soft_cpu *c, const struct insn *i)
{
	c->at = i;
	soft_fault_no_error(c, CPU_UD);
}

static void raise_gp(struct soft_cpu *c, const struct insn *i)
{
	c->at = i;
	soft_fault(c, CPU_GP, 0);
}

/* One that cannot be: it raises its fault when its turn comes. */
static int decode_fault(int error, struct insn *ret)
{
	*ret = (struct insn){ .fn = error == -E2BIG ? raise_gp : raise_ud, .len = 1, .end = 1,
			      .rm = INSN_NONE, .base = INSN_NONE, .index = INSN_NONE };
	return 1;
}

int32_t soft_heat(const struct soft_cpu *c)
{
	unsigned after = c->eng->eng.conf.xl.after;

	return !c->eng->xl ? INT32_MAX : after == 0 ? HEAT :
	       (int32_t)MIN(after - 1, (unsigned)INT32_MAX);
}

static size_t cross_index(uint64_t gpa)
{
	return (gpa >> GMEM_PAGE_SHIFT) % CROSS;
}

static struct soft_block *cross_slot(struct soft_cpu *c, uint64_t gpa)
{
	return (struct soft_block *)(void *)(c->blocks->cross + cross_index(gpa) * block_bytes(1));
}

/* Do the last bytes of the page begin the instruction that is kept? It is a longer one, so they
 * say that one of theirs goes on in the next page, whatever is there. */
static bool known_cross(struct soft_cpu *c, uint64_t gpa, const uint8_t *host)
{
	size_t first = GMEM_PAGE_BYTES - (gpa & PAGE_MASK);
	const struct soft_block *b = cross_slot(c, gpa);

	return first < INSN_BYTES_MAX && b->cross && b->mode == c->mode && b->bytes > first &&
	       memcmp(host, c->blocks->cross_bytes[cross_index(gpa)], first) == 0;
}

/* One instruction that begins in this page and ends in the next. */
static struct soft_block *decode_cross(struct soft_cpu *c, uint64_t linear, uint64_t gpa)
{
	struct soft_block *b = cross_slot(c, gpa);
	uint8_t *known = c->blocks->cross_bytes[cross_index(gpa)];
	uint8_t bytes[INSN_BYTES_MAX] = { 0 };
	size_t first = GMEM_PAGE_BYTES - (gpa & PAGE_MASK);
	uint64_t next = linear + first;
	struct soft_page *page = NULL;
	const uint8_t *host = soft_ram(c->eng, gpa, &page);
	int n = 0;

	memcpy(bytes, host, first);
	if (c->mode == INSN_MODE_64 && !soft_canonical(next)) {
		soft_fault(c, CPU_GP, 0);
	}
	uint64_t gpa2 = soft_fetch_page(c, c->mode == INSN_MODE_64 ? next : next & UINT32_MAX);

	host = soft_ram(c->eng, gpa2, &page);
	if (!host) {
		soft_fault(c, CPU_GP, 0);
	}
	memcpy(bytes + first, host, INSN_BYTES_MAX - first);
	if (b->cross && b->mode == c->mode && memcmp(bytes, known, INSN_BYTES_MAX) == 0) {
		if (b->gpa != gpa || b->gpa2 != gpa2) {
			b->gpa = gpa;
			b->gpa2 = gpa2;
			b->xl = NULL;
		}
		return b;
	}
	memcpy(known, bytes, INSN_BYTES_MAX);
	*b = (struct soft_block){ .gpa = gpa, .n = 1, .mode = c->mode, .cross = true, .gpa2 = gpa2,
				   .heat = soft_heat(c) };
	n = insn_decode(bytes, INSN_BYTES_MAX, c->mode, &b->insns[0]);
	if (n <= 0) {
		n = decode_fault(n, &b->insns[0]);
	}
	b->bytes = (uint16_t)n;
	if (c->eng->counted) {
		soft_counted_bind(&b->insns[0]);
	}
	finish(b);
	return b;
}

bool soft_cross_guard(struct soft_cpu *c, const struct soft_block *b)
{
	size_t first = GMEM_PAGE_BYTES - (b->gpa & PAGE_MASK);
	const uint8_t *known = c->blocks->cross_bytes[cross_index(b->gpa)];
	struct soft_page *page[2] = { NULL };
	const uint8_t *host[2] = { soft_ram(c->eng, b->gpa, &page[0]),
				   soft_ram(c->eng, b->gpa2, &page[1]) };

	if (b->bytes <= first || !host[0] || !host[1]) {
		return false;
	}
	atomic_store(&page[0]->crossed, true);
	atomic_store(&page[1]->crossed, true);
	protect(c, page[0], b->gpa, first);
	protect(c, page[1], b->gpa2, INSN_BYTES_MAX - first);
	return memcmp(known, host[0], first) == 0 &&
	       memcmp(known + first, host[1], b->bytes - first) == 0;
}

static struct soft_block *at_segment(const struct soft_blocks *bs, unsigned segment, size_t off)
{
	return (struct soft_block *)(void *)(bs->arena + (size_t)segment * SEGMENT_BYTES + off);
}

static bool in_segment(const struct soft_blocks *bs, unsigned segment, const struct soft_block *b)
{
	uintptr_t first = (uintptr_t)(bs->arena + (size_t)segment * SEGMENT_BYTES);

	return (uintptr_t)b - first < SEGMENT_BYTES;
}

/* Nothing of the other segments leads to blocks of this one any more. */
static void unlink_segment(struct soft_blocks *bs, unsigned segment)
{
	for (unsigned s = 0; s < SEGMENTS; s++) {
		for (size_t off = 0; off < bs->used[s]; ) {
			struct soft_block *b = at_segment(bs, s, off);

			off += block_bytes(b->n);
			for (unsigned way = 0; way < SOFT_WAY__COUNT; way++) {
				if (in_segment(bs, segment, b->link[way])) {
					b->link[way] = NULL;
				}
			}
		}
	}
}

static void empty_segment(struct soft_cpu *c, unsigned segment)
{
	struct soft_blocks *bs = c->blocks;

	for (size_t off = 0; off < bs->used[segment]; ) {
		struct soft_block *b = at_segment(bs, segment, off);

		off += block_bytes(b->n);
		if (b->mode != SOFT_BLOCK_INVALID) {
			hash_remove(c, b);
			page_remove(c, b);
			page_settle(c, b->gpa, false);
		}
	}
	bs->used[segment] = 0;
	unlink_segment(bs, segment);
	memset(c->jump, 0, sizeof(c->jump));
	xl_forget(c, true);
	xl_forget(c, false);
	c->link = NULL;
}

/* Room for a block of any length. */
static void make_room(struct soft_cpu *c)
{
	struct soft_blocks *bs = c->blocks;

	if (bs->used[bs->segment] + block_bytes(SOFT_BLOCK_INSNS) <= SEGMENT_BYTES) {
		return;
	}
	bs->segment = (bs->segment + 1) % SEGMENTS;
	if (bs->used[bs->segment] != 0) {
		empty_segment(c, bs->segment);
	}
}

/* Instructions up to the end of the bytes, or of the block. */
static void decode_insns(struct soft_cpu *c, struct soft_block *b, const uint8_t *bytes,
			 size_t left)
{
	while (b->n < SOFT_BLOCK_INSNS && b->bytes < left) {
		struct insn *i = &b->insns[b->n];
		size_t room = MIN(left - b->bytes, (size_t)INSN_BYTES_MAX);
		int n = insn_decode(bytes + b->bytes, room, c->mode, i);

		if (n == 0) {
			return;
		}
		if (n < 0) {
			if (b->n == 0) {
				b->bytes = (uint16_t)decode_fault(n, i);
				/* Bytes that decided this may be any up to the longest's. */
				b->bytes = (uint16_t)room;
				b->n = 1;
			}
			return;
		}
		if (c->eng->counted) {
			soft_counted_bind(i);
		}
		b->n++;
		b->bytes = (uint16_t)(b->bytes + n);
		i->end = b->bytes;
		if (soft_block_ends(i)) {
			return;
		}
	}
}

/*
 * Decode up to the end of the page, or of the block. NULL: not even one is in the page. How long
 * the block is follows from its bytes: they are read, then their stores are to be seen, then they
 * must still be what they were. Few at first: most blocks are short, and others' bytes are not in
 * the host's cache.
 */
static struct soft_block *decode(struct soft_cpu *c, struct soft_page *page, uint64_t gpa,
				 const uint8_t *host)
{
	struct soft_blocks *bs = c->blocks;
	size_t left = GMEM_PAGE_BYTES - (gpa & PAGE_MASK);
	struct soft_block *b = NULL;
	uint8_t bytes[SOFT_BLOCK_INSNS * INSN_BYTES_MAX];
	size_t most = MIN(left, sizeof(bytes));

	make_room(c);
	b = at_segment(bs, bs->segment, bs->used[bs->segment]);
	for (size_t n = MIN(most, (size_t)SHORT); ; n = most) {
		soft_copy_whole(bytes, host, n);
		*b = (struct soft_block){ .gpa = gpa, .mode = c->mode, .heat = soft_heat(c) };
		decode_insns(c, b, bytes, n);
		if (n < most && b->bytes + (size_t)INSN_BYTES_MAX > n) {
			continue;
		}
		if (b->n == 0) {
			return NULL;
		}
		b->guarded = (uint16_t)MIN(b->bytes + (size_t)INSN_BYTES_MAX, left);
		protect(c, page, gpa, b->guarded);
		if (memcmp(bytes, host, b->bytes) == 0) {
			break;
		}
	}
	finish(b);
	bs->used[bs->segment] += block_bytes(b->n);
	return b;
}

struct soft_block *soft_block_at(struct soft_cpu *c, uint64_t gpa)
{
	struct soft_block *b = *hash_slot(c, gpa, c->mode);

	while (b && (b->gpa != gpa || b->mode != c->mode)) {
		b = b->hash_next;
	}
	return b;
}

struct soft_block *soft_block_find(struct soft_cpu *c, uint64_t linear)
{
	uint64_t gpa = soft_fetch_page(c, linear) | (linear & PAGE_MASK);
	struct soft_block **slot = NULL, *b = soft_block_at(c, gpa);
	struct soft_page *page = NULL;
	const uint8_t *host = NULL;

	if (b) {
		return b;
	}
	host = soft_ram(c->eng, gpa, &page);
	if (!host) {
		/* Nothing runs from a device's registers. */
		soft_fault(c, CPU_GP, 0);
	}
	if (known_cross(c, gpa, host)) {
		return decode_cross(c, linear, gpa);
	}
	b = decode(c, page, gpa, host);
	if (!b) {
		return decode_cross(c, linear, gpa);
	}
	slot = hash_slot(c, gpa, c->mode);
	b->hash_next = *slot;
	*slot = b;
	slot = page_slot(c, gpa);
	b->page_next = *slot;
	*slot = b;
	return b;
}

unsigned soft_block_rest(const struct soft_cpu *c)
{
	const struct soft_block *b = c->running;
	uint64_t rip = c->running_rip;

	for (unsigned i = 0; b && i < c->running_n; i++) {
		if (rip == c->s.rip) {
			return c->running_n - i;
		}
		rip += b->insns[i].len;
	}
	return 0;
}
