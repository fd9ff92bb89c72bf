/* SPDX-License-Identifier: Apache-2.0 */
#include "vm/cpu/soft/handlers.h"
#include "vm/cpu/soft/native.h"

void native_bind(struct insn *i, unused_arg enum insn_mode mode)
{
	i->fn = op_ud;
}
