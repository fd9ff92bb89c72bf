/* SPDX-License-Identifier: Apache-2.0 */
#include "base/test.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/fd.h"
#include "base/str.h"
#include "shim/ilog.h"
#include "sys/file.h"

enum { T0 = 1000000000 }; /* 1970-01-01T00:00:01Z */

struct dir {
	char path[64];
	int  fd;
};

static int setup(void **state)
{
	struct dir *d = calloc(1, sizeof(*d));

	(void)snprintf(d->path, sizeof(d->path), "/tmp/holm-test-ilog-XXXXXX");
	assert_non_null(mkdtemp(d->path));
	d->fd = sys_openat(AT_FDCWD, d->path, O_RDONLY | O_DIRECTORY, 0);
	*state = d;
	return 0;
}

static int teardown(void **state)
{
	struct dir *d = *state;

	fd_close(&d->fd);
	assert_int_equal(sys_remove_tree(AT_FDCWD, d->path), 0);
	free(d);
	return 0;
}

static void put(struct ilog *l, enum ilog_stream s, const char *text)
{
	ilog_write(l, s, text, strlen(text), T0);
}

static void expect_file(const struct dir *d, const char *name, const char *want)
{
	auto_buf struct buf b = BUF_INIT;

	assert_int_equal(sys_read_file(d->fd, name, 1 << 20, &b), 0);
	assert_string_equal(buf_str(&b), want);
}

#define AT "1970-01-01T00:00:01.000000000Z "

static void records(void **state)
{
	struct dir *d = *state;
	struct ilog l;

	ilog_init(&l, d->fd, "log", 1 << 20, 2);
	put(&l, ILOG_STDOUT, "one\ntwo\npart");
	put(&l, ILOG_STDERR, "err\n");
	put(&l, ILOG_STDOUT, " end\n\n");
	expect_file(d, "log", AT "stdout F one\n" AT "stdout F two\n" AT "stdout P part\n"
		    AT "stderr F err\n" AT "stdout F  end\n" AT "stdout F \n");
	ilog_fini(&l);

	/* A log that is there already is continued. */
	ilog_init(&l, d->fd, "log", 1 << 20, 2);
	assert_int_equal(l.lost_records, 0);
	put(&l, ILOG_SYSTEM, "more\n");
	assert_true(l.size > 200);
	ilog_fini(&l);
}

static void no_log(void **state)
{
	struct dir *d = *state;
	struct ilog l;

	ilog_init(&l, d->fd, NULL, 1, 1);
	put(&l, ILOG_STDOUT, "one\n");
	assert_int_equal(l.lost_records, 0);
	assert_int_equal(l.fd, -1);
	ilog_fini(&l);
}

static uint64_t size_of(const struct dir *d, const char *name)
{
	struct stat st;
	int r = sys_fstatat(d->fd, name, &st, 0);

	assert_true(r == 0 || r == -ENOENT);
	return r == 0 ? (uint64_t)st.st_size : 0;
}

/* However much is written, there are `max_files` files of at most `max_bytes`. */
static void rotation_is_bounded(void **state)
{
	struct dir *d = *state;

	for (unsigned files = 1; files <= 4; files++) {
		struct ilog l;
		char name[16], text[32];

		ilog_init(&l, d->fd, "log", 1000, files);
		for (int i = 0; i < 500; i++) {
			(void)snprintf(text, sizeof(text), "line %d\n", i);
			put(&l, ILOG_STDOUT, text);
		}
		assert_int_equal(l.lost_records, 0);
		for (unsigned i = 0; i < 6; i++) {
			(void)snprintf(name, sizeof(name), i ? "log.%u" : "log", i);
			uint64_t size = size_of(d, name);

			assert_true(size <= 1000);
			assert_int_equal(size > 0, i < files);
		}
		auto_buf struct buf b = BUF_INIT;

		assert_int_equal(sys_read_file(d->fd, "log", 4096, &b), 0);
		assert_true(str_ends(buf_str(&b), "line 499\n"));
		ilog_fini(&l);
		for (unsigned i = 0; i < 6; i++) {
			(void)snprintf(name, sizeof(name), i ? "log.%u" : "log", i);
			(void)unlinkat(d->fd, name, 0); /* may not be there */
		}
	}
}

static void long_lines_are_split(void **state)
{
	struct dir *d = *state;
	auto_buf struct buf in = BUF_INIT, out = BUF_INIT;
	struct ilog l;

	for (int i = 0; i < 40000; i++) {
		buf_add_char(&in, 'x');
	}
	buf_add_char(&in, '\n');
	ilog_init(&l, d->fd, "log", 1 << 20, 2);
	ilog_write(&l, ILOG_STDOUT, in.data, in.len, T0);
	assert_int_equal(sys_read_file(d->fd, "log", 1 << 20, &out), 0);
	const char *p = buf_str(&out);

	assert_int_equal(strncmp(p, AT "stdout P xxx", strlen(AT) + 12), 0);
	p = strchr(p, '\n') + 1;
	assert_int_equal(strncmp(p, AT "stdout P xxx", strlen(AT) + 12), 0);
	p = strchr(p, '\n') + 1;
	assert_int_equal(strncmp(p, AT "stdout F xxx", strlen(AT) + 12), 0);
	assert_int_equal(out.len, 40000 + 3 * (strlen(AT) + strlen("stdout P ") + 1));
	ilog_fini(&l);
}

static void full_disk_loses_and_tells(void **state)
{
	struct dir *d = *state;
	struct ilog l;

	ilog_init(&l, d->fd, "log", 1 << 20, 2);
	put(&l, ILOG_STDOUT, "one\n");
	sys_fault_arm(SYS_CALL_write, 1, 0, ENOSPC);
	put(&l, ILOG_STDOUT, "two\nthree\n");
	assert_int_equal(l.lost_records, 2);
	assert_int_equal(l.lost_bytes, 8);
	sys_fault_clear();
	put(&l, ILOG_STDOUT, "four\n");
	assert_int_equal(l.lost_records, 2);
	expect_file(d, "log", AT "stdout F one\n"
		    AT "system F 2 records (8 bytes) lost: No space left on device\n"
		    AT "stdout F four\n");

	/* No file can be made at all; later it can. */
	ilog_fini(&l);
	ilog_init(&l, d->fd, "log2", 1 << 20, 2);
	sys_fault_arm(SYS_CALL_openat, 1, 1, EMFILE);
	put(&l, ILOG_STDOUT, "five\n");
	sys_fault_clear();
	assert_int_equal(l.lost_records, 1);
	put(&l, ILOG_STDOUT, "six\n");
	expect_file(d, "log2", AT "system F 1 records (4 bytes) lost: Too many open files\n"
		    AT "stdout F six\n");
	ilog_fini(&l);
}

/* If the files cannot be moved, the bound holds all the same. */
static void rename_refused(void **state)
{
	struct dir *d = *state;
	struct ilog l;

	ilog_init(&l, d->fd, "log", 200, 3);
	sys_fault_arm(SYS_CALL_renameat2, 1, 0, EROFS);
	for (int i = 0; i < 50; i++) {
		put(&l, ILOG_STDOUT, "some text\n");
		assert_true(size_of(d, "log") <= 200);
	}
	sys_fault_clear();
	ilog_fini(&l);
}

/* A log put in place of a link or a device by someone is not followed. */
static void not_a_plain_file(void **state)
{
	struct dir *d = *state;
	struct ilog l;

	assert_int_equal(sys_symlinkat("/dev/null", d->fd, "log"), 0);
	ilog_init(&l, d->fd, "log", 1000, 3);
	put(&l, ILOG_STDOUT, "text\n");
	assert_int_equal(l.lost_records, 1);
	ilog_fini(&l);
}

int main(void)
{
#define T(fn) cmocka_unit_test_setup_teardown(fn, setup, teardown)
	const struct CMUnitTest tests[] = {
		T(records), T(no_log), T(rotation_is_bounded), T(long_lines_are_split),
		T(full_disk_loses_and_tells), T(rename_refused), T(not_a_plain_file),
	};

	return TEST_RUN(tests);
}
