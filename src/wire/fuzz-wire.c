/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Bytes from a peer, through a socket, into every message's decoder. What is decoded must be
 * encoded to something that decodes the same.
 */
#include <errno.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/fd.h"
#include "sys/file.h"
#include "sys/socket.h"
#include "wire/shim-proto.h"
#include "wire/vmm-proto.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static bool has_fd(const struct wire_msg *t)
{
	for (size_t i = 0; i < t->n_fields; i++) {
		if (t->fields[i].kind == WIRE_FD) {
			return true;
		}
	}
	return false;
}

/* What the largest message needs, whichever protocol it is of. */
union any {
	union shim_any shim;
	uint8_t        bytes[1024];
	uint64_t       align;
};

static void again(const struct wire_msg *t, const union any *m)
{
	auto_buf struct buf one = BUF_INIT, two = BUF_INIT;
	int fds[WIRE_FDS_MAX];
	size_t n_fds = 0;
	union any copy;
	struct err e = ERR_INIT;

	if (has_fd(t) || wire_encode(t, 1, 1, m, &one, fds, &n_fds) < 0) {
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

/* The frame as a message of one protocol. */
static void decode(const struct wire_msg *t, struct wire_frame *f)
{
	union any m;
	struct err e = ERR_INIT;

	if (!t || !t->name) {
		return;
	}
	assert(t->size <= sizeof(m));
	if (wire_decode(t, f, &m, &e) == 0) {
		again(t, &m);
	}
	wire_msg_fini(t, &m);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct wire_conn c;
	struct wire_frame f;
	int s[2];

	if (size > 65536 || sys_socketpair(SOCK_STREAM | SOCK_NONBLOCK, s) < 0) {
		return 0;
	}
	wire_conn_init(&c, s[1], 1);
	if (size > 0 && sock_send_some(s[0], data, size, NULL, 0) > 0) {
		fd_close(&s[0]);
		while (wire_conn_fill(&c) > 0) {
			while (wire_conn_next(&c, &f) > 0) {
				decode(shim_msg(f.type), &f);
				decode(f.type < VMM_MSG__COUNT ? &vmm_msgs[f.type] : NULL, &f);
				wire_frame_fini(&f);
			}
		}
	}
	fd_close(&s[0]);
	wire_conn_fini(&c);
	return 0;
}
