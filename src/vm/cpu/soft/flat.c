/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>

#include "vm/cpu/soft/flat.h"
#include "vm/cpu/soft/handlers.h"

uint64_t flat_base, flat_bytes;
struct flat_fault flat_last;

static void flat_end(unused_arg struct soft_cpu *c, unused_arg const struct insn *i)
{
}

bool flat_run(struct soft_cpu *c, const struct insn *i)
{
	c->running_rip = c->s.rip;
	c->one[0] = *i;
	c->one[1].fn = flat_end;
	if (sigsetjmp(c->fault_jump, 0)) {
		return false;
	}
	c->one->fn(c, c->one);
	return true;
}

_Noreturn void soft_fault(struct soft_cpu *c, unsigned vector, uint32_t error)
{
	flat_last = (struct flat_fault){ vector, error };
	siglongjmp(c->fault_jump, 1);
}

_Noreturn void soft_fault_no_error(struct soft_cpu *c, unsigned vector)
{
	soft_fault(c, vector, 0);
}

uint64_t soft_ea(const struct soft_cpu *c, const struct insn *i)
{
	uint64_t ea = (uint64_t)(int64_t)i->disp;

	if (i->base == INSN_BASE_RIP) {
		ea += soft_rip_after(c, i);
	} else if (i->base != INSN_NONE) {
		ea += c->s.gpr[i->base];
	}
	if (i->index != INSN_NONE) {
		ea += c->s.gpr[i->index] << i->scale;
	}
	return i->ad_bytes == 8 ? ea : i->ad_bytes == 4 ? (uint32_t)ea : (uint16_t)ea;
}

uint64_t soft__linear_legacy(struct soft_cpu *c, unsigned seg, uint64_t ea,
			     unused_arg unsigned bytes, unused_arg enum soft_access access)
{
	return (uint32_t)(c->s.seg[seg].base + ea);
}

_Noreturn void soft__not_canonical(struct soft_cpu *c, unsigned seg)
{
	soft_fault(c, seg == CPU_SS ? CPU_SS_FAULT : CPU_GP, 0);
}

void flat_init(struct soft_cpu *c)
{
	memset(c, 0, sizeof(*c));
	for (unsigned k = 0; k < SOFT_TLB_ENTRIES; k++) {
		c->tlb_none[k].tag_read = c->tlb_none[k].tag_write = BIT(63);
		c->tlb_kernel[k] = c->tlb_none[k];
	}
	for (uint64_t at = flat_base; at < flat_base + flat_bytes; at += GMEM_PAGE_BYTES) {
		size_t slot = at >> GMEM_PAGE_SHIFT & (SOFT_TLB_ENTRIES - 1);
		struct soft_tlb_entry *e = &c->tlb_kernel[slot];

		e->tag_read = e->tag_write = e->host = at;
	}
	c->tlb = c->tlb_none;
	c->mode = INSN_MODE_64;
	c->cpl = 3;
}

static void *checked(struct soft_cpu *c, uint64_t linear, size_t n)
{
	if (linear - flat_base > flat_bytes || n > flat_bytes - (linear - flat_base)) {
		soft_fault(c, CPU_PF, 0);
	}
	return (void *)linear;
}

uint64_t soft__load_slow(struct soft_cpu *c, uint64_t linear, unsigned bytes)
{
	uint64_t v = 0;

	memcpy(&v, checked(c, linear, bytes), bytes);
	return v;
}

void soft__store_slow(struct soft_cpu *c, uint64_t linear, unsigned bytes, uint64_t v)
{
	memcpy(checked(c, linear, bytes), &v, bytes);
}

void soft_load_bytes(struct soft_cpu *c, uint64_t linear, void *ret, size_t n)
{
	memcpy(ret, checked(c, linear, n), n);
}

void soft_store_bytes(struct soft_cpu *c, uint64_t linear, const void *data, size_t n)
{
	memcpy(checked(c, linear, n), data, n);
}

void soft_probe_write(struct soft_cpu *c, uint64_t linear, size_t n)
{
	checked(c, linear, n);
}

void *soft_atomic(struct soft_cpu *c, uint64_t linear, unsigned bytes)
{
	void *p = checked(c, linear, bytes);

	return (linear & 4095) + bytes > 4096 ? NULL : p;
}

void soft_exclusive_begin(unused_arg struct soft_cpu *c)
{
}

void soft_exclusive_end(unused_arg struct soft_cpu *c)
{
}

/* What the table names and these tests do not run. */
#define ABSENT(name) \
	void name(struct soft_cpu *c, unused_arg const struct insn *i) \
	{ \
		soft_fault_no_error(c, CPU_UD); \
	}
#define ABSENT_PICK(name) \
	insn_fn *name(unused_arg const struct insn *i, unused_arg enum insn_mode mode) \
	{ \
		return insn_ud; \
	}
SOFT_FLOW_HANDLERS(ABSENT)
SOFT_SYSTEM_HANDLERS(ABSENT)
SOFT_FLOW_PICKERS(ABSENT_PICK)
