/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Guest programs in 32-bit protected mode, for test-soft.c. An exception logs 0x1000 + vector,
 * error code, CR2 if it is a page fault, then goes on at the address in EDI; or, while EBP is
 * 0x1234, at the one in ESI in ring 0, after it has logged whether it came from VM86 mode.
 */
	.section .rodata
#include "vm/cpu/soft/test-guest-macros.h"
	.code32

	prog stubs32
	vectors common32
common32:
	pusha
	mov 32(%esp), %eax
	add $0x1000, %eax
	out %eax, $0xe9
	mov 36(%esp), %eax
	out %eax, $0xe9
	cmpl $14, 32(%esp)
	jne 1f
	mov %cr2, %eax
	out %eax, $0xe9
1:	cmp $0x1234, %ebp
	je 2f
	mov %edi, 40(%esp)
	popa
	add $8, %esp
	iret
2:	mov 48(%esp), %eax
	and $0x20000, %eax
	out %eax, $0xe9
	jmp *%esi
	done stubs32

	/* Where label `to` is when the program runs. */
	.macro at to, reg
	mov $(BASE + \to - guest_legacy), \reg
	.endm
	.macro faulting to, insn:vararg
	at \to, %edi
	\insn
	log 0xdead
\to:
	.endm

	prog legacy
	mov $0x600000, %ebx
	faulting l1, mov (%ebx), %eax
	mov $0x601000, %ebx
	faulting l2, mov %eax, (%ebx)
	mov $0x40, %eax
	faulting l3, mov %eax, %es
	/* To ring 3 and back through a call gate with one parameter. */
	push $0x1b
	push $0x606800
	push $0x3002
	push $0x23
	at ring3, %eax
	push %eax
	iret
ring3:
	mov %cs, %eax
	out %eax, $0xe9
	mov $0x1b, %eax
	mov %eax, %ds
	mov %esp, %ebx
	push $0x77
	lcall $0x33, $0
	sub %esp, %ebx
	mov %ebx, %eax
	out %eax, $0xe9
	mov $0x604000, %ebx
	faulting l4, mov (%ebx), %eax
	faulting l5, int $0x80
	faulting l6, int $0x81             /* its gate is for ring 0 */
	faulting l7, hlt
	push $0x99
	lcall $0x33, $0
	log 0xdead
gate:                                      /* ring 0 */
	mov %cs, %eax
	out %eax, $0xe9
	mov 8(%esp), %eax
	out %eax, $0xe9
	cmp $0x99, %eax
	je inside
	lret $4
inside:
	mov $0x10, %eax
	mov %eax, %ds
	mov %eax, %es
	/* A task, and back. */
	lcall $0x38, $0
	log 0x71
	/* Virtual 8086 mode: what may change the flags is #GP. */
	push $0
	push $0
	push $0
	push $0
	push $0                            /* SS */
	push $0x7000
	push $0x20002
	push $(BASE >> 4)
	push $(vm86 - guest_legacy)
	mov $(vm86_2 - guest_legacy), %edi
	iret
task2:
	pushf
	pop %eax
	and $0x4000, %eax
	out %eax, $0xe9
	mov %cr0, %eax
	and $8, %eax
	out %eax, $0xe9
	clts
	iret
back:
	log 0x86
	out %al, $0xf4
	.code16
vm86:
	mov $5, %ax
	cli
vm86_2:
	mov $0x1234, %bp
	movl $(BASE + back - guest_legacy), %esi
	int $0x80
	.code32
	done legacy
	.globl guest_legacy_gate, guest_legacy_task
guest_legacy_gate:
	.long BASE + gate - guest_legacy
guest_legacy_task:
	.long BASE + task2 - guest_legacy

	.section .note.GNU-stack, "", @progbits
