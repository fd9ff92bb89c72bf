/* SPDX-License-Identifier: Apache-2.0 */
/* Signals: when they come, in which order, and that what they interrupt goes on as it was. */
#include <errno.h>
#include <fenv.h>
#include <setjmp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/signalfd.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "conform.h"

static char order[256];
static volatile sig_atomic_t n_order, seen;

static void note(int signo)
{
	if (n_order < (int)sizeof(order) - 1) {
		order[n_order++] = (char)('A' + signo % 26);
	}
}

static void note_value(int signo, siginfo_t *si, void *context)
{
	(void)signo, (void)context;
	if (n_order < (int)sizeof(order) - 1) {
		order[n_order++] = (char)('a' + si->si_value.sival_int % 26);
	}
}

static void count(int signo)
{
	(void)signo;
	seen++;
}

static void handle(int signo, void (*fn)(int), int flags)
{
	struct sigaction a = { .sa_handler = fn, .sa_flags = flags };

	if (sigaction(signo, &a, NULL) < 0) {
		broken("sigaction");
	}
}

static void forget(void)
{
	memset(order, 0, sizeof(order));
	n_order = 0;
	seen = 0;
}

static void blocked(void)
{
	sigset_t set, old, pending;
	union sigval v;

	forget();
	for (int s = 34; s < 40; s++) {
		struct sigaction a = { .sa_sigaction = note_value, .sa_flags = SA_SIGINFO };

		sigaction(s, &a, NULL);
	}
	handle(SIGUSR1, note, 0);
	handle(SIGUSR2, note, 0);
	sigfillset(&set);
	sigprocmask(SIG_BLOCK, &set, &old);
	for (int i = 0; i < 12; i++) {
		v.sival_int = i;
		sigqueue(getpid(), 39 - i % 5, v);
	}
	for (int i = 0; i < 3; i++) {
		kill(getpid(), SIGUSR2);
		kill(getpid(), SIGUSR1);
	}
	sigpending(&pending);
	out("pending", "%d %d %d %d", sigismember(&pending, SIGUSR1), sigismember(&pending, 34),
	    sigismember(&pending, 39), sigismember(&pending, SIGTERM));
	sigprocmask(SIG_SETMASK, &old, NULL);
	out("order", "%s", order);
}

static void nested(int signo)
{
	note(signo);
	if (signo == SIGUSR1) {
		raise(SIGUSR2);
		note(signo);
	}
}

static void nesting(void)
{
	struct sigaction a = { .sa_handler = nested };

	forget();
	sigemptyset(&a.sa_mask);
	sigaction(SIGUSR1, &a, NULL);
	sigaction(SIGUSR2, &a, NULL);
	raise(SIGUSR1);
	out("nested", "%s", order);
	forget();
	sigaddset(&a.sa_mask, SIGUSR2);
	sigaction(SIGUSR1, &a, NULL);
	raise(SIGUSR1);
	out("masked in the handler", "%s", order);
	forget();
	handle(SIGUSR1, count, (int)SA_RESETHAND);
	raise(SIGUSR1);
	struct sigaction now;

	sigaction(SIGUSR1, NULL, &now);
	out("once", "%d %d", seen, now.sa_handler == SIG_DFL);
}

static void interrupted(int flags, const char *name)
{
	int fds[2];
	char c = 0;
	pid_t me = getpid();

	forget();
	handle(SIGUSR1, count, flags);
	if (pipe(fds) < 0) {
		broken("pipe");
	}
	pid_t pid = fork();

	if (pid == 0) {
		struct timespec t = { 0, 20000000 };

		/* Until it sleeps there, and long after, one after the other. */
		for (unsigned i = 0; i < 20; i++) {
			nanosleep(&t, NULL);
			kill(me, SIGUSR1);
		}
		if (write(fds[1], "z", 1) != 1) {
			_exit(1);
		}
		_exit(0);
	}
	ssize_t r = read(fds[0], &c, 1);

	/* After an interruption, the rest. */
	out(name, "%s", flags ? (r == 1 && c == 'z' ? "went on" : "broken") : outcome(r));
	while (c != 'z') {
		if (read(fds[0], &c, 1) < 0 && errno != EINTR) {
			broken("read");
		}
	}
	int status = 0;

	while (waitpid(pid, &status, 0) < 0 && errno == EINTR) {
	}
	out("interruptions", "%s", seen > 0 ? "some" : "none");
	close(fds[0]);
	close(fds[1]);
}

static int64_t stack_at;

static void where(int signo)
{
	char here;

	(void)signo;
	stack_at = (int64_t)(intptr_t)&here;
}

static void other_stack(void)
{
	size_t size = 65536;
	char *stack = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	stack_t s = { .ss_sp = stack, .ss_size = size }, old;

	sigaltstack(&s, &old);
	handle(SIGUSR1, where, SA_ONSTACK);
	raise(SIGUSR1);
	out("other stack", "%d", stack_at > (intptr_t)stack && stack_at < (intptr_t)(stack + size));
	sigaltstack(&old, NULL);
	munmap(stack, size);
}

static sigjmp_buf back;

static void jump(int signo)
{
	siglongjmp(back, signo);
}

static void jumps(void)
{
	volatile unsigned n = 0;

	handle(SIGUSR1, jump, 0);
	for (unsigned i = 0; i < 100; i++) {
		if (sigsetjmp(back, 1) == 0) {
			raise(SIGUSR1);
			n += 1000;
		} else {
			n++;
		}
	}
	out("jumps", "%u", n);
}

/* A handler may do with the registers what it wants. */
static void spoil(int signo)
{
	(void)signo;
	seen++;
	fesetround(FE_UPWARD);
	__asm__ volatile("fninit; fldpi; fldpi; pcmpeqb %%xmm0, %%xmm0; pcmpeqb %%xmm7, %%xmm7; std; cld"
			 : : : "xmm0", "xmm7", "st", "st(1)");
}

#define LOOP "1: addq $1, %%rax; imulq $7, %%rbx; addq %%rax, %%rbx; rolq %%rbx; paddq %%xmm1, %%xmm0; " \
	     "pxor %%xmm0, %%xmm2; addsd %%xmm4, %%xmm3; fadd %%st(1), %%st; stc; adcq $3, %%rbx; " \
	     "cmpq %%rcx, %%rax; jb 1b; "

/* The same calculation undisturbed and with a timer's signals in it. */
static void calculation(uint64_t rounds, uint64_t res[6])
{
	uint64_t a = 0, b = 5;
	double one = 1.25, sum = 0;
	uint64_t seed[2] = { 3, 9 };

	__asm__ volatile("movdqu %5, %%xmm1; movdqa %%xmm1, %%xmm0; movdqa %%xmm1, %%xmm2; "
			 "movsd %6, %%xmm4; xorpd %%xmm3, %%xmm3; fldl %6; fldz; "
			 LOOP
			 "fstpl %3; fstp %%st; movdqu %%xmm2, %2; movsd %%xmm3, %4"
			 : "+a"(a), "+b"(b), "=m"(*(uint64_t(*)[2])(res + 2)), "=m"(sum),
			   "=m"(*(double *)(res + 4))
			 : "m"(seed), "m"(one), "c"(rounds)
			 : "cc", "xmm0", "xmm1", "xmm2", "xmm3", "xmm4", "memory");
	res[0] = a;
	res[1] = b;
	memcpy(res + 5, &sum, sizeof(sum));
}

static void undisturbed(void)
{
	uint64_t quiet[6], loud[6];
	struct itimerval often = { { 0, 2000 }, { 0, 2000 } }, never = { { 0, 0 }, { 0, 0 } };

	forget();
	calculation(200000, quiet);
	handle(SIGALRM, spoil, SA_RESTART);
	setitimer(ITIMER_REAL, &often, NULL);
	bool same = true;

	for (unsigned i = 0; i < 3 || (seen < 20 && i < 100000); i++) {
		calculation(200000, loud);
		same = same && memcmp(quiet, loud, sizeof(quiet)) == 0;
	}
	setitimer(ITIMER_REAL, &never, NULL);
	out("undisturbed", "%s %s rounding %d", same ? "the same" : "differs", seen >= 20 ? "often" : "seldom",
	    fegetround() == FE_TONEAREST);
	out("calculation", "%016llx", (unsigned long long)sum_of(quiet, sizeof(quiet)));
}

static void timers(void)
{
	timer_t t;
	struct sigevent ev = { .sigev_notify = SIGEV_SIGNAL, .sigev_signo = SIGUSR1 };
	struct itimerspec often = { { 0, 1000000 }, { 0, 1000000 } };
	sigset_t set;
	int n = 0;

	sigemptyset(&set);
	sigaddset(&set, SIGUSR1);
	sigprocmask(SIG_BLOCK, &set, NULL);
	if (timer_create(CLOCK_MONOTONIC, &ev, &t) < 0 || timer_settime(t, 0, &often, NULL) < 0) {
		broken("timer");
	}
	for (unsigned i = 0; i < 20; i++) {
		siginfo_t si;

		n += sigwaitinfo(&set, &si) == SIGUSR1 && si.si_code == SI_TIMER;
	}
	timer_delete(t);
	struct timespec none = { 0, 0 };

	sigtimedwait(&set, NULL, &none);
	out("timer", "%d, then %s", n, outcome(sigtimedwait(&set, NULL, &none)));
	int fd = signalfd(-1, &set, SFD_NONBLOCK);
	struct signalfd_siginfo si;

	raise(SIGUSR1);
	ssize_t r = read(fd, &si, sizeof(si));

	out("signalfd", "%zd %d, then %s", r, si.ssi_signo == SIGUSR1, outcome(read(fd, &si, sizeof(si))));
	close(fd);
	sigprocmask(SIG_UNBLOCK, &set, NULL);
}

/* Two processes, each waiting for the other's signal. */
static void ping_pong(void)
{
	sigset_t set, old;
	pid_t me = getpid();
	unsigned n = 0;

	handle(SIGUSR1, count, 0);
	sigemptyset(&set);
	sigaddset(&set, SIGUSR1);
	sigprocmask(SIG_BLOCK, &set, &old);
	pid_t pid = fork();

	if (pid == 0) {
		for (unsigned i = 0; i < 500; i++) {
			sigsuspend(&old);
			kill(me, SIGUSR1);
		}
		_exit(12);
	}
	for (unsigned i = 0; i < 500; i++) {
		kill(pid, SIGUSR1);
		n += (unsigned)(sigsuspend(&old) == -1 && errno == EINTR);
	}
	out("ping pong", "%u %s", n, ended(pid));
	sigprocmask(SIG_SETMASK, &old, NULL);
}

static void of_children(void)
{
	forget();
	handle(SIGCHLD, count, 0);
	sigset_t set, old;

	sigemptyset(&set);
	sigaddset(&set, SIGCHLD);
	sigprocmask(SIG_BLOCK, &set, &old);
	pid_t pid = fork();

	if (pid == 0) {
		_exit(3);
	}
	while (!seen) {
		sigsuspend(&old);
	}
	sigprocmask(SIG_SETMASK, &old, NULL);
	out("child's end", "%d %s", seen, ended(pid));
	handle(SIGCHLD, SIG_IGN, 0);
	pid = fork();
	if (pid == 0) {
		_exit(3);
	}
	out("nobody waits", "%s", outcome(waitpid(pid, NULL, 0)));
	handle(SIGCHLD, SIG_DFL, 0);
}

void conform_signal(void)
{
	section("signal");
	blocked();
	nesting();
	interrupted(0, "interrupted");
	interrupted(SA_RESTART, "restarted");
	other_stack();
	jumps();
	undisturbed();
	timers();
	ping_pong();
	of_children();
}
