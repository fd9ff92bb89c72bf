/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A process in other namespaces: some made for it, some joined.
 *
 * One clone3() does it wherever the kernel allows that. What must be entered before a new
 * namespace can be made there (a user namespace joined by path, a pid namespace from
 * outside) needs a process in between, which ends at once: its child is ours all the same
 * (CLONE_PARENT).
 *
 * The order in the new process: conf->early; id mappings are written; its cgroups are joined; namespaces
 * by path, in the caller's user namespace where that is possible; then the cgroup and time
 * namespaces are made; then it is uid 0, gid 0 of a user namespace.
 *
 *	struct spawn_conf conf = SPAWN_CONF_INIT;
 *	struct spawned child = SPAWNED_INIT;
 *	pid_t pid = spawn(&conf, &child, e);
 *	if (pid == 0)
 *		... the child; never returns, and reports through msg_send(child.sync_fd, ...)
 *	if (pid > 0)
 *		... the parent
 *
 * Context: one thread. Not dumpable (the caller sees to it), so that nothing inside the
 * namespaces can reach what the new process still holds of the host.
 */
#ifndef CONTAINER_SPAWN_H
#define CONTAINER_SPAWN_H

#include "container/cgroup.h"
#include "oci/spec.h"

struct spawn_conf {
	uint64_t                make;                 /* CLONE_NEW*: to make */
	int                     join[OCI_NS__COUNT];  /* namespace files to join; -1: none */
	int                     target_pidfd;         /* a process ... or -1 */
	uint64_t                target_ns;            /* ... and those of its namespaces to join */
	const struct oci_linux *linux;                /* mappings, offsets; NULL: none */
	const struct cgroup    *cgroup;               /* NULL: none to join */
	/*
	 * Called in the parent with the new process's pid while that waits, if `hold` is set;
	 * else while it runs on.
	 */
	int                   (*on_pid)(void *ud, pid_t pid, struct err *e);
	void                   *ud;
	bool                    hold;
	/*
	 * Called in the new process before it waits for that: what needs neither its cgroups
	 * nor its ids, and can be done while the parent makes them. NULL: nothing.
	 */
	int                   (*early)(void *ud, struct err *e);
	/*
	 * For a process that joins: called once the mount namespace is joined, before anything
	 * inside can see the new process; to close what it does not need. NULL: it is seen
	 * from its first moment, with all that it still has of the host. Being undumpable
	 * keeps that from everyone but CAP_SYS_PTRACE of our own user namespace.
	 */
	int                   (*shed)(void *ud, int sync_fd);
};

#define SPAWN_CONF_INIT { .join = { -1, -1, -1, -1, -1, -1, -1, -1 }, .target_pidfd = -1 }

struct spawned {
	pid_t pid;       /* 0 in the child */
	int   pidfd;     /* -1 in the child */
	int   sync_fd;   /* this end of a SOCK_SEQPACKET pair between both */
	bool  may_setgroups; /* in the child: false where the user namespace denies it */
};

#define SPAWNED_INIT { .pid = 0, .pidfd = -1, .sync_fd = -1 }

/* The CLONE_NEW* flag of a kind of namespace. */
uint64_t ns_clone_flag(enum oci_ns ns);

/*
 * Open what a config wants to join and collect what it wants made. Each file is checked to
 * be a namespace of its kind. The descriptors of conf->join are the caller's
 * (spawn_conf_fini()).
 */
int  spawn_conf_from(const struct oci_linux *l, struct spawn_conf *conf, struct err *e) must_check;
void spawn_conf_fini(struct spawn_conf *conf);

/* Returns the pid in the parent, 0 in the child, -errno with nothing left behind. */
pid_t spawn(const struct spawn_conf *conf, struct spawned *ret, struct err *e);

/* In the parent: kill the process, thawing it if need be, and reap it. */
void spawn_kill(struct spawned *s, struct cgroup *cg);
void spawned_fini(struct spawned *s);

/* Between the two. A message says where the sender has come to, or why it fails. */
enum msg_kind {
	MSG_GO,        /* parent: go on */
	MSG_PID,       /* process in between: the pid of its child */
	MSG_HOOKS,     /* child: the tree is mounted; run the runtime's hooks */
	MSG_READY,     /* child: waits for start */
	MSG_EXECUTED,  /* (never sent: what the end of the stream means) */
	MSG_FAILED,    /* child: *e */
	MSG__COUNT,
};

struct msg {
	enum msg_kind kind;
	pid_t         pid;
	struct err    err;
};

int msg_send(int fd, enum msg_kind kind) must_check;
int msg_send_pid(int fd, pid_t pid) must_check;
void msg_send_err(int fd, const struct err *e);

/* An error that came from the other side, made fit to be used; returns -e->errnum. */
int msg_take_err(const struct err *theirs, struct err *e) must_check;

/*
 * Wait for one kind of message. Another one is an error; MSG_FAILED hands its error back.
 * Returns 1; 0 if the other end is gone and `eof_ok`; -errno.
 */
int msg_wait(int fd, enum msg_kind kind, bool eof_ok, struct msg *ret, struct err *e) must_check;

#endif
