/* SPDX-License-Identifier: Apache-2.0 */
/* The commands of holm-image that bring images in and out as files. */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "image/archive.h"
#include "main/holm-image.h"
#include "sys/file.h"

/* "-": standard input. */
static int open_input(const char *file, struct err *e)
{
	if (str_eq(file, "-")) {
		int fd = sys_dup(STDIN_FILENO);

		return fd < 0 ? err_set(e, -fd, ERR_HOST, "standard input") : fd;
	}

	int fd = sys_openat(AT_FDCWD, file, O_RDONLY, 0);

	return fd < 0 ? err_set(e, -fd, fd == -ENOENT ? ERR_NOT_FOUND : ERR_HOST, "%s%s", file,
				fd == -ENOENT ? ": no such file" : "") : fd;
}

static int unpack_all(struct session *s, const struct archive_images *images, struct err *e)
{
	int r = 0;

	for (size_t i = 0; r == 0 && i < images->n; i++) {
		r = session_unpack(s, images->v[i].manifest, e);
	}
	return r;
}

int cmd_load(const struct cmd_call *call, struct err *e)
{
	const struct load_opts *o = call->opts;
	auto_arena struct arena a = ARENA_INIT;
	struct session s = { .store = NULL };
	struct archive_images images = { .n = 0 };
	auto_close int fd = open_input(call->args[0], e);
	int r = fd < 0 ? fd : session_open(&s, call, STORE_CREATE, e);

	if (r == 0) {
		struct archive_load l = { .fd = fd, .file = call->args[0], .name = o->add.name,
					  .platform = o->add.platform };

		r = archive_load(s.store, &l, s.progress, &a, &images, e);
	}
	if (r == 0 && o->add.unpack) {
		r = unpack_all(&s, &images, e);
	}
	return session_close(&s, r, e);
}
