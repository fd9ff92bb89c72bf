/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A process with its streams, made by the OCI runtime as our grandchild: it becomes our child
 * when the runtime's process ends. While the runtime works its streams are pipes that lead to
 * us, so nothing that the process writes before somebody attaches is lost.
 */
#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <stdio.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "agent/agent.h"
#include "base/fd.h"
#include "base/id.h"
#include "base/mem.h"
#include "json/json.h"
#include "sys/file.h"
#include "sys/memory-events.h"
#include "sys/proc.h"
#include "sys/socket.h"

#define RUNTIME_LOG "runtime.log"

static const struct err fine = ERR_INIT;

struct session *session_find(struct agent *a, const char *name)
{
	list_for_each (struct session, x, &a->sessions, link) {
		if (str_eq(x->name, name)) {
			return x;
		}
	}
	return NULL;
}

static void close_ends(int ends[3])
{
	for (size_t i = 0; i < 3; i++) {
		fd_close(&ends[i]);
	}
}

void session_free(struct session *x)
{
	struct agent *a = x->agent;

	for (size_t i = 0; i < ARRAY_LEN(x->flows); i++) {
		pump_free(x->flows[i].pump);
	}
	loop_post_cancel(&x->collect);
	loop_child_free(x->job);
	loop_child_free(x->child);
	close_ends(x->ours);
	close_ends(x->theirs);
	fd_close(&x->console_fd);
	fd_close(&x->memory_fd);
	list_del(&x->link);
	free(x->name);
	free(x);
	a->n_sessions--;
}

/* Once nothing can come of it any more. */
static void collect(struct loop_post *p, void *ud)
{
	struct session *x = ud;
	bool streams = x->ours[0] >= 0 || x->ours[1] >= 0 || x->ours[2] >= 0;
	bool flows = x->flows[0].pump || x->flows[1].pump || x->flows[2].pump;

	(void)p;
	if (x->exited && !x->job && !flows && (x->conn == 0 || !streams)) {
		session_free(x);
	}
}

static struct session *session_new(struct agent *a, uint32_t conn, uint32_t serial,
				   const char *name, struct err *e)
{
	if (!name_valid(name)) {
		ignore_result(err_field(e, "session", "not a valid name")); /* told by NULL */
		return NULL;
	}
	if (session_find(a, name) || a->n_sessions >= AGENT_SESSIONS_MAX) {
		ignore_result(err_set(e, EEXIST, ERR_CONFLICT,
				      "session %s exists, or there are too many", name)); /* NULL */
		return NULL;
	}
	struct session *x = mem_new(struct session);
	char *copy = str_dup(name);

	if (!x || !copy) {
		ignore_result(err_nomem(e)); /* told by NULL */
		free(x);
		free(copy);
		return NULL;
	}
	*x = (struct session){ .agent = a, .name = copy, .conn = conn, .serial = serial,
			       .ours = { -1, -1, -1 }, .theirs = { -1, -1, -1 }, .console_fd = -1,
			       .memory_fd = -1 };
	for (size_t i = 0; i < ARRAY_LEN(x->flows); i++) {
		x->flows[i].session = x;
	}
	loop_post_init(&x->collect, collect, x);
	list_add_tail(&a->sessions, &x->link);
	a->n_sessions++;
	return x;
}

/* The name of the socket over which the runtime hands the terminal to us. */
static const char *console_name(const struct session *x, char *out, size_t n)
{
	(void)snprintf(out, n, "%s.sock", x->name);
	return out;
}

static int open_streams(struct session *x, uint32_t streams, struct err *e)
{
	char name[GUEST_SESSION_MAX + 8];

	if (x->terminal) {
		x->console_fd = sock_listen_at(x->agent->dir_fd,
					       console_name(x, name, sizeof(name)), SOCK_NONBLOCK);
		return x->console_fd < 0 ? err_set(e, -x->console_fd, ERR_HOST,
						   "cannot listen for the terminal") : 0;
	}
	for (unsigned i = 0; i < 3; i++) {
		int p[2];

		if (!(streams & BIT(i))) {
			continue;
		}
		int r = sys_pipe2(p, 0);

		if (r < 0) {
			return err_set(e, -r, ERR_HOST, "cannot make pipes");
		}
		x->ours[i] = p[i == GUEST_IN];
		x->theirs[i] = p[i != GUEST_IN];
	}
	return 0;
}

/* --- the runtime --- */

struct call {
	struct agent   *agent;
	struct session *session;       /* NULL: its output is the answer */
	uint32_t        conn, serial;
	int             out_fd;        /* -1, or a file that takes its output */
	void          (*done)(struct call *c, const struct err *e);
	struct loop_child *child;      /* of calls without a session */
};

/* What the runtime wrote last: docs/formats/runtime-log.md. */
static int runtime_error(struct agent *a, const struct loop_exit *exit, struct err *e)
{
	auto_buf struct buf log = BUF_INIT;
	const char *msg = NULL, *reason = "other", *code = "", *number = "";
	uint64_t errnum = 0;

	if (exit->kind == LOOP_NOT_STARTED) {
		*e = *exit->err;
		return -e->errnum;
	}
	ignore_result(sys_read_file(a->dir_fd, RUNTIME_LOG, 65536, &log)); /* or empty */
	const char *text = buf_str(&log), *last = text;

	for (const char *p = text; (p = strchr(p, '\n')) && p[1]; p++) {
		last = p + 1;
	}
	auto_json json_t *line = json_loads(last, JSON_DISABLE_EOF_CHECK, NULL);

	/* What is missing keeps the value above. */
	ignore_result(json_unpack(line, "{s?s,s?s,s?s,s?s}", "msg", &msg, "reason", &reason, "code",
				  &code, "errno", &number));
	if (!msg) {
		return err_set(e, ECANCELED, ERR_HOST, "the runtime ended with status %d",
			       loop_exit_status(exit));
	}
	enum err_code kind = err_code_parse(code);

	if (parse_u64(number, 4095, &errnum) < 0 || errnum == 0) {
		errnum = ECANCELED;
	}
	int r = err_set(e, (int)errnum, kind == ERR__COUNT || kind == ERR_NONE ? ERR_HOST : kind, "%s",
			msg);

	e->command = !str_eq(reason, "other");
	return r;
}

static void runtime_done(struct loop_child *child, const struct loop_exit *exit, void *ud)
{
	struct call *c = ud;
	struct err e = ERR_INIT;

	if (c->session) {
		c->session->job = loop_child_free(child);
	} else {
		c->child = loop_child_free(child);
	}
	if (loop_exit_status(exit) != 0) {
		ignore_result(runtime_error(c->agent, exit, &e)); /* e is what counts */
	}
	c->done(c, &e);
	fd_close(&c->out_fd);
	free(c);
}

/* Start the runtime with arguments and standard streams; *own is the call, owned. */
static int runtime_call(struct call *own, const char *const *args, const int fds[3], struct err *e)
{
	struct agent *a = own->agent;
	auto_strv struct strv v = STRV_INIT;
	int r = strv_add(&v, a->conf->oci);

	r = r < 0 ? r : strv_addf(&v, "--root=%s/records", a->conf->dir);
	r = r < 0 ? r : strv_addf(&v, "--log=%s/" RUNTIME_LOG, a->conf->dir);
	r = r < 0 ? r : strv_add(&v, "--log-format=json");
	for (; r == 0 && *args; args++) {
		r = strv_add(&v, *args);
	}
	if (r < 0) {
		free(own);
		return err_nomem(e);
	}
	struct loop_spawn spec = { .argv = v.v, .fds = fds, .n_fds = 3 };

	ignore_result(sys_unlinkat(a->dir_fd, RUNTIME_LOG, 0)); /* of the last call */
	r = loop_spawn(a->loop, &spec, runtime_done, own,
		       own->session ? &own->session->job : &own->child, e);
	if (r < 0) {
		fd_close(&own->out_fd);
		free(own);
	}
	return r;
}

static struct call *call_new(struct agent *a, struct session *x, uint32_t conn, uint32_t serial,
			     void (*done)(struct call *c, const struct err *e))
{
	struct call *c = mem_new(struct call);

	if (c) {
		*c = (struct call){ .agent = a, .session = x, .conn = conn, .serial = serial,
				    .out_fd = -1, .done = done };
	}
	return c;
}

/* --- making a process --- */

static void on_ended(struct loop_child *child, const struct loop_exit *exit, void *ud)
{
	struct session *x = ud;

	x->child = loop_child_free(child);
	x->pid = 0;
	x->exited = true;
	agent_tell_exit(x->agent, x, exit);
	loop_post(x->agent->loop, &x->collect);
}

static int read_pid(struct session *x, pid_t *ret, struct err *e)
{
	auto_buf struct buf text = BUF_INIT;
	char name[GUEST_SESSION_MAX + 8];
	uint64_t pid = 0;

	(void)snprintf(name, sizeof(name), "%s.pid", x->name);
	int r = sys_read_file(x->agent->dir_fd, name, 32, &text);

	ignore_result(sys_unlinkat(x->agent->dir_fd, name, 0)); /* it served */
	if (r < 0 || parse_u64(buf_str(&text), INT32_MAX, &pid) < 0 || pid == 0) {
		return err_set(e, EIO, ERR_HOST, "the runtime told no process id");
	}
	*ret = (pid_t)pid;
	return 0;
}

/* The runtime has ended, so what it sent is in the socket's queue: this does not block. */
static int take_console(struct session *x, struct err *e)
{
	char name[GUEST_SESSION_MAX + 8], bytes[256];
	size_t n = 0;
	auto_close int conn = sys_accept4(x->console_fd, SOCK_NONBLOCK);
	ssize_t r = conn < 0 ? conn : sock_recv_fds(conn, bytes, sizeof(bytes), &x->ours[0], 1, &n);

	fd_close(&x->console_fd);
	/* Another one takes its place next time. */
	ignore_result(sys_unlinkat(x->agent->dir_fd, console_name(x, name, sizeof(name)), 0));
	if (r < 0 || n != 1) {
		return err_set(e, r < 0 ? (int)-r : EBADMSG, ERR_HOST,
			       "the runtime handed over no terminal");
	}
	ignore_result(session_resize(x, x->rows, x->cols)); /* without a size it works, too */
	return 0;
}

/* It may have ended already, and been collected. */
static int watch(struct session *x, pid_t pid, struct err *e)
{
	struct agent *a = x->agent;

	for (unsigned i = 0; i < a->n_orphans; i++) {
		if (a->orphans[i].pid == pid) {
			struct loop_exit exit = a->orphans[i].exit;

			a->orphans[i] = a->orphans[--a->n_orphans];
			on_ended(NULL, &exit, x);
			return 0;
		}
	}
	x->pid = pid;
	int r = loop_child_watch(a->loop, pid, on_ended, x, &x->child);

	return r < 0 ? err_set(e, -r, ERR_HOST, "cannot watch the process") : 0;
}

static uint32_t exit_code_of(const struct err *e)
{
	return e->errnum == 0 ? 0 : !e->command ? 125 :
	       e->errnum == ENOENT || e->errnum == ENOTDIR ? 127 : 126;
}

static void made(struct call *c, const struct err *error)
{
	struct session *x = c->session;
	struct err e = *error;
	pid_t pid = 0;
	int r = e.errnum ? -e.errnum : read_pid(x, &pid, &e);

	x->memory_fd = r < 0 ? -1 : memory_events_open(pid);
	close_ends(x->theirs);
	if (r == 0 && x->terminal) {
		r = take_console(x, &e);
	}
	agent_reply(x->agent, c->conn, c->serial, &e, NULL, exit_code_of(&e));
	if (r == 0) {
		r = watch(x, pid, &e);
	}
	if (r < 0) {
		session_free(x);
	} else if (x->conn == 0) {
		session_orphaned(x); /* who asked for it left meanwhile */
	}
}

static int run(struct session *x, const char *const *args, uint32_t streams, struct err *e)
{
	struct call *c = call_new(x->agent, x, x->conn, x->serial, made);

	if (!c) {
		return err_nomem(e);
	}
	int r = open_streams(x, streams, e);

	if (r < 0) {
		free(c);
		return r;
	}
	return runtime_call(c, args, x->theirs, e);
}

static int write_file(struct agent *a, const char *name, const char *text, struct err *e)
{
	auto_close int fd = sys_openat(a->dir_fd, name, O_WRONLY | O_CREAT | O_TRUNC, 0600);
	int r = fd < 0 ? fd : sys_write_full(fd, text, strlen(text));

	return r < 0 ? err_set(e, -r, ERR_HOST, "cannot write %s", name) : 0;
}

/* Where the runtime puts the process's number and sends its terminal to. */
static int add_places(struct session *x, struct strv *v)
{
	int r = strv_addf(v, "--pid-file=%s/%s.pid", x->agent->conf->dir, x->name);

	if (r == 0 && x->terminal) {
		r = strv_addf(v, "--console-socket=%s/%s.sock", x->agent->conf->dir, x->name);
	}
	return r;
}

int session_create(struct agent *a, uint32_t conn, uint32_t serial, const struct guest_create *m,
		   struct err *e)
{
	auto_strv struct strv v = STRV_INIT;
	int r = sys_mkdir_p(a->dir_fd, "bundle", 0700);

	if (r < 0) {
		return err_set(e, -r, ERR_HOST, "cannot make the bundle");
	}
	r = write_file(a, "bundle/config.json", m->config, e);
	struct session *x = r < 0 ? NULL : session_new(a, conn, serial, GUEST_INIT, e);

	if (!x) {
		return -e->errnum;
	}
	x->terminal = m->terminal;
	x->rows = m->rows;
	x->cols = m->cols;
	r = strv_add(&v, "create");
	r = r < 0 ? r : strv_addf(&v, "--bundle=%s/bundle", a->conf->dir);
	r = r < 0 ? r : add_places(x, &v);
	r = r < 0 ? r : strv_add(&v, GUEST_INIT);
	r = r < 0 ? err_nomem(e) : run(x, (const char *const *)v.v, m->streams, e);
	if (r < 0) {
		session_free(x);
	}
	return r;
}

int session_exec(struct agent *a, uint32_t conn, uint32_t serial, const struct guest_exec *m,
		 struct err *e)
{
	auto_strv struct strv v = STRV_INIT;
	auto_free char *file = NULL;
	struct session *x = session_new(a, conn, serial, m->session, e);

	if (!x) {
		return -e->errnum;
	}
	x->terminal = m->terminal;
	x->rows = m->rows;
	x->cols = m->cols;
	file = str_printf("%s.json", x->name);
	int r = file ? write_file(a, file, m->process, e) : err_nomem(e);

	if (r == 0) {
		r = strv_add(&v, "exec");
		r = r < 0 ? r : strv_add(&v, "--detach");
		r = r < 0 ? r : strv_addf(&v, "--process=%s/%s", a->conf->dir, file);
		r = r < 0 ? r : add_places(x, &v);
		r = r < 0 ? r : strv_add(&v, GUEST_INIT);
		r = r < 0 ? err_nomem(e) : run(x, (const char *const *)v.v, m->streams, e);
	}
	if (r < 0) {
		session_free(x);
	}
	return r;
}

/* --- the rest --- */

static void answered(struct call *c, const struct err *e)
{
	auto_buf struct buf text = BUF_INIT;

	if (c->out_fd >= 0 && lseek(c->out_fd, 0, SEEK_SET) == 0) {
		ignore_result(sys_read_fd(c->out_fd, 512 * 1024, &text)); /* or empty */
	}
	agent_reply(c->agent, c->conn, c->serial, e, text.len ? buf_str(&text) : NULL, 0);
}

int session_runtime_text(struct agent *a, uint32_t conn, uint32_t serial, const char *const *args,
			 struct err *e)
{
	struct call *c = call_new(a, NULL, conn, serial, answered);

	if (!c) {
		return err_nomem(e);
	}
	c->out_fd = sys_memfd_create("answer", 0);
	if (c->out_fd < 0) {
		int r = err_set(e, -c->out_fd, ERR_HOST, "cannot take the runtime's answer");

		free(c);
		return r;
	}
	return runtime_call(c, args, (const int[]){ -1, c->out_fd, -1 }, e);
}

int session_start(struct agent *a, uint32_t conn, uint32_t serial, struct err *e)
{
	const char *args[] = { "start", GUEST_INIT, NULL };

	return session_runtime_text(a, conn, serial, args, e);
}

int session_signal(struct session *x, uint32_t conn, uint32_t serial, uint32_t signal, bool all,
		   struct err *e)
{
	char number[16];
	const char *args[] = { "kill", "--all", GUEST_INIT, number, NULL };

	if (all) {
		(void)snprintf(number, sizeof(number), "%u", signal);
		return session_runtime_text(x->agent, conn, serial, args, e);
	}
	int r = x->child ? loop_child_kill(x->child, (int)signal) : -ESRCH;

	if (r < 0) {
		return err_set(e, -r, ERR_CONFLICT, "it does not run");
	}
	agent_reply(x->agent, conn, serial, &fine, NULL, 0);
	return 0;
}

int session_resize(struct session *x, uint32_t rows, uint32_t cols)
{
	struct winsize w = { .ws_row = (unsigned short)rows, .ws_col = (unsigned short)cols };

	if (!x->terminal || x->ours[0] < 0) {
		return -ENOTTY;
	}
	return rows && cols ? sys_ioctl(x->ours[0], TIOCSWINSZ, &w) : 0;
}

static void flow_over(struct pump *p, void *ud)
{
	struct flow *f = ud;

	(void)p;
	f->pump = pump_free(f->pump);
	loop_post(f->session->agent->loop, &f->session->collect);
}

static int flow_start(struct flow *f, int own_src, int own_dst, struct err *e)
{
	int r = pump_new(f->session->agent->loop, own_src, own_dst, flow_over, f, &f->pump);

	return r < 0 ? err_set(e, -r, ERR_HOST, "cannot carry a stream") : 0;
}

int session_attach(struct session *x, enum guest_stream stream, int own_fd, struct err *e)
{
	auto_close int fd = own_fd;
	bool taken = x->terminal && (x->flows[0].pump || x->flows[1].pump);

	if ((stream == GUEST_TERMINAL) != x->terminal || taken ||
	    x->ours[x->terminal ? 0 : stream] < 0) {
		return err_set(e, ENOENT, ERR_CONFLICT, "session %s has no such stream to attach",
			       x->name);
	}
	if (!x->terminal) {
		int end = take_fd(&x->ours[stream]);

		return stream == GUEST_IN ? flow_start(&x->flows[0], take_fd(&fd), end, e) :
					    flow_start(&x->flows[stream], end, take_fd(&fd), e);
	}
	/* Both ways, each with descriptors of its own; the terminal stays for its size. */
	int in = sys_dup(fd), to = sys_dup(x->ours[0]), from = sys_dup(x->ours[0]);

	if (in < 0 || to < 0 || from < 0) {
		fd_close(&in);
		fd_close(&to);
		fd_close(&from);
		return err_set(e, EMFILE, ERR_HOST, "cannot carry a terminal");
	}
	int r = flow_start(&x->flows[1], from, take_fd(&fd), e);

	if (r < 0) {
		fd_close(&in);
		fd_close(&to);
		return r;
	}
	return flow_start(&x->flows[0], in, to, e);
}

void session_orphaned(struct session *x)
{
	x->conn = 0;
	if (x->child) {
		ignore_result(loop_child_kill(x->child, SIGKILL)); /* gone: its exit comes */
	}
	loop_post(x->agent->loop, &x->collect);
}

void session_reaped(struct agent *a, pid_t pid, const struct loop_exit *exit)
{
	if (a->n_orphans == AGENT_ORPHANS) { /* the oldest was nobody's */
		memmove(&a->orphans[0], &a->orphans[1],
			(AGENT_ORPHANS - 1) * sizeof(a->orphans[0]));
		a->n_orphans--;
	}
	a->orphans[a->n_orphans++] = (struct orphan){ pid, *exit };
}
