/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One local APIC: its registers, and the way of a vector from a post through IRR and ISR to
 * its end. All of it runs on the vCPU's thread but for the two functions that post.
 */
#include "vm/irq/chip.h"

#include <errno.h>
#include <string.h>

/* Where a register's bits may be written; others of that register are reserved. */
struct reg_desc {
	uint16_t off;
	bool     read, write;
	bool     x2;             /* it exists in x2APIC mode */
	uint32_t bits;           /* that a write may change */
};

static const struct reg_desc reg_table[] = {
	{ LAPIC_ID, true, false, true, 0 },
	{ LAPIC_VERSION, true, false, true, 0 },
	{ LAPIC_TPR, true, true, true, 0xff },
	{ LAPIC_APR, true, false, false, 0 },
	{ LAPIC_PPR, true, false, true, 0 },
	{ LAPIC_EOI, false, true, true, 0 },
	{ LAPIC_LDR, true, true, true, 0xff000000 },
	{ LAPIC_DFR, true, true, false, 0xf0000000 },
	{ LAPIC_SVR, true, true, true, 0x13ff },
	{ LAPIC_ESR, true, true, true, 0 },
	{ LAPIC_ICR, true, true, true, 0x000ccfff },
	{ LAPIC_ICR_HIGH, true, true, false, 0xff000000 },
	{ LAPIC_LVT_TIMER, true, true, true, 0x000700ff },
	{ LAPIC_LVT_THERMAL, true, true, true, 0x000107ff },
	{ LAPIC_LVT_PERF, true, true, true, 0x000107ff },
	{ LAPIC_LVT_LINT0, true, true, true, 0x0001a7ff },
	{ LAPIC_LVT_LINT1, true, true, true, 0x0001a7ff },
	{ LAPIC_LVT_ERROR, true, true, true, 0x000100ff },
	{ LAPIC_TIMER_INITIAL, true, true, true, 0xffffffff },
	{ LAPIC_TIMER_CURRENT, true, false, true, 0 },
	{ LAPIC_TIMER_DIVIDE, true, true, true, 0x0000000b },
	{ LAPIC_SELF_IPI, false, true, true, 0xff },
};

enum {
	LVT_COUNT = 6,
	VERSION = 0x14 | (LVT_COUNT - 1) << 16 | 1 << 24,   /* it can keep its EOIs to itself */
};

static const struct reg_desc *reg_find(uint32_t off)
{
	static const struct reg_desc vector_bits = { .read = true, .x2 = true };

	if (off >= LAPIC_ISR && off < LAPIC_ESR && off % 16 == 0) {
		return &vector_bits;
	}
	for (size_t i = 0; i < ARRAY_LEN(reg_table); i++) {
		if (reg_table[i].off == off) {
			return &reg_table[i];
		}
	}
	return NULL;
}

static bool is_x2(const struct lapic *l)
{
	return (l->apic_base & LAPIC_BASE_EXTD) != 0;
}

bool lapic_enabled(const struct lapic *l)
{
	return (l->apic_base & LAPIC_BASE_ENABLE) != 0;
}

/* --- Vectors in IRR, ISR and TMR --- */

static uint32_t *vector_word(struct lapic *l, uint32_t set, uint8_t vector)
{
	return lapic__reg(l, set + vector / 32u * 16u);
}

static void vector_set(struct lapic *l, uint32_t set, uint8_t vector, bool on)
{
	uint32_t bit = UINT32_C(1) << vector % 32;

	if (on) {
		*vector_word(l, set, vector) |= bit;
	} else {
		*vector_word(l, set, vector) &= ~bit;
	}
}

static bool vector_test(struct lapic *l, uint32_t set, uint8_t vector)
{
	return *vector_word(l, set, vector) >> vector % 32 & 1;
}

static int vector_highest(const struct lapic *l, uint32_t set)
{
	for (int i = 7; i >= 0; i--) {
		uint32_t word = lapic__get(l, set + (uint32_t)i * 16);

		if (word) {
			return i * 32 + 31 - __builtin_clz(word);
		}
	}
	return -1;
}

void lapic__raise(struct lapic *l, uint8_t vector, bool level)
{
	if (vector < 16) {
		lapic__error(l, LAPIC_ERROR_RECEIVE_VECTOR);
		return;
	}
	vector_set(l, LAPIC_IRR, vector, true);
	vector_set(l, LAPIC_TMR, vector, level);
	l->irr_any = true;
}

/* SDM 3, 11.8.3.1 (Task and Processor Priorities) */
static uint32_t priority(const struct lapic *l)
{
	int isr = vector_highest(l, LAPIC_ISR);
	uint32_t tpr = lapic__get(l, LAPIC_TPR) & 0xff;
	uint32_t in_service = isr < 0 ? 0 : (uint32_t)isr & 0xf0;

	return (tpr & 0xf0) >= in_service ? tpr : in_service;
}

/* --- Posts --- */

void lapic__post_event(struct lapic *l, unsigned event, uint8_t sipi)
{
	unsigned old = atomic_load_explicit(&l->events, memory_order_relaxed);
	unsigned new;

	do {
		new = old | event;
		if (event == LAPIC_INIT) {
			new &= ~(unsigned)LAPIC_SIPI;
		}
		if (event == LAPIC_SIPI) {
			new = (new & 0xff) | (unsigned)sipi << LAPIC__SIPI_SHIFT;
		}
		/* Release: with lapic_events(), which acquires. */
	} while (!atomic_compare_exchange_weak_explicit(&l->events, &old, new,
							memory_order_release,
							memory_order_relaxed));
	l->chip->conf.kick(l->chip->conf.ctx, l->cpu);
}

static void post_vector(struct lapic *l, uint8_t vector, bool level)
{
	uint64_t bit = BIT(vector % 64);

	if (level) {
		atomic_fetch_or_explicit(&l->levels[vector / 64], bit, memory_order_relaxed);
	} else {
		atomic_fetch_and_explicit(&l->levels[vector / 64], ~bit, memory_order_relaxed);
	}
	/* Release: the level bit is seen with it. A bit that was set already has a kick of its
	 * own under way. */
	if (!(atomic_fetch_or_explicit(&l->vectors[vector / 64], bit, memory_order_release) &
	      bit)) {
		l->chip->conf.kick(l->chip->conf.ctx, l->cpu);
	}
}

void lapic__post(struct lapic *l, const struct irq_message *m)
{
	switch (m->mode) {
	case IRQ_MODE_FIXED:
	case IRQ_MODE_LOWEST:
		if (m->vector < 16) {
			lapic__post_event(l, LAPIC__BAD_VECTOR, 0);
		} else if (atomic_load_explicit(&l->software_enabled, memory_order_relaxed)) {
			post_vector(l, m->vector, m->level);
		}
		break;
	case IRQ_MODE_NMI:
		lapic__post_event(l, LAPIC_NMI, 0);
		break;
	case IRQ_MODE_INIT:
		lapic__post_event(l, LAPIC_INIT, 0);
		break;
	case IRQ_MODE_SIPI:
		lapic__post_event(l, LAPIC_SIPI, m->vector);
		break;
	case IRQ_MODE_SMI:           /* there is no system management mode */
	case IRQ_MODE_EXTINT:        /* and no 8259 to ask for the vector */
	case IRQ_MODE_REMOTE_READ:
		break;
	}
}

/* A local source's interrupt as its LVT entry says. */
void lapic_lvt(struct lapic *l, uint32_t off)
{
	uint32_t lvt = lapic__get(l, off);
	struct irq_message m = { .mode = (enum irq_mode)(lvt >> 8 & 7), .vector = lvt & 0xff };

	if ((lvt & LAPIC_LVT_MASKED) || !lapic_enabled(l)) {
		return;
	}
	if (off == LAPIC_LVT_TIMER || off == LAPIC_LVT_ERROR) {
		m.mode = IRQ_MODE_FIXED;
	}
	if (m.mode == IRQ_MODE_FIXED) {
		lapic__raise(l, m.vector, false);
	} else if (m.mode == IRQ_MODE_NMI || m.mode == IRQ_MODE_INIT) {
		lapic__post(l, &m);
	}
}

void lapic__error(struct lapic *l, uint32_t error)
{
	bool news = (l->errors & error) != error;
	uint32_t lvt = lapic__get(l, LAPIC_LVT_ERROR);

	l->errors |= error;
	/* An error vector that is itself bad raises no second one. */
	if (news && (lvt & 0xff) >= 16) {
		lapic_lvt(l, LAPIC_LVT_ERROR);
	}
}

void lapic__fold(struct lapic *l)
{
	for (unsigned i = 0; i < ARRAY_LEN(l->vectors); i++) {
		if (!atomic_load_explicit(&l->vectors[i], memory_order_relaxed)) {
			continue;
		}
		/* Acquire: with post_vector(). */
		uint64_t word = atomic_exchange_explicit(&l->vectors[i], 0, memory_order_acquire);
		uint64_t levels = atomic_load_explicit(&l->levels[i], memory_order_relaxed);

		for (; word; word &= word - 1) {
			unsigned bit = (unsigned)__builtin_ctzll(word);

			lapic__raise(l, (uint8_t)(i * 64 + bit), levels >> bit & 1);
		}
	}
	if (!(atomic_load_explicit(&l->events, memory_order_relaxed) &
	      (LAPIC__LINT0 | LAPIC__LINT1 | LAPIC__BAD_VECTOR))) {
		return;
	}
	unsigned events = atomic_fetch_and_explicit(
		&l->events, ~(unsigned)(LAPIC__LINT0 | LAPIC__LINT1 | LAPIC__BAD_VECTOR),
		memory_order_acquire);

	if (events & LAPIC__LINT0) {
		lapic_lvt(l, LAPIC_LVT_LINT0);
	}
	if (events & LAPIC__LINT1) {
		lapic_lvt(l, LAPIC_LVT_LINT1);
	}
	if (events & LAPIC__BAD_VECTOR) {
		lapic__error(l, LAPIC_ERROR_RECEIVE_VECTOR);
	}
}

/* --- What the CPU asks --- */

unsigned lapic_events(struct lapic *l, unsigned mask, uint8_t *ret_sipi)
{
	lapic__fold(l);
	if (!(atomic_load_explicit(&l->events, memory_order_relaxed) & mask)) {
		return 0;
	}
	/* Acquire: with lapic__post_event(). */
	unsigned old = atomic_fetch_and_explicit(&l->events, ~mask, memory_order_acquire);

	if (old & mask & LAPIC_SIPI) {
		*ret_sipi = (uint8_t)(old >> LAPIC__SIPI_SHIFT);
	}
	return old & mask;
}

int lapic_next(struct lapic *l)
{
	lapic__fold(l);
	if (!l->irr_any || !lapic_enabled(l)) {
		return -1;
	}
	lapic__pv_eoi_sync(l);

	int irr = vector_highest(l, LAPIC_IRR);

	if (irr < 0) {
		l->irr_any = false;
		return -1;
	}
	return ((uint32_t)irr & 0xf0) > (priority(l) & 0xf0) ? irr : -1;
}

bool lapic_waiting(const struct lapic *l)
{
	return l->irr_any;
}

void lapic_accept(struct lapic *l, uint8_t vector)
{
	vector_set(l, LAPIC_IRR, vector, false);
	vector_set(l, LAPIC_ISR, vector, true);
	if (vector_highest(l, LAPIC_IRR) < 0) {
		l->irr_any = false;
		lapic__pv_eoi_offer(l, vector);
	}
}

bool lapic_has_event(struct lapic *l)
{
	return lapic_next(l) >= 0 || (atomic_load_explicit(&l->events, memory_order_relaxed) &
				      (LAPIC_INIT | LAPIC_SIPI | LAPIC_NMI));
}

uint64_t lapic_cr8(const struct lapic *l)
{
	return lapic__get(l, LAPIC_TPR) >> 4 & 15;
}

void lapic_set_cr8(struct lapic *l, uint64_t cr8)
{
	*lapic__reg(l, LAPIC_TPR) = (uint32_t)(cr8 & 15) << 4;
}

void lapic__eoi(struct lapic *l)
{
	int vector = vector_highest(l, LAPIC_ISR);

	if (vector < 0) {
		return;
	}
	vector_set(l, LAPIC_ISR, (uint8_t)vector, false);
	if (vector_test(l, LAPIC_TMR, (uint8_t)vector) &&
	    !(lapic__get(l, LAPIC_SVR) & LAPIC_SVR_NO_BROADCAST)) {
		ioapic_eoi(l->chip->ioapic, (uint8_t)vector);
	}
}

/* --- Registers --- */

static uint32_t reg_read(struct lapic *l, uint32_t off, struct irq_now now)
{
	lapic__fold(l);
	lapic__pv_eoi_sync(l);
	switch (off) {
	case LAPIC_PPR:
	case LAPIC_APR:
		return priority(l);
	case LAPIC_TIMER_CURRENT:
		return lapic__timer_current(l, now.ns);
	default:
		return lapic__get(l, off);
	}
}

static void svr_write(struct lapic *l, uint32_t v)
{
	*lapic__reg(l, LAPIC_SVR) = v;
	if (!(v & LAPIC_SVR_ENABLE)) {
		/* All LVT entries are masked and stay so; SDM 3, 11.4.7.2. */
		for (uint32_t off = LAPIC_LVT_TIMER; off <= LAPIC_LVT_ERROR; off += 16) {
			*lapic__reg(l, off) |= LAPIC_LVT_MASKED;
		}
	}
	lapic__publish(l);
}

static void lvt_write(struct lapic *l, uint32_t off, uint32_t v, struct irq_now now)
{
	if (!(lapic__get(l, LAPIC_SVR) & LAPIC_SVR_ENABLE)) {
		v |= LAPIC_LVT_MASKED;
	}
	if (off == LAPIC_LVT_TIMER) {
		lapic__timer_write(l, off, v, now);
	} else {
		*lapic__reg(l, off) = v;
	}
}

/* The value has passed the register's mask. */
static void reg_write(struct lapic *l, uint32_t off, uint32_t v, struct irq_now now)
{
	switch (off) {
	case LAPIC_EOI:
		lapic__pv_eoi_sync(l);
		lapic__eoi(l);
		break;
	case LAPIC_SVR:
		svr_write(l, v);
		break;
	case LAPIC_ESR:
		*lapic__reg(l, LAPIC_ESR) = l->errors;
		l->errors = 0;
		break;
	case LAPIC_LDR:
	case LAPIC_DFR:
		*lapic__reg(l, off) = off == LAPIC_DFR ? v | 0x0fffffff : v;
		lapic__publish(l);
		break;
	case LAPIC_ICR:
		*lapic__reg(l, LAPIC_ICR) = v;
		lapic__command(l, (uint64_t)lapic__get(l, LAPIC_ICR_HIGH) << 32 | v);
		break;
	case LAPIC_TIMER_INITIAL:
	case LAPIC_TIMER_DIVIDE:
		lapic__timer_write(l, off, v, now);
		break;
	default:
		if (off >= LAPIC_LVT_TIMER && off <= LAPIC_LVT_ERROR) {
			lvt_write(l, off, v, now);
		} else {
			*lapic__reg(l, off) = v;
		}
		break;
	}
}

/* --- The page of xAPIC mode --- */

bool lapic_mmio_base(const struct lapic *l, uint64_t *ret)
{
	if (!lapic_enabled(l) || is_x2(l)) {
		return false;
	}
	*ret = l->apic_base & ~UINT64_C(0xfff);
	return true;
}

uint32_t lapic_mmio_read(struct lapic *l, uint32_t off, unsigned bytes, struct irq_now now)
{
	uint32_t part = off % 16;
	const struct reg_desc *d = off < LAPIC_REGS_BYTES ? reg_find(off - part) : NULL;

	if (!d || !d->read) {
		/* The write-only ones read as zero without an error. */
		if (!d) {
			lapic__error(l, LAPIC_ERROR_REGISTER);
		}
		return 0;
	}
	if (part + bytes > 4) {
		return 0;
	}
	uint32_t v = reg_read(l, off - part, now) >> part * 8;

	return bytes < 4 ? v & ((UINT32_C(1) << bytes * 8) - 1) : v;
}

void lapic_mmio_write(struct lapic *l, uint32_t off, unsigned bytes, uint32_t v,
		      struct irq_now now)
{
	const struct reg_desc *d = off < LAPIC_REGS_BYTES ? reg_find(off) : NULL;

	if (off % 16 != 0 || bytes != 4) {
		return;
	}
	if (!d || off == LAPIC_SELF_IPI) {
		lapic__error(l, LAPIC_ERROR_REGISTER);
		return;
	}
	if (d->write) {
		reg_write(l, off, v & d->bits, now);
	}
}

/* --- MSRs --- */

static int x2_read(struct lapic *l, uint32_t off, struct irq_now now, uint64_t *ret)
{
	const struct reg_desc *d = off < LAPIC_REGS_BYTES ? reg_find(off) : NULL;

	if (!is_x2(l) || !d || !d->x2 || !d->read) {
		return -EPERM;
	}
	*ret = reg_read(l, off, now);
	if (off == LAPIC_ICR) {
		*ret |= (uint64_t)lapic__get(l, LAPIC_ICR_HIGH) << 32;
	}
	return 0;
}

static int x2_write(struct lapic *l, uint32_t off, uint64_t v, struct irq_now now)
{
	const struct reg_desc *d = off < LAPIC_REGS_BYTES ? reg_find(off) : NULL;

	if (!is_x2(l) || !d || !d->x2 || !d->write || off == LAPIC_LDR) {
		return -EPERM;
	}
	/* Reserved bits fault here; the delivery status of ICR is one of them no more. */
	uint64_t allowed = off == LAPIC_ICR ? d->bits | UINT64_C(0xffffffff00000000) | 1u << 12 :
					      d->bits;

	if (off >= LAPIC_LVT_TIMER && off <= LAPIC_LVT_ERROR) {
		allowed |= 1u << 12 | (off == LAPIC_LVT_LINT0 || off == LAPIC_LVT_LINT1 ?
					       1u << 14 : 0);
	}
	if (v & ~allowed) {
		return -EPERM;
	}
	if (off == LAPIC_SELF_IPI) {
		lapic__command(l, (uint64_t)(v & 0xff) | 1u << 18);
		return 0;
	}
	if (off == LAPIC_ICR) {
		*lapic__reg(l, LAPIC_ICR_HIGH) = (uint32_t)(v >> 32);
	}
	reg_write(l, off, (uint32_t)v & d->bits, now);
	return 0;
}

static int base_write(struct lapic *l, uint64_t v)
{
	uint64_t mode = LAPIC_BASE_ENABLE | LAPIC_BASE_EXTD;
	uint64_t old = l->apic_base & mode, new = v & mode;
	uint64_t top = BIT(l->chip->conf.phys_bits) - 1;

	if (v & (~top | 0x2ff) || new == LAPIC_BASE_EXTD) {
		return -EPERM;
	}
	/* SDM 3, 11.12.5 (x2APIC State Transitions): into x2APIC only from xAPIC, out of it
	 * only to disabled. */
	if ((old == mode && new == LAPIC_BASE_ENABLE) || (old == 0 && new == mode)) {
		return -EPERM;
	}
	uint64_t keep_bsp = l->apic_base & LAPIC_BASE_BSP;

	v = (v & ~(uint64_t)LAPIC_BASE_BSP) | keep_bsp;
	if (new == 0 && old != 0) {
		lapic_reset(l);
	}
	l->apic_base = v;
	if (new == mode && old != mode) {
		*lapic__reg(l, LAPIC_ID) = l->cpu;
		*lapic__reg(l, LAPIC_LDR) = l->cpu >> 4 << 16 | UINT32_C(1) << (l->cpu & 15);
		*lapic__reg(l, LAPIC_ICR_HIGH) = 0;
	} else if (new == 0) {
		*lapic__reg(l, LAPIC_ID) = l->cpu << 24;
	}
	lapic__publish(l);
	return 0;
}

int lapic_msr_read(struct lapic *l, uint32_t msr, struct irq_now now, uint64_t *ret)
{
	if (msr == LAPIC_MSR_BASE) {
		*ret = l->apic_base;
		return 0;
	}
	if (msr == LAPIC_MSR_TSC_DEADLINE) {
		*ret = l->tsc_deadline;
		return 0;
	}
	if (msr >= LAPIC_MSR_X2 && msr <= LAPIC_MSR_X2 + 0xff) {
		return x2_read(l, (msr - LAPIC_MSR_X2) * 16, now, ret);
	}
	return -ENOENT;
}

int lapic_msr_write(struct lapic *l, uint32_t msr, uint64_t v, struct irq_now now)
{
	if (msr == LAPIC_MSR_BASE) {
		return base_write(l, v);
	}
	if (msr == LAPIC_MSR_TSC_DEADLINE) {
		if (lapic_enabled(l) && (lapic__get(l, LAPIC_LVT_TIMER) & LAPIC_TIMER_MODE) ==
						LAPIC_TIMER_DEADLINE) {
			l->tsc_deadline = v;
		}
		return 0;
	}
	if (msr >= LAPIC_MSR_X2 && msr <= LAPIC_MSR_X2 + 0xff) {
		return x2_write(l, (msr - LAPIC_MSR_X2) * 16, v, now);
	}
	return -ENOENT;
}

/* --- Reset --- */

void lapic__publish(struct lapic *l)
{
	enum lapic_kind kind = !lapic_enabled(l) ? LAPIC_OFF : is_x2(l) ? LAPIC_X2APIC : LAPIC_XAPIC;

	atomic_store_explicit(&l->kind, kind, memory_order_relaxed);
	atomic_store_explicit(&l->ldr, lapic__get(l, LAPIC_LDR), memory_order_relaxed);
	atomic_store_explicit(&l->dfr, lapic__get(l, LAPIC_DFR), memory_order_relaxed);
	atomic_store_explicit(&l->software_enabled,
			      kind != LAPIC_OFF && (lapic__get(l, LAPIC_SVR) & LAPIC_SVR_ENABLE),
			      memory_order_relaxed);
}

/* SDM 3, 11.4.7.3 (Local APIC State After It Has Been INIT Reset) */
void lapic_init(struct lapic *l)
{
	memset(l->regs, 0, sizeof(l->regs));
	*lapic__reg(l, LAPIC_ID) = is_x2(l) ? l->cpu : l->cpu << 24;
	*lapic__reg(l, LAPIC_VERSION) = VERSION;
	*lapic__reg(l, LAPIC_DFR) = 0xffffffff;
	*lapic__reg(l, LAPIC_SVR) = 0xff;
	for (uint32_t off = LAPIC_LVT_TIMER; off <= LAPIC_LVT_ERROR; off += 16) {
		*lapic__reg(l, off) = LAPIC_LVT_MASKED;
	}
	if (is_x2(l)) {
		*lapic__reg(l, LAPIC_LDR) = l->cpu >> 4 << 16 | UINT32_C(1) << (l->cpu & 15);
	}
	for (unsigned i = 0; i < ARRAY_LEN(l->vectors); i++) {
		atomic_store_explicit(&l->vectors[i], 0, memory_order_relaxed);
	}
	l->errors = 0;
	l->irr_any = false;
	l->pv_eoi = 0;
	l->pv_eoi_set = false;
	lapic__timer_stop(l);
	lapic__publish(l);
}

void lapic_reset(struct lapic *l)
{
	l->apic_base = LAPIC_BASE | LAPIC_BASE_ENABLE | (l->cpu == 0 ? LAPIC_BASE_BSP : 0);
	lapic_init(l);
}
