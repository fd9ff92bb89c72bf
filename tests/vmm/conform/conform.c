/* SPDX-License-Identifier: Apache-2.0 */
#include "conform.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

static const char *current = "";
static unsigned n_checks;

void section(const char *name)
{
	current = name;
	rnd_start(sum_of(name, strlen(name)));
}

void out(const char *name, const char *fmt, ...)
{
	char line[1024];
	int n = snprintf(line, sizeof(line), "%s/%s: ", current, name);
	va_list ap;

	va_start(ap, fmt);
	n += vsnprintf(line + n, sizeof(line) - (size_t)n - 1, fmt, ap);
	va_end(ap);
	n = n < (int)sizeof(line) - 1 ? n : (int)sizeof(line) - 2;
	line[n++] = '\n';
	n_checks++;
	if (write(STDOUT_FILENO, line, (size_t)n) != n) {
		_exit(99);
	}
}

void broken(const char *what)
{
	out("BROKEN", "%s: %s", what, strerror(errno));
	_exit(98);
}

static uint64_t rnd_state = 1;

void rnd_start(uint64_t seed)
{
	rnd_state = seed | 1;
}

uint64_t rnd(void)
{
	rnd_state ^= rnd_state << 13;
	rnd_state ^= rnd_state >> 7;
	rnd_state ^= rnd_state << 17;
	return rnd_state * 0x2545f4914f6cdd1d;
}

void sum_start(struct sum *s)
{
	s->v = 0xcbf29ce484222325;
}

void sum_add(struct sum *s, const void *data, size_t n)
{
	const uint8_t *p = data;

	for (size_t i = 0; i < n; i++) {
		s->v = (s->v ^ p[i]) * 0x100000001b3;
	}
}

void sum_u64(struct sum *s, uint64_t v)
{
	sum_add(s, &v, sizeof(v));
}

uint64_t sum_of(const void *data, size_t n)
{
	struct sum s;

	sum_start(&s);
	sum_add(&s, data, n);
	return s.v;
}

void fill(void *data, size_t n, uint64_t seed)
{
	uint8_t *p = data;
	uint64_t x = seed | 1;

	for (size_t i = 0; i < n; i++) {
		x = x * 6364136223846793005 + 1442695040888963407;
		p[i] = (uint8_t)(x >> 56);
	}
}

const char *outcome(long r)
{
	const char *name = r < 0 ? strerrorname_np(errno) : "ok";

	return name ? name : "an errno without a name";
}

const char *ended(int pid)
{
	static char text[32];
	int status = 0;

	if (waitpid(pid, &status, 0) != pid) {
		return "not there";
	}
	if (WIFEXITED(status)) {
		snprintf(text, sizeof(text), "exit %d", WEXITSTATUS(status));
	} else {
		snprintf(text, sizeof(text), "signal %d", WTERMSIG(status));
	}
	return text;
}

const char *child(int (*fn)(void *), void *arg)
{
	pid_t pid = fork();

	if (pid == 0) {
		_exit(fn(arg));
	}
	return pid < 0 ? "no fork" : ended(pid);
}

int main(int argc, char **argv)
{
	if (argc > 1 && strcmp(argv[1], "--again") == 0) {
		return conform_again(argc - 2, argv + 2);
	}
	if (argc != 2 || chdir(argv[1]) < 0) {
		fprintf(stderr, "usage: conform FOLDER\n");
		return 2;
	}
	umask(022);
	conform_int();
	conform_float();
	conform_libm();
	conform_libc();
	conform_time();
	conform_fork();
	conform_pipe();
	conform_signal();
	conform_trap();
	conform_thread();
	conform_futex();
	conform_mmap();
	conform_code();
	conform_net();
	conform_disk();
	section("all");
	out("checks", "%u", n_checks + 1);
	return 0;
}
