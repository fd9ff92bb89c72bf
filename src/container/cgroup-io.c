/* SPDX-License-Identifier: Apache-2.0 */
#include <dirent.h>
#include <errno.h>
#include <inttypes.h>
#include <limits.h>
#include <stdio.h>

#include "base/mem.h"
#include "container/cgroup-priv.h"
#include "sys/file.h"

enum { FILE_MAX = 4 << 20, WALK_DEPTH_MAX = 256 };

/* "a/b/file" below the root; -ENAMETOOLONG. */
static int file_path(char out[PATH_MAX], const char *group, const char *file)
{
	int n = snprintf(out, PATH_MAX, "%s/%s", cg__rel(group), file);

	return n < 0 || n >= PATH_MAX ? -ENAMETOOLONG : 0;
}

int cg__open(const struct cg_hier *h, const char *file, int flags)
{
	char path[PATH_MAX];
	int r = file_path(path, h->group, file);

	return r < 0 ? r : sys_openat(h->root_fd, path, flags | O_NOCTTY, 0);
}

int cg__write(const struct cg_hier *h, const char *file, const char *text)
{
	char path[PATH_MAX];
	int r = file_path(path, h->group, file);

	return r < 0 ? r : sys_write_file(h->root_fd, path, text, strlen(text));
}

int cg__write_u64(const struct cg_hier *h, const char *file, uint64_t v)
{
	char text[24];

	snprintf(text, sizeof(text), "%" PRIu64, v);
	return cg__write(h, file, text);
}

int cg__write_i64(const struct cg_hier *h, const char *file, int64_t v)
{
	char text[24];

	snprintf(text, sizeof(text), "%" PRId64, v);
	return cg__write(h, file, text);
}

int cg__read_at(const struct cg_hier *h, const char *group, const char *file, struct buf *ret)
{
	char path[PATH_MAX];
	int r = file_path(path, group, file);

	return r < 0 ? r : sys_read_file(h->root_fd, path, FILE_MAX, ret);
}

int cg__read(const struct cg_hier *h, const char *file, struct buf *ret)
{
	return cg__read_at(h, h->group, file, ret);
}

int cg__read_u64(const struct cg_hier *h, const char *file, uint64_t *ret)
{
	auto_buf struct buf b = BUF_INIT;
	int r = cg__read(h, file, &b);

	if (r < 0) {
		return r;
	}
	while (b.len > 0 && b.data[b.len - 1] == '\n') {
		b.data[--b.len] = '\0';
	}
	if (str_eq(buf_str(&b), "max")) {
		*ret = UINT64_MAX;
		return 0;
	}
	return parse_u64(buf_str(&b), UINT64_MAX, ret);
}

bool cg__has(const struct cg_hier *h, const char *file)
{
	char path[PATH_MAX];
	struct stat st;

	return file_path(path, h->group, file) == 0 && sys_fstatat(h->root_fd, path, &st, 0) == 0;
}

bool cg__keyed(const char *text, const char *key, uint64_t *ret)
{
	size_t n = strlen(key);
	const char *line;
	size_t len;

	while (str_split(&text, '\n', &line, &len)) {
		if (len > n && memcmp(line, key, n) == 0 && line[n] == ' ') {
			char number[24];

			if (len - n - 1 >= sizeof(number)) {
				return false;
			}
			memcpy(number, line + n + 1, len - n - 1);
			number[len - n - 1] = '\0';
			return parse_u64(number, UINT64_MAX, ret) == 0;
		}
	}
	return false;
}

static int walk(const struct cg_hier *h, const char *group, bool depth_first, unsigned depth,
		cg_walk_fn fn, void *ud);

static int walk_children(const struct cg_hier *h, const char *group, bool depth_first,
			 unsigned depth, cg_walk_fn fn, void *ud)
{
	DIR *dir = NULL;
	const struct dirent *d;
	int r = depth < WALK_DEPTH_MAX ? sys_opendir(h->root_fd, cg__rel(group), &dir) : -ELOOP;

	if (r < 0) {
		return r == -ENOENT || r == -ENODEV ? 0 : r;
	}
	while (r >= 0 && (d = readdir(dir))) {
		if (d->d_type != DT_DIR || str_eq(d->d_name, ".") || str_eq(d->d_name, "..")) {
			continue;
		}
		auto_free char *child = str_printf("%s/%s", str_eq(group, "/") ? "" : group,
						   d->d_name);

		r = child ? walk(h, child, depth_first, depth + 1, fn, ud) : -ENOMEM;
	}
	(void)closedir(dir); /* read only: nothing to lose */
	return r;
}

static int walk(const struct cg_hier *h, const char *group, bool depth_first, unsigned depth,
		cg_walk_fn fn, void *ud)
{
	int r = depth_first ? 0 : fn(h, group, ud);

	if (r >= 0) {
		r = walk_children(h, group, depth_first, depth, fn, ud);
	}
	if (r >= 0 && depth_first) {
		r = fn(h, group, ud);
	}
	return r;
}

int cg__walk(const struct cg_hier *h, const char *group, bool depth_first, cg_walk_fn fn, void *ud)
{
	return walk(h, group, depth_first, 0, fn, ud);
}
