/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The runtime config, from what the client wishes, what the image says, and our defaults, in
 * that order. What the image says is data of an attacker: it chooses what runs inside, nothing
 * of what is around it.
 */
#include <errno.h>
#include <stdio.h>

#include "node/bundle.h"
#include "oci/default.h"

enum {
	PIDS_DEFAULT = 2048,
	CPU_PERIOD_US = 100000,
	SHM_DEFAULT = 64 * 1024 * 1024,
};

#define INIT_PATH "/.holm-init"

/* --- Process --- */

int bundle_env_add(struct jstrv *env, struct arena *a, const char *pair)
{
	size_t key = strcspn(pair, "=") + 1;

	for (size_t i = 0; i < env->n; i++) {
		if (strncmp(env->v[i], pair, key) == 0) {
			env->v[i] = arena_strdup(a, pair);
			return env->v[i] ? 0 : -ENOMEM;
		}
	}
	return oci_strv_add(env, a, pair);
}

static int add_all_env(struct jstrv *env, struct arena *a, const struct jstrv *more)
{
	int r = 0;

	for (size_t i = 0; i < more->n && r == 0; i++) {
		/* An image may say "KEY" alone, which is nothing that can be set. */
		if (strchr(more->v[i], '=')) {
			r = bundle_env_add(env, a, more->v[i]);
		}
	}
	return r;
}

static int fill_env(const struct bundle_in *in, struct arena *a, struct oci_process *p)
{
	const struct instance *i = in->instance;
	char *home = arena_printf(a, "HOME=%s", in->user->home ? in->user->home : "/");
	char *host = i->spec.hostname ? arena_printf(a, "HOSTNAME=%s", i->spec.hostname) :
		     arena_printf(a, "HOSTNAME=%.12s", i->id);
	int r = home && host ? 0 : -ENOMEM;

	r = r < 0 ? r : bundle_env_add(&p->env, a, host);
	r = r < 0 ? r : bundle_env_add(&p->env, a, home);
	r = r < 0 || !i->spec.tty ? r : bundle_env_add(&p->env, a, "TERM=xterm");
	r = r < 0 || !in->run ? r : add_all_env(&p->env, a, &in->run->env);
	return r < 0 ? r : add_all_env(&p->env, a, &i->spec.env);
}

static int add_list(struct jstrv *v, struct arena *a, const struct jstrv *more)
{
	int r = 0;

	for (size_t i = 0; i < more->n && r == 0; i++) {
		r = oci_strv_add(v, a, more->v[i]);
	}
	return r;
}

/* The client's entrypoint takes the image's command away, as docker has it. */
static int fill_args(const struct bundle_in *in, struct arena *a, struct oci_process *p,
		     struct err *e)
{
	static const struct jstrv none = { .v = NULL };
	const struct instance_spec *s = &in->instance->spec;
	const struct jstrv *entry = s->has_entrypoint ? &s->entrypoint :
				    in->run ? &in->run->entrypoint : &none;
	const struct jstrv *cmd = s->command.n > 0 || s->has_entrypoint ? &s->command :
				  in->run ? &in->run->cmd : &none;
	int r = 0;

	if (s->init) {
		if (!in->init) {
			return err_set(e, ENOTSUP, ERR_UNSUPPORTED,
				       "there is no init on this host: install catatonit");
		}
		r = oci_strv_add(&p->args, a, INIT_PATH);
		r = r < 0 ? r : oci_strv_add(&p->args, a, "--");
	}
	r = r < 0 ? r : add_list(&p->args, a, entry);
	r = r < 0 ? r : add_list(&p->args, a, cmd);
	if (r < 0) {
		return err_nomem(e);
	}
	return entry->n + cmd->n > 0 ? 0 :
	       err_field(e, "/command", "neither the image nor you say what to run");
}

/* --- Capabilities --- */

static const char *const all_caps[] = {
	"CAP_AUDIT_CONTROL", "CAP_AUDIT_READ", "CAP_AUDIT_WRITE", "CAP_BLOCK_SUSPEND", "CAP_BPF",
	"CAP_CHECKPOINT_RESTORE", "CAP_CHOWN", "CAP_DAC_OVERRIDE", "CAP_DAC_READ_SEARCH",
	"CAP_FOWNER", "CAP_FSETID", "CAP_IPC_LOCK", "CAP_IPC_OWNER", "CAP_KILL", "CAP_LEASE",
	"CAP_LINUX_IMMUTABLE", "CAP_MAC_ADMIN", "CAP_MAC_OVERRIDE", "CAP_MKNOD", "CAP_NET_ADMIN",
	"CAP_NET_BIND_SERVICE", "CAP_NET_BROADCAST", "CAP_NET_RAW", "CAP_PERFMON", "CAP_SETFCAP",
	"CAP_SETGID", "CAP_SETPCAP", "CAP_SETUID", "CAP_SYSLOG", "CAP_SYS_ADMIN", "CAP_SYS_BOOT",
	"CAP_SYS_CHROOT", "CAP_SYS_MODULE", "CAP_SYS_NICE", "CAP_SYS_PACCT", "CAP_SYS_PTRACE",
	"CAP_SYS_RAWIO", "CAP_SYS_RESOURCE", "CAP_SYS_TIME", "CAP_SYS_TTY_CONFIG",
	"CAP_WAKE_ALARM", NULL,
};

/* Index of "net_admin", "CAP_NET_ADMIN"; -2 for ALL; -1: none. */
static int cap_index(const char *name)
{
	const char *bare = strncasecmp(name, "CAP_", 4) == 0 ? name + 4 : name;

	if (strcasecmp(bare, "ALL") == 0) {
		return -2;
	}
	for (int i = 0; all_caps[i]; i++) {
		if (strcasecmp(all_caps[i] + 4, bare) == 0) {
			return i;
		}
	}
	return -1;
}

static int apply_caps(const struct jstrv *names, const char *field, bool value, bool *have,
		      struct err *e)
{
	for (size_t i = 0; i < names->n; i++) {
		int c = cap_index(names->v[i]);
		char pointer[32];

		snprintf(pointer, sizeof(pointer), "/%s/%zu", field, i);
		if (c == -1) {
			return err_field(e, pointer, "there is no capability \"%.32s\"", names->v[i]);
		}
		for (int k = 0; all_caps[k]; k++) {
			have[k] = c == -2 || c == k ? value : have[k];
		}
	}
	return 0;
}

static bool in_list(const char *const *list, const char *s)
{
	for (; *list; list++) {
		if (str_eq(*list, s)) {
			return true;
		}
	}
	return false;
}

/* "drop ALL" first, then what is added by name; "add ALL", then what is dropped. */
static int fill_caps(const struct instance_spec *s, struct arena *a, struct oci_process *p,
		     struct err *e)
{
	bool have[ARRAY_LEN(all_caps)], drop_all = false;
	int r = 0;

	for (size_t k = 0; all_caps[k]; k++) {
		have[k] = in_list(oci_default_caps, all_caps[k]);
	}
	for (size_t i = 0; i < s->cap_drop.n; i++) {
		drop_all = drop_all || cap_index(s->cap_drop.v[i]) == -2;
	}
	if (drop_all) {
		r = apply_caps(&s->cap_drop, "cap_drop", false, have, e);
		r = r < 0 ? r : apply_caps(&s->cap_add, "cap_add", true, have, e);
	} else {
		r = apply_caps(&s->cap_add, "cap_add", true, have, e);
		r = r < 0 ? r : apply_caps(&s->cap_drop, "cap_drop", false, have, e);
	}
	struct oci_caps *c = arena_new(a, struct oci_caps);

	if (r < 0 || !c) {
		return r < 0 ? r : err_nomem(e);
	}
	for (size_t k = 0; all_caps[k] && r == 0; k++) {
		if (have[k]) {
			r = oci_strv_add(&c->bounding, a, all_caps[k]);
		}
	}
	/* A process that is not root has none; it may get them by a setuid program. */
	c->permitted = c->effective = p->user.uid == 0 ? c->bounding : c->permitted;
	p->capabilities = c;
	return r < 0 ? err_nomem(e) : 0;
}

/* --- Security options --- */

static int own_seccomp(const char *text, struct arena *a, struct oci_linux *l, struct err *e)
{
	auto_json json_t *doc = NULL;
	int r = json_parse(text, strlen(text), &json_limits_request, "the seccomp profile", &doc, e);

	l->seccomp = r < 0 ? NULL : arena_new(a, struct oci_seccomp);
	if (r == 0 && !l->seccomp) {
		r = err_nomem(e);
	}
	return r < 0 ? r : jtable_parse(&oci_seccomp_table, doc, a, l->seccomp, e);
}

static int security_opt(const char *opt, struct arena *a, struct oci_spec *spec, bool *seccomp_done,
			struct err *e)
{
	const char *v = NULL;

	if (str_eq(opt, "no-new-privileges") || str_eq(opt, "no-new-privileges=true") ||
	    str_eq(opt, "no-new-privileges:true")) {
		spec->process->no_new_privileges = true;
		return 0;
	}
	if (str_eq(opt, "seccomp=unconfined") || str_eq(opt, "seccomp:unconfined")) {
		*seccomp_done = true;
		return 0;
	}
	if ((v = str_after(opt, "seccomp="))) {
		*seccomp_done = true;
		return own_seccomp(v, a, spec->linux, e);
	}
	if ((v = str_after(opt, "apparmor="))) {
		spec->process->apparmor_profile = str_eq(v, "unconfined") ? NULL : v;
		return 0;
	}
	if ((v = str_after(opt, "label="))) {
		spec->process->selinux_label = str_eq(v, "disable") ? NULL : v;
		return 0;
	}
	if (str_eq(opt, "systempaths=unconfined")) {
		spec->linux->masked_paths = (struct jstrv){ .v = NULL };
		spec->linux->readonly_paths = (struct jstrv){ .v = NULL };
		return 0;
	}
	return err_field(e, "/security_opt", "\"%.64s\" is none of no-new-privileges, seccomp=, "
			 "apparmor=, label=, systempaths=unconfined", opt);
}

static int fill_security(const struct instance_spec *s, struct arena *a, struct oci_spec *spec,
			 struct err *e)
{
	bool seccomp_done = false;
	int r = 0;

	/* Without ids of its own, nothing may gain privileges (threat model, rule 10). */
	spec->process->no_new_privileges = s->userns == USERNS_HOST;
	for (size_t i = 0; i < s->security_opt.n && r == 0; i++) {
		r = security_opt(s->security_opt.v[i], a, spec, &seccomp_done, e);
	}
	if (r == 0 && !seccomp_done) {
		r = oci_default_seccomp(&spec->process->capabilities->bounding, a,
					&spec->linux->seccomp, e);
	}
	return r;
}

/* --- Limits --- */

static const struct {
	const char *name, *type;
} ulimit_names[] = {
	{ "as", "RLIMIT_AS" }, { "core", "RLIMIT_CORE" }, { "cpu", "RLIMIT_CPU" },
	{ "data", "RLIMIT_DATA" }, { "fsize", "RLIMIT_FSIZE" }, { "locks", "RLIMIT_LOCKS" },
	{ "memlock", "RLIMIT_MEMLOCK" }, { "msgqueue", "RLIMIT_MSGQUEUE" },
	{ "nice", "RLIMIT_NICE" }, { "nofile", "RLIMIT_NOFILE" }, { "nproc", "RLIMIT_NPROC" },
	{ "rss", "RLIMIT_RSS" }, { "rtprio", "RLIMIT_RTPRIO" }, { "rttime", "RLIMIT_RTTIME" },
	{ "sigpending", "RLIMIT_SIGPENDING" }, { "stack", "RLIMIT_STACK" },
};

static const char *ulimit_type(const char *name)
{
	for (size_t i = 0; i < ARRAY_LEN(ulimit_names); i++) {
		if (str_eq(name, ulimit_names[i].name) || str_eq(name, ulimit_names[i].type)) {
			return ulimit_names[i].type;
		}
	}
	return NULL;
}

static int fill_ulimits(const struct bundle_in *in, struct arena *a, struct oci_process *p,
			struct err *e)
{
	const struct instance_spec *s = &in->instance->spec;
	bool nofile = false;
	int r = 0;

	for (size_t i = 0; i < s->ulimits.n && r == 0; i++) {
		const struct instance_ulimit *u = (const struct instance_ulimit *)s->ulimits.v + i;
		struct oci_rlimit l = { .type = ulimit_type(u->name), .hard = (uint64_t)u->hard,
					.soft = (uint64_t)u->soft };

		if (!l.type) {
			return err_field(e, "/ulimits", "there is no limit \"%s\"", u->name);
		}
		nofile = nofile || str_eq(l.type, "RLIMIT_NOFILE");
		r = oci_vec_add(&p->rlimits, a, &l, sizeof(l));
	}
	if (r == 0 && !nofile) {
		struct oci_rlimit l = { .type = "RLIMIT_NOFILE", .hard = in->nofile_max,
					.soft = MIN(in->nofile_max, (uint64_t)1024) };

		r = oci_vec_add(&p->rlimits, a, &l, sizeof(l));
	}
	return r < 0 ? err_nomem(e) : 0;
}

static int fill_memory(const struct instance_resources *r, struct oci_memory *m)
{
	m->has_limit = r->memory > 0;
	m->limit = (int64_t)r->memory;
	m->has_reservation = r->memory_reservation > 0;
	m->reservation = (int64_t)r->memory_reservation;
	m->has_swap = r->has_memory_swap || m->has_limit;
	m->swap = r->has_memory_swap ? r->memory_swap : m->limit;
	return 0;
}

int bundle_resources(const struct instance_resources *r, struct arena *a,
		     struct oci_resources *ret, struct err *e)
{
	ret->memory = arena_new(a, struct oci_memory);
	ret->cpu = arena_new(a, struct oci_cpu);
	ret->pids = arena_new(a, struct oci_pids);
	if (!ret->memory || !ret->cpu || !ret->pids) {
		return err_nomem(e);
	}
	ignore_result(fill_memory(r, ret->memory)); /* cannot fail */
	if (r->cpus > 0) {
		ret->cpu->has_quota = ret->cpu->has_period = true;
		ret->cpu->period = CPU_PERIOD_US;
		ret->cpu->quota = (int64_t)(r->cpus * CPU_PERIOD_US + 0.5);
	}
	ret->cpu->has_shares = r->cpu_shares > 0;
	ret->cpu->shares = r->cpu_shares;
	ret->cpu->cpus = r->cpuset_cpus;
	ret->cpu->mems = r->cpuset_mems;
	ret->pids->has_limit = true;
	ret->pids->limit = r->has_pids_limit ? r->pids_limit : PIDS_DEFAULT;
	if (r->io_weight) {
		ret->block_io = arena_new(a, struct oci_block_io);
		if (!ret->block_io) {
			return err_nomem(e);
		}
		ret->block_io->has_weight = true;
		ret->block_io->weight = r->io_weight;
	}
	return 0;
}

/* --- Mounts --- */

static int add_bind(struct oci_spec *s, struct arena *a, const char *source, const char *target,
		    const char *const *options)
{
	struct oci_mount m = { .destination = target, .type = "bind", .source = source };
	int r = m.source && m.destination ? 0 : -ENOMEM;

	for (; *options && r == 0; options++) {
		r = oci_strv_add(&m.options, a, *options);
	}
	return r < 0 ? r : oci_vec_add(&s->mounts, a, &m, sizeof(m));
}

static int add_user_mount(struct oci_spec *s, struct arena *a, const struct instance_mount *m)
{
	struct oci_mount o = { .destination = m->target };
	int r = 0;

	if (m->type == MOUNT_TMPFS) {
		o.type = "tmpfs";
		o.source = "tmpfs";
		r = oci_strv_add(&o.options, a, "nosuid");
		r = r < 0 ? r : oci_strv_add(&o.options, a, "nodev");
		if (r == 0 && m->size_bytes) {
			char *t = arena_printf(a, "size=%llu", (unsigned long long)m->size_bytes);

			r = t ? oci_strv_add(&o.options, a, t) : -ENOMEM;
		}
		char *mode = arena_printf(a, "mode=%04o", m->has_mode ? (unsigned)m->mode : 01777u);

		r = r < 0 ? r : mode ? oci_strv_add(&o.options, a, mode) : -ENOMEM;
	} else {
		o.type = "bind";
		o.source = m->source;
		r = oci_strv_add(&o.options, a, m->recursive_off ? "bind" : "rbind");
		r = r < 0 ? r : oci_strv_add(&o.options, a, m->propagation ? m->propagation :
					     "rprivate");
	}
	if (r == 0 && m->read_only) {
		r = oci_strv_add(&o.options, a, m->recursive_off || m->type == MOUNT_TMPFS ? "ro" :
				 "rro");
	}
	r = r < 0 ? r : add_list(&o.options, a, &m->options);
	return r < 0 ? r : oci_vec_add(&s->mounts, a, &o, sizeof(o));
}

/* In another's network namespace the kernel gives a user namespace no sysfs. */
static void host_sys(struct oci_spec *s, struct arena *a)
{
	/* With all that the host has mounted below. */
	static const char *const opts[] = { "rbind", "nosuid", "noexec", "nodev", "rro", NULL };

	for (size_t i = 0; i < s->mounts.n; i++) {
		struct oci_mount *m = (struct oci_mount *)s->mounts.v + i;

		if (str_eq(m->destination, "/sys")) {
			m->type = "none";
			m->source = "/sys";
			m->options = (struct jstrv){ .v = NULL };
			for (size_t k = 0; opts[k]; k++) {
				ignore_result(oci_strv_add(&m->options, a, opts[k]));
				/* without memory the mount lacks a flag and fails or, for the
				 * last, is read-only by the mount below all the same */
			}
		}
	}
}

static int set_shm(struct oci_spec *s, struct arena *a, uint64_t bytes)
{
	char *size = arena_printf(a, "size=%llu", (unsigned long long)bytes);

	for (size_t i = 0; i < s->mounts.n && size; i++) {
		struct oci_mount *m = (struct oci_mount *)s->mounts.v + i;

		for (size_t k = 0; str_eq(m->destination, "/dev/shm") && k < m->options.n; k++) {
			if (str_after(m->options.v[k], "size=")) {
				m->options.v[k] = size;
			}
		}
	}
	return size ? 0 : -ENOMEM;
}

static bool mounted_by_client(const struct instance_spec *s, const char *target)
{
	for (size_t i = 0; i < s->mounts.n; i++) {
		if (str_eq(((const struct instance_mount *)s->mounts.v)[i].target, target)) {
			return true;
		}
	}
	return false;
}

static int fill_mounts(const struct bundle_in *in, struct arena *a, struct oci_spec *spec)
{
	static const char *const names[] = { "resolv.conf", "hosts", "hostname" };
	static const char *const rw[] = { "bind", "rprivate", "nosuid", "nodev", "noexec", NULL };
	static const char *const ro[] = { "bind", "ro", "rprivate", "nosuid", "nodev", NULL };
	const struct instance_spec *s = &in->instance->spec;
	int r = set_shm(spec, a, s->shm_size ? s->shm_size : SHM_DEFAULT);

	if (s->network == NETWORK_HOST && in->instance->status.id_count) {
		host_sys(spec, a);
	}
	for (size_t i = 0; i < ARRAY_LEN(names) && r == 0; i++) {
		char *target = arena_printf(a, "/etc/%s", names[i]);

		if (target && !mounted_by_client(s, target)) {
			r = add_bind(spec, a, arena_printf(a, "%s/%s", in->dir, names[i]), target,
				     rw);
		}
	}
	if (r == 0 && s->init) {
		r = add_bind(spec, a, in->init, INIT_PATH, ro);
	}
	for (size_t i = 0; i < s->mounts.n && r == 0; i++) {
		r = add_user_mount(spec, a, (const struct instance_mount *)s->mounts.v + i);
	}
	return r;
}

/* --- Namespaces, identity --- */

static int fill_namespaces(const struct instance *i, struct arena *a, struct oci_linux *l)
{
	int r = 0;

	if (i->spec.network == NETWORK_HOST) {
		struct jvec kept = { .v = NULL };

		for (size_t k = 0; k < l->namespaces.n && r == 0; k++) {
			struct oci_namespace *ns = (struct oci_namespace *)l->namespaces.v + k;

			if (ns->type != OCI_NS_NETWORK) {
				r = oci_vec_add(&kept, a, ns, sizeof(*ns));
			}
		}
		l->namespaces = kept;
	}
	if (i->status.id_count && r == 0) {
		struct oci_namespace ns = { .type = OCI_NS_USER };
		struct oci_id_map map = { .host_id = i->status.id_base, .size = i->status.id_count };

		r = oci_vec_add(&l->namespaces, a, &ns, sizeof(ns));
		r = r < 0 ? r : oci_vec_add(&l->uid_mappings, a, &map, sizeof(map));
		r = r < 0 ? r : oci_vec_add(&l->gid_mappings, a, &map, sizeof(map));
	}
	return r;
}

static int fill_cgroup(const struct bundle_in *in, struct arena *a, struct oci_linux *l)
{
	l->cgroups_path = in->systemd_cgroup ?
			  arena_printf(a, "%s:holm:%s", in->cgroup_parent, in->instance->id) :
			  arena_printf(a, "%s/%s", in->cgroup_parent, in->instance->id);
	return l->cgroups_path ? 0 : -ENOMEM;
}

static int fill_rest(const struct bundle_in *in, struct arena *a, struct oci_spec *spec)
{
	const struct instance *i = in->instance;
	const struct instance_spec *s = &i->spec;
	struct oci_process *p = spec->process;

	spec->root = arena_new(a, struct oci_root);
	if (!spec->root) {
		return -ENOMEM;
	}
	spec->root->path = "rootfs";
	spec->root->readonly = s->read_only;
	spec->hostname = s->hostname ? s->hostname : arena_printf(a, "%.12s", i->id);
	spec->domainname = s->domainname;
	spec->annotations = s->annotations;
	spec->linux->sysctl = s->sysctls;
	p->terminal = s->tty;
	p->user = in->user->user;
	p->cwd = s->workdir ? s->workdir :
		 in->run && in->run->working_dir && in->run->working_dir[0] == '/' ?
		 in->run->working_dir : "/";
	p->has_oom_score_adj = s->has_oom_score_adj;
	p->oom_score_adj = s->oom_score_adj;
	return spec->hostname ? 0 : -ENOMEM;
}

/* A machine's network is its monitor's, so its runtime is told. */
static int fill_vm(const struct instance *i, struct arena *a, struct oci_spec *spec)
{
	const struct jmap *given = &i->spec.annotations;

	if (i->spec.isolation != ISOLATION_VM || i->spec.network != NETWORK_USER) {
		return 0;
	}
	struct jpair *v = arena_alloc(a, given->n + 1, sizeof(*v));

	if (!v) {
		return -ENOMEM;
	}
	if (given->n > 0) {
		memcpy(v, given->v, given->n * sizeof(*v));
	}
	v[given->n] = (struct jpair){ "org.holm.vm.network", "user" };
	spec->annotations = (struct jmap){ v, given->n + 1 };
	return 0;
}

int bundle_spec(const struct bundle_in *in, struct arena *a, struct oci_spec *ret, struct err *e)
{
	const struct instance *i = in->instance;
	int r = oci_default_spec(OCI_DEFAULT_INSTANCE, 0, 0, a, ret, e);

	if (r < 0) {
		return r;
	}
	if (fill_rest(in, a, ret) < 0 || fill_env(in, a, ret->process) < 0 ||
	    fill_mounts(in, a, ret) < 0 || fill_namespaces(i, a, ret->linux) < 0 ||
	    fill_cgroup(in, a, ret->linux) < 0 || fill_vm(i, a, ret) < 0) {
		return err_nomem(e);
	}
	r = fill_args(in, a, ret->process, e);
	r = r < 0 ? r : fill_caps(&i->spec, a, ret->process, e);
	r = r < 0 ? r : fill_ulimits(in, a, ret->process, e);
	r = r < 0 ? r : bundle_resources(&i->spec.resources, a, ret->linux->resources, e);
	return r < 0 ? r : fill_security(&i->spec, a, ret, e);
}
