/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Paths that are hidden, and paths that cannot be written.
 *
 * What hides a path is an inode of ours on a small read-only file system of ours: an empty
 * folder, and a null device (an empty file where none can be made). Whatever the container's
 * /dev/null is has no part in it.
 *
 * Spec: oci-runtime 1.3, config-linux.md, Masked Paths, Readonly Paths
 */
#include <errno.h>
#include <stdio.h>
#include <sys/sysmacros.h>

#include "base/fd.h"
#include "container/rootfs-priv.h"
#include "sys/file.h"
#include "sys/mount.h"
#include "sys/path.h"

static const char mask_dir[] = "d", mask_file[] = "f";

static int make_file(int fd)
{
	int r = path_mknod(fd, mask_file, S_IFCHR | 0666, makedev(1, 3));

	if (r != -EPERM) {
		return r;
	}
	auto_close int file = path_create(fd, mask_file, O_WRONLY, 0444);

	return file < 0 ? file : 0;
}

/* What we have made, by what it is. */
static int check_file(int fd)
{
	struct stat st;
	int r = sys_fstatat(fd, mask_file, &st, AT_SYMLINK_NOFOLLOW);

	if (r < 0) {
		return r;
	}
	return (S_ISCHR(st.st_mode) && st.st_rdev == makedev(1, 3)) ||
	       (S_ISREG(st.st_mode) && st.st_size == 0) ? 0 : -ENODEV;
}

static int make_masks(struct store *s)
{
	struct mount_attr ro = { .attr_set = MOUNT_ATTR_RDONLY };
	int r = rootfs__store_open(s, "mask");

	r = r < 0 ? r : path_mkdir(s->fd, mask_dir, 0555);
	r = r < 0 ? r : make_file(s->fd);
	r = r < 0 ? r : check_file(s->fd);
	return r < 0 ? r : sys_mount_setattr(s->fd, "", AT_EMPTY_PATH, &ro);
}

int rootfs__masks_open(struct rootfs *fs, struct err *e)
{
	const struct oci_linux *l = fs->conf.spec->linux;
	int r = l && l->masked_paths.n > 0 ? make_masks(&fs->masks) : 0;

	return r < 0 ? err_set(e, -r, ERR_HOST, "make what masks paths") : 0;
}

static int path_err(const char *list, size_t i, const char *path, int errnum, struct err *e)
{
	int r = err_set(e, errnum, ERR_HOST, "%s: %s", list, path);

	(void)snprintf(e->field, sizeof(e->field), "/linux/%s/%zu", list, i); /* fits */
	return r;
}

/* What does not exist needs no hiding. */
static bool is_absent(int r)
{
	return r == -ENOENT || r == -ENOTDIR;
}

static int hide(struct rootfs *fs, const char *path)
{
	struct stat st;
	auto_close int target_fd = path_open(fs->root_fd, path, 0);

	if (target_fd < 0) {
		return is_absent(target_fd) ? 0 : target_fd;
	}
	int r = sys_fstat(target_fd, &st);

	if (r < 0) {
		return r;
	}
	auto_close int fd = rootfs__store_clone(&fs->masks, S_ISDIR(st.st_mode) ? mask_dir
										: mask_file);

	return fd < 0 ? fd : sys_attach(fd, target_fd);
}

/* A copy of it on itself, with all that is mounted below, read-only at the top. */
static int protect(const struct rootfs *fs, const char *path)
{
	struct mount_attr ro = { .attr_set = MOUNT_ATTR_RDONLY };
	auto_close int target_fd = path_open(fs->root_fd, path, 0);

	if (target_fd < 0) {
		return is_absent(target_fd) ? 0 : target_fd;
	}
	auto_close int fd = sys_open_tree(target_fd, "", OPEN_TREE_CLONE | AT_RECURSIVE |
					  AT_EMPTY_PATH);
	int r = fd < 0 ? fd : sys_mount_setattr(fd, "", AT_EMPTY_PATH, &ro);

	return r < 0 ? r : sys_attach(fd, target_fd);
}

int rootfs__masks_apply(struct rootfs *fs, struct err *e)
{
	const struct oci_linux *l = fs->conf.spec->linux;

	/* First what is read-only: it is copied with what is mounted below, masks too. */
	for (size_t i = 0; l && i < l->readonly_paths.n; i++) {
		int r = protect(fs, l->readonly_paths.v[i]);

		if (r < 0) {
			return path_err("readonlyPaths", i, l->readonly_paths.v[i], -r, e);
		}
	}
	for (size_t i = 0; l && i < l->masked_paths.n; i++) {
		int r = hide(fs, l->masked_paths.v[i]);

		if (r < 0) {
			return path_err("maskedPaths", i, l->masked_paths.v[i], -r, e);
		}
	}
	return 0;
}
