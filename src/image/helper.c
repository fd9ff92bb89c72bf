/* SPDX-License-Identifier: Apache-2.0 */
#include "image/helper.h"

#include <errno.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>

#include "base/clock.h"
#include "base/fd.h"
#include "sys/file.h"
#include "sys/proc.h"

enum { HELPER_OUT_MAX = 64 * 1024, HELPER_SECONDS = 10 };

/* What a helper may need to find its user's session and key ring. */
static const char *const passed_on[] = {
	"PATH", "HOME", "USER", "LOGNAME", "LANG", "TMPDIR", "XDG_RUNTIME_DIR",
	"DBUS_SESSION_BUS_ADDRESS", "GNUPGHOME", "GPG_TTY", "PASSWORD_STORE_DIR", "DISPLAY",
	"WAYLAND_DISPLAY", "http_proxy", "https_proxy", "no_proxy",
};

/* The program `name` along the absolute parts of PATH. By path, as scripts want to know theirs. */
static int find_program(const char *name, char full[PATH_MAX])
{
	const char *path = getenv("PATH"), *part;
	size_t len;

	if (!path || *path == '\0') {
		path = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
	}
	while (str_split(&path, ':', &part, &len)) {
		struct stat st;

		if (len == 0 || *part != '/' ||
		    snprintf(full, PATH_MAX, "%.*s/%s", (int)len, part, name) >= PATH_MAX) {
			continue;
		}
		if (sys_fstatat(AT_FDCWD, full, &st, 0) == 0 && S_ISREG(st.st_mode) &&
		    (st.st_mode & 0111)) {
			return 0;
		}
	}
	return -ENOENT;
}

static int make_env(const char *const env[], struct strv *ret)
{
	for (size_t i = 0; i < ARRAY_LEN(passed_on); i++) {
		const char *value = getenv(passed_on[i]);

		if (value && strv_addf(ret, "%s=%s", passed_on[i], value) < 0) {
			return -ENOMEM;
		}
	}
	for (size_t i = 0; env && env[i]; i++) {
		if (strv_add(ret, env[i]) < 0) {
			return -ENOMEM;
		}
	}
	/* An empty vector has no array. */
	return ret->v ? 0 : strv_add(ret, "LANG=C.UTF-8");
}

/* In the child: descriptors in place, then the program. Does not return. */
static noreturn_fn void run_child(const char *prog, const char *const argv[],
				  char *const envp[], const int std[3])
{
	sigset_t none;
	/* First out of the way of 0..2, then into place. */
	int high[3];

	sigemptyset(&none);
	(void)signal(SIGPIPE, SIG_DFL);   /* ignored here; a known signal: cannot fail */
	for (int i = 0; i < 3; i++) {
		high[i] = fcntl(std[i], F_DUPFD_CLOEXEC, 10);
		if (high[i] < 0) {
			_exit(127);
		}
	}
	for (int i = 0; i < 3; i++) {
		if (dup2(high[i], i) < 0) {
			_exit(127);
		}
	}
	if (sigprocmask(SIG_SETMASK, &none, NULL) < 0 || sys_chdir("/") < 0 ||
	    sys_close_range(3, ~0u, CLOSE_RANGE_CLOEXEC) < 0) {
		_exit(127);
	}
	ignore_result(sys_execveat(AT_FDCWD, prog, (char *const *)argv, envp, 0));
	_exit(127);   /* it returned: it failed */
}

int helper_start(const char *const argv[], const char *const env[], int in_fd, int out_fd,
		 int err_fd, pid_t *ret_pid, struct err *e)
{
	auto_strv struct strv envp = STRV_INIT;
	auto_close int null = sys_openat(AT_FDCWD, "/dev/null", O_RDWR, 0);
	char prog[PATH_MAX];

	if (find_program(argv[0], prog) < 0) {
		return err_set(e, ENOPKG, ERR_UNSUPPORTED, "the program %s is not installed",
			       argv[0]);
	}
	if (null < 0) {
		return err_set(e, -null, ERR_HOST, "/dev/null");
	}
	if (make_env(env, &envp) < 0) {
		return err_nomem(e);
	}

	int std[3] = { in_fd < 0 ? null : in_fd, out_fd < 0 ? null : out_fd,
		       err_fd < 0 ? null : err_fd };
	pid_t pid = sys_fork();

	if (pid < 0) {
		return err_set(e, -pid, ERR_HOST, "%s cannot be started", argv[0]);
	}
	if (pid == 0) {
		run_child(prog, argv, envp.v, std);
	}
	*ret_pid = pid;
	return 0;
}

int helper_wait(pid_t pid)
{
	siginfo_t si;
	int r = sys_waitid(P_PID, (id_t)pid, &si, WEXITED);

	return r < 0 ? r : proc_exit_status(&si);
}

/* Move input and output until both ends are shut or time is up. */
static int talk(int in_fd, int out_fd, const char *in, size_t n, struct buf *ret)
{
	uint64_t end = clock_now_ns() + HELPER_SECONDS * NS_PER_SEC;
	auto_close int to = in_fd;

	if (n == 0) {
		fd_close(&to);
	}
	for (;;) {
		struct pollfd p[2] = { { .fd = out_fd, .events = POLLIN },
				       { .fd = to, .events = POLLOUT } };
		uint64_t now = clock_now_ns();

		if (now >= end) {
			return -ETIMEDOUT;
		}

		int r = poll(p, 2, (int)((end - now) / NS_PER_MS) + 1);

		if (r < 0 && errno != EINTR) {
			return -errno;
		}
		if (r <= 0) {
			continue;
		}
		if (to >= 0 && p[1].revents) {
			ssize_t w = sys_write(to, in, n);

			/* A helper that does not read its input is its own affair. */
			n -= w > 0 ? (size_t)w : n;
			in += w > 0 ? w : 0;
			if (n == 0) {
				fd_close(&to);
			}
		}
		if (p[0].revents) {
			char part[4096];
			ssize_t got = sys_read(out_fd, part, sizeof(part));

			if (got <= 0) {
				return (int)got;
			}
			buf_add(ret, part, (size_t)got);
			explicit_bzero(part, sizeof(part));
			if (ret->len > HELPER_OUT_MAX) {
				return -EFBIG;
			}
		}
	}
}

/* The first line of a helper's words, for a message. */
static void first_line(struct buf *b, char *out, size_t out_bytes)
{
	const char *s = buf_str(b);
	size_t n = strcspn(s, "\r\n");

	snprintf(out, out_bytes, "%.*s", (int)MIN(n, out_bytes - 1), s);
	for (char *p = out; *p; p++) {
		*p = (unsigned char)*p < 0x20 || *p == 0x7f ? '?' : *p;
	}
}

int helper_run(const char *name, const char *action, const void *in, size_t in_bytes,
	       struct buf *ret, struct err *e)
{
	auto_free char *prog = str_printf("docker-credential-%s", name);
	int to[2] = { -1, -1 }, from[2] = { -1, -1 };
	pid_t pid = 0;

	if (!prog) {
		return err_nomem(e);
	}

	int r = sys_pipe2(to, 0);

	if (r == 0) {
		r = sys_pipe2(from, 0);
	}
	if (r < 0) {
		fd_close(&to[0]);
		fd_close(&to[1]);
		return err_set(e, -r, ERR_HOST, "%s", prog);
	}

	const char *argv[] = { prog, action, NULL };

	r = helper_start(argv, NULL, to[0], from[1], -1, &pid, e);
	fd_close(&to[0]);
	fd_close(&from[1]);
	if (r < 0) {
		fd_close(&to[1]);
		fd_close(&from[0]);
		return r;
	}
	r = talk(to[1], from[0], in, in_bytes, ret);
	fd_close(&from[0]);
	if (r < 0) {
		ignore_result(sys_kill(pid, SIGKILL)); /* it is ours and not yet waited for */
	}

	int status = helper_wait(pid);
	char words[160];

	if (r < 0) {
		return err_set(e, -r, ERR_HOST, "%s %s does not answer", prog, action);
	}
	if (status == 0) {
		return 0;
	}
	first_line(ret, words, sizeof(words));
	if (strstr(words, "credentials not found")) {
		return err_set(e, ENOENT, ERR_NOT_FOUND, "%s: %s", prog, words);
	}
	return err_set(e, EIO, ERR_HOST, "%s %s failed with status %d: %s", prog, action, status,
		       words);
}
