/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Kernel calls that a test can make fail, and watch.
 *
 * Every kernel call whose failure matters is made through a wrapper of this folder. All
 * wrappers return 0 or a positive value on success and -errno on failure (never -1), make
 * descriptors close-on-exec, and pass through two hooks:
 *
 * - a fault: "the N-th call of this kind fails with this errno, once or from then on";
 * - an observer: told of each call that changed the file system, with its arguments, after
 *   it succeeded (used to replay every prefix of the writes, as a power cut would leave them).
 *
 *	sys_fault_arm(SYS_CALL_FSYNC, 2, 1, EIO);
 *	r = store_put(...);
 *	assert(r == -EIO && sys_fault_hits() == 1);
 *	sys_fault_clear();
 *
 * Programs built with -Dfaults=true also take faults from the environment:
 * HOLM_FAULT="fsync:2:EIO" or "mkdirat:1+:ENOSPC" (from the first on), comma separated;
 * "any:7:EIO" is the seventh call of whatever kind.
 */
#ifndef SYS_SYS_H
#define SYS_SYS_H

#include <sys/types.h>

#include "base/def.h"

/* One name for each wrapper, in alphabetical order of its group. */
#define SYS_CALLS(X) \
	/* file.h */ \
	X(close_range) X(copy_file_range) X(dup) X(fallocate) X(fchmod) X(fchmodat) X(fchownat) \
	X(fcntl) X(fdatasync) X(flock) X(fstat) X(fstatat) X(fstatfs) X(fsync) X(ftruncate) \
	X(getdents) X(getxattr) X(ioctl) X(linkat) X(lseek) X(memfd_create) X(mkdirat) X(mknodat) \
	X(openat) X(openat2) X(pipe2) X(pread) X(pwrite) X(read) X(readlinkat) X(renameat2) \
	X(sendfile) X(setxattr) X(splice) X(statx) X(symlinkat) X(syncfs) X(unlinkat) X(utimensat) \
	X(write) X(poll) X(name_to_handle_at) X(lsetxattr) X(removexattr) X(fsopen) \
	X(preadv2) X(pwritev2) X(readv) X(writev) \
	/* mount.h */ \
	X(fsconfig) X(fsmount) X(mount) X(mount_setattr) X(move_mount) X(open_tree) X(pivot_root) \
	X(umount2) X(chroot) X(fchdir) X(chdir) X(fspick) X(open_tree_attr) \
	/* proc.h */ \
	X(capset) X(clone3) X(execveat) X(kill) X(pidfd_getfd) X(pidfd_open) X(pidfd_send_signal) \
	X(prctl) X(prlimit) X(setgroups) X(setns) X(setresgid) X(setresuid) X(setsid) X(unshare) \
	X(waitid) X(seccomp) X(bpf) X(sethostname) X(setdomainname) X(ioprio_set) \
	X(sched_setattr) X(sched_setaffinity) X(personality) X(keyctl) X(landlock) X(umask) \
	X(set_mempolicy) X(setfsuid) X(setfsgid) X(fork) \
	/* map.h */ \
	X(mmap) X(madvise) \
	/* socket.h */ \
	X(accept4) X(bind) X(connect) X(listen) X(recvmsg) X(sendmsg) X(setsockopt) X(getsockopt) \
	X(shutdown) X(socket) X(socketpair) X(epoll_create1) X(epoll_ctl) X(eventfd) X(inotify_init1) \
	X(inotify_add_watch) X(signalfd) X(timerfd_create) X(timerfd_settime) \
	/* machine.h */ \
	X(finit_module) X(reboot) X(clock_settime)

enum sys_call {
#define X(name) SYS_CALL_##name,
	SYS_CALLS(X)
#undef X
	SYS_CALL__COUNT,
};

/* The call's name as in the enum, for messages. */
const char *sys_call_name(enum sys_call call);

/*
 * Let the nth call of a kind from now on (1 is the next), and `times` in all (0: every one
 * from there), fail with errnum. Several kinds can be armed at once.
 */
void sys_fault_arm(enum sys_call call, unsigned nth, unsigned times, int errnum);

/* Let the nth call of any kind fail; for "fail call 1, 2, 3 ... until success". */
void sys_fault_arm_any(unsigned nth, int errnum);

void     sys_fault_clear(void);
unsigned sys_fault_hits(void);          /* since the last arm */

/* "openat:3:ENOSPC,write:1+:EIO"; -EINVAL names nothing: for the edge to report. */
int sys_fault_parse(const char *text) must_check;

/* One call that changed a file system. Members that a call does not have are 0 or -1. */
struct sys_change {
	enum sys_call call;
	int           fd, fd2;       /* dir or file; destination dir */
	const char   *path, *path2;
	const void   *data;
	size_t        len;
	int64_t       offset;        /* -1: at the file position */
	int64_t       result;        /* a new descriptor, bytes written, 0 */
	unsigned      flags;
	mode_t        mode;
};

typedef void (*sys_observe_fn)(const struct sys_change *c, void *ud);

/* NULL ends it. One observer at a time. */
void sys_observe(sys_observe_fn fn, void *ud);

/* For the wrappers of this folder only. */
int     sys__fault(enum sys_call call);               /* 0 or -errno */
void    sys__note(const struct sys_change *c);
bool    sys__observed(void);

/* -errno for -1. */
int     sys__ret(int r);
ssize_t sys__retn(ssize_t r);

#endif
