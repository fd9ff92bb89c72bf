/* SPDX-License-Identifier: Apache-2.0 */
#include "vm/dev/virtio-pci.h"

#include <errno.h>
#include <linux/pci_regs.h>
#include <linux/virtio_config.h>
#include <linux/virtio_pci.h>
#include <string.h>

#include "base/mem.h"

enum { VENDOR_VIRTIO = 0x1af4, DEVICE_MODERN = 0x1040, VECTOR_MASKED = 1, NOTIFY_STEP = 4 };

/* --- Interrupts --- */

static uint16_t msix_control(const struct virtio_pci *p)
{
	const uint8_t *at = &p->fn.config[p->msix_cap + PCI_MSIX_FLAGS];

	return (uint16_t)(at[0] | at[1] << 8);
}

static bool msix_on(const struct virtio_pci *p)
{
	return msix_control(p) & PCI_MSIX_FLAGS_ENABLE;
}

static void msix_send(struct virtio_pci *p, unsigned vector)
{
	if (!msix_on(p) || vector >= VPCI_VECTORS) {
		return;
	}
	const struct msix_entry *v = &p->table[vector];

	if ((msix_control(p) & PCI_MSIX_FLAGS_MASKALL) || (v->control & VECTOR_MASKED)) {
		p->pending |= (uint32_t)BIT(vector);
		return;
	}
	p->pending &= (uint32_t)~BIT(vector);
	p->machine->irq.msi(p->machine->irq.ctx, v->addr, v->data);
}

/* Spec: PCI 3.0, 6.8.3.4: what became pending behind a mask is sent once that is gone. */
static void msix_unmasked(struct virtio_pci *p)
{
	for (unsigned i = 0; i < VPCI_VECTORS; i++) {
		if (p->pending & BIT(i)) {
			msix_send(p, i);
		}
	}
}

static uint64_t table_read(const struct virtio_pci *p, uint64_t off, unsigned n)
{
	uint8_t bytes[sizeof(p->table)];
	uint64_t v = 0;

	if (n < 4 || off % n != 0 || off + n > sizeof(bytes)) {
		return 0;
	}
	memcpy(bytes, p->table, sizeof(bytes));
	memcpy(&v, bytes + off, n);
	return v;
}

static void table_write(struct virtio_pci *p, uint64_t off, unsigned n, uint64_t v)
{
	if (n < 4 || off % n != 0 || off + n > sizeof(p->table)) {
		return;
	}
	memcpy((uint8_t *)p->table + off, &v, n);
	p->table[off / sizeof(p->table[0])].control &= VECTOR_MASKED;
	msix_unmasked(p);
}

static uint64_t pba_read(const struct virtio_pci *p, uint64_t off, unsigned n)
{
	uint64_t v = 0;

	if (off + n <= sizeof(v)) {
		v = (uint64_t)p->pending >> (off * 8);
	}
	return n == 8 ? v : v & (BIT(n * 8) - 1);
}

/* Spec: virtio 1.2, 4.1.5.1.4 ff. (used buffer notifications), 4.1.4.5 ISR status. */
static void queue_irq(struct vdev *d, unsigned queue)
{
	struct virtio_pci *p = d->transport_ctx;

	if (!msix_on(p)) {
		p->isr |= 1;
	}
	msix_send(p, p->queue_vector[queue]);
}

static void config_irq(struct vdev *d)
{
	struct virtio_pci *p = d->transport_ctx;

	p->isr |= VIRTIO_PCI_ISR_CONFIG;
	msix_send(p, p->config_vector);
}

/* --- Kicks through the engine --- */

static void unroute(struct virtio_pci *p)
{
	struct machine *m = p->machine;

	for (unsigned i = 0; p->routed_at && i < p->dev->desc->n_queues; i++) {
		ignore_result(m->ioevent(m->ctx, GPA(p->routed_at + i * NOTIFY_STEP), 2,
					 p->dev->kicks[i].fd, false)); /* it was there */
	}
	p->routed_at = 0;
}

static void route(struct virtio_pci *p)
{
	struct machine *m = p->machine;
	uint64_t at = p->fn.bar[0].first + VPCI_NOTIFY;

	unroute(p);
	if (!m->ioevent || p->dev->phase != VDEV_LIVE || p->fn.bar[0].first == 0) {
		return;
	}
	for (unsigned i = 0; i < p->dev->desc->n_queues; i++) {
		if (m->ioevent(m->ctx, GPA(at + i * NOTIFY_STEP), 2, p->dev->kicks[i].fd,
			       true) == 0) {
			continue;
		}
		/* Our own write handler does it: all or none. */
		while (i-- > 0) {
			ignore_result(m->ioevent(m->ctx, GPA(at + i * NOTIFY_STEP), 2,
						 p->dev->kicks[i].fd, false)); /* as above */
		}
		return;
	}
	p->routed_at = at;
}

static void live(struct vdev *d, bool on)
{
	struct virtio_pci *p = d->transport_ctx;

	if (on) {
		route(p);
	} else {
		unroute(p);
	}
}

static void reset(struct vdev *d)
{
	struct virtio_pci *p = d->transport_ctx;

	p->feature_word = p->driver_feature_word = 0;
	p->queue_select = 0;
	p->isr = 0;
	p->config_vector = VPCI_NO_VECTOR;
	for (unsigned i = 0; i < VDEV_QUEUES_MAX; i++) {
		p->queue_vector[i] = VPCI_NO_VECTOR;
	}
}

static const struct vdev_transport pci_transport = {
	.queue_irq = queue_irq,
	.config_irq = config_irq,
	.live = live,
	.reset = reset,
};

/* --- Common configuration --- */

/*
 * One register. In which phases a write counts is written in the device's own functions
 * (vdev_set_features(), vdev_queue_setup()) or, where those have no say, in `phases`.
 */
struct reg {
	const char *name;
	uint16_t    off;
	uint8_t     bytes;
	uint16_t    phases;       /* bit an enum vdev_phase: where it may be written; 0: read only */
	uint32_t  (*read)(struct virtio_pci *p);
	void      (*write)(struct virtio_pci *p, uint32_t v);
};

enum {
	ANY_PHASE = 1 << VDEV_RESET | 1 << VDEV_FOUND | 1 << VDEV_READY | 1 << VDEV_LIVE |
		    1 << VDEV_BROKEN,
	QUEUES_PHASE = 1 << VDEV_READY,
	FEATURES_PHASE = 1 << VDEV_FOUND,
};

/* The selected queue, NULL if there is none of that number: then all of it reads as 0. */
static struct vq *selected(struct virtio_pci *p)
{
	return p->queue_select < p->dev->desc->n_queues ? &p->dev->queues[p->queue_select] : NULL;
}

static uint32_t feature_word_read(struct virtio_pci *p)
{
	return p->feature_word;
}

static void feature_word_write(struct virtio_pci *p, uint32_t v)
{
	p->feature_word = v;
}

static uint32_t offered_read(struct virtio_pci *p)
{
	return vdev_offered(p->dev, p->feature_word);
}

static uint32_t driver_word_read(struct virtio_pci *p)
{
	return p->driver_feature_word;
}

static void driver_word_write(struct virtio_pci *p, uint32_t v)
{
	p->driver_feature_word = v;
}

static uint32_t features_read(struct virtio_pci *p)
{
	return p->driver_feature_word < 2 ?
		       (uint32_t)(p->dev->features >> (32 * p->driver_feature_word)) : 0;
}

static void features_write(struct virtio_pci *p, uint32_t v)
{
	vdev_set_features(p->dev, p->driver_feature_word, v);
}

/* Spec: 4.1.5.1.2: what cannot be mapped reads back as no vector. */
static uint16_t valid_vector(const struct virtio_pci *p, uint32_t v)
{
	return v < p->dev->desc->n_queues + 1u ? (uint16_t)v : VPCI_NO_VECTOR;
}

static uint32_t config_vector_read(struct virtio_pci *p)
{
	return p->config_vector;
}

static void config_vector_write(struct virtio_pci *p, uint32_t v)
{
	p->config_vector = valid_vector(p, v);
}

static uint32_t n_queues_read(struct virtio_pci *p)
{
	return p->dev->desc->n_queues;
}

static uint32_t status_read(struct virtio_pci *p)
{
	return p->dev->status;
}

static void status_write(struct virtio_pci *p, uint32_t v)
{
	vdev_set_status(p->dev, (uint8_t)v);
}

static uint32_t generation_read(struct virtio_pci *p)
{
	return p->dev->config_generation;
}

static uint32_t queue_select_read(struct virtio_pci *p)
{
	return p->queue_select;
}

static void queue_select_write(struct virtio_pci *p, uint32_t v)
{
	p->queue_select = (uint16_t)v;
}

static uint32_t queue_size_read(struct virtio_pci *p)
{
	const struct vq *q = selected(p);

	return q ? q->size : 0;
}

static void queue_size_write(struct virtio_pci *p, uint32_t v)
{
	struct vq *q = vdev_queue_setup(p->dev, p->queue_select);

	if (q) {
		vq_set_size(q, (uint16_t)v);
	}
}

static uint32_t queue_vector_read(struct virtio_pci *p)
{
	return selected(p) ? p->queue_vector[p->queue_select] : VPCI_NO_VECTOR;
}

static void queue_vector_write(struct virtio_pci *p, uint32_t v)
{
	if (selected(p)) {
		p->queue_vector[p->queue_select] = valid_vector(p, v);
	}
}

static uint32_t queue_enable_read(struct virtio_pci *p)
{
	const struct vq *q = selected(p);

	return q && q->enabled;
}

/* Spec: 4.1.4.3.2: the driver does not write 0. Nothing but a reset disables a queue. */
static void queue_enable_write(struct virtio_pci *p, uint32_t v)
{
	if (v == 1) {
		vdev_queue_enable(p->dev, p->queue_select);
	}
}

static uint32_t notify_off_read(struct virtio_pci *p)
{
	return selected(p) ? p->queue_select : 0;
}

/* A 64-bit address is two registers. */
#define QUEUE_ADDRESS(part, member, shift) \
	static uint32_t member##_##part##_read(struct virtio_pci *p) \
	{ \
		const struct vq *q = selected(p); \
		return q ? (uint32_t)(q->member >> (shift)) : 0; \
	} \
	static void member##_##part##_write(struct virtio_pci *p, uint32_t v) \
	{ \
		struct vq *q = vdev_queue_setup(p->dev, p->queue_select); \
		if (q) { \
			q->member &= ~((uint64_t)UINT32_MAX << (shift)); \
			q->member |= (uint64_t)v << (shift); \
		} \
	}

QUEUE_ADDRESS(lo, desc, 0)
QUEUE_ADDRESS(hi, desc, 32)
QUEUE_ADDRESS(lo, avail, 0)
QUEUE_ADDRESS(hi, avail, 32)
QUEUE_ADDRESS(lo, used, 0)
QUEUE_ADDRESS(hi, used, 32)

/* Spec: virtio 1.2, 4.1.4.3 Common configuration structure layout. */
static const struct reg regs[] = {
	{ "device_feature_select", VIRTIO_PCI_COMMON_DFSELECT, 4, ANY_PHASE,
	  feature_word_read, feature_word_write },
	{ "device_feature", VIRTIO_PCI_COMMON_DF, 4, 0, offered_read, NULL },
	{ "driver_feature_select", VIRTIO_PCI_COMMON_GFSELECT, 4, ANY_PHASE,
	  driver_word_read, driver_word_write },
	{ "driver_feature", VIRTIO_PCI_COMMON_GF, 4, FEATURES_PHASE, features_read,
	  features_write },
	{ "config_msix_vector", VIRTIO_PCI_COMMON_MSIX, 2, ANY_PHASE, config_vector_read,
	  config_vector_write },
	{ "num_queues", VIRTIO_PCI_COMMON_NUMQ, 2, 0, n_queues_read, NULL },
	{ "device_status", VIRTIO_PCI_COMMON_STATUS, 1, ANY_PHASE, status_read, status_write },
	{ "config_generation", VIRTIO_PCI_COMMON_CFGGENERATION, 1, 0, generation_read, NULL },
	{ "queue_select", VIRTIO_PCI_COMMON_Q_SELECT, 2, ANY_PHASE, queue_select_read,
	  queue_select_write },
	{ "queue_size", VIRTIO_PCI_COMMON_Q_SIZE, 2, QUEUES_PHASE, queue_size_read,
	  queue_size_write },
	{ "queue_msix_vector", VIRTIO_PCI_COMMON_Q_MSIX, 2, ANY_PHASE, queue_vector_read,
	  queue_vector_write },
	{ "queue_enable", VIRTIO_PCI_COMMON_Q_ENABLE, 2, QUEUES_PHASE, queue_enable_read,
	  queue_enable_write },
	{ "queue_notify_off", VIRTIO_PCI_COMMON_Q_NOFF, 2, 0, notify_off_read, NULL },
	{ "queue_desc (low)", VIRTIO_PCI_COMMON_Q_DESCLO, 4, QUEUES_PHASE, desc_lo_read,
	  desc_lo_write },
	{ "queue_desc (high)", VIRTIO_PCI_COMMON_Q_DESCHI, 4, QUEUES_PHASE, desc_hi_read,
	  desc_hi_write },
	{ "queue_driver (low)", VIRTIO_PCI_COMMON_Q_AVAILLO, 4, QUEUES_PHASE, avail_lo_read,
	  avail_lo_write },
	{ "queue_driver (high)", VIRTIO_PCI_COMMON_Q_AVAILHI, 4, QUEUES_PHASE, avail_hi_read,
	  avail_hi_write },
	{ "queue_device (low)", VIRTIO_PCI_COMMON_Q_USEDLO, 4, QUEUES_PHASE, used_lo_read,
	  used_lo_write },
	{ "queue_device (high)", VIRTIO_PCI_COMMON_Q_USEDHI, 4, QUEUES_PHASE, used_hi_read,
	  used_hi_write },
};

/* Bytes of the structure as we tell them in the capability. */
enum { COMMON_BYTES = VIRTIO_PCI_COMMON_Q_USEDHI + 4 };

/* Spec: 4.1.3.1: a field is accessed in its own width, and only there. */
static const struct reg *find_reg(uint64_t off, unsigned n)
{
	for (size_t i = 0; i < ARRAY_LEN(regs); i++) {
		if (regs[i].off == off) {
			return regs[i].bytes == n ? &regs[i] : NULL;
		}
	}
	return NULL;
}

/* --- The BAR --- */

static uint64_t isr_read(struct virtio_pci *p)
{
	uint8_t v = p->isr;

	p->isr = 0;
	return v;
}

static uint64_t bar_read(void *ctx, uint64_t off, unsigned n)
{
	struct virtio_pci *p = ctx;
	uint64_t at = off & 0xfff, v = 0;

	switch (off & ~UINT64_C(0xfff)) {
	case VPCI_COMMON: {
		const struct reg *r = find_reg(at, n);

		return r ? r->read(p) : 0;
	}
	case VPCI_ISR:
		return at == 0 ? isr_read(p) : 0;
	case VPCI_CONFIG:
		vdev_config_read(p->dev, (unsigned)at, n, &v);
		return v;
	case VPCI_TABLE:
		return table_read(p, at, n);
	case VPCI_PBA:
		return pba_read(p, at, n);
	}
	return 0;
}

static void bar_write(void *ctx, uint64_t off, unsigned n, uint64_t v)
{
	struct virtio_pci *p = ctx;
	uint64_t at = off & 0xfff;

	switch (off & ~UINT64_C(0xfff)) {
	case VPCI_COMMON: {
		const struct reg *r = find_reg(at, n);

		if (r && (r->phases & BIT(p->dev->phase))) {
			r->write(p, (uint32_t)v);
		}
		return;
	}
	case VPCI_CONFIG:
		vdev_config_write(p->dev, (unsigned)at, n, &v);
		return;
	case VPCI_NOTIFY:
		/* The place says which queue; the value is for devices of several places. */
		if (at % NOTIFY_STEP == 0) {
			vdev_kick(p->dev, (unsigned)(at / NOTIFY_STEP));
		}
		return;
	case VPCI_TABLE:
		table_write(p, at, n, v);
		return;
	}
}

/* --- Config space --- */

static void put16(uint8_t *at, uint16_t v)
{
	memcpy(at, &v, sizeof(v));
}

static void put32(uint8_t *at, uint32_t v)
{
	memcpy(at, &v, sizeof(v));
}

/* Where capabilities are laid; each points to the next. */
struct caps {
	uint8_t *config;
	unsigned next;       /* free offset */
	unsigned last;       /* offset of the byte that points to the next one */
};

static unsigned add_cap(struct caps *c, uint8_t id, unsigned bytes)
{
	unsigned at = c->next;

	c->config[c->last] = (uint8_t)at;
	c->config[at] = id;
	c->last = at + 1;
	c->next = (at + bytes + 3) & ~3u;
	return at;
}

/* Spec: virtio 1.2, 4.1.4 Virtio Structure PCI Capabilities. */
static unsigned add_virtio_cap(struct caps *c, uint8_t type, uint32_t off, uint32_t bytes,
			       unsigned extra)
{
	unsigned len = (unsigned)sizeof(struct virtio_pci_cap) + extra;
	unsigned at = add_cap(c, PCI_CAP_ID_VNDR, len);
	uint8_t *cap = c->config + at;

	cap[offsetof(struct virtio_pci_cap, cap_len)] = (uint8_t)len;
	cap[offsetof(struct virtio_pci_cap, cfg_type)] = type;
	put32(cap + offsetof(struct virtio_pci_cap, offset), off);
	put32(cap + offsetof(struct virtio_pci_cap, length), bytes);
	return at;
}

static void add_msix(struct virtio_pci *p, struct caps *c)
{
	unsigned vectors = p->dev->desc->n_queues + 1u;

	p->msix_cap = add_cap(c, PCI_CAP_ID_MSIX, PCI_CAP_MSIX_SIZEOF);
	put16(c->config + p->msix_cap + PCI_MSIX_FLAGS, (uint16_t)(vectors - 1));
	put32(c->config + p->msix_cap + PCI_MSIX_TABLE, VPCI_TABLE);
	put32(c->config + p->msix_cap + PCI_MSIX_PBA, VPCI_PBA);
	put16(p->fn.writable + p->msix_cap + PCI_MSIX_FLAGS,
	      PCI_MSIX_FLAGS_ENABLE | PCI_MSIX_FLAGS_MASKALL);
}

/* Spec: 4.1.4.9: access to the BAR through config space. */
static void add_window(struct virtio_pci *p, struct caps *c)
{
	p->window_cap = add_virtio_cap(c, VIRTIO_PCI_CAP_PCI_CFG, 0, 0, 4);
	uint8_t *mask = p->fn.writable + p->window_cap;

	mask[offsetof(struct virtio_pci_cap, bar)] = 0xff;
	memset(mask + offsetof(struct virtio_pci_cap, offset), 0xff, 12);
}

static void fill_config(struct virtio_pci *p)
{
	const struct vdev_desc *desc = p->dev->desc;
	uint8_t *c = p->fn.config;
	struct caps caps = { .config = c, .next = 0x40, .last = PCI_CAPABILITY_LIST };

	put16(c + PCI_VENDOR_ID, VENDOR_VIRTIO);
	put16(c + PCI_DEVICE_ID, (uint16_t)(DEVICE_MODERN + desc->virtio_id));
	put16(c + PCI_STATUS, PCI_STATUS_CAP_LIST);
	put32(c + PCI_CLASS_REVISION, desc->pci_class << 8 | 1);
	put16(c + PCI_SUBSYSTEM_VENDOR_ID, VENDOR_VIRTIO);
	put16(c + PCI_SUBSYSTEM_ID, (uint16_t)(0x40 + desc->virtio_id));
	put16(p->fn.writable + PCI_COMMAND,
	      PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER | PCI_COMMAND_INTX_DISABLE);

	add_msix(p, &caps);
	add_virtio_cap(&caps, VIRTIO_PCI_CAP_COMMON_CFG, VPCI_COMMON, COMMON_BYTES, 0);
	add_virtio_cap(&caps, VIRTIO_PCI_CAP_ISR_CFG, VPCI_ISR, 1, 0);
	if (p->dev->config_bytes > 0) {
		add_virtio_cap(&caps, VIRTIO_PCI_CAP_DEVICE_CFG, VPCI_CONFIG, p->dev->config_bytes,
			       0);
	}

	unsigned notify = add_virtio_cap(&caps, VIRTIO_PCI_CAP_NOTIFY_CFG, VPCI_NOTIFY,
					 desc->n_queues * NOTIFY_STEP, 4);

	put32(c + notify + sizeof(struct virtio_pci_cap), NOTIFY_STEP);
	add_window(p, &caps);
}

static bool touches(unsigned off, unsigned n, unsigned at, unsigned bytes)
{
	return off < at + bytes && at < off + n;
}

/* The place in the BAR that the window shows; false: it shows nothing. */
static bool window(const struct virtio_pci *p, uint32_t *ret_off, uint32_t *ret_n)
{
	const uint8_t *cap = p->fn.config + p->window_cap;
	uint32_t off, n;

	memcpy(&off, cap + offsetof(struct virtio_pci_cap, offset), 4);
	memcpy(&n, cap + offsetof(struct virtio_pci_cap, length), 4);
	if (cap[offsetof(struct virtio_pci_cap, bar)] != 0 || (n != 1 && n != 2 && n != 4) ||
	    off % n != 0 || off > VPCI_BAR_BYTES - n) {
		return false;
	}
	*ret_off = off;
	*ret_n = n;
	return true;
}

static unsigned window_data(const struct virtio_pci *p)
{
	return p->window_cap + (unsigned)sizeof(struct virtio_pci_cap);
}

static void config_read(struct pci_function *f, unsigned off, unsigned n)
{
	struct virtio_pci *p = container_of(f, struct virtio_pci, fn);
	uint32_t at, len;

	if (touches(off, n, window_data(p), 4) && window(p, &at, &len)) {
		put32(f->config + window_data(p), (uint32_t)bar_read(p, at, len));
	}
}

static void config_written(struct pci_function *f, unsigned off, unsigned n)
{
	struct virtio_pci *p = container_of(f, struct virtio_pci, fn);
	uint32_t at, len, v;

	if (touches(off, n, window_data(p), 4) && window(p, &at, &len)) {
		memcpy(&v, f->config + window_data(p), 4);
		bar_write(p, at, len, len == 4 ? v : v & (uint32_t)(BIT(len * 8) - 1));
	}
	if (touches(off, n, p->msix_cap, PCI_CAP_MSIX_SIZEOF)) {
		msix_unmasked(p);
	}
	if (p->routed_at && p->routed_at != f->bar[0].first + VPCI_NOTIFY) {
		route(p);
	}
}

/* --- Life --- */

int virtio_pci_make(struct machine *m, struct vdev *own_dev, struct virtio_pci **ret,
		    struct err *e)
{
	struct virtio_pci *p = mem_new(struct virtio_pci);

	if (!p) {
		ignore_result(vdev_free(own_dev)); /* NULL */
		return err_nomem(e);
	}
	p->dev = own_dev;
	p->machine = m;
	p->fn.name = own_dev->name;
	p->fn.lock = &own_dev->lock;
	p->fn.config_read = config_read;
	p->fn.config_written = config_written;
	p->fn.bar[0] = (struct region){ .name = own_dev->name, .bytes = VPCI_BAR_BYTES, .ctx = p,
					.lock = &own_dev->lock, .read = bar_read,
					.write = bar_write };
	for (unsigned i = 0; i < VPCI_VECTORS; i++) {
		p->table[i].control = VECTOR_MASKED;
	}
	fill_config(p);
	own_dev->transport = &pci_transport;
	own_dev->transport_ctx = p;
	reset(own_dev);
	*ret = p;
	return 0;
}

int virtio_pci_new(struct machine *m, struct pci_bus *bus, struct vdev *own_dev,
		   struct virtio_pci **ret, struct err *e)
{
	auto_(virtio_pci_freep) struct virtio_pci *p = NULL;
	int r = virtio_pci_make(m, own_dev, &p, e);

	if (r == 0) {
		r = pci_add(bus, &p->fn, e);
	}
	if (r < 0) {
		return r;
	}
	p->bus = bus;
	*ret = take_ptr(&p);
	return 0;
}

struct virtio_pci *virtio_pci_free(struct virtio_pci *p)
{
	if (p) {
		if (p->bus) {
			pci_remove(p->bus, &p->fn);
		}
		unroute(p);
		p->dev = vdev_free(p->dev);
		free(p);
	}
	return NULL;
}
