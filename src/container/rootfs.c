/* SPDX-License-Identifier: Apache-2.0 */
#include "container/rootfs.h"

#include <errno.h>

#include "base/mem.h"

struct rootfs {
	struct strv warnings;
};

int rootfs_prepare(const struct rootfs_conf *conf, struct rootfs **ret, struct err *e)
{
	(void)conf; /* nothing is done yet */
	(void)ret;
	return err_set(e, ENOSYS, ERR_UNSUPPORTED, "file systems of containers");
}

int rootfs_mount(struct rootfs *fs, struct err *e)
{
	(void)fs; /* as above */
	return err_set(e, ENOSYS, ERR_UNSUPPORTED, "file systems of containers");
}

int rootfs_enter(struct rootfs *fs, struct err *e)
{
	(void)fs; /* as above */
	return err_set(e, ENOSYS, ERR_UNSUPPORTED, "file systems of containers");
}

void rootfs_take_pty(struct rootfs *fs, int *ret_master, int *ret_peer)
{
	(void)fs; /* as above */
	*ret_master = -1;
	*ret_peer = -1;
}

const struct strv *rootfs_warnings(const struct rootfs *fs)
{
	return &fs->warnings;
}

struct rootfs *rootfs_free(struct rootfs *fs)
{
	if (fs) {
		strv_fini(&fs->warnings);
		free(fs);
	}
	return NULL;
}

const char *const *rootfs_mount_options(void)
{
	static const char *const none[] = { NULL };

	return none;
}
