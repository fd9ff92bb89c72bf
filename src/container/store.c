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

/*
 * In its place: a folder of the host's procfs that hooks and we have no use for. There it is a
 * mount of this namespace, and only such are copied by kernels before 6.15; and it goes when
 * the host's root does, where the end of a detached mount would be waited for on its own.
 */
static void attach(struct store *s)
{
	auto_close int at = sys_openat(AT_FDCWD, "/proc/driver", O_PATH | O_DIRECTORY, 0);

	s->tried = true;
	ignore_result(at < 0 ? at : sys_attach(s->fd, at)); /* newer kernels do without */
}

int rootfs__store_clone(struct store *s, const char *name)
{
	if (s->fd < 0) {
		return -ENOENT;
	}
	if (!s->tried) {
		attach(s);
	}
	return sys_open_tree(s->fd, name, OPEN_TREE_CLONE | AT_SYMLINK_NOFOLLOW);
}
