/* SPDX-License-Identifier: Apache-2.0 */
/* holm-image kernel: kernels for virtual machines. */
#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <stdio.h>
#include <unistd.h>

#include "base/fd.h"
#include "image/kernel.h"
#include "main/holm-image.h"
#include "sys/file.h"

struct kernel_opts {
	const char *dir, *name;
	bool        json;
};

#define IN(m) offsetof(struct kernel_opts, m)
#define DIR_OPT { 0, "kernels", CMD_STR, IN(dir), "DIR", "folder of the kernels", \
		  .dflt = "/var/lib/holm/kernels", .complete = CMD_COMPLETE_DIR }
static const struct cmd_opt import_opts[] = {
	DIR_OPT,
	{ 0, "name", CMD_STR, IN(name), "NAME", "in place of its own release" },
};
static const struct cmd_opt ls_opts[] = {
	DIR_OPT,
	{ 0, "json", CMD_FLAG, IN(json), NULL, "print JSON" },
};
static const struct cmd_opt rm_opts[] = { DIR_OPT };
#undef IN

static int open_kernels(const struct cmd_call *call, struct err *e)
{
	const struct kernel_opts *o = call->opts;
	int r = sys_mkdir_p(AT_FDCWD, o->dir, 0755);
	int fd = r < 0 ? r : sys_openat(AT_FDCWD, o->dir, O_RDONLY | O_DIRECTORY, 0);

	return fd < 0 ? err_set(e, -fd, ERR_HOST, "cannot use the folder %s", o->dir) : fd;
}

/* A package is read twice, so what comes through a pipe is kept first, in memory. */
static int open_package(const char *file, struct err *e)
{
	static char block[65536];
	bool own = !str_eq(file, "-");
	auto_close int fd = own ? sys_openat(AT_FDCWD, file, O_RDONLY, 0) : sys_dup(STDIN_FILENO);

	if (fd < 0) {
		return err_set(e, -fd, ERR_NOT_FOUND, "cannot read %s", file);
	}
	if (lseek(fd, 0, SEEK_CUR) >= 0) {
		return take_fd(&fd);
	}
	auto_close int copy = sys_memfd_create("kernel package", 0);
	int r = copy < 0 ? copy : 0;
	ssize_t n = 0;

	while (r == 0 && (n = sys_read(fd, block, sizeof(block))) > 0) {
		r = sys_write_full(copy, block, (size_t)n);
	}
	if (r < 0 || n < 0) {
		return err_set(e, r < 0 ? -r : (int)-n, ERR_HOST, "reading %s", file);
	}
	return take_fd(&copy);
}

static int cmd_kernel_import(const struct cmd_call *call, struct err *e)
{
	const struct kernel_opts *o = call->opts;
	const struct top_opts *top = call->top;
	auto_close int fd = open_package(call->args[0], e);
	auto_close int dir_fd = fd < 0 ? -1 : open_kernels(call, e);
	auto_progress struct progress *p = progress_new(
		top->progress_fd ? PROGRESS_JSON : top->quiet ? PROGRESS_SILENT :
		progress_mode_for_person(), top->progress_fd ? (int)top->progress_fd : STDERR_FILENO);
	struct kernel_import job = { .fd = fd, .name = o->name };
	auto_free char *name = NULL;
	int r = fd < 0 || dir_fd < 0 ? -e->errnum : kernel_import(dir_fd, &job, p, &name, e);

	if (r == 0) {
		puts(name);
		progress_image(p, name, name);
	} else {
		progress_error(p, e);
	}
	return r;
}

static int print_json(const struct strv *names, const char *dflt, struct err *e)
{
	json_t *list = json_array();

	for (size_t i = 0; i < names->n; i++) {
		/* Failures show in the sum below. */
		ignore_result(json_array_append_new(list, json_pack("{s:s,s:b}", "name", names->v[i],
						"default", str_eq0(dflt, names->v[i]))));
	}
	bool bad = json_array_size(list) != names->n || json_dumpf(list, stdout, JSON_INDENT(2)) < 0;

	json_decref(list);
	putchar('\n');
	return bad ? err_nomem(e) : 0;
}

static int cmd_kernel_ls(const struct cmd_call *call, struct err *e)
{
	const struct kernel_opts *o = call->opts;
	auto_strv struct strv names = STRV_INIT;
	auto_free char *dflt = NULL;
	auto_close int dir_fd = open_kernels(call, e);
	int r = dir_fd < 0 ? dir_fd : kernel_list(dir_fd, &names, &dflt, e);

	if (r < 0) {
		return r;
	}
	if (o->json) {
		return print_json(&names, dflt, e);
	}
	for (size_t i = 0; i < names.n; i++) {
		printf("%s%s\n", names.v[i], str_eq0(dflt, names.v[i]) ? " (default)" : "");
	}
	return 0;
}

static int cmd_kernel_rm(const struct cmd_call *call, struct err *e)
{
	auto_close int dir_fd = open_kernels(call, e);
	int r = dir_fd < 0 ? dir_fd : 0;

	for (size_t i = 0; r == 0 && i < call->n_args; i++) {
		r = kernel_remove(dir_fd, call->args[i], e);
	}
	return r;
}

#define OPTS(table) .opts = table, .n_opts = ARRAY_LEN(table), .opts_size = sizeof(struct kernel_opts)

static const struct cmd *const commands[] = {
	&(const struct cmd){ .name = "import", .args = "FILE|-", .min_args = 1, .max_args = 1,
	  OPTS(import_opts), .run = cmd_kernel_import, .complete = CMD_COMPLETE_FILE,
	  .help = "add a kernel: a linux-image package of Debian, a bzImage or an ELF kernel",
	  .text = "Of a package the modules that a virtual machine needs come along. The kernel "
		  "imported last is the one that machines start with.",
	  .examples = "apt-get download linux-image-6.1.0-50-cloud-amd64\n"
		      "holm-image kernel import linux-image-*.deb" },
	&(const struct cmd){ .name = "ls", OPTS(ls_opts), .run = cmd_kernel_ls,
	  .help = "list kernels" },
	&(const struct cmd){ .name = "rm", .args = "NAME...", .min_args = 1, .max_args = CMD_ANY,
	  OPTS(rm_opts), .run = cmd_kernel_rm, .help = "remove kernels",
	  .text = "Machines that run keep theirs." },
};

const struct cmd image_cmd_kernel = {
	.name = "kernel", .group = "Kernels of virtual machines", .sub = commands,
	.n_sub = ARRAY_LEN(commands), .help = "kernels for virtual machines",
};
