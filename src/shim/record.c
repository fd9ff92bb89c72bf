/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What outlives the container: its exit record (docs/formats/exit-record.md), and what the
 * control group counted.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>

#include "base/clock.h"
#include "base/fd.h"
#include "shim/shim.h"
#include "sys/file.h"

static void add_json_text(struct buf *b, const char *s)
{
	for (; *s; s++) {
		unsigned char c = (unsigned char)*s;

		if (c < 0x20 || c == '"' || c == '\\' || c >= 0x7f) {
			buf_printf(b, "\\u%04x", c >= 0x80 ? '?' : c);
		} else {
			buf_add_char(b, (char)c);
		}
	}
}

int record_write(struct shim *s)
{
	auto_buf struct buf b = BUF_INIT;
	const struct exit_info *x = &s->main.exit;

	buf_printf(&b, "{\"version\":1,\"instance\":\"%s\",\"epoch\":%llu,\"exit_code\":%u,"
		   "\"signal\":%u,\"oom\":%s,\"started_ns\":%llu,\"exited_ns\":%llu,"
		   "\"log_lost_records\":%llu,\"log_lost_bytes\":%llu,\"error\":\"",
		   s->conf.id, (unsigned long long)s->epoch,
		   x->code, x->signal,
		   s->oom ? "true" : "false", (unsigned long long)s->main.started_ns,
		   (unsigned long long)(x->exited_ns ? x->exited_ns : clock_wall_ns()),
		   (unsigned long long)s->log.lost_records, (unsigned long long)s->log.lost_bytes);
	add_json_text(&b, s->error);
	buf_add_str(&b, "\"}\n");
	if (buf_failed(&b)) {
		return -ENOMEM;
	}
	return sys_replace_file(s->dir_fd, SHIM_EXIT_NAME, b.data, b.len, 0600);
}

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

void record_watch_memory(struct shim *s, pid_t pid)
{
	auto_buf struct buf b = BUF_INIT;
	char proc[64], group[1024], path[1200];

	(void)snprintf(proc, sizeof(proc), "/proc/%d/cgroup", pid);
	if (sys_read_file(AT_FDCWD, proc, 65536, &b) < 0) {
		return; /* it has ended: then nothing can be said about memory */
	}
	if (find_group(buf_str(&b), false, group, sizeof(group))) {
		(void)snprintf(path, sizeof(path), "/sys/fs/cgroup/memory%s/memory.oom_control",
			       group);
		s->memory_fd = sys_openat(AT_FDCWD, path, O_RDONLY, 0);
	} else if (find_group(buf_str(&b), true, group, sizeof(group))) {
		(void)snprintf(path, sizeof(path), "/sys/fs/cgroup%s/memory.events", group);
		s->memory_fd = sys_openat(AT_FDCWD, path, O_RDONLY, 0);
	}
	if (s->memory_fd < 0) {
		s->memory_fd = -1; /* no such controller here: never reported */
	}
}

/* "oom_kill N" stands in memory.events of v2 and, since Linux 4.13, in v1's oom_control. */
bool record_oom(struct shim *s)
{
	char text[512];
	ssize_t n = s->memory_fd < 0 ? -1 : sys_pread(s->memory_fd, text, sizeof(text) - 1, 0);

	fd_close(&s->memory_fd);
	if (n <= 0) {
		return false;
	}
	text[n] = '\0';
	const char *at = strstr(text, "oom_kill ");

	return at && at[strlen("oom_kill ")] != '0';
}
