/* SPDX-License-Identifier: Apache-2.0 */
/*
 * linux.resources of an OCI runtime config, and the same object as `update` takes it.
 *
 * A member `has_x` says whether x stood in the document; where there is none, zero is the
 * same as absent.
 *
 * Spec: oci-runtime 1.3, config-linux.md, Control groups
 */
#ifndef OCI_RESOURCES_H
#define OCI_RESOURCES_H

#include "json/table.h"

/* One rule of the device controller; the last that matches decides. */
struct oci_device_rule {
	bool        allow;
	bool        has_major, has_minor;
	const char *type;       /* "a", "c", "b"; NULL: "a" */
	int64_t     major;      /* -1 or absent: all */
	int64_t     minor;
	const char *access;     /* letters of "rwm"; NULL: all */
};

struct oci_memory {
	int64_t  limit;         /* bytes; -1: unlimited */
	int64_t  reservation;
	int64_t  swap;          /* memory and swap together */
	int64_t  kernel;        /* deprecated; ignored */
	int64_t  kernel_tcp;    /* deprecated; v1 only */
	uint64_t swappiness;
	bool     disable_oom_killer;
	bool     use_hierarchy;
	bool     check_before_update;
	bool     has_limit, has_reservation, has_swap, has_kernel, has_kernel_tcp, has_swappiness;
	bool     has_disable_oom_killer, has_use_hierarchy;
};

struct oci_cpu {
	uint64_t    shares;
	int64_t     quota;      /* microseconds a period; -1: unlimited */
	uint64_t    burst;
	uint64_t    period;     /* microseconds */
	int64_t     rt_runtime;
	uint64_t    rt_period;
	const char *cpus;
	const char *mems;
	int64_t     idle;
	bool        has_shares, has_quota, has_burst, has_period, has_rt_runtime, has_rt_period;
	bool        has_idle;
};

struct oci_pids {
	int64_t limit;          /* -1: unlimited */
	bool    has_limit;
};

struct oci_weight_device {
	int64_t  major, minor;
	uint64_t weight;
	uint64_t leaf_weight;
	bool     has_weight, has_leaf_weight;
};

struct oci_throttle_device {
	int64_t  major, minor;
	uint64_t rate;          /* bytes or operations a second */
};

struct oci_block_io {
	uint64_t    weight;
	uint64_t    leaf_weight;
	struct jvec weight_devices;         /* struct oci_weight_device */
	struct jvec read_bps;               /* struct oci_throttle_device */
	struct jvec write_bps;
	struct jvec read_iops;
	struct jvec write_iops;
	bool        has_weight, has_leaf_weight;
};

struct oci_hugepage_limit {
	const char *page_size;  /* "2MB" */
	uint64_t    limit;      /* bytes */
};

struct oci_net_priority {
	const char *name;       /* interface */
	uint64_t    priority;
};

struct oci_network {
	uint64_t    class_id;
	struct jvec priorities; /* struct oci_net_priority */
	bool        has_class_id;
};

struct oci_rdma {
	uint64_t handles;
	uint64_t objects;
	bool     has_handles, has_objects;
};

struct oci_resources {
	struct jvec          devices;       /* struct oci_device_rule */
	struct oci_memory   *memory;        /* NULL: absent, as the pointers below */
	struct oci_cpu      *cpu;
	struct oci_pids     *pids;
	struct oci_block_io *block_io;
	struct jvec          hugepages;     /* struct oci_hugepage_limit */
	struct oci_network  *network;
	struct jobjmap       rdma;          /* device name to struct oci_rdma */
	struct jmap          unified;       /* v2 file to content */
};

extern const struct jtable oci_resources_table;

#endif
