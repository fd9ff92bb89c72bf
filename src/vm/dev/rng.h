/* SPDX-License-Identifier: Apache-2.0 */
/*
 * virtio-rng: entropy from the host. A guest gets so many bytes a second; who asks for more
 * waits for the next second, so that a busy guest does not make the host compute for it alone.
 *
 * Spec: virtio 1.2, 5.4 Entropy Device.
 */
#ifndef VM_DEV_RNG_H
#define VM_DEV_RNG_H

#include "vm/dev/vdev.h"

struct rng_conf {
	int      fd;               /* taken; /dev/urandom or the like: never at its end */
	uint64_t bytes_a_second;   /* 0: 1 MiB */
};

extern const struct vdev_desc vdev_rng;

#endif
