/* SPDX-License-Identifier: Apache-2.0 */
#include "container/process.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "base/arena.h"
#include "base/fd.h"
#include "container/mempolicy.h"
#include "container/user.h"
#include "sys/file.h"
#include "sys/proc.h"
#include "sys/procfs.h"

unsigned process_listen_fds(void)
{
	const char *text = getenv("LISTEN_FDS");
	uint64_t n;

	return text && parse_u64(text, 1024, &n) == 0 ? (unsigned)n : 0;
}

int process_check_fds(unsigned n, struct err *e)
{
	for (unsigned i = 0; i < n; i++) {
		if (fcntl(3 + (int)i, F_GETFD) < 0) {
			return err_set(e, EBADF, ERR_INVALID,
				       "descriptor %u of %u to preserve is not open", 3 + i, n);
		}
	}
	return 0;
}

static const char *env_get(const struct strv *env, const char *key)
{
	size_t n = strlen(key);
	const char *found = NULL;

	for (size_t i = 0; i < env->n; i++) {
		if (strncmp(env->v[i], key, n) == 0 && env->v[i][n] == '=') {
			found = env->v[i] + n + 1; /* the last one counts */
		}
	}
	return found;
}

static int make_env(struct process *p, struct err *e)
{
	const struct jstrv *env = &p->conf->env;
	unsigned listen = process_listen_fds();
	auto_arena struct arena a = ARENA_INIT;
	const char *home = NULL;
	int r = 0;

	for (size_t i = 0; r == 0 && i < env->n; i++) {
		r = strv_add(&p->env, env->v[i]);
	}
	if (r == 0 && listen > 0) {
		r = strv_addf(&p->env, "LISTEN_FDS=%u", listen);
		r = r < 0 ? r : strv_add(&p->env, "LISTEN_PID=1");
	}
	const char *have = env_get(&p->env, "HOME");

	if (r == 0 && (!have || !*have)) {
		auto_close int root_fd = sys_openat(AT_FDCWD, "/", O_PATH | O_DIRECTORY, 0);
		struct err ignored = ERR_INIT;

		/* A passwd that cannot be read is no reason not to start. */
		if (root_fd < 0 ||
		    user_home(root_fd, (uid_t)p->conf->user.uid, &a, &home, &ignored) < 0 || !home) {
			home = "/";
		}
		r = strv_addf(&p->env, "HOME=%s", home);
	}
	return r < 0 ? err_nomem(e) : 0;
}

/* The terminal as 0, 1 and 2, and the one that this session is controlled by. */
static int take_terminal(struct process *p, struct err *e)
{
	for (int fd = 0; fd < 3; fd++) {
		if (dup2(p->pty_fd, fd) < 0) {
			return err_set(e, errno, ERR_HOST, "cannot use the terminal");
		}
	}
	fd_close(&p->pty_fd);

	int r = sys_ioctl(0, TIOCSCTTY, NULL);

	return r < 0 ? err_set(e, -r, ERR_HOST, "cannot make the terminal the controlling one") : 0;
}

/* The user must be able to open /dev/stdout and the like again. Not so for the null device,
 * which can be the host's inode: known by its number, not by what the container calls so. */
static void own_stdio(const struct oci_user *u)
{
	for (int fd = 0; fd < 3; fd++) {
		struct stat st;

		if (sys_fstat(fd, &st) < 0 || st.st_uid == u->uid ||
		    (S_ISCHR(st.st_mode) && st.st_rdev == makedev(1, 3))) {
			continue;
		}
		/* Not ours to give (another user namespace, read-only): it stays as it is. */
		ignore_result(sys_fchownat(fd, "", (uid_t)u->uid, (gid_t)-1, AT_EMPTY_PATH));
	}
}

static bool needs_proc(const struct oci_process *c)
{
	return (c->apparmor_profile && *c->apparmor_profile) ||
	       (c->selinux_label && *c->selinux_label);
}

static int set_labels(const struct oci_process *c, struct err *e)
{
	if (!needs_proc(c)) {
		return 0;
	}

	auto_close int proc_fd = procfs_open(PROCFS_PID_ONLY);

	if (proc_fd < 0) {
		return err_set(e, -proc_fd, ERR_HOST, "cannot open a trusted /proc");
	}
	return attrs_set_labels(proc_fd, c->apparmor_profile, c->selinux_label, e);
}

static int set_attributes(struct process *p, struct err *e)
{
	const struct oci_process *c = p->conf;
	int r = p->new_keyring ? attrs_join_keyring(p->id, e) : 0;

	if (r == 0 && p->linux && p->linux->personality) {
		r = attrs_set_personality(p->linux->personality, e);
	}
	if (r == 0 && p->linux && p->linux->memory_policy) {
		r = mempolicy_set(p->linux->memory_policy, e);
	}
	if (r == 0 && c->scheduler) {
		r = attrs_set_scheduler(c->scheduler, e);
	}
	if (r == 0 && c->io_priority) {
		r = attrs_set_io_priority(c->io_priority, e);
	}
	r = r < 0 ? r : set_labels(c, e);
	if (r == 0 && p->set_rlimits) {
		r = attrs_set_rlimits(0, &c->rlimits, e);
	}
	if (r == 0 && c->no_new_privileges) {
		r = attrs_set_no_new_privs(e);
	}
	return r;
}

/* The kernel's own word on where we are: a folder outside of the root shows as such. */
static int check_cwd(const char *cwd, struct err *e)
{
	char path[PATH_MAX + 32];
	long n = syscall(SYS_getcwd, path, sizeof(path));

	if (n < 0 && errno == ENOENT) {
		return err_set(e, ENOENT, ERR_INVALID,
			       "process.cwd %s: the current working directory is outside of the "
			       "container's mount namespace root, or has been removed", cwd);
	}
	if (n > 0 && path[0] != '/') {
		return err_set(e, EXDEV, ERR_DENIED,
			       "process.cwd %s: the current working directory is outside of the "
			       "container's mount namespace root: a break-out attempt", cwd);
	}
	return 0;
}

static int go_to_cwd(const char *cwd, struct err *e)
{
	int r = sys_chdir(cwd);

	return r < 0 ? err_set(e, -r, ERR_HOST, "chdir to cwd (\"%s\") set in config.json failed", cwd)
		     : check_cwd(cwd, e);
}

/* 0, -ENOENT, -EACCES ... for a file that could be executed. */
static int executable(const char *path)
{
	struct stat st;
	int r = sys_fstatat(AT_FDCWD, path, &st, 0);

	if (r < 0) {
		return r;
	}
	if (S_ISDIR(st.st_mode)) {
		return -EISDIR;
	}
	if (!(st.st_mode & 0111) || faccessat(AT_FDCWD, path, X_OK, AT_EACCESS) < 0) {
		return -EACCES;
	}
	return 0;
}

static int not_executable(const char *name, int r, struct err *e)
{
	if (r == -EACCES || r == -EISDIR) {
		return err_set(e, EACCES, ERR_DENIED, "exec: \"%s\": permission denied%s", name,
			       r == -EISDIR ? " (it is a directory)" : "");
	}
	if (r == -ENOENT || r == -ENOTDIR) {
		return err_set(e, ENOENT, ERR_NOT_FOUND, "exec: \"%s\": stat %s: no such file or directory",
			       name, name);
	}
	return err_set(e, -r, ERR_HOST, "exec: \"%s\"", name);
}

static int search_path(struct process *p, const char *name, struct err *e)
{
	const char *cursor = env_get(&p->env, "PATH");
	const char *part;
	size_t len;
	int worst = -ENOENT;

	while (str_split(&cursor, ':', &part, &len)) {
		auto_free char *path = len ? str_printf("%.*s/%s", (int)len, part, name)
					   : str_printf("./%s", name);

		if (!path) {
			return err_nomem(e);
		}
		int r = executable(path);

		if (r == 0) {
			p->path = take_ptr(&path);
			return 0;
		}
		worst = r == -EACCES ? r : worst;
	}
	if (worst == -EACCES) {
		return not_executable(name, worst, e);
	}
	return err_set(e, ENOENT, ERR_NOT_FOUND, "exec: \"%s\": executable file not found in $PATH",
		       name);
}

static int look_for_program(struct process *p, struct err *e)
{
	const char *name = p->conf->args.n ? p->conf->args.v[0] : "";

	if (!strchr(name, '/')) {
		return search_path(p, name, e);
	}

	int r = executable(name);

	if (r < 0) {
		return not_executable(name, r, e);
	}
	p->path = str_dup(name);
	return p->path ? 0 : err_nomem(e);
}

/* The kind of failure is kept beside the message: who started us need not read that. */
static int find_program(struct process *p, struct err *e)
{
	int r = look_for_program(p, e);

	e->command = r < 0 && e->errnum != ENOMEM;
	return r;
}

/* With no_new_privs the filter can wait for the last moment, unless it has a listener. */
static bool filter_last(const struct process *p)
{
	return p->conf->no_new_privileges && !(p->filter && p->filter->notify);
}

static int install_filter(struct process *p, struct err *e)
{
	int r = p->filter && p->filter->insns ? seccomp_install(p->filter, p->handoff) : 0;

	return r < 0 ? err_set(e, -r, ERR_HOST, "cannot install the seccomp filter") : 0;
}

/* Close all but what is handed on and what is kept, lest it be seen from inside. */
int process_close_rest(const struct process *p)
{
	unsigned from = 3 + p->n_fds;
	int r = 0;

	for (;;) {
		unsigned next = ~0u;

		for (size_t i = 0; i < ARRAY_LEN(p->keep); i++) {
			if (p->keep[i] >= (int)from && (unsigned)p->keep[i] < next) {
				next = (unsigned)p->keep[i];
			}
		}
		if (next > from) {
			r = sys_close_range(from, next == ~0u ? next : next - 1, 0);
		}
		if (r < 0 || next == ~0u) {
			return r;
		}
		from = next + 1;
	}
}

int process_settle(struct process *p, struct err *e)
{
	const struct oci_process *c = p->conf;
	int r = p->pty_fd >= 0 ? take_terminal(p, e) : 0;

	if (r == 0) {
		own_stdio(&c->user);
		r = make_env(p, e);
	}
	r = r < 0 ? r : set_attributes(p, e);
	if (r < 0) {
		return r;
	}

	/* Some folders only root can enter, some (of a network file system) only the user. */
	bool there = go_to_cwd(c->cwd, e) == 0;

	if (!there && e->errnum != EACCES) {
		return -e->errnum;
	}
	err_clear(e);
	r = process_close_rest(p);
	if (r < 0) {
		return err_set(e, -r, ERR_HOST, "cannot close what is not the container's");
	}
	if (!c->no_new_privileges) {
		r = install_filter(p, e);
	}
	r = r < 0 ? r : attrs_become(&c->user, &p->caps, p->may_setgroups, e);
	if (r == 0 && !there) {
		r = go_to_cwd(c->cwd, e);
	}
	r = r < 0 ? r : find_program(p, e);
	if (r == 0 && c->no_new_privileges && !filter_last(p)) {
		r = install_filter(p, e);
	}
	return r;
}

static int exec_failed(const char *path, int errnum, struct err *e)
{
	switch (errnum) {
	case ENOENT:
		return err_set(e, errnum, ERR_NOT_FOUND, "exec %s: no such file or directory", path);
	case EACCES:
		return err_set(e, errnum, ERR_DENIED, "exec %s: permission denied", path);
	case ENOEXEC:
		return err_set(e, errnum, ERR_INVALID, "exec %s: exec format error", path);
	default:
		return err_set(e, errnum, ERR_HOST, "exec %s", path);
	}
}

int process_exec_failed(const char *path, int errnum, struct err *e)
{
	int r = exec_failed(path, errnum, e);

	e->command = true;
	return r;
}

int process_exec(struct process *p, struct err *e)
{
	char *const *argv = (char *const *)(uintptr_t)p->conf->args.v;
	char *no_env[] = { NULL };
	int r = filter_last(p) ? install_filter(p, e) : 0;

	if (r < 0) {
		return r;
	}
	/* All that is left is close-on-exec already, so a filter that refuses this does no harm. */
	ignore_result(sys_close_range(3 + p->n_fds, ~0u, CLOSE_RANGE_CLOEXEC));
	execve(p->path, argv, p->env.v ? p->env.v : no_env);
	return process_exec_failed(p->path, errno, e);
}
