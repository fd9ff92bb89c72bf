/* SPDX-License-Identifier: Apache-2.0 */
#include "sys/path.h"

#include <errno.h>
#include <limits.h>
#include <linux/magic.h>
#include <linux/openat2.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <unistd.h>

#include "base/fd.h"
#include "base/mem.h"
#include "base/str.h"
#include "sys/file.h"

enum {
	LINKS_MAX  = 40,    /* as the kernel has it */
	DEPTH_MAX  = 2048,  /* folders open at once in a walk */
	WALK_BYTES = 2 * PATH_MAX,
};

/* --- by the kernel ------------------------------------------------------------------- */

static int open_by_kernel(int root_fd, const char *path, int open_flags, unsigned flags)
{
	struct open_how how = {
		.flags = (uint64_t)(unsigned)open_flags,
		.resolve = RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS,
	};

	if (flags & PATH_NOFOLLOW) {
		how.flags |= O_NOFOLLOW;
	}
	if (flags & PATH_DIRECTORY) {
		how.flags |= O_DIRECTORY;
	}
	if (flags & PATH_NO_SYMLINKS) {
		how.resolve |= RESOLVE_NO_SYMLINKS;
	}
	if (flags & PATH_NO_XDEV) {
		how.resolve |= RESOLVE_NO_XDEV;
	}
	/*
	 * EAGAIN: something was renamed or mounted while ".." was resolved, and the kernel
	 * could not tell whether it led out. Whoever does that without end gets the walk.
	 */
	int r = -EAGAIN;

	for (int i = 0; i < 32 && r == -EAGAIN; i++) {
		r = sys_openat2(root_fd, *path ? path : "/", &how);
	}
	return r;
}

/* --- by components -------------------------------------------------------------------- */

/* What to do about a component that does not exist. */
enum walk_make {
	MAKE_NOTHING,
	MAKE_FOLDERS,      /* every one */
	MAKE_PARENTS,      /* all but the last */
	MAKE_FILE,         /* folders, and a file at the end */
};

struct walk {
	int            root_fd;
	unsigned       flags;
	enum walk_make make;
	mode_t         mode;         /* of folders */
	mode_t         file_mode;
	unsigned       links;
	uint64_t       mount;        /* the root's, for PATH_NO_XDEV */
	int           *dirs;         /* folders entered; closed at the end */
	size_t         n_dirs;
	char           rest[WALK_BYTES];
};

static void walk_fini(struct walk *w)
{
	for (size_t i = 0; i < w->n_dirs; i++) {
		fd_close(&w->dirs[i]);
	}
	free(w->dirs);
}

static void walk_pop_all(struct walk *w)
{
	while (w->n_dirs > 0) {
		fd_close(&w->dirs[--w->n_dirs]);
	}
}

/* The folder that the walk stands in. */
static int walk_here(const struct walk *w)
{
	return w->n_dirs > 0 ? w->dirs[w->n_dirs - 1] : w->root_fd;
}

static int walk_push(struct walk *w, int *fd)
{
	if (w->n_dirs == DEPTH_MAX) {
		return -ENAMETOOLONG;
	}
	int *dirs = mem_realloc(w->dirs, w->n_dirs + 1, sizeof(*dirs));

	if (!dirs) {
		return -ENOMEM;
	}
	w->dirs = dirs;
	w->dirs[w->n_dirs++] = take_fd(fd);
	return 0;
}

/* Take the first component off w->rest. Returns its length, 0 at the end. */
static size_t walk_next(struct walk *w, char *name)
{
	size_t skip = strspn(w->rest, "/");
	size_t len = strcspn(w->rest + skip, "/");

	if (len <= NAME_MAX) {
		memcpy(name, w->rest + skip, len);
		name[len] = '\0';
		memmove(w->rest, w->rest + skip + len, strlen(w->rest + skip + len) + 1);
	}
	return len;
}

static bool walk_at_end(const struct walk *w)
{
	return w->rest[strspn(w->rest, "/")] == '\0';
}

/*
 * The kernel jumps through the magic links of procfs, we would follow their text: nothing
 * that leads out of the root, but not what was meant. Their text is absolute, or has a colon.
 */
static bool is_magic(int fd, const char *target)
{
	struct statfs fs;

	return fstatfs(fd, &fs) == 0 && fs.f_type == PROC_SUPER_MAGIC &&
	       (target[0] == '/' || strchr(target, ':'));
}

/* Put a link's text before what is left of the path. */
static int walk_follow(struct walk *w, int link_fd)
{
	char target[PATH_MAX];
	ssize_t n = sys_readlinkat(link_fd, "", target, sizeof(target) - 1);

	if (n <= 0) {
		return n < 0 ? (int)n : -ENOENT;
	}
	target[n] = '\0';
	if ((w->flags & PATH_NO_SYMLINKS) || ++w->links > LINKS_MAX || is_magic(link_fd, target)) {
		return -ELOOP;
	}

	size_t len = (size_t)n, rest = strlen(w->rest);

	if (len + rest + 2 > sizeof(w->rest)) {
		return -ENAMETOOLONG;
	}
	memmove(w->rest + len + 1, w->rest, rest + 1);
	memcpy(w->rest, target, len);
	w->rest[len] = '/';
	if (rest == 0) {
		w->rest[len] = '\0';
	}
	if (target[0] == '/') {
		walk_pop_all(w);
	}
	return 0;
}

static int open_component(struct walk *w, const char *name)
{
	return sys_openat(walk_here(w), name, O_PATH | O_NOFOLLOW, 0);
}

/* Make what is missing; someone else may do so at the same time. */
static int make_component(struct walk *w, const char *name)
{
	int r;

	if (w->make == MAKE_FILE && walk_at_end(w)) {
		auto_close int fd = path_create(walk_here(w), name, O_WRONLY, w->file_mode);

		r = fd < 0 ? fd : 0;
	} else {
		r = sys_mkdirat(walk_here(w), name, w->mode);
	}
	return r < 0 && r != -EEXIST ? r : open_component(w, name);
}

/* Which mount a descriptor is on: the same device can be mounted on itself. */
static int mount_of(int fd, uint64_t *ret)
{
	struct statx stx;
	int r = sys__fault(SYS_CALL_statx);

	r = r ? r : sys__ret(statx(fd, "", AT_EMPTY_PATH | AT_SYMLINK_NOFOLLOW, STATX_MNT_ID,
				   &stx));
	if (r == 0 && !(stx.stx_mask & STATX_MNT_ID)) {
		r = -EOPNOTSUPP;
	}
	if (r == 0) {
		*ret = stx.stx_mnt_id;
	}
	return r;
}

static int check_mount(const struct walk *w, int fd)
{
	uint64_t mount = 0;
	int r = w->flags & PATH_NO_XDEV ? mount_of(fd, &mount) : 0;

	return r < 0 ? r : (w->flags & PATH_NO_XDEV) && mount != w->mount ? -EXDEV : 0;
}

/* One component. Returns 1 with *ret_fd set when it was the last, 0 to go on. */
static int walk_step(struct walk *w, const char *name, int *ret_fd)
{
	auto_close int fd = open_component(w, name);
	struct stat st;

	if (fd == -ENOENT && w->make != MAKE_NOTHING) {
		fd = make_component(w, name);
	}
	if (fd < 0) {
		return fd;
	}
	int r = sys_fstat(fd, &st);

	r = r < 0 ? r : check_mount(w, fd);
	if (r < 0) {
		return r;
	}
	if (S_ISLNK(st.st_mode) && !(w->rest[0] == '\0' && (w->flags & PATH_NOFOLLOW))) {
		return walk_follow(w, fd);
	}
	if (S_ISDIR(st.st_mode)) {
		return walk_push(w, &fd);
	}
	/* A slash behind the last component asks for a folder. */
	if (w->rest[0] != '\0' || (w->flags & PATH_DIRECTORY)) {
		return -ENOTDIR;
	}
	*ret_fd = take_fd(&fd);
	return 1;
}

static int walk_start(struct walk *w, const char *path)
{
	size_t n = strlen(path);

	if (n >= PATH_MAX) {
		return -ENAMETOOLONG;
	}
	memcpy(w->rest, path, n + 1);
	return (w->flags & PATH_NO_XDEV) ? mount_of(w->root_fd, &w->mount) : 0;
}

/*
 * Walk to the end, or with MAKE_PARENTS to the folder of the last component, which `name` then
 * gets. Each folder on the way stays open, so that ".." is the folder we came from and not
 * wherever this one has been moved to.
 */
static int walk_run(struct walk *w, const char *path, char *name)
{
	int r = walk_start(w, path);
	int fd = -1;

	while (r == 0) {
		size_t len = walk_next(w, name);

		if (len == 0) {
			break;
		}
		if (len > NAME_MAX) {
			return -ENAMETOOLONG;
		}
		if (str_eq(name, ".")) {
			continue;
		}
		if (str_eq(name, "..")) {
			if (w->n_dirs > 0) {
				fd_close(&w->dirs[--w->n_dirs]);
			}
			continue;
		}
		if (w->make == MAKE_PARENTS && walk_at_end(w)) {
			break;
		}
		r = walk_step(w, name, &fd);
	}
	if (r != 0) {
		return r < 0 ? r : fd;
	}
	if (w->n_dirs == 0) {
		return sys_openat(w->root_fd, ".", O_PATH | O_DIRECTORY, 0);
	}
	return take_fd(&w->dirs[--w->n_dirs]);
}

static int walk(int root_fd, const char *path, unsigned flags)
{
	auto_(walk_fini) struct walk w = { .root_fd = root_fd, .flags = flags,
					   .make = MAKE_NOTHING };
	char name[NAME_MAX + 1];

	return walk_run(&w, path, name);
}

/*
 * Open for use what a walk has found: by its folder's descriptor and its name, then check that
 * this met the same file. -ESTALE if someone has put another there in between.
 */
static int walk_openat(int root_fd, const char *path, int open_flags, unsigned flags)
{
	auto_(walk_fini) struct walk w = { .root_fd = root_fd, .flags = flags,
					   .make = MAKE_NOTHING };
	char name[NAME_MAX + 1];
	auto_close int fd = walk_run(&w, path, name);
	struct stat a, b;

	if (fd < 0 || (open_flags & O_PATH)) {
		return take_fd(&fd);
	}
	int r = sys_fstat(fd, &a);

	if (r < 0) {
		return r;
	}
	if (S_ISDIR(a.st_mode)) {
		return sys_openat(fd, ".", open_flags, 0);
	}
	auto_close int file = sys_openat(walk_here(&w), name, open_flags | O_NOFOLLOW, 0);

	r = file < 0 ? file : sys_fstat(file, &b);
	if (r < 0) {
		return r;
	}
	return a.st_dev == b.st_dev && a.st_ino == b.st_ino ? take_fd(&file) : -ESTALE;
}

/* --- what the header offers ----------------------------------------------------------- */

/* Whether the kernel (or a filter around us) has no openat2(). */
static bool needs_walk(int r)
{
	return r == -ENOSYS || r == -EAGAIN;
}

int path_open(int root_fd, const char *path, unsigned flags)
{
	int r = open_by_kernel(root_fd, path, O_PATH, flags);

	return needs_walk(r) ? walk(root_fd, path, flags) : r;
}

int path_openat(int root_fd, const char *path, int open_flags, unsigned flags)
{
	assert((open_flags & (O_CREAT | O_TMPFILE)) == (open_flags & O_DIRECTORY));

	int how = open_flags | O_CLOEXEC | ((open_flags & O_PATH) ? 0 : O_NOCTTY);
	int r = open_by_kernel(root_fd, path, how, flags);

	return needs_walk(r) ? walk_openat(root_fd, path, how, flags) : r;
}

static int make(int root_fd, const char *path, enum walk_make what, mode_t mode, mode_t file_mode,
		char *name)
{
	auto_(walk_fini) struct walk w = { .root_fd = root_fd, .make = what, .mode = mode,
					   .file_mode = file_mode };

	return walk_run(&w, path, name);
}

int path_mkdir_p(int root_fd, const char *path, mode_t mode)
{
	char name[NAME_MAX + 1];
	int r = path_open(root_fd, path, PATH_DIRECTORY);

	return r == -ENOENT ? make(root_fd, path, MAKE_FOLDERS, mode, 0, name) : r;
}

int path_touch_p(int root_fd, const char *path, mode_t mode)
{
	char name[NAME_MAX + 1];
	struct stat st;
	auto_close int fd = path_open(root_fd, path, 0);

	if (fd == -ENOENT) {
		fd = make(root_fd, path, MAKE_FILE, 0755, mode, name);
	}
	if (fd < 0) {
		return fd;
	}
	int r = sys_fstat(fd, &st);

	if (r < 0) {
		return r;
	}
	return S_ISDIR(st.st_mode) ? -EISDIR : take_fd(&fd);
}

/* The common case: no link and no "..", the folder exists. One call of the kernel. */
static int parent_fast(int root_fd, const char *path, char *name)
{
	const char *slash = strrchr(path, '/');
	const char *last = slash ? slash + 1 : path;

	if (!path_name_valid(last)) {
		return -ENOENT;
	}
	auto_free char *dir = str_ndup(path, (size_t)(last - path));

	if (!dir) {
		return -ENOMEM;
	}
	int r = path_open(root_fd, dir, PATH_DIRECTORY);

	if (r >= 0) {
		memcpy(name, last, strlen(last) + 1);
	}
	return r;
}

int path_parent_p(int root_fd, const char *path, mode_t mode, char *name)
{
	int r = parent_fast(root_fd, path, name);

	if (r != -ENOENT) {
		return r;
	}
	auto_close int fd = make(root_fd, path, MAKE_PARENTS, mode, 0, name);

	if (fd < 0) {
		return fd;
	}
	return path_name_valid(name) ? take_fd(&fd) : -EINVAL;
}

bool path_name_valid(const char *name)
{
	size_t n = strlen(name);

	return n > 0 && n <= NAME_MAX && !strchr(name, '/') && !str_eq(name, ".") &&
	       !str_eq(name, "..");
}

int path_create(int dir_fd, const char *name, int open_flags, mode_t mode)
{
	if (!path_name_valid(name)) {
		return -EINVAL;
	}
	return sys_openat(dir_fd, name, open_flags | O_CREAT | O_EXCL | O_NOFOLLOW | O_NOCTTY, mode);
}

int path_mkdir(int dir_fd, const char *name, mode_t mode)
{
	return path_name_valid(name) ? sys_mkdirat(dir_fd, name, mode) : -EINVAL;
}

int path_mknod(int dir_fd, const char *name, mode_t mode, dev_t dev)
{
	return path_name_valid(name) ? sys_mknodat(dir_fd, name, mode, dev) : -EINVAL;
}

int path_symlink(int dir_fd, const char *name, const char *target)
{
	return path_name_valid(name) ? sys_symlinkat(target, dir_fd, name) : -EINVAL;
}

char *path_clean(const char *path)
{
	auto_buf struct buf b = BUF_INIT;
	const char *part;
	size_t len;

	while (str_split(&path, '/', &part, &len)) {
		if (len == 0 || (len == 1 && part[0] == '.')) {
			continue;
		}
		if (len == 2 && part[0] == '.' && part[1] == '.') {
			const char *slash = b.len > 0 ? strrchr(b.data, '/') : NULL;

			if (slash) {
				b.len = (size_t)(slash - b.data);
				b.data[b.len] = '\0';
			}
			continue;
		}
		buf_add_char(&b, '/');
		buf_add(&b, part, len);
	}
	if (b.len == 0) {
		buf_add_char(&b, '/');
	}
	return buf_take(&b);
}
