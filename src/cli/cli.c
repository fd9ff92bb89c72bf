/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/cli.h"

#include <errno.h>
#include <stdio.h>

#include "base/clock.h"
#include "base/log.h"
#include "cli/template.h"

const char *cli_socket(const struct cmd_call *call)
{
	const struct cli_top *top = call->top;
	const char *host = top->host ? top->host : getenv("HOLM_HOST");

	if (!host || !*host) {
		return CLI_SOCKET_DEFAULT;
	}
	const char *path = str_after(host, "unix://");

	return path ? path : host;
}

int cli_call(const struct cmd_call *call, const char *method, const char *path, const json_t *body,
	     json_t **ret, struct err *e)
{
	struct http_call h = { .socket = cli_socket(call), .method = method, .path = path,
			       .body = body };
	auto_json json_t *reply = NULL;
	int r = path ? http_json(&h, &reply, e) : err_nomem(e);

	if (r == 0 && ret) {
		*ret = take_ptr(&reply);
	}
	return r;
}

char *cli_instance_path(const char *name, const char *action)
{
	auto_buf struct buf b = BUF_INIT;

	buf_add_str(&b, "/v1/instances");
	http_segment(&b, name);
	if (action) {
		buf_printf(&b, "/%s", action);
	}
	return buf_take(&b);
}

int cli_print_json(const json_t *j, struct err *e)
{
	auto_free char *text = j ? json_text_pretty(j) : NULL;

	if (!text) {
		return err_nomem(e);
	}
	puts(text);
	return 0;
}

int cli_print_format(const char *format, const json_t *j, struct err *e)
{
	auto_buf struct buf out = BUF_INIT;
	int r = template_print(format, j, &out, e);

	if (r == 0) {
		puts(buf_str(&out));
	}
	return r;
}

const char *cli_str(const json_t *obj, const char *key, const char *dflt)
{
	const char *s = json_string_value(json_object_get(obj, key));

	return s ? s : dflt;
}

int64_t cli_int(const json_t *obj, const char *key, int64_t dflt)
{
	const json_t *j = json_object_get(obj, key);

	return json_is_integer(j) ? json_integer_value(j) : dflt;
}

struct ago_text cli_ago(const char *rfc3339)
{
	static const struct {
		uint64_t    seconds;
		const char *name;
	} units[] = {
		{ 31536000, "year" }, { 2592000, "month" }, { 604800, "week" }, { 86400, "day" },
		{ 3600, "hour" }, { 60, "minute" }, { 1, "second" },
	};
	struct ago_text t = { .text = "" };
	uint64_t then, now = clock_wall_ns();

	if (!rfc3339 || time_parse(rfc3339, &then) < 0) {
		return t;
	}
	uint64_t seconds = now > then ? (now - then) / NS_PER_SEC : 0;

	(void)snprintf(t.text, sizeof(t.text), "just now");
	for (size_t i = 0; i < ARRAY_LEN(units); i++) {
		uint64_t n = seconds / units[i].seconds;

		if (n > 0) {
			(void)snprintf(t.text, sizeof(t.text), "%llu %s%s ago", (unsigned long long)n,
				       units[i].name, n == 1 ? "" : "s");
			break;
		}
	}
	return t;
}

int cli_each(const struct cmd_call *call, cli_each_fn fn, void *ud, struct err *e)
{
	struct err first = ERR_INIT;

	for (size_t i = 0; i < call->n_args; i++) {
		int r = fn(call, call->args[i], ud, e);

		if (r < 0 && first.errnum == 0 && first.code == ERR_NONE) {
			first = *e;
		} else if (r < 0) {
			log_err(LOG_LEVEL_ERROR, e);
		}
	}
	if (first.code == ERR_NONE) {
		return 0;
	}
	*e = first;
	return e->errnum > 0 ? -e->errnum : -EREMOTEIO;
}
