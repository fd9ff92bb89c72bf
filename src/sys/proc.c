/* SPDX-License-Identifier: Apache-2.0 */
#include "sys/proc.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/sched.h>
#include <stdio.h>
#include <sys/personality.h>
#include <sys/prctl.h>
#include <signal.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/str.h"
#include "sys/file.h"

pid_t sys_clone3(uint64_t flags, int cgroup_fd, int *ret_pidfd)
{
	int pidfd = -1;
	struct clone_args args = {
		.flags = flags | (ret_pidfd ? CLONE_PIDFD : 0) |
			 (cgroup_fd >= 0 ? CLONE_INTO_CGROUP : 0),
		.pidfd = (uint64_t)(uintptr_t)&pidfd,
		/* The kernel gives a CLONE_PARENT child its sibling's signal. */
		.exit_signal = flags & CLONE_PARENT ? 0 : SIGCHLD,
		.cgroup = cgroup_fd >= 0 ? (uint64_t)cgroup_fd : 0,
	};
	int r = sys__fault(SYS_CALL_clone3);

	if (r == 0) {
		r = sys__ret((int)syscall(SYS_clone3, &args, sizeof(args)));
	}
	if (r > 0 && ret_pidfd) {
		*ret_pidfd = pidfd;
	}
	return r;
}

pid_t sys_fork(void)
{
	int r = sys__fault(SYS_CALL_fork);

	return r ? r : sys__ret(fork());
}

int sys_pidfd_open(pid_t pid, unsigned flags)
{
	int r = sys__fault(SYS_CALL_pidfd_open);

	return r ? r : sys__ret((int)syscall(SYS_pidfd_open, pid, flags));
}

int sys_pidfd_send_signal(int pidfd, int sig)
{
	int r = sys__fault(SYS_CALL_pidfd_send_signal);

	return r ? r : sys__ret((int)syscall(SYS_pidfd_send_signal, pidfd, sig, NULL, 0));
}

int sys_pidfd_getfd(int pidfd, int fd)
{
	int r = sys__fault(SYS_CALL_pidfd_getfd);

	return r ? r : sys__ret((int)syscall(SYS_pidfd_getfd, pidfd, fd, 0));
}

int sys_kill(pid_t pid, int sig)
{
	int r = sys__fault(SYS_CALL_kill);

	return r ? r : sys__ret(kill(pid, sig));
}

int sys_waitid(idtype_t type, id_t id, siginfo_t *ret, int options)
{
	siginfo_t si = { .si_pid = 0 };
	int r = sys__fault(SYS_CALL_waitid);

	if (r < 0) {
		return r;
	}
	do {
		r = sys__ret(waitid(type, id, &si, options));
	} while (r == -EINTR);
	if (r == 0 && ret) {
		*ret = si;
	}
	return r;
}

int sys_setns(int fd, int nstype)
{
	int r = sys__fault(SYS_CALL_setns);

	return r ? r : sys__ret(setns(fd, nstype));
}

int sys_unshare(int flags)
{
	int r = sys__fault(SYS_CALL_unshare);

	return r ? r : sys__ret(unshare(flags));
}

int sys_setsid(void)
{
	int r = sys__fault(SYS_CALL_setsid);

	return r ? r : sys__ret(setsid());
}

int sys_prctl(int option, unsigned long a, unsigned long b, unsigned long c, unsigned long d)
{
	int r = sys__fault(SYS_CALL_prctl);

	return r ? r : sys__ret(prctl(option, a, b, c, d));
}

int sys_prlimit(pid_t pid, int resource, const struct rlimit *set, struct rlimit *ret)
{
	int r = sys__fault(SYS_CALL_prlimit);

	return r ? r : sys__ret((int)syscall(SYS_prlimit64, pid, resource, set, ret));
}

int sys_limit_lower(int resource, uint64_t most)
{
	struct rlimit lim;
	int r = sys_prlimit(0, resource, NULL, &lim);

	if (r < 0) {
		return r;
	}
	lim.rlim_cur = lim.rlim_max = MIN(most, lim.rlim_max);
	return sys_prlimit(0, resource, &lim, NULL);
}

int sys_personality(unsigned long persona)
{
	int r = sys__fault(SYS_CALL_personality);

	return r ? r : sys__ret(personality(persona));
}

int sys_set_mempolicy(int mode, const unsigned long *nodes, unsigned long max_node)
{
	int r = sys__fault(SYS_CALL_set_mempolicy);

	return r ? r : sys__ret((int)syscall(SYS_set_mempolicy, mode, nodes, max_node));
}

int sys_sethostname(const char *name, size_t len)
{
	int r = sys__fault(SYS_CALL_sethostname);

	return r ? r : sys__ret(sethostname(name, len));
}

int sys_setdomainname(const char *name, size_t len)
{
	int r = sys__fault(SYS_CALL_setdomainname);

	return r ? r : sys__ret(setdomainname(name, len));
}

int sys_chdir(const char *path)
{
	int r = sys__fault(SYS_CALL_chdir);

	return r ? r : sys__ret(chdir(path));
}

int sys_fchdir(int fd)
{
	int r = sys__fault(SYS_CALL_fchdir);

	return r ? r : sys__ret(fchdir(fd));
}

int sys_setresuid(uid_t ruid, uid_t euid, uid_t suid)
{
	int r = sys__fault(SYS_CALL_setresuid);

	return r ? r : sys__ret((int)syscall(SYS_setresuid, ruid, euid, suid));
}

int sys_setresgid(gid_t rgid, gid_t egid, gid_t sgid)
{
	int r = sys__fault(SYS_CALL_setresgid);

	return r ? r : sys__ret((int)syscall(SYS_setresgid, rgid, egid, sgid));
}

int sys_setgroups(size_t n, const gid_t *groups)
{
	int r = sys__fault(SYS_CALL_setgroups);

	return r ? r : sys__ret((int)syscall(SYS_setgroups, n, groups));
}

long sys_keyctl(int op, unsigned long a, unsigned long b, unsigned long c, unsigned long d)
{
	int r = sys__fault(SYS_CALL_keyctl);

	return r ? r : (long)sys__retn(syscall(SYS_keyctl, op, a, b, c, d));
}

int sys_execveat(int dir_fd, const char *path, char *const argv[], char *const envp[], int flags)
{
	int r = sys__fault(SYS_CALL_execveat);

	return r ? r : sys__ret((int)syscall(SYS_execveat, dir_fd, path, argv, envp, flags));
}

int proc_exit_status(const siginfo_t *si)
{
	return si->si_code == CLD_EXITED ? si->si_status : 128 + si->si_status;
}

void sys_reset_signals(void)
{
	const struct {
		unsigned long handler, flags, restorer, mask;
	} dfl = { .handler = 0 };
	sigset_t none;

	for (int i = 1; i < NSIG; i++) {
		/* KILL and STOP refuse. */
		(void)syscall(SYS_rt_sigaction, i, &dfl, NULL, sizeof(dfl.mask));
	}
	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
}

int proc_start_ticks(pid_t pid, uint64_t *ret, bool *ret_zombie)
{
	auto_buf struct buf text = BUF_INIT;
	char path[40];

	snprintf(path, sizeof(path), "/proc/%d/stat", (int)pid);

	int r = sys_read_file(AT_FDCWD, path, 4096, &text);

	if (r < 0) {
		return r == -ENOENT ? -ESRCH : r;
	}
	/* The name in parentheses can hold anything; fields are counted from its end. */
	const char *p = strrchr(buf_str(&text), ')');
	unsigned long long ticks;
	char state;

	if (!p || sscanf(p + 1, " %c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %*u %*u %*d %*d %*d "
				"%*d %*d %*d %llu", &state, &ticks) != 2) {
		return -EBADMSG;
	}
	*ret = ticks;
	*ret_zombie = state == 'Z' || state == 'X';
	return 0;
}
