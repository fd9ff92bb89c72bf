/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Random programs on the interpreter and on the translator: the same in every fault, every
 * register and flag, and all of memory.
 *
 * What a program is says random-program.h. What faults in it is written down by the machine's
 * kernel (test-programs.S), and the next piece goes on.
 *
 *	test-soft-programs [COUNT [SEED [AFTER [shaken] [direct] [compat]]]]
 *
 * compat: in 32-bit mode.
 */
#include <signal.h>
#include <stdio.h>
#include <sys/time.h>

#include "base/mem.h"
#include "base/test.h"
#include "vm/cpu/soft/native.h"
#include "vm/cpu/soft/oracle-compare.h"
#include "vm/cpu/soft/oracle-random.h"
#include "vm/cpu/soft/priv.h"
#include "vm/cpu/soft/random-program.h"
#include "vm/cpu/soft/xl.h"

extern const uint8_t guest_programs[], guest_programs_end[];

enum {
	/* The kernel's words and its log; test-programs.S. */
	WORDS = 0xf00, LOG = 0x300000, LOG_ENTRY = 256, LOG_ENTRIES = 48,
	PDPT_HIGH = 0xa0000, PD_HIGH = 0xa1000, PT_HIGH = 0xa2000,
	CS_64 = 0x23, CS_32 = 0x4b,
};

static uint64_t count = 2000;
static struct random_program program = { .mode = INSN_MODE_64 };
static struct vm *machines[2];               /* interpreter, translator */
static struct soft_cpu *cpu;                 /* only for the random registers */
static uint8_t all[MEM_BYTES];               /* of a machine that has run nothing */
static struct cpu_state start, ends[2];
static volatile sig_atomic_t stuck, running;
static uint64_t endless;

/* --- Machines --- */

static void vm_words(struct vm *vm)
{
	vm_put64(vm, WORDS, LOG);
	vm_put64(vm, WORDS + 8, program.first);
	vm_put64(vm, WORDS + 16, CODE_BYTES);
	vm_put64(vm, WORDS + 24, LOG + LOG_ENTRIES * LOG_ENTRY);
	vm_put64(vm, WORDS + 32, program.mode == INSN_MODE_64 ? CS_64 : CS_32);
}

/* The code, and the data with neighbours changed, so that a wrong half shows. */
static void high_pages(struct vm *vm)
{
	vm_put64(vm, PML4 + 8 * (1 << (HIGH_BIT - 39)), PDPT_HIGH | 7);
	vm_put64(vm, PDPT_HIGH, PD_HIGH | 7);
	vm_put64(vm, PD_HIGH + 16, vm_get64(vm, PD + 16));
	vm_put64(vm, PD_HIGH + 24, PT_HIGH | 7);
	for (unsigned i = 0; i < 512; i++) {
		unsigned of = i >= 4 && i < 24 ? i ^ 1 : i;

		vm_put64(vm, PT_HIGH + 8 * i, vm_get64(vm, PT + 8 * of));
	}
}

static struct vm *machine(const struct engine_ops *ops, const struct engine_conf *conf)
{
	struct vm *vm = vm_new_on(ops, conf);

	vm_long_mode(vm);
	vm_put(vm, STUBS, guest_programs, (size_t)(guest_programs_end - guest_programs));
	vm_put64(vm, IDT + 16 * END_VECTOR,
		 vm_get64(vm, IDT + 16 * END_VECTOR) | UINT64_C(3) << 45);
	vm_put64(vm, GDT + (CS_32 & ~7), UINT64_C(0x00cffb000000ffff));
	vm_put64(vm, PD, 0x83);                      /* the kernel's */
	vm_put64(vm, PT + 8 * 18, (DATA + 4096 * 16) | 7);    /* another address of a page */
	vm_put64(vm, PT + 8 * 19, UINT64_C(0x10000007));      /* a device */
	high_pages(vm);
	return vm;
}

static void begin(struct vm *vm)
{
	static uint8_t none[LOG_ENTRIES * LOG_ENTRY];
	struct err e = ERR_INIT;
	struct cpu_state *s = &start;

	vm_put(vm, CODE, program.code, sizeof(program.code));
	vm_put(vm, DATA, program.data, sizeof(program.data));
	vm_put(vm, LOG, none, sizeof(none));
	vm_words(vm);
	vm->log.stopped = false;
	assert_int_equal(engine_soft.vcpu_get(vm->cpu[0], s, &e), 0);
	memcpy(s->gpr, cpu->s.gpr, sizeof(s->gpr));
	memcpy(s->xsave, cpu->s.xsave, sizeof(s->xsave));
	s->gpr[CPU_RSP] = program.stack;
	s->rflags = soft_flags_get(cpu);
	s->cr0 |= CPU_CR0_MP | CPU_CR0_AM;
	s->cr4 |= CPU_CR4_OSFXSR | CPU_CR4_OSXMMEXCPT | CPU_CR4_OSXSAVE | CPU_CR4_FSGSBASE;
	s->xcr0 = 7;
	s->cr2 = 0;
	for (unsigned k = 0; k < CPU_SEG__COUNT; k++) {
		s->seg[k] = (struct cpu_seg){ .limit = UINT32_MAX, .ar = 0xc0f3, .selector = 0x1b };
	}
	s->seg[CPU_CS] = (struct cpu_seg){ .limit = UINT32_MAX, .ar = 0xa0fb, .selector = CS_64 };
	if (program.mode == INSN_MODE_32) {
		s->seg[CPU_CS] = (struct cpu_seg){ .limit = UINT32_MAX, .ar = 0xc0fb,
						   .selector = CS_32 };
	}
	s->seg[CPU_FS].base = DATA + 16 * 4096;
	s->events = (struct cpu_events){ 0 };
	s->mp_state = CPU_MP_RUNNABLE;
	s->gdt.limit = (CS_32 & ~7) + 7;
	s->rip = program.first;
	assert_int_equal(engine_soft.vcpu_set(vm->cpu[0], s, &e), 0);
}

/* --- Comparing --- */

/* A word of a machine's log. */
static unsigned long long logged(unsigned m, uint64_t k, uint64_t off)
{
	return vm_get64(machines[m], LOG + LOG_ENTRY * k + off);
}

static void tell_fault(struct difference *d, uint64_t k, uint64_t off, const uint64_t v[2])
{
	(void)snprintf(d->text, sizeof(d->text),
		       "fault %u (vector %llu and %llu at %llx and %llx): word %llx is %llx and"
		       " %llx", (unsigned)k, logged(0, k, 16), logged(1, k, 16),
		       logged(0, k, 32), logged(1, k, 32), (unsigned long long)off,
		       (unsigned long long)v[0], (unsigned long long)v[1]);
}

static bool differ_log(struct difference *d)
{
	for (uint64_t k = 0; k < LOG_ENTRIES; k++) {
		for (uint64_t off = 0; off < LOG_ENTRY; off += 8) {
			uint64_t v[2];

			for (unsigned m = 0; m < 2; m++) {
				v[m] = vm_get64(machines[m], LOG + LOG_ENTRY * k + off);
			}
			if (v[0] != v[1]) {
				tell_fault(d, k, off, v);
				return true;
			}
		}
	}
	return false;
}

static bool differ_memory(struct difference *d, uint64_t from, size_t n)
{
	const uint8_t *a = machines[0]->mem.slots[0].host, *b = machines[1]->mem.slots[0].host;

	for (uint64_t k = from; k < from + n; k++) {
		if (a[k] != b[k]) {
			(void)snprintf(d->text, sizeof(d->text), "memory at %llx is %02x and %02x",
				       (unsigned long long)k, a[k], b[k]);
			return true;
		}
	}
	return false;
}

static bool differ_state(struct difference *d)
{
	static const char *const gprs[] = { "rax", "rcx", "rdx", "rbx", "rsp", "rbp", "rsi", "rdi",
		"r8", "r9", "r10", "r11", "r12", "r13", "r14", "r15" };

	for (unsigned k = 0; k < CPU_REG__COUNT; k++) {
		if (differ64(d, gprs[k], ends[0].gpr[k], ends[1].gpr[k])) {
			return true;
		}
	}
	/* AMD's processors forget x87's last opcode and addresses when the host changes threads. */
	for (unsigned m = 0; m < 2; m++) {
		memset(ends[m].xsave + 6, 0, 18);
	}
	return differ64(d, "rip", ends[0].rip, ends[1].rip) ||
	       differ64(d, "rflags", ends[0].rflags, ends[1].rflags) ||
	       differ64(d, "fs", ends[0].seg[CPU_FS].base, ends[1].seg[CPU_FS].base) ||
	       differ_xsave(d, ends[0].xsave, ends[1].xsave);
}

/* Each was stopped at a place of its own, and may have written beyond what every program begins
 * with. */
static void both_as_new(void)
{
	for (unsigned m = 0; m < 2; m++) {
		vm_put(machines[m], 0, all, sizeof(all));
	}
}

static bool run_program(struct difference *d)
{
	for (unsigned m = 0; m < 2; m++) {
		struct err e = ERR_INIT;

		begin(machines[m]);
		/* Of processor time: a program takes some microseconds. One may write over its
		 * counter and not end at all; but then the interpreter finds that out. */
		running = (sig_atomic_t)m;
		setitimer(ITIMER_VIRTUAL, &(struct itimerval){ .it_value.tv_sec = m ? 10 : 1 },
			  NULL);
		vm_run(machines[m]);
		setitimer(ITIMER_VIRTUAL, &(struct itimerval){ 0 }, NULL);
		if (stuck) {
			stuck = false;
			(void)snprintf(d->text, sizeof(d->text), "it does not end when translated");
			endless++;
			both_as_new();
			return m == 1;
		}
		assert_int_equal(engine_soft.vcpu_get(machines[m]->cpu[0], &ends[m], &e), 0);
	}
	return differ_log(d) || differ_state(d) || differ_memory(d, CODE, sizeof(program.code)) ||
	       differ_memory(d, DATA, sizeof(program.data));
}

static void on_fpe(int sig, siginfo_t *info, void *ucontext)
{
	(void)info;
	if (!native_signal(sig, ucontext)) {
		signal(sig, SIG_DFL);
	}
}

/* cmocka took it from native_init(). */
static void on_stuck(int sig)
{
	(void)sig;
	stuck = true;
	engine_soft.vcpu_kick(machines[running]->cpu[0]);
}

static void take_signals(void)
{
	struct sigaction alarm_sa = { .sa_handler = on_stuck };

	sigaction(SIGVTALRM, &alarm_sa, NULL);
	struct sigaction sa = { .sa_sigaction = on_fpe, .sa_flags = SA_SIGINFO | SA_NODEFER };

	sigaction(SIGFPE, &sa, NULL);
	assert_int_equal(xl_catch_faults(), 0);
}

static void test_programs(unused_arg void **state)
{
	uint64_t seen[256] = { 0 }, differences = 0;

	take_signals();
	memcpy(all, machines[0]->mem.slots[0].host, sizeof(all));
	for (uint64_t done = 0; done < count; done++) {
		uint64_t seed = random_state;
		struct difference d = { "" };

		random_program(&program, cpu);
		if (run_program(&d) && ++differences < 20) {
			printf("%s (1 0x%llx)\n", d.text, (unsigned long long)seed);
		}
		for (uint64_t at_log = LOG; vm_get64(machines[0], at_log + 32);
		     at_log += LOG_ENTRY) {
			seen[vm_get64(machines[0], at_log + 16) & 255]++;
		}
	}
	for (unsigned v = 0; v < ARRAY_LEN(seen); v++) {
		if (seen[v]) {
			printf("vector %u: %llu\n", v, (unsigned long long)seen[v]);
		}
	}
	printf("%llu without an end\n", (unsigned long long)endless);
	assert_int_equal(differences, 0);
}

int main(int argc, char **argv)
{
	static const struct CMUnitTest tests[] = { cmocka_unit_test(test_programs) };
	const struct engine_conf plain = { .n_vcpus = 1 };
	struct engine_conf translated = { .n_vcpus = 1, .xl = { .after = 1 } };

	if (argc > 1) {
		count = strtoull(argv[1], NULL, 0);
	}
	random_state = argc > 2 ? strtoull(argv[2], NULL, 0) : 1;
	translated.xl.after = argc > 3 ? (unsigned)strtoul(argv[3], NULL, 0) : 1;
	for (int a = 4; a < argc; a++) {
		translated.xl.shaken |= strcmp(argv[a], "shaken") == 0;
		translated.xl.direct_now |= strcmp(argv[a], "direct") == 0;
		program.mode = strcmp(argv[a], "compat") == 0 ? INSN_MODE_32 : program.mode;
	}
	printf("seed 0x%llx\n", (unsigned long long)random_state);
	machines[0] = machine(&engine_interp, &plain);
	machines[1] = machine(&engine_soft, &translated);
	cpu = mem_new(struct soft_cpu);
	assert_non_null(cpu);
	int failed = cmocka_run_group_tests(tests, NULL, NULL);

	free(cpu);
	vm_free(machines[0]);
	vm_free(machines[1]);
	return failed;
}
