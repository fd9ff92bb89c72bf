/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <ftw.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <cmocka.h>

#include "image/store.h"
#include "image/test-store-util.h"
#include "sys/file.h"

struct fixture {
	char          path[64];
	struct store *s;
	struct err    e;
};

static int setup(void **state)
{
	struct fixture *f = calloc(1, sizeof(*f));

	snprintf(f->path, sizeof(f->path), "/tmp/holm-test-store-XXXXXX");
	assert_non_null(mkdtemp(f->path));
	assert_int_equal(store_open(f->path, STORE_CREATE, &f->s, &f->e), 0);
	*state = f;
	return 0;
}

static int teardown(void **state)
{
	struct fixture *f = *state;

	store_close(f->s);
	assert_int_equal(sys_remove_tree(AT_FDCWD, f->path), 0);
	free(f);
	return 0;
}

static void test_open(void **state)
{
	struct fixture *f = *state;
	struct store *other = NULL;
	struct stat st;

	assert_int_equal(store_open("/nonexistent/holm", 0, &other, &f->e), -ENOENT);
	assert_int_equal(f->e.code, ERR_NOT_FOUND);

	/* A folder that is no store is left as it is. */
	char path[80];

	snprintf(path, sizeof(path), "%s/tmp/other", f->path);
	assert_int_equal(sys_mkdirat(AT_FDCWD, path, 0755), 0);
	assert_int_equal(store_open(path, 0, &other, &f->e), -ENOENT);
	auto_close int some = sys_openat(AT_FDCWD, path, O_RDONLY | O_DIRECTORY, 0);

	assert_int_equal(sys_mkdirat(some, "documents", 0755), 0);
	assert_int_equal(store_open(path, STORE_CREATE, &other, &f->e), -ENOTEMPTY);
	assert_int_equal(sys_fstat(some, &st), 0);
	assert_int_equal(st.st_mode & 07777, 0755);
	assert_int_equal(sys_fstat(store_dir_fd(f->s), &st), 0);
	assert_int_equal(st.st_mode & 07777, 0700);

	assert_int_equal(store_open(f->path, STORE_READ_ONLY, &other, &f->e), 0);
	assert_int_equal(store_use_begin(other, &f->e), -EROFS);
	assert_int_equal(store_blob_put(other, "x", 1, NULL, NULL, &f->e), -EROFS);
	store_close(other);

	auto_close int fd = sys_openat(store_dir_fd(f->s), "holm-store", O_WRONLY | O_TRUNC, 0);

	assert_int_equal(sys_write_full(fd, "{\"version\":2}\n", 14), 0);
	assert_int_equal(store_open(f->path, 0, &other, &f->e), -EPROTONOSUPPORT);
	assert_int_equal(f->e.code, ERR_UNSUPPORTED);
}

static void test_blobs(void **state)
{
	struct fixture *f = *state;
	struct blob_info info;
	struct digest_text d = digest_of("hello", 5);
	auto_buf struct buf b = BUF_INIT;

	assert_false(store_blob_has(f->s, d.text, 5));
	assert_int_equal(store_blob_put(f->s, "hello", 5, d.text, &info, &f->e), 0);
	assert_string_equal(info.digest, d.text);
	assert_int_equal(info.size, 5);
	assert_true(store_blob_has(f->s, d.text, 5));
	assert_true(store_blob_has(f->s, d.text, UINT64_MAX));
	assert_false(store_blob_has(f->s, d.text, 6));
	assert_int_equal(store_blob_read(f->s, d.text, 100, &b, &f->e), 0);
	assert_string_equal(buf_str(&b), "hello");
	assert_int_equal(store_blob_read(f->s, d.text, 4, &b, &f->e), -EFBIG);

	/* What does not match its digest or size never gets in. */
	assert_int_equal(store_blob_put(f->s, "hellO", 5, d.text, &info, &f->e), -EBADMSG);
	assert_int_equal(f->e.code, ERR_INVALID);
	assert_int_equal(store_blob_put(f->s, "x", 1, "sha256:../../x", &info, &f->e), -EINVAL);
	assert_int_equal(store_names(f->s, "tmp"), 0);

	auto_blob_writer struct blob_writer *w = NULL;

	assert_int_equal(blob_writer_open(f->s, NULL, 3, 0, &w, &f->e), 0);
	assert_int_equal(blob_writer_write(w, "ab", 2, &f->e), 0);
	assert_int_equal(blob_writer_commit(w, &info, &f->e), -EBADMSG); /* too short */
	blob_writer_free(take_ptr(&w));
	assert_int_equal(blob_writer_open(f->s, NULL, 3, 0, &w, &f->e), 0);
	assert_int_equal(blob_writer_write(w, "abcd", 4, &f->e), -EBADMSG); /* too long */
	blob_writer_free(take_ptr(&w));
	assert_int_equal(store_names(f->s, "tmp"), 0);
}

static void test_damaged_blob(void **state)
{
	struct fixture *f = *state;
	struct digest_text d = digest_of("hello", 5);
	auto_buf struct buf b = BUF_INIT;
	char path[200], chunk[64];

	assert_int_equal(store_blob_put(f->s, "hello", 5, NULL, NULL, &f->e), 0);
	snprintf(path, sizeof(path), "blobs/sha256/%s", digest_hex(d.text));
	auto_close int fd = sys_openat(store_dir_fd(f->s), path, O_WRONLY, 0);

	assert_int_equal(sys_pwrite(fd, "J", 1, 0), 1);
	assert_int_equal(store_blob_read(f->s, d.text, 100, &b, &f->e), -EBADMSG);

	auto_blob_reader struct blob_reader *r = NULL;

	assert_int_equal(blob_reader_open(f->s, d.text, &r, &f->e), 0);
	assert_int_equal(blob_reader_size(r), 5);
	assert_int_equal(blob_reader_read(r, chunk, sizeof(chunk), &f->e), 5);
	assert_int_equal(blob_reader_read(r, chunk, sizeof(chunk), &f->e), -EBADMSG);
}

static void test_resume(void **state)
{
	struct fixture *f = *state;
	struct digest_text d = digest_of("hello world", 11);
	struct blob_writer *w = NULL, *second = NULL;
	struct blob_info info;

	assert_int_equal(blob_writer_open(f->s, d.text, 11, BLOB_RESUME, &w, &f->e), 0);
	assert_int_equal(blob_writer_offset(w), 0);
	assert_int_equal(blob_writer_write(w, "hello", 5, &f->e), 0);
	assert_int_equal(blob_writer_open(f->s, d.text, 11, BLOB_RESUME, &second, &f->e), -EBUSY);
	assert_int_equal(f->e.code, ERR_CONFLICT);
	blob_writer_free(w); /* the line broke */

	assert_int_equal(blob_writer_open(f->s, d.text, 11, BLOB_RESUME, &w, &f->e), 0);
	assert_int_equal(blob_writer_offset(w), 5);
	assert_int_equal(blob_writer_write(w, " world", 6, &f->e), 0);
	assert_int_equal(blob_writer_commit(w, &info, &f->e), 0);
	blob_writer_free(w);
	assert_true(store_blob_has(f->s, d.text, 11));
	assert_int_equal(store_names(f->s, "partial"), 0);

	/* Bytes that turn out wrong are not kept for the next time. */
	d = digest_of("other", 5);
	assert_int_equal(blob_writer_open(f->s, d.text, 5, BLOB_RESUME, &w, &f->e), 0);
	assert_int_equal(blob_writer_write(w, "wrong", 5, &f->e), 0);
	assert_int_equal(blob_writer_commit(w, &info, &f->e), -EBADMSG);
	blob_writer_free(w);
	assert_int_equal(store_names(f->s, "partial"), 0);

	assert_int_equal(blob_writer_open(f->s, d.text, 5, BLOB_RESUME, &w, &f->e), 0);
	assert_int_equal(blob_writer_write(w, "wro", 3, &f->e), 0);
	assert_int_equal(blob_writer_restart(w, &f->e), 0);
	assert_int_equal(blob_writer_offset(w), 0);
	assert_int_equal(blob_writer_write(w, "other", 5, &f->e), 0);
	assert_int_equal(blob_writer_commit(w, &info, &f->e), 0);
	blob_writer_free(w);
}

static void test_put_and_resolve(void **state)
{
	struct fixture *f = *state;
	auto_arena struct arena a = ARENA_INIT;
	struct test_image one, two;
	struct store_entry x;
	struct store_image img;
	struct store_entries all;

	test_image_make(f->s, "one", 2, &one);
	test_image_make(f->s, "two", 1, &two);
	assert_int_equal(test_image_put(f->s, &one, "docker.io/library/debian:latest", &f->e), 0);
	assert_int_equal(test_image_put(f->s, &two, "reg.example:5000/app:1", &f->e), 0);

	static const char *const names_of_one[] = {
		"debian", "debian:latest", "docker.io/debian", "library/debian",
	};

	for (size_t i = 0; i < ARRAY_LEN(names_of_one); i++) {
		assert_int_equal(store_image_resolve(f->s, names_of_one[i], &a, &x, &f->e), 0);
		assert_string_equal(x.manifest, one.manifest);
		assert_string_equal(x.id, one.config);
	}
	char text[300];

	snprintf(text, sizeof(text), "reg.example:5000/app@%s", two.manifest);
	assert_int_equal(store_image_resolve(f->s, text, &a, &x, &f->e), 0);
	snprintf(text, sizeof(text), "reg.example:5000/other@%s", two.manifest);
	assert_int_equal(store_image_resolve(f->s, text, &a, &x, &f->e), -ENOENT);
	assert_int_equal(store_image_resolve(f->s, two.config, &a, &x, &f->e), 0);
	assert_int_equal(store_image_resolve(f->s, two.manifest, &a, &x, &f->e), 0);
	snprintf(text, sizeof(text), "%.12s", digest_hex(two.config));
	assert_int_equal(store_image_resolve(f->s, text, &a, &x, &f->e), 0);
	assert_string_equal(x.manifest, two.manifest);
	assert_int_equal(store_image_resolve(f->s, "debian:13", &a, &x, &f->e), -ENOENT);
	assert_int_equal(f->e.code, ERR_NOT_FOUND);

	assert_int_equal(store_image_load(f->s, one.manifest, &a, &img, &f->e), 0);
	assert_int_equal(img.n_layers, 2);
	assert_string_equal(img.chain_ids[0], img.config.rootfs.diff_ids.v[0]);
	assert_string_equal(img.config.config->cmd.v[0], "one");
	assert_int_equal(store_image_list(f->s, &a, &all, &f->e), 0);
	assert_int_equal(all.n, 2);

	/* The same again changes nothing. */
	assert_int_equal(test_image_put(f->s, &one, "docker.io/library/debian:latest", &f->e), 0);
	assert_int_equal(store_image_list(f->s, &a, &all, &f->e), 0);
	assert_int_equal(all.n, 2);
}

static void test_incomplete_image_is_refused(void **state)
{
	struct fixture *f = *state;
	struct test_image img;
	char path[200];

	test_image_make(f->s, "one", 2, &img);
	snprintf(path, sizeof(path), "blobs/sha256/%s", digest_hex(img.layers[1]));
	assert_int_equal(sys_unlinkat(store_dir_fd(f->s), path, 0), 0);
	assert_int_equal(test_image_put(f->s, &img, "docker.io/library/x:1", &f->e), -ENOENT);
	snprintf(path, sizeof(path), "blobs/sha256/%s", digest_hex(img.config));
	assert_int_equal(sys_unlinkat(store_dir_fd(f->s), path, 0), 0);
	assert_int_equal(test_image_put(f->s, &img, "docker.io/library/x:1", &f->e), -ENOENT);
}

static void test_names_move(void **state)
{
	struct fixture *f = *state;
	auto_arena struct arena a = ARENA_INIT;
	struct test_image one, two;
	struct store_entries all;
	struct store_entry x;

	test_image_make(f->s, "one", 1, &one);
	test_image_make(f->s, "two", 1, &two);
	assert_int_equal(test_image_put(f->s, &one, "docker.io/library/a:latest", &f->e), 0);
	assert_int_equal(test_image_put(f->s, &two, "docker.io/library/a:latest", &f->e), 0);
	assert_int_equal(store_image_resolve(f->s, "a", &a, &x, &f->e), 0);
	assert_string_equal(x.manifest, two.manifest);
	assert_int_equal(store_image_list(f->s, &a, &all, &f->e), 0);
	assert_int_equal(all.n, 2); /* one without a name */
	assert_null(all.v[0].name);

	assert_int_equal(store_image_tag(f->s, one.config, "b:2", &f->e), 0);
	assert_int_equal(store_image_list(f->s, &a, &all, &f->e), 0);
	assert_int_equal(all.n, 2); /* the entry without a name went */
	assert_int_equal(store_image_tag(f->s, "a", "b:3", &f->e), 0);
	assert_int_equal(store_image_list(f->s, &a, &all, &f->e), 0);
	assert_int_equal(all.n, 3);
	assert_int_equal(store_image_tag(f->s, "a", "b c", &f->e), -EINVAL);
	assert_int_equal(store_image_tag(f->s, "none", "b", &f->e), -ENOENT);

	struct store_removed gone = { .untagged = STRV_INIT };

	assert_int_equal(store_image_remove(f->s, "a", 0, &gone, &f->e), 0);
	assert_int_equal(gone.untagged.n, 1);
	assert_int_equal(gone.deleted.n, 0); /* b:3 is still there */
	store_removed_fini(&gone);
	assert_int_equal(store_image_remove(f->s, two.config, 0, &gone, &f->e), 0);
	assert_string_equal(gone.untagged.v[0], "docker.io/library/b:3");
	assert_string_equal(gone.deleted.v[0], two.manifest);
	store_removed_fini(&gone);
	assert_int_equal(store_image_remove(f->s, "a", 0, &gone, &f->e), -ENOENT);
}

static int count_pin(const char *user, const char *manifest, void *ud)
{
	(void)user;
	assert_true(oci_digest_valid(manifest));
	++*(int *)ud;
	return 0;
}

static void test_pins(void **state)
{
	struct fixture *f = *state;
	auto_arena struct arena a = ARENA_INIT;
	struct test_image one;
	struct store_gc_result gc;
	struct store_image img;
	int n = 0;

	test_image_make(f->s, "one", 1, &one);
	assert_int_equal(test_image_put(f->s, &one, "docker.io/library/a:latest", &f->e), 0);
	assert_int_equal(store_pin(f->s, one.manifest, "../x", false, &f->e), -EINVAL);
	assert_int_equal(store_pin(f->s, digest_of("?", 1).text, "i1", false, &f->e), -ENOENT);
	assert_int_equal(store_pin(f->s, one.manifest, "i1", true, &f->e), 0);
	assert_int_equal(store_pin(f->s, one.manifest, "i1", false, &f->e), 0); /* again */
	assert_int_equal(store_pin(f->s, one.manifest, "i2", false, &f->e), 0);
	assert_int_equal(store_pins(f->s, count_pin, &n, &f->e), 0);
	assert_int_equal(n, 2);
	assert_int_equal(store_unpin(f->s, "i2", &f->e), 0);
	assert_int_equal(store_unpin(f->s, "i2", &f->e), 0);

	assert_int_equal(store_image_remove(f->s, "a", 0, NULL, &f->e), -EBUSY);
	assert_int_equal(f->e.code, ERR_CONFLICT);
	assert_non_null(strstr(f->e.msg, "i1"));
	assert_int_equal(store_image_remove(f->s, "a", STORE_FORCE, NULL, &f->e), 0);
	assert_int_equal(store_gc(f->s, 0, &gc, &f->e), 0);
	assert_int_equal(gc.blobs, 0);
	assert_int_equal(store_image_load(f->s, one.manifest, &a, &img, &f->e), 0);
	assert_int_equal(store_unpin(f->s, "i1", &f->e), 0);
	assert_int_equal(store_gc(f->s, 0, &gc, &f->e), 0);
	assert_int_equal(gc.blobs, 3);
	assert_int_equal(store_names(f->s, "blobs/sha256"), 0);
	assert_int_equal(store_names(f->s, "trash"), 0);
}

static void test_gc(void **state)
{
	struct fixture *f = *state;
	struct test_image one, two;
	struct store_gc_result gc;
	struct store *other = NULL;
	struct store_usage u;

	test_image_make(f->s, "one", 2, &one);
	test_image_make(f->s, "two", 2, &two); /* never put */
	assert_int_equal(test_image_put(f->s, &one, NULL, &f->e), 0);
	auto_close int fd = sys_openat(store_dir_fd(f->s), "blobs/sha256/README",
				       O_CREAT | O_WRONLY, 0600);

	assert_true(fd >= 0);
	assert_int_equal(store_open(f->path, 0, &other, &f->e), 0);
	assert_int_equal(store_use_begin(f->s, &f->e), 0);
	assert_int_equal(store_gc(other, STORE_GC_NO_WAIT, &gc, &f->e), -EBUSY);
	store_use_end(f->s);
	assert_int_equal(store_gc(other, STORE_GC_NO_WAIT, &gc, &f->e), 0);
	assert_int_equal(gc.blobs, 4);
	assert_true(store_blob_has(f->s, one.layers[0], UINT64_MAX));
	assert_false(store_blob_has(f->s, two.manifest, UINT64_MAX));
	assert_int_equal(store_names(f->s, "blobs/sha256"), 5); /* what is not ours stays */
	assert_int_equal(store_usage(f->s, &u, &f->e), 0);
	assert_int_equal(u.images, 1);
	assert_int_equal(u.names, 0);
	assert_int_equal(u.blobs, 4);

	struct store_removed gone = { .untagged = STRV_INIT };

	assert_int_equal(store_prune(other, false, &gone, &gc, &f->e), 0);
	assert_int_equal(gone.deleted.n, 1);
	assert_int_equal(gc.blobs, 4);
	store_removed_fini(&gone);
	store_close(other);
}

static void note_fault(const char *what, const char *digest, void *ud)
{
	(void)what;
	snprintf(ud, OCI_DIGEST_MAX, "%s", digest);
}

static void test_verify(void **state)
{
	struct fixture *f = *state;
	struct test_image one;
	char path[200], seen[OCI_DIGEST_MAX] = "";

	test_image_make(f->s, "one", 2, &one);
	assert_int_equal(test_image_put(f->s, &one, "docker.io/library/a:1", &f->e), 0);
	assert_int_equal(store_verify(f->s, note_fault, seen, &f->e), 0);
	snprintf(path, sizeof(path), "blobs/sha256/%s", digest_hex(one.layers[1]));
	auto_close int fd = sys_openat(store_dir_fd(f->s), path, O_WRONLY, 0);

	assert_int_equal(sys_pwrite(fd, "#", 1, 0), 1);
	assert_int_equal(store_verify(f->s, note_fault, seen, &f->e), 1);
	assert_string_equal(seen, one.layers[1]);
}

/* Of a damaged image nobody knows what it needs: nothing is taken from under anyone. */
static void test_gc_spares_what_it_cannot_read(void **state)
{
	struct fixture *f = *state;
	struct test_image one, two;
	struct store_gc_result gc;
	char path[200];

	test_image_make(f->s, "one", 2, &one);
	test_image_make(f->s, "two", 2, &two);
	assert_int_equal(test_image_put(f->s, &one, "docker.io/library/a:1", &f->e), 0);
	snprintf(path, sizeof(path), "blobs/sha256/%s", digest_hex(one.manifest));
	auto_close int fd = sys_openat(store_dir_fd(f->s), path, O_WRONLY, 0);

	assert_int_equal(sys_pwrite(fd, "#", 1, 0), 1);
	assert_int_equal(store_gc(f->s, 0, &gc, &f->e), -EBADMSG);
	assert_non_null(strstr(f->e.msg, one.manifest));
	assert_true(store_blob_has(f->s, two.layers[0], UINT64_MAX));
	assert_int_equal(store_image_remove(f->s, "a:1", 0, NULL, &f->e), 0);
	assert_int_equal(store_gc(f->s, 0, &gc, &f->e), 0);
	assert_int_equal(store_names(f->s, "blobs/sha256"), 0);
}

/* Every call that may fail, one by one: an error comes out, and nothing half-made stays. */
static void test_failing_calls(void **state)
{
	struct fixture *f = *state;
	auto_arena struct arena a = ARENA_INIT;
	struct test_image one;
	unsigned nth = 1;
	int r = -1;

	test_image_make(f->s, "one", 1, &one);
	for (; r < 0; nth++) {
		struct store_entries all;
		struct err e = ERR_INIT;

		assert_in_range(nth, 1, 100);
		sys_fault_arm_any(nth, ENOSPC);
		r = test_image_put(f->s, &one, "docker.io/library/a:1", &e);
		sys_fault_clear();
		if (r < 0) {
			assert_int_not_equal(e.code, ERR_NONE);
		}
		assert_int_equal(store_image_list(f->s, &a, &all, &e), 0);
		assert_int_equal(store_names(f->s, "tmp"), 0);
		if (all.n) {
			break; /* in place; only its sync was refused */
		}
	}
	assert_true(nth > 5);

	for (nth = 1, r = -1; r < 0; nth++) {
		struct err e = ERR_INIT;

		assert_in_range(nth, 1, 100);
		sys_fault_arm_any(nth, ENOSPC);
		r = store_blob_put(f->s, "xyz", 3, NULL, NULL, &e);
		sys_fault_clear();
		/* Only removing the temporary file itself can leave it behind. */
		assert_int_equal(store_names(f->s, "tmp"), 0);
		if (r < 0 && e.code == ERR_LIMIT) {
			assert_non_null(strstr(e.msg, "no space left"));
		}
	}
	assert_true(nth > 4);
}

#define CASE(fn) cmocka_unit_test_setup_teardown(fn, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		CASE(test_open), CASE(test_blobs), CASE(test_damaged_blob), CASE(test_resume),
		CASE(test_put_and_resolve), CASE(test_incomplete_image_is_refused),
		CASE(test_names_move), CASE(test_pins), CASE(test_gc), CASE(test_verify),
		CASE(test_gc_spares_what_it_cannot_read),
		CASE(test_failing_calls),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
