/* SPDX-License-Identifier: Apache-2.0 */
#include "vm/cpu/soft/handlers.h"
#include "vm/cpu/soft/int.h"
#include "vm/cpu/soft/soft.h"

void op_ud(struct soft_cpu *c, unused_arg const struct insn *i)
{
	soft_fault_no_error(c, CPU_UD);
}

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
INT_HANDLERS(MISSING)
INT_PICKERS(MISSING_PICK)
