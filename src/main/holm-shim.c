/* SPDX-License-Identifier: Apache-2.0 */
/*
 * holm-shim: watches one instance. It returns to its caller once it listens, and goes on in
 * the background, in a session of its own.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>

#include "base/clock.h"
#include "base/cmd.h"
#include "base/fd.h"
#include "base/log.h"
#include "shim/shim.h"
#include "sys/file.h"
#include "sys/proc.h"
#include "sys/socket.h"

struct opts {
	const char *bundle, *dir, *oci, *oci_root, *log;
	uint64_t    log_size, log_files, listen_fd, epoch, patience;
	bool        systemd_cgroup, terminal, open_stdin, foreground, debug;
};

#define IN(m) offsetof(struct opts, m)
static const struct cmd_opt opts[] = {
	{ 'b', "bundle", CMD_STR, IN(bundle), "DIR", "the container's OCI bundle",
	  .flags = CMD_REQUIRED, .complete = CMD_COMPLETE_DIR },
	{ 'd', "dir", CMD_STR, IN(dir), "DIR", "the instance's run-time folder, mode 0700",
	  .flags = CMD_REQUIRED, .complete = CMD_COMPLETE_DIR },
	{ 0, "oci", CMD_STR, IN(oci), "PATH", "the OCI runtime", .flags = CMD_REQUIRED,
	  .complete = CMD_COMPLETE_FILE },
	{ 0, "oci-root", CMD_STR, IN(oci_root), "DIR", "where the runtime keeps its state",
	  .complete = CMD_COMPLETE_DIR },
	{ 0, "systemd-cgroup", CMD_FLAG, IN(systemd_cgroup), NULL,
	  "control groups are made by systemd" },
	{ 0, "log", CMD_STR, IN(log), "FILE", "log of the container's output; none if not given",
	  .complete = CMD_COMPLETE_FILE },
	{ 0, "log-max-size", CMD_SIZE, IN(log_size), "BYTES", "of one log file", .dflt = "16m" },
	{ 0, "log-max-files", CMD_UINT, IN(log_files), "N", "log files that are kept", 1, 100,
	  .dflt = "4" },
	{ 't', "terminal", CMD_FLAG, IN(terminal), NULL, "the container's process has a terminal" },
	{ 'i', "interactive", CMD_FLAG, IN(open_stdin), NULL, "its standard input stays open" },
	{ 0, "epoch", CMD_UINT, IN(epoch), "N", "orders of older epochs are refused" },
	{ 0, "listen-fd", CMD_UINT, IN(listen_fd), "FD",
	  "an inherited listening socket; else DIR/" SHIM_SOCKET_NAME, 3, 1023 },
	{ 0, "patience", CMD_UINT, IN(patience), "SECONDS",
	  "to stay without a daemon when nothing runs", 1, 86400, .dflt = "60" },
	{ 0, "foreground", CMD_FLAG, IN(foreground), NULL, "do not go to the background" },
	{ 0, "debug", CMD_FLAG, IN(debug), NULL, "say more in DIR/shim.log" },
};
#undef IN

static int check(const struct opts *o, const char *id, struct err *e)
{
	if (!name_valid(id)) {
		return err_set(e, EINVAL, ERR_INVALID, "'%s' is not a valid id", id);
	}
	if (o->bundle[0] != '/' || o->dir[0] != '/' || o->oci[0] != '/' ||
	    (o->log && o->log[0] != '/')) {
		return err_set(e, EINVAL, ERR_INVALID, "paths must be absolute");
	}
	if (o->log_size < 4096) {
		return err_set(e, EINVAL, ERR_INVALID, "--log-max-size must be at least 4k");
	}
	return 0;
}

/* The folder is ours alone, and no other shim works in it. */
static int claim_dir(const char *path, int *ret_dir_fd, int *ret_lock_fd, struct err *e)
{
	auto_close int dir_fd = sys_openat(AT_FDCWD, path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW, 0);
	struct stat st;

	if (dir_fd < 0 || sys_fstat(dir_fd, &st) < 0) {
		return err_set(e, dir_fd < 0 ? -dir_fd : EIO, ERR_NOT_FOUND, "folder %s", path);
	}
	if (st.st_uid != geteuid() || (st.st_mode & 077)) {
		return err_set(e, EPERM, ERR_DENIED, "%s must belong to the caller and have mode 0700",
			       path);
	}
	auto_close int lock_fd = sys_openat(dir_fd, SHIM_PID_NAME, O_RDWR | O_CREAT | O_NOFOLLOW,
					    0600);
	int r = lock_fd < 0 ? lock_fd : sys_flock(lock_fd, LOCK_EX | LOCK_NB);

	if (r == -EWOULDBLOCK) {
		return err_set(e, EBUSY, ERR_CONFLICT, "another shim works in %s", path);
	}
	if (r < 0) {
		return err_set(e, -r, ERR_HOST, "cannot lock %s/%s", path, SHIM_PID_NAME);
	}
	*ret_dir_fd = take_fd(&dir_fd);
	*ret_lock_fd = take_fd(&lock_fd);
	return 0;
}

static int write_pid(int lock_fd, pid_t pid)
{
	char text[16];
	int n = snprintf(text, sizeof(text), "%d\n", pid);
	int r = sys_ftruncate(lock_fd, 0);

	if (r == 0) {
		ssize_t w = sys_pwrite(lock_fd, text, (size_t)n, 0);

		r = w < 0 ? (int)w : 0;
	}
	return r;
}

/* For tests, once it listens: not HOLM_FAULT, which the runtime would take, too. */
static int arm_faults(struct err *e)
{
#ifdef HOLM_FAULTS
	const char *text = getenv("HOLM_SHIM_FAULT");

	if (text && sys_fault_parse(text) < 0) {
		return err_set(e, EINVAL, ERR_INVALID, "HOLM_SHIM_FAULT cannot be understood");
	}
#else
	(void)e;
#endif
	return 0;
}

/* Nothing of the caller's stays: session, folder, standard streams. */
static int detach(int dir_fd)
{
	auto_close int null_fd = sys_openat(AT_FDCWD, "/dev/null", O_RDWR, 0);
	auto_close int log_fd = sys_openat(dir_fd, "shim.log",
					   O_WRONLY | O_CREAT | O_APPEND | O_NOFOLLOW, 0600);

	if (null_fd < 0 || log_fd < 0) {
		return null_fd < 0 ? null_fd : log_fd;
	}
	if (dup2(null_fd, 0) < 0 || dup2(null_fd, 1) < 0 || dup2(log_fd, 2) < 0) {
		return -errno;
	}
	int r = sys_chdir("/");

	return r < 0 ? r : sys_setsid();
}

/* In the caller's process: it listens now, or why it does not. */
static int wait_ready(int ready_fd, int lock_fd, pid_t pid, struct err *e)
{
	auto_buf struct buf text = BUF_INIT;
	/* Whoever waits for us finds the number. */
	int r = write_pid(lock_fd, pid);
	int got = sys_read_fd(ready_fd, sizeof(e->msg), &text);

	fd_close(&ready_fd);
	if (r < 0 || got < 0) {
		return err_set(e, r < 0 ? -r : -got, ERR_HOST, "cannot start in the background");
	}
	return text.len == 0 ? 0 : err_set(e, ECANCELED, ERR_UNAVAILABLE, "%s", buf_str(&text));
}

static int run(const struct cmd_call *call, struct err *e)
{
	const struct opts *o = call->opts;
	struct shim_conf conf = {
		.bundle = o->bundle, .id = call->args[0], .dir = o->dir, .oci = o->oci,
		.oci_root = o->oci_root, .oci_systemd_cgroup = o->systemd_cgroup, .log = o->log,
		.log_max_bytes = o->log_size, .log_max_files = (unsigned)o->log_files,
		.terminal = o->terminal, .open_stdin = o->open_stdin, .epoch = o->epoch,
		.patience_ns = o->patience * NS_PER_SEC,
	};
	int dir_fd = -1, lock_fd = -1;
	int r = check(o, conf.id, e);

	r = r < 0 ? r : claim_dir(o->dir, &dir_fd, &lock_fd, e);
	if (r < 0) {
		return r;
	}
	int listen_fd = o->listen_fd > 0 ? (int)o->listen_fd :
					   sock_listen_at(dir_fd, SHIM_SOCKET_NAME, SOCK_NONBLOCK);

	r = listen_fd < 0 ? listen_fd : sys_fcntl(listen_fd, F_SETFD, FD_CLOEXEC);
	if (r < 0) {
		return err_set(e, -r, ERR_HOST, "cannot listen in %s", o->dir);
	}
	int ready[2] = { -1, -1 };

	r = o->foreground ? 0 : sys_pipe2(ready, 0);
	pid_t pid = r < 0 ? r : o->foreground ? 0 : sys_fork();

	if (pid < 0) {
		return err_set(e, -pid, ERR_HOST, "cannot fork");
	}
	if (pid > 0) {
		fd_close(&ready[1]);
		return wait_ready(ready[0], lock_fd, pid, e);
	}
	fd_close(&ready[0]);
	r = o->foreground ? write_pid(lock_fd, getpid()) : detach(dir_fd);
	log_setup("holm-shim", 2, LOG_FORMAT_TEXT, o->debug ? LOG_LEVEL_DEBUG : LOG_LEVEL_NOTICE);
	r = r < 0 ? err_set(e, -r, ERR_HOST, "cannot go to the background") : arm_faults(e);
	r = r < 0 ? r : shim_run(&conf, listen_fd, dir_fd, &ready[1], e);
	if (r < 0 && ready[1] >= 0) {
		ignore_result(sys_write_full(ready[1], e->msg, strlen(e->msg))); /* logged, too */
	}
	if (r < 0) {
		log_err(LOG_LEVEL_ERROR, e);
	}
	return r;
}

static const struct cmd root = {
	.name = "holm-shim", .args = "INSTANCE", .min_args = 1, .max_args = 1,
	.opts = opts, .n_opts = ARRAY_LEN(opts), .opts_size = sizeof(struct opts), .run = run,
	.help = "watch one instance: its terminal or pipes, its log, its exit status",
	.text = "holmd starts one for each instance that runs, and talks to it over the socket "
		"DIR/" SHIM_SOCKET_NAME ". It returns once it listens and stays in the background "
		"until the end of the instance is acknowledged, or recorded and nobody asks.",
};

int main(int argc, char **argv)
{
	return cmd_main(&root, argc, argv, NULL);
}
