/* SPDX-License-Identifier: Apache-2.0 */
/* What is counted of translated code, added up; and its blocks by name, for perf. */
#include "vm/cpu/soft/xl-stats.h"

#include <stdio.h>

#include "base/clock.h"
#include "base/mem.h"
#include "sys/file.h"
#include "vm/cpu/soft/xl-parts.h"

static const struct {
	const char *group, *name;
} texts[] = {
#define XL__TEXT(name, group, text) [XC_##name] = { (group), (text) },
	XL_COUNTS(XL__TEXT)
};

struct xl_counts *xl_counts_new(void)
{
	const struct xl_counts *none = NULL;

	return mem_calloc(1, sizeof(*none) + insn_table_len * sizeof(none->by_row[0]));
}

/* --- Adding up --- */

struct rows {
	struct engine_stat *at;
	size_t n, max;
};

static struct engine_stat *row(struct rows *r, const char *group, uint64_t value)
{
	static struct engine_stat spare;
	struct engine_stat *s = r->n < r->max ? &r->at[r->n++] : &spare;

	*s = (struct engine_stat){ .group = group, .value = value };
	return s;
}

static void named(struct rows *r, const char *group, const char *name, uint64_t value)
{
	struct engine_stat *s = row(r, group, value);

	snprintf(s->name, sizeof(s->name), "%s", name);
}

static uint64_t get(const atomic_ullong *n)
{
	return atomic_load_explicit(n, memory_order_relaxed);
}

static uint64_t sum(const struct soft_engine *eng, enum xl_count what)
{
	uint64_t n = 0;

	for (unsigned i = 0; i < eng->n_cpus; i++) {
		n += eng->cpus[i] ? get(&eng->cpus[i]->counts->n[what]) : 0;
	}
	return n;
}

static uint64_t sum_row(const struct soft_engine *eng, size_t at)
{
	uint64_t n = 0;

	for (unsigned i = 0; i < eng->n_cpus; i++) {
		n += eng->cpus[i] ? get(&eng->cpus[i]->counts->by_row[at]) : 0;
	}
	return n;
}

static void interpreted(const struct soft_engine *eng, struct rows *r)
{
	uint64_t n = 0;

	for (unsigned i = 0; i < eng->n_cpus; i++) {
		/* Its thread may be adding to it: near enough. */
		n += eng->cpus[i] ? __atomic_load_n(&eng->cpus[i]->count, __ATOMIC_RELAXED) : 0;
	}
	named(r, "interpreted", "instructions of blocks", n);
}

/* As a form of the table: "mov 0f 22", "vex pext 0f38 f5". */
static void form_text(const struct insn_row *f, struct engine_stat *s)
{
	static const char *const maps[INSN_MAP__COUNT] = { "", "0f ", "0f38 ", "0f3a " };
	char reg[4] = "";

	if (f->reg) {
		snprintf(reg, sizeof(reg), " /%u", (unsigned)(f->reg - 1) & 7);
	}
	snprintf(s->name, sizeof(s->name), "%s%s %s%02x%s", f->enc == INSN_IS_VEX ? "vex " : "",
		 f->name, maps[f->map], f->opcode, reg);
}

/* The forms that are called most, each more often than those behind it. */
static void top(const struct soft_engine *eng, struct rows *r)
{
	size_t best[XL_TOP] = { 0 };
	uint64_t n[XL_TOP] = { 0 };

	for (size_t i = 0; i < insn_table_len; i++) {
		uint64_t v = sum_row(eng, i);
		size_t at = XL_TOP;

		while (at > 0 && v > n[at - 1]) {
			at--;
			if (at + 1 < XL_TOP) {
				n[at + 1] = n[at];
				best[at + 1] = best[at];
			}
			n[at] = v;
			best[at] = i;
		}
	}
	for (size_t k = 0; k < XL_TOP && n[k]; k++) {
		form_text(&insn_table[best[k]], row(r, "instructions not translated", n[k]));
	}
}

size_t xl_stats(struct engine *e, struct engine_stat *ret, size_t max)
{
	const struct soft_engine *eng = soft_engine(e);
	struct rows r = { .at = ret, .max = max };

	interpreted(eng, &r);
	for (unsigned i = 0; i < XC__COUNT; i++) {
		named(&r, texts[i].group, texts[i].name, sum(eng, (enum xl_count)i));
	}
	if (eng->xl) {
		struct xl_usage u;

		xl_usage(eng, &u);
		named(&r, "code cache", "bytes", u.bytes);
		named(&r, "code cache", "bytes in use", u.used);
		named(&r, "code cache", "blocks in use", u.blocks);
		named(&r, "code cache", "links in use", u.links);
		named(&r, "code cache", "blocks made stale by writes", u.stale);
		named(&r, "code cache", "segments emptied", u.emptied);
	}
	top(eng, &r);
	return r.n;
}

/* --- Of a block --- */

static void perf_line(const struct soft_engine *eng, uint32_t at, uint64_t bytes, const char *name)
{
	char line[128];
	int n = snprintf(line, sizeof(line), "%llx %llx %s\n",
			 (unsigned long long)(uintptr_t)xl_code_at(eng, at),
			 (unsigned long long)bytes, name);

	/* Or it is code without a name. */
	ignore_result(sys_write(eng->eng.conf.xl.perf_map_fd, line, (size_t)n));
}

void xl_perf_begin(const struct soft_engine *eng, size_t routines_bytes)
{
	if (eng->eng.conf.xl.perf_map_fd > 0) {
		/* Of an earlier boot. */
		ignore_result(sys_ftruncate(eng->eng.conf.xl.perf_map_fd, 0)); /* its lines stay */
		perf_line(eng, 0, routines_bytes, "translator:routines");
	}
}

static void perf_part(const struct xl_tr *t, const char *part, const uint8_t *begin,
		      const uint8_t *end)
{
	static const char *const kinds[] = { "kernel", "user", "direct", "loose" };
	char name[64];

	snprintf(name, sizeof(name), "guest-%s%s:%llx@%llx", kinds[t->to->kind], part,
		 (unsigned long long)t->c->s.rip, (unsigned long long)t->b->gpa);
	perf_line(t->c->eng, xl_off(t->x, begin), (uint64_t)(end - begin), name);
}

static void perf_block(const struct xl_tr *t)
{
	if (t->c->eng->eng.conf.xl.perf_map_fd > 0) {
		perf_part(t, "", t->line_begin, t->line_end);
		perf_part(t, "-ways", t->ways_begin, t->e.at);
	}
}

void xl_stats_translated(const struct xl_tr *t, uint64_t since_ns, bool done)
{
	atomic_ullong *n = t->c->counts->n;

	xl_add(&n[XC_NS], clock_now_ns() - since_ns);
	if (!done) {
		xl_add(&n[XC_REFUSED], 1);
		return;
	}
	xl_add(&n[XC_BLOCKS], 1);
	xl_add(&n[XC_GUEST_BYTES], t->to->bytes);
	xl_add(&n[XC_HOST_BYTES],
	       (uint64_t)(t->line_end - t->line_begin + t->e.at - t->ways_begin));
	perf_block(t);
}
