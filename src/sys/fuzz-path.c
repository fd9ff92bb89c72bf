/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The walk by components against the kernel: whatever path is asked for, in a small tree with
 * links whose targets are part of the input, both find the same file or both find none. Input:
 * three link targets and a path, a line each, flags in the first byte.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/fd.h"
#include "base/str.h"
#include "sys/file.h"
#include "sys/path.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static char dir[] = "/tmp/holm-fuzz-path-XXXXXX";
static int dir_fd = -1, root_fd = -1;

static void at_end(void)
{
	ignore_result(sys_remove_tree(AT_FDCWD, dir)); /* nothing more to do about it */
}

static void set_up(void)
{
	assert(mkdtemp(dir));
	atexit(at_end);
	dir_fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	assert(dir_fd >= 0 && mkdirat(dir_fd, "root", 0755) == 0);
	root_fd = openat(dir_fd, "root", O_PATH | O_DIRECTORY | O_CLOEXEC);
	assert(root_fd >= 0 && mkdirat(root_fd, "a", 0755) == 0 &&
	       mkdirat(root_fd, "a/b", 0755) == 0 && mknodat(root_fd, "f", S_IFREG | 0644, 0) == 0 &&
	       mknodat(root_fd, "a/f", S_IFREG | 0644, 0) == 0 &&
	       mknodat(dir_fd, "secret", S_IFREG | 0644, 0) == 0);
}

static void find(const char *path, unsigned flags, int *ret_errno, struct stat *st)
{
	auto_close int fd = path_open(root_fd, path, flags);

	*ret_errno = fd < 0 ? -fd : 0;
	assert(fd < 0 || fstat(fd, st) == 0);
}

/* Where two things are wrong at once, either may be named. */
static bool same_error(int a, int b)
{
	return (a == 0) == (b == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const char *const links[] = { "l", "a/l", "a/b/l" };
	struct stat a = { .st_ino = 0 }, b = { .st_ino = 0 };
	struct stat secret;
	int by_kernel, by_walk;

	if (root_fd < 0) {
		set_up();
	}
	if (size < 2 || size > 2000 || memchr(data, '\0', size)) {
		return 0;
	}

	auto_free char *text = str_ndup((const char *)data + 1, size - 1);
	unsigned flags = data[0] & 7u;
	char *path = text;

	assert(text);
	for (size_t i = 0; i < ARRAY_LEN(links) && path; i++) {
		char *end = strchr(path, '\n');

		(void)unlinkat(root_fd, links[i], 0); /* of the input before */
		if (end) {
			*end++ = '\0';
			if (*path && symlinkat(path, root_fd, links[i]) < 0) {
				return 0; /* too long a target */
			}
		}
		path = end;
	}
	if (!path) {
		return 0;
	}
	find(path, flags, &by_kernel, &a);
	sys_fault_arm(SYS_CALL_openat2, 1, 0, ENOSYS);
	find(path, flags, &by_walk, &b);
	sys_fault_clear();
	if (!same_error(by_kernel, by_walk) || (by_kernel == 0 && a.st_ino != b.st_ino)) {
		fprintf(stderr, "%s (%u): kernel %d, walk %d\n", path, flags, by_kernel, by_walk);
		abort();
	}
	assert(fstatat(dir_fd, "secret", &secret, 0) == 0);
	assert(a.st_ino != secret.st_ino && b.st_ino != secret.st_ino);
	return 0;
}
