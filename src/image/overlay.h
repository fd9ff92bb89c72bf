/* SPDX-License-Identifier: Apache-2.0 */
/*
 * An overlay of folders given by descriptors, as a detached mount.
 *
 * Which kernel can do what: from 6.13 an overlay takes its layers by descriptor. Before, they
 * must be attached and named: then they are, on a tmpfs of their own, for the moment of the
 * mount. Both give the same mount. The layers are mounts of their own (see image/idmap.h)
 * where they are mapped.
 *
 * The root of a user namespace can mount one too. Its overlay marks opaque folders by user.*
 * attributes, and folders of lower layers cannot be renamed in it.
 */
#ifndef IMAGE_OVERLAY_H
#define IMAGE_OVERLAY_H

#include "base/err.h"

struct overlay {
	const int *lower_fds;   /* bottom first; detached mounts (of idmap_clone()) */
	size_t     n_lower;     /* at least 1 */
	int        top_fd;      /* detached mount with the folders "upper" (or upper_name) and
				 * "work"; -1: none, then n_lower is at least 2 */
	const char *upper_name; /* NULL: "upper" */
	uint32_t   owner;       /* the host id that is root's on the layers' mounts */
	uint64_t   attrs;       /* MOUNT_ATTR_* */
	bool       no_sync;     /* "volatile": its end waits for no disk */
};

/*
 * Mount it; returns its descriptor. Call it in a private mount namespace, in a process with
 * one thread: fsuid, fsgid and the working directory change for a moment. The mounts of the
 * layers are of no further use to the caller.
 */
int overlay_mount(const struct overlay *o, struct err *e) must_check;

#endif
