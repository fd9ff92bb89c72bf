/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What only process 1 of a machine does. Conventions of sys/sys.h.
 */
#ifndef SYS_MACHINE_H
#define SYS_MACHINE_H

#include <time.h>

#include "sys/sys.h"

/* -EEXIST: it is there already. */
int sys_finit_module(int fd, const char *params) must_check;
int sys_reboot(int how) must_check;              /* LINUX_REBOOT_CMD_* */
int sys_clock_settime(clockid_t clock, const struct timespec *t) must_check;

#endif
