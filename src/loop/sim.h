/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A simulated loop for tests: the interface of loop/loop.h without a kernel. Time stands still
 * until a turn would wait, then jumps to the next timer. What happens is scripted:
 *
 *	struct loop *l = sim_loop_new();
 *	server_start(l, ...);
 *	sim_fd_event(l, 7, LOOP_IN);       // descriptor 7 is readable, once
 *	assert(sim_run(l, 10 * NS_PER_SEC) == 0);
 *
 * Descriptors are only numbers here: nothing is opened, read or polled.
 */
#ifndef LOOP_SIM_H
#define LOOP_SIM_H

#include "loop/loop.h"

/* The clocks start at 1 s and at 2026-01-01T00:00:00Z. NULL when memory is out. */
struct loop *sim_loop_new(void) must_check;

/* Turns until that much virtual time has passed, or loop_stop(). 0 or -errno. */
int sim_run(struct loop *l, uint64_t duration_ns) must_check;

/* In the next turn, once, events on the descriptor's source; -ENOENT if nobody watches it. */
int sim_fd_event(struct loop *l, int fd, unsigned events) must_check;

/* What the source of a descriptor waits for now; 0 if nobody watches it. */
unsigned sim_fd_watched(struct loop *l, int fd);

/* In the next turn; -ENOENT if nobody listens to it. */
int sim_signal(struct loop *l, int signo) must_check;

/*
 * Called for each loop_spawn() with the process number it will get; -errno makes it fail.
 * Without one every spawn succeeds.
 */
typedef int (*sim_spawn_fn)(const struct loop_spawn *spec, pid_t pid, void *ud);
void sim_on_spawn(struct loop *l, sim_spawn_fn fn, void *ud);

/* In the next turn that process ends so (x->err must live until then). */
int sim_child_exit(struct loop *l, pid_t pid, const struct loop_exit *x) must_check;

/* The last signal that loop_child_kill() sent to that process; 0: none. */
int sim_child_signal(struct loop *l, pid_t pid);

#endif
