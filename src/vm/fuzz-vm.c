/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A whole machine, driven by a script of bytes: what its vCPUs may write and read at any address
 * and port, and what its host asks of it. Its engine runs no instructions.
 *
 * With the first byte odd, it first loads a snapshot of another machine, in which the script has
 * changed bytes and the checksums fit: whatever loads is a machine like any other.
 */
#include <errno.h>
#include <fcntl.h>
#include <string.h>

#include "base/fuzz-script.h"
#include "base/mem.h"
#include "base/str.h"
#include "state/table.h"
#include "sys/file.h"
#include "sys/socket.h"
#include "vm/boot/layout.h"
#include "vm/dev/blk.h"
#include "vm/dev/console.h"
#include "vm/dev/net.h"
#include "vm/dev/rng.h"
#include "vm/dev/vsock.h"
#include "vm/fake-engine.h"
#include "vm/snapshot.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { MEMORY = 4 << 20, DISK = 1 << 20, STEPS_MAX = 512, PATCHES_MAX = 16, BAR = 0x8000, QUEUES_MAX = 8 };
enum { MAGIC_BYTES = 8, SECTION_HEADER = 16, END = 12 };

static int idle(struct vcpu *v, const struct engine_bus *bus, enum vcpu_stop *ret, struct err *e)
{
	(void)bus, (void)ret, (void)e;
	fake_wait(v);
	return 0;
}

static void must(int r, const struct err *e)
{
	if (r < 0) {
		fprintf(stderr, "%s\n", e->msg);
		abort();
	}
}

static void add_devices(struct vm *vm, int *ret_wire)
{
	int fds[2] = { -1, -1 };
	struct blk_conf blk = { .disk = { .fd = sys_memfd_create("disk", 0), .way = BLOCK_AUTO } };
	struct rng_conf rng = { .fd = sys_openat(AT_FDCWD, "/dev/urandom", O_RDONLY, 0) };
	struct console_conf console = { .in_fd = -1, .out_fd = -1 };
	struct vsock_conf vsock = { .guest_cid = 3, .listen_fd = -1 };
	struct err e = ERR_INIT;

	must(sys_ftruncate(blk.disk.fd, DISK), &e);
	must(sys_socketpair(SOCK_STREAM | SOCK_NONBLOCK, fds), &e);
	struct net_conf net = { .fd = fds[0], .stream = true, .mac = { 2 } };

	must(vm_add_device(vm, &vdev_blk, "disk0", &blk, &e), &e);
	must(vm_add_device(vm, &vdev_net, "net0", &net, &e), &e);
	must(vm_add_device(vm, &vdev_vsock, "vsock0", &vsock, &e), &e);
	must(vm_add_device(vm, &vdev_console, "console0", &console, &e), &e);
	must(vm_add_device(vm, &vdev_rng, "rng0", &rng, &e), &e);
	*ret_wire = fds[1];
}

/* Not started: its devices work all the same. */
static struct vm *machine(int *ret_wire)
{
	const struct vm_conf conf = { .engine = &engine_fake, .memory_bytes = MEMORY, .n_vcpus = 1,
				      .serial_in_fd = -1, .serial_out_fd = -1 };
	struct err e = ERR_INIT;
	struct vm *vm = NULL;
	struct cpu_state s;

	fake_set_run(idle);
	must(vm_new(&conf, &vm, &e), &e);
	add_devices(vm, ret_wire);
	cpu_state_reset(&s, true);
	must(vm_vcpu(vm, 0)->ops->vcpu_set(vm_vcpu(vm, 0), &s, &e), &e);
	return vm;
}

/* --- Snapshots --- */

/* Any device at a moment in its life: set up, with rings at the start of RAM. */
static void bring_up(struct vm *vm, unsigned slot)
{
	uint64_t at = LAYOUT_PCI_MMIO + (slot - 1) * BAR;
	struct bus *mmio = vm_machine(vm)->mmio;

	bus_write(mmio, LAYOUT_ECAM + (slot << 15) + 4, 2, 6);
	bus_write(mmio, at + 0x14, 1, 3);
	for (unsigned i = 0; i < 2; i++) {
		bus_write(mmio, at, 4, i);
		bus_write(mmio, at + 8, 4, i);
		bus_write(mmio, at + 12, 4, bus_read(mmio, at + 4, 4));
	}
	bus_write(mmio, at + 0x14, 1, 11);
	/* Where no device is, all bits are set. */
	uint64_t queues = MIN(bus_read(mmio, at + 0x12, 2), (uint64_t)QUEUES_MAX);

	for (unsigned q = 0; q < queues; q++) {
		uint64_t ring = slot * 0x10000 + q * 0x4000;

		bus_write(mmio, at + 0x16, 2, q);
		bus_write(mmio, at + 0x18, 2, 16);
		bus_write(mmio, at + 0x20, 4, ring);
		bus_write(mmio, at + 0x28, 4, ring + 0x1000);
		bus_write(mmio, at + 0x30, 4, ring + 0x2000);
		bus_write(mmio, at + 0x1c, 2, 1);
	}
	bus_write(mmio, at + 0x14, 1, 15);
}

/* A good stream, and the memory that belongs to it; made once. */
static const struct buf *good_stream(struct snapshot_files *ret)
{
	static struct buf b = BUF_INIT;
	static struct snapshot_files files;
	struct err e = ERR_INIT;
	int wire = -1;

	if (b.len > 0) {
		*ret = files;
		return &b;
	}
	auto_close int state = sys_memfd_create("state", 0);

	files = (struct snapshot_files){ state, { sys_memfd_create("low", 0),
						  sys_memfd_create("high", 0) } };
	struct vm *vm = machine(&wire);

	must(vm_start(vm, &e), &e);
	for (unsigned slot = 1; slot <= 5; slot++) {
		bring_up(vm, slot);
	}
	for (unsigned i = 0; i < 20; i++) {
		ignore_result(loop_turn(vm_loop(vm), 0)); /* how much it did does not matter */
	}
	must(vm_pause(vm, &e), &e);
	must(vm_save(vm, &files, &e), &e);
	vm_free(vm);
	fd_close(&wire);
	must((int)lseek(state, 0, SEEK_SET), &e);
	must(sys_read_fd(state, 1 << 20, &b), &e);
	*ret = files;
	return &b;
}

static void put_crc(uint8_t *at, size_t n)
{
	uint32_t crc = state__crc(0, at, n);

	memcpy(at + n, &crc, sizeof(crc));
}

/* Checksums that fit what stands there now, as far as the sections can be followed. */
static void mend(uint8_t *p, size_t len)
{
	size_t at = MAGIC_BYTES;

	while (at + SECTION_HEADER + 4 <= len - END) {
		uint64_t whole = SECTION_HEADER + state__get_le(p + at + 8, 4) +
				 state__get_le(p + at + 12, 4);

		if (whole > len - END - at - 4) {
			break;
		}
		put_crc(p + at, whole);
		at += whole + 4;
	}
	put_crc(p, len - 4);
}

/* False: it was refused, and the machine is of no use. */
static bool load_changed(struct vm *vm, struct in *in)
{
	struct snapshot_files files;
	const struct buf *good = good_stream(&files);
	auto_close int fd = sys_memfd_create("changed", 0);
	auto_free uint8_t *bytes = mem_dup(good->data, good->len);
	unsigned n = (unsigned)take(in, 1) % PATCHES_MAX;
	struct err e = ERR_INIT;

	must(fd < 0 || !bytes ? -ENOMEM : 0, &e);
	for (unsigned i = 0; i < n; i++) {
		size_t at = take(in, 2) % good->len;

		bytes[at] = (uint8_t)take(in, 1);
	}
	mend(bytes, good->len);
	must(sys_write_full(fd, bytes, good->len), &e);
	must((int)lseek(fd, 0, SEEK_SET), &e);
	must(vm_start_paused(vm, &e), &e);
	vm_expect_load(vm);
	files.state_fd = fd;
	int r = vm_load(vm, &files, &e);

	must(n == 0 ? r : 0, &e);
	return r == 0;
}

/* --- Steps --- */

enum step {
	STEP_BAR, STEP_ECAM, STEP_ANYWHERE, STEP_PORT, STEP_RAM, STEP_BRING_UP, STEP_TURN, STEP_PAUSE,
	STEP_BUTTON, STEP_WIRE, STEP__COUNT,
};

static void reach(struct bus *bus, uint64_t at, struct in *in)
{
	unsigned n = 1u << (take(in, 1) % 4);

	bus_write(bus, at, n, take(in, n));
	(void)bus_read(bus, at, n); /* anything */
}

static void ram(struct vm *vm, struct in *in)
{
	uint8_t bytes[16];
	uint64_t at = take(in, 2) << 4;

	for (unsigned i = 0; i < sizeof(bytes); i++) {
		bytes[i] = (uint8_t)take(in, 1);
	}
	ignore_result(gmem_write(vm_mem(vm), GPA(at), bytes, sizeof(bytes))); /* it is RAM */
}

static void one_step(struct vm *vm, struct in *in, int wire)
{
	struct machine *m = vm_machine(vm);
	enum step step = (enum step)(take(in, 1) % STEP__COUNT);
	unsigned slot = step <= STEP_ECAM || step == STEP_BRING_UP ? (unsigned)take(in, 1) % 8 : 0;
	struct err e = ERR_INIT;

	switch (step) {
	case STEP_BAR:
		reach(m->mmio, LAYOUT_PCI_MMIO + slot * BAR + take(in, 2) % BAR, in);
		break;
	case STEP_ECAM:
		reach(m->mmio, LAYOUT_ECAM + (slot << 15) + take(in, 2) % BAR, in);
		break;
	case STEP_ANYWHERE:
		reach(m->mmio, take(in, 8), in);
		break;
	case STEP_PORT:
		reach(m->pio, take(in, 2), in);
		break;
	case STEP_RAM:
		ram(vm, in);
		break;
	case STEP_BRING_UP:
		bring_up(vm, slot ? slot : 1);
		break;
	case STEP_TURN:
		ignore_result(loop_turn(m->loop, 0)); /* how much it did does not matter */
		break;
	case STEP_PAUSE:
		if (vm_pause(vm, &e) == 0) {
			must(vm_resume(vm, &e), &e);
		}
		break;
	case STEP_BUTTON:
		ignore_result(vm_power_button(vm, &e)); /* not when it has ended */
		break;
	case STEP_WIRE: {
		uint64_t bytes = take(in, 8);

		ignore_result(sys_write(wire, &bytes, sizeof(bytes))); /* as far as it goes */
		break;
	}
	case STEP__COUNT:
		break;
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct in in = { data, size };
	struct err e = ERR_INIT;
	int wire = -1;
	bool saved = size > 0 && (data[0] & 1), begin = size > 0 && (data[0] & 2);
	struct vm *vm = machine(&wire);

	(void)take(&in, 1); /* looked at above */
	bool goes = !saved || load_changed(vm, &in);

	if (goes) {
		/* Threads cost most of the time, so only some inputs have them. */
		must(saved ? vm_resume(vm, &e) : begin ? vm_start(vm, &e) : 0, &e);
		for (unsigned i = 0; i < STEPS_MAX && in.len > 0; i++) {
			one_step(vm, &in, wire);
		}
		for (unsigned i = 0; i < 20; i++) {
			ignore_result(loop_turn(vm_loop(vm), 0)); /* as above */
		}
	}
	vm_free(vm);
	fd_close(&wire);
	return 0;
}
