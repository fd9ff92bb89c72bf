/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Shutting in the process that reads tar.
 *
 * It starts as its caller's copy, in mount, network, pid, IPC and UTS namespaces of its own,
 * makes the mount that it will write through, moves its root there, so that there is nothing
 * else to see, and becomes root of a user namespace that owns none of the others: over what
 * is mounted or connected it has no power, over the files it has what an unpacker needs.
 */
#include "image/unpack-child.h"

#include <errno.h>
#include <limits.h>
#include <linux/capability.h>
#include <locale.h>
#include <sched.h>
#include <seccomp.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/mem.h"
#include "image/confine.h"
#include "image/idmap.h"
#include "image/overlay.h"
#include "sys/cred.h"
#include "sys/file.h"
#include "sys/landlock.h"
#include "sys/mount.h"
#include "sys/proc.h"

static noreturn_fn void finish(int report_fd, struct unpack_report *rep, const struct err *e)
{
	rep->errnum = e->errnum;
	rep->code = (int32_t)e->code;
	(void)snprintf(rep->msg, sizeof(rep->msg), "%s", e->msg);
	ignore_result(sys_write(report_fd, rep, sizeof(*rep))); /* no one else to tell */
	_exit(e->errnum ? 1 : 0);
}

/* Three descriptors become 0, 1 and 2; there is nothing else. */
static int close_others(int *a, int *b, int *c)
{
	int *fds[] = { a, b, c };

	/* First out of the way of each other. */
	for (size_t i = 0; i < ARRAY_LEN(fds); i++) {
		*fds[i] = sys_fcntl(*fds[i], F_DUPFD_CLOEXEC, 3);
		if (*fds[i] < 0) {
			return *fds[i];
		}
	}
	for (size_t i = 0; i < ARRAY_LEN(fds); i++) {
		if (dup3(*fds[i], (int)i, O_CLOEXEC) < 0) {
			return -errno;
		}
		*fds[i] = (int)i;
	}
	return sys_close_range(3, UINT32_MAX, 0);
}

/* --- decompressing --- */

/* zstd's largest usual window is 128 MiB. */
enum { MEMORY_BYTES = 256 << 20, FILES = 64 };

void unpack__inflate_main(const struct inflate_child *child)
{
	struct inflate_child c = *child;
	struct unpack_report rep = { .errnum = 0 };
	struct err e = ERR_INIT;
	unsigned missing = 0;
	const struct confine conf = { .name = "decompressor", .memory_bytes = MEMORY_BYTES,
				      .files = FILES };
	/* When nobody takes its bytes it says so, and does not die of it. */
	(void)signal(SIGPIPE, SIG_IGN);
	int r = close_others(&c.in_fd, &c.out_fd, &c.report_fd);

	r = r < 0 ? err_set(&e, -r, ERR_HOST, "decompressor: its descriptors") :
		    confine_enter(&conf, c.parent, &missing, &e);
	if (r == 0) {
		rep.missing = (int32_t)(((missing & CONFINE_NO_LANDLOCK) ? UNPACK_NO_LANDLOCK : 0) |
					((missing & CONFINE_NO_SECCOMP) ? UNPACK_NO_SECCOMP : 0));
		r = unpack__inflate(c.in_fd, c.out_fd, c.kind, &e);
	}
	assert(r == 0 || e.errnum);
	finish(c.report_fd, &rep, &e);
}

/* --- the mount that is written through --- */

enum { MOUNT_ATTRS = MOUNT_ATTR_NODEV | MOUNT_ATTR_NOSUID };

struct view {
	int   *lower;
	size_t n_lower;
	int    top;
};

static void view_fini(struct view *v)
{
	for (size_t i = 0; v->lower && i < v->n_lower; i++) {
		fd_close(&v->lower[i]);
	}
	free(v->lower);
	fd_close(&v->top);
}

static int clone_all(struct view *v, const struct tar_child *c, const struct unpack_job *job,
		     struct err *e)
{
	int map_fd = c->ids == UNPACK_IDS_MAPPED ? c->userns_fd : -1;

	v->lower = mem_calloc(job->n_lower + 1, sizeof(*v->lower));
	if (!v->lower) {
		return err_nomem(e);
	}
	for (; v->n_lower < job->n_lower; v->n_lower++) {
		int fd = idmap_clone(job->lower_fds[v->n_lower], map_fd, MOUNT_ATTR_RDONLY);

		if (fd < 0) {
			return err_set(e, -fd, ERR_HOST, "unpacking: a layer below");
		}
		v->lower[v->n_lower] = fd;
	}
	/* Without layers below, the folder itself is what is written to. */
	auto_close int root = sys_openat(job->dir_fd, "root", O_PATH | O_DIRECTORY | O_NOFOLLOW, 0);

	v->top = root < 0 ? root :
			    idmap_clone(job->n_lower ? job->dir_fd : root, map_fd, MOUNT_ATTRS);
	return v->top < 0 ? err_set(e, -v->top, ERR_HOST, "unpacking: the new layer") : 0;
}

/* An unprivileged caller: a namespace in which we are root, and no one else exists. */
static int make_userns(struct err *e)
{
	char line[48];
	uid_t uid = geteuid();
	gid_t gid = getegid();
	int r = sys_unshare(CLONE_NEWUSER);

	r = r < 0 ? r : sys_write_file(AT_FDCWD, "/proc/self/setgroups", "deny", 4);
	int n = snprintf(line, sizeof(line), "0 %u 1\n", uid);

	r = r < 0 ? r : sys_write_file(AT_FDCWD, "/proc/self/uid_map", line, (size_t)n);
	n = snprintf(line, sizeof(line), "0 %u 1\n", gid);
	r = r < 0 ? r : sys_write_file(AT_FDCWD, "/proc/self/gid_map", line, (size_t)n);
	return r < 0 ? err_set(e, -r, ERR_HOST, "unpacking: a user namespace of one's own") : 0;
}

static int new_namespaces(struct err *e)
{
	int r = sys_unshare(CLONE_NEWNS | CLONE_NEWNET | CLONE_NEWIPC | CLONE_NEWUTS);

	r = r < 0 ? r : sys_mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL);
	return r < 0 ? err_set(e, -r, ERR_HOST, "unpacking: namespaces") : 0;
}

/* A folder's descriptor as it is in a mount namespace that was made after it was opened. */
static int reopen(int fd)
{
	char path[PATH_MAX];
	char link[48];
	struct stat a, b;

	(void)snprintf(link, sizeof(link), "/proc/self/fd/%d", fd);
	ssize_t n = sys_readlinkat(AT_FDCWD, link, path, sizeof(path) - 1);

	if (n < 0) {
		return (int)n;
	}
	path[n] = '\0';
	int now = sys_openat(AT_FDCWD, path, O_RDONLY | O_DIRECTORY, 0);

	if (now >= 0 && (sys_fstat(fd, &a) < 0 || sys_fstat(now, &b) < 0 || a.st_ino != b.st_ino ||
			 a.st_dev != b.st_dev)) {
		fd_close(&now);
		return -ESTALE;
	}
	return now;
}

/*
 * In the mount namespace of a user namespace of our own, what was opened before belongs to
 * mounts that are not ours to copy: open it anew. The descriptors live until the process ends.
 */
static int reopen_all(struct unpack_job *job, struct err *e)
{
	int *lower = mem_calloc(job->n_lower + 1, sizeof(*lower));

	if (!lower) {
		return err_nomem(e);
	}
	int r = job->dir_fd = reopen(job->dir_fd);

	for (size_t i = 0; r >= 0 && i < job->n_lower; i++) {
		r = lower[i] = reopen(job->lower_fds[i]);
	}
	job->lower_fds = lower;
	return r < 0 ? err_set(e, -r, ERR_HOST, "unpacking: the folder of the new layer") : 0;
}

/* The copies of mounts and the namespaces, in the order that our rights ask for. */
static int make_parts(struct view *v, const struct tar_child *c, struct err *e)
{
	struct unpack_job job = *c->job;
	int r;

	if (c->userns_fd >= 0) {
		r = clone_all(v, c, &job, e);
		return r < 0 ? r : new_namespaces(e);
	}
	r = make_userns(e);
	if (r == 0) {
		r = new_namespaces(e);
	}
	if (r == 0) {
		r = reopen_all(&job, e);
	}
	return r < 0 ? r : clone_all(v, c, &job, e);
}

static int mount_view(struct view *v, const struct tar_child *c, struct err *e)
{
	if (v->n_lower == 0) {
		return take_fd(&v->top);
	}
	const struct overlay o = {
		.lower_fds = v->lower,
		.n_lower = v->n_lower,
		.top_fd = v->top,
		.upper_name = "root",
		.owner = c->ids == UNPACK_IDS_MAPPED ? UNPACK_BASE : 0,
		.attrs = MOUNT_ATTRS,
	};

	return overlay_mount(&o, e);
}

/* Our root becomes the layer, and everything else goes out of sight. Returns the root. */
static int move_root(int mount_fd, struct err *e)
{
	int r = sys_move_mount(mount_fd, "", AT_FDCWD, "/", MOVE_MOUNT_F_EMPTY_PATH);

	r = r < 0 ? r : sys_fchdir(mount_fd);
	if (r == 0) {
		r = sys_pivot_root(".", ".");
		if (r == 0) {
			r = sys_umount2(".", MNT_DETACH);
		} else if (r == -EINVAL) {
			r = sys_chroot("."); /* the host runs from its initramfs */
		}
	}
	r = r < 0 ? r : sys_chdir("/");
	r = r < 0 ? r : sys_openat(AT_FDCWD, "/", O_RDONLY | O_DIRECTORY, 0);
	return r < 0 ? err_set(e, -r, ERR_HOST, "unpacking: moving to the new layer") : r;
}

static int enter_view(const struct tar_child *c, struct err *e)
{
	struct view v = { .top = -1 };
	auto_close int mount_fd = -1;
	int r = make_parts(&v, c, e);

	if (r == 0) {
		r = mount_fd = mount_view(&v, c, e);
	}
	view_fini(&v);
	return r < 0 ? r : move_root(mount_fd, e);
}

/* --- giving up rights --- */

static const int calls[] = {
	/* Memory, time, the end. */
	SCMP_SYS(brk), SCMP_SYS(mmap), SCMP_SYS(munmap), SCMP_SYS(mremap), SCMP_SYS(madvise),
	SCMP_SYS(clock_gettime), SCMP_SYS(gettimeofday), SCMP_SYS(getrandom), SCMP_SYS(futex),
	SCMP_SYS(rt_sigreturn), SCMP_SYS(rt_sigprocmask), SCMP_SYS(exit), SCMP_SYS(exit_group),
	SCMP_SYS(getpid), SCMP_SYS(restart_syscall),
	/* Descriptors. */
	SCMP_SYS(read), SCMP_SYS(write), SCMP_SYS(pwrite64), SCMP_SYS(close), SCMP_SYS(lseek),
	SCMP_SYS(fstat), SCMP_SYS(newfstatat), SCMP_SYS(fcntl), SCMP_SYS(getdents64),
	SCMP_SYS(ftruncate), SCMP_SYS(fchmod), SCMP_SYS(fsetxattr), SCMP_SYS(fchown),
	/* Names below our root. */
	SCMP_SYS(openat), SCMP_SYS(openat2), SCMP_SYS(mkdirat), SCMP_SYS(mknodat),
	SCMP_SYS(symlinkat), SCMP_SYS(linkat), SCMP_SYS(unlinkat), SCMP_SYS(fchownat),
	SCMP_SYS(utimensat), SCMP_SYS(readlinkat), SCMP_SYS(statx), SCMP_SYS(fstatfs),
};

static int enter_seccomp(void)
{
	scmp_filter_ctx ctx = seccomp_init(SCMP_ACT_ERRNO(EPERM));
	int r = ctx ? 0 : -ENOMEM;

	for (size_t i = 0; r == 0 && i < ARRAY_LEN(calls); i++) {
		r = seccomp_rule_add(ctx, SCMP_ACT_ALLOW, calls[i], 0);
		r = r == -EDOM || r == -EFAULT ? 0 : r; /* not on this architecture */
	}
	if (r == 0) {
		r = seccomp_load(ctx);
	}
	if (ctx) {
		seccomp_release(ctx);
	}
	return r;
}

static int enter_landlock(int root_fd)
{
	int abi = sys_landlock_abi();

	if (abi < 0) {
		return abi;
	}
	const uint64_t never = LANDLOCK_ACCESS_FS_EXECUTE | LANDLOCK_ACCESS_FS_MAKE_BLOCK |
			       LANDLOCK_ACCESS_FS_MAKE_SOCK;
	uint64_t all = sys_landlock_fs_all(abi);
	auto_close int rules = sys_landlock_create(all);
	int r = rules < 0 ? rules : sys_landlock_allow(rules, root_fd, all & ~never);

	return r < 0 ? r : sys_landlock_enforce(rules);
}

/* Root of the namespace, to files; nothing else that a capability is for. */
static int keep_file_caps(void)
{
	const uint64_t keep = BIT(CAP_CHOWN) | BIT(CAP_DAC_OVERRIDE) | BIT(CAP_FOWNER) |
			      BIT(CAP_FSETID) | BIT(CAP_SETFCAP);
	const struct sys_caps caps = { .effective = keep, .permitted = keep };
	int r = 0;

	for (unsigned cap = 0; cap < 64 && r != -EINVAL; cap++) {
		r = (keep & BIT(cap)) ? 0 : sys_prctl(PR_CAPBSET_DROP, cap, 0, 0, 0);
	}
	return sys_capset(&caps);
}

static int set_limits(void)
{
	int r = sys_limit_lower(RLIMIT_CORE, 0);

	r = r < 0 ? r : sys_limit_lower(RLIMIT_NOFILE, 2048);
	r = r < 0 ? r : sys_limit_lower(RLIMIT_NPROC, 0);
	return r < 0 || BUILD_ASAN ? r : sys_limit_lower(RLIMIT_AS, MEMORY_BYTES);
}

static int become_root_of(const struct tar_child *c)
{
	/* Where we made the namespace ourselves, we are its root already. */
	if (c->userns_fd < 0) {
		return 0;
	}
	int r = sys_setns(c->userns_fd, CLONE_NEWUSER);

	r = r < 0 ? r : sys_setgroups(0, NULL);
	r = r < 0 ? r : sys_setresgid(0, 0, 0);
	return r < 0 ? r : sys_setresuid(0, 0, 0);
}

static int give_up(int root_fd, struct unpack_report *rep)
{
	int r = keep_file_caps();

	r = r < 0 ? r : set_limits();
	/* After the change of ids, which clears it. Whose parent is gone reads an end of file. */
	r = r < 0 ? r : sys_prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0);
	r = r < 0 ? r : sys_prctl(PR_SET_DUMPABLE, 0, 0, 0, 0);
	r = r < 0 ? r : sys_prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
	if (r < 0) {
		return r;
	}
	r = enter_landlock(root_fd);
	if (r == -ENOSYS || r == -EOPNOTSUPP) {
		rep->missing |= UNPACK_NO_LANDLOCK;
	} else if (r < 0) {
		return r;
	}
	r = BUILD_ASAN ? -ENOSYS : enter_seccomp();
	if (r == -EINVAL || r == -ENOSYS) {
		rep->missing |= UNPACK_NO_SECCOMP;
		r = 0;
	}
	return r;
}

static int shut_in(struct tar_child *c, int *ret_root, struct unpack_report *rep, struct err *e)
{
	int r = *ret_root = enter_view(c, e);

	if (r < 0) {
		return r;
	}
	r = become_root_of(c);
	if (r == 0) {
		r = close_others(&c->in_fd, &c->report_fd, ret_root);
	}
	if (r == 0) {
		r = give_up(*ret_root, rep);
	}
	return r < 0 ? err_set(e, -r, ERR_HOST, "unpacking: giving up rights") : 0;
}

void unpack__tar_main(const struct tar_child *child)
{
	struct tar_child c = *child;
	struct unpack_report rep = { .ids = (int32_t)c.ids };
	struct err e = ERR_INIT;
	int root_fd = -1;
	const struct unpack_limits *limits = c.job->limits ? c.job->limits : &unpack_limits_default;
	bool below = c.job->n_lower > 0;

	(void)umask(0);
	(void)setlocale(LC_CTYPE, "C.UTF-8"); /* without it, names that are not ASCII are refused */
	int r = shut_in(&c, &root_fd, &rep, &e);

	if (r == 0) {
		struct unpack_tar t = { .in_fd = c.in_fd, .root_fd = root_fd, .below = below,
					.squash = c.ids == UNPACK_IDS_SQUASHED, .limits = limits };

		r = unpack__tar(&t, &e);
		rep.entries = t.entries;
		rep.devices = t.devices;
	}
	assert(r == 0 || e.errnum);
	finish(c.report_fd, &rep, &e);
}
