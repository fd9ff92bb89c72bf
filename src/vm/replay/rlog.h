/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The log of a recorded machine: a file of records, in the order in which they happened
 * (docs/formats/replay.md). This writes and reads records; what they mean to a machine is
 * vm/replay.c's.
 *
 *	r = rlog_writer_new(own_fd, &w, e);
 *	rlog_put(w, &(struct rlog_rec){ .type = RLOG_MSI, .addr = addr, .value = data });
 *	r = rlog_finish(w, e);                    // what rlog_put() could not write is told here
 *
 *	r = rlog_reader_new(own_fd, &in, e);
 *	while ((r = rlog_next(in, &rec, e)) > 0) { ... }
 *
 * A log that was cut off ends where its last whole part ends. The file is hostile input.
 *
 * Context: one thread at a time.
 */
#ifndef VM_REPLAY_RLOG_H
#define VM_REPLAY_RLOG_H

#include "base/err.h"

enum rlog_type {
	RLOG_MACHINE = 1,   /* data: what the machine is; the first record */
	RLOG_STATE,         /* data: the next part of its registers' state at the start */
	RLOG_MEMORY,        /* addr, data: was written to memory, not by a vCPU */
	RLOG_START,         /* what comes before is the state at the start */
	RLOG_READ,          /* space, addr, bytes, value: of a vCPU from outside of memory */
	RLOG_WRITE,         /* the same, to there */
	RLOG_AT,            /* insns, events: the records behind it happened there */
	RLOG_MSI,           /* addr, value */
	RLOG_LINE,          /* addr: the line; value: its level */
	RLOG_SLEPT,         /* value: nanoseconds */
	RLOG_CHECK,         /* insns, events, cpu, value: a hash; data: registers that changed */
	RLOG_PAGES,         /* value: hash of all memory; data: pages that changed */
	RLOG_END,           /* insns, events, cpu: why; value: hash of all checks */
	RLOG_TYPE__COUNT,
};

extern const char *const rlog_type_names[RLOG_TYPE__COUNT];

enum rlog_space { RLOG_MMIO, RLOG_PIO, RLOG_SPACE__COUNT };

enum { RLOG_DATA_MAX = 64 << 10 };

struct rlog_rec {
	enum rlog_type type;
	uint64_t       insns, events;   /* of AT, CHECK and END; others: of the last one before */
	uint8_t        space, bytes;    /* of READ and WRITE: enum rlog_space; 1, 2, 4, 8 */
	uint32_t       cpu;
	uint64_t       addr, value;
	const void    *data;            /* a reader's: valid until the next rlog_next() */
	size_t         len;             /* at most RLOG_DATA_MAX */
};

struct rlog_writer;
struct rlog_reader;

/* The descriptor is taken, also on failure. */
int rlog_writer_new(int own_fd, struct rlog_writer **ret, struct err *e) must_check;
struct rlog_writer *rlog_writer_free(struct rlog_writer *w);
AUTO_PTR(struct rlog_writer, rlog_writer_free)

void rlog_put(struct rlog_writer *w, const struct rlog_rec *rec);

/* Write out what waits. Records may follow. */
int rlog_finish(struct rlog_writer *w, struct err *e) must_check;

/* Reads the head; the descriptor is taken, also on failure. */
int rlog_reader_new(int own_fd, struct rlog_reader **ret, struct err *e) must_check;
struct rlog_reader *rlog_reader_free(struct rlog_reader *in);
AUTO_PTR(struct rlog_reader, rlog_reader_free)

/* 1 with *ret filled; 0: the log ends here, whole or cut off (rlog_cut()); or -errno. */
int rlog_next(struct rlog_reader *in, struct rlog_rec *ret, struct err *e) must_check;

/* It ended inside of a part. */
bool rlog_cut(const struct rlog_reader *in);

#endif
