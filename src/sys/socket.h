/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Unix sockets and the passing of descriptors over them. Conventions of sys/sys.h; every
 * socket is close-on-exec.
 */
#ifndef SYS_SOCKET_H
#define SYS_SOCKET_H

#include <signal.h>
#include <sys/socket.h>

#include "sys/sys.h"

struct epoll_event;
struct itimerspec;

int sys_socket(int domain, int type, int protocol) must_check;
int sys_socketpair(int type, int ret_fds[2]) must_check;   /* AF_UNIX */
int sys_connect(int fd, const struct sockaddr *addr, socklen_t len) must_check;
int sys_bind(int fd, const struct sockaddr *addr, socklen_t len) must_check;
int sys_listen(int fd, int backlog) must_check;
int sys_accept4(int fd, int flags) must_check;             /* SOCK_CLOEXEC is added */
int sys_shutdown(int fd, int how) must_check;
int sys_setsockopt(int fd, int level, int name, const void *value, socklen_t len) must_check;
int sys_getsockopt(int fd, int level, int name, void *value, socklen_t *len) must_check;

/* Restarted after a signal; MSG_NOSIGNAL and MSG_CMSG_CLOEXEC are added. */
ssize_t sys_sendmsg(int fd, const struct msghdr *msg, int flags) must_check;
ssize_t sys_recvmsg(int fd, struct msghdr *msg, int flags) must_check;

/* A stream socket connected to the socket file `path`; names longer than sun_path work. */
int sock_connect_path(const char *path) must_check;

/* One message of n > 0 bytes with n_fds descriptors (at most SOCK_FDS_MAX). 0 or -errno. */
enum { SOCK_FDS_MAX = 64 };
int sock_send_fds(int fd, const void *data, size_t n, const int *fds, size_t n_fds) must_check;

/* What the socket takes of n > 0 bytes; the descriptors went along if that is positive. */
ssize_t sock_send_some(int fd, const void *data, size_t n, const int *fds,
		       size_t n_fds) must_check;

/*
 * One message. Returns the bytes received (0: the peer is gone). *ret_n_fds is how many of
 * `ret_fds` (room for max_fds) were filled; more than that are closed, and -EMSGSIZE.
 */
ssize_t sock_recv_fds(int fd, void *buf, size_t n, int *ret_fds, size_t max_fds,
		      size_t *ret_n_fds) must_check;

/*
 * A listening unix stream socket named `name` in a folder, mode 0600; one that is there
 * already is replaced. The folder's own path may be longer than a socket address allows.
 */
int sock_listen_at(int dir_fd, const char *name, int flags) must_check;

/* Connect to it; -ENOENT, or -ECONNREFUSED when nobody listens any more. */
int sock_connect_at(int dir_fd, const char *name, int flags) must_check;

/* Who was at the other end when it connected. */
int sock_peer(int fd, struct ucred *ret) must_check;

/* What event loops wait with; close-on-exec is added. */
int sys_epoll_create(void) must_check;
int sys_epoll_ctl(int epoll_fd, int op, int fd, struct epoll_event *ev) must_check;
int sys_eventfd(unsigned initial, int flags) must_check;
int sys_signalfd(int fd, const sigset_t *set, int flags) must_check;
int sys_timerfd_create(int clock_id, int flags) must_check;
int sys_timerfd_settime(int fd, int flags, const struct itimerspec *value) must_check;

#endif
