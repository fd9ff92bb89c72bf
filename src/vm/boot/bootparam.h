/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Offsets in Linux's boot_params, the "zero page". Those from BP_HEADER on are also offsets
 * in a bzImage. Spec: Linux, Documentation/arch/x86/boot.rst and zero-page.rst.
 */
#ifndef VM_BOOT_BOOTPARAM_H
#define VM_BOOT_BOOTPARAM_H

enum {
	BP_BYTES          = 4096,
	BP_ACPI_RSDP      = 0x070,
	BP_EXT_INITRD     = 0x0c0,
	BP_EXT_INITRD_LEN = 0x0c4,
	BP_EXT_CMDLINE    = 0x0c8,
	BP_E820_ENTRIES   = 0x1e8,
	BP_HEADER         = 0x1f1,
	BP_SETUP_SECTS    = 0x1f1,
	BP_BOOT_FLAG      = 0x1fe,
	BP_MAGIC          = 0x202,
	BP_VERSION        = 0x206,
	BP_LOADER_TYPE    = 0x210,
	BP_LOADFLAGS      = 0x211,
	BP_INITRD         = 0x218,
	BP_INITRD_LEN     = 0x21c,
	BP_CMDLINE        = 0x228,
	BP_INITRD_MAX     = 0x22c,
	BP_ALIGNMENT      = 0x230,
	BP_RELOCATABLE    = 0x234,
	BP_XLOADFLAGS     = 0x236,
	BP_CMDLINE_SIZE   = 0x238,
	BP_PAYLOAD_OFFSET = 0x248,
	BP_PAYLOAD_LENGTH = 0x24c,
	BP_INIT_SIZE      = 0x260,
	BP_E820           = 0x2d0,
	BP_E820_MAX       = 128,
	BP_E820_BYTES     = 20,

	BP_LOADER_OTHER   = 0xff,
	BP_FLAG_KASLR     = 0x02,
	BP_XLF_KERNEL_64  = 0x01,
};

#endif
