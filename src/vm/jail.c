/* SPDX-License-Identifier: Apache-2.0 */
#include "vm/jail.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <signal.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>

#include "base/fd.h"
#include "base/str.h"
#include "sys/cred.h"
#include "sys/file.h"
#include "sys/landlock.h"
#include "sys/mount.h"
#include "sys/proc.h"
#include "vm/dev/vdev.h"

/* --- Namespaces, uid, capabilities --- */

static int failed(struct err *e, int r, const char *what)
{
	return err_set(e, -r, ERR_HOST, "confining the monitor: %s", what);
}

/* Only what our own uid maps to exists in the new user namespace. */
static int write_maps(uid_t uid, gid_t gid, struct err *e)
{
	char map[64];
	int n = snprintf(map, sizeof(map), "%u %u 1\n", uid, uid);
	int r = sys_write_file(AT_FDCWD, "/proc/self/setgroups", "deny", 4);

	r = r < 0 ? r : sys_write_file(AT_FDCWD, "/proc/self/uid_map", map, (size_t)n);
	n = snprintf(map, sizeof(map), "%u %u 1\n", gid, gid);
	r = r < 0 ? r : sys_write_file(AT_FDCWD, "/proc/self/gid_map", map, (size_t)n);
	return r < 0 ? failed(e, r, "id maps of the user namespace") : 0;
}

static int become(const struct jail_conf *conf, struct err *e)
{
	int r = 0;

	if (geteuid() != 0) {
		return 0;
	}
	r = sys_setgroups(0, NULL);
	r = r < 0 ? r : sys_setresgid(conf->gid, conf->gid, conf->gid);
	r = r < 0 ? r : sys_setresuid(conf->uid, conf->uid, conf->uid);
	return r < 0 ? failed(e, r, "its own uid") : 0;
}

/* An empty root: the old one cannot be reached any more. */
static int empty_root(struct err *e)
{
	int r = sys_mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL);

	r = r < 0 ? r : sys_mount("none", "/proc", "tmpfs", MS_NOSUID | MS_NODEV | MS_NOEXEC,
				  "size=4k,nr_inodes=1,mode=0555");
	r = r < 0 ? r : sys_chdir("/proc");
	r = r < 0 ? r : sys_pivot_root(".", ".");
	r = r < 0 ? r : sys_umount2(".", MNT_DETACH);
	r = r < 0 ? r : sys_chdir("/");
	r = r < 0 ? r : sys_mount(NULL, "/", NULL,
				  MS_REMOUNT | MS_BIND | MS_RDONLY | MS_NOSUID | MS_NODEV | MS_NOEXEC,
				  NULL);
	return r < 0 ? failed(e, r, "an empty mount namespace") : 0;
}

static int drop_capabilities(struct err *e)
{
	const struct sys_caps none = { 0 };
	int r = sys_prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);

	for (unsigned long cap = 0; r == 0; cap++) {
		r = sys_prctl(PR_CAPBSET_DROP, cap, 0, 0, 0);
		if (r == -EINVAL) { /* behind the last one */
			r = 0;
			break;
		}
	}
	r = r < 0 ? r : sys_capset(&none);
	return r < 0 ? failed(e, r, "capabilities") : 0;
}

/* Whoever has our uid may not look into us either. */
static int give_up_rights(struct err *e)
{
	int r = drop_capabilities(e);

	if (r == 0) {
		r = sys_prctl(PR_SET_DUMPABLE, 0, 0, 0, 0);
		r = r < 0 ? failed(e, r, "not dumpable") : 0;
	}
	return r;
}

static int lower_limits(struct err *e)
{
	for (size_t i = 0; i < jail_limits_len; i++) {
		int r = sys_limit_lower(jail_limits[i].resource, jail_limits[i].most);

		if (r < 0) {
			return failed(e, r, jail_limits[i].name);
		}
	}
	return 0;
}

/* A change of uid clears it, and a parent may have ended before. */
static int die_with(pid_t parent, struct err *e)
{
	int r = sys_prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0);

	r = r == 0 && getppid() != parent ? -ESRCH : r;
	return r < 0 ? failed(e, r, "its parent is gone") : 0;
}

static int enter(const struct jail_conf *conf, struct err *e)
{
	pid_t parent = getppid();
	int flags = 0;
	int r = become(conf, e);
	uid_t uid = geteuid();
	gid_t gid = getegid();

	for (size_t i = 0; i < jail_namespaces_len; i++) {
		flags |= jail_namespaces[i].flag;
	}
	/* A change of uid takes the right to look at our own /proc files: take it back. */
	r = r < 0 ? r : sys_prctl(PR_SET_DUMPABLE, 1, 0, 0, 0);
	if (r == 0) {
		r = sys_unshare(flags);
		r = r < 0 ? failed(e, r, "new namespaces (is user.max_user_namespaces 0?)") : 0;
	}
	r = r < 0 ? r : die_with(parent, e);
	r = r < 0 ? r : write_maps(uid, gid, e);
	r = r < 0 ? r : empty_root(e);
	return r < 0 ? r : lower_limits(e);
}

/* The monitor's own process, made in the new pid namespace. */
static noreturn_fn void first_process(const struct jail_conf *conf, pid_t parent,
				      const sigset_t *mask, int (*fn)(void *ud), void *ud)
{
	struct err e = ERR_INIT;
	int r = 0;

	sigprocmask(SIG_SETMASK, mask, NULL);
	r = sys_prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0);
	/* In a new pid namespace the parent has no number. */
	if (r < 0 || (!conf->confined && getppid() != parent)) {
		_exit(1);
	}
	if (conf->confined && give_up_rights(&e) < 0) {
		fprintf(stderr, "holm-vmm: %s\n", e.msg);
		_exit(1);
	}
	_exit(fn(ud));
}

static int wait_for(pid_t pid)
{
	sigset_t signals;
	siginfo_t si = { 0 };

	sigemptyset(&signals);
	sigaddset(&signals, SIGCHLD);
	sigaddset(&signals, SIGTERM);
	for (;;) {
		int signo = sigwaitinfo(&signals, NULL);

		if (signo == SIGTERM) {
			ignore_result(sys_kill(pid, SIGTERM)); /* it may have ended */
		}
		int r = sys_waitid(P_PID, (id_t)pid, &si, WEXITED | WNOHANG);

		if (r < 0 || si.si_pid == pid) {
			return r < 0 ? r : proc_exit_status(&si);
		}
	}
}

int jail_run(const struct jail_conf *conf, int (*fn)(void *ud), void *ud, struct err *e)
{
	sigset_t signals, before;
	int r = conf->confined ? enter(conf, e) : 0;

	if (r < 0) {
		return r;
	}
	sigemptyset(&signals);
	sigaddset(&signals, SIGCHLD);
	sigaddset(&signals, SIGTERM);
	sigprocmask(SIG_BLOCK, &signals, &before);
	pid_t self = getpid(), pid = sys_fork();

	if (pid == 0) {
		first_process(conf, self, &before, fn, ud);
	}
	if (pid < 0) {
		return err_set(e, -pid, ERR_HOST, "cannot fork");
	}
	/* What is left of us waits; it dies if it keeps a right, and the monitor with it. */
	r = conf->confined ? give_up_rights(e) : 0;
	if (r < 0) {
		return r;
	}
	r = wait_for(pid);
	return r < 0 ? err_set(e, -r, ERR_HOST, "waiting for the monitor") : r;
}

/* --- Files --- */

int jail_seal(struct err *e)
{
	int abi = sys_landlock_abi();

	if (abi < 0) {
		return failed(e, abi, "Landlock is not there (boot with lsm=landlock,...)");
	}
	auto_close int rules = sys_landlock_create(sys_landlock_fs_all(abi));
	int r = rules < 0 ? rules : sys_landlock_enforce(rules);

	return r < 0 ? failed(e, r, "Landlock") : 0;
}

int jail_files(uint64_t most_bytes, struct err *e)
{
	/* The signal would end the process. */
	if (signal(SIGXFSZ, SIG_IGN) == SIG_ERR) {
		return failed(e, -errno, "signals");
	}
	int r = sys_limit_lower(RLIMIT_FSIZE, most_bytes);

	return r < 0 ? failed(e, r, "Max file size") : 0;
}

/* --- System calls --- */

enum {
	AT_ARCH = offsetof(struct seccomp_data, arch),
	AT_NR   = offsetof(struct seccomp_data, nr),
	ARG1_LOW = offsetof(struct seccomp_data, args) + 8,   /* of the second argument */
	ARG2_LOW = offsetof(struct seccomp_data, args) + 16,
	INSNS_MAX = 1024,
};

struct program {
	struct sock_filter insns[INSNS_MAX];
	unsigned           n;
};

static void add(struct program *p, uint16_t code, uint32_t k, uint8_t yes, uint8_t no)
{
	assert(p->n < INSNS_MAX);
	p->insns[p->n++] = (struct sock_filter){ code, yes, no, k };
}

static void load(struct program *p, uint32_t at)
{
	add(p, BPF_LD | BPF_W | BPF_ABS, at, 0, 0);
}

static void verdict(struct program *p, uint32_t action)
{
	add(p, BPF_RET | BPF_K, action, 0, 0);
}

/* What is behind runs if the call is `nr`; it is n instructions long. */
static void if_call(struct program *p, int nr, uint8_t n)
{
	add(p, BPF_JMP | BPF_JEQ | BPF_K, (uint32_t)nr, 0, n);
}

static unsigned ioctls_of(enum jail_thread kind)
{
	unsigned n = 0;

	for (size_t i = 0; i < jail_ioctls_len; i++) {
		n += jail_ioctls[i].thread == kind;
	}
	return n;
}

/* The kernel looks at the low half of a request. */
static void allow_ioctl(struct program *p, enum jail_thread kind)
{
	enum { EACH = 4 };

	if_call(p, SYS_ioctl, (uint8_t)(EACH * ioctls_of(kind) + 1));
	for (size_t i = 0; i < jail_ioctls_len; i++) {
		if (jail_ioctls[i].thread == kind) {
			load(p, ARG1_LOW);
			add(p, BPF_ALU | BPF_AND | BPF_K, jail_ioctls[i].mask, 0, 0);
			add(p, BPF_JMP | BPF_JEQ | BPF_K, jail_ioctls[i].value, 0, 1);
			verdict(p, SECCOMP_RET_ALLOW);
		}
	}
	verdict(p, SECCOMP_RET_KILL_PROCESS);
}

static void allow_unless_exec(struct program *p, int nr)
{
	if_call(p, nr, 4);
	load(p, ARG2_LOW);
	add(p, BPF_JMP | BPF_JSET | BPF_K, PROT_EXEC, 1, 0);
	verdict(p, SECCOMP_RET_ALLOW);
	verdict(p, SECCOMP_RET_KILL_PROCESS);
}

static void allow(struct program *p, enum jail_thread kind, int nr)
{
	if (nr == SYS_ioctl) {
		allow_ioctl(p, kind);
	} else if (nr == SYS_mmap || nr == SYS_mprotect) {
		allow_unless_exec(p, nr);
	} else {
		if_call(p, nr, 1);
		verdict(p, SECCOMP_RET_ALLOW);
	}
}

int jail_filter(enum jail_thread kind, const struct vdev_desc *const *devices, size_t n,
		struct err *e)
{
	const struct jail_calls *calls = &jail_calls[kind];
	struct program p = { .n = 0 };

	/* The sanitizers' own calls are not in the tables. */
	if (BUILD_ASAN) {
		return 0;
	}
	load(&p, AT_ARCH);
	add(&p, BPF_JMP | BPF_JEQ | BPF_K, AUDIT_ARCH_X86_64, 1, 0);
	verdict(&p, SECCOMP_RET_KILL_PROCESS);
	load(&p, AT_NR);
	for (size_t i = 0; i < calls->n; i++) {
		allow(&p, kind, calls->calls[i]);
	}
	for (size_t d = 0; d < n; d++) {
		const struct vdev_sandbox *box = devices[d] ? devices[d]->sandbox : NULL;

		for (size_t i = 0; box && i < box->n_syscalls; i++) {
			allow(&p, kind, box->syscalls[i]);
		}
	}
	verdict(&p, SECCOMP_RET_KILL_PROCESS);
	int r = sys_prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);

	if (r == 0 && kind != JAIL_LOOP) { /* that one has the process's name */
		r = sys_prctl(PR_SET_NAME, (unsigned long)(uintptr_t)calls->name, 0, 0, 0);
	}
	r = r < 0 ? r : sys_seccomp_filter(0, p.insns, (uint16_t)p.n);
	return r < 0 ? failed(e, r, "its filter of system calls") : 0;
}
