/* SPDX-License-Identifier: Apache-2.0 */
/* Integers: what a compiler makes of C, and the instructions that it makes of nothing else. */
#include <immintrin.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>

#include "conform.h"

enum { ROUNDS = 2000 };

typedef unsigned __int128 u128;

/* Now and then a number from the edge. */
static uint64_t operand(void)
{
	static const uint64_t edges[] = { 0, 1, 2, 0x7f, 0x80, 0xff, 0x7fff, 0x8000, 0xffff, 0x7fffffff,
					  0x80000000, 0xffffffff, INT64_MAX, (uint64_t)INT64_MIN,
					  UINT64_MAX };
	uint64_t r = rnd();

	return r % 4 == 0 ? edges[(r >> 8) % (sizeof(edges) / sizeof(edges[0]))] : r;
}

#define ARITHMETIC(type, utype) \
static void arith_##type(const char *name) \
{ \
	struct sum s; \
	sum_start(&s); \
	for (unsigned i = 0; i < ROUNDS; i++) { \
		utype a = (utype)operand(), b = (utype)operand(); \
		type sa = (type)a, sb = (type)b; \
		unsigned n = (unsigned)(b % (sizeof(a) * 8)); \
		type over = 0; \
		sum_u64(&s, (uint64_t)(utype)(a + b)); \
		sum_u64(&s, (uint64_t)(utype)(a - b)); \
		sum_u64(&s, (uint64_t)(utype)((uint64_t)a * b)); \
		sum_u64(&s, (uint64_t)(utype)(a << n)); \
		sum_u64(&s, (uint64_t)(utype)(a >> n)); \
		sum_u64(&s, (uint64_t)(utype)(sa >> n)); \
		sum_u64(&s, (uint64_t)(utype)((a << n) | (a >> ((sizeof(a) * 8 - n) % (sizeof(a) * 8))))); \
		sum_u64(&s, (uint64_t)(utype)(~a & b)); \
		sum_u64(&s, (a < b) | (sa < sb) << 1 | (a == b) << 2 | (sa <= sb) << 3); \
		sum_u64(&s, __builtin_add_overflow(sa, sb, &over)); \
		sum_u64(&s, __builtin_mul_overflow(sa, sb, &over)); \
		sum_u64(&s, __builtin_sub_overflow(a, b, &a)); \
		if (b) { \
			sum_u64(&s, (uint64_t)(utype)(a / b)); \
			sum_u64(&s, (uint64_t)(utype)(a % b)); \
		} \
		if (sb && sb != -1) { \
			sum_u64(&s, (uint64_t)(utype)(sa / sb)); \
			sum_u64(&s, (uint64_t)(utype)(sa % sb)); \
		} \
	} \
	out(name, "%016llx", (unsigned long long)s.v); \
}
ARITHMETIC(int8_t, uint8_t)
ARITHMETIC(int16_t, uint16_t)
ARITHMETIC(int32_t, uint32_t)
ARITHMETIC(int64_t, uint64_t)

static void wide(void)
{
	struct sum s;

	sum_start(&s);
	for (unsigned i = 0; i < ROUNDS; i++) {
		u128 a = (u128)operand() << 64 | operand(), b = (u128)operand() << 64 | operand();
		u128 v[] = { a + b, a - b, a * b, b ? a / b : 0, b ? a % b : 0, a >> (b & 127),
			     a << (b & 127), (u128)((__int128)a >> (b & 127)), (u128)(a < b) };

		sum_add(&s, v, sizeof(v));
	}
	out("128 bits", "%016llx", (unsigned long long)s.v);
}

static void bits(void)
{
	struct sum s;

	sum_start(&s);
	for (unsigned i = 0; i < ROUNDS; i++) {
		uint64_t a = operand() | 1;

		sum_u64(&s, (uint64_t)__builtin_popcountll(a));
		sum_u64(&s, (uint64_t)__builtin_clzll(a));
		sum_u64(&s, (uint64_t)__builtin_ctzll(a & ~1ULL ? a & ~1ULL : 8));
		sum_u64(&s, __builtin_bswap64(a));
		sum_u64(&s, __builtin_bswap32((uint32_t)a));
		sum_u64(&s, (uint64_t)__builtin_parityll(a));
	}
	out("bits", "%016llx", (unsigned long long)s.v);
}

__attribute__((target("bmi,bmi2,lzcnt,popcnt"))) static void bmi_of(struct sum *s)
{
	for (unsigned i = 0; i < ROUNDS; i++) {
		uint64_t a = operand(), b = operand();

		sum_u64(s, _pext_u64(a, b));
		sum_u64(s, _pdep_u64(a, b));
		sum_u64(s, _bzhi_u64(a, (unsigned)b & 63));
		sum_u64(s, _bextr_u64(a, (unsigned)b & 63, (unsigned)(b >> 8) & 63));
		sum_u64(s, (uint64_t)__builtin_popcountll(a));
		sum_u64(s, a & (a - 1));
		sum_u64(s, ~a & b);
	}
}

static void bmi(void)
{
	struct sum s;

	sum_start(&s);
	if (__builtin_cpu_supports("bmi2")) {
		bmi_of(&s);
	}
	out("bmi", "%016llx", (unsigned long long)s.v);
}

__attribute__((target("sse4.2"))) static uint32_t crc_by_instruction(const uint8_t *data, size_t n)
{
	uint32_t crc = ~0U;

	for (size_t i = 0; i < n; i++) {
		crc = _mm_crc32_u8(crc, data[i]);
	}
	return ~crc;
}

static uint32_t crc_by_hand(const uint8_t *data, size_t n)
{
	uint32_t crc = ~0U;

	for (size_t i = 0; i < n; i++) {
		crc ^= data[i];
		for (unsigned k = 0; k < 8; k++) {
			crc = crc >> 1 ^ (crc & 1 ? 0x82f63b78 : 0);
		}
	}
	return ~crc;
}

static void crc(void)
{
	uint8_t data[4096];

	fill(data, sizeof(data), 3);
	uint32_t slow = crc_by_hand(data, sizeof(data));

	out("crc32c", "%08x %s", slow,
	    !__builtin_cpu_supports("sse4.2") || crc_by_instruction(data, sizeof(data)) == slow ?
		    "both ways" : "differs by instruction");
}

/* The flags that an instruction leaves, as far as they are defined. */
#define FLAGS_OF(name, insn, mask) do { \
	struct sum sum_; \
	sum_start(&sum_); \
	for (unsigned i_ = 0; i_ < ROUNDS; i_++) { \
		uint64_t a_ = operand(), b_ = operand(), f_ = 0; \
		__asm__ volatile("testb $0, %%al; " insn "; pushfq; popq %1" \
				 : "+a"(a_), "=r"(f_), "+d"(b_) : "c"(b_) : "cc"); \
		sum_u64(&sum_, a_); \
		sum_u64(&sum_, f_ & (mask)); \
	} \
	out(name, "%016llx", (unsigned long long)sum_.v); \
} while (0)

enum { CF = 1, PF = 4, AF = 16, ZF = 64, SF = 128, OF = 2048, ALL = CF | PF | AF | ZF | SF | OF };

static void flags(void)
{
	FLAGS_OF("add flags", "addq %%rcx, %%rax", ALL);
	FLAGS_OF("add byte flags", "addb %%cl, %%al", ALL);
	FLAGS_OF("adc flags", "addq %%rcx, %%rax; adcl %%ecx, %%eax", ALL);
	FLAGS_OF("sub word flags", "subw %%cx, %%ax", ALL);
	FLAGS_OF("sbb flags", "cmpq %%rcx, %%rax; sbbq %%rcx, %%rax", ALL);
	FLAGS_OF("inc flags", "incl %%eax", ALL);
	FLAGS_OF("dec flags", "decb %%al", ALL);
	FLAGS_OF("neg flags", "negq %%rax", ALL);
	FLAGS_OF("and flags", "andq %%rcx, %%rax", ALL & ~AF);
	FLAGS_OF("xor byte flags", "xorb %%ch, %%al", ALL & ~AF);
	FLAGS_OF("imul flags", "imulq %%rcx, %%rax", CF | OF);
	FLAGS_OF("mul flags", "mulq %%rcx", CF | OF);
	FLAGS_OF("rol flags", "rolq $1, %%rax", CF | OF);
	FLAGS_OF("rcl flags", "cmpq %%rcx, %%rax; rclq $1, %%rax", CF | OF);
	FLAGS_OF("shl flags", "shlq $1, %%rax", ALL & ~AF);
	FLAGS_OF("sar by cl flags", "sarl %%cl, %%eax", 0);
	FLAGS_OF("shld", "shldq $13, %%rcx, %%rax", CF | PF | ZF | SF);
	FLAGS_OF("bt flags", "btq %%rcx, %%rax", CF);
	FLAGS_OF("bts flags", "btsq %%rcx, %%rax", CF);
	FLAGS_OF("cmpxchg flags", "cmpxchgq %%rcx, %%rdx", ALL);
	FLAGS_OF("xadd flags", "xaddq %%rax, %%rdx", ALL);
	FLAGS_OF("cmov", "cmpq %%rcx, %%rax; cmovlq %%rcx, %%rax", ALL);
	FLAGS_OF("bsf", "orq $64, %%rcx; bsfq %%rcx, %%rax", ZF);
	FLAGS_OF("cqo", "cqto; xorq %%rdx, %%rax", 0);
	FLAGS_OF("movsx", "movsbq %%cl, %%rax; movswl %%cx, %%edx; addq %%rdx, %%rax", ALL);
	FLAGS_OF("lahf, sahf", "addq %%rcx, %%rax; lahf; xorb $0x55, %%ah; sahf", ALL & ~OF);
	FLAGS_OF("bswap", "bswapq %%rax; xchgb %%al, %%ah", 0);
}

static void strings(void)
{
	uint8_t from[512], to[512];
	struct sum s;

	sum_start(&s);
	fill(from, sizeof(from), 5);
	for (unsigned i = 0; i < 300; i++) {
		uint8_t *d = to + rnd() % 128;
		const uint8_t *p = from + rnd() % 128;
		uint64_t n = rnd() % 200, left = n;

		memset(to, (int)i, sizeof(to));
		__asm__ volatile("rep movsb" : "+D"(d), "+S"(p), "+c"(left) : : "memory");
		sum_u64(&s, (uint64_t)(d - to) << 32 | (uint64_t)(p - from));
		sum_add(&s, to, sizeof(to));
		d = to + 511;
		left = n % 60;
		__asm__ volatile("std; rep stosb; cld" : "+D"(d), "+c"(left) : "a"(0x77) : "memory");
		sum_add(&s, to, sizeof(to));
		d = to;
		left = sizeof(to);
		__asm__ volatile("repne scasb" : "+D"(d), "+c"(left) : "a"(0x77) : "cc", "memory");
		sum_u64(&s, left);
		d = to;
		p = from;
		left = 512;
		__asm__ volatile("repe cmpsb" : "+D"(d), "+S"(p), "+c"(left) : : "cc", "memory");
		sum_u64(&s, left);
	}
	out("string instructions", "%016llx", (unsigned long long)s.v);
}

void conform_int(void)
{
	section("int");
	arith_int8_t("8 bits");
	arith_int16_t("16 bits");
	arith_int32_t("32 bits");
	arith_int64_t("64 bits");
	wide();
	bits();
	bmi();
	crc();
	flags();
	strings();
}
