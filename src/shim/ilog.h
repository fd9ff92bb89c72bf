/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The log file of an instance (docs/formats/instance-log.md): records, rotation, and what
 * happens when the disk is full. Writing never fails for the caller: what the disk does not
 * take is counted.
 *
 *	struct ilog log;
 *	ilog_init(&log, dir_fd, "container.log", 16 << 20, 4);
 *	ilog_write(&log, ILOG_STDOUT, bytes, n, clock_wall_ns());
 */
#ifndef SHIM_ILOG_H
#define SHIM_ILOG_H

#include "base/def.h"

enum ilog_stream {
	ILOG_STDOUT,
	ILOG_STDERR,
	ILOG_SYSTEM,
	ILOG__COUNT,
};

struct ilog {
	int         dir_fd;     /* borrowed */
	const char *name;       /* borrowed; NULL: no log is kept */
	int         fd;         /* -1: not open (yet, or the disk refused) */
	uint64_t    size;       /* bytes of whole records in the open file */
	uint64_t    max_bytes;
	unsigned    max_files;  /* the current one included; at least 1 */
	uint64_t    lost_records, lost_bytes;
	uint64_t    told_records, told_bytes;  /* of those, reported in the log */
	int         lost_errno;
};

/* `name` may be NULL. Opens on the first write. */
void ilog_init(struct ilog *l, int dir_fd, const char *name, uint64_t max_bytes,
	       unsigned max_files);
void ilog_fini(struct ilog *l);

/* What was read from a stream, split into records. */
void ilog_write(struct ilog *l, enum ilog_stream stream, const char *data, size_t n,
		uint64_t wall_ns);

#endif
