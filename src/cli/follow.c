/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Operations of the daemon, followed to their end (docs/formats/image-progress.md). On a
 * terminal each item is a line that is redrawn; elsewhere a line for each that is done.
 */
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include "base/fd.h"
#include "base/mem.h"
#include "cli/cli.h"
#include "cli/term.h"
#include "sys/file.h"
#include "sys/socket.h"

enum { ITEMS_MAX = 512, BAR_CELLS = 24 };

struct item {
	char    id[20], what[20], state[16];
	int64_t done, total;
	bool    told;
};

struct follow {
	const struct cmd_call *call;
	bool                   quiet, bars;
	struct item           *items;
	size_t                 n;
	size_t                 drawn;     /* lines above the cursor that are ours */
	int                    signal_fd;
};

static bool is_over(const char *state)
{
	return str_eq(state, "done") || str_eq(state, "exists") || str_eq(state, "mounted");
}

static void draw_item(const struct item *i)
{
	char bar[BAR_CELLS + 1];
	int cells = i->total > 0 ? (int)(i->done * BAR_CELLS / i->total) : 0;

	cells = cells < 0 ? 0 : MIN(cells, (int)BAR_CELLS);
	memset(bar, '=', (size_t)cells);
	memset(bar + cells, ' ', (size_t)(BAR_CELLS - cells));
	bar[BAR_CELLS] = '\0';
	if (is_over(i->state) || i->total <= 0) {
		fprintf(stderr, "\033[K%-12s %-8s %s\n", i->id, i->what, i->state);
	} else {
		fprintf(stderr, "\033[K%-12s %-8s [%s] %s / %s%s\n", i->id, i->what, bar,
			cli_size((double)i->done).text, cli_size((double)i->total).text,
			str_eq(i->state, "retrying") ? " (again)" : "");
	}
}

static void draw(struct follow *f)
{
	uint16_t rows = 0, cols = 0;

	ignore_result(term_size(STDERR_FILENO, &rows, &cols)); /* 0 where it has no size */
	size_t max = rows > 2 ? (size_t)rows - 2 : 20;
	size_t first = f->n > max ? f->n - max : 0;

	if (f->drawn > 0) {
		fprintf(stderr, "\033[%zuA", f->drawn);
	}
	for (size_t i = first; i < f->n; i++) {
		draw_item(&f->items[i]);
	}
	f->drawn = f->n - first;
}

static void on_item(struct follow *f, const json_t *p)
{
	int64_t n = cli_int(p, "item");

	if (n < 0 || n >= ITEMS_MAX) {
		return;
	}
	if ((size_t)n >= f->n) {
		struct item *more = mem_realloc(f->items, (size_t)n + 1, sizeof(*more));

		if (!more) {
			return;
		}
		memset(more + f->n, 0, ((size_t)n + 1 - f->n) * sizeof(*more));
		f->items = more;
		f->n = (size_t)n + 1;
	}
	struct item *i = &f->items[n];

	(void)snprintf(i->id, sizeof(i->id), "%.12s", cli_short_id(cli_str(p, "id")).text);
	(void)snprintf(i->what, sizeof(i->what), "%s", cli_str(p, "what"));
	(void)snprintf(i->state, sizeof(i->state), "%s", cli_str(p, "state"));
	i->done = cli_int(p, "done");
	i->total = cli_int(p, "total");
	if (f->bars) {
		draw(f);
	} else if (is_over(i->state) && !i->told) {
		fprintf(stderr, "%s %s %s\n", i->id, i->what, i->state);
		i->told = true;
	}
}

static void on_progress(struct follow *f, const json_t *p)
{
	const char *type = cli_str(p, "type");

	if (f->quiet || !json_is_object(p)) {
		return;
	}
	if (str_eq(type, "item")) {
		on_item(f, p);
	} else if (str_eq(type, "text")) {
		fprintf(stderr, "%s%s\n", f->bars ? "\033[K" : "", cli_str(p, "text"));
		f->drawn = 0;
	}
}

/* 1: it has ended; 0: not yet. */
static int on_step(struct follow *f, const json_t *op, json_t **ret_result, struct err *e)
{
	const char *state = cli_str(op, "state");
	const json_t *error = json_object_get(op, "error");

	on_progress(f, json_object_get(op, "progress"));
	if (str_eq(state, "done")) {
		if (ret_result) {
			*ret_result = json_incref(json_object_get(op, "result"));
		}
		return 1;
	}
	if (error || str_eq(state, "failed") || str_eq(state, "cancelled")) {
		enum err_code code = err_code_parse(cli_str(error, "code"));

		return err_set(e, EIO, code == ERR__COUNT ? ERR_HOST : code, "%s",
			       *cli_str(error, "message") ? cli_str(error, "message") : state);
	}
	return 0;
}

static void cancel(struct follow *f, const char *id)
{
	auto_free char *path = str_printf("/v1/operations/%s/cancel", id);
	struct err e = ERR_INIT;

	ignore_result(cli_json(f->call, "POST", path, NULL, NULL, &e)); /* it may be over */
}

/* Wait for a line or an interrupt. */
static int wait_line(struct follow *f, struct http_reply *r, const char *id)
{
	struct pollfd p[2] = { { .fd = http_fd(r), .events = POLLIN },
			       { .fd = f->signal_fd, .events = POLLIN } };
	struct signalfd_siginfo si;

	if (http_buffered(r) > 0) {
		return 0;
	}
	if (poll(p, ARRAY_LEN(p), -1) < 0 && errno != EINTR) {
		return -errno;
	}
	if (p[1].revents && sys_read(f->signal_fd, &si, sizeof(si)) == sizeof(si)) {
		cancel(f, id);
	}
	return 0;
}

static int watch(struct follow *f, const char *id, json_t **ret_result, struct err *e)
{
	auto_free char *path = str_printf("/v1/operations/%s/watch", id);
	struct http_call c = { .socket = cli_socket(f->call), .method = "GET", .path = path,
			       .body_fd = -1 };
	auto_http struct http_reply *reply = NULL;
	const char *line;
	int r = path ? http_open(&c, &reply, e) : err_nomem(e);

	if (r < 0) {
		return r;
	}
	while ((r = wait_line(f, reply, id)) == 0 && (r = http_line(reply, &line)) > 0) {
		auto_json json_t *op = NULL;

		r = *line ? json_parse(line, strlen(line), &json_limits_request, "an operation", &op,
				       e) : 0;
		r = r < 0 || !op ? r : on_step(f, op, ret_result, e);
		if (r != 0) {
			return r < 0 ? r : 0;
		}
	}
	return err_set(e, r < 0 ? -r : EPIPE, ERR_UNAVAILABLE,
		       "the daemon no longer tells of the operation; it may go on: "
		       "see 'holm events' or try again");
}

int cli_follow(const struct cmd_call *call, const json_t *op, bool quiet, json_t **ret_result,
	       struct err *e)
{
	struct follow f = { .call = call, .quiet = quiet, .bars = isatty(STDERR_FILENO),
			    .signal_fd = -1 };
	sigset_t set, old;

	(void)sigemptyset(&set);              /* cannot fail, as the next */
	(void)sigaddset(&set, SIGINT);
	(void)sigaddset(&set, SIGTERM);
	(void)sigprocmask(SIG_BLOCK, &set, &old);
	f.signal_fd = sys_signalfd(-1, &set, SFD_NONBLOCK);
	int r = watch(&f, cli_str(op, "id"), ret_result, e);

	fd_close(&f.signal_fd);
	(void)sigprocmask(SIG_SETMASK, &old, NULL);
	free(f.items);
	return r;
}
