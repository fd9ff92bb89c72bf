/* SPDX-License-Identifier: Apache-2.0 */
#include "container/cgroup-stats.h"

#include <dirent.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>

#include "base/mem.h"
#include "container/cgroup-priv.h"
#include "sys/file.h"

#define IN(m) offsetof(struct cgroup_mem_entry, m)
static const struct jfield mem_entry_fields[] = {
	{ "limit",   JK_UINT, IN(limit), .flags = JF_EMPTY, .doc = "bytes" },
	{ "usage",   JK_UINT, IN(usage), .doc = "bytes now" },
	{ "max",     JK_UINT, IN(max), .doc = "bytes at most so far" },
	{ "failcnt", JK_UINT, IN(failcnt), .flags = JF_EMPTY, .doc = "times the limit was hit" },
};
#undef IN
static const struct jtable mem_entry_table =
	JTABLE_OPEN("MemoryEntry", struct cgroup_mem_entry, mem_entry_fields);

#define IN(m) offsetof(struct cgroup_psi_line, m)
static const struct jfield psi_line_fields[] = {
	{ "avg10",  JK_NUMBER, IN(avg10), .flags = JF_EMPTY, .doc = "per cent of ten seconds" },
	{ "avg60",  JK_NUMBER, IN(avg60), .flags = JF_EMPTY, .doc = "per cent of a minute" },
	{ "avg300", JK_NUMBER, IN(avg300), .flags = JF_EMPTY, .doc = "per cent of five minutes" },
	{ "total",  JK_UINT, IN(total), .flags = JF_EMPTY, .doc = "microseconds in all" },
};
#undef IN
static const struct jtable psi_line_table =
	JTABLE_OPEN("PsiLine", struct cgroup_psi_line, psi_line_fields);

#define IN(m) offsetof(struct cgroup_psi, m)
static const struct jfield psi_fields[] = {
	{ "some", JK_INLINE, IN(some), .flags = JF_EMPTY, .sub = &psi_line_table,
	  .doc = "some task waited" },
	{ "full", JK_INLINE, IN(full), .flags = JF_EMPTY, .sub = &psi_line_table,
	  .doc = "all tasks waited" },
};
#undef IN
static const struct jtable psi_table = JTABLE_OPEN("Psi", struct cgroup_psi, psi_fields);

#define IN(m) offsetof(struct cgroup_blkio_entry, m)
static const struct jfield blkio_entry_fields[] = {
	{ "major", JK_UINT, IN(major), .doc = "of the device" },
	{ "minor", JK_UINT, IN(minor), .doc = "of the device" },
	{ "op",    JK_STR, IN(op), .doc = "kind of operation" },
	{ "value", JK_UINT, IN(value), .doc = "bytes or operations" },
};
#undef IN
static const struct jtable blkio_entry_table =
	JTABLE_OPEN("BlkioEntry", struct cgroup_blkio_entry, blkio_entry_fields);

#define IN(m) offsetof(struct cgroup_cpu_usage, m)
static const struct jfield cpu_usage_fields[] = {
	{ "total",  JK_UINT, IN(total), .flags = JF_EMPTY, .doc = "nanoseconds" },
	{ "percpu", JK_UINTV, IN(percpu), .doc = "nanoseconds on each CPU (v1)" },
	{ "percpu_kernel", JK_UINTV, IN(percpu_kernel), .doc = "of these in the kernel (v1)" },
	{ "percpu_user", JK_UINTV, IN(percpu_user), .doc = "of these in user mode (v1)" },
	{ "kernel", JK_UINT, IN(kernel), .flags = JF_EMPTY, .doc = "nanoseconds in the kernel" },
	{ "user",   JK_UINT, IN(user), .flags = JF_EMPTY, .doc = "nanoseconds in user mode" },
};
#undef IN
static const struct jtable cpu_usage_table =
	JTABLE_OPEN("CpuUsage", struct cgroup_cpu_usage, cpu_usage_fields);

#define IN(m) offsetof(struct cgroup_throttling, m)
static const struct jfield throttling_fields[] = {
	{ "periods", JK_UINT, IN(periods), .doc = "periods of the quota" },
	{ "throttledPeriods", JK_UINT, IN(throttled_periods), .doc = "in which it ran out" },
	{ "throttledTime", JK_UINT, IN(throttled_ns), .doc = "nanoseconds of waiting for the next" },
};
#undef IN
static const struct jtable throttling_table =
	JTABLE_OPEN("CpuThrottling", struct cgroup_throttling, throttling_fields);

typedef __typeof__(((struct cgroup_stats *)NULL)->cpu) stats_cpu;
typedef __typeof__(((struct cgroup_stats *)NULL)->cpuset) stats_cpuset;
typedef __typeof__(((struct cgroup_stats *)NULL)->memory) stats_memory;
typedef __typeof__(((struct cgroup_stats *)NULL)->pids) stats_pids;
typedef __typeof__(((struct cgroup_stats *)NULL)->blkio) stats_blkio;

#define IN(m) offsetof(stats_cpu, m)
static const struct jfield cpu_fields[] = {
	{ "usage", JK_INLINE, IN(usage), .flags = JF_EMPTY, .sub = &cpu_usage_table, .doc = "time" },
	{ "throttling", JK_INLINE, IN(throttling), .flags = JF_EMPTY, .sub = &throttling_table,
	  .doc = "by the quota" },
	{ "psi", JK_OBJ, IN(psi), .sub = &psi_table, .doc = "pressure" },
};
#undef IN
static const struct jtable cpu_table = JTABLE_OPEN("CpuStats", stats_cpu, cpu_fields);

#define IN(m) offsetof(stats_cpuset, m)
static const struct jfield cpuset_fields[] = {
	{ "cpus", JK_UINTV, IN(cpus), .doc = "CPUs that may be used" },
	{ "mems", JK_UINTV, IN(mems), .doc = "memory nodes that may be used" },
};
#undef IN
static const struct jtable cpuset_table = JTABLE_OPEN("CpusetStats", stats_cpuset, cpuset_fields);

#define IN(m) offsetof(stats_memory, m)
static const struct jfield memory_fields[] = {
	{ "cache", JK_UINT, IN(cache), .doc = "bytes of page cache" },
	{ "usage", JK_INLINE, IN(usage), .flags = JF_EMPTY, .sub = &mem_entry_table, .doc = "memory" },
	{ "swap", JK_INLINE, IN(swap), .flags = JF_EMPTY, .sub = &mem_entry_table,
	  .doc = "memory and swap together" },
	{ "kernel", JK_INLINE, IN(kernel), .flags = JF_EMPTY, .sub = &mem_entry_table,
	  .doc = "kernel memory (v1)" },
	{ "kernelTCP", JK_INLINE, IN(kernel_tcp), .flags = JF_EMPTY, .sub = &mem_entry_table,
	  .doc = "TCP buffers (v1)" },
	{ "raw", JK_RAW, IN(raw), .doc = "memory.stat" },
	{ "psi", JK_OBJ, IN(psi), .sub = &psi_table, .doc = "pressure" },
};
#undef IN
static const struct jtable memory_table = JTABLE_OPEN("MemoryStats", stats_memory, memory_fields);

#define IN(m) offsetof(stats_pids, m)
static const struct jfield pids_fields[] = {
	{ "current", JK_UINT, IN(current), .doc = "tasks now" },
	{ "limit",   JK_UINT, IN(limit), .doc = "tasks at most" },
};
#undef IN
static const struct jtable pids_table = JTABLE_OPEN("PidsStats", stats_pids, pids_fields);

#define IN(m) offsetof(stats_blkio, m)
static const struct jfield blkio_fields[] = {
	{ "ioServiceBytesRecursive", JK_OBJV, IN(service_bytes), .sub = &blkio_entry_table,
	  .doc = "bytes" },
	{ "ioServicedRecursive", JK_OBJV, IN(serviced), .sub = &blkio_entry_table,
	  .doc = "operations" },
	{ "psi", JK_OBJ, IN(psi), .sub = &psi_table, .doc = "pressure" },
};
#undef IN
static const struct jtable blkio_table = JTABLE_OPEN("BlkioStats", stats_blkio, blkio_fields);

#define IN(m) offsetof(struct cgroup_stats, m)
static const struct jfield stats_fields[] = {
	{ "cpu",     JK_INLINE, IN(cpu), .flags = JF_EMPTY, .sub = &cpu_table, .doc = "CPU" },
	{ "cpuset",  JK_INLINE, IN(cpuset), .flags = JF_EMPTY, .sub = &cpuset_table,
	  .doc = "where it may run" },
	{ "memory",  JK_INLINE, IN(memory), .flags = JF_EMPTY, .sub = &memory_table, .doc = "memory" },
	{ "pids",    JK_INLINE, IN(pids), .flags = JF_EMPTY, .sub = &pids_table, .doc = "tasks" },
	{ "blkio",   JK_INLINE, IN(blkio), .flags = JF_EMPTY, .sub = &blkio_table, .doc = "disks" },
	{ "hugetlb", JK_OBJMAP, IN(hugetlb), .flags = JF_EMPTY, .sub = &mem_entry_table,
	  .doc = "huge pages, by size" },
};
#undef IN
const struct jtable cgroup_stats_table =
	JTABLE_OPEN("ContainerStats", struct cgroup_stats, stats_fields);

/* Zero where the file is not there. */
static uint64_t read_u64(const struct cg_hier *h, const char *file)
{
	uint64_t v = 0;

	return cg__read_u64(h, file, &v) < 0 ? 0 : v;
}

static uint64_t keyed(const char *text, const char *key)
{
	uint64_t v = 0;

	return cg__keyed(text, key, &v) ? v : 0;
}

/* Add a number to a list in an arena; doubling copies, old ones die with the arena. */
static int push(struct arena *a, struct juintv *v, uint64_t x)
{
	if ((v->n & (v->n - 1)) == 0) {
		uint64_t *grown = arena_alloc(a, v->n ? v->n * 2 : 1, sizeof(*grown));

		if (!grown) {
			return -ENOMEM;
		}
		if (v->n) {
			memcpy(grown, v->v, v->n * sizeof(*grown));
		}
		v->v = grown;
	}
	v->v[v->n++] = x;
	return 0;
}

/* The numbers of a text, whatever is between them. */
static int numbers(struct arena *a, const char *text, struct juintv *ret)
{
	while (*text) {
		char *end = NULL;

		if (*text < '0' || *text > '9') {
			text++;
			continue;
		}
		if (push(a, ret, strtoull(text, &end, 10)) < 0) {
			return -ENOMEM;
		}
		text = end;
	}
	return 0;
}

/* "0-3,7" as 0 1 2 3 7. */
static int ranges(struct arena *a, const char *text, struct juintv *ret)
{
	while (*text >= '0' && *text <= '9') {
		char *end = NULL;
		uint64_t first = strtoull(text, &end, 10), last = first;

		if (*end == '-') {
			last = strtoull(end + 1, &end, 10);
		}
		for (uint64_t i = first; i <= last && i - first < 65536; i++) {
			if (push(a, ret, i) < 0) {
				return -ENOMEM;
			}
		}
		text = *end == ',' ? end + 1 : end;
	}
	return 0;
}

static void psi_line(const char *line, size_t len, struct cgroup_psi_line *ret)
{
	char copy[160];

	snprintf(copy, sizeof(copy), "%.*s", (int)MIN(len, sizeof(copy) - 1), line);
	if (sscanf(copy, "%*s avg10=%lf avg60=%lf avg300=%lf total=%" SCNu64, &ret->avg10, &ret->avg60,
		   &ret->avg300, &ret->total) != 4) {
		*ret = (struct cgroup_psi_line){ .total = 0 };
	}
}

/* NULL: none, or no memory, which the caller's next allocation tells. */
static struct cgroup_psi *psi(struct arena *a, const struct cg_hier *h, const char *file)
{
	auto_buf struct buf b = BUF_INIT;
	const char *line;
	size_t len;

	if (!h->v2 || cg__read(h, file, &b) < 0) {
		return NULL;
	}
	struct cgroup_psi *p = arena_new(a, struct cgroup_psi);
	const char *rest = buf_str(&b);

	while (p && str_split(&rest, '\n', &line, &len)) {
		if (len > 5 && memcmp(line, "some ", 5) == 0) {
			psi_line(line, len, &p->some);
		} else if (len > 5 && memcmp(line, "full ", 5) == 0) {
			psi_line(line, len, &p->full);
		}
	}
	return p;
}

static void throttling(const char *stat, bool v2, struct cgroup_throttling *ret)
{
	ret->periods = keyed(stat, "nr_periods");
	ret->throttled_periods = keyed(stat, "nr_throttled");
	ret->throttled_ns = v2 ? keyed(stat, "throttled_usec") * 1000 : keyed(stat, "throttled_time");
}

/* cpuacct.usage_all: a heading, then "CPU user system" a line. */
static int percpu(struct arena *a, const struct cg_hier *h, struct cgroup_cpu_usage *ret)
{
	auto_buf struct buf b = BUF_INIT, all = BUF_INIT;
	struct juintv v = { .v = NULL };
	int r = cg__read(h, "cpuacct.usage_percpu", &b) == 0 ? numbers(a, buf_str(&b), &ret->percpu) : 0;

	if (r < 0 || cg__read(h, "cpuacct.usage_all", &all) < 0 || numbers(a, buf_str(&all), &v) < 0) {
		return r;
	}
	for (size_t i = 0; r == 0 && i + 2 < v.n; i += 3) {
		r = push(a, &ret->percpu_user, v.v[i + 1]);
		r = r < 0 ? r : push(a, &ret->percpu_kernel, v.v[i + 2]);
	}
	return r;
}

static int read_cpu(const struct cgroup *cg, struct arena *a, struct cgroup_stats *s)
{
	auto_buf struct buf b = BUF_INIT;
	const struct cg_hier *h = cg__with(cg, CG_CPU);
	int r = 0;

	if (h && cg__read(h, "cpu.stat", &b) == 0) {
		throttling(buf_str(&b), h->v2, &s->cpu.throttling);
		if (h->v2) {
			s->cpu.psi = psi(a, h, "cpu.pressure");
			s->cpu.usage.total = keyed(buf_str(&b), "usage_usec") * 1000;
			s->cpu.usage.user = keyed(buf_str(&b), "user_usec") * 1000;
			s->cpu.usage.kernel = keyed(buf_str(&b), "system_usec") * 1000;
		}
	}
	h = cg__with(cg, CG_CPUACCT);
	if (h && !h->v2) {
		s->cpu.usage.total = read_u64(h, "cpuacct.usage");
		s->cpu.usage.user = read_u64(h, "cpuacct.usage_user");
		s->cpu.usage.kernel = read_u64(h, "cpuacct.usage_sys");
		r = percpu(a, h, &s->cpu.usage);
	}
	return r;
}

static int read_cpuset(const struct cgroup *cg, struct arena *a, struct cgroup_stats *s)
{
	auto_buf struct buf cpus = BUF_INIT, mems = BUF_INIT;
	const struct cg_hier *h = cg__with(cg, CG_CPUSET);

	if (!h || cg__read(h, h->v2 ? "cpuset.cpus.effective" : "cpuset.effective_cpus", &cpus) < 0 ||
	    cg__read(h, h->v2 ? "cpuset.mems.effective" : "cpuset.effective_mems", &mems) < 0) {
		return 0;
	}
	int r = ranges(a, buf_str(&cpus), &s->cpuset.cpus);

	return r < 0 ? r : ranges(a, buf_str(&mems), &s->cpuset.mems);
}

static json_t *raw_stat(const char *text)
{
	json_t *raw = json_object();
	const char *line;
	size_t len;

	while (raw && str_split(&text, '\n', &line, &len)) {
		char key[64];
		uint64_t v;

		if (len >= sizeof(key)) {
			continue;
		}
		memcpy(key, line, len);
		key[len] = '\0';
		char *space = strchr(key, ' ');

		if (!space) {
			continue;
		}
		*space = '\0';
		if (parse_u64(space + 1, INT64_MAX, &v) == 0 &&
		    json_put(raw, key, json_integer((json_int_t)v)) < 0) {
			json_decref(raw);
			return NULL;
		}
	}
	return raw;
}

static void entry_v1(const struct cg_hier *h, const char *prefix, struct cgroup_mem_entry *ret)
{
	static const char *const tails[] = { "limit_in_bytes", "usage_in_bytes", "max_usage_in_bytes",
					     "failcnt" };
	uint64_t *const to[] = { &ret->limit, &ret->usage, &ret->max, &ret->failcnt };

	for (size_t i = 0; i < ARRAY_LEN(tails); i++) {
		char file[96];

		snprintf(file, sizeof(file), "%s.%s", prefix, tails[i]);
		*to[i] = read_u64(h, file);
	}
}

static void memory_v2(const struct cg_hier *h, struct arena *a, struct cgroup_stats *s)
{
	auto_buf struct buf events = BUF_INIT;
	struct cgroup_mem_entry *m = &s->memory.usage, *w = &s->memory.swap;

	if (cg__read(h, "memory.events", &events) == 0) {
		m->failcnt = keyed(buf_str(&events), "max");
	}
	m->usage = read_u64(h, "memory.current");
	m->limit = read_u64(h, "memory.max");
	m->max = read_u64(h, "memory.peak");
	w->usage = m->usage + read_u64(h, "memory.swap.current");
	w->limit = read_u64(h, "memory.swap.max");
	w->limit = m->limit == UINT64_MAX || w->limit == UINT64_MAX ? UINT64_MAX : m->limit + w->limit;
	s->memory.psi = psi(a, h, "memory.pressure");
}

static int read_memory(const struct cgroup *cg, struct arena *a, struct cgroup_stats *s)
{
	auto_buf struct buf stat = BUF_INIT;
	const struct cg_hier *h = cg__with(cg, CG_MEMORY);

	if (!h || cg__read(h, "memory.stat", &stat) < 0) {
		return 0;
	}
	s->memory.cache = keyed(buf_str(&stat), h->v2 ? "file" : "cache");
	if (h->v2) {
		memory_v2(h, a, s);
	} else {
		entry_v1(h, "memory", &s->memory.usage);
		entry_v1(h, "memory.memsw", &s->memory.swap);
		entry_v1(h, "memory.kmem", &s->memory.kernel);
		entry_v1(h, "memory.kmem.tcp", &s->memory.kernel_tcp);
	}
	s->memory.raw = raw_stat(buf_str(&stat));
	return s->memory.raw ? 0 : -ENOMEM;
}

static int add_entry(struct arena *a, struct jvec *v, uint64_t major, uint64_t minor, const char *op,
		     uint64_t value)
{
	struct cgroup_blkio_entry *e = v->v;

	if ((v->n & (v->n - 1)) == 0) {
		e = arena_alloc(a, v->n ? v->n * 2 : 1, sizeof(*e));
		if (!e) {
			return -ENOMEM;
		}
		if (v->n) {
			memcpy(e, v->v, v->n * sizeof(*e));
		}
		v->v = e;
	}
	e[v->n++] = (struct cgroup_blkio_entry){ major, minor, op, value };
	return 0;
}

/* "8:0 Read 4096", and a line "Total 4096" at the end. */
static int blkio_v1(const struct cg_hier *h, struct arena *a, const char *file, struct jvec *ret)
{
	auto_buf struct buf b = BUF_INIT;
	const char *line;
	size_t len;

	if (cg__read(h, file, &b) < 0) {
		return 0;
	}
	const char *rest = buf_str(&b);

	while (str_split(&rest, '\n', &line, &len)) {
		char copy[96], op[16];
		uint64_t major, minor, value;

		snprintf(copy, sizeof(copy), "%.*s", (int)MIN(len, sizeof(copy) - 1), line);
		if (sscanf(copy, "%" SCNu64 ":%" SCNu64 " %15s %" SCNu64, &major, &minor, op, &value) != 4) {
			continue;
		}
		char *kept = arena_strdup(a, op);

		if (!kept || add_entry(a, ret, major, minor, kept, value) < 0) {
			return -ENOMEM;
		}
	}
	return 0;
}

static uint64_t io_key(const char *line, const char *key)
{
	const char *p = strstr(line, key);

	return p ? strtoull(p + strlen(key), NULL, 10) : 0;
}

/* "8:0 rbytes=1 wbytes=2 rios=3 wios=4 dbytes=5 dios=6" */
static int io_v2(const struct cg_hier *h, struct arena *a, struct cgroup_stats *s)
{
	auto_buf struct buf b = BUF_INIT;
	const char *line;
	size_t len;

	if (cg__read(h, "io.stat", &b) < 0) {
		return 0;
	}
	const char *rest = buf_str(&b);
	int r = 0;

	while (r == 0 && str_split(&rest, '\n', &line, &len)) {
		char copy[256];
		uint64_t major, minor;

		snprintf(copy, sizeof(copy), "%.*s", (int)MIN(len, sizeof(copy) - 1), line);
		if (sscanf(copy, "%" SCNu64 ":%" SCNu64, &major, &minor) != 2) {
			continue;
		}
		r = add_entry(a, &s->blkio.service_bytes, major, minor, "Read", io_key(copy, " rbytes="));
		r |= add_entry(a, &s->blkio.service_bytes, major, minor, "Write", io_key(copy, " wbytes="));
		r |= add_entry(a, &s->blkio.serviced, major, minor, "Read", io_key(copy, " rios="));
		r |= add_entry(a, &s->blkio.serviced, major, minor, "Write", io_key(copy, " wios="));
	}
	s->blkio.psi = psi(a, h, "io.pressure");
	return r ? -ENOMEM : 0;
}

static int read_blkio(const struct cgroup *cg, struct arena *a, struct cgroup_stats *s)
{
	const struct cg_hier *h = cg__with(cg, CG_BLKIO);

	if (!h || h->v2) {
		return h ? io_v2(h, a, s) : 0;
	}
	int r = blkio_v1(h, a, "blkio.throttle.io_service_bytes_recursive", &s->blkio.service_bytes);

	return r < 0 ? r : blkio_v1(h, a, "blkio.throttle.io_serviced_recursive", &s->blkio.serviced);
}

static void read_pids(const struct cgroup *cg, struct cgroup_stats *s)
{
	const struct cg_hier *h = cg__with(cg, CG_PIDS);

	if (h) {
		s->pids.current = read_u64(h, "pids.current");
		s->pids.limit = read_u64(h, "pids.max");
		s->pids.limit = s->pids.limit == UINT64_MAX ? 0 : s->pids.limit;
	}
}

enum { PAGE_SIZES_MAX = 8 };

static void hugetlb_entry(const struct cg_hier *h, const char *size, struct cgroup_mem_entry *ret)
{
	char prefix[64], file[96];

	snprintf(prefix, sizeof(prefix), "hugetlb.%s", size);
	if (!h->v2) {
		entry_v1(h, prefix, ret);
		return;
	}
	auto_buf struct buf events = BUF_INIT;

	snprintf(file, sizeof(file), "%s.current", prefix);
	ret->usage = read_u64(h, file);
	snprintf(file, sizeof(file), "%s.max", prefix);
	ret->limit = read_u64(h, file);
	snprintf(file, sizeof(file), "%s.events", prefix);
	ret->failcnt = cg__read(h, file, &events) == 0 ? keyed(buf_str(&events), "max") : 0;
}

/* The page sizes are the names of the files: "hugetlb.2MB.max". */
static int read_hugetlb(const struct cgroup *cg, struct arena *a, struct cgroup_stats *s)
{
	const struct cg_hier *h = cg__with(cg, CG_HUGETLB);
	DIR *dir = NULL;

	if (!h || sys_opendir(h->root_fd, cg__rel(h->group), &dir) < 0) {
		return 0;
	}
	struct cgroup_mem_entry *v = arena_alloc(a, PAGE_SIZES_MAX, sizeof(*v));
	const char **keys = arena_alloc(a, PAGE_SIZES_MAX + 1, sizeof(*keys));
	const struct dirent *d;
	int r = v && keys ? 0 : -ENOMEM;

	s->hugetlb = (struct jobjmap){ .keys = keys, .v = v };
	while (r == 0 && s->hugetlb.n < PAGE_SIZES_MAX && (d = readdir(dir))) {
		const char *size = str_after(d->d_name, "hugetlb.");
		const char *dot = size ? strchr(size, '.') : NULL;

		if (!dot || !str_eq(dot, h->v2 ? ".max" : ".limit_in_bytes")) {
			continue;
		}
		char *kept = arena_strndup(a, size, (size_t)(dot - size));

		if (!kept) {
			r = -ENOMEM;
			break;
		}
		keys[s->hugetlb.n] = kept;
		hugetlb_entry(h, kept, &v[s->hugetlb.n++]);
	}
	(void)closedir(dir); /* read only: nothing to lose */
	return r;
}

int cgroup_stats_read(const struct cgroup *cg, struct arena *a, struct cgroup_stats *ret,
		      struct err *e)
{
	memset(ret, 0, sizeof(*ret));
	int r = read_cpu(cg, a, ret);

	r = r < 0 ? r : read_cpuset(cg, a, ret);
	r = r < 0 ? r : read_memory(cg, a, ret);
	r = r < 0 ? r : read_blkio(cg, a, ret);
	r = r < 0 ? r : read_hugetlb(cg, a, ret);
	read_pids(cg, ret);
	if (r < 0) {
		cgroup_stats_fini(ret);
		return err_nomem(e);
	}
	return 0;
}

void cgroup_stats_fini(struct cgroup_stats *s)
{
	json_decref(s->memory.raw);
	s->memory.raw = NULL;
}

json_t *cgroup_stats_json(const struct cgroup *cg, struct err *e)
{
	auto_arena struct arena a = ARENA_INIT;
	struct cgroup_stats s;

	if (cgroup_stats_read(cg, &a, &s, e) < 0) {
		return NULL;
	}
	json_t *j = jtable_format(&cgroup_stats_table, &s);

	cgroup_stats_fini(&s);
	if (!j) {
		ignore_result(err_nomem(e)); /* NULL is the caller's sign */
	}
	return j;
}
