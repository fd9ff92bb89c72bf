/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The OCI runtime config (config.json) as a struct.
 *
 *	auto_arena struct arena a = ARENA_INIT;
 *	auto_json json_t *doc = NULL;
 *	struct oci_spec spec;
 *
 *	r = json_parse(text, len, &json_limits_document, "config.json", &doc, &e);
 *	r = r < 0 ? r : oci_spec_parse(doc, &a, &spec, &e);
 *
 * Unknown keys are ignored, as the specification demands; what it allows and Holm does not
 * do is refused by name. All strings live in the arena.
 *
 * Spec: oci-runtime 1.3, config.md and config-linux.md
 */
#ifndef OCI_SPEC_H
#define OCI_SPEC_H

#include "oci/process.h"
#include "oci/resources.h"
#include "oci/seccomp.h"

/* The newest edition of the specification that is known here. */
#define OCI_SPEC_VERSION "1.3.0"

enum oci_ns {
	OCI_NS_PID,
	OCI_NS_NETWORK,
	OCI_NS_MOUNT,
	OCI_NS_IPC,
	OCI_NS_UTS,
	OCI_NS_USER,
	OCI_NS_CGROUP,
	OCI_NS_TIME,
	OCI_NS__COUNT,
};

/* The document's names ("pid", "network" ...), NULL at the end. */
extern const char *const oci_ns_names[OCI_NS__COUNT + 1];

struct oci_namespace {
	int         type;       /* enum oci_ns */
	const char *path;       /* joined instead of made; NULL: made */
};

struct oci_id_map {
	uint64_t container_id, host_id, size;
};

struct oci_root {
	const char *path;
	bool        readonly;
};

struct oci_mount {
	const char  *destination;
	const char  *type;              /* NULL for binds */
	const char  *source;
	struct jstrv options;
	struct jvec  uid_mappings;      /* struct oci_id_map */
	struct jvec  gid_mappings;
};

struct oci_hook {
	const char  *path;
	struct jstrv args;              /* with args[0] */
	struct jstrv env;
	bool         has_timeout;
	int64_t      timeout_sec;
};

struct oci_hooks {                      /* vectors of struct oci_hook */
	struct jvec prestart;           /* deprecated; before create_runtime */
	struct jvec create_runtime;
	struct jvec create_container;
	struct jvec start_container;
	struct jvec poststart;
	struct jvec poststop;
};

struct oci_linux_device {
	const char *path;
	const char *type;               /* "c", "b", "u", "p" */
	int64_t     major, minor;
	bool        has_mode;
	uint64_t    mode;
	uint64_t    uid, gid;
};

struct oci_net_device {
	const char *name;               /* inside; NULL: unchanged */
};

struct oci_time_offset {
	int64_t  secs;
	uint64_t nanosecs;
};

struct oci_personality {
	const char  *domain;            /* "LINUX", "LINUX32" */
	struct jstrv flags;
};

struct oci_intel_rdt {
	const char  *clos_id;
	struct jstrv schemata;
	const char  *l3_schema;
	const char  *mem_bw_schema;
	bool         enable_monitoring;
};

struct oci_memory_policy {
	const char  *mode;              /* "MPOL_BIND" ... */
	const char  *nodes;
	struct jstrv flags;
};

struct oci_linux {
	struct jvec               namespaces;       /* struct oci_namespace */
	struct jvec               uid_mappings;     /* struct oci_id_map */
	struct jvec               gid_mappings;
	struct jobjmap            time_offsets;     /* "monotonic", "boottime" */
	struct jvec               devices;          /* struct oci_linux_device */
	struct jobjmap            net_devices;      /* host name to struct oci_net_device */
	const char               *cgroups_path;
	struct oci_resources     *resources;        /* NULL: absent */
	struct oci_intel_rdt     *intel_rdt;
	struct oci_memory_policy *memory_policy;
	struct jmap               sysctl;
	struct oci_seccomp       *seccomp;
	const char               *rootfs_propagation;
	struct jstrv              masked_paths;
	struct jstrv              readonly_paths;
	const char               *mount_label;
	struct oci_personality   *personality;
};

struct oci_spec {
	const char         *oci_version;
	struct oci_root    *root;
	struct jvec         mounts;     /* struct oci_mount */
	struct oci_process *process;
	const char         *hostname;
	const char         *domainname;
	struct oci_hooks   *hooks;
	struct jmap         annotations;
	struct oci_linux   *linux;
};

extern const struct jtable oci_spec_table;

/*
 * Parse and check a whole config: what the tables say, and what holds between fields
 * (a version that is known, no namespace twice, mappings only with a user namespace ...).
 * Returns 0, or -errno with *e naming the field.
 */
int oci_spec_parse(const json_t *doc, struct arena *a, struct oci_spec *ret,
		   struct err *e) must_check;

/* The same for a process object alone. */
int oci_process_parse(const json_t *doc, struct arena *a, struct oci_process *ret,
		      struct err *e) must_check;

/* The namespace of a type, or NULL: it is the caller's. `l` may be NULL. */
const struct oci_namespace *oci_linux_ns(const struct oci_linux *l, enum oci_ns type);

#endif
