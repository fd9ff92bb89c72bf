/* SPDX-License-Identifier: Apache-2.0 */
/* CMPXCHG8B and CMPXCHG16B. */
#include "vm/cpu/soft/handlers.h"
#include "vm/cpu/soft/priv.h"

static void set_zf(struct soft_cpu *c, bool on)
{
	c->flags = (uint16_t)(on ? c->flags | 0x4000 : c->flags & ~0x4000);
}

static void cmpxchg_result(struct soft_cpu *c, unsigned half, bool same, const uint64_t old[2])
{
	if (!same) {
		soft_reg_set(c, CPU_RAX, half, old[0]);
		soft_reg_set(c, CPU_RDX, half, old[1]);
	}
	set_zf(c, same);
}

static void cmpxchg_apart(struct soft_cpu *c, uint64_t linear, unsigned half,
			  const uint64_t expect[2], const uint64_t want[2])
{
	uint64_t old[2] = { 0 };
	uint8_t bytes[16] = { 0 };

	soft_exclusive_begin(c);
	soft_load_bytes(c, linear, bytes, 2 * half);
	memcpy(&old[0], bytes, half);
	memcpy(&old[1], bytes + half, half);
	bool same = old[0] == expect[0] && old[1] == expect[1];

	/* It is written in any case. */
	memcpy(bytes, same ? &want[0] : &old[0], half);
	memcpy(bytes + half, same ? &want[1] : &old[1], half);
	soft_store_bytes(c, linear, bytes, 2 * half);
	soft_exclusive_end(c);
	cmpxchg_result(c, half, same, old);
}

void op_cmpxchg8b(struct soft_cpu *c, const struct insn *i)
{
	uint64_t linear = soft_linear(c, i->seg, soft_ea(c, i), 8, SOFT_WRITE);
	uint64_t expect = (uint32_t)c->s.gpr[CPU_RAX] | c->s.gpr[CPU_RDX] << 32;
	uint64_t want = (uint32_t)c->s.gpr[CPU_RBX] | c->s.gpr[CPU_RCX] << 32;
	uint64_t *host = soft_atomic(c, linear, 8);
	uint64_t e[2] = { (uint32_t)expect, expect >> 32 }, w[2] = { (uint32_t)want, want >> 32 };

	if (!host) {
		cmpxchg_apart(c, linear, 4, e, w);
		return;
	}
	bool same = false;

	__asm__ volatile("lock cmpxchgq %[want], %[mem]"
			 : [mem] "+m"(*host), "+a"(expect), "=@ccz"(same)
			 : [want] "r"(want)
			 : "memory");
	uint64_t old[2] = { (uint32_t)expect, expect >> 32 };

	cmpxchg_result(c, 4, same, old);
}

void op_cmpxchg16b(struct soft_cpu *c, const struct insn *i)
{
	uint64_t linear = soft_linear(c, i->seg, soft_ea(c, i), 16, SOFT_WRITE);
	uint64_t e[2] = { c->s.gpr[CPU_RAX], c->s.gpr[CPU_RDX] };
	uint64_t w[2] = { c->s.gpr[CPU_RBX], c->s.gpr[CPU_RCX] };

	if (linear & 15) {
		soft_fault(c, CPU_GP, 0);
	}
	uint8_t *host = soft_atomic(c, linear, 16);

	if (!host) {
		cmpxchg_apart(c, linear, 8, e, w);
		return;
	}
	uint64_t old[2] = { e[0], e[1] };
	bool same = false;

	__asm__ volatile("lock cmpxchg16b %[mem]"
			 : [mem] "+m"(*(uint8_t(*)[16])host), "+a"(old[0]), "+d"(old[1]),
			   "=@ccz"(same)
			 : "b"(w[0]), "c"(w[1])
			 : "memory");
	cmpxchg_result(c, 8, same, old);
}
