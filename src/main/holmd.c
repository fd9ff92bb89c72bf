/* SPDX-License-Identifier: Apache-2.0 */
/*
 * holmd: the control plane of one host. Instances go on when it ends, crashes or is replaced.
 */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/cmd.h"
#include "base/log.h"
#include "node/node.h"
#include "node/notify.h"
#include "sys/file.h"

struct opts {
	const char *state, *run, *socket, *oci, *vm, *shim, *image, *init, *net, *pasta, *boot_id;
	const char *cgroup_parent;
	uint64_t    id_base;
	int         log_level, log_format;
	bool        systemd_cgroup, shim_debug;
};

static const char *const level_names[] = { "error", "warn", "notice", "info", "debug", NULL };
static const char *const format_names[] = { "text", "json", NULL };

#define IN(m) offsetof(struct opts, m)
static const struct cmd_opt opts[] = {
	{ 0, "state", CMD_STR, IN(state), "DIR", "what must outlive a reboot: the store, images, logs",
	  .dflt = "/var/lib/holm", .complete = CMD_COMPLETE_DIR },
	{ 0, "run", CMD_STR, IN(run), "DIR", "what goes with a reboot: bundles, sockets of shims",
	  .dflt = "/run/holm", .complete = CMD_COMPLETE_DIR },
	{ 's', "socket", CMD_STR, IN(socket), "PATH", "where clients connect; default RUN/holm.sock",
	  .complete = CMD_COMPLETE_FILE },
	{ 0, "oci", CMD_STR, IN(oci), "PATH", "the OCI runtime; default holm-oci, beside this program or below ../libexec",
	  .complete = CMD_COMPLETE_FILE },
	{ 0, "vm", CMD_STR, IN(vm), "PATH", "the runtime of virtual machines; default holm-vm, as above",
	  .complete = CMD_COMPLETE_FILE },
	{ 0, "shim", CMD_STR, IN(shim), "PATH", "holm-shim; default beside this program",
	  .complete = CMD_COMPLETE_FILE },
	{ 0, "image", CMD_STR, IN(image), "PATH", "holm-image; default beside this program",
	  .complete = CMD_COMPLETE_FILE },
	{ 0, "net", CMD_STR, IN(net), "PATH", "holm-net; default beside this program",
	  .complete = CMD_COMPLETE_FILE },
	{ 0, "init", CMD_STR, IN(init), "PATH", "the init of instances that ask for one; default "
	  "catatonit, if it is installed", .complete = CMD_COMPLETE_FILE },
	{ 0, "pasta", CMD_STR, IN(pasta), "PATH", "for the user network", .dflt = "/usr/bin/pasta",
	  .complete = CMD_COMPLETE_FILE },
	{ 0, "id-base", CMD_UINT, IN(id_base), "ID", "first host id of the ranges that instances get",
	  65536, 4000000000, .dflt = "1879048192" },
	{ 0, "cgroup-parent", CMD_STR, IN(cgroup_parent), "PATH",
	  "control group above those of instances; default /holm, or holm.slice" },
	{ 0, "systemd-cgroup", CMD_FLAG, IN(systemd_cgroup), NULL,
	  "control groups are made by systemd" },
	{ 0, "log-level", CMD_CHOICE, IN(log_level), "LEVEL", "how much to say",
	  .choices = level_names, .dflt = "notice" },
	{ 0, "log-format", CMD_CHOICE, IN(log_format), "FORMAT", "of the log", .choices = format_names,
	  .dflt = "text" },
	{ 0, "shim-debug", CMD_FLAG, IN(shim_debug), NULL, "let shims log more" },
	{ 0, "boot-id", CMD_STR, IN(boot_id), "ID", "take this for the host's boot id",
	  .flags = CMD_HIDDEN },
};
#undef IN

/* A build runs uninstalled: beside this program; installed, where the build system puts them. */
static char *find_program(const char *given, const char *name)
{
	static const char *const places[] = { "", "../libexec/holm/", "../bin/", "../lib/holm/" };
	char self[4096];
	ssize_t n = given ? 0 : readlink("/proc/self/exe", self, sizeof(self) - 1);

	if (given) {
		return str_dup(given);
	}
	self[MAX(n, (ssize_t)0)] = '\0';
	char *slash = strrchr(self, '/');

	for (size_t i = 0; slash && i < ARRAY_LEN(places); i++) {
		char *path = str_printf("%.*s/%s%s", (int)(slash - self), self, places[i], name);

		if (!path || i == ARRAY_LEN(places) - 1 || access(path, X_OK) == 0) {
			return path;
		}
		free(path);
	}
	return NULL;
}

static const char *find_init(const char *given)
{
	static const char *const places[] = { "/usr/libexec/podman/catatonit", "/usr/bin/catatonit",
					      "/usr/lib/holm/catatonit" };

	for (size_t i = 0; !given && i < ARRAY_LEN(places); i++) {
		if (access(places[i], X_OK) == 0) {
			return places[i];
		}
	}
	return given;
}

static int check(const struct opts *o, struct err *e)
{
	if (o->state[0] != '/' || o->run[0] != '/') {
		return err_set(e, EINVAL, ERR_INVALID, "--state and --run must be absolute paths");
	}
	return geteuid() == 0 ? 0 : err_set(e, EPERM, ERR_DENIED, "holmd must run as root");
}

static int run(const struct cmd_call *call, struct err *e)
{
	const struct opts *o = call->opts;
	auto_free char *socket = o->socket ? str_dup(o->socket) : str_printf("%s/holm.sock", o->run);
	auto_free char *oci = find_program(o->oci, "holm-oci");
	auto_free char *vm = find_program(o->vm, "holm-vm");
	auto_free char *shim = find_program(o->shim, "holm-shim");
	auto_free char *image = find_program(o->image, "holm-image");
	auto_free char *net = find_program(o->net, "holm-net");
	int r = check(o, e);

	if (r < 0 || !socket || !oci || !vm || !shim || !image || !net) {
		return r < 0 ? r : err_nomem(e);
	}
	log_setup("holmd", 2, o->log_format == 1 ? LOG_FORMAT_JSON : LOG_FORMAT_TEXT,
		  (enum log_level)o->log_level);
	struct node_conf conf = {
		.state_dir = o->state, .run_dir = o->run, .socket = socket,
		.listen_fd = notify_listen_fd(), .oci = oci, .vm = vm, .shim = shim, .image = image,
		.init = find_init(o->init), .net = net, .pasta = o->pasta, .boot_id = o->boot_id,
		.id_base = (uint32_t)o->id_base, .systemd_cgroup = o->systemd_cgroup,
		.debug = o->shim_debug, .cgroup_parent = o->cgroup_parent ? o->cgroup_parent :
		o->systemd_cgroup ? "holm.slice" : "/holm",
	};

	if (conf.listen_fd < -1) {
		return err_set(e, -conf.listen_fd, ERR_INVALID, "LISTEN_FDS: one socket is expected");
	}
	umask(0022);
	r = node_run(&conf, e);
	return r < 0 ? r : 0;
}

static const struct cmd root = {
	.name = "holmd", .opts = opts, .n_opts = ARRAY_LEN(opts), .opts_size = sizeof(struct opts),
	.run = run, .help = "the control plane of a host",
	.text = "holmd serves the API on a unix socket and keeps instances, images and operations. "
		"It holds no workload: it can be stopped, killed and replaced while instances run, "
		"and adopts them when it starts.",
};

int main(int argc, char **argv)
{
	return cmd_main(&root, argc, argv, NULL);
}
