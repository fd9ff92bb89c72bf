/* SPDX-License-Identifier: Apache-2.0 */
/* The entries of a layer, by their kinds: data, owners, modes, attributes, links. */
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "image/unpack-run.h"
#include "sys/file.h"
#include "sys/path.h"
#include "sys/xattr.h"

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

int unpack__refuse(struct unpack_run *u, const char *why)
{
	return err_set(u->e, EBADMSG, ERR_INVALID, "entry \"%s\": %s",
		       unpack__show(u->name ? u->name : "").text, why);
}

int unpack__over_limit(struct unpack_run *u, const char *what, uint64_t limit)
{
	return err_set(u->e, E2BIG, ERR_LIMIT, "entry \"%s\": %s; the limit is %llu",
		       unpack__show(u->name ? u->name : "").text, what, (unsigned long long)limit);
}

/* What the kernel would not do with an entry. */
int unpack__failed(struct unpack_run *u, int r, const char *what)
{
	if (r == -ENOSPC || r == -EDQUOT) {
		return err_set(u->e, -r, ERR_LIMIT,
			       "entry \"%s\": no space left where the images are "
			       "kept; remove images (holm image prune) or make room",
			       unpack__show(u->name).text);
	}
	if (r == -ENOMEM || r == -EIO || r == -EMFILE || r == -ENFILE || r == -EROFS) {
		return err_set(u->e, -r, ERR_HOST, "entry \"%s\": %s", unpack__show(u->name).text,
			       what);
	}
	return err_set(u->e, -r, ERR_INVALID, "entry \"%s\": %s: %s", unpack__show(u->name).text,
		       what, strerror(-r));
}

int unpack__clean(const char *name, const struct unpack_limits *limits, char ret[4096])
{
	size_t len = 0;
	unsigned depth = 0;
	const char *part;
	size_t n;

	if (strlen(name) > MIN(limits->path_bytes, (unsigned)UNPACK_PATH_BYTES - 1)) {
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

int unpack__clean_name(struct unpack_run *u, const char *name, char *ret)
{
	int r = unpack__clean(name, u->t->limits, ret);

	if (r == -EINVAL) {
		return unpack__refuse(u, "leads out of the root");
	}
	if (r == -ELOOP) {
		return unpack__over_limit(u, "its path is too deep", u->t->limits->depth);
	}
	return r < 0 ? unpack__over_limit(u, "its path is too long", u->t->limits->path_bytes) : 0;
}

/* --- what every kind of entry has --- */

static int owner(struct unpack_run *u, uid_t *ret_uid, gid_t *ret_gid)
{
	int64_t uid = archive_entry_uid(u->entry), gid = archive_entry_gid(u->entry);

	/* The last id means "do not change" to the kernel (rule 10: never cut a number). */
	if (uid < 0 || uid >= UINT32_MAX || gid < 0 || gid >= UINT32_MAX) {
		return unpack__refuse(u, "its owner is no user or group id");
	}
	*ret_uid = (uid_t)uid;
	*ret_gid = (gid_t)gid;
	return 0;
}

static int set_owner(struct unpack_run *u, int fd, const char *name, int flags)
{
	uid_t uid;
	gid_t gid;
	int r = owner(u, &uid, &gid);

	if (r < 0 || u->t->squash) {
		return r;
	}
	r = sys_fchownat(fd, name, uid, gid, flags);
	if (r == -EINVAL) {
		return unpack__refuse(u, "its owner's id is larger than Holm keeps (268435455)");
	}
	return r < 0 ? unpack__failed(u, r, "owner") : 0;
}

static struct timespec mtime(const struct unpack_run *u)
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

static int set_mtime(struct unpack_run *u, int fd, const char *name, int flags)
{
	const struct timespec times[2] = { mtime(u), mtime(u) };
	int r = sys_utimensat(fd, name, times, flags);

	return r < 0 ? unpack__failed(u, r, "time") : 0;
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

static int set_xattrs(struct unpack_run *u, int fd)
{
	const struct unpack_limits *l = u->t->limits;
	unsigned n = 0;
	const char *name = NULL;
	const void *value;
	size_t size;

	archive_entry_xattr_reset(u->entry);
	while (archive_entry_xattr_next(u->entry, &name, &value, &size) == ARCHIVE_OK) {
		if (!name || ++n > l->xattrs) {
			return unpack__over_limit(u, "it has too many extended attributes",
						  l->xattrs);
		}
		if (size > l->xattr_bytes || strlen(name) > 255) {
			return unpack__over_limit(u, "an extended attribute is too large",
						  l->xattr_bytes);
		}
		enum xattr_use use = xattr_use(name);

		if (use == XATTR_REFUSE) {
			return unpack__refuse(u, "it has an extended attribute that no image may "
						 "have");
		}
		int r = use == XATTR_SET ? sys_fsetxattr(fd, name, value, size) : 0;

		if (r < 0) {
			return unpack__failed(u, r, "extended attribute");
		}
	}
	return 0;
}

/* Owner before mode, as changing it clears setuid; then attributes, which it would clear too. */
static int finish(struct unpack_run *u, int fd)
{
	int r = set_owner(u, fd, "", AT_EMPTY_PATH);

	if (r == 0) {
		r = sys_fchmod(fd, archive_entry_perm(u->entry) & 07777);
		r = r < 0 ? unpack__failed(u, r, "mode") : 0;
	}
	return r < 0 ? r : set_xattrs(u, fd);
}

/* --- the kinds of entries --- */

static int write_block(struct unpack_run *u, int fd, const char *data, size_t n, int64_t off)
{
	while (n > 0) {
		ssize_t w = sys_pwrite(fd, data, n, off);

		if (w < 0) {
			return unpack__failed(u, (int)w, "write");
		}
		data += w;
		n -= (size_t)w;
		off += w;
	}
	return 0;
}

static int write_data(struct unpack_run *u, int fd)
{
	int64_t size = archive_entry_size(u->entry);
	const void *data;
	size_t n;
	int64_t off;
	int r;

	if (size < 0) {
		return unpack__refuse(u, "it has no size");
	}
	if ((uint64_t)size > u->t->limits->file_bytes) {
		return unpack__over_limit(u, "the file is too large", u->t->limits->file_bytes);
	}
	while ((r = archive_read_data_block(u->ar, &data, &n, &off)) == ARCHIVE_OK) {
		if (off < 0 || off > size || n > (uint64_t)(size - off)) {
			return unpack__refuse(u, "its data goes beyond its size");
		}
		int w = write_block(u, fd, data, n, off);

		if (w < 0) {
			return w;
		}
	}
	if (r != ARCHIVE_EOF) {
		return unpack__refuse(u, archive_error_string(u->ar) ? archive_error_string(u->ar) :
							       "its data cannot be read");
	}
	/* What a sparse file ends with, and what nothing was written to. */
	r = sys_ftruncate(fd, size);
	return r < 0 ? unpack__failed(u, r, "size") : 0;
}

static int make_file(struct unpack_run *u, const char *name)
{
	auto_close int fd = path_create(u->parent_fd, name, O_WRONLY, 0600);

	if (fd < 0) {
		return unpack__failed(u, fd, "create");
	}
	int r = write_data(u, fd);

	if (r == 0) {
		r = finish(u, fd);
	}
	return r < 0 ? r : set_mtime(u, fd, "", AT_EMPTY_PATH);
}

/* Nothing in a user namespace can make a device, and nothing in an image should have one. */
static int make_device(struct unpack_run *u, const char *name)
{
	bool is_char = archive_entry_filetype(u->entry) == AE_IFCHR;
	char text[48];
	auto_close int fd = path_create(u->parent_fd, name, O_WRONLY, 0600);

	if (fd < 0) {
		return unpack__failed(u, fd, "create");
	}
	int n = snprintf(text, sizeof(text), "%c %u:%u", is_char ? 'c' : 'b',
			 (unsigned)archive_entry_rdevmajor(u->entry),
			 (unsigned)archive_entry_rdevminor(u->entry));
	int r = finish(u, fd);

	if (r == 0) {
		r = sys_fsetxattr(fd, UNPACK_DEVICE_XATTR, text, (size_t)n);
		if (r < 0 && r != -EOPNOTSUPP) {
			return unpack__failed(u, r, "device");
		}
		u->t->devices++;
		r = set_mtime(u, fd, "", AT_EMPTY_PATH);
	}
	return r;
}

static int make_fifo(struct unpack_run *u, const char *name)
{
	int r = path_mknod(u->parent_fd, name, S_IFIFO | 0600, 0);

	if (r < 0) {
		return unpack__failed(u, r, "create");
	}
	auto_close int fd = sys_openat(u->parent_fd, name, O_RDONLY | O_NONBLOCK | O_NOFOLLOW, 0);

	if (fd < 0) {
		return unpack__failed(u, fd, "open");
	}
	r = finish(u, fd);
	return r < 0 ? r : set_mtime(u, fd, "", AT_EMPTY_PATH);
}

/* Where a relative link leads may not be above the root, as nothing of an image is there. */
static int check_link(struct unpack_run *u, const char *target)
{
	char joined[2 * UNPACK_PATH_BYTES], ignored[UNPACK_PATH_BYTES];
	size_t n = strlen(u->path);
	const char *slash = strrchr(u->path, '/');
	struct unpack_limits loose = *u->t->limits;

	if (*target == '\0' || strlen(target) >= UNPACK_PATH_BYTES) {
		return unpack__refuse(u, "a link to nothing");
	}
	if (target[0] == '/') {
		return 0; /* of the instance's root */
	}
	n = slash ? (size_t)(slash - u->path) : 0;
	(void)snprintf(joined, sizeof(joined), "%.*s/%s", (int)n, u->path, target);
	loose.path_bytes = UNPACK_PATH_BYTES;
	loose.depth = UNPACK_PATH_BYTES;
	if (strlen(joined) >= UNPACK_PATH_BYTES) {
		return unpack__refuse(u, "a link with too long a target");
	}
	return unpack__clean(joined, &loose, ignored) == -EINVAL ?
		       unpack__refuse(u, "a link that leads out of the root") : 0;
}

static int make_symlink(struct unpack_run *u, const char *name)
{
	const char *target = archive_entry_symlink(u->entry);
	int r = target ? check_link(u, target) : unpack__refuse(u, "a link to nothing");

	if (r < 0) {
		return r;
	}
	r = path_symlink(u->parent_fd, name, target);
	if (r < 0) {
		return unpack__failed(u, r, "create");
	}
	r = set_owner(u, u->parent_fd, name, AT_SYMLINK_NOFOLLOW);
	return r < 0 ? r : set_mtime(u, u->parent_fd, name, AT_SYMLINK_NOFOLLOW);
}

static int make_hardlink(struct unpack_run *u, const char *name, const char *to)
{
	char target[UNPACK_PATH_BYTES];
	struct stat st;
	int r = unpack__clean_name(u, to, target);

	if (r < 0) {
		return r;
	}
	if (!*target) {
		return unpack__refuse(u, "a link to a folder");
	}
	char *last = strrchr(target, '/');
	const char *base = last ? last + 1 : target;

	if (last) {
		*last = '\0';
	}
	auto_close int dir = path_open(u->t->root_fd, last ? target : "", PATH_DIRECTORY);

	r = dir < 0 ? dir : sys_fstatat(dir, base, &st, AT_SYMLINK_NOFOLLOW);
	if (r < 0) {
		return unpack__refuse(u, "a hard link to what is not there");
	}
	if (S_ISDIR(st.st_mode)) {
		return unpack__refuse(u, "a link to a folder");
	}
	r = sys_linkat(dir, base, u->parent_fd, name, 0);
	return r < 0 ? unpack__failed(u, r, "link") : 0;
}

static int remember_times(struct unpack_run *u)
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

int unpack__finish_folder(struct unpack_run *u, int fd)
{
	int r = finish(u, fd);

	return r < 0 ? r : remember_times(u);
}

/* `exists`: a folder is there, from below or by this archive. */
static int make_folder(struct unpack_run *u, const char *name, bool exists)
{
	int r = exists ? 0 : sys_mkdirat(u->parent_fd, name, 0700);

	if (r < 0) {
		return unpack__failed(u, r, "create");
	}
	auto_close int fd = sys_openat(u->parent_fd, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW, 0);

	return fd < 0 ? unpack__failed(u, fd, "open") : unpack__finish_folder(u, fd);
}

int unpack__make_entry(struct unpack_run *u, const char *name, bool exists)
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
		return unpack__refuse(u, "it is of a kind that no layer has");
	}
}
