/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Groups made by systemd: a transient scope a container.
 */
#include <errno.h>

#include "container/cgroup-priv.h"

static int systemd_open(struct cgroup *cg unused_arg, const struct cgroup_conf *conf unused_arg,
			struct err *e)
{
	return err_set(e, EOPNOTSUPP, ERR_UNSUPPORTED, "the systemd cgroup manager is not done yet");
}

const struct cgroup_manager cgroup_systemd = { .name = "systemd", .open = systemd_open };
