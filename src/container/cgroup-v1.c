/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Limits in the words of v1.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>

#include "base/log.h"
#include "container/cgroup-priv.h"
#include "sys/file.h"

#define MEM_FILE  "memory.limit_in_bytes"
#define SWAP_FILE "memory.memsw.limit_in_bytes"

/*
 * The kernel keeps memory <= memory+swap at every moment, so growing begins with the sum
 * and shrinking with memory.
 */
static int memory_limits(const struct cg_apply *a, struct err *e)
{
	const struct oci_memory *m = a->res->memory;
	bool has_swap = m->has_swap && m->swap != 0, has_limit = m->has_limit && m->limit != 0;
	int64_t swap = m->swap;
	uint64_t now = 0;
	int r = 0;

	if (has_limit && m->limit == -1 && !has_swap && cg__has(a->h, SWAP_FILE)) {
		has_swap = true; /* no limit of memory: none of both either */
		swap = -1;
	}
	if (has_swap && has_limit && swap > 0 && swap < m->limit) {
		return err_field(e, "/linux/resources/memory/swap",
				 "it is memory and swap together, so it cannot be below the memory limit");
	}
	bool swap_first = has_swap && has_limit &&
			  (swap == -1 || (cg__read_u64(a->h, MEM_FILE, &now) == 0 &&
					  now < (uint64_t)swap));

	if (swap_first) {
		r = cg__set_i64(a->h, "memory/swap", SWAP_FILE, swap, e);
	}
	if (r >= 0 && has_limit) {
		r = cg__set_i64(a->h, "memory/limit", MEM_FILE, m->limit, e);
	}
	if (r >= 0 && has_swap && !swap_first) {
		r = cg__set_i64(a->h, "memory/swap", SWAP_FILE, swap, e);
	}
	return r;
}

static int use_hierarchy(const struct cg_apply *a, bool want, struct err *e)
{
	uint64_t now = 0;

	/* Since 5.11 it is always on, and writing the same again may be refused. */
	if (cg__read_u64(a->h, "memory.use_hierarchy", &now) == 0 && now == (want ? 1 : 0)) {
		return 0;
	}
	return cg__set_i64(a->h, "memory/useHierarchy", "memory.use_hierarchy", want, e);
}

int cg__v1_memory(const struct cg_apply *a, struct err *e)
{
	const struct oci_memory *m = a->res->memory;
	int r = m->has_use_hierarchy ? use_hierarchy(a, m->use_hierarchy, e) : 0;

	if (r >= 0) {
		r = memory_limits(a, e);
	}
	if (r >= 0 && m->has_reservation && m->reservation != 0) {
		r = cg__set_i64(a->h, "memory/reservation", "memory.soft_limit_in_bytes",
				m->reservation, e);
	}
	if (r >= 0 && m->has_kernel_tcp && m->kernel_tcp != 0) {
		r = cg__set_i64(a->h, "memory/kernelTCP", "memory.kmem.tcp.limit_in_bytes",
				m->kernel_tcp, e);
	}
	if (r >= 0 && m->has_swappiness) {
		r = m->swappiness > 100 ?
		    err_field(e, "/linux/resources/memory/swappiness", "it goes from 0 to 100") :
		    cg__set_i64(a->h, "memory/swappiness", "memory.swappiness",
				(int64_t)m->swappiness, e);
	}
	if (r >= 0 && m->has_disable_oom_killer && (m->disable_oom_killer || a->update)) {
		r = cg__set_i64(a->h, "memory/disableOOMKiller", "memory.oom_control",
				m->disable_oom_killer, e);
	}
	return r;
}

static int set_u64(const struct cg_hier *h, const char *field, const char *file, uint64_t v,
		   struct err *e)
{
	char text[24];

	snprintf(text, sizeof(text), "%" PRIu64, v);
	return cg__set(h, field, file, text, e);
}

/* The kernel puts what is out of its range silently to the range's end. */
static int set_shares(const struct cg_apply *a, uint64_t shares, struct err *e)
{
	uint64_t got = 0;
	int r = set_u64(a->h, "cpu/shares", "cpu.shares", shares, e);

	if (r < 0 || cg__read_u64(a->h, "cpu.shares", &got) < 0 || got == shares) {
		return r;
	}
	return err_field(e, "/linux/resources/cpu/shares", "the kernel takes %s %" PRIu64,
			 got < shares ? "at most" : "at least", got);
}

/*
 * A pair of which the kernel checks each half against the other's old value: whichever goes
 * first may be refused until the other is there.
 */
static int set_pair(const struct cg_apply *a, const char *field, const char *file1, const char *text1,
		    const char *file2, const char *text2, struct err *e)
{
	int r = text1 ? cg__write(a->h, file1, text1) : 0;
	bool again = r == -EINVAL && text2;

	if (r < 0 && !again) {
		return cg__refused(r, a->h, field, file1, text1, e);
	}
	r = text2 ? cg__set(a->h, field, file2, text2, e) : 0;
	return r >= 0 && again ? cg__set(a->h, field, file1, text1, e) : r;
}

static int set_bandwidth(const struct cg_apply *a, struct err *e)
{
	const struct oci_cpu *c = a->res->cpu;
	char period[24], quota[24], burst[24];
	bool has_period = c->has_period && c->period != 0, has_quota = c->has_quota && c->quota != 0;

	snprintf(period, sizeof(period), "%" PRIu64, c->period);
	snprintf(quota, sizeof(quota), "%" PRId64, c->quota);
	snprintf(burst, sizeof(burst), "%" PRIu64, c->burst);

	/* The burst is bounded by the quota: down before it, up after it. */
	bool burst_done = c->has_burst && cg__write(a->h, "cpu.cfs_burst_us", burst) == 0;
	int r = set_pair(a, "cpu/quota", "cpu.cfs_period_us", has_period ? period : NULL,
			 "cpu.cfs_quota_us", has_quota ? quota : NULL, e);

	if (r >= 0 && c->has_burst && !burst_done) {
		r = cg__set(a->h, "cpu/burst", "cpu.cfs_burst_us", burst, e);
	}
	return r;
}

static int set_realtime(const struct cg_apply *a, struct err *e)
{
	const struct oci_cpu *c = a->res->cpu;
	char period[24], runtime[24];

	snprintf(period, sizeof(period), "%" PRIu64, c->rt_period);
	snprintf(runtime, sizeof(runtime), "%" PRId64, c->rt_runtime);
	return set_pair(a, "cpu/realtimeRuntime", "cpu.rt_period_us",
			c->has_rt_period && c->rt_period ? period : NULL, "cpu.rt_runtime_us",
			c->has_rt_runtime && c->rt_runtime ? runtime : NULL, e);
}

int cg__v1_cpu(const struct cg_apply *a, struct err *e)
{
	const struct oci_cpu *c = a->res->cpu;
	int r = 0;

	if (c->has_idle && c->idle == 0 && a->update) {
		r = cg__set_i64(a->h, "cpu/idle", "cpu.idle", 0, e); /* else it has no shares */
	}
	if (r >= 0 && c->has_shares && c->shares != 0) {
		r = set_shares(a, c->shares, e);
	}
	if (r >= 0) {
		r = set_realtime(a, e);
	}
	if (r >= 0) {
		r = set_bandwidth(a, e);
	}
	if (r >= 0 && c->has_idle && c->idle != 0) {
		r = cg__set_i64(a->h, "cpu/idle", "cpu.idle", c->idle, e);
	}
	return r;
}

int cg__v1_cpuset(const struct cg_apply *a, struct err *e)
{
	const struct oci_cpu *c = a->res->cpu;
	int r = 0;

	if (c->cpus && *c->cpus) {
		r = cg__set(a->h, "cpu/cpus", "cpuset.cpus", c->cpus, e);
	}
	if (r >= 0 && c->mems && *c->mems) {
		r = cg__set(a->h, "cpu/mems", "cpuset.mems", c->mems, e);
	}
	return r;
}

static int inherit_file(const struct cg_hier *h, const char *group, const char *file, struct buf *value,
			unsigned depth)
{
	bool empty = depth == 0 && h->made; /* need not be read */
	int r;

	buf_reset(value);
	r = empty ? 0 : cg__read_at(h, group, file, value);
	if (r < 0 || str_eq(group, "/") || depth > 64 || (value->len > 0 && value->data[0] != '\n')) {
		return r;
	}
	const char *slash = strrchr(group, '/');
	auto_free char *parent = slash == group ? str_dup("/") :
						  str_ndup(group, (size_t)(slash - group));
	struct cg_hier at = *h;

	r = parent ? inherit_file(h, parent, file, value, depth + 1) : -ENOMEM;
	if (r < 0) {
		return r;
	}
	at.group = (char *)group;
	return cg__write(&at, file, buf_str(value));
}

/* A new v1 cpuset has no CPU and no memory, and takes no process: give it its parent's. */
int cg__v1_cpuset_inherit(const struct cg_hier *h)
{
	auto_buf struct buf value = BUF_INIT;
	int r = inherit_file(h, h->group, "cpuset.cpus", &value, 0);

	return r < 0 ? r : inherit_file(h, h->group, "cpuset.mems", &value, 0);
}

struct device_text {
	char text[64];
};

static struct device_text device_text(int64_t major, int64_t minor, uint64_t v)
{
	struct device_text t;

	snprintf(t.text, sizeof(t.text), "%" PRId64 ":%" PRId64 " %" PRIu64, major, minor, v);
	return t;
}

static int throttle(const struct cg_apply *a, const struct jvec *list, const char *field,
		    const char *file, struct err *e)
{
	const struct oci_throttle_device *d = list->v;
	int r = 0;

	for (size_t i = 0; r >= 0 && i < list->n; i++) {
		r = cg__set(a->h, field, file, device_text(d[i].major, d[i].minor, d[i].rate).text, e);
	}
	return r;
}

/* The weights belong to the I/O scheduler: the file is BFQ's where there is no other. */
static const char *weight_file(const struct cg_hier *h, const char *plain, const char *bfq)
{
	return cg__has(h, plain) || !cg__has(h, bfq) ? plain : bfq;
}

static int weights(const struct cg_apply *a, struct err *e)
{
	const struct oci_block_io *b = a->res->block_io;
	const struct oci_weight_device *d = b->weight_devices.v;
	int r = 0;

	if (b->has_weight && b->weight != 0) {
		r = set_u64(a->h, "blockIO/weight", weight_file(a->h, "blkio.weight", "blkio.bfq.weight"),
			    b->weight, e);
	}
	if (r >= 0 && b->has_leaf_weight && b->leaf_weight != 0) {
		r = set_u64(a->h, "blockIO/leafWeight", "blkio.leaf_weight", b->leaf_weight, e);
	}
	for (size_t i = 0; r >= 0 && i < b->weight_devices.n; i++) {
		if (d[i].has_weight && d[i].weight != 0) {
			r = cg__set(a->h, "blockIO/weightDevice",
				    weight_file(a->h, "blkio.weight_device", "blkio.bfq.weight_device"),
				    device_text(d[i].major, d[i].minor, d[i].weight).text, e);
		}
		if (r >= 0 && d[i].has_leaf_weight && d[i].leaf_weight != 0) {
			r = cg__set(a->h, "blockIO/weightDevice", "blkio.leaf_weight_device",
				    device_text(d[i].major, d[i].minor, d[i].leaf_weight).text, e);
		}
	}
	return r;
}

int cg__v1_blkio(const struct cg_apply *a, struct err *e)
{
	const struct oci_block_io *b = a->res->block_io;
	int r = weights(a, e);

	if (r >= 0) {
		r = throttle(a, &b->read_bps, "blockIO/throttleReadBpsDevice",
			     "blkio.throttle.read_bps_device", e);
	}
	if (r >= 0) {
		r = throttle(a, &b->write_bps, "blockIO/throttleWriteBpsDevice",
			     "blkio.throttle.write_bps_device", e);
	}
	if (r >= 0) {
		r = throttle(a, &b->read_iops, "blockIO/throttleReadIOPSDevice",
			     "blkio.throttle.read_iops_device", e);
	}
	if (r >= 0) {
		r = throttle(a, &b->write_iops, "blockIO/throttleWriteIOPSDevice",
			     "blkio.throttle.write_iops_device", e);
	}
	return r;
}

int cg__v1_net_cls(const struct cg_apply *a, struct err *e)
{
	return set_u64(a->h, "network/classID", "net_cls.classid", a->res->network->class_id, e);
}

int cg__v1_net_prio(const struct cg_apply *a, struct err *e)
{
	const struct oci_net_priority *p = a->res->network->priorities.v;
	int r = 0;

	for (size_t i = 0; r >= 0 && i < a->res->network->priorities.n; i++) {
		char text[64];

		if (strlen(p[i].name) > 32 || strpbrk(p[i].name, " \n\t")) {
			return err_field(e, "/linux/resources/network/priorities",
					 "\"%.32s\" is no interface's name", p[i].name);
		}
		snprintf(text, sizeof(text), "%s %" PRIu64, p[i].name, p[i].priority);
		r = cg__set(a->h, "network/priorities", "net_prio.ifpriomap", text, e);
	}
	return r;
}

static void device_line(const struct cg_dev_rule *d, char out[64])
{
	char major[24] = "*", minor[24] = "*";

	if (d->major >= 0) {
		snprintf(major, sizeof(major), "%" PRId64, d->major);
	}
	if (d->minor >= 0) {
		snprintf(minor, sizeof(minor), "%" PRId64, d->minor);
	}
	snprintf(out, 64, "%c %s:%s %s%s%s", d->type, major, minor,
		 d->access & CG_DEV_READ ? "r" : "", d->access & CG_DEV_WRITE ? "w" : "",
		 d->access & CG_DEV_MKNOD ? "m" : "");
}

/* One a write; the file is opened once, as there are a dozen in every container. */
static int write_exceptions(const struct cg_apply *a, const struct cg_dev_rules *set, const char *file,
			    struct err *e)
{
	char line[64] = "";
	auto_close int fd = cg__open(a->h, file, O_WRONLY);
	ssize_t r = fd;

	for (size_t i = 0; r >= 0 && i < set->n; i++) {
		device_line(&set->v[i], line);
		r = sys_write(fd, line, strlen(line));
	}
	return cg__refused(MIN((int)r, 0), a->h, "devices", file, line, e);
}

int cg__v1_devices(const struct cg_apply *a, struct err *e)
{
	struct cg_dev_rules rules = { .v = NULL }, set = { .v = NULL };
	bool dflt = false;
	int r = cg__dev_rules(a->res, &rules, e);

	if (r < 0) {
		return r;
	}
	r = cg__dev_reduce(&rules, &dflt, &set, e);
	cg__dev_rules_fini(&rules);
	if (r < 0) {
		return r;
	}
	/* "a" sets the default and forgets the exceptions. */
	r = cg__write(a->h, dflt ? "devices.allow" : "devices.deny", "a");
	if (r == -EPERM && a->cg->rootless) {
		cg__dev_rules_fini(&set);
		return 0; /* in a user namespace nobody may, and no device can be made there */
	}
	r = cg__refused(r, a->h, "devices", dflt ? "devices.allow" : "devices.deny", "a", e);
	if (r >= 0) {
		r = write_exceptions(a, &set, dflt ? "devices.deny" : "devices.allow", e);
	}
	cg__dev_rules_fini(&set);
	return r;
}
