/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The messages between a worker and its parent: one datagram each, a head and what the type
 * says. Texts are NUL-terminated by whoever receives them.
 */
#ifndef IMAGE_WORKER_PRIVATE_H
#define IMAGE_WORKER_PRIVATE_H

#include "image/worker.h"

enum worker__type {
	W_BEGIN,      /* + struct worker__begin        -> W_REPLY, value: offset, index: blob */
	W_DATA,       /* + bytes */
	W_RESTART,    /*                               -> W_REPLY */
	W_END,        /*                               -> W_REPLY + struct blob_info */
	W_ABANDON,
	W_OPEN,       /* + name                        -> W_REPLY and a descriptor, value: size */
	W_IMAGE,      /* + struct worker_image */
	W_ITEM,       /* + struct worker__begin        -> W_REPLY, index: item */
	W_SET,        /* value: done, state */
	W_TEXT,       /* + text */
	W_LINE,       /* + text */
	W_FAIL,       /* + struct err: the child ends */
	W_FINISH,     /* the child ends well */
	W_REPLY,      /* status; + struct err where that is negative */
	W__COUNT,
};

struct worker__head {
	uint32_t type;
	uint32_t index;
	uint64_t value;
	int32_t  status;   /* W_REPLY: 0, 1 or -errno. W_SET: the state */
	uint32_t unused;
};

struct worker__begin {
	char     digest[OCI_DIGEST_MAX];   /* "" not known */
	char     what[24];
	uint64_t size;
	uint8_t  at_hand;                  /* all its bytes are: nothing is resumed, nobody waited for */
};

enum { WORKER__DATA_MAX = 64 * 1024, WORKER__BLOBS_MAX = 64, WORKER__ITEMS_MAX = 20000,
       WORKER__IMAGES_MAX = 1024,
       WORKER__LINES_MAX = 100000, WORKER__SOCKET = 3 };

/* Run in the child: confine, work, report, exit. */
noreturn_fn void worker__child(const struct worker_run *run, int sock, pid_t parent);

#endif
