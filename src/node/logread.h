/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Read the log of an instance (docs/formats/instance-log.md) and write frames: one byte kind (1
 * standard output, 2 standard error), three zero bytes, length (big endian), bytes. Blocks: for a
 * child.
 *
 * With `positions` frames have kind 4: one byte the kind that it would have had (0: only a place),
 * one byte the length of a place, the place (text that only we understand), bytes. A reader that
 * begins again at the last place that it got misses nothing and gets nothing twice, unless the log
 * was rotated away meanwhile: then it gets what is there.
 */
#ifndef NODE_LOGREAD_H
#define NODE_LOGREAD_H

#include "base/err.h"

enum { LOGREAD_TAIL_MAX = 1000000 };

struct logread_in {
	const char *path;
	unsigned    max_files;
	bool        follow, timestamps, has_tail, has_out, has_err, out, err;
	bool        positions;            /* frames tell where the next one begins */
	const char *from;                 /* such a place, or NULL; then `tail` does not count */
	uint64_t    tail, since, until;   /* lines; nanoseconds, 0: not given */
};

/*
 * All that is there. With `follow` then what comes, until in_fd is at its end and the log is
 * read up to its end. 0, also when the reader of out_fd has gone.
 */
int logread_run(const struct logread_in *in, int in_fd, int out_fd, struct err *e) must_check;

#endif
