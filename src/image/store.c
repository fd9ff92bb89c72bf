/* SPDX-License-Identifier: Apache-2.0 */
#include "image/store.h"

#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>

#include "base/mem.h"
#include "image/store-private.h"

#define FORMAT_TEXT "{\"version\":1}\n"
#define LAYOUT_TEXT "{\"imageLayoutVersion\":\"1.0.0\"}\n"

int store__host_err(struct err *e, int r, const char *what)
{
	if (r == -ENOSPC || r == -EDQUOT) {
		return err_set(e, -r, ERR_LIMIT, "%s: no space left where the images are kept; "
			       "remove images (holm image prune) or make room", what);
	}
	return err_set(e, -r, ERR_HOST, "%s", what);
}

int store__writable(const struct store *s, struct err *e)
{
	if (s->flags & STORE_READ_ONLY) {
		return err_set(e, EROFS, ERR_DENIED, "the image store was opened for reading only");
	}
	return 0;
}

int store__temp_path(const char *folder, struct store_path *ret, struct err *e)
{
	struct id id;
	int r = id_new(&id);

	if (r < 0) {
		return err_set(e, -r, ERR_HOST, "cannot make a random name");
	}
	(void)snprintf(ret->text, sizeof(ret->text), "%s/%s", folder, id.text);
	return 0;
}

/* "FOLDER/ALG<sep>HEX". */
static struct blob_path digest_path(const char *folder, char sep, const char *digest)
{
	struct blob_path p;
	const char *hex = digest_hex(digest);

	(void)snprintf(p.text, sizeof(p.text), "%s/%.6s%c%s", folder, digest, sep, hex);
	return p;
}

struct blob_path store__blob_path(const char *digest)
{
	return digest_path("blobs", '/', digest);
}

struct blob_path store__partial_path(const char *digest)
{
	return digest_path("partial", '-', digest);
}

struct blob_path store__layer_path(const char *chain_id)
{
	return digest_path("layers", '-', chain_id);
}

bool store__digest_of_name(const char *name, char ret[OCI_DIGEST_MAX])
{
	if (strlen(name) >= OCI_DIGEST_MAX || strlen(name) < 8 || name[6] != '-') {
		return false;
	}
	(void)snprintf(ret, OCI_DIGEST_MAX, "%s", name);
	ret[6] = ':';
	return oci_digest_valid(ret);
}

int store__names(const struct store *s, const char *path, struct strv *ret, struct err *e)
{
	DIR *dir = NULL;
	const struct dirent *d;
	int r = sys_opendir(s->dir_fd, path, &dir);

	if (r < 0) {
		return r == -ENOENT ? 0 : err_set(e, -r, ERR_HOST, "image store: %s", path);
	}
	while (r == 0 && (d = readdir(dir))) {
		if (!str_eq(d->d_name, ".") && !str_eq(d->d_name, "..")) {
			r = strv_add(ret, d->d_name);
		}
	}
	(void)closedir(dir); /* read only: nothing to lose */
	return r < 0 ? err_nomem(e) : 0;
}

int store__sync_folder(struct store *s, const char *path, struct err *e)
{
	auto_close int fd = sys_openat(s->dir_fd, path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW, 0);
	int r = fd < 0 ? fd : sys_fsync(fd);

	return r < 0 ? err_set(e, -r, ERR_HOST, "image store: sync of %s", path) : 0;
}

static int write_temp(struct store *s, const char *temp, const void *data, size_t n)
{
	auto_close int fd = sys_openat(s->dir_fd, temp, O_WRONLY | O_CREAT | O_EXCL, 0600);

	if (fd < 0) {
		return fd;
	}
	int r = sys_write_full(fd, data, n);

	return r < 0 ? r : sys_fdatasync(fd);
}

int store__write_file(struct store *s, const char *name, const void *data, size_t n,
		      struct err *e)
{
	struct store_path temp;
	int r = store__temp_path("tmp", &temp, e);

	if (r < 0) {
		return r;
	}
	r = write_temp(s, temp.text, data, n);
	if (r == 0) {
		r = sys_renameat2(s->dir_fd, temp.text, s->dir_fd, name, 0);
	}
	if (r < 0) {
		ignore_result(sys_unlinkat(s->dir_fd, temp.text, 0)); /* the first failure counts */
		return store__host_err(e, r, "image store: writing the index");
	}
	return store__sync_folder(s, ".", e);
}

/* A file with fixed content, made if it is missing. */
static int ensure_file(struct store *s, const char *name, const char *text, struct err *e)
{
	struct stat st;
	int r = sys_fstatat(s->dir_fd, name, &st, AT_SYMLINK_NOFOLLOW);

	if (r == -ENOENT) {
		return store__write_file(s, name, text, strlen(text), e);
	}
	return r < 0 ? err_set(e, -r, ERR_HOST, "image store: %s", name) : 0;
}

static int make_folders(struct store *s, struct err *e)
{
	static const char *const folders[] = {
		"blobs",  "blobs/sha256", "blobs/sha512", "partial",
		"layers", "pins",         "tmp",          "trash",
	};

	bool fresh = false;

	for (size_t i = 0; i < ARRAY_LEN(folders); i++) {
		int r = sys_mkdirat(s->dir_fd, folders[i], 0700);

		if (r < 0 && r != -EEXIST) {
			return store__host_err(e, r, "image store: making its folders");
		}
		fresh |= r == 0;
	}
	/* What is put in a folder later is on disk only if the folder is. */
	int r = fresh ? store__sync_folder(s, "blobs", e) : 0;

	if (r == 0 && fresh) {
		r = store__sync_folder(s, ".", e);
	}
	r = r < 0 ? r : ensure_file(s, "oci-layout", LAYOUT_TEXT, e);

	/* Last: with it the store is whole. */
	return r < 0 ? r : ensure_file(s, "holm-store", FORMAT_TEXT, e);
}

static int check_format(struct store *s, const char *path, struct err *e)
{
	static const char known[] = "{\"version\":1}";
	auto_buf struct buf text = BUF_INIT;
	int r = sys_read_file(s->dir_fd, "holm-store", 256, &text);

	if (r == -ENOENT) {
		return err_set(e, ENOENT, ERR_NOT_FOUND, "%s is not an image store", path);
	}
	if (r < 0) {
		return err_set(e, -r, ERR_HOST, "image store %s", path);
	}
	if (!str_after(buf_str(&text), known)) {
		return err_set(e, EPROTONOSUPPORT, ERR_UNSUPPORTED,
			       "%s is an image store of a newer Holm", path);
	}
	return 0;
}

static int open_folder(struct store *s, const char *path, struct err *e)
{
	if (s->flags & STORE_CREATE) {
		int r = sys_mkdir_p(AT_FDCWD, path, 0700);

		if (r < 0) {
			return err_set(e, -r, ERR_HOST, "image store %s", path);
		}
	}
	s->dir_fd = sys_openat(AT_FDCWD, path, O_RDONLY | O_DIRECTORY, 0);
	if (s->dir_fd < 0) {
		return err_set(e, -s->dir_fd, s->dir_fd == -ENOENT ? ERR_NOT_FOUND : ERR_HOST,
			       "image store %s", path);
	}
	return 0;
}

/* Rule 15: what is in the store is for nobody else's eyes. Only once it is known to be one. */
static int close_to_others(struct store *s, const char *path, struct err *e)
{
	struct stat st;
	int r = sys_fstat(s->dir_fd, &st);

	if (r == 0 && (st.st_mode & 077) && !(s->flags & STORE_READ_ONLY)) {
		r = sys_fchmod(s->dir_fd, 0700);
	}
	return r < 0 ? err_set(e, -r, ERR_HOST, "image store %s: its mode", path) : 0;
}

/* A folder that has other things in it is not made a store by mistake. */
static int check_empty(struct store *s, const char *path, struct err *e)
{
	auto_strv struct strv names = STRV_INIT;
	struct stat st;

	if (sys_fstatat(s->dir_fd, "holm-store", &st, AT_SYMLINK_NOFOLLOW) == 0) {
		return 0;
	}
	int r = store__names(s, ".", &names, e);

	for (size_t i = 0; r == 0 && i < names.n; i++) {
		/* What a start that broke off left, and what a new file system has. */
		static const char *const ours[] = { "blobs", "partial",    "layers",
						    "pins",  "tmp",        "trash",
						    "lock",  "oci-layout", "lost+found" };
		bool known = false;

		for (size_t k = 0; k < ARRAY_LEN(ours); k++) {
			known |= str_eq(names.v[i], ours[k]);
		}
		if (!known) {
			return err_set(e, ENOTEMPTY, ERR_CONFLICT,
				       "%s is no image store, and not empty "
				       "(%.60s); choose another folder",
				       path, names.v[i]);
		}
	}
	return r;
}

static int open_store(struct store *s, const char *path, struct err *e)
{
	int r = open_folder(s, path, e);

	if (r == 0) {
		r = (s->flags & STORE_CREATE) ? check_empty(s, path, e) : check_format(s, path, e);
	}
	if (r == 0 && (s->flags & STORE_CREATE)) {
		r = make_folders(s, e);
		r = r < 0 ? r : check_format(s, path, e);
	}
	return r < 0 ? r : close_to_others(s, path, e);
}

int store_open(const char *path, unsigned flags, struct store **ret, struct err *e)
{
	struct store *s = mem_new(struct store);

	if (!s) {
		return err_nomem(e);
	}
	s->dir_fd = s->lock_fd = -1;
	s->flags = flags;
	int r = open_store(s, path, e);

	if (r < 0) {
		store_close(s);
		return r;
	}
	*ret = s;
	return 0;
}

void store_close(struct store *s)
{
	if (s) {
		arena_fini(&s->cache.arena);
		fd_close(&s->lock_fd);
		fd_close(&s->dir_fd);
		free(s);
	}
}

int store_dir_fd(const struct store *s)
{
	return s->dir_fd;
}

/*
 * Each hold is an opening of its own: a process that forked shares what was open, and one of
 * the two letting go would let go for both.
 */
int store__lock(struct store *s, const char *name, int how, int *ret_fd, struct err *e)
{
	auto_close int fd = sys_openat(s->dir_fd, name, O_RDWR | O_CREAT | O_NOFOLLOW, 0600);

	if (fd < 0) {
		return store__host_err(e, fd, "image store: its lock");
	}
	int r = sys_flock(fd, how);

	if (r == -EWOULDBLOCK) {
		return err_set(e, EBUSY, ERR_CONFLICT, "images are being added; try again later");
	}
	if (r < 0) {
		return err_set(e, -r, ERR_HOST, "image store: its lock");
	}
	*ret_fd = take_fd(&fd);
	return 0;
}

void store__unlock(int *fd)
{
	if (*fd >= 0) {
		/* Said, as a child that was forked meanwhile may still have it open. */
		(void)flock(*fd, LOCK_UN);
		fd_close(fd);
	}
}

int store_use_begin(struct store *s, struct err *e)
{
	int r = store__writable(s, e);

	if (r == 0 && s->uses == 0) {
		r = store__lock(s, "lock", LOCK_SH, &s->lock_fd, e);
	}
	s->uses += r == 0;
	return r;
}

void store_use_end(struct store *s)
{
	assert(s->uses > 0);
	if (--s->uses == 0) {
		store__unlock(&s->lock_fd);
	}
}

int store__index_lock(struct store *s, int *ret_fd, struct err *e)
{
	return store__lock(s, "index.lock", LOCK_EX, ret_fd, e);
}
