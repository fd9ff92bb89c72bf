/* SPDX-License-Identifier: Apache-2.0 */
/* Start, kill, pause, resume and delete. */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <unistd.h>

#include "base/fd.h"
#include "container/container.h"
#include "container/hooks.h"
#include "sys/file.h"
#include "sys/proc.h"

static void run_poststart(const struct record *rec)
{
	const struct oci_hooks *h = rec->spec.hooks;

	if (h && h->poststart.n > 0) {
		auto_json json_t *state = record_state_json(rec, STATUS_RUNNING, false);

		hooks_run_all(&h->poststart, "poststart", state, rec->bundle);
	}
}

static int refuse_start(const struct record *rec, enum record_status status, struct err *e)
{
	switch (status) {
	case STATUS_RUNNING:
		return err_set(e, EBUSY, ERR_CONFLICT, "cannot start an already running container: %s",
			       rec->id);
	case STATUS_STOPPED:
		return err_set(e, ESRCH, ERR_CONFLICT, "cannot start a container that has stopped: %s",
			       rec->id);
	case STATUS_CREATING:
	case STATUS_PAUSED:
	case STATUS_CREATED:
	case STATUS__COUNT:
		break;
	}
	return err_set(e, EBUSY, ERR_CONFLICT, "cannot start a container in the %s state: %s",
		       record_status_names[status], rec->id);
}

/* After an error of its own it ends at once; its caller may look at the status. */
static void wait_end(const struct record *rec)
{
	auto_close int pidfd = -1;
	struct err gone = ERR_INIT;

	if (record_pidfd(rec, &pidfd, &gone) == 0) {
		struct pollfd p = { .fd = pidfd, .events = POLLIN };

		(void)poll(&p, 1, 1000); /* too slow is too bad */
	}
}

/* Wait until the program runs (the pipe's end) or its error comes. */
static int read_result(int fd, struct err *e)
{
	struct err theirs;
	ssize_t n;
	int r = sys_fcntl(fd, F_SETFL, 0);

	if (r < 0) {
		return err_set(e, -r, ERR_HOST, "cannot wait for the program");
	}
	n = sys_read_full(fd, &theirs, sizeof(theirs));
	if (n == 0) {
		return 0;
	}
	if (n != (ssize_t)sizeof(theirs)) {
		return err_set(e, EPROTO, ERR_HOST, "the container's process failed to start");
	}
	return msg_take_err(&theirs, e);
}

int container_start(struct record *rec, struct err *e)
{
	enum record_status status = record_status(rec);

	if (status != STATUS_CREATED) {
		return refuse_start(rec, status, e);
	}

	auto_close int result_fd = sys_openat(rec->dir_fd, "result",
					      O_RDONLY | O_NONBLOCK | O_NOFOLLOW, 0);
	auto_close int start_fd = sys_openat(rec->dir_fd, "start",
					     O_WRONLY | O_NONBLOCK | O_NOFOLLOW, 0);
	int r = result_fd < 0 ? result_fd : start_fd < 0 ? start_fd
		: sys_write_full(start_fd, "0", 1);

	if (r < 0) {
		return err_set(e, -r, ERR_HOST, "cannot wake the container's process");
	}
	r = read_result(result_fd, e);
	ignore_result(sys_unlinkat(rec->dir_fd, "start", 0));  /* without a reader they mean */
	ignore_result(sys_unlinkat(rec->dir_fd, "result", 0)); /* nothing */
	if (r == 0) {
		run_poststart(rec);
	} else {
		wait_end(rec);
	}
	return r;
}

int container_start_child(struct created *c, struct err *e)
{
	if (c->started) {
		fd_close(&c->child.sync_fd);
		return 0;
	}

	int r = msg_send(c->child.sync_fd, MSG_GO);

	if (r < 0) {
		return err_set(e, -r, ERR_HOST, "the container's process is gone");
	}
	/* Its end closes with the execve; until then it can only fail. */
	r = msg_wait(c->child.sync_fd, MSG__COUNT, true, NULL, e);
	fd_close(&c->child.sync_fd);
	if (r == 0) {
		run_poststart(c->rec);
	}
	return r;
}

int container_kill(struct record *rec, int sig, bool all, struct err *e)
{
	enum record_status status = record_status(rec);
	bool private_pids = !rec->spec.oci_version || oci_linux_ns(rec->spec.linux, OCI_NS_PID);

	/* runc: with --all a container that has stopped may still have processes. */
	if (status == STATUS_STOPPED && !(all && rec->cgroup)) {
		return err_set(e, ESRCH, ERR_CONFLICT, "container not running");
	}
	if (rec->cgroup && (all || (sig == SIGKILL && !private_pids))) {
		return cgroup_kill(rec->cgroup, sig, e);
	}

	auto_close int pidfd = -1;
	int r = record_pidfd(rec, &pidfd, e);

	if (r < 0) {
		return r;
	}
	r = sys_pidfd_send_signal(pidfd, sig);
	if (r == 0 && sig == SIGKILL && status == STATUS_PAUSED) {
		return cgroup_thaw(rec->cgroup, e); /* on v1 nothing that is frozen dies */
	}
	return r < 0 ? err_set(e, -r, ERR_HOST, "cannot send signal %d to %s", sig, rec->id) : 0;
}

int container_pause(struct record *rec, struct err *e)
{
	enum record_status status = record_status(rec);

	if (status != STATUS_RUNNING && status != STATUS_CREATED) {
		return err_set(e, EBUSY, ERR_CONFLICT, "container not running or created: %s",
			       record_status_names[status]);
	}
	return cgroup_freeze(rec->cgroup, e);
}

int container_resume(struct record *rec, struct err *e)
{
	if (record_status(rec) != STATUS_PAUSED) {
		return err_set(e, EBUSY, ERR_CONFLICT, "container not paused");
	}
	return cgroup_thaw(rec->cgroup, e);
}

/* Kill the first process, frozen or not, and wait until it is gone. */
static int end_first(struct record *rec, struct err *e)
{
	auto_close int pidfd = -1;
	struct err ignored = ERR_INIT;

	if (record_pidfd(rec, &pidfd, &ignored) < 0) {
		return 0;
	}

	int r = sys_pidfd_send_signal(pidfd, SIGKILL);

	if (rec->cgroup) {
		ignore_result(cgroup_thaw(rec->cgroup, &ignored)); /* else it shows below */
	}

	struct pollfd p = { .fd = pidfd, .events = POLLIN };

	if (r == 0 && poll(&p, 1, 10 * 1000) == 0) {
		return err_set(e, ETIMEDOUT, ERR_HOST,
			       "process %d does not die; it may hang in the kernel", (int)rec->pid);
	}
	return r < 0 && r != -ESRCH ? err_set(e, -r, ERR_HOST, "cannot kill %s", rec->id) : 0;
}

/* Without a pid namespace of its own, a container's processes outlive its first one. */
static int remove_groups(struct record *rec, struct err *e)
{
	const struct oci_namespace *pid = oci_linux_ns(rec->spec.linux, OCI_NS_PID);
	bool own_pids = pid && !pid->path;

	if (own_pids && cgroup_delete(rec->cgroup, e) == 0) {
		return 0;
	}
	err_clear(e);
	int r = cgroup_exists(rec->cgroup) ? cgroup_kill(rec->cgroup, SIGKILL, e) : 0;

	return r < 0 ? r : cgroup_delete(rec->cgroup, e);
}

int container_delete(struct record *rec, bool force, struct err *e)
{
	enum record_status status = record_status(rec);
	const struct oci_hooks *h = rec->spec.hooks;
	int r = 0;

	if (!force && status != STATUS_STOPPED && status != STATUS_CREATED) {
		return err_set(e, EBUSY, ERR_CONFLICT,
			       "cannot delete container %s that is not stopped: %s", rec->id,
			       record_status_names[status]);
	}
	if (status != STATUS_STOPPED) {
		r = end_first(rec, e);
	}
	if (r == 0 && rec->cgroup) {
		r = remove_groups(rec, e);
	}
	if (r < 0) {
		return r;
	}
	if (h && h->poststop.n > 0) {
		auto_json json_t *state = record_state_json(rec, STATUS_STOPPED, false);

		hooks_run_all(&h->poststop, "poststop", state, rec->bundle);
	}
	return record_remove(rec, e);
}

int signal_parse(const char *text)
{
	static const struct {
		const char *name;
		int         sig;
	} table[] = {
		{ "HUP", SIGHUP }, { "INT", SIGINT }, { "QUIT", SIGQUIT }, { "ILL", SIGILL },
		{ "TRAP", SIGTRAP }, { "ABRT", SIGABRT }, { "IOT", SIGABRT }, { "BUS", SIGBUS },
		{ "FPE", SIGFPE }, { "KILL", SIGKILL }, { "USR1", SIGUSR1 }, { "SEGV", SIGSEGV },
		{ "USR2", SIGUSR2 }, { "PIPE", SIGPIPE }, { "ALRM", SIGALRM }, { "TERM", SIGTERM },
		{ "STKFLT", SIGSTKFLT }, { "CHLD", SIGCHLD }, { "CLD", SIGCHLD },
		{ "CONT", SIGCONT }, { "STOP", SIGSTOP }, { "TSTP", SIGTSTP }, { "TTIN", SIGTTIN },
		{ "TTOU", SIGTTOU }, { "URG", SIGURG }, { "XCPU", SIGXCPU }, { "XFSZ", SIGXFSZ },
		{ "VTALRM", SIGVTALRM }, { "PROF", SIGPROF }, { "WINCH", SIGWINCH },
		{ "IO", SIGIO }, { "POLL", SIGPOLL }, { "PWR", SIGPWR }, { "SYS", SIGSYS },
		{ "RTMIN", 34 }, { "RTMAX", 64 },
	};
	uint64_t n;

	if (parse_u64(text, 64, &n) == 0) {
		return (int)n;
	}

	auto_free char *upper = str_dup(text);

	if (!upper) {
		return -ENOMEM;
	}
	for (char *p = upper; *p; p++) {
		*p = *p >= 'a' && *p <= 'z' ? (char)(*p - 'a' + 'A') : *p;
	}

	const char *name = str_after(upper, "SIG") ? upper + 3 : upper;
	const char *rest;

	for (size_t i = 0; i < ARRAY_LEN(table); i++) {
		if (str_eq(name, table[i].name)) {
			return table[i].sig;
		}
	}
	if ((rest = str_after(name, "RTMIN+")) != NULL && parse_u64(rest, 30, &n) == 0) {
		return 34 + (int)n;
	}
	if ((rest = str_after(name, "RTMAX-")) != NULL && parse_u64(rest, 30, &n) == 0) {
		return 64 - (int)n;
	}
	return -EINVAL;
}
