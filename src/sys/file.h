/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Files and folders. Paths are relative to a folder's descriptor; nothing here depends on
 * the working directory except by AT_FDCWD. Each function is the kernel call of its name
 * (see its manual page) with the conventions of sys/sys.h.
 */
#ifndef SYS_FILE_H
#define SYS_FILE_H

#include <dirent.h>
#include <fcntl.h>
#include <sys/stat.h>

#include "base/fd.h"
#include "sys/sys.h"

struct buf;
struct iovec;
struct open_how;
struct statfs;

int sys_openat(int dir_fd, const char *path, int flags, mode_t mode) must_check;
int sys_openat2(int dir_fd, const char *path, const struct open_how *how) must_check;
int sys_dup(int fd) must_check;

/* A folder, no link, to be read from its start; closedir() it. */
int sys_opendir(int dir_fd, const char *path, DIR **ret) must_check;
int sys_mkdirat(int dir_fd, const char *path, mode_t mode) must_check;
int sys_mknodat(int dir_fd, const char *path, mode_t mode, dev_t dev) must_check;
int sys_symlinkat(const char *target, int dir_fd, const char *path) must_check;
int sys_linkat(int old_fd, const char *old_path, int fd, const char *path, int flags) must_check;
int sys_unlinkat(int dir_fd, const char *path, int flags) must_check;
int sys_renameat2(int old_fd, const char *old_path, int fd, const char *path,
		  unsigned flags) must_check;
int sys_fchmod(int fd, mode_t mode) must_check;
int sys_fchmodat(int dir_fd, const char *path, mode_t mode) must_check;
int sys_fchownat(int dir_fd, const char *path, uid_t uid, gid_t gid, int flags) must_check;
int sys_utimensat(int dir_fd, const char *path, const struct timespec times[2],
		  int flags) must_check;
int sys_fstat(int fd, struct stat *ret) must_check;
int sys_fstatat(int dir_fd, const char *path, struct stat *ret, int flags) must_check;
int sys_fstatfs(int fd, struct statfs *ret) must_check;
int sys_ftruncate(int fd, int64_t len) must_check;
int sys_fallocate(int fd, int mode, int64_t off, int64_t len) must_check;
int sys_fsync(int fd) must_check;
int sys_fdatasync(int fd) must_check;
int sys_syncfs(int fd) must_check;
int sys_flock(int fd, int op) must_check;
int sys_fcntl(int fd, int cmd, long arg) must_check;
int sys_set_nonblock(int fd) must_check;              /* its other flags stay */
int sys_ioctl(int fd, unsigned long request, void *arg) must_check;
int sys_pipe2(int ret_fds[2], int flags) must_check;      /* O_CLOEXEC is added */
int sys_memfd_create(const char *name, unsigned flags) must_check; /* MFD_CLOEXEC is added */
int sys_close_range(unsigned first, unsigned last, unsigned flags) must_check;

/* Bytes moved, 0 at the end of the file; restarted after a signal. */
ssize_t sys_read(int fd, void *buf, size_t n) must_check;
ssize_t sys_write(int fd, const void *buf, size_t n) must_check;
ssize_t sys_pread(int fd, void *buf, size_t n, int64_t off) must_check;
ssize_t sys_pwrite(int fd, const void *buf, size_t n, int64_t off) must_check;
ssize_t sys_readv(int fd, const struct iovec *iov, unsigned n) must_check;
ssize_t sys_writev(int fd, const struct iovec *iov, unsigned n) must_check;
ssize_t sys_preadv2(int fd, const struct iovec *iov, unsigned n, int64_t off,
		    int flags) must_check;
ssize_t sys_pwritev2(int fd, const struct iovec *iov, unsigned n, int64_t off,
		     int flags) must_check;
ssize_t sys_readlinkat(int dir_fd, const char *path, char *buf, size_t n) must_check;

/* All n bytes; read_full returns fewer only at the end of the file. */
ssize_t sys_read_full(int fd, void *buf, size_t n) must_check;
int     sys_write_full(int fd, const void *buf, size_t n) must_check;

/* A whole file of at most `max` bytes appended to *ret; -EFBIG if it is larger. */
int sys_read_fd(int fd, size_t max, struct buf *ret) must_check;
int sys_read_file(int dir_fd, const char *path, size_t max, struct buf *ret) must_check;

/* Write into an existing file (as of proc, sys or a cgroup) in one write. */
int sys_write_file(int dir_fd, const char *path, const void *data, size_t n) must_check;

/*
 * Put a file in place whole: written beside it, synced, renamed over it, the folder
 * synced. After a crash the old content or the new is there, never a part.
 */
int sys_replace_file(int dir_fd, const char *path, const void *data, size_t n,
		     mode_t mode) must_check;

/* A folder that may exist already. */
int sys_mkdir_p(int dir_fd, const char *path, mode_t mode) must_check;

/* Remove a file or a folder with all below it, without leaving its file system or
 * following links; 0 if it does not exist. */
int sys_remove_tree(int dir_fd, const char *path) must_check;

#endif
