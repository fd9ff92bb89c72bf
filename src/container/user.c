/* SPDX-License-Identifier: Apache-2.0 */
#include "container/user.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <string.h>

#include "base/fd.h"
#include "base/str.h"
#include "sys/file.h"
#include "sys/path.h"
#include "sys/procfs.h"

enum {
	FILE_MAX = 1 << 20,     /* bytes of /etc/passwd or /etc/group; rule 18 */
	FIELDS_MAX = 8,
};

/* A view of a part of a file. */
struct view {
	const char *p;
	size_t      n;
};

static bool view_is(struct view v, const char *s)
{
	return strlen(s) == v.n && memcmp(v.p, s, v.n) == 0;
}

/* 0 to 4294967294, digits only. */
static int parse_id(struct view v, uint32_t *ret)
{
	char text[16];
	uint64_t id = 0;

	if (v.n == 0 || v.n >= sizeof(text)) {
		return -EINVAL;
	}
	memcpy(text, v.p, v.n);
	text[v.n] = '\0';
	if (strlen(text) != v.n || parse_u64(text, UINT32_MAX - 1, &id) < 0) {
		return -EINVAL;
	}
	*ret = (uint32_t)id;
	return 0;
}

static bool all_digits(struct view v)
{
	for (size_t i = 0; i < v.n; i++) {
		if (v.p[i] < '0' || v.p[i] > '9') {
			return false;
		}
	}
	return v.n > 0;
}

/*
 * The content of a file of the container. It may be anything: a link to anywhere, a FIFO, a
 * device, endless. It is looked up inside the root without opening it, and read only once
 * it is known to be a regular file.
 */
static int read_file(int root_fd, const char *path, struct buf *ret, struct err *e)
{
	auto_close int path_fd = path_open(root_fd, path, 0);
	auto_close int proc_fd = -1, fd = -1;
	struct stat st;
	int r = 0;

	if (path_fd == -ENOENT || path_fd == -ENOTDIR) {
		return 0;
	}
	if (path_fd < 0) {
		return err_set(e, -path_fd, ERR_INVALID, "cannot open the image's %s", path);
	}
	r = sys_fstat(path_fd, &st);
	if (r < 0) {
		return err_set(e, -r, ERR_HOST, "fstat %s", path);
	}
	if (!S_ISREG(st.st_mode)) {
		return err_set(e, EINVAL, ERR_INVALID, "the image's %s is not a regular file", path);
	}
	proc_fd = procfs_open(PROCFS_PID_ONLY);
	fd = proc_fd < 0 ? proc_fd : procfs_reopen(proc_fd, path_fd, O_RDONLY | O_NONBLOCK | O_NOCTTY);
	if (fd < 0) {
		return err_set(e, -fd, ERR_HOST, "open %s", path);
	}
	r = sys_read_fd(fd, FILE_MAX, ret);
	if (r == -EFBIG) {
		return err_set(e, EFBIG, ERR_LIMIT, "the image's %s is over %d MiB", path,
			       FILE_MAX >> 20);
	}
	return r < 0 ? err_set(e, -r, ERR_HOST, "read %s", path) : 0;
}

/*
 * The next line's fields. Comments, entries for NIS, and lines that no name can stand in are
 * passed over. Returns the number of fields, 0 at the end.
 */
static size_t next_line(struct view *file, struct view fields[FIELDS_MAX])
{
	while (file->n > 0) {
		const char *end = memchr(file->p, '\n', file->n);
		struct view line = { file->p, end ? (size_t)(end - file->p) : file->n };
		size_t n = 0, used = line.n + (end ? 1 : 0);

		file->p += used;
		file->n -= used;
		if (line.n == 0 || memchr("#+-:", line.p[0], 4) || memchr(line.p, '\0', line.n)) {
			continue;
		}
		while (n < FIELDS_MAX) {
			const char *colon = memchr(line.p, ':', line.n);
			size_t len = colon && n + 1 < FIELDS_MAX ? (size_t)(colon - line.p) : line.n;

			fields[n++] = (struct view){ line.p, len };
			if (len == line.n) {
				break;
			}
			line.p += len + 1;
			line.n -= len + 1;
		}
		return n;
	}
	return 0;
}

/* What "user", "uid", "group" or "gid" is: 1 a number, 0 a name, or an error. */
static int classify(struct view v, const char *what, uint32_t *ret_id, struct err *e)
{
	if (all_digits(v)) {
		if (parse_id(v, ret_id) < 0) {
			return err_set(e, ERANGE, ERR_INVALID, "%s %.*s is out of range (0 to %u)",
				       what, (int)MIN(v.n, (size_t)64), v.p, UINT32_MAX - 1);
		}
		return 1;
	}
	if (v.n == 0 || v.n > 255 || v.p[0] == '-' || v.p[0] == '+') {
		return err_set(e, EINVAL, ERR_INVALID, "'%.*s' is not a %s", (int)MIN(v.n, (size_t)64),
			       v.p, what);
	}
	return 0;
}

static int bad_line(struct err *e, const char *path, struct view name, struct view id)
{
	return err_set(e, ERANGE, ERR_INVALID, "the image's %s gives '%.*s' the id '%.*s'", path,
		       (int)MIN(name.n, (size_t)64), name.p, (int)MIN(id.n, (size_t)64), id.p);
}

/* Find a line of passwd by name, or by uid where name.p is NULL. 1 found, 0 not. */
static int find_user(struct view file, struct view name, uid_t uid, struct arena *a,
		     struct user *u, struct err *e)
{
	struct view f[FIELDS_MAX];
	size_t n = 0;

	while ((n = next_line(&file, f)) > 0) {
		uint32_t id = 0, gid = 0;

		if (n < 4 || (name.p && (f[0].n != name.n || memcmp(f[0].p, name.p, name.n) != 0))) {
			continue;
		}
		if (parse_id(f[2], &id) < 0) {
			if (!name.p) {
				continue; /* not the line of any uid */
			}
			return bad_line(e, "/etc/passwd", f[0], f[2]);
		}
		if (!name.p && id != uid) {
			continue;
		}
		if (parse_id(f[3], &gid) < 0) {
			return bad_line(e, "/etc/passwd", f[0], f[3]);
		}
		u->uid = id;
		u->gid = gid;
		u->name = arena_strndup(a, f[0].p, f[0].n);
		if (n > 5 && f[5].n > 0 && f[5].n < PATH_MAX && f[5].p[0] == '/') {
			u->home = arena_strndup(a, f[5].p, f[5].n);
			if (!u->home) {
				return err_nomem(e);
			}
		}
		return u->name ? 1 : err_nomem(e);
	}
	return 0;
}

static int add_gid(struct arena *a, struct user *u, gid_t gid, struct err *e)
{
	gid_t *list = NULL;

	for (size_t i = 0; i < u->n_groups; i++) {
		if (u->groups[i] == gid) {
			return 0;
		}
	}
	if (u->n_groups >= NGROUPS_MAX) {
		return err_set(e, E2BIG, ERR_LIMIT, "more than %d groups", NGROUPS_MAX);
	}
	/* Room doubles when the number is a power of two; the arena frees what was before. */
	if ((u->n_groups & (u->n_groups - 1)) == 0) {
		list = arena_alloc(a, u->n_groups ? u->n_groups * 2 : 1, sizeof(*list));
		if (!list) {
			return err_nomem(e);
		}
		if (u->n_groups > 0) {
			memcpy(list, u->groups, u->n_groups * sizeof(*list));
		}
		u->groups = list;
	}
	u->groups[u->n_groups++] = gid;
	return 0;
}

static bool has_member(struct view members, const char *name)
{
	while (members.n > 0) {
		const char *comma = memchr(members.p, ',', members.n);
		struct view one = { members.p, comma ? (size_t)(comma - members.p) : members.n };
		size_t used = one.n + (comma ? 1 : 0);

		if (view_is(one, name)) {
			return true;
		}
		members.p += used;
		members.n -= used;
	}
	return false;
}

/* All groups that list u->name. */
static int find_memberships(struct view file, struct arena *a, struct user *u, struct err *e)
{
	struct view f[FIELDS_MAX];
	size_t n = 0;
	int r = 0;

	while (r == 0 && (n = next_line(&file, f)) > 0) {
		uint32_t gid = 0;

		if (n < 4 || !has_member(f[3], u->name)) {
			continue;
		}
		if (parse_id(f[2], &gid) < 0) {
			return bad_line(e, "/etc/group", f[0], f[2]);
		}
		r = add_gid(a, u, gid, e);
	}
	return r;
}

static int resolve_group(int root_fd, struct view text, gid_t *ret, struct err *e)
{
	auto_buf struct buf b = BUF_INIT;
	struct view file, f[FIELDS_MAX];
	uint32_t gid = 0;
	size_t n = 0;
	int r = classify(text, "group", &gid, e);

	if (r != 0) {
		*ret = r > 0 ? gid : *ret;
		return r < 0 ? r : 0;
	}
	r = read_file(root_fd, "/etc/group", &b, e);
	if (r < 0) {
		return r;
	}
	file = (struct view){ buf_str(&b), b.len };
	while ((n = next_line(&file, f)) > 0) {
		if (n < 3 || f[0].n != text.n || memcmp(f[0].p, text.p, text.n) != 0) {
			continue;
		}
		if (parse_id(f[2], &gid) < 0) {
			return bad_line(e, "/etc/group", f[0], f[2]);
		}
		*ret = gid;
		return 0;
	}
	return err_set(e, ENOENT, ERR_INVALID, "the image's /etc/group has no group '%.*s'",
		       (int)text.n, text.p);
}

static int resolve_user(int root_fd, struct view text, struct arena *a, struct user *u,
			struct err *e)
{
	auto_buf struct buf b = BUF_INIT;
	uint32_t uid = 0;
	int r = text.n == 0 ? 1 : classify(text, "user", &uid, e);
	bool number = r > 0;

	if (r >= 0) {
		r = read_file(root_fd, "/etc/passwd", &b, e);
	}
	if (r < 0) {
		return r;
	}
	r = find_user((struct view){ buf_str(&b), b.len }, number ? (struct view){ NULL, 0 } : text,
		      uid, a, u, e);
	if (r == 0 && !number) {
		return err_set(e, ENOENT, ERR_INVALID, "the image's /etc/passwd has no user '%.*s'",
			       (int)text.n, text.p);
	}
	if (r == 0) {
		u->uid = uid;
	}
	return r < 0 ? r : 0;
}

int user_resolve(int root_fd, const char *text, struct arena *a, struct user *ret, struct err *e)
{
	const char *colon = strchr(text, ':');
	struct view user = { text, colon ? (size_t)(colon - text) : strlen(text) };
	struct view group = { colon ? colon + 1 : "", colon ? strlen(colon + 1) : 0 };
	auto_buf struct buf b = BUF_INIT;
	struct user u = { 0 };
	int r = 0;

	if (memchr(group.p, ':', group.n)) {
		return err_set(e, EINVAL, ERR_INVALID, "'%.64s' is not user[:group]", text);
	}
	r = resolve_user(root_fd, user, a, &u, e);
	if (r == 0 && group.n > 0) {
		r = resolve_group(root_fd, group, &u.gid, e);
	} else if (r == 0 && u.name) {
		r = read_file(root_fd, "/etc/group", &b, e);
		r = r < 0 ? r : find_memberships((struct view){ buf_str(&b), b.len }, a, &u, e);
	}
	if (r < 0) {
		return r;
	}
	*ret = u;
	return 0;
}

int user_add_group(int root_fd, const char *text, struct arena *a, struct user *u, struct err *e)
{
	gid_t gid = 0;
	int r = resolve_group(root_fd, (struct view){ text, strlen(text) }, &gid, e);

	return r < 0 ? r : add_gid(a, u, gid, e);
}

int user_home(int root_fd, uid_t uid, struct arena *a, const char **ret, struct err *e)
{
	auto_buf struct buf b = BUF_INIT;
	struct user u = { 0 };
	int r = read_file(root_fd, "/etc/passwd", &b, e);

	if (r == 0) {
		r = find_user((struct view){ buf_str(&b), b.len }, (struct view){ NULL, 0 }, uid, a, &u,
			      e);
	}
	if (r < 0) {
		return r;
	}
	*ret = u.home;
	return 0;
}
