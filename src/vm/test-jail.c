/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Each wall, tried in a child that stands behind it. Names the rules of docs/security.md,
 * virtual machines. What a running monitor has of it, tests/lib/jail.py compares with the tables.
 */
#include "base/test.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <linux/if_tun.h>
#include <linux/kvm.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include "base/fd.h"
#include "sys/cred.h"
#include "sys/file.h"
#include "sys/proc.h"
#include "vm/dev/vdev.h"
#include "vm/jail.h"

/* No filter sees these; they work only where a tracer put them (Linux 6.11, 6.18). */
enum { URETPROBE = 335, UPROBE = 336 };
enum { CALLS = 512, X32 = 0x40000000, LIVED = 7, UID = 64999 };

/* How a child ended that made this call behind the filter of that kind. */
struct attempt {
	enum jail_thread kind;
	long             nr, args[6];
	bool             in_thread;
};

static long behind_filter(const struct attempt *a)
{
	struct err e = ERR_INIT;

	if (jail_filter(a->kind, NULL, 0, &e) < 0) {
		_exit(1);
	}
	return syscall(a->nr, a->args[0], a->args[1], a->args[2], a->args[3], a->args[4], a->args[5]);
}

static void *thread(void *ud)
{
	(void)behind_filter(ud); /* it returns, or it does not */
	return NULL;
}

static int attempt(const struct attempt *a)
{
	siginfo_t si = { 0 };
	pid_t pid = sys_fork();

	assert_true(pid >= 0);
	if (pid == 0) {
		const struct rlimit none = { 0, 0 };
		pthread_t t;

		sys_reset_signals(); /* the test's handlers */
		ignore_result(sys_prlimit(0, RLIMIT_CORE, &none, NULL)); /* lower always goes */
		if (!a->in_thread) {
			(void)behind_filter(a); /* as above */
		} else if (pthread_create(&t, NULL, thread, (void *)(uintptr_t)a) != 0 ||
			   pthread_join(t, NULL) != 0) {
			_exit(1);
		}
		_exit(LIVED);
	}
	assert_int_equal(sys_waitid(P_PID, (id_t)pid, &si, WEXITED), 0);
	return si.si_code == CLD_EXITED ? si.si_status : -si.si_status;
}

static bool in_table(enum jail_thread kind, long nr)
{
	for (size_t i = 0; i < jail_calls[kind].n; i++) {
		if (jail_calls[kind].calls[i] == nr) {
			return true;
		}
	}
	return false;
}

static void need_filter(void)
{
	if (BUILD_ASAN) {
		print_message("no filter with the sanitizers, which make calls of their own\n");
		skip();
	}
}

/* Rule 9: every call that is not in the table ends the process. */
static void other_calls_end_it(void **state)
{
	(void)state;
	need_filter();
	for (unsigned kind = 0; kind < JAIL_THREAD__COUNT; kind++) {
		for (long nr = 0; nr < CALLS; nr++) {
			struct attempt a = { .kind = (enum jail_thread)kind, .nr = nr };

			if (nr == URETPROBE || nr == UPROBE || in_table(a.kind, nr)) {
				continue;
			}
			if (attempt(&a) != -SIGSYS) {
				fail_msg("%s: call %ld", jail_calls[kind].name, nr);
			}
		}
		const struct attempt x32 = { .kind = (enum jail_thread)kind, .nr = X32 + SYS_getpid };

		assert_int_equal(attempt(&x32), -SIGSYS);
	}
}

/* Rule 9, again by name: what a guest that took a thread over would do first. */
static void nobody_gets_out(void **state)
{
	static const long calls[] = {
		SYS_open, SYS_openat, SYS_openat2, SYS_creat, SYS_execve, SYS_execveat, SYS_fork,
		SYS_vfork, SYS_clone, SYS_clone3, SYS_socket, SYS_connect, SYS_bind, SYS_ptrace,
		SYS_process_vm_writev, SYS_kill, SYS_tkill, SYS_unshare, SYS_setns, SYS_mount,
		SYS_memfd_create, SYS_shmat, SYS_pkey_mprotect, SYS_prctl, SYS_seccomp, SYS_bpf,
		SYS_userfaultfd, SYS_io_uring_setup, SYS_io_uring_register, SYS_prlimit64,
		SYS_setresuid, SYS_pidfd_getfd, SYS_name_to_handle_at, SYS_open_by_handle_at,
		SYS_personality, SYS_arch_prctl, SYS_keyctl, SYS_add_key, SYS_perf_event_open,
	};

	(void)state;
	for (unsigned kind = 0; kind < JAIL_THREAD__COUNT; kind++) {
		for (size_t i = 0; i < ARRAY_LEN(calls); i++) {
			assert_false(in_table((enum jail_thread)kind, calls[i]));
		}
	}
	for (size_t d = 0; d < vdev_table_len; d++) {
		for (size_t i = 0; i < vdev_table[d]->sandbox->n_syscalls; i++) {
			for (size_t j = 0; j < ARRAY_LEN(calls); j++) {
				assert_true(vdev_table[d]->sandbox->syscalls[i] != calls[j]);
			}
		}
	}
	need_filter();
	for (unsigned kind = 0; kind < JAIL_THREAD__COUNT; kind++) {
		const struct attempt a = { .kind = (enum jail_thread)kind, .nr = SYS_openat,
					   .in_thread = true };

		assert_int_equal(attempt(&a), -SIGSYS); /* not the thread alone */
	}
}

/* Of calls that are in the table, arguments that are not. */
static void arguments(void **state)
{
	enum { MAP = MAP_PRIVATE | MAP_ANONYMOUS, RW = PROT_READ | PROT_WRITE };
	static const struct {
		struct attempt a;
		bool           lives;
	} cases[] = {
		{ { JAIL_LOOP, SYS_ioctl, { -1, TUNSETOFFLOAD } }, true },
		{ { JAIL_LOOP, SYS_ioctl, { -1, KVM_IRQ_LINE } }, true },
		{ { JAIL_VCPU, SYS_ioctl, { -1, KVM_RUN } }, true },
		{ { JAIL_VCPU, SYS_ioctl, { -1, TUNSETOFFLOAD } }, false },
		{ { JAIL_WORKER, SYS_ioctl, { -1, KVM_RUN } }, false },
		/* Typing on the terminal of who started it. */
		{ { JAIL_LOOP, SYS_ioctl, { 0, TIOCSTI } }, false },
		{ { JAIL_VCPU, SYS_ioctl, { 0, TIOCSTI } }, false },
		{ { JAIL_LOOP, SYS_ioctl, { 0, TIOCLINUX } }, false },
		{ { JAIL_LOOP, SYS_ioctl, { 0, TCSETS } }, false },
		{ { JAIL_LOOP, SYS_ioctl, { 0, TIOCSCTTY } }, false },
		{ { JAIL_LOOP, SYS_ioctl, { 0, TUNSETIFF } }, false },
		{ { JAIL_LOOP, SYS_ioctl, { 0, TUNATTACHFILTER } }, false },
		{ { JAIL_LOOP, SYS_ioctl, { 0, FIONREAD } }, false },
		/* The kernel sees 32 bits of the request. */
		{ { JAIL_LOOP, SYS_ioctl, { 0, (1L << 32) | TIOCSTI } }, false },
		{ { JAIL_LOOP, SYS_mmap, { 0, 4096, RW, MAP, -1, 0 } }, true },
		{ { JAIL_LOOP, SYS_mmap, { 0, 4096, PROT_READ | PROT_EXEC, MAP, -1, 0 } }, false },
		{ { JAIL_VCPU, SYS_mmap, { 0, 4096, RW | PROT_EXEC, MAP, -1, 0 } }, false },
		{ { JAIL_WORKER, SYS_mmap, { 0, 4096, PROT_EXEC, MAP, -1, 0 } }, false },
		{ { JAIL_VCPU, SYS_mprotect, { 0, 4096, PROT_EXEC } }, false },
		{ { JAIL_LOOP, SYS_mprotect, { 0, 4096, PROT_READ } }, true },
	};

	(void)state;
	need_filter();
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		int how = attempt(&cases[i].a);

		if (how != (cases[i].lives ? LIVED : -SIGSYS)) {
			fail_msg("case %zu: %d", i, how);
		}
	}
}

/* The calls of 32-bit programs have other numbers. */
static void other_abi(void **state)
{
	siginfo_t si = { 0 };
	struct err e = ERR_INIT;

	(void)state;
	need_filter();
	pid_t pid = sys_fork();

	if (pid == 0) {
		long nr = 20; /* getpid */

		sys_reset_signals();
		if (jail_filter(JAIL_LOOP, NULL, 0, &e) == 0) {
			__asm__ volatile("int $0x80" : "+a"(nr) : : "memory");
		}
		_exit(LIVED);
	}
	assert_int_equal(sys_waitid(P_PID, (id_t)pid, &si, WEXITED), 0);
	assert_true(si.si_code == CLD_KILLED || si.si_code == CLD_DUMPED);
}

/* Run fn in a child; its status. */
static int in_child(int (*fn)(void))
{
	siginfo_t si = { 0 };
	pid_t pid = sys_fork();

	if (pid == 0) {
		_exit(fn());
	}
	assert_int_equal(sys_waitid(P_PID, (id_t)pid, &si, WEXITED), 0);
	return si.si_code == CLD_EXITED ? si.si_status : -si.si_status;
}

#define CHECK(cond) do { if (!(cond)) { \
	fprintf(stderr, "%s:%d: %s (errno %d)\n", __FILE__, __LINE__, #cond, errno); return 1; \
} } while (0)

/* Rule 8: the monitor opens nothing; rule 9, Landlock. */
static int sealed(void)
{
	struct err e = ERR_INIT;
	int dir = open("/", O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	CHECK(dir >= 0 && sys_prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0);
	CHECK(jail_seal(&e) == 0);
	CHECK(open("/proc/self/status", O_RDONLY) < 0 && errno == EACCES);
	CHECK(openat(dir, "proc/self/status", O_RDONLY) < 0 && errno == EACCES);
	CHECK(openat(dir, ".", O_RDONLY | O_DIRECTORY) < 0 && errno == EACCES);
	CHECK(open("/tmp/holm-test-jail", O_CREAT | O_WRONLY, 0600) < 0 && errno == EACCES);
	return LIVED;
}

static void no_files_behind_the_seal(void **state)
{
	(void)state;
	assert_int_equal(in_child(sealed), LIVED);
}

static int bounded(void)
{
	struct err e = ERR_INIT;
	int fd = sys_memfd_create("file", 0);

	CHECK(fd >= 0 && jail_files(8192, &e) == 0);
	CHECK(ftruncate(fd, 8192) == 0);
	CHECK(ftruncate(fd, 8193) < 0 && errno == EFBIG);
	CHECK(pwrite(fd, "x", 1, 8191) == 1);
	CHECK(pwrite(fd, "x", 1, 8192) < 0 && errno == EFBIG);
	CHECK(jail_files(1 << 20, &e) == 0);
	CHECK(ftruncate(fd, 8193) < 0 && errno == EFBIG);  /* it only goes down */
	return LIVED;
}

static void files_have_a_bound(void **state)
{
	(void)state;
	assert_int_equal(in_child(bounded), LIVED);
}

/* Rule 9: own uid, empty namespaces. This is the first process of them. */
static int inside(void *ud)
{
	struct sys_caps caps = { 0 };
	uid_t uid = *(uid_t *)ud, r, e, s;
	unsigned entries = 0;
	DIR *root;

	CHECK(getpid() == 1);
	CHECK(getresuid(&r, &e, &s) == 0 && r == uid && e == uid && s == uid);
	CHECK(getgroups(0, NULL) == 0 || uid != UID);
	CHECK(sys_capget(&caps) == 0);
	CHECK((caps.effective | caps.permitted | caps.inheritable) == 0);
	CHECK(prctl(PR_CAPBSET_READ, 21, 0, 0, 0) == 0);
	CHECK(prctl(PR_GET_DUMPABLE, 0, 0, 0, 0) == 0 && prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0) == 1);
	CHECK(setresuid(0, 0, 0) < 0 && setgroups(0, NULL) < 0);
	root = opendir("/");
	while (root && readdir(root)) {
		entries++;
	}
	CHECK(root && closedir(root) == 0 && entries == 2);
	CHECK(open("/x", O_CREAT | O_WRONLY, 0600) < 0 && errno == EROFS);
	CHECK(open("/proc/../../../etc/passwd", O_RDONLY) < 0 && errno == ENOENT);
	CHECK(sys_unshare(CLONE_NEWNS) < 0);
	for (size_t i = 0; i < jail_limits_len; i++) {
		struct rlimit l;

		CHECK(sys_prlimit(0, jail_limits[i].resource, NULL, &l) == 0);
		CHECK(l.rlim_max <= jail_limits[i].most && l.rlim_cur == l.rlim_max);
	}
	return LIVED;
}

static int confined(void)
{
	uid_t uid = geteuid() == 0 ? UID : geteuid();
	const struct jail_conf conf = { .confined = true, .uid = UID, .gid = UID };
	struct err e = ERR_INIT;
	int r = jail_run(&conf, inside, &uid, &e);

	if (r < 0) {
		fprintf(stderr, "%s\n", e.msg);
		return r == -EPERM || r == -ENOSPC ? 77 : 1;
	}
	/* What waited has no rights left either. */
	CHECK(prctl(PR_GET_DUMPABLE, 0, 0, 0, 0) == 0);
	return r;
}

static void nothing_is_in_its_namespaces(void **state)
{
	int r = in_child(confined);

	(void)state;
	if (r == 77) {
		print_message("no user namespaces here\n");
		skip();
	}
	assert_int_equal(r, LIVED);
}

static void tables(void **state)
{
	(void)state;
	for (unsigned i = 0; i < JAIL_THREAD__COUNT; i++) {
		assert_true(jail_calls[i].name && strlen(jail_calls[i].name) < 16);
		assert_true(jail_calls[i].n > 0);
	}
	for (size_t i = 0; i < jail_ioctls_len; i++) {
		assert_true(in_table(jail_ioctls[i].thread, SYS_ioctl));
		assert_int_equal(jail_ioctls[i].value & ~jail_ioctls[i].mask, 0);
	}
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(other_calls_end_it), cmocka_unit_test(nobody_gets_out),
		cmocka_unit_test(arguments), cmocka_unit_test(other_abi),
		cmocka_unit_test(no_files_behind_the_seal), cmocka_unit_test(files_have_a_bound),
		cmocka_unit_test(nothing_is_in_its_namespaces), cmocka_unit_test(tables),
	};

	return TEST_RUN(tests);
}
