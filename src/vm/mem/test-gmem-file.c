/* SPDX-License-Identifier: Apache-2.0 */
#include "base/test.h"

#include <errno.h>
#include <pthread.h>
#include <string.h>

#include "base/le.h"
#include "sys/file.h"
#include "vm/mem/gmem.h"

enum { PAGE = GMEM_PAGE_BYTES, WINDOW = GMEM_WINDOW_BYTES };

#define HIGH UINT64_C(0x100000000)

/* The second slot begins, and ends, in the middle of a window. */
enum { LOW_BYTES = 2 * WINDOW + WINDOW / 2, HIGH_BYTES = 3 * WINDOW + 5 * PAGE, WINDOWS = 6,
       ALL = LOW_BYTES + HIGH_BYTES };

static const uint8_t id[GMEM_ID_BYTES] = "this one", other_id[GMEM_ID_BYTES] = "another";

/* Can it be mapped again, and out of a file for each slot or one for all? */
enum again { AGAIN_NOT, AGAIN_A_FILE_EACH, AGAIN_ONE_FILE, AGAIN__COUNT };

static struct gmem memory_as(uint64_t high_bytes, enum again again)
{
	struct gmem g;
	struct err e = ERR_INIT;

	gmem_init(&g);
	auto_close int fd = again == AGAIN_ONE_FILE ? sys_memfd_create("all", 0) : -1;

	if (fd >= 0) {
		gmem_use_file(&g, fd);
	}
	assert_int_equal(gmem_add(&g, GPA(0), LOW_BYTES, -1, 0, again != AGAIN_NOT, &e), 0);
	assert_int_equal(gmem_add(&g, GPA(HIGH), high_bytes, -1, 0, again != AGAIN_NOT, &e), 0);
	return g;
}

static struct gmem memory(uint64_t high_bytes)
{
	return memory_as(high_bytes, AGAIN_NOT);
}

/* What is in the two files: first and last bytes, the slots' edges, something in each window. */
static const gpa_t marks[] = {
	{ 0 }, { WINDOW - 1 }, { WINDOW }, { 2 * WINDOW + 17 }, { LOW_BYTES - 1 }, { HIGH },
	{ HIGH + WINDOW / 2 - 1 }, { HIGH + WINDOW / 2 }, { HIGH + 2 * WINDOW },
	{ HIGH + HIGH_BYTES - 5 * PAGE }, { HIGH + HIGH_BYTES - 1 },
};

static void mark(struct gmem *g)
{
	for (size_t i = 0; i < ARRAY_LEN(marks); i++) {
		assert_int_equal(gmem_write(g, marks[i], &(char){ (char)('a' + i) }, 1), 0);
	}
}

static struct gmem marked(void)
{
	struct gmem g = memory(HIGH_BYTES);

	mark(&g);
	return g;
}

static void check_marks(const struct gmem *g)
{
	for (size_t i = 0; i < ARRAY_LEN(marks); i++) {
		char c = 0;

		assert_int_equal(gmem_read(g, marks[i], &c, 1), 0);
		assert_int_equal(c, 'a' + i);
	}
}

struct files {
	int fds[GMEM_PARTS];
};

static struct files files_new(void)
{
	return (struct files){ { sys_memfd_create("low", 0), sys_memfd_create("high", 0) } };
}

static void files_close(struct files *f)
{
	fd_close(&f->fds[GMEM_LOW]);
	fd_close(&f->fds[GMEM_HIGH]);
}

/* The first `low` windows into the low file, the others into the high one. */
static struct files saved(const struct gmem *g, unsigned low)
{
	struct files f = files_new();
	struct gmem_save s;
	struct err e = ERR_INIT;

	assert_int_equal(gmem_save_begin(&s, g, f.fds, &e), 0);
	for (unsigned i = 0; i < WINDOWS; i++) {
		assert_true(gmem_save_step(&s, i < low ? GMEM_LOW : GMEM_HIGH));
	}
	assert_false(gmem_save_step(&s, GMEM_LOW));
	assert_false(gmem_save_step(&s, GMEM_HIGH));
	assert_int_equal(gmem_save_end(&s, id, &e), 0);
	return f;
}

static int restored(struct gmem *g, const struct files *f)
{
	struct err e = ERR_INIT;
	int r = gmem_restore(g, f->fds, id, &e);

	if (r < 0) {
		print_message("%s\n", e.msg);
	}
	return r;
}

/* Wherever the two writers meet: all is there again, and nothing else was written. */
static void goes_round(void **state)
{
	struct gmem g = marked();

	(void)state;
	for (unsigned low = 0; low <= WINDOWS; low++) {
		struct files f = saved(&g, low);
		struct gmem h = memory(HIGH_BYTES);
		struct stat st[GMEM_PARTS];
		char c = 'x';

		for (unsigned i = 0; i < GMEM_PARTS; i++) {
			assert_int_equal(sys_fstat(f.fds[i], &st[i]), 0);
			assert_int_equal(st[i].st_size, ALL + PAGE);
		}
		/* A page for each mark, three between the last two, and one about each file. */
		assert_int_equal((st[0].st_blocks + st[1].st_blocks) * 512, 16 * PAGE);
		assert_int_equal(restored(&h, &f), 0);
		check_marks(&h);
		assert_int_equal(gmem_write(&h, GPA(5), "y", 1), 0);
		assert_int_equal(sys_pread(f.fds[GMEM_LOW], &c, 1, 5), 1);
		assert_int_equal(c, 0); /* it is a private map */
		gmem_fini(&h);
		files_close(&f);
	}
	gmem_fini(&g);
}

static void *save_high(void *ud)
{
	while (gmem_save_step(ud, GMEM_HIGH)) {
	}
	return NULL;
}

/* At once. Restored memory is saved like any other. */
static void two_threads(void **state)
{
	struct gmem g = marked();

	(void)state;
	for (unsigned i = 0; i < 20; i++) {
		struct files f = files_new();
		struct gmem_save s;
		struct err e = ERR_INIT;
		pthread_t t;

		assert_int_equal(gmem_save_begin(&s, &g, f.fds, &e), 0);
		assert_int_equal(pthread_create(&t, NULL, save_high, &s), 0);
		while (gmem_save_step(&s, GMEM_LOW)) {
		}
		assert_int_equal(pthread_join(t, NULL), 0);
		assert_int_equal(gmem_save_end(&s, id, &e), 0);
		gmem_fini(&g);
		g = memory(HIGH_BYTES);
		assert_int_equal(restored(&g, &f), 0);
		check_marks(&g);
		files_close(&f);
	}
	gmem_fini(&g);
}

/* By the files that can be mapped again. */
static uint64_t taken(const struct gmem *g)
{
	uint64_t bytes[2] = { 0, 0 };

	for (unsigned i = 0; i < 2 && g->slots[i].again_fd >= 0; i++) {
		struct stat st;

		assert_int_equal(sys_fstat(g->slots[i].again_fd, &st), 0);
		bytes[i] = (uint64_t)st.st_blocks * 512;
	}
	return g->slots[1].again_offset > 0 ? bytes[0] : bytes[0] + bytes[1];
}

/*
 * Memory that can be mapped again takes no pages for being saved, but for those few that lie
 * between others, with swap on the host and without; of other memory a host with swap tells nothing.
 */
static void untouched(void **state)
{
	(void)state;
	for (unsigned i = 0; i < 2 * AGAIN__COUNT; i++) {
		enum again again_as = i / 2;
		struct gmem g = memory_as(HIGH_BYTES, again_as), h = memory(HIGH_BYTES);
		struct files f = files_new();
		struct gmem_save s;
		struct err e = ERR_INIT;

		mark(&g);
		uint64_t before = taken(&g);

		assert_true(again_as ? before >= 11 * PAGE : before == 0);
		assert_int_equal(gmem_save_begin(&s, &g, f.fds, &e), 0);
		s.no_swap = i & 1;
		while (gmem_save_step(&s, GMEM_HIGH)) {
		}
		assert_int_equal(gmem_save_end(&s, id, &e), 0);
		assert_true(taken(&g) <= before + 3 * PAGE);
		assert_int_equal(restored(&h, &f), 0);
		check_marks(&h);
		/* What a snapshot is mapped over is not asked any more. */
		assert_int_equal(restored(&g, &f), 0);
		assert_int_equal(gmem_write(&g, GPA(WINDOW + 3 * PAGE), "new", 3), 0);
		struct files again = saved(&g, 3);
		char text[3];

		gmem_fini(&h);
		h = memory_as(HIGH_BYTES, again_as);
		assert_int_equal(restored(&h, &again), 0);
		check_marks(&h);
		assert_int_equal(gmem_read(&h, GPA(WINDOW + 3 * PAGE), text, 3), 0);
		assert_memory_equal(text, "new", 3);
		gmem_fini(&g);
		gmem_fini(&h);
		files_close(&f);
		files_close(&again);
	}
}

static uint64_t file_bytes(const struct files *f)
{
	uint64_t bytes = 0;

	for (unsigned i = 0; i < GMEM_PARTS; i++) {
		struct stat st;

		assert_int_equal(sys_fstat(f->fds[i], &st), 0);
		bytes += (uint64_t)st.st_blocks * 512;
	}
	return bytes;
}

/*
 * Restored memory is saved without looking at what the files have nothing of, which would take
 * pages for it; what was written there since is saved, with swap on the host and without.
 */
static void restored_and_saved(void **state)
{
	const gpa_t late = { WINDOW + WINDOW / 2 };
	struct gmem g = marked();

	(void)state;
	for (unsigned i = 0; i < 2 * (WINDOWS + 1); i++) {
		struct files f = saved(&g, i / 2), again = files_new();
		struct gmem h = memory(HIGH_BYTES), k = memory(HIGH_BYTES);
		uint64_t before = file_bytes(&f);
		struct gmem_save s;
		struct err e = ERR_INIT;
		char c = 0;

		assert_int_equal(restored(&h, &f), 0);
		assert_true(h.slots[0].n_empty > 0 && h.slots[1].n_empty > 0);
		assert_int_equal(gmem_write(&h, late, "l", 1), 0);
		assert_int_equal(gmem_save_begin(&s, &h, again.fds, &e), 0);
		s.no_swap = i & 1;
		while (gmem_save_step(&s, GMEM_LOW)) {
		}
		assert_int_equal(gmem_save_end(&s, id, &e), 0);
		assert_int_equal(file_bytes(&f), before);
		assert_int_equal(restored(&k, &again), 0);
		check_marks(&k);
		assert_int_equal(gmem_read(&k, late, &c, 1), 0);
		assert_int_equal(c, 'l');
		gmem_fini(&h);
		gmem_fini(&k);
		files_close(&f);
		files_close(&again);
	}
	gmem_fini(&g);
}

/* So many holes that they are not all left out: nothing is missing. */
static void many_holes(void **state)
{
	enum { STEP = 4 << 20, BYTES = STEP * 3 * GMEM_EMPTY_MAX };
	struct gmem g, h;
	struct files f = files_new();
	struct gmem_save s;
	struct err e = ERR_INIT;

	(void)state;
	gmem_init(&g);
	gmem_init(&h);
	assert_int_equal(gmem_add(&g, GPA(0), BYTES, -1, 0, false, &e), 0);
	assert_int_equal(gmem_add(&h, GPA(0), BYTES, -1, 0, false, &e), 0);
	for (uint32_t at = 0; at < BYTES; at += STEP) {
		assert_int_equal(gmem_write(&g, GPA(at), &at, sizeof(at)), 0);
		assert_int_equal(gmem_write(&g, GPA(at + STEP / 2), &at, sizeof(at)), 0);
	}
	assert_int_equal(gmem_save_begin(&s, &g, f.fds, &e), 0);
	while (gmem_save_step(&s, GMEM_HIGH)) {
	}
	assert_int_equal(gmem_save_end(&s, id, &e), 0);
	assert_int_equal(restored(&h, &f), 0);
	assert_int_equal(h.slots[0].n_empty, GMEM_EMPTY_MAX);
	for (uint32_t at = 0; at < BYTES; at += STEP) {
		uint32_t v[3] = { 1, 1, 1 };

		assert_int_equal(gmem_read(&h, GPA(at), &v[0], sizeof(v[0])), 0);
		assert_int_equal(gmem_read(&h, GPA(at + STEP / 2), &v[1], sizeof(v[1])), 0);
		assert_int_equal(gmem_read(&h, GPA(at + STEP / 4), &v[2], sizeof(v[2])), 0);
		assert_true(v[0] == at && v[1] == at && v[2] == 0);
	}
	gmem_fini(&g);
	gmem_fini(&h);
	files_close(&f);
}

/* --- What is refused --- */

enum { TRAILER_BYTES = 56 };

/* Restored with the last page of a part changed: `n` bytes at `at`. */
static int changed(struct gmem *g, const struct files *f, enum gmem_part part, unsigned at,
		   const void *data, size_t n)
{
	uint8_t was[TRAILER_BYTES];

	assert_int_equal(sys_pread(f->fds[part], was, sizeof(was), ALL), sizeof(was));
	assert_int_equal(sys_pwrite(f->fds[part], data, n, ALL + at), n);
	int r = restored(g, f);

	assert_int_equal(sys_pwrite(f->fds[part], was, sizeof(was), ALL), sizeof(was));
	return r;
}

static void last_pages(void **state)
{
	enum { MAGIC, BYTES = 16, SPLIT = 24, PART = 32, ID = 40 };
	struct gmem g = marked(), h = memory(HIGH_BYTES);
	struct files f = saved(&g, 2);
	static const uint64_t splits[] = { 0, 1, WINDOW, 2 * WINDOW + PAGE, ALL, ALL + PAGE,
					   1ULL << 63, UINT64_MAX };
	struct err e = ERR_INIT;
	uint8_t number[8];

	(void)state;
	for (unsigned part = 0; part < GMEM_PARTS; part++) {
		assert_int_equal(changed(&h, &f, part, MAGIC, "X", 1), -EBADMSG);
		assert_int_equal(changed(&h, &f, part, MAGIC, "holm vm memory 1", 16), -EBADMSG);
		le64_put(number, ALL - PAGE);
		assert_int_equal(changed(&h, &f, part, BYTES, number, 8), -EBADMSG);
		le64_put(number, 1 - part);
		assert_int_equal(changed(&h, &f, part, PART, number, 8), -EBADMSG);
		assert_int_equal(changed(&h, &f, part, ID, other_id, sizeof(other_id)), -EBADMSG);
		for (size_t i = 0; i < ARRAY_LEN(splits); i++) { /* the other part says else */
			le64_put(number, splits[i]);
			assert_int_equal(changed(&h, &f, part, SPLIT, number, 8), -EBADMSG);
		}
	}
	/* Both say the same, and it is nonsense. */
	for (unsigned i = 0; i < 2; i++) {
		le64_put(number, i == 0 ? ALL + PAGE : 2 * WINDOW + 1);
		assert_int_equal(sys_pwrite(f.fds[GMEM_LOW], number, 8, ALL + SPLIT), 8);
		assert_int_equal(changed(&h, &f, GMEM_HIGH, SPLIT, number, 8), -EBADMSG);
	}
	le64_put(number, 2 * WINDOW);
	assert_int_equal(sys_pwrite(f.fds[GMEM_LOW], number, 8, ALL + SPLIT), 8);
	assert_int_equal(gmem_restore(&h, f.fds, other_id, &e), -EBADMSG);
	assert_int_equal(restored(&h, &f), 0);
	check_marks(&h);
	gmem_fini(&g);
	gmem_fini(&h);
	files_close(&f);
}

static void other_files(void **state)
{
	struct gmem g = marked(), h = memory(HIGH_BYTES), less = memory(HIGH_BYTES - PAGE);
	struct files f = saved(&g, 2), empty = files_new();

	(void)state;
	assert_int_equal(restored(&less, &f), -EBADMSG);
	assert_int_equal(restored(&h, &(struct files){ { f.fds[1], f.fds[0] } }), -EBADMSG);
	assert_int_equal(restored(&h, &(struct files){ { f.fds[0], f.fds[0] } }), -EBADMSG);
	assert_int_equal(restored(&h, &(struct files){ { f.fds[0], empty.fds[1] } }), -EBADMSG);
	assert_int_equal(restored(&h, &(struct files){ { empty.fds[0], f.fds[1] } }), -EBADMSG);
	assert_int_equal(restored(&h, &(struct files){ { f.fds[0], -1 } }), -EBADF);
	for (unsigned i = 0; i < GMEM_PARTS; i++) {
		struct files again = saved(&g, 2);

		assert_int_equal(sys_ftruncate(again.fds[i], ALL), 0);
		assert_int_equal(restored(&h, &again), -EBADMSG);
		assert_int_equal(sys_ftruncate(again.fds[i], ALL + PAGE), 0);
		assert_int_equal(restored(&h, &again), -EBADMSG);
		files_close(&again);
	}
	gmem_fini(&g);
	gmem_fini(&h);
	gmem_fini(&less);
	files_close(&f);
	files_close(&empty);
}

/* The disk is full at each write there is: an error, and no file says that it is whole. */
static void full(void **state)
{
	struct gmem g = marked(), h = memory(HIGH_BYTES);
	struct err e = ERR_INIT;
	unsigned nth = 1;

	(void)state;
	for (bool done = false; !done; nth++) {
		struct files f = files_new();
		struct gmem_save s;

		assert_int_equal(gmem_save_begin(&s, &g, f.fds, &e), 0);
		sys_fault_arm(SYS_CALL_pwrite, nth, 1, ENOSPC);
		bool low, high;

		do {
			low = gmem_save_step(&s, GMEM_LOW);
			high = gmem_save_step(&s, GMEM_HIGH);
		} while (low || high);
		int r = gmem_save_end(&s, id, &e);

		done = sys_fault_hits() == 0;
		sys_fault_clear();
		assert_int_equal(r, done ? 0 : -ENOSPC);
		assert_int_equal(restored(&h, &f), done ? 0 : -EBADMSG);
		files_close(&f);
	}
	assert_true(nth > ARRAY_LEN(marks));
	gmem_fini(&g);
	gmem_fini(&h);
}

/* Who failed stops the other one, too. */
static void one_fails(void **state)
{
	struct gmem g = marked();
	struct files f = files_new();
	struct gmem_save s;
	struct err e = ERR_INIT;

	(void)state;
	sys_fault_arm(SYS_CALL_ftruncate, 2, 1, EIO);
	assert_int_equal(gmem_save_begin(&s, &g, f.fds, &e), -EIO);
	sys_fault_clear();
	assert_int_equal(gmem_save_begin(&s, &g, f.fds, &e), 0);
	sys_fault_arm(SYS_CALL_pwrite, 1, 1, EIO);
	assert_false(gmem_save_step(&s, GMEM_HIGH));
	sys_fault_clear();
	assert_false(gmem_save_step(&s, GMEM_HIGH));
	assert_false(gmem_save_step(&s, GMEM_LOW));
	assert_int_equal(gmem_save_end(&s, id, &e), -EIO);
	assert_non_null(strstr(e.msg, "high memory file"));
	/* A file system that cannot set room aside is good enough; a full one is not. */
	assert_int_equal(gmem_save_begin(&s, &g, f.fds, &e), 0);
	sys_fault_arm(SYS_CALL_fallocate, 1, 1, EOPNOTSUPP);
	assert_true(gmem_save_step(&s, GMEM_LOW));
	sys_fault_arm(SYS_CALL_fallocate, 1, 1, ENOSPC);
	assert_false(gmem_save_step(&s, GMEM_LOW));
	sys_fault_clear();
	assert_int_equal(gmem_save_end(&s, id, &e), -ENOSPC);
	gmem_fini(&g);
	files_close(&f);
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(goes_round), cmocka_unit_test(two_threads),
		cmocka_unit_test(untouched),
		cmocka_unit_test(restored_and_saved), cmocka_unit_test(many_holes),
		cmocka_unit_test(last_pages), cmocka_unit_test(other_files),
		cmocka_unit_test(full),       cmocka_unit_test(one_fails),
	};

	return TEST_RUN(tests);
}
