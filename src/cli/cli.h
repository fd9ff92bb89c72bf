/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The command line `holm`: what its files share.
 *
 *	holm.c        the program's table
 *	create.c      create, run; opts.c: their options, and the spec they make
 *	life.c        start, stop, kill, restart, pause, resume, rm, rename, update, wait
 *	exec.c        exec, attach
 *	list.c        ps, inspect, stats, top, logs, events, info, version
 *	cp.c          cp
 *	each.c        the same for many arguments
 *	image.c       image ...; login.c  login, logout
 *	stream.c      an attached session (docs/formats/attach.md)
 *	http.c template.c table.c term.c   see their headers
 *
 * A command's function makes one or a few calls of the API and prints. It knows no state but
 * the daemon's. stdout is data, stderr is talk.
 */
#ifndef CLI_CLI_H
#define CLI_CLI_H

#include "base/cmd.h"
#include "cli/http.h"
#include "cli/table.h"
#include "json/json.h"

#define CLI_SOCKET "/run/holm/holm.sock"

/* Options of the program itself. */
struct cli_opts {
	const char *host;
	bool        debug;
};

extern const struct cmd cli_root;

extern const struct cmd cli_attach, cli_cp, cli_create, cli_events, cli_exec, cli_image, cli_kernel, cli_info,
	cli_inspect, cli_kill, cli_login, cli_logout, cli_logs, cli_pause, cli_ps, cli_rename,
	cli_restart, cli_resume, cli_rm, cli_run, cli_start, cli_stats, cli_stop, cli_top,
	cli_update, cli_version, cli_wait, cli_load, cli_pull, cli_push, cli_save, cli_images,
	cli_rmi, cli_tag;

/* The daemon's socket, from --host or HOLM_HOST ("unix:///path" or a path). */
const char *cli_socket(const struct cmd_call *call);

/* One call with a JSON answer. `body` is borrowed; ret may be NULL. */
int cli_json(const struct cmd_call *call, const char *method, const char *path,
	     const json_t *body, json_t **ret, struct err *e) must_check;

/* "/v1/instances/NAME/VERB", escaped; VERB may be NULL. Allocated, NULL when memory is out. */
char *cli_instance_path(const char *name, const char *verb) must_check;

/* The list of instances, newest first; `query` begins with '?' or is empty. */
int cli_instances(const struct cmd_call *call, const char *query, json_t **ret,
		  struct err *e) must_check;

/* Members of an object: "" , 0, NULL where they are absent or of another kind. */
const char *cli_str(const json_t *obj, const char *key);
int64_t     cli_int(const json_t *obj, const char *key);
bool        cli_bool(const json_t *obj, const char *key);

/* As a person reads them. */
struct cli_text {
	char text[48];
};
struct cli_text cli_ago(const char *rfc3339);        /* "3 minutes" */
struct cli_text cli_short_id(const char *id);        /* 12 digits; of a digest behind ':' */
struct cli_text cli_size(double bytes);              /* "12.3MB", powers of 1000 */

/* An image's name as people write it: docker.io is meant where no registry is named. */
const char *cli_image_name(const char *name);

/* --since and the like: a time, or how long ago; as the API wants it. NULL gives "". */
int cli_time(const char *text, const char *opt, struct cli_text *ret, struct err *e) must_check;

/* A JSON document on standard output, for --json. 0 or an error. */
int cli_print_json(const json_t *j, struct err *e) must_check;

/* `format` for each element of an array (or the one value), a line each. */
int cli_print_template(const char *format, const json_t *value, struct err *e) must_check;

/* True for "json" and its spellings, which mean --json. */
bool cli_wants_json(const char *format);

/* Send a file ("-": standard input) as the body of an operation; prints the names that come. */
int cli_upload(const struct cmd_call *call, const char *path, const char *type, const char *file,
	       bool quiet, struct err *e) must_check;

/*
 * Run `one` for every argument, a few at a time and each in a process of its own; what it prints
 * comes in the order of the arguments. What fails is complained about, the others go on.
 * Returns 0, or 1 if any failed; with a single argument its own error.
 */
typedef int (*cli_each_fn)(const struct cmd_call *call, const char *arg, struct err *e);
enum { CLI_AT_ONCE = 16 };
int cli_each(const struct cmd_call *call, cli_each_fn one, struct err *e) must_check;
int cli_each_of(const struct cmd_call *call, const char *const *args, size_t n, unsigned at_once,
		cli_each_fn one, struct err *e) must_check;

/*
 * The process of an instance (as the API shows it) has ended. A machine takes a moment more: if it
 * is removed at its end, wait for that, so that who asks for it after us finds it gone. Signals
 * that end a program end the wait, and us. A container is not waited for; it is gone soon.
 */
void cli_wait_removed(const struct cmd_call *call, const json_t *instance);

/* Print an error as cmd_main() would. */
void cli_complain(const struct err *e);

/*
 * Follow an operation to its end, with progress on standard error. Interrupted, it is
 * cancelled. *ret_result (may be NULL) is what it made.
 */
int cli_follow(const struct cmd_call *call, const json_t *op, bool quiet, json_t **ret_result,
	       struct err *e) must_check;

/* create.c: pull an image as `--pull` of create and run does. */
int cli_pull_image(const struct cmd_call *call, const char *ref, const char *platform, bool quiet,
		   struct err *e) must_check;

#endif
