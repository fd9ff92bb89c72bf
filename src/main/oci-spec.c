/* SPDX-License-Identifier: Apache-2.0 */
/* holm-oci spec, features */
#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

#include "base/fd.h"
#include "container/caps.h"
#include "container/rootfs.h"
#include "container/seccomp.h"
#include "main/oci.h"
#include "sys/file.h"

struct spec_args {
	const char *bundle;
	bool        rootless;
};

#define IN(m) offsetof(struct spec_args, m)
static const struct cmd_opt spec_opts[] = {
	{ 'b', "bundle", CMD_STR, IN(bundle), "DIR", "the bundle (default: the working directory)",
	  .complete = CMD_COMPLETE_DIR },
	{ .name = "rootless", .kind = CMD_FLAG, .off = IN(rootless),
	  .help = "for a caller without privileges on the host" },
};
#undef IN

/* A list as text, '|' between its members: keeps the tables below readable. */
static json_t *list(const char *text)
{
	json_t *a = json_array();
	const char *part;
	size_t len;

	while (a && str_split(&text, '|', &part, &len)) {
		if (json_array_append_new(a, json_stringn(part, len)) < 0) {
			json_decref(a);
			a = NULL;
		}
	}
	return a;
}

static const struct {
	const char *destination, *type, *source, *options;
} spec_mounts[] = {
	{ "/proc", "proc", "proc", NULL },
	{ "/dev", "tmpfs", "tmpfs", "nosuid|strictatime|mode=755|size=65536k" },
	{ "/dev/pts", "devpts", "devpts", "nosuid|noexec|newinstance|ptmxmode=0666|mode=0620|gid=5" },
	{ "/dev/shm", "tmpfs", "shm", "nosuid|noexec|nodev|mode=1777|size=65536k" },
	{ "/dev/mqueue", "mqueue", "mqueue", "nosuid|noexec|nodev" },
	{ "/sys", "sysfs", "sysfs", "nosuid|noexec|nodev|ro" },
	{ "/sys/fs/cgroup", "cgroup", "cgroup", "nosuid|noexec|nodev|relatime|ro" },
};

static json_t *make_mounts(bool rootless)
{
	auto_json json_t *all = json_array();

	for (size_t i = 0; all && i < ARRAY_LEN(spec_mounts); i++) {
		const char *type = spec_mounts[i].type, *source = spec_mounts[i].source;
		const char *options = spec_mounts[i].options;

		if (rootless && str_eq(type, "cgroup")) {
			continue; /* there is no group of its own to show */
		}
		if (rootless && str_eq(type, "devpts")) {
			options = "nosuid|noexec|newinstance|ptmxmode=0666|mode=0620";
		}
		if (rootless && str_eq(type, "sysfs")) {
			/* Mounting it takes the network namespace's owner. */
			type = "none";
			source = "/sys";
			options = "rbind|nosuid|noexec|nodev|ro";
		}
		json_t *m = json_object();
		int r = m ? json_put(m, "destination", json_string(spec_mounts[i].destination))
			  : -ENOMEM;

		r = r < 0 ? r : json_put(m, "type", json_string(type));
		r = r < 0 ? r : json_put(m, "source", json_string(source));
		if (options) {
			r = r < 0 ? r : json_put(m, "options", list(options));
		}
		if (r < 0 || json_array_append(all, m) < 0) {
			json_decref(m);
			return NULL;
		}
		json_decref(m);
	}
	return take_ptr(&all);
}

static json_t *make_process(void)
{
	static const char caps[] = "CAP_AUDIT_WRITE|CAP_KILL|CAP_NET_BIND_SERVICE";

	return json_pack("{s:b, s:{s:i, s:i}, s:[s], s:o, s:s, s:{s:o, s:o, s:o}, "
			 "s:[{s:s, s:i, s:i}], s:b}",
			 "terminal", 1, "user", "uid", 0, "gid", 0, "args", "sh",
			 "env", list("PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
				     "|TERM=xterm"),
			 "cwd", "/",
			 "capabilities", "bounding", list(caps), "effective", list(caps),
			 "permitted", list(caps),
			 "rlimits", "type", "RLIMIT_NOFILE", "hard", 1024, "soft", 1024,
			 "noNewPrivileges", 1);
}

static json_t *make_namespaces(bool rootless)
{
	json_t *all = json_array();
	json_t *names = list(rootless ? "pid|ipc|uts|mount|cgroup|user"
				      : "pid|network|ipc|uts|mount|cgroup");
	size_t i;
	json_t *name;

	json_array_foreach (names, i, name) {
		if (json_array_append_new(all, json_pack("{s:O}", "type", name)) < 0) {
			json_decref(all);
			all = NULL;
		}
	}
	json_decref(names);
	return all;
}

static json_t *make_linux(bool rootless)
{
	json_t *l = json_pack("{s:o, s:o, s:o}", "namespaces", make_namespaces(rootless),
			      "maskedPaths",
			      list("/proc/acpi|/proc/asound|/proc/kcore|/proc/keys|"
				   "/proc/latency_stats|/proc/timer_list|/proc/timer_stats|"
				   "/proc/sched_debug|/sys/firmware|/proc/scsi|"
				   "/sys/devices/virtual/powercap"),
			      "readonlyPaths",
			      list("/proc/bus|/proc/fs|/proc/irq|/proc/sys|/proc/sysrq-trigger"));

	if (l && rootless) {
		json_t *u = json_pack("[{s:i, s:i, s:i}]", "containerID", 0, "hostID",
				      (int)geteuid(), "size", 1);
		json_t *g = json_pack("[{s:i, s:i, s:i}]", "containerID", 0, "hostID",
				      (int)getegid(), "size", 1);

		if (json_put(l, "uidMappings", u) < 0 || json_put(l, "gidMappings", g) < 0) {
			json_decref(l);
			return NULL;
		}
	} else if (l && json_put(l, "resources",
				 json_pack("{s:[{s:b, s:s}]}", "devices", "allow", 0, "access",
					   "rwm")) < 0) {
		json_decref(l);
		return NULL;
	}
	return l;
}

static int cmd_spec(const struct cmd_call *call, struct err *e)
{
	const struct spec_args *a = call->opts;
	auto_close int dir_fd = sys_openat(AT_FDCWD, a->bundle ? a->bundle : ".",
					   O_PATH | O_DIRECTORY, 0);

	if (dir_fd < 0) {
		return err_set(e, -dir_fd, ERR_HOST, "cannot open the bundle %s", a->bundle);
	}

	auto_json json_t *doc = json_pack(
		"{s:s, s:o, s:{s:s, s:b}, s:s, s:o, s:o}", "ociVersion", OCI_SPEC_VERSION,
		"process", make_process(), "root", "path", "rootfs", "readonly", 1, "hostname",
		"holm", "mounts", make_mounts(a->rootless), "linux", make_linux(a->rootless));
	auto_free char *text = doc ? json_text_pretty(doc) : NULL;

	if (!text) {
		return err_nomem(e);
	}

	auto_close int fd = sys_openat(dir_fd, "config.json", O_WRONLY | O_CREAT | O_EXCL, 0666);

	if (fd == -EEXIST) {
		return err_set(e, EEXIST, ERR_CONFLICT, "File config.json exists. Remove it first");
	}
	int r = fd < 0 ? fd : sys_write_full(fd, text, strlen(text));

	r = r < 0 ? r : sys_write_full(fd, "\n", 1);
	return r < 0 ? err_set(e, -r, ERR_HOST, "cannot write config.json") : 0;
}

static json_t *names(const char *const *v)
{
	json_t *a = json_array();

	for (size_t i = 0; a && v[i]; i++) {
		if (json_array_append_new(a, json_string(v[i])) < 0) {
			json_decref(a);
			a = NULL;
		}
	}
	return a;
}

static json_t *cap_names(void)
{
	json_t *a = json_array();

	for (unsigned i = 0; a && caps_name(i); i++) {
		if (json_array_append_new(a, json_string(caps_name(i))) < 0) {
			json_decref(a);
			a = NULL;
		}
	}
	return a;
}

static int cmd_features(const struct cmd_call *call, struct err *e)
{
	(void)call; /* no options */
	json_t *hooks = list("prestart|createRuntime|createContainer|startContainer|poststart|"
			     "poststop");
	json_t *seccomp = json_pack("{s:b, s:o, s:o, s:o, s:o, s:o}", "enabled", 1,
				    "actions", names(seccomp_action_names),
				    "operators", names(seccomp_operator_names),
				    "archs", names(seccomp_arch_names),
				    "knownFlags", names(seccomp_flag_names),
				    "supportedFlags", names(seccomp_flag_names));
	json_t *cgroup = json_pack("{s:b, s:b, s:b, s:b, s:b}", "v1", 1, "v2", 1, "systemd", 1,
				   "systemdUser", 1, "rdma", 1);
	json_t *linux_obj = json_pack("{s:o, s:o, s:o, s:o, s:{s:b}, s:{s:b}, s:{s:b}, s:{s:{s:b}}}",
				      "namespaces", names(oci_ns_names), "capabilities",
				      cap_names(), "cgroup", cgroup, "seccomp", seccomp,
				      "apparmor", "enabled", 1, "selinux", "enabled", 1,
				      "intelRdt", "enabled", 0, "mountExtensions", "idmap",
				      "enabled", 1);

	return oci_print(json_pack("{s:s, s:s, s:o, s:o, s:o, s:{s:s, s:s}, s:[]}",
				   "ociVersionMin", "1.0.0", "ociVersionMax", OCI_SPEC_VERSION,
				   "hooks", hooks, "mountOptions", names(rootfs_mount_options()),
				   "linux", linux_obj, "annotations",
				   "io.github.seccomp.libseccomp.version",
				   seccomp_library_version(), "org.holm.version", HOLM_VERSION,
				   "potentiallyUnsafeConfigAnnotations"), e);
}

const struct cmd oci_cmd_spec = {
	.name = "spec", .opts = spec_opts, .n_opts = ARRAY_LEN(spec_opts),
	.opts_size = sizeof(struct spec_args), .run = cmd_spec,
	.help = "write a config.json to start from",
};

const struct cmd oci_cmd_features = {
	.name = "features", .run = cmd_features,
	.help = "show what this runtime supports as JSON",
};
