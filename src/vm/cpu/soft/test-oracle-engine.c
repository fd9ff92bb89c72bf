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
#include "vm/cpu/soft/oracle-case.h"
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

/* --- Comparing --- */

/* Flags that the manuals leave undefined and that come from no unit of the host. */
static uint64_t undefined(const struct insn_row *row)
{
	const uint64_t flags = CPU_FLAG_OF | CPU_FLAG_SF | CPU_FLAG_ZF | CPU_FLAG_PF;

	return case_named(row, " daa das aaa aas ") ? flags : 0;
}

static bool compare(struct difference *d, const struct insn_row *row, struct step_end *a,
		    struct step_end *b)
{
	static const char *const gprs[] = { "rax", "rcx", "rdx", "rbx", "rsp", "rbp", "rsi", "rdi",
		"r8", "r9", "r10", "r11", "r12", "r13", "r14", "r15" };
	uint64_t flags = ~(undefined(row) | (case_named(row, " rdrand rdseed ") ? CPU_FLAG_CF : 0));

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

		if (case_named(row, " rdrand rdseed ") && a->gpr[k] != b->gpr[k]) {
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

/* What the manuals leave to the processor, and what the vendors do differently. */
static bool explained(const struct insn_row *row, const struct insn *i, uint64_t target)
{
	bool area = case_named(row, " fnsave fnstenv frstor fldenv fxsave fxrstor xsave xrstor"
				    " xsavec ");
	uint32_t mask = 0;

	if (case_named(row, " fxsave xsave xsavec ") && (target & 15) == 0 &&
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
	if (case_named(row, " cmps movs retf iret enter pusha popa callf call push ") &&
	    end_ours.vector == CPU_PF && end_host.vector == CPU_PF) {
		end_ours.cr2 = end_host.cr2;
		end_ours.error = end_host.error;
	}
	/* Now and then AMD has those that it popped before the fault; it pops them again. */
	if (case_named(row, " popa ") && end_ours.vector == CPU_PF && end_host.vector == CPU_PF) {
		for (unsigned k = 0; k < 8; k++) {
			end_ours.gpr[k] = k == CPU_RSP ? end_ours.gpr[k] : end_host.gpr[k];
		}
	}
	if (area && end_ours.vector == CPU_PF && end_host.vector == CPU_PF) {
		end_ours.cr2 = end_host.cr2;
	}
	/* An area that leaves the segment or the canonical half: that, or the page before. */
	if ((case_operand_bytes(row, i) == 10 || area) && end_ours.vector != end_host.vector &&
	    end_host.vector == CPU_PF) {
		return true;
	}
	/* How far a gather came; AMD also traps between its elements. */
	if (row->attr & INSN_A_VSIB && end_ours.vector != CPU_DB) {
		return true;
	}
	if (case_named(row, " callf call retf iret cmps enter ") && end_ours.vector != CPU_DB &&
	    end_host.vector != CPU_DB) {
		return true;
	}
	/* A 16-bit stack on the way to or from 64-bit code; the alignment of far pointers. */
	if (case_named(row, " callf retf iret jmpf ") &&
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
	if (case_named(row, " fldenv frstor fxrstor xrstor ")) {
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

	case_state();
	if (row) {
		random_insn(row, (enum insn_mode)cpu->mode, b);
	}
	if (insn_decode(b, 15, (enum insn_mode)cpu->mode, i) <= 0 || !case_allowed(i)) {
		return SKIPPED;
	}
	at = case_place(i->len);
	cpu->s.rip = at - (cpu->mode == INSN_MODE_64 ? 0 : cpu->s.seg[CPU_CS].base);
	if (!case_prepare(b, i, at, &target)) {
		return SKIPPED;
	}
	case_put_code(at, b, i->len);
	/* AMD checks the alignment of vectors, too. */
	if (case_operand_bytes(&insn_table[i->row], i) > 8) {
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
		case_resync();
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
	    !case_runnable(&insn_table[r], (enum insn_mode)cpu->mode)) {
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
		case_resync();
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
			case_resync();
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
	case_begin(cpu, translated);
	int failed = cmocka_run_group_tests(tests, NULL, NULL);

	guest_free();
	return failed;
}
