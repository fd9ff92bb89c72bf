/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the daemon asks for: one function a message, found in a table. A function answers
 * itself, now or when its job is done, unless it returns an error, which is the answer then.
 */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>

#include "base/fd.h"
#include "base/mem.h"
#include "shim/shim.h"
#include "sys/file.h"
#include "sys/proc.h"
#include "wire/attach.h"

static const struct err fine = ERR_INIT;

static int state_conflict(const struct shim *s, const char *what, struct err *e)
{
	return err_set(e, EINVAL, ERR_CONFLICT, "cannot %s: the instance is %s", what,
		       shim_state_names[s->state]);
}

static int find_session(struct shim *s, const char *name, struct session **ret, struct err *e)
{
	*ret = name ? shim_exec_find(s, name) : &s->main;
	return *ret ? 0 : err_set(e, ENOENT, ERR_NOT_FOUND, "no session %s", name);
}

static int do_hello(struct conn *c, uint32_t serial, union shim_any *m, struct err *e)
{
	struct shim *s = c->shim;
	char program[] = "holm-shim " HOLM_VERSION;
	struct shim_welcome w = { .version = MIN((uint32_t)SHIM_PROTO_VERSION,
						 m->hello.version_max),
				  .instance = (char *)(uintptr_t)s->conf.id,
				  .pid = (uint32_t)getpid(), .program = program };

	if (!str_eq(m->hello.instance, s->conf.id)) {
		return err_set(e, EINVAL, ERR_CONFLICT, "this is the shim of %s", s->conf.id);
	}
	if (m->hello.version_max < SHIM_PROTO_OLDEST || m->hello.version_min > SHIM_PROTO_VERSION) {
		return err_set(e, EPROTO, ERR_UNSUPPORTED, "this shim speaks versions %d to %d",
			       SHIM_PROTO_OLDEST, SHIM_PROTO_VERSION);
	}
	if (m->hello.epoch < s->epoch) {
		return err_set(e, ESTALE, ERR_CONFLICT, "epoch %llu is over, it is %llu now",
			       (unsigned long long)m->hello.epoch, (unsigned long long)s->epoch);
	}
	s->epoch = m->hello.epoch;
	conn_close_older(s, s->epoch);
	c->hello = true;
	c->epoch = s->epoch;
	c->wire.version = (uint16_t)w.version;
	w.epoch = s->epoch;
	conn_send(c, SHIM_WELCOME, serial, &w);
	shim_tell_status(s, c);
	list_for_each (struct session, x, &s->execs, link) {
		if (x->running || x->exit.done) {
			shim_tell_exec(s, x, c);
		}
	}
	return 0;
}

static int do_get_status(struct conn *c, uint32_t serial, union shim_any *m, struct err *e)
{
	(void)m;
	(void)e;
	shim_tell_status(c->shim, c);
	conn_reply(c->shim, c->id, serial, &fine);
	return 0;
}

static int do_start(struct conn *c, uint32_t serial, union shim_any *m, struct err *e)
{
	struct shim *s = c->shim;
	uint32_t ms = m->start.timeout_ms ? m->start.timeout_ms : SHIM_START_MS;

	if (s->state != SHIM_IDLE) {
		return state_conflict(s, "start", e);
	}
	s->network = m->start.network;
	m->start.network = (struct strv)STRV_INIT;
	s->start_conn = c->id;
	s->start_serial = serial;
	s->start_rows = m->start.rows;
	s->start_cols = m->start.cols;
	s->start_until_ns = s->loop.now_ns + ms * NS_PER_MS;
	shim_start(s);
	return 0;
}

/* The plain end of a runtime's job: its output, or why it failed. */
static void job_done(struct job *j, int status)
{
	struct err e = ERR_INIT;

	if (status != 0) {
		ignore_result(job_error(j, status, "the runtime", NULL, &e)); /* e is what counts */
	}
	conn_reply_with(j->shim, j->conn, j->serial, &e, j->out.len ? buf_str(&j->out) : NULL, 0,
			SHIM_REASON_NONE);
}

static int run_job(struct conn *c, uint32_t serial, const char *const *args, job_fn done,
		   struct err *e)
{
	struct job *j = job_runtime(c->shim, args, NULL, SHIM_START_MS * NS_PER_MS, done, e);

	if (!j) {
		return -e->errnum;
	}
	j->conn = c->id;
	j->serial = serial;
	return 0;
}

int order_signal(struct session *x, uint32_t signal, bool all, uint32_t conn, uint32_t serial,
		 struct err *e)
{
	struct shim *s = x->shim;

	if (signal == 0 || signal > 64) {
		return err_set(e, EINVAL, ERR_INVALID, "no signal %u", signal);
	}
	if (x->pid == 0 || (!x->name && !shim_alive(s))) {
		return err_set(e, ESRCH, ERR_CONFLICT, "it does not run");
	}
	/* A frozen process takes no signal under v1; the runtime knows how to end it. */
	if (all || (s->state == SHIM_PAUSED && signal == SIGKILL && !x->name)) {
		char number[16];
		const char *args[] = { "kill", s->conf.id, number, NULL, NULL };

		(void)snprintf(number, sizeof(number), "%u", signal);
		if (all) {
			args[1] = "--all";
			args[2] = s->conf.id;
			args[3] = number;
		}
		struct job *j = job_runtime(s, args, NULL, SHIM_START_MS * NS_PER_MS, job_done, e);

		if (!j) {
			return -e->errnum;
		}
		j->conn = conn;
		j->serial = serial;
		return 1;
	}
	/* Our child, not yet waited for: the number is its. */
	int r = sys_kill(x->pid, (int)signal);

	return r < 0 ? err_set(e, -r, ERR_HOST, "cannot send signal %u", signal) : 0;
}

static int do_signal(struct conn *c, uint32_t serial, union shim_any *m, struct err *e)
{
	struct session *x;
	int r = find_session(c->shim, m->signal.exec, &x, e);

	r = r < 0 ? r : order_signal(x, m->signal.signal, m->signal.all, c->id, serial, e);
	if (r == 0) {
		conn_reply(c->shim, c->id, serial, &fine);
	}
	return MIN(r, 0);
}

static void freeze_done(struct job *j, int status)
{
	struct shim *s = j->shim;

	s->freezing = false;
	if (status == 0 && shim_alive(s)) {
		shim_set_state(s, j->flag ? SHIM_PAUSED : SHIM_RUNNING);
	}
	job_done(j, status);
}

static int freeze(struct conn *c, uint32_t serial, bool pause, struct err *e)
{
	struct shim *s = c->shim;
	const char *args[] = { pause ? "pause" : "resume", s->conf.id, NULL };

	if (s->state != (pause ? SHIM_RUNNING : SHIM_PAUSED) || s->freezing) {
		return state_conflict(s, args[0], e);
	}
	int r = run_job(c, serial, args, freeze_done, e);

	if (r == 0) {
		s->freezing = true;
		list_entry(s->jobs.prev, struct job, link)->flag = pause;
	}
	return r;
}

static int do_pause(struct conn *c, uint32_t serial, union shim_any *m, struct err *e)
{
	(void)m;
	return freeze(c, serial, true, e);
}

static int do_resume(struct conn *c, uint32_t serial, union shim_any *m, struct err *e)
{
	(void)m;
	return freeze(c, serial, false, e);
}

static int write_json(struct shim *s, const char *name, const char *text, struct err *e)
{
	auto_close int fd = sys_openat(s->dir_fd, name, O_WRONLY | O_CREAT | O_TRUNC | O_NOFOLLOW,
				       0600);
	int r = fd < 0 ? fd : sys_write_full(fd, text, strlen(text));

	return r < 0 ? err_set(e, -r, ERR_HOST, "cannot write %s/%s", s->conf.dir, name) : 0;
}

static int do_update(struct conn *c, uint32_t serial, union shim_any *m, struct err *e)
{
	struct shim *s = c->shim;
	auto_free char *arg = str_printf("--resources=%s/resources.json", s->conf.dir);
	const char *args[] = { "update", arg, s->conf.id, NULL };

	if (!shim_alive(s)) {
		return state_conflict(s, "update", e);
	}
	if (!arg) {
		return err_nomem(e);
	}
	int r = write_json(s, "resources.json", m->update.resources, e);

	return r < 0 ? r : run_job(c, serial, args, job_done, e);
}

static int do_stats(struct conn *c, uint32_t serial, union shim_any *m, struct err *e)
{
	const char *args[] = { "events", "--stats", c->shim->conf.id, NULL };

	(void)m;
	return shim_alive(c->shim) ? run_job(c, serial, args, job_done, e) :
				     state_conflict(c->shim, "count", e);
}

static int do_pids(struct conn *c, uint32_t serial, union shim_any *m, struct err *e)
{
	const char *args[] = { "ps", "--format", "json", c->shim->conf.id, NULL };

	(void)m;
	return shim_alive(c->shim) ? run_job(c, serial, args, job_done, e) :
				     state_conflict(c->shim, "list processes", e);
}

static int do_attach(struct conn *c, uint32_t serial, union shim_any *m, struct err *e)
{
	struct session *x;
	uint64_t id = 0;
	int r = find_session(c->shim, m->attach.exec, &x, e);

	r = r < 0 ? r : client_add(x, &m->attach, &id, e);
	if (r == 0) {
		conn_reply_with(c->shim, c->id, serial, &fine, NULL, id, SHIM_REASON_NONE);
	}
	return r;
}

static int do_resize(struct conn *c, uint32_t serial, union shim_any *m, struct err *e)
{
	struct session *x;
	int r = find_session(c->shim, m->resize.exec, &x, e);

	if (r == 0) {
		r = session_resize(x, m->resize.rows, m->resize.cols);
		r = r < 0 ? err_set(e, -r, ERR_CONFLICT, "cannot set the terminal's size") : 0;
	}
	if (r == 0) {
		conn_reply(c->shim, c->id, serial, &fine);
	}
	return r;
}

static int do_close_stdin(struct conn *c, uint32_t serial, union shim_any *m, struct err *e)
{
	struct session *x;
	int r = find_session(c->shim, m->session.exec, &x, e);

	if (r == 0) {
		session_close_input(x);
		conn_reply(c->shim, c->id, serial, &fine);
	}
	return r;
}

static int do_ack(struct conn *c, uint32_t serial, union shim_any *m, struct err *e)
{
	struct shim *s = c->shim;
	struct session *x;
	int r = find_session(s, m->session.exec, &x, e);

	if (r < 0) {
		return r;
	}
	if (x->name && !x->exit.done) {
		return err_set(e, EBUSY, ERR_CONFLICT, "session %s still runs", x->name);
	}
	if (!x->name && s->state != SHIM_EXITED && s->state != SHIM_GONE && s->state != SHIM_FAILED) {
		return state_conflict(s, "acknowledge its end", e);
	}
	conn_reply(s, c->id, serial, &fine);
	if (x->name) {
		x->acked = true;
	} else {
		s->acked = true;
	}
	shim_collect(s);
	return 0;
}

static int do_shutdown(struct conn *c, uint32_t serial, union shim_any *m, struct err *e)
{
	struct shim *s = c->shim;

	if (s->state == SHIM_CREATING || (shim_alive(s) && !m->shutdown.kill)) {
		return state_conflict(s, "leave", e);
	}
	if (shim_alive(s)) {
		int r = order_signal(&s->main, SIGKILL, false, 0, 0, e);

		if (r < 0) {
			return r;
		}
	}
	conn_reply(s, c->id, serial, &fine);
	s->acked = true;
	shim_collect(s);
	return 0;
}

static int do_exec(struct conn *c, uint32_t serial, union shim_any *m, struct err *e)
{
	return order_exec(c, serial, &m->exec, e);
}

struct order {
	int (*fn)(struct conn *c, uint32_t serial, union shim_any *m, struct err *e);
};

static const struct order orders[SHIM_MSG__COUNT] = {
	[SHIM_HELLO]       = { do_hello },
	[SHIM_GET_STATUS]  = { do_get_status },
	[SHIM_START]       = { do_start },
	[SHIM_SIGNAL]      = { do_signal },
	[SHIM_PAUSE]       = { do_pause },
	[SHIM_RESUME]      = { do_resume },
	[SHIM_UPDATE]      = { do_update },
	[SHIM_EXEC]        = { do_exec },
	[SHIM_ATTACH]      = { do_attach },
	[SHIM_RESIZE]      = { do_resize },
	[SHIM_CLOSE_STDIN] = { do_close_stdin },
	[SHIM_STATS]       = { do_stats },
	[SHIM_PIDS]        = { do_pids },
	[SHIM_ACK]         = { do_ack },
	[SHIM_SHUTDOWN]    = { do_shutdown },
};

/* A client that came with the request, and was not taken, is told itself. */
static void refuse_client(unsigned type, const union shim_any *m, const struct err *e)
{
	int fd = type == SHIM_ATTACH ? m->attach.connection :
		 type == SHIM_EXEC ? m->exec.connection : -1;
	uint32_t framing = type == SHIM_ATTACH ? m->attach.framing : m->exec.framing;

	if (fd >= 0 && framing != SHIM_RAW) {
		attach_refuse(fd, e->msg, (int32_t)shim_reason_exit_code(SHIM_REASON_SHIM));
	}
}

void order_do(struct conn *c, uint32_t serial, unsigned type, union shim_any *m)
{
	struct shim *s = c->shim;
	uint32_t id = c->id;
	struct err e = ERR_INIT;
	bool greeted = c->hello;
	int r;

	if (!orders[type].fn) {
		r = err_set(&e, EPROTO, ERR_INVALID, "message %s is not for a shim",
			    shim_msgs[type].name);
	} else if (!greeted && type != SHIM_HELLO) {
		r = err_set(&e, EPROTO, ERR_INVALID, "the first message must be hello");
	} else {
		r = orders[type].fn(c, serial, m, &e);
	}
	if (r < 0) {
		refuse_client(type, m, &e);
		conn_reply(s, id, serial, &e);
		if (!greeted) {
			c->closing = true; /* after what waits is sent */
		}
	}
}
