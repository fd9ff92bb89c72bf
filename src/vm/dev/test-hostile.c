/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A hostile driver against every kind of device. Each case breaks something; the device may go
 * on or ask for a reset, and then works again after one. Nothing else is touched: memory that
 * the device was not given, another device of the kind, descriptors of the process.
 *
 * Names the rules of docs/security.md, virtual machines, that the cases try.
 */
#include <dirent.h>
#include <string.h>

#include "base/test.h"
#include "vm/dev/test-kinds.h"

enum { N = VRING_DESC_F_NEXT, W = VRING_DESC_F_WRITE, I = VRING_DESC_F_INDIRECT };
enum { LIVE = 15, NEEDS_RESET = 64, CANARY = 0xa5, CASES_LEAST = 150 };

static unsigned cases;

static unsigned descriptors(void)
{
	unsigned n = 0;
	DIR *d = opendir("/proc/self/fd");

	assert_non_null(d);
	while (readdir(d)) {
		n++;
	}
	(void)closedir(d); /* read only */
	return n;
}

/* All of the second piece of RAM, which no case gives away on purpose. */
static void put_canary(struct rig *r)
{
	static uint8_t block[65536];

	memset(block, CANARY, sizeof(block));
	for (uint64_t at = 0; at < RIG_HIGH_BYTES; at += sizeof(block)) {
		rig_put(r, RIG_HIGH + at, block, sizeof(block));
	}
}

static void check_canary(struct rig *r)
{
	static uint8_t block[65536];

	for (uint64_t at = 0; at < RIG_HIGH_BYTES; at += sizeof(block)) {
		rig_get(r, RIG_HIGH + at, block, sizeof(block));
		for (size_t i = 0; i < sizeof(block); i++) {
			assert_int_equal(block[i], CANARY);
		}
	}
}

/* After a case: the device is in a state that it may have, and a reset makes all good. */
static void settle(struct kind_rig *k, const char *name)
{
	cases++;
	rig_run(&k->r);
	uint8_t status = rig_status(&k->r);

	if (status != LIVE && status != (LIVE | NEEDS_RESET)) {
		print_error("%s: %s: status %#x\n", vdev_table[k->kind]->name, name, status);
		fail();
	}
	if (status & NEEDS_RESET) {
		assert_true(k->r.dev->faults > 0);
		assert_non_null(k->r.dev->last_fault);
	}
	kind_drain(k);
	rig_start(&k->r, 0);
	kind_works(k);
}

/* --- Chains that break the rules of the ring. Rules 2, 3, 4, 6. --- */

enum { A = KIND_FREE, T = KIND_FREE + 0x10000 };

static const struct {
	const char *name;
	uint16_t    head;
	struct vring_desc ring[3], table[3];
} chains[] = {
	{ "head outside", 0x8000, {}, {} },
	{ "the largest head", 0xffff, {}, {} },
	{ "next outside", 0, { { A, 64, N, 0x7000 } }, {} },
	{ "next outside behind a writable", 0, { { A, 64, N | W, 0xffff } }, {} },
	{ "circle of one", 0, { { A, 64, N, 0 } }, {} },
	{ "writable circle of one", 0, { { A, 64, N | W, 0 } }, {} },
	{ "circle of two", 0, { { A, 64, N, 1 }, { A, 64, N, 0 } }, {} },
	{ "circle of three", 0, { { A, 64, N, 1 }, { A, 64, N | W, 2 }, { A, 64, N | W, 1 } }, {} },
	{ "empty buffer", 0, { { A, 0, 0, 0 } }, {} },
	{ "empty writable buffer", 0, { { A, 0, W, 0 } }, {} },
	{ "empty behind a good one", 0, { { A, 64, N, 1 }, { A, 0, W, 0 } }, {} },
	{ "read behind write", 0, { { A, 64, W | N, 1 }, { A, 64, 0, 0 } }, {} },
	{ "hole", 0, { { UINT64_C(0xd0000000), 64, 0, 0 } }, {} },
	{ "writable hole", 0, { { UINT64_C(0xd0000000), 64, W, 0 } }, {} },
	{ "interrupt controller", 0, { { UINT64_C(0xfee00000), 64, W, 0 } }, {} },
	{ "over the end of RAM", 0, { { RIG_RAM_BYTES - 1, 64, W, 0 } }, {} },
	{ "between the two RAMs", 0, { { RIG_RAM_BYTES, 64, W, 0 } }, {} },
	{ "under the second RAM", 0, { { RIG_HIGH - 1, 2, W, 0 } }, {} },
	{ "over the end of the second RAM", 0, { { RIG_HIGH + RIG_HIGH_BYTES - 1, 2, W, 0 } }, {} },
	{ "4 GiB", 0, { { A, UINT32_MAX, W, 0 } }, {} },
	{ "round the address space", 0, { { UINT64_MAX, 2, W, 0 } }, {} },
	{ "negative address", 0, { { UINT64_MAX - 4095, 4096, 0, 0 } }, {} },
	{ "empty table", 0, { { T, 0, I, 0 } }, {} },
	{ "half a descriptor", 0, { { T, 8, I, 0 } }, {} },
	{ "odd table", 0, { { T, 33, I, 0 } }, { { A, 64, 0, 0 } } },
	{ "table and next", 0, { { T, 16, I | N, 1 }, { A, 64, 0, 0 } }, { { A, 64, 0, 0 } } },
	{ "table in a hole", 0, { { UINT64_C(0xd0000000), 16, I, 0 } }, {} },
	{ "table over the end", 0, { { RIG_RAM_BYTES - 16, 32, I, 0 } }, {} },
	{ "table of 4 GiB", 0, { { T, 0xfffffff0, I, 0 } }, {} },
	{ "table in a table", 0, { { T, 32, I, 0 } }, { { A, 64, N, 1 }, { T, 16, I, 0 } } },
	{ "table in itself", 0, { { T, 16, I, 0 } }, { { T, 16, I, 0 } } },
	{ "next outside of a table", 0, { { T, 16, I, 0 } }, { { A, 64, N, 1 } } },
	{ "circle in a table", 0, { { T, 32, I, 0 } }, { { A, 64, N, 1 }, { A, 64, N, 0 } } },
	{ "read behind write in a table", 0, { { T, 32, I, 0 } },
	  { { A, 64, N | W, 1 }, { A, 64, 0, 0 } } },
	{ "hole in a table", 0, { { T, 16, I, 0 } }, { { UINT64_C(0xd0000000), 64, W, 0 } } },
};

static void try_chains(struct kind_rig *k, unsigned queue)
{
	for (size_t i = 0; i < ARRAY_LEN(chains); i++) {
		rig_put(&k->r, k->r.queues[queue].desc, chains[i].ring, sizeof(chains[i].ring));
		rig_put(&k->r, T, chains[i].table, sizeof(chains[i].table));
		rig_avail(&k->r, queue, chains[i].head);
		rig_kick(&k->r, queue);
		/* vsock's own stirring goes through a queue that may be the broken one. */
		if (queue != 1) {
			kind_stir(k);
		}
		if (queue == 0 && vdev_table[k->kind]->n_queues > 1) {
			kind_stir(k);
		}
		rig_run(&k->r);
		if (kind_takes(k, queue)) {
			if (rig_status(&k->r) != (LIVE | NEEDS_RESET)) {
				print_error("%s, queue %u: %s\n", vdev_table[k->kind]->name, queue,
					    chains[i].name);
			}
			assert_int_equal(rig_status(&k->r), LIVE | NEEDS_RESET);
			/* Rule 7: an event of the device; the driver is told. */
			assert_true(k->r.msi[0] > 0);
		}
		settle(k, chains[i].name);
		k->r.msi[0] = 0;
	}
}

/* --- Indices that run away. Rule 4. --- */

static void try_indices(struct kind_rig *k, unsigned queue)
{
	static const uint16_t jumps[] = { 257, 258, 0x1ff, 0x7fff, 0x8000, 0x8001, 0xfffe, 0xffff };

	for (size_t i = 0; i < ARRAY_LEN(jumps); i++) {
		struct rig_queue *q = &k->r.queues[queue];

		rig_put16(&k->r, q->avail + 2, (uint16_t)(q->avail_idx + jumps[i]));
		rig_kick(&k->r, queue);
		kind_stir(k);
		settle(k, "an index that ran away");
	}
	/* Back and forth while the device works. */
	for (unsigned i = 0; i < 4; i++) {
		struct rig_queue *q = &k->r.queues[queue];

		rig_add(&k->r, queue, &(struct rig_buf){ A, 64, i % 2 }, 1);
		rig_kick(&k->r, queue);
		rig_run(&k->r);
		rig_put16(&k->r, q->avail + 2, (uint16_t)(q->avail_idx - i));
		rig_kick(&k->r, queue);
		settle(k, "an index that went back");
	}
}

/* --- Buffers of every length and direction. Rules 3, 6. --- */

static void try_lengths(struct kind_rig *k, unsigned queue)
{
	static const uint32_t lengths[] = { 1, 2, 11, 12, 13, 15, 16, 17, 19, 20, 43, 44, 45, 511,
					    512, 513, 4095, 4096, 65535, 65536, 65537, 1 << 20 };

	for (size_t i = 0; i < ARRAY_LEN(lengths); i++) {
		for (unsigned how = 0; how < 4; how++) {
			uint32_t n = lengths[i];
			struct rig_buf bufs[3] = { { A, n, how == 1 }, { A + 8, n, true },
						   { A + 16, 1, true } };

			rig_add(&k->r, queue, bufs, how < 2 ? 1 : how);
			rig_kick(&k->r, queue);
			kind_stir(k);
			settle(k, "a length");
		}
	}
}

/* --- Rings and buffers that lie over each other. Rules 2, 3. --- */

static void try_overlaps(struct kind_rig *k, unsigned queue)
{
	for (unsigned i = 0; i < 12; i++) {
		struct rig_queue *q = &k->r.queues[queue];
		uint64_t at[] = { q->desc, q->avail, q->used, q->used + 2, q->avail + 2, q->desc + 8 };

		/* The device reads from, and writes over, its own ring. */
		rig_add(&k->r, queue, (struct rig_buf[]){ { at[i % 6], 64, false },
							  { at[(i + i / 6) % 6], 64, true } }, 2);
		rig_add(&k->r, queue, &(struct rig_buf){ at[i % 6], 64, i >= 6 }, 1);
		rig_kick(&k->r, queue);
		kind_stir(k);
		settle(k, "a ring in a buffer");
	}
}

/* --- Writes after activation. Rule 5. --- */

static void try_registers(struct kind_rig *k)
{
	static const uint32_t values[] = { 0, 1, 0xffffffff };

	for (unsigned off = 0; off < 56; off += 2) {
		for (size_t i = 0; i < ARRAY_LEN(values); i++) {
			if (off == VIRTIO_PCI_COMMON_STATUS) {
				continue;
			}
			rig_write(&k->r, VPCI_COMMON + VIRTIO_PCI_COMMON_Q_SELECT, 2, 0);
			rig_write(&k->r, VPCI_COMMON + off, 2, values[i]);
			rig_write(&k->r, VPCI_COMMON + off, 4, values[i]);
			rig_write(&k->r, VPCI_COMMON + off, 8, values[i]);
			cases++;
			assert_int_equal(rig_status(&k->r), LIVE);
			/* As if nothing had been written. */
			kind_works(k);
		}
	}
	rig_start(&k->r, 0);
}

/* --- Resets, pauses and ends at any time. Rule 5. --- */

static void try_resets(struct kind_rig *k)
{
	for (unsigned i = 0; i < 24; i++) {
		for (unsigned queue = 0; queue < vdev_table[k->kind]->n_queues; queue++) {
			for (unsigned b = 0; b < 8; b++) {
				rig_add(&k->r, queue, (struct rig_buf[]){ { k->scratch, 16, false },
									  { A, 4096, true },
									  { A, 1, true } }, 3);
			}
			rig_kick(&k->r, queue);
		}
		kind_stir(k);
		for (unsigned turn = 0; turn < i % 4; turn++) {
			assert_true(loop_turn(k->r.loop, 0) >= 0);
		}
		switch (i / 4) {
		case 0:
			rig_set_status(&k->r, 0);
			break;
		case 1:
			rig_set_status(&k->r, 128);
			break;
		case 2:
			assert_int_equal(vdev_pause(k->r.dev), 0);
			rig_set_status(&k->r, 0);
			vdev_resume(k->r.dev);
			break;
		case 3:
			rig_set_status(&k->r, 0);
			assert_int_equal(vdev_pause(k->r.dev), 0);
			vdev_resume(k->r.dev);
			break;
		case 4:
			assert_int_equal(vdev_pause(k->r.dev), 0);
			assert_int_equal(vdev_pause(k->r.dev), 0);
			vdev_resume(k->r.dev);
			break;
		default:
			rig_set_status(&k->r, 0);
			rig_set_status(&k->r, 3);
			rig_kick(&k->r, 0);
			break;
		}
		cases++;
		rig_run(&k->r);
		kind_drain(k);
		rig_start(&k->r, 0);
		kind_works(k);
	}
}

/* --- Order: what comes before its time. Rule 5. --- */

static void try_order(struct kind_rig *k)
{
	for (unsigned i = 0; i < 8; i++) {
		rig_reset(&k->r);
		rig_msix(&k->r);
		rig_kick(&k->r, 0);
		if (i & 1) {
			rig_queue(&k->r, 0, 8);   /* before FEATURES_OK */
		}
		rig_set_status(&k->r, 3);
		rig_features(&k->r, rig_offered(&k->r));
		if (i & 2) {
			rig_queue(&k->r, 0, 8);
			rig_kick(&k->r, 0);
		}
		rig_set_status(&k->r, 11);
		if (i & 4) {
			rig_queue(&k->r, 0, 8);
			rig_queue(&k->r, 0, 4);   /* a second time */
		}
		rig_add(&k->r, 0, &(struct rig_buf){ A, 64, true }, 1);
		rig_kick(&k->r, 0);
		rig_run(&k->r);
		assert_int_equal(k->r.dev->queues[0].in_flight, 0);
		rig_set_status(&k->r, 15);
		rig_kick(&k->r, 0);
		settle(k, "an order of set-up");
	}
}

/* --- Noise in the rings, the same each time. Rules 2 to 7. --- */

static uint64_t noise_state;

static uint64_t noise(void)
{
	noise_state ^= noise_state << 13;
	noise_state ^= noise_state >> 7;
	noise_state ^= noise_state << 17;
	return noise_state;
}

static void try_noise(struct kind_rig *k, unsigned queue)
{
	for (unsigned i = 0; i < 64; i++) {
		struct rig_queue *q = &k->r.queues[queue];

		noise_state = 88172645463325252u + i;
		for (unsigned d = 0; d < q->size; d++) {
			bool wild = noise() % 8 == 0;

			/* Never in the second RAM: that is the canary's. */
			rig_desc(&k->r, q->desc, d, wild ? noise() | BIT(33) : noise() % RIG_RAM_BYTES,
				 wild ? (uint32_t)noise() : (uint32_t)(noise() % 8192),
				 (uint16_t)(noise() % 8), (uint16_t)(noise() % (q->size + 1u)));
			rig_put16(&k->r, q->avail + 4 + d * 2, (uint16_t)(noise() % (q->size + 1u)));
		}
		rig_put16(&k->r, q->avail + 2, (uint16_t)(noise() % (q->size + 2u)));
		rig_kick(&k->r, queue);
		kind_stir(k);
		settle(k, "noise");
	}
}

static void one_kind(size_t kind)
{
	struct kind_rig k, other;
	unsigned fds = descriptors(), n_queues = vdev_table[kind]->n_queues;

	cases = 0;
	kind_init(&k, kind, false);
	kind_init(&other, kind, true);
	put_canary(&k.r);
	rig_start(&k.r, 0);
	rig_start(&other.r, 0);
	for (unsigned queue = 0; queue < n_queues; queue++) {
		try_chains(&k, queue);
		try_indices(&k, queue);
		try_lengths(&k, queue);
		try_overlaps(&k, queue);
		try_noise(&k, queue);
		kind_works(&other);
	}
	try_registers(&k);
	try_resets(&k);
	try_order(&k);
	check_canary(&k.r);
	kind_works(&other);
	assert_int_equal(other.r.dev->faults, 0);
	kind_fini(&k);
	kind_fini(&other);
	assert_int_equal(descriptors(), fds);
	print_message("%s: %u cases\n", vdev_table[kind]->name, cases);
	assert_true(cases >= CASES_LEAST);
}

int main(void)
{
	return kinds_each("hostile", one_kind);
}
