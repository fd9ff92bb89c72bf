/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Tables of the interrupt controllers' states. A local APIC's section is "/cpu/N/lapic", and who
 * loads it holds N against lapic_state_ok(); the I/O APIC's is "/ioapic".
 */
#ifndef VM_IRQ_STATE_DESC_H
#define VM_IRQ_STATE_DESC_H

#include "state/state.h"
#include "vm/irq/irq.h"

extern const struct state_desc lapic_state_desc;    /* struct lapic_state */
extern const struct state_desc ioapic_state_desc;   /* struct ioapic_state */

#endif
