/* SPDX-License-Identifier: Apache-2.0 */
/* Guest memory as a file: slot after slot, pages of zeroes left out, then a page about it. */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/sysinfo.h>

#include "base/le.h"
#include "base/str.h"
#include "sys/file.h"
#include "vm/mem/gmem.h"

/* Looked at together. What is written is whole pages. */
enum { WINDOW = 64 << 20, GAP = 32 << 10, SPAN_GAP = 1 << 20 };

/*
 * Written at once. One large write takes memory for its page cache in the largest pieces, and
 * those are the ones that a hypervisor below takes back while they are free: the same bytes then
 * take fifteen times as long.
 */
enum { PIECE = 1 << 20 };

/* Looking at pages misses the caches once for each: so many are asked for ahead. */
enum { AHEAD = 16 * GMEM_PAGE_BYTES };

/* The last page begins with it. */
struct trailer {
	char    magic[16];
	uint8_t bytes[8];     /* little endian */
	uint8_t id[GMEM_ID_BYTES];
};

static const char magic[16] = "holm vm memory 1";

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

/*
 * Which pages were ever touched. Of memory that no file stands behind the kernel
 * knows it, and a page that was not is zero; but it counts one that is swapped out as untouched,
 * so it is asked only on a host without swap.
 */
static void touched(const uint8_t *p, size_t n, bool ask, uint8_t *ret)
{
	if (!ask || mincore((void *)p, n, ret) < 0) {
		memset(ret, 1, n / GMEM_PAGE_BYTES);
	}
}

static bool no_swap(void)
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
static void find_runs(const uint8_t *p, size_t n, bool ask, struct runs *ret)
{
	uint8_t there[WINDOW / GMEM_PAGE_BYTES];

	ret->n = 0;
	touched(p, n, ask, there);
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

static int save_window(int fd, const uint8_t *p, size_t n, uint64_t at, bool ask)
{
	struct runs runs;

	find_runs(p, n, ask, &runs);
	int r = make_room(fd, &runs, at);

	for (unsigned i = 0; i < runs.n && r == 0; i++) {
		r = write_all(fd, p + runs.v[i].first, runs.v[i].end - runs.v[i].first,
			      at + runs.v[i].first);
	}
	return r;
}

int gmem_save(const struct gmem *g, int fd, const uint8_t id[GMEM_ID_BYTES], struct err *e)
{
	uint8_t page[GMEM_PAGE_BYTES] = { 0 };
	struct trailer t = { 0 };
	uint64_t at = 0;
	bool ask = no_swap();
	int r = sys_ftruncate(fd, (int64_t)gmem_bytes(g));

	memcpy(t.magic, magic, sizeof(magic));
	le64_put(t.bytes, gmem_bytes(g));
	memcpy(t.id, id, sizeof(t.id));
	memcpy(page, &t, sizeof(t));
	for (unsigned i = 0; i < g->n_slots && r == 0; i++) {
		const struct gmem_slot *s = &g->slots[i];

		for (uint64_t off = 0; off < s->bytes && r == 0; off += WINDOW) {
			r = save_window(fd, s->host + off,
					(size_t)MIN(s->bytes - off, (uint64_t)WINDOW), at + off,
					ask && s->fd < 0 && !s->restored);
		}
		at += s->bytes;
	}
	r = r < 0 ? r : write_all(fd, page, sizeof(page), at);
	return r < 0 ? err_set(e, -r, ERR_HOST, "cannot write the memory file: %s", strerror(-r)) : 0;
}

static int check(const struct gmem *g, int fd, const uint8_t *id, struct err *e)
{
	struct trailer t = { 0 };
	struct stat st = { 0 };
	int r = sys_fstat(fd, &st);
	ssize_t n = r < 0 ? r : sys_pread(fd, &t, sizeof(t), (int64_t)gmem_bytes(g));

	if (n < 0) {
		return err_set(e, (int)-n, ERR_HOST, "cannot read the memory file");
	}
	if (st.st_size != (off_t)(gmem_bytes(g) + GMEM_PAGE_BYTES) || n != sizeof(t) ||
	    memcmp(t.magic, magic, sizeof(magic)) != 0 || le64_get(t.bytes) != gmem_bytes(g)) {
		return err_set(e, EBADMSG, ERR_INVALID, "the memory file is not whole, or not of a "
			       "machine with %s", format_size(gmem_bytes(g)).text);
	}
	if (memcmp(t.id, id, GMEM_ID_BYTES) != 0) {
		return err_set(e, EBADMSG, ERR_INVALID, "the memory file belongs to another snapshot "
			       "than the state file");
	}
	return 0;
}

int gmem_restore(struct gmem *g, int fd, const uint8_t id[GMEM_ID_BYTES], struct err *e)
{
	uint64_t at = 0;
	int r = check(g, fd, id, e);

	for (unsigned i = 0; i < g->n_slots && r == 0; i++) {
		struct gmem_slot *s = &g->slots[i];

		/* Engines know memory by its place: it stays. */
		if (mmap(s->host, s->bytes, PROT_READ | PROT_WRITE,
			 MAP_PRIVATE | MAP_FIXED | MAP_NORESERVE, fd, (off_t)at) == MAP_FAILED) {
			return err_set(e, errno, ERR_HOST, "cannot map the memory file");
		}
		s->restored = true;
		at += s->bytes;
	}
	return r;
}
