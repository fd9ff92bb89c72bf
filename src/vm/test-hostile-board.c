/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A hostile guest at the board: configuration space, BARs that move, the serial port, ACPI, and
 * every other address. Whatever it does there, memory stays memory, the other devices answer
 * where they lie, and the machine goes on. See vm/dev/test-hostile.c for the devices themselves.
 */
#include "base/test.h"

#include <string.h>

#include "sys/file.h"
#include "vm/boot/layout.h"
#include "vm/dev/blk.h"
#include "vm/dev/console.h"
#include "vm/dev/rng.h"
#include "vm/dev/serial.h"
#include "vm/dev/vsock.h"
#include "vm/fake-engine.h"
#include "vm/vm.h"

enum { MEMORY = 4 << 20, DEVICES = 4, BAR = 0x8000, NUM_QUEUES = 0x12, CANARY = 0xa5, COMMAND_MEMORY = 2 };

struct board {
	struct vm  *vm;
	struct bus *mmio, *pio;
};

static void setup(struct board *b)
{
	const struct vm_conf conf = { .engine = &engine_fake, .memory_bytes = MEMORY, .n_vcpus = 1,
				      .serial_in_fd = -1, .serial_out_fd = -1 };
	struct blk_conf blk = { .disk = { .fd = sys_memfd_create("disk", 0) } };
	struct rng_conf rng = { .fd = sys_openat(AT_FDCWD, "/dev/urandom", O_RDONLY, 0) };
	struct console_conf console = { .in_fd = -1, .out_fd = -1 };
	struct vsock_conf vsock = { .guest_cid = 3, .listen_fd = -1 };
	struct err e = ERR_INIT;
	uint8_t block[4096];

	assert_int_equal(sys_ftruncate(blk.disk.fd, 1 << 20), 0);
	assert_int_equal(vm_new(&conf, &b->vm, &e), 0);
	assert_int_equal(vm_add_device(b->vm, &vdev_blk, "disk0", &blk, &e), 0);
	assert_int_equal(vm_add_device(b->vm, &vdev_rng, "rng0", &rng, &e), 0);
	assert_int_equal(vm_add_device(b->vm, &vdev_console, "console0", &console, &e), 0);
	assert_int_equal(vm_add_device(b->vm, &vdev_vsock, "vsock0", &vsock, &e), 0);
	b->mmio = vm_machine(b->vm)->mmio;
	b->pio = vm_machine(b->vm)->pio;
	for (unsigned slot = 1; slot <= DEVICES; slot++) {
		bus_write(b->mmio, LAYOUT_ECAM + (slot << 15) + 4, 2, COMMAND_MEMORY);
	}
	memset(block, CANARY, sizeof(block));
	for (uint64_t at = 0; at < MEMORY; at += sizeof(block)) {
		assert_int_equal(gmem_write(vm_mem(b->vm), GPA(at), block, sizeof(block)), 0);
	}
}

static uint64_t home(unsigned slot)
{
	return LAYOUT_PCI_MMIO + (slot - 1) * BAR;
}

static unsigned queues(unsigned slot)
{
	static const struct vdev_desc *const kinds[] = { &vdev_blk, &vdev_rng, &vdev_console,
							 &vdev_vsock };

	return kinds[slot - 1]->n_queues;
}

/* All of memory is as it was; every device but `moved` answers at home. */
static void check(struct board *b, unsigned moved)
{
	for (unsigned slot = 1; slot <= DEVICES; slot++) {
		if (slot != moved) {
			if (bus_read(b->mmio, home(slot) + NUM_QUEUES, 2) != queues(slot)) {
				fail_msg("slot %u does not answer, %u moved", slot, moved);
			}
		}
	}
	for (uint64_t at = 0; at < MEMORY; at += 4096) {
		uint8_t v = 0;

		assert_int_equal(gmem_read(vm_mem(b->vm), GPA(at + at / 4096), &v, 1), 0);
		assert_int_equal(v, CANARY);
	}
	for (unsigned i = 0; i < 50; i++) {
		assert_true(loop_turn(vm_loop(b->vm), 0) >= 0);
	}
	assert_int_equal(vm_end(b->vm), VM_END_NONE);
}

static void put_bar(struct board *b, unsigned slot, uint64_t at)
{
	uint64_t cfg = LAYOUT_ECAM + (slot << 15);

	bus_write(b->mmio, cfg + 0x10, 4, (uint32_t)at);
	bus_write(b->mmio, cfg + 0x14, 4, at >> 32);
}

static void bars_move(void **state)
{
	static const uint64_t places[] = {
		0, BAR, 0x100000, MEMORY - BAR, MEMORY, MEMORY + BAR, LAYOUT_LOW_RAM_MAX - BAR,
		LAYOUT_PCI_MMIO, LAYOUT_PCI_MMIO + BAR, LAYOUT_PCI_MMIO + 2 * BAR,
		LAYOUT_PCI_MMIO + LAYOUT_PCI_MMIO_SIZE - BAR, LAYOUT_ECAM, LAYOUT_ECAM + BAR,
		LAYOUT_ECAM + LAYOUT_ECAM_SIZE - BAR, LAYOUT_ECAM + LAYOUT_ECAM_SIZE, LAYOUT_IOAPIC,
		LAYOUT_LAPIC, LAYOUT_HIGH_RAM - BAR, LAYOUT_HIGH_RAM, LAYOUT_HIGH_RAM + BAR, BIT(39),
		BIT(46), BIT(47), BIT(63), UINT64_MAX - BAR + 1, UINT64_MAX,
	};
	struct board b;

	(void)state;
	setup(&b);
	check(&b, 0);
	for (unsigned slot = 1; slot <= DEVICES; slot++) {
		for (size_t i = 0; i < ARRAY_LEN(places); i++) {
			put_bar(&b, slot, places[i]);
			/* What is asked there now, also over its end; in configuration space, which
			 * stays what it is, that would switch others off. */
			bool ecam = places[i] >= LAYOUT_ECAM &&
				    places[i] < LAYOUT_ECAM + LAYOUT_ECAM_SIZE;

			for (unsigned n = 1; n <= 8 && !ecam; n *= 2) {
				bus_write(b.mmio, places[i] + BAR - 1, n, UINT64_MAX);
				bus_write(b.mmio, places[i], n, 1);
				(void)bus_read(b.mmio, places[i] + BAR - n, n); /* anything */
			}
			check(&b, slot);
			/* Off and on, which is when it looks for its place. */
			bus_write(b.mmio, LAYOUT_ECAM + (slot << 15) + 4, 2, 0);
			check(&b, slot);
			bus_write(b.mmio, LAYOUT_ECAM + (slot << 15) + 4, 2, COMMAND_MEMORY);
			check(&b, slot);
			put_bar(&b, slot, home(slot));
			check(&b, 0);
		}
	}
	vm_free(b.vm);
}

/* Every byte of every function, and those that are not there, in every width, over ends, too. */
static void configuration_space(void **state)
{
	static const uint64_t values[] = { UINT64_MAX, 0, UINT64_C(0x5a5a5a5a5a5a5a5a) };
	struct board b;

	(void)state;
	setup(&b);
	for (size_t v = 0; v < ARRAY_LEN(values); v++) {
		for (uint64_t off = 0; off < LAYOUT_ECAM_SIZE; off += off % 4096 < 0x100 ? 1 : 769) {
			for (unsigned n = 1; n <= 8; n *= 2) {
				bus_write(b.mmio, LAYOUT_ECAM + off, n, values[v]);
				(void)bus_read(b.mmio, LAYOUT_ECAM + off, n); /* anything */
			}
		}
		for (unsigned slot = 1; slot <= DEVICES; slot++) {
			put_bar(&b, slot, home(slot));
			bus_write(b.mmio, LAYOUT_ECAM + (slot << 15) + 4, 2, COMMAND_MEMORY);
			/* What it is does not change. */
			assert_int_equal(bus_read(b.mmio, LAYOUT_ECAM + (slot << 15), 2), 0x1af4);
		}
		check(&b, 0);
	}
	vm_free(b.vm);
}

/* The ports that end a machine when the right value is written there. */
static bool ends(uint64_t port)
{
	return port == LAYOUT_PORT_SLEEP || port == LAYOUT_PORT_RESET || port == LAYOUT_PORT_PANIC ||
	       port == 0x64;
}

static void ports(void **state)
{
	struct board b;

	(void)state;
	setup(&b);
	for (uint64_t port = 0; port < 0x10000; port++) {
		for (unsigned n = 1; n <= 8; n *= 2) {
			(void)bus_read(b.pio, port, n); /* anything */
			if (!ends(port)) {
				bus_write(b.pio, port, n, port * 0x9e3779b97f4a7c15u);
			}
		}
	}
	/* There, everything but that value. */
	for (unsigned v = 0; v < 256; v++) {
		if ((v >> 2 & 7) != LAYOUT_SLEEP_S5 || !(v & 0x20)) {
			bus_write(b.pio, LAYOUT_PORT_SLEEP, 1, v);
		}
		if (v != LAYOUT_RESET_VALUE) {
			bus_write(b.pio, LAYOUT_PORT_RESET, 1, v);
		}
		bus_write(b.pio, LAYOUT_PORT_PANIC, 1, v & ~1u);
		bus_write(b.pio, 0x64, 1, v == 0xfe ? 0 : v);
		/* Wider than the register is nobody's. */
		bus_write(b.pio, LAYOUT_PORT_RESET, 2, 0x0101);
		bus_write(b.pio, LAYOUT_PORT_PANIC, 4, UINT32_MAX);
	}
	check(&b, 0);
	/* Every value in every register of the serial port, one after another. */
	for (unsigned i = 0; i < 3; i++) {
		for (unsigned v = 0; v < 256; v++) {
			for (unsigned r = 0; r < 8; r++) {
				bus_write(b.pio, SERIAL_COM1 + (r * 5 + i) % 8, 1, (v + r * 31) & 0xff);
				(void)bus_read(b.pio, SERIAL_COM1 + (r + v) % 8, 1); /* anything */
			}
		}
		check(&b, 0);
	}
	/* It is a serial port again. */
	bus_write(b.pio, SERIAL_COM1 + 3, 1, 3);
	bus_write(b.pio, SERIAL_COM1 + 4, 1, 0);
	check(&b, 0);
	assert_true(bus_read(b.pio, SERIAL_COM1 + 5, 1) & 0x20);
	vm_free(b.vm);
}

static void anywhere(void **state)
{
	uint64_t noise = 88172645463325252u;
	struct board b;

	(void)state;
	setup(&b);
	for (unsigned i = 0; i < 200000; i++) {
		noise ^= noise << 13;
		noise ^= noise >> 7;
		noise ^= noise << 17;
		uint64_t at = i % 4 == 0 ? noise : i % 4 == 1 ? noise % LAYOUT_HIGH_RAM :
							       LAYOUT_IOAPIC + noise % 0x400000;

		/* Not in the registers of PCI functions: those have tests of their own. */
		if (at >= LAYOUT_PCI_MMIO && at < LAYOUT_ECAM + LAYOUT_ECAM_SIZE) {
			continue;
		}
		bus_write(b.mmio, at, 1u << (noise & 3), noise);
		(void)bus_read(b.mmio, at, 1u << (noise >> 2 & 3)); /* anything */
	}
	check(&b, 0);
	vm_free(b.vm);
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(bars_move), cmocka_unit_test(configuration_space),
		cmocka_unit_test(ports), cmocka_unit_test(anywhere),
	};

	return TEST_RUN(tests);
}
