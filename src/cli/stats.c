/* SPDX-License-Identifier: Apache-2.0 */
/* stats and top. */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/mem.h"
#include "cli/cli.h"

struct stats_opts {
	bool        all, no_stream, json;
	const char *format;
};

#define IN(m) offsetof(struct stats_opts, m)
static const struct cmd_opt stats_table[] = {
	{ 'a', "all", CMD_FLAG, IN(all), NULL, "those that do not run, too" },
	{ 0, "no-stream", CMD_FLAG, IN(no_stream), NULL, "once" },
	{ 0, "format", CMD_STR, IN(format), "TEMPLATE", "of each line, or \"json\"" },
	{ 0, "json", CMD_FLAG, IN(json), NULL, "as the API has it, once" },
};
#undef IN

/* What was counted a turn before. */
struct sample {
	char     id[65];
	int64_t  cpu_ns;
	uint64_t at_ns;
};

struct samples {
	struct sample *v;
	size_t         n;
};

static struct sample *sample_of(struct samples *s, const char *id)
{
	for (size_t i = 0; i < s->n; i++) {
		if (str_eq(s->v[i].id, id)) {
			return &s->v[i];
		}
	}
	struct sample *more = mem_realloc(s->v, s->n + 1, sizeof(*more));

	if (!more) {
		return NULL;
	}
	s->v = more;
	s->v[s->n] = (struct sample){ .cpu_ns = -1 };
	(void)snprintf(s->v[s->n].id, sizeof(s->v[s->n].id), "%s", id);
	return &s->v[s->n++];
}

/* Instances that were named, or those that run. */
static int targets(const struct cmd_call *call, json_t **ret, struct err *e)
{
	const struct stats_opts *o = call->opts;

	if (call->n_args == 0) {
		return cli_instances(call, o->all ? "?all=true" : "", ret, e);
	}
	auto_json json_t *list = json_array();

	for (size_t i = 0; i < call->n_args; i++) {
		auto_free char *path = cli_instance_path(call->args[i], NULL);
		json_t *one = NULL;
		int r = cli_json(call, "GET", path, NULL, &one, e);

		if (r < 0) {
			return r;
		}
		if (json_put(one, "state", json_string(cli_str(json_object_get(one, "status"),
								"state"))) < 0 ||
		    json_array_append_new(list, one) < 0) {
			return err_nomem(e);
		}
	}
	*ret = take_ptr(&list);
	return 0;
}

static bool counts(const json_t *i)
{
	const char *state = cli_str(i, "state");

	return str_eq(state, "running") || str_eq(state, "paused");
}

/* The counters of one, with its percentages added; NULL where there are none. */
static json_t *counters(const struct cmd_call *call, struct samples *all, const json_t *i)
{
	auto_free char *path = cli_instance_path(cli_str(i, "id"), "stats");
	struct err e = ERR_INIT;
	json_t *c = NULL;
	struct sample *s = sample_of(all, cli_str(i, "id"));
	uint64_t now = clock_now_ns();

	/* It may have ended just now: then it has no counters. */
	if (!counts(i) || cli_json(call, "GET", path, NULL, &c, &e) < 0) {
		return NULL;
	}
	int64_t cpu = cli_int(c, "cpu_ns"), memory = cli_int(c, "memory_bytes");
	int64_t limit = cli_int(c, "memory_limit");
	double percent = 0;

	if (s && s->cpu_ns >= 0 && now > s->at_ns && cpu >= s->cpu_ns) {
		percent = 100.0 * (double)(cpu - s->cpu_ns) / (double)(now - s->at_ns);
	}
	if (s) {
		s->cpu_ns = cpu;
		s->at_ns = now;
	}
	if (json_put(c, "name", json_string(cli_str(i, "name"))) < 0 ||
	    json_put(c, "id", json_string(cli_str(i, "id"))) < 0 ||
	    json_put(c, "cpu_percent", json_real(percent)) < 0 ||
	    json_put(c, "memory_percent",
		     json_real(limit > 0 ? 100.0 * (double)memory / (double)limit : 0)) < 0) {
		json_decref(c);
		return NULL;
	}
	return c;
}

static void add_row(struct columns *c, const json_t *i, const json_t *s)
{
	char cpu[32], mem[128], share[32], io[128], net[128], pids[32];

	if (!s) {
		columns_add(c, cli_short_id(cli_str(i, "id")).text, cli_str(i, "name"), "-", "-", "-",
			    "-", "-", "-");
		return;
	}
	(void)snprintf(cpu, sizeof(cpu), "%.2f%%", json_real_value(json_object_get(s, "cpu_percent")));
	(void)snprintf(share, sizeof(share), "%.2f%%",
		       json_real_value(json_object_get(s, "memory_percent")));
	(void)snprintf(mem, sizeof(mem), "%s / %s", cli_size((double)cli_int(s, "memory_bytes")).text,
		       cli_int(s, "memory_limit") > 0 ?
		       cli_size((double)cli_int(s, "memory_limit")).text : "-");
	(void)snprintf(io, sizeof(io), "%s / %s", cli_size((double)cli_int(s, "read_bytes")).text,
		       cli_size((double)cli_int(s, "write_bytes")).text);
	(void)snprintf(net, sizeof(net), "%s / %s", cli_size((double)cli_int(s, "rx_bytes")).text,
		       cli_size((double)cli_int(s, "tx_bytes")).text);
	(void)snprintf(pids, sizeof(pids), "%lld", (long long)cli_int(s, "pids"));
	columns_add(c, cli_short_id(cli_str(i, "id")).text, cli_str(i, "name"), cpu, mem, share, net,
		    io, pids);
}

static int show(const struct cmd_call *call, struct samples *all, bool print, struct err *e)
{
	const struct stats_opts *o = call->opts;
	auto_columns struct columns c = COLUMNS_INIT(8);
	auto_json json_t *list = NULL, *out = json_array();
	int r = targets(call, &list, e);

	columns_add(&c, "INSTANCE ID", "NAME", "CPU %", "MEM USAGE / LIMIT", "MEM %", "NET I/O",
		    "BLOCK I/O", "PIDS");
	for (size_t n = 0; r == 0 && n < json_array_size(list); n++) {
		const json_t *i = json_array_get(list, n);
		json_t *s = counters(call, all, i);

		add_row(&c, i, s);
		if (s && json_array_append_new(out, s) < 0) {
			r = err_nomem(e);
		}
	}
	if (r < 0 || !print) {
		return r;
	}
	if (o->json || cli_wants_json(o->format)) {
		return cli_print_json(out, e);
	}
	if (o->format) {
		return cli_print_template(o->format, out, e);
	}
	if (!o->no_stream && isatty(STDOUT_FILENO)) {
		printf("\033[H\033[J");
	}
	r = columns_print(&c, stdout);
	return r < 0 ? err_nomem(e) : fflush(stdout) ? err_set(e, errno, ERR_HOST, "output") : 0;
}

static void nap(uint64_t ns)
{
	struct timespec t = { (time_t)(ns / NS_PER_SEC), (long)(ns % NS_PER_SEC) };

	(void)nanosleep(&t, NULL); /* cut short by a signal: a turn comes earlier */
}

static int cmd_stats(const struct cmd_call *call, struct err *e)
{
	const struct stats_opts *o = call->opts;
	struct samples all = { .v = NULL };
	bool once = o->no_stream || o->json;
	int r = show(call, &all, false, e); /* a share of time needs two looks */

	nap(500 * NS_PER_MS);
	do {
		r = r < 0 ? r : show(call, &all, true, e);
		if (r == 0 && !once) {
			nap(NS_PER_SEC);
		}
	} while (r == 0 && !once);
	free(all.v);
	return r;
}

const struct cmd cli_stats = {
	.name = "stats", .args = "[INSTANCE...]", .max_args = CMD_ANY, .opts = stats_table,
	.n_opts = ARRAY_LEN(stats_table), .opts_size = sizeof(struct stats_opts), .run = cmd_stats,
	.group = "Look", .help = "show what instances use, as it changes",
	.complete = CMD_COMPLETE_DYNAMIC,
};

/* --- top --- */

struct top_opts {
	bool json;
};

static const struct cmd_opt top_table[] = {
	{ 0, "json", CMD_FLAG, offsetof(struct top_opts, json), NULL, "as the API has it" },
};

static int cmd_top(const struct cmd_call *call, struct err *e)
{
	const struct top_opts *o = call->opts;
	auto_free char *path = cli_instance_path(call->args[0], "top");
	auto_json json_t *doc = NULL;
	int r = cli_json(call, "GET", path, NULL, &doc, e);

	if (r < 0 || o->json) {
		return r < 0 ? r : cli_print_json(doc, e);
	}
	const json_t *titles = json_object_get(doc, "titles");
	const json_t *rows = json_object_get(doc, "processes");
	auto_columns struct columns c = COLUMNS_INIT(json_array_size(titles));

	if (c.n == 0) {
		return err_set(e, EPROTO, ERR_UNAVAILABLE, "the daemon's answer has no columns");
	}
	for (size_t i = 0; i < c.n; i++) {
		columns_cell(&c, json_string_value(json_array_get(titles, i)));
	}
	for (size_t n = 0; n < json_array_size(rows); n++) {
		for (size_t i = 0; i < c.n; i++) {
			columns_cell(&c, json_string_value(json_array_get(json_array_get(rows, n), i)));
		}
	}
	return columns_print(&c, stdout) < 0 ? err_nomem(e) : 0;
}

const struct cmd cli_top = {
	.name = "top", .args = "INSTANCE", .min_args = 1, .max_args = 1, .opts = top_table,
	.n_opts = ARRAY_LEN(top_table), .opts_size = sizeof(struct top_opts), .run = cmd_top,
	.group = "Look", .help = "show the processes of an instance",
	.complete = CMD_COMPLETE_DYNAMIC,
};
