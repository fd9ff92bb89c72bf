/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The end of interrupt in memory. When a vector goes into service and nothing else waits, a
 * bit in guest memory is set; a guest that finds and clears it has no EOI to write. Whenever
 * it matters what is in service, the bit is looked at: cleared means that the guest is done
 * with that vector; still set, it is taken back, and the guest will write its EOI.
 * Linux, Documentation/virt/kvm/x86/msr.rst, MSR_KVM_PV_EOI_EN.
 */
#include "vm/irq/chip.h"

#include <errno.h>

enum { PV_EOI_ENABLED = 1, PV_EOI_RESERVED = 2 };

static gpa_t pv_eoi_at(const struct lapic *l)
{
	return GPA(l->pv_eoi & ~UINT64_C(3));
}

int lapic_set_pv_eoi(struct lapic *l, uint64_t v)
{
	if (v & PV_EOI_RESERVED) {
		return -EPERM;
	}
	lapic__pv_eoi_sync(l);
	l->pv_eoi = v;
	return 0;
}

void lapic__pv_eoi_offer(struct lapic *l, uint8_t vector)
{
	uint32_t tmr = lapic__get(l, LAPIC_TMR + vector / 32u * 16u);

	/* A level interrupt's end has to reach the I/O APIC. */
	if (!(l->pv_eoi & PV_EOI_ENABLED) || !l->chip->conf.mem || (tmr >> vector % 32 & 1)) {
		return;
	}
	l->pv_eoi_set = gmem_store32(l->chip->conf.mem, pv_eoi_at(l), 1) == 0;
}

void lapic__pv_eoi_sync(struct lapic *l)
{
	uint32_t v;

	if (!l->pv_eoi_set) {
		return;
	}
	l->pv_eoi_set = false;
	if (gmem_load32(l->chip->conf.mem, pv_eoi_at(l), &v) < 0) {
		return;
	}
	if (v & 1) {
		/* Only this vCPU touches the word, and it is not running now. */
		ignore_result(gmem_store32(l->chip->conf.mem, pv_eoi_at(l), v & ~UINT32_C(1)));
		/* it was readable */
	} else {
		lapic__eoi(l);
	}
}
