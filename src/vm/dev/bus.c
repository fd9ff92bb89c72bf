/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Regions in a table ordered by address. An access copies its region out under the lock of
 * the table and calls it with only the device's own lock held, so a device may change the
 * table from inside a call (a BAR moves).
 */
#include <errno.h>
#include <string.h>

#include "base/mem.h"
#include "vm/dev/dev.h"

enum { REGIONS_MAX = 256 };

struct entry {
	const struct region *who;
	struct region        r;
};

struct bus {
	pthread_rwlock_t lock;
	struct entry     entries[REGIONS_MAX];
	unsigned         n;
};

int bus_new(struct bus **ret)
{
	struct bus *b = mem_new(struct bus);

	if (!b) {
		return -ENOMEM;
	}
	int r = pthread_rwlock_init(&b->lock, NULL);

	if (r != 0) {
		free(b);
		return -r;
	}
	*ret = b;
	return 0;
}

struct bus *bus_free(struct bus *b)
{
	if (b) {
		pthread_rwlock_destroy(&b->lock);
		free(b);
	}
	return NULL;
}

static int add_locked(struct bus *b, const struct region *r)
{
	unsigned at = 0;

	if (r->bytes == 0 || r->first > UINT64_MAX - (r->bytes - 1)) {
		return -EINVAL;
	}
	if (b->n == REGIONS_MAX) {
		return -ENOSPC;
	}
	while (at < b->n && b->entries[at].r.first < r->first) {
		at++;
	}
	const struct region *below = at > 0 ? &b->entries[at - 1].r : NULL;
	const struct region *above = at < b->n ? &b->entries[at].r : NULL;

	if ((below && r->first - below->first < below->bytes) ||
	    (above && above->first - r->first < r->bytes)) {
		return -EEXIST;
	}
	memmove(&b->entries[at + 1], &b->entries[at], (b->n - at) * sizeof(b->entries[0]));
	b->entries[at] = (struct entry){ .who = r, .r = *r };
	b->n++;
	return 0;
}

int bus_add(struct bus *b, const struct region *r)
{
	pthread_rwlock_wrlock(&b->lock);
	int result = add_locked(b, r);

	pthread_rwlock_unlock(&b->lock);
	return result;
}

void bus_remove(struct bus *b, const struct region *r)
{
	pthread_rwlock_wrlock(&b->lock);
	for (unsigned at = 0; at < b->n; at++) {
		if (b->entries[at].who == r) {
			b->n--;
			memmove(&b->entries[at], &b->entries[at + 1],
				(b->n - at) * sizeof(b->entries[0]));
			break;
		}
	}
	pthread_rwlock_unlock(&b->lock);
}

/* The region that has all of the access. */
static bool find(struct bus *b, uint64_t at, unsigned n, struct region *ret)
{
	unsigned low = 0, high = 0;
	bool found = false;

	pthread_rwlock_rdlock(&b->lock);
	high = b->n;
	while (low < high) {
		unsigned middle = (low + high) / 2;

		if (b->entries[middle].r.first <= at) {
			low = middle + 1;
		} else {
			high = middle;
		}
	}
	if (low > 0) {
		const struct region *r = &b->entries[low - 1].r;
		uint64_t off = at - r->first;

		found = off < r->bytes && n <= r->bytes - off;
		if (found) {
			*ret = *r;
		}
	}
	pthread_rwlock_unlock(&b->lock);
	return found;
}

static void lock(const struct region *r)
{
	if (r->lock) {
		pthread_mutex_lock(r->lock);
	}
}

static void unlock(const struct region *r)
{
	if (r->lock) {
		pthread_mutex_unlock(r->lock);
	}
}

uint64_t bus_read(struct bus *b, uint64_t at, unsigned n)
{
	uint64_t mask = n >= 8 ? UINT64_MAX : BIT(8 * n) - 1;
	uint64_t v = mask;
	struct region r;

	if (find(b, at, n, &r) && r.read) {
		lock(&r);
		v = r.read(r.ctx, at - r.first, n);
		unlock(&r);
	}
	return v & mask;
}

void bus_write(struct bus *b, uint64_t at, unsigned n, uint64_t v)
{
	uint64_t mask = n >= 8 ? UINT64_MAX : BIT(8 * n) - 1;
	struct region r;

	if (find(b, at, n, &r) && r.write) {
		lock(&r);
		r.write(r.ctx, at - r.first, n, v & mask);
		unlock(&r);
	}
}
