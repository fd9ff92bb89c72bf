/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Folders that stand in for a host's cgroup hierarchies. An observer of sys/ puts the files
 * that a kernel would make into each new folder, and notes each write as "GROUP/FILE=TEXT".
 */
#ifndef CONTAINER_TEST_CGROUP_H
#define CONTAINER_TEST_CGROUP_H

#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>

#include "container/cgroup-priv.h"

struct fake {
	char               root[64];
	struct cgroup_host host;
	struct buf         log;      /* one line a write */
	const char *const *files;    /* pairs of name and content, in each new group */
};

extern const char *const fake_v1_files[], *const fake_v2_files[];

/* Hierarchies for `self`, the text of /proc/self/cgroup; all groups in it exist. */
void fake_init(struct fake *f, enum cgroup_mode mode, const char *self, const char *const *files);
void fake_fini(struct fake *f);

/* Files of a group by hand; `group` with its hierarchy: "memory/x". */
void fake_put(struct fake *f, const char *group, const char *file, const char *text);
void fake_group(struct fake *f, const char *group);

/* Was this line written? And how many lines were? */
bool   fake_wrote(struct fake *f, const char *line);
size_t fake_writes(const struct fake *f);
#define assert_wrote(f, line) \
	do { \
		if (!fake_wrote((f), (line))) { \
			print_message("not written: %s\n%s", (line), buf_str(&(f)->log)); \
			fail(); \
		} \
	} while (0)

/* linux.resources from JSON; what is in it lives in the arena and the document. */
struct fake_res {
	struct arena         arena;
	json_t              *doc;
	struct oci_resources res;
};
void fake_res_init(struct fake_res *r, const char *text);
void fake_res_fini(struct fake_res *r);

/* Open and create; the error's text is printed where it fails and `ok` says it should not. */
struct cgroup *fake_open(struct fake *f, const char *path);
int fake_create(struct cgroup *cg, const char *resources, struct err *e);

#endif
