/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The process that stands for one in the guest: streams go through it, signals too, and it
 * ends as the other did. It reads what a guest sends, so it has given up everything before.
 */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/fd.h"
#include "base/log.h"
#include "loop/pump.h"
#include "sys/file.h"
#include "sys/proc.h"
#include "vmrun/vmrun.h"

enum { LINGER_MS = 1000, OFF_MS = 5000 };

struct proxy {
	const char         *session;
	struct loop        *loop;
	struct guest_link  *link;
	struct loop_fd     *link_ev, *size_ev;
	struct pump        *pumps[3];
	struct loop_signal *signals[64];
	struct loop_timer  *timer;
	struct loop_child  *vmm;
	int                 terminal_fd, memory_fd;
	bool                exited;      /* the guest said so: */
	uint32_t            exit_code, exit_signal;
	bool                switching_off;
};

/* All that came has been passed on, or the patience is over: the machine goes off. */
static void finish(struct proxy *p)
{
	if (!p->vmm || p->switching_off) {
		loop_stop(p->loop);
		return;
	}
	const struct guest_empty off = { 0 };

	p->switching_off = true;
	loop_timer_start(p->timer, OFF_MS * NS_PER_MS);
	if (wire_conn_send(&p->link->conn, &guest_msgs[GUEST_POWEROFF], ++p->link->serial, &off) < 0) {
		loop_stop(p->loop);
	}
}

static void maybe_finish(struct proxy *p)
{
	/* Standard input may stay open: nobody reads it any more. */
	if (p->exited && !p->switching_off && !p->pumps[1] && !p->pumps[2]) {
		finish(p);
	}
}

static void on_pump(struct pump *pump, void *ud)
{
	struct proxy *p = ud;

	for (size_t i = 0; i < ARRAY_LEN(p->pumps); i++) {
		if (p->pumps[i] == pump) {
			p->pumps[i] = pump_free(pump);
		}
	}
	maybe_finish(p);
}

static void on_timer(struct loop_timer *t, void *ud)
{
	(void)t;
	finish(ud);
}

static void on_vmm(struct loop_child *c, const struct loop_exit *x, void *ud)
{
	struct proxy *p = ud;

	(void)x;
	p->vmm = loop_child_free(c);
	if (!p->exited) { /* the machine died under it */
		p->exited = true;
		p->exit_code = 255;
		log_error("the virtual machine ended before its container");
	}
	loop_stop(p->loop);
}

/* Whoever waits for our end finds it then. */
static void tell_oom(const struct proxy *p)
{
	static const char text[] = "oom_kill 1\n";

	if (p->memory_fd >= 0 && sys_write_full(p->memory_fd, text, strlen(text)) < 0) {
		log_warn("that memory was out cannot be written down");
	}
}

static void on_exited(struct proxy *p, const struct guest_exited *m)
{
	if (p->exited || !str_eq(m->session, p->session)) {
		return;
	}
	p->exited = true;
	p->exit_code = m->exit_code;
	p->exit_signal = m->signal;
	if (m->oom) {
		tell_oom(p);
	}
	loop_timer_start(p->timer, LINGER_MS * NS_PER_MS); /* someone else may hold its streams */
	maybe_finish(p);
}

static void on_link(struct loop_fd *src, unsigned events, void *ud)
{
	struct proxy *p = ud;
	int filled = wire_conn_fill(&p->link->conn), r = 0;
	struct wire_frame f;

	(void)src;
	(void)events;
	while (filled >= 0 && (r = wire_conn_next(&p->link->conn, &f)) > 0) {
		struct guest_exited m;
		struct err e = ERR_INIT;

		if (f.type != GUEST_EXITED) {
			wire_frame_fini(&f); /* the answer to a signal */
			continue;
		}
		if (wire_decode(&guest_msgs[GUEST_EXITED], &f, &m, &e) == 0) {
			on_exited(p, &m);
		}
		wire_msg_fini(&guest_msgs[GUEST_EXITED], &m);
	}
	if (filled < 0 || r < 0) { /* the guest is gone; the monitor's end says the rest */
		p->link_ev = loop_fd_free(p->link_ev);
		if (!p->vmm) {
			p->exit_code = p->exited ? p->exit_code : 255;
			loop_stop(p->loop);
		}
	}
}

static void tell(struct proxy *p, enum guest_msg_type type, const void *msg)
{
	if (wire_conn_send(&p->link->conn, &guest_msgs[type], ++p->link->serial, msg) < 0) {
		log_warn("the guest cannot be told", "message", guest_msgs[type].name);
	}
}

/* The terminal's size, which whoever holds its other end has set. */
static void tell_size(struct proxy *p)
{
	struct winsize w;
	struct guest_resize m = { .session = (char *)(uintptr_t)p->session };

	if (p->terminal_fd >= 0 && sys_ioctl(p->terminal_fd, TIOCGWINSZ, &w) == 0 && w.ws_row &&
	    w.ws_col) {
		m.rows = w.ws_row;
		m.cols = w.ws_col;
		tell(p, GUEST_RESIZE, &m);
	}
}

static void on_signal(struct loop_signal *s, int signo, void *ud)
{
	struct proxy *p = ud;
	struct guest_signal m = { .session = (char *)(uintptr_t)p->session,
				  .signal = (uint32_t)signo };

	(void)s;
	if (signo == SIGWINCH && p->terminal_fd >= 0) {
		tell_size(p);
	} else if (!p->exited) {
		tell(p, GUEST_SIGNAL, &m);
	}
}

/* Not those by which the kernel tells a program of its own faults, nor of its children. */
static bool is_forwarded(int signo)
{
	static const int own[] = { SIGKILL, SIGSTOP, SIGCHLD, SIGSEGV, SIGBUS, SIGILL, SIGFPE,
				   SIGABRT, SIGTRAP, SIGSYS, SIGPIPE, SIGTTIN, SIGTTOU, SIGTSTP };

	for (size_t i = 0; i < ARRAY_LEN(own); i++) {
		if (signo == own[i]) {
			return false;
		}
	}
	return signo < 32 || signo > 33; /* libc's own */
}

static int watch(struct proxy *p, pid_t vmm, struct err *e)
{
	int r = sys_fcntl(p->link->conn.fd, F_SETFL, O_RDWR | O_NONBLOCK);

	r = r < 0 ? r : loop_fd_new(p->loop, p->link->conn.fd, LOOP_IN, on_link, p, &p->link_ev);
	r = r < 0 ? r : loop_timer_new(p->loop, on_timer, p, &p->timer);
	for (int i = 1; r == 0 && i < 64; i++) {
		if (is_forwarded(i)) {
			r = loop_signal_new(p->loop, i, on_signal, p, &p->signals[i]);
		}
	}
	if (r == 0 && vmm) {
		r = loop_child_watch(p->loop, vmm, on_vmm, p, &p->vmm);
	}
	return r < 0 ? err_set(e, -r, ERR_HOST, "the proxy of a virtual machine") : 0;
}

static int carry(struct proxy *p, struct proxy_conf *c, struct err *e)
{
	int r = 0;

	if (p->terminal_fd >= 0) {
		int in = sys_dup(p->terminal_fd), out = sys_dup(p->terminal_fd);
		int back = sys_dup(c->streams[0]);

		r = in < 0 || out < 0 || back < 0 ? -EMFILE :
		    pump_new(p->loop, in, take_fd(&c->streams[0]), on_pump, p, &p->pumps[0]);
		r = r < 0 ? r : pump_new(p->loop, back, out, on_pump, p, &p->pumps[1]);
	} else {
		static const int ours[3] = { STDIN_FILENO, STDOUT_FILENO, STDERR_FILENO };

		for (int i = 0; r == 0 && i < 3; i++) {
			int mine = sys_dup(ours[i]), theirs = take_fd(&c->streams[i]);

			r = mine < 0 ? mine :
			    pump_new(p->loop, i == 0 ? mine : theirs, i == 0 ? theirs : mine, on_pump, p,
				     &p->pumps[i]);
		}
	}
	return r < 0 ? err_set(e, -r, ERR_HOST, "the streams of a virtual machine") : 0;
}

static void fini(struct proxy *p)
{
	for (size_t i = 0; i < ARRAY_LEN(p->pumps); i++) {
		pump_free(p->pumps[i]);
	}
	for (size_t i = 0; i < ARRAY_LEN(p->signals); i++) {
		loop_signal_free(p->signals[i]);
	}
	loop_fd_free(p->link_ev);
	loop_timer_free(p->timer);
	loop_child_free(p->vmm);
	loop_free(p->loop);
	link_close(p->link);
	fd_close(&p->terminal_fd);
	fd_close(&p->memory_fd);
}

/* As the other one did: by the same signal, without a second core file. */
static int end_as(uint32_t code, uint32_t signo)
{
	const struct rlimit none = { 0, 0 };

	if (signo > 0 && signo < 64) {
		sys_reset_signals();
		ignore_result(sys_prlimit(0, RLIMIT_CORE, &none, NULL)); /* then with a file */
		ignore_result(sys_kill(getpid(), (int)signo)); /* one that ends nothing: see below */
	}
	return (int)code;
}

int proxy_run(struct proxy_conf *own, struct err *e)
{
	struct proxy p = { .session = own->session, .link = &own->link,
			   .terminal_fd = own->terminal_fd, .memory_fd = own->memory_fd };
	int r = loop_new(&p.loop);

	(void)signal(SIGPIPE, SIG_IGN); /* a known signal: cannot fail */
	r = r < 0 ? err_set(e, -r, ERR_HOST, "the event loop") : watch(&p, own->vmm, e);
	r = r < 0 ? r : carry(&p, own, e);
	if (r == 0) {
		tell_size(&p);
		r = loop_run(p.loop);
		r = r < 0 ? err_set(e, -r, ERR_HOST, "the event loop") : 0;
	}
	fini(&p);
	for (size_t i = 0; i < ARRAY_LEN(own->streams); i++) {
		fd_close(&own->streams[i]);
	}
	return r < 0 ? r : end_as(p.exit_code, p.exit_signal);
}
