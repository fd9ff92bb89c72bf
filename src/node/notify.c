/* SPDX-License-Identifier: Apache-2.0 */
#include "node/notify.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/fd.h"
#include "base/str.h"
#include "sys/file.h"
#include "sys/socket.h"

enum { FIRST_FD = 3 };

int notify_listen_fd(void)
{
	const char *pid = getenv("LISTEN_PID"), *fds = getenv("LISTEN_FDS");
	uint64_t n = 0;

	if (!pid || !fds || parse_u64(pid, INT32_MAX, &n) < 0 || (pid_t)n != getpid()) {
		return -1;
	}
	if (parse_u64(fds, 16, &n) < 0 || n != 1) {
		return -EINVAL;
	}
	unsetenv("LISTEN_PID");
	unsetenv("LISTEN_FDS");
	unsetenv("LISTEN_FDNAMES");
	int r = sys_fcntl(FIRST_FD, F_SETFD, FD_CLOEXEC);

	r = r < 0 ? r : sys_fcntl(FIRST_FD, F_SETFL, O_NONBLOCK);
	return r < 0 ? r : FIRST_FD;
}

void notify_ready(void)
{
	const char *path = getenv("NOTIFY_SOCKET");
	struct sockaddr_un addr = { .sun_family = AF_UNIX };
	size_t n = path ? strlen(path) : 0;

	if (n == 0 || n >= sizeof(addr.sun_path) || (path[0] != '/' && path[0] != '@')) {
		return;
	}
	memcpy(addr.sun_path, path, n);
	if (path[0] == '@') {
		addr.sun_path[0] = '\0';
	}
	auto_close int fd = sys_socket(AF_UNIX, SOCK_DGRAM, 0);
	struct iovec iov = { .iov_base = (char *)"READY=1", .iov_len = 7 };
	struct msghdr msg = { .msg_name = &addr, .msg_iov = &iov, .msg_iovlen = 1,
			      .msg_namelen = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + n) };

	if (fd >= 0) {
		ignore_result(sys_sendmsg(fd, &msg, 0)); /* systemd will say that we are late */
	}
}
