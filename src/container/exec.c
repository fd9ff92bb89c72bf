/* SPDX-License-Identifier: Apache-2.0 */
/* One more process in a running container. */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <unistd.h>

#include "base/fd.h"
#include "container/container.h"
#include "container/hooks.h"
#include "container/process.h"
#include "container/pty.h"
#include "sys/file.h"
#include "sys/mount.h"
#include "sys/proc.h"
#include "sys/socket.h"

struct exec {
	const struct record    *rec;
	const struct exec_opts *o;
	struct process          process;
	struct seccomp_filter   filter;
	struct seccomp_handoff  handoff;
	struct spawn_conf       spawn;
	struct spawned          child;
	struct cgroup          *cgroup;
	int                     pidfd;       /* of the container's first process */
	int                     root_fd;     /* its root, where it has no mount namespace; or -1 */
	int                     console[2];
	bool                    has_userns;
	bool                    attaches;    /* systemd moves the process into the cgroup */
};

static void exec_fini(struct exec *x)
{
	seccomp_filter_fini(&x->filter);
	seccomp_handoff_fini(&x->handoff);
	x->cgroup = cgroup_free(x->cgroup);
	fd_close(&x->pidfd);
	fd_close(&x->root_fd);
	fd_close(&x->console[0]);
	fd_close(&x->console[1]);
}

static int check_status(const struct record *rec, const struct exec_opts *o, struct err *e)
{
	switch (record_status(rec)) {
	case STATUS_PAUSED:
		return o->ignore_paused ? 0
			: err_set(e, EBUSY, ERR_CONFLICT, "cannot exec in a paused container (use "
				  "--ignore-paused to override)");
	case STATUS_STOPPED:
		return err_set(e, ESRCH, ERR_CONFLICT, "cannot exec in a stopped container");
	case STATUS_CREATING:
		return err_set(e, EBUSY, ERR_CONFLICT, "cannot exec in a container that is being "
			       "created");
	case STATUS_CREATED:
	case STATUS_RUNNING:
	case STATUS__COUNT:
		break;
	}
	return 0;
}

/* Whether the container's user namespace lets groups be set. */
static bool may_setgroups(pid_t pid)
{
	auto_buf struct buf b = BUF_INIT;
	char path[48];

	snprintf(path, sizeof(path), "/proc/%d/setgroups", (int)pid);
	return sys_read_file(AT_FDCWD, path, 64, &b) < 0 || !str_after(buf_str(&b), "deny");
}

static int check_process(const struct exec_opts *o, struct err *e)
{
	const struct oci_process *p = o->process;

	if (p->args.n == 0 || !*p->args.v[0]) {
		return err_field(e, "/args", "exec needs a program");
	}
	if (!p->cwd || *p->cwd != '/') {
		return err_field(e, "/cwd", "must be an absolute path");
	}
	if (p->terminal && o->detach && !o->console_socket) {
		return err_set(e, EINVAL, ERR_INVALID,
			       "cannot allocate tty if holm-oci will detach without setting console "
			       "socket; use --console-socket");
	}
	if (o->console_socket && !p->terminal) {
		return err_set(e, EINVAL, ERR_INVALID,
			       "a console socket needs --tty or process.terminal");
	}
	return attrs_check(p, e);
}

static int open_console(struct exec *x, struct err *e)
{
	int r;

	if (!x->o->process->terminal) {
		return 0;
	}
	if (x->o->console_socket) {
		x->console[1] = sock_connect_path(x->o->console_socket);
		return x->console[1] < 0
			? err_set(e, -x->console[1], ERR_HOST,
				  "cannot connect to the console socket %s", x->o->console_socket)
			: 0;
	}
	r = sys_socketpair(SOCK_STREAM, x->console);
	return r < 0 ? err_set(e, -r, ERR_HOST, "cannot make a socket pair") : 0;
}

static int compile_filter(struct exec *x, struct err *e)
{
	const struct oci_linux *l = x->rec->spec.linux;

	return seccomp_prepare(l ? l->seccomp : NULL, x->rec->root_fd, &x->filter, &x->handoff, e);
}

static void choose_namespaces(struct exec *x)
{
	const struct oci_linux *l = x->rec->spec.linux;
	const struct oci_namespace *n = l ? l->namespaces.v : NULL;

	for (size_t i = 0; l && i < l->namespaces.n; i++) {
		x->spawn.target_ns |= ns_clone_flag((enum oci_ns)n[i].type);
	}
	x->has_userns = (x->spawn.target_ns & CLONE_NEWUSER) != 0;
}

static int open_root(struct exec *x, struct err *e)
{
	char path[48];

	if (x->spawn.target_ns & CLONE_NEWNS) {
		return 0;
	}
	snprintf(path, sizeof(path), "/proc/%d/root", (int)x->rec->pid);
	x->root_fd = sys_openat(AT_FDCWD, path, O_PATH | O_DIRECTORY, 0);
	return x->root_fd < 0 ? err_set(e, -x->root_fd, ERR_HOST, "cannot open the container's root")
			      : 0;
}

static int prepare(struct exec *x, struct err *e)
{
	uint64_t held = UINT64_MAX;
	int r = record_pidfd(x->rec, &x->pidfd, e);

	choose_namespaces(x);
	r = r < 0 ? r : open_root(x, e);
	if (r == 0 && x->rec->cgroup) {
		r = cgroup_for_exec(x->rec->cgroup, x->rec->pid, x->o->cgroup, &x->cgroup, e);
	}
	r = r < 0 ? r : compile_filter(x, e);
	if (r == 0 && !x->has_userns) {
		r = caps_held(&held);
		r = r < 0 ? err_set(e, -r, ERR_HOST, "cannot read the own capabilities") : 0;
	}
	r = r < 0 ? r : caps_resolve(x->o->process->capabilities, held, &x->process.caps, e);
	r = r < 0 ? r : open_console(x, e);
	x->process.conf = x->o->process;
	x->process.linux = x->rec->spec.linux;
	x->process.id = x->rec->id;
	x->process.filter = &x->filter;
	x->process.handoff = x->filter.notify ? &x->handoff : NULL;
	x->process.new_keyring = !x->rec->no_new_keyring;
	x->process.set_rlimits = !x->has_userns;
	x->process.may_setgroups = !x->has_userns || may_setgroups(x->rec->pid);
	x->process.n_fds = process_listen_fds() + x->o->preserve_fds;
	x->process.pty_fd = -1;
	x->process.trampoline_fd = x->process.control_fd = -1;
	x->spawn.target_pidfd = x->pidfd;
	x->attaches = x->cgroup && cgroup_needs_attach(x->rec->cgroup);
	x->spawn.cgroup = x->attaches ? NULL : x->cgroup;
	return r;
}

static int on_pid(void *ud, pid_t pid, struct err *e)
{
	struct exec *x = ud;
	const struct oci_process *p = x->o->process;
	int r = x->attaches ? cgroup_attach(x->rec->cgroup, x->cgroup, pid, e) : 0;

	if (r == 0 && p->exec_cpu_affinity && p->exec_cpu_affinity->initial) {
		r = attrs_set_affinity(pid, p->exec_cpu_affinity->initial, e);
	}
	if (r == 0 && x->has_userns && p->rlimits.n > 0) {
		r = attrs_set_rlimits(pid, &p->rlimits, e);
	}
	if (r == 0 && p->has_oom_score_adj) {
		auto_close int proc_fd = sys_openat(AT_FDCWD, "/proc", O_PATH | O_DIRECTORY, 0);

		r = attrs_set_oom_score_adj(proc_fd, pid, p->oom_score_adj, x->rec->rootless, e);
	}
	return r;
}

/* In the child. */
static int make_terminal(struct exec *x, struct err *e)
{
	const struct oci_console_size *size = x->o->process->console_size;
	static const char name[] = "/dev/ptmx";
	auto_close int master = -1;

	if (!x->o->process->terminal) {
		return 0;
	}

	auto_close int root_fd = sys_openat(AT_FDCWD, "/", O_PATH | O_DIRECTORY, 0);
	int r = root_fd < 0 ? err_set(e, -root_fd, ERR_HOST, "cannot open the container's root")
			    : pty_open_in(root_fd, &master, &x->process.pty_fd, e);

	if (r < 0) {
		return r;
	}
	if (size && size->height <= UINT16_MAX && size->width <= UINT16_MAX) {
		struct winsize ws = { .ws_row = (unsigned short)size->height,
				      .ws_col = (unsigned short)size->width };

		ignore_result(sys_ioctl(master, TIOCSWINSZ, &ws)); /* only looks */
	}
	r = sock_send_fds(x->console[1], name, sizeof(name) - 1, &master, 1);
	return r < 0 ? err_set(e, -r, ERR_HOST, "cannot send the terminal to the console socket") : 0;
}

static int enter_root(struct exec *x, struct err *e)
{
	int r = x->root_fd >= 0 ? sys_fchdir(x->root_fd) : 0;

	if (r == 0 && x->root_fd >= 0) {
		r = sys_chroot(".");
	}
	return r < 0 ? err_set(e, -r, ERR_HOST, "cannot enter the container's root") : 0;
}

static noreturn_fn void exec_main(struct exec *x, struct spawned *me)
{
	struct err e = ERR_INIT;
	const struct oci_process *p = x->o->process;
	int r = sys_prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0);

	r = r < 0 ? err_set(&e, -r, ERR_HOST, "cannot follow the runtime's end") : 0;
	sys_reset_signals();
	if (r == 0 && sys_setsid() < 0) {
		r = err_set(&e, EPERM, ERR_HOST, "cannot begin a session");
	}
	if (r == 0 && p->exec_cpu_affinity && p->exec_cpu_affinity->final) {
		r = attrs_set_affinity(0, p->exec_cpu_affinity->final, &e);
	}
	r = r < 0 ? r : enter_root(x, &e);
	r = r < 0 ? r : make_terminal(x, &e);
	if (r == 0) {
		r = sys_prctl(PR_SET_PDEATHSIG, 0, 0, 0, 0);
		r = r < 0 ? err_set(&e, -r, ERR_HOST, "cannot outlive the runtime") : 0;
	}
	x->process.keep[0] = me->sync_fd;
	r = r < 0 ? r : process_settle(&x->process, &e);
	if (r == 0) {
		ignore_result(process_exec(&x->process, &e)); /* fails, or does not return */
	}
	msg_send_err(me->sync_fd, &e);
	_exit(1);
}

static int hand_listener(struct exec *x, struct err *e)
{
	auto_close int fd = -1;
	auto_json json_t *state = record_state_json(x->rec, STATUS_RUNNING, false);
	int r = state ? seccomp_handoff_take(&x->handoff, x->child.pidfd, &fd, e) : err_nomem(e);

	if (r < 0) {
		struct err theirs = ERR_INIT;

		if (msg_wait(x->child.sync_fd, MSG__COUNT, true, NULL, &theirs) < 0) {
			*e = theirs;
		}
		return r;
	}
	return seccomp_listener_send(x->rec->spec.linux->seccomp, x->child.pid, state, fd, e);
}

static int take_master(struct exec *x, int *ret, struct err *e)
{
	char name[64];
	size_t n = 0;

	fd_close(&x->console[1]);
	if (x->console[0] < 0) {
		return 0;
	}

	ssize_t r = sock_recv_fds(x->console[0], name, sizeof(name), ret, 1, &n);

	return r > 0 && n == 1 ? 0
		: err_set(e, r < 0 ? (int)-r : EPROTO, ERR_HOST, "cannot receive the terminal");
}

/*
 * In the process that joins. Root in a container without a user namespace may have
 * CAP_SYS_PTRACE, and looks at whoever comes in: its root is the container's by now, and of
 * the descriptors only those stay that the rest of the way needs (CVE-2016-9962).
 */
static int shed(void *ud, int sync_fd)
{
	struct exec *x = ud;
	struct process p = { .n_fds = x->process.n_fds, .keep = { sync_fd, x->console[1], -1 } };

	return process_close_rest(&p);
}

static int launch(struct exec *x, int *ret_master, struct err *e)
{
	const struct oci_process *p = x->o->process;

	x->spawn.hold = x->attaches || (x->has_userns && p->rlimits.n > 0) ||
			(p->exec_cpu_affinity && p->exec_cpu_affinity->initial);
	x->spawn.on_pid = on_pid;
	x->spawn.shed = !x->has_userns && (x->spawn.target_ns & CLONE_NEWNS) ? shed : NULL;
	x->spawn.ud = x;

	pid_t pid = spawn(&x->spawn, &x->child, e);

	if (pid == 0) {
		exec_main(x, &x->child);
	}
	int r = pid < 0 ? pid : 0;

	if (r == 0 && x->filter.notify) {
		r = hand_listener(x, e);
	}
	/* The stream ends when the program is executed. */
	r = r < 0 ? r : msg_wait(x->child.sync_fd, MSG__COUNT, true, NULL, e);
	r = r < 0 ? r : take_master(x, ret_master, e);
	if (r == 0 && x->o->pid_file) {
		char text[24];

		snprintf(text, sizeof(text), "%d", (int)x->child.pid);
		r = record_write_file(AT_FDCWD, x->o->pid_file, text, strlen(text), 0644);
		r = r < 0 ? err_set(e, -r, ERR_HOST, "cannot write the pid file %s",
				    x->o->pid_file) : 0;
	}
	return r;
}

int container_exec(const struct record *rec, const struct exec_opts *o, struct created *ret,
		   struct err *e)
{
	struct exec x = {
		.rec = rec, .o = o, .filter = SECCOMP_FILTER_INIT, .spawn = SPAWN_CONF_INIT,
		.child = SPAWNED_INIT, .pidfd = -1, .root_fd = -1, .console = { -1, -1 },
	};
	int r = process_check_fds(process_listen_fds() + o->preserve_fds, e);

	r = r < 0 ? r : check_status(rec, o, e);
	r = r < 0 ? r : check_process(o, e);
	r = r < 0 ? r : prepare(&x, e);
	r = r < 0 ? r : launch(&x, &ret->master_fd, e);
	if (r < 0) {
		spawn_kill(&x.child, NULL);
		spawned_fini(&x.child);
	} else {
		ret->child = x.child;
	}
	exec_fini(&x);
	return r;
}
