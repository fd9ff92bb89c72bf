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
#include "sys/memory-events.h"

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

void record_watch_memory(struct shim *s, pid_t pid)
{
	auto_close int bundle_fd = sys_openat(AT_FDCWD, s->conf.bundle, O_RDONLY | O_DIRECTORY, 0);
	int fd = bundle_fd < 0 ? bundle_fd : sys_openat(bundle_fd, "memory.events", O_RDONLY |
							O_NOFOLLOW | O_NONBLOCK, 0);

	/* A machine's process has none of the container's memory in its own group. */
	s->memory_fd = fd >= 0 ? fd : memory_events_open(pid);
}

bool record_oom(struct shim *s)
{
	bool oom = memory_events_oom(s->memory_fd);

	fd_close(&s->memory_fd);
	return oom;
}
