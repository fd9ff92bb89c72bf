/* SPDX-License-Identifier: Apache-2.0 */
/* Handlers that are not written yet: each raises #UD. Who writes one takes its line away. */
#include "vm/cpu/soft/handlers.h"
#include "vm/cpu/soft/int.h"
#include "vm/cpu/soft/native.h"
#include "vm/cpu/soft/soft.h"

#define MISSING(name) \
	void name(struct soft_cpu *c, unused_arg const struct insn *i) \
	{ \
		soft_fault_no_error(c, CPU_UD); \
	}
#define MISSING_PICK(name) \
	insn_fn *name(unused_arg const struct insn *i, unused_arg enum insn_mode mode) \
	{ \
		return op_ud; \
	}

SOFT_FLOW_HANDLERS(MISSING)
SOFT_SYSTEM_HANDLERS(MISSING)
SOFT_FLOW_PICKERS(MISSING_PICK)
