/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The cgroups of one container: one group in every hierarchy that the host has mounted.
 *
 * Three kinds of host are real: v1 (a hierarchy a controller), hybrid (v1 controllers and a
 * v2 tree beside them) and v2. The caller need not know which one it is on:
 *
 *	struct cgroup_conf conf = { .path = spec->cgroups_path, .id = id };
 *	auto_(cgroup_freep) struct cgroup *cg = NULL;
 *
 *	r = cgroup_open(&conf, &cg, e);                  // decides the paths, makes nothing
 *	if (!cgroup_needs_pid(cg))
 *		r = cgroup_create(cg, 0, resources, e);  // makes the groups, sets the limits
 *	...  clone3(CLONE_INTO_CGROUP, .cgroup = cgroup_fd(cg)) if cgroup_fd(cg) >= 0
 *	...  first thing in the child, still single-threaded, with its first credentials and
 *	     before it unshares its cgroup namespace:  r = cgroup_join_self(cg, cloned);
 *	if (cgroup_needs_pid(cg))                        // systemd makes a scope of a process
 *		r = cgroup_create(cg, child, resources, e); // while the child waits
 *	...  state.json: cgroup_save(cg); another process later: cgroup_load()
 *	...  all processes dead or to die: cgroup_delete(cg, e)
 *
 * Joining is split this way for its cost: a write to a v1 `cgroup.procs` waits for a grace
 * period (5 to 8 ms after some quiet), a single-threaded process that writes itself to
 * `tasks` does not; CLONE_INTO_CGROUP exists for v2 only. cgroup_join_self() does nothing
 * where the clone has already done all, so call it always.
 *
 * A rootless caller that may not make groups gets none, and an error only if it asked for
 * resources. A struct cgroup is used by one thread; it may be inherited across fork.
 *
 * Descriptors: all are close-on-exec; the open ones are those of the roots and cgroup_fd().
 * Never hand one to a container: close them (or exec) before its code runs.
 *
 * Spec: oci-runtime 1.3, config-linux.md, Control groups
 */
#ifndef CONTAINER_CGROUP_H
#define CONTAINER_CGROUP_H

#include <sys/types.h>

#include "base/err.h"
#include "json/table.h"

struct cgroup;
struct cgroup_host;
struct cgroup_manager;
struct oci_resources;

enum cgroup_mode {
	CGROUP_NONE,    /* no hierarchy mounted */
	CGROUP_V1,
	CGROUP_HYBRID,  /* v1 controllers, and a v2 tree that cgroup_fd() is of */
	CGROUP_V2,
	CGROUP_MODE__COUNT,
};

extern const char *const cgroup_mode_names[CGROUP_MODE__COUNT];

struct cgroup_conf {
	/*
	 * linux.cgroupsPath; NULL or "" for the default. For cgroupfs: absolute is below the
	 * hierarchies' mount points, relative below the caller's own group (on v2: beside
	 * it), default is the id. With systemd: "slice:prefix:name".
	 */
	const char                  *path;
	const char                  *id;        /* of the container */
	bool                         rootless;  /* groups are best effort */
	const struct cgroup_manager *manager;   /* NULL: cgroupfs; &cgroup_systemd */
	const struct jmap           *annotations; /* org.systemd.property.*; may be NULL */
	struct cgroup_host          *host;      /* for tests; NULL: this host */
};

/* The manager for --systemd-cgroup (container/cgroup-systemd.c, which holm-init leaves out). */
extern const struct cgroup_manager cgroup_systemd;

/*
 * Decide the groups of a container. Makes nothing. What conf points to is copied.
 */
int cgroup_open(const struct cgroup_conf *conf, struct cgroup **ret, struct err *e) must_check;
struct cgroup *cgroup_free(struct cgroup *cg);   /* the groups stay; returns NULL */
AUTO_PTR(struct cgroup, cgroup_free)

enum cgroup_mode cgroup_mode(const struct cgroup *cg);

/* True where cgroup_create() must be given the pid of a process that then waits for it. */
bool cgroup_needs_pid(const struct cgroup *cg);

/*
 * Make the groups and set the limits. Groups that exist already are used, but one with
 * processes in it is refused with ERR_CONFLICT, as is a frozen one. On failure what was
 * made is removed again.
 *
 * @pid   0, or a process to move in (slower); required if cgroup_needs_pid()
 * @res   linux.resources; NULL for none. Device rules apply also when NULL: everything but
 *        the default devices of the specification is denied.
 */
int cgroup_create(struct cgroup *cg, pid_t pid, const struct oci_resources *res,
		  struct err *e) must_check;

/*
 * Before cgroup_create(), without a manager: the v2 group alone. A process can be cloned into
 * it, and wait there while cgroup_create() makes the rest. What is made by one of the two that
 * fails is removed by cgroup_abandon(), once that process is gone.
 */
int  cgroup_create_v2(struct cgroup *cg, struct err *e) must_check;
void cgroup_abandon(struct cgroup *cg);

/* The v2 group for CLONE_INTO_CGROUP, or -1. Stays owned by cg. */
int cgroup_fd(const struct cgroup *cg);

/*
 * Move the calling single-threaded process into the groups in which CLONE_INTO_CGROUP
 * cannot have put it: all of v1, and v2 too unless `cloned` says that it was cloned there.
 * Allocates nothing: safe between clone and exec. 0 or -errno.
 */
int cgroup_join_self(const struct cgroup *cg, bool cloned) must_check;

/* Move another process, with its threads. */
int cgroup_add_pid(const struct cgroup *cg, pid_t pid, struct err *e) must_check;

/*
 * For a process that joins a running container (exec). Afterwards cgroup_fd(),
 * cgroup_join_self() and cgroup_add_pid() of *ret lead to `sub` below the container's
 * groups (exec --cgroup; NULL or "": the groups themselves). Where the v2 group is an inner
 * node and so takes no processes (a systemd in the container has made sub-groups), the group
 * of `init` is taken, if it lies below. Free with cgroup_free().
 */
int cgroup_for_exec(const struct cgroup *cg, pid_t init, const char *sub, struct cgroup **ret,
		    struct err *e) must_check;

/*
 * Whether a process that joins is to be moved by cgroup_attach(), not by itself: a user may
 * write into a group of the user's own systemd, and yet not move a process there from a group
 * outside of it, such as that of a login. That systemd may.
 */
bool cgroup_needs_attach(const struct cgroup *cg);

/*
 * Move a process that waits.
 *
 * @cg    the container's
 * @to    of it, by cgroup_for_exec()
 */
int cgroup_attach(struct cgroup *cg, const struct cgroup *to, pid_t pid, struct err *e) must_check;

/* Change limits of a running container. Members that are absent in `res` stay as they are. */
int cgroup_update(struct cgroup *cg, const struct oci_resources *res, struct err *e) must_check;

/*
 * Give the v2 group to a user, as the specification's "Cgroup ownership" says: the folder
 * and the files of /sys/kernel/cgroup/delegate. v1 groups are never given (not secure),
 * but for the named systemd hierarchy, which holds no controller and which a systemd in a
 * container with a user namespace needs. Call after cgroup_create().
 */
int cgroup_delegate(const struct cgroup *cg, uid_t uid, gid_t gid, struct err *e) must_check;

/* Stop and continue all processes below the groups. Thawing what runs is no error. */
int cgroup_freeze(struct cgroup *cg, struct err *e) must_check;
int cgroup_thaw(struct cgroup *cg, struct err *e) must_check;

/* 1 if frozen (or freezing), 0 if not, -errno. */
int cgroup_frozen(const struct cgroup *cg) must_check;

/*
 * Send a signal to every process below the groups, also to those forked meanwhile. SIGKILL
 * thaws first in every hierarchy, so that nothing frozen stays behind.
 */
int cgroup_kill(struct cgroup *cg, int sig, struct err *e) must_check;

/* Whether any of the groups exists. */
bool cgroup_exists(const struct cgroup *cg);

/* Ids, in the caller's pid namespace, of all processes below the groups. free(ret->v). */
struct cgroup_pids {
	pid_t *v;
	size_t n;
};
int cgroup_pids(const struct cgroup *cg, struct cgroup_pids *ret, struct err *e) must_check;

/*
 * Remove the groups and all groups below them. Waits up to about two seconds for dying
 * processes; 0 if there is nothing. ERR_CONFLICT if live processes are left.
 */
int cgroup_delete(struct cgroup *cg, struct err *e) must_check;

/*
 * For state.json: an object; NULL when memory is out. cgroup_load() trusts it as far as the
 * folder that it was read from, yet checks its paths.
 */
json_t *cgroup_save(const struct cgroup *cg) must_check;
int cgroup_load(const json_t *state, struct cgroup **ret, struct err *e) must_check;

/* The group of one v1 controller, or of the v2 tree (NULL or ""), as an absolute path below
 * /sys/fs/cgroup; NULL if the container has none. Valid as long as cg. */
const char *cgroup_path(const struct cgroup *cg, const char *controller);

/*
 * One mounted hierarchy, for whoever makes /sys/fs/cgroup inside a container: for i = 0 ...
 * until it returns false. `dir` names it below /sys/fs/cgroup ("cpu,cpuacct", "unified",
 * "systemd"; "" for the root of a v2 host); `group` is the container's group below it,
 * beginning with '/' (the caller's own where the container has none); `v1_name` is what a v1
 * mount takes as its options ("cpu,cpuacct", "name=systemd"), NULL for v2.
 */
struct cgroup_hier {
	const char *dir, *group, *v1_name;
	int         root_fd;   /* of the hierarchy's root; O_PATH, owned by cg */
};
bool cgroup_hier(const struct cgroup *cg, unsigned i, struct cgroup_hier *ret);

/*
 * A descriptor that becomes readable when the container runs out of memory (an eventfd on
 * v1, inotify on v2), also when the group goes away. The caller owns it and, once it is
 * readable, calls cgroup_oom_read(): 1 for an out-of-memory event, 0 for none (spurious),
 * -ENODEV when the group is gone.
 */
int cgroup_oom_open(struct cgroup *cg, int *ret_fd, struct err *e) must_check;
int cgroup_oom_read(struct cgroup *cg, int fd) must_check;

/* How many processes the kernel has killed for memory in the container so far. */
uint64_t cgroup_oom_kills(const struct cgroup *cg);

/*
 * What `events --stats` prints as "data": an object as runc prints it. NULL with *e set on
 * failure. See container/cgroup-stats.h for the struct behind it.
 */
json_t *cgroup_stats_json(const struct cgroup *cg, struct err *e) must_check;

#endif
