/* SPDX-License-Identifier: Apache-2.0 */
/*
 * For int*.c: operands by size, and the operations themselves, done by the host's own
 * instruction so that flags come out as they do there, undefined ones included.
 *
 * The size is a suffix _1, _2, _4, _8; flags are as in soft_cpu.flags.
 */
#ifndef VM_CPU_SOFT_INT_OPS_H
#define VM_CPU_SOFT_INT_OPS_H

#include "vm/cpu/soft/handlers.h"
#include "vm/cpu/soft/int.h"
#include "vm/cpu/soft/soft.h"

#define INT_MEM __attribute__((may_alias, aligned(1)))
typedef uint8_t  u_1;
typedef uint16_t u_2;
typedef uint32_t u_4;
typedef uint64_t u_8;
typedef int8_t   s_1;
typedef int16_t  s_2;
typedef int32_t  s_4;
typedef int64_t  s_8;
typedef volatile uint8_t  INT_MEM m_1;
typedef volatile uint16_t INT_MEM m_2;
typedef volatile uint32_t INT_MEM m_4;
typedef volatile uint64_t INT_MEM m_8;

#define INT_SIZES(X, ...) X(1, __VA_ARGS__) X(2, __VA_ARGS__) X(4, __VA_ARGS__) X(8, __VA_ARGS__)
#define INT_WORDS(X, ...) X(2, __VA_ARGS__) X(4, __VA_ARGS__) X(8, __VA_ARGS__)

/* Suffix and register constraint of the assembler, by size. */
#define SUF_1 "b"
#define SUF_2 "w"
#define SUF_4 "l"
#define SUF_8 "q"

/* --- Registers --- */

static inline uint8_t *int_reg8(struct soft_cpu *c, const struct insn *i, unsigned n)
{
	if (n >= 4 && n < 8 && !(i->prefix & INSN_REX)) {
		return (uint8_t *)&c->s.gpr[n - 4] + 1;   /* AH, CH, DH, BH */
	}
	return (uint8_t *)&c->s.gpr[n];
}

#define GET_1(c, i, n) (*int_reg8(c, i, n))
#define GET_2(c, i, n) ((uint16_t)(c)->s.gpr[n])
#define GET_4(c, i, n) ((uint32_t)(c)->s.gpr[n])
#define GET_8(c, i, n) ((c)->s.gpr[n])
#define SET_1(c, i, n, v) (*int_reg8(c, i, n) = (v))
#define SET_2(c, i, n, v) ((c)->s.gpr[n] = ((c)->s.gpr[n] & ~UINT64_C(0xffff)) | (uint16_t)(v))
#define SET_4(c, i, n, v) ((c)->s.gpr[n] = (uint32_t)(v))
#define SET_8(c, i, n, v) ((c)->s.gpr[n] = (v))

/* --- Memory operands --- */

static inline uint64_t int_ea(const struct soft_cpu *c, const struct insn *i)
{
	uint64_t base = c->s.gpr[i->base & 15];
	uint64_t index = c->s.gpr[i->index & 15] << i->scale;

	if (__builtin_expect(i->ad_bytes != 8, 0)) {
		return soft_ea(c, i);
	}
	base = i->base < 16 ? base : i->base == INSN_BASE_RIP ? soft_rip_after(c, i) : 0;
	index = i->index < 16 ? index : 0;
	return base + index + (uint64_t)(int64_t)i->disp;
}

static inline uint64_t int_linear(struct soft_cpu *c, const struct insn *i, unsigned bytes,
				  enum soft_access access)
{
	return soft_linear(c, i->seg, int_ea(c, i), bytes, access);
}

#define LOAD(N, c, i) ((u_##N)soft_load(c, int_linear(c, i, N, SOFT_READ), N))
#define STORE(N, c, i, v) soft_store(c, int_linear(c, i, N, SOFT_WRITE), N, v)

/*
 * The addresses that 64-bit code uses most have forms of their own of the commonest instructions:
 * s, base and displacement; x, with an index; r, relative to RIP. A hit in the TLB says already
 * that the address is canonical; a miss goes to the general form, which begins again.
 */
enum int_quick { INT_QUICK_S, INT_QUICK_X, INT_QUICK_R, INT_QUICK__COUNT };

static inline unsigned int_quick(const struct insn *i, enum insn_mode mode)
{
	if (mode != INSN_MODE_64 || i->rm != INSN_NONE || i->ad_bytes != 8 || i->seg >= CPU_FS ||
	    i->prefix & INSN_LOCK) {
		return INT_QUICK__COUNT;
	}
	if (i->base == INSN_BASE_RIP) {
		return INT_QUICK_R;
	}
	return i->base >= 16 ? INT_QUICK__COUNT : i->index < 16 ? INT_QUICK_X : INT_QUICK_S;
}

#define INT_AT_s(c, i) ((c)->s.gpr[(i)->base] + (uint64_t)(int64_t)(i)->disp)
#define INT_AT_x(c, i) (INT_AT_s(c, i) + ((c)->s.gpr[(i)->index] << (i)->scale))
#define INT_AT_r(c, i) (soft_rip_after(c, i) + (uint64_t)(int64_t)(i)->disp)

/* `what` works on the host pointer m of N bytes; the tag says for what they are reached. */
#define INT_QUICK_FORM(form, name, N, tag, what) \
	static void name##_##form##_##N(struct soft_cpu *c, const struct insn *i) \
	{ \
		uint64_t at = INT_AT_##form(c, i); \
		const struct soft_tlb_entry *e = soft__tlb(c, at); \
		if (__builtin_expect(at - e->tag > GMEM_PAGE_BYTES - N, 0)) { \
			name##_##N(c, i); \
			return; \
		} \
		m_##N *m = (m_##N *)soft_tlb_host(e, at); \
		what; \
		soft_next(c, i); \
	}
#define INT_QUICK(name, N, tag, what) \
	INT_QUICK_FORM(s, name, N, tag, what) \
	INT_QUICK_FORM(x, name, N, tag, what) \
	INT_QUICK_FORM(r, name, N, tag, what)

/* Host address of memory that is read and then written, NULL if that is not plain RAM; the
 * write is then checked already. */
static inline void *int_rmw(struct soft_cpu *c, uint64_t linear, unsigned bytes)
{
	const struct soft_tlb_entry *e = soft__tlb(c, linear);

	if (__builtin_expect(linear - e->tag_write <= GMEM_PAGE_BYTES - bytes, 1)) {
		return (void *)soft_tlb_host(e, linear);
	}
	return soft_atomic(c, linear, bytes);
}

/*
 * The frame of a read-modify-write: `plain` works on the host pointer m, `value` on the
 * variable v, which is stored after it. Where m cannot be had, LOCK takes the others' vCPUs out.
 */
#define INT_RMW(N, c, linear, locked, plain, value) \
	do { \
		m_##N *m = int_rmw(c, linear, N); \
		if (__builtin_expect(m != NULL, 1)) { \
			plain; \
		} else { \
			if (locked) { \
				soft_exclusive_begin(c); \
			} \
			u_##N v = (u_##N)soft_load(c, linear, N); \
			value; \
			soft_store(c, linear, N, v); \
			if (locked) { \
				soft_exclusive_end(c); \
			} \
		} \
	} while (0)

/* --- Operations --- */

#define FLAGS_OUT "lahf\n\tseto %%al"
#define FLAGS_IN  "addb $127, %%al\n\tsahf\n\t"
#define CARRY_IN  "btw $8, %%ax\n\t"

/* Two operands, flags written whole. */
#define OP_BINARY(N, op) \
	static inline u_##N do_##op##_##N(u_##N a, u_##N b, uint16_t *f) \
	{ \
		unsigned fl; \
		__asm__(#op SUF_##N " %2, %0\n\t" FLAGS_OUT : "+q"(a), "=&a"(fl) : "q"(b) : "cc"); \
		*f = (uint16_t)fl; \
		return a; \
	}
#define OP_BINARY_LOCK(N, op) \
	static inline void lock_##op##_##N(m_##N *m, u_##N b, uint16_t *f) \
	{ \
		unsigned fl; \
		__asm__ volatile("lock " #op SUF_##N " %2, %0\n\t" FLAGS_OUT \
				 : "+m"(*m), "=&a"(fl) : "q"(b) : "cc", "memory"); \
		*f = (uint16_t)fl; \
	}
/* With the carry as an input. */
#define OP_CARRY(N, op) \
	static inline u_##N do_##op##_##N(u_##N a, u_##N b, uint16_t *f) \
	{ \
		unsigned fl = *f; \
		__asm__(CARRY_IN #op SUF_##N " %2, %0\n\t" FLAGS_OUT \
			: "+q"(a), "+&a"(fl) : "q"(b) : "cc"); \
		*f = (uint16_t)fl; \
		return a; \
	} \
	static inline void lock_##op##_##N(m_##N *m, u_##N b, uint16_t *f) \
	{ \
		unsigned fl = *f; \
		__asm__ volatile(CARRY_IN "lock " #op SUF_##N " %2, %0\n\t" FLAGS_OUT \
				 : "+m"(*m), "+&a"(fl) : "q"(b) : "cc", "memory"); \
		*f = (uint16_t)fl; \
	}
/* One operand; the carry stays (NEG writes it). */
#define OP_UNARY(N, op) \
	static inline u_##N do_##op##_##N(u_##N a, uint16_t *f) \
	{ \
		unsigned fl = *f; \
		__asm__(CARRY_IN #op SUF_##N " %0\n\t" FLAGS_OUT : "+q"(a), "+&a"(fl) : : "cc"); \
		*f = (uint16_t)fl; \
		return a; \
	} \
	static inline void lock_##op##_##N(m_##N *m, uint16_t *f) \
	{ \
		unsigned fl = *f; \
		__asm__ volatile(CARRY_IN "lock " #op SUF_##N " %0\n\t" FLAGS_OUT \
				 : "+m"(*m), "+&a"(fl) : : "cc", "memory"); \
		*f = (uint16_t)fl; \
	}
/* By CL, with all flags as an input: a count of 0 leaves them. */
#define OP_SHIFT(N, op) \
	static inline u_##N do_##op##_##N(u_##N a, uint8_t count, uint16_t *f) \
	{ \
		unsigned fl = *f; \
		__asm__(FLAGS_IN #op SUF_##N " %%cl, %0\n\t" FLAGS_OUT \
			: "+q"(a), "+&a"(fl) : "c"(count) : "cc"); \
		*f = (uint16_t)fl; \
		return a; \
	}
#define OP_SHIFT2(N, op) \
	static inline u_##N do_##op##_##N(u_##N a, u_##N b, uint8_t count, uint16_t *f) \
	{ \
		unsigned fl = *f; \
		__asm__(FLAGS_IN #op SUF_##N " %%cl, %3, %0\n\t" FLAGS_OUT \
			: "+r"(a), "+&a"(fl) : "c"(count), "r"(b) : "cc"); \
		*f = (uint16_t)fl; \
		return a; \
	}
/* A bit of a register; the others of the flags may be undefined, so all are an input. */
#define OP_BIT(N, op) \
	static inline u_##N do_##op##_##N(u_##N a, u_##N bit, uint16_t *f) \
	{ \
		unsigned fl = *f; \
		__asm__(FLAGS_IN #op SUF_##N " %2, %0\n\t" FLAGS_OUT \
			: "+r"(a), "+&a"(fl) : "r"(bit) : "cc"); \
		*f = (uint16_t)fl; \
		return a; \
	}
#define OP_BIT_LOCK(N, op) \
	static inline void lock_##op##_##N(m_##N *m, u_##N bit, uint16_t *f) \
	{ \
		unsigned fl = *f; \
		__asm__ volatile(FLAGS_IN "lock " #op SUF_##N " %2, %0\n\t" FLAGS_OUT \
				 : "+m"(*m), "+&a"(fl) : "r"(bit) : "cc", "memory"); \
		*f = (uint16_t)fl; \
	}
/* Destination may stay as it was, upper half included: it is an input, 64 bits wide. */
#define OP_SCAN(N, op) \
	static inline uint64_t do_##op##_##N(uint64_t dst, u_##N src, uint16_t *f) \
	{ \
		unsigned fl = *f; \
		__asm__(FLAGS_IN #op SUF_##N " %2, %" MOD_##N "0\n\t" FLAGS_OUT \
			: "+r"(dst), "+&a"(fl) : "r"(src) : "cc"); \
		*f = (uint16_t)fl; \
		return dst; \
	}
#define MOD_2 "w"
#define MOD_4 "k"
#define MOD_8 "q"

/* --- Conditions, as in the low four bits of Jcc, CMOVcc and SETcc --- */

#define INT_F_CF 0x0100u
#define INT_F_PF 0x0400u
#define INT_F_AF 0x1000u
#define INT_F_ZF 0x4000u
#define INT_F_SF 0x8000u
#define INT_F_OF 0x0001u

static inline bool int_condition(unsigned f, unsigned cc)
{
	bool v = false;

	switch (cc >> 1) {
	case 0: v = f & INT_F_OF; break;
	case 1: v = f & INT_F_CF; break;
	case 2: v = f & INT_F_ZF; break;
	case 3: v = f & (INT_F_CF | INT_F_ZF); break;
	case 4: v = f & INT_F_SF; break;
	case 5: v = f & INT_F_PF; break;
	case 6: v = (f >> 15 ^ f) & 1; break;
	default: v = ((f >> 15 ^ f) & 1) || (f & INT_F_ZF); break;
	}
	return v != (cc & 1);
}

#define INT_CONDITIONS(X, ...) \
	X(0, __VA_ARGS__) X(1, __VA_ARGS__) X(2, __VA_ARGS__) X(3, __VA_ARGS__) \
	X(4, __VA_ARGS__) X(5, __VA_ARGS__) X(6, __VA_ARGS__) X(7, __VA_ARGS__) \
	X(8, __VA_ARGS__) X(9, __VA_ARGS__) X(10, __VA_ARGS__) X(11, __VA_ARGS__) \
	X(12, __VA_ARGS__) X(13, __VA_ARGS__) X(14, __VA_ARGS__) X(15, __VA_ARGS__)

/* --- Pickers --- */

/* Index into arrays by size: 1, 2, 4, 8. */
static inline unsigned int_size(const struct insn *i)
{
	return (unsigned)__builtin_ctz(i->op_bytes);
}

/* Register, memory, locked memory. */
static inline unsigned int_form(const struct insn *i)
{
	return i->rm != INSN_NONE ? 0 : i->prefix & INSN_LOCK ? 2 : 1;
}

#define INT_PICKER(name) \
	insn_fn *name(const struct insn *i, unused_arg enum insn_mode mode)
#define BY_SIZE(f)  { f##_1, f##_2, f##_4, f##_8 }
#define BY_WORD(f)  { NULL, f##_2, f##_4, f##_8 }

/* In a picker: the quick form of general form f, if there is one for the address. */
#define INT_PICK_QUICK(by, f) \
	do { \
		static insn_fn *const quick_[][4] = { by(f##_s), by(f##_x), by(f##_r) }; \
		unsigned form_ = int_quick(i, mode); \
		if (form_ < INT_QUICK__COUNT) { \
			return quick_[form_][int_size(i)]; \
		} \
	} while (0)

#endif
