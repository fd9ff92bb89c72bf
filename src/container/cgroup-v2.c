/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Limits in the words of v2, and the enabling of controllers.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>

#include "base/log.h"
#include "container/cgroup-priv.h"
#include "sys/file.h"

static int check_before(const struct cg_apply *a, int64_t limit, struct err *e)
{
	uint64_t usage = 0;

	if (cg__read_u64(a->h, "memory.current", &usage) == 0 && limit > 0 && usage > (uint64_t)limit) {
		return err_field(e, "/linux/resources/memory/limit",
				 "the container uses %" PRIu64 " bytes already", usage);
	}
	return 0;
}

static int refuse_v1_only(const struct oci_memory *m, struct err *e)
{
	const char *what = m->has_swappiness ? "swappiness" :
			   m->has_disable_oom_killer && m->disable_oom_killer ? "disableOOMKiller" :
			   m->has_use_hierarchy && !m->use_hierarchy ? "useHierarchy" : NULL;

	if (!what) {
		return 0;
	}
	int r = err_set(e, EOPNOTSUPP, ERR_UNSUPPORTED, "cgroup v2 has no memory.%s; leave it out", what);

	snprintf(e->field, sizeof(e->field), "/linux/resources/memory/%s", what);
	return r;
}

static int memory_limits(const struct cg_apply *a, struct err *e)
{
	struct oci_memory m = *a->res->memory;
	bool set_swap = false;
	int64_t swap = 0;
	uint64_t now = 0;

	/* An update of the sum alone is meant against the limit that there is. */
	if (a->update && m.has_swap && !m.has_limit && cg__read_u64(a->h, "memory.max", &now) == 0 &&
	    now <= INT64_MAX) {
		m.has_limit = true;
		m.limit = (int64_t)now;
	}
	int r = cg__swap_of(&m, &set_swap, &swap, e);

	if (r >= 0 && m.check_before_update && m.has_limit) {
		r = check_before(a, m.limit, e);
	}
	if (r >= 0 && set_swap) {
		r = swap < 0 ? cg__write(a->h, "memory.swap.max", "max") :
			       cg__write_i64(a->h, "memory.swap.max", swap);
		if (r == -ENOENT && swap <= 0) {
			r = 0; /* no swap accounting in this kernel: nothing to deny or to allow */
		}
		r = cg__refused(r, a->h, "memory/swap", "memory.swap.max", "the difference", e);
	}
	if (r >= 0 && m.has_limit && m.limit != 0) {
		r = cg__set_i64(a->h, "memory/limit", "memory.max", m.limit, e);
	}
	return r;
}

int cg__v2_memory(const struct cg_apply *a, struct err *e)
{
	const struct oci_memory *m = a->res->memory;
	int r = refuse_v1_only(m, e);

	if (r >= 0) {
		r = memory_limits(a, e);
	}
	if (r >= 0 && m->has_reservation && m->reservation != 0) {
		r = cg__set_i64(a->h, "memory/reservation", "memory.low", m->reservation, e);
	}
	if (r >= 0 && m->has_kernel_tcp) {
		log_debug("linux.resources.memory.kernelTCP is deprecated and not in cgroup v2");
	}
	return r;
}

/* What stands in cpu.max: "max 100000". */
static void read_max(const struct cg_hier *h, char quota[24], char period[24])
{
	auto_buf struct buf b = BUF_INIT;

	snprintf(quota, 24, "max");
	snprintf(period, 24, "100000");
	if (cg__read(h, "cpu.max", &b) == 0) {
		ignore_result(sscanf(buf_str(&b), "%23s %23s", quota, period)); /* else the defaults */
	}
}

static int set_max(const struct cg_apply *a, struct err *e)
{
	const struct oci_cpu *c = a->res->cpu;
	bool has_quota = c->has_quota && c->quota != 0, has_period = c->has_period && c->period != 0;
	char quota[24], period[24], text[64];

	if (!has_quota && !has_period) {
		return 0;
	}
	if (has_quota != has_period) {
		read_max(a->h, quota, period); /* the other stays as it is */
	}
	if (has_quota) {
		if (c->quota > 0) {
			snprintf(quota, sizeof(quota), "%" PRId64, c->quota);
		} else {
			snprintf(quota, sizeof(quota), "max");
		}
	}
	if (has_period) {
		snprintf(period, sizeof(period), "%" PRIu64, c->period);
	}
	snprintf(text, sizeof(text), "%s %s", quota, period);
	return cg__set(a->h, "cpu/quota", "cpu.max", text, e);
}

static int set_quota(const struct cg_apply *a, struct err *e)
{
	const struct oci_cpu *c = a->res->cpu;
	bool burst_done = c->has_burst && cg__write_u64(a->h, "cpu.max.burst", c->burst) == 0;
	int r = set_max(a, e);

	if (r >= 0 && c->has_burst && !burst_done) {
		r = cg__set_i64(a->h, "cpu/burst", "cpu.max.burst",
				(int64_t)MIN(c->burst, (uint64_t)INT64_MAX), e);
	}
	return r;
}

int cg__v2_cpu(const struct cg_apply *a, struct err *e)
{
	const struct oci_cpu *c = a->res->cpu;
	int r = 0;

	if ((c->has_rt_runtime && c->rt_runtime) || (c->has_rt_period && c->rt_period)) {
		return err_set(e, EOPNOTSUPP, ERR_UNSUPPORTED,
			       "cgroup v2 has no limits for realtime scheduling "
			       "(cpu.realtimeRuntime, cpu.realtimePeriod)");
	}
	if (c->has_idle && (c->idle != 0 || a->update)) {
		r = cg__set_i64(a->h, "cpu/idle", "cpu.idle", c->idle, e);
	}
	/* An idle group has the least weight and takes no other. */
	if (r >= 0 && c->has_shares && c->shares != 0 && !(c->has_idle && c->idle != 0)) {
		r = cg__set_i64(a->h, "cpu/shares", "cpu.weight",
				(int64_t)cg__weight_of_shares(c->shares), e);
	}
	return r < 0 ? r : set_quota(a, e);
}

int cg__v2_cpuset(const struct cg_apply *a, struct err *e)
{
	return cg__v1_cpuset(a, e); /* the files are the same */
}

static int io_weights(const struct cg_apply *a, struct err *e)
{
	const struct oci_block_io *b = a->res->block_io;
	const struct oci_weight_device *d = b->weight_devices.v;
	bool bfq = cg__has(a->h, "io.bfq.weight");
	const char *file = bfq ? "io.bfq.weight" : "io.weight";
	char text[64];
	int r = 0;

	if (b->has_leaf_weight && b->leaf_weight != 0) {
		return err_field(e, "/linux/resources/blockIO/leafWeight", "cgroup v2 has none");
	}
	if (b->has_weight && b->weight != 0) {
		snprintf(text, sizeof(text), "%s%" PRIu64, bfq ? "" : "default ",
			 bfq ? b->weight : cg__io_weight_of_blkio(b->weight));
		r = cg__set(a->h, "blockIO/weight", file, text, e);
	}
	for (size_t i = 0; r >= 0 && i < b->weight_devices.n; i++) {
		if (d[i].has_leaf_weight && d[i].leaf_weight != 0) {
			return err_field(e, "/linux/resources/blockIO/weightDevice",
					 "cgroup v2 has no leafWeight");
		}
		snprintf(text, sizeof(text), "%" PRId64 ":%" PRId64 " %" PRIu64, d[i].major, d[i].minor,
			 bfq ? d[i].weight : cg__io_weight_of_blkio(d[i].weight));
		r = cg__set(a->h, "blockIO/weightDevice", file, text, e);
	}
	return r;
}

static int io_max(const struct cg_apply *a, const struct jvec *list, const char *field,
		  const char *key, struct err *e)
{
	const struct oci_throttle_device *d = list->v;
	int r = 0;

	for (size_t i = 0; r >= 0 && i < list->n; i++) {
		char rate[24] = "max", text[96]; /* zero takes the limit away, as it does in v1 */

		if (d[i].rate) {
			snprintf(rate, sizeof(rate), "%" PRIu64, d[i].rate);
		}
		snprintf(text, sizeof(text), "%" PRId64 ":%" PRId64 " %s=%s", d[i].major, d[i].minor,
			 key, rate);
		r = cg__set(a->h, field, "io.max", text, e);
	}
	return r;
}

int cg__v2_io(const struct cg_apply *a, struct err *e)
{
	const struct oci_block_io *b = a->res->block_io;
	int r = io_weights(a, e);

	if (r >= 0) {
		r = io_max(a, &b->read_bps, "blockIO/throttleReadBpsDevice", "rbps", e);
	}
	if (r >= 0) {
		r = io_max(a, &b->write_bps, "blockIO/throttleWriteBpsDevice", "wbps", e);
	}
	if (r >= 0) {
		r = io_max(a, &b->read_iops, "blockIO/throttleReadIOPSDevice", "riops", e);
	}
	if (r >= 0) {
		r = io_max(a, &b->write_iops, "blockIO/throttleWriteIOPSDevice", "wiops", e);
	}
	return r;
}

/*
 * "unified": the files of the group by name. The name is a plain file of a controller; those
 * of the core ("cgroup.procs") move processes and are not limits.
 */
int cg__v2_unified(const struct cg_apply *a, struct err *e)
{
	const struct jmap *m = &a->res->unified;
	int r = 0;

	for (size_t i = 0; r >= 0 && i < m->n; i++) {
		const char *key = m->v[i].key, *value = m->v[i].value;
		char field[80];

		snprintf(field, sizeof(field), "/linux/resources/unified/%.40s", key);
		if (strchr(key, '/') || !strchr(key, '.') || key[0] == '.' || strlen(key) > 100) {
			return err_field(e, field, "it is no file of a group");
		}
		if (str_after(key, "cgroup.") && !str_after(key, "cgroup.max.")) {
			return err_field(e, field, "it is no limit");
		}
		/* One line a write: the kernel reads no more ("io.max" for several devices). */
		const char *line;
		size_t len;

		while (r >= 0 && str_split(&value, '\n', &line, &len)) {
			auto_free char *text = str_ndup(line, len);

			if (!text) {
				return err_nomem(e);
			}
			if (len > 0 || !m->v[i].value[0]) {
				r = cg__set(a->h, field + strlen("/linux/resources/"), key, text, e);
			}
		}
	}
	return r;
}

int cg__v2_devices(const struct cg_apply *a, struct err *e)
{
	struct cg_dev_rules rules = { .v = NULL };
	int r = cg__dev_rules(a->res, &rules, e);

	if (r < 0) {
		return r;
	}
	auto_close int fd = sys_openat(a->h->root_fd, cg__rel(a->h->group), O_RDONLY | O_DIRECTORY, 0);

	r = fd < 0 ? err_set(e, -fd, ERR_HOST, "open %s", a->h->path) : cg__bpf_attach(fd, &rules, e);
	cg__dev_rules_fini(&rules);
	if (r == -EPERM && a->cg->rootless) {
		err_clear(e); /* in a user namespace nobody may, and no device can be made there */
		return 0;
	}
	return r;
}

/* "+cpu +memory" for what `all` has and `have` lacks. */
static void missing(const char *all, const char *have, struct buf *ret)
{
	const char *part;
	size_t len;

	while (str_split(&all, ' ', &part, &len)) {
		while (len > 0 && part[len - 1] == '\n') {
			len--;
		}
		const char *rest = have, *h;
		size_t h_len;
		bool found = len == 0;

		while (!found && str_split(&rest, ' ', &h, &h_len)) {
			while (h_len > 0 && h[h_len - 1] == '\n') {
				h_len--;
			}
			found = h_len == len && memcmp(h, part, len) == 0;
		}
		if (!found) {
			buf_add_str(ret, ret->len ? " +" : "+");
			buf_add(ret, part, len);
		}
	}
}

static int enable_at(const struct cg_hier *h, const char *group)
{
	auto_buf struct buf all = BUF_INIT, have = BUF_INIT, want = BUF_INIT;
	struct cg_hier at = *h;
	int r = cg__read_at(h, group, "cgroup.controllers", &all);

	if (r == 0) {
		r = cg__read_at(h, group, "cgroup.subtree_control", &have);
	}
	if (r < 0) {
		return r;
	}
	missing(buf_str(&all), buf_str(&have), &want);
	if (buf_failed(&want)) {
		return -ENOMEM;
	}
	if (want.len == 0) {
		return 0;
	}
	at.group = (char *)group;
	if (cg__write(&at, "cgroup.subtree_control", buf_str(&want)) == 0) {
		return 0;
	}
	/* One may be refused (cpu, while realtime processes run): it must not cost the others. */
	const char *rest = buf_str(&want), *one;
	size_t len;

	while (str_split(&rest, ' ', &one, &len)) {
		auto_free char *text = str_ndup(one, len);

		if (text) {
			/* Whoever asks for a limit of it is told that its file is not there. */
			ignore_result(cg__write(&at, "cgroup.subtree_control", text));
		}
	}
	return 0;
}

/*
 * Hand the controllers down to the group: from the root to its parent, all that are there.
 * Usually the group has them already, and two reads say so.
 */
int cg__v2_enable(const struct cg_hier *h)
{
	auto_buf struct buf top = BUF_INIT, own = BUF_INIT;
	int r = cg__read_at(h, "/", "cgroup.controllers", &top);

	if (r == 0) {
		r = cg__read(h, "cgroup.controllers", &own);
	}
	if (r < 0 || str_eq(buf_str(&top), buf_str(&own))) {
		return r;
	}
	for (const char *p = h->group; r >= 0 && p; p = strchr(p + 1, '/')) {
		auto_free char *at = p == h->group ? str_dup("/") :
						     str_ndup(h->group, (size_t)(p - h->group));

		r = at ? enable_at(h, at) : -ENOMEM;
	}
	return r;
}
