/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The log of an instance, as frames of docs/formats/attach.md (kinds 1 and 2). A child of ours
 * reads the files (node/logread.h), so that a large log holds nobody up.
 */
#include <errno.h>

#include "base/mem.h"
#include "node/handlers.h"
#include "node/instance.h"
#include "node/logread.h"
#include "node/work.h"

enum { ENOUGH_WAITING = 256 * 1024 };

#define IN(m) offsetof(struct logread_in, m)
static const struct jfield log_fields[] = {
	{ "follow", JK_BOOL, IN(follow), .doc = "go on until it has ended" },
	{ "timestamps", JK_BOOL, IN(timestamps), .doc = "a time before each line" },
	{ "tail", JK_UINT, IN(tail), .has = IN(has_tail), .max = LOGREAD_TAIL_MAX,
	  .doc = "only that many of the last lines" },
	{ "since", JK_TIME, IN(since), .doc = "only lines from then on" },
	{ "until", JK_TIME, IN(until), .doc = "only lines before" },
	{ "positions", JK_BOOL, IN(positions),
	  .doc = "frames of kind 4, which tell where the next one begins" },
	{ "from", JK_STR, IN(from), .min = 1, .max = 127,
	  .doc = "go on at such a place; tail does not count then" },
	{ "stdout", JK_BOOL, IN(out), .has = IN(has_out), .doc = "with standard output; default true" },
	{ "stderr", JK_BOOL, IN(err), .has = IN(has_err), .doc = "with standard error; default true" },
};
#undef IN
static const struct jtable log_table = JTABLE("LogQuery", struct logread_in, log_fields);

struct log_job {
	struct api_call       *call;
	struct work           *work;
	struct instance_waiter waiter;
};

static void job_free(struct log_job *job)
{
	instance_unwait(&job->waiter);
	if (job->call) {
		job->call->cancel = NULL;
	}
	free(job);
}

static void on_gone(struct api_call *c)
{
	struct log_job *job = c->ud;

	job->call = NULL;
	work_cancel(job->work);
	job_free(job);
}

static bool on_data(void *ud, const void *data, size_t n)
{
	struct log_job *job = ud;

	if (api_write(job->call, data, n) < 0) {
		http_abort(job->call->req); /* on_gone() follows */
		return false;
	}
	return http_waiting(job->call->req) < ENOUGH_WAITING;
}

static void on_drained(struct api_call *c)
{
	work_resume(((struct log_job *)c->ud)->work);
}

static void on_done(void *ud, const struct buf *result, const struct err *e)
{
	struct log_job *job = ud;
	struct api_call *c = job->call;

	(void)result;
	job_free(job);
	if (e) {
		api_abort(c);
	} else {
		api_end(c);
	}
}

/* It has ended: the child reads what is there, and ends too. */
static void on_state(struct instance_waiter *w, struct instance *i, void *ud)
{
	struct log_job *job = ud;

	(void)w;
	if (i->removed || i->status.state == INSTANCE_EXITED) {
		instance_unwait(&job->waiter);
		work_input_end(job->work);
	}
}

static int in_child(void *ud, int in_fd, int out_fd, struct err *e)
{
	return logread_run(ud, in_fd, out_fd, e);
}

static int h_log(struct api_call *c, struct err *e)
{
	struct instance *i = c->instance;
	struct logread_in in = *(struct logread_in *)c->query;
	auto_free char *path = instance_log_path(i);
	struct log_job *job = mem_new(struct log_job);

	if (i->spec.log.off) {
		free(job);
		return err_set(e, ENOTSUP, ERR_CONFLICT, "instance %s keeps no log", i->name);
	}
	if (!path || !job) {
		free(job);
		return err_nomem(e);
	}
	in.path = path;
	in.max_files = i->spec.log.max_files ? (unsigned)i->spec.log.max_files : 4;
	in.out = in.has_out ? in.out : true;
	in.err = in.has_err ? in.err : true;
	in.follow = in.follow && (instance_active(i) || i->status.state == INSTANCE_RESTARTING ||
				  i->start_asked);
	struct work_spec spec = { .run = in_child, .run_ud = &in, .input = true, .data = on_data,
				  .done = on_done, .ud = job };

	list_init(&job->waiter.link);
	job->call = c;
	int r = work_start(c->node->loop, &spec, &job->work, e);

	if (r < 0) {
		free(job);
		return r;
	}
	c->ud = job;
	c->cancel = on_gone;
	c->drained = on_drained;
	api_stream(c);
	if (in.follow) {
		job->waiter.fn = on_state;
		job->waiter.ud = job;
		instance_wait(i, &job->waiter);
	} else {
		work_input_end(job->work);
	}
	return 0;
}

static const struct api_route routes[] = {
	{ "GET", "/v1/instances/{id}/logs", "instance.logs", API_INSTANCE | API_BROKEN | API_STREAM,
	  h_log, .query = &log_table, .produces = "application/vnd.holm.stream",
	  .doc = "What it wrote, as frames of docs/formats/attach.md." },
};
const struct api_routes log_routes = { routes, ARRAY_LEN(routes) };
