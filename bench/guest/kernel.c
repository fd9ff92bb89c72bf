/* SPDX-License-Identifier: Apache-2.0 */
/* What the kernel does for a process: calls, the clock, pipes, processes, pages. */
#define _GNU_SOURCE
#include <stddef.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "guest.h"

static uint64_t ask_pid(unsigned work)
{
	uint64_t same = 0;
	pid_t pid = getpid();

	for (unsigned i = 0; i < work * 1000; i++) {
		same += syscall(SYS_getpid) == pid;
	}
	return same;
}

static uint64_t ask_clock(unsigned work)
{
	uint64_t forward = 0, last = 0;

	for (unsigned i = 0; i < work * 1000; i++) {
		struct timespec t = { 0 };

		clock_gettime(CLOCK_MONOTONIC, &t);

		uint64_t now = (uint64_t)t.tv_sec * 1000000000 + (uint64_t)t.tv_nsec;

		forward += now >= last;
		last = now;
	}
	return forward;
}

/* --- A byte goes to another process and comes back, one more --- */

static void answer(int in, int out)
{
	unsigned char c = 0;

	while (read(in, &c, 1) == 1) {
		c++;
		if (write(out, &c, 1) != 1) {
			break;
		}
	}
	_exit(0);
}

static uint64_t ping_pong(unsigned work)
{
	int there[2] = { -1, -1 }, back[2] = { -1, -1 };
	unsigned char c = 0;
	uint64_t sum = 0;

	if (pipe(there) || pipe(back)) {
		give_up("no pipe");
	}

	pid_t child = fork();

	if (child < 0) {
		give_up("no process");
	}
	if (child == 0) {
		close(there[1]);
		answer(there[0], back[1]);
	}
	for (unsigned i = 0; i < work * 100; i++) {
		if (write(there[1], &c, 1) != 1 || read(back[0], &c, 1) != 1) {
			give_up("the pipe broke");
		}
		sum += c;
	}
	close(there[1]);
	waitpid(child, NULL, 0);
	return sum;
}

/* --- Processes --- */

static uint64_t children(unsigned work, int execute)
{
	uint64_t right = 0;

	for (unsigned i = 0; i < work * 10; i++) {
		int status = -1;
		pid_t child = fork();

		if (child < 0) {
			give_up("no process");
		}
		if (child == 0) {
			if (execute) {
				execl(own_path, own_path, "nothing", (char *)NULL);
				_exit(127);
			}
			_exit(0);
		}
		right += waitpid(child, &status, 0) == child && status == 0;
	}
	return right;
}

/* As much memory as a small shell has. */
static unsigned char own[1 << 20];

static void prepare_fork(void)
{
	for (size_t i = 0; i < sizeof(own); i += 4096) {
		own[i] = 1;
	}
}

static uint64_t only_fork(unsigned work)
{
	return children(work, 0);
}

static uint64_t fork_exec(unsigned work)
{
	return children(work, 1);
}

/* --- Pages that are not there yet --- */

static uint64_t faults(unsigned work)
{
	enum { SIZE = 8 << 20, PAGE = 4096 };
	uint64_t sum = 0;

	while (work--) {
		unsigned char *p = mmap(NULL, SIZE, PROT_READ | PROT_WRITE,
					MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

		if (p == MAP_FAILED || madvise(p, SIZE, MADV_NOHUGEPAGE)) {
			give_up("no memory");
		}
		for (size_t i = 0; i < SIZE; i += PAGE) {
			p[i]++;
			sum += p[i + 1] + p[i];
		}
		munmap(p, SIZE);
	}
	return sum;
}

const struct program kernel_programs[] = {
	{ "getpid", ask_pid, 500, NULL },
	{ "clock", ask_clock, 4000, NULL },
	{ "pipe", ping_pong, 50, NULL },
	{ "fork", only_fork, 30, prepare_fork },
	{ "forkexec", fork_exec, 15, NULL },
	{ "faults", faults, 10, NULL },
	{ 0 },
};
