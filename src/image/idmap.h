/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Mounts through which a folder's owners look like a range of host ids: what is 0 on disk is
 * `base` there, and the other way round for what is made through the mount.
 */
#ifndef IMAGE_IDMAP_H
#define IMAGE_IDMAP_H

#include <sys/types.h>

#include "base/err.h"

struct idmap {
	uint32_t base;
	uint32_t count;   /* ids from 0 up; 0: no mapping */
};

/*
 * A user namespace with that one mapping for users and groups. No process is left in it.
 * Needs CAP_SETUID and CAP_SETGID over the range. Forks.
 */
int idmap_userns(const struct idmap *map, int *ret_fd, struct err *e) must_check;

/* Write the mapping of the user namespace that a child of the caller has made. -errno. */
int idmap_write(pid_t pid, const struct idmap *map) must_check;

/*
 * A detached copy of a folder's mount with the mapping of `userns_fd` (-1: none) and
 * MOUNT_ATTR_* flags, without what is mounted below it. -errno: -EINVAL, -EOPNOTSUPP where
 * the file system cannot be mapped.
 */
int idmap_clone(int dir_fd, int userns_fd, uint64_t attrs) must_check;

#endif
