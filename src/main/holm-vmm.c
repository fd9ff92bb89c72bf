/* SPDX-License-Identifier: Apache-2.0 */
/*
 * holm-vmm: runs one virtual machine. This process opens what the command line names, keeps the
 * terminal, and starts the monitor in a process of its own; again, when the guest resets.
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <termios.h>

#include "base/cmd.h"
#include "base/fd.h"
#include "base/log.h"
#include "main/vmm-ctl.h"
#include "main/vmm.h"
#include "sys/file.h"
#include "sys/mount.h"
#include "sys/proc.h"
#include "sys/socket.h"
#include "vm/jail.h"
#include "vm/replay.h"

static const char *const engines[] = { "auto", "kvm", "soft", "interp", NULL };
static const char *const consoles[] = { "serial", "virtio", "none", NULL };

#define IN(m) offsetof(struct vmm_opts, m)
static const struct cmd_opt opts[] = {
	{ 'k', "kernel", CMD_STR, IN(kernel), "FILE",
	  "a Linux bzImage (x86-64), or an ELF file with a PVH entry", .complete = CMD_COMPLETE_FILE },
	{ 0, "restore", CMD_STR, IN(restore), "DIR",
	  "instead of a kernel: the folder of a snapshot, with the files \"state\", "
	  "\"memory-low\" and \"memory-high\"; the other options are those of the machine that "
	  "was saved", .complete = CMD_COMPLETE_DIR },
	{ 0, "paused", CMD_FLAG, IN(paused), NULL,
	  "wait for \"resume\" on the control socket; without a kernel, for \"restore\", too" },
	{ 0, "initrd", CMD_STRV, IN(initrds), "FILE",
	  "initial RAM file system; several are put one behind another",
	  .complete = CMD_COMPLETE_FILE },
	{ 0, "cmdline", CMD_STR, IN(cmdline), "TEXT",
	  "the kernel's command line; default: console= the device of --console" },
	{ 'm', "memory", CMD_SIZE, IN(memory), "BYTES", "of the guest", .dflt = "512m" },
	{ 'c', "cpus", CMD_UINT, IN(cpus), "N", "virtual CPUs", 1, VM_VCPUS_MAX, .dflt = "1" },
	{ 'd', "disk", CMD_STRV, IN(disks), "path=FILE[,ro][,serial=NAME]",
	  "a raw disk: a file or a block device" },
	{ 'n', "net", CMD_STR, IN(net), "tap=NAME[,mac=MAC]|user[,dns=ADDRESS]",
	  "a network interface: on a tap device that is there, or the user network: outgoing only, by "
	  "passt; the guest is 10.0.2.15/24, its way out 10.0.2.2. DHCP tells the host's "
	  "resolvers, or, with an address for them, they answer there" },
	{ 0, "vsock", CMD_STR, IN(vsock), "path=SOCKET[,cid=N]",
	  "a vsock device; host programs connect to SOCKET and write \"CONNECT PORT\"; the guest's "
	  "connections to port P go to the unix socket SOCKET_P" },
	{ 0, "control", CMD_STR, IN(control), "SOCKET", "the control socket is made there",
	  .complete = CMD_COMPLETE_FILE },
	{ 0, "gdb", CMD_STR, IN(gdb), "SOCKET|tcp:HOST:PORT",
	  "a debugger can connect there: gdb -ex 'target remote SOCKET'; HOST is one of the loopback "
	  "interface, and may be left out (:1234); with --paused the guest waits for it",
	  .complete = CMD_COMPLETE_FILE },
	{ 0, "serial-file", CMD_STR, IN(serial_file), "FILE",
	  "the serial port writes there (appending, until the file has 4 MiB) and reads nothing",
	  .complete = CMD_COMPLETE_FILE },
	{ 0, "console", CMD_CHOICE, IN(console), "DEVICE",
	  "the device that standard input and output belong to", .choices = consoles,
	  .dflt = "serial" },
	{ 0, "engine", CMD_CHOICE, IN(engine), "NAME",
	  "what runs the guest's instructions; soft translates them to the host's, interp runs one after "
	  "another and is the reference; auto: kvm where it really works, else soft", .choices = engines,
	  .dflt = "auto" },
	{ 0, "translate-after", CMD_UINT, IN(translate_after), "N",
	  "with --engine soft: the run of a piece of code that is the first one of its translation; 1: "
	  "all are; 0: what is thought best", 0, UINT16_MAX, .dflt = "0" },
	{ 0, "code-cache", CMD_SIZE, IN(code_cache), "BYTES",
	  "of memory for translated code, of all virtual CPUs: 1m to 1g", .dflt = "64m" },
	{ 0, "no-shadow", CMD_FLAG, IN(no_shadow), NULL,
	  "with --engine soft: translated code finds all of the guest's memory by a table; none of it is "
	  "mapped where a program of the guest has it" },
	{ 0, "direct", CMD_FLAG, IN(direct), NULL,
	  "with --engine soft: the memory of any program of the guest is mapped as soon as that runs, "
	  "whatever it costs; like --shake it is there to show that the guest sees no difference" },
	{ 0, "stats", CMD_FLAG, IN(stats), NULL,
	  "at the end print what the software engine has counted; \"ctl stats\" shows it any time" },
	{ 0, "perf-map", CMD_STR, IN(perf_map), "FILE",
	  "the addresses of translated code and the guest's that it is made of, as perf reads them",
	  .complete = CMD_COMPLETE_FILE },
	{ 0, "shake", CMD_FLAG, IN(shake), NULL,
	  "with --engine soft: what it keeps is forgotten now and then, and translated code takes its slow "
	  "ways; the guest sees no difference, which is what this is for" },
	{ 0, "cache", CMD_STR, IN(cache), "DIR",
	  "unpacked kernels are kept here, as files of the user who starts the machine",
	  .complete = CMD_COMPLETE_DIR },
	{ 0, "no-kaslr", CMD_FLAG, IN(no_kaslr), NULL,
	  "the kernel lies where it was linked, without a change of its command line" },
	{ 0, "uid", CMD_UINT, IN(uid), "UID", "the monitor's user, if this one is root", 1,
	  UINT32_MAX - 1, .dflt = "65534" },
	{ 0, "gid", CMD_UINT, IN(gid), "GID", "its group", 1, UINT32_MAX - 1, .dflt = "65534" },
	{ 0, "unconfined", CMD_FLAG, IN(unconfined), NULL,
	  "no jail around the monitor: for work on the monitor itself" },
	{ 0, "die-with-parent", CMD_FLAG, IN(die_with_parent), NULL,
	  "the machine ends when the process that started it ends" },
	{ 0, "record", CMD_STR, IN(record), "FILE",
	  "write down all that reaches the guest; it runs on the software engine, with time counted "
	  "in instructions", .complete = CMD_COMPLETE_FILE },
	{ 0, "replay", CMD_STR, IN(replay), "FILE",
	  "run a recorded guest again, instruction by instruction; nothing else is needed",
	  .complete = CMD_COMPLETE_FILE },
	{ 0, "check-every", CMD_UINT, IN(check_every), "N",
	  "with --record: instructions between two checks of the registers; with --replay, too: what is "
	  "replayed is recorded again, with these checks besides its own", 1, UINT64_MAX / 2,
	  .dflt = "1000000" },
	{ 0, "check-memory-every", CMD_UINT, IN(check_memory_every), "N",
	  "with --record: the same for memory, at the first check of the registers from there on; 0: "
	  "only at the end", 0, UINT64_MAX / 2, .dflt = "1000000" },
	{ 0, "check-from", CMD_UINT, IN(check_from), "N",
	  "with --replay and --record: more checks from so many instructions on", 0, UINT64_MAX / 2 },
	{ 0, "check-to", CMD_UINT, IN(check_to), "N", "and up to there", 0, UINT64_MAX / 2 },
	{ 0, "stop-at", CMD_UINT, IN(stop_at), "N",
	  "with --replay: stop after so many instructions, for the debugger of --gdb, or print the "
	  "registers", 1, UINT64_MAX / 2 },
	{ 0, "no-reboot", CMD_FLAG, IN(no_reboot), NULL, "a reset ends the machine, too" },
};
#undef IN

/* --- The terminal --- */

struct terminal {
	struct termios before;
	bool           changed;
	int            flags[2];   /* of standard input and output; negative: not open */
};

static void terminal_restore(struct terminal *t)
{
	if (t->changed) {
		t->changed = false;
		(void)tcsetattr(STDIN_FILENO, TCSADRAIN, &t->before); /* nothing can be done */
	}
	for (int fd = 0; fd < 2; fd++) {
		if (t->flags[fd] >= 0) {
			ignore_result(sys_fcntl(fd, F_SETFL, t->flags[fd])); /* as above */
		}
	}
}

static void terminal_raw(struct terminal *t, const struct vmm_opts *o, bool escape_key)
{
	struct termios raw;

	if (o->console == VMM_CONSOLE_NONE || tcgetattr(STDIN_FILENO, &t->before) < 0) {
		return; /* no terminal */
	}
	raw = t->before;
	cfmakeraw(&raw);
	t->changed = tcsetattr(STDIN_FILENO, TCSADRAIN, &raw) == 0;
	if (t->changed && escape_key) {
		fprintf(stderr, "holm-vmm: Ctrl-A x ends the machine, Ctrl-A b presses its button\r\n");
	}
}

/* --- The monitor's process --- */

/* What the keeper waits for while a monitor runs. */
struct watch {
	int signal_fd;
	int parent_fd;   /* pidfd of who started us; -1: it may end */
	struct vmm_link link;
};

/*
 * Wait for it; what asks us to end asks it. The parent is watched by a descriptor: the signal
 * that the kernel sends at its death needs its permission, which a parent that has given up its
 * privileges does not have.
 */
static int wait_for(pid_t pid, const struct vmm_files *f, struct watch *w)
{
	for (;;) {
		struct pollfd fds[] = {
			{ w->signal_fd, POLLIN, 0 },
			{ w->parent_fd, POLLIN, 0 },
			{ w->link.open ? w->link.wire.fd : -1, vmm_link_events(&w->link), 0 },
			{ vmm_link_listens(&w->link) ? f->control_fd : -1, POLLIN, 0 },
			{ vmm_link_listens(&w->link) ? f->gdb_fd : -1, POLLIN, 0 },
		};
		struct signalfd_siginfo got = { .ssi_signo = SIGTERM };
		siginfo_t si = { 0 };

		if (poll(fds, ARRAY_LEN(fds), -1) < 0) {
			continue; /* interrupted: all that counts is blocked */
		}
		if (fds[2].revents) {
			vmm_link_ready(&w->link);
		}
		if (fds[3].revents) {
			vmm_link_accept(&w->link, f->control_fd, false);
		}
		if (fds[4].revents) {
			vmm_link_accept(&w->link, f->gdb_fd, true);
		}
		if (fds[1].revents) {
			fd_close(&w->parent_fd);
		} else if (sys_read(w->signal_fd, &got, sizeof(got)) != (ssize_t)sizeof(got)) {
			continue;
		}
		if (got.ssi_signo != SIGCHLD) {
			ignore_result(sys_kill(pid, SIGTERM)); /* it may have ended */
			continue;
		}
		int r = sys_waitid(P_PID, (id_t)pid, &si, WEXITED | WNOHANG);

		if (r < 0 || si.si_pid == pid) {
			return r < 0 ? r : proc_exit_status(&si);
		}
	}
}

static int watch_open(struct watch *w, const sigset_t *signals, bool die_with_parent, pid_t parent,
		      struct err *e)
{
	w->signal_fd = sys_signalfd(-1, signals, SFD_NONBLOCK);
	w->parent_fd = w->signal_fd >= 0 && die_with_parent ? sys_pidfd_open(parent, 0) : -1;
	if (w->signal_fd < 0) {
		return err_set(e, -w->signal_fd, ERR_HOST, "cannot wait for signals");
	}
	if (die_with_parent && (w->parent_fd < 0 || getppid() != parent)) {
		return err_set(e, ESRCH, ERR_HOST, "who started this machine is gone");
	}
	return 0;
}

struct boot {
	const struct vmm_opts *o;
	struct vmm_files      *f;
};

static int boot(void *ud)
{
	struct boot *b = ud;
	struct err e = ERR_INIT;
	int r = vmm_monitor(b->o, b->f, &e);

	if (r < 0) {
		log_err(LOG_LEVEL_ERROR, &e);
		r = err_codes[e.code].exit_code;
	}
	return r;
}

/*
 * Guest memory that can be mapped twice and has huge pages: the only file of a file system that is
 * nowhere mounted. Memory files have them only where the host's administrator says so. -1: who may
 * not mount does without. It is the monitor's: the kernel tells nobody else which of its pages were
 * touched, and a snapshot would take memory for all of them.
 */
static int memory_file(const struct vmm_opts *o)
{
	auto_close int fs = sys_fsopen("tmpfs");
	auto_close int mount = -1;
	int r = fs;

	r = r < 0 ? r : sys_fsconfig(fs, FSCONFIG_SET_STRING, "huge", "advise", 0);
	r = r < 0 ? r : sys_fsconfig(fs, FSCONFIG_SET_STRING, "size", "0", 0);
	r = r < 0 ? r : sys_fsconfig(fs, FSCONFIG_CMD_CREATE, NULL, NULL, 0);
	mount = r < 0 ? r : sys_fsmount(fs, MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV | MOUNT_ATTR_NOEXEC);
	auto_close int file = mount < 0 ? -1 : sys_openat(mount, ".", O_RDWR | O_TMPFILE, 0600);

	if (file >= 0 && !o->unconfined && geteuid() == 0) {
		ignore_result(sys_fchownat(file, "", (uid_t)o->uid, (gid_t)o->gid, AT_EMPTY_PATH));
		/* it works without */
	}
	return take_fd(&file);
}

static int run_once(const struct vmm_opts *o, struct vmm_files *f, struct watch *w,
		    const sigset_t *before, struct err *e)
{
	int r = vmm_link_open(&w->link, f, &f->parent_fd, e);

	if (r < 0) {
		return r;
	}
	pid_t keeper = getpid(), pid = sys_fork();

	if (pid < 0) {
		vmm_link_close(&w->link);
		return err_set(e, -pid, ERR_HOST, "cannot fork");
	}
	if (pid > 0) {
		fd_close(&f->parent_fd);
		r = wait_for(pid, f, w);
		vmm_link_close(&w->link);
		return r;
	}
	vmm_link_close(&w->link);
	sigprocmask(SIG_SETMASK, before, NULL);
	/* The keeper's: one of them stands for the process that started it. */
	fd_close(&w->signal_fd);
	fd_close(&w->parent_fd);
	fd_close(&f->control_fd);
	fd_close(&f->gdb_fd);
	/* Without a keeper there is nobody to tell how it ended. */
	if (sys_prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0) < 0 || getppid() != keeper) {
		_exit(1);
	}
	const struct jail_conf jail = { .confined = !o->unconfined, .uid = (uid_t)o->uid,
					.gid = (gid_t)o->gid };
	struct boot b = { o, f };

	f->memory_file_fd = f->engine->memory_again && vmm_shadows(o) ? memory_file(o) : -1;
	r = jail_run(&jail, boot, &b, e);
	if (r < 0) {
		log_err(LOG_LEVEL_ERROR, e);
		r = err_codes[e->code].exit_code;
	}
	_exit(r);
}

static int run(const struct cmd_call *call, struct err *e)
{
	const struct vmm_opts *o = call->opts;
	struct vmm_files f = VMM_FILES_INIT;
	struct terminal t = { .flags = { -1, -1 } };
	sigset_t signals, before;
	struct watch w = { .signal_fd = -1, .parent_fd = -1 };
	pid_t parent = getppid();
	int r = 0;

	log_setup("holm-vmm", STDERR_FILENO, LOG_FORMAT_PLAIN,
		  o->debug ? LOG_LEVEL_DEBUG : LOG_LEVEL_NOTICE);
	for (int fd = 0; fd < 2; fd++) {
		t.flags[fd] = sys_fcntl(fd, F_GETFL, 0);
	}
	r = vmm_open_files(o, &f, e);
	r = r < 0 ? r : vmm_unpack_kernel(o, &f, e);
	sigemptyset(&signals);
	sigaddset(&signals, SIGCHLD);
	sigaddset(&signals, SIGTERM);
	sigaddset(&signals, SIGINT);
	sigaddset(&signals, SIGHUP);
	sigprocmask(SIG_BLOCK, &signals, &before);
	signal(SIGPIPE, SIG_IGN);
	r = r < 0 ? r : watch_open(&w, &signals, o->die_with_parent, parent, e);
	if (r == 0) {
		terminal_raw(&t, o, f.escape_key);
		do {
			r = run_once(o, &f, &w, &before, e);
		} while (r == vm_ends[VM_END_RESET].status && !o->no_reboot &&
			 o->kernel && !o->record);
		terminal_restore(&t);
	}
	fd_close(&w.signal_fd);
	fd_close(&w.parent_fd);
	vmm_close_files(&f);
	return r;
}

/* --- Recordings --- */

static int compare(const struct cmd_call *call, struct err *e)
{
	struct replay_difference d;
	int fds[2];

	for (int i = 0; i < 2; i++) {
		fds[i] = sys_openat(AT_FDCWD, call->args[i], O_RDONLY, 0);
		if (fds[i] < 0) {
			return err_set(e, -fds[i], ERR_NOT_FOUND, "cannot open the recording %s",
				       call->args[i]);
		}
	}
	int r = replay_compare(fds[0], fds[1], &d, e);

	if (r < 0) {
		return r;
	}
	if (r == 0) {
		printf("%s\n", d.text);
	}
	printf("%llu checks are the same%s%llu instructions\n", (unsigned long long)d.checks,
	       r == 0 ? "; the last at " : ", up to ", (unsigned long long)d.same_insns);
	return r == 0;
}

static const struct cmd cmd_compare = {
	.name = "compare", .args = "RECORDING RECORDING", .min_args = 2, .max_args = 2, .run = compare,
	.help = "find the first difference between two recordings",
	.text = "What reached the guest has to be the same, and the registers and the memory at the "
		"checks that both recordings have. The exit status is 1 if there is a difference.",
};

static const struct cmd *const commands[] = { &vmm_cmd_ctl, &cmd_compare };

static const struct cmd root = {
	.name = "holm-vmm", .sub = commands, .n_sub = ARRAY_LEN(commands), .opts = opts, .n_opts = ARRAY_LEN(opts),
	.opts_size = sizeof(struct vmm_opts), .run = run,
	.help = "run one virtual machine",
	.text = "The guest's serial port is standard input and output. On a terminal, Ctrl-A x ends "
		"the machine and Ctrl-A b presses its power button.\n\n"
		"The exit status is 0 when the guest switched itself off, 11 when its kernel "
		"panicked, 12 after a triple fault, 13 when the machine was stopped from outside, and "
		"with --no-reboot 10 after a reset.",
	.examples = "holm-vmm --kernel /boot/vmlinuz --initrd initrd.img --cmdline console=ttyS0",
};

int main(int argc, char **argv)
{
	return cmd_main(&root, argc, argv, NULL);
}
