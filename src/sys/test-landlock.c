/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <errno.h>
#include <sys/prctl.h>

#include "sys/file.h"
#include "sys/landlock.h"
#include "sys/proc.h"

/* 0 if all is as it should be, else the number of the step that was not. */
static int confined(void)
{
	uint64_t all = sys_landlock_fs_all(sys_landlock_abi());
	int usr = sys_openat(AT_FDCWD, "/usr", O_PATH, 0);
	int rules = sys_landlock_create(all);

	if (usr < 0 || rules < 0) {
		return 1;
	}
	if (sys_landlock_allow(rules, usr, LANDLOCK_ACCESS_FS_READ_DIR) < 0) {
		return 2;
	}
	if (sys_prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0 || sys_landlock_enforce(rules) < 0) {
		return 3;
	}
	if (sys_openat(AT_FDCWD, "/etc", O_RDONLY | O_DIRECTORY, 0) != -EACCES) {
		return 4;
	}
	return sys_openat(AT_FDCWD, "/usr", O_RDONLY | O_DIRECTORY, 0) < 0 ? 5 : 0;
}

static void takes_away(unused_arg void **state)
{
	siginfo_t si;
	int abi = sys_landlock_abi();

	if (abi < 0) {
		print_message("skipped: this kernel has no Landlock\n");
		skip();
	}

	pid_t pid = sys_fork();

	assert_true(pid >= 0);
	if (pid == 0) {
		_exit(confined());
	}
	assert_int_equal(sys_waitid(P_PID, (id_t)pid, &si, WEXITED), 0);
	assert_int_equal(proc_exit_status(&si), 0);
}

static void knows_abis(unused_arg void **state)
{
	assert_true(sys_landlock_fs_all(0) == 0);
	assert_true(sys_landlock_fs_all(1) == BIT(13) - 1);
	assert_true(sys_landlock_fs_all(3) & BIT(14)); /* truncate */
	assert_true(sys_landlock_fs_all(99) == sys_landlock_fs_all(5));
}

static void can_fail(unused_arg void **state)
{
	sys_fault_arm(SYS_CALL_landlock, 1, 1, ENOSYS);
	assert_int_equal(sys_landlock_abi(), -ENOSYS);
	sys_fault_clear();
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(takes_away), cmocka_unit_test(knows_abis),
		cmocka_unit_test(can_fail),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
