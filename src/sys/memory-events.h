/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Did the kernel kill something in a process's control group for lack of memory? The group is
 * asked for while the process lives, the answer when it is gone.
 */
#ifndef SYS_MEMORY_EVENTS_H
#define SYS_MEMORY_EVENTS_H

#include <stdbool.h>
#include <sys/types.h>

#include "sys/sys.h"

/* A descriptor for the memory events of the process's group, v1 or v2; -1: there are none. */
int memory_events_open(pid_t pid) must_check;

/* Borrowed; -1: never. */
bool memory_events_oom(int fd);

#endif
