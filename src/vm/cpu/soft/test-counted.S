/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Guests of test-counted.c. What they keep depends on the time at which each of them came to each
 * point: TSC is added up, and turned, at each.
 */
	.section .rodata
	.code64
#include "vm/cpu/soft/test-guest-macros.h"

	.equ ROUNDS, 0x700       /* how many the first one makes */
	.equ ROUND, 0x708
	.equ FOUND, 0x710
	.equ SLEEPS, 0x718
	.equ SUMS, 0x740         /* 8 bytes a vCPU */
	.equ FROM, 0x100000
	.equ TO, 0x110000

	.macro note n
	rdtsc
	shl $32, %rdx
	or %rdx, %rax
	add SUMS + 8 * \n, %rax
	rol $7, %rax
	mov %rax, SUMS + 8 * \n
	.endm

	/* The first one counts until the other one was there; that one keeps how far it was. */
	prog counts
1:	incq ROUND
	cmpq $0, FOUND
	je 1b
	stop
2:	hlt
	jmp 2b
	done counts
	prog finds
	hlt
	mov ROUND, %rax
	mov %rax, FOUND
1:	hlt
	jmp 1b
	done finds

	/* Two that compute, copy and sleep. */
	prog first
1:	incq ROUND
	mov $50, %ecx
2:	imul $3, SUMS, %rax
	add %rcx, %rax
	mov %rax, SUMS
	loop 2b
	testb $31, ROUND
	jnz 3f
	note 0
	mov $FROM, %esi
	mov $TO, %edi
	mov SUMS, %ecx
	and $0x3fff, %ecx
	rep movsb
	cmpq $0, SLEEPS
	je 3f
	hlt
	note 0
3:	mov ROUND, %rax
	cmp ROUNDS, %rax
	jb 1b
	stop
4:	hlt
	jmp 4b
	done first
	prog second
1:	hlt
	note 1
	mov $FROM, %edi
	mov SUMS, %rax
	mov $700, %ecx
	rep stosq
	mov SUMS + 8, %ecx
	and $0xfff, %ecx
	inc %ecx
2:	addq $5, SUMS + 8
	loop 2b
	jmp 1b
	done second

	/* Of NMIs. */
	prog nmi
	push %rax
	push %rdx
	note 2
	pop %rdx
	pop %rax
	iretq
	done nmi

	.section .note.GNU-stack, "", @progbits
