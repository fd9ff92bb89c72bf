/* SPDX-License-Identifier: Apache-2.0 */
#include "vm/replay/rlog.h"

#include <errno.h>
#include <zstd.h>

#include "base/fd.h"
#include "base/le.h"
#include "base/mem.h"
#include "sys/file.h"
#include "vm/replay/rlog-priv.h"

const char *const rlog_type_names[RLOG_TYPE__COUNT] = {
	[RLOG_MACHINE] = "machine", [RLOG_STATE] = "state", [RLOG_MEMORY] = "memory",
	[RLOG_START] = "start", [RLOG_READ] = "read", [RLOG_WRITE] = "write", [RLOG_AT] = "at",
	[RLOG_MSI] = "msi", [RLOG_LINE] = "line", [RLOG_SLEPT] = "slept", [RLOG_CHECK] = "check",
	[RLOG_PAGES] = "pages", [RLOG_END] = "end",
};

/* What follows the type, in this order. */
enum { HAS_POS = 1, HAS_SPACE = 2, HAS_CPU = 4, HAS_ADDR = 8, HAS_VALUE = 16, HAS_DATA = 32 };

static const uint8_t fields[RLOG_TYPE__COUNT] = {
	[RLOG_MACHINE] = HAS_DATA,
	[RLOG_STATE] = HAS_DATA,
	[RLOG_MEMORY] = HAS_ADDR | HAS_DATA,
	[RLOG_START] = 0,
	[RLOG_READ] = HAS_SPACE | HAS_ADDR | HAS_VALUE,
	[RLOG_WRITE] = HAS_SPACE | HAS_ADDR | HAS_VALUE,
	[RLOG_AT] = HAS_POS,
	[RLOG_MSI] = HAS_ADDR | HAS_VALUE,
	[RLOG_LINE] = HAS_ADDR | HAS_VALUE,
	[RLOG_SLEPT] = HAS_VALUE,
	[RLOG_CHECK] = HAS_POS | HAS_CPU | HAS_VALUE | HAS_DATA,
	[RLOG_PAGES] = HAS_VALUE | HAS_DATA,
	[RLOG_END] = HAS_POS | HAS_CPU | HAS_VALUE,
};

/* --- Writing --- */

struct rlog_writer {
	int        fd;
	int        failed;        /* -errno of the first write that did not work */
	ZSTD_CCtx *zstd;
	uint64_t   insns, events; /* of the last position */
	size_t     n;             /* in raw */
	uint8_t    raw[RLOG_PART_MAX];
	uint8_t    out[ZSTD_COMPRESSBOUND(RLOG_PART_MAX)];
};

struct rlog_writer *rlog_writer_free(struct rlog_writer *w)
{
	if (w) {
		(void)ZSTD_freeCCtx(w->zstd);
		fd_close(&w->fd);
		free(w);
	}
	return NULL;
}

int rlog_writer_new(int own_fd, struct rlog_writer **ret, struct err *e)
{
	auto_close int fd = own_fd;
	auto_(rlog_writer_freep) struct rlog_writer *w = mem_new(struct rlog_writer);
	uint8_t head[RLOG_HEAD_BYTES] = { 0 };

	if (!w) {
		return err_nomem(e);
	}
	w->fd = -1;
	w->zstd = ZSTD_createCCtx();
	if (!w->zstd || ZSTD_isError(ZSTD_CCtx_setParameter(w->zstd, ZSTD_c_checksumFlag, 1)) ||
	    ZSTD_isError(ZSTD_CCtx_setParameter(w->zstd, ZSTD_c_compressionLevel, 1))) {
		return err_nomem(e);
	}
	memcpy(head, RLOG_MAGIC, 8);
	le32_put(head + 8, RLOG_VERSION);
	int r = sys_write_full(fd, head, sizeof(head));

	if (r < 0) {
		return err_set(e, -r, ERR_HOST, "cannot write the recording");
	}
	w->fd = take_fd(&fd);
	*ret = take_ptr(&w);
	return 0;
}

static void write_part(struct rlog_writer *w)
{
	uint8_t head[RLOG_PART_HEAD_BYTES];
	size_t n = w->n == 0 ? 0 : ZSTD_compress2(w->zstd, w->out, sizeof(w->out), w->raw, w->n);

	if (w->n == 0 || w->failed) {
		return;
	}
	if (ZSTD_isError(n)) {
		w->failed = -EIO;
		return;
	}
	le32_put(head, RLOG_PART_MAGIC);
	le32_put(head + 4, (uint32_t)n);
	le32_put(head + 8, (uint32_t)w->n);
	w->failed = sys_write_full(w->fd, head, sizeof(head));
	w->failed = w->failed ? w->failed : sys_write_full(w->fd, w->out, n);
	w->n = 0;
}

static void put_varint(struct rlog_writer *w, uint64_t v)
{
	while (v >= 0x80) {
		w->raw[w->n++] = (uint8_t)(v | 0x80);
		v >>= 7;
	}
	w->raw[w->n++] = (uint8_t)v;
}

void rlog_put(struct rlog_writer *w, const struct rlog_rec *rec)
{
	unsigned has = fields[rec->type];

	assert(rec->len <= RLOG_DATA_MAX);
	if (w->failed) {
		return;
	}
	if (w->n + RLOG_REC_MAX > sizeof(w->raw)) {
		write_part(w);
	}
	w->raw[w->n++] = (uint8_t)rec->type;
	if (has & HAS_POS) {
		assert(rec->insns >= w->insns && rec->events >= w->events);
		put_varint(w, rec->insns - w->insns);
		put_varint(w, rec->events - w->events);
		w->insns = rec->insns;
		w->events = rec->events;
	}
	if (has & HAS_SPACE) {
		w->raw[w->n++] = (uint8_t)(rec->space << 4 | rec->bytes);
	}
	if (has & HAS_CPU) {
		put_varint(w, rec->cpu);
	}
	if (has & HAS_ADDR) {
		put_varint(w, rec->addr);
	}
	if (has & HAS_VALUE) {
		put_varint(w, rec->value);
	}
	if (has & HAS_DATA) {
		put_varint(w, rec->len);
		memcpy(w->raw + w->n, rec->data, rec->len);
		w->n += rec->len;
	}
}

int rlog_finish(struct rlog_writer *w, struct err *e)
{
	write_part(w);
	return w->failed ? err_set(e, -w->failed, ERR_HOST, "cannot write the recording: %s",
				   strerror(-w->failed)) : 0;
}

/* --- Reading --- */

struct rlog_reader {
	int        fd;
	bool       cut;
	ZSTD_DCtx *zstd;
	uint64_t   insns, events;
	uint64_t   part;          /* how many were read; for messages */
	size_t     at, n;         /* in raw */
	uint8_t    raw[RLOG_PART_MAX];
	uint8_t    in[ZSTD_COMPRESSBOUND(RLOG_PART_MAX)];
};

struct rlog_reader *rlog_reader_free(struct rlog_reader *in)
{
	if (in) {
		(void)ZSTD_freeDCtx(in->zstd);
		fd_close(&in->fd);
		free(in);
	}
	return NULL;
}

bool rlog_cut(const struct rlog_reader *in)
{
	return in->cut;
}

int rlog_reader_new(int own_fd, struct rlog_reader **ret, struct err *e)
{
	auto_close int fd = own_fd;
	auto_(rlog_reader_freep) struct rlog_reader *in = mem_new(struct rlog_reader);
	uint8_t head[RLOG_HEAD_BYTES];

	if (!in) {
		return err_nomem(e);
	}
	in->fd = -1;
	in->zstd = ZSTD_createDCtx();
	if (!in->zstd) {
		return err_nomem(e);
	}
	ssize_t n = sys_read_full(fd, head, sizeof(head));

	if (n < 0) {
		return err_set(e, (int)-n, ERR_HOST, "cannot read the recording");
	}
	if (n < (ssize_t)sizeof(head) || memcmp(head, RLOG_MAGIC, 8) != 0) {
		return err_set(e, EBADMSG, ERR_INVALID, "this is no recording of a machine");
	}
	if (le32_get(head + 8) != RLOG_VERSION || le32_get(head + 12) != 0) {
		return err_set(e, EBADMSG, ERR_UNSUPPORTED, "the recording has format %u.%u; known is %d",
			       le32_get(head + 8), le32_get(head + 12), RLOG_VERSION);
	}
	in->fd = take_fd(&fd);
	*ret = take_ptr(&in);
	return 0;
}

static int bad(const struct rlog_reader *in, struct err *e, const char *what)
{
	return err_set(e, EBADMSG, ERR_INVALID, "the recording is damaged: part %llu, byte %zu: %s",
		       (unsigned long long)in->part, in->at, what);
}

/* 1; 0 at the end; or -errno. */
static int read_part(struct rlog_reader *in, struct err *e)
{
	uint8_t head[RLOG_PART_HEAD_BYTES];
	ssize_t n = sys_read_full(in->fd, head, sizeof(head));

	in->at = in->n = 0;
	if (n == 0) {
		return 0;
	}
	in->part++;
	if (n == (ssize_t)sizeof(head)) {
		size_t stored = le32_get(head + 4), raw = le32_get(head + 8);

		if (le32_get(head) != RLOG_PART_MAGIC || stored > sizeof(in->in) || raw == 0 ||
		    raw > sizeof(in->raw)) {
			return bad(in, e, "no head of a part");
		}
		n = sys_read_full(in->fd, in->in, stored);
		if (n == (ssize_t)stored) {
			size_t got = ZSTD_decompressDCtx(in->zstd, in->raw, raw, in->in, stored);

			if (ZSTD_isError(got) || got != raw) {
				return bad(in, e, "its sum or length is wrong");
			}
			in->n = raw;
			return 1;
		}
	}
	if (n < 0) {
		return err_set(e, (int)-n, ERR_HOST, "cannot read the recording");
	}
	in->cut = true;
	return 0;
}

static int get_varint(struct rlog_reader *in, uint64_t *ret)
{
	uint64_t v = 0;

	for (unsigned shift = 0; shift < 64 && in->at < in->n; shift += 7) {
		uint8_t b = in->raw[in->at++];

		if (shift == 63 && b > 1) {
			return -EBADMSG;
		}
		v |= (uint64_t)(b & 0x7f) << shift;
		if (!(b & 0x80)) {
			*ret = v;
			return 0;
		}
	}
	return -EBADMSG;
}

static int get_pos(struct rlog_reader *in, struct rlog_rec *ret)
{
	uint64_t insns = 0, events = 0;

	if (get_varint(in, &insns) < 0 || get_varint(in, &events) < 0 ||
	    __builtin_add_overflow(in->insns, insns, &in->insns) ||
	    __builtin_add_overflow(in->events, events, &in->events)) {
		return -EBADMSG;
	}
	ret->insns = in->insns;
	ret->events = in->events;
	return 0;
}

static int get_space(struct rlog_reader *in, struct rlog_rec *ret)
{
	if (in->at == in->n) {
		return -EBADMSG;
	}
	ret->space = in->raw[in->at] >> 4;
	ret->bytes = in->raw[in->at++] & 15;
	bool size = ret->bytes == 1 || ret->bytes == 2 || ret->bytes == 4 || ret->bytes == 8;

	return size && ret->space < RLOG_SPACE__COUNT ? 0 : -EBADMSG;
}

static int get_data(struct rlog_reader *in, struct rlog_rec *ret)
{
	uint64_t len = 0;

	if (get_varint(in, &len) < 0 || len > RLOG_DATA_MAX || len > in->n - in->at) {
		return -EBADMSG;
	}
	ret->data = in->raw + in->at;
	ret->len = (size_t)len;
	in->at += ret->len;
	return 0;
}

static int get_fields(struct rlog_reader *in, struct rlog_rec *ret, unsigned has)
{
	uint64_t cpu = 0;
	int r = has & HAS_POS ? get_pos(in, ret) : 0;

	r = r < 0 || !(has & HAS_SPACE) ? r : get_space(in, ret);
	r = r < 0 || !(has & HAS_CPU) ? r : get_varint(in, &cpu);
	r = r < 0 || !(has & HAS_ADDR) ? r : get_varint(in, &ret->addr);
	r = r < 0 || !(has & HAS_VALUE) ? r : get_varint(in, &ret->value);
	r = r < 0 || !(has & HAS_DATA) ? r : get_data(in, ret);
	ret->cpu = (uint32_t)cpu;
	return cpu > UINT32_MAX ? -EBADMSG : r;
}

int rlog_next(struct rlog_reader *in, struct rlog_rec *ret, struct err *e)
{
	while (in->at == in->n) {
		int r = in->cut ? 0 : read_part(in, e);

		if (r <= 0) {
			return r;
		}
	}
	uint8_t type = in->raw[in->at++];

	if (type == 0 || type >= RLOG_TYPE__COUNT) {
		return bad(in, e, "an unknown kind of record");
	}
	*ret = (struct rlog_rec){ .type = type, .insns = in->insns, .events = in->events };
	if (get_fields(in, ret, fields[type]) < 0) {
		return bad(in, e, "a record that cannot be");
	}
	return 1;
}
