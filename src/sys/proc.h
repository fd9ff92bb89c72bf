/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Processes, namespaces and identities. Each function is the kernel call of its name (see
 * its manual page) with the conventions of sys/sys.h. Those that change credentials go
 * straight to the kernel and change the calling thread only: their callers have one thread.
 */
#ifndef SYS_PROC_H
#define SYS_PROC_H

#include <sched.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/types.h>
#include <sys/wait.h>

#include "sys/sys.h"

#ifndef CLONE_NEWTIME
#define CLONE_NEWTIME 0x00000080
#endif

/*
 * A new process, as fork() makes it, with what clone3() adds. In the child it returns 0.
 * The C library is not told: the child may use memory and descriptors, but no threads.
 *
 * @flags       CLONE_NEW* and the like; CLONE_PIDFD is added if ret_pidfd is not NULL.
 *              With CLONE_PARENT the child belongs to the caller's parent.
 * @cgroup_fd   the v2 group it starts in, or -1
 */
pid_t sys_clone3(uint64_t flags, int cgroup_fd, int *ret_pidfd) must_check;
pid_t sys_fork(void) must_check;

int sys_pidfd_open(pid_t pid, unsigned flags) must_check;
int sys_pidfd_send_signal(int pidfd, int sig) must_check;
int sys_pidfd_getfd(int pidfd, int fd) must_check;
int sys_kill(pid_t pid, int sig) must_check;

/* Waits again after a signal. *ret may be NULL. */
int sys_waitid(idtype_t type, id_t id, siginfo_t *ret, int options) must_check;

int sys_setns(int fd, int nstype) must_check;
int sys_unshare(int flags) must_check;
int sys_setsid(void) must_check;
int sys_prctl(int option, unsigned long a, unsigned long b, unsigned long c,
	      unsigned long d) must_check;
int sys_prlimit(pid_t pid, int resource, const struct rlimit *set, struct rlimit *ret) must_check;
int sys_personality(unsigned long persona) must_check;
int sys_set_mempolicy(int mode, const unsigned long *nodes, unsigned long max_node) must_check;
int sys_sethostname(const char *name, size_t len) must_check;
int sys_setdomainname(const char *name, size_t len) must_check;
int sys_chdir(const char *path) must_check;
int sys_fchdir(int fd) must_check;

/* Our soft and hard limit are `most`, or the hard limit that there is if that is lower. */
int sys_limit_lower(int resource, uint64_t most) must_check;

int sys_setresuid(uid_t r, uid_t e, uid_t s) must_check;
int sys_setresgid(gid_t r, gid_t e, gid_t s) must_check;
int sys_setgroups(size_t n, const gid_t *groups) must_check;

/* The key's serial number, or what the operation returns. */
long sys_keyctl(int op, unsigned long a, unsigned long b, unsigned long c,
		unsigned long d) must_check;

/* Returns only on failure. */
int sys_execveat(int dir_fd, const char *path, char *const argv[], char *const envp[],
		 int flags) must_check;

/* Start time of a process in clock ticks since boot, and whether it is a zombie. -ESRCH. */
int proc_start_ticks(pid_t pid, uint64_t *ret, bool *ret_zombie) must_check;

/* Of exited process `si`: its status as a shell shows it, 128 + n after signal n. */
int proc_exit_status(const siginfo_t *si);

/*
 * Every signal as a new program expects it: default, and none blocked. Also the two that libc
 * keeps for itself and does not let go, but that a parent may have left ignored.
 */
void sys_reset_signals(void);

#endif
