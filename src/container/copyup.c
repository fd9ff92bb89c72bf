/* SPDX-License-Identifier: Apache-2.0 */
#include "container/copyup.h"

#include <dirent.h>
#include <errno.h>
#include <limits.h>
#include <string.h>
#include <sys/sendfile.h>
#include <sys/xattr.h>

#include "base/fd.h"
#include "base/mem.h"
#include "base/str.h"
#include "sys/file.h"

enum {
	DEPTH_MAX = 256,           /* folders in folders; two descriptors each */
	XATTR_MAX = 64 * 1024,     /* of the kernel */
	CHUNK     = 16 * 1024 * 1024,
};

struct copy {
	dev_t       dev;           /* stay on it */
	unsigned    depth;
	char        failed[NAME_MAX + 1]; /* the innermost name that failed */
};

static int fail(struct copy *c, const char *name, int r)
{
	if (r < 0 && c->failed[0] == '\0') {
		(void)snprintf(c->failed, sizeof(c->failed), "%s", name); /* a name fits */
	}
	return r;
}

/* An attribute that the target cannot have is no reason to fail. */
static int copy_xattrs(int from, int to)
{
	auto_free char *names = mem_calloc(1, XATTR_MAX);
	auto_free char *value = mem_calloc(1, XATTR_MAX);

	if (!names || !value) {
		return -ENOMEM;
	}
	ssize_t n = flistxattr(from, names, XATTR_MAX);

	for (const char *p = names; n > 0 && p < names + n; p += strlen(p) + 1) {
		ssize_t len = fgetxattr(from, p, value, XATTR_MAX);

		if (len >= 0 && fsetxattr(to, p, value, (size_t)len, 0) < 0 && errno == ENOSPC) {
			return -ENOSPC;
		}
	}
	return 0;
}

/* Owner first: changing it takes away set-id bits. */
static int copy_attrs(int from, int to, const struct stat *st)
{
	struct timespec times[2] = { st->st_atim, st->st_mtim };
	int r = 0;

	if (st->st_uid != 0 || st->st_gid != 0) {
		r = sys_fchownat(to, "", st->st_uid, st->st_gid, AT_EMPTY_PATH);
	}
	r = r < 0 ? r : sys_fchmod(to, st->st_mode & 07777);
	r = r < 0 ? r : copy_xattrs(from, to);
	return r < 0 ? r : sys__ret(futimens(to, times));
}

static int copy_data(int from, int to)
{
	for (;;) {
		ssize_t n = sys__fault(SYS_CALL_sendfile);

		n = n ? n : sys__retn(sendfile(to, from, NULL, CHUNK));
		if (n == -EINTR) {
			continue;
		}
		if (n <= 0) {
			return (int)n;
		}
	}
}

static int copy_file(int from_dir, int to_dir, const char *name)
{
	auto_close int from = sys_openat(from_dir, name,
					 O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY, 0);
	struct stat st;
	int r = from < 0 ? from : sys_fstat(from, &st);

	if (r < 0) {
		return r;
	}
	if (!S_ISREG(st.st_mode)) {
		return -ESTALE; /* it was one a moment ago */
	}
	auto_close int to = sys_openat(to_dir, name, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW, 0600);

	r = to < 0 ? to : copy_data(from, to);
	return r < 0 ? r : copy_attrs(from, to, &st);
}

static int copy_link(int from_dir, int to_dir, const char *name, const struct stat *st)
{
	char target[PATH_MAX];
	ssize_t n = sys_readlinkat(from_dir, name, target, sizeof(target) - 1);

	if (n < 0) {
		return (int)n;
	}
	target[n] = '\0';
	int r = sys_symlinkat(target, to_dir, name);

	return r < 0 ? r : sys_fchownat(to_dir, name, st->st_uid, st->st_gid, AT_SYMLINK_NOFOLLOW);
}

static int copy_node(int to_dir, const char *name, const struct stat *st)
{
	int r = sys_mknodat(to_dir, name, st->st_mode, st->st_rdev);

	if (r == -EPERM && (S_ISCHR(st->st_mode) || S_ISBLK(st->st_mode))) {
		return 0; /* in a user namespace */
	}
	return r < 0 ? r : sys_fchownat(to_dir, name, st->st_uid, st->st_gid, AT_SYMLINK_NOFOLLOW);
}

static int copy_below(struct copy *c, int from, int to);

static int copy_folder(struct copy *c, int from_dir, int to_dir, const char *name)
{
	auto_close int from = sys_openat(from_dir, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW, 0);
	struct stat st;
	int r = from < 0 ? from : sys_fstat(from, &st);

	r = r < 0 ? r : sys_mkdirat(to_dir, name, 0700);
	if (r < 0) {
		return r;
	}
	auto_close int to = sys_openat(to_dir, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW, 0);

	if (to < 0) {
		return to;
	}
	if (st.st_dev == c->dev) {
		r = c->depth < DEPTH_MAX ? copy_below(c, from, to) : -ELOOP;
	}
	return r < 0 ? r : copy_attrs(from, to, &st);
}

static int copy_entry(struct copy *c, int from, int to, const char *name)
{
	struct stat st;
	int r = sys_fstatat(from, name, &st, AT_SYMLINK_NOFOLLOW);

	if (r < 0) {
		return r;
	}
	switch (st.st_mode & S_IFMT) {
	case S_IFDIR:
		return copy_folder(c, from, to, name);
	case S_IFREG:
		return copy_file(from, to, name);
	case S_IFLNK:
		return copy_link(from, to, name, &st);
	default:
		return copy_node(to, name, &st);
	}
}

static int copy_below(struct copy *c, int from, int to)
{
	DIR *dir = NULL;
	int r = sys_opendir(from, ".", &dir);

	if (r < 0) {
		return r;
	}
	c->depth++;
	for (;;) {
		errno = 0;
		const struct dirent *d = readdir(dir);

		if (!d) {
			r = -errno;
			break;
		}
		if (str_eq(d->d_name, ".") || str_eq(d->d_name, "..")) {
			continue;
		}
		r = fail(c, d->d_name, copy_entry(c, from, to, d->d_name));
		if (r < 0) {
			break;
		}
	}
	c->depth--;
	(void)closedir(dir); /* read only: nothing to lose */
	return r;
}

int copyup(int from_fd, int to_fd, struct err *e)
{
	auto_close int from = sys_openat(from_fd, ".", O_RDONLY | O_DIRECTORY, 0);
	auto_close int to = sys_openat(to_fd, ".", O_RDONLY | O_DIRECTORY, 0);
	struct copy c = { .failed = "" };
	struct stat st;
	int r = from < 0 ? from : to < 0 ? to : sys_fstat(from, &st);

	if (r == 0) {
		c.dev = st.st_dev;
		r = copy_below(&c, from, to);
	}
	return r < 0 ? err_set(e, -r, r == -ENOSPC ? ERR_LIMIT : ERR_HOST, "copy \"%s\"", c.failed) : 0;
}
