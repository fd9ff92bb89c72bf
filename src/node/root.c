/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The root of a running instance, by its first process. A number alone means nothing: the process
 * may have ended, and another have it now. What is looked at belongs to one process if a pidfd
 * that was opened before still has it afterwards; and it is the instance's if its shim is its
 * parent, who has not collected it then.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/fd.h"
#include "base/str.h"
#include "node/instance.h"
#include "sys/file.h"
#include "sys/proc.h"

/* From /proc/PID/stat: "PID (NAME) STATE PARENT ..."; the name may hold anything. */
static uint64_t parent_of(int proc_fd)
{
	auto_buf struct buf b = BUF_INIT;
	uint64_t parent = 0;

	if (sys_read_file(proc_fd, "stat", 4096, &b) < 0) {
		return 0;
	}
	char *at = strrchr(b.data, ')');

	if (!at || strlen(at) < 5) {
		return 0;
	}
	at += 4;
	at[strspn(at, "0123456789")] = '\0';
	return parse_u64(at, INT32_MAX, &parent) < 0 ? 0 : parent;
}

int instance_open_root(const struct instance *i, struct err *e)
{
	char path[48];

	snprintf(path, sizeof(path), "/proc/%llu", (unsigned long long)i->status.pid);
	auto_close int pidfd = i->status.pid ? sys_pidfd_open((pid_t)i->status.pid, 0) : -ESRCH;
	auto_close int proc = sys_openat(AT_FDCWD, path, O_PATH | O_DIRECTORY, 0);
	auto_close int root = proc < 0 ? proc : sys_openat(proc, "root", O_PATH | O_DIRECTORY, 0);

	if (pidfd < 0 || root < 0 || i->status.shim_pid == 0 ||
	    parent_of(proc) != i->status.shim_pid || sys_pidfd_send_signal(pidfd, 0) < 0) {
		return err_set(e, ESRCH, ERR_CONFLICT, "instance %s has just ended", i->name);
	}
	return take_fd(&root);
}
