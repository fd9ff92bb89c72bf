/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The whole engine against the host's own CPU: any instruction that user mode may try, also those
 * that jump, push, fault by rule or go through segments, in 64-bit, 32-bit and 16-bit code, run
 * by the engine's loop with real paging and natively, both stepped by TF. What reaches the kernel
 * is compared: vector, error code, CR2, every register and flag of the frame, and memory. Operands
 * lie over page ends, in pages that are read-only or absent, at addresses that are not canonical;
 * now and then alignment is checked; code runs over the end of what is mapped.
 *
 * With HOLM_TEST_TRANSLATE=1 the engine takes no single step, so that 64-bit code runs translated:
 * a breakpoint behind the instruction stands for the trap.
 *
 *	test-soft-oracle-engine [COUNT [SEED [ROW]]]
 */
#include "base/test.h"
#include "vm/cpu/soft/handlers.h"
#include "vm/cpu/soft/native.h"
#include "vm/cpu/soft/oracle-compare.h"
#include "vm/cpu/soft/oracle-guest.h"
#include "vm/cpu/soft/oracle-random.h"
#include "vm/cpu/soft/priv.h"
#include "vm/cpu/test-translate.h"

static struct soft_cpu *cpu;
static struct cpu_state start;           /* of a case */
static struct step_end end_ours, end_host;
static uint64_t count = 100000;
static const char *only;
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

static bool named(const struct insn_row *row, const char *names)
{
	char word[24];

	(void)snprintf(word, sizeof(word), " %s ", row->name);
	return strstr(names, word) != NULL;
}

/* What is not the same here and there by its nature, or goes elsewhere than into the kernel. */
static bool runnable(const struct insn_row *row, enum insn_mode mode)
{
	if (named(row, " rdtsc rdtscp rdpmc cpuid rdpid xgetbv syscall sysenter sysexit vmcall"
		       " vmmcall sgdt sidt sldt str smsw lfs lgs rdfsbase wrfsbase wrgsbase"
		       " serialize xsaveopt int1 ud0 ud1 ")) {
		return false;
	}
	return !(row->attr & (mode == INSN_MODE_64 ? INSN_A_I64 : INSN_A_O64)) || rnd(64) == 0;
}

static bool allowed(const struct insn *i)
{
	const struct insn_row *row = &insn_table[i->row];

	/* Far pointers with REX.W: AMD takes them as if without. SYSRET outside of 64-bit mode:
	 * #UD and #GP. */
	if ((named(row, " callf jmpf lss ") && i->prefix & INSN_W) ||
	    (named(row, " sysret ") && cpu->mode != INSN_MODE_64)) {
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

	if (named(row, " xlat ")) {
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

	if (named(row, " fxrstor xrstor ") && rnd(4)) {
		random_xsave(image);
		image[512] = (uint8_t)rnd(8);
		image[527] = rnd(4) ? 0 : 0x80;
		image[520] = image[527] ? (uint8_t)(image[512] | rnd(8)) : 0;
		poke(target, image, sizeof(image));
	} else if (named(row, " callf jmpf lss lds les ") && rnd(2)) {
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
	if (!named(row, " iret retf ") || rnd(4) == 0) {
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

/* Where the instruction stands: mostly in the middle, else over a page's end. */
static uint64_t place(unsigned len)
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

static void put_code(uint64_t at, const uint8_t *b, unsigned len)
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

/* --- Comparing --- */

/* Flags that the manuals leave undefined and that come from no unit of the host. */
static uint64_t undefined(const struct insn_row *row)
{
	const uint64_t flags = CPU_FLAG_OF | CPU_FLAG_SF | CPU_FLAG_ZF | CPU_FLAG_PF;

	return named(row, " daa das aaa aas ") ? flags : 0;
}

static bool compare(struct difference *d, const struct insn_row *row, struct step_end *a,
		    struct step_end *b)
{
	static const char *const gprs[] = { "rax", "rcx", "rdx", "rbx", "rsp", "rbp", "rsi", "rdi",
		"r8", "r9", "r10", "r11", "r12", "r13", "r14", "r15" };
	uint64_t flags = ~(undefined(row) | (named(row, " rdrand rdseed ") ? CPU_FLAG_CF : 0));

	if (a->vector != b->vector) {
		(void)snprintf(d->text, sizeof(d->text),
			       "vector: ours %d (%x, at %llx) host %d (%x, at %llx, cr2 %llx)",
			       a->vector, a->error, (unsigned long long)a->rip, b->vector, b->error,
			       (unsigned long long)b->rip, (unsigned long long)b->cr2);
		return true;
	}
	if (a->vector == CPU_PF && a->cr2 >= BIT(47) - 4096) {
		/* Linux says of all but its own part that it is present. */
		b->error &= a->error | ~1u;
	}
	if (differ64(d, "error", a->error, b->error) || differ64(d, "rip", a->rip, b->rip) ||
	    differ64(d, "rflags", a->rflags & flags, b->rflags & flags) ||
	    differ64(d, "cs", a->cs, b->cs) || differ64(d, "ss", a->ss, b->ss) ||
	    differ64(d, "ds", a->ds, b->ds) || differ64(d, "es", a->es, b->es) ||
	    (a->vector == CPU_PF && differ64(d, "cr2", a->cr2, b->cr2))) {
		return true;
	}
	for (unsigned k = 0; k < CPU_REG__COUNT; k++) {
		/* The upper half of a 16-bit stack's pointer is what it was on the way in. */
		uint64_t cut = k == CPU_RSP && (a->ss != start.seg[CPU_SS].selector) ? 0xffff :
			       cpu->mode == INSN_MODE_64 && a->cs == STEP_CS_64 ? UINT64_MAX :
										  UINT32_MAX;

		if (named(row, " rdrand rdseed ") && a->gpr[k] != b->gpr[k]) {
			continue;
		}
		if (differ64(d, gprs[k], a->gpr[k] & cut, b->gpr[k] & cut)) {
			return true;
		}
	}
	return differ_xsave(d, a->xsave, b->xsave);
}

static bool compare_memory(struct difference *d)
{
	for (unsigned k = 0; k < STEP_DATA_PAGES; k++) {
		const uint8_t *a = guest_data(STEP_DATA + 4096 * k);
		const uint8_t *b = (const uint8_t *)(uintptr_t)(STEP_DATA + 4096 * k);

		if (step_data_pages[k] != STEP_WRITE || memcmp(a, b, 4096) == 0) {
			continue;
		}
		for (unsigned x = 0; x < 4096; x++) {
			if (a[x] != b[x]) {
				(void)snprintf(d->text, sizeof(d->text),
					       "memory at %x: ours %02x host %02x",
					       STEP_DATA + 4096 * k + x, a[x], b[x]);
				memcpy((void *)(uintptr_t)b, a, 4096);
				return true;
			}
		}
	}
	return false;
}

/* --- One case --- */

enum outcome { SKIPPED, SAME, DIFFERS };

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

static unsigned operand_bytes(const struct insn_row *row, const struct insn *i)
{
	unsigned bytes = 0;

	for (unsigned o = 0; o < ARRAY_LEN(row->ops); o++) {
		enum insn_where where = (enum insn_where)insn_operands[row->ops[o]].where;

		if ((where == INSN_AT_RM && i->rm == INSN_NONE) || where == INSN_AT_MOFFS) {
			bytes = insn_mem_bytes(i, (enum insn_mode)cpu->mode,
					       (enum insn_operand)row->ops[o]);
		}
	}
	return named(row, " fxsave fxrstor xsave xrstor xsavec ") ? 832 :
	       named(row, " fnsave frstor fnstenv fldenv ") ? 108 :
	       row->attr & INSN_A_STRING ? 16 : bytes;
}

/* State and operands for a decoded instruction that will stand at `at`. */
static bool prepare(uint8_t *b, struct insn *i, uint64_t at, uint64_t *ret_target)
{
	const struct insn_row *row = &insn_table[i->row];
	unsigned bytes = operand_bytes(row, i);
	uint64_t target = target_in(bytes);
	uint64_t base = i->seg < CPU_SEG__COUNT && cpu->mode != INSN_MODE_64 ?
			cpu->s.seg[i->seg].base : 0;
	uint64_t rip_base = cpu->mode == INSN_MODE_64 ? 0 : cpu->s.seg[CPU_CS].base;

	if (named(row, " xsave xrstor xsavec ")) {
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
	if (named(row, " callf ") && cpu->mode != INSN_MODE_64 && cpu->s.gpr[CPU_RSP] < 8) {
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

/* The same memory for both again. */
static void resync(void)
{
	copy_window(STEP_DATA, GUEST_DATA_BYTES);
}

/* What the manuals leave to the processor, and what the vendors do differently. */
static bool explained(const struct insn_row *row, const struct insn *i, uint64_t target)
{
	uint32_t mask = 0;

	if (named(row, " fxsave xsave xsavec ") && (target & 15) == 0 &&
	    target - STEP_DATA < GUEST_DATA_BYTES - 4096 &&
	    step_data_pages[(target - STEP_DATA) >> 12] == STEP_WRITE &&
	    step_data_pages[(target + 31 - STEP_DATA) >> 12] == STEP_WRITE) {
		/* AMD has one more bit in MXCSR, of which the mask tells. */
		memcpy(&mask, (void *)(target + 28), 4);
		if (mask == 0x2ffff) {
			mask = 0xffff;
			memcpy((void *)(target + 28), &mask, 4);
		}
	}
	/* Which byte faulted, and whether those that the mask leaves out can fault. */
	if (strstr(row->name, "maskmov") &&
	    (end_host.vector == CPU_PF || end_host.vector == CPU_GP)) {
		return true;
	}
	/* AMD writes the upper half, and reads it. */
	if (row->fn == op_push_seg && i->op_bytes == 4) {
		return true;
	}
	if (row->fn == op_pop_seg && end_ours.vector == CPU_PF && end_host.vector == CPU_SS_FAULT) {
		return true;
	}
	/* Which of its accesses goes first. */
	if (named(row, " cmps movs retf iret enter pusha popa callf call push ") &&
	    end_ours.vector == CPU_PF && end_host.vector == CPU_PF) {
		end_ours.cr2 = end_host.cr2;
		end_ours.error = end_host.error;
	}
	/* Now and then AMD has those that it popped before the fault; it pops them again. */
	if (named(row, " popa ") && end_ours.vector == CPU_PF && end_host.vector == CPU_PF) {
		for (unsigned k = 0; k < 8; k++) {
			end_ours.gpr[k] = k == CPU_RSP ? end_ours.gpr[k] : end_host.gpr[k];
		}
	}
	if (named(row, " fnsave fnstenv frstor fldenv fxsave fxrstor xsave xrstor xsavec ") &&
	    end_ours.vector == CPU_PF && end_host.vector == CPU_PF) {
		end_ours.cr2 = end_host.cr2;
	}
	/* An area that leaves the segment or the canonical half: that, or the page before. */
	if ((operand_bytes(row, i) == 10 ||
	     named(row, " fnsave fnstenv frstor fldenv fxsave fxrstor xsave xrstor xsavec ")) &&
	    end_ours.vector != end_host.vector && end_host.vector == CPU_PF) {
		return true;
	}
	/* How far a gather came; AMD also traps between its elements. */
	if (row->attr & INSN_A_VSIB && end_ours.vector != CPU_DB) {
		return true;
	}
	if (named(row, " callf call retf iret cmps enter ") && end_ours.vector != CPU_DB &&
	    end_host.vector != CPU_DB) {
		return true;
	}
	/* A 16-bit stack on the way to or from 64-bit code; the alignment of far pointers. */
	if (named(row, " callf retf iret jmpf ") &&
	    (start.seg[CPU_SS].selector == STEP_DS_16 || start.rflags & CPU_FLAG_AC)) {
		return true;
	}
	/* An operand that is neither aligned nor in the stack's segment. */
	if (end_ours.vector == CPU_SS_FAULT && end_host.vector == CPU_GP) {
		return true;
	}
	/* One that only ends outside of the canonical half is #GP with us, by any segment. */
	if (end_ours.vector == CPU_GP && end_host.vector == CPU_SS_FAULT &&
	    cpu->mode == INSN_MODE_64) {
		return true;
	}
	/* A null selector's RPL is lost on the way to the kernel and back. */
	end_ours.ds = end_ours.ds < 4 ? 0 : end_ours.ds;
	end_ours.es = end_ours.es < 4 ? 0 : end_ours.es;
	/* AMD keeps no pointers unless an exception waits. */
	if (named(row, " fldenv frstor fxrstor xrstor ")) {
		memcpy(end_ours.xsave + 6, end_host.xsave + 6, 18);
	}
	return false;
}

/* Without a trap; then as if there had been one. */
static void run_translated(const struct insn *i)
{
	static const uint8_t fnsetpm[2] = { 0xdb, 0xe4 };

	cpu->s.rflags &= ~(uint64_t)CPU_FLAG_TF;
	if (insn_table[i->row].attr & INSN_A_X87) {
		/* What does nothing, but x87 registers are there behind it. */
		guest_code(start.rip - sizeof(fnsetpm), fnsetpm, sizeof(fnsetpm));
		cpu->s.rip -= sizeof(fnsetpm);
	}
	guest_run(&end_ours);
	end_ours.rflags |= CPU_FLAG_TF;
	if (end_ours.vector == CPU_BP && end_ours.rip == start.rip + i->len + 1) {
		end_ours.vector = CPU_DB;
		end_ours.rip--;
	}
}

static enum outcome run_case(const struct insn_row *row, struct difference *d, uint8_t *b,
			     struct insn *i)
{
	uint64_t at = 0, target = 0;

	random_mode();
	random_registers(cpu);
	random_flags();
	if (row) {
		random_insn(row, (enum insn_mode)cpu->mode, b);
	}
	if (insn_decode(b, 15, (enum insn_mode)cpu->mode, i) <= 0 || !allowed(i)) {
		return SKIPPED;
	}
	at = place(i->len);
	cpu->s.rip = at - (cpu->mode == INSN_MODE_64 ? 0 : cpu->s.seg[CPU_CS].base);
	if (!prepare(b, i, at, &target)) {
		return SKIPPED;
	}
	put_code(at, b, i->len);
	/* AMD checks the alignment of vectors, too. */
	if (operand_bytes(&insn_table[i->row], i) > 8) {
		cpu->s.rflags &= ~(uint64_t)CPU_FLAG_AC;
	}
	if (rnd(16) == 0) {
		soft_tlb_flush_all(cpu);
	}
	memcpy(&start, &cpu->s, sizeof(start));
	start.rflags = soft_flags_get(cpu);
	if (translated) {
		run_translated(i);
	} else {
		guest_run(&end_ours);
	}
	step_native(&start, &end_host);
	if (explained(&insn_table[i->row], i, target)) {
		resync();
		return SAME;
	}
	return compare(d, &insn_table[i->row], &end_ours, &end_host) || compare_memory(d) ?
	       DIFFERS : SAME;
}

static void print_case(uint64_t seed, const struct insn *i, const uint8_t *b,
		       const struct difference *d)
{
	uint16_t cs = start.seg[CPU_CS].selector;

	printf("%-10s %u:", insn_table[i->row].name,
	       cs == STEP_CS_64 ? 64 : cs == STEP_CS_32 ? 32 : 16);
	for (unsigned k = 0; k < i->len; k++) {
		printf(" %02x", b[k]);
	}
	printf("  %s  at %llx (1 0x%llx)\n", d->text, (unsigned long long)start.rip,
	       (unsigned long long)seed);
}

/* The case that the state of the random numbers leads to. */
static enum outcome next_case(struct difference *d, uint8_t *b, struct insn *i)
{
	size_t r = rnd((uint32_t)insn_table_len);

	if ((only && strcmp(only, insn_table[r].name) != 0) ||
	    !runnable(&insn_table[r], (enum insn_mode)cpu->mode)) {
		return SKIPPED;
	}
	return run_case(&insn_table[r], d, b, i);
}

/* A host that is a virtual machine itself stops a step short, once in millions: what differs has
 * to do so again. */
static enum outcome certain_case(struct difference *d, uint8_t *b, struct insn *i)
{
	uint64_t seed = random_state;
	enum outcome o = next_case(d, b, i);

	if (o == DIFFERS) {
		resync();
		random_state = seed;
		o = next_case(d, b, i);
	}
	return o;
}

static void test_random(unused_arg void **state)
{
	uint64_t done = 0, seen[32] = { 0 }, differences = 0, per_row[2048] = { 0 };

	step_signals();
	while (done < count) {
		uint64_t seed = random_state;
		struct difference d = { "" };
		uint8_t b[16] = { 0 };
		struct insn i;
		enum outcome o = certain_case(&d, b, &i);

		done += o != SKIPPED;
		if (o == SAME) {
			seen[end_ours.vector & 31]++;
		} else if (o == DIFFERS) {
			resync();
			if (++per_row[i.row] <= 2 && ++differences < 200) {
				print_case(seed, &i, b, &d);
			}
		}
	}
	for (unsigned v = 0; v < ARRAY_LEN(seen); v++) {
		if (seen[v]) {
			printf("vector %u: %llu\n", v, (unsigned long long)seen[v]);
		}
	}
	printf("%llu cases\n", (unsigned long long)done);
	assert_int_equal(differences, 0);
}

int main(int argc, char **argv)
{
	static const struct CMUnitTest tests[] = { cmocka_unit_test(test_random) };

	if (argc > 1) {
		count = strtoull(argv[1], NULL, 0);
	}
	random_state = argc > 2 ? strtoull(argv[2], NULL, 0) : 1;
	only = argc > 3 ? argv[3] : NULL;
	translated = test_translate().after != 0;
	printf("seed 0x%llx\n", (unsigned long long)random_state);
#if defined(__SANITIZE_ADDRESS__)
	printf("skipped: the sanitizer maps what must be absent\n");
	return 77;
#endif
	if (!__builtin_cpu_supports("avx2") || !step_setup()) {
		printf("skipped: the host lacks AVX2 or LDT entries\n");
		return 77;
	}
	cpu = guest_new();
	int failed = cmocka_run_group_tests(tests, NULL, NULL);

	guest_free();
	return failed;
}
