/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The event loop: descriptors, timers, posts, signals and child processes of one thread.
 *
 * A loop is always a parameter or a member; there is no current one. Sources are objects that
 * their maker owns and frees; freeing any source, also the one whose callback runs, is allowed
 * at any time, and no callback of it comes after that. Descriptors given to a loop stay the
 * caller's: free the source first, then close.
 *
 * Each turn does, in this order:
 *   1. the clock is read, once; loop_now_ns() is the same for the whole turn
 *   2. timers that are due, by time, those of one time in the order they were started
 *   3. posts that were there when the turn began
 *   4. wait (not at all while posts are there) and the descriptors that are ready; signals and
 *      exits of children are descriptors too
 *   5. memory of sources freed in this turn is given back
 *
 * Callbacks do not block and do not run the loop. Blocking work goes to a child process.
 *
 *	auto_(loop_freep) struct loop *loop = NULL;
 *	r = loop_new(&loop);
 *	r = loop_fd_new(loop, fd, LOOP_IN, on_client, client, &client->source);
 *	r = loop_timer_new(loop, on_timeout, client, &client->timer);
 *	loop_timer_start(client->timer, 5 * NS_PER_SEC);
 *	r = loop_run(loop);
 *
 * A simulated loop (loop/sim.h) has the same interface, with virtual time and scripted events.
 */
#ifndef LOOP_LOOP_H
#define LOOP_LOOP_H

#include "base/err.h"
#include "base/list.h"

struct loop;

/* A loop of the kernel's epoll and clocks. */
int loop_new(struct loop **ret) must_check;

/* Ends a loop; NULL is fine. All its sources must have been freed. Returns NULL. */
struct loop *loop_free(struct loop *l);
AUTO_PTR(struct loop, loop_free)

/* Turns until loop_stop(), which holds for one run. 0, or -errno if waiting fails. */
int  loop_run(struct loop *l) must_check;
void loop_stop(struct loop *l);

/*
 * One turn, waiting at most timeout_ns (UINT64_MAX: until something happens). Returns how many
 * callbacks it made. For tests, and for programs that wait in place for one thing.
 */
int loop_turn(struct loop *l, uint64_t timeout_ns) must_check;

/*
 * Called with true before a turn's callbacks of one kind, and with false after them, so that
 * they can keep another thread waiting meanwhile. NULL: nobody wants that.
 */
void loop_set_guard(struct loop *l, void (*guard)(void *ud, bool enter), void *ud);

/* Monotonic time, and time since the Unix epoch, as of the start of the turn. */
uint64_t loop_now_ns(const struct loop *l);
uint64_t loop_wall_ns(const struct loop *l);

/* --- Descriptors --- */

enum {
	LOOP_IN  = 1,
	LOOP_OUT = 2,
	LOOP_HUP = 4,  /* error or hang-up; always reported, need not be asked for */
	LOOP_PRI = 8,  /* exceptional data (memory events of a cgroup v1 eventfd, proc files) */
};

struct loop_fd;
typedef void (*loop_fd_fn)(struct loop_fd *src, unsigned events, void *ud);

/* Watch a pollable descriptor, level-triggered. -EPERM: it is a file, always ready. */
int loop_fd_new(struct loop *l, int fd, unsigned events, loop_fd_fn fn, void *ud,
		struct loop_fd **ret) must_check;

/* Watch for other events from now on. With 0 not even LOOP_HUP is reported. */
int loop_fd_set(struct loop_fd *src, unsigned events) must_check;

int loop_fd_fd(const struct loop_fd *src);

struct loop_fd *loop_fd_free(struct loop_fd *src);   /* NULL is fine; returns NULL */

/* --- Timers --- */

struct loop_timer;
typedef void (*loop_timer_fn)(struct loop_timer *t, void *ud);

int loop_timer_new(struct loop *l, loop_timer_fn fn, void *ud,
		   struct loop_timer **ret) must_check;

/* Fire once, that long after the start of this turn; an earlier start is forgotten. */
void loop_timer_start(struct loop_timer *t, uint64_t delay_ns);
void loop_timer_stop(struct loop_timer *t);
bool loop_timer_active(const struct loop_timer *t);

struct loop_timer *loop_timer_free(struct loop_timer *t);

/* --- Posts --- */

/*
 * A call that a later turn makes, once. It lives in its owner, so posting cannot fail; posting
 * it again before it ran does nothing. Cancel it before its memory goes.
 */
struct loop_post {
	struct list link;
	void      (*fn)(struct loop_post *p, void *ud);
	void       *ud;
};

void loop_post_init(struct loop_post *p, void (*fn)(struct loop_post *p, void *ud), void *ud);
void loop_post(struct loop *l, struct loop_post *p);
void loop_post_cancel(struct loop_post *p);   /* also fine when it is not posted */

/* --- Signals --- */

struct loop_signal;
typedef void (*loop_signal_fn)(struct loop_signal *s, int signo, void *ud);

/*
 * From now on the signal is blocked in this thread and comes through the loop; it stays blocked
 * when the source is freed, so that one that is late ends nothing. Children that loop_spawn()
 * makes start with no signal blocked and all at their defaults.
 */
int loop_signal_new(struct loop *l, int signo, loop_signal_fn fn, void *ud,
		    struct loop_signal **ret) must_check;

struct loop_signal *loop_signal_free(struct loop_signal *s);

/* --- Child processes --- */

struct loop_child;

enum loop_exit_kind {
	LOOP_EXITED,       /* .code is its exit status */
	LOOP_KILLED,       /* .code is the signal */
	LOOP_NOT_STARTED,  /* .err says why; the program never ran */
	LOOP_UNKNOWN,      /* it ended, but was not our child: nobody told us how */
	LOOP_EXIT_KIND__COUNT,
};

struct loop_exit {
	enum loop_exit_kind kind;
	int                 code;
	const struct err   *err;    /* LOOP_NOT_STARTED; valid during the callback */
};

/* The status as a shell shows it: the exit status, 128 + signal, or 127 if it never started. */
int loop_exit_status(const struct loop_exit *x);

/* Called once; the owner still frees the child. */
typedef void (*loop_child_fn)(struct loop_child *c, const struct loop_exit *x, void *ud);

struct loop_spawn {
	const char  *path;       /* of the program; NULL: argv[0]. No search in PATH */
	int          exec_fd;    /* the program instead of the path if > 0 */
	char *const *argv;       /* NULL-terminated */
	char *const *envp;       /* NULL: an empty environment */
	const int   *fds;        /* descriptor i becomes i in the child; -1: /dev/null. Those from
				  * n_fds on, if above 2, are closed; 0 to 2 not given are
				  * /dev/null */
	size_t       n_fds;
	bool         new_session;
	int          parent_death_signal;   /* 0: none */
	uint64_t     clone_flags;           /* CLONE_NEW* */
	/*
	 * Runs in the child before the program, single-threaded, with the descriptors still at
	 * their old numbers. It may block. On -errno with *e filled the program does not run and
	 * the exit callback gets the error. NULL: nothing to do.
	 */
	int        (*prepare)(void *ud, struct err *e);
	void        *prepare_ud;
};

/*
 * Start a program. Returns as soon as the process is made; that the program could not be run
 * comes as LOOP_NOT_STARTED. The callback comes from the loop, never from here.
 */
int loop_spawn(struct loop *l, const struct loop_spawn *spec, loop_child_fn fn, void *ud,
	       struct loop_child **ret, struct err *e) must_check;

/*
 * Watch a process that is there already: a child of ours that came to us otherwise (a
 * reparented one: its status is true), or anybody's (LOOP_UNKNOWN). -ESRCH: it is gone. The
 * caller makes sure by its own means that the number still means the process it thinks of.
 */
int loop_child_watch(struct loop *l, pid_t pid, loop_child_fn fn, void *ud,
		     struct loop_child **ret) must_check;

pid_t loop_child_pid(const struct loop_child *c);
int   loop_child_pidfd(const struct loop_child *c);     /* borrowed; -1 in a simulation */
bool  loop_child_running(const struct loop_child *c);   /* its callback has not come yet */

/* Send a signal. -ESRCH once it has ended; never hits another process of the same number. */
int loop_child_kill(struct loop_child *c, int signo) must_check;

/*
 * Forget a child. A process that still runs goes on, and its parent (us, if it is ours) no
 * longer waits for it here: kill it first, or collect it by loop_reap(). NULL is fine.
 */
struct loop_child *loop_child_free(struct loop_child *c);

/*
 * For a sub-reaper, on SIGCHLD: collects exited children that no loop_child of this loop stands
 * for, and tells of each (fn may be NULL). Those that one stands for are left to it.
 */
void loop_reap(struct loop *l, void (*fn)(pid_t pid, const struct loop_exit *x, void *ud),
	       void *ud);

#endif
