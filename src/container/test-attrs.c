/* SPDX-License-Identifier: Apache-2.0 */
#include "container/attrs.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/personality.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/fd.h"
#include "base/log.h"
#include "base/str.h"
#include "sys/cred.h"
#include "sys/procfs.h"

static struct err e;

/* What a child returns; its own checks count from 1. */
static int in_child(int (*fn)(void))
{
	int status = 0;
	pid_t pid = fork();

	if (pid == 0) {
		_exit(fn());
	}
	assert_true(pid > 0 && waitpid(pid, &status, 0) == pid);
	assert_true(WIFEXITED(status));
	return WEXITSTATUS(status);
}

static void need_root(void)
{
	if (geteuid() != 0) {
		print_message("needs root\n");
		skip();
	}
}

static void test_check(void **state)
{
	uint64_t gids[] = { 4, UINT32_MAX };
	struct oci_rlimit limits[] = { { "RLIMIT_NOFILE", 10, 5 }, { "RLIMIT_NOFILE", 10, 5 } };
	struct oci_scheduler sched = { .policy = "SCHED_BATCH", .nice = 5 };
	struct oci_io_priority io = { .class_name = "IOPRIO_CLASS_BE", .priority = 7 };
	struct oci_cpu_affinity aff = { .initial = "0-3,7", .final = "1" };
	struct oci_process p = { .scheduler = &sched, .io_priority = &io, .exec_cpu_affinity = &aff };

	(void)state;
	assert_int_equal(attrs_check(&p, &e), 0);
#define BAD(where) do { assert_int_equal(attrs_check(&p, &e), -EINVAL); \
			assert_string_equal(e.field, where); } while (0)
	/* Rule 10: no uid that the kernel or a cast makes another one of. */
	p.user.uid = UINT32_MAX;
	BAD("/process/user/uid");
	p.user.uid = UINT64_C(1) << 32;
	BAD("/process/user/uid");
	p.user.uid = UINT32_MAX - 1;
	p.user.gid = UINT32_MAX;
	BAD("/process/user/gid");
	p.user.gid = 1;
	p.user.additional_gids = (struct juintv){ gids, 2 };
	BAD("/process/user/additionalGids");
	p.user.additional_gids.n = 1;
	p.user.has_umask = true;
	p.user.umask = 01000;
	BAD("/process/user/umask");
	p.user.umask = 077;
	p.rlimits = (struct jvec){ limits, 2 };
	BAD("/process/rlimits");
	p.rlimits.n = 1;
	limits[0].type = "RLIMIT_FILES";
	BAD("/process/rlimits");
	limits[0] = (struct oci_rlimit){ "RLIMIT_CORE", 5, 6 };
	BAD("/process/rlimits");
	p.rlimits.n = 0;
	p.has_oom_score_adj = true;
	p.oom_score_adj = -1001;
	BAD("/process/oomScoreAdj");
	p.oom_score_adj = 1000;
	aff.final = "1,,2";
	BAD("/process/execCPUAffinity");
	aff.final = "3-1";
	BAD("/process/execCPUAffinity");
	aff.final = "8192";
	BAD("/process/execCPUAffinity");
	aff.final = "";
	sched.policy = "SCHED_FAIR";
	BAD("/process/scheduler/policy");
	sched.policy = "SCHED_OTHER";
	sched.nice = 20;
	BAD("/process/scheduler/nice");
	sched.nice = 0;
	io.class_name = "IOPRIO_CLASS_XX";
	BAD("/process/ioPriority/class");
	io.class_name = "IOPRIO_CLASS_RT";
	io.priority = 8;
	BAD("/process/ioPriority/priority");
	io.priority = 0;
	assert_int_equal(attrs_check(&p, &e), 0);
#undef BAD
}

static int child_rlimits(void)
{
	struct oci_rlimit l[] = { { "RLIMIT_NOFILE", 100, 50 }, { "RLIMIT_CORE", 0, 0 } };
	struct jvec v = { l, 2 };
	struct rlimit got;

	if (attrs_set_rlimits(0, &v, &e) < 0 || getrlimit(RLIMIT_NOFILE, &got) < 0) {
		return 1;
	}
	if (got.rlim_cur != 50 || got.rlim_max != 100 || getrlimit(RLIMIT_CORE, &got) < 0 ||
	    got.rlim_max != 0) {
		return 2;
	}
	/* Raised without the right: a clear error that names what is possible. */
	l[0] = (struct oci_rlimit){ "RLIMIT_NOFILE", 200, 200 };
	v.n = 1;
	sys_fault_arm(SYS_CALL_prlimit, 1, 1, EPERM);
	if (attrs_set_rlimits(0, &v, &e) != -EPERM || !strstr(e.msg, "from 100 to 200") ||
	    !strstr(e.msg, "CAP_SYS_RESOURCE")) {
		return 3;
	}
	return 0;
}

static void test_rlimits(void **state)
{
	(void)state;
	assert_int_equal(in_child(child_rlimits), 0);
}

static int child_oom(void)
{
	auto_close int proc = procfs_open(PROCFS_PID_ONLY);
	auto_buf struct buf b = BUF_INIT;

	if (attrs_set_oom_score_adj(proc, 0, 777, false, &e) < 0 ||
	    procfs_read(proc, "self/oom_score_adj", 64, &b) < 0 || !str_eq(buf_str(&b), "777\n")) {
		return 1;
	}
	/* Lowering: an error, but for the rootless. */
	sys_fault_arm(SYS_CALL_write, 1, 1, EACCES);
	if (attrs_set_oom_score_adj(proc, 0, -5, false, &e) != -EACCES) {
		return 2;
	}
	sys_fault_arm(SYS_CALL_write, 1, 1, EACCES);
	return attrs_set_oom_score_adj(proc, getpid(), -5, true, &e) == 0 ? 0 : 3;
}

static void test_oom(void **state)
{
	(void)state;
	assert_int_equal(in_child(child_oom), 0);
}

static int child_sched(void)
{
	struct oci_scheduler s = { .policy = "SCHED_BATCH", .nice = 7 };
	struct oci_io_priority io = { .class_name = "IOPRIO_CLASS_IDLE" };
	struct oci_personality p = { .domain = "LINUX32" };

	if (attrs_set_affinity(0, "0", &e) < 0 || attrs_set_scheduler(&s, &e) < 0 ||
	    attrs_set_io_priority(&io, &e) < 0 || attrs_set_personality(&p, &e) < 0) {
		fprintf(stderr, "%s\n", e.msg);
		return 1;
	}
	cpu_set_t set;

	CPU_ZERO(&set);
	if (sched_getaffinity(0, sizeof(set), &set) < 0 || CPU_COUNT(&set) != 1 || !CPU_ISSET(0, &set)) {
		return 2;
	}
	if (sched_getscheduler(0) != SCHED_BATCH || getpriority(PRIO_PROCESS, 0) != 7) {
		return 3;
	}
	if (syscall(SYS_ioprio_get, 1, 0) >> 13 != 3 || personality(0xffffffff) != PER_LINUX32) {
		return 4;
	}
	p.domain = "BSD";
	return attrs_set_personality(&p, &e) == -EINVAL && attrs_set_scheduler(NULL, &e) == 0 &&
	       attrs_set_io_priority(NULL, &e) == 0 && attrs_set_personality(NULL, &e) == 0 &&
	       attrs_set_affinity(0, NULL, &e) == 0 ? 0 : 5;
}

static void test_sched(void **state)
{
	(void)state;
	assert_int_equal(in_child(child_sched), 0);
}

static int child_keyring(void)
{
	long before = syscall(SYS_keyctl, 0, -3, 0); /* the session keyring's id */

	if (attrs_join_keyring("test-attrs-1", &e) < 0) {
		return 1;
	}
	if (before < 0 && errno == ENOSYS) {
		return 0;
	}
	return syscall(SYS_keyctl, 0, -3, 0) != before ? 0 : 2;
}

static void test_keyring(void **state)
{
	(void)state;
	assert_int_equal(in_child(child_keyring), 0);
}

static int child_become(void)
{
	uint64_t extra[] = { 7, 3000000000u };
	struct oci_user u = { .uid = 2147483648u, .gid = 4294967294u, .has_umask = true, .umask = 027,
			      .additional_gids = { extra, 2 } };
	struct caps c = { .bounding = BIT(0) | BIT(1), .permitted = BIT(0), .effective = BIT(0) };
	struct sys_caps now;
	gid_t groups[8];
	uid_t r = 0, ef = 0, s = 0;

	if (attrs_become(&u, &c, true, &e) < 0) {
		fprintf(stderr, "%s\n", e.msg);
		return 1;
	}
	if (getresuid(&r, &ef, &s) < 0 || r != 2147483648u || ef != r || s != r ||
	    getegid() != 4294967294u) {
		return 2;
	}
	/* The primary group is among the supplementary ones (CVE-2022-36109). */
	if (getgroups(8, groups) != 3 || groups[0] != 7 || groups[1] != 3000000000u ||
	    groups[2] != 4294967294u) {
		return 3;
	}
	if (sys_capget(&now) < 0 || now.permitted != BIT(0) || now.effective != BIT(0) ||
	    now.inheritable != 0 || prctl(PR_GET_KEEPCAPS) != 0 || umask(0) != 027) {
		return 4;
	}
	return 0;
}

static int child_become_denied(void)
{
	uint64_t extra[] = { 7 };
	struct oci_user u = { .uid = 1, .gid = 1, .additional_gids = { extra, 1 } };
	struct caps c = { 0 };

	if (attrs_become(&u, &c, false, &e) != -EINVAL || getuid() != 0) {
		return 1;
	}
	u.additional_gids.n = 0;
	return attrs_become(&u, &c, false, &e) == 0 && getuid() == 1 && umask(0) == 022 ? 0 : 2;
}

/* Each step that fails makes the whole fail; none is skipped. */
static int child_become_faults(void)
{
	static const enum sys_call calls[] = { SYS_CALL_prctl, SYS_CALL_setgroups,
					       SYS_CALL_setresgid, SYS_CALL_setresuid,
					       SYS_CALL_capset };

	for (size_t i = 0; i < ARRAY_LEN(calls); i++) {
		struct oci_user u = { .uid = 0, .gid = 0 };
		struct caps c = { .bounding = UINT64_MAX, .permitted = BIT(0) | BIT(6) | BIT(7) | BIT(8) };

		c.effective = c.permitted;
		sys_fault_arm(calls[i], 1, 1, EPERM);
		if (attrs_become(&u, &c, true, &e) != -EPERM || sys_fault_hits() != 1) {
			return (int)i + 1;
		}
		sys_fault_clear();
	}
	return 0;
}

static void test_become(void **state)
{
	(void)state;
	need_root();
	assert_int_equal(in_child(child_become), 0);
	assert_int_equal(in_child(child_become_denied), 0);
	assert_int_equal(in_child(child_become_faults), 0);
}

/* Labels go through the procfs that was handed in, and are refused where there is no LSM;
 * a folder that is no procfs is no place for them (CVE-2019-19921). */
static void test_labels(void **state)
{
	auto_close int proc = procfs_open(PROCFS_PID_ONLY);
	char fake[] = "/tmp/holm-attrs-XXXXXX", path[80];
	auto_close int fake_fd = -1, file = -1;

	(void)state;
	assert_int_equal(attrs_set_labels(proc, NULL, "", &e), 0);
	assert_int_equal(attrs_set_labels(proc, "", NULL, &e), 0);
	assert_non_null(mkdtemp(fake));
	snprintf(path, sizeof(path), "%s/thread-self", fake);
	assert_int_equal(mkdir(path, 0755), 0);
	snprintf(path, sizeof(path), "%s/thread-self/attr", fake);
	assert_int_equal(mkdir(path, 0755), 0);
	snprintf(path, sizeof(path), "%s/thread-self/attr/exec", fake);
	file = open(path, O_CREAT | O_RDWR | O_CLOEXEC, 0644);
	assert_true(file >= 0);
	fake_fd = open(fake, O_PATH | O_DIRECTORY | O_CLOEXEC);
	assert_int_equal(attrs_set_labels(fake_fd, NULL, "u:r:t:s0", &e), -EXDEV);
	struct stat st;

	assert_int_equal(fstat(file, &st), 0);
	assert_int_equal(st.st_size, 0);
	unlink(path);
	snprintf(path, sizeof(path), "%s/thread-self/attr", fake);
	rmdir(path);
	snprintf(path, sizeof(path), "%s/thread-self", fake);
	rmdir(path);
	rmdir(fake);
}

static int child_nnp(void)
{
	return attrs_set_no_new_privs(&e) == 0 && prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0) == 1 ? 0 : 1;
}

static void test_no_new_privs(void **state)
{
	(void)state;
	assert_int_equal(in_child(child_nnp), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_check),
		cmocka_unit_test(test_rlimits),
		cmocka_unit_test(test_oom),
		cmocka_unit_test(test_sched),
		cmocka_unit_test(test_keyring),
		cmocka_unit_test(test_become),
		cmocka_unit_test(test_labels),
		cmocka_unit_test(test_no_new_privs),
	};

	log_setup("test", 2, LOG_FORMAT_PLAIN, LOG_LEVEL_ERROR);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
