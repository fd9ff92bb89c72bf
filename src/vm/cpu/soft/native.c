/* SPDX-License-Identifier: Apache-2.0 */
#include "vm/cpu/soft/handlers.h"
#include "vm/cpu/soft/int.h"
#include "vm/cpu/soft/native.h"
#include "vm/cpu/soft/soft.h"

void native_bind(struct insn *i, unused_arg enum insn_mode mode)
{
	i->fn = op_ud;
}
void op_ldmxcsr(struct soft_cpu *c, unused_arg const struct insn *i) { soft_fault_no_error(c, CPU_UD); }
void op_stmxcsr(struct soft_cpu *c, unused_arg const struct insn *i) { soft_fault_no_error(c, CPU_UD); }
void op_vzeroall(struct soft_cpu *c, unused_arg const struct insn *i) { soft_fault_no_error(c, CPU_UD); }
void op_vzeroupper(struct soft_cpu *c, unused_arg const struct insn *i) { soft_fault_no_error(c, CPU_UD); }
