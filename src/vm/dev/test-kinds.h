/* SPDX-License-Identifier: Apache-2.0 */
/* One rig of any kind of device, with a host's side that can be stirred, and a proof of life. */
#ifndef VM_DEV_TEST_KINDS_H
#define VM_DEV_TEST_KINDS_H

#include "vm/dev/test-rig.h"

/* From here to the end of the first RAM nothing is allocated: tests put there what they like. */
enum { KIND_FREE = 0x300000 };

struct kind_rig {
	struct rig r;
	size_t     kind;         /* index in vdev_table */
	int        host_in;      /* we write, the device reads; -1: there is none */
	int        host_out;     /* we read what the device writes; may be host_in; -1: none */
	int        listen_fd;    /* vsock: a duplicate of what the device's clients connect to; or -1 */
	bool       accept;       /* vsock: the guest's requests are answered with a socket */
	uint64_t   scratch;      /* 64 KiB of guest memory */
};

/* A device of that kind on a machine of its own; not started. */
void kind_init(struct kind_rig *k, size_t kind, bool uring);
void kind_fini(struct kind_rig *k);

/* Give the host's side something for the guest, so that each queue is taken from. */
void kind_stir(struct kind_rig *k);

/* vsock: a new client of the device's socket, which says nothing yet, becomes host_in. */
void kind_connect(struct kind_rig *k);

/* Throw away what came to the host. */
void kind_drain(struct kind_rig *k);

/* After rig_start(): does what the kind is for, and asserts that it is done. */
void kind_works(struct kind_rig *k);

/* Is this queue taken from when it has something and the host was stirred? */
bool kind_takes(const struct kind_rig *k, unsigned queue);

/* A test for each kind of device, by its name; what main() returns. */
int kinds_each(const char *group, void (*one_kind)(size_t kind));

#endif
