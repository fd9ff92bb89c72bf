/* SPDX-License-Identifier: Apache-2.0 */
#include <pthread.h>
#include <stdio.h>

#include "base/mem.h"
#include "base/test.h"
#include "vm/cpu/soft/priv.h"
#include "vm/cpu/soft/test-vm.h"
#include "vm/cpu/test-translate.h"

extern const uint8_t guest_stubs[], guest_stubs_end[];

static void mmio_read(void *ctx, gpa_t at, void *ret, unsigned bytes)
{
	(void)ctx;
	(void)at;
	memset(ret, 0xff, bytes);
}

static void mmio_write(void *ctx, gpa_t at, const void *data, unsigned bytes)
{
	(void)ctx;
	(void)at;
	(void)data;
	(void)bytes;
}

static void pio_read(void *ctx, uint16_t port, void *ret, unsigned bytes)
{
	(void)ctx;
	(void)port;
	memset(ret, 0xff, bytes);
}

static void pio_write(void *ctx, uint16_t port, const void *data, unsigned bytes)
{
	struct vm *vm = ctx;

	if (port == 0xe9 && vm->log.n < LOG_MAX) {
		uint32_t v = 0;

		memcpy(&v, data, bytes);
		vm->log.v[vm->log.n++] = v;
	} else if (port == 0xf4) {
		vm->log.stopped = true;
		for (unsigned i = 0; i < vm->n_cpus; i++) {
			engine_soft.vcpu_kick(vm->cpu[i]);
		}
	}
}

void vm_put(struct vm *vm, uint64_t at, const void *data, size_t n)
{
	assert_int_equal(gmem_write(&vm->mem, GPA(at), data, n), 0);
}

void vm_put64(struct vm *vm, uint64_t at, uint64_t v)
{
	vm_put(vm, at, &v, sizeof(v));
}

uint64_t vm_get64(struct vm *vm, uint64_t at)
{
	uint64_t v = 0;

	assert_int_equal(gmem_read(&vm->mem, GPA(at), &v, sizeof(v)), 0);
	return v;
}

struct vm *vm_new(unsigned n_cpus, bool deterministic)
{
	return vm_new_xl(n_cpus, deterministic, test_translate());
}

struct vm *vm_new_xl(unsigned n_cpus, bool deterministic, struct engine_xl_conf xl)
{
	const struct engine_conf conf = { .n_vcpus = n_cpus, .deterministic = deterministic,
					  .xl = xl };

	return vm_new_on(&engine_soft, &conf);
}

struct vm *vm_new_on(const struct engine_ops *engine, const struct engine_conf *like)
{
	static const struct engine_bus ops = { .mmio_read = mmio_read, .mmio_write = mmio_write,
					       .pio_read = pio_read, .pio_write = pio_write };
	struct err e = ERR_INIT;
	struct vm *vm = mem_new(struct vm);
	struct engine_bus bus = ops;

	assert_non_null(vm);
	bus.ctx = vm;
	gmem_init(&vm->mem);
	assert_int_equal(gmem_add(&vm->mem, GPA(0), MEM_BYTES, -1, 0, engine->memory_again, &e), 0);
	struct engine_conf conf = *like;

	conf.mem = &vm->mem;
	conf.bus = &bus;

	assert_int_equal(engine->new_(&conf, &vm->eng, &e), 0);
	vm->n_cpus = conf.n_vcpus;
	for (unsigned i = 0; i < conf.n_vcpus; i++) {
		assert_int_equal(engine_soft.vcpu_new(vm->eng, i, &vm->cpu[i], &e), 0);
	}
	return vm;
}

void vm_free(struct vm *vm)
{
	engine_soft.free_(vm->eng);
	gmem_fini(&vm->mem);
	free(vm);
}

/* 4 MiB by large pages; from 0x400000 on 4 KiB pages, of which those at DATA are special. The
 * same again at 0x40000000. */
static void page_tables(struct vm *vm)
{
	vm_put64(vm, PML4, PDPT | 7);
	vm_put64(vm, PDPT, PD | 7);
	vm_put64(vm, PDPT + 8, PD | 7);
	vm_put64(vm, PD, 0x87);
	vm_put64(vm, PD + 8, 0x200087);
	vm_put64(vm, PD + 16, 0x4000 | 7);
	vm_put64(vm, PD + 24, PT | 7);
	for (unsigned i = 0; i < 512; i++) {
		vm_put64(vm, 0x4000 + 8 * i, (0x400000 + 4096 * (uint64_t)i) | 7);
		vm_put64(vm, PT + 8 * i, (DATA + 4096 * (uint64_t)i) | 7);
	}
	vm_put64(vm, PT, 0);                                       /* absent */
	vm_put64(vm, PT + 8, 0x601005);                            /* read only */
	vm_put64(vm, PT + 16, UINT64_C(0x8000000000602007));       /* no execution */
	vm_put64(vm, PT + 24, UINT64_C(0x0008000000603007));       /* reserved bit */
	vm_put64(vm, PT + 32, 0x604003);                           /* supervisor */
	vm_put64(vm, PT + 40, 0x605003);
	for (unsigned i = 7; i < 16; i++) {
		vm_put64(vm, PT + 8 * i, (DATA + 4096 * (uint64_t)i) | 3);
	}
}

static void tables(struct vm *vm)
{
	/* Null, kernel code and data, user data and code, a TSS, 32-bit code, absent data. */
	static const uint64_t gdt[] = {
		0, UINT64_C(0x00af9b000000ffff), UINT64_C(0x00cf93000000ffff),
		UINT64_C(0x00cff3000000ffff), UINT64_C(0x00affb000000ffff),
		0, 0, UINT64_C(0x00cf9b000000ffff), UINT64_C(0x00cf13000000ffff),
	};
	uint64_t tss = 0;

	vm_put(vm, GDT, gdt, sizeof(gdt));
	tss = 0x67 | (uint64_t)TSS << 16 | UINT64_C(0x89) << 40;
	vm_put64(vm, GDT + 40, tss);
	vm_put64(vm, TSS + 4, STACK0);
	for (unsigned i = 0; i < 256; i++) {
		uint64_t at = STUBS + 16 * (uint64_t)i;
		uint64_t dpl = i == 3 || i == 0x80 ? 3 : 0, present = i != 0x81;

		vm_put64(vm, IDT + 16 * i, (at & 0xffff) | 8 << 16 |
					(UINT64_C(0x0e) | dpl << 5 | present << 7) << 40 |
					(at >> 16) << 48);
		vm_put64(vm, IDT + 16 * i + 8, 0);
	}
}

void vm_long_cpu(struct vm *vm, unsigned cpu, uint64_t rip, uint64_t rsp)
{
	struct err e = ERR_INIT;
	struct cpu_state *s = mem_new(struct cpu_state);

	assert_non_null(s);
	assert_int_equal(engine_soft.vcpu_get(vm->cpu[cpu], s, &e), 0);
	s->cr0 = CPU_CR0_PG | CPU_CR0_PE | CPU_CR0_WP | CPU_CR0_ET | CPU_CR0_NE;
	s->cr3 = PML4;
	s->cr4 = CPU_CR4_PAE | CPU_CR4_PGE;
	s->efer = CPU_EFER_LME | CPU_EFER_LMA | CPU_EFER_NXE;
	s->gdt = (struct cpu_table){ GDT, 71 };
	s->idt = (struct cpu_table){ IDT, 4095 };
	s->tr = (struct cpu_seg){ .base = TSS, .limit = 0x67, .ar = CPU_AR_P | 11,
				  .selector = 0x28 };
	for (unsigned i = 0; i < CPU_SEG__COUNT; i++) {
		s->seg[i] = (struct cpu_seg){ .limit = UINT32_MAX, .ar = 0xc093, .selector = 0x10 };
	}
	s->seg[CPU_CS] = (struct cpu_seg){ .limit = UINT32_MAX, .ar = 0xa09b, .selector = 8 };
	s->rip = rip;
	s->rflags = CPU_FLAG_1;
	s->gpr[CPU_RSP] = rsp;
	s->mp_state = CPU_MP_RUNNABLE;
	assert_int_equal(engine_soft.vcpu_set(vm->cpu[cpu], s, &e), 0);
	free(s);
}

void vm_direct_cpu(struct vm *vm, unsigned cpu)
{
	struct err e = ERR_INIT;
	struct cpu_state *s = mem_new(struct cpu_state);

	assert_non_null(s);
	if (test_translate().direct_now) {
		assert_int_equal(engine_soft.vcpu_get(vm->cpu[cpu], s, &e), 0);
		s->seg[CPU_CS].ar = 0xa0fb;
		s->seg[CPU_CS].selector = 0x23;
		s->seg[CPU_SS].ar = 0xc0f3;
		s->seg[CPU_SS].selector = 0x1b;
		s->rflags |= CPU_FLAG_IOPL;
		assert_int_equal(engine_soft.vcpu_set(vm->cpu[cpu], s, &e), 0);
	}
	free(s);
}

void vm_real_mode(struct vm *vm)
{
	struct err e = ERR_INIT;
	struct cpu_state *s = mem_new(struct cpu_state);

	assert_non_null(s);
	assert_int_equal(engine_soft.vcpu_get(vm->cpu[0], s, &e), 0);
	s->seg[CPU_CS].selector = 0;
	s->seg[CPU_CS].base = 0;
	s->rip = BASE;
	assert_int_equal(engine_soft.vcpu_set(vm->cpu[0], s, &e), 0);
	free(s);
}

void vm_long_mode(struct vm *vm)
{
	page_tables(vm);
	tables(vm);
	vm_put(vm, STUBS, guest_stubs, (size_t)(guest_stubs_end - guest_stubs));
	vm_long_cpu(vm, 0, BASE, STACK);
}

static void *run_cpu(void *arg)
{
	struct err e = ERR_INIT;
	enum vcpu_stop stop = VCPU_STOP_FAILED;

	assert_int_equal(engine_soft.vcpu_run(arg, &stop, &e), 0);
	return NULL;
}

void vm_run(struct vm *vm)
{
	struct err e = ERR_INIT;
	pthread_t threads[4];

	for (unsigned i = 1; i < vm->n_cpus; i++) {
		assert_int_equal(pthread_create(&threads[i], NULL, run_cpu, vm->cpu[i]), 0);
	}
	assert_int_equal(engine_soft.vcpu_run(vm->cpu[0], &vm->stop, &e), 0);
	for (unsigned i = 1; i < vm->n_cpus; i++) {
		engine_soft.vcpu_kick(vm->cpu[i]);
		assert_int_equal(pthread_join(threads[i], NULL), 0);
	}
}

void vm_expect(const struct vm *vm, const uint32_t *want, size_t n)
{
	for (size_t i = 0; i < n && i < vm->log.n; i++) {
		if (vm->log.v[i] != want[i]) {
			print_error("entry %zu is 0x%x, not 0x%x\n", i, vm->log.v[i], want[i]);
		}
		assert_int_equal(vm->log.v[i], want[i]);
	}
	assert_int_equal(vm->log.n, n);
}
