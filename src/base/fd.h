/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Owning file descriptors. Every descriptor is opened close-on-exec and starts at -1:
 *
 *	auto_close int fd = sys_openat(dir_fd, "config.json", O_RDONLY, 0);
 *	...
 *	*ret_fd = take_fd(&fd);
 */
#ifndef BASE_FD_H
#define BASE_FD_H

#include <unistd.h>

#include "base/def.h"

/* Close and set to -1; errno is kept. Does nothing for a negative descriptor. */
void fd_close(int *fd);

#define auto_close auto_(fd_close)

/* Move a descriptor out of a variable, which becomes -1. */
static inline int take_fd(int *fd)
{
	int v = *fd;

	*fd = -1;
	return v;
}

/*
 * Open /dev/null on whichever of 0, 1 and 2 is closed, so that no file that is opened later
 * becomes someone's standard output. The first thing a program does. 0 or -errno.
 */
int fd_fill_stdio(void) must_check;

/* A decimal descriptor below /proc/self/fd, for calls that only take paths. */
struct fd_path {
	char text[32];
};
struct fd_path fd_path(int fd);

#endif
