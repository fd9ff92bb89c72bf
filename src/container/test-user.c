/* SPDX-License-Identifier: Apache-2.0 */
/* Class F and G of the threat model, rule 10: the files are the image's. */
#include "container/user.h"

#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/fd.h"
#include "base/mem.h"
#include "base/str.h"
#include "sys/file.h"

static char root[] = "/tmp/holm-user-XXXXXX";
static int root_fd = -1;

static void put(const char *path, const void *data, size_t n)
{
	auto_close int fd = -1;

	ignore_result(sys_remove_tree(root_fd, path)); /* it may not be there */
	fd = openat(root_fd, path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
	assert_true(fd >= 0);
	assert_int_equal(write(fd, data, n), n);
}

static void put_text(const char *path, const char *text)
{
	put(path, text, strlen(text));
}

static void fill(void)
{
	put_text("etc/passwd",
		 "# comment\n"
		 "root:x:0:0:root:/root:/bin/sh\n"
		 "+nis::0:0:::\n"
		 "\n"
		 "broken\n"
		 "www:x:33:34:www:/var/www:/bin/sh\n"
		 "1000:x:0:0:a name of digits:/evil:/bin/sh\n"
		 "big:x:4294967294:4294967293::/big:/bin/sh\n"
		 "over:x:4294967296:0::/:/bin/sh\n"
		 "minus:x:-1:0::/:/bin/sh\n"
		 "minusgid:x:5:-5::/:/bin/sh\n"
		 "max:x:4294967295:0::/:/bin/sh\n"
		 "space:x: 0:0::/:/bin/sh\n"
		 "hex:x:0x10:0::/:/bin/sh\n"
		 "empty:x::0::/:/bin/sh\n"
		 "relhome:x:7:7::home:/bin/sh\n"
		 "short:x:8:9\n"
		 "last:x:99:98::/last:/bin/sh");
	put_text("etc/group",
		 "root:x:0:\n"
		 "www:x:34:www\n"
		 "adm:x:4:root,www,last\n"
		 "lp:x:7:wwwx,xwww,last\n"
		 "dup:x:4:www\n"
		 "badgid:x:99999999999:victim\n"
		 "tail:x:200:last");
}

static int setup(void **state)
{
	(void)state;
	if (!mkdtemp(root)) {
		return -1;
	}
	root_fd = open(root, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (mkdirat(root_fd, "etc", 0755) < 0) {
		return -1;
	}
	fill();
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	fd_close(&root_fd);
	return sys_remove_tree(AT_FDCWD, root);
}

static void test_table(void **state)
{
	static const struct {
		const char *text;
		int         r;
		uint32_t    uid, gid;
		const char *home;
	} rows[] = {
		{ "", 0, 0, 0, "/root" },
		{ "root", 0, 0, 0, "/root" },
		{ "0", 0, 0, 0, "/root" },
		{ "www", 0, 33, 34, "/var/www" },
		{ "33", 0, 33, 34, "/var/www" },
		{ "33:0", 0, 33, 0, "/var/www" },
		{ "www:adm", 0, 33, 4, "/var/www" },
		{ "www:", 0, 33, 34, "/var/www" },
		{ ":adm", 0, 0, 4, "/root" },
		{ "1000", 0, 1000, 0, NULL },           /* a number is never a name */
		{ "1", 0, 1, 0, NULL },                 /* CVE-2026-30892: not uid 0 */
		{ "2147483648", 0, 2147483648u, 0, NULL }, /* CVE-2024-40635 */
		{ "4294967294", 0, 4294967294u, 4294967293u, "/big" },
		{ "big", 0, 4294967294u, 4294967293u, "/big" },
		{ "relhome", 0, 7, 7, NULL },
		{ "short", 0, 8, 9, NULL },
		{ "last", 0, 99, 98, "/last" },         /* no newline at the end */
		{ "4294967295", -ERANGE, 0, 0, NULL },
		{ "4294967296", -ERANGE, 0, 0, NULL },
		{ "18446744073709551616", -ERANGE, 0, 0, NULL },
		{ "99999999999999999999999999999", -ERANGE, 0, 0, NULL },
		{ "-1", -EINVAL, 0, 0, NULL },
		{ "+0", -EINVAL, 0, 0, NULL },
		{ "33:-1", -EINVAL, 0, 0, NULL },
		{ "33:4294967295", -ERANGE, 0, 0, NULL },
		{ "a:b:c", -EINVAL, 0, 0, NULL },
		{ "nobody-here", -ENOENT, 0, 0, NULL },
		{ "www:nogroup-here", -ENOENT, 0, 0, NULL },
		{ "broken", -ENOENT, 0, 0, NULL },
		{ "0x21", -ENOENT, 0, 0, NULL },
		{ "3 3", -ENOENT, 0, 0, NULL },
		{ "over", -ERANGE, 0, 0, NULL },
		{ "minus", -ERANGE, 0, 0, NULL },
		{ "minusgid", -ERANGE, 0, 0, NULL },
		{ "max", -ERANGE, 0, 0, NULL },
		{ "space", -ERANGE, 0, 0, NULL },
		{ "hex", -ERANGE, 0, 0, NULL },
		{ "empty", -ERANGE, 0, 0, NULL },
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		auto_arena struct arena a = ARENA_INIT;
		struct user u = { .uid = 12345 };
		struct err e = ERR_INIT;
		int r = user_resolve(root_fd, rows[i].text, &a, &u, &e);

		if (r != rows[i].r) {
			fail_msg("'%s': %d %s", rows[i].text, r, e.msg);
		}
		if (r < 0) {
			assert_int_equal(u.uid, 12345); /* written on success only */
			assert_int_equal(e.code, ERR_INVALID);
			continue;
		}
		assert_int_equal(u.uid, rows[i].uid);
		assert_int_equal(u.gid, rows[i].gid);
		if (!str_eq0(u.home, rows[i].home)) {
			fail_msg("'%s': home %s", rows[i].text, u.home ? u.home : "(none)");
		}
	}
}

static void test_groups(void **state)
{
	auto_arena struct arena a = ARENA_INIT;
	struct err e = ERR_INIT;
	struct user u;

	(void)state;
	assert_int_equal(user_resolve(root_fd, "www", &a, &u, &e), 0);
	assert_int_equal(u.n_groups, 2); /* 34, and 4 once; not lp, whose names only look alike */
	assert_int_equal(u.groups[0], 34);
	assert_int_equal(u.groups[1], 4);
	assert_int_equal(user_resolve(root_fd, "last", &a, &u, &e), 0);
	assert_int_equal(u.n_groups, 3);
	assert_int_equal(u.groups[2], 200);
	assert_int_equal(user_add_group(root_fd, "adm", &a, &u, &e), 0);
	assert_int_equal(user_add_group(root_fd, "4294967294", &a, &u, &e), 0);
	assert_int_equal(u.n_groups, 4);
	assert_int_equal(u.groups[3], 4294967294u);
	assert_int_equal(user_add_group(root_fd, "4294967295", &a, &u, &e), -ERANGE);
	assert_int_equal(user_add_group(root_fd, "", &a, &u, &e), -EINVAL);
	assert_int_equal(user_resolve(root_fd, "www:www", &a, &u, &e), 0);
	assert_int_equal(u.n_groups, 0);
	assert_int_equal(user_resolve(root_fd, "77", &a, &u, &e), 0);
	assert_int_equal(u.n_groups, 0);
}

/* A member of a group whose gid is no gid is not let in without it. */
static void test_bad_group(void **state)
{
	auto_arena struct arena a = ARENA_INIT;
	struct err e = ERR_INIT;
	struct user u;

	(void)state;
	put_text("etc/passwd", "victim:x:5:5::/:/bin/sh\n");
	assert_int_equal(user_resolve(root_fd, "victim", &a, &u, &e), -ERANGE);
	assert_int_equal(user_resolve(root_fd, "victim:7", &a, &u, &e), 0);
	fill();
}

static int resolve_errno(const char *text)
{
	auto_arena struct arena a = ARENA_INIT;
	struct err e = ERR_INIT;
	struct user u;

	return user_resolve(root_fd, text, &a, &u, &e);
}

/* podman CVE-2024-9676, containerd CVE-2026-47262: no file of the image holds us up. */
static void test_hostile_files(void **state)
{
	auto_close int fd = -1;

	(void)state;
	alarm(20);
	assert_int_equal(unlinkat(root_fd, "etc/passwd", 0), 0);
	assert_int_equal(resolve_errno("0"), 0);
	assert_int_equal(resolve_errno("root"), -ENOENT);
	assert_int_equal(mkfifoat(root_fd, "etc/passwd", 0644), 0);
	assert_int_equal(resolve_errno("0"), -EINVAL);
	assert_int_equal(unlinkat(root_fd, "etc/passwd", 0), 0);
	assert_int_equal(mkdirat(root_fd, "etc/passwd", 0755), 0);
	assert_int_equal(resolve_errno("0"), -EINVAL);
	assert_int_equal(unlinkat(root_fd, "etc/passwd", AT_REMOVEDIR), 0);
	if (mknodat(root_fd, "etc/passwd", S_IFCHR | 0644, 0x105 /* /dev/zero */) == 0) {
		assert_int_equal(resolve_errno("0"), -EINVAL);
		assert_int_equal(unlinkat(root_fd, "etc/passwd", 0), 0);
	}
	/* Endless, and not even on disk. */
	fd = openat(root_fd, "etc/passwd", O_WRONLY | O_CREAT | O_CLOEXEC, 0644);
	assert_int_equal(ftruncate(fd, INT64_C(1) << 40), 0);
	assert_int_equal(resolve_errno("0"), -EFBIG);
	assert_int_equal(unlinkat(root_fd, "etc/passwd", 0), 0);
	/* A link means what it says inside the root: the host's file is not read. */
	assert_int_equal(symlinkat("/etc/shadow", root_fd, "etc/passwd"), 0);
	assert_int_equal(resolve_errno("daemon"), -ENOENT);
	assert_int_equal(unlinkat(root_fd, "etc/passwd", 0), 0);
	assert_int_equal(symlinkat("../../../../../../etc/passwd", root_fd, "etc/passwd"), 0);
	assert_int_equal(resolve_errno("daemon"), -ELOOP); /* itself */
	assert_int_equal(unlinkat(root_fd, "etc/passwd", 0), 0);
	assert_int_equal(symlinkat("/proc/self/fd/0", root_fd, "etc/passwd"), 0);
	assert_int_equal(resolve_errno("daemon"), -ENOENT);
	alarm(0);
}

static void test_bytes(void **state)
{
	static const char nul[] = "ro\0ot:x:5:5::/:/bin/sh\nroot\0:x:6:6::/\nroot:x:7:7::/r:/b\n";
	auto_arena struct arena a = ARENA_INIT;
	auto_free char *big = mem_calloc(1, 1 << 20);
	struct err e = ERR_INIT;
	struct user u;

	(void)state;
	put("etc/passwd", nul, sizeof(nul) - 1);
	assert_int_equal(user_resolve(root_fd, "root", &a, &u, &e), 0);
	assert_int_equal(u.uid, 7);
	memset(big, 'a', 1 << 20); /* one line of 1 MiB */
	put("etc/passwd", big, 1 << 20);
	assert_int_equal(resolve_errno("root"), -ENOENT);
	memset(big, ':', 1 << 20);
	big[0] = 'r';
	put("etc/passwd", big, 1 << 20);
	assert_int_equal(resolve_errno("r"), -ERANGE);
	memset(big, '\n', 1 << 20);
	put("etc/passwd", big, 1 << 20);
	assert_int_equal(resolve_errno("r"), -ENOENT);
}

static void test_home(void **state)
{
	auto_arena struct arena a = ARENA_INIT;
	struct err e = ERR_INIT;
	const char *home = "x";

	(void)state;
	fill();
	assert_int_equal(user_home(root_fd, 33, &a, &home, &e), 0);
	assert_string_equal(home, "/var/www");
	assert_int_equal(user_home(root_fd, 4711, &a, &home, &e), 0);
	assert_null(home);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_table),
		cmocka_unit_test(test_groups),
		cmocka_unit_test(test_bad_group),
		cmocka_unit_test(test_hostile_files),
		cmocka_unit_test(test_bytes),
		cmocka_unit_test(test_home),
	};

	return cmocka_run_group_tests(tests, setup, teardown);
}
