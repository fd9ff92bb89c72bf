/* SPDX-License-Identifier: Apache-2.0 */
/* exec and attach. */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "cli/cli.h"
#include "cli/session.h"
#include "cli/opts.h"
#include "cli/term.h"

struct exec_opts {
	bool        interactive, tty, detach;
	struct spec_opts spec;        /* env, env_file, workdir, user */
	const char *detach_keys;
};

#define IN(m) offsetof(struct exec_opts, m)
static const struct cmd_opt exec_table[] = {
	{ 'i', "interactive", CMD_FLAG, IN(interactive), NULL, "send it what is typed" },
	{ 't', "tty", CMD_FLAG, IN(tty), NULL, "give it a terminal" },
	{ 'd', "detach", CMD_FLAG, IN(detach), NULL, "go on in the background" },
	{ 'e', "env", CMD_STRV, IN(spec.env), "KEY[=VALUE]", "a variable" },
	{ 0, "env-file", CMD_STRV, IN(spec.env_file), "FILE", "variables, a line each",
	  .complete = CMD_COMPLETE_FILE },
	{ 'w', "workdir", CMD_STR, IN(spec.workdir), "DIR", "working folder" },
	{ 'u', "user", CMD_STR, IN(spec.user), "USER[:GROUP]", "names or numbers" },
	{ 0, "detach-keys", CMD_STR, IN(detach_keys), "KEYS",
	  "leave a session that goes on (usual: ctrl-p,ctrl-q)" },
};
#undef IN

static int put_list(json_t *obj, const char *key, char *const *v, size_t n)
{
	json_t *a = json_array();

	for (size_t i = 0; a && i < n; i++) {
		if (json_array_append_new(a, json_string(v[i])) < 0) {
			json_decref(a);
			return -EINVAL;
		}
	}
	return json_put(obj, key, a);
}

static int exec_body(const struct cmd_call *call, json_t **ret, struct err *e)
{
	const struct exec_opts *o = call->opts;
	auto_json json_t *b = json_object();
	uint16_t rows, cols;
	int r = b ? spec_env(&o->spec, b, e) : err_nomem(e);

	if (r < 0) {
		return r;
	}
	if (o->tty && term_size(STDIN_FILENO, &rows, &cols) == 0 && rows && cols) {
		r = json_put(b, "rows", json_integer(rows)) < 0 ||
		    json_put(b, "cols", json_integer(cols)) < 0 ? -ENOMEM : 0;
	}
	if (r < 0 || put_list(b, "command", call->args + 1, call->n_args - 1) < 0 ||
	    (o->spec.workdir && json_put(b, "workdir", json_string(o->spec.workdir)) < 0) ||
	    (o->spec.user && json_put(b, "user", json_string(o->spec.user)) < 0) ||
	    (o->tty && json_put(b, "tty", json_true()) < 0) ||
	    json_put(b, "stall_ms", json_integer(3600000)) < 0 ||
	    (o->interactive && !o->detach && json_put(b, "stdin_open", json_true()) < 0)) {
		return err_set(e, EINVAL, ERR_INVALID, "an argument is not UTF-8");
	}
	*ret = take_ptr(&b);
	return 0;
}

static int exec_detached(const struct cmd_call *call, const char *path, const json_t *body,
			 struct err *e)
{
	auto_json json_t *reply = NULL;
	int r = cli_json(call, "POST", path, body, &reply, e);

	if (r == 0) {
		printf("%s\n", cli_str(reply, "id"));
	}
	return r;
}

static int exec(const struct cmd_call *call, struct err *e)
{
	const struct exec_opts *o = call->opts;
	struct session_opts so = { .tty = o->tty, .stdin_open = o->interactive, .sig_proxy = true,
				   .stdin_once = true, .patient = true,
				   .detach_keys = o->detach_keys };
	auto_free char *path = cli_instance_path(call->args[0], "exec");
	auto_json json_t *body = NULL;
	auto_session struct session s = SESSION_INIT;
	int status = 0;
	int r = o->detach ? 0 : session_check_tty(&so, e);

	r = r < 0 ? r : exec_body(call, &body, e);
	if (r == 0 && !path) {
		r = err_nomem(e);
	}
	if (r < 0) {
		return r;
	}
	if (o->detach) {
		return exec_detached(call, path, body, e);
	}
	stream_hold_signals();
	r = session_open(call, path, body, &s, e);
	r = r < 0 ? r : session_run(&s, &so, &status, NULL, e);
	return r < 0 ? r : status == STREAM_DETACHED ? 0 : status;
}

static int cmd_exec(const struct cmd_call *call, struct err *e)
{
	int r = exec(call, e);

	if (r >= 0) {
		return r;
	}
	cli_complain(e);
	return 125;
}

const struct cmd cli_exec = {
	.name = "exec", .args = "INSTANCE COMMAND [ARG...]", .min_args = 2, .max_args = CMD_ANY,
	.opts = exec_table, .n_opts = ARRAY_LEN(exec_table), .opts_size = sizeof(struct exec_opts),
	.run = cmd_exec, .flags = CMD_STOP_AT_ARG, .group = "Instances",
	.help = "run one more command in an instance", .complete = CMD_COMPLETE_DYNAMIC,
	.text = "The exit status is that of the command; or 125 if Holm failed, 126 if the command "
		"cannot be run, 127 if there is none of this name.",
	.examples = "holm exec -it web sh",
};

struct attach_opts {
	bool        no_stdin;
	int         sig_proxy;
	const char *detach_keys;
};

#define IN(m) offsetof(struct attach_opts, m)
static const struct cmd_opt attach_table[] = {
	{ 0, "no-stdin", CMD_FLAG, IN(no_stdin), NULL, "only look" },
	{ 0, "sig-proxy", CMD_TRI, IN(sig_proxy), NULL, "pass signals on (usual)" },
	{ 0, "detach-keys", CMD_STR, IN(detach_keys), "KEYS",
	  "leave a session that goes on (usual: ctrl-p,ctrl-q)" },
};
#undef IN

/* What is to be started may be about to end: its shim takes nobody then, for a moment. */
static int open_patiently(const struct cmd_call *call, const char *path, bool start,
			  struct session *s, struct err *e)
{
	const struct timespec pause = { 0, 50000000 };
	int r = session_open(call, path, NULL, s, e);

	for (int i = 0; i < 40 && start && r < 0 && e->code == ERR_CONFLICT; i++) {
		(void)nanosleep(&pause, NULL); /* cut short: asked again sooner */
		err_clear(e);
		r = session_open(call, path, NULL, s, e);
	}
	return r;
}

void cli_wait_removed(const struct cmd_call *call, const json_t *instance)
{
	const json_t *spec = json_object_get(instance, "spec");
	auto_free char *path = cli_instance_path(cli_str(instance, "id"), "wait?condition=removed");
	auto_json json_t *reply = NULL;
	struct err other = ERR_INIT;

	if (!path || !cli_bool(spec, "auto_remove") || !str_eq(cli_str(spec, "isolation"), "vm")) {
		return;
	}
	stream_release_signals();
	ignore_result(cli_json(call, "GET", path, NULL, &reply, &other)); /* it is gone */
}

int cli_attach_to(const struct cmd_call *call, const char *name, bool want_stdin,
		  const struct session_opts *more, bool start, struct err *e)
{
	auto_free char *get = cli_instance_path(name, NULL);
	auto_free char *go = cli_instance_path(name, "start");
	auto_free char *verb = cli_instance_path(name, "attach");
	auto_json json_t *obj = NULL, *empty = json_object();
	auto_session struct session s = SESSION_INIT;
	auto_buf struct buf path = BUF_INIT;
	struct session_opts so = *more;
	int status = 0;
	int r = cli_json(call, "GET", get, NULL, &obj, e);

	if (r < 0) {
		return r;
	}
	const json_t *spec = json_object_get(obj, "spec");

	if (!go || !verb) {
		return err_nomem(e);
	}
	so.tty = cli_bool(spec, "tty");
	so.stdin_open = want_stdin && cli_bool(spec, "stdin_open");
	so.stdin_once = so.stdin_open && cli_bool(spec, "stdin_once");
	r = session_check_tty(&so, e);
	buf_add_str(&path, verb);
	session_query(&path, &so);
	stream_hold_signals();
	r = r < 0 ? r : open_patiently(call, buf_str(&path), start, &s, e);
	if (r == 0 && start) {
		r = cli_json(call, "POST", go, empty, NULL, e);
	}
	r = r < 0 ? r : session_run(&s, &so, &status, NULL, e);
	if (r == 0 && status != STREAM_DETACHED) {
		cli_wait_removed(call, obj);
	}
	return r < 0 ? r : status == STREAM_DETACHED ? 0 : status;
}

static int cmd_attach(const struct cmd_call *call, struct err *e)
{
	const struct attach_opts *o = call->opts;
	struct session_opts so = { .sig_proxy = o->sig_proxy >= 0, .detach_keys = o->detach_keys };

	return cli_attach_to(call, call->args[0], !o->no_stdin, &so, false, e);
}

const struct cmd cli_attach = {
	.name = "attach", .args = "INSTANCE", .min_args = 1, .max_args = 1, .opts = attach_table,
	.n_opts = ARRAY_LEN(attach_table), .opts_size = sizeof(struct attach_opts),
	.run = cmd_attach, .group = "Instances", .complete = CMD_COMPLETE_DYNAMIC,
	.help = "connect to the streams of a running instance",
	.text = "Its standard input is connected if the instance was made with --interactive. The "
		"detach keys leave it running.",
};
