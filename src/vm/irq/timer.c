/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The local APIC's timer. A count is kept as the moment when it ends, so nothing runs while
 * nobody looks. SDM 3, 11.5.4 (APIC Timer).
 */
#include "vm/irq/chip.h"

static uint32_t timer_mode(const struct lapic *l)
{
	return lapic__get(l, LAPIC_LVT_TIMER) & LAPIC_TIMER_MODE;
}

/* Nanoseconds a count: 1 to 128, as the bus runs at 1 GHz. */
uint64_t lapic__divide(const struct lapic *l)
{
	uint32_t dcr = lapic__get(l, LAPIC_TIMER_DIVIDE);
	uint32_t code = (dcr & 3) | (dcr >> 1 & 4);

	return UINT64_C(1) << (code + 1) % 8;
}

void lapic__timer_stop(struct lapic *l)
{
	l->tsc_deadline = 0;
	l->expiry_ns = 0;
	l->period_ns = 0;
}

uint32_t lapic__timer_current(const struct lapic *l, uint64_t now_ns)
{
	if (l->expiry_ns == 0) {
		return 0;
	}
	uint64_t left = l->expiry_ns > now_ns ? l->expiry_ns - now_ns : 0;

	if (left == 0 && l->period_ns) {
		left = l->period_ns - (now_ns - l->expiry_ns) % l->period_ns;
	}
	uint64_t count = (left + lapic__divide(l) - 1) / lapic__divide(l);

	return count > UINT32_MAX ? UINT32_MAX : (uint32_t)count;
}

static void start(struct lapic *l, uint64_t count, uint64_t now_ns)
{
	lapic__timer_stop(l);
	if (lapic__get(l, LAPIC_TIMER_INITIAL) == 0 || timer_mode(l) > LAPIC_TIMER_PERIODIC) {
		return;
	}
	l->expiry_ns = now_ns + count * lapic__divide(l);
	if (timer_mode(l) == LAPIC_TIMER_PERIODIC) {
		l->period_ns = lapic__get(l, LAPIC_TIMER_INITIAL) * lapic__divide(l);
	}
}

void lapic__timer_write(struct lapic *l, uint32_t off, uint32_t v, struct irq_now now)
{
	uint32_t old_mode = timer_mode(l);
	uint32_t left = lapic__timer_current(l, now.ns);

	/* The initial count does not exist while deadlines are used. */
	if (off == LAPIC_TIMER_INITIAL && old_mode == LAPIC_TIMER_DEADLINE) {
		return;
	}
	*lapic__reg(l, off) = v;
	if (off == LAPIC_TIMER_INITIAL) {
		start(l, v, now.ns);
	} else if (off == LAPIC_TIMER_DIVIDE) {
		/* What is left goes on at the new rate. */
		if (left) {
			start(l, left, now.ns);
		}
	} else if ((old_mode == LAPIC_TIMER_DEADLINE) != (timer_mode(l) == LAPIC_TIMER_DEADLINE)) {
		*lapic__reg(l, LAPIC_TIMER_INITIAL) = 0;
		lapic__timer_stop(l);
	} else if (old_mode != timer_mode(l) && left) {
		start(l, left, now.ns);
	}
}

/*
 * When so many ticks of the TSC will have passed. It is counted from 0 ns on, where a tick began:
 * from now on it would be a nanosecond more or less, by when it is asked.
 */
static uint64_t tick_ns(const struct lapic *l, uint64_t ticks, uint64_t now_ns)
{
	const unsigned __int128 hz = l->chip->conf.tsc_hz, second = 1000000000;
	unsigned __int128 ns = ((now_ns * hz / second + ticks) * second + hz - 1) / hz;

	return ns > UINT64_MAX - 1 ? UINT64_MAX - 1 : (uint64_t)ns;
}

uint64_t lapic_deadline_ns(const struct lapic *l, struct irq_now now)
{
	if (l->expiry_ns) {
		return l->expiry_ns;
	}
	if (l->tsc_deadline == 0) {
		return UINT64_MAX;
	}
	if (l->tsc_deadline <= now.tsc) {
		return now.ns;
	}
	return tick_ns(l, l->tsc_deadline - now.tsc, now.ns);
}

void lapic_timer_run(struct lapic *l, struct irq_now now)
{
	if (l->tsc_deadline && now.tsc >= l->tsc_deadline) {
		l->tsc_deadline = 0;
		lapic_lvt(l, LAPIC_LVT_TIMER);
	}
	if (l->expiry_ns == 0 || now.ns < l->expiry_ns) {
		return;
	}
	/* Periods that nobody saw end are one interrupt. */
	l->expiry_ns = l->period_ns ?
			       l->expiry_ns + ((now.ns - l->expiry_ns) / l->period_ns + 1) *
						      l->period_ns :
			       0;
	lapic_lvt(l, LAPIC_LVT_TIMER);
}
