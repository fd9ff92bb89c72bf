/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A process with its streams. Output goes to the log first, then to every client; while a
 * client has no room nothing more is read, and the process waits on its pipe.
 */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/wait.h>
#include <termios.h>

#include "base/clock.h"
#include "base/fd.h"
#include "shim/shim.h"
#include "sys/file.h"
#include "sys/socket.h"

/* As much as a pipe can hold. */
enum { REST_CHUNKS = (1 << 20) / SHIM_CHUNK };

static void linger_over(struct ev_timer *t);

void session_init(struct session *x, struct shim *s)
{
	*x = (struct session){ .shim = s, .console_fd = -1, .theirs = { -1, -1, -1 },
			       .in_ring = RING_INIT(SHIM_STDIN_RING) };
	struct chan *all[] = { &x->in, &x->out, &x->err };

	list_init(&x->link);
	list_init(&x->clients);
	for (size_t i = 0; i < ARRAY_LEN(all); i++) {
		all[i]->session = x;
		all[i]->fd = -1;
	}
	x->linger.fn = linger_over;
}

static void chan_close(struct chan *c)
{
	ev_fd_stop(&c->session->shim->loop, &c->ev);
	fd_close(&c->fd);
}

static void close_theirs(struct session *x)
{
	for (size_t i = 0; i < ARRAY_LEN(x->theirs); i++) {
		fd_close(&x->theirs[i]);
	}
}

/* Once the process has ended and nothing more comes from it, clients get its status. */
static void maybe_ended(struct session *x)
{
	if (x->ended || !x->exit.done || x->out.fd >= 0 || x->err.fd >= 0) {
		return;
	}
	x->ended = true;
	ev_timer_stop(&x->linger);
	chan_close(&x->in);
	ring_reset(&x->in_ring);
	client_end(x, (int32_t)x->exit.code);
}

/* One part of the output. False: there is nothing now, or nobody has room for it. */
static bool read_output(struct chan *c)
{
	static char chunk[SHIM_CHUNK];
	struct session *x = c->session;

	if (client_full(x)) {
		ev_fd_stop(&x->shim->loop, &c->ev); /* session_resume_output() starts it again */
		return false;
	}
	ssize_t n = sys_read(c->fd, chunk, sizeof(chunk));

	if (n == -EAGAIN) {
		return false;
	}
	if (n <= 0) { /* EIO: nobody has the terminal open any more */
		chan_close(c);
		maybe_ended(x);
		return false;
	}
	bool is_err = c == &x->err;

	if (!x->name) {
		ilog_write(&x->shim->log, is_err ? ILOG_STDERR : ILOG_STDOUT, chunk, (size_t)n,
			   clock_wall_ns());
	}
	client_output(x, is_err ? SHIM_STDERR : SHIM_STDOUT, chunk, (size_t)n);
	if (client_full(x)) {
		ev_fd_stop(&x->shim->loop, &c->ev);
	}
	return true;
}

static void on_output(struct ev_fd *ev, uint32_t events)
{
	(void)events;
	(void)read_output(container_of(ev, struct chan, ev)); /* the loop comes back if there is more */
}

/*
 * What the process wrote before it ended stands in its pipes: it is in the log before anyone
 * hears of the end. Others may go on writing, so this has a bound.
 */
static void read_rest(struct chan *c)
{
	for (unsigned i = 0; i < REST_CHUNKS && c->fd >= 0 && read_output(c); i++) {
	}
}

static void start_output(struct chan *c)
{
	if (c->fd < 0) {
		return;
	}
	c->ev.fn = on_output;
	if (ev_fd_start(&c->session->shim->loop, &c->ev, c->fd, EPOLLIN) < 0) {
		chan_close(c); /* the kernel refuses to watch it: the stream is lost */
	}
}

void session_resume_output(struct session *x)
{
	if (!client_full(x)) {
		start_output(&x->out);
		start_output(&x->err);
	}
}

/* No end of the stream after the end of the process: someone else holds it open. */
static void linger_over(struct ev_timer *t)
{
	struct session *x = container_of(t, struct session, linger);

	if (client_full(x)) {
		ev_timer_start(&x->shim->loop, t, SHIM_LINGER_MS * NS_PER_MS);
		return;
	}
	chan_close(&x->out);
	chan_close(&x->err);
	maybe_ended(x);
}

static void drain_input(struct session *x)
{
	int r = ring_drain(&x->in_ring, x->in.fd);

	if (r < 0 || (x->in_ring.len == 0 && x->in_eof)) {
		chan_close(&x->in);
		ring_reset(&x->in_ring);
	} else if (x->in_ring.len == 0) {
		ev_fd_stop(&x->shim->loop, &x->in.ev);
	} else if (ev_fd_start(&x->shim->loop, &x->in.ev, x->in.fd, EPOLLOUT) < 0) {
		chan_close(&x->in);
	}
	client_input_room(x);
}

static void on_input_room(struct ev_fd *ev, uint32_t events)
{
	(void)events;
	drain_input(container_of(ev, struct chan, ev)->session);
}

void session_input(struct session *x, const void *data, size_t n)
{
	if (x->in_eof || (x->in.fd < 0 && x->running)) {
		return; /* nobody reads it */
	}
	if (ring_put(&x->in_ring, data, n) < 0) {
		client_message(x, "input was lost: out of memory");
	} else if (x->in.fd >= 0) {
		x->in.ev.fn = on_input_room;
		drain_input(x);
	}
}

void session_close_input(struct session *x)
{
	if (x->terminal) {
		struct termios t;
		char end = 4; /* ^D */

		if (x->in.fd >= 0 && tcgetattr(x->in.fd, &t) == 0) {
			end = (char)t.c_cc[VEOF];
		}
		if (ring_room(&x->in_ring) > 0) {
			session_input(x, &end, 1);
		}
		return;
	}
	x->in_eof = true;
	if (x->in.fd >= 0) {
		drain_input(x);
	}
}

int session_resize(struct session *x, uint32_t rows, uint32_t cols)
{
	struct winsize w = { .ws_row = (unsigned short)rows, .ws_col = (unsigned short)cols };

	if (!x->terminal) {
		return -ENOTTY;
	}
	return x->out.fd < 0 ? -ENOENT : sys_ioctl(x->out.fd, TIOCSWINSZ, &w);
}

/* A pipe of which the shim's end, `ours` of the two, does not block. */
static int open_pipe(struct chan *c, int ours, int *ret_theirs)
{
	int p[2];
	int r = sys_pipe2(p, 0);

	if (r < 0) {
		return r;
	}
	c->fd = p[ours];
	*ret_theirs = p[!ours];
	return sys_fcntl(c->fd, F_SETFL, O_NONBLOCK);
}

int session_open(struct session *x, const char *console_name, struct err *e)
{
	int r = 0;

	if (x->terminal) {
		x->console_fd = sock_listen_at(x->shim->dir_fd, console_name, SOCK_NONBLOCK);
		if (x->console_fd < 0) {
			return err_set(e, -x->console_fd, ERR_HOST,
				       "cannot listen for the terminal at %s/%s",
				       x->shim->conf.dir, console_name);
		}
		return 0;
	}
	if (x->open_stdin) {
		r = open_pipe(&x->in, 1, &x->theirs[0]);
	}
	r = r < 0 ? r : open_pipe(&x->out, 0, &x->theirs[1]);
	r = r < 0 ? r : open_pipe(&x->err, 0, &x->theirs[2]);
	return r < 0 ? err_set(e, -r, ERR_HOST, "cannot make pipes") : 0;
}

/* The runtime has ended, so what it sent is in the socket's queue: this does not block. */
int session_take_console(struct session *x, uint32_t rows, uint32_t cols, struct err *e)
{
	char name[256];
	size_t n_fds = 0;
	int master = -1;
	auto_close int conn = sys_accept4(x->console_fd, SOCK_NONBLOCK);
	ssize_t r = conn < 0 ? conn : sock_recv_fds(conn, name, sizeof(name), &master, 1, &n_fds);

	fd_close(&x->console_fd);
	if (r < 0 || n_fds != 1) {
		return err_set(e, r < 0 ? (int)-r : EBADMSG, ERR_HOST,
			       "the runtime handed over no terminal; does the process ask for one?");
	}
	x->out.fd = master;
	x->in.fd = sys_dup(master);
	r = x->in.fd < 0 ? x->in.fd : sys_fcntl(master, F_SETFL, O_RDWR | O_NONBLOCK);
	if (r < 0) {
		return err_set(e, (int)-r, ERR_HOST, "cannot set up the terminal");
	}
	if (rows > 0 && cols > 0) {
		ignore_result(session_resize(x, rows, cols)); /* a terminal without a size works */
	}
	return 0;
}

void session_started(struct session *x, pid_t pid)
{
	x->pid = pid;
	x->running = true;
	x->started_ns = clock_wall_ns();
	close_theirs(x);
	session_resume_output(x);
	if (x->in.fd >= 0 && (x->in_ring.len > 0 || x->in_eof)) {
		x->in.ev.fn = on_input_room;
		drain_input(x);
	} else if (x->in.fd < 0) {
		ring_reset(&x->in_ring); /* came before anyone knew that nobody reads it */
		client_input_room(x);
	}
}

void session_exited(struct session *x, int wait_status)
{
	read_rest(&x->out);
	read_rest(&x->err);
	x->pid = 0;
	x->exit.done = true;
	x->exit.exited_ns = clock_wall_ns();
	if (WIFSIGNALED(wait_status)) {
		x->exit.signal = (uint32_t)WTERMSIG(wait_status);
		x->exit.code = 128 + x->exit.signal;
	} else {
		x->exit.code = (uint32_t)WEXITSTATUS(wait_status);
	}
	ev_timer_start(&x->shim->loop, &x->linger, SHIM_LINGER_MS * NS_PER_MS);
	maybe_ended(x);
}

void session_fail(struct session *x, const char *message, enum shim_reason reason)
{
	close_theirs(x);
	fd_close(&x->console_fd);
	chan_close(&x->in);
	chan_close(&x->out);
	chan_close(&x->err);
	ring_reset(&x->in_ring);
	x->ended = true;
	x->exit.code = shim_reason_exit_code(reason);
	client_message(x, message);
	client_end(x, (int32_t)x->exit.code);
}

void session_fini(struct session *x)
{
	client_drop_all(x);
	ev_timer_stop(&x->linger);
	close_theirs(x);
	fd_close(&x->console_fd);
	chan_close(&x->in);
	chan_close(&x->out);
	chan_close(&x->err);
	ring_reset(&x->in_ring);
	free(x->name);
	x->name = NULL;
}
