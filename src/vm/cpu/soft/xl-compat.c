/* SPDX-License-Identifier: Apache-2.0 */
/*
 * 32-bit code: compatibility mode, and protected mode alike. Registers are where they are in 64-bit
 * mode; addresses are cut to 32 bits, as the host does for an LEA of that size. It is translated
 * only while CS, DS, ES and SS are flat, from 0 to 4 GiB, and what loads one of these ends its
 * block and leaves the code. FS and GS are looked at each time. All that is rare in 32-bit programs
 * is the interpreter's.
 */
#include "vm/cpu/soft/handlers.h"
#include "vm/cpu/soft/xl-parts.h"

enum {
	COND_NZ = 5, WORD = 4,
	/* Data that can be written, and does not expand down. */
	AR_MASK = CPU_AR_UNUSABLE | CPU_AR_P | CPU_AR_S | CPU_AR_CODE | CPU_AR_DC | CPU_AR_RW,
	AR_DATA = CPU_AR_P | CPU_AR_S | CPU_AR_RW,
};

static bool flat(const struct cpu_seg *s)
{
	return s->base == 0 && s->limit == UINT32_MAX && !(s->ar & CPU_AR_UNUSABLE);
}

static bool flat_data(const struct cpu_seg *s)
{
	return flat(s) && (s->ar & AR_MASK) == AR_DATA;
}

bool xl_compat_flat(const struct soft_cpu *c)
{
	const struct cpu_seg *seg = c->s.seg;

	return c->mode == INSN_MODE_32 && soft_protected(c) && flat(&seg[CPU_CS]) &&
	       c->stack_bytes == WORD && flat_data(&seg[CPU_SS]) && flat_data(&seg[CPU_DS]) &&
	       flat_data(&seg[CPU_ES]);
}

static struct xl_rm in_segment(unsigned seg, size_t field)
{
	return xl_gs(offsetof(struct soft_cpu, s.seg) + seg * sizeof(struct cpu_seg) + field);
}

void xl_compat_segment(struct xl_tr *t, unsigned seg)
{
	struct xl_code *e = &t->e;

	xf_clobber(t);
	xe_alu_imm(e, 0, 7, in_segment(seg, offsetof(struct cpu_seg, limit)), -1);
	xl_slow(t, COND_NZ);
	xe_load32(e, XR_CX, in_segment(seg, offsetof(struct cpu_seg, ar)));
	xe_alu_imm(e, 0, 4, xl_reg(XR_CX), AR_MASK);
	xe_alu_imm(e, 0, 7, xl_reg(XR_CX), AR_DATA);
	xl_slow(t, COND_NZ);
	xe_alu(e, 0, 0, XR_11, in_segment(seg, offsetof(struct cpu_seg, base)));
}

/* --- The stack --- */

/* Where so many bytes from a register of the host on are, to R11. */
static void stack_place(struct xl_tr *t, unsigned base, int32_t disp, bool write)
{
	xe_op(&t->e, 0, 0, 0x8d, XR_11, xl_mem(base, disp));
	xl_check_to_r11(t, WORD, write);
}

static void stack_by(struct xl_tr *t, int32_t by)
{
	xf_written(t, (unsigned)BIT(CPU_RSP));
	xe_op(&t->e, 0, 0, 0x8d, XR_9, xl_mem(XR_9, by));
}

static void push_host(struct xl_tr *t, unsigned host)
{
	xe_op(&t->e, 0, 0, 0x89, host, xl_mem(XR_11, 0));
	stack_by(t, -WORD);
}

static void push(struct xl_tr *t, unsigned guest)
{
	stack_place(t, XR_9, -WORD, true);
	push_host(t, xl_host(guest));
}

static void push_imm(struct xl_tr *t, uint32_t v)
{
	stack_place(t, XR_9, -WORD, true);
	xe_op(&t->e, 0, 0, 0xc7, 0, xl_mem(XR_11, 0));
	xe_n(&t->e, v, 4);
	stack_by(t, -WORD);
}

/* An operand of 32 bits to a scratch register. */
static void operand(struct xl_tr *t, const struct insn *i, unsigned to)
{
	if (i->rm == INSN_NONE) {
		xl_operand_to_r11(t, WORD, false);
		xe_load32(&t->e, to, xl_mem(XR_11, 0));
	} else {
		xe_load32(&t->e, to, xl_reg(xl_host(i->rm)));
	}
}

static void push_operand(struct xl_tr *t, const struct insn *i)
{
	operand(t, i, XR_CX);
	xe_store(&t->e, XR_CX, XG(xl_tmp));
	stack_place(t, XR_9, -WORD, true);
	xe_load(&t->e, XR_CX, XG(xl_tmp));
	push_host(t, XR_CX);
}

static void pop(struct xl_tr *t, unsigned guest)
{
	stack_place(t, XR_9, 0, false);
	if (guest != CPU_RSP) {
		stack_by(t, WORD);
	}
	xf_written(t, (unsigned)BIT(guest));
	xe_load32(&t->e, xl_host(guest), xl_mem(XR_11, 0));
}

static void leave(struct xl_tr *t)
{
	stack_place(t, XR_BP, 0, false);
	xf_written(t, (unsigned)(BIT(CPU_RSP) | BIT(CPU_RBP)));
	xe_op(&t->e, 0, 0, 0x8d, XR_9, xl_mem(XR_BP, WORD));
	xe_load32(&t->e, XR_BP, xl_mem(XR_11, 0));
}

static bool stack(struct xl_tr *t, const struct insn *i)
{
	if (i->opcode >= 0x50 && i->opcode <= 0x57) {
		push(t, i->rm);
	} else if (i->opcode >= 0x58 && i->opcode <= 0x5f) {
		pop(t, i->rm);
	} else if (i->opcode == 0x68 || i->opcode == 0x6a) {
		push_imm(t, (uint32_t)i->imm);
	} else if (i->opcode == 0xc9) {
		leave(t);
	} else if (i->opcode == 0xff && (i->modrm >> 3 & 7) == 6) {
		push_operand(t, i);
	} else {
		return false;
	}
	return true;
}

/* --- Calls, returns, indirect jumps --- */

/* The address behind the instruction, to where R11 points to; it is pushed then. */
static void push_next(struct xl_tr *t)
{
	xe_load(&t->e, XR_CX, XG(xl_page));
	xe_op(&t->e, 0, 0, 0x8d, XR_CX, xl_mem(XR_CX, (int32_t)xl_next_off(t)));
	push_host(t, XR_CX);
}

static void call(struct xl_tr *t, const struct insn *i)
{
	stack_place(t, XR_9, -WORD, true);
	push_next(t);
	xf_need_host(t);
	xl_go(t, (int64_t)xl_next_off(t) + (int64_t)i->imm);
}

static void ret(struct xl_tr *t, int32_t by)
{
	stack_place(t, XR_9, 0, false);
	stack_by(t, by);
	xf_need_host(t);
	xe_load32(&t->e, XR_11, xl_mem(XR_11, 0));
	xl_go_r11(t);
}

static void indirect(struct xl_tr *t, const struct insn *i, bool calls)
{
	operand(t, i, XR_11);
	if (calls) {
		xe_store(&t->e, XR_11, XG(xl_tmp));
		stack_place(t, XR_9, -WORD, true);
		push_next(t);
	}
	xf_need_host(t);
	if (calls) {
		xe_load(&t->e, XR_11, XG(xl_tmp));
	}
	xl_go_r11(t);
}

static bool flow(struct xl_tr *t, const struct insn *i)
{
	unsigned op = i->modrm >> 3 & 7;

	if (i->opcode == 0xe8) {
		call(t, i);
	} else if (i->opcode == 0xc3 || i->opcode == 0xc2) {
		ret(t, WORD + (i->opcode == 0xc2 ? (int32_t)(uint16_t)i->imm : 0));
	} else if (i->opcode == 0xff && (op == 2 || op == 4)) {
		indirect(t, i, op == 2);
	} else {
		return false;
	}
	return true;
}

/* --- Others --- */

/* INC and DEC, whose short forms are REX in 64-bit mode. */
static bool step(struct xl_tr *t, const struct insn *i)
{
	if ((i->opcode & 0xf0) != 0x40) {
		return false;
	}
	if (xf_seen(t)) {
		xf_need_host(t);   /* CF stays */
	}
	xf_written(t, (unsigned)BIT(i->rm));
	xe_op(&t->e, i->op_bytes == 2 ? XE_66 : 0, 0, 0xff, i->opcode >> 3 & 1,
	      xl_reg(xl_host(i->rm)));
	xf_set(t, &(struct xl_recipe){ .kind = XRC_NONE });
	return true;
}

/* MOV between RAX and an address in the instruction. */
static bool moffs(struct xl_tr *t, const struct insn *i)
{
	bool write = i->opcode & 2;

	if ((i->opcode & 0xfc) != 0xa0) {
		return false;
	}
	xe_mov_imm32(&t->e, XR_11, (uint32_t)i->imm);
	if (i->seg >= CPU_FS) {
		xl_compat_segment(t, i->seg);
	}
	xl_check_to_r11(t, i->op_bytes, write);
	if (!write) {
		xf_written(t, (unsigned)BIT(CPU_RAX));
	}
	xe_op(&t->e, i->op_bytes == 2 ? XE_66 : 0, 0, (write ? 0x88u : 0x8au) | (i->op_bytes > 1),
	      XR_AX, xl_mem(XR_11, 0));
	return true;
}

/* What 64-bit code does not have in this way, or what is not worth it. */
static bool apart(const struct insn *i)
{
	const struct insn_row *row = &insn_table[i->row];
	bool gpr = row->imp & (INSN_IMP_RAX | INSN_IMP_RDX);   /* lengths of strings */

	for (unsigned o = 0; o < ARRAY_LEN(row->ops); o++) {
		gpr |= insn_operands[row->ops[o]].file == INSN_FILE_GPR;
	}
	return row->cls == INSN_HELPER || i->ad_bytes != WORD || i->seg == CPU_CS ||
	       (i->prefix & INSN_VEX && i->prefix & INSN_W && gpr);
}

bool xl_compat(struct xl_tr *t)
{
	const struct insn *i = &t->insns[t->k].i;
	bool word = i->op_bytes == WORD;

	if (apart(i) || xl_decoded(t)->fn == insn_ud) {
		xl_call_interpreter(t, soft_block_ends(i));
		return true;
	}
	return i->map == INSN_MAP_1 && !(i->prefix & (INSN_VEX | INSN_LOCK)) &&
	       (step(t, i) || moffs(t, i) || (word && (stack(t, i) || flow(t, i))));
}
