/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/fd.h"
#include "container/container.h"
#include "container/userns.h"
#include "sys/file.h"
#include "sys/proc.h"

static char dir[] = "/tmp/holm-test-record-XXXXXX";
static char root[64];

static int make_dir(void **state)
{
	(void)state;
	if (!mkdtemp(dir)) {
		return -1;
	}
	snprintf(root, sizeof(root), "%s/state", dir);
	return 0;
}

static int remove_dir(void **state)
{
	(void)state;
	return sys_remove_tree(AT_FDCWD, dir);
}

static struct record *make_record(const char *id)
{
	struct err e = ERR_INIT;
	struct record *rec = NULL;

	assert_int_equal(record_new(id, &rec, &e), 0);
	assert_int_equal(record_make(rec, root, &e), 0);
	rec->bundle = "/bundle \"x\"";
	rec->rootfs = "/bundle/rootfs";
	rec->config_text = "{\"ociVersion\": \"1.0.2\", \"root\": {\"path\": \"r\"}}";
	rec->config_bytes = strlen(rec->config_text);
	return rec;
}

static void round_trip(void **state)
{
	(void)state;
	struct err e = ERR_INIT;
	auto_(record_freep) struct record *rec = make_record("one");
	auto_(record_freep) struct record *back = NULL;
	struct stat st;

	rec->no_new_keyring = true;
	assert_int_equal(record_save(rec, &e), 0);
	assert_int_equal(record_set_pid(rec, getpid(), &e), 0);
	rec->ready = true;
	assert_int_equal(record_save_process(rec, &e), 0);
	assert_int_equal(fstat(rec->dir_fd, &st), 0);
	assert_int_equal(st.st_mode & 07777, 0700);
	assert_int_equal(record_open(root, "one", RECORD_SPEC, &back, &e), 0);
	assert_string_equal(back->spec.oci_version, "1.0.2");
	assert_string_equal(back->bundle, "/bundle \"x\"");
	assert_string_equal(back->rootfs, "/bundle/rootfs");
	assert_int_equal(back->pid, getpid());
	assert_true(back->ready && back->no_new_keyring && !back->rootless);
	assert_int_equal(back->created_ns, rec->created_ns);
	assert_true(record_alive(back));
	/* Another process with the same pid is not it. */
	back->start_ticks++;
	assert_false(record_alive(back));
	assert_int_equal(record_status(back), STATUS_STOPPED);

	int fd = -1;

	assert_int_equal(record_pidfd(back, &fd, &e), -ESRCH);
	assert_int_equal(fd, -1);
	assert_int_equal(record_remove(rec, &e), 0);
}

static void statuses(void **state)
{
	(void)state;
	struct err e = ERR_INIT;
	auto_(record_freep) struct record *rec = make_record("st");

	/* Held by us, nothing else known: a create that died (we could not have the lock). */
	assert_int_equal(record_status(rec), STATUS_STOPPED);
	assert_int_equal(record_set_pid(rec, getpid(), &e), 0);
	assert_int_equal(record_status(rec), STATUS_CREATING);
	rec->ready = true;
	assert_int_equal(record_status(rec), STATUS_RUNNING);
	assert_int_equal(mknodat(rec->dir_fd, "start", S_IFIFO | 0600, 0), 0);
	assert_int_equal(record_status(rec), STATUS_RUNNING);

	auto_close int fd = openat(rec->dir_fd, "start", O_RDWR | O_CLOEXEC);

	assert_true(fd >= 0);
	assert_int_equal(record_status(rec), STATUS_CREATED);
	assert_int_equal(record_remove(rec, &e), 0);
}

static void names(void **state)
{
	(void)state;
	static const char *const bad[] = { "", ".", "..", "a/b", "a b", "-x", "a\n", "\xc3\xa9", "a:b" };
	static const char *const good[] = { "a", "A.b_c-d+e", "0", ".hidden" };

	for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
		struct err e = ERR_INIT;
		struct record *rec = NULL;

		assert_int_equal(record_new(bad[i], &rec, &e), -EINVAL);
		assert_null(rec);
	}
	for (size_t i = 0; i < ARRAY_LEN(good); i++) {
		struct err e = ERR_INIT;
		auto_(record_freep) struct record *rec = NULL;

		assert_int_equal(record_new(good[i], &rec, &e), 0);
	}
}

static void taken(void **state)
{
	(void)state;
	struct err e = ERR_INIT;
	auto_(record_freep) struct record *rec = make_record("two");
	auto_(record_freep) struct record *again = NULL;

	assert_int_equal(record_new("two", &again, &e), 0);
	assert_int_equal(record_make(again, root, &e), -EEXIST);
	assert_int_equal(e.code, ERR_CONFLICT);
	assert_int_equal(record_remove(rec, &e), 0);
}

static void missing(void **state)
{
	(void)state;
	struct err e = ERR_INIT;
	struct record *rec = NULL;

	assert_int_equal(record_open(root, "none", RECORD_LOCK, &rec, &e), -ENOENT);
	assert_int_equal(e.code, ERR_NOT_FOUND);
	err_clear(&e);
	assert_int_equal(record_open("/no/such/root", "none", 0, &rec, &e), -ENOENT);
	assert_int_equal(e.code, ERR_NOT_FOUND);
}

static void damaged(void **state)
{
	(void)state;
	static const struct {
		const char *text;
		int         r;
	} cases[] = {
		{ "{", -EINVAL }, { "[]", -EINVAL }, { "{\"version\":1}", -EINVAL },
		{ "{\"version\":2,\"pid\":0,\"startTime\":0,\"id\":\"x\"}", -EPROTO },
		{ "{\"version\":1,\"id\":\"x\",\"pid\":\"5\"}", -EINVAL },
	};
	struct err e = ERR_INIT;
	auto_(record_freep) struct record *rec = make_record("bad");

	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		struct record *back = NULL;

		err_clear(&e);
		assert_int_equal(record_write_file(rec->dir_fd, "state.json", cases[i].text,
						   strlen(cases[i].text), 0600), 0);
		assert_int_equal(record_open(root, "bad", 0, &back, &e), cases[i].r);
		assert_null(back);
		assert_non_null(strstr(e.msg, "container bad"));
		err_clear(&e);
		if (cases[i].r == -EPROTO) {
			continue; /* of a newer program, not damaged */
		}
		assert_int_equal(record_open(root, "bad", RECORD_FORCE | RECORD_SPEC, &back, &e), 0);
		assert_int_equal(back->pid, 0);
		back = record_free(back);
	}
	assert_int_equal(record_remove(rec, &e), 0);
}

static void listing(void **state)
{
	(void)state;
	struct err e = ERR_INIT;
	auto_strv struct strv ids = STRV_INIT;
	auto_(record_freep) struct record *b = make_record("b");
	auto_(record_freep) struct record *a = make_record("a");

	assert_int_equal(mkdirat(a->root_fd, "seccomp:cache", 0700), 0);
	assert_int_equal(record_list(root, &ids, &e), 0);
	assert_int_equal(ids.n, 2);
	assert_string_equal(ids.v[0], "a");
	assert_string_equal(ids.v[1], "b");
	assert_int_equal(unlinkat(a->root_fd, "seccomp:cache", AT_REMOVEDIR), 0);
	assert_int_equal(record_remove(a, &e), 0);
	assert_int_equal(record_remove(b, &e), 0);

	struct strv none = STRV_INIT;

	assert_int_equal(record_list("/no/such/root", &none, &e), 0);
	assert_int_equal(none.n, 0);
}

static void a_failed_write_keeps_the_old(void **state)
{
	(void)state;
	struct err e = ERR_INIT;
	auto_(record_freep) struct record *rec = make_record("keep");
	auto_buf struct buf before = BUF_INIT;

	assert_int_equal(record_save(rec, &e), 0);
	assert_int_equal(sys_read_file(rec->dir_fd, "state.json", 4096, &before), 0);
	static const enum sys_call calls[] = { SYS_CALL_openat, SYS_CALL_write, SYS_CALL_renameat2 };

	for (size_t i = 0; i < ARRAY_LEN(calls); i++) {
		auto_buf struct buf after = BUF_INIT;

		rec->ready = true;
		sys_fault_arm(calls[i], 1, 1, ENOSPC);
		assert_int_equal(record_save(rec, &e), -ENOSPC);
		sys_fault_clear();
		assert_int_equal(sys_read_file(rec->dir_fd, "state.json", 4096, &after), 0);
		assert_string_equal(buf_str(&after), buf_str(&before));
	}
	assert_int_equal(record_remove(rec, &e), 0);
}

static void signals(void **state)
{
	(void)state;
	static const struct {
		const char *text;
		int         sig;
	} cases[] = {
		{ "TERM", SIGTERM }, { "SIGTERM", SIGTERM }, { "sigterm", SIGTERM }, { "15", 15 },
		{ "0", 0 }, { "64", 64 }, { "RTMIN", 34 }, { "SIGRTMIN+3", 37 }, { "rtmax-1", 63 },
		{ "65", -EINVAL }, { "-1", -EINVAL }, { "", -EINVAL }, { "SIG", -EINVAL },
		{ "TERM ", -EINVAL }, { "RTMIN+99", -EINVAL }, { "SIGSIGTERM", -EINVAL },
	};

	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		assert_int_equal(signal_parse(cases[i].text), cases[i].sig);
	}
}

static void id_maps(void **state)
{
	(void)state;
	struct oci_id_map m[] = { { 0, 100000, 10 }, { 20, 5, 1 } };
	const struct jvec maps = { .v = m, .n = 2 };
	const struct jvec none = { .n = 0 };
	uint64_t host = 0;

	assert_int_equal(userns_to_host(&maps, 9, &host), 0);
	assert_int_equal(host, 100009);
	assert_int_equal(userns_to_host(&maps, 20, &host), 0);
	assert_int_equal(host, 5);
	assert_int_equal(userns_to_host(&maps, 10, &host), -ERANGE);
	assert_int_equal(userns_to_host(&maps, 21, &host), -ERANGE);
	assert_int_equal(userns_to_host(&none, 77, &host), 0);
	assert_int_equal(host, 77);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(round_trip), cmocka_unit_test(statuses), cmocka_unit_test(names),
		cmocka_unit_test(taken), cmocka_unit_test(missing), cmocka_unit_test(damaged),
		cmocka_unit_test(listing), cmocka_unit_test(a_failed_write_keeps_the_old),
		cmocka_unit_test(signals), cmocka_unit_test(id_maps),
	};

	return cmocka_run_group_tests_name("container/record", tests, make_dir, remove_dir);
}
