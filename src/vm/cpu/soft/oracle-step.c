/* SPDX-License-Identifier: Apache-2.0 */
#include <asm/ldt.h>
#include <signal.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/ucontext.h>
#include <unistd.h>

#include "vm/cpu/soft/native.h"
#include "vm/cpu/soft/oracle-step.h"

const enum step_page step_data_pages[STEP_DATA_PAGES] = {
	STEP_ABSENT, STEP_WRITE, STEP_WRITE, STEP_READ, STEP_WRITE, STEP_ABSENT, STEP_WRITE,
	STEP_ABSENT,
};

/* Reached without a register: what the way in takes its values from. */
struct step_block {
	uint64_t gpr[CPU_REG__COUNT];
	uint64_t ds, es, host_rsp, pad[13];
	struct {
		uint64_t rip, cs, rflags, rsp, ss;
	} frame;
	_Alignas(64) uint8_t xsave[CPU_XSAVE_BYTES];
};

#define BLOCK_AT 0x10000000
#define A_BLOCK "0x10000000"
static struct step_block *const block = (struct step_block *)BLOCK_AT;
static struct step_end *result;

/* A case that takes so long of the CPU comes to no end: some faults the kernel repeats for ever. */
enum { STUCK_SECONDS = 5 };
static uint64_t cases;

_Static_assert(offsetof(struct step_block, host_rsp) == 144, "the assembler's offsets");
_Static_assert(offsetof(struct step_block, frame) == 256, "the assembler's offsets");
_Static_assert(offsetof(struct step_block, xsave) == 320, "the assembler's offsets");

__asm__(
	".text\n"
	"step_enter:\n\t"
	"push %rbx\n\tpush %rbp\n\tpush %r12\n\tpush %r13\n\tpush %r14\n\tpush %r15\n\t"
	"movq %rsp, " A_BLOCK "+144\n\t"
	"movl " A_BLOCK "+128, %eax\n\tmovl %eax, %ds\n\t"
	"movl " A_BLOCK "+136, %eax\n\tmovl %eax, %es\n\t"
	"movl $7, %eax\n\txorl %edx, %edx\n\txrstor64 " A_BLOCK "+320\n\t"
	"movq $" A_BLOCK "+256, %rsp\n\t"
	"movq " A_BLOCK "+0, %rax\n\tmovq " A_BLOCK "+8, %rcx\n\tmovq " A_BLOCK "+16, %rdx\n\t"
	"movq " A_BLOCK "+24, %rbx\n\tmovq " A_BLOCK "+40, %rbp\n\t"
	"movq " A_BLOCK "+48, %rsi\n\tmovq " A_BLOCK "+56, %rdi\n\tmovq " A_BLOCK "+64, %r8\n\t"
	"movq " A_BLOCK "+72, %r9\n\tmovq " A_BLOCK "+80, %r10\n\tmovq " A_BLOCK "+88, %r11\n\t"
	"movq " A_BLOCK "+96, %r12\n\tmovq " A_BLOCK "+104, %r13\n\tmovq " A_BLOCK "+112, %r14\n\t"
	"movq " A_BLOCK "+120, %r15\n\t"
	"iretq\n"
	"step_home:\n\t"
	"movq " A_BLOCK "+144, %rsp\n\t"
	"pushq $0x202\n\tpopfq\n\t"   /* NT stays, too */
	"fninit\n\tpushq $0x1f80\n\tldmxcsr (%rsp)\n\taddq $8, %rsp\n\tvzeroupper\n\t"
	"pop %r15\n\tpop %r14\n\tpop %r13\n\tpop %r12\n\tpop %rbp\n\tpop %rbx\n\tret\n"
	/* The kernel leaves AC set: away with it before anything is compiled for no alignment. */
	"step_signal:\n\t"
	"pushfq\n\tandl $~0x40000, (%rsp)\n\tpopfq\n\tjmp step_on_signal\n"
);
void step_enter(void);
void step_home(void);
void step_signal(int sig, siginfo_t *info, void *ucontext);
void step_on_signal(int sig, siginfo_t *info, void *ucontext);

/* Whether the case that was under way when this was asked last still is. */
static bool is_stuck(void)
{
	static uint64_t before;
	bool same = before == cases;

	before = cases;
	return result && same;
}

static uint16_t segment_now(bool es)
{
	uint16_t v = 0;

	if (es) {
		__asm__ volatile("mov %%es, %0" : "=r"(v));
	} else {
		__asm__ volatile("mov %%ds, %0" : "=r"(v));
	}
	return v;
}

void step_on_signal(int sig, siginfo_t *info, void *ucontext)
{
	ucontext_t *uc = ucontext;
	greg_t *g = uc->uc_mcontext.gregs;
	static const int regs[] = { REG_RAX, REG_RCX, REG_RDX, REG_RBX, REG_RSP, REG_RBP, REG_RSI,
				    REG_RDI, REG_R8, REG_R9, REG_R10, REG_R11, REG_R12, REG_R13,
				    REG_R14, REG_R15 };
	struct step_end *r = result;

	(void)info;
	if (sig == SIGPROF ? !is_stuck() : native_signal(sig, ucontext)) {
		return;
	}
	if (!r) {
		signal(sig, SIG_DFL);   /* our own mistake */
		return;
	}
	result = NULL;
	for (unsigned k = 0; k < ARRAY_LEN(regs); k++) {
		r->gpr[k] = (uint64_t)g[regs[k]];
	}
	r->rip = (uint64_t)g[REG_RIP];
	r->rflags = (uint64_t)g[REG_EFL];
	r->cr2 = (uint64_t)g[REG_CR2];
	r->error = (uint32_t)g[REG_ERR];
	r->vector = sig == SIGPROF ? STEP_STUCK : (int)g[REG_TRAPNO];
	r->cs = (uint16_t)g[REG_CSGSFS];
	r->ss = (uint16_t)((uint64_t)g[REG_CSGSFS] >> 48);
	r->ds = segment_now(false);
	r->es = segment_now(true);
	memcpy(r->xsave, uc->uc_mcontext.fpregs, CPU_XSAVE_BYTES);
	g[REG_RIP] = (greg_t)(uintptr_t)step_home;
	g[REG_CSGSFS] = STEP_CS_64 | (greg_t)STEP_DS << 48;
	g[REG_EFL] = 0x202;
}

void step_native(const struct cpu_state *s, struct step_end *ret)
{
	memcpy(block->gpr, s->gpr, sizeof(block->gpr));
	memcpy(block->xsave, s->xsave, CPU_XSAVE_BYTES);
	block->ds = s->seg[CPU_DS].selector;
	block->es = s->seg[CPU_ES].selector;
	block->frame.rip = s->rip;
	block->frame.cs = s->seg[CPU_CS].selector;
	block->frame.rflags = s->rflags | CPU_FLAG_TF | CPU_FLAG_IF;
	block->frame.rsp = s->gpr[CPU_RSP];
	block->frame.ss = s->seg[CPU_SS].selector;
	cases++;
	result = ret;
	step_enter();
}

void step_signals(void)
{
	static const int signals[] = { SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGTRAP, SIGPROF };
	const struct itimerval often = { .it_interval = { STUCK_SECONDS, 0 },
					 .it_value = { STUCK_SECONDS, 0 } };
	static uint8_t stack[1 << 16];
	struct sigaction sa = { .sa_sigaction = step_signal,
				.sa_flags = SA_SIGINFO | SA_ONSTACK | SA_NODEFER };
	stack_t ss = { .ss_sp = stack, .ss_size = sizeof(stack) };

	sigaltstack(&ss, NULL);
	for (unsigned k = 0; k < ARRAY_LEN(signals); k++) {
		sigaction(signals[k], &sa, NULL);
	}
	setitimer(ITIMER_PROF, &often, NULL);
}

static void make_memory(uint64_t at, size_t bytes, int prot)
{
	void *p = mmap((void *)at, bytes, prot,
		       MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE | MAP_POPULATE, -1, 0);

	if (p != (void *)at) {
		perror("mmap");
		exit(1);
	}
}

static bool segment(unsigned entry, uint32_t base, uint32_t limit, bool code)
{
	struct user_desc d = { .entry_number = entry, .base_addr = base, .limit = limit,
			       .contents = code ? 2 : 0, .useable = 1 };

	return syscall(SYS_modify_ldt, 1, &d, sizeof(d)) == 0;
}

bool step_setup(void)
{
	make_memory(BLOCK_AT, 4096, PROT_READ | PROT_WRITE);
	make_memory(STEP_CODE, (STEP_CODE_PAGES - 1) * 4096, PROT_READ | PROT_WRITE | PROT_EXEC);
	make_memory(STEP_DATA, STEP_DATA_PAGES * 4096, PROT_READ | PROT_WRITE);
	for (unsigned k = 0; k < STEP_DATA_PAGES; k++) {
		void *page = (void *)(uintptr_t)(STEP_DATA + 4096 * k);
		int prot = step_data_pages[k] == STEP_ABSENT ? PROT_NONE :
			   step_data_pages[k] == STEP_READ ? PROT_READ : PROT_READ | PROT_WRITE;

		memset(page, 0, 4096);
		if (mprotect(page, 4096, prot) < 0) {
			return false;
		}
	}
	return segment(0, STEP_CODE, 0xffff, true) &&
	       segment(1, STEP_DATA, STEP_DS_16_LIMIT, false);
}
