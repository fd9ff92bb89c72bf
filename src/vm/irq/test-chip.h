/* SPDX-License-Identifier: Apache-2.0 */
/* What the tests of this folder share: a chip with its kicks counted, and a word of memory. */
#ifndef VM_IRQ_TEST_CHIP_H
#define VM_IRQ_TEST_CHIP_H

#include "base/test.h"

#include <errno.h>
#include <string.h>

#include "vm/irq/chip.h"

enum { TEST_WORD_AT = 0x1000, TEST_CPUS_MAX = 40 };

struct test_chip {
	struct irq_chip *chip;
	unsigned         kicks[TEST_CPUS_MAX];
};

static uint32_t test_word;

/* Guest memory of these tests is one word. */
int gmem_load32(const struct gmem *g, gpa_t from, uint32_t *ret)
{
	(void)g;
	*ret = test_word;
	return from.raw == TEST_WORD_AT ? 0 : -EFAULT;
}

int gmem_store32(struct gmem *g, gpa_t to, uint32_t v)
{
	(void)g;
	if (to.raw != TEST_WORD_AT) {
		return -EFAULT;
	}
	test_word = v;
	return 0;
}

static inline void test_kick(void *ctx, unsigned cpu)
{
	struct test_chip *t = ctx;

	t->kicks[cpu]++;
}

static inline struct lapic *test_open(struct test_chip *t, unsigned n)
{
	static struct gmem mem;
	struct irq_conf conf = { .n_cpus = n, .tsc_hz = 2000000000, .phys_bits = 40, .mem = &mem,
				 .ctx = t, .kick = test_kick };

	memset(t, 0, sizeof(*t));
	test_word = 0;
	assert_int_equal(irq_new(&conf, &t->chip), 0);
	return irq_lapic(t->chip, 0);
}

static const struct irq_now T0 = { .ns = 1000, .tsc = 5000 };

static inline void test_write(struct lapic *l, uint32_t off, uint32_t v)
{
	lapic_mmio_write(l, off, 4, v, T0);
}

static inline uint32_t test_read(struct lapic *l, uint32_t off)
{
	return lapic_mmio_read(l, off, 4, T0);
}

/* Software-enable all of them. */
static inline void test_enable(struct test_chip *t)
{
	for (unsigned i = 0; i < t->chip->conf.n_cpus; i++) {
		test_write(irq_lapic(t->chip, i), LAPIC_SVR, 0x1ff);
	}
}

static inline void test_x2(struct test_chip *t)
{
	for (unsigned i = 0; i < t->chip->conf.n_cpus; i++) {
		struct lapic *l = irq_lapic(t->chip, i);

		assert_int_equal(lapic_msr_write(l, LAPIC_MSR_BASE,
						 LAPIC_BASE | LAPIC_BASE_ENABLE | LAPIC_BASE_EXTD,
						 T0), 0);
		assert_int_equal(lapic_msr_write(l, LAPIC_MSR_X2 + LAPIC_SVR / 16, 0x1ff, T0), 0);
	}
}

/* Deliver what is next and give its vector; -1: nothing. */
static inline int test_take(struct lapic *l)
{
	int vector = lapic_next(l);

	if (vector >= 0) {
		lapic_accept(l, (uint8_t)vector);
	}
	return vector;
}

#endif
