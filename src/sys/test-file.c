/* SPDX-License-Identifier: Apache-2.0 */
#include "base/test.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/str.h"
#include "sys/file.h"

static int temp_dir(char *path)
{
	assert_non_null(mkdtemp(path));
	int fd = sys_openat(AT_FDCWD, path, O_RDONLY | O_DIRECTORY, 0);

	assert_true(fd >= 0);
	return fd;
}

static void put(int dir_fd, const char *name, const char *text)
{
	assert_int_equal(sys_replace_file(dir_fd, name, text, strlen(text), 0640), 0);
}

static void check(int dir_fd, const char *name, const char *text)
{
	auto_buf struct buf b = BUF_INIT;

	assert_int_equal(sys_read_file(dir_fd, name, 1000, &b), 0);
	assert_string_equal(buf_str(&b), text);
}

static unsigned entries(const char *path)
{
	auto_free char *find = str_printf("%s", path);
	auto_close int fd = sys_openat(AT_FDCWD, find, O_RDONLY | O_DIRECTORY, 0);
	struct stat st;

	assert_int_equal(sys_fstat(fd, &st), 0);
	return (unsigned)st.st_nlink - 2; /* folders only */
}

static void test_replace_is_whole(void **state)
{
	(void)state;
	char path[] = "/tmp/holm-test-XXXXXX";
	auto_close int dir = temp_dir(path);
	struct stat st;

	put(dir, "f", "old");
	put(dir, "f", "new and longer");
	check(dir, "f", "new and longer");
	assert_int_equal(sys_fstatat(dir, "f", &st, 0), 0);
	assert_int_equal(st.st_mode & 07777, 0640);
	assert_int_equal(sys_remove_tree(AT_FDCWD, path), 0);
}

/* Whichever call fails: the old content or the new one, and no other file. */
static void test_replace_under_faults(void **state)
{
	(void)state;
	char path[] = "/tmp/holm-test-XXXXXX";
	auto_close int dir = temp_dir(path);
	int r = -1;

	for (unsigned n = 1; r != 0; n++) {
		assert_true(n < 50);
		put(dir, "f", "old");
		sys_fault_arm_any(n, EIO);
		r = sys_replace_file(dir, "f", "new", 3, 0600);
		bool hit = sys_fault_hits() > 0;

		sys_fault_clear();
		assert_int_equal(r, hit ? -EIO : 0);

		auto_buf struct buf b = BUF_INIT;

		assert_int_equal(sys_read_file(dir, "f", 10, &b), 0);
		assert_true(str_eq(buf_str(&b), "old") || str_eq(buf_str(&b), "new"));
		assert_int_equal(sys_unlinkat(dir, "f", 0), 0);
		assert_int_equal(sys_unlinkat(AT_FDCWD, path, AT_REMOVEDIR), 0);
		assert_int_equal(sys_mkdirat(AT_FDCWD, path, 0700), 0);
		fd_close(&dir);
		dir = sys_openat(AT_FDCWD, path, O_RDONLY | O_DIRECTORY, 0);
	}
	assert_int_equal(sys_remove_tree(AT_FDCWD, path), 0);
}

static void test_reading_is_bounded(void **state)
{
	(void)state;
	char path[] = "/tmp/holm-test-XXXXXX";
	auto_close int dir = temp_dir(path);
	auto_buf struct buf b = BUF_INIT;

	put(dir, "f", "12345");
	assert_int_equal(sys_read_file(dir, "f", 4, &b), -EFBIG);
	buf_reset(&b);
	assert_int_equal(sys_read_file(dir, "f", 5, &b), 0);
	assert_int_equal(sys_read_file(dir, "absent", 5, &b), -ENOENT);
	assert_int_equal(sys_remove_tree(AT_FDCWD, path), 0);
}

static void test_remove_does_not_follow_links(void **state)
{
	(void)state;
	char path[] = "/tmp/holm-test-XXXXXX", outside[] = "/tmp/holm-test-XXXXXX";
	auto_close int dir = temp_dir(path);
	auto_close int out = temp_dir(outside);

	put(out, "kept", "x");
	assert_int_equal(sys_mkdir_p(dir, "a/b/c", 0700), 0);
	assert_int_equal(sys_mkdir_p(dir, "a/b/c", 0700), 0);
	put(dir, "a/b/f", "x");
	assert_int_equal(sys_symlinkat(outside, dir, "a/link"), 0);
	assert_int_equal(entries(path), 1);
	assert_int_equal(sys_remove_tree(AT_FDCWD, path), 0);
	check(out, "kept", "x");
	assert_int_equal(sys_remove_tree(AT_FDCWD, path), 0);
	assert_int_equal(sys_remove_tree(AT_FDCWD, outside), 0);
}

static void test_opendir(void **state)
{
	(void)state;
	char path[] = "/tmp/holm-test-XXXXXX";
	auto_close int dir = temp_dir(path);
	DIR *stream = NULL;

	assert_int_equal(sys_mkdir_p(dir, "a/b", 0700), 0);
	assert_int_equal(sys_symlinkat("a", dir, "link"), 0);
	assert_int_equal(sys_opendir(dir, "link", &stream), -ENOTDIR);
	assert_int_equal(sys_opendir(dir, "absent", &stream), -ENOENT);
	assert_null(stream);
	assert_int_equal(sys_opendir(dir, "a", &stream), 0);
	assert_int_equal(sys_fcntl(dirfd(stream), F_GETFD, 0), FD_CLOEXEC);

	bool seen = false;

	for (const struct dirent *d = readdir(stream); d; d = readdir(stream)) {
		seen = seen || str_eq(d->d_name, "b");
	}
	assert_true(seen);
	assert_int_equal(closedir(stream), 0);
	assert_int_equal(sys_remove_tree(AT_FDCWD, path), 0);
}

static void test_descriptors_close_on_exec(void **state)
{
	(void)state;
	int fds[2];

	assert_int_equal(sys_pipe2(fds, 0), 0);
	auto_close int a = fds[0], b = fds[1], c = sys_memfd_create("x", 0);

	assert_int_equal(sys_fcntl(a, F_GETFD, 0), FD_CLOEXEC);
	assert_int_equal(sys_fcntl(b, F_GETFD, 0), FD_CLOEXEC);
	assert_int_equal(sys_fcntl(c, F_GETFD, 0), FD_CLOEXEC);
}

struct seen {
	unsigned n;
	enum sys_call calls[32];
};

static void observe(const struct sys_change *c, void *ud)
{
	struct seen *s = ud;

	assert_true(s->n < 32);
	s->calls[s->n++] = c->call;
}

static void test_changes_are_observed_in_order(void **state)
{
	(void)state;
	char path[] = "/tmp/holm-test-XXXXXX";
	auto_close int dir = temp_dir(path);
	struct seen s = { .n = 0 };

	sys_observe(observe, &s);
	put(dir, "f", "x");
	sys_observe(NULL, NULL);
	static const enum sys_call want[] = { SYS_CALL_openat, SYS_CALL_write, SYS_CALL_fsync,
					      SYS_CALL_renameat2, SYS_CALL_fsync };

	assert_int_equal(s.n, ARRAY_LEN(want));
	assert_memory_equal(s.calls, want, sizeof(want));
	assert_int_equal(sys_remove_tree(AT_FDCWD, path), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_replace_is_whole),
		cmocka_unit_test(test_replace_under_faults),
		cmocka_unit_test(test_reading_is_bounded),
		cmocka_unit_test(test_remove_does_not_follow_links),
		cmocka_unit_test(test_opendir),
		cmocka_unit_test(test_descriptors_close_on_exec),
		cmocka_unit_test(test_changes_are_observed_in_order),
	};

	return TEST_RUN(tests);
}
