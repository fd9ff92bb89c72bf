/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Integer instructions by hand, for speed: specialised by operand size and by register or
 * memory when they are decoded.
 */
#ifndef VM_CPU_SOFT_INT_H
#define VM_CPU_SOFT_INT_H

#include "vm/cpu/soft/insn.h"

#define INT_HANDLERS(X) \
	X(op_aaa) X(op_aad) X(op_aam) X(op_aas) X(op_clc) X(op_cld) X(op_clflush) X(op_cmc) \
	X(op_daa) X(op_das) X(op_lahf) X(op_ldmxcsr) X(op_mfence) \
	X(op_sahf) X(op_salc) X(op_stc) X(op_std) X(op_stmxcsr) X(op_vzeroall) X(op_vzeroupper)

#define INT_PICKERS(X) \
	X(pick_add_rm_r) X(pick_add_r_rm) X(pick_add_a_imm) X(pick_add_rm_imm) X(pick_or_rm_r) \
	X(pick_or_r_rm) X(pick_or_a_imm) X(pick_or_rm_imm) X(pick_adc_rm_r) X(pick_adc_r_rm) \
	X(pick_adc_a_imm) X(pick_adc_rm_imm) X(pick_sbb_rm_r) X(pick_sbb_r_rm) \
	X(pick_sbb_a_imm) X(pick_sbb_rm_imm) X(pick_and_rm_r) X(pick_and_r_rm) \
	X(pick_and_a_imm) X(pick_and_rm_imm) X(pick_sub_rm_r) X(pick_sub_r_rm) \
	X(pick_sub_a_imm) X(pick_sub_rm_imm) X(pick_xor_rm_r) X(pick_xor_r_rm) \
	X(pick_xor_a_imm) X(pick_xor_rm_imm) X(pick_cmp_rm_r) X(pick_cmp_r_rm) \
	X(pick_cmp_a_imm) X(pick_cmp_rm_imm) X(pick_rol_imm) X(pick_rol_one) X(pick_rol_cl) \
	X(pick_ror_imm) X(pick_ror_one) X(pick_ror_cl) X(pick_rcl_imm) X(pick_rcl_one) \
	X(pick_rcl_cl) X(pick_rcr_imm) X(pick_rcr_one) X(pick_rcr_cl) X(pick_shl_imm) \
	X(pick_shl_one) X(pick_shl_cl) X(pick_shr_imm) X(pick_shr_one) X(pick_shr_cl) \
	X(pick_sar_imm) X(pick_sar_one) X(pick_sar_cl) X(pick_bt_r) X(pick_bt_imm) \
	X(pick_bts_r) X(pick_bts_imm) X(pick_btr_r) X(pick_btr_imm) X(pick_btc_r) \
	X(pick_btc_imm) X(pick_not) X(pick_neg) X(pick_mul) X(pick_imul) X(pick_div) \
	X(pick_idiv) X(pick_inc) X(pick_dec) X(pick_bsf) X(pick_bsr) X(pick_bswap) X(pick_cdq) \
	X(pick_cmov) X(pick_cmpxchg) X(pick_cwde) X(pick_dec_z) X(pick_imul_2) X(pick_imul_3) \
	X(pick_inc_z) X(pick_lea) X(pick_lzcnt) X(pick_mov_a_moffs) X(pick_mov_moffs_a) \
	X(pick_mov_r_rm) X(pick_mov_rm_imm) X(pick_mov_rm_r) X(pick_mov_z_imm) \
	X(pick_movbe_load) X(pick_movbe_store) X(pick_movnti) X(pick_movsx_b) X(pick_movsx_w) \
	X(pick_movsxd) X(pick_movzx_b) X(pick_movzx_w) X(pick_nop) X(pick_set) X(pick_shld_cl) \
	X(pick_shld_imm) X(pick_shrd_cl) X(pick_shrd_imm) X(pick_test_a_imm) \
	X(pick_test_rm_imm) X(pick_test_rm_r) X(pick_tzcnt) X(pick_xadd) X(pick_xchg_rm_r) \
	X(pick_xchg_z_a) X(pick_prefetchw)

#define INT__DECLARE(name) insn_fn name;
#define INT__DECLARE_PICK(name) insn_pick name;
INT_HANDLERS(INT__DECLARE)
INT_PICKERS(INT__DECLARE_PICK)

#endif
