/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The wall around the monitor's process (docs/security.md, virtual machines). Two steps:
 *
 *	status = jail_run(&conf, monitor_main, ud, e);   // own uid, empty namespaces
 *	...                                              // there: make the machine, load the kernel
 *	r = jail_seal(e);                                // no files any more
 *	r = jail_files(largest, e);                      // those that are open stay small
 *	r = jail_filter(JAIL_LOOP, devices, n, e);       // each thread its own calls
 *
 * What each step takes away is in tables (jail_namespaces, jail_limits, jail_calls), in the
 * order in which it is done; a test holds a running process against them.
 *
 * After jail_run()'s step the process has its own uid, no capability, no new privileges, and
 * namespaces (user, pid, net, mount, ipc, uts) with nothing in them: no file but those that
 * were open, no interface, no other process. After jail_seal() Landlock refuses every path,
 * also those below open folders.
 */
#ifndef VM_JAIL_H
#define VM_JAIL_H

#include <sys/types.h>

#include "base/err.h"

struct jail_conf {
	bool  confined;      /* false: only for work on the monitor itself */
	uid_t uid;           /* that it runs as; ours if we are not root */
	gid_t gid;
};

/*
 * Run fn as the first process of new namespaces, and wait for it. SIGTERM is passed on. Returns
 * its exit status, 128 + signal, or -errno if it could not be started.
 *
 * Context: a process with one thread that may be given up: its own rights go, too.
 */
int jail_run(const struct jail_conf *conf, int (*fn)(void *ud), void *ud, struct err *e) must_check;

/*
 * Landlock, on top: nothing of any file system. Of the calling thread and those it makes; a
 * thread that was there before asks for itself.
 */
int jail_seal(struct err *e) must_check;

/* No file that is open can be made longer than that. Writing more is an error, no signal. */
int jail_files(uint64_t most_bytes, struct err *e) must_check;

/* Kinds of threads. */
enum jail_thread {
	JAIL_LOOP,      /* devices, control socket */
	JAIL_VCPU,
	JAIL_WORKER,    /* makes blocking calls on files for a device */
	JAIL_HELPER,    /* writes half of a snapshot's memory */
	JAIL_THREAD__COUNT,
};

struct vdev_desc;

/*
 * From now on the calling thread (and those it makes) may make only the calls of its table, and
 * those that the devices which it owns name in theirs; any other ends the process. Threads but
 * the loop's get the kind's name.
 *
 * @devices  n of them; NULL entries are skipped
 */
int jail_filter(enum jail_thread kind, const struct vdev_desc *const *devices, size_t n,
		struct err *e) must_check;

/* --- The tables --- */

struct jail_calls {
	const char *name;
	const int  *calls;
	size_t      n;
};

extern const struct jail_calls jail_calls[JAIL_THREAD__COUNT];

/* A request of ioctl() that a kind of thread may make: (request & mask) == value. */
struct jail_ioctl {
	enum jail_thread thread;
	uint32_t         value, mask;
};

#define JAIL_IOCTL_TYPE UINT32_C(0xff00)

extern const struct jail_ioctl jail_ioctls[];
extern const size_t jail_ioctls_len;

struct jail_limit {
	int      resource;
	uint64_t most;
	const char *name;
};

extern const struct jail_limit jail_limits[];
extern const size_t jail_limits_len;

struct jail_namespace {
	const char *name;   /* below /proc/PID/ns */
	int         flag;   /* CLONE_NEW* */
};

extern const struct jail_namespace jail_namespaces[];
extern const size_t jail_namespaces_len;

#endif
