/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The exception handlers of test-vm.c's machine in long mode. An exception logs 0x1000 + vector,
 * error code, the low half of CR2 if it is a page fault, then goes on at the address in R15.
 */
	.section .rodata
#include "vm/cpu/soft/test-guest-macros.h"
	.code64
	prog stubs
	vectors stub_common
stub_common:
	push %rax
	mov 8(%rsp), %rax
	add $0x1000, %eax
	out %eax, $0xe9
	cmpl $32, 8(%rsp)
	jae 2f
	mov 16(%rsp), %rax
	out %eax, $0xe9
	cmpl $14, 8(%rsp)
	jne 1f
	mov %cr2, %rax
	out %eax, $0xe9
1:	cmpl $1, 8(%rsp)
	jne 3f
	andl $~0x100, 40(%rsp)             /* no more single steps */
3:	mov %r15, 24(%rsp)
	pop %rax
	add $16, %rsp
	iretq
2:	/* An interrupt: end of interrupt by MSR, back to where it was. */
	push %rcx
	push %rdx
	mov $0x80b, %ecx
	xor %eax, %eax
	xor %edx, %edx
	wrmsr
	pop %rdx
	pop %rcx
	pop %rax
	add $16, %rsp
	iretq
	done stubs

	.section .note.GNU-stack, "", @progbits
