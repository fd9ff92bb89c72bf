/* SPDX-License-Identifier: Apache-2.0 */
#include "container/mempolicy.h"

#include <errno.h>
#include <linux/mempolicy.h>
#include <string.h>

#include "base/str.h"
#include "sys/proc.h"

#ifndef MPOL_F_NUMA_BALANCING
#define MPOL_F_NUMA_BALANCING (1 << 13)
#endif

enum { NODES_MAX = 1024, MODE_WEIGHTED_INTERLEAVE = 6 /* since Linux 6.9 */ };

struct nodes {
	unsigned long bits[NODES_MAX / (8 * sizeof(unsigned long))];
	bool          any;
};

static const struct {
	const char *name;
	int         mode;
	int         nodes;   /* 1: needed, -1: none may be given, 0: as they like */
} modes[] = {
	{ "MPOL_DEFAULT", MPOL_DEFAULT, -1 },
	{ "MPOL_PREFERRED", MPOL_PREFERRED, 0 },
	{ "MPOL_BIND", MPOL_BIND, 1 },
	{ "MPOL_INTERLEAVE", MPOL_INTERLEAVE, 1 },
	{ "MPOL_LOCAL", MPOL_LOCAL, -1 },
	{ "MPOL_PREFERRED_MANY", MPOL_PREFERRED_MANY, 1 },
	{ "MPOL_WEIGHTED_INTERLEAVE", MODE_WEIGHTED_INTERLEAVE, 1 },
};

static const struct {
	const char *name;
	int         flag;
} mode_flags[] = {
	{ "MPOL_F_NUMA_BALANCING", MPOL_F_NUMA_BALANCING },
	{ "MPOL_F_RELATIVE_NODES", MPOL_F_RELATIVE_NODES },
	{ "MPOL_F_STATIC_NODES", MPOL_F_STATIC_NODES },
};

/* "3" or "0-2", without the NUL. */
static int add_range(const char *part, size_t len, struct nodes *n)
{
	auto_free char *text = str_ndup(part, len);
	char *dash = text ? strchr(text, '-') : NULL;
	uint64_t first, last;

	if (!text) {
		return -ENOMEM;
	}
	if (dash) {
		*dash = '\0';
	}
	if (parse_u64(text, NODES_MAX - 1, &first) < 0 ||
	    parse_u64(dash ? dash + 1 : text, NODES_MAX - 1, &last) < 0 || last < first) {
		return -EINVAL;
	}
	for (uint64_t i = first; i <= last; i++) {
		n->bits[i / (8 * sizeof(n->bits[0]))] |= 1UL << (i % (8 * sizeof(n->bits[0])));
		n->any = true;
	}
	return 0;
}

static int parse_nodes(const char *text, struct nodes *n, struct err *e)
{
	const char *cursor = text && *text ? text : NULL;
	const char *part;
	size_t len;

	while (str_split(&cursor, ',', &part, &len)) {
		int r = add_range(part, len, n);

		if (r < 0) {
			return err_field(e, "/linux/memoryPolicy/nodes",
					 "\"%.40s\" is no list of nodes such as \"0-3,7\"", text);
		}
	}
	return 0;
}

static int parse(const struct oci_memory_policy *p, int *ret_mode, struct nodes *n, struct err *e)
{
	const char *name = p->mode ? p->mode : "";
	size_t m = 0, f;
	int r = parse_nodes(p->nodes, n, e);

	while (m < ARRAY_LEN(modes) && !str_eq(modes[m].name, name)) {
		m++;
	}
	if (m == ARRAY_LEN(modes)) {
		return err_field(e, "/linux/memoryPolicy/mode", "\"%.40s\" is no mode such as "
				 "MPOL_BIND", name);
	}
	if (r == 0 && ((modes[m].nodes > 0 && !n->any) || (modes[m].nodes < 0 && n->any))) {
		r = err_field(e, "/linux/memoryPolicy/nodes", modes[m].nodes > 0
			      ? "%s needs nodes" : "%s takes no nodes", name);
	}
	*ret_mode = modes[m].mode;
	for (size_t i = 0; r == 0 && i < p->flags.n; i++) {
		for (f = 0; f < ARRAY_LEN(mode_flags); f++) {
			if (str_eq(mode_flags[f].name, p->flags.v[i])) {
				*ret_mode |= mode_flags[f].flag;
				break;
			}
		}
		if (f == ARRAY_LEN(mode_flags)) {
			r = err_field(e, "/linux/memoryPolicy/flags", "\"%.40s\" is no flag",
				      p->flags.v[i]);
		}
	}
	return r;
}

int mempolicy_check(const struct oci_memory_policy *p, struct err *e)
{
	struct nodes n = { .any = false };
	int mode = 0;

	return parse(p, &mode, &n, e);
}

int mempolicy_set(const struct oci_memory_policy *p, struct err *e)
{
	struct nodes n = { .any = false };
	int mode = 0;
	int r = parse(p, &mode, &n, e);

	if (r < 0) {
		return r;
	}
	/* The kernel takes one bit less than it is told. */
	r = sys_set_mempolicy(mode, n.any ? n.bits : NULL, n.any ? NODES_MAX + 1 : 0);
	if (r == -ENOSYS) {
		return err_field(e, "/linux/memoryPolicy", "this kernel has no memory policies");
	}
	return r < 0 ? err_set(e, -r, ERR_HOST, "cannot set /linux/memoryPolicy") : 0;
}
