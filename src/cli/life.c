/* SPDX-License-Identifier: Apache-2.0 */
/* Commands that change what an instance does: one request for each argument. */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "cli/cli.h"
#include "cli/session.h"
#include "cli/opts.h"

/* POST a verb and print the name as it was given, as scripts expect. */
static int post(const struct cmd_call *call, const char *name, const char *verb, json_t *own_body,
		struct err *e)
{
	auto_json json_t *body = own_body;
	auto_free char *path = cli_instance_path(name, verb);
	int r = cli_json(call, "POST", path, body, NULL, e);

	if (r == 0) {
		printf("%s\n", name);
	}
	return r;
}

/* --- start --- */

struct start_opts {
	bool        attach, interactive;
	const char *detach_keys;
};

#define IN(m) offsetof(struct start_opts, m)
static const struct cmd_opt start_table[] = {
	{ 'a', "attach", CMD_FLAG, IN(attach), NULL, "connect to its streams, and exit as it does" },
	{ 'i', "interactive", CMD_FLAG, IN(interactive), NULL, "send it what is typed" },
	{ 0, "detach-keys", CMD_STR, IN(detach_keys), "KEYS",
	  "leave a session that goes on (usual: ctrl-p,ctrl-q)" },
};
#undef IN

static int start_one(const struct cmd_call *call, const char *name, struct err *e)
{
	return post(call, name, "start", json_object(), e);
}

static int cmd_start(const struct cmd_call *call, struct err *e)
{
	const struct start_opts *o = call->opts;
	struct session_opts so = { .sig_proxy = true, .patient = true,
				   .detach_keys = o->detach_keys };

	if (!o->attach && !o->interactive) {
		return cli_each(call, start_one, e);
	}
	if (call->n_args > 1) {
		return err_set(e, EINVAL, ERR_INVALID, "--attach takes one instance");
	}
	return cli_attach_to(call, call->args[0], o->interactive, &so, true, e);
}

/* --- stop, restart, kill --- */

struct stop_opts {
	int64_t     time;
	const char *signal;
};

#define IN(m) offsetof(struct stop_opts, m)
static const struct cmd_opt stop_table[] = {
	{ 't', "time", CMD_INT, IN(time), "SECONDS", "until it is killed (usual: as it was made)",
	  -1, 86400, .dflt = "-1" },
	{ 's', "signal", CMD_STR, IN(signal), "SIGNAL", "that asks it to end" },
};
#undef IN

static json_t *stop_body(const struct stop_opts *o)
{
	json_t *b = json_object();

	/* Where memory is out the daemon takes its own values: a longer wait, no harm. */
	if (o->time >= 0) {
		ignore_result(json_put(b, "timeout", json_integer(o->time)));
	}
	if (o->signal) {
		ignore_result(json_put(b, "signal", json_string(o->signal)));
	}
	return b;
}

static int stop_one(const struct cmd_call *call, const char *name, struct err *e)
{
	return post(call, name, "stop", stop_body(call->opts), e);
}

static int cmd_stop(const struct cmd_call *call, struct err *e)
{
	return cli_each(call, stop_one, e);
}

static int restart_one(const struct cmd_call *call, const char *name, struct err *e)
{
	return post(call, name, "restart", stop_body(call->opts), e);
}

static int cmd_restart(const struct cmd_call *call, struct err *e)
{
	return cli_each(call, restart_one, e);
}

struct kill_opts {
	const char *signal;
	bool        all;
};

#define IN(m) offsetof(struct kill_opts, m)
static const struct cmd_opt kill_table[] = {
	{ 's', "signal", CMD_STR, IN(signal), "SIGNAL", "name or number", .dflt = "KILL" },
	{ 'a', "all", CMD_FLAG, IN(all), NULL, "to every process of the instance" },
};
#undef IN

static int kill_one(const struct cmd_call *call, const char *name, struct err *e)
{
	const struct kill_opts *o = call->opts;
	json_t *b = json_pack("{s:s}", "signal", o->signal);

	if (!b || (o->all && json_put(b, "all", json_true()) < 0)) {
		json_decref(b);
		return err_set(e, EINVAL, ERR_INVALID, "--signal is not UTF-8");
	}
	return post(call, name, "kill", b, e);
}

static int cmd_kill(const struct cmd_call *call, struct err *e)
{
	return cli_each(call, kill_one, e);
}

/* --- pause, resume --- */

static int pause_one(const struct cmd_call *call, const char *name, struct err *e)
{
	return post(call, name, "pause", NULL, e);
}

static int cmd_pause(const struct cmd_call *call, struct err *e)
{
	return cli_each(call, pause_one, e);
}

static int resume_one(const struct cmd_call *call, const char *name, struct err *e)
{
	return post(call, name, "resume", NULL, e);
}

static int cmd_resume(const struct cmd_call *call, struct err *e)
{
	return cli_each(call, resume_one, e);
}

/* --- rm, rename, update, wait --- */

struct rm_opts {
	bool force, all;
};

#define IN(m) offsetof(struct rm_opts, m)
static const struct cmd_opt rm_table[] = {
	{ 'f', "force", CMD_FLAG, IN(force), NULL, "end it first; no error where there is none" },
	{ 'a', "all", CMD_FLAG, IN(all), NULL, "all instances that do not run (with -f: all)" },
};
#undef IN

static int rm_one(const struct cmd_call *call, const char *name, struct err *e)
{
	const struct rm_opts *o = call->opts;
	auto_buf struct buf path = BUF_INIT;

	buf_add_str(&path, "/v1/instances");
	http_segment(&path, name);
	http_query(&path, "force", o->force ? "true" : NULL);
	int r = cli_json(call, "DELETE", buf_str(&path), NULL, NULL, e);

	if (r < 0 && o->force && e->code == ERR_NOT_FOUND) {
		err_clear(e);
		return 0;
	}
	if (r == 0) {
		printf("%s\n", name);
	}
	return r;
}

static int rm_all(const struct cmd_call *call, struct err *e)
{
	const struct rm_opts *o = call->opts;
	auto_json json_t *list = NULL;
	auto_strv struct strv names = STRV_INIT;
	int r = cli_instances(call, "?all=true", &list, e);

	for (size_t i = 0; r == 0 && i < json_array_size(list); i++) {
		const json_t *one = json_array_get(list, i);
		const char *state = cli_str(one, "state");

		if (o->force || str_eq(state, "exited") || str_eq(state, "created")) {
			r = strv_add(&names, cli_str(one, "name")) < 0 ? err_nomem(e) : 0;
		}
	}
	return r < 0 ? r : cli_each_of(call, (const char *const *)names.v, names.n, CLI_AT_ONCE, rm_one,
				     e);
}

static int cmd_rm(const struct cmd_call *call, struct err *e)
{
	const struct rm_opts *o = call->opts;

	if (o->all) {
		return rm_all(call, e);
	}
	return call->n_args ? cli_each(call, rm_one, e) :
			      err_set(e, EINVAL, ERR_INVALID, "'rm' needs INSTANCE... or --all");
}

static int cmd_rename(const struct cmd_call *call, struct err *e)
{
	auto_json json_t *body = json_pack("{s:s}", "name", call->args[1]);
	auto_free char *path = cli_instance_path(call->args[0], "rename");

	return body ? cli_json(call, "POST", path, body, NULL, e) :
		      err_set(e, EINVAL, ERR_INVALID, "the name is not UTF-8");
}

struct update_opts {
	struct spec_opts spec;        /* limits, restart, labels */
	struct strv      label_rm;
};

#define IN(m) offsetof(struct update_opts, spec.m)
static const struct cmd_opt update_table[] = {
	{ 0, "cpus", CMD_STR, IN(cpus), "NUMBER", "processor time: 1.5" },
	{ 'c', "cpu-shares", CMD_UINT, IN(cpu_shares), "N", "weight, 2 to 262144" },
	{ 0, "cpuset-cpus", CMD_STR, IN(cpuset_cpus), "LIST", "processors: 0-2,5" },
	{ 0, "cpuset-mems", CMD_STR, IN(cpuset_mems), "LIST", "memory nodes" },
	{ 'm', "memory", CMD_SIZE, IN(memory), "SIZE", "limit of memory: 512m" },
	{ 0, "memory-swap", CMD_STR, IN(memory_swap), "SIZE",
	  "limit of memory and swap together; -1 for none" },
	{ 0, "memory-reservation", CMD_SIZE, IN(memory_reservation), "SIZE",
	  "limit when memory is short" },
	{ 0, "blkio-weight", CMD_UINT, IN(io_weight), "N", "disk weight, 10 to 1000" },
	{ 0, "pids-limit", CMD_STR, IN(pids_limit), "N",
	  "limit of processes and threads; -1 for none" },
	{ 0, "restart", CMD_STR, IN(restart), "POLICY",
	  "no, on-failure[:TIMES], always, unless-stopped" },
	{ 'l', "label", CMD_STRV, IN(label), "KEY=VALUE", "label to set" },
	{ 0, "label-rm", CMD_STRV, offsetof(struct update_opts, label_rm), "KEY",
	  "label to take away" },
};
#undef IN

/* As a merge patch: null takes one away. */
static int put_label_rm(const struct strv *keys, json_t *labels, struct err *e)
{
	for (size_t i = 0; i < keys->n; i++) {
		if (json_object_get(labels, keys->v[i])) {
			return err_set(e, EINVAL, ERR_INVALID, "label %s is to be set and taken away",
				       keys->v[i]);
		}
		if (json_object_set_new(labels, keys->v[i], json_null()) < 0) {
			return err_set(e, EINVAL, ERR_INVALID, "--label-rm %s is not UTF-8",
				       keys->v[i]);
		}
	}
	return 0;
}

static int update_body(const struct update_opts *u, json_t *body, struct err *e)
{
	const struct spec_opts *o = &u->spec;
	json_t *res = NULL, *labels = json_object();
	int r = labels ? spec_resources(o, &res, e) : err_nomem(e);

	if (r == 0 && json_object_size(res) > 0 && json_put(body, "resources", json_incref(res)) < 0) {
		r = err_nomem(e);
	}
	r = r < 0 || !o->restart ? r : spec_restart(o->restart, body, e);
	r = r < 0 ? r : spec_pairs(&o->label, "label", labels, e);
	r = r < 0 ? r : put_label_rm(&u->label_rm, labels, e);
	if (r == 0 && json_object_size(labels) > 0 && json_put(body, "labels", json_incref(labels)) < 0) {
		r = err_nomem(e);
	}
	json_decref(res);
	json_decref(labels);
	if (r == 0 && json_object_size(body) == 0) {
		r = err_set(e, EINVAL, ERR_INVALID, "nothing to change was given; see "
			    "'holm update --help'");
	}
	return r;
}

static int update_one(const struct cmd_call *call, const char *name, struct err *e)
{
	const struct update_opts *o = call->opts;
	auto_json json_t *body = json_object();
	auto_free char *path = cli_instance_path(name, NULL);
	int r = body ? update_body(o, body, e) : err_nomem(e);

	r = r < 0 ? r : cli_json(call, "PATCH", path, body, NULL, e);
	if (r == 0) {
		printf("%s\n", name);
	}
	return r;
}

static int cmd_update(const struct cmd_call *call, struct err *e)
{
	return cli_each(call, update_one, e);
}

static const char *const wait_names[] = { "not-running", "next-exit", "removed", NULL };

struct wait_opts {
	int until;
};

static const struct cmd_opt wait_table[] = {
	{ 0, "condition", CMD_CHOICE, offsetof(struct wait_opts, until), "EVENT",
	  "not-running, next-exit or removed", .choices = wait_names, .dflt = "not-running" },
};

static int wait_one(const struct cmd_call *call, const char *name, struct err *e)
{
	const struct wait_opts *o = call->opts;
	auto_json json_t *reply = NULL;
	auto_free char *base = cli_instance_path(name, "wait");
	auto_buf struct buf path = BUF_INIT;

	buf_add_str(&path, base ? base : "");
	http_query(&path, "condition", wait_names[o->until]);
	int r = base ? cli_json(call, "GET", buf_str(&path), NULL, &reply, e) : err_nomem(e);

	if (r == 0) {
		printf("%lld\n", (long long)cli_int(reply, "exit_code"));
		(void)fflush(stdout); /* each as it comes; a failure shows at the end */
	}
	return r;
}

static int cmd_wait(const struct cmd_call *call, struct err *e)
{
	return cli_each(call, wait_one, e);
}

#define LIFE(ident, verb, table, type, what) \
	const struct cmd cli_##ident = { \
		.name = verb, .args = "INSTANCE...", .min_args = 1, .max_args = CMD_ANY, \
		.opts = table, .n_opts = ARRAY_LEN(table), .opts_size = sizeof(struct type), \
		.run = cmd_##ident, .group = "Instances", .help = what, \
		.complete = CMD_COMPLETE_DYNAMIC }

LIFE(start, "start", start_table, start_opts, "start instances");
LIFE(stop, "stop", stop_table, stop_opts, "ask instances to end, and kill those that do not");
LIFE(restart, "restart", stop_table, stop_opts, "stop instances and start them again");
LIFE(kill, "kill", kill_table, kill_opts, "send a signal to instances");
LIFE(update, "update", update_table, update_opts, "change limits of instances");
LIFE(wait, "wait", wait_table, wait_opts, "wait for the end of instances, print their status");

const struct cmd cli_rm = {
	.name = "rm", .args = "[INSTANCE...]", .max_args = CMD_ANY, .opts = rm_table,
	.n_opts = ARRAY_LEN(rm_table), .opts_size = sizeof(struct rm_opts), .run = cmd_rm,
	.group = "Instances", .help = "remove instances", .complete = CMD_COMPLETE_DYNAMIC,
};

const struct cmd cli_pause = {
	.name = "pause", .args = "INSTANCE...", .min_args = 1, .max_args = CMD_ANY,
	.run = cmd_pause, .group = "Instances", .help = "freeze all processes of instances",
	.complete = CMD_COMPLETE_DYNAMIC,
};

const struct cmd cli_resume = {
	.name = "resume", .args = "INSTANCE...", .min_args = 1, .max_args = CMD_ANY,
	.run = cmd_resume, .group = "Instances", .help = "let paused instances go on",
	.complete = CMD_COMPLETE_DYNAMIC,
};

const struct cmd cli_rename = {
	.name = "rename", .args = "INSTANCE NAME", .min_args = 2, .max_args = 2,
	.run = cmd_rename, .group = "Instances", .help = "give an instance another name",
	.complete = CMD_COMPLETE_DYNAMIC,
};
