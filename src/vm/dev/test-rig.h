/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The driver's side of a device, for tests: a machine of guest memory, a loop and a record of
 * interrupts, one device in it behind its PCI registers, and rings filled by hand.
 *
 *	struct rig r;
 *
 *	rig_init(&r, &vdev_rng, &conf);
 *	rig_start(&r, 0);                            // all features, all queues, DRIVER_OK
 *	gpa = rig_alloc(&r, 64);
 *	rig_add(&r, 0, &(struct rig_buf){ gpa, 64, true }, 1);
 *	rig_kick(&r, 0);
 *	len = rig_take(&r, 0);                       // runs the loop until it is there
 *	rig_fini(&r);
 */
#ifndef VM_DEV_TEST_RIG_H
#define VM_DEV_TEST_RIG_H

#include <linux/virtio_config.h>
#include <linux/virtio_pci.h>
#include <linux/virtio_ring.h>

#include "vm/dev/virtio-pci.h"

enum {
	RIG_RAM_BYTES  = 8 << 20,
	RIG_HIGH_BYTES = 1 << 20,
	RIG_TURNS      = 10000,
};

/* A second piece of RAM, with nothing between it and the first. */
#define RIG_HIGH UINT64_C(0x100000000)

struct rig_buf {
	uint64_t gpa;
	uint32_t len;
	bool     in;      /* the device writes */
};

struct rig_queue {
	uint16_t size;
	uint64_t desc, avail, used;
	uint16_t next_desc;     /* taken in a circle: tests know what is out */
	uint16_t avail_idx;
	uint16_t used_idx;
};

struct rig {
	struct gmem        mem;
	struct loop       *loop;
	struct machine     machine;
	struct vdev       *dev;
	struct virtio_pci *pci;
	struct rig_queue   queues[VDEV_QUEUES_MAX];
	uint64_t           next_free;
	uint64_t           alloc_first, alloc_end;   /* where rig_alloc() goes round */
	unsigned           msi[VPCI_VECTORS];   /* interrupts by vector */
	uint64_t           last_len, last_head;
};

/* The machine alone; asserts that nothing fails. */
void rig_machine(struct rig *r);

/* With a device made of `conf`. */
void rig_init(struct rig *r, const struct vdev_desc *desc, void *conf);
void rig_fini(struct rig *r);

/* Registers: offsets in the BAR. Every access has the device's lock, as the bus takes it. */
uint64_t rig_read(struct rig *r, uint64_t off, unsigned n);
void     rig_write(struct rig *r, uint64_t off, unsigned n, uint64_t v);
uint8_t  rig_status(struct rig *r);
void     rig_set_status(struct rig *r, uint8_t v);

/* Steps of the driver; each asserts nothing, so that hostile tests can use them. */
uint64_t rig_offered(struct rig *r);
void     rig_features(struct rig *r, uint64_t features);
void     rig_msix(struct rig *r);
void     rig_queue(struct rig *r, unsigned queue, uint16_t size);
void     rig_reset(struct rig *r);

/* All of it, without the features in `without`; asserts that the device is live. */
void rig_start(struct rig *r, uint64_t without);

/* Guest memory. */
uint64_t rig_alloc(struct rig *r, uint64_t bytes);              /* 4096-aligned, zeroed */
void     rig_put(struct rig *r, uint64_t gpa, const void *data, size_t n);
void     rig_get(struct rig *r, uint64_t gpa, void *ret, size_t n);
void     rig_put16(struct rig *r, uint64_t gpa, uint16_t v);
uint16_t rig_get16(struct rig *r, uint64_t gpa);

/* One descriptor, raw. */
void rig_desc(struct rig *r, uint64_t table, unsigned i, uint64_t addr, uint32_t len,
	      uint16_t flags, uint16_t next);

/* A chain of buffers, made available. Returns its head. */
uint16_t rig_add(struct rig *r, unsigned queue, const struct rig_buf *bufs, unsigned n);
uint16_t rig_add_indirect(struct rig *r, unsigned queue, const struct rig_buf *bufs, unsigned n);
void     rig_avail(struct rig *r, unsigned queue, uint16_t head);   /* a head, as it is */
void     rig_kick(struct rig *r, unsigned queue);

/* Turn the loop until nothing more happens at once. */
void rig_run(struct rig *r);

/* Turn the loop until cond(ud); asserts that it comes true. */
void rig_until(struct rig *r, bool (*cond)(struct rig *r, void *ud), void *ud);

/* The next used entry, waiting for it; its length, and r->last_head. */
uint32_t rig_take(struct rig *r, unsigned queue);
bool     rig_used(struct rig *r, unsigned queue);   /* is there one? */

/* A file below /tmp that is gone already, of so many bytes. */
int rig_file(uint64_t bytes);

#endif
