/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Attributes of a container's process. All functions check their part of the config too;
 * attrs_check() does it for all of them at once, before anything is made.
 *
 * The order in the life of a container's first process (and of `exec`):
 *
 *	parent   attrs_check()
 *	parent   attrs_set_affinity(pid, initial)     before it joins its cgroup (exec only)
 *	parent   attrs_set_affinity(pid, final)       after it
 *	parent   attrs_set_rlimits(pid), attrs_set_oom_score_adj(pid)
 *	             while it still is in the parent's user namespace or not: the parent's
 *	             capabilities count
 *	init     attrs_join_keyring()                 before the labels
 *	init     ... mounts, sysctls ...
 *	init     attrs_set_personality(), attrs_set_scheduler(), attrs_set_io_priority()
 *	init     attrs_set_labels()                   procfs is needed; takes effect at execve
 *	init     attrs_set_no_new_privs()             if the config has it
 *	init     seccomp_install()                    here if it has NOT no_new_privs
 *	init     attrs_become()                       groups, gid, uid, capabilities, umask
 *	init     seccomp_install()                    here if it has no_new_privs
 *	init     execve
 */
#ifndef CONTAINER_ATTRS_H
#define CONTAINER_ATTRS_H

#include "container/caps.h"
#include "oci/spec.h"

/* Everything below that can be wrong with a process object, by field. */
int attrs_check(const struct oci_process *p, struct err *e) must_check;

/*
 * Set the limits of another process (or 0: this one). A limit that this host does not let
 * us raise is an error that names the limit, what was asked and what is possible.
 */
int attrs_set_rlimits(pid_t pid, const struct jvec *rlimits, struct err *e) must_check;

/*
 * @proc_fd   root of a procfs that shows `pid` (0: self)
 * @rootless  a value that may not be lowered is left alone with a warning, not an error
 */
int attrs_set_oom_score_adj(int proc_fd, pid_t pid, int64_t value, bool rootless,
			    struct err *e) must_check;

/* CPUs as "0-3,7". */
int attrs_set_affinity(pid_t pid, const char *cpus, struct err *e) must_check;

int attrs_set_personality(const struct oci_personality *p, struct err *e) must_check;
int attrs_set_scheduler(const struct oci_scheduler *s, struct err *e) must_check;
int attrs_set_io_priority(const struct oci_io_priority *p, struct err *e) must_check;

/* A session keyring of the container's own, so that it cannot reach its caller's keys.
 * Kernels without keyrings are fine. */
int attrs_join_keyring(const char *container_id, struct err *e) must_check;

/*
 * AppArmor profile and SELinux label that the next execve takes on. Either may be NULL or "".
 * Asking for one on a kernel that does not have it is an error.
 */
int attrs_set_labels(int proc_fd, const char *apparmor, const char *selinux,
		     struct err *e) must_check;

int attrs_set_no_new_privs(struct err *e) must_check;

/*
 * Become the config's user: bounding set, supplementary groups (the primary among them),
 * gid, uid, capabilities, umask (0022 if the config has none). Reads back what it has
 * become and fails if that is not what was asked. Undumpable until execve.
 *
 * @may_setgroups  false where /proc/PID/setgroups says "deny" (rootless without a helper):
 *                 then additional groups are refused
 */
int attrs_become(const struct oci_user *u, const struct caps *c, bool may_setgroups,
		 struct err *e) must_check;

#endif
