/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Guest memory as two files: in each, slot after slot, what lies below or above the split, pages
 * of zeroes left out; then a page about it.
 *
 * A file system takes one writer a file, and one CPU copies half as fast as memory is: so there
 * are two writers, each with its file, from both ends of memory towards each other. Where they
 * meet is the split. Who gets less of a CPU writes less.
 */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/sysinfo.h>

#include "base/le.h"
#include "base/str.h"
#include "sys/file.h"
#include "sys/map.h"
#include "vm/mem/gmem.h"

/* Looked at together, by one writer. What is written is whole pages. */
enum { WINDOW = GMEM_WINDOW_BYTES, GAP = 32 << 10, SPAN_GAP = 1 << 20 };

/*
 * Written at once. One large write takes memory for its page cache in the largest pieces, and
 * those are the ones that a hypervisor below takes back while they are free: the same bytes then
 * take fifteen times as long.
 */
enum { PIECE = 1 << 20 };

/* Looking at pages misses the caches once for each: so many are asked for ahead. */
enum { AHEAD = 16 * GMEM_PAGE_BYTES };

/* Restored memory that is left out of the map of its file; and how often that is asked. */
enum { EMPTY_MIN = 1 << 20, LOOKS_MAX = 1000 };

/* The last page begins with it. */
struct trailer {
	char    magic[16];
	uint8_t bytes[8];     /* of memory; numbers are little endian */
	uint8_t split[8];     /* below it: in the low file; from there on: in the high one */
	uint8_t part[8];      /* enum gmem_part */
	uint8_t id[GMEM_ID_BYTES];
};

static const char magic[16] = "holm vm memory 2", magic_old[16] = "holm vm memory 1";

const char *const gmem_part_names[GMEM_PARTS] = { "low", "high" };

static bool all_zero(const uint8_t *p, size_t n)
{
	/* Equal to itself moved by one, and the first is zero. */
	return p[0] == 0 && memcmp(p, p + 1, n - 1) == 0;
}

static int write_all(int fd, const uint8_t *p, size_t n, uint64_t off)
{
	while (n > 0) {
		ssize_t done = sys_pwrite(fd, p, MIN(n, (size_t)PIECE), (int64_t)off);

		if (done <= 0) {
			return done < 0 ? (int)done : -EIO;
		}
		p += done;
		n -= (size_t)done;
		off += (uint64_t)done;
	}
	return 0;
}

uint64_t gmem_bytes(const struct gmem *g)
{
	uint64_t bytes = 0;

	for (unsigned i = 0; i < g->n_slots; i++) {
		bytes += g->slots[i].bytes;
	}
	return bytes;
}

/* What a writer looks at: a part of a slot. */
struct window {
	const struct gmem_slot *slot;
	uint64_t                first;   /* in the slot */
	size_t                  n;
};

/*
 * Pages of a file in memory that were ever touched, also those that are swapped out. A call a
 * page: asking for the next hole takes as long as there is data before it, in each window again.
 */
static void touched_in_file(const struct window *w, uint8_t *ret)
{
	uint64_t first = w->slot->again_offset + w->first, end = first + w->n;

	memset(ret, 0, w->n / GMEM_PAGE_BYTES);
	for (uint64_t at = first; at < end; at += GMEM_PAGE_BYTES) {
		off_t data = lseek(w->slot->again_fd, (off_t)at, SEEK_DATA);

		if (data < 0 || (uint64_t)data >= end) {
			break;
		}
		at = (uint64_t)data;
		ret[(at - first) / GMEM_PAGE_BYTES] = 1;
	}
}

/* All that a snapshot's file held; and what was touched of the rest. */
static void touched_restored(const struct window *w, bool no_swap, uint8_t *ret)
{
	const struct gmem_slot *s = w->slot;

	memset(ret, 1, w->n / GMEM_PAGE_BYTES);
	for (unsigned i = 0; no_swap && i < s->n_empty; i++) {
		uint64_t from = MAX(s->empty[i].first, w->first), to = MIN(s->empty[i].end, w->first + w->n);
		uint8_t *part = ret + (from - w->first) / GMEM_PAGE_BYTES;

		if (from < to && mincore(s->host + from, to - from, part) < 0) {
			memset(part, 1, (to - from) / GMEM_PAGE_BYTES);
		}
	}
}

/*
 * Which pages were ever touched: those that were not are zero, and reading one of a file in memory
 * would take memory for it. mincore() counts a page that is swapped out as untouched, so it is
 * asked only on a host without swap.
 */
static void touched(const struct window *w, bool no_swap, uint8_t *ret)
{
	const struct gmem_slot *s = w->slot;
	bool ours = s->fd < 0;
	bool in_file = ours && s->again_fd >= 0;

	if (s->restored) {
		touched_restored(w, no_swap, ret);
		return;
	}
	if (in_file) { /* most windows of most guests hold nothing: that is known at once */
		uint64_t first = s->again_offset + w->first;
		off_t data = lseek(s->again_fd, (off_t)first, SEEK_DATA);

		if (data < 0 ? errno == ENXIO : (uint64_t)data >= first + w->n) {
			memset(ret, 0, w->n / GMEM_PAGE_BYTES);
			return;
		}
		if (data >= 0 && !no_swap) {
			touched_in_file(w, ret);
			return;
		}
	}
	if (!ours || !no_swap || mincore(s->host + w->first, w->n, ret) < 0) {
		memset(ret, 1, w->n / GMEM_PAGE_BYTES);
	}
}

static bool host_has_no_swap(void)
{
	struct sysinfo info;

	return sysinfo(&info) == 0 && info.totalswap == 0;
}

/* What a window of memory holds: [first, end) from its begin, in order. */
struct runs {
	struct {
		uint32_t first, end;
	} v[WINDOW / (GMEM_PAGE_BYTES + GAP) + 1];
	unsigned n;
};

/* Pages that hold something; a few zeroes between do not end a run. */
static void find_runs(const struct window *w, bool no_swap, struct runs *ret)
{
	const uint8_t *p = w->slot->host + w->first;
	size_t n = w->n;
	uint8_t there[WINDOW / GMEM_PAGE_BYTES];

	ret->n = 0;
	touched(w, no_swap, there);
	for (size_t off = 0; off < n; off += GMEM_PAGE_BYTES) {
		if (n - off > AHEAD && (there[(off + AHEAD) / GMEM_PAGE_BYTES] & 1)) {
			__builtin_prefetch(p + off + AHEAD);
		}
		if (!(there[off / GMEM_PAGE_BYTES] & 1) || all_zero(p + off, GMEM_PAGE_BYTES)) {
			continue;
		}
		if (ret->n == 0 || off - ret->v[ret->n - 1].end >= GAP) {
			ret->v[ret->n++].first = (uint32_t)off;
		}
		ret->v[ret->n - 1].end = (uint32_t)(off + GMEM_PAGE_BYTES);
	}
}

/*
 * Room for several runs at once halves the time of their writes, where the file system can. What
 * lies between them is allocated, too, and reads as zeroes.
 */
static int make_room(int fd, const struct runs *runs, uint64_t at)
{
	for (unsigned i = 0, k = 0; i < runs->n; i = k) {
		for (k = i + 1; k < runs->n && runs->v[k].first - runs->v[k - 1].end < SPAN_GAP; k++) {
		}
		int r = sys_fallocate(fd, FALLOC_FL_KEEP_SIZE, (int64_t)(at + runs->v[i].first),
				      runs->v[k - 1].end - runs->v[i].first);

		if (r < 0) {
			return r == -EOPNOTSUPP ? 0 : r;
		}
	}
	return 0;
}

static int save_window(int fd, const struct window *w, uint64_t at, bool no_swap)
{
	const uint8_t *p = w->slot->host + w->first;
	struct runs runs;

	find_runs(w, no_swap, &runs);
	int r = make_room(fd, &runs, at);

	for (unsigned i = 0; i < runs.n && r == 0; i++) {
		r = write_all(fd, p + runs.v[i].first, runs.v[i].end - runs.v[i].first,
			      at + runs.v[i].first);
	}
	return r;
}

/* What of a window of all memory lies in each slot. */
static int save_slots(struct gmem_save *s, int fd, uint64_t first, uint64_t end)
{
	uint64_t at = 0;
	int r = 0;

	for (unsigned i = 0; i < s->g->n_slots && r == 0; i++) {
		const struct gmem_slot *slot = &s->g->slots[i];
		uint64_t from = MAX(first, at), to = MIN(end, at + slot->bytes);

		if (from < to) {
			const struct window w = { slot, from - at, (size_t)(to - from) };

			r = save_window(fd, &w, from, s->no_swap);
		}
		at += slot->bytes;
	}
	return r;
}

static int cannot_write(unsigned part, int r, struct err *e)
{
	return err_set(e, -r, ERR_HOST, "cannot write the %s memory file: %s",
		       gmem_part_names[part], strerror(-r));
}

int gmem_save_begin(struct gmem_save *s, const struct gmem *g, const int fds[GMEM_PARTS],
		    struct err *e)
{
	*s = (struct gmem_save){ .g = g, .bytes = gmem_bytes(g), .no_swap = host_has_no_swap() };
	atomic_init(&s->left, (s->bytes + WINDOW - 1) / WINDOW);
	for (unsigned i = 0; i < GMEM_PARTS; i++) {
		s->parts[i].fd = fds[i];

		int r = sys_ftruncate(fds[i], (int64_t)s->bytes);

		if (r < 0) {
			return cannot_write(i, r, e);
		}
	}
	return 0;
}

/* A window of its own for whoever asks. Both count from their ends: they cannot meet in one. */
static bool take_window(struct gmem_save *s)
{
	uint64_t left = atomic_load_explicit(&s->left, memory_order_relaxed);

	while (left > 0 && !atomic_compare_exchange_weak_explicit(
				   &s->left, &left, left - 1, memory_order_relaxed,
				   memory_order_relaxed)) {
	}
	return left > 0;
}

bool gmem_save_step(struct gmem_save *s, enum gmem_part part)
{
	struct gmem_save_part *p = &s->parts[part];
	uint64_t windows = (s->bytes + WINDOW - 1) / WINDOW;

	if (p->r < 0 || !take_window(s)) {
		return false;
	}
	uint64_t i = part == GMEM_LOW ? p->windows : windows - 1 - p->windows;

	p->windows++;
	p->r = save_slots(s, p->fd, i * WINDOW, MIN((i + 1) * WINDOW, s->bytes));
	if (p->r < 0) {
		atomic_store_explicit(&s->left, 0, memory_order_relaxed); /* the other one stops */
	}
	return p->r == 0;
}

int gmem_save_end(struct gmem_save *s, const uint8_t id[GMEM_ID_BYTES], struct err *e)
{
	uint8_t page[GMEM_PAGE_BYTES] = { 0 };
	struct trailer t = { 0 };

	memcpy(t.magic, magic, sizeof(magic));
	le64_put(t.bytes, s->bytes);
	le64_put(t.split, MIN(s->parts[GMEM_LOW].windows * WINDOW, s->bytes));
	memcpy(t.id, id, sizeof(t.id));
	for (unsigned i = 0; i < GMEM_PARTS; i++) {
		int r = s->parts[i].r;

		if (r < 0) {
			return cannot_write(i, r, e);
		}
	}
	/* All is there: now each says so. */
	for (unsigned i = 0; i < GMEM_PARTS; i++) {
		le64_put(t.part, i);
		memcpy(page, &t, sizeof(t));
		int r = write_all(s->parts[i].fd, page, sizeof(page), s->bytes);

		if (r < 0) {
			return cannot_write(i, r, e);
		}
	}
	return 0;
}

static int check_part(const struct gmem *g, unsigned part, int fd, struct trailer *ret,
		      struct err *e)
{
	struct stat st = { 0 };
	int r = sys_fstat(fd, &st);
	ssize_t n = r < 0 ? r : sys_pread(fd, ret, sizeof(*ret), (int64_t)gmem_bytes(g));

	if (n < 0) {
		return err_set(e, (int)-n, ERR_HOST, "cannot read the %s memory file",
			       gmem_part_names[part]);
	}
	if (n == sizeof(*ret) && memcmp(ret->magic, magic_old, sizeof(magic_old)) == 0) {
		return err_set(e, EBADMSG, ERR_UNSUPPORTED, "the memory file is of an older form, "
			       "which is not read any more");
	}
	if (st.st_size != (off_t)(gmem_bytes(g) + GMEM_PAGE_BYTES) || n != sizeof(*ret) ||
	    memcmp(ret->magic, magic, sizeof(magic)) != 0 || le64_get(ret->part) != part ||
	    le64_get(ret->bytes) != gmem_bytes(g)) {
		return err_set(e, EBADMSG, ERR_INVALID, "the %s memory file is not whole, or not of a "
			       "machine with %s", gmem_part_names[part],
			       format_size(gmem_bytes(g)).text);
	}
	return 0;
}

static int check(const struct gmem *g, const int fds[GMEM_PARTS], const uint8_t *id,
		 uint64_t *ret_split, struct err *e)
{
	struct trailer t[GMEM_PARTS] = { 0 };
	int r = 0;

	for (unsigned i = 0; i < GMEM_PARTS && r == 0; i++) {
		r = check_part(g, i, fds[i], &t[i], e);
		if (r == 0 && memcmp(t[i].id, id, GMEM_ID_BYTES) != 0) {
			return err_set(e, EBADMSG, ERR_INVALID, "the %s memory file belongs to another "
				       "snapshot than the state file", gmem_part_names[i]);
		}
	}
	if (r < 0) {
		return r;
	}
	uint64_t split = le64_get(t[GMEM_LOW].split);

	if (split != le64_get(t[GMEM_HIGH].split) || split > gmem_bytes(g) ||
	    split % GMEM_PAGE_BYTES != 0) {
		return err_set(e, EBADMSG, ERR_INVALID, "the memory files do not belong together");
	}
	*ret_split = split;
	return 0;
}

/* Part of a slot and of a file, as it is gone through. */
struct part {
	struct gmem_slot *slot;
	uint64_t          first, end;   /* in the slot */
	int               fd;
	uint64_t          at;           /* in the file: the slot's begin */
	unsigned          looks;
};

/* Where the file has something, or nothing, next; in the slot, in whole pages. */
static uint64_t next_data(const struct part *p, uint64_t from)
{
	off_t r = lseek(p->fd, (off_t)(p->at + from), SEEK_DATA);

	if (r < 0) {
		return errno == ENXIO ? p->end : from;
	}
	return MIN(MAX(((uint64_t)r - p->at) & ~(uint64_t)(GMEM_PAGE_BYTES - 1), from), p->end);
}

static uint64_t next_hole(const struct part *p, uint64_t from)
{
	off_t r = lseek(p->fd, (off_t)(p->at + from), SEEK_HOLE);

	return r < 0 ? p->end : MIN(((uint64_t)r - p->at + GMEM_PAGE_BYTES - 1) &
				    ~(uint64_t)(GMEM_PAGE_BYTES - 1), p->end);
}

/* What is mapped from the file ends before the next hole that is worth a map of its own. */
static uint64_t mapped_end(struct part *p)
{
	uint64_t at = p->first;

	while (at < p->end && p->slot->n_empty < GMEM_EMPTY_MAX && p->looks++ < LOOKS_MAX) {
		uint64_t hole = next_hole(p, at), data = next_data(p, hole);

		if (data - hole >= EMPTY_MIN && hole > p->first) {
			return hole;
		}
		at = data;
	}
	return p->end;
}

/* Of a hole the file's page cache would hold pages of zeroes as soon as somebody looked. */
static int map_part(struct part *p, struct err *e)
{
	struct gmem_slot *s = p->slot;

	while (p->first < p->end) {
		uint64_t data = s->n_empty < GMEM_EMPTY_MAX ? next_data(p, p->first) : p->first;

		if (data - p->first >= EMPTY_MIN) {
			s->empty[s->n_empty++] = (struct gmem_range){ p->first, data };
			p->first = data;
			continue;
		}
		uint64_t end = mapped_end(p);
		int r = sys_mmap_over(s->host + p->first, end - p->first, PROT_READ | PROT_WRITE,
				      MAP_PRIVATE | MAP_NORESERVE, p->fd, p->at + p->first);

		if (r < 0) {
			return err_set(e, -r, ERR_HOST, "cannot map the memory file");
		}
		p->first = end;
	}
	return 0;
}

/* Engines know memory by its place: it stays. */
static int map_slot(struct gmem_slot *s, const int fds[GMEM_PARTS], uint64_t at, uint64_t low,
		    struct err *e)
{
	struct part parts[GMEM_PARTS] = {
		[GMEM_LOW] = { .slot = s, .end = low, .fd = fds[GMEM_LOW], .at = at },
		[GMEM_HIGH] = { .slot = s, .first = low, .end = s->bytes, .fd = fds[GMEM_HIGH], .at = at },
	};
	int r = sys_mmap_over(s->host, s->bytes, PROT_READ | PROT_WRITE,
			      MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	if (r < 0) {
		return err_set(e, -r, ERR_HOST, "cannot map guest memory");
	}
	s->restored = true;
	s->n_empty = 0;
	r = map_part(&parts[GMEM_LOW], e);
	return r < 0 ? r : map_part(&parts[GMEM_HIGH], e);
}

int gmem_restore(struct gmem *g, const int fds[GMEM_PARTS], const uint8_t id[GMEM_ID_BYTES],
		 struct err *e)
{
	uint64_t at = 0, split = 0;
	int r = check(g, fds, id, &split, e);

	for (unsigned i = 0; i < g->n_slots && r == 0; i++) {
		struct gmem_slot *s = &g->slots[i];

		r = map_slot(s, fds, at, split <= at ? 0 : MIN(split - at, s->bytes), e);
		at += s->bytes;
	}
	return r;
}
