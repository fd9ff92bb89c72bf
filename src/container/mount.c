/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <linux/magic.h>
#include <stdio.h>
#include <sys/vfs.h>

#include "base/fd.h"
#include "base/mem.h"
#include "container/rootfs-priv.h"
#include "sys/file.h"
#include "sys/mount.h"
#include "sys/path.h"

int rootfs__mount_err(const struct mount_item *m, int errnum, enum err_code code, struct err *e,
		      const char *fmt, ...)
{
	auto_buf struct buf b = BUF_INIT;
	va_list ap;

	va_start(ap, fmt);
	buf_vprintf(&b, fmt, ap);
	va_end(ap);

	int r = err_set(e, errnum, code, "mount on %s: %s", m->conf->destination, buf_str(&b));

	(void)snprintf(e->field, sizeof(e->field), "/mounts/%u", m->index); /* fits */
	return r;
}

/* --- from the config ------------------------------------------------------------------- */

static enum mount_kind kind_of(const struct mount_item *m)
{
	const char *type = m->conf->type ? m->conf->type : "";

	if (m->opts.remount) {
		return MOUNT_REMOUNT;
	}
	if (m->opts.bind) {
		return MOUNT_BIND;
	}
	if (str_eq(type, "cgroup") || str_eq(type, "cgroup2")) {
		return MOUNT_CGROUP;
	}
	return MOUNT_NEW;
}

static int check_bind(const struct mount_item *m, struct err *e)
{
	if (!m->conf->source || m->conf->source[0] == '\0') {
		return rootfs__mount_err(m, EINVAL, ERR_INVALID, e, "a bind needs a source");
	}
	if (m->opts.data.n > 0) {
		return rootfs__mount_err(m, EINVAL, ERR_INVALID, e,
					 "\"%s\" is no option of a bind mount", m->opts.data.v[0]);
	}
	if (m->opts.copy_up) {
		return rootfs__mount_err(m, EINVAL, ERR_INVALID, e, "tmpcopyup is for tmpfs");
	}
	return 0;
}

static int check_new(const struct mount_item *m, struct err *e)
{
	const char *type = m->conf->type ? m->conf->type : "";

	if (type[0] == '\0') {
		return rootfs__mount_err(m, EINVAL, ERR_INVALID, e,
					 "neither a type nor the option bind");
	}
	if (m->opts.idmap != MOUNT_IDMAP_NONE || m->conf->uid_mappings.n > 0 ||
	    m->conf->gid_mappings.n > 0) {
		return rootfs__mount_err(m, ENOTSUP, ERR_UNSUPPORTED, e,
					 "ids are mapped for bind mounts only");
	}
	if (m->opts.copy_up && !str_eq(type, "tmpfs")) {
		return rootfs__mount_err(m, EINVAL, ERR_INVALID, e, "tmpcopyup is for tmpfs");
	}
	return 0;
}

/* What may stand on /proc: itself, or one of the files that other programs put over its own
 * (lxcfs and the like). Everything else there would be a /proc that lies. */
static const char *const proc_allowed[] = {
	"cpuinfo", "diskstats", "meminfo", "stat", "swaps", "uptime", "loadavg", "slabinfo",
	"sys/kernel/ns_last_pid", "sys/crypto/fips_enabled", NULL,
};

static bool proc_name_allowed(const char *name)
{
	for (size_t i = 0; proc_allowed[i]; i++) {
		if (str_eq(name, proc_allowed[i])) {
			return true;
		}
	}
	return false;
}

static int refuse_proc(const struct mount_item *m, const char *why, struct err *e)
{
	return rootfs__mount_err(m, EPERM, ERR_DENIED, e, "%s", why);
}

/* By its text, which rootfs__target_open() later finds to be true, or else checks more. */
static int check_dest(const struct mount_item *m, struct err *e)
{
	const char *name = str_after(m->dest, "/proc/");

	if (str_eq(m->dest, "/") && m->kind != MOUNT_REMOUNT) {
		return rootfs__mount_err(m, ENOTSUP, ERR_UNSUPPORTED, e,
					 "nothing is mounted over the root: use root.path");
	}
	if (m->kind == MOUNT_REMOUNT) {
		return 0;
	}
	if (str_eq(m->dest, "/proc") && m->kind != MOUNT_BIND &&
	    !str_eq0(m->conf->type, "proc")) {
		return refuse_proc(m, "only a procfs may be /proc", e);
	}
	if (name && !proc_name_allowed(name)) {
		return refuse_proc(m, "nothing may be mounted inside /proc, but on a few files", e);
	}
	return 0;
}

static int parse_item(struct mount_item *m, struct err *e)
{
	int r = mount_opts_parse(&m->conf->options, &m->opts, e);

	if (r < 0) {
		return r;
	}
	if (str_eq0(m->conf->type, "bind")) {
		m->opts.bind = true;
	}
	m->kind = kind_of(m);
	m->dest = path_clean(m->conf->destination);
	if (!m->dest) {
		return err_nomem(e);
	}
	r = check_dest(m, e);
	if (r < 0) {
		return r;
	}
	switch (m->kind) {
	case MOUNT_BIND:
		return check_bind(m, e);
	case MOUNT_NEW:
	case MOUNT_CGROUP:
		return check_new(m, e);
	case MOUNT_REMOUNT:
		return 0;
	}
	return 0;
}

int rootfs__mounts_parse(struct rootfs *fs, struct err *e)
{
	const struct jvec *v = &fs->conf.spec->mounts;
	const struct oci_mount *conf = v->v;

	if (v->n == 0) {
		return 0;
	}
	fs->mounts = mem_calloc(v->n, sizeof(*fs->mounts));
	if (!fs->mounts) {
		return err_nomem(e);
	}
	for (; fs->n_mounts < v->n; fs->n_mounts++) {
		struct mount_item *m = &fs->mounts[fs->n_mounts];

		*m = (struct mount_item){ .conf = &conf[fs->n_mounts],
					  .index = (unsigned)fs->n_mounts, .tree_fd = -1 };
		int r = parse_item(m, e);

		if (r < 0) {
			fs->n_mounts++; /* what it has is freed with the rest */
			return r;
		}
	}
	return 0;
}

void rootfs__mounts_fini(struct rootfs *fs)
{
	for (size_t i = 0; i < fs->n_mounts; i++) {
		mount_opts_fini(&fs->mounts[i].opts);
		free(fs->mounts[i].dest);
		fd_close(&fs->mounts[i].tree_fd);
	}
	free(fs->mounts);
	fs->mounts = NULL;
	fs->n_mounts = 0;
}

struct mount_item *rootfs__mount_at(struct rootfs *fs, const char *dest)
{
	for (size_t i = fs->n_mounts; i > 0; i--) {
		struct mount_item *m = &fs->mounts[i - 1];

		if (m->kind != MOUNT_REMOUNT && str_eq(m->dest, dest)) {
			return m;
		}
	}
	return NULL;
}

/* --- targets --------------------------------------------------------------------------- */

static bool same_file(int a, int b)
{
	struct stat x, y;

	return sys_fstat(a, &x) == 0 && sys_fstat(b, &y) == 0 && x.st_dev == y.st_dev &&
	       x.st_ino == y.st_ino;
}

/* Whether a target inside a procfs is one of the files that may be mounted on. */
static bool is_allowed_file(struct rootfs *fs, int target_fd)
{
	auto_close int proc_fd = path_open(fs->root_fd, "/proc", PATH_NO_SYMLINKS);

	for (size_t i = 0; proc_fd >= 0 && proc_allowed[i]; i++) {
		auto_close int fd = path_open(proc_fd, proc_allowed[i], PATH_NO_SYMLINKS);

		if (fd >= 0 && same_file(fd, target_fd)) {
			return true;
		}
	}
	return false;
}

/*
 * Links on the way to a target: its text does not say what it is, and the image has chosen
 * where it leads. Ask the target itself.
 */
static int check_linked_target(struct rootfs *fs, const struct mount_item *m, int fd,
			       struct err *e)
{
	struct statfs sfs;

	if (str_eq0(m->conf->type, "proc") || str_eq0(m->conf->type, "sysfs")) {
		return rootfs__mount_err(m, ELOOP, ERR_DENIED, e,
					 "%s is mounted on a folder only, not through a link",
					 m->conf->type);
	}
	if (fstatfs(fd, &sfs) < 0) {
		return rootfs__mount_err(m, errno, ERR_HOST, e, "look at the target");
	}
	if (sfs.f_type == PROC_SUPER_MAGIC && !is_allowed_file(fs, fd)) {
		return refuse_proc(m, "the target leads into /proc through a link", e);
	}

	auto_close int proc_fd = path_open(fs->root_fd, "/proc", 0);

	if (proc_fd >= 0 && same_file(proc_fd, fd)) {
		return refuse_proc(m, "the target leads to /proc through a link", e);
	}
	if (same_file(fs->root_fd, fd)) {
		return rootfs__mount_err(m, ELOOP, ERR_DENIED, e,
					 "the target leads to the root through a link");
	}
	return 0;
}

static int make_target(struct rootfs *fs, const struct mount_item *m, bool dir)
{
	return dir ? path_mkdir_p(fs->root_fd, m->conf->destination, 0755)
		   : path_touch_p(fs->root_fd, m->conf->destination, 0755);
}

/*
 * The common case of a target that is missing: its folder is there, and no link leads to it.
 * Returns an error where anything is otherwise.
 */
static int make_plain_target(struct rootfs *fs, const struct mount_item *m, bool dir)
{
	const char *name = strrchr(m->dest, '/') + 1;
	auto_free char *parent = str_ndup(m->dest, (size_t)(name - m->dest));
	struct stat st;

	if (!parent) {
		return -ENOMEM;
	}
	auto_close int dir_fd = path_open(fs->root_fd, parent, PATH_NO_SYMLINKS | PATH_DIRECTORY);

	if (dir_fd < 0) {
		return dir_fd;
	}
	int r = dir ? path_mkdir(dir_fd, name, 0755) : path_mknod(dir_fd, name, S_IFREG | 0755, 0);

	if (r < 0) {
		return r;
	}
	auto_close int fd = sys_openat(dir_fd, name, O_PATH | O_NOFOLLOW, 0);

	r = fd < 0 ? fd : sys_fstat(fd, &st);
	if (r < 0) {
		return r;
	}
	return S_ISLNK(st.st_mode) ? -ELOOP : take_fd(&fd);
}

int rootfs__target_open(struct rootfs *fs, const struct mount_item *m, bool dir, struct err *e)
{
	/* Without links the text of the path, which was checked, is the truth. */
	auto_close int fd = path_open(fs->root_fd, m->conf->destination, PATH_NO_SYMLINKS);

	if (fd == -ENOENT) {
		fd = make_plain_target(fs, m, dir);
	}
	if (fd >= 0) {
		return take_fd(&fd);
	}
	if (fd == -ENOENT || fd == -ELOOP || fd == -EEXIST) {
		fd = make_target(fs, m, dir);
	}
	if (fd < 0) {
		return rootfs__mount_err(m, -fd, fd == -EROFS ? ERR_INVALID : ERR_HOST, e,
					 "make or open the mount point");
	}
	/* What has just been made may have been all that was missing. */
	auto_close int plain_fd = path_open(fs->root_fd, m->conf->destination, PATH_NO_SYMLINKS);

	if (plain_fd >= 0) {
		return take_fd(&plain_fd);
	}
	int r = check_linked_target(fs, m, fd, e);

	return r < 0 ? r : take_fd(&fd);
}

int rootfs__attach(const struct mount_item *m, int tree_fd, int target_fd, struct err *e)
{
	struct stat a, b;
	int r = sys_attach(tree_fd, target_fd);

	if (r == 0) {
		return 0;
	}
	if (sys_fstat(tree_fd, &a) == 0 && sys_fstat(target_fd, &b) == 0 &&
	    S_ISDIR(a.st_mode) != S_ISDIR(b.st_mode)) {
		return rootfs__mount_err(m, ENOTDIR, ERR_INVALID, e, "%s",
					 S_ISDIR(a.st_mode)
						 ? "a folder cannot be mounted on a file"
						 : "a file cannot be mounted on a folder");
	}
	return rootfs__mount_err(m, -r, ERR_HOST, e, "attach");
}

/* --- all of them ----------------------------------------------------------------------- */

int rootfs__mounts_open(struct rootfs *fs, struct err *e)
{
	for (size_t i = 0; i < fs->n_mounts; i++) {
		struct mount_item *m = &fs->mounts[i];
		int r = m->kind == MOUNT_BIND ? rootfs__bind_open(fs, m, e) : 0;

		if (r < 0) {
			return r;
		}
	}
	return 0;
}

static int attach_bind(struct rootfs *fs, const struct mount_item *m, struct err *e)
{
	auto_close int target_fd = rootfs__target_open(fs, m, m->is_dir, e);

	return target_fd < 0 ? target_fd : rootfs__attach(m, m->tree_fd, target_fd, e);
}

static int attach_item(struct rootfs *fs, struct mount_item *m, struct err *e)
{
	switch (m->kind) {
	case MOUNT_BIND:
		return attach_bind(fs, m, e);
	case MOUNT_NEW:
		return rootfs__new_attach(fs, m, e);
	case MOUNT_CGROUP:
		return rootfs__cgroup_attach(fs, m, e);
	case MOUNT_REMOUNT:
		return rootfs__remount(fs, m, e);
	}
	return 0;
}

int rootfs__mounts_attach(struct rootfs *fs, struct err *e)
{
	for (size_t i = 0; i < fs->n_mounts; i++) {
		int r = attach_item(fs, &fs->mounts[i], e);

		if (r < 0) {
			return r;
		}
	}
	return 0;
}

/* A tmpfs that is to be read-only stays writable until all below it has been made. */
int rootfs__mounts_finish(struct rootfs *fs, struct err *e)
{
	for (size_t i = 0; i < fs->n_mounts; i++) {
		struct mount_item *m = &fs->mounts[i];
		struct mount_attr ro = { .attr_set = MOUNT_ATTR_RDONLY };

		if (m->kind != MOUNT_NEW || m->tree_fd < 0 || !str_eq(m->conf->type, "tmpfs") ||
		    !((m->opts.set | m->opts.rec_set) & MOUNT_ATTR_RDONLY)) {
			continue;
		}
		int r = sys_mount_setattr(m->tree_fd, "", AT_EMPTY_PATH, &ro);

		if (r < 0) {
			return rootfs__mount_err(m, -r, ERR_HOST, e, "make it read-only");
		}
	}
	return 0;
}
