/* SPDX-License-Identifier: Apache-2.0 */
/* Blobs: written aside, checked, synced, renamed into place. */
#include <errno.h>
#include <stdio.h>
#include <sys/file.h>

#include "base/mem.h"
#include "image/store-private.h"

struct blob_writer {
	struct store  *store;
	struct digest *hash;
	int            fd;
	uint64_t       offset;      /* bytes in the file */
	uint64_t       size;        /* expected; UINT64_MAX: any */
	bool           keep;        /* BLOB_RESUME: the file stays without a commit */
	bool           linked;      /* the file has the name `path` */
	char           want[OCI_DIGEST_MAX];  /* "" any */
	char           path[8 + OCI_DIGEST_MAX];
};

enum { CHUNK_BYTES = 256 * 1024 };

/*
 * A partial file belongs to whoever locks it. Its last owner may have renamed or removed it
 * between our open and our lock: then what we locked is no longer the file of that name.
 */
static int lock_partial(struct blob_writer *w, struct err *e)
{
	struct stat mine, named;
	int r = sys_flock(w->fd, LOCK_EX | LOCK_NB);

	if (r == -EWOULDBLOCK) {
		return err_set(e, EBUSY, ERR_CONFLICT, "%s is being fetched by another process",
			       w->want);
	}
	if (r == 0) {
		r = sys_fstat(w->fd, &mine);
	}
	if (r == 0) {
		r = sys_fstatat(w->store->dir_fd, w->path, &named, AT_SYMLINK_NOFOLLOW);
	}
	if (r == -ENOENT || (r == 0 && mine.st_ino != named.st_ino)) {
		return -EAGAIN;
	}
	return r < 0 ? err_set(e, -r, ERR_HOST, "image store: %s", w->path) : 0;
}

static int hash_what_is_there(struct blob_writer *w, struct err *e)
{
	auto_free char *chunk = mem_calloc(1, CHUNK_BYTES);
	ssize_t n;

	if (!chunk) {
		return err_nomem(e);
	}
	while ((n = sys_read(w->fd, chunk, CHUNK_BYTES)) > 0) {
		digest_add(w->hash, chunk, (size_t)n);
		w->offset += (uint64_t)n;
	}
	if (n < 0) {
		return err_set(e, (int)-n, ERR_HOST, "image store: %s", w->path);
	}
	if (w->size != UINT64_MAX && w->offset > w->size) {
		return blob_writer_restart(w, e);
	}
	return 0;
}

static int open_partial(struct blob_writer *w, struct err *e)
{
	(void)snprintf(w->path, sizeof(w->path), "%s", store__partial_path(w->want).text);
	for (;;) {
		w->fd = sys_openat(w->store->dir_fd, w->path,
				   O_RDWR | O_CREAT | O_NOFOLLOW | O_NONBLOCK, 0600);
		if (w->fd < 0) {
			return store__host_err(e, w->fd, "image store: a new blob");
		}
		int r = lock_partial(w, e);

		if (r == 0) {
			w->linked = true;
			return hash_what_is_there(w, e);
		}
		fd_close(&w->fd);
		if (r != -EAGAIN) {
			return r;
		}
	}
}

static int open_temp(struct blob_writer *w, struct err *e)
{
	struct store_path temp;
	int r = store__temp_path("tmp", &temp, e);

	if (r < 0) {
		return r;
	}
	(void)snprintf(w->path, sizeof(w->path), "%s", temp.text);
	w->fd = sys_openat(w->store->dir_fd, w->path, O_RDWR | O_CREAT | O_EXCL, 0600);
	if (w->fd < 0) {
		return store__host_err(e, w->fd, "image store: a new blob");
	}
	w->linked = true;
	return 0;
}

int blob_writer_open(struct store *s, const char *digest, uint64_t size, unsigned flags,
		     struct blob_writer **ret, struct err *e)
{
	int r = store__writable(s, e);

	if (r < 0) {
		return r;
	}
	if (digest && !oci_digest_valid(digest)) {
		return err_set(e, EINVAL, ERR_INVALID, "\"%.80s\" is not a digest", digest);
	}
	assert(digest || !(flags & BLOB_RESUME));
	auto_blob_writer struct blob_writer *w = mem_new(struct blob_writer);

	if (!w) {
		return err_nomem(e);
	}
	w->store = s;
	w->fd = -1;
	w->size = size;
	w->keep = (flags & BLOB_RESUME) != 0;
	(void)snprintf(w->want, sizeof(w->want), "%s", digest ? digest : "");
	w->hash = digest_new(digest ? digest : "sha256");
	if (!w->hash) {
		return err_nomem(e);
	}
	r = w->keep ? open_partial(w, e) : open_temp(w, e);
	if (r == 0) {
		*ret = take_ptr(&w);
	}
	return r;
}

uint64_t blob_writer_offset(const struct blob_writer *w)
{
	return w->offset;
}

int blob_writer_write(struct blob_writer *w, const void *data, size_t n, struct err *e)
{
	if (w->size != UINT64_MAX && n > w->size - w->offset) {
		return err_set(e, EBADMSG, ERR_INVALID,
			       "%s is longer than the %llu bytes announced",
			       w->want[0] ? w->want : "the blob", (unsigned long long)w->size);
	}
	int r = sys_write_full(w->fd, data, n);

	if (r < 0) {
		/* How much arrived is not known; the hash must not run ahead of the file. */
		w->keep = false;
		return store__host_err(e, r, "image store: writing a blob");
	}
	digest_add(w->hash, data, n);
	w->offset += n;
	return 0;
}

int blob_writer_restart(struct blob_writer *w, struct err *e)
{
	struct digest *fresh = digest_new(w->want[0] ? w->want : "sha256");

	if (!fresh) {
		return err_nomem(e);
	}
	digest_free(w->hash);
	w->hash = fresh;
	w->offset = 0;
	int r = sys_ftruncate(w->fd, 0);

	if (r == 0 && lseek(w->fd, 0, SEEK_SET) < 0) {
		r = -errno;
	}
	return r < 0 ? store__host_err(e, r, "image store: writing a blob") : 0;
}

static int check(struct blob_writer *w, const char *got, struct err *e)
{
	const char *name = w->want[0] ? w->want : got;

	if (w->size != UINT64_MAX && w->offset != w->size) {
		return err_set(e, EBADMSG, ERR_INVALID, "%s has %llu bytes instead of %llu", name,
			       (unsigned long long)w->offset, (unsigned long long)w->size);
	}
	if (w->want[0] && !str_eq(w->want, got)) {
		return err_set(e, EBADMSG, ERR_INVALID, "what came as %s is %s", w->want, got);
	}
	return 0;
}

int blob_writer_commit(struct blob_writer *w, struct blob_info *ret, struct err *e)
{
	struct digest_text got = digest_end(w->hash);

	w->keep = false; /* right or wrong, these bytes are done with */
	int r = check(w, got.text, e);

	if (r < 0) {
		return r;
	}
	r = sys_fdatasync(w->fd);
	if (r == 0) {
		r = sys_renameat2(w->store->dir_fd, w->path, w->store->dir_fd,
				  store__blob_path(got.text).text, 0);
	}
	if (r < 0) {
		return store__host_err(e, r, "image store: writing a blob");
	}
	w->linked = false;
	(void)snprintf(ret->digest, sizeof(ret->digest), "%s", got.text);
	ret->size = w->offset;
	return 0;
}

void blob_writer_free(struct blob_writer *w)
{
	if (!w) {
		return;
	}
	if (w->linked && !w->keep) {
		ignore_result(sys_unlinkat(w->store->dir_fd, w->path, 0)); /* garbage if it stays */
	}
	fd_close(&w->fd);
	digest_free(w->hash);
	free(w);
}

int store_blob_put(struct store *s, const void *data, size_t n, const char *digest,
		   struct blob_info *ret, struct err *e)
{
	struct blob_info info;
	auto_blob_writer struct blob_writer *w = NULL;
	int r = blob_writer_open(s, digest, n, 0, &w, e);

	if (r == 0) {
		r = blob_writer_write(w, data, n, e);
	}
	if (r == 0) {
		r = blob_writer_commit(w, ret ? ret : &info, e);
	}
	return r;
}

bool store_blob_has(struct store *s, const char *digest, uint64_t size)
{
	struct stat st;

	if (!oci_digest_valid(digest) ||
	    sys_fstatat(s->dir_fd, store__blob_path(digest).text, &st, AT_SYMLINK_NOFOLLOW) < 0) {
		return false;
	}
	return S_ISREG(st.st_mode) && (size == UINT64_MAX || (uint64_t)st.st_size == size);
}

int store_blob_open(struct store *s, const char *digest, uint64_t *ret_size, struct err *e)
{
	struct stat st;

	if (!oci_digest_valid(digest)) {
		return err_set(e, EINVAL, ERR_INVALID, "\"%.80s\" is not a digest", digest);
	}
	auto_close int fd = sys_openat(s->dir_fd, store__blob_path(digest).text,
				       O_RDONLY | O_NOFOLLOW | O_NONBLOCK, 0);

	if (fd < 0) {
		return err_set(e, -fd, fd == -ENOENT ? ERR_NOT_FOUND : ERR_HOST,
			       "%s is not in the image store", digest);
	}
	int r = sys_fstat(fd, &st);

	if (r < 0 || !S_ISREG(st.st_mode)) {
		return err_set(e, r < 0 ? -r : EBADMSG, ERR_HOST, "blob %s is damaged", digest);
	}
	if (ret_size) {
		*ret_size = (uint64_t)st.st_size;
	}
	return take_fd(&fd);
}

static int damaged(const char *digest, struct err *e)
{
	return err_set(e, EBADMSG, ERR_HOST,
		       "blob %s is damaged on disk; remove the image and get it again", digest);
}

int store_blob_read(struct store *s, const char *digest, size_t max, struct buf *ret,
		    struct err *e)
{
	auto_close int fd = store_blob_open(s, digest, NULL, e);

	if (fd < 0) {
		return fd;
	}
	size_t start = ret->len;
	int r = sys_read_fd(fd, max, ret);

	if (r == -EFBIG) {
		return err_set(e, EFBIG, ERR_LIMIT, "%s is larger than %zu bytes", digest, max);
	}
	if (r < 0) {
		return err_set(e, -r, ERR_HOST, "blob %s", digest);
	}
	auto_digest struct digest *d = digest_new(digest);

	if (!d) {
		return err_nomem(e);
	}
	if (ret->len > start) {
		digest_add(d, ret->data + start, ret->len - start);
	}
	return str_eq(digest_end(d).text, digest) ? 0 : damaged(digest, e);
}

struct blob_reader {
	int            fd;
	uint64_t       size;
	struct digest *hash;
	char           digest[OCI_DIGEST_MAX];
};

int blob_reader_open(struct store *s, const char *digest, struct blob_reader **ret,
		     struct err *e)
{
	auto_blob_reader struct blob_reader *r = mem_new(struct blob_reader);

	if (!r) {
		return err_nomem(e);
	}
	r->fd = store_blob_open(s, digest, &r->size, e);
	if (r->fd < 0) {
		return r->fd;
	}
	(void)snprintf(r->digest, sizeof(r->digest), "%s", digest);
	r->hash = digest_new(digest);
	if (!r->hash) {
		return err_nomem(e);
	}
	*ret = take_ptr(&r);
	return 0;
}

uint64_t blob_reader_size(const struct blob_reader *r)
{
	return r->size;
}

ssize_t blob_reader_read(struct blob_reader *r, void *buf, size_t n, struct err *e)
{
	ssize_t got = sys_read(r->fd, buf, n);

	if (got < 0) {
		return err_set(e, (int)-got, ERR_HOST, "blob %s", r->digest);
	}
	if (got == 0) {
		return str_eq(digest_end(r->hash).text, r->digest) ? 0 : damaged(r->digest, e);
	}
	digest_add(r->hash, buf, (size_t)got);
	return got;
}

void blob_reader_free(struct blob_reader *r)
{
	if (r) {
		fd_close(&r->fd);
		digest_free(r->hash);
		free(r);
	}
}
