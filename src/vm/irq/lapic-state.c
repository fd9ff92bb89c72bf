/* SPDX-License-Identifier: Apache-2.0 */
/* A local APIC to its saved form and back. */
#include "vm/irq/chip.h"

#include <string.h>

static void reg_put(struct lapic_state *s, uint32_t off, uint32_t v)
{
	memcpy(s->regs + off, &v, sizeof(v));
}

static uint32_t reg_get(const struct lapic_state *s, uint32_t off)
{
	uint32_t v;

	memcpy(&v, s->regs + off, sizeof(v));
	return v;
}

void lapic_get(struct lapic *l, struct irq_now now, struct lapic_state *ret)
{
	unsigned events = atomic_load_explicit(&l->events, memory_order_acquire);

	lapic__fold(l);
	lapic__pv_eoi_sync(l);
	*ret = (struct lapic_state){
		.apic_base = l->apic_base,
		.tsc_deadline = l->tsc_deadline,
		.init_pending = events & LAPIC_INIT,
		.sipi_pending = events & LAPIC_SIPI,
		.sipi_vector = (uint8_t)(events & LAPIC_SIPI ? events >> LAPIC__SIPI_SHIFT : 0),
	};
	for (uint32_t off = 0; off < LAPIC_REGS_BYTES; off += 16) {
		reg_put(ret, off, lapic__get(l, off));
	}
	if (l->expiry_ns) {
		/* One that is due fires right after the load. */
		ret->timer_left_ns = l->expiry_ns > now.ns ? l->expiry_ns - now.ns : 1;
		reg_put(ret, LAPIC_TIMER_CURRENT, lapic__timer_current(l, now.ns));
	}
	/* Errors that were not read yet are in ESR, where a write finds them. */
	reg_put(ret, LAPIC_ESR, lapic__get(l, LAPIC_ESR) | l->errors);
}

void lapic_put(struct lapic *l, struct irq_now now, const struct lapic_state *s)
{
	unsigned events = (s->init_pending ? LAPIC_INIT : 0u) | (s->sipi_pending ? LAPIC_SIPI : 0u) |
			  (unsigned)s->sipi_vector << LAPIC__SIPI_SHIFT;
	uint64_t pv_eoi = l->pv_eoi;

	l->apic_base = s->apic_base;
	lapic_init(l);
	l->pv_eoi = pv_eoi;
	for (uint32_t off = 0; off < LAPIC_REGS_BYTES; off += 16) {
		if (off != LAPIC_VERSION && off != LAPIC_ID) {
			*lapic__reg(l, off) = reg_get(s, off);
		}
	}
	*lapic__reg(l, LAPIC_TIMER_CURRENT) = 0;
	l->irr_any = true;
	l->tsc_deadline = s->tsc_deadline;
	if (s->timer_left_ns) {
		l->expiry_ns = now.ns + s->timer_left_ns;
		if ((reg_get(s, LAPIC_LVT_TIMER) & LAPIC_TIMER_MODE) == LAPIC_TIMER_PERIODIC) {
			l->period_ns = reg_get(s, LAPIC_TIMER_INITIAL) * lapic__divide(l);
		}
	}
	atomic_store_explicit(&l->events, events, memory_order_release);
	lapic__publish(l);
}

bool lapic_state_ok(const struct lapic_state *s, unsigned cpu)
{
	uint32_t mode = reg_get(s, LAPIC_LVT_TIMER) & LAPIC_TIMER_MODE;
	bool x2 = (s->apic_base & LAPIC_BASE_EXTD) != 0;

	if (x2 && !(s->apic_base & LAPIC_BASE_ENABLE)) {
		return false;
	}
	if ((s->apic_base & 0x2ff) || s->apic_base >> 52) {
		return false;
	}
	if (reg_get(s, LAPIC_ID) != (x2 ? cpu : cpu << 24)) {
		return false;
	}
	if ((reg_get(s, LAPIC_IRR) | reg_get(s, LAPIC_ISR)) & 0xffff) {
		return false;
	}
	if (x2 && reg_get(s, LAPIC_LDR) != (cpu >> 4 << 16 | UINT32_C(1) << (cpu & 15))) {
		return false;
	}
	/* A count and a deadline do not run together; a count has an initial value and is
	 * no longer than the longest that it could be. */
	if (s->tsc_deadline && (mode != LAPIC_TIMER_DEADLINE || s->timer_left_ns)) {
		return false;
	}
	if (s->timer_left_ns && (mode > LAPIC_TIMER_PERIODIC ||
				 reg_get(s, LAPIC_TIMER_INITIAL) == 0 ||
				 s->timer_left_ns > (uint64_t)UINT32_MAX * 128)) {
		return false;
	}
	return s->sipi_pending || s->sipi_vector == 0;
}
