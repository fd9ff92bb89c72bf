/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The functions that instructions end in, by name. The table (table.c) points to them: a row has
 * either one handler, an insn_fn that looks at i->op_bytes and i->rm itself, which finds RIP and
 * next_rip in the state and returns; or a picker, which the decoder calls once with the decoded
 * instruction and whose answer, a threaded function, is then run. A picker is the place to
 * specialise by operand size, address form, condition or mode; what is common deserves one.
 *
 *	insn_fn *pick_push_r(const struct insn *i, enum insn_mode mode)
 *	{
 *		return i->op_bytes == 8 ? push_r_8 : i->op_bytes == 4 ? push_r_4 : push_r_2;
 *	}
 *
 * What a handler finds in struct insn: op_bytes is the effective operand size with the defaults
 * of 64-bit mode applied (8 for PUSH, POP, CALL, RET, JMP near, Jcc, LOOP, ENTER, LEAVE, LGDT,
 * MOV CR/DR; 2 with 66 where that is legal); ad_bytes the effective address size; imm is
 * sign-extended to 64 bits, also jump distances (relative to next_rip); prefix has INSN_REP and
 * INSN_REPNE for the string instructions; seg is that of the memory operand or of the string's
 * source (override applied); reg is the segment, control or debug register of MOV, PUSH and POP.
 * The decoder has refused what is #UD by its encoding alone: mode, LOCK, register forms of
 * memory-only rows, bad segment registers. Privilege, CR0 and CR4 are the handler's to check, and
 * CPUID features those of the handler where the row names one: soft_need_feature().
 */
#ifndef VM_CPU_SOFT_HANDLERS_H
#define VM_CPU_SOFT_HANDLERS_H

#include "vm/cpu/soft/insn.h"

/* Stack, control flow, strings, system: flow.c, string.c, system.c. */
#define SOFT_FLOW_HANDLERS(X) \
	X(op_push_rm) X(op_push_seg) X(op_pop_rm) X(op_pop_seg) \
	X(op_pusha) X(op_popa) X(op_pushf) X(op_popf) X(op_enter) X(op_leave) \
	X(op_call_far_ptr) X(op_call_far_m) X(op_jmp_far_ptr) \
	X(op_jmp_far_m) X(op_ret_imm) X(op_ret_far) X(op_ret_far_imm) X(op_iret) \
	X(op_loopne) X(op_loope) X(op_loop) X(op_jcxz) \
	X(op_int3) X(op_int) X(op_into) X(op_int1) X(op_bound) \
	X(op_movs) X(op_stos) X(op_ins) X(op_outs) X(op_cmps) X(op_lods) X(op_scas) \
	X(op_in_imm) X(op_in_dx) X(op_out_imm) X(op_out_dx) X(op_xlat)

#define SOFT_SYSTEM_HANDLERS(X) \
	X(op_arpl) X(op_mov_rm_seg) X(op_mov_seg_rm) X(op_load_far) /* LES LDS LSS LFS LGS */ \
	X(op_mov_r_cr) X(op_mov_cr_r) X(op_mov_r_dr) X(op_mov_dr_r) \
	X(op_cli) X(op_sti) X(op_clac) X(op_stac) X(op_hlt) \
	X(op_sldt) X(op_str) X(op_lldt) X(op_ltr) X(op_verr) X(op_verw) \
	X(op_sgdt) X(op_sidt) X(op_lgdt) X(op_lidt) X(op_smsw) X(op_lmsw) X(op_invlpg) \
	X(op_swapgs) X(op_rdtscp) X(op_xgetbv) X(op_xsetbv) X(op_vmcall) X(op_serialize) \
	X(op_lar) X(op_lsl) X(op_syscall) X(op_sysret) X(op_sysenter) X(op_sysexit) X(op_clts) \
	X(op_invd) X(op_wbinvd) X(op_rdmsr) X(op_wrmsr) X(op_rdtsc) X(op_rdpmc) X(op_cpuid) \
	X(op_rdpid) X(op_rdfsbase) X(op_rdgsbase) X(op_wrfsbase) X(op_wrgsbase) X(op_invpcid) \
	X(op_cmpxchg8b) X(op_cmpxchg16b) \
	X(op_fxsave) X(op_fxrstor) X(op_xsave) X(op_xrstor) X(op_xsaveopt) X(op_xsavec) \
	X(op_fldenv) X(op_fnstenv) X(op_frstor) X(op_fnsave) \
	X(op_maskmovq) X(op_maskmovdqu) X(op_vmaskmov) X(op_vgather)

#define SOFT_FLOW_PICKERS(X) \
	X(pick_push_r) X(pick_push_imm) X(pick_pop_r) X(pick_call_rel) X(pick_jmp_rel) \
	X(pick_call_rm) X(pick_jmp_rm) X(pick_ret) X(pick_jcc) /* condition: opcode & 15 */

#define HANDLERS__DECLARE(name) insn_fn name;
#define HANDLERS__DECLARE_PICK(name) insn_pick name;
SOFT_FLOW_HANDLERS(HANDLERS__DECLARE)
SOFT_SYSTEM_HANDLERS(HANDLERS__DECLARE)
SOFT_FLOW_PICKERS(HANDLERS__DECLARE_PICK)

/* Everything else: int.c and native.c. */
insn_fn op_ud;       /* raises #UD */
insn_fn insn_ud;     /* the same, threaded */

#endif
