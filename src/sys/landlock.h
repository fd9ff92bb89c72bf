/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Landlock: a process gives up access to files and TCP ports. Conventions of sys/sys.h.
 *
 *	int rules = sys_landlock_create(access, 0);
 *	r = sys_landlock_allow(rules, dir_fd, LANDLOCK_ACCESS_FS_READ_FILE);
 *	r = sys_landlock_enforce(rules);      // of the calling thread; no_new_privs is set
 */
#ifndef SYS_LANDLOCK_H
#define SYS_LANDLOCK_H

#include <linux/landlock.h>

#include "sys/sys.h"

/* The kernel's ABI (1 and up), or -EOPNOTSUPP, -ENOSYS where it has none. */
int sys_landlock_abi(void) must_check;

/* Every right to files that an ABI knows. */
uint64_t sys_landlock_fs_all(int abi);

/* A rule set that takes away `fs_access` all over. Returns its descriptor. */
int sys_landlock_create(uint64_t fs_access) must_check;

/* Except at and below `fd`. */
int sys_landlock_allow(int rules_fd, int fd, uint64_t access) must_check;

int sys_landlock_enforce(int rules_fd) must_check;

#endif
