/* SPDX-License-Identifier: Apache-2.0 */
/*
 * virtio-blk: a disk.
 *
 * Reads, writes, flush, discard, write zeroes, the disk's name. Flush is a flush of the file
 * (fdatasync); a driver that cannot flush, or that turned the write cache off, gets its writes
 * done once they are on the disk.
 *
 * Spec: virtio 1.2, 5.2 Block Device.
 */
#ifndef VM_DEV_BLK_H
#define VM_DEV_BLK_H

#include "vm/block/block.h"
#include "vm/dev/vdev.h"

enum { BLK_QUEUE = 0, BLK_QUEUE_MAX = 128, BLK_SERIAL_BYTES = 20, BLK_SECTOR = 512 };

struct blk_conf {
	struct block_conf disk;
	char              serial[BLK_SERIAL_BYTES + 1];   /* what the guest finds by-id; may be "" */
};

extern const struct vdev_desc vdev_blk;

/* --- For tests and the bench --- */
struct block *blk_disk(struct vdev *d);

#endif
