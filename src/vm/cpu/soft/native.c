/* SPDX-License-Identifier: Apache-2.0 */
#include "vm/cpu/soft/int-ops.h"
#include "vm/cpu/soft/native.h"

/* Offsets in s.xsave: SDM 1, 10.5.1 and 13.4 */
enum {
	X_FSW = 2, X_FOP = 6, X_FIP = 8, X_FDP = 16, X_MXCSR = 24, X_MXCSR_MASK = 28, X_ST = 32,
	X_XMM = 160, X_BV = 512, X_YMM = 576,
	X87_HEAD = 24, X87_REGS = 128, FSW_ES = 0x80,
};

static uint8_t *xmm_of(struct soft_cpu *c, unsigned n)
{
	return c->s.xsave + X_XMM + 16 * n;
}

static uint8_t *ymm_of(struct soft_cpu *c, unsigned n)
{
	return c->s.xsave + X_YMM + 16 * n;
}

/* --- What must be switched on --- */

static inline void need_not_ts(struct soft_cpu *c)
{
	if (__builtin_expect(c->s.cr0 & CPU_CR0_TS, 0)) {
		soft_fault_no_error(c, CPU_NM);
	}
}

void native_need_sse(struct soft_cpu *c)
{
	if (__builtin_expect((c->s.cr0 & CPU_CR0_EM) || !(c->s.cr4 & CPU_CR4_OSFXSR), 0)) {
		soft_fault_no_error(c, CPU_UD);
	}
	need_not_ts(c);
}

static inline void need_vex(struct soft_cpu *c)
{
	if (__builtin_expect(!(c->s.cr0 & CPU_CR0_PE) || (c->s.rflags & CPU_FLAG_VM), 0)) {
		soft_fault_no_error(c, CPU_UD);
	}
}

void native_need_avx(struct soft_cpu *c)
{
	const uint64_t parts = CPU_XCR0_SSE | CPU_XCR0_AVX;

	need_vex(c);
	if (__builtin_expect(!(c->s.cr4 & CPU_CR4_OSXSAVE) || (c->s.xcr0 & parts) != parts, 0)) {
		soft_fault_no_error(c, CPU_UD);
	}
	need_not_ts(c);
}

static inline void need_unit(struct soft_cpu *c, const struct native_stub *s)
{
	if (__builtin_expect(!(c->features & BIT(s->feature)), 0)) {
		soft_fault_no_error(c, CPU_UD);
	}
	switch ((enum native_unit)s->unit) {
	case NATIVE_INT:
		if (s->vex) {
			need_vex(c);
		}
		break;
	case NATIVE_X87:
		if (c->s.cr0 & (CPU_CR0_EM | CPU_CR0_TS)) {
			soft_fault_no_error(c, CPU_NM);
		}
		break;
	case NATIVE_MMX:
		if (c->s.cr0 & CPU_CR0_EM) {
			soft_fault_no_error(c, CPU_UD);
		}
		need_not_ts(c);
		break;
	case NATIVE_SSE:
		native_need_sse(c);
		break;
	case NATIVE_AVX:
		native_need_avx(c);
		break;
	}
}

/* --- x87 state, in the host's registers and out of them --- */

/* The legacy area and header of XSAVE, with x87 alone in it. */
struct x87_image {
	_Alignas(64) uint8_t bytes[576];
};

static void fpu_load(struct soft_cpu *c)
{
	struct x87_image image = { .bytes = { [X_BV] = CPU_XCR0_X87 } };

	memcpy(image.bytes, c->s.xsave, X87_HEAD);
	memcpy(image.bytes + X_ST, c->s.xsave + X_ST, X87_REGS);
	memcpy(&c->fpu_op, c->s.xsave + X_FOP, 2);
	memcpy(&c->fpu_ip, c->s.xsave + X_FIP, 8);
	memcpy(&c->fpu_dp, c->s.xsave + X_FDP, 8);
	__asm__ volatile("xrstor64 %0" : : "m"(image), "a"(CPU_XCR0_X87), "d"(0) : "memory");
	c->fpu_live = true;
}

void native_fpu_save(struct soft_cpu *c)
{
	struct x87_image image = { .bytes = { 0 } };
	uint64_t ip = 0;

	if (!c->fpu_live) {
		return;
	}
	/* The pointers that the host has are into our code, or still those of a load. It may have
	 * none: AMD, while no exception waits. */
	__asm__ volatile("xsave64 %0\n\tfninit" : "+m"(image)
			 : "a"(CPU_XCR0_X87), "d"(0) : "memory");
	memcpy(c->s.xsave, image.bytes, X87_HEAD);
	memcpy(&ip, image.bytes + X_FIP, 8);
	if (ip) {
		memcpy(c->s.xsave + X_FIP, &c->fpu_ip, 8);
		memcpy(c->s.xsave + X_FDP, &c->fpu_dp, 8);
		if (c->s.xsave[X_FOP] || c->s.xsave[X_FOP + 1]) {
			memcpy(c->s.xsave + X_FOP, &c->fpu_op, 2);   /* some hosts have none */
		}
	}
	memcpy(c->s.xsave + X_ST, image.bytes + X_ST, X87_REGS);
	c->s.xsave[X_BV] |= CPU_XCR0_X87;
	c->fpu_live = false;
}

static inline void wait_x87(struct soft_cpu *c)
{
	uint16_t status = 0;

	__asm__ volatile("fnstsw %0" : "=a"(status));
	if (__builtin_expect(status & FSW_ES, 0)) {
		soft_fault_no_error(c, CPU_MF);
	}
}

SOFT_FN(fwait)
{
	const uint64_t both = CPU_CR0_MP | CPU_CR0_TS;

	if ((c->s.cr0 & both) == both) {
		soft_fault_no_error(c, CPU_NM);
	}
	if (!c->fpu_live) {
		fpu_load(c);
	}
	wait_x87(c);
}

/* --- Running a stub --- */

static inline uint64_t flags_to_host(const struct soft_cpu *c)
{
	return ((unsigned)c->flags >> 8 & SOFT_ARITH) | ((unsigned)c->flags & 1) << 11 | CPU_FLAG_1;
}

static inline uint16_t flags_from_host(uint64_t v)
{
	return (uint16_t)((v & SOFT_ARITH) << 8 | (v >> 11 & 1));
}

static inline void load_vector(struct soft_cpu *c, uint8_t *to, unsigned n, bool wide)
{
	memcpy(to, xmm_of(c, n), 16);
	if (wide) {
		memcpy(to + 16, ymm_of(c, n), 16);
	}
}

static inline void store_vector(struct soft_cpu *c, const uint8_t *from, unsigned n, bool wide)
{
	memcpy(xmm_of(c, n), from, 16);
	if (wide) {
		memcpy(ymm_of(c, n), from + 16, 16);
	}
}

static inline void load_registers(struct soft_cpu *c, const struct insn *i,
				  const struct native_stub *s, struct native_ctx *x)
{
	bool wide = s->vex;

	if (s->in & NATIVE_X_REG) {
		load_vector(c, x->x_reg, i->reg, wide);
	}
	if (s->in & NATIVE_X_RM) {
		load_vector(c, x->x_rm, i->rm, wide);
	}
	if (s->in & NATIVE_X_VVVV) {
		load_vector(c, x->x_vvvv, i->vvvv, wide);
	}
	if (s->in & NATIVE_X_IS4) {
		load_vector(c, x->x_is4, i->is4, wide);
	}
	if (s->in & NATIVE_X_0) {
		load_vector(c, x->x_0, 0, wide);
	}
	if (s->in & NATIVE_G_REG) {
		x->g_reg = c->s.gpr[i->reg];
	}
	if (s->in & NATIVE_G_RM) {
		x->g_rm = s->rm8 ? GET_1(c, i, i->rm) : c->s.gpr[i->rm];
	}
	if (s->in & NATIVE_G_VVVV) {
		x->g_vvvv = c->s.gpr[i->vvvv];
	}
	if (s->in & (NATIVE_RAX | NATIVE_RCX | NATIVE_RDX)) {
		x->rax = c->s.gpr[CPU_RAX];
		x->rcx = c->s.gpr[CPU_RCX];
		x->rdx = c->s.gpr[CPU_RDX];
	}
	if (s->in & NATIVE_FLAGS) {
		x->flags = flags_to_host(c);
	}
	if (s->in & NATIVE_MXCSR) {
		memcpy(&x->mxcsr, c->s.xsave + X_MXCSR, 4);
		x->host_mxcsr = __builtin_ia32_stmxcsr();
	}
}

static inline void store_registers(struct soft_cpu *c, const struct insn *i,
				   const struct native_stub *s, const struct native_ctx *x)
{
	bool wide = s->vex;

	/* MULX with both destinations the same: the high half, its first operand, stays. */
	if (s->out & NATIVE_G_VVVV) {
		c->s.gpr[i->vvvv] = x->g_vvvv;
	}
	if (s->out & NATIVE_X_REG) {
		store_vector(c, x->x_reg, i->reg, wide);
	}
	if (s->out & NATIVE_X_RM) {
		store_vector(c, x->x_rm, i->rm, wide);
	}
	if (s->out & NATIVE_X_VVVV) {
		store_vector(c, x->x_vvvv, i->vvvv, wide);
	}
	if (s->out & NATIVE_X_0) {
		store_vector(c, x->x_0, 0, wide);
	}
	if (s->out & NATIVE_G_REG) {
		c->s.gpr[i->reg] = x->g_reg;
	}
	if (s->out & NATIVE_G_RM) {
		c->s.gpr[i->rm] = x->g_rm;
	}
	if (s->out & NATIVE_RAX) {
		c->s.gpr[CPU_RAX] = x->rax;
	}
	if (s->out & NATIVE_RCX) {
		c->s.gpr[CPU_RCX] = x->rcx;
	}
	if (s->out & NATIVE_RDX) {
		c->s.gpr[CPU_RDX] = x->rdx;
	}
	if (s->out & NATIVE_FLAGS) {
		c->flags = flags_from_host(x->flags);
	}
	if (s->in & NATIVE_MXCSR) {
		memcpy(c->s.xsave + X_MXCSR, &x->mxcsr, 4);
	}
}

static noreturn_fn void simd_fault(struct soft_cpu *c, const struct native_ctx *x)
{
	if (x->fault == CPU_MF) {
		soft_fault_no_error(c, CPU_MF);
	}
	memcpy(c->s.xsave + X_MXCSR, &x->mxcsr, 4);
	soft_fault_no_error(c, c->s.cr4 & CPU_CR4_OSXMMEXCPT ? CPU_XM : CPU_UD);
}

static uint64_t operand(struct soft_cpu *c, const struct insn *i, const struct native_stub *s,
			struct native_ctx *x)
{
	bool store = s->out & NATIVE_MEM;
	uint64_t at = int_linear(c, i, s->mem_bytes, store ? SOFT_WRITE : SOFT_READ);

	if (__builtin_expect(at & (s->align - 1u), 0)) {
		soft_fault(c, CPU_GP, 0);
	}
	if (store && (s->x87 || s->in & NATIVE_MXCSR)) {
		/* The fault goes before what the instruction changes: x87 pops, MMX is entered,
		 * exceptions show in MXCSR. An x87 one that is unmasked may store nothing. */
		soft_probe_write(c, at, s->mem_bytes);
		store = false;
	}
	if (!store) {
		if (s->mem_bytes <= 8 && s->mem_bytes != 10) {
			uint64_t v = soft_load(c, at, s->mem_bytes);

			memcpy(x->mem, &v, 8);
		} else {
			soft_load_bytes(c, at, x->mem, s->mem_bytes);
		}
	}
	return at;
}

/* Not inlined, as the address of x would forbid the jump of soft_next(). */
static __attribute__((noinline)) void run_stub(struct soft_cpu *c, const struct insn *i)
{
	const struct native_stub *s = i->stub;
	struct native_ctx x __attribute__((uninitialized));
	uint64_t at = 0;

	need_unit(c, s);
	if (s->mem_bytes) {
		at = operand(c, i, s, &x);
	}
	x.fault = 0;
	load_registers(c, i, s, &x);
	s->code(&x);
	if (__builtin_expect(x.fault, 0)) {
		simd_fault(c, &x);
	}
	if (s->out & NATIVE_MEM) {
		soft_store_bytes(c, at, x.mem, s->mem_bytes);
	}
	store_registers(c, i, s, &x);
	if (s->unit == NATIVE_AVX) {
		c->s.xsave[X_BV] |= CPU_XCR0_AVX;
	}
}

/* The same where x87 or MMX registers take part. */
static __attribute__((noinline)) void run_stub_x87(struct soft_cpu *c, const struct insn *i)
{
	const struct native_stub *s = i->stub;
	struct native_ctx x __attribute__((uninitialized));
	uint64_t at = 0;

	need_unit(c, s);
	if (!c->fpu_live) {
		fpu_load(c);
	}
	if (s->waits) {
		wait_x87(c);
	}
	if (s->mem_bytes) {
		at = operand(c, i, s, &x);
	}
	x.fault = 0;
	load_registers(c, i, s, &x);
	s->code(&x);
	if (__builtin_expect(x.fault, 0)) {
		simd_fault(c, &x);
	}
	if (s->out & NATIVE_MEM) {
		soft_store_bytes(c, at, x.mem, s->mem_bytes);
	}
	store_registers(c, i, s, &x);
	if (!s->control) {
		c->fpu_ip = soft_rip_of(c, i);
		c->fpu_op = (uint16_t)((i->opcode & 7) << 8 | i->modrm);
		if (s->mem_bytes) {
			c->fpu_dp = int_ea(c, i);
		}
	}
}

SOFT_FN(native)
{
	run_stub(c, i);
}

SOFT_FN(native_x87)
{
	run_stub_x87(c, i);
}

void native_bind(struct insn *i, enum insn_mode mode)
{
	const struct native_stub *s = NULL;

	if (i->map == INSN_MAP_1 && i->opcode == 0x9b) {
		i->fn = fwait;
		return;
	}
	i->fn = native__fast(i, mode);
	if (i->fn) {
		return;
	}
	s = native__stub(i, mode);
	if (!s) {
		i->fn = insn_ud;
		return;
	}
	i->stub = s;
	i->fn = s->x87 ? native_x87 : native;
}

/* --- Those that are about the state itself --- */

static void need_sse_or_avx(struct soft_cpu *c, const struct insn *i)
{
	if (i->prefix & INSN_VEX) {
		native_need_avx(c);
	} else {
		native_need_sse(c);
	}
}

void op_ldmxcsr(struct soft_cpu *c, const struct insn *i)
{
	uint32_t v = 0, mask = 0;

	need_sse_or_avx(c, i);
	v = LOAD(4, c, i);
	memcpy(&mask, c->s.xsave + X_MXCSR_MASK, 4);
	if (v & ~mask) {
		soft_fault(c, CPU_GP, 0);
	}
	memcpy(c->s.xsave + X_MXCSR, &v, 4);
}

void op_stmxcsr(struct soft_cpu *c, const struct insn *i)
{
	uint32_t v = 0;

	need_sse_or_avx(c, i);
	memcpy(&v, c->s.xsave + X_MXCSR, 4);
	STORE(4, c, i, v);
}

void op_vzeroupper(struct soft_cpu *c, unused_arg const struct insn *i)
{
	native_need_avx(c);
	memset(ymm_of(c, 0), 0, c->mode == INSN_MODE_64 ? 256 : 128);
}

void op_vzeroall(struct soft_cpu *c, const struct insn *i)
{
	op_vzeroupper(c, i);
	memset(xmm_of(c, 0), 0, c->mode == INSN_MODE_64 ? 256 : 128);
}
