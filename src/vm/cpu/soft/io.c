/* SPDX-License-Identifier: Apache-2.0 */
/* Ports, and who may reach them. Spec: SDM 1, 19.5 (Protected-Mode I/O). */
#include "vm/cpu/soft/handlers.h"
#include "vm/cpu/soft/priv.h"

bool soft_io_allowed(struct soft_cpu *c, uint16_t port, unsigned bytes)
{
	unsigned type = c->s.tr.ar & CPU_AR_TYPE;
	uint32_t at = 0, bits = 0;

	if (!(c->s.cr0 & CPU_CR0_PE) ||
	    (c->cpl <= (c->s.rflags >> 12 & 3) && !(c->s.rflags & CPU_FLAG_VM))) {
		return true;
	}
	if ((type != 9 && type != 11) || c->s.tr.limit < 0x67) {
		return false;
	}
	at = (uint32_t)soft_load_system(c, c->s.tr.base + 0x66, 2) + port / 8;
	/* Two bytes are always read, so the byte after the last must be there. */
	if (at + 1 > c->s.tr.limit) {
		return false;
	}
	bits = (uint32_t)soft_load_system(c, c->s.tr.base + at, 2) >> (port & 7);
	return (bits & ((1u << bytes) - 1)) == 0;
}

static void in(struct soft_cpu *c, uint16_t port, unsigned bytes)
{
	const struct engine_bus *bus = &c->eng->eng.bus;
	uint32_t v = 0;

	if (!soft_io_allowed(c, port, bytes)) {
		soft_fault(c, CPU_GP, 0);
	}
	bus->pio_read(bus->ctx, port, &v, bytes);
	soft_reg_set(c, CPU_RAX, bytes, v);
}

static void out(struct soft_cpu *c, uint16_t port, unsigned bytes)
{
	const struct engine_bus *bus = &c->eng->eng.bus;
	uint32_t v = (uint32_t)c->s.gpr[CPU_RAX];

	if (!soft_io_allowed(c, port, bytes)) {
		soft_fault(c, CPU_GP, 0);
	}
	bus->pio_write(bus->ctx, port, &v, bytes);
}

void op_in_imm(struct soft_cpu *c, const struct insn *i)
{
	in(c, (uint8_t)i->imm, i->op_bytes);
}

void op_in_dx(struct soft_cpu *c, const struct insn *i)
{
	in(c, (uint16_t)c->s.gpr[CPU_RDX], i->op_bytes);
}

void op_out_imm(struct soft_cpu *c, const struct insn *i)
{
	out(c, (uint8_t)i->imm, i->op_bytes);
}

void op_out_dx(struct soft_cpu *c, const struct insn *i)
{
	out(c, (uint16_t)c->s.gpr[CPU_RDX], i->op_bytes);
}
