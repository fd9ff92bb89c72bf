/* SPDX-License-Identifier: Apache-2.0 */
/* The command line: the input's lines are the arguments. Whatever they are, nothing is run. */
#include <stdint.h>

#include "base/cmd.h"

struct opts {
	bool        flag;
	int         tri, choice;
	const char *str;
	struct strv strv;
	int64_t     num;
	uint64_t    unum, size, duration;
};

static const char *const choices[] = { "one", "two", NULL };

#define IN(m) offsetof(struct opts, m)
static const struct cmd_opt opts[] = {
	{ 'f', "flag", CMD_FLAG, IN(flag), NULL, "flag" },
	{ 't', "tri", CMD_TRI, IN(tri), NULL, "tri" },
	{ 's', "str", CMD_STR, IN(str), "S", "str" },
	{ 'v', "strv", CMD_STRV, IN(strv), "S", "strv" },
	{ 'n', "num", CMD_INT, IN(num), "N", "num", .min = -5, .max = 5 },
	{ 'u', "unum", CMD_UINT, IN(unum), "N", "unum" },
	{ 0, "size", CMD_SIZE, IN(size), "SIZE", "size" },
	{ 0, "duration", CMD_DURATION, IN(duration), "TIME", "duration" },
	{ 'c', "choice", CMD_CHOICE, IN(choice), "C", "choice", .choices = choices },
};
#undef IN

static int cmd_sum(const struct cmd_call *call, struct err *e)
{
	const struct opts *o = call->opts;
	size_t n = o->str ? strlen(o->str) : 0;

	(void)e;
	for (size_t i = 0; i < call->n_args; i++) {
		n += strlen(call->args[i]);
	}
	for (size_t i = 0; i < o->strv.n; i++) {
		n += strlen(o->strv.v[i]);
	}
	return (int)(n & 0x7f);
}

static const struct cmd *const subs[] = {
	&(const struct cmd){ .name = "a", .args = "X", .max_args = CMD_ANY, .opts = opts, .n_opts = ARRAY_LEN(opts),
	  .opts_size = sizeof(struct opts), .run = cmd_sum, .help = "a" },
	&(const struct cmd){ .name = "b", .args = "X", .min_args = 1, .max_args = 2, .opts = opts,
	  .n_opts = ARRAY_LEN(opts), .opts_size = sizeof(struct opts), .run = cmd_sum, .help = "b",
	  .flags = CMD_STOP_AT_ARG },
};

static const struct cmd root = { .name = "fuzz", .sub = subs, .n_sub = ARRAY_LEN(subs),
				 .help = "fuzz", .opts = opts, .n_opts = ARRAY_LEN(opts),
				 .opts_size = sizeof(struct opts) };

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	enum { ARGS_MAX = 64 };
	auto_free char *text = str_ndup((const char *)data, size);
	char *argv[ARGS_MAX + 1] = { (char *)"fuzz" };
	int argc = 1;
	struct err e = ERR_INIT;

	for (char *p = text; p && argc < ARGS_MAX;) {
		char *end = strchr(p, '\n');

		/* These print, and are tested elsewhere. */
		if (end) {
			*end = '\0';
		}
		if (!str_after(p, "--generate") && !str_after(p, "--help") && p[0] != '-') {
			argv[argc++] = p;
		} else if (p[0] == '-' && !strpbrk(p, "hg") && !str_eq(p, "--version") &&
			   !str_eq(p, "-v")) {
			argv[argc++] = p;
		}
		p = end ? end + 1 : NULL;
	}
	argv[argc] = NULL;
	ignore_result(cmd_run(&root, argc, argv, NULL, NULL, &e)); /* any outcome but a crash */
	return 0;
}
