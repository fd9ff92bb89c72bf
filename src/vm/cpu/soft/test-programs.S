/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The kernel of test-programs.c's machine: whatever comes to it is written down with the whole
 * frame and all registers, then the program goes on at its next piece. The addresses are those of
 * test-programs.c.
 */
	.section .rodata
#include "vm/cpu/soft/test-guest-macros.h"
	.equ LOG_AT, 0x0f00
	.equ FIRST, 0x0f08
	.equ PIECES_BYTES, 0x0f10
	.equ LOG_END, 0x0f18
	.equ SELECTOR, 0x0f20
	.code64
	prog programs
	vectors caught
caught:
	push %rax
	push %rbx
	mov LOG_AT, %rbx
	mov %rcx, 0x50(%rbx)
	mov %rdx, 0x58(%rbx)
	mov %rbp, 0x60(%rbx)
	mov %rsi, 0x68(%rbx)
	mov %rdi, 0x70(%rbx)
	mov %r8, 0x78(%rbx)
	mov %r9, 0x80(%rbx)
	mov %r10, 0x88(%rbx)
	mov %r11, 0x90(%rbx)
	mov %r12, 0x98(%rbx)
	mov %r13, 0xa0(%rbx)
	mov %r14, 0xa8(%rbx)
	mov %r15, 0xb0(%rbx)
	off = 0
	.rept 9
	mov off(%rsp), %rax
	mov %rax, off(%rbx)
	off = off + 8
	.endr
	cmpl $14, 16(%rsp)
	jne 1f
	mov %cr2, %rax
	mov %rax, 0x48(%rbx)
1:	add $0x100, %rbx
	mov %rbx, LOG_AT
	cmp LOG_END, %rbx
	jae 3f
	cmpl $0x40, 16(%rsp)
	je 3f
	mov 32(%rsp), %rax
	sub FIRST, %rax
	cmp PIECES_BYTES, %rax
	jb 2f
	mov %ebx, %eax                     /* it got lost: some piece or other */
	shr $2, %eax
	and $0x7c0, %eax
2:	and $-64, %rax
	add $64, %rax
	add FIRST, %rax
	mov %rax, 32(%rsp)
	mov SELECTOR, %rax
	mov %rax, 40(%rsp)
	andl $~0x4100, 48(%rsp)            /* TF, NT */
	movq $0x1b, 64(%rsp)
	pop %rbx
	pop %rax
	add $16, %rsp
	iretq
3:	out %al, $0xf4
	hlt
	jmp 3b
	done programs

	.section .note.GNU-stack, "", @progbits
