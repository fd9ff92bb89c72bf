/* SPDX-License-Identifier: Apache-2.0 */
/* The commands of holm-image that bring images in and out as files. */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "image/archive.h"
#include "image/bootstrap.h"
#include "main/holm-image.h"
#include "sys/file.h"

/* "-": standard input. */
static int open_input(const char *file, struct err *e)
{
	if (str_eq(file, "-")) {
		int fd = sys_dup(STDIN_FILENO);

		return fd < 0 ? err_set(e, -fd, ERR_HOST, "standard input") : fd;
	}

	int fd = sys_openat(AT_FDCWD, file, O_RDONLY, 0);

	return fd < 0 ? err_set(e, -fd, fd == -ENOENT ? ERR_NOT_FOUND : ERR_HOST, "%s%s", file,
				fd == -ENOENT ? ": no such file" : "") : fd;
}

static int unpack_all(struct session *s, const struct archive_images *images, struct err *e)
{
	int r = 0;

	for (size_t i = 0; r == 0 && i < images->n; i++) {
		r = session_unpack(s, images->v[i].manifest, e);
	}
	return r;
}

int cmd_load(const struct cmd_call *call, struct err *e)
{
	const struct load_opts *o = call->opts;
	auto_arena struct arena a = ARENA_INIT;
	struct session s = { .store = NULL };
	struct archive_images images = { .n = 0 };
	auto_close int fd = open_input(call->args[0], e);
	int r = fd < 0 ? fd : session_open(&s, call, STORE_CREATE, e);

	if (r == 0) {
		struct archive_load l = { .fd = fd, .file = call->args[0], .name = o->add.name,
					  .platform = o->add.platform };

		r = archive_load(s.store, &l, s.progress, &a, &images, e);
	}
	if (r == 0 && o->add.unpack) {
		r = unpack_all(&s, &images, e);
	}
	return session_close(&s, r, e);
}

/* The vectors of a config, borrowed from options. */
static struct jstrv view(const struct strv *v)
{
	return (struct jstrv){ .v = (const char **)(uintptr_t)v->v, .n = v->n };
}

/* What the config options say; -EINVAL for a label or variable without "=". */
static int run_of(const struct config_opts *o, struct arena *a, struct oci_image_run *ret,
		  struct err *e)
{
	*ret = (struct oci_image_run){ .user = o->user, .working_dir = o->workdir,
				       .env = view(&o->env), .cmd = view(&o->cmd),
				       .entrypoint = view(&o->entrypoint) };
	ret->labels.v = arena_alloc(a, o->labels.n + 1, sizeof(struct jpair));
	if (!ret->labels.v) {
		return err_nomem(e);
	}
	for (size_t i = 0; i < o->labels.n; i++) {
		const char *eq = strchr(o->labels.v[i], '=');
		char *key = eq ? arena_strndup(a, o->labels.v[i], (size_t)(eq - o->labels.v[i])) : NULL;

		if (!key) {
			return eq ? err_nomem(e) :
				err_set(e, EINVAL, ERR_INVALID, "--label takes KEY=VALUE");
		}
		ret->labels.v[ret->labels.n++] = (struct jpair){ .key = key, .value = eq + 1 };
	}
	for (size_t i = 0; i < o->env.n; i++) {
		if (!strchr(o->env.v[i], '=')) {
			return err_set(e, EINVAL, ERR_INVALID, "--env takes NAME=VALUE");
		}
	}
	return 0;
}

int cmd_import(const struct cmd_call *call, struct err *e)
{
	const struct import_opts *o = call->opts;
	auto_arena struct arena a = ARENA_INIT;
	struct session s = { .store = NULL };
	struct archive_images images = { .n = 0 };
	struct oci_image_run run;
	auto_close int fd = open_input(call->args[0], e);
	int r = fd < 0 ? fd : run_of(&o->config, &a, &run, e);

	r = r < 0 ? r : session_open(&s, call, STORE_CREATE, e);
	if (r == 0) {
		struct archive_import job = {
			.fd = fd, .file = call->args[0],
			.name = call->n_args > 1 ? call->args[1] : NULL,
			.compress = (enum archive_compress)o->compress, .run = &run,
			.platform = o->platform, .comment = o->comment,
		};

		r = archive_import(s.store, &job, s.progress, &a, &images, e);
	}
	if (r == 0 && o->unpack) {
		r = unpack_all(&s, &images, e);
	}
	if (r == 0) {
		puts(images.v[0].manifest);
	}
	return session_close(&s, r, e);
}

int cmd_bootstrap(const struct cmd_call *call, struct err *e)
{
	const struct bootstrap_opts *o = call->opts;
	auto_arena struct arena a = ARENA_INIT;
	struct session s = { .store = NULL };
	struct archive_images images = { .n = 0 };
	struct oci_image_run run;
	bool own = o->config.cmd.n || o->config.entrypoint.n || o->config.env.n ||
		   o->config.labels.n || o->config.user || o->config.workdir;
	int r = run_of(&o->config, &a, &run, e);

	r = r < 0 ? r : session_open(&s, call, STORE_CREATE, e);
	if (r == 0) {
		struct bootstrap b = {
			.what = call->args[0], .name = o->name, .variant = o->variant,
			.mirror = o->mirror, .include = &o->include, .platform = o->platform,
			.compress = (enum archive_compress)o->compress, .run = own ? &run : NULL,
		};

		r = bootstrap_run(s.store, &b, s.progress, &a, &images, e);
	}
	if (r == 0 && o->unpack) {
		r = unpack_all(&s, &images, e);
	}
	return session_close(&s, r, e);
}

/* Where "save" writes. A file comes into being only once it is whole. */
static int open_output(const struct save_opts *o, bool dir, struct err *e)
{
	if (!o->output || str_eq(o->output, "-")) {
		if (dir || isatty(STDOUT_FILENO)) {
			return err_set(e, EINVAL, ERR_INVALID, "say where to with --output");
		}

		int fd = sys_dup(STDOUT_FILENO);

		return fd < 0 ? err_set(e, -fd, ERR_HOST, "standard output") : fd;
	}

	auto_free char *part = dir ? NULL : str_printf("%s.part", o->output);
	int r = dir ? sys_mkdirat(AT_FDCWD, o->output, 0755) : 0;
	int fd = r < 0 && r != -EEXIST ? r :
		 dir ? sys_openat(AT_FDCWD, o->output, O_RDONLY | O_DIRECTORY, 0) :
		 part ? sys_openat(AT_FDCWD, part, O_WRONLY | O_CREAT | O_TRUNC | O_NOFOLLOW, 0644) :
			-ENOMEM;

	return fd < 0 ? err_set(e, -fd, ERR_HOST, "%s cannot be written", o->output) : fd;
}

static int close_output(const struct save_opts *o, bool dir, int r, struct err *e)
{
	if (dir || !o->output || str_eq(o->output, "-")) {
		return r;
	}

	auto_free char *part = str_printf("%s.part", o->output);

	if (!part) {
		return r < 0 ? r : err_nomem(e);
	}
	if (r == 0) {
		r = sys_renameat2(AT_FDCWD, part, AT_FDCWD, o->output, 0);
		r = r < 0 ? err_set(e, -r, ERR_HOST, "%s cannot be written", o->output) : 0;
	}
	if (r < 0) {
		ignore_result(sys_unlinkat(AT_FDCWD, part, 0)); /* the failure is told already */
	}
	return r;
}

int cmd_save(const struct cmd_call *call, struct err *e)
{
	const struct save_opts *o = call->opts;
	enum archive_format format = (enum archive_format)o->format;
	bool dir = format == ARCHIVE_OCI_DIR;
	struct session s = { .store = NULL };
	auto_close int fd = -1;
	int r = session_open(&s, call, STORE_READ_ONLY, e);

	if (r == 0) {
		r = fd = open_output(o, dir, e);
	}
	if (r >= 0) {
		r = archive_save(s.store, (const char *const *)call->args, call->n_args, format, fd,
				 s.progress, e);
		r = close_output(o, dir, r, e);
	}
	return session_close(&s, r < 0 ? r : 0, e);
}
