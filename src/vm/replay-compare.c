/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Two recordings side by side, without a machine. What reached the guest has to be the same, in
 * the same order; of checks, those that both have at one point.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/fd.h"
#include "base/mem.h"
#include "vm/replay-check.h"
#include "vm/replay.h"

struct side {
	struct rlog_reader *in;
	struct rlog_rec     rec;
	int                 has;        /* rec: 1, 0 at the end, or -errno */
	struct check_chain  chain;
};

static int advance(struct side *s, struct err *e)
{
	s->has = rlog_next(s->in, &s->rec, e);
	return s->has;
}

static int bad_check(struct err *e)
{
	return err_set(e, EBADMSG, ERR_INVALID, "the recording is damaged: a check");
}

static bool is_check(const struct side *s)
{
	return s->has > 0 && (s->rec.type == RLOG_CHECK || s->rec.type == RLOG_PAGES);
}

/* One that stands alone: it is only kept. */
static int take(struct side *s, struct err *e)
{
	if (s->rec.type == RLOG_CHECK && check_take(&s->chain, &s->rec, VM_VCPUS_MAX) < 0) {
		return bad_check(e);
	}
	return advance(s, e) < 0 ? -e->errnum : 0;
}

static int cmp_pos(const struct rlog_rec *a, const struct rlog_rec *b)
{
	return a->insns != b->insns ? (a->insns < b->insns ? -1 : 1) :
	       a->events != b->events ? (a->events < b->events ? -1 : 1) : 0;
}

/* Their seeds and the spacing of their checks may be others. */
static bool same_record(const struct rlog_rec *a, const struct rlog_rec *b)
{
	if (a->type != b->type || a->type == RLOG_MACHINE) {
		return a->type == b->type;
	}
	/* The points of others are those of whatever was before them. */
	bool has_pos = a->type == RLOG_AT || a->type == RLOG_END;

	return (!has_pos || cmp_pos(a, b) == 0) && a->space == b->space &&
	       a->bytes == b->bytes && a->cpu == b->cpu && a->addr == b->addr &&
	       (a->value == b->value || a->type == RLOG_END) && a->len == b->len &&
	       (a->len == 0 || memcmp(a->data, b->data, a->len) == 0);
}

/* Both stand at a check of registers of the same point. 1: the same. */
static int same_check(struct side *a, struct side *b, struct replay_difference *ret, struct err *e)
{
	unsigned cpu = a->rec.cpu;

	if (check_take(&a->chain, &a->rec, VM_VCPUS_MAX) < 0 ||
	    check_take(&b->chain, &b->rec, VM_VCPUS_MAX) < 0) {
		return bad_check(e);
	}
	if (cpu == b->rec.cpu && memcmp(a->chain.last[cpu], b->chain.last[cpu],
					sizeof(a->chain.last[cpu])) == 0) {
		ret->same_insns = a->rec.insns;
		ret->checks++;
		return advance(a, e) < 0 || advance(b, e) < 0 ? -e->errnum : 1;
	}
	ignore_result(snprintf(ret->text, sizeof(ret->text), "after %llu instructions and %llu events "
			       "vCPU %u has %s", (unsigned long long)a->rec.insns,
			       (unsigned long long)a->rec.events, cpu, cpu != b->rec.cpu ?
			       "its turn, and another one has it in the second" :
			       check_names(b->chain.last[cpu], a->chain.last[cpu]).text)); /* cut is fine */
	return 0;
}

/* Over what one has alone, up to where both have something. 1: both stand at a check. */
static int line_up(struct side *a, struct side *b, struct err *e)
{
	for (;;) {
		bool ca = is_check(a), cb = is_check(b);
		int d = ca && cb ? cmp_pos(&a->rec, &b->rec) : ca ? -1 : 1;

		if (!ca && !cb) {
			return 0;
		}
		if (d == 0 && a->rec.type == b->rec.type) {
			return 1;
		}
		/* At one point registers come before pages. */
		d = d ? d : a->rec.type == RLOG_CHECK ? -1 : 1;

		int r = take(d < 0 ? a : b, e);

		if (r < 0) {
			return r;
		}
	}
}

static int same_pages(struct side *a, struct side *b, struct replay_difference *ret, struct err *e)
{
	if (a->rec.value != b->rec.value) {
		ignore_result(snprintf(ret->text, sizeof(ret->text), "after %llu instructions and %llu "
				       "events memory is not the same",
				       (unsigned long long)a->rec.insns,
				       (unsigned long long)a->rec.events)); /* short */
		return 0;
	}
	return take(a, e) < 0 || take(b, e) < 0 ? -e->errnum : 1;
}

/* 1: the same, go on; 0: not, or both have ended. */
static int step(struct side *a, struct side *b, struct replay_difference *ret, struct err *e)
{
	int r = line_up(a, b, e);

	if (r < 0) {
		return r;
	}
	if (r > 0) {
		return a->rec.type == RLOG_PAGES ? same_pages(a, b, ret, e) :
						   same_check(a, b, ret, e);
	}
	if (a->has == 0 && b->has == 0) {
		return 0;
	}
	if (a->has && b->has && same_record(&a->rec, &b->rec)) {
		return advance(a, e) < 0 || advance(b, e) < 0 ? -e->errnum : 1;
	}
	int n = snprintf(ret->text, sizeof(ret->text), "the first has %s, the second %s",
			 rlog_words(a->has ? &a->rec : NULL).text,
			 rlog_words(b->has ? &b->rec : NULL).text); /* short */

	if (a->has && b->has && a->rec.type == b->rec.type) {
		ignore_result(snprintf(ret->text + n, sizeof(ret->text) - (size_t)n,
				       "; the values are 0x%llx and 0x%llx",
				       (unsigned long long)a->rec.value,
				       (unsigned long long)b->rec.value)); /* as above */
	}
	return 0;
}

static void side_fini(struct side *s)
{
	ignore_result(rlog_reader_free(s->in)); /* NULL */
}

int replay_compare(int own_a, int own_b, struct replay_difference *ret, struct err *e)
{
	struct side *sides = mem_calloc(2, sizeof(*sides));

	if (!sides) {
		fd_close(&own_a);
		fd_close(&own_b);
		return err_nomem(e);
	}
	*ret = (struct replay_difference){ 0 };
	int r = rlog_reader_new(own_a, &sides[0].in, e);
	int other = rlog_reader_new(own_b, &sides[1].in, r < 0 ? &(struct err)ERR_INIT : e);

	r = r < 0 ? r : other;
	r = r < 0 ? r : advance(&sides[0], e);
	r = r < 0 ? r : advance(&sides[1], e);
	while (r >= 0 && (r = step(&sides[0], &sides[1], ret, e)) > 0) {
	}
	side_fini(&sides[0]);
	side_fini(&sides[1]);
	free(sides);
	return r < 0 ? r : ret->text[0] == '\0';
}
