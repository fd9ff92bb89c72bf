/* SPDX-License-Identifier: Apache-2.0 */
/* TCP, UDP and unix sockets, on the loopback interface. */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/sendfile.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "conform.h"

enum { MUCH = 2 << 20 };

static struct sockaddr_in local(uint16_t port)
{
	return (struct sockaddr_in){ .sin_family = AF_INET, .sin_port = port,
				     .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
}

static int listener(struct sockaddr_in *ret)
{
	int fd = socket(AF_INET, SOCK_STREAM, 0);
	socklen_t n = sizeof(*ret);

	*ret = local(0);
	if (fd < 0 || bind(fd, (void *)ret, n) < 0 || listen(fd, 64) < 0 ||
	    getsockname(fd, (void *)ret, &n) < 0) {
		broken("listener");
	}
	return fd;
}

static int connected(const struct sockaddr_in *to)
{
	int fd = socket(AF_INET, SOCK_STREAM, 0);

	if (fd < 0 || connect(fd, (const void *)to, sizeof(*to)) < 0) {
		broken("connect");
	}
	return fd;
}

static void send_all(int fd, uint64_t seed)
{
	static _Thread_local uint8_t data[30000];
	size_t left = MUCH;

	for (unsigned i = 0; left > 0; i++) {
		size_t n = 1 + (i * 7901U) % sizeof(data);

		n = n < left ? n : left;
		fill(data, n, seed + i);
		for (size_t at = 0; at < n;) {
			ssize_t w = send(fd, data + at, n - at, MSG_NOSIGNAL);

			if (w <= 0) {
				return;
			}
			at += (size_t)w;
		}
		left -= n;
	}
}

static uint64_t receive_all(int fd, size_t *ret)
{
	static _Thread_local uint8_t data[40000];
	struct sum s;

	sum_start(&s);
	*ret = 0;
	for (ssize_t n; (n = recv(fd, data, sizeof(data), 0)) > 0; *ret += (size_t)n) {
		sum_add(&s, data, (size_t)n);
	}
	return s.v;
}

static void *send_thread(void *arg)
{
	int fd = *(int *)arg;

	send_all(fd, 51);
	shutdown(fd, SHUT_WR);
	return NULL;
}

/* Both ways at once, each side ends its own. */
static void both_ways(void)
{
	struct sockaddr_in a;
	int l = listener(&a);
	size_t n = 0;
	pthread_t t;
	pid_t pid = fork();

	if (pid == 0) {
		int fd = connected(&a);

		if (pthread_create(&t, NULL, send_thread, &fd) != 0) {
			_exit(1);
		}
		uint64_t v = receive_all(fd, &n);

		pthread_join(t, NULL);
		_exit(v % 100 == 0 && n == 0 ? 1 : (int)(v % 97));
	}
	int c = accept(l, NULL, NULL), dup_fd = dup(c);

	if (pthread_create(&t, NULL, send_thread, &dup_fd) != 0) {
		broken("pthread_create");
	}
	uint64_t v = receive_all(c, &n);

	pthread_join(t, NULL);
	out("both ways", "%zu %016llx %s", n, (unsigned long long)v, ended(pid));
	close(c);
	close(dup_fd);
	close(l);
}

/* Many clients of one server that waits for all. */
static void clients(void)
{
	enum { CLIENTS = 20, ROUNDS = 30 };
	struct sockaddr_in a;
	int l = listener(&a), ep = epoll_create1(0);
	struct epoll_event e = { EPOLLIN, { .fd = l } };
	unsigned n_ended = 0, echoed = 0, good = 0;

	for (unsigned i = 0; i < CLIENTS; i++) {
		if (fork() == 0) {
			int fd = connected(&a);
			char got[64], text[64];

			for (unsigned k = 0; k < ROUNDS; k++) {
				int n = snprintf(text, sizeof(text), "client %u round %u", i, k);

				if (send(fd, text, (size_t)n, 0) != n ||
				    recv(fd, got, (size_t)n, MSG_WAITALL) != n || memcmp(got, text, (size_t)n) != 0) {
					_exit(1);
				}
			}
			_exit(0);
		}
	}
	epoll_ctl(ep, EPOLL_CTL_ADD, l, &e);
	while (n_ended < CLIENTS) {
		struct epoll_event got[8];
		int n = epoll_wait(ep, got, 8, -1);

		for (int i = 0; i < n; i++) {
			char data[256];
			int fd = got[i].data.fd;

			if (fd == l) {
				e.data.fd = accept4(l, NULL, NULL, SOCK_NONBLOCK);
				epoll_ctl(ep, EPOLL_CTL_ADD, e.data.fd, &e);
				continue;
			}
			ssize_t r = recv(fd, data, sizeof(data), 0);

			if (r > 0) {
				echoed += send(fd, data, (size_t)r, 0) == r;
			} else {
				close(fd);
				n_ended++;
			}
		}
	}
	for (int status = 0; wait(&status) > 0;) {
		good += status == 0;
	}
	out("clients", "%u ended %u good, %s", n_ended, good, echoed >= CLIENTS * ROUNDS ? "all echoed" : "too few");
	close(ep);
	close(l);
}

static void edges(void)
{
	struct sockaddr_in a, none;
	int l = listener(&a), other = listener(&none), one = 1;
	char data[64] = "", text[32];
	socklen_t n = sizeof(one);

	close(other);
	int fd = socket(AF_INET, SOCK_STREAM, 0);

	out("refused", "%s", outcome(connect(fd, (void *)&none, sizeof(none))));
	close(fd);
	fd = socket(AF_INET, SOCK_STREAM, 0);
	out("taken", "%s", outcome(bind(fd, (void *)&a, sizeof(a))));
	out("not connected", "%s", outcome(send(fd, "x", 1, MSG_NOSIGNAL)));
	close(fd);
	fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
	long r = connect(fd, (void *)&a, sizeof(a));
	struct pollfd p = { fd, POLLOUT, 0 };

	out("in progress", "%s", r == 0 || errno == EINPROGRESS ? "as it should" : outcome(r));
	poll(&p, 1, -1);
	getsockopt(fd, SOL_SOCKET, SO_ERROR, &one, &n);
	out("connected", "%d %d", one, !!(p.revents & POLLOUT));
	out("nothing yet", "%s", outcome(recv(fd, data, 1, 0)));
	int c = accept(l, NULL, NULL);

	out("sent", "%zd", send(c, "hello there", 11, 0));
	p = (struct pollfd){ fd, POLLIN, 0 };
	poll(&p, 1, -1);
	ssize_t k = recv(fd, data, 5, MSG_PEEK);

	out("peek", "%zd %.5s", k, data);
	memset(data, 0, sizeof(data));
	k = recv(fd, data, sizeof(data), 0);
	out("received", "%zd %s", k, data);
	shutdown(c, SHUT_WR);
	p = (struct pollfd){ fd, POLLIN | POLLRDHUP, 0 };
	while (!(p.revents & POLLRDHUP)) {
		poll(&p, 1, -1);
	}
	out("half closed", "%zd %x", recv(fd, data, 1, 0), p.revents);
	out("the other half", "%zd", send(fd, "back", 4, 0));
	k = recv(c, data, 4, MSG_WAITALL);
	out("came back", "%zd %.4s", k, data);
	struct linger hard = { 1, 0 };

	setsockopt(c, SOL_SOCKET, SO_LINGER, &hard, sizeof(hard));
	if (send(fd, "unread", 6, 0) != 6) {
		broken("send");
	}
	close(c);
	p = (struct pollfd){ fd, POLLIN, 0 };
	while (!(p.revents & (POLLHUP | POLLERR))) {
		poll(&p, 1, -1);
	}
	/* The end that came first is read again, or the reset is told: both happen on one machine. */
	k = recv(fd, data, 1, 0);
	out("reset", "%s", k == 0 || errno == ECONNRESET ? "told" : outcome(k));
	close(fd);
	setsockopt(l, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
	n = sizeof(one);
	getsockopt(l, SOL_SOCKET, SO_ACCEPTCONN, &one, &n);
	inet_ntop(AF_INET, &a.sin_addr, text, sizeof(text));
	out("listener", "%d %s", one, text);
	close(l);
}

static void datagrams(void)
{
	struct sockaddr_in a = local(0), from;
	int s = socket(AF_INET, SOCK_DGRAM, 0), c = socket(AF_INET, SOCK_DGRAM, 0);
	socklen_t n = sizeof(a);
	static uint8_t data[70000], got[70000];
	struct sum sum;

	if (bind(s, (void *)&a, n) < 0 || getsockname(s, (void *)&a, &n) < 0) {
		broken("bind");
	}
	fill(data, sizeof(data), 61);
	sum_start(&sum);
	for (unsigned i = 0; i < 100; i++) {
		size_t size = i * 653;
		ssize_t w = sendto(c, data + i, size, 0, (void *)&a, sizeof(a));

		n = sizeof(from);
		ssize_t r = recvfrom(s, got, sizeof(got), 0, (void *)&from, &n);

		sum_u64(&sum, (uint64_t)(w == r) << 32 | (uint64_t)r);
		sum_add(&sum, got, (size_t)r);
	}
	out("datagrams", "%016llx from %d", (unsigned long long)sum.v, from.sin_addr.s_addr == htonl(INADDR_LOOPBACK));
	out("too large", "%s", outcome(sendto(c, data, 66000, 0, (void *)&a, sizeof(a))));
	if (sendto(c, data, 500, 0, (void *)&a, sizeof(a)) != 500) {
		broken("sendto");
	}
	out("cut", "%zd", recv(s, got, 100, MSG_TRUNC));
	close(s);
	connect(c, (void *)&a, sizeof(a));
	ssize_t r = send(c, "x", 1, 0);

	out("nobody there", "%zd then %s", r, outcome(send(c, "x", 1, 0)));
	close(c);
}

static void files(void)
{
	struct sockaddr_in a;
	int l = listener(&a), file = open("to-send", O_RDWR | O_CREAT | O_TRUNC, 0600);
	static uint8_t data[300000];
	size_t n = 0;

	fill(data, sizeof(data), 71);
	if (write(file, data, sizeof(data)) != sizeof(data)) {
		broken("write");
	}
	pid_t pid = fork();

	if (pid == 0) {
		int fd = connected(&a);
		off_t at = 1000;
		int on = 1;

		setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
		while (at < (off_t)sizeof(data)) {
			if (sendfile(fd, file, &at, 65536) <= 0) {
				_exit(1);
			}
		}
		_exit(0);
	}
	int c = accept(l, NULL, NULL);
	uint64_t v = receive_all(c, &n);

	out("file", "%zu %d %s", n, v == sum_of(data + 1000, sizeof(data) - 1000), ended(pid));
	close(c);
	close(l);
	close(file);
	unlink("to-send");
}

/* One connection after another. */
static void connections(void)
{
	struct sockaddr_in a;
	int l = listener(&a);
	unsigned sum = 0;
	pid_t pid = fork();

	if (pid == 0) {
		for (unsigned i = 0; i < 200; i++) {
			int fd = connected(&a);
			uint32_t v = i;

			if (send(fd, &v, 4, 0) != 4 || recv(fd, &v, 4, MSG_WAITALL) != 4 || v != i * 3) {
				_exit(1);
			}
			close(fd);
		}
		_exit(0);
	}
	for (unsigned i = 0; i < 200; i++) {
		int c = accept(l, NULL, NULL);
		uint32_t v = 0;

		if (recv(c, &v, 4, MSG_WAITALL) == 4) {
			sum += v;
			v *= 3;
			sum += send(c, &v, 4, 0) != 4;
		}
		close(c);
	}
	out("connections", "%u %s", sum, ended(pid));
	close(l);
}

static void unix_sockets(void)
{
	struct sockaddr_un a = { .sun_family = AF_UNIX, .sun_path = "socket" };
	int l = socket(AF_UNIX, SOCK_SEQPACKET, 0), fds[2];
	char data[64] = "";
	struct ucred who = { 0 };
	socklen_t n = sizeof(who);

	out("bind", "%s", outcome(bind(l, (void *)&a, sizeof(a))));
	out("bind again", "%s", outcome(bind(socket(AF_UNIX, SOCK_SEQPACKET, 0), (void *)&a, sizeof(a))));
	listen(l, 4);
	int c = socket(AF_UNIX, SOCK_SEQPACKET, 0);

	out("connect", "%s", outcome(connect(c, (void *)&a, sizeof(a))));
	int s = accept(l, NULL, NULL);

	getsockopt(s, SOL_SOCKET, SO_PEERCRED, &who, &n);
	out("peer", "%d", who.pid == getpid() && who.uid == getuid());
	if (send(c, "first", 5, 0) != 5 || send(c, "second one", 10, 0) != 10) {
		broken("send");
	}
	ssize_t r = recv(s, data, 3, 0);

	out("packet, cut", "%zd %.3s", r, data);
	r = recv(s, data, sizeof(data), 0);
	out("packet", "%zd %.10s", r, data);
	close(c);
	out("end", "%zd", recv(s, data, 1, 0));
	close(s);
	close(l);
	unlink("socket");
	out("gone", "%s", outcome(connect(socket(AF_UNIX, SOCK_STREAM, 0), (void *)&a, sizeof(a))));
	if (socketpair(AF_UNIX, SOCK_DGRAM | SOCK_NONBLOCK, 0, fds) < 0) {
		broken("socketpair");
	}
	out("pair", "%zd %zd %s", send(fds[0], "datagram", 8, 0), recv(fds[1], data, sizeof(data), 0),
	    outcome(recv(fds[1], data, 1, 0)));
	close(fds[0]);
	close(fds[1]);
}

void conform_net(void)
{
	section("net");
	both_ways();
	clients();
	edges();
	datagrams();
	files();
	connections();
	unix_sockets();
}
