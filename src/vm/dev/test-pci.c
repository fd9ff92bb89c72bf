/* SPDX-License-Identifier: Apache-2.0 */
#include "base/test.h"

#include <errno.h>

#include "base/le.h"
#include "vm/dev/dev.h"

#define ECAM UINT64_C(0xe0000000)
#define MMIO UINT64_C(0xc0000000)

struct fixture {
	struct gmem     mem;
	struct machine  m;
	struct bus     *mmio;
	struct pci_bus *pci;
	struct pci_function f;
	unsigned        reads, writes, config_writes;
};

static uint64_t on_read(void *ctx, uint64_t off, unsigned n)
{
	struct fixture *x = ctx;

	(void)n;
	x->reads++;
	return off;
}

static void on_write(void *ctx, uint64_t off, unsigned n, uint64_t v)
{
	struct fixture *x = ctx;

	(void)off, (void)n, (void)v;
	x->writes++;
}

static void on_config(struct pci_function *f, unsigned off, unsigned n)
{
	struct fixture *x = container_of(f, struct fixture, f);

	(void)off, (void)n;
	x->config_writes++;
}

static void setup(struct fixture *x)
{
	struct err e = ERR_INIT;

	*x = (struct fixture){ 0 };
	gmem_init(&x->mem);
	assert_int_equal(gmem_add(&x->mem, GPA(0), 1 << 20, -1, 0, false, &e), 0);
	assert_int_equal(bus_new(&x->mmio), 0);
	x->m = (struct machine){ .mem = &x->mem, .mmio = x->mmio };
	assert_int_equal(pci_bus_new(&x->m, GPA(ECAM), GPA(MMIO), 1 << 20, &x->pci, &e), 0);
	x->f = (struct pci_function){ .name = "test", .config_written = on_config };
	x->f.bar[2] = (struct region){ .name = "test", .bytes = 0x4000, .ctx = x,
				       .read = on_read, .write = on_write };
	le32_put(x->f.config, 0x10421af4);
	x->f.writable[0x40] = 0x0f;
	assert_int_equal(pci_add(x->pci, &x->f, &e), 0);
	assert_int_equal(x->f.slot, 1);
}

static void teardown(struct fixture *x)
{
	pci_bus_free(x->pci);
	bus_free(x->mmio);
	gmem_fini(&x->mem);
}

static uint64_t in(struct fixture *x, unsigned reg, unsigned n)
{
	return bus_read(x->mmio, ECAM + (1 << 15) + reg, n);
}

static void out(struct fixture *x, unsigned reg, unsigned n, uint64_t v)
{
	bus_write(x->mmio, ECAM + (1 << 15) + reg, n, v);
}

static void config(void **state)
{
	struct fixture x;

	(void)state;
	setup(&x);
	assert_int_equal(bus_read(x.mmio, ECAM, 4), 0x00081b36);
	assert_int_equal(bus_read(x.mmio, ECAM + 0xa, 2), 0x0600);
	assert_int_equal(in(&x, 0, 4), 0x10421af4);
	assert_int_equal(in(&x, 2, 2), 0x1042);
	out(&x, 0, 4, 0xffffffff);
	out(&x, 0x40, 1, 0xff);
	assert_int_equal(in(&x, 0, 4), 0x10421af4);
	assert_int_equal(in(&x, 0x40, 1), 0x0f);
	assert_int_equal(x.config_writes, 2);
	/* Another function, an empty slot, across two functions. */
	assert_int_equal(in(&x, 0x1000, 4), 0xffffffff);
	assert_int_equal(bus_read(x.mmio, ECAM + (2 << 15), 4), 0xffffffff);
	assert_int_equal(in(&x, 0xffe, 4), 0xffffffff);
	out(&x, 0xffe, 4, 0);
	teardown(&x);
}

static void bars(void **state)
{
	struct fixture x;
	uint64_t at = 0;

	(void)state;
	setup(&x);
	at = in(&x, 0x18, 8) & ~UINT64_C(15);
	assert_int_equal(in(&x, 0x18, 4) & 15, 4);
	assert_int_equal(at, MMIO);
	assert_int_equal(bus_read(x.mmio, at, 4), 0xffffffff); /* does not decode yet */
	out(&x, 4, 2, 2);
	assert_int_equal(bus_read(x.mmio, at + 0x3ffc, 4), 0x3ffc);
	assert_int_equal(bus_read(x.mmio, at + 0x4000, 4), 0xffffffff);
	/* How its size is found. */
	out(&x, 4, 2, 0);
	out(&x, 0x18, 4, 0xffffffff);
	out(&x, 0x1c, 4, 0xffffffff);
	assert_true(in(&x, 0x18, 8) == (~UINT64_C(0x3fff) | 4));
	/* It moves. */
	out(&x, 0x18, 4, 0xc0080000);
	out(&x, 0x1c, 4, 0);
	out(&x, 4, 2, 2);
	assert_int_equal(bus_read(x.mmio, 0xc0080010, 4), 0x10);
	assert_int_equal(bus_read(x.mmio, at, 4), 0xffffffff);
	bus_write(x.mmio, 0xc0080000, 4, 1);
	assert_int_equal(x.writes, 1);
	teardown(&x);
}

/* Over RAM or over other registers it does not decode, and nothing else breaks. */
static void bars_in_the_way(void **state)
{
	static const uint64_t places[] = { 0x4000, ECAM, UINT64_C(0xfffffffffffffff0), 0 };
	struct fixture x;

	(void)state;
	setup(&x);
	for (size_t i = 0; i < ARRAY_LEN(places); i++) {
		out(&x, 0x18, 8, places[i]);
		out(&x, 4, 2, 2);
		assert_int_equal(in(&x, 0, 4), 0x10421af4);
		out(&x, 4, 2, 0);
	}
	assert_int_equal(x.reads, 0);
	out(&x, 0x18, 8, MMIO);
	out(&x, 4, 2, 2);
	assert_int_equal(bus_read(x.mmio, MMIO, 4), 0);
	teardown(&x);
}

static void full(void **state)
{
	struct fixture x;
	static struct pci_function more[PCI_SLOTS];
	struct pci_function large = { .name = "large", .bar[0] = { .bytes = 1 << 20 } };
	struct err e = ERR_INIT;

	(void)state;
	setup(&x);
	assert_int_equal(pci_add(x.pci, &large, &e), -ENOSPC);
	for (unsigned i = 0; i < PCI_SLOTS - 2; i++) {
		assert_int_equal(pci_add(x.pci, &more[i], &e), 0);
	}
	assert_int_equal(pci_add(x.pci, &more[PCI_SLOTS - 1], &e), -ENOSPC);
	teardown(&x);
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(config), cmocka_unit_test(bars), cmocka_unit_test(bars_in_the_way),
		cmocka_unit_test(full),
	};

	return TEST_RUN(tests);
}
