/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What is below /dev: device nodes, the links that the specification asks for, the terminal.
 *
 * Nodes are made, not copied from names: in a folder whose descriptor we have, and what is
 * there already counts only if it is that very device. Who may make them is the parent, so it
 * does, on file systems that the container then gets: its /dev, if that is a new tmpfs (the
 * usual case), or else one from which they are bound. Owners are the container's ids, mapped.
 *
 * Where the parent may not (rootless, nested), the first process tries itself, and as the last
 * resort the host's nodes are bound, each looked at before it is.
 *
 * Spec: oci-runtime 1.3, config-linux.md, Devices, Default Devices; runtime-linux.md, Dev
 * symbolic links
 */
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <sys/sysmacros.h>

#include "base/fd.h"
#include "base/mem.h"
#include "container/pty.h"
#include "container/rootfs-priv.h"
#include "container/userns.h"
#include "sys/file.h"
#include "sys/mount.h"
#include "sys/path.h"

/* makedev() of small numbers, as a constant. */
#define DEV(major, minor) ((dev_t)((major) << 8 | (minor)))

/* Every container has these. Their numbers are the kernel's for ever. */
static const struct device_node default_nodes[] = {
	{ .path = "/dev/null",    .mode = S_IFCHR | 0666, .dev = DEV(1, 3) },
	{ .path = "/dev/zero",    .mode = S_IFCHR | 0666, .dev = DEV(1, 5) },
	{ .path = "/dev/full",    .mode = S_IFCHR | 0666, .dev = DEV(1, 7) },
	{ .path = "/dev/random",  .mode = S_IFCHR | 0666, .dev = DEV(1, 8) },
	{ .path = "/dev/urandom", .mode = S_IFCHR | 0666, .dev = DEV(1, 9) },
	{ .path = "/dev/tty",     .mode = S_IFCHR | 0666, .dev = DEV(5, 0) },
};

static const struct {
	const char *name, *target;
} default_links[] = {
	{ "fd",     "/proc/self/fd" },
	{ "stdin",  "/proc/self/fd/0" },
	{ "stdout", "/proc/self/fd/1" },
	{ "stderr", "/proc/self/fd/2" },
	{ "ptmx",   "pts/ptmx" },
};

/* --- from the config ------------------------------------------------------------------- */

static int device_err(int errnum, enum err_code code, const char *path, const char *what,
		      struct err *e)
{
	return err_set(e, errnum, code, "device %s: %s", path, what);
}

static int field_err(size_t index, const char *member, struct err *e, const char *what)
{
	char field[64];

	(void)snprintf(field, sizeof(field), "/linux/devices/%zu/%s", index, member); /* fits */
	return err_field(e, field, "%s", what);
}

static int type_of(const char *type, mode_t *ret)
{
	if (!type || type[0] == '\0' || type[1] != '\0') {
		return -EINVAL;
	}
	switch (type[0]) {
	case 'c':
	case 'u':
		*ret = S_IFCHR;
		return 0;
	case 'b':
		*ret = S_IFBLK;
		return 0;
	case 'p':
		*ret = S_IFIFO;
		return 0;
	default:
		return -EINVAL;
	}
}

static int node_of(const struct oci_linux_device *d, size_t index, struct device_node *ret,
		   struct err *e)
{
	mode_t type = 0;

	if (type_of(d->type, &type) < 0) {
		return field_err(index, "type", e, "a device is of type c, u, b or p");
	}
	if (d->path[0] != '/' || str_ends(d->path, "/")) {
		return field_err(index, "path", e, "the path of a device is absolute");
	}
	if (type != S_IFIFO && (d->major < 0 || d->minor < 0 || d->major > 0xfff ||
				d->minor > 0xfffff)) {
		return field_err(index, "major", e, "device number out of range");
	}
	if (d->uid > UINT32_MAX - 1 || d->gid > UINT32_MAX - 1) {
		return field_err(index, "uid", e, "owner out of range");
	}
	*ret = (struct device_node){
		.path = d->path,
		.mode = type | (d->has_mode ? (mode_t)(d->mode & 07777) : 0666),
		.dev = type == S_IFIFO ? 0 : makedev((unsigned)d->major, (unsigned)d->minor),
		.uid = (uid_t)d->uid,
		.gid = (gid_t)d->gid,
	};
	return 0;
}

int rootfs__devices_check(const struct rootfs *fs, struct err *e)
{
	const struct oci_linux *l = fs->conf.spec->linux;
	const struct oci_linux_device *v = l ? l->devices.v : NULL;
	struct device_node node;

	for (size_t i = 0; l && i < l->devices.n; i++) {
		int r = node_of(&v[i], i, &node, e);

		if (r < 0) {
			return r;
		}
	}
	return 0;
}

static bool in_config(const struct oci_linux *l, const char *path)
{
	const struct oci_linux_device *v = l ? l->devices.v : NULL;

	for (size_t i = 0; l && i < l->devices.n; i++) {
		if (str_eq(v[i].path, path)) {
			return true;
		}
	}
	return false;
}

/* --- making one ------------------------------------------------------------------------ */

static bool is_node(const struct stat *st, const struct device_node *n)
{
	return (st->st_mode & S_IFMT) == (n->mode & S_IFMT) &&
	       (S_ISFIFO(n->mode) || st->st_rdev == n->dev);
}

/* Something else has the name: it goes, unless it is a folder. */
static int make_node(int dir_fd, const char *name, const struct device_node *n)
{
	struct stat st;
	int r = path_mknod(dir_fd, name, n->mode, n->dev);

	if (r == -EEXIST) {
		r = sys_fstatat(dir_fd, name, &st, AT_SYMLINK_NOFOLLOW);
		if (r < 0 || is_node(&st, n)) {
			return r;
		}
		r = sys_unlinkat(dir_fd, name, 0);
		r = r < 0 ? r : path_mknod(dir_fd, name, n->mode, n->dev);
	}
	if (r == 0 && (n->uid != 0 || n->gid != 0)) {
		r = sys_fchownat(dir_fd, name, n->uid, n->gid, AT_SYMLINK_NOFOLLOW);
	}
	return r;
}

/*
 * The n-th node that is not in a /dev of ours, by its place in the order of each_node(); the
 * parent may have made it.
 */
static int open_stored(struct rootfs *fs, const struct device_node *n, size_t index)
{
	struct stat st;
	char name[16];

	(void)snprintf(name, sizeof(name), "%zu", index); /* fits */
	auto_close int fd = rootfs__store_clone(&fs->nodes, name);
	int r = fd < 0 ? fd : sys_fstat(fd, &st);

	if (r < 0) {
		return r;
	}
	return is_node(&st, n) ? take_fd(&fd) : -ENODEV;
}

/* A copy of the host's node, which is still reachable by its name on the host. */
static int open_host_node(const struct device_node *n, struct err *e)
{
	struct stat st;
	auto_close int fd = sys_open_tree(AT_FDCWD, n->path, OPEN_TREE_CLONE | AT_SYMLINK_NOFOLLOW);

	if (fd < 0) {
		return device_err(-fd, ERR_HOST, n->path,
				  "it cannot be made here, and the host's cannot be bound", e);
	}
	int r = sys_fstat(fd, &st);

	if (r < 0 || !is_node(&st, n)) {
		return device_err(r < 0 ? -r : ENODEV, ERR_HOST, n->path,
				  "the host has another one by that name", e);
	}
	return take_fd(&fd);
}

/* An empty file to mount on. What is there is no matter, but for links and folders. */
static int open_stub(int dir_fd, const char *name)
{
	struct stat st;
	auto_close int made = path_create(dir_fd, name, O_WRONLY, 0666);

	if (made < 0 && made != -EEXIST) {
		return made;
	}
	auto_close int fd = sys_openat(dir_fd, name, O_PATH | O_NOFOLLOW, 0);
	int r = fd < 0 ? fd : sys_fstat(fd, &st);

	if (r < 0) {
		return r;
	}
	return S_ISLNK(st.st_mode) ? -ELOOP : S_ISDIR(st.st_mode) ? -EISDIR : take_fd(&fd);
}

/* As above, but a link in the way is taken out of it. */
static int stub_p(int dir_fd, const char *name)
{
	int fd = open_stub(dir_fd, name);

	if (fd == -ELOOP) {
		int r = sys_unlinkat(dir_fd, name, 0);

		fd = r < 0 ? r : open_stub(dir_fd, name);
	}
	return fd;
}

static int bind_node(struct rootfs *fs, int dir_fd, const char *name,
		     const struct device_node *n, size_t index, struct err *e)
{
	auto_close int tree_fd = open_stored(fs, n, index);

	if (tree_fd < 0) {
		tree_fd = open_host_node(n, e);
	}
	if (tree_fd < 0) {
		return tree_fd;
	}
	auto_close int stub_fd = stub_p(dir_fd, name);
	int r = stub_fd < 0 ? stub_fd : sys_attach(tree_fd, stub_fd);

	return r < 0 ? device_err(-r, ERR_HOST, n->path, "bind the node", e) : 0;
}

static int place_node(struct rootfs *fs, int dir_fd, const char *name,
		      const struct device_node *n, size_t index, struct err *e)
{
	int r = fs->userns && !S_ISFIFO(n->mode) ? -EPERM : make_node(dir_fd, name, n);

	if (r == -EPERM && !S_ISFIFO(n->mode)) {
		return bind_node(fs, dir_fd, name, n, index, e);
	}
	return r < 0 ? device_err(-r, ERR_HOST, n->path, "make the node", e) : 0;
}

/* Most are right below /dev, whose descriptor we have. */
static int add_node(struct rootfs *fs, int dev_fd, const struct device_node *n,
		    size_t index, struct err *e)
{
	const char *plain = str_after(n->path, "/dev/");
	char name[NAME_MAX + 1];

	if (plain && path_name_valid(plain)) {
		return place_node(fs, dev_fd, plain, n, index, e);
	}
	auto_close int dir_fd = path_parent_p(fs->root_fd, n->path, 0755, name);

	if (dir_fd < 0) {
		return device_err(-dir_fd, ERR_HOST, n->path, "make its folder", e);
	}
	return place_node(fs, dir_fd, name, n, index, e);
}

/* --- all of them ----------------------------------------------------------------------- */

/* Whether a node is in the /dev that the parent has made. */
static bool is_ready(const struct rootfs *fs, const struct device_node *n)
{
	return fs->dev_ready && str_after(n->path, "/dev/") && !S_ISFIFO(n->mode);
}

/* The defaults that the config does not have otherwise, then the config's. Returns false at
 * the end. The config has been checked. */
static bool nth_node(const struct rootfs *fs, size_t i, struct device_node *ret)
{
	const struct oci_linux *l = fs->conf.spec->linux;
	const struct oci_linux_device *v = l ? l->devices.v : NULL;
	struct err ignored = ERR_INIT;

	if (i < ARRAY_LEN(default_nodes)) {
		*ret = default_nodes[i];
		return true;
	}
	i -= ARRAY_LEN(default_nodes);
	return l && i < l->devices.n && node_of(&v[i], i, ret, &ignored) == 0;
}

static bool is_overridden(const struct rootfs *fs, size_t i, const struct device_node *n)
{
	return i < ARRAY_LEN(default_nodes) && in_config(fs->conf.spec->linux, n->path);
}

static int add_nodes(struct rootfs *fs, int dev_fd, struct err *e)
{
	struct device_node n;
	int r = 0;

	for (size_t i = 0; r == 0 && nth_node(fs, i, &n); i++) {
		if (!is_ready(fs, &n) && !is_overridden(fs, i, &n)) {
			r = add_node(fs, dev_fd, &n, i, e);
		}
	}
	return r;
}

/* --- by the parent --------------------------------------------------------------------- */

/* The host's ids of an owner in the container. */
static int map_owner(const struct rootfs *fs, uid_t *uid, gid_t *gid)
{
	const struct oci_linux *l = fs->conf.spec->linux;
	uint64_t u = *uid, g = *gid;
	int r = 0;

	if (fs->userns) {
		r = l->uid_mappings.n > 0 && l->gid_mappings.n > 0 ? 0 : -ERANGE;
		r = r < 0 ? r : userns_to_host(&l->uid_mappings, *uid, &u);
		r = r < 0 ? r : userns_to_host(&l->gid_mappings, *gid, &g);
	}
	*uid = (uid_t)u;
	*gid = (gid_t)g;
	return r;
}

/* An owner that is not mapped is no one in the container: the node stays ours. */
static int make_mapped(const struct rootfs *fs, int dir_fd, const char *name,
		       const struct device_node *n)
{
	struct device_node mapped = *n;

	if (map_owner(fs, &mapped.uid, &mapped.gid) < 0) {
		mapped.uid = 0;
		mapped.gid = 0;
	}
	return make_node(dir_fd, name, &mapped);
}

/* Below a /dev of ours, which nobody else can see yet. */
static int make_below(const struct rootfs *fs, int dev_fd, const char *rel,
		      const struct device_node *n)
{
	char name[NAME_MAX + 1];
	uid_t uid = 0;
	gid_t gid = 0;

	if (path_name_valid(rel)) {
		return make_mapped(fs, dev_fd, rel, n);
	}
	auto_close int dir_fd = path_parent_p(dev_fd, rel, 0755, name);

	if (dir_fd < 0) {
		return dir_fd;
	}
	if (fs->userns && map_owner(fs, &uid, &gid) == 0) {
		int r = sys_fchownat(dir_fd, "", uid, gid, AT_EMPTY_PATH);

		if (r < 0) {
			return r;
		}
	}
	return make_mapped(fs, dir_fd, name, n);
}

/* Whether /dev is a new tmpfs of which the config says all that the kernel wants to know. */
static struct mount_item *simple_dev(struct rootfs *fs)
{
	struct mount_item *m = rootfs__mount_at(fs, "/dev");

	return m && m->kind == MOUNT_NEW && str_eq(m->conf->type, "tmpfs") && !m->opts.copy_up &&
	       rootfs__has_data(m, "mode=") && !rootfs__has_data(m, "uid=") &&
	       !rootfs__has_data(m, "gid=") ? m : NULL;
}

static int open_whole_dev(struct rootfs *fs, struct mount_item *m, struct err *e)
{
	struct tmpfs_extra extra = { .has_owner = fs->userns };
	struct device_node n;

	if (map_owner(fs, &extra.uid, &extra.gid) < 0) {
		return 0; /* a user namespace of which we do not know the mappings */
	}
	auto_close int fd = rootfs__new_open(fs, m, &extra, e);
	int r = fd < 0 ? fd : 0;

	if (r < 0) {
		return r;
	}
	for (size_t i = 0; r == 0 && nth_node(fs, i, &n); i++) {
		const char *rel = str_after(n.path, "/dev/");

		if (rel && !S_ISFIFO(n.mode) && !is_overridden(fs, i, &n)) {
			r = make_below(fs, fd, rel, &n);
		}
	}
	if (r == -EPERM) {
		return 0; /* without the right to make nodes: the child has other ways */
	}
	if (r < 0) {
		return device_err(-r, ERR_HOST, "/dev", "make its nodes", e);
	}
	m->tree_fd = take_fd(&fd);
	fs->dev_ready = true;
	return 0;
}

/* The nodes that are elsewhere; they are bound from there. */
static int store_nodes(struct rootfs *fs, struct err *e)
{
	struct device_node n;
	char name[16];
	int r = 0;

	for (size_t i = 0; r == 0 && nth_node(fs, i, &n); i++) {
		if (S_ISFIFO(n.mode) || is_ready(fs, &n) || is_overridden(fs, i, &n)) {
			continue;
		}
		if (fs->nodes.fd < 0) {
			r = rootfs__store_open(&fs->nodes, "devices");
		}
		(void)snprintf(name, sizeof(name), "%zu", i); /* fits */
		r = r < 0 ? r : make_mapped(fs, fs->nodes.fd, name, &n);
	}
	if (r == -EPERM) {
		fd_close(&fs->nodes.fd);
		return 0; /* as above */
	}
	return r < 0 ? device_err(-r, ERR_HOST, n.path, "make the node", e) : 0;
}

int rootfs__devices_open(struct rootfs *fs, struct err *e)
{
	const struct mount_item *m = rootfs__mount_at(fs, "/dev");
	struct mount_item *dev = simple_dev(fs);

	if (m && m->kind == MOUNT_BIND) {
		return 0;
	}
	mode_t mask = umask(0); /* modes are as the config and the table say */
	int r = dev ? open_whole_dev(fs, dev, e) : 0;

	if (r == 0 && fs->userns) {
		r = store_nodes(fs, e);
	}
	(void)umask(mask); /* cannot fail */
	return r;
}

/* --- links and the terminal ------------------------------------------------------------ */

/* The multiplexer must be that of the container's own devpts: what has its name goes. The
 * other links stay as the image has them, as these are no more than a convenience. */
static int add_links(int dev_fd, struct err *e)
{
	for (size_t i = 0; i < ARRAY_LEN(default_links); i++) {
		const char *name = default_links[i].name;
		int r = path_symlink(dev_fd, name, default_links[i].target);

		if (r == -EEXIST && str_eq(name, "ptmx")) {
			r = sys_unlinkat(dev_fd, name, 0);
			r = r < 0 ? r : path_symlink(dev_fd, name, default_links[i].target);
		}
		if (r < 0 && r != -EEXIST) {
			return device_err(-r, ERR_HOST, name, "make the link", e);
		}
	}
	return 0;
}

/* Where the caller's terminal is: bound on /dev/console by the descriptor of its inner end. */
static int add_console(struct rootfs *fs, int dev_fd, struct err *e)
{
	const struct mount_item *pts = rootfs__mount_at(fs, "/dev/pts");
	int r = pts && pts->kind == MOUNT_NEW && pts->tree_fd >= 0
			? pty_open(pts->tree_fd, &fs->pty_master, &fs->pty_peer, e)
			: pty_open_in(fs->root_fd, &fs->pty_master, &fs->pty_peer, e);

	if (r < 0) {
		return r;
	}
	auto_close int tree_fd = sys_open_tree(fs->pty_peer, "", OPEN_TREE_CLONE | AT_EMPTY_PATH);
	auto_close int stub_fd = tree_fd < 0 ? tree_fd : stub_p(dev_fd, "console");

	r = stub_fd < 0 ? stub_fd : sys_attach(tree_fd, stub_fd);
	return r < 0 ? device_err(-r, ERR_HOST, "/dev/console", "bind the terminal", e) : 0;
}

/* The folder: what was mounted there, or what the image has. */
static int open_dev(struct rootfs *fs, struct err *e)
{
	const struct mount_item *m = rootfs__mount_at(fs, "/dev");
	int fd = m && m->tree_fd >= 0 ? sys_dup(m->tree_fd)
				      : path_mkdir_p(fs->root_fd, "/dev", 0755);

	return fd < 0 ? device_err(-fd, ERR_HOST, "/dev", "make or open the folder", e) : fd;
}

int rootfs__devices_make(struct rootfs *fs, struct err *e)
{
	const struct mount_item *m = rootfs__mount_at(fs, "/dev");
	const struct oci_process *p = fs->conf.spec->process;
	bool bound = m && m->kind == MOUNT_BIND;
	auto_close int dev_fd = open_dev(fs, e);
	int r = dev_fd;

	if (r < 0) {
		return r;
	}
	r = bound ? 0 : add_nodes(fs, dev_fd, e);
	r = r < 0 || bound ? r : add_links(dev_fd, e);
	if (r == 0 && p && p->terminal) {
		r = add_console(fs, dev_fd, e);
	}
	return r;
}
