/* SPDX-License-Identifier: Apache-2.0 */
/* Any text that parses is written, parses again, and is the same the second time. */
#include <stdint.h>

#include "json/json.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	auto_json json_t *first = NULL, *second = NULL;
	struct err e = ERR_INIT;

	if (json_parse((const char *)data, size, &json_limits_request, "x", &first, &e) < 0) {
		assert(e.errnum > 0 && e.msg[0]);
		return 0;
	}
	auto_free char *text = json_text(first);

	assert(text);
	if (json_parse(text, strlen(text), &json_limits_document, "x", &second, &e) < 0) {
		assert(e.code == ERR_LIMIT);
		return 0;
	}
	auto_free char *again = json_text(second);

	assert(again && str_eq(text, again));
	return 0;
}
