/* SPDX-License-Identifier: Apache-2.0 */
#include "vm/cpu/soft/oracle-case.h"

#include <stdio.h>

#include "vm/cpu/soft/handlers.h"
#include "vm/cpu/soft/oracle-guest.h"
#include "vm/cpu/soft/oracle-random.h"
#include "vm/cpu/soft/priv.h"

static struct soft_cpu *cpu;
static bool translated;

/* Of the data, by its address; nothing where the host's may not be written. */
static void poke(uint64_t at, const void *data, size_t n)
{
	uint64_t first = (at - STEP_DATA) >> 12, last = (at - STEP_DATA + n - 1) >> 12;

	if (first < STEP_DATA_PAGES && last < STEP_DATA_PAGES &&
	    step_data_pages[first] == STEP_WRITE && step_data_pages[last] == STEP_WRITE) {
		memcpy(guest_data(at), data, n);
	}
}

static struct cpu_seg flat(uint16_t selector)
{
	uint32_t ar = selector == STEP_CS_64 ? 0xa0fb : selector == STEP_CS_32 ? 0xc0fb : 0xc0f3;

	if (selector == STEP_CS_16) {
		return (struct cpu_seg){ .base = STEP_CODE, .limit = 0xffff, .ar = 0xfb,
					 .selector = selector };
	}
	if (selector == STEP_DS_16) {
		return (struct cpu_seg){ .base = STEP_DATA, .limit = STEP_DS_16_LIMIT, .ar = 0xf3,
					 .selector = selector };
	}
	return (struct cpu_seg){ .limit = UINT32_MAX, .ar = ar, .selector = selector };
}

/* --- Instructions --- */

bool case_named(const struct insn_row *row, const char *names)
{
	char word[24];

	(void)snprintf(word, sizeof(word), " %s ", row->name);
	return strstr(names, word) != NULL;
}

bool case_runnable(const struct insn_row *row, enum insn_mode mode)
{
	if (case_named(row, " rdtsc rdtscp rdpmc cpuid rdpid xgetbv syscall sysenter sysexit vmcall"
		       " vmmcall sgdt sidt sldt str smsw lfs lgs rdfsbase wrfsbase wrgsbase"
		       " serialize xsaveopt int1 ud0 ud1 ")) {
		return false;
	}
	return !(row->attr & (mode == INSN_MODE_64 ? INSN_A_I64 : INSN_A_O64)) || rnd(64) == 0;
}

bool case_allowed(const struct insn *i)
{
	const struct insn_row *row = &insn_table[i->row];

	/* Far pointers with REX.W: AMD takes them as if without. SYSRET outside of 64-bit mode:
	 * #UD and #GP. */
	if ((case_named(row, " callf jmpf lss ") && i->prefix & INSN_W) ||
	    (case_named(row, " sysret ") && cpu->mode != INSN_MODE_64)) {
		return false;
	}
	/* AMD: a near branch with 66 cuts RIP, also in 64-bit mode; Intel, and we: not. */
	if (cpu->mode == INSN_MODE_64 && row->attr & INSN_A_F64 && i->prefix & INSN_66) {
		return false;
	}
	/* FS is this process's own. */
	if ((row->fn == op_pop_seg || row->fn == op_mov_seg_rm) && i->reg >= CPU_FS) {
		return false;
	}
	if (translated && (soft_block_ends(i) || row->cls == INSN_FLOW ||
			   row->attr & INSN_A_STACK)) {
		return false;
	}
	return row->fn != op_int || (i->imm & 0xff) != 0x80;
}

static uint64_t target_in(unsigned bytes)
{
	uint64_t page = STEP_DATA + 4096 * (uint64_t)(1 + rnd(6)), at = page + 1024 + rnd(64);

	switch (rnd(16)) {
	case 0: case 1: case 2:
		return page - rnd(bytes > 40 ? bytes : 40);
	case 3: case 4:
		return at;
	case 5:
		return rnd(8) ? edge64() : (BIT(47) ^ (rnd(2) ? 0 : UINT64_MAX)) - rnd(bytes + 2);
	case 6: case 7:
		return page & ~UINT64_C(4095);
	default:
		at = STEP_DATA + (rnd(2) ? 0x1400 : 0x4400) + rnd(64);
		return at & ~(uint64_t)(bytes >= 64 ? 63 : bytes > 16 ? 31 : 15);
	}
}

static void aim_register(unsigned reg, unsigned seg, uint64_t target)
{
	cpu->s.gpr[reg] = target - (cpu->mode == INSN_MODE_64 ? 0 : cpu->s.seg[seg].base);
}

static bool has_operand(const struct insn_row *row, enum insn_where where)
{
	for (unsigned o = 0; o < ARRAY_LEN(row->ops); o++) {
		if (insn_operands[row->ops[o]].where == where) {
			return true;
		}
	}
	return false;
}

/* Memory that no ModRM names: strings, the stack. */
static void aim_implicit(const struct insn *i)
{
	const struct insn_row *row = &insn_table[i->row];
	bool string = has_operand(row, INSN_AT_SOURCE) || has_operand(row, INSN_AT_DEST);

	if (case_named(row, " xlat ")) {
		aim_register(CPU_RBX, i->seg, target_in(1) - (cpu->s.gpr[CPU_RAX] & 0xff));
	} else if (string || row->attr & INSN_A_STRING) {
		aim_register(CPU_RSI, i->seg, target_in(i->op_bytes));
		aim_register(CPU_RDI, string ? CPU_ES : i->seg, target_in(16));
		if (rnd(2)) {
			cpu->s.gpr[CPU_RCX] = rnd(8);
		}
	}
	if (rnd(8)) {
		aim_register(CPU_RBP, CPU_SS, target_in(8));
		aim_register(CPU_RSP, CPU_SS, target_in(8));
	}
}

/* Indices of a gather near to each other. */
static void aim_vector(const struct insn *i)
{
	uint8_t *x = cpu->s.xsave + 160 + 16 * i->index, *y = cpu->s.xsave + 576 + 16 * i->index;

	if (i->base != INSN_NONE) {
		aim_register(i->base, i->seg, target_in(8) - (uint64_t)(int64_t)i->disp);
	}
	for (unsigned k = 0; k < 16; k += 4) {
		uint32_t a = rnd(64), b = rnd(64);

		memcpy(x + k, &a, 4);
		memcpy(y + k, &b, 4);
	}
	if (i->opcode & 1) {
		memset(x + 4, 0, 4);
		memset(x + 12, 0, 4);
		memset(y + 4, 0, 4);
		memset(y + 12, 0, 4);
	}
}

/* Images of XRSTOR and its like, pointers with selectors that exist. */
static void fill_operand(const struct insn_row *row, const struct insn *i, uint64_t target)
{
	static const uint16_t selectors[] = { STEP_CS_32, STEP_CS_64, STEP_DS, STEP_CS_16,
					      STEP_DS_16, 0, 3, 0x10, 0x17 };
	uint8_t image[CPU_XSAVE_BYTES];

	if (case_named(row, " fxrstor xrstor ") && rnd(4)) {
		random_xsave(image);
		image[512] = (uint8_t)rnd(8);
		image[527] = rnd(4) ? 0 : 0x80;
		image[520] = image[527] ? (uint8_t)(image[512] | rnd(8)) : 0;
		poke(target, image, sizeof(image));
	} else if (case_named(row, " callf jmpf lss lds les ") && rnd(2)) {
		poke(target + i->op_bytes, &selectors[rnd(ARRAY_LEN(selectors))], 2);
	}
}

/* Frames of far returns and IRET on the stack. */
static void fill_stack(const struct insn_row *row, const struct insn *i, uint64_t at)
{
	static const uint16_t codes[] = { STEP_CS_32, STEP_CS_64, STEP_CS_16, 0, 0x10, 0x13,
					  STEP_DS };
	static const uint16_t stacks[] = { STEP_DS, STEP_DS_16, STEP_CS_64, 0, 3, 0x1b };
	uint16_t cs = codes[rnd(ARRAY_LEN(codes))], ss = stacks[rnd(ARRAY_LEN(stacks))];
	const uint8_t zero = 0;

	if (row->fn == op_pop_seg && rnd(2)) {
		poke(at, &ss, 2);
	}
	if (!case_named(row, " iret retf ") || rnd(4) == 0) {
		return;
	}
	poke(at + i->op_bytes, &cs, 2);
	poke(at + 4u * i->op_bytes, &ss, 2);
	if (rnd(2)) {
		poke(at + i->op_bytes - 1, &zero, 1);
	}
}

/* --- State --- */

static void random_mode(void)
{
	unsigned kind = translated ? 7 : rnd(8);
	struct cpu_state *s = &cpu->s;

	for (unsigned k = 0; k < CPU_SEG__COUNT; k++) {
		s->seg[k] = (struct cpu_seg){ .ar = CPU_AR_UNUSABLE };
	}
	s->seg[CPU_CS] = flat(kind == 0 ? STEP_CS_16 : kind <= 2 ? STEP_CS_32 : STEP_CS_64);
	s->seg[CPU_SS] = flat(kind == 0 && rnd(2) ? STEP_DS_16 : STEP_DS);
	s->seg[CPU_DS] = flat(kind == 0 || (kind == 1 && rnd(2)) ? STEP_DS_16 : STEP_DS);
	s->seg[CPU_ES] = flat(kind == 0 || rnd(8) == 0 ? STEP_DS_16 : STEP_DS);
	cpu->mode = kind == 0 ? INSN_MODE_16 : kind <= 2 ? INSN_MODE_32 : INSN_MODE_64;
}

static void random_flags(void)
{
	uint64_t f = soft_flags_get(cpu) | CPU_FLAG_TF | CPU_FLAG_IF;

	f |= rnd(8) ? 0 : CPU_FLAG_AC;
	f |= rnd(16) ? 0 : CPU_FLAG_RF;
	f |= rnd(16) ? 0 : CPU_FLAG_ID;
	f |= rnd(32) ? 0 : CPU_FLAG_NT;
	soft_flags_set(cpu, f);
}

uint64_t case_place(unsigned len)
{
	switch (translated ? 7 : rnd(8)) {
	case 0:
		return STEP_CODE + 4096 - rnd(16);
	case 1:
		return STEP_CODE + 8192 - (rnd(2) ? len : 1 + rnd(15));
	default:
		return STEP_CODE + 64 * (1 + rnd(59));
	}
}

void case_put_code(uint64_t at, const uint8_t *b, unsigned len)
{
	uint8_t code[64];
	size_t n = MIN(sizeof(code), STEP_CODE + 8192 - at);

	memset(code, 0x90, sizeof(code));
	memcpy(code, b, len);
	if (translated) {
		code[len] = 0xcc;   /* the host's trap comes before it */
	}
	guest_code(at, code, n);
}

/* --- A case --- */

static void copy_window(uint64_t target, unsigned bytes)
{
	uint64_t first = MAX(target - 64, (uint64_t)STEP_DATA), last = target + bytes + 64;

	if (target - STEP_DATA >= GUEST_DATA_BYTES) {
		return;
	}
	last = MIN(last, (uint64_t)STEP_DATA + GUEST_DATA_BYTES);
	for (uint64_t at = first; at < last; ) {
		uint64_t end = MIN((at | 4095) + 1, last);

		if (step_data_pages[(at - STEP_DATA) >> 12] == STEP_WRITE) {
			memcpy((void *)at, guest_data(at), end - at);
		}
		at = end;
	}
}

static void random_window(uint64_t target, unsigned bytes)
{
	uint8_t data[1024];
	size_t n = (size_t)(bytes + 39) & ~(size_t)7;

	random_bytes(data, n);
	poke(target - 16, data, n);
}

unsigned case_operand_bytes(const struct insn_row *row, const struct insn *i)
{
	unsigned bytes = 0;

	for (unsigned o = 0; o < ARRAY_LEN(row->ops); o++) {
		enum insn_where where = (enum insn_where)insn_operands[row->ops[o]].where;

		if ((where == INSN_AT_RM && i->rm == INSN_NONE) || where == INSN_AT_MOFFS) {
			bytes = insn_mem_bytes(i, (enum insn_mode)cpu->mode,
					       (enum insn_operand)row->ops[o]);
		}
	}
	return case_named(row, " fxsave fxrstor xsave xrstor xsavec ") ? 832 :
	       case_named(row, " fnsave frstor fnstenv fldenv ") ? 108 :
	       row->attr & INSN_A_STRING ? 16 : bytes;
}

bool case_prepare(uint8_t *b, struct insn *i, uint64_t at, uint64_t *ret_target)
{
	const struct insn_row *row = &insn_table[i->row];
	unsigned bytes = case_operand_bytes(row, i);
	uint64_t target = target_in(bytes);
	uint64_t base = i->seg < CPU_SEG__COUNT && cpu->mode != INSN_MODE_64 ?
			cpu->s.seg[i->seg].base : 0;
	uint64_t rip_base = cpu->mode == INSN_MODE_64 ? 0 : cpu->s.seg[CPU_CS].base;

	if (case_named(row, " xsave xrstor xsavec ")) {
		/* Of the host's parts those that we have. */
		if (i->base == CPU_RAX || i->base == CPU_RDX || i->index == CPU_RAX ||
		    i->index == CPU_RDX) {
			return false;
		}
		cpu->s.gpr[CPU_RAX] &= 7;
		cpu->s.gpr[CPU_RDX] = 0;
	}
	aim_implicit(i);
	if (row->attr & INSN_A_VSIB && i->index != INSN_NONE) {
		aim_vector(i);
	} else if (has_operand(row, INSN_AT_MOFFS)) {
		target -= base;
		memcpy(b + i->len - i->ad_bytes, &target, i->ad_bytes);
		target = soft_cut(target, i->ad_bytes) + base;
	} else if (i->rm == INSN_NONE &&
		   insn__rows(row->enc, (enum insn_map)row->map, row->opcode).modrm) {
		if (row->attr & INSN_A_BITS && cpu->mode == INSN_MODE_16) {
			return false;
		}
		if (!random_aim(cpu, at - rip_base, b, i, target - base,
				row->attr & INSN_A_BITS)) {
			return false;
		}
		random_window(target, bytes);
		fill_operand(row, i, target);
	}
	for (unsigned k = 0; cpu->mode != INSN_MODE_64 && k < CPU_REG__COUNT; k++) {
		cpu->s.gpr[k] = (uint32_t)cpu->s.gpr[k];
	}
	if (cpu->s.seg[CPU_SS].selector == STEP_DS_16) {
		/* The native way in leaves its own upper half. */
		cpu->s.gpr[CPU_RSP] = STEP_RSP_HIGH | (cpu->s.gpr[CPU_RSP] & 0xffff);
	}
	uint64_t stack = cpu->s.seg[CPU_SS].selector == STEP_DS_16 ?
			 STEP_DATA + (cpu->s.gpr[CPU_RSP] & 0xffff) : cpu->s.gpr[CPU_RSP];

	/* Into 64-bit code its frame would lie at the end of all addresses: that fault Linux
	 * repeats for ever. */
	if (case_named(row, " callf ") && cpu->mode != INSN_MODE_64 && cpu->s.gpr[CPU_RSP] < 8) {
		return false;
	}
	if (row->attr & INSN_A_STACK) {
		random_window(stack, 64);
		fill_stack(row, i, stack);
	}
	*ret_target = target;
	/* Everything that may have changed goes over. */
	copy_window(target, bytes);
	copy_window(stack, 64);
	return true;
}

void case_resync(void)
{
	copy_window(STEP_DATA, GUEST_DATA_BYTES);
}

void case_state(void)
{
	random_mode();
	random_registers(cpu);
	random_flags();
}

void case_begin(struct soft_cpu *of, bool translates)
{
	cpu = of;
	translated = translates;
}
