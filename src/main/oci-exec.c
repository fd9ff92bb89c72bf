/* SPDX-License-Identifier: Apache-2.0 */
/* holm-oci exec */
#include <errno.h>
#include <fcntl.h>

#include "base/fd.h"
#include "container/foreground.h"
#include "container/process.h"
#include "container/self.h"
#include "main/oci.h"
#include "sys/file.h"

struct exec_args {
	const char *console_socket, *cwd, *user, *process, *pid_file, *process_label, *apparmor;
	struct strv env, gids, caps, cgroup;
	int         tty, no_new_privs;   /* CMD_TRI */
	bool        detach, ignore_paused;
	uint64_t    preserve_fds;
};

#define IN(m) offsetof(struct exec_args, m)
static const struct cmd_opt exec_opts[] = {
	{ .name = "console-socket", .kind = CMD_STR, .off = IN(console_socket), .arg = "SOCKET",
	  .complete = CMD_COMPLETE_FILE, .help = "unix socket that gets the master of the terminal" },
	{ .name = "cwd", .kind = CMD_STR, .off = IN(cwd), .arg = "DIR",
	  .help = "working directory in the container" },
	{ 'e', "env", CMD_STRV, IN(env), "KEY=VALUE", "add to the environment" },
	{ 't', "tty", CMD_TRI, IN(tty), NULL, "give the process a terminal" },
	{ 'u', "user", CMD_STR, IN(user), "UID[:GID]", "who the process runs as" },
	{ 'g', "additional-gids", CMD_STRV, IN(gids), "GID", "add a supplementary group" },
	{ 'p', "process", CMD_STR, IN(process), "FILE", "take the process object from a file",
	  .complete = CMD_COMPLETE_FILE },
	{ 'd', "detach", CMD_FLAG, IN(detach), NULL, "do not wait for the process's end" },
	{ .name = "pid-file", .kind = CMD_STR, .off = IN(pid_file), .arg = "FILE",
	  .complete = CMD_COMPLETE_FILE, .help = "write the process id to this file" },
	{ .name = "process-label", .kind = CMD_STR, .off = IN(process_label), .arg = "LABEL",
	  .help = "SELinux label of the process" },
	{ .name = "apparmor", .kind = CMD_STR, .off = IN(apparmor), .arg = "PROFILE",
	  .help = "AppArmor profile of the process" },
	{ .name = "no-new-privs", .kind = CMD_TRI, .off = IN(no_new_privs),
	  .help = "execve grants no privileges" },
	{ 'c', "cap", CMD_STRV, IN(caps), "CAPABILITY", "add a capability" },
	{ .name = "preserve-fds", .kind = CMD_UINT, .off = IN(preserve_fds), .arg = "N",
	  .max = 1024, .help = "hand on N descriptors after 2 and those of LISTEN_FDS" },
	{ .name = "cgroup", .kind = CMD_STRV, .off = IN(cgroup), .arg = "GROUP",
	  .help = "run in a group below the container's" },
	{ .name = "ignore-paused", .kind = CMD_FLAG, .off = IN(ignore_paused),
	  .help = "also in a paused container, to run when it is resumed" },
};
#undef IN

static int append(struct arena *a, struct jstrv *to, const struct strv *more)
{
	if (more->n == 0) {
		return 0;
	}

	const char **v = arena_alloc(a, to->n + more->n + 1, sizeof(*v));

	if (!v) {
		return -ENOMEM;
	}
	for (size_t i = 0; i < to->n; i++) {
		v[i] = to->v[i];
	}
	for (size_t i = 0; i < more->n; i++) {
		v[to->n + i] = arena_strdup(a, more->v[i]);
		if (!v[to->n + i]) {
			return -ENOMEM;
		}
	}
	*to = (struct jstrv){ .v = v, .n = to->n + more->n };
	return 0;
}

static int parse_id(const char *text, const char *what, uint64_t *ret, struct err *e)
{
	/* The last id means "no change" to the kernel. */
	if (parse_u64(text, UINT32_MAX - 1, ret) < 0) {
		return err_set(e, EINVAL, ERR_INVALID, "'%s' is no %s: give a number below %u", text,
			       what, UINT32_MAX);
	}
	return 0;
}

static int set_user(struct oci_user *u, const char *text, struct arena *a, struct err *e)
{
	const char *colon = strchr(text, ':');
	char *uid = colon ? arena_strndup(a, text, (size_t)(colon - text)) : arena_strdup(a, text);
	int r = uid ? parse_id(uid, "user id", &u->uid, e) : err_nomem(e);

	if (r == 0 && colon) {
		r = parse_id(colon + 1, "group id", &u->gid, e);
	}
	return r;
}

static int add_gids(struct oci_user *u, const struct strv *gids, struct arena *a, struct err *e)
{
	if (gids->n == 0) {
		return 0;
	}

	uint64_t *v = arena_alloc(a, u->additional_gids.n + gids->n, sizeof(*v));

	if (!v) {
		return err_nomem(e);
	}
	for (size_t i = 0; i < u->additional_gids.n; i++) {
		v[i] = u->additional_gids.v[i];
	}
	for (size_t i = 0; i < gids->n; i++) {
		int r = parse_id(gids->v[i], "group id", &v[u->additional_gids.n + i], e);

		if (r < 0) {
			return r;
		}
	}
	u->additional_gids = (struct juintv){ .v = v, .n = u->additional_gids.n + gids->n };
	return 0;
}

/* Not to the inheritable set: a program without file capabilities must not pass them on. */
static int add_caps(struct oci_process *p, const struct strv *caps, struct arena *a, struct err *e)
{
	if (caps->n == 0) {
		return 0;
	}

	struct oci_caps *c = arena_new(a, struct oci_caps);

	if (!c) {
		return err_nomem(e);
	}
	if (p->capabilities) {
		*c = *p->capabilities;
	}
	p->capabilities = c;
	if (append(a, &c->bounding, caps) < 0 || append(a, &c->effective, caps) < 0 ||
	    append(a, &c->permitted, caps) < 0) {
		return err_nomem(e);
	}
	return 0;
}

/* The config's process with what the command line says. */
static int from_args(const struct cmd_call *call, struct record *rec, struct oci_process *p,
		     struct err *e)
{
	const struct exec_args *x = call->opts;
	struct arena *a = &rec->arena;
	int r = 0;

	if (call->n_args < 2) {
		return err_set(e, EINVAL, ERR_INVALID, "exec needs a program after the container");
	}
	*p = *rec->spec.process;
	p->args = (struct jstrv){ .v = (const char **)(uintptr_t)(call->args + 1),
				  .n = call->n_args - 1 };
	p->cwd = x->cwd ? x->cwd : p->cwd;
	p->terminal = x->tty > 0;
	p->apparmor_profile = x->apparmor ? x->apparmor : p->apparmor_profile;
	p->selinux_label = x->process_label ? x->process_label : p->selinux_label;
	p->no_new_privileges = x->no_new_privs ? x->no_new_privs > 0 : p->no_new_privileges;
	r = x->user ? set_user(&p->user, x->user, a, e) : 0;
	r = r < 0 ? r : add_gids(&p->user, &x->gids, a, e);
	r = r < 0 ? r : add_caps(p, &x->caps, a, e);
	if (r == 0 && append(a, &p->env, &x->env) < 0) {
		r = err_nomem(e);
	}
	return r;
}

static int from_file(const char *path, struct arena *a, json_t **ret_doc, struct oci_process *p,
		     struct err *e)
{
	auto_buf struct buf text = BUF_INIT;
	int r = sys_read_file(AT_FDCWD, path, json_limits_document.bytes, &text);

	if (r < 0) {
		return err_set(e, -r, ERR_HOST, "cannot read the process file %s", path);
	}
	r = json_parse(buf_str(&text), text.len, &json_limits_document, path, ret_doc, e);
	r = r < 0 ? r : oci_process_parse(*ret_doc, a, p, e);
	return r < 0 ? err_wrap(e, "%s", path) : 0;
}

static int run(const struct record *rec, const struct exec_opts *o, struct err *e)
{
	auto_(created_fini) struct created c = CREATED_INIT;
	struct foreground fg = { .signal_fd = -1 };
	int r = o->detach ? 0 : foreground_init(&fg, true, e);

	r = r < 0 ? r : container_exec(rec, o, &c, e);
	if (r == 0 && !o->detach) {
		r = foreground_wait(&fg, &c.child, c.master_fd, e);
	}
	foreground_fini(&fg);
	return r;
}

static int cmd_exec(const struct cmd_call *call, struct err *e)
{
	const struct exec_args *x = call->opts;
	auto_(record_freep) struct record *rec = NULL;
	auto_json json_t *doc = NULL;
	struct oci_process p;
	struct exec_opts o = {
		.process = &p,
		.console_socket = x->console_socket && *x->console_socket ? x->console_socket : NULL,
		.pid_file = x->pid_file && *x->pid_file ? x->pid_file : NULL,
		.cgroup = x->cgroup.n ? x->cgroup.v[x->cgroup.n - 1] : NULL,
		.preserve_fds = (unsigned)x->preserve_fds, .detach = x->detach,
		.ignore_paused = x->ignore_paused,
	};
	int r;

	*(bool *)call->ud = true; /* failures of exec have an exit status of their own */
	r = container_seal_fds(process_listen_fds() + o.preserve_fds, e);
	r = r < 0 ? r : self_seal(e);
	r = r < 0 ? r : oci_open(call, RECORD_SPEC, &rec, e);
	if (r == 0) {
		r = x->process ? from_file(x->process, &rec->arena, &doc, &p, e)
			       : from_args(call, rec, &p, e);
	}
	return r < 0 ? r : run(rec, &o, e);
}

const struct cmd oci_cmd_exec = {
	.name = "exec", .args = "CONTAINER [PROGRAM [ARG...]]", .min_args = 1, .max_args = CMD_ANY,
	.opts = exec_opts, .n_opts = ARRAY_LEN(exec_opts), .opts_size = sizeof(struct exec_args),
	.run = cmd_exec, .flags = CMD_STOP_AT_ARG,
	.help = "run one more program in a container",
	.text = "The process is the config's, changed by the options; or all of it comes from a "
		"file (--process). The exit status is the program's, or 255 if it could not be "
		"started.",
};
