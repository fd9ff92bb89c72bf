/* SPDX-License-Identifier: Apache-2.0 */
/* What a table says, for people: JSON of an object, and the table as a document. */
#include "state/table.h"

#include <inttypes.h>

static void dump_hex(const uint8_t *p, size_t n, struct buf *b)
{
	buf_add_char(b, '"');
	for (size_t i = 0; i < n; i++) {
		buf_printf(b, "%02x", p[i]);
	}
	buf_add_char(b, '"');
}

static void dump_element(const struct state_field *f, const void *s, uint32_t i, struct buf *b)
{
	if (f->kind == STATE_KIND_STRUCT) {
		state_dump(f->sub, (const uint8_t *)s + f->off + (size_t)i * f->elem, b);
	} else if (f->kind == STATE_KIND_BOOL) {
		buf_add_str(b, state__get(f, s, i) ? "true" : "false");
	} else {
		buf_printf(b, "%" PRIu64, state__get(f, s, i));
	}
}

static void dump_field(const struct state_field *f, const void *s, struct buf *b)
{
	uint32_t n = state__count(f, s);

	buf_printf(b, "\"%s\":", f->name);
	if (f->kind == STATE_KIND_BYTES) {
		dump_hex((const uint8_t *)s + f->off, n, b);
		return;
	}
	if (!f->array) {
		dump_element(f, s, 0, b);
		return;
	}
	buf_add_char(b, '[');
	for (uint32_t i = 0; i < n; i++) {
		buf_add_str(b, i ? "," : "");
		dump_element(f, s, i, b);
	}
	buf_add_char(b, ']');
}

void state_dump(const struct state_desc *d, const void *s, struct buf *b)
{
	bool first = true;

	buf_add_char(b, '{');
	for (size_t i = 0; i < d->n_fields; i++) {
		if (d->fields[i].kind != STATE_KIND_HOST_ONLY) {
			buf_add_str(b, first ? "" : ",");
			dump_field(&d->fields[i], s, b);
			first = false;
		}
	}
	buf_add_char(b, '}');
}

static void doc_type(const struct state_field *f, struct buf *b)
{
	if (f->kind == STATE_KIND_STRUCT) {
		buf_add_str(b, f->sub->name);
	} else {
		buf_add_str(b, state__kind_names[f->kind]);
	}
	if (f->array) {
		buf_printf(b, f->has_len ? "[0..%u]" : "[%u]", f->count);
	}
}

void state_doc(const struct state_desc *d, struct buf *b)
{
	buf_printf(b, "\n### %s\n\nVersion %u, reads from %u.\n\n", d->name, d->version, d->oldest);
	buf_add_str(b, "| id | field | type | values | since |\n| --- | --- | --- | --- | --- |\n");
	for (size_t i = 0; i < d->n_fields; i++) {
		const struct state_field *f = &d->fields[i];

		if (f->kind == STATE_KIND_HOST_ONLY) {
			continue;
		}
		buf_printf(b, "| %u | %s | ", f->id, f->name);
		doc_type(f, b);
		buf_add_str(b, " | ");
		if (f->min || f->max) {
			buf_printf(b, "%" PRIu64 "..", f->min);
			if (f->max) {
				buf_printf(b, "%" PRIu64, f->max);
			}
		}
		buf_printf(b, " | %u%s |\n", f->since ? f->since : 1,
			   f->optional ? ", optional" : "");
	}
	for (size_t i = 0; i < d->n_fields; i++) {
		if (d->fields[i].kind == STATE_KIND_HOST_ONLY) {
			buf_printf(b, "\nNot saved: `%s` (%s).", d->fields[i].name,
				   d->fields[i].why);
		}
	}
	buf_add_str(b, d->n_fields && d->fields[d->n_fields - 1].kind == STATE_KIND_HOST_ONLY ?
			       "\n" : "");
}
