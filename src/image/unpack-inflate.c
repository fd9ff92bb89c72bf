/* SPDX-License-Identifier: Apache-2.0 */
/* One level of gzip or zstd, off. */
#include <archive.h>
#include <archive_entry.h>
#include <errno.h>

#include "base/mem.h"
#include "image/unpack-private.h"
#include "sys/file.h"

enum { IN_BYTES = 128 * 1024, OUT_BYTES = 128 * 1024 };

static int bad(struct archive *ar, struct err *e)
{
	const char *why = archive_error_string(ar);

	if (archive_errno(ar) == ENOMEM) {
		return err_set(e, ENOMEM, ERR_LIMIT,
			       "decompressing the layer needs more memory than it is given");
	}
	return err_set(e, EBADMSG, ERR_INVALID, "the layer cannot be decompressed: %s",
		       unpack__show(why ? why : "malformed").text);
}

/* The bytes are what the media type says, and compressed once. */
static int check_filter(struct archive *ar, int want, struct err *e)
{
	if (archive_filter_count(ar) != 2 || archive_filter_code(ar, 0) != want) {
		return err_set(e, EBADMSG, ERR_INVALID, "the layer is not compressed as its media "
			       "type says, or more than once");
	}
	return 0;
}

static int copy(struct archive *ar, int out_fd, char *out, struct err *e)
{
	for (;;) {
		la_ssize_t n = archive_read_data(ar, out, OUT_BYTES);

		if (n < 0) {
			return bad(ar, e);
		}
		if (n == 0) {
			return 0;
		}
		int r = sys_write_full(out_fd, out, (size_t)n);

		if (r < 0) {
			return err_set(e, -r, ERR_HOST, "handing on what was decompressed");
		}
	}
}

static int inflate(struct archive *ar, int in_fd, int out_fd, int filter, char *out,
		   struct err *e)
{
	struct archive_entry *entry;
	int r = filter == ARCHIVE_FILTER_GZIP ? archive_read_support_filter_gzip(ar) :
						archive_read_support_filter_zstd(ar);

	if (r != ARCHIVE_OK || archive_read_support_format_raw(ar) != ARCHIVE_OK ||
	    archive_read_support_format_empty(ar) != ARCHIVE_OK) {
		return bad(ar, e); /* ARCHIVE_WARN: it would run a program */
	}
	if (archive_read_open_fd(ar, in_fd, IN_BYTES) != ARCHIVE_OK) {
		return bad(ar, e);
	}
	r = check_filter(ar, filter, e);
	if (r < 0) {
		return r;
	}
	r = archive_read_next_header(ar, &entry);
	if (r == ARCHIVE_EOF) {
		return 0; /* nothing, compressed */
	}
	return r == ARCHIVE_OK ? copy(ar, out_fd, out, e) : bad(ar, e);
}

int unpack__inflate(int in_fd, int out_fd, enum oci_kind kind, struct err *e)
{
	int filter = kind == OCI_KIND_LAYER_GZIP ? ARCHIVE_FILTER_GZIP : ARCHIVE_FILTER_ZSTD;
	struct archive *ar = archive_read_new();
	auto_free char *out = mem_calloc(1, OUT_BYTES);

	if (!ar || !out) {
		archive_read_free(ar);
		return err_nomem(e);
	}
	int r = inflate(ar, in_fd, out_fd, filter, out, e);

	archive_read_free(ar);
	return r;
}
