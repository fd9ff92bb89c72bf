/* SPDX-License-Identifier: Apache-2.0 */
#include "shim/ring.h"

#include <errno.h>
#include <string.h>

#include "base/mem.h"
#include "sys/file.h"

int ring_put(struct ring *r, const void *data, size_t n)
{
	if (n > ring_room(r)) {
		return -ENOBUFS;
	}
	if (n == 0) {
		return 0;
	}
	if (!r->data) {
		r->data = mem_calloc(r->cap, 1);
		if (!r->data) {
			return -ENOMEM;
		}
		r->start = 0;
	}
	size_t at = (r->start + r->len) % r->cap;
	size_t first = MIN(n, r->cap - at);

	memcpy(r->data + at, data, first);
	memcpy(r->data, (const char *)data + first, n - first);
	r->len += n;
	return 0;
}

int ring_drain(struct ring *r, int fd)
{
	while (r->len > 0) {
		ssize_t n = sys_write(fd, r->data + r->start, MIN(r->len, r->cap - r->start));

		if (n == -EAGAIN) {
			return 0;
		}
		if (n < 0) {
			return (int)n;
		}
		r->start = (r->start + (size_t)n) % r->cap;
		r->len -= (size_t)n;
	}
	ring_reset(r);
	return 0;
}

void ring_reset(struct ring *r)
{
	free(r->data);
	r->data = NULL;
	r->start = 0;
	r->len = 0;
}
