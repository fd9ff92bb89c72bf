/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Litmus tests of memory order: for each up to four threads of a few instructions, which each
 * does ROUNDS times, over as many sets of the variables X, Y and Z. What a thread ends with in
 * EAX and EBX is left beside the set. See test-litmus.c for what must not come of it.
 */
	.section .rodata
	.code64
#include "vm/cpu/soft/test-guest-macros.h"

	.equ SETS, 0x100000
	.equ ROUNDS, 8192
	.equ READY, 0x700
	.equ FINISHED, 0x740
	.equ THREADS, 0x780
#define X (%r8)
#define Y 64(%r8)
#define Z 128(%r8)

	/* All begin together. */
	.macro thread test, n
	prog litmus_\test\()_\n
	mov $SETS, %r8d
	mov $ROUNDS, %ecx
	lock incl READY
1:	pause
	mov READY, %eax
	cmp THREADS, %eax
	jb 1b
2:	xor %eax, %eax
	xor %ebx, %ebx
	.endm

	.macro end test, n
	mov %eax, 192 + 8 * \n(%r8)
	mov %ebx, 196 + 8 * \n(%r8)
	add $256, %r8
	dec %ecx
	jnz 2b
	mov $1, %eax
	lock xadd %eax, FINISHED
	inc %eax
	cmp THREADS, %eax
	jb 3f
	stop
3:	mov %cs, %eax
	test $3, %al
	jnz 4f
	cli
	hlt
4:	pause
	jmp 3b
	done litmus_\test\()_\n
	.endm

/* A thread of one line. */
#define T(test, n, ...) thread test, n; __VA_ARGS__; end test, n

	/* Store buffering: alone it may be seen, with a fence or a locked instruction not. */
	T(sb, 0, movl $1, X; mov Y, %eax)
	T(sb, 1, movl $1, Y; mov X, %eax)
	T(sb_mfence, 0, movl $1, X; mfence; mov Y, %eax)
	T(sb_mfence, 1, movl $1, Y; mfence; mov X, %eax)
	T(sb_lock, 0, movl $1, X; lock orl $0, -8(%rsp); mov Y, %eax)
	T(sb_lock, 1, movl $1, Y; lock orl $0, -8(%rsp); mov X, %eax)
	T(sb_xchg, 0, mov $1, %ebx; xchg %ebx, X; mov Y, %eax)
	T(sb_xchg, 1, mov $1, %ebx; xchg %ebx, Y; mov X, %eax)
	/* Message passing. */
	T(mp, 0, movl $1, X; movl $1, Y)
	T(mp, 1, mov Y, %eax; mov X, %ebx)
	/* Load buffering. */
	T(lb, 0, mov X, %eax; movl $1, Y)
	T(lb, 1, mov Y, %eax; movl $1, X)
	/* S, R, 2+2W: stores against stores. */
	T(s, 0, movl $2, X; movl $1, Y)
	T(s, 1, mov Y, %eax; movl $1, X)
	T(r_mfence, 0, movl $1, X; movl $1, Y)
	T(r_mfence, 1, movl $2, Y; mfence; mov X, %eax)
	T(ww, 0, movl $1, X; movl $2, Y)
	T(ww, 1, movl $1, Y; movl $2, X)
	/* Write to read causality. */
	T(wrc, 0, movl $1, X)
	T(wrc, 1, mov X, %eax; movl $1, Y)
	T(wrc, 2, mov Y, %eax; mov X, %ebx)
	/* Independent reads of independent writes: one order for all. */
	T(iriw, 0, movl $1, X)
	T(iriw, 1, movl $1, Y)
	T(iriw, 2, mov X, %eax; mov Y, %ebx)
	T(iriw, 3, mov Y, %eax; mov X, %ebx)
	/* n6: a thread sees its own store early. n5: two stores to one place have an order. */
	T(n6, 0, movl $1, X; mov X, %eax; mov Y, %ebx)
	T(n6, 1, movl $2, Y; movl $2, X)
	T(n5, 0, movl $1, X; mov X, %eax)
	T(n5, 1, movl $2, X; mov X, %eax)
	/* Reads of one place. */
	T(corr, 0, movl $1, X)
	T(corr, 1, mov X, %eax; mov X, %ebx)
	/* Aligned words are whole, and such as do not leave a line. */
	T(whole, 0, movq $-1, X)
	T(whole, 1, movl $0x55aa55aa, %edx; movq X, %rax; mov %rax, %rbx; shr $32, %rbx)
	T(whole_in_line, 0, movq $-1, 3(%r8))
	T(whole_in_line, 1, movq 3(%r8), %rax; mov %rax, %rbx; shr $32, %rbx)
	/* Each increment counts. */
	T(xadd, 0, mov $1, %eax; lock xadd %eax, X)
	T(xadd, 1, mov $1, %eax; lock xadd %eax, X)
	T(xadd, 2, mov $1, %eax; lock xadd %eax, X)
	T(split, 0, lock incl 62(%r8))
	T(split, 1, lock incl 62(%r8))

	/* On two pages: those of 16 sets go to one place. */
	.macro split_page n
	thread split_page, \n
	mov %r8, %rdi
	or $0xfff, %rdi
	lock incq -2(%rdi)
	end split_page, \n
	.endm
	split_page 0
	split_page 1

	.macro wide n
	thread wide, \n
	mov %ecx, %r9d
	mov X, %rax
	mov 8(%r8), %rdx
5:	lea 1(%rax), %rbx
	lea 1(%rdx), %rcx
	lock cmpxchg16b X
	jnz 5b
	mov Y, %eax
	mov 68(%r8), %edx
6:	lea 1(%eax), %ebx
	lea 1(%edx), %ecx
	lock cmpxchg8b Y
	jnz 6b
	mov %r9d, %ecx
	end wide, \n
	.endm
	wide 0
	wide 1

	.section .note.GNU-stack, "", @progbits
