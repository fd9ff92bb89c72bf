/* SPDX-License-Identifier: Apache-2.0 */
/* create and run. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <stdlib.h>
#include <unistd.h>

#include "cli/cli.h"
#include "cli/session.h"
#include "cli/opts.h"
#include "cli/term.h"
#include "sys/file.h"

struct create_opts {
	struct spec_opts spec;
	struct strv      attach;
	bool             detach, rm, rootfs, quiet;
	int              sig_proxy;
	const char      *detach_keys;
};

#define IN(m) offsetof(struct create_opts, m)
#define MORE_OPTS \
	{ 0, "rm", CMD_FLAG, IN(rm), NULL, "remove it when it has ended" }, \
	{ 0, "rootfs", CMD_FLAG, IN(rootfs), NULL, \
	  "the argument is a folder of the host, used as the root, instead of an image" }, \
	{ 'q', "quiet", CMD_FLAG, IN(quiet), NULL, "no progress while the image is fetched" }
static const struct cmd_opt create_table[] = { SPEC_OPTIONS(struct create_opts, spec), MORE_OPTS };

static const struct cmd_opt run_table[] = {
	SPEC_OPTIONS(struct create_opts, spec),
	MORE_OPTS,
	{ 'd', "detach", CMD_FLAG, IN(detach), NULL, "go on in the background, print the id" },
	{ 'a', "attach", CMD_STRV, IN(attach), "STREAM", "only this one: stdin, stdout, stderr" },
	{ 0, "sig-proxy", CMD_TRI, IN(sig_proxy), NULL, "pass signals on (without -t; usual)" },
	{ 0, "detach-keys", CMD_STR, IN(detach_keys), "KEYS",
	  "leave a session that goes on (usual: ctrl-p,ctrl-q)" },
};
#undef IN

static int write_cidfile(const char *path, const char *id, struct err *e)
{
	auto_close int fd = sys_openat(AT_FDCWD, path, O_WRONLY | O_CREAT | O_EXCL, 0644);
	int r = fd < 0 ? fd : sys_write_full(fd, id, strlen(id));

	return r < 0 ? err_set(e, -r, ERR_CONFLICT, "--cidfile %s: %s", path, strerror(-r)) : 0;
}

/* POST, and once more after a pull if the image was not there. */
static int post(const struct cmd_call *call, const char *image, const json_t *body,
		json_t **ret, struct err *e)
{
	const struct create_opts *o = call->opts;
	const struct spec_opts *s = &o->spec;
	auto_buf struct buf path = BUF_INIT;
	int r = 0;

	buf_add_str(&path, "/v1/instances");
	http_query(&path, "name", s->name);
	if (s->pull == PULL_ALWAYS && !o->rootfs) {
		r = cli_pull_image(call, image, s->platform, o->quiet, e);
	}
	r = r < 0 ? r : cli_json(call, "POST", buf_str(&path), body, ret, e);
	if (r < 0 && e->code == ERR_NOT_FOUND && s->pull == PULL_MISSING && !o->rootfs &&
	    strstr(e->field, "image")) {
		err_clear(e);
		fprintf(stderr, "%s is not here: pulling it\n", image);
		r = cli_pull_image(call, image, s->platform, o->quiet, e);
		r = r < 0 ? r : cli_json(call, "POST", buf_str(&path), body, ret, e);
	}
	return r;
}

/* A folder as the daemon, which works in another one, must be told. */
static int put_rootfs(json_t *spec, const char *path, struct err *e)
{
	auto_free char *full = realpath(path, NULL);

	if (!full) {
		return err_set(e, errno, ERR_NOT_FOUND, "--rootfs %s: %s", path, strerror(errno));
	}
	return json_put(spec, "rootfs", json_string(full)) < 0 ? err_nomem(e) : 0;
}

static int create(const struct cmd_call *call, json_t **ret, struct err *e)
{
	const struct create_opts *o = call->opts;
	const char *image = call->args[0];
	auto_json json_t *spec = NULL;
	int r = spec_from_opts(&o->spec, o->rootfs ? NULL : image, call->args + 1,
			       call->n_args - 1, &spec, e);

	if (r == 0 && o->rootfs) {
		r = put_rootfs(spec, image, e);
	}
	if (r == 0 && o->rm && json_put(spec, "auto_remove", json_true()) < 0) {
		r = err_nomem(e);
	}
	r = r < 0 ? r : post(call, image, spec, ret, e);
	if (r == 0 && o->spec.cidfile) {
		r = write_cidfile(o->spec.cidfile, cli_str(*ret, "id"), e);
	}
	return r;
}

static int cmd_create(const struct cmd_call *call, struct err *e)
{
	auto_json json_t *made = NULL;
	int r = create(call, &made, e);

	if (r == 0) {
		printf("%s\n", cli_str(made, "id"));
	}
	return r;
}

static int start(const struct cmd_call *call, const char *id, bool tty, struct err *e)
{
	auto_free char *path = cli_instance_path(id, "start");
	auto_json json_t *body = json_object();
	uint16_t rows, cols;

	if (tty && term_size(STDIN_FILENO, &rows, &cols) == 0 && rows && cols) {
		if (json_put(body, "rows", json_integer(rows)) < 0 ||
		    json_put(body, "cols", json_integer(cols)) < 0) {
			return err_nomem(e);
		}
	}
	return cli_json(call, "POST", path, body, NULL, e);
}

/* Which streams `--attach` leaves. */
static int choose_streams(const struct create_opts *o, struct session_opts *s, struct err *e)
{
	if (o->attach.n == 0) {
		return 0;
	}
	s->stdin_open = false;
	s->no_stdout = s->no_stderr = true;
	for (size_t i = 0; i < o->attach.n; i++) {
		if (strcasecmp(o->attach.v[i], "stdin") == 0) {
			s->stdin_open = o->spec.interactive;
		} else if (strcasecmp(o->attach.v[i], "stdout") == 0) {
			s->no_stdout = false;
		} else if (strcasecmp(o->attach.v[i], "stderr") == 0) {
			s->no_stderr = false;
		} else {
			return err_set(e, EINVAL, ERR_INVALID,
				       "--attach takes stdin, stdout or stderr, not '%s'",
				       o->attach.v[i]);
		}
	}
	return 0;
}

/* The daemon said no; the shim says it, too, with the exit code. */
static int start_failed(struct session *s, const struct session_opts *o, const struct err *e)
{
	auto_buf struct buf messages = BUF_INIT;
	struct session_opts quiet = *o;
	struct err other = ERR_INIT;
	int status = 125;

	quiet.stdin_open = quiet.tty = false;
	cli_complain(e);
	if (session_run(s, &quiet, &status, &messages, &other) < 0 || status <= 0) {
		status = 125;
	}
	return status;
}

static int run_attached(const struct cmd_call *call, const json_t *made,
			const struct session_opts *o, struct err *e)
{
	const char *id = cli_str(made, "id");
	auto_session struct session s = SESSION_INIT;
	auto_buf struct buf path = BUF_INIT;
	int status = 0;

	buf_add_str(&path, "/v1/instances");
	http_segment(&path, id);
	buf_add_str(&path, "/attach");
	session_query(&path, o);
	stream_hold_signals();
	int r = session_open(call, buf_str(&path), NULL, &s, e);

	if (r < 0) {
		return r;
	}
	r = start(call, id, o->tty, e);
	if (r < 0) {
		return start_failed(&s, o, e);
	}
	r = session_run(&s, o, &status, NULL, e);
	if (r == 0 && status != STREAM_DETACHED) {
		cli_wait_removed(call, made);
	}
	return r < 0 ? r : status == STREAM_DETACHED ? 0 : status;
}

/* With --rm, what did not even begin has no end after which the daemon would remove it. */
static void remove_unstarted(const struct cmd_call *call, const char *id)
{
	auto_free char *path = str_printf("/v1/instances/%s", id);
	struct err other = ERR_INIT;

	if (path) {
		ignore_result(cli_json(call, "DELETE", path, NULL, NULL, &other));
		/* it began after all, or is gone; the first error is the one to tell */
	}
}

static int run(const struct cmd_call *call, struct err *e)
{
	const struct create_opts *o = call->opts;
	auto_json json_t *made = NULL;
	struct session_opts so = {
		.tty = o->spec.tty, .stdin_open = o->spec.interactive && !o->detach,
		.stdin_once = o->spec.interactive, .sig_proxy = o->sig_proxy >= 0, .patient = true,
		.detach_keys = o->detach_keys,
	};
	int r = o->detach ? 0 : session_check_tty(&so, e);

	r = r < 0 ? r : choose_streams(o, &so, e);
	r = r < 0 ? r : create(call, &made, e);
	if (r < 0) {
		return r;
	}
	const char *id = cli_str(made, "id");

	if (!o->detach) {
		r = run_attached(call, made, &so, e);
	} else if ((r = start(call, id, false, e)) == 0) {
		printf("%s\n", id);
	}
	if (r < 0 && o->rm) {
		remove_unstarted(call, id);
	}
	return r;
}

/* Everything that is Holm's fault, or the caller's, is 125: the rest is the workload's. */
static int run_or_125(const struct cmd_call *call, struct err *e)
{
	int r = run(call, e);

	if (r >= 0) {
		return r;
	}
	cli_complain(e);
	return 125;
}

const struct cmd cli_create = {
	.name = "create", .args = "IMAGE [COMMAND [ARG...]]", .min_args = 1, .max_args = CMD_ANY,
	.opts = create_table, .n_opts = ARRAY_LEN(create_table),
	.opts_size = sizeof(struct create_opts), .run = cmd_create, .flags = CMD_STOP_AT_ARG,
	.group = "Instances", .help = "make an instance of an image", .complete = CMD_COMPLETE_DYNAMIC,
};

const struct cmd cli_run = {
	.name = "run", .args = "IMAGE [COMMAND [ARG...]]", .min_args = 1, .max_args = CMD_ANY,
	.opts = run_table, .n_opts = ARRAY_LEN(run_table), .opts_size = sizeof(struct create_opts),
	.run = run_or_125, .flags = CMD_STOP_AT_ARG, .group = "Instances",
	.help = "make an instance of an image and start it", .complete = CMD_COMPLETE_DYNAMIC,
	.text = "The exit status is that of the command; or 125 if Holm failed, 126 if the command "
		"cannot be run, 127 if there is none of this name.",
	.examples = "holm run -it --rm debian bash\nholm run -d --name web -v /srv:/srv:ro nginx",
};
