/* SPDX-License-Identifier: Apache-2.0 */
#include "image/confine.h"

#include <errno.h>
#include <linux/capability.h>
#include <sched.h>
#include <seccomp.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/resource.h>

#include "sys/cred.h"
#include "sys/file.h"
#include "sys/landlock.h"
#include "sys/proc.h"

/* A sanitizer maps the whole address space, and makes calls that are not in the lists. */
#ifdef __SANITIZE_ADDRESS__
static const bool sanitized = true;
#elif defined(__has_feature)
static const bool sanitized = __has_feature(address_sanitizer);
#else
static const bool sanitized = false;
#endif

/* What memory, time, and descriptors that are open already need. */
static const int base_calls[] = {
	SCMP_SYS(read), SCMP_SYS(write), SCMP_SYS(readv), SCMP_SYS(writev), SCMP_SYS(pread64),
	SCMP_SYS(close), SCMP_SYS(lseek), SCMP_SYS(fstat), SCMP_SYS(newfstatat), SCMP_SYS(fcntl),
	SCMP_SYS(sendmsg), SCMP_SYS(recvmsg), SCMP_SYS(sendto), SCMP_SYS(recvfrom),
	SCMP_SYS(poll), SCMP_SYS(ppoll), SCMP_SYS(mmap), SCMP_SYS(munmap), SCMP_SYS(mremap),
	SCMP_SYS(mprotect), SCMP_SYS(madvise), SCMP_SYS(brk), SCMP_SYS(futex),
	SCMP_SYS(clock_gettime), SCMP_SYS(clock_nanosleep), SCMP_SYS(nanosleep),
	SCMP_SYS(gettimeofday), SCMP_SYS(time), SCMP_SYS(getrandom), SCMP_SYS(getpid),
	SCMP_SYS(gettid), SCMP_SYS(getuid), SCMP_SYS(geteuid), SCMP_SYS(getgid),
	SCMP_SYS(getegid), SCMP_SYS(rt_sigaction), SCMP_SYS(rt_sigprocmask),
	SCMP_SYS(rt_sigreturn), SCMP_SYS(sigaltstack), SCMP_SYS(restart_syscall),
	SCMP_SYS(sched_yield), SCMP_SYS(sched_getaffinity), SCMP_SYS(sysinfo), SCMP_SYS(uname),
	SCMP_SYS(tgkill), SCMP_SYS(exit), SCMP_SYS(exit_group), SCMP_SYS(ioctl),
	SCMP_SYS(openat), SCMP_SYS(open), SCMP_SYS(access), SCMP_SYS(faccessat),
	SCMP_SYS(faccessat2), SCMP_SYS(readlink), SCMP_SYS(readlinkat), SCMP_SYS(stat),
	SCMP_SYS(lstat), SCMP_SYS(statx), SCMP_SYS(statfs), SCMP_SYS(fstatfs),
	SCMP_SYS(getdents64), SCMP_SYS(getcwd), SCMP_SYS(dup), SCMP_SYS(fadvise64),
};

/* What a client of the network needs beside; socket and clone have conditions below. */
static const int network_calls[] = {
	SCMP_SYS(connect), SCMP_SYS(bind), SCMP_SYS(getsockname), SCMP_SYS(getpeername),
	SCMP_SYS(getsockopt), SCMP_SYS(setsockopt), SCMP_SYS(shutdown), SCMP_SYS(sendmmsg),
	SCMP_SYS(recvmmsg), SCMP_SYS(socketpair), SCMP_SYS(pipe), SCMP_SYS(pipe2),
	SCMP_SYS(eventfd2), SCMP_SYS(epoll_create1), SCMP_SYS(epoll_ctl), SCMP_SYS(epoll_wait),
	SCMP_SYS(epoll_pwait), SCMP_SYS(select), SCMP_SYS(pselect6), SCMP_SYS(set_robust_list),
	SCMP_SYS(rseq), SCMP_SYS(get_robust_list), SCMP_SYS(set_tid_address),
};

/* Making, changing and removing files, beside. */
static const int file_calls[] = {
	SCMP_SYS(openat2), SCMP_SYS(mkdirat), SCMP_SYS(mknodat), SCMP_SYS(unlinkat),
	SCMP_SYS(symlinkat), SCMP_SYS(linkat), SCMP_SYS(renameat), SCMP_SYS(renameat2),
	SCMP_SYS(fchown), SCMP_SYS(fchownat), SCMP_SYS(fchmod), SCMP_SYS(fchmodat),
	SCMP_SYS(utimensat), SCMP_SYS(ftruncate), SCMP_SYS(fallocate), SCMP_SYS(pwrite64),
	SCMP_SYS(umask), SCMP_SYS(fsync), SCMP_SYS(getppid), SCMP_SYS(prlimit64),
};

static int allow(scmp_filter_ctx ctx, const int *calls, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		int r = seccomp_rule_add(ctx, SCMP_ACT_ALLOW, calls[i], 0);

		if (r < 0 && r != -EFAULT && r != -EDOM) {   /* not on this architecture */
			return r;
		}
	}
	return 0;
}

static int allow_network(scmp_filter_ctx ctx)
{
	static const uint64_t families[] = { 2 /* inet */, 10 /* inet6 */, 16 /* netlink */ };
	int r = allow(ctx, network_calls, ARRAY_LEN(network_calls));

	for (size_t i = 0; r == 0 && i < ARRAY_LEN(families); i++) {
		r = seccomp_rule_add(ctx, SCMP_ACT_ALLOW, SCMP_SYS(socket), 1,
				     SCMP_A0(SCMP_CMP_EQ, families[i]));
	}
	/* Threads, but no processes. The flags of clone3 cannot be seen: it is not there. */
	if (r == 0) {
		r = seccomp_rule_add(ctx, SCMP_ACT_ALLOW, SCMP_SYS(clone), 1,
				     SCMP_A0(SCMP_CMP_MASKED_EQ, CLONE_THREAD, CLONE_THREAD));
	}
	return r < 0 ? r : seccomp_rule_add(ctx, SCMP_ACT_ERRNO(ENOSYS), SCMP_SYS(clone3), 0);
}

static int enter_seccomp(const struct confine *c)
{
	scmp_filter_ctx ctx = seccomp_init(SCMP_ACT_ERRNO(EPERM));

	if (!ctx) {
		return -ENOMEM;
	}

	int r = allow(ctx, base_calls, ARRAY_LEN(base_calls));

	if (r == 0 && c->network) {
		r = allow_network(ctx);
	}
	if (r == 0) {
		r = seccomp_attr_set(ctx, SCMP_FLTATR_CTL_OPTIMIZE, 2);
	}
	if (r == 0) {
		r = seccomp_load(ctx);
	}
	seccomp_release(ctx);
	return r;
}

static int enter_file_calls(void)
{
	scmp_filter_ctx ctx = seccomp_init(SCMP_ACT_ERRNO(EPERM));
	int r = ctx ? allow(ctx, base_calls, ARRAY_LEN(base_calls)) : -ENOMEM;

	r = r < 0 ? r : allow(ctx, file_calls, ARRAY_LEN(file_calls));
	r = r < 0 ? r : seccomp_attr_set(ctx, SCMP_FLTATR_CTL_OPTIMIZE, 2);
	r = r < 0 ? r : seccomp_load(ctx);
	if (ctx) {
		seccomp_release(ctx);
	}
	return r;
}

int confine_files(const char *name, struct err *e)
{
	const uint64_t keep = BIT(CAP_CHOWN) | BIT(CAP_DAC_OVERRIDE) | BIT(CAP_DAC_READ_SEARCH) |
			      BIT(CAP_FOWNER) | BIT(CAP_FSETID);
	struct sys_caps c = { 0 };
	int r = sys_capget(&c);

	for (int cap = 0; r == 0 && cap < 64; cap++) {
		/* -EINVAL: the kernel has no more. */
		if (sys_prctl(PR_CAPBSET_DROP, (unsigned long)cap, 0, 0, 0) == -EINVAL) {
			break;
		}
	}
	c.permitted &= keep;
	c.effective = c.permitted;
	c.inheritable = 0;
	r = r < 0 ? r : sys_capset(&c);
	r = r < 0 ? r : sys_prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
	if (r == 0 && !sanitized) {
		r = enter_file_calls();
		r = r == -ENOSYS || r == -EINVAL ? 0 : r; /* a kernel without */
	}
	return r < 0 ? err_set(e, -r, ERR_HOST, "%s: rights cannot be dropped", name) : 0;
}

static int enter_landlock(const struct confine *c)
{
	const uint64_t read = LANDLOCK_ACCESS_FS_READ_FILE | LANDLOCK_ACCESS_FS_READ_DIR;
	int abi = sys_landlock_abi();

	if (abi < 0) {
		return abi;
	}

	auto_close int rules = sys_landlock_create(sys_landlock_fs_all(abi));

	if (rules < 0) {
		return rules;
	}
	for (size_t i = 0; c->read_paths && c->read_paths[i]; i++) {
		auto_close int fd = sys_openat(AT_FDCWD, c->read_paths[i], O_PATH, 0);
		struct stat st;

		if (fd < 0 || sys_fstat(fd, &st) < 0) {
			continue;   /* what is not there need not be read */
		}

		uint64_t rights = S_ISDIR(st.st_mode) ? read : LANDLOCK_ACCESS_FS_READ_FILE;
		int r = sys_landlock_allow(rules, fd, rights);

		if (r < 0) {
			return r;
		}
	}
	return sys_landlock_enforce(rules);
}

static int set_limits(const struct confine *c)
{
	int r = sys_limit_lower(RLIMIT_CORE, 0);

	if (r == 0) {
		r = sys_limit_lower(RLIMIT_NOFILE, c->files);
	}
	if (r == 0) {
		r = sys_limit_lower(RLIMIT_FSIZE, c->file_bytes);
	}
	if (r == 0 && !sanitized) {
		r = sys_limit_lower(RLIMIT_AS, c->memory_bytes);
	}
	return r;
}

/* Root becomes CONFINE_UID; no one keeps a capability. */
static int drop_ids(void)
{
	const struct sys_caps none = { 0 };
	gid_t gid = CONFINE_UID;
	int r = 0;

	if (geteuid() == 0) {
		for (int cap = 0; cap < 64 && r != -EINVAL; cap++) {
			r = sys_prctl(PR_CAPBSET_DROP, (unsigned long)cap, 0, 0, 0);
		}
		r = sys_setgroups(0, &gid);
		/* In a user namespace without the right to: there are no groups to lose. */
		r = r == -EPERM ? 0 : r;
		r = r < 0 ? r : sys_setresgid(gid, gid, gid);
		r = r < 0 ? r : sys_setresuid(CONFINE_UID, CONFINE_UID, CONFINE_UID);
		/* A user namespace that maps one id has no other to become. */
		r = r == -EINVAL ? 0 : r;
	}
	return r < 0 ? r : sys_capset(&none);
}

int confine_enter(const struct confine *c, pid_t parent, unsigned *ret_missing, struct err *e)
{
	unsigned missing = 0;
	int r = set_limits(c);

	if (r < 0) {
		return err_set(e, -r, ERR_HOST, "%s: limits", c->name);
	}
	r = drop_ids();
	if (r < 0) {
		return err_set(e, -r, ERR_HOST, "%s: rights cannot be dropped", c->name);
	}

	/* After the change of ids, which clears it. A parent that is gone already counts. */
	r = sys_prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0);
	if (r == 0 && getppid() != parent) {
		r = -ESRCH;
	}
	if (r == 0) {
		r = sys_prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
	}
	if (r < 0) {
		return err_set(e, -r, ERR_HOST, "%s", c->name);
	}

	r = enter_landlock(c);
	if (r == -ENOSYS || r == -EOPNOTSUPP) {
		missing |= CONFINE_NO_LANDLOCK;
	} else if (r < 0) {
		return err_set(e, -r, ERR_HOST, "%s: Landlock", c->name);
	}
	r = sanitized ? -ENOSYS : enter_seccomp(c);
	if (r == -ENOSYS || r == -EINVAL) {
		missing |= CONFINE_NO_SECCOMP;
	} else if (r < 0) {
		return err_set(e, -r, ERR_HOST, "%s: seccomp", c->name);
	}
	if (ret_missing) {
		*ret_missing = missing;
	}
	return 0;
}
