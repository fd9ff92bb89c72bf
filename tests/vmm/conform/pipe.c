/* SPDX-License-Identifier: Apache-2.0 */
/* Pipes, socket pairs, and what waits for them. */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/select.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

#include "conform.h"

enum { MUCH = 3 << 20 };

struct ends {
	int fds[2];
};

static int pour(void *arg)
{
	struct ends *e = arg;
	static uint8_t data[70000];
	size_t left = MUCH, n = 0;

	close(e->fds[0]);
	for (unsigned i = 0; left > 0; i++, left -= n) {
		n = 1 + (i * 7919U) % sizeof(data);
		n = n < left ? n : left;
		fill(data, n, i);
		for (size_t at = 0; at < n;) {
			ssize_t w = write(e->fds[1], data + at, n - at);

			if (w < 0) {
				return 1;
			}
			at += (size_t)w;
		}
	}
	return 0;
}

static void through(const char *name, int fds[2])
{
	struct ends e = { { fds[0], fds[1] } };
	static uint8_t data[50000];
	struct sum s;
	size_t total = 0;
	pid_t pid = fork();

	if (pid == 0) {
		_exit(pour(&e));
	}
	close(fds[1]);
	sum_start(&s);
	for (ssize_t n; (n = read(fds[0], data, sizeof(data))) > 0; total += (size_t)n) {
		sum_add(&s, data, (size_t)n);
	}
	close(fds[0]);
	out(name, "%zu %016llx %s", total, (unsigned long long)s.v, ended(pid));
}

/* Through a row of processes, each of which changes it. */
static void row(void)
{
	enum { LENGTH = 8, BYTES = 100000 };
	int in = -1, fds[2];
	static uint8_t data[BYTES];

	for (unsigned i = 0; i <= LENGTH; i++) {
		if (pipe(fds) < 0) {
			broken("pipe");
		}
		if (fork() == 0) {
			close(fds[0]);
			fill(data, sizeof(data), 9);
			size_t total = 0;

			for (ssize_t n = 1; in >= 0 && n > 0; total += (size_t)n) {
				n = read(in, data + total, sizeof(data) - total);
				for (ssize_t k = 0; k < n; k++) {
					data[total + (size_t)k] = (uint8_t)(data[total + (size_t)k] * 5 + i);
				}
			}
			for (size_t at = 0; at < BYTES;) {
				at += (size_t)write(fds[1], data + at, BYTES - at);
			}
			_exit(0);
		}
		close(fds[1]);
		if (in >= 0) {
			close(in);
		}
		in = fds[0];
	}
	size_t total = 0;

	for (ssize_t n; (n = read(in, data + total, sizeof(data) - total)) > 0;) {
		total += (size_t)n;
	}
	close(in);
	while (wait(NULL) > 0) {
	}
	out("row of processes", "%zu %016llx", total, (unsigned long long)sum_of(data, total));
}

/* Writes of up to PIPE_BUF bytes are never mixed. */
static void whole_lines(void)
{
	enum { WRITERS = 6, LINES = 200, BYTES = 512 };
	int fds[2];
	unsigned lines = 0, mixed = 0;
	char line[BYTES];

	if (pipe(fds) < 0) {
		broken("pipe");
	}
	for (int w = 0; w < WRITERS; w++) {
		if (fork() == 0) {
			memset(line, 'a' + w, sizeof(line));
			for (unsigned i = 0; i < LINES; i++) {
				if (write(fds[1], line, sizeof(line)) != BYTES) {
					_exit(1);
				}
			}
			_exit(0);
		}
	}
	close(fds[1]);
	for (;;) {
		size_t at = 0;
		ssize_t n = 1;

		while (at < BYTES && (n = read(fds[0], line + at, BYTES - at)) > 0) {
			at += (size_t)n;
		}
		if (at < BYTES) {
			break;
		}
		lines++;
		for (unsigned i = 1; i < BYTES; i++) {
			mixed += line[i] != line[0];
		}
	}
	close(fds[0]);
	while (wait(NULL) > 0) {
	}
	out("whole lines", "%u lines, %u mixed", lines, mixed);
}

static void edges(void)
{
	int fds[2];
	char data[4096] = { 0 };
	size_t room = 0;

	if (pipe2(fds, O_NONBLOCK) < 0) {
		broken("pipe2");
	}
	out("empty", "%s", outcome(read(fds[0], data, 1)));
	while (write(fds[1], data, sizeof(data)) > 0) {
		room += sizeof(data);
	}
	out("full", "%zu %s", room, outcome(-1));
	out("resized", "%d", fcntl(fds[1], F_SETPIPE_SZ, 131072));
	out("more room", "%zd", write(fds[1], data, sizeof(data)));
	close(fds[0]);
	signal(SIGPIPE, SIG_IGN);
	out("no reader", "%s", outcome(write(fds[1], data, 1)));
	signal(SIGPIPE, SIG_DFL);
	close(fds[1]);
	if (pipe(fds) < 0) {
		broken("pipe");
	}
	close(fds[1]);
	out("no writer", "%zd", read(fds[0], data, 1));
	close(fds[0]);
	out("not open", "%s", outcome(read(fds[0], data, 1)));
	if (pipe(fds) < 0) {
		broken("pipe");
	}
	out("wrong end", "%s", outcome(write(fds[0], data, 1)));
	out("bad memory", "%s", outcome(write(fds[1], (void *)(uintptr_t)(rnd() % 8 + 1), 1)));
	out("seek", "%s", outcome(lseek(fds[0], 0, SEEK_SET)));
	close(fds[0]);
	close(fds[1]);
}

static void vectors(void)
{
	int fds[2], other[2];
	char a[] = "one ", b[] = "two ", c[] = "three", got[32] = "", more[8] = "";
	struct iovec parts[] = { { a, 4 }, { b, 4 }, { c, 5 } }, into[] = { { got, 6 }, { more, 7 } };

	if (pipe(fds) < 0 || pipe(other) < 0) {
		broken("pipe");
	}
	ssize_t w = writev(fds[1], parts, 3), r = readv(fds[0], into, 2);

	out("vectors", "%zd %zd '%s' '%.7s'", w, r, got, more);
	w = write(fds[1], "spliced text", 12);
	ssize_t t = tee(fds[0], other[1], 7, 0), m = splice(fds[0], NULL, other[1], NULL, 12, 0);

	memset(got, 0, sizeof(got));
	r = read(other[0], got, sizeof(got));
	out("splice", "%zd %zd %zd '%s'", t, m, r, got);
	struct iovec page = { c, 5 };

	out("vmsplice", "%zd", vmsplice(fds[1], &page, 1, 0));
	for (int i = 0; i < 2; i++) {
		close(fds[i]);
		close(other[i]);
	}
}

static void waiting(void)
{
	int fds[2];
	struct pollfd p[2];
	char c = 'x';

	if (pipe(fds) < 0) {
		broken("pipe");
	}
	p[0] = (struct pollfd){ fds[0], POLLIN, 0 };
	p[1] = (struct pollfd){ fds[1], POLLOUT, 0 };
	int r = poll(p, 2, 0);

	out("poll", "%d %x %x", r, p[0].revents, p[1].revents);
	if (write(fds[1], &c, 1) != 1) {
		broken("write");
	}
	r = poll(p, 2, 0);
	out("poll with data", "%d %x %x", r, p[0].revents, p[1].revents);
	fd_set set;
	struct timeval tv = { 0, 1000 };

	FD_ZERO(&set);
	FD_SET(fds[0], &set);
	r = select(fds[0] + 1, &set, NULL, NULL, &tv);
	out("select", "%d %d", r, !!FD_ISSET(fds[0], &set));
	int ep = epoll_create1(0), ev = eventfd(3, EFD_SEMAPHORE | EFD_NONBLOCK);
	struct epoll_event e = { EPOLLIN | EPOLLET, { .u32 = 77 } }, got[4];

	epoll_ctl(ep, EPOLL_CTL_ADD, fds[0], &e);
	e = (struct epoll_event){ EPOLLIN, { .u32 = 78 } };
	epoll_ctl(ep, EPOLL_CTL_ADD, ev, &e);
	for (unsigned i = 0; i < 3; i++) {
		r = epoll_wait(ep, got, 4, 0);
		out("epoll", "%d %u %x", r, r > 0 ? got[0].data.u32 : 0, r > 0 ? got[0].events : 0);
	}
	uint64_t v = 0;
	unsigned n = 0;

	while (read(ev, &v, sizeof(v)) == sizeof(v)) {
		n += (unsigned)v;
	}
	out("eventfd", "%u %s", n, outcome(-1));
	close(fds[1]);
	r = poll(p, 1, 0);
	out("poll, no writer", "%d %x", r, p[0].revents);
	close(fds[0]);
	close(ep);
	close(ev);
}

/* One process with the other, in turn, many times. */
static void ping_pong(void)
{
	int a[2], b[2];
	uint32_t v = 0;

	if (pipe(a) < 0 || pipe(b) < 0) {
		broken("pipe");
	}
	pid_t pid = fork();

	if (pid == 0) {
		close(a[1]);
		while (read(a[0], &v, sizeof(v)) == sizeof(v)) {
			v = v * 3 + 1;
			if (write(b[1], &v, sizeof(v)) != sizeof(v)) {
				break;
			}
		}
		_exit(0);
	}
	for (unsigned i = 0; i < 3000; i++) {
		if (write(a[1], &v, sizeof(v)) != sizeof(v) || read(b[0], &v, sizeof(v)) != sizeof(v)) {
			broken("ping pong");
		}
	}
	close(a[1]);
	out("ping pong", "%08x %s", v, ended(pid));
	close(a[0]);
	close(b[0]);
	close(b[1]);
}

static void descriptors(void)
{
	int fds[2], p[2], got = -1;
	char c = 'd', control[CMSG_SPACE(sizeof(int))] = { 0 }, text[8] = "";
	struct iovec iov = { &c, 1 };
	struct msghdr m = { .msg_iov = &iov, .msg_iovlen = 1, .msg_control = control,
			    .msg_controllen = sizeof(control) };

	if (socketpair(AF_UNIX, SOCK_STREAM, 0, fds) < 0 || pipe(p) < 0) {
		broken("socketpair");
	}
	struct cmsghdr *h = CMSG_FIRSTHDR(&m);

	if (!h) {
		broken("control message");
	}
	h->cmsg_level = SOL_SOCKET;
	h->cmsg_type = SCM_RIGHTS;
	h->cmsg_len = CMSG_LEN(sizeof(int));
	memcpy(CMSG_DATA(h), &p[1], sizeof(int));
	ssize_t s = sendmsg(fds[0], &m, 0);

	close(p[1]);
	ssize_t r = recvmsg(fds[1], &m, 0);

	h = CMSG_FIRSTHDR(&m);
	if (!h) {
		broken("control message");
	}
	memcpy(&got, CMSG_DATA(h), sizeof(int));
	if (write(got, "passed", 6) != 6) {
		broken("descriptor that came");
	}
	close(got);
	out("descriptor", "%zd %zd %zd %s", s, r, read(p[0], text, 7), text);
	close(p[0]);
	close(fds[0]);
	close(fds[1]);
}

void conform_pipe(void)
{
	int fds[2];

	section("pipe");
	if (pipe(fds) < 0) {
		broken("pipe");
	}
	through("much", fds);
	if (socketpair(AF_UNIX, SOCK_STREAM, 0, fds) < 0) {
		broken("socketpair");
	}
	through("much, socket pair", fds);
	if (mkfifo("fifo", 0600) < 0) {
		broken("mkfifo");
	}
	fds[0] = open("fifo", O_RDONLY | O_NONBLOCK);
	fds[1] = open("fifo", O_WRONLY);
	fcntl(fds[0], F_SETFL, 0);
	through("much, by name", fds);
	unlink("fifo");
	row();
	whole_lines();
	edges();
	vectors();
	waiting();
	ping_pong();
	descriptors();
}
