/* SPDX-License-Identifier: Apache-2.0 */
/* holm-vmm ctl: the control socket of a machine, by hand. */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <sys/socket.h>

#include "base/fd.h"
#include "main/vmm-ctl.h"
#include "sys/file.h"
#include "sys/socket.h"
#include "vm/vm.h"
#include "wire/vmm-proto.h"

struct client {
	struct wire_conn wire;
	uint32_t         serial;
	struct vmm_state_msg state;   /* the last one told */
};

static void client_close(struct client *c)
{
	wire_msg_fini(&vmm_msgs[VMM_STATE], &c->state);
	wire_conn_fini(&c->wire);
}

#define auto_client auto_(client_close)
#define CLIENT_INIT { .wire = { .fd = -1 } }

static int client_open(struct client *c, const char *path, struct err *e)
{
	int fd = sock_connect_path(path);

	wire_conn_init(&c->wire, fd < 0 ? -1 : fd, VMM_PROTO_VERSION);
	wire_msg_init(&vmm_msgs[VMM_STATE], &c->state);
	return fd < 0 ? err_set(e, -fd, fd == -ENOENT ? ERR_NOT_FOUND : ERR_UNAVAILABLE,
				"no machine at %s: %s", path, strerror(-fd)) : 0;
}

static int gone(struct err *e)
{
	return err_set(e, EPIPE, ERR_UNAVAILABLE, "the machine's monitor is gone");
}

/* One frame, into *ret of the type that it says. */
static int receive(struct client *c, struct wire_frame *f, struct err *e)
{
	for (;;) {
		int r = wire_conn_next(&c->wire, f);

		if (r != 0) {
			return r > 0 ? 0 : gone(e);
		}
		if (wire_conn_fill(&c->wire) < 0) {
			return gone(e);
		}
	}
}

static int take_state(struct client *c, struct wire_frame *f, struct err *e)
{
	wire_msg_fini(&vmm_msgs[VMM_STATE], &c->state);
	return wire_decode(&vmm_msgs[VMM_STATE], f, &c->state, e);
}

/* Ask, and wait for the reply, which the caller ends with wire_msg_fini() after a success. */
static int ask(struct client *c, enum vmm_msg_type type, const void *msg, struct vmm_reply *ret,
	       struct err *e)
{
	uint32_t serial = ++c->serial;
	struct wire_frame f;

	if (wire_conn_send(&c->wire, &vmm_msgs[type], serial, msg) < 0) {
		return gone(e);
	}
	for (;;) {
		int r = receive(c, &f, e);

		if (r == 0 && f.type == VMM_STATE) {
			r = take_state(c, &f, e);
		} else if (r == 0 && f.type == VMM_REPLY && f.serial == serial) {
			r = wire_decode(&vmm_msgs[VMM_REPLY], &f, ret, e);
			if (r == 0 && ret->errnum == 0) {
				return 0;
			}
			r = r < 0 ? r : err_set(e, (int)ret->errnum, (enum err_code)ret->code, "%s",
						ret->message ? ret->message : "refused");
			wire_msg_fini(&vmm_msgs[VMM_REPLY], ret);
		} else if (r == 0) {
			wire_frame_fini(&f);
		}
		if (r < 0) {
			return r;
		}
	}
}

/* The same of a request whose reply says nothing but that it was done. */
static int order(struct client *c, enum vmm_msg_type type, const void *msg, struct err *e)
{
	struct vmm_reply reply = { .fd = -1 };
	int r = ask(c, type, msg, &reply, e);

	if (r == 0) {
		wire_msg_fini(&vmm_msgs[VMM_REPLY], &reply);
	}
	return r;
}

/* --- Requests without arguments --- */

static const struct {
	const char       *name;
	enum vmm_msg_type type;
} simple[] = {
	{ "pause", VMM_PAUSE }, { "resume", VMM_RESUME }, { "power-button", VMM_POWER_BUTTON },
	{ "quit", VMM_STOP },
};

static int run_simple(const struct cmd_call *call, struct err *e)
{
	auto_client struct client c = CLIENT_INIT;
	enum vmm_msg_type type = VMM_NONE;
	int r = client_open(&c, call->args[0], e);

	for (size_t i = 0; i < ARRAY_LEN(simple); i++) {
		type = str_eq(call->cmd->name, simple[i].name) ? simple[i].type : type;
	}
	return r < 0 ? r : order(&c, type, &(struct vmm_empty){ 0 }, e);
}

static int run_status(const struct cmd_call *call, struct err *e)
{
	auto_client struct client c = CLIENT_INIT;
	struct vmm_reply reply = { .fd = -1 };
	int r = client_open(&c, call->args[0], e);

	r = r < 0 ? r : ask(&c, VMM_STATS, &(struct vmm_empty){ 0 }, &reply, e);
	if (r == 0) {
		printf("%s\n", reply.text ? reply.text : "{}");
		wire_msg_fini(&vmm_msgs[VMM_REPLY], &reply);
	}
	return r;
}

static int run_stats(const struct cmd_call *call, struct err *e)
{
	auto_client struct client c = CLIENT_INIT;
	struct vmm_reply reply = { .fd = -1 };
	int r = client_open(&c, call->args[0], e);

	r = r < 0 ? r : ask(&c, VMM_ENGINE_STATS, &(struct vmm_empty){ 0 }, &reply, e);
	if (r == 0) {
		printf("%s", reply.text ? reply.text : "");
		wire_msg_fini(&vmm_msgs[VMM_REPLY], &reply);
	}
	return r;
}

/* --- Snapshots --- */

struct snapshot_opts {
	bool quit;
};

/* A new folder beside the one that is wanted; one that a killed run left is removed. */
struct fresh {
	int   parent_fd, dir_fd;
	struct vmm_snapshot fds;
	char *name, *temporary;
};

static void fresh_close(struct fresh *f)
{
	fd_close(&f->parent_fd);
	fd_close(&f->dir_fd);
	fd_close(&f->fds.state_fd);
	fd_close(&f->fds.memory_low_fd);
	fd_close(&f->fds.memory_high_fd);
	free(f->name);
	free(f->temporary);
}

static int create(int dir_fd, const char *name, int *ret)
{
	*ret = sys_openat(dir_fd, name, O_RDWR | O_CREAT | O_EXCL, 0600);
	return *ret < 0 ? *ret : 0;
}

static int fresh_open(struct fresh *f, const char *path, struct err *e)
{
	size_t n = strlen(path);

	while (n > 1 && path[n - 1] == '/') {
		n--;
	}
	auto_free char *whole = str_ndup(path, n);
	const char *slash = whole ? strrchr(whole, '/') : NULL;
	auto_free char *parent = !slash ? str_dup(".") :
					  str_ndup(whole, slash == whole ? 1 : (size_t)(slash - whole));

	f->name = whole ? str_dup(slash ? slash + 1 : whole) : NULL;
	f->temporary = f->name ? str_printf(".%s.new", f->name) : NULL;
	if (!parent || !f->temporary) {
		return err_nomem(e);
	}
	f->parent_fd = sys_openat(AT_FDCWD, parent, O_RDONLY | O_DIRECTORY, 0);
	int r = f->parent_fd < 0 ? f->parent_fd : sys_remove_tree(f->parent_fd, f->temporary);

	r = r == -ENOENT || r == 0 ? sys_mkdirat(f->parent_fd, f->temporary, 0700) : r;
	f->dir_fd = r < 0 ? r : sys_openat(f->parent_fd, f->temporary, O_RDONLY | O_DIRECTORY, 0);
	r = f->dir_fd < 0 ? f->dir_fd : create(f->dir_fd, "state", &f->fds.state_fd);
	r = r < 0 ? r : create(f->dir_fd, "memory-low", &f->fds.memory_low_fd);
	r = r < 0 ? r : create(f->dir_fd, "memory-high", &f->fds.memory_high_fd);
	return r < 0 ? err_set(e, -r, ERR_HOST, "cannot make %s: %s", path, strerror(-r)) : 0;
}

/* The new snapshot, whole and on the disk, takes the place of the old one at once. */
static int fresh_publish(struct fresh *f, struct err *e)
{
	int r = sys_fsync(f->fds.state_fd);

	r = r < 0 ? r : sys_fsync(f->fds.memory_low_fd);
	r = r < 0 ? r : sys_fsync(f->fds.memory_high_fd);
	r = r < 0 ? r : sys_fsync(f->dir_fd);
	r = r < 0 ? r : sys_renameat2(f->parent_fd, f->temporary, f->parent_fd, f->name,
				      RENAME_NOREPLACE);
	if (r == -EEXIST) {
		r = sys_renameat2(f->parent_fd, f->temporary, f->parent_fd, f->name,
				  RENAME_EXCHANGE);
		r = r < 0 ? r : sys_fsync(f->parent_fd);
		r = r < 0 ? r : sys_remove_tree(f->parent_fd, f->temporary);
	}
	r = r < 0 ? r : sys_fsync(f->parent_fd);
	return r < 0 ? err_set(e, -r, ERR_HOST, "cannot put the snapshot in place") : 0;
}

static int save_paused(struct client *c, const char *path, struct err *e)
{
	auto_(fresh_close) struct fresh f = { -1, -1, { -1, -1, -1 }, NULL, NULL };
	int r = fresh_open(&f, path, e);

	r = r < 0 ? r : order(c, VMM_SNAPSHOT, &f.fds, e);
	r = r < 0 ? r : fresh_publish(&f, e);
	if (r < 0 && f.parent_fd >= 0 && f.temporary) {
		ignore_result(sys_remove_tree(f.parent_fd, f.temporary)); /* r says what is wrong */
	}
	return r;
}

static int run_snapshot(const struct cmd_call *call, struct err *e)
{
	const struct snapshot_opts *o = call->opts;
	const struct vmm_empty none = { 0 };
	auto_client struct client c = CLIENT_INIT;
	struct err later = ERR_INIT;
	int r = client_open(&c, call->args[0], e);

	r = r < 0 ? r : order(&c, VMM_GET_STATE, &none, e);
	bool running = r == 0 && c.state.state == VMM_RUNNING;

	if (running) {
		r = order(&c, VMM_PAUSE, &none, e);
		running = r == 0;
	}
	r = r < 0 ? r : save_paused(&c, call->args[1], e);
	if (r == 0 && o->quit) {
		return order(&c, VMM_STOP, &none, e);
	}
	if (running && order(&c, VMM_RESUME, &none, &later) < 0 && r == 0) {
		*e = later;
		r = -later.errnum;
	}
	return r;
}

/* --- Connections --- */

/* Copy until one side has no more; false: nothing is to be had from there any more. */
static bool copy(int from, int to)
{
	char chunk[65536];
	ssize_t n = sys_read(from, chunk, sizeof(chunk));

	return n == -EAGAIN || (n > 0 && sys_write_full(to, chunk, (size_t)n) == 0);
}

static int carry(int fd)
{
	struct pollfd fds[] = { { STDIN_FILENO, POLLIN, 0 }, { fd, POLLIN, 0 } };

	while (fds[1].fd >= 0) {
		if (poll(fds, ARRAY_LEN(fds), -1) < 0) {
			continue; /* interrupted */
		}
		if (fds[0].revents && !copy(STDIN_FILENO, fd)) {
			fds[0].fd = -1;
			ignore_result(sys_shutdown(fd, SHUT_WR)); /* it may be gone */
		}
		if (fds[1].revents && !copy(fd, STDOUT_FILENO)) {
			fds[1].fd = -1;
		}
	}
	return 0;
}

static int run_stream(const struct cmd_call *call, struct err *e)
{
	auto_client struct client c = CLIENT_INIT;
	struct vmm_reply reply = { .fd = -1 };
	struct vmm_vsock_connect to = { 0 };
	uint64_t port = 0;
	bool console = str_eq(call->cmd->name, "console");

	if (!console && parse_u64(call->args[1], UINT32_MAX - 1, &port) < 0) {
		return err_set(e, EINVAL, ERR_INVALID, "'%s' is no port", call->args[1]);
	}
	to.port = (uint32_t)port;
	int r = client_open(&c, call->args[0], e);

	r = r < 0 ? r : console ? ask(&c, VMM_CONSOLE, &(struct vmm_empty){ 0 }, &reply, e) :
				  ask(&c, VMM_VSOCK_CONNECT, &to, &reply, e);
	if (r < 0) {
		return r;
	}
	auto_close int fd = take_fd(&reply.fd);

	wire_msg_fini(&vmm_msgs[VMM_REPLY], &reply);
	r = fd < 0 ? -EBADMSG : sys_fcntl(fd, F_SETFL, 0); /* we wait in poll() */
	return r < 0 ? gone(e) : carry(fd);
}

/* --- The table --- */

#define SIMPLE(var, name_, help_) \
	static const struct cmd cmd_##var = { \
		.name = (name_), .args = "SOCKET", .min_args = 1, .max_args = 1, .run = run_simple, \
		.help = (help_), .complete = CMD_COMPLETE_FILE }

SIMPLE(pause, "pause", "stop the virtual CPUs and the devices");
SIMPLE(resume, "resume", "let them go on");
SIMPLE(button, "power-button", "press the power button");
SIMPLE(quit, "quit", "end the machine at once");

static const struct cmd cmd_status = {
	.name = "status", .args = "SOCKET", .min_args = 1, .max_args = 1, .run = run_status,
	.help = "show state, engine, memory and counters, as JSON", .complete = CMD_COMPLETE_FILE,
};

static const struct cmd cmd_stats = {
	.name = "stats", .args = "SOCKET", .min_args = 1, .max_args = 1, .run = run_stats,
	.help = "show what the software engine has counted", .complete = CMD_COMPLETE_FILE,
	.text = "Counters of the translator and the software TLB since the machine's start, of all "
		"virtual CPUs; what is 0 is left out. docs/translator.md says how to read them.",
};

static const struct cmd_opt snapshot_opts[] = {
	{ 'q', "quit", CMD_FLAG, offsetof(struct snapshot_opts, quit), NULL,
	  "end the machine once it is saved" },
};

static const struct cmd cmd_snapshot = {
	.name = "snapshot", .args = "SOCKET DIR", .min_args = 2, .max_args = 2, .run = run_snapshot,
	.opts = snapshot_opts, .n_opts = ARRAY_LEN(snapshot_opts),
	.opts_size = sizeof(struct snapshot_opts), .help = "save the machine in a folder",
	.text = "A machine that runs is paused for as long as it takes. A snapshot that is there is "
		"replaced when the new one is whole and on the disk.",
	.complete = CMD_COMPLETE_FILE,
};

static const struct cmd cmd_connect = {
	.name = "connect", .args = "SOCKET PORT", .min_args = 2, .max_args = 2, .run = run_stream,
	.help = "connect standard input and output to a vsock port of the guest",
	.complete = CMD_COMPLETE_FILE,
};

static const struct cmd cmd_console = {
	.name = "console", .args = "SOCKET", .min_args = 1, .max_args = 1, .run = run_stream,
	.help = "connect standard input and output to the serial port",
	.complete = CMD_COMPLETE_FILE,
};

static const struct cmd *const commands[] = {
	&cmd_status, &cmd_stats, &cmd_pause, &cmd_resume, &cmd_snapshot, &cmd_button, &cmd_quit, &cmd_console,
	&cmd_connect,
};

const struct cmd vmm_cmd_ctl = {
	.name = "ctl", .help = "drive a machine that was started with --control",
	.sub = commands, .n_sub = ARRAY_LEN(commands),
};
