/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Root file systems of instances: an overlay of an image's layers, with a folder of the
 * instance's own on top.
 *
 *	(in a child, after unshare(CLONE_NEWNS) and making / private)
 *	struct rootfs_opts o = { .ids = { .base = 1000000, .count = 65536 }, .upper_fd = fd };
 *	int mnt = rootfs_mount(store, &img, &o, e);
 *	r = rootfs_attach(mnt, target_fd, e);
 *
 * Ids. The store and the upper folder hold the image's own ids (root is 0). With a range both
 * are seen through idmapped mounts, so that in the instance's user namespace
 * (0 -> base, count ids) they are what the image says, and on the host nothing belongs to
 * root.
 */
#ifndef IMAGE_ROOTFS_H
#define IMAGE_ROOTFS_H

#include "image/store.h"

struct rootfs_ids {
	uint32_t base;    /* host id of the instance's root */
	uint32_t count;   /* 0: no user namespace; ids as they are on disk */
};

struct rootfs_opts {
	struct rootfs_ids ids;
	/*
	 * A folder (0700, root) that belongs to the instance: "upper" and "work" are made in
	 * it. -1: none, and then read_only must be set.
	 */
	int               upper_fd;
	/*
	 * Nothing is written through to the disk when the mount ends, and after a crash of the
	 * host the upper folder is worth nothing: for an instance that is removed at its end. To
	 * mount the folder again the caller removes "work/work" first; the kernel refuses if not.
	 */
	bool              no_sync;
	bool              read_only;   /* the mount; with upper_fd >= 0 changes of earlier
					* starts are still seen */
};

/*
 * Make the mount, attached nowhere. The image is unpacked. Returns its descriptor: it is gone
 * when that is closed, unless attached. Single-threaded caller with CAP_SYS_ADMIN (fsuid and
 * fsgid change for a moment).
 */
int rootfs_mount(struct store *s, const struct store_image *img, const struct rootfs_opts *o,
		 struct err *e) must_check;

/* The same over layers by descriptor, bottom first; `n` may be 0 only with an upper folder. */
int rootfs_mount_layers(const int *layer_fds, size_t n, const struct rootfs_opts *o,
			struct err *e) must_check;

/* Attach on a folder of the caller's mount namespace. */
int rootfs_attach(int mount_fd, int target_fd, struct err *e) must_check;

#endif
