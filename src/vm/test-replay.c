/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A guest of a few instructions on the software engine is recorded and replayed; then from logs
 * that were changed, to see that a difference is found, and named.
 */
#include "base/test.h"

#include <string.h>
#include <unistd.h>

#include "base/fd.h"
#include "sys/file.h"
#include "vm/boot/layout.h"
#include "vm/dev/serial.h"
#include "vm/replay.h"
#include "vm/replay/rlog.h"

enum { CODE = 0x1000, ROUNDS = 200, EVERY = 50, MEMORY_EVERY = 350 };

static const uint8_t code[] = {
	0xb9, ROUNDS, 0,        /* mov cx, ROUNDS */
	0xba, 0xfd, 0x03,       /* 1: mov dx, the serial port's line status */
	0xec,                   /* in al, dx */
	0x01, 0xc3,             /* add bx, ax */
	0xe2, 0xf8,             /* loop 1b */
	0xba, 0x00, 0x06,       /* mov dx, the sleep control port */
	0xb0, 0x34,             /* mov al, S5 and go */
	0xee,                   /* out dx, al */
	0xf4, 0xeb, 0xfd,       /* 2: hlt; jmp 2b */
};

/* What it reads goes into memory, and nowhere else. */
enum { KEPT = 0x3000 };

static const uint8_t keeper[] = {
	0xb9, ROUNDS, 0,        /* mov cx, ROUNDS */
	0xba, 0xfd, 0x03,       /* 1: mov dx, the serial port's line status */
	0xec,                   /* in al, dx */
	0x88, 0x87, 0, KEPT >> 8,   /* mov [bx + KEPT], al */
	0xb0, 0x00,             /* mov al, 0 */
	0x43,                   /* inc bx */
	0xe2, 0xf3,             /* loop 1b */
	0xba, 0x00, 0x06,       /* mov dx, the sleep control port */
	0xb0, 0x34,             /* mov al, S5 and go */
	0xee,                   /* out dx, al */
	0xf4, 0xeb, 0xfd,       /* 2: hlt; jmp 2b */
};

struct fixture {
	struct vm  *vm;
	enum vm_end end;
};

static void on_ended(void *ctx, enum vm_end end)
{
	struct fixture *x = ctx;

	x->end = end;
	loop_stop(vm_loop(x->vm));
}

static void make(struct fixture *x)
{
	const struct vm_conf conf = {
		.engine = &engine_soft, .memory_bytes = 2 << 20, .n_vcpus = 2, .deterministic = true,
		.serial_in_fd = -1, .serial_out_fd = -1, .ended = on_ended, .ctx = x,
	};
	struct err e = ERR_INIT;

	*x = (struct fixture){ 0 };
	assert_int_equal(vm_new(&conf, &x->vm, &e), 0);
}

static void run(struct fixture *x, struct replay_summary *ret)
{
	struct err e = ERR_INIT;

	assert_int_equal(vm_resume(x->vm, &e), 0);
	assert_int_equal(loop_run(vm_loop(x->vm)), 0);
	vm_replay_result(x->vm, ret);
	vm_free(x->vm);
}

/* Returns the log. */
static int record_guest(const uint8_t *insns, size_t n, struct replay_summary *ret)
{
	const struct replay_conf conf = { .every = EVERY, .memory_every = MEMORY_EVERY };
	int fd = sys_memfd_create("log", 0);
	struct fixture x;
	struct cpu_state s;
	struct err e = ERR_INIT;

	assert_true(fd >= 0);
	make(&x);
	assert_int_equal(gmem_write(vm_mem(x.vm), GPA(CODE), insns, n), 0);
	assert_int_equal(engine_soft.vcpu_get(vm_vcpu(x.vm, 0), &s, &e), 0);
	s.seg[CPU_CS].selector = 0;
	s.seg[CPU_CS].base = 0;
	s.rip = CODE;
	assert_int_equal(engine_soft.vcpu_set(vm_vcpu(x.vm, 0), &s, &e), 0);
	assert_int_equal(vm_start_paused(x.vm, &e), 0);
	assert_int_equal(vm_record(x.vm, sys_dup(fd), &conf, &e), 0);
	run(&x, ret);
	assert_int_equal(x.end, VM_END_OFF);
	assert_int_equal(ret->result, REPLAY_RECORDED);
	assert_in_range(ret->insns, 4 * ROUNDS, UINT32_MAX);
	assert_in_range(ret->checks, 4 * ROUNDS / EVERY, UINT32_MAX);
	assert_int_equal(ret->memory_checks, ret->checks / (MEMORY_EVERY / EVERY));
	return fd;
}

static int record(struct replay_summary *ret)
{
	return record_guest(code, sizeof(code), ret);
}

/* Into another log: to_fd, or -1. */
static enum vm_end replay_with(int fd, int to_fd, const struct replay_conf *conf,
			       struct replay_summary *ret)
{
	struct replay_source *source = NULL;
	struct fixture x;
	struct err e = ERR_INIT;

	assert_int_equal(lseek(fd, 0, SEEK_SET), 0);
	assert_int_equal(replay_open(sys_dup(fd), &source, &e), 0);
	assert_int_equal(replay_memory_bytes(source), 2 << 20);
	assert_int_equal(replay_n_vcpus(source), 2);
	make(&x);
	assert_int_equal(vm_start_paused(x.vm, &e), 0);
	if (to_fd >= 0) {
		assert_int_equal(replay_again(source, sys_dup(to_fd), &e), 0);
	}
	assert_int_equal(vm_replay(x.vm, source, conf, &e), 0);
	run(&x, ret);
	return x.end;
}

static enum vm_end replay(int fd, uint64_t stop_at, struct replay_summary *ret)
{
	return replay_with(fd, -1, &(struct replay_conf){ .stop_at = stop_at }, ret);
}

static void test_same(void **state unused_arg)
{
	struct replay_summary first, again;
	auto_close int fd = record(&first);

	for (unsigned i = 0; i < 2; i++) {
		assert_int_equal(replay(fd, 0, &again), VM_END_OFF);
		assert_int_equal(again.result, REPLAY_SAME);
		assert_int_equal(again.insns, first.insns);
		assert_int_equal(again.checks, first.checks);
		assert_int_equal(again.memory_checks, first.memory_checks);
		assert_int_equal(again.hash, first.hash);
	}
}

static void test_stops(void **state unused_arg)
{
	struct replay_summary s;
	auto_close int fd = record(&s);

	/* Behind the first mov, and in the middle of the second round. */
	assert_int_equal(replay(fd, 1, &s), VM_END_STOPPED);
	assert_int_equal(s.result, REPLAY_STOPPED);
	assert_int_equal(s.insns, 1);
	assert_non_null(strstr(s.text, " rip=1003 "));
	assert_int_equal(replay(fd, 7, &s), VM_END_STOPPED);
	assert_non_null(strstr(s.text, " rip=1007 "));
	assert_non_null(strstr(s.text, " rcx=c7 "));
}

/* A copy of a log, in which the nth (from 0) record of a type is changed, or where it ends. */
static int changed(int fd, enum rlog_type type, unsigned nth, bool cut)
{
	auto_(rlog_reader_freep) struct rlog_reader *in = NULL;
	auto_(rlog_writer_freep) struct rlog_writer *w = NULL;
	int to = sys_memfd_create("changed", 0);
	struct err e = ERR_INIT;
	struct rlog_rec rec;
	bool done = false;

	assert_true(to >= 0);
	assert_int_equal(lseek(fd, 0, SEEK_SET), 0);
	assert_int_equal(rlog_reader_new(sys_dup(fd), &in, &e), 0);
	assert_int_equal(rlog_writer_new(sys_dup(to), &w, &e), 0);
	while (rlog_next(in, &rec, &e) > 0 && !(done && cut)) {
		if (rec.type == type && nth-- == 0) {
			rec.value ^= 1;
			done = true;
		}
		if (!(done && cut)) {
			rlog_put(w, &rec);
		}
	}
	assert_true(done);
	assert_int_equal(rlog_finish(w, &e), 0);
	return to;
}

static void test_registers_differ(void **state unused_arg)
{
	struct replay_summary s;
	auto_close int fd = record(&s);
	auto_close int bad = changed(fd, RLOG_READ, 100, false);

	assert_int_equal(replay(bad, 0, &s), VM_END_FAILED);
	assert_int_equal(s.result, REPLAY_DIFFERS);
	/* The read is instruction 403; the next check sees it, and the one before did not. */
	assert_non_null(strstr(s.text, "after 450 instructions"));
	assert_non_null(strstr(s.text, "rbx 0x"));
	assert_null(strstr(s.text, "rcx"));
	assert_non_null(strstr(s.text, "same: at 400 instructions"));
}

static void test_memory_differs(void **state unused_arg)
{
	struct replay_summary s;
	auto_close int fd = record_guest(keeper, sizeof(keeper), &s);
	auto_close int bad = changed(fd, RLOG_READ, 67, false);

	assert_int_equal(replay(fd, 0, &s), VM_END_OFF);
	assert_int_equal(s.result, REPLAY_SAME);
	/* Read by instruction 1 + 6 * 67 + 2 = 405, and kept by the one behind it. */
	assert_int_equal(replay(bad, 0, &s), VM_END_FAILED);
	assert_int_equal(s.result, REPLAY_DIFFERS);
	assert_non_null(strstr(s.text, "after 700 instructions"));
	assert_non_null(strstr(s.text, "1 of the pages that changed, 0x3000;"));
	assert_non_null(strstr(s.text, "same: at 350 instructions"));
}

static void test_memory_differs_at_the_end(void **state unused_arg)
{
	struct replay_summary s;
	auto_close int fd = record_guest(keeper, sizeof(keeper), &s);
	auto_close int bad = changed(fd, RLOG_READ, ROUNDS - 1, false);

	assert_int_equal(replay(bad, 0, &s), VM_END_FAILED);
	assert_int_equal(s.result, REPLAY_DIFFERS);
	assert_non_null(strstr(s.text, "at the end, memory is not the same: 1 of"));
	assert_non_null(strstr(s.text, "0x3000"));
}

/* With a check at each instruction of a part, the first that does otherwise is the one found. */
static void test_again(void **state unused_arg)
{
	const struct replay_conf conf = { .every = 1, .from = 380, .to = 460 };
	auto_close int closer = sys_memfd_create("closer", 0);
	struct replay_summary s, again;
	auto_close int fd = record(&s);

	assert_int_equal(replay_with(fd, closer, &conf, &again), VM_END_OFF);
	assert_int_equal(again.result, REPLAY_SAME);
	assert_int_equal(again.hash, s.hash);
	assert_int_equal(replay(closer, 0, &again), VM_END_OFF);
	assert_int_equal(again.result, REPLAY_SAME);
	assert_int_equal(again.insns, s.insns);
	assert_int_equal(again.checks, s.checks + 460 - 380 + 1);
	assert_int_equal(again.memory_checks, s.memory_checks);

	/* The read is instruction 403. */
	auto_close int bad = changed(closer, RLOG_READ, 100, false);

	assert_int_equal(replay(bad, 0, &again), VM_END_FAILED);
	assert_int_equal(again.result, REPLAY_DIFFERS);
	assert_non_null(strstr(again.text, "after 403 instructions"));
	assert_non_null(strstr(again.text, "has rax 0x"));
	assert_non_null(strstr(again.text, "same: at 402 instructions"));
}

static int compare(int a, int b, struct replay_difference *ret)
{
	struct err e = ERR_INIT;

	/* Of one descriptor each reader would move the other. */
	auto_close int copy = sys_memfd_create("copy", 0);
	auto_buf struct buf data = BUF_INIT;

	assert_int_equal(lseek(b, 0, SEEK_SET), 0);
	assert_int_equal(sys_read_fd(b, 1 << 24, &data), 0);
	assert_int_equal(sys_write_full(copy, data.data, data.len), 0);
	assert_int_equal(lseek(copy, 0, SEEK_SET), 0);
	assert_int_equal(lseek(a, 0, SEEK_SET), 0);
	return replay_compare(sys_dup(a), sys_dup(copy), ret, &e);
}

static void test_compare(void **state unused_arg)
{
	const struct replay_conf conf = { .every = 7, .from = 380, .to = 460 };
	auto_close int closer = sys_memfd_create("closer", 0);
	struct replay_difference d;
	struct replay_summary s, again;
	auto_close int fd = record(&s);
	auto_close int read = changed(fd, RLOG_READ, 100, false);
	auto_close int cut = changed(fd, RLOG_READ, 150, true);
	auto_close int pages = changed(fd, RLOG_PAGES, 1, false);

	assert_int_equal(compare(fd, fd, &d), 1);
	assert_int_equal(d.checks, s.checks);
	assert_int_equal(replay_with(fd, closer, &conf, &again), VM_END_OFF);
	assert_int_equal(compare(closer, fd, &d), 1);
	assert_int_equal(d.checks, s.checks);
	assert_int_equal(compare(fd, read, &d), 0);
	assert_non_null(strstr(d.text, "the first has a read of 1 bytes from port 0x3fd"));
	assert_non_null(strstr(d.text, "the values are 0x60 and 0x61"));
	assert_int_equal(d.same_insns, 400);
	assert_int_equal(compare(cut, fd, &d), 0);
	assert_non_null(strstr(d.text, "the first has the end, the second a read"));
	assert_int_equal(compare(fd, pages, &d), 0);
	assert_non_null(strstr(d.text, "after 700 instructions and 1 events memory is not"));
}

static void test_access_differs(void **state unused_arg)
{
	struct replay_summary s;
	auto_close int fd = record(&s);
	auto_close int bad = changed(fd, RLOG_WRITE, 0, false);

	assert_int_equal(replay(bad, 0, &s), VM_END_FAILED);
	assert_int_equal(s.result, REPLAY_DIFFERS);
	assert_non_null(strstr(s.text, "does a write of 0x34, 1 bytes, to port 0x600"));
	assert_non_null(strstr(s.text, "has a write of 0x35, 1 bytes, to port 0x600"));
}

static void test_end_differs(void **state unused_arg)
{
	struct replay_summary s;
	auto_close int fd = record(&s);
	auto_close int bad = changed(fd, RLOG_END, 0, false);

	assert_int_equal(replay(bad, 0, &s), VM_END_FAILED);
	assert_int_equal(s.result, REPLAY_DIFFERS);
	assert_non_null(strstr(s.text, "memory is not the same"));
}

static void test_cut(void **state unused_arg)
{
	static const struct {
		enum rlog_type type;
		unsigned       nth;
	} places[] = { { RLOG_READ, 0 }, { RLOG_READ, 150 }, { RLOG_CHECK, 3 }, { RLOG_END, 0 } };
	struct replay_summary s;
	auto_close int fd = record(&s);

	for (size_t i = 0; i < ARRAY_LEN(places); i++) {
		auto_close int part = changed(fd, places[i].type, places[i].nth, true);

		assert_int_equal(replay(part, 0, &s), VM_END_STOPPED);
		assert_int_equal(s.result, REPLAY_CUT);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_same), cmocka_unit_test(test_memory_differs),
		cmocka_unit_test(test_again), cmocka_unit_test(test_compare),
		cmocka_unit_test(test_memory_differs_at_the_end),
		cmocka_unit_test(test_stops),
		cmocka_unit_test(test_registers_differ),
		cmocka_unit_test(test_access_differs),
		cmocka_unit_test(test_end_differs),
		cmocka_unit_test(test_cut),
	};

	return TEST_RUN(tests);
}
