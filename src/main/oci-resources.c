/* SPDX-License-Identifier: Apache-2.0 */
/* holm-oci update, events, ps */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <sys/timerfd.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/fd.h"
#include "container/hooks.h"
#include "main/oci.h"
#include "sys/file.h"
#include "sys/proc.h"

struct update_args {
	const char *resources;
	const char *values[13];      /* as update_keys[] */
	const char *l3_cache, *mem_bw;
};

/* Options that stand for one member of linux.resources. */
enum value_kind { VALUE_UINT, VALUE_INT, VALUE_BYTES, VALUE_TEXT };

static const struct {
	const char      *object, *key;
	enum value_kind  kind;
} update_keys[] = {
	{ "blockIO", "weight", VALUE_UINT },
	{ "cpu", "period", VALUE_UINT },
	{ "cpu", "quota", VALUE_INT },
	{ "cpu", "shares", VALUE_UINT },
	{ "cpu", "realtimePeriod", VALUE_UINT },
	{ "cpu", "realtimeRuntime", VALUE_INT },
	{ "cpu", "cpus", VALUE_TEXT },
	{ "cpu", "mems", VALUE_TEXT },
	{ "memory", "limit", VALUE_BYTES },
	{ "memory", "reservation", VALUE_BYTES },
	{ "memory", "swap", VALUE_BYTES },
	{ "pids", "limit", VALUE_INT },
	{ "cpu", "burst", VALUE_UINT },
};

#define IN(m) offsetof(struct update_args, m)
#define VALUE(n, option, arg_text, help_text) \
	{ .name = (option), .kind = CMD_STR, .off = IN(values[n]), .arg = (arg_text), \
	  .help = (help_text) }
static const struct cmd_opt update_opts[] = {
	{ 'r', "resources", CMD_STR, IN(resources), "FILE",
	  "take linux.resources from a file, or from standard input (-); other options are ignored",
	  .complete = CMD_COMPLETE_FILE },
	VALUE(0, "blkio-weight", "N", "share of block I/O, 10 to 1000"),
	VALUE(1, "cpu-period", "MICROSECONDS", "period of the CPU quota"),
	VALUE(2, "cpu-quota", "MICROSECONDS", "CPU time in each period"),
	VALUE(12, "cpu-burst", "MICROSECONDS", "CPU time that may be saved up"),
	VALUE(3, "cpu-share", "N", "share of CPU time"),
	VALUE(4, "cpu-rt-period", "MICROSECONDS", "period of the realtime quota"),
	VALUE(5, "cpu-rt-runtime", "MICROSECONDS", "realtime CPU time in each period"),
	VALUE(6, "cpuset-cpus", "LIST", "CPUs to run on"),
	VALUE(7, "cpuset-mems", "LIST", "memory nodes to use"),
	VALUE(8, "memory", "BYTES", "memory limit"),
	VALUE(9, "memory-reservation", "BYTES", "memory that is protected under pressure"),
	VALUE(10, "memory-swap", "BYTES", "memory and swap together; -1 for no limit"),
	VALUE(11, "pids-limit", "N", "processes; -1 for no limit"),
	{ .name = "l3-cache-schema", .kind = CMD_STR, .off = IN(l3_cache), .arg = "SCHEMA",
	  .flags = CMD_HIDDEN, .help = "not supported" },
	{ .name = "mem-bw-schema", .kind = CMD_STR, .off = IN(mem_bw), .arg = "SCHEMA",
	  .flags = CMD_HIDDEN, .help = "not supported" },
};
#undef VALUE
#undef IN

static json_t *parse_value(enum value_kind kind, const char *text)
{
	uint64_t u;
	int64_t i;

	switch (kind) {
	case VALUE_TEXT:
		return json_string(text);
	case VALUE_UINT:
		return parse_u64(text, INT64_MAX, &u) == 0 ? json_integer((json_int_t)u) : NULL;
	case VALUE_BYTES:
		if (parse_size(text, &u) == 0 && u <= INT64_MAX) {
			return json_integer((json_int_t)u);
		}
		fallthrough;
	case VALUE_INT:
		return parse_i64(text, INT64_MIN, INT64_MAX, &i) == 0 ? json_integer(i) : NULL;
	}
	return NULL;
}

/* The document that --resources would have given. */
static int resources_from_args(const struct update_args *a, json_t *doc, struct err *e)
{
	for (size_t i = 0; i < ARRAY_LEN(update_keys); i++) {
		if (!a->values[i] || !*a->values[i]) {
			continue;
		}
		json_t *value = parse_value(update_keys[i].kind, a->values[i]);
		json_t *o = json_object_get(doc, update_keys[i].object);

		if (!value) {
			return err_set(e, EINVAL, ERR_INVALID, "invalid value \"%s\" for %s %s",
				       a->values[i], update_keys[i].object, update_keys[i].key);
		}
		if (!o) {
			o = json_object();
			if (json_put(doc, update_keys[i].object, o) < 0) {
				json_decref(value);
				return err_nomem(e);
			}
		}
		if (json_put(o, update_keys[i].key, value) < 0) {
			return err_nomem(e);
		}
	}
	return 0;
}

static int read_resources(const char *path, json_t **ret, struct err *e)
{
	auto_buf struct buf text = BUF_INIT;
	int r = str_eq(path, "-") ? sys_read_fd(0, json_limits_document.bytes, &text)
				  : sys_read_file(AT_FDCWD, path, json_limits_document.bytes, &text);

	if (r < 0) {
		return err_set(e, -r, ERR_HOST, "cannot read the resources from %s", path);
	}
	return json_parse(buf_str(&text), text.len, &json_limits_document,
			  str_eq(path, "-") ? "standard input" : path, ret, e);
}

static int cmd_update(const struct cmd_call *call, struct err *e)
{
	const struct update_args *a = call->opts;
	auto_(record_freep) struct record *rec = NULL;
	auto_json json_t *doc = NULL;
	struct oci_resources res;
	int r = oci_open(call, 0, &rec, e);

	if (r < 0) {
		return r;
	}
	if ((a->l3_cache && *a->l3_cache) || (a->mem_bw && *a->mem_bw)) {
		return err_set(e, ENOTSUP, ERR_UNSUPPORTED, "--l3-cache-schema and --mem-bw-schema set "
			       "Intel RDT, which is not supported: leave them out");
	}
	if (record_status(rec) == STATUS_STOPPED || !rec->cgroup) {
		return err_set(e, ESRCH, ERR_CONFLICT, "cannot update a stopped container");
	}
	if (a->resources && *a->resources) {
		r = read_resources(a->resources, &doc, e);
	} else {
		doc = json_object();
		r = doc ? resources_from_args(a, doc, e) : err_nomem(e);
	}
	r = r < 0 ? r : jtable_parse(&oci_resources_table, doc, &rec->arena, &res, e);
	return r < 0 ? r : cgroup_update(rec->cgroup, &res, e);
}

struct events_args {
	bool     stats;
	uint64_t interval_ns;
};

#define IN(m) offsetof(struct events_args, m)
static const struct cmd_opt events_opts[] = {
	{ .name = "stats", .kind = CMD_FLAG, .off = IN(stats), .help = "print statistics once" },
	{ .name = "interval", .kind = CMD_DURATION, .off = IN(interval_ns), .arg = "DURATION",
	  .dflt = "5s", .help = "time between statistics" },
};
#undef IN

static int print_event(const struct record *rec, const char *type, json_t *own_data, struct err *e)
{
	auto_json json_t *o = json_object();
	int r = o ? json_put(o, "type", json_string(type)) : -ENOMEM;

	r = r < 0 ? r : json_put(o, "id", json_string(rec->id));
	if (own_data && r == 0) {
		r = json_put(o, "data", json_incref(own_data));
	}
	json_decref(own_data);

	auto_free char *text = r < 0 ? NULL : json_text(o);

	if (!text) {
		return err_nomem(e);
	}
	if (printf("%s\n", text) < 0 || fflush(stdout) != 0) {
		return err_set(e, errno, ERR_HOST, "cannot write to standard output");
	}
	return 0;
}

static int print_stats(const struct record *rec, struct err *e)
{
	json_t *data = cgroup_stats_json(rec->cgroup, e);

	return data ? print_event(rec, "stats", data, e) : -e->errnum;
}

static int interval_timer(uint64_t ns, int *ret_fd, struct err *e)
{
	const struct timespec t = { .tv_sec = (time_t)(ns / 1000000000),
				    .tv_nsec = (long)(ns % 1000000000) };
	const struct itimerspec its = { .it_interval = t, .it_value = t };
	auto_close int fd = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC);

	if (fd < 0 || timerfd_settime(fd, 0, &its, NULL) < 0) {
		return err_set(e, errno, ERR_HOST, "cannot make a timer");
	}
	*ret_fd = take_fd(&fd);
	return 0;
}

/* Until the container ends. */
static int follow_events(const struct record *rec, uint64_t interval_ns, struct err *e)
{
	auto_close int pidfd = -1, oom_fd = -1, timer_fd = -1;
	struct err no_oom = ERR_INIT;
	int r = record_pidfd(rec, &pidfd, e);

	r = r < 0 ? r : interval_timer(interval_ns, &timer_fd, e);
	if (r == 0 && cgroup_oom_open(rec->cgroup, &oom_fd, &no_oom) < 0) {
		oom_fd = -1; /* no memory controller: the rest goes on without it */
	}
	while (r == 0) {
		struct pollfd p[3] = { { .fd = pidfd, .events = POLLIN },
				       { .fd = timer_fd, .events = POLLIN },
				       { .fd = oom_fd, .events = POLLIN } };
		uint64_t ticks;

		if (poll(p, ARRAY_LEN(p), -1) < 0) {
			continue;
		}
		if (p[2].revents) {
			int n = cgroup_oom_read(rec->cgroup, oom_fd);

			if (n > 0) {
				r = print_event(rec, "oom", NULL, e);
			} else if (n < 0) {
				fd_close(&oom_fd);
			}
		}
		if (p[0].revents) {
			return r;
		}
		if (r == 0 && p[1].revents && sys_read(timer_fd, &ticks, sizeof(ticks)) > 0) {
			r = print_stats(rec, e);
		}
	}
	return r;
}

static int cmd_events(const struct cmd_call *call, struct err *e)
{
	const struct events_args *a = call->opts;
	auto_(record_freep) struct record *rec = NULL;
	int r;

	if (a->interval_ns == 0) {
		return err_set(e, EINVAL, ERR_INVALID, "duration interval must be greater than 0");
	}
	r = oci_open(call, 0, &rec, e);
	if (r < 0) {
		return r;
	}
	if (record_status(rec) == STATUS_STOPPED || !rec->cgroup) {
		return err_set(e, ESRCH, ERR_CONFLICT, "container with id %s is not running", rec->id);
	}
	return a->stats ? print_stats(rec, e) : follow_events(rec, a->interval_ns, e);
}

struct ps_args {
	int format;
};

static const char *const ps_formats[] = { "table", "json", NULL };

#define IN(m) offsetof(struct ps_args, m)
static const struct cmd_opt ps_opts[] = {
	{ 'f', "format", CMD_CHOICE, IN(format), "FORMAT", "table or json",
	  .choices = ps_formats, .dflt = "table" },
};
#undef IN

static int ps_json(const struct cgroup_pids *pids, struct err *e)
{
	auto_json json_t *a = json_array();

	for (size_t i = 0; a && i < pids->n; i++) {
		if (json_array_append_new(a, json_integer(pids->v[i])) < 0) {
			return err_nomem(e);
		}
	}

	auto_free char *text = a ? json_text(a) : NULL;

	if (!text) {
		return err_nomem(e);
	}
	puts(text);
	return 0;
}

/* Run the host's ps and take in what it prints. */
static int run_ps(char *const *options, struct buf *ret, struct err *e)
{
	static const char *const dflt[] = { "ps", "-ef", NULL };
	auto_strv struct strv argv = STRV_INIT;
	siginfo_t si;
	int out[2];
	int r = strv_add(&argv, "ps");

	for (size_t i = 0; r == 0 && (options[0] ? options[i] : dflt[i + 1]); i++) {
		r = strv_add(&argv, options[0] ? options[i] : dflt[i + 1]);
	}
	if (r < 0) {
		return err_nomem(e);
	}
	r = sys_pipe2(out, 0);
	if (r < 0) {
		return err_set(e, -r, ERR_HOST, "cannot make a pipe");
	}

	pid_t pid = sys_fork();

	if (pid == 0) {
		sys_reset_signals();
		if (dup2(out[1], 1) >= 0) {
			execvp("ps", argv.v);
		}
		_exit(127);
	}
	fd_close(&out[1]);
	r = pid < 0 ? pid : sys_read_fd(out[0], 16 << 20, ret);
	fd_close(&out[0]);
	if (pid > 0) {
		int q = sys_waitid(P_PID, (id_t)pid, &si, WEXITED);

		r = r < 0 ? r : q < 0 ? q : proc_exit_status(&si) ? -ENOENT : 0;
	}
	return r < 0 ? err_set(e, -r, ERR_HOST, "ps failed; it is in the package procps") : 0;
}

static bool has_pid(const struct cgroup_pids *pids, const char *line, size_t column)
{
	int pid = 0;

	for (size_t i = 0;; i++) {
		line += strspn(line, " ");
		if (i == column) {
			break;
		}
		line += strcspn(line, " ");
	}
	if (sscanf(line, "%d", &pid) != 1) {
		return false;
	}
	for (size_t i = 0; i < pids->n; i++) {
		if (pids->v[i] == pid) {
			return true;
		}
	}
	return false;
}

/* In which column the heading PID stands, or -1. */
static int pid_column(const char *heading)
{
	for (int i = 0;; i++) {
		heading += strspn(heading, " ");

		size_t n = strcspn(heading, " ");

		if (n == 0) {
			return -1;
		}
		if (n == 3 && strncmp(heading, "PID", 3) == 0) {
			return i;
		}
		heading += n;
	}
}

static int ps_table(const struct cgroup_pids *pids, char *const *options, struct err *e)
{
	auto_buf struct buf text = BUF_INIT;
	int r = run_ps(options, &text, e);
	const char *cursor = buf_str(&text);
	const char *part;
	size_t len;
	int column = -1;

	while (r == 0 && str_split(&cursor, '\n', &part, &len) && len > 0) {
		auto_free char *line = str_ndup(part, len);

		if (!line) {
			return err_nomem(e);
		}
		if (column < 0) {
			column = pid_column(line);
			if (column < 0) {
				return err_set(e, EINVAL, ERR_INVALID,
					       "ps with these options prints no column PID");
			}
			puts(line);
		} else if (has_pid(pids, line, (size_t)column)) {
			puts(line);
		}
	}
	return r;
}

static int cmd_ps(const struct cmd_call *call, struct err *e)
{
	const struct ps_args *a = call->opts;
	auto_(record_freep) struct record *rec = NULL;
	struct cgroup_pids pids = { .n = 0 };
	int r = oci_open(call, 0, &rec, e);

	if (r < 0) {
		return r;
	}
	r = rec->cgroup ? cgroup_pids(rec->cgroup, &pids, e) : 0;
	if (r == 0) {
		r = a->format == 1 ? ps_json(&pids, e) : ps_table(&pids, call->args + 1, e);
	}
	free(pids.v);
	return r;
}

const struct cmd oci_cmd_update = {
	.name = "update", .args = "CONTAINER", .min_args = 1, .max_args = 1,
	.opts = update_opts, .n_opts = ARRAY_LEN(update_opts),
	.opts_size = sizeof(struct update_args), .run = cmd_update,
	.help = "change the limits of a container",
	.text = "What is not given stays as it is.",
};

const struct cmd oci_cmd_events = {
	.name = "events", .args = "CONTAINER", .min_args = 1, .max_args = 1,
	.opts = events_opts, .n_opts = ARRAY_LEN(events_opts),
	.opts_size = sizeof(struct events_args), .run = cmd_events,
	.help = "print statistics and out-of-memory events as JSON lines",
};

const struct cmd oci_cmd_ps = {
	.name = "ps", .args = "CONTAINER [PS-OPTION...]", .min_args = 1, .max_args = CMD_ANY,
	.opts = ps_opts, .n_opts = ARRAY_LEN(ps_opts), .opts_size = sizeof(struct ps_args),
	.run = cmd_ps, .flags = CMD_STOP_AT_ARG, .help = "list the processes of a container",
};
