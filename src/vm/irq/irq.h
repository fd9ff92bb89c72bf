/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Interrupt controllers of our own: a local APIC for each vCPU (xAPIC and x2APIC, TSC-deadline
 * timer), one I/O APIC with ENGINE_GSIS pins, and MSI. The software engine uses all of it; KVM
 * keeps the local APICs in the kernel and uses the I/O APIC and the state formats.
 *
 * A vCPU's thread asks its local APIC what there is to do; every other thread only posts to
 * it, atomically, and kicks. So the interrupt path takes no lock but for the I/O APIC's table.
 *
 * Spec: SDM 3, 11 (APIC); 82093AA (I/O APIC); Linux, Documentation/virt/kvm/x86/ (the
 * paravirtual end of interrupt and send IPI).
 */
#ifndef VM_IRQ_IRQ_H
#define VM_IRQ_IRQ_H

#include "base/def.h"

enum { LAPIC_REGS_BYTES = 1024, IRQ_PINS = 24, IRQ_CPUS_MAX = 64 };

#define LAPIC_BASE  UINT64_C(0xfee00000)
#define IOAPIC_BASE UINT64_C(0xfec00000)

/* State of one local APIC, as the register page has it (KVM_GET_LAPIC's layout). */
struct lapic_state {
	uint64_t apic_base;              /* MSR 0x1b */
	uint64_t tsc_deadline;           /* MSR 0x6e0; 0: not armed */
	uint64_t timer_left_ns;          /* of a one-shot or periodic count that runs; 0: none */
	uint8_t  regs[LAPIC_REGS_BYTES]; /* at their offsets / the page's first KiB */
	bool     init_pending, sipi_pending;
	uint8_t  sipi_vector;
};

struct ioapic_state {
	uint64_t redirection[IRQ_PINS];
	uint32_t irr;                    /* level interrupts that were not taken yet */
	uint32_t levels;                 /* of the lines now */
	uint8_t  id, select;
};

struct irq_state {
	struct lapic_state  lapic[IRQ_CPUS_MAX];
	struct ioapic_state ioapic;
	unsigned            n_lapics;
};

#endif
