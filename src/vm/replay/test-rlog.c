/* SPDX-License-Identifier: Apache-2.0 */
/* What is written is read again; a log that was cut or changed is told. */
#include "base/test.h"

#include <errno.h>
#include <unistd.h>

#include "base/fd.h"
#include "sys/file.h"
#include "vm/replay/rlog-priv.h"

static const struct rlog_rec records[] = {
	{ .type = RLOG_MACHINE, .data = "machine", .len = 7 },
	{ .type = RLOG_MEMORY, .addr = UINT64_C(0x123456789a), .data = "bytes", .len = 5 },
	{ .type = RLOG_START },
	{ .type = RLOG_READ, .space = RLOG_PIO, .bytes = 4, .addr = 0xcf8, .value = UINT32_MAX },
	{ .type = RLOG_AT, .insns = 1000, .events = 3 },
	{ .type = RLOG_MSI, .insns = 1000, .events = 3, .addr = 0xfee00000, .value = 0x41 },
	{ .type = RLOG_LINE, .insns = 1000, .events = 3, .addr = 4, .value = 1 },
	{ .type = RLOG_WRITE, .insns = 1000, .events = 3, .space = RLOG_MMIO, .bytes = 8,
	  .addr = UINT64_MAX, .value = UINT64_MAX },
	{ .type = RLOG_SLEPT, .insns = 1000, .events = 3, .value = 0 },
	{ .type = RLOG_CHECK, .insns = 2000, .events = 3, .cpu = 1, .value = 7, .data = "x", .len = 1 },
	{ .type = RLOG_END, .insns = 2000, .events = 9, .cpu = 1, .value = BIT(63) },
};

/* Many times the records above, so that there are several parts. */
enum { ROUNDS = 20000 };

static int write_log(void)
{
	int fd = sys_memfd_create("log", 0);
	auto_(rlog_writer_freep) struct rlog_writer *w = NULL;
	struct err e = ERR_INIT;

	assert_true(fd >= 0);
	assert_int_equal(rlog_writer_new(sys_dup(fd), &w, &e), 0);
	for (uint64_t round = 0; round < ROUNDS; round++) {
		for (size_t i = 0; i < ARRAY_LEN(records); i++) {
			struct rlog_rec rec = records[i];

			rec.insns += 2000 * round;
			rec.events += 9 * round;
			rlog_put(w, &rec);
		}
	}
	assert_int_equal(rlog_finish(w, &e), 0);
	return fd;
}

static int open_log(int fd, struct rlog_reader **ret, struct err *e)
{
	assert_int_equal(lseek(fd, 0, SEEK_SET), 0);
	return rlog_reader_new(sys_dup(fd), ret, e);
}

static void test_read_again(void **state unused_arg)
{
	auto_close int fd = write_log();
	auto_(rlog_reader_freep) struct rlog_reader *in = NULL;
	struct err e = ERR_INIT;
	struct rlog_rec rec;

	assert_int_equal(open_log(fd, &in, &e), 0);
	for (uint64_t round = 0; round < ROUNDS; round++) {
		for (size_t i = 0; i < ARRAY_LEN(records); i++) {
			const struct rlog_rec *want = &records[i];
			/* What has no position of its own has the last one. */
			uint64_t insns = want->insns + 2000 * round, events = want->events + 9 * round;

			assert_int_equal(rlog_next(in, &rec, &e), 1);
			assert_int_equal(rec.type, want->type);
			assert_int_equal(rec.insns, insns);
			assert_int_equal(rec.events, events);
			assert_int_equal(rec.space, want->space);
			assert_int_equal(rec.bytes, want->bytes);
			assert_int_equal(rec.cpu, want->cpu);
			assert_int_equal(rec.addr, want->addr);
			assert_int_equal(rec.value, want->value);
			assert_int_equal(rec.len, want->len);
			assert_true(rec.len == 0 || memcmp(rec.data, want->data, rec.len) == 0);
		}
	}
	assert_int_equal(rlog_next(in, &rec, &e), 0);
	assert_false(rlog_cut(in));
}

/* How many records can be read; *ret_r: what the reading ended with. */
static unsigned count(int fd, int *ret_r, bool *ret_cut)
{
	auto_(rlog_reader_freep) struct rlog_reader *in = NULL;
	struct err e = ERR_INIT;
	struct rlog_rec rec;
	unsigned n = 0;

	*ret_r = open_log(fd, &in, &e);
	while (*ret_r == 0 && (*ret_r = rlog_next(in, &rec, &e)) > 0) {
		*ret_r = 0;
		n++;
	}
	*ret_cut = in && rlog_cut(in);
	return n;
}

static void test_cut(void **state unused_arg)
{
	auto_close int fd = write_log();
	int64_t whole = lseek(fd, 0, SEEK_END);
	bool cut = false;
	int r = 0;
	unsigned n = count(fd, &r, &cut);

	assert_int_equal(n, ROUNDS * ARRAY_LEN(records));
	for (int64_t len = whole - 1; len > RLOG_HEAD_BYTES; len -= 1 + whole / 50) {
		assert_int_equal(ftruncate(fd, len), 0);
		unsigned less = count(fd, &r, &cut);

		assert_int_equal(r, 0);
		assert_true(cut && less < n);
	}
	assert_int_equal(ftruncate(fd, RLOG_HEAD_BYTES), 0);
	assert_int_equal(count(fd, &r, &cut), 0);
	assert_true(r == 0 && !cut);
	assert_int_equal(ftruncate(fd, RLOG_HEAD_BYTES - 1), 0);
	assert_int_equal(count(fd, &r, &cut), 0);
	assert_int_equal(r, -EBADMSG);
}

static void test_changed(void **state unused_arg)
{
	auto_close int fd = write_log();
	int64_t whole = lseek(fd, 0, SEEK_END);
	bool cut = false;
	int r = 0;

	for (int64_t at = 0; at < whole; at += 1 + whole / 40) {
		uint8_t was = 0, is = 0;

		assert_int_equal(sys_pread(fd, &was, 1, at), 1);
		is = was ^ 0x48;   /* bit 4 of a frame means nothing in one place */
		assert_int_equal(pwrite(fd, &is, 1, at), 1);
		ignore_result(count(fd, &r, &cut)); /* some */
		/* A length that is too long cannot be told from a cut. */
		assert_true(r == -EBADMSG || r == -ENOTSUP || cut);
		assert_int_equal(pwrite(fd, &was, 1, at), 1);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_read_again),
		cmocka_unit_test(test_cut),
		cmocka_unit_test(test_changed),
	};

	return TEST_RUN(tests);
}
