/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Who a container's process runs as, from the image's "user[:group]" and the container's own
 * /etc/passwd and /etc/group.
 *
 * The files belong to the container and are hostile: they are opened inside its root, only
 * if they are regular files, without blocking, and read up to a bound. No NSS is asked.
 * A file that is missing counts as empty.
 *
 * A number is always a uid or gid, never a name, and takes its full width: 0 to 4294967294.
 * Anything else (a sign, a space, more digits, 4294967295) is refused, also where it stands
 * in the file's line for the name that was asked for.
 */
#ifndef CONTAINER_USER_H
#define CONTAINER_USER_H

#include <sys/types.h>

#include "base/arena.h"
#include "base/err.h"

struct user {
	uid_t       uid;
	gid_t       gid;
	gid_t      *groups;    /* supplementary; NULL if there are none */
	size_t      n_groups;
	const char *name;      /* NULL: no line in the file */
	const char *home;      /* NULL: no line in the file, or not absolute */
};

/*
 * Resolve "user", "uid", "user:group", "uid:gid" or "" (root).
 *
 * Without a group: gid and supplementary groups as the files say (gid 0 for a uid that they
 * do not have). With one: only that.
 *
 * @root_fd  the container's root folder
 * @a        owns what *ret points to
 *
 * Returns 0; -ENOENT (ERR_INVALID) for a name that is not there; -errno.
 */
int user_resolve(int root_fd, const char *text, struct arena *a, struct user *ret,
		 struct err *e) must_check;

/* Groups to add by name or number ("--group-add"): appended to u->groups, each once. */
int user_add_group(int root_fd, const char *text, struct arena *a, struct user *u,
		   struct err *e) must_check;

/* The home folder of a uid, or NULL with 0 if the file does not say. */
int user_home(int root_fd, uid_t uid, struct arena *a, const char **ret, struct err *e) must_check;

#endif
