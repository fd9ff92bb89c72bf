/* SPDX-License-Identifier: Apache-2.0 */
/* Floating point: SSE, AVX and x87, roundings, exceptions, conversions. */
#include <fenv.h>
#include <float.h>
#include <immintrin.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "conform.h"

enum { ROUNDS = 1500 };

static const int modes[] = { FE_TONEAREST, FE_DOWNWARD, FE_UPWARD, FE_TOWARDZERO };
static const char *const mode_names[] = { "nearest", "down", "up", "zero" };

/* Any bits: numbers, denormals, infinities, NaNs. */
static double any_double(void)
{
	uint64_t r = rnd();
	double v;

	switch (r % 8) {
	case 0:
		r = rnd() & 0x800fffffffffffff;                     /* denormal */
		break;
	case 1:
		r = (rnd() & 0x8007ffffffffffff) | 0x7ff0000000000000; /* infinity, NaN */
		break;
	case 2:
		r = rnd() & 0x8000000000000000;                     /* zero */
		break;
	default:
		r = (rnd() & 0x800fffffffffffff) | (0x380 + rnd() % 0x100) << 52;
	}
	memcpy(&v, &r, sizeof(v));
	return v;
}

static float any_float(void)
{
	uint32_t r = (uint32_t)rnd();
	float v;

	if (r % 8 > 2) {
		r = (r & 0x807fffff) | (uint32_t)(100 + rnd() % 60) << 23;
	}
	memcpy(&v, &r, sizeof(v));
	return v;
}

static int raised(void)
{
	int r = fetestexcept(FE_ALL_EXCEPT);

	feclearexcept(FE_ALL_EXCEPT);
	return r;
}

/* The compiler may not move the calculation over what sets and reads the environment. */
#define HIDE(v) __asm__ volatile("" : "+m"(v) : : "memory")

#define IN_EACH_MODE(title, type, any, ...) \
static void title(const char *name) \
{ \
	for (unsigned m = 0; m < 4; m++) { \
		struct sum s; \
		char line[64]; \
		sum_start(&s); \
		fesetround(modes[m]); \
		raised(); \
		for (unsigned i = 0; i < ROUNDS; i++) { \
			type a = any(), b = any(), c = any(); \
			HIDE(a); HIDE(b); HIDE(c); \
			__VA_ARGS__ \
		} \
		fesetround(FE_TONEAREST); \
		snprintf(line, sizeof(line), "%s, %s", name, mode_names[m]); \
		out(line, "%016llx", (unsigned long long)s.v); \
	} \
}

#define TAKE(type, size, expr) do { \
	type v_ = (expr); \
	HIDE(v_); \
	sum_add(&s, &v_, size); \
	sum_u64(&s, (uint64_t)raised()); \
} while (0)

IN_EACH_MODE(basic_double, double, any_double, {
	TAKE(double, 8, a + b); TAKE(double, 8, a - b); TAKE(double, 8, a * b);
	TAKE(double, 8, a / b); TAKE(double, 8, sqrt(a)); TAKE(float, 4, (float)a);
	TAKE(double, 8, a * b + c); TAKE(double, 8, -a); TAKE(double, 8, fabs(b));
})
IN_EACH_MODE(basic_float, float, any_float, {
	TAKE(float, 4, a + b); TAKE(float, 4, a - b); TAKE(float, 4, a * b);
	TAKE(float, 4, a / b); TAKE(float, 4, sqrtf(a)); TAKE(double, 8, (double)a);
	TAKE(float, 4, a * b + c);
})
IN_EACH_MODE(basic_long, double, any_double, {
	long double x = a, y = b, z = c;
	HIDE(x); HIDE(y); HIDE(z);
	TAKE(long double, 10, x + y); TAKE(long double, 10, x - y); TAKE(long double, 10, x * y);
	TAKE(long double, 10, x / y); TAKE(long double, 10, sqrtl(x)); TAKE(double, 8, (double)(x * y));
	TAKE(float, 4, (float)(x + z)); TAKE(long double, 10, rintl(z)); TAKE(long double, 10, -x);
})
IN_EACH_MODE(rounding, double, any_double, {
	TAKE(double, 8, rint(a)); TAKE(double, 8, floor(a)); TAKE(double, 8, ceil(b));
	TAKE(double, 8, trunc(b)); TAKE(double, 8, round(c)); TAKE(double, 8, nearbyint(c));
	TAKE(long long, 8, llrint(a)); TAKE(int, 4, (int)lrint(b)); TAKE(long long, 8, (long long)c);
	TAKE(int, 4, (int)c); TAKE(unsigned, 4, (unsigned)(long long)b);
})
IN_EACH_MODE(of_integers, double, any_double, {
	long long n = (long long)rnd(); unsigned u = (unsigned)rnd(); unsigned long long w = rnd();
	HIDE(n); HIDE(u); HIDE(w);
	TAKE(double, 8, (double)n); TAKE(float, 4, (float)n); TAKE(double, 8, (double)u);
	TAKE(float, 4, (float)w); TAKE(long double, 10, (long double)n);
	TAKE(long double, 10, (long double)w); TAKE(double, 8, (double)(int)u);
})

static void compare(void)
{
	struct sum s;

	sum_start(&s);
	for (unsigned i = 0; i < ROUNDS; i++) {
		double a = any_double(), b = i % 3 ? any_double() : a;
		long double x = a, y = b;

		HIDE(a);
		HIDE(b);
		HIDE(x);
		HIDE(y);
		sum_u64(&s, (uint64_t)((a < b) | (a > b) << 1 | (a == b) << 2 | isunordered(a, b) << 3 |
				       (x < y) << 4 | (x == y) << 5 | isunordered(x, y) << 6 |
				       isless(a, b) << 7));
		sum_u64(&s, (uint64_t)raised());
		sum_u64(&s, (uint64_t)(fpclassify(a) | fpclassify(x) << 8 | !!signbit(a) << 16));
	}
	out("comparisons", "%016llx", (unsigned long long)s.v);
}

static __m128 four(void)
{
	return _mm_set_ps(any_float(), any_float(), any_float(), any_float());
}

static __m128d two(void)
{
	return _mm_set_pd(any_double(), any_double());
}

static __m128i bytes(void)
{
	return _mm_set_epi64x((long long)rnd(), (long long)rnd());
}

static void vectors(void)
{
	struct sum s;

	sum_start(&s);
	for (unsigned i = 0; i < ROUNDS; i++) {
		__m128 a = four(), b = four();
		__m128d c = two(), d = two();
		__m128i e = bytes(), f = bytes();
		__m128 fa[] = { _mm_add_ps(a, b), _mm_mul_ps(a, b), _mm_sub_ps(a, b), _mm_div_ps(a, b),
				_mm_cmplt_ps(a, b), _mm_cmpeq_ps(a, b), _mm_min_ps(a, b), _mm_max_ps(a, b),
				_mm_sqrt_ps(a), _mm_cvtepi32_ps(e), _mm_shuffle_ps(a, b, 0x1b),
				_mm_unpackhi_ps(a, b), _mm_movehl_ps(a, b), _mm_add_ss(a, b),
				_mm_cvtpd_ps(c) };
		__m128d fd[] = { _mm_add_pd(c, d), _mm_mul_pd(c, d), _mm_sub_pd(c, d), _mm_div_pd(c, d),
				 _mm_min_pd(c, d), _mm_max_pd(c, d), _mm_sqrt_pd(c), _mm_cmpunord_pd(c, d),
				 _mm_cvtepi32_pd(e), _mm_cvtps_pd(a), _mm_min_sd(c, d) };
		__m128i fe[] = { _mm_add_epi8(e, f), _mm_adds_epi8(e, f), _mm_subs_epu8(e, f),
				 _mm_avg_epu8(e, f), _mm_add_epi16(e, f), _mm_mullo_epi16(e, f),
				 _mm_mulhi_epi16(e, f), _mm_madd_epi16(e, f), _mm_packs_epi16(e, f),
				 _mm_packus_epi16(e, f), _mm_cmpgt_epi16(e, f), _mm_min_epi16(e, f),
				 _mm_srai_epi32(e, 3), _mm_slli_epi64(e, 5), _mm_sll_epi16(e, _mm_srli_epi64(f, 60)),
				 _mm_mul_epu32(e, f), _mm_sad_epu8(e, f), _mm_shuffle_epi32(e, 0x4e),
				 _mm_unpacklo_epi8(e, f), _mm_cvtps_epi32(a), _mm_cvttps_epi32(b),
				 _mm_cvtpd_epi32(c), _mm_slli_si128(e, 5), _mm_sub_epi64(e, f) };

		sum_add(&s, fa, sizeof(fa));
		sum_add(&s, fd, sizeof(fd));
		sum_add(&s, fe, sizeof(fe));
		sum_u64(&s, (uint64_t)_mm_movemask_ps(a) | (uint64_t)_mm_movemask_epi8(e) << 8 |
				    (uint64_t)_mm_ucomilt_sd(c, d) << 40);
		sum_u64(&s, (uint64_t)raised());
	}
	out("vectors of 16 bytes", "%016llx", (unsigned long long)s.v);
}

__attribute__((target("sse4.2,pclmul,aes"))) static void more_of(struct sum *s)
{
	for (unsigned i = 0; i < ROUNDS; i++) {
		__m128i e = bytes(), f = bytes();
		__m128d c = two();
		__m128i fe[] = { _mm_shuffle_epi8(e, f), _mm_abs_epi16(e), _mm_maddubs_epi16(e, f),
				 _mm_hadd_epi32(e, f), _mm_alignr_epi8(e, f, 7), _mm_mullo_epi32(e, f),
				 _mm_blendv_epi8(e, f, e), _mm_cvtepi8_epi16(e), _mm_minpos_epu16(e),
				 _mm_cmpgt_epi64(e, f), _mm_cmpistrm(e, f, 0x44), _mm_mpsadbw_epu8(e, f, 5),
				 _mm_clmulepi64_si128(e, f, 0x10), _mm_aesenc_si128(e, f),
				 _mm_aesdeclast_si128(e, f), _mm_aeskeygenassist_si128(e, 7) };
		__m128d fd[] = { _mm_round_pd(c, 1), _mm_dp_pd(c, c, 0x31), _mm_addsub_pd(c, c) };

		sum_add(s, fe, sizeof(fe));
		sum_add(s, fd, sizeof(fd));
		sum_u64(s, (uint64_t)_mm_cmpestri(e, (int)(rnd() % 20), f, (int)(rnd() % 20), 0x0c) << 2 |
				   (uint64_t)_mm_testz_si128(e, f) << 1 | (uint64_t)_mm_testc_si128(e, f));
	}
}

__attribute__((target("avx2,fma"))) static void wide_of(struct sum *s)
{
	for (unsigned i = 0; i < ROUNDS; i++) {
		__m256 a = _mm256_set_m128(four(), four()), b = _mm256_set_m128(four(), four());
		__m256d c = _mm256_set_m128d(two(), two()), d = _mm256_set_m128d(two(), two());
		__m256i e = _mm256_set_m128i(bytes(), bytes()), f = _mm256_set_m128i(bytes(), bytes());
		__m256 fa[] = { _mm256_add_ps(a, b), _mm256_mul_ps(a, b), _mm256_sub_ps(a, b),
				_mm256_div_ps(a, b), _mm256_hadd_ps(a, b), _mm256_fmadd_ps(a, b, a),
				_mm256_fnmsub_ps(a, b, b), _mm256_min_ps(a, b), _mm256_cmp_ps(a, b, 14),
				_mm256_permutevar8x32_ps(a, e), _mm256_blendv_ps(a, b, a) };
		__m256d fd[] = { _mm256_add_pd(c, d), _mm256_mul_pd(c, d), _mm256_sub_pd(c, d),
				 _mm256_div_pd(c, d), _mm256_fmaddsub_pd(c, d, c), _mm256_round_pd(c, 1),
				 _mm256_sqrt_pd(d), _mm256_permute4x64_pd(c, 0x1b) };
		__m256i fe[] = { _mm256_add_epi32(e, f), _mm256_mullo_epi32(e, f), _mm256_srav_epi32(e, f),
				 _mm256_sllv_epi64(e, f), _mm256_cmpgt_epi8(e, f), _mm256_abs_epi32(e),
				 _mm256_shuffle_epi8(e, f), _mm256_packus_epi32(e, f),
				 _mm256_permute2x128_si256(e, f, 0x21), _mm256_cvtps_epi32(a),
				 _mm256_sad_epu8(e, f), _mm256_maddubs_epi16(e, f) };

		sum_add(s, fa, sizeof(fa));
		sum_add(s, fd, sizeof(fd));
		sum_add(s, fe, sizeof(fe));
		sum_u64(s, (uint64_t)(uint32_t)_mm256_movemask_epi8(e));
	}
}

static void wide(void)
{
	struct sum s;

	sum_start(&s);
	if (__builtin_cpu_supports("sse4.2") && __builtin_cpu_supports("pclmul") &&
	    __builtin_cpu_supports("aes")) {
		more_of(&s);
	}
	out("more vectors", "%016llx", (unsigned long long)s.v);
	sum_start(&s);
	if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) {
		wide_of(&s);
	}
	out("vectors of 32 bytes", "%016llx", (unsigned long long)s.v);
}

/* The environment of the x87 unit and MXCSR: what is set stays set. */
static void environment(void)
{
	uint16_t word = 0x027f, status = 0;
	uint32_t mxcsr = 0;
	double third = 1;

	__asm__ volatile("fldcw %0" : : "m"(word));
	__asm__ volatile("fldl %2; fldpi; fdivrp; fstpl %1; fnstsw %0"
			 : "=a"(status), "=m"(third) : "m"(third));
	out("x87 with 53 bits", "%a status %04x", third, status);
	word = 0x037f;
	__asm__ volatile("fnclex; fldcw %0" : : "m"(word));
	__asm__ volatile("stmxcsr %0" : "=m"(mxcsr));
	out("mxcsr", "%08x", mxcsr & 0xffc0);
	mxcsr = 0x1f80 | 0x8040;   /* denormals are zero, flush to zero */
	__asm__ volatile("ldmxcsr %0" : : "m"(mxcsr));
	volatile double tiny = DBL_MIN, less = 0x1p-1060;

	out("flush to zero", "%a %a", tiny / 4, less * 2);
	mxcsr = 0x1f80;
	__asm__ volatile("ldmxcsr %0" : : "m"(mxcsr));
	out("denormals", "%a %a", tiny / 4, less * 2);
}

/* Instructions that only the x87 unit has. */
static void x87(void)
{
	struct sum s;

	sum_start(&s);
	for (unsigned i = 0; i < ROUNDS; i++) {
		long double a = any_double(), b = any_double(), r = 0, q = 0;
		uint8_t bcd[10];
		uint16_t sw = 0;

		__asm__ volatile("fxtract" : "=t"(r), "=u"(q) : "0"(a));
		sum_add(&s, &r, 10);
		sum_add(&s, &q, 10);
		__asm__ volatile("fprem; fnstsw %1" : "=t"(r), "=a"(sw) : "0"(a), "u"(b));
		sum_add(&s, &r, 10);
		sum_u64(&s, sw & 0x4700);
		__asm__ volatile("fprem1; fnstsw %1" : "=t"(r), "=a"(sw) : "0"(a), "u"(b));
		sum_add(&s, &r, 10);
		__asm__ volatile("fscale" : "=t"(r) : "0"(a), "u"(b));
		sum_add(&s, &r, 10);
		__asm__ volatile("fxam; fnstsw %0" : "=a"(sw) : "t"(a));
		sum_u64(&s, sw & 0x4700);
		__asm__ volatile("fbstp %0" : "=m"(bcd) : "t"(a) : "st");
		sum_add(&s, bcd, sizeof(bcd));
		__asm__ volatile("fnclex");
	}
	out("x87 only", "%016llx", (unsigned long long)s.v);
}

void conform_float(void)
{
	section("float");
	basic_double("double");
	basic_float("float");
	basic_long("long double");
	rounding("rounding");
	of_integers("of integers");
	compare();
	vectors();
	wide();
	environment();
	x87();
}
