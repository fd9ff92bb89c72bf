/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the files behind container/rootfs.h share: the state of one root, and the steps that
 * it is made in. Nothing outside this folder includes it.
 *
 * A step that works on the container's tree takes descriptors from struct rootfs and resolves
 * what it must below root_fd; none keeps a string that it has resolved.
 */
#ifndef CONTAINER_ROOTFS_PRIV_H
#define CONTAINER_ROOTFS_PRIV_H

#include <sys/stat.h>

#include "container/mount-opts.h"
#include "container/rootfs.h"
#include "oci/spec.h"

/* What a mount of the config is made by. */
enum mount_kind {
	MOUNT_BIND,
	MOUNT_NEW,        /* a file system opened by its type */
	MOUNT_CGROUP,
	MOUNT_REMOUNT,    /* changes what is already there */
};

struct mount_item {
	const struct oci_mount *conf;
	unsigned                index;     /* in the config */
	enum mount_kind         kind;
	struct mount_opts       opts;
	char                   *dest;      /* cleaned: for comparing, never for opening */
	int                     tree_fd;   /* the mount; before it is attached and after; or -1 */
	bool                    is_dir;    /* MOUNT_BIND: the source */
};

/* A device node to be. */
struct device_node {
	const char *path;                  /* as the config or the table has it */
	mode_t      mode;                  /* with its type */
	dev_t       dev;
	uid_t       uid;                   /* in the container */
	gid_t       gid;
};

/* A tmpfs of ours that is not in the container, but from which things are bound there. */
struct store {
	int  fd;                           /* its mount, or -1 */
	bool tried;                        /* to give it a place, see store.c */
};

struct rootfs {
	struct rootfs_conf    conf;
	bool                  userns;      /* the container has a user namespace of its own */
	bool                  deferred;    /* we may not mount yet: rootfs_assemble() opens all */
	struct mount_propagation propagation; /* rootfsPropagation; .flag 0: the default */
	struct mount_item    *mounts;
	size_t                n_mounts;
	char                 *root_path;   /* of the host; absolute */
	int                   bundle_fd;
	int                   root_fd;     /* the container's root mount */
	struct store          masks;       /* "d" a folder, "f" a file */
	struct store          nodes;       /* device nodes to bind, perhaps */
	bool                  over_root;   /* root_fd lies over the namespace's own root */
	bool                  dev_ready;   /* /dev was made with its nodes by the parent */
	int                   idmap_fd;    /* user namespace with the container's mappings */
	int                   pty_master, pty_peer;
};

/* Fill *e for one mount: the field is "/mounts/N". Returns -errnum. */
int rootfs__mount_err(const struct mount_item *m, int errnum, enum err_code code, struct err *e,
		      const char *fmt, ...) printf_like(5, 6) must_check;

/* --- mount.c: items of the config ------------------------------------------------------ */

int rootfs__mounts_parse(struct rootfs *fs, struct err *e) must_check;
int rootfs__mounts_open(struct rootfs *fs, struct err *e) must_check;    /* the host's part */
int rootfs__mounts_attach(struct rootfs *fs, struct err *e) must_check;  /* the container's */
int rootfs__mounts_finish(struct rootfs *fs, struct err *e) must_check;  /* read-only at last */
void rootfs__mounts_fini(struct rootfs *fs);

/* The item that is mounted at a cleaned path, the last one of several; NULL for none. */
struct mount_item *rootfs__mount_at(struct rootfs *fs, const char *dest);

/*
 * Where an item goes: resolved below the root, made if it does not exist, checked against the
 * rules for /proc. Returns an O_PATH descriptor.
 */
int rootfs__target_open(struct rootfs *fs, const struct mount_item *m, bool dir,
			struct err *e) must_check;

/* Put item's tree there. */
int rootfs__attach(const struct mount_item *m, int tree_fd, int target_fd,
		   struct err *e) must_check;

/* --- mount-bind.c ---------------------------------------------------------------------- */

int rootfs__bind_open(struct rootfs *fs, struct mount_item *m, struct err *e) must_check;

/* The root's own tree, from the bundle. */
int rootfs__root_open(struct rootfs *fs, struct err *e) must_check;

/* --- mount-new.c ----------------------------------------------------------------------- */

/* What a tmpfs gets beyond its options. */
struct tmpfs_extra {
	mode_t mode;       /* of its root; 0: the kernel's */
	bool   has_owner;
	uid_t  uid;        /* of the host */
	gid_t  gid;
};

/* Make an item's file system, detached. */
int rootfs__new_open(const struct rootfs *fs, const struct mount_item *m,
		     const struct tmpfs_extra *extra, struct err *e) must_check;

/* Whether one of the item's options for the file system begins so ("mode="). */
bool rootfs__has_data(const struct mount_item *m, const char *prefix);

int rootfs__new_attach(struct rootfs *fs, struct mount_item *m, struct err *e) must_check;
int rootfs__remount(struct rootfs *fs, struct mount_item *m, struct err *e) must_check;

/* --- mount-cgroup.c -------------------------------------------------------------------- */

int rootfs__cgroup_attach(struct rootfs *fs, struct mount_item *m, struct err *e) must_check;

/* --- device.c -------------------------------------------------------------------------- */

/* Nodes, links and the terminal below /dev; nothing if /dev is a bind. */
int rootfs__devices_check(const struct rootfs *fs, struct err *e) must_check;
int rootfs__devices_open(struct rootfs *fs, struct err *e) must_check;   /* the host's part */
int rootfs__devices_make(struct rootfs *fs, struct err *e) must_check;

/* --- store.c --------------------------------------------------------------------------- */

/* 0 or -errno. */
int rootfs__store_open(struct store *s, const char *source) must_check;

/* A detached mount of one thing in it. Only while the host's root is still there. */
int rootfs__store_clone(struct store *s, const char *name) must_check;

/* --- mask.c ---------------------------------------------------------------------------- */

int rootfs__masks_open(struct rootfs *fs, struct err *e) must_check;
int rootfs__masks_apply(struct rootfs *fs, struct err *e) must_check;

#endif
