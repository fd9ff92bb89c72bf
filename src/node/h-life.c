/* SPDX-License-Identifier: Apache-2.0 */
/* Start, stop, kill, pause, wait, attach. */
#include <errno.h>
#include <signal.h>

#include "base/clock.h"
#include "base/fd.h"
#include "base/mem.h"
#include "node/handlers.h"
#include "node/instance.h"
#include "node/life.h"
#include "node/signals.h"
#include "wire/attach.h"

/* --- Calls that wait for an answer --- */

static void on_held_gone(struct api_call *c)
{
	((struct held_call *)c->ud)->call = NULL;
}

struct held_call *hold_call(struct api_call *c, struct err *e)
{
	struct held_call *h = mem_new(struct held_call);

	if (!h) {
		ignore_result(err_nomem(e)); /* told by the NULL */
		return NULL;
	}
	h->call = c;
	c->ud = h;
	c->cancel = on_held_gone;
	return h;
}

struct api_call *take_call(struct held_call *h)
{
	struct api_call *c = h->call;

	if (c) {
		c->ud = NULL;
		c->cancel = NULL;
	}
	free(h);
	return c;
}

static void on_asked(struct instance *i, const struct shim_reply *reply, const struct err *err,
		     void *ud)
{
	struct api_call *c = take_call(ud);
	struct err e = ERR_INIT;

	(void)i;
	if (!c) {
		return;
	}
	if (err) {
		api_fail(c, err);
	} else if (shim_reply_err(reply, &e) < 0) {
		api_fail(c, &e);
	} else {
		api_reply(c, NULL);
	}
}

int ask_shim(struct api_call *c, unsigned type, const void *msg, struct err *e)
{
	struct held_call *h = hold_call(c, e);
	int r = h ? shim_request(c->instance, (enum shim_msg_type)type, msg, on_asked, h, e) : -ENOMEM;

	if (h && r < 0) {
		take_call(h);
	}
	return r;
}

int need_running(const struct instance *i, struct err *e)
{
	if (i->status.state == INSTANCE_PAUSED) {
		return err_set(e, EBUSY, ERR_CONFLICT, "instance %s is paused: resume it first",
			       i->name);
	}
	return i->status.state == INSTANCE_RUNNING ? 0 :
	       err_set(e, ESRCH, ERR_CONFLICT, "instance %s does not run (%s)", i->name,
		       instance_state_names[i->status.state]);
}

/* --- Waiting for a state --- */

enum wait_for { WAIT_STARTED, WAIT_STOPPED, WAIT_RESTARTED, WAIT_EXIT, WAIT_NEXT_EXIT, WAIT_REMOVED };

struct state_wait {
	struct instance_waiter waiter;
	struct api_call       *call;
	enum wait_for          what;
	bool                   was_active;
};

static void wait_free(struct state_wait *w)
{
	instance_unwait(&w->waiter);
	w->call->cancel = NULL;
	free(w);
}

static void on_wait_gone(struct api_call *c)
{
	wait_free(c->ud);
}

struct wait_reply {
	uint64_t    exit_code, signal;
	bool        oom, removed;
	const char *error;
	uint64_t    finished;
};

#define IN(m) offsetof(struct wait_reply, m)
static const struct jfield wait_reply_fields[] = {
	{ "exit_code", JK_UINT, IN(exit_code), .flags = JF_REQUIRED, .doc = "of its end" },
	{ "signal", JK_UINT, IN(signal), .doc = "that ended it" },
	{ "oom", JK_BOOL, IN(oom), .doc = "memory was out" },
	{ "removed", JK_BOOL, IN(removed), .doc = "it is no more" },
	{ "error", JK_STR, IN(error), .doc = "why it did not start, or what was lost" },
	{ "finished", JK_TIME, IN(finished), .doc = "when it ended" },
};
#undef IN
static const struct jtable wait_reply_table =
	JTABLE("WaitReply", struct wait_reply, wait_reply_fields);

static json_t *wait_json(const struct instance *i)
{
	struct wait_reply r = { .exit_code = i->status.exit_code, .signal = i->status.signal,
				.oom = i->status.oom, .removed = i->removed,
				.error = i->status.error, .finished = i->status.finished };

	return jtable_format(&wait_reply_table, &r);
}

static int start_error(const struct instance *i, struct err *e)
{
	if (!i->start_err) {
		return err_set(e, ENOMEM, ERR_HOST, "it did not start");
	}
	*e = *i->start_err;
	return -e->errnum;
}

static bool ended(const struct instance *i)
{
	return i->status.state == INSTANCE_EXITED || i->status.state == INSTANCE_RESTARTING;
}

/* 1: answer with the object; -errno: with *e; 0: wait on. */
static int judge(struct state_wait *w, struct instance *i, struct err *e)
{
	bool runs = i->status.state == INSTANCE_RUNNING || i->status.state == INSTANCE_PAUSED;

	if (i->removed && w->what != WAIT_REMOVED && w->what != WAIT_STOPPED &&
	    w->what != WAIT_EXIT && w->what != WAIT_NEXT_EXIT) {
		return err_set(e, ENOENT, ERR_CONFLICT, "the instance was removed meanwhile");
	}
	switch (w->what) {
	case WAIT_STARTED:
	case WAIT_RESTARTED:
		if (ended(i) && i->start_failed) {
			return start_error(i, e);
		}
		/* Of a restart the first end is that of the old life. */
		return runs ? !i->start_asked : ended(i) && !i->start_asked;
	case WAIT_STOPPED:
		return i->removed || ended(i);
	case WAIT_EXIT:
	case WAIT_NEXT_EXIT:
		return i->removed || ended(i);
	case WAIT_REMOVED:
		return i->removed;
	}
	return 0;
}

static void on_state(struct instance_waiter *waiter, struct instance *i, void *ud)
{
	struct state_wait *w = ud;
	struct api_call *c = w->call;
	struct err e = ERR_INIT;
	bool wait_reply = w->what == WAIT_EXIT || w->what == WAIT_NEXT_EXIT ||
			  w->what == WAIT_REMOVED;
	int r = judge(w, i, &e);

	(void)waiter;
	if (r == 0) {
		return;
	}
	wait_free(w);
	if (r < 0) {
		api_fail(c, &e);
	} else {
		api_reply(c, wait_reply ? wait_json(i) : instance_detail(i));
	}
}

static struct state_wait *wait_for(struct api_call *c, enum wait_for what, struct err *e)
{
	struct state_wait *w = mem_new(struct state_wait);

	if (!w) {
		ignore_result(err_nomem(e)); /* told by the NULL */
		return NULL;
	}
	w->call = c;
	w->what = what;
	w->waiter.fn = on_state;
	w->waiter.ud = w;
	c->ud = w;
	c->cancel = on_wait_gone;
	instance_wait(c->instance, &w->waiter);
	return w;
}

/* --- Start, stop --- */

struct start_in {
	uint64_t rows, cols;
};

#define IN(m) offsetof(struct start_in, m)
static const struct jfield start_fields[] = {
	{ "rows", JK_UINT, IN(rows), .max = 65535, .doc = "of its terminal" },
	{ "cols", JK_UINT, IN(cols), .max = 65535, .doc = "of its terminal" },
};
#undef IN
static const struct jtable start_table = JTABLE("Start", struct start_in, start_fields);

static int h_start(struct api_call *c, struct err *e)
{
	const struct start_in *in = c->body;
	struct instance *i = c->instance;

	if (instance_active(i)) {
		return err_set(e, EALREADY, ERR_CONFLICT, "instance %s is %s already", i->name,
			       instance_state_names[i->status.state]);
	}
	struct state_wait *w = wait_for(c, WAIT_STARTED, e);

	if (!w) {
		return -ENOMEM;
	}
	i->rows = (uint32_t)in->rows;
	i->cols = (uint32_t)in->cols;
	int r = life_start(i, e);

	if (r < 0 && !c->answered) {
		wait_free(w);
	}
	return c->answered ? 0 : r;
}

struct stop_in {
	const char *signal;
	uint64_t    timeout;
	bool        has_timeout;
};

#define IN(m) offsetof(struct stop_in, m)
static const struct jfield stop_fields[] = {
	{ "signal", JK_STR, IN(signal), .min = 1, .max = 16, .doc = "default: its stop signal" },
	{ "timeout", JK_UINT, IN(timeout), .has = IN(has_timeout), .max = 86400,
	  .doc = "seconds until KILL; default: its stop timeout" },
};
#undef IN
static const struct jtable stop_table = JTABLE("Stop", struct stop_in, stop_fields);

static int stop_params(const struct api_call *c, int *ret_signo, uint64_t *ret_ns, struct err *e)
{
	const struct stop_in *in = c->body;
	int signo = in->signal ? signo_parse(in->signal) : life_stop_signal(c->instance);

	if (signo < 0) {
		return err_field(e, "/signal", "there is no signal \"%s\"", in->signal);
	}
	*ret_signo = signo;
	*ret_ns = in->has_timeout ? in->timeout * NS_PER_SEC : life_stop_timeout_ns(c->instance);
	return 0;
}

static int h_stop(struct api_call *c, struct err *e)
{
	uint64_t ns = 0;
	int signo = 0;
	int r = stop_params(c, &signo, &ns, e);

	if (r < 0) {
		return r;
	}
	if (!instance_active(c->instance) && c->instance->status.state != INSTANCE_RESTARTING) {
		c->instance->status.stopped = true;
		r = instance_save_status(c->instance, true, e);
		if (r == 0) {
			api_reply(c, instance_detail(c->instance));
		}
		return r;
	}
	bool waiting = c->instance->status.state == INSTANCE_RESTARTING;
	struct state_wait *w = waiting ? NULL : wait_for(c, WAIT_STOPPED, e);

	r = !w && !waiting ? -ENOMEM : life_stop(c->instance, signo, ns, e);
	if (r < 0 && w && !c->answered) {
		wait_free(w);
	}
	if (r == 0 && waiting) {
		api_reply(c, instance_detail(c->instance));
	}
	return r;
}

static int h_restart(struct api_call *c, struct err *e)
{
	uint64_t ns = 0;
	int signo = 0;
	int r = stop_params(c, &signo, &ns, e);
	struct state_wait *w = r < 0 ? NULL : wait_for(c, WAIT_RESTARTED, e);

	if (!w) {
		return r < 0 ? r : -ENOMEM;
	}
	r = life_restart(c->instance, signo, ns, e);
	if (r < 0 && !c->answered) {
		wait_free(w);
	}
	return c->answered ? 0 : r;
}

struct kill_in {
	const char *signal;
	bool        all;
};

#define IN(m) offsetof(struct kill_in, m)
static const struct jfield kill_fields[] = {
	{ "signal", JK_STR, IN(signal), .min = 1, .max = 16, .doc = "name or number; default KILL" },
	{ "all", JK_BOOL, IN(all), .doc = "to each of its processes" },
};
#undef IN
static const struct jtable kill_table = JTABLE("Kill", struct kill_in, kill_fields);

static int h_kill(struct api_call *c, struct err *e)
{
	const struct kill_in *in = c->body;
	int signo = in->signal ? signo_parse(in->signal) : SIGKILL;
	struct shim_signal m = { .signal = (uint32_t)signo, .all = in->all };

	if (signo < 0) {
		return err_field(e, "/signal", "there is no signal \"%s\"", in->signal);
	}
	if (!instance_active(c->instance)) {
		return need_running(c->instance, e);
	}
	if (signo == SIGKILL || signo == SIGTERM || signo == SIGINT) {
		c->instance->status.stopped = signo == SIGKILL; /* as docker: kill is a stop */
	}
	return ask_shim(c, SHIM_SIGNAL, &m, e);
}

static int h_pause(struct api_call *c, struct err *e)
{
	struct shim_empty m = { 0 };
	int r = need_running(c->instance, e);

	return r < 0 ? r : ask_shim(c, SHIM_PAUSE, &m, e);
}

static int h_resume(struct api_call *c, struct err *e)
{
	struct shim_empty m = { 0 };

	if (c->instance->status.state != INSTANCE_PAUSED) {
		return err_set(e, EINVAL, ERR_CONFLICT, "instance %s is not paused",
			       c->instance->name);
	}
	return ask_shim(c, SHIM_RESUME, &m, e);
}

/* --- Wait --- */

static const char *const wait_names[] = { "not-running", "next-exit", "removed", NULL };

struct wait_query {
	int condition;
};

static const struct jfield wait_fields[] = {
	{ "condition", JK_ENUM, offsetof(struct wait_query, condition), .names = wait_names,
	  .doc = "not-running (at once if it does not run), next-exit or removed" },
};
static const struct jtable wait_table = JTABLE("WaitQuery", struct wait_query, wait_fields);

static int h_wait(struct api_call *c, struct err *e)
{
	static const enum wait_for what[] = { WAIT_EXIT, WAIT_NEXT_EXIT, WAIT_REMOVED };
	const struct wait_query *q = c->query;
	const struct instance *i = c->instance;

	if (q->condition == 0 && !instance_active(i) && !i->start_asked) {
		api_reply(c, wait_json(i));
		return 0;
	}
	return wait_for(c, what[q->condition], e) ? 0 : -ENOMEM;
}

/* --- Attach --- */

struct attach_query {
	bool no_stdin, no_stdout, no_stderr, stdin_once;
	bool has_stdin_once;
	uint64_t stall_ms;
};

#define IN(m) offsetof(struct attach_query, m)
static const struct jfield attach_fields[] = {
	{ "no_stdin", JK_BOOL, IN(no_stdin), .doc = "do not give input" },
	{ "no_stdout", JK_BOOL, IN(no_stdout), .doc = "without standard output" },
	{ "no_stderr", JK_BOOL, IN(no_stderr), .doc = "without standard error" },
	{ "stdin_once", JK_BOOL, IN(stdin_once), .has = IN(has_stdin_once),
	  .doc = "the end of this client ends its input; default: as of the spec" },
	{ "stall_ms", JK_UINT, IN(stall_ms), .max = 86400000,
	  .doc = "dropped when it takes no output for so long; default 10000" },
};
#undef IN
static const struct jtable attach_table = JTABLE("AttachQuery", struct attach_query, attach_fields);

struct attach_job {
	struct node       *node;
	char               id[ID_LEN + 1];
	struct shim_attach msg;
	int                client_fd;
};

/* A shim that answered has told the client itself; one that ended has not. */
static void on_attached(struct instance *i, const struct shim_reply *reply, const struct err *err,
			void *ud)
{
	struct attach_job *job = ud;

	(void)i;
	(void)reply;
	if (err && job->client_fd >= 0) {
		attach_refuse(job->client_fd, err->msg,
			      (int32_t)shim_reason_exit_code(SHIM_REASON_SHIM));
	}
	fd_close(&job->client_fd);
	free(job);
}

static void on_attach_upgrade(int own_fd, const void *preread, size_t n, void *ud)
{
	struct attach_job *job = ud;
	struct err e = ERR_INIT;
	struct instance *i = instance_by_id(job->node, job->id);

	job->client_fd = own_fd;
	job->msg.connection = own_fd;
	job->msg.preread = (struct wire_bytes){ .data = n ? (uint8_t *)(uintptr_t)preread : NULL,
						.len = n };
	int r = own_fd < 0 ? err_set(&e, EPIPE, ERR_UNAVAILABLE, "the client has gone") :
		!i ? err_set(&e, ESRCH, ERR_NOT_FOUND, "the instance has been removed") :
		shim_request(i, SHIM_ATTACH, &job->msg, on_attached, job, &e);

	if (r < 0) {
		on_attached(i, NULL, &e, job);
	}
}

static int h_attach(struct api_call *c, struct err *e)
{
	const struct attach_query *q = c->query;
	struct instance *i = c->instance;

	if (!http_header(c->req, "Upgrade")) {
		return err_set(e, EPROTO, ERR_INVALID, "attach needs Upgrade: holm-stream");
	}
	int r = life_ensure_shim(i, e);
	struct attach_job *job = r < 0 ? NULL : mem_new(struct attach_job);

	if (!job) {
		return r < 0 ? r : err_nomem(e);
	}
	job->node = c->node;
	memcpy(job->id, i->id, sizeof(job->id));
	job->msg.streams = (q->no_stdin ? 0u : SHIM_STDIN) | (q->no_stdout ? 0u : SHIM_STDOUT) |
			   (q->no_stderr ? 0u : SHIM_STDERR);
	job->msg.framing = SHIM_FRAMED;
	job->msg.stall_ms = (uint32_t)q->stall_ms;
	job->msg.stdin_once = q->has_stdin_once ? q->stdin_once : i->spec.stdin_once;
	api_upgrade(c, on_attach_upgrade, job);
	return 0;
}

struct resize_in {
	uint64_t    rows, cols;
	const char *exec;
};

#define IN(m) offsetof(struct resize_in, m)
static const struct jfield resize_fields[] = {
	{ "rows", JK_UINT, IN(rows), .flags = JF_REQUIRED, .min = 1, .max = 65535, .doc = "lines" },
	{ "cols", JK_UINT, IN(cols), .flags = JF_REQUIRED, .min = 1, .max = 65535, .doc = "columns" },
	{ "exec", JK_NAME, IN(exec), .doc = "session; default: the first process" },
};
#undef IN
static const struct jtable resize_table = JTABLE("Resize", struct resize_in, resize_fields);

static int h_resize(struct api_call *c, struct err *e)
{
	const struct resize_in *in = c->body;
	struct shim_resize m = { .rows = (uint32_t)in->rows, .cols = (uint32_t)in->cols,
				 .exec = (char *)(uintptr_t)in->exec };
	int r = need_running(c->instance, e);

	return r < 0 ? r : ask_shim(c, SHIM_RESIZE, &m, e);
}

static const struct api_route routes[] = {
	{ "POST", "/v1/instances/{id}/start", "instance.start", API_INSTANCE, h_start,
	  .body = &start_table, .reply = &instance_detail_table,
	  .doc = "Start it; answers when its process runs, or why it does not." },
	{ "POST", "/v1/instances/{id}/stop", "instance.stop", API_INSTANCE, h_stop,
	  .body = &stop_table, .reply = &instance_detail_table,
	  .doc = "Ask it to end, kill it after a time; answers when it has ended." },
	{ "POST", "/v1/instances/{id}/restart", "instance.restart", API_INSTANCE, h_restart,
	  .body = &stop_table, .reply = &instance_detail_table, .doc = "Stop it, start it." },
	{ "POST", "/v1/instances/{id}/kill", "instance.kill", API_INSTANCE | API_EMPTY, h_kill,
	  .body = &kill_table, .doc = "Send a signal to its first process, or to all." },
	{ "POST", "/v1/instances/{id}/pause", "instance.pause", API_INSTANCE | API_EMPTY, h_pause,
	  .doc = "Freeze all its processes." },
	{ "POST", "/v1/instances/{id}/resume", "instance.resume", API_INSTANCE | API_EMPTY, h_resume,
	  .doc = "Let a paused one go on." },
	{ "GET", "/v1/instances/{id}/wait", "instance.wait", API_INSTANCE, h_wait,
	  .query = &wait_table, .reply = &wait_reply_table, .doc = "Answer when it has ended." },
	{ "POST", "/v1/instances/{id}/attach", "instance.attach", API_INSTANCE | API_UPGRADE,
	  h_attach, .query = &attach_table,
	  .doc = "Its input and output; before its start too, so that nothing is missed." },
	{ "POST", "/v1/instances/{id}/resize", "instance.resize", API_INSTANCE | API_EMPTY, h_resize,
	  .body = &resize_table, .doc = "Set the size of a terminal." },
};
const struct api_routes life_routes = { routes, ARRAY_LEN(routes) };
