/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A machine from its bundle, and further processes in it. The work is done in the process that
 * becomes the proxy; its maker waits until it says that the container is there, or why not.
 */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/random.h>
#include <sys/wait.h>
#include <termios.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/fd.h"
#include "base/log.h"
#include "json/json.h"
#include "sys/file.h"
#include "sys/proc.h"
#include "sys/socket.h"
#include "vmrun/vmrun.h"

enum { POLL_MS = 20, SOCKET_TIMEOUT_MS = 30000, ALL_STREAMS = 7 };

static void pause_ms(long ms)
{
	const struct timespec t = { .tv_sec = ms / 1000, .tv_nsec = ms % 1000 * 1000000 };

	(void)nanosleep(&t, NULL); /* woken early: whoever polls asks again */
}

/* --- programs --- */

/* In the child, which does not return. */
static noreturn_fn void exec_program(char *const *argv, int out_fd)
{
	auto_close int null_fd = sys_openat(AT_FDCWD, "/dev/null", O_RDWR, 0);

	sys_reset_signals();
	if (null_fd < 0 || dup2(null_fd, 0) < 0 || dup2(out_fd, 1) < 0 || dup2(out_fd, 2) < 0 ||
	    sys_prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0) < 0) {
		_exit(125);
	}
	const char *why = strerrordesc_np(-sys_execveat(AT_FDCWD, argv[0], argv, environ, 0));

	dprintf(2, "cannot run %s: %s\n", argv[0], why ? why : "?");
	_exit(125);
}

/* What a program left in its log, last line. */
static void last_line(int dir_fd, const char *log, struct buf *ret)
{
	if (sys_read_file(dir_fd, log, 1 << 20, ret) < 0) {
		return;
	}
	while (ret->len > 0 && ret->data[ret->len - 1] == '\n') {
		ret->data[--ret->len] = '\0';
	}
	const char *nl = ret->len ? strrchr(ret->data, '\n') : NULL;

	if (nl) {
		buf_drop(ret, (size_t)(nl + 1 - ret->data));
	}
}

static int open_log(int dir_fd, const char *name)
{
	return sys_openat(dir_fd, name, O_WRONLY | O_CREAT | O_APPEND | O_NOFOLLOW, 0600);
}

/* The root's files as an EROFS image. */
static int make_root(const struct vm_record *rec, const char *dir, const char *rootfs, struct err *e)
{
	auto_free char *to = str_printf("%s/" VM_ROOT_FILE, dir);
	char program[] = "/usr/bin/mkfs.erofs", quiet[] = "-d0";
	char *argv[] = { program, quiet, to, (char *)(uintptr_t)rootfs, NULL };
	auto_close int log_fd = open_log(rec->dir_fd, "mkfs.log");
	siginfo_t si = { .si_pid = 0 };

	if (!to || log_fd < 0) {
		return to ? err_set(e, -log_fd, ERR_HOST, "the machine's folder") : err_nomem(e);
	}
	pid_t pid = sys_fork();

	if (pid == 0) {
		exec_program(argv, log_fd);
	}
	int r = pid < 0 ? (int)pid : sys_waitid(P_PID, (id_t)pid, &si, WEXITED);

	if (r < 0 || proc_exit_status(&si) != 0) {
		auto_buf struct buf text = BUF_INIT;

		last_line(rec->dir_fd, "mkfs.log", &text);
		return err_set(e, EIO, ERR_HOST, "making the root's image from %s: %s", rootfs,
			       buf_str(&text));
	}
	return 0;
}

/*
 * The first start leaves the unpacked kernel beside the packed one, with which it is replaced and
 * removed. Who may not write there unpacks each time; a warning in each machine's log helps nobody.
 */
static int add_cache(const struct vm_programs *p, struct strv *v)
{
	return faccessat(AT_FDCWD, p->kernel, W_OK | X_OK, AT_EACCESS) < 0 ? 0 :
	       strv_addf(v, "--cache=%s", p->kernel);
}

static int vmm_args(const struct vm_create *c, const struct vm_config *conf, const char *dir,
		    struct strv *v)
{
	const struct vm_programs *p = &c->programs;
	int r = strv_add(v, p->vmm);

	r = r < 0 ? r : strv_addf(v, "--engine=%s", p->engine);
	r = r < 0 ? r : strv_addf(v, "--kernel=%s/vmlinuz", p->kernel);
	r = r < 0 ? r : add_cache(p, v);
	r = r < 0 ? r : strv_addf(v, "--initrd=%s", p->agent_image);
	r = r < 0 ? r : strv_addf(v, "--initrd=%s/modules.img", p->kernel);
	r = r < 0 ? r : strv_add(v, "--cmdline=console=ttyS0 quiet panic=-1");
	r = r < 0 ? r : strv_add(v, "--console=none");
	r = r < 0 ? r : strv_addf(v, "--serial-file=%s/" VM_CONSOLE, dir);
	r = r < 0 ? r : strv_addf(v, "--uid=%u", conf->uid);
	r = r < 0 ? r : strv_addf(v, "--gid=%u", conf->uid);
	r = r < 0 ? r : strv_add(v, "--die-with-parent");
	r = r < 0 ? r : strv_add(v, "--no-reboot");
	r = r < 0 ? r : strv_addf(v, "--memory=%llum", (unsigned long long)conf->memory_mib);
	r = r < 0 ? r : strv_addf(v, "--cpus=%u", conf->cpus);
	r = r < 0 ? r : conf->root_image ? strv_addf(v, "--disk=path=%s,ro", conf->root_image) :
					   strv_addf(v, "--disk=path=%s/" VM_ROOT_FILE ",ro", dir);
	r = r < 0 || !conf->network ? r : strv_add(v, "--net=user,dns=" GUEST_USER_DNS);
	return r < 0 ? r : strv_addf(v, "--vsock=path=%s/" VM_VSOCK_FILE, dir);
}

static int start_vmm(const struct vm_create *c, const struct vm_config *conf,
		     const struct vm_record *rec, const char *dir, pid_t *ret, struct err *e)
{
	auto_strv struct strv v = STRV_INIT;
	auto_close int log_fd = open_log(rec->dir_fd, VM_LOG);

	if (vmm_args(c, conf, dir, &v) < 0) {
		return err_nomem(e);
	}
	if (log_fd < 0) {
		return err_set(e, -log_fd, ERR_HOST, "the machine's folder");
	}
	*ret = sys_fork();
	if (*ret == 0) {
		exec_program(v.v, log_fd);
	}
	return *ret < 0 ? err_set(e, -*ret, ERR_HOST, "cannot fork") : 0;
}

/* It has ended, and is not waited for yet. */
static bool ended(pid_t pid)
{
	siginfo_t si = { .si_pid = 0 };

	return sys_waitid(P_PID, (id_t)pid, &si, WEXITED | WNOHANG | WNOWAIT) < 0 || si.si_pid == pid;
}

static int vmm_died(const struct vm_record *rec, struct err *e)
{
	auto_buf struct buf text = BUF_INIT;

	last_line(rec->dir_fd, VM_LOG, &text);
	return err_set(e, ECHILD, ERR_UNAVAILABLE, "the virtual machine ended at once: %s",
		       buf_str(&text));
}

/* --- privileges --- */

/*
 * Once its socket is there it belongs to the uid that will use it, and that is what we become.
 * The folder stays root's: what is kept there says which processes later commands signal.
 */
static int become(const struct vm_record *rec, pid_t vmm, struct err *e)
{
	gid_t gid = rec->uid;
	int r = -ENOENT;

	for (int ms = 0; r == -ENOENT && ms < SOCKET_TIMEOUT_MS; ms += POLL_MS) {
		r = sys_fchownat(rec->dir_fd, VM_VSOCK_FILE, rec->uid, gid, AT_SYMLINK_NOFOLLOW);
		if (r == -ENOENT && vmm && ended(vmm)) {
			return vmm_died(rec, e);
		}
		if (r == -ENOENT) {
			pause_ms(POLL_MS);
		}
	}
	r = r < 0 ? r : sys_setgroups(0, NULL);
	r = r < 0 ? r : sys_setresgid(gid, gid, gid);
	r = r < 0 ? r : sys_setresuid(rec->uid, rec->uid, rec->uid);
	r = r < 0 ? r : sys_prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
	return r < 0 ? err_set(e, -r, ERR_HOST, "cannot give up privileges") : 0;
}

/* --- terminal --- */

/* A pair: the caller's end goes over its socket, ours is raw. */
static int open_terminal(const char *console_socket, int *ret_fd, struct err *e)
{
	auto_close int master = posix_openpt(O_RDWR | O_NOCTTY | O_CLOEXEC);
	struct termios raw;
	char name[64];

	if (!console_socket) {
		return err_set(e, EINVAL, ERR_INVALID, "a process with a terminal needs "
			       "--console-socket");
	}
	if (master < 0 || grantpt(master) < 0 || unlockpt(master) < 0 ||
	    ptsname_r(master, name, sizeof(name)) != 0) {
		return err_set(e, errno, ERR_HOST, "cannot make a terminal");
	}
	auto_close int ours = sys_openat(AT_FDCWD, name, O_RDWR | O_NOCTTY, 0);
	auto_close int sock = sock_connect_path(console_socket);

	if (ours < 0 || tcgetattr(ours, &raw) < 0) {
		return err_set(e, EIO, ERR_HOST, "cannot make a terminal");
	}
	cfmakeraw(&raw);
	/* Ours to control, so that a new size is told by SIGWINCH. */
	int r = tcsetattr(ours, TCSANOW, &raw) < 0 ? -errno : sys_ioctl(ours, TIOCSCTTY, NULL);

	r = r < 0 ? r : sock < 0 ? sock : sock_send_fds(sock, name, strlen(name), &master, 1);
	if (r < 0) {
		return err_set(e, -r, ERR_HOST, "cannot hand over the terminal");
	}
	*ret_fd = take_fd(&ours);
	return 0;
}

static int attach(struct proxy_conf *p, struct err *e)
{
	if (p->terminal_fd >= 0) {
		return link_attach(p->dir_fd, VM_VSOCK_FILE, p->session, GUEST_TERMINAL,
				   &p->streams[0], e);
	}
	int r = 0;

	for (unsigned i = 0; r == 0 && i < 3; i++) {
		r = link_attach(p->dir_fd, VM_VSOCK_FILE, p->session, (enum guest_stream)i,
				&p->streams[i], e);
	}
	return r;
}

/* --- what the maker hears --- */

struct news {
	struct err err;
	uint32_t   exit_code;   /* of a failed create or exec */
};

static noreturn_fn void fail(int ready_fd, const struct news *n)
{
	ignore_result(sys_write_full(ready_fd, n, sizeof(*n))); /* then its end says it */
	_exit(125);
}

/* Read what the proxy says. 0, or its error. */
static int hear(int ready_fd, uint32_t *ret_exit_code, struct err *e)
{
	struct news n = { .err = ERR_INIT };
	ssize_t got = sys_read_full(ready_fd, &n, sizeof(n));

	if (got != (ssize_t)sizeof(n)) {
		return err_set(e, ECHILD, ERR_HOST, "the machine's proxy died");
	}
	*e = n.err;
	*ret_exit_code = n.exit_code;
	return -n.err.errnum;
}

/* Everything is there: tell it, and be the process from now on. */
static noreturn_fn void become_process(int ready_fd, struct proxy_conf *p)
{
	struct news n = { .err = ERR_INIT };
	struct err e = ERR_INIT;

	if (sys_write_full(ready_fd, &n, sizeof(n)) < 0) {
		_exit(125);
	}
	fd_close(&ready_fd);
	int r = proxy_run(p, &e);

	_exit(r < 0 ? 125 : r);
}

/* --- the container's own process --- */

static int wait_agent(const struct vm_record *rec, pid_t vmm, struct guest_link *ret, struct err *e)
{
	uint64_t until = clock_now_ns() + VM_BOOT_TIMEOUT_S * NS_PER_SEC;

	while (clock_now_ns() < until) {
		int r = link_open(rec->dir_fd, VM_VSOCK_FILE, ret, e);

		if (r != -ECONNREFUSED && r != -EAGAIN) { /* a guest without its driver yet is silent */
			return r;
		}
		err_clear(e);
		if (ended(vmm)) {
			return vmm_died(rec, e);
		}
		pause_ms(POLL_MS);
	}
	return err_set(e, ETIMEDOUT, ERR_UNAVAILABLE, "the virtual machine did not come up in %d s",
		       VM_BOOT_TIMEOUT_S);
}

static int set_up(struct guest_link *l, const struct vm_config *conf, struct err *e)
{
	char root[] = "/dev/vda", address[] = GUEST_USER_ADDRESS "/" GUEST_USER_PREFIX;
	char gateway[] = GUEST_USER_GATEWAY;
	uint8_t seed[GUEST_SEED_MIN];
	struct guest_setup m = { .hostname = conf->hostname, .wall_ns = clock_wall_ns(),
				 .seed = { seed, sizeof(seed) }, .root = root,
				 .address = conf->network ? address : NULL,
				 .gateway = conf->network ? gateway : NULL };

	if (getrandom(seed, sizeof(seed), 0) != (ssize_t)sizeof(seed)) {
		return err_set(e, EIO, ERR_HOST, "no random bytes");
	}
	int r = link_call(l, GUEST_SETUP, &m, NULL, e);

	for (size_t i = 0; r == 0 && i < conf->n_files; i++) {
		const struct vm_file *f = &conf->files[i];
		struct guest_file file = { .number = (uint32_t)i, .mode = f->mode,
					   .data = { (uint8_t *)f->data.data, f->data.len } };

		r = link_call(l, GUEST_FILE, &file, NULL, e);
	}
	return r;
}

static int make_container(struct guest_link *l, const struct vm_config *conf, struct news *n)
{
	struct guest_create m = { .config = conf->text, .streams = ALL_STREAMS,
				  .terminal = conf->terminal, .rows = conf->rows,
				  .cols = conf->cols };
	struct guest_reply reply = { .exit_code = 0 };
	int r = link_call(l, GUEST_CREATE, &m, &reply, &n->err);

	n->exit_code = reply.exit_code;
	wire_msg_fini(&guest_msgs[GUEST_REPLY], &reply);
	return r;
}

/* A new one: that of an earlier machine may lie there. Without it, nothing is ever said of memory. */
static int open_memory_events(const char *bundle)
{
	auto_close int dir_fd = sys_openat(AT_FDCWD, bundle, O_RDONLY | O_DIRECTORY, 0);

	if (dir_fd >= 0) {
		ignore_result(sys_unlinkat(dir_fd, VM_MEMORY_EVENTS, 0)); /* usually not there */
	}
	int fd = dir_fd < 0 ? dir_fd : sys_openat(dir_fd, VM_MEMORY_EVENTS, O_WRONLY | O_CREAT |
						  O_EXCL | O_NOFOLLOW, 0600);

	if (fd < 0) {
		log_warn("the bundle cannot be written: lack of memory in the machine is not told");
	}
	return MAX(fd, -1);
}

static noreturn_fn void machine_process(const struct vm_create *c, const struct vm_config *conf,
					const struct vm_record *rec, const char *dir, int ready_fd)
{
	struct proxy_conf p = { .session = GUEST_INIT, .dir_fd = rec->dir_fd,
				.link = GUEST_LINK_INIT, .streams = { -1, -1, -1 },
				.terminal_fd = -1, .memory_fd = open_memory_events(rec->bundle) };
	struct news n = { .err = ERR_INIT, .exit_code = 125 };
	int r = sys_setsid();

	r = r < 0 ? err_set(&n.err, -r, ERR_HOST, "a session") : 0;
	if (r == 0 && conf->terminal) {
		r = open_terminal(c->console_socket, &p.terminal_fd, &n.err);
	}
	r = r < 0 ? r : start_vmm(c, conf, rec, dir, &p.vmm, &n.err);
	r = r < 0 ? r : become(rec, p.vmm, &n.err);
	r = r < 0 ? r : wait_agent(rec, p.vmm, &p.link, &n.err);
	r = r < 0 ? r : set_up(&p.link, conf, &n.err);
	r = r < 0 ? r : make_container(&p.link, conf, &n);
	r = r < 0 ? r : attach(&p, &n.err);
	if (r < 0) {
		fail(ready_fd, &n);
	}
	become_process(ready_fd, &p);
}

static int write_pid(const char *path, pid_t pid, struct err *e)
{
	char text[16];
	int n = snprintf(text, sizeof(text), "%d", pid);
	int r = path ? sys_replace_file(AT_FDCWD, path, text, (size_t)n, 0644) : 0;

	return r < 0 ? err_set(e, -r, ERR_HOST, "writing %s", path) : 0;
}

/* Everything of the machine dies with its proxy. */
static void undo(pid_t pid)
{
	ignore_result(sys_kill(pid, SIGKILL));                     /* gone already: fine */
	ignore_result(sys_waitid(P_PID, (id_t)pid, NULL, WEXITED)); /* as above */
}

static int start_machine(const struct vm_create *c, const struct vm_config *conf,
			 struct vm_record *rec, const char *dir, struct err *e)
{
	int ready[2];
	uint32_t exit_code = 0;
	int r = sys_pipe2(ready, 0);

	if (r < 0) {
		return err_set(e, -r, ERR_HOST, "a pipe");
	}
	pid_t pid = sys_fork();

	if (pid == 0) {
		fd_close(&ready[0]);
		machine_process(c, conf, rec, dir, ready[1]);
	}
	fd_close(&ready[1]);
	r = pid < 0 ? err_set(e, -pid, ERR_HOST, "cannot fork") : hear(ready[0], &exit_code, e);
	fd_close(&ready[0]);
	if (pid > 0 && r == 0) {
		bool zombie = false;

		rec->pid = pid;
		r = proc_start_ticks(pid, &rec->start_ticks, &zombie);
		r = r < 0 ? err_set(e, -r, ERR_HOST, "the machine's proxy") : vm_record_save(rec, e);
		r = r < 0 ? r : write_pid(c->pid_file, pid, e);
	}
	if (pid > 0 && r < 0) {
		undo(pid);
	}
	return r;
}

static int check_kernel(const char *kernel, struct err *e)
{
	auto_free char *path = str_printf("%s/vmlinuz", kernel);
	struct stat st;
	int r = path ? sys_fstatat(AT_FDCWD, path, &st, 0) : -ENOMEM;

	return r < 0 ? err_set(e, -r, ERR_NOT_FOUND, "no kernel in %s: import one with \"holm kernel "
			       "import\", for example Debian's package linux-image-cloud-amd64", kernel) :
		       0;
}

int vm_create(const struct vm_create *c, struct err *e)
{
	struct vm_config conf;
	struct vm_record rec = VM_RECORD_INIT;
	auto_free char *bundle = c->bundle && c->bundle[0] == '/' ? str_dup(c->bundle) :
				 realpath(c->bundle ? c->bundle : ".", NULL);
	auto_free char *dir = str_printf("%s/%s", c->root, c->id);

	if (!bundle || !dir) {
		return err_set(e, ENOENT, ERR_NOT_FOUND, "bundle: %s", c->bundle ? c->bundle : ".");
	}
	int r = check_kernel(c->programs.kernel, e);

	r = r < 0 ? r : vm_config_read(bundle, &conf, e);
	if (r < 0) {
		return r;
	}
	r = vm_record_make(c->root, c->id, &rec, e);
	if (r == 0) {
		struct err ignored = ERR_INIT;

		rec.bundle = take_ptr(&bundle);
		rec.uid = conf.uid;
		r = vm_record_save(&rec, e);
		r = r < 0 || conf.root_image ? r : make_root(&rec, dir, conf.rootfs, e);
		r = r < 0 ? r : start_machine(c, &conf, &rec, dir, e);
		if (r < 0) {
			ignore_result(vm_record_remove(c->root, c->id, &ignored)); /* e is told */
		}
	}
	vm_record_fini(&rec);
	vm_config_fini(&conf);
	return r;
}

/* --- exec --- */

struct exec_job {
	char    *process;
	bool     terminal;
	uint32_t rows, cols;
};

static int read_process(const struct vm_exec *x, struct exec_job *ret, struct err *e)
{
	auto_buf struct buf text = BUF_INIT;
	auto_json json_t *doc = NULL;
	int terminal = 0, rows = 0, cols = 0;
	int r = sys_read_file(AT_FDCWD, x->process_file, 1 << 20, &text);

	r = r < 0 ? err_set(e, -r, ERR_NOT_FOUND, "%s", x->process_file) :
		    json_parse(buf_str(&text), text.len, &json_limits_document, x->process_file, &doc,
			       e);
	if (r < 0) {
		return r;
	}
	/* What is missing or of another type, the guest's runtime refuses by name. */
	ignore_result(json_unpack(doc, "{s?b,s?{s?i,s?i}}", "terminal", &terminal, "consoleSize",
				  "height", &rows, "width", &cols));
	ignore_result(json_object_del(doc, "apparmorProfile")); /* not there: as wished */
	ignore_result(json_object_del(doc, "selinuxLabel"));    /* likewise */
	*ret = (struct exec_job){ .process = json_text(doc), .terminal = terminal,
				  .rows = rows > 0 && rows < 65536 ? (uint32_t)rows : 0,
				  .cols = cols > 0 && cols < 65536 ? (uint32_t)cols : 0 };
	return ret->process ? 0 : err_nomem(e);
}

static noreturn_fn void exec_process(const struct vm_exec *x, const struct exec_job *job,
				     const struct vm_record *rec, int ready_fd)
{
	char session[32];
	struct proxy_conf p = { .session = session, .dir_fd = rec->dir_fd, .link = GUEST_LINK_INIT,
				.streams = { -1, -1, -1 }, .terminal_fd = -1, .memory_fd = -1 };
	struct guest_exec m = { .session = session, .process = job->process, .streams = ALL_STREAMS,
				.terminal = job->terminal, .rows = job->rows, .cols = job->cols };
	struct guest_reply reply = { .exit_code = 125 };
	struct news n = { .err = ERR_INIT, .exit_code = 125 };
	int r = sys_setsid();

	(void)snprintf(session, sizeof(session), "exec-%d", getpid());
	r = r < 0 ? err_set(&n.err, -r, ERR_HOST, "a session") : 0;
	if (r == 0 && job->terminal) {
		r = open_terminal(x->console_socket, &p.terminal_fd, &n.err);
	}
	r = r < 0 ? r : become(rec, 0, &n.err);
	r = r < 0 ? r : link_open(rec->dir_fd, VM_VSOCK_FILE, &p.link, &n.err);
	if (r == 0) {
		r = link_call(&p.link, GUEST_EXEC, &m, &reply, &n.err);
		n.exit_code = reply.exit_code;
	}
	r = r < 0 ? r : attach(&p, &n.err);
	if (r < 0) {
		fail(ready_fd, &n);
	}
	become_process(ready_fd, &p);
}

static int wait_end(pid_t pid, struct err *e)
{
	siginfo_t si = { .si_pid = 0 };
	int r = sys_waitid(P_PID, (id_t)pid, &si, WEXITED);

	return r < 0 ? err_set(e, -r, ERR_HOST, "waiting for the process") : proc_exit_status(&si);
}

int vm_exec(const struct vm_exec *x, struct err *e)
{
	struct vm_record rec = VM_RECORD_INIT;
	struct exec_job job = { .process = NULL };
	int ready[2] = { -1, -1 };
	uint32_t exit_code = 125;
	pid_t pid = -1;
	int r = vm_record_open(x->root, x->id, &rec, e);

	if (r == 0 && vm_record_status(&rec) == VM_STOPPED) {
		r = err_set(e, ESRCH, ERR_CONFLICT, "container %s is stopped", x->id);
	}
	r = r < 0 ? r : read_process(x, &job, e);
	if (r == 0 && (r = sys_pipe2(ready, 0)) < 0) {
		r = err_set(e, -r, ERR_HOST, "a pipe");
	}
	if (r == 0) {
		pid = sys_fork();
		if (pid == 0) {
			fd_close(&ready[0]);
			exec_process(x, &job, &rec, ready[1]);
		}
		fd_close(&ready[1]);
		r = pid < 0 ? err_set(e, -pid, ERR_HOST, "cannot fork") :
			      hear(ready[0], &exit_code, e);
		r = r < 0 ? r : write_pid(x->pid_file, pid, e);
		if (r < 0 && pid > 0) {
			undo(pid);
		}
	}
	fd_close(&ready[0]);
	free(job.process);
	vm_record_fini(&rec);
	return r < 0 || x->detach ? r : wait_end(pid, e);
}
