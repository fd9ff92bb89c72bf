/* SPDX-License-Identifier: Apache-2.0 */
/*
 * New file systems: configured through a descriptor, mounted detached, put on their target
 * when they are complete.
 */
#include <errno.h>
#include <stdio.h>

#include "base/fd.h"
#include "container/copyup.h"
#include "container/rootfs-priv.h"
#include "sys/file.h"
#include "sys/mount.h"
#include "sys/path.h"
#include "sys/proc.h"

/* The kernel takes no longer values by fsconfig(). */
enum { VALUE_MAX = 255 };

/* File systems without a device, whose superblock need not be read-only for a mount that is:
 * some are shared with other mounts, or are filled by us first. */
static const char *const virtual_types[] = {
	"proc", "sysfs", "tmpfs", "devpts", "mqueue", "cgroup", "cgroup2", "ramfs", "bpf",
	"tracefs", "debugfs", "securityfs", "binfmt_misc", "devtmpfs", "hugetlbfs", NULL,
};

static bool is_virtual(const char *type)
{
	for (size_t i = 0; virtual_types[i]; i++) {
		if (str_eq(type, virtual_types[i])) {
			return true;
		}
	}
	return false;
}

bool rootfs__has_data(const struct mount_item *m, const char *prefix)
{
	for (size_t i = 0; i < m->opts.data.n; i++) {
		if (str_after(m->opts.data.v[i], prefix)) {
			return true;
		}
	}
	return false;
}

static bool has_long_data(const struct mount_item *m)
{
	for (size_t i = 0; i < m->opts.data.n; i++) {
		if (strlen(m->opts.data.v[i]) > VALUE_MAX) {
			return true;
		}
	}
	return false;
}

/* A failed call on a file system's context, with what the kernel says about it. */
static int config_err(const struct mount_item *m, int fs_fd, int errnum, const char *what,
		      struct err *e)
{
	auto_buf struct buf b = BUF_INIT;
	enum err_code code = errnum == EINVAL ? ERR_INVALID : ERR_HOST;

	sys_fs_message(fs_fd, &b);
	if (b.len > 0) {
		return rootfs__mount_err(m, errnum, code, e, "%s: %s", what, buf_str(&b));
	}
	return rootfs__mount_err(m, errnum, code, e, "%s", what);
}

static int set_string(const struct mount_item *m, int fs_fd, const char *key, const char *value,
		      struct err *e)
{
	int r = sys_fsconfig(fs_fd, FSCONFIG_SET_STRING, key, value, 0);

	return r < 0 ? config_err(m, fs_fd, -r, key, e) : 0;
}

static int set_flag(const struct mount_item *m, int fs_fd, const char *key, struct err *e)
{
	int r = sys_fsconfig(fs_fd, FSCONFIG_SET_FLAG, key, NULL, 0);

	return r < 0 ? config_err(m, fs_fd, -r, key, e) : 0;
}

/* "size=64k", or "noswap". */
static int set_data(const struct mount_item *m, int fs_fd, const char *text, struct err *e)
{
	const char *eq = strchr(text, '=');

	if (!eq) {
		return set_flag(m, fs_fd, text, e);
	}
	auto_free char *key = str_ndup(text, (size_t)(eq - text));

	return key ? set_string(m, fs_fd, key, eq + 1, e) : err_nomem(e);
}

static int set_super(const struct mount_item *m, int fs_fd, struct err *e)
{
	static const struct {
		unsigned    flag;
		const char *name;
	} table[] = {
		{ MOUNT_SUPER_SYNC, "sync" },         { MOUNT_SUPER_DIRSYNC, "dirsync" },
		{ MOUNT_SUPER_MAND, "mand" },         { MOUNT_SUPER_LAZYTIME, "lazytime" },
		{ MOUNT_SUPER_IVERSION, "iversion" }, { MOUNT_SUPER_ACL, "acl" },
	};

	for (size_t i = 0; i < ARRAY_LEN(table); i++) {
		int r = m->opts.super & table[i].flag ? set_flag(m, fs_fd, table[i].name, e) : 0;

		if (r < 0) {
			return r;
		}
	}
	return 0;
}

/* Those whose file system is there already, or that the policy labels by itself, take none. */
static const char *label_of(const struct rootfs *fs, const char *type)
{
	static const char *const without[] = { "proc", "sysfs", "mqueue", "cgroup", "cgroup2" };
	const struct oci_linux *l = fs->conf.spec->linux;
	const char *label = l ? l->mount_label : NULL;

	for (size_t i = 0; i < ARRAY_LEN(without); i++) {
		if (str_eq(type, without[i])) {
			return NULL;
		}
	}
	return label && label[0] ? label : NULL;
}

static int set_all(const struct rootfs *fs, const struct mount_item *m, int fs_fd, struct err *e)
{
	const char *type = m->conf->type;
	const char *source = m->conf->source && m->conf->source[0] ? m->conf->source : type;
	const char *label = label_of(fs, type);
	int r = set_string(m, fs_fd, "source", source, e);

	if (r == 0 && m->opts.super) {
		r = set_super(m, fs_fd, e);
	}
	if (r == 0 && (m->opts.set & MOUNT_ATTR_RDONLY) && !is_virtual(type)) {
		r = set_flag(m, fs_fd, "ro", e);
	}
	for (size_t i = 0; r == 0 && i < m->opts.data.n; i++) {
		r = set_data(m, fs_fd, m->opts.data.v[i], e);
	}
	if (r == 0 && label) {
		r = set_string(m, fs_fd, "context", label, e);
	}
	return r;
}

/* A new mount is private and alone: to say so again changes nothing. */
static int set_propagation(const struct mount_item *m, int fd, struct err *e)
{
	bool needed = false;

	for (size_t i = 0; i < m->opts.n_propagation; i++) {
		uint64_t flag = m->opts.propagation[i].flag;
		struct mount_attr attr = { .propagation = flag };

		needed = needed || flag == MS_SHARED || flag == MS_UNBINDABLE;
		int r = needed ? sys_mount_setattr(fd, "", AT_EMPTY_PATH, &attr) : 0;

		if (r < 0) {
			return rootfs__mount_err(m, -r, ERR_HOST, e, "set the propagation");
		}
	}
	return 0;
}

static int set_number(const struct mount_item *m, int fs_fd, const char *key, bool octal,
		      unsigned value, struct err *e)
{
	char text[16];

	(void)snprintf(text, sizeof(text), octal ? "%o" : "%u", value); /* fits */
	return set_string(m, fs_fd, key, text, e);
}

static int set_extra(const struct mount_item *m, int fs_fd, const struct tmpfs_extra *x,
		     struct err *e)
{
	int r = x->mode ? set_number(m, fs_fd, "mode", true, x->mode, e) : 0;

	if (r == 0 && x->has_owner) {
		r = set_number(m, fs_fd, "uid", false, x->uid, e);
		r = r < 0 ? r : set_number(m, fs_fd, "gid", false, x->gid, e);
	}
	return r;
}

int rootfs__new_open(const struct rootfs *fs, const struct mount_item *m,
		     const struct tmpfs_extra *extra, struct err *e)
{
	uint64_t attrs = m->opts.set | m->opts.rec_set;
	auto_close int fs_fd = sys_fsopen(m->conf->type);

	if (fs_fd == -ENODEV) {
		return rootfs__mount_err(m, ENODEV, ERR_UNSUPPORTED, e,
					 "this kernel has no file system \"%s\"", m->conf->type);
	}
	if (fs_fd < 0) {
		return rootfs__mount_err(m, -fs_fd, ERR_HOST, e, "open a file system \"%s\"",
					 m->conf->type);
	}
	int r = set_all(fs, m, fs_fd, e);

	r = r < 0 ? r : set_extra(m, fs_fd, extra, e);
	if (r < 0) {
		return r;
	}
	r = sys_fsconfig(fs_fd, FSCONFIG_CMD_CREATE, NULL, NULL, 0);
	if (r < 0) {
		return config_err(m, fs_fd, -r, m->conf->type, e);
	}
	if (str_eq(m->conf->type, "tmpfs")) {
		attrs &= ~(uint64_t)MOUNT_ATTR_RDONLY; /* rootfs__mounts_finish() sets it */
	}
	auto_close int fd = sys_fsmount(fs_fd, (unsigned)attrs);

	if (fd < 0) {
		return config_err(m, fs_fd, -fd, "fsmount", e);
	}
	r = set_propagation(m, fd, e);
	return r < 0 ? r : take_fd(&fd);
}

/* --- options longer than fsconfig() takes ---------------------------------------------- */

static unsigned long ms_flags(uint64_t attrs)
{
	static const struct {
		uint64_t      attr;
		unsigned long flag;
	} table[] = {
		{ MOUNT_ATTR_RDONLY, MS_RDONLY },         { MOUNT_ATTR_NOSUID, MS_NOSUID },
		{ MOUNT_ATTR_NODEV, MS_NODEV },           { MOUNT_ATTR_NOEXEC, MS_NOEXEC },
		{ MOUNT_ATTR_NOATIME, MS_NOATIME },       { MOUNT_ATTR_STRICTATIME, MS_STRICTATIME },
		{ MOUNT_ATTR_NODIRATIME, MS_NODIRATIME },
		{ MOUNT_ATTR_NOSYMFOLLOW, 256 /* MS_NOSYMFOLLOW */ },
	};
	unsigned long flags = 0;

	for (size_t i = 0; i < ARRAY_LEN(table); i++) {
		flags |= attrs & table[i].attr ? table[i].flag : 0;
	}
	return flags;
}

/* What that call cannot be told. */
static int check_text(const struct rootfs *fs, const struct mount_item *m, struct err *e)
{
	bool propagates = false;

	for (size_t i = 0; i < m->opts.n_propagation; i++) {
		propagates = propagates || m->opts.propagation[i].flag == MS_SHARED ||
			     m->opts.propagation[i].flag == MS_UNBINDABLE;
	}
	if (propagates || m->opts.super || label_of(fs, m->conf->type)) {
		return rootfs__mount_err(m, ENOTSUP, ERR_UNSUPPORTED, e,
					 "options of more than %d bytes go with neither propagation, "
					 "sync and the like, nor a mount label", VALUE_MAX);
	}
	return 0;
}

/*
 * The old call, for the long lower-layer lists of overlays. It takes a path, so it gets "."
 * in the folder that the target's descriptor is.
 */
static int mount_by_text(const struct rootfs *fs, const struct mount_item *m, int target_fd,
			 struct err *e)
{
	auto_buf struct buf b = BUF_INIT;
	const char *source = m->conf->source && m->conf->source[0] ? m->conf->source : "none";
	int checked = check_text(fs, m, e);

	if (checked < 0) {
		return checked;
	}
	for (size_t i = 0; i < m->opts.data.n; i++) {
		buf_add_str(&b, i > 0 ? "," : "");
		buf_add_str(&b, m->opts.data.v[i]);
	}
	if (buf_failed(&b)) {
		return err_nomem(e);
	}
	int r = sys_fchdir(target_fd);

	if (r == 0) {
		r = sys_mount(source, ".", m->conf->type, ms_flags(m->opts.set | m->opts.rec_set),
			      buf_str(&b));
	}
	int s = sys_chdir("/");

	r = r < 0 ? r : s;
	return r < 0 ? rootfs__mount_err(m, -r, ERR_HOST, e, "mount a file system \"%s\"",
					 m->conf->type)
		     : 0;
}

/* --- what the header names ------------------------------------------------------------- */

static int fill_tmpfs(const struct mount_item *m, int target_fd, int tree_fd, struct err *e)
{
	int r = copyup(target_fd, tree_fd, e);

	if (r < 0) {
		r = err_wrap(e, "mount on %s: tmpcopyup", m->conf->destination);
		(void)snprintf(e->field, sizeof(e->field), "/mounts/%u", m->index); /* fits */
	}
	return r;
}

int rootfs__new_attach(struct rootfs *fs, struct mount_item *m, struct err *e)
{
	bool tmpfs = str_eq(m->conf->type, "tmpfs");
	struct tmpfs_extra extra = { .mode = 0 };
	auto_close int target_fd = rootfs__target_open(fs, m, true, e);
	struct stat st = { .st_mode = 0 };
	int r = 0;

	if (target_fd < 0) {
		return target_fd;
	}
	if (m->tree_fd >= 0) {
		return rootfs__attach(m, m->tree_fd, target_fd, e); /* the parent's work */
	}
	if (has_long_data(m)) {
		return mount_by_text(fs, m, target_fd, e);
	}
	if (tmpfs && !rootfs__has_data(m, "mode=")) {
		r = sys_fstat(target_fd, &st);
		if (r < 0) {
			return rootfs__mount_err(m, -r, ERR_HOST, e, "look at the target");
		}
		extra.mode = st.st_mode & 07777;
	}
	m->tree_fd = rootfs__new_open(fs, m, &extra, e);
	if (m->tree_fd < 0) {
		return m->tree_fd;
	}
	if (m->opts.copy_up) {
		r = fill_tmpfs(m, target_fd, m->tree_fd, e);
	}
	return r < 0 ? r : rootfs__attach(m, m->tree_fd, target_fd, e);
}

/* Only a file system of this container is configured anew: others are the host's too. */
static int reconfigure(struct rootfs *fs, const struct mount_item *m, int target_fd,
		       struct err *e)
{
	const struct mount_item *at = rootfs__mount_at(fs, m->dest);

	if (!at || at->kind != MOUNT_NEW || at->index > m->index) {
		return rootfs__mount_err(m, ENOTSUP, ERR_UNSUPPORTED, e,
					 "\"%s\": only file systems of this container's own are "
					 "remounted with other data", m->opts.data.v[0]);
	}
	auto_close int fs_fd = sys_fspick(target_fd, "", FSPICK_EMPTY_PATH);

	if (fs_fd < 0) {
		return rootfs__mount_err(m, -fs_fd, ERR_HOST, e, "open the mounted file system");
	}
	for (size_t i = 0; i < m->opts.data.n; i++) {
		int r = set_data(m, fs_fd, m->opts.data.v[i], e);

		if (r < 0) {
			return r;
		}
	}
	int r = sys_fsconfig(fs_fd, FSCONFIG_CMD_RECONFIGURE, NULL, NULL, 0);

	return r < 0 ? config_err(m, fs_fd, -r, "remount", e) : 0;
}

static int setattr(const struct mount_item *m, int fd, unsigned flags,
		   const struct mount_attr *a, struct err *e)
{
	int r = sys_mount_setattr(fd, "", AT_EMPTY_PATH | flags, a);

	if (r == -EINVAL) {
		return rootfs__mount_err(m, EINVAL, ERR_INVALID, e, "remount: nothing is mounted there");
	}
	return r < 0 ? rootfs__mount_err(m, -r, ERR_HOST, e, "remount") : 0;
}

/*
 * Change the flags of what is mounted there, of this mount only, never of its superblock,
 * which may be the host's.
 */
int rootfs__remount(struct rootfs *fs, struct mount_item *m, struct err *e)
{
	const struct mount_opts *o = &m->opts;
	struct mount_attr top = { .attr_set = o->set, .attr_clr = o->clear };
	struct mount_attr all = { .attr_set = o->rec_set, .attr_clr = o->rec_clear };
	auto_close int fd = path_open(fs->root_fd, m->conf->destination, 0);

	if (fd < 0) {
		return rootfs__mount_err(m, -fd, ERR_NOT_FOUND, e, "remount: nothing is there");
	}
	int r = o->data.n > 0 ? reconfigure(fs, m, fd, e) : 0;

	for (size_t i = 0; r == 0 && i < o->n_propagation; i++) {
		struct mount_attr a = { .propagation = o->propagation[i].flag };

		r = setattr(m, fd, o->propagation[i].recursive ? AT_RECURSIVE : 0, &a, e);
	}
	if (r == 0 && (o->rec_set || o->rec_clear)) {
		r = setattr(m, fd, AT_RECURSIVE, &all, e);
	}
	return r == 0 ? setattr(m, fd, 0, &top, e) : r;
}
