/* SPDX-License-Identifier: Apache-2.0 */
/*
 * KVM's routing table: what the numbers mean that an eventfd can raise. The pins of the I/O APIC
 * come first; behind them, messages. KVM takes a whole table at a time.
 *
 * Where the I/O APIC is ours, KVM tells of an EOI only for vectors that have a level-triggered
 * route below the number of its pins: so level-triggered pins stand in the table for that, and
 * pins with an edge only if they have an eventfd, as what they send.
 */
#include "vm/cpu/kvm/kvm.h"

#include <errno.h>

#include "base/mem.h"
#include "sys/file.h"

enum {
	PIC_PINS = 16, ENTRIES_MAX = ENGINE_ROUTES_MAX + PIC_PINS,
};

static void add_message(struct kvm_irq_routing *t, uint32_t gsi, const struct kvm_route *m)
{
	t->entries[t->nr++] = (struct kvm_irq_routing_entry){
		.gsi = gsi, .type = KVM_IRQ_ROUTING_MSI,
		.u.msi = { .address_lo = (uint32_t)m->addr, .address_hi = (uint32_t)(m->addr >> 32),
			   .data = m->data },
	};
}

static void add_chip(struct kvm_irq_routing *t, uint32_t gsi, uint32_t chip, uint32_t pin)
{
	t->entries[t->nr++] = (struct kvm_irq_routing_entry){
		.gsi = gsi, .type = KVM_IRQ_ROUTING_IRQCHIP, .u.irqchip = { chip, pin },
	};
}

/* As KVM has it from the beginning. */
static void add_kernel_pin(struct kvm_irq_routing *t, uint32_t pin)
{
	add_chip(t, pin, KVM_IRQCHIP_IOAPIC, pin);
	if (pin < PIC_PINS) {
		add_chip(t, pin, pin < 8 ? KVM_IRQCHIP_PIC_MASTER : KVM_IRQCHIP_PIC_SLAVE, pin % 8);
	}
}

static bool is_level(const struct kvm_route *m)
{
	return m->data >> 15 & 1;
}

/* Under the lock. */
static int commit(struct kvm_engine *eng)
{
	struct kvm_routes *r = &eng->routes;
	auto_free struct kvm_irq_routing *t =
		mem_calloc(1, sizeof(*t) + ENTRIES_MAX * sizeof(t->entries[0]));

	if (!t) {
		return -ENOMEM;
	}
	for (uint32_t i = 0; i < ENGINE_GSIS; i++) {
		if (!eng->split) {
			add_kernel_pin(t, i);
		} else if (is_level(&r->to[i]) || (r->to[i].on && (r->pin_fds >> i & 1))) {
			add_message(t, i, &r->to[i]);
		}
	}
	for (uint32_t i = ENGINE_GSIS; i < ENGINE_ROUTES_MAX; i++) {
		if (r->to[i].on) {
			add_message(t, i, &r->to[i]);
		}
	}
	return sys_ioctl(eng->vm_fd, KVM_SET_GSI_ROUTING, t);
}

void kvm__routes_pin(struct kvm_engine *eng, unsigned pin, bool unmasked, uint64_t addr,
		     uint32_t data)
{
	struct kvm_routes *r = &eng->routes;
	struct kvm_route new = { .addr = addr, .data = data, .on = unmasked };

	pthread_mutex_lock(&r->lock);
	bool known = is_level(&r->to[pin]) || is_level(&new) || (r->pin_fds >> pin & 1);

	r->to[pin] = new;
	if (known) {
		ignore_result(commit(eng));
		/* it fails without memory only; the interrupt then waits for the next change */
	}
	pthread_mutex_unlock(&r->lock);
}

int kvm__route(struct engine *e, unsigned route, uint64_t addr, uint32_t data, bool on)
{
	struct kvm_engine *eng = kvm_engine(e);
	struct kvm_routes *r = &eng->routes;

	if (route < ENGINE_GSIS || route >= ENGINE_ROUTES_MAX) {
		return -EINVAL;
	}
	pthread_mutex_lock(&r->lock);
	struct kvm_route was = r->to[route];

	r->to[route] = (struct kvm_route){ .addr = addr, .data = data, .on = on };
	int ret = commit(eng);

	if (ret < 0) {
		r->to[route] = was;
	}
	pthread_mutex_unlock(&r->lock);
	return ret;
}

int kvm__irqfd(struct engine *e, unsigned route, int fd, bool add)
{
	struct kvm_engine *eng = kvm_engine(e);
	struct kvm_routes *r = &eng->routes;
	struct kvm_irqfd k = { .fd = (uint32_t)fd, .gsi = route,
			       .flags = add ? 0 : KVM_IRQFD_FLAG_DEASSIGN };

	if (route >= ENGINE_ROUTES_MAX) {
		return -EINVAL;
	}
	int ret = sys_ioctl(eng->vm_fd, KVM_IRQFD, &k);

	if (ret < 0 || route >= ENGINE_GSIS) {
		return ret;
	}
	pthread_mutex_lock(&r->lock);
	r->pin_fds = add ? r->pin_fds | UINT32_C(1) << route :
			   r->pin_fds & ~(UINT32_C(1) << route);
	ret = eng->split ? commit(eng) : 0;
	pthread_mutex_unlock(&r->lock);
	return ret;
}
