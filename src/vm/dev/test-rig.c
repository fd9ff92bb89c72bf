/* SPDX-License-Identifier: Apache-2.0 */
#include "vm/dev/test-rig.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>

#include "base/test.h"
#include "sys/file.h"

enum { MSI_BASE = 0x40 };

static void on_msi(void *ctx, uint64_t addr, uint32_t data)
{
	struct rig *r = ctx;

	assert_int_equal(addr, 0xfee00000);
	assert_in_range(data, MSI_BASE, MSI_BASE + VPCI_VECTORS - 1);
	r->msi[data - MSI_BASE]++;
}

static int no_ioevent(void *ctx unused_arg, gpa_t at unused_arg, unsigned bytes unused_arg,
		      int fd unused_arg, bool add unused_arg)
{
	return -EOPNOTSUPP;
}

void rig_machine(struct rig *r)
{
	struct err e = ERR_INIT;

	memset(r, 0, sizeof(*r));
	gmem_init(&r->mem);
	assert_int_equal(gmem_add(&r->mem, GPA(0), RIG_RAM_BYTES, -1, 0, false, &e), 0);
	assert_int_equal(gmem_add(&r->mem, GPA(RIG_HIGH), RIG_HIGH_BYTES, -1, 0, false, &e), 0);
	assert_int_equal(loop_new(&r->loop), 0);
	r->machine = (struct machine){ .mem = &r->mem, .loop = r->loop, .ioevent = no_ioevent };
	r->machine.irq.ctx = r;
	r->machine.irq.msi = on_msi;
	r->next_free = r->alloc_first = 0x10000;
	r->alloc_end = RIG_RAM_BYTES;
}

void rig_init(struct rig *r, const struct vdev_desc *desc, void *conf)
{
	struct err e = ERR_INIT;
	int n;

	rig_machine(r);
	n = vdev_new(desc, desc->name, &r->machine, conf, &r->dev, &e);
	if (n < 0) {
		print_error("%s\n", e.msg);
	}
	assert_int_equal(n, 0);
	assert_int_equal(virtio_pci_make(&r->machine, r->dev, &r->pci, &e), 0);
}

void rig_fini(struct rig *r)
{
	r->pci = virtio_pci_free(r->pci);
	r->dev = NULL;
	r->loop = loop_free(r->loop);
	gmem_fini(&r->mem);
}

uint64_t rig_read(struct rig *r, uint64_t off, unsigned n)
{
	const struct region *bar = &r->pci->fn.bar[0];

	vdev_lock(r->dev);
	uint64_t v = bar->read(bar->ctx, off, n);

	vdev_unlock(r->dev);
	return v;
}

void rig_write(struct rig *r, uint64_t off, unsigned n, uint64_t v)
{
	const struct region *bar = &r->pci->fn.bar[0];

	vdev_lock(r->dev);
	bar->write(bar->ctx, off, n, v);
	vdev_unlock(r->dev);
}

uint8_t rig_status(struct rig *r)
{
	return (uint8_t)rig_read(r, VPCI_COMMON + VIRTIO_PCI_COMMON_STATUS, 1);
}

void rig_set_status(struct rig *r, uint8_t v)
{
	rig_write(r, VPCI_COMMON + VIRTIO_PCI_COMMON_STATUS, 1, v);
}

uint64_t rig_offered(struct rig *r)
{
	rig_write(r, VPCI_COMMON + VIRTIO_PCI_COMMON_DFSELECT, 4, 0);
	uint64_t v = rig_read(r, VPCI_COMMON + VIRTIO_PCI_COMMON_DF, 4);

	rig_write(r, VPCI_COMMON + VIRTIO_PCI_COMMON_DFSELECT, 4, 1);
	return v | rig_read(r, VPCI_COMMON + VIRTIO_PCI_COMMON_DF, 4) << 32;
}

void rig_features(struct rig *r, uint64_t features)
{
	for (unsigned i = 0; i < 2; i++) {
		rig_write(r, VPCI_COMMON + VIRTIO_PCI_COMMON_GFSELECT, 4, i);
		rig_write(r, VPCI_COMMON + VIRTIO_PCI_COMMON_GF, 4,
			  (uint32_t)(features >> (32 * i)));
	}
}

/* Vector i of the table sends MSI_BASE + i. */
void rig_msix(struct rig *r)
{
	uint8_t *control = &r->pci->fn.config[r->pci->msix_cap + 2];

	for (unsigned i = 0; i < VPCI_VECTORS; i++) {
		rig_write(r, VPCI_TABLE + i * 16, 4, 0xfee00000);
		rig_write(r, VPCI_TABLE + i * 16 + 4, 4, 0);
		rig_write(r, VPCI_TABLE + i * 16 + 8, 4, MSI_BASE + i);
		rig_write(r, VPCI_TABLE + i * 16 + 12, 4, 0);
	}
	control[1] = (uint8_t)(control[1] | 0x80);   /* enabled */
}

static void write64(struct rig *r, unsigned off, uint64_t v)
{
	rig_write(r, VPCI_COMMON + off, 4, (uint32_t)v);
	rig_write(r, VPCI_COMMON + off + 4, 4, v >> 32);
}

void rig_queue(struct rig *r, unsigned queue, uint16_t size)
{
	struct rig_queue *q = &r->queues[queue];

	*q = (struct rig_queue){ .size = size };
	q->desc = rig_alloc(r, size * 16u);
	q->avail = rig_alloc(r, 6 + size * 2u);
	q->used = rig_alloc(r, 6 + size * 8u);
	rig_write(r, VPCI_COMMON + VIRTIO_PCI_COMMON_Q_SELECT, 2, queue);
	rig_write(r, VPCI_COMMON + VIRTIO_PCI_COMMON_Q_SIZE, 2, size);
	write64(r, VIRTIO_PCI_COMMON_Q_DESCLO, q->desc);
	write64(r, VIRTIO_PCI_COMMON_Q_AVAILLO, q->avail);
	write64(r, VIRTIO_PCI_COMMON_Q_USEDLO, q->used);
	rig_write(r, VPCI_COMMON + VIRTIO_PCI_COMMON_Q_MSIX, 2, queue + 1);
	rig_write(r, VPCI_COMMON + VIRTIO_PCI_COMMON_Q_ENABLE, 2, 1);
}

static bool is_reset(struct rig *r, void *ud unused_arg)
{
	return rig_status(r) == 0;
}

void rig_reset(struct rig *r)
{
	rig_set_status(r, 0);
	rig_until(r, is_reset, NULL);
}

void rig_start(struct rig *r, uint64_t without)
{
	rig_reset(r);
	rig_msix(r);
	rig_set_status(r, VIRTIO_CONFIG_S_ACKNOWLEDGE);
	rig_set_status(r, VIRTIO_CONFIG_S_ACKNOWLEDGE | VIRTIO_CONFIG_S_DRIVER);
	rig_features(r, rig_offered(r) & ~without);
	rig_set_status(r, rig_status(r) | VIRTIO_CONFIG_S_FEATURES_OK);
	assert_true(rig_status(r) & VIRTIO_CONFIG_S_FEATURES_OK);
	rig_write(r, VPCI_COMMON + VIRTIO_PCI_COMMON_MSIX, 2, 0);
	for (unsigned i = 0; i < r->dev->desc->n_queues; i++) {
		rig_queue(r, i, r->dev->desc->queue_max);
	}
	rig_set_status(r, rig_status(r) | VIRTIO_CONFIG_S_DRIVER_OK);
	assert_int_equal(rig_status(r), 15);
	rig_run(r);
}

uint64_t rig_alloc(struct rig *r, uint64_t bytes)
{
	uint64_t at = r->next_free;
	static const uint8_t zeroes[4096];

	/* In a circle: long tests come round to memory that nobody uses any more. */
	if (at + bytes > r->alloc_end) {
		at = r->alloc_first;
	}
	r->next_free = at + ((bytes + 4095) & ~UINT64_C(4095));
	assert_true(r->next_free <= r->alloc_end);
	for (uint64_t i = at; i < r->next_free; i += sizeof(zeroes)) {
		rig_put(r, i, zeroes, sizeof(zeroes));
	}
	return at;
}

void rig_put(struct rig *r, uint64_t gpa, const void *data, size_t n)
{
	assert_int_equal(gmem_write(&r->mem, GPA(gpa), data, n), 0);
}

void rig_get(struct rig *r, uint64_t gpa, void *ret, size_t n)
{
	assert_int_equal(gmem_read(&r->mem, GPA(gpa), ret, n), 0);
}

void rig_put16(struct rig *r, uint64_t gpa, uint16_t v)
{
	assert_int_equal(gmem_store16(&r->mem, GPA(gpa), v), 0);
}

uint16_t rig_get16(struct rig *r, uint64_t gpa)
{
	uint16_t v;

	assert_int_equal(gmem_load16(&r->mem, GPA(gpa), &v), 0);
	return v;
}

void rig_desc(struct rig *r, uint64_t table, unsigned i, uint64_t addr, uint32_t len,
	      uint16_t flags, uint16_t next)
{
	struct vring_desc d = { .addr = addr, .len = len, .flags = flags, .next = next };

	rig_put(r, table + i * sizeof(d), &d, sizeof(d));
}

static uint16_t chain_flags(const struct rig_buf *b, bool last)
{
	return (uint16_t)((b->in ? VRING_DESC_F_WRITE : 0) | (last ? 0 : VRING_DESC_F_NEXT));
}

uint16_t rig_add(struct rig *r, unsigned queue, const struct rig_buf *bufs, unsigned n)
{
	struct rig_queue *q = &r->queues[queue];
	uint16_t head = (uint16_t)(q->next_desc % q->size);

	for (unsigned i = 0; i < n; i++) {
		rig_desc(r, q->desc, q->next_desc % q->size, bufs[i].gpa, bufs[i].len,
			 chain_flags(&bufs[i], i + 1 == n),
			 (uint16_t)((q->next_desc + 1) % q->size));
		q->next_desc++;
	}
	rig_avail(r, queue, head);
	return head;
}

uint16_t rig_add_indirect(struct rig *r, unsigned queue, const struct rig_buf *bufs, unsigned n)
{
	struct rig_queue *q = &r->queues[queue];
	uint16_t head = (uint16_t)(q->next_desc++ % q->size);
	uint64_t table = rig_alloc(r, n * 16u);

	for (unsigned i = 0; i < n; i++) {
		rig_desc(r, table, i, bufs[i].gpa, bufs[i].len, chain_flags(&bufs[i], i + 1 == n),
			 (uint16_t)(i + 1));
	}
	rig_desc(r, q->desc, head, table, n * 16, VRING_DESC_F_INDIRECT, 0);
	rig_avail(r, queue, head);
	return head;
}

void rig_avail(struct rig *r, unsigned queue, uint16_t head)
{
	struct rig_queue *q = &r->queues[queue];

	rig_put16(r, q->avail + 4 + (q->avail_idx % q->size) * 2u, head);
	q->avail_idx++;
	rig_put16(r, q->avail + 2, q->avail_idx);
}

void rig_kick(struct rig *r, unsigned queue)
{
	rig_write(r, VPCI_NOTIFY + queue * 4, 2, queue);
}

void rig_run(struct rig *r)
{
	for (unsigned i = 0; i < RIG_TURNS; i++) {
		int n = loop_turn(r->loop, 0);

		assert_true(n >= 0);
		if (n == 0) {
			return;
		}
	}
	fail_msg("the loop does not come to rest");
}

void rig_until(struct rig *r, bool (*cond)(struct rig *r, void *ud), void *ud)
{
	for (unsigned i = 0; i < RIG_TURNS; i++) {
		if (cond(r, ud)) {
			return;
		}
		assert_true(loop_turn(r->loop, UINT64_C(10000000)) >= 0);
	}
	fail_msg("what the test waits for does not come");
}

bool rig_used(struct rig *r, unsigned queue)
{
	struct rig_queue *q = &r->queues[queue];

	return rig_get16(r, q->used + 2) != q->used_idx;
}

static bool used_there(struct rig *r, void *ud)
{
	return rig_used(r, *(unsigned *)ud);
}

uint32_t rig_take(struct rig *r, unsigned queue)
{
	struct rig_queue *q = &r->queues[queue];
	struct vring_used_elem e;

	rig_until(r, used_there, &queue);
	rig_get(r, q->used + 4 + (q->used_idx % q->size) * 8u, &e, sizeof(e));
	q->used_idx++;
	/* With EVENT_IDX the driver wants to hear of the next one. */
	rig_put16(r, q->avail + 4 + q->size * 2u, q->used_idx);
	r->last_head = e.id;
	r->last_len = e.len;
	return e.len;
}

int rig_file(uint64_t bytes)
{
	auto_close int dir = sys_openat(AT_FDCWD, "/tmp", O_RDONLY | O_DIRECTORY, 0);
	int fd = sys_openat(dir, ".", O_TMPFILE | O_RDWR, 0600);

	if (fd < 0) {
		fd = sys_memfd_create("disk", 0);
	}
	assert_true(fd >= 0);
	assert_int_equal(sys_ftruncate(fd, (int64_t)bytes), 0);
	return fd;
}
