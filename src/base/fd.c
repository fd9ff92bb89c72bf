/* SPDX-License-Identifier: Apache-2.0 */
#include "base/fd.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>

void fd_close(int *fd)
{
	if (*fd >= 0) {
		int saved = errno;

		(void)close(*fd); /* the descriptor is gone whatever close() says */
		errno = saved;
	}
	*fd = -1;
}

struct fd_path fd_path(int fd)
{
	struct fd_path p;

	(void)snprintf(p.text, sizeof(p.text), "/proc/self/fd/%d", fd);
	return p;
}

int fd_fill_stdio(void)
{
	for (int want = 0; want < 3; want++) {
		if (fcntl(want, F_GETFD) >= 0) {
			continue;
		}
		/* Those below are open, so it gets this number. */
		if (open("/dev/null", O_RDWR) < 0) {
			return -errno;
		}
	}
	return 0;
}
