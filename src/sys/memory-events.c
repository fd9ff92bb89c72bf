/* SPDX-License-Identifier: Apache-2.0 */
#include "sys/memory-events.h"

#include <stdio.h>

#include "base/str.h"
#include "sys/file.h"

/* The group of a controller in /proc/PID/cgroup: of v1's "memory", or the one of v2. */
static bool find_group(const char *text, bool v2, char *out, size_t out_bytes)
{
	const char *line;
	size_t len;

	while (str_split(&text, '\n', &line, &len)) {
		char one[1200];
		const char *path;

		if (len >= sizeof(one)) {
			continue;
		}
		memcpy(one, line, len);
		one[len] = '\0';
		char *names = strchr(one, ':');
		char *colon = names ? strchr(names + 1, ':') : NULL;

		if (!colon) {
			continue;
		}
		*colon = '\0';
		path = colon + 1;
		names++;
		if (v2 ? names[0] == '\0' : str_eq(names, "memory") || str_after(names, "memory,") ||
		    str_ends(names, ",memory") || strstr(names, ",memory,")) {
			return (size_t)snprintf(out, out_bytes, "%s", path) < out_bytes;
		}
	}
	return false;
}

int memory_events_open(pid_t pid)
{
	auto_buf struct buf b = BUF_INIT;
	char proc[64], group[1024], path[1200];
	int fd = -1;

	(void)snprintf(proc, sizeof(proc), "/proc/%d/cgroup", pid);
	if (sys_read_file(AT_FDCWD, proc, 65536, &b) < 0) {
		return -1; /* it has ended: then nothing can be said about memory */
	}
	if (find_group(buf_str(&b), false, group, sizeof(group))) {
		(void)snprintf(path, sizeof(path), "/sys/fs/cgroup/memory%s/memory.oom_control",
			       group);
		fd = sys_openat(AT_FDCWD, path, O_RDONLY, 0);
	} else if (find_group(buf_str(&b), true, group, sizeof(group))) {
		(void)snprintf(path, sizeof(path), "/sys/fs/cgroup%s/memory.events", group);
		fd = sys_openat(AT_FDCWD, path, O_RDONLY, 0);
	}
	return fd < 0 ? -1 : fd; /* no such controller here: never reported */
}

/* "oom_kill N" stands in memory.events of v2 and, since Linux 4.13, in v1's oom_control. */
bool memory_events_oom(int fd)
{
	char text[512];
	ssize_t n = fd < 0 ? -1 : sys_pread(fd, text, sizeof(text) - 1, 0);

	if (n <= 0) {
		return false;
	}
	text[n] = '\0';
	const char *at = strstr(text, "oom_kill ");

	return at && at[strlen("oom_kill ")] != '0';
}
