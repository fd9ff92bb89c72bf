/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the commands of `holm` share: where the daemon is, calls to it, output.
 *
 * Data goes to standard output, talk to standard error. Listings print columns for a person,
 * or with --json what the API says.
 */
#ifndef CLI_CLI_H
#define CLI_CLI_H

#include "base/cmd.h"
#include "cli/http.h"

#define CLI_SOCKET_DEFAULT "/run/holm/holm.sock"

/* The options of the program itself. */
struct cli_top {
	const char *host;
};

/* The daemon's socket: --host, $HOLM_HOST, or the default; "unix://" may stand in front. */
const char *cli_socket(const struct cmd_call *call);

/* One exchange in JSON. *ret (may be NULL: dropped) is NULL where the reply has no body. */
int cli_call(const struct cmd_call *call, const char *method, const char *path, const json_t *body,
	     json_t **ret, struct err *e) must_check;

/* "/v1/instances/NAME" and "/ACTION" (NULL: without); the caller frees. NULL: no memory. */
char *cli_instance_path(const char *name, const char *action) must_check;

/* A JSON value on standard output, indented, with a line end. */
int cli_print_json(const json_t *j, struct err *e) must_check;

/* What --format makes of a value, with a line end. */
int cli_print_format(const char *format, const json_t *j, struct err *e) must_check;

/* Members of an object, with a default where they are absent or of another type. */
const char *cli_str(const json_t *obj, const char *key, const char *dflt);
int64_t     cli_int(const json_t *obj, const char *key, int64_t dflt);

/* How long ago a time was, for a person: "5 minutes ago"; "" for an absent one. */
struct ago_text {
	char text[32];
};
struct ago_text cli_ago(const char *rfc3339);

/*
 * Do something for each argument and go on after failures, which are reported as they come.
 * Returns 0, or the first error after all were tried.
 */
typedef int (*cli_each_fn)(const struct cmd_call *call, const char *arg, void *ud, struct err *e);
int cli_each(const struct cmd_call *call, cli_each_fn fn, void *ud, struct err *e) must_check;

#endif
