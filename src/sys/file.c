/* SPDX-License-Identifier: Apache-2.0 */
#include "sys/file.h"

#include <dirent.h>
#include <errno.h>
#include <linux/openat2.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/vfs.h>
#include <unistd.h>

#include "base/str.h"

int sys_openat(int dir_fd, const char *path, int flags, mode_t mode)
{
	int r = sys__fault(SYS_CALL_openat);

	if (r == 0) {
		r = sys__ret(openat(dir_fd, path, flags | O_CLOEXEC, mode));
	}
	if (r >= 0 && (flags & (O_CREAT | O_TRUNC))) {
		sys__note(&(struct sys_change){ .call = SYS_CALL_openat, .fd = dir_fd, .path = path,
						.flags = (unsigned)flags, .mode = mode,
						.result = r });
	}
	return r;
}

int sys_openat2(int dir_fd, const char *path, const struct open_how *how)
{
	struct open_how h = *how;
	int r = sys__fault(SYS_CALL_openat2);

	h.flags |= O_CLOEXEC;
	if (r == 0) {
		r = sys__ret((int)syscall(SYS_openat2, dir_fd, path, &h, sizeof(h)));
	}
	if (r >= 0 && (h.flags & (O_CREAT | O_TRUNC))) {
		sys__note(&(struct sys_change){ .call = SYS_CALL_openat2, .fd = dir_fd, .path = path,
						.flags = (unsigned)h.flags, .mode = (mode_t)h.mode,
						.result = r });
	}
	return r;
}

int sys_dup(int fd)
{
	int r = sys__fault(SYS_CALL_dup);

	return r ? r : sys__ret(fcntl(fd, F_DUPFD_CLOEXEC, 3));
}

int sys_opendir(int dir_fd, const char *path, DIR **ret)
{
	auto_close int fd = sys_openat(dir_fd, path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW, 0);
	DIR *dir = fd < 0 ? NULL : fdopendir(fd);

	if (!dir) {
		return fd < 0 ? fd : -errno;
	}
	(void)take_fd(&fd); /* the stream's now */
	*ret = dir;
	return 0;
}

int sys_mkdirat(int dir_fd, const char *path, mode_t mode)
{
	int r = sys__fault(SYS_CALL_mkdirat);

	if (r == 0) {
		r = sys__ret(mkdirat(dir_fd, path, mode));
	}
	if (r == 0) {
		sys__note(&(struct sys_change){ .call = SYS_CALL_mkdirat, .fd = dir_fd, .path = path,
						.mode = mode });
	}
	return r;
}

int sys_mknodat(int dir_fd, const char *path, mode_t mode, dev_t dev)
{
	int r = sys__fault(SYS_CALL_mknodat);

	if (r == 0) {
		r = sys__ret(mknodat(dir_fd, path, mode, dev));
	}
	if (r == 0) {
		sys__note(&(struct sys_change){ .call = SYS_CALL_mknodat, .fd = dir_fd, .path = path,
						.mode = mode });
	}
	return r;
}

int sys_symlinkat(const char *target, int dir_fd, const char *path)
{
	int r = sys__fault(SYS_CALL_symlinkat);

	if (r == 0) {
		r = sys__ret(symlinkat(target, dir_fd, path));
	}
	if (r == 0) {
		sys__note(&(struct sys_change){ .call = SYS_CALL_symlinkat, .fd = dir_fd,
						.path = path, .path2 = target });
	}
	return r;
}

int sys_linkat(int old_fd, const char *old_path, int fd, const char *path, int flags)
{
	int r = sys__fault(SYS_CALL_linkat);

	if (r == 0) {
		r = sys__ret(linkat(old_fd, old_path, fd, path, flags));
	}
	if (r == 0) {
		sys__note(&(struct sys_change){ .call = SYS_CALL_linkat, .fd = old_fd, .fd2 = fd,
						.path = old_path, .path2 = path,
						.flags = (unsigned)flags });
	}
	return r;
}

int sys_unlinkat(int dir_fd, const char *path, int flags)
{
	int r = sys__fault(SYS_CALL_unlinkat);

	if (r == 0) {
		r = sys__ret(unlinkat(dir_fd, path, flags));
	}
	if (r == 0) {
		sys__note(&(struct sys_change){ .call = SYS_CALL_unlinkat, .fd = dir_fd,
						.path = path, .flags = (unsigned)flags });
	}
	return r;
}

int sys_renameat2(int old_fd, const char *old_path, int fd, const char *path, unsigned flags)
{
	int r = sys__fault(SYS_CALL_renameat2);

	if (r == 0) {
		r = sys__ret(renameat2(old_fd, old_path, fd, path, flags));
	}
	if (r == 0) {
		sys__note(&(struct sys_change){ .call = SYS_CALL_renameat2, .fd = old_fd, .fd2 = fd,
						.path = old_path, .path2 = path, .flags = flags });
	}
	return r;
}

int sys_fchmod(int fd, mode_t mode)
{
	int r = sys__fault(SYS_CALL_fchmod);

	return r ? r : sys__ret(fchmod(fd, mode));
}

int sys_fchmodat(int dir_fd, const char *path, mode_t mode)
{
	int r = sys__fault(SYS_CALL_fchmodat);

	return r ? r : sys__ret(fchmodat(dir_fd, path, mode, 0));
}

int sys_fchownat(int dir_fd, const char *path, uid_t uid, gid_t gid, int flags)
{
	int r = sys__fault(SYS_CALL_fchownat);

	return r ? r : sys__ret(fchownat(dir_fd, path, uid, gid, flags));
}

int sys_utimensat(int dir_fd, const char *path, const struct timespec times[2], int flags)
{
	int r = sys__fault(SYS_CALL_utimensat);

	return r ? r : sys__ret(utimensat(dir_fd, path, times, flags));
}

int sys_fstat(int fd, struct stat *ret)
{
	int r = sys__fault(SYS_CALL_fstat);

	return r ? r : sys__ret(fstat(fd, ret));
}

int sys_fstatat(int dir_fd, const char *path, struct stat *ret, int flags)
{
	int r = sys__fault(SYS_CALL_fstatat);

	return r ? r : sys__ret(fstatat(dir_fd, path, ret, flags));
}

int sys_fstatfs(int fd, struct statfs *ret)
{
	int r = sys__fault(SYS_CALL_fstatfs);

	return r ? r : sys__ret(fstatfs(fd, ret));
}

int sys_ftruncate(int fd, int64_t len)
{
	int r = sys__fault(SYS_CALL_ftruncate);

	if (r == 0) {
		r = sys__ret(ftruncate(fd, len));
	}
	if (r == 0) {
		sys__note(&(struct sys_change){ .call = SYS_CALL_ftruncate, .fd = fd, .offset = len });
	}
	return r;
}

int sys_fallocate(int fd, int mode, int64_t off, int64_t len)
{
	int r = sys__fault(SYS_CALL_fallocate);

	return r ? r : sys__ret(fallocate(fd, mode, off, len));
}

int sys_fsync(int fd)
{
	int r = sys__fault(SYS_CALL_fsync);

	if (r == 0) {
		r = sys__ret(fsync(fd));
	}
	if (r == 0) {
		sys__note(&(struct sys_change){ .call = SYS_CALL_fsync, .fd = fd });
	}
	return r;
}

int sys_fdatasync(int fd)
{
	int r = sys__fault(SYS_CALL_fdatasync);

	if (r == 0) {
		r = sys__ret(fdatasync(fd));
	}
	if (r == 0) {
		sys__note(&(struct sys_change){ .call = SYS_CALL_fdatasync, .fd = fd });
	}
	return r;
}

int sys_syncfs(int fd)
{
	int r = sys__fault(SYS_CALL_syncfs);

	if (r == 0) {
		r = sys__ret(syncfs(fd));
	}
	if (r == 0) {
		sys__note(&(struct sys_change){ .call = SYS_CALL_syncfs, .fd = fd });
	}
	return r;
}

int sys_flock(int fd, int op)
{
	int r = sys__fault(SYS_CALL_flock);

	if (r) {
		return r;
	}
	do {
		r = sys__ret(flock(fd, op));
	} while (r == -EINTR);
	return r;
}

int sys_fcntl(int fd, int cmd, long arg)
{
	int r = sys__fault(SYS_CALL_fcntl);

	return r ? r : sys__ret(fcntl(fd, cmd, arg));
}

int sys_set_nonblock(int fd)
{
	int flags = sys_fcntl(fd, F_GETFL, 0);

	return flags < 0 ? flags : sys_fcntl(fd, F_SETFL, flags | O_NONBLOCK);
}

int sys_ioctl(int fd, unsigned long request, void *arg)
{
	int r = sys__fault(SYS_CALL_ioctl);

	return r ? r : sys__ret(ioctl(fd, request, arg));
}

int sys_pipe2(int ret_fds[2], int flags)
{
	int r = sys__fault(SYS_CALL_pipe2);

	return r ? r : sys__ret(pipe2(ret_fds, flags | O_CLOEXEC));
}

int sys_memfd_create(const char *name, unsigned flags)
{
	int r = sys__fault(SYS_CALL_memfd_create);

	return r ? r : sys__ret(memfd_create(name, flags | MFD_CLOEXEC));
}

int sys_close_range(unsigned first, unsigned last, unsigned flags)
{
	int r = sys__fault(SYS_CALL_close_range);

	return r ? r : sys__ret((int)syscall(SYS_close_range, first, last, flags));
}

ssize_t sys_read(int fd, void *buf, size_t n)
{
	ssize_t r = sys__fault(SYS_CALL_read);

	if (r) {
		return r;
	}
	do {
		r = sys__retn(read(fd, buf, n));
	} while (r == -EINTR);
	return r;
}

ssize_t sys_write(int fd, const void *buf, size_t n)
{
	ssize_t r = sys__fault(SYS_CALL_write);

	if (r) {
		return r;
	}
	do {
		r = sys__retn(write(fd, buf, n));
	} while (r == -EINTR);
	if (r >= 0) {
		sys__note(&(struct sys_change){ .call = SYS_CALL_write, .fd = fd, .data = buf,
						.len = (size_t)r, .offset = -1, .result = r });
	}
	return r;
}

ssize_t sys_pread(int fd, void *buf, size_t n, int64_t off)
{
	ssize_t r = sys__fault(SYS_CALL_pread);

	if (r) {
		return r;
	}
	do {
		r = sys__retn(pread(fd, buf, n, off));
	} while (r == -EINTR);
	return r;
}

ssize_t sys_pwrite(int fd, const void *buf, size_t n, int64_t off)
{
	ssize_t r = sys__fault(SYS_CALL_pwrite);

	if (r) {
		return r;
	}
	do {
		r = sys__retn(pwrite(fd, buf, n, off));
	} while (r == -EINTR);
	if (r >= 0) {
		sys__note(&(struct sys_change){ .call = SYS_CALL_pwrite, .fd = fd, .data = buf,
						.len = (size_t)r, .offset = off, .result = r });
	}
	return r;
}

ssize_t sys_readv(int fd, const struct iovec *iov, unsigned n)
{
	ssize_t r = sys__fault(SYS_CALL_readv);

	if (r) {
		return r;
	}
	do {
		r = sys__retn(readv(fd, iov, (int)n));
	} while (r == -EINTR);
	return r;
}

/* Not told to observers: those who use it write to devices and to disks of machines. */
ssize_t sys_writev(int fd, const struct iovec *iov, unsigned n)
{
	ssize_t r = sys__fault(SYS_CALL_writev);

	if (r) {
		return r;
	}
	do {
		r = sys__retn(writev(fd, iov, (int)n));
	} while (r == -EINTR);
	return r;
}

ssize_t sys_preadv2(int fd, const struct iovec *iov, unsigned n, int64_t off, int flags)
{
	ssize_t r = sys__fault(SYS_CALL_preadv2);

	if (r) {
		return r;
	}
	do {
		r = sys__retn(preadv2(fd, iov, (int)n, off, flags));
	} while (r == -EINTR);
	return r;
}

/* As sys_writev(). */
ssize_t sys_pwritev2(int fd, const struct iovec *iov, unsigned n, int64_t off, int flags)
{
	ssize_t r = sys__fault(SYS_CALL_pwritev2);

	if (r) {
		return r;
	}
	do {
		r = sys__retn(pwritev2(fd, iov, (int)n, off, flags));
	} while (r == -EINTR);
	return r;
}

ssize_t sys_readlinkat(int dir_fd, const char *path, char *buf, size_t n)
{
	ssize_t r = sys__fault(SYS_CALL_readlinkat);

	return r ? r : sys__retn(readlinkat(dir_fd, path, buf, n));
}

ssize_t sys_read_full(int fd, void *buf, size_t n)
{
	size_t done = 0;

	while (done < n) {
		ssize_t r = sys_read(fd, (char *)buf + done, n - done);

		if (r < 0) {
			return r;
		}
		if (r == 0) {
			break;
		}
		done += (size_t)r;
	}
	return (ssize_t)done;
}

int sys_write_full(int fd, const void *buf, size_t n)
{
	size_t done = 0;

	while (done < n) {
		ssize_t r = sys_write(fd, (const char *)buf + done, n - done);

		if (r < 0) {
			return (int)r;
		}
		done += (size_t)r;
	}
	return 0;
}

int sys_read_fd(int fd, size_t max, struct buf *ret)
{
	size_t start = ret->len;
	struct stat st = { 0 };

	/* At once, where the size is known: a buffer that grows is copied again and again. */
	if (fstat(fd, &st) == 0 && S_ISREG(st.st_mode) && st.st_size > 4096 &&
	    (uint64_t)st.st_size <= max && !buf_reserve(ret, (size_t)st.st_size + 4096)) {
		return -ENOMEM;
	}
	for (;;) {
		if (!buf_reserve(ret, 4096)) {
			return -ENOMEM;
		}
		ssize_t r = sys_read(fd, ret->data + ret->len, ret->cap - ret->len - 1);

		if (r < 0) {
			return (int)r;
		}
		if (r == 0) {
			return 0;
		}
		ret->len += (size_t)r;
		ret->data[ret->len] = '\0';
		if (ret->len - start > max) {
			return -EFBIG;
		}
	}
}

int sys_read_file(int dir_fd, const char *path, size_t max, struct buf *ret)
{
	auto_close int fd = sys_openat(dir_fd, path, O_RDONLY | O_NONBLOCK | O_NOCTTY, 0);

	return fd < 0 ? fd : sys_read_fd(fd, max, ret);
}

int sys_write_file(int dir_fd, const char *path, const void *data, size_t n)
{
	auto_close int fd = sys_openat(dir_fd, path, O_WRONLY | O_NOCTTY, 0);

	if (fd < 0) {
		return fd;
	}
	ssize_t r = sys_write(fd, data, n);

	if (r >= 0 && (size_t)r != n) {
		return -EIO;
	}
	return r < 0 ? (int)r : 0;
}

static int write_and_sync(int fd, const void *data, size_t n, mode_t mode)
{
	int r = sys_write_full(fd, data, n);

	if (r == 0) {
		r = sys_fchmod(fd, mode); /* whatever the umask made of it */
	}
	return r < 0 ? r : sys_fsync(fd);
}

/* The folder that holds `path`. */
static int open_parent(int dir_fd, const char *path)
{
	const char *slash = strrchr(path, '/');

	if (!slash) {
		return sys_openat(dir_fd, ".", O_RDONLY | O_DIRECTORY, 0);
	}
	auto_free char *parent = str_ndup(path, slash == path ? 1 : (size_t)(slash - path));

	return parent ? sys_openat(dir_fd, parent, O_RDONLY | O_DIRECTORY, 0) : -ENOMEM;
}

int sys_replace_file(int dir_fd, const char *path, const void *data, size_t n, mode_t mode)
{
	auto_free char *tmp = str_printf("%s.tmp-%d", path, (int)getpid());

	if (!tmp) {
		return -ENOMEM;
	}
	auto_close int parent_fd = open_parent(dir_fd, path);

	if (parent_fd < 0) {
		return parent_fd;
	}
	auto_close int fd = sys_openat(dir_fd, tmp, O_WRONLY | O_CREAT | O_TRUNC | O_NOFOLLOW, 0600);

	if (fd < 0) {
		return fd;
	}
	int r = write_and_sync(fd, data, n, mode);

	if (r == 0) {
		r = sys_renameat2(dir_fd, tmp, dir_fd, path, 0);
	}
	if (r < 0) {
		ignore_result(sys_unlinkat(dir_fd, tmp, 0)); /* the first failure is the one to report */
		return r;
	}
	return sys_fsync(parent_fd);
}

int sys_mkdir_p(int dir_fd, const char *path, mode_t mode)
{
	auto_free char *copy = str_dup(path);

	if (!copy) {
		return -ENOMEM;
	}
	for (char *p = copy + 1; *copy && *p; p++) {
		if (*p != '/') {
			continue;
		}
		*p = '\0';
		int r = sys_mkdirat(dir_fd, copy, mode);

		*p = '/';
		if (r < 0 && r != -EEXIST) {
			return r;
		}
	}
	int r = sys_mkdirat(dir_fd, copy, mode);

	return r == -EEXIST ? 0 : r;
}

enum { REMOVE_DEPTH_MAX = 4096 };

static int remove_below(int fd, dev_t dev, unsigned depth);

static int remove_entry(int dir_fd, const char *name, dev_t dev, unsigned depth)
{
	int r = sys_unlinkat(dir_fd, name, 0);

	if (r == 0 || r == -ENOENT) {
		return 0;
	}
	if (r != -EISDIR && r != -EPERM) {
		return r;
	}

	auto_close int fd = sys_openat(dir_fd, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW, 0);
	struct stat st;

	if (fd < 0) {
		return fd == -ENOTDIR ? r : fd;
	}
	r = sys_fstat(fd, &st);
	if (r < 0) {
		return r;
	}
	if (st.st_dev != dev) {
		return -EXDEV;
	}
	r = remove_below(fd, dev, depth + 1);
	return r < 0 ? r : sys_unlinkat(dir_fd, name, AT_REMOVEDIR);
}

static int remove_below(int fd, dev_t dev, unsigned depth)
{
	DIR *dir = NULL;
	const struct dirent *d;
	int r = depth < REMOVE_DEPTH_MAX ? sys_opendir(fd, ".", &dir) : -ELOOP;

	if (r < 0) {
		return r;
	}
	while (r == 0 && (d = readdir(dir))) {
		if (!str_eq(d->d_name, ".") && !str_eq(d->d_name, "..")) {
			r = remove_entry(fd, d->d_name, dev, depth);
		}
	}
	(void)closedir(dir); /* read only: nothing to lose */
	return r;
}

int sys_remove_tree(int dir_fd, const char *path)
{
	struct stat st;
	int r = sys_fstatat(dir_fd, path, &st, AT_SYMLINK_NOFOLLOW);

	if (r < 0) {
		return r == -ENOENT ? 0 : r;
	}
	return remove_entry(dir_fd, path, st.st_dev, 0);
}
