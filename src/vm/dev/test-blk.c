/* SPDX-License-Identifier: Apache-2.0 */
/* The disk as a driver sees it, both ways to the kernel. Spec: virtio 1.2, 5.2. */
#include <errno.h>
#include <fcntl.h>
#include <linux/virtio_blk.h>
#include <string.h>

#include "base/test.h"
#include "sys/file.h"
#include "vm/dev/blk.h"
#include "vm/dev/test-rig.h"

/* A read of LONG_BYTES is no one that may be done where the kick arrives. */
enum { DISK_BYTES = 4 << 20, LONG_BYTES = 32 << 10 };

static enum block_way way;

struct disk {
	struct rig r;
	int        fd;       /* a second one on the same file */
	uint64_t   header, status;
};

static void open_disk(struct disk *t, int fd, bool read_only)
{
	struct blk_conf conf = { .disk = { .fd = fd, .way = way, .read_only = read_only },
				 .serial = "serial-1" };

	t->fd = sys_dup(fd);
	assert_true(t->fd >= 0);
	rig_init(&t->r, &vdev_blk, &conf);
	assert_int_equal(conf.disk.fd, -1);
	t->header = rig_alloc(&t->r, 16);
	t->status = rig_alloc(&t->r, 1);
}

static void start(struct disk *t, uint64_t without)
{
	open_disk(t, rig_file(DISK_BYTES), false);
	rig_start(&t->r, without);
}

static void end(struct disk *t)
{
	rig_fini(&t->r);
	fd_close(&t->fd);
}

/* One request with one data buffer (none if n is 0); its status byte. */
static uint8_t request(struct disk *t, uint32_t type, uint64_t sector, uint64_t data, uint32_t n)
{
	struct virtio_blk_outhdr h = { .type = type, .sector = sector };
	uint8_t status = 0xee;
	bool in = type == VIRTIO_BLK_T_IN || type == VIRTIO_BLK_T_GET_ID;
	struct rig_buf bufs[3] = { { t->header, 16, false }, { data, n, in },
				   { t->status, 1, true } };

	rig_put(&t->r, t->header, &h, sizeof(h));
	rig_put(&t->r, t->status, &status, 1);
	if (n == 0) {
		bufs[1] = bufs[2];
	}
	rig_add(&t->r, BLK_QUEUE, bufs, n == 0 ? 2 : 3);
	rig_kick(&t->r, BLK_QUEUE);
	(void)rig_take(&t->r, BLK_QUEUE); /* the length has a test of its own */
	rig_get(&t->r, t->status, &status, 1);
	return status;
}

static void test_read_write(void **state unused_arg)
{
	struct disk t;
	char got[512];

	start(&t, 0);
	uint64_t data = rig_alloc(&t.r, 4096);

	rig_put(&t.r, data, "hello, disk", 11);
	assert_int_equal(request(&t, VIRTIO_BLK_T_OUT, 3, data, 1024), VIRTIO_BLK_S_OK);
	assert_int_equal(t.r.last_len, 1);
	assert_int_equal(sys_pread(t.fd, got, 512, 3 * 512), 512);
	assert_memory_equal(got, "hello, disk", 11);
	assert_int_equal(sys_pwrite(t.fd, "from the host", 13, 9 * 512), 13);
	assert_int_equal(request(&t, VIRTIO_BLK_T_IN, 9, data, 512), VIRTIO_BLK_S_OK);
	assert_int_equal(t.r.last_len, 513);
	rig_get(&t.r, data, got, 512);
	assert_memory_equal(got, "from the host", 13);
	assert_true(t.r.msi[1] >= 1);
	end(&t);
}

/* Spec: 2.7.4.1, 5.2.6.5: a driver may cut a request as it likes. */
static void test_framing(void **state unused_arg)
{
	struct disk t;
	struct virtio_blk_outhdr h = { .type = VIRTIO_BLK_T_OUT, .sector = 1 };
	char got[1024];

	start(&t, 0);
	uint64_t data = rig_alloc(&t.r, 4096);
	uint8_t bytes[16 + 1024];

	memset(bytes, 'x', sizeof(bytes));
	memcpy(bytes, &h, 16);
	rig_put(&t.r, data, bytes, sizeof(bytes));
	/* The header in three parts, the last of them with the data's beginning. */
	rig_add_indirect(&t.r, 0, (struct rig_buf[]){ { data, 3, false }, { data + 3, 8, false },
						      { data + 11, 700, false },
						      { data + 711, 329, false },
						      { t.status, 1, true } }, 5);
	rig_kick(&t.r, 0);
	assert_int_equal(rig_take(&t.r, 0), 1);
	assert_int_equal(sys_pread(t.fd, got, 1024, 512), 1024);
	assert_memory_equal(got, bytes + 16, 1024);

	/* Data and status in one buffer. */
	h.type = VIRTIO_BLK_T_IN;
	rig_put(&t.r, t.header, &h, 16);
	rig_add(&t.r, 0, (struct rig_buf[]){ { t.header, 16, false }, { data, 100, true },
					     { data + 100, 413, true } }, 3);
	rig_kick(&t.r, 0);
	assert_int_equal(rig_take(&t.r, 0), 513);
	rig_get(&t.r, data, got, 513);
	assert_memory_equal(got, bytes + 16, 512);
	assert_int_equal(got[512], VIRTIO_BLK_S_OK);
	end(&t);
}

static void test_bounds(void **state unused_arg)
{
	static const struct {
		uint32_t type;
		uint64_t sector;
		uint32_t n;
		uint8_t  want;
	} rows[] = {
		{ VIRTIO_BLK_T_IN, DISK_BYTES / 512 - 1, 512, VIRTIO_BLK_S_OK },
		{ VIRTIO_BLK_T_IN, DISK_BYTES / 512, 512, VIRTIO_BLK_S_IOERR },
		{ VIRTIO_BLK_T_IN, DISK_BYTES / 512 - 1, 1024, VIRTIO_BLK_S_IOERR },
		{ VIRTIO_BLK_T_OUT, DISK_BYTES / 512, 512, VIRTIO_BLK_S_IOERR },
		{ VIRTIO_BLK_T_OUT, UINT64_MAX, 512, VIRTIO_BLK_S_IOERR },
		{ VIRTIO_BLK_T_OUT, UINT64_MAX / 512, 512, VIRTIO_BLK_S_IOERR },
		{ VIRTIO_BLK_T_OUT, UINT64_MAX / 512 + 1, 512, VIRTIO_BLK_S_IOERR },
		{ VIRTIO_BLK_T_IN, UINT64_C(1) << 55, 512, VIRTIO_BLK_S_IOERR },
		{ VIRTIO_BLK_T_IN, 0, 511, VIRTIO_BLK_S_IOERR },
		{ VIRTIO_BLK_T_OUT, 0, 513, VIRTIO_BLK_S_IOERR },
		{ VIRTIO_BLK_T_OUT, 0, 0, VIRTIO_BLK_S_IOERR },
		{ VIRTIO_BLK_T_GET_ID, 0, 19, VIRTIO_BLK_S_IOERR },
		{ VIRTIO_BLK_T_SCSI_CMD, 0, 512, VIRTIO_BLK_S_UNSUPP },
		{ 77, 0, 512, VIRTIO_BLK_S_UNSUPP },
		{ UINT32_MAX, 0, 512, VIRTIO_BLK_S_UNSUPP },
	};
	struct disk t;
	struct stat st;

	start(&t, 0);
	uint64_t data = rig_alloc(&t.r, 4096);

	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		assert_int_equal(request(&t, rows[i].type, rows[i].sector, data, rows[i].n),
				 rows[i].want);
	}
	assert_int_equal(rig_status(&t.r), 15);
	assert_int_equal(sys_fstat(t.fd, &st), 0);
	assert_int_equal(st.st_size, DISK_BYTES);
	end(&t);
}

static void test_id(void **state unused_arg)
{
	struct disk t;
	char got[21] = "";

	start(&t, 0);
	uint64_t data = rig_alloc(&t.r, 4096);

	assert_int_equal(request(&t, VIRTIO_BLK_T_GET_ID, 0, data, 20), VIRTIO_BLK_S_OK);
	rig_get(&t.r, data, got, 20);
	assert_string_equal(got, "serial-1");
	end(&t);
}

/* Spec: 5.2.6: flush; a flush that fails says so, also from then on. */
static void test_flush(void **state unused_arg)
{
	struct disk t;

	start(&t, 0);
	assert_int_equal(request(&t, VIRTIO_BLK_T_FLUSH, 0, 0, 0), VIRTIO_BLK_S_OK);
	if (way == BLOCK_THREADS) {
		sys_fault_arm(SYS_CALL_fdatasync, 1, 1, EIO);
		assert_int_equal(request(&t, VIRTIO_BLK_T_FLUSH, 0, 0, 0), VIRTIO_BLK_S_IOERR);
		assert_int_equal(sys_fault_hits(), 1);
		sys_fault_clear();
		assert_int_equal(request(&t, VIRTIO_BLK_T_FLUSH, 0, 0, 0), VIRTIO_BLK_S_IOERR);
	}
	end(&t);

	start(&t, BIT(VIRTIO_BLK_F_FLUSH));
	assert_int_equal(request(&t, VIRTIO_BLK_T_FLUSH, 0, 0, 0), VIRTIO_BLK_S_UNSUPP);
	end(&t);
}

static uint8_t range_request(struct disk *t, uint32_t type, uint64_t sector, uint32_t n,
			     uint32_t flags)
{
	struct virtio_blk_discard_write_zeroes seg = { .sector = sector, .num_sectors = n,
						       .flags = flags };
	uint64_t at = rig_alloc(&t->r, sizeof(seg));

	rig_put(&t->r, at, &seg, sizeof(seg));
	return request(t, type, 0, at, sizeof(seg));
}

static void test_discard_zero(void **state unused_arg)
{
	static const struct {
		uint32_t type;
		uint64_t sector;
		uint32_t n, flags;
		uint8_t  want;
	} rows[] = {
		{ VIRTIO_BLK_T_WRITE_ZEROES, 8, 8, 0, VIRTIO_BLK_S_OK },
		{ VIRTIO_BLK_T_WRITE_ZEROES, 24, 8, 1, VIRTIO_BLK_S_OK },
		{ VIRTIO_BLK_T_DISCARD, 40, 8, 0, VIRTIO_BLK_S_OK },
		{ VIRTIO_BLK_T_DISCARD, 40, 8, 1, VIRTIO_BLK_S_UNSUPP },
		{ VIRTIO_BLK_T_WRITE_ZEROES, 8, 8, 2, VIRTIO_BLK_S_UNSUPP },
		{ VIRTIO_BLK_T_WRITE_ZEROES, DISK_BYTES / 512, 1, 0, VIRTIO_BLK_S_IOERR },
		{ VIRTIO_BLK_T_WRITE_ZEROES, UINT64_MAX, 8, 0, VIRTIO_BLK_S_IOERR },
		{ VIRTIO_BLK_T_DISCARD, 0, UINT32_MAX, 0, VIRTIO_BLK_S_IOERR },
	};
	struct disk t;
	char block[4096], zero[4096] = "";

	start(&t, 0);
	memset(block, 'z', sizeof(block));
	for (unsigned i = 0; i < 10; i++) {
		assert_int_equal(sys_pwrite(t.fd, block, 4096, i * 4096), 4096);
	}
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		assert_int_equal(range_request(&t, rows[i].type, rows[i].sector, rows[i].n,
					       rows[i].flags), rows[i].want);
	}
	for (unsigned i = 0; i < 5; i++) {
		assert_int_equal(sys_pread(t.fd, block, 4096, i * 4096), 4096);
		if (i == 1 || i == 3) {
			assert_memory_equal(block, zero, 4096);
		} else {
			assert_int_equal(block[0], 'z');
		}
	}
	end(&t);
}

/* Several ranges in one request: all of them, or none. */
static void test_several_ranges(void **state unused_arg)
{
	struct virtio_blk_discard_write_zeroes segs[17] = {
		{ .sector = 0, .num_sectors = 8 }, { .sector = 16, .num_sectors = 8 },
		{ .sector = 24, .num_sectors = 0 }, { .sector = 32, .num_sectors = 8 },
	};
	struct disk t;
	char block[4096], zero[4096] = "";

	start(&t, 0);
	uint64_t at = rig_alloc(&t.r, sizeof(segs));

	memset(block, 'z', sizeof(block));
	for (unsigned i = 0; i < 10; i++) {
		assert_int_equal(sys_pwrite(t.fd, block, 4096, i * 4096), 4096);
	}
	segs[3].sector = UINT64_MAX;
	rig_put(&t.r, at, segs, sizeof(segs));
	assert_int_equal(request(&t, VIRTIO_BLK_T_WRITE_ZEROES, 0, at, 4 * sizeof(segs[0])),
			 VIRTIO_BLK_S_IOERR);
	assert_int_equal(request(&t, VIRTIO_BLK_T_WRITE_ZEROES, 0, at, sizeof(segs)), VIRTIO_BLK_S_IOERR);
	assert_int_equal(request(&t, VIRTIO_BLK_T_WRITE_ZEROES, 0, at, 20), VIRTIO_BLK_S_IOERR);
	assert_int_equal(sys_pread(t.fd, block, 4096, 0), 4096);
	assert_int_equal(block[0], 'z');
	segs[3].sector = 32;
	rig_put(&t.r, at, segs, sizeof(segs));
	assert_int_equal(request(&t, VIRTIO_BLK_T_WRITE_ZEROES, 0, at, 4 * sizeof(segs[0])),
			 VIRTIO_BLK_S_OK);
	for (unsigned i = 0; i < 6; i++) {
		assert_int_equal(sys_pread(t.fd, block, 4096, i * 4096), 4096);
		if (i == 0 || i == 2 || i == 4) {
			assert_memory_equal(block, zero, 4096);
		} else {
			assert_int_equal(block[0], 'z');
		}
	}
	assert_int_equal(request(&t, VIRTIO_BLK_T_DISCARD, 0, at, 4 * sizeof(segs[0])),
			 VIRTIO_BLK_S_OK);
	end(&t);
}

/* Where the file system has neither of the calls, zeroes are written. */
static void test_zero_without_fallocate(void **state unused_arg)
{
	struct disk t;
	char block[4096], zero[4096] = "";

	if (way != BLOCK_THREADS) {
		return;   /* the ring's calls cannot be made to fail from here */
	}
	start(&t, 0);
	memset(block, 'z', sizeof(block));
	for (unsigned i = 0; i < 1024; i++) {
		assert_int_equal(sys_pwrite(t.fd, block, 4096, i * 4096), 4096);
	}
	sys_fault_arm(SYS_CALL_fallocate, 1, 0, EOPNOTSUPP);
	assert_int_equal(range_request(&t, VIRTIO_BLK_T_WRITE_ZEROES, 8, 3 << 11, 0),
			 VIRTIO_BLK_S_OK);
	assert_int_equal(sys_fault_hits(), 2);
	assert_int_equal(range_request(&t, VIRTIO_BLK_T_DISCARD, 8, 8, 0), VIRTIO_BLK_S_OK);
	sys_fault_clear();
	for (unsigned i = 0; i < 1024; i++) {
		assert_int_equal(sys_pread(t.fd, block, 4096, i * 4096), 4096);
		bool in = i >= 1 && i < 1 + 768;

		assert_int_equal(block[0], in ? 0 : 'z');
		assert_true(!in || memcmp(block, zero, 4096) == 0);
	}
	end(&t);
}

static void test_read_only(void **state unused_arg)
{
	struct disk t;

	open_disk(&t, rig_file(DISK_BYTES), true);
	assert_true(rig_offered(&t.r) & BIT(VIRTIO_BLK_F_RO));
	rig_start(&t.r, 0);
	uint64_t data = rig_alloc(&t.r, 4096);

	assert_int_equal(request(&t, VIRTIO_BLK_T_OUT, 0, data, 512), VIRTIO_BLK_S_IOERR);
	assert_int_equal(range_request(&t, VIRTIO_BLK_T_WRITE_ZEROES, 0, 1, 0),
			 VIRTIO_BLK_S_UNSUPP);
	assert_int_equal(request(&t, VIRTIO_BLK_T_IN, 0, data, 512), VIRTIO_BLK_S_OK);
	assert_int_equal(request(&t, VIRTIO_BLK_T_FLUSH, 0, 0, 0), VIRTIO_BLK_S_OK);
	end(&t);
}

static void test_config(void **state unused_arg)
{
	struct disk t;

	start(&t, 0);
	assert_int_equal(rig_read(&t.r, VPCI_CONFIG, 8), DISK_BYTES / 512);
	assert_int_equal(rig_read(&t.r, VPCI_CONFIG + 20, 4), 512);
	/* The write cache, and nothing else, can be changed. */
	assert_int_equal(rig_read(&t.r, VPCI_CONFIG + 32, 1), 1);
	rig_write(&t.r, VPCI_CONFIG + 32, 1, 0);
	assert_int_equal(rig_read(&t.r, VPCI_CONFIG + 32, 1), 0);
	rig_write(&t.r, VPCI_CONFIG, 8, 1);
	assert_int_equal(rig_read(&t.r, VPCI_CONFIG, 8), DISK_BYTES / 512);
	rig_reset(&t.r);
	assert_int_equal(rig_read(&t.r, VPCI_CONFIG + 32, 1), 1);
	end(&t);
}

/* Has the host's file system reads that do not wait? */
static bool reads_now(const struct disk *t)
{
	char byte;
	struct iovec v = { &byte, 1 };

	return way != BLOCK_IN_PLACE && sys_preadv2(t->fd, &v, 1, 0, RWF_NOWAIT) == 1;
}

static void add(struct disk *t, uint32_t type, uint64_t data, uint32_t n)
{
	struct virtio_blk_outhdr h = { .type = type, .sector = 1 };
	uint64_t header = rig_alloc(&t->r, sizeof(h));

	rig_put(&t->r, header, &h, sizeof(h));
	rig_add(&t->r, BLK_QUEUE, (struct rig_buf[]){ { header, sizeof(h), false },
						      { data, n, type == VIRTIO_BLK_T_IN },
						      { t->status, 1, true } }, 3);
}

/* Was a read of what the host has in memory done when the kick came back? */
static bool at_once(struct disk *t, uint64_t data, uint32_t n)
{
	unsigned interrupts = t->r.msi[1];

	add(t, VIRTIO_BLK_T_IN, data, n);
	rig_kick(&t->r, BLK_QUEUE);
	bool ret = rig_used(&t->r, BLK_QUEUE);

	assert_int_equal(t->r.msi[1] - interrupts, ret);
	assert_int_equal(rig_take(&t->r, BLK_QUEUE), n + 1);
	rig_run(&t->r);
	return ret;
}

static void test_read_at_once(void **state unused_arg)
{
	struct disk t;
	char got[LONG_BYTES], block[LONG_BYTES];

	start(&t, 0);
	uint64_t data = rig_alloc(&t.r, LONG_BYTES);

	memset(block, 'b', sizeof(block));
	assert_int_equal(sys_pwrite(t.fd, block, sizeof(block), 512), LONG_BYTES);
	bool can = reads_now(&t);

	for (unsigned i = 0; i < 3; i++) {
		assert_int_equal(at_once(&t, data, 16 << 10), can);
	}
	rig_get(&t.r, data, got, sizeof(got));
	assert_memory_equal(got, block, 16 << 10);
	assert_int_equal(got[16 << 10], 0);
	assert_false(at_once(&t, data, LONG_BYTES));
	rig_get(&t.r, data, got, sizeof(got));
	assert_memory_equal(got, block, LONG_BYTES);

	/* What stands behind a write waits for the loop, and is not lost. */
	add(&t, VIRTIO_BLK_T_IN, data, 512);
	add(&t, VIRTIO_BLK_T_OUT, data, 512);
	add(&t, VIRTIO_BLK_T_IN, data, 512);
	rig_kick(&t.r, BLK_QUEUE);
	assert_int_equal(rig_get16(&t.r, t.r.queues[0].used + 2), can ? 5 : 4);
	for (unsigned i = 0; i < 3; i++) {
		(void)rig_take(&t.r, BLK_QUEUE); /* they have two lengths, in any order */
	}
	/* More than a kick may take. */
	for (unsigned i = 0; i < 20; i++) {
		add(&t, VIRTIO_BLK_T_IN, data, 512);
	}
	rig_kick(&t.r, BLK_QUEUE);
	for (unsigned i = 0; i < 20; i++) {
		assert_int_equal(rig_take(&t.r, BLK_QUEUE), 513);
	}
	end(&t);
}

/* What the host does not have in memory is the loop's, and is tried the more seldom. */
static void test_read_not_at_once(void **state unused_arg)
{
	struct disk t;

	start(&t, 0);
	uint64_t data = rig_alloc(&t.r, 512);
	bool can = reads_now(&t);

	for (unsigned i = 0; can && i < 2; i++) {
		sys_fault_arm(SYS_CALL_preadv2, 1, 1, EAGAIN);
		assert_false(at_once(&t, data, 512));
		assert_int_equal(sys_fault_hits(), 1);
		sys_fault_clear();
	}
	/* The second one's way through the loop was the first of two that are left out. */
	if (can) {
		assert_false(at_once(&t, data, 512));
	}
	assert_int_equal(at_once(&t, data, 512), can);
	if (can) {
		sys_fault_arm(SYS_CALL_preadv2, 1, 1, EOPNOTSUPP);
		assert_false(at_once(&t, data, 512));
		sys_fault_clear();
	}
	for (unsigned i = 0; i < 100; i++) {
		assert_false(at_once(&t, data, 512));
	}
	end(&t);
}

/* Many at once, and a reset while they are out: each comes back before status reads 0. */
static void test_reset_in_flight(void **state unused_arg)
{
	for (unsigned round = 0; round < 20; round++) {
		struct disk t;
		struct virtio_blk_outhdr h = { .type = VIRTIO_BLK_T_IN };

		start(&t, 0);
		rig_put(&t.r, t.header, &h, sizeof(h));
		for (unsigned i = 0; i < 32; i++) {
			uint64_t data = rig_alloc(&t.r, LONG_BYTES);

			rig_add(&t.r, 0, (struct rig_buf[]){ { t.header, 16, false },
							     { data, LONG_BYTES, true },
							     { t.status, 1, true } }, 3);
		}
		rig_kick(&t.r, 0);
		assert_true(loop_turn(t.r.loop, 0) >= 0);
		rig_set_status(&t.r, 0);
		/* Nothing that the driver writes now counts. */
		rig_set_status(&t.r, 3);
		rig_write(&t.r, VPCI_COMMON + VIRTIO_PCI_COMMON_Q_SIZE, 2, 16);
		rig_reset(&t.r);
		assert_int_equal(block_in_flight(blk_disk(t.r.dev)), 0);
		assert_int_equal(t.r.dev->phase, VDEV_RESET);
		rig_start(&t.r, 0);
		uint64_t data = rig_alloc(&t.r, 512);

		assert_int_equal(request(&t, VIRTIO_BLK_T_IN, 0, data, 512), VIRTIO_BLK_S_OK);
		end(&t);
	}
}

/* Freed with requests out: they come back first. */
static void test_free_in_flight(void **state unused_arg)
{
	struct disk t;
	struct virtio_blk_outhdr h = { .type = VIRTIO_BLK_T_IN };

	start(&t, 0);
	rig_put(&t.r, t.header, &h, sizeof(h));
	for (unsigned i = 0; i < 8; i++) {
		uint64_t data = rig_alloc(&t.r, LONG_BYTES);

		rig_add(&t.r, 0, (struct rig_buf[]){ { t.header, 16, false },
						     { data, LONG_BYTES, true },
						     { t.status, 1, true } }, 3);
	}
	rig_kick(&t.r, 0);
	assert_true(loop_turn(t.r.loop, 0) >= 0);
	end(&t);
}

static void test_pause(void **state unused_arg)
{
	struct disk t;
	struct virtio_blk_outhdr h = { .type = VIRTIO_BLK_T_IN };

	start(&t, 0);
	rig_put(&t.r, t.header, &h, sizeof(h));
	for (unsigned i = 0; i < 8; i++) {
		uint64_t data = rig_alloc(&t.r, LONG_BYTES);

		rig_add(&t.r, 0, (struct rig_buf[]){ { t.header, 16, false },
						     { data, LONG_BYTES, true },
						     { t.status, 1, true } }, 3);
		rig_kick(&t.r, 0);
		assert_true(loop_turn(t.r.loop, 0) >= 0);
		if (i == 4) {
			assert_int_equal(vdev_pause(t.r.dev), 0);
			assert_int_equal(t.r.dev->queues[0].in_flight, 0);
		}
	}
	rig_run(&t.r);
	assert_int_equal(rig_get16(&t.r, t.r.queues[0].used + 2), 5);
	vdev_resume(t.r.dev);
	for (unsigned i = 0; i < 8; i++) {
		assert_int_equal(rig_take(&t.r, 0), LONG_BYTES + 1);
	}
	end(&t);
}

/* Requests without header or status are no requests: the device asks for a reset. */
static void test_faults(void **state unused_arg)
{
	struct disk t;

	for (unsigned i = 0; i < 3; i++) {
		start(&t, 0);
		struct rig_buf bad[] = { { t.header, i == 0 ? 15 : 16, false },
					 { t.status, 1, i == 0 } };

		rig_add(&t.r, 0, bad, i == 2 ? 1 : 2);
		rig_kick(&t.r, 0);
		rig_run(&t.r);
		assert_int_equal(rig_status(&t.r), 15 | VIRTIO_CONFIG_S_NEEDS_RESET);
		assert_int_equal(t.r.msi[0], 1);
		assert_int_equal(t.r.dev->faults, 1);
		rig_start(&t.r, 0);
		assert_int_equal(request(&t, VIRTIO_BLK_T_FLUSH, 0, 0, 0), VIRTIO_BLK_S_OK);
		end(&t);
	}
}

static int use_uring(void **state unused_arg)
{
	way = BLOCK_AUTO;   /* io_uring, where the host has it */
	return 0;
}

static int use_threads(void **state unused_arg)
{
	way = BLOCK_THREADS;
	return 0;
}

static int use_in_place(void **state unused_arg)
{
	way = BLOCK_IN_PLACE;
	return 0;
}

#define BOTH(f) cmocka_unit_test_setup(f, use_uring), cmocka_unit_test_setup(f, use_threads), \
	cmocka_unit_test_setup(f, use_in_place)

int main(void)
{
	const struct CMUnitTest tests[] = {
		BOTH(test_read_write),
		BOTH(test_framing),
		BOTH(test_bounds),
		BOTH(test_id),
		BOTH(test_flush),
		BOTH(test_discard_zero), BOTH(test_several_ranges),
		BOTH(test_zero_without_fallocate),
		BOTH(test_read_only),
		BOTH(test_config),
		BOTH(test_read_at_once),
		BOTH(test_read_not_at_once),
		BOTH(test_reset_in_flight),
		BOTH(test_free_in_flight),
		BOTH(test_pause),
		BOTH(test_faults),
	};

	return TEST_RUN(tests);
}
