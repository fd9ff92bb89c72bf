/* SPDX-License-Identifier: Apache-2.0 */
/* Devices in snapshots: tables that describe all, saved in one machine and loaded in another. */
#include <errno.h>
#include <linux/virtio_vsock.h>
#include <string.h>

#include "base/test.h"
#include "vm/dev/test-kinds.h"
#include "vm/dev/vsock.h"

static void test_tables(void **state unused_arg)
{
	struct err e = ERR_INIT;

	if (state_desc_check(&vdev_state, &e) < 0 || state_desc_check(&virtio_pci_state, &e) < 0) {
		fail_msg("%s", e.msg);
	}
	for (size_t i = 0; i < vdev_table_len; i++) {
		const struct vdev_desc *d = vdev_table[i];

		assert_non_null(d->state);
		assert_string_equal(d->state->name, d->name);
		assert_int_equal(d->state->size, d->bytes);
		if (state_desc_check(d->state, &e) < 0) {
			fail_msg("%s: %s", d->name, e.msg);
		}
		assert_non_null(d->sandbox);
		assert_true(d->sandbox->n_syscalls > 0 && d->sandbox->fds != NULL);
	}
}

static void save(struct kind_rig *k, void **ret, size_t *ret_len)
{
	auto_(state_writer_fini) struct state_writer w = STATE_WRITER_INIT;

	vdev_pause(k->r.dev);
	virtio_pci_save(k->r.pci, "/pci/1", &w);
	assert_int_equal(state_finish(&w, ret, ret_len), 0);
}

/* Memory, and the driver's notion of its rings, go along. */
static void copy_driver(struct kind_rig *to, struct kind_rig *from)
{
	static uint8_t block[65536];

	for (uint64_t at = 0; at < RIG_RAM_BYTES; at += sizeof(block)) {
		rig_get(&from->r, at, block, sizeof(block));
		rig_put(&to->r, at, block, sizeof(block));
	}
	memcpy(to->r.queues, from->r.queues, sizeof(to->r.queues));
	to->r.next_free = from->r.next_free;
	to->scratch = from->scratch;
}

static int load(struct kind_rig *k, const void *data, size_t len, struct err *e)
{
	auto_(state_closep) struct state_reader *r = NULL;

	vdev_pause(k->r.dev);
	int n = state_open(data, len, &r, e);

	n = n < 0 ? n : virtio_pci_load(k->r.pci, "/pci/1", r, e);
	n = n < 0 ? n : state_commit(r, e);
	if (n == 0) {
		virtio_pci_loaded(k->r.pci);
		vdev_resume(k->r.dev);
	}
	return n;
}

/* Every kind in each phase: saved, loaded elsewhere, and it goes on there as if nothing was. */
static void test_move(void **state unused_arg)
{
	for (size_t kind = 0; kind < vdev_table_len; kind++) {
		for (unsigned phase = 0; phase < 5; phase++) {
			auto_free void *data = NULL;
			struct kind_rig a, b;
			struct err e = ERR_INIT;
			size_t len;

			kind_init(&a, kind, false);
			kind_init(&b, kind, true);
			if (phase == 1) {
				rig_set_status(&a.r, 3);
				rig_features(&a.r, BIT(VIRTIO_F_VERSION_1));
			} else if (phase >= 2) {
				rig_start(&a.r, 0);
				kind_works(&a);
			}
			if (phase == 3) {
				rig_avail(&a.r, 0, 0xffff);
				kind_stir(&a);
				rig_kick(&a.r, 0);
				rig_run(&a.r);
				assert_int_equal(a.r.dev->phase, VDEV_BROKEN);
			}
			save(&a, &data, &len);
			copy_driver(&b, &a);
			if (load(&b, data, len, &e) < 0) {
				fail_msg("%s: %s", vdev_table[kind]->name, e.msg);
			}
			rig_run(&b.r);
			assert_int_equal(b.r.dev->phase, a.r.dev->phase);
			assert_int_equal(rig_status(&b.r), rig_status(&a.r));
			if (phase == 2 || phase == 4) {
				/* An interrupt for each queue: what was lost on the way is found. */
				assert_true(b.r.msi[0] > 0 && b.r.msi[1] > 0);
				kind_works(&b);
			} else if (phase == 1) {
				assert_int_equal(b.r.dev->features, BIT(VIRTIO_F_VERSION_1));
			}
			rig_start(&b.r, 0);
			kind_works(&b);
			/* The first one goes on, too. */
			vdev_resume(a.r.dev);
			rig_start(&a.r, 0);
			kind_works(&a);
			kind_fini(&a);
			kind_fini(&b);
		}
	}
}

/* The stream is hostile: each byte changed in turn is refused, or makes a device that lives. */
static void test_damage(void **state unused_arg)
{
	for (size_t kind = 0; kind < vdev_table_len; kind++) {
		auto_free void *data = NULL;
		struct kind_rig a, b;
		size_t len;
		unsigned good = 0;

		kind_init(&a, kind, false);
		kind_init(&b, kind, false);
		rig_start(&a.r, 0);
		save(&a, &data, &len);
		copy_driver(&b, &a);
		for (size_t i = 0; i < len; i++) {
			struct err e = ERR_INIT;
			uint8_t *byte = (uint8_t *)data + i, was = *byte;

			*byte ^= (uint8_t)(1u << (i % 8));
			good += load(&b, data, len, &e) == 0;
			*byte = was;
		}
		assert_int_equal(good, 0);   /* sums */
		vdev_resume(b.r.dev);
		rig_start(&b.r, 0);
		kind_works(&b);
		kind_fini(&a);
		kind_fini(&b);
	}
}

/* Values that no device could have had. */
static void test_nonsense(void **state unused_arg)
{
	for (unsigned i = 0; i < 9; i++) {
		auto_free void *data = NULL;
		struct kind_rig a, b;
		struct err e = ERR_INIT;
		size_t len;

		kind_init(&a, 0, false);
		kind_init(&b, 0, false);
		rig_start(&a.r, 0);
		vdev_pause(a.r.dev);
		struct vdev *d = a.r.dev;

		switch (i) {
		case 0:
			d->phase = VDEV_DRAINING;
			break;
		case 1:
			d->status = 3;
			break;
		case 2:
			d->features |= BIT(60);
			break;
		case 3:
			d->features &= ~BIT(VIRTIO_F_VERSION_1);
			break;
		case 4:
			d->queues[0].size = 7;
			break;
		case 5:
			d->queues[0].size = 256;   /* more than this kind has */
			break;
		case 6:
			d->queues[0].desc = UINT64_MAX - 15;
			break;
		case 7:
			d->queues[2].enabled = true;
			break;
		default:
			a.r.pci->queue_vector[0] = 99;
			break;
		}
		{
			auto_(state_writer_fini) struct state_writer w = STATE_WRITER_INIT;

			virtio_pci_save(a.r.pci, "/pci/1", &w);
			assert_int_equal(state_finish(&w, &data, &len), 0);
		}
		d->phase = VDEV_RESET;
		for (unsigned k = 0; k < VDEV_QUEUES_MAX; k++) {
			vq_reset(&d->queues[k]);
		}
		assert_true(load(&b, data, len, &e) < 0);
		vdev_resume(b.r.dev);
		rig_start(&b.r, 0);
		kind_works(&b);
		kind_fini(&a);
		kind_fini(&b);
	}
}

/* Spec: virtio 1.2, 5.10.6.7: the guest hears that its connections are gone. */
static void test_vsock_event(void **state unused_arg)
{
	size_t kind = 0;

	while (vdev_table[kind] != &vdev_vsock) {
		kind++;
	}
	auto_free void *data = NULL;
	struct kind_rig a, b;
	struct virtio_vsock_event ev = { .id = 99 };
	struct err e = ERR_INIT;
	size_t len;

	kind_init(&a, kind, false);
	kind_init(&b, kind, false);
	rig_start(&a.r, 0);
	rig_add(&a.r, VSOCK_EVENT, &(struct rig_buf){ a.scratch, 8, true }, 1);
	rig_kick(&a.r, VSOCK_EVENT);
	rig_run(&a.r);
	assert_false(rig_used(&a.r, VSOCK_EVENT));
	save(&a, &data, &len);
	copy_driver(&b, &a);
	assert_int_equal(load(&b, data, len, &e), 0);
	assert_int_equal(rig_take(&b.r, VSOCK_EVENT), sizeof(ev));
	rig_get(&b.r, b.scratch, &ev, sizeof(ev));
	assert_int_equal(ev.id, VIRTIO_VSOCK_EVENT_TRANSPORT_RESET);
	kind_fini(&a);
	kind_fini(&b);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_tables),   cmocka_unit_test(test_move),
		cmocka_unit_test(test_damage),   cmocka_unit_test(test_nonsense),
		cmocka_unit_test(test_vsock_event),
	};

	return TEST_RUN(tests);
}
