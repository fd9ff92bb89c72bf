/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Saving and restoring x87, SSE and AVX state. The state itself is s.xsave, in the standard
 * format, whose parts are all in use, always: XSAVEOPT and XSAVEC save what is asked for.
 *
 * Spec: SDM 1, 13 (Managing State Using the XSAVE Feature Set) and 10.5; SDM 1, 8.1.10.
 */
#include "vm/cpu/soft/handlers.h"
#include "vm/cpu/soft/native.h"
#include "vm/cpu/soft/priv.h"

enum {
	FCW = 0, FSW = 2, FTW = 4, FOP = 6, FIP = 8, FDP = 16, MXCSR = 24, MXCSR_MASK = 28,
	ST = 32, XMM = 160, LEGACY_BYTES = 512, BV = 512, COMP = 520, HEADER_END = 576,
	YMM = 576, YMM_BYTES = 256,
	X87_HEAD = 24, X87_REGS = 128, FXSAVE_BYTES = 464,
};

#define COMPACT (UINT64_C(1) << 63)

static uint32_t get32(const uint8_t *p)
{
	uint32_t v = 0;

	memcpy(&v, p, 4);
	return v;
}

static uint64_t get64(const uint8_t *p)
{
	uint64_t v = 0;

	memcpy(&v, p, 8);
	return v;
}

static size_t xmm_bytes(const struct soft_cpu *c)
{
	return c->mode == INSN_MODE_64 ? 256 : 128;
}

static void need_fpu(struct soft_cpu *c, bool em)
{
	if ((em && (c->s.cr0 & CPU_CR0_EM)) || (c->s.cr0 & CPU_CR0_TS)) {
		soft_fault_no_error(c, CPU_NM);
	}
	native_fpu_save(c);
}

/* Of the control word one bit is always set, others never. */
static void load_x87(uint8_t *x, const uint8_t *image)
{
	memcpy(x, image, X87_HEAD);
	x[FCW] = (uint8_t)((x[FCW] & 0x7f) | 0x40);
	x[FCW + 1] &= 0x1f;
	/* The summary and busy bits follow from the exceptions and their masks. */
	x[FSW] &= 0x7f;
	x[FSW + 1] &= 0x7f;
	if (x[FSW] & ~x[FCW] & 0x3f) {
		x[FSW] |= 0x80;
		x[FSW + 1] |= 0x80;
	}
	memcpy(x + ST, image + ST, X87_REGS);
}

static void check_mxcsr(struct soft_cpu *c, uint32_t v)
{
	if (v & ~get32(c->s.xsave + MXCSR_MASK)) {
		soft_fault(c, CPU_GP, 0);
	}
}

/* --- FXSAVE, FXRSTOR --- */

void op_fxsave(struct soft_cpu *c, const struct insn *i)
{
	uint64_t linear = soft_linear(c, i->seg, soft_ea(c, i), LEGACY_BYTES, SOFT_WRITE);
	size_t n = XMM + xmm_bytes(c);

	need_fpu(c, true);
	if (linear & 15) {
		soft_fault(c, CPU_GP, 0);
	}
	soft_probe_write(c, linear, LEGACY_BYTES);
	soft_store_bytes(c, linear, c->s.xsave, n);
}

void op_fxrstor(struct soft_cpu *c, const struct insn *i)
{
	uint64_t linear = soft_linear(c, i->seg, soft_ea(c, i), LEGACY_BYTES, SOFT_READ);
	uint8_t image[LEGACY_BYTES];

	need_fpu(c, true);
	if (linear & 15) {
		soft_fault(c, CPU_GP, 0);
	}
	soft_load_bytes(c, linear, image, sizeof(image));
	check_mxcsr(c, get32(image + MXCSR));
	load_x87(c->s.xsave, image);
	memcpy(c->s.xsave + MXCSR, image + MXCSR, 4);
	memcpy(c->s.xsave + XMM, image + XMM, xmm_bytes(c));
}

/* --- XSAVE and its kin --- */

static uint64_t requested(struct soft_cpu *c)
{
	return ((uint32_t)c->s.gpr[CPU_RAX] | c->s.gpr[CPU_RDX] << 32) & c->s.xcr0;
}

static uint64_t area(struct soft_cpu *c, const struct insn *i, enum soft_access access)
{
	uint64_t linear = 0;

	if (!(c->s.cr4 & CPU_CR4_OSXSAVE)) {
		soft_fault_no_error(c, CPU_UD);
	}
	need_fpu(c, false);
	linear = soft_linear(c, i->seg, soft_ea(c, i), HEADER_END, access);
	if (linear & 63) {
		soft_fault(c, CPU_GP, 0);
	}
	return linear;
}

static void save_parts(struct soft_cpu *c, uint64_t linear, uint64_t parts, bool mxcsr)
{
	const uint8_t *x = c->s.xsave;

	soft_probe_write(c, linear, HEADER_END);
	if (parts & CPU_XCR0_AVX) {
		soft_probe_write(c, linear + YMM, xmm_bytes(c));
	}
	if (parts & CPU_XCR0_X87) {
		soft_store_bytes(c, linear, x, X87_HEAD);
		soft_store_bytes(c, linear + ST, x + ST, X87_REGS);
	}
	if (mxcsr) {
		soft_store_bytes(c, linear + MXCSR, x + MXCSR, 8);
	}
	if (parts & CPU_XCR0_SSE) {
		soft_store_bytes(c, linear + XMM, x + XMM, xmm_bytes(c));
	}
	if (parts & CPU_XCR0_AVX) {
		soft_store_bytes(c, linear + YMM, x + YMM, xmm_bytes(c));
	}
}

static void save_standard(struct soft_cpu *c, const struct insn *i)
{
	uint64_t parts = requested(c);
	uint64_t linear = area(c, i, SOFT_WRITE);
	uint64_t bv = 0;

	save_parts(c, linear, parts, (parts & (CPU_XCR0_SSE | CPU_XCR0_AVX)) != 0);
	bv = soft_load(c, linear + BV, 8);
	soft_store(c, linear + BV, 8, (bv & ~parts) | parts);
}

void op_xsave(struct soft_cpu *c, const struct insn *i)
{
	save_standard(c, i);
}

void op_xsaveopt(struct soft_cpu *c, const struct insn *i)
{
	save_standard(c, i);
}

/* The one extended part lies at the same place in both formats. */
void op_xsavec(struct soft_cpu *c, const struct insn *i)
{
	uint64_t parts = requested(c);
	uint64_t linear = area(c, i, SOFT_WRITE);

	save_parts(c, linear, parts, (parts & CPU_XCR0_SSE) != 0);
	soft_store(c, linear + BV, 8, parts);
	soft_store(c, linear + COMP, 8, parts | COMPACT);
}

/* The header's rules. Returns whether it is compact. */
static bool check_header(struct soft_cpu *c, const uint8_t *image)
{
	uint64_t bv = get64(image + BV), comp = get64(image + COMP);
	bool compact = (comp & COMPACT) != 0, bad = false;

	if (compact) {
		bad = (comp & ~COMPACT & ~c->s.xcr0) || (bv & ~comp);
	} else {
		bad = (bv & ~c->s.xcr0) || comp != 0 || get64(image + COMP + 8) != 0;
	}
	for (unsigned k = COMP + 8; compact && k < HEADER_END; k += 8) {
		bad = bad || get64(image + k) != 0;
	}
	if (bad) {
		soft_fault(c, CPU_GP, 0);
	}
	return compact;
}

static void init_control(uint8_t *x)
{
	uint16_t fcw = 0x37f;

	memset(x, 0, X87_HEAD);
	memcpy(x + FCW, &fcw, 2);
}

static void init_x87(uint8_t *x)
{
	init_control(x);
	memset(x + ST, 0, X87_REGS);
}

static void restore_sse(struct soft_cpu *c, const uint8_t *image, uint64_t bv, uint64_t parts,
			bool compact)
{
	uint8_t *x = c->s.xsave;
	uint32_t mxcsr = 0x1f80;

	if (compact ? (bv & parts & CPU_XCR0_SSE) != 0 :
		      (parts & (CPU_XCR0_SSE | CPU_XCR0_AVX)) != 0) {
		mxcsr = get32(image + MXCSR);
	}
	if (parts & (compact ? CPU_XCR0_SSE : CPU_XCR0_SSE | CPU_XCR0_AVX)) {
		memcpy(x + MXCSR, &mxcsr, 4);
	}
	if (!(parts & CPU_XCR0_SSE)) {
		return;
	}
	if (bv & CPU_XCR0_SSE) {
		memcpy(x + XMM, image + XMM, xmm_bytes(c));
	} else {
		memset(x + XMM, 0, xmm_bytes(c));
	}
}

void op_xrstor(struct soft_cpu *c, const struct insn *i)
{
	uint64_t parts = requested(c), bv = 0;
	uint64_t linear = area(c, i, SOFT_READ);
	uint8_t image[CPU_XSAVE_BYTES] = { 0 }, *x = c->s.xsave;
	bool compact = false;

	soft_load_bytes(c, linear, image, HEADER_END);
	compact = check_header(c, image);
	bv = get64(image + BV);
	if (parts & bv & CPU_XCR0_AVX) {
		soft_load_bytes(c, linear + YMM, image + YMM, xmm_bytes(c));
	}
	if (compact ? (parts & bv & CPU_XCR0_SSE) : (parts & (CPU_XCR0_SSE | CPU_XCR0_AVX))) {
		check_mxcsr(c, get32(image + MXCSR));
	}
	if (parts & CPU_XCR0_X87) {
		if (bv & CPU_XCR0_X87) {
			load_x87(x, image);
		} else {
			init_x87(x);
		}
	}
	restore_sse(c, image, bv, parts, compact);
	if (parts & CPU_XCR0_AVX) {
		if (bv & CPU_XCR0_AVX) {
			memcpy(x + YMM, image + YMM, xmm_bytes(c));
		} else {
			memset(x + YMM, 0, xmm_bytes(c));
		}
	}
}

/* --- The x87 environment --- */

static uint16_t get16(const uint8_t *p)
{
	uint16_t v = 0;

	memcpy(&v, p, 2);
	return v;
}

static void put16(uint8_t *p, uint32_t v)
{
	uint16_t w = (uint16_t)v;

	memcpy(p, &w, 2);
}

static void put32(uint8_t *p, uint32_t v)
{
	memcpy(p, &v, 4);
}

/* Two bits a register from one: valid, zero, special, empty. */
static uint16_t full_tags(const uint8_t *x)
{
	unsigned top = get16(x + FSW) >> 11 & 7, tags = 0;

	for (unsigned phys = 0; phys < 8; phys++) {
		const uint8_t *r = x + ST + 16 * ((phys - top) & 7);
		unsigned exp = get16(r + 8) & 0x7fff;
		uint64_t frac = get64(r);
		unsigned tag = 0;

		if (!(x[FTW] >> phys & 1)) {
			tag = 3;
		} else if (exp == 0 && frac == 0) {
			tag = 1;
		} else if (exp == 0 || exp == 0x7fff || !(frac >> 63)) {
			tag = 2;
		}
		tags |= tag << (2 * phys);
	}
	return (uint16_t)tags;
}

static bool real_format(const struct soft_cpu *c)
{
	return !soft_protected(c);
}

static unsigned env_bytes(const struct insn *i)
{
	return i->op_bytes == 2 ? 14 : 28;
}

static void env_format(const struct soft_cpu *c, const struct insn *i, uint8_t *env)
{
	const uint8_t *x = c->s.xsave;
	uint32_t fip = get32(x + FIP), fdp = get32(x + FDP), fop = get16(x + FOP) & 0x7ff;
	uint32_t fcs = c->mode == INSN_MODE_64 ? 0 : get16(x + FIP + 4);
	uint32_t fds = c->mode == INSN_MODE_64 ? 0 : get16(x + FDP + 4);

	memset(env, 0xff, 28);
	if (i->op_bytes == 2) {
		put16(env, get16(x + FCW));
		put16(env + 2, get16(x + FSW));
		put16(env + 4, full_tags(x));
		put16(env + 6, fip);
		put16(env + 8, real_format(c) ? (fip >> 4 & 0xf000) | fop : fcs);
		put16(env + 10, fdp);
		put16(env + 12, real_format(c) ? fdp >> 4 & 0xf000 : fds);
		return;
	}
	put16(env, get16(x + FCW));
	put16(env + 4, get16(x + FSW));
	put16(env + 8, full_tags(x));
	if (real_format(c)) {
		put32(env + 12, (fip & 0xffff) | UINT32_C(0xffff0000));
		put32(env + 16, (fip >> 4 & 0xffff000) | fop);
		put32(env + 20, (fdp & 0xffff) | UINT32_C(0xffff0000));
		put32(env + 24, fdp >> 4 & 0xffff000);
		return;
	}
	put32(env + 12, fip);
	put32(env + 16, fcs | fop << 16);
	put32(env + 20, fdp);
	put16(env + 24, fds);
}

static void env_load(struct soft_cpu *c, const struct insn *i, const uint8_t *env)
{
	uint8_t *x = c->s.xsave;
	unsigned step = i->op_bytes == 2 ? 2 : 4;
	uint32_t tags = get16(env + 2 * step);
	uint64_t fip = 0, fdp = 0;

	put16(x + FCW, (get16(env) & 0x1f7f) | 0x40);
	put16(x + FSW, get16(env + step));
	x[FTW] = 0;
	for (unsigned phys = 0; phys < 8; phys++) {
		if ((tags >> (2 * phys) & 3) != 3) {
			x[FTW] = (uint8_t)(x[FTW] | 1u << phys);
		}
	}
	if (step == 2) {
		fip = get16(env + 6);
		fdp = get16(env + 10);
		put16(x + FOP, real_format(c) ? get16(env + 8) & 0x7ff : 0);
	} else {
		fip = get32(env + 12);
		fdp = get32(env + 20);
		put16(x + FOP, real_format(c) ? get16(env + 16) & 0x7ff : get16(env + 18) & 0x7ff);
	}
	memcpy(x + FIP, &fip, 8);
	memcpy(x + FDP, &fdp, 8);
	/* The summary and busy bits follow from the exceptions and their masks. */
	uint16_t fsw = get16(x + FSW);
	bool pending = (fsw & ~get16(x + FCW) & 0x3f) != 0;

	put16(x + FSW, (fsw & 0x7f7fu) | (pending ? 0x8080u : 0));
}

static void need_x87(struct soft_cpu *c, bool waits)
{
	if (c->s.cr0 & (CPU_CR0_EM | CPU_CR0_TS)) {
		soft_fault_no_error(c, CPU_NM);
	}
	native_fpu_save(c);
	if (waits && (get16(c->s.xsave + FSW) & 0x80) && (c->s.cr0 & CPU_CR0_NE)) {
		soft_fault_no_error(c, CPU_MF);
	}
}

/* Registers stand in the order of the stack: it changes with its top, what they hold does not. */
void soft_x87_turn(struct soft_cpu *c, unsigned old_top)
{
	uint8_t *st = c->s.xsave + ST, was[X87_REGS];
	unsigned top = soft_x87_top(c);

	memcpy(was, st, sizeof(was));
	for (unsigned k = 0; k < 8; k++) {
		memcpy(st + 16 * k, was + 16 * ((k + top - old_top) & 7), 16);
	}
}

void op_fnstenv(struct soft_cpu *c, const struct insn *i)
{
	unsigned n = env_bytes(i);
	uint8_t env[28];

	need_x87(c, false);
	uint64_t linear = soft_linear(c, i->seg, soft_ea(c, i), n, SOFT_WRITE);

	env_format(c, i, env);
	soft_store_bytes(c, linear, env, n);
	/* All exceptions masked from here on. */
	put16(c->s.xsave + FCW, get16(c->s.xsave + FCW) | 0x3fu);
	put16(c->s.xsave + FSW, get16(c->s.xsave + FSW) & 0x7f7fu);
}

void op_fldenv(struct soft_cpu *c, const struct insn *i)
{
	unsigned n = env_bytes(i);
	uint8_t env[28] = { 0 };

	need_x87(c, true);
	soft_load_bytes(c, soft_linear(c, i->seg, soft_ea(c, i), n, SOFT_READ), env, n);
	unsigned top = soft_x87_top(c);

	env_load(c, i, env);
	soft_x87_turn(c, top);
}

void op_fnsave(struct soft_cpu *c, const struct insn *i)
{
	unsigned n = env_bytes(i);
	uint8_t image[28 + 80];

	need_x87(c, false);
	uint64_t linear = soft_linear(c, i->seg, soft_ea(c, i), n + 80, SOFT_WRITE);

	env_format(c, i, image);
	for (unsigned k = 0; k < 8; k++) {
		memcpy(image + n + 10 * k, c->s.xsave + ST + 16 * k, 10);
	}
	soft_store_bytes(c, linear, image, n + 80);
	unsigned top = soft_x87_top(c);

	/* As FNINIT: what the registers hold stays. */
	init_control(c->s.xsave);
	soft_x87_turn(c, top);
}

void op_frstor(struct soft_cpu *c, const struct insn *i)
{
	unsigned n = env_bytes(i);
	uint8_t image[28 + 80] = { 0 };

	need_x87(c, true);
	soft_load_bytes(c, soft_linear(c, i->seg, soft_ea(c, i), n + 80, SOFT_READ), image, n + 80);
	env_load(c, i, image);
	for (unsigned k = 0; k < 8; k++) {
		memset(c->s.xsave + ST + 16 * k, 0, 16);
		memcpy(c->s.xsave + ST + 16 * k, image + n + 10 * k, 10);
	}
}
