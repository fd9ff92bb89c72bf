/* SPDX-License-Identifier: Apache-2.0 */
#include "base/fd.h"

#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/wait.h>

#include <cmocka.h>

static void test_owning(void **state)
{
	int fd = open("/dev/null", O_RDONLY | O_CLOEXEC), other = -1;

	(void)state;
	assert_true(fd >= 0);
	other = take_fd(&fd);
	assert_int_equal(fd, -1);
	assert_int_equal(strncmp(fd_path(other).text, "/proc/self/fd/", 14), 0);
	fd_close(&other);
	assert_int_equal(other, -1);
	fd_close(&other); /* nothing */
}

static bool is_null(int fd)
{
	struct stat st;

	return fstat(fd, &st) == 0 && S_ISCHR(st.st_mode) && st.st_rdev == makedev(1, 3) &&
	       fcntl(fd, F_GETFD) == 0;
}

/* Whichever of the three is closed, and all of them; what is open stays. */
static void test_fill_stdio(void **state)
{
	(void)state;
	for (int closed = 0; closed < 8; closed++) {
		int status = 0;
		pid_t pid = fork();

		if (pid == 0) {
			int n = 0, zero = open("/dev/zero", O_RDONLY | O_CLOEXEC);

			for (int fd = 0; fd < 3; fd++) {
				dup2(zero, fd);
			}
			for (int fd = 0; fd < 3; fd++) {
				if (closed & 1 << fd) {
					close(fd);
				}
			}
			if (fd_fill_stdio() < 0) {
				_exit(100);
			}
			for (int fd = 0; fd < 3; fd++) {
				n |= is_null(fd) ? 1 << fd : 0;
			}
			_exit(n);
		}
		assert_int_equal(waitpid(pid, &status, 0), pid);
		assert_int_equal(WEXITSTATUS(status), closed);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_owning),
		cmocka_unit_test(test_fill_stdio),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
