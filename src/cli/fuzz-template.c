/* SPDX-License-Identifier: Apache-2.0 */
/* Any text as a template over a fixed value. */
#include <stdint.h>

#include "cli/template.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	auto_json json_t *v = json_pack("{s:s, s:[i,i], s:{s:n}, s:b}", "A", "x", "L", 1, 2, "O", "N",
					"T", 1);
	auto_free char *text = str_ndup((const char *)data, size);
	auto_buf struct buf out = BUF_INIT;
	struct err e = ERR_INIT;

	if (size < 4096 && text && template_print(text, v, &out, &e) < 0) {
		assert(e.msg[0]);
	}
	return 0;
}
