/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Interrupt controllers of three vCPUs, driven by a script of bytes: registers in both modes,
 * messages, lines, hypercalls, time. What they hold is always a state that may be loaded, and
 * loads to the same.
 */
#include "base/fuzz-script.h"
#include "vm/irq/test-chip.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { CPUS = 3, STEPS_MAX = 1024, TSC_NS = 2 };

enum step {
	STEP_PAGE, STEP_MSR, STEP_BASE, STEP_DEADLINE, STEP_PV_EOI, STEP_MSI, STEP_LINE, STEP_PV_IPI,
	STEP_DELIVER, STEP_EVENTS, STEP_TIME, STEP_IOAPIC, STEP_TASK, STEP_MOVE, STEP_LINT,
	STEP_WORD, STEP__COUNT,
};

/* Take it out, look at it, put it back. */
static void move(struct irq_chip *chip, struct lapic *l, unsigned cpu, struct irq_now now)
{
	struct lapic_state one = { 0 }, two = { 0 };
	struct ioapic_state io;

	lapic_get(l, now, &one);
	assert(lapic_state_ok(&one, cpu));
	lapic_put(l, now, &one);
	lapic_get(l, now, &two);
	assert(memcmp(&one, &two, sizeof(one)) == 0);
	ioapic_get(irq_ioapic(chip), &io);
	ioapic_put(irq_ioapic(chip), &io);
}

static void deliver(struct lapic *l)
{
	int vector = lapic_next(l);

	assert(vector < 256 && (vector < 0 || vector >= 16));
	if (vector >= 0) {
		assert(lapic_has_event(l));
		lapic_accept(l, (uint8_t)vector);
	}
}

static void events(struct lapic *l, unsigned mask)
{
	uint8_t sipi = 0;
	unsigned got = lapic_events(l, mask & (LAPIC_INIT | LAPIC_SIPI | LAPIC_NMI), &sipi);

	assert((got & ~mask) == 0);
	if (got & LAPIC_INIT) {
		lapic_init(l);
	}
}

static void msr(struct lapic *l, uint32_t number, uint64_t v, struct irq_now now)
{
	ignore_result(lapic_msr_write(l, number, v, now)); /* #GP is an answer, too */
	ignore_result(lapic_msr_read(l, number, now, &v)); /* likewise */
}

static void one_step(struct test_chip *t, struct in *in, struct irq_now *now)
{
	uint8_t first = (uint8_t)take(in, 1);
	enum step step = (enum step)(first % STEP__COUNT);
	unsigned cpu = first / STEP__COUNT % CPUS, n = 0;
	struct lapic *l = irq_lapic(t->chip, cpu);
	uint64_t v = 0, base = 0;
	uint32_t off = 0;

	switch (step) {
	case STEP_PAGE:
		off = (uint32_t)take(in, 1) * 16 + (uint32_t)(first >> 7) * (uint32_t)take(in, 1) % 16;
		n = first >> 7 ? 1u << take(in, 1) % 3 : 4;
		off = MIN(off, (uint32_t)LAPIC_BYTES - n);
		v = take(in, n);
		/* Otherwise there is no page to write to. */
		if (lapic_mmio_base(l, &base)) {
			lapic_mmio_write(l, off, n, (uint32_t)v, *now);
			(void)lapic_mmio_read(l, off, n, *now); /* anything */
		}
		break;
	case STEP_MSR:
		off = (uint32_t)take(in, 1);
		msr(l, 0x800 + off, take(in, 8), *now);
		break;
	case STEP_BASE:
		msr(l, 0x1b, take(in, 5), *now);
		break;
	case STEP_DEADLINE:
		msr(l, 0x6e0, take(in, 8), *now);
		break;
	case STEP_PV_EOI:
		ignore_result(lapic_set_pv_eoi(l, take(in, 2))); /* as with MSRs */
		break;
	case STEP_MSI: {
		uint64_t addr = first >> 7 ? take(in, 8) : 0xfee00000 | take(in, 3);

		irq_msi(t->chip, addr, (uint32_t)take(in, 4));
		break;
	}
	case STEP_LINE:
		n = (unsigned)take(in, 1);
		irq_line(t->chip, (n & 0x7f) % IRQ_PINS, n >> 7);
		break;
	case STEP_PV_IPI: {
		uint64_t low = take(in, 8), high = take(in, 1);
		uint32_t min = (uint32_t)take(in, 4);

		ignore_result(irq_pv_send_ipi(t->chip, low, high, min, take(in, 4))); /* or -EINVAL */
		break;
	}
	case STEP_DELIVER:
		deliver(l);
		break;
	case STEP_EVENTS:
		events(l, (unsigned)take(in, 1));
		break;
	case STEP_TIME: {
		uint64_t ns = take(in, 4);

		now->ns += ns;
		now->tsc += ns * TSC_NS;
		for (unsigned i = 0; i < CPUS; i++) {
			lapic_timer_run(irq_lapic(t->chip, i), *now);
			assert(lapic_deadline_ns(irq_lapic(t->chip, i), *now) > now->ns);
		}
		break;
	}
	case STEP_IOAPIC:
		off = (uint32_t)take(in, 1);
		ioapic_mmio_write(irq_ioapic(t->chip), off, (uint32_t)take(in, 4));
		(void)ioapic_mmio_read(irq_ioapic(t->chip), off); /* anything */
		break;
	case STEP_TASK:
		lapic_set_cr8(l, take(in, 1) & 15);
		assert(lapic_cr8(l) < 16);
		break;
	case STEP_MOVE:
		move(t->chip, l, cpu, *now);
		break;
	case STEP_LINT:
		irq_lint(t->chip, cpu, (unsigned)take(in, 1) & 1);
		irq_nmi(t->chip, cpu);
		break;
	case STEP_WORD:
		test_word = (uint32_t)take(in, 4);
		break;
	case STEP__COUNT:
		break;
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct in in = { data, size };
	struct irq_now now = T0;
	struct test_chip t;

	(void)test_open(&t, CPUS); /* the first one's; taken by number below */
	for (unsigned i = 0; i < STEPS_MAX && in.len > 0; i++) {
		one_step(&t, &in, &now);
	}
	for (unsigned cpu = 0; cpu < CPUS; cpu++) {
		move(t.chip, irq_lapic(t.chip, cpu), cpu, now);
	}
	irq_free(t.chip);
	return 0;
}
