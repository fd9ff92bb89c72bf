/* SPDX-License-Identifier: Apache-2.0 */
/* The commands of holm-image that speak with registries. */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <termios.h>
#include <unistd.h>

#include "base/clock.h"
#include "json/json.h"
#include "main/holm-image.h"
#include "sys/file.h"

void conf_of(const struct net_opts *n, struct registry_conf *ret)
{
	*ret = (struct registry_conf){
		.plain_hosts = &n->insecure, .plain = n->plain, .no_verify = n->no_verify,
		.ca_file = n->ca, .cert_file = n->cert, .key_file = n->key,
		.certs_dir = n->certs_dir, .auth_file = n->auth_file, .user = n->user,
		.parallel = (unsigned)n->parallel, .retries = (unsigned)n->retries,
		.retry_ms = (unsigned)(n->retry_ns / NS_PER_MS),
		.stall_seconds = (unsigned)(n->stall_ns / NS_PER_SEC),
		.chunk_bytes = n->chunk_bytes,
	};
}

int cmd_pull(const struct cmd_call *call, struct err *e)
{
	const struct pull_opts *o = call->opts;
	struct session s = { .store = NULL };
	struct registry_conf conf;
	int r = 0;

	conf_of(&o->net, &conf);
	for (size_t i = 0; r == 0 && i < call->n_args; i++) {
		struct ref ref;

		r = ref_parse(call->args[i], &ref, e);
	}
	r = r < 0 ? r : session_open(&s, call, STORE_CREATE, e);
	for (size_t i = 0; r == 0 && i < call->n_args; i++) {
		char manifest[OCI_DIGEST_MAX];
		struct ref ref;

		r = ref_parse(call->args[i], &ref, e);
		r = r < 0 ? r : registry_pull(s.store, &ref, o->add.platform, &conf, s.progress,
					      manifest, e);
		if (r == 0 && o->add.unpack) {
			r = session_unpack(&s, manifest, e);
		}
		if (r == 0) {
			puts(manifest);
		}
	}
	return session_close(&s, r, e);
}

int cmd_push(const struct cmd_call *call, struct err *e)
{
	const struct pull_opts *o = call->opts;
	struct session s = { .store = NULL };
	struct registry_conf conf;
	struct ref ref;
	int r = ref_parse(call->args[call->n_args - 1], &ref, e);

	conf_of(&o->net, &conf);
	r = r < 0 ? r : session_open(&s, call, 0, e);
	r = r < 0 ? r : registry_push(s.store, call->args[0], &ref, &conf, s.progress, e);
	return session_close(&s, r, e);
}

static int print_list(const struct strv *list, bool json, struct err *e)
{
	auto_json json_t *out = json ? json_array() : NULL;

	for (size_t i = 0; i < list->n; i++) {
		if (!json) {
			puts(list->v[i]);
		} else if (!out || json_array_append_new(out, json_string(list->v[i])) < 0) {
			return err_nomem(e);
		}
	}
	if (json) {
		auto_free char *text = out ? json_text_pretty(out) : NULL;

		if (!text) {
			return err_nomem(e);
		}
		puts(text);
	}
	return 0;
}

int cmd_tags(const struct cmd_call *call, struct err *e)
{
	const struct tags_opts *o = call->opts;
	auto_strv struct strv list = STRV_INIT;
	struct registry_conf conf;
	struct ref ref = { .host = "" };
	int r = o->catalog ? ref_parse_host(call->args[0], ref.host, e) :
			     ref_parse(call->args[0], &ref, e);

	conf_of(&o->net, &conf);
	r = r < 0 ? r : registry_list(&ref, &conf, &list, e);
	return r < 0 ? r : print_list(&list, o->json, e);
}

/* A line of standard input, without its end; on a terminal without showing it. */
static char *read_secret(const char *prompt, bool hide)
{
	struct termios before, silent;
	bool tty = isatty(STDIN_FILENO) && tcgetattr(STDIN_FILENO, &before) == 0;
	char line[4096];

	if (tty) {
		fprintf(stderr, "%s: ", prompt);
		silent = before;
		silent.c_lflag &= (tcflag_t)~(hide ? ECHO : 0);
		(void)tcsetattr(STDIN_FILENO, TCSAFLUSH, &silent); /* then it is seen */
	}

	char *got = fgets(line, sizeof(line), stdin);

	if (tty) {
		(void)tcsetattr(STDIN_FILENO, TCSAFLUSH, &before); /* as above */
		if (hide) {
			fputc('\n', stderr);
		}
	}
	if (!got) {
		return NULL;
	}
	line[strcspn(line, "\r\n")] = '\0';
	got = str_dup(line);
	explicit_bzero(line, sizeof(line));
	return got;
}

static int ask_credentials(const struct login_opts *o, struct credential *c, struct err *e)
{
	c->username = o->username ? str_dup(o->username) : read_secret("User name", false);
	if (o->password && o->password_stdin) {
		return err_set(e, EINVAL, ERR_INVALID, "--password or --password-stdin, not both");
	}
	if (c->username && !o->password && !o->password_stdin && !isatty(STDIN_FILENO)) {
		return err_set(e, EINVAL, ERR_INVALID,
			       "there is no terminal to ask for the password: use --password-stdin");
	}
	c->password = !c->username ? NULL : o->password ? str_dup(o->password) :
							   read_secret("Password", true);
	if (!c->password || c->username[0] == '\0') {
		return err_set(e, EINVAL, ERR_INVALID, "a user name and a password are needed");
	}
	if (strchr(c->username, ':')) {
		return err_set(e, EINVAL, ERR_INVALID, "a user name cannot hold a colon");
	}
	return 0;
}

int cmd_login(const struct cmd_call *call, struct err *e)
{
	const struct login_opts *o = call->opts;
	auto_credential struct credential c = CREDENTIAL_INIT;
	auto_free char *file = auth_file_path(o->net.auth_file);
	char host[REF_HOST_MAX + 1];
	struct registry_conf conf;
	int r = ref_parse_host(call->n_args ? call->args[0] : "", host, e);

	conf_of(&o->net, &conf);
	if (r == 0 && !file) {
		return err_set(e, ENOENT, ERR_INVALID, "there is no HOME: say where with --authfile");
	}
	r = r < 0 ? r : ask_credentials(o, &c, e);
	r = r < 0 ? r : registry_login(host, &c, &conf, e);
	r = r < 0 ? r : auth_store(file, host, &c, e);
	if (r == 0) {
		printf("logged in to %s\n", host);
	}
	return r;
}

int cmd_logout(const struct cmd_call *call, struct err *e)
{
	const struct login_opts *o = call->opts;
	auto_free char *file = auth_file_path(o->net.auth_file);
	char host[REF_HOST_MAX + 1];
	bool found = false;
	int r = ref_parse_host(call->n_args ? call->args[0] : "", host, e);

	if (r == 0 && !file) {
		return err_set(e, ENOENT, ERR_INVALID, "there is no HOME: say where with --authfile");
	}
	r = r < 0 ? r : auth_erase(file, host, &found, e);
	if (r == 0) {
		printf(found ? "logged out of %s\n" : "there were no credentials for %s\n", host);
	}
	return r;
}
