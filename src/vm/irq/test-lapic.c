/* SPDX-License-Identifier: Apache-2.0 */
#include "vm/irq/test-chip.h"

static int x2_write(struct lapic *l, uint32_t off, uint64_t v)
{
	return lapic_msr_write(l, LAPIC_MSR_X2 + off / 16, v, T0);
}

static int x2_read(struct lapic *l, uint32_t off, uint64_t *ret)
{
	return lapic_msr_read(l, LAPIC_MSR_X2 + off / 16, T0, ret);
}

static void test_reset_values(void **state)
{
	(void)state;
	struct test_chip t;
	struct lapic *l = test_open(&t, 2);
	uint64_t base;

	assert_int_equal(lapic_msr_read(l, LAPIC_MSR_BASE, T0, &base), 0);
	assert_int_equal(base, 0xfee00900);
	assert_true(lapic_mmio_base(l, &base));
	assert_int_equal(base, LAPIC_BASE);
	l = irq_lapic(t.chip, 1);
	assert_int_equal(lapic_msr_read(l, LAPIC_MSR_BASE, T0, &base), 0);
	assert_int_equal(base, 0xfee00800);
	assert_int_equal(test_read(l, LAPIC_ID), 1u << 24);
	assert_int_equal(test_read(l, LAPIC_VERSION) & 0xff00ff, 0x050014);
	assert_int_equal(test_read(l, LAPIC_SVR), 0xff);
	assert_int_equal(test_read(l, LAPIC_DFR), 0xffffffff);
	assert_int_equal(test_read(l, LAPIC_LVT_LINT0), LAPIC_LVT_MASKED);
	irq_free(t.chip);
}

static void test_priorities(void **state)
{
	(void)state;
	struct test_chip t;
	struct lapic *l = test_open(&t, 1);

	test_enable(&t);
	irq_msi(t.chip, LAPIC_BASE, 0x41);
	irq_msi(t.chip, LAPIC_BASE, 0x52);
	irq_msi(t.chip, LAPIC_BASE, 0x55);
	assert_int_equal(t.kicks[0], 3);
	assert_int_equal(test_take(l), 0x55);
	assert_int_equal(lapic_next(l), -1);    /* 0x52 is of the same class */
	assert_int_equal(test_read(l, LAPIC_PPR), 0x50);
	assert_int_equal(test_read(l, LAPIC_IRR + 0x20), 1u << 1 | 1u << 18);
	assert_int_equal(test_read(l, LAPIC_ISR + 0x20), 1u << 21);
	test_write(l, LAPIC_EOI, 0);
	assert_int_equal(test_take(l), 0x52);
	test_write(l, LAPIC_TPR, 0x45);
	test_write(l, LAPIC_EOI, 0);
	assert_int_equal(test_read(l, LAPIC_PPR), 0x45);
	assert_int_equal(lapic_cr8(l), 4);
	assert_int_equal(lapic_next(l), -1);
	lapic_set_cr8(l, 3);
	assert_int_equal(test_read(l, LAPIC_TPR), 0x30);
	assert_int_equal(test_take(l), 0x41);
	test_write(l, LAPIC_EOI, 0);
	test_write(l, LAPIC_EOI, 0);            /* of nothing: nothing */
	irq_free(t.chip);
}

static void test_same_vector_once(void **state)
{
	(void)state;
	struct test_chip t;
	struct lapic *l = test_open(&t, 1);

	test_enable(&t);
	irq_msi(t.chip, LAPIC_BASE, 0x41);
	irq_msi(t.chip, LAPIC_BASE, 0x41);
	assert_int_equal(t.kicks[0], 1);
	assert_int_equal(test_take(l), 0x41);
	irq_msi(t.chip, LAPIC_BASE, 0x41);      /* while it is in service: one more */
	test_write(l, LAPIC_EOI, 0);
	assert_int_equal(test_take(l), 0x41);
	test_write(l, LAPIC_EOI, 0);
	assert_int_equal(lapic_next(l), -1);
	irq_free(t.chip);
}

static void test_software_disabled_takes_only_events(void **state)
{
	(void)state;
	struct test_chip t;
	struct lapic *l = test_open(&t, 1);
	uint8_t sipi = 0;

	irq_msi(t.chip, LAPIC_BASE, 0x41);
	irq_msi(t.chip, LAPIC_BASE, 4 << 8);
	assert_int_equal(lapic_next(l), -1);
	assert_int_equal(lapic_events(l, LAPIC_INIT | LAPIC_SIPI | LAPIC_NMI, &sipi), LAPIC_NMI);
	test_write(l, LAPIC_LVT_LINT0, 0x41);
	assert_int_equal(test_read(l, LAPIC_LVT_LINT0), 0x10041);   /* stays masked */
	test_write(l, LAPIC_SVR, 0x1ff);
	test_write(l, LAPIC_LVT_LINT0, 0x41);
	irq_lint(t.chip, 0, 0);
	assert_int_equal(test_take(l), 0x41);
	test_write(l, LAPIC_SVR, 0xff);
	assert_int_equal(test_read(l, LAPIC_LVT_LINT0), 0x10041);
	irq_free(t.chip);
}

static void test_lint(void **state)
{
	(void)state;
	struct test_chip t;
	struct lapic *l = test_open(&t, 1);
	uint8_t sipi = 0;

	test_enable(&t);
	test_write(l, LAPIC_LVT_LINT1, 4 << 8);
	irq_lint(t.chip, 0, 1);
	assert_int_equal(lapic_events(l, LAPIC_NMI, &sipi), LAPIC_NMI);
	test_write(l, LAPIC_LVT_LINT0, 7 << 8);      /* nobody gives the vector */
	irq_lint(t.chip, 0, 0);
	assert_false(lapic_has_event(l));
	test_write(l, LAPIC_LVT_PERF, 0x61);
	lapic_lvt(l, LAPIC_LVT_PERF);
	assert_int_equal(test_take(l), 0x61);
	irq_free(t.chip);
}

/* Who gets a message: by mode, destination and each one's logical id. */
static void test_destinations(void **state)
{
	(void)state;
	static const struct {
		uint32_t ldr_of_0_and_1, dfr;
		bool     logical;
		uint32_t dest;
		bool     to[3];
	} cases[] = {
		{ 0x01020000, 0xffffffff, false, 1, { false, true, false } },
		{ 0x01020000, 0xffffffff, false, 0xff, { true, true, true } },
		{ 0x01020000, 0xffffffff, false, 9, { false, false, false } },
		{ 0x01020000, 0xffffffff, true, 0x03, { true, true, false } },
		{ 0x01020000, 0xffffffff, true, 0x02, { false, true, false } },
		{ 0x01020000, 0xffffffff, true, 0xff, { true, true, true } },
		{ 0x11120000, 0x0fffffff, true, 0x13, { true, true, false } },
		{ 0x11120000, 0x0fffffff, true, 0x23, { false, false, false } },
		{ 0x11220000, 0x0fffffff, true, 0x23, { false, true, false } },
	};

	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		struct test_chip t;

		(void)test_open(&t, 3);
		test_enable(&t);
		for (unsigned c = 0; c < 3; c++) {
			uint32_t id = c == 2 ? 0 : cases[i].ldr_of_0_and_1 >> (c ? 16 : 24) & 0xff;

			test_write(irq_lapic(t.chip, c), LAPIC_DFR, cases[i].dfr);
			test_write(irq_lapic(t.chip, c), LAPIC_LDR, id << 24);
		}
		irq_msi(t.chip, LAPIC_BASE | cases[i].dest << 12 | (cases[i].logical ? 4 : 0), 0x41);
		for (unsigned c = 0; c < 3; c++) {
			assert_int_equal(lapic_next(irq_lapic(t.chip, c)),
					 cases[i].to[c] ? 0x41 : -1);
		}
		irq_free(t.chip);
	}
}

static void test_lowest_priority_goes_to_one(void **state)
{
	(void)state;
	struct test_chip t;
	unsigned got[3] = { 0 };

	(void)test_open(&t, 3);
	test_write(irq_lapic(t.chip, 0), LAPIC_SVR, 0x1ff);
	test_write(irq_lapic(t.chip, 1), LAPIC_SVR, 0x1ff);    /* 2 stays disabled */
	for (unsigned i = 0; i < 12; i++) {
		unsigned n = 0;

		irq_msi(t.chip, LAPIC_BASE | 0xff << 12, 1 << 8 | 0x41);
		for (unsigned c = 0; c < 3; c++) {
			if (test_take(irq_lapic(t.chip, c)) == 0x41) {
				test_write(irq_lapic(t.chip, c), LAPIC_EOI, 0);
				got[c]++;
				n++;
			}
		}
		assert_int_equal(n, 1);
	}
	assert_true(got[0] > 0 && got[1] > 0 && got[2] == 0);
	irq_free(t.chip);
}

static void test_x2_logical(void **state)
{
	(void)state;
	struct test_chip t;
	uint64_t v;

	(void)test_open(&t, 40);
	test_x2(&t);
	assert_int_equal(x2_read(irq_lapic(t.chip, 37), LAPIC_LDR, &v), 0);
	assert_int_equal(v, 2 << 16 | 1 << 5);
	/* Cluster 2, members 5 and 0. */
	assert_int_equal(x2_write(irq_lapic(t.chip, 0), LAPIC_ICR,
				  UINT64_C(0x20021) << 32 | 1 << 11 | 0x41), 0);
	for (unsigned c = 0; c < 40; c++) {
		assert_int_equal(test_take(irq_lapic(t.chip, c)), c == 32 || c == 37 ? 0x41 : -1);
	}
	/* All ones is everyone, also as a logical destination; 0xff is not. */
	assert_int_equal(x2_write(irq_lapic(t.chip, 0), LAPIC_ICR,
				  UINT64_C(0xffffffff) << 32 | 1 << 11 | 0x52), 0);
	for (unsigned c = 0; c < 40; c++) {
		assert_int_equal(test_take(irq_lapic(t.chip, c)), 0x52);
		assert_int_equal(x2_write(irq_lapic(t.chip, c), LAPIC_EOI, 0), 0);
	}
	assert_int_equal(x2_write(irq_lapic(t.chip, 0), LAPIC_ICR, UINT64_C(0xff) << 32 | 0x63), 0);
	for (unsigned c = 0; c < 40; c++) {
		assert_int_equal(lapic_next(irq_lapic(t.chip, c)), -1);
	}
	irq_free(t.chip);
}

static void test_x2_registers(void **state)
{
	(void)state;
	struct test_chip t;
	struct lapic *l = test_open(&t, 2);
	uint64_t v;

	/* Not there before x2APIC mode is on. */
	assert_int_equal(x2_read(l, LAPIC_ID, &v), -EPERM);
	assert_int_equal(x2_write(l, LAPIC_EOI, 0), -EPERM);
	test_x2(&t);
	l = irq_lapic(t.chip, 1);
	assert_false(lapic_mmio_base(l, &v));

	/* The whole range from 0x800 to 0x8ff faults where there is no register. */
	for (uint32_t msr = 0x800; msr <= 0x8ff; msr++) {
		static const uint16_t there[] = {
			0x802, 0x803, 0x808, 0x80a, 0x80d, 0x80f, 0x828, 0x830, 0x832, 0x833,
			0x834, 0x835, 0x836, 0x837, 0x838, 0x839, 0x83e,
		};
		bool want = msr >= 0x810 && msr < 0x828;

		for (size_t i = 0; i < ARRAY_LEN(there); i++) {
			want = want || there[i] == msr;
		}
		assert_int_equal(lapic_msr_read(l, msr, T0, &v), want ? 0 : -EPERM);
	}
	assert_int_equal(lapic_msr_read(l, 0x900, T0, &v), -ENOENT);
	assert_int_equal(lapic_msr_read(l, 0x7ff, T0, &v), -ENOENT);

	assert_int_equal(x2_read(l, LAPIC_ID, &v), 0);
	assert_int_equal(v, 1);
	assert_int_equal(x2_write(l, LAPIC_ID, 1), -EPERM);
	assert_int_equal(x2_write(l, LAPIC_LDR, 1), -EPERM);
	assert_int_equal(x2_write(l, LAPIC_DFR, 0xffffffff), -EPERM);
	assert_int_equal(x2_write(l, LAPIC_EOI, 1), -EPERM);
	assert_int_equal(x2_write(l, LAPIC_ESR, 1), -EPERM);
	assert_int_equal(x2_write(l, LAPIC_TPR, 0x100), -EPERM);
	assert_int_equal(x2_write(l, LAPIC_TPR, UINT64_C(1) << 32), -EPERM);
	assert_int_equal(x2_write(l, LAPIC_TPR, 0x20), 0);
	assert_int_equal(x2_write(l, LAPIC_ICR_HIGH, 0), -EPERM);
	assert_int_equal(x2_write(l, LAPIC_TIMER_CURRENT, 0), -EPERM);
	assert_int_equal(x2_write(l, LAPIC_LVT_TIMER, 1 << 19), -EPERM);

	/* ICR reads back as it was written, the destination too. */
	assert_int_equal(x2_write(l, LAPIC_ICR, UINT64_C(7) << 32 | 0x41), 0);
	assert_int_equal(x2_read(l, LAPIC_ICR, &v), 0);
	assert_int_equal(v, UINT64_C(7) << 32 | 0x41);
	assert_int_equal(x2_write(l, LAPIC_ICR, 1 << 20 | 0x41), -EPERM);

	assert_int_equal(x2_write(l, LAPIC_SELF_IPI, 0x77), 0);
	assert_int_equal(test_take(l), 0x77);
	assert_int_equal(x2_read(l, LAPIC_SELF_IPI, &v), -EPERM);
	irq_free(t.chip);
}

static void test_mode_changes(void **state)
{
	(void)state;
	enum { EN = LAPIC_BASE_ENABLE, X2 = LAPIC_BASE_EXTD };
	static const struct {
		uint64_t from, to;
		int      r;
	} cases[] = {
		{ EN, EN | X2, 0 }, { EN, 0, 0 }, { EN, X2, -EPERM }, { EN | X2, EN, -EPERM },
		{ EN | X2, 0, 0 }, { EN | X2, X2, -EPERM }, { 0, EN, 0 }, { 0, EN | X2, -EPERM },
	};

	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		struct test_chip t;
		struct lapic *l = test_open(&t, 1);
		uint64_t v;

		assert_int_equal(lapic_msr_write(l, LAPIC_MSR_BASE, LAPIC_BASE | cases[i].from, T0),
				 0);
		assert_int_equal(lapic_msr_write(l, LAPIC_MSR_BASE, LAPIC_BASE | cases[i].to, T0),
				 cases[i].r);
		assert_int_equal(lapic_msr_read(l, LAPIC_MSR_BASE, T0, &v), 0);
		/* The boot processor's bit stays. */
		assert_int_equal(v, LAPIC_BASE | LAPIC_BASE_BSP |
				    (cases[i].r ? cases[i].from : cases[i].to));
		irq_free(t.chip);
	}
}

static void test_base_reserved_bits(void **state)
{
	(void)state;
	struct test_chip t;
	struct lapic *l = test_open(&t, 1);
	uint64_t v;

	assert_int_equal(lapic_msr_write(l, LAPIC_MSR_BASE, LAPIC_BASE | 0xa00, T0), -EPERM);
	assert_int_equal(lapic_msr_write(l, LAPIC_MSR_BASE, LAPIC_BASE | 0x801, T0), -EPERM);
	assert_int_equal(lapic_msr_write(l, LAPIC_MSR_BASE, BIT(40) | 0x800, T0), -EPERM);
	assert_int_equal(lapic_msr_write(l, LAPIC_MSR_BASE, BIT(39) | 0x800, T0), 0);
	assert_true(lapic_mmio_base(l, &v));
	assert_int_equal(v, BIT(39));
	irq_free(t.chip);
}

/* Disabled and enabled again, it is as after power-up. */
static void test_disabled_is_reset(void **state)
{
	(void)state;
	struct test_chip t;
	struct lapic *l = test_open(&t, 2);

	l = irq_lapic(t.chip, 1);
	test_x2(&t);
	irq_msi(t.chip, LAPIC_BASE | 1 << 12, 0x41);
	assert_int_equal(test_take(l), 0x41);
	irq_msi(t.chip, LAPIC_BASE | 1 << 12, 0x52);
	assert_int_equal(lapic_msr_write(l, LAPIC_MSR_BASE, LAPIC_BASE, T0), 0);
	assert_false(lapic_enabled(l));
	assert_int_equal(lapic_next(l), -1);
	irq_msi(t.chip, LAPIC_BASE | 1 << 12, 0x63);
	assert_int_equal(lapic_msr_write(l, LAPIC_MSR_BASE, LAPIC_BASE | 0x800, T0), 0);
	assert_int_equal(lapic_next(l), -1);
	assert_int_equal(test_read(l, LAPIC_SVR), 0xff);
	assert_int_equal(test_read(l, LAPIC_ISR + 0x20), 0);
	assert_int_equal(test_read(l, LAPIC_ID), 1u << 24);
	assert_int_equal(test_read(l, LAPIC_LDR), 0);
	irq_free(t.chip);
}

static void test_shorthands(void **state)
{
	(void)state;
	static const struct {
		uint32_t shorthand;
		bool     to[3];
	} cases[] = {
		{ 1, { false, true, false } }, { 2, { true, true, true } }, { 3, { true, false, true } },
	};

	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		struct test_chip t;

		(void)test_open(&t, 3);
		test_enable(&t);
		test_write(irq_lapic(t.chip, 1), LAPIC_ICR, cases[i].shorthand << 18 | 0x41);
		for (unsigned c = 0; c < 3; c++) {
			assert_int_equal(lapic_next(irq_lapic(t.chip, c)),
					 cases[i].to[c] ? 0x41 : -1);
			assert_int_equal(t.kicks[c] > 0, cases[i].to[c]);
		}
		irq_free(t.chip);
	}
}

static void test_start_up(void **state)
{
	(void)state;
	struct test_chip t;
	struct lapic *bsp = test_open(&t, 2), *ap = irq_lapic(t.chip, 1);
	unsigned all = LAPIC_INIT | LAPIC_SIPI | LAPIC_NMI;
	uint8_t sipi = 0;

	test_write(bsp, LAPIC_ICR_HIGH, 1u << 24);
	test_write(bsp, LAPIC_ICR, 0xc500);          /* INIT, asserted */
	test_write(bsp, LAPIC_ICR, 0x8500);          /* de-asserted: nothing */
	assert_int_equal(lapic_events(ap, all, &sipi), LAPIC_INIT);
	assert_int_equal(lapic_events(ap, all, &sipi), 0);
	test_write(bsp, LAPIC_ICR, 0x69a);
	assert_int_equal(lapic_events(ap, all, &sipi), LAPIC_SIPI);
	assert_int_equal(sipi, 0x9a);

	/* Both before the other looked: the INIT is first; a SIPI before an INIT is lost. */
	test_write(bsp, LAPIC_ICR, 0x611);
	test_write(bsp, LAPIC_ICR, 0xc500);
	assert_int_equal(lapic_events(ap, all, &sipi), LAPIC_INIT);
	test_write(bsp, LAPIC_ICR, 0xc500);
	test_write(bsp, LAPIC_ICR, 0x622);
	assert_int_equal(lapic_events(ap, LAPIC_NMI, &sipi), 0);
	assert_int_equal(lapic_events(ap, all, &sipi), LAPIC_INIT | LAPIC_SIPI);
	assert_int_equal(sipi, 0x22);
	test_write(bsp, LAPIC_ICR, 4 << 8);
	assert_true(lapic_has_event(ap));
	assert_int_equal(lapic_events(ap, all, &sipi), LAPIC_NMI);
	irq_free(t.chip);
}

static void test_errors(void **state)
{
	(void)state;
	struct test_chip t;
	struct lapic *l = test_open(&t, 1);

	test_enable(&t);
	test_write(l, LAPIC_LVT_ERROR, 0xfe);
	test_write(l, LAPIC_ICR, 0x0f);
	assert_int_equal(test_take(l), 0xfe);
	assert_int_equal(test_read(l, LAPIC_ESR), 0);     /* latched by a write */
	test_write(l, LAPIC_ESR, 0);
	assert_int_equal(test_read(l, LAPIC_ESR), LAPIC_ERROR_SEND_VECTOR);
	test_write(l, LAPIC_EOI, 0);
	irq_msi(t.chip, LAPIC_BASE, 0x05);
	assert_int_equal(test_take(l), 0xfe);
	(void)test_read(l, 0x3f0 - 0x10 * 5);             /* 0x3a0: no register */
	test_write(l, LAPIC_ESR, 0);
	assert_int_equal(test_read(l, LAPIC_ESR),
			 LAPIC_ERROR_RECEIVE_VECTOR | LAPIC_ERROR_REGISTER);
	test_write(l, LAPIC_ESR, 0);
	assert_int_equal(test_read(l, LAPIC_ESR), 0);

	/* An error vector that is bad does not go round for ever. */
	test_write(l, LAPIC_LVT_ERROR, 0x01);
	test_write(l, LAPIC_ICR, 0x0f);
	irq_free(t.chip);
}

static uint32_t count_at(struct lapic *l, uint64_t ns)
{
	return lapic_mmio_read(l, LAPIC_TIMER_CURRENT, 4, (struct irq_now){ .ns = ns });
}

static void test_one_shot(void **state)
{
	(void)state;
	struct test_chip t;
	struct lapic *l = test_open(&t, 1);

	test_enable(&t);
	test_write(l, LAPIC_LVT_TIMER, 0x31);
	test_write(l, LAPIC_TIMER_DIVIDE, 3);             /* by 16 */
	assert_int_equal(lapic_deadline_ns(l, T0), UINT64_MAX);
	test_write(l, LAPIC_TIMER_INITIAL, 100);
	assert_int_equal(lapic_deadline_ns(l, T0), 1000 + 1600);
	assert_int_equal(count_at(l, 1000), 100);
	assert_int_equal(count_at(l, 1016), 99);
	lapic_timer_run(l, (struct irq_now){ .ns = 2599 });
	assert_int_equal(lapic_next(l), -1);
	/* The divider changes while it runs: what is left goes on at the new rate. */
	lapic_mmio_write(l, LAPIC_TIMER_DIVIDE, 4, 0xb, (struct irq_now){ .ns = 1800 });
	assert_int_equal(count_at(l, 1800), 50);
	assert_int_equal(lapic_deadline_ns(l, T0), 1850);
	lapic_timer_run(l, (struct irq_now){ .ns = 1850 });
	assert_int_equal(test_take(l), 0x31);
	assert_int_equal(count_at(l, 1850), 0);
	assert_int_equal(lapic_deadline_ns(l, T0), UINT64_MAX);
	test_write(l, LAPIC_TIMER_INITIAL, 100);
	test_write(l, LAPIC_TIMER_INITIAL, 0);            /* stops it */
	assert_int_equal(lapic_deadline_ns(l, T0), UINT64_MAX);
	irq_free(t.chip);
}

static void test_dividers(void **state)
{
	(void)state;
	static const struct {
		uint32_t dcr, by;
	} cases[] = { { 0, 2 }, { 1, 4 }, { 2, 8 }, { 3, 16 }, { 8, 32 }, { 9, 64 }, { 10, 128 },
		      { 11, 1 } };
	struct test_chip t;
	struct lapic *l = test_open(&t, 1);

	test_enable(&t);
	test_write(l, LAPIC_LVT_TIMER, 0x31);
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		test_write(l, LAPIC_TIMER_DIVIDE, cases[i].dcr);
		test_write(l, LAPIC_TIMER_INITIAL, 10);
		assert_int_equal(lapic_deadline_ns(l, T0), 1000 + 10 * cases[i].by);
	}
	irq_free(t.chip);
}

static void test_periodic(void **state)
{
	(void)state;
	struct test_chip t;
	struct lapic *l = test_open(&t, 1);

	test_enable(&t);
	test_write(l, LAPIC_TIMER_DIVIDE, 0xb);
	test_write(l, LAPIC_LVT_TIMER, LAPIC_TIMER_PERIODIC | 0x31);
	test_write(l, LAPIC_TIMER_INITIAL, 100);
	lapic_timer_run(l, (struct irq_now){ .ns = 1100 });
	assert_int_equal(test_take(l), 0x31);
	test_write(l, LAPIC_EOI, 0);
	assert_int_equal(lapic_deadline_ns(l, T0), 1200);
	lapic_timer_run(l, (struct irq_now){ .ns = 1530 });   /* four of them, seen as one */
	assert_int_equal(test_take(l), 0x31);
	test_write(l, LAPIC_EOI, 0);
	assert_int_equal(lapic_deadline_ns(l, T0), 1600);
	assert_int_equal(count_at(l, 1530), 70);
	test_write(l, LAPIC_LVT_TIMER, LAPIC_TIMER_PERIODIC | LAPIC_LVT_MASKED | 0x31);
	lapic_timer_run(l, (struct irq_now){ .ns = 1600 });   /* it runs on, masked */
	assert_int_equal(lapic_next(l), -1);
	assert_int_equal(lapic_deadline_ns(l, T0), 1700);
	irq_free(t.chip);
}

static void test_tsc_deadline(void **state)
{
	(void)state;
	struct test_chip t;
	struct lapic *l = test_open(&t, 1);
	uint64_t v;

	test_enable(&t);
	/* Ignored in the other modes. */
	assert_int_equal(lapic_msr_write(l, LAPIC_MSR_TSC_DEADLINE, 9000, T0), 0);
	assert_int_equal(lapic_msr_read(l, LAPIC_MSR_TSC_DEADLINE, T0, &v), 0);
	assert_int_equal(v, 0);
	test_write(l, LAPIC_LVT_TIMER, LAPIC_TIMER_DEADLINE | 0x31);
	test_write(l, LAPIC_TIMER_INITIAL, 100);              /* and the count in this one */
	assert_int_equal(test_read(l, LAPIC_TIMER_INITIAL), 0);
	assert_int_equal(lapic_msr_write(l, LAPIC_MSR_TSC_DEADLINE, 9001, T0), 0);
	assert_int_equal(lapic_msr_read(l, LAPIC_MSR_TSC_DEADLINE, T0, &v), 0);
	assert_int_equal(v, 9001);
	/* 4001 ticks at 2 GHz, rounded up. */
	assert_int_equal(lapic_deadline_ns(l, T0), 1000 + 2001);
	lapic_timer_run(l, (struct irq_now){ .ns = 3000, .tsc = 9000 });
	assert_int_equal(lapic_next(l), -1);
	lapic_timer_run(l, (struct irq_now){ .ns = 3001, .tsc = 9001 });
	assert_int_equal(test_take(l), 0x31);
	assert_int_equal(lapic_msr_read(l, LAPIC_MSR_TSC_DEADLINE, T0, &v), 0);
	assert_int_equal(v, 0);
	test_write(l, LAPIC_EOI, 0);

	/* In the past: at once. Far away: no overflow. */
	assert_int_equal(lapic_msr_write(l, LAPIC_MSR_TSC_DEADLINE, 1, T0), 0);
	assert_int_equal(lapic_deadline_ns(l, T0), 1000);
	assert_int_equal(lapic_msr_write(l, LAPIC_MSR_TSC_DEADLINE, UINT64_MAX, T0), 0);
	assert_true(lapic_deadline_ns(l, T0) > BIT(62));
	/* Whenever it is asked for, also where a tick is no whole number of nanoseconds. */
	t.chip->conf.tsc_hz = 2100000007;
	assert_int_equal(lapic_msr_write(l, LAPIC_MSR_TSC_DEADLINE, 30000, T0), 0);
	for (uint64_t ns = 1000; ns < 14285; ns++) {
		struct irq_now now = { .ns = ns, .tsc = ns * 2100000007 / 1000000000 };

		assert_int_equal(lapic_deadline_ns(l, now), 14286);
	}
	lapic_timer_run(l, (struct irq_now){ .ns = 14285, .tsc = UINT64_C(14285) * 2100000007 / 1000000000 });
	assert_int_equal(lapic_next(l), -1);
	lapic_timer_run(l, (struct irq_now){ .ns = 14286, .tsc = UINT64_C(14286) * 2100000007 / 1000000000 });
	assert_int_equal(test_take(l), 0x31);
	/* Leaving the mode disarms. */
	test_write(l, LAPIC_LVT_TIMER, 0x31);
	assert_int_equal(lapic_deadline_ns(l, T0), UINT64_MAX);
	irq_free(t.chip);
}

static void test_pv_eoi(void **state)
{
	(void)state;
	struct test_chip t;
	struct lapic *l = test_open(&t, 1);

	test_enable(&t);
	assert_int_equal(lapic_set_pv_eoi(l, 2), -EPERM);
	assert_int_equal(lapic_set_pv_eoi(l, TEST_WORD_AT | 1), 0);
	irq_msi(t.chip, LAPIC_BASE, 0x41);
	assert_int_equal(test_take(l), 0x41);
	assert_int_equal(test_word, 1);
	test_word = 0;                               /* the guest's end of interrupt */
	irq_msi(t.chip, LAPIC_BASE, 0x41);
	assert_int_equal(test_take(l), 0x41);
	assert_int_equal(test_word, 1);
	/* Not ended, and a second one waits: it is taken back, and the guest writes. */
	irq_msi(t.chip, LAPIC_BASE, 0x42);
	assert_int_equal(lapic_next(l), -1);
	assert_int_equal(test_word, 0);
	test_write(l, LAPIC_EOI, 0);
	irq_msi(t.chip, LAPIC_BASE, 0x30);
	assert_int_equal(test_take(l), 0x42);
	assert_int_equal(test_word, 0);              /* 0x30 waits: no offer */
	test_write(l, LAPIC_EOI, 0);
	assert_int_equal(test_take(l), 0x30);
	assert_int_equal(test_word, 1);

	/* A level interrupt has to be seen by the I/O APIC. */
	test_word = 0;
	irq_msi(t.chip, LAPIC_BASE, 0xc041);
	assert_int_equal(test_take(l), 0x41);
	assert_int_equal(test_word, 0);
	/* A page that is not there is the guest's loss. */
	test_write(l, LAPIC_EOI, 0);
	assert_int_equal(lapic_set_pv_eoi(l, 0x9000 | 1), 0);
	irq_msi(t.chip, LAPIC_BASE, 0x41);
	assert_int_equal(test_take(l), 0x41);
	test_write(l, LAPIC_EOI, 0);
	assert_int_equal(test_read(l, LAPIC_PPR), 0);
	irq_free(t.chip);
}

static void test_pv_send_ipi(void **state)
{
	(void)state;
	struct test_chip t;

	(void)test_open(&t, 4);
	test_enable(&t);
	assert_int_equal(irq_pv_send_ipi(t.chip, 0x0d, 0, 1, 0x41), 2);   /* 1, 3 and a 4th */
	for (unsigned c = 0; c < 4; c++) {
		assert_int_equal(lapic_next(irq_lapic(t.chip, c)), c == 1 || c == 3 ? 0x41 : -1);
	}
	assert_int_equal(irq_pv_send_ipi(t.chip, ~UINT64_C(0), ~UINT64_C(0), 0, 4 << 8), 4);
	assert_int_equal(irq_pv_send_ipi(t.chip, 1, 1, UINT32_MAX, 0x41), 0);
	assert_int_equal(irq_pv_send_ipi(t.chip, 1, 0, 0, 5 << 8), -EINVAL);
	assert_int_equal(irq_pv_send_ipi(t.chip, 1, 0, 0, 1 << 11 | 0x41), -EINVAL);
	assert_int_equal(irq_pv_send_ipi(t.chip, 1, 0, 0, 2 << 18 | 0x41), -EINVAL);
	irq_free(t.chip);
}

static void test_messages_that_are_none(void **state)
{
	(void)state;
	struct test_chip t;
	struct lapic *l = test_open(&t, 1);
	uint8_t sipi = 0;

	test_enable(&t);
	irq_msi(t.chip, 0xfef00000, 0x41);
	irq_msi(t.chip, LAPIC_BASE | BIT(32), 0x41);
	irq_msi(t.chip, LAPIC_BASE, 0x8041);             /* level, not asserted */
	irq_msi(t.chip, LAPIC_BASE, 0x241);              /* SMI */
	irq_msi(t.chip, LAPIC_BASE, 0x741);              /* ExtINT */
	assert_int_equal(lapic_next(l), -1);
	assert_int_equal(lapic_events(l, ~0u, &sipi), 0);
	irq_free(t.chip);
}

static void test_odd_accesses(void **state)
{
	(void)state;
	struct test_chip t;
	struct lapic *l = test_open(&t, 1);

	assert_int_equal(lapic_mmio_read(l, LAPIC_VERSION + 2, 1, T0), 5);
	assert_int_equal(lapic_mmio_read(l, LAPIC_VERSION, 2, T0), 0x14);
	assert_int_equal(lapic_mmio_read(l, LAPIC_VERSION + 2, 4, T0), 0);
	assert_int_equal(lapic_mmio_read(l, 0xffc, 4, T0), 0);
	lapic_mmio_write(l, LAPIC_TPR, 1, 0x20, T0);
	lapic_mmio_write(l, LAPIC_TPR + 4, 4, 0x20, T0);
	lapic_mmio_write(l, 0xff0, 4, 0x20, T0);
	assert_int_equal(test_read(l, LAPIC_TPR), 0);
	irq_free(t.chip);
}

static void test_state_and_back(void **state)
{
	(void)state;
	struct test_chip t, u;
	struct lapic *l = test_open(&t, 2);
	struct lapic_state s, again;
	struct irq_now later = { .ns = 900000, .tsc = 77 };
	uint8_t sipi = 0;

	l = irq_lapic(t.chip, 1);
	test_x2(&t);
	assert_int_equal(x2_write(l, LAPIC_TIMER_DIVIDE, 0xb), 0);
	assert_int_equal(x2_write(l, LAPIC_LVT_TIMER, LAPIC_TIMER_PERIODIC | 0x31), 0);
	assert_int_equal(x2_write(l, LAPIC_TIMER_INITIAL, 4000), 0);
	irq_msi(t.chip, LAPIC_BASE | 1 << 12, 0x41);
	assert_int_equal(test_take(l), 0x41);
	irq_msi(t.chip, LAPIC_BASE | 1 << 12, 0x35);
	assert_int_equal(x2_write(irq_lapic(t.chip, 0), LAPIC_ICR, UINT64_C(1) << 32 | 0x69a), 0);
	lapic_get(l, (struct irq_now){ .ns = 2000 }, &s);
	assert_int_equal(s.timer_left_ns, 3000);
	assert_true(s.sipi_pending && s.sipi_vector == 0x9a);
	assert_true(lapic_state_ok(&s, 1));
	assert_false(lapic_state_ok(&s, 0));
	irq_free(t.chip);

	(void)test_open(&u, 2);
	l = irq_lapic(u.chip, 1);
	lapic_put(l, later, &s);
	lapic_get(l, later, &again);
	assert_memory_equal(&s, &again, sizeof(s));
	assert_int_equal(lapic_deadline_ns(l, later), 903000);
	lapic_timer_run(l, (struct irq_now){ .ns = 903000 });
	assert_int_equal(lapic_deadline_ns(l, later), 907000);
	assert_int_equal(lapic_events(l, LAPIC_SIPI, &sipi), LAPIC_SIPI);
	assert_int_equal(sipi, 0x9a);
	assert_int_equal(x2_write(l, LAPIC_EOI, 0), 0);
	assert_int_equal(test_take(l), 0x35);
	irq_free(u.chip);
}

static void test_states_that_cannot_be(void **state)
{
	(void)state;
	struct test_chip t;
	struct lapic *l = test_open(&t, 1);
	struct lapic_state good, s;

	lapic_get(l, T0, &good);
	assert_true(lapic_state_ok(&good, 0));
	s = good;
	s.apic_base = LAPIC_BASE | LAPIC_BASE_EXTD;
	assert_false(lapic_state_ok(&s, 0));
	s = good;
	s.apic_base |= BIT(52);
	assert_false(lapic_state_ok(&s, 0));
	s = good;
	s.regs[LAPIC_IRR] = 1;
	assert_false(lapic_state_ok(&s, 0));
	s = good;
	s.timer_left_ns = 5;
	assert_false(lapic_state_ok(&s, 0));
	s = good;
	s.tsc_deadline = 5;
	assert_false(lapic_state_ok(&s, 0));
	s = good;
	s.sipi_vector = 5;
	assert_false(lapic_state_ok(&s, 0));
	irq_free(t.chip);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_reset_values),
		cmocka_unit_test(test_priorities),
		cmocka_unit_test(test_same_vector_once),
		cmocka_unit_test(test_software_disabled_takes_only_events),
		cmocka_unit_test(test_lint),
		cmocka_unit_test(test_destinations),
		cmocka_unit_test(test_lowest_priority_goes_to_one),
		cmocka_unit_test(test_x2_logical),
		cmocka_unit_test(test_x2_registers),
		cmocka_unit_test(test_mode_changes),
		cmocka_unit_test(test_base_reserved_bits),
		cmocka_unit_test(test_disabled_is_reset),
		cmocka_unit_test(test_shorthands),
		cmocka_unit_test(test_start_up),
		cmocka_unit_test(test_errors),
		cmocka_unit_test(test_one_shot),
		cmocka_unit_test(test_dividers),
		cmocka_unit_test(test_periodic),
		cmocka_unit_test(test_tsc_deadline),
		cmocka_unit_test(test_pv_eoi),
		cmocka_unit_test(test_pv_send_ipi),
		cmocka_unit_test(test_messages_that_are_none),
		cmocka_unit_test(test_odd_accesses),
		cmocka_unit_test(test_state_and_back),
		cmocka_unit_test(test_states_that_cannot_be),
	};

	return TEST_RUN(tests);
}
