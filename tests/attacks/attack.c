/* SPDX-License-Identifier: Apache-2.0 */
/* The main of the attack program, and its tools for the host's side of a race. */
#include "attack.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

static void __attribute__((format(printf, 2, 0))) say(const char *kind, const char *fmt, va_list ap)
{
	printf("%s ", kind);
	vprintf(fmt, ap);
	printf("\n");
	fflush(stdout);
}

void held(const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	say("held", fmt, ap);
	va_end(ap);
}

void escaped(const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	say("ESCAPED", fmt, ap);
	va_end(ap);
}

void verdict(long r, const char *what)
{
	if (r < 0) {
		held("%s: %s", what, strerror(errno));
	} else {
		escaped("%s: %ld", what, r);
	}
}

static bool reads_secret(int dir_fd, const char *path)
{
	char text[64] = "";
	int fd = openat(dir_fd, path, O_RDONLY | O_CLOEXEC);
	ssize_t n = fd < 0 ? -1 : read(fd, text, sizeof(text) - 1);

	if (fd >= 0) {
		close(fd);
	}
	return n > 0 && strncmp(text, "top-secret", 10) == 0;
}

bool finds_secret(int dir_fd, const char *secret, const char *how)
{
	char path[4096] = "";

	for (int up = 0; up <= 24; up++) {
		size_t n = strlen(path);

		snprintf(path + n, sizeof(path) - n, "%s", secret + 1);
		if (reads_secret(dir_fd, path)) {
			escaped("%s: read %s", how, path);
			return true;
		}
		snprintf(path + n, sizeof(path) - n, "../");
	}
	return false;
}

/* swap DIR A B: exchange two names until killed. */
static int tool_swap(int argc, char **argv)
{
	int dir = argc == 3 ? open(argv[0], O_RDONLY | O_DIRECTORY | O_CLOEXEC) : -1;

	if (dir < 0) {
		return 2;
	}
	for (;;) {
		(void)syscall(SYS_renameat2, dir, argv[1], dir, argv[2], 2 /* exchange */);
	}
}

static int syscall_number(const char *name)
{
	return strcmp(name, "openat2") == 0 ? SYS_openat2 :
	       strcmp(name, "open_tree") == 0 ? SYS_open_tree :
	       strcmp(name, "fsopen") == 0 ? SYS_fsopen :
	       strcmp(name, "close_range") == 0 ? SYS_close_range : -1;
}

/* enosys CALL PROGRAM [ARG...]: run a program as on a kernel without that call. */
static int tool_enosys(int argc, char **argv)
{
	struct sock_filter code[] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, 0, 0, 1),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | ENOSYS),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
	};
	struct sock_fprog prog = { .len = 4, .filter = code };

	if (argc < 2 || syscall_number(argv[0]) < 0) {
		return 2;
	}
	code[1].k = (uint32_t)syscall_number(argv[0]);
	if (syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, &prog) < 0) {
		perror("seccomp");
		return 2;
	}
	execvp(argv[1], argv + 1);
	perror(argv[1]);
	return 2;
}

static const struct attack tools[] = {
	{ "swap", tool_swap, "DIR A B" },
	{ "enosys", tool_enosys, "CALL PROGRAM [ARG...]" },
	{ NULL, NULL, NULL },
};

int main(int argc, char **argv)
{
	const struct attack *const tables[] = { tools, attacks_files, attacks_proc, attacks_calls };

	for (size_t t = 0; argc > 1 && t < sizeof(tables) / sizeof(tables[0]); t++) {
		for (const struct attack *a = tables[t]; a->name; a++) {
			if (strcmp(a->name, argv[1]) == 0) {
				int r = a->run(argc - 2, argv + 2);

				printf("done %s\n", a->name);
				return r;
			}
		}
	}
	fprintf(stderr, "no such attack\n");
	return 2;
}
