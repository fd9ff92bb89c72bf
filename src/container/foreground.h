/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Staying with a process in the foreground: its signals, its terminal, its end.
 *
 *	struct foreground fg;
 *	r = foreground_init(&fg, e);       // before the process exists
 *	...
 *	status = foreground_wait(&fg, &child, master_fd, e);
 *	foreground_fini(&fg);
 *
 * Signals that this process gets go on to the container's. With a terminal, ours is put in
 * raw mode, copied from and to, and its size is passed on.
 */
#ifndef CONTAINER_FOREGROUND_H
#define CONTAINER_FOREGROUND_H

#include <signal.h>

#include "container/spawn.h"

struct foreground {
	int      signal_fd;
	sigset_t old_mask;
};

/*
 * @reap  also take care of orphans of the container (it may have no pid namespace)
 */
int  foreground_init(struct foreground *fg, bool reap, struct err *e) must_check;
void foreground_fini(struct foreground *fg);

/* Returns the exit status (128 + n after signal n), or -errno. */
int foreground_wait(struct foreground *fg, struct spawned *child, int master_fd,
		    struct err *e) must_check;

#endif
