/* SPDX-License-Identifier: Apache-2.0 */
#include "base/test.h"

#include <errno.h>
#include <string.h>

#include "sys/file.h"

static void test_the_nth_call_fails_once(void **state)
{
	(void)state;
	struct stat st;

	sys_fault_arm(SYS_CALL_fstat, 2, 1, EIO);
	assert_int_equal(sys_fstat(0, &st), 0);
	assert_int_equal(sys_fstat(0, &st), -EIO);
	assert_int_equal(sys_fstat(0, &st), 0);
	assert_int_equal(sys_fault_hits(), 1);
	sys_fault_clear();
}

static void test_from_the_nth_call_on(void **state)
{
	(void)state;
	struct stat st;

	sys_fault_arm(SYS_CALL_fstat, 1, 0, ENOSPC);
	assert_int_equal(sys_fstat(0, &st), -ENOSPC);
	assert_int_equal(sys_fstat(0, &st), -ENOSPC);
	sys_fault_clear();
	assert_int_equal(sys_fstat(0, &st), 0);
}

static void test_any_call(void **state)
{
	(void)state;
	struct stat st;
	int fds[2];

	sys_fault_arm_any(2, EMFILE);
	assert_int_equal(sys_fstat(0, &st), 0);
	assert_int_equal(sys_pipe2(fds, 0), -EMFILE);
	sys_fault_clear();
}

static void test_faults_as_text(void **state)
{
	(void)state;
	struct stat st;

	assert_int_equal(sys_fault_parse("fstat:2:EIO,fsync:1+:ENOSPC"), 0);
	assert_int_equal(sys_fstat(0, &st), 0);
	assert_int_equal(sys_fstat(0, &st), -EIO);
	assert_int_equal(sys_fsync(0), -ENOSPC);
	sys_fault_clear();

	static const char *const bad[] = { "", "fstat", "fstat:0:EIO", "fly:1:EIO", "fstat:1:EFLY",
					   "fstat:x:EIO" };

	for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
		assert_int_equal(sys_fault_parse(bad[i]), -EINVAL);
	}
	sys_fault_clear();
}

static void test_names_are_those_of_the_calls(void **state)
{
	(void)state;
	assert_string_equal(sys_call_name(SYS_CALL_openat2), "openat2");
	for (int c = 0; c < SYS_CALL__COUNT; c++) {
		assert_non_null(sys_call_name((enum sys_call)c));
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_the_nth_call_fails_once),
		cmocka_unit_test(test_from_the_nth_call_on),
		cmocka_unit_test(test_any_call),
		cmocka_unit_test(test_faults_as_text),
		cmocka_unit_test(test_names_are_those_of_the_calls),
	};

	return TEST_RUN(tests);
}
