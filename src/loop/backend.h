/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Private to loop/: what a loop is made of, and what a kind of loop must provide.
 */
#ifndef LOOP_BACKEND_H
#define LOOP_BACKEND_H

#include "loop/loop.h"

/* The start of every source. */
struct loop_source {
	struct loop *loop;
	struct list  link;    /* in loop->dead once freed during a turn */
	bool         dead;
};

struct loop_fd {
	struct loop_source source;
	int                fd;
	unsigned           events;
	loop_fd_fn         fn;
	void              *ud;
	struct list        sim_link;   /* of a simulated loop */
};

struct loop_timer {
	struct loop_source source;
	uint64_t           due_ns;
	uint64_t           seq;       /* order among equal times */
	size_t             slot;      /* in loop->timers, from 1; 0: not started */
	loop_timer_fn      fn;
	void              *ud;
};

struct loop_signal {
	struct loop_source source;
	int                signo;
	int                fd;        /* signalfd, owned; -1 in a simulation */
	struct loop_fd    *src;
	loop_signal_fn     fn;
	void              *ud;
	struct list        sim_link;
};

struct loop_child {
	struct loop_source source;
	struct list        link;      /* in loop->children */
	pid_t              pid;
	int                pidfd;     /* owned */
	struct loop_fd    *src;
	int                error_fd;  /* owned; says why the program did not start */
	struct loop_fd    *error_src;
	bool               running;
	loop_child_fn      fn;
	void              *ud;
};

/* A kind of loop. Return values as in sys/sys.h. */
struct loop_ops {
	/* Read both clocks into the loop. */
	void (*clock)(struct loop *l);
	/* Wait and make the callbacks of what is ready; returns how many. */
	int  (*wait)(struct loop *l, uint64_t timeout_ns);
	int  (*fd_add)(struct loop *l, struct loop_fd *src);
	int  (*fd_mod)(struct loop *l, struct loop_fd *src);
	void (*fd_del)(struct loop *l, struct loop_fd *src);
	int  (*signal_add)(struct loop *l, struct loop_signal *s);
	void (*signal_del)(struct loop *l, struct loop_signal *s);
	int  (*spawn)(struct loop *l, const struct loop_spawn *spec, struct loop_child *c,
		      struct err *e);
	int  (*watch)(struct loop *l, pid_t pid, struct loop_child *c);
	int  (*kill)(struct loop *l, struct loop_child *c, int signo);
	void (*child_del)(struct loop *l, struct loop_child *c);
	void (*fini)(struct loop *l);
};

struct loop {
	const struct loop_ops *ops;
	uint64_t               now_ns, wall_ns;
	bool                   stopping;
	bool                   in_turn;
	struct loop_timer    **timers;     /* heap by due time; [0] is not used */
	size_t                 n_timers;   /* started */
	size_t                 n_reserved; /* made: there is room for all of them */
	uint64_t               seq;
	struct list            posts;
	struct list            dead;
	struct list            children;
	size_t                 n_sources;
	void                 (*guard)(void *ud, bool enter);
	void                  *guard_ud;
};

int  loop__init(struct loop *l, const struct loop_ops *ops) must_check;
void loop__fini(struct loop *l);

/* Around callbacks: loop_set_guard(). */
void loop__guard(struct loop *l, bool enter);

/* Call a descriptor's function unless it was freed meanwhile; returns 1 or 0. */
int loop__fd_call(struct loop_fd *src, unsigned events);

/* Tell the owner, once, that its child ended. */
void loop__child_ended(struct loop_child *c, const struct loop_exit *x);

/* Operations on processes of the kernel's loop (spawn.c). */
int  loop__spawn(struct loop *l, const struct loop_spawn *spec, struct loop_child *c,
		 struct err *e) must_check;
int  loop__watch(struct loop *l, pid_t pid, struct loop_child *c) must_check;
int  loop__kill(struct loop *l, struct loop_child *c, int signo) must_check;
void loop__child_del(struct loop *l, struct loop_child *c);

#endif
