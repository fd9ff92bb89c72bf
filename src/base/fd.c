/* SPDX-License-Identifier: Apache-2.0 */
#include "base/fd.h"

#include <errno.h>
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
