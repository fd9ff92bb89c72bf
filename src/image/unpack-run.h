/* SPDX-License-Identifier: Apache-2.0 */
/* One tar on its way into files: what unpack-tar.c and unpack-entry.c share. */
#ifndef IMAGE_UNPACK_RUN_H
#define IMAGE_UNPACK_RUN_H

#include <archive.h>
#include <archive_entry.h>
#include <time.h>

#include "base/arena.h"
#include "image/unpack-private.h"

enum { UNPACK_PATH_BYTES = 4096 };

/* A folder whose times are set at the end, when nothing more is put in it. */
struct late_times {
	struct late_times *next;
	struct timespec    mtime;
	const char        *path;
};

struct unpack_run {
	struct unpack_tar    *t;
	struct archive       *ar;
	struct archive_entry *entry;
	const char           *name;         /* of the entry, as the archive has it */
	char                  path[UNPACK_PATH_BYTES];  /* clean */
	struct made           made;
	struct arena          arena;
	struct late_times    *late;
	uint64_t              implied;      /* folders made that the archive did not name */
	struct err           *e;

	/* The folder of the entry before, which is often this one's. */
	int                   parent_fd;    /* -1: none */
	uint64_t              parent_ino;
	char                  parent[UNPACK_PATH_BYTES];

	/* Reading. */
	char                 *in;
	uint64_t              read_bytes;
	uint64_t              last_nonzero; /* offset behind the last byte that is not 0 */
	int                   read_error;   /* errno */
};

/* The three ways to end over the entry in hand: it is bad, too much, or the kernel said no. */
int unpack__refuse(struct unpack_run *u, const char *why) must_check;
int unpack__over_limit(struct unpack_run *u, const char *what, uint64_t limit) must_check;
int unpack__failed(struct unpack_run *u, int r, const char *what) must_check;

/* unpack__clean() of a name of the entry in hand. */
int unpack__clean_name(struct unpack_run *u, const char *name, char *ret) must_check;

/*
 * Make the entry in hand as `name` in u->parent_fd, where nothing of that name is; or, for a
 * folder that `exists`, give it what the entry says.
 */
int unpack__make_entry(struct unpack_run *u, const char *name, bool exists) must_check;

/* Owner, mode and attributes of a folder; its time is kept for the end. */
int unpack__finish_folder(struct unpack_run *u, int fd) must_check;

#endif
