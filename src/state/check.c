/* SPDX-License-Identifier: Apache-2.0 */
/* Is a table sound? For unit tests; the code that loads relies on it. */
#include "state/table.h"

#include <errno.h>

/* Bytes of a struct that a field accounts for. */
struct range {
	uint32_t    first, bytes, align;
	const char *name;
};

static int wrong(struct err *e, const struct state_desc *d, const char *name, const char *what)
{
	return err_set(e, EINVAL, ERR_INVALID, "%s.%s: %s", d->name, name, what);
}

static int check_bounds(const struct state_desc *d, const struct state_field *f, struct err *e)
{
	bool number = f->kind != STATE_KIND_BYTES && f->kind != STATE_KIND_STRUCT;
	uint64_t top = f->kind == STATE_KIND_BOOL ? 1 :
		       f->elem >= 8 ? UINT64_MAX : (UINT64_C(1) << f->elem * 8) - 1;
	uint64_t max = f->max ? f->max : top;

	if (!number && (f->min || f->max || f->dflt)) {
		return wrong(e, d, f->name, "bounds for what is no number");
	}
	if (number && (f->min > max || max > top)) {
		return wrong(e, d, f->name, "bounds that its type cannot hold");
	}
	if (number && (f->since > 1 || f->optional) && (f->dflt < f->min || f->dflt > max)) {
		return wrong(e, d, f->name, "a default that its bounds refuse");
	}
	return 0;
}

static int check_field(const struct state_desc *d, size_t i, struct err *e)
{
	const struct state_field *f = &d->fields[i];

	if (f->kind == STATE_KIND_HOST_ONLY) {
		return f->id == 0 && f->why && *f->why ? 0 : wrong(e, d, f->name, "no reason");
	}
	if (f->id == 0 || f->id > STATE_ID_MAX) {
		return wrong(e, d, f->name, "bad id");
	}
	if (f->bytes != f->count * f->elem || f->off + f->bytes > d->size) {
		return wrong(e, d, f->name, "its size is not that of its elements");
	}
	if (f->since > d->version) {
		return wrong(e, d, f->name, "newer than its table");
	}
	if ((f->kind == STATE_KIND_STRUCT) != (f->sub != NULL)) {
		return wrong(e, d, f->name, "a struct without a table");
	}
	if (f->sub && f->sub->size != f->elem) {
		return wrong(e, d, f->name, "a table of another struct");
	}
	for (size_t k = 0; k < i; k++) {
		if (d->fields[k].id == f->id || str_eq(d->fields[k].name, f->name)) {
			return wrong(e, d, f->name, "id or name is there twice");
		}
	}
	return check_bounds(d, f, e);
}

static int compare(const void *a, const void *b)
{
	const struct range *x = a, *y = b;

	return x->first < y->first ? -1 : x->first > y->first;
}

static uint32_t round_up(uint32_t v, uint32_t align)
{
	return (v + align - 1) / align * align;
}

/* No byte of the struct is left out, and none belongs to two members. */
static int check_exhaustive(const struct state_desc *d, struct err *e)
{
	struct range ranges[2 * STATE_FIELDS_MAX];
	size_t n = 0;
	uint32_t end = 0, align = 1;

	for (size_t i = 0; i < d->n_fields; i++) {
		const struct state_field *f = &d->fields[i];

		ranges[n++] = (struct range){ f->off, f->bytes, f->align, f->name };
		if (f->has_len) {
			ranges[n++] = (struct range){ f->len_off, 4, 4, f->name };
		}
	}
	qsort(ranges, n, sizeof(ranges[0]), compare);
	for (size_t i = 0; i < n; i++) {
		if (ranges[i].first < end) {
			return wrong(e, d, ranges[i].name, "overlaps the member before it");
		}
		if (round_up(end, ranges[i].align) != ranges[i].first) {
			return wrong(e, d, ranges[i].name, "a member before it is not described");
		}
		end = ranges[i].first + ranges[i].bytes;
		align = ranges[i].align > align ? ranges[i].align : align;
	}
	if (round_up(end, align) != d->size) {
		return wrong(e, d, n ? ranges[n - 1].name : "", "a member behind it is not described");
	}
	return 0;
}

static int check_depth(const struct state_desc *d, unsigned depth, struct err *e)
{
	if (depth > STATE_DEPTH_MAX) {
		return wrong(e, d, "", "nested too deeply");
	}
	if (!name_valid(d->name) || d->version == 0 || d->oldest == 0 || d->oldest > d->version ||
	    d->n_fields > STATE_FIELDS_MAX) {
		return wrong(e, d, "", "bad name, versions or number of fields");
	}
	for (size_t i = 0; i < d->n_fields; i++) {
		int r = check_field(d, i, e);

		if (r == 0 && d->fields[i].sub) {
			r = check_depth(d->fields[i].sub, depth + 1, e);
		}
		if (r < 0) {
			return r;
		}
	}
	return check_exhaustive(d, e);
}

int state_desc_check(const struct state_desc *d, struct err *e)
{
	return check_depth(d, 1, e);
}
