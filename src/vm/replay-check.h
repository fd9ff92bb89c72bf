/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The checks of a recording: each holds what changed in a vCPU's registers since its last one, and
 * a hash of all checks so far. A chain is where a reader or a writer of them stands.
 */
#ifndef VM_REPLAY_CHECK_H
#define VM_REPLAY_CHECK_H

#include "vm/replay-regs.h"
#include "vm/replay/rlog.h"
#include "vm/vm.h"

enum { CHECK_DATA_MAX = REGS_WORDS / 8 + 8 * REGS_WORDS };

struct check_chain {
	uint64_t hash;
	uint64_t last[VM_VCPUS_MAX][REGS_WORDS];
};

/* Go on by what a vCPU has now. Fills value, data and len of a record; the data is `buf`. */
void check_put(struct check_chain *c, unsigned cpu, const uint64_t now[REGS_WORDS],
	       uint8_t buf[CHECK_DATA_MAX], struct rlog_rec *ret);

/* Go on by a record, whose hash is not looked at. -EBADMSG: it is none. */
int check_take(struct check_chain *c, const struct rlog_rec *rec, unsigned n_cpus) must_check;

struct check_text {
	char text[400];
};

/* The registers that are not the same: "rax 0x1 (was 0x2), ..." */
struct check_text check_names(const uint64_t now[REGS_WORDS], const uint64_t was[REGS_WORDS]);

/* What a record says, in words; NULL: the end. */
struct rlog_words {
	char text[96];
};
struct rlog_words rlog_words(const struct rlog_rec *rec);

#endif
