/* SPDX-License-Identifier: Apache-2.0 */
#include "container/pty.h"

#include <errno.h>
#include <linux/magic.h>
#include <sys/ioctl.h>
#include <sys/sysmacros.h>
#include <sys/vfs.h>

#include "base/fd.h"
#include "sys/file.h"
#include "sys/path.h"

#ifndef TIOCGPTPEER
#define TIOCGPTPEER 0x5441
#endif

/* The multiplexer of a devpts: the inode says so, not the name. */
static int check_ptmx(int fd, struct err *e)
{
	struct statfs fs;
	struct stat st;
	int r = sys_fstat(fd, &st);

	if (r < 0 || fstatfs(fd, &fs) < 0) {
		return err_set(e, r < 0 ? -r : errno, ERR_HOST, "terminal multiplexer");
	}
	if (fs.f_type != DEVPTS_SUPER_MAGIC || !S_ISCHR(st.st_mode) ||
	    st.st_rdev != makedev(5, 2)) {
		return err_set(e, ENODEV, ERR_INVALID,
			       "/dev/pts/ptmx is not a terminal multiplexer: a terminal needs a "
			       "mount of type devpts at /dev/pts");
	}
	return 0;
}

static int open_peer(int master, int *ret_peer)
{
	int unlock = 0;
	int r = sys_ioctl(master, TIOCSPTLCK, &unlock);

	if (r < 0) {
		return r;
	}
	r = sys_ioctl(master, TIOCGPTPEER, (void *)(uintptr_t)(O_RDWR | O_NOCTTY | O_CLOEXEC));
	if (r >= 0) {
		*ret_peer = r;
	}
	return r;
}

static int open_in(int root_fd, const char *path, unsigned flags, int *ret_master, int *ret_peer,
		   struct err *e)
{
	/* Looked at before it is opened: opening a device can have effects. */
	auto_close int look = path_open(root_fd, path, flags);

	if (look < 0) {
		return err_set(e, -look, ERR_INVALID,
			       "no /dev/pts/ptmx: a terminal needs a mount of type devpts at "
			       "/dev/pts");
	}
	int r = check_ptmx(look, e);

	if (r < 0) {
		return r;
	}
	auto_close int master = path_openat(root_fd, path, O_RDWR | O_NOCTTY, flags);

	if (master < 0) {
		return err_set(e, -master, ERR_HOST, "open /dev/pts/ptmx");
	}
	r = check_ptmx(master, e);
	if (r < 0) {
		return r;
	}
	r = open_peer(master, ret_peer);
	if (r < 0) {
		return err_set(e, -r, ERR_HOST, "open the other end of a new terminal");
	}
	*ret_master = take_fd(&master);
	return 0;
}

int pty_open_in(int root_fd, int *ret_master, int *ret_peer, struct err *e)
{
	return open_in(root_fd, "/dev/pts/ptmx", 0, ret_master, ret_peer, e);
}

int pty_open(int devpts_fd, int *ret_master, int *ret_peer, struct err *e)
{
	return open_in(devpts_fd, "ptmx", PATH_NO_XDEV | PATH_NO_SYMLINKS, ret_master, ret_peer, e);
}
