/* SPDX-License-Identifier: Apache-2.0 */
/* For tests of shadow mappings: machines that have some, and what is seen of them. */
#ifndef VM_CPU_SOFT_TEST_SHADOW_VM_H
#define VM_CPU_SOFT_TEST_SHADOW_VM_H

#include "vm/cpu/soft/test-vm.h"
#include "vm/cpu/soft/xl-shadow.h"
#include "vm/cpu/soft/xl-stats.h"

enum {
	PAGE = GMEM_PAGE_BYTES,
	SMALL = 0x400000,          /* by small pages: test-vm.c */
	LARGE = 0x200000,
	ODD = 0x600000,            /* pages of all kinds */
	OTHER_PML4 = 0xa000, OTHER_PDPT = 0xb000,
	DEVICE = 0x10000000,       /* no RAM */
};

#define HIGH SHADOW_HIGH_FIRST

/* Two vCPUs at CPL 3 with the same tables, which are at HIGH, too; and others for one of them. */
struct vm *sh_machine(struct engine_xl_conf xl);
/* The same with the memory of the first one mapped. The test is skipped where there is none. */
struct vm *sh_mapped_machine(void);
struct soft_cpu *sh_cpu(struct vm *vm, unsigned i);
void sh_set_cr3(struct vm *vm, unsigned i, uint64_t cr3, uint64_t cr4);
/* Map the vCPU's memory now; false: it is, or may not be. */
bool sh_take(struct vm *vm, unsigned i);

/* Where memory of the guest is here, and how it can be reached. */
uint8_t *sh_at(uint64_t va);
enum { NO = 0, READ = 1, WRITE = 3 };

int sh_how(uint64_t va);

/* The vCPU has accessed the pages. */
void sh_access_pages(struct soft_cpu *c, uint64_t va, unsigned n, bool write);
/* It has written to the one at SMALL, which is mapped now. */
void sh_fill_one(struct soft_cpu *c);
uint64_t sh_count(const struct soft_cpu *c, enum xl_count what);

#endif
