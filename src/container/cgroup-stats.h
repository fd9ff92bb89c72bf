/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a container has used, read from its groups. The table writes it as runc's
 * `events --stats` does, from which engines read it.
 */
#ifndef CONTAINER_CGROUP_STATS_H
#define CONTAINER_CGROUP_STATS_H

#include "container/cgroup.h"

/* A limit that is not there is UINT64_MAX (v2) or what the kernel says (v1). */
struct cgroup_mem_entry {
	uint64_t limit, usage, max, failcnt;   /* bytes; times the limit was hit */
};

struct cgroup_psi_line {
	double   avg10, avg60, avg300;   /* per cent of the time */
	uint64_t total;                  /* microseconds */
};

struct cgroup_psi {
	struct cgroup_psi_line some, full;
};

struct cgroup_blkio_entry {
	uint64_t    major, minor;
	const char *op;                  /* "Read", "Write", "Sync", "Async", "Discard", "Total" */
	uint64_t    value;
};

struct cgroup_cpu_usage {                /* nanoseconds */
	uint64_t       total, kernel, user;
	struct juintv  percpu, percpu_kernel, percpu_user;  /* v1 only */
};

struct cgroup_throttling {
	uint64_t periods, throttled_periods, throttled_ns;
};

struct cgroup_stats {
	struct {
		struct cgroup_cpu_usage  usage;
		struct cgroup_throttling throttling;
		struct cgroup_psi       *psi;       /* NULL: the kernel has none */
	} cpu;
	struct {
		struct juintv cpus, mems;
	} cpuset;
	struct {
		uint64_t                cache;      /* bytes of page cache */
		struct cgroup_mem_entry usage;      /* memory */
		struct cgroup_mem_entry swap;       /* memory and swap together */
		struct cgroup_mem_entry kernel, kernel_tcp;
		struct cgroup_psi      *psi;
		json_t                 *raw;        /* memory.stat; owned */
	} memory;
	struct {
		uint64_t current, limit;            /* limit 0: none */
	} pids;
	struct {
		struct jvec service_bytes, serviced; /* struct cgroup_blkio_entry */
		struct cgroup_psi *psi;
	} blkio;
	struct jobjmap hugetlb;                     /* page size to struct cgroup_mem_entry */
};

extern const struct jtable cgroup_stats_table;

/*
 * Read all that there is. What cannot be read (a controller that is missing) stays zero.
 * Memory comes from the arena; end with cgroup_stats_fini().
 */
int  cgroup_stats_read(const struct cgroup *cg, struct arena *a, struct cgroup_stats *ret,
		       struct err *e) must_check;
void cgroup_stats_fini(struct cgroup_stats *s);

#endif
