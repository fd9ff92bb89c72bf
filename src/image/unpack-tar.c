/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A tar, made into files. libarchive is the one reader, and a warning from it is a refusal
 * (threat model, rule 16). Parents are resolved by the kernel inside the root and everything
 * after is done on descriptors, so a link that the archive made leads nowhere else.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "base/mem.h"
#include "image/unpack-run.h"
#include "sys/file.h"
#include "sys/path.h"

enum { IN_BYTES = 128 * 1024 };

#define WHITEOUT        ".wh."
#define WHITEOUT_OPAQUE ".wh..wh..opq"
#define WHITEOUT_OTHER  ".wh..wh."

/* --- folders that lead to an entry --- */

static void forget_parent(struct unpack_run *u)
{
	fd_close(&u->parent_fd);
}

/* Cut the last component off; returns it. */
static char *cut_last(char *path)
{
	char *slash = strrchr(path, '/');

	if (!slash) {
		return path;
	}
	*slash = '\0';
	return slash + 1;
}

/*
 * A folder that the archive did not name, made for what is in it. Links on the way are
 * followed inside the root; one that leads nowhere is a refusal.
 */
static int make_parents(struct unpack_run *u, const char *path)
{
	char prefix[UNPACK_PATH_BYTES];
	size_t n = 0;

	for (;;) {
		n += strcspn(path + n, "/");
		memcpy(prefix, path, n);
		prefix[n] = '\0';
		int fd = path_open(u->t->root_fd, prefix, PATH_DIRECTORY);

		if (fd == -ENOENT) {
			char *name = cut_last(prefix);
			auto_close int dir = path_open(u->t->root_fd, name == prefix ? "" : prefix,
						       PATH_DIRECTORY);
			struct stat st;
			int r = dir < 0 ? dir : path_mkdir(dir, name, 0755);

			if (r == 0) {
				r = sys_fstat(dir, &st);
			}
			r = r < 0 ? r : made_add(&u->made, st.st_ino, name);
			/* A name costs an archive less than the folders in it cost us. */
			if (r == 0 && ++u->implied > u->t->limits->entries) {
				r = -E2BIG;
			}
			if (r < 0) {
				return r;
			}
		} else if (fd < 0) {
			return fd;
		}
		fd_close(&fd);
		if (path[n] == '\0') {
			return 0;
		}
		n++;
	}
}

/* The folder of u->path, left in u->parent_fd; the last component is returned. */
static int open_parent(struct unpack_run *u, const char **ret_name)
{
	char *slash = strrchr(u->path, '/');
	size_t n = slash ? (size_t)(slash - u->path) : 0;
	struct stat st;

	*ret_name = slash ? slash + 1 : u->path;
	if (u->parent_fd >= 0 && strlen(u->parent) == n && memcmp(u->parent, u->path, n) == 0) {
		return 0;
	}
	forget_parent(u);
	memcpy(u->parent, u->path, n);
	u->parent[n] = '\0';
	int fd = path_openat(u->t->root_fd, u->parent, O_RDONLY | O_DIRECTORY, PATH_DIRECTORY);

	if (fd == -ENOENT) {
		int r = make_parents(u, u->parent);

		if (r == -E2BIG) {
			return unpack__over_limit(u, "the archive implies too many folders",
					  u->t->limits->entries);
		}
		if (r < 0) {
			return unpack__failed(u, r, "the folder it is in");
		}
		fd = path_openat(u->t->root_fd, u->parent, O_RDONLY | O_DIRECTORY, PATH_DIRECTORY);
	}
	if (fd < 0) {
		return unpack__failed(u, fd, "the folder it is in");
	}
	u->parent_fd = fd;
	int r = sys_fstat(fd, &st);

	u->parent_ino = st.st_ino;
	return r < 0 ? unpack__failed(u, r, "the folder it is in") : 0;
}

/* --- whiteouts --- */

static int whiteout(struct unpack_run *u, const char *name)
{
	int r = 0;

	if (str_eq(name, WHITEOUT_OPAQUE)) {
		r = u->t->below ? unpack__hide_below(&u->made, u->parent_fd) : 0;
	} else if (!str_after(name, WHITEOUT_OTHER)) {
		name += strlen(WHITEOUT);
		if (!path_name_valid(name)) {
			return unpack__refuse(u, "a whiteout of nothing");
		}
		r = u->t->below ? unpack__hide(&u->made, u->parent_fd, name) : 0;
	}
	/* Others are aufs's own marks, which no one else has a use for. */
	forget_parent(u);
	return r < 0 ? unpack__failed(u, r, "whiteout") : 0;
}

/* No file can have such a name in a layer, so neither can a folder on the way to one. */
static bool whiteout_on_the_way(const char *path)
{
	const char *slash = strrchr(path, '/');
	const char *deeper = strstr(path, "/" WHITEOUT);

	return slash && (str_after(path, WHITEOUT) || (deeper && deeper < slash));
}

/* --- one entry --- */

/* Make room for an entry. 1: a folder is there and stays, 0: nothing is there. */
static int clear_way(struct unpack_run *u, const char *name, bool folder)
{
	struct stat st;
	int r = sys_fstatat(u->parent_fd, name, &st, AT_SYMLINK_NOFOLLOW);

	if (r == 0 && folder && S_ISDIR(st.st_mode)) {
		return 1;
	}
	if (r == 0 && u->t->below && !made_has(&u->made, u->parent_ino, name)) {
		/* Of a layer below: this one puts something else in its place. */
		r = unpack__hide(&u->made, u->parent_fd, name);
		r = r < 0 ? r : sys_fstatat(u->parent_fd, name, &st, AT_SYMLINK_NOFOLLOW);
	}
	if (r == 0) {
		return unpack__refuse(u, "the archive has that name twice");
	}
	return r == -ENOENT ? 0 : unpack__failed(u, r, "replace");
}

static int root_entry(struct unpack_run *u)
{
	if (archive_entry_filetype(u->entry) != AE_IFDIR || archive_entry_hardlink(u->entry)) {
		return unpack__refuse(u, "the root must be a folder");
	}
	return unpack__finish_folder(u, u->t->root_fd);
}

static int one_entry(struct unpack_run *u)
{
	const char *name;
	bool folder = archive_entry_filetype(u->entry) == AE_IFDIR &&
		      !archive_entry_hardlink(u->entry);
	int r = unpack__clean_name(u, u->name, u->path);

	if (r < 0) {
		return r;
	}
	if (!*u->path) {
		return root_entry(u);
	}
	if (whiteout_on_the_way(u->path)) {
		return unpack__refuse(u, "a whiteout is no folder");
	}
	r = open_parent(u, &name);
	if (r < 0) {
		return r;
	}
	if (str_after(name, WHITEOUT)) {
		return whiteout(u, name);
	}
	r = clear_way(u, name, folder);
	if (r < 0) {
		return r;
	}
	r = made_add(&u->made, u->parent_ino, name) < 0 ? err_nomem(u->e) :
							 unpack__make_entry(u, name, r == 1);
	return r;
}

/* --- the archive --- */

static la_ssize_t on_read(struct archive *ar, void *ud, const void **ret)
{
	struct unpack_run *u = ud;
	ssize_t n = sys_read(u->t->in_fd, u->in, IN_BYTES);

	*ret = u->in;
	if (n < 0) {
		u->read_error = (int)-n;
		archive_set_error(ar, (int)-n, "read");
		return ARCHIVE_FATAL;
	}
	for (ssize_t i = n; i > 0; i--) {
		if (u->in[i - 1]) {
			u->last_nonzero = u->read_bytes + (uint64_t)i;
			break;
		}
	}
	u->read_bytes += (uint64_t)n;
	return n;
}

static int broken(struct unpack_run *u)
{
	const char *why = archive_error_string(u->ar);

	if (u->read_error) {
		return err_set(u->e, u->read_error, ERR_HOST, "reading the layer");
	}
	if (archive_errno(u->ar) == ENOMEM) {
		return err_set(u->e, ENOMEM, ERR_LIMIT,
			       "the archive needs more memory than it is given");
	}
	return unpack__refuse(u, why ? why : "malformed");
}

/* A header that says nothing: of the entry only its place is known. */
static int broken_after(struct unpack_run *u)
{
	char last[UNPACK_PATH_BYTES];

	(void)snprintf(last, sizeof(last), "%s", u->path);
	u->name = last;
	int r = broken(u);

	return u->t->entries ? err_wrap(u->e, "after") : r;
}

/* Whatever comes behind the end of a tar, another reader might take for entries. */
static int read_to_end(struct unpack_run *u)
{
	uint64_t end = (uint64_t)archive_filter_bytes(u->ar, 0);
	const void *ignored;
	la_ssize_t n;

	do {
		n = on_read(u->ar, u, &ignored);
	} while (n > 0);
	if (n < 0) {
		return broken(u);
	}
	if (u->last_nonzero > end) {
		u->name = "";
		return err_set(u->e, EBADMSG, ERR_INVALID,
			       "there is something behind the end of the "
			       "archive, at byte %llu",
			       (unsigned long long)end);
	}
	return 0;
}

static int read_entries(struct unpack_run *u)
{
	int r;

	for (;;) {
		r = archive_read_next_header(u->ar, &u->entry);
		if (r == ARCHIVE_EOF) {
			return read_to_end(u);
		}
		u->name = r == ARCHIVE_FATAL ? NULL : archive_entry_pathname(u->entry);
		if (r != ARCHIVE_OK) {
			return u->name && *u->name ? broken(u) : broken_after(u);
		}
		if (!u->name) {
			return unpack__refuse(u, "an entry without a name");
		}
		if (++u->t->entries > u->t->limits->entries) {
			return unpack__over_limit(u, "the archive has too many entries",
					  u->t->limits->entries);
		}
		r = one_entry(u);
		if (r < 0) {
			return r;
		}
	}
}

static int set_late_times(struct unpack_run *u)
{
	for (struct late_times *l = u->late; l; l = l->next) {
		const struct timespec times[2] = { l->mtime, l->mtime };
		auto_close int fd = path_openat(u->t->root_fd, l->path, O_RDONLY | O_DIRECTORY,
						PATH_DIRECTORY);

		u->name = l->path;
		int r = fd < 0 ? fd : sys_utimensat(fd, "", times, AT_EMPTY_PATH);

		/* A whiteout that came later may have taken the way to it. */
		if (r < 0 && r != -ENOENT && r != -ENOTDIR) {
			return unpack__failed(u, r, "time");
		}
	}
	return 0;
}

static int open_archive(struct unpack_run *u)
{
	u->ar = archive_read_new();
	u->in = mem_calloc(1, IN_BYTES);
	if (!u->ar || !u->in || made_init(&u->made) < 0) {
		return err_nomem(u->e);
	}
	if (archive_read_support_format_tar(u->ar) != ARCHIVE_OK ||
	    archive_read_support_format_empty(u->ar) != ARCHIVE_OK ||
	    archive_read_open(u->ar, u, NULL, on_read, NULL) != ARCHIVE_OK) {
		return broken(u);
	}
	return 0;
}

int unpack__tar(struct unpack_tar *t, struct err *e)
{
	struct unpack_run *u = mem_new(struct unpack_run);

	if (!u) {
		return err_nomem(e);
	}
	u->t = t;
	u->e = e;
	u->parent_fd = -1;
	int r = open_archive(u);

	if (r == 0) {
		r = read_entries(u);
	}
	if (r == 0) {
		r = set_late_times(u);
	}
	if (u->ar) {
		archive_read_free(u->ar);
	}
	forget_parent(u);
	made_fini(&u->made);
	arena_fini(&u->arena);
	free(u->in);
	free(u);
	return r;
}
