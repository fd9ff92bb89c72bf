/* SPDX-License-Identifier: Apache-2.0 */
/* For the assembler: what the guest programs of the tests share. */
	.equ BASE, 0x8000

	/* A program, from guest_NAME to guest_NAME_end. */
	.macro prog name
	.balign 16
	.globl guest_\name
guest_\name:
	.endm
	.macro done name
	.globl guest_\name\()_end
guest_\name\()_end:
	.endm

	/* A value for the log; the end of the run. */
	.macro log value
	mov $\value, %eax
	out %eax, $0xe9
	.endm
	.macro stop
	out %al, $0xf4
	.endm

	/* An entry of 16 bytes for each vector, which pushes an error code where the processor
	 * did not, and the vector. */
	.macro vectors common
	vector = 0
	.rept 256
	.balign 16
	.if vector == 8 || (vector >= 10 && vector <= 14) || vector == 17
	nop
	nop
	.else
	push $0
	.endif
	push $vector
	jmp \common
	vector = vector + 1
	.endr
	.endm
