/* SPDX-License-Identifier: Apache-2.0 */
/* What the files of image/kernel.h share. */
#ifndef IMAGE_KERNEL_PRIVATE_H
#define IMAGE_KERNEL_PRIVATE_H

#include "base/err.h"
#include "base/str.h"

enum { KERNEL_NAME_MAX = 65 };   /* of a release, with its NUL: struct utsname's */

/* Begins the name of what is being made or removed in the folder of kernels. */
#define KERNEL__NEW ".new-"

/* Names in the folder that `keep` likes, sorted. */
int  kernel__names(int dir_fd, bool (*keep)(const char *name), struct strv *ret,
		   struct err *e) must_check;
bool kernel__name_valid(const char *name);

/*
 * Read a package or kernel and write what a machine needs. Runs in the confined child.
 *
 * @in_fd       read from its start, twice
 * @kernel_fd, @modules_fd   empty files
 * @ret_name    the kernel's release, name_valid()
 */
int kernel_read(int in_fd, int kernel_fd, int modules_fd, char ret_name[KERNEL_NAME_MAX],
		struct err *e) must_check;

#endif
