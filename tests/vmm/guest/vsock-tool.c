/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Runs in the guest: vsock connections of every kind.
 *
 *	vsock-tool serve PORT       each connection says by its first byte what it wants (serve())
 *	vsock-tool dial PORT N KIB  N connections at a time to the host, each echoed there
 *	vsock-tool refused PORT     print why the host does not take a connection
 *	vsock-tool stream PORT      one connection: numbered words, until the host has ended it
 */
#include <errno.h>
#include <linux/vm_sockets.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

static int whole(int fd, const void *data, size_t n)
{
	for (size_t at = 0; at < n;) {
		ssize_t w = write(fd, (const char *)data + at, n - at);

		if (w <= 0) {
			return -1;
		}
		at += (size_t)w;
	}
	return 0;
}

static void fill(uint32_t *words, size_t n, uint32_t *state)
{
	for (size_t i = 0; i < n; i++) {
		*state = *state * 1664525 + 1013904223;
		words[i] = *state;
	}
}

static int dial(unsigned port)
{
	struct sockaddr_vm a = { .svm_family = AF_VSOCK, .svm_port = port,
				 .svm_cid = VMADDR_CID_HOST };
	int s = socket(AF_VSOCK, SOCK_STREAM, 0);

	return s < 0 || connect(s, (void *)&a, sizeof(a)) ? -1 : s;
}

/* Write from a child and read here, as both directions at once must not wait for each other. */
static int echoed(unsigned port, uint32_t seed, unsigned kib)
{
	static uint32_t out[256], in[256];
	int s = dial(port);
	uint32_t state = seed, want = seed;
	size_t have = 0, total = 0;

	if (s < 0) {
		return 1;
	}
	pid_t pid = fork();

	if (pid == 0) {
		for (unsigned i = 0; i < kib; i++) {
			fill(out, 256, &state);
			if (whole(s, out, sizeof(out))) {
				_exit(1);
			}
		}
		_exit(shutdown(s, SHUT_WR) ? 1 : 0);
	}
	for (ssize_t n; (n = read(s, (char *)in + have, sizeof(in) - have)) > 0;) {
		have += (size_t)n;
		if (have == sizeof(in)) {
			fill(out, 256, &want);
			if (memcmp(in, out, sizeof(in))) {
				return 2;
			}
			total += have;
			have = 0;
		}
	}
	int status = 1;

	waitpid(pid, &status, 0);
	return status || have || total != (size_t)kib * 1024 ? 3 : 0;
}

static void serve(int c)
{
	static char b[65536];
	char kind = 0;
	uint64_t total = 0, sum = 0;

	if (read(c, &kind, 1) != 1) {
		return;
	}
	switch (kind) {
	case 'e':	/* echo */
		for (ssize_t n; (n = read(c, b, sizeof(b))) > 0;) {
			if (whole(c, b, (size_t)n)) {
				return;
			}
		}
		return;
	case 's':	/* how much came, and its sum, after the other side ended */
		for (ssize_t n; (n = read(c, b, sizeof(b))) > 0;) {
			total += (uint64_t)n;
			for (ssize_t i = 0; i < n; i++) {
				sum += (unsigned char)b[i];
			}
		}
		whole(c, &total, 8);
		whole(c, &sum, 8);
		return;
	case 'g':	/* as many bytes as it says, then a half close and a wait for the other's */
		if (read(c, &total, 8) != 8) {
			return;
		}
		memset(b, 'g', sizeof(b));
		for (; total > 0; total -= sum) {
			sum = total < sizeof(b) ? total : sizeof(b);
			if (whole(c, b, sum)) {
				return;
			}
		}
		shutdown(c, SHUT_WR);
		while (read(c, b, sizeof(b)) > 0) {
		}
		return;
	case 'd':	/* hear nothing, say nothing, for ever: its peer gives up */
		while (read(c, b, 1) >= 0 && sleep(1) == 0) {
		}
		return;
	case 'x':	/* away at once, with what came unread */
		return;
	}
}

static int listen_at(unsigned port)
{
	struct sockaddr_vm a = { .svm_family = AF_VSOCK, .svm_port = port,
				 .svm_cid = VMADDR_CID_ANY };
	int s = socket(AF_VSOCK, SOCK_STREAM, 0);

	if (bind(s, (void *)&a, sizeof(a)) || listen(s, 256)) {
		return 1;
	}
	signal(SIGCHLD, SIG_IGN);
	puts("tool: listening");
	fflush(stdout);
	for (;;) {
		int c = accept(s, NULL, NULL);

		if (c >= 0 && fork() == 0) {
			serve(c);
			_exit(0);
		}
		close(c);
	}
}

int main(int argc, char **argv)
{
	unsigned port = argc > 2 ? (unsigned)atoi(argv[2]) : 0;

	signal(SIGPIPE, SIG_IGN);
	if (argc == 3 && !strcmp(argv[1], "serve")) {
		return listen_at(port);
	}
	if (argc == 3 && !strcmp(argv[1], "refused")) {
		int s = dial(port);

		printf("tool: refused %d %s\n", s, s < 0 ? strerror(errno) : "");
		return s >= 0;
	}
	if (argc == 5 && !strcmp(argv[1], "dial")) {
		int n = atoi(argv[3]), good = 0, status = 0;

		for (int i = 0; i < n; i++) {
			if (fork() == 0) {
				int r = echoed(port, (uint32_t)i + 7, (unsigned)atoi(argv[4]));

				if (r) {
					printf("tool: dial %d: %d %s\n", i, r, strerror(errno));
					fflush(stdout);
				}
				_exit(r);
			}
		}
		while (wait(&status) > 0) {
			good += status == 0;
		}
		printf("tool: dialled %d of %d\n", good, n);
		return good != n;
	}
	if (argc == 3 && !strcmp(argv[1], "stream")) {
		static uint32_t words[1024];
		uint32_t next = 0;
		int s = dial(port);

		do {
			for (unsigned i = 0; i < 1024; i++) {
				words[i] = next++;
			}
		} while (s >= 0 && whole(s, words, sizeof(words)) == 0);
		printf("tool: stream ended %s\n", strerror(errno));
		return 0;
	}
	return 2;
}
