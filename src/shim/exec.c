/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One more process inside the container: a session of its own. The runtime makes it as a
 * grandchild of the shim, which inherits it when the runtime's process ends.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>

#include "base/fd.h"
#include "base/mem.h"
#include "shim/shim.h"
#include "sys/file.h"

/* Names of its files in the instance's folder; a session's name is valid in a path. */
struct file_name {
	char text[SHIM_SESSION_MAX + 16];
};

static struct file_name file_name(const struct session *x, const char *suffix)
{
	struct file_name n;

	(void)snprintf(n.text, sizeof(n.text), "x-%s.%s", x->name, suffix);
	return n;
}

static void remove_files(struct session *x)
{
	static const char *const suffixes[] = { "json", "pid", "sock" };

	for (size_t i = 0; i < ARRAY_LEN(suffixes); i++) {
		/* Those that were not made are not there. */
		ignore_result(sys_unlinkat(x->shim->dir_fd, file_name(x, suffixes[i]).text, 0));
	}
}

static void exec_failed(struct session *x, const struct err *e, enum shim_reason reason)
{
	struct shim *s = x->shim;

	session_fail(x, e->msg, reason);
	conn_reply_with(s, x->exec_conn, x->exec_serial, e, NULL, 0, reason);
	x->exit.done = true;
	x->acked = true; /* its start was never reported, so nobody will */
	shim_collect(s);
}

static void exec_done(struct job *j, int status)
{
	struct session *x = j->session;
	struct shim *s = j->shim;
	struct err e = ERR_INIT;
	pid_t pid = 0;
	enum shim_reason reason = SHIM_REASON_SHIM;
	int r = status == 0 ? 0 : job_error(j, status, "exec", &reason, &e);

	r = r < 0 ? r : shim_read_pid(s, file_name(x, "pid").text, &pid, &e);
	if (r == 0 && x->terminal) {
		r = session_take_console(x, x->rows, x->cols, &e);
	}
	remove_files(x);
	if (r < 0) {
		exec_failed(x, &e, reason);
		return;
	}
	session_started(x, pid);
	conn_reply_with(s, x->exec_conn, x->exec_serial, &e, NULL, (uint64_t)pid,
			SHIM_REASON_NONE);
	shim_tell_exec(s, x, NULL);
	shim_claim_orphan(s, x);
}

static int run(struct session *x, const char *process, struct err *e)
{
	struct shim *s = x->shim;
	auto_free char *json = str_printf("--process=%s/%s", s->conf.dir,
					  file_name(x, "json").text);
	auto_free char *pid = str_printf("--pid-file=%s/%s", s->conf.dir, file_name(x, "pid").text);
	auto_free char *sock = str_printf("--console-socket=%s/%s", s->conf.dir,
					  file_name(x, "sock").text);
	const char *args[] = { "exec", "--detach", json, pid, s->conf.id, NULL, NULL };

	if (!json || !pid || !sock) {
		return err_nomem(e);
	}
	if (x->terminal) {
		args[4] = sock;
		args[5] = s->conf.id;
	}
	auto_close int fd = sys_openat(s->dir_fd, file_name(x, "json").text,
				       O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW, 0600);
	int r = fd < 0 ? fd : sys_write_full(fd, process, strlen(process));

	if (r < 0) {
		return err_set(e, -r, ERR_HOST, "cannot write into %s", s->conf.dir);
	}
	r = session_open(x, file_name(x, "sock").text, e);
	if (r < 0) {
		return r;
	}
	struct job *j = job_runtime(s, args, x->theirs, SHIM_START_MS * NS_PER_MS, exec_done, e);

	if (!j) {
		return -e->errnum;
	}
	j->session = x;
	j->creates = true;
	return 0;
}

static int check(struct shim *s, const struct shim_exec *m, struct err *e)
{
	if (s->state != SHIM_RUNNING) {
		return err_set(e, EINVAL, ERR_CONFLICT, "cannot run a command: the instance is %s",
			       shim_state_names[s->state]);
	}
	if (!name_valid(m->exec)) {
		return err_field(e, "exec", "not a valid name");
	}
	if (shim_exec_find(s, m->exec)) {
		return err_set(e, EEXIST, ERR_CONFLICT, "session %s exists", m->exec);
	}
	if (s->n_execs >= SHIM_EXECS_MAX) {
		return err_set(e, EAGAIN, ERR_LIMIT, "%d sessions exist already", SHIM_EXECS_MAX);
	}
	return 0;
}

/* The client given with the request, attached before the process exists. */
static int attach(struct session *x, struct shim_exec *m, struct err *e)
{
	struct shim_attach a = { .connection = m->connection, .streams = m->streams,
				 .framing = m->framing, .preread = m->preread,
				 .stdin_once = m->stdin_once, .stall_ms = m->stall_ms };
	uint64_t id;

	if (m->connection < 0) {
		return 0;
	}
	int r = client_add(x, &a, &id, e);

	m->connection = a.connection; /* -1 once it is taken */
	return r;
}

int order_exec(struct conn *c, uint32_t serial, struct shim_exec *m, struct err *e)
{
	struct shim *s = c->shim;
	int r = check(s, m, e);

	if (r < 0) {
		return r;
	}
	struct session *x = mem_new(struct session);

	if (!x) {
		return err_nomem(e);
	}
	session_init(x, s);
	x->name = take_ptr(&m->exec);
	x->terminal = m->terminal;
	x->open_stdin = m->open_stdin;
	x->rows = m->rows;
	x->cols = m->cols;
	x->exec_conn = c->id;
	x->exec_serial = serial;
	list_add_tail(&s->execs, &x->link);
	s->n_execs++;
	r = attach(x, m, e);
	r = r < 0 ? r : run(x, m->process, e);
	if (r < 0) {
		remove_files(x);
		exec_failed(x, e, SHIM_REASON_SHIM);
	}
	return 0; /* answered */
}
