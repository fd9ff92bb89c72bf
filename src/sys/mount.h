/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Mounts, by descriptors. Each function is the kernel call of its name (see its manual page)
 * with the conventions of sys/sys.h.
 *
 * A new file system: sys_fsopen(), sys_fsconfig_*(), sys_fsconfig_create(), sys_fsmount();
 * a copy of an existing tree: sys_open_tree(OPEN_TREE_CLONE). Either gives a descriptor of a
 * detached mount, which dies with it unless sys_move_mount() puts it somewhere.
 */
#ifndef SYS_MOUNT_H
#define SYS_MOUNT_H

#include <fcntl.h>
#include <sys/mount.h>

#include "sys/sys.h"

struct buf;

#ifndef MOUNT_ATTR_NOSYMFOLLOW
#define MOUNT_ATTR_NOSYMFOLLOW 0x00200000
#endif

int sys_fsopen(const char *fs_name) must_check;
int sys_fspick(int dir_fd, const char *path, unsigned flags) must_check;
int sys_fsconfig(int fs_fd, unsigned cmd, const char *key, const void *value, int aux) must_check;
int sys_fsmount(int fs_fd, unsigned attrs) must_check;

/* What the kernel had to say about a failed sys_fsconfig() or sys_fsmount(), on one line
 * without its level; "" if nothing. */
void sys_fs_message(int fs_fd, struct buf *ret);

/* O_CLOEXEC is added. */
int sys_open_tree(int dir_fd, const char *path, unsigned flags) must_check;

/*
 * sys_open_tree() and sys_mount_setattr() in one; where the kernel has no such call
 * (before 6.15), the two. AT_RECURSIVE counts for both.
 */
int sys_open_tree_attr(int dir_fd, const char *path, unsigned flags,
		       const struct mount_attr *attr) must_check;

int sys_mount_setattr(int dir_fd, const char *path, unsigned flags,
		      const struct mount_attr *attr) must_check;
int sys_move_mount(int from_fd, const char *from_path, int to_fd, const char *to_path,
		   unsigned flags) must_check;

/* sys_move_mount() of a detached mount onto what a descriptor names. */
int sys_attach(int mount_fd, int target_fd) must_check;

/* Only for what the calls above cannot do, and only on "." or a path of the host's own. */
int sys_mount(const char *source, const char *target, const char *type, unsigned long flags,
	      const char *data) must_check;

int sys_umount2(const char *path, int flags) must_check;
int sys_pivot_root(const char *new_root, const char *put_old) must_check;
int sys_chroot(const char *path) must_check;

#endif
