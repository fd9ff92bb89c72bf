/* SPDX-License-Identifier: Apache-2.0 */
#include "image/rootfs.h"

#include <errno.h>

#include "base/mem.h"
#include "image/idmap.h"
#include "image/overlay.h"
#include "sys/file.h"
#include "sys/mount.h"

/* The mounts that an overlay is made of; they can go once it is there. */
struct parts {
	int   *lower;
	size_t n_lower;
	int    top;
	int    userns;
};

static void parts_fini(struct parts *p)
{
	for (size_t i = 0; p->lower && i < p->n_lower; i++) {
		fd_close(&p->lower[i]);
	}
	free(p->lower);
	fd_close(&p->top);
	fd_close(&p->userns);
}

static int clone_error(int r, const struct rootfs_opts *o, const char *what, struct err *e)
{
	if (o->ids.count && (r == -EINVAL || r == -EOPNOTSUPP || r == -EPERM)) {
		return err_set(e, -r, ERR_UNSUPPORTED,
			       "%s: this file system or kernel cannot map ids; "
			       "keep the images on ext4, xfs or btrfs, or run with --userns host",
			       what);
	}
	return err_set(e, -r, ERR_HOST, "%s", what);
}

static int clone_lower(struct parts *p, const int *fds, size_t n, const struct rootfs_opts *o,
		       struct err *e)
{
	p->lower = mem_calloc(n + 1, sizeof(*p->lower));
	if (!p->lower) {
		return err_nomem(e);
	}
	for (; p->n_lower < n; p->n_lower++) {
		int fd = idmap_clone(fds[p->n_lower], p->userns, MOUNT_ATTR_RDONLY);

		if (fd < 0) {
			return clone_error(fd, o, "layer of the root file system", e);
		}
		p->lower[p->n_lower] = fd;
	}
	return 0;
}

/* The image's own root inside: 0 on disk, whatever the range. */
static int make_top_folders(const struct rootfs_opts *o, struct err *e)
{
	int r = sys_mkdirat(o->upper_fd, "upper", 0755);

	if (r == 0 || r == -EEXIST) {
		r = sys_mkdirat(o->upper_fd, "work", 0700);
	}
	return r < 0 && r != -EEXIST ? err_set(e, -r, ERR_HOST, "the instance's own layer") : 0;
}

/* A new upper folder would hide what the image says of its root: mode, owner. */
static int copy_root_mode(const int *layer_fds, size_t n, const struct rootfs_opts *o)
{
	struct stat st;

	if (n == 0 || sys_fstat(layer_fds[n - 1], &st) < 0) {
		return 0;
	}
	auto_close int fd = sys_openat(o->upper_fd, "upper", O_RDONLY | O_DIRECTORY | O_NOFOLLOW,
				       0);

	if (fd < 0) {
		return fd;
	}
	int r = sys_fchmod(fd, st.st_mode & 07777);

	return r < 0 ? r : sys_fchownat(fd, "", st.st_uid, st.st_gid, AT_EMPTY_PATH);
}

static int prepare_top(const int *layer_fds, size_t n, const struct rootfs_opts *o,
		       struct err *e)
{
	struct stat st;
	bool fresh = sys_fstatat(o->upper_fd, "upper", &st, AT_SYMLINK_NOFOLLOW) == -ENOENT;
	int r = make_top_folders(o, e);

	if (r < 0) {
		return r;
	}
	r = fresh ? copy_root_mode(layer_fds, n, o) : 0;
	return r < 0 ? err_set(e, -r, ERR_HOST, "the instance's own layer") : 0;
}

/* One folder alone is no overlay. */
static int mount_single(const struct parts *p, const int *layer_fds, size_t n,
			const struct rootfs_opts *o, uint64_t attrs, struct err *e)
{
	auto_close int upper = -1;
	int from = n ? layer_fds[0] : -1;

	if (n == 0) {
		from = upper = sys_openat(o->upper_fd, "upper", O_PATH | O_DIRECTORY | O_NOFOLLOW,
					  0);
	}
	int fd = from < 0 ? from : idmap_clone(from, p->userns, attrs);

	return fd < 0 ? clone_error(fd, o, "root file system", e) : fd;
}

static int mount_parts(struct parts *p, const int *layer_fds, size_t n,
		       const struct rootfs_opts *o, struct err *e)
{
	/* With a range of ids no device of the image is one; then none shall ever be. */
	uint64_t attrs = (o->read_only ? MOUNT_ATTR_RDONLY : 0) |
			 (o->ids.count ? MOUNT_ATTR_NODEV : 0);
	int r = 0;

	if (o->ids.count) {
		const struct idmap map = { .base = o->ids.base, .count = o->ids.count };

		r = idmap_userns(&map, &p->userns, e);
	}
	if (r == 0 && o->upper_fd >= 0) {
		r = prepare_top(layer_fds, n, o, e);
	}
	if (r == 0 && n + (o->upper_fd >= 0) == 1) {
		return mount_single(p, layer_fds, n, o, attrs, e);
	}
	if (r == 0) {
		r = clone_lower(p, layer_fds, n, o, e);
	}
	if (r == 0 && o->upper_fd >= 0) {
		p->top = idmap_clone(o->upper_fd, p->userns, 0);
		r = p->top < 0 ? clone_error(p->top, o, "the instance's own layer", e) : 0;
	}
	if (r < 0) {
		return r;
	}
	const struct overlay v = {
		.lower_fds = p->lower, .n_lower = p->n_lower, .top_fd = p->top,
		.owner = o->ids.count ? o->ids.base : 0, .attrs = attrs, .no_sync = o->no_sync,
	};

	return overlay_mount(&v, e);
}

int rootfs_mount_layers(const int *layer_fds, size_t n, const struct rootfs_opts *o,
			struct err *e)
{
	struct parts p = { .top = -1, .userns = -1 };

	assert(o->upper_fd >= 0 || (o->read_only && n > 0));
	if (n > OCI_LAYERS_MAX) {
		return err_set(e, E2BIG, ERR_LIMIT, "a root file system has at most %d layers",
			       OCI_LAYERS_MAX);
	}
	int fd = mount_parts(&p, layer_fds, n, o, e);

	parts_fini(&p);
	return fd;
}

int rootfs_mount(struct store *s, const struct store_image *img, const struct rootfs_opts *o,
		 struct err *e)
{
	int *fds = mem_calloc(img->n_layers + 1, sizeof(*fds));
	size_t n = 0;
	int r = fds ? 0 : err_nomem(e);

	for (; r >= 0 && n < img->n_layers; n++) {
		r = fds[n] = store_layer_open(s, img->chain_ids[n], e);
		if (r < 0) {
			break;
		}
	}
	if (r >= 0) {
		r = rootfs_mount_layers(fds, n, o, e);
	}
	for (size_t i = 0; fds && i < n; i++) {
		fd_close(&fds[i]);
	}
	free(fds);
	return r;
}

int rootfs_attach(int mount_fd, int target_fd, struct err *e)
{
	int r = sys_attach(mount_fd, target_fd);

	return r < 0 ? err_set(e, -r, ERR_HOST, "attaching the root file system") : 0;
}
