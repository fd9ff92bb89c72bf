/* SPDX-License-Identifier: Apache-2.0 */
#include "base/test.h"

#include <errno.h>
#include <string.h>

#include "base/mem.h"
#include "state/state.h"
#include "sys/file.h"
#include "vm/dev/rng.h"
#include "vm/fake-engine.h"
#include "vm/snapshot.h"

enum { MEMORY = 4 << 20 };

static int idle(struct vcpu *v, const struct engine_bus *bus, enum vcpu_stop *ret, struct err *e)
{
	(void)bus, (void)ret, (void)e;
	fake_wait(v);
	return 0;
}

/* A paused machine. */
static struct vm *machine(unsigned n_vcpus)
{
	const struct vm_conf conf = { .engine = &engine_fake, .memory_bytes = MEMORY,
				      .n_vcpus = n_vcpus,
				      .serial_in_fd = -1, .serial_out_fd = -1 };
	struct rng_conf rng = { .fd = sys_openat(AT_FDCWD, "/dev/urandom", O_RDONLY, 0) };
	struct err e = ERR_INIT;
	struct vm *vm = NULL;

	fake_set_run(idle);
	assert_int_equal(vm_new(&conf, &vm, &e), 0);
	assert_int_equal(vm_add_device(vm, &vdev_rng, "rng0", &rng, &e), 0);
	for (unsigned i = 0; i < n_vcpus; i++) {
		struct vcpu *v = vm_vcpu(vm, i);
		struct cpu_state s;

		cpu_state_reset(&s, i == 0);
		assert_int_equal(v->ops->vcpu_set(v, &s, &e), 0);
	}
	assert_int_equal(vm_start_paused(vm, &e), 0);
	return vm;
}

/* One that waits for a snapshot. */
static struct vm *empty(unsigned n_vcpus)
{
	struct vm *vm = machine(n_vcpus);

	vm_expect_load(vm);
	return vm;
}

static struct snapshot_files new_files(void)
{
	return (struct snapshot_files){ sys_memfd_create("state", 0),
					{ sys_memfd_create("low", 0), sys_memfd_create("high", 0) } };
}

static void close_files(const struct snapshot_files *f)
{
	close(f->state_fd);
	close(f->memory_fds[GMEM_LOW]);
	close(f->memory_fds[GMEM_HIGH]);
}

/* A machine with something in it, saved. */
static struct snapshot_files saved(void)
{
	struct snapshot_files f = new_files();
	struct vm *vm = machine(2);
	struct cpu_state s;
	struct err e = ERR_INIT;
	struct vcpu *v = vm_vcpu(vm, 1);

	cpu_state_reset(&s, false);
	s.gpr[CPU_R12] = 0x1122334455667788;
	assert_int_equal(v->ops->vcpu_set(v, &s, &e), 0);
	assert_int_equal(gmem_write(vm_mem(vm), GPA(0x123456), "memory", 6), 0);
	assert_int_equal(vm_save(vm, &f, &e), 0);
	vm_free(vm);
	return f;
}

static int load(struct vm *vm, int state_fd, int low_fd, int high_fd)
{
	struct err e = ERR_INIT;

	assert_int_equal(lseek(state_fd, 0, SEEK_SET), 0);
	int r = vm_load(vm, &(struct snapshot_files){ state_fd, { low_fd, high_fd } }, &e);

	if (r < 0) {
		print_message("%s\n", e.msg);
	}
	return r;
}

static int load_all(struct vm *vm, const struct snapshot_files *f)
{
	return load(vm, f->state_fd, f->memory_fds[GMEM_LOW], f->memory_fds[GMEM_HIGH]);
}

static void goes_on(void **state)
{
	struct snapshot_files f = saved();
	struct err e = ERR_INIT;

	(void)state;
	/* Twice, and what one of them writes the other does not see. */
	for (unsigned i = 0; i < 2; i++) {
		struct vm *vm = empty(2);
		struct vcpu *v = vm_vcpu(vm, 1);
		struct cpu_state s;
		char text[7] = "";

		assert_int_equal(load_all(vm, &f), 0);
		assert_int_equal(v->ops->vcpu_get(v, &s, &e), 0);
		assert_true(s.gpr[CPU_R12] == 0x1122334455667788);
		assert_int_equal(gmem_read(vm_mem(vm), GPA(0x123456), text, 6), 0);
		assert_string_equal(text, "memory");
		assert_int_equal(gmem_write(vm_mem(vm), GPA(0x123456), "other!", 6), 0);
		assert_int_equal(vm_resume(vm, &e), 0);
		vm_free(vm);
	}
	close_files(&f);
}

static void another_machine(void **state)
{
	struct snapshot_files f = saved();
	struct vm *vm = empty(1);

	(void)state;
	assert_true(load_all(vm, &f) < 0);
	vm_free(vm);
	close_files(&f);
}

/* One byte changed, or cut off. */
static void damaged(void **state)
{
	struct snapshot_files f = saved();
	auto_buf struct buf b = BUF_INIT;
	unsigned refused = 0, tried = 0;

	(void)state;
	assert_int_equal(lseek(f.state_fd, 0, SEEK_SET), 0);
	assert_true(sys_read_fd(f.state_fd, 1 << 20, &b) >= 0);
	for (size_t at = 0; at < b.len; at += b.len / 60 + 1) {
		auto_close int bad = sys_memfd_create("bad", 0);
		struct vm *vm = empty(2);

		b.data[at] = (char)(b.data[at] ^ 0x81);
		assert_int_equal(sys_write_full(bad, b.data, at % 2 ? b.len : at), 0);
		b.data[at] = (char)(b.data[at] ^ 0x81);
		refused += load(vm, bad, f.memory_fds[GMEM_LOW], f.memory_fds[GMEM_HIGH]) < 0;
		tried++;
		vm_free(vm);
	}
	assert_true(tried > 50);
	assert_int_equal(refused, tried);
	close_files(&f);
}

/* Memory that is cut off, not whole, or of another snapshot; the machine stays empty until the
 * right one comes. */
static void wrong_memory(void **state)
{
	struct snapshot_files f = saved(), other = saved();
	auto_close int cut = sys_memfd_create("cut", 0);
	struct vm *vm = empty(2);
	struct err e = ERR_INIT;
	char text[7] = "";

	(void)state;
	const int low = f.memory_fds[GMEM_LOW], high = f.memory_fds[GMEM_HIGH];

	assert_int_equal(load(vm, f.state_fd, other.memory_fds[GMEM_LOW], high), -EBADMSG);
	assert_int_equal(load(vm, f.state_fd, low, other.memory_fds[GMEM_HIGH]), -EBADMSG);
	assert_int_equal(load(vm, other.state_fd, low, high), -EBADMSG);
	assert_int_equal(load(vm, f.state_fd, high, low), -EBADMSG);
	assert_int_equal(load(vm, f.state_fd, cut, high), -EBADMSG);
	assert_int_equal(load(vm, f.state_fd, low, cut), -EBADMSG);
	assert_int_equal(sys_ftruncate(cut, MEMORY), 0);
	assert_int_equal(load(vm, f.state_fd, low, cut), -EBADMSG);
	assert_int_equal(sys_ftruncate(cut, MEMORY + 4096), 0);
	assert_int_equal(load(vm, f.state_fd, low, cut), -EBADMSG);
	assert_int_equal(vm_resume(vm, &e), -ENODATA);
	assert_int_equal(load_all(vm, &f), 0);
	assert_int_equal(gmem_read(vm_mem(vm), GPA(0x123456), text, 6), 0);
	assert_string_equal(text, "memory");
	assert_int_equal(load_all(vm, &f), -EBUSY);
	assert_int_equal(vm_resume(vm, &e), 0);
	vm_free(vm);
	close_files(&f);
	close_files(&other);
}

static void refused_and_full(void **state)
{
	struct err e = ERR_INIT;
	struct vm *vm = machine(1);
	struct snapshot_files f = new_files();

	(void)state;
	assert_int_equal(state_desc_check(&vm_machine_state, &e), 0);
	for (unsigned nth = 1; nth <= 2; nth++) {
		sys_fault_arm(SYS_CALL_ftruncate, nth, 1, ENOSPC);
		assert_int_equal(vm_save(vm, &f, &e), -ENOSPC);
		sys_fault_arm(SYS_CALL_pwrite, nth, 1, ENOSPC);
		assert_int_equal(vm_save(vm, &f, &e), -ENOSPC);
		sys_fault_clear();
	}
	sys_fault_arm(SYS_CALL_write, 1, 1, ENOSPC);
	assert_int_equal(vm_save(vm, &f, &e), -ENOSPC);
	sys_fault_clear();
	assert_int_equal(vm_resume(vm, &e), 0);
	assert_int_equal(vm_save(vm, &f, &e), -EBUSY);
	vm_free(vm);
	close_files(&f);
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(goes_on), cmocka_unit_test(another_machine),
		cmocka_unit_test(damaged), cmocka_unit_test(wrong_memory), cmocka_unit_test(refused_and_full),
	};

	return TEST_RUN(tests);
}
