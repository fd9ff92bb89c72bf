/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Id mappings of a user namespace.
 */
#ifndef CONTAINER_USERNS_H
#define CONTAINER_USERNS_H

#include <sys/types.h>

#include "oci/spec.h"

/*
 * Write the mappings of a process that has just made its user namespace. With the right
 * capabilities the kernel takes them from us; else, a mapping of the caller's own id alone
 * is written directly, and any other by newuidmap(1) and newgidmap(1), which know what
 * /etc/subuid and /etc/subgid allow.
 *
 * @ret_setgroups  false if setgroups had to be denied
 */
int userns_write_maps(pid_t pid, const struct oci_linux *l, bool *ret_setgroups, struct err *e) must_check;

/* What a container id is on the host; -ERANGE if it is not mapped. No mappings: itself. */
int userns_to_host(const struct jvec *maps, uint64_t id, uint64_t *ret) must_check;

#endif
