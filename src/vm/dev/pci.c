/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One PCI Express bus without bridges. Configuration space is reached through ECAM only; each
 * function answers with its bytes and its mask of writable ones. BARs are 64-bit memory, and
 * decode while the command register says so.
 *
 * Locks: the bus's own, then the function's.
 * Spec: PCI Express Base 5.0, 7.2.2 ECAM; PCI Local Bus 3.0, 6.1 Configuration Space.
 */
#include <errno.h>
#include <string.h>

#include "base/le.h"
#include "base/mem.h"
#include "vm/dev/dev.h"

enum {
	CFG_COMMAND = 0x04, CFG_CLASS = 0x0a, CFG_BAR = 0x10, CFG_IRQ_LINE = 0x3c,
	COMMAND_MEMORY = 2, COMMAND_WRITABLE = 0x0506, /* memory, master, SERR, no INTx */
	BAR_64 = 4, BAR_FLAGS = 15,
	FUNCTION_SHIFT = 12, SLOT_SHIFT = 15,
	HOST_BRIDGE_ID = 0x00081b36, HOST_BRIDGE_CLASS = 0x0600,
};

struct slot {
	struct pci_function *f;
	struct region        mapped[PCI_BARS];   /* bytes != 0: on the bus now */
};

struct pci_bus {
	struct machine     *m;
	struct region       ecam;
	pthread_mutex_t     lock;
	struct slot         slots[PCI_SLOTS];
	uint64_t            next, end;           /* of addresses for BARs */
	struct pci_function bridge;
};

static void lock_function(struct pci_function *f)
{
	if (f->lock) {
		pthread_mutex_lock(f->lock);
	}
}

static void unlock_function(struct pci_function *f)
{
	if (f->lock) {
		pthread_mutex_unlock(f->lock);
	}
}

/* The function and the offset in its space; NULL: nobody there, or across two of them. */
static struct slot *find(struct pci_bus *b, uint64_t off, unsigned n, unsigned *ret)
{
	uint64_t slot = off >> SLOT_SHIFT, in = off & (PCI_CONFIG_BYTES - 1);

	if (slot >= PCI_SLOTS || ((off >> FUNCTION_SHIFT) & 7) != 0 || !b->slots[slot].f ||
	    in + n > PCI_CONFIG_BYTES) {
		return NULL;
	}
	*ret = (unsigned)in;
	return &b->slots[slot];
}

static uint64_t on_read(void *ctx, uint64_t off, unsigned n)
{
	struct pci_bus *b = ctx;
	uint64_t v = UINT64_MAX;
	unsigned in = 0;

	pthread_mutex_lock(&b->lock);
	struct slot *s = find(b, off, n, &in);

	if (s) {
		lock_function(s->f);
		if (s->f->config_read) {
			s->f->config_read(s->f, in, n);
		}
		v = 0;
		memcpy(&v, s->f->config + in, n);
		unlock_function(s->f);
	}
	pthread_mutex_unlock(&b->lock);
	return v;
}

/* --- BARs --- */

static uint64_t bar_address(const struct pci_function *f, unsigned i)
{
	return le64_get(f->config + CFG_BAR + 4 * i) & ~(uint64_t)BAR_FLAGS;
}

static void map_bar(struct pci_bus *b, struct slot *s, unsigned i)
{
	struct region *now = &s->mapped[i], *bar = &s->f->bar[i];
	bool on = (le16_get(s->f->config + CFG_COMMAND) & COMMAND_MEMORY) != 0;
	uint64_t at = bar_address(s->f, i);

	bar->first = at;
	if (now->bytes != 0 && (!on || now->first != at)) {
		bus_remove(b->m->mmio, now);
		now->bytes = 0;
	}
	if (on && now->bytes == 0 && at != 0) {
		*now = *bar;
		/* One that a guest puts onto something else does not decode. */
		if (gmem_is_ram(b->m->mem, GPA(at), 1) || bus_add(b->m->mmio, now) < 0) {
			now->bytes = 0;
		}
	}
}

static void map_bars(struct pci_bus *b, struct slot *s)
{
	for (unsigned i = 0; i < PCI_BARS; i++) {
		if (s->f->bar[i].bytes != 0) {
			map_bar(b, s, i);
		}
	}
}

static void on_write(void *ctx, uint64_t off, unsigned n, uint64_t v)
{
	struct pci_bus *b = ctx;
	unsigned in = 0;

	pthread_mutex_lock(&b->lock);
	struct slot *s = find(b, off, n, &in);

	if (s) {
		struct pci_function *f = s->f;

		lock_function(f);
		for (unsigned i = 0; i < n; i++) {
			uint8_t mask = f->writable[in + i], byte = (uint8_t)(v >> (8 * i));

			f->config[in + i] = (uint8_t)((f->config[in + i] & ~mask) | (byte & mask));
		}
		if (in < CFG_BAR + 4 * PCI_BARS && in + n > CFG_COMMAND) {
			map_bars(b, s);
		}
		if (f->config_written) {
			f->config_written(f, in, n);
		}
		unlock_function(f);
	}
	pthread_mutex_unlock(&b->lock);
}

void pci_remap(struct pci_bus *b)
{
	pthread_mutex_lock(&b->lock);
	for (unsigned i = 0; i < PCI_SLOTS; i++) {
		if (b->slots[i].f) {
			map_bars(b, &b->slots[i]);
		}
	}
	pthread_mutex_unlock(&b->lock);
}

/* Each BAR lies at a multiple of its size, which is a power of two. */
static int place_bar(struct pci_bus *b, struct pci_function *f, unsigned i, struct err *e)
{
	uint64_t bytes = f->bar[i].bytes;
	uint64_t at = (b->next + bytes - 1) & ~(bytes - 1);

	assert(i + 1 < PCI_BARS && bytes >= 16 && (bytes & (bytes - 1)) == 0);
	if (at > b->end || b->end - at < bytes) {
		return err_set(e, ENOSPC, ERR_LIMIT, "no room for the registers of %s", f->name);
	}
	b->next = at + bytes;
	le64_put(f->config + CFG_BAR + 4 * i, at | BAR_64);
	le64_put(f->writable + CFG_BAR + 4 * i, ~(bytes - 1) & ~(uint64_t)BAR_FLAGS);
	f->bar[i].first = at;
	return 0;
}

int pci_add(struct pci_bus *b, struct pci_function *f, struct err *e)
{
	unsigned slot = 0;
	int r = 0;

	while (slot < PCI_SLOTS && b->slots[slot].f) {
		slot++;
	}
	if (slot == PCI_SLOTS) {
		return err_set(e, ENOSPC, ERR_LIMIT, "no free PCI slot for %s", f->name);
	}
	for (unsigned i = 0; i < PCI_BARS && r == 0; i++) {
		r = f->bar[i].bytes ? place_bar(b, f, i, e) : 0;
	}
	if (r < 0) {
		return r;
	}
	le16_put(f->writable + CFG_COMMAND, COMMAND_WRITABLE);
	f->writable[CFG_IRQ_LINE] = 0xff;
	f->slot = slot;
	b->slots[slot].f = f;
	return 0;
}

void pci_remove(struct pci_bus *b, struct pci_function *f)
{
	pthread_mutex_lock(&b->lock);
	struct slot *s = &b->slots[f->slot];

	if (s->f == f) {
		for (unsigned i = 0; i < PCI_BARS; i++) {
			if (s->mapped[i].bytes != 0) {
				bus_remove(b->m->mmio, &s->mapped[i]);
			}
		}
		*s = (struct slot){ 0 };
	}
	pthread_mutex_unlock(&b->lock);
}

int pci_bus_new(struct machine *m, gpa_t ecam, gpa_t mmio_first, uint64_t mmio_bytes,
		struct pci_bus **ret, struct err *e)
{
	struct pci_bus *b = mem_new(struct pci_bus);

	if (!b) {
		return err_nomem(e);
	}
	b->m = m;
	b->next = mmio_first.raw;
	b->end = mmio_first.raw + mmio_bytes;
	pthread_mutex_init(&b->lock, NULL);
	b->ecam = (struct region){ .name = "pci", .first = ecam.raw,
				   .bytes = (uint64_t)PCI_SLOTS << SLOT_SHIFT, .ctx = b,
				   .read = on_read, .write = on_write };
	b->bridge.name = "host bridge";
	le32_put(b->bridge.config, HOST_BRIDGE_ID);
	le16_put(b->bridge.config + CFG_CLASS, HOST_BRIDGE_CLASS);
	int r = bus_add(m->mmio, &b->ecam);

	r = r < 0 ? err_set(e, -r, ERR_HOST, "PCI configuration space") : pci_add(b, &b->bridge, e);
	if (r < 0) {
		bus_remove(m->mmio, &b->ecam);
		pthread_mutex_destroy(&b->lock);
		free(b);
		return r;
	}
	*ret = b;
	return 0;
}

struct pci_bus *pci_bus_free(struct pci_bus *b)
{
	if (b) {
		for (unsigned i = 0; i < PCI_SLOTS; i++) {
			if (b->slots[i].f) {
				pci_remove(b, b->slots[i].f);
			}
		}
		bus_remove(b->m->mmio, &b->ecam);
		pthread_mutex_destroy(&b->lock);
		free(b);
	}
	return NULL;
}
