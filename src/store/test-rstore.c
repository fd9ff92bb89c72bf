/* SPDX-License-Identifier: Apache-2.0 */
#include "base/test.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <sqlite3.h>

#include "base/fd.h"
#include "base/str.h"
#include "store/rstore.h"
#include "sys/file.h"

struct fixture {
	char           dir[64];
	struct rstore *s;
	struct err     e;
};

static int set_up(void **state)
{
	struct fixture *f = calloc(1, sizeof(*f));

	snprintf(f->dir, sizeof(f->dir), "/tmp/test-rstore-XXXXXX");
	assert_non_null(mkdtemp(f->dir));
	assert_int_equal(rstore_open(f->dir, &f->s, &f->e), 0);
	*state = f;
	return 0;
}

static int tear_down(void **state)
{
	struct fixture *f = *state;

	rstore_close(f->s);
	ignore_result(sys_remove_tree(AT_FDCWD, f->dir)); /* at worst a file in /tmp stays */
	free(f);
	return 0;
}

static int add(struct fixture *f, const char *kind, const char *name, struct resource *ret)
{
	*ret = (struct resource){ .kind = str_dup(kind), .name = str_dup(name), .version = 1,
				  .spec = str_dup("{\"a\":1}") };
	f->e = (struct err)ERR_INIT;
	return rstore_create(f->s, ret, RSTORE_DURABLE, &f->e);
}

static int count(const struct resource *res, void *ud)
{
	(void)res;
	++*(int *)ud;
	return 0;
}

static int count_all(struct rstore *s, const char *kind)
{
	struct err e = ERR_INIT;
	uint64_t bad_ids = 0;
	int n = 0;

	assert_int_equal(rstore_list(s, kind, NULL, count, &n, &bad_ids, &e), 0);
	assert_int_equal(bad_ids, 0);
	return n;
}

static void life_of_a_resource(void **state)
{
	struct fixture *f = *state;
	auto_resource struct resource a = { .kind = NULL };
	auto_resource struct resource b = { .kind = NULL };
	auto_resource struct resource dup = { .kind = NULL };
	auto_resource struct resource got = { .kind = NULL };
	uint64_t rev = 0;

	assert_int_equal(add(f, "instance", "one", &a), 0);
	assert_true(id_valid(a.id));
	assert_int_equal(add(f, "image", "one", &b), 0);
	assert_int_equal(add(f, "instance", "one", &dup), -EEXIST);
	assert_int_equal(f->e.code, ERR_CONFLICT);
	assert_int_equal(rstore_get(f->s, "instance", a.id, &got, &f->e), 0);
	assert_string_equal(got.spec, "{\"a\":1}");
	assert_string_equal(got.status, "{}");
	assert_string_equal(got.project, RSTORE_PROJECT);
	assert_true(got.created_ns > 0);
	assert_int_equal(got.revision, 1);
	assert_int_equal(rstore_revision(f->s), 2);

	assert_int_equal(rstore_put_status(f->s, "instance", a.id, 1, "{\"s\":2}", 0, &rev, &f->e),
			 0);
	assert_int_equal(rev, 3);
	assert_int_equal(rstore_put_status(f->s, "instance", a.id, 1, "{}", 0, &rev, &f->e),
			 -ESTALE);
	assert_int_equal(f->e.code, ERR_CONFLICT);
	assert_int_equal(rstore_delete(f->s, "instance", a.id, 1, 0, &f->e), -ESTALE);

	/* The spec's writer leaves the status alone, and the other way round. */
	free(a.spec);
	free(a.name);
	a.name = str_dup("renamed");
	a.spec = NULL;
	a.epoch = 7;
	assert_int_equal(rstore_put_spec(f->s, &a, 3, RSTORE_DURABLE, &f->e), 0);
	resource_fini(&got);
	assert_int_equal(rstore_find(f->s, "instance", RSTORE_PROJECT, "renamed", &got, &f->e), 0);
	assert_string_equal(got.spec, "{\"a\":1}");
	assert_string_equal(got.status, "{\"s\":2}");
	assert_int_equal(got.epoch, 7);
	assert_int_equal(got.version, 1);

	assert_int_equal(rstore_delete(f->s, "instance", a.id, 0, 0, &f->e), 0);
	assert_int_equal(rstore_get(f->s, "instance", a.id, &dup, &f->e), -ENOENT);
	assert_int_equal(rstore_delete(f->s, "instance", a.id, 0, 0, &f->e), -ENOENT);
	assert_int_equal(count_all(f->s, "instance"), 0);
	assert_int_equal(count_all(f->s, "image"), 1);
}

static void finding(void **state)
{
	struct fixture *f = *state;
	auto_resource struct resource a = { .kind = str_dup("instance"), .name = str_dup("a") };
	auto_resource struct resource b = { .kind = str_dup("instance"), .name = str_dup("b") };
	auto_resource struct resource got = { .kind = NULL };
	char id[ID_LEN + 1];

	memset(id, 'a', ID_LEN);
	id[ID_LEN] = '\0';
	memcpy(a.id, id, sizeof(id));
	id[ID_LEN - 1] = 'b';
	memcpy(b.id, id, sizeof(id));
	assert_int_equal(rstore_create(f->s, &a, 0, &f->e), 0);
	assert_int_equal(rstore_create(f->s, &b, 0, &f->e), 0);
	assert_int_equal(rstore_find(f->s, "instance", RSTORE_PROJECT, b.id, &got, &f->e), 0);
	assert_string_equal(got.name, "b");
	resource_fini(&got);
	assert_int_equal(rstore_find(f->s, "instance", RSTORE_PROJECT, "aaaa", &got, &f->e),
			 -ENOTUNIQ);
	assert_int_equal(rstore_find(f->s, "instance", RSTORE_PROJECT, "aaa", &got, &f->e), -ENOENT);
	assert_int_equal(rstore_find(f->s, "instance", "other", "a", &got, &f->e), -ENOENT);
	assert_int_equal(rstore_find(f->s, "instance", RSTORE_PROJECT, "a' OR '1'='1", &got, &f->e),
			 -ENOENT);
}

static void bad_input(void **state)
{
	struct fixture *f = *state;
	static const char *const names[] = { "", ".a", "a/b", "a\nb", "-x" };

	for (size_t i = 0; i < ARRAY_LEN(names); i++) {
		auto_resource struct resource r = { .kind = NULL };

		assert_int_equal(add(f, "instance", names[i], &r), -EINVAL);
		assert_string_equal(f->e.field, "/name");
	}
	assert_int_equal(rstore_revision(f->s), 0);
}

struct seen {
	char text[128];
};

static void on_change(struct rstore_watch *w, const struct rstore_event *ev, void *ud)
{
	struct seen *s = ud;
	size_t n = strlen(s->text);

	(void)w;
	snprintf(s->text + n, sizeof(s->text) - n, "%llu %s %s;",
		 (unsigned long long)ev->revision, rstore_change_names[ev->change], ev->name);
}

static void watching(void **state)
{
	struct fixture *f = *state;
	struct seen old = { "" }, all = { "" };
	struct rstore_watch w = { .kind = "instance", .fn = on_change, .ud = &old };
	struct rstore_watch w2 = { .kind = NULL, .fn = on_change, .ud = &all };
	auto_resource struct resource a = { .kind = NULL };
	auto_resource struct resource b = { .kind = NULL };

	assert_int_equal(rstore_watch(f->s, &w2, 0, &f->e), 0);
	assert_int_equal(add(f, "instance", "a", &a), 0);
	assert_int_equal(add(f, "image", "b", &b), 0);
	assert_int_equal(rstore_put_status(f->s, "instance", a.id, 0, "{}", 0, NULL, &f->e), 0);
	assert_int_equal(rstore_watch(f->s, &w, 1, &f->e), 0);
	assert_int_equal(rstore_delete(f->s, "instance", a.id, 0, 0, &f->e), 0);
	assert_string_equal(old.text, "3 changed a;4 deleted a;");
	assert_string_equal(all.text, "1 created a;2 created b;3 changed a;4 deleted a;");
	rstore_unwatch(&w);
	rstore_unwatch(&w2);
	assert_int_equal(rstore_watch(f->s, &w, 99, &f->e), -EINVAL);
}

static void one_owner(void **state)
{
	struct fixture *f = *state;
	struct rstore *other = NULL;

	/* A writer takes the lock. */
	assert_int_equal(rstore_meta_put(f->s, "boot", "x", &f->e), 0);
	assert_int_equal(rstore_open(f->dir, &other, &f->e), -EBUSY);
	assert_int_equal(f->e.code, ERR_CONFLICT);
}

static void kept_when_reopened(void **state)
{
	struct fixture *f = *state;
	auto_resource struct resource a = { .kind = NULL };
	auto_free char *value = NULL;
	auto_free char *none = NULL;

	assert_int_equal(add(f, "instance", "a", &a), 0);
	assert_int_equal(rstore_meta_put(f->s, "boot", "1", &f->e), 0);
	assert_int_equal(rstore_meta_put(f->s, "boot", "2", &f->e), 0);
	f->s = rstore_close(f->s);
	assert_int_equal(rstore_open(f->dir, &f->s, &f->e), 0);
	assert_int_equal(count_all(f->s, "instance"), 1);
	assert_int_equal(rstore_revision(f->s), 1);
	assert_int_equal(rstore_meta_get(f->s, "boot", &value, &f->e), 0);
	assert_string_equal(value, "2");
	assert_int_equal(rstore_meta_get(f->s, "nothing", &none, &f->e), 0);
	assert_null(none);
}

/* A writer is killed at any moment; what it was told is done is there, and nothing by half. */
static void killed_while_writing(void **state)
{
	struct fixture *f = *state;

	f->s = rstore_close(f->s);
	for (int round = 0; round < 5; round++) {
		int p[2], done = -1, last;

		assert_int_equal(pipe(p), 0);
		pid_t pid = fork();

		if (pid == 0) {
			struct rstore *s = NULL;
			struct err e = ERR_INIT;

			if (rstore_open(f->dir, &s, &e) < 0) {
				_exit(1);
			}
			for (int i = 0;; i++) {
				char name[32], spec[5000];

				snprintf(name, sizeof(name), "r%d-%d", round, i);
				memset(spec, 'x', sizeof(spec) - 1);
				spec[sizeof(spec) - 1] = '\0';
				struct resource r = { .kind = (char *)"k", .name = name,
						      .spec = spec };

				if (rstore_create(s, &r, RSTORE_DURABLE, &e) < 0 ||
				    write(p[1], &i, sizeof(i)) != (ssize_t)sizeof(i)) {
					_exit(1);
				}
			}
		}
		close(p[1]);
		usleep(20000 + (useconds_t)round * 7000);
		kill(pid, SIGKILL);
		waitpid(pid, NULL, 0);
		while (read(p[0], &last, sizeof(last)) == (ssize_t)sizeof(last)) {
			done = last;
		}
		close(p[0]);
		assert_int_equal(rstore_open(f->dir, &f->s, &f->e), 0);
		auto_resource struct resource got = { .kind = NULL };
		char name[32];

		if (done >= 0) {
			snprintf(name, sizeof(name), "r%d-%d", round, done);
			assert_int_equal(rstore_find(f->s, "k", RSTORE_PROJECT, name, &got, &f->e),
					 0);
			assert_int_equal(strlen(got.spec), 4999);
		}
		int n = count_all(f->s, "k");

		assert_int_equal(rstore_revision(f->s), n);
		f->s = rstore_close(f->s);
	}
}

static void damaged_file(void **state)
{
	struct fixture *f = *state;
	auto_free char *path = str_printf("%s/holm.db", f->dir);
	auto_resource struct resource a = { .kind = NULL };

	assert_int_equal(add(f, "instance", "a", &a), 0);
	f->s = rstore_close(f->s);
	int fd = open(path, O_WRONLY);

	assert_int_equal(pwrite(fd, "not a database at all", 21, 0), 21);
	close(fd);
	assert_int_equal(rstore_open(f->dir, &f->s, &f->e), -EBADMSG);
	assert_non_null(strstr(f->e.msg, path));
	assert_non_null(strstr(f->e.msg, "damaged"));
}

static void sql(const char *dir, const char *text)
{
	auto_free char *path = str_printf("%s/holm.db", dir);
	sqlite3 *db;

	assert_int_equal(sqlite3_open(path, &db), SQLITE_OK);
	assert_int_equal(sqlite3_exec(db, text, NULL, NULL, NULL), SQLITE_OK);
	sqlite3_close(db);
}

static void versions(void **state)
{
	struct fixture *f = *state;
	auto_resource struct resource a = { .kind = NULL };

	assert_int_equal(add(f, "instance", "a", &a), 0);
	f->s = rstore_close(f->s);
	sql(f->dir, "PRAGMA user_version=1; DROP TABLE meta;"); /* as schema 1 was */
	assert_int_equal(rstore_open(f->dir, &f->s, &f->e), 0);
	assert_int_equal(count_all(f->s, "instance"), 1);
	assert_int_equal(rstore_meta_put(f->s, "boot", "x", &f->e), 0);
	f->s = rstore_close(f->s);
	sql(f->dir, "PRAGMA user_version=99");
	assert_int_equal(rstore_open(f->dir, &f->s, &f->e), -ENOTSUP);
	assert_int_equal(f->e.code, ERR_UNSUPPORTED);
}

/* In a child with a file system of 512 KiB: the error is clear, the store goes on. */
static int on_full_disk(const char *dir)
{
	struct err e = ERR_INIT;
	struct rstore *s = NULL;
	int r = 0, n = 0;

	if (unshare(geteuid() == 0 ? CLONE_NEWNS : CLONE_NEWNS | CLONE_NEWUSER) < 0 ||
	    mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0 ||
	    mount("tmpfs", dir, "tmpfs", 0, "size=512k") < 0) {
		return 77;
	}
	if (rstore_open(dir, &s, &e) < 0) {
		return 1;
	}
	for (; r == 0 && n < 1000; n++) {
		char name[32], spec[8000];

		snprintf(name, sizeof(name), "r%d", n);
		memset(spec, 'x', sizeof(spec) - 1);
		spec[sizeof(spec) - 1] = '\0';
		struct resource res = { .kind = (char *)"k", .name = name, .spec = spec };

		r = rstore_create(s, &res, RSTORE_DURABLE, &e);
	}
	if (r != -ENOSPC || !strstr(e.msg, "full")) {
		return 2;
	}
	if (count_all(s, "k") != n - 1 || (int)rstore_revision(s) != n - 1) {
		return 3;
	}
	rstore_close(s);
	s = NULL;
	return rstore_open(dir, &s, &e) == 0 && count_all(s, "k") == n - 1 ? 0 : 4;
}

static void full_disk(void **state)
{
	struct fixture *f = *state;
	int status;
	pid_t pid = fork();

	if (pid == 0) {
		f->s = NULL;
		_exit(on_full_disk(f->dir));
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_true(WIFEXITED(status));
	if (WEXITSTATUS(status) == 77) {
		print_message("skipped: no mounts here\n");
		return;
	}
	assert_int_equal(WEXITSTATUS(status), 0);
}

#define TEST(fn) cmocka_unit_test_setup_teardown(fn, set_up, tear_down)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(life_of_a_resource), TEST(finding), TEST(bad_input), TEST(watching),
		TEST(one_owner), TEST(kept_when_reopened), TEST(killed_while_writing),
		TEST(damaged_file), TEST(versions), TEST(full_disk),
	};

	return TEST_RUN(tests);
}
