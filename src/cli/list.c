/* SPDX-License-Identifier: Apache-2.0 */
/* ps, inspect, info, version, events. */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "base/clock.h"
#include "cli/cli.h"
#include "cli/template.h"

/* --- ps --- */

struct ps_opts {
	bool        all, quiet, no_trunc, latest, json;
	uint64_t    last;
	struct strv filters;
	const char *format;
};

#define IN(m) offsetof(struct ps_opts, m)
static const struct cmd_opt ps_table[] = {
	{ 'a', "all", CMD_FLAG, IN(all), NULL, "those that do not run, too" },
	{ 'q', "quiet", CMD_FLAG, IN(quiet), NULL, "ids only" },
	{ 'n', "last", CMD_UINT, IN(last), "N", "the N made last, whatever they do" },
	{ 'l', "latest", CMD_FLAG, IN(latest), NULL, "the one made last" },
	{ 'f', "filter", CMD_STRV, IN(filters), "KEY=VALUE",
	  "name=, id=, status=, label=, ancestor=; several: all must hold" },
	{ 0, "no-trunc", CMD_FLAG, IN(no_trunc), NULL, "cut nothing off" },
	{ 0, "format", CMD_STR, IN(format), "TEMPLATE", "a line for each, or \"json\"" },
	{ 0, "json", CMD_FLAG, IN(json), NULL, "as the API has it" },
};
#undef IN

struct status {
	char text[128];
};

static struct status status_text(const json_t *i)
{
	struct status t;
	const char *state = cli_str(i, "state");

	if (str_eq(state, "exited") || str_eq(state, "restarting")) {
		(void)snprintf(t.text, sizeof(t.text), "%s (%lld) %s ago",
			       str_eq(state, "exited") ? "Exited" : "Restarting",
			       (long long)cli_int(i, "exit_code"),
			       cli_ago(cli_str(i, "finished")).text);
	} else if (str_eq(state, "running") || str_eq(state, "paused")) {
		(void)snprintf(t.text, sizeof(t.text), "Up %s%s", cli_ago(cli_str(i, "started")).text,
			       str_eq(state, "paused") ? " (paused)" : "");
	} else {
		(void)snprintf(t.text, sizeof(t.text), "%c%s", state[0] ? state[0] - 'a' + 'A' : ' ',
			       state[0] ? state + 1 : "");
	}
	return t;
}

/* The words of a command, for a column; `cut`: bytes, 0: all. */
static char *command_text(const json_t *list, size_t cut)
{
	struct buf b = BUF_INIT;

	for (size_t i = 0; i < json_array_size(list); i++) {
		const char *word = json_string_value(json_array_get(list, i));

		buf_printf(&b, "%s%s", i ? " " : "", word ? word : "");
	}
	for (size_t i = 0; i < b.len; i++) {
		b.data[i] = (unsigned char)b.data[i] < 0x20 || b.data[i] == 0x7f ? ' ' : b.data[i];
	}
	if (cut && b.len > cut) {
		while (cut > 0 && ((unsigned char)b.data[cut] & 0xc0) == 0x80) {
			cut--; /* not within a character */
		}
		b.data[cut] = '\0';
		b.len = cut;
		buf_add_str(&b, "...");
	}
	return buf_take(&b);
}

static bool label_holds(const json_t *labels, const char *want)
{
	const char *eq = strchr(want, '=');
	auto_free char *key = str_ndup(want, eq ? (size_t)(eq - want) : strlen(want));
	const json_t *v = key ? json_object_get(labels, key) : NULL;

	return v && (!eq || str_eq(json_string_value(v) ? json_string_value(v) : "", eq + 1));
}

/* 1: holds, 0: not. */
static int filter_holds(const json_t *i, const char *filter, struct err *e)
{
	const char *v;

	if ((v = str_after(filter, "name="))) {
		return strstr(cli_str(i, "name"), v) != NULL;
	}
	if ((v = str_after(filter, "id="))) {
		return str_after(cli_str(i, "id"), v) != NULL;
	}
	if ((v = str_after(filter, "status=")) || (v = str_after(filter, "state="))) {
		return str_eq(cli_str(i, "state"), v);
	}
	if ((v = str_after(filter, "label="))) {
		return label_holds(json_object_get(i, "labels"), v);
	}
	if ((v = str_after(filter, "ancestor="))) {
		const char *image = cli_str(i, "image"), *rest = str_after(image, v);

		return rest && (!*rest || *rest == ':' || *rest == '@');
	}
	return err_set(e, EINVAL, ERR_INVALID,
		       "--filter %s: there are name=, id=, status=, label= and ancestor=", filter);
}

/* Removes from the list what a filter excludes. */
static int apply_filters(json_t *list, const struct strv *filters, struct err *e)
{
	for (size_t k = 0; k < filters->n; k++) {
		int r = filter_holds(NULL, filters->v[k], e); /* also where the list is empty */

		if (r < 0) {
			return r;
		}
	}
	for (size_t n = json_array_size(list); n > 0; n--) {
		for (size_t k = 0; k < filters->n; k++) {
			int r = filter_holds(json_array_get(list, n - 1), filters->v[k], e);

			if (r < 0) {
				return r;
			}
			if (r == 0) {
				(void)json_array_remove(list, n - 1); /* it is there */
				break;
			}
		}
	}
	return 0;
}

/* The names that templates for other engines use, beside ours. */
static int add_aliases(json_t *i)
{
	auto_free char *command = command_text(json_object_get(i, "command"), 0);
	auto_free char *quoted = str_printf("\"%s\"", command ? command : "");
	json_t *id = json_string(cli_short_id(cli_str(i, "id")).text);
	auto_free char *ago = str_printf("%s ago", cli_ago(cli_str(i, "created")).text);

	if (!quoted || !ago) {
		json_decref(id);
		return -ENOMEM;
	}
	return json_put(i, "ID", id) < 0 ||
	       json_put(i, "Names", json_string(cli_str(i, "name"))) < 0 ||
	       json_put(i, "Command", json_string(quoted)) < 0 ||
	       json_put(i, "Status", json_string(status_text(i).text)) < 0 ||
	       json_put(i, "CreatedAt", json_string(cli_str(i, "created"))) < 0 ||
	       json_put(i, "RunningFor", json_string(ago)) < 0 ? -ENOMEM : 0;
}

static int print_formatted(json_t *list, const char *format, struct err *e)
{
	for (size_t n = 0; n < json_array_size(list); n++) {
		if (add_aliases(json_array_get(list, n)) < 0) {
			return err_nomem(e);
		}
	}
	return cli_print_template(format, list, e);
}

static int print_ps(const json_t *list, const struct ps_opts *o, struct err *e)
{
	auto_columns struct columns c = COLUMNS_INIT(6);

	columns_add(&c, "INSTANCE ID", "IMAGE", "COMMAND", "CREATED", "STATUS", "NAME");
	for (size_t n = 0; n < json_array_size(list); n++) {
		const json_t *i = json_array_get(list, n);
		const char *id = cli_str(i, "id");
		struct cli_text short_id = cli_short_id(id);
		struct status status = status_text(i);
		auto_free char *command = command_text(json_object_get(i, "command"),
						       o->no_trunc ? 0 : 30);
		auto_free char *ago = str_printf("%s ago", cli_ago(cli_str(i, "created")).text);

		columns_add(&c, o->no_trunc ? id : short_id.text, cli_str(i, "image"), command, ago,
			    status.text, cli_str(i, "name"));
	}
	return columns_print(&c, stdout) < 0 ? err_nomem(e) : 0;
}

static int cmd_ps(const struct cmd_call *call, struct err *e)
{
	const struct ps_opts *o = call->opts;
	bool all = o->all || o->last || o->latest;
	auto_json json_t *list = NULL;
	int r = 0;

	for (size_t k = 0; k < o->filters.n; k++) {
		all |= str_after(o->filters.v[k], "status=") != NULL;
	}
	r = cli_instances(call, all ? "?all=true" : "", &list, e);
	r = r < 0 ? r : apply_filters(list, &o->filters, e);
	if (r < 0) {
		return r;
	}
	while (json_array_size(list) > (o->latest ? 1 : o->last ? o->last : SIZE_MAX)) {
		(void)json_array_remove(list, json_array_size(list) - 1); /* it is there */
	}
	if (o->quiet) {
		for (size_t n = 0; n < json_array_size(list); n++) {
			const char *id = cli_str(json_array_get(list, n), "id");

			printf("%.*s\n", o->no_trunc ? 64 : 12, id);
		}
		return 0;
	}
	if (o->json || cli_wants_json(o->format)) {
		return cli_print_json(list, e);
	}
	return o->format ? print_formatted(list, o->format, e) : print_ps(list, o, e);
}

const struct cmd cli_ps = {
	.name = "ps", .opts = ps_table, .n_opts = ARRAY_LEN(ps_table),
	.opts_size = sizeof(struct ps_opts), .run = cmd_ps, .group = "Look",
	.help = "list instances", .examples = "holm ps -a --format '{{.Names}} {{.Status}}'",
};

/* --- inspect --- */

struct inspect_opts {
	const char *format, *type;
	bool        json;
};

#define IN(m) offsetof(struct inspect_opts, m)
static const struct cmd_opt inspect_table[] = {
	{ 'f', "format", CMD_STR, IN(format), "TEMPLATE", "{{.State.Pid}}, {{json .}}" },
	{ 0, "type", CMD_STR, IN(type), "KIND", "instance or image" },
	{ 0, "json", CMD_FLAG, IN(json), NULL, "as it is anyway" },
};
#undef IN

static int get(const struct cmd_call *call, const char *kind, const char *name, json_t **ret,
	       struct err *e)
{
	auto_buf struct buf path = BUF_INIT;

	buf_printf(&path, "/v1/%ss", kind);
	http_segment(&path, name);
	return cli_json(call, "GET", buf_str(&path), NULL, ret, e);
}

static int find(const struct cmd_call *call, const char *name, json_t **ret, struct err *e)
{
	const struct inspect_opts *o = call->opts;
	struct err first = ERR_INIT;
	int r;

	if (o->type && !str_eq(o->type, "instance") && !str_eq(o->type, "container") &&
	    !str_eq(o->type, "image")) {
		return err_set(e, EINVAL, ERR_INVALID, "--type is instance or image");
	}
	if (o->type) {
		return get(call, str_eq(o->type, "image") ? "image" : "instance", name, ret, e);
	}
	r = get(call, "instance", name, ret, &first);
	if (r < 0 && first.code == ERR_NOT_FOUND && get(call, "image", name, ret, e) == 0) {
		return 0;
	}
	*e = r < 0 ? first : *e;
	return r;
}

/* What templates written for other engines look for. */
static int add_state(json_t *i)
{
	json_t *st = json_object_get(i, "status"), *spec = json_object_get(i, "spec");
	const char *state = cli_str(st, "state");

	if (!st || !spec) {
		return 0; /* an image */
	}
	return json_put(i, "State", json_pack(
		"{s:s,s:b,s:b,s:I,s:I,s:b,s:s,s:s,s:s}", "Status", state,
		"Running", str_eq(state, "running") || str_eq(state, "paused"),
		"Paused", str_eq(state, "paused"), "Pid", (json_int_t)cli_int(st, "pid"),
		"ExitCode", (json_int_t)cli_int(st, "exit_code"), "OOMKilled", cli_bool(st, "oom"),
		"Error", cli_str(st, "error"), "StartedAt", cli_str(st, "started"),
		"FinishedAt", cli_str(st, "finished"))) < 0 ||
	       json_put(i, "Config", json_pack(
		"{s:s,s:O?,s:O?,s:O?,s:b,s:b,s:s,s:s,s:s}", "Image", cli_str(spec, "image"),
		"Cmd", json_object_get(spec, "command"), "Env", json_object_get(spec, "env"),
		"Labels", json_object_get(spec, "labels"), "Tty", cli_bool(spec, "tty"),
		"OpenStdin", cli_bool(spec, "stdin_open"), "User", cli_str(spec, "user"),
		"WorkingDir", cli_str(spec, "workdir"), "Hostname",
		cli_str(spec, "hostname"))) < 0 ||
	       json_put(i, "Image", json_string(cli_str(st, "image_digest"))) < 0 ||
	       json_put(i, "RestartCount", json_integer(cli_int(st, "restarts"))) < 0 ? -ENOMEM : 0;
}

static int cmd_inspect(const struct cmd_call *call, struct err *e)
{
	const struct inspect_opts *o = call->opts;
	auto_json json_t *all = json_array();
	int failed = 0;

	for (size_t i = 0; i < call->n_args; i++) {
		struct err own = ERR_INIT;
		json_t *one = NULL;

		if (find(call, call->args[i], &one, &own) < 0) {
			if (call->n_args == 1) {
				*e = own;
				return -EIO;
			}
			cli_complain(&own);
			failed = 1;
		} else if ((o->format && !str_eq(o->format, "{{json .}}") && add_state(one) < 0) ||
			   json_array_append_new(all, one) < 0) {
			return err_nomem(e);
		}
	}
	int r = o->format && !str_eq(o->format, "json") ? cli_print_template(o->format, all, e) :
							   cli_print_json(all, e);

	return r < 0 ? r : failed;
}

const struct cmd cli_inspect = {
	.name = "inspect", .args = "NAME...", .min_args = 1, .max_args = CMD_ANY,
	.opts = inspect_table, .n_opts = ARRAY_LEN(inspect_table),
	.opts_size = sizeof(struct inspect_opts), .run = cmd_inspect, .group = "Look",
	.help = "show all that is known of instances or images", .complete = CMD_COMPLETE_DYNAMIC,
	.text = "Templates may use the API's names (.status.pid) and, for instances, those of other "
		"engines (.State.Pid, .State.Running, .Config.Image).",
	.examples = "holm inspect -f '{{.State.Pid}}' web",
};

/* --- info, version --- */

struct format_opts {
	const char *format;
	bool        json;
};

#define IN(m) offsetof(struct format_opts, m)
static const struct cmd_opt format_table[] = {
	{ 'f', "format", CMD_STR, IN(format), "TEMPLATE", "of the output, or \"json\"" },
	{ 0, "json", CMD_FLAG, IN(json), NULL, "as the API has it" },
};
#undef IN

static void print_tree(const json_t *obj, int indent)
{
	const char *key;
	json_t *v;

	json_object_foreach((json_t *)(uintptr_t)obj, key, v) {
		auto_free char *text = json_is_string(v) || json_is_object(v) ? NULL : json_text(v);

		printf("%*s%s:", indent, "", key);
		if (json_is_object(v)) {
			printf("\n");
			print_tree(v, indent + 2);
		} else {
			printf(" %s\n", json_is_string(v) ? json_string_value(v) : text ? text : "");
		}
	}
}

static int show(const struct cmd_call *call, const json_t *doc, struct err *e)
{
	const struct format_opts *o = call->opts;

	if (o->json || cli_wants_json(o->format)) {
		return cli_print_json(doc, e);
	}
	if (o->format) {
		return cli_print_template(o->format, doc, e);
	}
	print_tree(doc, 0);
	return 0;
}

static int cmd_info(const struct cmd_call *call, struct err *e)
{
	auto_json json_t *doc = NULL;
	int r = cli_json(call, "GET", "/v1/info", NULL, &doc, e);

	return r < 0 ? r : show(call, doc, e);
}

static int cmd_version(const struct cmd_call *call, struct err *e)
{
	auto_json json_t *server = NULL;
	struct err later = ERR_INIT;
	int r = cli_json(call, "GET", "/v1/version", NULL, &server, &later);
	auto_json json_t *doc = json_pack("{s:{s:s},s:O?}", "client", "version", HOLM_VERSION,
					  "server", server);
	int shown = doc ? show(call, doc, e) : err_nomem(e);

	if (shown == 0 && r < 0) {
		*e = later; /* the client's version is printed all the same */
		return r;
	}
	return shown;
}

const struct cmd cli_info = {
	.name = "info", .opts = format_table, .n_opts = ARRAY_LEN(format_table),
	.opts_size = sizeof(struct format_opts), .run = cmd_info, .group = "Look",
	.help = "show what the daemon and its host have",
};

const struct cmd cli_version = {
	.name = "version", .opts = format_table, .n_opts = ARRAY_LEN(format_table),
	.opts_size = sizeof(struct format_opts), .run = cmd_version, .group = "Look",
	.help = "show the versions of this program and of the daemon",
};

/* --- events --- */

struct events_opts {
	const char *since, *until, *format;
	struct strv filters;
	bool        json;
};

#define IN(m) offsetof(struct events_opts, m)
static const struct cmd_opt events_table[] = {
	{ 0, "since", CMD_STR, IN(since), "TIME", "from then on: RFC 3339, seconds, or 10m ago" },
	{ 0, "until", CMD_STR, IN(until), "TIME", "no longer than that" },
	{ 'f', "filter", CMD_STRV, IN(filters), "KEY=VALUE", "kind=, action=, name=, id=" },
	{ 0, "format", CMD_STR, IN(format), "TEMPLATE", "of each line, or \"json\"" },
	{ 0, "json", CMD_FLAG, IN(json), NULL, "as the API has it, a line each" },
};
#undef IN

static bool event_wanted(const json_t *ev, const struct strv *filters)
{
	for (size_t i = 0; i < filters->n; i++) {
		const char *eq = strchr(filters->v[i], '=');
		auto_free char *key = str_ndup(filters->v[i], eq ? (size_t)(eq - filters->v[i]) : 0);
		const char *name = key && (str_eq(key, "type")) ? "kind" :
				   key && str_eq(key, "event") ? "action" :
				   key && (str_eq(key, "container") || str_eq(key, "instance")) ?
				   "name" : key;

		if (!name || !str_eq(cli_str(ev, name), eq ? eq + 1 : "")) {
			return false;
		}
	}
	return true;
}

static void print_event(const json_t *ev)
{
	const json_t *attrs = json_object_get(ev, "attributes");
	const char *key;
	json_t *v;
	bool first = true;

	printf("%s %s %s %.12s", cli_str(ev, "time"), cli_str(ev, "kind"), cli_str(ev, "action"),
	       cli_str(ev, "id"));
	if (*cli_str(ev, "name")) {
		printf(" (name=%s", cli_str(ev, "name"));
		first = false;
	}
	json_object_foreach((json_t *)(uintptr_t)attrs, key, v) {
		auto_free char *text = json_is_string(v) ? NULL : json_text(v);

		printf("%s%s=%s", first ? " (" : ", ", key,
		       json_is_string(v) ? json_string_value(v) : text ? text : "");
		first = false;
	}
	printf("%s\n", first ? "" : ")");
}

static int on_event(const struct events_opts *o, const char *line, struct err *e)
{
	auto_json json_t *ev = NULL;
	int r = json_parse(line, strlen(line), &json_limits_request, "an event", &ev, e);

	if (r < 0 || !event_wanted(ev, &o->filters)) {
		return r;
	}
	if (o->json || cli_wants_json(o->format)) {
		printf("%s\n", line);
	} else if (o->format) {
		r = cli_print_template(o->format, ev, e);
	} else {
		print_event(ev);
	}
	return r < 0 ? r : fflush(stdout) == 0 ? 0 : err_set(e, errno, ERR_HOST, "standard output");
}

static int cmd_events(const struct cmd_call *call, struct err *e)
{
	const struct events_opts *o = call->opts;
	auto_buf struct buf path = BUF_INIT;
	auto_http struct http_reply *reply = NULL;
	struct cli_text since, until;
	const char *line;
	int r = cli_time(o->since, "since", &since, e);

	r = r < 0 ? r : cli_time(o->until, "until", &until, e);
	if (r < 0) {
		return r;
	}
	buf_add_str(&path, "/v1/events");
	http_query(&path, "since", o->since ? since.text : NULL);
	http_query(&path, "until", o->until ? until.text : NULL);
	struct http_call c = { .socket = cli_socket(call), .method = "GET", .path = buf_str(&path),
			       .body_fd = -1 };

	r = http_open(&c, &reply, e);
	while (r == 0 && (r = http_line(reply, &line)) > 0) {
		r = *line ? on_event(o, line, e) : 0;
	}
	if (r < 0 && e->code == ERR_NONE) {
		r = err_set(e, -r, ERR_UNAVAILABLE, "the daemon ended the stream of events");
	}
	return r;
}

const struct cmd cli_events = {
	.name = "events", .opts = events_table, .n_opts = ARRAY_LEN(events_table),
	.opts_size = sizeof(struct events_opts), .run = cmd_events, .group = "Look",
	.help = "show what happens, as it happens",
};
