/* SPDX-License-Identifier: Apache-2.0 */
/* image ..., with the shorter names that users of other engines know. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/fd.h"
#include "cli/cli.h"
#include "sys/file.h"

/* POST, then follow the operation that begins. */
static int operate(const struct cmd_call *call, const char *path, json_t *own_body, bool quiet,
		   json_t **ret, struct err *e)
{
	auto_json json_t *body = own_body;
	auto_json json_t *op = NULL;

	if (!body) {
		return err_set(e, EINVAL, ERR_INVALID, "an argument is not UTF-8");
	}
	int r = cli_json(call, "POST", path, body, &op, e);

	return r < 0 ? r : cli_follow(call, op, quiet, ret, e);
}

static char *image_path(const char *name, const char *verb)
{
	struct buf b = BUF_INIT;

	buf_add_str(&b, "/v1/images");
	http_segment(&b, name);
	if (verb) {
		buf_printf(&b, "/%s", verb);
	}
	return buf_take(&b);
}

/* --- pull, push --- */

struct pull_opts {
	const char *platform, *authfile;
	bool        quiet, insecure, no_tls_verify;
};

#define IN(m) offsetof(struct pull_opts, m)
#define TLS_OPTS \
	{ 0, "plain-http", CMD_FLAG, IN(insecure), NULL, "speak to the registry without TLS" }, \
	{ 0, "tls-no-verify", CMD_FLAG, IN(no_tls_verify), NULL, "take any certificate" }, \
	{ 'q', "quiet", CMD_FLAG, IN(quiet), NULL, "no progress" }
static const struct cmd_opt pull_table[] = {
	{ 0, "platform", CMD_STR, IN(platform), "OS/ARCH", "instead of that of this host" },
	TLS_OPTS,
};
static const struct cmd_opt push_table[] = { TLS_OPTS };
#undef IN

static int pull(const struct cmd_call *call, const char *ref, const struct pull_opts *o,
		struct err *e)
{
	json_t *body = json_pack("{s:s}", "reference", ref);
	auto_json json_t *result = NULL;

	if (body && ((o->platform && json_put(body, "platform", json_string(o->platform)) < 0) ||
		     (o->insecure && json_put(body, "plain_http", json_true()) < 0) ||
		     (o->no_tls_verify && json_put(body, "tls_no_verify", json_true()) < 0))) {
		json_decref(body);
		return err_nomem(e);
	}
	return operate(call, "/v1/images/pull", body, o->quiet, &result, e);
}

int cli_pull_image(const struct cmd_call *call, const char *ref, const char *platform, bool quiet,
		   struct err *e)
{
	struct pull_opts o = { .platform = platform, .quiet = quiet };

	return pull(call, ref, &o, e);
}

static int pull_one(const struct cmd_call *call, const char *ref, struct err *e)
{
	int r = pull(call, ref, call->opts, e);

	if (r == 0) {
		printf("%s\n", ref);
	}
	return r;
}

static int cmd_pull(const struct cmd_call *call, struct err *e)
{
	return cli_each_of(call, (const char *const *)call->args, call->n_args, 1, pull_one, e);
}

static int cmd_push(const struct cmd_call *call, struct err *e)
{
	const struct pull_opts *o = call->opts;
	const char *to = call->n_args > 1 ? call->args[1] : call->args[0];
	json_t *body = json_pack("{s:s,s:s}", "image", call->args[0], "reference", to);

	if (body && ((o->insecure && json_put(body, "plain_http", json_true()) < 0) ||
		     (o->no_tls_verify && json_put(body, "tls_no_verify", json_true()) < 0))) {
		json_decref(body);
		return err_nomem(e);
	}
	int r = operate(call, "/v1/images/push", body, o->quiet, NULL, e);

	if (r == 0) {
		printf("%s\n", to);
	}
	return r;
}

/* --- load, import, save, bootstrap --- */

struct file_opts {
	const char *file, *name, *format;
	bool        quiet;
	struct strv change;
};

#define IN(m) offsetof(struct file_opts, m)
static const struct cmd_opt load_table[] = {
	{ 'i', "input", CMD_STR, IN(file), "FILE", "instead of standard input",
	  .complete = CMD_COMPLETE_FILE },
	{ 'n', "name", CMD_STR, IN(name), "NAME", "of an image that has none in the archive" },
	{ 'q', "quiet", CMD_FLAG, IN(quiet), NULL, "no progress" },
};
static const struct cmd_opt import_table[] = {
	{ 'q', "quiet", CMD_FLAG, IN(quiet), NULL, "no progress" },
};
static const char *const formats[] = { "oci-archive", "docker-archive", NULL };
static const struct cmd_opt save_table[] = {
	{ 'o', "output", CMD_STR, IN(file), "FILE", "instead of standard output",
	  .complete = CMD_COMPLETE_FILE },
	{ 0, "format", CMD_STR, IN(format), "KIND", "oci-archive or docker-archive",
	  .dflt = "oci-archive" },
};
#undef IN

#define TAR "application/x-tar"

int cli_upload(const struct cmd_call *call, const char *path, const char *type, const char *file,
	       bool quiet, struct err *e)
{
	bool own = file && !str_eq(file, "-");
	auto_close int fd = own ? sys_openat(AT_FDCWD, file, O_RDONLY, 0) : sys_dup(STDIN_FILENO);

	if (fd < 0) {
		return err_set(e, -fd, ERR_NOT_FOUND, "%s: %s", own ? file : "standard input",
			       strerror(-fd));
	}
	if (!own && isatty(fd)) {
		return err_set(e, EINVAL, ERR_INVALID,
			       "standard input is a terminal; name a file with --input, or use a pipe");
	}
	struct http_call c = { .socket = cli_socket(call), .method = "POST", .path = path,
			       .body_fd = fd, .content_type = type };
	auto_json json_t *op = NULL, *result = NULL;
	int r = http_json(&c, &op, e);

	r = r < 0 ? r : cli_follow(call, op, quiet, &result, e);
	if (r == 0) {
		const json_t *images = json_object_get(result, "images");

		for (size_t i = 0; i < json_array_size(images); i++) {
			const json_t *one = json_array_get(images, i);
			const char *name = cli_image_name(cli_str(one, "name"));

			printf("%s\n", *name ? name : cli_str(one, "digest"));
		}
	}
	return r;
}

static int cmd_load(const struct cmd_call *call, struct err *e)
{
	const struct file_opts *o = call->opts;
	auto_buf struct buf path = BUF_INIT;

	buf_add_str(&path, "/v1/images/load");
	http_query(&path, "name", o->name);
	return cli_upload(call, buf_str(&path), TAR, o->file, o->quiet, e);
}

static int cmd_import(const struct cmd_call *call, struct err *e)
{
	const struct file_opts *o = call->opts;
	auto_buf struct buf path = BUF_INIT;

	buf_add_str(&path, "/v1/images/import");
	http_query(&path, "name", call->args[1]);
	return cli_upload(call, buf_str(&path), TAR, call->args[0], o->quiet, e);
}

static int save_to(const struct cmd_call *call, const char *path, int fd, struct err *e)
{
	static char bytes[65536];
	struct http_call c = { .socket = cli_socket(call), .method = "GET", .path = path,
			       .body_fd = -1 };
	auto_http struct http_reply *reply = NULL;
	ssize_t n = 0;
	int r = http_open(&c, &reply, e);

	while (r == 0 && (n = http_read(reply, bytes, sizeof(bytes))) > 0) {
		r = sys_write_full(fd, bytes, (size_t)n);
		r = r < 0 ? err_set(e, -r, ERR_HOST, "writing the archive: %s", strerror(-r)) : 0;
	}
	return n < 0 ? err_set(e, (int)-n, ERR_UNAVAILABLE, "the archive ended early") : r;
}

static int cmd_save(const struct cmd_call *call, struct err *e)
{
	const struct file_opts *o = call->opts;
	auto_buf struct buf path = BUF_INIT;
	bool own = o->file && !str_eq(o->file, "-");

	if (!own && isatty(STDOUT_FILENO)) {
		return err_set(e, EINVAL, ERR_INVALID,
			       "standard output is a terminal; name a file with --output");
	}
	if (!str_eq(o->format, formats[0]) && !str_eq(o->format, formats[1])) {
		return err_set(e, EINVAL, ERR_INVALID, "--format is oci-archive or docker-archive");
	}
	buf_add_str(&path, "/v1/images/save");
	http_query(&path, "format", o->format);
	for (size_t i = 0; i < call->n_args; i++) {
		http_query(&path, "name", call->args[i]);
	}
	auto_close int fd = own ? sys_openat(AT_FDCWD, o->file, O_WRONLY | O_CREAT | O_TRUNC, 0666) :
				  sys_dup(STDOUT_FILENO);
	if (fd < 0) {
		return err_set(e, -fd, ERR_HOST, "%s: %s", o->file, strerror(-fd));
	}
	int r = save_to(call, buf_str(&path), fd, e);

	if (r < 0 && own) {
		ignore_result(sys_unlinkat(AT_FDCWD, o->file, 0)); /* half an archive helps nobody */
	}
	return r;
}

struct bootstrap_opts {
	const char *name, *variant, *mirror;
	struct strv include;
	bool        quiet;
};

#define IN(m) offsetof(struct bootstrap_opts, m)
static const struct cmd_opt bootstrap_table[] = {
	{ 'n', "name", CMD_STR, IN(name), "NAME", "of the image; usual: DISTRIBUTION:SUITE" },
	{ 0, "variant", CMD_STR, IN(variant), "KIND", "of mmdebstrap: minbase, apt, essential, ..." },
	{ 0, "include", CMD_STRV, IN(include), "PACKAGE", "a further package" },
	{ 0, "mirror", CMD_STR, IN(mirror), "URL", "where packages come from" },
	{ 'q', "quiet", CMD_FLAG, IN(quiet), NULL, "no progress" },
};
#undef IN

static int cmd_bootstrap(const struct cmd_call *call, struct err *e)
{
	const struct bootstrap_opts *o = call->opts;
	json_t *body = json_pack("{s:s}", "distribution", call->args[0]);
	json_t *include = json_array();
	auto_json json_t *result = NULL;
	bool ok = body && include;

	for (size_t i = 0; ok && i < o->include.n; i++) {
		ok = json_array_append_new(include, json_string(o->include.v[i])) == 0;
	}
	ok = ok && !(o->name && json_put(body, "name", json_string(o->name)) < 0) &&
	     !(o->variant && json_put(body, "variant", json_string(o->variant)) < 0) &&
	     !(o->mirror && json_put(body, "mirror", json_string(o->mirror)) < 0) &&
	     !(o->include.n > 0 && json_put(body, "include", json_incref(include)) < 0);
	json_decref(include);
	if (!ok) {
		json_decref(body);
		return err_set(e, EINVAL, ERR_INVALID, "an argument is not UTF-8");
	}
	int r = operate(call, "/v1/images/bootstrap", body, o->quiet, &result, e);

	if (r == 0) {
		printf("%s\n", o->name ? o->name : *cli_str(result, "name") ?
		       cli_str(result, "name") : call->args[0]);
	}
	return r;
}

/* --- ls, inspect, history --- */

struct ls_opts {
	bool        quiet, no_trunc, json, all;
	const char *format;
};

#define IN(m) offsetof(struct ls_opts, m)
static const struct cmd_opt ls_table[] = {
	{ 'a', "all", CMD_FLAG, IN(all), NULL, "those without a name, too" },
	{ 'q', "quiet", CMD_FLAG, IN(quiet), NULL, "ids only" },
	{ 0, "no-trunc", CMD_FLAG, IN(no_trunc), NULL, "cut nothing off" },
	{ 0, "format", CMD_STR, IN(format), "TEMPLATE", "a line for each, or \"json\"" },
	{ 0, "json", CMD_FLAG, IN(json), NULL, "as the API has it" },
};
#undef IN

static const json_t *list_in(const json_t *doc, const char *key)
{
	return json_is_array(doc) ? doc : json_object_get(doc, key);
}

/* "host/name" and "tag" of a name; what templates of other engines call so. */
static int add_aliases(json_t *i)
{
	const char *name = cli_image_name(cli_str(i, "name"));
	const char *slash = strrchr(name, '/'), *colon = strchr(slash ? slash : name, ':');
	auto_free char *repo = str_ndup(name, colon ? (size_t)(colon - name) : strlen(name));

	return !repo || json_put(i, "Repository", json_string(*repo ? repo : "<none>")) < 0 ||
	       json_put(i, "Tag", json_string(colon ? colon + 1 : "<none>")) < 0 ||
	       json_put(i, "ID", json_string(cli_short_id(cli_str(i, "id")).text)) < 0 ||
	       json_put(i, "Digest", json_string(cli_str(i, "digest"))) < 0 ||
	       json_put(i, "Size", json_string(cli_size((double)cli_int(i, "size")).text)) < 0 ?
	       -ENOMEM : 0;
}

static int print_images(const json_t *list, const struct ls_opts *o, struct err *e)
{
	auto_columns struct columns c = COLUMNS_INIT(4);

	columns_add(&c, "NAME", "IMAGE ID", "CREATED", "SIZE");
	for (size_t n = 0; n < json_array_size(list); n++) {
		const json_t *i = json_array_get(list, n);
		const char *name = cli_image_name(cli_str(i, "name")), *id = cli_str(i, "id");
		struct cli_text short_id = cli_short_id(id);
		auto_free char *ago = *cli_str(i, "created") ?
				      str_printf("%s ago", cli_ago(cli_str(i, "created")).text) : NULL;

		columns_add(&c, *name ? name : "<none>", o->no_trunc ? id : short_id.text, ago,
			    cli_size((double)cli_int(i, "size")).text);
	}
	return columns_print(&c, stdout) < 0 ? err_nomem(e) : 0;
}

static int cmd_ls(const struct cmd_call *call, struct err *e)
{
	const struct ls_opts *o = call->opts;
	auto_json json_t *doc = NULL;
	int r = cli_json(call, "GET", "/v1/images", NULL, &doc, e);
	const json_t *list = list_in(doc, "images");

	if (r < 0) {
		return r;
	}
	if (o->json || cli_wants_json(o->format)) {
		return cli_print_json(list, e);
	}
	for (size_t n = 0; n < json_array_size(list); n++) {
		json_t *i = json_array_get(list, n);

		if (o->quiet) {
			printf("%s\n", o->no_trunc ? cli_str(i, "id") :
			       cli_short_id(cli_str(i, "id")).text);
		} else if (o->format && add_aliases(i) < 0) {
			return err_nomem(e);
		}
	}
	return o->quiet ? 0 : o->format ? cli_print_template(o->format, list, e) :
					  print_images(list, o, e);
}

static int cmd_image_inspect(const struct cmd_call *call, struct err *e)
{
	const struct ls_opts *o = call->opts;
	auto_json json_t *all = json_array();

	for (size_t i = 0; i < call->n_args; i++) {
		auto_free char *path = image_path(call->args[i], NULL);
		json_t *one = NULL;
		int r = cli_json(call, "GET", path, NULL, &one, e);

		if (r < 0) {
			return r;
		}
		if (json_array_append_new(all, one) < 0) {
			return err_nomem(e);
		}
	}
	return o->format && !str_eq(o->format, "json") ? cli_print_template(o->format, all, e) :
							  cli_print_json(all, e);
}

static int cmd_history(const struct cmd_call *call, struct err *e)
{
	const struct ls_opts *o = call->opts;
	auto_free char *path = image_path(call->args[0], "history");
	auto_json json_t *doc = NULL;
	auto_columns struct columns c = COLUMNS_INIT(3);
	int r = cli_json(call, "GET", path, NULL, &doc, e);
	const json_t *list = list_in(doc, "history");

	if (r < 0) {
		return r;
	}
	if (o->json || cli_wants_json(o->format)) {
		return cli_print_json(list, e);
	}
	if (o->format) {
		return cli_print_template(o->format, list, e);
	}
	columns_add(&c, "CREATED", "SIZE", "CREATED BY");
	for (size_t n = json_array_size(list); n > 0; n--) {
		const json_t *h = json_array_get(list, n - 1);
		const char *by = cli_str(h, "created_by");
		auto_free char *cut = str_ndup(by, o->no_trunc ? strlen(by) : MIN(strlen(by), (size_t)60));
		auto_free char *ago = *cli_str(h, "created") ?
				      str_printf("%s ago", cli_ago(cli_str(h, "created")).text) : NULL;

		columns_add(&c, ago, cli_size((double)cli_int(h, "size")).text, cut);
	}
	return columns_print(&c, stdout) < 0 ? err_nomem(e) : 0;
}

/* --- tag, rm, prune --- */

static int cmd_tag(const struct cmd_call *call, struct err *e)
{
	auto_free char *path = image_path(call->args[0], "tag");
	auto_json json_t *body = json_pack("{s:s}", "name", call->args[1]);

	return body ? cli_json(call, "POST", path, body, NULL, e) :
		      err_set(e, EINVAL, ERR_INVALID, "the name is not UTF-8");
}

struct image_rm_opts {
	bool force;
};

static const struct cmd_opt image_rm_table[] = {
	{ 'f', "force", CMD_FLAG, offsetof(struct image_rm_opts, force), NULL,
	  "no error where there is none" },
};

static int image_rm_one(const struct cmd_call *call, const char *name, struct err *e)
{
	const struct image_rm_opts *o = call->opts;
	auto_free char *path = image_path(name, NULL);
	int r = cli_json(call, "DELETE", path, NULL, NULL, e);

	if (r < 0 && o->force && e->code == ERR_NOT_FOUND) {
		err_clear(e);
		return 0;
	}
	if (r == 0) {
		printf("%s\n", name);
	}
	return r;
}

static int cmd_image_rm(const struct cmd_call *call, struct err *e)
{
	return cli_each_of(call, (const char *const *)call->args, call->n_args, 1, image_rm_one, e);
}

struct prune_opts {
	bool all, force, json;
};

#define IN(m) offsetof(struct prune_opts, m)
static const struct cmd_opt prune_table[] = {
	{ 'a', "all", CMD_FLAG, IN(all), NULL, "also those with a name, if nothing uses them" },
	{ 'f', "force", CMD_FLAG, IN(force), NULL, "do not ask (it never does)" },
	{ 0, "json", CMD_FLAG, IN(json), NULL, "as the API has it" },
};
#undef IN

static int cmd_prune(const struct cmd_call *call, struct err *e)
{
	const struct prune_opts *o = call->opts;
	auto_json json_t *body = json_object(), *doc = NULL;

	if (o->all && json_put(body, "all", json_true()) < 0) {
		return err_nomem(e);
	}
	int r = cli_json(call, "POST", "/v1/images/prune", body, &doc, e);
	const json_t *removed = json_object_get(doc, "removed");

	if (r < 0 || o->json) {
		return r < 0 ? r : cli_print_json(doc, e);
	}
	for (size_t i = 0; i < json_array_size(removed); i++) {
		const char *name = json_string_value(json_array_get(removed, i));

		printf("%s\n", name ? name : "");
	}
	fprintf(stderr, "%s are free again\n", cli_size((double)cli_int(doc, "bytes")).text);
	return 0;
}

/* Most stand under "image" and, with the name that others know, at the top. */
#define COMMAND(verb, usage, low, high, table, type, fn, what) \
	{ \
		.name = verb, .args = usage, .min_args = low, .max_args = high, .opts = table, \
		.n_opts = ARRAY_LEN(table), .opts_size = sizeof(struct type), .run = fn, \
		.group = "Images", .help = what, .complete = CMD_COMPLETE_DYNAMIC, \
	}

const struct cmd cli_pull = COMMAND("pull", "IMAGE...", 1, CMD_ANY, pull_table, pull_opts, cmd_pull,
				    "fetch images from registries");
const struct cmd cli_push = COMMAND("push", "IMAGE [REFERENCE]", 1, 2, push_table, pull_opts,
				    cmd_push, "send an image to a registry");
const struct cmd cli_load = COMMAND("load", NULL, 0, 0, load_table, file_opts, cmd_load,
				    "add the images of an archive");
const struct cmd cli_save = COMMAND("save", "IMAGE...", 1, CMD_ANY, save_table, file_opts, cmd_save,
				    "write images into an archive");
const struct cmd cli_images = COMMAND("images", NULL, 0, 0, ls_table, ls_opts, cmd_ls,
				      "list images");
const struct cmd cli_rmi = COMMAND("rmi", "IMAGE...", 1, CMD_ANY, image_rm_table, image_rm_opts,
				   cmd_image_rm, "remove images");
static const struct cmd image_ls = COMMAND("ls", NULL, 0, 0, ls_table, ls_opts, cmd_ls,
					   "list images");
static const struct cmd image_rm = COMMAND("rm", "IMAGE...", 1, CMD_ANY, image_rm_table,
					   image_rm_opts, cmd_image_rm, "remove images");
static const struct cmd image_import = COMMAND("import", "FILE NAME", 2, 2, import_table, file_opts,
					       cmd_import, "make an image of the tar of a root");
static const struct cmd image_bootstrap =
	COMMAND("bootstrap", "DISTRIBUTION[:SUITE]", 1, 1, bootstrap_table, bootstrap_opts,
		cmd_bootstrap, "make an image of packages of a distribution");
static const struct cmd image_inspect = COMMAND("inspect", "IMAGE...", 1, CMD_ANY, ls_table,
						ls_opts, cmd_image_inspect,
						"show all that is known of images");
static const struct cmd image_history = COMMAND("history", "IMAGE", 1, 1, ls_table, ls_opts,
						cmd_history, "show how an image came to be");
static const struct cmd image_prune = COMMAND("prune", NULL, 0, 0, prune_table, prune_opts,
					      cmd_prune, "remove images that nothing uses");

const struct cmd cli_tag = {
	.name = "tag", .args = "IMAGE NAME", .min_args = 2, .max_args = 2, .run = cmd_tag,
	.group = "Images", .help = "give an image one more name", .complete = CMD_COMPLETE_DYNAMIC,
};

static const struct cmd *const image_commands[] = {
	&image_bootstrap, &image_history, &image_import, &image_inspect, &cli_load, &image_ls,
	&image_prune, &cli_pull, &cli_push, &image_rm, &cli_save, &cli_tag,
};

const struct cmd cli_image = {
	.name = "image", .sub = image_commands, .n_sub = ARRAY_LEN(image_commands),
	.group = "Images", .help = "everything about images",
};
