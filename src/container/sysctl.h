/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Kernel parameters of a container.
 *
 * Only keys whose value belongs to a namespace that the container has for itself are
 * written; a table says which (rule 14 of the threat model, CVE-2022-0811). A value is
 * opaque bytes: it goes in one write into one file and is never split.
 *
 * Keys may be written with dots or slashes: "net.ipv4.ip_forward", "net/ipv4/ip_forward",
 * and as sysctl(8) has it, the first separator decides what the others mean
 * ("net/ipv4/conf/eth0.1/forwarding", "net.ipv4.conf.eth0/1.forwarding").
 */
#ifndef CONTAINER_SYSCTL_H
#define CONTAINER_SYSCTL_H

#include "base/err.h"
#include "oci/spec.h"

/*
 * Check linux.sysctl against the namespaces of the config, before anything is made.
 * Refuses with the field, the key and the namespace it would need.
 */
int sysctl_check(const struct oci_linux *l, struct err *e) must_check;

/*
 * Write them, from inside the container's namespaces.
 *
 * @proc_fd  root of a procfs that is known to be one (sys/procfs.h)
 */
int sysctl_apply(int proc_fd, const struct jmap *sysctl, struct err *e) must_check;

/* The namespace that a key belongs to, or -EINVAL (no such), -EPERM (not namespaced). */
int sysctl_namespace(const char *key) must_check;

#endif
