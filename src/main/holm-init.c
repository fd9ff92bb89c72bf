/* SPDX-License-Identifier: Apache-2.0 */
/*
 * holm-init: process 1 of a virtual machine. The kernel starts it from the initramfs without
 * arguments; with --listen it serves the same protocol on a host, for those who work on it.
 */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/prctl.h>
#include <unistd.h>

#include "agent/agent.h"
#include "base/cmd.h"
#include "base/fd.h"
#include "base/log.h"
#include "sys/file.h"
#include "sys/proc.h"
#include "sys/socket.h"

struct opts {
	const char *listen, *oci, *dir;
};

#define IN(m) offsetof(struct opts, m)
static const struct cmd_opt opts[] = {
	{ 0, "listen", CMD_STR, IN(listen), "SOCKET",
	  "serve on this unix socket of a host instead of a machine's vsock",
	  .complete = CMD_COMPLETE_FILE },
	{ 0, "oci", CMD_STR, IN(oci), "PATH", "the OCI runtime", .dflt = "/bin/holm-oci",
	  .complete = CMD_COMPLETE_FILE },
	{ 0, "dir", CMD_STR, IN(dir), "DIR", "for what it writes", .dflt = "/run/holm",
	  .complete = CMD_COMPLETE_DIR },
};
#undef IN

static int listen_unix(const char *path, int *ret_fd, struct err *e)
{
	const char *slash = strrchr(path, '/');
	auto_free char *dir = slash ? str_ndup(path, (size_t)(slash - path) + 1) : str_dup(".");
	auto_close int dir_fd = dir ? sys_openat(AT_FDCWD, dir, O_RDONLY | O_DIRECTORY, 0) : -ENOMEM;
	int fd = dir_fd < 0 ? dir_fd :
			      sock_listen_at(dir_fd, slash ? slash + 1 : path, SOCK_NONBLOCK);

	if (fd < 0) {
		return err_set(e, -fd, ERR_HOST, "cannot listen on %s", path);
	}
	*ret_fd = fd;
	return 0;
}

static int run(const struct cmd_call *call, struct err *e)
{
	const struct opts *o = call->opts;
	struct agent_conf conf = { .oci = o->oci, .dir = o->dir, .machine = !o->listen };
	int fd = -1;
	int r;

	log_setup("holm-init", 2, LOG_FORMAT_TEXT, LOG_LEVEL_NOTICE);
	if (conf.machine && getpid() != 1) {
		return err_set(e, EPERM, ERR_INVALID, "this program is process 1 of a virtual "
			       "machine; on a host it needs --listen SOCKET");
	}
	if (conf.machine) {
		r = machine_boot(e);
		r = r < 0 ? r : machine_listen(&fd, e);
	} else {
		r = sys_prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0);
		r = r < 0 ? err_set(e, -r, ERR_HOST, "cannot adopt processes") :
			    listen_unix(o->listen, &fd, e);
	}
	r = r < 0 ? r : agent_run(&conf, fd, e);
	if (conf.machine) {
		if (r < 0) {
			log_err(LOG_LEVEL_ERROR, e);
		}
		machine_off();
	}
	return r;
}

static const struct cmd root = {
	.name = "holm-init", .opts = opts, .n_opts = ARRAY_LEN(opts),
	.opts_size = sizeof(struct opts), .run = run,
	.help = "process 1 of a virtual machine",
	.text = "Mounts what a machine needs, loads the modules of its initramfs, and then makes the "
		"container and its processes as the host asks over vsock. It ends the machine when "
		"the host says so.",
};

int main(int argc, char **argv)
{
	return cmd_main(&root, argc, argv, NULL);
}
