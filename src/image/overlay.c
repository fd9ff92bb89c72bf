/* SPDX-License-Identifier: Apache-2.0 */
#include "image/overlay.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/fsuid.h>

#include "base/str.h"
#include "sys/cred.h"
#include "sys/file.h"
#include "sys/mount.h"
#include "sys/proc.h"

static const char *upper_name(const struct overlay *o)
{
	return o->upper_name ? o->upper_name : "upper";
}

/* What the overlay is told, beside its layers. Redirects let folders be renamed. */
static const char *const options_host[][2] = {
	{ "redirect_dir", "on" }, { "metacopy", "off" }, { NULL, NULL },
};
static const char *const options_userns[][2] = { { "userxattr", NULL }, { NULL, NULL } };

/* True unless every id is mapped to itself, as in the initial namespace only. */
static bool in_userns(void)
{
	auto_buf struct buf text = BUF_INIT;
	unsigned inside, outside, count;

	if (sys_read_file(AT_FDCWD, "/proc/self/uid_map", 4096, &text) < 0) {
		return false;
	}
	return sscanf(buf_str(&text), "%u %u %u", &inside, &outside, &count) != 3 || inside != 0 ||
	       outside != 0 || count != UINT32_MAX;
}

static int fs_error(int fs_fd, int r, const char *what, struct err *e)
{
	auto_buf struct buf text = BUF_INIT;

	sys_fs_message(fs_fd, &text);
	return err_set(e, -r, ERR_HOST, "overlay: %s%s%s", what, text.len ? ": " : "",
		       buf_str(&text));
}

/* --- layers by descriptor --- */

static int add_fd(int fs_fd, const char *key, int fd)
{
	return sys_fsconfig(fs_fd, FSCONFIG_SET_FD, key, NULL, fd);
}

static int add_top(const struct overlay *o, int fs_fd)
{
	auto_close int upper = sys_openat(o->top_fd, upper_name(o),
					  O_PATH | O_DIRECTORY | O_NOFOLLOW, 0);
	auto_close int work = sys_openat(o->top_fd, "work", O_PATH | O_DIRECTORY | O_NOFOLLOW, 0);

	if (upper < 0 || work < 0) {
		return upper < 0 ? upper : work;
	}
	int r = add_fd(fs_fd, "upperdir", upper);

	return r < 0 ? r : add_fd(fs_fd, "workdir", work);
}

static int add_options(const struct overlay *o, int fs_fd)
{
	const char *const (*p)[2] = in_userns() ? options_userns : options_host;
	int r = 0;

	for (; r == 0 && (*p)[0]; p++) {
		r = (*p)[1] ? sys_fsconfig(fs_fd, FSCONFIG_SET_STRING, (*p)[0], (*p)[1], 0) :
			      sys_fsconfig(fs_fd, FSCONFIG_SET_FLAG, (*p)[0], NULL, 0);
	}
	if (r == 0 && o->no_sync && o->top_fd >= 0) {
		r = sys_fsconfig(fs_fd, FSCONFIG_SET_FLAG, "volatile", NULL, 0);
	}
	return r;
}

/* *ret_old: the kernel takes no descriptors. */
static int mount_by_fd(const struct overlay *o, bool *ret_old, struct err *e)
{
	auto_close int fs_fd = sys_fsopen("overlay");

	if (fs_fd < 0) {
		return err_set(e, -fs_fd, fs_fd == -ENODEV ? ERR_UNSUPPORTED : ERR_HOST,
			       "overlay: this kernel or user cannot mount one");
	}
	for (size_t i = o->n_lower; i-- > 0;) {
		int r = add_fd(fs_fd, "lowerdir+", o->lower_fds[i]);

		/* The first before 6.13, the second before 6.5, where overlays have no context. */
		if ((r == -EINVAL || r == -EOPNOTSUPP) && i == o->n_lower - 1) {
			*ret_old = true;
			return r;
		}
		if (r < 0) {
			return fs_error(fs_fd, r, "a layer", e);
		}
	}
	int r = o->top_fd >= 0 ? add_top(o, fs_fd) : 0;

	if (r == 0) {
		r = add_options(o, fs_fd);
	}
	if (r == 0) {
		r = sys_fsconfig(fs_fd, FSCONFIG_CMD_CREATE, NULL, NULL, 0);
	}
	if (r == -EINVAL && o->top_fd >= 0) {
		r = fs_error(fs_fd, r, "mount", e);
		e->code = ERR_UNSUPPORTED;
		return err_wrap(e, "the file system here may not carry layers (an overlay itself "
				   "cannot; ext4, xfs, btrfs and tmpfs can)");
	}
	if (r < 0) {
		return fs_error(fs_fd, r, "mount", e);
	}
	r = sys_fsmount(fs_fd, (unsigned)o->attrs);
	return r < 0 ? fs_error(fs_fd, r, "mount", e) : r;
}

/* --- layers by name --- */

/* Compatibility: kernels before 6.13. Retire it with them. */

static int attach_at(int mount_fd, const char *name)
{
	int r = sys_mkdirat(AT_FDCWD, name, 0700);

	return r < 0 ? r : sys_move_mount(mount_fd, "", AT_FDCWD, name, MOVE_MOUNT_F_EMPTY_PATH);
}

/* In the tmpfs: "0" is the bottom layer, "t" the top, "m" the overlay. */
static int mount_named(const struct overlay *o)
{
	auto_buf struct buf data = BUF_INIT;
	char name[24];
	int r = 0;

	buf_add_str(&data, "lowerdir=");
	for (size_t i = o->n_lower; r == 0 && i-- > 0;) {
		(void)snprintf(name, sizeof(name), "%zu", i);
		r = attach_at(o->lower_fds[i], name);
		buf_printf(&data, "%s%s", name, i ? ":" : "");
	}
	if (r == 0 && o->top_fd >= 0) {
		r = attach_at(o->top_fd, "t");
		buf_printf(&data, ",upperdir=t/%s,workdir=t/work", upper_name(o));
	}
	buf_add_str(&data, in_userns() ? ",userxattr" : ",redirect_dir=on,metacopy=off");
	buf_add_str(&data, o->no_sync && o->top_fd >= 0 ? ",volatile" : "");
	if (r == 0) {
		r = buf_failed(&data) ? -ENOMEM : sys_mkdirat(AT_FDCWD, "m", 0700);
	}
	if (r == 0) {
		r = sys_mount("overlay", "m", "overlay", 0, buf_str(&data));
	}
	if (r < 0) {
		return r;
	}
	struct mount_attr attr = { .attr_set = o->attrs };

	return sys_open_tree_attr(AT_FDCWD, "m", OPEN_TREE_CLONE, &attr);
}

static int new_tmpfs(void)
{
	auto_close int fs_fd = sys_fsopen("tmpfs");
	int r = fs_fd < 0 ? fs_fd : sys_fsconfig(fs_fd, FSCONFIG_CMD_CREATE, NULL, NULL, 0);

	return r < 0 ? r : sys_fsmount(fs_fd, MOUNT_ATTR_NODEV | MOUNT_ATTR_NOSUID);
}

static int mount_by_name(const struct overlay *o, struct err *e)
{
	auto_close int here = sys_openat(AT_FDCWD, ".", O_PATH | O_DIRECTORY, 0);
	auto_close int tmpfs = new_tmpfs();
	auto_close int root = sys_openat(AT_FDCWD, "/", O_PATH | O_DIRECTORY, 0);

	if (here < 0 || tmpfs < 0 || root < 0) {
		return err_set(e, EIO, ERR_HOST, "overlay: a place to name its layers");
	}
	int r = sys_attach(tmpfs, root);

	if (r < 0) {
		return err_set(e, -r, ERR_HOST, "overlay: a place to name its layers");
	}
	r = sys_fchdir(tmpfs);
	if (r == 0) {
		r = mount_named(o);
	}
	ignore_result(sys_umount2(".", MNT_DETACH)); /* it goes with the namespace otherwise */
	ignore_result(sys_fchdir(here)); /* where we were a moment ago */
	return r < 0 ? err_set(e, -r, ERR_HOST, "overlay of %zu layers", o->n_lower) : r;
}

/* --- both --- */

static int mount_either(const struct overlay *o, struct err *e)
{
	bool old = false;
	int r = mount_by_fd(o, &old, e);

	return old ? mount_by_name(o, e) : r;
}

/*
 * The overlay makes its files as whoever mounts it. On a mapped upper folder that must be an
 * id of the mapping, or every write ends with EOVERFLOW; so for the moment of the mount we
 * are the range's root to the file system, with all our capabilities.
 */
static int become(uint32_t id, const struct sys_caps *caps)
{
	(void)setfsgid(id); /* both return the id of before, and cannot say that they failed */
	(void)setfsuid(id);
	return sys_capset(caps);
}

int overlay_mount(const struct overlay *o, struct err *e)
{
	struct sys_caps caps;

	if (o->owner == 0 || o->top_fd < 0) {
		return mount_either(o, e);
	}
	int r = sys_capget(&caps);

	if (r == 0) {
		r = become(o->owner, &caps);
	}
	if (r < 0) {
		return err_set(e, -r, ERR_HOST, "overlay: becoming the layers' owner");
	}
	auto_close int fd = mount_either(o, e);

	r = become(0, &caps);
	if (fd >= 0 && r < 0) {
		return err_set(e, -r, ERR_HOST, "overlay: becoming root again");
	}
	return fd < 0 ? fd : take_fd(&fd);
}
