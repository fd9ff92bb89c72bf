/* SPDX-License-Identifier: Apache-2.0 */
/* Further processes in a running instance. */
#include <errno.h>
#include <signal.h>

#include "base/fd.h"
#include "base/mem.h"
#include "node/exec.h"
#include "node/handlers.h"
#include "node/shim.h"
#include "node/signals.h"
#include "node/work.h"
#include "wire/attach.h"

struct exec_view {
	const char *id;
	bool        running, done;
	uint64_t    pid, exit_code, signal, started, finished;
};

#define IN(m) offsetof(struct exec_view, m)
static const struct jfield view_fields[] = {
	{ "id", JK_NAME, IN(id), .flags = JF_REQUIRED, .doc = "of the session" },
	{ "running", JK_BOOL, IN(running), .flags = JF_EMPTY, .doc = "its process runs" },
	{ "pid", JK_UINT, IN(pid), .doc = "as the host sees it" },
	{ "exit_code", JK_UINT, IN(exit_code), .has = IN(done), .doc = "of its end" },
	{ "signal", JK_UINT, IN(signal), .doc = "that ended it" },
	{ "started", JK_TIME, IN(started), .doc = "when it began" },
	{ "finished", JK_TIME, IN(finished), .doc = "when it ended" },
};
#undef IN
static const struct jtable view_table = JTABLE("ExecSession", struct exec_view, view_fields);

static json_t *exec_json(const struct exec_session *x)
{
	struct exec_view v = { .id = x->name, .running = x->running, .done = x->done,
			       .pid = x->pid, .exit_code = x->exit_code, .signal = x->signal,
			       .started = x->started_ns, .finished = x->finished_ns };

	return jtable_format(&view_table, &v);
}

/* From the request to the process: its client may go, its instance may end. */
struct exec_job {
	struct node     *node;
	struct api_call *call;       /* NULL: gone, or its connection was handed over */
	char             instance[ID_LEN + 1];
	char             name[32];
	struct exec_in   in;         /* for the child, which has its copy of what it points to */
	char            *process;
	bool             tty, stdin_open, upgrade;
	uint32_t         rows, cols, stall_ms;
	int              client_fd;  /* of one whose connection was handed over, or -1 */
};

static void job_free(struct exec_job *job)
{
	fd_close(&job->client_fd);
	free(job->process);
	free(job);
}

static struct api_call *job_call(struct exec_job *job)
{
	struct api_call *c = job->call;

	job->call = NULL;
	if (c) {
		c->cancel = NULL;
	}
	return c;
}

static void on_job_gone(struct api_call *c)
{
	((struct exec_job *)c->ud)->call = NULL;
}

static void drop_session(struct exec_job *job)
{
	struct instance *i = instance_by_id(job->node, job->instance);
	struct exec_session *x = i ? exec_find(i, job->name) : NULL;

	if (x) {
		exec_drop(i, x);
	}
}

static void fail(struct exec_job *job, const struct err *e)
{
	struct api_call *c = job_call(job);

	drop_session(job);
	if (c) {
		api_fail(c, e);
	}
	if (job->client_fd >= 0) {
		attach_refuse(job->client_fd, e->msg,
			      (int32_t)shim_reason_exit_code(SHIM_REASON_SHIM));
	}
	job_free(job);
}

static void on_started(struct instance *i, const struct shim_reply *reply, const struct err *err,
		       void *ud)
{
	struct exec_job *job = ud;
	struct exec_session *x = exec_find(i, job->name);
	struct err e = ERR_INIT;
	int r = err ? -err->errnum : shim_reply_err(reply, &e);

	if (!err) {
		fd_close(&job->client_fd); /* the shim has it, and told it all */
	}
	if (r < 0) {
		fail(job, err ? err : &e);
		return;
	}
	if (x && !x->done) {
		x->running = true;
		x->pid = reply->value;
	}
	struct api_call *c = job_call(job);

	node_event(i->node, "instance", "exec_start", i->id, i->name, "exec", job->name, NULL);
	if (c) {
		api_reply(c, x ? exec_json(x) : json_object());
	}
	job_free(job);
}

static int send_exec(struct exec_job *job, struct instance *i, int fd, const void *preread,
		     size_t n, struct err *e)
{
	struct shim_exec m = {
		.exec = job->name, .process = job->process, .terminal = job->tty,
		.open_stdin = job->stdin_open, .rows = job->rows, .cols = job->cols,
		.connection = fd, .streams = SHIM_STDOUT | SHIM_STDERR |
					     (job->stdin_open ? SHIM_STDIN : 0u),
		.framing = SHIM_FRAMED, .stdin_once = true, .stall_ms = job->stall_ms,
		.preread = { .data = n ? (uint8_t *)(uintptr_t)preread : NULL, .len = n },
	};

	return shim_request(i, SHIM_EXEC, &m, on_started, job, e);
}

static void on_upgrade(int own_fd, const void *preread, size_t n, void *ud)
{
	struct exec_job *job = ud;
	struct instance *i = instance_by_id(job->node, job->instance);
	struct err e = ERR_INIT;

	int r = own_fd < 0 ? err_set(&e, EPIPE, ERR_UNAVAILABLE, "the client has gone") :
		!i ? err_set(&e, ESRCH, ERR_CONFLICT, "the instance has ended") :
		send_exec(job, i, own_fd, preread, n, &e);

	job->client_fd = own_fd;
	if (r < 0) {
		fail(job, &e);
	}
}

/* The child has made the process object. */
static void on_process(void *ud, const struct buf *result, const struct err *err)
{
	struct exec_job *job = ud;
	struct instance *i = instance_by_id(job->node, job->instance);
	struct err e = ERR_INIT;

	if (err) {
		fail(job, err);
		return;
	}
	job->process = str_ndup(buf_str(result), result->len);
	int r = !job->process ? err_nomem(&e) : !i ?
		err_set(&e, ESRCH, ERR_CONFLICT, "the instance has ended") : need_running(i, &e);

	if (r == 0 && job->upgrade) {
		struct api_call *c = job_call(job);

		if (c) {
			api_upgrade(c, on_upgrade, job);
		} else {
			drop_session(job);
			job_free(job);
		}
		return;
	}
	r = r < 0 ? r : send_exec(job, i, -1, NULL, 0, &e);
	if (r < 0) {
		fail(job, &e);
	}
}

struct child_args {
	struct instance *instance;
	struct exec_in   in;
};

static int in_child(void *ud, int in_fd, int out_fd, struct err *e)
{
	struct child_args *a = ud;

	(void)in_fd;
	return exec_process(a->instance, &a->in, out_fd, e);
}

static int h_exec(struct api_call *c, struct err *e)
{
	const struct exec_in *in = c->body;
	struct instance *i = c->instance;
	int r = need_running(i, e);
	struct exec_session *x = r < 0 ? NULL : exec_add(i, e);

	if (!x) {
		return r < 0 ? r : -e->errnum;
	}
	struct exec_job *job = mem_new(struct exec_job);

	if (!job) {
		exec_drop(i, x);
		return err_nomem(e);
	}
	job->client_fd = -1;
	job->node = c->node;
	job->call = c;
	job->tty = in->tty;
	job->stdin_open = in->stdin_open;
	job->rows = (uint32_t)in->rows;
	job->cols = (uint32_t)in->cols;
	job->stall_ms = (uint32_t)in->stall_ms;
	job->upgrade = http_header(c->req, "Upgrade") != NULL;
	memcpy(job->instance, i->id, sizeof(job->instance));
	memcpy(job->name, x->name, sizeof(job->name));
	struct child_args args = { .instance = i, .in = *in };
	struct work_spec spec = { .run = in_child, .run_ud = &args, .done = on_process, .ud = job };
	struct work *w = NULL;

	r = work_start(c->node->loop, &spec, &w, e);
	if (r < 0) {
		exec_drop(i, x);
		job_free(job);
		return r;
	}
	c->ud = job;
	c->cancel = on_job_gone;
	return 0;
}

static int find_session(struct api_call *c, struct exec_session **ret, struct err *e)
{
	*ret = exec_find(c->instance, c->params[1]);
	return *ret ? 0 : err_set(e, ENOENT, ERR_NOT_FOUND, "instance %s has no session %.64s",
				  c->instance->name, c->params[1]);
}

static int h_exec_get(struct api_call *c, struct err *e)
{
	struct exec_session *x = NULL;
	int r = find_session(c, &x, e);

	if (r == 0) {
		api_reply(c, exec_json(x));
	}
	return r;
}

static int h_exec_list(struct api_call *c, struct err *e)
{
	auto_json json_t *doc = json_object();
	json_t *list = json_array();

	if (!doc || json_put(doc, "execs", list) < 0) {
		return err_nomem(e);
	}
	list_for_each (struct exec_session, x, &c->instance->execs, link) {
		if (json_array_append_new(list, exec_json(x)) < 0) {
			return err_nomem(e);
		}
	}
	api_reply(c, take_ptr(&doc));
	return 0;
}

struct exec_kill_in {
	const char *signal;
};

static const struct jfield kill_fields[] = {
	{ "signal", JK_STR, offsetof(struct exec_kill_in, signal), .min = 1, .max = 16,
	  .doc = "name or number; default KILL" },
};
static const struct jtable kill_table = JTABLE("ExecKill", struct exec_kill_in, kill_fields);

static int h_exec_kill(struct api_call *c, struct err *e)
{
	const struct exec_kill_in *in = c->body;
	struct exec_session *x = NULL;
	int signo = in->signal ? signo_parse(in->signal) : SIGKILL;
	int r = find_session(c, &x, e);

	if (r < 0) {
		return r;
	}
	if (signo < 0) {
		return err_field(e, "/signal", "there is no signal \"%s\"", in->signal);
	}
	struct shim_signal m = { .signal = (uint32_t)signo, .exec = x->name };

	return ask_shim(c, SHIM_SIGNAL, &m, e);
}

static const struct api_route routes[] = {
	{ "POST", "/v1/instances/{id}/exec", "instance.exec", API_INSTANCE, h_exec,
	  .body = &exec_in_table, .reply = &view_table,
	  .doc = "Run one more process; with Upgrade: holm-stream, its input and output follow." },
	{ "GET", "/v1/instances/{id}/execs", "instance.exec-list", API_INSTANCE, h_exec_list,
	  .doc = "Its sessions, also those that ended lately: {\"execs\": [ExecSession ...]}." },
	{ "GET", "/v1/instances/{id}/execs/{exec}", "instance.exec-get", API_INSTANCE, h_exec_get,
	  .reply = &view_table, .doc = "One session." },
	{ "POST", "/v1/instances/{id}/execs/{exec}/kill", "instance.exec-kill",
	  API_INSTANCE | API_EMPTY, h_exec_kill, .body = &kill_table,
	  .doc = "Send a signal to a session's process." },
};
const struct api_routes exec_routes = { routes, ARRAY_LEN(routes) };
