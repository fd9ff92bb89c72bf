/* SPDX-License-Identifier: Apache-2.0 */
/* logs: frames of the instance's log, to the streams they came from. */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "cli/cli.h"
#include "sys/file.h"
#include "wire/attach.h"

enum {
	FRAME_MAX   = 1024 * 1024,
	TRIES       = 600,       /* a tenth of a second between them */
};

struct logs_opts {
	bool        follow, timestamps, no_stdout, no_stderr;
	const char *since, *until, *tail;
};

#define IN(m) offsetof(struct logs_opts, m)
static const struct cmd_opt logs_table[] = {
	{ 'f', "follow", CMD_FLAG, IN(follow), NULL, "go on as long as it runs, also while the daemon is replaced" },
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

/* What is known of the log that is followed. */
struct follow {
	char place[128];    /* behind what was printed; "": nothing is known */
	bool cannot_write;
	bool began;         /* the daemon was there once */
};

/* A frame with the place behind it: printed whole, and only then it counts. */
static int take_placed(struct follow *f, const uint8_t *p, size_t n)
{
	size_t len = n >= 2 ? p[1] : 0;

	if (n < 2 || n < 2 + len || len >= sizeof(f->place) || p[0] > ATTACH_STDERR) {
		return -EBADMSG;
	}
	int r = p[0] == 0 ? 0 : sys_write_full(p[0] == ATTACH_STDOUT ? STDOUT_FILENO : STDERR_FILENO,
					       p + 2 + len, n - 2 - len);

	f->cannot_write = r < 0;
	if (r == 0) {
		memcpy(f->place, p + 2, len);
		f->place[len] = '\0';
	}
	return r;
}

/* One frame: 1, 0 at the end. */
static int one_frame(struct http_reply *reply, struct follow *f)
{
	auto_buf struct buf b = BUF_INIT;
	uint8_t head[ATTACH_HEAD];
	int r = read_all(reply, head, sizeof(head));
	size_t n = attach_get_u32(head + 4);

	if (r <= 0) {
		return r;
	}
	if (n > FRAME_MAX) {
		return -EBADMSG;
	}
	if (!buf_reserve(&b, n + 1)) {
		return -ENOMEM;
	}
	r = n == 0 ? 1 : read_all(reply, b.data, n);
	if (r <= 0) {
		return r < 0 ? r : -EPIPE;
	}
	if (head[0] == ATTACH_PLACED) {
		r = take_placed(f, (const uint8_t *)b.data, n);
	} else {
		r = sys_write_full(head[0] == ATTACH_STDOUT ? STDOUT_FILENO : STDERR_FILENO, b.data, n);
		f->cannot_write = r < 0;
	}
	return r < 0 ? r : 1;
}

struct times {
	struct cli_text since, until;
};

static int make_path(const struct cmd_call *call, const struct times *t, const struct follow *f,
		     struct buf *path)
{
	const struct logs_opts *o = call->opts;
	auto_free char *base = cli_instance_path(call->args[0], "logs");
	bool tail = o->tail && !str_eq(o->tail, "all") && !f->place[0];

	buf_add_str(path, base ? base : "");
	http_query(path, "follow", o->follow ? "true" : NULL);
	http_query(path, "positions", o->follow ? "true" : NULL);
	http_query(path, "from", f->place[0] ? f->place : NULL);
	http_query(path, "timestamps", o->timestamps ? "true" : NULL);
	http_query(path, "tail", tail ? o->tail : NULL);
	http_query(path, "since", o->since ? t->since.text : NULL);
	http_query(path, "until", o->until ? t->until.text : NULL);
	http_query(path, "stdout", o->no_stdout ? "false" : NULL);
	http_query(path, "stderr", o->no_stderr ? "false" : NULL);
	return base && !buf_failed(path) ? 0 : -ENOMEM;
}

/* As long as one daemon lives. 0: the log's end; -errno with *e: its or the daemon's. */
static int show(const struct cmd_call *call, const struct times *t, struct follow *f,
		bool *ret_frames, struct err *e)
{
	auto_buf struct buf path = BUF_INIT;
	auto_http struct http_reply *reply = NULL;

	if (make_path(call, t, f, &path) < 0) {
		return err_nomem(e);
	}
	struct http_call c = { .socket = cli_socket(call), .method = "GET", .path = buf_str(&path),
			       .body_fd = -1 };
	int r = http_open(&c, &reply, e);

	f->began = f->began || r == 0;
	while (r == 0 && (r = one_frame(reply, f)) > 0) {
		*ret_frames = true;
		r = 0;
	}
	return r < 0 && e->code == ERR_NONE ?
	       err_set(e, -r, ERR_UNAVAILABLE, "the log ended early") : r;
}

/* The instance goes on while the daemon is away: so does who follows its log. */
static int follow(const struct cmd_call *call, const struct times *t, struct err *e)
{
	const struct timespec pause = { .tv_nsec = 100 * 1000 * 1000 };
	struct follow f = { .place = "" };
	unsigned tries = 0;

	for (;;) {
		bool frames = false, again = f.began;
		int r = show(call, t, &f, &frames, e);

		if (r == 0 || f.cannot_write || !f.began || e->code != ERR_UNAVAILABLE) {
			/* One that is no more has no log that could go on. */
			return again && r < 0 && e->code == ERR_NOT_FOUND ? 0 : r;
		}
		tries = frames ? 1 : tries + 1;
		if (tries > TRIES) {
			return r;
		}
		err_clear(e);
		nanosleep(&pause, NULL);
	}
}

static int cmd_logs(const struct cmd_call *call, struct err *e)
{
	const struct logs_opts *o = call->opts;
	struct follow once = { .place = "" };
	struct times t;
	bool frames;
	uint64_t n;
	int r = cli_time(o->since, "since", &t.since, e);

	r = r < 0 ? r : cli_time(o->until, "until", &t.until, e);
	if (r == 0 && o->tail && !str_eq(o->tail, "all") && parse_u64(o->tail, INT32_MAX, &n) < 0) {
		r = err_set(e, EINVAL, ERR_INVALID, "--tail %s: must be a number or \"all\"", o->tail);
	}
	if (r < 0) {
		return r;
	}
	return o->follow ? follow(call, &t, e) : show(call, &t, &once, &frames, e);
}

const struct cmd cli_logs = {
	.name = "logs", .args = "INSTANCE", .min_args = 1, .max_args = 1, .opts = logs_table,
	.n_opts = ARRAY_LEN(logs_table), .opts_size = sizeof(struct logs_opts), .run = cmd_logs,
	.group = "Look", .help = "show the output of an instance", .complete = CMD_COMPLETE_DYNAMIC,
	.examples = "holm logs -f --tail 20 web",
};
