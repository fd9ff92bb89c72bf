/* SPDX-License-Identifier: Apache-2.0 */
#include "oci/resources.h"

#define IN(m) offsetof(struct oci_device_rule, m)
static const struct jfield device_rule_fields[] = {
	{ "allow",  JK_BOOL, IN(allow), .flags = JF_EMPTY, .doc = "allow or deny" },
	{ "type",   JK_STR,  IN(type), .doc = "a (all), c (character) or b (block)" },
	{ "major",  JK_INT,  IN(major), .has = IN(has_major), .doc = "major number; -1 is all" },
	{ "minor",  JK_INT,  IN(minor), .has = IN(has_minor), .doc = "minor number; -1 is all" },
	{ "access", JK_STR,  IN(access), .doc = "r (read), w (write), m (mknod)" },
};
#undef IN
static const struct jtable device_rule_table =
	JTABLE_OPEN("DeviceRule", struct oci_device_rule, device_rule_fields);

#define IN(m) offsetof(struct oci_memory, m)
static const struct jfield memory_fields[] = {
	{ "limit",       JK_INT, IN(limit), .has = IN(has_limit), .doc = "bytes; -1 is unlimited" },
	{ "reservation", JK_INT, IN(reservation), .has = IN(has_reservation), .doc = "soft limit" },
	{ "swap",        JK_INT, IN(swap), .has = IN(has_swap), .doc = "memory and swap, bytes" },
	{ "kernel",      JK_INT, IN(kernel), .has = IN(has_kernel), .doc = "deprecated, ignored" },
	{ "kernelTCP",   JK_INT, IN(kernel_tcp), .has = IN(has_kernel_tcp), .doc = "deprecated" },
	{ "swappiness",  JK_UINT, IN(swappiness), .has = IN(has_swappiness), .doc = "0 to 100" },
	{ "disableOOMKiller", JK_BOOL, IN(disable_oom_killer), .has = IN(has_disable_oom_killer),
	  .doc = "pause instead of kill when out of memory (v1)" },
	{ "useHierarchy", JK_BOOL, IN(use_hierarchy), .has = IN(has_use_hierarchy),
	  .doc = "account children to the parent (v1)" },
	{ "checkBeforeUpdate", JK_BOOL, IN(check_before_update),
	  .doc = "refuse an update below the present use" },
};
#undef IN
static const struct jtable memory_table = JTABLE_OPEN("Memory", struct oci_memory, memory_fields);

#define IN(m) offsetof(struct oci_cpu, m)
static const struct jfield cpu_fields[] = {
	{ "shares", JK_UINT, IN(shares), .has = IN(has_shares), .doc = "relative weight" },
	{ "quota",  JK_INT,  IN(quota), .has = IN(has_quota), .doc = "microseconds a period" },
	{ "burst",  JK_UINT, IN(burst), .has = IN(has_burst), .doc = "microseconds saved up" },
	{ "period", JK_UINT, IN(period), .has = IN(has_period), .doc = "microseconds" },
	{ "realtimeRuntime", JK_INT, IN(rt_runtime), .has = IN(has_rt_runtime),
	  .doc = "microseconds of realtime a period" },
	{ "realtimePeriod", JK_UINT, IN(rt_period), .has = IN(has_rt_period),
	  .doc = "microseconds" },
	{ "cpus",   JK_STR,  IN(cpus), .doc = "list of CPUs: 0-3,7" },
	{ "mems",   JK_STR,  IN(mems), .doc = "list of memory nodes" },
	{ "idle",   JK_INT,  IN(idle), .has = IN(has_idle), .doc = "1: SCHED_IDLE for the group" },
};
#undef IN
static const struct jtable cpu_table = JTABLE_OPEN("Cpu", struct oci_cpu, cpu_fields);

#define IN(m) offsetof(struct oci_pids, m)
static const struct jfield pids_fields[] = {
	{ "limit", JK_INT, IN(limit), .has = IN(has_limit), .doc = "tasks; -1 is unlimited" },
};
#undef IN
static const struct jtable pids_table = JTABLE_OPEN("Pids", struct oci_pids, pids_fields);

#define IN(m) offsetof(struct oci_weight_device, m)
static const struct jfield weight_device_fields[] = {
	{ "major",  JK_INT,  IN(major), .flags = JF_REQUIRED, .doc = "major number" },
	{ "minor",  JK_INT,  IN(minor), .flags = JF_REQUIRED, .doc = "minor number" },
	{ "weight", JK_UINT, IN(weight), .has = IN(has_weight), .max = UINT16_MAX, .doc = "weight" },
	{ "leafWeight", JK_UINT, IN(leaf_weight), .has = IN(has_leaf_weight), .max = UINT16_MAX,
	  .doc = "weight against child groups (v1)" },
};
#undef IN
static const struct jtable weight_device_table =
	JTABLE_OPEN("WeightDevice", struct oci_weight_device, weight_device_fields);

#define IN(m) offsetof(struct oci_throttle_device, m)
static const struct jfield throttle_fields[] = {
	{ "major", JK_INT,  IN(major), .flags = JF_REQUIRED, .doc = "major number" },
	{ "minor", JK_INT,  IN(minor), .flags = JF_REQUIRED, .doc = "minor number" },
	{ "rate",  JK_UINT, IN(rate), .flags = JF_EMPTY, .doc = "bytes or operations a second" },
};
#undef IN
static const struct jtable throttle_table =
	JTABLE_OPEN("ThrottleDevice", struct oci_throttle_device, throttle_fields);

#define IN(m) offsetof(struct oci_block_io, m)
static const struct jfield block_io_fields[] = {
	{ "weight",     JK_UINT, IN(weight), .has = IN(has_weight), .max = UINT16_MAX,
	  .doc = "weight of the group" },
	{ "leafWeight", JK_UINT, IN(leaf_weight), .has = IN(has_leaf_weight), .max = UINT16_MAX,
	  .doc = "weight against child groups (v1)" },
	{ "weightDevice", JK_OBJV, IN(weight_devices), .sub = &weight_device_table,
	  .doc = "weight by device" },
	{ "throttleReadBpsDevice", JK_OBJV, IN(read_bps), .sub = &throttle_table,
	  .doc = "bytes read a second" },
	{ "throttleWriteBpsDevice", JK_OBJV, IN(write_bps), .sub = &throttle_table,
	  .doc = "bytes written a second" },
	{ "throttleReadIOPSDevice", JK_OBJV, IN(read_iops), .sub = &throttle_table,
	  .doc = "reads a second" },
	{ "throttleWriteIOPSDevice", JK_OBJV, IN(write_iops), .sub = &throttle_table,
	  .doc = "writes a second" },
};
#undef IN
static const struct jtable block_io_table =
	JTABLE_OPEN("BlockIO", struct oci_block_io, block_io_fields);

#define IN(m) offsetof(struct oci_hugepage_limit, m)
static const struct jfield hugepage_fields[] = {
	{ "pageSize", JK_STR,  IN(page_size), .flags = JF_REQUIRED, .doc = "such as 2MB" },
	{ "limit",    JK_UINT, IN(limit), .flags = JF_EMPTY, .doc = "bytes" },
};
#undef IN
static const struct jtable hugepage_table =
	JTABLE_OPEN("HugepageLimit", struct oci_hugepage_limit, hugepage_fields);

#define IN(m) offsetof(struct oci_net_priority, m)
static const struct jfield net_priority_fields[] = {
	{ "name",     JK_STR,  IN(name), .flags = JF_REQUIRED, .doc = "network interface" },
	{ "priority", JK_UINT, IN(priority), .max = UINT32_MAX, .flags = JF_EMPTY,
	  .doc = "priority" },
};
#undef IN
static const struct jtable net_priority_table =
	JTABLE_OPEN("NetworkPriority", struct oci_net_priority, net_priority_fields);

#define IN(m) offsetof(struct oci_network, m)
static const struct jfield network_fields[] = {
	{ "classID",    JK_UINT, IN(class_id), .has = IN(has_class_id), .max = UINT32_MAX,
	  .doc = "class of the packets (v1)" },
	{ "priorities", JK_OBJV, IN(priorities), .sub = &net_priority_table,
	  .doc = "priority by interface (v1)" },
};
#undef IN
static const struct jtable network_table =
	JTABLE_OPEN("NetworkResources", struct oci_network, network_fields);

#define IN(m) offsetof(struct oci_rdma, m)
static const struct jfield rdma_fields[] = {
	{ "hcaHandles", JK_UINT, IN(handles), .has = IN(has_handles), .max = UINT32_MAX,
	  .doc = "handles that may be opened" },
	{ "hcaObjects", JK_UINT, IN(objects), .has = IN(has_objects), .max = UINT32_MAX,
	  .doc = "objects that may be made" },
};
#undef IN
static const struct jtable rdma_table = JTABLE_OPEN("Rdma", struct oci_rdma, rdma_fields);

#define IN(m) offsetof(struct oci_resources, m)
static const struct jfield resources_fields[] = {
	{ "devices", JK_OBJV, IN(devices), .sub = &device_rule_table, .doc = "device rules" },
	{ "memory",  JK_OBJ, IN(memory), .sub = &memory_table, .doc = "memory limits" },
	{ "cpu",     JK_OBJ, IN(cpu), .sub = &cpu_table, .doc = "CPU limits" },
	{ "pids",    JK_OBJ, IN(pids), .sub = &pids_table, .doc = "limit of tasks" },
	{ "blockIO", JK_OBJ, IN(block_io), .sub = &block_io_table, .doc = "disk limits" },
	{ "hugepageLimits", JK_OBJV, IN(hugepages), .sub = &hugepage_table,
	  .doc = "limits of huge pages" },
	{ "network", JK_OBJ, IN(network), .sub = &network_table, .doc = "packet classes (v1)" },
	{ "rdma",    JK_OBJMAP, IN(rdma), .sub = &rdma_table, .doc = "RDMA limits" },
	{ "unified", JK_MAP, IN(unified), .doc = "files of the v2 group, as they are" },
};
#undef IN
const struct jtable oci_resources_table =
	JTABLE_OPEN("Resources", struct oci_resources, resources_fields);
