/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The disk device without a guest, against the host's own reads of the same file: random reads
 * of 4 KiB with O_DIRECT, so many at a time, the two in turn.
 *
 *	bench-blk FILE io_uring|threads DEPTH ROUNDS     prints "DEVICE HOST" reads a second, each
 */
#include <errno.h>
#include <fcntl.h>
#include <liburing.h>
#include <linux/virtio_blk.h>
#include <stdio.h>
#include <string.h>

#include "base/clock.h"
#include "base/str.h"
#include "base/test.h"
#include "sys/file.h"
#include "vm/dev/blk.h"
#include "vm/dev/test-rig.h"

enum { READ_BYTES = 4096, DEPTH_MAX = 32 };

#define ROUND_NS (UINT64_C(250) * NS_PER_MS)

static uint64_t noise = 88172645463325252u;

static uint64_t pick(uint64_t blocks)
{
	noise ^= noise << 13;
	noise ^= noise >> 7;
	noise ^= noise << 17;
	return noise % blocks;
}

/* --- The host's own reads --- */

struct host {
	int             fd;
	struct io_uring ring;
	uint8_t        *buf;
};

static void host_submit(struct host *h, uint64_t blocks, unsigned slot)
{
	struct io_uring_sqe *sqe = io_uring_get_sqe(&h->ring);

	assert_non_null(sqe);
	if (!sqe) {
		return;
	}
	io_uring_prep_read(sqe, h->fd, h->buf + slot * READ_BYTES, READ_BYTES,
			   pick(blocks) * READ_BYTES);
	io_uring_sqe_set_data64(sqe, slot);
}

static double host_round(struct host *h, uint64_t blocks, unsigned depth)
{
	uint64_t begin = clock_now_ns(), n = 0;

	if (depth == 1) {
		for (; clock_now_ns() - begin < ROUND_NS; n++) {
			assert_int_equal(pread(h->fd, h->buf, READ_BYTES,
					       (off_t)(pick(blocks) * READ_BYTES)), READ_BYTES);
		}
		return (double)n * 1e9 / (double)(clock_now_ns() - begin);
	}
	for (unsigned i = 0; i < depth; i++) {
		host_submit(h, blocks, i);
	}
	for (unsigned out = depth; out > 0;) {
		struct io_uring_cqe *cqe;
		bool more = clock_now_ns() - begin < ROUND_NS;

		assert_true(io_uring_submit_and_wait(&h->ring, 1) >= 0);
		while (io_uring_peek_cqe(&h->ring, &cqe) == 0 && cqe) {
			assert_int_equal(cqe->res, READ_BYTES);
			unsigned slot = (unsigned)io_uring_cqe_get_data64(cqe);

			io_uring_cqe_seen(&h->ring, cqe);
			n++;
			out--;
			if (more) {
				host_submit(h, blocks, slot);
				out++;
			}
		}
	}
	return (double)n * 1e9 / (double)(clock_now_ns() - begin);
}

/* --- The device's --- */

struct device {
	struct rig r;
	uint64_t   header, data, status;
};

static void device_add(struct device *d, uint64_t blocks, unsigned slot)
{
	struct virtio_blk_outhdr h = { .type = VIRTIO_BLK_T_IN,
				       .sector = pick(blocks) * (READ_BYTES / 512) };

	rig_put(&d->r, d->header + slot * 16, &h, sizeof(h));
	rig_add(&d->r, 0, (struct rig_buf[]){ { d->header + slot * 16, 16, false },
					      { d->data + slot * READ_BYTES, READ_BYTES, true },
					      { d->status + slot, 1, true } }, 3);
}

static double device_round(struct device *d, uint64_t blocks, unsigned depth)
{
	uint64_t begin = clock_now_ns(), n = 0;

	for (unsigned i = 0; i < depth; i++) {
		device_add(d, blocks, i);
	}
	rig_kick(&d->r, 0);
	for (unsigned out = depth; out > 0;) {
		bool more = clock_now_ns() - begin < ROUND_NS;

		/* A chain of three descriptors; heads follow each other as they are added. */
		do {
			assert_int_equal(rig_take(&d->r, 0), READ_BYTES + 1);
			n++;
			out--;
			if (more) {
				device_add(d, blocks, (unsigned)(n % depth));
				out++;
			}
		} while (out > 0 && rig_used(&d->r, 0));
		if (more) {
			rig_kick(&d->r, 0);
		}
	}
	return (double)n * 1e9 / (double)(clock_now_ns() - begin);
}

static int open_direct(const char *path)
{
	int fd = sys_openat(AT_FDCWD, path, O_RDONLY | O_DIRECT, 0);

	if (fd < 0) {
		fprintf(stderr, "%s: %s\n", path, strerror(-fd));
	}
	return fd;
}

int main(int argc, char **argv)
{
	uint64_t depth, rounds;
	struct device d;
	struct host h = { .fd = argc == 5 ? open_direct(argv[1]) : -1 };

	if (h.fd < 0 || parse_u64(argv[3], DEPTH_MAX, &depth) < 0 || depth == 0 ||
	    parse_u64(argv[4], 1000, &rounds) < 0) {
		fprintf(stderr, "usage: bench-blk FILE io_uring|threads DEPTH ROUNDS\n");
		return 2;
	}
	struct blk_conf conf = { .disk = { .fd = open_direct(argv[1]), .read_only = true,
					   .way = str_eq(argv[2], "threads") ? BLOCK_THREADS :
									       BLOCK_URING } };

	rig_init(&d.r, &vdev_blk, &conf);
	rig_start(&d.r, 0);
	d.header = rig_alloc(&d.r, DEPTH_MAX * 16);
	d.data = rig_alloc(&d.r, DEPTH_MAX * READ_BYTES);
	d.status = rig_alloc(&d.r, DEPTH_MAX);
	h.buf = aligned_alloc(4096, DEPTH_MAX * READ_BYTES);
	assert_non_null(h.buf);
	assert_int_equal(io_uring_queue_init(DEPTH_MAX, &h.ring, 0), 0);

	uint64_t blocks = block_info(blk_disk(d.r.dev))->bytes / READ_BYTES;

	for (unsigned i = 0; i < rounds; i++) {
		double device = device_round(&d, blocks, (unsigned)depth);

		printf("%.0f %.0f\n", device, host_round(&h, blocks, (unsigned)depth));
	}
	io_uring_queue_exit(&h.ring);
	free(h.buf);
	fd_close(&h.fd);
	rig_fini(&d.r);
	return 0;
}
