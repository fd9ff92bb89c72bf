/* SPDX-License-Identifier: Apache-2.0 */
/*
 * login and logout. Credentials stay with the user who gave them, in the file that docker's
 * and podman's tools share (~/.docker/config.json); holm-image checks and writes them, as it
 * speaks to registries anyway.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "cli/cli.h"

struct login_opts {
	const char *user, *password, *authfile;
	bool        password_stdin, plain_http, no_tls_verify;
};

#define IN(m) offsetof(struct login_opts, m)
static const struct cmd_opt login_table[] = {
	{ 'u', "username", CMD_STR, IN(user), "NAME", "asked for if not given" },
	{ 0, "password-stdin", CMD_FLAG, IN(password_stdin), NULL,
	  "read the password from standard input" },
	{ 'p', "password", CMD_STR, IN(password), "PASSWORD",
	  "other users of this host can see it: prefer --password-stdin" },
	{ 0, "authfile", CMD_STR, IN(authfile), "FILE", "instead of ~/.docker/config.json",
	  .complete = CMD_COMPLETE_FILE },
	{ 0, "plain-http", CMD_FLAG, IN(plain_http), NULL, "speak to the registry without TLS" },
	{ 0, "tls-no-verify", CMD_FLAG, IN(no_tls_verify), NULL, "take any certificate" },
};

static const struct cmd_opt logout_table[] = {
	{ 0, "authfile", CMD_STR, IN(authfile), "FILE", "instead of ~/.docker/config.json",
	  .complete = CMD_COMPLETE_FILE },
};
#undef IN

/* Beside this program (uninstalled), or where it is installed. */
static char *image_program(void)
{
	char self[4096];
	ssize_t n = readlink("/proc/self/exe", self, sizeof(self) - 1);

	if (n > 0) {
		self[n] = '\0';
		char *slash = strrchr(self, '/');
		auto_free char *beside = slash ? str_printf("%.*s/holm-image", (int)(slash - self),
							    self) : NULL;

		if (beside && access(beside, X_OK) == 0) {
			return take_ptr(&beside);
		}
	}
	return str_dup(HOLM_LIBEXEC "/holm-image");
}

static int hand_over(const struct cmd_call *call, const char *verb, struct err *e)
{
	const struct login_opts *o = call->opts;
	auto_strv struct strv v = STRV_INIT;
	auto_free char *program = image_program();
	int r = program ? strv_add(&v, program) : -ENOMEM;

	r = r < 0 ? r : strv_add(&v, verb);
	if (r == 0 && o->authfile) {
		r = strv_addf(&v, "--authfile=%s", o->authfile);
	}
	if (r == 0 && o->user) {
		r = strv_addf(&v, "--username=%s", o->user);
	}
	if (r == 0 && o->password) {
		r = strv_addf(&v, "--password=%s", o->password);
	}
	if (r == 0 && o->password_stdin) {
		r = strv_add(&v, "--password-stdin");
	}
	if (r == 0 && o->plain_http) {
		r = strv_add(&v, "--plain-http");
	}
	if (r == 0 && o->no_tls_verify) {
		r = strv_add(&v, "--tls-no-verify");
	}
	for (size_t i = 0; r == 0 && i < call->n_args; i++) {
		r = strv_add(&v, call->args[i]);
	}
	if (r < 0) {
		return err_nomem(e);
	}
	(void)execv(program, v.v); /* returns only if it failed */
	return err_set(e, errno, ERR_HOST, "cannot run %s: %s", program, strerror(errno));
}

static int cmd_login(const struct cmd_call *call, struct err *e)
{
	return hand_over(call, "login", e);
}

static int cmd_logout(const struct cmd_call *call, struct err *e)
{
	return hand_over(call, "logout", e);
}

const struct cmd cli_login = {
	.name = "login", .args = "[REGISTRY]", .max_args = 1, .opts = login_table,
	.n_opts = ARRAY_LEN(login_table), .opts_size = sizeof(struct login_opts), .run = cmd_login,
	.group = "Images", .help = "keep credentials for a registry",
};

const struct cmd cli_logout = {
	.name = "logout", .args = "[REGISTRY]", .max_args = 1, .opts = logout_table,
	.n_opts = ARRAY_LEN(logout_table), .opts_size = sizeof(struct login_opts),
	.run = cmd_logout, .group = "Images", .help = "forget credentials for a registry",
};
