/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Writes the byte code of ACPI tables. Blocks are opened and ended; their length is put in
 * when they end. A name is four characters, paths as in ASL ("\\_SB.PCI0").
 *
 *	aml_device(&a, "COM1");
 *	aml_name(&a, "_HID");
 *	aml_eisa_id(&a, "PNP0501");
 *	aml_end(&a);
 *
 * Memory that is out shows in a->b, at the end. Mistakes of the caller are assertions.
 * Spec: ACPI 6.5, 20.2 AML Grammar Definition; 6.4 Resource Data Types for ACPI.
 */
#ifndef VM_BOOT_AML_H
#define VM_BOOT_AML_H

#include "base/str.h"

enum { AML_DEPTH_MAX = 8 };

struct aml {
	struct buf b;
	size_t     open[AML_DEPTH_MAX];   /* where each open block's length goes */
	unsigned   depth;
};

#define AML_INIT { .b = BUF_INIT }

void aml_scope(struct aml *a, const char *path);
void aml_device(struct aml *a, const char *name);
void aml_method(struct aml *a, const char *name, unsigned n_args);   /* serialized */
void aml_package(struct aml *a, uint8_t n);
void aml_end(struct aml *a);

/* What follows is the value. */
void aml_name(struct aml *a, const char *name);

void aml_int(struct aml *a, uint64_t v);
void aml_string(struct aml *a, const char *s);
void aml_eisa_id(struct aml *a, const char *id);   /* "PNP0501" */

/* Notify(path, v) */
void aml_notify(struct aml *a, const char *path, uint8_t v);

/* A resource template: aml_crs(), its descriptors, aml_end(). */
void aml_crs(struct aml *a);
void aml_crs_bus(struct aml *a, uint16_t first, uint16_t last);
void aml_crs_window(struct aml *a, uint32_t first, uint32_t bytes);   /* produced, memory */
void aml_crs_memory(struct aml *a, uint32_t first, uint32_t bytes);   /* fixed */
void aml_crs_io(struct aml *a, uint16_t first, uint8_t n);
void aml_crs_irq(struct aml *a, uint32_t gsi);                        /* edge, high, exclusive */

#endif
