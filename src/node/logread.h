/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Read the log of an instance (docs/formats/instance-log.md) and write frames: one byte kind (1
 * standard output, 2 standard error), three zero bytes, length (big endian), bytes. Blocks: for a
 * child.
 */
#ifndef NODE_LOGREAD_H
#define NODE_LOGREAD_H

#include "base/err.h"

enum { LOGREAD_TAIL_MAX = 1000000 };

struct logread_in {
	const char *path;
	unsigned    max_files;
	bool        follow, timestamps, has_tail, has_out, has_err, out, err;
	uint64_t    tail, since, until;   /* lines; nanoseconds, 0: not given */
};

/*
 * All that is there. With `follow` then what comes, until in_fd is at its end and the log is
 * read up to its end. 0, also when the reader of out_fd has gone.
 */
int logread_run(const struct logread_in *in, int in_fd, int out_fd, struct err *e) must_check;

#endif
