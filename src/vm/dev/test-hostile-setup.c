/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A hostile driver, before and around its requests: where it puts its rings, what it agrees to,
 * every register in every phase and width, the table of interrupts. As in test-hostile.c a
 * device may go on or ask for a reset, and works again after one; and it does not grow.
 *
 * Names the rules of docs/security.md, virtual machines, that the cases try.
 */
#include <malloc.h>
#include <string.h>

#include "base/test.h"
#include "vm/dev/test-kinds.h"

enum { LIVE = 15, NEEDS_RESET = 64, READY = 11, CASES_LEAST = 150, GROWTH_MAX = 64 << 10 };

static unsigned cases, messages;

/* The driver's interrupts go where it says; here nobody cares where that is. */
static void any_msi(void *ctx unused_arg, uint64_t addr unused_arg, uint32_t data unused_arg)
{
	messages++;
}

static void write_common(struct rig *r, unsigned off, unsigned n, uint64_t v)
{
	rig_write(r, VPCI_COMMON + off, n, v);
}

static uint64_t read_common(struct rig *r, unsigned off, unsigned n)
{
	return rig_read(r, VPCI_COMMON + off, n);
}

/* Up to FEATURES_OK. */
static void negotiate(struct rig *r)
{
	rig_reset(r);
	rig_msix(r);
	rig_set_status(r, 3);
	rig_features(r, rig_offered(r));
	rig_set_status(r, READY);
	assert_int_equal(rig_status(r), READY);
}

/* After a case. */
static void settle(struct kind_rig *k, const char *name)
{
	cases++;
	rig_run(&k->r);
	uint8_t status = rig_status(&k->r);

	if ((status & NEEDS_RESET) && k->r.dev->faults == 0) {
		fail_msg("%s: %s: status %#x", vdev_table[k->kind]->name, name, status);
	}
	kind_drain(k);
	rig_start(&k->r, 0);
	kind_works(k);
}

/* --- Rings in strange places. Rules 2, 5. --- */

static void put_ring(struct rig *r, unsigned queue, uint64_t desc, uint64_t avail, uint64_t used)
{
	const uint64_t at[] = { desc, avail, used };
	static const unsigned regs[] = { VIRTIO_PCI_COMMON_Q_DESCLO, VIRTIO_PCI_COMMON_Q_AVAILLO,
					 VIRTIO_PCI_COMMON_Q_USEDLO };

	write_common(r, VIRTIO_PCI_COMMON_Q_SELECT, 2, queue);
	for (unsigned i = 0; i < ARRAY_LEN(at); i++) {
		write_common(r, regs[i], 4, (uint32_t)at[i]);
		write_common(r, regs[i] + 4, 4, at[i] >> 32);
	}
	write_common(r, VIRTIO_PCI_COMMON_Q_ENABLE, 2, 1);
}

/* DRIVER_OK, whatever became of it; then everything that makes a device look at its rings. */
static void go(struct kind_rig *k)
{
	bool all = true;

	rig_set_status(&k->r, LIVE);
	for (unsigned i = 0; i < vdev_table[k->kind]->n_queues; i++) {
		rig_kick(&k->r, i);
		all = all && k->r.queues[i].size > 0;
	}
	if (all || k->host_in >= 0) { /* vsock's stirring goes through the queues */
		kind_stir(k);
	}
	rig_run(&k->r);
}

static void try_places(struct kind_rig *k, unsigned queue)
{
	const uint64_t ends = RIG_RAM_BYTES, high = RIG_HIGH + RIG_HIGH_BYTES;
	const uint64_t size = vdev_table[k->kind]->queue_max;
	const uint64_t good = KIND_FREE, desc = 16 * size, avail = 6 + 2 * size, used = 6 + 8 * size;
	const struct {
		uint64_t at[3];
	} places[] = {
		/* Aligned as nothing is. */
		{ { good + 1, good + 0x8000, good + 0x10000 } },
		{ { good + 8, good + 0x8000, good + 0x10000 } },
		{ { good, good + 0x8001, good + 0x10000 } },
		{ { good, good + 0x8000, good + 0x10002 } },
		/* The last bytes of RAM, and one too many. */
		{ { ends - desc, good, good + 0x10000 } },
		{ { ends - desc + 16, good, good + 0x10000 } },
		{ { good, ends - ((avail + 1) & ~1u), good + 0x10000 } },
		{ { good, ends - avail + 2, good + 0x10000 } },
		{ { good, good + 0x8000, ends - ((used + 3) & ~3u) } },
		{ { good, good + 0x8000, ends - 4 } },
		{ { high - desc, good, good + 0x10000 } },
		{ { high - 16, good, good + 0x10000 } },
		{ { good, good + 0x8000, high - 8 } },
		/* Nothing there, registers, interrupt controllers. */
		{ { ends, good, good + 0x10000 } },
		{ { UINT64_C(0xc0000000), good, good + 0x10000 } },
		{ { good, UINT64_C(0xe0000000), good + 0x10000 } },
		{ { good, good + 0x8000, UINT64_C(0xfee00000) } },
		{ { good, good + 0x8000, UINT64_C(0xfec00000) } },
		/* Round the address space. */
		{ { UINT64_MAX & ~UINT64_C(15), good, good + 0x10000 } },
		{ { good, UINT64_MAX & ~UINT64_C(1), good + 0x10000 } },
		{ { good, good + 0x8000, UINT64_MAX & ~UINT64_C(3) } },
		{ { UINT64_MAX - desc + 1, good, good + 0x10000 } },
		{ { BIT(63), BIT(63), BIT(63) } },
		/* At the very start, and over one another. */
		{ { 0, 0x4000, 0x8000 } },
		{ { good, good, good } },
		{ { good, good + 16, good + 32 } },
		{ { good, good + desc - 2, good + desc - 4 } },
		{ { good + used, good, good } },
	};

	for (size_t i = 0; i < ARRAY_LEN(places); i++) {
		negotiate(&k->r);
		for (unsigned other = 0; other < vdev_table[k->kind]->n_queues; other++) {
			if (other != queue) {
				rig_queue(&k->r, other, vdev_table[k->kind]->queue_max);
			}
		}
		k->r.queues[queue] = (struct rig_queue){ 0 };
		put_ring(&k->r, queue, places[i].at[0], places[i].at[1], places[i].at[2]);
		/* And what lies there is not a ring at all. */
		uint8_t junk[512];

		memset(junk, 0x81 + (int)i, sizeof(junk));
		rig_put(&k->r, good, junk, sizeof(junk));
		go(k);
		settle(k, "a ring in a strange place");
	}
}

static void try_sizes(struct kind_rig *k, unsigned queue)
{
	static const uint32_t sizes[] = { 0, 1, 2, 3, 4, 5, 7, 8, 16, 100, 127, 128, 255, 256, 257,
					  512, 1024, 0x7fff, 0x8000, 0xffff, 0x10001 };
	uint16_t max = vdev_table[k->kind]->queue_max;

	for (size_t i = 0; i < ARRAY_LEN(sizes); i++) {
		negotiate(&k->r);
		write_common(&k->r, VIRTIO_PCI_COMMON_Q_SELECT, 2, queue);
		write_common(&k->r, VIRTIO_PCI_COMMON_Q_SIZE, 2, sizes[i]);
		uint64_t is = read_common(&k->r, VIRTIO_PCI_COMMON_Q_SIZE, 2);

		assert_true(is > 0 && is <= max && (is & (is - 1)) == 0);
		put_ring(&k->r, queue, KIND_FREE, KIND_FREE + 0x8000, KIND_FREE + 0x10000);
		/* Now it is too late. */
		write_common(&k->r, VIRTIO_PCI_COMMON_Q_SIZE, 2, max);
		write_common(&k->r, VIRTIO_PCI_COMMON_Q_DESCLO, 4, 0);
		write_common(&k->r, VIRTIO_PCI_COMMON_Q_ENABLE, 2, 0);
		assert_int_equal(read_common(&k->r, VIRTIO_PCI_COMMON_Q_SIZE, 2), is);
		assert_int_equal(read_common(&k->r, VIRTIO_PCI_COMMON_Q_DESCLO, 4), KIND_FREE);
		assert_int_equal(read_common(&k->r, VIRTIO_PCI_COMMON_Q_ENABLE, 2), 1);
		/* A head and an index that only a larger ring has. */
		rig_put16(&k->r, KIND_FREE + 0x8004, (uint16_t)is);
		rig_put16(&k->r, KIND_FREE + 0x8002, (uint16_t)(is + 1));
		memset(k->r.queues, 0, sizeof(k->r.queues));
		go(k);
		settle(k, "a size");
	}
}

/* --- Features. Rule 5. --- */

static void try_features(struct kind_rig *k)
{
	uint64_t offered = rig_offered(&k->r);

	for (unsigned i = 0; i < 64; i++) {
		rig_reset(&k->r);
		rig_set_status(&k->r, 3);
		rig_features(&k->r, offered ^ BIT(i));
		rig_set_status(&k->r, READY);
		bool agreed = (rig_status(&k->r) & 8) != 0;

		/* More than is offered, or an old device: never. */
		assert_false(agreed && (!(offered & BIT(i)) || i == VIRTIO_F_VERSION_1));
		if (!agreed) {
			rig_set_status(&k->r, LIVE);
			assert_false(rig_status(&k->r) & 4);
			rig_kick(&k->r, 0);
			settle(k, "features that were refused");
			continue;
		}
		/* Too late, too. */
		rig_features(&k->r, UINT64_MAX);
		cases++;
		rig_start(&k->r, BIT(i));
		kind_works(k);
	}
}

/* --- The table of interrupts. --- */

static void try_vectors(struct kind_rig *k)
{
	static const uint32_t vectors[] = { 0, 1, 2, 3, 4, 5, 8, 15, 16, 31, 32, 33, 63, 64, 255, 256,
					    0x7ff, 0x800, 0x7fff, 0x8000, 0xfffe, 0xffff };
	unsigned n = vdev_table[k->kind]->n_queues + 1u;

	for (size_t i = 0; i < ARRAY_LEN(vectors); i++) {
		rig_start(&k->r, 0);
		for (unsigned queue = 0; queue < n - 1; queue++) {
			write_common(&k->r, VIRTIO_PCI_COMMON_Q_SELECT, 2, queue);
			write_common(&k->r, VIRTIO_PCI_COMMON_Q_MSIX, 2, vectors[i]);
			assert_int_equal(read_common(&k->r, VIRTIO_PCI_COMMON_Q_MSIX, 2),
					 vectors[i] < n ? vectors[i] : 0xffff);
		}
		write_common(&k->r, VIRTIO_PCI_COMMON_MSIX, 2, vectors[i]);
		assert_int_equal(read_common(&k->r, VIRTIO_PCI_COMMON_MSIX, 2),
				 vectors[i] < n ? vectors[i] : 0xffff);
		kind_works(k);
		settle(k, "a vector");
	}
}

static void set_msix(struct rig *r, uint8_t bits)
{
	struct pci_function *f = &r->pci->fn;

	vdev_lock(r->dev);
	f->config[r->pci->msix_cap + 3] = bits;
	f->config_written(f, r->pci->msix_cap + 2, 2);
	vdev_unlock(r->dev);
}

static void try_table(struct kind_rig *k)
{
	static const uint64_t values[] = { 0, 1, 0xffffffff, UINT64_MAX, 0xfee00000, 0xdeadbeef };

	/* Every place of it and behind it, in every width, with interrupts on, off and masked. */
	for (unsigned off = 0; off < 0x1000; off += off < 0x200 ? 1 : 61) {
		for (unsigned n = 1; n <= 8; n *= 2) {
			for (size_t i = 0; i < ARRAY_LEN(values); i++) {
				set_msix(&k->r, (uint8_t)(0x80 | (i & 1) << 6));
				rig_write(&k->r, VPCI_TABLE + off, n, values[i]);
				rig_write(&k->r, VPCI_PBA + off, n, values[i]);
				(void)rig_read(&k->r, VPCI_TABLE + off, n); /* anything */
				(void)rig_read(&k->r, VPCI_PBA + off, n);   /* anything */
			}
		}
		if (off % 8 == 0) {
			kind_works(k);
			cases++;
		}
	}
	/* What waits behind a mask comes once, however often it is lifted. */
	for (unsigned i = 0; i < 32; i++) {
		rig_start(&k->r, 0);
		set_msix(&k->r, 0xc0);
		rig_run(&k->r);
		messages = 0;
		kind_works(k);
		assert_int_equal(messages, 0);
		set_msix(&k->r, (uint8_t)(i & 1 ? 0x80 : 0xc0));
		set_msix(&k->r, 0x80);
		assert_true(messages <= vdev_table[k->kind]->n_queues + 1u);
		unsigned before = messages;

		set_msix(&k->r, 0);
		set_msix(&k->r, 0xc0);
		set_msix(&k->r, 0x80);
		assert_int_equal(messages, before);
		settle(k, "masks");
	}
}

/* --- Every register, in every width, in every phase. Rules 5, 7. --- */

static void to_phase(struct kind_rig *k, unsigned phase)
{
	rig_reset(&k->r);
	if (phase == 1) {
		rig_set_status(&k->r, 3);
	} else if (phase == 2) {
		negotiate(&k->r);
	} else if (phase == 3) {
		rig_start(&k->r, 0);
	} else if (phase == 4) {
		rig_start(&k->r, 0);
		rig_set_status(&k->r, 128 | LIVE);   /* the driver gave up */
	}
}

static void try_bar(struct kind_rig *k)
{
	static const uint64_t values[] = { 0, UINT64_MAX, UINT64_C(0x5a5a5a5a5a5a5a5a), 1 };
	static const unsigned pages[] = { VPCI_COMMON, VPCI_ISR, VPCI_CONFIG, VPCI_NOTIFY, VPCI_TABLE,
					  VPCI_PBA, 0x6000, 0x7000 };

	for (unsigned phase = 0; phase < 5; phase++) {
		for (size_t p = 0; p < ARRAY_LEN(pages); p++) {
			to_phase(k, phase);
			for (unsigned off = 0; off < 0x1000; off += off < 0x80 ? 1 : 251) {
				for (unsigned n = 1; n <= 8; n *= 2) {
					uint64_t v = values[(off + n + phase) % ARRAY_LEN(values)];

					/* Over the status a guest only resets itself. */
					if (pages[p] != VPCI_COMMON ||
					    off != VIRTIO_PCI_COMMON_STATUS) {
						rig_write(&k->r, pages[p] + off, n, v);
					}
					(void)rig_read(&k->r, pages[p] + off, n); /* anything */
				}
			}
			settle(k, "registers");
		}
	}
	for (unsigned v = 0; v < 256; v++) {
		to_phase(k, v % 5);
		rig_set_status(&k->r, (uint8_t)v);
		rig_set_status(&k->r, (uint8_t)(v * 7));
		rig_kick(&k->r, v % 8);
		settle(k, "a status");
	}
}

/* --- The window in configuration space. --- */

static void try_window(struct kind_rig *k)
{
	static const uint32_t lens[] = { 0, 1, 2, 3, 4, 5, 8, 16, 0x80000000, 0xffffffff };
	static const uint32_t offs[] = { 0, 1, 2, 3, 0x14, 0x16, 0x1000, 0x2000, 0x3000, 0x3001, 0x4000,
					 0x5000, 0x7ffc, 0x7ffd, 0x7fff, 0x8000, 0x10000, 0x7fffffff,
					 0x80000000, 0xfffffffc, 0xffffffff };
	struct pci_function *f = &k->r.pci->fn;
	unsigned cap = k->r.pci->window_cap;

	for (size_t o = 0; o < ARRAY_LEN(offs); o++) {
		for (size_t l = 0; l < ARRAY_LEN(lens); l++) {
			for (unsigned bar = 0; bar < 7; bar++) {
				vdev_lock(k->r.dev);
				f->config[cap + 4] = (uint8_t)(bar == 6 ? 255 : bar);
				memcpy(f->config + cap + 8, &offs[o], 4);
				memcpy(f->config + cap + 12, &lens[l], 4);
				memset(f->config + cap + 16, 0x80, 4);
				for (unsigned n = 1; n <= 8; n *= 2) {
					f->config_written(f, cap + 16, n);
					f->config_read(f, cap + 16, n);
					f->config_written(f, cap + 14, n);
					f->config_read(f, cap + 19, n);
				}
				vdev_unlock(k->r.dev);
			}
			settle(k, "the window");
		}
	}
}

/* --- All of it --- */

static size_t in_use(void)
{
	return BUILD_ASAN ? 0 : mallinfo2().uordblks;
}

static void one_kind(size_t kind)
{
	struct kind_rig k;

	cases = 0;
	kind_init(&k, kind, false);
	k.r.machine.irq.msi = any_msi;
	rig_start(&k.r, 0);
	kind_works(&k);
	size_t before = in_use();

	for (unsigned queue = 0; queue < vdev_table[kind]->n_queues; queue++) {
		try_places(&k, queue);
		try_sizes(&k, queue);
	}
	try_features(&k);
	try_vectors(&k);
	try_table(&k);
	try_bar(&k);
	try_window(&k);
	size_t after = in_use();

	if (after > before + GROWTH_MAX) {
		fail_msg("%s: it grew by %zu bytes", vdev_table[kind]->name, after - before);
	}
	kind_fini(&k);
	print_message("%s: %u cases\n", vdev_table[kind]->name, cases);
	assert_true(cases >= CASES_LEAST);
}

int main(void)
{
	return kinds_each("hostile set-up", one_kind);
}
