/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Connections of the host. Replies name their connection by number, because it may be gone
 * when the work is done.
 */
#include "agent/agent.h"

#include <errno.h>
#include <signal.h>
#include <unistd.h>

#include "base/fd.h"
#include "base/log.h"
#include "base/mem.h"
#include "sys/file.h"
#include "sys/memory-events.h"
#include "sys/socket.h"

struct aconn {
	struct list      link;
	struct agent    *agent;
	uint32_t         id;
	struct wire_conn wire;
	struct loop_fd  *ev;
	bool             hello;
	bool             closing;   /* once what waits is sent */
};

static const struct err fine = ERR_INIT;

static void conn_free(struct aconn *c)
{
	struct agent *a = c->agent;

	list_del(&c->link);
	loop_fd_free(c->ev);
	wire_conn_fini(&c->wire);
	list_for_each_safe (struct session, x, &a->sessions, link) {
		if (x->conn == c->id) {
			session_orphaned(x);
		}
	}
	a->n_conns--;
	free(c);
}

static void conn_watch(struct aconn *c)
{
	unsigned events = c->closing ? 0 : LOOP_IN;

	if (wire_conn_pending(&c->wire) || c->closing) {
		events |= LOOP_OUT; /* closing: on the next turn, as it may be in use up the stack */
	}
	if (loop_fd_set(c->ev, events) < 0) {
		log_warn("a connection cannot be watched");
	}
}

static struct aconn *conn_find(struct agent *a, uint32_t id)
{
	list_for_each (struct aconn, c, &a->conns, link) {
		if (c->id == id && !c->closing) {
			return c;
		}
	}
	return NULL;
}

static void send_msg(struct aconn *c, enum guest_msg_type type, uint32_t serial, const void *msg)
{
	if (!c->closing && wire_conn_send(&c->wire, &guest_msgs[type], serial, msg) < 0) {
		c->closing = true;
	}
	conn_watch(c);
}

void agent_reply(struct agent *a, uint32_t conn, uint32_t serial, const struct err *e,
		 const char *text, uint32_t exit_code)
{
	struct aconn *c = conn_find(a, conn);
	struct guest_reply m = { .errnum = (uint32_t)e->errnum, .code = e->code,
				 .message = e->errnum ? (char *)(uintptr_t)e->msg : NULL,
				 .text = (char *)(uintptr_t)text, .exit_code = exit_code };

	if (c) {
		send_msg(c, GUEST_REPLY, serial, &m);
	}
}

void agent_tell_exit(struct agent *a, const struct session *x, const struct loop_exit *exit)
{
	struct aconn *c = conn_find(a, x->conn);
	struct guest_exited m = { .session = x->name,
				  .exit_code = (uint32_t)loop_exit_status(exit),
				  .signal = exit->kind == LOOP_KILLED ? (uint32_t)exit->code : 0,
				  .oom = memory_events_oom(x->memory_fd) };

	if (c) {
		send_msg(c, GUEST_EXITED, 0, &m);
	}
}

/* --- what messages do: each answers itself, unless it returns an error --- */

static int do_hello(struct aconn *c, uint32_t serial, union guest_any *m, struct err *e)
{
	char program[] = "holm-init " HOLM_VERSION;
	struct guest_welcome w = { .version = MIN((uint32_t)GUEST_PROTO_VERSION,
						  m->hello.version_max), .program = program };

	if (m->hello.version_max < GUEST_PROTO_OLDEST ||
	    m->hello.version_min > GUEST_PROTO_VERSION) {
		return err_set(e, EPROTO, ERR_UNSUPPORTED, "this guest speaks versions %d to %d",
			       GUEST_PROTO_OLDEST, GUEST_PROTO_VERSION);
	}
	c->hello = true;
	c->wire.version = (uint16_t)w.version;
	send_msg(c, GUEST_WELCOME, serial, &w);
	return 0;
}

static int do_setup(struct aconn *c, uint32_t serial, union guest_any *m, struct err *e)
{
	struct agent *a = c->agent;

	if (a->set_up) {
		return err_set(e, EEXIST, ERR_CONFLICT, "the machine is set up already");
	}
	int r = a->conf->machine ? machine_setup(a->conf, &m->setup, e) : 0;

	if (r == 0) {
		a->set_up = true;
		agent_reply(a, c->id, serial, &fine, NULL, 0);
	}
	return r;
}

static int do_file(struct aconn *c, uint32_t serial, union guest_any *m, struct err *e)
{
	char name[32];
	int r = sys_mkdir_p(c->agent->dir_fd, "files", 0755);

	(void)snprintf(name, sizeof(name), "files/%u", m->file.number);
	auto_close int fd = r < 0 ? r : sys_openat(c->agent->dir_fd, name,
						   O_WRONLY | O_CREAT | O_TRUNC, 0600);

	r = fd < 0 ? fd : sys_write_full(fd, m->file.data.data, m->file.data.len);
	r = r < 0 ? r : sys_fchmod(fd, m->file.mode);
	if (r < 0) {
		return err_set(e, -r, ERR_HOST, "cannot write file %u", m->file.number);
	}
	agent_reply(c->agent, c->id, serial, &fine, NULL, 0);
	return 0;
}

static int do_create(struct aconn *c, uint32_t serial, union guest_any *m, struct err *e)
{
	return session_create(c->agent, c->id, serial, &m->create, e);
}

static int do_start(struct aconn *c, uint32_t serial, union guest_any *m, struct err *e)
{
	(void)m;
	return session_start(c->agent, c->id, serial, e);
}

static int do_exec(struct aconn *c, uint32_t serial, union guest_any *m, struct err *e)
{
	return session_exec(c->agent, c->id, serial, &m->exec, e);
}

static int find(struct agent *a, const char *name, struct session **ret, struct err *e)
{
	*ret = session_find(a, name);
	return *ret ? 0 : err_set(e, ENOENT, ERR_NOT_FOUND, "no session %s", name);
}

/* From here on the connection is the stream's: a copy of it, so that this one can be freed. */
static int do_attach(struct aconn *c, uint32_t serial, union guest_any *m, struct err *e)
{
	struct session *x;
	int r = find(c->agent, m->attach.session, &x, e);
	int fd = r < 0 ? -1 : sys_dup(c->wire.fd);

	if (r == 0 && fd < 0) {
		r = err_set(e, -fd, ERR_HOST, "cannot attach");
	}
	if (r == 0) {
		/* Before any byte of the stream. */
		agent_reply(c->agent, c->id, serial, &fine, NULL, 0);
		c->closing = true;
		r = session_attach(x, (enum guest_stream)m->attach.stream, fd, e);
		if (r < 0) {
			log_err(LOG_LEVEL_WARN, e);
		}
	}
	return r < 0 && !c->closing ? r : 0;
}

static int do_signal(struct aconn *c, uint32_t serial, union guest_any *m, struct err *e)
{
	struct session *x;
	int r = find(c->agent, m->signal.session, &x, e);

	return r < 0 ? r : session_signal(x, c->id, serial, m->signal.signal, m->signal.all, e);
}

static int do_resize(struct aconn *c, uint32_t serial, union guest_any *m, struct err *e)
{
	struct session *x;
	int r = find(c->agent, m->resize.session, &x, e);

	if (r == 0 && (r = session_resize(x, m->resize.rows, m->resize.cols)) < 0) {
		r = err_set(e, -r, ERR_CONFLICT, "cannot set the terminal's size");
	}
	if (r == 0) {
		agent_reply(c->agent, c->id, serial, &fine, NULL, 0);
	}
	return r;
}

static int do_stats(struct aconn *c, uint32_t serial, union guest_any *m, struct err *e)
{
	const char *args[] = { "events", "--stats", GUEST_INIT, NULL };

	(void)m;
	return session_runtime_text(c->agent, c->id, serial, args, e);
}

static int do_pids(struct aconn *c, uint32_t serial, union guest_any *m, struct err *e)
{
	const char *args[] = { "ps", "--format", "json", GUEST_INIT, NULL };

	(void)m;
	return session_runtime_text(c->agent, c->id, serial, args, e);
}

static int do_poweroff(struct aconn *c, uint32_t serial, union guest_any *m, struct err *e)
{
	(void)m;
	(void)e;
	agent_reply(c->agent, c->id, serial, &fine, NULL, 0);
	loop_stop(c->agent->loop);
	return 0;
}

struct action {
	int  (*fn)(struct aconn *c, uint32_t serial, union guest_any *m, struct err *e);
	bool needs_setup;
};

static const struct action actions[GUEST_MSG__COUNT] = {
	[GUEST_HELLO]    = { do_hello, false },
	[GUEST_SETUP]    = { do_setup, false },
	[GUEST_FILE]     = { do_file, true },
	[GUEST_CREATE]   = { do_create, true },
	[GUEST_START]    = { do_start, true },
	[GUEST_EXEC]     = { do_exec, true },
	[GUEST_ATTACH]   = { do_attach, true },
	[GUEST_SIGNAL]   = { do_signal, true },
	[GUEST_RESIZE]   = { do_resize, true },
	[GUEST_STATS]    = { do_stats, true },
	[GUEST_PIDS]     = { do_pids, true },
	[GUEST_POWEROFF] = { do_poweroff, false },
};

static int act(struct aconn *c, const struct wire_frame *f, union guest_any *m, struct err *e)
{
	const struct action *t = &actions[f->type];

	if (!t->fn) {
		return err_set(e, EPROTO, ERR_INVALID, "message %s is not for a guest",
			       guest_msgs[f->type].name);
	}
	if (!c->hello && f->type != GUEST_HELLO) {
		return err_set(e, EPROTO, ERR_INVALID, "the first message must be hello");
	}
	if (t->needs_setup && !c->agent->set_up) {
		return err_set(e, EPROTO, ERR_CONFLICT, "the machine is not set up");
	}
	return t->fn(c, f->serial, m, e);
}

static void on_frame(struct aconn *c, struct wire_frame *f)
{
	const struct wire_msg *t = guest_msg(f->type);
	union guest_any m;
	struct err e = ERR_INIT;
	int r;

	if (!t) {
		r = err_set(&e, ENOSYS, ERR_UNSUPPORTED, "message %u is not known here", f->type);
		wire_frame_fini(f);
	} else {
		r = wire_decode(t, f, &m, &e);
		r = r < 0 ? r : act(c, f, &m, &e);
		wire_msg_fini(t, &m);
	}
	if (r < 0) {
		agent_reply(c->agent, c->id, f->serial, &e, NULL, 0);
	}
}

static void on_conn(struct loop_fd *src, unsigned events, void *ud)
{
	struct aconn *c = ud;
	struct wire_frame f;
	int filled = 1, r = 0;

	(void)src;
	if (events & LOOP_OUT) {
		r = wire_conn_flush(&c->wire);
		if (r < 0 || (c->closing && !wire_conn_pending(&c->wire))) {
			conn_free(c);
			return;
		}
	}
	if (!c->closing && (events & (LOOP_IN | LOOP_HUP))) {
		filled = wire_conn_fill(&c->wire);
		while (!c->closing && (r = wire_conn_next(&c->wire, &f)) > 0) {
			on_frame(c, &f);
		}
		if (filled < 0 || r < 0) {
			conn_free(c);
			return;
		}
	}
	conn_watch(c);
}

static void on_accept(struct loop_fd *src, unsigned events, void *ud)
{
	struct agent *a = ud;
	auto_close int fd = sys_accept4(a->listen_fd, SOCK_NONBLOCK);

	(void)src;
	(void)events;
	if (fd < 0 || a->n_conns >= AGENT_CONNS_MAX) {
		return; /* closing says it */
	}
	struct aconn *c = mem_new(struct aconn);

	if (!c) {
		return;
	}
	c->agent = a;
	c->id = ++a->next_conn;
	if (loop_fd_new(a->loop, fd, LOOP_IN, on_conn, c, &c->ev) < 0) {
		free(c);
		return;
	}
	wire_conn_init(&c->wire, take_fd(&fd), GUEST_PROTO_VERSION);
	list_add_tail(&a->conns, &c->link);
	a->n_conns++;
}

static void on_reaped(pid_t pid, const struct loop_exit *exit, void *ud)
{
	session_reaped(ud, pid, exit);
}

static void on_sigchld(struct loop_signal *s, int signo, void *ud)
{
	struct agent *a = ud;

	(void)s;
	(void)signo;
	loop_reap(a->loop, on_reaped, a);
}

static int start(struct agent *a, struct err *e)
{
	int r = sys_mkdir_p(AT_FDCWD, a->conf->dir, 0700);

	a->dir_fd = r < 0 ? r : sys_openat(AT_FDCWD, a->conf->dir, O_RDONLY | O_DIRECTORY, 0);
	if (a->dir_fd < 0) {
		return err_set(e, -a->dir_fd, ERR_HOST, "cannot use the folder %s", a->conf->dir);
	}
	r = loop_new(&a->loop);
	r = r < 0 ? r : loop_signal_new(a->loop, SIGCHLD, on_sigchld, a, &a->sigchld);
	r = r < 0 ? r : loop_fd_new(a->loop, a->listen_fd, LOOP_IN, on_accept, a, &a->listen_ev);
	return r < 0 ? err_set(e, -r, ERR_HOST, "cannot make the event loop") : 0;
}

static void stop(struct agent *a)
{
	list_for_each_safe (struct session, x, &a->sessions, link) {
		session_free(x);
	}
	list_for_each_safe (struct aconn, c, &a->conns, link) {
		ignore_result(wire_conn_flush(&c->wire)); /* a last try */
		conn_free(c);
	}
	loop_fd_free(a->listen_ev);
	loop_signal_free(a->sigchld);
	loop_free(a->loop);
	fd_close(&a->listen_fd);
	fd_close(&a->dir_fd);
}

int agent_run(const struct agent_conf *conf, int own_listen_fd, struct err *e)
{
	struct agent *a = mem_new(struct agent);

	if (!a) {
		fd_close(&own_listen_fd);
		return err_nomem(e);
	}
	(void)signal(SIGPIPE, SIG_IGN); /* a known signal: cannot fail */
	a->conf = conf;
	a->listen_fd = own_listen_fd;
	a->dir_fd = -1;
	list_init(&a->conns);
	list_init(&a->sessions);
	int r = start(a, e);

	if (r == 0) {
		r = loop_run(a->loop);
		r = r < 0 ? err_set(e, -r, ERR_HOST, "the event loop failed") : 0;
	}
	stop(a);
	free(a);
	return r;
}
