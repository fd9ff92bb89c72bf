/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Put a kernel, its initrd and its command line into guest memory, with all that it expects
 * to find there: the memory map, page tables, segment descriptors.
 *
 * Context: before any vCPU runs.
 */
#ifndef VM_BOOT_BOOT_H
#define VM_BOOT_BOOT_H

#include "vm/boot/kernel.h"
#include "vm/mem/gmem.h"

struct boot_conf {
	const char *cmdline;
	int         initrd_fd;   /* borrowed, read from its start; -1: none */
	uint64_t    rsdp;        /* of the ACPI tables; 0: none */
	bool        randomize;   /* unless the command line has "nokaslr" */
	uint64_t    seed;        /* of it; the same gives the same addresses */
	/* Called once with the memory that is about to be filled, from its begin, at most
	 * KERNEL_SEGMENTS_MAX parts; NULL: nobody is. */
	void      (*fills)(void *ctx, const struct iovec *at, unsigned n);
	void       *ctx;
};

/* How the boot processor starts; interrupts are off, everything else is as after reset. */
struct boot_entry {
	bool     long_mode;      /* else protected mode with flat segments and no paging (PVH) */
	uint64_t rip;
	uint64_t rsi, rbx;
	uint64_t cr3;            /* long mode */
	uint64_t gdt;            /* null, -, code, data as Linux has them, 8 bytes each */
	uint16_t gdt_limit;
	uint16_t code, data;     /* selectors */
	uint64_t phys, virt_moved;  /* where the kernel lies, and how far it was moved up */
};

int boot_load(struct gmem *g, const struct kernel *k, const struct boot_conf *conf,
	      struct boot_entry *ret, struct err *e) must_check;

/* Types of memory as the BIOS's map has them. */
enum boot_range_kind { BOOT_RAM = 1, BOOT_RESERVED = 2 };

struct boot_range {
	uint64_t             first, bytes;
	enum boot_range_kind kind;
};

enum { BOOT_RANGES_MAX = GMEM_SLOTS_MAX + 4 };

/* The guest's memory map. Returns how many were filled. */
unsigned boot_map(const struct gmem *g, struct boot_range ret[BOOT_RANGES_MAX]);

#endif
