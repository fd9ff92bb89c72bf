/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <string.h>

#include "vm/block/way.h"

bool block__must_bounce(const struct block *b, const struct block_req *r)
{
	uint64_t bits = 0;

	if (!b->bounce || (r->op != BLOCK_READ && r->op != BLOCK_WRITE)) {
		return false;
	}
	for (unsigned i = 0; i < r->n_iov; i++) {
		bits |= (uintptr_t)r->iov[i].iov_base | r->iov[i].iov_len;
	}
	return bits & (b->info.logical - 1);
}

/* Between the buffer and what stands in the request's vectors at `at`. */
static void copy(const struct block_req *r, uint64_t at, uint8_t *buffer, size_t n)
{
	for (unsigned i = 0; i < r->n_iov && n > 0; i++) {
		const struct iovec *v = &r->iov[i];

		if (at >= v->iov_len) {
			at -= v->iov_len;
			continue;
		}
		size_t part = MIN(v->iov_len - at, n);
		uint8_t *data = (uint8_t *)v->iov_base + at;

		memcpy(r->op == BLOCK_WRITE ? buffer : data, r->op == BLOCK_WRITE ? data : buffer, part);
		buffer += part;
		n -= part;
		at = 0;
	}
}

static void start_piece(struct block *b, struct block_req *r)
{
	size_t n = MIN(r->bytes - r->bounced, (uint64_t)BLOCK__BOUNCE_BYTES);
	bool write = r->op == BLOCK_WRITE;

	if (write) {
		copy(r, r->bounced, b->bounce, n);
	}
	r->zero_iov[0] = (struct iovec){ b->bounce, n };
	r->io = (struct block_io){ .kind = write ? BLOCK_IO_WRITE : BLOCK_IO_READ,
				   .offset = r->offset + r->bounced, .bytes = n,
				   .iov = r->zero_iov, .n_iov = 1, .durable = write && r->durable };
	b->ops->start(b->way, r);
}

void block__bounce(struct block *b, struct block_req *r)
{
	r->bounced = 0;
	if (b->bouncing) {
		list_add_tail(&b->bounce_waits, &r->link);
		return;
	}
	b->bouncing = r;
	start_piece(b, r);
}

int block__bounced(struct block *b, int result)
{
	struct block_req *r = b->bouncing;

	if (result < 0) {
		return result;
	}
	/* A part of a block is moved only where the file ends, which it should not. */
	if (result == 0 || result % (int)b->info.logical != 0) {
		return -EIO;
	}
	if (r->op == BLOCK_READ) {
		copy(r, r->bounced, b->bounce, (size_t)result);
	}
	r->bounced += (uint64_t)result;
	if (r->bounced == r->bytes) {
		return 1;
	}
	start_piece(b, r);
	b->ops->kick(b->way);
	return 0;
}

void block__bounce_next(struct block *b)
{
	b->bouncing = NULL;
	if (!list_empty(&b->bounce_waits)) {
		b->bouncing = list_entry(b->bounce_waits.next, struct block_req, link);
		list_del(&b->bouncing->link);
		start_piece(b, b->bouncing);
		b->ops->kick(b->way);
	}
}
