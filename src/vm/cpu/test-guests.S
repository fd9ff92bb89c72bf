/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Small guests. Each is copied to CODE and entered there in the mode that its row in
 * test-engines.c names; it ends with FINISH. Addresses are those of test-engines.c.
 */
#define CODE    0x8000
#define COUNT   0x600      /* interrupts so far */
#define RESUME  0x608      /* where exceptions go on; 0: where they were */
#define EOI     0x610      /* 1: x2APIC, 2: xAPIC */
#define DATA    0x30000
#define WINDOW  0x40000000 /* pages: 0 writable, 1 read only, 2 absent, 3 supervisor, 4 no code */
#define DEVICE  0xd0000000
#define X2(r)   (0x800 + (r) / 16)

.macro GUEST name
	.globl guest_\name
guest_\name:
99:
.endm

.macro END name
	.globl guest_end_\name
guest_end_\name:
.endm

#define AT(label) (CODE + label - 99b)

.macro FINISH
	outl %eax, $0xf4
9:	jmp 9b
.endm

	.section .note.GNU-stack, "", @progbits
	.section .rodata
	.balign 16

/* --- Behind the stubs of the IDT: note vector, error code and RIP --- */
	.code64
	.globl guest_handler, guest_handler_end
guest_handler:
	push %rax
	push %rcx
	push %rdx
	mov $24, %eax
	mull COUNT
	mov 24(%rsp), %rcx
	mov %rcx, 0x700(%rax)
	mov 32(%rsp), %rdx
	mov %rdx, 0x708(%rax)
	mov 40(%rsp), %rdx
	mov %rdx, 0x710(%rax)
	cmp $32, %ecx
	jae 1f
	mov RESUME, %rax
	test %rax, %rax
	jz 4f
	mov %rax, 40(%rsp)
	jmp 4f
1:	cmp $0x51, %ecx               /* a device that wants to be told */
	jne 3f
	outl %eax, $0xe3
3:	cmpl $1, EOI
	jb 4f
	ja 2f
	mov $X2(0xb0), %ecx
	xor %eax, %eax
	xor %edx, %edx
	wrmsr
	jmp 4f
2:	mov $0xfee000b0, %eax
	movl $0, (%rax)
4:	incl COUNT
	pop %rdx
	pop %rcx
	pop %rax
	add $16, %rsp
	iretq
guest_handler_end:

/* --- Real mode: strings, stack, the interrupt table --- */
	.code16
GUEST real
	cli
	xor %ax, %ax
	mov %ax, %ds
	mov %ax, %es
	mov %ax, %ss
	mov $0x7000, %sp
	movw $AT(1f), 0x21 * 4
	movw %ax, 0x21 * 4 + 2
	movw $AT(2f), 0
	movw %ax, 2
	mov $0x3000, %di
	mov $100, %cx
	mov $0x1234, %ax
	cld
	rep stosw
	mov $0x3000, %si
	mov $0x3801, %di
	mov $77, %cx
	rep movsb
	std
	mov $0x3010, %si
	lodsb
	cld
	mov $5, %bx
	int $0x21
	xor %dx, %dx
	div %dx                       /* #DE, which 2f passes */
	mov $0x1111, %cx
	mov %cx, %fs
	movw %cx, %fs:(0x20)
	pusha
	pop %dx
	popw %dx
	mov $0x7000, %sp
	movl $0x12345678, %eax
	bswap %eax
	FINISH
1:	add %bx, %bx
	iret
2:	mov %sp, %bp
	addw $2, (%bp)
	add $0x100, %bx
	iret
END real

/* --- From real mode up: protected, PAE paging, long mode --- */
	.code16
GUEST climb
	cli
	xor %ax, %ax
	mov %ax, %ds
	lgdtl AT(5f)
	mov $0x11, %eax               /* the caches on as well */
	mov %eax, %cr0
	ljmpl $0x08, $AT(1f)
	.code32
1:	mov $0x18, %eax
	mov %eax, %ds
	mov %eax, %es
	mov %eax, %ss
	mov $0x20000, %esp
	call 2f
2:	pop %ebx
	sub $AT(2b), %ebx             /* 0 */
	push $0x1234
	pushf
	pop %ecx
	mov %cr4, %eax
	or $0x20, %eax
	mov %eax, %cr4
	mov $0xc0000080, %ecx
	rdmsr
	or $0x100, %eax
	wrmsr
	mov $0x100000, %eax
	mov %eax, %cr3
	mov %cr0, %eax
	or $0x80000000, %eax
	mov %eax, %cr0
	ljmp $0x10, $AT(3f)
	.code64
3:	mov $0x18, %eax
	mov %eax, %ds
	mov %eax, %es
	mov %eax, %ss
	movabs $0x123456789abcdef0, %rdx
	mov %rdx, %r15
	rol $12, %r15
	mov %rsp, %rbp
	push %rdx
	pop %r14
	mov %cr0, %rdi
	FINISH
	.balign 4
5:	.word 0x4f
	.long 0x1000
END climb

/* --- Protected mode: two kinds of paging without long mode --- */
	.code16
GUEST paging
	cli
	xor %ax, %ax
	mov %ax, %ds
	lgdtl AT(5f)
	mov $0x11, %eax
	mov %eax, %cr0
	ljmpl $0x08, $AT(1f)
	.code32
1:	mov $0x18, %eax
	mov %eax, %ds
	mov %eax, %es
	mov %eax, %ss
	mov $0x20000, %esp
	mov $0x10, %eax               /* large pages */
	mov %eax, %cr4
	mov $0x108000, %eax
	mov %eax, %cr3
	mov $0x80010011, %eax
	mov %eax, %cr0
	movl $0x4444, 0x800000        /* the second 4 MiB again */
	mov 0x400000, %ebx
	mov $0x11, %eax
	mov %eax, %cr0
	mov $0x20, %eax               /* four entries of PAE paging */
	mov %eax, %cr4
	mov $0x107000, %eax
	mov %eax, %cr3
	mov $0x80010011, %eax
	mov %eax, %cr0
	movl $0x5555, 0x5f0000
	mov 0x3f0000, %esi            /* the same page twice */
	FINISH
	.balign 4
5:	.word 0x4f
	.long 0x1000
END paging

/* --- User mode: SSE, system calls --- */
	.code64
GUEST user
	mov $0xc0000080, %ecx         /* EFER.SCE */
	rdmsr
	or $1, %eax
	wrmsr
	mov $0xc0000081, %ecx
	xor %eax, %eax
	mov $0x00230010, %edx
	wrmsr
	mov $0xc0000082, %ecx
	mov $AT(8f) + 0x80000000, %eax   /* as user mode cannot reach it */
	mov $0xffffffff, %edx
	wrmsr
	xor %edx, %edx
	mov $0xc0000084, %ecx
	mov $0x700, %eax
	wrmsr
	xor %ebx, %ebx
	pushq $0x2b
	pushq $0x28000
	pushq $0x202
	pushq $0x33
	pushq $AT(1f)
	iretq
1:	mov $1000, %ecx               /* in user mode */
2:	add %rcx, %rbx
	imul $3, %rbx
	dec %ecx
	jnz 2b
	movabs $0x3ff8000000000000, %rax
	movq %rax, %xmm1
	movapd %xmm1, %xmm2
	mulsd %xmm1, %xmm2
	addpd %xmm2, %xmm1
	sqrtsd %xmm1, %xmm3
	movdqu %xmm3, DATA
	mov $7, %edi
	syscall
	mov %rax, %r12
	mov $RESUME, %eax
	movq $AT(4f), RESUME
	cli                           /* #GP */
4:	movq $AT(5f), RESUME
	mov WINDOW + 0x3000, %rax     /* #PF: a page of the kernel's */
5:	movq $0, RESUME
	pushq $0x5a
	pop %r13
	mov $99, %edi
	syscall
	ud2
8:	lea 1(%rdi), %rax             /* the kernel */
	cmp $99, %edi
	je 9f
	mov %rsp, %r14
	pushq $0x2b
	push %r14
	push %r11
	pushq $0x33
	push %rcx
	iretq
9:	mov %rcx, %r8
	mov %r11, %r9
	mov %cs, %r10d
	mov %ss, %r11d
	FINISH
END user

/* --- The same, back by SYSRET --- */
	.code64
GUEST sysret
	mov $0xc0000080, %ecx         /* EFER.SCE */
	rdmsr
	or $1, %eax
	wrmsr
	mov $0xc0000081, %ecx
	xor %eax, %eax
	mov $0x00230010, %edx
	wrmsr
	mov $0xc0000082, %ecx
	mov $AT(8f) + 0x80000000, %eax   /* as user mode cannot reach it */
	mov $0xffffffff, %edx
	wrmsr
	xor %edx, %edx
	mov $0xc0000084, %ecx
	mov $0x700, %eax
	wrmsr
	xor %ebx, %ebx
	pushq $0x2b
	pushq $0x28000
	pushq $0x202
	pushq $0x33
	pushq $AT(1f)
	iretq
1:	mov $1000, %ecx               /* in user mode */
2:	add %rcx, %rbx
	imul $3, %rbx
	dec %ecx
	jnz 2b
	movabs $0x3ff8000000000000, %rax
	movq %rax, %xmm1
	movapd %xmm1, %xmm2
	mulsd %xmm1, %xmm2
	addpd %xmm2, %xmm1
	sqrtsd %xmm1, %xmm3
	movdqu %xmm3, DATA
	mov $7, %edi
	syscall
	mov %rax, %r12
	mov $RESUME, %eax
	movq $AT(4f), RESUME
	cli                           /* #GP */
4:	movq $AT(5f), RESUME
	mov WINDOW + 0x3000, %rax     /* #PF: a page of the kernel's */
5:	movq $0, RESUME
	pushq $0x5a
	pop %r13
	mov $99, %edi
	syscall
	ud2
8:	lea 1(%rdi), %rax             /* the kernel */
	cmp $99, %edi
	je 9f
	sysretq
9:	mov %rcx, %r8
	mov %r11, %r9
	mov %cs, %r10d
	mov %ss, %r11d
	FINISH
END sysret

/* --- Every kind of fault, with its error code --- */
.macro FAULT insn:vararg
	movq $AT(1f), RESUME
	\insn
1:
.endm
	.code64
GUEST faults
	xor %edx, %edx
	xor %ecx, %ecx
	mov $1, %eax
	FAULT div %ecx
	FAULT ud2
	movabs $0x8000000000000000, %rsi
	FAULT mov (%rsi), %rax
	FAULT push (%rsi)
	FAULT mov WINDOW + 0x2000, %rax
	FAULT movb $1, WINDOW + 0x2008
	mov %cr0, %rax
	or $0x10000, %eax             /* WP */
	mov %rax, %cr0
	FAULT movb $1, WINDOW + 0x1000
	mov %cr2, %rbx
	mov $0x50, %eax
	FAULT mov %eax, %fs           /* beyond the table */
	mov $0xc0000080, %ecx
	FAULT wrmsr                   /* reserved bits */
	mov $0x12345, %ecx
	FAULT rdmsr
	mov $1, %eax
	mov %rax, %cr8
	mov %cr8, %rdi
	mov $0x100, %eax
	FAULT mov %rax, %cr8
	movq $0, RESUME
	int $0x30
	movl $0x1000, WINDOW          /* this one works */
	mov WINDOW, %esi
	lidt AT(3f)
	FINISH
	.balign 8
3:	.word 0xfff
	.quad 0x2000
END faults

/* --- What KVM's emulator may not know --- */
	.code64
GUEST gaps
	movq $0, RESUME
	int3
	mov $DATA, %edi
	movq $5, (%rdi)
	movq $6, 8(%rdi)
	mov $5, %eax
	mov $6, %edx
	mov $7, %ebx
	mov $8, %ecx
	lock cmpxchg16b (%rdi)
	setz %r8b
	lock cmpxchg16b (%rdi)
	setz %r9b
	mov %rax, %r10
	mov %rdx, %r11
	lock xadd %rbx, (%rdi)
	bsf %rbx, %rsi
	pushfq
	popq %r12
	and $0x40, %r12
	pushq $0x18
	pushq $0x1f000
	pushq $0x2
	pushq $0x10
	pushq $AT(1f)
	iretq
1:	FINISH
END gaps

/* --- The x87 unit, and its state to memory and back --- */
	.code64
GUEST x87
	mov $DATA, %edi
	fninit
	fld1
	fadd %st(0), %st(0)
	fistl 16(%rdi)
	fldpi
	fxsave 0x100(%rdi)
	fninit
	movl $0x1f80, 0x118(%rdi)
	fxrstor 0x100(%rdi)
	fmulp
	fistpl 20(%rdi)
	/* Do not keep what the layout of a save is on each host. */
	lea 0x100(%rdi), %rdi
	mov $64, %ecx
	xor %eax, %eax
	rep stosq
	FINISH
END x87

	.code64
GUEST xsave
	mov %cr4, %rax
	or $0x40600, %eax
	mov %rax, %cr4
	xor %ecx, %ecx
	xgetbv
	or $3, %eax
	xsetbv
	movabs $0x1122334455667788, %rbx
	movq %rbx, %xmm5
	mov $DATA, %edi
	mov $3, %eax
	xor %edx, %edx
	xsave (%rdi)
	pxor %xmm5, %xmm5
	xrstor (%rdi)
	movq %xmm5, %r8
	mov $DATA, %edi
	mov $128, %ecx
	xor %eax, %eax
	rep stosq
	FINISH
END xsave

/* --- x2APIC: an IPI to itself, timer, deadline --- */
.macro X2WRITE reg, low
	mov $X2(\reg), %ecx
	mov \low, %eax
	xor %edx, %edx
	wrmsr
.endm
	.code64
GUEST x2apic
	movl $1, EOI
	mov $0x1b, %ecx
	rdmsr
	or $0xc00, %eax
	wrmsr
	X2WRITE 0xf0, $0x1ff
	X2WRITE 0x3f0, $0x41
	sti
1:	cmpl $1, COUNT                /* an emulator may be late with it */
	jb 1b
	cli
	mov $X2(0x20), %ecx
	rdmsr
	mov %eax, %r8d
	X2WRITE 0x80, $0x50           /* 0x42 has to wait for the task priority */
	X2WRITE 0x300, $0x40042
	mov $X2(0x220), %ecx
	rdmsr
	mov %eax, %r9d                /* IRR */
	sti
	nop
	nop
	mov COUNT, %r10d
	mov $0, %eax
	mov %rax, %cr8
1:	cmpl $2, COUNT
	jb 1b
	cli
	X2WRITE 0x3e0, $0xb           /* a count in units of one */
	X2WRITE 0x320, $0x43
	X2WRITE 0x380, $100000
1:	sti
	hlt
	cli
	cmpl $3, COUNT
	jb 1b
	X2WRITE 0x320, $0x40044       /* a deadline */
	rdtsc
	add $100000, %eax
	adc $0, %edx
	mov $0x6e0, %ecx
	wrmsr
2:	sti
	hlt
	cli
	cmpl $4, COUNT
	jb 2b
	mov $0x6e0, %ecx
	rdmsr
	mov %eax, %r11d
	mov $X2(0x80), %ecx
	movq $AT(3f), RESUME
	rdmsr
	mov $0x801, %ecx
	rdmsr                         /* no such register: #GP */
3:	xor %edx, %edx
	xor %ecx, %ecx
	FINISH
END x2apic

/* --- The xAPIC's page, a level line of the I/O APIC, an MSI --- */
	.code64
GUEST ioapic
	movl $2, EOI
	mov $0xfee00000, %ebx
	movl $0x1ff, 0xf0(%rbx)
	mov $0xfec00000, %edi
	movl $1, (%rdi)
	mov 0x10(%rdi), %r8d          /* version */
	movl $0x1b, (%rdi)            /* pin 5, high word */
	movl $0, 0x10(%rdi)
	movl $0x1a, (%rdi)
	movl $0x8051, 0x10(%rdi)
	mov $1, %eax
	outl %eax, $0xe0              /* line 5 up */
	movl $0x1a, (%rdi)
	mov 0x10(%rdi), %r9d          /* remote IRR */
	sti                           /* it comes again until the device has seen three */
1:	cmpl $3, COUNT
	jb 1b
	cli
	mov COUNT, %esi
	outl %eax, $0xe1              /* an MSI: vector 0x61 */
	movl $0, COUNT
	sti
2:	cmpl $1, COUNT
	jb 2b
	cli
	movl $0x1a, (%rdi)
	mov 0x10(%rdi), %r10d
	xor %ecx, %ecx
	mov $0, %eax
	FINISH
END ioapic

/* --- Begun in the shadow of a MOV SS: what it holds back comes behind the first instruction --- */
	.code64
GUEST held
	mov $5, %r8d
	nop
	mov %dr6, %rax
	and $0xf, %eax
	mov %eax, %r9d
	xor %eax, %eax
	FINISH
END held

/* --- Sleeps without interrupts: only another vCPU wakes it, as one that holds a lock does --- */
	.code64
GUEST woken
	cli
	mov $0xfee00000, %ebx
	movl $0x1ff, 0xf0(%rbx)
	outl %eax, $0xf5
	hlt
	.globl guest_slept, guest_wakes
guest_slept:
	xor %eax, %eax
	FINISH
guest_wakes:
	xor %eax, %eax
	cpuid
	cmp $0x68747541, %ebx         /* "Auth" */
	mov $5, %eax                  /* KVM_HC_KICK_CPU */
	mov $0, %ebx
	mov $1, %ecx
	je 1f
	vmcall
	FINISH
1:	vmmcall
	FINISH
END woken

/* --- Writes to one place of a device, some of which an eventfd takes --- */
	.code64
GUEST ioevent
	mov $DEVICE + 0x20, %ebx
	movw $0x1111, (%rbx)
	movw $0x2222, (%rbx)
	movw $0x3333, 2(%rbx)         /* beside it */
	movl $0x55554444, (%rbx)      /* another width */
	movw $0x6666, (%rbx)
	outl %eax, $0xf5
	movw $0x7777, (%rbx)          /* it is taken away again */
	FINISH
END ioevent

/* --- A message and a pin with an edge, both raised by eventfds --- */
	.code64
GUEST irqfd
	movl $2, EOI
	mov $0xfee00000, %ebx
	movl $0x1ff, 0xf0(%rbx)
	mov $0xfec00000, %edi
	movl $0x1d, (%rdi)            /* pin 6, high word */
	movl $0, 0x10(%rdi)
	movl $0x1c, (%rdi)
	movl $0x53, 0x10(%rdi)
	xor %eax, %eax
	outl %eax, $0xe4              /* the message */
	sti
1:	cmpl $1, COUNT
	jb 1b
	mov $1, %eax
	outl %eax, $0xe4              /* the pin */
2:	cmpl $2, COUNT
	jb 2b
	movl $0x1c, (%rdi)
	movl $0x54, 0x10(%rdi)        /* another vector: the route follows */
	outl %eax, $0xe4
3:	cmpl $3, COUNT
	jb 3b
	cli
	xor %ebx, %ebx
	mov $0, %eax
	FINISH
END irqfd

/* --- A second processor --- */
	.code64
GUEST smp
	movl $1, EOI
	mov $0x1b, %ecx
	rdmsr
	or $0xc00, %eax
	wrmsr
	X2WRITE 0xf0, $0x1ff
	/* What starts in real mode at 0x9000. */
	mov $AT(5f), %esi
	mov $0x9000, %edi
	mov $(6f - 5f), %ecx
	rep movsb
	mov $X2(0x300), %ecx
	mov $1, %edx
	mov $0x4500, %eax
	wrmsr
	mov $1, %edx
	mov $0x4609, %eax
	wrmsr
1:	pause
	cmpl $0x1000, DATA
	jb 1b
	/* An NMI wakes it once more. */
	mov $1, %edx
	mov $0x4400, %eax
	wrmsr
2:	pause
	cmpl $0x2000, DATA
	jb 2b
	mov DATA, %ebx
	xor %ecx, %ecx
	xor %edx, %edx
	mov $0, %eax
	FINISH
	.code16
5:	xor %ax, %ax
	mov %ax, %ss
	mov $0x7000, %sp
	mov %ax, %es
	movw $(0x9000 + 7f - 5b), %es:(8)
	movw %ax, %es:(10)
	mov $0x3000, %ax
	mov %ax, %ds
	mov $0x1000, %cx
4:	lock incl (0)
	loop 4b
8:	hlt
	jmp 8b
7:	addl $0x1000, (0)
	iret
6:
END smp

/* --- Devices: every width, strings --- */
	.code64
GUEST devices
	mov $DEVICE, %ebx
	movl $0x11223344, %eax
	mov %al, (%rbx)
	mov %ax, 2(%rbx)
	mov %eax, 4(%rbx)
	movabs $0x8877665544332211, %rax
	mov %rax, 8(%rbx)
	movzbl 1(%rbx), %r8d
	movzwl 2(%rbx), %r9d
	mov 4(%rbx), %r10d
	mov 8(%rbx), %r11
	movsbq 15(%rbx), %r12
	addl $5, 4(%rbx)
	mov 4(%rbx), %r13d
	mov $0xe8, %edx
	mov $0x77, %eax
	outb %al, %dx
	inb %dx, %al
	movzbl %al, %r14d
	outw %ax, %dx
	inl %dx, %eax
	mov %eax, %r15d
	mov $AT(5f), %esi
	mov $5, %ecx
	cld
	rep outsb
	mov $DATA, %edi
	mov $4, %ecx
	rep insl
	/* A string from the device to memory and back. */
	mov %rbx, %rsi
	mov $DATA + 0x100, %edi
	mov $2, %ecx
	rep movsq
	mov $0, %eax
	FINISH
5:	.ascii "hello"
END devices

/* --- Writes here and there: for the dirty log --- */
	.code64
GUEST dirty
	mov $1, %eax
	outl %eax, $0xe2
	mov $0x200000, %edi
	mov $16, %ecx
1:	mov %ecx, (%rdi)
	add $0x3000, %rdi
	dec %ecx
	jnz 1b
	mov $0, %eax
	FINISH
END dirty

/* --- Half here, half there: everything that a snapshot has to carry --- */
	.code64
GUEST halves
	movl $1, EOI
	mov $0x1b, %ecx
	rdmsr
	or $0xc00, %eax
	wrmsr
	X2WRITE 0xf0, $0x1ff
	mov $0xc0000102, %ecx
	mov $0x1234, %eax
	mov $0x5678, %edx
	wrmsr
	mov $0xc0000082, %ecx
	mov $0xabcd, %eax
	xor %edx, %edx
	wrmsr
	movabs $0x0102030405060708, %rax
	movq %rax, %xmm7
	movq %rax, %xmm15
	fninit
	fldpi
	mov $AT(1f), %eax
	mov %rax, %dr0
	mov $0xfec00000, %edi
	movl $0x18, (%rdi)
	movl $0x8055, 0x10(%rdi)
	X2WRITE 0x320, $0x40043
	rdtsc
	add $8000000, %eax            /* comes in the other half */
	adc $0, %edx
	mov $0x6e0, %ecx
	wrmsr
	X2WRITE 0x3f0, $0x45          /* pending */
	X2WRITE 0x80, $0x20
	mov $3, %ecx
	mov $1, %ebp
	cmp %ecx, %ebp                /* flags to keep */
	outl %eax, $0xf5
1:	setl %r8b
	mov %dr0, %r9
	movq %xmm7, %r10
	movq %xmm15, %r11
	fistpl DATA
	mov $0xc0000102, %ecx
	rdmsr
	mov %eax, %r12d
	mov %edx, %r13d
	mov $0xc0000082, %ecx
	rdmsr
	mov %eax, %r14d
	movl $0x18, (%rdi)
	mov 0x10(%rdi), %r15d
	mov %cr8, %rsi
2:	sti
	hlt
	cli
	cmpl $2, COUNT
	jb 2b
	mov $X2(0x390), %ecx
	rdmsr
	xor %ecx, %ecx
	xor %edx, %edx
	FINISH
END halves

/* --- Code that writes code --- */
	.code64
GUEST selfmod
	xor %ebx, %ebx
	mov $50, %ecx
1:	movl %ecx, AT(2f) + 1
2:	mov $0, %eax
	add %rax, %rbx
	dec %ecx
	jnz 1b
	mov $AT(3f), %edi
	movb $0xc3, 1(%rdi)           /* the next byte but one */
	call 3f
	FINISH
3:	nop
	nop
	mov $1, %ebx
	ret
END selfmod

/* --- For the debugger --- */
	.code64
GUEST steps
	.globl guest_steps_1, guest_steps_2
	mov $1, %eax
	add $2, %eax
guest_steps_1:
	lea 3(%rax), %rbx
	mov $3, %ecx
guest_steps_2:
	add %rcx, %rbx
	dec %ecx
	jnz guest_steps_2
	xor %eax, %eax
	FINISH
END steps
