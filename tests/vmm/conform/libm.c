/* SPDX-License-Identifier: Apache-2.0 */
/* The mathematical functions of the C library, each over many arguments. */
#include <complex.h>
#include <fenv.h>
#include <math.h>
#include <string.h>

#include "conform.h"

enum { ROUNDS = 300 };

static double argument(unsigned i)
{
	static const double edges[] = { 0.0, -0.0, 1, -1, 0.5, 2, 10, -10, 1e-300, 1e300, 710, -745,
					0x1p-1074, 3.141592653589793, 1e22 };

	if (i < sizeof(edges) / sizeof(edges[0])) {
		return edges[i];
	}
	return ((double)(int64_t)rnd() * 0x1p-63) * (i % 3 == 0 ? 1 : i % 3 == 1 ? 30 : 1e6);
}

#define ONE(fn) { #fn, fn, fn##f, fn##l }
static const struct {
	const char *name;
	double (*d)(double);
	float (*f)(float);
	long double (*l)(long double);
} ones[] = {
	ONE(sin), ONE(cos), ONE(tan), ONE(asin), ONE(acos), ONE(atan), ONE(sinh), ONE(cosh), ONE(tanh),
	ONE(asinh), ONE(acosh), ONE(atanh), ONE(exp), ONE(exp2), ONE(expm1), ONE(log), ONE(log2),
	ONE(log10), ONE(log1p), ONE(logb), ONE(cbrt), ONE(sqrt), ONE(erf), ONE(erfc), ONE(lgamma),
	ONE(tgamma), ONE(floor), ONE(ceil), ONE(trunc), ONE(round), ONE(rint), ONE(j0), ONE(y1),
};

#define TWO(fn) { #fn, fn, fn##l }
static const struct {
	const char *name;
	double (*d)(double, double);
	long double (*l)(long double, long double);
} twos[] = {
	TWO(pow), TWO(atan2), TWO(fmod), TWO(remainder), TWO(hypot), TWO(fdim), TWO(fmax), TWO(fmin),
	TWO(copysign), TWO(nextafter),
};

static void add_long(struct sum *s, long double v)
{
	uint8_t b[10];

	memcpy(b, &v, sizeof(b));
	sum_add(s, b, sizeof(b));
}

void conform_libm(void)
{
	struct sum s;

	section("libm");
	for (size_t k = 0; k < sizeof(ones) / sizeof(ones[0]); k++) {
		sum_start(&s);
		feclearexcept(FE_ALL_EXCEPT);
		for (unsigned i = 0; i < ROUNDS; i++) {
			double x = argument(i), d = ones[k].d(x);
			float f = ones[k].f((float)x);

			sum_add(&s, &d, sizeof(d));
			sum_add(&s, &f, sizeof(f));
			add_long(&s, ones[k].l(x));
		}
		out(ones[k].name, "%a %016llx raised %x", ones[k].d(0.7), (unsigned long long)s.v,
		    (unsigned)fetestexcept(FE_ALL_EXCEPT));
	}
	for (size_t k = 0; k < sizeof(twos) / sizeof(twos[0]); k++) {
		sum_start(&s);
		for (unsigned i = 0; i < ROUNDS; i++) {
			double x = argument(i), y = argument(i * 7 % 31), d = twos[k].d(x, y);

			sum_add(&s, &d, sizeof(d));
			add_long(&s, twos[k].l(x, y));
		}
		out(twos[k].name, "%a %016llx", twos[k].d(0.7, 1.3), (unsigned long long)s.v);
	}
	sum_start(&s);
	for (unsigned i = 0; i < ROUNDS; i++) {
		double complex z = argument(i) + I * argument(i / 2), r[] = { csin(z), cexp(z), csqrt(z),
									      clog(z), z * z, z / (1 + I) };
		double x = argument(i), parts[3];
		int e = 0, quo = 0;

		sum_add(&s, r, sizeof(r));
		parts[0] = frexp(x, &e);
		parts[1] = modf(x, &parts[2]);
		sum_add(&s, parts, sizeof(parts));
		parts[0] = ldexp(x, e % 40);
		parts[1] = fma(x, parts[0], 0.1);
		parts[2] = remquo(x, 0.3, &quo);
		sum_add(&s, parts, sizeof(parts));
		sum_u64(&s, (uint64_t)(unsigned)e << 32 | (unsigned)(quo & 7));
	}
	out("complex and parts", "%016llx", (unsigned long long)s.v);
}
