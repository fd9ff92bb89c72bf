/* SPDX-License-Identifier: Apache-2.0 */
/* References: what is accepted must print and parse back to the same value. */
#include <string.h>

#include "base/mem.h"
#include "base/str.h"
#include "image/ref.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	auto_free char *text = str_ndup((const char *)data, size);
	struct err e = ERR_INIT;
	struct ref r, again;

	if (!text || ref_parse(text, &r, &e) < 0) {
		return 0;
	}
	assert(ref_parse(ref_format(&r).text, &again, &e) == 0);
	assert(memcmp(&r, &again, sizeof(r)) == 0);
	assert(ref_parse(ref_familiar(&r).text, &again, &e) == 0);
	assert(memcmp(&r, &again, sizeof(r)) == 0);
	return 0;
}
