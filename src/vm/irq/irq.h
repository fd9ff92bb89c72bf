/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Interrupt controllers of our own: a local APIC for each vCPU (xAPIC and x2APIC, TSC-deadline
 * timer), one I/O APIC with IRQ_PINS pins, and MSI. The software engine uses all of it; KVM
 * keeps the local APICs in the kernel and uses the I/O APIC and the state formats.
 *
 *	struct irq_conf conf = { .n_cpus = 2, .tsc_hz = hz, .phys_bits = 40, .mem = mem,
 *				 .ctx = eng, .kick = wake_vcpu };
 *	r = irq_new(&conf, &chip);
 *	// on the thread of vCPU 0, whenever it was kicked, and after each access to its APIC:
 *	struct lapic *l = irq_lapic(chip, 0);
 *	unsigned events = lapic_events(l, LAPIC_INIT | LAPIC_SIPI | LAPIC_NMI, &sipi);
 *	lapic_timer_run(l, now);
 *	if (interrupts_enabled && (vector = lapic_next(l)) >= 0) {
 *		lapic_accept(l, (uint8_t)vector);
 *		deliver(vector);
 *	}
 *	// before it sleeps in HLT, or runs on: lapic_deadline_ns(l, now)
 *
 * A vCPU's thread asks its local APIC what there is to do; every other thread only posts to
 * it, atomically, and kicks. So the interrupt path takes no lock but for the I/O APIC's table.
 *
 * Time comes in with each call that needs it, so that an engine may count its own.
 *
 * Spec: SDM 3, 11 (APIC); 82093AA (I/O APIC); Linux, Documentation/virt/kvm/x86/ (the
 * paravirtual end of interrupt and send IPI).
 */
#ifndef VM_IRQ_IRQ_H
#define VM_IRQ_IRQ_H

#include "base/def.h"
#include "vm/mem/gmem.h"

enum { LAPIC_REGS_BYTES = 1024, IRQ_PINS = 24, IRQ_CPUS_MAX = 64 };

#define LAPIC_BASE  UINT64_C(0xfee00000)
#define IOAPIC_BASE UINT64_C(0xfec00000)

/* Both answer for one page. */
enum { LAPIC_BYTES = 4096, IOAPIC_BYTES = 4096 };

/* Of the local APIC's counter before its divider; what the KVM timing leaf tells the guest. */
enum { LAPIC_BUS_HZ = 1000000000 };

/* MSRs that a local APIC answers for, besides the x2APIC registers from 0x800 to 0x8ff. */
enum { LAPIC_MSR_BASE = 0x1b, LAPIC_MSR_TSC_DEADLINE = 0x6e0, LAPIC_MSR_X2 = 0x800 };

enum {
	LAPIC_BASE_BSP    = 1u << 8,
	LAPIC_BASE_EXTD   = 1u << 10,   /* x2APIC mode */
	LAPIC_BASE_ENABLE = 1u << 11,
};

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

/* A vCPU's own clocks at one moment: nanoseconds of the VM's time, and its TSC. */
struct irq_now {
	uint64_t ns, tsc;
};

struct irq_conf {
	unsigned     n_cpus;        /* 1 to IRQ_CPUS_MAX; APIC ids are 0 to n_cpus - 1 */
	uint64_t     tsc_hz;
	unsigned     phys_bits;     /* of a guest physical address: what APIC_BASE may hold */
	struct gmem *mem;           /* borrowed; for the end of interrupt in memory; may be NULL */
	void        *ctx;
	void       (*kick)(void *ctx, unsigned cpu);   /* it has something new; any thread */
};

struct irq_chip;   /* all of a VM's local APICs and its I/O APIC */
struct lapic;
struct ioapic;

int  irq_new(const struct irq_conf *conf, struct irq_chip **ret) must_check;
struct irq_chip *irq_free(struct irq_chip *chip);

AUTO_PTR(struct irq_chip, irq_free)

struct lapic  *irq_lapic(struct irq_chip *chip, unsigned cpu);
struct ioapic *irq_ioapic(struct irq_chip *chip);

/* --- From any thread --- */

/* A device's message. One that is no interrupt message is dropped. */
void irq_msi(struct irq_chip *chip, uint64_t addr, uint32_t data);

/* The level of an I/O APIC's line. */
void irq_line(struct irq_chip *chip, unsigned pin, bool level);

/* An NMI, as from a button. */
void irq_nmi(struct irq_chip *chip, unsigned cpu);

/* LINT0 or LINT1 goes high for a moment: what comes of it is in that LVT entry. */
void irq_lint(struct irq_chip *chip, unsigned cpu, unsigned lint);

/* The hypercall KVM_HC_SEND_IPI: how many vCPUs it was sent to, or -EINVAL. */
int irq_pv_send_ipi(struct irq_chip *chip, uint64_t low, uint64_t high, uint32_t min,
		    uint64_t icr);

/* --- From the vCPU's own thread --- */

enum { LAPIC_INIT = 1, LAPIC_SIPI = 2, LAPIC_NMI = 4 };

/*
 * Take those events of `mask` that were posted. An INIT drops a SIPI that came before it; one
 * that came after it is told together with it. *ret_sipi is written with LAPIC_SIPI. The taker
 * calls lapic_init() for an INIT, and drops a SIPI for a vCPU that does not wait for one.
 */
unsigned lapic_events(struct lapic *l, unsigned mask, uint8_t *ret_sipi);

/* The vector that would be delivered now, -1: none above the processor's priority. */
int  lapic_next(struct lapic *l);
/* Behind lapic_next(): are there any at all? */
bool lapic_waiting(const struct lapic *l);

/* The CPU delivers that vector: from IRR to ISR. */
void lapic_accept(struct lapic *l, uint8_t vector);

/* Anything pending at all for a halted vCPU: an interrupt that could be delivered or an event.
 * A vCPU with interrupts disabled looks at events only. */
bool lapic_has_event(struct lapic *l);

uint64_t lapic_cr8(const struct lapic *l);
void     lapic_set_cr8(struct lapic *l, uint64_t cr8);   /* 0 to 15; checked by the caller */

/*
 * The register page, in xAPIC mode. `off` is below LAPIC_BYTES; accesses that are not 32 bits
 * wide and aligned to 16 bytes read parts of registers and write nothing.
 */
uint32_t lapic_mmio_read(struct lapic *l, uint32_t off, unsigned bytes, struct irq_now now);
void     lapic_mmio_write(struct lapic *l, uint32_t off, unsigned bytes, uint32_t v,
			  struct irq_now now);

/* Where the page lies; false: not at all (x2APIC, disabled). */
bool lapic_mmio_base(const struct lapic *l, uint64_t *ret);

/* Globally enabled, as CPUID.1:EDX[9] shows it. */
bool lapic_enabled(const struct lapic *l);

/* 0; -ENOENT: not an MSR of the local APIC; -EPERM: #GP. */
int lapic_msr_read(struct lapic *l, uint32_t msr, struct irq_now now, uint64_t *ret) must_check;
int lapic_msr_write(struct lapic *l, uint32_t msr, uint64_t v, struct irq_now now) must_check;

/* MSR_KVM_PV_EOI_EN was written. -EPERM: #GP. */
int lapic_set_pv_eoi(struct lapic *l, uint64_t v) must_check;

/*
 * When to call lapic_timer_run() at the latest, in nanoseconds of the VM's time; UINT64_MAX:
 * no timer runs. It changes when the vCPU writes to its APIC, and not by when it is asked for, as
 * long as the TSC is a count of these nanoseconds.
 */
uint64_t lapic_deadline_ns(const struct lapic *l, struct irq_now now);

/* Raise the timer's interrupt if it is due. */
void lapic_timer_run(struct lapic *l, struct irq_now now);

/* An LVT entry's own interrupt: for performance counters and the like; `off` as 0x340. */
void lapic_lvt(struct lapic *l, uint32_t off);

/* As INIT leaves it; and as power-up does. */
void lapic_init(struct lapic *l);
void lapic_reset(struct lapic *l);

/* --- I/O APIC; any thread --- */

uint32_t ioapic_mmio_read(struct ioapic *io, uint32_t off);
void     ioapic_mmio_write(struct ioapic *io, uint32_t off, uint32_t v);
void     ioapic_set(struct ioapic *io, unsigned pin, bool level);
void     ioapic_eoi(struct ioapic *io, uint8_t vector);

/*
 * An I/O APIC alone: for engines whose local APICs are elsewhere.
 *
 * @msi      sends its messages; called with its lock held
 * @changed  a redirection entry is new, NULL: nobody wants to know; its lock is held
 */
struct ioapic_conf {
	void  *ctx;
	void (*msi)(void *ctx, uint64_t addr, uint32_t data);
	void (*changed)(void *ctx, unsigned pin);
};

int  ioapic_new(const struct ioapic_conf *conf, struct ioapic **ret) must_check;
struct ioapic *ioapic_free(struct ioapic *io);

AUTO_PTR(struct ioapic, ioapic_free)

void ioapic_get(struct ioapic *io, struct ioapic_state *ret);
void ioapic_put(struct ioapic *io, const struct ioapic_state *s);

/* The message of a pin's entry as it stands: true if it is unmasked. Context: as `changed`, or
 * no other thread. */
bool ioapic_message(const struct ioapic *io, unsigned pin, uint64_t *ret_addr, uint32_t *ret_data);

/* --- State; no vCPU runs --- */

/*
 * What a local APIC holds. An end of interrupt that waits in guest memory is settled there, so
 * this comes before memory is saved. NMIs are the CPU state's: take them first.
 */
void lapic_get(struct lapic *l, struct irq_now now, struct lapic_state *ret);

/* Put it back; the state passed lapic_state_ok(). */
void lapic_put(struct lapic *l, struct irq_now now, const struct lapic_state *s);

/* Pure: can this be the state of the local APIC number `cpu`? */
bool lapic_state_ok(const struct lapic_state *s, unsigned cpu);

#endif
