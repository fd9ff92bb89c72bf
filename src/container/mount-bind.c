/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Binds: copies of the host's mounts, detached, with all their flags set before anyone can
 * see them.
 */
#include <errno.h>

#include "base/fd.h"
#include "container/idmap.h"
#include "container/rootfs-priv.h"
#include "sys/file.h"
#include "sys/mount.h"
#include "sys/procfs.h"

/*
 * A copy takes part in its source's propagation. What the root's propagation makes of that
 * comes first, then what the mount's own options say. Few steps, as each is a system call:
 * those that one call can do are merged.
 */
struct step {
	bool              recursive;
	struct mount_attr attr;
};

enum { STEPS_MAX = MOUNT_PROPAGATIONS_MAX + 3 };

struct steps {
	struct step v[STEPS_MAX];
	size_t      n;
	bool        whole;     /* the tree has more than one mount, perhaps */
};

static void steps_add(struct steps *s, bool recursive, const struct mount_attr *a)
{
	struct step *last = s->n > 0 ? &s->v[s->n - 1] : NULL;

	recursive = recursive && s->whole; /* of one mount, all and the top are the same */
	if (last && last->recursive == recursive &&
	    (last->attr.propagation == 0 || a->propagation == 0)) {
		last->attr.attr_set = (last->attr.attr_set & ~a->attr_clr) | a->attr_set;
		last->attr.attr_clr = (last->attr.attr_clr & ~(a->attr_set & ~MOUNT_ATTR__ATIME)) |
				      a->attr_clr;
		last->attr.propagation |= a->propagation;
		if (a->attr_set & MOUNT_ATTR_IDMAP) {
			last->attr.userns_fd = a->userns_fd;
		}
		return;
	}
	assert(s->n < STEPS_MAX);
	s->v[s->n++] = (struct step){ recursive, *a };
}

/* The propagation that a copy gets before its own options; 0: its source's. */
static uint64_t base_propagation(const struct rootfs *fs)
{
	switch (fs->propagation.flag) {
	case MS_SHARED:
		return 0;
	case MS_PRIVATE:
	case MS_UNBINDABLE:
		return MS_PRIVATE;
	default:
		return MS_SLAVE;
	}
}

/* Whether an option leaves nothing of what the base would have set. */
static bool covers(const struct mount_propagation *p, bool whole, uint64_t base)
{
	return (p->recursive || !whole) &&
	       (p->flag == MS_PRIVATE || p->flag == MS_UNBINDABLE || p->flag == base);
}

static void steps_of(const struct rootfs *fs, const struct mount_item *m, int userns_fd,
		     struct steps *s)
{
	const struct mount_opts *o = &m->opts;
	uint64_t base = base_propagation(fs);

	s->whole = o->recursive;
	if (base && !(o->n_propagation > 0 && covers(&o->propagation[0], s->whole, base))) {
		steps_add(s, true, &(struct mount_attr){ .propagation = base });
	}
	for (size_t i = 0; i < o->n_propagation; i++) {
		steps_add(s, o->propagation[i].recursive,
			  &(struct mount_attr){ .propagation = o->propagation[i].flag });
	}
	if (o->rec_set || o->rec_clear) {
		steps_add(s, true, &(struct mount_attr){ .attr_set = o->rec_set,
							 .attr_clr = o->rec_clear });
	}
	if (userns_fd >= 0) {
		steps_add(s, o->idmap == MOUNT_IDMAP_RECURSIVE,
			  &(struct mount_attr){ .attr_set = MOUNT_ATTR_IDMAP,
						.userns_fd = (uint64_t)userns_fd });
	}
	if (o->set || o->clear) {
		steps_add(s, false, &(struct mount_attr){ .attr_set = o->set,
							  .attr_clr = o->clear });
	}
}

static int setattr_err(const struct mount_item *m, int errnum, const struct mount_attr *a,
		       struct err *e)
{
	if (a->attr_set & MOUNT_ATTR_IDMAP) {
		return rootfs__mount_err(m, errnum, errnum == EINVAL ? ERR_UNSUPPORTED : ERR_HOST, e,
					 "map the ids of %s: its file system may not allow that",
					 m->conf->source);
	}
	if (errnum == EPERM && a->attr_clr) {
		return rootfs__mount_err(m, errnum, ERR_DENIED, e,
					 "take flags from %s that are locked in this user "
					 "namespace", m->conf->source);
	}
	return rootfs__mount_err(m, errnum, ERR_HOST, e, "set the flags of %s", m->conf->source);
}

static int steps_run(const struct mount_item *m, const struct steps *s, size_t first, int tree_fd,
		     struct err *e)
{
	for (size_t i = first; i < s->n; i++) {
		const struct step *t = &s->v[i];
		int r = sys_mount_setattr(tree_fd, "",
					  AT_EMPTY_PATH | (t->recursive ? AT_RECURSIVE : 0),
					  &t->attr);

		if (r < 0) {
			return setattr_err(m, -r, &t->attr, e);
		}
	}
	return 0;
}

/*
 * The copy, and the steps. The first of them goes with the call that copies, if both are of
 * the whole tree; an error of that call can be of either part, so then it is done apart.
 */
static int clone_tree(const struct rootfs *fs, const struct mount_item *m, const struct steps *s,
		      struct err *e)
{
	unsigned flags = OPEN_TREE_CLONE | (s->whole ? AT_RECURSIVE : 0);
	bool joined = s->n > 0 && s->v[0].recursive == s->whole;
	auto_close int fd = -EINVAL;

	if (joined) {
		fd = sys_open_tree_attr(fs->bundle_fd, m->conf->source, flags, &s->v[0].attr);
	}
	if (fd < 0) {
		joined = false;
		fd = sys_open_tree(fs->bundle_fd, m->conf->source, flags);
	}
	if (fd == -ENOENT || fd == -ENOTDIR || fd == -EACCES) {
		return rootfs__mount_err(m, -fd, ERR_NOT_FOUND, e, "source %s: %s",
					 m->conf->source,
					 fd == -EACCES ? "no access" : "no such file or folder");
	}
	if (fd == -EINVAL && fs->deferred && !s->whole) {
		return rootfs__mount_err(m, EINVAL, ERR_INVALID, e,
					 "source %s may have mounts below it that a user namespace "
					 "must not leave out: use rbind", m->conf->source);
	}
	if (fd < 0) {
		return rootfs__mount_err(m, -fd, ERR_HOST, e, "copy the mount of source %s",
					 m->conf->source);
	}
	int r = steps_run(m, s, joined ? 1 : 0, fd, e);

	return r < 0 ? r : take_fd(&fd);
}

/* --- id mappings ----------------------------------------------------------------------- */

static bool same_maps(const struct jvec *a, const struct jvec *b)
{
	return a->n == b->n && (a->n == 0 || memcmp(a->v, b->v, a->n * sizeof(struct oci_id_map)) == 0);
}

static int userns_of(const struct mount_item *m, const struct jvec *uids, const struct jvec *gids,
		     struct err *e)
{
	int fd = -1;
	int r = idmap_userns_open(uids, gids, &fd, e);

	if (r < 0) {
		r = err_wrap(e, "mount on %s", m->conf->destination);
		(void)snprintf(e->field, sizeof(e->field), "/mounts/%u", m->index); /* fits */
		return r;
	}
	return fd;
}

/* The container's own mappings, made once. */
static int container_userns(struct rootfs *fs, const struct mount_item *m, struct err *e)
{
	const struct oci_linux *l = fs->conf.spec->linux;

	if (fs->conf.userns_fd >= 0) {
		return fs->conf.userns_fd;
	}
	if (!l || l->uid_mappings.n == 0 || l->gid_mappings.n == 0) {
		return rootfs__mount_err(m, EINVAL, ERR_INVALID, e,
					 "idmap needs mappings, of the mount or of the container's "
					 "user namespace");
	}
	if (fs->idmap_fd < 0) {
		fs->idmap_fd = userns_of(m, &l->uid_mappings, &l->gid_mappings, e);
	}
	return fs->idmap_fd;
}

/*
 * The user namespace whose mappings a mount takes. Sets *own if the caller is to close it.
 * Returns -1 if the mount has none.
 */
static int idmap_fd_of(struct rootfs *fs, const struct mount_item *m, int *own, int *ret_fd,
		       struct err *e)
{
	const struct oci_linux *l = fs->conf.spec->linux;
	const struct jvec *uids = &m->conf->uid_mappings, *gids = &m->conf->gid_mappings;
	bool named = uids->n > 0 || gids->n > 0;
	int fd = -1;

	if (!named && m->opts.idmap == MOUNT_IDMAP_NONE) {
		*ret_fd = -1;
		return 0;
	}
	if (named && (uids->n == 0 || gids->n == 0)) {
		return rootfs__mount_err(m, EINVAL, ERR_INVALID, e,
					 "uidMappings and gidMappings need each other");
	}
	if (!named || (l && same_maps(uids, &l->uid_mappings) && same_maps(gids, &l->gid_mappings))) {
		fd = container_userns(fs, m, e);
	} else {
		fd = userns_of(m, uids, gids, e);
		*own = fd;
	}
	*ret_fd = fd;
	return fd < 0 ? fd : 0;
}

/* --- the two that the header names ----------------------------------------------------- */

/* /proc may be a bind of a procfs's root, and of nothing else. */
static int check_proc_source(const struct mount_item *m, struct err *e)
{
	struct stat st;
	int r = procfs_verify(m->tree_fd);

	r = r < 0 ? r : sys_fstat(m->tree_fd, &st);
	if (r < 0 || st.st_ino != PROCFS_ROOT_INODE) {
		return rootfs__mount_err(m, EPERM, ERR_DENIED, e,
					 "only a procfs may be /proc, and %s is none",
					 m->conf->source);
	}
	return 0;
}

int rootfs__bind_open(struct rootfs *fs, struct mount_item *m, struct err *e)
{
	auto_close int own = -1;
	struct steps s = { .n = 0 };
	struct stat st;
	int userns_fd = -1;
	int r = idmap_fd_of(fs, m, &own, &userns_fd, e);

	if (r < 0) {
		return r;
	}
	steps_of(fs, m, userns_fd, &s);
	auto_close int fd = clone_tree(fs, m, &s, e);

	if (fd < 0) {
		return fd;
	}
	r = sys_fstat(fd, &st);
	if (r < 0) {
		return rootfs__mount_err(m, -r, ERR_HOST, e, "source %s", m->conf->source);
	}
	m->is_dir = S_ISDIR(st.st_mode);
	m->tree_fd = take_fd(&fd);
	return str_eq(m->dest, "/proc") ? check_proc_source(m, e) : 0;
}

/*
 * The root is a copy of the bundle's rootfs with all that is mounted below it. It hears of the
 * host's mounts unless the config says private, and never speaks: what is mounted in the
 * container must not turn up on the host. Its own propagation is set when all is in place.
 */
int rootfs__root_open(struct rootfs *fs, struct err *e)
{
	const char *path = fs->conf.spec->root->path;
	uint64_t base = base_propagation(fs);
	struct mount_attr attr = { .propagation = base ? base : MS_SLAVE };
	struct stat st;
	auto_close int fd = sys_open_tree_attr(fs->bundle_fd, path, OPEN_TREE_CLONE | AT_RECURSIVE,
					       &attr);

	if (fd < 0) {
		int r = err_set(e, -fd, fd == -ENOENT ? ERR_NOT_FOUND : ERR_HOST,
				"root file system %s", path);

		(void)snprintf(e->field, sizeof(e->field), "/root/path"); /* fits */
		return r;
	}
	int r = sys_fstat(fd, &st);

	if (r < 0 || !S_ISDIR(st.st_mode)) {
		return err_field(e, "/root/path", "root file system %s is no folder", path);
	}
	fs->root_fd = take_fd(&fd);
	return 0;
}
