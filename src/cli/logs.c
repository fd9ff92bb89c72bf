/* SPDX-License-Identifier: Apache-2.0 */
/* logs: frames of the instance's log, to the streams they came from. */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "cli/cli.h"
#include "sys/file.h"

enum { HEAD = 8 };

struct logs_opts {
	bool        follow, timestamps, no_stdout, no_stderr;
	const char *since, *until, *tail;
};

#define IN(m) offsetof(struct logs_opts, m)
static const struct cmd_opt logs_table[] = {
	{ 'f', "follow", CMD_FLAG, IN(follow), NULL, "go on as long as it runs" },
	{ 't', "timestamps", CMD_FLAG, IN(timestamps), NULL, "a time before each line" },
	{ 'n', "tail", CMD_STR, IN(tail), "N", "the last N lines, or \"all\"" },
	{ 0, "since", CMD_STR, IN(since), "TIME", "RFC 3339, seconds since the epoch, or 10m ago" },
	{ 0, "until", CMD_STR, IN(until), "TIME", "no later than that" },
	{ 0, "no-stdout", CMD_FLAG, IN(no_stdout), NULL, "standard error only" },
	{ 0, "no-stderr", CMD_FLAG, IN(no_stderr), NULL, "standard output only" },
};
#undef IN

static int read_all(struct http_reply *r, void *buf, size_t n)
{
	size_t have = 0;

	while (have < n) {
		ssize_t got = http_read(r, (char *)buf + have, n - have);

		if (got <= 0) {
			return got < 0 ? (int)got : have ? -EPIPE : 0;
		}
		have += (size_t)got;
	}
	return 1;
}

/* One frame: 1, 0 at the end. */
static int one_frame(struct http_reply *r)
{
	uint8_t head[HEAD];
	char part[16384];
	int ret = read_all(r, head, sizeof(head));
	size_t left = (size_t)head[4] << 24 | (size_t)head[5] << 16 | (size_t)head[6] << 8 | head[7];

	if (ret <= 0) {
		return ret;
	}
	for (; left > 0; left -= MIN(left, sizeof(part))) {
		size_t n = MIN(left, sizeof(part));

		ret = read_all(r, part, n);
		if (ret <= 0) {
			return ret < 0 ? ret : -EPIPE;
		}
		ret = sys_write_full(head[0] == 1 ? STDOUT_FILENO : STDERR_FILENO, part, n);
		if (ret < 0) {
			return ret;
		}
	}
	return 1;
}

static int cmd_logs(const struct cmd_call *call, struct err *e)
{
	const struct logs_opts *o = call->opts;
	auto_free char *base = cli_instance_path(call->args[0], "logs");
	auto_buf struct buf path = BUF_INIT;
	auto_http struct http_reply *reply = NULL;
	struct cli_text since, until;
	uint64_t n;
	int r = cli_time(o->since, "since", &since, e);

	r = r < 0 ? r : cli_time(o->until, "until", &until, e);
	if (r == 0 && o->tail && !str_eq(o->tail, "all") && parse_u64(o->tail, INT32_MAX, &n) < 0) {
		r = err_set(e, EINVAL, ERR_INVALID, "--tail %s: must be a number or \"all\"", o->tail);
	}
	if (r < 0) {
		return r;
	}
	buf_add_str(&path, base ? base : "");
	http_query(&path, "follow", o->follow ? "true" : NULL);
	http_query(&path, "timestamps", o->timestamps ? "true" : NULL);
	http_query(&path, "tail", o->tail && !str_eq(o->tail, "all") ? o->tail : NULL);
	http_query(&path, "since", o->since ? since.text : NULL);
	http_query(&path, "until", o->until ? until.text : NULL);
	http_query(&path, "stdout", o->no_stdout ? "false" : NULL);
	http_query(&path, "stderr", o->no_stderr ? "false" : NULL);
	struct http_call c = { .socket = cli_socket(call), .method = "GET", .path = buf_str(&path),
			       .body_fd = -1 };

	r = base ? http_open(&c, &reply, e) : err_nomem(e);
	while (r == 0 && (r = one_frame(reply)) > 0) {
		r = 0;
		continue;
	}
	return r < 0 && e->code == ERR_NONE ? err_set(e, -r, ERR_UNAVAILABLE, "the log ended early") : r;
}

const struct cmd cli_logs = {
	.name = "logs", .args = "INSTANCE", .min_args = 1, .max_args = 1, .opts = logs_table,
	.n_opts = ARRAY_LEN(logs_table), .opts_size = sizeof(struct logs_opts), .run = cmd_logs,
	.group = "Look", .help = "show the output of an instance", .complete = CMD_COMPLETE_DYNAMIC,
	.examples = "holm logs -f --tail 20 web",
};
