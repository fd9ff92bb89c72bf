/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A root file system becomes an image of one layer.
 *
 * Two readers stand behind each other: the first undoes the compression, and everything it
 * gives is hashed (the layer's diff id), sent on as the layer, and read by the second as tar,
 * which refuses what no layer may hold. Where the input is compressed as a layer may be, its
 * own bytes are the layer.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <zlib.h>
#include <zstd.h>

#include "base/clock.h"
#include "base/mem.h"
#include "image/archive-private.h"
#include "image/cancel.h"
#include "image/layout.h"
#include "sys/file.h"

enum { ZSTD_LEVEL = 3, GZIP_LEVEL = 6, BLOCK = 128 * 1024 };

struct import {
	struct worker               *w;
	const struct archive_import *job;
	struct archive              *raw;        /* undoes the compression */
	struct digest               *diff;
	uint32_t                     blob;
	enum archive_compress        out_kind;   /* never ARCHIVE_COMPRESS_KEEP: */
	bool                         keep;       /* the input's bytes are the layer */
	enum oci_kind                kind;
	ZSTD_CCtx                   *zstd;
	z_stream                     gz;         /* of the output */
	bool                         has_gz;
	z_stream                     ungz;       /* of the input, where that is gzip: */
	bool                         has_ungz;   /* the library does not check its sums */
	bool                         ungz_open;  /* within a member */
	size_t                       first;      /* bytes in `in` that were read to look at */
	uint64_t                     raw_bytes, plain_bytes;
	struct err                   err;        /* of a callback */
	uint8_t                      in[BLOCK], plain[BLOCK], out[BLOCK];
};

static int send_bytes(struct import *i, const void *data, size_t n)
{
	return n > 0 ? worker_blob_data(i->w, i->blob, data, n, &i->err) : 0;
}

static int send_zstd(struct import *i, const void *data, size_t n, bool end)
{
	ZSTD_inBuffer in = { .src = data, .size = n, .pos = 0 };
	size_t left;

	do {
		ZSTD_outBuffer out = { .dst = i->out, .size = sizeof(i->out), .pos = 0 };

		left = ZSTD_compressStream2(i->zstd, &out, &in, end ? ZSTD_e_end : ZSTD_e_continue);
		if (ZSTD_isError(left)) {
			return err_set(&i->err, EIO, ERR_HOST, "zstd: %s", ZSTD_getErrorName(left));
		}

		int r = send_bytes(i, i->out, out.pos);

		if (r < 0) {
			return r;
		}
	} while (in.pos < in.size || (end && left > 0));
	return 0;
}

static int send_gzip(struct import *i, const void *data, size_t n, bool end)
{
	int z = Z_OK;

	i->gz.next_in = (Bytef *)(uintptr_t)data;
	i->gz.avail_in = (uInt)n;
	do {
		i->gz.next_out = i->out;
		i->gz.avail_out = sizeof(i->out);
		z = deflate(&i->gz, end ? Z_FINISH : Z_NO_FLUSH);
		if (z == Z_STREAM_ERROR) {
			return err_set(&i->err, EIO, ERR_HOST, "gzip");
		}

		int r = send_bytes(i, i->out, sizeof(i->out) - i->gz.avail_out);

		if (r < 0) {
			return r;
		}
	} while (i->gz.avail_out == 0 || (end && z != Z_STREAM_END));
	return 0;
}

/* Plain bytes of the layer, on their way to the parent. */
static int send_plain(struct import *i, const void *data, size_t n, bool end)
{
	if (i->keep) {
		return 0;   /* its compressed bytes were sent when they were read */
	}
	switch (i->out_kind) {
	case ARCHIVE_COMPRESS_ZSTD:
		return send_zstd(i, data, n, end);
	case ARCHIVE_COMPRESS_GZIP:
		return send_gzip(i, data, n, end);
	case ARCHIVE_COMPRESS_NONE:
		return send_bytes(i, data, n);
	case ARCHIVE_COMPRESS_KEEP:
	case ARCHIVE_COMPRESS__COUNT:
		break;
	}
	assert(i->out_kind < ARCHIVE_COMPRESS_KEEP);   /* choose() has seen to it */
	return -EINVAL;
}

/* The library reads the input. */
static la_ssize_t read_input(struct archive *ar, void *ud, const void **ret)
{
	struct import *i = ud;
	ssize_t n = (ssize_t)i->first;

	if (n == 0) {
		n = sys_read(i->job->fd, i->in, sizeof(i->in));
	}
	i->first = 0;
	if (n < 0) {
		archive_set_error(ar, (int)-n, "the input cannot be read");
		return -1;
	}
	i->raw_bytes += (uint64_t)n;
	if (i->keep && send_bytes(i, i->in, (size_t)n) < 0) {
		archive_set_error(ar, i->err.errnum, "%s", i->err.msg);
		return -1;
	}
	*ret = i->in;
	return n;
}

static la_ssize_t bad_gzip(struct import *i, const char *what)
{
	return err_set(&i->err, EBADMSG, ERR_INVALID, "the gzip input is %s", what) < 0 ? -1 : 0;
}

/* Plain bytes of a gzip input of one or more members, checked against their sums. */
static la_ssize_t inflate_some(struct import *i)
{
	i->ungz.next_out = i->plain;
	i->ungz.avail_out = sizeof(i->plain);
	while (i->ungz.avail_out == sizeof(i->plain)) {
		if (i->ungz.avail_in == 0) {
			const void *in = NULL;
			la_ssize_t n = read_input(i->raw, i, &in);

			if (n <= 0) {
				return n < 0 ? -1 : i->ungz_open ? bad_gzip(i, "cut off") : 0;
			}
			i->ungz.next_in = i->in;
			i->ungz.avail_in = (uInt)n;
		}
		i->ungz_open = true;

		int z = inflate(&i->ungz, Z_NO_FLUSH);

		if (z == Z_STREAM_END) {
			i->ungz_open = false;
			z = inflateReset(&i->ungz);
		}
		if (z != Z_OK && z != Z_BUF_ERROR) {
			return bad_gzip(i, "damaged");
		}
	}
	return (la_ssize_t)(sizeof(i->plain) - i->ungz.avail_out);
}

/* The next plain bytes: hashed, sent, and given to whoever asks. */
static la_ssize_t next_plain(struct import *i)
{
	la_ssize_t n = i->has_ungz ? inflate_some(i) :
				     archive_read_data(i->raw, i->plain, sizeof(i->plain));

	if (n <= 0) {
		return n;
	}
	digest_add(i->diff, i->plain, (size_t)n);
	i->plain_bytes += (uint64_t)n;
	if (archive__check_ratio(i->raw_bytes, i->plain_bytes, NULL, &i->err) < 0) {
		return -1;
	}
	return send_plain(i, i->plain, (size_t)n, false) < 0 ? -1 : n;
}

static la_ssize_t read_plain(struct archive *ar, void *ud, const void **ret)
{
	struct import *i = ud;
	la_ssize_t n = next_plain(i);

	if (n < 0) {
		archive_set_error(ar, EIO, "%s", i->err.errnum ? i->err.msg :
				  archive_error_string(i->raw) ? archive_error_string(i->raw) :
				  "the input is malformed");
	}
	*ret = i->plain;
	return n;
}

/* Look at the first bytes, and decide what the layer will be. */
static int choose(struct import *i, struct err *e)
{
	ssize_t n = sys_read_full(i->job->fd, i->in, sizeof(i->in));

	if (n <= 0) {
		return n < 0 ? err_set(e, (int)-n, ERR_HOST, "the input cannot be read") :
			       err_set(e, EINVAL, ERR_INVALID, "it is empty");
	}
	i->first = (size_t)n;

	bool gzip = n > 2 && i->in[0] == 0x1f && i->in[1] == 0x8b;
	bool zstd = n > 4 && memcmp(i->in, "\x28\xb5\x2f\xfd", 4) == 0;

	i->has_ungz = gzip && inflateInit2(&i->ungz, 15 + 16) == Z_OK;
	if (gzip && !i->has_ungz) {
		return err_nomem(e);
	}
	i->out_kind = i->job->compress;
	if (i->job->compress == ARCHIVE_COMPRESS_KEEP) {
		i->keep = gzip || zstd;
		i->out_kind = gzip ? ARCHIVE_COMPRESS_GZIP : ARCHIVE_COMPRESS_ZSTD;
	}
	i->kind = i->out_kind == ARCHIVE_COMPRESS_ZSTD ? OCI_KIND_LAYER_ZSTD :
		  i->out_kind == ARCHIVE_COMPRESS_GZIP ? OCI_KIND_LAYER_GZIP : OCI_KIND_LAYER;
	if (i->keep || i->out_kind == ARCHIVE_COMPRESS_NONE) {
		return 0;
	}
	if (i->out_kind == ARCHIVE_COMPRESS_ZSTD) {
		i->zstd = ZSTD_createCCtx();
		return i->zstd && !ZSTD_isError(ZSTD_CCtx_setParameter(i->zstd,
					ZSTD_c_compressionLevel, ZSTD_LEVEL)) ? 0 : err_nomem(e);
	}
	i->has_gz = deflateInit2(&i->gz, GZIP_LEVEL, Z_DEFLATED, 15 + 16, 8,
				 Z_DEFAULT_STRATEGY) == Z_OK;
	return i->has_gz ? 0 : err_nomem(e);
}

static int open_readers(struct import *i, struct archive **ret_tar, struct err *e)
{
	auto_archive struct archive *tar = archive_read_new();
	struct archive_entry *ae;

	i->raw = archive_read_new();
	if (!i->raw || !tar) {
		return err_nomem(e);
	}
	if (!i->has_ungz &&
	    (archive__add_filters(i->raw) < 0 ||
	     archive_read_support_format_raw(i->raw) != ARCHIVE_OK ||
	     archive_read_open(i->raw, i, NULL, read_input, NULL) != ARCHIVE_OK ||
	     archive_read_next_header(i->raw, &ae) != ARCHIVE_OK)) {
		return archive__fault(i->raw, NULL, e);
	}
	if (archive_read_support_format_tar(tar) != ARCHIVE_OK ||
	    archive_read_open(tar, i, NULL, read_plain, NULL) != ARCHIVE_OK) {
		return archive__fault(tar, NULL, e);
	}
	*ret_tar = take_ptr(&tar);
	return 0;
}

static int check_link(const struct archive_entry *ae, const char *name, struct err *e)
{
	const char *target = archive_entry_hardlink((struct archive_entry *)(uintptr_t)ae), *part;
	size_t len;

	while (target && str_split(&target, '/', &part, &len)) {
		if (len == 2 && memcmp(part, "..", 2) == 0) {
			return err_set(e, EBADMSG, ERR_INVALID,
				       "entry \"%s\" links to what is outside", name);
		}
	}
	return 0;
}

/* Read all of the tar; what comes behind its end is part of the layer too. */
static int walk(struct import *i, struct archive *tar, struct err *e)
{
	struct archive_entry *ae;
	const char *name;
	uint64_t entries = 0;
	int r;

	while ((r = archive__next(tar, &ae, &name, e)) > 0) {
		entries++;
		r = check_link(ae, name, e);
		if (r < 0) {
			return r;
		}
	}
	if (r == 0 && entries == 0) {
		return err_set(e, EINVAL, ERR_INVALID, "there is no file in it");
	}
	while (r == 0) {
		la_ssize_t n = next_plain(i);

		if (n < 0) {
			return archive__fault(i->raw, NULL, e);
		}
		if (n == 0) {
			break;
		}
	}
	return r < 0 ? r : send_plain(i, NULL, 0, true);
}

static int layer(struct import *i, struct blob_info *ret, struct err *e)
{
	auto_archive struct archive *tar = NULL;
	uint64_t offset;
	int r = choose(i, e);

	r = r < 0 ? r : worker_blob_begin(i->w, NULL, UINT64_MAX, "layer", &i->blob, &offset, e);
	r = r < 0 ? r : open_readers(i, &tar, e);
	r = r < 0 ? r : walk(i, tar, e);
	if (r < 0 && i->err.errnum) {
		*e = i->err;   /* what a callback could only tell the library as text */
		r = -e->errnum;
	}
	return r < 0 ? r : worker_blob_end(i->w, i->blob, ret, e);
}

/* "os/arch[/variant]" in parts, in the arena. */
static int split_platform(const char *text, struct arena *a, struct oci_image_config *ret,
			  struct err *e)
{
	const char *part[3] = { NULL, NULL, NULL }, *p;
	size_t len, n = 0;

	while (str_split(&text, '/', &p, &len)) {
		if (n == 3 || len == 0) {
			return err_set(e, EINVAL, ERR_INVALID,
				       "a platform is OS/ARCH or OS/ARCH/VARIANT");
		}
		part[n] = arena_strndup(a, p, len);
		if (!part[n++]) {
			return err_nomem(e);
		}
	}
	if (n < 2) {
		return err_set(e, EINVAL, ERR_INVALID, "a platform is OS/ARCH, as \"linux/amd64\"");
	}
	ret->os = part[0];
	ret->architecture = part[1];
	ret->variant = part[2];
	return 0;
}

/* The config's text; the caller frees. */
static int config_text(struct import *i, struct arena *a, const char *diff_id, char **ret,
		       struct err *e)
{
	uint64_t ns = i->job->created_ns ? i->job->created_ns : clock_wall_ns();
	struct time_text created = time_format(ns - ns % NS_PER_SEC);
	struct oci_image_run none = { .user = NULL };
	struct oci_history history = { .created = created.text, .created_by = i->job->comment };
	struct oci_image_config c = {
		.created = created.text,
		.config = i->job->run ? (struct oci_image_run *)(uintptr_t)i->job->run : &none,
		.rootfs = { .type = "layers", .diff_ids = { .v = &diff_id, .n = 1 } },
		.history = { .v = &history, .n = 1 },
	};
	int r = split_platform(i->job->platform ? i->job->platform : oci_platform_host(), a, &c, e);

	if (r < 0) {
		return r;
	}

	auto_json json_t *j = jtable_format(&oci_image_config_table, &c);

	*ret = j ? json_text(j) : NULL;
	return *ret ? 0 : err_nomem(e);
}

static int build(struct import *i, struct arena *a, struct err *e)
{
	struct blob_info layer_info, config_info, manifest_info;
	auto_free char *config = NULL, *manifest = NULL;
	int r = layer(i, &layer_info, e);

	if (r < 0) {
		return r;
	}

	struct digest_text diff_id = digest_end(i->diff);

	r = config_text(i, a, diff_id.text, &config, e);
	r = r < 0 ? r : worker_blob_put(i->w, NULL, "config", config, strlen(config), &config_info,
					e);
	if (r < 0) {
		return r;
	}

	struct oci_desc layer_desc = {
		.media_type = i->kind == OCI_KIND_LAYER_ZSTD ? OCI_MEDIA_LAYER_ZSTD :
			      i->kind == OCI_KIND_LAYER_GZIP ? OCI_MEDIA_LAYER_GZIP :
							       OCI_MEDIA_LAYER,
		.digest = layer_info.digest,
		.size = layer_info.size,
	};
	struct oci_desc config_desc = { .media_type = OCI_MEDIA_CONFIG,
					.digest = config_info.digest, .size = config_info.size };
	struct worker_image image = { .name = "", .media_type = OCI_MEDIA_MANIFEST };

	manifest = layout_manifest(&config_desc, &layer_desc, 1);
	if (!manifest) {
		return err_nomem(e);
	}
	r = worker_blob_put(i->w, NULL, "manifest", manifest, strlen(manifest), &manifest_info, e);
	snprintf(image.manifest, sizeof(image.manifest), "%s", manifest_info.digest);
	return r < 0 ? r : worker_image(i->w, &image, e);
}

static int import_main(struct worker *w, void *job, struct err *e)
{
	auto_arena struct arena a = ARENA_INIT;
	auto_free struct import *i = mem_new(struct import);

	if (!i) {
		return err_nomem(e);
	}
	i->w = w;
	i->job = job;
	i->diff = digest_new("sha256");

	int r = i->diff ? build(i, &a, e) : err_nomem(e);

	(void)archive_read_free(i->raw);   /* read only */
	digest_free(i->diff);
	(void)ZSTD_freeCCtx(i->zstd);      /* returns 0 */
	if (i->has_ungz) {
		(void)inflateEnd(&i->ungz);   /* the state is there */
	}
	if (i->has_gz) {
		(void)deflateEnd(&i->gz);  /* complains about data left, after a failure */
	}
	return r < 0 ? err_wrap(e, "%s", i->job->file) : 0;
}

int archive_import(struct store *s, const struct archive_import *job, struct progress *p,
		   struct arena *a, struct archive_images *ret, struct err *e)
{
	struct worker_images images = { .n = 0 };
	struct worker_run run = {
		.store = s, .progress = p, .confine = &archive__confine, .main = import_main,
		.job = (void *)(uintptr_t)job, .keep_fds = &job->fd, .n_keep_fds = 1,
		.watch_fd = job->watch_fd, .on_watch = job->on_watch, .watch_ud = job->ud,
	};
	int r = store_use_begin(s, e);

	if (r < 0) {
		return r;
	}
	r = worker_run(&run, a, &images, e);
	if (job->check && !cancel_signal()) {
		/* Also after a failure: where the input broke off, its maker knows why. */
		struct err why = ERR_INIT;

		if (job->check(job->ud, &why) < 0) {
			*e = why;
			r = -e->errnum;
		}
	}
	r = r < 0 ? r : archive__put_images(s, &images, job->name, p, a, ret, e);
	store_use_end(s);
	return r;
}
