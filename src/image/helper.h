/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Running programs that are not ours: credential helpers, mmdebstrap. They are found along
 * the absolute parts of the caller's PATH, get only the listed variables of the
 * environment, "/" as their folder and no descriptor but the three standard ones.
 */
#ifndef IMAGE_HELPER_H
#define IMAGE_HELPER_H

#include <sys/types.h>

#include "base/err.h"
#include "base/str.h"

/*
 * Run docker-credential-NAME with one action, `in` on its standard input; its standard
 * output (at most 64 KiB) is appended to *ret. -ENOENT where it says that it does not have
 * the credentials.
 */
int helper_run(const char *name, const char *action, const void *in, size_t in_bytes,
	       struct buf *ret, struct err *e) must_check;

/*
 * Start a program: argv[0] is its name. Descriptors are borrowed; -1 stands for /dev/null.
 * `env` is NULL or NULL-terminated "NAME=value" beside the variables passed on.
 */
int helper_start(const char *const argv[], const char *const env[], int in_fd, int out_fd,
		 int err_fd, pid_t *ret_pid, struct err *e) must_check;

/* Wait for the end; the exit status as a shell shows it, or -errno. */
int helper_wait(pid_t pid) must_check;

#endif
