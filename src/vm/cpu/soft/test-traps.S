/* SPDX-License-Identifier: Apache-2.0 */
/* Guest programs for test-traps.c, in long mode on the machine of test-vm.c. */
	.section .rodata
	.code64
#include "vm/cpu/soft/test-guest-macros.h"

	/* One instruction that faults; R15 is where it goes on. */
	.macro faulting insn:vararg
	lea 9f(%rip), %r15
	\insn
	log 0xdead
9:
	.endm

	/* EAX goes into the log. */
	.macro tell
	out %eax, $0xe9
	.endm

	/* To ring 3, with these flags. */
	.macro to_user flags
	push $0x1b
	push $0x606800
	push $\flags
	push $0x23
	lea 8f(%rip), %rax
	push %rax
	iretq
8:
	.endm

	/* An NMI while one is handled waits for the IRET. */
	prog nmi
	lea 5f(%rip), %rax
	mov %ax, 0x10020                   /* the gate of vector 2 */
	shr $16, %rax
	mov %ax, 0x10026
	mov $0x1b, %ecx
	rdmsr
	or $0xc00, %eax
	wrmsr
	mov $2, %ebp                       /* so many are sent from inside */
	call 6f
	log 3
	stop
5:	log 1
	dec %ebp
	js 7f
	call 6f
	nop
7:	log 2
	iretq
6:	mov $0x830, %ecx                   /* to processor 0 */
	xor %edx, %edx
	mov $0x4400, %eax
	wrmsr
	nop
	ret
	done nmi

	/* Alignment is checked in ring 3 only, and only with both AM and AC. */
	prog ac
	mov %cr0, %rax
	bts $18, %rax
	mov %rax, %cr0
	pushf
	orl $0x40000, (%rsp)
	popf
	mov $0x606001, %ebx
	mov (%rbx), %eax
	log 1
	to_user 0x43002
	faulting mov (%rbx), %eax
	faulting movw $1, (%rbx)
	movb $1, (%rbx)
	mov 0x606010, %rax
	pushf
	andl $~0x40000, (%rsp)
	popf
	mov (%rbx), %eax
	log 2
	stop
	done ac

	/* Pages of 1 GiB; their reserved bits; a write through one is seen at once. */
	prog gib
	movq $0x87, 0x2010                 /* the third GiB is the first */
	mov $0x80604000, %ebx
	movl $0x1234, (%rbx)
	mov 0x604000, %eax
	tell
	mov 0x2010, %eax
	and $0x60, %eax                    /* accessed and dirty */
	tell
	movq $0x2087, 0x2010               /* bit 13 */
	invlpg (%rbx)
	faulting mov (%rbx), %eax
	movq $0, 0x2010
	mov %cr3, %rax
	mov %rax, %cr3
	faulting mov (%rbx), %eax
	stop
	done gib

	/* An upper level that denies: the page is present for the error code. */
	prog upper
	mov $0x606000, %ebx
	mov $1, %eax
	mov %eax, (%rbx)
	andq $~2, 0x3018                   /* the directory: not writable */
	invlpg (%rbx)
	faulting mov %eax, (%rbx)
	mov (%rbx), %eax
	andq $~1, 0x3018                   /* not present */
	invlpg (%rbx)
	faulting mov %eax, (%rbx)
	orq $3, 0x3018
	btsq $63, 0x3018                   /* not executable */
	invlpg (%rbx)
	faulting jmp *%rbx
	btrq $63, 0x3018
	mov 0x3008, %rcx
	btsq $13, 0x3008                   /* reserved in a large page */
	invlpg 0x200000
	faulting mov 0x200000, %eax
	mov %rcx, 0x3008
	invlpg 0x200000
	mov 0x200000, %eax
	log 1
	stop
	done upper

	/* Addresses that are not canonical. */
	prog canonical
	mov $0x8000000000000000, %rbx
	invlpg (%rbx)                      /* nothing */
	log 1
	mov %cr3, %rax
	bts $63, %rax
	faulting mov %rax, %cr3            /* without PCIDs */
	xor %eax, %eax
	mov $0x80000000, %edx
	mov $0xc0000100, %ecx
	faulting wrmsr                     /* FS.base */
	mov $0xc0000102, %ecx
	faulting wrmsr
	mov $0xc0000082, %ecx
	faulting wrmsr                     /* LSTAR */
	mov $0x176, %ecx
	faulting wrmsr
	mov $0x7ffffffffffc, %rbx          /* half of it */
	faulting mov (%rbx), %rax
	mov $0xc0000080, %ecx
	rdmsr
	or $1, %eax
	wrmsr
	mov $0x8000000000000000, %rcx
	mov $2, %r11d
	faulting sysretq
	mov %cs, %eax
	tell
	stop
	done canonical

	/* IRET: SS that is not present; data segments of ring 0 in ring 3; NT in long mode. */
	prog iret
	mov %rsp, %rbp
	push $0x40
	push %rbp
	push $2
	push $8
	lea 1f(%rip), %rax
	push %rax
	faulting iretq
1:	mov %rbp, %rsp
	push $0x10
	push %rbp
	push $2
	push $8
	push %rax
	pushf
	orl $0x4000, (%rsp)
	popf
	faulting iretq
	pushf
	andl $~0x4000, (%rsp)
	popf
	mov %rbp, %rsp
	mov $0x10, %eax
	mov %eax, %ds
	mov $0x1b, %eax
	mov %eax, %es
	to_user 0x3002
	mov %ds, %eax
	tell
	mov %es, %eax
	tell
	stop
	done iret

	/* DR4 and DR5 are DR6 and DR7 unless CR4.DE; a watch of 8 bytes; DR6 stays. */
	prog drs
	mov $0x604010, %eax
	mov %rax, %dr1
	mov $0x00900008, %eax              /* G1: writes, 8 bytes */
	mov %rax, %dr7
	mov $0x604017, %ebx
	faulting movb $1, (%rbx)
	.byte 0x0f, 0x21, 0xe0             /* mov %dr4, %rax */
	and $0xf, %eax
	tell
	.byte 0x0f, 0x21, 0xe8             /* mov %dr5, %rax */
	tell
	mov $0x604018, %ebx
	movb $1, (%rbx)                    /* the next byte */
	mov $0x604008, %ebx
	movq $1, (%rbx)
	mov %cr4, %rax
	or $8, %eax
	mov %rax, %cr4
	lea 9f(%rip), %r15
	.byte 0x0f, 0x21, 0xe0
	log 0xdead
9:	mov %dr6, %rax
	and $0xf, %eax
	tell
	stop
	done drs

	/* The I/O map: 256 ports, and the byte behind it. */
	prog iomap
	movw $0x68, 0x6866
	mov $0x6868, %edi
	mov $0x20, %ecx
	xor %eax, %eax
	cld
	rep stosb
	movb $0xff, (%rdi)
	movb $0x10, 0x6868 + 0x80 / 8      /* port 0x84 */
	movw $0x88, 0x6028                 /* the limit; available again */
	movb $0x89, 0x602d
	mov $0x28, %eax
	ltr %ax
	to_user 2
	mov $0xff, %edx
	in %dx, %al
	log 1
	faulting in %dx, %ax
	mov $0x100, %edx
	faulting in %dx, %al
	faulting in $0x84, %al
	faulting in $0x82, %eax
	in $0x80, %eax
	log 2
	stop
	done iomap

	/* A task segment that is too short for the stack that a gate wants: #TS. */
	prog short_tss
	movw $0x4f, 0x6028
	movb $0x89, 0x602d
	mov $0x28, %eax
	ltr %ax
	movb $7, 0x10000 + 16 * 0x90 + 4
	faulting int $0x90
	movb $0x89, 0x602d
	movb $0x82, 0x602d                 /* an LDT is no task */
	faulting ltr %ax
	stop
	done short_tss

	/* After MOV to CR3 the next instruction is fetched from where the page is then. */
	prog cr3
	mov $0x1000, %esi                  /* all tables again, at 3 MiB */
	mov $0x300000, %edi
	mov $0x5000, %ecx
	cld
	rep movsb
	movl $0x301007, 0x300000
	movl $0x302007, 0x301000
	movl $0x304007, 0x302018
	mov 0x5000 + 8 * 9, %rax
	mov %rax, 0x304000 + 8 * 8         /* 0x608000 is 0x609000's page there */
	lea 1f(%rip), %rsi
	mov $0x608000, %edi
	mov $16, %ecx
	rep movsb
	lea 1f(%rip), %rsi
	mov $0x609000, %edi
	mov $16, %ecx
	rep movsb
	movb $0x22, 0x609004
	mov %cr3, %r8
	mov $0x300000, %r9d
	mov $3, %r10d
2:	mov %r9, %rax
	mov $0x608000, %ebx
	call *%rbx
	tell
	mov %r8, %cr3
	mov %r8, %rax
	call *%rbx
	tell
	dec %r10d
	jnz 2b
	stop
1:	mov %rax, %cr3
	mov $0x11, %eax
	ret
	done cr3

	/* An instruction on two pages, of which the second becomes another. */
	prog pages
	movl $0x1111b890, 0x606ffd - 1     /* mov $..., %eax over the end; ret */
	movl $0x00c31111, 0x607000
	movl $0x00c32222, 0x608000
	mov $0x606ffd, %ebx
	call *%rbx
	tell
	mov 0x5040, %rax
	mov %rax, 0x5038
	invlpg 0x607000
	call *%rbx
	tell
	/* A byte of its second half, by another address. */
	movb $0x33, 0x40608000
	call *%rbx
	tell
	stop
	done pages

	/* A call returns into instructions that were written meanwhile. */
	prog returned
	lea 1f(%rip), %rbx
	mov $0x41, %ecx
2:	call 3f
1:	mov $0x40, %al
	movzbl %al, %eax
	tell
	inc %ecx
	cmp $0x43, %ecx
	jne 2b
	stop
3:	mov %cl, 1(%rbx)
	ret
	done returned

	/* TF: no trap after INT n and SYSCALL (whose mask takes TF away), one after IRET. */
	prog no_step
	mov $0xc0000080, %ecx
	rdmsr
	or $1, %eax
	wrmsr
	mov $0xc0000081, %ecx
	xor %eax, %eax
	mov $0x00130008, %edx
	wrmsr
	mov $0xc0000082, %ecx
	lea 5f(%rip), %rax
	xor %edx, %edx
	wrmsr
	mov $0xc0000084, %ecx
	mov $0x300, %eax
	wrmsr
	to_user 0x3002
	lea 1f(%rip), %r15
	pushf
	orl $0x100, (%rsp)
	popf
	int3
1:	log 1
	lea 2f(%rip), %r15
	pushf
	orl $0x100, (%rsp)
	popf
	syscall
	nop
	log 0xdead
2:	log 2
	stop
5:	mov %r11d, %eax
	and $0x100, %eax
	out %eax, $0xe9
	sysretq
	done no_step

	/* Until the host has taken time from this processor, and told so; RDI is its record. */
	prog steal
	mov %rsp, %rdi
	mov $0x4b564d03, %ecx
	lea 1(%edi), %eax
	xor %edx, %edx
	wrmsr
1:	cmpq $0, (%rdi)
	je 1b
	mov 8(%rdi), %eax                  /* a version that is even, and not 0 */
	test %eax, %eax
	jz 1b
	test $1, %al
	jnz 1b
	lock incl 0x700
2:	cmpl $2, 0x700
	jb 2b
	stop
	done steal

	/* MOV SS from a watched place: the trap comes after the next instruction. */
	prog held
	mov $0x604010, %ebx
	movw $0x10, (%rbx)
	mov %rbx, %dr1
	mov $0x00f00008, %eax              /* G1: reads and writes, 4 bytes */
	mov %rax, %dr7
	xor %edx, %edx
	lea 1f(%rip), %r15
	.globl guest_held_at
guest_held_at:
	mov (%rbx), %ss
	mov $5, %edx
	log 0xdead
1:	mov %edx, %eax
	tell
	mov %dr6, %rax
	and $0xf, %eax
	tell
	stop
	done held

	.code16
	/* VEX is LES and LDS in real mode; of a register: #UD. */
	prog vex16
	xor %ax, %ax
	mov %ax, %ds
	movw $(BASE + 2f - guest_vex16), 6 * 4
	movw $0, 6 * 4 + 2
	.byte 0xc5, 0xf8, 0x77
1:	mov $0xdead, %eax
	out %eax, $0xe9
2:	mov $6, %eax
	out %eax, $0xe9
	out %al, $0xf4
	done vex16

	.section .note.GNU-stack, "", @progbits
