/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Kernels for virtual machines: a folder of them, each whole or absent.
 *
 *	KERNELS/NAME/vmlinuz      as it was given: bzImage or ELF
 *	KERNELS/NAME/modules.img  a cpio archive (newc) with what holm-init loads: the modules
 *	                          that a machine needs, at /lib/modules, and the order of loading
 *	KERNELS/NAME/HASH.elf     vmlinuz, unpacked, from the first machine's start on
 *	KERNELS/default           symbolic link to the NAME that is used unless another is asked
 *	                          for: the one imported last
 *
 * A kernel comes as a Debian package (linux-image-*) or as a bare kernel, in which everything
 * must be built in. What is read is hostile: a confined child does it (image/worker.h).
 */
#ifndef IMAGE_KERNEL_H
#define IMAGE_KERNEL_H

#include "base/err.h"
#include "base/str.h"
#include "image/progress.h"

#define KERNEL_FILE    "vmlinuz"
#define KERNEL_MODULES "modules.img"
#define KERNEL_DEFAULT "default"

struct kernel_import {
	int         fd;        /* the package or kernel: a file, read from its start; borrowed */
	const char *name;      /* NULL: the kernel's own release */
};

/*
 * Import into the folder `dir_fd`; one of the same name is replaced. *ret_name is the caller's.
 * ERR_INVALID says what is wrong with the file, ERR_CONFLICT: another import is at work.
 */
int kernel_import(int dir_fd, const struct kernel_import *job, struct progress *p, char **ret_name,
		  struct err *e) must_check;

/* Names, sorted; *ret_default (caller's) is NULL if there is none. */
int kernel_list(int dir_fd, struct strv *ret, char **ret_default, struct err *e) must_check;

/* ERR_NOT_FOUND. What is running keeps its kernel. */
int kernel_remove(int dir_fd, const char *name, struct err *e) must_check;

#endif
