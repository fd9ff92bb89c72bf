/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The loop of the kernel: epoll, signalfd and pidfds. docs/decisions says why not libuv.
 */
#include <errno.h>
#include <sys/epoll.h>
#include <sys/signalfd.h>

#include "base/clock.h"
#include "base/fd.h"
#include "base/mem.h"
#include "loop/backend.h"
#include "sys/file.h"
#include "sys/proc.h"
#include "sys/socket.h"

enum { EVENTS_PER_WAIT = 32 };

struct epoll_loop {
	struct loop loop;
	int         fd;
};

static struct epoll_loop *of(struct loop *l)
{
	return container_of(l, struct epoll_loop, loop);
}

static void ep_clock(struct loop *l)
{
	l->now_ns = clock_now_ns();
	l->wall_ns = clock_wall_ns();
}

/* Rounded up: a timer must not find itself a little too early. */
static int wait_ms(uint64_t ns)
{
	return ns == UINT64_MAX ? -1 :
	       (int)MIN((ns + NS_PER_MS - 1) / NS_PER_MS, (uint64_t)INT32_MAX);
}

static unsigned from_epoll(uint32_t ev)
{
	return (ev & EPOLLIN ? LOOP_IN : 0u) | (ev & EPOLLOUT ? LOOP_OUT : 0u) |
	       (ev & EPOLLPRI ? LOOP_PRI : 0u) |
	       (ev & (EPOLLERR | EPOLLHUP | EPOLLRDHUP) ? LOOP_HUP : 0u);
}

static struct epoll_event to_epoll(struct loop_fd *src)
{
	return (struct epoll_event){
		.events = (src->events & LOOP_IN ? (uint32_t)EPOLLIN : 0) |
			  (src->events & LOOP_OUT ? (uint32_t)EPOLLOUT : 0) |
			  (src->events & LOOP_PRI ? (uint32_t)EPOLLPRI : 0),
		.data.ptr = src,
	};
}

static int ep_wait(struct loop *l, uint64_t timeout_ns)
{
	struct epoll_event ev[EVENTS_PER_WAIT];
	int n = epoll_wait(of(l)->fd, ev, EVENTS_PER_WAIT, wait_ms(timeout_ns));
	int calls = 0;

	if (n < 0) {
		return errno == EINTR ? 0 : -errno;
	}
	if (n > 0) {
		loop__guard(l, true);
	}
	for (int i = 0; i < n; i++) {
		calls += loop__fd_call(ev[i].data.ptr, from_epoll(ev[i].events));
	}
	if (n > 0) {
		loop__guard(l, false);
	}
	return calls;
}

static int ep_fd_add(struct loop *l, struct loop_fd *src)
{
	struct epoll_event ev = to_epoll(src);

	return src->events ? sys_epoll_ctl(of(l)->fd, EPOLL_CTL_ADD, src->fd, &ev) : 0;
}

/*
 * With no events the kernel would still report a hang-up, again and again: such a descriptor
 * is taken out instead. Our callers know the old set only through src->events, so try both.
 */
static int ep_fd_mod(struct loop *l, struct loop_fd *src)
{
	struct epoll_event ev = to_epoll(src);

	if (!src->events) {
		return sys_epoll_ctl(of(l)->fd, EPOLL_CTL_DEL, src->fd, NULL);
	}
	int r = sys_epoll_ctl(of(l)->fd, EPOLL_CTL_MOD, src->fd, &ev);

	return r == -ENOENT ? sys_epoll_ctl(of(l)->fd, EPOLL_CTL_ADD, src->fd, &ev) : r;
}

static void ep_fd_del(struct loop *l, struct loop_fd *src)
{
	if (src->events) {
		ignore_result(sys_epoll_ctl(of(l)->fd, EPOLL_CTL_DEL, src->fd, NULL));
		/* fails only if the caller closed it first, which took it out as well */
	}
}

static void on_signal(struct loop_fd *src, unsigned events, void *ud)
{
	struct loop_signal *s = ud;
	struct signalfd_siginfo si;

	(void)events;
	if (sys_read(loop_fd_fd(src), &si, sizeof(si)) == (ssize_t)sizeof(si)) {
		s->fn(s, (int)si.ssi_signo, s->ud);
	}
}

static int ep_signal_add(struct loop *l, struct loop_signal *s)
{
	sigset_t set;

	sigemptyset(&set);
	sigaddset(&set, s->signo);
	if (sigprocmask(SIG_BLOCK, &set, NULL) < 0) {
		return -errno;
	}
	int fd = sys_signalfd(-1, &set, SFD_NONBLOCK);

	if (fd < 0) {
		return fd;
	}
	int r = loop_fd_new(l, fd, LOOP_IN, on_signal, s, &s->src);

	if (r < 0) {
		fd_close(&fd);
		return r;
	}
	s->fd = fd;
	return 0;
}

static void ep_signal_del(struct loop *l, struct loop_signal *s)
{
	(void)l;
	s->src = loop_fd_free(s->src);
	fd_close(&s->fd);
}

static void ep_fini(struct loop *l)
{
	fd_close(&of(l)->fd);
}

static const struct loop_ops epoll_ops = {
	.clock = ep_clock,
	.wait = ep_wait,
	.fd_add = ep_fd_add,
	.fd_mod = ep_fd_mod,
	.fd_del = ep_fd_del,
	.signal_add = ep_signal_add,
	.signal_del = ep_signal_del,
	.spawn = loop__spawn,
	.watch = loop__watch,
	.kill = loop__kill,
	.child_del = loop__child_del,
	.fini = ep_fini,
};

int loop_new(struct loop **ret)
{
	struct epoll_loop *l = mem_new(struct epoll_loop);

	if (!l) {
		return -ENOMEM;
	}
	l->fd = sys_epoll_create();
	int r = l->fd < 0 ? l->fd : loop__init(&l->loop, &epoll_ops);

	if (r < 0) {
		fd_close(&l->fd);
		free(l);
		return r;
	}
	*ret = &l->loop;
	return 0;
}
