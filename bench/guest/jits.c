/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Programs that make code while they run: Debian's node and Java, from a root on the first disk,
 * with a program of each that is known by what it prints.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "guest.h"

static void mounted(const char *what, const char *where, const char *type, unsigned long flags)
{
	if (mount(what, where, type, flags, NULL) && errno != EBUSY) {
		give_up(where);
	}
}

/* The first run of a boot prepares for all. */
static void prepare(void)
{
	if (setenv("PATH", "/usr/bin:/bin", 1)) {
		give_up("PATH");
	}
	if (access("/root/usr", F_OK) == 0) {
		return;
	}
	load_drivers();
	mounted("dev", "/dev", "devtmpfs", 0);
	mounted("/dev/vda", "/root", "ext4", MS_RDONLY);
	mounted("/dev", "/root/dev", NULL, MS_BIND);
	mounted("proc", "/root/proc", "proc", 0);
	mounted("sys", "/root/sys", "sysfs", 0);
	mounted("/src", "/root/mnt", NULL, MS_BIND);
	mounted("tmp", "/root/tmp", "tmpfs", 0);
}

static uint64_t run(const char *program, const char *text)
{
	int ends[2] = { -1, -1 }, status = -1, c = 0;
	pid_t child = pipe(ends) ? -1 : fork();
	uint64_t sum = 0;
	FILE *out = NULL;

	if (child == 0) {
		if (chroot("/root") == 0 && chdir("/") == 0 && dup2(ends[1], 1) == 1) {
			close(ends[0]);
			close(ends[1]);
			execl(program, program, text, (char *)NULL);
		}
		_exit(127);
	}
	if (child < 0 || close(ends[1]) || !(out = fdopen(ends[0], "r"))) {
		give_up(program);
	}
	while ((c = getc(out)) != EOF) {
		sum = sum * 31 + (uint64_t)c;
	}
	fclose(out);
	if (waitpid(child, &status, 0) != child || status != 0) {
		give_up(program);
	}
	return sum;
}

static uint64_t node(unsigned work)
{
	uint64_t sum = 0;

	while (work--) {
		sum = sum * 31 + run("/usr/bin/node", "/mnt/program.js");
	}
	return sum;
}

static uint64_t java(unsigned work)
{
	uint64_t sum = 0;

	while (work--) {
		sum = sum * 31 + run("/usr/bin/java", "/mnt/Program.java");
	}
	return sum;
}

const struct program jit_programs[] = {
	{ "node", node, 1, prepare },
	{ "java", java, 1, prepare },
	{ 0 },
};
