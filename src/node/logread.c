/* SPDX-License-Identifier: Apache-2.0 */
#include "node/logread.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "base/clock.h"
#include "base/mem.h"
#include "base/str.h"
#include "sys/file.h"

enum { POLL_MS = 100, HEAD = 8 };

/* Where a line of the output begins. */
struct place {
	unsigned file;      /* index of rotation; 0 is the newest */
	long     offset;
};

struct reader {
	const struct logread_in *in;
	int                      out_fd;
	char                    *line;
	size_t                   cap;
	bool                     mid_line;  /* the last record of a shown stream did not end its line */
	bool                     over;      /* past `until` */
};

/* A record's parts, as views of the line. */
struct record {
	const char *time, *text;
	size_t      time_len, text_len;
	int         kind;        /* 1, 2; 0: remark of the shim */
	bool        full;
};

static bool parse(const char *line, size_t len, struct record *r)
{
	static const struct {
		const char *word;
		int         kind;
	} streams[] = { { "stdout ", 1 }, { "stderr ", 2 }, { "system ", 0 } };
	const char *space = memchr(line, ' ', len), *p = NULL;

	if (!space || line[len - 1] != '\n') {
		return false;
	}
	for (size_t i = 0; i < ARRAY_LEN(streams) && !p; i++) {
		p = str_after(space + 1, streams[i].word);
		r->kind = streams[i].kind;
	}
	if (!p || (p[0] != 'F' && p[0] != 'P') || p[1] != ' ' || p + 2 > line + len - 1) {
		return false;
	}
	r->time = line;
	r->time_len = (size_t)(space - line);
	r->full = p[0] == 'F';
	r->text = p + 2;
	r->text_len = len - 1 - (size_t)(p + 2 - line);
	return true;
}

static bool shown(const struct reader *rd, const struct record *r)
{
	return r->kind == 1 ? rd->in->out : r->kind == 2 && rd->in->err;
}

static int frame(struct reader *rd, const struct record *r)
{
	auto_buf struct buf b = BUF_INIT;
	bool stamp = rd->in->timestamps && !rd->mid_line;
	size_t n = (stamp ? r->time_len + 1 : 0) + r->text_len + r->full;
	unsigned char head[HEAD] = { (unsigned char)r->kind, 0, 0, 0, (unsigned char)(n >> 24),
				     (unsigned char)(n >> 16), (unsigned char)(n >> 8),
				     (unsigned char)n };

	buf_add(&b, head, sizeof(head));
	if (stamp) {
		buf_add(&b, r->time, r->time_len);
		buf_add_char(&b, ' ');
	}
	buf_add(&b, r->text, r->text_len);
	if (r->full) {
		buf_add_char(&b, '\n');
	}
	rd->mid_line = !r->full;
	return buf_failed(&b) ? -ENOMEM : sys_write_full(rd->out_fd, b.data, b.len);
}

static int show(struct reader *rd, size_t len)
{
	struct record r;
	char stamp[48];
	uint64_t t = 0;

	if (!parse(rd->line, len, &r) || !shown(rd, &r)) {
		return 0;
	}
	if (rd->in->since || rd->in->until) {
		snprintf(stamp, sizeof(stamp), "%.*s", (int)MIN(r.time_len, (size_t)40), r.time);
		if (time_parse(stamp, &t) < 0 || t < rd->in->since) {
			return 0;
		}
		if (rd->in->until && t >= rd->in->until) {
			rd->over = true;
			return 0;
		}
	}
	return frame(rd, &r);
}

/* To the end of what is there. A record that is still being written is left for later. */
static int drain(struct reader *rd, FILE *f)
{
	int r = 0;

	while (r == 0 && !rd->over) {
		long at = ftell(f);
		ssize_t n = getline(&rd->line, &rd->cap, f);

		if (n < 0) {
			clearerr(f);
			return 0;
		}
		if (rd->line[n - 1] != '\n') {
			return fseek(f, at, SEEK_SET) < 0 ? -errno : 0;
		}
		r = show(rd, (size_t)n);
	}
	return r;
}

static FILE *open_log(const struct logread_in *in, unsigned file)
{
	char path[4096];

	snprintf(path, sizeof(path), file ? "%s.%u" : "%s", in->path, file);
	int fd = sys_openat(AT_FDCWD, path, O_RDONLY | O_NOFOLLOW, 0);
	FILE *f = fd < 0 ? NULL : fdopen(fd, "r");

	if (fd >= 0 && !f) {
		fd_close(&fd);
	}
	return f;
}

/* The places of the last `tail` lines, in a ring. */
static int find_tail(struct reader *rd, struct place *ret)
{
	const struct logread_in *in = rd->in;
	auto_free struct place *ring = mem_calloc((size_t)in->tail + 1, sizeof(*ring));
	uint64_t n = 0;
	bool begins = true;

	if (!ring) {
		return -ENOMEM;
	}
	for (unsigned file = in->max_files; file-- > 0;) {
		FILE *f = open_log(in, file);
		long at = 0;
		ssize_t len;
		struct record r;

		while (f && (at = ftell(f), len = getline(&rd->line, &rd->cap, f)) > 0) {
			if (!parse(rd->line, (size_t)len, &r) || !shown(rd, &r)) {
				continue;
			}
			if (begins) {
				ring[n++ % (in->tail + 1)] = (struct place){ file, at };
			}
			begins = r.full;
		}
		if (f) {
			fclose(f);
		}
	}
	*ret = n > in->tail ? ring[(n - in->tail) % (in->tail + 1)] :
	       (struct place){ in->max_files, 0 };
	return in->tail == 0 ? 1 : 0;
}

/* Wait a little; 1: it is over, what is there now is all. */
static int pause_for(int in_fd)
{
	struct pollfd p = { .fd = in_fd, .events = POLLIN };

	return poll(&p, 1, POLL_MS) != 0;
}

static bool rotated(FILE *f, const char *path)
{
	struct stat a, b;

	return sys_fstat(fileno(f), &a) == 0 && sys_fstatat(AT_FDCWD, path, &b, 0) == 0 &&
	       a.st_ino != b.st_ino;
}

static int follow(struct reader *rd, FILE **f, int in_fd)
{
	bool last = false;
	int r = 0;

	while (r == 0 && !rd->over) {
		bool moved = *f && rotated(*f, rd->in->path);

		r = *f ? drain(rd, *f) : 0;
		if (moved || !*f) {
			if (*f) {
				fclose(*f);
			}
			*f = open_log(rd->in, 0);
			if (moved) {
				continue;
			}
		}
		if (last) {
			break;
		}
		last = pause_for(in_fd);
	}
	return r;
}

static int run(struct reader *rd, int in_fd)
{
	struct place from = { rd->in->max_files, 0 };
	bool none = false;
	FILE *newest = NULL;
	int r = 0;

	if (rd->in->has_tail) {
		r = find_tail(rd, &from);
		none = r > 0;
	}
	for (unsigned file = rd->in->max_files; r >= 0 && file-- > 0;) {
		FILE *f = file <= from.file ? open_log(rd->in, file) : NULL;

		r = 0;
		if (f && (none || file == from.file)) {
			r = fseek(f, none ? 0 : from.offset, none ? SEEK_END : SEEK_SET) < 0 ? -errno : 0;
		}
		r = r == 0 && f ? drain(rd, f) : r;
		if (file == 0) {
			newest = f;
		} else if (f) {
			fclose(f);
		}
	}
	if (r == 0 && rd->in->follow) {
		r = follow(rd, &newest, in_fd);
	}
	if (newest) {
		fclose(newest);
	}
	return r;
}

int logread_run(const struct logread_in *in, int in_fd, int out_fd, struct err *e)
{
	struct reader rd = { .in = in, .out_fd = out_fd };
	int r = run(&rd, in_fd);

	free(rd.line);
	return r < 0 && r != -EPIPE ? err_set(e, -r, ERR_HOST, "the log %s", in->path) : 0;
}
