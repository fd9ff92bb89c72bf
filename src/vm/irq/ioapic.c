/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The I/O APIC: a table that makes messages of lines. Version 0x20, so that it has an EOI
 * register. Its messages have the form of MSIs, level and assertion included.
 */
#include "vm/irq/chip.h"

#include <errno.h>
#include <pthread.h>
#include <string.h>

#include "base/mem.h"

enum {
	IOAPIC_SELECT = 0x00, IOAPIC_WINDOW = 0x10, IOAPIC_EOI = 0x40,
	IOAPIC_REG_ID = 0, IOAPIC_REG_VERSION = 1, IOAPIC_REG_ARBITRATION = 2,
	IOAPIC_REG_TABLE = 0x10,
	IOAPIC_VERSION = 0x20 | (IRQ_PINS - 1) << 16,
};

#define RTE_PENDING    BIT(12)   /* delivery status: always idle */
#define RTE_REMOTE_IRR BIT(14)
#define RTE_LEVEL      BIT(15)
#define RTE_MASKED     BIT(16)
#define RTE_WRITABLE   (UINT64_C(0xff00000000000000) | 0x1ffff)
#define RTE_READ_ONLY  (RTE_PENDING | RTE_REMOTE_IRR)

struct ioapic {
	struct ioapic_conf  conf;
	pthread_mutex_t     lock;
	struct ioapic_state s;
};

static void send(struct ioapic *io, unsigned pin)
{
	uint64_t *rte = &io->s.redirection[pin];
	uint64_t addr;
	uint32_t data;

	if (!ioapic_message(io, pin, &addr, &data)) {
		return;
	}
	if (*rte & RTE_LEVEL) {
		if (*rte & RTE_REMOTE_IRR) {
			return;
		}
		*rte |= RTE_REMOTE_IRR;
		io->s.irr &= ~(UINT32_C(1) << pin);
	}
	io->conf.msi(io->conf.ctx, addr, data);
}

bool ioapic_message(const struct ioapic *io, unsigned pin, uint64_t *ret_addr, uint32_t *ret_data)
{
	uint64_t rte = io->s.redirection[pin];
	uint32_t level = rte & RTE_LEVEL ? 1 : 0;

	*ret_addr = LAPIC_BASE | (rte >> 56) << 12 | (rte >> 11 & 1) << 2;
	*ret_data = (uint32_t)(rte & 0x7ff) | level << 15 | UINT32_C(1) << 14;
	return !(rte & RTE_MASKED);
}

/* A level line that is high and whose interrupt nobody has taken yet. */
static void again(struct ioapic *io, unsigned pin)
{
	if ((io->s.redirection[pin] & RTE_LEVEL) && (io->s.levels >> pin & 1)) {
		io->s.irr |= UINT32_C(1) << pin;
		send(io, pin);
	}
}

void ioapic_set(struct ioapic *io, unsigned pin, bool level)
{
	if (pin >= IRQ_PINS) {
		return;
	}
	uint32_t bit = UINT32_C(1) << pin;

	pthread_mutex_lock(&io->lock);
	bool was = (io->s.levels & bit) != 0;

	if (level) {
		io->s.levels |= bit;
		if (io->s.redirection[pin] & RTE_LEVEL) {
			again(io, pin);
		} else if (!was) {
			send(io, pin);   /* an edge that finds the pin masked is lost */
		}
	} else {
		io->s.levels &= ~bit;
		io->s.irr &= ~bit;
	}
	pthread_mutex_unlock(&io->lock);
}

static void eoi_locked(struct ioapic *io, uint8_t vector)
{
	for (unsigned pin = 0; pin < IRQ_PINS; pin++) {
		uint64_t *rte = &io->s.redirection[pin];

		if ((*rte & 0xff) == vector && (*rte & RTE_LEVEL) && (*rte & RTE_REMOTE_IRR)) {
			*rte &= ~RTE_REMOTE_IRR;
			again(io, pin);
		}
	}
}

void ioapic_eoi(struct ioapic *io, uint8_t vector)
{
	pthread_mutex_lock(&io->lock);
	eoi_locked(io, vector);
	pthread_mutex_unlock(&io->lock);
}

static void table_write(struct ioapic *io, uint32_t reg, uint32_t v)
{
	unsigned pin = (reg - IOAPIC_REG_TABLE) / 2;

	if (pin >= IRQ_PINS) {
		return;
	}
	uint64_t *rte = &io->s.redirection[pin];
	uint64_t new = reg & 1 ? (*rte & UINT32_MAX) | (uint64_t)v << 32 :
				 (*rte & ~(uint64_t)UINT32_MAX) | v;

	*rte = (new & RTE_WRITABLE & ~RTE_READ_ONLY) | (*rte & RTE_READ_ONLY);
	if (!(*rte & RTE_LEVEL)) {
		*rte &= ~RTE_REMOTE_IRR;   /* how an old kernel clears a stuck one */
		io->s.irr &= ~(UINT32_C(1) << pin);
	}
	if (io->conf.changed) {
		io->conf.changed(io->conf.ctx, pin);
	}
	again(io, pin);
}

static uint32_t window_read(const struct ioapic *io)
{
	uint32_t reg = io->s.select;
	unsigned pin = (reg - IOAPIC_REG_TABLE) / 2;

	switch (reg) {
	case IOAPIC_REG_ID:
	case IOAPIC_REG_ARBITRATION:
		return (uint32_t)io->s.id << 24;
	case IOAPIC_REG_VERSION:
		return IOAPIC_VERSION;
	default:
		if (reg < IOAPIC_REG_TABLE || pin >= IRQ_PINS) {
			return 0;
		}
		return (uint32_t)(io->s.redirection[pin] >> (reg & 1 ? 32 : 0));
	}
}

uint32_t ioapic_mmio_read(struct ioapic *io, uint32_t off)
{
	uint32_t v = 0;

	pthread_mutex_lock(&io->lock);
	if (off == IOAPIC_SELECT) {
		v = io->s.select;
	} else if (off == IOAPIC_WINDOW) {
		v = window_read(io);
	}
	pthread_mutex_unlock(&io->lock);
	return v;
}

void ioapic_mmio_write(struct ioapic *io, uint32_t off, uint32_t v)
{
	pthread_mutex_lock(&io->lock);
	if (off == IOAPIC_SELECT) {
		io->s.select = v & 0xff;
	} else if (off == IOAPIC_EOI) {
		eoi_locked(io, v & 0xff);
	} else if (off == IOAPIC_WINDOW && io->s.select == IOAPIC_REG_ID) {
		io->s.id = v >> 24 & 0xf;
	} else if (off == IOAPIC_WINDOW && io->s.select >= IOAPIC_REG_TABLE) {
		table_write(io, io->s.select, v);
	}
	pthread_mutex_unlock(&io->lock);
}

int ioapic_new(const struct ioapic_conf *conf, struct ioapic **ret)
{
	struct ioapic *io = mem_new(struct ioapic);

	if (!io) {
		return -ENOMEM;
	}
	io->conf = *conf;
	pthread_mutex_init(&io->lock, NULL);
	for (unsigned i = 0; i < IRQ_PINS; i++) {
		io->s.redirection[i] = RTE_MASKED;
	}
	*ret = io;
	return 0;
}

struct ioapic *ioapic_free(struct ioapic *io)
{
	if (io) {
		pthread_mutex_destroy(&io->lock);
		free(io);
	}
	return NULL;
}

void ioapic_get(struct ioapic *io, struct ioapic_state *ret)
{
	pthread_mutex_lock(&io->lock);
	*ret = io->s;
	pthread_mutex_unlock(&io->lock);
}

void ioapic_put(struct ioapic *io, const struct ioapic_state *s)
{
	pthread_mutex_lock(&io->lock);
	io->s = *s;
	for (unsigned i = 0; io->conf.changed && i < IRQ_PINS; i++) {
		io->conf.changed(io->conf.ctx, i);
	}
	pthread_mutex_unlock(&io->lock);
}
