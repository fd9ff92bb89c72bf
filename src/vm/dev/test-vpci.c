/* SPDX-License-Identifier: Apache-2.0 */
/* Registers and phases, with the entropy device behind them. Spec: virtio 1.2, 2.1, 3.1, 4.1. */
#include <errno.h>
#include <fcntl.h>
#include <linux/pci_regs.h>
#include <string.h>

#include "base/test.h"
#include "sys/file.h"
#include "vm/dev/blk.h"
#include "vm/dev/rng.h"
#include "vm/dev/test-rig.h"

enum { ACK = 1, DRIVER = 2, DRIVER_OK = 4, FEATURES_OK = 8, NEEDS_RESET = 64, FAILED = 128 };

static void start(struct rig *r)
{
	struct rng_conf conf = { .fd = sys_openat(AT_FDCWD, "/dev/urandom", O_RDONLY, 0) };

	rig_init(r, &vdev_rng, &conf);
}

static uint64_t reg(struct rig *r, unsigned off, unsigned n)
{
	return rig_read(r, VPCI_COMMON + off, n);
}

static void set(struct rig *r, unsigned off, unsigned n, uint64_t v)
{
	rig_write(r, VPCI_COMMON + off, n, v);
}

/* What the driver writes, and what status and phase are then. */
static void test_status(void **state unused_arg)
{
	static const struct {
		unsigned       n;
		uint8_t        write[5];
		uint8_t        status;
		enum vdev_phase phase;
	} rows[] = {
		{ 1, { ACK }, ACK, VDEV_FOUND },
		{ 2, { ACK, ACK | DRIVER }, 3, VDEV_FOUND },
		{ 2, { ACK, DRIVER }, 3, VDEV_FOUND },                     /* bits stay */
		{ 3, { ACK, 3, 3 | FEATURES_OK }, 11, VDEV_READY },
		{ 2, { ACK, 1 | FEATURES_OK }, 1, VDEV_FOUND },            /* no DRIVER */
		{ 3, { ACK, 3, 3 | DRIVER_OK }, 3, VDEV_FOUND },           /* no FEATURES_OK */
		{ 1, { DRIVER_OK }, 0, VDEV_RESET },
		{ 1, { FEATURES_OK }, 0, VDEV_RESET },
		{ 1, { NEEDS_RESET }, 0, VDEV_RESET },                     /* ours alone */
		{ 1, { FAILED }, 0, VDEV_RESET },
		{ 3, { ACK, 3, FAILED }, 3 | FAILED, VDEV_BROKEN },
		{ 5, { ACK, 3, FAILED, 11, 15 }, 3 | FAILED, VDEV_BROKEN },
		{ 4, { ACK, 3, 11, 0 }, 0, VDEV_RESET },
		{ 5, { ACK, 3, 11, 0, ACK }, ACK, VDEV_FOUND },
		{ 4, { ACK, 3, 11, 15 }, 15, VDEV_LIVE },
		{ 5, { ACK, 3, 11, 15, 11 }, 15, VDEV_LIVE },
		{ 5, { ACK, 3, 11, 15, 15 | FAILED }, 15 | FAILED, VDEV_BROKEN },
		{ 3, { ACK, 3, 15 }, 15, VDEV_LIVE },                      /* both at once */
	};

	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		struct rig r;

		start(&r);
		rig_features(&r, 0);
		for (unsigned k = 0; k < rows[i].n; k++) {
			if (k == 1 || rows[i].write[0] != ACK) {
				rig_features(&r, BIT(VIRTIO_F_VERSION_1));
			}
			rig_set_status(&r, rows[i].write[k]);
			if (rows[i].write[k] == 0) {
				rig_run(&r);
			}
		}
		if (r.dev->phase != rows[i].phase) {
			print_error("row %zu: %s\n", i, vdev_phase_names[r.dev->phase]);
		}
		assert_int_equal(r.dev->phase, rows[i].phase);
		assert_int_equal(rig_status(&r), rows[i].status);
		rig_fini(&r);
	}
}

/* Spec: 2.2.2, 6.1: what was not offered, and not to be of version 1, is refused. */
static void test_features(void **state unused_arg)
{
	static const struct {
		uint64_t add, drop;
		bool     good;
	} rows[] = {
		{ 0, 0, true },
		{ BIT(0), 0, false },
		{ BIT(63), 0, false },
		{ 0, BIT(VIRTIO_F_VERSION_1), false },
		{ 0, BIT(VIRTIO_RING_F_EVENT_IDX), true },
		{ BIT(VIRTIO_F_RING_PACKED), 0, false },
	};

	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		struct rig r;

		start(&r);
		rig_set_status(&r, 3);
		rig_features(&r, (rig_offered(&r) | rows[i].add) & ~rows[i].drop);
		rig_set_status(&r, 11);
		assert_int_equal(rig_status(&r), rows[i].good ? 11 : 3);
		/* Frozen from then on. */
		rig_features(&r, 0);
		assert_int_equal(r.dev->features == 0, !rows[i].good);
		rig_fini(&r);
	}
}

/* Words of features that do not exist. */
static void test_feature_words(void **state unused_arg)
{
	struct rig r;

	start(&r);
	rig_set_status(&r, 3);
	for (unsigned i = 0; i < 40; i++) {
		uint32_t word = i < 32 ? (uint32_t)BIT(i) + 1 : UINT32_MAX - i;

		if (word < 2) {
			continue;
		}
		set(&r, VIRTIO_PCI_COMMON_DFSELECT, 4, word);
		assert_int_equal(reg(&r, VIRTIO_PCI_COMMON_DF, 4), 0);
		set(&r, VIRTIO_PCI_COMMON_GFSELECT, 4, word);
		set(&r, VIRTIO_PCI_COMMON_GF, 4, UINT32_MAX);
		assert_int_equal(reg(&r, VIRTIO_PCI_COMMON_GF, 4), word == 2 ? 0 : 0);
	}
	assert_int_equal(r.dev->features, 0);
	rig_fini(&r);
}

/* Security rule 2.2.5: every register of a queue, in every phase. What CVE-2026-5747 lacked. */
static void test_queue_frozen(void **state unused_arg)
{
	static const struct {
		unsigned off, n;
		uint64_t value;
	} regs[] = {
		{ VIRTIO_PCI_COMMON_Q_SIZE, 2, 4 },
		{ VIRTIO_PCI_COMMON_Q_DESCLO, 4, 0x5000 },
		{ VIRTIO_PCI_COMMON_Q_DESCHI, 4, 1 },
		{ VIRTIO_PCI_COMMON_Q_AVAILLO, 4, 0x6000 },
		{ VIRTIO_PCI_COMMON_Q_AVAILHI, 4, 1 },
		{ VIRTIO_PCI_COMMON_Q_USEDLO, 4, 0x7000 },
		{ VIRTIO_PCI_COMMON_Q_USEDHI, 4, 1 },
	};
	static const uint8_t statuses[] = { 0, 1, 3, 11, 15 };

	for (size_t i = 0; i < ARRAY_LEN(regs); i++) {
		for (size_t k = 0; k < ARRAY_LEN(statuses); k++) {
			for (unsigned enabled = 0; enabled < 2; enabled++) {
				struct rig r;

				start(&r);
				if (statuses[k] >= 1) {
					rig_set_status(&r, 1);
				}
				if (statuses[k] >= 3) {
					rig_set_status(&r, 3);
					rig_features(&r, rig_offered(&r));
				}
				if (statuses[k] >= 11) {
					rig_set_status(&r, 11);
					if (enabled) {
						rig_queue(&r, 0, 8);
					}
				}
				if (statuses[k] >= 15) {
					rig_set_status(&r, 15);
				}
				assert_int_equal(rig_status(&r), statuses[k]);
				set(&r, VIRTIO_PCI_COMMON_Q_SELECT, 2, 0);
				uint64_t was = reg(&r, regs[i].off, regs[i].n);
				bool may = statuses[k] == 11 && !enabled;

				set(&r, regs[i].off, regs[i].n, regs[i].value);
				assert_int_equal(reg(&r, regs[i].off, regs[i].n),
						 may ? regs[i].value : was);
				rig_fini(&r);
			}
		}
	}
}

/* Enabling is once, with 1, in time; a bad ring breaks the device before it is live. */
static void test_enable(void **state unused_arg)
{
	struct rig r;

	start(&r);
	rig_set_status(&r, 3);
	rig_features(&r, rig_offered(&r));
	set(&r, VIRTIO_PCI_COMMON_Q_ENABLE, 2, 1);
	assert_int_equal(reg(&r, VIRTIO_PCI_COMMON_Q_ENABLE, 2), 0);
	rig_set_status(&r, 11);
	set(&r, VIRTIO_PCI_COMMON_Q_ENABLE, 2, 2);
	assert_int_equal(reg(&r, VIRTIO_PCI_COMMON_Q_ENABLE, 2), 0);
	rig_queue(&r, 0, 8);
	assert_int_equal(reg(&r, VIRTIO_PCI_COMMON_Q_ENABLE, 2), 1);
	set(&r, VIRTIO_PCI_COMMON_Q_ENABLE, 2, 0);
	assert_int_equal(reg(&r, VIRTIO_PCI_COMMON_Q_ENABLE, 2), 1);
	rig_reset(&r);
	assert_int_equal(reg(&r, VIRTIO_PCI_COMMON_Q_ENABLE, 2), 0);
	assert_int_equal(reg(&r, VIRTIO_PCI_COMMON_Q_SIZE, 2), r.dev->desc->queue_max);

	rig_set_status(&r, 3);
	rig_features(&r, rig_offered(&r));
	rig_set_status(&r, 11);
	set(&r, VIRTIO_PCI_COMMON_Q_DESCHI, 4, 0x80000000);
	set(&r, VIRTIO_PCI_COMMON_Q_ENABLE, 2, 1);
	assert_int_equal(rig_status(&r), 11 | NEEDS_RESET);
	assert_int_equal(r.msi[0], 0);   /* only a driver that said DRIVER_OK is told */
	rig_set_status(&r, 15);
	assert_int_equal(rig_status(&r), 11 | NEEDS_RESET);
	rig_start(&r, 0);
	rig_fini(&r);
}

/* Queues that do not exist; a live device with none enabled. */
static void test_no_queue(void **state unused_arg)
{
	static const unsigned numbers[] = { 1, 2, 4, 5, 255, 0x7fff, 0xffff };
	struct rig r;

	start(&r);
	rig_set_status(&r, 3);
	rig_features(&r, rig_offered(&r));
	rig_set_status(&r, 11);
	for (size_t i = 0; i < ARRAY_LEN(numbers); i++) {
		set(&r, VIRTIO_PCI_COMMON_Q_SELECT, 2, numbers[i]);
		assert_int_equal(reg(&r, VIRTIO_PCI_COMMON_Q_SIZE, 2), 0);
		for (unsigned off = VIRTIO_PCI_COMMON_Q_SIZE; off < 56; off += 2) {
			set(&r, off, 2, 0xffff);
			set(&r, off, 4, 0xffffffff);
		}
		set(&r, VIRTIO_PCI_COMMON_Q_ENABLE, 2, 1);
		assert_int_equal(reg(&r, VIRTIO_PCI_COMMON_Q_ENABLE, 2), 0);
		assert_int_equal(reg(&r, VIRTIO_PCI_COMMON_Q_MSIX, 2), VPCI_NO_VECTOR);
	}
	rig_set_status(&r, 15);
	for (unsigned i = 0; i < 0x1000; i++) {
		rig_write(&r, VPCI_NOTIFY + i, 2, i);
	}
	rig_run(&r);
	assert_int_equal(rig_status(&r), 15);
	rig_fini(&r);
}

/* Every offset with every width, in every phase: nothing happens but what the table says. */
static void test_all_offsets(void **state unused_arg)
{
	static const uint64_t values[] = { 0, 1, 0x5555555555555555, UINT64_MAX };

	for (unsigned phase = 0; phase < 3; phase++) {
		struct rig r;

		start(&r);
		if (phase == 1) {
			rig_start(&r, 0);
		}
		for (unsigned off = 0; off < VPCI_BAR_BYTES; off += off % 0x1000 < 0x100 ? 1 : 61) {
			for (unsigned n = 1; n <= 8; n *= 2) {
				if (off + n > VPCI_BAR_BYTES) {
					continue;
				}
				if (phase == 2 || off != VPCI_COMMON + VIRTIO_PCI_COMMON_STATUS) {
					rig_write(&r, off, n, values[(off + n) % 4]);
				}
				uint64_t v = rig_read(&r, off, n);

				assert_true(n == 8 || v < BIT(n * 8));
			}
		}
		rig_run(&r);
		rig_start(&r, 0);
		rig_fini(&r);
	}
}

/* Spec: PCI 3.0, 6.8: masks hold interrupts back, and pending bits remember them. */
static void test_msix(void **state unused_arg)
{
	struct rig r;

	start(&r);
	rig_start(&r, 0);
	uint64_t p = rig_alloc(&r, 64);

	rig_write(&r, VPCI_TABLE + 16 + 12, 4, 1);
	rig_add(&r, 0, &(struct rig_buf){ p, 8, true }, 1);
	rig_kick(&r, 0);
	(void)rig_take(&r, 0); /* 8 */
	rig_run(&r);
	assert_int_equal(r.msi[1], 0);
	assert_int_equal(rig_read(&r, VPCI_PBA, 8), 2);
	rig_write(&r, VPCI_PBA, 8, 0);
	assert_int_equal(rig_read(&r, VPCI_PBA, 8), 2);
	rig_write(&r, VPCI_TABLE + 16 + 12, 4, 0);
	assert_int_equal(r.msi[1], 1);
	assert_int_equal(rig_read(&r, VPCI_PBA, 8), 0);

	/* The whole function, through config space. */
	unsigned at = r.pci->msix_cap + PCI_MSIX_FLAGS + 1;

	r.pci->fn.config[at] = (PCI_MSIX_FLAGS_ENABLE | PCI_MSIX_FLAGS_MASKALL) >> 8;
	rig_add(&r, 0, &(struct rig_buf){ p, 8, true }, 1);
	rig_kick(&r, 0);
	(void)rig_take(&r, 0); /* 8 */
	rig_run(&r);
	assert_int_equal(r.msi[1], 1);
	r.pci->fn.config[at] = PCI_MSIX_FLAGS_ENABLE >> 8;
	vdev_lock(r.dev);
	r.pci->fn.config_written(&r.pci->fn, at, 1);
	vdev_unlock(r.dev);
	assert_int_equal(r.msi[1], 2);

	/* Vectors that do not exist read back as none. */
	set(&r, VIRTIO_PCI_COMMON_MSIX, 2, VPCI_VECTORS);
	assert_int_equal(reg(&r, VIRTIO_PCI_COMMON_MSIX, 2), VPCI_NO_VECTOR);
	set(&r, VIRTIO_PCI_COMMON_Q_SELECT, 2, 0);
	set(&r, VIRTIO_PCI_COMMON_Q_MSIX, 2, 0x1001);
	assert_int_equal(reg(&r, VIRTIO_PCI_COMMON_Q_MSIX, 2), VPCI_NO_VECTOR);
	rig_fini(&r);
}

/* Capabilities as a driver walks them. Spec: virtio 1.2, 4.1.4. */
static void test_capabilities(void **state unused_arg)
{
	struct rig r;
	unsigned seen = 0, steps = 0;

	start(&r);
	const uint8_t *c = r.pci->fn.config;

	assert_int_equal(c[0] | c[1] << 8, 0x1af4);
	assert_int_equal(c[2] | c[3] << 8, 0x1040 + 4);
	for (unsigned at = c[PCI_CAPABILITY_LIST]; at != 0 && steps < 16; at = c[at + 1], steps++) {
		assert_true(at >= 0x40 && at % 4 == 0);
		if (c[at] != PCI_CAP_ID_VNDR) {
			assert_int_equal(c[at], PCI_CAP_ID_MSIX);
			continue;
		}
		uint32_t off, len;

		memcpy(&off, c + at + 8, 4);
		memcpy(&len, c + at + 12, 4);
		assert_in_range(c[at + 3], 1, 5);
		assert_true(off + len <= VPCI_BAR_BYTES);
		seen |= 1u << c[at + 3];
	}
	/* All but device configuration, which this device has none of. */
	assert_int_equal(seen, 1u << 1 | 1u << 2 | 1u << 3 | 1u << 5);
	rig_fini(&r);
}

/* Spec: 4.1.4.9: the BAR through config space; nowhere else. */
static void test_window(void **state unused_arg)
{
	struct rig r;
	static const struct {
		uint8_t  bar;
		uint32_t off, n;
		bool     good;
	} rows[] = {
		{ 0, VIRTIO_PCI_COMMON_STATUS, 1, true }, { 1, VIRTIO_PCI_COMMON_STATUS, 1, false },
		{ 0, VIRTIO_PCI_COMMON_STATUS, 2, false }, { 0, VPCI_BAR_BYTES, 1, false },
		{ 0, UINT32_MAX, 1, false }, { 0, UINT32_MAX - 3, 4, false },
		{ 0, 0, 0, false }, { 0, 0, 8, false }, { 0, 1, 4, false },
		{ 255, 0, 4, false },
	};

	start(&r);
	struct pci_function *f = &r.pci->fn;
	unsigned cap = r.pci->window_cap;

	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		uint32_t data = 1, zero = 0;

		f->config[cap + 4] = rows[i].bar;
		memcpy(f->config + cap + 8, &rows[i].off, 4);
		memcpy(f->config + cap + 12, &rows[i].n, 4);
		memcpy(f->config + cap + 16, &data, 4);
		vdev_lock(r.dev);
		f->config_written(f, cap + 16, 4);
		vdev_unlock(r.dev);
		assert_int_equal(rig_status(&r), rows[i].good ? 1 : 0);
		memcpy(f->config + cap + 16, &zero, 4);
		vdev_lock(r.dev);
		f->config_read(f, cap + 16, 4);
		vdev_unlock(r.dev);
		assert_int_equal(f->config[cap + 16], rows[i].good ? 1 : 0);
		rig_reset(&r);
	}
	rig_fini(&r);
}

/* Two of every kind in one process; one that fails does not touch the other. Rule 6.4. */
static void test_two(void **state unused_arg)
{
	struct rig a, b;

	start(&a);
	start(&b);
	rig_start(&a, 0);
	rig_start(&b, 0);
	rig_avail(&a, 0, 0xffff);
	rig_kick(&a, 0);
	rig_run(&a);
	assert_int_equal(rig_status(&a), 15 | NEEDS_RESET);
	assert_int_equal(a.msi[0], 1);
	uint64_t p = rig_alloc(&b, 64);

	rig_add(&b, 0, &(struct rig_buf){ p, 64, true }, 1);
	rig_kick(&b, 0);
	assert_int_equal(rig_take(&b, 0), 64);
	rig_fini(&a);
	rig_fini(&b);
}

/* Names, numbers and tables of the kinds. */
static void test_table(void **state unused_arg)
{
	for (size_t i = 0; i < vdev_table_len; i++) {
		const struct vdev_desc *d = vdev_table[i];

		assert_non_null(d->ops->realize);
		assert_non_null(d->ops->unrealize);
		assert_non_null(d->ops->run);
		assert_non_null(d->ops->queue_ready);
		assert_in_range(d->n_queues, 1, VDEV_QUEUES_MAX);
		assert_true((d->queue_max & (d->queue_max - 1)) == 0);
		assert_true(d->queue_max <= VQ_SIZE_MAX);
		for (size_t k = 0; k < i; k++) {
			assert_string_not_equal(d->name, vdev_table[k]->name);
			assert_int_not_equal(d->virtio_id, vdev_table[k]->virtio_id);
		}
	}
}

/* Making fails at each allocation and call in turn, and leaves nothing. Section 11. */
static void test_making_fails(void **state unused_arg)
{
	for (unsigned i = 1; i < 100; i++) {
		struct rig r;
		struct err e = ERR_INIT;
		struct vdev *d = NULL;
		struct blk_conf conf = { .disk = { .fd = rig_file(1 << 20),
						   .way = BLOCK_THREADS } };

		rig_machine(&r);
		sys_fault_arm_any(i, EMFILE);
		int n = vdev_new(&vdev_blk, "disk", &r.machine, &conf, &d, &e);
		unsigned hits = sys_fault_hits();

		sys_fault_clear();
		assert_int_equal(n < 0, hits > 0);
		fd_close(&conf.disk.fd);
		d = vdev_free(d);
		r.loop = loop_free(r.loop);
		gmem_fini(&r.mem);
		if (hits == 0) {
			assert_true(i > 3);
			return;
		}
	}
	fail();
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_status),        cmocka_unit_test(test_features),
		cmocka_unit_test(test_feature_words), cmocka_unit_test(test_queue_frozen),
		cmocka_unit_test(test_enable),        cmocka_unit_test(test_no_queue),
		cmocka_unit_test(test_all_offsets),   cmocka_unit_test(test_msix),
		cmocka_unit_test(test_capabilities),  cmocka_unit_test(test_window),
		cmocka_unit_test(test_two),           cmocka_unit_test(test_table),
		cmocka_unit_test(test_making_fails),
	};

	return TEST_RUN(tests);
}
