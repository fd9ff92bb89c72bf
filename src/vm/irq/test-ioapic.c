/* SPDX-License-Identifier: Apache-2.0 */
#include "vm/irq/test-chip.h"

static void io_write(struct ioapic *io, uint32_t reg, uint32_t v)
{
	ioapic_mmio_write(io, 0, reg);
	ioapic_mmio_write(io, 0x10, v);
}

static uint32_t io_read(struct ioapic *io, uint32_t reg)
{
	ioapic_mmio_write(io, 0, reg);
	return ioapic_mmio_read(io, 0x10);
}

static void entry(struct ioapic *io, unsigned pin, uint32_t low, uint32_t dest)
{
	io_write(io, 0x11 + 2 * pin, dest << 24);
	io_write(io, 0x10 + 2 * pin, low);
}

enum { LEVEL = 1 << 15, MASK = 1 << 16, REMOTE = 1 << 14 };

static void test_registers(void **state)
{
	(void)state;
	struct test_chip t;

	(void)test_open(&t, 1);
	struct ioapic *io = irq_ioapic(t.chip);

	assert_int_equal(io_read(io, 1), 0x170020);
	io_write(io, 0, 0x0f000000);
	assert_int_equal(io_read(io, 0), 0x0f000000);
	assert_int_equal(io_read(io, 2), 0x0f000000);
	assert_int_equal(io_read(io, 0x10), MASK);
	entry(io, 23, 0xffffffff, 0xff);
	assert_int_equal(io_read(io, 0x3e), 0x1afff);   /* status and remote IRR are read only */
	assert_int_equal(io_read(io, 0x3f), 0xff000000);
	io_write(io, 0x40, 0);                          /* no such pin */
	assert_int_equal(io_read(io, 0x40), 0);
	assert_int_equal(io_read(io, 0xff), 0);
	ioapic_mmio_write(io, 0, 0x1ff);                /* the selector has eight bits */
	assert_int_equal(ioapic_mmio_read(io, 0), 0xff);
	irq_line(t.chip, 24, true);
	irq_free(t.chip);
}

static void test_edge(void **state)
{
	(void)state;
	struct test_chip t;
	struct lapic *l = test_open(&t, 1);
	struct ioapic *io = irq_ioapic(t.chip);

	test_enable(&t);
	entry(io, 4, 0x41, 0);
	irq_line(t.chip, 4, true);
	irq_line(t.chip, 4, true);                      /* no edge */
	assert_int_equal(test_take(l), 0x41);
	assert_int_equal(lapic_next(l), -1);
	test_write(l, LAPIC_EOI, 0);
	assert_int_equal(lapic_next(l), -1);
	irq_line(t.chip, 4, false);
	irq_line(t.chip, 4, true);
	assert_int_equal(test_take(l), 0x41);
	test_write(l, LAPIC_EOI, 0);
	/* An edge while masked is lost. */
	irq_line(t.chip, 4, false);
	entry(io, 4, MASK | 0x41, 0);
	irq_line(t.chip, 4, true);
	entry(io, 4, 0x41, 0);
	assert_int_equal(lapic_next(l), -1);
	irq_free(t.chip);
}

static void test_level(void **state)
{
	(void)state;
	struct test_chip t;
	struct lapic *l = test_open(&t, 1);
	struct ioapic *io = irq_ioapic(t.chip);

	test_enable(&t);
	entry(io, 5, LEVEL | MASK | 0x41, 0);
	irq_line(t.chip, 5, true);
	assert_int_equal(lapic_next(l), -1);
	entry(io, 5, LEVEL | 0x41, 0);                  /* still high: it comes now */
	assert_int_equal(io_read(io, 0x1a), LEVEL | REMOTE | 0x41);
	assert_int_equal(test_take(l), 0x41);
	assert_int_equal(test_read(l, LAPIC_TMR + 0x20), 2);
	irq_line(t.chip, 5, true);
	assert_int_equal(lapic_next(l), -1);            /* remote IRR holds it */
	test_write(l, LAPIC_EOI, 0);                    /* the line is still high: again */
	assert_int_equal(test_take(l), 0x41);
	irq_line(t.chip, 5, false);
	test_write(l, LAPIC_EOI, 0);
	assert_int_equal(lapic_next(l), -1);
	assert_int_equal(io_read(io, 0x1a), LEVEL | 0x41);

	/* Made an edge and level again: remote IRR is gone. */
	irq_line(t.chip, 5, true);
	assert_int_equal(test_take(l), 0x41);
	irq_line(t.chip, 5, false);
	entry(io, 5, 0x41, 0);
	entry(io, 5, LEVEL | 0x41, 0);
	assert_int_equal(io_read(io, 0x1a), LEVEL | 0x41);
	irq_free(t.chip);
}

static void test_directed_eoi(void **state)
{
	(void)state;
	struct test_chip t;
	struct lapic *l = test_open(&t, 1);
	struct ioapic *io = irq_ioapic(t.chip);

	test_write(l, LAPIC_SVR, 0x1ff | LAPIC_SVR_NO_BROADCAST);
	entry(io, 5, LEVEL | 0x41, 0);
	irq_line(t.chip, 5, true);
	assert_int_equal(test_take(l), 0x41);
	test_write(l, LAPIC_EOI, 0);
	assert_int_equal(io_read(io, 0x1a), LEVEL | REMOTE | 0x41);
	assert_int_equal(lapic_next(l), -1);
	ioapic_mmio_write(io, 0x40, 0x42);              /* of another vector */
	assert_int_equal(lapic_next(l), -1);
	ioapic_mmio_write(io, 0x40, 0x41);
	assert_int_equal(test_take(l), 0x41);
	irq_free(t.chip);
}

static void test_destinations(void **state)
{
	(void)state;
	struct test_chip t;

	(void)test_open(&t, 3);
	struct ioapic *io = irq_ioapic(t.chip);

	test_enable(&t);
	for (unsigned c = 0; c < 3; c++) {
		test_write(irq_lapic(t.chip, c), LAPIC_LDR, 1u << (24 + c));
	}
	entry(io, 1, 0x41, 2);
	entry(io, 2, 1 << 11 | 0x52, 0x3);
	irq_line(t.chip, 1, true);
	irq_line(t.chip, 2, true);
	assert_int_equal(lapic_next(irq_lapic(t.chip, 0)), 0x52);
	assert_int_equal(lapic_next(irq_lapic(t.chip, 1)), 0x52);
	assert_int_equal(lapic_next(irq_lapic(t.chip, 2)), 0x41);
	entry(io, 3, 4 << 8, 1);
	irq_line(t.chip, 3, true);
	uint8_t sipi;

	assert_int_equal(lapic_events(irq_lapic(t.chip, 1), LAPIC_NMI, &sipi), LAPIC_NMI);
	irq_free(t.chip);
}

struct sent {
	uint64_t addr;
	uint32_t data;
	unsigned n, changed;
};

static void sink(void *ctx, uint64_t addr, uint32_t data)
{
	struct sent *s = ctx;

	*s = (struct sent){ .addr = addr, .data = data, .n = s->n + 1, .changed = s->changed };
}

static void changed(void *ctx, unsigned pin)
{
	struct sent *s = ctx;

	(void)pin;
	s->changed++;
}

static void test_alone_and_saved(void **state)
{
	(void)state;
	struct sent sent = { 0 }, sent2 = { 0 };
	struct ioapic_conf conf = { .ctx = &sent, .msi = sink, .changed = changed };
	struct ioapic *io = NULL, *io2 = NULL;
	struct ioapic_state s, s2;

	assert_int_equal(ioapic_new(&conf, &io), 0);
	conf.ctx = &sent2;
	assert_int_equal(ioapic_new(&conf, &io2), 0);
	entry(io, 9, LEVEL | 1 << 11 | 0x41, 7);
	assert_int_equal(sent.changed, 2);
	ioapic_set(io, 9, true);
	assert_int_equal(sent.n, 1);
	assert_int_equal(sent.addr, 0xfee07004);
	assert_int_equal(sent.data, 0xc041);
	ioapic_get(io, &s);
	ioapic_put(io2, &s);
	assert_int_equal(sent2.changed, IRQ_PINS);
	assert_int_equal(sent2.n, 0);                   /* it waits for its end, as before */
	ioapic_get(io2, &s2);
	assert_memory_equal(&s, &s2, sizeof(s));
	ioapic_eoi(io2, 0x41);
	assert_int_equal(sent2.n, 1);
	ioapic_free(io);
	ioapic_free(io2);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_registers),
		cmocka_unit_test(test_edge),
		cmocka_unit_test(test_level),
		cmocka_unit_test(test_directed_eoi),
		cmocka_unit_test(test_destinations),
		cmocka_unit_test(test_alone_and_saved),
	};

	return TEST_RUN(tests);
}
