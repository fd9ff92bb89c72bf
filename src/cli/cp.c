/* SPDX-License-Identifier: Apache-2.0 */
/*
 * cp: files between an instance and here, as a tar stream. The daemon reads and writes on the
 * instance's side, inside of its root. On this side the host's tar does, as the user who runs
 * holm: it does not leave the folder it is told, whatever names and links the stream holds.
 */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/fd.h"
#include "cli/cli.h"
#include "sys/file.h"
#include "sys/proc.h"

enum { CHUNK = 65536 };

struct cp_opts {
	bool archive, follow;
};

#define IN(m) offsetof(struct cp_opts, m)
static const struct cmd_opt cp_table[] = {
	{ 'a', "archive", CMD_FLAG, IN(archive), NULL, "keep owners and all permissions" },
	{ 'L', "follow-link", CMD_FLAG, IN(follow), NULL, "copy what a link SOURCE leads to" },
};
#undef IN

/* "NAME:PATH"; a path of this host has a '/' before any ':'. */
static const char *instance_path(const char *arg, char **ret_name)
{
	const char *colon = strchr(arg, ':'), *slash = strchr(arg, '/');

	*ret_name = NULL;
	if (!colon || colon == arg || (slash && slash < colon) || arg[0] == '.') {
		return NULL;
	}
	*ret_name = str_ndup(arg, (size_t)(colon - arg));
	return colon[1] ? colon + 1 : "/";
}

static const char *last_part(const char *path, size_t *ret_len)
{
	size_t len = strlen(path);

	while (len > 1 && path[len - 1] == '/') {
		len--;
	}
	const char *slash = memrchr(path, '/', len);

	*ret_len = slash && len > 1 ? len - (size_t)(slash - path) - 1 : len;
	return slash && len > 1 ? slash + 1 : path;
}

static char *archive_path(const char *name, const char *path, bool follow)
{
	auto_free char *base = cli_instance_path(name, "archive");
	struct buf b = BUF_INIT;

	buf_add_str(&b, base ? base : "");
	http_query(&b, "path", path);
	http_query(&b, "follow", follow ? "true" : NULL);
	return base ? buf_take(&b) : (buf_fini(&b), NULL);
}

/* A regular expression that matches just `s`, for tar's --transform. */
static void add_literal(struct buf *b, const char *s, size_t n, const char *special)
{
	for (size_t i = 0; i < n; i++) {
		if (strchr(special, s[i]) && s[i]) {
			buf_add_char(b, '\\');
		}
		buf_add_char(b, s[i]);
	}
}

/* The stream's first name becomes another; links keep their targets. */
static char *transform(const char *from, size_t from_len, const char *to, size_t to_len)
{
	struct buf b = BUF_INIT;

	buf_add_str(&b, "--transform=s,^\\(\\./\\)\\?");
	add_literal(&b, from, from_len, "\\.*[]^$,/");
	buf_add_str(&b, "\\(/\\|$\\),");
	add_literal(&b, to, to_len, "\\&,");
	buf_add_str(&b, "\\2,rSH");
	return buf_take(&b);
}

/* tar with one of its standard streams on a pipe; returns our end. */
static int spawn_tar(char *const *argv, bool reads, pid_t *ret_pid, struct err *e)
{
	int p[2];
	int r = sys_pipe2(p, 0);

	if (r < 0) {
		return err_set(e, -r, ERR_HOST, "a pipe");
	}
	pid_t pid = sys_fork();

	if (pid == 0) {
		if (dup2(reads ? p[0] : p[1], reads ? 0 : 1) >= 0) {
			(void)execvp(argv[0], argv); /* returns only if it failed */
		}
		dprintf(2, "holm: cannot run tar: %s\n", strerror(errno));
		_exit(127);
	}
	fd_close(&p[reads ? 0 : 1]);
	if (pid < 0) {
		fd_close(&p[reads ? 1 : 0]);
		return err_set(e, -pid, ERR_HOST, "cannot fork");
	}
	*ret_pid = pid;
	return p[reads ? 1 : 0];
}

static int end_tar(pid_t pid, struct err *e)
{
	siginfo_t si;
	int r = sys_waitid(P_PID, (id_t)pid, &si, WEXITED);

	if (r < 0) {
		return err_set(e, -r, ERR_HOST, "waiting for tar");
	}
	return proc_exit_status(&si) == 0 ? 0 :
	       err_set(e, EIO, ERR_HOST, "tar ended with status %d", proc_exit_status(&si));
}

static int pump(struct http_reply *reply, int fd, struct err *e)
{
	static char bytes[CHUNK];
	ssize_t n;

	while ((n = http_read(reply, bytes, sizeof(bytes))) > 0) {
		int r = sys_write_full(fd, bytes, (size_t)n);

		if (r < 0) {
			return err_set(e, -r, ERR_HOST, "writing the stream");
		}
	}
	return n < 0 ? err_set(e, (int)-n, ERR_UNAVAILABLE, "the stream ended early") : 0;
}

static bool is_dir(const char *path)
{
	struct stat st;

	return sys_fstatat(AT_FDCWD, path, &st, 0) == 0 && S_ISDIR(st.st_mode);
}

/* Into an existing folder under its own name; else as the name that was given. */
static int unpack(struct http_reply *reply, const char *source, const char *target, bool archive,
		  struct err *e)
{
	size_t from_len, to_len;
	bool into = is_dir(target), whole = str_ends(source, "/.") || str_eq(source, "/");
	/* The stream of "X/." begins with X, that of the root with ".". */
	auto_free char *named = str_ndup(source, strlen(source) - (str_ends(source, "/.") ? 2 : 0));
	const char *from = named && named[0] && !str_eq(named, "/") ? last_part(named, &from_len) :
			   (from_len = 1, ".");
	const char *to = last_part(target, &to_len);
	auto_free char *parent = into ? str_dup(target) : to == target ? str_dup(".") :
				 str_ndup(target, MAX((size_t)(to - target), (size_t)1));
	auto_free char *rename = into && whole ? transform(from, from_len, ".", 1) :
				 into ? NULL : transform(from, from_len, to, to_len);
	char *argv[] = { (char *)(uintptr_t)"tar", (char *)(uintptr_t)"-x",
			 /* A setuid file of the instance must not become one of root here. */
			 (char *)(uintptr_t)(archive ? "-p" : "--no-same-permissions"),
			 (char *)(uintptr_t)"--numeric-owner",
			 (char *)(uintptr_t)(archive ? "--same-owner" : "--no-same-owner"),
			 (char *)(uintptr_t)"-C", parent, (char *)(uintptr_t)"-f",
			 (char *)(uintptr_t)"-", rename, NULL };
	pid_t pid;

	if (!parent || !named || ((!into || whole) && !rename)) {
		return err_nomem(e);
	}
	if (!into && str_ends(target, "/")) {
		return err_set(e, ENOENT, ERR_NOT_FOUND, "there is no folder %s here", target);
	}
	auto_close int fd = spawn_tar(argv, true, &pid, e);
	if (fd < 0) {
		return fd;
	}
	int r = pump(reply, fd, e);
	struct err other = ERR_INIT;

	fd_close(&fd);
	int ended = end_tar(pid, r < 0 ? &other : e);

	return r < 0 ? r : ended;
}

static int copy_out(const struct cmd_call *call, const char *name, const char *source,
		    const char *target, struct err *e)
{
	const struct cp_opts *o = call->opts;
	auto_free char *path = archive_path(name, source, o->follow);
	struct http_call c = { .socket = cli_socket(call), .method = "GET", .path = path,
			       .body_fd = -1 };
	auto_http struct http_reply *reply = NULL;
	int r = path ? http_open(&c, &reply, e) : err_nomem(e);

	if (r < 0) {
		return r;
	}
	return str_eq(target, "-") ? pump(reply, STDOUT_FILENO, e) :
				     unpack(reply, source, target, o->archive, e);
}

/* PUT a stream into a folder of the instance. */
static int put_stream(const struct cmd_call *call, const char *name, const char *folder, int fd,
		      struct err *e)
{
	auto_free char *path = archive_path(name, folder, false);
	struct http_call c = { .socket = cli_socket(call), .method = "PUT", .path = path,
			       .body_fd = fd, .content_type = "application/x-tar" };

	auto_json json_t *reply = NULL;

	return path ? http_json(&c, &reply, e) : err_nomem(e);
}

/* 1: a folder; 0: something else; -errno: not there, or another error. */
static int is_remote_dir(const struct cmd_call *call, const char *name, const char *path,
			 struct err *e)
{
	auto_free char *base = archive_path(name, path, true);
	auto_free char *query = base ? str_printf("%s&stat=true", base) : NULL;
	auto_json json_t *st = NULL;
	int r = cli_json(call, "GET", query, NULL, &st, e);

	return r < 0 ? r : str_eq(cli_str(st, "type"), "dir");
}

static int copy_in(const struct cmd_call *call, const char *source, const char *name,
		   const char *target, struct err *e)
{
	const struct cp_opts *o = call->opts;
	size_t from_len, to_len;
	const char *to = last_part(target, &to_len);
	int dir = is_remote_dir(call, name, target, e);

	if (dir < 0 && (e->code != ERR_NOT_FOUND || str_eq(source, "-") || str_ends(target, "/"))) {
		return dir;
	}
	err_clear(e);
	if (str_eq(source, "-")) {
		return put_stream(call, name, target, dup(STDIN_FILENO), e);
	}
	const char *from = last_part(source, &from_len);
	auto_free char *base = from == source ? str_dup(".") :
			       str_ndup(source, MAX((size_t)(from - source), (size_t)1));
	auto_free char *item = str_ndup(from, from_len);
	auto_free char *folder = dir > 0 ? str_dup(target) : to == target ? str_dup("/") :
				 str_ndup(target, MAX((size_t)(to - target), (size_t)1));
	auto_free char *rename = dir > 0 ? NULL : transform(from, from_len, to, to_len);
	char *argv[] = { (char *)(uintptr_t)"tar", (char *)(uintptr_t)"-c",
			 (char *)(uintptr_t)"--numeric-owner", (char *)(uintptr_t)"-C", base,
			 (char *)(uintptr_t)"-f", (char *)(uintptr_t)"-",
			 (char *)(uintptr_t)(o->follow ? "-h" : "--sparse"),
			 (char *)(uintptr_t)(o->archive ? "--xattrs" : "--owner=0"),
			 (char *)(uintptr_t)(o->archive ? "--acls" : "--group=0"),
			 rename ? rename : (char *)(uintptr_t)"--", rename ?
			 (char *)(uintptr_t)"--" : item, rename ? item : NULL, NULL };
	pid_t pid;

	if (!base || !item || !folder || (dir <= 0 && !rename)) {
		return err_nomem(e);
	}
	auto_close int fd = spawn_tar(argv, false, &pid, e);
	if (fd < 0) {
		return fd;
	}
	int r = put_stream(call, name, folder, fd, e);
	struct err other = ERR_INIT;

	fd_close(&fd);
	int ended = end_tar(pid, r < 0 ? &other : e);

	return r < 0 ? r : ended;
}

static int cmd_cp(const struct cmd_call *call, struct err *e)
{
	auto_free char *from_name = NULL;
	auto_free char *to_name = NULL;
	const char *from = instance_path(call->args[0], &from_name);
	const char *to = instance_path(call->args[1], &to_name);

	(void)signal(SIGPIPE, SIG_IGN); /* cannot fail; a tar that ends early is told by its status */
	if (from && to) {
		return err_set(e, EINVAL, ERR_UNSUPPORTED,
			       "one side must be of this host; copy through a pipe: "
			       "holm cp A:X - | holm cp - B:Y");
	}
	if (!from && !to) {
		return err_set(e, EINVAL, ERR_INVALID,
			       "one side must be INSTANCE:PATH");
	}
	if ((from && !from_name) || (to && !to_name)) {
		return err_nomem(e);
	}
	return from ? copy_out(call, from_name, from, call->args[1], e) :
		      copy_in(call, call->args[0], to_name, to, e);
}

const struct cmd cli_cp = {
	.name = "cp", .args = "SOURCE TARGET", .min_args = 2, .max_args = 2, .opts = cp_table,
	.n_opts = ARRAY_LEN(cp_table), .opts_size = sizeof(struct cp_opts), .run = cmd_cp,
	.group = "Instances", .help = "copy files between an instance and here",
	.text = "One of both is INSTANCE:PATH. \"-\" is a tar stream on standard input or output. "
		"A TARGET that is a folder gets the SOURCE in it, another becomes it.",
	.examples = "holm cp web:/etc/nginx ./nginx\nholm cp index.html web:/srv/",
	.complete = CMD_COMPLETE_DYNAMIC,
};
