/* SPDX-License-Identifier: Apache-2.0 */
/* What the files of the unpacker share; see image/unpack.h. */
#ifndef IMAGE_UNPACK_PRIVATE_H
#define IMAGE_UNPACK_PRIVATE_H

#include "image/unpack.h"

/*
 * Read a tar from `in_fd` to its end, and make what it says in root_fd. Runs in the confined
 * child (and in the fuzz target, over a folder of its own): nothing here trusts the archive,
 * and nothing here needs the confinement in order to stay inside the root.
 *
 * The process's umask is 0, and its locale's character set is UTF-8.
 */
struct unpack_tar {
	int                         in_fd;
	int                         root_fd;     /* readable folder */
	bool                        below;       /* there are layers below, to be hidden */
	bool                        squash;      /* there is one owner only */
	const struct unpack_limits *limits;
	uint64_t                    entries;     /* out */
	uint64_t                    devices;     /* out */
};

int unpack__tar(struct unpack_tar *t, struct err *e) must_check;

/* Decompress `in_fd` to `out_fd`; in the confined child. */
int unpack__inflate(int in_fd, int out_fd, enum oci_kind kind, struct err *e) must_check;

/* Names from archives, for messages: what is not printable becomes '?'. */
struct shown {
	char text[96];
};
struct shown unpack__show(const char *name);

/*
 * Where an entry's name leads, lexically: without leading slashes, "." and doubled slashes,
 * with ".." taken out. "" is the root. -EINVAL: it climbs above the root, or has a component
 * that no file can be called; -ENAMETOOLONG; -ELOOP: more components than `depth`.
 */
int unpack__clean(const char *name, const struct unpack_limits *limits, char ret[4096]) must_check;

/* What an archive has made, as pairs of a folder's inode and a name; see unpack-made.c. */
struct made {
	uint64_t *slots;
	size_t    n_slots, n_used;
	uint64_t  seed[2];
};
int  made_init(struct made *m) must_check;
void made_fini(struct made *m);
int  made_add(struct made *m, uint64_t dir_ino, const char *name) must_check;
bool made_has(const struct made *m, uint64_t dir_ino, const char *name);

/*
 * Hide what layers below have under `name` in a folder: what this archive made stays.
 * -ENOENT is no failure.
 */
int unpack__hide(const struct made *m, int dir_fd, const char *name) must_check;

/* The same for everything in a folder. */
int unpack__hide_below(const struct made *m, int dir_fd) must_check;

#endif
