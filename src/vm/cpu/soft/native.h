/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Instructions that run on the host's own unit: x87, MMX, SSE, AVX, and the rarer integer ones.
 */
#ifndef VM_CPU_SOFT_NATIVE_H
#define VM_CPU_SOFT_NATIVE_H

#include "vm/cpu/soft/insn.h"

/* Give a decoded instruction, whose row has no handler of its own, its function and stub. */
void native_bind(struct insn *i, enum insn_mode mode);

#endif
