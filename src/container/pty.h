/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Terminals of a container. They come from its own devpts, and the container's end is never
 * looked up by name: a name below /dev/pts can be anything by the time it is opened.
 */
#ifndef CONTAINER_PTY_H
#define CONTAINER_PTY_H

#include "base/err.h"

/*
 * A new terminal from the devpts mounted at /dev/pts below `root_fd` (for exec --tty: the
 * root of the container that was joined). Checks that it is a devpts.
 */
int pty_open_in(int root_fd, int *ret_master, int *ret_peer, struct err *e) must_check;

/* The same from the root of a devpts mount. */
int pty_open(int devpts_fd, int *ret_master, int *ret_peer, struct err *e) must_check;

#endif
