/* SPDX-License-Identifier: Apache-2.0 */
#include "shim/ev.h"

#include <errno.h>

#include "base/clock.h"
#include "base/fd.h"
#include "sys/socket.h"

int ev_init(struct ev_loop *l)
{
	*l = (struct ev_loop){ .epoll_fd = sys_epoll_create(), .now_ns = clock_now_ns() };
	list_init(&l->timers);
	return l->epoll_fd < 0 ? l->epoll_fd : 0;
}

void ev_fini(struct ev_loop *l)
{
	fd_close(&l->epoll_fd);
}

static void run_timers(struct ev_loop *l)
{
	while (!list_empty(&l->timers) && !l->stop) {
		struct ev_timer *t = list_entry(l->timers.next, struct ev_timer, link);

		if (t->due_ns > l->now_ns) {
			return;
		}
		ev_timer_stop(t);
		t->fn(t);
	}
}

/* Milliseconds until the first timer, rounded up; -1: none. */
static int timeout_ms(const struct ev_loop *l)
{
	if (list_empty(&l->timers)) {
		return -1;
	}
	const struct ev_timer *t = list_entry(l->timers.next, struct ev_timer, link);

	if (t->due_ns <= l->now_ns) {
		return 0;
	}
	return (int)MIN((t->due_ns - l->now_ns + NS_PER_MS - 1) / NS_PER_MS, UINT64_C(3600000));
}

int ev_turn(struct ev_loop *l, int max_ms)
{
	struct epoll_event e;

	l->now_ns = clock_now_ns();
	run_timers(l);
	if (l->stop) {
		return 0;
	}
	int ms = timeout_ms(l);
	int n = epoll_wait(l->epoll_fd, &e, 1, max_ms >= 0 && (ms < 0 || ms > max_ms) ? max_ms : ms);

	if (n < 0 && errno != EINTR) {
		return -errno;
	}
	if (n > 0) {
		struct ev_fd *s = e.data.ptr;

		l->now_ns = clock_now_ns();
		s->fn(s, e.events);
	}
	return 0;
}

int ev_run(struct ev_loop *l)
{
	int r = 0;

	while (r == 0 && !l->stop) {
		r = ev_turn(l, -1);
	}
	return r;
}

int ev_fd_start(struct ev_loop *l, struct ev_fd *s, int fd, uint32_t events)
{
	struct epoll_event e = { .events = events, .data.ptr = s };

	if (s->started && s->fd == fd && s->events == events) {
		return 0;
	}
	int r = sys_epoll_ctl(l->epoll_fd, s->started ? EPOLL_CTL_MOD : EPOLL_CTL_ADD, fd, &e);

	if (r == 0) {
		s->fd = fd;
		s->events = events;
		s->started = true;
	}
	return r;
}

void ev_fd_stop(struct ev_loop *l, struct ev_fd *s)
{
	if (s->started) {
		/* It can only fail for a descriptor that is not known, and then it is silent. */
		ignore_result(sys_epoll_ctl(l->epoll_fd, EPOLL_CTL_DEL, s->fd, NULL));
		s->started = false;
	}
}

void ev_timer_start(struct ev_loop *l, struct ev_timer *t, uint64_t after_ns)
{
	struct list *at = &l->timers;

	ev_timer_stop(t);
	t->due_ns = l->now_ns + after_ns;
	list_for_each (struct ev_timer, other, &l->timers, link) {
		if (other->due_ns > t->due_ns) {
			at = &other->link;
			break;
		}
	}
	list_add_tail(at, &t->link); /* before `at` */
	t->started = true;
}

void ev_timer_stop(struct ev_timer *t)
{
	if (t->started) {
		list_del(&t->link);
		t->started = false;
	}
}
