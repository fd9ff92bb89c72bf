/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A tar, made into files. libarchive is the one reader, and a warning from it is a refusal
 * (threat model, rule 16). Parents are resolved by the kernel inside the root and everything
 * after is done on descriptors, so a link that the archive made leads nowhere else.
 */
#include <archive.h>
#include <archive_entry.h>
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>

#include "base/arena.h"
#include "base/mem.h"
#include "image/unpack-private.h"
#include "sys/file.h"
#include "sys/path.h"
#include "sys/xattr.h"

enum { IN_BYTES = 128 * 1024, PATH_BYTES = 4096 };

#define WHITEOUT        ".wh."
#define WHITEOUT_OPAQUE ".wh..wh..opq"
#define WHITEOUT_OTHER  ".wh..wh."

/* A folder whose times are set at the end, when nothing more is put in it. */
struct late_times {
	struct late_times *next;
	struct timespec    mtime;
	const char        *path;
};

struct run {
	struct unpack_tar    *t;
	struct archive       *ar;
	struct archive_entry *entry;
	const char           *name;         /* of the entry, as the archive has it */
	char                  path[PATH_BYTES];  /* clean */
	struct made           made;
	struct arena          arena;
	struct late_times    *late;
	struct err           *e;

	/* The folder of the entry before, which is often this one's. */
	int                   parent_fd;    /* -1: none */
	uint64_t              parent_ino;
	char                  parent[PATH_BYTES];

	/* Reading. */
	char                 *in;
	uint64_t              read_bytes;
	uint64_t              last_nonzero; /* offset behind the last byte that is not 0 */
	int                   read_error;   /* errno */
};

struct shown unpack__show(const char *name)
{
	struct shown s;
	size_t n = 0;

	for (; *name && n < sizeof(s.text) - 4; name++) {
		s.text[n++] = *name >= 0x20 && *name < 0x7f ? *name : '?';
	}
	if (*name) {
		memcpy(s.text + n, "...", 3);
		n += 3;
	}
	s.text[n] = '\0';
	return s;
}

static int refuse(struct run *u, const char *why)
{
	return err_set(u->e, EBADMSG, ERR_INVALID, "entry \"%s\": %s",
		       unpack__show(u->name ? u->name : "").text, why);
}

static int over_limit(struct run *u, const char *what, uint64_t limit)
{
	return err_set(u->e, E2BIG, ERR_LIMIT, "entry \"%s\": %s; the limit is %llu",
		       unpack__show(u->name ? u->name : "").text, what, (unsigned long long)limit);
}

/* What the kernel would not do with an entry. */
static int failed(struct run *u, int r, const char *what)
{
	if (r == -ENOSPC || r == -EDQUOT) {
		return err_set(u->e, -r, ERR_LIMIT, "entry \"%s\": no space left where the images are "
			       "kept; remove images (holm image prune) or make room",
			       unpack__show(u->name).text);
	}
	if (r == -ENOMEM || r == -EIO || r == -EMFILE || r == -ENFILE || r == -EROFS) {
		return err_set(u->e, -r, ERR_HOST, "entry \"%s\": %s", unpack__show(u->name).text, what);
	}
	return err_set(u->e, -r, ERR_INVALID, "entry \"%s\": %s: %s", unpack__show(u->name).text, what,
		       strerror(-r));
}

int unpack__clean(const char *name, const struct unpack_limits *limits, char ret[4096])
{
	size_t len = 0;
	unsigned depth = 0;
	const char *part;
	size_t n;

	if (strlen(name) > MIN(limits->path_bytes, (unsigned)PATH_BYTES - 1)) {
		return -ENAMETOOLONG;
	}
	while (str_split(&name, '/', &part, &n)) {
		if (n == 0 || (n == 1 && part[0] == '.')) {
			continue;
		}
		if (n == 2 && part[0] == '.' && part[1] == '.') {
			if (len == 0) {
				return -EINVAL;
			}
			while (len > 0 && ret[--len] != '/') {
			}
			depth--;
			continue;
		}
		if (n > NAME_MAX) {
			return -ENAMETOOLONG;
		}
		if (++depth > limits->depth) {
			return -ELOOP;
		}
		if (len > 0) {
			ret[len++] = '/';
		}
		memcpy(ret + len, part, n);
		len += n;
	}
	ret[len] = '\0';
	return 0;
}

static int clean(struct run *u, const char *name, char *ret)
{
	int r = unpack__clean(name, u->t->limits, ret);

	if (r == -EINVAL) {
		return refuse(u, "leads out of the root");
	}
	if (r == -ELOOP) {
		return over_limit(u, "its path is too deep", u->t->limits->depth);
	}
	return r < 0 ? over_limit(u, "its path is too long", u->t->limits->path_bytes) : 0;
}

/* --- folders that lead to an entry -------------------------------------------------------- */

static void forget_parent(struct run *u)
{
	fd_close(&u->parent_fd);
}

/* Cut the last component off; returns it. */
static char *cut_last(char *path)
{
	char *slash = strrchr(path, '/');

	if (!slash) {
		return path;
	}
	*slash = '\0';
	return slash + 1;
}

/*
 * A folder that the archive did not name, made for what is in it. Links on the way are
 * followed inside the root; one that leads nowhere is a refusal.
 */
static int make_parents(struct run *u, const char *path)
{
	char prefix[PATH_BYTES];
	size_t n = 0;

	for (;;) {
		n += strcspn(path + n, "/");
		memcpy(prefix, path, n);
		prefix[n] = '\0';
		int fd = path_open(u->t->root_fd, prefix, PATH_DIRECTORY);

		if (fd == -ENOENT) {
			char *name = cut_last(prefix);
			auto_close int dir = path_open(u->t->root_fd, name == prefix ? "" : prefix,
						       PATH_DIRECTORY);
			struct stat st;
			int r = dir < 0 ? dir : path_mkdir(dir, name, 0755);

			if (r == 0) {
				r = sys_fstat(dir, &st);
			}
			r = r < 0 ? r : made_add(&u->made, st.st_ino, name);
			if (r < 0) {
				return r;
			}
		} else if (fd < 0) {
			return fd;
		}
		fd_close(&fd);
		if (path[n] == '\0') {
			return 0;
		}
		n++;
	}
}

/* The folder of u->path, left in u->parent_fd; the last component is returned. */
static int open_parent(struct run *u, const char **ret_name)
{
	char *slash = strrchr(u->path, '/');
	size_t n = slash ? (size_t)(slash - u->path) : 0;
	struct stat st;

	*ret_name = slash ? slash + 1 : u->path;
	if (u->parent_fd >= 0 && strlen(u->parent) == n && memcmp(u->parent, u->path, n) == 0) {
		return 0;
	}
	forget_parent(u);
	memcpy(u->parent, u->path, n);
	u->parent[n] = '\0';
	int fd = path_openat(u->t->root_fd, u->parent, O_RDONLY | O_DIRECTORY, PATH_DIRECTORY);

	if (fd == -ENOENT) {
		int r = make_parents(u, u->parent);

		if (r < 0) {
			return failed(u, r, "the folder it is in");
		}
		fd = path_openat(u->t->root_fd, u->parent, O_RDONLY | O_DIRECTORY, PATH_DIRECTORY);
	}
	if (fd < 0) {
		return failed(u, fd, "the folder it is in");
	}
	u->parent_fd = fd;
	int r = sys_fstat(fd, &st);

	u->parent_ino = st.st_ino;
	return r < 0 ? failed(u, r, "the folder it is in") : 0;
}

/* --- what every kind of entry has --------------------------------------------------------- */

static int owner(struct run *u, uid_t *ret_uid, gid_t *ret_gid)
{
	int64_t uid = archive_entry_uid(u->entry), gid = archive_entry_gid(u->entry);

	/* The last id means "do not change" to the kernel (rule 10: never cut a number). */
	if (uid < 0 || uid >= UINT32_MAX || gid < 0 || gid >= UINT32_MAX) {
		return refuse(u, "its owner is no user or group id");
	}
	*ret_uid = (uid_t)uid;
	*ret_gid = (gid_t)gid;
	return 0;
}

static int set_owner(struct run *u, int fd, const char *name, int flags)
{
	uid_t uid;
	gid_t gid;
	int r = owner(u, &uid, &gid);

	if (r < 0 || u->t->squash) {
		return r;
	}
	r = sys_fchownat(fd, name, uid, gid, flags);
	if (r == -EINVAL) {
		return refuse(u, "its owner's id is larger than Holm keeps (268435455)");
	}
	return r < 0 ? failed(u, r, "owner") : 0;
}

static struct timespec mtime(const struct run *u)
{
	struct timespec t = { .tv_nsec = UTIME_OMIT };

	if (archive_entry_mtime_is_set(u->entry)) {
		t.tv_sec = archive_entry_mtime(u->entry);
		t.tv_nsec = archive_entry_mtime_nsec(u->entry);
		if (t.tv_nsec < 0 || t.tv_nsec > 999999999) {
			t.tv_nsec = 0;
		}
	}
	return t;
}

static int set_mtime(struct run *u, int fd, const char *name, int flags)
{
	const struct timespec times[2] = { mtime(u), mtime(u) };
	int r = sys_utimensat(fd, name, times, flags);

	return r < 0 ? failed(u, r, "time") : 0;
}

enum xattr_use { XATTR_SET, XATTR_SKIP, XATTR_REFUSE };

/*
 * user.* and file capabilities are set. What a host's security modules or file systems left
 * behind is no business of an image. What overlayfs or Holm would read as their own marks is
 * an attack.
 */
static enum xattr_use xattr_use(const char *name)
{
	if (str_after(name, "trusted.") || str_after(name, "user.overlay.") ||
	    str_after(name, "user.holm.")) {
		return XATTR_REFUSE;
	}
	return str_after(name, "user.") || str_eq(name, "security.capability") ? XATTR_SET :
										 XATTR_SKIP;
}

static int set_xattrs(struct run *u, int fd)
{
	const struct unpack_limits *l = u->t->limits;
	unsigned n = 0;
	const char *name = NULL;
	const void *value;
	size_t size;

	archive_entry_xattr_reset(u->entry);
	while (archive_entry_xattr_next(u->entry, &name, &value, &size) == ARCHIVE_OK) {
		if (!name || ++n > l->xattrs) {
			return over_limit(u, "it has too many extended attributes", l->xattrs);
		}
		if (size > l->xattr_bytes || strlen(name) > 255) {
			return over_limit(u, "an extended attribute is too large", l->xattr_bytes);
		}
		enum xattr_use use = xattr_use(name);

		if (use == XATTR_REFUSE) {
			return refuse(u, "it has an extended attribute that no image may have");
		}
		int r = use == XATTR_SET ? sys_fsetxattr(fd, name, value, size) : 0;

		if (r < 0) {
			return failed(u, r, "extended attribute");
		}
	}
	return 0;
}

/* Owner before mode, as changing it clears setuid; then attributes, which it would clear too. */
static int finish(struct run *u, int fd)
{
	int r = set_owner(u, fd, "", AT_EMPTY_PATH);

	if (r == 0) {
		r = sys_fchmod(fd, archive_entry_perm(u->entry) & 07777);
		r = r < 0 ? failed(u, r, "mode") : 0;
	}
	return r < 0 ? r : set_xattrs(u, fd);
}

/* --- the kinds of entries ------------------------------------------------------------------ */

static int write_block(struct run *u, int fd, const char *data, size_t n, int64_t off)
{
	while (n > 0) {
		ssize_t w = sys_pwrite(fd, data, n, off);

		if (w < 0) {
			return failed(u, (int)w, "write");
		}
		data += w;
		n -= (size_t)w;
		off += w;
	}
	return 0;
}

static int write_data(struct run *u, int fd)
{
	int64_t size = archive_entry_size(u->entry);
	const void *data;
	size_t n;
	int64_t off;
	int r;

	if (size < 0) {
		return refuse(u, "it has no size");
	}
	if ((uint64_t)size > u->t->limits->file_bytes) {
		return over_limit(u, "the file is too large", u->t->limits->file_bytes);
	}
	while ((r = archive_read_data_block(u->ar, &data, &n, &off)) == ARCHIVE_OK) {
		if (off < 0 || off > size || n > (uint64_t)(size - off)) {
			return refuse(u, "its data goes beyond its size");
		}
		int w = write_block(u, fd, data, n, off);

		if (w < 0) {
			return w;
		}
	}
	if (r != ARCHIVE_EOF) {
		return refuse(u, archive_error_string(u->ar) ? archive_error_string(u->ar) :
							       "its data cannot be read");
	}
	/* What a sparse file ends with, and what nothing was written to. */
	r = sys_ftruncate(fd, size);
	return r < 0 ? failed(u, r, "size") : 0;
}

static int make_file(struct run *u, const char *name)
{
	auto_close int fd = path_create(u->parent_fd, name, O_WRONLY, 0600);

	if (fd < 0) {
		return failed(u, fd, "create");
	}
	int r = write_data(u, fd);

	if (r == 0) {
		r = finish(u, fd);
	}
	return r < 0 ? r : set_mtime(u, fd, "", AT_EMPTY_PATH);
}

/* Nothing in a user namespace can make a device, and nothing in an image should have one. */
static int make_device(struct run *u, const char *name)
{
	bool is_char = archive_entry_filetype(u->entry) == AE_IFCHR;
	char text[48];
	auto_close int fd = path_create(u->parent_fd, name, O_WRONLY, 0600);

	if (fd < 0) {
		return failed(u, fd, "create");
	}
	int n = snprintf(text, sizeof(text), "%c %u:%u", is_char ? 'c' : 'b',
			 (unsigned)archive_entry_rdevmajor(u->entry),
			 (unsigned)archive_entry_rdevminor(u->entry));
	int r = finish(u, fd);

	if (r == 0) {
		r = sys_fsetxattr(fd, UNPACK_DEVICE_XATTR, text, (size_t)n);
		if (r < 0 && r != -EOPNOTSUPP) {
			return failed(u, r, "device");
		}
		u->t->devices++;
		r = set_mtime(u, fd, "", AT_EMPTY_PATH);
	}
	return r;
}

static int make_fifo(struct run *u, const char *name)
{
	int r = path_mknod(u->parent_fd, name, S_IFIFO | 0600, 0);

	if (r < 0) {
		return failed(u, r, "create");
	}
	auto_close int fd = sys_openat(u->parent_fd, name, O_RDONLY | O_NONBLOCK | O_NOFOLLOW, 0);

	if (fd < 0) {
		return failed(u, fd, "open");
	}
	r = finish(u, fd);
	return r < 0 ? r : set_mtime(u, fd, "", AT_EMPTY_PATH);
}

/* Where a relative link leads may not be above the root, as nothing of an image is there. */
static int check_link(struct run *u, const char *target)
{
	char joined[2 * PATH_BYTES], ignored[PATH_BYTES];
	size_t n = strlen(u->path);
	const char *slash = strrchr(u->path, '/');
	struct unpack_limits loose = *u->t->limits;

	if (*target == '\0' || strlen(target) >= PATH_BYTES) {
		return refuse(u, "a link to nothing");
	}
	if (target[0] == '/') {
		return 0; /* of the instance's root */
	}
	n = slash ? (size_t)(slash - u->path) : 0;
	(void)snprintf(joined, sizeof(joined), "%.*s/%s", (int)n, u->path, target);
	loose.path_bytes = PATH_BYTES;
	loose.depth = PATH_BYTES;
	if (strlen(joined) >= PATH_BYTES) {
		return refuse(u, "a link with too long a target");
	}
	return unpack__clean(joined, &loose, ignored) == -EINVAL ?
		       refuse(u, "a link that leads out of the root") : 0;
}

static int make_symlink(struct run *u, const char *name)
{
	const char *target = archive_entry_symlink(u->entry);
	int r = target ? check_link(u, target) : refuse(u, "a link to nothing");

	if (r < 0) {
		return r;
	}
	r = path_symlink(u->parent_fd, name, target);
	if (r < 0) {
		return failed(u, r, "create");
	}
	r = set_owner(u, u->parent_fd, name, AT_SYMLINK_NOFOLLOW);
	return r < 0 ? r : set_mtime(u, u->parent_fd, name, AT_SYMLINK_NOFOLLOW);
}

static int make_hardlink(struct run *u, const char *name, const char *to)
{
	char target[PATH_BYTES];
	struct stat st;
	int r = clean(u, to, target);

	if (r < 0) {
		return r;
	}
	if (!*target) {
		return refuse(u, "a link to a folder");
	}
	char *last = strrchr(target, '/');
	const char *base = last ? last + 1 : target;

	if (last) {
		*last = '\0';
	}
	auto_close int dir = path_open(u->t->root_fd, last ? target : "", PATH_DIRECTORY);

	r = dir < 0 ? dir : sys_fstatat(dir, base, &st, AT_SYMLINK_NOFOLLOW);
	if (r < 0) {
		return refuse(u, "a hard link to what is not there");
	}
	if (S_ISDIR(st.st_mode)) {
		return refuse(u, "a link to a folder");
	}
	r = sys_linkat(dir, base, u->parent_fd, name, 0);
	return r < 0 ? failed(u, r, "link") : 0;
}

static int remember_times(struct run *u)
{
	struct late_times *l = arena_new(&u->arena, struct late_times);

	if (l) {
		*l = (struct late_times){ .next = u->late, .mtime = mtime(u),
					  .path = arena_strdup(&u->arena, u->path) };
	}
	if (!l || !l->path) {
		return err_nomem(u->e);
	}
	u->late = l;
	return 0;
}

static int finish_folder(struct run *u, int fd)
{
	int r = finish(u, fd);

	return r < 0 ? r : remember_times(u);
}

/* `exists`: a folder is there, from below or by this archive. */
static int make_folder(struct run *u, const char *name, bool exists)
{
	int r = exists ? 0 : sys_mkdirat(u->parent_fd, name, 0700);

	if (r < 0) {
		return failed(u, r, "create");
	}
	auto_close int fd = sys_openat(u->parent_fd, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW, 0);

	return fd < 0 ? failed(u, fd, "open") : finish_folder(u, fd);
}

/* --- whiteouts ------------------------------------------------------------------------------- */

static int whiteout(struct run *u, const char *name)
{
	int r = 0;

	if (str_eq(name, WHITEOUT_OPAQUE)) {
		r = u->t->below ? unpack__hide_below(&u->made, u->parent_fd) : 0;
	} else if (!str_after(name, WHITEOUT_OTHER)) {
		name += strlen(WHITEOUT);
		if (!path_name_valid(name)) {
			return refuse(u, "a whiteout of nothing");
		}
		r = u->t->below ? unpack__hide(&u->made, u->parent_fd, name) : 0;
	}
	/* Others are aufs's own marks, which no one else has a use for. */
	forget_parent(u);
	return r < 0 ? failed(u, r, "whiteout") : 0;
}

/* No file can have such a name in a layer, so neither can a folder on the way to one. */
static bool whiteout_on_the_way(const char *path)
{
	const char *slash = strrchr(path, '/');
	const char *deeper = strstr(path, "/" WHITEOUT);

	return slash && (str_after(path, WHITEOUT) || (deeper && deeper < slash));
}

/* --- one entry --------------------------------------------------------------------------------- */

/* Make room for an entry. 1: a folder is there and stays, 0: nothing is there. */
static int clear_way(struct run *u, const char *name, bool folder)
{
	struct stat st;
	int r = sys_fstatat(u->parent_fd, name, &st, AT_SYMLINK_NOFOLLOW);

	if (r == 0 && folder && S_ISDIR(st.st_mode)) {
		return 1;
	}
	if (r == 0 && u->t->below && !made_has(&u->made, u->parent_ino, name)) {
		/* Of a layer below: this one puts something else in its place. */
		r = unpack__hide(&u->made, u->parent_fd, name);
		r = r < 0 ? r : sys_fstatat(u->parent_fd, name, &st, AT_SYMLINK_NOFOLLOW);
	}
	if (r == 0) {
		return refuse(u, "the archive has that name twice");
	}
	return r == -ENOENT ? 0 : failed(u, r, "replace");
}

static int make_entry(struct run *u, const char *name, bool exists)
{
	const char *to = archive_entry_hardlink(u->entry);
	mode_t type = archive_entry_filetype(u->entry);

	if (to) {
		return make_hardlink(u, name, to);
	}
	switch (type) {
	case AE_IFREG:
		return make_file(u, name);
	case AE_IFDIR:
		return make_folder(u, name, exists);
	case AE_IFLNK:
		return make_symlink(u, name);
	case AE_IFIFO:
		return make_fifo(u, name);
	case AE_IFCHR:
	case AE_IFBLK:
		return make_device(u, name);
	default:
		return refuse(u, "it is of a kind that no layer has");
	}
}

static int root_entry(struct run *u)
{
	if (archive_entry_filetype(u->entry) != AE_IFDIR || archive_entry_hardlink(u->entry)) {
		return refuse(u, "the root must be a folder");
	}
	return finish_folder(u, u->t->root_fd);
}

static int one_entry(struct run *u)
{
	const char *name;
	bool folder = archive_entry_filetype(u->entry) == AE_IFDIR && !archive_entry_hardlink(u->entry);
	int r = clean(u, u->name, u->path);

	if (r < 0) {
		return r;
	}
	if (!*u->path) {
		return root_entry(u);
	}
	if (whiteout_on_the_way(u->path)) {
		return refuse(u, "a whiteout is no folder");
	}
	r = open_parent(u, &name);
	if (r < 0) {
		return r;
	}
	if (str_after(name, WHITEOUT)) {
		return whiteout(u, name);
	}
	r = clear_way(u, name, folder);
	if (r < 0) {
		return r;
	}
	r = made_add(&u->made, u->parent_ino, name) < 0 ? err_nomem(u->e) :
							 make_entry(u, name, r == 1);
	return r;
}

/* --- the archive ---------------------------------------------------------------------------------- */

static la_ssize_t on_read(struct archive *ar, void *ud, const void **ret)
{
	struct run *u = ud;
	ssize_t n = sys_read(u->t->in_fd, u->in, IN_BYTES);

	*ret = u->in;
	if (n < 0) {
		u->read_error = (int)-n;
		archive_set_error(ar, (int)-n, "read");
		return ARCHIVE_FATAL;
	}
	for (ssize_t i = n; i > 0; i--) {
		if (u->in[i - 1]) {
			u->last_nonzero = u->read_bytes + (uint64_t)i;
			break;
		}
	}
	u->read_bytes += (uint64_t)n;
	return n;
}

static int broken(struct run *u)
{
	const char *why = archive_error_string(u->ar);

	if (u->read_error) {
		return err_set(u->e, u->read_error, ERR_HOST, "reading the layer");
	}
	if (archive_errno(u->ar) == ENOMEM) {
		return err_set(u->e, ENOMEM, ERR_LIMIT, "the archive needs more memory than it is given");
	}
	return refuse(u, why ? why : "malformed");
}

/* A header that says nothing: of the entry only its place is known. */
static int broken_after(struct run *u)
{
	char last[PATH_BYTES];

	(void)snprintf(last, sizeof(last), "%s", u->path);
	u->name = last;
	int r = broken(u);

	return u->t->entries ? err_wrap(u->e, "after") : r;
}

/* Whatever comes behind the end of a tar, another reader might take for entries. */
static int read_to_end(struct run *u)
{
	uint64_t end = (uint64_t)archive_filter_bytes(u->ar, 0);
	const void *ignored;
	la_ssize_t n;

	do {
		n = on_read(u->ar, u, &ignored);
	} while (n > 0);
	if (n < 0) {
		return broken(u);
	}
	if (u->last_nonzero > end) {
		u->name = "";
		return err_set(u->e, EBADMSG, ERR_INVALID, "there is something behind the end of the "
			       "archive, at byte %llu", (unsigned long long)end);
	}
	return 0;
}

static int read_entries(struct run *u)
{
	int r;

	for (;;) {
		r = archive_read_next_header(u->ar, &u->entry);
		if (r == ARCHIVE_EOF) {
			return read_to_end(u);
		}
		u->name = r == ARCHIVE_FATAL ? NULL : archive_entry_pathname(u->entry);
		if (r != ARCHIVE_OK) {
			return u->name && *u->name ? broken(u) : broken_after(u);
		}
		if (!u->name) {
			return refuse(u, "an entry without a name");
		}
		if (++u->t->entries > u->t->limits->entries) {
			return over_limit(u, "the archive has too many entries",
					  u->t->limits->entries);
		}
		r = one_entry(u);
		if (r < 0) {
			return r;
		}
	}
}

static int set_late_times(struct run *u)
{
	for (struct late_times *l = u->late; l; l = l->next) {
		const struct timespec times[2] = { l->mtime, l->mtime };
		auto_close int fd = path_openat(u->t->root_fd, l->path, O_RDONLY | O_DIRECTORY,
						PATH_DIRECTORY);

		u->name = l->path;
		int r = fd < 0 ? fd : sys_utimensat(fd, "", times, AT_EMPTY_PATH);

		/* A whiteout that came later may have taken the way to it. */
		if (r < 0 && r != -ENOENT && r != -ENOTDIR) {
			return failed(u, r, "time");
		}
	}
	return 0;
}

static int open_archive(struct run *u)
{
	u->ar = archive_read_new();
	u->in = mem_calloc(1, IN_BYTES);
	if (!u->ar || !u->in || made_init(&u->made) < 0) {
		return err_nomem(u->e);
	}
	if (archive_read_support_format_tar(u->ar) != ARCHIVE_OK ||
	    archive_read_support_format_empty(u->ar) != ARCHIVE_OK ||
	    archive_read_open(u->ar, u, NULL, on_read, NULL) != ARCHIVE_OK) {
		return broken(u);
	}
	return 0;
}

int unpack__tar(struct unpack_tar *t, struct err *e)
{
	struct run *u = mem_new(struct run);

	if (!u) {
		return err_nomem(e);
	}
	u->t = t;
	u->e = e;
	u->parent_fd = -1;
	int r = open_archive(u);

	if (r == 0) {
		r = read_entries(u);
	}
	if (r == 0) {
		r = set_late_times(u);
	}
	if (u->ar) {
		archive_read_free(u->ar);
	}
	forget_parent(u);
	made_fini(&u->made);
	arena_fini(&u->arena);
	free(u->in);
	free(u);
	return r;
}
