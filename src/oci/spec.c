/* SPDX-License-Identifier: Apache-2.0 */
#include "oci/spec.h"

#include <errno.h>
#include <stdio.h>

const char *const oci_ns_names[OCI_NS__COUNT + 1] = {
	[OCI_NS_PID]     = "pid",
	[OCI_NS_NETWORK] = "network",
	[OCI_NS_MOUNT]   = "mount",
	[OCI_NS_IPC]     = "ipc",
	[OCI_NS_UTS]     = "uts",
	[OCI_NS_USER]    = "user",
	[OCI_NS_CGROUP]  = "cgroup",
	[OCI_NS_TIME]    = "time",
};

#define IN(m) offsetof(struct oci_namespace, m)
static const struct jfield namespace_fields[] = {
	{ "type", JK_ENUM, IN(type), .names = oci_ns_names, .flags = JF_REQUIRED, .doc = "kind" },
	{ "path", JK_STR,  IN(path), .doc = "namespace file to join" },
};
#undef IN
static const struct jtable namespace_table =
	JTABLE_OPEN("Namespace", struct oci_namespace, namespace_fields);

#define IN(m) offsetof(struct oci_id_map, m)
static const struct jfield id_map_fields[] = {
	{ "containerID", JK_UINT, IN(container_id), .max = UINT32_MAX, .flags = JF_EMPTY,
	  .doc = "first id inside" },
	{ "hostID", JK_UINT, IN(host_id), .max = UINT32_MAX, .flags = JF_EMPTY,
	  .doc = "first id outside" },
	{ "size",   JK_UINT, IN(size), .max = UINT32_MAX, .flags = JF_EMPTY, .doc = "how many ids" },
};
#undef IN
static const struct jtable id_map_table = JTABLE_OPEN("IDMapping", struct oci_id_map, id_map_fields);

#define IN(m) offsetof(struct oci_root, m)
static const struct jfield root_fields[] = {
	{ "path",     JK_STR,  IN(path), .flags = JF_REQUIRED, .min = 1, .max = 4095,
	  .doc = "root file system; relative to the bundle" },
	{ "readonly", JK_BOOL, IN(readonly), .doc = "no writes below the root" },
};
#undef IN
static const struct jtable root_table = JTABLE_OPEN("Root", struct oci_root, root_fields);

#define IN(m) offsetof(struct oci_mount, m)
static const struct jfield mount_fields[] = {
	{ "destination", JK_STR, IN(destination), .flags = JF_REQUIRED, .min = 1, .max = 4095,
	  .doc = "where, in the container" },
	{ "type",    JK_STR,  IN(type), .doc = "file system" },
	{ "source",  JK_STR,  IN(source), .doc = "device, or path on the host" },
	{ "options", JK_STRV, IN(options), .doc = "mount options" },
	{ "uidMappings", JK_OBJV, IN(uid_mappings), .sub = &id_map_table, .doc = "id mapping" },
	{ "gidMappings", JK_OBJV, IN(gid_mappings), .sub = &id_map_table, .doc = "id mapping" },
};
#undef IN
static const struct jtable mount_table = JTABLE_OPEN("Mount", struct oci_mount, mount_fields);

#define IN(m) offsetof(struct oci_hook, m)
static const struct jfield hook_fields[] = {
	{ "path",    JK_PATH, IN(path), .flags = JF_REQUIRED, .doc = "program, absolute" },
	{ "args",    JK_STRV, IN(args), .doc = "arguments with the name of the program" },
	{ "env",     JK_STRV, IN(env), .doc = "the whole environment" },
	{ "timeout", JK_INT,  IN(timeout_sec), .has = IN(has_timeout), .min = 1,
	  .max = INT32_MAX, .doc = "seconds" },
};
#undef IN
static const struct jtable hook_table = JTABLE_OPEN("Hook", struct oci_hook, hook_fields);

#define IN(m) offsetof(struct oci_hooks, m)
static const struct jfield hooks_fields[] = {
	{ "prestart", JK_OBJV, IN(prestart), .sub = &hook_table, .doc = "deprecated" },
	{ "createRuntime", JK_OBJV, IN(create_runtime), .sub = &hook_table,
	  .doc = "after the namespaces, in the runtime's" },
	{ "createContainer", JK_OBJV, IN(create_container), .sub = &hook_table,
	  .doc = "before pivot_root, in the container's namespaces" },
	{ "startContainer", JK_OBJV, IN(start_container), .sub = &hook_table,
	  .doc = "before the process, in the container" },
	{ "poststart", JK_OBJV, IN(poststart), .sub = &hook_table, .doc = "after the start" },
	{ "poststop", JK_OBJV, IN(poststop), .sub = &hook_table, .doc = "after the deletion" },
};
#undef IN
static const struct jtable hooks_table = JTABLE_OPEN("Hooks", struct oci_hooks, hooks_fields);

#define IN(m) offsetof(struct oci_linux_device, m)
static const struct jfield device_fields[] = {
	{ "path",  JK_PATH, IN(path), .flags = JF_REQUIRED, .doc = "in the container" },
	{ "type",  JK_STR,  IN(type), .flags = JF_REQUIRED, .doc = "c, b, u or p" },
	{ "major", JK_INT,  IN(major), .flags = JF_EMPTY, .doc = "major number" },
	{ "minor", JK_INT,  IN(minor), .flags = JF_EMPTY, .doc = "minor number" },
	{ "fileMode", JK_UINT, IN(mode), .has = IN(has_mode), .max = UINT32_MAX, .doc = "mode" },
	{ "uid",   JK_UINT, IN(uid), .max = UINT32_MAX - 1, .doc = "owner inside" },
	{ "gid",   JK_UINT, IN(gid), .max = UINT32_MAX - 1, .doc = "group inside" },
};
#undef IN
static const struct jtable device_table =
	JTABLE_OPEN("Device", struct oci_linux_device, device_fields);

#define IN(m) offsetof(struct oci_net_device, m)
static const struct jfield net_device_fields[] = {
	{ "name", JK_STR, IN(name), .doc = "name inside" },
};
#undef IN
static const struct jtable net_device_table =
	JTABLE_OPEN("NetDevice", struct oci_net_device, net_device_fields);

#define IN(m) offsetof(struct oci_time_offset, m)
static const struct jfield time_offset_fields[] = {
	{ "secs",     JK_INT,  IN(secs), .flags = JF_EMPTY, .doc = "seconds" },
	{ "nanosecs", JK_UINT, IN(nanosecs), .max = 999999999, .doc = "nanoseconds" },
};
#undef IN
static const struct jtable time_offset_table =
	JTABLE_OPEN("TimeOffset", struct oci_time_offset, time_offset_fields);

#define IN(m) offsetof(struct oci_personality, m)
static const struct jfield personality_fields[] = {
	{ "domain", JK_STR,  IN(domain), .flags = JF_REQUIRED, .doc = "LINUX or LINUX32" },
	{ "flags",  JK_STRV, IN(flags), .doc = "none is defined" },
};
#undef IN
static const struct jtable personality_table =
	JTABLE_OPEN("Personality", struct oci_personality, personality_fields);

#define IN(m) offsetof(struct oci_intel_rdt, m)
static const struct jfield intel_rdt_fields[] = {
	{ "closID",      JK_STR, IN(clos_id), .doc = "class of service" },
	{ "schemata",    JK_STRV, IN(schemata), .doc = "lines for the schemata file" },
	{ "l3CacheSchema", JK_STR, IN(l3_schema), .doc = "cache masks" },
	{ "memBwSchema", JK_STR, IN(mem_bw_schema), .doc = "memory bandwidth" },
	{ "enableMonitoring", JK_BOOL, IN(enable_monitoring), .doc = "a monitoring group" },
};
#undef IN
static const struct jtable intel_rdt_table =
	JTABLE_OPEN("IntelRdt", struct oci_intel_rdt, intel_rdt_fields);

#define IN(m) offsetof(struct oci_memory_policy, m)
static const struct jfield memory_policy_fields[] = {
	{ "mode",  JK_STR,  IN(mode), .flags = JF_REQUIRED, .doc = "MPOL_..." },
	{ "nodes", JK_STR,  IN(nodes), .doc = "memory nodes: 0-1" },
	{ "flags", JK_STRV, IN(flags), .doc = "MPOL_F_..." },
};
#undef IN
static const struct jtable memory_policy_table =
	JTABLE_OPEN("MemoryPolicy", struct oci_memory_policy, memory_policy_fields);

#define IN(m) offsetof(struct oci_linux, m)
static const struct jfield linux_fields[] = {
	{ "namespaces",  JK_OBJV, IN(namespaces), .sub = &namespace_table, .doc = "made or joined" },
	{ "uidMappings", JK_OBJV, IN(uid_mappings), .sub = &id_map_table, .doc = "of the user namespace" },
	{ "gidMappings", JK_OBJV, IN(gid_mappings), .sub = &id_map_table, .doc = "of the user namespace" },
	{ "timeOffsets", JK_OBJMAP, IN(time_offsets), .sub = &time_offset_table,
	  .doc = "of the time namespace" },
	{ "devices",     JK_OBJV, IN(devices), .sub = &device_table, .doc = "device nodes" },
	{ "netDevices",  JK_OBJMAP, IN(net_devices), .sub = &net_device_table,
	  .doc = "interfaces moved into the network namespace" },
	{ "cgroupsPath", JK_STR, IN(cgroups_path), .doc = "control group" },
	{ "resources",   JK_OBJ, IN(resources), .sub = &oci_resources_table, .doc = "limits" },
	{ "intelRdt",    JK_OBJ, IN(intel_rdt), .sub = &intel_rdt_table, .doc = "cache and bandwidth" },
	{ "memoryPolicy", JK_OBJ, IN(memory_policy), .sub = &memory_policy_table,
	  .doc = "memory policy of the process" },
	{ "sysctl",      JK_MAP, IN(sysctl), .doc = "kernel parameters of the namespaces" },
	{ "seccomp",     JK_OBJ, IN(seccomp), .sub = &oci_seccomp_table, .doc = "system call filter" },
	{ "rootfsPropagation", JK_STR, IN(rootfs_propagation), .doc = "mount propagation of the root" },
	{ "maskedPaths", JK_STRV, IN(masked_paths), .doc = "hidden" },
	{ "readonlyPaths", JK_STRV, IN(readonly_paths), .doc = "not writable" },
	{ "mountLabel",  JK_STR, IN(mount_label), .doc = "SELinux label of the mounts" },
	{ "personality", JK_OBJ, IN(personality), .sub = &personality_table, .doc = "execution domain" },
};
#undef IN
static const struct jtable linux_table = JTABLE_OPEN("Linux", struct oci_linux, linux_fields);

#define IN(m) offsetof(struct oci_spec, m)
static const struct jfield spec_fields[] = {
	{ "ociVersion", JK_STR, IN(oci_version), .flags = JF_REQUIRED, .doc = "1.0.0 to 1.3.x" },
	{ "root",       JK_OBJ, IN(root), .sub = &root_table, .doc = "root file system" },
	{ "mounts",     JK_OBJV, IN(mounts), .sub = &mount_table, .doc = "in the order of mounting" },
	{ "process",    JK_OBJ, IN(process), .sub = &oci_process_table, .doc = "what is run" },
	{ "hostname",   JK_STR, IN(hostname), .max = 64, .doc = "of the UTS namespace" },
	{ "domainname", JK_STR, IN(domainname), .max = 64, .doc = "of the UTS namespace" },
	{ "hooks",      JK_OBJ, IN(hooks), .sub = &hooks_table, .doc = "programs run at set moments" },
	{ "annotations", JK_MAP, IN(annotations), .doc = "free text by key" },
	{ "linux",      JK_OBJ, IN(linux), .sub = &linux_table, .doc = "what is Linux alone" },
	{ "vm",      JK_RAW, 0, .flags = JF_REFUSED, .doc = "holm-oci runs containers; use holm for VMs" },
	{ "windows", JK_RAW, 0, .flags = JF_REFUSED, .doc = "this is Linux" },
	{ "solaris", JK_RAW, 0, .flags = JF_REFUSED, .doc = "this is Linux" },
	{ "zos",     JK_RAW, 0, .flags = JF_REFUSED, .doc = "this is Linux" },
	{ "freebsd", JK_RAW, 0, .flags = JF_REFUSED, .doc = "this is Linux" },
};
#undef IN
const struct jtable oci_spec_table = JTABLE_OPEN("Spec", struct oci_spec, spec_fields);

const struct oci_namespace *oci_linux_ns(const struct oci_linux *l, enum oci_ns type)
{
	for (size_t i = 0; l && i < l->namespaces.n; i++) {
		const struct oci_namespace *ns = (const struct oci_namespace *)l->namespaces.v + i;

		if (ns->type == (int)type) {
			return ns;
		}
	}
	return NULL;
}

/* Major 1 is what this is for; a minor that is not known yet may hold anything. */
static int check_version(const char *version, struct err *e)
{
	unsigned major, minor, patch;

	if (sscanf(version, "%u.%u.%u", &major, &minor, &patch) != 3) {
		return err_field(e, "/ociVersion", "'%.40s' is not a version such as 1.0.2", version);
	}
	if (major != 1 || minor > 3) {
		return err_field(e, "/ociVersion", "%.40s is not supported; 1.0.0 to 1.3.x are",
				 version);
	}
	return 0;
}

static int check_namespaces(const struct oci_linux *l, struct err *e)
{
	unsigned seen = 0;

	for (size_t i = 0; i < l->namespaces.n; i++) {
		const struct oci_namespace *ns = (const struct oci_namespace *)l->namespaces.v + i;
		char field[48];

		(void)snprintf(field, sizeof(field), "/linux/namespaces/%zu", i);
		if (seen & BIT(ns->type)) {
			return err_field(e, field, "the %s namespace stands twice",
					 oci_ns_names[ns->type]);
		}
		if (ns->path && ns->path[0] != '/' && ns->path[0] != '\0') {
			return err_field(e, field, "path '%.60s' is not absolute", ns->path);
		}
		seen |= (unsigned)BIT(ns->type);
	}
	return 0;
}

static int check_mappings(const struct jvec *maps, const char *field, struct err *e)
{
	for (size_t i = 0; i < maps->n; i++) {
		const struct oci_id_map *m = (const struct oci_id_map *)maps->v + i;

		if (m->size == 0 || m->container_id + m->size > UINT32_MAX ||
		    m->host_id + m->size > UINT32_MAX) {
			return err_field(e, field, "mapping %zu is empty or passes the last id", i);
		}
	}
	return 0;
}

static int check_linux(const struct oci_linux *l, struct err *e)
{
	int r = check_namespaces(l, e);

	r = r < 0 ? r : check_mappings(&l->uid_mappings, "/linux/uidMappings", e);
	r = r < 0 ? r : check_mappings(&l->gid_mappings, "/linux/gidMappings", e);
	if (r < 0) {
		return r;
	}
	const struct oci_namespace *user = oci_linux_ns(l, OCI_NS_USER);
	const struct oci_namespace *time = oci_linux_ns(l, OCI_NS_TIME);

	if (!user && (l->uid_mappings.n > 0 || l->gid_mappings.n > 0)) {
		return err_field(e, "/linux/uidMappings",
				 "id mappings need a user namespace in /linux/namespaces");
	}
	if (l->time_offsets.n > 0 && (!time || time->path)) {
		return err_field(e, "/linux/timeOffsets",
				 "offsets need a new time namespace in /linux/namespaces");
	}
	return 0;
}

int oci_spec_parse(const json_t *doc, struct arena *a, struct oci_spec *ret, struct err *e)
{
	int r = jtable_parse(&oci_spec_table, doc, a, ret, e);

	r = r < 0 ? r : check_version(ret->oci_version, e);
	if (r == 0 && !ret->root) {
		r = err_field(e, "/root", "is required");
	}
	if (r == 0 && ret->linux) {
		r = check_linux(ret->linux, e);
	}
	return r;
}

int oci_process_parse(const json_t *doc, struct arena *a, struct oci_process *ret, struct err *e)
{
	return jtable_parse(&oci_process_table, doc, a, ret, e);
}
