/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The commonest vector instructions by hand: moves between registers and memory, which no stub
 * is needed for. Semantics are those of the stubs; pick_native_fast() says which rows.
 */
#include "vm/cpu/soft/int-ops.h"
#include "vm/cpu/soft/native.h"

enum { X_XMM = 160, X_BV = 512, X_YMM = 576 };

typedef uint64_t v2 __attribute__((vector_size(16), aligned(16), may_alias));

static inline v2 *xmm(struct soft_cpu *c, unsigned n)
{
	return (v2 *)(void *)(c->s.xsave + X_XMM + 16 * n);
}

static inline v2 *ymm(struct soft_cpu *c, unsigned n)
{
	return (v2 *)(void *)(c->s.xsave + X_YMM + 16 * n);
}

/* Host address of an operand inside one page that is in the TLB; NULL: the long way. */
static inline void *quick(struct soft_cpu *c, uint64_t linear, unsigned bytes, bool write)
{
	const struct soft_tlb_entry *e = soft__tlb(c, linear);

	if (linear - (write ? e->tag_write : e->tag_read) <= GMEM_PAGE_BYTES - bytes) {
		return (void *)soft_tlb_host(e, linear);
	}
	return NULL;
}

static inline void load(struct soft_cpu *c, const struct insn *i, void *to, unsigned bytes,
			bool aligned)
{
	uint64_t at = int_linear(c, i, bytes, SOFT_READ);
	const void *host = quick(c, at, bytes, false);

	if (aligned && (at & (bytes - 1))) {
		soft_fault(c, CPU_GP, 0);
	}
	if (__builtin_expect(host != NULL, 1)) {
		memcpy(to, host, bytes);
	} else {
		soft_load_bytes(c, at, to, bytes);
	}
}

static inline void store(struct soft_cpu *c, const struct insn *i, const void *from, unsigned bytes,
			 bool aligned)
{
	uint64_t at = int_linear(c, i, bytes, SOFT_WRITE);
	void *host = quick(c, at, bytes, true);

	if (aligned && (at & (bytes - 1))) {
		soft_fault(c, CPU_GP, 0);
	}
	if (__builtin_expect(host != NULL, 1)) {
		memcpy(host, from, bytes);
	} else {
		soft_store_bytes(c, at, from, bytes);
	}
}

/* Legacy SSE, 16 bytes, aligned (a) or not (u) */
#define SSE_MOVE(form, aligned) \
	SOFT_FN(sse_load_##form) \
	{ \
		v2 v; \
		native_need_sse(c); \
		load(c, i, &v, 16, aligned); \
		*xmm(c, i->reg) = v; \
	} \
	SOFT_FN(sse_store_##form) \
	{ \
		native_need_sse(c); \
		store(c, i, xmm(c, i->reg), 16, aligned); \
	} \
	SOFT_FN(avx_load_##form##_16) \
	{ \
		v2 v; \
		native_need_avx(c); \
		load(c, i, &v, 16, aligned); \
		*xmm(c, i->reg) = v; \
		*ymm(c, i->reg) = (v2){ 0 }; \
		c->s.xsave[X_BV] |= CPU_XCR0_AVX; \
	} \
	SOFT_FN(avx_load_##form##_32) \
	{ \
		v2 v[2]; \
		native_need_avx(c); \
		load(c, i, v, 32, aligned); \
		*xmm(c, i->reg) = v[0]; \
		*ymm(c, i->reg) = v[1]; \
		c->s.xsave[X_BV] |= CPU_XCR0_AVX; \
	} \
	SOFT_FN(avx_store_##form##_16) \
	{ \
		native_need_avx(c); \
		store(c, i, xmm(c, i->reg), 16, aligned); \
	} \
	SOFT_FN(avx_store_##form##_32) \
	{ \
		v2 v[2] = { *xmm(c, i->reg), *ymm(c, i->reg) }; \
		native_need_avx(c); \
		store(c, i, v, 32, aligned); \
	}
SSE_MOVE(a, true)
SSE_MOVE(u, false)

SOFT_FN(sse_move)
{
	native_need_sse(c);
	*xmm(c, i->reg) = *xmm(c, i->rm);
}

/* XOR with itself is how a register is cleared; the others of its kind are as cheap. */
#define SSE_LOGIC(name, op) \
	SOFT_FN(sse_##name) \
	{ \
		v2 *d = xmm(c, i->reg); \
		native_need_sse(c); \
		*d = op(*d, *xmm(c, i->rm)); \
	}
#define V_XOR(a, b) ((a) ^ (b))
#define V_AND(a, b) ((a) & (b))
#define V_OR(a, b)  ((a) | (b))
SSE_LOGIC(xor, V_XOR)
SSE_LOGIC(and, V_AND)
SSE_LOGIC(or, V_OR)

/* MOVQ: 8 bytes, the rest of the register becomes 0 */
SOFT_FN(sse_movq_load)
{
	uint64_t v = 0;

	native_need_sse(c);
	v = LOAD(8, c, i);
	*xmm(c, i->reg) = (v2){ v, 0 };
}

SOFT_FN(sse_movq_store)
{
	native_need_sse(c);
	STORE(8, c, i, (*xmm(c, i->reg))[0]);
}

SOFT_FN(sse_movd_from_gpr_4)
{
	native_need_sse(c);
	*xmm(c, i->reg) = (v2){ (uint32_t)c->s.gpr[i->rm], 0 };
}

SOFT_FN(sse_movd_from_gpr_8)
{
	native_need_sse(c);
	*xmm(c, i->reg) = (v2){ c->s.gpr[i->rm], 0 };
}

SOFT_FN(sse_movd_to_gpr_4)
{
	native_need_sse(c);
	c->s.gpr[i->rm] = (uint32_t)(*xmm(c, i->reg))[0];
}

SOFT_FN(sse_movd_to_gpr_8)
{
	native_need_sse(c);
	c->s.gpr[i->rm] = (*xmm(c, i->reg))[0];
}

static insn_fn *pick_move(const struct insn *i, bool to_memory, bool aligned)
{
	static insn_fn *const sse[2][2] = {
		{ sse_load_u, sse_load_a }, { sse_store_u, sse_store_a },
	};
	static insn_fn *const avx[2][2][2] = {
		{ { avx_load_u_16, avx_load_a_16 }, { avx_load_u_32, avx_load_a_32 } },
		{ { avx_store_u_16, avx_store_a_16 }, { avx_store_u_32, avx_store_a_32 } },
	};

	if (i->rm == INSN_NONE) {
		return i->prefix & INSN_VEX ? avx[to_memory][!!(i->prefix & INSN_VEX_L)][aligned] :
					      sse[to_memory][aligned];
	}
	return i->prefix & INSN_VEX || to_memory ? NULL : sse_move;
}

static insn_fn *pick_legacy(const struct insn *i, enum insn_mode mode, uint8_t pp)
{
	bool mem = i->rm == INSN_NONE;
	bool wide = i->prefix & INSN_W && mode == INSN_MODE_64;

	switch (i->opcode) {
	case 0x54: case 0xdb:
		return mem || (i->opcode == 0xdb && pp != INSN_PP_66) ? NULL : sse_and;
	case 0x56: case 0xeb:
		return mem || (i->opcode == 0xeb && pp != INSN_PP_66) ? NULL : sse_or;
	case 0x57: case 0xef:
		return mem || (i->opcode == 0xef && pp != INSN_PP_66) ? NULL : sse_xor;
	case 0x6e:
		return mem || pp != INSN_PP_66 ? NULL :
		       wide ? sse_movd_from_gpr_8 : sse_movd_from_gpr_4;
	case 0x7e:
		if (pp == INSN_PP_F3) {
			return mem ? sse_movq_load : NULL;
		}
		return mem || pp != INSN_PP_66 ? NULL :
		       wide ? sse_movd_to_gpr_8 : sse_movd_to_gpr_4;
	case 0xd6:
		return mem && pp == INSN_PP_66 ? sse_movq_store : NULL;
	default:
		return NULL;
	}
}

insn_fn *native__fast(const struct insn *i, enum insn_mode mode)
{
	uint8_t pp = insn_table[i->row].pp;
	bool packed = pp == INSN_PP_NONE || pp == INSN_PP_66;

	if (i->map != INSN_MAP_0F) {
		return NULL;
	}
	switch (i->opcode) {
	case 0x10: case 0x11:
		return packed ? pick_move(i, i->opcode == 0x11, false) : NULL;
	case 0x28: case 0x29:
		return pick_move(i, i->opcode == 0x29, true);
	case 0x6f: case 0x7f:
		return pp == INSN_PP_NONE ? NULL :
		       pick_move(i, i->opcode == 0x7f, pp == INSN_PP_66);
	default:
		return i->prefix & INSN_VEX ? NULL : pick_legacy(i, mode, pp);
	}
}
