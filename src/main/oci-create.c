/* SPDX-License-Identifier: Apache-2.0 */
/* holm-oci create, run, start */
#include <errno.h>
#include <sys/prctl.h>
#include <unistd.h>

#include "container/foreground.h"
#include "container/process.h"
#include "main/oci.h"
#include "sys/proc.h"

struct create_args {
	const char *bundle, *console_socket, *pid_file;
	bool        no_pivot, no_new_keyring, detach, keep, no_subreaper;
	uint64_t    preserve_fds;
};

#define IN(m) offsetof(struct create_args, m)
#define CREATE_OPTS \
	{ 'b', "bundle", CMD_STR, IN(bundle), "DIR", "the bundle (default: the working directory)", \
	  .complete = CMD_COMPLETE_DIR }, \
	{ .name = "console-socket", .kind = CMD_STR, .off = IN(console_socket), .arg = "SOCKET", \
	  .help = "unix socket that gets the master of the terminal", \
	  .complete = CMD_COMPLETE_FILE }, \
	{ .name = "pid-file", .kind = CMD_STR, .off = IN(pid_file), .arg = "FILE", \
	  .help = "write the process id to this file", .complete = CMD_COMPLETE_FILE }, \
	{ .name = "no-pivot", .kind = CMD_FLAG, .off = IN(no_pivot), \
	  .help = "move the root instead of pivot_root (a root on a ramdisk)" }, \
	{ .name = "no-new-keyring", .kind = CMD_FLAG, .off = IN(no_new_keyring), \
	  .help = "keep the caller's session keyring" }, \
	{ .name = "preserve-fds", .kind = CMD_UINT, .off = IN(preserve_fds), .arg = "N", \
	  .max = 1024, .help = "hand on N descriptors after 2 and those of LISTEN_FDS" }

static const struct cmd_opt create_opts[] = { CREATE_OPTS };

static const struct cmd_opt run_opts[] = {
	CREATE_OPTS,
	{ 'd', "detach", CMD_FLAG, IN(detach), NULL, "leave the container running" },
	{ .name = "keep", .kind = CMD_FLAG, .off = IN(keep),
	  .help = "do not delete the container when it ends" },
	{ .name = "no-subreaper", .kind = CMD_FLAG, .off = IN(no_subreaper),
	  .help = "do not reap orphans of the container" },
};
#undef IN

static int fill(const struct cmd_call *call, struct create_opts *o, struct err *e)
{
	const struct create_args *a = call->opts;
	const struct oci_opts *top = call->top;

	*o = (struct create_opts){
		.root = oci_root(call, e), .id = call->args[0], .bundle = a->bundle,
		.console_socket = a->console_socket && *a->console_socket ? a->console_socket : NULL,
		.pid_file = a->pid_file && *a->pid_file ? a->pid_file : NULL,
		.preserve_fds = (unsigned)a->preserve_fds,
		.rootless = oci_rootless(call), .systemd_cgroup = top->systemd_cgroup,
		.no_pivot = a->no_pivot, .no_new_keyring = a->no_new_keyring, .detach = a->detach,
	};
	if (!o->root) {
		return -EINVAL;
	}
	return container_seal_fds(process_listen_fds() + o->preserve_fds, e);
}

static int cmd_create(const struct cmd_call *call, struct err *e)
{
	struct create_opts o;
	auto_(created_fini) struct created c = CREATED_INIT;
	int r = fill(call, &o, e);

	return r < 0 ? r : container_create(&o, &c, e);
}

/* Delete what has ended; a failure to is reported only if nothing else was. */
static int clean_up(struct created *c, bool locked, struct err *e)
{
	int r = locked ? 0 : record_relock(c->rec, e);

	if (r == -ENOENT) {
		err_clear(e);
		return 0; /* someone else was quicker */
	}
	return r < 0 ? r : container_delete(c->rec, true, e);
}

static int run(const struct create_opts *o, const struct create_args *a, struct foreground *fg,
	       struct err *e)
{
	auto_(created_fini) struct created c = CREATED_INIT;
	struct err later = ERR_INIT;
	int r = container_create(o, &c, e);

	if (r < 0) {
		return r;
	}
	r = container_start_child(&c, e);
	if (r < 0) {
		spawn_kill(&c.child, c.rec->cgroup);
		ignore_result(clean_up(&c, true, &later)); /* r counts */
		return r;
	}
	if (o->detach) {
		return 0;
	}
	record_unlock(c.rec);

	int status = foreground_wait(fg, &c.child, c.master_fd, e);

	r = a->keep ? 0 : clean_up(&c, false, &later);
	if (status >= 0 && r < 0) {
		*e = later;
		return r;
	}
	return status;
}

static int cmd_run_container(const struct cmd_call *call, struct err *e)
{
	const struct create_args *a = call->opts;
	struct foreground fg = { .signal_fd = -1 };
	struct create_opts o;
	int r = fill(call, &o, e);

	if (r < 0) {
		return r;
	}
	o.run = true;
	r = o.detach ? 0 : foreground_init(&fg, !a->no_subreaper, e);
	r = r < 0 ? r : run(&o, a, &fg, e);
	foreground_fini(&fg);
	return r;
}

static int cmd_start(const struct cmd_call *call, struct err *e)
{
	auto_(record_freep) struct record *rec = NULL;
	int r = container_seal_fds(0, e);

	r = r < 0 ? r : oci_open(call, RECORD_LOCK | RECORD_SPEC, &rec, e);
	return r < 0 ? r : container_start(rec, e);
}

const struct cmd oci_cmd_create = {
	.name = "create", .args = "CONTAINER", .min_args = 1, .max_args = 1,
	.opts = create_opts, .n_opts = ARRAY_LEN(create_opts),
	.opts_size = sizeof(struct create_args), .run = cmd_create,
	.help = "make a container from a bundle",
	.text = "Makes everything of a container but its program, which 'start' executes. The "
		"bundle's config.json is read once and kept; later changes have no effect.",
};

const struct cmd oci_cmd_run = {
	.name = "run", .args = "CONTAINER", .min_args = 1, .max_args = 1,
	.opts = run_opts, .n_opts = ARRAY_LEN(run_opts),
	.opts_size = sizeof(struct create_args), .run = cmd_run_container,
	.help = "make a container, start it and wait for its end",
	.text = "The exit status is the program's, or 128 + n if signal n ended it.",
};

const struct cmd oci_cmd_start = {
	.name = "start", .args = "CONTAINER", .min_args = 1, .max_args = 1, .run = cmd_start,
	.help = "execute the program of a created container",
};
