/* SPDX-License-Identifier: Apache-2.0 */
#include "oci/default.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

/* Without MKNOD, NET_RAW and AUDIT_WRITE, which docker gives and next to nothing needs. */
const char *const oci_default_caps[] = {
	"CAP_CHOWN", "CAP_DAC_OVERRIDE", "CAP_FOWNER", "CAP_FSETID", "CAP_KILL",
	"CAP_NET_BIND_SERVICE", "CAP_SETFCAP", "CAP_SETGID", "CAP_SETPCAP", "CAP_SETUID",
	"CAP_SYS_CHROOT", NULL,
};

static const char *const template_caps[] = {
	"CAP_AUDIT_WRITE", "CAP_KILL", "CAP_NET_BIND_SERVICE", NULL,
};

/* What tells of the host, its hardware and its other users, or acts on them. */
const char *const oci_default_masked_paths[] = {
	"/proc/acpi", "/proc/asound", "/proc/dynamic_debug", "/proc/interrupts", "/proc/kcore",
	"/proc/keys", "/proc/latency_stats", "/proc/sched_debug", "/proc/scsi",
	"/proc/timer_list", "/proc/timer_stats", "/sys/dev/block",
	"/sys/devices/virtual/powercap", "/sys/firmware", "/sys/fs/selinux", NULL,
};

const char *const oci_default_readonly_paths[] = {
	"/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger", NULL,
};

struct default_mount {
	const char *destination, *type, *source;
	const char *options[8];
};

static const struct default_mount mounts[] = {
	{ "/proc", "proc", "proc", { "nosuid", "noexec", "nodev" } },
	{ "/dev", "tmpfs", "tmpfs", { "nosuid", "strictatime", "mode=755", "size=65536k" } },
	{ "/dev/pts", "devpts", "devpts",
	  { "nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5" } },
	{ "/dev/shm", "tmpfs", "shm", { "nosuid", "noexec", "nodev", "mode=1777", "size=65536k" } },
	{ "/dev/mqueue", "mqueue", "mqueue", { "nosuid", "noexec", "nodev" } },
	{ "/sys", "sysfs", "sysfs", { "nosuid", "noexec", "nodev", "ro" } },
	{ "/sys/fs/cgroup", "cgroup", "cgroup", { "nosuid", "noexec", "nodev", "relatime", "ro" } },
};

/* In the host's network namespace no sysfs can be mounted: the host's is bound. */
static const struct default_mount rootless_sys = {
	"/sys", "none", "/sys", { "rbind", "nosuid", "noexec", "nodev", "ro" },
};

int oci_vec_add(struct jvec *v, struct arena *a, const void *item, size_t size)
{
	char *grown = arena_alloc(a, v->n + 1, size);

	if (!grown) {
		return -ENOMEM;
	}
	if (v->n > 0) {
		memcpy(grown, v->v, v->n * size);
	}
	memcpy(grown + v->n * size, item, size);
	v->v = grown;
	v->n++;
	return 0;
}

int oci_strv_add(struct jstrv *v, struct arena *a, const char *s)
{
	const char **grown = arena_alloc(a, v->n + 2, sizeof(*grown));
	char *copy = arena_strdup(a, s);

	if (!grown || !copy) {
		return -ENOMEM;
	}
	if (v->n > 0) {
		memcpy(grown, v->v, v->n * sizeof(*grown));
	}
	grown[v->n++] = copy;
	v->v = grown;
	return 0;
}

static int add_list(struct jstrv *v, struct arena *a, const char *const *list)
{
	int r = 0;

	for (size_t i = 0; list[i] && r == 0; i++) {
		r = oci_strv_add(v, a, list[i]);
	}
	return r;
}

static int add_mount(struct oci_spec *s, struct arena *a, const struct default_mount *d, bool one_id)
{
	struct oci_mount m = { .destination = d->destination, .type = d->type, .source = d->source };
	int r = 0;

	for (size_t i = 0; i < ARRAY_LEN(d->options) && d->options[i] && r == 0; i++) {
		/* A group that is not mapped cannot own a terminal. */
		if (!(one_id && str_after(d->options[i], "gid="))) {
			r = oci_strv_add(&m.options, a, d->options[i]);
		}
	}
	return r < 0 ? r : oci_vec_add(&s->mounts, a, &m, sizeof(m));
}

static int add_mounts(struct oci_spec *s, struct arena *a, bool rootless)
{
	int r = 0;

	for (size_t i = 0; i < ARRAY_LEN(mounts) && r == 0; i++) {
		if (!rootless || !str_after(mounts[i].destination, "/sys")) {
			r = add_mount(s, a, &mounts[i], rootless);
		}
	}
	return r < 0 || !rootless ? r : add_mount(s, a, &rootless_sys, true);
}

static int add_namespaces(struct oci_linux *l, struct arena *a, bool rootless)
{
	static const enum oci_ns all[] = { OCI_NS_PID, OCI_NS_NETWORK, OCI_NS_IPC, OCI_NS_UTS,
					   OCI_NS_MOUNT, OCI_NS_CGROUP };
	int r = 0;

	for (size_t i = 0; i < ARRAY_LEN(all) && r == 0; i++) {
		struct oci_namespace ns = { .type = (int)all[i] };

		if (!rootless || all[i] != OCI_NS_NETWORK) {
			r = oci_vec_add(&l->namespaces, a, &ns, sizeof(ns));
		}
	}
	return r;
}

static int add_user_namespace(struct oci_linux *l, struct arena *a, uid_t uid, gid_t gid)
{
	struct oci_namespace ns = { .type = OCI_NS_USER };
	struct oci_id_map u = { .host_id = uid, .size = 1 }, g = { .host_id = gid, .size = 1 };
	int r = oci_vec_add(&l->namespaces, a, &ns, sizeof(ns));

	r = r < 0 ? r : oci_vec_add(&l->uid_mappings, a, &u, sizeof(u));
	return r < 0 ? r : oci_vec_add(&l->gid_mappings, a, &g, sizeof(g));
}

/* Each processor's own folder; only where there is one (GHSA-6fw5-f8r9-fgfm). */
static int mask_thermal(struct oci_linux *l, struct arena *a)
{
	long n = sysconf(_SC_NPROCESSORS_CONF);
	int r = 0;

	for (long i = 0; i < n && r == 0; i++) {
		char *path = arena_printf(a, "/sys/devices/system/cpu/cpu%ld/thermal_throttle", i);

		if (!path) {
			return -ENOMEM;
		}
		if (faccessat(AT_FDCWD, path, F_OK, 0) == 0) {
			r = oci_strv_add(&l->masked_paths, a, path);
		}
	}
	return r;
}

static int fill_linux(enum oci_default_kind kind, uid_t uid, gid_t gid, struct arena *a,
		      struct oci_linux *l)
{
	struct oci_device_rule deny = { .allow = false, .access = "rwm" };
	int r = add_namespaces(l, a, kind == OCI_DEFAULT_ROOTLESS);

	if (r == 0 && kind == OCI_DEFAULT_ROOTLESS) {
		r = add_user_namespace(l, a, uid, gid);
	} else if (r == 0) {
		l->resources = arena_new(a, struct oci_resources);
		r = l->resources ? oci_vec_add(&l->resources->devices, a, &deny, sizeof(deny)) : -ENOMEM;
	}
	r = r < 0 ? r : add_list(&l->masked_paths, a, oci_default_masked_paths);
	r = r < 0 ? r : mask_thermal(l, a);
	return r < 0 ? r : add_list(&l->readonly_paths, a, oci_default_readonly_paths);
}

static int fill_process(enum oci_default_kind kind, struct arena *a, struct oci_process *p)
{
	const char *const *caps = kind == OCI_DEFAULT_INSTANCE ? oci_default_caps : template_caps;
	struct oci_rlimit nofile = { .type = "RLIMIT_NOFILE", .hard = 1024, .soft = 1024 };
	int r = 0;

	p->cwd = "/";
	p->capabilities = arena_new(a, struct oci_caps);
	if (!p->capabilities) {
		return -ENOMEM;
	}
	/* Nothing inheritable or ambient (CVE-2022-29162). */
	r = add_list(&p->capabilities->bounding, a, caps);
	r = r < 0 ? r : add_list(&p->capabilities->effective, a, caps);
	r = r < 0 ? r : add_list(&p->capabilities->permitted, a, caps);
	r = r < 0 ? r : oci_strv_add(&p->env, a, "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:"
						 "/usr/bin:/sbin:/bin");
	if (r < 0 || kind == OCI_DEFAULT_INSTANCE) {
		return r;
	}
	p->terminal = true;
	p->no_new_privileges = true;
	r = oci_strv_add(&p->env, a, "TERM=xterm");
	r = r < 0 ? r : oci_strv_add(&p->args, a, "sh");
	return r < 0 ? r : oci_vec_add(&p->rlimits, a, &nofile, sizeof(nofile));
}

int oci_default_spec(enum oci_default_kind kind, uid_t uid, gid_t gid, struct arena *a,
		     struct oci_spec *ret, struct err *e)
{
	struct oci_spec s = { .oci_version = OCI_SPEC_VERSION };
	int r = -ENOMEM;

	s.linux = arena_new(a, struct oci_linux);
	s.process = arena_new(a, struct oci_process);
	if (s.linux && s.process) {
		r = fill_process(kind, a, s.process);
		r = r < 0 ? r : fill_linux(kind, uid, gid, a, s.linux);
		r = r < 0 ? r : add_mounts(&s, a, kind == OCI_DEFAULT_ROOTLESS);
	}
	if (r == 0 && kind != OCI_DEFAULT_INSTANCE) {
		s.hostname = "holm";
		s.root = arena_new(a, struct oci_root);
		r = s.root ? 0 : -ENOMEM;
	}
	if (r < 0) {
		return err_nomem(e);
	}
	if (s.root) {
		s.root->path = "rootfs";
		s.root->readonly = true;
	}
	*ret = s;
	return 0;
}
