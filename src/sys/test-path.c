/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Every test runs twice: with openat2(), and with the walk that stands in for it.
 * Threat model, rule 1: one path library.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <errno.h>
#include <limits.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "base/fd.h"
#include "base/str.h"
#include "sys/file.h"
#include "sys/path.h"

/* dir/root is the root, dir/outside what no lookup may ever reach. */
struct tree {
	char dir[64];
	int  dir_fd, root_fd;
};

static bool no_openat2;

static void make_dir(const struct tree *t, const char *path)
{
	assert_int_equal(mkdirat(t->dir_fd, path, 0755), 0);
}

static void make_file(const struct tree *t, const char *path, const char *text)
{
	int fd = openat(t->dir_fd, path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0644);

	assert_true(fd >= 0);
	assert_int_equal(write(fd, text, strlen(text)), strlen(text));
	close(fd);
}

static void make_link(const struct tree *t, const char *target, const char *path)
{
	assert_int_equal(symlinkat(target, t->dir_fd, path), 0);
}

static int setup(void **state)
{
	struct tree *t = calloc(1, sizeof(*t));

	assert_non_null(t);
	(void)snprintf(t->dir, sizeof(t->dir), "/tmp/holm-path-XXXXXX");
	assert_non_null(mkdtemp(t->dir));
	t->dir_fd = open(t->dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	make_dir(t, "root");
	make_dir(t, "root/a");
	make_dir(t, "root/a/b");
	make_dir(t, "root/etc");
	make_dir(t, "outside");
	make_file(t, "outside/secret", "secret");
	make_file(t, "root/etc/passwd", "inside");
	make_file(t, "root/a/file", "file");
	t->root_fd = openat(t->dir_fd, "root", O_PATH | O_DIRECTORY | O_CLOEXEC);
	if (no_openat2) {
		sys_fault_arm(SYS_CALL_openat2, 1, 0, ENOSYS);
	}
	*state = t;
	return 0;
}

static int setup_walk(void **state)
{
	no_openat2 = true;
	return setup(state);
}

static int teardown(void **state)
{
	struct tree *t = *state;

	assert_true(!no_openat2 || sys_fault_hits() > 0); /* the walk was what we tested */
	sys_fault_clear();
	no_openat2 = false;
	assert_int_equal(sys_remove_tree(AT_FDCWD, t->dir), 0);
	close(t->root_fd);
	close(t->dir_fd);
	free(t);
	return 0;
}

/* The text of a file below the root, or the error. */
static int text_is(const struct tree *t, const char *path, const char *want)
{
	auto_close int fd = path_openat(t->root_fd, path, O_RDONLY, 0);
	char text[64] = "";

	if (fd < 0) {
		return fd;
	}
	assert_true(read(fd, text, sizeof(text) - 1) >= 0);
	return str_eq(text, want) ? 0 : -EBADMSG;
}

static ino_t inode(int dir_fd, const char *path)
{
	struct stat st;

	assert_int_equal(fstatat(dir_fd, path, &st, AT_SYMLINK_NOFOLLOW), 0);
	return st.st_ino;
}

static void opens_inode(const struct tree *t, const char *path, const char *want)
{
	auto_close int fd = path_open(t->root_fd, path, 0);
	struct stat st;

	if (fd < 0) {
		fail_msg("%s: %d", path, fd);
	}
	assert_int_equal(fstat(fd, &st), 0);
	assert_int_equal(st.st_ino, inode(t->dir_fd, want));
	assert_true(fcntl(fd, F_GETFD) & FD_CLOEXEC);
	assert_true(fcntl(fd, F_GETFL) & O_PATH);
}

static int open_close(int fd)
{
	if (fd >= 0) {
		close(fd);
		return 0;
	}
	return fd;
}

static void plain(void **state)
{
	const struct tree *t = *state;

	opens_inode(t, "", "root");
	opens_inode(t, "/", "root");
	opens_inode(t, "///", "root");
	opens_inode(t, "/a/b", "root/a/b");
	opens_inode(t, "a/./b/", "root/a/b");
	opens_inode(t, "//a//../a/b/..", "root/a");
	opens_inode(t, "/../../../etc", "root/etc");
	assert_int_equal(text_is(t, "/etc/passwd", "inside"), 0);
	assert_int_equal(path_open(t->root_fd, "/nosuch", 0), -ENOENT);
	assert_int_equal(path_open(t->root_fd, "/nosuch/x", 0), -ENOENT);
	assert_int_equal(path_open(t->root_fd, "/a/file/x", 0), -ENOTDIR);
	assert_int_equal(path_open(t->root_fd, "/a/file/", 0), -ENOTDIR);
	assert_int_equal(path_open(t->root_fd, "/a/file", PATH_DIRECTORY), -ENOTDIR);
	assert_int_equal(path_openat(t->root_fd, "/nosuch", O_RDONLY, 0), -ENOENT);

	char name[NAME_MAX + 2];

	memset(name, 'x', sizeof(name));
	name[sizeof(name) - 1] = '\0';
	assert_int_equal(path_open(t->root_fd, name, 0), -ENAMETOOLONG);
}

static void links(void **state)
{
	const struct tree *t = *state;
	auto_free char *outside = str_printf("%s/outside", t->dir);

	make_link(t, "/etc", "root/abs");
	make_link(t, "../../../../../../etc", "root/a/dots");
	make_link(t, outside, "root/out");
	make_link(t, "../outside", "root/out2");
	make_link(t, "loop2", "root/loop1");
	make_link(t, "loop1", "root/loop2");
	make_link(t, "abs/passwd", "root/chain");
	make_link(t, "a/file/", "root/slash");

	assert_int_equal(text_is(t, "/abs/passwd", "inside"), 0);
	assert_int_equal(text_is(t, "/a/dots/passwd", "inside"), 0);
	assert_int_equal(text_is(t, "chain", "inside"), 0);
	assert_int_equal(path_open(t->root_fd, "/out/secret", 0), -ENOENT);
	assert_int_equal(path_open(t->root_fd, "/out2/secret", 0), -ENOENT);
	assert_int_equal(path_open(t->root_fd, "loop1", 0), -ELOOP);
	assert_int_equal(path_open(t->root_fd, "slash", 0), -ENOTDIR);
	assert_int_equal(path_open(t->root_fd, "/abs/passwd", PATH_NO_SYMLINKS), -ELOOP);
	assert_int_equal(path_open(t->root_fd, "/abs", PATH_NO_SYMLINKS), -ELOOP);
	assert_int_equal(open_close(path_open(t->root_fd, "/etc/passwd", PATH_NO_SYMLINKS)), 0);

	auto_close int fd = path_open(t->root_fd, "/abs", PATH_NOFOLLOW);
	struct stat st;

	assert_true(fd >= 0 && fstat(fd, &st) == 0 && S_ISLNK(st.st_mode));
	assert_int_equal(path_openat(t->root_fd, "/abs", O_RDONLY, PATH_NOFOLLOW), -ELOOP);
}

static void magic_links_and_mounts(void **state)
{
	const struct tree *t = *state;
	auto_close int host = open("/", O_PATH | O_DIRECTORY | O_CLOEXEC);
	char path[64];

	(void)snprintf(path, sizeof(path), "/proc/self/fd/%d/outside", t->dir_fd);
	assert_int_equal(path_open(host, path, 0), -ELOOP);
	assert_int_equal(path_open(host, "/proc/self/exe", 0), -ELOOP);
	assert_int_equal(path_open(host, "/proc/self/root/etc", 0), -ELOOP);
	assert_int_equal(open_close(path_open(host, "/proc/self/status", 0)), 0);
	assert_int_equal(path_open(host, "/proc/self/status", PATH_NO_XDEV), -EXDEV);
	assert_int_equal(path_open(host, "/proc", PATH_NO_XDEV), -EXDEV);
	assert_int_equal(open_close(path_open(host, "/", PATH_NO_XDEV)), 0);
}

static void making(void **state)
{
	const struct tree *t = *state;
	struct stat st;

	make_link(t, "/new/place", "root/dangling");
	make_link(t, "../outside/made", "root/escape");
	make_link(t, "/a/file", "root/to-file");
	assert_int_equal(open_close(path_mkdir_p(t->root_fd, "/x/y/z", 0751)), 0);
	assert_int_equal(fstatat(t->dir_fd, "root/x/y/z", &st, 0), 0);
	assert_int_equal(st.st_mode & 0777, 0751 & ~022);
	assert_int_equal(open_close(path_mkdir_p(t->root_fd, "/x/y/z", 0700)), 0);
	assert_int_equal(open_close(path_mkdir_p(t->root_fd, "/", 0700)), 0);
	assert_int_equal(open_close(path_mkdir_p(t->root_fd, "/dangling/deep", 0755)), 0);
	assert_int_equal(faccessat(t->dir_fd, "root/new/place/deep", F_OK, 0), 0);
	assert_int_equal(open_close(path_mkdir_p(t->root_fd, "/escape/deep", 0755)), 0);
	assert_int_equal(faccessat(t->dir_fd, "root/outside/made/deep", F_OK, 0), 0);
	assert_int_equal(faccessat(t->dir_fd, "outside/made", F_OK, 0), -1);
	assert_int_equal(path_mkdir_p(t->root_fd, "/a/file", 0755), -ENOTDIR);
	assert_int_equal(path_mkdir_p(t->root_fd, "/a/file/x", 0755), -ENOTDIR);

	assert_int_equal(open_close(path_touch_p(t->root_fd, "/f/g/file", 0640)), 0);
	assert_int_equal(fstatat(t->dir_fd, "root/f/g/file", &st, 0), 0);
	assert_true(S_ISREG(st.st_mode) && (st.st_mode & 0777) == 0640);
	assert_int_equal(open_close(path_touch_p(t->root_fd, "/to-file", 0640)), 0);
	assert_int_equal(path_touch_p(t->root_fd, "/a/b", 0640), -EISDIR);
	assert_int_equal(text_is(t, "/a/file", "file"), 0);
}

static void parents(void **state)
{
	const struct tree *t = *state;
	char name[NAME_MAX + 1];
	struct stat st;

	make_link(t, "/a", "root/to-a");
	auto_close int fd = path_parent_p(t->root_fd, "/to-a/new", 0755, name);

	assert_true(fd >= 0 && fstat(fd, &st) == 0);
	assert_int_equal(st.st_ino, inode(t->dir_fd, "root/a"));
	assert_string_equal(name, "new");
	assert_int_equal(open_close(path_parent_p(t->root_fd, "top", 0755, name)), 0);
	assert_string_equal(name, "top");
	assert_int_equal(open_close(path_parent_p(t->root_fd, "/p/q/r", 0755, name)), 0);
	assert_string_equal(name, "r");
	assert_int_equal(faccessat(t->dir_fd, "root/p/q", F_OK, 0), 0);
	assert_int_equal(path_parent_p(t->root_fd, "/", 0755, name), -EINVAL);
	assert_int_equal(path_parent_p(t->root_fd, "/a/..", 0755, name), -EINVAL);
}

static void create_never_follows(void **state)
{
	const struct tree *t = *state;

	make_link(t, "../outside/planted", "root/trap");
	assert_int_equal(path_create(t->root_fd, "trap", O_WRONLY, 0644), -EEXIST);
	assert_int_equal(path_mkdir(t->root_fd, "trap", 0755), -EEXIST);
	assert_int_equal(path_mknod(t->root_fd, "trap", S_IFIFO | 0600, 0), -EEXIST);
	assert_int_equal(path_symlink(t->root_fd, "trap", "x"), -EEXIST);
	assert_int_equal(faccessat(t->dir_fd, "outside/planted", F_OK, 0), -1);
	assert_int_equal(path_create(t->root_fd, "../outside/x", O_WRONLY, 0644), -EINVAL);
	assert_int_equal(path_create(t->root_fd, "..", O_WRONLY, 0644), -EINVAL);
	assert_int_equal(path_create(t->root_fd, "", O_WRONLY, 0644), -EINVAL);
	assert_int_equal(open_close(path_create(t->root_fd, "good", O_WRONLY, 0644)), 0);
	assert_int_equal(open_close(path_open(t->root_fd, "good", 0)), 0);
}

/* --- races ------------------------------------------------------------------------------- */

struct swapper {
	const struct tree *t;
	atomic_bool        stop;
};

static noreturn_fn void die(const char *what)
{
	perror(what);
	abort();
}

/* "swap" is a folder, then a link out, then a folder ... without a moment of neither. */
static void *swap_link(void *ud)
{
	struct swapper *s = ud;

	while (!atomic_load_explicit(&s->stop, memory_order_relaxed)) {
		if (syscall(SYS_renameat2, s->t->dir_fd, "root/swap", s->t->dir_fd, "root/link",
			    2 /* RENAME_EXCHANGE */) < 0) {
			die("exchange");
		}
	}
	return NULL;
}

/* root/deep/er goes out of the root and comes back, while someone is in it and says "..". */
static void *move_out(void *ud)
{
	struct swapper *s = ud;

	while (!atomic_load_explicit(&s->stop, memory_order_relaxed)) {
		if (renameat(s->t->dir_fd, "root/deep/er", s->t->dir_fd, "outside/er") < 0 ||
		    renameat(s->t->dir_fd, "outside/er", s->t->dir_fd, "root/deep/er") < 0) {
			die("move");
		}
	}
	return NULL;
}

static uint64_t now_ms(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * 1000 + (uint64_t)ts.tv_nsec / 1000000;
}

/* Look up paths while a thread changes the tree; none may find what is outside. */
static void race(const struct tree *t, void *(*attack)(void *), const char *const *paths)
{
	struct swapper s = { .t = t };
	pthread_t thread;
	uint64_t start = now_ms(), end = start + 150;
	ino_t secret = inode(t->dir_fd, "outside/secret");
	unsigned found = 0;

	assert_int_equal(pthread_create(&thread, NULL, attack, &s), 0);
	/* On a slow machine it takes a while until one lookup meets the folder. */
	while (now_ms() < end || (found == 0 && now_ms() < start + 10000)) {
		for (const char *const *p = paths; *p; p++) {
			auto_close int fd = path_open(t->root_fd, *p, 0);
			struct stat st;

			if (fd >= 0 && fstat(fd, &st) == 0) {
				found++;
				if (st.st_ino == secret) {
					fail_msg("%s: out of the root", *p);
				}
			}
			auto_close int file = path_touch_p(t->root_fd, *p, 0600);

			if (file >= 0 && fstat(file, &st) == 0 && st.st_ino == secret) {
				fail_msg("%s: made outside", *p);
			}
		}
	}
	atomic_store_explicit(&s.stop, true, memory_order_relaxed);
	pthread_join(thread, NULL);
	assert_true(found > 0);
}

static void races(void **state)
{
	const struct tree *t = *state;
	static const char *const through_link[] = { "/swap/secret", "/swap/../swap/secret", NULL };
	static const char *const through_dots[] = { "/deep/er/../../../outside/secret",
						    "/deep/er/../secret", "/deep/er/../er/../secret",
						    NULL };

	make_dir(t, "root/swap");
	make_file(t, "root/swap/secret", "not that one");
	make_link(t, "../outside", "root/link");
	race(t, swap_link, through_link);

	make_dir(t, "root/deep");
	make_dir(t, "root/deep/er");
	make_file(t, "root/deep/secret", "not that one");
	race(t, move_out, through_dots);
	assert_int_equal(faccessat(t->dir_fd, "outside/outside", F_OK, 0), -1);
}

/* --- texts ------------------------------------------------------------------------------- */

static void clean(void **state)
{
	(void)state;
	static const struct {
		const char *from, *to;
	} rows[] = {
		{ "", "/" }, { "/", "/" }, { "a", "/a" }, { "//a//b/", "/a/b" },
		{ "/a/./b/../c", "/a/c" }, { "../../x", "/x" }, { "/..", "/" }, { "/a/..", "/" },
		{ "a/../..", "/" }, { "/...", "/..." }, { "/proc/.", "/proc" },
	};

	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		auto_free char *s = path_clean(rows[i].from);

		assert_string_equal(s, rows[i].to);
	}
	assert_true(path_name_valid("a") && path_name_valid("...") && path_name_valid(".a"));
	assert_false(path_name_valid("") || path_name_valid(".") || path_name_valid("..") ||
		     path_name_valid("a/b"));
}

int main(void)
{
#define BOTH(f) \
	cmocka_unit_test_setup_teardown(f, setup, teardown), \
	{ #f " (walk)", f, setup_walk, teardown, NULL }
	const struct CMUnitTest tests[] = {
		BOTH(plain), BOTH(links), BOTH(magic_links_and_mounts), BOTH(making), BOTH(parents),
		BOTH(races), cmocka_unit_test(clean),
		cmocka_unit_test_setup_teardown(create_never_follows, setup, teardown),
	};
#undef BOTH

	return cmocka_run_group_tests(tests, NULL, NULL);
}
