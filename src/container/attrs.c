/* SPDX-License-Identifier: Apache-2.0 */
#include "container/attrs.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <limits.h>
#include <linux/keyctl.h>
#include <stdio.h>
#include <string.h>
#include <sys/personality.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>

#include "base/fd.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/str.h"
#include "sys/cred.h"
#include "sys/file.h"
#include "sys/proc.h"
#include "sys/procfs.h"

enum { CPUS_MAX = 8192, OOM_MAX = 1000 };

struct name_value {
	const char *name;
	unsigned    value;
};

static int name_find(const struct name_value *t, size_t n, const char *name)
{
	for (size_t i = 0; i < n; i++) {
		if (str_eq(t[i].name, name)) {
			return (int)t[i].value;
		}
	}
	return -EINVAL;
}

static const struct name_value rlimit_names[] = {
	{ "RLIMIT_AS", RLIMIT_AS }, { "RLIMIT_CORE", RLIMIT_CORE }, { "RLIMIT_CPU", RLIMIT_CPU },
	{ "RLIMIT_DATA", RLIMIT_DATA }, { "RLIMIT_FSIZE", RLIMIT_FSIZE },
	{ "RLIMIT_LOCKS", RLIMIT_LOCKS }, { "RLIMIT_MEMLOCK", RLIMIT_MEMLOCK },
	{ "RLIMIT_MSGQUEUE", RLIMIT_MSGQUEUE }, { "RLIMIT_NICE", RLIMIT_NICE },
	{ "RLIMIT_NOFILE", RLIMIT_NOFILE }, { "RLIMIT_NPROC", RLIMIT_NPROC },
	{ "RLIMIT_RSS", RLIMIT_RSS }, { "RLIMIT_RTPRIO", RLIMIT_RTPRIO },
	{ "RLIMIT_RTTIME", RLIMIT_RTTIME }, { "RLIMIT_SIGPENDING", RLIMIT_SIGPENDING },
	{ "RLIMIT_STACK", RLIMIT_STACK },
};

static const struct name_value policy_names[] = {
	{ "SCHED_OTHER", 0 }, { "SCHED_FIFO", 1 }, { "SCHED_RR", 2 }, { "SCHED_BATCH", 3 },
	{ "SCHED_ISO", 4 }, { "SCHED_IDLE", 5 }, { "SCHED_DEADLINE", 6 },
};

static const struct name_value sched_flag_names[] = {
	{ "SCHED_FLAG_RESET_ON_FORK", 0x01 }, { "SCHED_FLAG_RECLAIM", 0x02 },
	{ "SCHED_FLAG_DL_OVERRUN", 0x04 }, { "SCHED_FLAG_KEEP_POLICY", 0x08 },
	{ "SCHED_FLAG_KEEP_PARAMS", 0x10 }, { "SCHED_FLAG_UTIL_CLAMP_MIN", 0x20 },
	{ "SCHED_FLAG_UTIL_CLAMP_MAX", 0x40 },
};

static const struct name_value io_class_names[] = {
	{ "IOPRIO_CLASS_RT", 1 }, { "IOPRIO_CLASS_BE", 2 }, { "IOPRIO_CLASS_IDLE", 3 },
};

static int write_proc(int proc_fd, const char *path, const char *text)
{
	return procfs_write(proc_fd, path, text, strlen(text));
}

static int check_rlimits(const struct jvec *rlimits, struct err *e)
{
	const struct oci_rlimit *l = rlimits->v;

	for (size_t i = 0; i < rlimits->n; i++) {
		if (name_find(rlimit_names, ARRAY_LEN(rlimit_names), l[i].type) < 0) {
			return err_field(e, "/process/rlimits", "no such limit: '%.40s'", l[i].type);
		}
		if (l[i].soft > l[i].hard) {
			return err_field(e, "/process/rlimits", "%s: soft %llu is above hard %llu",
					 l[i].type, (unsigned long long)l[i].soft,
					 (unsigned long long)l[i].hard);
		}
		for (size_t k = 0; k < i; k++) {
			if (str_eq(l[k].type, l[i].type)) {
				return err_field(e, "/process/rlimits", "%s stands there twice",
						 l[i].type);
			}
		}
	}
	return 0;
}

int attrs_set_rlimits(pid_t pid, const struct jvec *rlimits, struct err *e)
{
	const struct oci_rlimit *l = rlimits->v;
	int r = check_rlimits(rlimits, e);

	for (size_t i = 0; i < rlimits->n && r == 0; i++) {
		int which = name_find(rlimit_names, ARRAY_LEN(rlimit_names), l[i].type);
		struct rlimit set = { .rlim_cur = l[i].soft, .rlim_max = l[i].hard }, old = { 0 };

		r = sys_prlimit(pid, which, &set, NULL);
		if (r == -EPERM && sys_prlimit(pid, which, NULL, &old) == 0 &&
		    set.rlim_max > old.rlim_max) {
			return err_set(e, EPERM, ERR_HOST,
				       "raise the hard limit %s from %llu to %llu: that needs "
				       "CAP_SYS_RESOURCE; ask for %llu or less", l[i].type,
				       (unsigned long long)old.rlim_max, (unsigned long long)l[i].hard,
				       (unsigned long long)old.rlim_max);
		}
		if (r < 0) {
			return err_set(e, -r, ERR_HOST, "set %s to %llu:%llu", l[i].type,
				       (unsigned long long)l[i].soft, (unsigned long long)l[i].hard);
		}
	}
	return r;
}

static int check_oom(int64_t value, struct err *e)
{
	if (value < -OOM_MAX || value > OOM_MAX) {
		return err_field(e, "/process/oomScoreAdj", "%lld is not between -%d and %d",
				 (long long)value, OOM_MAX, OOM_MAX);
	}
	return 0;
}

int attrs_set_oom_score_adj(int proc_fd, pid_t pid, int64_t value, bool rootless, struct err *e)
{
	char path[48] = "thread-self/oom_score_adj", text[16];
	int r = check_oom(value, e);

	if (r < 0) {
		return r;
	}
	if (pid > 0) {
		snprintf(path, sizeof(path), "%d/oom_score_adj", pid);
	}
	snprintf(text, sizeof(text), "%d", (int)value);
	r = write_proc(proc_fd, path, text);
	if ((r == -EACCES || r == -EPERM) && rootless) {
		log_warn("left oom_score_adj as it is: lowering it needs CAP_SYS_RESOURCE",
			 "asked", text);
		return 0;
	}
	if (r == -EACCES || r == -EPERM) {
		return err_set(e, -r, ERR_HOST,
			       "set oom_score_adj to %s: lowering it needs CAP_SYS_RESOURCE", text);
	}
	return r < 0 ? err_set(e, -r, ERR_HOST, "set oom_score_adj to %s", text) : 0;
}

/* "0-3,7" as a mask. */
static int parse_cpus(const char *text, uint8_t mask[CPUS_MAX / 8])
{
	const char *cursor = text, *part = NULL;
	size_t len = 0;

	memset(mask, 0, CPUS_MAX / 8);
	while (str_split(&cursor, ',', &part, &len)) {
		char one[24];
		char *dash = NULL;
		uint64_t first = 0, last = 0;

		while (len > 0 && (*part == ' ' || *part == '\n')) {
			part++;
			len--;
		}
		while (len > 0 && (part[len - 1] == ' ' || part[len - 1] == '\n')) {
			len--;
		}
		if (len == 0 || len >= sizeof(one)) {
			return -EINVAL;
		}
		memcpy(one, part, len);
		one[len] = '\0';
		dash = strchr(one, '-');
		if (dash) {
			*dash++ = '\0';
		}
		if (parse_u64(one, CPUS_MAX - 1, &first) < 0 ||
		    parse_u64(dash ? dash : one, CPUS_MAX - 1, &last) < 0 || last < first) {
			return -EINVAL;
		}
		for (uint64_t c = first; c <= last; c++) {
			mask[c / 8] |= (uint8_t)(1u << (c % 8));
		}
	}
	return 0;
}

int attrs_set_affinity(pid_t pid, const char *cpus, struct err *e)
{
	uint8_t mask[CPUS_MAX / 8];
	int r = 0;

	if (!cpus || !*cpus) {
		return 0;
	}
	if (parse_cpus(cpus, mask) < 0) {
		return err_field(e, "/process/execCPUAffinity", "'%.80s' is not a list of CPUs", cpus);
	}
	r = sys_sched_setaffinity(pid, sizeof(mask), mask);
	return r < 0 ? err_set(e, -r, ERR_HOST, "run on the CPUs %s", cpus) : 0;
}

static int check_affinity(const struct oci_cpu_affinity *a, struct err *e)
{
	const char *const lists[] = { a ? a->initial : NULL, a ? a->final : NULL };
	uint8_t mask[CPUS_MAX / 8];

	for (size_t i = 0; i < ARRAY_LEN(lists); i++) {
		if (lists[i] && *lists[i] && parse_cpus(lists[i], mask) < 0) {
			return err_field(e, "/process/execCPUAffinity",
					 "'%.80s' is not a list of CPUs", lists[i]);
		}
	}
	return 0;
}

int attrs_set_personality(const struct oci_personality *p, struct err *e)
{
	int r = 0;

	if (!p) {
		return 0;
	}
	if (p->flags.n > 0) {
		return err_field(e, "/linux/personality/flags", "no flag is defined: '%.40s'",
				 p->flags.v[0]);
	}
	if (!str_eq0(p->domain, "LINUX") && !str_eq0(p->domain, "LINUX32")) {
		return err_field(e, "/linux/personality/domain", "'%.40s' is not LINUX or LINUX32",
				 p->domain ? p->domain : "");
	}
	r = sys_personality(str_eq(p->domain, "LINUX32") ? PER_LINUX32 : PER_LINUX);
	return r < 0 ? err_set(e, -r, ERR_HOST, "set the personality %s", p->domain) : 0;
}

static int sched_attr(const struct oci_scheduler *s, struct sys_sched_attr *ret, struct err *e)
{
	int policy = name_find(policy_names, ARRAY_LEN(policy_names), s->policy ? s->policy : "");
	struct sys_sched_attr a = { .nice = (int32_t)s->nice, .priority = (uint32_t)s->priority,
				    .runtime_ns = s->runtime, .deadline_ns = s->deadline,
				    .period_ns = s->period };

	if (policy < 0) {
		return err_field(e, "/process/scheduler/policy", "no such policy: '%.40s'",
				 s->policy ? s->policy : "");
	}
	if (s->nice < -20 || s->nice > 19) {
		return err_field(e, "/process/scheduler/nice", "%lld is not between -20 and 19",
				 (long long)s->nice);
	}
	if (s->priority < 0 || s->priority > 99) {
		return err_field(e, "/process/scheduler/priority", "%lld is not between 0 and 99",
				 (long long)s->priority);
	}
	for (size_t i = 0; i < s->flags.n; i++) {
		int f = name_find(sched_flag_names, ARRAY_LEN(sched_flag_names), s->flags.v[i]);

		if (f < 0) {
			return err_field(e, "/process/scheduler/flags", "no such flag: '%.40s'",
					 s->flags.v[i]);
		}
		a.flags |= (unsigned)f;
	}
	a.policy = (uint32_t)policy;
	*ret = a;
	return 0;
}

int attrs_set_scheduler(const struct oci_scheduler *s, struct err *e)
{
	struct sys_sched_attr a;
	int r = s ? sched_attr(s, &a, e) : 0;

	if (!s || r < 0) {
		return r;
	}
	r = sys_sched_setattr(0, &a);
	return r < 0 ? err_set(e, -r, ERR_HOST, "set the scheduler %s", s->policy) : 0;
}

static int io_priority(const struct oci_io_priority *p, struct err *e)
{
	int class = name_find(io_class_names, ARRAY_LEN(io_class_names),
			      p->class_name ? p->class_name : "");

	if (class < 0) {
		return err_field(e, "/process/ioPriority/class", "no such class: '%.40s'",
				 p->class_name ? p->class_name : "");
	}
	if (p->priority < 0 || p->priority > 7) {
		return err_field(e, "/process/ioPriority/priority", "%lld is not between 0 and 7",
				 (long long)p->priority);
	}
	return class << 13 | (int)p->priority;
}

int attrs_set_io_priority(const struct oci_io_priority *p, struct err *e)
{
	int value = p ? io_priority(p, e) : 0;
	int r = 0;

	if (!p || value < 0) {
		return value;
	}
	r = sys_ioprio_set(1 /* a process */, 0, value);
	return r < 0 ? err_set(e, -r, ERR_HOST, "set the I/O priority %s:%d", p->class_name,
			       (int)p->priority) : 0;
}

int attrs_join_keyring(const char *container_id, struct err *e)
{
	char name[160], text[256] = "";
	const char *perm = text;
	uint64_t bits = 0;
	long ring = 0;

	snprintf(name, sizeof(name), "_ses.%s", container_id);
	ring = sys_keyctl(KEYCTL_JOIN_SESSION_KEYRING, (uintptr_t)name, 0, 0, 0);
	if (ring == -ENOSYS) {
		return 0;
	}
	if (ring < 0) {
		return err_set(e, (int)-ring, ERR_HOST, "join the session keyring %s", name);
	}
	/*
	 * Let a later exec of the same user find it by name. "type;uid;gid;perm;name"; where
	 * that fails the exec gets a keyring of its own, which is as safe.
	 */
	if (sys_keyctl(KEYCTL_DESCRIBE, (unsigned long)ring, (uintptr_t)text, sizeof(text) - 1, 0) < 0) {
		return 0;
	}
	for (int i = 0; i < 3 && perm; i++) {
		perm = strchr(perm, ';');
		perm = perm ? perm + 1 : NULL;
	}
	if (perm && strchr(perm, ';')) {
		*strchr(perm, ';') = '\0';
		if (parse_u64_base(perm, 16, UINT32_MAX, &bits) == 0) {
			ignore_result(sys_keyctl(KEYCTL_SETPERM, (unsigned long)ring,
						 bits | 0x00080000 /* the user may search */, 0, 0));
			/* as said above */
		}
	}
	return 0;
}

static int bad_label(struct err *e, int r, enum err_code code, const char *field, const char *what)
{
	r = err_set(e, -r, code, "%s", what);
	snprintf(e->field, sizeof(e->field), "/process/%s", field);
	return r;
}

static int set_apparmor(int proc_fd, const char *profile, struct err *e)
{
	auto_free char *text = str_printf("exec %s", profile);
	auto_close int fd = procfs_openat(proc_fd, "thread-self/attr/apparmor/exec", O_WRONLY);
	char what[160];

	if (!text) {
		return err_nomem(e);
	}
	if (fd == -ENOENT) {
		snprintf(what, sizeof(what), "\"%.80s\": this kernel runs without AppArmor", profile);
		return bad_label(e, -ENOTSUP, ERR_UNSUPPORTED, "apparmorProfile", what);
	}
	int r = fd < 0 ? fd : sys_write_full(fd, text, strlen(text));

	if (r == -ENOENT) {
		snprintf(what, sizeof(what), "no AppArmor profile \"%.80s\" is loaded: load it with "
			 "apparmor_parser", profile);
		return bad_label(e, r, ERR_INVALID, "apparmorProfile", what);
	}
	if (r < 0) {
		snprintf(what, sizeof(what), "the kernel refuses the AppArmor profile \"%.80s\"", profile);
		return bad_label(e, r, ERR_HOST, "apparmorProfile", what);
	}
	return 0;
}

int attrs_set_labels(int proc_fd, const char *apparmor, const char *selinux, struct err *e)
{
	int r = apparmor && *apparmor ? set_apparmor(proc_fd, apparmor, e) : 0;

	if (r == 0 && selinux && *selinux) {
		r = write_proc(proc_fd, "thread-self/attr/exec", selinux);
		if (r < 0) {
			char what[160];

			snprintf(what, sizeof(what), "\"%.80s\": this kernel runs without SELinux, or "
				 "its policy refuses the label", selinux);
			return bad_label(e, r, ERR_UNSUPPORTED, "selinuxLabel", what);
		}
	}
	return r;
}

int attrs_set_no_new_privs(struct err *e)
{
	int r = sys_prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);

	return r < 0 ? err_set(e, -r, ERR_HOST, "set no_new_privs") : 0;
}

static int check_user(const struct oci_user *u, struct err *e)
{
	uint64_t bad = UINT64_C(1) << 32;

	/* 2^32 - 1 means "leave it as it is" to the kernel: the caller would stay root. */
	if (u->uid >= UINT32_MAX || u->gid >= UINT32_MAX) {
		return err_field(e, u->uid >= UINT32_MAX ? "/process/user/uid" : "/process/user/gid",
				 "is not between 0 and %u", UINT32_MAX - 1);
	}
	for (size_t i = 0; i < u->additional_gids.n; i++) {
		bad = u->additional_gids.v[i] >= UINT32_MAX ? u->additional_gids.v[i] : bad;
	}
	if (bad != UINT64_C(1) << 32) {
		return err_field(e, "/process/user/additionalGids", "%llu is not between 0 and %u",
				 (unsigned long long)bad, UINT32_MAX - 1);
	}
	if (u->additional_gids.n >= NGROUPS_MAX) {
		return err_field(e, "/process/user/additionalGids", "more than %d groups",
				 NGROUPS_MAX - 1);
	}
	if (u->has_umask && u->umask > 0777) {
		return err_field(e, "/process/user/umask", "is above 0777");
	}
	return 0;
}

int attrs_check(const struct oci_process *p, struct err *e)
{
	struct sys_sched_attr attr;
	int r = check_user(&p->user, e);

	r = r < 0 ? r : check_rlimits(&p->rlimits, e);
	if (r == 0 && p->has_oom_score_adj) {
		r = check_oom(p->oom_score_adj, e);
	}
	r = r < 0 ? r : check_affinity(p->exec_cpu_affinity, e);
	if (r == 0 && p->scheduler) {
		r = sched_attr(p->scheduler, &attr, e);
	}
	if (r == 0 && p->io_priority) {
		r = io_priority(p->io_priority, e);
	}
	return r < 0 ? r : 0;
}

/* The supplementary groups: the primary one first, so that no later change of it (a setgid
 * program) leaves it (CVE-2022-36109), then the others. */
static int set_groups(const struct oci_user *u, bool may_setgroups, struct err *e)
{
	size_t n = u->additional_gids.n + 1;
	auto_free gid_t *list = NULL;
	int r = 0;

	if (!may_setgroups) {
		if (u->additional_gids.n > 0) {
			return err_field(e, "/process/user/additionalGids",
					 "groups cannot be set in this user namespace "
					 "(/proc/self/setgroups says deny)");
		}
		return 0;
	}
	list = mem_calloc(n, sizeof(*list));
	if (!list) {
		return err_nomem(e);
	}
	list[0] = (gid_t)u->gid;
	for (size_t i = 1; i < n; i++) {
		list[i] = (gid_t)u->additional_gids.v[i - 1];
	}
	r = sys_setgroups(n, list);
	return r < 0 ? err_set(e, -r, ERR_HOST, "set the supplementary groups") : 0;
}

static int set_ids(const struct oci_user *u, struct err *e)
{
	uid_t uid = (uid_t)u->uid, ru = 0, eu = 0, su = 0;
	gid_t gid = (gid_t)u->gid, rg = 0, eg = 0, sg = 0;
	int r = sys_setresgid(gid, gid, gid);

	if (r < 0) {
		return err_set(e, -r, ERR_HOST, "become gid %u%s", gid,
			       r == -EINVAL ? ": no gidMapping has it" : "");
	}
	r = sys_setresuid(uid, uid, uid);
	if (r < 0) {
		return err_set(e, -r, ERR_HOST, "become uid %u%s", uid,
			       r == -EINVAL ? ": no uidMapping has it" : "");
	}
	if (getresuid(&ru, &eu, &su) < 0 || getresgid(&rg, &eg, &sg) < 0 || ru != uid || eu != uid ||
	    su != uid || rg != gid || eg != gid || sg != gid) {
		return err_set(e, EPERM, ERR_HOST, "become %u:%u: the kernel says %u:%u", uid, gid, ru,
			       rg);
	}
	return 0;
}

int attrs_become(const struct oci_user *u, const struct caps *c, bool may_setgroups,
		 struct err *e)
{
	struct sys_caps now = { 0 };
	int r = check_user(u, e);

	if (r < 0) {
		return r;
	}
	r = caps_drop_bounding(c);
	if (r < 0) {
		return err_set(e, -r, ERR_HOST, "drop capabilities from the bounding set");
	}
	r = sys_prctl(PR_SET_KEEPCAPS, 1, 0, 0, 0);
	if (r < 0) {
		return err_set(e, -r, ERR_HOST, "keep capabilities over the change of uid");
	}
	r = set_groups(u, may_setgroups, e);
	r = r < 0 ? r : set_ids(u, e);
	if (r < 0) {
		return r;
	}
	r = sys_prctl(PR_SET_KEEPCAPS, 0, 0, 0, 0);
	r = r < 0 ? r : caps_apply(c);
	r = r < 0 ? r : sys_capget(&now);
	if (r < 0) {
		return err_set(e, -r, ERR_HOST, "set the capabilities");
	}
	if (now.effective != c->effective || now.permitted != c->permitted ||
	    now.inheritable != c->inheritable) {
		return err_set(e, EPERM, ERR_HOST, "set the capabilities: the kernel holds others");
	}
	/* The change of uid made it what fs.suid_dumpable says. Until execve nobody looks. */
	r = sys_prctl(PR_SET_DUMPABLE, 0, 0, 0, 0);
	if (r < 0) {
		return err_set(e, -r, ERR_HOST, "stay undumpable");
	}
	umask(u->has_umask ? (mode_t)u->umask : 022);
	return 0;
}
