/* SPDX-License-Identifier: Apache-2.0 */
#include "container/foreground.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <termios.h>
#include <unistd.h>

#include "base/fd.h"
#include "sys/file.h"
#include "sys/proc.h"

/* One direction: what was read and not yet written. */
struct flow {
	int    from, to;     /* -1: this end is closed */
	char   data[4096];   /* at most PIPE_BUF, so that a writable pipe takes all of it */
	size_t start, len;
};

struct pump {
	struct flow    in, out;
	int            master_fd;
	bool           raw;
	struct termios saved;
};

int foreground_init(struct foreground *fg, bool reap, struct err *e)
{
	sigset_t set;
	int r = reap ? sys_prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) : 0;

	fg->signal_fd = -1;
	if (r < 0) {
		return err_set(e, -r, ERR_HOST, "cannot become a sub-reaper");
	}
	sigfillset(&set);
	/* Faults of our own, and what stops and continues us, keep their meaning. */
	sigdelset(&set, SIGSEGV);
	sigdelset(&set, SIGBUS);
	sigdelset(&set, SIGILL);
	sigdelset(&set, SIGFPE);
	sigdelset(&set, SIGABRT);
	sigdelset(&set, SIGTSTP);
	if (sigprocmask(SIG_BLOCK, &set, &fg->old_mask) < 0) {
		return err_set(e, errno, ERR_HOST, "cannot block signals");
	}
	fg->signal_fd = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
	if (fg->signal_fd < 0) {
		r = err_set(e, errno, ERR_HOST, "cannot receive signals");
		sigprocmask(SIG_SETMASK, &fg->old_mask, NULL);
	}
	return r;
}

void foreground_fini(struct foreground *fg)
{
	if (fg->signal_fd >= 0) {
		fd_close(&fg->signal_fd);
		sigprocmask(SIG_SETMASK, &fg->old_mask, NULL);
	}
}

static void copy_size(int master_fd)
{
	struct winsize ws;

	if (ioctl(0, TIOCGWINSZ, &ws) == 0) {
		ignore_result(sys_ioctl(master_fd, TIOCSWINSZ, &ws)); /* only looks */
	}
}

static void pump_init(struct pump *p, int master_fd)
{
	*p = (struct pump){ .in = { .from = -1, .to = -1 }, .out = { .from = -1, .to = -1 },
			    .master_fd = master_fd };
	if (master_fd < 0) {
		return;
	}
	ignore_result(sys_fcntl(master_fd, F_SETFL, O_NONBLOCK)); /* it can only block a while */
	p->in.from = 0;
	p->in.to = p->out.from = master_fd;
	p->out.to = 1;
	if (tcgetattr(0, &p->saved) == 0) {
		struct termios raw = p->saved;

		cfmakeraw(&raw);
		p->raw = tcsetattr(0, TCSANOW, &raw) == 0;
		copy_size(master_fd);
	}
}

static void pump_fini(struct pump *p)
{
	if (p->raw) {
		(void)tcsetattr(0, TCSANOW, &p->saved); /* nothing else to do */
	}
}

/* What to wait for on a flow: room first, then more. */
static void flow_poll(const struct flow *f, struct pollfd *from, struct pollfd *to)
{
	*from = (struct pollfd){ .fd = f->len == 0 && f->to >= 0 ? f->from : -1, .events = POLLIN };
	*to = (struct pollfd){ .fd = f->len > 0 ? f->to : -1, .events = POLLOUT };
}

static void flow_move(struct flow *f, const struct pollfd *from, const struct pollfd *to)
{
	if (to->revents) {
		ssize_t n = sys_write(f->to, f->data + f->start, f->len);

		if (n > 0) {
			f->start += (size_t)n;
			f->len -= (size_t)n;
		} else if (n < 0 && n != -EAGAIN) {
			f->to = -1;
			f->len = 0;
		}
	}
	if (from->revents) {
		ssize_t n = sys_read(f->from, f->data, sizeof(f->data));

		if (n > 0) {
			f->start = 0;
			f->len = (size_t)n;
		} else if (n != -EAGAIN) {
			f->from = -1; /* the end, or EIO: no one has the terminal open */
		}
	}
}

/* What the terminal still holds after the process's end. */
static void drain(struct pump *p)
{
	while (p->master_fd >= 0 && p->out.to >= 0) {
		if (p->out.len > 0) {
			ignore_result(sys_write_full(1, p->out.data + p->out.start, p->out.len));
			p->out.len = 0; /* with standard output gone, nobody reads it */
		}
		ssize_t n = sys_read(p->master_fd, p->out.data, sizeof(p->out.data));

		if (n <= 0) {
			return;
		}
		p->out.start = 0;
		p->out.len = (size_t)n;
	}
}

/* Reaps what there is. 1 with *ret_status when it was the child. */
static int reap(const struct spawned *child, int *ret_status, struct err *e)
{
	for (;;) {
		siginfo_t si = { .si_pid = 0 };
		int r = sys_waitid(P_ALL, 0, &si, WEXITED | WNOHANG);

		if (r < 0) {
			return err_set(e, -r, ERR_HOST, "cannot wait for the container's process");
		}
		if (si.si_pid == 0) {
			return 0;
		}
		if (si.si_pid == child->pid) {
			*ret_status = proc_exit_status(&si);
			return 1;
		}
	}
}

static int on_signal(struct foreground *fg, struct pump *p, struct spawned *child, int *ret_status,
		     struct err *e)
{
	struct signalfd_siginfo si;

	if (sys_read(fg->signal_fd, &si, sizeof(si)) != (ssize_t)sizeof(si)) {
		return 0;
	}

	int sig = (int)si.ssi_signo;

	if (sig == SIGCHLD) {
		return reap(child, ret_status, e);
	}
	if (sig == SIGWINCH && p->master_fd >= 0) {
		copy_size(p->master_fd);
	} else if (sig != SIGPIPE && sig != SIGURG && sig != SIGTTOU && sig != SIGTTIN) {
		ignore_result(sys_pidfd_send_signal(child->pidfd, sig)); /* it may just be gone */
	}
	return 0;
}

static int loop(struct foreground *fg, struct pump *p, struct spawned *child, int *ret_status,
		struct err *e)
{
	int r = reap(child, ret_status, e); /* before any SIGCHLD that is still to come */

	while (r == 0) {
		struct pollfd fds[5] = { { .fd = fg->signal_fd, .events = POLLIN } };

		flow_poll(&p->in, &fds[1], &fds[2]);
		flow_poll(&p->out, &fds[3], &fds[4]);
		if (poll(fds, ARRAY_LEN(fds), -1) < 0) {
			continue;
		}
		flow_move(&p->in, &fds[1], &fds[2]);
		flow_move(&p->out, &fds[3], &fds[4]);
		if (fds[0].revents) {
			r = on_signal(fg, p, child, ret_status, e);
		}
	}
	return r;
}

int foreground_wait(struct foreground *fg, struct spawned *child, int master_fd, struct err *e)
{
	struct pump p;
	int status = 0;

	pump_init(&p, master_fd);

	int r = loop(fg, &p, child, &status, e);

	if (r > 0) {
		drain(&p);
		child->pid = 0; /* reaped */
	}
	pump_fini(&p);
	return r < 0 ? r : status;
}
