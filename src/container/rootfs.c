/* SPDX-License-Identifier: Apache-2.0 */
#include "container/rootfs.h"

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <unistd.h>

#include "base/fd.h"
#include "base/mem.h"
#include "container/rootfs-priv.h"
#include "sys/file.h"
#include "sys/mount.h"
#include "sys/path.h"
#include "sys/proc.h"

/* --- in the parent --------------------------------------------------------------------- */

static int parse_root(struct rootfs *fs, struct err *e)
{
	const struct oci_spec *spec = fs->conf.spec;
	const char *prop = spec->linux ? spec->linux->rootfs_propagation : NULL;

	if (!spec->root || !spec->root->path || spec->root->path[0] == '\0') {
		return err_field(e, "/root/path", "a container needs a root file system");
	}
	if (prop && prop[0] && mount_propagation_parse(prop, &fs->propagation) < 0) {
		return err_field(e, "/linux/rootfsPropagation", "\"%s\" is no propagation", prop);
	}
	fs->root_path = spec->root->path[0] == '/'
				? str_dup(spec->root->path)
				: str_printf("%s/%s", fs->conf.bundle, spec->root->path);
	return fs->root_path ? 0 : err_nomem(e);
}

static int open_bundle(struct rootfs *fs, struct err *e)
{
	fs->bundle_fd = sys_openat(AT_FDCWD, fs->conf.bundle, O_PATH | O_DIRECTORY, 0);
	return fs->bundle_fd < 0
		       ? err_set(e, -fs->bundle_fd,
				 fs->bundle_fd == -ENOENT ? ERR_NOT_FOUND : ERR_HOST, "bundle %s",
				 fs->conf.bundle)
		       : 0;
}

/* All that the host owns. */
static int open_all(struct rootfs *fs, struct err *e)
{
	int r = open_bundle(fs, e);

	r = r < 0 ? r : rootfs__root_open(fs, e);
	r = r < 0 ? r : rootfs__mounts_open(fs, e);
	r = r < 0 ? r : rootfs__masks_open(fs, e);
	return r < 0 || fs->deferred ? r : rootfs__devices_open(fs, e);
}

static int check(struct rootfs *fs, struct err *e)
{
	int r = parse_root(fs, e);

	r = r < 0 ? r : rootfs__mounts_parse(fs, e);
	return r < 0 ? r : rootfs__devices_check(fs, e);
}

/* A checked config, with nothing opened. */
static int rootfs_new(const struct rootfs_conf *conf, struct rootfs **ret, struct err *e)
{
	auto_(rootfs_freep) struct rootfs *fs = mem_new(struct rootfs);

	if (!fs) {
		return err_nomem(e);
	}
	fs->conf = *conf;
	fs->userns = oci_linux_ns(conf->spec->linux, OCI_NS_USER) != NULL;
	fs->bundle_fd = fs->root_fd = fs->idmap_fd = -1;
	fs->masks.fd = fs->nodes.fd = -1;
	fs->pty_master = fs->pty_peer = -1;

	int r = check(fs, e);

	if (r == 0) {
		*ret = take_ptr(&fs);
	}
	return r;
}

int rootfs_check(const struct rootfs_conf *conf, struct err *e)
{
	auto_(rootfs_freep) struct rootfs *fs = NULL;

	return rootfs_new(conf, &fs, e);
}

int rootfs_prepare(const struct rootfs_conf *conf, struct rootfs **ret, struct err *e)
{
	auto_(rootfs_freep) struct rootfs *fs = NULL;
	int r = rootfs_new(conf, &fs, e);

	r = r < 0 ? r : open_all(fs, e);
	if (r == -EPERM && fs && fs->root_fd < 0 && fs->bundle_fd >= 0) {
		/* No right to mount here: the container's user namespace will have it. */
		err_clear(e);
		fd_close(&fs->bundle_fd);
		fs->deferred = true;
		r = 0;
	}
	if (r < 0) {
		return r;
	}
	*ret = take_ptr(&fs);
	return 0;
}

/* --- in the container's first process --------------------------------------------------- */

/*
 * Put the root on the rootfs folder, so that hooks find it there. In a user namespace that
 * folder may be out of reach; then it goes over the namespace's root, where only we see it.
 */
static int attach_root(struct rootfs *fs, struct err *e)
{
	struct stat a, b;
	auto_close int at = sys_openat(AT_FDCWD, fs->root_path, O_PATH | O_DIRECTORY, 0);

	if (at == -EACCES) {
		at = sys_openat(AT_FDCWD, "/", O_PATH | O_DIRECTORY, 0);
		if (at >= 0 && sys_attach(fs->root_fd, at) == 0) {
			fs->over_root = true;
			return 0;
		}
	}
	int r = at < 0 ? at : sys_fstat(at, &a);

	r = r < 0 ? r : sys_fstat(fs->root_fd, &b);
	if (r == 0 && (a.st_dev != b.st_dev || a.st_ino != b.st_ino)) {
		r = -ESTALE;
	}
	r = r < 0 ? r : sys_attach(fs->root_fd, at);
	return r < 0 ? err_set(e, -r, ERR_HOST, "root file system %s: attach", fs->root_path) : 0;
}

static int mount_all(struct rootfs *fs, struct err *e)
{
	/* From here on nothing that we mount turns up on the host. */
	struct mount_attr slave = { .propagation = MS_SLAVE };
	int r = sys_mount_setattr(AT_FDCWD, "/", AT_RECURSIVE, &slave);

	if (r < 0) {
		return err_set(e, -r, ERR_HOST, "leave the host's propagation of mounts");
	}
	r = fs->deferred ? open_all(fs, e) : 0;
	r = r < 0 ? r : attach_root(fs, e);
	r = r < 0 ? r : rootfs__mounts_attach(fs, e);
	return r < 0 ? r : rootfs__devices_make(fs, e);
}

int rootfs_assemble(struct rootfs *fs, struct err *e)
{
	mode_t mask = umask(0); /* modes are as the config and the tables say */
	int r = mount_all(fs, e);

	(void)umask(mask); /* cannot fail */
	return r;
}

/*
 * The new root takes the place of the old one, which then lies upon it and is detached by the
 * descriptor that we had of it.
 */
static int pivot(struct rootfs *fs, struct err *e)
{
	auto_close int old_fd = sys_openat(AT_FDCWD, "/", O_PATH | O_DIRECTORY, 0);
	int r = old_fd < 0 ? old_fd : sys_fchdir(fs->root_fd);

	r = r < 0 ? r : sys_pivot_root(".", ".");
	if (r < 0) {
		return err_set(e, -r, ERR_HOST, "pivot_root%s",
			       r == -EINVAL ? ": the host's root may be an initial ram disk; "
					      "--no-pivot helps then" : "");
	}
	r = sys_fchdir(old_fd);
	r = r < 0 ? r : sys_umount2(".", MNT_DETACH);
	r = r < 0 ? r : sys_chdir("/");
	return r < 0 ? err_set(e, -r, ERR_HOST, "detach the host's root") : 0;
}

/* Take "\040" and the like out of a path of mountinfo, in place. */
static void unescape(char *s)
{
	char *to = s;

	for (; *s; s++) {
		if (s[0] == '\\' && s[1] && s[2] && s[3]) {
			*to++ = (char)((s[1] - '0') << 6 | (s[2] - '0') << 3 | (s[3] - '0'));
			s += 3;
		} else {
			*to++ = *s;
		}
	}
	*to = '\0';
}

/*
 * A procfs or sysfs of the host that stays in the namespace, whole and unmasked, would let a
 * user namespace mount another one so. Returns 0 if this line of mountinfo is none of them;
 * a part of one, which may be a file and could not be covered, does not count to the kernel.
 */
static int hide_line(const char *line, const char *root)
{
	char part[PATH_MAX], at[PATH_MAX], type[32];

	/* id parent major:minor root at options ... - type */
	const char *dash = strstr(line, " - ");

	if (!dash || sscanf(line, "%*d %*d %*s %4095s %4095s", part, at) != 2 || !str_eq(part, "/") ||
	    sscanf(dash, " - %31s", type) != 1 || (!str_eq(type, "proc") && !str_eq(type, "sysfs"))) {
		return 0;
	}
	unescape(at);
	const char *below = str_after(at, root);

	if (below && (*below == '/' || *below == '\0')) {
		return 0; /* the container's */
	}
	int r = sys_umount2(at, MNT_DETACH | UMOUNT_NOFOLLOW);

	if (r == -EINVAL || r == -EPERM) {
		/* Locked in place, or no more there: then cover what is there. */
		r = sys_mount("tmpfs", at, "tmpfs", MS_RDONLY, "size=0");
	}
	return r == -ENOENT ? 0 : r;
}

static int hide_host(const struct rootfs *fs)
{
	auto_buf struct buf b = BUF_INIT;
	char root[PATH_MAX];
	struct fd_path link = fd_path(fs->root_fd);
	ssize_t n = sys_readlinkat(AT_FDCWD, link.text, root, sizeof(root) - 1);
	int r = n < 0 ? (int)n : sys_read_file(AT_FDCWD, "/proc/self/mountinfo", 16 << 20, &b);

	if (r < 0) {
		return r;
	}
	root[n] = '\0';
	for (char *line = b.data, *end; r == 0 && line && *line; line = end + 1) {
		end = strchr(line, '\n');
		if (!end) {
			break;
		}
		*end = '\0';
		r = hide_line(line, root);
	}
	return r;
}

/* Where pivot_root() is not possible. The host's mounts stay in this namespace, below. */
static int move_root(struct rootfs *fs, struct err *e)
{
	int r = hide_host(fs);

	if (r < 0) {
		return err_set(e, -r, ERR_HOST, "hide the host's /proc and /sys");
	}
	auto_close int old_fd = sys_openat(AT_FDCWD, "/", O_PATH | O_DIRECTORY, 0);

	r = old_fd < 0 ? old_fd : fs->over_root ? 0 : sys_attach(fs->root_fd, old_fd);
	r = r < 0 ? r : sys_fchdir(fs->root_fd);
	r = r < 0 ? r : sys_chroot(".");
	r = r < 0 ? r : sys_chdir("/");
	return r < 0 ? err_set(e, -r, ERR_HOST, "move the root") : 0;
}

static int root_flags(const struct rootfs *fs, struct err *e)
{
	const struct oci_root *root = fs->conf.spec->root;
	struct mount_attr ro = { .attr_set = MOUNT_ATTR_RDONLY };
	struct mount_attr prop = { .propagation = fs->propagation.flag };
	int r = root->readonly ? sys_mount_setattr(fs->root_fd, "", AT_EMPTY_PATH, &ro) : 0;

	if (r < 0) {
		return err_set(e, -r, ERR_HOST, "make the root read-only");
	}
	/* It is a slave, or private, since it was copied. */
	if (prop.propagation == MS_SHARED || prop.propagation == MS_UNBINDABLE) {
		r = sys_mount_setattr(fs->root_fd, "", AT_EMPTY_PATH |
				      (fs->propagation.recursive ? AT_RECURSIVE : 0), &prop);
	}
	return r < 0 ? err_set(e, -r, ERR_HOST, "set the root's propagation") : 0;
}

int rootfs_enter(struct rootfs *fs, struct err *e)
{
	int r = rootfs__masks_apply(fs, e);

	if (r == 0) {
		r = fs->conf.no_pivot ? move_root(fs, e) : pivot(fs, e);
	}
	r = r < 0 ? r : rootfs__mounts_finish(fs, e);
	r = r < 0 ? r : root_flags(fs, e);
	fd_close(&fs->bundle_fd); /* the one that leads to the host */
	fd_close(&fs->masks.fd);
	fd_close(&fs->nodes.fd);
	return r;
}

/* --- the rest ---------------------------------------------------------------------------- */

void rootfs_take_pty(struct rootfs *fs, int *ret_master, int *ret_peer)
{
	*ret_master = take_fd(&fs->pty_master);
	*ret_peer = take_fd(&fs->pty_peer);
}

int rootfs_proc_fd(struct rootfs *fs)
{
	const struct mount_item *m = rootfs__mount_at(fs, "/proc");
	bool usable = m && m->kind == MOUNT_NEW && str_eq(m->conf->type, "proc") &&
		      !((m->opts.set | m->opts.rec_set) & MOUNT_ATTR_RDONLY) &&
		      !rootfs__has_data(m, "subset=");

	return usable ? m->tree_fd : -1;
}

struct rootfs *rootfs_free(struct rootfs *fs)
{
	if (!fs) {
		return NULL;
	}
	rootfs__mounts_fini(fs);
	fd_close(&fs->bundle_fd);
	fd_close(&fs->root_fd);
	fd_close(&fs->masks.fd);
	fd_close(&fs->nodes.fd);
	fd_close(&fs->idmap_fd);
	fd_close(&fs->pty_master);
	fd_close(&fs->pty_peer);
	free(fs->root_path);
	free(fs);
	return NULL;
}

const char *const *rootfs_mount_options(void)
{
	return mount_opts_names;
}
