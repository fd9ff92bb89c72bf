/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Loading images from a folder: read by the child from its index.json downwards, each file
 * opened by the parent.
 */
#include <errno.h>
#include <linux/openat2.h>
#include <stdio.h>
#include <string.h>

#include "base/mem.h"
#include "image/archive-private.h"
#include "image/layout.h"
#include "sys/file.h"

struct dir_load {
	struct layout_source src;   /* first, so that callbacks find the rest */
	struct worker       *w;
	size_t               doc_bytes;
};

static int read_doc(struct dir_load *l, const char *name, const char **ret_text, size_t *ret_len,
		    struct err *e)
{
	auto_buf struct buf b = BUF_INIT;
	uint64_t size;
	auto_close int fd = worker_open(l->w, name, &size, e);

	if (fd < 0) {
		return fd;
	}

	int r = sys_read_fd(fd, ARCHIVE__DOC_MAX, &b);

	if (r < 0) {
		return err_set(e, -r, r == -EFBIG ? ERR_LIMIT : ERR_HOST, "%s cannot be read",
			       name);
	}
	l->doc_bytes += b.len;
	if (l->doc_bytes > ARCHIVE__DOCS_MAX) {
		return err_set(e, E2BIG, ERR_LIMIT, "%s: more than 64 MiB of documents", name);
	}

	char *copy = arena_alloc(l->src.arena, b.len + 1, 1);

	if (!copy) {
		return err_nomem(e);
	}
	memcpy(copy, buf_str(&b), b.len);
	*ret_text = copy;
	*ret_len = b.len;
	return 0;
}

static int dir_doc(struct layout_source *src, const char *digest, const char **ret_text,
		   size_t *ret_len, struct err *e)
{
	struct dir_load *l = container_of(src, struct dir_load, src);
	auto_digest struct digest *d = digest_new(digest);
	int r = read_doc(l, digest, ret_text, ret_len, e);

	if (r < 0) {
		return r;
	}
	if (!d) {
		return err_nomem(e);
	}
	digest_add(d, *ret_text, *ret_len);
	return str_eq(digest_end(d).text, digest) ? 0 :
		err_set(e, EBADMSG, ERR_INVALID, "%s in the folder has another digest", digest);
}

static int dir_blob(struct layout_source *src, const struct oci_desc *d, const char *what,
		    struct err *e)
{
	struct dir_load *l = container_of(src, struct dir_load, src);
	auto_free uint8_t *buf = mem_calloc(1, ARCHIVE__BLOCK);
	uint64_t offset, size;
	uint32_t blob;
	int r = worker_blob_begin(l->w, d->digest, d->size, what, &blob, &offset, e);

	if (r != 0) {
		return r < 0 ? r : 0;
	}
	if (!buf) {
		return err_nomem(e);
	}

	auto_close int fd = worker_open(l->w, d->digest, &size, e);

	if (fd < 0) {
		return fd;
	}
	if (offset > 0) {
		r = worker_blob_restart(l->w, blob, e);
	}
	while (r == 0) {
		ssize_t n = sys_read(fd, buf, ARCHIVE__BLOCK);

		if (n <= 0) {
			r = n < 0 ? err_set(e, (int)-n, ERR_HOST, "%s cannot be read", d->digest) :
				    0;
			break;
		}
		r = worker_blob_data(l->w, blob, buf, (size_t)n, e);
	}
	return r < 0 ? r : worker_blob_end(l->w, blob, NULL, e);
}

static int announce(struct layout_source *src, const struct worker_image *image, struct err *e)
{
	return worker_image(container_of(src, struct dir_load, src)->w, image, e);
}

int archive__load_dir(struct worker *w, const char *platform, struct err *e)
{
	auto_arena struct arena arena = ARENA_INIT;
	struct dir_load l = { .w = w, .src = { .doc = dir_doc, .blob = dir_blob, .image = announce,
					       .platform = platform, .arena = &arena } };
	const char *text;
	size_t len;
	int r = read_doc(&l, "oci-layout", &text, &len, e);

	if (r < 0) {
		return err_wrap(e, "not an OCI layout");
	}
	r = read_doc(&l, "index.json", &text, &len, e);
	return r < 0 ? r : layout_oci(&l.src, text, len, e);
}

int archive__open_in_layout(const char *name, uint64_t *ret_size, void *ud, struct err *e)
{
	const struct archive_load *l = ud;
	char path[256];
	struct stat st;

	if (oci_digest_valid(name)) {
		snprintf(path, sizeof(path), "blobs/%.6s/%s", name, digest_hex(name));
	} else if (str_eq(name, "index.json") || str_eq(name, "oci-layout")) {
		snprintf(path, sizeof(path), "%s", name);
	} else {
		return err_set(e, EINVAL, ERR_INVALID, "no such name");
	}

	/* A file of the caller's own folder; a pipe or device there must not block us. */
	struct open_how how = { .flags = O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC,
				.resolve = RESOLVE_BENEATH | RESOLVE_NO_MAGICLINKS };
	auto_close int fd = sys_openat2(l->fd, path, &how);

	if (fd < 0) {
		return err_set(e, -fd, ERR_NOT_FOUND, "%s has no readable %s", l->file, path);
	}
	if (sys_fstat(fd, &st) < 0 || !S_ISREG(st.st_mode)) {
		return err_set(e, EINVAL, ERR_INVALID, "%s is not a file", path);
	}
	*ret_size = (uint64_t)st.st_size;
	return take_fd(&fd);
}
