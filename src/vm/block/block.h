/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A disk's file and asynchronous I/O on it. Raw: byte n of the disk is byte n of the file (a
 * regular file or a block device). Nothing is guessed from what the file holds.
 *
 * Two ways do the same. io_uring: the ring knows one registered file and can only read, write,
 * sync and allocate there, which it is restricted to before it is used the first time, so it
 * gives nothing more to whoever takes the process over. Threads, where the host has no
 * io_uring, make the same calls one by one.
 *
 *	struct block_req r = { .op = BLOCK_READ, .offset = 0, .bytes = 4096, .iov = v, .n_iov = 1,
 *			       .done = on_done };
 *	block_submit(b, &r);
 *	block_kick(b);           // once after several
 *
 * A request is the caller's and lives until done() was called, which comes from the loop (or
 * from block_drain()) exactly once, never from block_submit(). done() may submit again.
 *
 * Durability: a write that was done is on the disk once a flush, submitted after that, is done
 * with 0; or at once if the write said `durable`. A flush that failed says that writes before it
 * may be lost, and later flushes do not take that back: see block_failed().
 *
 * Context: one loop's thread.
 */
#ifndef VM_BLOCK_BLOCK_H
#define VM_BLOCK_BLOCK_H

#include <sys/uio.h>

#include "base/err.h"
#include "base/list.h"
#include "loop/loop.h"

enum block_op {
	BLOCK_READ,
	BLOCK_WRITE,
	BLOCK_FLUSH,
	BLOCK_DISCARD,   /* the range holds nothing of value any more */
	BLOCK_ZERO,      /* the range reads as zeroes */
	BLOCK_OP__COUNT,
};

enum block_way {
	BLOCK_AUTO,      /* io_uring, or threads where that is not to be had */
	BLOCK_URING,
	BLOCK_THREADS,
	BLOCK_IN_PLACE,  /* the loop's thread waits for each call: nothing moves behind its back */
	BLOCK_WAY__COUNT,
};

extern const char *const block_way_names[BLOCK_WAY__COUNT];

/* One kernel call of a request. */
struct block_io {
	enum { BLOCK_IO_READ, BLOCK_IO_WRITE, BLOCK_IO_SYNC, BLOCK_IO_ALLOCATE } kind;
	int           mode;      /* of fallocate */
	uint64_t      offset, bytes;
	struct iovec *iov;
	unsigned      n_iov;
	bool          durable;
};

enum { BLOCK_ZERO_IOVS = 16 };

struct block_req {
	enum block_op op;
	uint64_t      offset, bytes;   /* of the disk; READ and WRITE: what the iov holds */
	struct iovec *iov;             /* is changed on the way */
	unsigned      n_iov;
	bool          durable;         /* WRITE, ZERO: done means on the disk */
	bool          unmap;           /* ZERO: the range may lose its space */
	void        (*done)(struct block_req *r, int result);   /* 0 or -errno */
	void         *ud;

	/* Of this folder. */
	struct list     link;
	struct block_io io;
	unsigned        step;
	int             result;
	uint64_t        bounced;       /* bytes of it that have passed through our own buffer */
	struct iovec    zero_iov[BLOCK_ZERO_IOVS];
};

struct block_conf {
	int            fd;         /* taken: -1 afterwards */
	bool           read_only;  /* no writes, whatever the descriptor could do */
	enum block_way way;
	void         (*in_worker)(void);   /* called first by each thread of ours; NULL: nothing */
	unsigned       depth;      /* requests at a time that are not kept waiting; 0: 128 */
};

/* What the disk is. */
struct block_info {
	uint64_t    bytes;            /* a multiple of `logical`; a file's odd tail is not shown */
	uint32_t    logical;          /* offsets and lengths are multiples of this */
	uint32_t    physical;
	bool        read_only, direct;
	const char *way;
};

struct block;

/* -EINVAL: neither a file nor a block device, or one that is empty. */
int block_open(struct loop *loop, struct block_conf *conf, struct block **ret,
	       struct err *e) must_check;

/* Nothing is in flight (block_drain()). NULL is fine; returns NULL. */
struct block *block_close(struct block *b);
AUTO_PTR(struct block, block_close)

const struct block_info *block_info(const struct block *b);

/*
 * Begin a request. Ranges outside of the disk, and writes to a read-only one, end with -ERANGE
 * and -EROFS; they reach no file.
 */
void block_submit(struct block *b, struct block_req *r);

/* Hand over to the kernel what was submitted. */
void block_kick(struct block *b);

/*
 * Read in place what the host has in memory, without a request: bytes, which may be fewer;
 * -EAGAIN: it would have to wait for the disk; -EOPNOTSUPP: never possible with this one. Other
 * errors are better told by a request. `offset` is of the disk, and the range in it.
 * Context: any thread, as nothing of the disk changes.
 */
int block_read_now(const struct block *b, uint64_t offset, const struct iovec *iov,
		   unsigned n_iov) must_check;

unsigned block_in_flight(const struct block *b);

/*
 * Wait in place until nothing is in flight; done() is called for each. -ETIMEDOUT: after so many
 * nanoseconds (0: never) some are still out; they go on.
 */
int block_drain(struct block *b, uint64_t timeout_ns) must_check;

/*
 * A flush or a durable write failed since the disk was opened: the kernel may have dropped what
 * could not be written, so every flush from then on fails too.
 */
bool block_failed(const struct block *b);

#endif
