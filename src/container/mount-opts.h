/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The options of an OCI mount, by name, as what the kernel is told.
 *
 * An option is a flag of the mount (ro, nosuid ...), of the mount and all below it (rro ...),
 * of the superblock (sync ...), a propagation, something that Holm does (bind, tmpcopyup ...),
 * or, if the table does not have it, data for the file system. Of two that contradict each
 * other the later one counts.
 */
#ifndef CONTAINER_MOUNT_OPTS_H
#define CONTAINER_MOUNT_OPTS_H

#include "base/err.h"
#include "json/table.h"

/* Flags of a superblock; those that say what is the default anyway are only recognised. */
enum mount_super {
	MOUNT_SUPER_SYNC     = 1,
	MOUNT_SUPER_DIRSYNC  = 2,
	MOUNT_SUPER_MAND     = 4,
	MOUNT_SUPER_LAZYTIME = 8,
	MOUNT_SUPER_IVERSION = 16,
	MOUNT_SUPER_ACL      = 32,
};

enum mount_idmap {
	MOUNT_IDMAP_NONE,
	MOUNT_IDMAP_TOP,        /* "idmap" */
	MOUNT_IDMAP_RECURSIVE,  /* "ridmap" */
};

struct mount_propagation {
	uint64_t flag;          /* MS_SHARED, MS_SLAVE, MS_PRIVATE or MS_UNBINDABLE */
	bool     recursive;
};

enum { MOUNT_PROPAGATIONS_MAX = 4 };

struct mount_opts {
	uint64_t                 set, clear;          /* MOUNT_ATTR_*, of the mount itself */
	uint64_t                 rec_set, rec_clear;  /* of all mounts of the tree */
	struct mount_propagation propagation[MOUNT_PROPAGATIONS_MAX]; /* in their order */
	size_t                   n_propagation;
	unsigned                 super;               /* MOUNT_SUPER_* */
	enum mount_idmap         idmap;
	bool                     bind, recursive;     /* bind; rbind sets both */
	bool                     remount;
	bool                     copy_up;
	struct jstrv             data;                /* "size=64k"; strings borrowed */
};

#define MOUNT_OPTS_INIT { .set = 0 }

/*
 * Parse a list of options. Strings are borrowed from it. Fails only for want of memory, or if
 * more propagations are given than make sense.
 */
int mount_opts_parse(const struct jstrv *options, struct mount_opts *ret, struct err *e) must_check;
void mount_opts_fini(struct mount_opts *o);

/* A propagation by its name ("rslave"); -EINVAL for what is none. */
int mount_propagation_parse(const char *name, struct mount_propagation *ret) must_check;

/* Every name in the table, sorted, NULL at the end. */
extern const char *const mount_opts_names[];

#endif
