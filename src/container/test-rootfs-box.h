/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A bundle in a folder of its own, and a process in new namespaces that assembles and enters
 * its root: for test-rootfs.c.
 */
#ifndef CONTAINER_TEST_ROOTFS_BOX_H
#define CONTAINER_TEST_ROOTFS_BOX_H

#include "base/test.h"

#include <string.h>

#include "container/rootfs.h"

enum { BASE_ID = 200000 };

struct box {
	char dir[64];
	int  dir_fd;
};

struct run {
	const char  *mounts;      /* inside [] */
	const char  *linux;       /* members of "linux", with a comma before */
	const char  *more;        /* members of the config, with a comma before */
	const char  *root;        /* more members of "root" */
	bool         userns;
	bool         no_pivot;
	const char *(*before)(void);  /* between mount and enter; NULL for none */
	const char *(*check)(void);   /* in the container; returns what is wrong, or NULL */
};

/* Setup and teardown of a test: *state is a struct box. */
int box_new(void **state);
int box_free(void **state);

void box_put(const struct box *b, const char *path, const char *text);
void box_dir(const struct box *b, const char *path);

/* Give the root file system to the user namespace's root. */
void box_own(const struct box *b);

/* Returns "" when all went well, else what did not. */
const char *box_run(const struct box *b, const struct run *run);

#define assert_runs(b, ...) assert_string_equal(box_run(b, &(struct run){ __VA_ARGS__ }), "")
#define assert_refused(b, word, ...) \
	do { \
		const char *said = box_run(b, &(struct run){ __VA_ARGS__ }); \
		if (!strstr(said, word)) { \
			fail_msg("wanted \"%s\" in: %s", word, said); \
		} \
	} while (0)

/* In checks: name what is not so. */
#define CHECK(x) \
	do { \
		if (!(x)) { \
			return #x; \
		} \
	} while (0)

#endif
