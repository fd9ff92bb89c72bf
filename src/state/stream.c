/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Sections. Everything that the stream says about lengths is checked when it is opened, so
 * that what comes after works on whole sections.
 */
#include "state/table.h"

#include <errno.h>

#include "base/mem.h"

static const char stream_magic[8] = "HOLMSTA1";

enum {
	SECTION_MAGIC = 0x54434553,     /* "SECT" */
	END_MAGIC = 0x454e4f44,         /* "DONE" */
	SECTION_HEADER_BYTES = 20,      /* magic, version, flags, path, kind, payload, sum */
	END_BYTES = 12,                 /* magic, number of sections, sum of all before it */
	FLAG_OPTIONAL = 1,
	FLAG_BYTES = 2,
	FLAGS = 3,
};

uint32_t state__crc(uint32_t crc, const void *data, size_t len)
{
	static const uint32_t table[16] = {
		0x00000000, 0x105ec76f, 0x20bd8ede, 0x30e349b1, 0x417b1dbc, 0x5125dad3,
		0x61c69362, 0x7198540d, 0x82f63b78, 0x92a8fc17, 0xa24bb5a6, 0xb21572c9,
		0xc38d26c4, 0xd3d3e1ab, 0xe330a81a, 0xf36e6f75,
	};
	const uint8_t *p = data;

	crc = ~crc;
	for (size_t i = 0; i < len; i++) {
		crc ^= p[i];
		crc = crc >> 4 ^ table[crc & 15];
		crc = crc >> 4 ^ table[crc & 15];
	}
	return ~crc;
}

/* --- Writing --- */

void state_writer_fini(struct state_writer *w)
{
	buf_fini(&w->b);
	w->sections = 0;
}

static void write_section(struct state_writer *w, const char *path, uint16_t version,
			  unsigned flags, const struct buf *payload)
{
	size_t path_len = strlen(path);

	assert(path[0] == '/' && path_len <= STATE_PATH_MAX);
	if (w->sections == 0) {
		buf_add(&w->b, stream_magic, sizeof(stream_magic));
	}
	size_t first = w->b.len;

	state__put_le(&w->b, SECTION_MAGIC, 4);
	state__put_le(&w->b, version, 2);
	state__put_le(&w->b, flags, 2);
	state__put_le(&w->b, path_len, 4);
	state__put_le(&w->b, payload->len, 4);
	buf_add(&w->b, path, path_len);
	buf_add(&w->b, payload->data, payload->len);
	if (buf_failed(payload)) {
		w->b.failed = true;
	}
	if (!buf_failed(&w->b)) {
		state__put_le(&w->b, state__crc(0, w->b.data + first, w->b.len - first), 4);
	}
	w->sections++;
}

static void write_object(struct state_writer *w, const char *path, const struct state_desc *d,
			 const void *s, unsigned flags)
{
	auto_buf struct buf payload = BUF_INIT;
	const char *last = strrchr(path, '/');

	assert(last && str_eq(last + 1, d->name));
	state__save(d, s, &payload);
	write_section(w, path, d->version, flags, &payload);
}

void state_write(struct state_writer *w, const char *path, const struct state_desc *d,
		 const void *s)
{
	write_object(w, path, d, s, 0);
}

void state_write_optional(struct state_writer *w, const char *path, const struct state_desc *d,
			  const void *s)
{
	write_object(w, path, d, s, FLAG_OPTIONAL);
}

void state_write_bytes(struct state_writer *w, const char *path, const void *data, size_t len)
{
	auto_buf struct buf payload = BUF_INIT;

	buf_add(&payload, data, len);
	write_section(w, path, 1, FLAG_BYTES, &payload);
}

int state_finish(struct state_writer *w, void **ret, size_t *ret_len)
{
	struct buf *b = &w->b;

	if (w->sections == 0) {
		buf_add(b, stream_magic, sizeof(stream_magic));
	}
	state__put_le(b, END_MAGIC, 4);
	state__put_le(b, w->sections, 4);
	if (!buf_failed(b)) {
		state__put_le(b, state__crc(0, b->data, b->len), 4);
	}
	size_t len = b->len;
	char *data = buf_take(b);

	w->sections = 0;
	if (!data) {
		return -ENOMEM;
	}
	*ret = data;
	*ret_len = len;
	return 0;
}

/* --- Reading --- */

struct section {
	char           path[STATE_PATH_MAX + 1];
	uint16_t       version;
	unsigned       flags;
	const uint8_t *payload;
	size_t         len;
	bool           read;
};

/* An object that was loaded into a copy. */
struct pending {
	const struct state_desc *desc;
	void *to, *copy;
};

struct state_reader {
	struct section *sections;
	size_t          n;
	struct pending *pending;   /* n of them at most */
	size_t          n_pending;
};

static int malformed(struct err *e, const char *what)
{
	return err_set(e, EBADMSG, ERR_INVALID, "state: %s", what);
}

static struct section *find(const struct state_reader *r, const char *path)
{
	for (size_t i = 0; i < r->n; i++) {
		if (str_eq(r->sections[i].path, path)) {
			return &r->sections[i];
		}
	}
	return NULL;
}

static bool path_valid(const char *path)
{
	if (path[0] != '/') {
		return false;
	}
	for (const char *p = path; *p; p++) {
		if (*p <= ' ' || *p > '~') {
			return false;
		}
	}
	return true;
}

/* One section at *data; moves behind it. */
static int open_section(struct state_reader *r, const uint8_t **data, size_t *len, struct err *e)
{
	const uint8_t *p = *data;
	struct section *s = &r->sections[r->n];

	if (*len < SECTION_HEADER_BYTES) {
		return malformed(e, "cut off");
	}
	uint64_t path_len = state__get_le(p + 8, 4), payload_len = state__get_le(p + 12, 4);

	if (path_len == 0 || path_len > STATE_PATH_MAX ||
	    payload_len > *len - SECTION_HEADER_BYTES ||
	    path_len > *len - SECTION_HEADER_BYTES - payload_len) {
		return malformed(e, "bad lengths of a section");
	}
	size_t whole = 16 + path_len + payload_len;

	if (state__get_le(p + whole, 4) != state__crc(0, p, whole)) {
		return malformed(e, "wrong checksum of a section");
	}
	s->version = (uint16_t)state__get_le(p + 4, 2);
	s->flags = (unsigned)state__get_le(p + 6, 2);
	memcpy(s->path, p + 16, path_len);
	s->payload = p + 16 + path_len;
	s->len = payload_len;
	if ((s->flags & ~(unsigned)FLAGS) || strlen(s->path) != path_len || !path_valid(s->path)) {
		return malformed(e, "malformed section");
	}
	if (find(r, s->path)) {
		return err_set(e, EBADMSG, ERR_INVALID, "state: %s twice", s->path);
	}
	r->n++;
	*data += whole + 4;
	*len -= whole + 4;
	return 0;
}

static int open_all(struct state_reader *r, const uint8_t *data, size_t len, size_t n,
		    struct err *e)
{
	for (size_t i = 0; i < n; i++) {
		if (len < 4 || state__get_le(data, 4) != SECTION_MAGIC) {
			return malformed(e, "no section where one should be");
		}
		int ret = open_section(r, &data, &len, e);

		if (ret < 0) {
			return ret;
		}
	}
	return len == 0 ? 0 : malformed(e, "bytes behind the last section");
}

int state_open(const void *data, size_t len, struct state_reader **ret, struct err *e)
{
	const uint8_t *p = data;

	if (len > STATE_STREAM_MAX) {
		return err_set(e, EFBIG, ERR_LIMIT, "state: more than %d bytes", STATE_STREAM_MAX);
	}
	if (len < sizeof(stream_magic) + END_BYTES ||
	    memcmp(p, stream_magic, sizeof(stream_magic)) != 0) {
		return malformed(e, "not a state stream");
	}
	const uint8_t *end = p + len - END_BYTES;

	if (state__get_le(end, 4) != END_MAGIC || state__get_le(end + 8, 4) !=
							  state__crc(0, p, len - 4)) {
		return malformed(e, "cut off, or damaged");
	}
	uint64_t n = state__get_le(end + 4, 4);

	if (n > STATE_SECTIONS_MAX) {
		return malformed(e, "too many sections");
	}
	auto_(state_closep) struct state_reader *r = mem_new(struct state_reader);

	if (!r) {
		return err_nomem(e);
	}
	r->sections = mem_calloc(n + 1, sizeof(*r->sections));
	r->pending = mem_calloc(n + 1, sizeof(*r->pending));
	if (!r->sections || !r->pending) {
		return err_nomem(e);
	}
	int rc = open_all(r, p + sizeof(stream_magic), (size_t)(end - p) - sizeof(stream_magic), n,
			  e);

	if (rc < 0) {
		return rc;
	}
	*ret = take_ptr(&r);
	return 0;
}

struct state_reader *state_close(struct state_reader *r)
{
	if (r) {
		for (size_t i = 0; i < r->n_pending; i++) {
			free(r->pending[i].copy);
		}
		free(r->pending);
		free(r->sections);
		free(r);
	}
	return NULL;
}

bool state_has(const struct state_reader *r, const char *path)
{
	return find(r, path) != NULL;
}

static int find_unread(struct state_reader *r, const char *path, bool bytes, struct section **ret,
		       struct err *e)
{
	struct section *s = find(r, path);

	if (!s) {
		return err_set(e, ENOENT, ERR_NOT_FOUND, "state: %s is missing", path);
	}
	if (s->read || bytes != ((s->flags & FLAG_BYTES) != 0)) {
		return err_set(e, EBADMSG, ERR_INVALID, "state: %s is not %s", path,
			       s->read ? "there twice" : bytes ? "bytes" : "an object");
	}
	*ret = s;
	return 0;
}

static int load_copy(const struct section *s, const struct state_desc *d, void *copy,
		     struct err *e)
{
	if (s->version < d->oldest || s->version > d->version) {
		return err_set(e, EBADMSG, ERR_UNSUPPORTED,
			       "state: %s has version %u; versions %u to %u are known here",
			       s->path, s->version, d->oldest, d->version);
	}
	int r = state__load(d, s->version, s->payload, s->len, copy, e);

	return r < 0 ? err_wrap(e, "state: %s", s->path) : 0;
}

int state_read(struct state_reader *r, const char *path, const struct state_desc *d, void *s,
	       struct err *e)
{
	struct section *sec;
	int ret = find_unread(r, path, false, &sec, e);

	if (ret < 0) {
		return ret;
	}
	auto_free void *copy = mem_dup(s, d->size);

	if (!copy) {
		return err_nomem(e);
	}
	ret = load_copy(sec, d, copy, e);
	if (ret < 0) {
		return ret;
	}
	sec->read = true;
	r->pending[r->n_pending++] = (struct pending){ .desc = d, .to = s, .copy = copy };
	copy = NULL;
	return 0;
}

int state_peek(struct state_reader *r, const char *path, const struct state_desc *d, void *s,
	       struct err *e)
{
	struct section *sec;
	int ret = find_unread(r, path, false, &sec, e);
	auto_free void *copy = ret < 0 ? NULL : mem_dup(s, d->size);

	if (ret < 0 || !copy) {
		return ret < 0 ? ret : err_nomem(e);
	}
	ret = load_copy(sec, d, copy, e);
	if (ret == 0) {
		state__copy(d, s, copy);
	}
	return ret;
}

int state_read_bytes(struct state_reader *r, const char *path, const void **ret, size_t *ret_len,
		     struct err *e)
{
	struct section *sec;
	int rc = find_unread(r, path, true, &sec, e);

	if (rc < 0) {
		return rc;
	}
	sec->read = true;
	*ret = sec->payload;
	*ret_len = sec->len;
	return 0;
}

int state_commit(struct state_reader *r, struct err *e)
{
	for (size_t i = 0; i < r->n; i++) {
		if (!r->sections[i].read && !(r->sections[i].flags & FLAG_OPTIONAL)) {
			return err_set(e, EBADMSG, ERR_UNSUPPORTED,
				       "state: nothing here for %s, which is required",
				       r->sections[i].path);
		}
	}
	for (size_t i = 0; i < r->n_pending; i++) {
		state__copy(r->pending[i].desc, r->pending[i].to, r->pending[i].copy);
		free(r->pending[i].copy);
		r->pending[i].copy = NULL;
	}
	r->n_pending = 0;
	return 0;
}
