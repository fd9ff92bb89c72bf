/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Being told that a container runs out of memory.
 */
#include <errno.h>
#include <stdio.h>
#include <sys/eventfd.h>
#include <sys/inotify.h>

#include "container/cgroup-priv.h"
#include "sys/file.h"

/* v1: an eventfd, told to the kernel together with the file that is watched. */
static int open_v1(const struct cg_hier *h, int *ret_fd)
{
	char path[4096], text[32];

	snprintf(path, sizeof(path), "%s/memory.oom_control", cg__rel(h->group));
	auto_close int watched = sys_openat(h->root_fd, path, O_RDONLY, 0);
	auto_close int fd = watched < 0 ? watched : eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);

	if (fd < 0) {
		return watched < 0 ? watched : -errno;
	}
	snprintf(text, sizeof(text), "%d %d", fd, watched);
	int r = cg__write(h, "cgroup.event_control", text);

	if (r < 0) {
		return r;
	}
	*ret_fd = take_fd(&fd);
	return 0;
}

/* v2: the file of counters changes, and goes away with the group. */
static int open_v2(const struct cg_hier *h, int *ret_fd)
{
	auto_close int fd = inotify_init1(IN_CLOEXEC | IN_NONBLOCK);
	char path[4096];

	if (fd < 0) {
		return -errno;
	}
	/* By the root's descriptor, as inotify has no *at call. */
	snprintf(path, sizeof(path), "%s/%s/memory.events", fd_path(h->root_fd).text, cg__rel(h->group));
	if (inotify_add_watch(fd, path, IN_MODIFY) < 0) {
		return -errno;
	}
	snprintf(path, sizeof(path), "%s/%s/cgroup.events", fd_path(h->root_fd).text, cg__rel(h->group));
	if (inotify_add_watch(fd, path, IN_MODIFY) < 0) {
		return -errno;
	}
	*ret_fd = take_fd(&fd);
	return 0;
}

int cgroup_oom_open(struct cgroup *cg, int *ret_fd, struct err *e)
{
	const struct cg_hier *h = cg__with(cg, CG_MEMORY);

	if (!h) {
		return err_set(e, EOPNOTSUPP, ERR_UNSUPPORTED,
			       "the container has no memory cgroup to tell when it is full");
	}
	cg->oom_seen = cgroup_oom_kills(cg);
	int r = h->v2 ? open_v2(h, ret_fd) : open_v1(h, ret_fd);

	return r < 0 ? err_set(e, -r, ERR_HOST, "watch the memory of %s", h->path) : 0;
}

uint64_t cgroup_oom_kills(const struct cgroup *cg)
{
	auto_buf struct buf b = BUF_INIT;
	const struct cg_hier *h = cg__with(cg, CG_MEMORY);
	uint64_t n = 0;

	if (!h || cg__read(h, h->v2 ? "memory.events" : "memory.oom_control", &b) < 0) {
		return 0;
	}
	return cg__keyed(buf_str(&b), "oom_kill", &n) ? n : 0;
}

int cgroup_oom_read(struct cgroup *cg, int fd)
{
	char drain[4096];
	const struct cg_hier *h = cg__with(cg, CG_MEMORY);
	struct stat st;
	ssize_t n = sys_read(fd, drain, sizeof(drain));

	if (!h || sys_fstatat(h->root_fd, cg__rel(h->group), &st, 0) < 0) {
		return -ENODEV;
	}
	if (n == -EAGAIN) {
		return 0;
	}
	if (n < 0) {
		return (int)n;
	}
	if (!h->v2) {
		return 1;
	}
	/* The file changes for lesser events too. */
	uint64_t kills = cgroup_oom_kills(cg), before = cg->oom_seen;

	cg->oom_seen = kills;
	return kills > before;
}
