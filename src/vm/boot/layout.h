/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Where things are in a guest's physical address space and at its ports.
 *
 *	0x00000000  RAM; what the loader leaves for the kernel is below 0x30000
 *	0x000e0000  ACPI tables, reserved; the reset vector at its end
 *	0x00100000  RAM, up to LAYOUT_LOW_RAM_MAX
 *	0xc0000000  registers of PCI functions
 *	0xe0000000  PCI configuration space (ECAM), one bus
 *	0xfec00000  I/O APIC, 0xfee00000 local APIC
 *	0x100000000 the rest of RAM
 */
#ifndef VM_BOOT_LAYOUT_H
#define VM_BOOT_LAYOUT_H

#include "base/def.h"

enum {
	LAYOUT_GDT         = 0x0500,
	LAYOUT_PVH         = 0x6000,
	LAYOUT_BOOT_PARAMS = 0x7000,
	LAYOUT_PAGE_TABLES = 0x9000,   /* six pages */
	LAYOUT_CMDLINE     = 0x20000,
	LAYOUT_CMDLINE_MAX = 0x10000,
	LAYOUT_BIOS_FIRST  = 0x9fc00,  /* not RAM for the guest, up to LAYOUT_KERNEL_MIN */
	LAYOUT_ACPI        = 0xe0000,
	LAYOUT_ACPI_MAX    = 0x1fff0,
	LAYOUT_RESET_VECTOR = 0xffff0, /* f000:fff0, where a BIOS is entered */
	LAYOUT_KERNEL_MIN  = 0x100000,

	LAYOUT_PORT_SLEEP  = 0x600,    /* ACPI sleep control, and status behind it */
	LAYOUT_PORT_RESET  = 0x604,    /* ACPI reset register */
	LAYOUT_PORT_PANIC  = 0x505,    /* pvpanic */
	LAYOUT_RESET_VALUE = 1,
	LAYOUT_SLEEP_S5    = 5,

	LAYOUT_GSI_SERIAL  = 4,
	LAYOUT_GSI_GED     = 9,        /* the power button */
	LAYOUT_GSI_PCI     = 16,       /* INTA to INTD, four of them */
};

#define LAYOUT_LOW_RAM_MAX   UINT64_C(0xc0000000)
#define LAYOUT_PCI_MMIO      UINT64_C(0xc0000000)
#define LAYOUT_PCI_MMIO_SIZE UINT64_C(0x20000000)
#define LAYOUT_ECAM          UINT64_C(0xe0000000)
#define LAYOUT_ECAM_SIZE     UINT64_C(0x00100000)
#define LAYOUT_IOAPIC        UINT64_C(0xfec00000)
#define LAYOUT_LAPIC         UINT64_C(0xfee00000)
#define LAYOUT_HIGH_RAM      UINT64_C(0x100000000)

#endif
