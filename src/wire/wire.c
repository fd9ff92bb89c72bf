/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Tables to bytes and back. Everything read is checked against what is left of its container
 * (body, field) before it is touched; nothing is sized by a number from outside but copies of
 * bytes that have already arrived.
 */
#include "wire/wire.h"

#include <errno.h>
#include <string.h>

#include "base/fd.h"
#include "base/mem.h"

enum { STRV_ITEM_MAX = 65536 };

static void put16(struct buf *b, uint16_t v)
{
	uint8_t p[2] = { (uint8_t)(v & 0xff), (uint8_t)(v >> 8) };

	buf_add(b, p, sizeof(p));
}

static void put32(struct buf *b, uint32_t v)
{
	put16(b, (uint16_t)(v & 0xffff));
	put16(b, (uint16_t)(v >> 16));
}

static void put64(struct buf *b, uint64_t v)
{
	put32(b, (uint32_t)(v & UINT32_MAX));
	put32(b, (uint32_t)(v >> 32));
}

static uint16_t get16(const uint8_t *p)
{
	return (uint16_t)(p[0] | p[1] << 8);
}

static uint32_t get32(const uint8_t *p)
{
	return (uint32_t)get16(p) | (uint32_t)get16(p + 2) << 16;
}

static uint64_t get64(const uint8_t *p)
{
	return (uint64_t)get32(p) | (uint64_t)get32(p + 4) << 32;
}

void wire_frame_fini(struct wire_frame *f)
{
	for (size_t i = 0; i < f->n_fds; i++) {
		fd_close(&f->fds[i]);
	}
	f->n_fds = 0;
}

static void put_field(struct buf *b, uint16_t id, const void *data, size_t len)
{
	put16(b, id);
	put16(b, 0);
	put32(b, (uint32_t)len);
	buf_add(b, data, len);
}

static void put_number(struct buf *b, uint16_t id, uint64_t v, size_t len)
{
	put16(b, id);
	put16(b, 0);
	put32(b, (uint32_t)len);
	if (len == 1) {
		buf_add_char(b, (char)v);
	} else if (len == 4) {
		put32(b, (uint32_t)v);
	} else {
		put64(b, v);
	}
}

static int put_strv(struct buf *b, const struct wire_field *f, const struct strv *v)
{
	if (v->n > f->max) {
		return -EMSGSIZE;
	}
	for (size_t i = 0; i < v->n; i++) {
		size_t len = strlen(v->v[i]);

		if (len > STRV_ITEM_MAX) {
			return -EMSGSIZE;
		}
		put_field(b, f->id, v->v[i], len);
	}
	return 0;
}

/* Absent values (zero, NULL, -1) of fields that are not required are left out. */
static int encode_field(const struct wire_field *f, const void *p, struct buf *b, int *fds,
			size_t *n_fds)
{
	bool always = f->flags & WIRE_REQUIRED;
	const char *s;
	const struct wire_bytes *bytes;

	switch (f->kind) {
	case WIRE_BOOL:
		if (*(const bool *)p || always) {
			put_number(b, f->id, *(const bool *)p, 1);
		}
		return 0;
	case WIRE_U32:
	case WIRE_I32:
		if (*(const uint32_t *)p || always) {
			put_number(b, f->id, *(const uint32_t *)p, 4);
		}
		return 0;
	case WIRE_U64:
		if (*(const uint64_t *)p || always) {
			put_number(b, f->id, *(const uint64_t *)p, 8);
		}
		return 0;
	case WIRE_STR:
		s = *(const char *const *)p;
		if (!s) {
			return always ? -EINVAL : 0;
		}
		if (strlen(s) > f->max) {
			return -EMSGSIZE;
		}
		put_field(b, f->id, s, strlen(s));
		return 0;
	case WIRE_BYTES:
		bytes = p;
		if (bytes->len > f->max) {
			return -EMSGSIZE;
		}
		if (bytes->len > 0 || always) {
			put_field(b, f->id, bytes->data, bytes->len);
		}
		return 0;
	case WIRE_STRV:
		return put_strv(b, f, p);
	case WIRE_FD:
		if (*(const int *)p < 0) {
			return always ? -EINVAL : 0;
		}
		if (*n_fds == WIRE_FDS_MAX) {
			return -EMSGSIZE;
		}
		put_number(b, f->id, *n_fds, 1);
		fds[(*n_fds)++] = *(const int *)p;
		return 0;
	case WIRE_KIND__COUNT:
		break;
	}
	return -EINVAL;
}

int wire_encode(const struct wire_msg *m, uint16_t version, uint32_t serial, const void *msg,
		struct buf *ret, int *ret_fds, size_t *ret_n_fds)
{
	auto_buf struct buf body = BUF_INIT;
	size_t n_fds = 0;

	for (size_t i = 0; i < m->n_fields; i++) {
		const struct wire_field *f = &m->fields[i];
		int r = encode_field(f, (const char *)msg + f->off, &body, ret_fds, &n_fds);

		if (r < 0) {
			return r;
		}
	}
	if (buf_failed(&body)) {
		return -ENOMEM;
	}
	if (body.len > WIRE_FRAME_MAX - WIRE_HEADER_BYTES) {
		return -EMSGSIZE;
	}
	put32(ret, (uint32_t)(body.len + WIRE_HEADER_BYTES));
	put16(ret, m->type);
	put16(ret, version);
	put32(ret, serial);
	put16(ret, (uint16_t)n_fds);
	put16(ret, 0);
	buf_add(ret, body.data, body.len);
	*ret_n_fds = n_fds;
	return buf_failed(ret) ? -ENOMEM : 0;
}

static int bad(const struct wire_msg *m, const char *field, const char *what, struct err *e)
{
	int r = err_set(e, EBADMSG, ERR_INVALID, "message %s: %s", m->name, what);

	err_prefix_field(e, field);
	return r;
}

static const struct wire_field *find_field(const struct wire_msg *m, uint16_t id)
{
	for (size_t i = 0; i < m->n_fields; i++) {
		if (m->fields[i].id == id) {
			return &m->fields[i];
		}
	}
	return NULL;
}

static bool in_range(const struct wire_field *f, uint64_t v)
{
	return (f->min == 0 && f->max == 0) || (v >= f->min && v <= f->max);
}

/* A string: bounded, no NUL inside. */
static int copy_text(const struct wire_msg *m, const struct wire_field *f, const uint8_t *v,
		     size_t len, size_t max, char **ret, struct err *e)
{
	if (len > max || len < f->min) {
		return bad(m, f->name, "a text of a wrong length", e);
	}
	if (len > 0 && memchr(v, '\0', len)) {
		return bad(m, f->name, "a NUL in a text", e);
	}
	*ret = str_ndup((const char *)v, len);
	return *ret ? 0 : err_nomem(e);
}

static int decode_number(const struct wire_msg *m, const struct wire_field *f, const uint8_t *v,
			 size_t len, void *p, struct err *e)
{
	size_t want = f->kind == WIRE_BOOL ? 1 : f->kind == WIRE_U64 ? 8 : 4;

	if (len != want) {
		return bad(m, f->name, "a number of a wrong length", e);
	}
	uint64_t n = want == 1 ? v[0] : want == 4 ? get32(v) : get64(v);

	if (f->kind == WIRE_BOOL ? n > 1 : f->kind != WIRE_I32 && !in_range(f, n)) {
		return bad(m, f->name, "a number out of its range", e);
	}
	if (want == 1) {
		*(bool *)p = n != 0;
	} else if (want == 4) {
		*(uint32_t *)p = (uint32_t)n;
	} else {
		*(uint64_t *)p = n;
	}
	return 0;
}

static int decode_strv(const struct wire_msg *m, const struct wire_field *f, const uint8_t *v,
		       size_t len, struct strv *p, struct err *e)
{
	auto_free char *s = NULL;
	const struct wire_field item = { .name = f->name };

	if (p->n >= f->max) {
		return bad(m, f->name, "too many texts", e);
	}
	int r = copy_text(m, &item, v, len, STRV_ITEM_MAX, &s, e);

	if (r == 0 && strv_add(p, s) < 0) {
		r = err_nomem(e);
	}
	return r;
}

static int decode_fd(const struct wire_msg *m, const struct wire_field *f, const uint8_t *v,
		     size_t len, struct wire_frame *frame, int *p, struct err *e)
{
	if (len != 1 || v[0] >= frame->n_fds || frame->fds[v[0]] < 0) {
		return bad(m, f->name, "no such descriptor came along", e);
	}
	*p = take_fd(&frame->fds[v[0]]);
	return 0;
}

static int decode_field(const struct wire_msg *m, const struct wire_field *f, const uint8_t *v,
			size_t len, struct wire_frame *frame, void *p, struct err *e)
{
	struct wire_bytes *bytes;

	switch (f->kind) {
	case WIRE_BOOL:
	case WIRE_U32:
	case WIRE_I32:
	case WIRE_U64:
		return decode_number(m, f, v, len, p, e);
	case WIRE_STR:
		return copy_text(m, f, v, len, f->max, p, e);
	case WIRE_BYTES:
		bytes = p;
		if (len > f->max || len < f->min) {
			return bad(m, f->name, "bytes of a wrong length", e);
		}
		bytes->data = mem_dup(v, len);
		bytes->len = len;
		return bytes->data ? 0 : err_nomem(e);
	case WIRE_STRV:
		return decode_strv(m, f, v, len, p, e);
	case WIRE_FD:
		return decode_fd(m, f, v, len, frame, p, e);
	case WIRE_KIND__COUNT:
		break;
	}
	return bad(m, f->name, "unknown kind", e);
}

static int check_required(const struct wire_msg *m, uint64_t seen, struct err *e)
{
	for (size_t i = 0; i < m->n_fields; i++) {
		if ((m->fields[i].flags & WIRE_REQUIRED) && !(seen & BIT(i))) {
			return bad(m, m->fields[i].name, "a required field is missing", e);
		}
	}
	return 0;
}

/* One TLV at *pos of the body. */
static int decode_next(const struct wire_msg *m, struct wire_frame *frame, size_t *pos,
		       uint64_t *seen, void *ret, struct err *e)
{
	const uint8_t *p = frame->body + *pos;
	size_t left = frame->body_len - *pos;

	if (left < WIRE_FIELD_BYTES) {
		return bad(m, "", "a cut field", e);
	}
	uint16_t id = get16(p);
	size_t len = get32(p + 4);
	const struct wire_field *f = find_field(m, id);

	if (get16(p + 2) != 0 || len > left - WIRE_FIELD_BYTES) {
		return bad(m, f ? f->name : "", "a malformed field", e);
	}
	*pos += WIRE_FIELD_BYTES + len;
	if (!f) {
		return id & WIRE_MUST_KNOW ? bad(m, "", "a field that must be known is not", e) : 0;
	}

	uint64_t bit = BIT(f - m->fields);

	if ((*seen & bit) && f->kind != WIRE_STRV) {
		return bad(m, f->name, "a field given twice", e);
	}
	*seen |= bit;
	return decode_field(m, f, p + WIRE_FIELD_BYTES, len, frame, (char *)ret + f->off, e);
}

int wire_decode(const struct wire_msg *m, struct wire_frame *frame, void *ret, struct err *e)
{
	uint64_t seen = 0;
	size_t pos = 0;
	int r = 0;

	wire_msg_init(m, ret);
	while (r == 0 && pos < frame->body_len) {
		r = decode_next(m, frame, &pos, &seen, ret, e);
	}
	if (r == 0) {
		r = check_required(m, seen, e);
	}
	wire_frame_fini(frame);
	return r;
}

void wire_msg_init(const struct wire_msg *m, void *msg)
{
	memset(msg, 0, m->size);
	for (size_t i = 0; i < m->n_fields; i++) {
		void *p = (char *)msg + m->fields[i].off;

		if (m->fields[i].kind == WIRE_FD) {
			*(int *)p = -1;
		}
	}
}

void wire_msg_fini(const struct wire_msg *m, void *msg)
{
	for (size_t i = 0; i < m->n_fields; i++) {
		void *p = (char *)msg + m->fields[i].off;

		switch (m->fields[i].kind) {
		case WIRE_STR:
		case WIRE_BYTES:
			free(*(void **)p);
			break;
		case WIRE_STRV:
			strv_fini(p);
			break;
		case WIRE_FD:
			fd_close(p);
			break;
		case WIRE_BOOL:
		case WIRE_U32:
		case WIRE_I32:
		case WIRE_U64:
		case WIRE_KIND__COUNT:
			break;
		}
	}
	wire_msg_init(m, msg);
}

static size_t kind_bytes(enum wire_kind kind)
{
	static const size_t bytes[WIRE_KIND__COUNT] = {
		[WIRE_BOOL] = sizeof(bool), [WIRE_U32] = 4, [WIRE_I32] = 4, [WIRE_U64] = 8,
		[WIRE_STR] = sizeof(char *), [WIRE_BYTES] = sizeof(struct wire_bytes),
		[WIRE_STRV] = sizeof(struct strv), [WIRE_FD] = sizeof(int),
	};

	return bytes[kind];
}

const char *wire_msg_fault(const struct wire_msg *m)
{
	if (!m->name || !m->doc || m->size == 0 || m->n_fields > 64) {
		return "a message lacks its name, documentation or size, or has too many fields";
	}
	for (size_t i = 0; i < m->n_fields; i++) {
		const struct wire_field *f = &m->fields[i];
		bool number = f->kind <= WIRE_U64;

		if (!f->name || !f->doc || f->id == 0) {
			return "a field lacks its id, name or documentation";
		}
		if (f->off + kind_bytes(f->kind) > m->size) {
			return "a field lies outside of its struct";
		}
		if (f->min > f->max || (!number && f->max == 0)) {
			return "a field lacks its bounds";
		}
		for (size_t j = 0; j < i; j++) {
			if (m->fields[j].id == f->id || str_eq(m->fields[j].name, f->name)) {
				return "two fields share an id or a name";
			}
		}
	}
	return NULL;
}
