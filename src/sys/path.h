/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Paths below a root that someone else controls: a container's root, a volume, a bundle, an
 * image store.
 *
 * The one library for it (threat model, rule 1). A path is resolved once, by the kernel, as
 * if the root were "/": absolute links and ".." stay inside whatever is renamed or replaced
 * meanwhile, and magic links (/proc/self/fd/3) are refused. What comes out is a descriptor,
 * and everything after works on it, never again on the string:
 *
 *	auto_close int dir_fd = path_mkdir_p(root_fd, "/etc/ssl", 0755);
 *	auto_close int fd = path_create(dir_fd, "certs.pem", O_WRONLY, 0644);
 *
 * Kernels without openat2() (or filters that refuse it) get a walk by components with the
 * same promises. All functions return -errno: -ELOOP for a magic link or too many links,
 * -EXDEV for a mount that PATH_NO_XDEV forbids to cross.
 *
 * `path` may begin with any number of slashes; "" and "/" are the root itself.
 */
#ifndef SYS_PATH_H
#define SYS_PATH_H

#include <fcntl.h>
#include <sys/types.h>

#include "sys/sys.h"

enum {
	PATH_NOFOLLOW    = 1, /* a link at the end is what is meant */
	PATH_DIRECTORY   = 2, /* -ENOTDIR for anything else */
	PATH_NO_SYMLINKS = 4, /* -ELOOP for any link on the way */
	PATH_NO_XDEV     = 8, /* stay on the mount of the root */
};

/* An O_PATH descriptor of what is there. */
int path_open(int root_fd, const char *path, unsigned flags) must_check;

/* Open for use: O_RDONLY, O_DIRECTORY ...; never O_CREAT. Does not block on a FIFO if
 * O_NONBLOCK is given, nor become a controlling terminal. */
int path_openat(int root_fd, const char *path, int open_flags, unsigned flags) must_check;

/*
 * Make a folder and those that lead to it, following links inside the root, also those that
 * lead nowhere yet. What exists stays as it is. Returns an O_PATH descriptor of the folder.
 * The mode is subject to the umask.
 */
int path_mkdir_p(int root_fd, const char *path, mode_t mode) must_check;

/* The same for an empty regular file in such a folder; anything that is no folder will do
 * if it exists. -EISDIR for a folder. */
int path_touch_p(int root_fd, const char *path, mode_t mode) must_check;

/*
 * The folder that a path's last component is in, made if need be, and that component, which
 * is copied to `name` (NAME_MAX + 1 bytes). -EINVAL if the path ends in "..", or is the root.
 */
int path_parent_p(int root_fd, const char *path, mode_t mode, char *name) must_check;

/*
 * Make one thing in a folder. `name` is a single component; -EEXIST if there is anything,
 * a link too. path_create() returns a descriptor opened with `open_flags`.
 */
int path_create(int dir_fd, const char *name, int open_flags, mode_t mode) must_check;
int path_mkdir(int dir_fd, const char *name, mode_t mode) must_check;
int path_mknod(int dir_fd, const char *name, mode_t mode, dev_t dev) must_check;
int path_symlink(int dir_fd, const char *name, const char *target) must_check;

/* One component: not empty, no slash, not "." or "..", at most NAME_MAX bytes. */
bool path_name_valid(const char *name);

/* The path without "." and doubled slashes, with ".." taken out by text, beginning with one
 * slash: for comparing, messages and the names of control groups; never for opening below a
 * root that others can change. NULL when memory is out. */
char *path_clean(const char *path) must_check;

#endif
