/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A queue of bytes with a fixed bound, whose memory exists only while it holds something:
 * an idle shim has many of these and pays for none.
 *
 *	struct ring r = RING_INIT(65536);
 *	if (ring_room(&r) >= n) { ring_put(&r, data, n); }
 *	ring_drain(&r, fd);       // what the descriptor takes
 */
#ifndef SHIM_RING_H
#define SHIM_RING_H

#include "base/def.h"

struct ring {
	char  *data;    /* NULL while empty */
	size_t cap;
	size_t start;   /* of the first byte */
	size_t len;
};

#define RING_INIT(bytes) { .data = NULL, .cap = (bytes), .start = 0, .len = 0 }

static inline size_t ring_room(const struct ring *r)
{
	return r->cap - r->len;
}

/* All n bytes, or nothing: -ENOBUFS if there is no room, -ENOMEM. */
int ring_put(struct ring *r, const void *data, size_t n) must_check;

/* Write to a descriptor until it would block. 0 (see .len for what is left) or -errno. */
int ring_drain(struct ring *r, int fd) must_check;

/* Forget everything. */
void ring_reset(struct ring *r);

#endif
