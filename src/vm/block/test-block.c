/* SPDX-License-Identifier: Apache-2.0 */
/* Disks without a device above them. */
#include <errno.h>
#include <fcntl.h>
#include <liburing.h>
#include <pthread.h>
#include <string.h>

#include "base/test.h"
#include "sys/file.h"
#include "vm/block/way.h"

enum { BYTES = 1 << 20 };

static enum block_way way;

static int disk_file(void)
{
	int fd = sys_memfd_create("disk", 0);

	assert_true(fd >= 0);
	assert_int_equal(sys_ftruncate(fd, BYTES), 0);
	return fd;
}

struct disk {
	struct loop  *loop;
	struct block *block;
	int           fd;       /* of the same file */
	unsigned      done;
	int           result;   /* of the last one */
};

static void start_with(struct disk *t, struct block_conf conf)
{
	struct err e = ERR_INIT;

	memset(t, 0, sizeof(*t));
	conf.fd = disk_file();
	conf.way = way;
	t->fd = sys_dup(conf.fd);
	assert_int_equal(loop_new(&t->loop), 0);
	assert_int_equal(block_open(t->loop, &conf, &t->block, &e), 0);
	assert_int_equal(conf.fd, -1);
}

static void start(struct disk *t, bool read_only)
{
	start_with(t, (struct block_conf){ .read_only = read_only, .depth = 4 });
}

static void end(struct disk *t)
{
	t->block = block_close(t->block);
	t->loop = loop_free(t->loop);
	fd_close(&t->fd);
}

static void on_done(struct block_req *r, int result)
{
	struct disk *t = r->ud;

	t->done++;
	t->result = result;
}

static int one(struct disk *t, struct block_req *r)
{
	unsigned before = t->done;

	r->done = on_done;
	r->ud = t;
	block_submit(t->block, r);
	assert_int_equal(t->done, before);   /* never from there */
	block_kick(t->block);
	for (unsigned i = 0; i < 1000 && t->done == before; i++) {
		assert_true(loop_turn(t->loop, UINT64_C(100000000)) >= 0);
	}
	assert_int_equal(t->done, before + 1);
	assert_int_equal(block_in_flight(t->block), 0);
	return t->result;
}

static void test_scattered(void **state unused_arg)
{
	struct disk t;
	uint8_t a[512], b[1024], got[1536];
	struct iovec v[2] = { { a, sizeof(a) }, { b, sizeof(b) } };

	start(&t, false);
	memset(a, 'a', sizeof(a));
	memset(b, 'b', sizeof(b));
	assert_int_equal(one(&t, &(struct block_req){ .op = BLOCK_WRITE, .offset = 4096,
						      .bytes = 1536, .iov = v, .n_iov = 2,
						      .durable = true }), 0);
	assert_int_equal(sys_pread(t.fd, got, 1536, 4096), 1536);
	assert_memory_equal(got, a, 512);
	assert_memory_equal(got + 512, b, 1024);
	v[0] = (struct iovec){ got, 512 };
	assert_int_equal(one(&t, &(struct block_req){ .op = BLOCK_READ, .offset = 5120,
						      .bytes = 512, .iov = v, .n_iov = 1 }), 0);
	assert_memory_equal(got, b, 512);
	end(&t);
}

/* Nothing that is out of range, or not allowed, reaches the file. */
static void test_refused(void **state unused_arg)
{
	static const struct {
		enum block_op op;
		uint64_t      offset, bytes;
		int           want;
	} rows[] = {
		{ BLOCK_READ, BYTES, 512, -ERANGE },
		{ BLOCK_READ, UINT64_MAX - 511, 512, -ERANGE },
		{ BLOCK_READ, 0, UINT64_MAX, -ERANGE },
		{ BLOCK_WRITE, 0, 512, -EROFS },
		{ BLOCK_DISCARD, 0, 512, -EROFS },
		{ BLOCK_ZERO, 0, 512, -EROFS },
		{ BLOCK_FLUSH, 0, 0, 0 },
		{ BLOCK_READ, 0, 0, 0 },
	};
	struct disk t;
	uint8_t block[512];

	start(&t, true);
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		struct iovec v = { block, sizeof(block) };

		assert_int_equal(one(&t, &(struct block_req){ .op = rows[i].op,
							      .offset = rows[i].offset,
							      .bytes = rows[i].bytes, .iov = &v,
							      .n_iov = 1 }), rows[i].want);
	}
	end(&t);
}

/* A file that shrank under us: the missing part is an error, not old memory. */
static void test_shrunk(void **state unused_arg)
{
	struct disk t;
	uint8_t block[8192];
	struct iovec v = { block, sizeof(block) };

	start(&t, false);
	assert_int_equal(sys_ftruncate(t.fd, 4096), 0);
	assert_int_equal(one(&t, &(struct block_req){ .op = BLOCK_READ, .offset = 0, .bytes = 8192,
						      .iov = &v, .n_iov = 1 }), -EIO);
	end(&t);
}

/* More than the ring holds, drained in place. */
static void test_many(void **state unused_arg)
{
	enum { N = 64 };
	struct disk t;
	static struct block_req reqs[N];
	static struct iovec v[N];
	static uint8_t data[N][512];

	start(&t, false);
	for (unsigned i = 0; i < N; i++) {
		memset(data[i], (int)i, 512);
		v[i] = (struct iovec){ data[i], 512 };
		reqs[i] = (struct block_req){ .op = BLOCK_WRITE, .offset = i * 512u, .bytes = 512,
					      .iov = &v[i], .n_iov = 1, .done = on_done, .ud = &t };
		block_submit(t.block, &reqs[i]);
	}
	assert_int_equal(block_drain(t.block, 0), 0);
	assert_int_equal(t.done, N);
	for (unsigned i = 0; i < N; i++) {
		uint8_t got[512];

		assert_int_equal(sys_pread(t.fd, got, 512, i * 512), 512);
		assert_int_equal(got[511], i);
	}
	end(&t);
}

/* Threads that do not begin before they are let. */
static pthread_mutex_t gate = PTHREAD_MUTEX_INITIALIZER;

static void wait_at_gate(void)
{
	assert_int_equal(pthread_mutex_lock(&gate), 0);
	assert_int_equal(pthread_mutex_unlock(&gate), 0);
}

/* A disk that hangs is waited for only so long; what is out comes back later. */
static void test_hangs(void **state unused_arg)
{
	struct disk t;
	uint8_t data[512] = { 1 };
	struct iovec v = { data, 512 };
	struct block_req req = { .op = BLOCK_WRITE, .bytes = 512, .iov = &v, .n_iov = 1,
				 .done = on_done, .ud = &t };

	assert_int_equal(pthread_mutex_lock(&gate), 0);
	start_with(&t, (struct block_conf){ .in_worker = wait_at_gate });
	block_submit(t.block, &req);
	assert_int_equal(block_drain(t.block, 20000000), -ETIMEDOUT);
	assert_int_equal(t.done, 0);
	assert_int_equal(pthread_mutex_unlock(&gate), 0);
	assert_int_equal(block_drain(t.block, 0), 0);
	assert_int_equal(t.done, 1);
	end(&t);
}

/* O_DIRECT, and a driver whose buffers lie as they like: several at a time, larger than ours. */
static void test_not_aligned(void **state unused_arg)
{
	enum { N = 3, FIRST = 700, SIZE = 600 << 10 };
	struct err e = ERR_INIT;
	struct block_conf conf = { .fd = sys_openat(AT_FDCWD, ".", O_TMPFILE | O_RDWR | O_DIRECT, 0600),
				   .way = way };
	static struct block_req reqs[N];
	static struct iovec v[N][2];
	static uint8_t data[N][SIZE + 1], got[N][SIZE + 1], plain[SIZE];
	struct disk t = { .fd = -1 };

	if (conf.fd < 0 || sys_ftruncate(conf.fd, (uint64_t)N * SIZE) < 0) {
		fd_close(&conf.fd);
		skip();   /* the file system here knows no O_DIRECT */
	}
	t.fd = sys_dup(conf.fd);
	assert_int_equal(loop_new(&t.loop), 0);
	assert_int_equal(block_open(t.loop, &conf, &t.block, &e), 0);
	assert_true(block_info(t.block)->direct);
	for (unsigned pass = 0; pass < 2; pass++) {
		uint8_t (*at)[SIZE + 1] = pass == 0 ? data : got;

		for (unsigned i = 0; i < N; i++) {
			for (size_t k = 0; k < SIZE && pass == 0; k++) {
				data[i][k + 1] = (uint8_t)(k * 7 + k / 509 + i);
			}
			v[i][0] = (struct iovec){ at[i] + 1, FIRST };
			v[i][1] = (struct iovec){ at[i] + 1 + FIRST, SIZE - FIRST };
			reqs[i] = (struct block_req){ .op = pass == 0 ? BLOCK_WRITE : BLOCK_READ,
						      .offset = (uint64_t)i * SIZE, .bytes = SIZE,
						      .iov = v[i], .n_iov = 2, .done = on_done, .ud = &t };
			block_submit(t.block, &reqs[i]);
		}
		assert_int_equal(block_drain(t.block, 0), 0);
		assert_int_equal(t.done, N * (pass + 1));
		assert_int_equal(t.result, 0);
	}
	assert_int_equal(sys_fcntl(t.fd, F_SETFL, O_RDWR), 0);
	for (unsigned i = 0; i < N; i++) {
		assert_memory_equal(got[i] + 1, data[i] + 1, SIZE);
		assert_int_equal(sys_pread(t.fd, plain, SIZE, (int64_t)i * SIZE), SIZE);
		assert_memory_equal(plain, data[i] + 1, SIZE);
	}
	end(&t);
}

static void test_not_a_disk(void **state unused_arg)
{
	struct err e = ERR_INIT;
	struct block *b = NULL;
	struct loop *loop = NULL;
	int fds[2];

	assert_int_equal(loop_new(&loop), 0);
	assert_int_equal(sys_pipe2(fds, 0), 0);
	struct block_conf conf = { .fd = fds[0], .way = way };

	assert_int_equal(block_open(loop, &conf, &b, &e), -EINVAL);
	conf = (struct block_conf){ .fd = sys_memfd_create("empty", 0), .way = way };
	assert_int_equal(block_open(loop, &conf, &b, &e), -EINVAL);
	fd_close(&fds[1]);
	loop = loop_free(loop);
}

/* The ring knows one file, and a few calls on it: whoever takes us over gets no more by it. */
static void test_restricted(void **state unused_arg)
{
	static const uint8_t refused[] = {
		IORING_OP_NOP, IORING_OP_OPENAT, IORING_OP_SOCKET, IORING_OP_CONNECT,
		IORING_OP_SENDMSG, IORING_OP_READ, IORING_OP_UNLINKAT, IORING_OP_CLOSE,
		IORING_OP_FILES_UPDATE, IORING_OP_PROVIDE_BUFFERS, IORING_OP_POLL_ADD,
	};
	struct io_uring ring;
	struct io_uring_cqe *cqe;
	struct io_uring_sqe *sqe;
	uint8_t data[512];
	struct iovec v = { data, sizeof(data) };
	int fd = disk_file();

	assert_int_equal(block__ring_make(&ring, 4, fd), 0);
	for (size_t i = 0; i < ARRAY_LEN(refused) + 2; i++) {
		sqe = io_uring_get_sqe(&ring);
		assert_non_null(sqe);
		/* The last two: what is allowed, on a file of the process; and on the ring's. */
		io_uring_prep_readv(sqe, i == ARRAY_LEN(refused) ? fd : 0, &v, 1, 0);
		if (i < ARRAY_LEN(refused)) {
			sqe->opcode = refused[i];
		}
		if (i != ARRAY_LEN(refused)) {
			io_uring_sqe_set_flags(sqe, IOSQE_FIXED_FILE);
		}
		assert_int_equal(io_uring_submit(&ring), 1);
		assert_int_equal(io_uring_wait_cqe(&ring, &cqe), 0);
		assert_int_equal(cqe->res, i <= ARRAY_LEN(refused) ? -EACCES : 512);
		io_uring_cqe_seen(&ring, cqe);
	}
	assert_int_equal(io_uring_register_files_update(&ring, 0, &fd, 1), -EACCES);
	io_uring_queue_exit(&ring);
	fd_close(&fd);
}

/* What a recording needs: that a buffer changes is never to be seen before it is told. */
static void test_told_at_once(void **state unused_arg)
{
	uint8_t buffer[512] = { 0 };
	struct iovec v = { buffer, sizeof(buffer) };
	struct block_req r = { .op = BLOCK_READ, .bytes = sizeof(buffer), .iov = &v, .n_iov = 1,
			       .done = on_done };
	struct disk t;

	start(&t, false);
	assert_int_equal(sys_write_full(t.fd, "something", 9), 0);
	r.ud = &t;
	block_submit(t.block, &r);
	block_kick(t.block);
	assert_int_equal(t.done, 0);
	assert_int_equal(buffer[0], 0);
	assert_true(loop_turn(t.loop, 0) >= 0);
	assert_int_equal(t.done, 1);
	assert_memory_equal(buffer, "something", 9);
	end(&t);
}

static int use_uring(void **state unused_arg)
{
	way = BLOCK_URING;
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

#define THREADS(f) cmocka_unit_test_setup(f, use_threads), cmocka_unit_test_setup(f, use_in_place)
#define BOTH(f) cmocka_unit_test_setup(f, use_uring), THREADS(f)

int main(void)
{
	const struct CMUnitTest all[] = {
		BOTH(test_scattered), BOTH(test_refused), BOTH(test_shrunk), BOTH(test_many),
		BOTH(test_not_a_disk), BOTH(test_not_aligned), cmocka_unit_test(test_restricted),
		cmocka_unit_test_setup(test_hangs, use_threads),
		cmocka_unit_test_setup(test_told_at_once, use_in_place),
	};
	const struct CMUnitTest without[] = {
		THREADS(test_scattered), THREADS(test_refused), THREADS(test_shrunk),
		THREADS(test_many), THREADS(test_not_a_disk), THREADS(test_not_aligned),
		cmocka_unit_test_setup(test_hangs, use_threads),
		cmocka_unit_test_setup(test_told_at_once, use_in_place),
	};
	struct io_uring probe;

	if (io_uring_queue_init(4, &probe, 0) < 0) {
		return TEST_RUN(without);
	}
	io_uring_queue_exit(&probe);
	return TEST_RUN(all);
}
