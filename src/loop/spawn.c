/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Child processes of the kernel's loop. A child is a pidfd; why a program could not be run
 * comes through a pipe that its start closes.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/close_range.h>
#include <signal.h>
#include <string.h>
#include <sys/prctl.h>
#include <unistd.h>

#include "base/fd.h"
#include "loop/backend.h"
#include "sys/file.h"
#include "sys/proc.h"

static noreturn_fn void fail(int error_fd, const struct err *e)
{
	ignore_result(sys_write_full(error_fd, e, sizeof(*e)));
	/* nobody else could be told */
	_exit(127);
}

/* Above all numbers that the program will use. */
static int move_up(int fd, int floor)
{
	int r = fcntl(fd, F_DUPFD_CLOEXEC, floor);

	return r < 0 ? -errno : r;
}

static int arrange(const struct loop_spawn *spec, int *error_fd, int *exec_fd)
{
	int n = (int)MAX(spec->n_fds, (size_t)3);
	int up[64];

	if (spec->n_fds > ARRAY_LEN(up)) {
		return -E2BIG;
	}
	int null_fd = open("/dev/null", O_RDWR | O_CLOEXEC);

	if (null_fd < 0) {
		return -errno;
	}
	null_fd = move_up(null_fd, n);
	*error_fd = move_up(*error_fd, n);
	if (*exec_fd > 0) {
		*exec_fd = move_up(*exec_fd, n);
	}
	if (null_fd < 0 || *error_fd < 0 || (spec->exec_fd > 0 && *exec_fd < 0)) {
		return -EMFILE;
	}
	for (int i = 0; i < n; i++) {
		int fd = i < (int)spec->n_fds && spec->fds[i] >= 0 ? spec->fds[i] : null_fd;

		up[i] = fd == null_fd ? fd : move_up(fd, n);
		if (up[i] < 0) {
			return up[i];
		}
	}
	for (int i = 0; i < n; i++) {
		if (dup2(up[i], i) < 0) {
			return -errno;
		}
	}
	return sys_close_range((unsigned)n, ~0u, CLOSE_RANGE_CLOEXEC);
}

static noreturn_fn void child_main(const struct loop_spawn *spec, pid_t parent, int error_fd)
{
	struct err e = ERR_INIT;
	const char *path = spec->path ? spec->path : spec->argv[0];
	char *no_env[] = { NULL };
	char *const *envp = spec->envp ? spec->envp : no_env;
	int exec_fd = spec->exec_fd;
	int r = 0;

	sys_reset_signals();
	if (spec->parent_death_signal) {
		r = sys_prctl(PR_SET_PDEATHSIG, (unsigned long)spec->parent_death_signal, 0, 0, 0);
		if (getppid() != parent) {
			_exit(127);
		}
	}
	if (r == 0 && spec->new_session) {
		r = sys_setsid();
	}
	if (r >= 0 && spec->prepare) {
		if (spec->prepare(spec->prepare_ud, &e) < 0) {
			fail(error_fd, &e);
		}
	}
	if (r >= 0) {
		r = arrange(spec, &error_fd, &exec_fd);
	}
	if (r >= 0) {
		r = exec_fd > 0 ? sys_execveat(exec_fd, "", spec->argv, envp, AT_EMPTY_PATH) :
		    sys_execveat(AT_FDCWD, path, spec->argv, envp, 0);
	}
	ignore_result(err_set(&e, -r, r == -ENOENT ? ERR_NOT_FOUND : ERR_HOST, "start %s", path));
	/* the result is what fail() passes on */
	fail(error_fd, &e);
}

static void collect(struct loop_child *c, struct loop_exit *x)
{
	siginfo_t si = { .si_code = 0 };
	int r = sys_waitid(P_PIDFD, (id_t)c->pidfd, &si, WEXITED | WNOHANG);

	if (r < 0 || si.si_pid == 0) {
		*x = (struct loop_exit){ .kind = LOOP_UNKNOWN };
	} else if (si.si_code == CLD_EXITED) {
		*x = (struct loop_exit){ .kind = LOOP_EXITED, .code = si.si_status };
	} else {
		*x = (struct loop_exit){ .kind = LOOP_KILLED, .code = si.si_status };
	}
}

static void close_error(struct loop_child *c)
{
	c->error_src = loop_fd_free(c->error_src);
	fd_close(&c->error_fd);
}

static void ended(struct loop_child *c)
{
	struct loop_exit x;
	struct err e = ERR_INIT;

	collect(c, &x);
	if (c->error_fd >= 0 && read(c->error_fd, &e, sizeof(e)) == (ssize_t)sizeof(e)) {
		x = (struct loop_exit){ .kind = LOOP_NOT_STARTED, .err = &e };
	}
	close_error(c);
	c->src = loop_fd_free(c->src);
	loop__child_ended(c, &x);
}

static void on_pidfd(struct loop_fd *src, unsigned events, void *ud)
{
	(void)src;
	(void)events;
	ended(ud);
}

/* An end of file means that the program runs; an error is read when the process has ended. */
static void on_error_pipe(struct loop_fd *src, unsigned events, void *ud)
{
	if (events & LOOP_IN) {
		ignore_result(loop_fd_set(src, 0));
		/* being called once more would do no harm */
	} else {
		close_error(ud);
	}
}

static int watch_pidfd(struct loop *l, struct loop_child *c)
{
	return loop_fd_new(l, c->pidfd, LOOP_IN, on_pidfd, c, &c->src);
}

int loop__spawn(struct loop *l, const struct loop_spawn *spec, struct loop_child *c,
		struct err *e)
{
	int pipe_fds[2] = { -1, -1 };
	int r = sys_pipe2(pipe_fds, O_NONBLOCK);

	if (r < 0) {
		return err_set(e, -r, ERR_HOST, "start %s: a pipe", spec->argv[0]);
	}
	pid_t parent = getpid();
	pid_t pid = sys_clone3(spec->clone_flags, -1, &c->pidfd);

	if (pid == 0) {
		child_main(spec, parent, pipe_fds[1]);
	}
	fd_close(&pipe_fds[1]);
	if (pid < 0) {
		fd_close(&pipe_fds[0]);
		return err_set(e, -pid, ERR_HOST, "start %s: a new process", spec->argv[0]);
	}
	c->pid = pid;
	c->error_fd = pipe_fds[0];
	r = watch_pidfd(l, c);
	if (r == 0) {
		r = loop_fd_new(l, c->error_fd, LOOP_IN, on_error_pipe, c, &c->error_src);
	}
	if (r < 0) {
		ignore_result(sys_pidfd_send_signal(c->pidfd, SIGKILL)); /* it is our child */
		ignore_result(sys_waitid(P_PIDFD, (id_t)c->pidfd, NULL, WEXITED)); /* collected */
		loop__child_del(l, c);
		return err_set(e, -r, ERR_HOST, "start %s: watch it", spec->argv[0]);
	}
	return 0;
}

int loop__watch(struct loop *l, pid_t pid, struct loop_child *c)
{
	c->pidfd = sys_pidfd_open(pid, 0);
	if (c->pidfd < 0) {
		return c->pidfd;
	}
	c->pid = pid;
	int r = watch_pidfd(l, c);

	if (r < 0) {
		fd_close(&c->pidfd);
	}
	return r;
}

int loop__kill(struct loop *l, struct loop_child *c, int signo)
{
	(void)l;
	return sys_pidfd_send_signal(c->pidfd, signo);
}

void loop__child_del(struct loop *l, struct loop_child *c)
{
	(void)l;
	c->src = loop_fd_free(c->src);
	close_error(c);
	fd_close(&c->pidfd);
}

static struct loop_child *find(struct loop *l, pid_t pid)
{
	list_for_each (struct loop_child, c, &l->children, link) {
		if (c->running && c->pid == pid) {
			return c;
		}
	}
	return NULL;
}

void loop_reap(struct loop *l, void (*fn)(pid_t pid, const struct loop_exit *x, void *ud),
	       void *ud)
{
	for (;;) {
		siginfo_t si = { .si_code = 0 };
		int r = sys_waitid(P_ALL, 0, &si, WEXITED | WNOHANG | WNOWAIT);

		if (r < 0 || si.si_pid == 0) {
			return;
		}
		struct loop_child *c = find(l, si.si_pid);

		if (c) {
			/* It would be found again and again, hiding those behind it. */
			ended(c);
			continue;
		}
		struct loop_exit x = {
			.kind = si.si_code == CLD_EXITED ? LOOP_EXITED : LOOP_KILLED,
			.code = si.si_status,
		};

		r = sys_waitid(P_PID, (id_t)si.si_pid, NULL, WEXITED | WNOHANG);
		if (r == 0 && fn) {
			fn(si.si_pid, &x, ud);
		}
	}
}
