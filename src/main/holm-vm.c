/* SPDX-License-Identifier: Apache-2.0 */
/*
 * holm-vm: an OCI runtime with runc's command line, whose containers are virtual machines.
 */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/cmd.h"
#include "base/fd.h"
#include "base/log.h"
#include "container/container.h"
#include "json/json.h"
#include "sys/file.h"
#include "sys/proc.h"
#include "vmrun/vmrun.h"

struct top_opts {
	const char *root, *log, *vmm, *agent_image, *kernel;
	int         log_format, engine;
	bool        debug, systemd_cgroup;
};

static const char *const log_formats[] = { "text", "json", NULL };
static const char *const engines[] = { "auto", "kvm", "soft", NULL };

#define IN(m) offsetof(struct top_opts, m)
static const struct cmd_opt top_opts[] = {
	{ 0, "root", CMD_STR, IN(root), "DIR", "folder of what is kept of machines", .dflt = "/run/holm-vm",
	  .complete = CMD_COMPLETE_DIR },
	{ 0, "log", CMD_STR, IN(log), "FILE", "write the log to this file",
	  .complete = CMD_COMPLETE_FILE },
	{ 0, "log-format", CMD_CHOICE, IN(log_format), "FORMAT", "text or json",
	  .choices = log_formats, .dflt = "text" },
	{ 0, "debug", CMD_FLAG, IN(debug), NULL, "log more" },
	{ 0, "systemd-cgroup", CMD_FLAG, IN(systemd_cgroup), NULL,
	  "taken, as callers of runc give it; the limits of a machine are its size" },
	{ 0, "engine", CMD_CHOICE, IN(engine), "NAME", "CPU engine of the monitor: auto, kvm, soft",
	  .choices = engines, .dflt = "auto" },
	{ 0, "kernel", CMD_STR, IN(kernel), "DIR", "a kernel as holm-image makes it; "
	  "default: $HOLM_KERNEL, else /var/lib/holm/kernels/default", .complete = CMD_COMPLETE_DIR },
	{ 0, "vmm", CMD_STR, IN(vmm), "PATH", "the monitor; usually beside this program",
	  .complete = CMD_COMPLETE_FILE },
	{ 0, "agent-image", CMD_STR, IN(agent_image), "PATH",
	  "archive with the programs of the guest; usually beside this program",
	  .complete = CMD_COMPLETE_FILE },
};
#undef IN

struct create_opts_vm {
	const char *bundle, *console_socket, *pid_file;
	bool        no_pivot, no_new_keyring, detach;
	uint64_t    preserve_fds;
};

#define IN(m) offsetof(struct create_opts_vm, m)
#define CREATE_OPTS \
	{ 'b', "bundle", CMD_STR, IN(bundle), "DIR", "the bundle (default: the working directory)", \
	  .complete = CMD_COMPLETE_DIR }, \
	{ 0, "console-socket", CMD_STR, IN(console_socket), "SOCKET", \
	  "unix socket that gets the master of the terminal", .complete = CMD_COMPLETE_FILE }, \
	{ 0, "pid-file", CMD_STR, IN(pid_file), "FILE", "write the process id of the proxy to this file", \
	  .complete = CMD_COMPLETE_FILE }, \
	{ 0, "no-pivot", CMD_FLAG, IN(no_pivot), NULL, "taken; it means nothing here" }, \
	{ 0, "no-new-keyring", CMD_FLAG, IN(no_new_keyring), NULL, "taken; it means nothing here" }, \
	{ 0, "preserve-fds", CMD_UINT, IN(preserve_fds), "N", "refused unless 0", .max = 1024 }
static const struct cmd_opt create_opts[] = { CREATE_OPTS };
static const struct cmd_opt run_opts[] = {
	CREATE_OPTS,
	{ 'd', "detach", CMD_FLAG, IN(detach), NULL, "leave the container running" },
};
#undef IN

struct exec_opts_vm {
	const char *process, *console_socket, *pid_file;
	bool        detach;
};

#define IN(m) offsetof(struct exec_opts_vm, m)
static const struct cmd_opt exec_opts[] = {
	{ 'p', "process", CMD_STR, IN(process), "FILE", "the process, as the specification has it",
	  .flags = CMD_REQUIRED, .complete = CMD_COMPLETE_FILE },
	{ 0, "console-socket", CMD_STR, IN(console_socket), "SOCKET",
	  "unix socket that gets the master of the terminal", .complete = CMD_COMPLETE_FILE },
	{ 0, "pid-file", CMD_STR, IN(pid_file), "FILE", "write the process id of the proxy to this file",
	  .complete = CMD_COMPLETE_FILE },
	{ 'd', "detach", CMD_FLAG, IN(detach), NULL, "leave it running" },
};
#undef IN

struct flag_opts { bool flag; };
static const struct cmd_opt kill_opts[] = {
	{ 'a', "all", CMD_FLAG, offsetof(struct flag_opts, flag), NULL,
	  "send to every process of the container" },
};
static const struct cmd_opt delete_opts[] = {
	{ 'f', "force", CMD_FLAG, offsetof(struct flag_opts, flag), NULL, "end it first" },
};

struct ps_opts { int format; };
static const char *const ps_formats[] = { "table", "json", NULL };
static const struct cmd_opt ps_opts[] = {
	{ 'f', "format", CMD_CHOICE, offsetof(struct ps_opts, format), "FORMAT", "table or json",
	  .choices = ps_formats, .dflt = "table" },
};
static const struct cmd_opt events_opts[] = {
	{ 0, "stats", CMD_FLAG, offsetof(struct flag_opts, flag), NULL, "print the counters once" },
};

static const char *root_of(const struct cmd_call *call)
{
	return ((const struct top_opts *)call->top)->root;
}

static const char *kernel_of(const struct top_opts *t)
{
	const char *kernel = getenv("HOLM_KERNEL");

	return t->kernel ? t->kernel : kernel ? kernel : "/var/lib/holm/kernels/default";
}

/* A program that stands in this one's folder. */
static char *beside(const char *given, const char *name)
{
	char self[4096];
	ssize_t n = given ? 0 : sys_readlinkat(AT_FDCWD, "/proc/self/exe", self, sizeof(self) - 1);

	if (given || n <= 0) {
		return str_dup(given ? given : name);
	}
	self[n] = '\0';
	char *slash = strrchr(self, '/');

	return str_printf("%.*s/%s", (int)(slash - self), self, name);
}

static int cmd_create(const struct cmd_call *call, struct err *e)
{
	const struct create_opts_vm *o = call->opts;
	const struct top_opts *t = call->top;
	auto_free char *vmm = beside(t->vmm, "holm-vmm");
	auto_free char *image = beside(t->agent_image, "holm-agent.img");
	struct vm_create c = {
		.root = t->root, .id = call->args[0], .bundle = o->bundle,
		.pid_file = o->pid_file && *o->pid_file ? o->pid_file : NULL,
		.console_socket = o->console_socket && *o->console_socket ? o->console_socket : NULL,
		.programs = { .vmm = vmm, .agent_image = image, .kernel = kernel_of(t),
			      .engine = engines[t->engine] },
	};

	if (o->preserve_fds) {
		return err_set(e, EOPNOTSUPP, ERR_UNSUPPORTED,
			       "--preserve-fds: descriptors cannot be handed into a virtual machine");
	}
	return vmm && image ? vm_create(&c, e) : err_nomem(e);
}

/* One request to the guest; prints what it answers. */
static int ask(const struct cmd_call *call, enum guest_msg_type type, const void *msg, bool print,
	       struct err *e)
{
	struct vm_record rec = VM_RECORD_INIT;
	struct guest_link l = GUEST_LINK_INIT;
	struct guest_reply reply = { .text = NULL };
	int r = vm_record_open(root_of(call), call->args[0], &rec, e);

	if (r == 0 && vm_record_status(&rec) == VM_STOPPED) {
		r = err_set(e, ESRCH, ERR_CONFLICT, "container %s is stopped", rec.id);
	}
	r = r < 0 ? r : link_open(rec.dir_fd, VM_VSOCK_FILE, &l, e);
	if (r == 0) {
		r = link_call(&l, type, msg, &reply, e);
		if (r == 0 && print && reply.text) {
			fputs(reply.text, stdout);
		}
		wire_msg_fini(&guest_msgs[GUEST_REPLY], &reply);
	}
	link_close(&l);
	vm_record_fini(&rec);
	return r;
}

static int cmd_start(const struct cmd_call *call, struct err *e)
{
	const struct guest_empty m = { 0 };
	struct vm_record rec = VM_RECORD_INIT;
	int r = vm_record_open(root_of(call), call->args[0], &rec, e);

	if (r == 0 && vm_record_status(&rec) != VM_CREATED) {
		r = err_set(e, EINVAL, ERR_CONFLICT, "container %s is %s", rec.id,
			    vm_status_names[vm_record_status(&rec)]);
	}
	r = r < 0 ? r : ask(call, GUEST_START, &m, false, e);
	if (r == 0) {
		rec.started = true;
		r = vm_record_save(&rec, e);
	}
	vm_record_fini(&rec);
	return r;
}

static int end_and_remove(const struct cmd_call *call, bool force, struct err *e)
{
	struct vm_record rec = VM_RECORD_INIT;
	int r = vm_record_open(root_of(call), call->args[0], &rec, e);

	if (r < 0 && force && e->code == ERR_NOT_FOUND) {
		return 0;
	}
	if (r == 0 && vm_record_status(&rec) == VM_RUNNING && !force) {
		r = err_set(e, EBUSY, ERR_CONFLICT, "container %s is running: stop it first, or give "
			    "--force", rec.id);
	}
	/* The monitor dies with its proxy. */
	for (int i = 0; r == 0 && vm_record_status(&rec) != VM_STOPPED; i++) {
		const struct timespec t = { .tv_nsec = 10 * 1000 * 1000 };

		ignore_result(sys_kill(rec.pid, SIGKILL)); /* gone already: the loop sees it */
		(void)nanosleep(&t, NULL);                 /* woken early: asks again */
		r = i > 1000 ? err_set(e, EBUSY, ERR_HOST, "container %s does not end", rec.id) : 0;
	}
	vm_record_fini(&rec);
	return r < 0 ? r : vm_record_remove(root_of(call), call->args[0], e);
}

/* The container's process is our child. */
static int wait_process(const struct cmd_call *call, struct err *e)
{
	struct vm_record rec = VM_RECORD_INIT;
	siginfo_t si = { .si_pid = 0 };
	int r = vm_record_open(root_of(call), call->args[0], &rec, e);

	if (r == 0) {
		r = sys_waitid(P_PID, (id_t)rec.pid, &si, WEXITED);
		r = r < 0 ? err_set(e, -r, ERR_HOST, "waiting for the container") :
			    proc_exit_status(&si);
	}
	vm_record_fini(&rec);
	return r;
}

static int cmd_run_vm(const struct cmd_call *call, struct err *e)
{
	const struct create_opts_vm *o = call->opts;
	struct err later = ERR_INIT;
	int r = cmd_create(call, e);

	if (r < 0) {
		return r;
	}
	r = cmd_start(call, e);
	if (r == 0 && o->detach) {
		return 0;
	}
	r = r < 0 ? r : wait_process(call, e);

	int removed = end_and_remove(call, true, &later);

	if (r >= 0 && removed < 0) {
		*e = later;
		return removed;
	}
	return r;
}

static int cmd_exec(const struct cmd_call *call, struct err *e)
{
	const struct exec_opts_vm *o = call->opts;
	struct vm_exec x = { .root = root_of(call), .id = call->args[0], .process_file = o->process,
			     .pid_file = o->pid_file, .console_socket = o->console_socket,
			     .detach = o->detach };

	return vm_exec(&x, e);
}

static int cmd_state(const struct cmd_call *call, struct err *e)
{
	struct vm_record rec = VM_RECORD_INIT;
	int r = vm_record_open(root_of(call), call->args[0], &rec, e);

	if (r < 0) {
		return r;
	}
	enum vm_status status = vm_record_status(&rec);
	auto_json json_t *doc = json_pack("{s:s,s:s,s:s,s:i,s:s,s:s}", "ociVersion", "1.3.0", "id",
					  rec.id, "status", vm_status_names[status], "pid",
					  status == VM_STOPPED ? 0 : (int)rec.pid, "bundle",
					  rec.bundle ? rec.bundle : "", "created",
					  time_format(rec.created_ns).text);
	auto_free char *text = doc ? json_text_pretty(doc) : NULL;

	vm_record_fini(&rec);
	if (!text) {
		return err_nomem(e);
	}
	puts(text);
	return 0;
}

static int cmd_kill(const struct cmd_call *call, struct err *e)
{
	const struct flag_opts *o = call->opts;
	const char *name = call->n_args > 1 ? call->args[1] : "TERM";
	int sig = signal_parse(name);
	char init[] = GUEST_INIT;
	struct guest_signal m = { .session = init, .signal = (uint32_t)sig, .all = true };
	struct vm_record rec = VM_RECORD_INIT;

	if (sig <= 0) {
		return err_set(e, EINVAL, ERR_INVALID, "unknown signal \"%s\": give a number or a name "
			       "such as TERM", name);
	}
	if (o->flag) {
		return ask(call, GUEST_SIGNAL, &m, false, e);
	}
	int r = vm_record_open(root_of(call), call->args[0], &rec, e);

	if (r == 0 && vm_record_status(&rec) == VM_STOPPED) {
		r = err_set(e, ESRCH, ERR_CONFLICT, "container not running");
	} else if (r == 0) {
		r = sys_kill(rec.pid, sig);
		r = r < 0 ? err_set(e, -r, ERR_HOST, "sending the signal") : 0;
	}
	vm_record_fini(&rec);
	return r;
}

static int cmd_delete(const struct cmd_call *call, struct err *e)
{
	return end_and_remove(call, ((const struct flag_opts *)call->opts)->flag, e);
}

static int cmd_ps(const struct cmd_call *call, struct err *e)
{
	const struct guest_empty m = { 0 };

	return ask(call, GUEST_PIDS, &m, true, e);
}

static int cmd_events(const struct cmd_call *call, struct err *e)
{
	const struct guest_empty m = { 0 };

	return ask(call, GUEST_STATS, &m, true, e);
}

static int cmd_refused(const struct cmd_call *call, struct err *e)
{
	return err_set(e, EOPNOTSUPP, ERR_UNSUPPORTED, "%s: a virtual machine cannot do this yet",
		       call->cmd->name);
}

#define OPTS(table, type) .opts = table, .n_opts = ARRAY_LEN(table), .opts_size = sizeof(type)
#define ONE .args = "CONTAINER", .min_args = 1, .max_args = 1

static const struct cmd *const commands[] = {
	&(const struct cmd){ .name = "create", ONE, OPTS(create_opts, struct create_opts_vm),
	  .run = cmd_create, .help = "boot a machine and make the bundle's container in it" },
	&(const struct cmd){ .name = "delete", ONE, OPTS(delete_opts, struct flag_opts),
	  .run = cmd_delete, .help = "remove a container and its machine" },
	&(const struct cmd){ .name = "events", ONE, OPTS(events_opts, struct flag_opts),
	  .run = cmd_events, .help = "print the counters of a container" },
	&(const struct cmd){ .name = "exec", ONE, OPTS(exec_opts, struct exec_opts_vm),
	  .run = cmd_exec, .help = "run one more process in a container" },
	&(const struct cmd){ .name = "kill", .args = "CONTAINER [SIGNAL]", .min_args = 1, .max_args = 2,
	  OPTS(kill_opts, struct flag_opts), .run = cmd_kill,
	  .help = "send a signal to a container's first process" },
	&(const struct cmd){ .name = "pause", ONE, .run = cmd_refused, .help = "not yet" },
	&(const struct cmd){ .name = "ps", ONE, OPTS(ps_opts, struct ps_opts), .run = cmd_ps,
	  .help = "list the processes, as the guest numbers them" },
	&(const struct cmd){ .name = "resume", ONE, .run = cmd_refused, .help = "not yet" },
	&(const struct cmd){ .name = "run", ONE, OPTS(run_opts, struct create_opts_vm),
	  .run = cmd_run_vm, .help = "create, start, and wait for the end" },
	&(const struct cmd){ .name = "start", ONE, .run = cmd_start,
	  .help = "execute the program of a created container" },
	&(const struct cmd){ .name = "state", ONE, .run = cmd_state, .help = "print a container's state" },
};

static const struct cmd root = {
	.name = "holm-vm", .sub = commands, .n_sub = ARRAY_LEN(commands),
	.opts = top_opts, .n_opts = ARRAY_LEN(top_opts), .opts_size = sizeof(struct top_opts),
	.help = "run containers from OCI bundles, each in a virtual machine of its own",
	.text = "The command line is that of holm-oci and runc. Each container gets a machine with a "
		"kernel of its own; the container's files come as a disk, its streams over vsock. The "
		"limits of memory and CPU in its config are the size of the machine.",
};

/* The caller's log gets the error, too. */
static void report(int argc, char **argv, const struct err *e)
{
	char text[sizeof(e->msg) + sizeof(e->field) + 160], number[16];

	(void)snprintf(number, sizeof(number), "%d", e->errnum);
	for (int i = 1; i < argc; i++) {
		const char *path = str_after(argv[i], "--log=");

		path = path ? path : str_eq(argv[i], "--log") && i + 1 < argc ? argv[i + 1] : NULL;
		auto_close int fd = path ? sys_openat(AT_FDCWD, path, O_WRONLY | O_CREAT | O_APPEND,
						      0644) : -1;

		if (fd >= 0) {
			log_setup("holm-vm", fd, LOG_FORMAT_JSON, LOG_LEVEL_WARN);
			log_error(err_text(e, text, sizeof(text)), "reason", err_reason(e), "code",
				  err_codes[e->code].name, "errno", number);
		}
	}
	fprintf(stderr, "holm-vm: %s\n", err_text(e, text, sizeof(text)));
}

int main(int argc, char **argv)
{
	struct err e = ERR_INIT;
	bool usage = false;

	if (fd_fill_stdio() < 0) {
		return 1;
	}
	int r = cmd_run(&root, argc, argv, NULL, &usage, &e);

	if (r < 0) {
		report(argc, argv, &e);
		return usage ? 2 : 1;
	}
	return r;
}
