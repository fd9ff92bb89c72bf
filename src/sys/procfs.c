/* SPDX-License-Identifier: Apache-2.0 */
#include "sys/procfs.h"

#include <errno.h>
#include <linux/magic.h>
#include <linux/openat2.h>
#include <stdatomic.h>
#include <sys/stat.h>
#include <sys/statfs.h>

#include "base/fd.h"
#include "base/str.h"
#include "sys/file.h"
#include "sys/mount.h"
#include "sys/path.h"

int procfs_verify(int fd)
{
	struct statfs fs;
	int r = sys__fault(SYS_CALL_fstatfs);

	r = r ? r : sys__ret(fstatfs(fd, &fs));
	if (r < 0) {
		return r;
	}
	return fs.f_type == PROC_SUPER_MAGIC ? 0 : -EXDEV;
}

static int verify_root(int fd)
{
	struct stat st;
	int r = procfs_verify(fd);

	r = r < 0 ? r : sys_fstat(fd, &st);
	if (r < 0) {
		return r;
	}
	return st.st_ino == PROCFS_ROOT_INODE ? 0 : -EXDEV;
}

static int mount_new(unsigned flags)
{
	auto_close int fs_fd = sys_fsopen("proc");

	if (fs_fd < 0) {
		return fs_fd;
	}
	if (flags & PROCFS_PID_ONLY) {
		ignore_result(sys_fsconfig(fs_fd, FSCONFIG_SET_STRING, "subset", "pid", 0));
		/* less is better, more is no error */
	}
	int r = sys_fsconfig(fs_fd, FSCONFIG_CMD_CREATE, NULL, NULL, 0);

	return r < 0 ? r : sys_fsmount(fs_fd, MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV |
				       MOUNT_ATTR_NOEXEC);
}

int procfs_open(unsigned flags)
{
	auto_close int fd = mount_new(flags);

	if (fd < 0) {
		/* Without what is mounted on it; refused if that is locked in place. */
		fd = sys_open_tree(AT_FDCWD, "/proc", OPEN_TREE_CLONE);
	}
	if (fd < 0) {
		fd = sys_openat(AT_FDCWD, "/proc", O_PATH | O_DIRECTORY | O_NOFOLLOW, 0);
	}
	if (fd < 0) {
		return fd;
	}
	int r = verify_root(fd);

	return r < 0 ? r : take_fd(&fd);
}

static int open_by_kernel(int proc_fd, const char *path, int flags)
{
	struct open_how how = {
		.flags = (uint64_t)(unsigned)flags | O_NOCTTY,
		.resolve = RESOLVE_BENEATH | RESOLVE_NO_MAGICLINKS | RESOLVE_NO_XDEV,
	};

	if (flags & O_PATH) {
		how.flags = (uint64_t)(unsigned)flags;
	}
	int r = -EAGAIN;

	for (int i = 0; i < 32 && r == -EAGAIN; i++) {
		r = sys_openat2(proc_fd, path, &how);
	}
	return r;
}

int procfs_openat(int proc_fd, const char *path, int flags)
{
	auto_close int fd = open_by_kernel(proc_fd, path, flags);

	if (fd == -ENOSYS || fd == -EAGAIN) {
		fd = path_openat(proc_fd, path, flags, PATH_NO_XDEV);
	}
	if (fd < 0) {
		return fd;
	}
	/* Within one mount nothing but procfs is reached; a fake handle is caught here. */
	int r = procfs_verify(fd);

	return r < 0 ? r : take_fd(&fd);
}

int procfs_write(int proc_fd, const char *path, const void *data, size_t n)
{
	auto_close int fd = procfs_openat(proc_fd, path, O_WRONLY);

	if (fd < 0) {
		return fd;
	}
	ssize_t r = sys_write(fd, data, n);

	if (r < 0) {
		return (int)r;
	}
	return (size_t)r == n ? 0 : -EIO;
}

int procfs_read(int proc_fd, const char *path, size_t max, struct buf *ret)
{
	auto_close int fd = procfs_openat(proc_fd, path, O_RDONLY);

	return fd < 0 ? fd : sys_read_fd(fd, max, ret);
}

int procfs_reopen(int proc_fd, int fd, int flags)
{
	auto_close int dir_fd = procfs_openat(proc_fd, "thread-self/fd", O_PATH | O_DIRECTORY);
	char name[16];

	if (dir_fd < 0) {
		return dir_fd;
	}
	(void)snprintf(name, sizeof(name), "%d", fd); /* fits: ten digits and a sign */

	/* The one magic link that is followed: ours, in a folder known to be procfs's own. */
	struct open_how how = { .flags = (uint64_t)(unsigned)flags };

	if (!(flags & O_PATH)) {
		how.flags |= O_NOCTTY;
	}
	int r = sys_openat2(dir_fd, name, &how);

	return r == -ENOSYS ? sys_openat(dir_fd, name, (int)how.flags, 0) : r;
}
