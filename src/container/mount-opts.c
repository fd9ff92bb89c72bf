/* SPDX-License-Identifier: Apache-2.0 */
#include "container/mount-opts.h"

#include <errno.h>
#include <string.h>

#include "base/mem.h"
#include "base/str.h"
#include "sys/mount.h"

enum opt_kind {
	OPT_NOTHING,          /* says what is so anyway */
	OPT_SET,
	OPT_CLEAR,
	OPT_ATIME,            /* one of three; another one ends it */
	OPT_NOT_ATIME,        /* not that one, if it was chosen before or is the source's */
	OPT_REC_SET,
	OPT_REC_CLEAR,
	OPT_REC_ATIME,
	OPT_REC_NOT_ATIME,
	OPT_SUPER,
	OPT_NOT_SUPER,
	OPT_PROPAGATION,
	OPT_REC_PROPAGATION,
	OPT_BIND,
	OPT_RBIND,
	OPT_REMOUNT,
	OPT_TMPCOPYUP,
	OPT_IDMAP,
	OPT_RIDMAP,
};

/* Sorted by name: the table is searched by halves, and printed by `features`. */
#define OPTIONS(X) \
	X("acl", OPT_SUPER, MOUNT_SUPER_ACL) \
	X("async", OPT_NOT_SUPER, MOUNT_SUPER_SYNC) \
	X("atime", OPT_NOT_ATIME, MOUNT_ATTR_NOATIME) \
	X("bind", OPT_BIND, 0) \
	X("defaults", OPT_NOTHING, 0) \
	X("dev", OPT_CLEAR, MOUNT_ATTR_NODEV) \
	X("diratime", OPT_CLEAR, MOUNT_ATTR_NODIRATIME) \
	X("dirsync", OPT_SUPER, MOUNT_SUPER_DIRSYNC) \
	X("exec", OPT_CLEAR, MOUNT_ATTR_NOEXEC) \
	X("idmap", OPT_IDMAP, 0) \
	X("iversion", OPT_SUPER, MOUNT_SUPER_IVERSION) \
	X("lazytime", OPT_SUPER, MOUNT_SUPER_LAZYTIME) \
	X("loud", OPT_NOTHING, 0) \
	X("mand", OPT_SUPER, MOUNT_SUPER_MAND) \
	X("noacl", OPT_NOT_SUPER, MOUNT_SUPER_ACL) \
	X("noatime", OPT_ATIME, MOUNT_ATTR_NOATIME) \
	X("nodev", OPT_SET, MOUNT_ATTR_NODEV) \
	X("nodiratime", OPT_SET, MOUNT_ATTR_NODIRATIME) \
	X("noexec", OPT_SET, MOUNT_ATTR_NOEXEC) \
	X("noiversion", OPT_NOT_SUPER, MOUNT_SUPER_IVERSION) \
	X("nolazytime", OPT_NOT_SUPER, MOUNT_SUPER_LAZYTIME) \
	X("nomand", OPT_NOT_SUPER, MOUNT_SUPER_MAND) \
	X("norelatime", OPT_NOT_ATIME, MOUNT_ATTR_RELATIME) \
	X("nostrictatime", OPT_NOT_ATIME, MOUNT_ATTR_STRICTATIME) \
	X("nosuid", OPT_SET, MOUNT_ATTR_NOSUID) \
	X("nosymfollow", OPT_SET, MOUNT_ATTR_NOSYMFOLLOW) \
	X("private", OPT_PROPAGATION, MS_PRIVATE) \
	X("ratime", OPT_REC_NOT_ATIME, MOUNT_ATTR_NOATIME) \
	X("rbind", OPT_RBIND, 0) \
	X("rdev", OPT_REC_CLEAR, MOUNT_ATTR_NODEV) \
	X("rdiratime", OPT_REC_CLEAR, MOUNT_ATTR_NODIRATIME) \
	X("relatime", OPT_ATIME, MOUNT_ATTR_RELATIME) \
	X("remount", OPT_REMOUNT, 0) \
	X("rexec", OPT_REC_CLEAR, MOUNT_ATTR_NOEXEC) \
	X("ridmap", OPT_RIDMAP, 0) \
	X("rnoatime", OPT_REC_ATIME, MOUNT_ATTR_NOATIME) \
	X("rnodev", OPT_REC_SET, MOUNT_ATTR_NODEV) \
	X("rnodiratime", OPT_REC_SET, MOUNT_ATTR_NODIRATIME) \
	X("rnoexec", OPT_REC_SET, MOUNT_ATTR_NOEXEC) \
	X("rnorelatime", OPT_REC_NOT_ATIME, MOUNT_ATTR_RELATIME) \
	X("rnostrictatime", OPT_REC_NOT_ATIME, MOUNT_ATTR_STRICTATIME) \
	X("rnosuid", OPT_REC_SET, MOUNT_ATTR_NOSUID) \
	X("rnosymfollow", OPT_REC_SET, MOUNT_ATTR_NOSYMFOLLOW) \
	X("ro", OPT_SET, MOUNT_ATTR_RDONLY) \
	X("rprivate", OPT_REC_PROPAGATION, MS_PRIVATE) \
	X("rrelatime", OPT_REC_ATIME, MOUNT_ATTR_RELATIME) \
	X("rro", OPT_REC_SET, MOUNT_ATTR_RDONLY) \
	X("rrw", OPT_REC_CLEAR, MOUNT_ATTR_RDONLY) \
	X("rshared", OPT_REC_PROPAGATION, MS_SHARED) \
	X("rslave", OPT_REC_PROPAGATION, MS_SLAVE) \
	X("rstrictatime", OPT_REC_ATIME, MOUNT_ATTR_STRICTATIME) \
	X("rsuid", OPT_REC_CLEAR, MOUNT_ATTR_NOSUID) \
	X("rsymfollow", OPT_REC_CLEAR, MOUNT_ATTR_NOSYMFOLLOW) \
	X("runbindable", OPT_REC_PROPAGATION, MS_UNBINDABLE) \
	X("rw", OPT_CLEAR, MOUNT_ATTR_RDONLY) \
	X("shared", OPT_PROPAGATION, MS_SHARED) \
	X("silent", OPT_NOTHING, 0) \
	X("slave", OPT_PROPAGATION, MS_SLAVE) \
	X("strictatime", OPT_ATIME, MOUNT_ATTR_STRICTATIME) \
	X("suid", OPT_CLEAR, MOUNT_ATTR_NOSUID) \
	X("symfollow", OPT_CLEAR, MOUNT_ATTR_NOSYMFOLLOW) \
	X("sync", OPT_SUPER, MOUNT_SUPER_SYNC) \
	X("tmpcopyup", OPT_TMPCOPYUP, 0) \
	X("unbindable", OPT_PROPAGATION, MS_UNBINDABLE)

struct opt {
	const char   *name;
	enum opt_kind kind;
	uint64_t      value;
};

static const struct opt options_table[] = {
#define X(name, kind, value) { name, kind, value },
	OPTIONS(X)
#undef X
};

const char *const mount_opts_names[] = {
#define X(name, kind, value) name,
	OPTIONS(X)
#undef X
	NULL,
};

static int by_name(const void *key, const void *row)
{
	return strcmp(key, ((const struct opt *)row)->name);
}

static const struct opt *opt_find(const char *name)
{
	return bsearch(name, options_table, ARRAY_LEN(options_table), sizeof(options_table[0]),
		       by_name);
}

static void change(uint64_t *set, uint64_t *clear, uint64_t add, uint64_t take)
{
	*set = (*set & ~take) | add;
	*clear = (*clear & ~add) | take;
}

/* The three are one field of the kernel's: it wants the whole field cleared to set it. */
static void change_atime(uint64_t *set, uint64_t *clear, uint64_t value)
{
	*set = (*set & ~(uint64_t)MOUNT_ATTR__ATIME) | value;
	*clear |= MOUNT_ATTR__ATIME;
}

/*
 * "atime" means "not noatime", and takes it from a bind's source too. Not strictatime and not
 * relatime say something only after that one was chosen: relatime is what there is without.
 */
static void drop_atime(uint64_t *set, uint64_t *clear, uint64_t value)
{
	bool chosen = (*clear & MOUNT_ATTR__ATIME) && (*set & MOUNT_ATTR__ATIME) == value;

	if (chosen || value == MOUNT_ATTR_NOATIME) {
		change_atime(set, clear, MOUNT_ATTR_RELATIME);
	}
}

static int add_propagation(struct mount_opts *o, uint64_t flag, bool recursive)
{
	if (o->n_propagation == MOUNT_PROPAGATIONS_MAX) {
		return -E2BIG;
	}
	o->propagation[o->n_propagation++] = (struct mount_propagation){ flag, recursive };
	return 0;
}

static int apply(struct mount_opts *o, const struct opt *opt)
{
	switch (opt->kind) {
	case OPT_NOTHING:
		break;
	case OPT_SET:
		change(&o->set, &o->clear, opt->value, 0);
		break;
	case OPT_CLEAR:
		change(&o->set, &o->clear, 0, opt->value);
		break;
	case OPT_ATIME:
		change_atime(&o->set, &o->clear, opt->value);
		break;
	case OPT_NOT_ATIME:
		drop_atime(&o->set, &o->clear, opt->value);
		break;
	case OPT_REC_SET:
		change(&o->rec_set, &o->rec_clear, opt->value, 0);
		break;
	case OPT_REC_CLEAR:
		change(&o->rec_set, &o->rec_clear, 0, opt->value);
		break;
	case OPT_REC_ATIME:
		change_atime(&o->rec_set, &o->rec_clear, opt->value);
		break;
	case OPT_REC_NOT_ATIME:
		drop_atime(&o->rec_set, &o->rec_clear, opt->value);
		break;
	case OPT_SUPER:
		o->super |= (unsigned)opt->value;
		break;
	case OPT_NOT_SUPER:
		o->super &= ~(unsigned)opt->value;
		break;
	case OPT_PROPAGATION:
		return add_propagation(o, opt->value, false);
	case OPT_REC_PROPAGATION:
		return add_propagation(o, opt->value, true);
	case OPT_RBIND:
		o->recursive = true;
		o->bind = true;
		break;
	case OPT_BIND:
		o->bind = true;
		break;
	case OPT_REMOUNT:
		o->remount = true;
		break;
	case OPT_TMPCOPYUP:
		o->copy_up = true;
		break;
	case OPT_IDMAP:
		o->idmap = MOUNT_IDMAP_TOP;
		break;
	case OPT_RIDMAP:
		o->idmap = MOUNT_IDMAP_RECURSIVE;
		break;
	}
	return 0;
}

int mount_opts_parse(const struct jstrv *options, struct mount_opts *ret, struct err *e)
{
	struct mount_opts o = { .data = { .v = mem_calloc(options->n + 1, sizeof(char *)) } };

	if (!o.data.v) {
		return err_nomem(e);
	}
	for (size_t i = 0; i < options->n; i++) {
		const struct opt *opt = opt_find(options->v[i]);

		if (!opt && options->v[i][0] != '\0') {
			o.data.v[o.data.n++] = options->v[i];
		}
		if (opt && apply(&o, opt) < 0) {
			mount_opts_fini(&o);
			return err_set(e, EINVAL, ERR_INVALID,
				       "more than %d options of propagation",
				       MOUNT_PROPAGATIONS_MAX);
		}
	}
	*ret = o;
	return 0;
}

void mount_opts_fini(struct mount_opts *o)
{
	free(o->data.v);
	o->data = (struct jstrv){ .v = NULL };
}

int mount_propagation_parse(const char *name, struct mount_propagation *ret)
{
	const struct opt *opt = opt_find(name);

	if (!opt || (opt->kind != OPT_PROPAGATION && opt->kind != OPT_REC_PROPAGATION)) {
		return -EINVAL;
	}
	*ret = (struct mount_propagation){ opt->value, opt->kind == OPT_REC_PROPAGATION };
	return 0;
}
