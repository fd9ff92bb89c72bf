/* SPDX-License-Identifier: Apache-2.0 */
/*
 * /sys/fs/cgroup inside a container.
 *
 * On a v2 host it is the container's own group where it has a cgroup namespace, and the whole
 * tree where it has none, as what /proc/self/cgroup says would mean nothing otherwise. On a
 * v1 or hybrid host it is a tmpfs with a folder for each hierarchy, on which the container's
 * own group is mounted, and links for the controllers that share one. A mount of the group
 * and a mount made inside a cgroup namespace are the same thing to the kernel; the first
 * takes fewer calls and works in a user namespace too.
 *
 * Writable only where that cannot reach the host (threat model, rule 13): v1 needs user and
 * cgroup namespace, because of release_agent and notify_on_release; v2 a cgroup namespace.
 */
#include <errno.h>
#include <limits.h>
#include <stdio.h>

#include "base/fd.h"
#include "base/log.h"
#include "container/cgroup.h"
#include "container/rootfs-priv.h"
#include "sys/file.h"
#include "sys/mount.h"
#include "sys/path.h"

static bool own_cgroupns(const struct rootfs *fs)
{
	return oci_linux_ns(fs->conf.spec->linux, OCI_NS_CGROUP) != NULL;
}

static void attrs_of(const struct rootfs *fs, const struct mount_item *m, bool v2,
		     struct mount_attr *ret)
{
	bool may_write = own_cgroupns(fs) && (v2 || fs->userns);

	ret->attr_set = m->opts.set | m->opts.rec_set;
	ret->attr_clr = (m->opts.clear | m->opts.rec_clear) & MOUNT_ATTR__ATIME;
	ret->propagation = MS_PRIVATE;
	if (!(ret->attr_set & MOUNT_ATTR_RDONLY) && !may_write) {
		ret->attr_set |= MOUNT_ATTR_RDONLY;
		log_warn("cgroups stay read-only", "mount", m->conf->destination, "needs",
			 v2 ? "a cgroup namespace" : "a user and a cgroup namespace");
	}
}

/* A detached copy of one group (or hierarchy), from the host's tree, which is still there. */
static int open_group(const struct mount_item *m, const struct cgroup_hier *h, bool whole,
		      const struct mount_attr *attr, struct err *e)
{
	auto_free char *path = str_printf("/sys/fs/cgroup/%s%s", h->dir, whole ? "" : h->group);

	if (!path) {
		return err_nomem(e);
	}
	int fd = sys_open_tree_attr(AT_FDCWD, path, OPEN_TREE_CLONE, attr);

	return fd < 0 ? rootfs__mount_err(m, -fd, ERR_HOST, e, "cgroup %s", path) : fd;
}

static int attach_v2(struct rootfs *fs, struct mount_item *m, const struct cgroup_hier *h,
		     struct err *e)
{
	auto_close int target_fd = rootfs__target_open(fs, m, true, e);
	struct mount_attr attr = { .attr_set = 0 };

	if (target_fd < 0) {
		return target_fd;
	}
	attrs_of(fs, m, true, &attr);
	m->tree_fd = open_group(m, h, !own_cgroupns(fs), &attr, e);
	return m->tree_fd < 0 ? m->tree_fd : rootfs__attach(m, m->tree_fd, target_fd, e);
}

static int new_tmpfs(const struct mount_item *m, struct err *e)
{
	auto_close int fs_fd = sys_fsopen("tmpfs");
	int r = fs_fd;

	r = r < 0 ? r : sys_fsconfig(fs_fd, FSCONFIG_SET_STRING, "source", "tmpfs", 0);
	r = r < 0 ? r : sys_fsconfig(fs_fd, FSCONFIG_SET_STRING, "mode", "755", 0);
	r = r < 0 ? r : sys_fsconfig(fs_fd, FSCONFIG_CMD_CREATE, NULL, NULL, 0);
	if (r >= 0) {
		r = sys_fsmount(fs_fd, (unsigned)((m->opts.set | m->opts.rec_set) &
						  ~(uint64_t)MOUNT_ATTR_RDONLY));
	}
	return r < 0 ? rootfs__mount_err(m, -r, ERR_HOST, e, "make a tmpfs") : r;
}

/* "cpu" and "cpuacct" beside "cpu,cpuacct". */
static int link_controllers(int dir_fd, const char *dir)
{
	const char *cursor = dir, *part;
	size_t len;

	while (strchr(dir, ',') && str_split(&cursor, ',', &part, &len)) {
		char name[NAME_MAX + 1];

		if (len == 0 || len > NAME_MAX) {
			continue;
		}
		memcpy(name, part, len);
		name[len] = '\0';
		int r = path_symlink(dir_fd, name, dir);

		if (r < 0 && r != -EEXIST) {
			return r;
		}
	}
	return 0;
}

static int attach_hier(struct mount_item *m, const struct cgroup_hier *h,
		       const struct mount_attr *attr, struct err *e)
{
	auto_close int fd = open_group(m, h, false, attr, e);

	if (fd < 0) {
		return fd;
	}
	int r = path_mkdir(m->tree_fd, h->dir, 0755);

	r = r < 0 ? r : sys_move_mount(fd, "", m->tree_fd, h->dir, MOVE_MOUNT_F_EMPTY_PATH);
	r = r < 0 ? r : link_controllers(m->tree_fd, h->dir);
	return r < 0 ? rootfs__mount_err(m, -r, ERR_HOST, e, "hierarchy %s", h->dir) : 0;
}

static int attach_v1(struct rootfs *fs, struct mount_item *m, struct err *e)
{
	auto_close int target_fd = rootfs__target_open(fs, m, true, e);
	struct mount_attr attr = { .attr_set = 0 };
	struct mount_attr ro = { .attr_set = MOUNT_ATTR_RDONLY };
	struct cgroup_hier h;

	if (target_fd < 0) {
		return target_fd;
	}
	attrs_of(fs, m, false, &attr);
	m->tree_fd = new_tmpfs(m, e);
	int r = m->tree_fd < 0 ? m->tree_fd : rootfs__attach(m, m->tree_fd, target_fd, e);
	for (unsigned i = 0; r == 0 && fs->conf.cgroup && cgroup_hier(fs->conf.cgroup, i, &h); i++) {
		r = attach_hier(m, &h, &attr, e);
	}
	if (r == 0 && (attr.attr_set & MOUNT_ATTR_RDONLY)) {
		r = sys_mount_setattr(m->tree_fd, "", AT_EMPTY_PATH, &ro);
		r = r < 0 ? rootfs__mount_err(m, -r, ERR_HOST, e, "make it read-only") : 0;
	}
	return r;
}

int rootfs__cgroup_attach(struct rootfs *fs, struct mount_item *m, struct err *e)
{
	struct cgroup_hier h = { .dir = NULL };
	bool any = fs->conf.cgroup && cgroup_hier(fs->conf.cgroup, 0, &h);

	if (m->opts.data.n > 0) {
		return rootfs__mount_err(m, ENOTSUP, ERR_UNSUPPORTED, e,
					 "\"%s\": all hierarchies are mounted, as the host has them",
					 m->opts.data.v[0]);
	}
	if (!any) {
		log_warn("the container has no cgroup", "mount", m->conf->destination);
	}
	return any && h.dir[0] == '\0' ? attach_v2(fs, m, &h, e) : attach_v1(fs, m, e);
}
