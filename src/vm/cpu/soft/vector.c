/* SPDX-License-Identifier: Apache-2.0 */
/* Vector instructions whose elements are reached one by one: masked moves and gathers. */
#include "vm/cpu/soft/handlers.h"
#include "vm/cpu/soft/native.h"
#include "vm/cpu/soft/priv.h"

enum { XMM = 160, YMM = 576, ST = 32, FTW = 4, FSW = 2 };

static void need_avx(struct soft_cpu *c)
{
	if (!(c->s.cr4 & CPU_CR4_OSXSAVE) ||
	    (c->s.xcr0 & (CPU_XCR0_SSE | CPU_XCR0_AVX)) != (CPU_XCR0_SSE | CPU_XCR0_AVX) ||
	    !soft_protected(c)) {
		soft_fault_no_error(c, CPU_UD);
	}
	if (c->s.cr0 & CPU_CR0_TS) {
		soft_fault_no_error(c, CPU_NM);
	}
}

static void need_sse(struct soft_cpu *c)
{
	if ((c->s.cr0 & CPU_CR0_EM) || !(c->s.cr4 & CPU_CR4_OSFXSR)) {
		soft_fault_no_error(c, CPU_UD);
	}
	if (c->s.cr0 & CPU_CR0_TS) {
		soft_fault_no_error(c, CPU_NM);
	}
}

static void vector_get(const struct soft_cpu *c, unsigned reg, uint8_t ret[32])
{
	memcpy(ret, c->s.xsave + XMM + 16 * reg, 16);
	memcpy(ret + 16, c->s.xsave + YMM + 16 * reg, 16);
}

/* The upper half goes to zero with a 16-byte result, as VEX has it. */
static void vector_set(struct soft_cpu *c, unsigned reg, const uint8_t v[32], unsigned bytes)
{
	memcpy(c->s.xsave + XMM + 16 * reg, v, 16);
	if (bytes == 32) {
		memcpy(c->s.xsave + YMM + 16 * reg, v + 16, 16);
	} else {
		memset(c->s.xsave + YMM + 16 * reg, 0, 16);
	}
}

/* --- MASKMOVQ, MASKMOVDQU: bytes chosen by a mask, to DS:rDI --- */

static void mask_bytes(struct soft_cpu *c, const struct insn *i, const uint8_t *data,
		       const uint8_t *mask, unsigned n)
{
	uint64_t ea = soft_cut(c->s.gpr[CPU_RDI], i->ad_bytes);
	bool any = false;

	/* All that will be written must be writable before the first is. */
	for (unsigned k = 0; k < n; k++) {
		if (mask[k] & 0x80) {
			uint64_t at = soft_cut(ea + k, i->ad_bytes);

			soft_probe_write(c, soft_linear(c, i->seg, at, 1, SOFT_WRITE), 1);
			any = true;
		}
	}
	for (unsigned k = 0; any && k < n; k++) {
		if (mask[k] & 0x80) {
			uint64_t at = soft_cut(ea + k, i->ad_bytes);

			soft_store(c, soft_linear(c, i->seg, at, 1, SOFT_WRITE), 1, data[k]);
		}
	}
}

void op_maskmovdqu(struct soft_cpu *c, const struct insn *i)
{
	uint8_t data[32], mask[32];

	if (i->prefix & INSN_VEX) {
		need_avx(c);
	} else {
		need_sse(c);
	}
	vector_get(c, i->reg, data);
	vector_get(c, i->rm, mask);
	mask_bytes(c, i, data, mask, 16);
}

void op_maskmovq(struct soft_cpu *c, const struct insn *i)
{
	uint8_t *x = c->s.xsave;
	uint8_t data[8], mask[8];

	if (c->s.cr0 & CPU_CR0_EM) {
		soft_fault_no_error(c, CPU_UD);
	}
	if (c->s.cr0 & CPU_CR0_TS) {
		soft_fault_no_error(c, CPU_NM);
	}
	native_fpu_save(c);
	if (x[FSW] & 0x80) {
		soft_fault_no_error(c, CPU_MF);
	}
	/* MMX registers are the physical ones; those in memory stand by the top of the stack. */
	unsigned top = soft_x87_top(c);

	memcpy(data, x + ST + 16 * ((i->reg - top) & 7u), 8);
	memcpy(mask, x + ST + 16 * ((i->rm - top) & 7u), 8);
	mask_bytes(c, i, data, mask, 8);
	x[FSW + 1] &= 0xc7;
	x[FTW] = 0xff;
	soft_x87_turn(c, top);
}

/* --- VMASKMOVPS, VMASKMOVPD, VPMASKMOVD, VPMASKMOVQ --- */

void op_vmaskmov(struct soft_cpu *c, const struct insn *i)
{
	bool wide = i->opcode == 0x2d || i->opcode == 0x2f ||
		    ((i->opcode == 0x8c || i->opcode == 0x8e) && (i->prefix & INSN_W));
	bool store = i->opcode == 0x2e || i->opcode == 0x2f || i->opcode == 0x8e;
	unsigned n = i->prefix & INSN_VEX_L ? 32 : 16, step = wide ? 8 : 4;
	uint8_t mask[32], v[32] = { 0 };
	uint64_t ea = soft_ea(c, i);

	need_avx(c);
	vector_get(c, i->vvvv, mask);
	if (store) {
		vector_get(c, i->reg, v);
	}
	for (unsigned pass = store ? 0 : 1; pass < 2; pass++) {
		for (unsigned k = 0; k < n; k += step) {
			uint64_t at = soft_cut(ea + k, i->ad_bytes), w = 0;

			if (!(mask[k + step - 1] & 0x80)) {
				continue;
			}
			at = soft_linear(c, i->seg, at, step, store ? SOFT_WRITE : SOFT_READ);
			if (!store) {
				w = soft_load(c, at, step);
				memcpy(v + k, &w, step);
			} else if (pass == 0) {
				soft_probe_write(c, at, step);
			} else {
				memcpy(&w, v + k, step);
				soft_store(c, at, step, w);
			}
		}
	}
	if (!store) {
		vector_set(c, i->reg, v, n);
	}
}

/* --- Gathers: element by element; what was done before a fault stays done --- */

static void vector_put(struct soft_cpu *c, unsigned reg, unsigned off, const void *data, unsigned n)
{
	uint8_t *p = off < 16 ? c->s.xsave + XMM + 16 * reg + off
			      : c->s.xsave + YMM + 16 * reg + off - 16;

	memcpy(p, data, n);
}

/* Alignment is not checked here. */
static uint64_t element(struct soft_cpu *c, uint64_t linear, unsigned bytes)
{
	uint64_t v = 0;

	if (!c->check_access) {
		return soft_load(c, linear, bytes);
	}
	for (unsigned k = 0; k < bytes; k++) {
		v |= soft_load(c, linear + k, 1) << (8 * k);
	}
	return v;
}

void op_vgather(struct soft_cpu *c, const struct insn *i)
{
	/* 90 and 92: 32-bit indices, 91 and 93: 64-bit ones. */
	bool wide_index = i->opcode & 1, wide = (i->prefix & INSN_W) != 0;
	unsigned step = wide ? 8 : 4, istep = wide_index ? 8 : 4;
	unsigned bytes = i->prefix & INSN_VEX_L ? 32 : 16;
	unsigned n = bytes / (step > istep ? step : istep);
	uint8_t index[32], mask[32];
	static const uint8_t zero[32] = { 0 };

	need_avx(c);
	if (i->reg == i->index || i->reg == i->vvvv || i->index == i->vvvv) {
		soft_fault_no_error(c, CPU_UD);
	}
	vector_get(c, i->index, index);
	vector_get(c, i->vvvv, mask);
	for (unsigned k = 0; k < n; k++) {
		int64_t off = 0;
		uint64_t base = i->base == INSN_NONE ? 0 : c->s.gpr[i->base], v = 0;

		if (!(mask[step * k + step - 1] & 0x80)) {
			continue;
		}
		if (wide_index) {
			memcpy(&off, index + 8 * k, 8);
		} else {
			int32_t o32 = 0;

			memcpy(&o32, index + 4 * k, 4);
			off = o32;
		}
		uint64_t ea = soft_cut(base + ((uint64_t)off << i->scale) +
				       (uint64_t)(int64_t)i->disp, i->ad_bytes);

		v = element(c, soft_linear(c, i->seg, ea, step, SOFT_READ), step);
		vector_put(c, i->reg, step * k, &v, step);
		vector_put(c, i->vvvv, step * k, zero, step);
	}
	/* The mask is cleared whole, and what lies above the result. */
	vector_set(c, i->vvvv, zero, bytes);
	uint8_t result[32];

	vector_get(c, i->reg, result);
	memset(result + step * n, 0, 32 - step * n);
	vector_set(c, i->reg, result, bytes);
}
