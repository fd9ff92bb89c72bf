/* SPDX-License-Identifier: Apache-2.0 */
/* CMPXCHG8B and CMPXCHG16B: the host's own, with the guest's RCX in its place meanwhile. */
#include "vm/cpu/soft/handlers.h"
#include "vm/cpu/soft/xl-parts.h"

bool xl_wide(struct xl_tr *t)
{
	const struct insn *i = &t->insns[t->k].i;
	insn_fn *fn = insn_table[i->row].fn;
	bool sixteen = fn == op_cmpxchg16b;
	unsigned lock = i->prefix & INSN_LOCK ? (unsigned)XE_LOCK : 0;
	unsigned how = (sixteen ? (unsigned)XE_W : 0) | lock;

	if ((!sixteen && fn != op_cmpxchg8b) || xl_decoded(t)->fn == insn_ud ||
	    !(t->c->features & BIT(insn_feature(i)))) {
		return false;
	}
	(sixteen ? xl_aligned_to_r11 : xl_operand_to_r11)(t, sixteen ? 16 : 8, true);
	xf_need_host(t);           /* all but ZF stay */
	xf_written(t, (unsigned)(BIT(CPU_RAX) | BIT(CPU_RDX)));
	xe_mov(&t->e, XR_CX, XR_10);
	xe_op(&t->e, how, 1, 0xc7, 1, xl_mem(XR_11, 0));
	xf_set(t, &(struct xl_recipe){ .kind = XRC_NONE });
	return true;
}
