/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Frames of a guest, or of its host: a byte picks the message, the rest is its body. What is
 * decoded is encoded to something that decodes the same.
 */
#include <stdlib.h>
#include <string.h>

#include "guest/guest-proto.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void again(const struct wire_msg *t, const union guest_any *m)
{
	auto_buf struct buf one = BUF_INIT, two = BUF_INIT;
	int fds[WIRE_FDS_MAX];
	size_t n_fds = 0;
	union guest_any copy;
	struct err e = ERR_INIT;

	if (wire_encode(t, 1, 1, m, &one, fds, &n_fds) < 0) {
		return;
	}
	struct wire_frame f = { .type = t->type,
				.body = (const uint8_t *)one.data + WIRE_HEADER_BYTES,
				.body_len = one.len - WIRE_HEADER_BYTES };

	if (wire_decode(t, &f, &copy, &e) < 0 ||
	    wire_encode(t, 1, 1, &copy, &two, fds, &n_fds) < 0 || one.len != two.len ||
	    memcmp(one.data, two.data, one.len) != 0) {
		abort();
	}
	wire_msg_fini(t, &copy);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	union guest_any m;
	struct err e = ERR_INIT;

	if (size < 1 || size > WIRE_FRAME_MAX || data[0] == 0 || data[0] >= GUEST_MSG__COUNT) {
		return 0;
	}
	const struct wire_msg *t = &guest_msgs[data[0]];
	struct wire_frame f = { .type = t->type, .body = data + 1, .body_len = size - 1 };

	if (wire_decode(t, &f, &m, &e) == 0) {
		again(t, &m);
	}
	wire_msg_fini(t, &m);
	return 0;
}
