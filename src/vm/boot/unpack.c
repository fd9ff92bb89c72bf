/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <lz4.h>
#include <lzma.h>
#include <zlib.h>
#include <zstd.h>

#include "base/le.h"
#include "base/mem.h"
#include "vm/boot/kernel.h"

enum { LZ4_LEGACY_BLOCK = 8 << 20, XZ_MEMORY_MAX = 128 << 20 };

static const uint8_t lz4_magic[] = { 0x02, 0x21, 0x4c, 0x18 };

/* All of `in` into exactly n bytes; false: damaged, or another length. */
typedef bool unpack_fn(const uint8_t *in, size_t in_n, uint8_t *out, size_t n);

static bool unpack_gzip(const uint8_t *in, size_t in_n, uint8_t *out, size_t n)
{
	z_stream z = { .next_in = (Bytef *)in, .avail_in = (uInt)in_n, .next_out = out,
		       .avail_out = (uInt)n };

	if (inflateInit2(&z, 15 + 16) != Z_OK) {
		return false;
	}
	int r = inflate(&z, Z_FINISH);
	bool whole = r == Z_STREAM_END && z.total_out == n;

	inflateEnd(&z);
	return whole;
}

/* A magic number, then blocks with their length before them; each unpacks to 8 MiB at most. */
static bool unpack_lz4(const uint8_t *in, size_t in_n, uint8_t *out, size_t n)
{
	size_t at = sizeof(lz4_magic), made = 0;

	while (made < n) {
		if (in_n - at < 4) {
			return false;
		}
		uint32_t len = le32_get(in + at);

		at += 4;
		if (len == le32_get(lz4_magic)) {
			continue; /* files put one behind another */
		}
		if (len == 0 || len > in_n - at) {
			return false;
		}
		int got = LZ4_decompress_safe((const char *)in + at, (char *)out + made, (int)len,
					      (int)MIN(n - made, (size_t)LZ4_LEGACY_BLOCK));

		if (got <= 0) {
			return false;
		}
		at += len;
		made += (size_t)got;
	}
	return true;
}

static bool unpack_xz(const uint8_t *in, size_t in_n, uint8_t *out, size_t n)
{
	uint64_t memory = XZ_MEMORY_MAX;
	size_t in_at = 0, out_at = 0;

	return lzma_stream_buffer_decode(&memory, 0, NULL, in, &in_at, in_n, out, &out_at, n) ==
		       LZMA_OK && out_at == n;
}

static bool unpack_zstd(const uint8_t *in, size_t in_n, uint8_t *out, size_t n)
{
	return ZSTD_decompress(out, n, in, in_n) == n;
}

static const struct format {
	const char *name;
	uint8_t     magic[6];
	size_t      n_magic;
	unpack_fn  *unpack;      /* NULL: known, not done */
} formats[] = {
	{ "gzip", { 0x1f, 0x8b }, 2, unpack_gzip },
	{ "LZ4", { 0x02, 0x21, 0x4c, 0x18 }, 4, unpack_lz4 },
	{ "xz", { 0xfd, '7', 'z', 'X', 'Z', 0 }, 6, unpack_xz },
	{ "zstd", { 0x28, 0xb5, 0x2f, 0xfd }, 4, unpack_zstd },
	{ "bzip2", { 'B', 'Z', 'h' }, 3, NULL },
	{ "LZMA", { 0x5d, 0, 0 }, 3, NULL },
	{ "LZO", { 0x89, 'L', 'Z', 'O' }, 4, NULL },
};

static const struct format *format_of(const uint8_t *payload, size_t n)
{
	for (size_t i = 0; i < ARRAY_LEN(formats); i++) {
		if (n >= formats[i].n_magic &&
		    memcmp(payload, formats[i].magic, formats[i].n_magic) == 0) {
			return &formats[i];
		}
	}
	return NULL;
}

int kernel_unpack(const uint8_t *payload, size_t n, size_t max, uint8_t **ret, size_t *ret_bytes,
		  struct err *e)
{
	const struct format *f = format_of(payload, n);

	if (!f) {
		return err_set(e, EINVAL, ERR_INVALID, "the kernel is packed in an unknown way");
	}
	if (!f->unpack) {
		return err_set(e, EOPNOTSUPP, ERR_UNSUPPORTED, "the kernel is packed with %s; gzip, "
			       "LZ4, xz and zstd can be unpacked", f->name);
	}
	/* The length that stands behind; of gzip it is a part of the stream. */
	size_t len = n < 8 ? 0 : le32_get(payload + n - 4);
	size_t packed = f->unpack == unpack_gzip ? n : n - 4;

	if (len == 0 || len > max) {
		return err_set(e, EINVAL, ERR_INVALID, "the kernel says that it unpacks to %zu bytes",
			       len);
	}
	auto_free uint8_t *out = mem_calloc(1, len);

	if (!out) {
		return err_nomem(e);
	}
	if (!f->unpack(payload, packed, out, len)) {
		return err_set(e, EBADMSG, ERR_INVALID, "the kernel's %s data is damaged", f->name);
	}
	*ret = take_ptr(&out);
	*ret_bytes = len;
	return 0;
}
