/* SPDX-License-Identifier: Apache-2.0 */
#include "base/test.h"

#include "cli/template.h"

static const char doc[] =
	"{\"State\":{\"Pid\":42,\"exit_code\":0,\"Running\":true,\"Error\":null},"
	"\"Name\":\"web\",\"Args\":[\"a\",\"b c\"],\"Labels\":{\"x.y\":\"1\"},"
	"\"Mounts\":[{\"Source\":\"/s\"},{\"Source\":\"/t\"}],\"Empty\":[]}";

static int print(const char *text, struct buf *out, struct err *e)
{
	auto_json json_t *v = json_loads(doc, 0, NULL);

	return template_print(text, v, out, e);
}

static void test_what_users_write(void **state)
{
	(void)state;
	static const struct {
		const char *text, *want;
	} rows[] = {
		{ "plain", "plain" },
		{ "{{.State.Pid}}", "42" },
		{ "{{ .State.ExitCode }}", "0" },
		{ "{{.name}}\\t{{.State.Running}}\\n", "web\ttrue\n" },
		{ "{{json .Args}}", "[\"a\",\"b c\"]" },
		{ "{{.State.Error}}", "<no value>" },
		{ "{{.Args | json}}", "[\"a\",\"b c\"]" },
		{ "{{join .Args \",\"}}", "a,b c" },
		{ "{{len .Mounts}}/{{len .Empty}}", "2/0" },
		{ "{{index .Labels \"x.y\"}}{{index .Labels \"none\"}}", "1" },
		{ "{{index .Args 1}}", "b c" },
		{ "{{upper .Name}} {{.Name | upper | lower}}", "WEB web" },
		{ "{{range .Mounts}}{{.Source}};{{end}}", "/s;/t;" },
		{ "{{range .Args}}{{.}}{{$.Name}} {{end}}", "aweb b cweb " },
		{ "{{range .Empty}}x{{end}}y", "y" },
		{ "{{if .State.Running}}up{{else}}down{{end}}", "up" },
		{ "{{if .Empty}}some{{else}}none{{end}}", "none" },
		{ "{{if .State.Error}}{{.No.Such}}{{end}}ok", "ok" },
		{ "a  {{- .Name -}}  b", "awebb" },
		{ "{{if .Name}}{{range .Mounts}}{{if .Source}}{{.Source}}{{end}}{{end}}{{end}}", "/s/t" },
	};

	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		auto_buf struct buf out = BUF_INIT;
		struct err e = ERR_INIT;

		assert_int_equal(print(rows[i].text, &out, &e), 0);
		assert_string_equal(buf_str(&out), rows[i].want);
	}
}

static void test_mistakes_are_named(void **state)
{
	(void)state;
	static const struct {
		const char *text, *says;
	} rows[] = {
		{ "{{.Nope}}", "there is no field 'Nope'" },
		{ "{{.Name.Deep}}", "there is no field 'Deep'" },
		{ "{{.Name", "no closing braces" },
		{ "{{fly .Name}}", "unknown function 'fly'" },
		{ "{{json}}", "an argument is missing to 'json'" },
		{ "{{join .Args \"x}}", "no closing quote" },
		{ "x{{end}}", "nothing is open for 'end'" },
		{ "{{.Name .Name}}", "cannot call" },
	};

	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		auto_buf struct buf out = BUF_INIT;
		struct err e = ERR_INIT;

		assert_true(print(rows[i].text, &out, &e) < 0);
		assert_int_equal(e.code, ERR_INVALID);
		assert_non_null(strstr(e.msg, rows[i].says));
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_what_users_write),
		cmocka_unit_test(test_mistakes_are_named),
	};

	return TEST_RUN(tests);
}
