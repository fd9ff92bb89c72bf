/* SPDX-License-Identifier: Apache-2.0 */
/* Between a disk and its way to the kernel. Private to this folder. */
#ifndef VM_BLOCK_WAY_H
#define VM_BLOCK_WAY_H

#include "vm/block/block.h"

enum { BLOCK__BOUNCE_BYTES = 256 << 10 };

struct block_way_ops {
	const char *name;
	bool now;        /* reads may be done in place besides, by any thread */
	int  (*open)(struct block *b, unsigned depth, void **ret);
	void (*close)(void *way);
	/* Begin r->io. Never completes from here. */
	void (*start)(void *way, struct block_req *r);
	void (*kick)(void *way);
	/* Wait until at least one that was started is done, or the time is over (0: for ever), and
	 * report those that are. It may come back early. */
	void (*wait)(void *way, uint64_t timeout_ns);
};

extern const struct block_way_ops block__uring, block__threads, block__in_place;

/* Make the call of a request: bytes, 0 or -errno. */
int block__perform(int fd, const struct block_io *io);

struct block {
	struct loop                *loop;
	const struct block_way_ops *ops;
	void                       *way;
	int                         fd;
	struct block_info           info;
	unsigned                    in_flight;
	bool                        failed;
	struct list                 refused;       /* done without any I/O */
	struct loop_post            tell_refused;
	void                      (*in_worker)(void);
	uint8_t                    *zeroes;        /* ZEROES_BYTES, never written */
	uint8_t                    *bounce;        /* BLOCK__BOUNCE_BYTES; NULL: not O_DIRECT */
	struct block_req           *bouncing;      /* whose data passes there now */
	struct list                 bounce_waits;
};

/*
 * A ring that can do with `fd`, as its only file, what disks need, and nothing else. For the
 * way and its test; io_uring_queue_exit() ends it.
 */
struct io_uring;
int block__ring_make(struct io_uring *ring, unsigned depth, int fd) must_check;

/*
 * The kernel moves data past its cache only from and to memory that is aligned. A driver's
 * buffers need not be: such a request passes through a buffer of ours, in pieces, one request at a
 * time. Of bounce.c.
 */
bool block__must_bounce(const struct block *b, const struct block_req *r);
void block__bounce(struct block *b, struct block_req *r);   /* takes its place in the queue */
/* A piece of b->bouncing came back. 1: all is done; 0: the next one was started; or -errno */
int  block__bounced(struct block *b, int result) must_check;
void block__bounce_next(struct block *b);                   /* b->bouncing has ended */

/* The call of r->io returned `result`: bytes, 0 or -errno. On the loop's thread. */
void block__returned(struct block *b, struct block_req *r, int result);

#endif
