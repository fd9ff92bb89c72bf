/* SPDX-License-Identifier: Apache-2.0 */
/* See trampoline.h. Freestanding: no C library, no allocation, one static object. */
#include <fcntl.h>
#include <linux/close_range.h>
#include <linux/filter.h>
#include <linux/prctl.h>
#include <linux/seccomp.h>
#include <sys/syscall.h>

#include "container/trampoline.h"

void trampoline_main(const long *stack) __attribute__((noreturn, used));

static struct trampoline_control control;

static long call(long nr, long a, long b, long c, long d)
{
	register long r10 __asm__("r10") = d;
	long ret;

	__asm__ volatile("syscall" : "=a"(ret) : "a"(nr), "D"(a), "S"(b), "d"(c), "r"(r10)
			 : "rcx", "r11", "memory");
	return ret;
}

static __attribute__((noreturn)) void quit(void)
{
	for (;;) {
		call(SYS_exit_group, 1, 0, 0, 0);
	}
}

static long number(const char *s)
{
	long n = 0;

	for (; *s >= '0' && *s <= '9'; s++) {
		n = n * 10 + (*s - '0');
	}
	return n;
}

static __attribute__((noreturn)) void report(long r)
{
	unsigned which = trampoline_report_of((int)-r);
	int32_t errnum = (int32_t)-r;
	uint8_t *at = control.reports[which];
	const uint8_t *from = (const uint8_t *)&errnum;

	for (unsigned i = 0; i < sizeof(errnum); i++) {
		at[control.errnum_offset + i] = from[i];
	}
	call(SYS_write, control.report_fd, (long)at, control.report_bytes, 0);
	quit();
}

static void read_control(long fd)
{
	long done = 0;

	while (done < (long)sizeof(control)) {
		long n = call(SYS_pread64, fd, (long)&control + done, (long)sizeof(control) - done,
			      done);

		if (n <= 0) {
			break; /* the filter's unused end is not in the file */
		}
		done += n;
	}
	if (done < (long)__builtin_offsetof(struct trampoline_control, filter)) {
		quit();
	}
	call(SYS_close, fd, 0, 0, 0);
}

/* What came through our own execve must not go through the next one. A filter may refuse the
 * one call; then one by one. */
static void close_at_exec(void)
{
	const int fds[] = { control.ready_fd, control.wait_fd, control.report_fd };

	if (call(SYS_close_range, control.first_fd, ~0u, CLOSE_RANGE_CLOEXEC, 0) == 0) {
		return;
	}
	for (unsigned i = 0; i < sizeof(fds) / sizeof(fds[0]); i++) {
		if (fds[i] >= 0 && call(SYS_fcntl, fds[i], F_SETFD, FD_CLOEXEC, 0) < 0) {
			quit();
		}
	}
}

void trampoline_main(const long *stack)
{
	long argc = stack[0];
	const char *const *argv = (const char *const *)(stack + 1);
	const char *const *envp = argv + argc + 1;
	char go;

	if (argc < 4) {
		quit();
	}
	read_control(number(argv[1]));
	close_at_exec();
	/*
	 * The execve made it dumpable again. Once ready, others may come in by `exec`, who are
	 * under the filter and it is not yet. Where the filter is there already it might refuse
	 * this call, and is none the weaker.
	 */
	if (control.hide && call(SYS_prctl, PR_SET_DUMPABLE, 0, 0, 0) < 0) {
		quit();
	}
	if (control.ready_fd >= 0 &&
	    call(SYS_write, control.ready_fd, (long)control.ready, control.ready_bytes, 0) < 0) {
		quit(); /* the runtime is gone */
	}
	if (control.ready_fd >= 0 && control.ready_fd != control.report_fd) {
		call(SYS_close, control.ready_fd, 0, 0, 0);
	}
	if (control.wait_fd >= 0 && call(SYS_read, control.wait_fd, (long)&go, 1, 0) != 1) {
		quit(); /* the same */
	}
	if (control.filter_len > 0) {
		struct sock_fprog prog = {
			.len = (unsigned short)control.filter_len,
			.filter = (struct sock_filter *)control.filter,
		};
		long r = call(SYS_seccomp, SECCOMP_SET_MODE_FILTER, control.filter_flags,
			      (long)&prog, 0);

		if (r < 0) {
			report(r);
		}
	}
	report(call(SYS_execve, (long)argv[2], (long)(argv + 3), (long)envp, 0));
}

__asm__(".text\n"
	".globl _start\n"
	".type _start, @function\n"
	"_start:\n"
	"	xor %ebp, %ebp\n"
	"	mov %rsp, %rdi\n"
	"	and $-16, %rsp\n"
	"	call trampoline_main\n"
	"	hlt\n");
