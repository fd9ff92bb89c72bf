/* SPDX-License-Identifier: Apache-2.0 */
#include "sys/xattr.h"

#include <sys/xattr.h>

int sys_fsetxattr(int fd, const char *name, const void *value, size_t n)
{
	int r = sys__fault(SYS_CALL_setxattr);

	return r ? r : sys__ret(fsetxattr(fd, name, value, n, 0));
}

ssize_t sys_fgetxattr(int fd, const char *name, void *value, size_t n)
{
	int r = sys__fault(SYS_CALL_getxattr);

	return r ? r : sys__retn(fgetxattr(fd, name, value, n));
}

ssize_t sys_flistxattr(int fd, char *names, size_t n)
{
	int r = sys__fault(SYS_CALL_getxattr);

	return r ? r : sys__retn(flistxattr(fd, names, n));
}
