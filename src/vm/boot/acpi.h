/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The machine's ACPI tables, hardware-reduced: processors and the I/O APIC, PCI with its
 * configuration space, serial port, panic device, power button, and how to reset and switch
 * off. Addresses are those of layout.h.
 *
 * Spec: ACPI 6.5, 5.2 ACPI System Description Tables; PCI Firmware 3.3, 4.1 MCFG.
 */
#ifndef VM_BOOT_ACPI_H
#define VM_BOOT_ACPI_H

#include "base/str.h"
#include "vm/mem/gmem.h"

struct acpi_conf {
	unsigned n_cpus;     /* APIC ids 0.. */
};

/* The tables, as they lie in memory from LAYOUT_ACPI on; the RSDP is the first. */
int acpi_build(const struct acpi_conf *conf, struct buf *ret, struct err *e) must_check;

/* Put them into guest memory. *ret_rsdp: where the RSDP is. */
int acpi_load(struct gmem *g, const struct acpi_conf *conf, uint64_t *ret_rsdp,
	      struct err *e) must_check;

#endif
