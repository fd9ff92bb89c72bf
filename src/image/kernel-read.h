/* SPDX-License-Identifier: Apache-2.0 */
/* The part of image/kernel.h that reads; runs in the confined child, and in its fuzz target. */
#ifndef IMAGE_KERNEL_READ_H
#define IMAGE_KERNEL_READ_H

#include "base/err.h"

enum { KERNEL_NAME_MAX = 65 };   /* of a release, with its NUL: struct utsname's */

/*
 * Read a package or kernel and write what a machine needs.
 *
 * @in_fd       read from its start, twice
 * @kernel_fd, @modules_fd   empty files
 * @ret_name    the kernel's release, name_valid()
 */
int kernel_read(int in_fd, int kernel_fd, int modules_fd, char ret_name[KERNEL_NAME_MAX],
		struct err *e) must_check;

#endif
