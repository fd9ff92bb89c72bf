/* SPDX-License-Identifier: Apache-2.0 */
#include "sys/machine.h"

#include <linux/reboot.h>
#include <sys/syscall.h>
#include <unistd.h>

int sys_finit_module(int fd, const char *params)
{
	int r = sys__fault(SYS_CALL_finit_module);

	return r ? r : sys__ret((int)syscall(SYS_finit_module, fd, params, 0));
}

int sys_reboot(int how)
{
	int r = sys__fault(SYS_CALL_reboot);

	return r ? r : sys__ret((int)syscall(SYS_reboot, LINUX_REBOOT_MAGIC1, LINUX_REBOOT_MAGIC2,
					     how, NULL));
}

int sys_clock_settime(clockid_t clock, const struct timespec *t)
{
	int r = sys__fault(SYS_CALL_clock_settime);

	return r ? r : sys__ret(clock_settime(clock, t));
}
