/* SPDX-License-Identifier: Apache-2.0 */
#include "vm/block/block.h"

#include <errno.h>
#include <linux/falloc.h>
#include <linux/fs.h>
#include <string.h>
#include <sys/mman.h>

#include "base/clock.h"
#include "base/mem.h"
#include "sys/file.h"
#include "vm/block/way.h"

enum { SECTOR = 512, DEPTH = 128, ZEROES_BYTES = 64 << 10 };

const char *const block_way_names[BLOCK_WAY__COUNT] = {
	[BLOCK_AUTO] = "auto", [BLOCK_URING] = "io_uring", [BLOCK_THREADS] = "threads",
	[BLOCK_IN_PLACE] = "in place",
};

/* --- One request --- */

/* Ways to make a range read as zeroes, best first; the file system may not know some. */
static int zero_mode(const struct block_req *r)
{
	enum { PUNCH = FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE };
	enum { KEEP = FALLOC_FL_ZERO_RANGE | FALLOC_FL_KEEP_SIZE };

	switch (r->step) {
	case 0:
		return r->unmap ? PUNCH : KEEP;
	case 1:
		return r->unmap ? KEEP : PUNCH;
	}
	return -1;
}

enum { STEP_WRITE_ZEROES = 2, STEP_SYNC = 3 };

static void prepare_zero_write(struct block *b, struct block_req *r)
{
	unsigned n = 0;
	uint64_t left = r->bytes;

	for (; n < BLOCK_ZERO_IOVS && left > 0; n++) {
		r->zero_iov[n] = (struct iovec){ b->zeroes, MIN(left, (uint64_t)ZEROES_BYTES) };
		left -= r->zero_iov[n].iov_len;
	}
	r->io = (struct block_io){ .kind = BLOCK_IO_WRITE, .offset = r->offset,
				   .bytes = r->bytes - left, .iov = r->zero_iov, .n_iov = n };
}

/* Fill r->io for the request's step. */
static void prepare(struct block *b, struct block_req *r)
{
	switch (r->op) {
	case BLOCK_READ:
	case BLOCK_WRITE:
		r->io = (struct block_io){
			.kind = r->op == BLOCK_READ ? BLOCK_IO_READ : BLOCK_IO_WRITE,
			.offset = r->offset, .bytes = r->bytes, .iov = r->iov, .n_iov = r->n_iov,
			.durable = r->durable,
		};
		return;
	case BLOCK_FLUSH:
		r->io = (struct block_io){ .kind = BLOCK_IO_SYNC };
		return;
	case BLOCK_DISCARD:
		r->io = (struct block_io){ .kind = BLOCK_IO_ALLOCATE, .offset = r->offset,
					   .bytes = r->bytes,
					   .mode = FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE };
		return;
	case BLOCK_ZERO:
		if (r->step == STEP_SYNC) {
			r->io = (struct block_io){ .kind = BLOCK_IO_SYNC };
		} else if (r->step == STEP_WRITE_ZEROES) {
			prepare_zero_write(b, r);
		} else {
			r->io = (struct block_io){ .kind = BLOCK_IO_ALLOCATE, .offset = r->offset,
						   .bytes = r->bytes, .mode = zero_mode(r) };
		}
		return;
	case BLOCK_OP__COUNT:
		break;
	}
	assert(false);
}

static void finish(struct block *b, struct block_req *r, int result)
{
	b->in_flight--;
	r->done(r, result);
}

/* The kernel moved less than all: go on with the rest. */
static void advance(struct block_io *io, uint64_t n)
{
	io->offset += n;
	io->bytes -= n;
	while (n > 0) {
		uint64_t part = MIN(n, (uint64_t)io->iov->iov_len);

		io->iov->iov_base = (uint8_t *)io->iov->iov_base + part;
		io->iov->iov_len -= part;
		n -= part;
		if (io->iov->iov_len == 0) {
			io->iov++;
			io->n_iov--;
		}
	}
}

static void again(struct block *b, struct block_req *r)
{
	b->ops->start(b->way, r);
	b->ops->kick(b->way);
}

static void zero_returned(struct block *b, struct block_req *r, int result)
{
	if (r->io.kind == BLOCK_IO_ALLOCATE && (result == -EOPNOTSUPP || result == -ENOSYS)) {
		r->step++;
	} else if (result < 0) {
		finish(b, r, result);
		return;
	} else if (r->step == STEP_WRITE_ZEROES) {
		r->offset += (uint64_t)result;
		r->bytes -= (uint64_t)result;
		r->step = r->bytes > 0 ? STEP_WRITE_ZEROES : STEP_SYNC;
	} else {
		r->step = r->step == STEP_SYNC ? STEP_SYNC + 1 : STEP_SYNC;
	}
	if (r->step > STEP_SYNC || (r->step == STEP_SYNC && !r->durable)) {
		finish(b, r, 0);
		return;
	}
	prepare(b, r);
	again(b, r);
}

void block__returned(struct block *b, struct block_req *r, int result)
{
	if (result == -EINTR || result == -EAGAIN) {
		again(b, r);
		return;
	}
	if (result < 0 && (r->io.kind == BLOCK_IO_SYNC || r->io.durable)) {
		b->failed = true;
	}
	if (r->op == BLOCK_ZERO) {
		zero_returned(b, r, result);
		return;
	}
	if (r == b->bouncing) {
		result = block__bounced(b, result);
		if (result != 0) {
			block__bounce_next(b);
			finish(b, r, MIN(result, 0));
		}
		return;
	}
	if (r->op == BLOCK_DISCARD && result == -EOPNOTSUPP) {
		result = 0;   /* a wish; what is there may stay */
	}
	if (r->op == BLOCK_FLUSH && result == 0 && b->failed) {
		result = -EIO;
	}
	if (result < 0 || r->io.kind == BLOCK_IO_SYNC || r->io.kind == BLOCK_IO_ALLOCATE) {
		finish(b, r, result);
		return;
	}
	if (result == 0) {
		finish(b, r, -EIO);   /* the file is shorter than it was */
		return;
	}
	advance(&r->io, (uint64_t)result);
	if (r->io.bytes == 0) {
		finish(b, r, 0);
		return;
	}
	again(b, r);
}

static void on_refused(struct loop_post *p unused_arg, void *ud)
{
	struct block *b = ud;

	while (!list_empty(&b->refused)) {
		struct block_req *r = list_entry(b->refused.next, struct block_req, link);

		list_del(&r->link);
		finish(b, r, r->result);
	}
}

static int check(const struct block *b, const struct block_req *r)
{
	uint64_t end;

	if (r->op == BLOCK_FLUSH) {
		return 0;
	}
	if (__builtin_add_overflow(r->offset, r->bytes, &end) || end > b->info.bytes) {
		return -ERANGE;
	}
	return b->info.read_only && r->op != BLOCK_READ ? -EROFS : 0;
}

void block_submit(struct block *b, struct block_req *r)
{
	b->in_flight++;
	r->step = 0;
	r->result = check(b, r);
	/* A read-only disk has nothing to flush, and its descriptor may not even allow it. */
	if (r->result < 0 || (r->op == BLOCK_FLUSH && b->info.read_only) ||
	    (r->op != BLOCK_FLUSH && r->bytes == 0)) {
		list_add_tail(&b->refused, &r->link);
		loop_post(b->loop, &b->tell_refused);
		return;
	}
	if (block__must_bounce(b, r)) {
		block__bounce(b, r);
		return;
	}
	prepare(b, r);
	b->ops->start(b->way, r);
}

void block_kick(struct block *b)
{
	b->ops->kick(b->way);
}

int block_read_now(const struct block *b, uint64_t offset, const struct iovec *iov, unsigned n_iov)
{
	/* Past the host's cache every read waits. */
	if (!b->ops->now || b->info.direct) {
		return -EOPNOTSUPP;
	}
	return (int)sys_preadv2(b->fd, iov, n_iov, (int64_t)offset, RWF_NOWAIT);
}

unsigned block_in_flight(const struct block *b)
{
	return b->in_flight;
}

int block_drain(struct block *b, uint64_t timeout_ns)
{
	uint64_t end = timeout_ns ? clock_now_ns() + timeout_ns : 0;

	b->ops->kick(b->way);
	on_refused(NULL, b);
	while (b->in_flight > 0) {
		uint64_t now = end ? clock_now_ns() : 0;

		if (end && now >= end) {
			return -ETIMEDOUT;
		}
		b->ops->wait(b->way, end ? end - now : 0);
		on_refused(NULL, b);
	}
	return 0;
}

bool block_failed(const struct block *b)
{
	return b->failed;
}

const struct block_info *block_info(const struct block *b)
{
	return &b->info;
}

/* --- Opening --- */

static int device_info(struct block *b)
{
	int logical = 0;
	unsigned physical = 0;
	int r = sys_ioctl(b->fd, BLKGETSIZE64, &b->info.bytes);

	if (r == 0) {
		r = sys_ioctl(b->fd, BLKSSZGET, &logical);
	}
	if (r == 0 && sys_ioctl(b->fd, BLKPBSZGET, &physical) == 0) {
		b->info.physical = physical;
	}
	b->info.logical = b->info.direct && logical > 0 ? (uint32_t)logical : SECTOR;
	return r < 0 ? r : 0;
}

/* What O_DIRECT asks of offsets and memory. */
static uint32_t direct_alignment(int fd, const struct stat *st)
{
	struct statx x = { 0 };

#ifdef STATX_DIOALIGN
	if (statx(fd, "", AT_EMPTY_PATH, STATX_DIOALIGN, &x) == 0 &&
	    (x.stx_mask & STATX_DIOALIGN) && x.stx_dio_offset_align >= SECTOR) {
		return MAX(x.stx_dio_offset_align, x.stx_dio_mem_align);
	}
#endif
	(void)fd; /* not asked: the file system's block is always enough */
	(void)x;
	return (uint32_t)st->st_blksize;
}

static int find_info(struct block *b)
{
	struct stat st;
	int r = sys_fstat(b->fd, &st);
	int flags = r < 0 ? r : sys_fcntl(b->fd, F_GETFL, 0);

	if (flags < 0) {
		return flags;
	}
	b->info.direct = flags & O_DIRECT;
	b->info.logical = SECTOR;
	b->info.physical = 4096;
	if ((flags & O_ACCMODE) == O_RDONLY) {
		b->info.read_only = true;
	}
	if (S_ISBLK(st.st_mode)) {
		r = device_info(b);
	} else if (S_ISREG(st.st_mode)) {
		b->info.bytes = (uint64_t)st.st_size;
		if (b->info.direct) {
			b->info.logical = direct_alignment(b->fd, &st);
		}
	} else {
		return -EINVAL;
	}
	b->info.physical = MAX(b->info.physical, b->info.logical);
	b->info.bytes -= b->info.bytes % b->info.logical;
	return r < 0 ? r : b->info.bytes == 0 ? -EINVAL : 0;
}

static int open_way(struct block *b, enum block_way way, unsigned depth)
{
	int r = -EOPNOTSUPP;

	if (way == BLOCK_IN_PLACE) {
		b->ops = &block__in_place;
		r = b->ops->open(b, depth, &b->way);
	} else if (way != BLOCK_THREADS) {
		b->ops = &block__uring;
		r = b->ops->open(b, depth, &b->way);
	}
	if (r < 0 && (way == BLOCK_AUTO || way == BLOCK_THREADS)) {
		b->ops = &block__threads;
		r = b->ops->open(b, depth, &b->way);
	}
	b->info.way = b->ops->name;
	return r;
}

/* Whole pages; NULL: no memory. */
static uint8_t *anonymous(size_t bytes, int prot)
{
	void *p = mmap(NULL, bytes, prot, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	return p == MAP_FAILED ? NULL : p;
}

int block_open(struct loop *loop, struct block_conf *conf, struct block **ret, struct err *e)
{
	auto_(block_closep) struct block *b = mem_new(struct block);

	if (!b) {
		return err_nomem(e);
	}
	b->loop = loop;
	b->fd = take_fd(&conf->fd);
	b->info.read_only = conf->read_only;
	b->in_worker = conf->in_worker;
	list_init(&b->refused);
	list_init(&b->bounce_waits);
	loop_post_init(&b->tell_refused, on_refused, b);
	b->zeroes = anonymous(ZEROES_BYTES, PROT_READ);
	if (!b->zeroes) {
		return err_nomem(e);
	}

	int r = find_info(b);

	if (r == -EINVAL) {
		return err_set(e, EINVAL, ERR_INVALID,
			       "a disk is a file or a block device that is not empty");
	}
	if (r < 0) {
		return err_set(e, -r, ERR_HOST, "cannot learn the disk's size");
	}
	b->bounce = b->info.direct ? anonymous(BLOCK__BOUNCE_BYTES, PROT_READ | PROT_WRITE) : NULL;
	if (b->info.direct && !b->bounce) {
		return err_nomem(e);
	}
	r = open_way(b, conf->way, conf->depth ? conf->depth : DEPTH);
	if (r < 0) {
		return err_set(e, -r, ERR_HOST, "cannot start %s for the disk",
			       block_way_names[conf->way]);
	}
	*ret = take_ptr(&b);
	return 0;
}

struct block *block_close(struct block *b)
{
	if (!b) {
		return NULL;
	}
	assert(b->in_flight == 0);
	loop_post_cancel(&b->tell_refused);
	if (b->way) {
		b->ops->close(b->way);
	}
	if (b->zeroes) {
		(void)munmap(b->zeroes, ZEROES_BYTES); /* ours */
	}
	if (b->bounce) {
		(void)munmap(b->bounce, BLOCK__BOUNCE_BYTES); /* as above */
	}
	fd_close(&b->fd);
	free(b);
	return NULL;
}
