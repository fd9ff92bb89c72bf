/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A record is written by one writev(). If only a part of it fits the disk, the part is taken
 * back, so that the file always ends with a whole record.
 */
#include "shim/ilog.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>

#include "base/clock.h"
#include "base/fd.h"
#include "sys/file.h"

enum { HEAD_MAX = 64, NAME_BYTES = 300, RECORD_MAX = 16384 };

static const char *const stream_names[ILOG__COUNT] = {
	[ILOG_STDOUT] = "stdout",
	[ILOG_STDERR] = "stderr",
	[ILOG_SYSTEM] = "system",
};

void ilog_init(struct ilog *l, int dir_fd, const char *name, uint64_t max_bytes,
	       unsigned max_files)
{
	*l = (struct ilog){ .dir_fd = dir_fd, .name = name, .fd = -1, .max_bytes = max_bytes,
			    .max_files = MAX(max_files, 1U) };
}

void ilog_fini(struct ilog *l)
{
	fd_close(&l->fd);
}

/* NAME.1 becomes NAME.2, and so on; the oldest is replaced. */
static int shift(struct ilog *l)
{
	char from[NAME_BYTES], to[NAME_BYTES];
	int r = 0;

	if (l->max_files == 1) {
		return sys_unlinkat(l->dir_fd, l->name, 0);
	}
	for (unsigned i = l->max_files - 1; i > 0 && (r == 0 || r == -ENOENT); i--) {
		int n = i == 1 ? snprintf(from, sizeof(from), "%s", l->name) :
				 snprintf(from, sizeof(from), "%s.%u", l->name, i - 1);

		if (n < 0 || (size_t)n >= sizeof(from) - 12) {
			return -ENAMETOOLONG;
		}
		(void)snprintf(to, sizeof(to), "%s.%u", l->name, i);
		r = sys_renameat2(l->dir_fd, from, l->dir_fd, to, 0);
	}
	return r;
}

static int open_log(struct ilog *l)
{
	struct stat st;

	l->fd = sys_openat(l->dir_fd, l->name,
			   O_WRONLY | O_APPEND | O_CREAT | O_NOFOLLOW | O_NONBLOCK, 0640);
	if (l->fd < 0) {
		int r = l->fd;

		l->fd = -1;
		return r;
	}
	int r = sys_fstat(l->fd, &st);

	if (r == 0 && !S_ISREG(st.st_mode)) {
		r = -EINVAL;
	}
	if (r < 0) {
		fd_close(&l->fd);
		return r;
	}
	l->size = (uint64_t)st.st_size;
	return 0;
}

/* The file is open and has room for n bytes more. */
static int prepare(struct ilog *l, size_t n)
{
	int r = l->fd < 0 ? open_log(l) : 0;

	if (r < 0 || l->size == 0 || l->size + n <= l->max_bytes) {
		return r;
	}
	r = shift(l);
	if (r < 0 && r != -ENOENT) {
		/* It cannot be moved: it must not grow either. */
		r = sys_ftruncate(l->fd, 0);
		l->size = r == 0 ? 0 : l->size;
		return r;
	}
	fd_close(&l->fd);
	return open_log(l);
}

static int put_record(struct ilog *l, enum ilog_stream stream, bool full, const char *text,
		      size_t n, uint64_t wall_ns)
{
	static char record[HEAD_MAX + RECORD_MAX + 1];
	int head = snprintf(record, HEAD_MAX, "%s %s %c ", time_format(wall_ns).text,
			    stream_names[stream], full ? 'F' : 'P');
	size_t len = (size_t)head + n + 1;

	assert(head > 0 && head < HEAD_MAX && n <= RECORD_MAX);
	memcpy(record + head, text, n);
	record[len - 1] = '\n';

	int r = prepare(l, len);

	if (r < 0) {
		return r;
	}
	r = sys_write_full(l->fd, record, len);
	if (r < 0) {
		/* If this fails too, the next record is glued to a part: readers cope. */
		ignore_result(sys_ftruncate(l->fd, (int64_t)l->size));
		return r;
	}
	l->size += len;
	return 0;
}

static void lose(struct ilog *l, size_t n, int r)
{
	l->lost_records++;
	l->lost_bytes += n;
	l->lost_errno = -r;
}

/* Say in the log what is missing from it; false if that does not fit either. */
static bool tell_losses(struct ilog *l, uint64_t wall_ns)
{
	char text[160];

	if (l->told_records == l->lost_records) {
		return true;
	}
	int n = snprintf(text, sizeof(text), "%llu records (%llu bytes) lost: %s",
			 (unsigned long long)(l->lost_records - l->told_records),
			 (unsigned long long)(l->lost_bytes - l->told_bytes),
			 strerrordesc_np(l->lost_errno));

	if (put_record(l, ILOG_SYSTEM, true, text, MIN((size_t)n, sizeof(text) - 1), wall_ns) < 0) {
		return false;
	}
	l->told_records = l->lost_records;
	l->told_bytes = l->lost_bytes;
	return true;
}

static void write_one(struct ilog *l, enum ilog_stream stream, bool full, const char *text,
		      size_t n, uint64_t wall_ns)
{
	int r = tell_losses(l, wall_ns) ? put_record(l, stream, full, text, n, wall_ns) : -ENOSPC;

	if (r < 0) {
		lose(l, n, r);
	}
}

void ilog_write(struct ilog *l, enum ilog_stream stream, const char *data, size_t n,
		uint64_t wall_ns)
{
	while (l->name && n > 0) {
		const char *nl = memchr(data, '\n', MIN(n, (size_t)RECORD_MAX));
		size_t len = nl ? (size_t)(nl - data) : MIN(n, (size_t)RECORD_MAX);

		write_one(l, stream, nl != NULL, data, len, wall_ns);
		len += nl ? 1 : 0;
		data += len;
		n -= len;
	}
}
