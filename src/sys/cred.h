/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Capabilities, scheduling and system call filters of a process (identities and limits are in
 * sys/proc.h). Each is the kernel call of its name (see its manual page)
 * with the conventions of sys/sys.h.
 *
 * They act on the calling thread alone: call them in a process with one thread.
 */
#ifndef SYS_CRED_H
#define SYS_CRED_H

#include "sys/sys.h"

struct sock_filter;

/* Capability sets as bit masks, bit N is capability N. */
struct sys_caps {
	uint64_t effective, permitted, inheritable;
};

int sys_capget(struct sys_caps *ret) must_check;
int sys_capset(const struct sys_caps *c) must_check;

/* As struct sched_attr of the kernel; members that a policy does not use are 0. */
struct sys_sched_attr {
	uint32_t policy;
	uint64_t flags;
	int32_t  nice;
	uint32_t priority;
	uint64_t runtime_ns, deadline_ns, period_ns;
};
int sys_sched_setattr(pid_t pid, const struct sys_sched_attr *attr) must_check;
int sys_sched_setaffinity(pid_t pid, size_t bytes, const void *mask) must_check;
int sys_ioprio_set(int which, int who, int ioprio) must_check;

/* SECCOMP_SET_MODE_FILTER: 0, or the listener with SECCOMP_FILTER_FLAG_NEW_LISTENER. */
int sys_seccomp_filter(unsigned flags, const struct sock_filter *insns, uint16_t n) must_check;

#endif
