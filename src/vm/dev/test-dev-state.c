/* SPDX-License-Identifier: Apache-2.0 */
/* Devices in snapshots: tables that describe all, saved in one machine and loaded in another. */
#include <errno.h>
#include <linux/virtio_vsock.h>
#include <string.h>

#include "base/test.h"
#include "sys/file.h"
#include "sys/socket.h"
#include "vm/dev/test-kinds.h"
#include "vm/dev/vsock-priv.h"

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

	assert_int_equal(vdev_pause(k->r.dev), 0);
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

	assert_int_equal(vdev_pause(k->r.dev), 0);
	int n = state_open(data, len, &r, e);

	n = n < 0 ? n : virtio_pci_load(k->r.pci, "/pci/1", r, e);
	n = n < 0 ? n : state_commit(r, e);
	n = n < 0 ? n : virtio_pci_loaded(k->r.pci, e);
	if (n == 0) {
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
		assert_int_equal(vdev_pause(a.r.dev), 0);
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

/* --- Connections of vsock --- */

enum { VSOCK_KIND_CID = 3, GUEST_PORT = 7, HOST_PORT = 8, BIG = 60000 };

static size_t vsock_kind(void)
{
	size_t kind = 0;

	while (vdev_table[kind] != &vdev_vsock) {
		kind++;
	}
	return kind;
}

static void guest_says(struct kind_rig *k, uint32_t guest_port, uint16_t op, const void *data,
		       uint32_t len, uint32_t flags)
{
	struct virtio_vsock_hdr h = {
		.src_cid = VSOCK_KIND_CID, .dst_cid = VSOCK_HOST_CID, .src_port = guest_port,
		.dst_port = HOST_PORT, .type = VIRTIO_VSOCK_TYPE_STREAM, .op = op, .len = len,
		.flags = flags, .buf_alloc = 4096, .fwd_cnt = 0,
	};

	rig_put(&k->r, k->scratch, &h, sizeof(h));
	if (len > 0) {
		rig_put(&k->r, k->scratch + sizeof(h), data, len);
	}
	rig_add(&k->r, VSOCK_TX, &(struct rig_buf){ k->scratch, sizeof(h) + len, false }, 1);
	rig_kick(&k->r, VSOCK_TX);
	assert_int_equal(rig_take(&k->r, VSOCK_TX), 0);
}

/* A buffer for the guest, and what comes into it. */
static uint16_t guest_hears(struct kind_rig *k, struct virtio_vsock_hdr *h, char *data)
{
	rig_add(&k->r, VSOCK_RX, &(struct rig_buf){ k->scratch, 4096, true }, 1);
	rig_kick(&k->r, VSOCK_RX);
	ignore_result(rig_take(&k->r, VSOCK_RX)); /* the header says it */
	rig_get(&k->r, k->scratch, h, sizeof(*h));
	if (h->len > 0) {
		rig_get(&k->r, k->scratch + sizeof(*h), data, h->len);
	}
	return h->op;
}

/* Two machines, the first with a connection on which bytes wait in both directions. */
struct moved {
	struct kind_rig a, b;
	int     taken;          /* the socket's descriptor, as a's device had it */
	int     peer;           /* its other end */
	uint8_t sent[BIG];
};

static void move_start(struct moved *m)
{
	struct virtio_vsock_hdr h;
	char data[4096];

	kind_init(&m->a, vsock_kind(), false);
	kind_init(&m->b, vsock_kind(), false);
	m->a.accept = true;
	rig_start(&m->a.r, 0);
	guest_says(&m->a, GUEST_PORT, VIRTIO_VSOCK_OP_REQUEST, NULL, 0, 0);
	assert_int_equal(guest_hears(&m->a, &h, data), VIRTIO_VSOCK_OP_RESPONSE);
	m->peer = m->a.host_out;
	m->a.host_in = m->a.host_out = -1;
	/* A socket with a small buffer, so that some of it waits in the device. */
	int small = 4096;

	m->taken = vsock_take(m->a.r.dev, GUEST_PORT, HOST_PORT);
	assert_true(m->taken >= 0);
	assert_int_equal(sys_setsockopt(m->taken, SOL_SOCKET, SO_SNDBUF, &small, sizeof(small)), 0);
	for (unsigned i = 0; i < BIG; i++) {
		m->sent[i] = (uint8_t)(i * 7 + i / 256);
	}
	guest_says(&m->a, GUEST_PORT, VIRTIO_VSOCK_OP_RW, m->sent, BIG / 2, 0);
	guest_says(&m->a, GUEST_PORT, VIRTIO_VSOCK_OP_RW, m->sent + BIG / 2, BIG / 2, 0);
	assert_int_equal(sys_write_full(m->peer, "from the host", 13), 0);
}

static void move_over(struct moved *m)
{
	auto_free void *data = NULL;
	struct err e = ERR_INIT;
	size_t len;

	save(&m->a, &data, &len);
	copy_driver(&m->b, &m->a);
	assert_int_equal(vdev_pause(m->b.r.dev), 0);
	auto_(state_closep) struct state_reader *r = NULL;

	assert_int_equal(state_open(data, len, &r, &e), 0);
	assert_int_equal(virtio_pci_load(m->b.r.pci, "/pci/1", r, &e), 0);
	assert_int_equal(state_commit(r, &e), 0);
	assert_int_equal(virtio_pci_loaded(m->b.r.pci, &e), 0);
	kind_fini(&m->a);
}

/* The socket is handed over: every byte arrives once, in order, and so does the end. */
static void test_vsock_goes_on(void **state unused_arg)
{
	struct moved m;
	struct virtio_vsock_hdr h;
	static uint8_t got[BIG + 1];
	size_t have = 0;
	char data[4096];

	move_start(&m);
	move_over(&m);
	auto_buf struct buf list = BUF_INIT;

	vsock_list(m.b.r.dev, &list);
	assert_string_equal(buf_str(&list), "[{\"guest\":7,\"host\":8,\"state\":\"open\",\"socket\":"
					    "false}]");
	assert_int_equal(vsock_give(m.b.r.dev, GUEST_PORT, 9, sys_dup(m.taken)), -ENOENT);
	assert_int_equal(vsock_give(m.b.r.dev, GUEST_PORT, HOST_PORT, m.taken), 0);
	vdev_resume(m.b.r.dev);
	while (have < BIG) {
		ssize_t n = sys_read(m.peer, got + have, sizeof(got) - have);

		assert_true(n > 0 || n == -EAGAIN);
		have += n > 0 ? (size_t)n : 0;
		rig_run(&m.b.r);
	}
	assert_int_equal(have, BIG);
	assert_memory_equal(got, m.sent, BIG);
	/* Credit comes first, then what the host wrote before the snapshot. */
	while (guest_hears(&m.b, &h, data) != VIRTIO_VSOCK_OP_RW) {
		assert_int_equal(h.op, VIRTIO_VSOCK_OP_CREDIT_UPDATE);
	}
	assert_int_equal(h.fwd_cnt, BIG);
	assert_int_equal(h.len, 13);
	assert_memory_equal(data, "from the host", 13);
	guest_says(&m.b, GUEST_PORT, VIRTIO_VSOCK_OP_SHUTDOWN, NULL, 0,
		   VIRTIO_VSOCK_SHUTDOWN_SEND);
	assert_int_equal(sys_read(m.peer, got, sizeof(got)), 0);
	fd_close(&m.peer);
	kind_fini(&m.b);
}

/* The answer to the guest's question came between the snapshot and the handing over. */
static void test_vsock_answered_late(void **state unused_arg)
{
	struct moved m = { .peer = -1 };
	struct virtio_vsock_hdr h;
	char data[4096];

	kind_init(&m.a, vsock_kind(), false);
	kind_init(&m.b, vsock_kind(), false);
	m.a.accept = true;
	rig_start(&m.a.r, 0);
	guest_says(&m.a, GUEST_PORT, VIRTIO_VSOCK_OP_REQUEST, NULL, 0, 0);
	assert_int_equal(guest_hears(&m.a, &h, data), VIRTIO_VSOCK_OP_RESPONSE);
	m.taken = vsock_take(m.a.r.dev, GUEST_PORT, HOST_PORT);
	m.peer = m.a.host_out;
	m.a.host_in = m.a.host_out = -1;
	struct vsock *s = container_of(m.a.r.dev, struct vsock, base);

	list_for_each (struct conn, c, &s->conns, link) {
		c->state = CONN_ASKED;
	}
	move_over(&m);
	assert_int_equal(vsock_give(m.b.r.dev, GUEST_PORT, HOST_PORT, m.taken), 0);
	vdev_resume(m.b.r.dev);
	assert_int_equal(guest_hears(&m.b, &h, data), VIRTIO_VSOCK_OP_RESPONSE);
	guest_says(&m.b, GUEST_PORT, VIRTIO_VSOCK_OP_RW, "x", 1, 0);
	rig_run(&m.b.r);
	assert_int_equal(sys_read(m.peer, data, sizeof(data)), 1);
	fd_close(&m.peer);
	kind_fini(&m.b);
}

/* Nobody hands it over: the guest hears that this connection is gone, and can make new ones. */
static void test_vsock_reset(void **state unused_arg)
{
	struct moved m;
	struct virtio_vsock_hdr h;
	char data[4096];

	move_start(&m);
	move_over(&m);
	vdev_resume(m.b.r.dev);
	assert_int_equal(guest_hears(&m.b, &h, data), VIRTIO_VSOCK_OP_RST);
	assert_int_equal(h.dst_port, GUEST_PORT);
	assert_int_equal(h.src_port, HOST_PORT);
	assert_int_equal(vsock_connections(m.b.r.dev), 0);
	kind_works(&m.b);
	fd_close(&m.taken);
	fd_close(&m.peer);
	kind_fini(&m.b);
}

/* Two connections of the same ports. */
static void test_vsock_twice(void **state unused_arg)
{
	auto_(state_writer_fini) struct state_writer w = STATE_WRITER_INIT;
	auto_free void *data = NULL;
	struct err e = ERR_INIT;
	struct moved m;
	size_t len;

	move_start(&m);
	guest_says(&m.a, GUEST_PORT + 1, VIRTIO_VSOCK_OP_REQUEST, NULL, 0, 0);
	assert_int_equal(vdev_pause(m.a.r.dev), 0);
	struct vsock *s = container_of(m.a.r.dev, struct vsock, base);

	list_for_each (struct conn, c, &s->conns, link) {
		c->guest_port = GUEST_PORT;
	}
	virtio_pci_save(m.a.r.pci, "/pci/1", &w);
	assert_int_equal(state_finish(&w, &data, &len), 0);
	copy_driver(&m.b, &m.a);
	assert_int_equal(load(&m.b, data, len, &e), -EBADMSG);
	kind_fini(&m.a);
	fd_close(&m.taken);
	fd_close(&m.peer);
	kind_fini(&m.b);
}

/* The bytes that wait are not as many as the connections say. */
static void test_vsock_bytes(void **state unused_arg)
{
	for (size_t have = 0; have <= 1; have++) {
		auto_free void *data = NULL;
		auto_(state_closep) struct state_reader *r = NULL;
		struct err e = ERR_INIT;
		struct moved m;
		size_t len;

		move_start(&m);
		save(&m.a, &data, &len);
		copy_driver(&m.b, &m.a);
		assert_int_equal(vdev_pause(m.b.r.dev), 0);
		assert_int_equal(state_open(data, len, &r, &e), 0);
		assert_int_equal(virtio_pci_load(m.b.r.pci, "/pci/1", r, &e), 0);
		assert_int_equal(vdev_vsock.ops->load_bytes(m.b.r.dev, "x", have), 0);
		assert_int_equal(state_commit(r, &e), 0);
		assert_int_equal(virtio_pci_loaded(m.b.r.pci, &e), -EBADMSG);
		assert_int_equal(vsock_connections(m.b.r.dev), 0);
		vdev_resume(m.b.r.dev);
		kind_fini(&m.a);
		fd_close(&m.taken);
		fd_close(&m.peer);
		kind_fini(&m.b);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_tables),   cmocka_unit_test(test_move),
		cmocka_unit_test(test_damage),   cmocka_unit_test(test_nonsense),
		cmocka_unit_test(test_vsock_goes_on),
		cmocka_unit_test(test_vsock_reset),
		cmocka_unit_test(test_vsock_answered_late),
		cmocka_unit_test(test_vsock_twice),
		cmocka_unit_test(test_vsock_bytes),
	};

	return TEST_RUN(tests);
}
