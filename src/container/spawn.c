/* SPDX-License-Identifier: Apache-2.0 */
#include "container/spawn.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/nsfs.h>
#include <stdio.h>
#include <sys/prctl.h>
#include <unistd.h>

#include "base/fd.h"
#include "container/userns.h"
#include "sys/file.h"
#include "sys/proc.h"
#include "sys/socket.h"

/* In the order in which they are joined: the mount namespace last, as it takes /proc away. */
static const struct {
	enum oci_ns ns;
	uint64_t    flag;
} ns_flags[] = {
	{ OCI_NS_USER,    CLONE_NEWUSER },
	{ OCI_NS_CGROUP,  CLONE_NEWCGROUP },
	{ OCI_NS_IPC,     CLONE_NEWIPC },
	{ OCI_NS_UTS,     CLONE_NEWUTS },
	{ OCI_NS_NETWORK, CLONE_NEWNET },
	{ OCI_NS_PID,     CLONE_NEWPID },
	{ OCI_NS_TIME,    CLONE_NEWTIME },
	{ OCI_NS_MOUNT,   CLONE_NEWNS },
};

/* Made by unshare() in the child: their content depends on where it is by then. */
#define LATE_NS ((uint64_t)CLONE_NEWCGROUP | CLONE_NEWTIME)

uint64_t ns_clone_flag(enum oci_ns ns)
{
	for (size_t i = 0; i < ARRAY_LEN(ns_flags); i++) {
		if (ns_flags[i].ns == ns) {
			return ns_flags[i].flag;
		}
	}
	return 0;
}

static int open_ns(const struct oci_namespace *n, size_t index, int *ret_fd, struct err *e)
{
	char field[64];
	auto_close int fd = sys_openat(AT_FDCWD, n->path, O_RDONLY, 0);

	snprintf(field, sizeof(field), "/linux/namespaces/%zu/path", index);
	if (fd < 0) {
		int r = err_set(e, -fd, ERR_HOST, "cannot open the %s namespace %s",
				oci_ns_names[n->type], n->path);

		err_prefix_field(e, field);
		return r;
	}

	int type = sys_ioctl(fd, NS_GET_NSTYPE, NULL);

	if (type < 0 || (uint64_t)(unsigned)type != ns_clone_flag((enum oci_ns)n->type)) {
		return err_field(e, field, "%s is no %s namespace", n->path, oci_ns_names[n->type]);
	}
	*ret_fd = take_fd(&fd);
	return 0;
}

int spawn_conf_from(const struct oci_linux *l, struct spawn_conf *conf, struct err *e)
{
	const struct oci_namespace *n = l ? l->namespaces.v : NULL;

	conf->linux = l;
	for (size_t i = 0; l && i < l->namespaces.n; i++) {
		if (!n[i].path || !*n[i].path) {
			conf->make |= ns_clone_flag((enum oci_ns)n[i].type);
			continue;
		}
		int r = open_ns(&n[i], i, &conf->join[n[i].type], e);

		if (r < 0) {
			return r;
		}
	}
	return 0;
}

void spawn_conf_fini(struct spawn_conf *conf)
{
	for (size_t i = 0; i < OCI_NS__COUNT; i++) {
		fd_close(&conf->join[i]);
	}
}

static int join_one(const struct spawn_conf *c, size_t i, struct err *e)
{
	int r = sys_setns(c->join[ns_flags[i].ns], (int)ns_flags[i].flag);

	return r < 0 ? err_set(e, -r, ERR_HOST, "cannot join the %s namespace",
			       oci_ns_names[ns_flags[i].ns])
		     : 0;
}

/*
 * Join everything that has a path. Namespaces that belong to the caller's user namespace can
 * only be joined from there, those of the joined one only after it: try, join it, try again.
 */
static int join_paths(const struct spawn_conf *c, bool with_pid, struct err *e)
{
	bool has_user = c->join[OCI_NS_USER] >= 0;
	bool done[ARRAY_LEN(ns_flags)] = { false };

	for (size_t i = 0; i < ARRAY_LEN(ns_flags); i++) {
		done[i] = c->join[ns_flags[i].ns] < 0 || (ns_flags[i].ns == OCI_NS_PID && !with_pid);
		if (done[i] || ns_flags[i].ns == OCI_NS_USER) {
			continue;
		}
		done[i] = join_one(c, i, e) == 0;
		if (!done[i] && !has_user) {
			return -e->errnum;
		}
		err_clear(e);
	}
	for (size_t i = 0; i < ARRAY_LEN(ns_flags); i++) {
		int r = done[i] ? 0 : join_one(c, i, e);

		if (r < 0) {
			return r;
		}
	}
	return 0;
}

static int join_target(const struct spawn_conf *c, uint64_t flags, struct err *e)
{
	int r = flags ? sys_setns(c->target_pidfd, (int)flags) : 0;

	return r < 0 ? err_set(e, -r, ERR_HOST, "cannot join the container's namespaces") : 0;
}

static int write_offsets(const struct oci_linux *l, struct err *e)
{
	auto_buf struct buf b = BUF_INIT;
	const struct oci_time_offset *o = l->time_offsets.v;

	for (size_t i = 0; i < l->time_offsets.n; i++) {
		buf_printf(&b, "%s %lld %llu\n", l->time_offsets.keys[i], (long long)o[i].secs,
			   (unsigned long long)o[i].nanosecs);
	}
	if (buf_failed(&b)) {
		return err_nomem(e);
	}

	int r = b.len ? sys_write_file(AT_FDCWD, "/proc/self/timens_offsets", b.data, b.len) : 0;

	return r < 0 ? err_set(e, -r, ERR_HOST, "cannot set /linux/timeOffsets") : 0;
}

/* The namespaces that are made from inside. A time namespace is entered by joining it. */
static int make_late(const struct spawn_conf *c, struct err *e)
{
	uint64_t flags = c->make & LATE_NS;
	int r = flags ? sys_unshare((int)flags) : 0;

	if (r < 0) {
		return err_set(e, -r, ERR_HOST, "cannot make the %s namespace",
			       flags & CLONE_NEWTIME ? "cgroup or time" : "cgroup");
	}
	if (!(flags & CLONE_NEWTIME)) {
		return 0;
	}
	r = write_offsets(c->linux, e);
	if (r < 0) {
		return r;
	}

	auto_close int fd = sys_openat(AT_FDCWD, "/proc/self/ns/time_for_children", O_RDONLY, 0);

	r = fd < 0 ? fd : sys_setns(fd, CLONE_NEWTIME);
	return r < 0 ? err_set(e, -r, ERR_HOST, "cannot enter the time namespace") : 0;
}

static bool has_id0(const struct jvec *maps)
{
	uint64_t host;

	return userns_to_host(maps, 0, &host) == 0;
}

/* Inside a user namespace that was made or joined: its root. */
static int become_root(const struct spawn_conf *c, struct err *e)
{
	bool made = (c->make & CLONE_NEWUSER) != 0;

	if (!made && c->join[OCI_NS_USER] < 0 && !(c->target_ns & CLONE_NEWUSER)) {
		return 0;
	}
	if (made && !(has_id0(&c->linux->uid_mappings) && has_id0(&c->linux->gid_mappings))) {
		return err_field(e, "/linux/uidMappings",
				 "id 0 of the container must be mapped (uid and gid): it is needed "
				 "to make the container's file system");
	}
	int r = sys_setresgid(0, 0, 0);

	r = r < 0 ? r : sys_setresuid(0, 0, 0);
	return r < 0 ? err_set(e, -r, ERR_HOST, "cannot become root of the user namespace") : 0;
}

static bool setgroups_allowed(void)
{
	auto_buf struct buf b = BUF_INIT;

	return sys_read_file(AT_FDCWD, "/proc/self/setgroups", 64, &b) < 0 ||
	       !str_after(buf_str(&b), "deny");
}

/* The last steps of the new process. `joined`: what is joined has been joined. */
static int settle(const struct spawn_conf *c, bool joined, bool wait, struct spawned *me,
		  struct err *e)
{
	int r = c->early ? c->early(c->ud, e) : 0;
	bool in_userns = (c->make & CLONE_NEWUSER) || c->join[OCI_NS_USER] >= 0 ||
			 (c->target_ns & CLONE_NEWUSER);

	if (r >= 0 && wait) {
		r = msg_wait(me->sync_fd, MSG_GO, false, NULL, e);
	}
	if (r >= 0 && !joined && c->cgroup) {
		r = cgroup_join_self(c->cgroup, cgroup_fd(c->cgroup) >= 0);
		r = r < 0 ? err_set(e, -r, ERR_HOST, "cannot join the container's cgroup") : 0;
	}
	if (r >= 0 && !joined) {
		r = join_target(c, c->target_ns & ~(uint64_t)CLONE_NEWPID, e);
		r = r < 0 ? r : join_paths(c, false, e);
	}
	/* With a target, /proc is the container's by now, and the caller knows. */
	me->may_setgroups = !in_userns || c->target_pidfd >= 0 || setgroups_allowed();
	r = r < 0 ? r : make_late(c, e);
	r = r < 0 ? r : become_root(c, e);
	if (r >= 0) {
		/* A rootless caller stayed dumpable so that its ids could be mapped. */
		r = sys_prctl(PR_SET_DUMPABLE, 0, 0, 0, 0);
		r = r < 0 ? err_set(e, -r, ERR_HOST, "cannot become undumpable") : 0;
	}
	return r < 0 ? r : 0;
}

static noreturn_fn void fail(int sync_fd, const struct err *e)
{
	msg_send_err(sync_fd, e);
	_exit(1);
}

/* The pid namespace for children of this process, and back. */
static int enter_pidns(const struct spawn_conf *c, int *ret_own, struct err *e)
{
	auto_close int own = -1;
	int r = 0;

	if (c->target_pidfd < 0 || !(c->target_ns & CLONE_NEWPID)) {
		return 0;
	}
	own = sys_openat(AT_FDCWD, "/proc/self/ns/pid", O_RDONLY, 0);
	r = own < 0 ? own : sys_setns(c->target_pidfd, CLONE_NEWPID);
	if (r < 0) {
		return err_set(e, -r, ERR_HOST, "cannot join the container's pid namespace");
	}
	*ret_own = take_fd(&own);
	return 0;
}

static int leave_pidns(int own, struct err *e)
{
	int r = own >= 0 ? sys_setns(own, CLONE_NEWPID) : 0;

	return r < 0 ? err_set(e, -r, ERR_HOST, "cannot return to the own pid namespace") : 0;
}

/*
 * In between: join first, then make the rest for a sibling. Its end of the pair goes on to
 * that sibling.
 */
static void middle(const struct spawn_conf *c, struct spawned *me)
{
	struct err e = ERR_INIT;
	int r = 0;

	if (c->cgroup) {
		r = cgroup_join_self(c->cgroup, cgroup_fd(c->cgroup) >= 0);
		r = r < 0 ? err_set(&e, -r, ERR_HOST, "cannot join the container's cgroup") : 0;
	}
	r = r < 0 ? r : join_target(c, c->target_ns, &e);
	r = r < 0 ? r : join_paths(c, true, &e);
	if (r == 0 && c->shed) {
		r = c->shed(c->ud, me->sync_fd);
		r = r < 0 ? err_set(&e, -r, ERR_HOST, "cannot close what is not the container's") : 0;
	}
	if (r < 0) {
		fail(me->sync_fd, &e);
	}

	pid_t pid = sys_clone3((c->make & ~LATE_NS) | CLONE_PARENT, -1, NULL);

	if (pid == 0) {
		return;
	}
	if (pid < 0) {
		ignore_result(err_set(&e, -pid, ERR_HOST, "cannot make the namespaces")); /* sent */
		fail(me->sync_fd, &e);
	}
	_exit(msg_send_pid(me->sync_fd, pid) < 0 ? 1 : 0);
}

static bool needs_middle(const struct spawn_conf *c)
{
	bool any = false;

	if (c->shed || c->join[OCI_NS_PID] >= 0 || c->join[OCI_NS_USER] >= 0 ||
	    ((c->target_ns & CLONE_NEWUSER) && geteuid() != 0)) {
		return true;
	}
	for (size_t i = 0; i < OCI_NS__COUNT; i++) {
		any |= c->join[i] >= 0;
	}
	return any && (c->make & CLONE_NEWUSER);
}

/* The parent's half after the clone. */
static int direct(const struct spawn_conf *c, struct spawned *s, bool holds, struct err *e)
{
	bool setgroups = true;
	int r = c->on_pid ? c->on_pid(c->ud, s->pid, e) : 0;

	if (r == 0 && (c->make & CLONE_NEWUSER)) {
		r = userns_write_maps(s->pid, c->linux, &setgroups, e);
	}
	if (r == 0 && holds) {
		r = msg_send(s->sync_fd, MSG_GO);
		if (r < 0) {
			/* It may have told why it is gone. */
			int q = msg_wait(s->sync_fd, MSG__COUNT, false, NULL, e);

			return q < 0 ? q : -EPIPE;
		}
	}
	return r;
}

/* The same with a process in between, which is `s` until it has told its sibling's pid. */
static int indirect(const struct spawn_conf *c, struct spawned *s, struct err *e)
{
	struct msg m = { .pid = 0 };
	int r = msg_wait(s->sync_fd, MSG_PID, false, &m, e);

	if (r < 0) {
		return r;
	}
	r = sys_waitid(P_PIDFD, (id_t)s->pidfd, NULL, WEXITED);
	fd_close(&s->pidfd);
	s->pid = m.pid;
	/* It is our child and not reaped, so the pid is still its. */
	s->pidfd = r < 0 ? r : sys_pidfd_open(m.pid, 0);
	if (s->pidfd < 0) {
		r = s->pidfd;
		s->pidfd = -1;
		ignore_result(sys_kill(m.pid, SIGKILL)); /* the error counts */
		ignore_result(sys_waitid(P_PID, (id_t)m.pid, NULL, WEXITED)); /* the same */
		s->pid = 0;
		return err_set(e, -r, ERR_HOST, "cannot hold the container's process");
	}
	return direct(c, s, true, e);
}

pid_t spawn(const struct spawn_conf *c, struct spawned *ret, struct err *e)
{
	bool mid = needs_middle(c);
	bool holds = c->hold || (c->make & CLONE_NEWUSER);
	struct spawned s = SPAWNED_INIT;
	auto_close int own_pidns = -1;
	int pair[2];
	int r = sys_socketpair(SOCK_SEQPACKET, pair);

	if (r < 0) {
		return err_set(e, -r, ERR_HOST, "cannot make a socket pair");
	}

	auto_close int child_fd = pair[1];

	s.sync_fd = pair[0];
	/* Nothing inside may look at, or stop, what comes in with the host's descriptors. The
	 * mapping of ids by a caller without privileges needs the child's files in /proc to be
	 * the caller's: that one becomes undumpable later. */
	if (geteuid() == 0 || !(c->make & CLONE_NEWUSER)) {
		r = sys_prctl(PR_SET_DUMPABLE, 0, 0, 0, 0);
		r = r < 0 ? err_set(e, -r, ERR_HOST, "cannot become undumpable") : 0;
	}
	r = mid || r < 0 ? r : enter_pidns(c, &own_pidns, e);
	if (r < 0) {
		spawned_fini(&s);
		return r;
	}
	s.pid = sys_clone3(mid ? 0 : c->make & ~LATE_NS, c->cgroup ? cgroup_fd(c->cgroup) : -1,
			   &s.pidfd);
	if (s.pid == 0) {
		fd_close(&s.sync_fd);
		s.sync_fd = take_fd(&child_fd);
		if (mid) {
			middle(c, &s);
		}
		r = settle(c, mid, mid || holds, &s, e);
		if (r < 0) {
			fail(s.sync_fd, e);
		}
		s.pidfd = -1;
		*ret = s;
		return 0;
	}
	r = s.pid < 0 ? err_set(e, -s.pid, ERR_HOST, "cannot make the container's process") : 0;
	if (s.pid < 0) {
		s.pid = 0;
	}
	fd_close(&child_fd);
	if (r == 0) {
		r = leave_pidns(own_pidns, e);
		r = r < 0 ? r : mid ? indirect(c, &s, e) : direct(c, &s, holds, e);
	}
	if (r < 0) {
		spawn_kill(&s, NULL);
		spawned_fini(&s);
		return r;
	}
	*ret = s;
	return s.pid;
}

void spawn_kill(struct spawned *s, struct cgroup *cg)
{
	struct err ignored = ERR_INIT;

	if (s->pidfd < 0 || s->pid <= 0) {
		return;
	}
	if (cg) {
		ignore_result(cgroup_thaw(cg, &ignored)); /* nothing that is frozen dies */
	}
	/* Not reaped, so the pid is its still: a second way, should the first one fail. */
	if (sys_pidfd_send_signal(s->pidfd, SIGKILL) < 0) {
		ignore_result(sys_kill(s->pid, SIGKILL)); /* it may be gone */
	}
	if (sys_waitid(P_PIDFD, (id_t)s->pidfd, NULL, WEXITED) < 0) {
		ignore_result(sys_waitid(P_PID, (id_t)s->pid, NULL, WEXITED)); /* the same */
	}
	s->pid = 0;
}

void spawned_fini(struct spawned *s)
{
	fd_close(&s->pidfd);
	fd_close(&s->sync_fd);
}
