/* SPDX-License-Identifier: Apache-2.0 */
#include "container/init.h"

#include <errno.h>
#include <net/if.h>
#include <signal.h>
#include <stdio.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <unistd.h>

#include "base/fd.h"
#include "container/hooks.h"
#include "container/netdev.h"
#include "container/sysctl.h"
#include "container/trampoline.h"
#include "sys/file.h"
#include "sys/proc.h"
#include "sys/procfs.h"
#include "sys/socket.h"

static int loopback_up(struct err *e)
{
	struct ifreq ifr = { .ifr_name = "lo", .ifr_flags = IFF_UP | IFF_RUNNING };
	auto_close int fd = sys_socket(AF_INET, SOCK_DGRAM, 0);

	if (fd == -EAFNOSUPPORT) {
		return 0; /* a kernel without IPv4 */
	}

	int r = fd < 0 ? fd : sys_ioctl(fd, SIOCSIFFLAGS, &ifr);

	return r < 0 ? err_set(e, -r, ERR_HOST, "cannot bring up the loopback interface") : 0;
}

int init_make_network(void *ud unused_arg, struct err *e)
{
	int r = sys_unshare(CLONE_NEWNET);

	return r < 0 ? err_set(e, -r, ERR_HOST, "cannot make the network namespace")
		     : loopback_up(e);
}

static int set_names(const struct oci_spec *s, struct err *e)
{
	int r = s->hostname ? sys_sethostname(s->hostname, strlen(s->hostname)) : 0;

	if (r < 0) {
		return err_set(e, -r, ERR_HOST, "cannot set /hostname to %s", s->hostname);
	}
	r = s->domainname ? sys_setdomainname(s->domainname, strlen(s->domainname)) : 0;
	return r < 0 ? err_set(e, -r, ERR_HOST, "cannot set /domainname to %s", s->domainname) : 0;
}

static int run_hooks(const struct init *in, const struct jvec *hooks, const char *name,
		     enum record_status status, const char *cwd, struct err *e)
{
	if (hooks->n == 0) {
		return 0;
	}

	auto_json json_t *state = record_state_json(in->rec, status, false);

	/* In the container's pid namespace, as the hook sees it. */
	if (!state || json_object_set_new(state, "pid", json_integer(getpid())) < 0) {
		return err_nomem(e);
	}
	return hooks_run(hooks, name, state, cwd, e);
}

static int apply_sysctls(struct init *in, struct err *e)
{
	const struct oci_linux *l = in->rec->spec.linux;
	auto_close int own_fd = -1;
	int proc_fd = rootfs_proc_fd(in->fs);

	if (!l || l->sysctl.n == 0) {
		return 0;
	}
	if (proc_fd < 0) {
		own_fd = procfs_open(0);
		proc_fd = own_fd;
	}
	if (proc_fd < 0) {
		return err_set(e, -proc_fd, ERR_HOST, "cannot open a trusted /proc for /linux/sysctl");
	}
	return sysctl_apply(proc_fd, &l->sysctl, e);
}

static int make_tree(struct init *in, struct spawned *me, struct err *e)
{
	static const struct oci_hooks no_hooks;
	const struct oci_hooks *hooks = in->rec->spec.hooks ? in->rec->spec.hooks : &no_hooks;
	int r = rootfs_assemble(in->fs, e);

	if (r == 0 && in->runtime_hooks) {
		r = msg_send(me->sync_fd, MSG_HOOKS);
		r = r < 0 ? err_set(e, -r, ERR_HOST, "the runtime is gone")
			  : msg_wait(me->sync_fd, MSG_GO, false, NULL, e);
	}
	r = r < 0 ? r : run_hooks(in, &hooks->create_container, "createContainer", STATUS_CREATING,
				  NULL, e);
	/* With the host's /proc still in sight, without which none may be mounted in a user
	 * namespace. */
	r = r < 0 ? r : apply_sysctls(in, e);
	return r < 0 ? r : rootfs_enter(in->fs, e);
}

static int give_terminal(struct init *in, struct err *e)
{
	const struct oci_console_size *size = in->process.conf->console_size;
	auto_close int master = -1;

	rootfs_take_pty(in->fs, &master, &in->process.pty_fd);
	if (master < 0) {
		return 0;
	}
	if (size && size->height <= UINT16_MAX && size->width <= UINT16_MAX) {
		struct winsize ws = { .ws_row = (unsigned short)size->height,
				      .ws_col = (unsigned short)size->width };
		int r = sys_ioctl(master, TIOCSWINSZ, &ws);

		if (r < 0) {
			return err_set(e, -r, ERR_HOST, "cannot set the terminal's size");
		}
	}

	static const char name[] = "/dev/ptmx";
	int r = sock_send_fds(in->console_fd, name, sizeof(name) - 1, &master, 1);

	fd_close(&in->console_fd);
	return r < 0 ? err_set(e, -r, ERR_HOST, "cannot send the terminal to the console socket") : 0;
}

/* A failed execve as a message to the runtime (run) ... */
static size_t report_msg(const struct err *e, void *out, size_t max, size_t *ret_errnum_at)
{
	const struct msg m = { .kind = MSG_FAILED, .err = *e };

	static_assert(sizeof(m) <= TRAMPOLINE_REPORT_BYTES, "a message fits");
	assert(sizeof(m) <= max);
	memcpy(out, &m, sizeof(m));
	*ret_errnum_at = offsetof(struct msg, err) + offsetof(struct err, errnum);
	return sizeof(m);
}

/* ... and as what `start` reads. */
static size_t report_err(const struct err *e, void *out, size_t max, size_t *ret_errnum_at)
{
	assert(sizeof(*e) <= max);
	memcpy(out, e, sizeof(*e));
	*ret_errnum_at = offsetof(struct err, errnum);
	return sizeof(*e);
}

static int write_trampoline(struct init *in, const struct spawned *me, struct err *e)
{
	static const struct msg ready = { .kind = MSG_READY };
	bool create = in->start_fd >= 0;
	const struct process_wait w = {
		.ready_fd = in->hurry ? -1 : me->sync_fd,
		.wait_fd = in->hurry ? -1 : create ? in->start_fd : me->sync_fd,
		.report_fd = create ? in->result_fd : me->sync_fd,
		.ready = &ready, .ready_bytes = sizeof(ready),
		.make_report = create ? report_err : report_msg,
	};

	return process_trampoline_write(&in->process, &w, e);
}

/* What only concerns this process and its fresh namespaces. */
static int set_up(struct init *in, struct spawned *me, struct err *e)
{
	int r = sys_prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0);

	r = r < 0 ? err_set(e, -r, ERR_HOST, "cannot follow the runtime's end") : 0;
	if (r == 0 && sys_setsid() < 0) {
		r = err_set(e, EPERM, ERR_HOST, "cannot begin a session");
	}
	sys_reset_signals();
	if (r == 0 && (in->make & CLONE_NEWNET)) {
		r = loopback_up(e);
	}
	r = r < 0 ? r : netdevs_up(in->netdevs, e);
	r = r < 0 ? r : set_names(&in->rec->spec, e);
	r = r < 0 ? r : make_tree(in, me, e);
	r = r < 0 ? r : give_terminal(in, e);
	if (r < 0) {
		return r;
	}
	in->process.may_setgroups = me->may_setgroups;
	in->process.keep[0] = me->sync_fd;
	in->process.keep[1] = in->start_fd;
	in->process.keep[2] = in->result_fd;
	in->process.keep[3] = in->process.trampoline_fd;
	in->process.keep[4] = in->process.control_fd;
	/* Before a filter that might refuse it. From here on a runtime that is gone shows when
	 * this process reports to it. */
	r = sys_prctl(PR_SET_PDEATHSIG, 0, 0, 0, 0);
	if (r < 0) {
		return err_set(e, -r, ERR_HOST, "cannot outlive the runtime");
	}
	r = in->process.trampoline_fd >= 0 ? write_trampoline(in, me, e) : 0;
	return r < 0 ? r : process_settle(&in->process, e);
}

/* Tell the parent, then wait for `start` (create) or for the parent itself (run). */
static int wait_start(struct init *in, struct spawned *me, struct err *e)
{
	char go;
	int r = msg_send(me->sync_fd, MSG_READY);

	if (r < 0) {
		return err_set(e, -r, ERR_HOST, "the runtime is gone");
	}
	if (in->start_fd < 0) {
		return msg_wait(me->sync_fd, MSG_GO, false, NULL, e);
	}
	fd_close(&me->sync_fd);

	ssize_t n = sys_read(in->start_fd, &go, 1);

	if (n != 1) {
		return err_set(e, n < 0 ? (int)-n : EPIPE, ERR_HOST, "cannot wait for start");
	}
	fd_close(&in->start_fd);
	return 0;
}

noreturn_fn void init_main(struct init *in, struct spawned *me)
{
	struct err e = ERR_INIT;
	const struct oci_hooks *hooks = in->rec->spec.hooks;
	int r = set_up(in, me, &e);

	if (r >= 0 && in->process.trampoline_fd >= 0) {
		r = process_trampoline_exec(&in->process, &e);
	}
	r = r < 0 ? r : wait_start(in, me, &e);
	if (r >= 0 && hooks) {
		r = run_hooks(in, &hooks->start_container, "startContainer", STATUS_CREATED, NULL, &e);
	}
	if (r >= 0) {
		r = process_exec(&in->process, &e);
	}
	if (me->sync_fd >= 0) {
		msg_send_err(me->sync_fd, &e);
	} else if (in->result_fd >= 0) {
		ignore_result(sys_write(in->result_fd, &e, sizeof(e))); /* no one may be there */
	}
	_exit(1);
}
