/* SPDX-License-Identifier: Apache-2.0 */
#include "sys/socket.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/signalfd.h>
#include <sys/timerfd.h>
#include <sys/un.h>

#include "base/fd.h"
#include "sys/file.h"

int sys_socket(int domain, int type, int protocol)
{
	int r = sys__fault(SYS_CALL_socket);

	return r ? r : sys__ret(socket(domain, type | SOCK_CLOEXEC, protocol));
}

int sys_socketpair(int type, int ret_fds[2])
{
	int r = sys__fault(SYS_CALL_socketpair);

	return r ? r : sys__ret(socketpair(AF_UNIX, type | SOCK_CLOEXEC, 0, ret_fds));
}

int sys_connect(int fd, const struct sockaddr *addr, socklen_t len)
{
	int r = sys__fault(SYS_CALL_connect);

	return r ? r : sys__ret(connect(fd, addr, len));
}

int sys_bind(int fd, const struct sockaddr *addr, socklen_t len)
{
	int r = sys__fault(SYS_CALL_bind);

	return r ? r : sys__ret(bind(fd, addr, len));
}

int sys_listen(int fd, int backlog)
{
	int r = sys__fault(SYS_CALL_listen);

	return r ? r : sys__ret(listen(fd, backlog));
}

int sys_accept4(int fd, int flags)
{
	int r = sys__fault(SYS_CALL_accept4);

	return r ? r : sys__ret(accept4(fd, NULL, NULL, flags | SOCK_CLOEXEC));
}

int sys_shutdown(int fd, int how)
{
	int r = sys__fault(SYS_CALL_shutdown);

	return r ? r : sys__ret(shutdown(fd, how));
}

int sys_setsockopt(int fd, int level, int name, const void *value, socklen_t len)
{
	int r = sys__fault(SYS_CALL_setsockopt);

	return r ? r : sys__ret(setsockopt(fd, level, name, value, len));
}

int sys_getsockopt(int fd, int level, int name, void *value, socklen_t *len)
{
	int r = sys__fault(SYS_CALL_getsockopt);

	return r ? r : sys__ret(getsockopt(fd, level, name, value, len));
}

ssize_t sys_sendmsg(int fd, const struct msghdr *msg, int flags)
{
	ssize_t r = sys__fault(SYS_CALL_sendmsg);

	if (r < 0) {
		return r;
	}
	do {
		r = sys__retn(sendmsg(fd, msg, flags | MSG_NOSIGNAL));
	} while (r == -EINTR);
	return r;
}

ssize_t sys_recvmsg(int fd, struct msghdr *msg, int flags)
{
	ssize_t r = sys__fault(SYS_CALL_recvmsg);

	if (r < 0) {
		return r;
	}
	do {
		r = sys__retn(recvmsg(fd, msg, flags | MSG_CMSG_CLOEXEC));
	} while (r == -EINTR);
	return r;
}

ssize_t sock_send_some(int fd, const void *data, size_t n, const int *fds, size_t n_fds)
{
	union {
		struct cmsghdr align;
		char           room[CMSG_SPACE(SOCK_FDS_MAX * sizeof(int))];
	} control = { .room = { 0 } };
	struct iovec iov = { .iov_base = (void *)(uintptr_t)data, .iov_len = n };
	struct msghdr msg = { .msg_iov = &iov, .msg_iovlen = 1 };

	assert(n > 0);
	if (n_fds > SOCK_FDS_MAX) {
		return -EMSGSIZE;
	}
	if (n_fds > 0) {
		msg.msg_control = &control;
		msg.msg_controllen = CMSG_SPACE(n_fds * sizeof(int));

		struct cmsghdr *c = CMSG_FIRSTHDR(&msg);

		c->cmsg_level = SOL_SOCKET;
		c->cmsg_type = SCM_RIGHTS;
		c->cmsg_len = CMSG_LEN(n_fds * sizeof(int));
		memcpy(CMSG_DATA(c), fds, n_fds * sizeof(int));
	}

	return sys_sendmsg(fd, &msg, 0);
}

int sock_send_fds(int fd, const void *data, size_t n, const int *fds, size_t n_fds)
{
	ssize_t r = sock_send_some(fd, data, n, fds, n_fds);

	if (r < 0) {
		return (int)r;
	}
	return (size_t)r == n ? 0 : -EIO;
}

/* Copies what fits into ret_fds and closes the rest. Returns how many there were. */
static size_t collect_fds(struct msghdr *msg, int *ret_fds, size_t max_fds)
{
	size_t total = 0;

	for (struct cmsghdr *c = CMSG_FIRSTHDR(msg); c; c = CMSG_NXTHDR(msg, c)) {
		if (c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS) {
			continue;
		}
		size_t n = (c->cmsg_len - CMSG_LEN(0)) / sizeof(int);

		for (size_t i = 0; i < n; i++, total++) {
			int one;

			memcpy(&one, CMSG_DATA(c) + i * sizeof(int), sizeof(one));
			if (total < max_fds) {
				ret_fds[total] = one;
			} else {
				fd_close(&one);
			}
		}
	}
	return total;
}

ssize_t sock_recv_fds(int fd, void *buf, size_t n, int *ret_fds, size_t max_fds, size_t *ret_n_fds)
{
	union {
		struct cmsghdr align;
		char           room[CMSG_SPACE(SOCK_FDS_MAX * sizeof(int))];
	} control = { .room = { 0 } };
	struct iovec iov = { .iov_base = buf, .iov_len = n };
	struct msghdr msg = { .msg_iov = &iov, .msg_iovlen = 1, .msg_control = &control,
			      .msg_controllen = sizeof(control) };
	ssize_t r = sys_recvmsg(fd, &msg, 0);

	*ret_n_fds = 0;
	if (r < 0) {
		return r;
	}

	size_t total = collect_fds(&msg, ret_fds, max_fds);

	if (total > max_fds || (msg.msg_flags & (MSG_CTRUNC | MSG_TRUNC))) {
		for (size_t i = 0; i < MIN(total, max_fds); i++) {
			fd_close(&ret_fds[i]);
		}
		return -EMSGSIZE;
	}
	*ret_n_fds = total;
	return r;
}

/* A stream socket, and the address of `name` in a folder, short whatever its own path is. */
static int unix_socket(int dir_fd, const char *name, int flags, struct sockaddr_un *ret)
{
	int n;

	*ret = (struct sockaddr_un){ .sun_family = AF_UNIX };
	if (name[0] == '/' || dir_fd == AT_FDCWD) {
		n = snprintf(ret->sun_path, sizeof(ret->sun_path), "%s", name);
	} else {
		n = snprintf(ret->sun_path, sizeof(ret->sun_path), "%s/%s", fd_path(dir_fd).text,
			     name);
	}
	if (n < 0 || (size_t)n >= sizeof(ret->sun_path)) {
		return -ENAMETOOLONG;
	}
	return sys_socket(AF_UNIX, SOCK_STREAM | flags, 0);
}

int sock_listen_at(int dir_fd, const char *name, int flags)
{
	struct sockaddr_un addr;
	auto_close int fd = unix_socket(dir_fd, name, flags, &addr);

	if (fd < 0) {
		return fd;
	}
	int r = sys_unlinkat(dir_fd, name, 0);

	if (r < 0 && r != -ENOENT) {
		return r;
	}
	/* The mode of the file is that of the descriptor, so it never stands there wider. */
	r = sys_fchmod(fd, 0600);
	if (r == 0) {
		r = sys_bind(fd, (const struct sockaddr *)&addr, sizeof(addr));
	}
	if (r == 0) {
		r = sys_listen(fd, 128);
	}
	return r < 0 ? r : take_fd(&fd);
}

int sock_connect_at(int dir_fd, const char *name, int flags)
{
	struct sockaddr_un addr;
	auto_close int fd = unix_socket(dir_fd, name, flags, &addr);

	if (fd < 0) {
		return fd;
	}
	int r = sys_connect(fd, (const struct sockaddr *)&addr, sizeof(addr));

	return r < 0 ? r : take_fd(&fd);
}

int sock_connect_path(const char *path)
{
	int r = sock_connect_at(AT_FDCWD, path, 0);

	if (r != -ENAMETOOLONG) {
		return r;
	}
	/* The name of a descriptor of the file is short. */
	auto_close int path_fd = sys_openat(AT_FDCWD, path, O_PATH, 0);

	return path_fd < 0 ? path_fd : sock_connect_at(AT_FDCWD, fd_path(path_fd).text, 0);
}

int sock_peer(int fd, struct ucred *ret)
{
	socklen_t len = sizeof(*ret);

	return sys_getsockopt(fd, SOL_SOCKET, SO_PEERCRED, ret, &len);
}

int sys_epoll_create(void)
{
	int r = sys__fault(SYS_CALL_epoll_create1);

	return r ? r : sys__ret(epoll_create1(EPOLL_CLOEXEC));
}

int sys_epoll_ctl(int epoll_fd, int op, int fd, struct epoll_event *ev)
{
	int r = sys__fault(SYS_CALL_epoll_ctl);

	return r ? r : sys__ret(epoll_ctl(epoll_fd, op, fd, ev));
}

int sys_eventfd(unsigned initial, int flags)
{
	int r = sys__fault(SYS_CALL_eventfd);

	return r ? r : sys__ret(eventfd(initial, flags | EFD_CLOEXEC));
}

int sys_signalfd(int fd, const sigset_t *set, int flags)
{
	int r = sys__fault(SYS_CALL_signalfd);

	return r ? r : sys__ret(signalfd(fd, set, flags | SFD_CLOEXEC));
}

int sys_timerfd_create(int clock_id, int flags)
{
	int r = sys__fault(SYS_CALL_timerfd_create);

	return r ? r : sys__ret(timerfd_create(clock_id, flags | TFD_CLOEXEC));
}

int sys_timerfd_settime(int fd, int flags, const struct itimerspec *value)
{
	int r = sys__fault(SYS_CALL_timerfd_settime);

	return r ? r : sys__ret(timerfd_settime(fd, flags, value, NULL));
}
