/* SPDX-License-Identifier: Apache-2.0 */
/* holm kernel: the kernels of virtual machines. */
#include <errno.h>
#include <stdio.h>

#include "cli/cli.h"

struct kernel_opts {
	const char *name;
	bool        quiet, json;
};

#define IN(m) offsetof(struct kernel_opts, m)
static const struct cmd_opt import_table[] = {
	{ 0, "name", CMD_STR, IN(name), "NAME", "in place of its own release" },
	{ 'q', "quiet", CMD_FLAG, IN(quiet), NULL, "no progress" },
};
static const struct cmd_opt ls_table[] = {
	{ 0, "json", CMD_FLAG, IN(json), NULL, "print JSON" },
};
#undef IN

static int cmd_import(const struct cmd_call *call, struct err *e)
{
	const struct kernel_opts *o = call->opts;
	auto_buf struct buf path = BUF_INIT;

	buf_add_str(&path, "/v1/kernels/import");
	http_query(&path, "name", o->name);
	return cli_upload(call, buf_str(&path), "application/octet-stream", call->args[0], o->quiet, e);
}

static int cmd_ls(const struct cmd_call *call, struct err *e)
{
	const struct kernel_opts *o = call->opts;
	auto_json json_t *doc = NULL;
	int r = cli_json(call, "GET", "/v1/kernels", NULL, &doc, e);
	const json_t *list = json_object_get(doc, "kernels");

	if (r < 0 || o->json) {
		return r < 0 ? r : cli_print_json(list, e);
	}
	for (size_t i = 0; i < json_array_size(list); i++) {
		const json_t *k = json_array_get(list, i);

		printf("%s%s\n", cli_str(k, "name"),
		       json_is_true(json_object_get(k, "default")) ? " (default)" : "");
	}
	return 0;
}

static int remove_one(const struct cmd_call *call, const char *name, struct err *e)
{
	auto_buf struct buf path = BUF_INIT;
	auto_json json_t *doc = NULL;

	buf_add_str(&path, "/v1/kernels");
	http_segment(&path, name);

	int r = cli_json(call, "DELETE", buf_str(&path), NULL, &doc, e);

	if (r == 0) {
		printf("%s\n", name);
	}
	return r;
}

static int cmd_rm(const struct cmd_call *call, struct err *e)
{
	return cli_each(call, remove_one, e);
}

#define OPTS(table) .opts = table, .n_opts = ARRAY_LEN(table), .opts_size = sizeof(struct kernel_opts)

static const struct cmd kernel_import = {
	.name = "import", .args = "FILE", .min_args = 1, .max_args = 1, OPTS(import_table),
	.run = cmd_import, .complete = CMD_COMPLETE_FILE,
	.help = "add a kernel: a linux-image package of Debian, a bzImage or an ELF kernel",
	.text = "Of a package the modules that a virtual machine needs come along. The kernel "
		"imported last is the one that machines start with.",
	.examples = "apt-get download linux-image-6.1.0-50-cloud-amd64\n"
		    "holm kernel import linux-image-*.deb",
};
static const struct cmd kernel_ls = {
	.name = "ls", OPTS(ls_table), .run = cmd_ls, .help = "list kernels",
};
static const struct cmd kernel_rm = {
	.name = "rm", .args = "NAME...", .min_args = 1, .max_args = CMD_ANY, .run = cmd_rm,
	.help = "remove kernels",
};

static const struct cmd *const kernel_commands[] = { &kernel_import, &kernel_ls, &kernel_rm };

const struct cmd cli_kernel = {
	.name = "kernel", .sub = kernel_commands, .n_sub = ARRAY_LEN(kernel_commands),
	.group = "Images", .help = "kernels of virtual machines",
};
