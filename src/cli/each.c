/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One call for each of many arguments. A call waits for the daemon most of its time (for an
 * instance to end, for a file system to be emptied), so several wait at once, each in a child.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/fd.h"
#include "cli/cli.h"
#include "sys/file.h"
#include "sys/proc.h"

struct one {
	pid_t pid;
	int   out_fd;
};

static noreturn_fn void run_child(const struct cmd_call *call, const char *arg, cli_each_fn fn,
				  int out_fd)
{
	struct err e = ERR_INIT;

	if (dup2(out_fd, STDOUT_FILENO) < 0) {
		_exit(1);
	}
	int r = fn(call, arg, &e);

	if (r < 0) {
		cli_complain(&e);
	}
	_exit(r < 0 || fflush(stdout) != 0 ? 1 : 0);
}

static int begin(const struct cmd_call *call, const char *arg, cli_each_fn fn, struct one *ret,
		 struct err *e)
{
	int p[2];
	int r = sys_pipe2(p, 0);

	if (r < 0) {
		return err_set(e, -r, ERR_HOST, "a pipe");
	}
	(void)fflush(stdout); /* or the child prints it once more; a failure shows at the end */
	pid_t pid = sys_fork();

	if (pid == 0) {
		fd_close(&p[0]);
		run_child(call, arg, fn, p[1]);
	}
	fd_close(&p[1]);
	if (pid < 0) {
		fd_close(&p[0]);
		return err_set(e, (int)-pid, ERR_HOST, "a process for %s", arg);
	}
	*ret = (struct one){ .pid = pid, .out_fd = p[0] };
	return 0;
}

/* Print what it had to say; true if it went well. */
static bool end(struct one *o)
{
	char buf[4096];
	ssize_t n;
	int status = 0;

	while ((n = sys_read(o->out_fd, buf, sizeof(buf))) > 0) {
		(void)fwrite(buf, 1, (size_t)n, stdout); /* a failure shows at the end */
	}
	(void)fflush(stdout); /* the same */
	fd_close(&o->out_fd);
	while (waitpid(o->pid, &status, 0) < 0 && errno == EINTR) {
	}
	return WIFEXITED(status) && WEXITSTATUS(status) == 0;
}

int cli_each_of(const struct cmd_call *call, const char *const *args, size_t n, unsigned at_once,
		cli_each_fn one, struct err *e)
{
	struct one ring[CLI_AT_ONCE];
	size_t begun = 0, ended = 0;
	bool failed = false;

	if (n == 1) {
		return one(call, args[0], e);
	}
	while (ended < n) {
		struct err own = ERR_INIT;

		if (begun < n && begun - ended < MIN(at_once, (unsigned)CLI_AT_ONCE)) {
			struct one *o = &ring[begun % CLI_AT_ONCE];

			*o = (struct one){ .pid = -1, .out_fd = -1 };
			if (begin(call, args[begun], one, o, &own) < 0) {
				cli_complain(&own);
			}
			begun++;
			continue;
		}
		struct one *o = &ring[ended++ % CLI_AT_ONCE];

		failed = o->pid < 0 || !end(o) || failed;
	}
	return failed;
}

int cli_each(const struct cmd_call *call, cli_each_fn one, struct err *e)
{
	return cli_each_of(call, (const char *const *)call->args, call->n_args, CLI_AT_ONCE,
			   one, e);
}
