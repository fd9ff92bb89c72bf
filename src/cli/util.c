/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "cli/cli.h"
#include "cli/template.h"

const char *cli_socket(const struct cmd_call *call)
{
	const struct cli_opts *o = call->top;
	const char *host = o->host ? o->host : getenv("HOLM_HOST");
	const char *path = host && *host ? str_after(host, "unix://") : CLI_SOCKET;

	return path ? path : host;
}

int cli_json(const struct cmd_call *call, const char *method, const char *path,
	     const json_t *body, json_t **ret, struct err *e)
{
	struct http_call c = { .socket = cli_socket(call), .method = method, .path = path,
			       .body = body, .body_fd = -1 };
	auto_json json_t *reply = NULL;

	if (!path) {
		return err_nomem(e);
	}
	int r = http_json(&c, &reply, e);

	if (r == 0 && ret) {
		*ret = take_ptr(&reply);
	}
	return r;
}

char *cli_instance_path(const char *name, const char *verb)
{
	struct buf b = BUF_INIT;

	buf_add_str(&b, "/v1/instances");
	http_segment(&b, name);
	if (verb) {
		buf_printf(&b, "/%s", verb);
	}
	return buf_take(&b);
}

int cli_instances(const struct cmd_call *call, const char *query, json_t **ret, struct err *e)
{
	auto_json json_t *doc = NULL;
	auto_free char *path = str_printf("/v1/instances%s", query);
	int r = cli_json(call, "GET", path, NULL, &doc, e);

	if (r == 0) {
		json_t *list = json_object_get(doc, "instances");

		*ret = json_is_array(list) ? json_incref(list) : json_array();
	}
	return r;
}

const char *cli_str(const json_t *obj, const char *key)
{
	const char *s = json_string_value(json_object_get(obj, key));

	return s ? s : "";
}

int64_t cli_int(const json_t *obj, const char *key)
{
	const json_t *v = json_object_get(obj, key);

	return json_is_real(v) ? (int64_t)json_real_value(v) : json_integer_value(v);
}

bool cli_bool(const json_t *obj, const char *key)
{
	return json_is_true(json_object_get(obj, key));
}

struct cli_text cli_ago(const char *rfc3339)
{
	static const struct {
		uint64_t    seconds;
		const char *unit;
	} units[] = {
		{ 86400 * 365, "year" }, { 86400 * 30, "month" }, { 86400 * 7, "week" },
		{ 86400, "day" }, { 3600, "hour" }, { 60, "minute" }, { 1, "second" },
	};
	struct cli_text t = { "" };
	uint64_t then, now = clock_wall_ns();

	if (!*rfc3339 || time_parse(rfc3339, &then) < 0) {
		return t;
	}
	uint64_t s = now > then ? (now - then) / NS_PER_SEC : 0;

	(void)snprintf(t.text, sizeof(t.text), "a moment");
	for (size_t i = 0; i < ARRAY_LEN(units); i++) {
		uint64_t n = s / units[i].seconds;

		if (n > 0) {
			(void)snprintf(t.text, sizeof(t.text), "%llu %s%s", (unsigned long long)n,
				       units[i].unit, n == 1 ? "" : "s");
			break;
		}
	}
	return t;
}

struct cli_text cli_short_id(const char *id)
{
	struct cli_text t;
	const char *colon = strchr(id, ':');

	(void)snprintf(t.text, sizeof(t.text), "%.12s", colon ? colon + 1 : id);
	return t;
}

struct cli_text cli_size(double bytes)
{
	static const char *const units[] = { "B", "kB", "MB", "GB", "TB", "PB" };
	struct cli_text t;
	size_t i = 0;

	while (bytes >= 999.5 && i + 1 < ARRAY_LEN(units)) {
		bytes /= 1000;
		i++;
	}
	(void)snprintf(t.text, sizeof(t.text), bytes < 9.995 && i > 0 ? "%.2f%s" :
		       bytes < 99.95 && i > 0 ? "%.1f%s" : "%.0f%s", bytes, units[i]);
	return t;
}

const char *cli_image_name(const char *name)
{
	const char *rest = str_after(name, "docker.io/library/");

	rest = rest ? rest : str_after(name, "docker.io/");
	return rest ? rest : name;
}

int cli_print_json(const json_t *j, struct err *e)
{
	auto_free char *text = json_text_pretty(j);

	if (!text) {
		return err_nomem(e);
	}
	return printf("%s\n", text) < 0 || fflush(stdout) != 0 ?
	       err_set(e, errno, ERR_HOST, "standard output") : 0;
}

static int print_one(const char *format, const json_t *value, struct err *e)
{
	auto_buf struct buf b = BUF_INIT;
	int r = template_print(format, value, &b, e);

	if (r == 0 && (printf("%s\n", buf_str(&b)) < 0 || fflush(stdout) != 0)) {
		r = err_set(e, errno, ERR_HOST, "standard output");
	}
	return r;
}

int cli_print_template(const char *format, const json_t *value, struct err *e)
{
	/* "table {{.X}}" of other engines: the columns come without headings. */
	const char *rest = str_after(format, "table ");
	int r = 0;

	format = rest ? rest : format;
	if (!json_is_array(value)) {
		return print_one(format, value, e);
	}
	for (size_t i = 0; r == 0 && i < json_array_size(value); i++) {
		r = print_one(format, json_array_get(value, i), e);
	}
	return r;
}

bool cli_wants_json(const char *format)
{
	return format && (str_eq(format, "json") || str_eq(format, "{{json .}}"));
}

void cli_complain(const struct err *e)
{
	char text[sizeof(e->msg) + sizeof(e->field) + 128];

	(void)fflush(stdout); /* what was printed stands before; a failure shows at the end */
	fprintf(stderr, "holm: %s\n", err_text(e, text, sizeof(text)));
}

int cli_time(const char *text, const char *opt, struct cli_text *ret, struct err *e)
{
	uint64_t ns, ago;

	ret->text[0] = '\0';
	if (!text) {
		return 0;
	}
	/* "10m" is ten minutes ago; a bare number is a time, not a duration. */
	if (time_parse(text, &ns) < 0) {
		if (parse_duration(text, &ago) < 0) {
			return err_set(e, EINVAL, ERR_INVALID, "--%s %s: must be a time such as "
				       "2026-01-31T12:00:00Z, or 10m for ten minutes ago", opt, text);
		}
		ns = clock_wall_ns();
		ns = ns > ago ? ns - ago : 0;
	}
	(void)snprintf(ret->text, sizeof(ret->text), "%s", time_format(ns).text);
	return 0;
}
