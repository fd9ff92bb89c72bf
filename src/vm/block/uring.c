/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <liburing.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/mem.h"
#include "vm/block/way.h"

struct uring {
	struct block    *block;
	struct io_uring  ring;
	bool             made;
	struct loop_fd  *source;
	struct list      waiting;   /* the submission queue was full */
	unsigned         depth, out;
};

/* The only file of the ring. */
enum { FILE_INDEX = 0 };

static void prepare(struct io_uring_sqe *sqe, struct block_req *r)
{
	struct block_io *io = &r->io;

	switch (io->kind) {
	case BLOCK_IO_READ:
		io_uring_prep_readv(sqe, FILE_INDEX, io->iov, io->n_iov, io->offset);
		break;
	case BLOCK_IO_WRITE:
		io_uring_prep_writev2(sqe, FILE_INDEX, io->iov, io->n_iov, io->offset,
				      io->durable ? RWF_DSYNC : 0);
		break;
	case BLOCK_IO_SYNC:
		io_uring_prep_fsync(sqe, FILE_INDEX, IORING_FSYNC_DATASYNC);
		break;
	case BLOCK_IO_ALLOCATE:
		io_uring_prep_fallocate(sqe, FILE_INDEX, io->mode, (off_t)io->offset,
					(off_t)io->bytes);
		break;
	}
	io_uring_sqe_set_flags(sqe, IOSQE_FIXED_FILE);
	io_uring_sqe_set_data(sqe, r);
}

static void uring_start(void *way, struct block_req *r)
{
	struct uring *u = way;
	struct io_uring_sqe *sqe = u->out < u->depth ? io_uring_get_sqe(&u->ring) : NULL;

	if (!sqe) {
		list_add_tail(&u->waiting, &r->link);
		return;
	}
	u->out++;
	prepare(sqe, r);
}

static void uring_kick(void *way)
{
	struct uring *u = way;

	/* -EBUSY, -EAGAIN: they stay in the queue, and go with the next ones that return. */
	if (io_uring_sq_ready(&u->ring) > 0) {
		(void)io_uring_submit(&u->ring); /* see above */
	}
}

static void refill(struct uring *u)
{
	while (!list_empty(&u->waiting) && u->out < u->depth) {
		struct block_req *r = list_entry(u->waiting.next, struct block_req, link);

		list_del(&r->link);
		uring_start(u, r);
		if (!list_empty(&r->link)) {
			return;
		}
	}
}

/* Report what came back; the callbacks may start more. */
static unsigned reap(struct uring *u)
{
	struct io_uring_cqe *cqe;
	unsigned n = 0;

	while (io_uring_peek_cqe(&u->ring, &cqe) == 0 && cqe) {
		struct block_req *r = io_uring_cqe_get_data(cqe);
		int result = cqe->res;

		io_uring_cqe_seen(&u->ring, cqe);
		u->out--;
		n++;
		block__returned(u->block, r, result);
	}
	refill(u);
	uring_kick(u);
	return n;
}

static void on_ring(struct loop_fd *src unused_arg, unsigned events unused_arg, void *ud)
{
	(void)reap(ud); /* how many does not matter here */
}

static void uring_wait(void *way, uint64_t timeout_ns)
{
	struct __kernel_timespec end = { .tv_sec = (int64_t)(timeout_ns / 1000000000),
					 .tv_nsec = (int64_t)(timeout_ns % 1000000000) };
	struct uring *u = way;
	struct io_uring_cqe *cqe;

	uring_kick(u);
	if (reap(u) == 0 && u->out > 0) {
		/* A signal, or too late: the caller knows what to do. */
		(void)io_uring_wait_cqe_timeout(&u->ring, &cqe, timeout_ns ? &end : NULL);
		(void)reap(u); /* as above */
	}
}

/* Debian's liburing declares the functions for these two, but does not export them. */
static int ring_register(struct io_uring *ring, unsigned what, void *arg, unsigned n)
{
	long r = syscall(SYS_io_uring_register, ring->ring_fd, what, arg, n);

	return r < 0 ? -errno : 0;
}

/* One file; reads, writes, syncs and allocations on it; nothing else, from the start. */
static int restrict_ring(struct io_uring *ring, int fd)
{
	static const uint8_t ops[] = { IORING_OP_READV, IORING_OP_WRITEV, IORING_OP_FSYNC,
				       IORING_OP_FALLOCATE };
	struct io_uring_restriction res[ARRAY_LEN(ops) + 2];

	memset(res, 0, sizeof(res));
	for (size_t i = 0; i < ARRAY_LEN(ops); i++) {
		res[i].opcode = IORING_RESTRICTION_SQE_OP;
		res[i].sqe_op = ops[i];
	}
	res[ARRAY_LEN(ops)].opcode = IORING_RESTRICTION_SQE_FLAGS_ALLOWED;
	res[ARRAY_LEN(ops)].sqe_flags = IOSQE_FIXED_FILE;
	res[ARRAY_LEN(ops) + 1].opcode = IORING_RESTRICTION_SQE_FLAGS_REQUIRED;
	res[ARRAY_LEN(ops) + 1].sqe_flags = IOSQE_FIXED_FILE;

	int r = io_uring_register_files(ring, &fd, 1);

	if (r == 0) {
		r = ring_register(ring, IORING_REGISTER_RESTRICTIONS, res, ARRAY_LEN(res));
	}
	return r < 0 ? r : ring_register(ring, IORING_REGISTER_ENABLE_RINGS, NULL, 0);
}

int block__ring_make(struct io_uring *ring, unsigned depth, int fd)
{
	int r = io_uring_queue_init(depth, ring, IORING_SETUP_R_DISABLED | IORING_SETUP_CLAMP);

	if (r < 0) {
		return r;
	}
	r = restrict_ring(ring, fd);
	if (r < 0) {
		io_uring_queue_exit(ring);
	}
	return r;
}

static void uring_close(void *way)
{
	struct uring *u = way;

	u->source = loop_fd_free(u->source);
	if (u->made) {
		io_uring_queue_exit(&u->ring);
	}
	free(u);
}

static int uring_open(struct block *b, unsigned depth, void **ret)
{
	struct uring *u = mem_new(struct uring);

	if (!u) {
		return -ENOMEM;
	}
	u->block = b;
	u->depth = depth;
	list_init(&u->waiting);

	int r = block__ring_make(&u->ring, depth, b->fd);

	u->made = r >= 0;
	if (r >= 0) {
		r = loop_fd_new(b->loop, u->ring.ring_fd, LOOP_IN, on_ring, u, &u->source);
	}
	if (r < 0) {
		uring_close(u);
		return r;
	}
	*ret = u;
	return 0;
}

const struct block_way_ops block__uring = {
	.name = "io_uring",
	.now = true,
	.open = uring_open,
	.close = uring_close,
	.start = uring_start,
	.kick = uring_kick,
	.wait = uring_wait,
};
