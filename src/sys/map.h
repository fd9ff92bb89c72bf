/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Mappings of memory. Conventions of sys/sys.h.
 */
#ifndef SYS_MAP_H
#define SYS_MAP_H

#include "sys/sys.h"

/* A new mapping at an address that the kernel picks. fd -1 with MAP_ANONYMOUS. */
int sys_mmap(size_t bytes, int prot, int flags, int fd, uint64_t offset, void **ret) must_check;
/* The same in the place of whatever is at an address. */
int sys_mmap_over(void *at, size_t bytes, int prot, int flags, int fd, uint64_t offset) must_check;
/* The same where nothing is yet: -EEXIST. */
int sys_mmap_free(void *at, size_t bytes, int prot, int flags) must_check;
/* The same memory of a shared mapping at a second address; its protection, too. */
int sys_mremap_again(void *at, size_t bytes, void **ret) must_check;
int sys_mprotect(void *at, size_t bytes, int prot) must_check;
int sys_munmap(void *at, size_t bytes) must_check;

/* MADV_*. */
int sys_madvise(void *at, size_t bytes, int advice) must_check;

#endif
