/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The stack, jumps and calls inside a segment, software interrupts.
 *
 * The stack pointer changes after the access: one that faults leaves it as it was.
 */
#include "vm/cpu/soft/handlers.h"
#include "vm/cpu/soft/priv.h"

/* --- Helpers of all --- */

uint64_t soft_stack_mask(const struct soft_cpu *c)
{
	return c->stack_bytes == 8 ? UINT64_MAX : c->stack_bytes == 4 ? UINT32_MAX : 0xffff;
}

static void sp_set(struct soft_cpu *c, uint64_t v)
{
	soft_reg_set(c, CPU_RSP, c->stack_bytes, v);
}

void soft_sp_add(struct soft_cpu *c, uint64_t n)
{
	sp_set(c, c->s.gpr[CPU_RSP] + n);
}

void soft_push(struct soft_cpu *c, unsigned bytes, uint64_t v)
{
	uint64_t sp = (c->s.gpr[CPU_RSP] - bytes) & soft_stack_mask(c);

	soft_store(c, soft_linear(c, CPU_SS, sp, bytes, SOFT_WRITE), bytes, v);
	sp_set(c, sp);
}

uint64_t soft_peek(struct soft_cpu *c, unsigned off, unsigned bytes)
{
	uint64_t sp = (c->s.gpr[CPU_RSP] + off) & soft_stack_mask(c);

	return soft_load(c, soft_linear(c, CPU_SS, sp, bytes, SOFT_READ), bytes);
}

uint64_t soft_pop(struct soft_cpu *c, unsigned bytes)
{
	uint64_t v = soft_peek(c, 0, bytes);

	soft_sp_add(c, bytes);
	return v;
}

uint64_t soft_rm_get(struct soft_cpu *c, const struct insn *i, unsigned bytes)
{
	if (i->rm != INSN_NONE) {
		return soft_cut(c->s.gpr[i->rm], bytes);
	}
	return soft_load(c, soft_linear(c, i->seg, soft_ea(c, i), bytes, SOFT_READ), bytes);
}

void soft_rm_set(struct soft_cpu *c, const struct insn *i, unsigned bytes, uint64_t v)
{
	if (i->rm != INSN_NONE) {
		soft_reg_set(c, i->rm, bytes, v);
		return;
	}
	soft_store(c, soft_linear(c, i->seg, soft_ea(c, i), bytes, SOFT_WRITE), bytes, v);
}

/* --- Push and pop --- */

/*
 * In 64-bit mode with the usual size the stack is flat. The word at an address, if the TLB has its
 * page, which says that the address is canonical; NULL: the general form begins again.
 */
typedef volatile uint64_t __attribute__((aligned(1), may_alias)) stack_word;

static inline stack_word *stack_hit(struct soft_cpu *c, uint64_t at, bool write)
{
	const struct soft_tlb_entry *e = soft__tlb(c, at);

	uint64_t off = at - (write ? e->tag_write : e->tag_read);

	return __builtin_expect(off <= GMEM_PAGE_BYTES - 8, 1) ?
		(stack_word *)soft_tlb_host(e, at) : NULL;
}

#define PUSH_64(name, general, value) \
	static void name(struct soft_cpu *c, const struct insn *i) \
	{ \
		uint64_t sp = c->s.gpr[CPU_RSP] - 8; \
		stack_word *word = stack_hit(c, sp, true); \
		if (!word) { \
			general(c, i); \
			return; \
		} \
		*word = value; \
		c->s.gpr[CPU_RSP] = sp; \
		soft_next(c, i); \
	}

SOFT_FN(push_r)
{
	soft_push(c, i->op_bytes, c->s.gpr[i->rm]);
}

PUSH_64(push_r_64, push_r, c->s.gpr[i->rm])

insn_fn *pick_push_r(const struct insn *i, enum insn_mode mode)
{
	return mode == INSN_MODE_64 && i->op_bytes == 8 ? push_r_64 : push_r;
}

SOFT_FN(push_imm)
{
	soft_push(c, i->op_bytes, i->imm);
}

PUSH_64(push_imm_64, push_imm, i->imm)

insn_fn *pick_push_imm(const struct insn *i, enum insn_mode mode)
{
	return mode == INSN_MODE_64 && i->op_bytes == 8 ? push_imm_64 : push_imm;
}

SOFT_FN(pop_r)
{
	uint64_t v = soft_pop(c, i->op_bytes);

	soft_reg_set(c, i->rm, i->op_bytes, v);
}

static void pop_r_64(struct soft_cpu *c, const struct insn *i)
{
	uint64_t sp = c->s.gpr[CPU_RSP];
	const stack_word *word = stack_hit(c, sp, false);

	if (!word) {
		pop_r(c, i);
		return;
	}
	c->s.gpr[CPU_RSP] = sp + 8;
	c->s.gpr[i->rm] = *word;
	soft_next(c, i);
}

insn_fn *pick_pop_r(const struct insn *i, enum insn_mode mode)
{
	return mode == INSN_MODE_64 && i->op_bytes == 8 ? pop_r_64 : pop_r;
}

void op_push_rm(struct soft_cpu *c, const struct insn *i)
{
	soft_push(c, i->op_bytes, soft_rm_get(c, i, i->op_bytes));
}

/* An address with the stack pointer in it is taken with its new value. */
void op_pop_rm(struct soft_cpu *c, const struct insn *i)
{
	uint64_t old = c->s.gpr[CPU_RSP], v = soft_peek(c, 0, i->op_bytes), linear = 0;

	if (i->rm != INSN_NONE) {
		soft_sp_add(c, i->op_bytes);
		soft_reg_set(c, i->rm, i->op_bytes, v);
		return;
	}
	soft_sp_add(c, i->op_bytes);
	uint64_t ea = soft_ea(c, i), new_sp = c->s.gpr[CPU_RSP];

	c->s.gpr[CPU_RSP] = old;
	linear = soft_linear(c, i->seg, ea, i->op_bytes, SOFT_WRITE);
	soft_store(c, linear, i->op_bytes, v);
	c->s.gpr[CPU_RSP] = new_sp;
}

/* Two bytes are written, whatever the operand size says; the pointer moves by all of it. */
void op_push_seg(struct soft_cpu *c, const struct insn *i)
{
	unsigned n = i->op_bytes;
	uint64_t sp = (c->s.gpr[CPU_RSP] - n) & soft_stack_mask(c);
	uint16_t v = c->s.seg[i->reg].selector;
	unsigned written = n == 8 ? 8 : 2;

	soft_store(c, soft_linear(c, CPU_SS, sp, written, SOFT_WRITE), written, v);
	sp_set(c, sp);
}

static void shadow_mov_ss(struct soft_cpu *c)
{
	/* Two in a row hold off once. */
	if (!c->shadow_was) {
		c->s.events.shadow_mov_ss = true;
	}
}

void op_pop_seg(struct soft_cpu *c, const struct insn *i)
{
	uint16_t v = (uint16_t)soft_peek(c, 0, i->op_bytes == 8 ? 8 : 2);

	if (i->reg == CPU_SS) {
		/* The size of the stack may change: the old one counts. */
		unsigned n = c->stack_bytes;

		soft_seg_load(c, CPU_SS, v);
		soft_reg_set(c, CPU_RSP, n, c->s.gpr[CPU_RSP] + i->op_bytes);
		shadow_mov_ss(c);
		soft_mode_update(c);
		return;
	}
	soft_seg_load(c, i->reg, v);
	soft_sp_add(c, i->op_bytes);
}

void op_mov_seg_rm(struct soft_cpu *c, const struct insn *i)
{
	uint16_t v = (uint16_t)soft_rm_get(c, i, 2);

	soft_seg_load(c, i->reg, v);
	if (i->reg == CPU_SS) {
		shadow_mov_ss(c);
		soft_mode_update(c);
	}
}

void op_mov_rm_seg(struct soft_cpu *c, const struct insn *i)
{
	uint16_t v = c->s.seg[i->reg].selector;

	if (i->rm != INSN_NONE) {
		soft_reg_set(c, i->rm, i->op_bytes, v);
	} else {
		soft_rm_set(c, i, 2, v);
	}
}

void op_load_far(struct soft_cpu *c, const struct insn *i)
{
	static const uint8_t by_0f[] = { CPU_SS, 0, CPU_FS, CPU_GS };   /* B2, B4, B5 */
	uint64_t ea = soft_ea(c, i);
	uint64_t off = soft_load(c, soft_linear(c, i->seg, ea, i->op_bytes, SOFT_READ),
				 i->op_bytes);
	uint64_t at = soft_cut(ea + i->op_bytes, i->ad_bytes);
	uint16_t sel = (uint16_t)soft_load(c, soft_linear(c, i->seg, at, 2, SOFT_READ), 2);
	unsigned seg = i->map == INSN_MAP_1 ? (i->opcode == 0xc4 ? CPU_ES : CPU_DS)
		       : i->opcode == 0xb2 ? CPU_SS
					   : by_0f[i->opcode - 0xb2];

	soft_seg_load(c, seg, sel);
	soft_reg_set(c, i->reg, i->op_bytes, off);
	if (seg == CPU_SS) {
		soft_mode_update(c);
	}
}

void op_pusha(struct soft_cpu *c, const struct insn *i)
{
	uint64_t sp = c->s.gpr[CPU_RSP], at = sp;

	for (unsigned k = 0; k < 8; k++) {
		at = (at - i->op_bytes) & soft_stack_mask(c);
		soft_store(c, soft_linear(c, CPU_SS, at, i->op_bytes, SOFT_WRITE), i->op_bytes,
			   c->s.gpr[k]);
	}
	sp_set(c, at);
}

void op_popa(struct soft_cpu *c, const struct insn *i)
{
	uint64_t v[8] = { 0 };

	for (unsigned k = 0; k < 8; k++) {
		v[7 - k] = soft_peek(c, k * i->op_bytes, i->op_bytes);
	}
	for (unsigned k = 0; k < 8; k++) {
		if (k != CPU_RSP) {
			soft_reg_set(c, k, i->op_bytes, v[k]);
		}
	}
	soft_sp_add(c, 8u * i->op_bytes);
}

static bool vm86_denied(const struct soft_cpu *c)
{
	return (c->s.rflags & CPU_FLAG_VM) && (c->s.rflags & CPU_FLAG_IOPL) != CPU_FLAG_IOPL;
}

void op_pushf(struct soft_cpu *c, const struct insn *i)
{
	uint64_t v = soft_flags_get(c) & ~(uint64_t)(CPU_FLAG_VM | CPU_FLAG_RF);

	if (vm86_denied(c)) {
		soft_fault(c, CPU_GP, 0);
	}
	soft_push(c, i->op_bytes, v);
}

void op_popf(struct soft_cpu *c, const struct insn *i)
{
	uint64_t old = soft_flags_get(c), mask = 0, v = 0;
	unsigned iopl = old >> 12 & 3;

	if (vm86_denied(c)) {
		soft_fault(c, CPU_GP, 0);
	}
	v = soft_pop(c, i->op_bytes);
	mask = SOFT_ARITH | CPU_FLAG_OF | CPU_FLAG_TF | CPU_FLAG_DF | CPU_FLAG_NT;
	if (i->op_bytes > 2) {
		mask |= CPU_FLAG_AC | CPU_FLAG_ID;
		old &= ~(uint64_t)CPU_FLAG_RF;
	}
	if (c->cpl <= iopl || (old & CPU_FLAG_VM)) {
		mask |= CPU_FLAG_IF;
	}
	if (c->cpl == 0) {
		mask |= CPU_FLAG_IOPL;
	}
	soft_flags_set(c, (old & ~mask) | (v & mask));
	if (((old ^ c->s.rflags) & (CPU_FLAG_TF | CPU_FLAG_AC | CPU_FLAG_RF)) ||
	    (c->s.rflags & CPU_FLAG_TF)) {
		soft_mode_update(c);
	}
	if (!(old & CPU_FLAG_IF) && (c->s.rflags & CPU_FLAG_IF)) {
		soft_if_on(c);
	}
}

void op_enter(struct soft_cpu *c, const struct insn *i)
{
	unsigned n = i->op_bytes, level = i->imm2 & 31;
	uint64_t mask = soft_stack_mask(c), sp = (c->s.gpr[CPU_RSP] - n) & mask;
	/* Of a 16-bit stack's pointer all goes into the frame pointer. */
	uint64_t bp = c->s.gpr[CPU_RBP], frame = (c->s.gpr[CPU_RSP] & ~mask) | sp;

	soft_store(c, soft_linear(c, CPU_SS, sp, n, SOFT_WRITE), n, bp);
	for (unsigned k = 1; k < level; k++) {
		uint64_t v = 0;

		bp = (bp - n) & mask;
		v = soft_load(c, soft_linear(c, CPU_SS, bp, n, SOFT_READ), n);
		sp = (sp - n) & mask;
		soft_store(c, soft_linear(c, CPU_SS, sp, n, SOFT_WRITE), n, v);
	}
	if (level > 0) {
		sp = (sp - n) & mask;
		soft_store(c, soft_linear(c, CPU_SS, sp, n, SOFT_WRITE), n, frame);
	}
	sp = (sp - (uint16_t)i->imm) & mask;
	/* The new top must be writable. */
	soft_probe_write(c, soft_linear(c, CPU_SS, sp, n, SOFT_WRITE), n);
	soft_reg_set(c, CPU_RBP, n, frame);
	sp_set(c, sp);
}

void op_leave(struct soft_cpu *c, const struct insn *i)
{
	uint64_t bp = c->s.gpr[CPU_RBP] & soft_stack_mask(c);
	uint64_t v = soft_load(c, soft_linear(c, CPU_SS, bp, i->op_bytes, SOFT_READ), i->op_bytes);

	sp_set(c, bp + i->op_bytes);
	soft_reg_set(c, CPU_RBP, i->op_bytes, v);
}

/* --- Near transfers, which are the last of their block --- */

static inline void check_target(struct soft_cpu *c, uint64_t rip)
{
	if (c->mode == INSN_MODE_64) {
		if (__builtin_expect(!soft_canonical(rip), 0)) {
			soft_fault(c, CPU_GP, 0);
		}
	} else if (rip > c->s.seg[CPU_CS].limit) {
		soft_fault(c, CPU_GP, 0);
	}
}

/* Of handlers that are not threaded, too. */
static inline void jump(struct soft_cpu *c, uint64_t rip)
{
	check_target(c, rip);
	c->next_rip = rip;
}

/* A threaded function that ends its block. */
#define LAST_FN(name) \
	static inline __attribute__((always_inline)) void \
	name##__body(struct soft_cpu *c, const struct insn *i); \
	static void name(struct soft_cpu *c, const struct insn *i) \
	{ \
		c->at = i; \
		name##__body(c, i); \
	} \
	static inline __attribute__((always_inline)) void \
	name##__body(unused_arg struct soft_cpu *c, unused_arg const struct insn *i)

/* Distances are from the end of the instruction. */
static inline uint64_t target_64(const struct soft_cpu *c, const struct insn *i)
{
	return soft_rip_after(c, i) + i->imm;
}

static inline uint64_t target(const struct soft_cpu *c, const struct insn *i)
{
	return soft_cut(soft_rip_after(c, i) + i->imm, i->op_bytes);
}

LAST_FN(jmp_rel_64)
{
	soft_go_linked(c, SOFT_TAKEN, target_64(c, i));
}

LAST_FN(jmp_rel)
{
	jump(c, target(c, i));
}

insn_fn *pick_jmp_rel(const struct insn *i, enum insn_mode mode)
{
	return mode == INSN_MODE_64 && i->op_bytes == 8 ? jmp_rel_64 : jmp_rel;
}

/* In 64-bit mode: to a block that is known, or whatever is there. */
static inline struct soft_block *known_or_checked(struct soft_cpu *c, uint64_t to)
{
	struct soft_block *b = soft_block_known(c, to);

	if (__builtin_expect(!b && !soft_canonical(to), 0)) {
		soft_fault(c, CPU_GP, 0);
	}
	return b;
}

static __attribute__((noinline)) void call_to(struct soft_cpu *c, const struct insn *i, uint64_t to)
{
	check_target(c, to);
	soft_push(c, i->op_bytes, soft_rip_after(c, i));
	c->next_rip = to;
}

LAST_FN(call_rel)
{
	call_to(c, i, target(c, i));
}

#define CALL_64(name, where) \
	LAST_FN(name) \
	{ \
		uint64_t to = where, sp = c->s.gpr[CPU_RSP] - 8; \
		struct soft_block *b = known_or_checked(c, to); \
		stack_word *word = stack_hit(c, sp, true); \
		if (!word) { \
			call_to(c, i, to); \
			return; \
		} \
		*word = soft_rip_after(c, i); \
		c->s.gpr[CPU_RSP] = sp; \
		soft_go_known(c, b, to); \
	}
CALL_64(call_rel_64, target_64(c, i))

insn_fn *pick_call_rel(const struct insn *i, enum insn_mode mode)
{
	return mode == INSN_MODE_64 && i->op_bytes == 8 ? call_rel_64 : call_rel;
}

LAST_FN(call_rm)
{
	call_to(c, i, soft_rm_get(c, i, i->op_bytes));
}

CALL_64(call_rm_64, soft_rm_get(c, i, 8))

insn_fn *pick_call_rm(const struct insn *i, enum insn_mode mode)
{
	return mode == INSN_MODE_64 && i->op_bytes == 8 ? call_rm_64 : call_rm;
}

LAST_FN(jmp_rm_64)
{
	uint64_t to = soft_rm_get(c, i, 8);

	soft_go_known(c, known_or_checked(c, to), to);
}

LAST_FN(jmp_rm)
{
	jump(c, soft_rm_get(c, i, i->op_bytes));
}

insn_fn *pick_jmp_rm(const struct insn *i, enum insn_mode mode)
{
	return mode == INSN_MODE_64 && i->op_bytes == 8 ? jmp_rm_64 : jmp_rm;
}

LAST_FN(ret)
{
	jump(c, soft_peek(c, 0, i->op_bytes));
	soft_sp_add(c, i->op_bytes);
}

LAST_FN(ret_64)
{
	uint64_t sp = c->s.gpr[CPU_RSP];
	const stack_word *word = stack_hit(c, sp, false);

	if (!word) {
		ret(c, i);
		return;
	}
	uint64_t to = *word;
	struct soft_block *b = known_or_checked(c, to);

	c->s.gpr[CPU_RSP] = sp + 8;
	soft_go_known(c, b, to);
}

insn_fn *pick_ret(const struct insn *i, enum insn_mode mode)
{
	return mode == INSN_MODE_64 && i->op_bytes == 8 ? ret_64 : ret;
}

void op_ret_imm(struct soft_cpu *c, const struct insn *i)
{
	jump(c, soft_peek(c, 0, i->op_bytes));
	soft_sp_add(c, i->op_bytes + (uint64_t)(uint16_t)i->imm);
}

/* --- Conditions --- */

enum { AH_CF = 1 << 8, AH_PF = 4 << 8, AH_ZF = 0x40 << 8, AH_SF = 0x80 << 8, AL_OF = 1 };

static inline bool less(const struct soft_cpu *c)
{
	return ((c->flags >> 15) ^ c->flags) & 1;
}

#define JCC(name, condition) \
	LAST_FN(jcc_##name) \
	{ \
		if (condition) { \
			jump(c, target(c, i)); \
		} else { \
			c->next_rip = soft_rip_after(c, i); \
		} \
	} \
	LAST_FN(jcc_64_##name) \
	{ \
		if (condition) { \
			soft_go_linked(c, SOFT_TAKEN, target_64(c, i)); \
		} else { \
			soft_go_linked(c, SOFT_ON, soft_rip_after(c, i)); \
		} \
	}

JCC(o, c->flags & AL_OF)
JCC(no, !(c->flags & AL_OF))
JCC(b, c->flags & AH_CF)
JCC(ae, !(c->flags & AH_CF))
JCC(e, c->flags & AH_ZF)
JCC(ne, !(c->flags & AH_ZF))
JCC(be, c->flags & (AH_CF | AH_ZF))
JCC(a, !(c->flags & (AH_CF | AH_ZF)))
JCC(s, c->flags & AH_SF)
JCC(ns, !(c->flags & AH_SF))
JCC(p, c->flags & AH_PF)
JCC(np, !(c->flags & AH_PF))
JCC(l, less(c))
JCC(ge, !less(c))
JCC(le, (c->flags & AH_ZF) || less(c))
JCC(g, !(c->flags & AH_ZF) && !less(c))

insn_fn *pick_jcc(const struct insn *i, enum insn_mode mode)
{
	static insn_fn *const wide[16] = {
		jcc_64_o, jcc_64_no, jcc_64_b, jcc_64_ae, jcc_64_e, jcc_64_ne, jcc_64_be, jcc_64_a,
		jcc_64_s, jcc_64_ns, jcc_64_p, jcc_64_np, jcc_64_l, jcc_64_ge, jcc_64_le, jcc_64_g,
	};
	static insn_fn *const narrow[16] = {
		jcc_o, jcc_no, jcc_b, jcc_ae, jcc_e, jcc_ne, jcc_be, jcc_a,
		jcc_s, jcc_ns, jcc_p, jcc_np, jcc_l, jcc_ge, jcc_le, jcc_g,
	};

	return (mode == INSN_MODE_64 && i->op_bytes == 8 ? wide : narrow)[i->opcode & 15];
}

static void loop_if(struct soft_cpu *c, const struct insn *i, bool also)
{
	uint64_t n = soft_cut(c->s.gpr[CPU_RCX] - 1, i->ad_bytes);
	uint64_t to = soft_cut(c->next_rip + i->imm, i->op_bytes);

	if (n != 0 && also) {
		jump(c, to);
	}
	soft_reg_set(c, CPU_RCX, i->ad_bytes, n);
}

void op_loop(struct soft_cpu *c, const struct insn *i)
{
	loop_if(c, i, true);
}

void op_loope(struct soft_cpu *c, const struct insn *i)
{
	loop_if(c, i, (c->flags & AH_ZF) != 0);
}

void op_loopne(struct soft_cpu *c, const struct insn *i)
{
	loop_if(c, i, (c->flags & AH_ZF) == 0);
}

void op_jcxz(struct soft_cpu *c, const struct insn *i)
{
	if (soft_cut(c->s.gpr[CPU_RCX], i->ad_bytes) == 0) {
		jump(c, soft_cut(c->next_rip + i->imm, i->op_bytes));
	}
}

/* --- Software interrupts --- */

void op_int3(struct soft_cpu *c, const struct insn *i)
{
	(void)i;
	soft_trap(c, CPU_BP, true);
}

void op_int(struct soft_cpu *c, const struct insn *i)
{
	soft_trap(c, (uint8_t)i->imm, true);
}

void op_into(struct soft_cpu *c, const struct insn *i)
{
	(void)i;
	if (c->flags & AL_OF) {
		soft_trap(c, CPU_OF, true);
	}
}

void op_int1(struct soft_cpu *c, const struct insn *i)
{
	(void)i;
	soft_trap(c, CPU_DB, false);
}

void op_bound(struct soft_cpu *c, const struct insn *i)
{
	uint64_t ea = soft_ea(c, i);
	unsigned n = i->op_bytes;
	uint64_t low = soft_load(c, soft_linear(c, i->seg, ea, n, SOFT_READ), n);
	uint64_t at = soft_cut(ea + n, i->ad_bytes);
	uint64_t high = soft_load(c, soft_linear(c, i->seg, at, n, SOFT_READ), n);
	unsigned shift = 64 - 8 * n;
	int64_t v = (int64_t)(c->s.gpr[i->reg] << shift) >> shift;

	if (v < (int64_t)(low << shift) >> shift || v > (int64_t)(high << shift) >> shift) {
		soft_fault_no_error(c, CPU_BR);
	}
}
