/* SPDX-License-Identifier: Apache-2.0 */
/*
 * virtio over PCI, modern only: a virtio device as a PCI function with one memory BAR that
 * holds its registers, and MSI-X.
 *
 *	BAR 0   0x0000  common configuration     0x1000  interrupt status
 *	        0x2000  device configuration     0x3000  notifications, 4 bytes a queue
 *	        0x4000  MSI-X table              0x5000  MSI-X pending bits
 *
 * One vector a queue and one for configuration changes. There is no INTx line.
 *
 * Spec: virtio 1.2, 4.1 Virtio Over PCI Bus; PCI Local Bus 3.0, 6.8 MSI-X.
 */
#ifndef VM_DEV_VIRTIO_PCI_H
#define VM_DEV_VIRTIO_PCI_H

#include "vm/dev/vdev.h"

enum {
	VPCI_COMMON    = 0x0000,
	VPCI_ISR       = 0x1000,
	VPCI_CONFIG    = 0x2000,
	VPCI_NOTIFY    = 0x3000,
	VPCI_TABLE     = 0x4000,
	VPCI_PBA       = 0x5000,
	VPCI_BAR_BYTES = 0x8000,
	VPCI_VECTORS   = VDEV_QUEUES_MAX + 1,
	VPCI_NO_VECTOR = 0xffff,
};

struct msix_entry {
	uint64_t addr;
	uint32_t data;
	uint32_t control;   /* bit 0: masked */
};

struct virtio_pci {
	struct pci_function fn;
	struct vdev        *dev;             /* owned */
	struct machine     *machine;
	struct pci_bus     *bus;             /* NULL: on none */
	unsigned            msix_cap;        /* offset in config space */
	unsigned            window_cap;      /* of the configuration access capability */

	/* Set by the driver. */
	uint32_t            feature_word, driver_feature_word;
	uint16_t            queue_select;
	uint16_t            config_vector;
	uint16_t            queue_vector[VDEV_QUEUES_MAX];
	uint8_t             isr;
	struct msix_entry   table[VPCI_VECTORS];
	uint32_t            pending;         /* bit a vector */
	uint8_t             saved[256];      /* of fn.config, in a snapshot: what may be written */

	/* Kicks that the engine routes to the device's eventfds, at this address; 0: none. */
	uint64_t            routed_at;
};

/*
 * Put a device on the bus. It is owned from here on, also on failure.
 * Context: before any vCPU runs.
 */
int virtio_pci_new(struct machine *m, struct pci_bus *bus, struct vdev *own_dev,
		   struct virtio_pci **ret, struct err *e) must_check;

/* Off the bus, and as vdev_free(). No vCPU runs. NULL is fine; returns NULL. */
struct virtio_pci *virtio_pci_free(struct virtio_pci *p);
AUTO_PTR(struct virtio_pci, virtio_pci_free)

/*
 * Snapshots. The device is paused, from before save or load until all is done; `prefix` is the
 * path of its slot. After state_commit() comes virtio_pci_loaded() for each device, then
 * pci_remap() once, then vdev_resume().
 */
void virtio_pci_save(struct virtio_pci *p, const char *prefix, struct state_writer *w);
int  virtio_pci_load(struct virtio_pci *p, const char *prefix, struct state_reader *r,
		     struct err *e) must_check;
int  virtio_pci_loaded(struct virtio_pci *p, struct err *e) must_check;

extern const struct state_desc virtio_pci_state;

/* --- For tests: a function on no bus --- */
int virtio_pci_make(struct machine *m, struct vdev *own_dev, struct virtio_pci **ret,
		    struct err *e) must_check;

#endif
