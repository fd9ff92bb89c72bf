/* SPDX-License-Identifier: Apache-2.0 */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/ucontext.h>

#include "vm/cpu/soft/native.h"
#include "vm/cpu/soft/oracle.h"

/* Addresses for the assembler, which does not know the enum. */
#define A_BLOCK "0x10000000"
__asm__(
	".text\n"
	"oracle_enter:\n\t"
	"push %rbx\n\tpush %rbp\n\tpush %r12\n\tpush %r13\n\tpush %r14\n\tpush %r15\n\t"
	"movq %rsp, " A_BLOCK "+152\n\t"
	"movl $0x2b, %eax\n\tmovl %eax, %ds\n\tmovl %eax, %es\n\t"   /* for 32-bit code */
	"movl $7, %eax\n\txorl %edx, %edx\n\t"
	"xrstor64 " A_BLOCK "+0x1000\n\t"
	"movq $" A_BLOCK "+0x8000, %rsp\n\t"
	"pushq " A_BLOCK "+128\n\tpopfq\n\t"
	"movq " A_BLOCK "+0, %rax\n\tmovq " A_BLOCK "+8, %rcx\n\tmovq " A_BLOCK "+16, %rdx\n\t"
	"movq " A_BLOCK "+24, %rbx\n\tmovq " A_BLOCK "+32, %rsp\n\tmovq " A_BLOCK "+40, %rbp\n\t"
	"movq " A_BLOCK "+48, %rsi\n\tmovq " A_BLOCK "+56, %rdi\n\tmovq " A_BLOCK "+64, %r8\n\t"
	"movq " A_BLOCK "+72, %r9\n\tmovq " A_BLOCK "+80, %r10\n\tmovq " A_BLOCK "+88, %r11\n\t"
	"movq " A_BLOCK "+96, %r12\n\tmovq " A_BLOCK "+104, %r13\n\tmovq " A_BLOCK "+112, %r14\n\t"
	"movq " A_BLOCK "+120, %r15\n\t"
	"jmpq *" A_BLOCK "+136\n"
	"oracle_far:\n\t"
	"ljmpl *" A_BLOCK "+160\n"
	"oracle_exit:\n\t"
	"movq %rax, " A_BLOCK "+256\n\tmovq %rcx, " A_BLOCK "+264\n\tmovq %rdx, " A_BLOCK "+272\n\t"
	"movq %rbx, " A_BLOCK "+280\n\tmovq %rsp, " A_BLOCK "+288\n\tmovq %rbp, " A_BLOCK "+296\n\t"
	"movq %rsi, " A_BLOCK "+304\n\tmovq %rdi, " A_BLOCK "+312\n\tmovq %r8, " A_BLOCK "+320\n\t"
	"movq %r9, " A_BLOCK "+328\n\tmovq %r10, " A_BLOCK "+336\n\tmovq %r11, " A_BLOCK "+344\n\t"
	"movq %r12, " A_BLOCK "+352\n\tmovq %r13, " A_BLOCK "+360\n\tmovq %r14, " A_BLOCK "+368\n\t"
	"movq %r15, " A_BLOCK "+376\n\t"
	"movq $" A_BLOCK "+0x8000, %rsp\n\t"
	"pushfq\n\tpopq " A_BLOCK "+384\n\t"
	"movl $7, %eax\n\txorl %edx, %edx\n\t"
	"xsave64 " A_BLOCK "+0x2000\n"
	"oracle_home:\n\t"
	"movq " A_BLOCK "+152, %rsp\n\t"
	"cld\n\tfninit\n\tpushq $0x1f80\n\tldmxcsr (%rsp)\n\taddq $8, %rsp\n\tvzeroupper\n\t"
	"pop %r15\n\tpop %r14\n\tpop %r13\n\tpop %r12\n\tpop %rbp\n\tpop %rbx\n\tret\n"
);
void oracle_enter(void);
void oracle_far(void);
void oracle_exit(void);
void oracle_home(void);

static uint8_t *const block = (uint8_t *)BLOCK;
volatile int oracle_vector;

/* Linux's selectors of user code. */
enum { CS_32 = 0x23, CS_64 = 0x33, LEAVE_32 = CODE + 0x1000 };

static void on_signal(int sig, siginfo_t *info, void *ucontext)
{
	ucontext_t *uc = ucontext;
	greg_t *g = uc->uc_mcontext.gregs;
	static const int regs[] = { REG_RAX, REG_RCX, REG_RDX, REG_RBX, REG_RSP, REG_RBP, REG_RSI,
				    REG_RDI, REG_R8, REG_R9, REG_R10, REG_R11, REG_R12, REG_R13,
				    REG_R14, REG_R15 };

	if (native_signal(sig, ucontext)) {
		return;
	}
	if (g[REG_RIP] < CODE || g[REG_RIP] >= CODE + CODE_BYTES) {
		signal(sig, SIG_DFL);   /* our own mistake */
		return;
	}
	(void)info;
	oracle_vector = (int)g[REG_TRAPNO];
	for (unsigned k = 0; k < ARRAY_LEN(regs); k++) {
		memcpy(block + OUT_GPR + 8 * k, &g[regs[k]], 8);
	}
	memcpy(block + OUT_FLAGS, &g[REG_EFL], 8);
	memcpy(block + OUT_XSAVE, uc->uc_mcontext.fpregs, CPU_XSAVE_BYTES);
	g[REG_RIP] = (greg_t)(uintptr_t)oracle_home;
	g[REG_CSGSFS] = (g[REG_CSGSFS] & ~(greg_t)0xffff) | CS_64;
	g[REG_EFL] = 0x202;
}

void oracle_run(const uint8_t *b, unsigned len, const struct cpu_state *s, uint64_t flags,
		enum insn_mode mode)
{
	uint64_t rip = mode == INSN_MODE_64 ? CODE : (uintptr_t)oracle_far;
	static const uint8_t leave[] = { 0xff, 0x24, 0x25 }, leave_32[] = { 0xff, 0x2d };
	uint32_t at = mode == INSN_MODE_64 ? BLOCK + EXIT_RIP : BLOCK + EXIT_FAR;
	unsigned n = mode == INSN_MODE_64 ? 3 : 2;

	memcpy((void *)CODE, b, len);
	memcpy((uint8_t *)CODE + len, mode == INSN_MODE_64 ? leave : leave_32, n);
	memcpy((uint8_t *)CODE + len + n, &at, 4);
	memcpy(block + IN_GPR, s->gpr, sizeof(s->gpr));
	memcpy(block + IN_FLAGS, &flags, 8);
	memcpy(block + IN_RIP, &rip, 8);
	memcpy(block + IN_XSAVE, s->xsave, CPU_XSAVE_BYTES);
	oracle_vector = -1;
	oracle_enter();
}


/* In the test itself, as cmocka has handlers of its own around it. */
void oracle_signals(void)
{
	static const int signals[] = { SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGTRAP };
	static uint8_t stack[1 << 16];
	struct sigaction sa = { .sa_sigaction = on_signal,
				.sa_flags = SA_SIGINFO | SA_ONSTACK | SA_NODEFER };
	stack_t ss = { .ss_sp = stack, .ss_size = sizeof(stack) };

	sigaltstack(&ss, NULL);
	for (unsigned k = 0; k < ARRAY_LEN(signals); k++) {
		sigaction(signals[k], &sa, NULL);
	}
}

static void make_memory(uint64_t at, size_t bytes, int prot)
{
	void *p = mmap((void *)at, bytes, prot, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE,
		       -1, 0);

	if (p != (void *)at) {
		perror("mmap");
		exit(1);
	}
}

void oracle_setup(void)
{
	uint64_t leave = (uintptr_t)oracle_exit;

	make_memory(BLOCK, BLOCK_BYTES, PROT_READ | PROT_WRITE);
	make_memory(CODE, CODE_BYTES, PROT_READ | PROT_WRITE | PROT_EXEC);
	make_memory(DATA, DATA_BYTES, PROT_READ | PROT_WRITE);
	memcpy(block + EXIT_RIP, &leave, 8);
	/* 32-bit code is entered and left by far jumps; the way home begins below 4 GiB. */
	static const uint8_t home[] = { 0xff, 0x24, 0x25, 0x90, 0x00, 0x00, 0x10 };   /* EXIT_RIP */
	struct {
		uint32_t offset;
		uint16_t selector;
	} in = { CODE, CS_32 }, out = { LEAVE_32, CS_64 };

	memcpy((void *)LEAVE_32, home, sizeof(home));
	memcpy(block + ENTER_FAR, &in, sizeof(in));
	memcpy(block + EXIT_FAR, &out, sizeof(out));
}
