/* SPDX-License-Identifier: Apache-2.0 */
/* What an instance uses, and its processes. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/mem.h"
#include "node/handlers.h"
#include "node/instance.h"
#include "node/shim.h"
#include "node/work.h"
#include "sys/file.h"

/* --- Stats --- */

struct stats {
	uint64_t time, cpu_ns, cpu_user_ns, cpu_system_ns, throttled_ns;
	uint64_t memory, memory_limit, cache, pids, pids_limit, read, write, rx, tx;
};

#define IN(m) offsetof(struct stats, m)
static const struct jfield stats_fields[] = {
	{ "time", JK_TIME, IN(time), .flags = JF_REQUIRED, .doc = "when it was read" },
	{ "cpu_ns", JK_UINT, IN(cpu_ns), .flags = JF_EMPTY, .doc = "processor time, nanoseconds" },
	{ "cpu_user_ns", JK_UINT, IN(cpu_user_ns), .flags = JF_EMPTY, .doc = "of it in user mode" },
	{ "cpu_system_ns", JK_UINT, IN(cpu_system_ns), .flags = JF_EMPTY, .doc = "of it in the kernel" },
	{ "throttled_ns", JK_UINT, IN(throttled_ns), .flags = JF_EMPTY, .doc = "held back by its limit" },
	{ "memory_bytes", JK_UINT, IN(memory), .flags = JF_EMPTY, .doc = "in use, with page cache" },
	{ "memory_limit", JK_UINT, IN(memory_limit), .flags = JF_EMPTY, .doc = "0: none" },
	{ "cache_bytes", JK_UINT, IN(cache), .flags = JF_EMPTY, .doc = "of it page cache" },
	{ "pids", JK_UINT, IN(pids), .flags = JF_EMPTY, .doc = "processes and threads" },
	{ "pids_limit", JK_UINT, IN(pids_limit), .flags = JF_EMPTY, .doc = "0: none" },
	{ "read_bytes", JK_UINT, IN(read), .flags = JF_EMPTY, .doc = "from block devices" },
	{ "write_bytes", JK_UINT, IN(write), .flags = JF_EMPTY, .doc = "to block devices" },
	{ "rx_bytes", JK_UINT, IN(rx), .flags = JF_EMPTY, .doc = "received from the network" },
	{ "tx_bytes", JK_UINT, IN(tx), .flags = JF_EMPTY, .doc = "sent to the network" },
};
#undef IN
static const struct jtable stats_table = JTABLE("Stats", struct stats, stats_fields);

struct stats_query {
	bool     stream;
	uint64_t interval_ms;
};

#define IN(m) offsetof(struct stats_query, m)
static const struct jfield query_fields[] = {
	{ "stream", JK_BOOL, IN(stream), .doc = "a line each interval until it ends; default: once" },
	{ "interval_ms", JK_UINT, IN(interval_ms), .min = 100, .max = 3600000,
	  .doc = "of the stream; default 1000" },
};
#undef IN
static const struct jtable query_table = JTABLE("StatsQuery", struct stats_query, query_fields);

/* A number by its path, 0 if it is not there. */
static uint64_t number(const json_t *j, const char *path)
{
	const char *part;
	size_t len;

	while (j && str_split(&path, '/', &part, &len)) {
		char key[32];

		snprintf(key, sizeof(key), "%.*s", (int)len, part);
		j = json_object_get(j, key);
	}
	return json_is_integer(j) && json_integer_value(j) > 0 ? (uint64_t)json_integer_value(j) : 0;
}

static uint64_t io_sum(const json_t *data, const char *op)
{
	json_t *list = json_object_get(json_object_get(data, "blkio"), "ioServiceBytesRecursive");
	json_t *x;
	size_t i;
	uint64_t sum = 0;

	json_array_foreach(list, i, x) {
		const char *name = json_string_value(json_object_get(x, "op"));

		if (name && strcasecmp(name, op) == 0) {
			sum += number(x, "value");
		}
	}
	return sum;
}

static uint64_t limit(uint64_t v)
{
	uint64_t all = (uint64_t)sysconf(_SC_PHYS_PAGES) * (uint64_t)sysconf(_SC_PAGESIZE);

	return v >= all ? 0 : v;
}

/* The host's view of the instance's interfaces, without its loopback. */
static void read_network(const struct instance *i, struct stats *s)
{
	char path[48];
	auto_buf struct buf b = BUF_INIT;
	const char *line, *text = NULL;
	size_t len;

	snprintf(path, sizeof(path), "/proc/%llu/net/dev", (unsigned long long)i->status.pid);
	if (i->spec.network == NETWORK_HOST || i->spec.isolation == ISOLATION_VM ||
	    sys_read_file(AT_FDCWD, path, 65536, &b) < 0) {
		return;
	}
	text = buf_str(&b);
	while (str_split(&text, '\n', &line, &len)) {
		char name[32];
		unsigned long long rx = 0, tx = 0;
		char one[512];

		snprintf(one, sizeof(one), "%.*s", (int)len, line);
		if (sscanf(one, " %31[^:]: %llu %*u %*u %*u %*u %*u %*u %*u %llu", name, &rx, &tx) == 3 &&
		    !str_eq(name, "lo")) {
			s->rx += rx;
			s->tx += tx;
		}
	}
}

static int parse_stats(const struct instance *i, const char *text, struct stats *ret, struct err *e)
{
	auto_json json_t *doc = NULL;
	int r = json_parse(text ? text : "", text ? strlen(text) : 0, &json_limits_document,
			   "the statistics", &doc, e);

	if (r < 0) {
		return r;
	}
	const json_t *d = json_object_get(doc, "data");

	*ret = (struct stats){
		.time = clock_wall_ns(), .cpu_ns = number(d, "cpu/usage/total"),
		.cpu_user_ns = number(d, "cpu/usage/user"),
		.cpu_system_ns = number(d, "cpu/usage/kernel"),
		.throttled_ns = number(d, "cpu/throttling/throttledTime"),
		.memory = number(d, "memory/usage/usage"),
		.memory_limit = limit(number(d, "memory/usage/limit")),
		.cache = number(d, "memory/cache"), .pids = number(d, "pids/current"),
		.pids_limit = number(d, "pids/limit"), .read = io_sum(d, "read"),
		.write = io_sum(d, "write"),
	};
	read_network(i, ret);
	return 0;
}

struct stats_job {
	struct api_call   *call;      /* NULL: gone */
	struct node       *node;
	char               id[ID_LEN + 1];
	struct loop_timer *timer;     /* NULL: once */
	uint64_t           interval_ns;
	bool               asked;
};

static void job_free(struct stats_job *job)
{
	if (job->call) {
		job->call->cancel = NULL;
	}
	loop_timer_free(job->timer);
	free(job);
}

static void on_gone(struct api_call *c)
{
	struct stats_job *job = c->ud;

	job->call = NULL;
	if (!job->asked) {
		job_free(job);
	}
}

static void finish(struct stats_job *job, json_t *own_json, const struct err *e)
{
	struct api_call *c = job->call;
	bool stream = job->timer != NULL;

	if (c && stream && !e && api_line(c, own_json) == 0) {
		loop_timer_start(job->timer, job->interval_ns);
		return;
	}
	job_free(job);
	if (!c) {
		json_decref(own_json);
	} else if (stream) {
		api_end(c);
	} else if (e) {
		api_fail(c, e);
	} else {
		api_reply(c, own_json);
	}
}

static void on_stats(struct instance *i, const struct shim_reply *reply, const struct err *err,
		     void *ud)
{
	struct stats_job *job = ud;
	struct err e = ERR_INIT;
	struct stats s;
	int r = err ? -err->errnum : shim_reply_err(reply, &e);

	job->asked = false;
	r = r < 0 ? r : parse_stats(i, reply->text, &s, &e);
	finish(job, r < 0 ? NULL : jtable_format(&stats_table, &s), r < 0 ? (err ? err : &e) : NULL);
}

static int ask(struct stats_job *job, struct instance *i, struct err *e)
{
	struct shim_empty m = { 0 };
	int r = shim_request(i, SHIM_STATS, &m, on_stats, job, e);

	job->asked = r == 0;
	return r;
}

static void on_timer(struct loop_timer *t, void *ud)
{
	struct stats_job *job = ud;
	struct instance *i = instance_by_id(job->node, job->id);
	struct err e = ERR_INIT;

	(void)t;
	if (!i || !instance_active(i) || ask(job, i, &e) < 0) {
		ignore_result(err_set(&e, ESRCH, ERR_CONFLICT, "it has ended")); /* for finish() */
		finish(job, NULL, &e);
	}
}

static int h_stats(struct api_call *c, struct err *e)
{
	const struct stats_query *q = c->query;
	struct instance *i = c->instance;
	struct stats_job *job = NULL;

	if (i->status.state != INSTANCE_PAUSED) {
		int r = need_running(i, e);

		if (r < 0) {
			return r;
		}
	}
	job = mem_new(struct stats_job);
	if (!job || (q->stream && loop_timer_new(c->node->loop, on_timer, job, &job->timer) < 0)) {
		free(job);
		return err_nomem(e);
	}
	job->node = c->node;
	job->interval_ns = (q->interval_ms ? q->interval_ms : 1000) * NS_PER_MS;
	memcpy(job->id, i->id, sizeof(job->id));
	int r = ask(job, i, e);

	if (r < 0) {
		job_free(job);
		return r;
	}
	job->call = c;
	c->ud = job;
	c->cancel = on_gone;
	if (q->stream) {
		api_stream(c);
	}
	return 0;
}

/* --- Top --- */

static const char *const titles[] = { "USER", "PID", "PPID", "STATE", "TIME", "RSS", "COMMAND" };

static json_t *top_row(int64_t pid, uint64_t id_base)
{
	char path[48], comm[256], state = '?';
	long ppid = 0, rss = 0;
	unsigned long utime = 0, stime = 0;
	auto_buf struct buf stat = BUF_INIT;
	auto_buf struct buf cmd = BUF_INIT;
	struct stat st = { .st_uid = 0 };

	snprintf(path, sizeof(path), "/proc/%lld/stat", (long long)pid);
	if (sys_read_file(AT_FDCWD, path, 4096, &stat) < 0 ||
	    sys_fstatat(AT_FDCWD, path, &st, 0) < 0) {
		return NULL;
	}
	const char *close = strrchr(buf_str(&stat), ')'), *open = strchr(buf_str(&stat), '(');

	if (!close || !open ||
	    sscanf(close + 1, " %c %ld %*d %*d %*d %*d %*u %*u %*u %*u %*u %lu %lu %*d %*d %*d %*d %*d "
		   "%*d %*u %*u %ld", &state, &ppid, &utime, &stime, &rss) != 5) {
		return NULL;
	}
	snprintf(comm, sizeof(comm), "[%.*s]", (int)(close - open - 1), open + 1);
	snprintf(path, sizeof(path), "/proc/%lld/cmdline", (long long)pid);
	ignore_result(sys_read_file(AT_FDCWD, path, 4096, &cmd)); /* then its short name is shown */
	for (size_t i = 0; i < cmd.len; i++) {
		cmd.data[i] = (unsigned char)cmd.data[i] < ' ' ? ' ' : cmd.data[i];
	}
	unsigned long ticks = (utime + stime) / (unsigned long)sysconf(_SC_CLK_TCK);
	auto_free char *user = str_printf("%llu", (unsigned long long)(st.st_uid - id_base));
	auto_free char *time = str_printf("%02lu:%02lu:%02lu", ticks / 3600, ticks / 60 % 60,
					  ticks % 60);
	json_t *text = cmd.len ? json_string(buf_str(&cmd)) : json_string(comm);

	return !user || !time ? NULL :
	       json_pack("[s, o, o, o, s, o, o]", user, json_sprintf("%lld", (long long)pid),
			 json_sprintf("%ld", ppid), json_sprintf("%c", state), time,
			 json_string(format_size((uint64_t)rss * 4096).text),
			 text ? text : json_string("?"));
}

struct top_args {
	const char *pids;
	uint64_t    id_base;
};

/* In a child: a process decides what reading its memory (its arguments) leads to. */
static int top_child(void *ud, int in_fd, int out_fd, struct err *e)
{
	struct top_args *a = ud;
	auto_json json_t *pids = NULL;
	auto_json json_t *doc = json_object();
	json_t *names = json_array(), *rows = json_array(), *x;
	size_t i;
	int r = json_parse(a->pids, strlen(a->pids), &json_limits_document, "the processes", &pids, e);

	(void)in_fd;
	if (r < 0 || json_put(doc, "titles", names) < 0 || json_put(doc, "processes", rows) < 0) {
		return r < 0 ? r : err_nomem(e);
	}
	for (i = 0; i < ARRAY_LEN(titles); i++) {
		json_array_append_new(names, json_string(titles[i]));
	}
	json_array_foreach(pids, i, x) {
		json_t *row = top_row(json_integer_value(x), a->id_base);

		if (row) {
			json_array_append_new(rows, row);
		}
	}
	auto_free char *text = json_text(doc);

	r = text ? sys_write_full(out_fd, text, strlen(text)) : -ENOMEM;
	return r < 0 ? err_set(e, -r, ERR_HOST, "a pipe") : 0;
}

static void on_top(void *ud, const struct buf *result, const struct err *err)
{
	struct api_call *c = take_call(ud);
	struct err e = ERR_INIT;
	json_t *doc = NULL;

	if (!c) {
		return;
	}
	if (err || json_parse(buf_str(result), result->len, &json_limits_document, "the processes",
			      &doc, &e) < 0) {
		api_fail(c, err ? err : &e);
	} else {
		api_reply(c, doc);
	}
}

static void on_pids(struct instance *i, const struct shim_reply *reply, const struct err *err,
		    void *ud)
{
	struct held_call *h = ud;
	struct err e = ERR_INIT;
	int r = err ? -err->errnum : shim_reply_err(reply, &e);

	if (r == 0) {
		struct top_args args = { .pids = reply->text ? reply->text : "[]",
					 .id_base = i->status.id_count ? i->status.id_base : 0 };
		struct work_spec spec = { .run = top_child, .run_ud = &args, .done = on_top, .ud = h };
		struct work *w = NULL;

		r = work_start(i->node->loop, &spec, &w, &e);
	}
	if (r < 0) {
		struct api_call *c = take_call(h);

		if (c) {
			api_fail(c, err ? err : &e);
		}
	}
}

static int h_top(struct api_call *c, struct err *e)
{
	struct shim_empty m = { 0 };

	if (instance_need_container(c->instance, "top", e) < 0) {
		return -e->errnum;
	}
	struct held_call *h = instance_active(c->instance) ? hold_call(c, e) : NULL;

	if (!h) {
		return instance_active(c->instance) ? -ENOMEM : need_running(c->instance, e);
	}
	int r = shim_request(c->instance, SHIM_PIDS, &m, on_pids, h, e);

	if (r < 0) {
		take_call(h);
	}
	return r;
}

static const struct api_route routes[] = {
	{ "GET", "/v1/instances/{id}/stats", "instance.stats", API_INSTANCE, h_stats,
	  .query = &query_table, .reply = &stats_table,
	  .doc = "What it uses, once or as JSON lines." },
	{ "GET", "/v1/instances/{id}/top", "instance.top", API_INSTANCE, h_top,
	  .doc = "Its processes: {\"titles\": [...], \"processes\": [[...] ...]}." },
};
const struct api_routes stats_routes = { routes, ARRAY_LEN(routes) };
