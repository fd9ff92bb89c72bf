/* SPDX-License-Identifier: Apache-2.0 */
/*
 * gcc makes an object file of SQLite's one source file, which is preprocessed already. It is
 * /src/sqlite3.i in the guest; natively $BENCH_SOURCE names it.
 */
#define _GNU_SOURCE
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "guest.h"

static char output[] = "/tmp/holm-bench-XXXXXX.o";

static void prepare(void)
{
	int fd = mkstemps(output, 2);

	if (fd < 0 || setenv("PATH", "/usr/bin:/bin", 1)) {
		give_up(output);
	}
	close(fd);
}

static void compile(void)
{
	const char *source = getenv("BENCH_SOURCE");
	int status = -1;
	pid_t child = fork();

	if (child == 0) {
		execlp("gcc", "gcc", "-O0", "-w", "-c", "-o", output,
		       source ? source : "/src/sqlite3.i", (char *)NULL);
		_exit(127);
	}
	if (child < 0 || waitpid(child, &status, 0) != child || status != 0) {
		unlink(output);
		give_up("gcc");
	}
}

static uint64_t sum_of_output(void)
{
	FILE *f = fopen(output, "re");
	uint64_t sum = 0;

	if (!f) {
		give_up(output);
	}
	for (int c = 0; (c = getc(f)) != EOF;) {
		sum = sum * 31 + (uint64_t)c;
	}
	fclose(f);
	unlink(output);
	return sum;
}

static uint64_t run(unsigned work)
{
	while (work--) {
		compile();
	}
	return sum_of_output();
}

const struct program compile_programs[] = {
	{ "compile", run, 1, prepare },
	{ 0 },
};
