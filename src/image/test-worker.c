/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The parent against children: honest ones, and ones that have become something else. A
 * hostile child speaks the raw messages, over the socket that worker functions use.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "image/worker-private.h"
#include "sys/file.h"

static const struct confine child_confine = {
	.name = "test child", .memory_bytes = UINT64_C(1) << 30, .files = 64,
};

struct fixture {
	char          path[64];
	struct store *store;
	struct arena  arena;
};

static int setup(void **state)
{
	static struct fixture f;
	struct err e = ERR_INIT;

	f = (struct fixture){ .arena = ARENA_INIT };
	snprintf(f.path, sizeof(f.path), "/tmp/holm-worker-XXXXXX");
	if (!mkdtemp(f.path) || store_open(f.path, STORE_CREATE, &f.store, &e) < 0) {
		return -1;
	}
	*state = &f;
	return 0;
}

static int teardown(void **state)
{
	struct fixture *f = *state;

	store_close(f->store);
	arena_fini(&f->arena);
	return sys_remove_tree(AT_FDCWD, f->path);
}

static int run_child(struct fixture *f, int (*fn)(struct worker *, void *, struct err *),
		     struct worker_images *images, struct err *e)
{
	struct worker_run run = { .store = f->store, .confine = &child_confine, .main = fn };

	*e = (struct err)ERR_INIT;
	assert_int_equal(store_use_begin(f->store, e), 0);

	int r = worker_run(&run, &f->arena, images, e);

	store_use_end(f->store);
	return r;
}

static int honest(struct worker *w, unused_arg void *job, struct err *e)
{
	static char large[300000];
	struct worker_image image = { .name = "a:1", .media_type = OCI_MEDIA_MANIFEST };
	struct blob_info info;
	uint64_t offset;
	uint32_t blob;
	int r = worker_blob_put(w, NULL, "doc", "hello", 5, &info, e);

	if (r < 0 || !str_eq(info.digest, digest_of("hello", 5).text)) {
		return r < 0 ? r : err_set(e, EIO, ERR_HOST, "another digest");
	}
	/* The second time it is there. */
	r = worker_blob_begin(w, info.digest, 5, "doc", &blob, &offset, e);
	if (r != 1) {
		return err_set(e, EIO, ERR_HOST, "it is not there");
	}
	memset(large, 'x', sizeof(large));
	r = worker_blob_put(w, digest_of(large, sizeof(large)).text, "large", large, sizeof(large),
			    NULL, e);
	if (r < 0) {
		return r;
	}
	/* A wrong digest is the child's to know. */
	r = worker_blob_put(w, digest_of("other", 5).text, "doc", "hullo", 5, NULL, e);
	if (r != -EBADMSG) {
		return err_set(e, EIO, ERR_HOST, "a wrong digest was taken: %d", r);
	}
	snprintf(image.manifest, sizeof(image.manifest), "%s", info.digest);
	return worker_image(w, &image, e);
}

static void keeps_what_comes(void **state)
{
	struct fixture *f = *state;
	struct worker_images images = { .n = 0 };
	struct err e;

	if (run_child(f, honest, &images, &e) < 0) {
		fail_msg("%s", e.msg);
	}
	assert_int_equal(images.n, 1);
	assert_string_equal(images.v[0].name, "a:1");
	assert_true(store_blob_has(f->store, digest_of("hello", 5).text, 5));
	assert_false(store_blob_has(f->store, digest_of("other", 5).text, UINT64_MAX));
}

static int failing(unused_arg struct worker *w, unused_arg void *job, struct err *e)
{
	return err_set(e, ENOENT, ERR_NOT_FOUND, "no\x1b[31m such\nthing");
}

static int silent(unused_arg struct worker *w, unused_arg void *job, unused_arg struct err *e)
{
	_exit(0);
}

static int killed(unused_arg struct worker *w, unused_arg void *job, unused_arg struct err *e)
{
	(void)raise(SIGKILL);   /* it ends here */
	return 0;
}

static void says_how_it_ended(void **state)
{
	struct fixture *f = *state;
	struct err e;

	assert_int_equal(run_child(f, failing, NULL, &e), -ENOENT);
	assert_int_equal(e.code, ERR_NOT_FOUND);
	assert_string_equal(e.msg, "no?[31m such?thing");
	assert_true(run_child(f, silent, NULL, &e) < 0);
	assert_non_null(strstr(e.msg, "ended unexpectedly"));
	assert_true(run_child(f, killed, NULL, &e) < 0);
}

/* The child's socket: it is the only one that it has. */
static int find_socket(void)
{
	for (int fd = 3; fd < 64; fd++) {
		struct stat st;

		if (sys_fstat(fd, &st) == 0 && S_ISSOCK(st.st_mode)) {
			return fd;
		}
	}
	return -1;
}

static void send_raw(uint32_t type, uint32_t index, int32_t status, const void *data, size_t n)
{
	static uint8_t out[sizeof(struct worker__head) + WORKER__DATA_MAX];
	struct worker__head head = { .type = type, .index = index, .status = status };

	memcpy(out, &head, sizeof(head));
	if (n > 0) {
		memcpy(out + sizeof(head), data, n);
	}
	(void)send(find_socket(), out, sizeof(head) + n, MSG_NOSIGNAL); /* what it does is judged
		* by the parent's end */
}

struct hostile {
	const char *what;
	uint32_t    type, index;
	int32_t     status;
	size_t      bytes;     /* of payload */
	int         fill;
};

static const struct hostile hostile[] = {
	{ "unknown type", 999, 0, 0, 0, 0 },
	{ "a reply", W_REPLY, 0, 0, 0, 0 },
	{ "data for no blob", W_DATA, 0, 0, 10, 'x' },
	{ "data for a far blob", W_DATA, UINT32_MAX, 0, 10, 'x' },
	{ "the end of no blob", W_END, 7, 0, 0, 0 },
	{ "a restart of none", W_RESTART, 1, 0, 0, 0 },
	{ "giving up none", W_ABANDON, 1, 0, 0, 0 },
	{ "progress of nothing", W_SET, 3, 1, 0, 0 },
	{ "a short begin", W_BEGIN, 0, 0, 3, 0 },
	{ "a long begin", W_BEGIN, 0, 0, 2000, 0 },
	{ "a begin with rubbish", W_BEGIN, 0, 0, sizeof(struct worker__begin), 'x' },
	{ "an image of rubbish", W_IMAGE, 0, 0, sizeof(struct worker_image), 'x' },
	{ "an image without a digest", W_IMAGE, 0, 0, sizeof(struct worker_image), 0 },
	{ "a short image", W_IMAGE, 0, 0, 20, 0 },
	{ "a line that nobody wants", W_LINE, 0, 0, 5, 'x' },
	{ "opening, where nothing can be", W_OPEN, 0, 0, 5, 'x' },
	{ "a short failure", W_FAIL, 0, 0, 5, 'x' },
	{ "a failure of rubbish", W_FAIL, 0, 0, sizeof(struct err), 'x' },
	{ "a failure of nothing", W_FAIL, 0, 0, sizeof(struct err), 0 },
};

static int hostile_main(unused_arg struct worker *w, void *job, unused_arg struct err *e)
{
	static uint8_t data[WORKER__DATA_MAX];
	const struct hostile *h = job;

	memset(data, h->fill, h->bytes);
	send_raw(h->type, h->index, h->status, data, h->bytes);
	send_raw(W_FINISH, 0, 0, NULL, 0);
	pause();
	_exit(0);
}

static void refuses_other_messages(void **state)
{
	struct fixture *f = *state;

	for (size_t i = 0; i < ARRAY_LEN(hostile); i++) {
		struct err e = ERR_INIT;
		struct worker_run run = { .store = f->store, .confine = &child_confine,
					  .main = hostile_main,
					  .job = (void *)(uintptr_t)&hostile[i] };
		int r = worker_run(&run, &f->arena, NULL, &e);

		if (r != -EPROTO) {
			fail_msg("%s: %d %s", hostile[i].what, r, e.msg);
		}
	}
}

/* More blobs at once than there may be: an end, and nothing of them stays. */
static int flood(struct worker *w, unused_arg void *job, struct err *e)
{
	for (unsigned i = 0; i < 100000; i++) {
		uint64_t offset;
		uint32_t blob;
		int r = worker_blob_begin(w, NULL, UINT64_MAX, "flood", &blob, &offset, e);

		if (r < 0) {
			return r;
		}
	}
	return 0;
}

static void bounds_a_flood(void **state)
{
	struct fixture *f = *state;
	struct err e;

	assert_int_equal(run_child(f, flood, NULL, &e), -EPROTO);
	assert_non_null(strstr(e.msg, "too many"));
}

static int give(const char *name, uint64_t *ret_size, unused_arg void *ud, struct err *e)
{
	if (!str_eq(name, "ours")) {
		return err_set(e, EACCES, ERR_DENIED, "not this");
	}
	*ret_size = 3;
	return sys_openat(AT_FDCWD, "/dev/null", O_RDONLY, 0);
}

static int opener(struct worker *w, unused_arg void *job, struct err *e)
{
	uint64_t size = 0;
	auto_close int fd = worker_open(w, "ours", &size, e);

	if (fd < 0 || size != 3) {
		return err_set(e, EIO, ERR_HOST, "nothing came");
	}
	return worker_open(w, "/etc/shadow", NULL, e);
}

static void opens_what_it_may(void **state)
{
	struct fixture *f = *state;
	struct worker_run run = { .store = f->store, .confine = &child_confine, .main = opener,
				  .open = give };
	struct err e = ERR_INIT;

	assert_int_equal(worker_run(&run, NULL, NULL, &e), -EACCES);
	assert_string_equal(e.msg, "not this");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(keeps_what_comes, setup, teardown),
		cmocka_unit_test_setup_teardown(says_how_it_ended, setup, teardown),
		cmocka_unit_test_setup_teardown(refuses_other_messages, setup, teardown),
		cmocka_unit_test_setup_teardown(bounds_a_flood, setup, teardown),
		cmocka_unit_test_setup_teardown(opens_what_it_may, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
