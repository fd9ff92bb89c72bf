/* SPDX-License-Identifier: Apache-2.0 */
/*
 * virtio-console: one port (hvc0), with two descriptors behind it: pipes, a socket, a terminal.
 *
 * Output is never thrown away while somebody may read it: if the descriptor takes no more, the
 * driver's buffers wait. When the reader is gone (EPIPE and the like) output goes nowhere.
 * Input is read as long as the driver has room for it.
 *
 * Spec: virtio 1.2, 5.3 Console Device.
 */
#ifndef VM_DEV_CONSOLE_H
#define VM_DEV_CONSOLE_H

#include "vm/dev/vdev.h"

enum { CONSOLE_RX = 0, CONSOLE_TX = 1 };

struct console_conf {
	int      in_fd, out_fd;    /* taken; not the same one; -1: no input, or nowhere */
	uint16_t cols, rows;       /* 0: not known */
	/* Sees the input first, and returns how much of it the guest gets; NULL: all. With the lock. */
	size_t (*filter)(void *ctx, uint8_t *data, size_t n);
	void    *filter_ctx;
};

extern const struct vdev_desc vdev_console;

/* The terminal has another size. Context: the loop's thread, without the lock. */
void console_resize(struct vdev *d, uint16_t cols, uint16_t rows);

#endif
