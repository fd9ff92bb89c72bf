/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Code that one vCPU changes and another one runs: test-smc.c.
 *
 * At FUNCTION there is MOV EAX, imm32 and RET, the immediate aligned; in the same page the words
 * by which the two speak, one of them beside the code. CROSSING is such a function on two
 * pages, and UNCHANGED one that stays as it is.
 */
	.section .rodata
	.code64
#include "vm/cpu/soft/test-guest-macros.h"

	.equ FUNCTION, 0x400103
	.equ BESIDE, 0x400110      /* in the same 64 bytes */
	.equ SAID, 0x400140
	.equ HEARD, 0x400180
	.equ WRONG, 0x400184
	.equ CROSSING, 0x402ffe
	.equ UNCHANGED, 0x400203
	.equ ALIAS, 0x40000000
	.equ TIMES, 200

	/* Each change is told, and run once. */
	prog smc_told_0
	mov $(ALIAS + FUNCTION + 1), %ebx
	mov $1, %ecx
1:	mov %ecx, (%rbx)
	mov %ch, ALIAS + CROSSING + 2
	incl BESIDE
	mov %ecx, SAID
2:	pause
	cmp %ecx, HEARD
	jne 2b
	inc %ecx
	cmp $(TIMES + 1), %ecx
	jne 1b
	mov BESIDE, %eax
	out %eax, $0xe9
	mov WRONG, %eax
	out %eax, $0xe9
	stop
	done smc_told_0

	prog smc_told_1
	mov $1, %r12d
1:	pause
	cmp %r12d, SAID
	jne 1b
	xor %eax, %eax
	cpuid
	mov $FUNCTION, %eax
	call *%rax
	cmp %r12d, %eax
	je 2f
	incl WRONG
2:	mov $CROSSING, %eax
	call *%rax
	mov %r12d, %edx
	xor %ah, %dh
	jz 3f
	incl WRONG
3:	mov %r12d, HEARD
	inc %r12d
	jmp 1b
	done smc_told_1

	/* It is run all the time; what is seen was there, and never goes back. */
	prog smc_hot_0
	mov $1, %ecx
	mov $0x10001, %edx
1:	mov %edx, ALIAS + FUNCTION + 1
	add $0x10001, %edx
	inc %ecx
	cmp $TIMES, %ecx
	jne 1b
	movl $1, SAID
2:	pause
	cmpl $1, HEARD
	jne 2b
	mov WRONG, %eax
	out %eax, $0xe9
	stop
	done smc_hot_0

	prog smc_hot_1
	xor %r13d, %r13d
	mov $FUNCTION, %ebx
1:	mov SAID, %r14d
	call *%rbx
	mov %eax, %edx
	shr $16, %edx
	cmp %dx, %ax
	je 2f
	incl WRONG
2:	cmp %r13d, %edx
	jae 3f
	incl WRONG
3:	mov %edx, %r13d
	test %r14d, %r14d
	jz 1b
	cmp $(TIMES - 1), %edx
	je 4f
	incl WRONG
4:	movl $1, HEARD
5:	pause
	jmp 5b
	done smc_hot_1

	/* One that runs by two addresses, until both are known well, and then changes; beside it
	 * one that does not. */
	prog smc_places_0
	mov $1, %ecx
1:	mov %ecx, ALIAS + FUNCTION + 1
	mov $20, %r12d
2:	mov $FUNCTION, %ebx
	call *%rbx
	cmp %ecx, %eax
	je 3f
	incl WRONG
3:	mov $(ALIAS + FUNCTION), %ebx
	call *%rbx
	cmp %ecx, %eax
	je 4f
	incl WRONG
4:	mov $UNCHANGED, %ebx
	call *%rbx
	mov $(ALIAS + UNCHANGED), %ebx
	call *%rbx
	dec %r12d
	jnz 2b
	inc %ecx
	cmp $(TIMES + 1), %ecx
	jne 1b
	out %eax, $0xe9
	mov WRONG, %eax
	out %eax, $0xe9
	stop
	done smc_places_0

	prog smc_places_1
1:	pause
	jmp 1b
	done smc_places_1
