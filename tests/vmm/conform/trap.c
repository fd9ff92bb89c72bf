/* SPDX-License-Identifier: Apache-2.0 */
/* What the processor refuses, as the kernel tells it; single steps and breakpoints. */
#include <errno.h>
#include <fcntl.h>
#include <fenv.h>
#include <setjmp.h>
#include <signal.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/ptrace.h>
#include <sys/user.h>
#include <sys/wait.h>
#include <ucontext.h>
#include <unistd.h>

#include "conform.h"

static sigjmp_buf back;
static struct {
	int       signo, code;
	long long trap, error;
	uintptr_t address;
} got;

static void on_trap(int signo, siginfo_t *si, void *context)
{
	ucontext_t *u = context;

	__asm__ volatile("pushfq; andq $~0x40000, (%%rsp); popfq" : : : "cc", "memory");
	got.signo = signo;
	got.code = si->si_code;
	got.address = (uintptr_t)si->si_addr;
	got.trap = u->uc_mcontext.gregs[REG_TRAPNO];
	got.error = u->uc_mcontext.gregs[REG_ERR];
	siglongjmp(back, 1);
}

static uint8_t *page;   /* two pages, the second one without access */

/* Where the address lies that the signal names. */
static const char *place(void)
{
	static char text[32];

	if (got.address >= (uintptr_t)page && got.address < (uintptr_t)page + 8192) {
		snprintf(text, sizeof(text), "page+%#zx", got.address - (uintptr_t)page);
		return text;
	}
	return got.address == 0 ? "0" : got.address < 65536 ? "low" : "elsewhere";
}

#define TRAP(name, ...) do { \
	memset(&got, 0, sizeof(got)); \
	if (sigsetjmp(back, 1) == 0) { \
		__VA_ARGS__; \
	} \
	feclearexcept(FE_ALL_EXCEPT); \
	fedisableexcept(FE_ALL_EXCEPT); \
	out(name, "signal %d code %d trap %lld error %lld at %s", got.signo, got.code, got.trap, \
	    got.error, place()); \
} while (0)

static void numbers(void)
{
	volatile int zero = 0;
	volatile double dzero = 0, one = 1, huge = 1e308, tiny = 1e-308;
	volatile long double lzero = 0;

	TRAP("division", __asm__ volatile("xorl %%edx, %%edx; idivl %0" : : "m"(zero), "a"(1) : "edx", "cc"));
	TRAP("division of the least", __asm__ volatile("idivl %1" : : "a"(0x80000000), "r"(-1), "d"(-1) : "cc"));
	TRAP("byte division", __asm__ volatile("divb %%cl" : : "a"(0xffff), "c"(1) : "cc"));
	TRAP("sse division", feenableexcept(FE_DIVBYZERO); dzero = one / dzero);
	dzero = 0;
	TRAP("sse overflow", feenableexcept(FE_OVERFLOW); one = huge * huge);
	TRAP("sse underflow", feenableexcept(FE_UNDERFLOW); one = tiny * tiny);
	TRAP("sse invalid", feenableexcept(FE_INVALID); one = dzero / dzero);
	one = 1;
	TRAP("sse inexact", feenableexcept(FE_INEXACT); one = one / 3);
	one = 1;
	TRAP("x87 division", feenableexcept(FE_DIVBYZERO); lzero = 1.0L / lzero;
	     __asm__ volatile("fwait"));
	TRAP("x87 stack", feenableexcept(FE_INVALID); __asm__ volatile("fninit; fldcw %0; fstp %%st; fwait"
									: : "m"((uint16_t){ 0x037e })));
	__asm__ volatile("fninit");
}

static void instructions(void)
{
	TRAP("ud2", __asm__ volatile("ud2"));
	TRAP("int3", __asm__ volatile("int3"));
	TRAP("int 3", __asm__ volatile(".byte 0xcd, 3"));
	TRAP("int 4", __asm__ volatile("int $4"));
	TRAP("int 0x81", __asm__ volatile("int $0x81"));
	TRAP("hlt", __asm__ volatile("hlt"));
	TRAP("cli", __asm__ volatile("cli"));
	TRAP("in", __asm__ volatile("inb $0x80, %%al" : : : "eax"));
	TRAP("mov cr0", __asm__ volatile("mov %%cr0, %%rax" : : : "rax"));
	TRAP("rdmsr", __asm__ volatile("rdmsr" : : "c"(0x10) : "eax", "edx"));
	TRAP("wbinvd", __asm__ volatile("wbinvd"));
	TRAP("lgdt", __asm__ volatile("lgdt (%%rsp)" : : : "memory"));
	TRAP("bad segment", __asm__ volatile("movw %0, %%ds" : : "r"((uint16_t)0x1230)));
	TRAP("lock", __asm__ volatile(".byte 0xf0, 0x89, 0xc0"));
	TRAP("push es", __asm__ volatile(".byte 0x06"));
	TRAP("much prefix", __asm__ volatile(".byte 0x66,0x66,0x66,0x66,0x66,0x66,0x66,0x66,0x66,0x66,"
					     "0x66,0x66,0x66,0x66,0x66,0x90"));
	TRAP("sysexit", __asm__ volatile("sysexitl"));
	TRAP("far return", __asm__ volatile("pushq $0x1230; pushq $0; lretq"));
	TRAP("iret", __asm__ volatile("pushq $0; pushq $0; pushq $2; pushq $0x1230; pushq $0; iretq"));
	TRAP("xgetbv", __asm__ volatile("xgetbv" : : "c"(5) : "eax", "edx"));
}

static void memory(void)
{
	static uint8_t aligned[64] __attribute__((aligned(64)));
	volatile uint8_t *p = page, *second = page + 4096;
	volatile int *low = (volatile int *)(uintptr_t)(rnd() % 2 * 8);   /* not for the compiler */
	int fd = open("short", O_RDWR | O_CREAT | O_TRUNC, 0600);

	TRAP("null", *low = 1);
	TRAP("read", (void)*second);
	TRAP("write", *second = 1);
	TRAP("over the edge", *(volatile uint64_t *)(void *)(page + 4092) = 1);
	TRAP("read over the edge", (void)*(volatile uint64_t *)(void *)(page + 4093));
	TRAP("not canonical", *(volatile int *)0x8000000000000000 = 1);
	TRAP("kernel", (void)*(volatile int *)0xffffffff81000000);
	TRAP("not canonical stack", __asm__ volatile("movq %%rsp, %%rbx; movq %0, %%rsp; pushq $1; movq %%rbx, %%rsp"
							: : "r"(0x4000000000000000) : "rbx"));
	TRAP("jump to data", ((void (*)(void))(uintptr_t)page)());
	TRAP("jump away", ((void (*)(void))(uintptr_t)0x4000000000000000)());
	TRAP("not aligned", __asm__ volatile("movaps 1(%0), %%xmm0" : : "r"(aligned) : "xmm0"));
	TRAP("aligned", __asm__ volatile("movaps 16(%0), %%xmm0" : : "r"(aligned) : "xmm0"));
	TRAP("alignment check", __asm__ volatile("pushfq; orq $0x40000, (%%rsp); popfq; movl 1(%0), %%eax; "
						 "pushfq; andq $~0x40000, (%%rsp); popfq"
						 : : "r"(aligned) : "eax", "cc", "memory"));
	__asm__ volatile("pushfq; andq $~0x40000, (%%rsp); popfq" : : : "cc", "memory");
	TRAP("string over the edge", __asm__ volatile("rep stosb" : : "D"(page + 4090), "c"(100L), "a"(7) : "memory"));
	out("what it wrote", "%d %d", p[4095], p[4089]);
	mprotect(page, 4096, PROT_READ);
	TRAP("write to what is read only", *p = 1);
	TRAP("exchange there", __asm__ volatile("lock cmpxchgl %1, %0" : "+m"(*(volatile int *)(void *)page)
						: "r"(1), "a"(77) : "cc"));
	mprotect(page, 4096, PROT_READ | PROT_WRITE);
	volatile uint8_t *map = mmap(NULL, 4096, PROT_READ, MAP_SHARED, fd, 0);

	TRAP("beyond the file", (void)*map);
	munmap((void *)map, 4096);
	close(fd);
	unlink("short");
}

/* --- Single steps, by the flag and by a tracer --- */

static volatile unsigned steps;
static volatile uintptr_t first_step;

static void on_step(int signo, siginfo_t *si, void *context)
{
	ucontext_t *u = context;

	(void)signo;
	if (steps++ == 0) {
		first_step = (uintptr_t)u->uc_mcontext.gregs[REG_RIP];
		got.code = si->si_code;
	}
}

static void single_steps(void)
{
	struct sigaction a = { .sa_sigaction = on_step, .sa_flags = SA_SIGINFO };
	uint64_t b = 0;

	sigaction(SIGTRAP, &a, NULL);
	steps = 0;
	__asm__ volatile("pushfq; orq $0x100, (%%rsp); popfq; "
			 "nop; movl $5, %%ecx; 1: addq $3, %0; loop 1b; pushq %0; popq %0; "
			 "movw %%ss, %%ax; movw %%ax, %%ss; nop; rep stosb; cpuid; "
			 "pushfq; andq $~0x100, (%%rsp); popfq"
			 : "+r"(b) : "D"(page) : "rax", "rbx", "rcx", "rdx", "cc", "memory");
	out("single steps", "%u code %d result %llu", steps, got.code, (unsigned long long)b);
}

extern const char trace_begin[], trace_end[];
__asm__("trace_begin: movl $3, %ecx\n1: movl %ecx, traced_word(%rip)\nloop 1b\nleaq trace_stack(%rip), %rsp\n"
	"addq $512, %rsp\ncall 2f\nmovl $60, %eax\nmovl $21, %edi\nsyscall\n2: pushq %rax\npopq %rbx\nret\ntrace_end:");
volatile uint32_t traced_word;
uint8_t trace_stack[1024] __attribute__((aligned(16)));

static pid_t traced_child(void)
{
	pid_t pid = fork();

	if (pid == 0) {
		ptrace(PTRACE_TRACEME, 0, NULL, NULL);
		raise(SIGSTOP);
		((void (*)(void))(uintptr_t)trace_begin)();
		_exit(1);
	}
	waitpid(pid, NULL, 0);
	return pid;
}

static void traced(void)
{
	pid_t pid = traced_child();
	struct user_regs_struct r;
	struct sum s;
	int status = 0;
	unsigned n = 0;

	sum_start(&s);
	ptrace(PTRACE_GETREGS, pid, NULL, &r);
	r.rip = (uintptr_t)trace_begin;
	ptrace(PTRACE_SETREGS, pid, NULL, &r);
	while (ptrace(PTRACE_SINGLESTEP, pid, NULL, NULL) == 0 && waitpid(pid, &status, 0) == pid &&
	       WIFSTOPPED(status)) {
		ptrace(PTRACE_GETREGS, pid, NULL, &r);
		sum_u64(&s, r.rip - (uintptr_t)trace_begin);
		sum_u64(&s, r.rcx < 10 ? r.rcx : 0);
		n++;
	}
	out("traced steps", "%u %016llx exit %d", n, (unsigned long long)s.v,
	    WIFEXITED(status) ? WEXITSTATUS(status) : -1);
}

static bool set_debug(pid_t pid, unsigned n, uintptr_t v)
{
	return ptrace(PTRACE_POKEUSER, pid, offsetof(struct user, u_debugreg) + n * sizeof(long), v) == 0;
}

/* A watched word and an instruction, by the debug registers. */
static void watched(void)
{
	pid_t pid = traced_child();
	struct user_regs_struct r;
	int status = 0;
	unsigned n = 0;

	ptrace(PTRACE_GETREGS, pid, NULL, &r);
	r.rip = (uintptr_t)trace_begin;
	ptrace(PTRACE_SETREGS, pid, NULL, &r);
	bool set = set_debug(pid, 0, (uintptr_t)&traced_word) && set_debug(pid, 1, (uintptr_t)trace_end - 1) &&
		   set_debug(pid, 7, 0x000d0005);

	out("debug registers", "%d", set);
	while (ptrace(PTRACE_CONT, pid, NULL, NULL) == 0 && waitpid(pid, &status, 0) == pid &&
	       WIFSTOPPED(status) && n < 20) {
		long dr6 = ptrace(PTRACE_PEEKUSER, pid, offsetof(struct user, u_debugreg) + 6 * sizeof(long), 0);
		long word = ptrace(PTRACE_PEEKDATA, pid, &traced_word, 0);

		ptrace(PTRACE_GETREGS, pid, NULL, &r);
		out("stop", "signal %d at %llu dr6 %lx word %u", WSTOPSIG(status),
		    (unsigned long long)(r.rip - (uintptr_t)trace_begin), dr6 & 0xf, (unsigned)word);
		set_debug(pid, 6, 0);
		n++;
	}
	out("watched", "%u exit %d", n, WIFEXITED(status) ? WEXITSTATUS(status) : -1);
}

void conform_trap(void)
{
	static const int all[] = { SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGTRAP };
	static uint8_t stack[65536];
	stack_t s = { .ss_sp = stack, .ss_size = sizeof(stack) };
	struct sigaction a = { .sa_sigaction = on_trap, .sa_flags = SA_SIGINFO | SA_ONSTACK };

	section("trap");
	sigaltstack(&s, NULL);
	for (size_t i = 0; i < 5; i++) {
		sigaction(all[i], &a, NULL);
	}
	page = mmap(NULL, 8192, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	mprotect(page + 4096, 4096, PROT_NONE);
	page[0] = 0xc3;
	numbers();
	instructions();
	memory();
	single_steps();
	for (size_t i = 0; i < 5; i++) {
		signal(all[i], SIG_DFL);
	}
	traced();
	watched();
	munmap(page, 8192);
}
