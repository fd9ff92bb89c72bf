/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Interrupt controllers' state. Local APICs have KVM's own layout; what is not in the page (base,
 * deadline, pending INIT and SIPI) comes beside it. vCPUs get their state, TSC included, first.
 */
#include "vm/cpu/kvm/kvm.h"

#include <errno.h>
#include <string.h>

#include "sys/file.h"

enum {
	REG_ID = 0x20, REG_LVT_TIMER = 0x320, REG_INITIAL = 0x380, REG_CURRENT = 0x390,
	REG_DIVIDE = 0x3e0, REG_ISR = 0x100, REG_IRR = 0x200, TIMER_MODE_SHIFT = 17,
	LVT_MASKED = 1 << 16,
};

static uint32_t reg(const uint8_t *regs, unsigned off)
{
	uint32_t v;

	memcpy(&v, regs + off, sizeof(v));
	return v;
}

static void reg_set(uint8_t *regs, unsigned off, uint32_t v)
{
	memcpy(regs + off, &v, sizeof(v));
}

static uint64_t divide(const uint8_t *regs)
{
	uint32_t dcr = reg(regs, REG_DIVIDE);

	return UINT64_C(1) << (((dcr & 3) | (dcr >> 1 & 4)) + 1) % 8;
}

/* Without 32-bit ids KVM shows an x2APIC's id where an xAPIC has it. */
static void fix_id(const struct kvm_vcpu *v, uint64_t apic_base, uint8_t *regs, bool to_kvm)
{
	bool wide = (apic_base & LAPIC_BASE_EXTD) && (v->eng->x2apic_ids || !to_kvm);

	reg_set(regs, REG_ID, wide ? v->vcpu.id : v->vcpu.id << 24);
}

/*
 * KVM raises a timer's interrupt when the vCPU is next entered; until then nothing in the page
 * tells a one-shot count that just ended from one that was dealt with long ago. It is told as
 * about to end: a guest can bear one too many, but not one too few.
 */
static bool one_shot_unseen(const uint8_t *regs)
{
	uint32_t lvt = reg(regs, REG_LVT_TIMER), vector = lvt & 0xff;
	unsigned word = vector / 32 * 16;

	return reg(regs, REG_INITIAL) && !reg(regs, REG_CURRENT) &&
	       !(lvt & (LVT_MASKED | 3u << TIMER_MODE_SHIFT)) &&
	       !((reg(regs, REG_IRR + word) | reg(regs, REG_ISR + word)) >> vector % 32 & 1);
}

static int lapic_read(struct kvm_vcpu *v, struct lapic_state *s)
{
	struct kvm_lapic_state k = { 0 };
	struct kvm_mp_state mp = { 0 };
	int r = sys_ioctl(v->fd, KVM_GET_MP_STATE, &mp);

	r = r < 0 ? r : sys_ioctl(v->fd, KVM_GET_LAPIC, &k);
	r = r < 0 ? r : kvm__msr_get(v, LAPIC_MSR_BASE, &s->apic_base);
	if (r < 0) {
		return r;
	}
	if (kvm__msr_get(v, LAPIC_MSR_TSC_DEADLINE, &s->tsc_deadline) < 0) {
		s->tsc_deadline = 0;
	}
	static_assert(sizeof(k.regs) == sizeof(s->regs), "one layout");
	memcpy(s->regs, k.regs, sizeof(s->regs));
	fix_id(v, s->apic_base, s->regs, false);
	uint32_t mode = reg(s->regs, REG_LVT_TIMER) >> TIMER_MODE_SHIFT & 3;

	if (mode <= 1) {
		s->tsc_deadline = 0;
		s->timer_left_ns = reg(s->regs, REG_INITIAL) ?
				   reg(s->regs, REG_CURRENT) * divide(s->regs) : 0;
		if (one_shot_unseen(s->regs)) {
			s->timer_left_ns = 1;
		}
	}
	s->sipi_pending = mp.mp_state == KVM_MP_STATE_SIPI_RECEIVED;
	if (s->sipi_pending) {
		struct kvm_vcpu_events events = { 0 };

		r = sys_ioctl(v->fd, KVM_GET_VCPU_EVENTS, &events);
		s->sipi_vector = (uint8_t)events.sipi_vector;
	}
	return r;
}

static int lapic_write(struct kvm_vcpu *v, const struct lapic_state *s)
{
	struct kvm_lapic_state k = { 0 };
	int r = kvm__msr_set(v, LAPIC_MSR_BASE, s->apic_base);

	if (r < 0) {
		return r;
	}
	memcpy(k.regs, s->regs, sizeof(s->regs));
	fix_id(v, s->apic_base, (uint8_t *)k.regs, true);
	/* KVM starts the count from here. */
	reg_set((uint8_t *)k.regs, REG_CURRENT,
		(uint32_t)((s->timer_left_ns + divide(s->regs) - 1) / divide(s->regs)));
	r = sys_ioctl(v->fd, KVM_SET_LAPIC, &k);
	if (r == 0 && s->tsc_deadline) {
		r = kvm__msr_set(v, LAPIC_MSR_TSC_DEADLINE, s->tsc_deadline);
	}
	return r;
}

/* Sent again, as whoever sent it did. */
static int events_write(struct kvm_vcpu *v, const struct lapic_state *s)
{
	const struct engine_ops *ops = v->eng->eng.ops;
	uint64_t to = LAPIC_BASE | (uint64_t)v->vcpu.id << 12;
	int r = s->init_pending ? ops->msi(&v->eng->eng, to, 5u << 8) : 0;

	if (r == 0 && s->sipi_pending) {
		r = ops->msi(&v->eng->eng, to, 6u << 8 | s->sipi_vector);
	}
	return r;
}

/* --- The kernel's I/O APIC, where it has it --- */

static int ioapic_read(struct kvm_engine *eng, struct ioapic_state *s)
{
	struct kvm_irqchip k = { .chip_id = KVM_IRQCHIP_IOAPIC };
	int r = sys_ioctl(eng->vm_fd, KVM_GET_IRQCHIP, &k);

	static_assert(KVM_IOAPIC_NUM_PINS == IRQ_PINS, "as many pins");
	if (r < 0) {
		return r;
	}
	s->id = k.chip.ioapic.id & 15;
	s->select = (uint8_t)k.chip.ioapic.ioregsel;
	for (unsigned i = 0; i < IRQ_PINS; i++) {
		uint64_t bits = k.chip.ioapic.redirtbl[i].bits;

		s->redirection[i] = bits & UINT64_C(0xff0000000001ffff);
		/* A high line is kept as a wish of its pin. */
		if (k.chip.ioapic.irr >> i & 1) {
			s->levels |= 1u << i;
		}
	}
	s->irr = 0;
	return 0;
}

static int ioapic_write(struct kvm_engine *eng, const struct ioapic_state *s)
{
	struct kvm_irqchip k = { .chip_id = KVM_IRQCHIP_IOAPIC };

	k.chip.ioapic.base_address = IOAPIC_BASE;
	k.chip.ioapic.id = s->id;
	k.chip.ioapic.ioregsel = s->select;
	k.chip.ioapic.irr = s->levels;
	for (unsigned i = 0; i < IRQ_PINS; i++) {
		k.chip.ioapic.redirtbl[i].bits = s->redirection[i];
	}
	return sys_ioctl(eng->vm_fd, KVM_SET_IRQCHIP, &k);
}

int kvm__irq_get(struct engine *e, struct irq_state *ret, struct err *err)
{
	struct kvm_engine *eng = kvm_engine(e);
	int r = 0;

	memset(ret, 0, sizeof(*ret));
	ret->n_lapics = eng->eng.conf.n_vcpus;
	for (unsigned i = 0; r == 0 && i < ret->n_lapics; i++) {
		r = eng->cpus[i] ? lapic_read(eng->cpus[i], &ret->lapic[i]) : -ENXIO;
	}
	if (r == 0 && eng->split) {
		ioapic_get(eng->ioapic, &ret->ioapic);
	} else if (r == 0) {
		r = ioapic_read(eng, &ret->ioapic);
	}
	return r < 0 ? kvm__fail(err, r, "read interrupt controllers") : 0;
}

int kvm__irq_set(struct engine *e, const struct irq_state *s, struct err *err)
{
	struct kvm_engine *eng = kvm_engine(e);
	int r = 0;

	if (s->n_lapics != eng->eng.conf.n_vcpus) {
		return err_set(err, EINVAL, ERR_INVALID, "state of %u local APICs for %u vCPUs",
			       s->n_lapics, eng->eng.conf.n_vcpus);
	}
	for (unsigned i = 0; i < s->n_lapics; i++) {
		if (!eng->cpus[i] || !lapic_state_ok(&s->lapic[i], i)) {
			return err_set(err, EINVAL, ERR_INVALID, "state of local APIC %u", i);
		}
	}
	/* The table first: KVM looks at its routes when a local APIC is set. */
	if (eng->split) {
		ioapic_put(eng->ioapic, &s->ioapic);
	} else {
		r = ioapic_write(eng, &s->ioapic);
	}
	for (unsigned i = 0; r == 0 && i < s->n_lapics; i++) {
		r = lapic_write(eng->cpus[i], &s->lapic[i]);
	}
	for (unsigned i = 0; r == 0 && i < s->n_lapics; i++) {
		r = events_write(eng->cpus[i], &s->lapic[i]);
	}
	return r < 0 ? kvm__fail(err, r, "set interrupt controllers") : 0;
}
