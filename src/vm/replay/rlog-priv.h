/* SPDX-License-Identifier: Apache-2.0 */
/* The log's form in numbers; for rlog.c and its tests. */
#ifndef VM_REPLAY_RLOG_PRIV_H
#define VM_REPLAY_RLOG_PRIV_H

#include "vm/replay/rlog.h"

#define RLOG_MAGIC "HOLMRPLY"

enum {
	RLOG_VERSION = 3,
	RLOG_HEAD_BYTES = 16,
	RLOG_PART_HEAD_BYTES = 12,
	RLOG_PART_MAGIC = 0x54524150,      /* "PART" */
	RLOG_PART_MAX = 256 << 10,         /* bytes of records */
	RLOG_REC_MAX = RLOG_DATA_MAX + 64,
};

#endif
