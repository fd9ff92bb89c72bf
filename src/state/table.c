/* SPDX-License-Identifier: Apache-2.0 */
/* Fields to bytes and back; docs/formats/state.md has the encoding. */
#include "state/table.h"

#include <errno.h>

const char *const state__kind_names[STATE_KIND__COUNT] = {
	[STATE_KIND_HOST_ONLY] = "host-only", [STATE_KIND_BOOL] = "bool",
	[STATE_KIND_U8] = "u8", [STATE_KIND_U16] = "u16", [STATE_KIND_U32] = "u32",
	[STATE_KIND_U64] = "u64", [STATE_KIND_ENUM] = "enum", [STATE_KIND_BYTES] = "bytes",
	[STATE_KIND_STRUCT] = "struct",
};

enum {
	FIELD_HEADER_BYTES = 8,     /* id and flags, kind, 0, length */
	ID_OPTIONAL = 0x8000,
};

static_assert(sizeof(bool) == 1, "a bool is saved as one byte");

void state__put_le(struct buf *b, uint64_t v, size_t bytes)
{
	uint8_t raw[8];

	for (size_t i = 0; i < bytes; i++) {
		raw[i] = (uint8_t)(v >> 8 * i);
	}
	buf_add(b, raw, bytes);
}

uint64_t state__get_le(const uint8_t *p, size_t bytes)
{
	uint64_t v = 0;

	for (size_t i = 0; i < bytes; i++) {
		v |= (uint64_t)p[i] << 8 * i;
	}
	return v;
}

static const uint8_t *at(const struct state_field *f, const void *s, uint32_t i)
{
	return (const uint8_t *)s + f->off + (size_t)i * f->elem;
}

static uint8_t *at_mut(const struct state_field *f, void *s, uint32_t i)
{
	return (uint8_t *)s + f->off + (size_t)i * f->elem;
}

/* Host values are in host order, which is little endian on every host that there is. */
static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "x86 hosts only");

uint64_t state__get(const struct state_field *f, const void *s, uint32_t i)
{
	return state__get_le(at(f, s, i), f->elem);
}

static void set(const struct state_field *f, void *s, uint32_t i, uint64_t v)
{
	memcpy(at_mut(f, s, i), &v, f->elem);
}

uint32_t state__count(const struct state_field *f, const void *s)
{
	uint32_t n;

	if (!f->has_len) {
		return f->count;
	}
	memcpy(&n, (const uint8_t *)s + f->len_off, sizeof(n));
	assert(n <= f->count);
	return n;
}

static void set_count(const struct state_field *f, void *s, uint32_t n)
{
	if (f->has_len) {
		memcpy((uint8_t *)s + f->len_off, &n, sizeof(n));
	}
}

/* --- Saving --- */

static void save_field(const struct state_field *f, const void *s, struct buf *b)
{
	uint32_t n = state__count(f, s);

	state__put_le(b, f->id | (f->optional ? ID_OPTIONAL : 0u), 2);
	state__put_le(b, (uint64_t)f->kind, 1);
	state__put_le(b, 0, 1);

	size_t len_at = b->len;

	state__put_le(b, 0, 4);
	if (f->kind != STATE_KIND_STRUCT) {
		buf_add(b, at(f, s, 0), (size_t)n * f->elem);
	}
	for (uint32_t i = 0; f->kind == STATE_KIND_STRUCT && i < n; i++) {
		size_t elem_at = b->len;

		state__put_le(b, 0, 4);
		state__put_le(b, f->sub->version, 2);
		state__save(f->sub, at(f, s, i), b);
		if (!buf_failed(b)) {
			uint32_t len = (uint32_t)(b->len - elem_at - 4);

			memcpy(b->data + elem_at, &len, 4);
		}
	}
	if (!buf_failed(b)) {
		uint32_t len = (uint32_t)(b->len - len_at - 4);

		memcpy(b->data + len_at, &len, 4);
	}
}

void state__save(const struct state_desc *d, const void *s, struct buf *b)
{
	for (size_t i = 0; i < d->n_fields; i++) {
		if (d->fields[i].kind != STATE_KIND_HOST_ONLY) {
			save_field(&d->fields[i], s, b);
		}
	}
}

/* --- Loading --- */

static uint64_t type_max(const struct state_field *f)
{
	if (f->kind == STATE_KIND_BOOL) {
		return 1;
	}
	return f->elem >= 8 ? UINT64_MAX : (UINT64_C(1) << f->elem * 8) - 1;
}

static int load_numbers(const struct state_desc *d, const struct state_field *f,
			const uint8_t *data, uint32_t n, void *s, struct err *e)
{
	uint64_t max = f->max ? f->max : type_max(f);

	for (uint32_t i = 0; i < n; i++) {
		uint64_t v = state__get_le(data + (size_t)i * f->elem, f->elem);

		if (v < f->min || v > max) {
			return err_set(e, EBADMSG, ERR_INVALID, "%s.%s: %llu is not in %llu..%llu",
				       d->name, f->name, (unsigned long long)v,
				       (unsigned long long)f->min, (unsigned long long)max);
		}
		set(f, s, i, v);
	}
	return 0;
}

/* One element: its table's version, and its fields. */
static int load_struct(const struct state_desc *sub, const uint8_t *data, size_t len, void *s,
		       struct err *e)
{
	uint16_t version = (uint16_t)state__get_le(data, 2);

	if (version < sub->oldest || version > sub->version) {
		return err_set(e, EBADMSG, ERR_UNSUPPORTED, "%s: version %u is not known here",
			       sub->name, version);
	}
	return state__load(sub, version, data + 2, len - 2, s, e);
}

static int load_structs(const struct state_desc *d, const struct state_field *f,
			const uint8_t *data, size_t len, void *s, uint32_t *ret_n, struct err *e)
{
	uint32_t n = 0;

	while (len > 0) {
		uint64_t elem = len < 4 ? 0 : state__get_le(data, 4);

		if (elem < 2 || elem > len - 4 || n == f->count) {
			return err_set(e, EBADMSG, ERR_INVALID, "%s.%s: bad length", d->name,
				       f->name);
		}
		int r = load_struct(f->sub, data + 4, elem, at_mut(f, s, n), e);

		if (r < 0) {
			return err_wrap(e, "%s.%s", d->name, f->name);
		}
		data += 4 + elem;
		len -= 4 + elem;
		n++;
	}
	*ret_n = n;
	return 0;
}

static int load_field(const struct state_desc *d, const struct state_field *f,
		      const uint8_t *data, size_t len, void *s, struct err *e)
{
	uint32_t n = 0;
	int r = 0;

	if (f->kind != STATE_KIND_STRUCT) {
		if (len % f->elem != 0 || len / f->elem > f->count) {
			return err_set(e, EBADMSG, ERR_INVALID, "%s.%s: bad length", d->name,
				       f->name);
		}
		n = (uint32_t)(len / f->elem);
	}
	memset(at_mut(f, s, 0), 0, f->kind == STATE_KIND_STRUCT ? 0 : f->bytes);
	if (f->kind == STATE_KIND_STRUCT) {
		r = load_structs(d, f, data, len, s, &n, e);
	} else if (f->kind == STATE_KIND_BYTES) {
		memcpy(at_mut(f, s, 0), data, len);
	} else {
		r = load_numbers(d, f, data, n, s, e);
	}
	if (r < 0) {
		return r;
	}
	if (!f->has_len && n != f->count) {
		return err_set(e, EBADMSG, ERR_INVALID, "%s.%s: %u elements of %u", d->name,
			       f->name, n, f->count);
	}
	set_count(f, s, n);
	return 0;
}

static void set_default(const struct state_field *f, void *s);

static void set_defaults(const struct state_desc *d, void *s)
{
	for (size_t i = 0; i < d->n_fields; i++) {
		if (d->fields[i].kind != STATE_KIND_HOST_ONLY) {
			set_default(&d->fields[i], s);
		}
	}
}

static void set_default(const struct state_field *f, void *s)
{
	uint32_t n = f->has_len ? 0 : f->count;

	if (f->kind != STATE_KIND_STRUCT) {
		memset(at_mut(f, s, 0), 0, f->bytes);
	}
	for (uint32_t i = 0; i < n; i++) {
		if (f->kind == STATE_KIND_STRUCT) {
			set_defaults(f->sub, at_mut(f, s, i));
		} else if (f->kind != STATE_KIND_BYTES) {
			set(f, s, i, f->dflt);
		}
	}
	set_count(f, s, n);
}

static int find(const struct state_desc *d, unsigned id)
{
	for (size_t i = 0; i < d->n_fields; i++) {
		if (d->fields[i].kind != STATE_KIND_HOST_ONLY && d->fields[i].id == id) {
			return (int)i;
		}
	}
	return -1;
}

/* The fields that the bytes have. */
static int load_present(const struct state_desc *d, const uint8_t *data, size_t len, void *s,
			bool *seen, struct err *e)
{
	while (len > 0) {
		unsigned tag = len < FIELD_HEADER_BYTES ? 0 : (unsigned)state__get_le(data, 2);
		unsigned id = tag & STATE_ID_MAX;
		uint64_t n = len < FIELD_HEADER_BYTES ? UINT64_MAX : state__get_le(data + 4, 4);

		if (len < FIELD_HEADER_BYTES || n > len - FIELD_HEADER_BYTES || id == 0 ||
		    (tag & ~(unsigned)(ID_OPTIONAL | STATE_ID_MAX)) || data[3] != 0) {
			return err_set(e, EBADMSG, ERR_INVALID, "%s: malformed field", d->name);
		}
		int i = find(d, id);

		if (i < 0 && !(tag & ID_OPTIONAL)) {
			return err_set(e, EBADMSG, ERR_UNSUPPORTED,
				       "%s: field %u is not known here", d->name, id);
		}
		if (i >= 0 && (seen[i] || data[2] != (uint8_t)d->fields[i].kind)) {
			return err_set(e, EBADMSG, ERR_INVALID, "%s.%s: %s", d->name,
				       d->fields[i].name, seen[i] ? "twice" : "another type");
		}
		if (i >= 0) {
			int r = load_field(d, &d->fields[i], data + FIELD_HEADER_BYTES, n, s, e);

			if (r < 0) {
				return r;
			}
			seen[i] = true;
		}
		data += FIELD_HEADER_BYTES + n;
		len -= FIELD_HEADER_BYTES + n;
	}
	return 0;
}

int state__load(const struct state_desc *d, uint16_t version, const uint8_t *data, size_t len,
		void *s, struct err *e)
{
	bool seen[STATE_FIELDS_MAX] = { false };

	assert(d->n_fields <= STATE_FIELDS_MAX);
	int r = load_present(d, data, len, s, seen, e);

	if (r < 0) {
		return r;
	}
	for (size_t i = 0; i < d->n_fields; i++) {
		const struct state_field *f = &d->fields[i];

		if (f->kind == STATE_KIND_HOST_ONLY || seen[i]) {
			continue;
		}
		if (f->since <= version && !f->optional) {
			return err_set(e, EBADMSG, ERR_INVALID, "%s.%s is missing", d->name,
				       f->name);
		}
		set_default(f, s);
	}
	return d->check ? d->check(s, e) : 0;
}

/* --- Between structs --- */

void state__copy(const struct state_desc *d, void *to, const void *from)
{
	for (size_t i = 0; i < d->n_fields; i++) {
		const struct state_field *f = &d->fields[i];

		if (f->kind == STATE_KIND_HOST_ONLY) {
			continue;
		}
		if (f->kind == STATE_KIND_STRUCT) {
			for (uint32_t k = 0; k < f->count; k++) {
				state__copy(f->sub, at_mut(f, to, k), at(f, from, k));
			}
		} else {
			memcpy(at_mut(f, to, 0), at(f, from, 0), f->bytes);
		}
		if (f->has_len) {
			set_count(f, to, state__count(f, from));
		}
	}
}

bool state_equal(const struct state_desc *d, const void *a, const void *b)
{
	for (size_t i = 0; i < d->n_fields; i++) {
		const struct state_field *f = &d->fields[i];

		if (f->kind == STATE_KIND_HOST_ONLY) {
			continue;
		}
		uint32_t n = state__count(f, a);

		if (n != state__count(f, b)) {
			return false;
		}
		for (uint32_t k = 0; k < n; k++) {
			if (f->kind == STATE_KIND_STRUCT ?
				    !state_equal(f->sub, at(f, a, k), at(f, b, k)) :
				    memcmp(at(f, a, k), at(f, b, k), f->elem) != 0) {
				return false;
			}
		}
	}
	return true;
}
