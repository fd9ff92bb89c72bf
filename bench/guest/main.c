/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Process 1 of the guests that bench/guests.py boots, and natively a program like others: reads
 * commands, a line each, and answers them on the console, where it says first that it is ready
 * and how many processors there are.
 *
 *   list              program NAME WORK ... end
 *   counter           counter KHZ: of the processor's time stamps
 *   run NAME WORK     begin NAME, NAME SECONDS WORK SUM PROCESSOR-SECONDS
 *                     or: failed NAME WHY
 *
 * Every run is a process of its own, so that none finds what another left: memory that it
 * touched, numbers that it took. The seconds are those of CLOCK_MONOTONIC.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <termios.h>
#include <time.h>
#include <unistd.h>

#include "guest.h"

static const struct program *const lists[] = {
	int_programs, core_programs, sha256_programs, gzip_programs, memory_programs,
	float_programs, matrix_programs, rewrite_programs, kernel_programs, thread_programs,
	device_programs, compile_programs, jit_programs, small_programs,
};

const char *own_path = "/init";

static uint64_t random_state = 88172645463325252u;

uint32_t random_next(void)
{
	random_state ^= random_state << 13;
	random_state ^= random_state >> 7;
	random_state ^= random_state << 17;
	return (uint32_t)(random_state >> 16);
}

_Noreturn void give_up(const char *why)
{
	printf("%s: %s\n", why, strerror(errno));
	fflush(stdout);
	_exit(1);
}

static void list_all(void)
{
	for (size_t i = 0; i < sizeof(lists) / sizeof(lists[0]); i++) {
		for (const struct program *p = lists[i]; p->name; p++) {
			printf("program %s %u\n", p->name, p->work);
		}
	}
	printf("end\n");
}

static const struct program *find(const char *name)
{
	for (size_t i = 0; i < sizeof(lists) / sizeof(lists[0]); i++) {
		for (const struct program *p = lists[i]; p->name; p++) {
			if (strcmp(p->name, name) == 0) {
				return p;
			}
		}
	}
	return NULL;
}

static uint64_t nanoseconds(void)
{
	struct timespec t = { 0 };

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000000000 + (uint64_t)t.tv_nsec;
}

/* What this process has taken of the processors, and its children that have ended. */
static double processor_seconds(void)
{
	struct rusage own = { 0 }, children = { 0 };

	getrusage(RUSAGE_SELF, &own);
	getrusage(RUSAGE_CHILDREN, &children);
	return (double)(own.ru_utime.tv_sec + own.ru_stime.tv_sec + children.ru_utime.tv_sec +
			children.ru_stime.tv_sec) +
	       (double)(own.ru_utime.tv_usec + own.ru_stime.tv_usec + children.ru_utime.tv_usec +
			children.ru_stime.tv_usec) / 1e6;
}

static void run_here(const struct program *p, unsigned work)
{
	if (p->prepare) {
		p->prepare();
	}
	printf("begin %s\n", p->name);
	fflush(stdout);

	double processor = processor_seconds();
	uint64_t begin = nanoseconds(), sum = p->run(work), took = nanoseconds() - begin;

	printf("%s %.9f %u %llx %.6f\n", p->name, (double)took / 1e9, work,
	       (unsigned long long)sum, processor_seconds() - processor);
	fflush(stdout);
}

static void run_apart(const struct program *p, unsigned work)
{
	int status = 0;
	pid_t child = fork();

	if (child == 0) {
		run_here(p, work);
		_exit(0);
	}
	if (child < 0 || waitpid(child, &status, 0) != child) {
		give_up("cannot start a process");
	}
	if (status != 0) {
		printf("failed %s status %#x\n", p->name, (unsigned)status);
	}
}

static void measure_counter(void)
{
	uint64_t begin = nanoseconds(), counted = __builtin_ia32_rdtsc(), took = 0;

	while ((took = nanoseconds() - begin) < 100000000) {
	}
	counted = __builtin_ia32_rdtsc() - counted;
	printf("counter %llu\n", (unsigned long long)(counted * 1000000 / took));
}

static void command(const char *line)
{
	char name[32] = "";
	unsigned work = 0;

	if (strncmp(line, "list", 4) == 0) {
		list_all();
	} else if (strncmp(line, "counter", 7) == 0) {
		measure_counter();
	} else if (sscanf(line, "run %31s %u", name, &work) == 2 && find(name)) {
		run_apart(find(name), work);
	} else {
		printf("failed %s unknown\n", name);
	}
	fflush(stdout);
}

/* In an initramfs without the node the kernel has opened nothing for its init. */
static void open_console(void)
{
	struct termios t;
	int fd = open("/dev/console", O_RDWR);

	if (fd < 0) {
		return;
	}
	for (int i = 0; i < 3; i++) {
		dup2(fd, i);
	}
	if (tcgetattr(0, &t) == 0) {
		t.c_lflag &= (tcflag_t)~ECHO;
		t.c_oflag &= (tcflag_t)~OPOST;
		tcsetattr(0, TCSANOW, &t);
	}
}

int main(int argc, char **argv)
{
	static char path[4096];
	char line[128];

	if (argc > 1) {
		return strcmp(argv[1], "nothing") == 0 ? 0 : 2;
	}
	if (getpid() == 1) {
		open_console();
	} else if (realpath("/proc/self/exe", path)) {
		own_path = path;
	}
	(void)argv;
	printf("bench ready %ld\n", sysconf(_SC_NPROCESSORS_ONLN));
	fflush(stdout);
	while (fgets(line, sizeof(line), stdin)) {
		command(line);
	}
	while (getpid() == 1) {
		pause();
	}
	return 0;
}
