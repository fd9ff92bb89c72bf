/* SPDX-License-Identifier: Apache-2.0 */
#include "vm/dev/blk.h"
#include "vm/dev/console.h"
#include "vm/dev/net.h"
#include "vm/dev/rng.h"
#include "vm/dev/vdev.h"
#include "vm/dev/vsock.h"

const struct vdev_desc *const vdev_table[] = {
	&vdev_blk,
	&vdev_console,
	&vdev_net,
	&vdev_rng,
	&vdev_vsock,
};

const size_t vdev_table_len = ARRAY_LEN(vdev_table);
