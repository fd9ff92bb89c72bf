/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The names of groups, from cgroupsPath. All of it is text: nothing here looks at the host.
 */
#include <errno.h>

#include "base/mem.h"
#include "container/cgroup-priv.h"
#include "sys/path.h"

enum { GROUP_MAX = 4000 };   /* a path that openat() takes, with a file's name behind it */

bool cg__clean_is(const char *path)
{
	if (path[0] != '/' || strlen(path) > GROUP_MAX || strchr(path, '\n')) {
		return false;
	}
	auto_free char *clean = path_clean(path);

	return clean && str_eq(clean, path);
}

bool cg__below(const char *path, const char *base)
{
	if (str_eq(base, "/")) {
		return true;
	}
	const char *rest = str_after(path, base);

	return rest && (*rest == '\0' || *rest == '/');
}

/* The folder that holds a clean path. */
static char *parent_of(const char *path)
{
	const char *slash = strrchr(path, '/');

	return slash == path ? str_dup("/") : str_ndup(path, (size_t)(slash - path));
}

char *cg__group_of(const struct cg_hier *h, const char *path, const char *id)
{
	const char *name = path && *path ? path : id;

	if (name[0] == '/') {
		return path_clean(name);
	}
	/* A v2 group with processes cannot have children with controllers: stay beside it. */
	auto_free char *base = h->v2 ? parent_of(h->own) : str_dup(h->own);
	auto_free char *inner = path_clean(name);
	auto_free char *joined = base && inner ? str_printf("%s%s", base, inner) : NULL;

	return joined ? path_clean(joined) : NULL;
}

static bool unit_name_valid(const char *s)
{
	size_t n = strlen(s);

	return n > 0 && n < 256 &&
	       strspn(s, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789:-_.\\@") == n;
}

int cg__systemd_names(const char *path, const char *id, bool user, char **ret_slice, char **ret_unit,
		      struct err *e)
{
	auto_free char *dflt = str_printf(":holm:%s", id);
	const char *p = path && *path ? path : dflt;
	const char *colon1 = p ? strchr(p, ':') : NULL;
	const char *colon2 = colon1 ? strchr(colon1 + 1, ':') : NULL;

	if (!dflt) {
		return err_nomem(e);
	}
	if (!colon2 || strchr(colon2 + 1, ':')) {
		return err_field(e, "/linux/cgroupsPath",
				 "with systemd it has the form slice:prefix:name, not \"%.100s\"", p);
	}

	const char *dflt_slice = user ? "user.slice" : "system.slice";
	auto_free char *slice = colon1 == p ? str_dup(dflt_slice) : str_ndup(p, (size_t)(colon1 - p));
	size_t prefix_len = (size_t)(colon2 - colon1 - 1);
	const char *name = colon2 + 1;
	auto_free char *unit = str_ends(name, ".slice") ? str_dup(name) :
			       str_printf("%.*s%s%s.scope", (int)prefix_len, colon1 + 1,
					  prefix_len ? "-" : "", name);

	if (!slice || !unit) {
		return err_nomem(e);
	}
	if (str_eq(slice, "-")) {
		free(slice);
		slice = str_dup("-.slice");
		if (!slice) {
			return err_nomem(e);
		}
	}
	if (!*name || !unit_name_valid(unit)) {
		return err_field(e, "/linux/cgroupsPath", "\"%.100s\" is no name of a systemd unit", unit);
	}
	auto_free char *expanded = NULL;
	int r = cg__slice_path(slice, &expanded, e);

	if (r < 0) {
		return r;
	}
	*ret_slice = take_ptr(&slice);
	*ret_unit = take_ptr(&unit);
	return 0;
}

int cg__slice_path(const char *slice, char **ret, struct err *e)
{
	auto_buf struct buf b = BUF_INIT;

	if (!str_ends(slice, ".slice") || !unit_name_valid(slice)) {
		return err_field(e, "/linux/cgroupsPath", "\"%.100s\" is no name of a systemd slice", slice);
	}
	size_t stem = strlen(slice) - strlen(".slice");

	if (stem == 1 && slice[0] == '-') {
		stem = 0; /* the root slice */
	}
	for (size_t i = 1; i <= stem; i++) {
		if (i < stem && slice[i] != '-') {
			continue;
		}
		if (slice[i - 1] == '-' || slice[0] == '-') {
			return err_field(e, "/linux/cgroupsPath",
					 "\"%.100s\" is no name of a systemd slice", slice);
		}
		buf_printf(&b, "/%.*s.slice", (int)i, slice);
	}
	*ret = buf_take(&b);
	return *ret ? 0 : err_nomem(e);
}

int cg__set_group(struct cgroup *cg, struct cg_hier *h, const char *group)
{
	auto_free char *g = str_dup(group);
	auto_free char *p = str_printf("%s%s%s%s", cg->root, *h->dir ? "/" : "", h->dir,
				       str_eq(group, "/") ? "" : group);

	if (!g || !p) {
		return -ENOMEM;
	}
	free(h->group);
	free(h->path);
	h->group = take_ptr(&g);
	h->path = take_ptr(&p);
	return strlen(group) > GROUP_MAX ? -ENAMETOOLONG : 0;
}
