/* SPDX-License-Identifier: Apache-2.0 */
#include "base/test.h"

#include <errno.h>

#include "base/cmd.h"

struct top_opts {
	bool        debug;
	const char *root;
};

struct run_opts {
	bool        tty, stdin_open;
	int         init;
	struct strv env;
	int64_t     adj;
	uint64_t    count, memory, timeout;
	int         mode;
	const char *name;
};

static const char *const modes[] = { "never", "always", NULL };

#define IN(m) offsetof(struct top_opts, m)
static const struct cmd_opt top_opts[] = {
	{ 0, "debug", CMD_FLAG, IN(debug), NULL, "say more" },
	{ 'r', "root", CMD_STR, IN(root), "DIR", "state", .dflt = "/run/x" },
};
#undef IN

#define IN(m) offsetof(struct run_opts, m)
static const struct cmd_opt run_opts[] = {
	{ 't', "tty", CMD_FLAG, IN(tty), NULL, "a terminal" },
	{ 'i', "interactive", CMD_FLAG, IN(stdin_open), NULL, "keep standard input" },
	{ 0, "init", CMD_TRI, IN(init), NULL, "an init" },
	{ 'e', "env", CMD_STRV, IN(env), "KEY=VALUE", "environment" },
	{ 0, "adj", CMD_INT, IN(adj), "N", "adjust", .min = -10, .max = 10 },
	{ 0, "count", CMD_UINT, IN(count), "N", "count", .min = 1, .max = 5 },
	{ 'm', "memory", CMD_SIZE, IN(memory), "BYTES", "memory" },
	{ 0, "timeout", CMD_DURATION, IN(timeout), "TIME", "wait", .dflt = "10s" },
	{ 0, "mode", CMD_CHOICE, IN(mode), "MODE", "mode", .choices = modes },
	{ 0, "name", CMD_STR, IN(name), "NAME", "name", .flags = CMD_REQUIRED },
};
#undef IN

static struct {
	struct run_opts o;
	char            env[64];
	char            args[64];
	bool            debug;
	const char     *root;
} seen;

static int cmd_note(const struct cmd_call *call, struct err *e)
{
	const struct top_opts *top = call->top;

	(void)e;
	memset(&seen, 0, sizeof(seen));
	seen.o = *(const struct run_opts *)call->opts;
	for (size_t i = 0; i < seen.o.env.n; i++) {
		(void)snprintf(seen.env + strlen(seen.env), sizeof(seen.env) - strlen(seen.env), "%s;",
			       seen.o.env.v[i]);
	}
	for (size_t i = 0; i < call->n_args; i++) {
		(void)snprintf(seen.args + strlen(seen.args), sizeof(seen.args) - strlen(seen.args),
			       "%s;", call->args[i]);
	}
	seen.debug = top->debug;
	seen.root = top->root;
	return 42;
}

static const struct cmd *const subs[] = {
	&(const struct cmd){ .name = "run", .args = "IMAGE [ARG...]", .min_args = 1, .max_args = CMD_ANY,
	  .opts = run_opts, .n_opts = ARRAY_LEN(run_opts), .opts_size = sizeof(struct run_opts),
	  .run = cmd_note, .flags = CMD_STOP_AT_ARG, .help = "run it" },
	&(const struct cmd){ .name = "note", .args = "A", .min_args = 1, .max_args = 1, .opts = run_opts,
	  .n_opts = ARRAY_LEN(run_opts) - 1, .opts_size = sizeof(struct run_opts), .run = cmd_note,
	  .help = "note it", .text = "A paragraph.\n.not a request", .examples = "prog note 'a'" },
};

static const struct cmd root = {
	.name = "prog", .opts = top_opts, .n_opts = ARRAY_LEN(top_opts),
	.opts_size = sizeof(struct top_opts), .sub = subs, .n_sub = ARRAY_LEN(subs),
	.help = "a program",
};

static int run(struct err *e, bool *usage, const char *const *argv)
{
	char *copy[32];
	int n = 0;

	for (; argv[n]; n++) {
		copy[n] = (char *)argv[n];
	}
	copy[n] = NULL;
	return cmd_run(&root, n, copy, NULL, usage, e);
}

#define RUN(...) run(&e, &usage, (const char *const[]){ "prog", __VA_ARGS__, NULL })

static void test_the_table_is_sound(void **state)
{
	(void)state;
	assert_null(cmd_table_fault(&root));
}

static void test_every_way_to_write_options(void **state)
{
	(void)state;
	struct err e = ERR_INIT;
	bool usage;

	assert_int_equal(RUN("--debug", "--root=/a", "run", "-it", "-eA=1", "--env", "B=2", "-e=C=3",
			     "-m", "1k", "--adj=-3", "--count", "5", "--mode", "always", "--name",
			     "n", "image", "-x", "--help"), 42);
	assert_true(seen.o.tty && seen.o.stdin_open && seen.debug);
	assert_string_equal(seen.root, "/a");
	assert_string_equal(seen.env, "A=1;B=2;C=3;");
	assert_string_equal(seen.args, "image;-x;--help;");
	assert_int_equal(seen.o.memory, 1024);
	assert_int_equal(seen.o.adj, -3);
	assert_int_equal(seen.o.mode, 1);
	assert_int_equal(seen.o.timeout, UINT64_C(10000000000));
}

static void test_options_after_arguments(void **state)
{
	(void)state;
	struct err e = ERR_INIT;
	bool usage;

	assert_int_equal(RUN("note", "a", "--tty=false", "--init=false"), 42);
	assert_int_equal(seen.o.init, -1);
	assert_string_equal(seen.root, "/run/x");
	assert_int_equal(RUN("note", "--", "-a"), 42);
	assert_string_equal(seen.args, "-a;");
}

static void test_mistakes_are_named(void **state)
{
	(void)state;
	static const struct {
		const char *argv[6];
		const char *says;
	} rows[] = {
		{ { "prog" }, "a command is missing" },
		{ { "prog", "fly" }, "'fly' is not a command" },
		{ { "prog", "--fly" }, "--fly" },
		{ { "prog", "note" }, "needs A" },
		{ { "prog", "note", "a", "b" }, "no argument 'b'" },
		{ { "prog", "note", "a", "--env" }, "--env needs a value" },
		{ { "prog", "note", "a", "--adj", "11" }, "not between -10 and 10" },
		{ { "prog", "note", "a", "--count=x" }, "not a whole number" },
		{ { "prog", "note", "a", "--mode=x" }, "not one of never, always" },
		{ { "prog", "note", "a", "-m=much" }, "not a size" },
		{ { "prog", "note", "a", "--timeout=soon" }, "not a duration" },
		{ { "prog", "note", "a", "--tty=maybe" }, "not true or false" },
		{ { "prog", "note", "a", "-q" }, "unknown option -q" },
		{ { "prog", "run", "image" }, "needs --name" },
	};

	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		struct err e = ERR_INIT;
		bool usage = false;

		assert_int_equal(run(&e, &usage, rows[i].argv), -EINVAL);
		assert_true(usage);
		assert_non_null(strstr(e.msg, rows[i].says));
	}
}

static char *printed(void (*print)(FILE *))
{
	char *text = NULL;
	size_t len = 0;
	FILE *f = open_memstream(&text, &len);

	assert_non_null(f);
	print(f);
	assert_int_equal(fclose(f), 0);
	return text;
}

static void print_man(FILE *f)
{
	cmd_print_man(&root, 1, f);
}

static void print_bash(FILE *f)
{
	assert_int_equal(cmd_print_completion(&root, "bash", f), 0);
}

static void print_fish(FILE *f)
{
	assert_int_equal(cmd_print_completion(&root, "fish", f), 0);
}

static void print_help(FILE *f)
{
	const struct cmd *const path[] = { &root, subs[0] };

	cmd_print_help(path, 2, f);
}

static void test_what_is_printed(void **state)
{
	(void)state;
	auto_free char *man = printed(print_man);
	auto_free char *bash = printed(print_bash);
	auto_free char *fish = printed(print_fish);
	auto_free char *help = printed(print_help);

	assert_non_null(strstr(man, "\\fB\\-\\-memory\\fR \\fIBYTES\\fR"));
	assert_non_null(strstr(man, "\\&.not a request"));
	assert_non_null(strstr(bash, "prog note|--tty "));
	assert_non_null(strstr(fish, "-a run -d"));
	assert_non_null(strstr(help, "Usage: prog run [OPTION...] IMAGE [ARG...]"));
	assert_non_null(strstr(help, "(default 10s)"));
	assert_int_equal(cmd_print_completion(&root, "tcsh", stdout), -EINVAL);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_the_table_is_sound),
		cmocka_unit_test(test_every_way_to_write_options),
		cmocka_unit_test(test_options_after_arguments),
		cmocka_unit_test(test_mistakes_are_named),
		cmocka_unit_test(test_what_is_printed),
	};

	return TEST_RUN(tests);
}
