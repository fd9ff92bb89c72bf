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
#include "wire/attach.h"

enum { POLL_MS = 100 };

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
	uint64_t                 inode;     /* of the file that is read, and the time of its first */
	uint64_t                 first_ns;  /* record (0: none yet): an inode is used again */
	long                     offset;    /* behind the record that is shown */
};

/* A record's parts, as views of the line. */
struct record {
	const char *time, *text;
	size_t      time_len, text_len;
	int         kind;        /* ATTACH_STDOUT, ATTACH_STDERR; 0: remark of the shim */
	bool        full;
};

static bool parse(const char *line, size_t len, struct record *r)
{
	static const struct {
		const char *word;
		int         kind;
	} streams[] = { { "stdout ", ATTACH_STDOUT }, { "stderr ", ATTACH_STDERR }, { "system ", 0 } };
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
	return r->kind == ATTACH_STDOUT ? rd->in->out : r->kind == ATTACH_STDERR && rd->in->err;
}

/* What names a file whatever its place in the rotation is. */
static void identify(FILE *f, uint64_t *ret_inode, uint64_t *ret_first_ns)
{
	char text[48];
	struct stat st;
	ssize_t n = sys_pread(fileno(f), text, sizeof(text) - 1, 0);

	*ret_inode = sys_fstat(fileno(f), &st) == 0 ? st.st_ino : 0;
	*ret_first_ns = 0;
	text[MAX(n, (ssize_t)0)] = '\0';
	text[strcspn(text, " ")] = '\0';
	if (time_parse(text, ret_first_ns) < 0) {
		*ret_first_ns = 0;
	}
}

/* "INODE-TIME-OFFSET-WITHIN A LINE" */
static void add_place(struct reader *rd, struct buf *b, unsigned char kind, bool mid_line)
{
	char place[96];
	int n = snprintf(place, sizeof(place), "%llu-%llu-%ld-%d", (unsigned long long)rd->inode,
			 (unsigned long long)rd->first_ns, rd->offset, mid_line);

	buf_add_char(b, (char)kind);
	buf_add_char(b, (char)n);
	buf_add(b, place, (size_t)n);
}

/* The head of a frame of so many bytes, before them. */
static int send(struct reader *rd, unsigned char kind, const struct buf *body)
{
	auto_buf struct buf b = BUF_INIT;
	uint8_t head[ATTACH_HEAD];

	attach_head(head, kind, body->len);
	buf_add(&b, head, sizeof(head));
	buf_add(&b, body->data, body->len);
	return buf_failed(&b) || buf_failed(body) ? -ENOMEM :
						    sys_write_full(rd->out_fd, b.data, b.len);
}

static int send_place(struct reader *rd)
{
	auto_buf struct buf b = BUF_INIT;

	if (!rd->in->positions) {
		return 0;
	}
	add_place(rd, &b, 0, rd->mid_line);
	return send(rd, ATTACH_PLACED, &b);
}

static int frame(struct reader *rd, const struct record *r)
{
	auto_buf struct buf b = BUF_INIT;
	bool stamp = rd->in->timestamps && !rd->mid_line;

	if (rd->in->positions) {
		add_place(rd, &b, (unsigned char)r->kind, !r->full);
	}
	if (stamp) {
		buf_add(&b, r->time, r->time_len);
		buf_add_char(&b, ' ');
	}
	buf_add(&b, r->text, r->text_len);
	if (r->full) {
		buf_add_char(&b, '\n');
	}
	rd->mid_line = !r->full;
	return send(rd, rd->in->positions ? ATTACH_PLACED : (unsigned char)r->kind, &b);
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

	identify(f, &rd->inode, &rd->first_ns);
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
		rd->offset = at + (long)n;
		if (!rd->first_ns) { /* it was empty a moment ago */
			identify(f, &rd->inode, &rd->first_ns);
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

/* Where a place is now; all that there is, if it is there no more. */
static struct place find_place(struct reader *rd, const char *from)
{
	const struct logread_in *in = rd->in;
	uint64_t part[4] = { 0 };
	const char *text = from, *one;
	size_t len, n = 0;

	while (n < ARRAY_LEN(part) && str_split(&text, '-', &one, &len)) {
		char digits[24];

		snprintf(digits, sizeof(digits), "%.*s", (int)MIN(len, sizeof(digits) - 1), one);
		if (parse_u64(digits, INT64_MAX, &part[n++]) < 0) {
			break;
		}
	}
	for (unsigned file = in->max_files; part[0] && file-- > 0;) {
		FILE *f = open_log(in, file);
		uint64_t inode = 0, first_ns = 0;
		struct stat st = { 0 };

		if (f) {
			identify(f, &inode, &first_ns);
			ignore_result(sys_fstat(fileno(f), &st)); /* then it is too short */
			fclose(f);
		}
		if (inode == part[0] && (part[1] ? first_ns == part[1] : part[2] == 0) &&
		    (uint64_t)st.st_size >= part[2]) {
			rd->mid_line = part[3] != 0;
			return (struct place){ file, (long)part[2] };
		}
	}
	return (struct place){ in->max_files, 0 };
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
	bool none = false, placed = false;
	FILE *newest = NULL;
	int r = 0;

	if (rd->in->from) {
		from = find_place(rd, rd->in->from);
	} else if (rd->in->has_tail) {
		r = find_tail(rd, &from);
		none = r > 0;
	}
	for (unsigned file = rd->in->max_files; r >= 0 && file-- > 0;) {
		FILE *f = file <= from.file ? open_log(rd->in, file) : NULL;

		r = 0;
		if (f && (none || file == from.file)) {
			r = fseek(f, none ? 0 : from.offset, none ? SEEK_END : SEEK_SET) < 0 ? -errno : 0;
		}
		if (r == 0 && f && !placed) {
			identify(f, &rd->inode, &rd->first_ns);
			rd->offset = ftell(f);
			r = none && file > 0 ? 0 : send_place(rd);
			placed = !none || file == 0;
		}
		r = r == 0 && f ? drain(rd, f) : r;
		if (file == 0) {
			newest = f;
		} else if (f) {
			fclose(f);
		}
	}
	if (r == 0 && !placed) { /* nothing is there yet: all that comes is new */
		rd->inode = rd->first_ns = 0;
		rd->offset = 0;
		r = send_place(rd);
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
