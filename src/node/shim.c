/* SPDX-License-Identifier: Apache-2.0 */
#include "node/shim.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/mount.h>
#include <sched.h>
#include <string.h>
#include <sys/socket.h>

#include "base/clock.h"
#include "base/fd.h"
#include "base/log.h"
#include "base/mem.h"
#include "node/bundle.h"
#include "node/life.h"
#include "sys/file.h"
#include "sys/socket.h"

enum {
	HELLO_TIMEOUT_S = 30,
	BREAKS_MAX      = 8,          /* of a connection, within so long: then it is given up */
	BREAKS_S        = 60,
	SHIM_LOG_TAIL   = 1024,
};

struct request {
	struct list   link;
	uint32_t      serial;
	shim_reply_fn fn;
	void         *ud;
};

struct shim {
	struct instance   *instance;
	struct wire_conn   conn;
	struct loop_fd    *src;
	struct loop_child *child;     /* its process */
	struct loop_timer *timer;     /* until the welcome */
	struct loop_post   fail_post; /* the connection broke while somebody was writing */
	uint32_t           serial;
	struct list        requests;
	struct shim_status status;    /* strings are not kept */
	bool               has_status, acked;
	bool               conn_ended, child_ended;
	bool               welcomed;     /* on this connection */
	unsigned           breaks;       /* since then */
	uint64_t           breaks_ns;
	bool               child_failed; /* it ended by itself, with a status */
	uint64_t           log_from;  /* bytes of shim.log that are of earlier lives */
	struct err         why;       /* it ended */
};

static void set_why(struct shim *s, const struct err *e)
{
	if (!s->why.errnum && e) {
		s->why = *e;
	}
}

static void close_conn(struct shim *s)
{
	s->src = loop_fd_free(s->src);
	loop_timer_stop(s->timer);
	wire_conn_fini(&s->conn);
	s->conn_ended = true;
}

/* Those who wait get the reason why no answer comes. */
static void fail_all(struct instance *i, struct list *requests, const struct err *e)
{
	while (!list_empty(requests)) {
		struct request *q = list_entry(requests->next, struct request, link);

		list_del(&q->link);
		if (q->fn) {
			q->fn(i, NULL, e, q->ud);
		}
		free(q);
	}
}

static void fail_requests(struct shim *s)
{
	struct err e = s->why;

	if (!e.errnum) {
		ignore_result(err_set(&e, EPIPE, ERR_UNAVAILABLE, "the instance's shim has ended"));
		/* filled for those who wait */
	}
	fail_all(s->instance, &s->requests, &e);
}

static void move_all(struct list *from, struct list *to)
{
	while (!list_empty(from)) {
		struct list *q = from->next;

		list_del(q);
		list_add_tail(to, q);
	}
}

static void shim_free(struct shim *s)
{
	close_conn(s);
	loop_child_free(s->child);
	loop_timer_free(s->timer);
	loop_post_cancel(&s->fail_post);
	free(s);
}

/* A shim that gave up has told its standard error why: its last line. */
static void why_from_log(struct shim *s)
{
	auto_free char *dir = instance_run_dir(s->instance);
	auto_free char *path = dir ? str_printf("%s/shim.log", dir) : NULL;
	auto_close int fd = path ? sys_openat(AT_FDCWD, path, O_RDONLY | O_NOFOLLOW, 0) : -1;
	char text[SHIM_LOG_TAIL];
	struct stat st;

	if (fd < 0 || sys_fstat(fd, &st) < 0 || (uint64_t)st.st_size <= s->log_from) {
		return;
	}
	uint64_t from = MAX(s->log_from, (uint64_t)st.st_size - MIN((uint64_t)st.st_size,
								    sizeof(text) - 1));
	ssize_t n = sys_pread(fd, text, sizeof(text) - 1, (off_t)from);

	while (n > 0 && text[n - 1] == '\n') {
		n--;
	}
	if (n <= 0) {
		return;
	}
	text[n] = '\0';
	const char *line = strrchr(text, '\n');

	s->why = (struct err)ERR_INIT;
	ignore_result(err_set(&s->why, EIO, ERR_HOST, "the instance's shim ended: %s",
			      line ? line + 1 : text)); /* kept for those who wait */
}

/* Both ends are over: nothing of the shim is left. */
static void maybe_end(struct shim *s)
{
	struct instance *i = s->instance;

	if (!s->conn_ended || !s->child_ended) {
		return;
	}
	if (s->child_failed && !i->shim_adopted && !s->acked) {
		why_from_log(s);
	}
	struct err why = s->why;

	fail_requests(s);
	i->shim = NULL;
	shim_free(s);
	life_on_shim_end(i, why.errnum ? &why : NULL);
}

/*
 * The connection is over. A shim that leaves ends by itself; one that cannot be reached any more,
 * or with which we cannot talk, must not go on with an instance that nobody watches.
 */
static void conn_over(struct shim *s, const struct err *e)
{
	if (s->conn_ended) {
		return;
	}
	set_why(s, e);
	close_conn(s);
	if (!s->child) {
		s->child_ended = true; /* the predecessor's, and it never told its number */
	}
	if (!s->acked && !s->child_ended) {
		ignore_result(loop_child_kill(s->child, SIGKILL)); /* -ESRCH: it ended by itself */
	}
	maybe_end(s);
}

static int connect_to(struct shim *s, int dir_fd, struct err *e);
static int open_run_dir(struct instance *i, int *ret_fd, struct err *e);
static int send_hello(struct shim *s, struct err *e);

/* A shim that runs its instance, and with which we could talk; not one that breaks each time. */
static bool may_come_back(struct shim *s)
{
	uint64_t now = loop_now_ns(s->instance->node->loop);
	enum instance_state state = (enum instance_state)s->instance->status.state;

	if (!s->welcomed || s->acked || !s->child || s->child_ended || s->conn_ended ||
	    (state != INSTANCE_RUNNING && state != INSTANCE_PAUSED)) {
		return false;
	}
	if (now - s->breaks_ns > BREAKS_S * NS_PER_SEC) {
		s->breaks = 0;
		s->breaks_ns = now;
	}
	return s->breaks++ < BREAKS_MAX;
}

/* The same shim on a new connection: it tells what is, as to a daemon that adopts it. */
static int come_back(struct shim *s, struct err *e)
{
	auto_close int dir_fd = -1;
	int r = open_run_dir(s->instance, &dir_fd, e);

	close_conn(s);
	loop_post_cancel(&s->fail_post); /* of the connection before */
	s->welcomed = false;
	r = r < 0 ? r : connect_to(s, dir_fd, e);
	s->conn_ended = r < 0;
	return r < 0 ? r : send_hello(s, e);
}

/*
 * The connection ended, for whatever reason: one side had no descriptor or no memory for it, or
 * was slow to read. While the shim lives and runs its instance it is connected to again; who
 * waits for an answer hears that none comes.
 */
static void conn_broke(struct shim *s, const struct err *e)
{
	struct instance *i = s->instance;
	struct err why = ERR_INIT;
	struct list waiting;

	if (!may_come_back(s)) {
		conn_over(s, e);
		return;
	}
	list_init(&waiting);
	move_all(&s->requests, &waiting);
	if (come_back(s, &why) < 0) {
		move_all(&waiting, &s->requests);
		s->conn_ended = false; /* conn_over() sees to the end of it */
		conn_over(s, e);
		return;
	}
	log_warn("the connection to a shim broke, and was made again", "instance", i->id);
	ignore_result(err_set(&why, EPIPE, ERR_UNAVAILABLE,
			      "the connection to the instance's shim broke: try again"));
	fail_all(i, &waiting, &why);
}

static void on_fail_post(struct loop_post *p, void *ud)
{
	struct err e = ERR_INIT;

	(void)p;
	ignore_result(err_set(&e, EPIPE, ERR_UNAVAILABLE, "the instance's shim has ended"));
	conn_broke(ud, &e);
}

static void on_child(struct loop_child *c, const struct loop_exit *x, void *ud)
{
	struct shim *s = ud;

	(void)c;
	s->child_ended = true;
	if (x->kind == LOOP_NOT_STARTED) {
		s->why = *x->err; /* says more than that the connection ended */
	}
	s->child_failed = x->kind == LOOP_EXITED && x->code != 0;
	/* What it said last may still be in the socket: conn_over() comes from there. */
	if (!s->src) {
		close_conn(s);
	}
	maybe_end(s);
}

static void on_welcome_timeout(struct loop_timer *t, void *ud)
{
	struct err e = ERR_INIT;

	(void)t;
	ignore_result(err_set(&e, ETIMEDOUT, ERR_UNAVAILABLE,
			      "the instance's shim did not answer for %d s", HELLO_TIMEOUT_S));
	conn_over(ud, &e);
}

static void update_interest(struct shim *s)
{
	if (s->src && loop_fd_set(s->src, wire_conn_pending(&s->conn) ? LOOP_IN | LOOP_OUT :
				  LOOP_IN) < 0) {
		loop_post(s->instance->node->loop, &s->fail_post);
	}
}

static void on_reply(struct shim *s, uint32_t serial, const struct shim_reply *r)
{
	list_for_each_safe (struct request, q, &s->requests, link) {
		if (q->serial == serial) {
			list_del(&q->link);
			if (q->fn) {
				q->fn(s->instance, r, NULL, q->ud);
			}
			free(q);
			return;
		}
	}
	log_debug("an answer that nobody waits for", "instance", s->instance->id);
}

static void on_status(struct shim *s, const struct shim_status *st)
{
	s->status = *st;
	s->status.error = NULL;
	s->has_status = true;
	life_on_status(s->instance, st);
}

/* The shim of a predecessor tells its number here. */
static int on_welcome(struct shim *s, const struct shim_welcome *w, struct err *e)
{
	struct instance *i = s->instance;
	int r = 0;

	if (w->version < SHIM_PROTO_OLDEST || w->version > SHIM_PROTO_VERSION) {
		return err_set(e, EPROTO, ERR_UNSUPPORTED,
			       "the instance's shim speaks version %u, this daemon %d to %d", w->version,
			       SHIM_PROTO_OLDEST, SHIM_PROTO_VERSION);
	}
	s->conn.version = (uint16_t)w->version;
	s->welcomed = true;
	loop_timer_stop(s->timer);
	if (!s->child) {
		r = loop_child_watch(i->node->loop, (pid_t)w->pid, on_child, s, &s->child);
		i->status.shim_pid = w->pid;
	}
	return r < 0 ? err_set(e, -r, ERR_UNAVAILABLE, "the shim's process") : 0;
}

static int on_message(struct shim *s, struct wire_frame *f, struct err *e)
{
	const struct wire_msg *t = shim_msg(f->type);
	union shim_any m;

	if (!t) {
		return 0; /* of a newer shim, and not for us */
	}
	int r = wire_decode(t, f, &m, e);

	if (r == 0) {
		switch ((enum shim_msg_type)f->type) {
		case SHIM_WELCOME:
			r = on_welcome(s, &m.welcome, e);
			break;
		case SHIM_REPLY:
			on_reply(s, f->serial, &m.reply);
			break;
		case SHIM_STATUS:
			on_status(s, &m.status);
			break;
		case SHIM_EXEC_STATUS:
			instance_on_exec_status(s->instance, &m.exec_status);
			break;
		case SHIM_ATTACH_END:
			break;
		case SHIM_NONE: case SHIM_HELLO: case SHIM_GET_STATUS: case SHIM_START:
		case SHIM_SIGNAL: case SHIM_PAUSE: case SHIM_RESUME: case SHIM_UPDATE:
		case SHIM_EXEC: case SHIM_ATTACH: case SHIM_RESIZE: case SHIM_CLOSE_STDIN:
		case SHIM_STATS: case SHIM_PIDS: case SHIM_ACK: case SHIM_SHUTDOWN:
		case SHIM_MSG__COUNT:
			r = err_set(e, EPROTO, ERR_HOST, "the shim sent an order");
			break;
		}
	}
	wire_msg_fini(t, &m);
	return r;
}

static void on_conn(struct loop_fd *src, unsigned events, void *ud)
{
	struct shim *s = ud;
	struct instance *i = s->instance;
	struct err e = ERR_INIT;
	int r = events & (LOOP_IN | LOOP_HUP) ? wire_conn_fill(&s->conn) : 0;
	int end = r < 0 ? r : 0;

	(void)src;
	while (i->shim == s && !s->conn_ended) {
		struct wire_frame f;

		r = wire_conn_next(&s->conn, &f);
		if (r <= 0) {
			end = r < 0 ? r : end;
			break;
		}
		r = on_message(s, &f, &e);
		wire_frame_fini(&f);
		if (r < 0) {
			end = r;
			break;
		}
	}
	if (i->shim != s || s->conn_ended) {
		return;
	}
	if (end == 0 && (events & LOOP_OUT)) {
		end = wire_conn_flush(&s->conn);
	}
	if (end < 0 && e.errnum) {
		conn_over(s, &e); /* what it says cannot be understood */
	} else if (end < 0) {
		ignore_result(err_set(&e, -end, ERR_UNAVAILABLE, "the instance's shim has ended"));
		conn_broke(s, &e);
	} else {
		update_interest(s);
	}
}

static bool is_over(int r)
{
	return r == -EPIPE || r == -ECONNRESET;
}

int shim_request(struct instance *i, enum shim_msg_type type, const void *msg, shim_reply_fn fn,
		 void *ud, struct err *e)
{
	struct shim *s = i->shim;

	if (!s) {
		return err_set(e, EPIPE, ERR_UNAVAILABLE, "the instance's shim has ended");
	}
	struct request *q = mem_new(struct request);

	if (!q) {
		return err_nomem(e);
	}
	q->serial = ++s->serial;
	q->fn = fn;
	q->ud = ud;
	int r = s->conn_ended ? 0 : wire_conn_send(&s->conn, &shim_msgs[type], q->serial, msg);

	if (r < 0 && !is_over(r)) {
		free(q);
		return err_set(e, -r, r == -EMSGSIZE ? ERR_INVALID : ERR_UNAVAILABLE,
			       "the instance's shim cannot be asked: %s", strerrordesc_np(-r));
	}
	/* A shim that is ending answers no more; why it ends is the answer. */
	list_add_tail(&s->requests, &q->link);
	if (r < 0) {
		loop_post(i->node->loop, &s->fail_post);
	} else {
		update_interest(s);
	}
	return 0;
}

int shim_reply_err(const struct shim_reply *r, struct err *e)
{
	if (!r->errnum) {
		return 0;
	}
	return err_set(e, (int)r->errnum, r->code > ERR_NONE && r->code < ERR__COUNT ?
		       (enum err_code)r->code : ERR_HOST, "%s",
		       r->message ? r->message : "the instance's shim refused");
}

void shim_status_err(const struct shim_status *st, struct err *e)
{
	const char *text = st->error ? st->error : "it did not start";
	bool command = st->exit_code == 126 || st->exit_code == 127;
	enum err_code code = st->code > ERR_NONE && st->code < ERR__COUNT ?
			     (enum err_code)st->code : command ? ERR_INVALID : ERR_UNAVAILABLE;
	/* Of the host's errors err_text() appends the number's text, and this has it already. */
	size_t len = strlen(text);
	auto_free char *tail = code == ERR_HOST ? str_printf(": %s", strerror((int)st->errnum)) : NULL;

	len -= tail && str_ends(text, tail) ? strlen(tail) : 0;
	ignore_result(err_set(e, st->errnum ? (int)st->errnum : ENOEXEC, code, "%.*s", (int)len,
			      text)); /* it is what is wanted */
}

uint32_t shim_exit_code(uint32_t reason, uint32_t told)
{
	if (reason == SHIM_REASON_NONE) { /* version 1: it says the code itself */
		return told ? told : 125;
	}
	return shim_reason_exit_code((enum shim_reason)reason);
}

static int send_hello(struct shim *s, struct err *e)
{
	struct shim_hello hello = {
		.version_min = SHIM_PROTO_OLDEST, .version_max = SHIM_PROTO_VERSION,
		.epoch = s->instance->node->epoch, .instance = s->instance->id,
	};

	loop_timer_start(s->timer, HELLO_TIMEOUT_S * NS_PER_SEC);
	return shim_request(s->instance, SHIM_HELLO, &hello, NULL, NULL, e);
}

static struct shim *shim_new(struct instance *i, struct err *e)
{
	struct shim *s = mem_new(struct shim);

	if (s) {
		s->instance = i;
		list_init(&s->requests);
		loop_post_init(&s->fail_post, on_fail_post, s);
		wire_conn_init(&s->conn, -1, SHIM_PROTO_OLDEST);
		if (loop_timer_new(i->node->loop, on_welcome_timeout, s, &s->timer) < 0) {
			free(s);
			s = NULL;
		}
	}
	if (!s) {
		ignore_result(err_nomem(e)); /* told by the NULL */
	}
	return s;
}

/* Connect to the socket in the instance's folder. */
static int connect_to(struct shim *s, int dir_fd, struct err *e)
{
	int fd = sock_connect_at(dir_fd, SHIM_SOCKET_NAME, SOCK_NONBLOCK);

	if (fd < 0) {
		return err_set(e, -fd, fd == -ENOENT || fd == -ECONNREFUSED ? ERR_NOT_FOUND :
			       ERR_HOST, "connect to the shim of instance %.12s", s->instance->id);
	}
	wire_conn_init(&s->conn, fd, SHIM_PROTO_OLDEST); /* until the welcome */
	int r = loop_fd_new(s->instance->node->loop, fd, LOOP_IN, on_conn, s, &s->src);

	return r < 0 ? err_set(e, -r, ERR_HOST, "watch the shim's connection") : 0;
}

static int open_run_dir(struct instance *i, int *ret_fd, struct err *e)
{
	auto_free char *dir = instance_run_dir(i);

	if (!dir) {
		return err_nomem(e);
	}
	int r = sys_mkdir_p(AT_FDCWD, dir, 0700);

	if (r == 0) {
		r = sys_openat(AT_FDCWD, dir, O_RDONLY | O_DIRECTORY | O_NOFOLLOW, 0);
	}
	if (r < 0) {
		return err_set(e, -r, ERR_HOST, "the folder %s", dir);
	}
	*ret_fd = r;
	return 0;
}

static int add_args(struct strv *v, struct instance *i, const char *dir)
{
	const struct node_conf *c = &i->node->conf;
	auto_free char *log = instance_log_path(i), *root = instance_runtime_root(i);
	int r = log && root ? 0 : -ENOMEM;

	r = r ? r : strv_add(v, c->shim);
	r = r ? r : strv_add(v, "--foreground");
	r = r ? r : strv_add(v, "--listen-fd=3");
	r = r ? r : strv_addf(v, "--bundle=%s/bundle", dir);
	r = r ? r : strv_addf(v, "--dir=%s", dir);
	r = r ? r : strv_addf(v, "--oci=%s", instance_runtime(i));
	r = r ? r : strv_addf(v, "--oci-root=%s", root);
	r = r ? r : strv_addf(v, "--epoch=%llu", (unsigned long long)i->node->epoch);
	if (!i->spec.log.off) {
		r = r ? r : strv_addf(v, "--log=%s", log);
		r = r || !i->spec.log.max_size ? r :
		    strv_addf(v, "--log-max-size=%llu", (unsigned long long)i->spec.log.max_size);
		r = r || !i->spec.log.max_files ? r :
		    strv_addf(v, "--log-max-files=%llu",
			      (unsigned long long)i->spec.log.max_files);
	}
	r = r || !c->systemd_cgroup ? r : strv_add(v, "--systemd-cgroup");
	r = r || !i->spec.tty ? r : strv_add(v, "--terminal");
	r = r || !i->spec.stdin_open ? r : strv_add(v, "--interactive");
	r = r || !c->debug ? r : strv_add(v, "--debug");
	return r ? r : strv_add(v, i->id);
}

static int start_process(struct shim *s, int dir_fd, const char *dir, struct err *e)
{
	struct instance *i = s->instance;
	auto_strv struct strv args = STRV_INIT;
	auto_close int listen_fd = sock_listen_at(dir_fd, SHIM_SOCKET_NAME, SOCK_NONBLOCK);
	auto_close int log_fd = sys_openat(dir_fd, "shim.log", O_WRONLY | O_CREAT | O_APPEND |
					   O_NOFOLLOW, 0600);

	struct stat st;

	if (listen_fd < 0 || log_fd < 0 || sys_fstat(log_fd, &st) < 0) {
		return err_set(e, listen_fd < 0 ? -listen_fd : log_fd < 0 ? -log_fd : EIO, ERR_HOST,
			       "files in %s", dir);
	}
	s->log_from = (uint64_t)st.st_size;
	if (add_args(&args, i, dir) < 0) {
		return err_nomem(e);
	}
	int fds[] = { -1, -1, log_fd, listen_fd };
	/* Where the runtime of virtual machines finds a kernel. */
	auto_free char *kernel = str_printf("HOLM_KERNEL=%s/kernels/default", i->node->conf.state_dir);
	char *env[] = { (char *)"PATH=/usr/sbin:/usr/bin:/sbin:/bin", kernel, NULL };
	struct bundle_job job = { .instance = i, .dir = dir };
	struct loop_spawn spec = {
		.argv = args.v, .envp = env, .fds = fds, .n_fds = ARRAY_LEN(fds),
		.new_session = true, .clone_flags = CLONE_NEWNS, .prepare = bundle_prepare,
		.prepare_ud = &job,
	};
	int r = connect_to(s, dir_fd, e);

	r = r < 0 ? r : loop_spawn(i->node->loop, &spec, on_child, s, &s->child, e);
	if (r == 0) {
		i->status.shim_pid = (uint64_t)loop_child_pid(s->child);
	}
	return r;
}

/* The folder begins empty: what an earlier life left (it has been acknowledged) is of no use. */
static void clean_run_dir(int dir_fd)
{
	ignore_result(sys_remove_tree(dir_fd, SHIM_EXIT_NAME));
	ignore_result(sys_remove_tree(dir_fd, "bundle"));
	/* what cannot be removed is written over */
}

int shim_spawn(struct instance *i, struct err *e)
{
	auto_close int dir_fd = -1;
	auto_free char *dir = instance_run_dir(i);

	assert(!i->shim);
	if (!dir) {
		return err_nomem(e);
	}
	int r = open_run_dir(i, &dir_fd, e);

	if (r < 0) {
		return r;
	}
	clean_run_dir(dir_fd);
	struct shim *s = shim_new(i, e);

	if (!s) {
		return -ENOMEM;
	}
	r = start_process(s, dir_fd, dir, e);
	if (r == 0) {
		i->shim = s;
		r = send_hello(s, e);
	}
	if (r < 0 && s->child) {
		ignore_result(loop_child_kill(s->child, SIGKILL)); /* and init collects it */
	}
	if (r < 0) {
		i->shim = NULL;
		shim_free(s);
	}
	return r;
}

int shim_adopt(struct instance *i, struct err *e)
{
	auto_close int dir_fd = -1;
	int r = open_run_dir(i, &dir_fd, e);

	if (r < 0) {
		return r;
	}
	struct shim *s = shim_new(i, e);

	if (!s) {
		return -ENOMEM;
	}
	r = connect_to(s, dir_fd, e);
	if (r == 0) {
		i->shim = s;
		i->shim_adopted = true;
		r = send_hello(s, e);
	}
	if (r < 0) {
		i->shim = NULL;
		shim_free(s);
	}
	return r;
}

const struct shim_status *shim_status(const struct shim *s)
{
	return s->has_status ? &s->status : NULL;
}

void shim_ack(struct instance *i)
{
	struct err e = ERR_INIT;
	struct shim_session m = { .exec = NULL };

	if (i->shim && !i->shim->acked) {
		i->shim->acked = true;
		if (shim_request(i, SHIM_ACK, &m, NULL, NULL, &e) < 0) {
			log_err(LOG_LEVEL_WARN, &e);
		}
	}
}

void shim_kill(struct instance *i)
{
	if (i->shim && i->shim->child) {
		ignore_result(loop_child_kill(i->shim->child, SIGKILL)); /* -ESRCH: gone already */
	}
}

void shim_detach(struct instance *i)
{
	if (i->shim) {
		struct shim *s = i->shim;

		fail_requests(s);
		i->shim = NULL;
		shim_free(s);
	}
}

#define IN(m) offsetof(struct shim_exit_record, m)
static const struct jfield exit_fields[] = {
	{ "version", JK_UINT, IN(version), .flags = JF_REQUIRED, .doc = "of the format" },
	{ "instance", JK_ID, IN(instance), .flags = JF_REQUIRED, .doc = "whose" },
	{ "epoch", JK_UINT, IN(epoch), .doc = "newest that the shim saw" },
	{ "exit_code", JK_UINT, IN(exit_code), .max = 255, .doc = "0 to 255" },
	{ "signal", JK_UINT, IN(signal), .max = 64, .doc = "that ended it" },
	{ "oom", JK_BOOL, IN(oom), .doc = "memory was out" },
	{ "started_ns", JK_UINT, IN(started_ns), .doc = "since the epoch" },
	{ "exited_ns", JK_UINT, IN(exited_ns), .doc = "since the epoch" },
	{ "log_lost_records", JK_UINT, IN(log_lost_records), .doc = "not written" },
	{ "log_lost_bytes", JK_UINT, IN(log_lost_bytes), .doc = "not written" },
	{ "error", JK_STR, IN(error), .doc = "why it did not start" },
};
#undef IN
const struct jtable shim_exit_table =
	JTABLE_OPEN("ExitRecord", struct shim_exit_record, exit_fields);

int shim_read_exit(const struct instance *i, struct arena *a, struct shim_exit_record *ret,
		   struct err *e)
{
	auto_free char *dir = instance_run_dir(i);
	auto_free char *path = dir ? str_printf("%s/%s", dir, SHIM_EXIT_NAME) : NULL;
	auto_buf struct buf b = BUF_INIT;
	auto_json json_t *doc = NULL;

	if (!path) {
		return err_nomem(e);
	}
	int r = sys_read_file(AT_FDCWD, path, 65536, &b);

	if (r < 0) {
		return err_set(e, -r, r == -ENOENT ? ERR_NOT_FOUND : ERR_HOST, "%s", path);
	}
	r = json_parse(buf_str(&b), b.len, &json_limits_request, path, &doc, e);
	r = r < 0 ? r : jtable_parse(&shim_exit_table, doc, a, ret, e);
	if (r == 0 && (!str_eq(ret->instance, i->id) || ret->version != 1)) {
		r = err_set(e, EBADMSG, ERR_HOST, "%s belongs to another", path);
	}
	if (r == 0) {
		ret->error = arena_strdup(a, ret->error ? ret->error : "");
		r = ret->error ? 0 : err_nomem(e);
	}
	return r;
}
