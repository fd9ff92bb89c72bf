/* SPDX-License-Identifier: Apache-2.0 */
#include "sys/cred.h"

#include <errno.h>
#include <linux/capability.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sys/syscall.h>
#include <unistd.h>

int sys_capget(struct sys_caps *ret)
{
	struct __user_cap_header_struct h = { .version = _LINUX_CAPABILITY_VERSION_3, .pid = 0 };
	struct __user_cap_data_struct d[2] = { { 0 } };
	int r = sys__ret((int)syscall(SYS_capget, &h, d));

	if (r < 0) {
		return r;
	}
	ret->effective = (uint64_t)d[1].effective << 32 | d[0].effective;
	ret->permitted = (uint64_t)d[1].permitted << 32 | d[0].permitted;
	ret->inheritable = (uint64_t)d[1].inheritable << 32 | d[0].inheritable;
	return 0;
}

int sys_capset(const struct sys_caps *c)
{
	struct __user_cap_header_struct h = { .version = _LINUX_CAPABILITY_VERSION_3, .pid = 0 };
	struct __user_cap_data_struct d[2] = {
		{ (uint32_t)c->effective, (uint32_t)c->permitted, (uint32_t)c->inheritable },
		{ (uint32_t)(c->effective >> 32), (uint32_t)(c->permitted >> 32),
		  (uint32_t)(c->inheritable >> 32) },
	};
	int r = sys__fault(SYS_CALL_capset);

	return r ? r : sys__ret((int)syscall(SYS_capset, &h, d));
}

int sys_sched_setattr(pid_t pid, const struct sys_sched_attr *attr)
{
	struct {
		uint32_t size;
		uint32_t policy;
		uint64_t flags;
		int32_t  nice;
		uint32_t priority;
		uint64_t runtime, deadline, period;
	} a = {
		.size = sizeof(a), .policy = attr->policy, .flags = attr->flags,
		.nice = attr->nice, .priority = attr->priority, .runtime = attr->runtime_ns,
		.deadline = attr->deadline_ns, .period = attr->period_ns,
	};
	int r = sys__fault(SYS_CALL_sched_setattr);

	return r ? r : sys__ret((int)syscall(SYS_sched_setattr, pid, &a, 0));
}

int sys_sched_setaffinity(pid_t pid, size_t bytes, const void *mask)
{
	int r = sys__fault(SYS_CALL_sched_setaffinity);

	return r ? r : sys__ret((int)syscall(SYS_sched_setaffinity, pid, bytes, mask));
}

int sys_ioprio_set(int which, int who, int ioprio)
{
	int r = sys__fault(SYS_CALL_ioprio_set);

	return r ? r : sys__ret((int)syscall(SYS_ioprio_set, which, who, ioprio));
}

int sys_seccomp_filter(unsigned flags, const struct sock_filter *insns, uint16_t n)
{
	struct sock_fprog prog = { .len = n, .filter = (struct sock_filter *)(uintptr_t)insns };
	int r = sys__fault(SYS_CALL_seccomp);

	return r ? r : sys__ret((int)syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, flags, &prog));
}
