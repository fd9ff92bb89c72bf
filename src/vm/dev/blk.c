/* SPDX-License-Identifier: Apache-2.0 */
#include "vm/dev/blk.h"

#include <errno.h>
#include <linux/virtio_blk.h>
#include <linux/virtio_ids.h>
#include <string.h>
#include <sys/syscall.h>

#include "base/mem.h"
#include "base/str.h"
#include "vm/dev/iov.h"

enum {
	HEADER_BYTES = 16,
	STATUS_BYTES = 1,
	SEG_MAX      = BLK_QUEUE_MAX - 2,
	/* Most that one discard or write-zeroes may cover: 1 GiB, so that each ends in time. */
	RANGE_SECTORS_MAX = 1 << 21,
	RANGES_MAX   = 16,          /* and so many may be in one request */
	/* A read of at most so many bytes is done where it is asked for, if the host has them in
	 * memory, and so many of them at one kick. */
	NOW_BYTES    = 16 << 10,
	NOW_MAX      = 16,
	NOW_SKIP_MAX = 64,
	BLK_PCI_CLASS = 0x010000,   /* mass storage, SCSI: what others say for it, too */
};

/* A request that is out at the disk. */
struct blk_req {
	struct list      link;         /* of the free ones */
	struct blk      *blk;
	struct block_req io;
	struct iovec     data[VQ_CHAIN_MAX];
	struct vq_chain  chain;
	size_t           written;      /* bytes of data that the driver gets if it goes well */
	/* Of a discard or write-zeroes: one after the other. */
	struct virtio_blk_discard_write_zeroes ranges[RANGES_MAX];
	unsigned         n_ranges, range;
	bool             zero;
};

struct blk {
	struct vdev              base;
	struct block            *disk;
	struct virtio_blk_config config;
	uint64_t                 bytes;        /* as the driver knows it; for a snapshot */
	bool                     write_cache;  /* as above */
	char                     serial[BLK_SERIAL_BYTES];
	struct blk_req          *reqs;         /* BLK_QUEUE_MAX */
	struct list              free;
	bool                     kick_wanted;
	unsigned                 misses;       /* of reads at once, in a row */
	unsigned                 skip;         /* reads before the next one that is tried */
	bool                     never;        /* this disk has no reads at once */
};

struct blk_header {
	uint32_t type;
	uint32_t reserved;
	uint64_t sector;
};

static_assert(sizeof(struct blk_header) == HEADER_BYTES, "virtio 1.2, 5.2.6");

static struct blk *blk_of(struct vdev *d)
{
	return container_of(d, struct blk, base);
}

struct block *blk_disk(struct vdev *d)
{
	return blk_of(d)->disk;
}

/* The status byte is the last one that we may write. */
static void complete(struct blk *s, struct blk_req *r, uint8_t status)
{
	struct vq_chain *c = &r->chain;
	size_t room = c->in_bytes - STATUS_BYTES;

	(void)iov_write(vq_in(c), c->n_in, room, &status, STATUS_BYTES); /* it is there: begin() */
	/* Spec: 2.7.8.2: the length counts from the start, so the status, which stands at the
	 * end, is part of it only if all the data before it was written. */
	size_t written = r->written == room ? c->in_bytes : r->written;

	vdev_push(&s->base, BLK_QUEUE, c, written);
	list_add_tail(&s->free, &r->link);
}

static uint8_t status_of(int result)
{
	return result == 0 ? VIRTIO_BLK_S_OK : VIRTIO_BLK_S_IOERR;
}

static void submit_range(struct blk *s, struct blk_req *r);

static void on_done(struct block_req *io, int result)
{
	struct blk_req *r = io->ud;
	struct blk *s = r->blk;

	vdev_lock(&s->base);
	if (result == 0 && r->range < r->n_ranges) {
		submit_range(s, r);
		block_kick(s->disk);
		vdev_unlock(&s->base);
		return;
	}
	if (result < 0) {
		r->written = 0;
	}
	complete(s, r, status_of(result));
	vdev_flush(&s->base);
	vdev_unlock(&s->base);
}

static void submit(struct blk *s, struct blk_req *r)
{
	r->io.done = on_done;
	r->io.ud = r;
	block_submit(s->disk, &r->io);
	s->kick_wanted = true;
}

/* The driver's writes are to be durable when they are done. */
static bool write_through(const struct blk *s)
{
	if (vdev_has(&s->base, VIRTIO_BLK_F_CONFIG_WCE)) {
		return !s->config.wce;
	}
	/* Spec: 5.2.6.2: without FLUSH the device is write-through. */
	return !vdev_has(&s->base, VIRTIO_BLK_F_FLUSH);
}

/* A sector and bytes as a range of the disk; -ERANGE, -EINVAL as the disk has it. */
static int range(const struct blk *s, uint64_t sector, uint64_t bytes)
{
	const struct block_info *info = block_info(s->disk);
	uint64_t off, end;

	if (__builtin_mul_overflow(sector, (uint64_t)BLK_SECTOR, &off) ||
	    __builtin_add_overflow(off, bytes, &end) || end > info->bytes) {
		return -ERANGE;
	}
	return off % info->logical || bytes % info->logical ? -EINVAL : 0;
}

/* What came of a try to read at once says when the next one pays. */
static void learn(struct blk *s, bool hit, int result)
{
	if (hit) {
		s->misses = 0;
		return;
	}
	s->never = result == -EOPNOTSUPP;
	s->skip = MIN(1u << MIN(s->misses, 30u), (unsigned)NOW_SKIP_MAX);
	s->misses++;
}

/*
 * Complete a small read whose bytes the host has in memory. False: it is none, or they may not be
 * there, and the request is as it was.
 */
static bool read_now(struct blk *s, struct blk_req *r, const struct blk_header *h)
{
	struct vq_chain *c = &r->chain;
	size_t bytes = c->in_bytes - STATUS_BYTES;

	if (h->type != VIRTIO_BLK_T_IN || bytes == 0 || bytes > NOW_BYTES || s->never ||
	    range(s, h->sector, bytes) < 0) {
		return false;
	}
	if (s->skip > 0) {
		s->skip--;
		return false;
	}
	unsigned n = iov_slice(vq_in(c), c->n_in, 0, bytes, r->data, VQ_CHAIN_MAX);
	int got = block_read_now(s->disk, h->sector * BLK_SECTOR, r->data, n);

	learn(s, got == (int)bytes, got);
	if (got != (int)bytes) {
		return false;
	}
	r->written = bytes;
	complete(s, r, VIRTIO_BLK_S_OK);
	return true;
}

static void transfer(struct blk *s, struct blk_req *r, const struct blk_header *h)
{
	struct vq_chain *c = &r->chain;
	bool in = h->type == VIRTIO_BLK_T_IN;
	size_t bytes = in ? c->in_bytes - STATUS_BYTES : c->out_bytes - HEADER_BYTES;
	unsigned n;

	if (range(s, h->sector, bytes) < 0 || bytes == 0 ||
	    (!in && block_info(s->disk)->read_only)) {
		complete(s, r, VIRTIO_BLK_S_IOERR);
		return;
	}
	if (in) {
		n = iov_slice(vq_in(c), c->n_in, 0, bytes, r->data, VQ_CHAIN_MAX);
		r->written = bytes;
	} else {
		n = iov_slice(c->iov, c->n_out, HEADER_BYTES, bytes, r->data, VQ_CHAIN_MAX);
	}
	r->io = (struct block_req){ .op = in ? BLOCK_READ : BLOCK_WRITE,
				    .offset = h->sector * BLK_SECTOR, .bytes = bytes,
				    .iov = r->data, .n_iov = n,
				    .durable = !in && write_through(s) };
	submit(s, r);
}

static void flush(struct blk *s, struct blk_req *r)
{
	r->io = (struct block_req){ .op = BLOCK_FLUSH };
	submit(s, r);
}

static void submit_range(struct blk *s, struct blk_req *r)
{
	const struct virtio_blk_discard_write_zeroes *seg = &r->ranges[r->range++];
	bool zero = r->zero;

	r->io = (struct block_req){ .op = zero ? BLOCK_ZERO : BLOCK_DISCARD,
				    .offset = seg->sector * BLK_SECTOR,
				    .bytes = (uint64_t)seg->num_sectors * BLK_SECTOR,
				    .unmap = seg->flags & VIRTIO_BLK_WRITE_ZEROES_FLAG_UNMAP,
				    .durable = zero && write_through(s) };
	submit(s, r);
}

/* Spec: 5.2.6: which flags each of the two may have. All are checked before the first begins. */
static uint8_t check_ranges(const struct blk *s, const struct blk_req *r)
{
	for (unsigned i = 0; i < r->n_ranges; i++) {
		uint32_t flags = r->ranges[i].flags, n = r->ranges[i].num_sectors;

		if ((flags & ~(uint32_t)VIRTIO_BLK_WRITE_ZEROES_FLAG_UNMAP) || (!r->zero && flags)) {
			return VIRTIO_BLK_S_UNSUPP;
		}
		if (n > RANGE_SECTORS_MAX ||
		    range(s, r->ranges[i].sector, (uint64_t)n * BLK_SECTOR) < 0) {
			return VIRTIO_BLK_S_IOERR;
		}
	}
	return VIRTIO_BLK_S_OK;
}

static void discard_or_zero(struct blk *s, struct blk_req *r, const struct blk_header *h)
{
	size_t bytes = r->chain.out_bytes - HEADER_BYTES;
	uint8_t status = VIRTIO_BLK_S_IOERR;

	if (!block_info(s->disk)->read_only && bytes > 0 && bytes <= sizeof(r->ranges) &&
	    bytes % sizeof(r->ranges[0]) == 0 &&
	    iov_read(r->chain.iov, r->chain.n_out, HEADER_BYTES, r->ranges, bytes) == bytes) {
		r->zero = h->type == VIRTIO_BLK_T_WRITE_ZEROES;
		r->n_ranges = (unsigned)(bytes / sizeof(r->ranges[0]));
		status = check_ranges(s, r);
	}
	if (status != VIRTIO_BLK_S_OK) {
		complete(s, r, status);
		return;
	}
	submit_range(s, r);
}

static void get_id(struct blk *s, struct blk_req *r)
{
	struct vq_chain *c = &r->chain;
	size_t room = c->in_bytes - STATUS_BYTES;

	if (room < BLK_SERIAL_BYTES) {
		complete(s, r, VIRTIO_BLK_S_IOERR);
		return;
	}
	r->written = iov_write(vq_in(c), c->n_in, 0, s->serial, BLK_SERIAL_BYTES);
	complete(s, r, VIRTIO_BLK_S_OK);
}

/* Does the type belong to a feature that was not agreed? */
static bool not_agreed(const struct blk *s, uint32_t type)
{
	switch (type) {
	case VIRTIO_BLK_T_FLUSH:
		return !vdev_has(&s->base, VIRTIO_BLK_F_FLUSH);
	case VIRTIO_BLK_T_DISCARD:
		return !vdev_has(&s->base, VIRTIO_BLK_F_DISCARD);
	case VIRTIO_BLK_T_WRITE_ZEROES:
		return !vdev_has(&s->base, VIRTIO_BLK_F_WRITE_ZEROES);
	}
	return false;
}

/* Framing is the driver's choice, but there must be a header and a place for the status. */
static bool header(const struct blk_req *r, struct blk_header *ret)
{
	return r->chain.in_bytes >= STATUS_BYTES &&
	       iov_read(r->chain.iov, r->chain.n_out, 0, ret, sizeof(*ret)) == sizeof(*ret);
}

static void begin(struct blk *s, struct blk_req *r)
{
	struct blk_header h;

	r->written = 0;
	r->n_ranges = r->range = 0;
	if (!header(r, &h)) {
		vq_unpop(&s->base.queues[BLK_QUEUE], 1);
		list_add_tail(&s->free, &r->link);
		vdev_fault(&s->base, "a disk request without header or status");
		return;
	}
	if (read_now(s, r, &h)) {
		return;
	}
	if (not_agreed(s, h.type)) {
		complete(s, r, VIRTIO_BLK_S_UNSUPP);
		return;
	}
	switch (h.type) {
	case VIRTIO_BLK_T_IN:
	case VIRTIO_BLK_T_OUT:
		transfer(s, r, &h);
		return;
	case VIRTIO_BLK_T_FLUSH:
		flush(s, r);
		return;
	case VIRTIO_BLK_T_GET_ID:
		get_id(s, r);
		return;
	case VIRTIO_BLK_T_DISCARD:
	case VIRTIO_BLK_T_WRITE_ZEROES:
		discard_or_zero(s, r, &h);
		return;
	}
	complete(s, r, VIRTIO_BLK_S_UNSUPP);
}

static void blk_queue_ready(struct vdev *d, unsigned queue)
{
	struct blk *s = blk_of(d);

	s->kick_wanted = false;
	while (!list_empty(&s->free)) {
		struct blk_req *r = list_entry(s->free.next, struct blk_req, link);

		if (!vdev_pop(d, queue, &r->chain)) {
			break;
		}
		list_del(&r->link);
		begin(s, r);
	}
	if (s->kick_wanted) {
		block_kick(s->disk);
	}
}

/* Reads of what the host has in memory, until something else comes: that is the loop's. */
static bool blk_kicked(struct vdev *d, unsigned queue)
{
	struct blk *s = blk_of(d);
	struct blk_header h;

	if (s->skip > 0 || s->never) {
		return false;
	}
	for (unsigned n = 0; n < NOW_MAX && !list_empty(&s->free); n++) {
		struct blk_req *r = list_entry(s->free.next, struct blk_req, link);

		if (!vdev_pop(d, queue, &r->chain)) {
			return true;
		}
		list_del(&r->link);
		if (!header(r, &h) || !read_now(s, r, &h)) {
			vq_unpop(&d->queues[queue], 1);
			list_add_tail(&s->free, &r->link);
			return false;
		}
	}
	return false;
}

static int blk_quiesce(struct vdev *d, uint64_t timeout_ns)
{
	/* Completions take the lock themselves; nobody else works on the device now. */
	vdev_unlock(d);
	int r = block_drain(blk_of(d)->disk, timeout_ns);

	vdev_lock(d);
	return r;
}

static void blk_run(struct vdev *d unused_arg, bool on unused_arg)
{
	/* The disk speaks only when it is asked. */
}

/* Spec: 5.2.5.2: who cannot flush begins without a write cache. */
static int blk_negotiated(struct vdev *d)
{
	blk_of(d)->config.wce = vdev_has(d, VIRTIO_BLK_F_FLUSH);
	return 0;
}

static void blk_reset(struct vdev *d)
{
	blk_of(d)->config.wce = 1;
}

/* Only the write cache can be changed. Spec: 5.2.4, 5.2.5.2. */
static void blk_config_write(struct vdev *d, unsigned off, unsigned n, const void *value)
{
	struct blk *s = blk_of(d);
	uint8_t v;

	if (off == offsetof(struct virtio_blk_config, wce) && n == 1 &&
	    vdev_has(d, VIRTIO_BLK_F_CONFIG_WCE)) {
		memcpy(&v, value, 1);
		s->config.wce = v & 1;
	}
}

static unsigned log2_of(uint32_t v)
{
	return (unsigned)__builtin_ctz(v);
}

static void fill_config(struct blk *s)
{
	const struct block_info *i = block_info(s->disk);
	struct virtio_blk_config *c = &s->config;
	uint32_t align = i->logical / BLK_SECTOR;

	c->capacity = i->bytes / BLK_SECTOR;
	c->seg_max = SEG_MAX;
	c->blk_size = i->logical;
	c->physical_block_exp = (uint8_t)log2_of(i->physical / i->logical);
	c->min_io_size = (uint16_t)1;
	c->opt_io_size = 0;
	c->wce = 1;
	c->max_discard_sectors = RANGE_SECTORS_MAX;
	c->max_discard_seg = RANGES_MAX;
	c->discard_sector_alignment = i->physical / BLK_SECTOR;
	c->max_write_zeroes_sectors = RANGE_SECTORS_MAX / align * align;
	c->max_write_zeroes_seg = RANGES_MAX;
	c->write_zeroes_may_unmap = 1;

	s->base.offered |= BIT(VIRTIO_BLK_F_SEG_MAX) | BIT(VIRTIO_BLK_F_BLK_SIZE) |
			   BIT(VIRTIO_BLK_F_TOPOLOGY) | BIT(VIRTIO_BLK_F_FLUSH);
	if (i->read_only) {
		s->base.offered |= BIT(VIRTIO_BLK_F_RO);
	} else {
		s->base.offered |= BIT(VIRTIO_BLK_F_CONFIG_WCE) | BIT(VIRTIO_BLK_F_DISCARD) |
				   BIT(VIRTIO_BLK_F_WRITE_ZEROES);
	}
	s->base.config = c;
	s->base.config_bytes = sizeof(*c);
}

static int blk_realize(struct vdev *d, void *conf, struct err *e)
{
	struct blk *s = blk_of(d);
	struct blk_conf *c = conf;

	list_init(&s->free);
	s->reqs = mem_calloc(BLK_QUEUE_MAX, sizeof(*s->reqs));
	if (!s->reqs) {
		return err_nomem(e);
	}
	for (unsigned i = 0; i < BLK_QUEUE_MAX; i++) {
		s->reqs[i].blk = s;
		list_add_tail(&s->free, &s->reqs[i].link);
	}
	c->disk.depth = BLK_QUEUE_MAX;

	int r = block_open(d->machine->loop, &c->disk, &s->disk, e);

	if (r < 0) {
		return err_wrap(e, "%s", d->name);
	}
	memcpy(s->serial, c->serial, MIN(strlen(c->serial), (size_t)BLK_SERIAL_BYTES));
	fill_config(s);
	return 0;
}

static void blk_unrealize(struct vdev *d)
{
	struct blk *s = blk_of(d);

	s->disk = block_close(s->disk);
	free(s->reqs);
	s->reqs = NULL;
}

static int blk_state_op(struct vdev *d, bool save)
{
	struct blk *s = blk_of(d);

	if (save) {
		s->bytes = block_info(s->disk)->bytes;
		s->write_cache = s->config.wce;
	} else {
		s->config.wce = s->write_cache;
	}
	return 0;
}

static int blk_check(const void *state, struct err *e)
{
	const struct blk *s = state;

	return s->bytes == block_info(s->disk)->bytes ? 0 :
	       err_set(e, EBADMSG, ERR_INVALID, "%s: the disk had %llu bytes when it was saved",
		       s->base.name, (unsigned long long)s->bytes);
}

static const struct state_field blk_fields[] = {
	STATE_HOST_ONLY(struct blk, base, "saved by its own table"),
	STATE_HOST_ONLY(struct blk, disk, "of the configuration"),
	STATE_HOST_ONLY(struct blk, config, "follows from the disk, but for what stands below"),
	STATE_U64(1, struct blk, bytes),
	STATE_BOOL(2, struct blk, write_cache),
	STATE_HOST_ONLY(struct blk, serial, "of the configuration"),
	STATE_HOST_ONLY(struct blk, reqs, "of this process; nothing is out"),
	STATE_HOST_ONLY(struct blk, free, "of this process"),
	STATE_HOST_ONLY(struct blk, kick_wanted, "of a turn of the loop"),
	STATE_HOST_ONLY(struct blk, misses, "of this host's cache"),
	STATE_HOST_ONLY(struct blk, skip, "as above"),
	STATE_HOST_ONLY(struct blk, never, "of this host's file"),
};

static const struct state_desc blk_state =
	STATE_DESC("virtio-blk", struct blk, blk_fields, .version = 1, .oldest = 1,
		   .check = blk_check);

static const int blk_calls[] = {
	SYS_io_uring_enter, SYS_preadv2, SYS_pwritev2, SYS_fdatasync, SYS_fallocate,
};

static const struct vdev_sandbox blk_sandbox = {
	.syscalls = blk_calls, .n_syscalls = ARRAY_LEN(blk_calls),
	.fds = "the disk's file; an io_uring that knows no other, or an eventfd of its threads",
};

static const struct vdev_ops blk_ops = {
	.realize = blk_realize,
	.unrealize = blk_unrealize,
	.run = blk_run,
	.queue_ready = blk_queue_ready,
	.kicked = blk_kicked,
	.reset = blk_reset,
	.negotiated = blk_negotiated,
	.config_write = blk_config_write,
	.quiesce = blk_quiesce,
	.state = blk_state_op,
};

const struct vdev_desc vdev_blk = {
	.name = "virtio-blk",
	.virtio_id = VIRTIO_ID_BLOCK,
	.pci_class = BLK_PCI_CLASS,
	.n_queues = 1,
	.queue_max = BLK_QUEUE_MAX,
	.bytes = sizeof(struct blk),
	.ops = &blk_ops,
	.state = &blk_state,
	.sandbox = &blk_sandbox,
};
