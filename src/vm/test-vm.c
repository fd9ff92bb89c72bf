/* SPDX-License-Identifier: Apache-2.0 */
#include "base/test.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "base/fd.h"
#include "sys/file.h"
#include "vm/boot/layout.h"
#include "vm/dev/serial.h"
#include "vm/fake-engine.h"
#include "vm/serial-io.h"
#include "vm/vm.h"

struct fixture {
	struct vm  *vm;
	int         in[2], out[2];
	enum vm_end end;
	unsigned    ends;
};

static void on_ended(void *ctx, enum vm_end end)
{
	struct fixture *x = ctx;

	x->end = end;
	x->ends++;
	loop_stop(vm_loop(x->vm));
}

/* Output goes to out_fd; -1: to a pipe. */
static void setup_to(struct fixture *x, unsigned n_vcpus, fake_run_fn *run, int out_fd)
{
	struct err e = ERR_INIT;

	*x = (struct fixture){ 0 };
	assert_int_equal(sys_pipe2(x->in, 0), 0);
	assert_int_equal(sys_pipe2(x->out, 0), 0);
	assert_int_equal(sys_fcntl(x->out[0], F_SETFL, O_NONBLOCK), 0);
	fake_set_run(run);
	const struct vm_conf conf = {
		.engine = &engine_fake, .memory_bytes = 32 << 20,
		.n_vcpus = n_vcpus, .serial_in_fd = x->in[0],
		.serial_out_fd = out_fd < 0 ? x->out[1] : out_fd,
		.escape_key = true, .ended = on_ended, .ctx = x,
	};

	assert_int_equal(vm_new(&conf, &x->vm, &e), 0);
}

static void setup(struct fixture *x, unsigned n_vcpus, fake_run_fn *run)
{
	setup_to(x, n_vcpus, run, -1);
}

static void teardown(struct fixture *x)
{
	vm_free(x->vm);
	for (unsigned i = 0; i < 2; i++) {
		fd_close(&x->in[i]);
		fd_close(&x->out[i]);
	}
}

static void run_to_end(struct fixture *x)
{
	struct err e = ERR_INIT;

	assert_int_equal(vm_start(x->vm, &e), 0);
	assert_int_equal(loop_run(vm_loop(x->vm)), 0);
	assert_int_equal(x->ends, 1);
	assert_int_equal(vm_state(x->vm), VM_ENDED);
}

static void out(const struct engine_bus *bus, uint16_t port, uint8_t v)
{
	bus->pio_write(bus->ctx, port, &v, 1);
}

static int idle(struct vcpu *v, const struct engine_bus *bus, enum vcpu_stop *ret, struct err *e)
{
	(void)bus, (void)ret, (void)e;
	fake_wait(v);
	return 0;
}

/* vCPU 0 writes to the serial port and switches off; the others idle. */
static int hello_and_off(struct vcpu *v, const struct engine_bus *bus, enum vcpu_stop *ret,
			 struct err *e)
{
	if (v->id != 0) {
		return idle(v, bus, ret, e);
	}
	for (const char *p = "hello\n"; *p; p++) {
		out(bus, SERIAL_COM1, (uint8_t)*p);
	}
	out(bus, LAYOUT_PORT_SLEEP, 1 << 5 | LAYOUT_SLEEP_S5 << 2);
	return 0;
}

static void switches_off(void **state)
{
	struct fixture x;
	char text[16] = "";

	(void)state;
	setup(&x, 4, hello_and_off);
	run_to_end(&x);
	assert_int_equal(x.end, VM_END_OFF);
	assert_int_equal(vm_ends[x.end].status, 0);
	assert_int_equal(sys_read(x.out[0], text, sizeof(text) - 1), 6);
	assert_string_equal(text, "hello\n");
	assert_true(fake_runs(vm_vcpu(x.vm, 0)) == 1); /* it did not run on */
	teardown(&x);
}

static int panic(struct vcpu *v, const struct engine_bus *bus, enum vcpu_stop *ret, struct err *e)
{
	(void)v, (void)ret, (void)e;
	out(bus, LAYOUT_PORT_PANIC, 1);
	return 0;
}

static int reset(struct vcpu *v, const struct engine_bus *bus, enum vcpu_stop *ret, struct err *e)
{
	(void)v, (void)ret, (void)e;
	out(bus, LAYOUT_PORT_RESET, LAYOUT_RESET_VALUE);
	return 0;
}

static int triple(struct vcpu *v, const struct engine_bus *bus, enum vcpu_stop *ret, struct err *e)
{
	(void)v, (void)bus, (void)e;
	*ret = VCPU_STOP_SHUTDOWN;
	return 0;
}

static int give_up(struct vcpu *v, const struct engine_bus *bus, enum vcpu_stop *ret, struct err *e)
{
	(void)v, (void)bus, (void)ret;
	return err_set(e, EIO, ERR_HOST, "nothing goes");
}

static void ends(void **state)
{
	static const struct { fake_run_fn *run; enum vm_end end; } cases[] = {
		{ panic, VM_END_PANIC }, { reset, VM_END_RESET }, { triple, VM_END_TRIPLE_FAULT },
		{ give_up, VM_END_FAILED },
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		struct fixture x;

		setup(&x, 2, cases[i].run);
		run_to_end(&x);
		assert_int_equal(x.end, cases[i].end);
		assert_string_equal(vm_error(x.vm), x.end == VM_END_FAILED ? "nothing goes" : "");
		teardown(&x);
	}
}

static void pauses(void **state)
{
	struct fixture x;
	struct err e = ERR_INIT;

	(void)state;
	setup(&x, 3, idle);
	assert_int_equal(vm_pause(x.vm, &e), -EBUSY);
	assert_int_equal(vm_start(x.vm, &e), 0);
	assert_int_equal(vm_resume(x.vm, &e), -EBUSY);
	for (unsigned i = 0; i < 50; i++) {
		assert_int_equal(vm_pause(x.vm, &e), 0);
		unsigned runs = fake_runs(vm_vcpu(x.vm, 1));

		assert_int_equal(vm_power_button(x.vm, &e), -EBUSY);
		assert_int_equal(fake_runs(vm_vcpu(x.vm, 1)), runs);
		assert_int_equal(vm_resume(x.vm, &e), 0);
	}
	assert_int_equal(vm_power_button(x.vm, &e), 0);
	assert_int_equal(fake_lines(vm_engine(x.vm), LAYOUT_GSI_GED), 1);
	vm_stop(x.vm, VM_END_STOPPED);
	vm_stop(x.vm, VM_END_OFF); /* the first reason counts */
	assert_int_equal(loop_run(vm_loop(x.vm)), 0);
	assert_int_equal(x.end, VM_END_STOPPED);
	assert_int_equal(vm_resume(x.vm, &e), -EBUSY);
	teardown(&x);
}

/* Writes more than pipe and buffer hold, then switches off; the reader comes late. */
enum { MUCH = 300000 };

static int much(struct vcpu *v, const struct engine_bus *bus, enum vcpu_stop *ret, struct err *e)
{
	(void)v, (void)ret, (void)e;
	for (unsigned i = 0; i < MUCH; i++) {
		uint8_t lsr = 0;

		while (!(lsr & 0x20)) {
			bus->pio_read(bus->ctx, SERIAL_COM1 + 5, &lsr, 1);
		}
		out(bus, SERIAL_COM1, (uint8_t)('a' + i % 26));
	}
	out(bus, LAYOUT_PORT_SLEEP, 1 << 5 | LAYOUT_SLEEP_S5 << 2);
	return 0;
}

static void nothing_is_lost(void **state)
{
	struct fixture x;
	struct err e = ERR_INIT;
	unsigned got = 0;

	(void)state;
	setup(&x, 1, much);
	assert_int_equal(vm_start(x.vm, &e), 0);
	while (got < MUCH) {
		char b[8192];

		assert_true(loop_turn(vm_loop(x.vm), UINT64_MAX) >= 0);
		ssize_t n = sys_read(x.out[0], b, sizeof(b));

		for (ssize_t i = 0; i < n; i++) {
			assert_int_equal(b[i], 'a' + got++ % 26);
		}
	}
	assert_int_equal(got, MUCH);
	teardown(&x);
}

/* A guest does not fill the host's disk through its serial port. */
static void a_file_has_a_bound(void **state)
{
	static const off_t before[] = { 0, SERIAL_IO_FILE_MAX - MUCH / 2, SERIAL_IO_FILE_MAX,
					2 * SERIAL_IO_FILE_MAX };

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(before); i++) {
		struct fixture x;
		struct stat st;
		char last[8] = "";
		auto_close int fd = sys_memfd_create("log", 0);

		assert_int_equal(sys_ftruncate(fd, before[i]), 0);
		assert_int_equal(lseek(fd, 0, SEEK_END), before[i]);
		setup_to(&x, 1, much, fd);
		run_to_end(&x);
		assert_int_equal(x.end, VM_END_OFF);
		assert_int_equal(sys_fstat(fd, &st), 0);
		if (i == 0) {
			assert_int_equal(st.st_size, MUCH);
		} else if (i == 1) {
			assert_in_range(st.st_size, SERIAL_IO_FILE_MAX + 1, SERIAL_IO_FILE_MAX + 64);
			assert_int_equal(pread(fd, last, 6, st.st_size - 6), 6);
			assert_string_equal(last, "full]\n");
		} else {
			assert_int_equal(st.st_size, before[i]);
		}
		teardown(&x);
	}
}

/* What is typed reaches the guest; the escape key does not. */
static int echo(struct vcpu *v, const struct engine_bus *bus, enum vcpu_stop *ret, struct err *e)
{
	uint8_t lsr = 0, byte = 0;

	(void)v, (void)ret, (void)e;
	bus->pio_read(bus->ctx, SERIAL_COM1 + 5, &lsr, 1);
	if (lsr & 1) {
		bus->pio_read(bus->ctx, SERIAL_COM1, &byte, 1);
		out(bus, SERIAL_COM1, byte);
	}
	return 0;
}

static void input(void **state)
{
	struct fixture x;
	char text[64] = "";

	(void)state;
	setup(&x, 1, echo);
	assert_int_equal(sys_write(x.in[1], "ab\001\001c\001bd", 8), 8);
	struct err e = ERR_INIT;
	size_t n = 0;

	assert_int_equal(vm_start(x.vm, &e), 0);
	while (n < 5) {
		assert_true(loop_turn(vm_loop(x.vm), UINT64_MAX) >= 0);
		ssize_t got = sys_read(x.out[0], text + n, sizeof(text) - 1 - n);

		n += got > 0 ? (size_t)got : 0;
	}
	assert_string_equal(text, "ab\001cd");
	assert_int_equal(fake_lines(vm_engine(x.vm), LAYOUT_GSI_GED), 1);
	assert_int_equal(sys_write(x.in[1], "\001x", 2), 2);
	assert_int_equal(loop_run(vm_loop(x.vm)), 0);
	assert_int_equal(x.end, VM_END_STOPPED);
	teardown(&x);
}

static void tables(void **state)
{
	(void)state;
	for (unsigned i = 0; i < VM_END__COUNT; i++) {
		assert_non_null(vm_ends[i].name);
		assert_non_null(vm_ends[i].text);
	}
	for (unsigned i = 0; i < VM_STATE__COUNT; i++) {
		assert_non_null(vm_state_names[i]);
	}
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(switches_off), cmocka_unit_test(ends), cmocka_unit_test(pauses),
		cmocka_unit_test(nothing_is_lost), cmocka_unit_test(a_file_has_a_bound),
		cmocka_unit_test(input), cmocka_unit_test(tables),
	};

	return TEST_RUN(tests);
}
