/* SPDX-License-Identifier: Apache-2.0 */
#include "sys/userns.h"

#include <errno.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/fd.h"
#include "sys/file.h"
#include "sys/proc.h"
#include "sys/procfs.h"

static int write_map(int proc_fd, pid_t pid, const char *file, const char *text)
{
	char path[64];

	(void)snprintf(path, sizeof(path), "%d/%s", (int)pid, file); /* fits by far */
	return procfs_write(proc_fd, path, text, strlen(text));
}

static int write_maps(int proc_fd, pid_t pid, const char *uid_map, const char *gid_map)
{
	int r = write_map(proc_fd, pid, "uid_map", uid_map);

	return r < 0 ? r : write_map(proc_fd, pid, "gid_map", gid_map);
}

int sys_userns_write(pid_t pid, const char *uid_map, const char *gid_map)
{
	auto_close int proc_fd = procfs_open(PROCFS_PID_ONLY);

	return proc_fd < 0 ? proc_fd : write_maps(proc_fd, pid, uid_map, gid_map);
}

void sys_userns_reap(pid_t pid)
{
	(void)kill(pid, SIGKILL); /* not waited for yet: it is there, and ours */
	while (waitpid(pid, NULL, 0) < 0 && errno == EINTR) {
	}
}

static int map_and_open(int proc_fd, pid_t pid, const char *uid_map, const char *gid_map)
{
	int r = write_maps(proc_fd, pid, uid_map, gid_map);
	char path[64];

	if (r < 0) {
		return r;
	}
	(void)snprintf(path, sizeof(path), "%d/ns", (int)pid);
	auto_close int ns_dir = procfs_openat(proc_fd, path, O_PATH | O_DIRECTORY);

	/* A magic link, of a process that is ours, in a procfs that is ours. */
	return ns_dir < 0 ? ns_dir : sys_openat(ns_dir, "user", O_RDONLY, 0);
}

int sys_userns_mapped(const char *uid_map, const char *gid_map, int *ret_fd)
{
	auto_close int proc_fd = procfs_open(PROCFS_PID_ONLY);

	if (proc_fd < 0) {
		return proc_fd;
	}
	pid_t parent = getpid(), pid = sys_clone3(CLONE_NEWUSER, -1, NULL);

	if (pid == 0) {
		(void)prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0); /* cannot fail */
		/* Who died before that sends no signal; and we hold its locks. */
		while (getppid() == parent) {
			(void)pause(); /* until we are killed */
		}
		_exit(0);
	}
	if (pid < 0) {
		return (int)pid;
	}
	int fd = map_and_open(proc_fd, pid, uid_map, gid_map);

	sys_userns_reap(pid);
	if (fd < 0) {
		return fd;
	}
	*ret_fd = fd;
	return 0;
}
