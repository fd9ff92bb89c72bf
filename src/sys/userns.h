/* SPDX-License-Identifier: Apache-2.0 */
/*
 * User namespaces that exist for their id mapping alone: what idmapped mounts are made with.
 * A map is text as in user_namespaces(7): "INSIDE OUTSIDE COUNT\n" lines.
 */
#ifndef SYS_USERNS_H
#define SYS_USERNS_H

#include <sys/types.h>

#include "base/def.h"

/* Write both maps of a process that was just made in a new user namespace. */
int sys_userns_write(pid_t pid, const char *uid_map, const char *gid_map) must_check;

/*
 * A new user namespace with these maps, as a descriptor that keeps it. No process stays.
 * Returns 0 or -errno (-EPERM: the caller may not map these ids).
 */
int sys_userns_mapped(const char *uid_map, const char *gid_map, int *ret_fd) must_check;

/* Kill and reap a child of ours that is still there, whatever faults are armed. */
void sys_userns_reap(pid_t pid);

#endif
