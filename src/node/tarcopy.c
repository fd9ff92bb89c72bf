/* SPDX-License-Identifier: Apache-2.0 */
#include "node/tarcopy.h"

#include <archive.h>
#include <archive_entry.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <string.h>
#include <sys/stat.h>

#include "base/fd.h"
#include "base/str.h"
#include "json/json.h"
#include "sys/file.h"
#include "sys/path.h"

enum { CHUNK = 65536, DEPTH_MAX = 128 };

/* --- Out --- */

struct out {
	struct archive *a;
	struct err     *e;
	char            buf[CHUNK];
};

static int archive_err(struct archive *a, const char *what, struct err *e)
{
	int n = archive_errno(a);

	return err_set(e, n > 0 ? n : EIO, n == EPIPE ? ERR_UNAVAILABLE : ERR_INVALID, "%s: %s", what,
		       archive_error_string(a) ? archive_error_string(a) : "failed");
}

static int gone(const char *name, int r, struct err *e)
{
	return err_set(e, -r, r == -ENOENT || r == -ENOTDIR ? ERR_NOT_FOUND :
		       r == -ELOOP || r == -EXDEV ? ERR_DENIED : ERR_HOST, "%s", name);
}

/* At most what fstat() said: a file that grows does not break the stream, one that shrinks is
 * filled with zeros. */
static int put_content(struct out *o, int fd, int64_t size)
{
	while (size > 0) {
		ssize_t n = sys_read(fd, o->buf, (size_t)MIN(size, (int64_t)CHUNK));

		if (n < 0) {
			return err_set(o->e, (int)-n, ERR_HOST, "read a file");
		}
		if (n == 0) {
			n = (ssize_t)MIN(size, (int64_t)CHUNK);
			memset(o->buf, 0, (size_t)n);
		}
		if (archive_write_data(o->a, o->buf, (size_t)n) < 0) {
			return archive_err(o->a, "the tar", o->e);
		}
		size -= n;
	}
	return 0;
}

static int put_header(struct out *o, const char *name, const struct stat *st, const char *link)
{
	struct archive_entry *en = archive_entry_new();

	if (!en) {
		return err_nomem(o->e);
	}
	archive_entry_copy_stat(en, st);
	archive_entry_set_pathname(en, name);
	archive_entry_set_nlink(en, 1);
	if (link) {
		archive_entry_set_symlink(en, link);
	}
	if (!S_ISREG(st->st_mode)) {
		archive_entry_set_size(en, 0);
	}
	int r = archive_write_header(o->a, en) != ARCHIVE_OK ? archive_err(o->a, name, o->e) : 0;

	archive_entry_free(en);
	return r;
}

static int put_one(struct out *o, int dir_fd, const char *base, const char *name, unsigned depth);

static int put_dir(struct out *o, int fd, const char *name, unsigned depth)
{
	int copy = sys_openat(fd, ".", O_RDONLY | O_DIRECTORY, 0);
	DIR *dir = copy < 0 ? NULL : fdopendir(copy);
	struct dirent *d;
	int r = 0;

	if (!dir) {
		fd_close(&copy);
		return err_set(o->e, copy < 0 ? -copy : ENOMEM, ERR_HOST, "read the folder %s", name);
	}
	while (r == 0 && (d = readdir(dir))) {
		if (!str_eq(d->d_name, ".") && !str_eq(d->d_name, "..")) {
			auto_free char *path = str_printf("%s/%s", name, d->d_name);

			r = path ? put_one(o, fd, d->d_name, path, depth + 1) : err_nomem(o->e);
		}
	}
	closedir(dir);
	return r;
}

/* Sockets, devices and FIFOs have no content to copy. */
static int put_fd(struct out *o, int path_fd, const char *name, unsigned depth)
{
	struct stat st;
	char link[PATH_MAX];
	int r = sys_fstat(path_fd, &st);

	if (r < 0) {
		return gone(name, r, o->e);
	}
	if (S_ISLNK(st.st_mode)) {
		ssize_t n = sys_readlinkat(path_fd, "", link, sizeof(link) - 1);

		if (n < 0) {
			return gone(name, (int)n, o->e);
		}
		link[n] = '\0';
		return put_header(o, name, &st, link);
	}
	if (S_ISDIR(st.st_mode)) {
		r = depth > DEPTH_MAX ? err_set(o->e, ELOOP, ERR_LIMIT, "%s: too deep", name) :
		    put_header(o, name, &st, NULL);
		return r < 0 ? r : put_dir(o, path_fd, name, depth);
	}
	if (!S_ISREG(st.st_mode)) {
		return 0;
	}
	struct fd_path proc = fd_path(path_fd);
	auto_close int fd = sys_openat(AT_FDCWD, proc.text, O_RDONLY | O_NONBLOCK | O_NOCTTY, 0);

	if (fd < 0) {
		return gone(name, fd, o->e);
	}
	r = put_header(o, name, &st, NULL);
	return r < 0 ? r : put_content(o, fd, st.st_size);
}

static int put_one(struct out *o, int dir_fd, const char *base, const char *name, unsigned depth)
{
	auto_close int fd = sys_openat(dir_fd, base, O_PATH | O_NOFOLLOW, 0);

	/* What goes while we read is not there. */
	return fd == -ENOENT ? 0 : fd < 0 ? gone(name, fd, o->e) : put_fd(o, fd, name, depth);
}

/* The last name of a path, "." for the root. */
static void last_name(const char *path, char *out, size_t n)
{
	auto_free char *clean = path_clean(path);
	const char *slash = clean ? strrchr(clean, '/') : NULL;

	snprintf(out, n, "%s", slash && slash[1] ? slash + 1 : ".");
}

int tarcopy_out(int root_fd, const char *path, bool follow, int out_fd, struct err *e)
{
	char name[NAME_MAX + 1];
	auto_close int fd = path_open(root_fd, path, follow ? 0 : PATH_NOFOLLOW);
	struct out *o = fd < 0 ? NULL : calloc(1, sizeof(*o));

	if (fd < 0) {
		return gone(path, fd, e);
	}
	if (!o) {
		return err_nomem(e);
	}
	o->a = archive_write_new();
	o->e = e;
	last_name(path, name, sizeof(name));
	int r = 0;

	if (!o->a || archive_write_set_format_pax_restricted(o->a) != ARCHIVE_OK ||
	    archive_write_set_bytes_in_last_block(o->a, 1) != ARCHIVE_OK ||
	    archive_write_open_fd(o->a, out_fd) != ARCHIVE_OK) {
		r = err_nomem(e);
	}
	r = r < 0 ? r : put_fd(o, fd, name, 0);
	if (r == 0 && archive_write_close(o->a) != ARCHIVE_OK) {
		r = archive_err(o->a, "the tar", e);
	}
	if (o->a) {
		archive_write_free(o->a);
	}
	free(o);
	return r;
}

int tarcopy_stat(int root_fd, const char *path, bool follow, int out_fd, struct err *e)
{
	auto_close int fd = path_open(root_fd, path, follow ? 0 : PATH_NOFOLLOW);
	struct stat st;
	char name[NAME_MAX + 1], link[PATH_MAX] = "";
	int r = fd < 0 ? fd : sys_fstat(fd, &st);

	if (r < 0) {
		return gone(path, r, e);
	}
	if (S_ISLNK(st.st_mode)) {
		ssize_t n = sys_readlinkat(fd, "", link, sizeof(link) - 1);

		link[MAX(n, (ssize_t)0)] = '\0';
	}
	last_name(path, name, sizeof(name));
	auto_json json_t *j = json_pack("{s:s,s:s,s:I,s:i,s:s}", "name", name, "type",
					S_ISDIR(st.st_mode) ? "dir" : S_ISREG(st.st_mode) ? "file" :
					S_ISLNK(st.st_mode) ? "link" : "other", "size",
					(json_int_t)st.st_size, "mode", (int)(st.st_mode & 07777),
					"link", link);
	auto_free char *text = j ? json_text(j) : NULL;

	if (!text) {
		return err_set(e, EILSEQ, ERR_UNSUPPORTED, "%s: its name is not UTF-8", path);
	}
	r = sys_write_full(out_fd, text, strlen(text));
	return r < 0 ? err_set(e, -r, ERR_HOST, "a pipe") : 0;
}

/* --- In --- */

struct in {
	struct archive *a;
	struct err     *e;
	int             root_fd;   /* of the instance: links lead inside it */
	int             dir_fd;    /* the folder that is unpacked into */
};

/* Nothing but names: not absolute, no "..". */
static bool name_ok(const char *s)
{
	const char *part;
	size_t len;

	if (!s || !*s || s[0] == '/' || strlen(s) >= PATH_MAX) {
		return false;
	}
	while (str_split(&s, '/', &part, &len)) {
		if (len == 2 && part[0] == '.' && part[1] == '.') {
			return false;
		}
	}
	return true;
}

static int refuse(struct in *x, const char *name, const char *why)
{
	return err_set(x->e, EINVAL, ERR_INVALID, "the tar's entry \"%.128s\": %s", name, why);
}

static int set_attributes(int fd, struct archive_entry *en, bool link)
{
	struct timespec times[2] = {
		{ .tv_sec = archive_entry_mtime(en), .tv_nsec = archive_entry_mtime_nsec(en) },
		{ .tv_sec = archive_entry_mtime(en), .tv_nsec = archive_entry_mtime_nsec(en) },
	};
	int r = sys_fchownat(fd, "", (uid_t)archive_entry_uid(en), (gid_t)archive_entry_gid(en),
			     AT_EMPTY_PATH);

	if (r == 0 && !link) {
		struct fd_path proc = fd_path(fd);

		r = sys_fchmodat(AT_FDCWD, proc.text, archive_entry_perm(en) & 07777);
	}
	ignore_result(sys_utimensat(fd, "", times, AT_EMPTY_PATH));
	/* a wrong time does no harm */
	return r;
}

/* Room for what comes: a folder only gives way to a folder. */
static int make_room(struct in *x, int parent, const char *base, const char *name)
{
	int r = sys_unlinkat(parent, base, 0);

	return r == 0 || r == -ENOENT ? 0 : r == -EISDIR ?
	       refuse(x, name, "a folder is there already") : gone(name, r, x->e);
}

static int take_content(struct in *x, int fd, const char *name)
{
	const void *data;
	size_t n;
	int64_t off;
	int s;

	while ((s = archive_read_data_block(x->a, &data, &n, &off)) == ARCHIVE_OK) {
		size_t done = 0;

		while (done < n) {
			ssize_t w = sys_pwrite(fd, (const char *)data + done, n - done,
					       off + (int64_t)done);

			if (w <= 0) {
				return err_set(x->e, w < 0 ? (int)-w : EIO, ERR_HOST, "%s", name);
			}
			done += (size_t)w;
		}
	}
	return s == ARCHIVE_EOF ? 0 : archive_err(x->a, name, x->e);
}

static int take_file(struct in *x, int parent, const char *base, const char *name,
		     struct archive_entry *en)
{
	int r = make_room(x, parent, base, name);
	auto_close int fd = r < 0 ? -1 : path_create(parent, base, O_WRONLY, 0600);

	if (r < 0 || fd < 0) {
		return r < 0 ? r : gone(name, fd, x->e);
	}
	r = take_content(x, fd, name);
	if (r == 0 && archive_entry_size(en) > 0) {
		r = sys_ftruncate(fd, archive_entry_size(en));
		r = r < 0 ? gone(name, r, x->e) : 0;
	}
	if (r < 0) {
		return r;
	}
	r = set_attributes(fd, en, false);
	return r < 0 ? gone(name, r, x->e) : 0;
}

static int take_dir(struct in *x, int parent, const char *base, const char *name,
		    struct archive_entry *en)
{
	int r = path_mkdir(parent, base, 0700);
	auto_close int fd = r < 0 && r != -EEXIST ? -1 :
			    sys_openat(parent, base, O_PATH | O_DIRECTORY | O_NOFOLLOW, 0);

	if (fd < 0) {
		return r < 0 && r != -EEXIST ? gone(name, r, x->e) : gone(name, fd, x->e);
	}
	r = r == 0 ? set_attributes(fd, en, false) : 0; /* one that was there stays as it is */
	return r < 0 ? gone(name, r, x->e) : 0;
}

static int take_symlink(struct in *x, int parent, const char *base, const char *name,
			struct archive_entry *en)
{
	const char *target = archive_entry_symlink(en);
	int r = target && *target ? make_room(x, parent, base, name) :
		refuse(x, name, "a link without a target");

	r = r < 0 ? r : path_symlink(parent, base, target);
	auto_close int fd = r < 0 ? -1 : sys_openat(parent, base, O_PATH | O_NOFOLLOW, 0);

	if (fd >= 0) {
		r = set_attributes(fd, en, true);
	}
	return r < 0 && !x->e->errnum ? gone(name, r, x->e) : r;
}

/* Its target is looked for in the folder that is unpacked into, no link followed. */
static int take_hardlink(struct in *x, int parent, const char *base, const char *name,
			 struct archive_entry *en)
{
	const char *target = archive_entry_hardlink(en);

	if (!name_ok(target)) {
		return refuse(x, name, "its target is outside");
	}
	auto_close int fd = path_open(x->dir_fd, target, PATH_NOFOLLOW | PATH_NO_SYMLINKS);
	int r = fd < 0 ? gone(target, fd, x->e) : make_room(x, parent, base, name);

	if (r < 0) {
		return r;
	}
	struct fd_path proc = fd_path(fd);

	r = sys_linkat(AT_FDCWD, proc.text, parent, base, AT_SYMLINK_FOLLOW);
	return r < 0 ? gone(name, r, x->e) : 0;
}

static int take_entry(struct in *x, struct archive_entry *en)
{
	const char *name = archive_entry_pathname(en);
	char base[NAME_MAX + 1];

	if (!name_ok(name)) {
		return refuse(x, name ? name : "", "its name is not inside");
	}
	auto_free char *clean = path_clean(name);

	if (!clean) {
		return err_nomem(x->e);
	}
	if (str_eq(clean, "/")) {
		return 0; /* "./": the folder itself, which is there */
	}
	/* Parents that are missing are made; links in them lead inside the folder at most. */
	auto_close int parent = path_parent_p(x->dir_fd, clean, 0755, base);

	if (parent < 0) {
		return gone(name, parent, x->e);
	}
	if (archive_entry_hardlink(en)) {
		return take_hardlink(x, parent, base, name, en);
	}
	switch (archive_entry_filetype(en)) {
	case AE_IFREG:
		return take_file(x, parent, base, name, en);
	case AE_IFDIR:
		return take_dir(x, parent, base, name, en);
	case AE_IFLNK:
		return take_symlink(x, parent, base, name, en);
	default:
		return refuse(x, name, "devices, FIFOs and sockets cannot be copied");
	}
}

int tarcopy_in(int root_fd, const char *path, int in_fd, struct err *e)
{
	struct in x = { .a = archive_read_new(), .e = e, .root_fd = root_fd };
	auto_close int dir_fd = path_open(root_fd, path, PATH_DIRECTORY);
	struct archive_entry *en;
	int r = dir_fd < 0 ? gone(path, dir_fd, e) : !x.a ? err_nomem(e) : 0, s = ARCHIVE_OK;

	x.dir_fd = dir_fd;
	if (r == 0 && (archive_read_support_format_tar(x.a) != ARCHIVE_OK ||
		       archive_read_open_fd(x.a, in_fd, CHUNK) != ARCHIVE_OK)) {
		r = archive_err(x.a, "the tar", e);
	}
	while (r == 0 && (s = archive_read_next_header(x.a, &en)) == ARCHIVE_OK) {
		r = take_entry(&x, en);
	}
	if (r == 0 && s != ARCHIVE_EOF) {
		r = archive_err(x.a, "the tar", e);
	}
	if (x.a) {
		archive_read_free(x.a);
	}
	return r;
}
