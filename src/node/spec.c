/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The tables of an instance's spec and status: what the API takes, the store keeps and the
 * document describes.
 */
#include <errno.h>
#include <signal.h>

#include "node/instance.h"
#include "node/signals.h"

const char *const instance_state_names[INSTANCE_STATE__COUNT + 1] = {
	[INSTANCE_CREATED] = "created",
	[INSTANCE_STARTING] = "starting",
	[INSTANCE_RUNNING] = "running",
	[INSTANCE_PAUSED] = "paused",
	[INSTANCE_EXITED] = "exited",
	[INSTANCE_RESTARTING] = "restarting",
	[INSTANCE_BROKEN] = "broken",
};

static const char *const isolation_names[] = { "container", "vm", NULL };
static const char *const network_names[] = { "user", "none", "host", NULL };
static const char *const userns_names[] = { "auto", "host", NULL };
static const char *const restart_names[] = { "no", "on-failure", "always", "unless-stopped",
					     NULL };
static const char *const mount_names[] = { "bind", "tmpfs", "volume", NULL };

#define IN(m) offsetof(struct instance_mount, m)
static const struct jfield mount_fields[] = {
	{ "type", JK_ENUM, IN(type), .names = mount_names, .flags = JF_EMPTY,
	  .doc = "bind (a host path) or tmpfs" },
	{ "source", JK_PATH, IN(source), .doc = "the host's path of a bind" },
	{ "target", JK_PATH, IN(target), .flags = JF_REQUIRED, .doc = "path inside" },
	{ "read_only", JK_BOOL, IN(read_only), .doc = "cannot be written, nor what is below it" },
	{ "non_recursive", JK_BOOL, IN(recursive_off), .doc = "without the mounts below the source" },
	{ "propagation", JK_STR, IN(propagation), .max = 16,
	  .doc = "private, rprivate (default), slave, rslave, shared or rshared" },
	{ "size", JK_SIZE, IN(size_bytes), .max = INT64_MAX, .doc = "of a tmpfs, bytes" },
	{ "mode", JK_UINT, IN(mode), .has = IN(has_mode), .max = 07777,
	  .doc = "permissions of a tmpfs" },
	{ "options", JK_STRV, IN(options), .doc = "further mount options, such as noexec" },
};
#undef IN

static int check_mount(const void *obj, struct err *e)
{
	static const char *const propagations[] = { "private", "rprivate", "slave", "rslave",
						    "shared", "rshared" };
	const struct instance_mount *m = obj;
	bool known = !m->propagation;

	for (size_t i = 0; i < ARRAY_LEN(propagations); i++) {
		known = known || str_eq(m->propagation, propagations[i]);
	}
	if (!known) {
		return err_field(e, "/propagation", "one of private, rprivate, slave, rslave, "
				 "shared, rshared");
	}
	if (m->type == MOUNT_VOLUME) {
		return err_set(e, ENOTSUP, ERR_UNSUPPORTED,
			       "volumes are not there yet: bind a host folder");
	}
	if (m->type == MOUNT_BIND && !m->source) {
		return err_field(e, "/source", "a bind needs the host's path");
	}
	if (m->type == MOUNT_TMPFS && m->source) {
		return err_field(e, "/source", "a tmpfs has no source");
	}
	return 0;
}

static const struct jtable mount_table = {
	.name = "Mount", .size = sizeof(struct instance_mount), .fields = mount_fields,
	.n_fields = ARRAY_LEN(mount_fields), .check = check_mount,
};

#define IN(m) offsetof(struct instance_ulimit, m)
static const struct jfield ulimit_fields[] = {
	{ "name", JK_STR, IN(name), .flags = JF_REQUIRED, .min = 1, .max = 16,
	  .doc = "as of the ulimit command: nofile, nproc, core ..." },
	{ "soft", JK_INT, IN(soft), .flags = JF_REQUIRED, .min = -1, .max = INT64_MAX,
	  .doc = "-1: unlimited" },
	{ "hard", JK_INT, IN(hard), .flags = JF_REQUIRED, .min = -1, .max = INT64_MAX,
	  .doc = "-1: unlimited" },
};
#undef IN
static const struct jtable ulimit_table = JTABLE("Ulimit", struct instance_ulimit, ulimit_fields);

#define IN(m) offsetof(struct instance_restart, m)
static const struct jfield restart_fields[] = {
	{ "policy", JK_ENUM, IN(policy), .names = restart_names, .flags = JF_EMPTY,
	  .doc = "when an instance that ended is started again" },
	{ "max_retries", JK_UINT, IN(max_retries), .max = 1000000,
	  .doc = "of on-failure; 0: no bound" },
};
#undef IN
static const struct jtable restart_table =
	JTABLE("Restart", struct instance_restart, restart_fields);

#define IN(m) offsetof(struct instance_log, m)
static const struct jfield log_fields[] = {
	{ "off", JK_BOOL, IN(off), .doc = "keep no log" },
	{ "max_size", JK_SIZE, IN(max_size), .min = 4096, .max = UINT64_C(1) << 40,
	  .doc = "bytes of one file; default 16 MiB" },
	{ "max_files", JK_UINT, IN(max_files), .min = 1, .max = 100,
	  .doc = "files that are kept; default 4" },
};
#undef IN
static const struct jtable log_table = JTABLE("Log", struct instance_log, log_fields);

#define IN(m) offsetof(struct instance_resources, m)
static const struct jfield resources_fields[] = {
	{ "cpus", JK_NUMBER, IN(cpus), .doc = "processor time, in processors: 1.5" },
	{ "cpu_shares", JK_UINT, IN(cpu_shares), .min = 2, .max = 262144,
	  .doc = "weight against others; default 1024" },
	{ "cpuset_cpus", JK_STR, IN(cpuset_cpus), .min = 1, .max = 1024,
	  .doc = "processors it may use: 0-3,6" },
	{ "cpuset_mems", JK_STR, IN(cpuset_mems), .min = 1, .max = 1024,
	  .doc = "memory nodes it may use" },
	{ "memory", JK_SIZE, IN(memory), .min = 1024 * 1024, .max = INT64_MAX,
	  .doc = "limit, bytes" },
	{ "memory_reservation", JK_SIZE, IN(memory_reservation), .max = INT64_MAX,
	  .doc = "soft limit, bytes" },
	{ "memory_swap", JK_INT, IN(memory_swap), .has = IN(has_memory_swap), .min = -1,
	  .max = INT64_MAX, .doc = "memory and swap together, bytes; -1: unlimited" },
	{ "pids_limit", JK_INT, IN(pids_limit), .has = IN(has_pids_limit), .min = -1,
	  .max = 4194304, .doc = "processes and threads; -1: unlimited; default 2048" },
	{ "io_weight", JK_UINT, IN(io_weight), .min = 10, .max = 1000,
	  .doc = "weight of block I/O" },
};
#undef IN

static int check_resources(const void *obj, struct err *e)
{
	const struct instance_resources *r = obj;

	if (!(r->cpus >= 0 && r->cpus <= 8192) || (r->cpus > 0 && r->cpus < 0.01)) {
		return err_field(e, "/cpus", "from 0.01 to 8192");
	}
	if (r->has_memory_swap && r->memory_swap >= 0 && (uint64_t)r->memory_swap < r->memory) {
		return err_field(e, "/memory_swap", "is memory and swap together: at least memory");
	}
	if (r->memory && r->memory_reservation > r->memory) {
		return err_field(e, "/memory_reservation", "must not be above memory");
	}
	if (r->has_pids_limit && r->pids_limit == 0) {
		return err_field(e, "/pids_limit", "at least 1, or -1 for unlimited");
	}
	return 0;
}

const struct jtable instance_resources_table = {
	.name = "Resources", .size = sizeof(struct instance_resources), .fields = resources_fields,
	.n_fields = ARRAY_LEN(resources_fields), .check = check_resources,
};

#define IN(m) offsetof(struct instance_spec, m)
static const struct jfield spec_fields[] = {
	{ "image", JK_STR, IN(image), .min = 1, .max = 512,
	  .doc = "name, or id, of an image that is here" },
	{ "rootfs", JK_PATH, IN(rootfs), .doc = "a folder of the host as the root, instead of an "
	  "image; it is written to" },
	{ "isolation", JK_ENUM, IN(isolation), .names = isolation_names, .flags = JF_EMPTY,
	  .doc = "the wall around it" },
	{ "entrypoint", JK_STRV, IN(entrypoint), .has = IN(has_entrypoint),
	  .doc = "instead of the image's; an empty list: none" },
	{ "command", JK_STRV, IN(command), .doc = "instead of the image's; behind the entrypoint" },
	{ "env", JK_STRV, IN(env), .doc = "KEY=value, added to the image's" },
	{ "workdir", JK_PATH, IN(workdir), .doc = "working folder" },
	{ "user", JK_STR, IN(user), .min = 1, .max = 256, .doc = "user[:group], names or numbers" },
	{ "group_add", JK_STRV, IN(group_add), .doc = "further groups" },
	{ "hostname", JK_STR, IN(hostname), .min = 1, .max = 64,
	  .doc = "default: the first 12 digits of the id" },
	{ "domainname", JK_STR, IN(domainname), .min = 1, .max = 64, .doc = "NIS domain name" },
	{ "tty", JK_BOOL, IN(tty), .doc = "give it a terminal" },
	{ "stdin_open", JK_BOOL, IN(stdin_open), .doc = "keep standard input open" },
	{ "stdin_once", JK_BOOL, IN(stdin_once),
	  .doc = "close standard input when the first attached client goes" },
	{ "init", JK_BOOL, IN(init), .doc = "run a small init as process 1" },
	{ "read_only", JK_BOOL, IN(read_only), .doc = "the root cannot be written" },
	{ "auto_remove", JK_BOOL, IN(auto_remove), .doc = "remove it when it has ended" },
	{ "privileged", JK_BOOL, IN(privileged), .flags = JF_REFUSED,
	  .doc = "an instance is never as powerful as the host: add what it needs by cap_add, "
	  "security_opt and mounts" },
	{ "mounts", JK_OBJV, IN(mounts), .sub = &mount_table, .doc = "in this order" },
	{ "cap_add", JK_STRV, IN(cap_add), .doc = "capabilities to add: NET_ADMIN, or ALL" },
	{ "cap_drop", JK_STRV, IN(cap_drop), .doc = "capabilities to take away" },
	{ "security_opt", JK_STRV, IN(security_opt),
	  .doc = "no-new-privileges, seccomp=unconfined, seccomp=JSON, apparmor=PROFILE, "
	  "label=LABEL, systempaths=unconfined" },
	{ "resources", JK_INLINE, IN(resources), .sub = &instance_resources_table,
	  .doc = "limits; can be changed while it runs" },
	{ "ulimits", JK_OBJV, IN(ulimits), .sub = &ulimit_table, .doc = "limits of each process" },
	{ "restart", JK_INLINE, IN(restart), .sub = &restart_table, .doc = "after it ended" },
	{ "stop_signal", JK_STR, IN(stop_signal), .min = 1, .max = 16,
	  .doc = "asks it to end; default: the image's, or TERM" },
	{ "stop_timeout", JK_UINT, IN(stop_timeout), .has = IN(has_stop_timeout), .max = 86400,
	  .doc = "seconds from there to KILL; default 10" },
	{ "labels", JK_MAP, IN(labels), .doc = "for its owner; Holm does not read them" },
	{ "annotations", JK_MAP, IN(annotations), .doc = "passed to the runtime" },
	{ "platform", JK_STR, IN(platform), .min = 1, .max = 64, .doc = "linux/amd64" },
	{ "network", JK_ENUM, IN(network), .names = network_names, .flags = JF_EMPTY,
	  .doc = "user: outgoing only, by pasta; none: loopback only; host: the host's own" },
	{ "userns", JK_ENUM, IN(userns), .names = userns_names, .flags = JF_EMPTY,
	  .doc = "auto: a range of ids of its own; host: none" },
	{ "sysctls", JK_MAP, IN(sysctls), .doc = "namespaced kernel settings" },
	{ "shm_size", JK_SIZE, IN(shm_size), .max = INT64_MAX, .doc = "of /dev/shm; default 64 MiB" },
	{ "oom_score_adj", JK_INT, IN(oom_score_adj), .has = IN(has_oom_score_adj), .min = -1000,
	  .max = 1000, .doc = "who goes first when memory is out" },
	{ "dns", JK_STRV, IN(dns), .doc = "name servers, instead of the host's" },
	{ "dns_search", JK_STRV, IN(dns_search), .doc = "domains to search" },
	{ "extra_hosts", JK_STRV, IN(extra_hosts), .doc = "lines for /etc/hosts: NAME:ADDRESS" },
	{ "log", JK_INLINE, IN(log), .sub = &log_table, .doc = "of its output" },
};
#undef IN

static int check_strings(const struct jstrv *v, const char *field, const char *need,
			 struct err *e)
{
	char pointer[64];

	for (size_t i = 0; i < v->n; i++) {
		const char *s = v->v[i];
		const char *found = need ? strstr(s, need) : s;

		snprintf(pointer, sizeof(pointer), "/%s/%zu", field, i);
		if (!found || found == (need ? s : NULL)) {
			return err_field(e, pointer, "must be NAME%sVALUE", need);
		}
	}
	return 0;
}

/* These become lines of a file. */
static int check_lines(const struct jstrv *v, const char *field, struct err *e)
{
	char pointer[64];

	for (size_t i = 0; i < v->n; i++) {
		snprintf(pointer, sizeof(pointer), "/%s/%zu", field, i);
		if (!v->v[i][0] || strlen(v->v[i]) > 512 ||
		    v->v[i][strcspn(v->v[i], " \t\r\n#")] != '\0') {
			return err_field(e, pointer, "no spaces, no line ends, at most 512 bytes");
		}
	}
	return 0;
}

static bool hostname_valid(const char *s)
{
	for (const char *p = s; *p; p++) {
		if (!((*p >= 'a' && *p <= 'z') || (*p >= 'A' && *p <= 'Z') ||
		      (*p >= '0' && *p <= '9') || *p == '-' || *p == '.' || *p == '_')) {
			return false;
		}
	}
	return s[0] != '-' && s[0] != '.';
}

static int check_text_fields(const struct instance_spec *s, struct err *e)
{
	int r = check_strings(&s->env, "env", "=", e);

	r = r < 0 ? r : check_strings(&s->extra_hosts, "extra_hosts", ":", e);
	r = r < 0 ? r : check_lines(&s->extra_hosts, "extra_hosts", e);
	r = r < 0 ? r : check_lines(&s->dns, "dns", e);
	r = r < 0 ? r : check_lines(&s->dns_search, "dns_search", e);
	if (r == 0 && s->hostname && !hostname_valid(s->hostname)) {
		r = err_field(e, "/hostname", "letters, digits, '-', '_' and '.'");
	}
	if (r == 0 && s->domainname && !hostname_valid(s->domainname)) {
		r = err_field(e, "/domainname", "letters, digits, '-', '_' and '.'");
	}
	if (r == 0 && s->stop_signal && signo_parse(s->stop_signal) < 0) {
		r = err_field(e, "/stop_signal", "there is no signal \"%.32s\"", s->stop_signal);
	}
	return r;
}

/* What a virtual machine cannot be given yet is refused by name. */
static int check_vm(const struct instance_spec *s, struct err *e)
{
	const struct {
		bool        asked;
		const char *field, *what;
	} refused[] = {
		{ s->network == NETWORK_HOST, "/network", "a virtual machine has a network of its own: "
		  "give \"user\" or \"none\"" },
		{ s->userns == USERNS_HOST, "/userns", "a virtual machine has its own users" },
	};

	for (size_t i = 0; i < ARRAY_LEN(refused); i++) {
		if (refused[i].asked) {
			int r = err_set(e, ENOTSUP, ERR_UNSUPPORTED, "%s: %s", refused[i].field,
					refused[i].what);

			return r;
		}
	}
	return 0;
}

static int check_spec(const void *obj, struct err *e)
{
	const struct instance_spec *s = obj;
	int r = check_text_fields(s, e);

	if (r < 0) {
		return r;
	}
	if (!s->image == !s->rootfs) {
		return err_field(e, "/image", "give an image, or a rootfs, and not both");
	}
	for (size_t i = 0; i < s->annotations.n; i++) {
		if (str_after(s->annotations.v[i].key, "org.holm.")) {
			return err_field(e, "/annotations", "%.60s: org.holm. is ours",
					 s->annotations.v[i].key);
		}
	}
	if (s->isolation == ISOLATION_VM && (r = check_vm(s, e)) < 0) {
		return r;
	}
	if (s->auto_remove && s->restart.policy != RESTART_NO) {
		return err_field(e, "/restart/policy", "an instance that is removed at its end "
				 "cannot be restarted");
	}
	if (s->restart.max_retries && s->restart.policy != RESTART_ON_FAILURE) {
		return err_field(e, "/restart/max_retries", "belongs to on-failure");
	}
	for (size_t i = 0; i < s->ulimits.n; i++) {
		const struct instance_ulimit *u = (const struct instance_ulimit *)s->ulimits.v + i;

		if (u->hard >= 0 && (u->soft < 0 || u->soft > u->hard)) {
			return err_field(e, "/ulimits", "%s: soft must not be above hard", u->name);
		}
	}
	return 0;
}

const struct jtable instance_spec_table = {
	.name = "InstanceSpec", .size = sizeof(struct instance_spec), .fields = spec_fields,
	.n_fields = ARRAY_LEN(spec_fields), .check = check_spec,
};

#define IN(m) offsetof(struct instance_status, m)
static const struct jfield status_fields[] = {
	{ "state", JK_ENUM, IN(state), .names = instance_state_names, .flags = JF_EMPTY,
	  .doc = "what it does now" },
	{ "pid", JK_UINT, IN(pid), .doc = "of its first process, as the host sees it" },
	{ "exit_code", JK_UINT, IN(exit_code), .has = IN(has_exit),
	  .doc = "of its last end; 128 + signal; 125, 126, 127: it did not start" },
	{ "signal", JK_UINT, IN(signal), .doc = "that ended it" },
	{ "oom", JK_BOOL, IN(oom), .doc = "memory was out, and the kernel killed something in it" },
	{ "stopped", JK_BOOL, IN(stopped), .doc = "a client stopped it" },
	{ "error", JK_STR, IN(error), .doc = "why it did not start, or what was lost" },
	{ "started", JK_TIME, IN(started), .doc = "last start" },
	{ "finished", JK_TIME, IN(finished), .doc = "last end" },
	{ "restarts", JK_UINT, IN(restarts), .doc = "by its restart policy" },
	{ "shim_pid", JK_UINT, IN(shim_pid), .doc = "of its supervisor" },
	{ "boot_id", JK_STR, IN(boot_id), .doc = "of the host at its start" },
	{ "id_base", JK_UINT, IN(id_base), .doc = "host id of its root" },
	{ "id_count", JK_UINT, IN(id_count), .doc = "ids of its user namespace; 0: none" },
	{ "image_digest", JK_STR, IN(image_digest), .doc = "of the image's manifest" },
	{ "image_name", JK_STR, IN(image_name), .doc = "of the image when it was made" },
	{ "log_lost", JK_UINT, IN(log_lost), .doc = "log records that the disk did not take" },
};
#undef IN
const struct jtable instance_status_table =
	JTABLE_OPEN("InstanceStatus", struct instance_status, status_fields);
