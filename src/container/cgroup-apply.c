/* SPDX-License-Identifier: Apache-2.0 */
/*
 * linux.resources, dispatched by a table: what was asked for goes to the hierarchy that has
 * the controller, in the words of that hierarchy's version. On a hybrid host one container
 * can have controllers of both.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>

#include "base/log.h"
#include "container/cgroup-priv.h"

static bool wants_memory(const struct oci_resources *r)
{
	const struct oci_memory *m = r->memory;

	return m && (m->has_limit || m->has_reservation || m->has_swap || m->has_kernel_tcp ||
		     m->has_swappiness || m->has_disable_oom_killer || m->has_use_hierarchy);
}

static bool wants_cpu(const struct oci_resources *r)
{
	const struct oci_cpu *c = r->cpu;

	return c && (c->has_shares || c->has_quota || c->has_burst || c->has_period ||
		     c->has_rt_runtime || c->has_rt_period || c->has_idle);
}

static bool wants_cpuset(const struct oci_resources *r)
{
	return r->cpu && ((r->cpu->cpus && *r->cpu->cpus) || (r->cpu->mems && *r->cpu->mems));
}

static bool wants_pids(const struct oci_resources *r)
{
	return r->pids && r->pids->has_limit;
}

static bool wants_blkio(const struct oci_resources *r)
{
	const struct oci_block_io *b = r->block_io;

	return b && (b->has_weight || b->has_leaf_weight || b->weight_devices.n || b->read_bps.n ||
		     b->write_bps.n || b->read_iops.n || b->write_iops.n);
}

static bool wants_hugetlb(const struct oci_resources *r)
{
	return r->hugepages.n > 0;
}

static bool wants_net_cls(const struct oci_resources *r)
{
	return r->network && r->network->has_class_id;
}

static bool wants_net_prio(const struct oci_resources *r)
{
	return r->network && r->network->priorities.n > 0;
}

static bool wants_rdma(const struct oci_resources *r)
{
	return r->rdma.n > 0;
}

typedef int (*apply_fn)(const struct cg_apply *a, struct err *e);

/* NULL in v1 or v2: that version has no such controller. The order is that of writing. */
static const struct resource {
	const char   *name;   /* member of linux.resources */
	enum cg_ctrl  ctrl;
	bool        (*wants)(const struct oci_resources *r);
	apply_fn      v1, v2;
} resource_table[] = {
	{ "cpu",            CG_CPUSET,   wants_cpuset,   cg__v1_cpuset,   cg__v2_cpuset },
	{ "cpu",            CG_CPU,      wants_cpu,      cg__v1_cpu,      cg__v2_cpu },
	{ "memory",         CG_MEMORY,   wants_memory,   cg__v1_memory,   cg__v2_memory },
	{ "pids",           CG_PIDS,     wants_pids,     cg__any_pids,    cg__any_pids },
	{ "blockIO",        CG_BLKIO,    wants_blkio,    cg__v1_blkio,    cg__v2_io },
	{ "hugepageLimits", CG_HUGETLB,  wants_hugetlb,  cg__any_hugetlb, cg__any_hugetlb },
	{ "network",        CG_NET_CLS,  wants_net_cls,  cg__v1_net_cls,  NULL },
	{ "network",        CG_NET_PRIO, wants_net_prio, cg__v1_net_prio, NULL },
	{ "rdma",           CG_RDMA,     wants_rdma,     cg__any_rdma,    cg__any_rdma },
};

int cg__refused(int r, const struct cg_hier *h, const char *field, const char *file,
		const char *value, struct err *e)
{
	char pointer[80];

	if (r >= 0) {
		return 0;
	}
	snprintf(pointer, sizeof(pointer), "/linux/resources/%s", field);
	switch (-r) {
	case EINVAL:
	case ERANGE:
	case ENODEV:   /* a device without this kind of limit */
	case ENXIO:
		err_clear(e);
		r = err_set(e, -r, ERR_INVALID, "the kernel takes no \"%.60s\" in %s/%s", value,
			    h->path, file);
		break;
	case ENOENT:
		r = err_set(e, EOPNOTSUPP, ERR_UNSUPPORTED, "this kernel has no %s/%s", h->path, file);
		break;
	case EBUSY:
		r = err_set(e, EBUSY, ERR_CONFLICT, "\"%.60s\" in %s/%s: in use above that", value,
			    h->path, file);
		break;
	default:
		r = err_set(e, -r, ERR_HOST, "write \"%.60s\" to %s/%s", value, h->path, file);
		break;
	}
	snprintf(e->field, sizeof(e->field), "%s", pointer);
	return r;
}

int cg__set(const struct cg_hier *h, const char *field, const char *file, const char *value,
	    struct err *e)
{
	return cg__refused(cg__write(h, file, value), h, field, file, value, e);
}

int cg__set_i64(const struct cg_hier *h, const char *field, const char *file, int64_t v,
		struct err *e)
{
	char text[24];

	if (v < 0 && h->v2) {
		return cg__set(h, field, file, "max", e);
	}
	snprintf(text, sizeof(text), "%" PRId64, v);
	return cg__set(h, field, file, text, e);
}

static int no_controller(const struct cgroup *cg, const struct resource *t, struct err *e)
{
	bool there = false;

	for (unsigned i = 0; i < cg->n; i++) {
		there |= (cg->h[i].ctrls & BIT(t->ctrl)) && !cg->h[i].group;
	}
	int r = there ?
		err_set(e, EACCES, ERR_DENIED,
			"the limit needs a %s cgroup, which this user may not make",
			cg__ctrl_names[t->ctrl]) :
		err_set(e, EOPNOTSUPP, ERR_UNSUPPORTED, "the limit needs the %s controller, which "
			"this host's cgroups (%s) do not have", cg__ctrl_names[t->ctrl],
			cgroup_mode_names[cg->mode]);

	snprintf(e->field, sizeof(e->field), "/linux/resources/%s", t->name);
	return r;
}

static int apply_devices(struct cg_apply *a, struct err *e)
{
	const struct cgroup *cg = a->cg;

	a->h = cg__with(cg, CG_DEVICES);
	if (a->h) {
		return cg__v1_devices(a, e);
	}
	a->h = cg__v2(cg);
	if (a->h) {
		return cg__v2_devices(a, e);
	}
	if (cg->rootless || !a->res || a->res->devices.n == 0) {
		return 0; /* a user namespace cannot make devices anyway */
	}
	return err_set(e, EOPNOTSUPP, ERR_UNSUPPORTED, "device rules need a devices or v2 cgroup");
}

int cg__apply(struct cgroup *cg, const struct oci_resources *res, bool update, struct err *e)
{
	struct cg_apply a = { .cg = cg, .res = res, .update = update };
	int r = 0;

	/* An update without rules leaves them as they are; a new container has no say. */
	if (!update || (res && res->devices.n > 0)) {
		r = apply_devices(&a, e);
	}
	if (!res) {
		return r;
	}
	if (res->memory && res->memory->has_kernel) {
		log_debug("linux.resources.memory.kernel is deprecated and ignored");
	}
	for (size_t i = 0; r >= 0 && i < ARRAY_LEN(resource_table); i++) {
		const struct resource *t = &resource_table[i];

		if (!t->wants(res)) {
			continue;
		}
		a.h = cg__with(cg, t->ctrl);
		apply_fn fn = !a.h ? NULL : a.h->v2 ? t->v2 : t->v1;

		r = fn ? fn(&a, e) : no_controller(cg, t, e);
	}
	if (r >= 0 && res->unified.n > 0) {
		a.h = cg__v2(cg);
		r = a.h ? cg__v2_unified(&a, e) :
		    err_field(e, "/linux/resources/unified", "this host's cgroups are %s: it needs v2",
			      cgroup_mode_names[cg->mode]);
	}
	return r;
}

int cg__any_pids(const struct cg_apply *a, struct err *e)
{
	int64_t limit = a->res->pids->limit;

	/* Zero has always been "unlimited" to the runtimes; a container without a task is none. */
	return limit <= 0 ? cg__set(a->h, "pids/limit", "pids.max", "max", e) :
			    cg__set_i64(a->h, "pids/limit", "pids.max", limit, e);
}

static int hugetlb_one(const struct cg_apply *a, const struct oci_hugepage_limit *l, size_t i,
		       struct err *e)
{
	const char *tail = a->h->v2 ? "max" : "limit_in_bytes";
	char file[64], field[48], value[24];

	snprintf(field, sizeof(field), "hugepageLimits/%zu", i);
	if (!cg__page_size_valid(l->page_size)) {
		return cg__refused(-EINVAL, a->h, field, "hugetlb", l->page_size, e);
	}
	snprintf(value, sizeof(value), "%" PRIu64, MIN(l->limit, (uint64_t)INT64_MAX));
	snprintf(file, sizeof(file), "hugetlb.%.20s.%s", l->page_size, tail);

	int r = cg__set(a->h, field, file, value, e);

	if (r < 0) {
		return r;
	}
	snprintf(file, sizeof(file), "hugetlb.%.20s.rsvd.%s", l->page_size, tail);
	r = cg__write(a->h, file, value);
	return r == -ENOENT ? 0 : cg__refused(r, a->h, field, file, value, e);
}

int cg__any_hugetlb(const struct cg_apply *a, struct err *e)
{
	const struct oci_hugepage_limit *l = a->res->hugepages.v;
	int r = 0;

	for (size_t i = 0; r >= 0 && i < a->res->hugepages.n; i++) {
		r = hugetlb_one(a, &l[i], i, e);
	}
	return r;
}

int cg__any_rdma(const struct cg_apply *a, struct err *e)
{
	const struct oci_rdma *l = a->res->rdma.v;
	int r = 0;

	for (size_t i = 0; r >= 0 && i < a->res->rdma.n; i++) {
		const char *name = a->res->rdma.keys[i];
		char text[160];
		int n = snprintf(text, sizeof(text), "%.64s", name);

		if (strpbrk(name, " \n\t") || strlen(name) > 64) {
			return err_field(e, "/linux/resources/rdma", "\"%.64s\" is no device's name", name);
		}
		if (l[i].has_handles) {
			n += snprintf(text + n, sizeof(text) - (size_t)n, " hca_handle=%" PRIu64,
				      l[i].handles);
		}
		if (l[i].has_objects) {
			snprintf(text + n, sizeof(text) - (size_t)n, " hca_object=%" PRIu64,
				 l[i].objects);
		}
		r = cg__set(a->h, "rdma", "rdma.max", text, e);
	}
	return r;
}
