/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The state machine (see shim.h for the picture), children, and the main loop.
 */
#include "shim/shim.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/wait.h>

#include "base/clock.h"
#include "base/fd.h"
#include "base/log.h"
#include "base/mem.h"
#include "sys/cred.h"
#include "sys/file.h"
#include "sys/proc.h"
#include "sys/socket.h"

static const uint32_t next_states[SHIM_STATE__COUNT] = {
	[SHIM_IDLE]     = BIT(SHIM_CREATING),
	[SHIM_CREATING] = BIT(SHIM_RUNNING) | BIT(SHIM_FAILED),
	[SHIM_RUNNING]  = BIT(SHIM_PAUSED) | BIT(SHIM_EXITED),
	[SHIM_PAUSED]   = BIT(SHIM_RUNNING) | BIT(SHIM_EXITED),
	[SHIM_EXITED]   = BIT(SHIM_GONE),
	[SHIM_GONE]     = 0,
	[SHIM_FAILED]   = 0,
};

bool shim_alive(const struct shim *s)
{
	return s->state == SHIM_RUNNING || s->state == SHIM_PAUSED;
}

void shim_tell_status(struct shim *s, struct conn *only)
{
	const struct session *x = &s->main;
	struct shim_status m = {
		.state = s->state, .pid = shim_alive(s) ? (uint32_t)x->pid : 0,
		.exit_code = x->exit.code,
		.reason = s->start_reason, .errnum = (uint32_t)s->start_errnum,
		.code = s->start_code,
		.signal = x->exit.signal, .oom = s->oom, .started_ns = x->started_ns,
		.exited_ns = x->exit.exited_ns, .error = s->error[0] ? s->error : NULL,
		.log_lost_records = s->log.lost_records, .log_lost_bytes = s->log.lost_bytes,
		.attached = s->n_clients, .dropped = s->n_dropped,
	};

	if (only) {
		conn_send(only, SHIM_STATUS, 0, &m);
	} else {
		conn_broadcast(s, SHIM_STATUS, &m);
	}
}

void shim_tell_exec(struct shim *s, struct session *x, struct conn *only)
{
	struct shim_exec_status m = {
		.exec = x->name, .running = !x->exit.done, .pid = (uint32_t)x->pid,
		.exit_code = x->exit.code, .signal = x->exit.signal,
		.started_ns = x->started_ns, .exited_ns = x->exit.exited_ns,
	};

	if (only) {
		conn_send(only, SHIM_EXEC_STATUS, 0, &m);
	} else {
		conn_broadcast(s, SHIM_EXEC_STATUS, &m);
	}
}

void shim_set_state(struct shim *s, enum shim_state state)
{
	assert(next_states[s->state] & BIT(state));
	s->state = state;
	shim_tell_status(s, NULL);
	shim_collect(s);
	shim_await(s);
}

struct session *shim_exec_find(struct shim *s, const char *name)
{
	list_for_each (struct session, x, &s->execs, link) {
		if (str_eq(x->name, name)) {
			return x;
		}
	}
	return NULL;
}

/* A job's callback still names the session. */
static bool exec_has_job(const struct shim *s, const struct session *x)
{
	list_for_each (struct job, j, &s->jobs, link) {
		if (j->session == x) {
			return true;
		}
	}
	return false;
}

static bool nothing_runs(const struct shim *s)
{
	return s->state == SHIM_GONE || s->state == SHIM_FAILED || s->state == SHIM_IDLE;
}

static void collect(struct ev_timer *t)
{
	struct shim *s = container_of(t, struct shim, collect);

	list_for_each_safe (struct session, x, &s->execs, link) {
		if (x->acked && x->ended && list_empty(&x->clients) && !exec_has_job(s, x)) {
			list_del(&x->link);
			session_fini(x);
			free(x);
			s->n_execs--;
		}
	}
	if (nothing_runs(s) && s->acked && s->n_clients == 0 && s->n_jobs == 0) {
		s->loop.stop = true;
	}
}

void shim_collect(struct shim *s)
{
	s->collect.fn = collect;
	ev_timer_start(&s->loop, &s->collect, 0);
}

/* --- the end --- */

bool shim_folder_gone(const struct shim *s)
{
	struct stat st;

	return sys_fstat(s->dir_fd, &st) == 0 && st.st_nlink == 0;
}

/* Until it is on disk; the daemon's connections are told anyway. */
static void save_record(struct ev_timer *t)
{
	struct shim *s = container_of(t, struct shim, record);

	s->recorded = record_write(s) == 0 || shim_folder_gone(s);
	if (!s->recorded) {
		log_error("the exit record cannot be written", "instance", s->conf.id);
		ev_timer_start(&s->loop, &s->record, 100 * NS_PER_MS);
	}
}

static void run_delete(struct shim *s);

static void retry_delete(struct ev_timer *t)
{
	run_delete(container_of(t, struct shim, retry));
}

static void delete_done(struct job *j, int status)
{
	struct shim *s = j->shim;
	struct err e = ERR_INIT;

	if (status != 0) {
		ignore_result(job_error(j, status, "delete", NULL, &e)); /* e is what counts */
		log_err(LOG_LEVEL_WARN, &e);
	}
	if (s->state == SHIM_CREATING) {
		save_record(&s->record);
		shim_set_state(s, SHIM_FAILED);
	} else {
		shim_set_state(s, SHIM_GONE);
	}
}

static void run_delete(struct shim *s)
{
	const char *args[] = { "delete", "--force", s->conf.id, NULL };
	struct err e = ERR_INIT;

	if (!job_runtime(s, args, NULL, SHIM_START_MS * NS_PER_MS, delete_done, &e)) {
		log_err(LOG_LEVEL_WARN, &e);
		s->retry.fn = retry_delete;
		ev_timer_start(&s->loop, &s->retry, NS_PER_SEC);
	}
}

static void stop_network(struct shim *s)
{
	if (s->network_pid > 0) {
		ignore_result(sys_kill(s->network_pid, SIGTERM)); /* gone already: fine */
	}
}

static void main_exited(struct shim *s, int status)
{
	s->oom = record_oom(s);
	stop_network(s);
	session_exited(&s->main, status);
	save_record(&s->record);
	shim_set_state(s, SHIM_EXITED);
	run_delete(s);
}

/* --- the start --- */

static uint64_t start_left(const struct shim *s)
{
	return s->start_until_ns > s->loop.now_ns ? s->start_until_ns - s->loop.now_ns : 1;
}

static void start_failed(struct shim *s, const struct err *e, enum shim_reason reason)
{
	err_text(e, s->error, sizeof(s->error));
	s->start_reason = reason;
	s->start_errnum = e->errnum;
	s->start_code = e->code;
	session_fail(&s->main, s->error, reason);
	stop_network(s);
	fd_close(&s->memory_fd);
	conn_reply_with(s, s->start_conn, s->start_serial, e, NULL, 0, reason);
	run_delete(s);
}

static void started(struct shim *s)
{
	struct err e = ERR_INIT;

	session_started(&s->main, s->main.pid);
	shim_set_state(s, SHIM_RUNNING);
	conn_reply_with(s, s->start_conn, s->start_serial, &e, NULL, (uint64_t)s->main.pid,
			SHIM_REASON_NONE);
	if (s->early) {
		main_exited(s, s->early_status);
	}
}

static void start_done(struct job *j, int status)
{
	struct shim *s = j->shim;
	enum shim_reason reason = SHIM_REASON_NONE;
	struct err e = ERR_INIT;

	if (status != 0) {
		ignore_result(job_error(j, status, "start", &reason, &e)); /* e is what counts */
		start_failed(s, &e, reason);
		return;
	}
	started(s);
}

static void run_start(struct shim *s)
{
	const char *args[] = { "start", s->conf.id, NULL };
	struct err e = ERR_INIT;

	if (!job_runtime(s, args, NULL, start_left(s), start_done, &e)) {
		start_failed(s, &e, SHIM_REASON_SHIM);
	}
}

static void network_done(struct job *j, int status)
{
	struct shim *s = j->shim;
	enum shim_reason reason = SHIM_REASON_NONE;
	struct err e = ERR_INIT;

	if (status != 0) {
		ignore_result(job_error(j, status, "network", &reason, &e)); /* e is what counts */
		start_failed(s, &e, reason == SHIM_REASON_TIMEOUT ? reason : SHIM_REASON_NETWORK);
		return;
	}
	if (shim_read_pid(s, "net.pid", &s->network_pid, &e) < 0) {
		s->network_pid = 0; /* it needs no process */
	}
	run_start(s);
}

/* The helper's argument vector with what it must be told filled in. */
static int network_argv(const struct shim *s, struct strv *ret)
{
	for (size_t i = 0; i < s->network.n; i++) {
		auto_buf struct buf b = BUF_INIT;

		for (const char *p = s->network.v[i]; *p;) {
			const char *rest;

			if ((rest = str_after(p, "{pid}"))) {
				buf_printf(&b, "%d", s->main.pid);
			} else if ((rest = str_after(p, "{pidfile}"))) {
				buf_printf(&b, "%s/net.pid", s->conf.dir);
			} else {
				buf_add_char(&b, *p);
				rest = p + 1;
			}
			p = rest;
		}
		if (buf_failed(&b) || strv_add(ret, buf_str(&b)) < 0) {
			return -ENOMEM;
		}
	}
	return 0;
}

static void run_network(struct shim *s)
{
	auto_strv struct strv argv = STRV_INIT;
	struct err e = ERR_INIT;

	if (network_argv(s, &argv) < 0) {
		ignore_result(err_nomem(&e)); /* e is what counts */
		start_failed(s, &e, SHIM_REASON_SHIM);
		return;
	}
	struct job *j = job_start(s, &argv, NULL, start_left(s), network_done, &e);

	if (!j) {
		start_failed(s, &e, SHIM_REASON_SHIM);
		return;
	}
	j->creates = true; /* it goes to the background as a child of ours */
}

int shim_read_pid(struct shim *s, const char *name, pid_t *ret, struct err *e)
{
	auto_buf struct buf b = BUF_INIT;
	uint64_t pid = 0;
	int r = sys_read_file(s->dir_fd, name, 64, &b);

	while (b.len > 0 && b.data[b.len - 1] <= ' ') {
		b.data[--b.len] = '\0';
	}
	r = r < 0 ? r : parse_u64(buf_str(&b), INT32_MAX, &pid);
	if (r < 0 || pid == 0) {
		return err_set(e, r < 0 ? -r : EINVAL, ERR_HOST, "no process number in %s/%s",
			       s->conf.dir, name);
	}
	*ret = (pid_t)pid;
	return 0;
}

/* `create`, or `run` where nothing is to be done in between. */
static void create_done(struct job *j, int status)
{
	struct shim *s = j->shim;
	struct err e = ERR_INIT;
	enum shim_reason reason = SHIM_REASON_SHIM;
	int r = status == 0 ? 0 : job_error(j, status, "start", &reason, &e);

	r = r < 0 ? r : shim_read_pid(s, "init.pid", &s->main.pid, &e);
	if (r == 0 && s->main.terminal) {
		r = session_take_console(&s->main, s->start_rows, s->start_cols, &e);
		ignore_result(sys_unlinkat(s->dir_fd, "console.sock", 0)); /* of no more use */
	}
	if (r < 0) {
		start_failed(s, &e, reason);
		return;
	}
	record_watch_memory(s, s->main.pid);
	if (s->network.n == 0) {
		shim_claim_orphan(s, &s->main);
		started(s);
	} else {
		run_network(s);
	}
}

void shim_start(struct shim *s)
{
	struct err e = ERR_INIT;
	auto_free char *pid = str_printf("--pid-file=%s/init.pid", s->conf.dir);
	auto_free char *sock = str_printf("--console-socket=%s/console.sock", s->conf.dir);
	const char *args[8] = { NULL };
	size_t n = 0;

	shim_set_state(s, SHIM_CREATING);
	ev_timer_stop(&s->idle);
	if (!pid || !sock) {
		ignore_result(err_nomem(&e)); /* e is what counts */
		start_failed(s, &e, SHIM_REASON_SHIM);
		return;
	}
	if (session_open(&s->main, "console.sock", &e) < 0) {
		start_failed(s, &e, SHIM_REASON_SHIM);
		return;
	}
	args[n++] = s->network.n > 0 ? "create" : "run";
	if (s->network.n == 0) {
		args[n++] = "--detach";
	}
	args[n++] = "--bundle";
	args[n++] = s->conf.bundle;
	args[n++] = pid;
	if (s->main.terminal) {
		args[n++] = sock;
	}
	args[n++] = s->conf.id;

	struct job *j = job_runtime(s, args, s->main.theirs, start_left(s), create_done, &e);

	if (!j) {
		start_failed(s, &e, SHIM_REASON_SHIM);
		return;
	}
	j->creates = true;
}

/* --- children --- */

static void session_reaped(struct shim *s, struct session *x, int status)
{
	if (x != &s->main) {
		session_exited(x, status);
		shim_tell_exec(s, x, NULL);
		shim_collect(s);
	} else if (shim_alive(s)) {
		main_exited(s, status);
	} else {
		s->early = true; /* started() or start_failed() come first */
		s->early_status = status;
	}
}

void shim_claim_orphan(struct shim *s, struct session *x)
{
	for (unsigned i = 0; i < s->n_orphans; i++) {
		if (s->orphans[i].pid == x->pid) {
			int status = s->orphans[i].status;

			s->orphans[i] = s->orphans[--s->n_orphans];
			session_reaped(s, x, status);
			return;
		}
	}
}

static bool creating(const struct shim *s)
{
	list_for_each (struct job, j, &s->jobs, link) {
		if (j->creates) {
			return true;
		}
	}
	return false;
}

/* A child that nobody knows: perhaps one that a job in flight will name. */
static void keep_orphan(struct shim *s, pid_t pid, int status)
{
	if (!creating(s)) {
		s->n_orphans = 0;
		return;
	}
	if (s->n_orphans == ARRAY_LEN(s->orphans)) {
		memmove(s->orphans, s->orphans + 1, sizeof(s->orphans) - sizeof(s->orphans[0]));
		s->n_orphans--;
	}
	s->orphans[s->n_orphans++] = (struct orphan){ .pid = pid, .status = status };
}

static void reaped(struct shim *s, pid_t pid, int status)
{
	if (job_reaped(s, pid, status)) {
		return;
	}
	if (pid == s->main.pid) {
		session_reaped(s, &s->main, status);
		return;
	}
	list_for_each (struct session, x, &s->execs, link) {
		if (x->pid == pid) {
			session_reaped(s, x, status);
			return;
		}
	}
	if (pid == s->network_pid) {
		s->network_pid = 0;
		if (shim_alive(s)) {
			log_warn("the network helper ended", "instance", s->conf.id);
		}
		return;
	}
	keep_orphan(s, pid, status);
}

static void reap_all(struct shim *s)
{
	int status;
	pid_t pid;

	while ((pid = waitpid(-1, &status, WNOHANG)) > 0) {
		reaped(s, pid, status);
	}
}

static void on_signal(struct ev_fd *ev, uint32_t events)
{
	struct shim *s = container_of(ev, struct shim, signal_ev);
	struct signalfd_siginfo si;
	struct err e = ERR_INIT;

	(void)events;
	while (sys_read(s->signal_fd, &si, sizeof(si)) == sizeof(si)) {
		if (si.ssi_signo == SIGTERM && shim_alive(s)) {
			/* The host goes down: the container is told, its end recorded. */
			ignore_result(order_signal(&s->main, SIGTERM, false, 0, 0, &e));
		} else if (si.ssi_signo == SIGTERM && nothing_runs(s)) {
			s->loop.stop = true; /* who asks for it knows that nobody needs us */
		}
	}
	reap_all(s);
}

/* Nobody came, and nobody needs to: the record says what there is to say. */
static void idle_over(struct ev_timer *t)
{
	struct shim *s = container_of(t, struct shim, idle);

	if (!nothing_runs(s) || s->n_conns > 0) {
		return; /* shim_await() comes again */
	}
	if ((s->state == SHIM_IDLE || s->recorded) && s->n_clients == 0 && s->n_jobs == 0) {
		s->loop.stop = true;
	} else {
		ev_timer_start(&s->loop, t, SHIM_AGAIN_MS * NS_PER_MS);
	}
}

void shim_await(struct shim *s)
{
	if (nothing_runs(s) && s->n_conns == 0) {
		/* In a folder without a name nobody finds us. */
		ev_timer_start(&s->loop, &s->idle,
			       shim_folder_gone(s) ? 0 : s->conf.patience_ns);
	}
}

/* --- set-up --- */

static int open_signals(struct shim *s)
{
	sigset_t set;

	(void)sigemptyset(&set);          /* cannot fail, as the next */
	(void)sigaddset(&set, SIGCHLD);
	(void)sigaddset(&set, SIGTERM);
	(void)sigaddset(&set, SIGINT);
	(void)sigaddset(&set, SIGHUP);
	if (sigprocmask(SIG_BLOCK, &set, NULL) < 0 || signal(SIGPIPE, SIG_IGN) == SIG_ERR) {
		return -errno;
	}
	s->signal_fd = sys_signalfd(-1, &set, SFD_NONBLOCK);
	if (s->signal_fd < 0) {
		return s->signal_fd;
	}
	s->signal_ev.fn = on_signal;
	return ev_fd_start(&s->loop, &s->signal_ev, s->signal_fd, EPOLLIN);
}

/*
 * What is left is kill(). Its children get the rest back by being programs of root, as the
 * runtime needs it; see docs/decisions/ on what this is worth.
 */
static int drop_capabilities(void)
{
	struct sys_caps c = { 0 };
	int r = sys_capget(&c);

	if (r == 0) {
		c.permitted &= BIT(CAP_KILL);
		c.effective = c.permitted;
		c.inheritable = 0;
		r = sys_capset(&c);
	}
	return r;
}

static int open_log(struct shim *s)
{
	const char *path = s->conf.log;
	const char *slash = path ? strrchr(path, '/') : NULL;

	if (!path) {
		ilog_init(&s->log, -1, NULL, 0, 1);
		return 0;
	}
	auto_free char *dir = str_ndup(path, MAX((size_t)(slash - path), (size_t)1));

	if (!dir) {
		return -ENOMEM;
	}
	s->log_dir_fd = sys_openat(AT_FDCWD, dir, O_RDONLY | O_DIRECTORY, 0);
	ilog_init(&s->log, s->log_dir_fd, slash + 1, s->conf.log_max_bytes, s->conf.log_max_files);
	return s->log_dir_fd < 0 ? s->log_dir_fd : 0;
}

static int set_up(struct shim *s)
{
	int r = ev_init(&s->loop);

	r = r < 0 ? r : open_signals(s);
	r = r < 0 ? r : open_log(s);
	if (r == 0) {
		s->null_fd = sys_openat(AT_FDCWD, "/dev/null", O_RDWR, 0);
		r = s->null_fd < 0 ? s->null_fd : 0;
	}
	r = r < 0 ? r : sys_prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0);
	r = r < 0 ? r : conn_listen(s);
	return r < 0 ? r : drop_capabilities();
}

static void tear_down(struct shim *s, bool in_order)
{
	list_for_each_safe (struct session, x, &s->execs, link) {
		list_del(&x->link);
		session_fini(x);
		free(x);
	}
	session_fini(&s->main);
	if (in_order) {
		conn_drop_all(s);
	}
	ilog_fini(&s->log);
	strv_fini(&s->network);
	fd_close(&s->memory_fd);
	fd_close(&s->signal_fd);
	fd_close(&s->null_fd);
	fd_close(&s->log_dir_fd);
	ev_fini(&s->loop);
	ignore_result(sys_unlinkat(s->dir_fd, SHIM_SOCKET_NAME, 0)); /* may be a handed-over one */
	if (in_order) {
		fd_close(&s->listen_fd);
	}
	fd_close(&s->dir_fd);
}

int shim_run(const struct shim_conf *conf, int own_listen_fd, int own_dir_fd, int *ready_fd,
	     struct err *e)
{
	static struct shim s;

	s = (struct shim){ .conf = *conf, .state = SHIM_IDLE, .dir_fd = own_dir_fd,
			   .listen_fd = own_listen_fd, .signal_fd = -1, .null_fd = -1,
			   .log_dir_fd = -1, .memory_fd = -1, .epoch = conf->epoch };
	list_init(&s.execs);
	list_init(&s.jobs);
	list_init(&s.conns);
	session_init(&s.main, &s);
	s.main.terminal = conf->terminal;
	s.main.open_stdin = conf->open_stdin;
	s.record.fn = save_record;
	s.idle.fn = idle_over;

	int r = set_up(&s);

	if (r == 0) {
		fd_close(ready_fd);
		shim_await(&s);
		r = ev_run(&s.loop);
		r = r < 0 ? r : s.fatal;
	}
	/* A failure is told before the daemon's connections end, with the process. */
	tear_down(&s, r == 0);
	return r < 0 ? err_set(e, -r, ERR_HOST, "instance %s", conf->id) : 0;
}
