/* SPDX-License-Identifier: Apache-2.0 */
/* Threat model, rule 5: what is written to /proc goes to a procfs. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/fd.h"
#include "base/str.h"
#include "sys/file.h"
#include "sys/mount.h"
#include "sys/proc.h"
#include "sys/procfs.h"

static void reads_and_writes(void **state)
{
	(void)state;
	auto_close int fd = procfs_open(0);
	auto_buf struct buf b = BUF_INIT;

	assert_true(fd >= 0);
	assert_int_equal(procfs_write(fd, "self/comm", "renamed", 7), 0);
	assert_int_equal(procfs_read(fd, "self/comm", 64, &b), 0);
	assert_string_equal(buf_str(&b), "renamed\n");
	assert_int_equal(procfs_read(fd, "self/nosuch", 64, &b), -ENOENT);
	assert_int_equal(procfs_openat(fd, "../etc/passwd", O_RDONLY), -EXDEV);
	assert_int_equal(procfs_openat(fd, "/etc/passwd", O_RDONLY), -EXDEV);
	assert_int_equal(procfs_openat(fd, "self/root/etc/passwd", O_RDONLY), -ELOOP);
	assert_int_equal(procfs_openat(fd, "self/exe", O_RDONLY), -ELOOP);
}

static void reopens(void **state)
{
	(void)state;
	auto_close int proc_fd = procfs_open(PROCFS_PID_ONLY);
	auto_close int path_fd = open("/etc/passwd", O_PATH | O_CLOEXEC);
	auto_close int fd = procfs_reopen(proc_fd, path_fd, O_RDONLY);
	struct stat a, b;

	assert_true(fd >= 0);
	assert_int_equal(fstat(path_fd, &a), 0);
	assert_int_equal(fstat(fd, &b), 0);
	assert_int_equal(a.st_ino, b.st_ino);
	assert_int_equal(procfs_reopen(proc_fd, 9999, O_RDONLY), -ENOENT);
}

static void fakes_are_refused(void **state)
{
	(void)state;
	auto_close int tmp = open("/tmp", O_PATH | O_DIRECTORY | O_CLOEXEC);
	auto_close int etc = open("/", O_PATH | O_DIRECTORY | O_CLOEXEC);

	assert_int_equal(procfs_verify(tmp), -EXDEV);
	assert_int_equal(procfs_openat(etc, "etc/passwd", O_RDONLY), -EXDEV);
}

/* In a mount namespace of its own: files and a tmpfs over /proc, as a container might. */
static void overmounted(void **state)
{
	(void)state;
	if (geteuid() != 0) {
		(void)printf("skipped: mounting needs root\n");
		skip();
	}
	pid_t pid = fork();

	if (pid == 0) {
		if (unshare(CLONE_NEWNS) < 0 || mount("", "/", "", MS_SLAVE | MS_REC, NULL) < 0) {
			_exit(10);
		}
		auto_close int host = open("/proc", O_PATH | O_DIRECTORY | O_CLOEXEC);

		/* A regular file over one of procfs's: the handle on /proc itself sees it ... */
		if (mount("/etc/passwd", "/proc/self/comm", NULL, MS_BIND, NULL) < 0 ||
		    procfs_openat(host, "self/comm", O_RDONLY) != -EXDEV) {
			_exit(11);
		}
		/* ... one of its own files over another, too (CVE-2019-16884) ... */
		if (mount("/proc/self/environ", "/proc/self/attr", NULL, MS_BIND, NULL) == 0 ||
		    mount("/proc/self/environ", "/proc/self/limits", NULL, MS_BIND, NULL) < 0 ||
		    procfs_openat(host, "self/limits", O_RDONLY) != -EXDEV) {
			_exit(16);
		}
		/* ... as does the walk, and our own does not. */
		sys_fault_arm(SYS_CALL_openat2, 1, 0, ENOSYS);
		if (procfs_openat(host, "self/comm", O_RDONLY) != -EXDEV ||
		    procfs_openat(host, "self/limits", O_RDONLY) != -EXDEV) {
			_exit(12);
		}
		sys_fault_clear();
		auto_close int own = procfs_open(0);

		if (own < 0 || procfs_write(own, "self/comm", "x", 1) != 0) {
			_exit(13);
		}
		/* All of /proc is a tmpfs, and we may not mount: no handle at all. */
		if (mount("tmpfs", "/proc", "tmpfs", 0, NULL) < 0) {
			_exit(14);
		}
		sys_fault_arm(SYS_CALL_fsopen, 1, 0, EPERM);
		_exit(procfs_open(0) == -EXDEV ? 0 : 15);
	}
	int status = 0;

	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(WEXITSTATUS(status), 0);
	assert_true(WIFEXITED(status));
}

static void falls_back(void **state)
{
	(void)state;
	sys_fault_arm(SYS_CALL_fsopen, 1, 0, EPERM);
	sys_fault_arm(SYS_CALL_open_tree, 1, 0, EPERM);
	auto_close int fd = procfs_open(0);

	sys_fault_clear();
	assert_true(fd >= 0);
	assert_int_equal(procfs_verify(fd), 0);

	sys_fault_arm(SYS_CALL_openat2, 1, 0, ENOSYS);
	auto_close int status_fd = procfs_openat(fd, "self/status", O_RDONLY);

	assert_true(status_fd >= 0);
	assert_int_equal(procfs_openat(fd, "self/exe", O_RDONLY), -ELOOP);
	sys_fault_clear();
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(reads_and_writes), cmocka_unit_test(reopens),
		cmocka_unit_test(fakes_are_refused), cmocka_unit_test(overmounted),
		cmocka_unit_test(falls_back),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
