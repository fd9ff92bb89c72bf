/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Compiled filters on disk: "HASH.bpf" in a folder of ours.
 *
 *	head    struct head, host byte order
 *	key     head.key_bytes bytes: all that the filter was made from
 *	insns   head.n instructions
 *
 * The name's hash only finds the file; what decides is that the whole key is equal, so that
 * no choice of profile can stand for another one. The sum finds damage. What keeps others
 * out is the folder, and it is asked again of each file.
 */
#include "container/seccomp-priv.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/fd.h"
#include "base/mem.h"
#include "base/str.h"
#include "sys/file.h"

enum {
	FILE_MAX = 1 << 20,
	KEEP_MAX = 128,         /* files in the folder */
};

struct head {
	char     magic[8];
	uint32_t key_bytes;
	uint32_t n;
	uint32_t flags;
	uint32_t notify;
	uint64_t sum;           /* of the head with sum 0, and all behind it */
};

static const char magic[8] = "HOLMBPF1";

/* FNV-1a */
static uint64_t sum_add(uint64_t h, const void *data, size_t n)
{
	const uint8_t *p = data;

	for (size_t i = 0; i < n; i++) {
		h = (h ^ p[i]) * UINT64_C(0x100000001b3);
	}
	return h;
}

static uint64_t sum_start(unsigned lane)
{
	return UINT64_C(0xcbf29ce484222325) + lane;
}

static void add_text(struct buf *b, const char *s)
{
	/* With its length, so that no two lists give the same bytes. */
	buf_printf(b, "%zu:%s\n", s ? strlen(s) : 0, s ? s : "");
}

static void add_strv(struct buf *b, const struct jstrv *v)
{
	buf_printf(b, "[%zu%s\n", v->n, v->v ? "" : " absent");
	for (size_t i = 0; i < v->n; i++) {
		add_text(b, v->v[i]);
	}
}

int seccomp__key(const struct oci_seccomp *s, struct buf *ret)
{
	const struct oci_seccomp_rule *rules = s->syscalls.v;

	/* The number at the front is ours: it changes when the code that compiles does. */
	buf_printf(ret, "1 libseccomp %s %s\n", seccomp_library_version(), s->default_action);
	buf_printf(ret, "%d %llu\n", s->has_default_errno_ret, (unsigned long long)s->default_errno_ret);
	add_strv(ret, &s->architectures);
	add_strv(ret, &s->flags);
	for (size_t i = 0; i < s->syscalls.n; i++) {
		const struct oci_seccomp_arg *args = rules[i].args.v;

		add_text(ret, rules[i].action);
		buf_printf(ret, "%d %llu %zu\n", rules[i].has_errno_ret,
			   (unsigned long long)rules[i].errno_ret, rules[i].args.n);
		add_strv(ret, &rules[i].names);
		for (size_t k = 0; k < rules[i].args.n; k++) {
			buf_printf(ret, "%llu %llu %llu\n", (unsigned long long)args[k].index,
				   (unsigned long long)args[k].value,
				   (unsigned long long)args[k].value_two);
			add_text(ret, args[k].op);
		}
	}
	return buf_failed(ret) ? -ENOMEM : 0;
}

void seccomp__cache_name(const struct buf *key, char out[static 48])
{
	snprintf(out, 48, "%016llx%016llx.bpf",
		 (unsigned long long)sum_add(sum_start(0), key->data, key->len),
		 (unsigned long long)sum_add(sum_start(1), key->data, key->len));
}

/* Ours alone: no one else may have written it, nor can. */
static bool is_ours(const struct stat *st, mode_t type)
{
	return (st->st_mode & S_IFMT) == type && st->st_uid == geteuid() &&
	       (st->st_mode & (S_IWGRP | S_IWOTH)) == 0;
}

int seccomp_cache_open(int dir_fd, const char *path, int *ret_fd, struct err *e)
{
	auto_close int fd = -1;
	struct stat st;
	int r = sys_mkdirat(dir_fd, path, 0700);

	if (r < 0 && r != -EEXIST) {
		return err_set(e, -r, ERR_HOST, "make %s", path);
	}
	fd = sys_openat(dir_fd, path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW, 0);
	r = fd < 0 ? fd : sys_fstat(fd, &st);
	if (r < 0) {
		return err_set(e, -r, ERR_HOST, "open %s", path);
	}
	if (!is_ours(&st, S_IFDIR)) {
		return err_set(e, EPERM, ERR_HOST, "%s is not a folder that only uid %u can write",
			       path, geteuid());
	}
	*ret_fd = take_fd(&fd);
	return 0;
}

static uint64_t file_sum(struct head h, const void *rest, size_t n)
{
	h.sum = 0;
	return sum_add(sum_add(sum_start(0), &h, sizeof(h)), rest, n);
}

/* A file's bytes to a filter. */
static int decode(const struct buf *file, const struct buf *key, struct seccomp_filter *ret)
{
	struct head h;
	size_t insns_bytes = 0;

	if (file->len < sizeof(h)) {
		return -EBADMSG;
	}
	memcpy(&h, file->data, sizeof(h));
	insns_bytes = (size_t)h.n * sizeof(*ret->insns);
	if (memcmp(h.magic, magic, sizeof(magic)) != 0 || h.n == 0 || h.n > BPF_MAXINSNS ||
	    h.key_bytes > FILE_MAX || file->len != sizeof(h) + h.key_bytes + insns_bytes ||
	    file_sum(h, file->data + sizeof(h), file->len - sizeof(h)) != h.sum) {
		return -EBADMSG;
	}
	if (h.key_bytes != key->len || memcmp(file->data + sizeof(h), key->data, key->len) != 0) {
		return -ENOENT;
	}
	ret->insns = mem_dup(file->data + sizeof(h) + h.key_bytes, insns_bytes);
	if (!ret->insns) {
		return -ENOMEM;
	}
	ret->n = (uint16_t)h.n;
	ret->flags = h.flags;
	ret->notify = h.notify != 0;
	ret->from_cache = true;
	return 0;
}

int seccomp__cache_load(int cache_fd, const struct buf *key, struct seccomp_filter *ret)
{
	auto_buf struct buf file = BUF_INIT;
	auto_close int fd = -1;
	char name[48];
	struct stat st;
	int r = 0;

	seccomp__cache_name(key, name);
	fd = sys_openat(cache_fd, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY, 0);
	if (fd < 0) {
		return fd;
	}
	r = sys_fstat(fd, &st);
	if (r < 0) {
		return r;
	}
	if (!is_ours(&st, S_IFREG) || st.st_nlink != 1) {
		return -EPERM;
	}
	r = sys_read_fd(fd, FILE_MAX, &file);
	return r < 0 ? r : decode(&file, key, ret);
}

/* Where there are too many, the one that was written first goes. */
static void make_room(int cache_fd)
{
	DIR *dir = NULL;
	char oldest[NAME_MAX + 1] = "";
	struct timespec when = { 0 };
	const struct dirent *d = NULL;
	unsigned n = 0;

	if (sys_opendir(cache_fd, ".", &dir) < 0) {
		return;
	}
	while ((d = readdir(dir))) {
		struct stat st;

		if (d->d_name[0] == '.' || sys_fstatat(cache_fd, d->d_name, &st, AT_SYMLINK_NOFOLLOW) < 0) {
			continue;
		}
		n++;
		if (!*oldest || st.st_mtim.tv_sec < when.tv_sec ||
		    (st.st_mtim.tv_sec == when.tv_sec && st.st_mtim.tv_nsec < when.tv_nsec)) {
			snprintf(oldest, sizeof(oldest), "%s", d->d_name);
			when = st.st_mtim;
		}
	}
	closedir(dir);
	if (n >= KEEP_MAX) {
		ignore_result(sys_unlinkat(cache_fd, oldest, 0)); /* there is only one more then */
	}
}

int seccomp__cache_store(int cache_fd, const struct buf *key, const struct seccomp_filter *f)
{
	struct head h = { .key_bytes = (uint32_t)key->len, .n = f->n, .flags = f->flags,
			  .notify = f->notify };
	auto_buf struct buf b = BUF_INIT;
	auto_close int fd = -1;
	char name[48], temp[80];
	int r = 0;

	if (key->len > FILE_MAX / 2) {
		return -EFBIG;
	}
	memcpy(h.magic, magic, sizeof(magic));
	buf_add(&b, &h, sizeof(h));
	buf_add(&b, key->data, key->len);
	buf_add(&b, f->insns, (size_t)f->n * sizeof(*f->insns));
	if (buf_failed(&b)) {
		return -ENOMEM;
	}
	h.sum = file_sum(h, b.data + sizeof(h), b.len - sizeof(h));
	memcpy(b.data, &h, sizeof(h));
	make_room(cache_fd);
	seccomp__cache_name(key, name);
	snprintf(temp, sizeof(temp), "%s.%d", name, getpid());
	ignore_result(sys_unlinkat(cache_fd, temp, 0)); /* of one that died here with our pid */
	fd = sys_openat(cache_fd, temp, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW, 0600);
	if (fd < 0) {
		return fd;
	}
	/* Not synced: a file that a crash left damaged fails its sum and is made again. */
	r = sys_write_full(fd, b.data, b.len);
	r = r < 0 ? r : sys_renameat2(cache_fd, temp, cache_fd, name, 0);
	if (r < 0) {
		ignore_result(sys_unlinkat(cache_fd, temp, 0)); /* the first failure is the one told */
	}
	return r;
}
