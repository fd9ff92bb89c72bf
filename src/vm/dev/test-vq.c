/* SPDX-License-Identifier: Apache-2.0 */
/* The ring itself. Spec: virtio 1.2, 2.7. */
#include <errno.h>
#include <string.h>

#include "base/test.h"
#include "vm/dev/iov.h"
#include "vm/dev/test-rig.h"

enum { SIZE = 8 };

struct ring {
	struct rig r;
	struct vq  q;
	struct vq_chain c;
};

static void start(struct ring *t, bool event_idx, bool indirect)
{
	rig_machine(&t->r);
	vq_init(&t->q, &t->r.mem, SIZE);
	struct rig_queue *d = &t->r.queues[0];

	*d = (struct rig_queue){ .size = SIZE };
	t->q.desc = d->desc = rig_alloc(&t->r, SIZE * 16);
	t->q.avail = d->avail = rig_alloc(&t->r, 6 + SIZE * 2);
	t->q.used = d->used = rig_alloc(&t->r, 6 + SIZE * 8);
	assert_int_equal(vq_enable(&t->q, event_idx, indirect), 0);
}

static void end(struct ring *t)
{
	t->r.loop = loop_free(t->r.loop);
	gmem_fini(&t->r.mem);
}

static void test_chain(void **state unused_arg)
{
	struct ring t;
	char got[8];

	start(&t, false, true);
	uint64_t a = rig_alloc(&t.r, 16), b = rig_alloc(&t.r, 16);

	rig_put(&t.r, a, "abcdefgh", 8);
	uint16_t head = rig_add(&t.r, 0, (struct rig_buf[]){ { a, 4, false }, { a + 4, 4, false },
							     { b, 2, true }, { b + 8, 6, true } },
				4);

	assert_int_equal(vq_pop(&t.q, &t.c), 1);
	assert_int_equal(t.c.head, head);
	assert_int_equal(t.c.n_out, 2);
	assert_int_equal(t.c.n_in, 2);
	assert_int_equal(t.c.out_bytes, 8);
	assert_int_equal(t.c.in_bytes, 8);
	assert_int_equal(iov_read(t.c.iov, 2, 2, got, 4), 4);
	assert_memory_equal(got, "cdef", 4);
	assert_int_equal(iov_write(vq_in(&t.c), 2, 1, "xyz", 3), 3);
	assert_int_equal(vq_pop(&t.q, &t.c), 0);
	vq_push(&t.q, &t.c, 4);
	rig_get(&t.r, b + 8, got, 2);
	assert_memory_equal(got, "yz", 2);
	assert_int_equal(rig_take(&t.r, 0), 4);
	assert_int_equal(t.r.last_head, head);
	end(&t);
}

/* The index runs through 65535 -> 0. */
static void test_wrap(void **state unused_arg)
{
	struct ring t;

	start(&t, true, false);
	uint64_t a = rig_alloc(&t.r, 16);

	for (unsigned i = 0; i < 70000; i++) {
		rig_add(&t.r, 0, &(struct rig_buf){ a, 1, true }, 1);
		assert_int_equal(vq_pop(&t.q, &t.c), 1);
		assert_int_equal(t.c.head, i % SIZE);
		vq_push(&t.q, &t.c, 1);
		assert_true(vq_wants_irq(&t.q));
		assert_false(vq_wants_irq(&t.q));
		assert_int_equal(rig_take(&t.r, 0), 1);
	}
	end(&t);
}

/* Spec: 2.7.5.3: normal descriptors, then one table. */
static void test_indirect(void **state unused_arg)
{
	struct ring t;

	start(&t, false, true);
	uint64_t a = rig_alloc(&t.r, 64), table = rig_alloc(&t.r, 64);

	rig_desc(&t.r, table, 0, a, 1, VRING_DESC_F_NEXT, 2);
	rig_desc(&t.r, table, 2, a + 8, 2, VRING_DESC_F_WRITE, 0);
	rig_desc(&t.r, t.q.desc, 3, a + 16, 4, VRING_DESC_F_NEXT, 1);
	/* WRITE says nothing here. */
	rig_desc(&t.r, t.q.desc, 1, table, 48, VRING_DESC_F_INDIRECT | VRING_DESC_F_WRITE, 0);
	rig_avail(&t.r, 0, 3);
	assert_int_equal(vq_pop(&t.q, &t.c), 1);
	assert_int_equal(t.c.n_out, 2);
	assert_int_equal(t.c.out_bytes, 5);
	assert_int_equal(t.c.in_bytes, 2);
	end(&t);
}

/* One malformed chain: up to three descriptors of the ring and three of a table. */
struct bad {
	const char *name;
	int         want;
	uint16_t    head;
	struct vring_desc ring[3], table[3];
};

enum { N = VRING_DESC_F_NEXT, W = VRING_DESC_F_WRITE, I = VRING_DESC_F_INDIRECT };

/* Addresses: A is a buffer, T the table. */
enum { A = 0x80000, T = 0x90000 };

static const struct bad bads[] = {
	{ "a head outside of the table", -EBADMSG, SIZE, {}, {} },
	{ "the largest head", -EBADMSG, 0xffff, {}, {} },
	{ "a next outside of the table", -EBADMSG, 0, { { A, 1, N, SIZE } }, {} },
	{ "a circle of one", -EBADMSG, 0, { { A, 1, N, 0 } }, {} },
	{ "a circle of two", -EBADMSG, 0, { { A, 1, N, 1 }, { A, 1, N, 0 } }, {} },
	{ "an empty buffer", -EBADMSG, 0, { { A, 0, 0, 0 } }, {} },
	{ "an empty buffer behind a good one", -EBADMSG, 0, { { A, 1, N, 1 }, { A, 0, W, 0 } }, {} },
	{ "to read behind to write", -EBADMSG, 0, { { A, 1, W | N, 1 }, { A, 1, 0, 0 } }, {} },
	{ "not RAM", -EFAULT, 0, { { UINT64_C(0xd0000000), 1, 0, 0 } }, {} },
	{ "over the end of RAM", -EFAULT, 0, { { RIG_RAM_BYTES - 1, 2, 0, 0 } }, {} },
	{ "from RAM far out", -EFAULT, 0, { { A, UINT32_MAX, 0, 0 } }, {} },
	{ "round the address space", -EFAULT, 0, { { UINT64_MAX, 2, 0, 0 } }, {} },
	{ "the last byte there is", -EFAULT, 0, { { UINT64_MAX, 1, W, 0 } }, {} },
	{ "an empty table", -EBADMSG, 0, { { T, 0, I, 0 } }, {} },
	{ "a table of half a descriptor", -EBADMSG, 0, { { T, 8, I, 0 } }, {} },
	{ "a table of one and a half", -EBADMSG, 0, { { T, 24, I, 0 } }, { { A, 1, 0, 0 } } },
	{ "a table and a next", -EBADMSG, 0, { { T, 16, I | N, 1 }, { A, 1, 0, 0 } },
	  { { A, 1, 0, 0 } } },
	{ "a table that is not RAM", -EFAULT, 0, { { UINT64_C(0xd0000000), 16, I, 0 } }, {} },
	{ "a table over the end of RAM", -EFAULT, 0, { { RIG_RAM_BYTES - 16, 32, I, 0 } }, {} },
	{ "a table of 4 GiB", -EFAULT, 0, { { T, 0xfffffff0, I, 0 } }, {} },
	{ "a table in a table", -EBADMSG, 0, { { T, 32, I, 0 } },
	  { { A, 1, N, 1 }, { T, 16, I, 0 } } },
	{ "a next outside of the table in memory", -EBADMSG, 0, { { T, 16, I, 0 } },
	  { { A, 1, N, 1 } } },
	{ "a circle in a table", -EBADMSG, 0, { { T, 32, I, 0 } },
	  { { A, 1, N, 1 }, { A, 1, N, 0 } } },
	{ "read behind write in a table", -EBADMSG, 0, { { T, 32, I, 0 } },
	  { { A, 1, N | W, 1 }, { A, 1, 0, 0 } } },
	{ "write in the ring, read in the table", -EBADMSG, 0,
	  { { A, 1, N | W, 1 }, { T, 16, I, 0 } }, { { A, 1, 0, 0 } } },
	{ "an empty buffer in a table", -EBADMSG, 0, { { T, 16, I, 0 } }, { { A, 0, 0, 0 } } },
	{ "outside of RAM in a table", -EFAULT, 0, { { T, 16, I, 0 } },
	  { { UINT64_C(0xfee00000), 4, W, 0 } } },
};

static void test_bad_chains(void **state unused_arg)
{
	for (size_t i = 0; i < ARRAY_LEN(bads); i++) {
		const struct bad *b = &bads[i];
		struct ring t;

		start(&t, false, true);
		rig_put(&t.r, t.q.desc, b->ring, sizeof(b->ring));
		rig_put(&t.r, T, b->table, sizeof(b->table));
		rig_avail(&t.r, 0, b->head);
		int r = vq_pop(&t.q, &t.c);

		if (r != b->want) {
			print_error("%s: %d instead of %d\n", b->name, r, b->want);
		}
		assert_int_equal(r, b->want);
		/* It stays so: nothing is taken, nothing given. */
		assert_int_equal(vq_pop(&t.q, &t.c), 0);
		assert_int_equal(t.q.in_flight, 0);
		assert_false(vq_has_work(&t.q));
		assert_false(vq_kicks_on(&t.q));
		assert_int_equal(rig_get16(&t.r, t.q.used + 2), 0);
		end(&t);
	}
}

/* Security rule 2.2.4: a bound for every chain, also of a table that has room for more. */
static void test_long_chain(void **state unused_arg)
{
	for (unsigned n = VQ_CHAIN_MAX; n <= VQ_CHAIN_MAX + 1; n++) {
		struct ring t;

		start(&t, false, true);
		uint64_t a = rig_alloc(&t.r, 16), table = rig_alloc(&t.r, n * 16);

		for (unsigned i = 0; i < n; i++) {
			rig_desc(&t.r, table, i, a, 1, i + 1 < n ? N : 0, (uint16_t)(i + 1));
		}
		rig_desc(&t.r, t.q.desc, 0, table, n * 16, I, 0);
		rig_avail(&t.r, 0, 0);
		assert_int_equal(vq_pop(&t.q, &t.c), n == VQ_CHAIN_MAX ? 1 : -ENOBUFS);
		end(&t);
	}
}

static void test_indirect_not_agreed(void **state unused_arg)
{
	struct ring t;

	start(&t, false, false);
	rig_desc(&t.r, T, 0, A, 1, 0, 0);
	rig_desc(&t.r, t.q.desc, 0, T, 16, I, 0);
	rig_avail(&t.r, 0, 0);
	assert_int_equal(vq_pop(&t.q, &t.c), -EBADMSG);
	end(&t);
}

/* Security rule 2.2.4: what is out is bounded; the index cannot run ahead. */
static void test_index(void **state unused_arg)
{
	static const struct {
		unsigned out;      /* requests that are out before */
		uint16_t idx;
		int      want;
	} rows[] = {
		{ 0, SIZE, 1 },      { 0, SIZE + 1, -EBADMSG }, { 0, 0xffff, -EBADMSG },
		{ 0, 0x8000, -EBADMSG }, { 3, SIZE, 1 },        { 3, SIZE + 1, -EBADMSG },
		{ SIZE, SIZE, 0 },   { SIZE, SIZE + 1, -EBADMSG },
	};

	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		struct ring t;

		start(&t, false, false);
		for (unsigned k = 0; k < SIZE; k++) {
			rig_desc(&t.r, t.q.desc, k, A, 1, 0, 0);
			rig_put16(&t.r, t.q.avail + 4 + k * 2, (uint16_t)k);
		}
		for (unsigned k = 0; k < rows[i].out; k++) {
			rig_put16(&t.r, t.q.avail + 2, (uint16_t)(k + 1));
			assert_int_equal(vq_pop(&t.q, &t.c), 1);
		}
		rig_put16(&t.r, t.q.avail + 2, rows[i].idx);
		int r = vq_pop(&t.q, &t.c);

		assert_int_equal(r, rows[i].want);
		end(&t);
	}
}

/* The same head twice is the driver's own loss, not ours. */
static void test_same_head(void **state unused_arg)
{
	struct ring t;
	struct vq_chain first;

	start(&t, false, false);
	rig_desc(&t.r, t.q.desc, 5, A, 1, W, 0);
	for (unsigned k = 0; k < SIZE; k++) {
		rig_avail(&t.r, 0, 5);
	}
	for (unsigned k = 0; k < SIZE; k++) {
		assert_int_equal(vq_pop(&t.q, &first), 1);
	}
	assert_int_equal(vq_pop(&t.q, &t.c), 0);
	for (unsigned k = 0; k < SIZE; k++) {
		vq_push(&t.q, &first, 1);
	}
	assert_int_equal(rig_get16(&t.r, t.q.used + 2), SIZE);
	end(&t);
}

static void test_enable(void **state unused_arg)
{
	static const struct {
		uint64_t desc, avail, used;
		int      want;
	} rows[] = {
		{ 0x1000, 0x2000, 0x3000, 0 },
		{ 0x1000, 0x1000, 0x1000, 0 },
		{ RIG_RAM_BYTES - SIZE * 16, 0x2000, 0x3000, 0 },
		{ RIG_HIGH, RIG_HIGH + 2, RIG_HIGH + 4, 0 },
		{ 0x1008, 0x2000, 0x3000, -EINVAL },
		{ 0x1000, 0x2001, 0x3000, -EINVAL },
		{ 0x1000, 0x2000, 0x3002, -EINVAL },
		{ RIG_RAM_BYTES, 0x2000, 0x3000, -EFAULT },
		{ RIG_RAM_BYTES - SIZE * 16 + 16, 0x2000, 0x3000, -EFAULT },
		{ 0x1000, RIG_RAM_BYTES - SIZE * 2 - 4, 0x3000, -EFAULT },   /* used_event */
		{ 0x1000, 0x2000, RIG_RAM_BYTES - SIZE * 8 - 4, -EFAULT },   /* avail_event */
		{ 0x1000, 0x2000, UINT64_MAX - 3, -EFAULT },
		{ UINT64_MAX - 15, 0x2000, 0x3000, -EFAULT },
		{ 0x1000, UINT64_C(0xfee00000), 0x3000, -EFAULT },
	};

	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		struct rig r;
		struct vq q;

		rig_machine(&r);
		vq_init(&q, &r.mem, SIZE);
		q.desc = rows[i].desc;
		q.avail = rows[i].avail;
		q.used = rows[i].used;
		assert_int_equal(vq_enable(&q, true, true), rows[i].want);
		assert_int_equal(q.enabled, rows[i].want == 0);
		r.loop = loop_free(r.loop);
		gmem_fini(&r.mem);
	}
}

static void test_size(void **state unused_arg)
{
	struct vq q;

	vq_init(&q, NULL, 64);
	for (unsigned v = 0; v < 0x10000; v++) {
		q.size = 64;
		vq_set_size(&q, (uint16_t)v);
		bool good = v > 0 && v <= 64 && (v & (v - 1)) == 0;

		assert_int_equal(q.size, good ? v : 64);
	}
}

/* Spec: 2.7.7 Used Buffer Notification Suppression, without and with EVENT_IDX. */
static void test_irq(void **state unused_arg)
{
	struct ring t;

	start(&t, false, false);
	rig_add(&t.r, 0, &(struct rig_buf){ A, 1, true }, 1);
	rig_add(&t.r, 0, &(struct rig_buf){ A, 1, true }, 1);
	rig_put16(&t.r, t.q.avail, VRING_AVAIL_F_NO_INTERRUPT);
	assert_int_equal(vq_pop(&t.q, &t.c), 1);
	vq_push(&t.q, &t.c, 1);
	assert_false(vq_wants_irq(&t.q));
	rig_put16(&t.r, t.q.avail, 0);
	assert_int_equal(vq_pop(&t.q, &t.c), 1);
	vq_push(&t.q, &t.c, 1);
	assert_true(vq_wants_irq(&t.q));
	end(&t);

	start(&t, true, false);
	for (unsigned i = 0; i < 4; i++) {
		rig_add(&t.r, 0, &(struct rig_buf){ A, 1, true }, 1);
		assert_int_equal(vq_pop(&t.q, &t.c), 1);
		/* Wants to hear of the third. The first is told once: it starts the count. */
		rig_put16(&t.r, t.q.avail + 4 + SIZE * 2, 2);
		vq_push(&t.q, &t.c, 1);
		assert_int_equal(vq_wants_irq(&t.q), i == 0 || i == 2);
	}
	end(&t);
}

/* Spec: 2.7.10 Available Buffer Notification Suppression. */
static void test_kicks(void **state unused_arg)
{
	struct ring t;

	start(&t, false, false);
	vq_kicks_off(&t.q);
	assert_int_equal(rig_get16(&t.r, t.q.used), VRING_USED_F_NO_NOTIFY);
	rig_add(&t.r, 0, &(struct rig_buf){ A, 1, true }, 1);
	assert_true(vq_kicks_on(&t.q));
	assert_int_equal(rig_get16(&t.r, t.q.used), 0);
	end(&t);

	start(&t, true, false);
	rig_add(&t.r, 0, &(struct rig_buf){ A, 1, true }, 1);
	assert_int_equal(vq_pop(&t.q, &t.c), 1);
	vq_kicks_off(&t.q);
	assert_int_equal(rig_get16(&t.r, t.q.used), 0);
	assert_false(vq_kicks_on(&t.q));
	assert_int_equal(rig_get16(&t.r, t.q.used + 4 + SIZE * 8), 1);
	end(&t);
}

static void test_unpop(void **state unused_arg)
{
	struct ring t;

	start(&t, false, false);
	rig_add(&t.r, 0, &(struct rig_buf){ A, 1, true }, 1);
	rig_add(&t.r, 0, &(struct rig_buf){ A, 2, true }, 1);
	assert_int_equal(vq_pop(&t.q, &t.c), 1);
	assert_int_equal(vq_pop(&t.q, &t.c), 1);
	vq_unpop(&t.q, 2);
	assert_int_equal(vq_pop(&t.q, &t.c), 1);
	assert_int_equal(t.c.in_bytes, 1);
	end(&t);
}

/* Security rule 2.2.5: what was taken before a reset is never given after it. */
static void test_generation(void **state unused_arg)
{
	struct ring t;

	start(&t, false, false);
	uint64_t used = t.q.used;

	rig_add(&t.r, 0, &(struct rig_buf){ A, 1, true }, 1);
	assert_int_equal(vq_pop(&t.q, &t.c), 1);
	vq_reset(&t.q);
	t.q.desc = t.r.queues[0].desc;
	t.q.avail = t.r.queues[0].avail;
	t.q.used = used;
	t.q.size = SIZE;
	assert_int_equal(vq_enable(&t.q, false, false), 0);
	vq_push(&t.q, &t.c, 1);
	assert_int_equal(rig_get16(&t.r, used + 2), 0);
	assert_int_equal(t.q.in_flight, 0);
	end(&t);
}

static void test_iov(void **state unused_arg)
{
	char a[] = "abc", b[] = "defg", out[16];
	struct iovec v[] = { { a, 3 }, { NULL, 0 }, { b, 4 } }, part[3];

	assert_int_equal(iov_bytes(v, 3), 7);
	assert_int_equal(iov_read(v, 3, 1, out, 16), 6);
	assert_memory_equal(out, "bcdefg", 6);
	assert_int_equal(iov_read(v, 3, 7, out, 1), 0);
	assert_int_equal(iov_write(v, 3, 2, "XY", 2), 2);
	assert_string_equal(a, "abX");
	assert_string_equal(b, "Yefg");
	assert_int_equal(iov_slice(v, 3, 2, 3, part, 3), 2);
	assert_int_equal(part[0].iov_len, 1);
	assert_ptr_equal(part[1].iov_base, b);
	assert_int_equal(part[1].iov_len, 2);
	assert_int_equal(iov_slice(v, 3, 7, 1, part, 3), 0);
	assert_int_equal(iov_slice(v, 3, 0, 7, part, 1), 1);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_chain),
		cmocka_unit_test(test_wrap),
		cmocka_unit_test(test_indirect),
		cmocka_unit_test(test_bad_chains),
		cmocka_unit_test(test_long_chain),
		cmocka_unit_test(test_indirect_not_agreed),
		cmocka_unit_test(test_index),
		cmocka_unit_test(test_same_head),
		cmocka_unit_test(test_enable),
		cmocka_unit_test(test_size),
		cmocka_unit_test(test_irq),
		cmocka_unit_test(test_kicks),
		cmocka_unit_test(test_unpop),
		cmocka_unit_test(test_generation),
		cmocka_unit_test(test_iov),
	};

	return TEST_RUN(tests);
}
