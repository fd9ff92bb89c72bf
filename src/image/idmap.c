/* SPDX-License-Identifier: Apache-2.0 */
#include "image/idmap.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <unistd.h>

#include "sys/file.h"
#include "sys/mount.h"
#include "sys/proc.h"
#include "sys/procfs.h"

static int write_maps(int proc_fd, pid_t pid, const struct idmap *map)
{
	char path[64], line[48];
	int n = snprintf(line, sizeof(line), "0 %u %u\n", map->base, map->count);

	(void)snprintf(path, sizeof(path), "%d/uid_map", (int)pid);
	int r = procfs_write(proc_fd, path, line, (size_t)n);

	if (r == 0) {
		(void)snprintf(path, sizeof(path), "%d/gid_map", (int)pid);
		r = procfs_write(proc_fd, path, line, (size_t)n);
	}
	return r;
}

int idmap_write(pid_t pid, const struct idmap *map)
{
	auto_close int proc_fd = procfs_open(PROCFS_PID_ONLY);

	return proc_fd < 0 ? proc_fd : write_maps(proc_fd, pid, map);
}

static int map_and_open(pid_t pid, const struct idmap *map, int *ret_fd)
{
	auto_close int proc_fd = procfs_open(PROCFS_PID_ONLY);
	char path[64];

	if (proc_fd < 0) {
		return proc_fd;
	}
	int r = write_maps(proc_fd, pid, map);

	if (r < 0) {
		return r;
	}
	(void)snprintf(path, sizeof(path), "%d/ns", (int)pid);
	auto_close int ns_dir = procfs_openat(proc_fd, path, O_PATH | O_DIRECTORY);

	if (ns_dir < 0) {
		return ns_dir;
	}
	/* A magic link, of a process that is ours, in a procfs that is ours. */
	r = sys_openat(ns_dir, "user", O_RDONLY, 0);
	if (r >= 0) {
		*ret_fd = r;
		r = 0;
	}
	return r;
}

void idmap_reap(pid_t pid)
{
	(void)kill(pid, SIGKILL); /* not waited for yet: it is there, and ours */
	while (waitpid(pid, NULL, 0) < 0 && errno == EINTR) {
	}
}

int idmap_userns(const struct idmap *map, int *ret_fd, struct err *e)
{
	pid_t pid = sys_clone3(CLONE_NEWUSER, -1, NULL);

	if (pid == 0) {
		(void)prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0); /* cannot fail */
		for (;;) {
			(void)pause(); /* until we are killed */
		}
	}
	if (pid < 0) {
		return err_set(e, (int)-pid, ERR_HOST, "make a user namespace for an id mapping");
	}
	int r = map_and_open(pid, map, ret_fd);

	idmap_reap(pid);
	return r < 0 ? err_set(e, -r, ERR_HOST, "id mapping of %u ids from %u", map->count,
			       map->base) : 0;
}

int idmap_clone(int dir_fd, int userns_fd, uint64_t attrs)
{
	struct mount_attr attr = { .attr_set = attrs, .propagation = MS_PRIVATE };

	if (userns_fd >= 0) {
		attr.attr_set |= MOUNT_ATTR_IDMAP;
		attr.userns_fd = (uint64_t)userns_fd;
	}
	return sys_open_tree_attr(dir_fd, "", OPEN_TREE_CLONE | AT_EMPTY_PATH, &attr);
}
