/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Device rules. A config gives an ordered list; of each kind of access (read, write, mknod)
 * the last rule that matches the device and names that access decides, and an open for
 * reading and writing needs both. What no rule matches is denied.
 *
 * For the BPF program that list is all there is. The v1 controller has instead a default and
 * a set of exceptions to it, each the opposite of the default; cg__dev_reduce() translates.
 */
#include <errno.h>

#include "base/mem.h"
#include "container/cgroup-priv.h"

/*
 * What every container may use, whatever its config denies: nodes may be made of anything
 * (a node is nothing without the right to open it), and the devices that the specification
 * puts into every container may be used.
 * Spec: oci-runtime 1.3, config-linux.md, Default Devices
 */
static const struct cg_dev_rule dflt_rules[] = {
	{ 'c', CG_DEV_MKNOD, true, -1, -1 },
	{ 'b', CG_DEV_MKNOD, true, -1, -1 },
	{ 'c', CG_DEV_ALL, true, 1, 3 },    /* null */
	{ 'c', CG_DEV_ALL, true, 1, 5 },    /* zero */
	{ 'c', CG_DEV_ALL, true, 1, 7 },    /* full */
	{ 'c', CG_DEV_ALL, true, 1, 8 },    /* random */
	{ 'c', CG_DEV_ALL, true, 1, 9 },    /* urandom */
	{ 'c', CG_DEV_ALL, true, 5, 0 },    /* tty */
	{ 'c', CG_DEV_ALL, true, 5, 1 },    /* console */
	{ 'c', CG_DEV_ALL, true, 5, 2 },    /* ptmx */
	{ 'c', CG_DEV_ALL, true, 136, -1 }, /* pts */
};

void cg__dev_rules_fini(struct cg_dev_rules *r)
{
	free(r->v);
	*r = (struct cg_dev_rules){ .v = NULL };
}

static int add(struct cg_dev_rules *r, const struct cg_dev_rule *rule)
{
	if (r->n % 16 == 0) {
		struct cg_dev_rule *v = mem_realloc(r->v, r->n + 16, sizeof(*v));

		if (!v) {
			return -ENOMEM;
		}
		r->v = v;
	}
	r->v[r->n++] = *rule;
	return 0;
}

static int access_parse(const char *s, uint8_t *ret)
{
	uint8_t access = 0;

	for (; *s; s++) {
		switch (*s) {
		case 'r':
			access |= CG_DEV_READ;
			break;
		case 'w':
			access |= CG_DEV_WRITE;
			break;
		case 'm':
			access |= CG_DEV_MKNOD;
			break;
		default:
			return -EINVAL;
		}
	}
	*ret = access;
	return access ? 0 : -EINVAL;
}

static int rule_parse(const struct oci_device_rule *in, size_t i, struct cg_dev_rule *ret,
		      struct err *e)
{
	const char *type = in->type && *in->type ? in->type : "a";
	char field[64];

	snprintf(field, sizeof(field), "/linux/resources/devices/%zu", i);
	*ret = (struct cg_dev_rule){ .type = type[0], .access = CG_DEV_ALL, .allow = in->allow,
				     .major = in->has_major ? in->major : -1,
				     .minor = in->has_minor ? in->minor : -1 };
	if (type[1] || !strchr("abc", type[0])) {
		return err_field(e, field, "type is \"a\", \"b\" or \"c\", not \"%.20s\"", type);
	}
	if (ret->major < -1 || ret->minor < -1 || ret->major > UINT32_MAX || ret->minor > UINT32_MAX) {
		return err_field(e, field, "no such device number");
	}
	if (ret->type == 'a') {
		ret->major = ret->minor = -1; /* as the v1 controller reads it */
		ret->access = CG_DEV_ALL;
		if (in->has_major && in->major >= 0) {
			return err_field(e, field, "a device number needs the type \"b\" or \"c\"");
		}
	}
	if (in->access && *in->access && access_parse(in->access, &ret->access) < 0) {
		return err_field(e, field, "access is of the letters r, w and m, not \"%.20s\"",
				 in->access);
	}
	return 0;
}

int cg__dev_rules(const struct oci_resources *res, struct cg_dev_rules *ret, struct err *e)
{
	struct cg_dev_rules rules = { .v = NULL };
	const struct oci_device_rule *in = res ? res->devices.v : NULL;
	int r = 0;

	for (size_t i = 0; in && i < res->devices.n; i++) {
		struct cg_dev_rule rule;

		r = rule_parse(&in[i], i, &rule, e);
		if (r == 0 && add(&rules, &rule) < 0) {
			r = err_nomem(e);
		}
		if (r < 0) {
			cg__dev_rules_fini(&rules);
			return r;
		}
	}
	for (size_t i = 0; r == 0 && i < ARRAY_LEN(dflt_rules); i++) {
		r = add(&rules, &dflt_rules[i]);
	}
	if (r < 0) {
		cg__dev_rules_fini(&rules);
		return err_nomem(e);
	}
	*ret = rules;
	return 0;
}

bool cg__dev_allowed(const struct cg_dev_rules *rules, char type, int64_t major, int64_t minor,
		     unsigned access)
{
	for (size_t i = rules->n; i-- > 0 && access;) {
		const struct cg_dev_rule *r = &rules->v[i];

		if ((r->type != 'a' && r->type != type) || !(r->access & access) ||
		    (r->major != -1 && r->major != major) || (r->minor != -1 && r->minor != minor)) {
			continue;
		}
		if (!r->allow) {
			return false;
		}
		access &= ~(unsigned)r->access;
	}
	return access == 0;
}

static bool same_device(const struct cg_dev_rule *a, const struct cg_dev_rule *b)
{
	return a->type == b->type && a->major == b->major && a->minor == b->minor;
}

/* Does `a` match every device that `b` does? Both of one type. */
static bool covers(const struct cg_dev_rule *a, const struct cg_dev_rule *b)
{
	return a->type == b->type && (a->major == -1 || a->major == b->major) &&
	       (a->minor == -1 || a->minor == b->minor);
}

static bool overlaps(const struct cg_dev_rule *a, const struct cg_dev_rule *b)
{
	return a->type == b->type && (a->major == -1 || b->major == -1 || a->major == b->major) &&
	       (a->minor == -1 || b->minor == -1 || a->minor == b->minor);
}

/* An exception more: it says the opposite of the default. */
static int except(struct cg_dev_rules *set, const struct cg_dev_rule *rule)
{
	for (size_t i = 0; i < set->n; i++) {
		if (same_device(&set->v[i], rule)) {
			set->v[i].access |= rule->access;
			return 0;
		}
		if (covers(&set->v[i], rule) && (rule->access & ~set->v[i].access) == 0) {
			return 0;
		}
	}
	return add(set, rule);
}

/* The default again for what `rule` matches: only whole exceptions can be taken away. */
static int unexcept(struct cg_dev_rules *set, const struct cg_dev_rule *rule)
{
	size_t n = 0;

	for (size_t i = 0; i < set->n; i++) {
		struct cg_dev_rule *x = &set->v[i];

		if (overlaps(x, rule) && (x->access & rule->access)) {
			if (!covers(rule, x)) {
				return -EOPNOTSUPP;
			}
			x->access &= (uint8_t)~rule->access;
		}
		if (x->access) {
			set->v[n++] = *x;
		}
	}
	set->n = n;
	return 0;
}

static int reduce_one(struct cg_dev_rules *set, bool *dflt, const struct cg_dev_rule *rule)
{
	if (rule->type == 'a' && rule->access == CG_DEV_ALL) {
		*dflt = rule->allow;
		set->n = 0;
		return 0;
	}
	struct cg_dev_rule one = *rule;
	int r = 0;

	for (const char *t = rule->type == 'a' ? "bc" : (char[]){ rule->type, 0 }; r == 0 && *t; t++) {
		one.type = *t;
		r = one.allow != *dflt ? except(set, &one) : unexcept(set, &one);
	}
	return r;
}

int cg__dev_reduce(const struct cg_dev_rules *rules, bool *ret_default_allow,
		   struct cg_dev_rules *ret, struct err *e)
{
	struct cg_dev_rules set = { .v = NULL };
	bool dflt = false;

	for (size_t i = 0; i < rules->n; i++) {
		int r = reduce_one(&set, &dflt, &rules->v[i]);

		if (r < 0) {
			size_t n_set = set.n;

			cg__dev_rules_fini(&set);
			if (r == -ENOMEM) {
				return err_nomem(e);
			}
			return err_set(e, EOPNOTSUPP, ERR_UNSUPPORTED,
				       "device rule %zu takes a part of an earlier rule back (of %zu "
				       "exceptions), which the v1 device controller cannot express",
				       i, n_set);
		}
	}
	*ret_default_allow = dflt;
	*ret = set;
	return 0;
}
