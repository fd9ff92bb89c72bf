/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Filters are compiled and a child lives under each; what it meets is told by its exit.
 */
#include "container/seccomp.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <poll.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <sys/wait.h>

#include <cmocka.h>

#include "base/arena.h"
#include "base/fd.h"
#include "container/seccomp-priv.h"
#include "sys/file.h"
#include "sys/proc.h"
#include "sys/socket.h"

/* A section from its text; it lives in *a. */
static const struct oci_seccomp *section(struct arena *a, const char *text)
{
	struct err e = ERR_INIT;
	auto_json json_t *doc = NULL;
	struct oci_seccomp *s = arena_new(a, struct oci_seccomp);

	assert_int_equal(json_parse(text, strlen(text), &json_limits_document, "test", &doc, &e), 0);
	if (jtable_parse(&oci_seccomp_table, doc, a, s, &e) < 0) {
		fail_msg("%s: %s", e.field, e.msg);
	}
	return s;
}

static void compile(const char *text, int cache_fd, struct seccomp_filter *ret)
{
	auto_arena struct arena a = ARENA_INIT;
	struct err e = ERR_INIT;

	if (seccomp_compile(section(&a, text), cache_fd, ret, &e) < 0) {
		fail_msg("%s: %s", e.field, e.msg);
	}
	assert_true(ret->n > 0);
}

/* Exit status of a child that installed the filter and ran `fn`; 1000 + signal if killed. */
static int under(const char *text, int (*fn)(void))
{
	auto_(seccomp_filter_fini) struct seccomp_filter f = SECCOMP_FILTER_INIT;
	int status = 0;
	pid_t pid = 0;

	compile(text, -1, &f);
	pid = fork();
	if (pid == 0) {
		signal(SIGSYS, SIG_DFL); /* cmocka has a handler */
		prctl(PR_SET_DUMPABLE, 0);
		prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
		syscall(SYS_exit_group, seccomp_install(&f, NULL) < 0 ? 255 : fn());
	}
	assert_true(pid > 0 && waitpid(pid, &status, 0) == pid);
	return WIFSIGNALED(status) ? 1000 + WTERMSIG(status) : WEXITSTATUS(status);
}

static int call_errno(long r)
{
	return r < 0 ? errno : 0;
}

static int do_getppid(void)   { return call_errno(syscall(SYS_getppid)) ? errno : 0; }
static int do_write(void)     { return call_errno(syscall(SYS_write, -1, "", 0)); }
static int do_unknown(void)   { return call_errno(syscall(600)); }
static int do_clone3(void)    { return call_errno(syscall(SYS_clone3, NULL, 0)); }

#define DENY(action, extra) \
	"{\"defaultAction\":\"SCMP_ACT_ALLOW\",\"architectures\":[\"SCMP_ARCH_X86_64\"]," \
	"\"syscalls\":[{\"names\":[\"getppid\"],\"action\":\"" action "\"" extra "}]}"

static void test_actions(void **state)
{
	(void)state;
	assert_int_equal(under(DENY("SCMP_ACT_ALLOW", ""), do_write), EBADF);
	assert_int_equal(under(DENY("SCMP_ACT_LOG", ""), do_getppid), 0);
	assert_int_equal(under(DENY("SCMP_ACT_ERRNO", ""), do_getppid), EPERM);
	assert_int_equal(under(DENY("SCMP_ACT_ERRNO", ",\"errnoRet\":38"), do_getppid), ENOSYS);
	assert_int_equal(under(DENY("SCMP_ACT_ERRNO", ",\"errnoRet\":0"), do_write), EBADF);
	assert_int_equal(under(DENY("SCMP_ACT_KILL", ""), do_getppid), 1000 + SIGSYS);
	assert_int_equal(under(DENY("SCMP_ACT_KILL_THREAD", ""), do_getppid), 1000 + SIGSYS);
	assert_int_equal(under(DENY("SCMP_ACT_KILL_PROCESS", ""), do_getppid), 1000 + SIGSYS);
	assert_int_equal(under(DENY("SCMP_ACT_TRAP", ""), do_getppid), 1000 + SIGSYS);
	/* Without a tracer the call is not made. */
	assert_int_equal(under(DENY("SCMP_ACT_TRACE", ",\"errnoRet\":7"), do_getppid), ENOSYS);
}

/* The tracer sees the data of the action. */
static void test_trace_data(void **state)
{
	auto_(seccomp_filter_fini) struct seccomp_filter f = SECCOMP_FILTER_INIT;
	unsigned long data = 0;
	int status = 0;
	pid_t pid = 0;

	(void)state;
	compile(DENY("SCMP_ACT_TRACE", ",\"errnoRet\":4711"), -1, &f);
	pid = fork();
	if (pid == 0) {
		ptrace(PTRACE_TRACEME, 0, 0, 0);
		raise(SIGSTOP);
		prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
		_exit(seccomp_install(&f, NULL) < 0 ? 255 : do_getppid());
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(ptrace(PTRACE_SETOPTIONS, pid, 0, PTRACE_O_TRACESECCOMP | PTRACE_O_EXITKILL), 0);
	assert_int_equal(ptrace(PTRACE_CONT, pid, 0, 0), 0);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(status >> 8, SIGTRAP | PTRACE_EVENT_SECCOMP << 8);
	assert_int_equal(ptrace(PTRACE_GETEVENTMSG, pid, 0, &data), 0);
	assert_int_equal(data, 4711);
	assert_int_equal(ptrace(PTRACE_CONT, pid, 0, 0), 0);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(status, 0);
}

#define ALLOW_LIST \
	"{\"defaultAction\":\"SCMP_ACT_ERRNO\",\"architectures\":[\"SCMP_ARCH_X86_64\"," \
	"\"SCMP_ARCH_X86\",\"SCMP_ARCH_X32\"],\"syscalls\":[{\"names\":[\"exit_group\",\"write\"," \
	"\"no_such_call_ever\",\"openat2\"],\"action\":\"SCMP_ACT_ALLOW\"}," \
	"{\"names\":[\"getppid\"],\"action\":\"SCMP_ACT_ERRNO\"}]}"

/* A name that nobody knows is skipped; so is what the default does anyway; and a number
 * beyond the last named one (openat2) is ENOSYS, not EPERM. */
static void test_allow_list(void **state)
{
	(void)state;
	assert_int_equal(under(ALLOW_LIST, do_write), EBADF);
	assert_int_equal(under(ALLOW_LIST, do_getppid), EPERM);
	assert_int_equal(under(ALLOW_LIST, do_clone3), EPERM); /* 435, below openat2's 437 */
	assert_int_equal(under(ALLOW_LIST, do_unknown), ENOSYS);
}

static int do_unknown_x32(void) { return call_errno(syscall(0x40000000 | 600)); }

static int i386_getppid(void)
{
	long r = 64;

	__asm__ volatile("int $0x80" : "+a"(r) : : "memory", "r8", "r9", "r10", "r11");
	return r < 0 ? (int)-r : 0;
}

static int i386_unknown(void)
{
	long r = 600;

	__asm__ volatile("int $0x80" : "+a"(r) : : "memory", "r8", "r9", "r10", "r11");
	return r < 0 ? (int)-r : 0;
}

/* What the architectures of a section mean to calls of the other ones. */
static void test_architectures(void **state)
{
	static const char *const only64 =
		"{\"defaultAction\":\"SCMP_ACT_ALLOW\",\"architectures\":[\"SCMP_ARCH_X86_64\"],"
		"\"syscalls\":[{\"names\":[\"getppid\"],\"action\":\"SCMP_ACT_ERRNO\"}]}";
	static const char *const both =
		"{\"defaultAction\":\"SCMP_ACT_ALLOW\",\"architectures\":[\"SCMP_ARCH_X86\"],"
		"\"syscalls\":[{\"names\":[\"getppid\"],\"action\":\"SCMP_ACT_ERRNO\",\"errnoRet\":5}]}";

	(void)state;
	assert_int_equal(under(ALLOW_LIST, i386_getppid), EPERM);
	assert_int_equal(under(ALLOW_LIST, i386_unknown), ENOSYS);
	assert_int_equal(under(ALLOW_LIST, do_unknown_x32), ENOSYS);
	assert_int_equal(under(both, i386_getppid), 5);
	assert_int_equal(under(both, do_getppid), 5); /* the native one is always there */
	assert_int_equal(under(only64, i386_getppid), 1000 + SIGSYS);
}

static int sock_alg(void)      { return call_errno(syscall(SYS_socket, 38, 5, 0)); }
static int sock_alg_high(void) { return call_errno(syscall(SYS_socket, 0x700000026, 5, 0)); }
static int sock_unix(void)     { return call_errno(syscall(SYS_socket, AF_UNIX, SOCK_STREAM, 0)); }

static int i386_socketcall(void)
{
	unsigned *args = mmap(NULL, 4096, PROT_READ | PROT_WRITE,
			      MAP_PRIVATE | MAP_ANONYMOUS | MAP_32BIT, -1, 0);
	long r = 102;

	args[0] = AF_UNIX;
	args[1] = SOCK_STREAM;
	__asm__ volatile("int $0x80" : "+a"(r) : "b"(1L), "c"(args)
			 : "memory", "r8", "r9", "r10", "r11");
	return r < 0 ? (int)-r : 0;
}

#define SOCKETS(more) \
	"{\"defaultAction\":\"SCMP_ACT_ERRNO\",\"architectures\":[\"SCMP_ARCH_X86_64\"," \
	"\"SCMP_ARCH_X86\"],\"syscalls\":[{\"names\":[\"exit_group\",\"mmap\"],\"action\":" \
	"\"SCMP_ACT_ALLOW\"},{\"names\":[\"socket\"],\"action\":\"SCMP_ACT_ALLOW\",\"args\":" \
	"[{\"index\":0,\"value\":38,\"op\":\"SCMP_CMP_LT\"}]}" more "]}"

/* Rule 11: no way around a condition on socket(2), be it by 32-bit socketcall. */
static void test_socketcall(void **state)
{
	(void)state;
	assert_int_equal(under(SOCKETS(""), sock_unix), 0);
	assert_int_equal(under(SOCKETS(""), sock_alg), EPERM);
	assert_int_equal(under(SOCKETS(""), sock_alg_high), EPERM);
	assert_int_equal(under(SOCKETS(""), i386_socketcall), EPERM);
	/* The profile says it itself: as runc. */
	assert_int_equal(under(SOCKETS(",{\"names\":[\"socketcall\"],\"action\":\"SCMP_ACT_ALLOW\"}"),
			       i386_socketcall), 0);
}

static uint64_t arg_a, arg_b;
static int do_dup3(void)
{
	return call_errno(syscall(SYS_dup3, arg_a, arg_b, 0xdead)) == ENOSYS;
}

/* Whether a rule on dup3 with these conditions matches dup3(a, b, 0xdead). */
static int matches(const char *args, uint64_t a, uint64_t b)
{
	char text[600];

	arg_a = a;
	arg_b = b;
	snprintf(text, sizeof(text),
		 "{\"defaultAction\":\"SCMP_ACT_ALLOW\",\"syscalls\":[{\"names\":[\"dup3\"],\"action\":"
		 "\"SCMP_ACT_ERRNO\",\"errnoRet\":38,\"args\":[%s]}]}", args);
	return under(text, do_dup3);
}

#define ARG(i, op, v) "{\"index\":" #i ",\"op\":\"SCMP_CMP_" #op "\",\"value\":" #v "}"

static void test_operators(void **state)
{
	(void)state;
	assert_int_equal(matches(ARG(0, EQ, 100), 100, 0), 1);
	assert_int_equal(matches(ARG(0, EQ, 100), 101, 0), 0);
	assert_int_equal(matches(ARG(0, NE, 100), 101, 0), 1);
	assert_int_equal(matches(ARG(0, NE, 100), 100, 0), 0);
	assert_int_equal(matches(ARG(0, LT, 100), 99, 0), 1);
	assert_int_equal(matches(ARG(0, LT, 100), 100, 0), 0);
	assert_int_equal(matches(ARG(0, LE, 100), 100, 0), 1);
	assert_int_equal(matches(ARG(0, LE, 100), 101, 0), 0);
	assert_int_equal(matches(ARG(0, GT, 100), 101, 0), 1);
	assert_int_equal(matches(ARG(0, GT, 100), 100, 0), 0);
	assert_int_equal(matches(ARG(0, GE, 100), 100, 0), 1);
	assert_int_equal(matches(ARG(0, GE, 100), 99, 0), 0);
	assert_int_equal(matches(ARG(0, GT, 100), 0x100000000, 0), 1); /* all 64 bits count */
	assert_int_equal(matches("{\"index\":1,\"op\":\"SCMP_CMP_MASKED_EQ\",\"value\":240,"
				 "\"valueTwo\":32}", 0, 0x1002f), 1);
	assert_int_equal(matches("{\"index\":1,\"op\":\"SCMP_CMP_MASKED_EQ\",\"value\":240,"
				 "\"valueTwo\":32}", 0, 0x31), 0);
	/* On different arguments: all. On the same one: any. */
	assert_int_equal(matches(ARG(0, EQ, 1) "," ARG(1, EQ, 2), 1, 2), 1);
	assert_int_equal(matches(ARG(0, EQ, 1) "," ARG(1, EQ, 2), 1, 3), 0);
	assert_int_equal(matches(ARG(0, EQ, 1) "," ARG(0, EQ, 5), 5, 2), 1);
}


#define TWO(first, second) \
	"{\"defaultAction\":\"SCMP_ACT_ALLOW\",\"syscalls\":[{\"names\":[\"getppid\"],\"action\":" \
	first "},{\"names\":[\"getppid\"],\"action\":" second "}]}"

#define IF_NOT_99 ",\"args\":[{\"index\":0,\"op\":\"SCMP_CMP_NE\",\"value\":99}]"

/* Of two rules for the same call the first counts; one without conditions before others. */
static void test_contradiction(void **state)
{
	(void)state;
	assert_int_equal(under(TWO("\"SCMP_ACT_ERRNO\",\"errnoRet\":5",
				   "\"SCMP_ACT_ERRNO\",\"errnoRet\":6"), do_getppid), 5);
	assert_int_equal(under(TWO("\"SCMP_ACT_LOG\"", "\"SCMP_ACT_ERRNO\""), do_getppid), 0);
	assert_int_equal(under(TWO("\"SCMP_ACT_ERRNO\"", "\"SCMP_ACT_LOG\""), do_getppid), EPERM);
	assert_int_equal(under(TWO("\"SCMP_ACT_ERRNO\"" IF_NOT_99, "\"SCMP_ACT_LOG\""),
			       do_getppid), 0);
}

/* A process under a filter that notifies even its writes, with the listener in our hands. */
static pid_t start_notified(const char *text, int *ret_listener, int (*fn)(void))
{
	auto_(seccomp_filter_fini) struct seccomp_filter f = SECCOMP_FILTER_INIT;
	struct seccomp_handoff h = { .page = NULL };
	struct err e = ERR_INIT;
	auto_close int pidfd = -1;
	pid_t pid = 0;

	compile(text, -1, &f);
	assert_true(f.notify);
	assert_int_equal(seccomp_install(&f, NULL), -EINVAL);
	assert_int_equal(seccomp_handoff_init(&h, &f, &e), 0);
	pid = fork();
	if (pid == 0) {
		prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
		if (seccomp_install(&f, &h) < 0) {
			_exit(255);
		}
		syscall(SYS_exit_group, fn());
	}
	pidfd = sys_pidfd_open(pid, 0);
	if (seccomp_handoff_take(&h, pidfd, ret_listener, &e) < 0) {
		fail_msg("%s", e.msg);
	}
	seccomp_handoff_fini(&h);
	return pid;
}

/* Answer the calls of a process: write gets 77, all else goes on. Returns its status. */
static int answer(pid_t pid, int listener, unsigned *ret_calls)
{
	struct seccomp_notif req;
	struct seccomp_notif_resp resp;
	struct pollfd p = { .fd = listener, .events = POLLIN };
	int status = 0;

	*ret_calls = 0;
	while (poll(&p, 1, 5000) == 1 && (p.revents & POLLIN)) {
		memset(&req, 0, sizeof(req));
		if (ioctl(listener, SECCOMP_IOCTL_NOTIF_RECV, &req) < 0) {
			break;
		}
		memset(&resp, 0, sizeof(resp));
		resp.id = req.id;
		resp.error = req.data.nr == SYS_write ? -77 : 0;
		resp.flags = req.data.nr == SYS_write ? 0 : SECCOMP_USER_NOTIF_FLAG_CONTINUE;
		++*ret_calls;
		(void)ioctl(listener, SECCOMP_IOCTL_NOTIF_SEND, &resp); /* it may be gone */
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	return status;
}

#define NOTIFY(dflt, flags) \
	"{\"defaultAction\":\"" dflt "\",\"listenerPath\":\"/x\"" flags ",\"syscalls\":[{\"names\":" \
	"[\"write\"],\"action\":\"SCMP_ACT_NOTIFY\"}]}"

static void test_notify(void **state)
{
	auto_close int one = -1, all = -1;
	unsigned calls = 0;
	int status = 0;
	pid_t pid = start_notified(NOTIFY("SCMP_ACT_ALLOW", ",\"flags\":[\"SECCOMP_FILTER_FLAG_TSYNC\","
				   "\"SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV\"]"), &one, do_write);

	(void)state;
	status = answer(pid, one, &calls);
	assert_true(WIFEXITED(status));
	assert_int_equal(WEXITSTATUS(status), 77);
	assert_int_equal(calls, 1);
	/* The default action too: the process needs no call to come to its listener's end. */
	pid = start_notified(NOTIFY("SCMP_ACT_NOTIFY", ""), &all, do_write);
	status = answer(pid, all, &calls);
	assert_true(WIFEXITED(status));
	assert_int_equal(WEXITSTATUS(status), 77);
	assert_true(calls >= 2); /* exit_group was asked for as well */
}

/* The parent does not wait for a child that is gone, or that could not install. */
static void test_handoff_failures(void **state)
{
	auto_(seccomp_filter_fini) struct seccomp_filter f = SECCOMP_FILTER_INIT;
	struct seccomp_handoff h;
	struct err e = ERR_INIT;
	int fd = -1;

	(void)state;
	compile(NOTIFY("SCMP_ACT_ALLOW", ""), -1, &f);
	for (int install = 0; install < 2; install++) {
		assert_int_equal(seccomp_handoff_init(&h, &f, &e), 0);
		pid_t pid = fork();

		if (pid == 0) {
			sys_fault_arm(SYS_CALL_seccomp, 1, 1, EACCES);
			if (install) {
				assert_int_equal(seccomp_install(&f, &h), -EACCES);
			}
			_exit(0);
		}
		auto_close int pidfd = sys_pidfd_open(pid, 0);

		assert_int_equal(seccomp_handoff_take(&h, pidfd, &fd, &e), install ? -EACCES : -ESRCH);
		assert_int_equal(waitpid(pid, NULL, 0), pid);
		seccomp_handoff_fini(&h);
	}
	assert_int_equal(fd, -1);
}

static void test_listener_send(void **state)
{
	struct sockaddr_un addr = { .sun_family = AF_UNIX };
	struct oci_seccomp s = { .listener_path = addr.sun_path, .listener_metadata = "meta" };
	auto_json json_t *st = json_pack("{s:s}", "id", "c1"), *got = NULL;
	auto_close int server = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	auto_close int sent = open("/dev/null", O_RDONLY | O_CLOEXEC);
	auto_close int conn = -1, fd = -1;
	char dir[] = "/tmp/holm-seccomp-XXXXXX", text[4096];
	struct err e = ERR_INIT;
	size_t n_fds = 0;
	struct stat x, y;
	ssize_t n = 0;

	(void)state;
	assert_non_null(mkdtemp(dir));
	snprintf(addr.sun_path, sizeof(addr.sun_path), "%s/agent", dir);
	assert_int_equal(seccomp_listener_send(&s, 42, st, sent, &e), -ENOENT);
	assert_int_equal(bind(server, (struct sockaddr *)&addr, sizeof(addr)), 0);
	assert_int_equal(listen(server, 1), 0);
	assert_int_equal(seccomp_listener_send(&s, 42, st, sent, &e), 0);
	conn = accept4(server, NULL, NULL, SOCK_CLOEXEC);
	n = sock_recv_fds(conn, text, sizeof(text), &fd, 1, &n_fds);
	assert_true(n > 0 && n_fds == 1);
	assert_int_equal(json_parse(text, (size_t)n, &json_limits_document, "state", &got, &e), 0);
	assert_string_equal(json_string_value(json_array_get(json_object_get(got, "fds"), 0)), "seccompFd");
	assert_int_equal(json_integer_value(json_object_get(got, "pid")), 42);
	assert_string_equal(json_string_value(json_object_get(got, "metadata")), "meta");
	assert_true(json_equal(json_object_get(got, "state"), st));
	assert_int_equal(fstat(fd, &x) | fstat(sent, &y), 0);
	assert_int_equal(x.st_rdev, y.st_rdev);
	unlink(addr.sun_path);
	rmdir(dir);
}

/* What is wrong is refused, and by the name of the field. */
static void test_check(void **state)
{
	static const struct {
		const char *text, *field;
	} bad[] = {
		{ "{\"defaultAction\":\"SCMP_ACT_MAYBE\"}", "/linux/seccomp/defaultAction" },
		{ "{\"defaultAction\":\"SCMP_ACT_ALLOW\",\"defaultErrnoRet\":1}",
		  "/linux/seccomp/defaultAction" },
		{ "{\"defaultAction\":\"SCMP_ACT_ERRNO\",\"defaultErrnoRet\":5000}",
		  "/linux/seccomp/defaultAction" },
		{ "{\"defaultAction\":\"SCMP_ACT_ALLOW\",\"architectures\":[\"SCMP_ARCH_Z80\"]}",
		  "/linux/seccomp/architectures" },
		{ "{\"defaultAction\":\"SCMP_ACT_ALLOW\",\"flags\":[\"SECCOMP_FILTER_FLAG_X\"]}",
		  "/linux/seccomp/flags" },
		{ "{\"defaultAction\":\"SCMP_ACT_ALLOW\",\"listenerMetadata\":\"x\"}",
		  "/linux/seccomp/listenerMetadata" },
		{ "{\"defaultAction\":\"SCMP_ACT_NOTIFY\"}", "/linux/seccomp/listenerPath" },
		{ "{\"defaultAction\":\"SCMP_ACT_ALLOW\",\"syscalls\":[{\"names\":[],\"action\":"
		  "\"SCMP_ACT_KILL\"}]}", "/linux/seccomp/syscalls/0" },
		{ "{\"defaultAction\":\"SCMP_ACT_ALLOW\",\"syscalls\":[{\"names\":[\"read\"],\"action\":"
		  "\"SCMP_ACT_KILL\",\"errnoRet\":1}]}", "/linux/seccomp/syscalls/0" },
		{ "{\"defaultAction\":\"SCMP_ACT_ALLOW\",\"syscalls\":[{\"names\":[\"read\"],\"action\":"
		  "\"SCMP_ACT_KILL\",\"args\":[{\"index\":0,\"value\":1,\"op\":\"SCMP_CMP_IS\"}]}]}",
		  "/linux/seccomp/syscalls/0" },
	};
	auto_arena struct arena a = ARENA_INIT;

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
		struct seccomp_filter f = SECCOMP_FILTER_INIT;
		struct err e = ERR_INIT;

		assert_int_equal(seccomp_compile(section(&a, bad[i].text), -1, &f, &e), -EINVAL);
		assert_string_equal(e.field, bad[i].field);
		assert_null(f.insns);
	}
}

/* Every name of the tables is understood, and every architecture can be asked for. */
static void test_tables(void **state)
{
	auto_buf struct buf b = BUF_INIT;

	(void)state;
	buf_add_str(&b, "{\"defaultAction\":\"SCMP_ACT_ERRNO\",\"architectures\":[");
	for (size_t i = 0; seccomp_arch_names[i]; i++) {
		assert_true(seccomp__arch(seccomp_arch_names[i]) >= 0);
		buf_printf(&b, "%s\"%s\"", i > 0 ? "," : "", seccomp_arch_names[i]);
	}
	buf_add_str(&b, "],\"syscalls\":[{\"names\":[\"exit_group\",\"write\"],\"action\":"
			"\"SCMP_ACT_ALLOW\"}]}");
	assert_int_equal(under(buf_str(&b), do_write), EBADF);
	assert_int_equal(under(buf_str(&b), do_getppid), EPERM);
	for (size_t i = 0; seccomp_action_names[i]; i++) {
		assert_true(seccomp__action(seccomp_action_names[i], false, 0) >= 0);
	}
	for (size_t i = 0; seccomp_operator_names[i]; i++) {
		assert_true(seccomp__operator(seccomp_operator_names[i]) > 0);
	}
	assert_int_equal(seccomp__action("SCMP_ACT", false, 0), -1);
	assert_int_equal(seccomp__operator(NULL), -1);
}

static unsigned flags_of(const char *flags)
{
	auto_(seccomp_filter_fini) struct seccomp_filter f = SECCOMP_FILTER_INIT;
	char text[400];

	snprintf(text, sizeof(text), "{\"defaultAction\":\"SCMP_ACT_ALLOW\",\"listenerPath\":\"/x\"%s,"
		 "\"syscalls\":[{\"names\":[\"write\"],\"action\":\"SCMP_ACT_ERRNO\"}]}", flags);
	compile(text, -1, &f);
	return f.flags;
}

static void test_flags(void **state)
{
	(void)state;
	assert_int_equal(flags_of(""), SECCOMP_FILTER_FLAG_SPEC_ALLOW);
	assert_int_equal(flags_of(",\"flags\":[]"), 0);
	assert_int_equal(flags_of(",\"flags\":[\"SECCOMP_FILTER_FLAG_LOG\"]"), SECCOMP_FILTER_FLAG_LOG);
	assert_int_equal(flags_of(",\"flags\":[\"SECCOMP_FILTER_FLAG_TSYNC\","
				  "\"SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV\"]"),
			 SECCOMP_FILTER_FLAG_TSYNC);
}

static int cache_new(char dir[static 64])
{
	struct err e = ERR_INIT;
	int fd = -1;

	snprintf(dir, 64, "/tmp/holm-seccomp-XXXXXX");
	assert_non_null(mkdtemp(dir));
	if (seccomp_cache_open(AT_FDCWD, dir, &fd, &e) < 0) {
		fail_msg("%s", e.msg);
	}
	return fd;
}

static void only_file(int fd, char name[64])
{
	auto_buf struct buf b = BUF_INIT;
	auto_arena struct arena a = ARENA_INIT;

	assert_int_equal(seccomp__key(section(&a, ALLOW_LIST), &b), 0);
	seccomp__cache_name(&b, name);
	assert_int_equal(faccessat(fd, name, F_OK, 0), 0);
}

static void test_cache(void **state)
{
	auto_(seccomp_filter_fini) struct seccomp_filter a = SECCOMP_FILTER_INIT;
	auto_(seccomp_filter_fini) struct seccomp_filter b = SECCOMP_FILTER_INIT;
	auto_(seccomp_filter_fini) struct seccomp_filter c = SECCOMP_FILTER_INIT;
	char dir[64], name[64];
	auto_close int fd = cache_new(dir);

	(void)state;
	compile(ALLOW_LIST, fd, &a);
	assert_false(a.from_cache);
	compile(ALLOW_LIST, fd, &b);
	assert_true(b.from_cache);
	assert_int_equal(a.n, b.n);
	assert_int_equal(a.flags, b.flags);
	assert_memory_equal(a.insns, b.insns, a.n * sizeof(*a.insns));
	/* Another section is another filter. */
	compile(DENY("SCMP_ACT_KILL", ""), fd, &c);
	assert_false(c.from_cache);
	only_file(fd, name);
	assert_int_equal(sys_remove_tree(AT_FDCWD, dir), 0);
}

enum damage { FLIP, CUT, EMPTY, WRITABLE, LINK, FIFO, OTHER_KEY, DAMAGE__COUNT };

static void do_damage(int fd, const char *name, enum damage how)
{
	auto_close int file = openat(fd, name, O_RDWR | O_CLOEXEC);
	struct stat st;
	char c = 0;

	assert_int_equal(fstat(file, &st), 0);
	switch (how) {
	case FLIP:
		assert_int_equal(pread(file, &c, 1, st.st_size - 4), 1);
		c ^= 1;
		assert_int_equal(pwrite(file, &c, 1, st.st_size - 4), 1);
		break;
	case CUT:
		assert_int_equal(ftruncate(file, st.st_size - 8), 0);
		break;
	case EMPTY:
		assert_int_equal(ftruncate(file, 0), 0);
		break;
	case WRITABLE:
		assert_int_equal(fchmod(file, 0666), 0);
		break;
	case LINK:
		assert_int_equal(renameat(fd, name, fd, "elsewhere"), 0);
		assert_int_equal(symlinkat("elsewhere", fd, name), 0);
		break;
	case FIFO:
		assert_int_equal(unlinkat(fd, name, 0), 0);
		assert_int_equal(mkfifoat(fd, name, 0600), 0);
		break;
	case OTHER_KEY: { /* a whole and valid file, but of another section */
		auto_(seccomp_filter_fini) struct seccomp_filter f = SECCOMP_FILTER_INIT;
		auto_arena struct arena a = ARENA_INIT;
		auto_buf struct buf key = BUF_INIT;
		char other[64];

		compile(DENY("SCMP_ACT_LOG", ""), fd, &f);
		assert_int_equal(seccomp__key(section(&a, DENY("SCMP_ACT_LOG", "")), &key), 0);
		seccomp__cache_name(&key, other);
		assert_int_equal(renameat(fd, other, fd, name), 0);
		break;
	}
	case DAMAGE__COUNT:
		break;
	}
}

/* A file that is damaged, or that someone else could have written, is not used but made
 * anew, and then used. */
static void test_cache_damage(void **state)
{
	(void)state;
	for (enum damage how = FLIP; how < DAMAGE__COUNT; how++) {
		auto_(seccomp_filter_fini) struct seccomp_filter a = SECCOMP_FILTER_INIT;
		auto_(seccomp_filter_fini) struct seccomp_filter b = SECCOMP_FILTER_INIT;
		auto_(seccomp_filter_fini) struct seccomp_filter c = SECCOMP_FILTER_INIT;
		char dir[64], name[64];
		auto_close int fd = cache_new(dir);

		compile(ALLOW_LIST, fd, &a);
		only_file(fd, name);
		do_damage(fd, name, how);
		compile(ALLOW_LIST, fd, &b);
		assert_false(b.from_cache);
		assert_memory_equal(a.insns, b.insns, a.n * sizeof(*a.insns));
		compile(ALLOW_LIST, fd, &c);
		assert_true(c.from_cache);
		assert_int_equal(sys_remove_tree(AT_FDCWD, dir), 0);
	}
}

static void test_cache_folder(void **state)
{
	char dir[] = "/tmp/holm-seccomp-XXXXXX", link[80];
	struct err e = ERR_INIT;
	int fd = -1;

	(void)state;
	assert_non_null(mkdtemp(dir));
	assert_int_equal(chmod(dir, 0777), 0);
	assert_int_equal(seccomp_cache_open(AT_FDCWD, dir, &fd, &e), -EPERM);
	assert_int_equal(chmod(dir, 0700), 0);
	snprintf(link, sizeof(link), "%s-link", dir);
	assert_int_equal(symlink(dir, link), 0);
	assert_true(seccomp_cache_open(AT_FDCWD, link, &fd, &e) < 0);
	assert_int_equal(fd, -1);
	unlink(link);
	rmdir(dir);
}

/* A cache that cannot be written costs time, not the container. */
static void test_cache_faults(void **state)
{
	char dir[64];
	auto_close int fd = cache_new(dir);

	(void)state;
	for (unsigned n = 1; n < 12; n++) {
		auto_(seccomp_filter_fini) struct seccomp_filter f = SECCOMP_FILTER_INIT;
		auto_arena struct arena a = ARENA_INIT;
		const struct oci_seccomp *s = section(&a, ALLOW_LIST);
		struct err e = ERR_INIT;
		int r = 0;

		sys_fault_arm(n % 2 ? SYS_CALL_write : SYS_CALL_renameat2, 1, 0, ENOSPC);
		r = seccomp_compile(s, fd, &f, &e);
		sys_fault_clear();
		assert_int_equal(r, 0);
		assert_false(f.from_cache);
	}
	assert_int_equal(sys_remove_tree(AT_FDCWD, dir), 0);
}

static void test_none(void **state)
{
	struct seccomp_filter f = SECCOMP_FILTER_INIT;
	struct err e = ERR_INIT;

	(void)state;
	assert_int_equal(seccomp_compile(NULL, -1, &f, &e), 0);
	assert_int_equal(seccomp_install(&f, NULL), 0);
	assert_true(*seccomp_library_version());
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_actions),
		cmocka_unit_test(test_trace_data),
		cmocka_unit_test(test_allow_list),
		cmocka_unit_test(test_architectures),
		cmocka_unit_test(test_socketcall),
		cmocka_unit_test(test_operators),
		cmocka_unit_test(test_contradiction),
		cmocka_unit_test(test_notify),
		cmocka_unit_test(test_handoff_failures),
		cmocka_unit_test(test_listener_send),
		cmocka_unit_test(test_check),
		cmocka_unit_test(test_tables),
		cmocka_unit_test(test_flags),
		cmocka_unit_test(test_cache),
		cmocka_unit_test(test_cache_damage),
		cmocka_unit_test(test_cache_folder),
		cmocka_unit_test(test_cache_faults),
		cmocka_unit_test(test_none),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
