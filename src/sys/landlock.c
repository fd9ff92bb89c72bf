/* SPDX-License-Identifier: Apache-2.0 */
#include "sys/landlock.h"

#include <errno.h>
#include <sys/syscall.h>
#include <unistd.h>

int sys_landlock_abi(void)
{
	int f = sys__fault(SYS_CALL_landlock);

	return f ? f : (int)sys__retn(syscall(SYS_landlock_create_ruleset, NULL, 0,
					      LANDLOCK_CREATE_RULESET_VERSION));
}

uint64_t sys_landlock_fs_all(int abi)
{
	/* Rights in the order of the kernel's bits; how many each ABI knows. */
	static const unsigned known[] = { 0, 13, 14, 15, 15, 16 };

	if (abi <= 0) {
		return 0;
	}
	return BIT(known[MIN((size_t)abi, ARRAY_LEN(known) - 1)]) - 1;
}

int sys_landlock_create(uint64_t fs_access)
{
	struct landlock_ruleset_attr attr = { .handled_access_fs = fs_access };
	int f = sys__fault(SYS_CALL_landlock);

	/* The first member alone: what every ABI takes. */
	return f ? f : (int)sys__retn(syscall(SYS_landlock_create_ruleset, &attr,
					      sizeof(attr.handled_access_fs), 0));
}

int sys_landlock_allow(int rules_fd, int fd, uint64_t access)
{
	struct landlock_path_beneath_attr attr = { .allowed_access = access, .parent_fd = fd };
	int f = sys__fault(SYS_CALL_landlock);

	return f ? f : (int)sys__retn(syscall(SYS_landlock_add_rule, rules_fd,
					      LANDLOCK_RULE_PATH_BENEATH, &attr, 0));
}

int sys_landlock_enforce(int rules_fd)
{
	int f = sys__fault(SYS_CALL_landlock);

	return f ? f : (int)sys__retn(syscall(SYS_landlock_restrict_self, rules_fd, 0));
}
