/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Records of the code cache: what is kept of a block beside its code while that is written, and
 * found again while it runs. They lie in the segment of the block and go with it.
 */
#include "vm/cpu/soft/xl-cache.h"

void *xl_record_new(struct xl_cache *x, size_t bytes, uint32_t *ret_index)
{
	struct xl_segment *g = xl_cache_now(x);
	size_t at = (size_t)x->now * x->segment_records + g->records;

	bytes = (bytes + XL_RECORD - 1) & ~(size_t)(XL_RECORD - 1);
	if (bytes > x->segment_records - g->records) {
		return NULL;
	}
	g->records += (uint32_t)bytes;
	*ret_index = (uint32_t)(at / XL_RECORD);
	return x->records + at;
}

/* --- Instructions for the interpreter --- */

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
	struct xl_block *b = xl_record_at(c->eng->xl, p->block);
	enum insn_mode mode = b->compat ? INSN_MODE_32 : INSN_MODE_64;
	int n = 0;

	*ret = (struct xl_out){ .end = out_end, .block = b, .packed = p, .off = p->off,
				.last = p->last, .place = p->place, .rest = p->rest };
	n = insn_parse(p->bytes, p->len, mode, &ret->insn);
	assert(n == p->len);
	xl_bind(c->eng, mode, &ret->insn);
}

const struct xl_out *xl_out_at(struct soft_cpu *c, uint32_t index)
{
	struct xl_out *o = &c->xl_outs->at[index * UINT32_C(0x9e3779b1) >> (32 - XL_OUTS_BITS)];
	uint32_t epoch = xl_cache_epoch(c->eng->xl);

	if (o->index != index || o->epoch != epoch) {
		unpack(c, xl_record_at(c->eng->xl, index), o);
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
		return xl_record_at(t->x, k->out);
	}
	o = xl_record_new(t->x, offsetof(struct xl_packed, bytes) + k->i.len, &k->out);
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

/* --- Of a block --- */

struct xl_link *xl_link_new(struct xl_tr *t, uint32_t *ret_index)
{
	struct xl_link *l = xl_record_new(t->x, sizeof(*l), ret_index);

	if (!l) {
		t->full = true;
		return NULL;
	}
	*l = (struct xl_link){ .of_next = t->to->out, .of = t->to };
	t->to->out = l;
	return l;
}

bool xl_across_new(struct xl_tr *t, uint64_t rip, unsigned *ret)
{
	uint32_t index = 0;
	struct xl_hold *h = xl_record_new(t->x, sizeof(*h), &index);

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

void xl_piece_new(struct xl_tr *t, uint64_t gpa, unsigned bytes)
{
	uint32_t index = 0;
	struct xl_block *p = NULL;

	if (gpa == t->to->gpa + t->to->bytes) {
		t->to->bytes = (uint16_t)(t->to->bytes + bytes);
		return;
	}
	p = xl_record_new(t->x, sizeof(*p), &index);
	if (!p) {
		t->full = true;
		return;
	}
	*p = (struct xl_block){ .gpa = gpa, .bytes = (uint16_t)bytes, .whole = t->to,
				.pieces = t->to->pieces };
	t->to->pieces = p;
}

void xl_sites_new(struct xl_tr *t)
{
	uint32_t index = 0;
	struct xl_site *sites = NULL;

	if (t->n_accesses == 0 || t->full) {
		return;
	}
	sites = xl_record_new(t->x, t->n_accesses * sizeof(*sites), &index);
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
	for (uint32_t chunk = off >> XL_CHUNK_SHIFT; ; chunk--) {
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
