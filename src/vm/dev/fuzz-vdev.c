/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Any kind of device, driven by a script: the first byte picks the kind, then come steps. Every
 * step is what a guest, its host or a snapshot can do; after all of them the device must work
 * again once it was reset.
 */
#include <string.h>

#include "base/fuzz-script.h"
#include "base/test.h"
#include "sys/file.h"
#include "vm/dev/test-kinds.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { STEPS_MAX = 512, NEAR = 0x200 };

enum step {
	STEP_REGISTER,      /* a write anywhere in the BAR */
	STEP_STATUS,
	STEP_START,         /* a driver that keeps to the rules, up to DRIVER_OK */
	STEP_ADD,           /* a chain of one to four buffers */
	STEP_INDIRECT,
	STEP_POKE,          /* one descriptor, as the input has it */
	STEP_AVAIL,         /* a head, as the input has it */
	STEP_INDEX,         /* the available ring's index */
	STEP_FILL,          /* bytes of a buffer */
	STEP_KICK,
	STEP_TURN,
	STEP_STIR,          /* the host's side */
	STEP_HOST,          /* bytes from the host */
	STEP_DRAIN,
	STEP_PAUSE,
	STEP_WINDOW,        /* a BAR access through config space */
	STEP_MOVE,          /* saved and loaded in place */
	STEP__COUNT,
};

static unsigned queue_of(struct kind_rig *k, struct in *in)
{
	return (unsigned)take(in, 1) % vdev_table[k->kind]->n_queues;
}

static void add(struct kind_rig *k, struct in *in, bool indirect)
{
	struct rig_buf bufs[4];
	unsigned queue = queue_of(k, in), n = 1 + (unsigned)take(in, 1) % 4;
	bool writable = false;

	if (k->r.queues[queue].size == 0) {
		return;
	}
	for (unsigned i = 0; i < n; i++) {
		uint64_t shape = take(in, 2);

		writable = writable || (shape & 1);
		bufs[i] = (struct rig_buf){ KIND_FREE + (shape >> 8) * 64,
					    (uint32_t)(shape >> 1 & 0x7f) * (shape & 0x80 ? 61 : 1),
					    writable };
	}
	if (indirect) {
		rig_add_indirect(&k->r, queue, bufs, n);
	} else {
		rig_add(&k->r, queue, bufs, n);
	}
}

static void ring_step(struct kind_rig *k, struct in *in, enum step step)
{
	unsigned queue = queue_of(k, in);
	struct rig_queue *q = &k->r.queues[queue];

	if (q->size == 0) {
		return;
	}
	if (step == STEP_POKE) {
		unsigned i = (unsigned)take(in, 1) % q->size;
		uint64_t addr = take(in, 4);
		uint32_t len = (uint32_t)take(in, 3);

		/* High bits as the guest likes: the first 4 GiB have RAM and holes enough. */
		rig_desc(&k->r, q->desc, i, addr & 1 ? ~addr : addr, len, (uint16_t)take(in, 1) & 7,
			 (uint16_t)take(in, 1));
	} else if (step == STEP_AVAIL) {
		rig_avail(&k->r, queue, (uint16_t)take(in, 2));
	} else {
		rig_put16(&k->r, q->avail + 2, (uint16_t)take(in, 2));
	}
}

static void fill(struct kind_rig *k, struct in *in)
{
	uint64_t at = KIND_FREE + (take(in, 1) % NEAR) * 64;
	uint8_t bytes[48];
	unsigned n = 1 + (unsigned)take(in, 1) % (unsigned)sizeof(bytes);

	for (unsigned i = 0; i < n; i++) {
		bytes[i] = (uint8_t)take(in, 1);
	}
	rig_put(&k->r, at, bytes, n);
}

static void host(struct kind_rig *k, struct in *in)
{
	uint8_t bytes[64];
	unsigned first = (unsigned)take(in, 1), n = 1 + first % (unsigned)sizeof(bytes);

	if (first & 0x80) {
		kind_connect(k);
	}
	for (unsigned i = 0; i < n; i++) {
		bytes[i] = (uint8_t)take(in, 1);
	}
	if (k->host_in >= 0) {
		ignore_result(sys_write(k->host_in, bytes, n)); /* as far as it goes */
	}
}

static void window(struct kind_rig *k, struct in *in)
{
	struct pci_function *f = &k->r.pci->fn;
	unsigned cap = k->r.pci->window_cap;
	uint32_t off = (uint32_t)take(in, 2), n = (uint32_t)take(in, 1), v = (uint32_t)take(in, 4);

	memcpy(f->config + cap + 8, &off, 4);
	memcpy(f->config + cap + 12, &n, 4);
	memcpy(f->config + cap + 16, &v, 4);
	vdev_lock(k->r.dev);
	f->config_written(f, cap + 16, 4);
	f->config_read(f, cap + 16, 4);
	vdev_unlock(k->r.dev);
}

static void move(struct kind_rig *k)
{
	auto_(state_writer_fini) struct state_writer w = STATE_WRITER_INIT;
	auto_(state_closep) struct state_reader *r = NULL;
	auto_free void *data = NULL;
	struct err e = ERR_INIT;
	size_t len;

	ignore_result(vdev_pause(k->r.dev)); /* its disk is a file */
	virtio_pci_save(k->r.pci, "/pci/1", &w);
	/* What was just saved must load. */
	assert(state_finish(&w, &data, &len) == 0);
	assert(state_open(data, len, &r, &e) == 0);
	assert(virtio_pci_load(k->r.pci, "/pci/1", r, &e) == 0);
	assert(state_commit(r, &e) == 0);
	assert(virtio_pci_loaded(k->r.pci, &e) == 0);
	vdev_resume(k->r.dev);
}

static void one_step(struct kind_rig *k, struct in *in)
{
	enum step step = (enum step)(take(in, 1) % STEP__COUNT);
	uint64_t off;
	unsigned n;

	switch (step) {
	case STEP_REGISTER:
		off = take(in, 2) % VPCI_BAR_BYTES & ~UINT64_C(7);
		n = 1u << (take(in, 1) % 4);
		rig_write(&k->r, off + take(in, 1) % 8 / n * n, n, take(in, n));
		(void)rig_read(&k->r, off, n); /* no effect but on the interrupt status */
		break;
	case STEP_STATUS:
		rig_set_status(&k->r, (uint8_t)take(in, 1));
		break;
	case STEP_START:
		rig_start(&k->r, take(in, 1) << 24);
		break;
	case STEP_ADD:
	case STEP_INDIRECT:
		add(k, in, step == STEP_INDIRECT);
		break;
	case STEP_POKE:
	case STEP_AVAIL:
	case STEP_INDEX:
		ring_step(k, in, step);
		break;
	case STEP_FILL:
		fill(k, in);
		break;
	case STEP_KICK:
		rig_kick(&k->r, (unsigned)take(in, 1));
		break;
	case STEP_TURN:
		ignore_result(loop_turn(k->r.loop, 0)); /* how much it did does not matter */
		break;
	case STEP_STIR:
		if (k->r.queues[vdev_table[k->kind]->n_queues - 1].size > 0) {
			kind_stir(k);
		}
		break;
	case STEP_HOST:
		host(k, in);
		break;
	case STEP_DRAIN:
		kind_drain(k);
		break;
	case STEP_PAUSE:
		ignore_result(vdev_pause(k->r.dev)); /* its disk is a file */
		ignore_result(loop_turn(k->r.loop, 0)); /* as above */
		vdev_resume(k->r.dev);
		break;
	case STEP_WINDOW:
		window(k, in);
		break;
	case STEP_MOVE:
		move(k);
		break;
	case STEP__COUNT:
		break;
	}
}

/* The driver may have its interrupts sent wherever it likes. */
static void any_msi(void *ctx unused_arg, uint64_t addr unused_arg, uint32_t data unused_arg)
{
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct in in = { data, size };
	struct kind_rig k;
	uint8_t first = (uint8_t)take(&in, 1);

	kind_init(&k, (first & 0x7f) % vdev_table_len, first & 0x80);
	k.accept = size % 2;
	k.r.machine.irq.msi = any_msi;
	for (unsigned i = 0; i < STEPS_MAX && in.len > 0; i++) {
		one_step(&k, &in);
	}
	rig_run(&k.r);
	kind_drain(&k);
	rig_reset(&k.r);
	kind_fini(&k);
	return 0;
}
