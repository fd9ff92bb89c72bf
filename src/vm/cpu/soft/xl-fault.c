/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Page faults of translated code, without the interpreter: fill.c, which walks the page tables for
 * a miss, has found that there is none to be had, and an instruction that does nothing but one
 * plain access can do nothing but fault. All others the interpreter runs, which finds out itself
 * which of their faults comes first.
 */
#include "vm/cpu/soft/priv.h"
#include "vm/cpu/soft/xl-stats.h"
#include "vm/cpu/soft/xl.h"

enum { ERROR_W = 2 };

/* One access to memory that is read, or written, and nothing that may fault before it. */
static bool reads(const struct insn *i)
{
	unsigned op = i->modrm >> 3 & 7;

	if (i->map == INSN_MAP_0F) {
		return (i->opcode & 0xf6) == 0xb6;                   /* movzx, movsx */
	}
	if (i->opcode < 0x40) {
		return (i->opcode & 6) == 2 || (i->opcode & 0xfe) == 0x38;   /* op reg, mem; cmp */
	}
	return i->opcode == 0x8a || i->opcode == 0x8b || i->opcode == 0x63 ||
	       (i->opcode & 0xfe) == 0x84 ||
	       (op == 7 && i->opcode >= 0x80 && i->opcode <= 0x83) ||
	       (op == 0 && (i->opcode & 0xfe) == 0xf6);
}

static bool writes(const struct insn *i)
{
	return i->map == INSN_MAP_1 &&
	       (i->opcode == 0x88 || i->opcode == 0x89 || (i->opcode & 0xfe) == 0xc6);
}

static bool plain(const struct insn *i, bool write)
{
	return i->rm == INSN_NONE && !(i->prefix & (INSN_VEX | INSN_LOCK)) &&
	       (i->map == INSN_MAP_1 || i->map == INSN_MAP_0F) && (write ? writes(i) : reads(i));
}

bool xl_fault(struct soft_cpu *c, const struct xl_out *o)
{
	const struct insn *i = &o->insn;
	uint32_t error = c->xl_pf & ~(uint32_t)XL_PF;

	c->xl_pf = 0;
	/* One that ends where no address is canonical, or outside of a segment, is another. */
	if (!plain(i, error & ERROR_W) || c->mode != INSN_MODE_64 ||
	    !soft_canonical(c->xl_miss_va + 7) || c->s.events.injected != CPU_EVENT_NONE) {
		return false;
	}
	xl_add(&c->counts->n[error & ERROR_W ? XC_WRITE_FAULT : XC_READ_FAULT], 1);
	c->s.rip = soft_rip_of(c, i);
	c->s.cr2 = c->xl_miss_va;
	c->fault_vector = CPU_PF;
	c->fault_has_error = true;
	c->fault_error = error;
	c->running = NULL;
	c->events++;
	if (c->eng->counted) {
		c->xl_left += o->rest + 1;
		c->count = c->xl_count_end - (uint64_t)c->xl_left;
	}
	if (soft_deliver_fault(c) < 0) {
		return false;   /* only while another one is delivered */
	}
	c->next_rip = c->s.rip;
	return true;
}
