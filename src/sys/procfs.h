/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A procfs that can be trusted.
 *
 * /proc inside a container is as hostile as any other path there: it can be a tmpfs, or have
 * files mounted over its files, so that what is written "to the security label" ends
 * elsewhere. procfs_open() gives the root of a procfs of our own that nothing can be mounted
 * on, and the functions below neither leave it nor follow its magic links:
 *
 *	auto_close int proc_fd = procfs_open(0);
 *	...
 *	r = procfs_write(proc_fd, "self/attr/exec", label, strlen(label));
 *
 * It shows the pid namespace of whoever opened it: open it after that has changed. All
 * functions return -errno.
 */
#ifndef SYS_PROCFS_H
#define SYS_PROCFS_H

#include "sys/sys.h"

struct buf;

enum {
	PROCFS_PID_ONLY = 1, /* only the folders of processes: no sys/, no sysrq-trigger ... */
};

/* The inode of the root of every procfs. */
enum { PROCFS_ROOT_INODE = 1 };

/*
 * A detached procfs, or where this process may not mount one, a detached copy of /proc, or
 * /proc itself; each is checked to be the root of a procfs. O_PATH, close-on-exec.
 */
int procfs_open(unsigned flags) must_check;

/* -EXDEV if `fd` is not of a procfs. */
int procfs_verify(int fd) must_check;

/*
 * Open a file. `path` is relative ("self/status"). Symbolic links of procfs (self) are
 * followed, magic ones are not (-ELOOP), nor is a mount that covers something (-EXDEV).
 */
int procfs_openat(int proc_fd, const char *path, int flags) must_check;

/* One write of all n bytes. */
int procfs_write(int proc_fd, const char *path, const void *data, size_t n) must_check;

/* A whole file of at most `max` bytes appended to *ret. */
int procfs_read(int proc_fd, const char *path, size_t max, struct buf *ret) must_check;

/* Open anew, with other flags, what a descriptor of this process (O_PATH for example) is. */
int procfs_reopen(int proc_fd, int fd, int flags) must_check;

#endif
