/* SPDX-License-Identifier: Apache-2.0 */
/* The two processes that see a layer's bytes, and how they are shut in. */
#ifndef IMAGE_UNPACK_CHILD_H
#define IMAGE_UNPACK_CHILD_H

#include "image/unpack-private.h"

/* What a child says at its end, as one write. Whoever reads it trusts none of it. */
struct unpack_report {
	uint64_t entries, devices;
	int32_t  errnum;          /* 0: done */
	int32_t  code;            /* enum err_code */
	int32_t  ids;             /* enum unpack_ids */
	int32_t  missing;         /* what the host could not do: UNPACK_NO_* */
	char     msg[512];
};

enum { UNPACK_NO_LANDLOCK = 1, UNPACK_NO_SECCOMP = 2 };

/* Both never return. `report_fd` gets the report; `parent` is whom to die with. */
struct inflate_child {
	int           in_fd, out_fd, report_fd;
	enum oci_kind kind;
	pid_t         parent;
};
noreturn_fn void unpack__inflate_main(const struct inflate_child *c);

struct tar_child {
	int                      in_fd, report_fd;
	const struct unpack_job *job;
	enum unpack_ids          ids;
	int                      userns_fd;  /* to join; -1: make one that maps us to its root */
};
noreturn_fn void unpack__tar_main(const struct tar_child *c);

/* The ids that the child of UNPACK_IDS_MAPPED and _PLAIN has: host ids, and how many. */
enum { UNPACK_BASE = 0x60000000, UNPACK_COUNT = 0x10000000 };

#endif
