/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Small file systems of ours that things are bound from.
 */
#include <errno.h>

#include "base/fd.h"
#include "container/rootfs-priv.h"
#include "sys/file.h"
#include "sys/mount.h"

int rootfs__store_open(struct store *s, const char *source)
{
	auto_close int fs_fd = sys_fsopen("tmpfs");
	int r = fs_fd;

	r = r < 0 ? r : sys_fsconfig(fs_fd, FSCONFIG_SET_STRING, "source", source, 0);
	r = r < 0 ? r : sys_fsconfig(fs_fd, FSCONFIG_CMD_CREATE, NULL, NULL, 0);
	r = r < 0 ? r : sys_fsmount(fs_fd, MOUNT_ATTR_NOSUID | MOUNT_ATTR_NOEXEC);
	if (r < 0) {
		return r;
	}
	s->fd = r;
	return 0;
}

/* On a folder that every procfs has, and that hooks and we have no use for. */
static int attach(struct store *s)
{
	auto_close int at = sys_openat(AT_FDCWD, "/proc/driver", O_PATH | O_DIRECTORY, 0);
	int r = at < 0 ? at : sys_attach(s->fd, at);

	s->attached = r == 0;
	return r;
}

int rootfs__store_clone(struct store *s, const char *name)
{
	int r = s->fd < 0 ? -ENOENT
			  : sys_open_tree(s->fd, name, OPEN_TREE_CLONE | AT_SYMLINK_NOFOLLOW);

	/*
	 * Compatibility: before 6.15 only mounts of one's own namespace are copied, so it is
	 * put there, out of the container's root: it goes when the host's root does.
	 */
	if (r == -EINVAL && !s->attached) {
		r = attach(s);
		r = r < 0 ? r : sys_open_tree(s->fd, name, OPEN_TREE_CLONE | AT_SYMLINK_NOFOLLOW);
	}
	return r;
}
