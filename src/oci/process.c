/* SPDX-License-Identifier: Apache-2.0 */
#include "oci/process.h"

#define IN(m) offsetof(struct oci_console_size, m)
static const struct jfield console_fields[] = {
	{ "height", JK_UINT, IN(height), .max = UINT16_MAX, .flags = JF_EMPTY, .doc = "rows" },
	{ "width",  JK_UINT, IN(width), .max = UINT16_MAX, .flags = JF_EMPTY, .doc = "columns" },
};
#undef IN
static const struct jtable console_table =
	JTABLE_OPEN("ConsoleSize", struct oci_console_size, console_fields);

/* (uid_t)-1 means "unchanged" to the kernel, so it names no user. */
#define ID_MAX (UINT32_MAX - 1)

#define IN(m) offsetof(struct oci_user, m)
static const struct jfield user_fields[] = {
	{ "uid",   JK_UINT, IN(uid), .max = ID_MAX, .flags = JF_EMPTY, .doc = "user id inside" },
	{ "gid",   JK_UINT, IN(gid), .max = ID_MAX, .flags = JF_EMPTY, .doc = "group id inside" },
	{ "umask", JK_UINT, IN(umask), .has = IN(has_umask), .max = 07777, .doc = "file mode mask" },
	{ "additionalGids", JK_UINTV, IN(additional_gids), .max = ID_MAX,
	  .doc = "supplementary groups" },
	{ "username", JK_STR, IN(username), .doc = "name; not used on Linux" },
};
#undef IN
static const struct jtable user_table = JTABLE_OPEN("User", struct oci_user, user_fields);

#define IN(m) offsetof(struct oci_caps, m)
static const struct jfield caps_fields[] = {
	{ "bounding",    JK_STRV, IN(bounding), .doc = "what the process may ever gain" },
	{ "effective",   JK_STRV, IN(effective), .doc = "what is checked" },
	{ "inheritable", JK_STRV, IN(inheritable), .doc = "kept over execve" },
	{ "permitted",   JK_STRV, IN(permitted), .doc = "what may become effective" },
	{ "ambient",     JK_STRV, IN(ambient), .doc = "kept over execve without file capabilities" },
};
#undef IN
static const struct jtable caps_table = JTABLE_OPEN("Capabilities", struct oci_caps, caps_fields);

#define IN(m) offsetof(struct oci_rlimit, m)
static const struct jfield rlimit_fields[] = {
	{ "type", JK_STR,  IN(type), .flags = JF_REQUIRED, .doc = "such as RLIMIT_NOFILE" },
	{ "hard", JK_UINT, IN(hard), .flags = JF_EMPTY, .doc = "ceiling of the soft limit" },
	{ "soft", JK_UINT, IN(soft), .flags = JF_EMPTY, .doc = "limit that the kernel enforces" },
};
#undef IN
static const struct jtable rlimit_table = JTABLE_OPEN("Rlimit", struct oci_rlimit, rlimit_fields);

#define IN(m) offsetof(struct oci_scheduler, m)
static const struct jfield scheduler_fields[] = {
	{ "policy",   JK_STR,  IN(policy), .flags = JF_REQUIRED, .doc = "such as SCHED_OTHER" },
	{ "nice",     JK_INT,  IN(nice), .doc = "-20 to 19" },
	{ "priority", JK_INT,  IN(priority), .doc = "static priority, 1 to 99" },
	{ "flags",    JK_STRV, IN(flags), .doc = "such as SCHED_FLAG_RESET_ON_FORK" },
	{ "runtime",  JK_UINT, IN(runtime), .doc = "nanoseconds, SCHED_DEADLINE" },
	{ "deadline", JK_UINT, IN(deadline), .doc = "nanoseconds, SCHED_DEADLINE" },
	{ "period",   JK_UINT, IN(period), .doc = "nanoseconds, SCHED_DEADLINE" },
};
#undef IN
static const struct jtable scheduler_table =
	JTABLE_OPEN("Scheduler", struct oci_scheduler, scheduler_fields);

#define IN(m) offsetof(struct oci_io_priority, m)
static const struct jfield io_priority_fields[] = {
	{ "class",    JK_STR, IN(class_name), .flags = JF_REQUIRED, .doc = "IOPRIO_CLASS_..." },
	{ "priority", JK_INT, IN(priority), .max = 7, .flags = JF_EMPTY, .doc = "0 (high) to 7" },
};
#undef IN
static const struct jtable io_priority_table =
	JTABLE_OPEN("IOPriority", struct oci_io_priority, io_priority_fields);

#define IN(m) offsetof(struct oci_cpu_affinity, m)
static const struct jfield affinity_fields[] = {
	{ "initial", JK_STR, IN(initial), .doc = "CPUs before the cgroup is joined" },
	{ "final",   JK_STR, IN(final), .doc = "CPUs after the cgroup is joined" },
};
#undef IN
static const struct jtable affinity_table =
	JTABLE_OPEN("CPUAffinity", struct oci_cpu_affinity, affinity_fields);

#define IN(m) offsetof(struct oci_process, m)
static const struct jfield process_fields[] = {
	{ "terminal", JK_BOOL, IN(terminal), .doc = "give the process a terminal" },
	{ "consoleSize", JK_OBJ, IN(console_size), .sub = &console_table, .doc = "its size" },
	{ "user",     JK_INLINE, IN(user), .sub = &user_table, .flags = JF_EMPTY,
	  .doc = "whom it runs as" },
	{ "args",     JK_STRV, IN(args), .doc = "program and arguments" },
	{ "commandLine", JK_STR, IN(command_line), .flags = JF_REFUSED,
	  .doc = "it belongs to Windows; use args" },
	{ "env",      JK_STRV, IN(env), .doc = "KEY=value" },
	{ "cwd",      JK_PATH, IN(cwd), .flags = JF_REQUIRED, .doc = "working directory" },
	{ "capabilities", JK_OBJ, IN(capabilities), .sub = &caps_table, .doc = "capability sets" },
	{ "rlimits",  JK_OBJV, IN(rlimits), .sub = &rlimit_table, .doc = "resource limits" },
	{ "noNewPrivileges", JK_BOOL, IN(no_new_privileges), .doc = "execve grants nothing" },
	{ "apparmorProfile", JK_STR, IN(apparmor_profile), .doc = "AppArmor profile" },
	{ "oomScoreAdj", JK_INT, IN(oom_score_adj), .has = IN(has_oom_score_adj), .min = -1000,
	  .max = 1000, .doc = "how soon it is killed when memory is out" },
	{ "scheduler", JK_OBJ, IN(scheduler), .sub = &scheduler_table, .doc = "scheduling policy" },
	{ "selinuxLabel", JK_STR, IN(selinux_label), .doc = "SELinux label" },
	{ "ioPriority", JK_OBJ, IN(io_priority), .sub = &io_priority_table, .doc = "disk priority" },
	{ "execCPUAffinity", JK_OBJ, IN(exec_cpu_affinity), .sub = &affinity_table,
	  .doc = "CPUs of a process that joins later" },
};
#undef IN
const struct jtable oci_process_table = JTABLE_OPEN("Process", struct oci_process, process_fields);
