/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The process object of an OCI runtime config, which `exec --process` takes too.
 *
 * Spec: oci-runtime 1.3, config.md, Process
 */
#ifndef OCI_PROCESS_H
#define OCI_PROCESS_H

#include "json/table.h"

struct oci_console_size {
	uint64_t height, width;     /* characters */
};

struct oci_user {
	uint64_t       uid, gid;    /* in the container; below 2^32 */
	bool           has_umask;
	uint64_t       umask;
	struct juintv  additional_gids;
	const char    *username;    /* not used on Linux; kept for writing back */
};

/* Names as "CAP_CHOWN". */
struct oci_caps {
	struct jstrv bounding, effective, inheritable, permitted, ambient;
};

struct oci_rlimit {
	const char *type;           /* "RLIMIT_NOFILE" */
	uint64_t    hard, soft;
};

struct oci_scheduler {
	const char  *policy;        /* "SCHED_OTHER" ... */
	int64_t      nice;
	int64_t      priority;
	struct jstrv flags;         /* "SCHED_FLAG_RESET_ON_FORK" ... */
	uint64_t     runtime, deadline, period; /* nanoseconds, SCHED_DEADLINE */
};

struct oci_io_priority {
	const char *class_name;     /* "IOPRIO_CLASS_RT", "_BE", "_IDLE" */
	int64_t     priority;       /* 0..7 */
};

struct oci_cpu_affinity {
	const char *initial;        /* before the process joins its cgroup */
	const char *final;          /* and after */
};

struct oci_process {
	bool                     terminal;
	bool                     no_new_privileges;
	bool                     has_oom_score_adj;
	struct oci_console_size *console_size;      /* NULL: absent */
	struct oci_user          user;
	struct jstrv             args;
	const char              *command_line;      /* Windows; refused */
	struct jstrv             env;               /* "KEY=value" */
	const char              *cwd;               /* absolute, in the container */
	struct oci_caps         *capabilities;      /* NULL: absent: none of them */
	struct jvec              rlimits;           /* struct oci_rlimit */
	const char              *apparmor_profile;
	int64_t                  oom_score_adj;
	struct oci_scheduler    *scheduler;
	const char              *selinux_label;
	struct oci_io_priority  *io_priority;
	struct oci_cpu_affinity *exec_cpu_affinity;
};

extern const struct jtable oci_process_table;

#endif
