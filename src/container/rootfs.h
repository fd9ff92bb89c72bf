/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The file system of one container: everything of an OCI config that is a mount, a device,
 * a mask or the root itself.
 *
 * The work is cut where the privileges are. What the host owns is opened by the runtime,
 * with the host's privileges, as detached mount trees that no name leads to; what belongs to
 * the container's namespaces is made by its first process inside them:
 *
 *	parent  rootfs_prepare(&conf, &fs, e);    // before or after the child is cloned from it
 *	        ... clone: the child has its own copy of fs and of its descriptors ...
 *	init    rootfs_assemble(fs, e);              // in all the new namespaces, all capabilities
 *	        ... hooks: createRuntime (by the parent), createContainer (here) ...
 *	init    rootfs_enter(fs, e);              // pivot_root, read-only root, masked paths
 *	init    rootfs_take_pty(fs, &master, &peer);
 *	both    rootfs_free(fs);
 *
 * Rules: no path that the container can influence is ever used twice or as a string; every
 * target is resolved below the container's root to a descriptor (sys/path.h), checked, and
 * mounted on by that descriptor. Masks, default devices and the terminal are inodes that we
 * made, never names inside the root. /proc takes mounts only on the files that the
 * specification's users need (/proc/cpuinfo and the like).
 *
 * A caller without privileges on the host (rootless) passes through the same functions: what
 * rootfs_prepare() may not do, rootfs_assemble() does in the container's user namespace.
 *
 * All descriptors are close-on-exec; rootfs_enter() closes those that reach the host.
 * Errors name the field of the config ("/mounts/3") and the path. What is done otherwise than
 * asked and is no error (a cgroup mount kept read-only) is logged as a warning.
 *
 * Spec: oci-runtime 1.3, config.md, Mounts; config-linux.md, Default Filesystems, Devices,
 * Default Devices, Masked Paths, Readonly Paths, Rootfs Mount Propagation
 */
#ifndef CONTAINER_ROOTFS_H
#define CONTAINER_ROOTFS_H

#include "base/err.h"

struct cgroup;
struct oci_spec;
struct rootfs;

struct rootfs_conf {
	const struct oci_spec *spec;      /* borrowed until rootfs_free() */
	const char            *bundle;    /* absolute path; relative sources are below it */
	const struct cgroup   *cgroup;    /* for mounts of type cgroup; NULL: none. Borrowed */
	int                    userns_fd; /* the container's user namespace where it exists
					   * already (joined by path), else -1. Borrowed */
	bool                   no_pivot;  /* --no-pivot: move the root instead */
};

/*
 * Check all that concerns the file system and needs no look at it: before anything is made.
 * rootfs_prepare() does the same first.
 */
int rootfs_check(const struct rootfs_conf *conf, struct err *e) must_check;

/*
 * Check all that concerns the file system and open what the host owns. Makes nothing that a
 * name leads to; nothing is left behind if the process dies.
 *
 * Context: the runtime, in its own mount namespace, with the caller's privileges.
 */
int rootfs_prepare(const struct rootfs_conf *conf, struct rootfs **ret, struct err *e) must_check;

/*
 * Put the container's tree together on the rootfs folder: mounts, devices, links, terminal.
 * Afterwards the tree is seen below the bundle's rootfs in this mount namespace, as hooks
 * expect it.
 *
 * Context: the container's first process, one thread, in its new mount, pid, ipc, network,
 * user and cgroup namespaces (those that the config has), with all capabilities in its user
 * namespace and, in it, as uid and gid 0.
 */
int rootfs_assemble(struct rootfs *fs, struct err *e) must_check;

/*
 * Make the tree the root of this mount namespace and detach the host's, then make the root
 * and /dev read-only as configured and hide the masked paths. The working directory is "/".
 */
int rootfs_enter(struct rootfs *fs, struct err *e) must_check;

/*
 * The terminal that rootfs_assemble() made where process.terminal is set: its master, for the
 * console socket, and the container's end, for 0, 1 and 2, which is also /dev/console. The
 * caller owns both; -1 where there is none.
 */
void rootfs_take_pty(struct rootfs *fs, int *ret_master, int *ret_peer);

/*
 * The root of the procfs that rootfs_assemble() has made for the container, for use with
 * sys/procfs.h: as good as one of one's own until the container's program runs, and cheaper.
 * Borrowed; -1 if the config has none, or a read-only one.
 */
int rootfs_proc_fd(struct rootfs *fs);

struct rootfs *rootfs_free(struct rootfs *fs);
AUTO_PTR(struct rootfs, rootfs_free)

/* Every mount option that is known by name, sorted, NULL at the end: for `features`. */
const char *const *rootfs_mount_options(void);

#endif
