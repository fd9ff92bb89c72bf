/* SPDX-License-Identifier: Apache-2.0 */
/* The table of the program, and what completes its arguments. */
#include <stdio.h>
#include <string.h>

#include "cli/cli.h"

#define IN(m) offsetof(struct cli_opts, m)
static const struct cmd_opt opts[] = {
	{ 'H', "host", CMD_STR, IN(host), "SOCKET",
	  "of the daemon (usual: " CLI_SOCKET ", or HOLM_HOST)", .complete = CMD_COMPLETE_FILE },
};
#undef IN

static void print_names(const struct cmd_call *call, const char *path, const char *list_key,
			const char *word)
{
	auto_json json_t *doc = NULL;
	struct err e = ERR_INIT;

	if (cli_json(call, "GET", path, NULL, &doc, &e) < 0) {
		return; /* nothing to offer */
	}
	const json_t *list = json_is_array(doc) ? doc : json_object_get(doc, list_key);

	for (size_t i = 0; i < json_array_size(list); i++) {
		const char *name = cli_image_name(cli_str(json_array_get(list, i), "name"));

		if (*name && str_after(name, word)) {
			printf("%s\n", name);
		}
	}
}

/* What a shell's completion asks for. */
static int cmd_complete(const struct cmd_call *call, struct err *e)
{
	const char *word = call->n_args > 0 ? call->args[call->n_args - 1] : "";

	(void)e;
	print_names(call, "/v1/instances?all=true", "instances", word);
	print_names(call, "/v1/images", "images", word);
	return 0;
}

static const struct cmd cli_complete = {
	.name = "__complete", .args = "[WORD...]", .max_args = CMD_ANY, .run = cmd_complete,
	.help = "print names that a word may become", .flags = CMD_HIDDEN,
};

static const struct cmd *const commands[] = {
	&cli_run, &cli_create, &cli_start, &cli_stop, &cli_restart, &cli_kill, &cli_pause,
	&cli_resume, &cli_rm, &cli_exec, &cli_attach, &cli_cp, &cli_rename, &cli_update, &cli_wait,
	&cli_ps, &cli_logs, &cli_inspect, &cli_stats, &cli_top, &cli_events, &cli_info, &cli_version,
	&cli_image, &cli_images, &cli_kernel, &cli_pull, &cli_push, &cli_load, &cli_save, &cli_tag, &cli_rmi,
	&cli_login, &cli_logout, &cli_complete,
};

const struct cmd cli_root = {
	.name = "holm", .sub = commands, .n_sub = ARRAY_LEN(commands), .opts = opts,
	.n_opts = ARRAY_LEN(opts), .opts_size = sizeof(struct cli_opts),
	.help = "run workloads behind the wall of your choice",
	.text = "holm speaks to holmd, which does the work. What goes wrong is told on standard "
		"error; the exit status is 2 for bad input, 3 where the named thing does not exist, 4 "
		"where its state forbids it, 5 not allowed, 6 not done, 7 a limit, 8 the daemon is not "
		"there, 1 all else. run and exec end as their command does.",
};
