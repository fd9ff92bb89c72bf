/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the monitor keeps. A call stands here because something named beside it makes it.
 */
#include <linux/if_tun.h>
#include <linux/kvm.h>
#include <sched.h>
#include <sys/resource.h>
#include <sys/syscall.h>

#include "vm/jail.h"

/* Memory of the C library, locks, time, signals, the end. */
#define CALLS_BASE \
	SYS_brk, SYS_mmap, SYS_munmap, SYS_mremap, SYS_mprotect, SYS_madvise, SYS_futex, \
	SYS_clock_gettime, SYS_clock_nanosleep, SYS_nanosleep, SYS_gettimeofday, \
	SYS_rt_sigreturn, SYS_rt_sigprocmask, SYS_rt_sigaction, SYS_sigaltstack, SYS_tgkill, \
	SYS_getpid, SYS_gettid, SYS_restart_syscall, SYS_sched_yield, SYS_getrandom, \
	SYS_exit, SYS_exit_group, SYS_rseq, SYS_set_robust_list, SYS_write, SYS_read

static const int loop_calls[] = {
	CALLS_BASE,
	/* the event loop, its timers and signals */
	SYS_epoll_wait, SYS_epoll_pwait, SYS_epoll_pwait2, SYS_epoll_ctl, SYS_poll, SYS_ppoll,
	SYS_timerfd_settime, SYS_signalfd4, SYS_eventfd2, SYS_close,
	/* disks: files that are open, and a ring that is restricted to them */
	SYS_pread64, SYS_pwrite64, SYS_preadv, SYS_pwritev, SYS_preadv2, SYS_pwritev2,
	SYS_readv, SYS_writev, SYS_fsync, SYS_fdatasync, SYS_fallocate, SYS_io_uring_enter,
	SYS_lseek, SYS_fstat, SYS_newfstatat, SYS_ftruncate,
	/* snapshots: which memory was touched, and is there swap */
	SYS_mincore, SYS_sysinfo,
	/* sockets that are open: control, vsock, network */
	SYS_accept4, SYS_recvmsg, SYS_sendmsg, SYS_recvfrom, SYS_sendto, SYS_shutdown,
	SYS_getsockopt, SYS_fcntl, SYS_dup,
	/* the console's, on request */
	SYS_socketpair,
	/* the tap's offloads, and KVM's device part; see jail_ioctls */
	SYS_ioctl,
	/* the software engine orders memory across vCPUs */
	SYS_membarrier,
	/* the clocks of vCPUs that end */
	SYS_timer_delete,
};

static const int vcpu_calls[] = {
	CALLS_BASE,
	/* KVM_RUN and the registers; see jail_ioctls */
	SYS_ioctl, SYS_membarrier, SYS_ppoll,
	/* the clock of translated code */
	SYS_timer_create, SYS_timer_settime,
	/* disks: a read of what the host has in memory, where the guest asks for it */
	SYS_preadv2,
};

static const int worker_calls[] = {
	CALLS_BASE,
	SYS_pread64, SYS_pwrite64, SYS_preadv, SYS_pwritev, SYS_preadv2, SYS_pwritev2,
	SYS_readv, SYS_writev, SYS_fsync, SYS_fdatasync, SYS_fallocate,
};

static const int helper_calls[] = {
	CALLS_BASE,
	SYS_pwrite64, SYS_fallocate,
	/* which memory was touched */
	SYS_mincore, SYS_lseek,
};

const struct jail_calls jail_calls[JAIL_THREAD__COUNT] = {
	[JAIL_LOOP] = { "loop", loop_calls, ARRAY_LEN(loop_calls) },
	[JAIL_VCPU] = { "vcpu", vcpu_calls, ARRAY_LEN(vcpu_calls) },
	[JAIL_WORKER] = { "worker", worker_calls, ARRAY_LEN(worker_calls) },
	[JAIL_HELPER] = { "helper", helper_calls, ARRAY_LEN(helper_calls) },
};

/*
 * Of a terminal, which has the type of the tap's requests, none: what a thread that a guest has
 * taken over types there (TIOCSTI), whoever started the monitor runs.
 */
const struct jail_ioctl jail_ioctls[] = {
	{ JAIL_LOOP, TUNSETOFFLOAD, UINT32_MAX },
	{ JAIL_LOOP, KVMIO << 8, JAIL_IOCTL_TYPE },
	{ JAIL_VCPU, KVMIO << 8, JAIL_IOCTL_TYPE },
};

const size_t jail_ioctls_len = ARRAY_LEN(jail_ioctls);

const struct jail_limit jail_limits[] = {
	{ RLIMIT_CORE, 0, "Max core file size" },      /* guest memory stays where it is */
	{ RLIMIT_NOFILE, 1024, "Max open files" },
	/* of its user namespace: vCPUs, threads of disks, those of the kernel's rings */
	{ RLIMIT_NPROC, 512, "Max processes" },
	/* beside these, jail_files(): Max file size */
};

const size_t jail_limits_len = ARRAY_LEN(jail_limits);

const struct jail_namespace jail_namespaces[] = {
	{ "user", CLONE_NEWUSER }, { "pid", CLONE_NEWPID }, { "net", CLONE_NEWNET },
	{ "mnt", CLONE_NEWNS },    { "ipc", CLONE_NEWIPC }, { "uts", CLONE_NEWUTS },
};

const size_t jail_namespaces_len = ARRAY_LEN(jail_namespaces);
