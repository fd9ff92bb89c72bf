/* SPDX-License-Identifier: Apache-2.0 */
/* The WWW-Authenticate header, as a registry sends it. */
#include <string.h>

#include "base/mem.h"
#include "image/challenge.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct challenge c = { .kind = CHALLENGE_NONE };
	auto_free char *exact = mem_dup(data, size ? size : 1); /* so that one byte over is seen */

	if (exact && size > 0 && challenge_parse(exact, size, &c) == 0) {
		assert(strlen(c.realm) < sizeof(c.realm) && strlen(c.scope) < sizeof(c.scope));
		assert(strlen(c.service) < sizeof(c.service));
		assert(c.kind < CHALLENGE__COUNT);
	}
	return 0;
}
