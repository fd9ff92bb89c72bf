/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Children that do one piece of work. Their end comes through the loop, which waits for
 * every child there is (the shim is a sub-reaper), so it looks here first.
 */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>

#include "base/clock.h"
#include "base/fd.h"
#include "base/mem.h"
#include "shim/shim.h"
#include "sys/file.h"
#include "sys/proc.h"

static void job_free(struct job *j)
{
	struct shim *s = j->shim;

	list_del(&j->link);
	ev_fd_stop(&s->loop, &j->ev);
	ev_timer_stop(&j->timer);
	fd_close(&j->out_fd);
	buf_fini(&j->out);
	if (j->log_name) {
		ignore_result(sys_unlinkat(s->dir_fd, j->log_name, 0)); /* made only on errors */
		free(j->log_name);
	}
	free(j);
	s->n_jobs--;
}

/* False once there is nothing more to read. */
static bool read_output(struct job *j)
{
	char bytes[4096];
	ssize_t n = sys_read(j->out_fd, bytes, sizeof(bytes));

	if (n == -EAGAIN) {
		return false;
	}
	if (n <= 0) {
		ev_fd_stop(&j->shim->loop, &j->ev);
		fd_close(&j->out_fd);
		return false;
	}
	if (j->out.len + (size_t)n <= SHIM_JOB_OUT_MAX) {
		buf_add(&j->out, bytes, (size_t)n);
	}
	return true;
}

static void on_output(struct ev_fd *ev, uint32_t events)
{
	(void)events;
	ignore_result(read_output(container_of(ev, struct job, ev)));
}

static void on_timeout(struct ev_timer *t)
{
	struct job *j = container_of(t, struct job, timer);

	j->timed_out = true;
	/* Its end is then reaped; a job that is gone already is being reaped. */
	ignore_result(sys_kill(j->pid, SIGKILL));
}

/* In the child. Does not return. */
static noreturn_fn void run_child(char *const *argv, const int stdio[3])
{
	sigset_t none;

	(void)sigemptyset(&none);                       /* cannot fail */
	(void)sigprocmask(SIG_SETMASK, &none, NULL);    /* cannot fail */
	(void)signal(SIGPIPE, SIG_DFL);                 /* cannot fail */
	for (int i = 0; i < 3; i++) {
		/* All of ours are above 2, so none is overwritten before its turn. */
		if (dup2(stdio[i], i) < 0) {
			_exit(125);
		}
	}
	const char *why = strerrordesc_np(-sys_execveat(AT_FDCWD, argv[0], argv, environ, 0));

	dprintf(2, "cannot run %s: %s\n", argv[0], why ? why : "?");
	_exit(125);
}

static struct job *job_new(struct shim *s, job_fn done)
{
	struct job *j = mem_new(struct job);

	if (j) {
		*j = (struct job){ .shim = s, .done = done, .out_fd = -1, .out = BUF_INIT };
		j->ev.fn = on_output;
		j->timer.fn = on_timeout;
		list_add_tail(&s->jobs, &j->link);
		s->n_jobs++;
	}
	return j;
}

struct job *job_start(struct shim *s, const struct strv *argv, const int stdio[3],
		      uint64_t timeout_ns, job_fn done, struct err *e)
{
	int p[2], fds[3];

	if (shim_alive(s) && s->n_jobs >= SHIM_JOBS_MAX) {
		ignore_result(err_set(e, EAGAIN, ERR_LIMIT, "%d operations are at work already; "
				      "try again", SHIM_JOBS_MAX)); /* told by NULL */
		return NULL;
	}
	struct job *j = job_new(s, done);

	if (!j) {
		ignore_result(err_nomem(e)); /* told by NULL */
		return NULL;
	}
	int r = sys_pipe2(p, O_NONBLOCK);

	if (r < 0) {
		ignore_result(err_set(e, -r, ERR_HOST, "cannot make a pipe")); /* told by NULL */
		job_free(j);
		return NULL;
	}
	j->out_fd = p[0];
	for (int i = 0; i < 3; i++) {
		fds[i] = stdio && stdio[i] >= 0 ? stdio[i] : i == 0 || stdio ? s->null_fd : p[1];
	}
	/* The container's own output must not come here: it keeps what it is given for good. */
	j->pid = sys_fork();
	if (j->pid == 0) {
		run_child(argv->v, fds);
	}
	fd_close(&p[1]);
	r = j->pid < 0 ? (int)j->pid : ev_fd_start(&s->loop, &j->ev, j->out_fd, EPOLLIN);
	if (j->pid < 0) {
		ignore_result(err_set(e, -r, ERR_HOST, "cannot fork")); /* told by NULL */
		job_free(j);
		return NULL;
	}
	if (timeout_ns > 0) {
		ev_timer_start(&s->loop, &j->timer, timeout_ns);
	}
	return j;
}

struct job *job_runtime(struct shim *s, const char *const *args, const int stdio[3],
			uint64_t timeout_ns, job_fn done, struct err *e)
{
	auto_strv struct strv v = STRV_INIT;
	auto_free char *log = str_printf("rt-%u.log", ++s->next_file);
	int r = log ? strv_add(&v, s->conf.oci) : -ENOMEM;

	if (r == 0 && s->conf.oci_root) {
		r = strv_addf(&v, "--root=%s", s->conf.oci_root);
	}
	if (r == 0 && s->conf.oci_systemd_cgroup) {
		r = strv_add(&v, "--systemd-cgroup");
	}
	if (r == 0 && !shim_folder_gone(s)) {
		r = strv_addf(&v, "--log=%s/%s", s->conf.dir, log);
		r = r < 0 ? r : strv_add(&v, "--log-format=json");
	}
	for (; r == 0 && *args; args++) {
		r = strv_add(&v, *args);
	}
	if (r < 0) {
		ignore_result(err_nomem(e)); /* told by NULL */
		return NULL;
	}
	struct job *j = job_start(s, &v, stdio, timeout_ns, done, e);

	if (j) {
		j->log_name = take_ptr(&log);
	}
	return j;
}

bool job_reaped(struct shim *s, pid_t pid, int status)
{
	list_for_each (struct job, j, &s->jobs, link) {
		if (j->pid == pid) {
			while (j->out_fd >= 0 && read_output(j)) {
				; /* it is dead, so what there is, is all */
			}
			ev_timer_stop(&j->timer);
			j->done(j, status);
			job_free(j);
			return true;
		}
	}
	return false;
}

/* The value of "key" in a line of JSON, unescaped as far as a person needs. */
static bool json_text_of(const char *line, const char *key, char *out, size_t out_bytes)
{
	char mark[32];
	size_t n = 0;

	(void)snprintf(mark, sizeof(mark), "\"%s\":\"", key);
	/* Inside a text its quotes are escaped, so this finds no text that looks like it. */
	const char *at = strstr(line, mark);

	for (at = at ? at + strlen(mark) : NULL; at && *at && *at != '"' && n + 1 < out_bytes; at++) {
		char c = *at;

		if (c == '\\' && at[1]) {
			c = *++at;
			c = c == 'n' || c == 't' || c == 'r' ? ' ' : c == 'u' ? '?' : c;
			if (*at == 'u') {
				at += MIN(strlen(at + 1), (size_t)4);
			}
		}
		out[n++] = c;
	}
	out[n] = '\0';
	return n > 0;
}

/* The last line of the runtime's log that says something. */
static const char *last_line(const char *log)
{
	const char *line = log, *found = NULL;

	for (; line; line = strchr(line, '\n')) {
		line += *line == '\n';
		if (strncmp(line, "{", 1) == 0) {
			found = line;
		}
	}
	return found;
}

/* A runtime other than ours tells the kind of its failure by well-known words alone. */
static enum shim_reason reason_of_words(const char *msg)
{
	if (strstr(msg, "not found") || strstr(msg, "no such file") || strstr(msg, "No such file")) {
		return SHIM_REASON_NOT_FOUND;
	}
	if (strstr(msg, "ermission denied") || strstr(msg, "xec format") ||
	    strstr(msg, "s a directory")) {
		return SHIM_REASON_NOT_EXECUTABLE;
	}
	return SHIM_REASON_RUNTIME;
}

static enum shim_reason reason_of_word(const char *word)
{
	return str_eq(word, shim_reason_names[SHIM_REASON_NOT_FOUND]) ? SHIM_REASON_NOT_FOUND :
	       str_eq(word, shim_reason_names[SHIM_REASON_NOT_EXECUTABLE]) ?
								 SHIM_REASON_NOT_EXECUTABLE :
								 SHIM_REASON_RUNTIME;
}

/*
 * What the runtime wrote (docs/formats/runtime-log.md). What is wrong with the command, or not
 * there, is the mistake of who asked; of the host it is only where the runtime says so.
 */
static int runtime_error(const char *line, const char *what, const char *msg,
			 enum shim_reason *ret_reason, struct err *e)
{
	char word[40], code_name[24], number[16];
	uint64_t errnum = 0;

	if (!line || !json_text_of(line, "reason", word, sizeof(word))) {
		*ret_reason = reason_of_words(msg);
		return err_set(e, *ret_reason == SHIM_REASON_NOT_FOUND ? ENOENT :
			       *ret_reason == SHIM_REASON_NOT_EXECUTABLE ? EACCES : ECANCELED,
			       ERR_INVALID, "%s: %s", what, msg);
	}
	*ret_reason = reason_of_word(word);

	enum err_code code = json_text_of(line, "code", code_name, sizeof(code_name)) ?
			     err_code_parse(code_name) : ERR_INVALID;

	if (!json_text_of(line, "errno", number, sizeof(number)) ||
	    parse_u64(number, 4095, &errnum) < 0) {
		errnum = ECANCELED;
	}
	if (*ret_reason != SHIM_REASON_RUNTIME || code == ERR_NOT_FOUND || code == ERR_DENIED ||
	    code == ERR_CONFLICT || code == ERR_NONE || code == ERR__COUNT) {
		code = ERR_INVALID;
	}
	size_t len = strlen(msg), tail = 0;

	if (code == ERR_HOST) { /* err_text() says it again */
		auto_free char *text = str_printf(": %s", strerror((int)errnum));

		tail = text && str_ends(msg, text) ? strlen(text) : 0;
	}
	return err_set(e, (int)errnum, code, "%s: %.*s", what, (int)(len - tail), msg);
}

int job_error(struct job *j, int status, const char *what, enum shim_reason *ret_reason,
	      struct err *e)
{
	auto_buf struct buf log = BUF_INIT;
	enum shim_reason reason;
	char msg[400];

	ret_reason = ret_reason ? ret_reason : &reason;
	if (j->timed_out) {
		*ret_reason = SHIM_REASON_TIMEOUT;
		return err_set(e, ETIMEDOUT, ERR_HOST, "%s took too long and was ended", what);
	}
	if (j->log_name) {
		ignore_result(sys_read_file(j->shim->dir_fd, j->log_name, 65536, &log)); /* or "" */
	}
	const char *line = last_line(buf_str(&log));

	if (!line || !json_text_of(line, "msg", msg, sizeof(msg))) {
		/* The last line of what it printed. */
		const char *out = buf_str(&j->out);
		size_t len = strlen(out);

		while (len > 0 && out[len - 1] == '\n') {
			len--;
		}
		const char *nl = memrchr(out, '\n', len);
		size_t skip = nl ? (size_t)(nl - out) + 1 : 0;

		(void)snprintf(msg, sizeof(msg), "%.*s", (int)(len - skip), out + skip);
	}
	if (!msg[0] && WIFSIGNALED(status)) {
		(void)snprintf(msg, sizeof(msg), "ended by signal %d", WTERMSIG(status));
	} else if (!msg[0]) {
		(void)snprintf(msg, sizeof(msg), "ended with status %d", WEXITSTATUS(status));
	}
	return runtime_error(line, what, msg, ret_reason, e);
}
