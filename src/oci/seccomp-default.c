/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The default seccomp profile, as data.
 *
 * Lists name what programs use, by topic, for 64-bit, x32 and 32-bit x86 together; a name
 * that an ABI does not have means nothing there. What no list names gets EPERM, and what is
 * newer than all of it ENOSYS (container/seccomp.h).
 */
#include "oci/default.h"

#include <errno.h>
#include <string.h>

static const char *const allowed[] = {
	/* files */
	"access", "chdir", "chmod", "chown", "chown32", "close", "close_range", "creat", "faccessat",
	"faccessat2", "fchdir", "fchmod", "fchmodat", "fchmodat2", "fchown", "fchown32", "fchownat",
	"fcntl", "fcntl64", "flock", "fstat", "fstat64", "fstatat64", "fstatfs", "fstatfs64",
	"futimesat", "getcwd", "getdents", "getdents64", "lchown", "lchown32", "link", "linkat",
	"lstat", "lstat64", "mkdir", "mkdirat", "mknod", "mknodat", "name_to_handle_at", "newfstatat",
	"open", "openat", "openat2", "readdir", "readlink", "readlinkat", "rename", "renameat",
	"renameat2", "rmdir", "stat", "stat64", "statfs", "statfs64", "statx", "symlink",
	"symlinkat", "truncate", "truncate64", "umask", "unlink", "unlinkat", "utime", "utimensat",
	"utimensat_time64", "utimes",
	/* extended attributes */
	"fgetxattr", "flistxattr", "fremovexattr", "fsetxattr", "getxattr", "getxattrat", "lgetxattr",
	"listxattr", "listxattrat", "llistxattr", "lremovexattr", "lsetxattr", "removexattr",
	"removexattrat", "setxattr", "setxattrat",
	/* reading and writing */
	"_llseek", "cachestat", "copy_file_range", "dup", "dup2", "dup3", "fadvise64", "fadvise64_64",
	"fallocate", "fdatasync", "fsync", "ftruncate", "ftruncate64", "ioctl", "lseek", "pipe",
	"pipe2", "pread64", "preadv", "preadv2", "pwrite64", "pwritev", "pwritev2", "read",
	"readahead", "readv", "sendfile", "sendfile64", "splice", "sync", "sync_file_range",
	"syncfs", "tee", "write", "writev",
	/* waiting for files */
	"_newselect", "epoll_create", "epoll_create1", "epoll_ctl", "epoll_ctl_old", "epoll_pwait",
	"epoll_pwait2", "epoll_wait", "epoll_wait_old", "eventfd", "eventfd2", "fanotify_mark",
	"inotify_add_watch", "inotify_init", "inotify_init1", "inotify_rm_watch", "io_cancel",
	"io_destroy", "io_getevents", "io_pgetevents", "io_pgetevents_time64", "io_setup",
	"io_submit", "poll", "ppoll", "ppoll_time64", "pselect6", "pselect6_time64", "select",
	/* memory */
	"brk", "madvise", "map_shadow_stack", "membarrier", "memfd_create", "memfd_secret", "mincore",
	"mlock", "mlock2", "mlockall", "mmap", "mmap2", "mprotect", "mremap", "mseal", "msync",
	"munlock", "munlockall", "munmap", "pkey_alloc", "pkey_free", "pkey_mprotect",
	"process_mrelease", "remap_file_pages",
	/* processes and threads */
	"arch_prctl", "capget", "capset", "execve", "execveat", "exit", "exit_group", "fork",
	"futex", "futex_requeue", "futex_time64", "futex_wait", "futex_waitv", "futex_wake",
	"get_robust_list", "get_thread_area", "getcpu", "getpgid", "getpgrp", "getpid", "getppid",
	"getpriority", "getrlimit", "getrusage", "getsid", "gettid", "ioprio_get", "ioprio_set",
	"landlock_add_rule", "landlock_create_ruleset", "landlock_restrict_self", "modify_ldt",
	"pidfd_open", "pidfd_send_signal", "prctl", "prlimit64", "process_vm_readv",
	"process_vm_writev", "ptrace", "restart_syscall", "rseq", "rseq_slice_yield",
	"sched_get_priority_max", "sched_get_priority_min", "sched_getaffinity", "sched_getattr",
	"sched_getparam", "sched_getscheduler", "sched_rr_get_interval",
	"sched_rr_get_interval_time64", "sched_setaffinity", "sched_setattr", "sched_setparam",
	"sched_setscheduler", "sched_yield", "seccomp", "set_robust_list", "set_thread_area",
	"set_tid_address", "setpgid", "setpriority", "setrlimit", "setsid", "sysinfo", "times",
	"ugetrlimit", "uname", "uretprobe", "vfork", "wait4", "waitid", "waitpid",
	/* users and groups */
	"getegid", "getegid32", "geteuid", "geteuid32", "getgid", "getgid32", "getgroups",
	"getgroups32", "getresgid", "getresgid32", "getresuid", "getresuid32", "getuid", "getuid32",
	"setfsgid", "setfsgid32", "setfsuid", "setfsuid32", "setgid", "setgid32", "setgroups",
	"setgroups32", "setregid", "setregid32", "setresgid", "setresgid32", "setresuid",
	"setresuid32", "setreuid", "setreuid32", "setuid", "setuid32",
	/* signals */
	"alarm", "kill", "pause", "rt_sigaction", "rt_sigpending", "rt_sigprocmask",
	"rt_sigqueueinfo", "rt_sigreturn", "rt_sigsuspend", "rt_sigtimedwait",
	"rt_sigtimedwait_time64", "rt_tgsigqueueinfo", "sigaction", "sigaltstack", "signal",
	"signalfd", "signalfd4", "sigpending", "sigprocmask", "sigreturn", "sigsuspend", "tgkill",
	"tkill",
	/* time */
	"adjtimex", "clock_adjtime", "clock_adjtime64", "clock_getres", "clock_getres_time64",
	"clock_gettime", "clock_gettime64", "clock_nanosleep", "clock_nanosleep_time64", "getitimer",
	"gettimeofday", "nanosleep", "setitimer", "time", "timer_create", "timer_delete",
	"timer_getoverrun", "timer_gettime", "timer_gettime64", "timer_settime", "timer_settime64",
	"timerfd", "timerfd_create", "timerfd_gettime", "timerfd_gettime64", "timerfd_settime",
	"timerfd_settime64",
	/* sockets: socket itself is below, socketcall nowhere */
	"accept", "accept4", "bind", "connect", "getpeername", "getsockname", "getsockopt", "listen",
	"recv", "recvfrom", "recvmmsg", "recvmmsg_time64", "recvmsg", "send", "sendmmsg", "sendmsg",
	"sendto", "setsockopt", "shutdown", "socketpair",
	/* System V and POSIX messages, semaphores, shared memory */
	"ipc", "mq_getsetattr", "mq_notify", "mq_open", "mq_timedreceive", "mq_timedreceive_time64",
	"mq_timedsend", "mq_timedsend_time64", "mq_unlink", "msgctl", "msgget", "msgrcv", "msgsnd",
	"semctl", "semget", "semop", "semtimedop", "semtimedop_time64", "shmat", "shmctl", "shmdt",
	"shmget",
	/* other */
	"getrandom", "lsm_get_self_attr", "lsm_list_modules", NULL,
};

#define NAMES(...) (const char *const[]){ __VA_ARGS__, NULL }

/* What is allowed with one capability. */
static const struct {
	const char        *cap;
	const char *const *names;
} with_cap[] = {
	{ "CAP_SYS_ADMIN", NAMES("bpf", "clone", "clone3", "fanotify_init", "fsconfig", "fsmount",
		"fsopen", "fspick", "listmount", "lookup_dcookie", "lsm_set_self_attr", "mount",
		"mount_setattr", "move_mount", "open_tree", "open_tree_attr", "perf_event_open",
		"pivot_root", "quotactl", "quotactl_fd", "setdomainname", "sethostname", "setns",
		"statmount", "swapoff", "swapon", "syslog", "umount", "umount2", "unshare") },
	{ "CAP_BPF",             NAMES("bpf") },
	{ "CAP_DAC_READ_SEARCH", NAMES("open_by_handle_at") },
	{ "CAP_PERFMON",         NAMES("perf_event_open") },
	{ "CAP_SYS_BOOT",        NAMES("reboot") },
	{ "CAP_SYS_CHROOT",      NAMES("chroot") },
	{ "CAP_SYS_MODULE",      NAMES("delete_module", "finit_module", "init_module") },
	{ "CAP_SYS_NICE",        NAMES("get_mempolicy", "mbind", "migrate_pages", "move_pages",
		"set_mempolicy", "set_mempolicy_home_node") },
	{ "CAP_SYS_PACCT",       NAMES("acct") },
	{ "CAP_SYS_PTRACE",      NAMES("kcmp", "pidfd_getfd", "process_madvise") },
	{ "CAP_SYS_RAWIO",       NAMES("ioperm", "iopl") },
	{ "CAP_SYS_TIME",        NAMES("clock_settime", "clock_settime64", "settimeofday", "stime") },
	{ "CAP_SYS_TTY_CONFIG",  NAMES("vhangup") },
	{ "CAP_SYSLOG",          NAMES("syslog") },
};

enum {
	CLONE_NEW_ANY = 0x7e020000,     /* the flags of clone(2) that make namespaces */
	FAMILY_ALG = 38,
};

static int add_rule(struct jvec *v, struct arena *a, const char *const *names,
		    const char *action, const struct oci_seccomp_arg *arg, int errno_ret)
{
	struct oci_seccomp_rule rule = { .action = action, .has_errno_ret = errno_ret > 0,
					 .errno_ret = (uint64_t)errno_ret };
	size_t n = 0;

	while (names[n]) {
		n++;
	}
	rule.names.v = arena_alloc(a, n + 1, sizeof(*rule.names.v));
	if (!rule.names.v) {
		return -ENOMEM;
	}
	memcpy(rule.names.v, names, n * sizeof(*names));
	rule.names.n = n;
	if (arg && oci_vec_add(&rule.args, a, arg, sizeof(*arg)) < 0) {
		return -ENOMEM;
	}
	return oci_vec_add(v, a, &rule, sizeof(rule));
}

static int allow_if(struct jvec *v, struct arena *a, const char *name, const char *op,
		    uint64_t value, uint64_t value_two)
{
	struct oci_seccomp_arg arg = { .index = 0, .op = op, .value = value, .value_two = value_two };

	return add_rule(v, a, NAMES(name), "SCMP_ACT_ALLOW", &arg, 0);
}

/*
 * AF_ALG (38; CVE-2026-31431) and AF_VSOCK (40; it reaches the host beside any network
 * namespace) are left out. Each family behind them is named, as all 64 bits are compared and
 * the kernel looks at 32: "above 40" would let 2^32 + 38 in.
 */
static int allow_sockets(struct jvec *v, struct arena *a)
{
	static const uint64_t families[] = { 39, 41, 42, 43, 44, 45 };
	int r = allow_if(v, a, "socket", "SCMP_CMP_LT", FAMILY_ALG, 0);

	for (size_t i = 0; i < ARRAY_LEN(families) && r == 0; i++) {
		r = allow_if(v, a, "socket", "SCMP_CMP_EQ", families[i], 0);
	}
	return r;
}

/* Linux, 32-bit, with the old kernel's release name, both, and asking. */
static int allow_personalities(struct jvec *v, struct arena *a)
{
	static const uint64_t personas[] = { 0, 8, 0x20000, 0x20008, 0xffffffff };
	int r = 0;

	for (size_t i = 0; i < ARRAY_LEN(personas) && r == 0; i++) {
		r = allow_if(v, a, "personality", "SCMP_CMP_EQ", personas[i], 0);
	}
	return r;
}

static bool has_cap(const struct jstrv *caps, const char *name)
{
	for (size_t i = 0; i < caps->n; i++) {
		if (str_eq(caps->v[i], name)) {
			return true;
		}
	}
	return false;
}

static int add_rules(const struct jstrv *bounding, struct arena *a, struct jvec *v)
{
	int r = add_rule(v, a, allowed, "SCMP_ACT_ALLOW", NULL, 0);

	r = r < 0 ? r : allow_sockets(v, a);
	r = r < 0 ? r : allow_personalities(v, a);
	for (size_t i = 0; i < ARRAY_LEN(with_cap) && r == 0; i++) {
		if (has_cap(bounding, with_cap[i].cap)) {
			r = add_rule(v, a, with_cap[i].names, "SCMP_ACT_ALLOW", NULL, 0);
		}
	}
	if (r == 0 && !has_cap(bounding, "CAP_SYS_ADMIN")) {
		/* clone3 hides its flags in memory: the C library falls back to clone. */
		r = add_rule(v, a, NAMES("clone3"), "SCMP_ACT_ERRNO", NULL, ENOSYS);
		r = r < 0 ? r : allow_if(v, a, "clone", "SCMP_CMP_MASKED_EQ", CLONE_NEW_ANY, 0);
	}
	return r;
}

int oci_default_seccomp(const struct jstrv *bounding, struct arena *a, struct oci_seccomp **ret,
			struct err *e)
{
	static const char *const archs[] = { "SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_X32" };
	struct oci_seccomp *s = arena_new(a, struct oci_seccomp);
	int r = s ? 0 : -ENOMEM;

	for (size_t i = 0; i < ARRAY_LEN(archs) && r == 0; i++) {
		r = oci_strv_add(&s->architectures, a, archs[i]);
	}
	r = r < 0 ? r : add_rules(bounding, a, &s->syscalls);
	if (r < 0) {
		return err_nomem(e);
	}
	s->default_action = "SCMP_ACT_ERRNO";
	s->has_default_errno_ret = true;
	s->default_errno_ret = EPERM;
	*ret = s;
	return 0;
}
