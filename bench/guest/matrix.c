/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The product of two matrices of floats in vectors of four, or of eight where the processor shows
 * AVX. Every element is summed in the same order either way, so the result is the same.
 */
#include <immintrin.h>
#include <stddef.h>
#include <string.h>

#include "guest.h"

enum { SIDE = 128 };

static float a[SIDE][SIDE] __attribute__((aligned(32))), b[SIDE][SIDE] __attribute__((aligned(32))),
	product[SIDE][SIDE] __attribute__((aligned(32)));

static void prepare(void)
{
	for (int i = 0; i < SIDE * SIDE; i++) {
		a[i / SIDE][i % SIDE] = (float)(random_next() % 1000) / 250.0f - 2;
		b[i / SIDE][i % SIDE] = (float)(random_next() % 1000) / 125.0f - 4;
	}
}

/* Two rows and two vectors of columns at a time stay in registers. */
#define MULTIPLY(name, vector, width, load, store, set, zero, add, mul) \
	for (int i = 0; i < SIDE; i += 2) { \
		for (int j = 0; j < SIDE; j += 2 * (width)) { \
			vector s00 = zero(), s01 = zero(), s10 = zero(), s11 = zero(); \
			\
			for (int k = 0; k < SIDE; k++) { \
				vector b0 = load(&b[k][j]), b1 = load(&b[k][j + (width)]); \
				vector a0 = set(a[i][k]), a1 = set(a[i + 1][k]); \
				\
				s00 = add(s00, mul(a0, b0)); \
				s01 = add(s01, mul(a0, b1)); \
				s10 = add(s10, mul(a1, b0)); \
				s11 = add(s11, mul(a1, b1)); \
			} \
			store(&product[i][j], s00); \
			store(&product[i][j + (width)], s01); \
			store(&product[i + 1][j], s10); \
			store(&product[i + 1][j + (width)], s11); \
		} \
	}

static void multiply_sse(void)
{
	MULTIPLY(sse, __m128, 4, _mm_load_ps, _mm_store_ps, _mm_set1_ps, _mm_setzero_ps, _mm_add_ps,
		 _mm_mul_ps)
}

static __attribute__((target("avx"))) void multiply_avx(void)
{
	MULTIPLY(avx, __m256, 8, _mm256_load_ps, _mm256_store_ps, _mm256_set1_ps, _mm256_setzero_ps,
		 _mm256_add_ps, _mm256_mul_ps)
}

static uint64_t run(unsigned work, void (*multiply)(void))
{
	uint64_t sum = 0;

	while (work--) {
		uint32_t bits = 0;

		a[work % SIDE][7] += 0.5f;
		multiply();
		memcpy(&bits, &product[work % SIDE][work % 31], sizeof(bits));
		sum = sum * 31 + bits;
	}
	return sum;
}

static uint64_t sse(unsigned work)
{
	return run(work, multiply_sse);
}

static uint64_t avx(unsigned work)
{
	return run(work, __builtin_cpu_supports("avx") ? multiply_avx : multiply_sse);
}

const struct program matrix_programs[] = {
	{ "matrix-sse", sse, 240, prepare },
	{ "matrix-avx", avx, 480, prepare },
	{ 0 },
};
