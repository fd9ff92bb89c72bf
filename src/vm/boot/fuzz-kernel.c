/* SPDX-License-Identifier: Apache-2.0 */
/* Any file as a kernel: parsed, and if it is one, loaded with its addresses randomised. */
#include "vm/boot/boot.h"

enum { GUEST_BYTES = 64 << 20 };

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct err e = ERR_INIT;
	struct kernel k = KERNEL_INIT;
	const struct boot_conf conf = { .cmdline = "quiet", .initrd_fd = -1, .randomize = true,
					.seed = size };
	struct boot_entry entry;
	struct gmem g;

	gmem_init(&g);
	if (kernel_parse(&k, data, size, &e) == 0 &&
	    gmem_add(&g, GPA(0), GUEST_BYTES, -1, 0, false, &e) == 0) {
		ignore_result(boot_load(&g, &k, &conf, &entry, &e)); /* most are refused */
	}
	gmem_fini(&g);
	kernel_fini(&k);
	return 0;
}
