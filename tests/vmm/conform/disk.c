/* SPDX-License-Identifier: Apache-2.0 */
/* Files, on whatever file system the folder is: what all have in common. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/inotify.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

#include "conform.h"

enum { BIG = 8 << 20 };

static int make(const char *name, const char *text)
{
	int fd = open(name, O_RDWR | O_CREAT | O_TRUNC, 0644);

	if (fd < 0 || write(fd, text, strlen(text)) != (ssize_t)strlen(text)) {
		broken(name);
	}
	return fd;
}

static uint64_t sum_of_file(const char *name, size_t *ret)
{
	static uint8_t data[65536];
	int fd = open(name, O_RDONLY);
	struct sum s;

	sum_start(&s);
	*ret = 0;
	for (ssize_t n; (n = read(fd, data, sizeof(data))) > 0; *ret += (size_t)n) {
		sum_add(&s, data, (size_t)n);
	}
	close(fd);
	return s.v;
}

/* Random pieces at random places, in a file and in memory. */
static void pieces(const char *name, int flags)
{
	static uint8_t copy[BIG], data[40000];
	int fd = open("big", O_RDWR | O_CREAT | O_TRUNC | flags, 0644);
	unsigned bad = 0;
	size_t n = 0;

	memset(copy, 0, sizeof(copy));
	if (fd < 0 || ftruncate(fd, BIG) < 0) {
		broken("big");
	}
	for (unsigned i = 0; i < 400; i++) {
		size_t at = rnd() % (BIG - sizeof(data)), size = rnd() % sizeof(data);

		if (i % 3 == 2) {
			if (pread(fd, data, size, (off_t)at) != (ssize_t)size) {
				broken("pread");
			}
			bad += memcmp(data, copy + at, size) != 0;
		} else {
			fill(copy + at, size, i);
			if (pwrite(fd, copy + at, size, (off_t)at) != (ssize_t)size) {
				broken("pwrite");
			}
		}
		if (i % 100 == 99) {
			fsync(fd);
			posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED);
		}
	}
	close(fd);
	uint64_t v = sum_of_file("big", &n);

	out(name, "%u bad %zu %016llx %d", bad, n, (unsigned long long)v, v == sum_of(copy, BIG));
	unlink("big");
}

static void sizes(void)
{
	int fd = make("sized", "0123456789");
	char data[32] = "";
	struct stat st;

	ftruncate(fd, 4);
	ftruncate(fd, 8);
	ssize_t n = pread(fd, data, sizeof(data), 0);

	out("truncated", "%zd %.4s %d%d%d%d", n, data, data[4], data[5], data[6], data[7]);
	pwrite(fd, "far", 3, 1 << 30);
	fstat(fd, &st);
	out("far away", "%lld %s", (long long)st.st_size, st.st_blocks < 1000 ? "sparse" : "full");
	out("before the start", "%s", outcome(lseek(fd, -1, SEEK_SET)));
	out("at the end", "%lld", (long long)lseek(fd, 0, SEEK_END));
	n = pread(fd, data, 32, (1 << 30) - 8);
	out("around it", "%zd %d %.3s", n, data[0], data + 8);
	out("allocated", "%s", outcome(fallocate(fd, 0, 0, 65536)));
	out("hole", "%s", outcome(fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, 4096)));
	n = pread(fd, data, 4, 0);
	out("in the hole", "%zd %d", n, data[0] | data[1] | data[2] | data[3]);
	close(fd);
	unlink("sized");
	fd = open("appended", O_WRONLY | O_CREAT | O_APPEND, 0600);
	for (int i = 0; i < 3; i++) {
		lseek(fd, 0, SEEK_SET);
		dprintf(fd, "line %d\n", i);
	}
	close(fd);
	size_t size = 0;
	uint64_t v = sum_of_file("appended", &size);

	out("appended", "%zu %016llx", size, (unsigned long long)v);
	unlink("appended");
}

static void names(void)
{
	struct stat a, b;
	char target[64] = "", name[300];

	close(make("one", "first"));
	out("exclusive", "%s", outcome(open("one", O_CREAT | O_EXCL | O_WRONLY, 0600)));
	out("link", "%s", outcome(link("one", "two")));
	stat("one", &a);
	stat("two", &b);
	out("links", "%d %d", (int)a.st_nlink, a.st_ino == b.st_ino);
	out("symbolic link", "%s", outcome(symlink("one", "soft")));
	ssize_t n = readlink("soft", target, sizeof(target));

	out("where to", "%zd %s", n, target);
	out("not followed", "%s", outcome(open("soft", O_RDONLY | O_NOFOLLOW)));
	symlink("circle", "circle");
	out("circle", "%s", outcome(open("circle", O_RDONLY)));
	out("rename", "%s", outcome(rename("two", "three")));
	out("rename to itself", "%s", outcome(rename("one", "three")));
	out("exchange", "%s", outcome(renameat2(AT_FDCWD, "one", AT_FDCWD, "soft", RENAME_EXCHANGE)));
	lstat("one", &a);
	out("now", "%d", S_ISLNK(a.st_mode));
	out("no replace", "%s", outcome(renameat2(AT_FDCWD, "one", AT_FDCWD, "soft", RENAME_NOREPLACE)));
	mkdir("folder", 0755);
	close(make("folder/in", ""));
	out("folder that is not empty", "%s", outcome(rmdir("folder")));
	out("file as a folder", "%s", outcome(open("soft/x", O_RDONLY)));
	out("folder as a file", "%s", outcome(open("folder", O_WRONLY)));
	out("file over a folder", "%s", outcome(rename("soft", "folder")));
	out("folder into itself", "%s", outcome(rename("folder", "folder/below")));
	memset(name, 'n', sizeof(name));
	name[255] = '\0';
	int fd = open(name, O_CREAT | O_WRONLY, 0600);

	out("long name", "%s", outcome(fd));
	close(fd);
	unlink(name);
	name[255] = 'n';
	name[256] = '\0';
	out("too long", "%s", outcome(open(name, O_CREAT | O_WRONLY, 0600)));
	out("not there", "%s", outcome(unlink("nothing")));
	unlink("folder/in");
	out("folder", "%s", outcome(rmdir("folder")));
	unlink("one");
	unlink("three");
	unlink("soft");
	unlink("circle");
}

/* A file without a name lives until it is closed. */
static void nameless(void)
{
	int fd = make("gone", "still here");
	char data[16] = "";
	struct stat st;

	unlink("gone");
	ssize_t n = pread(fd, data, sizeof(data), 0);

	fstat(fd, &st);
	out("nameless", "%zd %s %d", n, data, (int)st.st_nlink);
	close(fd);
}

static int by_name(const void *a, const void *b)
{
	return strcmp(*(char *const *)a, *(char *const *)b);
}

static void many(void)
{
	enum { FILES = 1500 };
	static char *list[FILES + 8];
	char name[64];
	size_t n = 0;
	struct sum s;

	mkdir("many", 0700);
	for (unsigned i = 0; i < FILES; i++) {
		snprintf(name, sizeof(name), "many/%x", i * 2654435761U);
		int fd = make(name, name);

		if (i % 7 == 0) {
			fchmod(fd, 0400 | (i & 0077));
		}
		close(fd);
	}
	for (unsigned i = 0; i < FILES; i += 3) {
		snprintf(name, sizeof(name), "many/%x", i * 2654435761U);
		unlink(name);
	}
	DIR *d = opendir("many");
	struct dirent *e = NULL;

	while (d && (e = readdir(d)) && n < FILES) {
		list[n++] = strdup(e->d_name);
	}
	closedir(d);
	qsort(list, n, sizeof(list[0]), by_name);
	sum_start(&s);
	for (size_t i = 0; i < n; i++) {
		struct stat st = { 0 };

		snprintf(name, sizeof(name), "many/%s", list[i]);
		sum_add(&s, list[i], strlen(list[i]));
		if (stat(name, &st) == 0 && S_ISREG(st.st_mode)) {
			sum_u64(&s, (uint64_t)st.st_mode << 32 | (uint64_t)st.st_size);
			unlink(name);
		}
		free(list[i]);
	}
	out("many", "%zu %016llx", n, (unsigned long long)s.v);
	out("and none", "%s", outcome(rmdir("many")));
}

static void modes(void)
{
	static const mode_t all[] = { 0, 0600, 0644, 0755, 04755, 01777 };
	struct stat st;
	char name[32];
	struct timespec t[2] = { { 1000000000, 123456789 }, { 1234567890, 987654321 } };

	close(make("mode", "x"));
	for (size_t i = 0; i < sizeof(all) / sizeof(all[0]); i++) {
		chmod("mode", all[i]);
		stat("mode", &st);
		snprintf(name, sizeof(name), "mode %o", all[i]);
		out(name, "%o", st.st_mode);
	}
	chown("mode", 1234, 5678);
	utimensat(AT_FDCWD, "mode", t, 0);
	stat("mode", &st);
	out("owner", "%u %u %o", st.st_uid, st.st_gid, st.st_mode);
	out("times", "%lld.%09ld %lld.%09ld", (long long)st.st_atim.tv_sec, st.st_atim.tv_nsec,
	    (long long)st.st_mtim.tv_sec, st.st_mtim.tv_nsec);
	unlink("mode");
}

static int try_lock(void *arg)
{
	struct flock l = { .l_type = F_WRLCK, .l_whence = SEEK_SET, .l_start = *(int *)arg, .l_len = 10 };
	int fd = open("locked", O_RDWR);

	return fcntl(fd, F_SETLK, &l) == 0 ? 0 : errno == EAGAIN || errno == EACCES ? 1 : 2;
}

static int try_flock(void *arg)
{
	int fd = open("locked", O_RDWR);

	(void)arg;
	return flock(fd, LOCK_EX | LOCK_NB) == 0 ? 0 : errno == EAGAIN ? 1 : 2;
}

static void locks(void)
{
	int fd = make("locked", "0123456789012345678901234567890123456789"), at = 0;
	struct flock l = { .l_type = F_WRLCK, .l_whence = SEEK_SET, .l_start = 5, .l_len = 10 };

	out("lock", "%s", outcome(fcntl(fd, F_SETLK, &l)));
	out("in its way", "%s", child(try_lock, &at));
	at = 20;
	out("beside it", "%s", child(try_lock, &at));
	out("whole", "%s", outcome(flock(fd, LOCK_EX)));
	out("whole, in its way", "%s", child(try_flock, NULL));
	close(fd);
	out("whole, free", "%s", child(try_flock, NULL));
	unlink("locked");
}

static void told(void)
{
	int fd = inotify_init1(IN_NONBLOCK);
	char data[4096] __attribute__((aligned(8))), line[256] = "";
	struct stat st;

	mkdir("watched", 0755);
	inotify_add_watch(fd, "watched", IN_CREATE | IN_CLOSE_WRITE | IN_MOVE | IN_DELETE);
	close(make("watched/a", "text"));
	rename("watched/a", "watched/b");
	unlink("watched/b");
	ssize_t n = read(fd, data, sizeof(data));

	for (ssize_t at = 0; at < n;) {
		struct inotify_event *e = (void *)(data + at);

		snprintf(line + strlen(line), sizeof(line) - strlen(line), " %x:%s", e->mask, e->name);
		at += (ssize_t)(sizeof(*e) + e->len);
	}
	out("told", "%s", line);
	close(fd);
	rmdir("watched");
	out("devices", "%d %d", stat("/dev/null", &st) == 0 && S_ISCHR(st.st_mode), (int)st.st_rdev);
}

/* Threads that each write their own part, in pieces of several buffers. */
static void *part(void *arg)
{
	uintptr_t me = (uintptr_t)arg;
	int fd = open("parts", O_WRONLY);
	uint8_t a[1000], b[3000], c[96];
	struct iovec v[] = { { a, sizeof(a) }, { b, sizeof(b) }, { c, sizeof(c) } };
	uintptr_t good = 0;

	for (unsigned i = 0; i < 64; i++) {
		fill(a, sizeof(a), me * 1000 + i);
		fill(b, sizeof(b), me * 2000 + i);
		fill(c, sizeof(c), me * 3000 + i);
		good += pwritev(fd, v, 3, (off_t)((i * 4 + me) * 4096)) == 4096;
		if (i % 16 == 0) {
			fdatasync(fd);
		}
	}
	close(fd);
	return (void *)good;
}

static void parts(void)
{
	pthread_t t[4];
	uintptr_t good = 0;
	size_t n = 0;

	close(make("parts", ""));
	for (uintptr_t i = 0; i < 4; i++) {
		if (pthread_create(&t[i], NULL, part, (void *)i) != 0) {
			broken("pthread_create");
		}
	}
	for (unsigned i = 0; i < 4; i++) {
		void *r = NULL;

		pthread_join(t[i], &r);
		good += (uintptr_t)r;
	}
	uint64_t v = sum_of_file("parts", &n);

	out("parts", "%zu good %zu %016llx", (size_t)good, n, (unsigned long long)v);
	int from = open("parts", O_RDONLY), to = open("copy", O_WRONLY | O_CREAT | O_TRUNC, 0600);
	ssize_t copied = 0;

	for (ssize_t k; (k = copy_file_range(from, NULL, to, NULL, 1 << 20, 0)) > 0; copied += k) {
	}
	close(from);
	close(to);
	out("copy", "%zd %d", copied, sum_of_file("copy", &n) == v);
	unlink("parts");
	unlink("copy");
}

void conform_disk(void)
{
	section("disk");
	pieces("pieces", 0);
	pieces("pieces, in sync", O_DSYNC);
	sizes();
	names();
	nameless();
	many();
	modes();
	locks();
	told();
	parts();
}
