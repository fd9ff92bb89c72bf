/* SPDX-License-Identifier: Apache-2.0 */
/* What of the interrupt controllers is saved. */
#include "vm/irq/state-desc.h"

#include <errno.h>
#include <string.h>

#include "vm/irq/chip.h"

static int lapic_check(const void *p, struct err *e)
{
	const struct lapic_state *s = p;
	uint32_t id;

	memcpy(&id, s->regs + LAPIC_ID, sizeof(id));
	if (!(s->apic_base & LAPIC_BASE_EXTD)) {
		id >>= 24;
	}
	if (id >= IRQ_CPUS_MAX || !lapic_state_ok(s, id)) {
		return err_set(e, EBADMSG, ERR_INVALID,
			       "registers that no local APIC has at one time");
	}
	return 0;
}

static const struct state_field lapic_fields[] = {
	STATE_U64(1, struct lapic_state, apic_base),
	STATE_U64(2, struct lapic_state, tsc_deadline),
	STATE_U64(3, struct lapic_state, timer_left_ns, .max = (uint64_t)UINT32_MAX * 128),
	STATE_BYTES(4, struct lapic_state, regs),
	STATE_BOOL(5, struct lapic_state, init_pending),
	STATE_BOOL(6, struct lapic_state, sipi_pending),
	STATE_U8(7, struct lapic_state, sipi_vector),
};

const struct state_desc lapic_state_desc =
	STATE_DESC("lapic", struct lapic_state, lapic_fields, .version = 1, .oldest = 1,
		   .check = lapic_check);

static int ioapic_check(const void *p, struct err *e)
{
	const struct ioapic_state *s = p;

	for (unsigned i = 0; i < IRQ_PINS; i++) {
		uint64_t rte = s->redirection[i];

		/* Reserved bits; and only level interrupts wait for their end. */
		if ((rte & UINT64_C(0x00fffffffffe0000)) ||
		    ((rte & BIT(14)) && !(rte & BIT(15)))) {
			return err_set(e, EBADMSG, ERR_INVALID, "pin %u: a bad entry", i);
		}
	}
	return 0;
}

static const struct state_field ioapic_fields[] = {
	STATE_U64S(1, struct ioapic_state, redirection),
	STATE_U32(2, struct ioapic_state, irr, .max = (1u << IRQ_PINS) - 1),
	STATE_U32(3, struct ioapic_state, levels, .max = (1u << IRQ_PINS) - 1),
	STATE_U8(4, struct ioapic_state, id, .max = 15),
	STATE_U8(5, struct ioapic_state, select),
};

const struct state_desc ioapic_state_desc =
	STATE_DESC("ioapic", struct ioapic_state, ioapic_fields, .version = 1, .oldest = 1,
		   .check = ioapic_check);
