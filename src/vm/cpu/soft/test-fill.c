/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What fills the TLB from translated code, against the page walk of the interpreter: what it finds
 * the walk finds, too, the page faults that it sees coming are those that the walk tells, and it
 * leaves the tables as they are. Random tables, privileges and kinds of access; and what a flush
 * leaves.
 */
#include "base/test.h"
#include "vm/cpu/soft/test-vm.h"
#include "vm/cpu/soft/xl.h"

enum {
	SMALL = 0x400000,     /* by small pages: test-vm.c */
	LEVELS = 4, ROUNDS = 40000, TABLES = 0xa000,   /* three of them; the first is PML4 */
	P = 1, W = 2, U = 4, A = 32, D = 64, PS = 128, G = 256,
};

#define VA  (UINT64_C(5) << 39 | UINT64_C(6) << 30 | UINT64_C(7) << 21 | UINT64_C(8) << 12)
#define NX  BIT(63)

static uint64_t seed = 1;

static uint64_t any(uint64_t n)
{
	seed = seed * UINT64_C(6364136223846793005) + 1442695040888963407;
	return (seed >> 33) % n;
}

static bool one_in(uint64_t n)
{
	return any(n) == 0;
}

static uint64_t at(unsigned level)
{
	uint64_t table = level == 0 ? PML4 : TABLES + (level - 1) * GMEM_PAGE_BYTES;

	return table + (VA >> (39 - 9 * level) & 511) * 8;
}

/* Mostly what is common. */
static uint64_t entry(unsigned level)
{
	uint64_t e = level == LEVELS - 1 ? DATA + any(16) * GMEM_PAGE_BYTES :
		     TABLES + level * GMEM_PAGE_BYTES;
	static const uint64_t usual[] = { P, W, U, A, D };
	static const uint64_t rare[] = { PS, G, NX, BIT(51), BIT(45), BIT(13) };

	for (size_t i = 0; i < ARRAY_LEN(usual); i++) {
		e |= one_in(12) ? 0 : usual[i];
	}
	for (size_t i = 0; i < ARRAY_LEN(rare); i++) {
		e |= one_in(24) ? rare[i] : 0;
	}
	return e;
}

static void random_state(struct soft_cpu *c)
{
	struct cpu_state *s = &c->s;

	s->cr0 = (s->cr0 & ~(uint64_t)CPU_CR0_WP) | (one_in(4) ? 0 : CPU_CR0_WP);
	s->cr4 = (s->cr4 & ~(uint64_t)(CPU_CR4_SMAP | CPU_CR4_PGE)) |
		 (one_in(2) ? CPU_CR4_SMAP : 0) | (one_in(2) ? CPU_CR4_PGE : 0);
	s->efer = (s->efer & ~(uint64_t)CPU_EFER_NXE) | (one_in(4) ? 0 : CPU_EFER_NXE);
	s->rflags = CPU_FLAG_1 | (one_in(2) ? CPU_FLAG_AC : 0);
	s->seg[CPU_CS].ar = one_in(2) ? 0xa0fb : 0xa09b;
	s->seg[CPU_SS].ar = s->seg[CPU_CS].ar == 0xa0fb ? 0xc0f3 : 0xc093;
	soft_mode_update(c);
}

static unsigned walk_flags(const struct soft_cpu *c, bool write)
{
	return (write ? SOFT_WALK_WRITE : 0) | (c->cpl == 3 ? SOFT_WALK_USER : 0) |
	       (c->tlb != c->tlb_kernel || !(c->s.cr4 & CPU_CR4_SMAP) ? SOFT_WALK_AC : 0);
}

static void one(struct vm *vm, struct soft_cpu *c, unsigned *ret_filled, unsigned *ret_faults)
{
	uint64_t tables[LEVELS], va = VA + any(GMEM_PAGE_BYTES);
	const struct soft_tlb_entry *e = NULL;
	bool write = one_in(2);
	struct soft_walk w = { 0 };
	struct soft_page *page = NULL;
	int r = 0;

	random_state(c);
	for (unsigned level = 0; level < LEVELS; level++) {
		tables[level] = entry(level);
		vm_put64(vm, at(level), tables[level]);
	}
	soft_tlb_flush_all(c);
	bool filled = xl_fill(c, va, write) == 0;
	uint32_t pf = c->xl_pf;

	for (unsigned level = 0; level < LEVELS; level++) {
		assert_int_equal(vm_get64(vm, at(level)), tables[level]);
	}
	e = soft__tlb(c, va);
	r = soft_walk(c, va, walk_flags(c, write), &w);
	assert_int_equal(filled, va - (write ? e->tag_write : e->tag_read) < GMEM_PAGE_BYTES);
	if (filled) {
		assert_int_equal(pf, 0);
		assert_int_equal(r, 0);
		assert_int_equal(e->host,
				 (uintptr_t)soft_ram(c->eng, w.gpa, &page) & ~(uintptr_t)4095);
		/* All bits that the walk would set were there. */
		for (unsigned level = 0; level < LEVELS; level++) {
			assert_int_equal(vm_get64(vm, at(level)), tables[level]);
		}
		/* A right to write that nobody asked for is one that is there. */
		assert_true(va - e->tag_write >= GMEM_PAGE_BYTES || (w.writable && w.dirty) ||
			    !(c->s.cr0 & CPU_CR0_WP));
		++*ret_filled;
	}
	if (pf) {
		assert_false(filled);
		assert_int_equal(pf, XL_PF | w.error);
		assert_true(r < 0);
		++*ret_faults;
	}
}

static struct soft_cpu *machine(struct vm **ret)
{
	*ret = vm_new_xl(1, false, (struct engine_xl_conf){ 0 });
	vm_long_mode(*ret);
	return container_of((*ret)->cpu[0], struct soft_cpu, vcpu);
}

static void test_as_the_walk(unused_arg void **state)
{
	unsigned filled = 0, faults = 0;
	struct vm *vm = NULL;
	struct soft_cpu *c = machine(&vm);

	for (unsigned n = 0; n < ROUNDS; n++) {
		one(vm, c, &filled, &faults);
	}
	assert_in_range(filled, ROUNDS / 20, ROUNDS);
	assert_in_range(faults, ROUNDS / 20, ROUNDS);
	vm_free(vm);
}

/* Pages that share no slot, then those that share one: all go by a flush, of all or of one. */
static void test_flushed(unused_arg void **state)
{
	struct vm *vm = NULL;
	struct soft_cpu *c = machine(&vm);

	c->s.seg[CPU_SS].ar = 0xc0f3;
	soft_mode_update(c);
	for (unsigned round = 0; round < 4; round++) {
		for (uint64_t va = SMALL; va < SMALL + 0x100000; va += GMEM_PAGE_BYTES) {
			(void)soft_load(c, va, 8);
			assert_true(va - soft__tlb(c, va)->tag_read < GMEM_PAGE_BYTES);
		}
		switch (round) {
		case 0: {
			soft_tlb_flush_all(c);
			break;
		}
		case 1: {
			soft_tlb_flush_local(c);
			break;
		}
		case 2: {
			soft_tlb_flush_pcid(c, 0);
			break;
		}
		default: {
			for (uint64_t va = SMALL; va < SMALL + 0x100000; va += GMEM_PAGE_BYTES) {
				soft_tlb_flush_address(c, va);
			}
		}
		}
		for (size_t slot = 0; slot < SOFT_TLB_ENTRIES; slot++) {
			assert_int_equal(c->tlb[slot].tag_read, soft_tlb_never(slot));
			assert_int_equal(c->tlb[slot].tag_write, soft_tlb_never(slot));
		}
	}
	vm_free(vm);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_as_the_walk),
		cmocka_unit_test(test_flushed),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
