/* SPDX-License-Identifier: Apache-2.0 */
#include "sys/mount.h"

#include <errno.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/fd.h"
#include "base/str.h"

#ifndef SYS_open_tree_attr
#define SYS_open_tree_attr 467
#endif

int sys_fsopen(const char *fs_name)
{
	int r = sys__fault(SYS_CALL_fsopen);

	return r ? r : sys__ret((int)syscall(SYS_fsopen, fs_name, FSOPEN_CLOEXEC));
}

int sys_fspick(int dir_fd, const char *path, unsigned flags)
{
	int r = sys__fault(SYS_CALL_fspick);

	return r ? r : sys__ret((int)syscall(SYS_fspick, dir_fd, path, flags | FSPICK_CLOEXEC));
}

int sys_fsconfig(int fs_fd, unsigned cmd, const char *key, const void *value, int aux)
{
	int r = sys__fault(SYS_CALL_fsconfig);

	return r ? r : sys__ret((int)syscall(SYS_fsconfig, fs_fd, cmd, key, value, aux));
}

int sys_fsmount(int fs_fd, unsigned attrs)
{
	int r = sys__fault(SYS_CALL_fsmount);

	return r ? r : sys__ret((int)syscall(SYS_fsmount, fs_fd, FSMOUNT_CLOEXEC, attrs));
}

void sys_fs_message(int fs_fd, struct buf *ret)
{
	char text[512];

	/* One message a read, oldest first, "e " or "w " or "i " before it. */
	for (;;) {
		ssize_t n = read(fs_fd, text, sizeof(text));

		if (n <= 0) {
			return;
		}
		while (n > 0 && text[n - 1] == '\n') {
			n--;
		}
		ssize_t skip = n > 2 && text[1] == ' ' ? 2 : 0;

		if (ret->len > 0) {
			buf_add_str(ret, "; ");
		}
		buf_add(ret, text + skip, (size_t)(n - skip));
	}
}

int sys_open_tree(int dir_fd, const char *path, unsigned flags)
{
	int r = sys__fault(SYS_CALL_open_tree);

	return r ? r : sys__ret((int)syscall(SYS_open_tree, dir_fd, path, flags | OPEN_TREE_CLOEXEC));
}

static int open_tree_attr(int dir_fd, const char *path, unsigned flags,
			  const struct mount_attr *attr)
{
	int r = sys__fault(SYS_CALL_open_tree_attr);

	return r ? r : sys__ret((int)syscall(SYS_open_tree_attr, dir_fd, path,
					     flags | OPEN_TREE_CLOEXEC, attr, sizeof(*attr)));
}

/* Retire with kernels before 6.15, which have no open_tree_attr(). */
static int open_tree_then_attr(int dir_fd, const char *path, unsigned flags,
			       const struct mount_attr *attr)
{
	auto_close int fd = sys_open_tree(dir_fd, path, flags);

	if (fd < 0) {
		return fd;
	}
	int r = sys_mount_setattr(fd, "", AT_EMPTY_PATH | (flags & AT_RECURSIVE), attr);

	return r < 0 ? r : take_fd(&fd);
}

int sys_open_tree_attr(int dir_fd, const char *path, unsigned flags, const struct mount_attr *attr)
{
	static atomic_bool missing; /* only ever set; a stale false costs one call */

	if (!atomic_load_explicit(&missing, memory_order_relaxed)) {
		int r = open_tree_attr(dir_fd, path, flags, attr);

		if (r != -ENOSYS) {
			return r;
		}
		atomic_store_explicit(&missing, true, memory_order_relaxed);
	}
	return open_tree_then_attr(dir_fd, path, flags, attr);
}

int sys_mount_setattr(int dir_fd, const char *path, unsigned flags, const struct mount_attr *attr)
{
	int r = sys__fault(SYS_CALL_mount_setattr);

	return r ? r : sys__ret((int)syscall(SYS_mount_setattr, dir_fd, path, flags, attr,
					     sizeof(*attr)));
}

int sys_move_mount(int from_fd, const char *from_path, int to_fd, const char *to_path,
		   unsigned flags)
{
	int r = sys__fault(SYS_CALL_move_mount);

	return r ? r : sys__ret((int)syscall(SYS_move_mount, from_fd, from_path, to_fd, to_path,
					     flags));
}

int sys_attach(int mount_fd, int target_fd)
{
	return sys_move_mount(mount_fd, "", target_fd, "",
			      MOVE_MOUNT_F_EMPTY_PATH | MOVE_MOUNT_T_EMPTY_PATH);
}

int sys_mount(const char *source, const char *target, const char *type, unsigned long flags,
	      const char *data)
{
	int r = sys__fault(SYS_CALL_mount);

	return r ? r : sys__ret(mount(source, target, type, flags, data));
}

int sys_umount2(const char *path, int flags)
{
	int r = sys__fault(SYS_CALL_umount2);

	return r ? r : sys__ret(umount2(path, flags));
}

int sys_pivot_root(const char *new_root, const char *put_old)
{
	int r = sys__fault(SYS_CALL_pivot_root);

	return r ? r : sys__ret((int)syscall(SYS_pivot_root, new_root, put_old));
}

int sys_chroot(const char *path)
{
	int r = sys__fault(SYS_CALL_chroot);

	return r ? r : sys__ret(chroot(path));
}
