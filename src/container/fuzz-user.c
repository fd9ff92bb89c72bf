/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Input: the user's text up to a newline, /etc/passwd up to a byte 1, /etc/group. Whatever
 * comes out has ids of full width, each group once, and a home that is absolute.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/fd.h"
#include "base/mem.h"
#include "base/str.h"
#include "container/user.h"
#include "sys/file.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static char root[] = "/tmp/holm-fuzz-user-XXXXXX";
static int root_fd = -1;

static void at_end(void)
{
	ignore_result(sys_remove_tree(AT_FDCWD, root)); /* nothing more to do about it */
}

static void put(const char *path, const uint8_t *data, size_t n)
{
	auto_close int fd = openat(root_fd, path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);

	assert(fd >= 0 && sys_write_full(fd, data, n) == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	const uint8_t *line = size ? memchr(data, '\n', size) : NULL;
	const uint8_t *rest = line ? line + 1 : data + size;
	size_t n = (size_t)(data + size - rest);
	const uint8_t *group = n ? memchr(rest, 1, n) : NULL;
	size_t passwd_n = group ? (size_t)(group - rest) : n;
	auto_free char *text = str_ndup((const char *)data, line ? (size_t)(line - data) : size);
	auto_arena struct arena a = ARENA_INIT;
	struct err e = ERR_INIT;
	struct user u;

	if (root_fd < 0) {
		assert(mkdtemp(root));
		atexit(at_end);
		root_fd = open(root, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
		assert(root_fd >= 0 && sys_mkdirat(root_fd, "etc", 0700) == 0);
	}
	put("etc/passwd", rest, passwd_n);
	put("etc/group", group ? group + 1 : rest, group ? n - passwd_n - 1 : 0);
	assert(text);
	if (user_resolve(root_fd, text, &a, &u, &e) < 0) {
		assert(e.errnum > 0 && e.msg[0]);
		return 0;
	}
	assert(u.uid != (uid_t)-1 && u.gid != (gid_t)-1);
	assert(!u.home || u.home[0] == '/');
	for (size_t i = 0; i < u.n_groups; i++) {
		assert(u.groups[i] != (gid_t)-1);
		assert(i == 0 || u.groups[i] != u.groups[i - 1]);
	}
	return 0;
}
