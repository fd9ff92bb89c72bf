/* SPDX-License-Identifier: Apache-2.0 */
/* Shadow mappings: whose they are, and when they are not any more. */
#include "base/test.h"
#include "vm/cpu/soft/test-shadow-vm.h"

/* A machine whose first vCPU was interrupted at CPL 3 until its memory was mapped. */
static struct vm *sampled_machine(void)
{
	struct vm *vm = sh_machine((struct engine_xl_conf){ .after = 0 });
	struct soft_cpu *c = sh_cpu(vm, 0);

	if (!soft_engine(vm->eng)->shadow) {
		vm_free(vm);
		skip();
	}
	for (unsigned i = 0; i < 16 && !c->xl_direct; i++) {
		shadow_sample(c);
		soft_guest_leave(c);
	}
	assert_true(c->xl_direct);
	return vm;
}

/* It is interrupts at CPL 3 that decide, and it is given up when it costs more than it gives. */
static void test_policy(void **state)
{
	struct vm *vm = sampled_machine();
	struct soft_cpu *c = sh_cpu(vm, 0);

	(void)state;
	assert_int_equal(soft_engine(vm->eng)->shadow_root, PML4);
	sh_access_pages(c, SMALL, 1, true);
	while (c->xl_direct) {
		ignore_result(shadow_fill(c, SMALL)); /* the last one does not */
		soft_tlb_flush_all(c);
	}
	assert_int_equal(sh_count(c, XC_SHADOW_GIVEN_UP), 1);
	assert_int_equal(sh_how(SMALL), NO);
	vm_free(vm);
}

/* Who flushes all is let go of, and taken again if it goes on. */
static void test_released(void **state)
{
	struct vm *vm = sampled_machine();
	struct soft_cpu *c = sh_cpu(vm, 0);

	(void)state;
	shadow_flush(c, OTHER_PML4);
	assert_int_equal(soft_engine(vm->eng)->shadow_root, PML4);
	sh_fill_one(c);
	shadow_flush(c, PML4);
	assert_int_equal(sh_how(SMALL), NO);
	soft_mode_update(c);
	assert_false(c->xl_direct);
	shadow_sample(c);
	soft_guest_leave(c);
	assert_true(c->xl_direct);
	sh_fill_one(c);
	/* Another one has to be there as often as any. */
	shadow_flush(c, PML4);
	sh_set_cr3(vm, 0, OTHER_PML4, 0);
	shadow_sample(c);
	soft_guest_leave(c);
	assert_false(c->xl_direct);
	vm_free(vm);
}

/* A program that takes its memory page by page is let go of until it has it. */
static void test_growing(void **state)
{
	struct vm *vm = sampled_machine();
	struct soft_cpu *c = sh_cpu(vm, 0);

	(void)state;
	sh_fill_one(c);
	xl_add(&c->counts->n[XC_WRITE_FAULT], 100);
	shadow_sample(c);
	assert_false(c->xl_direct);
	assert_int_equal(sh_how(SMALL), NO);
	xl_add(&c->counts->n[XC_READ_FAULT], 100);
	for (unsigned i = 0; i < 2; i++) {
		shadow_sample(c);
		soft_guest_leave(c);
		assert_true(c->xl_direct == (i == 1));
	}
	xl_add(&c->counts->n[XC_WRITE_FAULT], 5);
	sh_fill_one(c);
	shadow_sample(c);
	assert_int_equal(sh_how(SMALL), WRITE);
	vm_free(vm);
}

static void test_watched(void **state)
{
	struct vm *vm = sh_mapped_machine();
	struct err e = ERR_INIT;
	struct vcpu_debug d = { .n_watches = 1, .watches = { { .va = SMALL, .bytes = 1 } } };
	struct soft_cpu *c = sh_cpu(vm, 0);

	(void)state;
	assert_int_equal(engine_soft.vcpu_debug(vm->cpu[0], &d, &e), 0);
	assert_false(c->xl_direct);
	assert_true(sh_cpu(vm, 1)->xl_direct);
	d.n_watches = 0;
	assert_int_equal(engine_soft.vcpu_debug(vm->cpu[0], &d, &e), 0);
	assert_true(c->xl_direct);
	c->s.dr7 = 0x10001;        /* a write to DR0's address */
	soft_mode_update(c);
	assert_false(c->xl_direct);
	vm_free(vm);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_policy), cmocka_unit_test(test_released),
		cmocka_unit_test(test_growing), cmocka_unit_test(test_watched),
	};

	return TEST_RUN(tests);
}
