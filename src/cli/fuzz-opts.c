/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A command line of `run`: words ended by NUL, through the table of options into a spec. What
 * comes out must be JSON that can be written.
 */
#include <stdint.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/mem.h"
#include "cli/opts.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

struct opts {
	struct spec_opts spec;
};

static const struct cmd_opt table[] = { SPEC_OPTIONS(struct opts, spec) };

static int build(const struct cmd_call *call, struct err *e)
{
	const struct opts *o = call->opts;
	auto_json json_t *spec = NULL;
	int r = spec_from_opts(&o->spec, call->args[0], call->args + 1, call->n_args - 1, &spec, e);

	if (r == 0) {
		auto_free char *text = json_text(spec);

		if (!text) {
			abort();
		}
	} else if (e->code == ERR_NONE || !e->msg[0]) {
		abort(); /* an error says what is wrong */
	}
	return r;
}

static const struct cmd root = {
	.name = "run", .args = "IMAGE [COMMAND...]", .min_args = 1, .max_args = CMD_ANY,
	.opts = table, .n_opts = ARRAY_LEN(table), .opts_size = sizeof(struct opts), .run = build,
	.help = "x", .flags = CMD_STOP_AT_ARG,
};

/* These print, or read files that the words name. */
static bool left_out(const char *word)
{
	return str_after(word, "--h") || str_after(word, "--g") || str_after(word, "--v") ||
	       str_after(word, "--env-f") || str_after(word, "--label-f") || strstr(word, "seccomp=") ||
	       (word[0] == '-' && word[1] != '-' && strpbrk(word, "hv"));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	char *argv[64] = { (char *)(uintptr_t)"run" };
	int argc = 1;

	if (size == 0 || size > 4096) {
		return 0;
	}
	auto_free char *copy = mem_calloc(size + 1, 1);
	struct err e = ERR_INIT;

	if (!copy) {
		return 0;
	}
	memcpy(copy, data, size);
	for (char *p = copy; p < copy + size && argc < 63; p += strlen(p) + 1) {
		if (left_out(p)) {
			return 0;
		}
		argv[argc++] = p;
	}
	ignore_result(cmd_run(&root, argc, argv, NULL, NULL, &e)); /* any outcome is fine */
	return 0;
}
