/* SPDX-License-Identifier: Apache-2.0 */
#include "container/hooks.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/fd.h"
#include "base/log.h"
#include "sys/file.h"
#include "sys/proc.h"

enum { OUTPUT_MAX = 320 };   /* of what a failed hook printed, in the error */

struct hook_run {
	const struct oci_hook *hook;
	const char            *name;
	size_t                 index;
	const char            *cwd;
	int                    stdin_fd;
	int                    out_read, out_write;
	int                    pidfd;
	char                   out[OUTPUT_MAX + 1];
	size_t                 out_len;
};

/* In the child. */
static noreturn_fn void exec_hook(const struct hook_run *h)
{
	const struct oci_hook *hook = h->hook;
	static char *const no_env[] = { NULL };
	char *default_argv[] = { (char *)(uintptr_t)hook->path, NULL };
	char *const *argv = hook->args.n ? (char *const *)(uintptr_t)hook->args.v : default_argv;
	char *const *envp = hook->env.n ? (char *const *)(uintptr_t)hook->env.v : no_env;

	sys_reset_signals();
	if (dup2(h->stdin_fd, 0) < 0 || dup2(h->out_write, 1) < 0 || dup2(h->out_write, 2) < 0 ||
	    sys_close_range(3, ~0u, CLOSE_RANGE_CLOEXEC) < 0 || (h->cwd && chdir(h->cwd) < 0)) {
		dprintf(2, "cannot set up: %s", strerror(errno));
		_exit(126);
	}
	execve(hook->path, argv, envp);
	dprintf(2, "cannot execute %s: %s", hook->path, strerror(errno));
	_exit(127);
}

/* Keeps the first OUTPUT_MAX bytes, drops the rest. False at the end of the output. */
static bool take_output(struct hook_run *h)
{
	char chunk[1024];
	ssize_t n = sys_read(h->out_read, chunk, sizeof(chunk));

	if (n == -EAGAIN) {
		return true;
	}
	if (n <= 0) {
		return false;
	}
	size_t take = MIN((size_t)n, OUTPUT_MAX - h->out_len);

	memcpy(h->out + h->out_len, chunk, take);
	h->out_len += take;
	h->out[h->out_len] = '\0';
	return true;
}

/* 0 when the hook has ended, -ETIMEDOUT. */
static int watch(struct hook_run *h)
{
	uint64_t end = h->hook->has_timeout
		? clock_now_ns() + (uint64_t)h->hook->timeout_sec * NS_PER_SEC : UINT64_MAX;
	bool output = true;

	for (;;) {
		struct pollfd p[2] = { { .fd = h->pidfd, .events = POLLIN },
				       { .fd = output ? h->out_read : -1, .events = POLLIN } };
		uint64_t now = clock_now_ns();
		int ms = end == UINT64_MAX ? -1 : now >= end ? 0
			: (int)MIN((end - now) / NS_PER_MS + 1, (uint64_t)INT32_MAX);
		int n = poll(p, 2, ms);

		if (n == 0) {
			return -ETIMEDOUT;
		}
		if (p[1].revents) {
			output = take_output(h);
		} else if (p[0].revents) {
			return 0;
		}
	}
}

static int hook_failed(const struct hook_run *h, int errnum, struct err *e, const char *what,
		       int value)
{
	char text[OUTPUT_MAX + 1];
	size_t n = 0;

	for (size_t i = 0; i < h->out_len; i++) {
		char c = h->out[i];

		text[n++] = (unsigned char)c < ' ' ? ' ' : c;
	}
	while (n > 0 && text[n - 1] == ' ') {
		n--;
	}
	text[n] = '\0';
	return err_set(e, errnum, ERR_INVALID, "error running %s hook #%zu (%s): %s %d%s%s", h->name,
		       h->index, h->hook->path, what, value, n ? ", output: " : "", text);
}

static int finish(struct hook_run *h, struct err *e)
{
	siginfo_t si;
	int r = watch(h);

	if (r == -ETIMEDOUT) {
		ignore_result(sys_pidfd_send_signal(h->pidfd, SIGKILL)); /* it may just have ended */
	}

	int q = sys_waitid(P_PIDFD, (id_t)h->pidfd, &si, WEXITED);

	if (r == -ETIMEDOUT) {
		return hook_failed(h, ETIMEDOUT, e, "killed, as it was not through after seconds:",
				   (int)h->hook->timeout_sec);
	}
	if (q < 0) {
		return hook_failed(h, -q, e, "cannot wait for it: errno", -q);
	}
	if (si.si_code != CLD_EXITED) {
		return hook_failed(h, ECANCELED, e, "ended by signal", si.si_status);
	}
	return si.si_status ? hook_failed(h, ECANCELED, e, "exit status", si.si_status) : 0;
}

static int run_one(struct hook_run *h, struct err *e)
{
	int out[2];
	int r = sys_pipe2(out, O_NONBLOCK);

	if (r < 0) {
		return hook_failed(h, -r, e, "cannot make a pipe: errno", -r);
	}
	h->out_read = out[0];
	h->out_write = out[1];
	if (lseek(h->stdin_fd, 0, SEEK_SET) < 0) {
		r = -errno;
	}

	pid_t pid = r < 0 ? r : sys_clone3(0, -1, &h->pidfd);

	if (pid == 0) {
		exec_hook(h);
	}
	fd_close(&h->out_write);
	r = pid < 0 ? hook_failed(h, -pid, e, "cannot start it: errno", -pid) : finish(h, e);
	fd_close(&h->out_read);
	fd_close(&h->pidfd);
	return r;
}

/* The state as a file that each hook reads from its beginning. */
static int state_file(const json_t *state, int *ret_fd, struct err *e)
{
	auto_free char *text = json_text(state);

	if (!text) {
		return err_nomem(e);
	}

	auto_close int fd = sys_memfd_create("state", 0);
	int r = fd < 0 ? fd : sys_write_full(fd, text, strlen(text));

	if (r < 0) {
		return err_set(e, -r, ERR_HOST, "cannot hold the state for the hooks");
	}
	*ret_fd = take_fd(&fd);
	return 0;
}

static int run_hook(const struct jvec *hooks, size_t i, const char *name, int stdin_fd,
		    const char *cwd, struct err *e)
{
	const struct oci_hook *v = hooks->v;
	struct hook_run h = { .hook = &v[i], .name = name, .index = i, .cwd = cwd,
			      .stdin_fd = stdin_fd, .out_read = -1, .out_write = -1, .pidfd = -1 };

	return run_one(&h, e);
}

int hooks_run(const struct jvec *hooks, const char *name, const json_t *state, const char *cwd,
	      struct err *e)
{
	auto_close int fd = -1;
	int r = hooks->n ? state_file(state, &fd, e) : 0;

	for (size_t i = 0; r == 0 && i < hooks->n; i++) {
		r = run_hook(hooks, i, name, fd, cwd, e);
	}
	return r;
}

void hooks_run_all(const struct jvec *hooks, const char *name, const json_t *state,
		   const char *cwd)
{
	struct err e = ERR_INIT;
	auto_close int fd = -1;
	int r = hooks->n ? state_file(state, &fd, &e) : 0;

	if (r < 0) {
		log_err(LOG_LEVEL_WARN, &e);
		return;
	}
	for (size_t i = 0; i < hooks->n; i++) {
		err_clear(&e);
		if (run_hook(hooks, i, name, fd, cwd, &e) < 0) {
			log_err(LOG_LEVEL_WARN, &e);
		}
	}
}
