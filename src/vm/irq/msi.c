/* SPDX-License-Identifier: Apache-2.0 */
/*
 * From a message to the local APICs that it is for: MSI, the I/O APIC's, and those that local
 * APICs send each other. Any thread.
 */
#include "vm/irq/chip.h"

#include <errno.h>

#include "base/mem.h"

struct lapic *irq_lapic(struct irq_chip *chip, unsigned cpu)
{
	return &chip->lapics[cpu];
}

struct ioapic *irq_ioapic(struct irq_chip *chip)
{
	return chip->ioapic;
}

static bool is_everyone(const struct irq_message *m)
{
	return m->dest == (m->wide ? UINT32_MAX : UINT32_C(0xff));
}

/* SDM 3, 11.6.2 (Determining IPI Destination), 11.12.10 (x2APIC ids) */
static bool matches_logical(const struct lapic *l, uint32_t dest, enum lapic_kind kind)
{
	uint32_t ldr = atomic_load_explicit(&l->ldr, memory_order_relaxed);

	if (kind == LAPIC_X2APIC) {
		return ldr >> 16 == dest >> 16 && (ldr & dest & 0xffff);
	}
	uint32_t dfr = atomic_load_explicit(&l->dfr, memory_order_relaxed);

	ldr >>= 24;
	dest &= 0xff;
	if (dfr >> 28 == 15) {
		return (ldr & dest) != 0;
	}
	return dfr >> 28 == 0 && ldr >> 4 == dest >> 4 && (ldr & dest & 15);
}

static bool matches(const struct lapic *l, const struct irq_message *m)
{
	enum lapic_kind kind = atomic_load_explicit(&l->kind, memory_order_relaxed);

	if (kind == LAPIC_OFF) {
		return false;
	}
	if (is_everyone(m)) {
		return true;
	}
	if (m->logical) {
		return matches_logical(l, m->dest, kind);
	}
	return m->dest == l->cpu;
}

static unsigned send_lowest(struct irq_chip *chip, const struct irq_message *m)
{
	unsigned n = chip->conf.n_cpus;
	unsigned first = atomic_fetch_add_explicit(&chip->lowest_turn, 1, memory_order_relaxed);

	/* They take turns: as good as priorities that change with each instruction. */
	for (unsigned i = 0; i < n; i++) {
		struct lapic *l = &chip->lapics[(first + i) % n];

		if (matches(l, m) &&
		    atomic_load_explicit(&l->software_enabled, memory_order_relaxed)) {
			lapic__post(l, m);
			return 1;
		}
	}
	return 0;
}

unsigned irq__send(struct irq_chip *chip, const struct irq_message *m, bool everyone,
		   const struct lapic *skip)
{
	unsigned sent = 0;

	if (m->mode == IRQ_MODE_LOWEST && !everyone) {
		return send_lowest(chip, m);
	}
	for (unsigned i = 0; i < chip->conf.n_cpus; i++) {
		struct lapic *l = &chip->lapics[i];
		enum lapic_kind kind = atomic_load_explicit(&l->kind, memory_order_relaxed);

		if (l != skip && (everyone ? kind != LAPIC_OFF : matches(l, m))) {
			lapic__post(l, m);
			sent++;
		}
	}
	return sent;
}

void irq_msi(struct irq_chip *chip, uint64_t addr, uint32_t data)
{
	struct irq_message m = {
		.dest = addr >> 12 & 0xff,
		.logical = addr >> 2 & 1,
		.mode = (enum irq_mode)(data >> 8 & 7),
		.vector = data & 0xff,
		.level = data >> 15 & 1,
	};

	/* 0xfeexxxxx; a level message that says that the line is low again is none at all. */
	if (addr >> 20 != LAPIC_BASE >> 20 || (m.level && !(data >> 14 & 1))) {
		return;
	}
	/* The redirection hint asks for one of a group. */
	if ((addr >> 3 & 1) && m.logical && m.mode == IRQ_MODE_FIXED) {
		m.mode = IRQ_MODE_LOWEST;
	}
	ignore_result(irq__send(chip, &m, false, NULL));
	/* a message for nobody is lost, as on the bus */
}

void irq_line(struct irq_chip *chip, unsigned pin, bool level)
{
	ioapic_set(chip->ioapic, pin, level);
}

void irq_nmi(struct irq_chip *chip, unsigned cpu)
{
	lapic__post_event(&chip->lapics[cpu], LAPIC_NMI, 0);
}

void irq_lint(struct irq_chip *chip, unsigned cpu, unsigned lint)
{
	lapic__post_event(&chip->lapics[cpu], lint ? LAPIC__LINT1 : LAPIC__LINT0, 0);
}

/* --- Commands of a local APIC to others; SDM 3, 11.6.1 --- */

enum { SHORT_NONE, SHORT_SELF, SHORT_ALL, SHORT_OTHERS };

void lapic__command(struct lapic *l, uint64_t icr)
{
	bool x2 = (l->apic_base & LAPIC_BASE_EXTD) != 0;
	unsigned shorthand = icr >> 18 & 3;
	struct irq_message m = {
		.dest = x2 ? (uint32_t)(icr >> 32) : (uint32_t)(icr >> 56),
		.wide = x2,
		.logical = icr >> 11 & 1,
		.mode = (enum irq_mode)(icr >> 8 & 7),
		.vector = icr & 0xff,
	};

	/* The de-assert form of INIT did something on the first processors only. */
	if (m.mode == IRQ_MODE_INIT && (icr >> 15 & 1) && !(icr >> 14 & 1)) {
		return;
	}
	if ((m.mode == IRQ_MODE_FIXED || m.mode == IRQ_MODE_LOWEST) && m.vector < 16) {
		lapic__error(l, LAPIC_ERROR_SEND_VECTOR);
		return;
	}
	if (shorthand == SHORT_SELF) {
		if (m.mode == IRQ_MODE_FIXED &&
		    atomic_load_explicit(&l->software_enabled, memory_order_relaxed)) {
			lapic__raise(l, m.vector, false);
			l->chip->conf.kick(l->chip->conf.ctx, l->cpu);
		}
		return;
	}
	ignore_result(irq__send(l->chip, &m, shorthand != SHORT_NONE,
				shorthand == SHORT_OTHERS ? l : NULL));
	/* nobody there: nothing happens */
}

int irq_pv_send_ipi(struct irq_chip *chip, uint64_t low, uint64_t high, uint32_t min,
		    uint64_t icr)
{
	struct irq_message m = {
		.mode = (enum irq_mode)(icr >> 8 & 7), .vector = icr & 0xff,
	};
	int sent = 0;

	/* Destination mode and shorthand make no sense here. */
	if (icr & (1u << 11 | 3u << 18)) {
		return -EINVAL;
	}
	if (m.mode != IRQ_MODE_FIXED && m.mode != IRQ_MODE_NMI) {
		return -EINVAL;
	}
	for (uint32_t i = 0; i < 128; i++) {
		uint64_t word = i < 64 ? low : high;
		uint64_t cpu = (uint64_t)min + i;

		if ((word >> i % 64 & 1) && cpu < chip->conf.n_cpus) {
			lapic__post(&chip->lapics[cpu], &m);
			sent++;
		}
	}
	return sent;
}

/* --- All of them --- */

static void ioapic_sends(void *ctx, uint64_t addr, uint32_t data)
{
	irq_msi(ctx, addr, data);
}

int irq_new(const struct irq_conf *conf, struct irq_chip **ret)
{
	assert(conf->n_cpus > 0 && conf->n_cpus <= IRQ_CPUS_MAX && conf->tsc_hz > 0 && conf->kick);

	struct irq_chip *chip = mem_calloc(1, sizeof(*chip) + conf->n_cpus * sizeof(struct lapic));

	if (!chip) {
		return -ENOMEM;
	}
	struct ioapic_conf io = { .ctx = chip, .msi = ioapic_sends };

	chip->conf = *conf;
	int r = ioapic_new(&io, &chip->ioapic);

	if (r < 0) {
		free(chip);
		return r;
	}
	for (unsigned i = 0; i < conf->n_cpus; i++) {
		chip->lapics[i].chip = chip;
		chip->lapics[i].cpu = i;
		lapic_reset(&chip->lapics[i]);
	}
	*ret = chip;
	return 0;
}

struct irq_chip *irq_free(struct irq_chip *chip)
{
	if (chip) {
		ioapic_free(chip->ioapic);
		free(chip);
	}
	return NULL;
}
