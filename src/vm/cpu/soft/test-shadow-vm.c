/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <signal.h>

#include "base/test.h"
#include "vm/cpu/soft/test-shadow-vm.h"

static sigjmp_buf caught;

static void on_fault(int sig)
{
	(void)sig;
	siglongjmp(caught, 1);
}

uint8_t *sh_at(uint64_t va)
{
	return (uint8_t *)(uintptr_t)(va >= HIGH ? va + SHADOW_DISTANCE : va);
}

static bool reaches(uint64_t va, bool write)
{
	if (sigsetjmp(caught, 1) != 0) {
		return false;
	}
	if (write) {
		/* By hand: a compiler may take an atomic one that changes nothing for a load. */
		__asm__ volatile("lock orb $0, %0" : "+m"(*sh_at(va)));
	} else {
		(void)*(volatile uint8_t *)sh_at(va);
	}
	return true;
}

int sh_how(uint64_t va)
{
	return (reaches(va, false) ? READ : NO) | (reaches(va, true) ? WRITE : NO);
}

struct soft_cpu *sh_cpu(struct vm *vm, unsigned i)
{
	return container_of(vm->cpu[i], struct soft_cpu, vcpu);
}

void sh_set_cr3(struct vm *vm, unsigned i, uint64_t cr3, uint64_t cr4)
{
	struct err e = ERR_INIT;
	struct cpu_state s;

	assert_int_equal(engine_soft.vcpu_get(vm->cpu[i], &s, &e), 0);
	s.seg[CPU_CS].ar = 0xa0fb;
	s.seg[CPU_SS].ar = 0xc0f3;
	s.cr3 = cr3;
	s.cr4 |= cr4;
	assert_int_equal(engine_soft.vcpu_set(vm->cpu[i], &s, &e), 0);
	assert_int_equal(sh_cpu(vm, i)->cpl, 3);
}

struct vm *sh_machine(struct engine_xl_conf xl)
{
	struct sigaction sa = { .sa_handler = on_fault };
	struct vm *vm = vm_new_xl(2, false, xl);

	vm_long_mode(vm);
	vm_long_cpu(vm, 1, BASE, STACK);
	vm_put64(vm, PML4 + 8 * (HIGH >> 39), PDPT | 7);
	vm_put64(vm, PDPT + 16, DEVICE | 0xe7);
	vm_put64(vm, OTHER_PML4, PDPT | 7);
	sh_set_cr3(vm, 0, PML4, 0);
	sh_set_cr3(vm, 1, PML4, 0);
	assert_int_equal(sigaction(SIGSEGV, &sa, NULL), 0);
	return vm;
}

bool sh_take(struct vm *vm, unsigned i)
{
	bool taken = shadow_take_now(sh_cpu(vm, i));

	soft_guest_leave(sh_cpu(vm, i));
	return taken;
}

struct vm *sh_mapped_machine(void)
{
	struct vm *vm = sh_machine((struct engine_xl_conf){ .direct_now = true });

	if (!soft_engine(vm->eng)->shadow) {
		/* A sanitizer, or a host that cannot translate. */
		assert_true(BUILD_ASAN || !soft_engine(vm->eng)->xl);
		vm_free(vm);
		skip();
	}
	assert_true(sh_take(vm, 0));
	assert_true(sh_cpu(vm, 0)->xl_direct && sh_cpu(vm, 1)->xl_direct);
	return vm;
}

void sh_access_pages(struct soft_cpu *c, uint64_t va, unsigned n, bool write)
{
	for (unsigned i = 0; i < n; i++) {
		if (write) {
			soft_store(c, va + (uint64_t)i * PAGE, 1, 1);
		} else {
			(void)soft_load(c, va + (uint64_t)i * PAGE, 1);
		}
	}
}

uint64_t sh_count(const struct soft_cpu *c, enum xl_count what)
{
	return c->counts->n[what];
}

void sh_fill_one(struct soft_cpu *c)
{
	sh_access_pages(c, SMALL, 1, true);
	assert_true(shadow_fill(c, SMALL));
	assert_int_equal(sh_how(SMALL), WRITE);
}
