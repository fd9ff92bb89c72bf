/* SPDX-License-Identifier: Apache-2.0 */
#include "vm/replay-mem.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/mem.h"
#include "vm/replay-regs.h"

enum { PAGE_WORDS = GMEM_PAGE_BYTES / 8, LANES = 4, ENTRY_MAX = 10 + 4 };

static size_t slot_pages(const struct gmem_slot *s)
{
	return s->bytes >> GMEM_PAGE_SHIFT;
}

int mem_hash_init(struct mem_hash *m, struct gmem *mem, struct err *e)
{
	size_t n = gmem_bytes(mem) >> GMEM_PAGE_SHIFT;

	*m = (struct mem_hash){ .mem = mem, .pages = mem_calloc(n, sizeof(*m->pages)),
				.bits = mem_calloc((n + 63) / 64, sizeof(*m->bits)),
				.changed = mem_calloc(n, sizeof(*m->changed)) };
	int r = m->pages && m->bits && m->changed ? gmem_log_start(mem, e) : err_nomem(e);

	if (r < 0) {
		m->mem = NULL;
		mem_hash_fini(m);
	}
	return r;
}

void mem_hash_fini(struct mem_hash *m)
{
	if (m->mem) {
		gmem_log_stop(m->mem);
	}
	free(m->pages);
	free(m->bits);
	free(m->changed);
	*m = (struct mem_hash){ 0 };
}

/* Four rows of numbers side by side: each step of one waits for the one before it. */
static uint64_t page_hash(uint64_t gpa, const uint8_t *host)
{
	const uint64_t *page = (const uint64_t *)(const void *)host;
	uint64_t h[LANES] = { 1, 2, 3, 4 }, any = 0;

	for (size_t i = 0; i < PAGE_WORDS; i += LANES) {
		for (size_t k = 0; k < LANES; k++) {
			any |= page[i + k];
			h[k] = (h[k] ^ page[i + k]) * UINT64_C(0x9e3779b97f4a7c15);
			h[k] ^= h[k] >> 29;
		}
	}
	return any ? regs_hash(gpa, h, LANES) : 0;
}

static void look(struct mem_hash *m, const struct gmem_slot *s, size_t base, size_t page)
{
	uint64_t off = (uint64_t)page << GMEM_PAGE_SHIFT;
	uint64_t now = page_hash(s->first.raw + off, s->host + off);

	if (now != m->pages[base + page]) {
		m->sum ^= m->pages[base + page] ^ now;
		m->pages[base + page] = now;
		m->changed[m->n_changed++] = base + page;
	}
}

void mem_hash_update(struct mem_hash *m, bool all)
{
	size_t base = 0;

	m->n_changed = 0;
	for (unsigned i = 0; i < m->mem->n_slots; i++) {
		const struct gmem_slot *s = &m->mem->slots[i];
		size_t n = slot_pages(s);

		gmem_log_take(m->mem, i, m->bits);
		for (size_t w = 0; w < (n + 63) / 64; w++) {
			uint64_t bits = all ? UINT64_MAX : m->bits[w];

			for (; bits; bits &= bits - 1) {
				size_t page = 64 * w + (size_t)__builtin_ctzll(bits);

				if (page < n) {
					look(m, s, base, page);
				}
			}
		}
		base += n;
	}
}

/* --- What is kept of it: the distance to the last page, and half of the hash --- */

static size_t put_number(uint8_t *to, uint64_t v)
{
	size_t n = 0;

	for (; v >= 0x80; v >>= 7) {
		to[n++] = (uint8_t)(v | 0x80);
	}
	to[n++] = (uint8_t)v;
	return n;
}

size_t mem_hash_put(const struct mem_hash *m, uint8_t *ret, size_t room)
{
	uint64_t last = 0;
	size_t len = 0;

	for (size_t i = 0; i < m->n_changed && len + ENTRY_MAX <= room; i++) {
		uint32_t half = (uint32_t)m->pages[m->changed[i]];

		len += put_number(ret + len, m->changed[i] - last);
		last = m->changed[i];
		memcpy(ret + len, &half, sizeof(half));
		len += sizeof(half);
	}
	return len;
}

struct entry {
	uint64_t page;
	uint32_t half;
};

/* 1, 0 at the end, -EBADMSG. */
static int next_entry(const uint8_t **at, const uint8_t *end, struct entry *io)
{
	uint64_t v = 0;
	unsigned shift = 0;

	if (*at == end) {
		return 0;
	}
	do {
		if (*at == end || shift > 56) {
			return -EBADMSG;
		}
		v |= (uint64_t)(**at & 0x7f) << shift;
		shift += 7;
	} while (*(*at)++ & 0x80);
	if (end - *at < (ptrdiff_t)sizeof(io->half) || v > BIT(52)) {
		return -EBADMSG;
	}
	io->page += v;
	memcpy(&io->half, *at, sizeof(io->half));
	*at += sizeof(io->half);
	return 1;
}

static uint64_t address(const struct mem_hash *m, uint64_t page)
{
	for (unsigned i = 0; i < m->mem->n_slots; i++) {
		const struct gmem_slot *s = &m->mem->slots[i];

		if (page < slot_pages(s)) {
			return s->first.raw + (page << GMEM_PAGE_SHIFT);
		}
		page -= slot_pages(s);
	}
	return 0;
}

static void name(const struct mem_hash *m, uint64_t page, const char *why, struct mem_names *ret)
{
	size_t used = strlen(ret->text);

	/* A name that would be cut is left out, and all behind it. */
	if (used + 48 < sizeof(ret->text)) {
		ignore_result(snprintf(ret->text + used, sizeof(ret->text) - used, "%s0x%llx%s",
				       used ? ", " : "", (unsigned long long)address(m, page), why));
	}
	ret->pages++;
}

int mem_hash_differ(const struct mem_hash *m, const uint8_t *data, size_t len,
		    struct mem_names *ret)
{
	const uint8_t *at = data, *end = data + len;
	size_t n = gmem_bytes(m->mem) >> GMEM_PAGE_SHIFT, mine = 0;
	struct entry theirs = { 0 };
	int r = 0;

	*ret = (struct mem_names){ 0 };
	while ((r = next_entry(&at, end, &theirs)) > 0) {
		if (theirs.page >= n) {
			return -EBADMSG;
		}
		for (; mine < m->n_changed && m->changed[mine] < theirs.page; mine++) {
			name(m, m->changed[mine], " (changed here alone)", ret);
		}
		bool ours = mine < m->n_changed && m->changed[mine] == theirs.page;

		mine += ours;
		if ((uint32_t)m->pages[theirs.page] != theirs.half) {
			name(m, theirs.page, ours ? "" : " (changed there alone)", ret);
		}
	}
	/* Behind the last one that there was room for, nothing is known. */
	for (; r == 0 && len + ENTRY_MAX <= 65536 && mine < m->n_changed; mine++) {
		name(m, m->changed[mine], " (changed here alone)", ret);
	}
	return r;
}
