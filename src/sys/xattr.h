/* SPDX-License-Identifier: Apache-2.0 */
/* Extended attributes. Conventions of sys/sys.h. */
#ifndef SYS_XATTR_H
#define SYS_XATTR_H

#include "sys/sys.h"

int     sys_fsetxattr(int fd, const char *name, const void *value, size_t n) must_check;
ssize_t sys_fgetxattr(int fd, const char *name, void *value, size_t n) must_check;

/* Names, each ended by a NUL, one behind the other; n = 0: how many bytes that is. */
ssize_t sys_flistxattr(int fd, char *names, size_t n) must_check;

#endif
