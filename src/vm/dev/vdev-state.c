/* SPDX-License-Identifier: Apache-2.0 */
/* What of a device and of its transport is in a snapshot. */
#include <errno.h>
#include <linux/virtio_config.h>
#include <linux/virtio_ring.h>
#include <stdio.h>
#include <string.h>

#include "vm/dev/virtio-pci.h"

/* --- A ring. In a snapshot nothing of it is out, so the two indices say all. --- */

static int vq_check(const void *s, struct err *e)
{
	return vq_valid(s) ? 0 : err_set(e, EBADMSG, ERR_INVALID,
					 "a queue that no driver could have made");
}

static const struct state_field vq_fields[] = {
	STATE_HOST_ONLY(struct vq, mem, "of the machine"),
	STATE_HOST_ONLY(struct vq, max, "of the kind of device"),
	STATE_U16(1, struct vq, size, .min = 1, .max = VQ_SIZE_MAX),
	STATE_U64(2, struct vq, desc),
	STATE_U64(3, struct vq, avail),
	STATE_U64(4, struct vq, used),
	STATE_BOOL(5, struct vq, enabled),
	STATE_HOST_ONLY(struct vq, event_idx, "follows from the features"),
	STATE_HOST_ONLY(struct vq, indirect, "follows from the features"),
	STATE_HOST_ONLY(struct vq, broken, "follows from the device's phase"),
	STATE_U16(6, struct vq, next_avail),
	STATE_HOST_ONLY(struct vq, seen_avail, "read again"),
	STATE_U16(7, struct vq, next_used),
	STATE_HOST_ONLY(struct vq, filled, "0: everything was published"),
	STATE_HOST_ONLY(struct vq, signalled, "an interrupt follows every load"),
	STATE_HOST_ONLY(struct vq, has_signalled, "an interrupt follows every load"),
	STATE_HOST_ONLY(struct vq, spared, "asked anew"),
	STATE_HOST_ONLY(struct vq, in_flight, "0: nothing is out"),
	STATE_HOST_ONLY(struct vq, generation, "of this process"),
};

static const struct state_desc vq_state =
	STATE_DESC("virtqueue", struct vq, vq_fields, .version = 1, .oldest = 1,
		   .check = vq_check);

/* --- A device --- */

/* The status bits that each phase has, and those that it may have besides. */
static const struct {
	uint8_t has, may;
} phase_status[VDEV_PHASE__COUNT] = {
	[VDEV_RESET] = { 0, 0 },
	[VDEV_FOUND] = { 0, 3 },
	[VDEV_READY] = { 3 | VIRTIO_CONFIG_S_FEATURES_OK, 0 },
	[VDEV_LIVE] = { 3 | VIRTIO_CONFIG_S_FEATURES_OK | VIRTIO_CONFIG_S_DRIVER_OK, 0 },
	[VDEV_BROKEN] = { 0, UINT8_MAX },
};

static int vdev_check(const void *s, struct err *e)
{
	const struct vdev *d = s;
	uint8_t has = phase_status[d->phase].has, may = phase_status[d->phase].may;

	if (d->phase == VDEV_DRAINING || (d->status & has) != has ||
	    (d->status & ~(has | may) & 0xff) != 0) {
		return err_set(e, EBADMSG, ERR_INVALID, "%s: a status that it cannot have", d->name);
	}
	if ((d->phase == VDEV_READY || d->phase == VDEV_LIVE) &&
	    ((d->features & ~d->offered) || !vdev_has(d, VIRTIO_F_VERSION_1))) {
		return err_set(e, EBADMSG, ERR_UNSUPPORTED,
			       "%s: was used with features that it does not have here: %#llx",
			       d->name, (unsigned long long)(d->features & ~d->offered));
	}
	for (unsigned i = 0; i < VDEV_QUEUES_MAX; i++) {
		bool may_run = i < d->desc->n_queues &&
			       (d->phase == VDEV_READY || d->phase == VDEV_LIVE ||
				d->phase == VDEV_BROKEN);

		if (d->queues[i].enabled && !may_run) {
			return err_set(e, EBADMSG, ERR_INVALID, "%s: a queue too early", d->name);
		}
	}
	return 0;
}

static const struct state_field vdev_fields[] = {
	STATE_HOST_ONLY(struct vdev, desc, "of the program"),
	STATE_HOST_ONLY(struct vdev, name, "of the configuration"),
	STATE_HOST_ONLY(struct vdev, machine, "of this process"),
	STATE_HOST_ONLY(struct vdev, lock, "of this process"),
	STATE_HOST_ONLY(struct vdev, transport, "of this process"),
	STATE_HOST_ONLY(struct vdev, transport_ctx, "of this process"),
	STATE_ENUM(1, struct vdev, phase, VDEV_PHASE__COUNT),
	STATE_U8(2, struct vdev, status),
	STATE_U8(3, struct vdev, config_generation),
	STATE_HOST_ONLY(struct vdev, offered, "of the configuration"),
	STATE_U64(4, struct vdev, features),
	STATE_HOST_ONLY(struct vdev, config, "of this process"),
	STATE_HOST_ONLY(struct vdev, config_bytes, "of the kind of device"),
	STATE_STRUCTS(5, struct vdev, queues, struct vq, &vq_state),
	STATE_HOST_ONLY(struct vdev, kicks, "of this process"),
	STATE_HOST_ONLY(struct vdev, control_fd, "of this process"),
	STATE_HOST_ONLY(struct vdev, control, "of this process"),
	STATE_HOST_ONLY(struct vdev, again, "every queue is looked at after a load"),
	STATE_HOST_ONLY(struct vdev, again_queues, "every queue is looked at after a load"),
	STATE_HOST_ONLY(struct vdev, budget, "of a turn of the loop"),
	STATE_HOST_ONLY(struct vdev, running, "false: it is paused"),
	STATE_HOST_ONLY(struct vdev, paused, "it is"),
	STATE_HOST_ONLY(struct vdev, realized, "of this process"),
	STATE_HOST_ONLY(struct vdev, loaded, "of this process"),
	STATE_HOST_ONLY(struct vdev, fill_pending, "an interrupt follows every load"),
	STATE_HOST_ONLY(struct vdev, faults, "of this process"),
	STATE_HOST_ONLY(struct vdev, last_fault, "of this process"),
};

const struct state_desc vdev_state =
	STATE_DESC("virtio", struct vdev, vdev_fields, .version = 1, .oldest = 1,
		   .check = vdev_check);

/* --- Its PCI function --- */

static const struct state_field msix_fields[] = {
	STATE_U64(1, struct msix_entry, addr),
	STATE_U32(2, struct msix_entry, data),
	STATE_U32(3, struct msix_entry, control, .max = 1),
};

static const struct state_desc msix_state =
	STATE_DESC("msix", struct msix_entry, msix_fields, .version = 1, .oldest = 1);

static bool vector_valid(uint16_t v)
{
	return v < VPCI_VECTORS || v == VPCI_NO_VECTOR;
}

static int pci_check(const void *s, struct err *e)
{
	const struct virtio_pci *p = s;
	bool good = vector_valid(p->config_vector);

	for (unsigned i = 0; i < VDEV_QUEUES_MAX; i++) {
		good = good && vector_valid(p->queue_vector[i]);
	}
	return good ? 0 : err_set(e, EBADMSG, ERR_INVALID, "a vector that does not exist");
}

static const struct state_field pci_fields[] = {
	STATE_HOST_ONLY(struct virtio_pci, fn, "what the driver may change of it is in `saved`"),
	STATE_HOST_ONLY(struct virtio_pci, dev, "saved by its own table"),
	STATE_HOST_ONLY(struct virtio_pci, machine, "of this process"),
	STATE_HOST_ONLY(struct virtio_pci, bus, "of this process"),
	STATE_HOST_ONLY(struct virtio_pci, msix_cap, "of the program"),
	STATE_HOST_ONLY(struct virtio_pci, window_cap, "of the program"),
	STATE_U32(1, struct virtio_pci, feature_word),
	STATE_U32(2, struct virtio_pci, driver_feature_word),
	STATE_U16(3, struct virtio_pci, queue_select),
	STATE_U16(4, struct virtio_pci, config_vector),
	STATE_U16S(5, struct virtio_pci, queue_vector),
	STATE_U8(6, struct virtio_pci, isr, .max = 3),
	STATE_STRUCTS(7, struct virtio_pci, table, struct msix_entry, &msix_state),
	STATE_U32(8, struct virtio_pci, pending, .max = (1 << VPCI_VECTORS) - 1),
	STATE_BYTES(9, struct virtio_pci, saved),
	STATE_HOST_ONLY(struct virtio_pci, routed_at, "of this process"),
};

const struct state_desc virtio_pci_state =
	STATE_DESC("virtio-pci", struct virtio_pci, pci_fields, .version = 1, .oldest = 1,
		   .check = pci_check);

/* --- All three --- */

struct path {
	char text[STATE_PATH_MAX + 1];
};

static struct path path_of(const char *prefix, const char *name)
{
	struct path p;

	ignore_result(snprintf(p.text, sizeof(p.text), "%s/%s", prefix, name)); /* short by rule */
	return p;
}

void virtio_pci_save(struct virtio_pci *p, const char *prefix, struct state_writer *w)
{
	struct vdev *d = p->dev;

	vdev_lock(d);
	assert(d->paused);
	for (unsigned i = 0; i < sizeof(p->saved); i++) {
		p->saved[i] = p->fn.config[i] & p->fn.writable[i];
	}
	if (d->desc->ops->state) {
		ignore_result(d->desc->ops->state(d, true)); /* a save does not fail here */
	}
	state_write(w, path_of(prefix, "virtio-pci").text, &virtio_pci_state, p);
	state_write(w, path_of(prefix, "virtio").text, &vdev_state, d);
	state_write(w, path_of(prefix, d->desc->name).text, d->desc->state, d);
	if (d->desc->ops->save_bytes) {
		auto_buf struct buf b = BUF_INIT;

		d->desc->ops->save_bytes(d, &b);
		if (buf_failed(&b)) {
			w->b.failed = true;
		} else {
			state_write_bytes(w, path_of(prefix, "bytes").text, b.data, b.len);
		}
	}
	vdev_unlock(d);
}

/* Streams of older versions do not have them. */
static int load_bytes(struct vdev *d, const char *prefix, struct state_reader *r, struct err *e)
{
	struct path path = path_of(prefix, "bytes");
	const void *data = NULL;
	size_t len = 0;
	int n = state_has(r, path.text) ? state_read_bytes(r, path.text, &data, &len, e) : 0;

	n = n < 0 ? n : d->desc->ops->load_bytes(d, data, len);
	return n == -ENOMEM ? err_nomem(e) : n;
}

int virtio_pci_load(struct virtio_pci *p, const char *prefix, struct state_reader *r,
		    struct err *e)
{
	struct vdev *d = p->dev;

	assert(d->paused);
	int n = state_read(r, path_of(prefix, "virtio-pci").text, &virtio_pci_state, p, e);

	n = n < 0 ? n : state_read(r, path_of(prefix, "virtio").text, &vdev_state, d, e);
	n = n < 0 ? n : state_read(r, path_of(prefix, d->desc->name).text, d->desc->state, d, e);
	return n < 0 || !d->desc->ops->load_bytes ? n : load_bytes(d, prefix, r, e);
}

int virtio_pci_loaded(struct virtio_pci *p, struct err *e)
{
	struct vdev *d = p->dev;
	int r = 0;

	vdev_lock(d);
	for (unsigned i = 0; i < sizeof(p->saved); i++) {
		p->fn.config[i] = (uint8_t)((p->fn.config[i] & ~p->fn.writable[i]) |
					    (p->saved[i] & p->fn.writable[i]));
	}
	for (unsigned i = 0; i < d->desc->n_queues; i++) {
		struct vq *q = &d->queues[i];

		q->event_idx = vdev_has(d, VIRTIO_RING_F_EVENT_IDX);
		q->indirect = vdev_has(d, VIRTIO_RING_F_INDIRECT_DESC);
		q->broken = d->phase == VDEV_BROKEN;
		q->seen_avail = q->next_avail;
		q->has_signalled = false;
		q->spared = false;
		q->generation++;
	}
	if (d->desc->ops->state) {
		r = d->desc->ops->state(d, false);
	}
	d->loaded = true;
	vdev_unlock(d);
	return r < 0 ? err_set(e, -r, ERR_INVALID, "%s: what it was doing makes no sense", d->name) : 0;
}
