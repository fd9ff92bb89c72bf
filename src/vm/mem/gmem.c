/* SPDX-License-Identifier: Apache-2.0 */
#include "vm/mem/gmem.h"

#include <errno.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include "base/mem.h"
#include "base/str.h"
#include "sys/file.h"
#include "sys/map.h"

/* Above any address that paging can name: SDM 3, 4.1.4 (52 bits). */
#define ADDRESS_MAX (UINT64_C(1) << 52)

enum { HUGE_BYTES = 2 << 20 };

void gmem_init(struct gmem *g)
{
	memset(g->slots, 0, sizeof(g->slots));
	for (unsigned i = 0; i < GMEM_SLOTS_MAX; i++) {
		g->slots[i].fd = g->slots[i].again_fd = -1;
	}
	g->n_slots = 0;
	g->file_fd = -1;
	g->file_bytes = 0;
	atomic_init(&g->log_dirty, false);
	g->written = NULL;
	g->written_ctx = NULL;
	g->tap = NULL;
	g->tap_ctx = NULL;
}

void gmem_fini(struct gmem *g)
{
	for (unsigned i = 0; i < g->n_slots; i++) {
		struct gmem_slot *s = &g->slots[i];

		ignore_result(sys_munmap(s->host, s->bytes)); /* nothing else can be done */
		fd_close(&s->fd);
		fd_close(&s->again_fd);
		free((void *)s->dirty);
	}
	gmem_init(g);
}

static uint64_t slot_pages(const struct gmem_slot *s)
{
	return s->bytes >> GMEM_PAGE_SHIFT;
}

static size_t slot_words(const struct gmem_slot *s)
{
	return (slot_pages(s) + 63) / 64;
}

/* --- Making the map --- */

static int check_range(const struct gmem *g, gpa_t first, uint64_t bytes, struct err *e)
{
	const uint64_t mask = GMEM_PAGE_BYTES - 1;

	if (bytes == 0 || (bytes & mask) != 0 || (first.raw & mask) != 0 ||
	    bytes > ADDRESS_MAX || first.raw > ADDRESS_MAX - bytes) {
		return err_set(e, EINVAL, ERR_INVALID, "memory is added in whole pages");
	}
	if (g->n_slots == GMEM_SLOTS_MAX) {
		return err_set(e, ENOSPC, ERR_LIMIT, "memory has at most %d parts", GMEM_SLOTS_MAX);
	}
	for (unsigned i = 0; i < g->n_slots; i++) {
		const struct gmem_slot *s = &g->slots[i];

		if (first.raw < s->first.raw + s->bytes && s->first.raw < first.raw + bytes) {
			return err_set(e, EEXIST, ERR_INVALID, "memory overlaps");
		}
	}
	return 0;
}

/* A page behind the end of its file would kill whoever touches it. */
static int check_file(int fd, uint64_t offset, uint64_t bytes, struct err *e)
{
	struct stat st;
	int r = sys_fstat(fd, &st);

	if (r < 0) {
		return err_set(e, -r, ERR_HOST, "memory file");
	}
	if ((offset & (GMEM_PAGE_BYTES - 1)) != 0 || st.st_size < 0 ||
	    (uint64_t)st.st_size < offset || (uint64_t)st.st_size - offset < bytes) {
		return err_set(e, EINVAL, ERR_INVALID, "the memory file is shorter than the memory");
	}
	return 0;
}

/*
 * Huge pages need a place that is aligned for them, in the host's addresses as in the guest's; a
 * kernel before 6.7 does not see to it.
 */
static int map_anonymous(size_t bytes, int fd, uint64_t offset, void **ret)
{
	uint8_t *all = NULL;
	int r = sys_mmap(bytes + HUGE_BYTES, PROT_READ | PROT_WRITE,
			 MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0, (void **)&all);

	if (r < 0) {
		return r;
	}
	size_t before = -(uintptr_t)all % HUGE_BYTES;

	ignore_result(sys_munmap(all + before + bytes, HUGE_BYTES - before)); /* only addresses */
	if (before > 0) {
		ignore_result(sys_munmap(all, before)); /* as above */
	}
	if (fd >= 0) {
		r = sys_mmap_over(all + before, bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_NORESERVE,
				  fd, offset);
		if (r < 0) {
			ignore_result(sys_munmap(all + before, bytes)); /* as above */
			return r;
		}
	}
	ignore_result(sys_madvise(all + before, bytes, MADV_HUGEPAGE)); /* small ones do, too */
	*ret = all + before;
	return 0;
}

void gmem_use_file(struct gmem *g, int fd)
{
	g->file_fd = fd;
}

/* Memory that has a name for ourselves. Without one it is mapped once only. */
static int again_fd(struct gmem *g, uint64_t bytes, uint64_t *ret_offset)
{
	auto_close int fd = g->file_fd >= 0 ? sys_dup(g->file_fd) : sys_memfd_create("guest", 0);
	uint64_t offset = g->file_fd >= 0 ? g->file_bytes : 0;

	if (fd < 0 || sys_ftruncate(fd, (int64_t)(offset + bytes)) < 0) {
		return -1;
	}
	g->file_bytes = (offset + bytes + HUGE_BYTES - 1) & ~(uint64_t)(HUGE_BYTES - 1);
	*ret_offset = offset;
	return take_fd(&fd);
}

static int map_slot(struct gmem_slot *s, bool shared, struct err *e)
{
	void *host = NULL;
	int r = s->fd < 0 ? map_anonymous(s->bytes, s->again_fd, s->again_offset, &host) :
			    sys_mmap(s->bytes, PROT_READ | PROT_WRITE,
				     (shared ? MAP_SHARED : MAP_PRIVATE) | MAP_NORESERVE, s->fd,
				     s->fd_offset, &host);

	if (r < 0) {
		return err_set(e, -r, ERR_HOST, "cannot map %s of guest memory",
			       format_size(s->bytes).text);
	}
	s->host = host;
	return 0;
}

int gmem_add(struct gmem *g, gpa_t first, uint64_t bytes, int own_fd, uint64_t offset, bool shared,
	     struct err *e)
{
	auto_close int fd = own_fd;
	int r = check_range(g, first, bytes, e);

	r = r < 0 || fd < 0 ? r : check_file(fd, offset, bytes, e);
	if (r < 0) {
		return r;
	}
	struct gmem_slot s = { .first = first, .bytes = bytes, .fd = fd, .fd_offset = offset, .again_fd = -1 };

	s.dirty = mem_calloc(slot_words(&s), sizeof(*s.dirty));
	if (!s.dirty) {
		return err_nomem(e);
	}
	s.again_fd = fd < 0 && shared ? again_fd(g, bytes, &s.again_offset) : -1;
	r = map_slot(&s, shared, e);
	if (r < 0) {
		fd_close(&s.again_fd);
		free((void *)s.dirty);
		return r;
	}
	ignore_result(take_fd(&fd)); /* the slot has it */
	unsigned at = g->n_slots;

	for (; at > 0 && g->slots[at - 1].first.raw > first.raw; at--) {
		g->slots[at] = g->slots[at - 1];
	}
	g->slots[at] = s;
	g->n_slots++;
	return 0;
}

/* --- Looking up --- */

struct gmem_slot *gmem_slot(struct gmem *g, gpa_t at)
{
	for (unsigned i = 0; i < g->n_slots; i++) {
		struct gmem_slot *s = &g->slots[i];

		if (at.raw >= s->first.raw && at.raw - s->first.raw < s->bytes) {
			return s;
		}
	}
	return NULL;
}

/* The slot that has all of the range; no addition here can wrap. */
static const struct gmem_slot *find(const struct gmem *g, gpa_t first, uint64_t len)
{
	for (unsigned i = 0; i < g->n_slots; i++) {
		const struct gmem_slot *s = &g->slots[i];
		uint64_t off = first.raw - s->first.raw;

		if (first.raw >= s->first.raw && off <= s->bytes && len <= s->bytes - off) {
			return s;
		}
	}
	return NULL;
}

bool gmem_is_ram(const struct gmem *g, gpa_t first, uint64_t len)
{
	return find(g, first, len) != NULL;
}

static uint8_t *host_of(const struct gmem *g, gpa_t first, uint64_t len)
{
	const struct gmem_slot *s = find(g, first, len);

	return s ? s->host + (first.raw - s->first.raw) : NULL;
}

bool gmem_can_map_again(const struct gmem *g)
{
	for (unsigned i = 0; i < g->n_slots; i++) {
		if (g->slots[i].again_fd < 0 || g->slots[i].restored) {
			return false;
		}
	}
	return g->n_slots > 0;
}

int gmem_map_again(const struct gmem *g, gpa_t first, uint64_t bytes, void *at, bool write)
{
	const struct gmem_slot *s = find(g, first, bytes);

	if (!s) {
		return -EFAULT;
	}
	if (s->again_fd < 0 || s->restored) {
		return -ENOTSUP;
	}
	return sys_mmap_over(at, bytes, PROT_READ | (write ? PROT_WRITE : 0), MAP_SHARED | MAP_NORESERVE,
			     s->again_fd, s->again_offset + (first.raw - s->first.raw));
}

/* --- Access --- */

static void told(const struct gmem *g, gpa_t first, uint64_t bytes)
{
	gmem_mark_dirty((struct gmem *)g, first, bytes);
	if (g->written) {
		g->written(g->written_ctx, first, bytes);
	}
	if (g->tap) {
		g->tap(g->tap_ctx, first, bytes);
	}
}

int gmem_read(const struct gmem *g, gpa_t from, void *ret, size_t len)
{
	const uint8_t *p = host_of(g, from, len);

	if (!p) {
		return -EFAULT;
	}
	memcpy(ret, p, len);
	return 0;
}

int gmem_write(struct gmem *g, gpa_t to, const void *data, size_t len)
{
	uint8_t *p = host_of(g, to, len);

	if (!p) {
		return -EFAULT;
	}
	memcpy(p, data, len);
	if (len > 0) {
		told(g, to, len);
	}
	return 0;
}

/* The partner of these accesses is the driver in the guest. */
int gmem_load16(const struct gmem *g, gpa_t from, uint16_t *ret)
{
	const uint8_t *p = (from.raw & 1) != 0 ? NULL : host_of(g, from, sizeof(*ret));

	if (!p) {
		return -EFAULT;
	}
	*ret = atomic_load_explicit((const _Atomic uint16_t *)(const void *)p,
				    memory_order_acquire);
	return 0;
}

int gmem_load32(const struct gmem *g, gpa_t from, uint32_t *ret)
{
	const uint8_t *p = (from.raw & 3) != 0 ? NULL : host_of(g, from, sizeof(*ret));

	if (!p) {
		return -EFAULT;
	}
	*ret = atomic_load_explicit((const _Atomic uint32_t *)(const void *)p,
				    memory_order_acquire);
	return 0;
}

int gmem_store16(struct gmem *g, gpa_t to, uint16_t v)
{
	uint8_t *p = (to.raw & 1) != 0 ? NULL : host_of(g, to, sizeof(v));

	if (!p) {
		return -EFAULT;
	}
	atomic_store_explicit((_Atomic uint16_t *)(void *)p, v, memory_order_release);
	told(g, to, sizeof(v));
	return 0;
}

int gmem_store32(struct gmem *g, gpa_t to, uint32_t v)
{
	uint8_t *p = (to.raw & 3) != 0 ? NULL : host_of(g, to, sizeof(v));

	if (!p) {
		return -EFAULT;
	}
	atomic_store_explicit((_Atomic uint32_t *)(void *)p, v, memory_order_release);
	told(g, to, sizeof(v));
	return 0;
}

int gmem_iov(const struct gmem *g, gpa_t first, uint64_t len, struct iovec *iov, unsigned *n,
	     unsigned n_max)
{
	uint8_t *p = host_of(g, first, len);

	if (!p) {
		return -EFAULT;
	}
	if (*n >= n_max) {
		return -ENOBUFS;
	}
	iov[(*n)++] = (struct iovec){ .iov_base = p, .iov_len = len };
	return 0;
}

void gmem_wrote(struct gmem *g, const struct iovec *iov, unsigned n)
{
	for (unsigned i = 0; i < n; i++) {
		const uint8_t *p = iov[i].iov_base;

		for (unsigned k = 0; k < g->n_slots && iov[i].iov_len > 0; k++) {
			const struct gmem_slot *s = &g->slots[k];

			if (p >= s->host && p < s->host + s->bytes) {
				told(g, GPA(s->first.raw + (uint64_t)(p - s->host)), iov[i].iov_len);
			}
		}
	}
}

void gmem_watch(struct gmem *g, gmem_written_fn *fn, void *ctx)
{
	g->written = fn;
	g->written_ctx = ctx;
}

void gmem_tap(struct gmem *g, gmem_written_fn *fn, void *ctx)
{
	g->tap = fn;
	g->tap_ctx = ctx;
}

/* --- Dirty log --- */

void gmem_mark_dirty(struct gmem *g, gpa_t first, uint64_t bytes)
{
	if (!atomic_load_explicit(&g->log_dirty, memory_order_acquire) || bytes == 0) {
		return;
	}
	struct gmem_slot *s = gmem_slot(g, first);

	if (!s) {
		return;
	}
	uint64_t off = first.raw - s->first.raw;
	uint64_t last = (off + MIN(bytes, s->bytes - off) - 1) >> GMEM_PAGE_SHIFT;

	for (uint64_t page = off >> GMEM_PAGE_SHIFT; page <= last; page++) {
		/* Partner: gmem_log_take(), whose caller reads the page after it took the bit. */
		atomic_fetch_or_explicit(&s->dirty[page / 64], BIT(page % 64),
					 memory_order_release);
	}
}

int gmem_log_start(struct gmem *g, struct err *e)
{
	if (atomic_load(&g->log_dirty)) {
		return err_set(e, EALREADY, ERR_CONFLICT, "the dirty log is on already");
	}
	for (unsigned i = 0; i < g->n_slots; i++) {
		for (size_t w = 0; w < slot_words(&g->slots[i]); w++) {
			atomic_store_explicit(&g->slots[i].dirty[w], 0, memory_order_relaxed);
		}
	}
	atomic_store_explicit(&g->log_dirty, true, memory_order_release);
	return 0;
}

void gmem_log_stop(struct gmem *g)
{
	atomic_store_explicit(&g->log_dirty, false, memory_order_release);
	for (unsigned i = 0; i < g->n_slots; i++) {
		for (size_t w = 0; w < slot_words(&g->slots[i]); w++) {
			atomic_store_explicit(&g->slots[i].dirty[w], 0, memory_order_relaxed);
		}
	}
}

void gmem_log_take(struct gmem *g, unsigned slot, uint64_t *ret)
{
	struct gmem_slot *s = &g->slots[slot];

	for (size_t w = 0; w < slot_words(s); w++) {
		ret[w] = atomic_exchange_explicit(&s->dirty[w], 0, memory_order_acq_rel);
	}
}
