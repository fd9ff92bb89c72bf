/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Unpacking under failures and on lesser hosts. What archives do is in
 * tests/image/test_unpack.py.
 */
#include <archive.h>
#include <archive_entry.h>
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <cmocka.h>
#include <sys/wait.h>

#include "base/log.h"
#include "image/digest.h"
#include "image/unpack-private.h"
#include "sys/file.h"
#include "sys/mount.h"
#include "sys/proc.h"

struct fixture {
	char       path[64];
	int        dir_fd;
	int        blob_fd;
	char       digest[OCI_DIGEST_MAX];
	struct err e;
};

static void add(struct archive *ar, const char *name, mode_t type, const char *text, int64_t uid)
{
	struct archive_entry *entry = archive_entry_new();

	archive_entry_set_pathname(entry, name);
	archive_entry_set_filetype(entry, type);
	archive_entry_set_perm(entry, type == AE_IFDIR ? 0755 : 0644);
	archive_entry_set_uid(entry, uid);
	archive_entry_set_size(entry, (int64_t)strlen(text));
	assert_int_equal(archive_write_header(ar, entry), ARCHIVE_OK);
	assert_int_equal(archive_write_data(ar, text, strlen(text)), strlen(text));
	archive_entry_free(entry);
}

/* A gzip layer: etc/, etc/file of user 1000. */
static void make_blob(struct fixture *f)
{
	struct archive *ar = archive_write_new();
	char data[8192];

	f->blob_fd = sys_memfd_create("layer", 0);
	assert_int_equal(archive_write_set_format_pax_restricted(ar), ARCHIVE_OK);
	assert_int_equal(archive_write_add_filter_gzip(ar), ARCHIVE_OK);
	assert_int_equal(archive_write_open_fd(ar, f->blob_fd), ARCHIVE_OK);
	add(ar, "etc", AE_IFDIR, "", 0);
	add(ar, "etc/file", AE_IFREG, "text", 1000);
	assert_int_equal(archive_write_close(ar), ARCHIVE_OK);
	archive_write_free(ar);
	lseek(f->blob_fd, 0, SEEK_SET);
	ssize_t n = sys_read_full(f->blob_fd, data, sizeof(data));

	assert_in_range(n, 1, sizeof(data) - 1);
	snprintf(f->digest, sizeof(f->digest), "%s", digest_of(data, (size_t)n).text);
}

static int setup(void **state)
{
	struct fixture *f = calloc(1, sizeof(*f));

	snprintf(f->path, sizeof(f->path), "/tmp/holm-test-unpack-XXXXXX");
	assert_non_null(mkdtemp(f->path));
	f->dir_fd = sys_openat(AT_FDCWD, f->path, O_RDONLY | O_DIRECTORY, 0);
	make_blob(f);
	*state = f;
	return 0;
}

static int teardown(void **state)
{
	struct fixture *f = *state;

	sys_fault_clear();
	fd_close(&f->blob_fd);
	fd_close(&f->dir_fd);
	assert_int_equal(sys_remove_tree(AT_FDCWD, f->path), 0);
	free(f);
	return 0;
}

/* A new folder for a layer; the name is a number. */
static int new_folder(struct fixture *f, int n)
{
	char name[16];

	snprintf(name, sizeof(name), "%d", n);
	if (mkdirat(f->dir_fd, name, 0700) < 0) {
		fail_msg("folder %s of %d: %d", name, f->dir_fd, errno);
	}
	int fd = openat(f->dir_fd, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	assert_int_equal(mkdirat(fd, "root", 0755), 0);
	assert_int_equal(mkdirat(fd, "work", 0700), 0);
	return fd;
}

static int unpack(struct fixture *f, int dir_fd, const int *lower, size_t n_lower,
		  struct unpack_result *ret)
{
	const struct unpack_job job = {
		.blob_fd = f->blob_fd, .blob_digest = f->digest, .kind = OCI_KIND_LAYER_GZIP,
		.dir_fd = dir_fd, .lower_fds = lower, .n_lower = n_lower,
	};

	lseek(f->blob_fd, 0, SEEK_SET);
	err_clear(&f->e);
	return unpack_layer(&job, ret, &f->e);
}

static void expect_owner(int dir_fd, uid_t uid)
{
	struct stat st;

	assert_int_equal(fstatat(dir_fd, "root/etc/file", &st, AT_SYMLINK_NOFOLLOW), 0);
	assert_int_equal(st.st_uid, uid);
	assert_int_equal(st.st_size, 4);
}

static void test_mapped(void **state)
{
	struct fixture *f = *state;
	struct unpack_result done;
	auto_close int dir = new_folder(f, 1);

	assert_int_equal(unpack(f, dir, NULL, 0, &done), 0);
	assert_int_equal(done.ids, UNPACK_IDS_MAPPED);
	assert_int_equal(done.entries, 2);
	expect_owner(dir, 1000);
}

/* A file system that cannot be mapped: the same owners come out, by a plain namespace. */
static void test_without_idmap(void **state)
{
	struct fixture *f = *state;
	struct unpack_result done;
	auto_close int dir = new_folder(f, 1), upper = new_folder(f, 2);

	sys_fault_arm(SYS_CALL_open_tree_attr, 1, 1, EINVAL);
	assert_int_equal(unpack(f, dir, NULL, 0, &done), 0);
	assert_int_equal(sys_fault_hits(), 1);
	assert_int_equal(done.ids, UNPACK_IDS_PLAIN);
	expect_owner(dir, 1000);

	auto_close int lower = openat(dir, "root", O_RDONLY | O_DIRECTORY);

	sys_fault_arm(SYS_CALL_open_tree_attr, 1, 1, EINVAL);
	assert_int_equal(unpack(f, upper, &lower, 1, &done), 0);
	assert_int_equal(done.ids, UNPACK_IDS_PLAIN);
	expect_owner(upper, 1000);
}

/* Before 6.15 there is no open_tree_attr(), before 6.13 no layer by descriptor. */
static void test_older_kernels(void **state)
{
	struct fixture *f = *state;
	struct unpack_result done;
	auto_close int dir = new_folder(f, 1), upper = new_folder(f, 2);

	sys_fault_arm(SYS_CALL_open_tree_attr, 1, 0, ENOSYS);
	assert_int_equal(unpack(f, dir, NULL, 0, &done), 0);
	assert_int_equal(done.ids, UNPACK_IDS_MAPPED);
	auto_close int lower = openat(dir, "root", O_RDONLY | O_DIRECTORY);

	sys_fault_arm(SYS_CALL_fsconfig, 1, 1, EINVAL);
	assert_int_equal(unpack(f, upper, &lower, 1, &done), 0);
	assert_int_equal(done.ids, UNPACK_IDS_MAPPED);
	expect_owner(upper, 1000);
	sys_fault_clear();
}

/* No Landlock, no openat2: less of a wall, the same files. */
static void test_missing_calls(void **state)
{
	struct fixture *f = *state;
	struct unpack_result done;
	static const enum sys_call calls[] = { SYS_CALL_landlock, SYS_CALL_openat2 };

	for (int i = 0; i < (int)ARRAY_LEN(calls); i++) {
		auto_close int dir = new_folder(f, i);

		sys_fault_arm(calls[i], 1, 0, ENOSYS);
		assert_int_equal(unpack(f, dir, NULL, 0, &done), 0);
		sys_fault_clear();
		expect_owner(dir, 1000);
	}
}

static int count_fds(void)
{
	int n = 0;

	for (int fd = 0; fd < 256; fd++) {
		n += fcntl(fd, F_GETFD) >= 0;
	}
	return n;
}

/*
 * Each call fails in turn, here and in the children, which inherit the count: an error with a
 * message comes out, and no process and no descriptor is left.
 */
static void test_failing_calls(void **state)
{
	struct fixture *f = *state;
	struct unpack_result done;
	auto_close int first = new_folder(f, 0);
	int r = -1, failed = 0;

	assert_int_equal(unpack(f, first, NULL, 0, &done), 0);
	auto_close int lower = openat(first, "root", O_RDONLY | O_DIRECTORY);
	int before = count_fds();

	for (int nth = 1; nth < 400 && (r < 0 || nth < 60); nth++) {
		auto_close int dir = new_folder(f, nth);

		sys_fault_arm_any((unsigned)nth, EIO);
		r = unpack(f, dir, &lower, 1, &done);
		sys_fault_clear();
		if (r < 0) {
			failed++;
			assert_int_not_equal(f->e.code, ERR_NONE);
			assert_true(f->e.msg[0] != '\0');
		} else {
			expect_owner(dir, 1000);
		}
		fd_close(&dir);
		assert_int_equal(waitpid(-1, NULL, WNOHANG), -1); /* no child is left */
		assert_int_equal(count_fds(), before);
	}
	assert_int_equal(r, 0);
	assert_true(failed > 50);
}

#define CASE(fn) cmocka_unit_test_setup_teardown(fn, setup, teardown)

int main(void)
{
	if (geteuid() != 0) {
		fprintf(stderr, "skipped: needs root\n");
		return 77;
	}
	log_setup("test", 2, LOG_FORMAT_PLAIN, LOG_LEVEL_ERROR);
	(void)putenv("CMOCKA_TEST_ABORT=1"); /* a child that crashes must not go on as the test */
	const struct CMUnitTest tests[] = {
		CASE(test_mapped), CASE(test_without_idmap), CASE(test_older_kernels),
		CASE(test_missing_calls), CASE(test_failing_calls),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
