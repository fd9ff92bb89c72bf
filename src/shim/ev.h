/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The shim's event loop: epoll, timers, and nothing else.
 *
 * One event is taken from the kernel at a time, so a callback may end and free any source,
 * its own included, and no stale event follows. In a turn: due timers first, then one
 * descriptor. The clock is read once a turn.
 *
 * Sources are embedded in their owners; ev_fd_stop() and ev_timer_stop() may be called on
 * sources that are not started. Context: one thread.
 */
#ifndef SHIM_EV_H
#define SHIM_EV_H

#include <sys/epoll.h>

#include "base/def.h"
#include "base/list.h"

struct ev_loop {
	int         epoll_fd;
	uint64_t    now_ns;   /* monotonic, of this turn */
	struct list timers;   /* earliest first */
	bool        stop;     /* set by a callback: ev_run() returns */
};

struct ev_fd {
	int      fd;          /* borrowed; valid while started */
	uint32_t events;      /* EPOLLIN, EPOLLOUT that are waited for */
	bool     started;
	void   (*fn)(struct ev_fd *s, uint32_t events);
};

struct ev_timer {
	struct list link;     /* linked while started */
	uint64_t    due_ns;
	bool        started;
	void      (*fn)(struct ev_timer *t);
};

int  ev_init(struct ev_loop *l) must_check;
void ev_fini(struct ev_loop *l);

/* Until l->stop is set. 0 or -errno. */
int ev_run(struct ev_loop *l) must_check;

/* One turn, waiting at most so many milliseconds (-1: no bound). 0 or -errno. */
int ev_turn(struct ev_loop *l, int max_ms) must_check;

/* Wait on a descriptor; with no events it stays known but silent (hang-ups are told, too, so
 * a source that must be silent is stopped). Changing events of a started source is free if
 * they are the same. */
int  ev_fd_start(struct ev_loop *l, struct ev_fd *s, int fd, uint32_t events) must_check;
void ev_fd_stop(struct ev_loop *l, struct ev_fd *s);

/* Starts it again if it runs. */
void ev_timer_start(struct ev_loop *l, struct ev_timer *t, uint64_t after_ns);
void ev_timer_stop(struct ev_timer *t);

#endif
