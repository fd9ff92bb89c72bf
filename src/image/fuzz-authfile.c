/* SPDX-License-Identifier: Apache-2.0 */
/* ~/.docker/config.json. */
#include "image/auth.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const char *const hosts[] = { "docker.io", "localhost:5000", "h" };

	for (size_t i = 0; i < ARRAY_LEN(hosts); i++) {
		auto_auth_entry struct auth_entry entry = AUTH_ENTRY_INIT;
		struct err e = ERR_INIT;
		int r = auth_parse((const char *)data, size, hosts[i], "library/x", &entry, &e);

		assert(r <= 1 && (r >= 0 || e.msg[0] != '\0'));
		assert(!entry.helper || name_valid(entry.helper));
	}
	return 0;
}
