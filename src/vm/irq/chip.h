/* SPDX-License-Identifier: Apache-2.0 */
/* What the files of this folder share. Registers are named by their offset in the page. */
#ifndef VM_IRQ_CHIP_H
#define VM_IRQ_CHIP_H

#include <stdatomic.h>

#include "vm/irq/irq.h"

enum lapic_reg {
	LAPIC_ID = 0x020, LAPIC_VERSION = 0x030, LAPIC_TPR = 0x080, LAPIC_APR = 0x090,
	LAPIC_PPR = 0x0a0, LAPIC_EOI = 0x0b0, LAPIC_LDR = 0x0d0, LAPIC_DFR = 0x0e0,
	LAPIC_SVR = 0x0f0, LAPIC_ISR = 0x100, LAPIC_TMR = 0x180, LAPIC_IRR = 0x200,
	LAPIC_ESR = 0x280, LAPIC_ICR = 0x300, LAPIC_ICR_HIGH = 0x310, LAPIC_LVT_TIMER = 0x320,
	LAPIC_LVT_THERMAL = 0x330, LAPIC_LVT_PERF = 0x340, LAPIC_LVT_LINT0 = 0x350,
	LAPIC_LVT_LINT1 = 0x360, LAPIC_LVT_ERROR = 0x370, LAPIC_TIMER_INITIAL = 0x380,
	LAPIC_TIMER_CURRENT = 0x390, LAPIC_TIMER_DIVIDE = 0x3e0, LAPIC_SELF_IPI = 0x3f0,
};

enum {
	LAPIC_SVR_ENABLE = 1u << 8, LAPIC_SVR_NO_BROADCAST = 1u << 12,
	LAPIC_LVT_MASKED = 1u << 16,
	LAPIC_TIMER_PERIODIC = 1u << 17, LAPIC_TIMER_DEADLINE = 2u << 17,
	LAPIC_TIMER_MODE = 3u << 17,
	LAPIC_ERROR_SEND_VECTOR = 1u << 5, LAPIC_ERROR_RECEIVE_VECTOR = 1u << 6,
	LAPIC_ERROR_REGISTER = 1u << 7,
};

/* Delivery modes, as ICR, LVT, MSI and the I/O APIC have them. */
enum irq_mode {
	IRQ_MODE_FIXED, IRQ_MODE_LOWEST, IRQ_MODE_SMI, IRQ_MODE_REMOTE_READ,
	IRQ_MODE_NMI, IRQ_MODE_INIT, IRQ_MODE_SIPI, IRQ_MODE_EXTINT,
};

/* What a local APIC is to those who send. */
enum lapic_kind { LAPIC_OFF, LAPIC_XAPIC, LAPIC_X2APIC };

struct lapic {
	struct irq_chip *chip;
	unsigned cpu;

	/* Of the vCPU's thread. */
	uint64_t apic_base;
	uint32_t regs[LAPIC_REGS_BYTES / 16];
	uint32_t errors;           /* seen since ESR was last written */
	bool     irr_any;          /* false: IRR is empty */
	uint64_t tsc_deadline;     /* 0: not armed */
	uint64_t expiry_ns;        /* of a count; 0: not running */
	uint64_t period_ns;        /* of a periodic one */
	uint64_t pv_eoi;           /* the MSR */
	bool     pv_eoi_set;       /* the bit in guest memory was set for the vector in service */

	/* Written by the vCPU's thread, read by whoever sends: each word is whole, and no
	 * order among them is needed, as with the hardware. */
	atomic_uint kind;
	_Atomic uint32_t ldr, dfr;
	atomic_bool software_enabled;

	/* Posted by anybody. A vector's level bit is written before its vector bit (release)
	 * and read after it was taken (acquire) in lapic__fold(). */
	_Atomic uint64_t vectors[4], levels[4];
	atomic_uint events;        /* LAPIC_INIT ..., LAPIC__ more, the SIPI's vector above */
};

enum {
	LAPIC__LINT0 = 1 << 3, LAPIC__LINT1 = 1 << 4, LAPIC__BAD_VECTOR = 1 << 5,
	LAPIC__SIPI_SHIFT = 8,
};

struct irq_chip {
	struct irq_conf conf;
	struct ioapic  *ioapic;
	atomic_uint     lowest_turn;   /* of the next lowest-priority interrupt */
	struct lapic    lapics[];      /* conf.n_cpus */
};

/* An interrupt on its way. */
struct irq_message {
	uint32_t      dest;
	bool          logical, level;
	bool          wide;        /* dest has 32 bits: an IPI of x2APIC mode */
	enum irq_mode mode;
	uint8_t       vector;
};

static inline uint32_t *lapic__reg(struct lapic *l, uint32_t off)
{
	return &l->regs[off / 16];
}

static inline uint32_t lapic__get(const struct lapic *l, uint32_t off)
{
	return l->regs[off / 16];
}

/* Any thread. */
void lapic__post(struct lapic *l, const struct irq_message *m);
void lapic__post_event(struct lapic *l, unsigned event, uint8_t sipi);

/* To all that its destination names; `skip`: not to this one (NULL: nobody). Returns how many. */
unsigned irq__send(struct irq_chip *chip, const struct irq_message *m, bool everyone,
		   const struct lapic *skip);

/* The vCPU's thread. */
void lapic__raise(struct lapic *l, uint8_t vector, bool level);
void lapic__error(struct lapic *l, uint32_t error);
void lapic__command(struct lapic *l, uint64_t icr);
void lapic__publish(struct lapic *l);
void lapic__timer_write(struct lapic *l, uint32_t off, uint32_t v, struct irq_now now);
uint32_t lapic__timer_current(const struct lapic *l, uint64_t now_ns);
void lapic__timer_stop(struct lapic *l);
uint64_t lapic__divide(const struct lapic *l);
void lapic__pv_eoi_sync(struct lapic *l);
void lapic__pv_eoi_offer(struct lapic *l, uint8_t vector);
void lapic__fold(struct lapic *l);
void lapic__eoi(struct lapic *l);

#endif
