/* SPDX-License-Identifier: Apache-2.0 */
#include "base/test.h"

#include <stdlib.h>

#include "cli/opts.h"

struct opts {
	struct spec_opts spec;
};

static const struct cmd_opt table[] = { SPEC_OPTIONS(struct opts, spec) };

struct result {
	char *text;    /* the spec, or NULL */
	struct err e;
};

static int cmd_run_it(const struct cmd_call *call, struct err *e)
{
	const struct opts *o = call->opts;
	struct result *res = call->ud;
	auto_json json_t *spec = NULL;
	int r = spec_from_opts(&o->spec, call->args[0], call->args + 1, call->n_args - 1, &spec, e);

	res->text = r == 0 ? json_text(spec) : NULL;
	return r;
}

static const struct cmd root = {
	.name = "run", .args = "IMAGE [COMMAND...]", .min_args = 1, .max_args = CMD_ANY,
	.opts = table, .n_opts = ARRAY_LEN(table), .opts_size = sizeof(struct opts),
	.run = cmd_run_it, .help = "x", .flags = CMD_STOP_AT_ARG,
};

static void run(const char *const *argv, struct result *ret)
{
	char *copy[24] = { (char *)"run" };
	int n = 1;

	for (; argv[n - 1]; n++) {
		copy[n] = (char *)argv[n - 1];
	}
	*ret = (struct result){ .text = NULL };
	ignore_result(cmd_run(&root, n, copy, ret, NULL, &ret->e)); /* in ret->e */
}

static void test_the_table_is_sound(void **state)
{
	(void)state;
	assert_null(cmd_table_fault(&root));
}

static void test_options_become_fields(void **state)
{
	(void)state;
	static const struct {
		const char *argv[8];
		const char *want;   /* what the spec holds */
	} rows[] = {
		{ { "img" }, "{\"image\":\"img\"}" },
		{ { "img", "sh", "-c", "x" }, "\"command\":[\"sh\",\"-c\",\"x\"]" },
		{ { "-it", "img" }, "\"tty\":true,\"stdin_open\":true" },
		{ { "-e", "A=b=c", "-eHOLM_TEST_VAR", "-e", "HOLM_NOT_SET", "i" },
		  "\"env\":[\"A=b=c\",\"HOLM_TEST_VAR=here\"]}" },
		{ { "-v", "/a:/b:ro,rslave", "i" },
		  "{\"type\":\"bind\",\"source\":\"/a\",\"target\":\"/b\",\"read_only\":true,"
		  "\"propagation\":\"rslave\"}" },
		{ { "--mount", "type=bind,src=/a,dst=/b,readonly", "i" },
		  "{\"type\":\"bind\",\"source\":\"/a\",\"target\":\"/b\",\"read_only\":true}" },
		{ { "--mount", "type=tmpfs,target=/t,tmpfs-size=1m,tmpfs-mode=700", "i" },
		  "{\"type\":\"tmpfs\",\"target\":\"/t\",\"size\":1048576,\"mode\":448}" },
		{ { "--tmpfs", "/t:size=2k,mode=1777,noexec", "i" },
		  "{\"type\":\"tmpfs\",\"target\":\"/t\",\"size\":2048,\"mode\":1023,"
		  "\"options\":[\"noexec\"]}" },
		{ { "--entrypoint", "", "i" }, "\"entrypoint\":[]" },
		{ { "--entrypoint", "/bin/x", "i" }, "\"entrypoint\":[\"/bin/x\"]" },
		{ { "--ulimit", "nofile=5:10", "--ulimit", "core=unlimited", "i" },
		  "\"ulimits\":[{\"name\":\"nofile\",\"soft\":5,\"hard\":10},"
		  "{\"name\":\"core\",\"soft\":-1,\"hard\":-1}]" },
		{ { "-m", "64m", "--cpus", "1.5", "--pids-limit", "-1", "i" },
		  "\"resources\":{\"cpus\":1.5,\"memory\":67108864,\"pids_limit\":-1}" },
		{ { "--restart", "on-failure:3", "i" },
		  "\"restart\":{\"policy\":\"on-failure\",\"max_retries\":3}" },
		{ { "-l", "a=b", "--label", "c", "i" }, "\"labels\":{\"a\":\"b\",\"c\":\"\"}" },
		{ { "--stop-timeout", "0", "i" }, "\"stop_timeout\":0" },
		{ { "--log-opt", "max-size=1m", "i" }, "\"log\":{\"max_size\":1048576}" },
		{ { "--sysctl", "net.x=1", "i" }, "\"sysctls\":{\"net.x\":\"1\"}" },
		{ { "--init", "--read-only", "-h", "box", "i" }, "\"hostname\":\"box\"" },
	};

	assert_int_equal(setenv("HOLM_TEST_VAR", "here", 1), 0);
	assert_int_equal(unsetenv("HOLM_NOT_SET"), 0);
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		struct result res;

		run(rows[i].argv, &res);
		assert_string_equal(res.e.msg, "");
		assert_non_null(strstr(res.text, rows[i].want));
		free(res.text);
	}
}

static void test_mistakes_name_the_option(void **state)
{
	(void)state;
	static const struct {
		const char *argv[4];
		const char *says;
	} rows[] = {
		{ { "-v", "/a", "i" }, "--volume: '/a' is not SOURCE:TARGET" },
		{ { "-v", "/a:b", "i" }, "--volume" },
		{ { "-v", "name:/b", "i" }, "named volumes are not there yet" },
		{ { "-v", "/a:/b:fast", "i" }, "--volume" },
		{ { "--mount", "type=volume,target=/x", "i" }, "type=bind or type=tmpfs" },
		{ { "--mount", "type=bind,source=/x", "i" }, "target= is missing" },
		{ { "--mount", "type=bind,target=/x,speed=1", "i" }, "unknown key in 'speed=1'" },
		{ { "--tmpfs", "t", "i" }, "--tmpfs" },
		{ { "--tmpfs", "/t:size=big", "i" }, "--tmpfs: 'big' is not a size" },
		{ { "--cpus", "many", "i" }, "--cpus: 'many' is not a number" },
		{ { "--cpus", "-1", "i" }, "--cpus" },
		{ { "--ulimit", "nofile", "i" }, "--ulimit" },
		{ { "--ulimit", "nofile=x", "i" }, "--ulimit" },
		{ { "--restart", "always:3", "i" }, "--restart" },
		{ { "--env-file", "/no/such/file", "i" }, "--env-file: cannot read /no/such/file" },
		{ { "-e", "=x", "i" }, "--env" },
		{ { "--log-opt", "x=1", "i" }, "--log-opt" },
		{ { "--memory-swap", "x", "i" }, "--memory-swap" },
		{ { "--pull", "often", "i" }, "not one of missing, always, never" },
	};

	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		struct result res;

		run(rows[i].argv, &res);
		assert_null(res.text);
		assert_int_equal(res.e.code, ERR_INVALID);
		assert_non_null(strstr(res.e.msg, rows[i].says));
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_the_table_is_sound),
		cmocka_unit_test(test_options_become_fields),
		cmocka_unit_test(test_mistakes_name_the_option),
	};

	return TEST_RUN(tests);
}
