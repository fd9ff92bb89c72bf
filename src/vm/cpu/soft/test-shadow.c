/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Shadow mappings: what can be reached where the guest has its memory. The tests play vCPUs, and
 * look with their own eyes.
 *
 * A sanitizer has these addresses for itself: there it is only seen that there are no mappings.
 */
#include <errno.h>
#include <sys/mman.h>

#include "base/test.h"
#include "sys/map.h"
#include "vm/cpu/soft/test-shadow-vm.h"

static void test_maps(void **state)
{
	struct vm *vm = sh_mapped_machine();
	struct soft_cpu *c = sh_cpu(vm, 0);

	(void)state;
	assert_int_equal(sh_how(SMALL), NO);
	assert_false(shadow_fill(c, SMALL));       /* not by CPL 3 yet */
	assert_int_equal(sh_how(SMALL), NO);
	sh_access_pages(c, SMALL, 1, false);
	assert_true(shadow_fill(c, SMALL + 5));
	assert_int_equal(sh_how(SMALL), READ);
	assert_false(shadow_fill(c, SMALL));       /* a write would fail again: it is not dirty */
	sh_access_pages(c, SMALL, 1, true);
	assert_true(shadow_fill(c, SMALL));
	assert_int_equal(sh_how(SMALL), WRITE);
	assert_true(shadow_fill(c, SMALL));
	vm_put64(vm, SMALL + 8, 0x1234);
	assert_int_equal(sh_at(SMALL)[8], 0x34);
	sh_at(SMALL)[9] = 0x56;
	assert_int_equal(vm_get64(vm, SMALL + 8), 0x5634);
	assert_int_equal(sh_how(SMALL + PAGE), NO);

	sh_access_pages(c, HIGH + SMALL, 1, true);
	assert_int_equal(sh_how(HIGH + SMALL), NO);
	assert_true(shadow_fill(c, HIGH + SMALL));
	assert_int_equal(sh_how(HIGH + SMALL), WRITE);
	assert_int_equal(sh_at(HIGH + SMALL)[8], 0x34);

	/* Neither is in a range that has a place. */
	assert_false(shadow_fill(c, SHADOW_LOW_END + SMALL));
	assert_false(shadow_fill(c, UINT64_C(0xffff800000000000)));
	assert_false(shadow_fill(c, SHADOW_HIGH_END));
	vm_free(vm);
}

/* By one call: what lies side by side, and was accessed in the same way. */
static void test_around(void **state)
{
	struct vm *vm = sh_mapped_machine();
	struct soft_cpu *c = sh_cpu(vm, 0);

	(void)state;
	sh_access_pages(c, SMALL + 2 * PAGE, 5, true);
	sh_access_pages(c, SMALL + 7 * PAGE, 1, false);
	vm_put64(vm, 0x4000 + 8 * 3, 0x700067);    /* of all others' pages */
	assert_true(shadow_fill(c, SMALL + 5 * PAGE));
	assert_int_equal(sh_count(c, XC_SHADOW_PAGES), 3);
	assert_int_equal(sh_how(SMALL + 3 * PAGE), NO);
	assert_int_equal(sh_how(SMALL + 4 * PAGE), WRITE);
	assert_int_equal(sh_how(SMALL + 6 * PAGE), WRITE);
	assert_int_equal(sh_how(SMALL + 7 * PAGE), NO);
	/* The second one takes along what comes behind. */
	assert_true(shadow_fill(c, SMALL + 3 * PAGE));
	assert_int_equal(sh_how(SMALL + 7 * PAGE), READ);
	sh_at(SMALL + 3 * PAGE)[0] = 0x77;
	assert_int_equal(vm_get64(vm, 0x700000) & 0xff, 0x77);
	vm_free(vm);
}

static void test_refused(void **state)
{
	struct vm *vm = sh_mapped_machine();
	struct soft_cpu *c = sh_cpu(vm, 0);

	(void)state;
	/* Absent, reserved, of the kernel: nobody accesses them, so their bits are set here. */
	vm_put64(vm, PD + 24, PT | 0x27);
	vm_put64(vm, PT + 24, UINT64_C(0x0008000000603067));
	vm_put64(vm, PT + 32, 0x604063);
	vm_put64(vm, PT + 8, 0x601065);            /* read only */
	vm_put64(vm, PT + 8 * 20, 0x614167);       /* global */
	vm_put64(vm, PT + 8 * 21, DEVICE | 0x67);
	sh_access_pages(c, SMALL, 1, true);           /* A in all above */
	assert_false(shadow_fill(c, ODD));
	assert_true(shadow_fill(c, ODD + PAGE));
	assert_false(shadow_fill(c, ODD + PAGE));
	assert_int_equal(sh_how(ODD + PAGE), READ);
	assert_false(shadow_fill(c, ODD + 3 * PAGE));
	assert_false(shadow_fill(c, ODD + 4 * PAGE));
	assert_false(shadow_fill(c, ODD + 20 * PAGE));
	assert_false(shadow_fill(c, ODD + 21 * PAGE));
	assert_false(shadow_fill(c, 0x80000000));
	assert_int_equal(sh_how(ODD + 21 * PAGE), NO);
	assert_int_equal(sh_count(c, XC_SHADOW_PAGES), 1);
	vm_free(vm);
}

/* Who makes code of a page finds no way to write to it, wherever it is mapped. */
static void test_code(void **state)
{
	struct vm *vm = sh_mapped_machine();
	struct soft_cpu *c = sh_cpu(vm, 0);
	struct soft_page *page = NULL;

	(void)state;
	assert_non_null(soft_ram(c->eng, SMALL, &page));
	sh_access_pages(c, SMALL, 3, true);
	assert_true(shadow_fill(c, SMALL + PAGE));
	page[1].code = 1;
	shadow_drop_writes(c->eng, SMALL + PAGE + 7);
	assert_int_equal(sh_how(SMALL), WRITE);
	assert_int_equal(sh_how(SMALL + PAGE), READ);
	assert_int_equal(sh_how(SMALL + 2 * PAGE), WRITE);
	assert_false(shadow_fill(c, SMALL + PAGE));
	page[1].code = 0;
	assert_true(shadow_fill(c, SMALL + PAGE));
	assert_int_equal(sh_how(SMALL + PAGE), WRITE);

	sh_access_pages(c, HIGH + SMALL + PAGE, 1, true);
	assert_true(shadow_fill(c, HIGH + SMALL + PAGE));
	shadow_drop_writes(c->eng, SMALL + PAGE);
	assert_true(sh_how(SMALL + PAGE) != WRITE && sh_how(HIGH + SMALL + PAGE) != WRITE);

	/* Mapped while there is code, translated or not. */
	page[5].translated = 1;
	sh_access_pages(c, SMALL + 4 * PAGE, 3, true);
	assert_true(shadow_fill(c, SMALL + 5 * PAGE));
	assert_int_equal(sh_how(SMALL + 5 * PAGE), READ);
	assert_true(shadow_fill(c, SMALL + 4 * PAGE));
	assert_int_equal(sh_how(SMALL + 4 * PAGE), WRITE);
	assert_int_equal(sh_how(SMALL + 5 * PAGE), READ);
	vm_free(vm);
}

static void test_flush_address(void **state)
{
	struct vm *vm = sh_mapped_machine();
	struct soft_cpu *c = sh_cpu(vm, 0), *other = sh_cpu(vm, 1);

	(void)state;
	sh_access_pages(c, SMALL, 200, true);
	assert_true(shadow_fill(c, SMALL));
	soft_tlb_flush_address(c, SMALL + PAGE);
	assert_int_equal(sh_how(SMALL), WRITE);
	assert_int_equal(sh_how(SMALL + PAGE), NO);
	assert_int_equal(sh_how(SMALL + 2 * PAGE), WRITE);
	soft_tlb_flush_address(other, SMALL + 2 * PAGE);    /* the second of a group takes it all */
	assert_int_equal(sh_how(SMALL + 63 * PAGE), NO);
	assert_int_equal(sh_how(SMALL + 64 * PAGE), WRITE);
	assert_true(shadow_fill(other, SMALL + PAGE));      /* it has accessed nothing itself */
	assert_int_equal(sh_how(SMALL), WRITE);

	sh_set_cr3(vm, 1, OTHER_PML4, 0);
	assert_false(other->xl_direct);
	assert_true(shadow_fill(c, SMALL));                 /* all was flushed by that */
	assert_int_equal(sh_how(SMALL), WRITE);
	soft_tlb_flush_address(other, SMALL);
	assert_true(shadow_fill(other, SMALL + 300 * PAGE));
	assert_int_equal(sh_how(SMALL), WRITE);
	assert_int_equal(sh_how(SMALL + 300 * PAGE), NO);
	vm_free(vm);
}

static void test_large(void **state)
{
	struct vm *vm = sh_mapped_machine();
	struct soft_cpu *c = sh_cpu(vm, 0);
	struct soft_page *page = NULL;

	(void)state;
	sh_access_pages(c, LARGE, 1, true);
	assert_true(shadow_fill(c, LARGE + 0x12345));
	assert_int_equal(sh_count(c, XC_SHADOW_PAGES), 512);
	assert_int_equal(sh_how(LARGE), WRITE);
	assert_int_equal(sh_how(LARGE + 511 * PAGE), WRITE);
	soft_tlb_flush_address(c, LARGE + 99 * PAGE);
	assert_int_equal(sh_how(LARGE), NO);
	assert_int_equal(sh_how(LARGE + 511 * PAGE), NO);

	/* In pieces, where some is code. */
	assert_non_null(soft_ram(c->eng, LARGE, &page));
	page[100].code = 1;
	assert_true(shadow_fill(c, LARGE));
	assert_int_equal(sh_how(LARGE + 99 * PAGE), WRITE);
	assert_int_equal(sh_how(LARGE + 100 * PAGE), NO);
	assert_true(shadow_fill(c, LARGE + 100 * PAGE));
	assert_true(shadow_fill(c, LARGE + 101 * PAGE));
	assert_int_equal(sh_how(LARGE + 100 * PAGE), READ);
	assert_int_equal(sh_how(LARGE + 511 * PAGE), WRITE);
	soft_tlb_flush_address(c, LARGE + 5 * PAGE);
	assert_int_equal(sh_how(LARGE + 101 * PAGE), NO);

	/* The first one, of which the begin has no place. */
	sh_access_pages(c, 0x20000, 1, true);
	assert_true(shadow_fill(c, 0x20000));
	assert_false(shadow_fill(c, 0x1000));
	assert_int_equal(sh_how(0x10000), WRITE);
	soft_tlb_flush_address(c, 0x1000);
	assert_int_equal(sh_how(0x10000), NO);
	vm_free(vm);
}

/* One of 1 GiB in the second half of it; only what is RAM. */
static void test_huge(void **state)
{
	struct vm *vm = sh_mapped_machine();
	struct soft_cpu *c = sh_cpu(vm, 0);

	(void)state;
	vm_put64(vm, PDPT + 24, 0x87);
	sh_access_pages(c, 0xc0000000 + SMALL, 1, true);
	assert_true(shadow_fill(c, 0xc0000000 + SMALL));
	assert_int_equal(sh_how(0xc0000000 + SMALL + PAGE), WRITE);
	assert_false(shadow_fill(c, 0xc0000000 + MEM_BYTES));
	soft_tlb_flush_address(c, 0xf0000000);
	assert_int_equal(sh_how(0xc0000000 + SMALL), NO);
	vm_free(vm);
}

static void load_cr3(struct soft_cpu *c, uint64_t cr3, bool keep)
{
	c->s.cr3 = cr3;
	soft_tlb_switch(c, keep);
}

static void test_cr3(void **state)
{
	struct vm *vm = sh_mapped_machine();
	struct soft_cpu *c = sh_cpu(vm, 0);

	(void)state;
	sh_fill_one(c);
	load_cr3(c, OTHER_PML4, false);
	assert_false(c->xl_direct);
	assert_int_equal(sh_how(SMALL), WRITE);
	load_cr3(c, PML4, false);
	assert_true(c->xl_direct);
	assert_int_equal(sh_how(SMALL), NO);
	sh_fill_one(c);
	soft_tlb_flush_all(c);
	assert_int_equal(sh_how(SMALL), NO);

	/* Another one's mappings take their place. */
	sh_fill_one(c);
	load_cr3(c, OTHER_PML4, false);
	assert_true(sh_take(vm, 0));
	assert_int_equal(sh_how(SMALL), NO);
	assert_true(c->xl_direct && !sh_cpu(vm, 1)->xl_direct);
	sh_fill_one(c);
	soft_tlb_flush_address(sh_cpu(vm, 1), SMALL);
	assert_int_equal(sh_how(SMALL), WRITE);
	vm_free(vm);
}

static void test_pcid(void **state)
{
	struct vm *vm = sh_mapped_machine();
	struct soft_cpu *c = sh_cpu(vm, 0);

	(void)state;
	sh_set_cr3(vm, 0, PML4 | 1, CPU_CR4_PCIDE);
	sh_fill_one(c);
	load_cr3(c, OTHER_PML4 | 2, false);
	soft_tlb_flush_pcid(c, 2);
	soft_tlb_flush_pcid_address(c, 2, SMALL);
	assert_int_equal(sh_how(SMALL), WRITE);
	load_cr3(c, PML4 | 1, true);
	assert_int_equal(sh_how(SMALL), WRITE);
	load_cr3(c, OTHER_PML4 | 2, true);
	soft_tlb_flush_pcid_address(c, 1, SMALL);
	assert_int_equal(sh_how(SMALL), NO);
	load_cr3(c, PML4 | 1, true);
	sh_fill_one(c);
	load_cr3(c, OTHER_PML4 | 2, true);
	soft_tlb_flush_pcid(c, 1);
	assert_int_equal(sh_how(SMALL), NO);

	/* The same tables by another PCID, which was empty: it may have been flushed for that. */
	load_cr3(c, PML4 | 1, true);
	sh_fill_one(c);
	load_cr3(c, OTHER_PML4 | 2, true);
	soft_tlb_flush_pcid(c, 3);
	load_cr3(c, PML4 | 3, true);
	assert_int_equal(sh_how(SMALL), NO);
	/* And by one that was another's. */
	sh_fill_one(c);
	load_cr3(c, PML4 | 2, true);
	assert_int_equal(sh_how(SMALL), NO);
	sh_fill_one(c);
	soft_tlb_flush_local(c);
	assert_int_equal(sh_how(SMALL), NO);
	vm_free(vm);
}

static bool logged(struct vm *vm, uint64_t gpa)
{
	uint64_t bits[MEM_BYTES / PAGE / 64];

	gmem_log_take(&vm->mem, 0, bits);
	return bits[gpa / PAGE / 64] >> gpa / PAGE % 64 & 1;
}

static void test_dirty_log(void **state)
{
	struct vm *vm = sh_mapped_machine();
	struct soft_cpu *c = sh_cpu(vm, 0);
	struct err e = ERR_INIT;

	(void)state;
	sh_access_pages(c, SMALL, 4, true);
	assert_true(shadow_fill(c, SMALL));
	assert_int_equal(gmem_log_start(&vm->mem, &e), 0);
	assert_int_equal(engine_soft.log(vm->eng, true, &e), 0);
	soft_inbox_serve(c);
	assert_int_equal(sh_how(SMALL), NO);
	sh_access_pages(c, SMALL, 4, false);
	assert_true(shadow_fill(c, SMALL));
	assert_int_equal(sh_how(SMALL), READ);
	assert_false(logged(vm, SMALL));
	sh_access_pages(c, SMALL + PAGE, 1, true);
	assert_true(shadow_fill(c, SMALL + PAGE));
	assert_int_equal(sh_how(SMALL + PAGE), WRITE);
	assert_int_equal(sh_how(SMALL), READ);
	assert_int_equal(sh_how(SMALL + 2 * PAGE), READ);
	assert_true(logged(vm, SMALL + PAGE));
	assert_int_equal(engine_soft.log_sync(vm->eng, &e), 0);
	soft_inbox_serve(c);
	assert_int_equal(sh_how(SMALL + PAGE), NO);
	gmem_log_stop(&vm->mem);
	assert_int_equal(engine_soft.log(vm->eng, false, &e), 0);
	assert_true(shadow_fill(c, SMALL));
	assert_int_equal(sh_how(SMALL + 3 * PAGE), WRITE);
	vm_free(vm);
}

/* The host refuses: nothing is mapped, and nothing stays. */
static void test_no_memory(void **state)
{
	struct vm *vm = sh_mapped_machine();
	struct soft_cpu *c = sh_cpu(vm, 0);

	(void)state;
	sh_access_pages(c, SMALL, 1, true);
	sys_fault_arm(SYS_CALL_mmap, 1, 1, ENOMEM);
	assert_false(shadow_fill(c, SMALL));
	assert_int_equal(sh_how(SMALL), NO);
	sh_fill_one(c);
	sys_fault_arm(SYS_CALL_mmap, 1, 1, ENOMEM);
	soft_tlb_flush_address(c, SMALL);
	assert_int_equal(sys_fault_hits(), 1);
	assert_int_equal(sh_how(SMALL), NO);
	sys_fault_clear();
	sh_fill_one(c);
	vm_free(vm);
}

/* The host has room for so many mappings of a process only. */
static void test_many(void **state)
{
	struct vm *vm = sh_mapped_machine();
	struct soft_cpu *c = sh_cpu(vm, 0);

	(void)state;
	/* No two are side by side in both memories. */
	for (unsigned i = 0; i < 512; i++) {
		vm_put64(vm, 0x4000 + 8 * i, (SMALL + (uint64_t)PAGE * (511 - i)) | 0x67);
	}
	sh_access_pages(c, SMALL, 1, true);
	for (unsigned k = 0; k < 30; k++) {
		/* Places of their own: each entry of a table of 2 MiB pieces leads to the same. */
		vm_put64(vm, PD + 8 * (100 + k), 0x4000 | 0x27);
		for (unsigned i = 0; i < 512; i++) {
			uint64_t va = (uint64_t)(100 + k) * LARGE + (uint64_t)i * PAGE;

			assert_true(shadow_fill(c, va));
		}
	}
	sh_fill_one(c);
	vm_free(vm);
}

/* Where there is something already, where another machine is, and where it is not wanted. */
static void test_no_place(void **state)
{
	void *taken = (void *)(uintptr_t)0x10000000;
	struct vm *vm = sh_mapped_machine();
	struct vm *second = vm_new_xl(1, false, (struct engine_xl_conf){ .after = 0 });

	(void)state;
	assert_null(soft_engine(second->eng)->shadow);
	vm_free(second);
	vm_free(vm);
	assert_int_equal(sys_mmap_free(taken, PAGE, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS), 0);
	vm = vm_new_xl(1, false, (struct engine_xl_conf){ .direct_now = true });
	assert_null(soft_engine(vm->eng)->shadow);
	vm_long_mode(vm);
	sh_set_cr3(vm, 0, PML4, 0);
	assert_false(shadow_take_now(sh_cpu(vm, 0)));
	shadow_sample(sh_cpu(vm, 0));
	assert_false(shadow_fill(sh_cpu(vm, 0), SMALL));
	shadow_flush(sh_cpu(vm, 0), UINT64_MAX);
	vm_free(vm);
	assert_int_equal(sys_munmap(taken, PAGE), 0);
	vm = vm_new_xl(1, false, (struct engine_xl_conf){ .no_shadow = true });
	assert_null(soft_engine(vm->eng)->shadow);
	vm_free(vm);
	vm = sh_mapped_machine();
	vm->mem.slots[0].restored = true;      /* a file is there now */
	load_cr3(sh_cpu(vm, 0), OTHER_PML4, false);
	assert_false(sh_take(vm, 0));
	vm_free(vm);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_maps), cmocka_unit_test(test_around),
		cmocka_unit_test(test_refused), cmocka_unit_test(test_code),
		cmocka_unit_test(test_flush_address), cmocka_unit_test(test_large),
		cmocka_unit_test(test_huge), cmocka_unit_test(test_cr3),
		cmocka_unit_test(test_pcid), cmocka_unit_test(test_dirty_log),
		cmocka_unit_test(test_no_memory), cmocka_unit_test(test_many),
		cmocka_unit_test(test_no_place),
	};

	return TEST_RUN(tests);
}
