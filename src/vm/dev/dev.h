/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a device needs of the machine around it, and what the machine needs of a device.
 *
 * Address decoding is a table of regions. A vCPU's access finds its region and calls it with
 * the device's lock held, on the vCPU's thread; the device's own work (queues, files, timers)
 * runs on the loop that owns it, which takes the same lock. Calls never nest: a device cannot
 * reach another one's registers, since guest memory access refuses what is not RAM.
 */
#ifndef VM_DEV_DEV_H
#define VM_DEV_DEV_H

#include <pthread.h>

#include "base/err.h"
#include "base/list.h"
#include "loop/loop.h"
#include "vm/mem/gmem.h"

/* A range of addresses that a device answers for. */
struct region {
	const char *name;
	uint64_t    first, bytes;    /* guest physical addresses, or ports */
	void       *ctx;
	pthread_mutex_t *lock;       /* held during the calls; NULL: none */
	/* off < bytes and off + n <= bytes; n is 1, 2, 4 or 8. Little endian. */
	uint64_t  (*read)(void *ctx, uint64_t off, unsigned n);
	void      (*write)(void *ctx, uint64_t off, unsigned n, uint64_t v);
};

/* Two of these a VM: memory and ports. Regions do not overlap; changes are safe while vCPUs
 * run (a PCI BAR moves). */
struct bus;

int  bus_new(struct bus **ret) must_check;
struct bus *bus_free(struct bus *b);
int  bus_add(struct bus *b, const struct region *r) must_check;    /* -EEXIST: overlaps */
void bus_remove(struct bus *b, const struct region *r);

/* An access; addresses that nobody answers for read as ones and ignore writes. */
uint64_t bus_read(struct bus *b, uint64_t at, unsigned n);
void     bus_write(struct bus *b, uint64_t at, unsigned n, uint64_t v);

/* Interrupts of devices. */
struct irq_sink {
	void *ctx;
	void (*msi)(void *ctx, uint64_t addr, uint32_t data);
	void (*line)(void *ctx, unsigned gsi, bool level);
};

/* What each device is given. */
struct machine {
	struct gmem     *mem;
	struct loop     *loop;       /* of the devices */
	struct bus      *mmio, *pio;
	struct irq_sink  irq;
	/* ioeventfd where the engine has it; -EOPNOTSUPP: the device's write handler does it. */
	int (*ioevent)(void *ctx, gpa_t at, unsigned bytes, int fd, bool add);
	void *ctx;
};

/* --- PCI functions, on the one flat bus --- */

enum { PCI_CONFIG_BYTES = 4096, PCI_BARS = 6, PCI_SLOTS = 32 };

struct pci_function {
	const char *name;
	unsigned    slot;                       /* given by pci_add() */
	uint8_t     config[PCI_CONFIG_BYTES];   /* current values */
	uint8_t     writable[PCI_CONFIG_BYTES]; /* masks of what the guest may change */
	struct region bar[PCI_BARS];            /* bytes != 0: a 64-bit memory BAR of that size */
	/* Before a read of config space, which may fill in `config`; NULL: it is as it stands. */
	void      (*config_read)(struct pci_function *f, unsigned off, unsigned n);
	/*
	 * After a write changed config space (a moved BAR has its new address in bar[] already);
	 * NULL: nobody wants to know.
	 */
	void      (*config_written)(struct pci_function *f, unsigned off, unsigned n);
	pthread_mutex_t *lock;                  /* held during both */
};

/* The host bridge with its ECAM window. */
struct pci_bus;

int  pci_bus_new(struct machine *m, gpa_t ecam, gpa_t mmio_first, uint64_t mmio_bytes,
		 struct pci_bus **ret, struct err *e) must_check;
struct pci_bus *pci_bus_free(struct pci_bus *b);

/* Put a function into the next free slot and give its BARs addresses. */
int  pci_add(struct pci_bus *b, struct pci_function *f, struct err *e) must_check;

/* Forget a function; its slot is free again. */
void pci_remove(struct pci_bus *b, struct pci_function *f);

/* Let BARs decode as config space says by now: after it was loaded from a snapshot. */
void pci_remap(struct pci_bus *b);

#endif
