/* SPDX-License-Identifier: Apache-2.0 */
/* The runtime's side of create and run. */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/fd.h"
#include "base/mem.h"
#include "container/container.h"
#include "container/hooks.h"
#include "container/userns.h"
#include "container/init.h"
#include "container/mempolicy.h"
#include "container/netdev.h"
#include "container/self.h"
#include "container/sysctl.h"
#include "sys/file.h"
#include "sys/proc.h"
#include "sys/procfs.h"
#include "sys/socket.h"

/* Everything of one create. Torn down in one place, also half-made. */
struct create {
	const struct create_opts *o;
	struct record            *rec;
	struct buf                config_text;
	struct rootfs            *fs;
	struct seccomp_filter     filter;
	struct seccomp_handoff    handoff;
	struct init               init;
	struct spawn_conf         spawn;
	struct spawned            child;
	struct netdevs            netdevs;
	int                       console[2];   /* ours, the child's; -1 */
	int                       start_fd, result_fd;
	bool                      has_userns;
	bool                      hooks_began;
	bool                      cgroup_made;
	bool                      overlaps;      /* the cgroups are made while the child starts */
	bool                      trampoline;  /* in place of a sealed copy */
};

void created_fini(struct created *c)
{
	c->rec = record_free(c->rec);
	spawned_fini(&c->child);
	fd_close(&c->master_fd);
}

static void create_fini(struct create *c)
{
	buf_fini(&c->config_text);
	c->fs = rootfs_free(c->fs);
	seccomp_filter_fini(&c->filter);
	seccomp_handoff_fini(&c->handoff);
	spawn_conf_fini(&c->spawn);
	fd_close(&c->console[0]);
	fd_close(&c->console[1]);
	fd_close(&c->start_fd);
	fd_close(&c->result_fd);
	fd_close(&c->init.process.trampoline_fd);
	fd_close(&c->init.process.control_fd);
}

int container_seal_fds(unsigned n, struct err *e)
{
	int r = sys_close_range(3 + n, ~0u, CLOSE_RANGE_CLOEXEC);

	return r < 0 ? err_set(e, -r, ERR_HOST, "cannot mark descriptors close-on-exec") : 0;
}

static int absolute(struct arena *a, const char *base, const char *path, const char **ret,
		    struct err *e)
{
	char cwd[PATH_MAX];

	if (path && *path == '/') {
		*ret = arena_strdup(a, path);
	} else {
		if (!base && !getcwd(cwd, sizeof(cwd))) {
			return err_set(e, errno, ERR_HOST, "cannot find the working directory");
		}
		*ret = path && *path && !str_eq(path, ".")
			? arena_printf(a, "%s/%s", base ? base : cwd, path)
			: arena_strdup(a, base ? base : cwd);
	}
	return *ret ? 0 : err_nomem(e);
}

/* Terminal, console socket and detaching have to fit together, as runc has it. */
static int check_terminal(const struct create_opts *o, const struct oci_process *p, struct err *e)
{
	bool leaves = !o->run || o->detach;

	if (p->terminal && leaves && !o->console_socket) {
		return err_set(e, EINVAL, ERR_INVALID,
			       "cannot allocate tty if holm-oci will detach without setting console "
			       "socket; use --console-socket");
	}
	if (o->console_socket && (!p->terminal || !leaves)) {
		return err_set(e, EINVAL, ERR_INVALID,
			       "cannot use console socket if holm-oci will not detach or allocate tty; "
			       "set process.terminal and detach");
	}
	return 0;
}

static int check_spec(const struct create_opts *o, const struct oci_spec *s, struct err *e)
{
	if (!s->process) {
		return err_field(e, "/process", "is required");
	}
	if (s->process->args.n == 0 || !*s->process->args.v[0]) {
		return err_field(e, "/process/args", "must name a program");
	}
	if (!s->process->cwd || *s->process->cwd != '/') {
		return err_field(e, "/process/cwd", "must be an absolute path");
	}

	int r = check_terminal(o, s->process, e);

	r = r < 0 ? r : attrs_check(s->process, e);
	if (r == 0 && s->linux) {
		r = sysctl_check(s->linux, e);
	}
	if (r == 0 && s->linux) {
		r = netdevs_check(s->linux, e);
	}
	if (r == 0 && s->linux && s->linux->intel_rdt) {
		r = err_field(e, "/linux/intelRdt", "is not supported; remove it");
	}
	if (r == 0 && s->linux && s->linux->memory_policy) {
		r = mempolicy_check(s->linux->memory_policy, e);
	}
	if (r == 0 && (s->hostname || s->domainname) && !oci_linux_ns(s->linux, OCI_NS_UTS)) {
		r = err_field(e, s->hostname ? "/hostname" : "/domainname",
			      "needs a uts namespace in /linux/namespaces");
	}
	return r;
}

/* Whether the profile lets the first process make a call, once it is installed. */
static bool filter_allows(const struct oci_seccomp *s, const char *name)
{
	const struct oci_seccomp_rule *rules = s->syscalls.v;
	bool allowed = str_eq0(s->default_action, "SCMP_ACT_ALLOW");

	for (size_t i = 0; i < s->syscalls.n; i++) {
		for (size_t k = 0; k < rules[i].names.n; k++) {
			if (!str_eq(rules[i].names.v[k], name)) {
				continue;
			}
			if (!str_eq0(rules[i].action, "SCMP_ACT_ALLOW") || rules[i].args.n > 0) {
				return false;
			}
			allowed = true;
		}
	}
	return allowed;
}

static bool filter_suits(const struct oci_spec *s)
{
	static const char *const needed[] = { "execveat", "execve", "pread64", "read", "write",
					      "close", "fcntl" };
	const struct oci_seccomp *f = s->linux->seccomp;
	const struct oci_seccomp_rule *rules = f ? f->syscalls.v : NULL;

	if (!f || s->process->no_new_privileges) {
		/* Installed last; but a listener would hear of the extra execve. */
		for (size_t i = 0; f && i < f->syscalls.n; i++) {
			if (str_eq0(rules[i].action, "SCMP_ACT_NOTIFY")) {
				return false;
			}
		}
		return !f || !str_eq0(f->default_action, "SCMP_ACT_NOTIFY");
	}
	for (size_t i = 0; i < ARRAY_LEN(needed); i++) {
		if (!filter_allows(f, needed[i])) {
			return false;
		}
	}
	return true;
}

/*
 * Whether the trampoline keeps this program out of reach, which costs less than a sealed copy
 * of all of it: nobody else may see the first process before it is there (a pid and a mount
 * namespace of its own), and one more execve must change nothing.
 */
static bool trampoline_will_do(const struct oci_spec *s)
{
	const struct oci_namespace *pid = oci_linux_ns(s->linux, OCI_NS_PID);
	const struct oci_namespace *mnt = oci_linux_ns(s->linux, OCI_NS_MOUNT);
	const struct oci_process *p = s->process;

	return pid && !(pid->path && *pid->path) && mnt && !(mnt->path && *mnt->path) &&
	       !(s->hooks && s->hooks->start_container.n > 0) &&
	       !(p->apparmor_profile && *p->apparmor_profile) &&
	       !(p->selinux_label && *p->selinux_label) && filter_suits(s);
}

static int read_config(struct create *c, struct err *e)
{
	struct record *rec = c->rec;
	int r = absolute(&rec->arena, NULL, c->o->bundle, &rec->bundle, e);

	if (r < 0) {
		return r;
	}

	auto_close int dir_fd = sys_openat(AT_FDCWD, rec->bundle, O_PATH | O_DIRECTORY, 0);

	if (dir_fd < 0) {
		return err_set(e, -dir_fd, ERR_HOST, "cannot open the bundle %s", rec->bundle);
	}
	r = sys_read_file(dir_fd, "config.json", json_limits_document.bytes, &c->config_text);
	if (r == -ENOENT) {
		return err_set(e, ENOENT, ERR_NOT_FOUND,
			       "JSON specification file config.json not found in %s", rec->bundle);
	}
	if (r < 0) {
		return err_set(e, -r, ERR_HOST, "cannot read config.json in %s", rec->bundle);
	}
	r = json_parse(buf_str(&c->config_text), c->config_text.len, &json_limits_document,
		       "config.json", &rec->doc, e);
	r = r < 0 ? r : oci_spec_parse(rec->doc, &rec->arena, &rec->spec, e);
	r = r < 0 ? r : check_spec(c->o, &rec->spec, e);
	r = r < 0 ? r : absolute(&rec->arena, rec->bundle, rec->spec.root->path, &rec->rootfs, e);
	c->has_userns = r == 0 && oci_linux_ns(rec->spec.linux, OCI_NS_USER);
	if (r == 0 && self_writable_by(rec->spec.linux)) {
		c->trampoline = trampoline_will_do(&rec->spec);
		r = c->trampoline ? 0 : self_seal(e);
	}
	return r;
}

static int open_cgroup(struct create *c, struct err *e)
{
	const struct oci_linux *l = c->rec->spec.linux;
	const struct cgroup_conf conf = {
		.path = l ? l->cgroups_path : NULL,
		.id = c->rec->id,
		.rootless = c->o->rootless,
		.manager = c->o->systemd_cgroup ? &cgroup_systemd : NULL,
		.annotations = &c->rec->spec.annotations,
	};

	return cgroup_open(&conf, &c->rec->cgroup, e);
}

static int make_cgroup(struct create *c, pid_t pid, struct err *e)
{
	const struct oci_linux *l = c->rec->spec.linux;
	int r = cgroup_create(c->rec->cgroup, pid, l ? l->resources : NULL, e);

	if (r == 0) {
		c->cgroup_made = true;
	}
	if (r == 0 && c->has_userns && !c->o->rootless && oci_linux_ns(l, OCI_NS_CGROUP)) {
		uint64_t uid = 0, gid = 0;

		if (l->uid_mappings.n > 0 && userns_to_host(&l->uid_mappings, 0, &uid) == 0 &&
		    userns_to_host(&l->gid_mappings, 0, &gid) == 0) {
			r = cgroup_delegate(c->rec->cgroup, (uid_t)uid, (gid_t)gid, e);
		}
	}
	return r;
}

/* A source below the groups' tree could be a group that is yet to be made. */
static bool has_cgroup_source(const struct oci_spec *s)
{
	const struct oci_mount *m = s->mounts.v;

	for (size_t i = 0; i < s->mounts.n; i++) {
		if (m[i].source && str_after(m[i].source, "/sys/fs/cgroup")) {
			return true;
		}
	}
	return false;
}

/*
 * Whether the process can be cloned into the v2 group alone and make its network namespace
 * while we make the other groups, which it then joins: both take about as long. Not where it
 * has to join something else first, nor where which groups there are is not known before.
 */
static bool can_overlap(const struct create *c)
{
	const struct oci_spec *s = &c->rec->spec;
	const struct oci_linux *l = s->linux;
	const struct oci_namespace *n = l ? l->namespaces.v : NULL;
	bool network = false;

	if (!l || cgroup_needs_pid(c->rec->cgroup) || c->o->rootless ||
	    l->net_devices.n > 0 || has_cgroup_source(s)) {
		return false;
	}
	for (size_t i = 0; i < l->namespaces.n; i++) {
		if (n[i].path && *n[i].path) {
			return false;
		}
		network |= n[i].type == OCI_NS_NETWORK;
	}
	return network;
}

static int make_pipe(struct create *c, const char *name, int *ret_fd, struct err *e)
{
	int r = sys_mknodat(c->rec->dir_fd, name, S_IFIFO | 0600, 0);
	auto_close int fd = r < 0 ? r : sys_openat(c->rec->dir_fd, name, O_RDWR | O_NOFOLLOW, 0);

	if (fd < 0) {
		return err_set(e, -fd, ERR_HOST, "cannot make the pipe %s", name);
	}
	*ret_fd = take_fd(&fd);
	return 0;
}

static int open_console(struct create *c, struct err *e)
{
	if (!c->rec->spec.process->terminal) {
		return 0;
	}
	if (c->o->console_socket) {
		c->console[1] = sock_connect_path(c->o->console_socket);
		if (c->console[1] < 0) {
			return err_set(e, -c->console[1], ERR_HOST,
				       "cannot connect to the console socket %s",
				       c->o->console_socket);
		}
		return 0;
	}

	int r = sys_socketpair(SOCK_STREAM, c->console);

	return r < 0 ? err_set(e, -r, ERR_HOST, "cannot make a socket pair") : 0;
}

static int compile_filter(struct create *c, struct err *e)
{
	const struct oci_linux *l = c->rec->spec.linux;

	return seccomp_prepare(l ? l->seccomp : NULL, c->rec->root_fd, &c->filter, &c->handoff, e);
}

static int resolve_caps(struct create *c, struct err *e)
{
	uint64_t held = UINT64_MAX;
	int r = c->has_userns ? 0 : caps_held(&held);

	if (r < 0) {
		return err_set(e, -r, ERR_HOST, "cannot read the own capabilities");
	}
	return caps_resolve(c->rec->spec.process->capabilities, held, &c->init.process.caps, e);
}

static bool has_runtime_hooks(const struct oci_spec *s)
{
	return s->hooks && s->hooks->prestart.n + s->hooks->create_runtime.n > 0;
}

/* The parts that the child is made from. */
static int prepare(struct create *c, struct err *e)
{
	struct record *rec = c->rec;
	const struct oci_spec *s = &rec->spec;
	unsigned n_fds = process_listen_fds() + c->o->preserve_fds;
	int r = spawn_conf_from(s->linux, &c->spawn, e);
	const struct rootfs_conf fs_conf = {
		.spec = s, .bundle = rec->bundle, .cgroup = rec->cgroup,
		.userns_fd = c->spawn.join[OCI_NS_USER], .no_pivot = c->o->no_pivot,
	};

	r = r < 0 ? r : rootfs_prepare(&fs_conf, &c->fs, e);
	r = r < 0 ? r : compile_filter(c, e);
	r = r < 0 ? r : resolve_caps(c, e);
	if (r == 0 && s->linux) {
		r = netdevs_take(s->linux, &c->netdevs, e);
	}
	r = r < 0 ? r : open_console(c, e);
	if (r == 0 && !c->o->run) {
		r = make_pipe(c, "start", &c->start_fd, e);
		r = r < 0 ? r : make_pipe(c, "result", &c->result_fd, e);
	}
	c->init.process.trampoline_fd = c->init.process.control_fd = -1;
	if (r == 0 && c->trampoline) {
		r = process_trampoline_open(&c->init.process, e);
	}
	/* With nothing to do in between, a run need not hear that the container is ready. */
	c->init.hurry = c->trampoline && c->o->run && !s->hooks;
	c->init.netdevs = &c->netdevs;
	c->init.rec = rec;
	c->init.fs = c->fs;
	if (c->overlaps) {
		c->spawn.make &= ~(uint64_t)CLONE_NEWNET;
		c->spawn.early = init_make_network;
	}
	c->init.make = c->spawn.make;
	c->init.runtime_hooks = has_runtime_hooks(s);
	c->init.console_fd = c->console[1];
	c->init.start_fd = c->start_fd;
	c->init.result_fd = c->result_fd;
	c->init.process.conf = s->process;
	c->init.process.linux = s->linux;
	c->init.process.id = rec->id;
	c->init.process.filter = &c->filter;
	c->init.process.handoff = c->filter.notify ? &c->handoff : NULL;
	c->init.process.new_keyring = !c->o->no_new_keyring;
	c->init.process.set_rlimits = !c->has_userns;
	c->init.process.n_fds = n_fds;
	c->init.process.pty_fd = -1;
	return r;
}

/* Into the namespace of the new process, or into the one that it is going to join. */
static int move_netdevs(struct create *c, pid_t pid, struct err *e)
{
	char path[48];
	auto_close int fd = -1;

	if (c->netdevs.n == 0) {
		return 0;
	}
	if (c->spawn.join[OCI_NS_NETWORK] >= 0) {
		return netdevs_move(&c->netdevs, c->spawn.join[OCI_NS_NETWORK], e);
	}
	snprintf(path, sizeof(path), "/proc/%d/ns/net", (int)pid);
	fd = sys_openat(AT_FDCWD, path, O_RDONLY, 0);
	return fd < 0 ? err_set(e, -fd, ERR_HOST, "cannot open the network namespace")
		      : netdevs_move(&c->netdevs, fd, e);
}

/* With the host's rights, on the process that has just been cloned. */
static int on_pid(void *ud, pid_t pid, struct err *e)
{
	struct create *c = ud;
	const struct oci_process *p = c->rec->spec.process;
	int r = record_set_pid(c->rec, pid, e);

	if (r == 0 && (c->overlaps || cgroup_needs_pid(c->rec->cgroup))) {
		r = make_cgroup(c, c->overlaps ? 0 : pid, e);
	}
	r = r < 0 ? r : move_netdevs(c, pid, e);
	if (r == 0 && c->has_userns && p->rlimits.n > 0) {
		r = attrs_set_rlimits(pid, &p->rlimits, e);
	}
	if (r == 0 && p->has_oom_score_adj) {
		auto_close int proc_fd = sys_openat(AT_FDCWD, "/proc", O_PATH | O_DIRECTORY, 0);

		r = attrs_set_oom_score_adj(proc_fd, pid, p->oom_score_adj, c->o->rootless, e);
	}
	if (r < 0) {
		return r;
	}
	/* Which groups there are may be known only now. */
	return cgroup_needs_pid(c->rec->cgroup) || c->o->rootless ? record_save(c->rec, e)
								  : record_save_process(c->rec, e);
}

/* The runtime's hooks, with the tree mounted and not yet entered. */
static int run_runtime_hooks(struct create *c, struct err *e)
{
	const struct oci_hooks *h = c->rec->spec.hooks;
	auto_json json_t *state = record_state_json(c->rec, STATUS_CREATING, false);
	int r = state ? msg_wait(c->child.sync_fd, MSG_HOOKS, false, NULL, e) : err_nomem(e);

	if (r < 0) {
		return r;
	}
	c->hooks_began = true;
	r = hooks_run(&h->prestart, "prestart", state, c->rec->bundle, e);
	r = r < 0 ? r : hooks_run(&h->create_runtime, "createRuntime", state, c->rec->bundle, e);
	if (r == 0) {
		r = msg_send(c->child.sync_fd, MSG_GO);
		r = r < 0 ? err_set(e, -r, ERR_HOST, "the container's process is gone") : 0;
	}
	return r;
}

/* Hand the filter's listener to the agent. */
static int hand_listener(struct create *c, struct err *e)
{
	auto_close int fd = -1;
	auto_json json_t *state = record_state_json(c->rec, STATUS_CREATING, false);
	int r = state ? seccomp_handoff_take(&c->handoff, c->child.pidfd, &fd, e) : err_nomem(e);

	if (r < 0) {
		struct err theirs = ERR_INIT;

		/* If it failed before, it says why. */
		if (msg_wait(c->child.sync_fd, MSG_READY, true, NULL, &theirs) < 0) {
			*e = theirs;
		}
		return r;
	}
	return seccomp_listener_send(c->rec->spec.linux->seccomp, c->child.pid, state, fd, e);
}

static int follow(struct create *c, struct err *e)
{
	int r = has_runtime_hooks(&c->rec->spec) ? run_runtime_hooks(c, e) : 0;

	if (r == 0 && c->rec->spec.hooks) {
		c->hooks_began = true;
	}
	if (r == 0 && c->filter.notify) {
		r = hand_listener(c, e);
	}
	r = r < 0 ? r : msg_wait(c->child.sync_fd, MSG_READY, c->init.hurry, NULL, e);
	return r < 0 ? r : 0;
}

static int write_pid_file(const char *path, pid_t pid, struct err *e)
{
	char text[24];

	if (!path) {
		return 0;
	}
	snprintf(text, sizeof(text), "%d", (int)pid);

	int r = record_write_file(AT_FDCWD, path, text, strlen(text), 0644);

	return r < 0 ? err_set(e, -r, ERR_HOST, "cannot write the pid file %s", path) : 0;
}

/* The terminal for a foreground run. */
static int take_master(struct create *c, int *ret, struct err *e)
{
	char name[64];
	size_t n = 0;

	fd_close(&c->console[1]);
	if (c->console[0] < 0) {
		return 0;
	}

	ssize_t r = sock_recv_fds(c->console[0], name, sizeof(name), ret, 1, &n);

	if (r <= 0 || n != 1) {
		return err_set(e, r < 0 ? (int)-r : EPROTO, ERR_HOST, "cannot receive the terminal");
	}
	return 0;
}

/* Undo a create that failed; *e stays as it is. */
static void undo(struct create *c)
{
	struct err ignored = ERR_INIT;
	const struct oci_hooks *hooks = c->rec->spec.hooks;

	spawn_kill(&c->child, c->rec->cgroup);
	if (c->cgroup_made) {
		ignore_result(cgroup_kill(c->rec->cgroup, SIGKILL, &ignored)); /* others in it */
		/* What failed may fail a second time, but not if it passes. */
		if (cgroup_delete(c->rec->cgroup, &ignored) < 0) {
			ignore_result(cgroup_delete(c->rec->cgroup, &ignored)); /* the error counts */
		}
	} else if (c->overlaps) {
		cgroup_abandon(c->rec->cgroup);
	}
	if (c->hooks_began && hooks && hooks->poststop.n > 0) {
		auto_json json_t *state = record_state_json(c->rec, STATUS_STOPPED, false);

		hooks_run_all(&hooks->poststop, "poststop", state, c->rec->bundle);
	}
	if (record_remove(c->rec, &ignored) < 0) {
		ignore_result(record_remove(c->rec, &ignored)); /* the same */
	}
}

static int make(struct create *c, struct err *e)
{
	int r = open_cgroup(c, e);

	c->rec->config_text = buf_str(&c->config_text);
	c->rec->config_bytes = c->config_text.len;
	r = r < 0 ? r : record_save(c->rec, e);
	c->overlaps = r == 0 && can_overlap(c);
	if (c->overlaps) {
		r = cgroup_create_v2(c->rec->cgroup, e);
	} else if (r == 0 && !cgroup_needs_pid(c->rec->cgroup)) {
		r = make_cgroup(c, 0, e);
	}
	r = r < 0 ? r : prepare(c, e);
	if (r < 0) {
		return r;
	}
	/* Where a manager moves it in, it need not join. */
	c->spawn.cgroup = cgroup_needs_pid(c->rec->cgroup) ? NULL : c->rec->cgroup;
	c->spawn.hold = !c->spawn.cgroup || c->netdevs.n > 0 || c->overlaps;
	c->spawn.on_pid = on_pid;
	c->spawn.ud = c;

	pid_t pid = spawn(&c->spawn, &c->child, e);

	if (pid == 0) {
		init_main(&c->init, &c->child);
	}
	r = pid < 0 ? pid : follow(c, e);
	if (r == 0) {
		c->rec->ready = true;
		r = record_save_process(c->rec, e);
	}
	return r < 0 ? r : write_pid_file(c->o->pid_file, c->child.pid, e);
}

int container_create(const struct create_opts *o, struct created *ret, struct err *e)
{
	struct create c = {
		.o = o, .config_text = BUF_INIT, .filter = SECCOMP_FILTER_INIT,
		.spawn = SPAWN_CONF_INIT, .child = SPAWNED_INIT, .console = { -1, -1 },
		.start_fd = -1, .result_fd = -1,
		.init.process = { .trampoline_fd = -1, .control_fd = -1 },
	};
	int r = process_check_fds(process_listen_fds() + o->preserve_fds, e);

	r = r < 0 ? r : record_new(o->id, &c.rec, e);
	r = r < 0 ? r : read_config(&c, e);
	r = r < 0 ? r : record_make(c.rec, o->root, e);
	if (r < 0) {
		c.rec = record_free(c.rec);
		create_fini(&c);
		return r;
	}
	c.rec->rootless = o->rootless;
	c.rec->no_new_keyring = o->no_new_keyring;
	r = make(&c, e);
	if (r == 0 && o->run) {
		r = take_master(&c, &ret->master_fd, e);
	}
	if (r < 0) {
		undo(&c);
		spawned_fini(&c.child);
		c.rec = record_free(c.rec);
	} else {
		c.rec->config_text = NULL; /* it goes with c */
		ret->rec = take_ptr(&c.rec);
		ret->child = c.child;
		ret->started = c.init.hurry;
	}
	create_fini(&c);
	return r;
}
