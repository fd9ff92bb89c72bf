/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Guest programs for test-soft.c. Each is copied to GUEST_BASE and entered at its first byte.
 * Port 0xe9 takes a value (EAX) for the log, port 0xf4 ends the run. An exception logs 0x1000 +
 * vector, error code, low half of CR2 if it is a page fault, then goes on at the address in R15
 * (long mode).
 */
	.section .rodata
#include "vm/cpu/soft/test-guest-macros.h"

	.code64
	/* The local APIC as x2APIC, and on. */
	.macro x2apic
	mov $0x1b, %ecx
	rdmsr
	or $0xc00, %eax
	wrmsr
	mov $0x80f, %ecx
	mov $0x1ff, %eax                   /* spurious vector, enabled */
	xor %edx, %edx
	wrmsr
	.endm
	/* INIT and a SIPI to 0x9000 for processor 1, which says at 0x700 that it runs. */
	.macro start_other
	mov $0x830, %ecx
	mov $1, %edx
	mov $0x4500, %eax
	wrmsr
	mov $0x4609, %eax
	wrmsr
77:	pause
	cmpl $0x1234, 0x700
	jne 77b
	.endm

/* --- Long mode --- */
	prog hello
	log 0x1234
	stop
	done hello

	/* Faults of one instruction each; R15 is where it goes on. */
	.macro faulting insn:vararg
	lea 9f(%rip), %r15
	\insn
	log 0xdead
9:
	.endm
	prog faults
	xor %edx, %edx
	xor %ecx, %ecx
	faulting div %ecx
	faulting ud2
	mov $0x8000000000000000, %rbx
	faulting mov (%rbx), %eax
	mov $0x8000000000000000, %rbp
	faulting mov (%rbp), %eax
	mov $0x600000, %ebx                /* not present */
	faulting mov (%rbx), %eax
	faulting mov %eax, (%rbx)
	mov $0x601000, %ebx                /* read only */
	mov (%rbx), %eax
	faulting mov %eax, (%rbx)
	faulting lock incl (%rbx)
	faulting cmpxchg %eax, (%rbx)
	mov $0x602000, %ebx                /* no execution */
	faulting jmp *%rbx
	mov $0x603000, %ebx                /* reserved bit */
	faulting mov (%rbx), %eax
	mov $0x600ffc, %ebx                /* two pages: the first is absent */
	faulting mov (%rbx), %rax
	mov $0x5ffffc, %ebx                /* the second is */
	faulting mov (%rbx), %rax
	faulting mov %rax, (%rbx)
	mov $0x77, %ecx
	faulting rdmsr                     /* no such MSR */
	mov $0x1b8, %eax                   /* beyond the table */
	faulting mov %eax, %ds
	faulting int $0x81                 /* gate not present */
	faulting int3
	stop
	done faults

	/* Accessed and dirty bits of the page at 0x604000: its entry is at 0x5020 (test-soft.c). */
	prog ad_bits
	mov $0x604000, %ebx
	mov $0x5020, %esi
	mov (%rsi), %eax
	and $0x60, %eax
	out %eax, $0xe9
	mov (%rbx), %eax
	mov (%rsi), %eax
	and $0x60, %eax
	out %eax, $0xe9
	movl $1, (%rbx)
	mov (%rsi), %eax
	and $0x60, %eax
	out %eax, $0xe9
	/* Cleared and flushed, it is set again. */
	andl $~0x60, (%rsi)
	invlpg (%rbx)
	movl $2, (%rbx)
	mov (%rsi), %eax
	and $0x60, %eax
	out %eax, $0xe9
	stop
	done ad_bits

	/* A translation changes: the old one may stay until INVLPG, then not. */
	prog invlpg
	mov $0x604000, %ebx
	mov $0x5020, %esi
	movl $0x11, (%rbx)
	mov (%rsi), %rdx
	movl $0x22, 0x605000
	mov 0x5028, %rcx                   /* the next page's entry */
	mov %rcx, (%rsi)
	invlpg (%rbx)
	mov (%rbx), %eax
	out %eax, $0xe9
	mov %rdx, (%rsi)
	mov %cr3, %rax
	mov %rax, %cr3
	mov (%rbx), %eax
	out %eax, $0xe9
	stop
	done invlpg

	/* PCIDs: what one address space knows the other does not; no flush with bit 63. */
	prog pcid
	mov $0x604000, %ebx
	mov $0x5020, %esi
	mov %cr4, %rax
	bts $17, %rax
	mov %rax, %cr4
	mov %cr3, %r8                      /* PCID 0 */
	mov %r8, %r9
	or $5, %r9
	movl $0x11, (%rbx)
	movl $0x22, 0x605000
	mov %r9, %cr3                      /* PCID 5 */
	mov (%rbx), %eax
	out %eax, $0xe9
	mov (%rsi), %rdx
	mov 0x5028, %rcx
	mov %rcx, (%rsi)
	bts $63, %r8
	mov %r8, %cr3                      /* back to 0, nothing flushed */
	xor %ecx, %ecx
	sub $16, %rsp
	movq $5, (%rsp)                    /* INVPCID type 1: all of PCID 5 */
	movq $0, 8(%rsp)
	mov $1, %ecx
	invpcid (%rsp), %rcx
	bts $63, %r9
	mov %r9, %cr3                      /* PCID 5 without a flush: was emptied, so new */
	mov (%rbx), %eax
	out %eax, $0xe9
	mov %rdx, (%rsi)
	btr $63, %r8
	mov %r8, %cr3
	mov (%rbx), %eax
	out %eax, $0xe9
	stop
	done pcid

	/* The next instruction of the same block is overwritten. */
	prog smc
	mov $3, %ecx
1:	lea 2f(%rip), %rbx
	mov %cl, 1(%rbx)
2:	mov $0x55, %al
	movzbl %al, %eax
	out %eax, $0xe9
	dec %ecx
	jnz 1b
	/* Through another virtual address, in a loop that was decoded before. */
	lea 3f(%rip), %rbx
	add $0x40000000, %rbx
	mov $2, %ecx
3:	mov $0x66, %al
	movzbl %al, %eax
	out %eax, $0xe9
	movb $0x77, 1(%rbx)
	dec %ecx
	jnz 3b
	stop
	done smc

	/* More blocks than are kept, twice around; one of two that lead to each other changes. */
	prog many
	lea 2f(%rip), %rbp
	mov $2, %ecx
1:	mov $0x400000, %eax
	jmp *%rax
2:	dec %ecx
	jnz 1b
	mov %esi, %eax
	out %eax, $0xe9
	mov $4, %ecx
	lea 4f(%rip), %rbx
	add $0x40000000, %rbx
3:	jmp 4f
	nop
4:	mov $0x33, %al
	test %eax, %eax
	jnz 5f
	nop
5:	movzbl %al, %eax
	out %eax, $0xe9
	cmp $2, %ecx
	jne 6f
	movb $0x44, 1(%rbx)
6:	dec %ecx
	jnz 3b
	stop
	done many

	/* The page of blocks that lead to each other is mapped anew, and later back again. */
	prog remap
	lea 2f(%rip), %rbp
	mov $6, %ecx
1:	mov $0x608000, %eax
	jmp *%rax
2:	test $1, %cl
	jnz 3f
	xorq $0x1000, 0x5040               /* its entry: 0x608000 or 0x609000 */
	invlpg 0x608000
3:	dec %ecx
	jnz 1b
	stop
	done remap

	/* The second page of an instruction on two is mapped anew, and at last written to. */
	prog second
	lea 2f(%rip), %rbp
	mov $128, %ecx
1:	mov $0x60affd, %eax
	jmp *%rax
2:	test $15, %cl
	jnz 3f
	xorq $0x7000, 0x5058               /* its entry: 0x60b000 or 0x60c000 */
	invlpg 0x60b000
3:	cmp $40, %ecx
	ja 4f
	incb 0x60b001
4:	dec %ecx
	jnz 1b
	stop
	done second

	/* An instruction of each feature; what runs logs where CPUID shows it: the register's
	 * number in test-soft.c, and the bit. */
	.macro feature reg bit insn:vararg
	lea 9f(%rip), %r15
	\insn
	mov $(0x2000 | (\reg << 5) | \bit), %eax
	out %eax, $0xe9
9:
	.endm
	prog features
	feature 0 0 haddps %xmm0, %xmm0
	feature 0 1 pclmulqdq $0, %xmm0, %xmm0
	feature 0 9 pshufb %xmm0, %xmm0
	feature 0 12 vfmadd132ps %xmm0, %xmm0, %xmm0
	feature 0 13 cmpxchg16b (%rsp)
	feature 0 19 pmulld %xmm0, %xmm0
	feature 0 20 pcmpgtq %xmm0, %xmm0
	feature 0 22 movbe (%rsp), %eax
	feature 0 23 popcnt %eax, %eax
	feature 0 25 aesenc %xmm0, %xmm0
	xor %ecx, %ecx
	feature 0 26 xgetbv
	feature 0 28 vaddps %ymm0, %ymm0, %ymm0
	feature 0 29 vcvtph2ps %xmm0, %xmm0
	feature 0 30 rdrand %eax
	feature 1 0 fnop
	feature 1 4 rdtsc
	mov $0x1b, %ecx
	feature 1 5 rdmsr
	feature 1 8 cmpxchg8b (%rsp)
	feature 1 15 cmove %eax, %eax
	feature 1 19 clflush (%rsp)
	feature 1 23 emms
	feature 1 24 fxsave (%rsp)
	feature 1 25 addps %xmm0, %xmm0
	feature 1 26 addpd %xmm0, %xmm0
	feature 2 0 rdfsbase %rax
	mov $0x3b, %ecx
	feature 2 1 rdmsr
	feature 2 3 andn %eax, %eax, %eax
	feature 2 5 vpaddd %ymm0, %ymm0, %ymm0
	feature 2 8 pdep %eax, %eax, %eax
	xor %eax, %eax
	feature 2 10 invpcid -4096(%rsp), %rax
	feature 2 18 rdseed %eax
	feature 2 19 adcx %eax, %eax
	feature 2 20 clac
	feature 2 23 clflushopt (%rsp)
	feature 2 24 clwb (%rsp)
	feature 2 29 sha1msg1 %xmm0, %xmm0
	feature 3 22 rdpid %rax
	feature 4 14 .byte 0x0f, 0x01, 0xe8   /* SERIALIZE */
	mov $0x48, %ecx
	feature 4 26 rdmsr
	mov $0x10a, %ecx
	feature 4 29 rdmsr
	feature 5 0 xsaveopt (%rsp)
	feature 5 1 xsavec (%rsp)
	feature 6 0 lahf
	feature 6 5 lzcnt %eax, %eax
	feature 6 8 prefetchw (%rsp)
	feature 7 27 rdtscp
	stop
	done features

	/* An interrupt waits for the instruction after STI; a second STI changes nothing. */
	prog sti
	mov $0x80b, %ecx
	mov $0x1b, %ecx
	rdmsr
	or $0xc00, %eax                    /* x2APIC */
	wrmsr
	mov $0x80f, %ecx
	mov $0x1ff, %eax                   /* spurious vector, enabled */
	xor %edx, %edx
	wrmsr
	mov $0x83f, %ecx
	mov $0x40, %eax                    /* to ourselves */
	wrmsr
	log 1
	sti
	log 2                              /* first the mov, then the interrupt */
	log 3
	cli
	mov $0x83f, %ecx
	mov $0x41, %eax
	wrmsr
	sti
	hlt
	log 4
	stop
	done sti

	/* Single step: a trap after each instruction. */
	prog step
	pushf
	orl $0x100, (%rsp)
	lea 1f(%rip), %r15
	popf
	nop                                /* the trap comes after this one */
	log 0xdead
1:	mov %dr6, %rax
	and $0x4000, %eax
	out %eax, $0xe9
	stop
	done step

	/* Strings. */
	prog strings
	mov $0x604000, %edi
	mov $0x1ffe, %ecx                  /* over a page boundary */
	mov $0xab, %al
	rep stosb
	mov %edi, %eax
	out %eax, $0xe9
	mov $0x604001, %edi
	mov $0x604000, %esi
	movb $0x5a, (%rsi)
	mov $0x100, %ecx
	rep movsb                          /* overlapping: fills */
	movzbl 0x604100, %eax
	out %eax, $0xe9
	mov $0x604000, %edi
	mov $0x5a, %al
	mov $-1, %rcx
	repe scasb
	mov %edi, %eax
	out %eax, $0xe9
	/* A fault in the middle leaves the registers there. */
	mov $0x5ffff0, %edi
	mov $0x20, %ecx
	lea 1f(%rip), %r15
	rep stosb
	log 0xdead
1:	mov %ecx, %eax
	out %eax, $0xe9
	mov %edi, %eax
	out %eax, $0xe9
	xor %ecx, %ecx
	mov $-1, %rcx
	xor %ecx, %ecx
	bts $40, %rcx
	addr32 rep stosb                   /* ECX is 0: RCX becomes it */
	shr $32, %rcx
	mov %ecx, %eax
	out %eax, $0xe9
	stop
	done strings

	/* From a page to itself by another address: what is written is read again. */
	.macro copies_within movs, times
	mov $1, %ebp                       /* so far on */
1:	mov $0x3ff, %ecx                   /* the same in two pages */
2:	imul $167, %ecx, %eax
	mov %al, 0x410000(%rcx)
	mov %al, 0x411000(%rcx)
	dec %ecx
	jns 2b
	mov $0x410000, %esi
	lea 0x40410000(%rbp), %edi
	mov $\times, %ecx
	rep \movs
	mov $0x411000, %esi
	lea 0x411000(%rbp), %edi
	mov $\times, %ecx
3:	\movs
	dec %ecx
	jnz 3b
	mov $0x410000, %esi
	mov $0x411000, %edi
	mov $0x400, %ecx
	repe cmpsb
	je 4f
	inc %ebx
4:	inc %ebp
	cmp $300, %ebp
	jne 1b
	.endm

	prog strings_within
	bts $46, %rsp                      /* where processes have their stacks */
	xor %ebx, %ebx
	copies_within movsb, 600
	copies_within movsw, 300
	copies_within movsl, 150
	copies_within movsq, 75
	mov %ebx, %eax
	out %eax, $0xe9
	stop
	done strings_within

	/* Calls that come back, and those that do not. */
	prog returns
	mov $0x180000, %esp
	mov $3, %ebp
0:	mov $5000, %ecx                    /* deeper than what is remembered */
	xor %ebx, %ebx
	call 1f
	mov %ebx, %eax
	out %eax, $0xe9
	lea 3f(%rip), %rax                 /* to where nothing has called */
	push %rax
	stc
	ret
	log 0xdead
3:	setc %al
	movzbl %al, %eax
	out %eax, $0xe9
	call 4f                            /* out of three at once, and of one more */
	log 0x11
	call 8f                            /* to another address than it came from */
	log 0xdead
9:	log 0x22
	mov $0x8000000000000000, %rax      /* to nowhere, and the stack stays */
	push %rax
	mov %esp, %ebx
	lea 10f(%rip), %r15
	ret
	log 0xdead
10:	sub %esp, %ebx
	pop %rax
	mov %ebx, %eax
	out %eax, $0xe9
	lea 12f(%rip), %r13
	push $5                            /* by pointer, and popping more */
	call *%r13
	out %eax, $0xe9
	dec %ebp
	jnz 0b
	mov %esp, %eax
	out %eax, $0xe9
	stop
1:	inc %ebx
	dec %ecx
	jz 2f
	call 1b
2:	inc %ebx
	ret
4:	call 5f
	log 0xdead
5:	call 6f
	log 0xdead
6:	call 7f
	log 0xdead
7:	add $24, %rsp
	ret
8:	lea 9b(%rip), %rax
	mov %rax, (%rsp)
	ret
12:	mov 8(%rsp), %eax
	ret $8
	done returns

	/* To CPL 3 by IRET, a system call, back by SYSRET, faults there. */
	prog user
	mov $0xc0000080, %ecx
	rdmsr
	or $1, %eax
	wrmsr
	mov $0xc0000081, %ecx              /* STAR */
	xor %eax, %eax
	mov $0x00130008, %edx
	wrmsr
	mov $0xc0000082, %ecx              /* LSTAR */
	lea 5f(%rip), %rax
	mov %rax, %rdx
	shr $32, %rdx
	wrmsr
	mov $0xc0000084, %ecx
	mov $0x200, %eax
	xor %edx, %edx
	wrmsr
	push $0x1b                         /* SS */
	push $0x606800
	push $0x3002                       /* IOPL 3: it may log */
	push $0x23                         /* CS */
	lea 1f(%rip), %rax
	push %rax
	iretq
1:	mov %cs, %eax
	out %eax, $0xe9
	syscall
	log 0x33
	mov $0x604000, %ebx                /* the kernel's page */
	faulting mov (%rbx), %eax
	faulting mov %eax, (%rbx)
	faulting hlt
	faulting mov %cr0, %rax
	stop
5:	mov %cs, %eax
	out %eax, $0xe9
	sysretq
	done user

	/* SMEP and SMAP. */
	prog smap
	mov %cr4, %rax
	or $0x300000, %eax
	mov %rax, %cr4
	mov $0x606000, %ebx                /* a user's page */
	faulting mov (%rbx), %eax
	stac
	movb $0xc3, (%rbx)
	mov (%rbx), %al
	clac
	faulting mov (%rbx), %eax
	lea 9f(%rip), %r15
	jmp *%rbx
9:	stop
	done smap

	/* A double fault: #NP while a #GP is delivered; then shutdown. */
	prog triple
	lidt 1f(%rip)
	ud2
1:	.word 0
	.quad 0
	done triple

	/* Compare and exchange on two pages, alone. */
	prog split
	mov $0x605ffc, %ebx
	movq $0, (%rbx)
	mov $5, %ecx
1:	lock incq (%rbx)
	dec %ecx
	jnz 1b
	mov (%rbx), %rax
	out %eax, $0xe9
	stop
	done split

	/* Breakpoints: on an instruction (a fault: RF lets it go on), on a write (a trap). */
	prog debug
	lea 1f(%rip), %rax
	mov %rax, %dr0
	mov $0x604010, %eax
	mov %rax, %dr1
	mov $0x00d00009, %eax              /* L0 execute; G1 write, 4 bytes */
	mov %rax, %dr7
	lea 2f(%rip), %r15
1:	log 0xdead
2:	mov %dr6, %rax
	out %eax, $0xe9
	mov $0xffff0ff0, %eax
	mov %rax, %dr6
	mov $0x604008, %ebx
	mov 8(%rbx), %eax                  /* reads do not count */
	movl $1, 4(%rbx)                   /* beside it */
	lea 3f(%rip), %r15
	movl $1, 8(%rbx)
	log 0xdead
3:	mov %dr6, %rax
	out %eax, $0xe9
	movzbl 0x604010, %eax              /* the write was done */
	out %eax, $0xe9
	mov $0x2400, %eax                  /* general detect */
	mov %rax, %dr7
	lea 4f(%rip), %r15
	mov %dr0, %rax
	log 0xdead
4:	mov %dr6, %rax
	and $0x2000, %eax
	out %eax, $0xe9
	stop
	done debug

	/* A #GP whose gate is absent is #NP, and that is a double fault. */
	prog double
	movb $0, 0x10000 + 13 * 16 + 5
	movb $0, 0x10000 + 11 * 16 + 5
	mov $0x8000000000000000, %rbx
	faulting mov (%rbx), %eax
	stop
	done double

	/* An interrupt from outside through an absent gate: EXT. INT n through it: not. */
	prog ext
	x2apic
	lea 1f(%rip), %r15
	mov $0x83f, %ecx
	mov $0x81, %eax
	wrmsr
	sti
	nop
	nop
	log 0xdead
1:	cli
	faulting int $0x81
	stop
	done ext

	/* MOV SS holds off a single step, and the shadow lasts for one instruction. */
	prog mov_ss
	mov %ss, %ecx
	pushf
	orl $0x100, (%rsp)
	lea 1f(%rip), %r15
	popf
	mov %ecx, %ss
	mov $0x77, %edx                    /* runs before the trap */
	mov $0x88, %edx
1:	mov %edx, %eax
	out %eax, $0xe9
	stop
	done mov_ss

	/* POP with RSP in its address, PUSH and POP of RSP, ENTER and LEAVE. */
	prog stack
	push $0x1234
	popq 8(%rsp)                       /* the new RSP counts */
	mov 8(%rsp), %eax
	out %eax, $0xe9
	mov %rsp, %rbx
	push %rsp
	pop %rax
	sub %rbx, %rax
	out %eax, $0xe9
	mov $0x600008, %ecx                /* absent: RSP stays */
	mov %rsp, %rbx
	push $1
	mov %rsp, %rbx
	lea 1f(%rip), %r15
	popq (%rcx)
1:	sub %rsp, %rbx
	mov %ebx, %eax
	out %eax, $0xe9
	mov $0x7f000, %ebp
	mov %rsp, %rbx
	enter $16, $2
	mov %rbp, %rax
	sub %rbx, %rax
	out %eax, $0xe9
	mov %rsp, %rax
	sub %rbx, %rax
	out %eax, $0xe9
	leave
	sub %rsp, %rbx
	mov %ebx, %eax
	out %eax, $0xe9
	stop
	done stack

	/* Compatibility mode: 32-bit code, a system call by INT 0x80 into 64-bit code, and back. */
	prog compat
	push $0x38                         /* 32-bit code, DPL 0: see test-soft.c */
	lea 1f(%rip), %rax
	push %rax
	lretq
	.code32
1:	mov $-1, %eax
	inc %eax                           /* 40: a REX prefix in 64-bit mode */
	out %eax, $0xe9
	mov $0x604000, %ebx
	movl $0x99, (%ebx)
	mov %ds:(%ebx), %eax
	out %eax, $0xe9
	call 2f
2:	pop %eax
	ljmp *3f - 2b(%eax)
3:	.long BASE + 4f - guest_compat
	.word 8
	.code64
4:	mov %cs, %eax
	out %eax, $0xe9
	stop
	done compat

	/* Descriptors: faults of segment loads, LAR, LSL, VERR. */
	prog segments
	mov $0x28, %eax                    /* a TSS is no data segment */
	faulting mov %eax, %ds
	mov $0x08, %eax                    /* readable code: fine for DS, not for SS */
	mov %eax, %ds
	faulting mov %eax, %ss
	mov $0x1b, %eax                    /* user data: not for SS at CPL 0 */
	faulting mov %eax, %ss
	mov $0x40, %eax                    /* not present */
	faulting mov %eax, %es
	faulting mov %eax, %ss
	xor %eax, %eax
	mov %eax, %ss                      /* null is fine for SS in 64-bit mode */
	mov $0x10, %eax
	mov %eax, %ss
	mov $0x10, %ecx
	lar %ecx, %eax
	out %eax, $0xe9
	lsl %ecx, %eax
	out %eax, $0xe9
	mov $0x1b8, %ecx
	mov $0x55, %eax
	lar %ecx, %eax                     /* beyond the table: ZF clear, nothing changes */
	out %eax, $0xe9
	mov $8, %ecx
	verw %cx
	setz %al
	verr %cx
	setz %ah
	movzwl %ax, %eax
	out %eax, $0xe9
	stop
	done segments

	/* Cross-modifying code: the other calls what this one writes, after a flag tells so. */
	prog cross
	movl $0, 0x700
	movl $0, 0x720
	movl $0, 0x724
	x2apic
	start_other
	xor %ebx, %ebx                     /* stale runs */
	mov $1, %ecx
2:	mov %cx, 0x9801                    /* the immediate of the other's MOV AX */
	mov %ecx, 0x720
3:	pause
	cmp 0x724, %ecx
	jne 3b
	cmp 0x728, %cx
	je 4f
	inc %ebx
4:	inc %ecx
	cmp $2000, %ecx
	jne 2b
	mov %ebx, %eax
	out %eax, $0xe9
	stop
	done cross

	.code16
	prog cross_ap
	cli
	xor %ax, %ax
	mov %ax, %ds
	mov %ax, %ss
	mov $0x7000, %sp
	movb $0xb8, 0x9800                 /* MOV AX, imm16; RET */
	movb $0xc3, 0x9803
	movl $0x1234, 0x700
	xor %ecx, %ecx
1:	cmp 0x720, %ecx
	je 1b
	mov 0x720, %ecx
	mov $0x800, %ax                    /* CS begins at 0x9000 */
	call *%ax
	mov %ax, 0x728
	mov %ecx, 0x724
	jmp 1b
	done cross_ap
	.code64

/* --- SMP: the boot processor starts another in real mode --- */
	prog smp
	x2apic
	movl $0, 0x700
	start_other
	log 0x51
	/* Both count with LOCK; the other ends first or second, the sum is the same. */
	mov $200000, %ecx
2:	lock incl 0x704
	dec %ecx
	jnz 2b
3:	pause
	cmpl $1, 0x708
	jne 3b
	mov 0x704, %eax
	out %eax, $0xe9
	stop
	done smp

	.code16
	prog smp_ap
	cli
	xor %ax, %ax
	mov %ax, %ds
	movl $0x1234, 0x700
	mov $200000, %ecx
1:	lock incl 0x704
	dec %ecx
	jnz 1b
	movl $1, 0x708
2:	hlt
	jmp 2b
	done smp_ap

/* --- Real mode --- */
	prog real
	xor %ax, %ax
	mov %ax, %ds
	mov %ax, %ss
	mov $0x7000, %sp
	/* INT 0x40 goes to our handler at BASE + (1f - start). */
	movw $(BASE + real_int - guest_real), 0x100
	movw $0, 0x102
	int $0x40
	mov $0x11, %eax
	out %eax, $0xe9
	/* A far call, and back. */
	lcall $0x0800, $(real_far - guest_real)
	mov %sp, %ax
	movzwl %ax, %eax
	out %eax, $0xe9
	/* Offsets wrap at 64 KiB: an access over the end is #GP (13). */
	movw $(BASE + real_gp - guest_real), 0x34
	movw $0, 0x36
	mov $0xffff, %bx
	mov (%bx), %ax
real_back:
	mov $0x44, %eax
	out %eax, $0xe9
	/* BCD and loops run, too. */
	mov $5, %cx
	xor %eax, %eax
1:	inc %ax
	loop 1b
	out %eax, $0xe9
	out %al, $0xf4
real_int:
	mov $0x22, %eax
	out %eax, $0xe9
	iret
real_far:
	mov $0x33, %eax
	out %eax, $0xe9
	lret
real_gp:
	mov $0xdd, %eax
	out %eax, $0xe9
	add $6, %sp
	mov $(BASE + real_back - guest_real), %ax
	jmp *%ax
	done real

	.code64
	/* Counts in counted time, with a timer that interrupts it: for the replay. */
	prog replay
	x2apic
	mov $0x832, %ecx
	mov $0x20050, %eax                 /* periodic, vector 0x50 */
	wrmsr
	mov $0x83e, %ecx
	mov $0xb, %eax                     /* divide by 1 */
	wrmsr
	mov $0x838, %ecx
	mov $20000, %eax
	wrmsr
	sti
	mov $100000, %ecx
	xor %ebx, %ebx
1:	rdtsc
	add %eax, %ebx
	dec %ecx
	jnz 1b
	mov %ebx, %eax
	out %eax, $0xe9
	stop
	done replay

	.section .note.GNU-stack, "", @progbits
