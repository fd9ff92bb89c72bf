/* SPDX-License-Identifier: Apache-2.0 */
/* Messages from the bus. */
#include "container/cgroup-dbus.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct dbus_msg m;
	ssize_t n = dbus_msg_parse(data, size, &m);

	assert(n <= (ssize_t)size);
	if (n <= 0) {
		return 0;
	}
	struct dbus_in in = dbus_in(&m);

	for (const char *p = m.sig; *p && in.ok; p++) {
		if (*p == 'u') {
			(void)dbus_get_u32(&in);
		} else if (*p == 'y') {
			(void)dbus_get_u8(&in);
		} else if (*p == 'g' || *p == 'v') {
			(void)dbus_get_sig(&in);
		} else {
			(void)dbus_get_str(&in);
		}
	}
	free(m.data);
	return 0;
}
